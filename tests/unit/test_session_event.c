/* Bodies of session records: round trips, every truncation, every flipped byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>

#include "plugin/session_event.h"
#include "random_message.h"

static bool same_id(struct entry_id a, struct entry_id b)
{
	return entry_id_compare(a, b) == 0;
}

static bool same(const struct session_event *a, const struct session_event *b)
{
	return slice_same(a->client, b->client) && slice_same(a->user, b->user) && same_id(a->generation, b->generation) &&
		slice_same(a->filter, b->filter) && a->qos == b->qos && a->again == b->again &&
		a->broker_queued == b->broker_queued && entry_id_compare(a->queued_upto, b->queued_upto) == 0 && a->initial.policy == b->initial.policy &&
		a->initial.count == b->initial.count && a->initial.since_ms == b->initial.since_ms &&
		a->overlap_ms == b->overlap_ms && same_id(a->from, b->from) && a->rate == b->rate && a->late == b->late &&
		same_id(a->upto, b->upto) && a->cursor_count == b->cursor_count && slice_same(a->cursors, b->cursors) &&
		a->kept == b->kept && a->behind_count == b->behind_count && slice_same(a->behind, b->behind) &&
		same_id(a->connection, b->connection) && a->left_count == b->left_count && slice_same(a->left, b->left) &&
		same_id(a->previous_boot, b->previous_boot) && same_id(a->previous_last, b->previous_last);
}

static void check(const struct session_event *e)
{
	struct buf b = {0};
	struct session_event back;
	session_event_pack(&b, e);
	assert_false(b.failed);
	assert_int_equal(session_event_unpack(slice_of(b.data, b.len), &back), ST_OK);
	assert_true(same(e, &back));
	buf_free(&b);
}

static struct entry_id random_id(uint64_t *seed)
{
	uint64_t ms = random_next(seed);
	return (struct entry_id){ms, random_next(seed)};
}

/* `texts` holds what the event borrows: client, user, filter, cursors, one to work with, and what is left. */
static struct session_event random_event(uint64_t *seed, struct buf texts[6])
{
	uint64_t coin = random_next(seed);
	struct session_event e = {
		.generation = random_id(seed),
		.qos = (uint8_t)random_below(seed, 3),
		.again = coin & 1,
		.broker_queued = coin & 2,
		.late = coin & 4,
		.kept = coin & 64,
		.initial = {.policy = (enum grant_new)random_below(seed, 4), .count = random_next(seed),
			.since_ms = random_next(seed)},
		.overlap_ms = random_next(seed),
		.from = random_id(seed),
		.queued_upto = random_id(seed),
		.rate = (uint32_t)random_next(seed),
		.upto = random_id(seed),
		.previous_boot = random_id(seed),
		.previous_last = random_id(seed),
		.connection = random_id(seed),
	};
	if (coin & 8) e.client = random_part(seed, &texts[0], 30, false);
	if (coin & 16) e.user = random_part(seed, &texts[1], 30, false);
	if (coin & 32) e.filter = random_part(seed, &texts[2], 30, false);
	buf_clear(&texts[3]);
	e.cursor_count = (uint16_t)random_below(seed, 5);
	for (unsigned i = 0; i < e.cursor_count; i++)
		session_cursor_pack(&texts[3], random_part(seed, &texts[4], 20, false), random_id(seed));
	if (e.cursor_count > 0) e.cursors = slice_of(texts[3].data, texts[3].len);
	buf_clear(&texts[5]);
	e.left_count = (uint16_t)random_below(seed, 4);
	for (unsigned i = 0; i < e.left_count; i++) {
		struct session_left l = {random_part(seed, &texts[4], 20, false), random_id(seed), random_id(seed), random_id(seed)};
		session_left_pack(&texts[5], &l);
	}
	if (e.left_count > 0) e.left = slice_of(texts[5].data, texts[5].len);
	if (coin & 128) { /* the same again will do */
		e.behind_count = e.cursor_count;
		e.behind = e.cursors;
	}
	return e;
}

static void round_trips(void **state)
{
	(void)state;
	uint64_t seed = 41;
	print_message("seed %" PRIu64 "\n", seed);
	struct buf texts[6] = {0};
	struct session_event e = {0};
	check(&e);
	for (unsigned i = 0; i < 3000; i++) {
		e = random_event(&seed, texts);
		check(&e);
	}
	for (size_t i = 0; i < 6; i++)
		buf_free(&texts[i]);
}

static void cursors_step(void **state)
{
	(void)state;
	struct buf b = {0}, body = {0};
	struct session_event e = {.client = {"dev", 3}, .cursor_count = 2}, back;
	session_cursor_pack(&b, slice_str("a/#"), (struct entry_id){1, 2});
	session_cursor_pack(&b, slice_str("b"), ENTRY_ID_MAX);
	e.cursors = slice_of(b.data, b.len);
	session_event_pack(&body, &e);
	assert_int_equal(session_event_unpack(slice_of(body.data, body.len), &back), ST_OK);
	struct slice rest = back.cursors, filter;
	struct entry_id cursor;
	assert_true(session_cursor_next(&rest, &filter, &cursor));
	assert_true(slice_equal(filter, slice_str("a/#")) && cursor.ms == 1 && cursor.seq == 2);
	assert_true(session_cursor_next(&rest, &filter, &cursor));
	assert_true(slice_equal(filter, slice_str("b")) && same_id(cursor, ENTRY_ID_MAX));
	assert_false(session_cursor_next(&rest, &filter, &cursor));
	buf_free(&b);
	buf_free(&body);
}

#define LEFT_BYTES 22u   /* what version 3 has more than version 2, when it is empty */
#define BEHIND_BYTES 6u  /* and that than version 1 */

/* As older plugins wrote it. */
static void older(void **state)
{
	(void)state;
	struct buf cursors = {0}, body = {0};
	session_cursor_pack(&cursors, slice_str("a/#"), (struct entry_id){1, 2});
	struct session_event e = {.client = {"dev", 3}, .cursor_count = 1, .cursors = slice_of(cursors.data, cursors.len)}, back;
	session_event_pack(&body, &e);
	for (int version = 2; version > 0; version--) {
		size_t len = body.len - LEFT_BYTES - (version == 1 ? BEHIND_BYTES : 0);
		body.data[0] = (char)version;
		assert_int_equal(session_event_unpack(slice_of(body.data, body.len), &back), ST_CORRUPT); /* with what the next has more */
		assert_int_equal(session_event_unpack(slice_of(body.data, len), &back), ST_OK);
		assert_true(same(&e, &back));
	}
	buf_free(&cursors);
	buf_free(&body);
}

static void refused(void **state)
{
	(void)state;
	struct buf b = {0}, cursors = {0};
	struct session_event e, back;
	assert_int_equal(session_event_unpack(slice_of(NULL, 0), &back), ST_CORRUPT);
	assert_int_equal(session_event_unpack(slice_of("\4", 1), &back), ST_VERSION);
	assert_int_equal(session_event_unpack(slice_of("\0", 1), &back), ST_VERSION);
	static const struct session_event bad[] = {{.qos = 3}, {.initial = {.policy = (enum grant_new)4}},
		{.cursor_count = 1}, {.cursor_count = 1, .cursors = {"", 0}}, {.cursors = {"x", 1}}, {.behind_count = 1},
		{.behind = {"x", 1}}, {.left_count = 1}, {.left = {"x", 1}}, {.left_count = 1, .left = {"", 0}}};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		buf_clear(&b);
		session_event_pack(&b, &bad[i]);
		assert_int_equal(session_event_unpack(slice_of(b.data, b.len), &back), ST_CORRUPT);
	}
	session_cursor_pack(&cursors, slice_str("f"), ENTRY_ID_ZERO);
	for (unsigned count = 0; count < 3; count++) {
		e = (struct session_event){.cursor_count = (uint16_t)count, .cursors = slice_of(cursors.data, cursors.len)};
		buf_clear(&b);
		session_event_pack(&b, &e);
		assert_int_equal(session_event_unpack(slice_of(b.data, b.len), &back), count == 1 ? ST_OK : ST_CORRUPT);
	}
	char *large = calloc(1, 65536);
	assert_non_null(large);
	for (unsigned extra = 0; extra < 2; extra++) {
		e = (struct session_event){.client = slice_of(large, 65535 + extra)};
		buf_clear(&b);
		session_event_pack(&b, &e);
		assert_int_equal(session_event_unpack(slice_of(b.data, b.len), &back), extra ? ST_CORRUPT : ST_OK);
	}
	free(large);
	buf_free(&b);
	buf_free(&cursors);
}

static void use(const struct session_event *e)
{
	struct slice rest = e->cursors, filter;
	struct entry_id cursor;
	for (unsigned i = 0; i < e->cursor_count; i++)
		assert_true(session_cursor_next(&rest, &filter, &cursor));
	assert_int_equal(rest.len, 0);
	rest = e->left;
	struct session_left l;
	for (unsigned i = 0; i < e->left_count; i++)
		assert_true(session_left_next(&rest, &l));
	assert_int_equal(rest.len, 0);
	assert_true(e->qos <= 2 && e->initial.policy <= NEW_SINCE);
	check(e);
}

static void damaged(void **state)
{
	(void)state;
	uint64_t seed = 42;
	print_message("seed %" PRIu64 "\n", seed);
	struct buf texts[6] = {0}, b = {0};
	struct session_event e, back;
	do {
		e = random_event(&seed, texts);
	} while (e.cursor_count == 0 || e.left_count == 0 || !e.client.data || !e.filter.data || !e.user.data);
	session_event_pack(&b, &e);
	for (size_t len = 0; len < b.len; len++) {
		char *copy = exact_copy(b.data, len);
		assert_int_equal(session_event_unpack(slice_of(copy, len), &back), ST_CORRUPT);
		free(copy);
	}
	char *copy = exact_copy(b.data, b.len);
	for (size_t at = 0; at < b.len; at++) {
		for (unsigned flip = 1; flip < 256; flip++) {
			copy[at] = (char)((unsigned char)copy[at] ^ flip);
			if (session_event_unpack(slice_of(copy, b.len), &back) == ST_OK) use(&back);
			copy[at] = (char)((unsigned char)copy[at] ^ flip);
		}
	}
	free(copy);
	buf_u8(&b, 0);
	assert_int_equal(session_event_unpack(slice_of(b.data, b.len), &back), ST_CORRUPT);
	for (size_t i = 0; i < 6; i++)
		buf_free(&texts[i]);
	buf_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trips),
		cmocka_unit_test(cursors_step),
		cmocka_unit_test(older),
		cmocka_unit_test(refused),
		cmocka_unit_test(damaged),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
