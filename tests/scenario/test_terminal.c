/*
 * The command line tool on a real terminal, which is tmux: top fills the screen and leaves it as it was, a question is
 * asked and its answer heeded, completion completes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/harness/guest.h"
#include "tests/harness/store.h"

#define WAIT_MS 60000
#define PROMPT "ready> "

struct terminal {
	struct scene *scene;
	const char *socket;
};

static const char *tmux(struct terminal *t, ...)
{
	const char *argv[24] = {"tmux", "-f", "/dev/null", "-S", t->socket}, *output = "";
	va_list list;
	int argc = 5, code;

	va_start(list, t);
	while (argc < 23 && (argv[argc] = va_arg(list, const char *)) != NULL) argc++;
	va_end(list);
	code = program_run(t->scene, argv, WAIT_MS, &output);
	scene_require(code == 0, "tmux %s: %s", argv[5], output);
	return output;
}

static void end(void *ctx)
{
	struct terminal *t = ctx;
	const char *const argv[] = {"tmux", "-S", t->socket, "kill-server", NULL};

	(void)program_run(t->scene, argv, WAIT_MS, NULL); /* it may be gone */
}

/* Looked at often, so nothing of it is kept. */
static const char *screen(struct terminal *t)
{
	static char text[65536];
	char command[512];
	FILE *p;
	size_t len;

	(void)snprintf(command, sizeof(command), "tmux -f /dev/null -S '%s' capture-pane -p -t x 2>&1", t->socket);
	p = popen(command, "r");
	scene_require(p, "no shell");
	len = fread(text, 1, sizeof(text) - 1, p);
	text[len] = '\0';
	scene_require(pclose(p) == 0, "tmux: %s", text);
	return text;
}

static void keys(struct terminal *t, const char *literal)
{
	(void)tmux(t, "send-keys", "-t", "x", "-l", "--", literal, NULL);
}

static void enter(struct terminal *t, const char *line)
{
	keys(t, line);
	(void)tmux(t, "send-keys", "-t", "x", "Enter", NULL);
}

static void wait_screen(struct terminal *t, const char *text)
{
	uint64_t limit = now_ms() + WAIT_MS;

	while (!strstr(screen(t), text)) {
		scene_require(now_ms() < limit, "the screen never shows \"%s\":\n%s", text, screen(t));
		poll_pause();
	}
}

/* The last line that is not empty. */
static bool at_prompt(struct terminal *t)
{
	const char *text = screen(t);
	size_t len = strlen(text), size = strlen(PROMPT) - 1; /* capture-pane cuts blanks at the end */

	while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == ' ')) len--;
	return len >= size && memcmp(text + len - size, PROMPT, size) == 0 && (len == size || text[len - size - 1] == '\n');
}

/* Nothing is on the screen that a later step might take for its own, and the shell waits. */
static void fresh(struct terminal *t)
{
	enter(t, "clear; echo clean");
	wait_until(strncmp(screen(t), "clean\n" PROMPT, strlen("clean\n" PROMPT) - 1) == 0, WAIT_MS, "an empty screen");
}

static void terminal_open(struct terminal *t, struct world *w)
{
	struct scene *s = w->scene;
	const char *rc = scene_write(s, "rc", scene_text(s, "PS1='" PROMPT "'\nPATH=%s/bridge:$PATH\n. %s/bridge/mosquitto-redis-ctl.bash\n"
		"cd %s\nset +o history\n", TEST_BUILD_DIR, TEST_SOURCE_DIR, scene_dir(s)));

	*t = (struct terminal){.scene = s, .socket = scene_path(s, "tmux")};
	scene_at_end(s, end, t);
	(void)tmux(t, "new-session", "-d", "-s", "x", "-x", "100", "-y", "30",
		scene_text(s, "LC_ALL=C.UTF-8 TERM=screen bash --noprofile --rcfile %s", rc), NULL);
	wait_until(at_prompt(t), WAIT_MS, "the shell's prompt");
}

static void check_top(struct world *w, struct terminal *t)
{
	struct guest *p = guest_join(w, "publisher", NULL);

	enter(t, "mosquitto-redis-ctl -c mosquitto-redis.conf top");
	wait_screen(t, "(q quits)");
	wait_screen(t, "a/# stream a:%t");
	assert_null(strstr(screen(t), PROMPT)); /* all of the screen is its own */
	for (int i = 0; i < 50; i++) guest_publish(p, "a/x", "payload", 1);
	wait_screen(t, "   0           50           50          0        0      0  a/# stream a:%t");
	(void)tmux(t, "resize-window", "-t", "x", "-x", "40", "-y", "8", NULL);
	wait_until(!strstr(screen(t), "RULE"), WAIT_MS, "a frame that fits the smaller screen");
	wait_screen(t, "mosquitto-redis");
	(void)tmux(t, "resize-window", "-t", "x", "-x", "100", "-y", "30", NULL);
	wait_screen(t, "RULE");
	keys(t, "xyq");
	wait_until(at_prompt(t), WAIT_MS, "the prompt, when q was typed");
	assert_null(strstr(screen(t), "(q quits)")); /* what was there before is there again */
	assert_non_null(strstr(screen(t), "top"));
	enter(t, "stty -a | grep -o ' icanon'; echo cursor $?"); /* and so is the terminal's mode */
	wait_screen(t, "cursor 0");

	fresh(t);
	enter(t, "mosquitto-redis-ctl -c mosquitto-redis.conf top");
	wait_screen(t, "(q quits)");
	(void)tmux(t, "send-keys", "-t", "x", "C-c", NULL);
	wait_until(at_prompt(t), WAIT_MS, "the prompt, after Ctrl-C");
}

static void check_question(struct world *w, struct terminal *t)
{
	fresh(t);
	enter(t, "mosquitto-redis-ctl -c mosquitto-redis.conf purge dev; echo code $?");
	wait_screen(t, "Go on? [y/N]");
	enter(t, "n");
	wait_screen(t, "nothing was changed");
	wait_screen(t, "code 1");
	assert_string_equal(store_query(w->db, "HGET", "mqtt:session:dev", "f:a/#", NULL)->str, "1-0");
	fresh(t);
	enter(t, "mosquitto-redis-ctl -c mosquitto-redis.conf purge dev; echo code $?");
	wait_screen(t, "Go on? [y/N]");
	enter(t, "y");
	wait_screen(t, "code 0");
	assert_true(strcmp(store_query(w->db, "HGET", "mqtt:session:dev", "f:a/#", NULL)->str, "1-0") != 0);
	/* A hostile name is asked about without harm. */
	fresh(t);
	enter(t, "mosquitto-redis-ctl -c mosquitto-redis.conf purge $'e\\e[2Jx'; echo code $?");
	wait_screen(t, "device e\\x1b[2Jx would");
	(void)tmux(t, "send-keys", "-t", "x", "Enter", NULL);
	wait_screen(t, "code 1");
}

static void tab(struct terminal *t)
{
	(void)tmux(t, "send-keys", "-t", "x", "Tab", NULL);
}

static void check_completion(struct terminal *t)
{
	fresh(t);
	keys(t, "mosquitto-redis-ctl -c mosquitto-redis.c");
	tab(t);
	wait_screen(t, "-c mosquitto-redis.conf");
	keys(t, "rew"); /* each completion has put a blank behind itself */
	tab(t);
	wait_screen(t, "mosquitto-redis.conf rewind");
	keys(t, "de");
	tab(t);
	wait_screen(t, "rewind dev");
	keys(t, "--t");
	tab(t);
	wait_screen(t, "rewind dev --to");
	keys(t, "-1h --y");
	tab(t);
	wait_screen(t, "--to -1h --yes");
	(void)tmux(t, "send-keys", "-t", "x", "Enter", NULL);
	wait_screen(t, "FILTER");
	wait_until(at_prompt(t), WAIT_MS, "the prompt");
}

static void test_terminal(void **state)
{
	struct scene *s = *state;
	static struct terminal t; /* a failed test is cleaned up behind its end */
	struct world w;

	world_start(&w, s, "mirror a/# stream a:%t\nredeliver a/#\n", 0);
	(void)store_query(w.db, "HSET", "mqtt:session:dev", "f:a/#", "1-0", NULL);
	(void)store_query(w.db, "ZADD", "mqtt:sessions", "1000", "dev", NULL);
	terminal_open(&t, &w);
	check_top(&w, &t);
	check_question(&w, &t);
	check_completion(&t);
	scene_end(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_terminal),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
