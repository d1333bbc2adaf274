/*
 * The bridge's parts with each of their allocations failing in turn (tests/faults/nth.h). What comes from Redis or the plugin
 * is taken whole or not at all, and never called wrong because memory was short.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <hiredis/hiredis.h>

#include "bridge/catch_up.h"
#include "bridge/cursors.h"
#include "bridge/fetch_source.h"
#include "bridge/outbox_flow.h"
#include "bridge/outbox_intake.h"
#include "bridge/outbox_item.h"
#include "bridge/outbox_lane.h"
#include "bridge/plugin_status.h"
#include "bridge/status_json.h"
#include "config/message.h"
#include "config/settings.h"
#include "tests/faults/nth.h"

#define S(text) slice_str(text)

static struct settings *settings;
static struct log_sink quiet;

static void ignore(void *ctx, enum log_level level, const char *line)
{
	(void)ctx;
	(void)level;
	(void)line;
}

static int setup(void **state)
{
	static const struct setting_override lines[] = {{"node", "n"}, {"mirror", "t/# stream s:%t"},
		{"mirror", "t/# list l:%1"}, {"mirror", "u/+ stream u:%n"}};
	char why[1024] = "";

	(void)state;
	quiet.write = ignore;
	if (settings_load(NULL, lines, 4, &quiet, &settings, why, sizeof(why)) == ST_OK) return 0;
	print_error("%s\n", why);
	return -1;
}

static int teardown(void **state)
{
	(void)state;
	settings_free(settings);
	return 0;
}

/* RESP without the last CRLF; lines are separated by '|'. */
static redisReply *resp_text_reply(const char *text)
{
	redisReader *reader = redisReaderCreate();
	void *reply = NULL;

	assert_non_null(reader);
	for (const char *end = text; *text; text = *end ? end + 1 : end) {
		end = text + strcspn(text, "|");
		assert_int_equal(redisReaderFeed(reader, text, (size_t)(end - text)), REDIS_OK);
		assert_int_equal(redisReaderFeed(reader, "\r\n", 2), REDIS_OK);
	}
	assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_OK);
	assert_non_null(reply);
	redisReaderFree(reader);
	return reply;
}

static struct entry_id at(uint64_t ms)
{
	return (struct entry_id){ms, 0};
}

/* --- one device --------------------------------------------------------------------------------------------------------------- */

static bool take(struct catch_up *c, const char *filter, uint64_t id)
{
	struct device_event e = {.op = DEVICE_OP_SUBSCRIBED, .id = at(id), .client = S("dev"), .generation = at(1),
		.filter = S(filter), .qos = 1};

	return NTH_OK(catch_up_event(c, &e));
}

/* A filter that could not be taken is not there; a cursor that could not be taken is asked for again. */
static void catching_up(void)
{
	const struct catch_up_debt debts[] = {{1, {1, 0}, {2, 0}}, {2, {1, 0}, {3, 0}}, {3, {1, 0}, {3, 0}}};
	const struct catch_up_had had[] = {{.filter = S("t/1"), .node = NODE_OWN, .since = {1, 0}, .upto = {20, 0}, .certain = {20, 0}},
		{.filter = S("t/2"), .node = NODE_OWN, .since = {1, 0}, .upto = {20, 0}, .certain = {20, 0}},
		{.filter = S("t/3"), .node = NODE_OWN, .since = {1, 0}, .upto = {20, 0}, .certain = {20, 0}}};
	struct catch_up *c = NULL;
	char filter[32];
	size_t taken = 0, count;

	if (!NTH_OK(catch_up_new(S("dev"), at(1), &c))) return;
	for (unsigned i = 0; i < 20; i++) {
		snprintf(filter, sizeof(filter), "t/%u", i);
		taken += take(c, filter, i + 1);
	}
	(void)catch_up_filters(c, &count);
	assert_int_equal(count, taken);
	for (size_t known = 0, tries = 0; known < taken;) {
		struct catch_up_action a = catch_up_next(c, 0);
		assert_int_equal(a.verb, CATCH_UP_READ_CURSOR);
		assert_true(tries++ < 2 * taken + 8 || nth_fired());
		if (NTH_OK(catch_up_cursor(c, at(1), debts, 3))) known++;
		else break; /* with no memory at all it would be asked for again and again */
	}
	if (NTH_OK(catch_up_had(c, had, 3, true)) && catch_up_next(c, 0).verb == CATCH_UP_READ_MARK)
		NTH_DO(catch_up_mark(c, at(50), 1));
	/* what could not be noted may come again */
	catch_up_free(c);
}

/* What it has had through another subscription has no room beside its own: some of it may come again, and all else comes. */
static void had_beside(void)
{
	static const struct catch_up_had had = {.filter = {"t/1", 3}, .node = NODE_OWN, .since = {1, 0}, .upto = {20, 0},
		.certain = {20, 0}};
	struct message m = {.id = at(10), .topic = S("t/1"), .qos = 1};
	struct catch_up *c = NULL;
	char filter[32];
	size_t count;

	assert_int_equal(catch_up_new(S("dev"), at(1), &c), ST_OK);
	for (unsigned i = 0; i < 4; i++) { /* as many as there is room for at first */
		snprintf(filter, sizeof(filter), "t/%u", i);
		struct device_event e = {.op = DEVICE_OP_SUBSCRIBED, .id = at(i + 1), .client = S("dev"), .generation = at(1),
			.filter = S(filter), .qos = 1};
		assert_int_equal(catch_up_event(c, &e), ST_OK);
		assert_int_equal(catch_up_next(c, 0).verb, CATCH_UP_READ_CURSOR);
		if (i == 0) assert_int_equal(catch_up_had(c, &had, 1, true), ST_OK);
		assert_int_equal(catch_up_cursor(c, at(1), NULL, 0), ST_OK);
	}
	assert_int_equal(catch_up_next(c, 0).verb, CATCH_UP_READ_MARK);
	NTH_DO(catch_up_mark(c, at(50), 1));
	assert_int_equal(catch_up_next(c, 0).verb, CATCH_UP_FETCH);
	const struct catch_up_filter *f = catch_up_filters(c, &count);
	assert_true(!catch_up_wants(f, count, &m) || nth_fired());
	m.id = at(21);
	assert_true(catch_up_wants(f, count, &m));
	catch_up_free(c);
}

static void cursor_read(void)
{
	struct node_names *names = NULL;
	struct cursors *c = NULL;
	struct buf commands = {0};

	if (!NTH_OK(node_names_new("n", &names))) return;
	if (NTH_OK(cursors_new(settings, names, S("dev"), "t/#", at(9), &c))) {
		nth_on();
		size_t replies = cursors_ask(c, &commands);
		nth_off();
		assert_true(commands.failed ? nth_fired() : replies > 0);
		cursors_free(c);
	}
	buf_free(&commands);
	node_names_free(names);
}

/* --- reading what was missed -------------------------------------------------------------------------------------------------------- */

static const char stream[] = "*3|"
	"*2|$3|1-0|*8|$5|topic|$3|t/a|$7|payload|$1|1|$3|qos|$1|1|$15|user_properties|$11|[[\"a\",\"b\"]]|"
	"*2|$3|2-0|*8|$5|topic|$3|t/a|$7|payload|$1|2|$3|qos|$1|1|$15|user_properties|$11|[[\"a\",\"b\"]]|"
	"*2|$3|3-0|*4|$5|topic|$3|t/a|$7|payload|$1|3";
static const char list[] = "*2|$47|{\"id\":\"2-0\",\"topic\":\"t/a\",\"payload\":\"longer 2\"}|"
	"$47|{\"id\":\"1-0\",\"topic\":\"t/a\",\"payload\":\"longer 1\"}";

/* All of its messages, or out of memory; none is taken for malformed. */
static void read_source(char kind, const char *text, size_t wanted)
{
	struct fetch_source s;
	struct fetch_source_tally tally = {0};
	struct merge *m = NULL;
	struct buf commands = {0}, scratch = {0};
	size_t source;

	redisReply *reply = resp_text_reply(text);
	if (NTH_OK(merge_new(false, &m)) && NTH_OK(merge_add(m, 0, &source))) {
		fetch_source_init(&s, kind, S("key"), source, ENTRY_ID_ZERO, at(100), false);
		if (kind == 'l') s.phase = LIST_READ, s.index = 2;
		NTH_DO(fetch_source_ask(&s, 10, &commands));
		if (!commands.failed && NTH_OK(fetch_source_take(&s, reply, m, &scratch, &tally))) {
			assert_int_equal(merge_count(m), wanted);
		}
		assert_int_equal(tally.malformed, 0);
	}
	freeReplyObject(reply);
	merge_free(m);
	buf_free(&commands);
	buf_free(&scratch);
}

static void read_stream(void)
{
	read_source('s', stream, 3);
}

static void read_list(void)
{
	read_source('l', list, 2);
}

/* --- pushes ----------------------------------------------------------------------------------------------------------------------- */

/* An entry that is right is never a dead letter, whatever memory there is. */
static void check_item(enum status st, struct outbox_item *item)
{
	if (!nth_ok(st)) return;
	assert_int_equal(item->outcome, OUTCOME_NONE);
	assert_true(slice_equal(item->push.topic, S("t")));
	assert_true(item->push.user_properties.len > 0);
	item_free(item);
}

static void push_from_stream(void)
{
	redisReply *entry = resp_text_reply("*2|$3|5-0|*6|$5|topic|$1|t|$7|payload|$2|hi|$15|user_properties|$11|[[\"a\",\"b\"]]");
	struct buf scratch = {0};
	struct outbox_item *item = NULL;

	nth_on();
	enum status st = item_from_entry(entry, &scratch, &item);
	check_item(st, item);
	freeReplyObject(entry);
	buf_free(&scratch);
}

static void push_from_list(void)
{
	struct buf scratch = {0};
	struct outbox_item *item = NULL;

	nth_on();
	enum status st = item_from_element(S("{\"topic\":\"t\",\"payload_base64\":\"aGk=\",\"user_properties\":[[\"a\",\"b\"]]}"), &scratch, &item);
	check_item(st, item);
	buf_free(&scratch);
}

static void drop_item(void *ctx, struct outbox_item *item)
{
	(void)ctx;
	item_free(item);
}

/* What there is no memory for is read again, ahead of all else, with what stands behind it. */
static void read_pushes(enum rule_kind kind, const char *text)
{
	const struct outbox_setting setting = {.kind = kind};
	const struct flow_config config = {.list = kind == RULE_LIST, .window = 10, .drop = drop_item};
	struct outbox_counts counts = {0};
	struct outbox_flow *flow = NULL;
	redisReply *reply = resp_text_reply(text);
	struct flow_read read;

	assert_int_equal(flow_new(&config, &flow), ST_OK);
	flow_active(flow, true);
	flow_redis(flow, true);
	flow_broker(flow, true, 20, 0);
	assert_true(flow_read(flow, &read));
	struct outbox_intake in = {.settings = settings, .setting = &setting, .log = &quiet, .name = "key", .flow = flow, .counts = &counts,
		.earliest_ms = UINT64_MAX};
	intake_begin(&in, &read);
	NTH_DO(intake_reply(&in, reply));
	flow_read_done(flow, in.got, in.next);
	assert_int_equal(flow_held(flow), in.got);
	assert_int_equal(flow_takes(flow), in.got == 2);
	flow_free(flow);
	buf_free(&in.scratch);
	freeReplyObject(reply);
}

static void pushes_of_a_stream(void)
{
	read_pushes(RULE_STREAM, "*1|*2|$3|key|*2|*2|$3|5-0|*2|$5|topic|$1|t|*2|$3|6-0|*2|$5|topic|$1|t");
}

static void pushes_of_a_list(void)
{
	read_pushes(RULE_LIST, "*2|$13|{\"topic\":\"t\"}|$13|{\"topic\":\"u\"}");
}

static void lanes(void)
{
	struct lanes l = {.retry_ms = UINT64_MAX};
	char topic[16];

	for (unsigned i = 0; i < 200; i++) {
		snprintf(topic, sizeof(topic), "t/%u", i);
		nth_on();
		struct lane *lane = lane_of(&l, S(topic));
		nth_off();
		assert_true(lane || nth_fired());
		if (lane) lane->held++; /* else it would be taken back */
	}
	lanes_clear(&l);
}

/* --- what is shown ------------------------------------------------------------------------------------------------------------------ */

static void plugin_seen(void)
{
	struct plugin_status *s = calloc(1, sizeof(*s));
	redisReply *hash = resp_text_reply("*8|$2|in|$1|5|$9|rule:3:in|$1|4|$11|rule:3:text|$4|a -b|$9|rule:1:in|$1|1");

	assert_non_null(s);
	nth_on();
	if (nth_ok(plugin_status_take(s, hash, 1, 1))) assert_int_equal(s->rule_count, 2);
	else assert_false(s->seen);
	plugin_status_free(s);
	memset(s, 0, sizeof(*s));
	if (NTH_OK(plugin_status_sys(s, S("rules/7/in"), S("9"), 1, 1))) assert_int_equal(s->rule_count, 1);
	plugin_status_free(s);
	freeReplyObject(hash);
	free(s);
}

#define SWEEP(name) \
	static void test_##name(void **state) \
	{ \
		(void)state; \
		nth_sweep(name); \
	}

SWEEP(catching_up)
SWEEP(had_beside)
SWEEP(cursor_read)
SWEEP(read_stream)
SWEEP(read_list)
SWEEP(push_from_stream)
SWEEP(push_from_list)
SWEEP(pushes_of_a_stream)
SWEEP(pushes_of_a_list)
SWEEP(lanes)
SWEEP(plugin_seen)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_catching_up),
		cmocka_unit_test(test_had_beside),
		cmocka_unit_test(test_cursor_read),
		cmocka_unit_test(test_read_stream),
		cmocka_unit_test(test_read_list),
		cmocka_unit_test(test_push_from_stream),
		cmocka_unit_test(test_push_from_list),
		cmocka_unit_test(test_pushes_of_a_stream),
		cmocka_unit_test(test_pushes_of_a_list),
		cmocka_unit_test(test_lanes),
		cmocka_unit_test(test_plugin_seen),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
