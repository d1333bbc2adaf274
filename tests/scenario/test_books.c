/*
 * The books balance: in = stored + queued + dropped + dead, for every rule and in all, at random moments under load,
 * while Redis is stopped, killed and full of keys of the wrong type, the journal runs full, and the broker is killed;
 * as read from the status hash and from $SYS. At the end they are held against what is really in Redis.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cjson/cJSON.h>
#include <cmocka.h>

#include "tests/harness/guest.h"
#include "tests/harness/store.h"

#define WAIT_MS 60000
#define SEED 20240608u
#define RULES \
	"mirror load/# stream s:%t\nmirror load/# list l:%t\nmirror wrong/# stream w:%t\nmirror never stream never\n"

enum { RULE_COUNT = 4, LISTED_MAX = 8 };

struct account {
	long long in, stored, queued, dropped, dead;
	char text[128];
};

struct view {
	struct account total, rules[LISTED_MAX];
	size_t rule_count;
	long long full, oversize, damaged, refused, bytes, age, reconnects, retries;
	unsigned fields; /* found */
};

/* Takes one field: `name` as in the hash, or below $SYS/broker/redis with '/'. */
static void take(struct view *v, const char *name, const char *value)
{
	char column[32];
	unsigned rule;
	struct account *a = &v->total;
	long long n = atoll(value);

	v->fields++;
	if (sscanf(name, "rule:%u:%31s", &rule, column) == 2 || sscanf(name, "rules/%u/%31s", &rule, column) == 2) {
		scene_require(rule < LISTED_MAX, "rule %u", rule);
		a = &v->rules[rule];
		if (v->rule_count <= rule) v->rule_count = rule + 1;
		name = column;
	}
	if (strcmp(name, "in") == 0) a->in = n;
	else if (strcmp(name, "stored") == 0) a->stored = n;
	else if (strcmp(name, "queued") == 0) a->queued = n;
	else if (strcmp(name, "dropped") == 0) a->dropped = n;
	else if (strcmp(name, "dead") == 0) a->dead = n;
	else if (strcmp(name, "text") == 0) (void)snprintf(a->text, sizeof(a->text), "%s", value);
	else if (strcmp(name, "dropped_full") == 0 || strcmp(name, "dropped/full") == 0) v->full = n;
	else if (strcmp(name, "dropped_oversize") == 0 || strcmp(name, "dropped/oversize") == 0) v->oversize = n;
	else if (strcmp(name, "dropped_damaged") == 0 || strcmp(name, "dropped/damaged") == 0) v->damaged = n;
	else if (strcmp(name, "refused") == 0) v->refused = n;
	else if (strcmp(name, "retries") == 0) v->retries = n;
	else if (strcmp(name, "reconnects") == 0) v->reconnects = n;
	else if (strcmp(name, "queued_bytes") == 0 || strcmp(name, "queued/bytes") == 0) v->bytes = n;
	else if (strcmp(name, "queued_age") == 0 || strcmp(name, "queued/age") == 0) v->age = n;
	else v->fields--;
}

/* False: there is no status now (Redis away, or between two runs of the plugin). */
static bool view_hash(struct world *w, struct view *v)
{
	const redisReply *all;

	memset(v, 0, sizeof(*v));
	all = store_query(w->db, "HGETALL", "mqtt:status:test", NULL);
	for (size_t i = 0; i + 1 < all->elements; i += 2) take(v, all->element[i]->str, all->element[i + 1]->str);
	return all->elements > 0;
}

/* What a new subscriber gets: one round, since all topics of a round change together. */
static void view_sys(struct world *w, struct view *v)
{
	static const char root[] = "$SYS/broker/redis/";
	struct guest *g = guest_join(w, "reader", NULL);

	memset(v, 0, sizeof(*v));
	guest_subscribe(g, "$SYS/broker/redis/#", 0);
	guest_settle(g);
	for (size_t i = 0; i < guest_count(g); i++) {
		struct received r = guest_message(g, i);
		if (!r.retain) continue; /* the next round, while we looked */
		assert_memory_equal(r.topic, root, sizeof(root) - 1);
		take(v, r.topic + sizeof(root) - 1, r.payload);
	}
	guest_clear(g);
	guest_disconnect(g);
}

static void check_account(const char *where, size_t rule, const struct account *a)
{
	scene_require(a->in == a->stored + a->queued + a->dropped + a->dead,
		"%s, rule %zu: in %lld, stored %lld, queued %lld, dropped %lld, dead %lld", where, rule, a->in, a->stored,
		a->queued, a->dropped, a->dead);
}

static void check(const char *where, const struct view *v)
{
	struct account sum = {0};

	for (size_t i = 0; i < v->rule_count; i++) {
		const struct account *a = &v->rules[i];
		check_account(where, i, a);
		sum.in += a->in;
		sum.stored += a->stored;
		sum.queued += a->queued;
		sum.dropped += a->dropped;
		sum.dead += a->dead;
	}
	check_account(where, LISTED_MAX, &v->total);
	scene_require(v->rule_count == RULE_COUNT, "%s: %zu rules", where, v->rule_count);
	scene_require(v->fields == 13 + 6 * RULE_COUNT, "%s: %u fields", where, v->fields);
	assert_int_equal(v->total.dropped, v->full + v->oversize + v->damaged);
	assert_int_equal(v->total.in, sum.in);
	assert_int_equal(v->total.stored, sum.stored);
	assert_int_equal(v->total.queued, sum.queued);
	assert_int_equal(v->total.dropped, sum.dropped);
	assert_int_equal(v->total.dead, sum.dead);
}

struct load {
	struct guest *guest;
	char payload[20001];
	long long load, wrong; /* messages sent, QoS 1 */
	long long qos0;        /* to load/ too */
};

static void send_one(struct load *l, const char *topic, size_t len, int qos)
{
	if (!guest_connected(l->guest)) guest_connect(l->guest);
	assert_true(guest_send(l->guest, topic, l->payload, len, qos, false, 50) >= 0);
}

static void send_some(struct load *l, int count)
{
	for (int i = 0; i < count; i++) {
		bool wrong = rand() % 8 == 0;
		char topic[32];
		(void)snprintf(topic, sizeof(topic), wrong ? "wrong/%d" : "load/%d", rand() % 5);
		send_one(l, topic, (size_t)rand() % 200, 1);
		if (wrong) l->wrong++;
		else l->load++;
	}
}

static struct load *load_new(struct world *w)
{
	struct load *l = calloc(1, sizeof(*l));
	char key[32];

	assert_non_null(l);
	memset(l->payload, 'x', sizeof(l->payload) - 1);
	l->guest = guest_join(w, "publisher", NULL);
	for (int i = 0; i < 5; i++) {
		(void)snprintf(key, sizeof(key), "w:wrong/%d", i);
		(void)store_query(w->db, "SET", key, "not a stream", NULL);
	}
	return l;
}

static bool settled(struct world *w, struct view *v, long long in)
{
	return view_hash(w, v) && v->total.in >= in && v->total.queued == 0;
}

/* What is sent comes to so many records, as each message to load/ is two. */
static long long records(const struct load *l)
{
	return 2 * (l->load + l->qos0) + l->wrong;
}

static void wait_settled(struct world *w, struct view *v, const struct load *l, const char *what)
{
	wait_until(settled(w, v, records(l)), WAIT_MS, what);
}

/* Until the journal is full: of QoS 0, for QoS 1 would be refused. */
static void redis_stops(struct world *w, struct view *v, struct load *l)
{
	server_pause(w->redis);
	send_some(l, 300);
	/* The client sends QoS 0 past the QoS 1 it still has queued; those would find the journal full. */
	assert_true(guest_flush(l->guest, WAIT_MS));
	for (int i = 0; i < 300; i++, l->qos0++) send_one(l, "load/0", sizeof(l->payload) - 1, 0);
	send_one(l, "load/0", 10, 0);
	l->qos0++;
	view_sys(w, v);
	check("$SYS, Redis stopped", v);
	server_continue(w->redis);
	/* The room must be free again, or QoS 1 would be refused: that is another test's. */
	wait_settled(w, v, l, "the journal to drain");
}

static void redis_dies(struct world *w, struct view *v, struct load *l)
{
	server_kill(w->redis);
	send_some(l, 300);
	view_sys(w, v);
	check("$SYS, Redis dead", v);
	server_start(w->redis);
	store_reopen(w->db);
	store_forget_torn(w->db);
}

/* What the books say of what was sent, against what is in Redis. */
static void hold_against_redis(struct world *w, const struct view *v, const struct load *l)
{
	long long streams = 0, lists = 0;

	for (int i = 0; i < 5; i++) {
		char key[32];
		(void)snprintf(key, sizeof(key), "s:load/%d", i);
		streams += store_stream_len(w->db, key);
		(void)snprintf(key, sizeof(key), "l:load/%d", i);
		lists += store_list_len(w->db, key);
	}
	printf("really: %lld in streams, %lld in lists, %lld dead letters; sent %lld of QoS 1, %lld of QoS 0, %lld wrong\n",
		streams, lists, store_stream_len(w->db, "mqtt:dead"), l->load, l->qos0, l->wrong);
	assert_int_equal(v->total.in, records(l));
	assert_int_equal(v->rules[0].stored, streams);
	assert_int_equal(v->rules[1].stored, lists);
	assert_int_equal(v->total.dead, store_stream_len(w->db, "mqtt:dead"));
	assert_int_equal(v->total.dead, l->wrong);
	assert_int_equal(v->rules[2].dead, l->wrong);
	assert_int_equal(v->total.dropped, 2 * (l->load + l->qos0) - streams - lists);
	assert_int_equal(streams, lists);
}

/* Under load, with faults of Redis, for 45 seconds and until there was enough to see. */
static void at_random(struct world *w, struct view *v, struct load *l)
{
	unsigned samples = 0, rounds = 0;
	long long last_in = -1;
	uint64_t until = now_ms() + 45000, limit = until + WAIT_MS;

	for (int turn = 0; now_ms() < until || samples <= 20 || rounds <= 1; turn++) { /* on a slow machine they take longer */
		scene_require(now_ms() < limit, "only %u samples, %u rounds of $SYS", samples, rounds);
		int fate = turn == 4 ? 0 : turn == 12 ? 3 : rand() % 100; /* each kind of fault at least once */
		send_some(l, rand() % 300);
		/* The load must not outrun a slow disk (appendfsync always) and fill the journal with QoS 1: it would be refused. */
		if (turn % 8 == 7) {
			assert_true(guest_flush(l->guest, WAIT_MS));
			wait_settled(w, v, l, "the writer to come after");
		}
		if (fate < 3) {
			redis_stops(w, v, l);
		} else if (fate < 6) {
			redis_dies(w, v, l);
		} else if (fate < 12) {
			view_sys(w, v);
			check("$SYS", v);
			if (v->total.in != last_in) rounds++;
			last_in = v->total.in;
		}
		if (!view_hash(w, v)) continue;
		check("hash", v);
		samples++;
	}
	printf("%u samples, %u rounds of $SYS\n", samples, rounds);
}

/* One run of the broker; everything that can happen to Redis. */
static void test_at_random_moments(void **state)
{
	struct scene *s = *state;
	struct world w;
	struct view v;

	world_start(&w, s, RULES, WORLD_REDIS_ALWAYS);
	struct load *l = load_new(&w);
	view_sys(&w, &v); /* at once after the start */
	check("$SYS", &v);
	assert_string_equal(v.rules[1].text, "load/# list l:%t");
	printf("seed %u\n", SEED);
	srand(SEED);
	at_random(&w, &v, l);
	assert_true(guest_flush(l->guest, WAIT_MS));
	wait_settled(&w, &v, l, "everything to be in Redis");
	check("at the end", &v);
	printf("in %lld, stored %lld, dropped %lld, dead %lld, %lld reconnects\n", v.total.in, v.total.stored, v.total.dropped,
		v.total.dead, v.reconnects);
	hold_against_redis(&w, &v, l);
	assert_true(v.reconnects > 0);
	assert_true(v.full > 0);
	assert_int_equal(v.refused, 0);
	assert_int_equal(v.age, 0);
	free(l);
	scene_end(s);
}

/* What an earlier run left comes in with this run, rule by rule, and the old run's rules are not shown any more. */
static void test_over_restarts(void **state)
{
	struct scene *s = *state;
	struct world w;
	struct view v;

	world_start(&w, s, RULES, 0);
	struct load *l = load_new(&w);
	send_some(l, 100);
	wait_until(settled(&w, &v, 2 * l->load + l->wrong), WAIT_MS, "everything to be in Redis");
	(void)store_query(w.db, "HSET", "mqtt:status:test", "rule:7:in", "5", "rule:7:text", "of long ago", NULL);
	server_pause(w.redis);
	srand(SEED);
	l->load = l->wrong = 0;
	for (int round = 1; round <= 3; round++) {
		send_some(l, 200 * round);
		assert_true(guest_flush(l->guest, WAIT_MS));
		server_kill(w.broker);
		wait_until(!guest_connected(l->guest), WAIT_MS, "the end of the connection");
		server_start(w.broker);
		wait_until((view_sys(&w, &v), v.fields > 0), WAIT_MS, "the first round of $SYS");
		check("$SYS after a kill", &v);
		assert_int_equal(v.rules[0].queued, l->load);
		assert_int_equal(v.rules[1].queued, l->load);
		assert_int_equal(v.rules[2].queued, l->wrong);
		assert_int_equal(v.total.in, v.total.queued);
		assert_int_equal(v.total.queued, 2 * l->load + l->wrong);
		assert_true(v.bytes > 0 && v.age > 0 && v.age < 120000);
	}
	/* QoS 1 is refused when the journal is full: beside the books. */
	guest_connect(l->guest);
	while (guest_publish_code(l->guest, "load/1", l->payload, 1) == 0) l->load++;
	server_continue(w.redis);
	wait_until(settled(&w, &v, 2 * l->load + l->wrong), WAIT_MS, "everything to be in Redis");
	check("hash", &v);
	assert_int_equal(v.total.stored, 2 * l->load);
	assert_int_equal(v.total.dead, l->wrong);
	assert_int_equal(v.total.dropped, 0);
	assert_int_equal(v.refused, 1);
	free(l);
	scene_end(s);
}

static long long number(const cJSON *object, const char *name)
{
	const cJSON *n = cJSON_GetObjectItemCaseSensitive(object, name);

	scene_require(cJSON_IsNumber(n), "no number \"%s\"", name);
	return (long long)n->valuedouble;
}

static void test_shown_by_the_cli(void **state)
{
	struct scene *s = *state;
	struct world w;
	struct view v;
	const char *text;

	world_start(&w, s, RULES, 0);
	struct load *l = load_new(&w);
	for (int i = 0; i < 7; i++) send_one(l, "load/0", 5, 1);
	send_one(l, "wrong/1", 5, 1);
	wait_until(settled(&w, &v, 15), WAIT_MS, "everything to be in Redis");
	const char *const json[] = {CTL_PROGRAM, "status", "-c", w.settings, "--json", NULL};
	(void)program_run(s, json, WAIT_MS, &text); /* not 0: there are dead letters to warn of */
	cJSON *root = cJSON_Parse(text);
	scene_require(root != NULL, "no JSON: %s", text);
	const cJSON *plugin = cJSON_GetObjectItemCaseSensitive(root, "plugin");
	const cJSON *rules = cJSON_GetObjectItemCaseSensitive(plugin, "rules");
	assert_int_equal(number(plugin, "in"), 15);
	assert_int_equal(number(plugin, "stored"), 14);
	assert_int_equal(number(plugin, "dead"), 1);
	assert_int_equal(number(plugin, "queued"), 0);
	assert_int_equal(number(plugin, "queued_age"), 0);
	assert_int_equal(cJSON_GetArraySize(rules), RULE_COUNT);
	for (int i = 0; i < RULE_COUNT; i++) assert_int_equal(number(cJSON_GetArrayItem(rules, i), "number"), i);
	assert_int_equal(number(cJSON_GetArrayItem(rules, 1), "stored"), 7);
	assert_int_equal(number(cJSON_GetArrayItem(rules, 2), "dead"), 1);
	assert_string_equal(cJSON_GetObjectItemCaseSensitive(cJSON_GetArrayItem(rules, 1), "text")->valuestring,
		"load/# list l:%t");
	cJSON_Delete(root);
	const char *const plain[] = {CTL_PROGRAM, "status", "-c", w.settings, NULL};
	(void)program_run(s, plain, WAIT_MS, &text);
	scene_require(strstr(text, "rule 2   in 1 stored 0 queued 0 dropped 0 dead 1  (wrong/# stream w:%t)") != NULL,
		"%s", text);
	free(l);
	scene_end(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_at_random_moments),
		scene_test(test_over_restarts),
		scene_test(test_shown_by_the_cli),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
