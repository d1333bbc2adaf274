/* One outbox's step machine: by steps, and against a Redis and a broker made of arrays that fail at random. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/outbox_flow.h"
#include "tests/unit/seeds.h"

#define SEED 20261122u

enum { ENTRIES = 600, WINDOW = 8, STEPS = 60000, TOPICS = 4 };

static void drop(void *ctx, struct outbox_item *item)
{
	unsigned *dropped = ctx;

	if (dropped) (*dropped)++;
	free(item);
}

static struct outbox_flow *make(bool list, unsigned window, unsigned *dropped)
{
	struct flow_config config = {.list = list, .window = window, .drop = drop, .ctx = dropped};
	struct outbox_flow *f = NULL;

	assert_int_equal(flow_new(&config, &f), ST_OK);
	return f;
}

static struct outbox_item *item_of(uint64_t n, size_t bytes)
{
	struct outbox_item *item = calloc(1, sizeof(*item));

	assert_non_null(item);
	item->id = (struct entry_id){n, 0};
	item->element = slice_of(&item->id, sizeof(item->id));
	item->bytes = bytes;
	item->expires_ms = UINT64_MAX;
	return item;
}

static void up(struct outbox_flow *f)
{
	flow_active(f, true);
	flow_redis(f, true);
	flow_broker(f, true, 1000, 0);
	flow_guarded(f, true);
}

/* Through the reads of a start, until what is new is asked for. */
static void begin(struct outbox_flow *f, bool list)
{
	struct flow_read r;

	assert_true(flow_read(f, &r));
	assert_int_equal(r.kind, READ_OWN);
	assert_false(flow_read(f, &r));
	flow_read_done(f, 0, ENTRY_ID_ZERO);
	if (!list) {
		assert_true(flow_read(f, &r));
		assert_int_equal(r.kind, READ_CLAIM);
		flow_read_done(f, 0, ENTRY_ID_ZERO);
	}
}

static void give(struct outbox_flow *f, uint64_t from, unsigned count)
{
	struct flow_read r;

	assert_true(flow_read(f, &r));
	assert_int_equal(r.kind, READ_NEW);
	assert_true(r.count >= count);
	for (unsigned i = 0; i < count; i++) flow_add(f, item_of(from + i, 10));
	flow_read_done(f, count, ENTRY_ID_ZERO);
}

/* --- by steps -------------------------------------------------------------------------------------------------- */

static void nothing_before_all_is_up(void **state)
{
	struct outbox_flow *f = make(false, 4, NULL);
	struct flow_read r;

	(void)state;
	assert_false(flow_read(f, &r));
	flow_redis(f, true);
	flow_broker(f, true, 10, 0);
	assert_false(flow_read(f, &r)); /* it only stands by */
	flow_active(f, true);
	flow_broker(f, false, 0, 0);
	assert_false(flow_read(f, &r)); /* nothing is read that cannot be published */
	flow_broker(f, true, 10, 0);
	flow_redis(f, false);
	assert_false(flow_read(f, &r));
	flow_redis(f, true);
	begin(f, false);
	flow_free(f);
}

static void window_and_receive_maximum(void **state)
{
	struct outbox_flow *f = make(true, 4, NULL);
	struct flow_read r;

	(void)state;
	up(f);
	begin(f, true);
	give(f, 1, 8);
	assert_false(flow_read(f, &r)); /* twice the window is held */
	for (uint64_t i = 1; i <= 4; i++) assert_int_equal(flow_publish(f, 0)->id.ms, i);
	assert_null(flow_publish(f, 0));
	flow_broker(f, false, 0, 0);
	assert_int_equal(flow_held(f), 0);
	flow_broker(f, true, 2, 0);
	flow_guarded(f, true);
	begin(f, true);
	give(f, 1, 8);
	/* The connection before was lost without an acknowledgement: one at a time, until there is one. */
	struct outbox_item *one = flow_publish(f, 0);
	assert_null(flow_publish(f, 0));
	flow_acked(f, one, 0, 0);
	assert_non_null(flow_publish(f, 0));
	assert_non_null(flow_publish(f, 0));
	assert_null(flow_publish(f, 0)); /* receive maximum */
	flow_free(f);
}

static void bytes_bound_reading(void **state)
{
	struct outbox_flow *f = make(true, 100, NULL);
	struct flow_read r;

	(void)state;
	up(f);
	begin(f, true);
	assert_true(flow_read(f, &r));
	assert_int_equal(r.count, 200);
	flow_add(f, item_of(1, FLOW_BYTES_MAX / 4));
	flow_read_done(f, 1, ENTRY_ID_ZERO);
	assert_true(flow_read(f, &r));
	assert_int_equal(r.count, 3);
	flow_add(f, item_of(2, FLOW_BYTES_MAX / 2));
	flow_read_done(f, 1, ENTRY_ID_ZERO);
	assert_false(flow_read(f, &r)); /* another one as large would not fit */
	flow_acked(f, flow_publish(f, 0), 0, 0);
	flow_acked(f, flow_publish(f, 0), 0, 0);
	assert_non_null(flow_settle(f, 10, SIZE_MAX));
	flow_settled(f, true);
	assert_int_equal(flow_bytes(f), 0);
	assert_true(flow_read(f, &r));
	assert_int_equal(r.count, 2);
	flow_add(f, item_of(3, 3 * (size_t)FLOW_BYTES_MAX)); /* alone, whatever its size */
	flow_read_done(f, 1, ENTRY_ID_ZERO);
	assert_false(flow_read(f, &r));
	flow_acked(f, flow_publish(f, 0), 0, 0);
	assert_non_null(flow_settle(f, 10, 1));
	flow_settled(f, true);
	assert_true(flow_read(f, &r));
	assert_int_equal(r.count, 1);
	flow_free(f);
}

static void reasons(void **state)
{
	static const struct {
		int reason;
		enum outcome outcome; /* NONE: again later */
	} table[] = {{0, OUTCOME_PUBLISHED}, {0x10, OUTCOME_NO_SUBSCRIBERS}, {0x80, OUTCOME_NONE}, {0x83, OUTCOME_NONE},
		{0x87, OUTCOME_DEAD}, {0x90, OUTCOME_DEAD}, {0x91, OUTCOME_NONE}, {0x95, OUTCOME_DEAD}, {0x97, OUTCOME_NONE},
		{0x99, OUTCOME_DEAD}};
	struct outbox_flow *f = make(false, 20, NULL);
	uint64_t now = 0;

	(void)state;
	up(f);
	begin(f, false);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		give(f, i + 1, 1);
		struct outbox_item *item = flow_publish(f, now);
		assert_non_null(item);
		flow_acked(f, item, table[i].reason, now);
		if (table[i].outcome == OUTCOME_NONE) {
			assert_int_equal(item->state, ITEM_HELD);
			assert_null(flow_publish(f, now));
			now += FLOW_PAUSE_MS_MAX;
			assert_ptr_equal(flow_publish(f, now), item);
			flow_acked(f, item, 0, now);
		} else {
			assert_int_equal(item->outcome, table[i].outcome);
			assert_int_equal(item->why[0] != '\0', item->outcome == OUTCOME_DEAD);
		}
	}
	flow_free(f);
}

/* Refused ones go again in their order, whatever the order of the answers. */
static void refused_in_order(void **state)
{
	struct outbox_flow *f = make(false, 5, NULL);
	struct outbox_item *items[5], *again;

	(void)state;
	up(f);
	begin(f, false);
	give(f, 1, 7);
	for (int i = 0; i < 5; i++) items[i] = flow_publish(f, 0);
	flow_again(f, items[3]);
	flow_acked(f, items[1], 0x97, 0);
	flow_acked(f, items[0], 0, 0);
	flow_again(f, items[2]);
	flow_again(f, items[4]);
	assert_null(flow_publish(f, FLOW_PAUSE_MS_MIN - 1));
	/* The one that was refused goes alone. */
	again = flow_publish(f, FLOW_PAUSE_MS_MIN);
	assert_int_equal(again->id.ms, 2);
	assert_null(flow_publish(f, FLOW_PAUSE_MS_MAX));
	flow_acked(f, again, 0x97, FLOW_PAUSE_MS_MIN);
	assert_null(flow_publish(f, 2 * FLOW_PAUSE_MS_MIN));
	again = flow_publish(f, 3 * FLOW_PAUSE_MS_MIN);
	assert_int_equal(again->id.ms, 2);
	flow_acked(f, again, 0, FLOW_PAUSE_MS_MAX);
	for (uint64_t id = 3; id <= 7; id++) assert_int_equal(flow_publish(f, FLOW_PAUSE_MS_MAX)->id.ms, id);
	flow_free(f);
}

static struct outbox_item *with_topic(uint64_t n, const char *topic, uint8_t qos)
{
	struct outbox_item *item = item_of(n, 10);

	item->push.topic = slice_str(topic);
	item->push.qos = qos;
	return item;
}

static void give_these(struct outbox_flow *f, struct outbox_item *const *items, unsigned count)
{
	struct flow_read r;

	assert_true(flow_read(f, &r));
	for (unsigned i = 0; i < count; i++) flow_add(f, items[i]);
	flow_read_done(f, count, ENTRY_ID_ZERO);
}

/* A topic waits for its refused one; others pass it. Only when all are refused, all wait. */
static void topics_pass(void **state)
{
	struct outbox_flow *f = make(true, 10, NULL);
	struct outbox_item *items[] = {with_topic(1, "a", 1), with_topic(2, "b", 1), with_topic(3, "a", 1), with_topic(4, "b", 1)};

	(void)state;
	up(f);
	begin(f, true);
	give_these(f, items, 4);
	assert_ptr_equal(flow_publish(f, 0), items[0]);
	flow_acked(f, items[0], 0x97, 0);
	assert_ptr_equal(flow_publish(f, 0), items[1]);
	assert_ptr_equal(flow_publish(f, 0), items[3]);
	assert_null(flow_publish(f, 0));
	flow_acked(f, items[1], 0x97, 0);
	flow_again(f, items[3]);
	assert_null(flow_publish(f, FLOW_PAUSE_MS_MIN - 1));
	assert_ptr_equal(flow_publish(f, FLOW_PAUSE_MS_MIN), items[0]);
	flow_acked(f, items[0], 0, 0);
	assert_ptr_equal(flow_publish(f, FLOW_PAUSE_MS_MIN), items[1]);
	assert_ptr_equal(flow_publish(f, FLOW_PAUSE_MS_MIN), items[2]);
	assert_null(flow_publish(f, FLOW_PAUSE_MS_MIN));
	flow_done(f, items[1], OUTCOME_EXPIRED);
	assert_ptr_equal(flow_publish(f, FLOW_PAUSE_MS_MIN), items[3]);
	flow_free(f);
}

/* As long as nobody guards the order, and with another QoS always, one of a topic at a time. */
static void one_of_a_topic(void **state)
{
	struct outbox_flow *f = make(true, 10, NULL);
	struct outbox_item *items[] = {with_topic(1, "a", 1), with_topic(2, "a", 1), with_topic(3, "b", 1), with_topic(4, "a", 1),
		with_topic(5, "a", 2), with_topic(6, "a", 2), with_topic(7, "a", 0)};

	(void)state;
	up(f);
	flow_guarded(f, false);
	begin(f, true);
	give_these(f, items, 7);
	assert_ptr_equal(flow_publish(f, 0), items[0]);
	assert_ptr_equal(flow_publish(f, 0), items[2]);
	assert_null(flow_publish(f, 0));
	flow_acked(f, items[0], 0, 0);
	assert_ptr_equal(flow_publish(f, 0), items[1]);
	assert_null(flow_publish(f, 0));
	flow_guarded(f, true);
	assert_ptr_equal(flow_publish(f, 0), items[3]);
	assert_null(flow_publish(f, 0));
	flow_acked(f, items[1], 0, 0);
	assert_null(flow_publish(f, 0));
	flow_acked(f, items[3], 0, 0);
	assert_ptr_equal(flow_publish(f, 0), items[4]);
	assert_ptr_equal(flow_publish(f, 0), items[5]);
	assert_null(flow_publish(f, 0));
	flow_acked(f, items[4], 0, 0);
	flow_acked(f, items[5], 0, 0);
	assert_ptr_equal(flow_publish(f, 0), items[6]);
	flow_free(f);
}

static void groups_stay_what_they_were(void **state)
{
	unsigned dropped = 0;
	struct outbox_flow *f = make(true, 10, &dropped);

	(void)state;
	up(f);
	begin(f, true);
	give(f, 1, 5);
	assert_null(flow_settle(f, 10, SIZE_MAX));
	for (int i = 0; i < 3; i++) flow_acked(f, flow_publish(f, 0), 0, 0);
	struct outbox_item *first = flow_settle(f, 2, SIZE_MAX);
	assert_int_equal(first->id.ms, 1);
	assert_int_equal(first->next->id.ms, 2);
	assert_null(first->next->next);
	assert_null(flow_settle(f, 10, SIZE_MAX)); /* one at a time */
	flow_acked(f, flow_publish(f, 0), 0, 0);
	flow_settled(f, false);
	assert_ptr_equal(flow_settle(f, 10, SIZE_MAX), first);
	assert_null(first->next->next); /* it may have been applied */
	flow_broker(f, false, 0, 0); /* their outcome is known: they stay */
	flow_settled(f, true);
	assert_int_equal(dropped, 3); /* and the one that was queued */
	assert_int_equal(flow_settle(f, 10, SIZE_MAX)->id.ms, 3);
	flow_free(f);
}

/* What is ours is not read before all that is held is settled. */
static void ours_first(void **state)
{
	struct outbox_flow *f = make(false, 10, NULL);
	struct flow_read r;

	(void)state;
	up(f);
	begin(f, false);
	give(f, 1, 2);
	struct outbox_item *item = flow_publish(f, 0);
	assert_true(flow_read(f, &r));
	flow_read_failed(f, true);
	assert_false(flow_takes(f));
	assert_false(flow_read(f, &r));
	flow_acked(f, item, 0, 0);
	flow_acked(f, flow_publish(f, 0), 0, 0);
	assert_false(flow_read(f, &r));
	assert_non_null(flow_settle(f, 10, SIZE_MAX));
	flow_settled(f, true);
	assert_true(flow_read(f, &r));
	assert_int_equal(r.kind, READ_OWN);
	assert_true(entry_id_is_zero(r.cursor));
	flow_add(f, item_of(3, 10));
	flow_read_done(f, 1, (struct entry_id){3, 0});
	assert_true(flow_read(f, &r));
	assert_int_equal(r.kind, READ_OWN);
	assert_int_equal(r.cursor.ms, 3);
	assert_true(flow_holds(f, (struct entry_id){3, 0}));
	assert_false(flow_holds(f, (struct entry_id){2, 0}));
	flow_read_done(f, 0, ENTRY_ID_ZERO);
	assert_true(flow_read(f, &r));
	assert_int_equal(r.kind, READ_CLAIM);
	flow_read_done(f, 0, (struct entry_id){9, 0});
	assert_true(flow_read(f, &r));
	assert_int_equal(r.kind, READ_CLAIM);
	assert_int_equal(r.cursor.ms, 9);
	flow_free(f);
}

/* An entry at which the broker closes the connection each time is found, and goes; its neighbours do not. */
static void poison(void **state)
{
	struct outbox_flow *f = make(false, 10, NULL);
	uint64_t now = 0;
	unsigned losses = 0;
	bool dead = false;

	(void)state;
	up(f);
	while (!dead) {
		struct flow_read r;

		assert_true(losses < 30);
		assert_true(flow_read(f, &r));
		assert_int_equal(r.kind, READ_OWN);
		struct outbox_item *bad = item_of(1, 10), *good = item_of(2, 10);
		flow_add(f, bad);
		flow_add(f, good);
		dead = bad->outcome == OUTCOME_DEAD;
		flow_read_done(f, 2, (struct entry_id){2, 0});
		if (dead) {
			assert_ptr_equal(flow_publish(f, now + FLOW_PAUSE_MS_MAX), good);
			break;
		}
		now += FLOW_PAUSE_MS_MAX;
		assert_ptr_equal(flow_publish(f, now), bad);
		if (losses > 0) assert_null(flow_publish(f, now));
		flow_broker(f, false, 0, now);
		flow_broker(f, true, 100, now);
		losses++;
		if (losses > 1) assert_null(flow_publish(f, now)); /* a pause */
	}
	assert_int_equal(losses, FLOW_STRIKES_MAX + 1);
	flow_free(f);
}

/* When the plugin says that it was its journal, no entry is to blame, however often. */
static void forgiven(void **state)
{
	struct outbox_flow *f = make(false, 10, NULL);
	uint64_t now = 0;

	(void)state;
	up(f);
	for (unsigned losses = 0; losses < 5 * FLOW_STRIKES_MAX; losses++) {
		struct flow_read r;

		assert_true(flow_read(f, &r));
		struct outbox_item *item = item_of(1, 10);
		flow_add(f, item);
		assert_int_equal(item->outcome, OUTCOME_NONE);
		flow_read_done(f, 1, (struct entry_id){1, 0});
		now += FLOW_PAUSE_MS_MAX;
		assert_ptr_equal(flow_publish(f, now), item);
		flow_broker(f, false, 0, now);
		flow_broker(f, true, 100, now);
		flow_forgive(f);
		if (losses > 10) assert_null(flow_publish(f, now + FLOW_PAUSE_MS_MAX - 1));
	}
	flow_free(f);
}

/* --- against a model ------------------------------------------------------------------------------------------- */

enum entry_state { ENTRY_NEW, ENTRY_PENDING, ENTRY_GONE };

struct model {
	enum entry_state entries[ENTRIES + 1];
	bool published[ENTRIES + 1];
	unsigned accepted[TOPICS]; /* the last one that the broker took for the first time */
	bool guarded, blocked, refused;
	struct outbox_flow *f;
	bool list, broker, redis;
	bool reading, settling;
	struct flow_read read;
	struct outbox_item *sent[WINDOW];
	bool taken[WINDOW];
	size_t sent_count;
	uint64_t now;
};

static const char *const topics[TOPICS] = {"a", "b", "c", "d"};

static void answer_read(struct model *m)
{
	unsigned got = 0;
	struct entry_id last = ENTRY_ID_ZERO;
	bool lost = rand() % 20 == 0;

	m->reading = false;
	if (m->read.kind == READ_CLAIM) {
		flow_read_done(m->f, 0, ENTRY_ID_ZERO);
		return;
	}
	for (unsigned n = 1; n <= ENTRIES && got < m->read.count; n++) {
		enum entry_state wanted = m->read.kind == READ_OWN ? ENTRY_PENDING : ENTRY_NEW;
		if (m->entries[n] != wanted || (m->read.kind == READ_OWN && n <= m->read.cursor.ms)) continue;
		m->entries[n] = ENTRY_PENDING;
		got++;
		last = (struct entry_id){n, 0};
		if (lost || !flow_takes(m->f)) continue;
		assert_false(flow_holds(m->f, last));
		flow_add(m->f, with_topic(n, topics[n % TOPICS], (uint8_t)(1 + n / 16 % 2)));
	}
	if (lost) flow_read_failed(m->f, true);
	else flow_read_done(m->f, got, last);
}

static void answer_settle(struct model *m)
{
	bool applied = rand() % 10 != 0, ok = applied && rand() % 10 != 0;
	struct outbox_item *first = NULL;

	m->settling = false;
	/* A look at the group without asking for another: it is what was given last. */
	flow_settled(m->f, false);
	if (!applied) return;
	first = flow_settle(m->f, 1, 1);
	if (!first) return; /* Redis is away */
	for (struct outbox_item *item = first; item; item = item->next) {
		assert_true(m->published[item->id.ms]);
		m->entries[item->id.ms] = ENTRY_GONE;
	}
	flow_settled(m->f, ok);
}

static void answer_publish(struct model *m)
{
	size_t i = rand() % 4 == 0 ? (size_t)rand() % m->sent_count : 0;
	struct outbox_item *item = m->sent[i];
	bool taken = m->taken[i];

	memmove(&m->sent[i], &m->sent[i + 1], (m->sent_count - i - 1) * sizeof(m->sent[0]));
	memmove(&m->taken[i], &m->taken[i + 1], (m->sent_count - i - 1) * sizeof(m->taken[0]));
	m->sent_count--;
	if (taken) {
		m->published[item->id.ms] = true;
		flow_acked(m->f, item, rand() % 5 == 0 ? 0x10 : 0, m->now);
	} else if (m->refused) {
		flow_again(m->f, item);
	} else {
		m->refused = true;
		flow_acked(m->f, item, 0x97, m->now);
	}
}

/* The broker's decision. Each topic's come to it in order. */
static bool take(struct model *m, unsigned n)
{
	unsigned *last = &m->accepted[n % TOPICS];

	if (m->blocked || rand() % 20 == 0) {
		m->blocked = m->guarded;
		return false;
	}
	if (n > *last) {
		assert_int_equal(n, *last == 0 ? (n % TOPICS == 0 ? TOPICS : n % TOPICS) : *last + TOPICS);
		*last = n;
	}
	return true;
}

static void publish(struct model *m)
{
	struct outbox_item *item;

	if (m->refused) {
		if (m->sent_count > 0) return;
		m->refused = m->blocked = false;
	}
	while ((item = flow_publish(m->f, m->now)) != NULL) {
		unsigned n = (unsigned)item->id.ms;
		assert_true(m->broker);
		assert_true(m->sent_count < WINDOW);
		assert_int_equal(m->entries[n], ENTRY_PENDING);
		m->taken[m->sent_count] = take(m, n);
		m->sent[m->sent_count++] = item;
	}
}

static void broker_turns(struct model *m)
{
	m->broker = !m->broker;
	m->sent_count = 0;
	m->refused = m->blocked = false;
	flow_broker(m->f, m->broker, WINDOW, m->now);
	flow_guarded(m->f, m->broker && m->guarded);
}

static void step(struct model *m, bool faults)
{
	m->now += (uint64_t)(rand() % 20);
	switch (rand() % 8) {
	case 0:
		if (!m->reading && flow_read(m->f, &m->read)) {
			assert_true(m->redis && m->broker);
			assert_true(m->read.count > 0 && m->read.count <= 2 * WINDOW);
			m->reading = true;
		}
		break;
	case 1:
		if (m->reading) answer_read(m);
		break;
	case 2: publish(m); break;
	case 3:
	case 4:
		if (m->sent_count > 0) answer_publish(m);
		break;
	case 5:
		if (!m->settling) m->settling = flow_settle(m->f, (size_t)(1 + rand() % 10), SIZE_MAX) != NULL;
		break;
	case 6:
		if (m->settling) answer_settle(m);
		break;
	case 7:
		if (!faults && m->broker && m->redis) break;
		if (rand() % 30 == 0 || !m->broker) {
			if (rand() % 3 == 0) broker_turns(m);
		} else if (rand() % 30 == 0 || !m->redis) {
			m->redis = !m->redis;
			if (!m->redis && m->reading) flow_read_failed(m->f, true);
			if (!m->redis && m->settling) flow_settled(m->f, false);
			if (!m->redis) m->reading = m->settling = false;
			flow_redis(m->f, m->redis);
		} else if (rand() % 200 == 0) {
			flow_active(m->f, false);
			m->sent_count = 0;
			m->refused = m->blocked = false;
			flow_active(m->f, true);
		}
		break;
	}
	assert_true(flow_held(m->f) <= 2 * WINDOW);
}

static void run_model(bool list, bool guarded, unsigned seed)
{
	struct model m = {.list = list, .guarded = guarded, .broker = true, .redis = true};
	unsigned gone = 0, steps = 0;

	srand(seed);
	m.f = make(list, WINDOW, NULL);
	up(m.f);
	flow_guarded(m.f, guarded);
	for (unsigned i = 0; i < STEPS; i++) step(&m, i < STEPS / 2);
	for (; gone < ENTRIES && steps < 400000; steps++) {
		step(&m, false);
		gone = 0;
		for (unsigned n = 1; n <= ENTRIES; n++) gone += m.entries[n] == ENTRY_GONE;
	}
	if (gone < ENTRIES) fail_msg("seed %u: %u of %d entries came to their end", seed, gone, ENTRIES);
	for (unsigned n = 1; n <= ENTRIES; n++) assert_true(m.published[n]);
	flow_free(m.f);
}

static void random_faults(void **state)
{
	struct seeds s = seeds(SEED, 12);

	(void)state;
	for (unsigned seed = s.first; seed < s.end; seed++) run_model(seed % 2 == 0, seed % 4 < 2, seed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_before_all_is_up),
		cmocka_unit_test(window_and_receive_maximum),
		cmocka_unit_test(bytes_bound_reading),
		cmocka_unit_test(reasons),
		cmocka_unit_test(refused_in_order),
		cmocka_unit_test(topics_pass),
		cmocka_unit_test(one_of_a_topic),
		cmocka_unit_test(groups_stay_what_they_were),
		cmocka_unit_test(ours_first),
		cmocka_unit_test(poison),
		cmocka_unit_test(forgiven),
		cmocka_unit_test(random_faults),
	};

	seeds_test_wanted();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
