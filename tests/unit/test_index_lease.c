/* What the index has already is remembered by whole member, for a bounded number of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "config/keys.h"
#include "plugin/index_lease.h"

static struct slice name(unsigned n)
{
	static char text[16];
	return slice_of(text, (size_t)snprintf(text, sizeof(text), "member %u", n));
}

static void note(struct index_lease *l, struct slice member, uint64_t ms)
{
	struct key_set written = {0};
	struct key_entry *entry;
	bool added;
	assert_int_equal(key_set_put(&written, member, &entry, &added), ST_OK);
	entry->ms = ms;
	index_lease_note(l, &written);
	key_set_free(&written);
}

static void covers_until_its_time(void **state)
{
	(void)state;
	struct index_lease l = {0};
	assert_false(index_lease_covers(&l, name(1), 1));
	note(&l, name(1), 1000);
	assert_true(index_lease_covers(&l, name(1), 1));
	assert_true(index_lease_covers(&l, name(1), 1000 + INDEX_AHEAD_MS));
	assert_false(index_lease_covers(&l, name(1), 1001 + INDEX_AHEAD_MS));
	assert_false(index_lease_covers(&l, name(2), 1000));
	note(&l, name(1), 10); /* as Redis, which keeps the higher one */
	assert_true(index_lease_covers(&l, name(1), 1000 + INDEX_AHEAD_MS));
	note(&l, name(1), 2000);
	assert_true(index_lease_covers(&l, name(1), 2000 + INDEX_AHEAD_MS));
	index_lease_forget(&l);
	assert_false(index_lease_covers(&l, name(1), 1));
	note(&l, name(1), 3);
	assert_false(index_lease_covers(&l, name(1), 2000));
	index_lease_free(&l);
}

static void is_bounded(void **state)
{
	(void)state;
	struct index_lease l = {0};
	for (unsigned n = 0; n < INDEX_LEASE_MEMBERS_MAX; n++) note(&l, name(n), 1000);
	for (unsigned n = 0; n < INDEX_LEASE_MEMBERS_MAX; n++) assert_true(index_lease_covers(&l, name(n), 1000));
	note(&l, name(7), 2000); /* no further one */
	assert_true(index_lease_covers(&l, name(8), 1000));
	note(&l, name(INDEX_LEASE_MEMBERS_MAX), 1000);
	assert_int_equal(l.members.count, 1);
	assert_true(index_lease_covers(&l, name(INDEX_LEASE_MEMBERS_MAX), 1000));
	assert_false(index_lease_covers(&l, name(8), 1000));

	size_t len = INDEX_LEASE_BYTES_MAX - 100;
	char *large = malloc(len);
	assert_non_null(large);
	memset(large, 'x', len);
	note(&l, slice_of(large, len), 1000);
	assert_true(index_lease_covers(&l, slice_of(large, len), 1000));
	assert_int_equal(l.members.count, 2);
	for (unsigned n = 0; n < 20; n++) note(&l, name(n), 1000);
	assert_true(l.members.count < 20);
	assert_true(l.members.bytes.len <= INDEX_LEASE_BYTES_MAX);
	free(large);
	index_lease_free(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(covers_until_its_time),
		cmocka_unit_test(is_bounded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
