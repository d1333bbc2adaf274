/*
 * What the bridge shows over HTTP, with real servers: the books in /metrics, /health while Redis and the broker go away
 * and come back, hostile requests, clients that never finish, ports that are taken.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cjson/cJSON.h>
#include <cmocka.h>

#include "bridge/http.h"
#include "tests/harness/guest.h"
#include "tests/harness/web_client.h"

#define WAIT_MS 60000
#define HOSTILE "<script>document.title='owned'</script>"

static uint16_t start(struct world *w, struct scene *s, const char *lines)
{
	uint16_t port = scene_port(s);

	world_start(w, s, scene_text(s, "listen 127.0.0.1:%u\n%s", port, lines), WORLD_BRIDGE);
	wait_until(web_listens(port), WAIT_MS, "the HTTP server");
	return port;
}

static double metric(const char *text, const char *series)
{
	double value = -1;

	scene_require(web_metric(text, series, &value), "no %s in\n%s", series, text);
	return value;
}

/* Every sample belongs to a family that was announced, and no line stands twice. */
static void check_form(const char *metrics)
{
	char *text = strdup(metrics), *rest = text, *line;
	char family[128] = "";
	size_t samples = 0;

	scene_require(text && metrics[0] && metrics[strlen(metrics) - 1] == '\n', "no text: %s", metrics);
	while ((line = strsep(&rest, "\n")) != NULL && *line) {
		char name[128];
		if (sscanf(line, "# TYPE %127s", family) == 1 || strncmp(line, "# HELP ", 7) == 0) continue;
		scene_require(sscanf(line, "%127[a-z0-9_]", name) == 1, "line %s", line);
		scene_require(strncmp(name, family, strlen(family)) == 0, "%s stands in %s", name, family);
		samples++;
	}
	scene_require(samples > 60, "%zu samples only", samples);
	free(text);
}

/* --- the books ------------------------------------------------------------------------------------------------- */

static void metrics_show_the_books(void **state)
{
	struct scene *scene = *state;
	struct world w;
	uint16_t port = start(&w, scene, "mirror a/# stream s:%t\nmirror a/# list l:%1\nmirror \"a \\\"quoted\\\"/#\" stream q\n"
		"mirror wrong/# stream wrong\n");
	struct guest *g = guest_join(&w, "publisher", NULL);
	const char *text;

	redisReply *set = redisCommand(w.db, "SET wrong key");
	assert_non_null(set);
	freeReplyObject(set);
	for (int i = 0; i < 20; i++) guest_publish(g, "a/b", "text", 1);
	for (int i = 0; i < 3; i++) guest_publish(g, "wrong/x", "text", 1);
	web_metric_wait(port, "mosquitto_redis_stored_total", 40, WAIT_MS);
	web_metric_wait(port, "mosquitto_redis_dead_total", 3, WAIT_MS);
	text = web_get(port, "/metrics").body;
	check_form(text);
	assert_true(metric(text, "mosquitto_redis_in_total") == 43);
	assert_true(metric(text, "mosquitto_redis_stored_total") == 40);
	assert_true(metric(text, "mosquitto_redis_dead_total") == 3);
	assert_true(metric(text, "mosquitto_redis_queued") == 0);
	assert_true(metric(text, "mosquitto_redis_refused_total") == 0);
	assert_true(metric(text, "mosquitto_redis_dropped_total{reason=\"full\"}") == 0);
	assert_true(metric(text, "mosquitto_redis_rule_in_total{rule=\"0\",text=\"a/# stream s:%t\"}") == 20);
	assert_true(metric(text, "mosquitto_redis_rule_dead_total{rule=\"3\",text=\"wrong/# stream wrong\"}") == 3);
	assert_true(metric(text, "mosquitto_redis_plugin_up") == 1);
	assert_true(metric(text, "mosquitto_redis_ready") == 1);
	assert_true(metric(text, "mosquitto_redis_redis_up{part=\"plugin\"}") == 1);
	assert_true(metric(text, "mosquitto_redis_journal_size_bytes") == 4194304);
	assert_true(metric(text, "mosquitto_redis_redis_reply_seconds_count{part=\"plugin\"}") >= 1);
	assert_true(metric(text, "mosquitto_redis_redis_reply_seconds_count{part=\"bridge\"}") >= 1);
	assert_true(metric(text, "process_resident_memory_bytes") > 1e6);
	assert_true(metric(text, "process_open_fds") > 5);
	assert_true(metric(text, "process_start_time_seconds") > 1e9);
	/* A quote within a rule's text must not end the label. */
	assert_non_null(strstr(text, "text=\"\\\"a "));
	scene_end(scene);
}

/* --- the page's data ------------------------------------------------------------------------------------------- */

static cJSON *status_json(uint16_t port)
{
	struct web_answer a = web_get(port, "/status.json");
	cJSON *json = cJSON_Parse(a.body);

	scene_require(a.code == 200 && json, "status %d: %s", a.code, a.body);
	return json;
}

static const cJSON *at(const cJSON *object, const char *first, const char *second)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, first);
	const cJSON *found = second ? cJSON_GetObjectItemCaseSensitive(item, second) : item;

	scene_require(found, "no %s %s", first, second ? second : "");
	return found;
}

static bool slowest_is(uint16_t port, const char *client)
{
	cJSON *json = status_json(port);
	const cJSON *list = at(json, "redelivery", "slowest");
	const cJSON *name = cJSON_GetObjectItemCaseSensitive(cJSON_GetArrayItem(list, 0), "client");
	bool is = cJSON_IsString(name) && strcmp(name->valuestring, client) == 0;

	cJSON_Delete(json);
	return is;
}

static void slow_device_is_named(void **state)
{
	struct scene *scene = *state;
	struct world w;
	uint16_t port = start(&w, scene, "mirror a/# stream s:%t\nredeliver a/# new=all rate=2\n");
	struct guest *g = guest_join(&w, "publisher", NULL), *slow = guest_new(&w, HOSTILE, NULL);
	const char *body;
	cJSON *json;

	for (int i = 0; i < 200; i++) guest_publish(g, "a/b", "text", 1);
	guest_connect(slow);
	guest_subscribe(slow, "a/#", 1);
	wait_until(slowest_is(port, HOSTILE), WAIT_MS, "the slow device");
	web_metric_wait(port, "mosquitto_redis_redelivery_devices", 1, WAIT_MS);
	web_metric_wait(port, "mosquitto_redis_redelivery_sent_total", 1, WAIT_MS);
	body = web_get(port, "/metrics").body;
	assert_null(strstr(body, "<script")); /* no client ids: there may be very many */
	/* Two samples are there, as long as each other. */
	do {
		json = status_json(port);
		size_t samples = (size_t)cJSON_GetArraySize(at(json, "history", "in"));
		assert_int_equal(samples, cJSON_GetArraySize(at(json, "history", "catching_up")));
		assert_int_equal(at(json, "history", "every_ms")->valueint, 2000);
		cJSON_Delete(json);
		if (samples >= 2) break;
		poll_pause();
	} while (true);
	scene_end(scene);
}

/* --- health ---------------------------------------------------------------------------------------------------- */

static bool health_is(uint16_t port, int code, const char *reason)
{
	struct web_answer a = web_get(port, "/health");
	cJSON *json = cJSON_Parse(a.body);
	bool is = a.code == code && strstr(a.body, reason);

	scene_require(a.code == 200 || a.code == 503, "status %d", a.code);
	scene_require(json && cJSON_IsArray(at(json, "reasons", NULL)), "no JSON: %s", a.body);
	scene_require((a.code == 200) == (cJSON_GetArraySize(at(json, "reasons", NULL)) == 0), "%d with %s", a.code, a.body);
	cJSON_Delete(json);
	return is;
}

static void alive_and_showing(uint16_t port)
{
	static const char *const paths[] = {"/health/live", "/", "/status.json", "/metrics"};

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		assert_int_equal(web_get(port, paths[i]).code, 200);
	}
}

static void health_tells_what_is_away(void **state)
{
	struct scene *scene = *state;
	struct world w;
	uint16_t port = start(&w, scene, "mirror a/# stream s:%t\n");

	wait_until(health_is(port, 200, "\"ready\""), WAIT_MS, "health");
	assert_int_equal(web_get(port, "/health/ready").code, 200);
	server_kill(w.broker);
	wait_until(health_is(port, 503, "the broker is not reachable"), WAIT_MS, "the broker's end in /health");
	assert_int_equal(web_get(port, "/health/ready").code, 503);
	assert_true(metric(web_get(port, "/metrics").body, "mosquitto_redis_broker_up") == 0);
	alive_and_showing(port);
	server_start(w.broker);
	wait_until(health_is(port, 200, "\"active\""), WAIT_MS, "health with the broker");
	server_kill(w.redis);
	wait_until(health_is(port, 503, "Redis is not reachable: "), WAIT_MS, "the end of Redis in /health");
	assert_true(metric(web_get(port, "/metrics").body, "mosquitto_redis_redis_up{part=\"bridge\"}") == 0);
	alive_and_showing(port);
	server_start(w.redis);
	wait_until(health_is(port, 200, "\"ready\""), WAIT_MS, "health with Redis");
	scene_end(scene);
}

/* Redis is away, messages come: how full the journal is comes by the broker. */
static void journal_is_seen_without_redis(void **state)
{
	struct scene *scene = *state;
	struct world w;
	uint16_t port = start(&w, scene, "mirror a/# stream s:%t\n");
	struct guest *g = guest_join(&w, "publisher", NULL);
	const char *text;

	guest_publish(g, "a/b", "text", 1);
	web_metric_wait(port, "mosquitto_redis_stored_total", 1, WAIT_MS);
	server_kill(w.redis);
	for (int i = 0; i < 20; i++) guest_publish(g, "a/b", "text", 1);
	web_metric_wait(port, "mosquitto_redis_queued", 20, WAIT_MS);
	text = web_get(port, "/metrics").body;
	check_form(text);
	assert_true(metric(text, "mosquitto_redis_plugin_up") == 1);
	assert_true(metric(text, "mosquitto_redis_redis_up{part=\"plugin\"}") == 0);
	assert_true(metric(text, "mosquitto_redis_journal_used_bytes") > 100);
	assert_true(metric(text, "mosquitto_redis_journal_size_bytes") == 4194304);
	assert_true(metric(text, "mosquitto_redis_rule_queued{rule=\"0\",text=\"a/# stream s:%t\"}") == 20);
	assert_int_equal(web_get(port, "/health").code, 503);
	server_start(w.redis);
	web_metric_wait(port, "mosquitto_redis_stored_total", 21, WAIT_MS);
	wait_until(health_is(port, 200, "\"active\""), WAIT_MS, "health with Redis");
	scene_end(scene);
}

/* --- who asks badly -------------------------------------------------------------------------------------------- */

static void bad_requests_are_refused(void **state)
{
	struct scene *scene = *state;
	struct world w;
	uint16_t port = start(&w, scene, "mirror a/# stream s:%t\n");
	char *long_head = malloc(HTTP_HEAD_MAX + 200);
	const struct {
		const char *request;
		int code;
	} cases[] = {
		{"GET /metrics HTTP/1.0\r\n\r\n", 200},
		{"GET /metrics HTTP/1.1\r\nHost: localhost:1\r\n\r\n", 200},
		{"GET /metrics HTTP/1.1\r\nHost: LOCALHOST\r\n\r\n", 200},
		{"GET /metrics HTTP/1.1\r\nHost: [::1]:9419\r\n\r\n", 200},
		{"GET /metrics?a=b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 200},
		{"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421},
		{"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1.evil.example\r\n\r\n", 421},
		{"GET /metrics HTTP/1.1\r\nHost: localhost.evil.example\r\n\r\n", 421},
		{"GET /metrics/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 404},
		{"GET /../../etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 404},
		{"POST /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n", 405},
		{"DELETE / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 405},
		{"OPTIONS / HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://evil.example\r\n\r\n", 405},
		{"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 4\r\n\r\nbody", 413},
		{long_head, 431},
	};

	assert_non_null(long_head);
	memset(long_head, 'a', HTTP_HEAD_MAX + 199);
	long_head[HTTP_HEAD_MAX + 199] = '\0';
	memcpy(long_head, "GET / HTTP/1.1\r\nX: ", 19);
	memcpy(long_head + HTTP_HEAD_MAX + 195, "\r\n\r\n", 4);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct web_answer a = web_send(port, cases[i].request);
		scene_require(a.code == cases[i].code, "%d to %.60s", a.code, cases[i].request);
		assert_null(strstr(a.head, "Access-Control"));
	}
	(void)web_send(port, "\x16\x03\x01\x02 not HTTP at all\r\n\r\n");
	struct web_answer head = web_send(port, "HEAD / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
	assert_int_equal(head.code, 200);
	assert_int_equal(head.len, 0);
	struct web_answer page = web_get(port, "/");
	assert_non_null(strstr(page.head, "default-src 'none'; script-src 'sha256-"));
	assert_null(strstr(page.head, "unsafe"));
	assert_non_null(strstr(page.head, "frame-ancestors 'none'"));
	assert_non_null(strstr(page.head, "nosniff"));
	/* Nothing from elsewhere. */
	assert_null(strstr(page.body, "src=\""));
	assert_null(strstr(page.body, "https://"));
	free(long_head);
	scene_end(scene);
}

/* A few say nothing, one says a byte now and then: others are answered, and in the end they are cut off. */
static void slow_clients_hold_up_nobody(void **state)
{
	enum { SILENT = HTTP_CONNECTIONS_IP_MAX - 4 };
	struct scene *scene = *state;
	struct world w;
	uint16_t port = start(&w, scene, "mirror a/# stream s:%t\n");
	int silent[SILENT], dripping = web_connect(port);
	uint64_t began = now_ms(), dripped = 0;
	char byte;

	for (size_t i = 0; i < SILENT; i++) {
		silent[i] = web_connect(port);
		assert_true(silent[i] >= 0);
		(void)!send(silent[i], "GET / HT", i % 2 ? 8 : 0, MSG_NOSIGNAL);
	}
	for (int i = 0; i < 20; i++) assert_int_equal(web_get(port, "/metrics").code, 200);
	(void)!send(dripping, "GET / HTTP/1.1\r\nX: ", 19, MSG_NOSIGNAL);
	/* A byte each 200 ms keeps it alive for the library, not for us. */
	while (now_ms() - began < WAIT_MS) {
		if (recv(dripping, &byte, 1, MSG_DONTWAIT) == 0) break;
		if (now_ms() - dripped >= 200) {
			if (send(dripping, "x", 1, MSG_NOSIGNAL) < 0) break;
			dripped = now_ms();
		}
		poll_pause();
	}
	assert_true(now_ms() - began < WAIT_MS);
	assert_true(now_ms() - began >= HTTP_DEADLINE_MS / 2);
	for (size_t i = 0; i < SILENT; i++) {
		ssize_t n = recv(silent[i], &byte, 1, 0);

		assert_true(n == 0 || (n < 0 && errno == ECONNRESET)); /* cut off, not our own time-out */
		(void)close(silent[i]);
	}
	(void)close(dripping);
	assert_int_equal(web_get(port, "/health").code, 200);
	scene_end(scene);
}

static void port_taken_is_an_error_at_start(void **state)
{
	struct scene *scene = *state;
	struct world w;
	uint16_t port = start(&w, scene, "mirror a/# stream s:%t\n");
	const char *text = scene_read(scene, w.settings, NULL);
	struct server *second = bridge_new(scene, "second", w.settings);
	struct server *third = bridge_new(scene, "third", scene_write(scene, "none.conf",
		scene_text(scene, "listen none\nnode test\n%s", strstr(text, "mirror "))));

	(void)server_start_refused(second);
	assert_true(server_log_has(second, 0, scene_text(scene, "listen 127.0.0.1:%u: Address already in use", port)));
	server_start(third); /* with the default addresses, but no server of its own */
	server_log_wait(third, 0, "starts", WAIT_MS);
	assert_int_equal(web_get(port, "/health/live").code, 200);
	scene_end(scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(metrics_show_the_books), scene_test(slow_device_is_named), scene_test(health_tells_what_is_away),
		scene_test(journal_is_seen_without_redis),
		scene_test(bad_requests_are_refused), scene_test(slow_clients_hold_up_nobody),
		scene_test(port_taken_is_an_error_at_start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
