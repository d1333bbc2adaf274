/* The Redis link against a real server: connecting, losing, deadlines, credentials, callbacks that interfere. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/redis_link.h"
#include "config/resp.h"
#include "tests/harness/certificates.h"
#include "tests/harness/proxy.h"
#include "tests/harness/store.h"

#define LIMIT_MS 60000

struct rig {
	uv_loop_t loop;
	uv_timer_t tick;
	struct settings *settings;
	struct log_sink log;
	struct redis_link *link;
	unsigned ready, lost, closed, lines;
	enum status lost_status;
	char lost_text[256];
	/* replies of the last send */
	size_t replies, nulls;
	bool ordered;
	char last[64];
	long long last_integer;
	/* what a callback does */
	void (*in_ready)(struct rig *r);
	void (*in_reply)(struct rig *r, size_t index);
	void (*in_lost)(struct rig *r);
};

static void log_line(void *ctx, enum log_level level, const char *line)
{
	struct rig *r = ctx;
	r->lines++;
	fprintf(stderr, "    %d %s\n", (int)level, line);
}

static void on_tick(uv_timer_t *timer)
{
	(void)timer; /* so that uv_run returns every few milliseconds */
}

static void on_ready(void *ctx, struct redis_link *link)
{
	struct rig *r = ctx;
	r->ready++;
	assert_true(redis_link_is_ready(link));
	if (r->in_ready) r->in_ready(r);
}

static void on_lost(void *ctx, struct redis_link *link, enum status st, const char *text)
{
	struct rig *r = ctx;
	r->lost++;
	r->lost_status = st;
	snprintf(r->lost_text, sizeof(r->lost_text), "%s", text);
	assert_false(redis_link_is_ready(link));
	if (r->in_lost) r->in_lost(r);
}

static void on_closed(void *ctx)
{
	struct rig *r = ctx;
	r->closed++;
	r->link = NULL;
}

static void rig_open(struct rig *r, const char *url, const char *user, const char *password_file)
{
	struct setting_override o[3] = {{"redis_url", url}};
	size_t n = 1;
	char why[1024];
	memset(r, 0, sizeof(*r));
	r->log = (struct log_sink){log_line, r};
	if (user) o[n++] = (struct setting_override){"redis_username", user};
	if (password_file) o[n++] = (struct setting_override){"redis_password_file", password_file};
	scene_require(settings_load(NULL, o, n, &r->log, &r->settings, why, sizeof(why)) == ST_OK, "%s", why);
	assert_int_equal(uv_loop_init(&r->loop), 0);
	assert_int_equal(uv_timer_init(&r->loop, &r->tick), 0);
	assert_int_equal(uv_timer_start(&r->tick, on_tick, 5, 5), 0);
	r->lines = 0; /* the link's only */
	struct redis_link_events events = {on_ready, on_lost, r};
	assert_int_equal(redis_link_new(&r->loop, r->settings, "test", &r->log, &events, &r->link), ST_OK);
	redis_link_start(r->link);
	assert_int_equal(r->ready + r->lost, 0);
}

static void rig_close(struct rig *r)
{
	unsigned lost = r->lost, ready = r->ready;
	if (r->link) {
		redis_link_close(r->link, on_closed, r);
		redis_link_close(r->link, on_closed, r); /* idempotent */
	}
	uv_close((uv_handle_t *)&r->tick, NULL);
	assert_int_equal(uv_run(&r->loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(uv_loop_close(&r->loop), 0);
	assert_int_equal(r->closed, 1);
	assert_int_equal(r->lost, lost);
	assert_int_equal(r->ready, ready);
	settings_free(r->settings);
}

#define run_until(r, condition) \
	do { \
		uint64_t limit_ = now_ms() + LIMIT_MS; \
		while (!(condition)) { \
			if (now_ms() > limit_) scene_fail(__FILE__, __LINE__, "waited in vain: %s", #condition); \
			uv_run(&(r)->loop, UV_RUN_ONCE); \
		} \
	} while (0)

static void run_for(struct rig *r, uint64_t ms)
{
	uint64_t limit = now_ms() + ms;
	while (now_ms() < limit) {
		uv_run(&r->loop, UV_RUN_ONCE);
	}
}

static void on_reply(void *ctx, const redisReply *reply, size_t index)
{
	struct rig *r = ctx;
	if (!reply) {
		r->nulls++;
	} else {
		if (index != r->replies) r->ordered = false;
		r->replies++;
		r->last_integer = reply->integer;
		if (reply->str) snprintf(r->last, sizeof(r->last), "%s", reply->str);
	}
	if (r->in_reply) r->in_reply(r, index);
}

static enum status send_command(struct rig *r, unsigned deadline_ms, const char *a, const char *b, const char *c)
{
	struct buf out = {0};
	resp_command(&out, a, b, c, NULL);
	r->replies = r->nulls = 0;
	r->ordered = true;
	enum status st = redis_link_send(r->link, &out, 1, deadline_ms, on_reply, r);
	buf_free(&out);
	return st;
}

static const char *tcp_url(struct scene *s, uint16_t port)
{
	return scene_text(s, "redis://127.0.0.1:%u/0", port);
}

/* --- tests ---------------------------------------------------------------------------------------------------- */

static void tcp_and_unix(void **state)
{
	struct scene *scene = *state;
	struct server *redis = redis_new(scene, "redis", "");
	server_start(redis);
	redisContext *db = store_open(redis);
	const char *urls[] = {tcp_url(scene, server_port(redis)), scene_text(scene, "unix://%s", server_socket(redis)),
		scene_text(scene, "redis://localhost:%u/3", server_port(redis))};
	for (int i = 0; i < 3; i++) {
		struct rig r;
		rig_open(&r, urls[i], NULL, NULL);
		assert_int_equal(send_command(&r, 0, "PING", NULL, NULL), ST_LOST);
		run_until(&r, r.ready == 1);
		assert_int_equal(send_command(&r, 0, "SET", "where", "here"), ST_OK);
		run_until(&r, r.replies == 1);
		assert_string_equal(r.last, "OK");
		const redisReply *list = store_query(db, "CLIENT", "LIST", NULL);
		assert_non_null(strstr(list->str, "name=mosquitto-redis-test"));
		rig_close(&r);
	}
	store_query(db, "SELECT", "3", NULL);
	assert_int_equal(store_integer(db, "EXISTS", "where", NULL), 1);
	scene_end(scene);
}

static void many_in_one_send(void **state)
{
	struct scene *scene = *state;
	struct server *redis = redis_new(scene, "redis", "");
	struct rig r;
	struct buf out = {0};
	server_start(redis);
	rig_open(&r, tcp_url(scene, server_port(redis)), NULL, NULL);
	run_until(&r, r.ready == 1);
	for (int i = 0; i < 100000; i++) {
		resp_command(&out, "INCR", "n", NULL);
	}
	r.ordered = true;
	assert_int_equal(redis_link_send(r.link, &out, 100000, 0, on_reply, &r), ST_OK);
	run_until(&r, r.replies == 100000);
	assert_true(r.ordered);
	assert_int_equal(r.last_integer, 100000);
	assert_int_equal(redis_link_unsent(r.link), 0);
	buf_free(&out);
	rig_close(&r);
	scene_end(scene);
}

static void large_values(void **state)
{
	struct scene *scene = *state;
	struct server *redis = redis_new(scene, "redis", "");
	struct rig r;
	struct buf out = {0};
	size_t size = 40u * 1024 * 1024;
	char *value = malloc(size);
	memset(value, 'v', size);
	server_start(redis);
	rig_open(&r, scene_text(scene, "unix://%s", server_socket(redis)), NULL, NULL);
	run_until(&r, r.ready == 1);
	resp_begin(&out, 3);
	resp_arg_str(&out, "SET");
	resp_arg_str(&out, "big");
	resp_arg(&out, slice_of(value, size));
	resp_command(&out, "GET", "big", NULL);
	resp_command(&out, "STRLEN", "big", NULL);
	r.ordered = true;
	/* On a busy machine so much may take longer than a reply usually may. */
	assert_int_equal(redis_link_send(r.link, &out, 3, 60000, on_reply, &r), ST_OK);
	assert_true(redis_link_unsent(r.link) > 0);
	run_until(&r, r.replies == 3);
	assert_int_equal(r.last_integer, (long long)size);
	assert_int_equal(r.lost, 0);
	buf_free(&out);
	free(value);
	rig_close(&r);
	scene_end(scene);
}

static void absent_killed_restarted(void **state)
{
	struct scene *scene = *state;
	struct server *redis = redis_new(scene, "redis", "");
	struct rig r;
	rig_open(&r, tcp_url(scene, server_port(redis)), NULL, NULL);
	run_until(&r, r.lost >= 3);
	assert_int_equal(r.ready, 0);
	assert_int_equal(r.lines, 1); /* the same again is not said again */
	server_start(redis);
	run_until(&r, r.ready == 1);
	for (unsigned i = 1; i <= 3; i++) {
		unsigned lost = r.lost;
		server_pause(redis);
		assert_int_equal(send_command(&r, 0, "PING", NULL, NULL), ST_OK);
		assert_int_equal(send_command(&r, 0, "PING", NULL, NULL), ST_OK);
		server_kill(redis);
		run_until(&r, r.lost > lost);
		assert_int_equal(r.nulls, 2);
		assert_int_equal(r.replies, 0);
		server_start(redis);
		run_until(&r, r.ready == 1 + i);
		assert_int_equal(send_command(&r, 0, "PING", NULL, NULL), ST_OK);
		run_until(&r, r.replies == 1);
	}
	rig_close(&r);
	scene_end(scene);
}

static void deadlines(void **state)
{
	struct scene *scene = *state;
	struct server *redis = redis_new(scene, "redis", "");
	struct rig r;
	server_start(redis);
	rig_open(&r, tcp_url(scene, server_port(redis)), NULL, NULL);
	run_until(&r, r.ready == 1);
	/* Nothing pending: a stopped Redis is nobody's business. */
	server_pause(redis);
	run_for(&r, REDIS_LINK_TIMEOUT_MS + 500);
	assert_int_equal(r.lost, 0);
	/* Its own deadline is longer. */
	assert_int_equal(send_command(&r, LIMIT_MS, "PING", NULL, NULL), ST_OK);
	run_for(&r, REDIS_LINK_TIMEOUT_MS + 500);
	assert_int_equal(r.lost, 0);
	server_continue(redis);
	run_until(&r, r.replies == 1);
	/* The usual one. */
	server_pause(redis);
	uv_update_time(&r.loop); /* outside a loop's turn its time is that of the last one */
	uint64_t began = now_ms();
	assert_int_equal(send_command(&r, 0, "PING", NULL, NULL), ST_OK);
	run_until(&r, r.lost == 1);
	assert_int_equal(r.lost_status, ST_TIMEOUT);
	assert_int_equal(r.nulls, 1);
	assert_true(now_ms() - began >= REDIS_LINK_TIMEOUT_MS - 100);
	/* The kernel accepts for the stopped server; the handshake has a limit too. */
	run_until(&r, r.lost == 2);
	assert_int_equal(r.lost_status, ST_TIMEOUT);
	server_continue(redis);
	run_until(&r, r.ready == 2);
	/* Sending more does not put it off. */
	server_pause(redis);
	began = now_ms();
	while (r.lost == 2 && now_ms() < began + LIMIT_MS) {
		assert_int_equal(send_command(&r, 0, "PING", NULL, NULL), ST_OK);
		run_for(&r, 400);
	}
	assert_true(r.lost >= 3);
	server_continue(redis);
	rig_close(&r);
	scene_end(scene);
}

/* This process stands still for longer than the deadline while the reply waits in the socket: not lost. */
static void own_standstill(void **state)
{
	struct scene *scene = *state;
	struct server *redis = redis_new(scene, "redis", "");
	struct rig r;
	server_start(redis);
	rig_open(&r, tcp_url(scene, server_port(redis)), NULL, NULL);
	run_until(&r, r.ready == 1);
	assert_int_equal(send_command(&r, 0, "PING", NULL, NULL), ST_OK);
	uint64_t limit = now_ms() + REDIS_LINK_TIMEOUT_MS + 500;
	while (now_ms() < limit) {
		poll_pause();
	}
	run_until(&r, r.replies == 1);
	assert_int_equal(r.lost, 0);
	rig_close(&r);
	scene_end(scene);
}

static void credentials(void **state)
{
	struct scene *scene = *state;
	struct server *redis = redis_new(scene, "redis", "");
	const char *file = scene_write(scene, "password", "wrong one\n");
	struct rig r;
	server_start(redis);
	redisContext *db = store_open(redis);
	store_query(db, "ACL", "SETUSER", "writer", "on", ">right one", "~*", "+@all", NULL);
	store_query(db, "ACL", "SETUSER", "default", ">secret", "resetpass", ">secret", NULL);

	rig_open(&r, tcp_url(scene, server_port(redis)), "writer", file);
	run_until(&r, r.lost >= 3 && r.lost_status == ST_DENIED);
	assert_non_null(strstr(r.lost_text, "WRONGPASS"));
	assert_null(strstr(r.lost_text, "wrong one"));
	scene_write(scene, "password", "right one\n"); /* read again at each attempt */
	run_until(&r, r.ready == 1);
	assert_int_equal(send_command(&r, 0, "ACL", "WHOAMI", NULL), ST_OK);
	run_until(&r, r.replies == 1);
	assert_string_equal(r.last, "writer");
	rig_close(&r);

	rig_open(&r, tcp_url(scene, server_port(redis)), NULL, NULL);
	run_until(&r, r.lost >= 1);
	assert_int_equal(r.lost_status, ST_DENIED);
	rig_close(&r);

	const char *vanishing = scene_write(scene, "no such file", "x\n");
	rig_open(&r, tcp_url(scene, server_port(redis)), "writer", vanishing);
	assert_int_equal(remove(vanishing), 0);
	run_until(&r, r.lost >= 1);
	assert_non_null(strstr(r.lost_text, "no such file"));
	rig_close(&r);

	rig_open(&r, scene_text(scene, "redis://127.0.0.1:%u/9999", server_port(redis)), "writer", file);
	run_until(&r, r.lost >= 1);
	assert_int_equal(r.lost_status, ST_INVALID);
	rig_close(&r);
	scene_end(scene);
}

static void send_more(struct rig *r, size_t index)
{
	(void)index;
	struct buf out = {0};
	resp_command(&out, "PING", NULL);
	if (r->replies < 50) assert_int_equal(redis_link_send(r->link, &out, 1, 0, on_reply, r), ST_OK);
	buf_free(&out);
}

static void reset_now(struct rig *r, size_t index)
{
	(void)index;
	r->in_reply = NULL;
	redis_link_reset(r->link, ST_CORRUPT, "enough of it");
	redis_link_reset(r->link, ST_CORRUPT, "again"); /* nothing there to reset */
}

static void close_now(struct rig *r, size_t index)
{
	(void)index;
	r->in_reply = NULL;
	redis_link_close(r->link, on_closed, r);
}

static void close_in_ready(struct rig *r)
{
	redis_link_close(r->link, on_closed, r);
}

static void reset_in_ready(struct rig *r)
{
	if (r->ready == 1) redis_link_reset(r->link, ST_CORRUPT, "not this one");
}

static void callbacks_that_interfere(void **state)
{
	struct scene *scene = *state;
	struct server *redis = redis_new(scene, "redis", "");
	struct rig r;
	struct buf out = {0};
	server_start(redis);
	const char *url = tcp_url(scene, server_port(redis));
	for (int i = 0; i < 10; i++) {
		resp_command(&out, "PING", NULL);
	}

	rig_open(&r, url, NULL, NULL);
	run_until(&r, r.ready == 1);
	r.ordered = true;
	r.in_reply = send_more;
	assert_int_equal(send_command(&r, 0, "PING", NULL, NULL), ST_OK);
	run_until(&r, r.replies == 50);
	r.in_reply = reset_now; /* in the middle of ten replies that have arrived */
	r.replies = 0;
	assert_int_equal(redis_link_send(r.link, &out, 10, 0, on_reply, &r), ST_OK);
	run_until(&r, r.lost == 1);
	assert_int_equal(r.lost_status, ST_CORRUPT);
	assert_string_equal(r.lost_text, "enough of it");
	assert_int_equal(r.replies, 1);
	assert_int_equal(r.nulls, 1);
	run_until(&r, r.ready == 2);
	r.in_reply = close_now;
	r.nulls = r.replies = 0;
	assert_int_equal(redis_link_send(r.link, &out, 10, 0, on_reply, &r), ST_OK);
	run_until(&r, r.closed == 1);
	assert_int_equal(r.nulls, 1);
	assert_int_equal(r.replies, 1);
	rig_close(&r);

	rig_open(&r, url, NULL, NULL);
	r.in_ready = reset_in_ready;
	run_until(&r, r.ready == 2);
	assert_int_equal(r.lost, 1);
	rig_close(&r);

	rig_open(&r, url, NULL, NULL);
	r.in_ready = close_in_ready;
	run_until(&r, r.closed == 1);
	rig_close(&r);

	/* closed at any early moment */
	for (int turns = 0; turns < 6; turns++) {
		rig_open(&r, url, NULL, NULL);
		for (int i = 0; i < turns; i++) {
			uv_run(&r.loop, UV_RUN_NOWAIT);
		}
		rig_close(&r);
	}
	buf_free(&out);
	scene_end(scene);
}

static void send_in_ready(struct rig *r)
{
	r->nulls = r->replies = 0;
	assert_int_equal(send_command(r, 0, "INCR", "n", NULL), ST_OK);
}

/* Cut anywhere, some hundred times: each send gets its reply or its NULL, never both, never neither. */
static void cut_at_random(void **state)
{
	struct scene *scene = *state;
	struct server *redis = redis_new(scene, "redis", "");
	struct rig r;
	server_start(redis);
	struct proxy *proxy = proxy_start(scene, server_port(redis), 4711);
	printf("seed 4711\n");
	proxy_faults(proxy, 8);
	rig_open(&r, tcp_url(scene, proxy_port(proxy)), NULL, NULL);
	r.in_ready = send_in_ready;
	uint64_t end = now_ms() + 20000, limit = end + LIMIT_MS;
	while (proxy_cuts(proxy) < (now_ms() < end ? 200u : 100u)) { /* on a slow machine not as many */
		scene_require(now_ms() < limit, "only %u cuts", proxy_cuts(proxy));
		uv_run(&r.loop, UV_RUN_ONCE);
		if (!redis_link_is_ready(r.link)) continue;
		assert_true(r.replies + r.nulls <= 1);
		if (r.replies == 1) send_in_ready(&r);
	}
	assert_true(proxy_cuts(proxy) >= 5);
	proxy_faults(proxy, 0);
	run_until(&r, redis_link_is_ready(r.link) && r.replies == 1);
	rig_close(&r);
	scene_end(scene);
}

static void give_up(struct rig *r, size_t index)
{
	(void)index;
	redis_link_reset(r->link, ST_CORRUPT, "no more");
}

/* Connections that end as soon as they are made: fewer and fewer attempts. Those that end behind their first answer:
 * no pause, but few words. */
static void short_connections(void **state)
{
	struct scene *scene = *state;
	struct server *redis = redis_new(scene, "redis", "");
	struct rig r;
	server_start(redis);
	struct proxy *proxy = proxy_start(scene, server_port(redis), 1);
	proxy_behave(proxy, PROXY_ONE_ANSWER); /* the handshake's */
	rig_open(&r, tcp_url(scene, proxy_port(proxy)), NULL, NULL);
	uint64_t began = now_ms();
	run_until(&r, r.lost >= 9);
	assert_true(now_ms() - began >= 1500); /* half of 50, 50, 50, 100, 200, 400, 800 and 1600 at least */
	proxy_behave(proxy, PROXY_PLAIN);
	run_until(&r, redis_link_is_ready(r.link));
	r.in_ready = send_in_ready;
	r.in_reply = give_up;
	redis_link_reset(r.link, ST_CORRUPT, "no more");
	r.lost = r.lines = 0;
	run_until(&r, r.lost == 50);
	assert_true(r.lines >= 12 && r.lines <= 45); /* two for each of the first twenty */
	r.in_reply = NULL;
	run_until(&r, redis_link_is_ready(r.link) && r.replies == 1);
	unsigned lines = r.lines;
	r.in_ready = NULL;
	redis_link_reset(r.link, ST_CORRUPT, "something else");
	assert_int_equal(r.lines, lines + 1); /* that is news */
	rig_close(&r);
	scene_end(scene);
}

/* Records in pieces, values larger than any buffer, cuts anywhere: TLS changes nothing. */
static void over_tls(void **state)
{
	struct scene *scene = *state;
	struct certificate ca = certificate_authority(scene, "ca");
	struct certificate cert = certificate_signed(scene, "server", &ca, "DNS:localhost");
	uint16_t port = scene_port(scene);
	struct server *redis = redis_new(scene, "redis", scene_text(scene, "tls-port %u\ntls-cert-file %s\ntls-key-file %s\n"
		"tls-ca-cert-file %s\ntls-auth-clients no\n", port, cert.cert, cert.key, ca.cert));
	struct rig r;
	struct buf out = {0};
	size_t size = 8u * 1024 * 1024;
	char *value = malloc(size);
	memset(value, 'v', size);
	assert_int_equal(setenv("SSL_CERT_FILE", ca.cert, 1), 0); /* what the system trusts, without redis_tls_ca */
	server_start(redis);
	struct proxy *proxy = proxy_start(scene, port, 99);
	rig_open(&r, scene_text(scene, "rediss://localhost:%u", proxy_port(proxy)), NULL, NULL);
	run_until(&r, r.ready == 1);
	for (int i = 0; i < 50000; i++) {
		resp_command(&out, "INCR", "n", NULL);
	}
	resp_begin(&out, 3);
	resp_arg_str(&out, "SET");
	resp_arg_str(&out, "big");
	resp_arg(&out, slice_of(value, size));
	resp_command(&out, "GET", "big", NULL);
	resp_command(&out, "STRLEN", "big", NULL);
	r.ordered = true;
	assert_int_equal(redis_link_send(r.link, &out, 50003, 0, on_reply, &r), ST_OK);
	run_until(&r, r.replies == 50003);
	assert_true(r.ordered);
	assert_int_equal(r.last_integer, (long long)size);
	assert_int_equal(r.lost, 0);
	proxy_behave(proxy, PROXY_PIECES);
	buf_clear(&out);
	for (int i = 0; i < 200; i++) {
		resp_command(&out, "ECHO", "some text that is cut into pieces", NULL);
	}
	r.replies = 0;
	assert_int_equal(redis_link_send(r.link, &out, 200, 0, on_reply, &r), ST_OK);
	run_until(&r, r.replies == 200);
	assert_true(r.ordered);
	proxy_behave(proxy, PROXY_PLAIN);
	proxy_faults(proxy, 6);
	r.in_ready = send_in_ready;
	redis_link_reset(r.link, ST_CORRUPT, "again");
	uint64_t soon = now_ms() + 5000, limit = now_ms() + LIMIT_MS;
	while (now_ms() < limit && proxy_cuts(proxy) < (now_ms() < soon ? 20u : 5u)) {
		uv_run(&r.loop, UV_RUN_ONCE);
		if (redis_link_is_ready(r.link) && r.replies == 1) send_in_ready(&r);
	}
	proxy_faults(proxy, 0);
	run_until(&r, redis_link_is_ready(r.link) && r.replies == 1);
	assert_int_equal(unsetenv("SSL_CERT_FILE"), 0);
	buf_free(&out);
	free(value);
	rig_close(&r);
	scene_end(scene);
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	const struct CMUnitTest tests[] = {
		scene_test(tcp_and_unix),
		scene_test(many_in_one_send),
		scene_test(large_values),
		scene_test(absent_killed_restarted),
		scene_test(deadlines),
		scene_test(own_standstill),
		scene_test(credentials),
		scene_test(callbacks_that_interfere),
		scene_test(cut_at_random),
		scene_test(short_connections),
		scene_test(over_tls),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
