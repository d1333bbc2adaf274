/*
 * The writer's part for a cluster, between a real journal and two nodes that stand here: what it asks them about themselves and
 * makes of the answers; and the same with each of its allocations failing in turn (tests/faults/nth.h), as what the writer itself
 * says first to a Redis. No server.
 */
#include "tests/unit/device_rig.h"

#include <hiredis/hiredis.h>

#include "config/settings.h"
#include "plugin/cluster_writer.h"
#include "plugin/redis_checks.h"
#include "plugin/writer.h"
#include "tests/faults/nth.h"

#define S(text) slice_str(text)
#define MIB (1024u * 1024)
#define NODES 2
#define QUESTIONS_MAX 64
/* Its keys are longer than what a text is given at first. */
#define NODE "a-node-whose-name-is-as-long-as-it-takes-to-make-its-keys-long"
#define TOKEN_KEY ":token:" NODE

/* --- a cluster ---------------------------------------------------------------------------------------------------------------- */

struct question {
	cluster_node node;
	size_t replies, len;
	redis_reply_fn *fn;
	void *ctx;
	char begin[512];
};

static struct {
	uint64_t connects[NODES + 1];
	struct question asked[QUESTIONS_MAX];
	size_t count;
	bool refuses_rewrite;
	unsigned refused;
} cluster;

bool redis_cluster_node_ready(const struct redis_link *link, cluster_node node)
{
	(void)link, (void)node;
	return true;
}

uint64_t redis_cluster_connects(const struct redis_link *link, cluster_node node)
{
	(void)link;
	return cluster.connects[node];
}

cluster_node redis_cluster_node(const struct redis_link *link, unsigned slot)
{
	(void)link, (void)slot;
	return 1;
}

cluster_node redis_cluster_next_master(const struct redis_link *link, cluster_node after)
{
	(void)link;
	return after < NODES ? after + 1 : 0;
}

void redis_cluster_watch(struct redis_link *link, void (*changed)(void *ctx, struct redis_link *link), void *ctx)
{
	(void)link, (void)changed, (void)ctx;
}

enum cluster_redirect redis_cluster_redirect(struct redis_link *link, const redisReply *reply, unsigned *slot,
	cluster_node *node)
{
	(void)link, (void)reply, (void)slot, (void)node;
	return CLUSTER_NOT;
}

enum status redis_cluster_send_node(struct redis_link *link, cluster_node node, const struct buf *commands, size_t replies,
	unsigned deadline_ms, redis_reply_fn *fn, void *ctx)
{
	struct question *q = &cluster.asked[cluster.count];

	(void)link, (void)deadline_ms;
	if (commands->failed) return ST_NOMEM; /* as the real one */
	if (cluster.refuses_rewrite && memmem(commands->data, commands->len, "BGREWRITEAOF", 12)) {
		cluster.refused++;
		return ST_LOST;
	}
	assert_true(cluster.count < QUESTIONS_MAX);
	cluster.count++;
	*q = (struct question){.node = node, .replies = replies, .len = commands->len, .fn = fn, .ctx = ctx};
	(void)snprintf(q->begin, sizeof q->begin, "%.*s", (int)commands->len, commands->data);
	return ST_OK;
}

static struct question take_question(void)
{
	struct question q = cluster.asked[0];

	assert_true(cluster.count > 0);
	cluster.count--;
	memmove(cluster.asked, cluster.asked + 1, cluster.count * sizeof cluster.asked[0]);
	return q;
}

static void reply(const struct question *q, const char *text, size_t index)
{
	bool failing = atomic_load(&fault_own()->kind) != FAULT_NONE;
	void *reply = NULL;

	nth_off(); /* what is ours */
	redisReader *reader = redisReaderCreate();
	assert_int_equal(redisReaderFeed(reader, text, strlen(text)), REDIS_OK);
	assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_OK);
	assert_non_null(reply);
	redisReaderFree(reader);
	if (failing) nth_on();
	q->fn(q->ctx, reply, index);
	nth_off();
	freeReplyObject(reply);
	if (failing) nth_on();
}

static void bulk_reply(const struct question *q, const char *text, size_t index)
{
	char resp[256];

	(void)snprintf(resp, sizeof resp, "$%zu\r\n%s\r\n", strlen(text), text);
	reply(q, resp, index);
}

/* What the node of the oldest question says of itself. */
static void tell_facts(const char *bulk_max, const char *request_max)
{
	struct question q = take_question();
	char pair[128];

	assert_non_null(strstr(q.begin, "INFO"));
	assert_int_equal(q.replies, REDIS_CHECKS_REPLIES);
	bulk_reply(&q, "redis_version:7.0.0\r\nrun_id:ab12\r\nuptime_in_seconds:10\r\n", 0);
	bulk_reply(&q, "maxmemory_policy:noeviction\r\n", 1);
	bulk_reply(&q, "aof_enabled:1\r\nloading:0\r\n", 2);
	bulk_reply(&q, "role:master\r\n", 3);
	for (size_t i = 4; i < REDIS_CHECKS_REPLIES; i++) {
		const char *value = i == 7 ? bulk_max : i == 8 ? request_max : "";
		(void)snprintf(pair, sizeof pair, "*2\r\n$1\r\nx\r\n$%zu\r\n%s\r\n", strlen(value), value);
		reply(&q, pair, i);
	}
}

static void lose(const struct question *q)
{
	q->fn(q->ctx, NULL, 0);
	cluster.connects[q->node]++;
}

/* --- a writer ----------------------------------------------------------------------------------------------------------------- */

static struct rig *rig;
static struct rule_cache *rules;
static struct settings *settings;
static struct histogram latency;

static const char *rule_text(void *ctx, uint16_t number)
{
	return journal_rule_text(ctx, number);
}

static uint64_t clock_now(void *ctx)
{
	(void)ctx;
	return rig_monotonic();
}

static void ignore_pump(void *ctx)
{
	(void)ctx;
}

static struct cluster_writer_parts open_parts(const char *rule)
{
	const char *const mirrors[] = {rule, NULL}, *const none[] = {NULL};
	const struct setting_override lines[] = {{"mirror", rule}, {"node", "n1"}, {"redis_url", "redis+cluster://127.0.0.1:1"}};
	char why[512] = "";

	memset(&cluster, 0, sizeof cluster);
	cluster.connects[1] = cluster.connects[2] = 1;
	rig = rig_new(16 * MIB, mirrors, none);
	if (settings_load(NULL, lines, 3, NULL, &settings, why, sizeof why) != ST_OK) fail_msg("%s", why);
	assert_int_equal(rule_cache_new(rule_text, rig->journal, &rules), ST_OK);
	return (struct cluster_writer_parts){.settings = settings, .journal = rig->journal, .report = &rig->report,
		.log = &rig->outlet.log, .rules = rules, .latency = &latency, .boot = {1, 0}, .journal_name = "j", .now_ms = clock_now,
		.pump = ignore_pump};
}

static void close_parts(struct cluster_writer *c)
{
	while (cluster.count > 0) {
		struct question q = take_question();
		lose(&q);
	}
	cluster_writer_free(c);
	rule_cache_free(rules);
	settings_free(settings);
	rig_free(rig);
}

static void publish(size_t size)
{
	char *payload = calloc(1, size);
	const struct message m = {.topic = S("t/a"), .payload = slice_of(payload, size), .client = S("p"), .qos = 1,
		.payload_format = -1};
	const uint16_t rule = 0;
	struct entry_id id;

	assert_non_null(payload);
	assert_int_equal(append_message(rig->append, &m, &rule, 1, &id), ST_OK);
	free(payload);
}

static enum cluster_writer_state pump(struct cluster_writer *c)
{
	unsigned pause_ms;

	return cluster_writer_pump(c, false, &pause_ms);
}

/* --- cases -------------------------------------------------------------------------------------------------------------------- */

/* A node that was started anew while something was perhaps on its way to it is asked to rewrite its append-only file, where lists
 * are written; if that could not be asked, over the next connection. */
static void a_file_is_to_be_rewritten(void **state)
{
	(void)state;
	for (int lists = 0; lists < 2; lists++) {
		struct cluster_writer_parts parts = open_parts(lists ? "t/# list l" : "t/# stream s");
		struct cluster_writer *c = NULL;
		struct question q;

		parts.left_over = (struct entry_id){1, 0};
		report_set(&rig->report, oldest_ms, rig_wall_ms - 600000);
		publish(1);
		assert_int_equal(cluster_writer_new(&parts, &c), ST_OK);
		cluster_writer_changed(c);
		assert_int_equal(cluster.count, NODES);
		cluster.refuses_rewrite = true;
		for (int i = 0; i < NODES; i++) tell_facts("", "");
		assert_int_equal(cluster.refused, lists ? NODES : 0);
		assert_int_equal(cluster.count, 0);
		assert_int_equal(pump(c), CLUSTER_WRITER_ASLEEP);
		cluster.refuses_rewrite = false;
		for (int round = 0; round < 2; round++) { /* once only */
			q = take_question();
			assert_int_equal(q.node, 1);
			lose(&q); /* nobody knows whether it was done */
			cluster_writer_changed(c);
			tell_facts("", "");
			if (lists && round == 0) {
				q = take_question();
				assert_non_null(strstr(q.begin, "BGREWRITEAOF"));
				reply(&q, "+Background append only file rewriting started\r\n", 0);
				assert_true(rig_logged(rig, "it was asked to rewrite its append-only file"));
			}
			(void)pump(c);
		}
		q = take_question();
		assert_null(strstr(q.begin, "BGREWRITEAOF"));
		lose(&q);
		close_parts(c);
	}
}

/* The answer to that is lost with its connection: nothing is said. */
static void the_answer_is_lost(void **state)
{
	struct cluster_writer_parts parts = open_parts("t/# list l");
	struct cluster_writer *c = NULL;

	(void)state;
	parts.left_over = (struct entry_id){1, 0};
	report_set(&rig->report, oldest_ms, rig_wall_ms - 600000);
	assert_int_equal(cluster_writer_new(&parts, &c), ST_OK);
	cluster_writer_changed(c);
	for (int i = 0; i < NODES; i++) tell_facts("", "");
	unsigned lines = rig->log_lines;
	assert_int_equal(cluster.count, NODES);
	close_parts(c);
	assert_int_equal(lines, 0);
}

/* No node is sent more than any of them takes. */
static void the_least_that_any_takes(void **state)
{
	enum { LARGE, SMALL_VALUE, SMALL_REQUEST, KINDS };
	static const struct { const char *bulk, *request; } node[KINDS] = {
		{"536870912", "1073741824"}, {"1048576", "1073741824"}, {"536870912", "1048576"},
	};

	(void)state;
	for (int kind = LARGE; kind < KINDS; kind++) {
		for (int first = 0; first < 2; first++) {
			struct cluster_writer_parts parts = open_parts("t/# stream s");
			struct cluster_writer *c = NULL;

			publish(3 * MIB / 2);
			assert_int_equal(cluster_writer_new(&parts, &c), ST_OK);
			cluster_writer_changed(c);
			for (int i = 0; i < NODES; i++) {
				int says = i == first ? kind : LARGE;
				tell_facts(node[says].bulk, node[says].request);
			}
			(void)pump(c);
			struct question q = take_question();
			assert_int_equal(q.len > MIB, kind == LARGE);
			lose(&q);
			close_parts(c);
		}
	}
}

/* --- without memory ----------------------------------------------------------------------------------------------------------- */

static bool is_sent(void)
{
	for (size_t i = 0; i < cluster.count; i++) {
		if (strstr(cluster.asked[i].begin, "EVAL")) return true;
	}
	return false;
}

/* Whatever could not be asked or sent is tried again, and the message is sent. */
static void short_of_memory(void)
{
	struct cluster_writer_parts parts = open_parts("t/# list l");
	struct cluster_writer *c = NULL;
	unsigned pause_ms = 0;

	publish(1);
	if (NTH_OK(cluster_writer_new(&parts, &c))) {
		NTH_DO(cluster_writer_changed(c));
		assert_true(cluster.count == NODES || nth_fired());
		if (cluster.count < NODES) cluster_writer_changed(c);
		assert_int_equal(cluster.count, NODES);
		for (int i = 0; i < NODES; i++) NTH_DO(tell_facts("1048576", "1073741824"));
		nth_on();
		enum cluster_writer_state now = cluster_writer_pump(c, false, &pause_ms);
		nth_off();
		assert_true(is_sent() || nth_fired());
		if (!is_sent()) {
			assert_int_equal(now, CLUSTER_WRITER_PAUSED);
			assert_true(pause_ms > 0);
			cluster_writer_resume(c);
			assert_int_equal(pump(c), CLUSTER_WRITER_ASLEEP);
			assert_true(is_sent());
		}
	}
	close_parts(c);
}

static void test_short_of_memory(void **state)
{
	(void)state;
	nth_sweep(short_of_memory);
}

/* --- a link to a single Redis, which never answers ----------------------------------------------------------------------------- */

static struct redis_link_events on_link;
static atomic_uint tokens, marks; /* asked for, or written */

enum status redis_link_new(uv_loop_t *loop, const struct settings *s, const char *name, const struct log_sink *log,
	const struct redis_link_events *events, struct redis_link **out)
{
	(void)loop, (void)s, (void)name, (void)log;
	on_link = *events;
	*out = (struct redis_link *)&on_link;
	return ST_OK;
}

/* Ready at once. Memory is short only while the writer deals with that. */
void redis_link_start(struct redis_link *link)
{
	nth_on();
	on_link.ready(on_link.ctx, link);
	nth_off();
}

bool redis_link_is_ready(const struct redis_link *link)
{
	(void)link;
	return true;
}

enum status redis_link_send(struct redis_link *link, const struct buf *commands, size_t replies, unsigned deadline_ms,
	redis_reply_fn *fn, void *ctx)
{
	(void)link, (void)replies, (void)deadline_ms, (void)fn, (void)ctx;
	if (commands->failed) return ST_NOMEM; /* as the real one */
	if (memmem(commands->data, commands->len, TOKEN_KEY, strlen(TOKEN_KEY))) atomic_fetch_add(&tokens, 1);
	if (memmem(commands->data, commands->len, "WATCH", 5)) atomic_fetch_add(&marks, 1);
	return ST_OK;
}

size_t redis_link_in_flight(const struct redis_link *link)
{
	(void)link;
	return 0;
}

void redis_link_reset(struct redis_link *link, enum status st, const char *text)
{
	(void)link, (void)st, (void)text;
}

void redis_link_rewire(struct redis_link *link, const struct settings *s)
{
	(void)link, (void)s;
}

void redis_link_close(struct redis_link *link, void (*closed)(void *ctx), void *ctx)
{
	(void)link, (void)closed, (void)ctx;
}

/* The token, and what the pipeline asks first: who had no memory for it then says it a little later, and each once. The token takes a
 * second then, for which only one round waits. */
static void first_words(void)
{
	const struct setting_override lines[] = {{"mirror", "t/# stream s"}, {"node", NODE}};
	const char *const mirrors[] = {"t/# stream s", NULL}, *const none[] = {NULL};
	struct writer *w = NULL;
	char why[512] = "";

	rig = rig_new(MIB, mirrors, none);
	if (settings_load(NULL, lines, 2, NULL, &settings, why, sizeof why) != ST_OK) fail_msg("%s", why);
	publish(1);
	atomic_store(&tokens, 0);
	atomic_store(&marks, 0);
	assert_int_equal(writer_start(settings, rig->journal, &rig->report, NULL, "token", &w), ST_OK);
	bool waits = atomic_load(&fault_own()->nth) == 1;
	for (int i = 0; atomic_load(&marks) == 0 || (waits && atomic_load(&tokens) == 0); i++) {
		assert_true(i < 60000);
		(void)usleep(1000);
	}
	writer_stop(w, 0);
	assert_true(atomic_load(&tokens) == 1 || nth_fired());
	assert_int_equal(atomic_load(&marks), 1);
	settings_free(settings);
	rig_free(rig);
}

static void test_first_words(void **state)
{
	(void)state;
	nth_sweep(first_words);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_is_to_be_rewritten), cmocka_unit_test(the_answer_is_lost),
		cmocka_unit_test(the_least_that_any_takes),
		cmocka_unit_test(test_short_of_memory), cmocka_unit_test(test_first_words),
	};

	/* Without libuv, which ends the process instead (config/loop_needs.h). */
	if (setenv(FAULT_MODULES_ENV, ".:libhiredis:libcjson", 1) != 0) return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
