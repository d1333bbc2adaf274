/*
 * A name server that gives no answer: the broker serves, everything stops in time, the bridge and the command line tool do
 * not hang; and as soon as there is an answer, all connect. TLS checks the name, although addresses are connected to.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "tests/harness/certificates.h"
#include "tests/harness/guest.h"
#include "tests/harness/name_server.h"
#include "tests/harness/store.h"

#define WAIT_MS 60000
/* A look-up would hang for 30 seconds (RES_OPTIONS). */
#define SOON_MS 20000

static bool allowed;

static void stop_soon(struct server *v)
{
	uint64_t began = now_ms();
	server_stop(v);
	scene_require(now_ms() - began < SOON_MS, "it took %llu ms to stop", (unsigned long long)(now_ms() - began));
}

static void test_silent_name_server(void **state)
{
	struct scene *s = *state;
	struct world w;

	if (!allowed) skip();
	struct name_server *names = name_server_start(s);
	struct certificate ca = certificate_authority(s, "ca");
	struct certificate cert = certificate_signed(s, "server", &ca, "DNS:redis.example,DNS:broker.example");
	uint16_t redis_port = scene_port(s), broker_port = scene_port(s);
	world_start_with(&w, s, "mirror # stream s\n", scene_text(s, "listener %u 127.0.0.1\ncertfile %s\nkeyfile %s\n",
		broker_port, cert.cert, cert.key), WORLD_BRIDGE | WORLD_NO_START);
	w.redis = redis_new(s, "secure", scene_text(s, "appendonly yes\ntls-port %u\ntls-cert-file %s\ntls-key-file %s\n"
		"tls-ca-cert-file %s\ntls-auth-clients no\n", redis_port, cert.cert, cert.key, ca.cert));
	scene_write(s, "mosquitto-redis.conf", scene_text(s,
		"redis_url rediss://redis.example:%u\nredis_tls_ca %s\njournal %s/journal\njournal_size 4M\nnode test\nlisten none\n"
		"broker_url mqtts://broker.example:%u\nbroker_tls_ca %s\nmirror # stream s\nredeliver #\n",
		redis_port, ca.cert, scene_dir(s), broker_port, ca.cert));
	server_start(w.redis);
	w.db = store_open(w.redis);
	/* Nobody hangs with it. */
	server_start(w.broker);
	server_start(w.bridge);
	wait_until(name_server_asked(names) >= 2, WAIT_MS, "questions");
	struct guest *g = guest_join(&w, "publisher", NULL);
	guest_publish(g, "t", "1", 1);
	server_log_wait(w.broker, 0, "host redis.example: the look-up gives no answer", WAIT_MS);
	server_log_wait(w.bridge, 0, "host redis.example: the look-up gives no answer", WAIT_MS);
	const char *output = NULL;
	uint64_t began = now_ms();
	const char *const status[] = {CTL_PROGRAM, "-c", w.settings, "status", NULL};
	assert_int_equal(program_run(s, status, WAIT_MS, &output), 3);
	scene_require(now_ms() - began < SOON_MS, "it took %llu ms", (unsigned long long)(now_ms() - began));
	guest_disconnect(g);
	stop_soon(w.bridge);
	stop_soon(w.broker);
	/* And all is well as soon as it answers. */
	server_start(w.broker);
	server_start(w.bridge);
	unsigned asked = name_server_asked(names);
	wait_until(name_server_asked(names) > asked, WAIT_MS, "questions");
	name_server_answer(names, true);
	store_wait_stream(w.db, "s", 1, WAIT_MS);
	server_log_wait(w.broker, 0, BRIDGE_GREETED, 2 * WAIT_MS);
	assert_int_not_equal(program_run(s, status, WAIT_MS, &output), 3);
	scene_end(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {scene_test(test_silent_name_server)};

	allowed = name_server_prepare();
	if (!allowed) printf("no right to a network of its own\n");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
