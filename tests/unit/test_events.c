/* Session events decoded: every op, what is missing, what is wrong, and foreign bytes. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/device_event.h"

#define PAIRS_MAX 12

/* "name=value" texts, NULL-terminated. */
static enum status decode(const char *const *pairs, struct device_event *e, const char **why)
{
	struct slice names[PAIRS_MAX], values[PAIRS_MAX];
	size_t n = 0;

	for (; pairs[n]; n++) {
		const char *equal = strchr(pairs[n], '=');

		names[n] = slice_of(pairs[n], (size_t)(equal - pairs[n]));
		values[n] = slice_str(equal + 1);
	}
	return device_event_decode((struct entry_id){7, 8}, names, values, n, e, why);
}

#define PAIRS(...) (const char *const[]){__VA_ARGS__, NULL}

static void subscribed(void **state)
{
	struct device_event e;
	const char *why;

	(void)state;
	assert_int_equal(decode(PAIRS("op=subscribed", "client=c 1", "generation=5-6", "filter=a/+", "qos=2", "user=u",
		"rate=4294967295", "again=1", "queued=1", "from=3-4", "upto=9", "new=field"), &e, &why), ST_OK);
	assert_int_equal(e.op, DEVICE_OP_SUBSCRIBED);
	assert_true(e.id.ms == 7 && e.id.seq == 8);
	assert_true(slice_equal(e.client, slice_str("c 1")) && slice_equal(e.filter, slice_str("a/+")));
	assert_true(slice_equal(e.user, slice_str("u")));
	assert_true(e.generation.ms == 5 && e.generation.seq == 6);
	assert_int_equal(e.qos, 2);
	assert_true(e.rate == UINT32_MAX && e.again && e.queued_upto.ms == 1 && e.held_from.ms == 1 && e.has_upto);
	assert_true(e.from.ms == 3 && e.from.seq == 4 && e.upto.ms == 9 && e.upto.seq == 0);
}

static void least(void **state)
{
	struct device_event e;
	const char *why;

	(void)state;
	assert_int_equal(decode(PAIRS("op=subscribed", "client=c", "filter=#", "qos=0"), &e, &why), ST_OK);
	assert_true(e.generation.ms == 7 && e.generation.seq == 8); /* it is its own */
	assert_null(e.user.data);
	assert_false(e.again || !entry_id_is_zero(e.queued_upto) || e.has_upto);
	assert_true(entry_id_is_zero(e.from));
	assert_true(e.held_from.ms == 7 && e.held_from.seq == 8);
	assert_int_equal(decode(PAIRS("op=subscribed", "client=c", "filter=#", "qos=0", "generation=6", "held=5-1"), &e, &why), ST_OK);
	assert_true(e.held_from.ms == 5 && e.held_from.seq == 1 && entry_id_is_zero(e.queued_upto));
	assert_int_equal(decode(PAIRS("op=boot"), &e, &why), ST_OK);
	assert_int_equal(e.op, DEVICE_OP_BOOT);
	assert_int_equal(decode(PAIRS("op=live", "client=c", "generation=1-1"), &e, &why), ST_OK);
	assert_int_equal(e.op, DEVICE_OP_LIVE);
	assert_false(e.has_upto);
	assert_int_equal(decode(PAIRS("op=gone", "client=c", "generation=1-1"), &e, &why), ST_OK);
	assert_int_equal(e.op, DEVICE_OP_GONE);
	assert_int_equal(decode(PAIRS("op=unsubscribed", "client=c", "generation=1-1", "filter=a"), &e, &why), ST_OK);
	assert_int_equal(e.op, DEVICE_OP_UNSUBSCRIBED);
}

static void replay(void **state)
{
	struct device_event e;
	const char *why;

	(void)state;
	assert_int_equal(decode(PAIRS("op=subscribed", "client=c", "filter=a", "qos=1", "again=1", "replay=3-4", "upto=9-1"), &e,
		&why), ST_OK);
	assert_true(e.replay && e.replay_from.ms == 3 && e.replay_from.seq == 4 && e.replay_last == 0 && e.upto.ms == 9);
	assert_int_equal(decode(PAIRS("op=subscribed", "client=c", "filter=a", "qos=1", "again=1", "replay=last=12@9-1",
		"upto=9-1"), &e, &why), ST_OK);
	assert_true(e.replay && e.replay_last == 12);
}

static void refused(void **state)
{
	static const char *const table[][6] = {
		{"client=c", NULL},
		{"op=", NULL},
		{"op=Boot", NULL},
		{"op=subscribe", "client=c", "generation=1-1", "filter=a", "qos=0", NULL},
		{"op=subscribed", "generation=1-1", "filter=a", "qos=0", NULL},
		{"op=subscribed", "client=", "generation=1-1", "filter=a", "qos=0", NULL},
		{"op=subscribed", "client=c", "generation=1-1", "qos=0", NULL},
		{"op=subscribed", "client=c", "generation=1-1", "filter=", "qos=0", NULL},
		{"op=subscribed", "client=c", "generation=1-1", "filter=a#", "qos=0", NULL},
		{"op=subscribed", "client=c", "generation=1-1", "filter=a", NULL},
		{"op=subscribed", "client=c", "generation=1-1", "filter=a", "qos=3", NULL},
		{"op=subscribed", "client=c", "generation=1-1", "filter=a", "qos=", NULL},
		{"op=subscribed", "client=c", "generation=1-1", "filter=a", "qos=-1", NULL},
		{"op=subscribed", "client=c", "generation=x", "filter=a", "qos=1", NULL},
		{"op=subscribed", "client=c", "generation=0-0", "filter=a", "qos=1", NULL},
		{"op=subscribed", "client=c", "filter=a", "qos=1", "rate=4294967296", NULL},
		{"op=subscribed", "client=c", "filter=a", "qos=1", "rate=18446744073709551617", NULL},
		{"op=subscribed", "client=c", "filter=a", "qos=1", "from=", NULL},
		{"op=subscribed", "client=c", "filter=a", "qos=1", "upto=1-", NULL},
		{"op=subscribed", "client=c", "filter=a", "qos=1", "replay=1-1", NULL},
		{"op=subscribed", "filter=a", "client=c", "qos=1", "replay=last=0@1-1", NULL},
		{"op=subscribed", "filter=a", "client=c", "qos=1", "replay=x", NULL},
		{"op=live", "client=c", NULL},
		{"op=gone", "generation=1-1", NULL},
		{"op=unsubscribed", "client=c", "generation=1-1", NULL},
		{"op=unsubscribed", "client=c", "filter=a", NULL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct device_event e;
		const char *why = NULL;

		assert_int_equal(decode(table[i], &e, &why), ST_INVALID);
		assert_non_null(why);
	}
}

static void empty(void **state)
{
	struct device_event e;
	const char *why = NULL;

	(void)state;
	assert_int_equal(device_event_decode((struct entry_id){1, 1}, NULL, NULL, 0, &e, &why), ST_INVALID);
	assert_non_null(why);
}

/* Whatever the bytes: it answers, and what it takes is whole. */
static void foreign_bytes(void **state)
{
	static const char *const names[] = {"op", "client", "generation", "filter", "qos", "user", "rate", "again",
		"queued", "held",
		"from", "upto", "replay", ""};
	static const char *const values[] = {"subscribed", "live", "c", "1-1", "a/#", "1", "0", ""};
	unsigned seed = 20260101;

	(void)state;
	printf("foreign_bytes: seed %u\n", seed);
	srand(seed);
	for (int round = 0; round < 100000; round++) {
		struct slice n[PAIRS_MAX], v[PAIRS_MAX];
		char bytes[16];
		struct device_event e;
		const char *why;
		size_t count = (size_t)rand() % PAIRS_MAX;

		for (size_t i = 0; i < sizeof(bytes); i++) bytes[i] = (char)rand();
		for (size_t i = 0; i < count; i++) {
			n[i] = slice_str(names[rand() % 13]);
			v[i] = rand() % 4 ? slice_str(values[rand() % 8]) : slice_of(bytes, (size_t)rand() % sizeof(bytes));
			if (rand() % 20 == 0) v[i] = (struct slice){0};
		}
		if (device_event_decode((struct entry_id){1, 1}, n, v, count, &e, &why) != ST_OK) {
			assert_non_null(why);
			continue;
		}
		assert_true(e.op == DEVICE_OP_BOOT || e.op == DEVICE_OP_RELOADED || (e.client.len > 0 && !entry_id_is_zero(e.generation)));
		assert_true(e.qos <= 2);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(subscribed),
		cmocka_unit_test(least),
		cmocka_unit_test(replay),
		cmocka_unit_test(refused),
		cmocka_unit_test(empty),
		cmocka_unit_test(foreign_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
