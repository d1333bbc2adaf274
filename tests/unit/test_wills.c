/*
 * Which write check is about a will, and the copy of it.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "plugin/wills.h"

static int a, b, c;

static struct wills *begin(void)
{
	struct wills *w = NULL;

	assert_int_equal(wills_new(&w), ST_OK);
	return w;
}

static void test_expected(void **state)
{
	struct wills *w = begin();

	(void)state;
	assert_false(wills_expected(w, &a));
	wills_disconnected(w, &a, false);
	assert_true(wills_expected(w, &a));
	assert_false(wills_expected(w, &b));
	wills_drop(w);
	assert_false(wills_expected(w, &a)); /* not MQTT 5: at once or not at all */
	wills_disconnected(w, &a, false);
	wills_disconnected(w, &b, false);
	assert_false(wills_expected(w, &a));
	wills_alive(w, &c);
	assert_false(wills_expected(w, &b));
	wills_free(w);
	wills_free(NULL);
}

static void test_delayed(void **state)
{
	struct wills *w = begin();

	(void)state;
	wills_disconnected(w, &a, true);
	wills_disconnected(w, &b, true);
	wills_disconnected(w, &a, true);
	wills_drop(w);
	wills_alive(w, &c);
	assert_true(wills_expected(w, &a));
	assert_true(wills_expected(w, &b));
	wills_alive(w, &a); /* a new client at the same address */
	assert_false(wills_expected(w, &a));
	assert_true(wills_expected(w, &b));
	wills_free(w);
}

static void test_bounded(void **state)
{
	enum { COUNT = 65536 + 5 };
	struct wills *w = begin();
	char *clients = malloc(COUNT);

	(void)state;
	assert_non_null(clients);
	for (size_t i = 0; i < COUNT; i++) wills_disconnected(w, clients + i, true);
	wills_drop(w);
	for (size_t i = 0; i < COUNT; i++) assert_true(wills_expected(w, clients + i) == (i >= 5));
	wills_free(w);
	free(clients);
}

static void test_copy(void **state)
{
	struct wills *w = begin();
	char topic[] = "t/a", payload[] = {'x', 0, 'y'}, client[] = "c1";
	struct message m = {.topic = slice_str(topic), .payload = slice_of(payload, 3), .client = slice_str(client), .qos = 1,
		.retain = true, .will = true, .payload_format = -1};
	const struct message *kept;

	(void)state;
	assert_null(wills_kept(w));
	assert_false(wills_is(w, m.topic, m.payload));
	assert_int_equal(wills_keep(w, &m), ST_OK);
	memset(topic, '?', 3);
	memset(payload, '?', 3);
	memset(client, '?', 2);
	kept = wills_kept(w);
	assert_non_null(kept);
	assert_true(slice_equal(kept->topic, slice_str("t/a")));
	assert_true(slice_equal(kept->payload, slice_of("x\0y", 3)));
	assert_true(slice_equal(kept->client, slice_str("c1")));
	assert_true(kept->will && kept->retain && !kept->user.data);
	assert_true(wills_is(w, slice_str("t/a"), slice_of("x\0y", 3)));
	assert_false(wills_is(w, slice_str("t/a"), slice_of("x\0z", 3)));
	assert_false(wills_is(w, slice_str("t/b"), slice_of("x\0y", 3)));
	wills_drop(w);
	assert_null(wills_kept(w));
	m = (struct message){.topic = slice_str("e"), .payload = slice_str(""), .client = slice_str(""), .payload_format = -1};
	assert_int_equal(wills_keep(w, &m), ST_OK);
	assert_true(wills_is(w, slice_str("e"), slice_of(NULL, 0)));
	wills_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_expected), cmocka_unit_test(test_delayed), cmocka_unit_test(test_bounded),
		cmocka_unit_test(test_copy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
