/*
 * The plugin without a broker and without Redis: real settings file, journal and writer thread, which finds nobody at its
 * address. What the broker's events do to journal and counters.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "plugin/core_state.h"

#define RULES "mirror s/# stream s:%t\nmirror l/# list l format=raw\nredeliver s/# overlap=0\n"
#define WRITER_MS 60000 /* for its thread to come to run */

static char folder[64], settings_path[96], journal_path[96], acl_path[96];
static struct core *core;
static unsigned log_lines, statuses;
static unsigned policy_lines; /* of durability and journal_full: the writer's lines come when they come */
static bool others, certain;
static char why[2048];
static int publisher, device, other; /* client objects are only addresses */

static enum status deliver(void *ctx, const char *client, const struct message *m, uint8_t qos, enum delivery kind,
	const struct mqtt5_extras *v5)
{
	(void)ctx, (void)client, (void)m, (void)qos, (void)kind, (void)v5;
	return ST_OK;
}

static enum status tell(void *ctx, const char *client, const void *payload, size_t len)
{
	(void)ctx, (void)client, (void)payload, (void)len;
	return ST_OK;
}

static enum status publish_status(void *ctx, const char *topic, const char *text)
{
	(void)ctx, (void)text;
	assert_int_equal(strncmp(topic, "$SYS/broker/redis/", 18), 0);
	statuses++;
	return ST_OK;
}

static void log_line(void *ctx, enum log_level level, const char *line)
{
	(void)ctx, (void)level;
	log_lines++;
	policy_lines += strncmp(line, "journal: ", 9) == 0 || strstr(line, "in time") != NULL;
}

static int count_one(const void *handle)
{
	(void)handle;
	return 1;
}

static bool others_loaded(void)
{
	return others;
}

static const struct outlet outlet = {deliver, tell, publish_status, {log_line, NULL}, NULL, false};

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static void write_settings(const char *rest)
{
	char text[4096];

	snprintf(text, sizeof text, "redis_url redis://127.0.0.1:1\nnode n1\njournal %s\njournal_size 1M\n%s", journal_path, rest);
	write_file(settings_path, text);
}

static enum status start(const char *config)
{
	const struct core_broker broker = {&outlet, count_one, others_loaded, certain, NULL};
	const struct setting_override options[] = {{"hold_timeout", "7s"}, {"config", config}};

	core = NULL;
	return core_start(&broker, options, config ? 2 : 1, &core, why, sizeof why);
}

static void start_with(const char *rest)
{
	write_settings(rest);
	if (start(settings_path) != ST_OK) fail_msg("%s", why);
}

static int begin(void **state)
{
	(void)state;
	snprintf(folder, sizeof folder, "/tmp/mqr-unit-XXXXXX");
	if (!mkdtemp(folder)) return -1;
	snprintf(settings_path, sizeof settings_path, "%s/settings", folder);
	snprintf(journal_path, sizeof journal_path, "%s/journal", folder);
	snprintf(acl_path, sizeof acl_path, "%s/acl", folder);
	log_lines = statuses = 0;
	others = certain = false;
	return 0;
}

static int end(void **state)
{
	(void)state;
	core_stop(core);
	core = NULL;
	unlink(settings_path);
	unlink(journal_path);
	unlink(acl_path);
	return rmdir(folder);
}

static struct message message(const char *topic, const char *payload, uint8_t qos)
{
	return (struct message){.topic = slice_str(topic), .payload = slice_str(payload), .client = slice_str("p"), .qos = qos,
		.payload_format = -1};
}

static unsigned records(enum journal_type type)
{
	struct journal_record r;
	uint64_t position = journal_released(core->journal);
	unsigned n = 0;

	while (journal_next(core->journal, position, &r) == ST_OK) {
		position = r.next;
		n += r.type == type;
	}
	return n;
}

#define COUNTER(name) ((unsigned)report_get(&core->report, name))
#define BOOKED(column) ((unsigned)books_total(core->report.books, BOOKS_##column))

static struct client_info info(const char *id)
{
	return (struct client_info){.id = id, .clean = true, .keepalive_s = 60};
}

/* The broker's write check of a will, or of a publish; granted by our last callback or not. */
static void write_check(const void *handle, const struct message *m, bool granted)
{
	struct client_info c = info("p");

	if (core_write_check(core, handle)) core_will_check(core, handle, &c, m, NULL);
	if (granted) core_write_granted(core, handle);
}

static void subscribe(const void *handle, const char *id, const char *filter)
{
	struct client_info c = info(id);

	core_subscribe_check(core, handle, &c, filter, 2, 0);
}

static bool read_check(const char *client, const struct message *m)
{
	return core_read_check(core, client, m->topic, m->payload, m->qos);
}

/* --- start and stop ------------------------------------------------------------------------------------------------ */

static void test_start_failures(void **state)
{
	char text[256];

	(void)state;
	core_stop(NULL);
	assert_int_equal(start(NULL), ST_INVALID);
	assert_non_null(strstr(why, "plugin_opt_config"));
	assert_int_not_equal(start("/nonexistent/settings"), ST_OK);
	assert_true(why[0] != 0);
	write_settings("mirror a/#/b stream s\nno_such_setting 1\n");
	assert_int_not_equal(start(settings_path), ST_OK);
	assert_non_null(strstr(why, "no_such_setting"));
	assert_int_not_equal(access(journal_path, F_OK), 0);
	snprintf(text, sizeof text, "%sacl_file %s\n", RULES, acl_path);
	write_settings(text);
	assert_int_not_equal(start(settings_path), ST_OK);
	write_file(acl_path, "nonsense here\n");
	assert_int_not_equal(start(settings_path), ST_OK);
	assert_null(core);
	snprintf(text, sizeof text, "node n1\njournal %s/no/journal\njournal_size 1M\n%s", folder, RULES);
	write_file(settings_path, text);
	assert_int_not_equal(start(settings_path), ST_OK);
	assert_null(core);
	/* After all that, it starts. */
	start_with(RULES);
}

static void test_locked_journal(void **state)
{
	struct core *first;

	(void)state;
	start_with(RULES);
	first = core;
	assert_int_equal(start(settings_path), ST_DENIED);
	core = first;
	assert_int_equal(core->settings->hold_timeout_ms, 7000);
	assert_int_equal(records(JOURNAL_BOOT), 1);
}

static void test_reload(void **state)
{
	struct message m = message("new/a", "x", 1);

	(void)state;
	start_with(RULES);
	assert_true(core_publish(core, &publisher, &m, NULL));
	assert_int_equal(BOOKED(IN), 0);
	write_settings("mirror new/# nonsense\n");
	core_reload(core);
	assert_int_equal(core->settings->mirror_count, 2);
	write_settings(RULES "mirror new/# stream n\n");
	core_reload(core);
	core_reload(core);
	assert_int_equal(core->settings->mirror_count, 3);
	assert_int_equal(core->settings->hold_timeout_ms, 7000);
	assert_true(core_publish(core, &publisher, &m, NULL));
	assert_int_equal(BOOKED(IN), 1);
	core_tick(core, true);
	assert_true(statuses > 0);
}

/* --- publishes ----------------------------------------------------------------------------------------------------- */

static void test_counts(void **state)
{
	struct message m;

	(void)state;
	start_with(RULES "mirror s/two list two\n");
	m = message("s/one", "x", 0);
	assert_true(core_publish(core, &publisher, &m, NULL));
	assert_int_equal(BOOKED(IN), 1);
	m = message("s/two", "x", 1);
	assert_true(core_publish(core, &publisher, &m, NULL));
	assert_int_equal(BOOKED(IN), 3);
	m = message("unmirrored", "x", 1);
	assert_true(core_publish(core, &publisher, &m, NULL));
	assert_int_equal(BOOKED(IN), 3);
	assert_int_equal(records(JOURNAL_MESSAGE), 2);
}

static void test_full(void **state)
{
	char *payload = calloc(1, 20001);
	struct message m;
	unsigned accepted = 0;

	(void)state;
	assert_non_null(payload);
	memset(payload, 'x', 20000);
	start_with(RULES);
	m = message("s/a", payload, 1);
	while (core_publish(core, &publisher, &m, NULL) && accepted < 100) accepted++;
	assert_true(accepted > 40 && accepted < 53);
	assert_int_equal(COUNTER(refused), 1);
	assert_int_equal(BOOKED(IN), accepted);
	assert_int_equal(records(JOURNAL_MESSAGE), accepted);
	log_lines = 0;
	m.qos = 2;
	assert_false(core_publish(core, &publisher, &m, NULL));
	m.qos = 0;
	for (int i = 0; i < 5; i++) assert_true(core_publish(core, &publisher, &m, NULL));
	assert_int_equal(BOOKED(DROPPED_full), 5);
	assert_int_equal(BOOKED(IN), accepted + 5);
	assert_int_equal(COUNTER(refused), 2);
	assert_int_equal(log_lines, 0); /* once an episode */
	m = message("unmirrored", payload, 1);
	assert_true(core_publish(core, &publisher, &m, NULL));
	assert_int_equal(records(JOURNAL_MESSAGE), accepted);
	free(payload);
}

static void test_oversize(void **state)
{
	char *payload = calloc(1, 700001);
	struct message m;

	(void)state;
	assert_non_null(payload);
	memset(payload, 'x', 700000);
	start_with(RULES);
	m = message("s/a", payload, 1);
	assert_false(core_publish(core, &publisher, &m, NULL));
	m.qos = 0;
	assert_true(core_publish(core, &publisher, &m, NULL));
	assert_int_equal(BOOKED(DROPPED_oversize), 1);
	assert_int_equal(COUNTER(refused), 1);
	m = message("s/a", "small", 1);
	assert_true(core_publish(core, &publisher, &m, NULL));
	free(payload);
}

/* --- durability and journal_full ------------------------------------------------------------------------------------ */

static unsigned flushes;
static bool disk_fails;

static int flush(int fd)
{
	(void)fd;
	flushes++;
	if (!disk_fails) return 0;
	errno = EIO;
	return -1;
}

static void test_fsync(void **state)
{
	struct message will = message("f/will", "gone", 1);
	int (*real)(int fd) = journal_flush;
	struct message m;

	(void)state;
	start_with(RULES "mirror f/# stream f durability=fsync\nmirror f/two/# list two\n");
	journal_flush = flush;
	flushes = 0;
	disk_fails = false;
	m = message("s/a", "x", 1);
	assert_true(core_publish(core, &publisher, &m, NULL)); /* another rule's */
	m = message("unmirrored", "x", 2);
	assert_true(core_publish(core, &publisher, &m, NULL));
	m = message("f/a", "x", 0);
	assert_true(core_publish(core, &publisher, &m, NULL));
	assert_int_equal(flushes, 0);
	for (unsigned i = 1; i <= 3; i++) {
		m = message(i == 3 ? "f/two/a" : "f/a", "x", (uint8_t)(1 + i % 2));
		assert_true(core_publish(core, &publisher, &m, NULL));
		assert_int_equal(flushes, i);
	}
	disk_fails = true;
	policy_lines = 0;
	for (unsigned i = 1; i <= 3; i++) {
		subscribe(&device, "d1", "#");
		assert_false(core_publish(core, &publisher, &m, NULL));
		assert_false(read_check("d1", &m)); /* refused: nobody's to hold back */
		assert_int_equal(COUNTER(refused), i);
	}
	assert_int_equal(policy_lines, 1);
	m.qos = 0;
	assert_true(core_publish(core, &publisher, &m, NULL));
	core_disconnected(core, &publisher, "p", false, false);
	write_check(&publisher, &will, true);
	core_tick(core, true);
	assert_int_equal(COUNTER(wills), 1);
	assert_int_equal(COUNTER(refused), 3);
	disk_fails = false;
	m.qos = 1;
	assert_true(core_publish(core, &publisher, &m, NULL));
	assert_int_equal(policy_lines, 2);
	/* What was refused stays in the journal, and in the books. */
	assert_int_equal(records(JOURNAL_MESSAGE), 11);
	assert_int_equal(BOOKED(IN), 17);
	journal_flush = real;
}

/* How long the shortest of some publishes takes, in milliseconds: now and then the machine itself is slow. */
static uint64_t shortest(struct message *m, int count, bool accepted)
{
	uint64_t least = UINT64_MAX;

	for (int i = 0; i < count; i++) {
		uint64_t began = core_monotonic_ms(), took;
		assert_int_equal(core_publish(core, &publisher, m, NULL), accepted);
		took = core_monotonic_ms() - began;
		if (took < least) least = took;
	}
	return least;
}

/* Nobody is at the address of Redis. */
static void test_redis_not_there(void **state)
{
	struct message m = message("r/a", "x", 0);

	(void)state;
	start_with(RULES "mirror r/# stream r durability=redis\n");
	assert_true(shortest(&m, 5, true) < ASSURANCE_AWAY_MS - 10);
	policy_lines = 0;
	m.qos = 1;
	uint64_t least = shortest(&m, 5, false);
	assert_int_equal(COUNTER(refused), 5);
	assert_true(least >= ASSURANCE_AWAY_MS - 10 && least < ASSURANCE_WAIT_MS); /* short ones */
	assert_int_equal(policy_lines, 1);
	assert_int_equal(BOOKED(IN), 10);
	assert_int_equal(records(JOURNAL_MESSAGE), 10);
	/* The writer confirms. */
	confirm_tell(core->confirm, UINT64_MAX);
	assert_true(core_publish(core, &publisher, &m, NULL));
	assert_int_equal(policy_lines, 2);
}

/* Redis is connected and answers nothing: one long wait, then short ones until it confirms something. */
/* How long a publish waits for a Redis that is there and does not answer. */
static uint64_t wait_of_first(struct message *m)
{
	/* The writer, which has no Redis, says so each time it has tried; just before the publish looks, that counts. */
	for (int tries = 0; tries < 50; tries++) {
		core_tick(core, true);
		report_set(&core->report, redis_ready, 1);
		uint64_t began = core_monotonic_ms();
		assert_false(core_publish(core, &publisher, m, NULL));
		uint64_t took = core_monotonic_ms() - began;
		if (took >= ASSURANCE_WAIT_MS - 10 || report_get(&core->report, redis_ready) != 0) return took;
		confirm_tell(core->confirm, confirm_position(core->confirm) + 1);
	}
	return 0;
}

static void test_redis_hangs(void **state)
{
	struct message m = message("r/a", "x", 1);
	uint64_t first;

	(void)state;
	start_with(RULES "mirror r/# stream r durability=redis\n");
	for (int round = 0; round < 2; round++) {
		first = wait_of_first(&m);
		assert_true(first >= ASSURANCE_WAIT_MS - 10);
		report_set(&core->report, redis_ready, 1);
		assert_true(shortest(&m, 4, false) < ASSURANCE_WAIT_MS - 10);
		confirm_tell(core->confirm, confirm_position(core->confirm) + 1);
	}
}

static unsigned fill(struct message *m, unsigned count)
{
	unsigned accepted = 0;

	for (unsigned i = 0; i < count; i++) accepted += core_publish(core, &publisher, m, NULL);
	return accepted;
}

static void test_drop_new(void **state)
{
	char *payload = calloc(1, 700001);
	struct message m;
	unsigned kept;

	(void)state;
	assert_non_null(payload);
	memset(payload, 'x', 20000);
	start_with(RULES "mirror s/two/# list two\njournal_full drop-new\n");
	m = message("s/two/a", payload, 1);
	policy_lines = 0;
	assert_int_equal(fill(&m, 100), 100);
	kept = records(JOURNAL_MESSAGE);
	assert_true(kept > 40 && kept < 53);
	assert_int_equal(COUNTER(refused), 0);
	assert_int_equal(BOOKED(IN), 200);
	assert_int_equal(BOOKED(DROPPED_full), 2 * (100 - kept));
	assert_int_equal(policy_lines, 1);
	core_tick(core, true);
	assert_int_equal(policy_lines, 1); /* it lasts */
	memset(payload, 'x', 700000);
	m = message("s/a", payload, 2);
	assert_int_equal(fill(&m, 3), 3);
	assert_int_equal(BOOKED(DROPPED_oversize), 3);
	assert_int_equal(policy_lines, 2);
	free(payload);
}

static void test_drop_old(void **state)
{
	char *payload = calloc(1, 20001);
	struct journal_record r;
	struct message m;
	unsigned kept;

	(void)state;
	assert_non_null(payload);
	memset(payload, 'x', 20000);
	start_with(RULES "journal_full drop-old\n");
	subscribe(&device, "d1", "s/#");
	policy_lines = 0;
	for (unsigned i = 0; i < 300; i++) {
		m = message("s/a", payload, 1);
		assert_true(core_publish(core, &publisher, &m, NULL));
		/* The writer makes room, and has released it when it is done. */
		for (int wait = 0; wait < WRITER_MS && journal_used(core->journal) > 880000; wait++) usleep(1000);
	}
	kept = records(JOURNAL_MESSAGE);
	assert_true(kept > 30);
	assert_int_equal(BOOKED(DROPPED_full), 0);
	for (int wait = 0; wait < WRITER_MS && BOOKED(DROPPED_old) + kept != 300; wait++) usleep(1000);
	assert_int_equal(BOOKED(DROPPED_old) + kept, 300);
	assert_int_equal(BOOKED(IN), 300);
	assert_int_equal(records(JOURNAL_BOOT), 1);
	assert_int_equal(records(JOURNAL_SUBSCRIBED), 1);
	r.next = journal_released(core->journal);
	while (journal_next(core->journal, r.next, &r) == ST_OK) {} /* the last of all is the newest */
	assert_int_equal(entry_id_compare(r.id, journal_head_id(core->journal)), 0);
	for (int wait = 0; wait < WRITER_MS && policy_lines == 0; wait++) {
		usleep(1000);
		core_tick(core, true);
	}
	assert_true(policy_lines >= 1);
	free(payload);
}

/* --- subscriptions and read checks ---------------------------------------------------------------------------------- */

static void test_held_from_subscribe(void **state)
{
	char topic[] = "s/a", copy[] = "s/a";
	struct message m, retained;

	(void)state;
	start_with(RULES);
	assert_false(core_busy(core));
	retained = message(copy, "xyz", 1);
	assert_true(core_publish(core, &publisher, &retained, NULL));
	subscribe(&device, "d1", "s/#");
	assert_false(read_check("d1", &retained)); /* sent because it is retained, in the same call stack */
	assert_true(core_busy(core));
	m = message(topic, "xyz", 1);
	assert_true(core_publish(core, &publisher, &m, NULL));
	assert_false(read_check("d2", &m));
	assert_true(read_check("d1", &m));
	assert_true(read_check("d1", &m));
	retained.payload = m.payload;
	assert_false(read_check("d1", &retained)); /* another message */
	core_tick(core, true);
	assert_false(read_check("d1", &m)); /* its deliveries are over */
	m = message("l/a", "xyz", 1);
	assert_true(core_publish(core, &publisher, &m, NULL));
	assert_false(read_check("d1", &m)); /* no rule that redelivery reads */
	core_unsubscribed(core, "d1", "s/#");
	assert_false(core_busy(core));
}

/* The broker has not taken up all that it was handed: the turn goes on, nothing is done that ends it. */
static void test_turn_that_goes_on(void **state)
{
	(void)state;
	start_with(RULES);
	subscribe(&device, "d1", "s/#");
	core_tick(core, false);
	assert_int_equal(core->tick_ms, 0);
	core_tick(core, true);
	assert_int_not_equal(core->tick_ms, 0);
}

/* Where the broker tells of no turn: one that has ended is as good as a tick; while nobody tells, devices do not wait for ever,
 * and the counters are published. */
static void test_turns_not_told(void **state)
{
	struct message m = message("s/a", "x", 0);

	(void)state;
	write_settings(RULES "hold_timeout 100ms\n");
	core = NULL;
	const struct core_broker broker = {&outlet, count_one, others_loaded, certain, NULL};
	const struct setting_override option = {"config", settings_path};
	if (core_start(&broker, &option, 1, &core, why, sizeof why) != ST_OK) fail_msg("%s", why);
	assert_false(core_wants_turn(core));
	subscribe(&device, "d1", "x/#");
	assert_true(core_wants_turn(core)); /* whether it was granted shows then */
	core_turn(core);
	assert_false(core_wants_turn(core));
	core_disconnected(core, &publisher, "p", false, false);
	write_check(&publisher, &m, true);
	assert_true(core_wants_turn(core)); /* it may be a will */
	core_turn(core);
	subscribe(&device, "d1", "s/#");
	core_turn(core);
	assert_true(core_wants_turn(core));
	assert_true(core_withdraws(core, "d1"));
	assert_false(core_withdraws(core, "d2"));
	assert_int_not_equal(core->tick_ms, 0);
	assert_true(statuses > 0);
	assert_true(core_busy(core));
	assert_true(core_publish(core, &publisher, &m, NULL));
	assert_true(read_check("d1", &m));
	uint64_t began = core_monotonic_ms();
	while (core_monotonic_ms() - began < 110) usleep(1000);
	core->status_ms = 0;
	statuses = 0;
	core_meanwhile(core, false);
	assert_true(statuses > 0);
	assert_false(core_busy(core));
	assert_true(core_publish(core, &publisher, &m, NULL));
	assert_false(read_check("d1", &m));
}

static void test_who_is_the_bridge(void **state)
{
	struct buf hello = {0};

	(void)state;
	start_with(RULES);
	assert_false(core_is_bridge(core, "b"));
	control_hello(&hello, 1, slice_str(peer_token(core->peer)));
	assert_true(core_control(core, "b", slice_of(hello.data, hello.len)));
	assert_true(core_is_bridge(core, "b"));
	assert_false(core_is_bridge(core, "c"));
	core_disconnected(core, &other, "b", false, false);
	assert_false(core_is_bridge(core, "b"));
	buf_free(&hello);
}

static void test_qos2_through_core(void **state)
{
	char before[] = "s/a", after[] = "s/a", unmirrored[] = "x/a";
	struct message early, late, m;

	(void)state;
	start_with(RULES);
	early = message(before, "x", 2);
	assert_true(core_publish(core, &publisher, &early, NULL));
	subscribe(&device, "d1", "#");
	late = message(after, "x", 2);
	assert_true(core_publish(core, &publisher, &late, NULL));
	core_tick(core, true);
	assert_true(read_check("d1", &early)); /* whether the bridge brings it is to show */
	assert_true(read_check("d1", &late));
	assert_true(read_check("d1", &late));
	core_tick(core, true);
	assert_false(read_check("d1", &late)); /* the same address later: retained, or another message */
	late = message(after, "x", 2);
	assert_true(core_publish(core, &publisher, &late, NULL));
	core_tick(core, true);
	memcpy(after, "x/a", 3);
	assert_false(read_check("d1", &late));
	m = message(unmirrored, "x", 2);
	assert_true(core_publish(core, &publisher, &m, NULL));
	assert_false(read_check("d1", &m));
}

static void test_doubtful_subscription(void **state)
{
	struct client_info c = info("d1");

	(void)state;
	others = true;
	start_with(RULES);
	core_subscribe_check(core, &device, &c, "s/#", 1, 1); /* had one, has one */
	core_tick(core, true);
	assert_false(core_busy(core));
	core_subscribe_check(core, &device, &c, "s/#", 1, 0);
	core_tick(core, true);
	assert_true(core_busy(core));
	core_disconnected(core, &device, "d1", false, false);
	assert_false(core_busy(core));
	assert_int_equal(records(JOURNAL_SUBSCRIBED), 1);
	assert_int_equal(records(JOURNAL_GONE), 1);
}

/* --- wills ---------------------------------------------------------------------------------------------------------- */

static void test_will_granted(void **state)
{
	struct message will = message("s/will", "gone", 1);

	(void)state;
	start_with(RULES);
	core_disconnected(core, &publisher, "p", false, false);
	write_check(&publisher, &will, true);
	assert_int_equal(COUNTER(wills), 0);
	core_tick(core, true);
	assert_int_equal(COUNTER(wills), 1);
	assert_int_equal(BOOKED(IN), 1);
	core_tick(core, true);
	assert_int_equal(records(JOURNAL_MESSAGE), 1);
	/* The next check of that object is none. */
	write_check(&publisher, &will, true);
	core_tick(core, true);
	assert_int_equal(COUNTER(wills), 1);
}

static void assert_record(uint64_t *position, const char *topic)
{
	struct journal_record r = {.next = *position};
	struct message m;

	while (journal_next(core->journal, r.next, &r) == ST_OK && r.type != JOURNAL_MESSAGE) {}
	assert_int_equal(r.type, JOURNAL_MESSAGE);
	assert_int_equal(message_unpack(slice_of(r.body.data + 4, r.body.len - 4), &m), ST_OK); /* behind one rule number */
	assert_true(slice_equal(m.topic, slice_str(topic)));
	*position = r.next;
}

/* The publish is described before the will ahead of it is journalled. */
static void test_will_before_a_publish(void **state)
{
	struct message will = message("s/will", "gone", 1), next = message("s/next", "here", 1);
	uint64_t position;

	(void)state;
	start_with(RULES);
	assert_false(core_checks_reads(core, 1));
	assert_true(core_checks_reads(core, 2));
	subscribe(&device, "d1", "s/#");
	assert_true(core_checks_reads(core, 1));
	core_disconnected(core, &publisher, "p", false, false);
	write_check(&publisher, &will, true);
	position = journal_head(core->journal);
	*core_message(core) = next;
	assert_true(core_publish(core, &other, core_message(core), NULL));
	assert_true(read_check("d1", &next));
	assert_record(&position, "s/will");
	assert_record(&position, "s/next");
	assert_int_equal(position, journal_head(core->journal));
}

static void test_will_denied(void **state)
{
	struct message will = message("s/will", "gone", 1);

	(void)state;
	start_with(RULES);
	core_disconnected(core, &publisher, "p", false, false);
	write_check(&publisher, &will, false);
	core_write_granted(core, &other);
	core_tick(core, true);
	assert_int_equal(COUNTER(wills), 0);
	assert_int_equal(records(JOURNAL_MESSAGE), 0);
}

static void test_will_proven_by_read_check(void **state)
{
	struct message will = message("s/will", "gone", 1), list = message("l/will", "gone", 1);

	(void)state;
	start_with(RULES);
	subscribe(&device, "d1", "s/#");
	core_disconnected(core, &publisher, "p", false, false);
	write_check(&publisher, &will, false); /* another plugin allowed it: we see it delivered */
	assert_false(read_check("x", &will));
	assert_int_equal(COUNTER(wills), 1);
	assert_true(read_check("d1", &will)); /* held back as any other */
	core_tick(core, true);
	assert_int_equal(records(JOURNAL_MESSAGE), 1);
	/* Only a list of payloads: nothing to hold, and mirrored once for all its subscribers. */
	core_disconnected(core, &publisher, "p", false, false);
	write_check(&publisher, &list, true);
	for (int i = 0; i < 5; i++) assert_false(read_check("d1", &list));
	core_write_granted(core, &publisher);
	core_tick(core, true);
	assert_int_equal(COUNTER(wills), 2);
	assert_int_equal(records(JOURNAL_MESSAGE), 2);
}

static void test_publish_at_a_departed_address(void **state)
{
	struct message m = message("s/a", "x", 1);

	(void)state;
	start_with(RULES);
	core_disconnected(core, &publisher, "p", true, false);
	write_check(&publisher, &m, true); /* a new client there, whose first packet is a publish */
	assert_true(core_publish(core, &publisher, &m, NULL));
	core_tick(core, true);
	assert_int_equal(COUNTER(wills), 0);
	assert_int_equal(BOOKED(IN), 1);
	write_check(&publisher, &m, true);
	core_tick(core, true);
	assert_int_equal(COUNTER(wills), 0);
}

static void test_delayed_will(void **state)
{
	struct message m = message("s/a", "x", 1), will = message("s/will", "gone", 1);

	(void)state;
	start_with(RULES);
	core_disconnected(core, &publisher, "p", true, true);
	write_check(&other, &m, true);
	assert_true(core_publish(core, &other, &m, NULL));
	core_tick(core, true);
	write_check(&publisher, &will, true);
	assert_true(core_publish(core, &other, &m, NULL)); /* the next event, of another client, settles it */
	assert_int_equal(COUNTER(wills), 1);
	assert_int_equal(BOOKED(IN), 3);
}

static void test_will_by_acl_file(void **state)
{
	struct message will = message("s/will", "gone", 1), secret = message("s/secret", "gone", 1);
	char text[512];

	(void)state;
	write_file(acl_path, "topic write s/will\ntopic read s/#\n");
	snprintf(text, sizeof text, "%sacl_file %s\n", RULES, acl_path);
	start_with(text);
	core_disconnected(core, &publisher, "p", false, false);
	write_check(&publisher, &will, false);
	core_disconnected(core, &other, "p", false, false);
	write_check(&other, &secret, false);
	core_tick(core, true);
	assert_int_equal(COUNTER(wills), 1);
}

static void test_will_on_brokers_with_events(void **state)
{
	struct message will = message("s/will", "gone", 1);

	(void)state;
	certain = true;
	start_with(RULES);
	core_disconnected(core, &publisher, "p", false, false);
	write_check(&publisher, &will, false);
	core_tick(core, true);
	assert_int_equal(COUNTER(wills), 1);
	others = true; /* which may deny it: not without a proof */
	core_disconnected(core, &publisher, "p", false, false);
	write_check(&publisher, &will, false);
	core_tick(core, true);
	assert_int_equal(COUNTER(wills), 1);
}

static void test_will_when_full(void **state)
{
	char *payload = calloc(1, 60001);
	struct message will;

	(void)state;
	assert_non_null(payload);
	memset(payload, 'x', 60000);
	start_with(RULES);
	will = message("s/a", payload, 1);
	while (core_publish(core, &publisher, &will, NULL)) {}
	core_disconnected(core, &publisher, "p", false, false);
	write_check(&publisher, &will, true);
	for (int i = 0; i < 4; i++) assert_false(read_check("d1", &will));
	core_tick(core, true);
	assert_int_equal(COUNTER(wills), 0);
	assert_int_equal(COUNTER(refused), 2);
	free(payload);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_start_failures), CASE(test_locked_journal), CASE(test_reload), CASE(test_counts), CASE(test_full),
		CASE(test_oversize), CASE(test_held_from_subscribe), CASE(test_turn_that_goes_on), CASE(test_turns_not_told),
		CASE(test_who_is_the_bridge),
		CASE(test_qos2_through_core), CASE(test_doubtful_subscription),
		CASE(test_will_granted), CASE(test_will_denied), CASE(test_will_proven_by_read_check),
		CASE(test_will_before_a_publish),
		CASE(test_publish_at_a_departed_address), CASE(test_delayed_will), CASE(test_will_by_acl_file),
		CASE(test_will_on_brokers_with_events), CASE(test_will_when_full), CASE(test_fsync), CASE(test_redis_not_there),
		CASE(test_redis_hangs), CASE(test_drop_new), CASE(test_drop_old),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
