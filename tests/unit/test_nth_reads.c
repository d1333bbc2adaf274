/*
 * What the bridge reads from Redis, with each allocation failing in turn (tests/faults/nth.h): a pass over a device's history, its
 * cursor, the mark, a round of housekeeping, the lock, a whole catch-up. Each comes to its end, or says that memory was short, and leaves nothing out
 * silently. No server: redis_link_send stands here, and the test answers what it was asked.
 */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include <hiredis/hiredis.h>

#include "bridge/device_read.h"
#include "bridge/lock.h"
#include "bridge/scheduler.h"
#include "bridge/sweep.h"
#include "config/keys.h"
#include "tests/faults/nth.h"

#define COMMANDS_MAX 256
#define ASKED_MAX 4
#define PACKETS_MAX 8
/* Some keys need just what a text is given at first, others more. */
#define PREFIX "a-prefix-of-so-many-characters-that-keys-get-long-3456789"

/* --- a link -------------------------------------------------------------------------------------------------------------- */

struct question {
	redis_reply_fn *fn;
	void *ctx;
	size_t replies;
	struct buf sent; /* the commands */
};

static struct question asked[ASKED_MAX];
static size_t asked_count;

enum status redis_link_send(struct redis_link *link, const struct buf *commands, size_t replies, unsigned deadline_ms,
	redis_reply_fn *fn, void *ctx)
{
	(void)link, (void)deadline_ms;
	if (commands->failed) return ST_NOMEM; /* as the real one */
	bool failing = atomic_load(&fault_own()->kind) != FAULT_NONE;
	nth_off(); /* what is ours */
	assert_true(asked_count < ASKED_MAX);
	struct question *q = &asked[asked_count++];
	*q = (struct question){.fn = fn, .ctx = ctx, .replies = replies, .sent = q->sent};
	buf_clear(&q->sent);
	buf_append(&q->sent, commands->data, commands->len);
	if (failing) nth_on();
	return ST_OK;
}

bool redis_link_is_ready(const struct redis_link *link)
{
	(void)link;
	return true;
}

static redisReply *parsed(redisReader *reader)
{
	void *reply = NULL;

	assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_OK);
	assert_non_null(reply);
	return reply;
}

static redisReply *reply_of(const char *text, size_t len)
{
	redisReader *reader = redisReaderCreate();

	assert_non_null(reader);
	assert_int_equal(redisReaderFeed(reader, text, len), REDIS_OK);
	redisReply *reply = parsed(reader);
	redisReaderFree(reader);
	return reply;
}

/* --- a clock ------------------------------------------------------------------------------------------------------------- */

static uint64_t skew_ms; /* what it is ahead, so that nothing is waited for */

__attribute__((visibility("default"))) int clock_gettime(clockid_t id, struct timespec *out) /* for libuv, too */
{
	int result = (int)syscall(SYS_clock_gettime, id, out);

	out->tv_sec += (time_t)(skew_ms / 1000);
	return result;
}

/* --- a Redis -------------------------------------------------------------------------------------------------------------- */

/* Its session's key needs more than any other. */
#define LONG_NAME "a-device-of-seventy-characters-678901234567890123456789012345678901234"
#define TEXT(x) {x, sizeof(x) - 1}
#define FIELDS(topic) "*4\r\n$5\r\ntopic\r\n$5\r\n" topic "\r\n$7\r\npayload\r\n$1\r\nx\r\n"
#define ENTRY(id, topic) "*2\r\n$4\r\n" id "\r\n" FIELDS(topic)
#define EXPIRED(id) "*2\r\n$4\r\n" id "\r\n*6\r\n$5\r\ntopic\r\n$5\r\ndev/a\r\n$7\r\npayload\r\n$1\r\nx\r\n$6\r\nexpiry\r\n$1\r\n5\r\n"
#define ELEMENT(id, topic) "$48\r\n{\"id\":\"" id "\",\"topic\":\"" topic "\",\"payload\":\"xxxx\"}\r\n"
#define MEMBERS "*10\r\n$16\r\nss:far\0far/a/way\r\n$2\r\n50\r\n$12\r\nss:odd\0odd/x\r\n$2\r\n50\r\n$12\r\nss:two\0two/x\r\n$2\r\n60\r\n$5\r\nwrong\r\n$2\r\n60\r\n$7\r\n" \
	"sp:to\0x\r\n$2\r\n60\r\n"

static unsigned calls_left = UINT_MAX; /* until memory is there again for good */

/* As NTH_DO. */
#define within(call) do { if (calls_left > 0) calls_left--, nth_on(); call; nth_off(); } while (0)

static bool last_two; /* the cursor says "last=2" */
static bool wide; /* the device's hash is read in steps */

struct text {
	const char *bytes;
	size_t len;
};

static bool is(const redisReply *command, const char *name)
{
	return strcmp(command->element[0]->str, name) == 0;
}

static bool long_stream; /* s:dev has 100-0 to 159-0 instead */

static struct text long_reply(const char *from, size_t most)
{
	static char reply[16384];
	char entries[16000];
	size_t len = 0, count = 0;
	unsigned long id = strtoul(from + (from[0] == '('), NULL, 10) + (from[0] == '(');

	for (id = id < 100 ? 100 : id; id < 160 && count < most; id++, count++)
		len += (size_t)snprintf(entries + len, sizeof(entries) - len, "*2\r\n$5\r\n%lu-0\r\n" FIELDS("dev/a"), id);
	size_t all = (size_t)snprintf(reply, sizeof(reply), "*%zu\r\n%.*s", count, (int)len, entries);
	assert_true(len < sizeof(entries) && all < sizeof(reply));
	return (struct text){reply, all};
}

static struct text stream_reply(const redisReply *command, bool backwards)
{
	static const struct text both = TEXT("*3\r\n" ENTRY("20-0", "dev/a") EXPIRED("21-0") ENTRY("30-0", "dev/b")),
		back = TEXT("*2\r\n" ENTRY("30-0", "dev/b") ENTRY("20-0", "dev/a")),
		odd = TEXT("*1\r\n" ENTRY("25-0", "odd/x")), event = TEXT("*1\r\n" ENTRY("40-0", "x/xxx")), none = TEXT("*0\r\n");
	const char *key = command->element[1]->str, *from = command->element[2]->str;

	if (strstr(key, "events")) return event;
	if (long_stream && strcmp(key, "s:dev") == 0) return long_reply(from, strtoul(command->element[5]->str, NULL, 10));
	if (from[0] == '(' && atol(from + 1) >= 20 && (backwards || atol(from + 1) >= 25)) return none;
	if (strcmp(key, "s:dev") == 0) return backwards ? back : both;
	return strcmp(key, "s:odd") == 0 ? odd : none;
}

static struct text answer_to(const redisReply *command)
{
	static const struct text none = TEXT("*0\r\n"), id = TEXT("$4\r\n55-0\r\n"),
		nodes = TEXT("*2\r\n$3\r\nown\r\n$1\r\nb\r\n"), members = TEXT(MEMBERS),
		cursor = TEXT("*4\r\n$3\r\n5-0\r\n$3\r\n7-0\r\n$22\r\n7-0 60-0 5-0 neighbour\r\n$1\r\n9\r\n"),
		counted = TEXT("*4\r\n$12\r\nlast=2@900-0\r\n$12\r\nlast=2@900-0\r\n$-1\r\n$-1\r\n"),
		list = TEXT("*2\r\n" ELEMENT("24-0", "jobs/aa") ELEMENT("22-0", "jobs/aa")),
		step = TEXT("*2\r\n$70\r\n" LONG_NAME "\r\n*4\r\n$11\r\ns@own dev/a\r\n$3\r\n1-0\r\n$78\r\nu@b dev/" LONG_NAME
			"\r\n$3\r\n1-0\r\n"),
		last_step = TEXT("*2\r\n$1\r\n0\r\n*0\r\n"),
		of_two = TEXT("*13\r\n$-1\r\n$3\r\n1-0\r\n$3\r\n9-0\r\n$3\r\n2-0\r\n$-1\r\n$-1\r\n$-1\r\n"
			"$-1\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n$7\r\n3-0 4-0\r\n");

	if (is(command, "XRANGE") || is(command, "XREVRANGE")) return stream_reply(command, is(command, "XREVRANGE"));
	if (is(command, "LRANGE")) return strcmp(command->element[2]->str, "0") == 0 ? list : none;
	if (is(command, "ZRANGEBYSCORE")) return strcmp(command->element[2]->str, "10") == 0 ? members : none;
	if (is(command, "ZRANGE")) return nodes;
	if (is(command, "HSCAN") && wide) return strcmp(command->element[2]->str, "0") == 0 ? step : last_step;
	if (is(command, "HMGET") && command->elements > 8) return of_two;
	if (is(command, "HMGET")) return last_two ? counted : cursor;
	if (is(command, "GET") || is(command, "HGET")) return id;
	return none;
}

static void answer_one(const struct question *q)
{
	redisReply *commands[COMMANDS_MAX];
	redisReader *reader = redisReaderCreate();

	assert_non_null(reader);
	assert_true(q->replies <= COMMANDS_MAX);
	assert_int_equal(redisReaderFeed(reader, q->sent.data, q->sent.len), REDIS_OK);
	for (size_t i = 0; i < q->replies; i++) commands[i] = parsed(reader);
	redisReaderFree(reader);
	for (size_t i = 0; i < q->replies; i++) {
		struct text text = answer_to(commands[i]);
		redisReply *reply = reply_of(text.bytes, text.len);
		within(q->fn(q->ctx, reply, i));
		freeReplyObject(reply);
		freeReplyObject(commands[i]);
	}
}

/* To everything asked, and to what is asked next for it. */
static void redis_answers(void)
{
	for (int rounds = 0; asked_count > 0; rounds++) {
		struct question q = asked[0];
		assert_true(rounds < 100);
		asked_count--;
		memmove(asked, asked + 1, asked_count * sizeof(asked[0]));
		asked[asked_count].sent = (struct buf){0};
		answer_one(&q);
		buf_free(&q.sent);
	}
}

/* --- a bridge -------------------------------------------------------------------------------------------------------------- */

static struct settings *settings, *cluster;
static struct fetch_env env;

static void ignore(void *ctx, enum log_level level, const char *line)
{
	(void)ctx, (void)level, (void)line;
}

static const struct log_sink quiet = {ignore, NULL};

static uint64_t wall(void)
{
	return UINT64_C(1700000000000);
}

static int setup(void **state)
{
	const struct setting_override lines[] = {{"mirror", "dev/# stream s:dev maxage=10s"}, {"mirror", "jobs/# list l:jobs"},
		{"mirror", "odd/x stream s:%1"}, {"node", "own"}, {"redeliver", "#"}, {"prefix", PREFIX}, {"session_ttl", "100s"},
		{"redis_url", "redis+cluster://127.0.0.1:1"}};
	char why[512];

	(void)state;
	if (settings_load(NULL, lines, 7, NULL, &settings, why, sizeof(why)) != ST_OK) fail_msg("%s", why);
	if (settings_load(NULL, lines, 8, NULL, &cluster, why, sizeof(why)) != ST_OK) fail_msg("%s", why);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	settings_free(settings);
	settings_free(cluster);
	for (size_t i = 0; i < ASKED_MAX; i++) buf_free(&asked[i].sent);
	return 0;
}

/* --- a pass ---------------------------------------------------------------------------------------------------------------- */

static struct {
	bool over, finished;
	enum status st;
	size_t count;
} pass;

static void on_chunk(void *ctx, const struct fetch_chunk *c)
{
	(void)ctx;
	pass.over = true;
	pass.finished = c->finished;
	pass.st = c->st;
	pass.count += c->count;
}

static void one_pass(struct fetch *f, size_t count)
{
	memset(&pass, 0, sizeof(pass));
	for (int steps = 0; !pass.finished && pass.st == ST_OK; steps++) {
		assert_true(steps < 20);
		pass.over = false;
		NTH_DO(fetch_step(f, count, FETCH_BYTES, on_chunk, NULL));
		redis_answers();
		assert_true(pass.over);
	}
}

/* Whatever failed: the pass ends with all that is there, or says that memory was short. */
static void history_of(struct settings *s, uint16_t node, size_t wanted, size_t count)
{
	static char dev[] = "dev/#", jobs[] = "jobs/#", odd[] = "+/x";
	const struct catch_up_filter all = {.qos = 1, .node = node, .known = true, .position = {10, 0}, .start = {10, 0},
		.end = {1000, 0}};
	struct catch_up_filter filters[3] = {all, all, all};
	struct fetch *f = NULL;

	filters[0].filter = dev;
	filters[1].filter = jobs;
	filters[2].filter = odd;
	assert_int_equal(node_names_new("own", &env.nodes), ST_OK);
	/* Much at once, and no room to read it. */
	env = (struct fetch_env){.settings = s, .nodes = env.nodes, .log = &quiet, .wall_ms = wall, .ahead_bytes = count > 1};
	if (NTH_OK(fetch_new(&env, filters, 3, (struct entry_id){1000, 0}, false, &f))) {
		one_pass(f, count);
		if (pass.st == ST_OK) assert_int_equal(pass.count, wanted);
		else assert_true(pass.st == ST_NOMEM && nth_fired());
		fetch_free(f);
	}
	node_names_free(env.nodes);
}

static void history(void)
{
	history_of(settings, NODE_OWN, 5, 1);
}

/* What is read ahead of a step, and no step waits for, is lost for want of memory: the next step says so. */
static void history_read_ahead(void)
{
	long_stream = true;
	history_of(settings, NODE_OWN, 63, 4);
	long_stream = false;
}

static void history_of_all_nodes(void)
{
	struct mirror_rule *retired = settings->retired;

	settings->retired = settings->mirrors; /* written by a rule of before, too */
	settings->retired_count = 1;
	history_of(settings, NODE_EVERY, 5, 100000);
	settings->retired = retired;
	settings->retired_count = 0;
}

static void history_on_a_cluster(void)
{
	history_of(cluster, NODE_OWN, 5, 1);
}

/* --- small reads ------------------------------------------------------------------------------------------------------------- */

static struct {
	unsigned calls;
	enum status st;
	struct entry_id id;
	size_t debts, had;
	bool whole;
} small;

static void on_answer(void *ctx, const struct device_read_answer *a)
{
	(void)ctx;
	small.calls++;
	small.st = a->st;
	small.id = a->id;
	small.debts = a->debt_count;
	small.had = a->had_count;
	small.whole = a->had_whole;
}

/* True when it was answered with success; else memory was short. */
static bool answered(enum status begun)
{
	if (!nth_ok(begun)) {
		assert_int_equal(small.calls, 0);
		return false;
	}
	redis_answers();
	assert_int_equal(small.calls, 1);
	if (small.st == ST_OK) return true;
	assert_true(small.st == ST_NOMEM && nth_fired());
	return false;
}

static void cursor_of(bool last)
{
	static char dev[] = "dev/#";
	const struct catch_up_filter filter = {.filter = dev, .qos = 1, .subscribed = {1000, 0}, .node = NODE_OWN};
	struct device_read *r = NULL;

	memset(&small, 0, sizeof(small));
	last_two = last;
	assert_int_equal(node_names_new("own", &env.nodes), ST_OK);
	env = (struct fetch_env){.settings = settings, .nodes = env.nodes, .log = &quiet, .wall_ms = wall};
	nth_on();
	if (answered(device_read_cursor(&env, slice_str("d"), &filter, 1, 0, READ_FIRST, on_answer, NULL, &r)))
		assert_int_equal(small.id.ms, last ? 19 : 7);
	node_names_free(env.nodes);
}

static void cursor(void)
{
	cursor_of(false);
}

static void cursor_counted_back(void)
{
	cursor_of(true);
}

/* All of what it has had, but for what was left out for want of memory. */
static void cursor_of_a_wide_hash(void)
{
	wide = true;
	cursor_of(false);
	wide = false;
	if (small.calls > 0 && small.st == ST_OK) assert_true((small.had == 2 || nth_fired()) && !small.whole);
}

static void replay(void)
{
	static char dev[] = "dev/#";
	const struct catch_up_filter filter = {.filter = dev, .qos = 1, .replay = true, .replay_last = 1, .end = {1000, 0}};
	struct device_read *r = NULL;

	memset(&small, 0, sizeof(small));
	assert_int_equal(node_names_new("own", &env.nodes), ST_OK);
	env = (struct fetch_env){.settings = settings, .nodes = env.nodes, .log = &quiet, .wall_ms = wall};
	nth_on();
	if (answered(device_read_replay(&env, &filter, on_answer, NULL, &r))) assert_int_equal(small.id.ms, 29);
	node_names_free(env.nodes);
}

static void mark(void)
{
	struct device_read *r = NULL;

	memset(&small, 0, sizeof(small));
	env = (struct fetch_env){.settings = settings, .log = &quiet, .wall_ms = wall};
	nth_on();
	if (answered(device_read_mark(&env, on_answer, NULL, &r))) assert_int_equal(small.id.ms, 55);
}

/* --- housekeeping ------------------------------------------------------------------------------------------------------------ */

static bool serving(void *ctx, struct slice client)
{
	(void)ctx, (void)client;
	return false;
}

static uint64_t sweep_clock(void *ctx)
{
	(void)ctx;
	return 1000000000;
}

#define SESSIONS_SCRIPT "'^live@"

/* What a page is answered with; all else is nothing. */
static struct text page_of(const struct buf *sent, bool on_cluster)
{
	static const struct text none = TEXT("*0\r\n"), time = TEXT("*2\r\n$7\r\n1000000\r\n$1\r\n0\r\n"), members = TEXT(MEMBERS),
		gone = TEXT("*3\r\n:0\r\n:0\r\n:1\r\n"),
		one = TEXT("*3\r\n:0\r\n:0\r\n$1\r\n1\r\n"), four = TEXT("*3\r\n:0\r\n:0\r\n$4\r\n1111\r\n"),
		sessions = TEXT("*2\r\n$70\r\n" LONG_NAME "\r\n$2\r\n50\r\n"),
		boots = TEXT("*2\r\n$3\r\n1-0\r\n$3\r\n9-9\r\n"), number = TEXT(":1\r\n");

	if (memmem(sent->data, sent->len, "TIME", 4)) return time;
	if (memmem(sent->data, sent->len, "HDEL", 4)) return number;
	if (memmem(sent->data, sent->len, "EVAL", 4)) {
		if (memmem(sent->data, sent->len, ":sessions", 9)) return one;
		return on_cluster && memmem(sent->data, sent->len, "XTRIM", 5) ? gone : four;
	}
	if (memmem(sent->data, sent->len, "HGETALL", 7)) return boots; /* in a script, too */
	if (!memmem(sent->data, sent->len, "ZRANGEBYSCORE", 13)) return none;
	return memmem(sent->data, sent->len, "sessions", 8) ? sessions : members;
}

/* A round ends, whatever failed; the next one does what it has not done. With all the memory it goes to its end. */
static void round_of(const struct settings *s)
{
	const struct sweep_config config = {.settings = s, .serving = serving, .wall_ms = sweep_clock, .key_quiet_ms = 60000};
	struct sweep *sweep = NULL;
	struct buf commands = {0};
	bool goes_on = true, refused = false;

	if (!NTH_OK(sweep_new(&config, &sweep))) return;
	NTH_DO(sweep_begin(sweep, true, true));
	for (int steps = 0; goes_on; steps++) {
		assert_true(steps < 2000);
		buf_clear(&commands);
		nth_on();
		size_t count = sweep_ask(sweep, &commands);
		nth_off();
		assert_true(!commands.failed || nth_fired());
		goes_on = count > 0 && !commands.failed;
		/* Whole, or not at all. */
		if (goes_on && memmem(commands.data, commands.len, SESSIONS_SCRIPT, strlen(SESSIONS_SCRIPT)))
			assert_non_null(memmem(commands.data, commands.len, PREFIX ":session:", strlen(PREFIX ":session:")));
		if (goes_on && memmem(commands.data, commands.len, "HDEL", 4)) assert_non_null(memmem(commands.data, commands.len, "1-0", 3));
		struct text text = goes_on ? page_of(&commands, s == cluster) : (struct text){NULL, 0};
		for (size_t i = 0; goes_on && i < count; i++) {
			redisReply *reply = reply_of(text.bytes, text.len);
			nth_on();
			goes_on = sweep_take(sweep, reply);
			nth_off();
			refused = !goes_on;
			freeReplyObject(reply);
		}
	}
	assert_true(nth_fired() || (!refused && sweep_done(sweep)->boots == 1));
	buf_free(&commands);
	sweep_free(sweep);
}

static void housekeeping(void)
{
	round_of(settings);
}

static void housekeeping_on_a_cluster(void)
{
	round_of(cluster);
}

/* --- the lock ---------------------------------------------------------------------------------------------------------------- */

static unsigned held, closed;

static void on_held(void *ctx, uint64_t fence)
{
	(void)ctx;
	assert_int_equal(fence, 17);
	held++;
}

static void on_lost(void *ctx)
{
	(void)ctx;
}

static void on_closed(void *ctx)
{
	(void)ctx;
	closed++;
}

static void given(const char *text)
{
	if (asked_count == 0) return; /* it had no memory to ask */
	redisReply *reply = reply_of(text, strlen(text));
	asked_count = 0;
	NTH_DO(asked[0].fn(asked[0].ctx, reply, 0));
	freeReplyObject(reply);
}

/* What could not be asked is asked the next time. */
static void locking(void)
{
	static const struct lock_calls calls = {on_held, on_lost, NULL};
	static const char mine[] = "*2\r\n$2\r\n17\r\n$9\r\n17 host/1\r\n";
	struct lock *l = NULL;
	uv_loop_t loop;

	held = closed = 0;
	assert_int_equal(uv_loop_init(&loop), 0);
	if (NTH_OK(lock_new(&loop, settings, &quiet, NULL, &calls, &l))) {
		NTH_DO(lock_ready(l));
		assert_true(asked_count > 0 || nth_fired());
		given(mine);
		if (held == 0) {
			lock_ready(l);
			given(mine);
		}
		assert_int_equal(held, 1);
		NTH_DO(lock_close(l, on_closed, NULL));
		asked_count = 0;
		assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
		assert_int_equal(closed, 1);
	}
	assert_int_equal(uv_loop_close(&loop), 0);
}

/* --- a whole catch-up --------------------------------------------------------------------------------------------------------- */

static struct scheduler *scheduler;
static struct buf packets[PACKETS_MAX]; /* to the plugin, not acknowledged */
static size_t packet_count;
static bool again, had_20, had_30;
static unsigned switches;

static enum status on_send(void *ctx, struct slice payload)
{
	bool failing = atomic_load(&fault_own()->kind) != FAULT_NONE;

	(void)ctx;
	nth_off();
	assert_true(packet_count < PACKETS_MAX);
	buf_clear(&packets[packet_count]);
	buf_append_slice(&packets[packet_count++], payload);
	if (failing) nth_on();
	return ST_OK;
}

static struct entry_id on_position(void *ctx)
{
	(void)ctx;
	return ENTRY_ID_MAX;
}

static void on_turned(void *ctx)
{
	(void)ctx;
}

static void on_again(void *ctx)
{
	(void)ctx;
	again = true;
}

static void acknowledge(const struct buf *packet)
{
	struct control_command c, ack;
	struct message m;

	assert_int_equal(control_decode(slice_of(packet->data, packet->len), &c), ST_OK);
	for (struct slice rest = c.messages; c.type == CONTROL_BATCH && control_message_next(&rest, &m);) {
		assert_true(m.id.ms != 30 || had_20);
		had_20 |= m.id.ms == 20;
		had_30 |= m.id.ms == 30;
	}
	switches += c.type == CONTROL_SWITCH;
	ack = (struct control_command){.device = c.device, .generation = c.generation, .sequence = c.sequence, .result = CONTROL_DONE,
		.head = {1500, 0}};
	within(scheduler_ack(scheduler, &ack));
}

static void plugin_answers(void)
{
	size_t count = packet_count;

	packet_count = 0; /* no acknowledgement sends at once */
	for (size_t i = 0; i < count; i++) acknowledge(&packets[i]);
}

/* What the plugin tells when it is asked for everything. */
static void device_comes(void)
{
	const struct device_event e = {.op = DEVICE_OP_SUBSCRIBED, .id = {1000, 0}, .client = slice_str("d"), .generation = {1000, 0},
		.filter = slice_str("dev/#"), .qos = 1};

	again = false;
	within(scheduler_event(scheduler, &e));
}

/* The device is given everything, in order, and goes live; or the plugin is asked anew, and then it is. */
static void catching_up(void)
{
	struct pace pace;
	uv_loop_t loop;
	const struct scheduler_deps deps = {.loop = &loop, .settings = settings, .log = &quiet, .pace = &pace, .send = on_send,
		.events_position = on_position, .turned = on_turned, .again = on_again};

	calls_left = 60;
	switches = 0;
	had_20 = had_30 = last_two = false;
	assert_int_equal(uv_loop_init(&loop), 0);
	pace_init(&pace, uv_hrtime() / 1000);
	if (NTH_OK(scheduler_new(&deps, &scheduler))) {
		scheduler_open(scheduler, true, 0);
		device_comes();
		for (int turns = 0; switches == 0; turns++) {
			if (turns > 2000) fail_msg("it does not end; failed: %s (%llu)", fault_own()->where, (unsigned long long)atomic_load(&fault_own()->nth));
			if (again) {
				scheduler_reset(scheduler);
				device_comes();
			}
			within((void)uv_run(&loop, UV_RUN_NOWAIT));
			redis_answers();
			plugin_answers();
			if (asked_count == 0 && packet_count == 0) skew_ms += 1000;
		}
		assert_true(had_20 && had_30);
		scheduler_close(scheduler, NULL, NULL);
		redis_answers();
		assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
	}
	assert_int_equal(uv_loop_close(&loop), 0);
	for (size_t i = 0; i < PACKETS_MAX; i++) buf_free(&packets[i]);
	calls_left = UINT_MAX;
}

#define SWEEP(name) \
	static void test_##name(void **state) \
	{ \
		(void)state; \
		nth_sweep(name); \
	}

SWEEP(history)
SWEEP(history_read_ahead)
SWEEP(history_of_all_nodes)
SWEEP(history_on_a_cluster)
SWEEP(cursor)
SWEEP(cursor_counted_back)
SWEEP(cursor_of_a_wide_hash)
SWEEP(replay)
SWEEP(mark)
SWEEP(housekeeping)
SWEEP(housekeeping_on_a_cluster)
SWEEP(locking)
SWEEP(catching_up)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_history),
		cmocka_unit_test(test_history_read_ahead),
		cmocka_unit_test(test_history_of_all_nodes),
		cmocka_unit_test(test_history_on_a_cluster),
		cmocka_unit_test(test_cursor),
		cmocka_unit_test(test_cursor_counted_back),
		cmocka_unit_test(test_cursor_of_a_wide_hash),
		cmocka_unit_test(test_replay),
		cmocka_unit_test(test_mark),
		cmocka_unit_test(test_housekeeping),
		cmocka_unit_test(test_housekeeping_on_a_cluster),
		cmocka_unit_test(test_locking),
		cmocka_unit_test(test_catching_up),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
