/* Slots of keys, by the examples of the specification and of a real server, and the texts for slots. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "config/cluster_slot.h"

static void slots(void **state)
{
	(void)state;
	static const struct {
		const char *key;
		unsigned slot; /* as CLUSTER KEYSLOT says */
	} table[] = {
		{"123456789", 0x31c3}, {"foo", 12182}, {"bar", 5061}, {"", 0}, {"hello", 866},
		{"{foo}", 12182}, {"a{foo}b{bar}", 12182}, {"foo{", 7673}, {"foo{}", 5542}, {"{}foo", 9500},
		{"foo}{bar}", 5061}, {"foo{{bar}}zap", 4015}, {"foo{bar}{zap}", 5061},
	};
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		assert_int_equal(cluster_slot(slice_str(table[i].key)), table[i].slot);
	}
	assert_int_equal(cluster_slot(slice_of(NULL, 0)), 0);
	assert_int_equal(cluster_slot(slice_of("a\0b", 3)), cluster_slot(slice_of("x{a\0b}", 6)));
}

/* The names of keys are made of them. */
static void tags(void **state)
{
	(void)state;
	char key[16];
	for (unsigned slot = 0; slot < CLUSTER_SLOTS; slot++) {
		const char *tag = cluster_slot_tag(slot);
		assert_true(tag[0] != '\0' && strlen(tag) < CLUSTER_TAG_MAX);
		assert_int_equal(cluster_slot(slice_str(tag)), slot);
		(void)snprintf(key, sizeof(key), "p:{%s}:x", tag);
		assert_int_equal(cluster_slot(slice_str(key)), slot);
	}
	assert_string_equal(cluster_slot_tag(cluster_slot(slice_str("z"))), "z");
	assert_string_equal(cluster_slot_tag(0), "1bz");
	assert_string_equal(cluster_slot_tag(16383), "hia");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(slots),
		cmocka_unit_test(tags),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
