/* Commands between bridge and plugin: round trips, every truncation, every flipped byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>

#include "config/control.h"
#include "random_message.h"

static const struct entry_id generation = {1700000000000, 5};
static const struct entry_id other = {UINT64_MAX, UINT64_MAX - 1};

static bool same(struct entry_id a, struct entry_id b)
{
	return entry_id_compare(a, b) == 0;
}

static void decode(const struct buf *b, struct control_command *c)
{
	assert_false(b->failed);
	assert_int_equal(control_decode(slice_of(b->data, b->len), c), ST_OK);
}

static void simple_commands(void **state)
{
	(void)state;
	struct buf b = {0};
	struct control_command c;
	control_hello(&b, UINT64_MAX, slice_str("secret"));
	decode(&b, &c);
	assert_int_equal(c.type, CONTROL_HELLO);
	assert_true(c.fence == UINT64_MAX && slice_equal(c.token, slice_str("secret")));
	control_switch(&b, slice_str("dev"), generation, 7, other); /* the buffer is cleared */
	decode(&b, &c);
	assert_int_equal(c.type, CONTROL_SWITCH);
	assert_true(slice_equal(c.device, slice_str("dev")) && same(c.generation, generation));
	assert_true(c.sequence == 7 && same(c.upto, other));
	control_welcome(&b, generation);
	decode(&b, &c);
	assert_int_equal(c.type, CONTROL_WELCOME);
	assert_true(same(c.boot, generation));
	control_refused(&b, "");
	decode(&b, &c);
	assert_int_equal(c.type, CONTROL_REFUSED);
	assert_true(c.reason.data && c.reason.len == 0);
	control_refused(&b, "wrong token");
	decode(&b, &c);
	assert_true(slice_equal(c.reason, slice_str("wrong token")));
	control_ack(&b, slice_str("dev"), generation, UINT32_MAX, CONTROL_TOO_FAR, other);
	decode(&b, &c);
	assert_int_equal(c.type, CONTROL_ACK);
	assert_int_equal(c.result, CONTROL_TOO_FAR);
	assert_true(c.sequence == UINT32_MAX && same(c.generation, generation) && same(c.head, other));
	control_outbox(&b);
	decode(&b, &c);
	assert_int_equal(c.type, CONTROL_OUTBOX);
	control_guarded(&b, true);
	decode(&b, &c);
	assert_true(c.type == CONTROL_GUARDED && c.refused);
	control_guarded(&b, false);
	decode(&b, &c);
	assert_true(c.type == CONTROL_GUARDED && !c.refused);
	buf_free(&b);
}

static void first_bytes(void **state)
{
	(void)state;
	struct buf b = {0};
	control_welcome(&b, (struct entry_id){1, 2});
	static const unsigned char expected[] = {1, 65, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0};
	assert_int_equal(b.len, sizeof expected);
	assert_memory_equal(b.data, expected, sizeof expected);
	buf_free(&b);
}

static void make_batch(struct buf *b, const char *const *filters, size_t filter_count, const struct message *messages,
	size_t message_count)
{
	struct control_batch batch;
	control_batch_begin(&batch, b, slice_str("dev"), generation, 9);
	for (size_t i = 0; i < filter_count; i++)
		control_batch_filter(&batch, slice_str(filters[i]));
	for (size_t i = 0; i < message_count; i++)
		control_batch_message(&batch, &messages[i]);
	control_batch_end(&batch, other);
}

static void check_batch(const struct buf *b, const char *const *filters, size_t filter_count,
	const struct message *messages, size_t message_count)
{
	struct control_command c;
	struct slice rest, filter;
	struct message m;
	decode(b, &c);
	assert_int_equal(c.type, CONTROL_BATCH);
	assert_true(slice_equal(c.device, slice_str("dev")) && same(c.generation, generation) && same(c.upto, other));
	assert_int_equal(c.sequence, 9);
	assert_int_equal(c.filter_count, filter_count);
	assert_int_equal(c.message_count, message_count);
	rest = c.filters;
	for (size_t i = 0; i < filter_count; i++) {
		assert_true(control_filter_next(&rest, &filter));
		assert_true(slice_equal(filter, slice_str(filters[i])));
	}
	assert_false(control_filter_next(&rest, &filter));
	rest = c.messages;
	for (size_t i = 0; i < message_count; i++) {
		assert_true(control_message_next(&rest, &m));
		assert_true(message_same(&m, &messages[i]));
	}
	assert_false(control_message_next(&rest, &m));
}

static const char *const two_filters[] = {"a/#", "+/b"};

static void batches(void **state)
{
	(void)state;
	uint64_t seed = 31;
	print_message("seed %" PRIu64 "\n", seed);
	struct random_message r[8] = {0};
	struct message m[8];
	struct buf b = {0};
	for (unsigned round = 0; round < 300; round++) {
		for (size_t i = 0; i < 8; i++) {
			random_message(&seed, &r[i]);
			m[i] = r[i].m;
		}
		size_t filters = random_below(&seed, 3), messages = random_below(&seed, 9);
		make_batch(&b, two_filters, filters, m, messages);
		check_batch(&b, two_filters, filters, m, messages);
	}
	for (size_t i = 0; i < 8; i++)
		random_message_free(&r[i]);
	buf_free(&b);
}

static void batch_limits(void **state)
{
	(void)state;
	static const struct message small = {.topic = {"t", 1}, .payload = {"", 0}, .client = {"", 0}};
	struct buf b = {0};
	struct control_batch batch;
	struct control_command c;
	control_batch_begin(&batch, &b, slice_str("dev"), generation, 1);
	for (unsigned i = 0; i < CONTROL_FILTERS_MAX; i++)
		control_batch_filter(&batch, slice_str("f"));
	for (unsigned i = 0; i < CONTROL_BATCH_MESSAGES_MAX; i++)
		control_batch_message(&batch, &small);
	control_batch_end(&batch, other);
	decode(&b, &c);
	assert_int_equal(c.filter_count, CONTROL_FILTERS_MAX);
	assert_int_equal(c.message_count, CONTROL_BATCH_MESSAGES_MAX);
	control_batch_message(&batch, &small);
	assert_true(b.failed);
	control_batch_begin(&batch, &b, slice_str("dev"), generation, 1);
	for (unsigned i = 0; i <= CONTROL_FILTERS_MAX; i++)
		control_batch_filter(&batch, slice_str("f"));
	control_batch_end(&batch, other);
	assert_true(b.failed);
	control_batch_begin(&batch, &b, slice_str("dev"), generation, 1);
	control_batch_message(&batch, &small);
	control_batch_filter(&batch, slice_str("f"));
	assert_true(b.failed);
	buf_free(&b);
}

static void refused(void **state)
{
	(void)state;
	struct buf b = {0};
	struct control_command c;
	assert_int_equal(control_decode(slice_of(NULL, 0), &c), ST_CORRUPT);
	assert_int_equal(control_decode(slice_of("\2\1", 2), &c), ST_VERSION);
	for (unsigned type = 0; type < 256; type++) { /* one has no members */
		if (type == CONTROL_OUTBOX) continue;
		assert_int_equal(control_decode(slice_of((char[]){1, (char)type}, 2), &c), ST_CORRUPT);
	}
	assert_int_equal(control_decode(slice_of((char[]){1, CONTROL_OUTBOX, 0}, 3), &c), ST_CORRUPT);
	control_hello(&b, 1, slice_of(NULL, 0));
	assert_int_equal(control_decode(slice_of(b.data, b.len), &c), ST_CORRUPT);
	control_switch(&b, slice_of("", 0), generation, 1, other);
	assert_int_equal(control_decode(slice_of(b.data, b.len), &c), ST_CORRUPT);
	char *large = calloc(1, MESSAGE_TEXT_MAX + 1);
	assert_non_null(large);
	control_switch(&b, slice_of(large, MESSAGE_TEXT_MAX + 1), generation, 1, other);
	assert_int_equal(control_decode(slice_of(b.data, b.len), &c), ST_CORRUPT);
	free(large);
	control_ack(&b, slice_str("d"), generation, 1, (enum control_result)(CONTROL_RESULT_LAST + 1), other);
	assert_int_equal(control_decode(slice_of(b.data, b.len), &c), ST_CORRUPT);
	control_replay(&b, slice_str("d"), 1, slice_str(""), other, 0);
	assert_int_equal(control_decode(slice_of(b.data, b.len), &c), ST_CORRUPT);
	control_replay(&b, slice_str("d"), 9, slice_str("a/#"), other, 77);
	assert_int_equal(control_decode(slice_of(b.data, b.len), &c), ST_OK);
	assert_true(c.type == CONTROL_REPLAY && c.last == 77 && entry_id_compare(c.from, other) == 0 && c.sequence == 9);
	assert_true(slice_equal(c.filter, slice_str("a/#")) && slice_equal(c.device, slice_str("d")));
	make_batch(&b, (const char *const[]){""}, 1, NULL, 0);
	assert_int_equal(control_decode(slice_of(b.data, b.len), &c), ST_CORRUPT);
	control_probe(&b, 3, 0);
	assert_int_equal(control_decode(slice_of(b.data, b.len), &c), ST_CORRUPT);
	control_probe(&b, 3, CONTROL_PROBE_MAX + 1);
	assert_int_equal(control_decode(slice_of(b.data, b.len), &c), ST_CORRUPT);
	control_probe(&b, 3, CONTROL_PROBE_MAX);
	assert_int_equal(control_decode(slice_of(b.data, b.len), &c), ST_OK);
	assert_true(c.type == CONTROL_PROBE && c.sequence == 3 && c.probes == CONTROL_PROBE_MAX);
	control_probed(&b, 4, 1, true);
	assert_int_equal(control_decode(slice_of(b.data, b.len), &c), ST_OK);
	assert_true(c.type == CONTROL_PROBED && c.sequence == 4 && c.probes == 1 && c.tells_sent);
	control_limit(&b, 1020);
	assert_int_equal(control_decode(slice_of(b.data, b.len), &c), ST_OK);
	assert_true(c.type == CONTROL_LIMIT && c.queue_limit == 1020);
	static const struct message bad = {.topic = {"", 0}, .payload = {"", 0}, .client = {"", 0}};
	make_batch(&b, two_filters, 2, &bad, 1);
	assert_int_equal(control_decode(slice_of(b.data, b.len), &c), ST_CORRUPT);
	/* Behind the second member are device (4 + 3), generation, sequence and upto; then the counts. */
	static const struct message good = {.topic = {"t", 1}, .payload = {"", 0}, .client = {"", 0}};
	make_batch(&b, two_filters, 2, &good, 1);
	assert_int_equal(b.data[45], 2);
	assert_int_equal(b.data[47], 1);
	for (size_t at = 45; at < 49; at++) {
		b.data[at]++;
		assert_int_equal(control_decode(slice_of(b.data, b.len), &c), ST_CORRUPT);
		b.data[at]--;
	}
	buf_free(&b);
}

/* A decoded command must be steppable to its counts. */
static void use(const struct control_command *c)
{
	struct slice rest = c->filters, filter;
	struct message m;
	for (unsigned i = 0; i < c->filter_count; i++)
		assert_true(control_filter_next(&rest, &filter));
	assert_int_equal(rest.len, 0);
	rest = c->messages;
	for (unsigned i = 0; i < c->message_count; i++)
		assert_true(control_message_next(&rest, &m));
	assert_int_equal(rest.len, 0);
}

static void cut_and_flip(const struct buf *b)
{
	struct control_command c;
	for (size_t len = 0; len < b->len; len++) {
		char *copy = exact_copy(b->data, len);
		assert_int_equal(control_decode(slice_of(copy, len), &c), ST_CORRUPT);
		free(copy);
	}
	char *copy = exact_copy(b->data, b->len);
	for (size_t at = 0; at < b->len; at++) {
		for (unsigned flip = 1; flip < 256; flip++) {
			copy[at] = (char)((unsigned char)copy[at] ^ flip);
			if (control_decode(slice_of(copy, b->len), &c) == ST_OK) use(&c);
			copy[at] = (char)((unsigned char)copy[at] ^ flip);
		}
	}
	free(copy);
	copy = malloc(b->len + 1);
	assert_non_null(copy);
	memcpy(copy, b->data, b->len);
	copy[b->len] = 0;
	assert_int_equal(control_decode(slice_of(copy, b->len + 1), &c), ST_CORRUPT);
	free(copy);
}

static void damaged(void **state)
{
	(void)state;
	uint64_t seed = 32;
	print_message("seed %" PRIu64 "\n", seed);
	struct random_message r = {0};
	struct buf b = {0};
	control_hello(&b, 1, slice_str("token"));
	cut_and_flip(&b);
	control_switch(&b, slice_str("dev"), generation, 7, other);
	cut_and_flip(&b);
	control_welcome(&b, generation);
	cut_and_flip(&b);
	control_refused(&b, "reason");
	cut_and_flip(&b);
	control_ack(&b, slice_str("dev"), generation, 7, CONTROL_GONE, other);
	cut_and_flip(&b);
	for (unsigned i = 0; i < 5; i++) {
		random_message(&seed, &r);
		make_batch(&b, two_filters, 2, &r.m, 1);
		cut_and_flip(&b);
	}
	random_message_free(&r);
	buf_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(simple_commands),
		cmocka_unit_test(first_bytes),
		cmocka_unit_test(batches),
		cmocka_unit_test(batch_limits),
		cmocka_unit_test(refused),
		cmocka_unit_test(damaged),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
