/*
 * The link to a real cluster: routing and order of replies, slots that move (MOVED, ASK, TRYAGAIN) under load, a master that
 * dies, blocking commands, and what the plugin's writer uses. As the bridge's user of config/redis-users.conf.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/redis_cluster.h"
#include "config/resp.h"
#include "tests/harness/certificates.h"
#include "tests/harness/cluster_set.h"
#include "tests/harness/store.h"

#define LIMIT_MS 60000

struct rig {
	uv_loop_t loop;
	uv_timer_t tick;
	struct settings *settings;
	struct log_sink log;
	struct redis_link *link;
	unsigned ready, lost, closed, changed;
	bool watched;
	/* replies of the last send */
	size_t replies, nulls, errors;
	bool ordered;
	char last[128], expect[64];
	long long last_integer;
};

static void log_line(void *ctx, enum log_level level, const char *line)
{
	(void)ctx;
	fprintf(stderr, "    %d %s\n", (int)level, line);
}

static void on_tick(uv_timer_t *timer)
{
	(void)timer; /* so that uv_run returns every few milliseconds */
}

static void on_ready(void *ctx, struct redis_link *link)
{
	struct rig *r = ctx;
	r->ready++;
	assert_ptr_equal(link, r->link);
	assert_true(redis_link_is_ready(link));
}

static void on_lost(void *ctx, struct redis_link *link, enum status st, const char *text)
{
	struct rig *r = ctx;
	(void)st;
	(void)text;
	r->lost++;
	assert_false(redis_link_is_ready(link));
}

static void on_changed(void *ctx, struct redis_link *link)
{
	struct rig *r = ctx;
	assert_ptr_equal(link, r->link);
	r->changed++;
}

static void on_closed(void *ctx)
{
	struct rig *r = ctx;
	r->closed++;
}

static void rig_open_with(struct rig *r, struct scene *scene, const char *url, bool watched, const char *ca)
{
	struct setting_override o[] = {{"redis_url", url}, {"redis_username", BRIDGE_USER},
		{"redis_password_file", scene_write(scene, "password", BRIDGE_PASSWORD "\n")}, {"redis_tls_ca", ca}};
	char why[1024];
	memset(r, 0, sizeof(*r));
	r->log = (struct log_sink){log_line, r};
	scene_require(settings_load(NULL, o, ca ? 4 : 3, &r->log, &r->settings, why, sizeof(why)) == ST_OK, "%s", why);
	assert_int_equal(uv_loop_init(&r->loop), 0);
	assert_int_equal(uv_timer_init(&r->loop, &r->tick), 0);
	assert_int_equal(uv_timer_start(&r->tick, on_tick, 5, 5), 0);
	struct redis_link_events events = {on_ready, on_lost, r};
	assert_int_equal(redis_link_new(&r->loop, r->settings, "test", &r->log, &events, &r->link), ST_OK);
	assert_true(redis_link_is_cluster(r->link));
	r->watched = watched;
	if (watched) redis_cluster_watch(r->link, on_changed, r);
	redis_link_start(r->link);
}

static void rig_open(struct rig *r, struct scene *scene, const char *url, bool watched)
{
	rig_open_with(r, scene, url, watched, NULL);
}

static void rig_close(struct rig *r)
{
	redis_link_close(r->link, on_closed, r);
	redis_link_close(r->link, on_closed, r); /* idempotent */
	uv_close((uv_handle_t *)&r->tick, NULL);
	assert_int_equal(uv_run(&r->loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(uv_loop_close(&r->loop), 0);
	assert_int_equal(r->closed, 1);
	settings_free(r->settings);
}

#define run_until(r, condition) \
	do { \
		uint64_t limit_ = now_ms() + LIMIT_MS; \
		while (!(condition)) { \
			if (now_ms() > limit_) scene_fail(__FILE__, __LINE__, "waited in vain: %s", #condition); \
			uv_run(&(r)->loop, UV_RUN_ONCE); \
		} \
	} while (0)

static void run_for(struct rig *r, uint64_t ms)
{
	uint64_t limit = now_ms() + ms;
	while (now_ms() < limit) uv_run(&r->loop, UV_RUN_ONCE);
}

static void on_reply(void *ctx, const redisReply *reply, size_t index)
{
	struct rig *r = ctx;
	if (!reply) {
		r->nulls++;
		return;
	}
	if (index != r->replies) r->ordered = false;
	r->replies++;
	r->last_integer = reply->integer;
	r->last[0] = '\0';
	if (reply->type == REDIS_REPLY_ERROR) r->errors++;
	if (reply->str) snprintf(r->last, sizeof(r->last), "%s", reply->str);
}

static void begin(struct rig *r)
{
	r->replies = r->nulls = r->errors = 0;
	r->ordered = true;
	r->last[0] = '\0';
}

static void send_bytes(struct rig *r, const struct buf *out, size_t count, unsigned deadline_ms)
{
	begin(r);
	assert_int_equal(redis_link_send(r->link, out, count, deadline_ms, on_reply, r), ST_OK);
	assert_int_equal(r->replies + r->nulls, 0);
}

static const char *ask_within(struct rig *r, unsigned deadline_ms, const char *a, const char *b, const char *c, const char *d)
{
	struct buf out = {0};
	resp_command(&out, a, b, c, d, NULL);
	send_bytes(r, &out, 1, deadline_ms);
	buf_free(&out);
	run_until(r, r->replies + r->nulls > 0);
	assert_int_equal(r->nulls, 0);
	return r->last;
}

/* One command to its answer, of a node that may stand still for a while. */
static const char *ask(struct rig *r, const char *a, const char *b, const char *c, const char *d)
{
	return ask_within(r, LIMIT_MS, a, b, c, d);
}

/* Keys for every one of many slots, one after the other in a circle. */
static const char *key_of(unsigned i, char out[32])
{
	snprintf(out, 32, "{%s}k", cluster_slot_tag(i * 97 % CLUSTER_SLOTS));
	return out;
}

/* --- routing ------------------------------------------------------------------------------------------------------ */

struct numbers {
	size_t seen;
	bool right;
};

static void on_number(void *ctx, const redisReply *reply, size_t index)
{
	struct numbers *n = ctx;
	char expected[24];
	snprintf(expected, sizeof(expected), "%zu", index);
	if (!reply || index != n->seen || !reply->str || strcmp(reply->str, expected) != 0) n->right = false;
	n->seen++;
}

static void replies_come_in_order(struct rig *r)
{
	enum { KEYS = 2000 };
	struct buf sets = {0}, gets = {0};
	char key[32], value[16];
	struct numbers numbers = {0, true};
	for (unsigned i = 0; i < KEYS; i++) {
		snprintf(value, sizeof(value), "%u", i);
		resp_command(&sets, "SET", key_of(i, key), value, NULL);
		resp_command(&gets, "GET", key_of(i, key), NULL);
	}
	send_bytes(r, &sets, KEYS, 0);
	assert_int_equal(redis_link_send(r->link, &gets, KEYS, 0, on_number, &numbers), ST_OK);
	run_until(r, numbers.seen == KEYS);
	assert_int_equal(r->replies, KEYS);
	assert_true(r->ordered && numbers.right);
	buf_free(&sets);
	buf_free(&gets);
}

static void what_cannot_be_sent(struct rig *r)
{
	struct buf out = {0};
	assert_non_null(strstr(ask(r, "EXISTS", "foo", "bar", NULL), "CROSSSLOT"));
	assert_non_null(strstr(ask(r, "MULTI", NULL, NULL, NULL), "cannot be sent"));
	(void)ask(r, "TIME", NULL, NULL, NULL);
	assert_int_equal(r->errors, 0);
	(void)ask(r, "EVAL", "return redis.call('GET', KEYS[1])", "1", "{x}");
	assert_int_equal(r->errors, 0);
	/* Between two that can. */
	resp_command(&out, "SET", "foo", "1", NULL);
	resp_command(&out, "EXISTS", "foo", "bar", NULL);
	resp_command(&out, "INCR", "foo", NULL);
	send_bytes(r, &out, 3, 0);
	run_until(r, r->replies == 3);
	assert_true(r->ordered && r->errors == 1 && r->last_integer == 2);
	begin(r);
	assert_int_equal(redis_link_send(r->link, &out, 2, 0, on_reply, r), ST_INVALID);
	buf_free(&out);
}

static void routing(void **state)
{
	struct scene *scene = *state;
	struct cluster_set c;
	struct rig r;
	cluster_set_start(&c, scene, "");
	/* The first seed is nobody. */
	const char *url = scene_text(scene, "redis+cluster://127.0.0.1:%u,127.0.0.1:%u", scene_port(scene), server_port(c.redis[4]));
	rig_open(&r, scene, url, false);
	run_until(&r, r.ready == 1);
	replies_come_in_order(&r);
	what_cannot_be_sent(&r);
	assert_int_equal(redis_link_connects(r.link), 1);
	assert_int_equal(redis_link_in_flight(r.link), 0);
	rig_close(&r);
	scene_end(scene);
}

/* The map has the ports for TLS when it is asked for over TLS; every node has to prove who it is. */
static void over_tls(void **state)
{
	struct scene *scene = *state;
	struct cluster_set c;
	struct rig r;
	struct certificate ca = certificate_authority(scene, "ca");
	struct certificate node = certificate_signed(scene, "node", &ca, "IP:127.0.0.1");
	cluster_set_start(&c, scene, scene_text(scene, "tls-cluster yes\ntls-replication yes\ntls-cert-file %s\ntls-key-file %s\n"
		"tls-ca-cert-file %s\ntls-auth-clients no\n", node.cert, node.key, ca.cert));
	rig_open_with(&r, scene, c.url, false, ca.cert);
	run_until(&r, r.ready == 1);
	replies_come_in_order(&r);
	unsigned slot = cluster_slot(slice_str("{t}"));
	int to = cluster_set_master(&c, cluster_set_owner(&c, slot));
	cluster_set_begin(&c, slot, to);
	assert_string_equal(ask(&r, "SET", "{t}", "1", NULL), "OK"); /* ASK */
	cluster_set_end_move(&c, slot, to);
	assert_string_equal(ask(&r, "GET", "{t}", NULL, NULL), "1"); /* MOVED */
	rig_close(&r);
	scene_end(scene);
}

/* --- slots that move ---------------------------------------------------------------------------------------------- */

static void slots_move(void **state)
{
	struct scene *scene = *state;
	struct cluster_set c;
	struct rig r;
	unsigned slot = cluster_slot(slice_str("{m}"));
	cluster_set_start(&c, scene, "");
	rig_open(&r, scene, c.url, false);
	run_until(&r, r.ready == 1);
	int from = cluster_set_owner(&c, slot), to = cluster_set_master(&c, from);
	assert_string_equal(ask(&r, "SET", "{m}here", "1", NULL), "OK");
	cluster_set_begin(&c, slot, to);
	assert_string_equal(ask(&r, "GET", "{m}here", NULL, NULL), "1");
	/* Not there (any more): ASK. */
	assert_string_equal(ask(&r, "SET", "{m}new", "2", NULL), "OK");
	assert_string_equal(ask(&r, "GET", "{m}new", NULL, NULL), "2");
	/* One key here, one there: TRYAGAIN, and after the time that is the answer. */
	assert_non_null(strstr(ask_within(&r, 0, "EXISTS", "{m}here", "{m}new", NULL), "TRYAGAIN"));
	/* Asked again, it is answered as soon as it can be. */
	struct buf out = {0};
	resp_command(&out, "EXISTS", "{m}here", "{m}new", NULL);
	send_bytes(&r, &out, 1, LIMIT_MS);
	run_for(&r, 300);
	assert_int_equal(r.replies, 0);
	cluster_set_keys(&c, slot, to);
	cluster_set_end_move(&c, slot, to);
	run_until(&r, r.replies == 1);
	assert_int_equal(r.last_integer, 2);
	/* MOVED from then on, or known. */
	assert_string_equal(ask(&r, "GET", "{m}here", NULL, NULL), "1");
	assert_int_equal(r.lost, 0);
	buf_free(&out);
	rig_close(&r);
	scene_end(scene);
}

/* --- order under load ---------------------------------------------------------------------------------------------- */

#define LISTS 24
#define AT_ONCE 6

struct load {
	struct rig *rig;
	unsigned next[LISTS];      /* number to push */
	unsigned answered[LISTS];
	unsigned under_way;
	unsigned wrong;
	bool stop;
};

static void push_next(struct load *l);

static void on_pushed(void *ctx, const redisReply *reply, size_t index)
{
	struct load *l = ctx;
	if (!reply || reply->type != REDIS_REPLY_INTEGER) l->wrong++;
	if (index + 1 < LISTS * 2) return;
	l->under_way--;
	if (!l->stop) push_next(l);
}

/* Two elements to each list in one send, and several sends under way. */
static void push_next(struct load *l)
{
	struct buf out = {0};
	char key[32], value[16];
	for (unsigned i = 0; i < LISTS; i++) {
		for (int k = 0; k < 2; k++) {
			snprintf(value, sizeof(value), "%u", l->next[i]++);
			resp_command(&out, "RPUSH", key_of(i, key), value, NULL);
		}
	}
	assert_int_equal(redis_link_send(l->rig->link, &out, LISTS * 2, 20000, on_pushed, l), ST_OK);
	l->under_way++;
	buf_free(&out);
}

static void check_lists(struct cluster_set *c, const struct load *l)
{
	char key[32], expected[24];
	for (unsigned i = 0; i < LISTS; i++) {
		const redisReply *list = cluster_set_query(c, "LRANGE", key_of(i, key), "0", "-1", NULL);
		assert_int_equal(list->elements, l->next[i]);
		for (size_t k = 0; k < list->elements; k++) {
			snprintf(expected, sizeof(expected), "%zu", k);
			assert_string_equal(list->element[k]->str, expected);
		}
	}
}

static void order_while_slots_move(void **state)
{
	struct scene *scene = *state;
	struct cluster_set c;
	struct rig r;
	struct load l = {.rig = &r};
	char key[32];
	cluster_set_start(&c, scene, "");
	rig_open(&r, scene, c.url, false);
	run_until(&r, r.ready == 1);
	for (int i = 0; i < AT_ONCE; i++) push_next(&l);
	for (unsigned i = 0; i < LISTS; i++) {
		unsigned slot = cluster_slot(slice_str(key_of(i, key)));
		int to = cluster_set_master(&c, cluster_set_owner(&c, slot));
		run_for(&r, 20);
		cluster_set_begin(&c, slot, to);
		run_for(&r, 20);
		cluster_set_keys(&c, slot, to);
		run_for(&r, 20);
		cluster_set_end_move(&c, slot, to);
	}
	run_until(&r, l.next[0] > 200);
	l.stop = true;
	run_until(&r, l.under_way == 0);
	assert_int_equal(l.wrong, 0);
	assert_int_equal(r.lost, 0);
	check_lists(&c, &l);
	rig_close(&r);
	scene_end(scene);
}

/* --- a master dies -------------------------------------------------------------------------------------------------- */

static bool set_succeeds(struct rig *r, const char *key)
{
	struct buf out = {0};
	bool ok = false;
	resp_command(&out, "SET", key, "v", NULL);
	begin(r);
	if (redis_link_send(r->link, &out, 1, 0, on_reply, r) == ST_OK) {
		run_until(r, r->replies + r->nulls > 0);
		ok = strcmp(r->last, "OK") == 0;
	} else {
		run_for(r, 20);
	}
	buf_free(&out);
	return ok;
}

static void a_master_dies(void **state)
{
	struct scene *scene = *state;
	struct cluster_set c;
	struct rig r;
	struct buf out = {0};
	cluster_set_start(&c, scene, "");
	rig_open(&r, scene, c.url, false);
	run_until(&r, r.ready == 1);
	int dead = cluster_set_owner(&c, cluster_slot(slice_str("a")));
	assert_string_equal(ask(&r, "SET", "a", "1", NULL), "OK");
	/* With a command under way the link is lost, and everybody told. */
	resp_command(&out, "BLPOP", "none{a}", "20", NULL);
	send_bytes(&r, &out, 1, 25000);
	run_for(&r, 100);
	cluster_set_impatient(&c);
	server_kill(c.redis[dead]);
	run_until(&r, r.nulls == 1 && r.lost > 0);
	uint64_t limit = now_ms() + LIMIT_MS;
	while (!set_succeeds(&r, "a")) assert_true(now_ms() < limit);
	wait_until(cluster_set_owner(&c, cluster_slot(slice_str("a"))) != dead, LIMIT_MS, "the new master to be known");
	/* It comes back as a replica; nothing of that matters. */
	server_start(c.redis[dead]);
	cluster_set_wait_ok(&c, LIMIT_MS);
	unsigned lost = r.lost;
	assert_string_equal(ask(&r, "SET", "a", "2", NULL), "OK");
	assert_int_equal(r.lost, lost);
	buf_free(&out);
	rig_close(&r);
	scene_end(scene);
}

/* A blocked reader is led to the slot's new place. */
static void blocked_readers_follow(void **state)
{
	struct scene *scene = *state;
	struct cluster_set c;
	struct rig r;
	struct buf out = {0};
	unsigned slot = cluster_slot(slice_str("{b}"));
	cluster_set_start(&c, scene, "");
	rig_open(&r, scene, c.url, false);
	run_until(&r, r.ready == 1);
	(void)cluster_set_query(&c, "XADD", "s{b}", "1-1", "f", "v", NULL);
	resp_command(&out, "XREAD", "BLOCK", "30000", "STREAMS", "s{b}", "1-1", NULL);
	send_bytes(&r, &out, 1, 40000);
	run_for(&r, 200);
	cluster_set_move(&c, slot, cluster_set_master(&c, cluster_set_owner(&c, slot)));
	run_for(&r, 500);
	assert_int_equal(r.replies + r.nulls, 0);
	(void)cluster_set_query(&c, "XADD", "s{b}", "1-2", "f", "v", NULL);
	run_until(&r, r.replies == 1);
	assert_int_equal(r.errors, 0);
	assert_int_equal(r.lost, 0);
	buf_free(&out);
	rig_close(&r);
	scene_end(scene);
}

/* --- what the writer uses ------------------------------------------------------------------------------------------- */

static void through_to_nodes(void **state)
{
	struct scene *scene = *state;
	struct cluster_set c;
	struct rig r;
	struct buf out = {0}, block = {0};
	unsigned slot = cluster_slot(slice_str("{w}")), masters = 0;
	cluster_set_start(&c, scene, "");
	rig_open(&r, scene, c.url, true);
	run_until(&r, r.ready == 1);
	for (cluster_node n = redis_cluster_next_master(r.link, 0); n; n = redis_cluster_next_master(r.link, n), masters++) {
		run_until(&r, redis_cluster_node_ready(r.link, n));
		assert_int_equal(redis_cluster_connects(r.link, n), 1);
	}
	assert_int_equal(masters, 3);
	assert_true(r.changed > 0);
	/* MOVED comes through as it is, and the map follows by itself. */
	int from = cluster_set_owner(&c, slot), to = cluster_set_master(&c, from);
	cluster_node was = redis_cluster_node(r.link, slot);
	cluster_set_move(&c, slot, to);
	resp_command(&out, "SET", "{w}", "1", NULL);
	begin(&r);
	assert_int_equal(redis_cluster_send_node(r.link, was, &out, 1, 0, on_reply, &r), ST_OK);
	run_until(&r, r.replies == 1);
	assert_non_null(strstr(r.last, "MOVED"));
	run_until(&r, redis_cluster_node(r.link, slot) != was);
	begin(&r);
	run_until(&r, redis_cluster_send_slot(r.link, slot, &out, 1, 0, on_reply, &r) == ST_OK);
	run_until(&r, r.replies == 1);
	assert_string_equal(r.last, "OK");
	/* A node that dies takes its own commands only. */
	struct rig other = {0};
	unsigned far = 0;
	while (redis_cluster_node(r.link, far) == redis_cluster_node(r.link, slot)) far += 100;
	resp_command(&block, "BLPOP", "none{w}", "20", NULL);
	begin(&r);
	assert_int_equal(redis_cluster_send_slot(r.link, slot, &block, 1, 25000, on_reply, &r), ST_OK);
	buf_clear(&block);
	resp_command(&block, "BLPOP", scene_text(scene, "none{%s}", cluster_slot_tag(far)), "4", NULL);
	assert_int_equal(redis_cluster_send_slot(r.link, far, &block, 1, 25000, on_reply, &other), ST_OK);
	run_for(&r, 100);
	cluster_node dead = redis_cluster_node(r.link, slot);
	unsigned changed = r.changed;
	cluster_set_impatient(&c);
	server_kill(c.redis[to]);
	run_until(&r, r.nulls == 1);
	run_until(&r, r.changed > changed && !redis_cluster_node_ready(r.link, dead));
	assert_int_equal(redis_cluster_send_node(r.link, dead, &out, 1, 0, on_reply, &r), ST_LOST);
	run_until(&r, other.replies == 1);
	assert_int_equal(other.nulls + r.lost, 0);
	run_until(&r, redis_cluster_node(r.link, slot) != dead && redis_cluster_node_ready(r.link, redis_cluster_node(r.link, slot)));
	buf_free(&out);
	buf_free(&block);
	rig_close(&r);
	scene_end(scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(routing),
		scene_test(over_tls),
		scene_test(slots_move),
		scene_test(order_while_slots_move),
		scene_test(a_master_dies),
		scene_test(blocked_readers_follow),
		scene_test(through_to_nodes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
