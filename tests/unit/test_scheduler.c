/*
 * The scheduler of those that catch up, without Redis and plugin: both stand here, and may refuse, be lost, or say what they never
 * say. Each device comes to its end, or the plugin is asked anew.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "bridge/scheduler.h"
#include "tests/unit/redis_fake.h"

#define PACKETS_MAX 256
#define CLIENTS_MAX 128
#define SUBSCRIBED 1000 /* id of the first subscription, in milliseconds */

/* --- a clock, which libuv asks, too --------------------------------------------------------------------------------------- */

static uint64_t ahead_s;
static bool stands;

__attribute__((visibility("default"))) int clock_gettime(clockid_t id, struct timespec *out)
{
	static struct timespec last;
	int result;

	if (stands) {
		*out = last;
		return 0;
	}
	result = (int)syscall(SYS_clock_gettime, id, out);
	out->tv_sec += (time_t)ahead_s;
	if (id == CLOCK_MONOTONIC || id == CLOCK_MONOTONIC_COARSE) last = *out;
	return result;
}

/* --- Redis ---------------------------------------------------------------------------------------------------------- */

static struct {
	bool loading;
	bool another; /* there is another node, which has given the device something */
	bool trimmed; /* of the stream sixty entries were removed */
	const char *event; /* the newest of the session events; NULL: there is none */
	unsigned evals; /* what it has been given is written down */
	unsigned scans; /* of the device's hash: what it has had */
	unsigned entries; /* in the stream, from 10-0 on */
	size_t size;      /* of their payloads */
	unsigned given;   /* entries read, again ones too */
} redis_now;

static bool names(struct slice command, const char *word)
{
	return memmem(command.data, command.len, word, strlen(word)) != NULL;
}

static void stream(struct slice command, bool backwards, struct buf *out)
{
	const char *from = strstr(command.data, "s:dev\r\n") + strlen("s:dev\r\n"), *bound = strchr(from, '\n') + 1;
	bool behind = *bound == '('; /* exclusive */
	uint64_t first = strtoull(bound + behind, NULL, 10);
	const char *count_at = strstr(from, "COUNT\r\n");
	uint64_t most = strtoull(strchr(count_at + 7, '\n') + 1, NULL, 10), last = 9 + redis_now.entries;
	struct buf entries = {0};
	unsigned n = 0;

	if (behind) first += backwards ? (uint64_t)-1 : 1;
	if (first < 10) first = backwards ? 9 : 10;
	if (backwards && first > last) first = last;
	for (uint64_t ms = first; ms >= 10 && ms <= last && n < most; ms += backwards ? (uint64_t)-1 : 1, n++) {
		char id[32];
		int len = snprintf(id, sizeof(id), "%llu-0", (unsigned long long)ms);
		buf_printf(&entries, "*2\r\n$%d\r\n%s\r\n*4\r\n$5\r\ntopic\r\n$5\r\ndev/x\r\n$7\r\npayload\r\n$%zu\r\n%0*d\r\n", len, id,
			redis_now.size, (int)redis_now.size, 7);
	}
	redis_now.given += n;
	buf_printf(out, "*%u\r\n", n);
	buf_append(out, entries.data, entries.len);
	buf_free(&entries);
}

static void answer_one(struct slice command, struct buf *out)
{
	if (redis_now.loading) buf_append_str(out, "-LOADING\r\n");
	else if (names(command, "EVAL")) redis_now.evals++, buf_append_str(out, ":1\r\n");
	else if (names(command, "HSCAN")) redis_now.scans++, buf_append_str(out, "*2\r\n$1\r\n0\r\n*0\r\n");
	else if (redis_now.another && names(command, "@b")) buf_append_str(out, "*7\r\n$3\r\n5-0\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n");
	else if (redis_now.another && names(command, "$6\r\nZRANGE\r")) buf_append_str(out, "*2\r\n$3\r\nown\r\n$1\r\nb\r\n");
	else if (names(command, "HMGET")) buf_append_str(out, "*4\r\n$3\r\n5-0\r\n$3\r\n5-0\r\n$-1\r\n$-1\r\n");
	else if (names(command, "s:dev") && names(command, "RANGE")) stream(command, names(command, "XREVRANGE"), out);
	else if (names(command, "XREVRANGE") && redis_now.event)
		buf_printf(out, "*1\r\n*2\r\n$%zu\r\n%s\r\n*0\r\n", strlen(redis_now.event), redis_now.event);
	else if (redis_now.trimmed && names(command, "XINFO")) buf_append_str(out, "*8\r\n$6\r\nlength\r\n:40\r\n"
		"$17\r\nlast-generated-id\r\n$4\r\n49-0\r\n$13\r\nentries-added\r\n:100\r\n"
		"$11\r\nfirst-entry\r\n*2\r\n$4\r\n10-0\r\n*0\r\n");
	else if (names(command, "$3\r\nGET")) buf_append_str(out, "$5\r\n900-0\r\n");
	else buf_append_str(out, "*0\r\n");
}

/* Answers all that is asked, once. */
static void answer_all(void)
{
	redis_fake_answer(redis_fake.count, answer_one);
}

/* --- the plugin ------------------------------------------------------------------------------------------------------ */

static struct {
	size_t takes; /* bytes of a packet */
	bool lost, silent;
	enum control_result says;
	unsigned batches, switches, messages, again;
	struct entry_id last;   /* of the messages that came */
	uint64_t had[CLIENTS_MAX]; /* the last one of client d<N>, or of any other; 0: none */
	bool gap;               /* one was passed over */
	unsigned batch;         /* messages in the last one */
	struct buf packets[PACKETS_MAX];
	size_t packet_count;
} plugin;

static uv_loop_t loop;
static struct settings *settings;
static struct scheduler *scheduler;
static struct pace pace_now;
static char log_line[512];

static enum status on_send(void *ctx, struct slice payload)
{
	struct buf *packet = &plugin.packets[plugin.packet_count];

	(void)ctx;
	if (plugin.lost) return ST_LOST;
	if (payload.len > plugin.takes) return ST_TOO_LARGE;
	assert_true(plugin.packet_count < PACKETS_MAX);
	plugin.packet_count++;
	buf_clear(packet);
	buf_append_slice(packet, payload);
	return ST_OK;
}

static void acknowledge(struct slice device, const struct control_command *c, enum control_result result)
{
	struct control_command ack = {.device = device, .generation = c->generation, .sequence = c->sequence, .result = result,
		.head = {SUBSCRIBED + 500, 0}};

	scheduler_ack(scheduler, &ack);
}

static void note(struct slice device, const struct message *m)
{
	uint64_t *had = &plugin.had[strtoul(device.data + 1, NULL, 10) % CLIENTS_MAX]; /* what stands behind it is no digit */

	if (m->id.ms != (*had ? *had + 1 : 10)) plugin.gap = true;
	*had = m->id.ms;
	plugin.last = m->id;
	plugin.messages++;
	plugin.batch++;
}

/* Takes what was sent, and acknowledges it. */
static void plugin_turn(void)
{
	size_t count = plugin.packet_count;

	plugin.packet_count = 0;
	for (size_t i = 0; i < count && !plugin.silent; i++) {
		struct buf packet = plugin.packets[i];
		struct control_command c;
		plugin.packets[i] = (struct buf){0};
		assert_int_equal(control_decode(slice_of(packet.data, packet.len), &c), ST_OK);
		struct slice rest = c.messages;
		struct message m;
		if (c.type == CONTROL_BATCH) plugin.batch = 0;
		while (c.type == CONTROL_BATCH && control_message_next(&rest, &m)) note(c.device, &m);
		plugin.batches += c.type == CONTROL_BATCH;
		plugin.switches += c.type == CONTROL_SWITCH;
		if (plugin.says == CONTROL_DONE) acknowledge(c.device, &c, CONTROL_LATER); /* first a sign of life */
		acknowledge(c.device, &c, plugin.says);
		buf_free(&packet);
	}
}

static void on_again(void *ctx)
{
	(void)ctx;
	plugin.again++;
}

static void on_turned(void *ctx)
{
	(void)ctx;
}

static struct entry_id position_now;

static struct entry_id on_position(void *ctx)
{
	(void)ctx;
	return position_now;
}

static void on_log(void *ctx, enum log_level level, const char *line)
{
	(void)ctx, (void)level;
	(void)snprintf(log_line, sizeof(log_line), "%s", line);
}

/* --- the test -------------------------------------------------------------------------------------------------------- */

static int setup(void **state)
{
	static const struct log_sink sink = {on_log, NULL};
	const struct setting_override lines[] = {{"mirror", "dev/# stream s:dev"}, {"redeliver", "#"}, {"node", "own"}};
	struct scheduler_deps deps = {.loop = &loop, .log = &sink, .pace = &pace_now, .send = on_send, .events_position = on_position,
		.turned = on_turned, .again = on_again};
	char why[256];

	(void)state;
	memset(&redis_now, 0, sizeof(redis_now));
	memset(&redis_fake, 0, sizeof(redis_fake));
	memset(&plugin, 0, sizeof(plugin));
	plugin.takes = SIZE_MAX;
	plugin.says = CONTROL_DONE;
	redis_now.entries = 40;
	redis_now.size = 100;
	position_now = ENTRY_ID_MAX;
	log_line[0] = '\0';
	assert_int_equal(uv_loop_init(&loop), 0);
	if (settings_load(NULL, lines, 3, NULL, &settings, why, sizeof(why)) != ST_OK) fail_msg("%s", why);
	deps.settings = settings;
	pace_init(&pace_now, uv_hrtime() / 1000);
	assert_int_equal(scheduler_new(&deps, &scheduler), ST_OK);
	scheduler_open(scheduler, true, 0);
	return 0;
}

static unsigned closed;

static void on_closed(void *ctx)
{
	(void)ctx;
	closed++;
}

static int teardown(void **state)
{
	(void)state;
	closed = 0;
	scheduler_close(scheduler, on_closed, NULL);
	scheduler_close(scheduler, NULL, NULL); /* at any time */
	redis_fake.loses = true;
	answer_all();
	assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(closed, 1);
	assert_int_equal(uv_loop_close(&loop), 0);
	settings_free(settings);
	for (size_t i = 0; i < PACKETS_MAX; i++) buf_free(&plugin.packets[i]);
	return 0;
}

static void event(enum device_op op, const char *client, const char *filter, uint64_t id, uint64_t generation)
{
	struct device_event e = {.op = op, .id = {id, 0}, .client = slice_str(client), .generation = {generation, 0},
		.filter = slice_str(filter), .qos = 1};

	scheduler_event(scheduler, &e);
}

static void subscribe(const char *client, uint64_t id)
{
	event(DEVICE_OP_SUBSCRIBED, client, "dev/#", id, id);
}

static void turn(void)
{
	(void)uv_run(&loop, UV_RUN_NOWAIT);
	answer_all();
	plugin_turn();
}

/* Until nobody catches up; bounded by a count of turns, of which each may wait for a timer. */
static void run_to_the_end(void)
{
	for (int i = 0; i < 100000 && scheduler_is_busy(scheduler); i++) {
		turn();
		if (redis_fake.count == 0 && plugin.packet_count == 0) (void)uv_run(&loop, UV_RUN_ONCE);
	}
	assert_false(scheduler_is_busy(scheduler));
}

static void expect_all(void)
{
	assert_int_equal(plugin.messages, redis_now.entries);
	assert_false(plugin.gap);
	assert_int_equal(plugin.switches, 1);
	assert_int_equal(plugin.again, 0);
}

static void from_the_backlog_to_live(void **state)
{
	(void)state;
	assert_false(scheduler_serves(scheduler, slice_str("d")));
	subscribe("d", SUBSCRIBED);
	assert_true(scheduler_serves(scheduler, slice_str("d")));
	run_to_the_end();
	expect_all();
	assert_int_equal(scheduler_count(scheduler).delivered, redis_now.entries);
	assert_int_equal(scheduler_count(scheduler).unacked_bytes, 0);
}

/* What it has had through other filters is asked for with the cursor of the first, and not again with that of the second. */
static void what_it_has_had_is_asked_once(void **state)
{
	(void)state;
	event(DEVICE_OP_SUBSCRIBED, "d", "dev/x", SUBSCRIBED, SUBSCRIBED);
	event(DEVICE_OP_SUBSCRIBED, "d", "dev/+", SUBSCRIBED + 1, SUBSCRIBED);
	run_to_the_end();
	expect_all();
	assert_int_equal(redis_now.scans, 1);
}

/* Redis is away when it is asked, in the middle of an answer, and loading: it is asked again in a while. */
static void redis_comes_and_goes(void **state)
{
	(void)state;
	for (int at = 0; at < 6; at++) {
		if (at > 0) (void)teardown(NULL), (void)setup(NULL);
		subscribe("d", SUBSCRIBED);
		for (int i = 0; i < at; i++) turn();
		redis_fake.loses = at % 2;
		redis_now.loading = !redis_fake.loses;
		turn();
		redis_fake.loses = redis_now.loading = false;
		(void)uv_run(&loop, UV_RUN_NOWAIT);
		redis_fake.down = true; /* nothing can be asked */
		scheduler_ready(scheduler);
		(void)uv_run(&loop, UV_RUN_NOWAIT);
		redis_fake.down = false;
		scheduler_ready(scheduler);
		run_to_the_end();
		expect_all();
	}
}

/* What the broker takes no packet for: of several fewer go at once, but not before the plugin has told anew; one alone is left out. */
static void packets_are_too_large(void **state)
{
	(void)state;
	plugin.takes = 300; /* two of them are too much */
	subscribe("d", SUBSCRIBED);
	for (int i = 0; i < 50 && plugin.again == 0; i++) {
		turn();
		(void)uv_run(&loop, UV_RUN_ONCE);
	}
	assert_int_equal(plugin.again, 1);
	assert_int_equal(plugin.messages, 0); /* nothing behind it was sent */
	assert_false(scheduler_is_busy(scheduler));
	assert_non_null(strstr(log_line, "the broker takes no batch of"));
	for (unsigned n = 1; n < 40 && plugin.switches == 0; n++) { /* the plugin tells anew, from where it stands */
		struct device_event e = {.op = DEVICE_OP_SUBSCRIBED, .id = {SUBSCRIBED + n, 0}, .client = slice_str("d"),
			.generation = {SUBSCRIBED + n, 0}, .filter = slice_str("dev/#"), .qos = 1, .again = true, .from = plugin.last};
		scheduler_event(scheduler, &e);
		run_to_the_end();
	}
	assert_int_equal(plugin.messages, redis_now.entries);
	assert_false(plugin.gap);
	/* One that never fits. */
	plugin.takes = 150;
	subscribe("e", SUBSCRIBED + 100);
	for (int i = 0; i < 200 && plugin.switches < 2; i++) {
		if (!scheduler_is_busy(scheduler)) subscribe("e", SUBSCRIBED + 101 + (uint64_t)i);
		turn();
		(void)uv_run(&loop, UV_RUN_ONCE);
	}
	assert_int_equal(scheduler_count(scheduler).oversize, redis_now.entries);
	assert_non_null(strstr(log_line, "is larger than the broker takes (max_packet_size) and is left out"));
}

/* What could not be sent is told anew, and the device with it. What it subscribes to before that does not make it go live. */
static void given_up_with_all_its_filters(void **state)
{
	(void)state;
	plugin.takes = 300;
	pace_now.rate = PACE_RATE_MAX;
	pace_now.room = 1000;
	(void)uv_run(&loop, UV_RUN_NOWAIT);
	stands = true; /* it is not asked anew yet */
	subscribe("d", SUBSCRIBED);
	for (int i = 0; i < 50 && scheduler_is_busy(scheduler); i++) turn();
	assert_non_null(strstr(log_line, "the broker takes no batch of"));
	assert_int_equal(plugin.again, 0);
	event(DEVICE_OP_SUBSCRIBED, "d", "dev/y", SUBSCRIBED + 1, SUBSCRIBED);
	for (int i = 0; i < 50; i++) turn();
	stands = false;
	assert_int_equal(plugin.switches, 0);
	for (int i = 0; i < 50 && plugin.again == 0; i++) (void)uv_run(&loop, UV_RUN_ONCE);
	assert_int_equal(plugin.again, 1);
	plugin.takes = SIZE_MAX;
	subscribe("d", SUBSCRIBED + 2);
	run_to_the_end();
	assert_int_equal(plugin.messages, redis_now.entries);
}

/* While the broker takes long to answer nothing is read, and so nothing goes to it. */
static void the_pace_holds_it_back(void **state)
{
	uint64_t now_us = uv_hrtime() / 1000;

	(void)state;
	pace_now.room = 1000;
	pace_now.asked_us = now_us - 100 * PACE_LATE_US;
	subscribe("d", SUBSCRIBED);
	for (int i = 0; i < 50; i++) turn();
	assert_int_equal(plugin.messages, 0);
	assert_int_equal(scheduler_count(scheduler).batches, 0);
	assert_true(scheduler_is_busy(scheduler));
	pace_answered(&pace_now, now_us, true);
	run_to_the_end();
	expect_all();
}

/* A batch keeps the broker from others for as long as it takes. */
static void batches_by_the_pace(void **state)
{
	(void)state;
	redis_now.entries = 400;
	pace_now.rate = PACE_RATE_MIN;
	pace_now.room = 1000;
	subscribe("d", SUBSCRIBED);
	run_to_the_end();
	expect_all();
	assert_true(plugin.batches >= redis_now.entries / PACE_BATCH_MIN);
}

/* A connection to the broker that is lost: nothing is asked, since all is told anew when it is back. */
static void the_broker_is_away(void **state)
{
	(void)state;
	plugin.lost = true;
	subscribe("d", SUBSCRIBED);
	for (int i = 0; i < 20; i++) turn();
	assert_int_equal(plugin.again, 0);
	assert_true(scheduler_is_busy(scheduler));
	scheduler_open(scheduler, false, 0);
	scheduler_reset(scheduler);
	assert_false(scheduler_is_busy(scheduler));
	plugin.lost = false;
	scheduler_open(scheduler, true, 100);
	subscribe("d", SUBSCRIBED + 1);
	run_to_the_end();
	expect_all();
}

/* Events of before, of nobody, and of the same; filters that change while one is being read. */
static void events_in_between(void **state)
{
	char filter[32];

	(void)state;
	event(DEVICE_OP_GONE, "nobody", "", SUBSCRIBED, SUBSCRIBED);
	event(DEVICE_OP_BOOT, "", "", SUBSCRIBED, 0);
	assert_false(scheduler_is_busy(scheduler));
	subscribe("d", SUBSCRIBED);
	event(DEVICE_OP_GONE, "d", "", SUBSCRIBED - 1, SUBSCRIBED - 1); /* of the connection before */
	assert_true(scheduler_is_busy(scheduler));
	for (int i = 0; i < 3; i++) { /* cursor, mark; then the entries are asked for */
		(void)uv_run(&loop, UV_RUN_NOWAIT);
		if (redis_fake.count > 0 && strstr(redis_fake.queue[0].text, "XRANGE")) break;
		answer_all();
	}
	assert_non_null(strstr(redis_fake.queue[0].text, "XRANGE"));
	event(DEVICE_OP_SUBSCRIBED, "d", "dev/x", SUBSCRIBED + 1, SUBSCRIBED);
	run_to_the_end();
	assert_int_equal(plugin.messages, redis_now.entries);
	assert_int_equal(plugin.again, 0);
	/* More than a device may have. */
	subscribe("e", SUBSCRIBED + 2);
	for (int i = 0; i <= CONTROL_FILTERS_MAX; i++) {
		(void)snprintf(filter, sizeof(filter), "dev/%d", i);
		event(DEVICE_OP_SUBSCRIBED, "e", filter, SUBSCRIBED + 3, SUBSCRIBED + 2);
	}
	assert_non_null(strstr(log_line, "a subscription cannot be caught up"));
	subscribe("e", SUBSCRIBED + 4); /* it has come again */
	event(DEVICE_OP_GONE, "e", "", SUBSCRIBED + 5, SUBSCRIBED + 4);
	run_to_the_end();
}

/* Acknowledgements of nobody, of another generation, and one that says that the device is gone. */
static void acknowledgements(void **state)
{
	struct control_command c = {.generation = {SUBSCRIBED, 0}, .sequence = 1};

	(void)state;
	acknowledge(slice_str("nobody"), &c, CONTROL_DONE);
	plugin.says = CONTROL_GONE;
	subscribe("d", SUBSCRIBED);
	c.generation.ms = 5;
	acknowledge(slice_str("d"), &c, CONTROL_DONE);
	run_to_the_end();
	assert_int_equal(plugin.switches, 0);
	assert_int_equal(scheduler_count(scheduler).unacked_bytes, 0);
}

/* The events are behind the mark: it counts when they have come. What changes meanwhile makes it void. */
static void the_mark_waits_for_events(void **state)
{
	(void)state;
	for (int changes = 0; changes < 2; changes++) {
		if (changes) (void)teardown(NULL), (void)setup(NULL);
		redis_now.event = "950-0";
		position_now = (struct entry_id){949, 0};
		subscribe("d", SUBSCRIBED);
		for (int i = 0; i < 20; i++) turn();
		scheduler_moved(scheduler);
		if (changes) event(DEVICE_OP_SUBSCRIBED, "d", "dev/x", SUBSCRIBED + 1, SUBSCRIBED);
		for (int i = 0; i < 20; i++) turn();
		assert_int_equal(plugin.batches, 0);
		position_now = (struct entry_id){950, 0};
		scheduler_moved(scheduler);
		run_to_the_end();
		expect_all();
	}
	/* It has gone meanwhile: nothing is waited for. */
	(void)teardown(NULL), (void)setup(NULL);
	redis_now.event = "950-0";
	position_now = ENTRY_ID_ZERO;
	subscribe("d", SUBSCRIBED);
	for (int i = 0; i < 20; i++) turn();
	event(DEVICE_OP_GONE, "d", "", SUBSCRIBED + 1, SUBSCRIBED);
	run_to_the_end();
	assert_int_equal(plugin.batches, 0);
}

/* History that is asked for once more: the newest so many, counted back in more than one read. */
static void a_replay_is_counted_back(void **state)
{
	const struct device_event e = {.op = DEVICE_OP_SUBSCRIBED, .id = {SUBSCRIBED, 0}, .client = slice_str("d"),
		.generation = {SUBSCRIBED, 0}, .filter = slice_str("dev/#"), .qos = 1, .replay = true, .replay_last = 700,
		.has_upto = true, .upto = {900, 0}};

	(void)state;
	redis_now.entries = 1000; /* a part of them newer than that */
	scheduler_event(scheduler, &e);
	plugin.had[0] = 200;
	run_to_the_end();
	assert_int_equal(plugin.messages, 700);
	assert_int_equal(plugin.last.ms, 900);
	assert_false(plugin.gap);
	assert_int_equal(plugin.switches, 1);
}

/* Nothing of the backlog is for it: it goes live at once. */
static void nothing_for_it(void **state)
{
	(void)state;
	event(DEVICE_OP_SUBSCRIBED, "d", "dev/y", SUBSCRIBED, SUBSCRIBED);
	run_to_the_end();
	assert_int_equal(plugin.batches, 0);
	assert_int_equal(plugin.switches, 1);
}

/* What retention has removed is told and counted, once. */
static void some_is_gone(void **state)
{
	(void)state;
	redis_now.trimmed = true;
	subscribe("d", SUBSCRIBED);
	for (int i = 0; i < 100 && plugin.batches == 0; i++) turn();
	event(DEVICE_OP_SUBSCRIBED, "d", "dev/x", SUBSCRIBED + 1, SUBSCRIBED); /* another pass finds the same */
	run_to_the_end();
	assert_int_equal(plugin.messages, redis_now.entries);
	assert_non_null(strstr(log_line, "retention has removed up to 60 messages that it may have missed, in 1 streams"));
	assert_int_equal(scheduler_count(scheduler).gaps, 1);
	assert_int_equal(scheduler_count(scheduler).gap_messages, 60);
	assert_int_equal(scheduler_count(scheduler).gaps_unknown, 0);
}

/* What is slowly taken gets smaller batches, down to a few messages, so that it leaves room for others. */
static void a_slow_one_gets_little_at_once(void **state)
{
	unsigned least = UINT32_MAX;

	(void)state;
	redis_now.entries = 2000;
	redis_now.size = 10;
	pace_now.rate = PACE_RATE_MAX; /* by which a batch may be large */
	subscribe("d", SUBSCRIBED);
	for (int i = 0; i < 10000 && plugin.switches == 0; i++) {
		(void)uv_run(&loop, UV_RUN_NOWAIT);
		answer_all();
		ahead_s += plugin.packet_count > 0 ? 2 : 0;
		(void)uv_run(&loop, UV_RUN_NOWAIT); /* the loop's clock */
		plugin_turn();
		if (plugin.batch > 0 && plugin.batch < least) least = plugin.batch;
	}
	assert_int_equal(plugin.messages, redis_now.entries);
	assert_int_equal(least, 8);
}

#define CROWD (SCHEDULER_FETCHES_MAX + 8)

static void subscribe_many(void)
{
	char client[16];

	for (unsigned i = 0; i < CROWD; i++) {
		(void)snprintf(client, sizeof(client), "d%u", i);
		subscribe(client, SUBSCRIBED + i);
	}
}

/* More than may read at a time: after some batches each makes way for those that wait, and all come to their end. What a device makes
 * way with before it was given is read again: little, as small as the batches may be that the pace allows. */
static void a_crowd_takes_turns(void **state)
{
	bool waited = false, ended = false;

	(void)state;
	redis_now.entries = 1000;
	redis_now.size = 10;
	subscribe_many();
	for (int i = 0; i < 200000 && scheduler_is_busy(scheduler); i++) {
		turn();
		assert_true(scheduler_count(scheduler).fetching <= SCHEDULER_FETCHES_MAX);
		waited |= scheduler_count(scheduler).fetching == SCHEDULER_FETCHES_MAX;
		/* Each has had something before any has had all. */
		for (unsigned k = 0; !ended && plugin.switches > 0 && k < CROWD; k++) assert_true(plugin.had[k] > 0);
		ended = plugin.switches > 0;
		if (redis_fake.count == 0 && plugin.packet_count == 0) (void)uv_run(&loop, UV_RUN_ONCE);
	}
	assert_true(waited);
	assert_false(scheduler_is_busy(scheduler));
	assert_int_equal(plugin.messages, CROWD * redis_now.entries);
	assert_true(redis_now.given < 3 * plugin.messages);
	assert_false(plugin.gap);
	assert_int_equal(plugin.switches, CROWD);
	assert_int_equal(plugin.again, 0);
}

/* Those that read and do not get on lose their places to those that wait. */
static void places_are_taken_from_the_silent(void **state)
{
	uint64_t two_each = 2 * CROWD; /* what may be unacknowledged */

	(void)state;
	plugin.silent = true;
	redis_now.entries = 2000;
	redis_now.size = 10;
	subscribe_many();
	for (int i = 0; i < 10000 && scheduler_count(scheduler).batches < two_each; i++) {
		turn();
		if (redis_fake.count == 0) (void)uv_run(&loop, UV_RUN_ONCE);
	}
	assert_int_equal(scheduler_count(scheduler).batches, two_each);
	scheduler_reset(scheduler);
}

/* Messages that are larger than what a batch is to have: many are read at once, and yet not more than allowed waits for
 * acknowledgement, but for the one that fills it. */
static void large_ones_wait_for_each_other(void **state)
{
	uint64_t most = SCHEDULER_BYTES_MAX + 201 * 1024;

	(void)state;
	plugin.silent = true;
	redis_now.entries = 3;
	redis_now.size = 200 * 1024;
	subscribe_many();
	for (int i = 0; i < 60; i++) {
		turn();
		assert_true(scheduler_count(scheduler).unacked_bytes <= most);
		if (redis_fake.count == 0) (void)uv_run(&loop, UV_RUN_ONCE);
	}
	assert_true(scheduler_count(scheduler).unacked_bytes >= SCHEDULER_BYTES_MAX);
	assert_int_equal(plugin.again, 0);
	scheduler_reset(scheduler);
	assert_int_equal(scheduler_count(scheduler).unacked_bytes, 0);
	/* Where it answers they come to their end. */
	plugin.silent = false;
	for (unsigned i = 0; i < CROWD; i++) {
		char client[16];

		(void)snprintf(client, sizeof(client), "d%u", i);
		subscribe(client, SUBSCRIBED + 200 + i);
	}
	run_to_the_end();
	assert_int_equal(plugin.messages, CROWD * redis_now.entries);
	assert_false(plugin.gap);
	assert_int_equal(plugin.switches, CROWD);
}

static void the_slowest(void **state)
{
	struct scheduler_device out[SCHEDULER_SLOWEST_MAX + 4];
	uint64_t lag;
	char client[16];

	(void)state;
	plugin.silent = true;
	assert_int_equal(scheduler_slowest(scheduler, out, 5, &lag), 0);
	for (unsigned i = 0; i < SCHEDULER_SLOWEST_MAX + 4; i++) {
		(void)snprintf(client, sizeof(client), "d%u", i);
		subscribe(client, SUBSCRIBED + i);
	}
	(void)uv_run(&loop, UV_RUN_NOWAIT);
	answer_all();
	assert_int_equal(scheduler_slowest(scheduler, out, 0, &lag), 0);
	assert_true(lag > 0);
	assert_int_equal(scheduler_slowest(scheduler, out, SCHEDULER_SLOWEST_MAX + 4, &lag), SCHEDULER_SLOWEST_MAX);
	assert_int_equal(scheduler_slowest(scheduler, out, 2, &lag), 2);
	scheduler_reset(scheduler);
}

/* It is told anew, with smaller batches, since the broker may have dropped what was too large for it. */
static void the_plugin_does_not_answer(void **state)
{
	(void)state;
	plugin.silent = true;
	subscribe("d", SUBSCRIBED);
	for (int i = 0; i < 50 && plugin.packet_count == 0; i++) {
		(void)uv_run(&loop, UV_RUN_NOWAIT);
		answer_all();
	}
	assert_true(plugin.packet_count > 0);
	for (int i = 0; i < 3 && plugin.again == 0; i++) {
		ahead_s += SCHEDULER_ACK_TIMEOUT_MS / 1000 + 1;
		(void)uv_run(&loop, UV_RUN_NOWAIT);
	}
	assert_int_equal(plugin.again, 1);
	assert_non_null(strstr(log_line, "the plugin has not acknowledged"));
	/* Where it is known to be away, it is not waited for. */
	scheduler_open(scheduler, false, 0);
	for (int i = 0; i < 3; i++) {
		ahead_s += SCHEDULER_ACK_TIMEOUT_MS / 1000 + 1;
		(void)uv_run(&loop, UV_RUN_NOWAIT);
	}
	assert_int_equal(plugin.again, 1);
	scheduler_reset(scheduler);
}

/* What another node owed and the device has had since is written down now and then, not only at the end. */
static void debts_are_paid(void **state)
{
	unsigned before;

	(void)state;
	redis_now.another = true;
	redis_now.entries = 3000;
	subscribe("d", SUBSCRIBED);
	for (int i = 0; i < 60 && plugin.batches == 0; i++) turn();
	before = redis_now.evals;
	for (int i = 0; i < 10000 && plugin.switches == 0; i++) {
		ahead_s += 1;
		turn();
	}
	assert_int_equal(plugin.switches, 1);
	assert_true(redis_now.evals > before + 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(from_the_backlog_to_live), TEST(what_it_has_had_is_asked_once), TEST(redis_comes_and_goes),
		TEST(packets_are_too_large), TEST(given_up_with_all_its_filters), TEST(the_pace_holds_it_back),
		TEST(batches_by_the_pace), TEST(the_broker_is_away),
		TEST(events_in_between), TEST(acknowledgements), TEST(the_mark_waits_for_events), TEST(the_slowest), TEST(the_plugin_does_not_answer),
		TEST(debts_are_paid), TEST(a_replay_is_counted_back), TEST(nothing_for_it), TEST(some_is_gone),
		TEST(a_slow_one_gets_little_at_once), TEST(a_crowd_takes_turns), TEST(places_are_taken_from_the_silent),
		TEST(large_ones_wait_for_each_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
