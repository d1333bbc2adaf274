/*
 * The table of unreleased QoS 2 messages: addresses come again, and only the texts tell one message from another.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "plugin/qos2.h"

static struct qos2 *begin(void)
{
	struct qos2 *q = NULL;

	assert_int_equal(qos2_new(&q), ST_OK);
	return q;
}

static struct entry_id id_of(uint64_t n)
{
	return (struct entry_id){n, n};
}

static void test_release(void **state)
{
	struct qos2 *q = begin();
	char a[] = "a/b", b[] = "a/b";
	struct entry_id id = id_of(99);

	(void)state;
	assert_false(qos2_released(q, slice_str(a), &id));
	qos2_over(q);
	qos2_put(q, slice_str(a), slice_str("x"), id_of(1));
	assert_false(qos2_released(q, slice_str(b), &id));
	assert_int_equal(id.ms, 99);
	for (int subscriber = 0; subscriber < 3; subscriber++) {
		assert_true(qos2_released(q, slice_str(a), &id));
		assert_int_equal(id.ms, 1);
	}
	qos2_over(q);
	assert_false(qos2_released(q, slice_str(a), &id));
	qos2_free(q);
	qos2_free(NULL);
}

/* One release follows another with nothing between. */
static void test_next_release_ends_the_one_before(void **state)
{
	struct qos2 *q = begin();
	char a[] = "a", b[] = "b", c[] = "c";
	struct entry_id id;

	(void)state;
	qos2_put(q, slice_str(a), slice_str("x"), id_of(1));
	qos2_put(q, slice_str(b), slice_str("x"), id_of(2));
	assert_true(qos2_released(q, slice_str(a), &id));
	assert_true(qos2_released(q, slice_str(b), &id));
	assert_int_equal(id.ms, 2);
	assert_false(qos2_released(q, slice_str(a), &id));
	qos2_put(q, slice_str(c), slice_str("x"), id_of(3));
	assert_true(qos2_released(q, slice_str(c), &id));
	assert_false(qos2_released(q, slice_str(b), &id));
	qos2_free(q);
}

static void test_address_used_again(void **state)
{
	struct qos2 *q = begin();
	char topic[8] = "a/b";
	struct entry_id id;

	(void)state;
	qos2_put(q, slice_str(topic), slice_str("x"), id_of(1));
	strcpy(topic, "a/c"); /* a message that no rule mirrors */
	assert_false(qos2_released(q, slice_str(topic), &id));
	qos2_put(q, slice_str(topic), slice_str("x"), id_of(2));
	assert_true(qos2_released(q, slice_str(topic), &id));
	assert_int_equal(id.ms, 2);
	qos2_put(q, slice_str(topic), slice_str("x"), id_of(3)); /* replaces the one being released */
	qos2_over(q);
	assert_true(qos2_released(q, slice_str(topic), &id));
	assert_int_equal(id.ms, 3);
	qos2_free(q);
}

/* Known by id until it is released; another node's of that id is another one. */
static void test_waits(void **state)
{
	struct qos2 *q = begin();
	char topic[8] = "a/b", empty[8] = "a/c";
	struct message m = {.id = id_of(1), .topic = slice_str("a/b"), .payload = slice_str("x"), .qos = 2}, other;
	struct entry_id id;

	(void)state;
	assert_false(qos2_waits(q, &m));
	qos2_put(q, slice_str(topic), slice_str("x"), id_of(1));
	qos2_put(q, slice_str(empty), (struct slice){0}, id_of(2));
	assert_true(qos2_waits(q, &m));
	other = m;
	other.id = id_of(2);
	assert_false(qos2_waits(q, &other));
	other = (struct message){.id = id_of(2), .topic = slice_str("a/c"), .qos = 2};
	assert_true(qos2_waits(q, &other));
	other = m;
	other.topic = slice_str("a/c");
	assert_false(qos2_waits(q, &other));
	other = m;
	other.payload = slice_str("y");
	assert_false(qos2_waits(q, &other));
	assert_true(qos2_released(q, slice_str(topic), &id));
	assert_false(qos2_waits(q, &m));
	qos2_over(q);
	assert_false(qos2_waits(q, &m));
	qos2_put(q, slice_str(empty), slice_str("x"), id_of(3)); /* in place of the other */
	assert_false(qos2_waits(q, &(struct message){.id = id_of(2), .topic = slice_str("a/c"), .qos = 2}));
	qos2_free(q);
}

static void test_bounded(void **state)
{
	enum { COUNT = 65536 + 10 };
	struct qos2 *q = begin();
	char *topics = malloc(COUNT);
	struct entry_id id;

	(void)state;
	assert_non_null(topics);
	memset(topics, 't', COUNT);
	for (size_t i = 0; i < COUNT; i++) qos2_put(q, slice_of(topics + i, 1), slice_str("x"), id_of(i));
	for (size_t i = 0; i < 10; i++) assert_false(qos2_released(q, slice_of(topics + i, 1), &id));
	for (size_t i = 10; i < COUNT; i++) {
		assert_true(qos2_released(q, slice_of(topics + i, 1), &id));
		assert_int_equal(id.ms, i);
	}
	free(topics);
	qos2_free(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_release), cmocka_unit_test(test_next_release_ends_the_one_before),
		cmocka_unit_test(test_address_used_again), cmocka_unit_test(test_waits),
		cmocka_unit_test(test_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
