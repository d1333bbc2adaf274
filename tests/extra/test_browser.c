/*
 * The status page in a real browser (Debian's chromium, headless): it shows what is there, takes no client id for
 * markup, breaks none of its own rules, and works while the broker is away. Screenshots go to the build folder.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "tests/harness/guest.h"
#include "tests/harness/web_client.h"

#define WAIT_MS 60000
#define BROWSER_LIMIT_MS 120000
#define DARK "--blink-settings=preferredColorScheme=0"

/* With one more action of the browser's (an option): what it prints. */
static const char *browse(struct scene *s, uint16_t port, const char *size, const char *look, const char *action)
{
	static unsigned profiles;
	const char *const argv[] = {"chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
		"--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
		"--disable-dev-shm-usage", "--hide-scrollbars", "--enable-logging=stderr", "--virtual-time-budget=4000",
		scene_text(s, "--user-data-dir=%s/profile-%u", scene_dir(s), profiles++),
		scene_text(s, "--window-size=%s", size), look, action, scene_text(s, "http://127.0.0.1:%u/", port), NULL};
	const char *output = "";
	int status = program_run(s, argv, BROWSER_LIMIT_MS, &output);

	scene_require(status == 0, "chromium: %d\n%s", status, output);
	/* What a script of ours or the page's policy did wrong stands on the console. */
	scene_require(!strstr(output, "CONSOLE"), "%s", output);
	return output;
}

static void has(const char *page, const char *text)
{
	scene_require(strstr(page, text), "no \"%s\" in\n%s", text, page);
}

static void has_not(const char *page, const char *text)
{
	scene_require(!strstr(page, text), "\"%s\" in\n%s", text, page);
}

static void shoot(struct scene *s, uint16_t port, const char *size, const char *look, const char *name)
{
	const char *path = scene_text(s, TEST_BUILD_DIR "/status-page-%s.png", name), *picture;
	size_t len = 0;

	(void)remove(path);
	(void)browse(s, port, size, look, scene_text(s, "--screenshot=%s", path));
	picture = scene_read(s, path, &len);
	scene_require(picture && len > 10000 && memcmp(picture, "\x89PNG", 4) == 0, "%s: no picture", path);
}

static bool charts_began(uint16_t port)
{
	double up = 0;

	(void)web_metric(web_get(port, "/metrics").body, "mosquitto_redis_stored_total", &up);
	return up >= 300 && strstr(web_get(port, "/status.json").body, "\"in\":[null,null,");
}

static void page_shows_and_trusts_nobody(void **state)
{
	static const char *const hostile[] = {"<script>document.title='owned'</script>",
		"<img src=x onerror=document.title='owned'>", "\"';--\\u003c&amp;"};
	struct scene *scene = *state;
	struct world w;
	uint16_t port = scene_port(scene);
	const char *page;

	world_start(&w, scene, scene_text(scene, "listen 127.0.0.1:%u\nmirror a/# stream s:%%t\n"
		"mirror <b>bold</b>/# stream bold\nredeliver a/# new=all rate=2\n", port), WORLD_BRIDGE);
	struct guest *g = guest_join(&w, "publisher", NULL);
	for (int i = 0; i < 300; i++) guest_publish(g, "a/b", "text", 1);
	for (size_t i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++) {
		guest_subscribe(guest_join(&w, hostile[i], NULL), "a/#", 1);
	}
	web_metric_wait(port, "mosquitto_redis_redelivery_devices", 3, WAIT_MS);
	wait_until(charts_began(port), WAIT_MS, "some samples");
	page = browse(scene, port, "1200,1200", DARK, "--dump-dom");
	has(page, "all good");
	has(page, "&lt;script&gt;document.title='owned'&lt;/script&gt;");
	has(page, "&lt;img src=x onerror=document.title='owned'&gt;");
	has(page, "&amp;amp;</td>");
	has(page, "&lt;b&gt;bold&lt;/b&gt;/# stream bold");
	has(page, "a/# stream s:%t");
	has(page, "<title>mosquitto-redis test</title>");
	has(page, "class=\"plot one\" d=\"M");
	has(page, "300 since the broker started");
	has_not(page, "<img");
	has_not(page, "<b>");
	has_not(page, "<title>owned");
	shoot(scene, port, "1200,1200", "--force-color-profile=srgb", "wide");
	shoot(scene, port, "390,1900", DARK, "phone-dark");
	server_kill(w.broker);
	while (web_get(port, "/health").code != 503) poll_pause();
	page = browse(scene, port, "1200,1200", DARK, "--dump-dom");
	has(page, "<li>the broker is not reachable</li>");
	has(page, ">trouble</span>");
	shoot(scene, port, "1200,1200", "--force-color-profile=srgb", "broker-away");
	server_start(w.broker);
	scene_end(scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {scene_test(page_shows_and_trusts_nobody)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
