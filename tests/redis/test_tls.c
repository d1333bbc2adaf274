/*
 * TLS on every connection: plugin, bridge and command line tool to Redis, bridge to broker. Names are checked, strangers
 * refused, certificates replaced while everything runs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/harness/certificates.h"
#include "tests/harness/guest.h"
#include "tests/harness/store.h"

#define WAIT_MS 60000

/* A world whose Redis listens with TLS, too, and asks for a certificate. */
struct secure {
	struct world w;
	struct certificate ca, server, client;
	uint16_t redis_port, broker_port;
};

static void make(struct secure *t, struct scene *s, const char *redis_host, const char *broker_host, const char *lines)
{
	memset(t, 0, sizeof(*t));
	t->ca = certificate_authority(s, "ca");
	t->server = certificate_signed(s, "server", &t->ca, "DNS:localhost,IP:127.0.0.1");
	t->client = certificate_signed(s, "client", &t->ca, "DNS:client");
	t->redis_port = scene_port(s);
	t->broker_port = scene_port(s);
	const char *listener = scene_text(s, "listener %u 127.0.0.1\ncafile %s\ncertfile %s\nkeyfile %s\n"
		"require_certificate true\n", t->broker_port, t->ca.cert, t->server.cert, t->server.key);
	world_start_with(&t->w, s, lines, listener, WORLD_BRIDGE | WORLD_NO_START);
	t->w.redis = redis_new(s, "secure", scene_text(s, "appendonly yes\ntls-port %u\ntls-cert-file %s\ntls-key-file %s\n"
		"tls-ca-cert-file %s\ntls-auth-clients yes\n", t->redis_port, t->server.cert, t->server.key, t->ca.cert));
	scene_write(s, "mosquitto-redis.conf", scene_text(s,
		"redis_url rediss://%s:%u/0\nredis_tls_ca %s\nredis_tls_cert %s\nredis_tls_key %s\n"
		"journal %s/journal\njournal_size 16M\nnode test\nlisten none\n"
		"broker_url mqtts://%s:%u\nbroker_tls_ca %s\nbroker_tls_cert %s\nbroker_tls_key %s\n%s\n",
		redis_host, t->redis_port, t->ca.cert, t->client.cert, t->client.key, scene_dir(s),
		broker_host, t->broker_port, t->ca.cert, t->client.cert, t->client.key, lines));
}

static void start(struct secure *t)
{
	server_start(t->w.redis);
	t->w.db = store_open(t->w.redis);
	server_start(t->w.broker);
	server_start(t->w.bridge);
}

static void publish_many(struct world *w, const char *base, int n)
{
	struct guest *p = guest_join(w, base, NULL);
	static char payload[4000];
	memset(payload, 'p', sizeof(payload));
	for (int i = 0; i < n; i++) {
		(void)guest_send(p, scene_text(w->scene, "s/%s/%d", base, i % 3), payload, (size_t)(i * 37 % 4000), 1, false, 100);
	}
	assert_true(guest_flush(p, WAIT_MS));
	guest_disconnect(p);
}

static void test_everything_over_tls(void **state)
{
	struct scene *s = *state;
	struct secure t;
	const char *output = NULL;

	make(&t, s, "localhost", "localhost", "mirror s/# stream all\nredeliver s/#");
	start(&t);
	world_wait_bridge(&t.w, 0);
	struct guest *device = guest_join(&t.w, "device", NULL);
	guest_subscribe(device, "s/#", 1);
	guest_publish(device, "s/first", "1", 1);
	guest_expect(device, 0, "1", NULL);
	guest_disconnect(device);
	publish_many(&t.w, "load", 3000); /* more than a record of TLS, either way */
	store_wait_stream(t.w.db, "all", 3001, WAIT_MS);
	guest_connect(device);
	guest_subscribe(device, "s/#", 1);
	guest_wait(device, 3001, WAIT_MS);

	const char *const status[] = {CTL_PROGRAM, "-c", t.w.settings, "status", NULL};
	(void)program_run(s, status, WAIT_MS, &output); /* the plugin may not have reported yet */
	assert_non_null(strstr(output, "master, append-only file"));
	/* Redis restarts, and the certificates were replaced meanwhile. */
	struct certificate other = certificate_authority(s, "ca");
	t.server = certificate_signed(s, "server", &other, "DNS:localhost,IP:127.0.0.1");
	t.client = certificate_signed(s, "client", &other, "DNS:client");
	server_restart(t.w.redis);
	store_reopen(t.w.db);
	guest_publish(device, "s/last", "2", 1);
	store_wait_stream(t.w.db, "all", 3002, WAIT_MS);
	scene_end(s);
}

/* An address in the URL is checked as one; names are told to the server, addresses are not (RFC 6066). */
static void test_by_address(void **state)
{
	struct scene *s = *state;
	struct secure t;

	make(&t, s, "127.0.0.1", "127.0.0.1", "mirror s/# stream all\nredeliver s/#");
	start(&t);
	world_wait_bridge(&t.w, 0);
	publish_many(&t.w, "load", 10);
	store_wait_stream(t.w.db, "all", 10, WAIT_MS);
	scene_end(s);
}

static void test_strangers_are_refused(void **state)
{
	struct scene *s = *state;
	struct secure t;
	const char *output = NULL;

	make(&t, s, "localhost", "localhost", "mirror s/# stream all\nredeliver s/#");
	/* Signed by the right authority, for another host. */
	certificate_signed(s, "server", &t.ca, "DNS:elsewhere.example");
	start(&t);
	server_log_wait(t.w.broker, 0, "its certificate is refused: hostname mismatch", WAIT_MS);
	server_log_wait(t.w.bridge, 0, "certificate is refused: hostname mismatch", WAIT_MS);
	server_log_wait(t.w.bridge, 0, "broker mqtts://localhost", WAIT_MS);
	assert_false(server_log_has(t.w.broker, 0, "): connected"));
	const char *const status[] = {CTL_PROGRAM, "-c", t.w.settings, "status", NULL};
	assert_int_equal(program_run(s, status, WAIT_MS, &output), 3);
	assert_non_null(strstr(output, "hostname mismatch"));
	/* For the right host, signed by nobody we know. */
	struct certificate forged = certificate_authority(s, "forged");
	t.server = certificate_signed(s, "server", &forged, "DNS:localhost");
	size_t from = server_log_size(t.w.broker);
	server_restart(t.w.redis);
	server_log_wait(t.w.broker, from, "its certificate is refused: unable to get local issuer certificate", WAIT_MS);
	/* Mended, it goes on by itself. */
	t.server = certificate_signed(s, "server", &t.ca, "DNS:localhost");
	server_restart(t.w.redis);
	server_restart(t.w.broker);
	server_log_wait(t.w.broker, from, BRIDGE_GREETED, WAIT_MS);
	scene_end(s);
}

/* Redis wants a certificate and we have none: it says so during the handshake or behind it. */
static void test_without_own_certificate(void **state)
{
	struct scene *s = *state;
	struct secure t;

	make(&t, s, "localhost", "localhost", "mirror s/# stream all");
	scene_write(s, "mosquitto-redis.conf", scene_text(s,
		"redis_url rediss://localhost:%u/0\nredis_tls_ca %s\njournal %s/journal\njournal_size 16M\nnode test\n"
		"mirror s/# stream all\n", t.redis_port, t.ca.cert, scene_dir(s)));
	server_start(t.w.redis);
	server_start(t.w.broker);
	server_log_wait(t.w.broker, 0, "certificate required", WAIT_MS);
	scene_end(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_everything_over_tls),
		scene_test(test_by_address),
		scene_test(test_strangers_are_refused),
		scene_test(test_without_own_certificate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
