/* One device's redelivery: tables of single steps, and a random model of plugin, Redis and device around the
 * machine. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/catch_up.h"
#include "config/topic.h"
#include "tests/harness/between.h"
#include "tests/unit/seeds.h"

#define slice_of_text(text) {text, sizeof(text) - 1}

/* One node only. */
static void give_cursor(struct catch_up *c, struct entry_id cursor)
{
	assert_int_equal(catch_up_cursor(c, cursor, NULL, 0), ST_OK);
}

static struct entry_id at(uint64_t ms)
{
	return (struct entry_id){ms, 0};
}

static struct catch_up *machine(uint64_t generation)
{
	struct catch_up *c = NULL;

	assert_int_equal(catch_up_new(slice_str("dev"), at(generation), &c), ST_OK);
	return c;
}

static struct device_event subscription(const char *filter, uint64_t id)
{
	return (struct device_event){.op = DEVICE_OP_SUBSCRIBED, .id = at(id), .client = slice_str("dev"),
		.generation = at(id), .filter = slice_str(filter), .qos = 1};
}

static void subscribe(struct catch_up *c, const char *filter, uint64_t id)
{
	struct device_event e = subscription(filter, id);

	assert_int_equal(catch_up_event(c, &e), ST_OK);
}

static void event(struct catch_up *c, enum device_op op, const char *filter, uint64_t id, uint64_t upto)
{
	struct device_event e = {.op = op, .id = at(id), .client = slice_str("dev"), .generation = at(1),
		.filter = slice_str(filter), .has_upto = upto > 0, .upto = at(upto)};

	assert_int_equal(catch_up_event(c, &e), ST_OK);
}

static struct catch_up_action expect(struct catch_up *c, uint64_t now, enum catch_up_verb verb)
{
	struct catch_up_action a = catch_up_next(c, now);

	assert_int_equal(a.verb, verb);
	return a;
}

static void expect_id(struct entry_id id, uint64_t ms)
{
	assert_true(id.ms == ms && id.seq == 0);
}

/* Subscribes, answers the cursor; the next thing is the mark. */
static struct catch_up *started(const char *filter, uint64_t subscribed, uint64_t cursor)
{
	struct catch_up *c = machine(subscribed);

	subscribe(c, filter, subscribed);
	assert_int_equal(expect(c, 0, CATCH_UP_READ_CURSOR).filter, 0);
	expect(c, 0, CATCH_UP_IDLE);
	give_cursor(c, at(cursor));
	return c;
}

static struct catch_up_action mark(struct catch_up *c, uint64_t id, enum catch_up_verb then)
{
	expect(c, 0, CATCH_UP_READ_MARK);
	expect(c, 0, CATCH_UP_IDLE);
	catch_up_mark(c, at(id), 0);
	return expect(c, 0, then);
}

static void nothing_missed(void **state)
{
	struct catch_up *c = started("a/#", 100, 100);
	struct catch_up_action a = mark(c, 100, CATCH_UP_SEND_SWITCH);

	(void)state;
	expect_id(a.upto, 100);
	assert_int_equal(a.sequence, 1);
	expect(c, 0, CATCH_UP_IDLE);
	catch_up_ack(c, 1, CONTROL_DONE, at(105));
	expect(c, 0, CATCH_UP_FORGET);
	catch_up_free(c);
}

/* The mark below the subscription: everything up to the cursor is delivered all the same. */
static void mark_behind(void **state)
{
	struct catch_up *c = started("a/#", 100, 100);

	(void)state;
	expect_id(mark(c, 50, CATCH_UP_SEND_SWITCH).upto, 100);
	catch_up_free(c);
}

/* What other nodes owe stands beside the filter, is read with it, ends by itself, and goes with it. */
static void other_nodes(void **state)
{
	static const struct catch_up_debt debts[] = {{1, {50, 0}, {80, 0}}, {2, {90, 0}, {90, 0}}, {3, {10, 0}, {95, 0}}};
	struct catch_up *c = machine(100);
	const struct catch_up_filter *f;
	struct message m = {.topic = slice_str("a/b"), .qos = 1};
	struct device_event gone;
	size_t count;

	(void)state;
	subscribe(c, "a/#", 100);
	expect(c, 0, CATCH_UP_READ_CURSOR);
	assert_int_equal(catch_up_cursor(c, at(70), debts, 3), ST_OK);
	f = catch_up_filters(c, &count);
	assert_int_equal(count, 3); /* node 2 owes nothing */
	assert_int_equal(f[1].node, 1);
	assert_int_equal(f[2].node, 3);
	static const struct {
		uint16_t node;
		uint64_t id;
		bool wanted;
	} table[] = {{0, 70, false}, {0, 71, true}, {0, 99, true}, {1, 50, false}, {1, 51, true}, {1, 80, true}, {1, 81, false},
		{2, 85, false}, {3, 10, false}, {3, 11, true}, {3, 95, true}, {3, 96, false}};
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		m.node = table[i].node;
		m.id = at(table[i].id);
		assert_int_equal(catch_up_wants(f, count, &m), table[i].wanted);
	}
	expect_id(mark(c, 100, CATCH_UP_FETCH).upto, 100);
	assert_true(catch_up_chunk(c, 1, 10, at(60), false));
	expect(c, 0, CATCH_UP_SEND_BATCH);
	assert_false(catch_up_advances(c, 0)); /* it has had that much */
	assert_true(catch_up_advances(c, 1) && catch_up_advances(c, 2));
	gone = subscription("a/#", 110);
	gone.op = DEVICE_OP_UNSUBSCRIBED;
	assert_int_equal(catch_up_event(c, &gone), ST_OK);
	(void)catch_up_filters(c, &count);
	assert_int_equal(count, 0);
	catch_up_free(c);
}

static void missing_cursor(void **state)
{
	struct catch_up *c = machine(100);
	struct device_event e = subscription("a/#", 100);
	size_t count;

	(void)state;
	assert_int_equal(catch_up_event(c, &e), ST_OK);
	expect(c, 0, CATCH_UP_READ_CURSOR);
	give_cursor(c, ENTRY_ID_MAX);
	expect_id(catch_up_filters(c, &count)[0].position, 100);
	catch_up_free(c);

	c = machine(100);
	e.again = true;
	e.from = at(70);
	assert_int_equal(catch_up_event(c, &e), ST_OK);
	expect(c, 0, CATCH_UP_READ_CURSOR);
	give_cursor(c, ENTRY_ID_MAX);
	expect_id(catch_up_filters(c, &count)[0].position, 70);
	catch_up_free(c);
}

/* `from` of an again-event wins when it is larger, and only then. */
static void from_wins(void **state)
{
	static const struct { uint64_t cursor, from, position; } table[] = {{10, 70, 70}, {70, 10, 70}, {0, 1, 1}, {5,
		0, 5}};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct catch_up *c = machine(100);
		struct device_event e = subscription("a/#", 100);
		size_t count;

		e.again = true;
		e.from = at(table[i].from);
		assert_int_equal(catch_up_event(c, &e), ST_OK);
		expect(c, 0, CATCH_UP_READ_CURSOR);
		give_cursor(c, at(table[i].cursor));
		expect_id(catch_up_filters(c, &count)[0].start, table[i].cursor);
		expect_id(catch_up_filters(c, &count)[0].position, table[i].position);
		catch_up_free(c);
	}
}

static void one_batch_then_switch(void **state)
{
	struct catch_up *c = started("a/#", 100, 10);
	struct catch_up_action a = mark(c, 100, CATCH_UP_FETCH);

	(void)state;
	assert_true(a.begin);
	expect_id(a.upto, 100);
	assert_true(catch_up_chunk(c, 3, 300, at(100), true));
	a = expect(c, 0, CATCH_UP_SEND_BATCH);
	assert_int_equal(a.sequence, 1);
	expect_id(a.upto, 100);
	assert_true(catch_up_advances(c, 0));
	expect(c, 0, CATCH_UP_IDLE); /* no switch before the batch is acknowledged */
	catch_up_ack(c, 1, CONTROL_DONE, at(100));
	a = expect(c, 0, CATCH_UP_SEND_SWITCH);
	assert_int_equal(a.sequence, 2);
	expect_id(a.upto, 100);
	catch_up_free(c);
}

/* A full batch is followed by another pass, not by a switch. */
static void full_pass(void **state)
{
	struct catch_up *c = started("a/#", 100, 10);

	(void)state;
	mark(c, 100, CATCH_UP_FETCH);
	assert_true(catch_up_chunk(c, CONTROL_BATCH_MESSAGES_MAX, 300, at(100), true));
	expect(c, 0, CATCH_UP_SEND_BATCH);
	expect(c, 0, CATCH_UP_READ_MARK);
	catch_up_mark(c, at(100), 0);
	expect(c, 0, CATCH_UP_IDLE);
	catch_up_ack(c, 1, CONTROL_DONE, at(100));
	expect(c, 0, CATCH_UP_SEND_SWITCH);
	catch_up_free(c);
}

static void window(void **state)
{
	struct catch_up *c = started("a/#", 100, 10);

	(void)state;
	mark(c, 100, CATCH_UP_FETCH);
	assert_true(catch_up_chunk(c, 1, 1, at(20), false));
	expect(c, 0, CATCH_UP_SEND_BATCH);
	assert_false(expect(c, 0, CATCH_UP_FETCH).begin);
	assert_true(catch_up_chunk(c, 1, 1, at(30), false));
	expect(c, 0, CATCH_UP_SEND_BATCH);
	assert_int_equal(catch_up_unacked(c), 2);
	expect(c, 0, CATCH_UP_IDLE);
	catch_up_ack(c, 7, CONTROL_DONE, at(100)); /* never sent */
	expect(c, 0, CATCH_UP_IDLE);
	catch_up_ack(c, 1, CONTROL_DONE, at(100));
	expect(c, 0, CATCH_UP_FETCH);
	catch_up_ack(c, 1, CONTROL_DONE, at(100)); /* twice */
	assert_int_equal(catch_up_unacked(c), 1);
	catch_up_free(c);
}

static void too_far_backs_off(void **state)
{
	struct catch_up *c = started("a/#", 100, 100);
	uint64_t now = 0, waited = 0;

	(void)state;
	mark(c, 100, CATCH_UP_SEND_SWITCH);
	catch_up_ack(c, 1, CONTROL_TOO_FAR, at(9000));
	for (int i = 0; i < 12; i++) {
		struct catch_up_action a;

		expect(c, now, CATCH_UP_READ_MARK);
		catch_up_mark(c, at(100), now); /* Redis does not move */
		a = expect(c, now, CATCH_UP_WAIT);
		assert_true(a.until_ms > now && a.until_ms - now <= 500 && a.until_ms - now >= waited);
		waited = a.until_ms - now;
		now = a.until_ms;
	}
	assert_int_equal(waited, 500);
	expect(c, now, CATCH_UP_READ_MARK);
	catch_up_mark(c, at(9000), now);
	expect_id(expect(c, now, CATCH_UP_FETCH).upto, 9000);
	assert_true(catch_up_chunk(c, 0, 0, at(9000), true));
	expect_id(expect(c, now, CATCH_UP_SEND_SWITCH).upto, 9000);
	catch_up_ack(c, 2, CONTROL_DONE, at(9001));
	expect(c, now, CATCH_UP_FORGET);
	catch_up_free(c);
}

static void gone(void **state)
{
	struct catch_up *c = started("a/#", 1, 0);

	(void)state;
	mark(c, 100, CATCH_UP_FETCH);
	event(c, DEVICE_OP_GONE, NULL, 50, 0);
	expect(c, 0, CATCH_UP_FORGET);
	catch_up_free(c);
	c = started("a/#", 100, 10);
	mark(c, 100, CATCH_UP_FETCH);
	assert_true(catch_up_chunk(c, 1, 1, at(20), false));
	expect(c, 0, CATCH_UP_SEND_BATCH);
	catch_up_ack(c, 1, CONTROL_GONE, at(100));
	expect(c, 0, CATCH_UP_FORGET);
	catch_up_free(c);
}

/* A chunk read with other filters is void; a filter that leaves or comes makes the pass begin anew. */
static void filters_change_under_a_read(void **state)
{
	struct catch_up *c = started("a/#", 1, 0);
	size_t count;

	(void)state;
	mark(c, 100, CATCH_UP_FETCH);
	subscribe(c, "b/#", 60);
	expect(c, 0, CATCH_UP_IDLE);
	assert_false(catch_up_chunk(c, 5, 5, at(50), false));
	assert_int_equal(expect(c, 0, CATCH_UP_READ_CURSOR).filter, 1);
	event(c, DEVICE_OP_UNSUBSCRIBED, "a/#", 61, 0);
	give_cursor(c, at(5)); /* of which filter is no longer sure: asked again */
	assert_int_equal(expect(c, 0, CATCH_UP_READ_CURSOR).filter, 0);
	give_cursor(c, at(5));
	assert_string_equal(catch_up_filters(c, &count)[0].filter, "b/#");
	assert_int_equal(count, 1);
	assert_true(mark(c, 100, CATCH_UP_FETCH).begin);
	catch_up_free(c);
}

static void unsubscribed_from_all(void **state)
{
	struct catch_up *c = started("a/#", 1, 0);

	(void)state;
	event(c, DEVICE_OP_UNSUBSCRIBED, "a/#", 40, 0);
	expect_id(expect(c, 0, CATCH_UP_SEND_SWITCH).upto, 40);
	catch_up_ack(c, 1, CONTROL_DONE, at(41));
	expect(c, 0, CATCH_UP_FORGET);
	catch_up_free(c);
}

static void subscribed_again_does_not_start_over(void **state)
{
	struct catch_up *c = started("a/#", 1, 0);
	size_t count;

	(void)state;
	mark(c, 100, CATCH_UP_FETCH);
	assert_true(catch_up_chunk(c, 1, 1, at(50), false));
	expect(c, 0, CATCH_UP_SEND_BATCH);
	subscribe(c, "a/#", 70);
	expect_id(catch_up_filters(c, &count)[0].position, 50);
	assert_int_equal(count, 1);
	catch_up_free(c);
}

/* Told again while it runs: what was handed over by somebody else is not read again, and nothing goes back. */
static void told_again(void **state)
{
	static const struct { uint64_t from, position; } table[] = {{70, 70}, {30, 50}, {0, 50}};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct catch_up *c = started("a/#", 1, 50);
		struct device_event e = subscription("a/#", 90);
		size_t count;

		e.again = true;
		e.from = at(table[i].from);
		assert_int_equal(catch_up_event(c, &e), ST_OK);
		expect_id(catch_up_filters(c, &count)[0].position, table[i].position);
		expect_id(catch_up_filters(c, &count)[0].start, 50);
		catch_up_free(c);
	}
}

/* Went live without its backlog: only what is below is sent, then a switch. */
static void late(void **state)
{
	struct catch_up *c = started("a/#", 1, 0);
	struct message m = {.topic = slice_str("a/1"), .qos = 1};
	size_t count;

	(void)state;
	event(c, DEVICE_OP_LIVE, NULL, 81, 80);
	expect_id(mark(c, 500, CATCH_UP_FETCH).upto, 80);
	m.id = at(80);
	assert_true(catch_up_wants(catch_up_filters(c, &count), 1, &m));
	m.id = at(81);
	assert_false(catch_up_wants(catch_up_filters(c, &count), 1, &m));
	assert_true(catch_up_chunk(c, 1, 1, at(80), true));
	expect(c, 0, CATCH_UP_SEND_BATCH);
	catch_up_ack(c, 1, CONTROL_DONE, at(500));
	expect_id(expect(c, 0, CATCH_UP_SEND_SWITCH).upto, 80);
	catch_up_ack(c, 2, CONTROL_DONE, at(500));
	expect(c, 0, CATCH_UP_FORGET);
	catch_up_free(c);
}

/* Live by the event, in case its acknowledgement was lost; a filter that came later stays. */
static void live(void **state)
{
	struct catch_up *c = started("a/#", 1, 0);
	size_t count;

	(void)state;
	subscribe(c, "b/#", 90);
	event(c, DEVICE_OP_LIVE, NULL, 80, 0);
	assert_string_equal(catch_up_filters(c, &count)[0].filter, "b/#");
	assert_int_equal(count, 1);
	event(c, DEVICE_OP_LIVE, NULL, 95, 0);
	expect(c, 0, CATCH_UP_FORGET);
	catch_up_free(c);
}

/* A filter subscribed after the switch was done, but told before its acknowledgement came. */
static void joined_behind_the_switch(void **state)
{
	struct catch_up *c = started("a/#", 100, 100);

	(void)state;
	mark(c, 100, CATCH_UP_SEND_SWITCH);
	subscribe(c, "b/#", 120);
	expect(c, 0, CATCH_UP_IDLE);
	catch_up_ack(c, 1, CONTROL_DONE, at(110));
	expect(c, 0, CATCH_UP_READ_CURSOR);
	catch_up_free(c);
}

static void queued_wants_qos0_only(void **state)
{
	static const struct { uint8_t subscribed, published, queued_upto; bool wanted; } table[] = {
		{1, 1, 5, false}, {1, 2, 5, false}, {2, 1, 9, false}, {1, 0, 5, true}, {0, 1, 5, true},
		{0, 0, 5, true}, {1, 1, 0, true}, {1, 1, 4, true}, {2, 2, 4, true},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct catch_up_filter f = {.filter = (char *)(uintptr_t)"a/+", .qos = table[i].subscribed,
			.queued_upto = at(table[i].queued_upto), .held_from = at(table[i].queued_upto), .known = true, .end = ENTRY_ID_MAX};
		struct message m = {.id = at(5), .topic = slice_str("a/b"), .qos = table[i].published};

		assert_int_equal(catch_up_wants(&f, 1, &m), table[i].wanted);
	}
}

/* What the broker has queued through one does not come through another one of QoS 0 that matches it, too; what it drops does. */
static void queued_through_another(void **state)
{
	static char all[] = "a/#", part[] = "a/+";
	struct catch_up_filter f[] = {
		{.filter = all, .qos = 0, .held_from = at(10), .known = true, .end = ENTRY_ID_MAX},
		{.filter = part, .qos = 1, .queued_upto = at(10), .held_from = at(10), .known = true, .end = ENTRY_ID_MAX},
	};
	struct message m = {.id = at(5), .topic = slice_str("a/b"), .qos = 1};

	(void)state;
	assert_false(catch_up_wants(f, 2, &m));
	m.qos = 0;
	assert_true(catch_up_wants(f, 2, &m));
	m.qos = 1;
	m.id = at(11);
	assert_true(catch_up_wants(f, 2, &m));
	m.id = at(5);
	m.topic = slice_str("a/b/c");
	assert_true(catch_up_wants(f, 2, &m));
}

/* What came between two SUBSCRIBEs was held back for the first, and so the broker queued nothing of it for the second. */
static void held_before_another_joins(void **state)
{
	static char all[] = "a/#", part[] = "a/+";
	static const struct { const char *topic; uint64_t id; bool wanted; } table[] = {
		{"a/b", 5, false}, {"a/b", 6, true}, {"a/b", 10, true}, {"a/b/c", 5, false}, {"a/b/c", 10, false}, {"a/b/c", 11, true},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct catch_up_filter f[] = {
			{.filter = all, .qos = 1, .queued_upto = at(10), .held_from = at(10), .known = true, .end = ENTRY_ID_MAX},
			{.filter = part, .qos = (uint8_t)(i % 3), .queued_upto = at(5), .held_from = at(5), .known = true, .end = ENTRY_ID_MAX},
		};
		struct message m = {.id = at(table[i].id), .topic = slice_str(table[i].topic), .qos = 1};

		assert_int_equal(catch_up_wants(f, 2, &m), table[i].wanted);
	}
}

/* What it has had through a subscription with a higher cursor, of this connection or not, comes no more; it is looked at only while
 * that makes a difference, and is no subscription. */
static void had(void **state)
{
	static const struct catch_up_had list[] = {{slice_of_text("a/+"), 0, {50, 0}, {90, 0}, {90, 0}, false},
		{slice_of_text("b/#"), 0, {1, 0}, {95, 0}, {95, 0}, false}, {slice_of_text("a/#"), 0, {1, 0}, {20, 0}, {20, 0}, false},
		{slice_of_text("a/+"), 7, {1, 0}, {99, 0}, {99, 0}, false}};
	static const struct {
		uint16_t node;
		const char *topic;
		uint64_t id;
		bool wanted;
	} table[] = {{0, "a/1", 20, false}, {0, "a/1", 21, true}, {0, "a/1", 50, true}, {0, "a/1", 51, false}, {0, "a/1", 90, false},
		{0, "a/1", 91, true}, {0, "a/1/x", 60, true}, {0, "b/1", 60, false}, {0, "a/1", 99, true}};
	struct catch_up *c = machine(100);
	struct message m = {.qos = 1};
	const struct catch_up_filter *f;
	size_t count;

	(void)state;
	subscribe(c, "a/#", 100);
	assert_true(expect(c, 0, CATCH_UP_READ_CURSOR).had);
	assert_int_equal(catch_up_had(c, list, 4, true), ST_OK);
	give_cursor(c, at(20));
	(void)mark(c, 100, CATCH_UP_FETCH);
	f = catch_up_filters(c, &count);
	assert_int_equal(count, 2);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		m.node = table[i].node;
		m.topic = slice_str(table[i].topic);
		m.id = at(table[i].id);
		assert_int_equal(catch_up_wants(f, count, &m), table[i].wanted);
	}
	assert_true(catch_up_chunk(c, 1, 10, at(95), true));
	expect(c, 0, CATCH_UP_SEND_BATCH);
	assert_true(catch_up_advances(c, 0));
	assert_false(catch_up_advances(c, 1));
	subscribe(c, "a/1", 101);
	assert_false(expect(c, 0, CATCH_UP_READ_CURSOR).had);
	give_cursor(c, at(94));
	(void)mark(c, 102, CATCH_UP_FETCH);
	(void)catch_up_filters(c, &count);
	assert_int_equal(count, 2); /* the other has been passed */
	event(c, DEVICE_OP_UNSUBSCRIBED, "a/1", 103, 0);
	event(c, DEVICE_OP_UNSUBSCRIBED, "a/#", 104, 0);
	(void)catch_up_chunk(c, 0, 0, at(102), true);
	catch_up_ack(c, 1, CONTROL_DONE, at(110));
	expect_id(expect(c, 0, CATCH_UP_SEND_SWITCH).upto, 104);
	catch_up_free(c);
}

/* What is not all that there is is asked for again when another filter comes, and takes the place of what was told before;
 * what the machine knows itself stays. */
static void had_in_part(void **state)
{
	static const struct catch_up_had first[] = {{slice_of_text("a/1"), 0, {1, 0}, {90, 0}, {90, 0}, false}},
		second[] = {{slice_of_text("a/2"), 0, {1, 0}, {90, 0}, {90, 0}, false}};
	static const struct { const char *topic; uint64_t id; bool wanted; } table[] = {{"a/1", 60, true}, {"a/2", 60, false},
		{"b/1", 60, false}, {"b/1", 71, true}};
	struct catch_up *c = machine(100);
	struct message m = {.qos = 1};
	const struct catch_up_filter *f;
	size_t count;

	(void)state;
	subscribe(c, "b/1", 100);
	assert_true(expect(c, 0, CATCH_UP_READ_CURSOR).had);
	assert_int_equal(catch_up_had(c, first, 1, false), ST_OK);
	give_cursor(c, at(20));
	(void)mark(c, 100, CATCH_UP_FETCH);
	assert_true(catch_up_chunk(c, 1, 10, at(70), false));
	expect(c, 0, CATCH_UP_SEND_BATCH);
	event(c, DEVICE_OP_UNSUBSCRIBED, "b/1", 101, 0);
	subscribe(c, "#", 102);
	assert_true(expect(c, 0, CATCH_UP_READ_CURSOR).had);
	assert_int_equal(catch_up_had(c, second, 1, true), ST_OK);
	give_cursor(c, at(20));
	subscribe(c, "c", 103);
	assert_false(expect(c, 0, CATCH_UP_READ_CURSOR).had);
	give_cursor(c, at(90));
	(void)mark(c, 103, CATCH_UP_FETCH);
	f = catch_up_filters(c, &count);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		m.topic = slice_str(table[i].topic);
		m.id = at(table[i].id);
		assert_int_equal(catch_up_wants(f, count, &m), table[i].wanted);
	}
	catch_up_free(c);
}

/* What a session that the broker keeps was to bring it has had if it joins with that; not if it joins without it, or not at all. */
static void had_if_the_session_goes_on(void **state)
{
	static const struct catch_up_had list[] = {{slice_of_text("a/1"), 0, {1, 0}, {90, 0}, {50, 0}, false}};
	static const struct { uint64_t joins_at; bool wanted; } table[] = {{0, true}, {90, false}, {50, true}};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct catch_up *c = machine(100);
		struct message m = {.qos = 1, .topic = slice_str("a/1"), .id = at(60)};
		const struct catch_up_filter *f;
		size_t count;

		subscribe(c, "a/#", 100);
		if (table[i].joins_at > 0) subscribe(c, "a/1", 100);
		assert_true(expect(c, 0, CATCH_UP_READ_CURSOR).had);
		assert_int_equal(catch_up_had(c, list, 1, true), ST_OK);
		give_cursor(c, at(20));
		if (table[i].joins_at > 0) {
			expect(c, 0, CATCH_UP_READ_CURSOR);
			give_cursor(c, at(table[i].joins_at));
		}
		(void)mark(c, 100, CATCH_UP_FETCH);
		f = catch_up_filters(c, &count);
		assert_int_equal(catch_up_wants(f, count, &m), table[i].wanted);
		m.id = at(50);
		assert_false(catch_up_wants(f, count, &m));
		catch_up_free(c);
	}
}

/* With what it has had beside it, it is over with its last subscription all the same. */
static void had_alone(void **state)
{
	static const struct catch_up_had list[] = {{slice_of_text("a/+"), 0, {1, 0}, {90, 0}, {90, 0}, false}};
	enum { BY_LIVE, BY_UNSUBSCRIBE, WAYS };

	(void)state;
	for (int way = BY_LIVE; way < WAYS; way++) {
		struct catch_up *c = machine(100);

		subscribe(c, "a/#", 100);
		expect(c, 0, CATCH_UP_READ_CURSOR);
		assert_int_equal(catch_up_had(c, list, 1, true), ST_OK);
		give_cursor(c, at(20));
		(void)mark(c, 100, CATCH_UP_FETCH);
		event(c, way == BY_LIVE ? DEVICE_OP_LIVE : DEVICE_OP_UNSUBSCRIBED, "a/#", 105, 0);
		if (way == BY_UNSUBSCRIBE) (void)catch_up_chunk(c, 0, 0, at(100), true);
		expect(c, 0, way == BY_LIVE ? CATCH_UP_FORGET : CATCH_UP_SEND_SWITCH);
		catch_up_free(c);
	}
}

/* Taken back before its cursor is known: nothing has come through it, whatever the answer says then. */
static void taken_back_before_its_cursor(void **state)
{
	struct catch_up *c = machine(100);
	struct message m = {.id = at(30), .topic = slice_str("a/1"), .qos = 1};
	const struct catch_up_filter *f;
	size_t count;

	(void)state;
	subscribe(c, "a/+", 100);
	subscribe(c, "a/#", 101);
	assert_int_equal(expect(c, 0, CATCH_UP_READ_CURSOR).filter, 0);
	event(c, DEVICE_OP_UNSUBSCRIBED, "a/+", 102, 0);
	give_cursor(c, at(90));
	assert_int_equal(expect(c, 0, CATCH_UP_READ_CURSOR).filter, 0);
	give_cursor(c, at(20));
	(void)mark(c, 100, CATCH_UP_FETCH);
	f = catch_up_filters(c, &count);
	assert_int_equal(count, 1);
	assert_true(catch_up_wants(f, count, &m));
	catch_up_free(c);
}

/* The lowest rate of all its subscriptions counts. */
static void at_rate(uint32_t first, uint32_t second, uint32_t expected)
{
	struct catch_up *c = machine(1);
	struct device_event e = subscription("a/#", 1);
	uint64_t now = 1000, sent = 0;

	e.rate = first;
	assert_int_equal(catch_up_event(c, &e), ST_OK);
	e = subscription("b/#", 1);
	e.rate = second;
	assert_int_equal(catch_up_event(c, &e), ST_OK);
	for (int i = 0; i < 2; i++) {
		expect(c, now, CATCH_UP_READ_CURSOR);
		give_cursor(c, at(0));
	}
	expect(c, now, CATCH_UP_READ_MARK);
	catch_up_mark(c, at(1000000), now);
	for (uint32_t sequence = 1; now < 11000;) {
		struct catch_up_action a = catch_up_next(c, now);

		if (a.verb == CATCH_UP_WAIT) {
			assert_true(a.until_ms > now);
			now = a.until_ms;
			continue;
		}
		assert_int_equal(a.verb, CATCH_UP_FETCH);
		assert_true(a.count > 0 && a.count <= expected / 10 && a.count <= CONTROL_BATCH_MESSAGES_MAX);
		sent += a.count;
		assert_true(catch_up_chunk(c, a.count, 1, at(sent), false));
		expect(c, now, CATCH_UP_SEND_BATCH);
		catch_up_ack(c, sequence++, CONTROL_DONE, at(1000000));
	}
	assert_between(sent, expected * 95 / 10, expected * 105 / 10); /* ten seconds */
	catch_up_free(c);
}

static void rate(void **state)
{
	(void)state;
	at_rate(100, 0, 100);
	at_rate(200, 100, 100);
	at_rate(100, 200, 100);
	at_rate(50000, 0, 50000); /* in more than one batch at a time */
}

/* Half of what the broker takes goes at once, a twentieth of it a second from then on, a fifth for what came meanwhile;
 * a rate that was asked for is kept instead. Without the half, where it was given something before. */
static void below_the_limit(void **state)
{
	static const struct { uint32_t rate; uint64_t subscribed_at, from; unsigned first, last; } table[] = {
		{0, 1000000, 0, 500 + 490, 500 + 520}, {0, 1, 0, 500 + 1950, 500 + 2050}, {300, 1000000, 0, 2900, 3100},
		{0, 1000000, 1, 490, 520}, {0, 1, 1, 1950, 2050}, {300, 1000000, 1, 2900, 3100},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct catch_up *c = machine(1);
		struct device_event e = subscription("a/#", table[i].subscribed_at);
		uint64_t now = 1000, sent = 0;

		e.rate = table[i].rate;
		if (table[i].from) e.from = at(table[i].from);
		assert_int_equal(catch_up_event(c, &e), ST_OK);
		catch_up_limit(c, 1000);
		expect(c, now, CATCH_UP_READ_CURSOR);
		give_cursor(c, at(1));
		expect(c, now, CATCH_UP_READ_MARK);
		catch_up_mark(c, at(1000000), now);
		for (uint32_t sequence = 1; now < 11000;) {
			struct catch_up_action a = catch_up_next(c, now);

			if (a.verb == CATCH_UP_WAIT) {
				now = a.until_ms;
				continue;
			}
			assert_int_equal(a.verb, CATCH_UP_FETCH);
			assert_between(a.count, 1, 500);
			sent += a.count;
			assert_true(catch_up_chunk(c, a.count, 1, at(1 + sent), false));
			expect(c, now, CATCH_UP_SEND_BATCH);
			catch_up_ack(c, sequence++, CONTROL_DONE, at(1000000));
		}
		assert_between(sent, table[i].first, table[i].last); /* ten seconds */
		catch_up_free(c);
	}
}

static void failed_read_is_repeated(void **state)
{
	struct catch_up *c = started("a/#", 100, 10);

	(void)state;
	mark(c, 100, CATCH_UP_FETCH);
	catch_up_read_failed(c, 200);
	assert_int_equal(expect(c, 100, CATCH_UP_WAIT).until_ms, 200);
	assert_true(expect(c, 200, CATCH_UP_FETCH).begin);
	catch_up_free(c);
}

static void deferred_fetch_is_repeated(void **state)
{
	struct catch_up *c = started("a/#", 100, 10);
	struct catch_up_action a = mark(c, 100, CATCH_UP_FETCH);

	(void)state;
	catch_up_defer(c, &a);
	assert_true(expect(c, 0, CATCH_UP_FETCH).begin);
	catch_up_free(c);
}

static void filters_full(void **state)
{
	struct catch_up *c = machine(1);
	char filter[32];
	struct device_event e;

	(void)state;
	for (unsigned i = 0; i <= CONTROL_FILTERS_MAX; i++) {
		snprintf(filter, sizeof(filter), "f/%u", i);
		e = subscription(filter, i + 1);
		assert_int_equal(catch_up_event(c, &e), i < CONTROL_FILTERS_MAX ? ST_OK : ST_FULL);
	}
	catch_up_free(c);
}

/* --- the model -------------------------------------------------------------------------------------------------- */

#define TOPICS 6
#define FILTERS 7
#define HISTORY_MAX 4000
#define EVENTS_MAX 64
#define SWITCH_MAX 12 /* records the plugin hands over in one switch */

static const char *const topics[TOPICS] = {"a/1", "a/2", "b/1", "b/2", "c", "a/1/x"};
static const char *const filters[FILTERS] = {"a/+", "a/1", "#", "b/#", "+/1", "c", "a/#"};

struct plugin_filter {
	bool subscribed;
	struct entry_id cursor, position, told; /* told: id of the event; none: zero */
};

/* History asked for once more, by the plugin's side. */
struct plugin_replay {
	bool asked;
	size_t filter;
	struct entry_id from, upto, told;
	uint64_t last; /* 0: by `from` */
};

enum mode { SAME_CURSORS, ALL_AT_ONCE, ANYTHING, REPLAYS };

struct model {
	uint64_t random;
	enum mode mode;
	struct catch_up *c;
	struct message history[HISTORY_MAX];
	unsigned delivered[HISTORY_MAX];
	unsigned rounds[HISTORY_MAX];   /* replays, begun anew ones too, that were to bring it */
	unsigned replayed[HISTORY_MAX]; /* times it came since the first of them was asked for */
	struct plugin_replay replay;
	size_t count;
	uint64_t clock, redis; /* newest id given out; everything up to `redis` is in Redis */
	struct entry_id last[TOPICS];
	struct plugin_filter f[FILTERS];
	struct catch_up_had had[FILTERS]; /* by subscriptions of earlier connections */
	size_t had_count;
	struct device_event events[EVENTS_MAX];
	size_t event_count, events_given;
	uint64_t generation;
	/* commands on their way to the plugin, at most the window and a switch */
	struct { struct catch_up_action a; size_t first, n; bool advances[FILTERS]; size_t filter_count;
		size_t filter[FILTERS]; } wire[8];
	size_t wire_first, wire_count;
	size_t picked[4096], picked_count; /* messages of the batches on the wire */
	struct { uint32_t sequence; enum control_result result; uint64_t head; } acks[8];
	size_t ack_count;
	enum catch_up_verb asked;
	struct catch_up_action action;
	struct catch_up_filter snapshot[2 * FILTERS + 1];
	size_t snapshot_count, fetch_at;
	uint64_t event_needed;
	bool live;
	uint64_t live_at;
	unsigned interruptions, steps;
};

static uint32_t roll(struct model *m, uint32_t n)
{
	m->random ^= m->random << 13;
	m->random ^= m->random >> 7;
	m->random ^= m->random << 17;
	return (uint32_t)((m->random >> 11) % n);
}

static void publish(struct model *m)
{
	struct message *msg;

	if (m->count == HISTORY_MAX) return;
	msg = &m->history[m->count++];
	m->clock += 1 + roll(m, 3);
	*msg = (struct message){.id = at(m->clock), .topic = slice_str(topics[roll(m, TOPICS)]),
		.qos = (uint8_t)roll(m, 3)};
}

static bool plugin_covers(const struct model *m, struct slice topic)
{
	for (size_t i = 0; i < FILTERS; i++) {
		struct catch_up_filter f = {.filter = (char *)(uintptr_t)filters[i], .known = true, .end = ENTRY_ID_MAX};
		struct message one = {.id = at(1), .topic = topic};

		if (m->f[i].subscribed && catch_up_wants(&f, 1, &one)) return true;
	}
	return false;
}

static void deliver(struct model *m, size_t index)
{
	const struct message *msg = &m->history[index];
	size_t t = 0;

	m->delivered[index]++;
	m->replayed[index]++;
	assert_true(m->delivered[index] <= 1 + m->rounds[index]);
	while (strcmp(topics[t], msg->topic.data) != 0) t++;
	if (m->mode < ANYTHING) assert_true(entry_id_compare(m->last[t], msg->id) < 0);
	m->last[t] = msg->id;
}

static void plugin_tell(struct model *m, size_t i, bool again)
{
	struct device_event *e = &m->events[m->event_count++];

	assert_true(m->event_count <= EVENTS_MAX);
	m->clock++;
	if (m->generation == 0) m->generation = m->clock;
	*e = (struct device_event){.op = DEVICE_OP_SUBSCRIBED, .id = at(m->clock), .client = slice_str("dev"),
		.generation = at(m->generation), .filter = slice_str(filters[i]), .qos = 2, .again = again};
	if (again) e->from = m->f[i].position;
	m->f[i].told = e->id;
}

/* The messages that the replay asks for; the newest `last` of them when not 0. */
static bool in_replay(const struct model *m, size_t index)
{
	const struct message *msg = &m->history[index];
	struct catch_up_filter f = {.filter = (char *)(uintptr_t)filters[m->replay.filter], .known = true,
		.end = m->replay.upto};
	uint64_t newer = 0;

	if (!catch_up_wants(&f, 1, msg)) return false;
	if (m->replay.last == 0) return entry_id_compare(msg->id, m->replay.from) > 0;
	for (size_t i = index + 1; i < m->count; i++) newer += catch_up_wants(&f, 1, &m->history[i]);
	return newer < m->replay.last;
}

static void plugin_tell_replay(struct model *m, bool first)
{
	struct device_event *e = &m->events[m->event_count++];

	assert_true(m->event_count <= EVENTS_MAX);
	m->clock++;
	if (m->generation == 0) m->generation = m->clock;
	*e = (struct device_event){.op = DEVICE_OP_SUBSCRIBED, .id = at(m->clock), .client = slice_str("dev"),
		.generation = at(m->generation), .filter = slice_str(filters[m->replay.filter]), .qos = 2, .again = true,
		.replay = true, .replay_from = m->replay.last ? m->replay.upto : m->replay.from, .replay_last = m->replay.last,
		.has_upto = true, .upto = m->replay.upto};
	m->replay.told = e->id;
	for (size_t i = 0; i < m->count; i++) {
		if (!in_replay(m, i)) continue;
		m->rounds[i]++;
		if (first) m->replayed[i] = 0;
	}
}

static void plugin_replay(struct model *m)
{
	size_t i = roll(m, FILTERS);

	if (m->live || m->replay.asked || m->generation == 0 || !m->f[i].subscribed) return;
	m->replay = (struct plugin_replay){.asked = true, .filter = i, .upto = at(m->clock),
		.from = at(roll(m, (uint32_t)m->clock + 1)), .last = roll(m, 2) ? 1 + roll(m, 40) : 0};
	plugin_tell_replay(m, true);
}

static void plugin_subscribe(struct model *m, size_t i)
{
	if (m->f[i].subscribed || m->live) return;
	m->f[i].subscribed = true;
	m->f[i].position = ENTRY_ID_ZERO;
	m->f[i].cursor = m->mode == SAME_CURSORS ? at(20) : at(roll(m, (uint32_t)m->clock + 1));
	plugin_tell(m, i, false);
}

/* What earlier connections have had. */
static void plugin_had(struct model *m)
{
	if (m->mode == SAME_CURSORS) return;
	m->had_count = roll(m, 4);
	for (size_t i = 0; i < m->had_count; i++) {
		uint64_t upto = roll(m, (uint32_t)m->clock + 1), since = roll(m, (uint32_t)upto + 1);

		m->had[i] = (struct catch_up_had){slice_str(filters[roll(m, FILTERS)]), NODE_OWN, at(since), at(upto),
			at(roll(m, 2) ? since + roll(m, (uint32_t)(upto - since) + 1) : upto), false};
	}
}

/* `perhaps`: even if only with a session that went on. */
static bool was_had(const struct model *m, const struct message *msg, bool perhaps)
{
	for (size_t i = 0; i < m->had_count; i++) {
		const struct catch_up_had *had = &m->had[i];

		if (msg->id.ms <= had->since.ms || msg->id.ms > (perhaps ? had->upto.ms : had->certain.ms)) continue;
		if (topic_matches(had->filter, msg->topic)) return true;
	}
	return false;
}

static enum control_result plugin_switch(struct model *m, struct entry_id upto)
{
	size_t first = m->count;

	for (size_t i = 0; i < FILTERS; i++) {
		if (m->f[i].subscribed && entry_id_compare(m->f[i].told, upto) > 0) return CONTROL_TOO_FAR;
	}
	if (m->replay.asked && entry_id_compare(m->replay.told, upto) > 0) return CONTROL_TOO_FAR;
	while (first > 0 && entry_id_compare(m->history[first - 1].id, upto) > 0) first--;
	if (m->count - first > SWITCH_MAX) return CONTROL_TOO_FAR;
	for (size_t i = first; i < m->count; i++) {
		if (plugin_covers(m, m->history[i].topic)) deliver(m, i);
	}
	m->live = true;
	m->live_at = m->clock;
	return CONTROL_DONE;
}

/* The plugin takes the first command on the wire. */
static void plugin_take(struct model *m)
{
	size_t w = m->wire_first % 8;
	const struct catch_up_action *a = &m->wire[w].a;
	enum control_result result = CONTROL_DONE;

	if (m->wire_count == 0) return;
	m->wire_first++;
	m->wire_count--;
	if (a->verb == CATCH_UP_SEND_BATCH) {
		for (size_t i = 0; i < m->wire[w].n; i++) deliver(m, m->picked[m->wire[w].first + i]);
		for (size_t i = 0; i < m->wire[w].filter_count; i++) {
			struct plugin_filter *f = &m->f[m->wire[w].filter[i]];

			if (entry_id_compare(a->upto, f->position) > 0) f->position = a->upto;
		}
	} else {
		result = plugin_switch(m, a->upto);
	}
	m->acks[m->ack_count].sequence = a->sequence;
	m->acks[m->ack_count].result = result;
	m->acks[m->ack_count++].head = m->clock;
}

static size_t filter_number(const char *filter)
{
	size_t i = 0;

	while (strcmp(filters[i], filter) != 0) i++;
	return i;
}

static void send(struct model *m, const struct catch_up_action *a, size_t first, size_t n)
{
	size_t w = (m->wire_first + m->wire_count++) % 8, count;
	const struct catch_up_filter *f = catch_up_filters(m->c, &count);

	assert_true(m->wire_count <= CATCH_UP_WINDOW + 1);
	m->wire[w].a = *a;
	m->wire[w].first = first;
	m->wire[w].n = n;
	m->wire[w].filter_count = 0;
	if (a->verb != CATCH_UP_SEND_BATCH) return;
	for (size_t i = 0; i < count; i++) {
		if (catch_up_advances(m->c, i) && !f[i].replay) m->wire[w].filter[m->wire[w].filter_count++] = filter_number(f[i].filter);
	}
}

/* Answers a fetch: some of what is wanted, in order. */
static void fetch_answer(struct model *m)
{
	size_t max = 1 + roll(m, 5), first = m->picked_count, n = 0;
	struct entry_id reached = ENTRY_ID_ZERO;
	bool finished = true;
	struct catch_up_action a;

	while (m->fetch_at < m->count) {
		const struct message *msg = &m->history[m->fetch_at];

		if (entry_id_compare(msg->id, m->action.upto) > 0) break;
		if (n == max || roll(m, 60) == 0) {
			finished = false;
			break;
		}
		reached = msg->id;
		if (catch_up_wants(m->snapshot, m->snapshot_count, msg)) {
			assert_true(m->picked_count < 4096);
			m->picked[m->picked_count++] = m->fetch_at;
			n++;
		}
		m->fetch_at++;
	}
	if (finished) reached = m->action.upto;
	if (!catch_up_chunk(m->c, n, n, reached, finished)) return;
	if (n == 0 && finished) return;
	a = catch_up_next(m->c, m->steps);
	if (a.verb == CATCH_UP_FORGET) return;
	assert_int_equal(a.verb, CATCH_UP_SEND_BATCH);
	send(m, &a, first, n);
}

/* As bridge/device_read.c counts back: everything up to the replay's end is in Redis. */
static struct entry_id counted_back(const struct model *m)
{
	struct entry_id oldest = ENTRY_ID_ZERO;
	uint64_t n = 0;

	for (size_t i = 0; i < m->count; i++) {
		if (!in_replay(m, i)) continue;
		if (n++ == 0) oldest = m->history[i].id;
	}
	return n < m->replay.last ? ENTRY_ID_ZERO : at(oldest.ms - 1);
}

static void answer(struct model *m)
{
	size_t count;
	const struct catch_up_filter *f = catch_up_filters(m->c, &count);

	switch (m->asked) {
	case CATCH_UP_READ_CURSOR:
		if (m->action.had) assert_int_equal(catch_up_had(m->c, m->had, m->had_count, roll(m, 2)), ST_OK); /* else asked again */
		if (m->action.filter < count && f[m->action.filter].replay) {
			catch_up_cursor_counted(m->c);
			give_cursor(m->c, counted_back(m));
			break;
		}
		give_cursor(m->c, m->action.filter < count ? m->f[filter_number(f[m->action.filter].filter)].cursor
			: ENTRY_ID_ZERO);
		break;
	case CATCH_UP_READ_MARK:
		while (m->events_given < m->event_count && m->events[m->events_given].id.ms <= m->redis) {
			assert_int_equal(catch_up_event(m->c, &m->events[m->events_given++]), ST_OK);
		}
		catch_up_mark(m->c, at(m->redis), m->steps);
		break;
	case CATCH_UP_FETCH:
		if (roll(m, 20) == 0) catch_up_read_failed(m->c, m->steps + 2);
		else fetch_answer(m);
		break;
	default:
		break;
	}
	m->asked = CATCH_UP_IDLE;
}

/* A new fetch sees the filters as they are now, like bridge/fetch.c. */
static void fetch_begin(struct model *m)
{
	const struct catch_up_filter *f = catch_up_filters(m->c, &m->snapshot_count);
	struct entry_id low = ENTRY_ID_MAX;

	for (size_t i = 0; i < m->snapshot_count; i++) {
		m->snapshot[i] = f[i];
		m->snapshot[i].filter = (char *)(uintptr_t)filters[filter_number(f[i].filter)];
		if (entry_id_compare(f[i].position, low) < 0) low = f[i].position;
	}
	m->fetch_at = 0;
	while (m->fetch_at < m->count && entry_id_compare(m->history[m->fetch_at].id, low) <= 0) m->fetch_at++;
}

static bool bridge_step(struct model *m)
{
	struct catch_up_action a;

	if (m->asked != CATCH_UP_IDLE) return true;
	a = catch_up_next(m->c, m->steps);
	switch (a.verb) {
	case CATCH_UP_FORGET:
		return false;
	case CATCH_UP_FETCH:
		if (a.begin) fetch_begin(m);
		else if (roll(m, 15) == 0) {
			catch_up_defer(m->c, &a);
			catch_up_rewind(m->c);
			break;
		}
		m->asked = a.verb;
		m->action = a;
		break;
	case CATCH_UP_READ_CURSOR:
	case CATCH_UP_READ_MARK:
		m->asked = a.verb;
		m->action = a;
		break;
	case CATCH_UP_SEND_SWITCH:
		assert_int_equal(m->wire_count, 0);
		send(m, &a, 0, 0);
		break;
	default:
		break;
	}
	return true;
}

/* The connection between bridge and plugin breaks: what is on the wire is lost, all owed is told again. */
static void interrupt(struct model *m)
{
	if (m->live || m->generation == 0) return;
	m->interruptions++;
	catch_up_free(m->c);
	m->wire_count = m->ack_count = 0;
	m->asked = CATCH_UP_IDLE;
	m->generation = 0;
	m->event_count = m->events_given = 0;
	for (size_t i = 0; i < FILTERS; i++) {
		if (m->f[i].subscribed) plugin_tell(m, i, true);
	}
	if (m->replay.asked) plugin_tell_replay(m, false);
	m->redis = m->clock;
	m->c = machine(m->generation);
	while (m->events_given < m->event_count) {
		assert_int_equal(catch_up_event(m->c, &m->events[m->events_given++]), ST_OK);
	}
}

static void step(struct model *m)
{
	switch (roll(m, m->mode == REPLAYS ? 10 : 9)) {
	case 0:
		if (m->steps < 1500) publish(m);
		break;
	case 1:
		if (m->redis < m->clock) m->redis += 1 + roll(m, (uint32_t)(m->clock - m->redis));
		break;
	case 2:
		if (m->mode != ALL_AT_ONCE && m->steps < 1000 && roll(m, 10) == 0) plugin_subscribe(m, roll(m, FILTERS));
		break;
	case 3:
		if (m->events_given < m->event_count && m->events[m->events_given].id.ms <= m->redis) {
			assert_int_equal(catch_up_event(m->c, &m->events[m->events_given++]), ST_OK);
		}
		break;
	case 4:
		plugin_take(m);
		break;
	case 5:
		if (m->ack_count == 0) break;
		catch_up_ack(m->c, m->acks[0].sequence, m->acks[0].result, at(m->acks[0].head));
		m->ack_count--;
		memmove(&m->acks[0], &m->acks[1], m->ack_count * sizeof(m->acks[0]));
		break;
	case 6:
		answer(m);
		break;
	case 7:
		if (m->mode != ALL_AT_ONCE && m->interruptions < 4 && roll(m, 150) == 0) interrupt(m);
		break;
	case 9:
		if (m->steps < 1400 && roll(m, 60) == 0) plugin_replay(m);
		break;
	default:
		break;
	}
	m->steps++;
}

/* Everything a filter was owed between its cursor and the switch has come once; what was asked for once more came then;
 * nothing else has. */
static void check_books(const struct model *m)
{
	for (size_t i = 0; i < m->count; i++) {
		bool owed = false;

		for (size_t k = 0; k < FILTERS; k++) {
			struct catch_up_filter f = {.filter = (char *)(uintptr_t)filters[k], .known = true, .end = ENTRY_ID_MAX,
				.start = m->f[k].cursor, .position = m->f[k].cursor};

			if (m->f[k].subscribed && catch_up_wants(&f, 1, &m->history[i])) owed = true;
		}
		if (m->history[i].id.ms > m->live_at || was_had(m, &m->history[i], false)) owed = false;
		if (m->rounds[i] == 0 && owed && was_had(m, &m->history[i], true)) {
			assert_true(m->delivered[i] <= 1);
			continue;
		}
		if (m->rounds[i] == 0) {
			assert_int_equal(m->delivered[i], owed ? 1 : 0);
			continue;
		}
		assert_true(m->replayed[i] >= 1);
		assert_true(m->delivered[i] <= (owed ? 1 : 0) + m->rounds[i]);
	}
}

static void model_run(enum mode mode, uint64_t seed)
{
	struct model *m = calloc(1, sizeof(*m));
	size_t subscribe_count;

	assert_non_null(m);
	m->random = seed * 0x9e3779b97f4a7c15u + 1;
	m->mode = mode;
	for (int i = 0; i < 200; i++) publish(m);
	plugin_had(m);
	subscribe_count = 1 + roll(m, FILTERS);
	for (size_t i = 0; i < subscribe_count; i++) plugin_subscribe(m, roll(m, FILTERS));
	m->c = machine(m->generation);
	if (mode == ALL_AT_ONCE) {
		m->redis = m->clock;
		while (m->events_given < m->event_count) {
			assert_int_equal(catch_up_event(m->c, &m->events[m->events_given++]), ST_OK);
		}
	} else {
		m->redis = m->events[0].id.ms;
		assert_int_equal(catch_up_event(m->c, &m->events[m->events_given++]), ST_OK);
	}
	while (m->steps < 200000 && bridge_step(m)) step(m);
	if (!m->live) printf("mode %d, seed %llu: not live after %u steps\n", mode, (unsigned long long)seed, m->steps);
	assert_true(m->live);
	check_books(m);
	catch_up_free(m->c);
	free(m);
}

static void model(void **state)
{
	struct seeds s = seeds(1, 400);

	(void)state;
	for (unsigned seed = s.first; seed < s.end; seed++) {
		for (int mode = SAME_CURSORS; mode <= REPLAYS; mode++) model_run((enum mode)mode, seed);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_missed),
		cmocka_unit_test(mark_behind),
		cmocka_unit_test(missing_cursor),
		cmocka_unit_test(other_nodes),
		cmocka_unit_test(from_wins),
		cmocka_unit_test(one_batch_then_switch),
		cmocka_unit_test(full_pass),
		cmocka_unit_test(window),
		cmocka_unit_test(too_far_backs_off),
		cmocka_unit_test(gone),
		cmocka_unit_test(filters_change_under_a_read),
		cmocka_unit_test(unsubscribed_from_all),
		cmocka_unit_test(subscribed_again_does_not_start_over),
		cmocka_unit_test(told_again),
		cmocka_unit_test(late),
		cmocka_unit_test(live),
		cmocka_unit_test(joined_behind_the_switch),
		cmocka_unit_test(queued_wants_qos0_only),
		cmocka_unit_test(queued_through_another), cmocka_unit_test(held_before_another_joins),
		cmocka_unit_test(had),
		cmocka_unit_test(had_in_part),
		cmocka_unit_test(had_alone),
		cmocka_unit_test(taken_back_before_its_cursor),
		cmocka_unit_test(had_if_the_session_goes_on),
		cmocka_unit_test(rate),
		cmocka_unit_test(below_the_limit),
		cmocka_unit_test(failed_read_is_repeated),
		cmocka_unit_test(deferred_fetch_is_repeated),
		cmocka_unit_test(filters_full),
		cmocka_unit_test(model),
	};

	seeds_test_wanted();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
