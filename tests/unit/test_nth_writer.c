/*
 * What stands between the journal and Redis, with each allocation failing in turn (tests/faults/nth.h): a damaged journal that is
 * opened, the writer that is made, transactions and stretches that are too large for what they had. No server.
 */
#include "tests/unit/device_rig.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sys/random.h>

#include "config/message.h"
#include "config/settings.h"
#include "plugin/journal_format.h"
#include "plugin/transaction.h"
#include "plugin/writer.h"
#include "tests/faults/nth.h"
#include "tests/harness/spread_bench.h"

#define S(text) slice_str(text)
#define MIB (1024u * 1024)
#define KEYS_MAX 140 /* of several numbers, so that now this and now that needs more memory than there was */

static const char *const none[] = {NULL}, *const mirror[] = {"t/# stream s", NULL};

/* --- the journal ------------------------------------------------------------------------------------------------------------ */

/* The second and fourth of five records are damaged: what is left is found, or the journal is not opened. */
static void damaged_journal(void)
{
	struct rig *r = rig_new(MIB, mirror, none);
	struct journal_report report;
	struct journal_record rec;
	uint64_t at[5], position = journal_released(r->journal);
	char why[256] = "";

	for (int i = 0; i < 5; i++) (void)rig_publish(r, "t/a", 1);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(journal_next(r->journal, position, &rec), ST_OK);
		at[i] = rec.position;
		position = rec.next;
	}
	memset((char *)(uintptr_t)rec.body.data - (at[4] - at[1]), 0xff, 4);
	memset((char *)(uintptr_t)rec.body.data - (at[4] - at[3]), 0xff, 4);
	journal_close(r->journal);
	nth_on();
	if (nth_ok(journal_open(r->path, MIB, "n1", &r->journal, &report, why, sizeof why))) assert_int_equal(report.records, 3);
	else assert_int_equal(journal_open(r->path, MIB, "n1", &r->journal, &report, why, sizeof why), ST_OK);
	rig_free(r);
}

static void journals_past(void)
{
	struct rig *r = rig_new(MIB, mirror, none);
	struct journal_record rec;
	struct buf copy = {0};
	uint64_t first = journal_released(r->journal);

	(void)rig_publish(r, "t/a", 1);
	assert_int_equal(journal_next(r->journal, first, &rec), ST_OK);
	journal_release(r->journal, rec.next, rec.id);
	if (NTH_OK(journal_past(r->journal, first, 0, &copy, &rec))) assert_int_equal(rec.type, JOURNAL_MESSAGE);
	buf_free(&copy);
	rig_free(r);
}

/* --- the writer --------------------------------------------------------------------------------------------------------------- */

static bool no_thread, nothing_random;

int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *ctx), void *ctx)
{
	static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

	if (no_thread) return EAGAIN;
	if (!real) *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
	return real(thread, attr, run, ctx);
}

ssize_t getrandom(void *to, size_t len, unsigned flags)
{
	static ssize_t (*real)(void *, size_t, unsigned);

	if (nothing_random) return -1;
	if (!real) *(void **)&real = dlsym(RTLD_NEXT, "getrandom");
	return real(to, len, flags);
}

/* Nobody is at that address. */
static void writer_at(const char *url, enum status expected)
{
	const struct setting_override lines[] = {{"mirror", "t/# stream s"}, {"node", "n1"}, {"redis_url", url}};
	struct rig *r = rig_new(MIB, mirror, none);
	struct settings *settings = NULL, *fresh = NULL;
	struct writer *w = NULL;
	char why[512] = "";

	if (settings_load(NULL, lines, 3, NULL, &settings, why, sizeof why) != ST_OK) fail_msg("%s", why);
	if (settings_load(NULL, lines, 3, NULL, &fresh, why, sizeof why) != ST_OK) fail_msg("%s", why);
	(void)rig_publish(r, "t/a", 1);
	nth_on();
	enum status st = writer_start(settings, r->journal, &r->report, NULL, "token", &w);
	nth_off();
	if (!nth_fired()) assert_int_equal(st, expected);
	if (st == ST_OK) {
		writer_rewire(w, fresh);
		writer_stop(w, 0);
	} else {
		assert_int_equal(st, ST_NOMEM);
		settings_free(fresh);
	}
	settings_free(settings);
	rig_free(r);
}

static void writer(void)
{
	writer_at("redis://127.0.0.1:1", ST_OK);
}

static void writer_on_a_cluster(void)
{
	writer_at("redis+cluster://127.0.0.1:1", ST_OK);
}

static void nothing_fails(void)
{
	fault_arm_in(fault_own(), FAULT_NONE, FAULT_FOREVER, 1, ENOMEM);
}

static void test_no_thread(void **state)
{
	(void)state;
	nothing_fails();
	no_thread = true;
	writer_at("redis://127.0.0.1:1", ST_NOMEM);
	writer_at("redis+cluster://127.0.0.1:1", ST_NOMEM);
	no_thread = false;
}

/* The clock has to do then. */
static void test_nothing_random(void **state)
{
	(void)state;
	nothing_fails();
	nothing_random = true;
	writer_at("redis+cluster://127.0.0.1:1", ST_OK);
	nothing_random = false;
}

/* --- transactions ------------------------------------------------------------------------------------------------------------- */

static uint64_t clock_now(void *ctx)
{
	(void)ctx;
	return 1000;
}

static const char *no_rule(void *ctx, uint16_t number)
{
	(void)ctx, (void)number;
	return NULL;
}

static void made(void)
{
	struct rule_cache *cache = NULL;
	struct pipeline *p = NULL;
	struct spread *s = NULL;

	assert_int_equal(rule_cache_new(no_rule, NULL, &cache), ST_OK);
	const struct pipeline_config config = {.keys = {"p", false}, .node = "n", .rules = cache, .now_ms = clock_now};
	const struct spread_config spread = {.keys = {"p", true}, .node = "n", .rules = cache, .run = "r", .journal = "j", .now_ms = clock_now};
	if (NTH_OK(pipeline_new(&config, &p))) pipeline_free(p);
	if (NTH_OK(spread_new(&spread, &s))) spread_free(s);
	rule_cache_free(cache);
}

/* A key that cannot be built spoils the commands that name it. */
static void names(void)
{
	const struct key_space keys = {"p", false};

	for (int which = 0; which < 4; which++) {
		struct buf out = {0}, scratch = {0};
		buf_append(&out, "", 1); /* which is not what is looked at */
		nth_on();
		if (which == 0) resp_arg_key(&out, &scratch, keys, KEY_INDEX);
		else if (which == 1) resp_arg_mark(&out, &scratch, keys, "n", true);
		else if (which == 2) resp_arg_journal(&out, &scratch, keys, "n");
		else append_watch(&out, &scratch, keys, "n");
		nth_off();
		assert_true(!scratch.failed || out.failed);
		assert_true(!out.failed || nth_fired());
		buf_free(&out);
		buf_free(&scratch);
	}
}

static const char *const rules[] = {"# stream s:%t maxlen=3", "# list l:%t maxlen=3", "bad/# list b:%t"};

static unsigned keys;

/* Of a message with an expiry, of which a number is to be made. */
static void expiring(struct bench *b)
{
	const struct message m = {.topic = S("t/e"), .payload = S("x"), .client = S("c"), .payload_format = -1, .has_expiry = true,
		.expiry_ms = 5000};
	struct buf body = {0};

	buf_u16(&body, 1);
	buf_u16(&body, 0);
	char *to = buf_reserve(&body, message_packed_size(&m));
	assert_non_null(to);
	message_pack(&m, to);
	bench_body(b, 1000, JOURNAL_MESSAGE, slice_of(body.data, body.len + message_packed_size(&m)));
	buf_free(&body);
}

static void fill(struct bench *b)
{
	const struct session_event e = {.client = S("c"), .filter = S("a/#"), .qos = 1};
	char topic[32];

	expiring(b);
	for (unsigned i = 0; i < keys; i++) {
		(void)snprintf(topic, sizeof topic, "%s/%u", i % 10 == 9 ? "bad" : "t", i);
		bench_message(b, 1000, i % 10 == 9 ? "12" : "01", topic, S("x"));
	}
	bench_event(b, 1000, JOURNAL_SUBSCRIBED, &e);
}

static void gather(struct bench *b, bool failing)
{
	enum status st = ST_OK;

	for (size_t at = (size_t)pipeline_position(b->p) / 10; at < b->count && st == ST_OK; at = (size_t)pipeline_position(b->p) / 10) {
		if (failing) nth_on();
		st = pipeline_add(b->p, &b->records[at]); /* steps back without memory */
		nth_off();
	}
}

/* All of them, whatever had to be done again. */
static void large_transaction(void)
{
	static struct bench b;
	unsigned paused = 0;

	bench_open(&b, rules, 3);
	bench_mark(&b, "", "");
	assert_int_equal(pipeline_step(b.p), PIPELINE_IDLE);
	fill(&b);
	for (bool sent = false; !sent;) {
		assert_true(paused < 400);
		gather(&b, paused < 200);
		if (paused < 200) nth_on();
		enum pipeline_action action = pipeline_step(b.p);
		nth_off();
		if (action == PIPELINE_PAUSE) pipeline_resume(b.p);
		if (action != PIPELINE_SEND) {
			assert_true(nth_fired());
			paused++;
			continue;
		}
		if (paused < 200) nth_on();
		const struct buf *commands = pipeline_send(b.p, &b.replies);
		nth_off();
		sent = !commands->failed;
		if (sent) break;
		pipeline_unsent(b.p);
		paused++;
	}
	assert_true(b.replies > keys);
	bench_close(&b);
}

/* --- stretches ---------------------------------------------------------------------------------------------------------------- */

static unsigned calls;

/* Memory comes back some time, else nothing could end. */
static void within(bool in)
{
	if (in && calls++ < 1000) nth_on();
	else nth_off();
}

static void stretches(enum redis_confirm confirm)
{
	static struct spread_bench f;

	calls = 0;
	spread_bench_open(&f, rules, 3);
	if (confirm != REDIS_CONFIRM_REPLY) {
		f.wait = (struct wait){.confirm = confirm, .replicas = 1};
		spread_bench_restart(&f);
	}
	f.refuses = "b:";
	fill(&f.b);
	spread_bench_within = within;
	spread_bench_run(&f);
	spread_bench_check(&f);
	spread_bench_close(&f);
}

static void large_stretch(void)
{
	stretches(REDIS_CONFIRM_REPLY);
}

static void large_stretch_with_replicas(void)
{
	stretches(REDIS_CONFIRM_REPLICAS);
}

#define SWEEP(name) \
	static void test_##name(void **state) \
	{ \
		(void)state; \
		nth_sweep(name); \
	}

SWEEP(damaged_journal)
SWEEP(journals_past)
SWEEP(writer)
SWEEP(writer_on_a_cluster)
SWEEP(made)
SWEEP(names)
/* Buffers are doubled: somewhere in so many numbers each of them has to be. */
static void of_all_sizes(void (*work)(void), unsigned step)
{
	for (keys = 10; keys < KEYS_MAX; keys += step) nth_sweep(work);
}

static void test_large_transaction(void **state)
{
	(void)state;
	of_all_sizes(large_transaction, 65);
}

static void test_large_stretch(void **state)
{
	(void)state;
	of_all_sizes(large_stretch, 65);
}

static void test_large_stretch_with_replicas(void **state)
{
	(void)state;
	of_all_sizes(large_stretch_with_replicas, 130);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_damaged_journal),
		cmocka_unit_test(test_journals_past),
		cmocka_unit_test(test_writer),
		cmocka_unit_test(test_writer_on_a_cluster),
		cmocka_unit_test(test_no_thread),
		cmocka_unit_test(test_nothing_random),
		cmocka_unit_test(test_made),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_large_transaction),
		cmocka_unit_test(test_large_stretch),
		cmocka_unit_test(test_large_stretch_with_replicas),
	};

	/* Without libuv, which ends the process instead (config/loop_needs.h). */
	if (setenv(FAULT_MODULES_ENV, ".:libhiredis:libcjson", 1) != 0) return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
