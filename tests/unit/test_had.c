/* What the hash of a device tells of what it has had. No server: replies are made here. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/had.h"
#include "config/session_fields.h"

#define FIELDS_MAX 24

static struct had_list *list;

/* Fields and values in turn, NULL at the end, as HGETALL gives them. */
static enum status read_fields(struct node_names *names, const char *const *texts, bool present)
{
	static redisReply items[FIELDS_MAX], *pointers[FIELDS_MAX];
	redisReply all = {.type = REDIS_REPLY_ARRAY, .element = pointers};

	for (; texts[all.elements]; all.elements++) {
		assert_true(all.elements < FIELDS_MAX);
		items[all.elements] = (redisReply){.type = REDIS_REPLY_STRING, .str = (char *)(uintptr_t)texts[all.elements],
			.len = strlen(texts[all.elements])};
		pointers[all.elements] = &items[all.elements];
	}
	return had_of_fields(names, &all, present, &list);
}

/* The fields of a device's hash, and what they tell. */
static const struct {
	const char *fields[FIELDS_MAX];
	const char *filter; /* NULL: nothing */
	uint16_t node;
	uint64_t since, upto, certain; /* 0: all of it */
} hashes[] = {
	{{"overlap", "0", "user", "u", NULL}, NULL, 0, 0, 0, 0},
	{{"f:a", "5-0", "f@n1 a", "9-0", "s@n1 a", "5-0 7-0", NULL}, "a", 0, 5, 9, 0},
	{{"s@n1 a/# b", "5-0", "f@n1 a/# b", "9-0", "f:a/# b", "5-0", NULL}, "a/# b", 0, 5, 9, 0},
	{{"f:a", "5-0", "f@n1 a", "9-0", NULL}, NULL, 0, 0, 0, 0},                         /* of an older plugin: since when? */
	{{"f:a", "5-0", "f@n1 a", "4-0", "s@n1 a", "5-0 7-0", NULL}, NULL, 0, 0, 0, 0},    /* moved back by hand */
	{{"f:a", "last=3@5-0", "f@n1 a", "last=3@5-0", "s@n1 a", "5-0 7-0", NULL}, NULL, 0, 0, 0, 0},
	{{"f:a", "last=3@5-0", "f@n1 a", "8-0", "s@n1 a", "5-0 7-0", NULL}, "a", 0, 5, 8, 0},
	{{"f@n1 a", "9-0", "s@n1 a", "x", NULL}, NULL, 0, 0, 0, 0},
	{{"f:a", "5-0", "f@n2 a", "9-0", "s@n2 a", "6-0 7-0", NULL}, "a", 1, 6, 9, 0},
	/* What our node has given of another's: nothing before our cursor has moved, then up to it. */
	{{"f:a", "5-0", "f@n1 a", "10-0", "g@n2 a", "6-0 20-0 10-0 n1", NULL}, "a", 1, 5, 6, 0},
	{{"f:a", "5-0", "f@n1 a", "15-0", "g@n2 a", "6-0 20-0 10-0 n1", NULL}, "a", 1, 5, 15, 0},
	{{"f:a", "5-0", "f@n1 a", "30-0", "g@n2 a", "6-0 20-0 10-0 n1", "f@n2 a", "6-0", "s@n2 a", "5-5 7-0", NULL}, "a", 1, 5, 20, 0},
	/* What a session of the broker was to deliver is not certain. */
	{{"f:a", "5-0", "f@n1 a", "9-0", "s@n1 a", "5-0 7-0", "b@n1 a", "7-0", NULL}, "a", 0, 5, 9, 7},
	{{"f:a", "5-0", "f@n1 a", "9-0", "s@n1 a", "5-0 7-0", "b@n1 a", "10-0", NULL}, "a", 0, 5, 9, 9},
	{{"f:a", "5-0", "f@n1 a", "9-0", "s@n1 a", "5-0 7-0", "b@n1 a", "x", "b@n2 a", "7-0", NULL}, "a", 0, 5, 9, 9},
	/* Of a subscription that was taken back. */
	{{"u@n1 a", "5-0 9-0", "f:b", "1-0", NULL}, "a", 0, 5, 9, 0},
	{{"u@n2 a", "5-0 9-0", NULL}, "a", 1, 5, 9, 0},
	{{"u@n1 a", "9-0 9-0", NULL}, NULL, 0, 0, 0, 0},
	{{"u@n1 a", "9-0", NULL}, NULL, 0, 0, 0, 0},
	{{"u@n1 a", "x 9-0", NULL}, NULL, 0, 0, 0, 0},
	{{"u@n1 a", "", NULL}, NULL, 0, 0, 0, 0},
	{{"u@n1 a", "5-0 9-0+20-0", NULL}, NULL, 0, 0, 0, 0},
	{{"u@n1 a", "5-0 9-0+x:12-0", NULL}, NULL, 0, 0, 0, 0},
	/* What its connection may yet show counts in that connection only, and only what our node has given. */
	{{"u@n1 a", "5-0 9-0+20-0:15-0", NULL}, "a", 0, 5, 9, 0},
	{{"left@n1", "18-0", "u@n1 a", "5-0 9-0+20-0:15-0", NULL}, "a", 0, 5, 15, 0},
	{{"left@n1", "18-0", "u@n1 a", "5-0 9-0+20-0:8-0", NULL}, "a", 0, 5, 9, 0},
	{{"u@n1 a", "5-0 5-0+20-0:15-0", "left@n1", "20-0", NULL}, "a", 0, 5, 15, 0},
	{{"u@n1 a", "5-0 5-0+20-0:15-0", NULL}, NULL, 0, 0, 0, 0},
	{{"left@n1", "21-0", "u@n1 a", "5-0 9-0+20-0:15-0", NULL}, "a", 0, 5, 9, 0},
	{{"left@n1", "x", "left@n2", "18-0", "u@n1 a", "5-0 9-0+20-0:15-0", NULL}, "a", 0, 5, 9, 0},
	{{"left@n1", "18-0", "u@n2 a", "5-0 9-0+20-0:15-0", NULL}, "a", 1, 5, 9, 0},
	{{"left@n1", "18-0", "u@n2 a", "5-0 9-0+20-0:15-0@n3", NULL}, "a", 1, 5, 9, 0},
	{{"left@n1", "18-0", "u@n2 a", "5-0 9-0+20-0:15-0@n1", NULL}, "a", 1, 5, 15, 0},
};

static void rows(void **state)
{
	struct node_names *names;
	size_t none;

	(void)state;
	assert_int_equal(node_names_new("n1", &names), ST_OK);
	assert_int_equal(node_names_number(names, slice_str("n2")), 1);
	for (size_t i = 0; i < sizeof(hashes) / sizeof(hashes[0]); i++) {
		const struct catch_up_had *had;
		size_t count;

		assert_int_equal(read_fields(names, hashes[i].fields, true), ST_OK);
		had = had_list_items(list, &count);
		assert_int_equal(count, hashes[i].filter ? 1 : 0);
		if (count == 0) continue;
		assert_true(slice_equal(had->filter, slice_str(hashes[i].filter)));
		assert_int_equal(had->node, hashes[i].node);
		assert_int_equal(had->since.ms, hashes[i].since);
		assert_int_equal(had->upto.ms, hashes[i].upto);
		assert_int_equal(had->certain.ms, hashes[i].certain ? hashes[i].certain : hashes[i].upto);
	}
	had_list_free(list);
	had_list_free(NULL);
	list = NULL;
	(void)had_list_items(NULL, &none);
	assert_int_equal(none, 0);
	node_names_free(names);
}

/* A name or a value that is no text tells nothing, and hides nothing beside it. */
static void no_texts(void **state)
{
	static char names_of[][8] = {"f@n1 a", "s@n1 a", "g@n2 a", "u@n2 b", "b@n1 a"}, values[][8] = {"9-0", "5-0 7-0", "", "", ""};
	static redisReply items[14], *pointers[14];
	redisReply all = {.type = REDIS_REPLY_ARRAY, .elements = 14, .element = pointers};
	const struct catch_up_had *had;
	struct node_names *names;
	size_t count;

	(void)state;
	for (size_t i = 0; i < 14; i++) pointers[i] = &items[i];
	for (size_t i = 0; i < 14; i++) items[i] = (redisReply){.type = i % 2 ? REDIS_REPLY_NIL : REDIS_REPLY_INTEGER};
	for (size_t i = 0; i < 5; i++) {
		items[2 + 2 * i] = (redisReply){.type = REDIS_REPLY_STRING, .str = names_of[i], .len = strlen(names_of[i])};
		if (values[i][0]) items[3 + 2 * i] = (redisReply){.type = REDIS_REPLY_STRING, .str = values[i], .len = strlen(values[i])};
	}
	assert_int_equal(node_names_new("n1", &names), ST_OK);
	assert_int_equal(had_of_fields(names, &all, true, &list), ST_OK);
	had = had_list_items(list, &count);
	assert_int_equal(count, 1);
	assert_true(slice_equal(had->filter, slice_str("a")) && had->node == 0);
	assert_true(had->since.ms == 5 && had->upto.ms == 9 && had->certain.ms == 9);
	had_list_free(list);
	list = NULL;
	node_names_free(names);
}

/* Several, as many as there may be. */
static void ranges(void **state)
{
	static const char *const several[] = {"u@n1 a", "1-0 2-0 4-0 4-0+30-0:5-0 7-0 9-0+31-0:12-0 20-0", "left@n1", "30-0", NULL},
		*const many[] = {"u@n1 a", "1-0 2-0 3-0 4-0 5-0 6-0 7-0 8-0 9-0 10-0 11-0 12-0 13-0 14-0 15-0 16-0 17-0 18-0", "u@n1 b", "1-0 2-0",
		NULL};
	static const uint64_t in_it[][2] = {{1, 2}, {4, 5}, {7, 12}}, out_of_it[][2] = {{1, 2}, {7, 9}};
	const struct catch_up_had *had;
	struct node_names *names;
	size_t count;

	(void)state;
	assert_int_equal(node_names_new("n1", &names), ST_OK);
	for (int present = 0; present < 2; present++) {
		assert_int_equal(read_fields(names, several, present), ST_OK);
		had = had_list_items(list, &count);
		assert_int_equal(count, present ? 3 : 2);
		for (size_t i = 0; i < count; i++) {
			assert_int_equal(had[i].since.ms, present ? in_it[i][0] : out_of_it[i][0]);
			assert_int_equal(had[i].upto.ms, present ? in_it[i][1] : out_of_it[i][1]);
			assert_int_equal(had[i].certain.ms, had[i].upto.ms);
		}
	}
	assert_int_equal(read_fields(names, many, true), ST_OK);
	(void)had_list_items(list, &count);
	assert_int_equal(count, SESSION_RANGES_MAX + 1);
	had_list_free(list);
	list = NULL;
	node_names_free(names);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows),
		cmocka_unit_test(no_texts),
		cmocka_unit_test(ranges),
	};

	return cmocka_run_group_tests_name("had", tests, NULL, NULL);
}
