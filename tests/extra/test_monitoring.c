/*
 * Holds /metrics and examples/monitoring together: promtool (Debian's prometheus) likes both, and every metric that
 * alerts, dashboard and README speak of exists.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cjson/cJSON.h>
#include <cmocka.h>

#include "tests/harness/guest.h"
#include "tests/harness/web_client.h"

#define WAIT_MS 60000
#define FOLDER TEST_SOURCE_DIR "/examples/monitoring/"

/* Everything that the bridge and a plugin with traffic export. */
static const char *metrics_of_a_world(struct scene *s)
{
	uint16_t port = scene_port(s);
	struct world w;
	struct guest *g;

	world_start(&w, s, scene_text(s, "listen 127.0.0.1:%u\nmirror a/# stream s:%%t\nmirror \"o\\\\dd \\\"/#\" list l\n",
		port), WORLD_BRIDGE);
	g = guest_join(&w, "publisher", NULL);
	for (int i = 0; i < 10; i++) guest_publish(g, "a/b", "text", 1);
	web_metric_wait(port, "mosquitto_redis_stored_total", 10, WAIT_MS);
	return web_get(port, "/metrics").body;
}

static void run_promtool(struct scene *s, const char *command, const char *file)
{
	const char *const argv[] = {"sh", "-c", scene_text(s, "promtool check %s %s", command, file), NULL};
	const char *output = "";
	int status = program_run(s, argv, WAIT_MS, &output);

	scene_require(status == 0, "promtool check %s: %d\n%s", command, status, output);
}

static void promtool_likes_metrics(void **state)
{
	struct scene *scene = *state;
	const char *text = metrics_of_a_world(scene);
	const char *file = scene_write(scene, "metrics", text);

	run_promtool(scene, "metrics <", file);
	scene_end(scene);
}

static void promtool_likes_alerts(void **state)
{
	struct scene *scene = *state;

	run_promtool(scene, "rules", FOLDER "alerts.yml");
	scene_end(scene);
}

/* Text with every `from` replaced. */
static const char *replaced(struct scene *s, const char *text, const char *from, const char *to)
{
	for (const char *at; (at = strstr(text, from)) != NULL;) {
		text = scene_text(s, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
	}
	return text;
}

/* The dashboard's queries, as recording rules: that promtool understands. */
static void promtool_likes_dashboard(void **state)
{
	struct scene *scene = *state;
	const char *rules = "groups:\n- name: dashboard\n  rules:\n", *file = scene_read(scene, FOLDER "grafana-dashboard.json", NULL);
	cJSON *dashboard = cJSON_Parse(file);
	const cJSON *panel, *target;
	size_t count = 0;

	scene_require(dashboard, "the dashboard is no JSON");
	cJSON_ArrayForEach(panel, cJSON_GetObjectItemCaseSensitive(dashboard, "panels")) {
		cJSON_ArrayForEach(target, cJSON_GetObjectItemCaseSensitive(panel, "targets")) {
			const cJSON *expr = cJSON_GetObjectItemCaseSensitive(target, "expr");
			scene_require(cJSON_IsString(expr), "a target without a query");
			rules = scene_text(scene, "%s  - record: q:%zu\n    expr: '%s'\n", rules, count++,
				replaced(scene, replaced(scene, expr->valuestring, "$__rate_interval", "5m"), "$instance", ".*"));
		}
	}
	cJSON_Delete(dashboard);
	scene_require(count > 20, "%zu queries", count);
	run_promtool(scene, "rules", scene_write(scene, "dashboard.yml", rules));
	scene_end(scene);
}

static bool exported(const char *metrics, const char *name)
{
	size_t len = strlen(name);

	for (const char *line = metrics; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, name, len) == 0 && (line[len] == ' ' || line[len] == '{')) return true;
	}
	return false;
}

/* Names of metrics in a file: words that begin with ours or with process_. Returns how many. */
static size_t check_names(struct scene *s, const char *metrics, const char *path)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789_";
	const char *text = scene_read(s, path, NULL);
	size_t count = 0;

	scene_require(text, "%s cannot be read", path);
	while (*text) {
		size_t len = strspn(text, letters);
		char name[128];

		(void)snprintf(name, sizeof(name), "%.*s", (int)len, text);
		if (len > 0 && (strncmp(name, "mosquitto_redis_", 16) == 0 || strncmp(name, "process_", 8) == 0)
			&& name[len - 1] != '_') {
			scene_require(exported(metrics, name), "%s: there is no metric %s", path, name);
			count++;
		}
		text += len > 0 ? len : 1;
	}
	return count;
}

static void names_exist(void **state)
{
	struct scene *scene = *state;
	const char *metrics = metrics_of_a_world(scene);

	assert_false(exported(metrics, "mosquitto_redis_no_such_total"));
	assert_true(check_names(scene, metrics, FOLDER "alerts.yml") >= 13);
	assert_true(check_names(scene, metrics, FOLDER "grafana-dashboard.json") >= 20);
	assert_true(check_names(scene, metrics, FOLDER "README.md") >= 3);
	(void)check_names(scene, metrics, TEST_SOURCE_DIR "/README.md");
	scene_end(scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(promtool_likes_metrics), scene_test(promtool_likes_alerts), scene_test(promtool_likes_dashboard),
		scene_test(names_exist),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
