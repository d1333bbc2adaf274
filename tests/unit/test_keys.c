/* Names of our own keys, members of the index. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "config/cluster_slot.h"
#include "config/keys.h"

static const struct key_space plain = {"mqtt", false}, cluster = {"mqtt", true};

static void check_key(enum key_kind kind, const char *last, const char *expected)
{
	struct buf b = {0};
	buf_append_str(&b, "what was there before");
	struct slice key = key_make(&b, plain, kind, slice_str(last));
	assert_int_equal(key.len, strlen(expected));
	assert_memory_equal(key.data, expected, key.len);
	assert_ptr_equal(key.data, b.data);
	buf_free(&b);
}

static void names(void **state)
{
	(void)state;
	check_key(KEY_MARK, "node1", "mqtt:mark:node1");
	check_key(KEY_INDEX, NULL, "mqtt:index");
	check_key(KEY_SESSION, "client:1 {x}", "mqtt:session:client:1 {x}");
	check_key(KEY_SESSIONS, NULL, "mqtt:sessions");
	check_key(KEY_BOOTS, "n", "mqtt:boots:n");
	check_key(KEY_EVENTS, "n", "mqtt:events:n");
	check_key(KEY_TOKEN, "n", "mqtt:token:n");
	check_key(KEY_STATUS, "n", "mqtt:status:n");
	check_key(KEY_DEAD, NULL, "mqtt:dead");
	check_key(KEY_LOCK, "n", "mqtt:lock:n");
	check_key(KEY_FENCE, "n", "mqtt:fence:n");
	check_key(KEY_REQUESTS, "n", "mqtt:requests:n");
	check_key(KEY_ANSWER, "n:1-0", "mqtt:answer:n:1-0");
	check_key(KEY_SESSION, "", "mqtt:session:");
}

static unsigned slot_of_text(const char *text)
{
	return cluster_slot(slice_str(text));
}

static void check_text(struct slice key, const char *expected)
{
	assert_int_equal(key.len, strlen(expected));
	assert_memory_equal(key.data, expected, key.len);
}

/* All that one script touches stands in one slot. */
static void names_in_a_cluster(void **state)
{
	(void)state;
	struct buf b = {0};
	static const enum key_kind of_node[] = {KEY_MARK, KEY_EVENTS, KEY_TOKEN, KEY_STATUS, KEY_LOCK, KEY_FENCE, KEY_REQUESTS};
	for (size_t i = 0; i < sizeof(of_node) / sizeof(of_node[0]); i++) {
		assert_int_equal(cluster_slot(key_make(&b, cluster, of_node[i], slice_str("n1"))), slot_of_text("n1"));
	}
	check_text(key_make(&b, cluster, KEY_LOCK, slice_str("n1")), "mqtt:lock:{n1}");
	check_text(key_make(&b, cluster, KEY_ANSWER, slice_str("n1:1-0")), "mqtt:answer:n1:1-0");
	check_text(key_make(&b, cluster, KEY_DEAD, slice_of(NULL, 0)), "mqtt:dead");
	check_text(key_make_outbox(&b, cluster, KEY_DEAD, slice_str("n"), slice_str("jobs")), "mqtt:dead:{jobs}:jobs");
	check_text(key_make_outbox(&b, cluster, KEY_PROCESSING, slice_str("n"), slice_str("a{b}")),
		"mqtt:outbox:processing:{b}:n:a{b}");
	check_text(key_make_tagged(&b, cluster, KEY_MARK, slice_str("x"), slice_str("n")), "mqtt:mark:{x}:n");
	check_text(key_make_tagged(&b, plain, KEY_MARK, slice_str("x"), slice_str("n")), "mqtt:mark:n");
	static const char *const awkward[] = {"jobs", "{a}b", "a}b", "{}x}", "{", "}", "", "a{b}c}"};
	for (size_t i = 0; i < sizeof(awkward) / sizeof(awkward[0]); i++) {
		struct slice key = slice_str(awkward[i]);
		if (key.len == 0) continue;
		static const enum key_kind of_outbox[] = {KEY_DEAD, KEY_DELAYED, KEY_PROCESSING, KEY_SETTLED};
		for (size_t k = 0; k < 4; k++) {
			struct slice name = key_make_outbox(&b, cluster, of_outbox[k], slice_str("n"), key);
			assert_int_equal(cluster_slot(name), cluster_slot(key));
		}
	}
	check_text(key_make_outbox(&b, plain, KEY_DEAD, slice_str("n"), slice_str("jobs")), "mqtt:dead");
	check_text(key_make_outbox(&b, plain, KEY_DELAYED, slice_str("n"), slice_str("jobs")), "mqtt:delayed:jobs");
	check_text(key_make_outbox(&b, plain, KEY_SETTLED, slice_str("n"), slice_str("jobs")), "mqtt:outbox:settled:n:jobs");
	buf_free(&b);
}

static void shards(void **state)
{
	(void)state;
	struct buf b = {0};
	assert_int_equal(key_shard_count(plain), 1);
	assert_int_equal(key_shard(plain, slice_str("k")), 0);
	check_text(key_make_shard(&b, plain, KEY_INDEX, 0, slice_of(NULL, 0)), "mqtt:index");
	check_text(key_make_shard(&b, plain, KEY_BOOTS, 0, slice_str("n")), "mqtt:boots:n");
	for (unsigned i = 0; i < key_shard_count(cluster); i++) {
		unsigned slot = cluster_slot(key_make_shard(&b, cluster, KEY_INDEX, i, slice_of(NULL, 0)));
		assert_int_equal(slot, i * (CLUSTER_SLOTS / KEY_SHARDS));
		assert_int_equal(cluster_slot(key_make_shard(&b, cluster, KEY_SESSIONS, i, slice_of(NULL, 0))), slot);
		assert_int_equal(cluster_slot(key_make_shard(&b, cluster, KEY_BOOTS, i, slice_str("n"))), slot);
	}
	unsigned shard = key_shard(cluster, slice_str("client{1}"));
	assert_int_equal(shard, slot_of_text("1") / (CLUSTER_SLOTS / KEY_SHARDS));
	struct slice session = key_make(&b, cluster, KEY_SESSION, slice_str("client{1}"));
	assert_int_equal(cluster_slot(session), shard * (CLUSTER_SLOTS / KEY_SHARDS));
	buf_free(&b);
}

static void members(void **state)
{
	(void)state;
	struct buf b = {0};
	char kind = 0;
	struct slice key, hint, node;
	index_member_make(&b, 's', slice_str("mqtt:a/b"), slice_str("a/b"), (struct slice){0});
	index_member_make(&b, 'l', slice_str("k"), slice_str("#"), (struct slice){0}); /* anew */
	assert_int_equal(b.len, 4);
	assert_memory_equal(b.data, "lk\0#", 4);
	assert_true(index_member_parse(slice_of(b.data, b.len), &kind, &key, &hint, &node));
	assert_int_equal(kind, 'l');
	assert_true(slice_equal(key, slice_str("k")));
	assert_true(slice_equal(hint, slice_str("#")));
	assert_null(node.data);
	index_member_make(&b, 's', slice_str("k:n1"), slice_str("a/b"), slice_str("n1"));
	assert_true(index_member_parse(slice_of(b.data, b.len), &kind, &key, &hint, &node));
	assert_true(slice_equal(key, slice_str("k:n1")));
	assert_true(slice_equal(hint, slice_str("a/b")));
	assert_true(slice_equal(node, slice_str("n1")));
	buf_free(&b);
}

static void damaged_members(void **state)
{
	(void)state;
	char kind;
	struct slice key, hint, node;
	static const struct slice bad[] = {{NULL, 0}, {"", 0}, {"s", 1}, {"sk", 2}, {"sk\0", 3}, {"s\0h", 3}, {"xk\0h", 4},
		{"skkkkkk", 7}, {"sk\0h\0", 5}, {"s\0\0h", 4}, {"\0k\0h", 4},
		{"sk\0h\0n\0", 7}, {"sk\0h\0n\0m", 8}, {"sk\0\0n", 5}};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_false(index_member_parse(bad[i], &kind, &key, &hint, &node));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names),
		cmocka_unit_test(names_in_a_cluster),
		cmocka_unit_test(shards),
		cmocka_unit_test(members),
		cmocka_unit_test(damaged_members),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
