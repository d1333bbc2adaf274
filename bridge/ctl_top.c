/*
 * `top`: the books and their rates as they change, on the whole screen of a terminal, by plain ANSI sequences. Without a
 * terminal the same text is printed again and again. Blocks; reads only. It must leave the terminal as it found it, and
 * must never send it a control character that somebody else wrote into Redis.
 */
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "bridge/ctl_args.h"
#include "bridge/ctl_books.h"
#include "bridge/ctl_redis.h"
#include "bridge/ctl_terminal.h"
#include "bridge/ctl_time.h"
#include "bridge/tally.h"
#include "config/keys.h"

#define EVERY_MS 1000
#define RULES_MAX 64
#define SCREEN_ENTER "\033[?1049h\033[?25l"
#define SCREEN_LEAVE "\033[?25h\033[?1049l"

/* What is shown with a rate. */
static const char *const totals[] = {"in", "stored", "queued", "dropped", "dead", "refused", "retries", "reconnects", "held",
	"redelivered"};

#define TOTALS (sizeof(totals) / sizeof(totals[0]))

struct sample {
	uint64_t at_ms, plugin_ms; /* ours; when the plugin wrote it, 0 for never */
	uint64_t total[TOTALS], queued_bytes, queued_age, sessions;
	bool redis_ready;
};

struct top {
	struct settings *settings;
	struct ctl_redis *redis;
	bool screen, json;
	struct termios before;
	struct sample now, last;
	bool have_last;
	redisReply *status;
	char trouble[256]; /* Redis is not reached; empty: it is */
	struct buf frame;
};

/* --- gathering ------------------------------------------------------------------------------------------------- */

static redisReply *ask(struct top *t, const char *command, enum key_kind kind, struct slice last)
{
	struct buf key = {0};
	struct slice argv[2] = {slice_str(command), key_make(&key, settings_keys(t->settings), kind, last)};
	redisReply *reply = key.failed ? NULL : ctl_redis_command(t->redis, 2, argv);

	buf_free(&key);
	if (!reply) {
		snprintf(t->trouble, sizeof(t->trouble), "%s", ctl_redis_error(t->redis));
		ctl_redis_close(t->redis);
		t->redis = NULL;
	}
	return reply;
}

static void gather(struct top *t)
{
	struct sample s = {.at_ms = ctl_time_now()};
	struct buf questions = {0};
	const char *why;

	if (t->status) freeReplyObject(t->status);
	t->status = NULL;
	if (!t->redis) t->redis = ctl_redis_connect(t->settings, t->trouble, sizeof(t->trouble));
	if (t->redis) t->status = ask(t, "HGETALL", KEY_STATUS, slice_str(t->settings->node));
	if (!t->status) return;
	t->trouble[0] = '\0';
	size_t count = tally_sessions(&questions, t->settings);
	(void)ctl_redis_sum(t->redis, &questions, count, &s.sessions, &why); /* a lost connection shows at the next look */
	buf_free(&questions);
	for (size_t i = 0; i < TOTALS; i++) s.total[i] = ctl_books_number(t->status, totals[i]);
	s.queued_bytes = ctl_books_number(t->status, "queued_bytes");
	s.queued_age = ctl_books_number(t->status, "queued_age");
	s.plugin_ms = ctl_books_number(t->status, "time");
	s.redis_ready = ctl_books_number(t->status, "redis_ready") > 0;
	/* Two samples of one report would show no rate at all. */
	if (s.plugin_ms != t->now.plugin_ms || !t->have_last) {
		t->last = t->now;
		t->have_last = t->now.plugin_ms > 0;
		t->now = s;
	} else {
		t->now.at_ms = s.at_ms;
		t->now.sessions = s.sessions;
	}
}

/* A second, between the last two reports; a counter that went back was begun anew. */
static uint64_t rate(const struct top *t, size_t i)
{
	uint64_t ms = t->now.plugin_ms - t->last.plugin_ms;

	if (!t->have_last || t->now.plugin_ms <= t->last.plugin_ms || t->now.total[i] < t->last.total[i]) return 0;
	return (t->now.total[i] - t->last.total[i]) * 1000 / ms;
}

/* --- the frame ------------------------------------------------------------------------------------------------- */

static void line(struct top *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void line(struct top *t, const char *fmt, ...)
{
	char text[1024], shown[1024];
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, args); /* what is longer than any screen is cut */
	va_end(args);
	buf_append_str(&t->frame, log_printable(text, strlen(text), shown, sizeof(shown)));
	buf_append_str(&t->frame, "\n");
}

static void head(struct top *t)
{
	char when[CTL_TIME_TEXT_MAX], span[CTL_TIME_TEXT_MAX];
	uint64_t now = ctl_time_now(), age = now > t->now.plugin_ms ? now - t->now.plugin_ms : 0;

	line(t, "mosquitto-redis %s   %s   node %s   prefix %s%s", MQR_VERSION, ctl_time_format(now, when), t->settings->node,
		t->settings->prefix, t->screen ? "   (q quits)" : "");
	line(t, "redis    %s%s%s", t->settings->redis_url, t->trouble[0] ? ": " : "", t->trouble);
	if (t->now.plugin_ms == 0)
		line(t, "plugin   has not reported (is it loaded, with this redis_url, prefix, node?)");
	else
		line(t, "plugin   reported %s ago, redis %s, journal %" PRIu64 " KiB in use, oldest %s", ctl_time_span(age, span),
			t->now.redis_ready ? "connected" : "not connected", t->now.queued_bytes >> 10,
			ctl_time_span(t->now.queued_age, when));
	line(t, "devices  %" PRIu64 " known", t->now.sessions);
}

static void body(struct top *t)
{
	struct ctl_rule_line rules[RULES_MAX];
	size_t count = ctl_books_rules(t->status, rules, RULES_MAX);

	line(t, "%s", "");
	line(t, "%-14s %14s %12s", "", "TOTAL", "A SECOND");
	for (size_t i = 0; i < TOTALS; i++) {
		if (strcmp(totals[i], "queued") == 0) line(t, "%-14s %14" PRIu64, totals[i], t->now.total[i]);
		else line(t, "%-14s %14" PRIu64 " %12" PRIu64, totals[i], t->now.total[i], rate(t, i));
	}
	line(t, "%s", "");
	line(t, "%4s %12s %12s %10s %8s %6s  %s", "RULE", "IN", "STORED", "QUEUED", "DROPPED", "DEAD", "");
	for (size_t i = 0; i < count; i++) {
		const struct ctl_rule_line *r = &rules[i];

		line(t, "%4s %12" PRIu64 " %12" PRIu64 " %10" PRIu64 " %8" PRIu64 " %6" PRIu64 "  %s", r->number, r->value[0],
			r->value[1], r->value[2], r->value[3], r->value[4], r->text);
	}
}

static void frame_json(struct top *t)
{
	struct buf *out = &t->frame;

	buf_append_str(out, "{");
	ctl_json_number(out, "time", ctl_time_now());
	ctl_json_text(out, "node", slice_str(t->settings->node));
	ctl_json_text(out, "error", slice_str(t->trouble[0] ? t->trouble : NULL));
	ctl_json_number(out, "plugin_time", t->now.plugin_ms);
	ctl_json_number(out, "queued_bytes", t->now.queued_bytes);
	ctl_json_number(out, "queued_age", t->now.queued_age);
	ctl_json_number(out, "sessions", t->now.sessions);
	for (size_t i = 0; i < TOTALS; i++) ctl_json_number(out, totals[i], t->now.total[i]);
	ctl_json_name(out, "per_second");
	buf_append_str(out, "{");
	for (size_t i = 0; i < TOTALS; i++) {
		if (strcmp(totals[i], "queued") != 0) ctl_json_number(out, totals[i], rate(t, i));
	}
	buf_append_str(out, "}}");
}

/* --- the screen ------------------------------------------------------------------------------------------------ */

/* Bytes of the first `columns` characters. */
static size_t fitting(struct slice text, size_t columns)
{
	size_t i = 0, n = 0;

	for (; i < text.len; i++) {
		if (((unsigned char)text.data[i] & 0xc0) != 0x80 && n++ == columns) break;
	}
	return i;
}

static void paint(const struct top *t)
{
	struct winsize size = {.ws_row = 24, .ws_col = 80};
	struct slice rest = slice_of(t->frame.data, t->frame.len);

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row == 0 || size.ws_col == 0) {
		size.ws_row = 24;
		size.ws_col = 80;
	}
	(void)fputs("\033[H", stdout);
	for (unsigned row = 0; row < size.ws_row && rest.len > 0; row++) {
		const char *end = memchr(rest.data, '\n', rest.len);
		size_t len = end ? (size_t)(end - rest.data) : rest.len;

		(void)fwrite(rest.data, 1, fitting(slice_of(rest.data, len), size.ws_col), stdout);
		(void)fputs(row + 1u < size.ws_row ? "\033[K\r\n" : "\033[K", stdout);
		rest = slice_of(rest.data + len + (end != NULL), rest.len - len - (end != NULL));
	}
	(void)fputs("\033[J", stdout);
}

static bool show(struct top *t)
{
	buf_clear(&t->frame);
	gather(t);
	if (t->json) {
		frame_json(t);
		return ctl_json_print(&t->frame) && fflush(stdout) == 0;
	}
	head(t);
	if (t->status) body(t);
	if (t->frame.failed) return false;
	if (t->screen) paint(t);
	else printf("%.*s\n", (int)t->frame.len, t->frame.data);
	return fflush(stdout) == 0;
}

static void enter(struct top *t)
{
	struct termios raw;

	t->screen = !t->json && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && tcgetattr(STDIN_FILENO, &t->before) == 0;
	if (!t->screen) return;
	raw = t->before;
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	raw.c_cc[VMIN] = 0;
	raw.c_cc[VTIME] = 0;
	(void)tcsetattr(STDIN_FILENO, TCSANOW, &raw); /* without it q needs Enter behind it */
	(void)fputs(SCREEN_ENTER, stdout);
}

static void leave(const struct top *t)
{
	if (!t->screen) return;
	(void)fputs(SCREEN_LEAVE, stdout);
	(void)fflush(stdout);
	(void)tcsetattr(STDIN_FILENO, TCSANOW, &t->before);
}

/* True: it is to end. A signal (a resize, too) ends the wait. */
static bool wait_key(const struct top *t)
{
	struct pollfd in = {.fd = t->screen ? STDIN_FILENO : -1, .events = POLLIN};
	char keys[16];
	ssize_t n;

	if (poll(&in, 1, EVERY_MS) <= 0 || !(in.revents & (POLLIN | POLLHUP | POLLERR))) return ctl_interrupted();
	n = read(STDIN_FILENO, keys, sizeof(keys));
	if (n <= 0) return true; /* the terminal is gone */
	return ctl_interrupted() || memchr(keys, 'q', (size_t)n) || memchr(keys, 'Q', (size_t)n);
}

int ctl_top_run(const struct ctl_call *call)
{
	struct top *t = calloc(1, sizeof(*t));
	bool json = false;
	const struct ctl_option options[] = {{"--json", &json, NULL}, {NULL, NULL, NULL}};
	int code = t ? ctl_args(call, options, NULL, 0, 0) : CTL_PROBLEM;

	if (code == CTL_OK) code = ctl_connect(call, &t->settings, &t->redis);
	if (code == CTL_OK) {
		t->json = json;
		ctl_catch_interrupt();
		enter(t);
		while (show(t) && !wait_key(t)) {
			/* until q */
		}
		leave(t);
		if (t->status) freeReplyObject(t->status);
		if (t->redis) ctl_redis_close(t->redis);
		settings_free(t->settings);
		buf_free(&t->frame);
	}
	free(t);
	return code;
}
