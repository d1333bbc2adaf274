/*
 * What is owed, against a plain array: never less is held than was added, and exactly that while there is room.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "plugin/owed.h"
#include "tests/unit/seeds.h"

static struct entry_id id_of(uint64_t n)
{
	return (struct entry_id){1000 + n / 3, n % 3};
}

static void add_one(struct owed *o, uint64_t n)
{
	owed_add(o, entry_id_before(id_of(n)), id_of(n));
}

static void test_random(void **state)
{
	enum { IDS = 3000 };

	struct seeds all_seeds = seeds(1, 200);

	(void)state;
	for (unsigned seed = all_seeds.first; seed < all_seeds.end; seed++) {
		unsigned s = seed;
		bool has[IDS] = {false};
		struct owed_range all;
		struct owed o;

		assert_true(owed_init(&o));
		for (int step = 0; step < 600; step++) {
			unsigned n = (unsigned)rand_r(&s) % IDS, len = (unsigned)rand_r(&s) % 8, what = (unsigned)rand_r(&s) % 20;

			if (what < 12) {
				add_one(&o, n);
				has[n] = true;
			} else if (what < 18) {
				owed_add(&o, entry_id_before(id_of(n)), id_of(n + len < IDS ? n + len : IDS - 1));
				for (unsigned i = n; i <= n + len && i < IDS; i++) has[i] = true;
			} else {
				owed_done(&o, id_of(n / 4));
				memset(has, 0, n / 4 + 1);
			}
			n = (unsigned)rand_r(&s) % IDS;
			if (owed_has(&o, id_of(n)) != has[n]) fail_msg("seed %u step %d: %u", seed, step, n);
		}
		for (unsigned i = 0; i < IDS; i++) assert_int_equal(owed_has(&o, id_of(i)), has[i]);
		if (owed_all(&o, &all)) {
			unsigned first = 0, last = IDS - 1;

			while (!has[first]) first++;
			while (!has[last]) last--;
			assert_int_equal(entry_id_compare(all.after, id_of(first)), -1);
			assert_int_equal(entry_id_compare(all.upto, id_of(last)), 0);
		}
		owed_clear(&o);
		assert_false(owed_all(&o, &all));
		owed_fini(&o);
	}
}

/* More than there is room for: what was added stays, and what lies between may come with it. */
static void test_bounded(void **state)
{
	struct owed o;

	(void)state;
	assert_true(owed_init(&o));
	for (uint64_t n = 0; n < 3 * OWED_RANGES_MAX; n++) add_one(&o, 2 * n);
	assert_true(o.count <= OWED_RANGES_MAX);
	for (uint64_t n = 0; n < 3 * OWED_RANGES_MAX; n += 97) assert_true(owed_has(&o, id_of(2 * n)));
	assert_false(owed_has(&o, id_of(6 * OWED_RANGES_MAX)));
	owed_fini(&o);
}

static void test_given(void **state)
{
	struct given_log g = {0};
	struct given_reach reach = {.now_ms = 1000, .back_ms = 500, .turn = 7};
	struct entry_id lowest = ENTRY_ID_MAX;
	struct owed o;

	(void)state;
	assert_true(owed_init(&o));
	given_note(&g, &(struct given){id_of(1), 1000, 7, false}, &reach); /* QoS 0, on its way */
	given_note(&g, &(struct given){id_of(2), 1000, 0, true}, &reach);
	reach.now_ms = 1400;
	reach.turn = 8;
	given_note(&g, &(struct given){id_of(5), 1400, 8, true}, &reach);
	given_lowest(&g, &reach, &lowest);
	assert_int_equal(entry_id_compare(lowest, id_of(2)), 0);
	reach.now_ms = 1600; /* the second is beyond reach now */
	given_owe(&g, &reach, &o);
	assert_false(owed_has(&o, id_of(1)));
	assert_false(owed_has(&o, id_of(2)));
	assert_true(owed_has(&o, id_of(5)));
	owed_clear(&o);
	reach.kept = true; /* the broker will send it */
	given_owe(&g, &reach, &o);
	assert_false(owed_has(&o, id_of(5)));
	reach.kept = false;
	reach.back_ms = 0; /* only what is on its way */
	given_owe(&g, &reach, &o);
	assert_true(owed_has(&o, id_of(5)));
	given_fini(&g);
	owed_fini(&o);
}

/* More than fits: the older ones become a range. */
static void test_given_bounded(void **state)
{
	struct given_log g = {0};
	struct given_reach reach = {.now_ms = 1000, .back_ms = 500, .turn = 7};
	struct owed o;

	(void)state;
	assert_true(owed_init(&o));
	for (uint64_t n = 0; n < 3 * GIVEN_MAX; n++)
		given_note(&g, &(struct given){id_of(2 * n), 1000, 0, true}, &reach);
	assert_true(g.count <= GIVEN_MAX);
	given_owe(&g, &reach, &o);
	for (uint64_t n = 0; n < 3 * GIVEN_MAX; n++) assert_true(owed_has(&o, id_of(2 * n)));
	assert_false(owed_has(&o, id_of(6 * GIVEN_MAX - 3))); /* the newest are known one by one */
	owed_clear(&o);
	reach.now_ms = 2000;
	given_owe(&g, &reach, &o);
	assert_false(owed_has(&o, id_of(0)));
	given_fini(&g);
	owed_fini(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_bounded),
		cmocka_unit_test(test_given),
		cmocka_unit_test(test_given_bounded),
	};

	seeds_test_wanted();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
