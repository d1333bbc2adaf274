/*
 * The writer thread with a journal and a real Redis: every message exactly once and in order, through absence, kills,
 * cuts, standstill, refusals and a killed process of its own.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "config/message.h"
#include "config/redis_link.h"
#include "plugin/session_event.h"
#include "plugin/writer.h"
#include "tests/harness/proxy.h"
#include "tests/harness/store.h"

#define LIMIT_MS 60000
#define DURABLE "appendonly yes\nappendfsync always\n"
#define RULE_STREAM_TEXT "t/# stream s:%t"
#define RULE_JSON_TEXT "t/# list l:%t"
#define RULE_RAW_TEXT "t/# list raw format=raw"

/* One run of the plugin's inner part. */
struct run {
	struct scene *scene;
	struct settings *settings;
	struct journal *journal;
	struct report report;
	struct writer *writer;
	uint16_t rules[3];
	struct entry_id boot;
	char log[65536];
	struct log_sink sink;
	unsigned sent; /* messages; the payload is the number */
	unsigned wakes; /* commits that had to wake the writer */
};

static void log_line(void *ctx, enum log_level level, const char *line)
{
	struct run *r = ctx;
	size_t len = strlen(r->log);
	fprintf(stderr, "    %d %s\n", (int)level, line);
	snprintf(r->log + len, sizeof(r->log) - len, "%s\n", line);
}

static void drain_log(struct run *r)
{
	report_drain(&r->report, &r->sink);
}

static bool logged(struct run *r, const char *text)
{
	drain_log(r);
	return strstr(r->log, text) != NULL;
}

static bool commit(struct run *r, enum journal_type type, const struct buf *body, struct entry_id *id)
{
	bool wake = false;
	char *to = journal_reserve(r->journal, type, body->len);
	if (!to) return false;
	memcpy(to, body->data, body->len);
	*id = journal_commit(r->journal, body->len, &wake);
	r->wakes += wake;
	if (wake && r->writer) writer_wake(r->writer);
	return true;
}

static struct entry_id put_event(struct run *r, enum journal_type type, const struct session_event *e)
{
	struct buf body = {0};
	struct entry_id id = ENTRY_ID_ZERO;
	session_event_pack(&body, e);
	scene_require(commit(r, type, &body, &id), "no room in the journal");
	buf_free(&body);
	return id;
}

/* Opens the journal (creating it), writes BOOT, starts the writer. */
static void run_begin(struct run *r, struct scene *scene, const char *url)
{
	struct setting_override o[] = {{"redis_url", url}, {"prefix", "p"}, {"node", "n"}};
	struct journal_report found;
	char why[1024];
	memset(r, 0, sizeof(*r));
	r->scene = scene;
	r->sink = (struct log_sink){log_line, r};
	scene_require(settings_load(NULL, o, 3, &r->sink, &r->settings, why, sizeof(why)) == ST_OK, "%s", why);
	r->log[0] = '\0';
	const char *path = scene_path(scene, "journal");
	scene_require(journal_open(path, 4u << 20, "n", &r->journal, &found, why, sizeof(why)) == ST_OK, "%s", why);
	scene_require(report_init(&r->report) == ST_OK, "report");
	const char *texts[] = {RULE_STREAM_TEXT, RULE_JSON_TEXT, RULE_RAW_TEXT};
	for (int i = 0; i < 3; i++) {
		scene_require(journal_rule(r->journal, texts[i], &r->rules[i]) == ST_OK, "rule");
	}
	struct session_event boot = {.previous_boot = found.previous_boot, .previous_last = found.last};
	r->boot = put_event(r, JOURNAL_BOOT, &boot);
	journal_boot_set(r->journal, r->boot);
	scene_require(writer_start(r->settings, r->journal, &r->report, NULL, "secret token", &r->writer) == ST_OK, "writer");
}

static void run_end(struct run *r, unsigned drain_ms)
{
	writer_stop(r->writer, drain_ms);
	r->writer = NULL;
	drain_log(r);
	assert_null(strstr(r->log, "left open"));
	report_fini(&r->report);
	journal_close(r->journal);
	settings_free(r->settings);
}

static bool put_message(struct run *r, const char *topic)
{
	char payload[16];
	struct buf body = {0};
	struct entry_id id;
	int len = snprintf(payload, sizeof(payload), "%u", r->sent);
	struct message m = {.topic = slice_str(topic), .payload = slice_of(payload, (size_t)len), .client = slice_str("c"),
		.qos = 1, .payload_format = -1};
	buf_u16(&body, 3);
	for (int i = 0; i < 3; i++) {
		buf_u16(&body, r->rules[i]);
	}
	size_t size = message_packed_size(&m);
	char *to = buf_reserve(&body, size);
	message_pack(&m, to);
	body.len += size;
	bool taken = commit(r, JOURNAL_MESSAGE, &body, &id);
	buf_free(&body);
	if (!taken) return false;
	for (int i = 0; i < 3; i++) {
		books_add(r->report.books, r->rules[i], BOOKS_IN);
	}
	r->sent++;
	return true;
}

static void put_messages(struct run *r, const char *topic, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		wait_until(put_message(r, topic), LIMIT_MS, "room in the journal");
	}
}

static bool all_done(struct run *r)
{
	drain_log(r);
	return journal_used(r->journal) == 0;
}

static void wait_done(struct run *r)
{
	wait_until(all_done(r), LIMIT_MS, "empty journal");
}

/* Stream, json list and raw list of topic t/x hold 0..count-1, each once, in order. */
static void check_exactly(redisContext *db, unsigned count)
{
	char expected[32];
	char before[64] = "0-0";
	const redisReply *stream = stored_stream(db, "s:t/x");
	assert_int_equal(stream->elements, count);
	for (unsigned i = 0; i < count; i++) {
		snprintf(expected, sizeof(expected), "%u", i);
		assert_string_equal(stored_field(stream->element[i], "payload")->str, expected);
		assert_true(stored_before(before, stored_id(stream->element[i])));
		snprintf(before, sizeof(before), "%s", stored_id(stream->element[i]));
	}
	const redisReply *raw = store_query(db, "LRANGE", "raw", "0", "-1", NULL);
	assert_int_equal(raw->elements, count);
	for (unsigned i = 0; i < count; i++) {
		snprintf(expected, sizeof(expected), "%u", i);
		assert_string_equal(raw->element[count - 1 - i]->str, expected);
	}
	const redisReply *json = store_query(db, "LRANGE", "l:t/x", "0", "-1", NULL);
	assert_int_equal(json->elements, count);
	for (unsigned i = 0; i < count; i++) {
		snprintf(expected, sizeof(expected), "\"payload\":\"%u\"", i);
		assert_non_null(strstr(json->element[count - 1 - i]->str, expected));
	}
}

static void check_books(struct run *r, uint64_t dead)
{
	const struct books *b = r->report.books;
	assert_int_equal(books_total(b, BOOKS_IN),
		books_total(b, BOOKS_STORED) + books_total(b, BOOKS_DEAD) + books_total(b, BOOKS_DROPPED_damaged));
	assert_int_equal(books_total(b, BOOKS_DEAD), dead);
}

static const char *tcp_url(struct scene *s, uint16_t port)
{
	return scene_text(s, "redis://127.0.0.1:%u/0", port);
}

/* --- tests ---------------------------------------------------------------------------------------------------- */

static bool status_written(redisContext *db, const char *field, const char *value)
{
	const redisReply *reply = store_query(db, "HGET", "p:status:n", field, NULL);
	return reply->str && strcmp(reply->str, value) == 0;
}

static void the_usual(void **state)
{
	struct scene *scene = *state;
	struct server *redis = redis_new(scene, "redis", DURABLE);
	struct run *r = calloc(1, sizeof(*r));
	server_start(redis);
	redisContext *db = store_open(redis);
	run_begin(r, scene, scene_text(scene, "unix://%s", server_socket(redis)));
	put_messages(r, "t/x", 5000);
	wait_done(r);
	check_exactly(db, 5000);
	check_books(r, 0);
	assert_int_equal(report_get(&r->report, redis_ready), 1);
	assert_string_equal(store_query(db, "GET", "p:token:n", NULL)->str, "secret token");
	wait_until(status_written(db, "stored", "15000"), LIMIT_MS, "status hash");
	assert_true(status_written(db, "queued", "0"));
	assert_true(status_written(db, "version", MQR_VERSION));
	assert_int_equal(store_query(db, "ZRANGE", "p:index", "0", "-1", NULL)->elements, 2);
	/* A single message in the quiet arrives by itself. */
	put_messages(r, "t/x", 1);
	wait_done(r);
	check_exactly(db, 5001);
	/* What is in the journal when the end comes is drained, and the last counters are there. */
	put_messages(r, "t/x", 999);
	run_end(r, LIMIT_MS);
	check_exactly(db, 6000);
	assert_true(status_written(db, "stored", "18000"));
	free(r);
	scene_end(scene);
}

static uint64_t now_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* While messages keep coming, the broker need not wake the writer, and transactions are a millisecond apart at least. Only
 * where this thread itself made a pause, the writer may have slept. */
static void what_keeps_coming_is_gathered(void **state)
{
	struct scene *scene = *state;
	struct server *redis = redis_new(scene, "redis", NULL);
	struct run *r = calloc(1, sizeof(*r));
	unsigned pauses = 0;
	server_start(redis);
	redisContext *db = store_open(redis);
	run_begin(r, scene, scene_text(scene, "unix://%s", server_socket(redis)));
	put_messages(r, "t/x", 1);
	wait_done(r);
	uint64_t batches = report_get(&r->report, batches), began = now_us(), last = began;
	r->wakes = 0;
	for (unsigned i = 0; i < 2000; i++) {
		while (now_us() - last < 100) {}
		put_messages(r, "t/x", 1);
		uint64_t now = now_us();
		pauses += now - last > 900;
		last = now;
	}
	wait_done(r);
	batches = report_get(&r->report, batches) - batches;
	scene_require(r->wakes <= pauses + 1, "%u wakes, %u pauses", r->wakes, pauses);
	uint64_t most = (now_us() - began) / 1000 + 2000 / 64 + r->wakes + 2;
	scene_require(batches <= most, "%ju transactions, at most %ju are right", (uintmax_t)batches, (uintmax_t)most);
	check_exactly(db, 2001);
	run_end(r, 5000);
	free(r);
	scene_end(scene);
}

static void warnings(void **state)
{
	struct scene *scene = *state;
	struct server *redis = redis_new(scene, "redis", "appendonly no\nmaxmemory-policy allkeys-lru\n");
	struct run *r = calloc(1, sizeof(*r));
	server_start(redis);
	run_begin(r, scene, tcp_url(scene, server_port(redis)));
	wait_until(logged(r, "appendonly is off") && logged(r, "maxmemory-policy is allkeys-lru"), LIMIT_MS, "warnings");
	run_end(r, 1000);
	free(r);
	scene_end(scene);
}

static void absent_at_start(void **state)
{
	struct scene *scene = *state;
	struct server *redis = redis_new(scene, "redis", DURABLE);
	struct run *r = calloc(1, sizeof(*r));
	run_begin(r, scene, tcp_url(scene, server_port(redis)));
	put_messages(r, "t/x", 1000);
	/* Ended without Redis: at once, and nothing is lost. */
	run_end(r, 5000);
	run_begin(r, scene, tcp_url(scene, server_port(redis)));
	assert_int_equal(report_get(&r->report, recovered), 3000);
	r->sent = 1000;
	put_messages(r, "t/x", 500);
	server_start(redis);
	redisContext *db = store_open(redis);
	wait_done(r);
	check_exactly(db, 1500);
	check_books(r, 0);
	run_end(r, 1000);
	free(r);
	scene_end(scene);
}

static void killed_under_load(void **state)
{
	struct scene *scene = *state;
	struct server *redis = redis_new(scene, "redis", DURABLE);
	struct run *r = calloc(1, sizeof(*r));
	server_start(redis);
	redisContext *db = store_open(redis);
	run_begin(r, scene, tcp_url(scene, server_port(redis)));
	wait_until(logged(r, "connected"), LIMIT_MS, "a connection");
	r->log[0] = '\0';
	for (int i = 0; i < 8; i++) {
		put_messages(r, "t/x", 700 + (unsigned)i * 333);
		server_kill(redis);
		put_messages(r, "t/x", 100);
		server_start(redis);
		store_reopen(db);
		store_forget_torn(db);
		wait_until(logged(r, "connected"), LIMIT_MS, "a new connection");
		r->log[0] = '\0';
	}
	wait_done(r);
	store_reopen(db);
	check_exactly(db, r->sent);
	check_books(r, 0);
	assert_true(report_get(&r->report, reconnects) >= 8);
	run_end(r, 1000);
	free(r);
	scene_end(scene);
}

static void cut_at_random(void **state)
{
	struct scene *scene = *state;
	struct server *redis = redis_new(scene, "redis", "");
	struct run *r = calloc(1, sizeof(*r));
	server_start(redis);
	redisContext *db = store_open(redis);
	struct proxy *proxy = proxy_start(scene, server_port(redis), 20260101);
	printf("seed 20260101\n");
	run_begin(r, scene, tcp_url(scene, proxy_port(proxy)));
	proxy_faults(proxy, 8);
	uint64_t end = now_ms() + 90000, limit = end + 90000;
	while (proxy_cuts(proxy) < (now_ms() < end ? 400u : 200u)) { /* on a slow machine not as many */
		scene_require(now_ms() < limit, "only %u cuts", proxy_cuts(proxy));
		put_messages(r, "t/x", 1 + r->sent % 10);
		poll_pause();
		drain_log(r);
	}
	unsigned cuts = proxy_cuts(proxy);
	proxy_faults(proxy, 0);
	wait_done(r);
	printf("%u cuts, %u messages, %llu sent again\n", cuts, r->sent,
		(unsigned long long)report_get(&r->report, retries));
	check_exactly(db, r->sent);
	check_books(r, 0);
	run_end(r, 1000);
	free(r);
	scene_end(scene);
}

static void stopped_for_longer_than_the_deadline(void **state)
{
	struct scene *scene = *state;
	struct server *redis = redis_new(scene, "redis", DURABLE);
	struct run *r = calloc(1, sizeof(*r));
	server_start(redis);
	redisContext *db = store_open(redis);
	run_begin(r, scene, tcp_url(scene, server_port(redis)));
	for (int i = 0; i < 2; i++) {
		put_messages(r, "t/x", 2000);
		server_pause(redis);
		put_messages(r, "t/x", 1000);
		wait_until(logged(r, "no reply"), LIMIT_MS, "the deadline");
		r->log[0] = '\0';
		put_messages(r, "t/x", 10);
		server_continue(redis);
		wait_done(r);
		check_exactly(db, r->sent);
	}
	check_books(r, 0);
	run_end(r, 1000);
	free(r);
	scene_end(scene);
}

static void refusals(void **state)
{
	struct scene *scene = *state;
	struct server *redis = redis_new(scene, "redis", DURABLE);
	struct run *r = calloc(1, sizeof(*r));
	server_start(redis);
	redisContext *db = store_open(redis);
	run_begin(r, scene, tcp_url(scene, server_port(redis)));
	put_messages(r, "t/x", 100);
	wait_done(r);

	store_query(db, "CONFIG", "SET", "maxmemory", "1", NULL);
	put_messages(r, "t/x", 1000);
	wait_until(logged(r, "OOM"), LIMIT_MS, "OOM in the log");
	check_exactly(db, 100);
	store_query(db, "CONFIG", "SET", "maxmemory", "0", NULL);
	wait_done(r);
	check_exactly(db, 1100);
	assert_true(logged(r, "takes writes again"));

	store_query(db, "REPLICAOF", "127.0.0.1", "1", NULL);
	put_messages(r, "t/x", 1000);
	wait_until(logged(r, "READONLY"), LIMIT_MS, "READONLY in the log");
	store_query(db, "REPLICAOF", "NO", "ONE", NULL);
	wait_done(r);
	check_exactly(db, 2100);

	store_query(db, "CONFIG", "SET", "min-replicas-to-write", "1", NULL);
	put_messages(r, "t/x", 10);
	wait_until(logged(r, "NOREPLICAS"), LIMIT_MS, "NOREPLICAS in the log");
	store_query(db, "CONFIG", "SET", "min-replicas-to-write", "0", NULL);
	wait_done(r);

	/* A user who may not use MULTI must not have his commands carried out one by one, again and again. */
	store_query(db, "ACL", "SETUSER", "default", "-multi", NULL);
	put_messages(r, "t/x", 500);
	wait_until(logged(r, "NOPERM"), LIMIT_MS, "NOPERM in the log");
	store_query(db, "ACL", "SETUSER", "default", "+@all", NULL);
	wait_done(r);
	/* Where the connection was lost meanwhile, on a very slow machine, some may have been, and came again. */
	if (!logged(r, "no reply")) {
		check_exactly(db, 2610);
		check_books(r, 0);
	}
	run_end(r, 1000);
	free(r);
	scene_end(scene);
}

static void wrong_type(void **state)
{
	struct scene *scene = *state;
	struct server *redis = redis_new(scene, "redis", DURABLE);
	struct run *r = calloc(1, sizeof(*r));
	server_start(redis);
	redisContext *db = store_open(redis);
	struct proxy *proxy = proxy_start(scene, server_port(redis), 7);
	printf("seed 7\n");
	store_query(db, "SET", "s:t/bad", "x", NULL);
	store_query(db, "SET", "l:t/bad", "x", NULL);
	run_begin(r, scene, tcp_url(scene, proxy_port(proxy)));
	put_messages(r, "t/x", 1);
	put_messages(r, "t/bad", 1);
	put_messages(r, "t/x", 1);
	wait_done(r);
	assert_int_equal(store_stream_len(db, "s:t/x"), 2);
	assert_int_equal(store_list_len(db, "l:t/x"), 2);
	assert_int_equal(store_list_len(db, "raw"), 3);
	const redisReply *dead = stored_stream(db, "p:dead");
	assert_int_equal(dead->elements, 2);
	stored_expect(dead->element[0], "error", "*", "source", RULE_STREAM_TEXT, "key", "s:t/bad", "id", "*", "topic",
		"t/bad", "payload", "1", "qos", "1", "retain", "0", "client", "c", NULL);
	stored_expect(dead->element[1], "error", "*", "source", RULE_JSON_TEXT, "key", "l:t/bad", "id", "*", "topic",
		"t/bad", "payload", "1", "qos", "1", "retain", "0", "client", "c", NULL);
	check_books(r, 2);
	/* With cuts: still a letter for each, once. */
	proxy_faults(proxy, 10);
	unsigned before = r->sent;
	uint64_t limit = now_ms() + 60000;
	while (proxy_cuts(proxy) < 150 && now_ms() < limit) {
		put_messages(r, "t/bad", 1);
		put_messages(r, "t/x", 1);
		poll_pause();
		drain_log(r);
	}
	proxy_faults(proxy, 0);
	wait_done(r);
	unsigned bad = (r->sent - before) / 2;
	printf("%u cuts, %u bad messages\n", proxy_cuts(proxy), bad);
	check_books(r, 2 + 2 * (uint64_t)bad);
	assert_int_equal(store_stream_len(db, "p:dead"), 2 + 2 * bad);
	assert_int_equal(store_stream_len(db, "s:t/x"), 2 + bad);
	assert_int_equal(store_list_len(db, "raw"), r->sent);
	run_end(r, 1000);
	free(r);
	scene_end(scene);
}

/* A child is the broker: it is killed at any moment, and what it had committed must be there once, in order. */
static void own_process_killed(void **state)
{
	struct scene *scene = *state;
	struct server *redis = redis_new(scene, "redis", "");
	struct run *r = calloc(1, sizeof(*r));
	unsigned *committed = mmap(NULL, sizeof(*committed), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(committed != MAP_FAILED);
	server_start(redis);
	redisContext *db = store_open(redis);
	const char *url = tcp_url(scene, server_port(redis));
	*committed = 0;
	for (unsigned turn = 0; turn < 25; turn++) {
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			run_begin(r, scene, url);
			for (r->sent = *committed; ; ) {
				if (put_message(r, "t/x")) *committed = r->sent;
				if (r->sent % 64 == 0) usleep(200);
			}
		}
		unsigned before = *committed;
		wait_until(*committed > before + turn * 50, LIMIT_MS, "the child's messages");
		kill(pid, SIGKILL);
		int status;
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	}
	run_begin(r, scene, url);
	wait_done(r);
	/* One more may have been committed than the child could tell at each kill: its number came again. */
	const redisReply *raw = store_query(db, "LRANGE", "raw", "0", "-1", NULL);
	unsigned next = 0, twice = 0;
	for (size_t i = raw->elements; i > 0; i--) {
		unsigned number = (unsigned)strtoul(raw->element[i - 1]->str, NULL, 10);
		if (number + 1 == next) {
			twice++;
			continue;
		}
		assert_int_equal(number, next);
		next++;
	}
	assert_true(next == *committed || next == *committed + 1);
	assert_true(twice <= 25);
	size_t elements = raw->elements;
	assert_int_equal(store_stream_len(db, "s:t/x"), elements);
	assert_int_equal(store_list_len(db, "l:t/x"), elements);
	printf("%u messages over 25 kills, %u told twice by the child\n", next, twice);
	run_end(r, 1000);
	munmap(committed, sizeof(*committed));
	free(r);
	scene_end(scene);
}

/* Redis forgets what it had confirmed: told, and nothing stops. */
static void flushed(void **state)
{
	struct scene *scene = *state;
	struct server *redis = redis_new(scene, "redis", "");
	struct run *r = calloc(1, sizeof(*r));
	server_start(redis);
	redisContext *db = store_open(redis);
	run_begin(r, scene, tcp_url(scene, server_port(redis)));
	put_messages(r, "t/x", 100);
	wait_done(r);
	server_kill(redis);
	server_start(redis); /* no AOF: empty */
	store_reopen(db);
	put_messages(r, "t/x", 50);
	wait_done(r);
	assert_true(logged(r, "lost writes"));
	assert_int_equal(store_stream_len(db, "s:t/x"), 50);
	run_end(r, 1000);
	free(r);
	scene_end(scene);
}

static const char *session_field(redisContext *db, const char *field)
{
	const redisReply *reply = store_query(db, "HGET", "p:session:dev", field, NULL);
	return reply->str ? reply->str : "(none)";
}

static const char *id_text(struct scene *s, struct entry_id id)
{
	char text[ENTRY_ID_TEXT_MAX];
	(void)entry_id_format(id, text);
	return scene_text(s, "%s", text);
}

/* `generation`: zero for the connection's first subscription, which gives it. */
static void subscribe(struct run *r, const char *filter, enum grant_new policy, uint64_t overlap_ms, struct entry_id *generation)
{
	struct session_event e = {.client = slice_str("dev"), .filter = slice_str(filter), .qos = 1, .generation = *generation,
		.overlap_ms = overlap_ms, .initial = {policy, 5, 0}};
	struct entry_id id = put_event(r, JOURNAL_SUBSCRIBED, &e);

	if (entry_id_is_zero(*generation)) *generation = id;
}

static void go_live(struct run *r, struct entry_id generation)
{
	struct session_event e = {.client = slice_str("dev"), .generation = generation};
	(void)put_event(r, JOURNAL_LIVE, &e);
}

struct crash {
	struct scene *scene;
	struct run *r;
	redisContext *db;
	const char *url;
};

/* A run that ends with its device live, and no GONE, as by a crash. Returns its last id. */
static struct entry_id live_to_the_end(struct crash *c)
{
	struct entry_id generation = {0};

	run_begin(c->r, c->scene, c->url);
	subscribe(c->r, "all", NEW_ALL, 0, &generation);
	subscribe(c->r, "last", NEW_LAST, 0, &generation);
	go_live(c->r, generation);
	put_messages(c->r, "t/x", 100);
	struct entry_id last = journal_head_id(c->r->journal);
	wait_done(c->r);
	assert_string_equal(session_field(c->db, "live@n"), id_text(c->scene, c->r->boot));
	assert_string_equal(session_field(c->db, "f@n all"), "0-0");
	assert_string_equal(session_field(c->db, "s@n all"), scene_text(c->scene, "0-0 %s", id_text(c->scene, generation)));
	store_query(c->db, "HSET", "p:session:dev", "f@n ahead", "99999999999999-1", "s@n ahead",
		scene_text(c->scene, "1-0 %s", id_text(c->scene, generation)), NULL);
	/* Of an earlier connection: this one did not have it, and so nothing of it. */
	store_query(c->db, "HSET", "p:session:dev", "f@n absent", "7-7", "s@n absent", "7-0 7-0", NULL);
	run_end(c->r, 1000);
	return last;
}

/* In the next run they stand at the end of that one, `last`. It ends with the device live, too; returns its last id. */
static struct entry_id cursors_move_up(struct crash *c, struct entry_id last)
{
	struct entry_id generation = ENTRY_ID_ZERO;

	run_begin(c->r, c->scene, c->url);
	subscribe(c->r, "all", NEW_NONE, 1000, &generation);
	wait_done(c->r);
	assert_string_equal(session_field(c->db, "s@n all"), scene_text(c->scene, "0-0 %s", id_text(c->scene, generation)));
	assert_string_equal(session_field(c->db, "f@n absent"), "7-7");
	assert_string_equal(session_field(c->db, "live_of@n"), "(none)");
	assert_string_equal(session_field(c->db, "f@n all"), id_text(c->scene, last));
	assert_non_null(strstr(session_field(c->db, "f@n last"), "last=5@"));
	assert_string_equal(session_field(c->db, "f@n ahead"), "99999999999999-1");
	assert_string_equal(session_field(c->db, "live@n"), "(none)");
	assert_string_equal(session_field(c->db, "overlap"), "1000");
	go_live(c->r, generation);
	put_messages(c->r, "t/x", 100);
	wait_done(c->r);
	/* In the same run nothing moves. */
	subscribe(c->r, "new", NEW_NONE, 1000, &generation);
	wait_done(c->r);
	struct entry_id head = journal_head_id(c->r->journal);
	assert_string_equal(session_field(c->db, "f@n new"), id_text(c->scene, head));
	assert_string_equal(session_field(c->db, "live@n"), id_text(c->scene, c->r->boot));
	run_end(c->r, 1000);
	return head;
}

/* With an overlap: the whole milliseconds before the end of that run, which its last record, `head`, ended. Goes on running. */
static void cursors_stay_behind_by_the_overlap(struct crash *c, struct entry_id head)
{
	struct entry_id generation = ENTRY_ID_ZERO;

	store_query(c->db, "HSET", "p:session:dev", "f@n all", "5-5", "live_at@n", "1-0", NULL);
	run_begin(c->r, c->scene, c->url);
	subscribe(c->r, "all", NEW_NONE, 1000, &generation);
	wait_done(c->r);
	assert_string_equal(session_field(c->db, "f@n all"), id_text(c->scene, entry_id_back(head, 1000)));
	assert_string_equal(session_field(c->db, "f@n new"), id_text(c->scene, head));
}

/* What was written before nodes had cursors of their own counts at the next SUBSCRIBE: it was live until then. In the next run, which
 * goes on. */
static void older_fields_move_up(struct crash *c)
{
	struct entry_id generation = ENTRY_ID_ZERO, head;

	store_query(c->db, "HSET", "p:session:dev", "f:old", "5-5", "live", id_text(c->scene, c->r->boot), "live_at", "1-0", "here", "1-0", NULL);
	store_query(c->db, "HDEL", "p:session:dev", "live@n", NULL);
	head = journal_head_id(c->r->journal);
	run_end(c->r, 1000);
	run_begin(c->r, c->scene, c->url);
	subscribe(c->r, "old", NEW_NONE, 1000, &generation);
	wait_done(c->r);
	assert_string_equal(session_field(c->db, "f@n old"), id_text(c->scene, entry_id_back(head, 1000)));
	assert_string_equal(session_field(c->db, "live"), "(none)");
	assert_string_equal(session_field(c->db, "here"), "(none)");
}

/* Told again, it gets a generation and no cursor; what came through it before is not forgotten, either. */
static void told_again_keeps_what_came(struct crash *c)
{
	struct session_event told = {.client = slice_str("dev"), .filter = slice_str("all"), .generation = {9, 9}, .again = true};

	(void)put_event(c->r, JOURNAL_SUBSCRIBED, &told);
	told.filter = slice_str("none");
	(void)put_event(c->r, JOURNAL_SUBSCRIBED, &told);
	wait_done(c->r);
	assert_string_equal(session_field(c->db, "s@n all"), "0-0 9-9");
	assert_string_equal(session_field(c->db, "s@n none"), "(none)");
	told = (struct session_event){.client = slice_str("dev"), .filter = slice_str("all"), .generation = {9, 10}, .broker_queued = true};
	(void)put_event(c->r, JOURNAL_SUBSCRIBED, &told);
	wait_done(c->r);
	assert_string_equal(session_field(c->db, "s@n all"), "0-0 9-10");
}

/* But behind a connection in which the broker went on with it by itself, nobody knows what came. */
static void unknown_behind_the_broker(struct crash *c)
{
	struct buf packed = {0};

	session_cursor_pack(&packed, slice_str("all"), ENTRY_ID_MAX);
	struct session_event gone = {.client = slice_str("dev"), .behind_count = 1, .behind = slice_of(packed.data, packed.len)};
	(void)put_event(c->r, JOURNAL_GONE, &gone);
	wait_done(c->r);
	buf_free(&packed);
	assert_string_equal(session_field(c->db, "s@n all"), scene_text(c->scene, "%s 9-10", session_field(c->db, "f@n all")));
	assert_int_equal(store_integer(c->db, "ZCARD", "p:sessions", NULL), 1);
}

/* The device was live when the broker died: its cursors move up to the end of that run, less the overlap. */
static void crash_of_the_broker(void **state)
{
	struct scene *scene = *state;
	struct server *redis = redis_new(scene, "redis", "");
	struct crash c = {.scene = scene, .r = calloc(1, sizeof(*c.r))};

	server_start(redis);
	c.db = store_open(redis);
	c.url = tcp_url(scene, server_port(redis));
	struct entry_id last = live_to_the_end(&c), head = cursors_move_up(&c, last);
	cursors_stay_behind_by_the_overlap(&c, head);
	older_fields_move_up(&c);
	told_again_keeps_what_came(&c);
	unknown_behind_the_broker(&c);
	run_end(c.r, 1000);
	free(c.r);
	scene_end(scene);
}

static void stop_while_redis_stands_still(void **state)
{
	struct scene *scene = *state;
	struct server *redis = redis_new(scene, "redis", DURABLE);
	struct run *r = calloc(1, sizeof(*r));
	server_start(redis);
	redisContext *db = store_open(redis);
	const char *url = tcp_url(scene, server_port(redis));
	run_begin(r, scene, url);
	put_messages(r, "t/x", 10);
	wait_done(r);
	server_pause(redis);
	uint64_t paused = now_ms();
	put_messages(r, "t/x", 300);
	bool soon = now_ms() < paused + REDIS_LINK_TIMEOUT_MS / 2;
	run_end(r, 500); /* and not when the link gives up */
	if (soon) assert_null(strstr(r->log, "no reply"));
	server_continue(redis);
	run_begin(r, scene, url);
	r->sent = 310;
	put_messages(r, "t/x", 10);
	wait_done(r);
	check_exactly(db, 320);
	run_end(r, 0);
	free(r);
	scene_end(scene);
}

struct killer {
	struct server *redis;
	uint64_t at;
};

static void *kill_in_a_moment(void *ctx)
{
	const struct timespec moment = {0, 300000000};
	struct killer *k = ctx;

	(void)nanosleep(&moment, NULL); /* the writer is stopping then, and waits for an answer for seconds */
	server_kill(k->redis); /* the test's own thread waits for the writer meanwhile */
	k->at = now_ms();
	return NULL;
}

/* Nobody is left to drain to: it ends at once, and what was under way is sent by the next one, once. */
static void redis_dies_while_it_stops(void **state)
{
	struct scene *scene = *state;
	struct server *redis = redis_new(scene, "redis", DURABLE);
	struct run *r = calloc(1, sizeof(*r));
	struct killer killer = {.redis = redis};
	pthread_t thread;
	server_start(redis);
	const char *url = tcp_url(scene, server_port(redis));
	run_begin(r, scene, url);
	put_messages(r, "t/x", 10);
	wait_done(r);
	server_pause(redis);
	uint64_t paused = now_ms();
	put_messages(r, "t/x", 300);
	assert_int_equal(pthread_create(&thread, NULL, kill_in_a_moment, &killer), 0);
	run_end(r, LIMIT_MS);
	assert_int_equal(pthread_join(thread, NULL), 0);
	/* It was the end of the connection, not the want of a reply. */
	if (killer.at < paused + REDIS_LINK_TIMEOUT_MS / 2) assert_null(strstr(r->log, "no reply"));
	server_start(redis);
	redisContext *db = store_open(redis);
	run_begin(r, scene, url);
	r->sent = 310;
	put_messages(r, "t/x", 10);
	wait_done(r);
	check_exactly(db, 320);
	run_end(r, 0);
	free(r);
	scene_end(scene);
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	const struct CMUnitTest tests[] = {
		scene_test(the_usual),
		scene_test(what_keeps_coming_is_gathered),
		scene_test(warnings),
		scene_test(absent_at_start),
		scene_test(killed_under_load),
		scene_test(cut_at_random),
		scene_test(stopped_for_longer_than_the_deadline),
		scene_test(refusals),
		scene_test(wrong_type),
		scene_test(own_process_killed),
		scene_test(flushed),
		scene_test(crash_of_the_broker),
		scene_test(stop_while_redis_stands_still),
		scene_test(redis_dies_while_it_stops),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
