/*
 * The mirror under every fault: real broker, plugin and Redis, a proxy between the two that misbehaves, publishers that
 * note what was acknowledged. Whatever happens, each acknowledged message is in Redis once and in order, in streams and
 * in lists, and the broker acknowledges as fast as before.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "config/message.h"
#include "config/settings.h"
#include "plugin/journal.h"
#include "plugin/session_event.h"
#include "tests/harness/guest.h"
#include "tests/harness/proxy.h"
#include "tests/harness/publisher.h"
#include "tests/harness/store.h"

#define WAIT_MS 60000
#define PAYLOAD 48
#define HIGH_ID "99999999999999-0"
/* The lists' rule leaves the end marks out. Two rules lead to the streams: what both say is written once. */
#define RULES "mirror # stream s:%t\nmirror load/+ stream s:%t\nmirror load/+ list l:%t\n"
#define REDIS_OPTIONS "appendonly yes\nappendfsync always\nrepl-diskless-sync-delay 0\n"
/* Without a line for each message. */
#define BROKER_OPTIONS "log_type none\nlog_type error\nlog_type warning\nlog_type notice\nlog_type information\n" \
	"max_queued_messages 0\n"

struct rig {
	struct scene *scene;
	struct server *redis, *broker;
	struct proxy *proxy;
	redisContext *db, *second;
	struct publisher *publisher;
};

static void sleep_ms(unsigned ms)
{
	uint64_t until = now_ms() + ms;

	while (now_ms() < until) poll_pause();
}

static struct server *make_broker(struct scene *s, uint16_t redis_port, const char *node, const char *lines,
	const char *journal_size)
{
	const char *settings = scene_write(s, scene_text(s, "%s-settings.conf", node),
		scene_text(s, "redis_url redis://127.0.0.1:%u/0\njournal %s/%s-journal\njournal_size %s\nnode %s\n%s\n",
			redis_port, scene_dir(s), node, journal_size, node, lines));

	return broker_new(s, scene_text(s, "%s-broker", node), settings, BROKER_OPTIONS);
}

/* Redis (unless told not to start) behind a proxy, one broker, one publisher of four connections. */
static void rig_begin(struct rig *r, struct scene *s, const char *lines, const char *journal_size, bool with_redis)
{
	memset(r, 0, sizeof(*r));
	r->scene = s;
	r->redis = redis_new(s, "redis", REDIS_OPTIONS);
	r->proxy = proxy_start(s, server_port(r->redis), 1);
	if (with_redis) {
		server_start(r->redis);
		r->db = store_open(r->redis);
	}
	r->broker = make_broker(s, proxy_port(r->proxy), "test", lines, journal_size);
	server_start(r->broker);
	r->publisher = publisher_start(s, server_port(r->broker), "load", 4, PAYLOAD);
}

/* What was published before is in Redis: the journal is written in order, and a message behind it has arrived. */
static void wait_written(struct scene *s, struct server *broker, redisContext *db, const char *node)
{
	static unsigned marks;
	const char *topic = scene_text(s, "end/%s/%u", node, marks++);
	struct guest *g = guest_new_at(s, server_port(broker), topic, NULL);

	guest_connect(g);
	guest_publish_surely(g, topic, "end", 1); /* the journal may be full for a moment yet */
	guest_disconnect(g);
	store_wait_stream(db, scene_text(s, "s:%s", topic), 1, WAIT_MS);
}

/* --- what must be in Redis ------------------------------------------------------------------------------------ */

struct tally {
	struct publisher *p;
	unsigned connection;
	const char *what;
	long last, found;
};

static void tally_missing(struct tally *t, long from, long to)
{
	for (long i = from; i < to; i++) {
		if (!publisher_acked(t->p, t->connection, i)) continue;
		scene_require(false, "%s: %ld was acknowledged and is not there", t->what, i);
	}
}

static void tally_one(struct tally *t, const char *payload)
{
	long number = atol(payload);

	scene_require(number > t->last, "%s: %ld follows %ld", t->what, number, t->last);
	tally_missing(t, t->last + 1, number);
	t->last = number;
	t->found++;
}

static void tally_end(struct tally *t)
{
	long sent = publisher_sent(t->p, t->connection);

	scene_require(t->last < sent, "%s: %ld was never sent", t->what, t->last);
	tally_missing(t, t->last + 1, sent);
}

static long check_stream(struct tally *t, redisContext *db, const char *key)
{
	char before[64] = "0-0";
	const redisReply *all = stored_stream(db, key);

	t->what = key;
	t->last = -1;
	t->found = 0;
	for (size_t i = 0; i < all->elements; i++) {
		const char *id = stored_id(all->element[i]);
		scene_require(stored_before(before, id), "%s: %s follows %s", key, id, before);
		(void)snprintf(before, sizeof(before), "%s", id);
		tally_one(t, stored_field(all->element[i], "payload")->str);
	}
	tally_end(t);
	return t->found;
}

static long check_list(struct tally *t, redisContext *db, const char *key)
{
	static const char name[] = "\"payload\":\"";
	const redisReply *all = store_query(db, "LRANGE", key, "0", "-1", NULL);

	t->what = key;
	t->last = -1;
	t->found = 0;
	for (size_t i = all->elements; i > 0; i--) {
		const char *payload = strstr(all->element[i - 1]->str, name);
		scene_require(payload, "%s: no payload", key);
		tally_one(t, payload + strlen(name));
	}
	tally_end(t);
	return t->found;
}

/* Every acknowledged message once and in order, in both kinds. Returns how many there are. */
static long check_all(struct scene *s, struct publisher *p, redisContext *db, const char *base)
{
	long total = 0;

	for (unsigned n = 0; n < publisher_connections(p); n++) {
		struct tally t = {.p = p, .connection = n};
		long in_stream = check_stream(&t, db, scene_text(s, "s:%s/%u", base, n));
		long in_list = check_list(&t, db, scene_text(s, "l:%s/%u", base, n));
		assert_int_equal(in_stream, in_list);
		total += in_stream;
	}
	return total;
}

static void finish(struct rig *r)
{
	assert_true(publisher_rest(r->publisher, WAIT_MS));
	wait_written(r->scene, r->broker, r->db, "test");
	long total = check_all(r->scene, r->publisher, r->db, "load");
	print_message("%ld messages acknowledged, %ld in Redis\n", publisher_acked_total(r->publisher), total);
	assert_true(publisher_acked_total(r->publisher) > 0);
	server_check_alive(r->broker);
}

/* --- a thousand cuts ------------------------------------------------------------------------------------------- */

enum { BROKERS = 4, CUTS = 1000, CUTS_AT_LEAST = 150, CUTS_MS = 28000, CUTS_LIMIT_MS = 200000 };

/* As many as there is time for; on a slow machine, some time more. */
static bool enough_cuts(struct proxy *proxy, uint64_t began)
{
	unsigned cuts = proxy_cuts(proxy);

	return cuts >= CUTS || (cuts >= CUTS_AT_LEAST && now_ms() >= began + CUTS_MS);
}

/* One letter for each message of the topic's stream, in order; the connection is the publisher's first. */
static void check_letters(struct scene *s, redisContext *db, struct publisher *p, const char *topic, const char *key,
	const char *error, const char *source)
{
	struct tally t = {.p = p, .what = scene_text(s, "dead letters of %s", key), .last = -1};
	const redisReply *all = stored_stream(db, "mqtt:dead");

	for (size_t i = 0; i < all->elements; i++) {
		const redisReply *letter = all->element[i];
		if (strcmp(stored_field(letter, "key")->str, key) != 0) continue;
		if (strcmp(stored_field(letter, "topic")->str, topic) != 0) continue;
		stored_expect(letter, "error", "*", "source", source, "key", key, "id", "*", "topic", topic, "payload", "*",
			"qos", "1", "retain", "0", "client", "*", NULL);
		scene_require(strstr(stored_field(letter, "error")->str, error), "error is %s",
			stored_field(letter, "error")->str);
		tally_one(&t, stored_field(letter, "payload")->str);
	}
	tally_end(&t);
	assert_int_equal(t.found, store_stream_len(db, scene_text(s, "s:%s", topic)));
}

/*
 * Four brokers on one Redis, each with its own connection, so that a thousand cuts do not take all day. Broker 2 also
 * mirrors to a key of the wrong type, broker 3 to a stream in which somebody has written an id far ahead: of each
 * message there is a dead letter, once.
 */
static void test_thousand_cuts(void **state)
{
	static const char *const more[BROKERS] = {"", "", "mirror load2/+ stream wrong\n", "mirror load3/+ stream ahead\n"};
	struct scene *s = *state;
	struct server *redis = redis_new(s, "redis", REDIS_OPTIONS), *brokers[BROKERS];
	struct publisher *publishers[BROKERS];
	struct proxy *proxy = proxy_start(s, server_port(redis), 20260301);
	const char *base[BROKERS], *node[BROKERS];

	print_message("seed 20260301\n");
	server_start(redis);
	redisContext *db = store_open(redis);
	store_query(db, "SET", "wrong", "x", NULL);
	store_query(db, "XADD", "ahead", HIGH_ID, "by", "hand", NULL);
	for (int i = 0; i < BROKERS; i++) {
		base[i] = scene_text(s, "load%d", i);
		node[i] = scene_text(s, "node%d", i);
		const char *lines = scene_text(s, "mirror # stream s:%%t\nmirror %s/+ stream s:%%t\nmirror %s/+ list l:%%t\n%s",
			base[i], base[i], more[i]);
		brokers[i] = make_broker(s, proxy_port(proxy), node[i], lines, "1M");
		server_start(brokers[i]);
		publishers[i] = publisher_start(s, server_port(brokers[i]), base[i], i < 2 ? 2 : 1, PAYLOAD);
	}
	proxy_faults(proxy, 5);
	for (int i = 0; i < BROKERS; i++) publisher_pace(publishers[i], 250);
	uint64_t began = now_ms();
	wait_until(enough_cuts(proxy, began), CUTS_LIMIT_MS, "enough cuts");
	print_message("%u cuts in %llu ms\n", proxy_cuts(proxy), (unsigned long long)(now_ms() - began));
	for (int i = 0; i < BROKERS; i++) assert_true(publisher_rest(publishers[i], WAIT_MS));
	proxy_faults(proxy, 0);
	for (int i = 0; i < BROKERS; i++) {
		wait_written(s, brokers[i], db, node[i]);
		long total = check_all(s, publishers[i], db, base[i]);
		assert_true(total >= publisher_acked_total(publishers[i]));
		/* On a slow machine the journal was full for a while; what was acknowledged when the connection ended was not read then. */
		if (publisher_losses(publishers[i]) == 0) assert_int_equal(total, publisher_acked_total(publishers[i]));
		print_message("%s: %ld messages\n", node[i], total);
	}
	check_letters(s, db, publishers[2], "load2/0", "wrong", "WRONGTYPE", "load2/+ stream wrong");
	check_letters(s, db, publishers[3], "load3/0", "ahead", "equal or smaller", "load3/+ stream ahead");
	assert_int_equal(store_stream_len(db, "ahead"), 1);
	scene_end(s);
}

/* --- all kinds of trouble --------------------------------------------------------------------------------------- */

static void do_nothing(struct rig *r)
{
	(void)r;
}

static void pause_redis(struct rig *r)
{
	server_pause(r->redis);
}

static void continue_redis(struct rig *r)
{
	server_continue(r->redis);
}

static void plain(struct rig *r)
{
	proxy_behave(r->proxy, PROXY_PLAIN);
}

static void slow(struct rig *r)
{
	proxy_behave(r->proxy, PROXY_SLOW);
}

static void pieces(struct rig *r)
{
	proxy_behave(r->proxy, PROXY_PIECES);
}

static void half_answers(struct rig *r)
{
	proxy_behave(r->proxy, PROXY_HALF_ANSWERS);
}

static void one_answer(struct rig *r)
{
	proxy_behave(r->proxy, PROXY_ONE_ANSWER);
}

static void no_memory(struct rig *r)
{
	store_query(r->db, "CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1", NULL);
}

static void memory(struct rig *r)
{
	store_query(r->db, "CONFIG", "SET", "maxmemory", "0", NULL);
}

static void read_only(struct rig *r)
{
	store_query(r->db, "REPLICAOF", "127.0.0.1", "1", NULL);
}

static void writable(struct rig *r)
{
	store_query(r->db, "REPLICAOF", "NO", "ONE", NULL);
}

static bool info_has(redisContext *db, const char *section, const char *text)
{
	return strstr(store_query(db, "INFO", section, NULL)->str, text) != NULL;
}

static const char *snapshot_path(struct rig *r)
{
	return scene_text(r->scene, "%s/dump.rdb", server_dir(r->redis));
}

/* A folder stands where the snapshot should go. */
static void no_snapshot(struct rig *r)
{
	scene_require(mkdir(snapshot_path(r), 0700) == 0, "mkdir");
	store_query(r->db, "CONFIG", "SET", "save", "3600 1", NULL);
	store_query(r->db, "BGSAVE", NULL);
	wait_until(info_has(r->db, "persistence", "rdb_last_bgsave_status:err"), WAIT_MS, "a failed snapshot");
}

static void snapshot(struct rig *r)
{
	scene_require(rmdir(snapshot_path(r)) == 0, "rmdir");
	store_query(r->db, "BGSAVE", NULL);
	wait_until(info_has(r->db, "persistence", "rdb_last_bgsave_status:ok"), WAIT_MS, "a snapshot");
	store_query(r->db, "CONFIG", "SET", "save", "", NULL);
}

static void password(struct rig *r)
{
	store_query(r->db, "CONFIG", "SET", "requirepass", "secret", NULL);
	store_query(r->db, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes", NULL);
}

static void no_password(struct rig *r)
{
	store_query(r->db, "CONFIG", "SET", "requirepass", "", NULL);
}

static void busy(struct rig *r)
{
	int done = 0;

	if (!r->second) r->second = store_open(r->redis);
	store_query(r->db, "CONFIG", "SET", "busy-reply-threshold", "100", NULL);
	scene_require(redisAppendCommand(r->second, "EVAL %s 0", "while true do end") == REDIS_OK, "EVAL");
	while (!done) scene_require(redisBufferWrite(r->second, &done) == REDIS_OK, "EVAL: %s", r->second->errstr);
}

static bool script_killed(struct rig *r)
{
	return store_try(r->db, "SCRIPT", "KILL", NULL)->type == REDIS_REPLY_STATUS;
}

static void not_busy(struct rig *r)
{
	void *reply = NULL;

	wait_until(script_killed(r), WAIT_MS, "the end of the script");
	scene_require(redisGetReply(r->second, &reply) == REDIS_OK, "EVAL: %s", r->second->errstr);
	freeReplyObject(reply);
}

static void kill_redis(struct rig *r)
{
	server_kill(r->redis);
}

static void start_redis(struct rig *r)
{
	server_start(r->redis);
	store_reopen(r->db);
}

static void kill_again_and_again(struct rig *r)
{
	for (int i = 0; i < 4; i++) {
		server_kill(r->redis);
		sleep_ms(i % 2 ? 150 : 0);
		start_redis(r);
		store_forget_torn(r->db);
		sleep_ms(250);
	}
}

static bool rewritten(struct rig *r)
{
	return info_has(r->db, "persistence", "aof_rewrite_in_progress:0") &&
		info_has(r->db, "persistence", "aof_rewrite_scheduled:0");
}

/* It answers LOADING, several times a second, until load_the_rest: with 2 ms for each key that would take longer than anybody
 * waits for the answer to be seen. The append-only file begins with a snapshot, within which it looks at its clients more often
 * than between commands. */
static void load_for_long(struct rig *r)
{
	static const char fill[] = "for i = 1, 20000 do redis.call('SET', 'fill:' .. i, i) end";
	static const char delay[] = "\nkey-load-delay 2000\nloading-process-events-interval-bytes 1024\n";
	FILE *f = fopen(scene_path(r->scene, "redis.conf"), "ae");
	scene_require(f && fputs(delay, f) >= 0 && fclose(f) == 0, "redis.conf");

	store_query(r->db, "EVAL", fill, "0", NULL);
	wait_until(rewritten(r), WAIT_MS, "the end of a rewrite that the plugin asked for");
	(void)store_try(r->db, "BGREWRITEAOF", NULL); /* refused: the plugin has just asked for one, which does as well */
	wait_until(rewritten(r), WAIT_MS, "a rewritten append-only file");
	server_kill(r->redis);
	server_begin(r->redis);
}

static void load_the_rest(struct rig *r)
{
	store_reopen(r->db);
	store_query(r->db, "CONFIG", "SET", "key-load-delay", "0", NULL);
	server_await(r->redis);
}

struct fault {
	const char *name;
	void (*begin)(struct rig *r), (*end)(struct rig *r);
	unsigned ms;      /* between the two */
	const char *says; /* in the broker's log; NULL: nothing in particular */
};

static const struct fault faults[] = {
	{"stopped", pause_redis, continue_redis, 1000, NULL},
	{"stopped for long", pause_redis, continue_redis, 3600, "no reply"},
	{"slow", slow, plain, 1000, NULL},
	{"in pieces", pieces, plain, 1000, NULL},
	{"half answers", half_answers, plain, 1500, "redis "},
	{"closes after each answer", one_answer, plain, 1500, "redis "},
	{"out of memory", no_memory, memory, 1000, "OOM"},
	{"read-only", read_only, writable, 1000, "READONLY"},
	{"snapshots fail", no_snapshot, snapshot, 1000, "MISCONF"},
	{"asks for a password", password, no_password, 1000, "NOAUTH"},
	{"busy", busy, not_busy, 1000, "BUSY"},
	{"dead", kill_redis, start_redis, 1500, "redis "},
	{"killed again and again", kill_again_and_again, do_nothing, 0, "redis "},
	{"loading", load_for_long, load_the_rest, 0, "LOADING"},
};

enum { FAULTS = sizeof(faults) / sizeof(faults[0]), PER_SECOND = 1200 };

/* A broker that waits for Redis makes every publisher wait for as long as the fault lasts, so the median tells. The ninety-ninth
 * percentile is printed only: on a busy machine it is the scheduler's (a Redis that spins takes a whole core). */
static bool quick_enough(struct latency l)
{
	return l.p50_us < 400000 || instrument_slowness() > 1;
}

/* Each fault for a while, under load, and after it everything arrives. */
static void test_all_kinds_of_trouble(void **state)
{
	struct rig r;
	unsigned sections[FAULTS];

	rig_begin(&r, *state, RULES, "8M", true);
	publisher_pace(r.publisher, PER_SECOND);
	sleep_ms(300);
	unsigned usual_section = publisher_section(r.publisher);
	sleep_ms(1500);
	for (int i = 0; i < FAULTS; i++) {
		size_t log = server_log_size(r.broker);
		sections[i] = publisher_section(r.publisher);
		faults[i].begin(&r);
		sleep_ms(faults[i].ms);
		if (faults[i].says) server_log_wait(r.broker, log, faults[i].says, WAIT_MS);
		else wait_until(publisher_latency(r.publisher, sections[i]).count > 200, WAIT_MS, "messages");
		(void)publisher_section(r.publisher);
		faults[i].end(&r);
		wait_written(r.scene, r.broker, r.db, "test");
	}
	finish(&r);
	assert_int_equal(publisher_losses(r.publisher), 0);
	assert_int_equal(store_stream_len(r.db, "mqtt:dead"), 0);
	struct latency usual = publisher_latency(r.publisher, usual_section);
	print_message("PUBACK, %-26s %5zu messages, p50 %5u us, p99 %6u us\n", "Redis as usual:", usual.count, usual.p50_us,
		usual.p99_us);
	for (int i = 0; i < FAULTS; i++) {
		struct latency l = publisher_latency(r.publisher, sections[i]);
		print_message("PUBACK, %-25s: %5zu messages, p50 %5u us, p99 %6u us, ratio of p99 %.2f\n", faults[i].name,
			l.count, l.p50_us, l.p99_us, (double)l.p99_us / (double)(usual.p99_us ? usual.p99_us : 1));
		assert_true(l.count > 0);
		assert_true(quick_enough(l));
	}
	scene_end(r.scene);
}

/* --- failover -------------------------------------------------------------------------------------------------- */

static long long offset_of(redisContext *db)
{
	const char *at = strstr(store_query(db, "INFO", "replication", NULL)->str, "master_repl_offset:");

	return at ? atoll(at + strlen("master_repl_offset:")) : -1;
}

/* A link that is up proves little: after a copy without disk the master sends nothing more before the replica's next
 * REPLCONF ACK, which is up to a second away. */
static void wait_replicated(redisContext *master, redisContext *replica)
{
	long long upto = offset_of(master);

	assert_true(upto > 0);
	wait_until(offset_of(replica) >= upto, WAIT_MS, "replication of what the master has");
}

static void follow(struct rig *r, redisContext *replica, uint16_t port)
{
	store_query(replica, "REPLICAOF", "127.0.0.1", scene_text(r->scene, "%u", port), NULL);
	wait_until(info_has(replica, "replication", "master_link_status:up"), WAIT_MS, "replication");
}

/* r->redis and r->db are the master's; they become those of the replica, which leads from now on. */
static void fail_over(struct rig *r, struct server **replica, redisContext **replica_db)
{
	struct server *old = r->redis;
	redisContext *old_db = r->db;

	store_query(*replica_db, "REPLICAOF", "NO", "ONE", NULL);
	server_kill(old);
	proxy_lead(r->proxy, server_port(*replica));
	r->redis = *replica;
	r->db = *replica_db;
	*replica = old;
	*replica_db = old_db;
}

/* At the moment of the change the replica has what the master had; which replies the plugin had is left to chance. */
static void test_failover(void **state)
{
	struct rig r;

	rig_begin(&r, *state, RULES, "4M", true);
	struct server *replica = redis_new(r.scene, "replica", REDIS_OPTIONS);
	server_start(replica);
	redisContext *replica_db = store_open(replica);
	follow(&r, replica_db, server_port(r.redis));
	publisher_pace(r.publisher, 1000);
	for (int round = 0; round < 4; round++) {
		sleep_ms(200);
		proxy_hold(r.proxy, true);
		wait_until(offset_of(r.db) == offset_of(replica_db), WAIT_MS, "the same offsets");
		fail_over(&r, &replica, &replica_db);
		proxy_hold(r.proxy, false);
		sleep_ms(100);
		server_start(replica);
		store_reopen(replica_db);
		follow(&r, replica_db, server_port(r.redis));
	}
	finish(&r);
	assert_int_equal(store_stream_len(r.db, "mqtt:dead"), 0);
	server_kill(replica); /* a stop is refused while it writes its first append-only file */
	scene_end(r.scene);
}

/* Replication lags behind when the master dies: what it had confirmed and not passed on is still in the journal, and is sent
 * to the new one. Nothing is missing, nothing there twice, all in order. */
static void test_failover_with_a_gap(void **state)
{
	struct rig r;

	rig_begin(&r, *state, RULES, "4M", true);
	struct server *replica = redis_new(r.scene, "replica", REDIS_OPTIONS);
	struct proxy *between = proxy_start(r.scene, server_port(r.redis), 1);
	server_start(replica);
	redisContext *replica_db = store_open(replica);
	follow(&r, replica_db, proxy_port(between));
	publisher_pace(r.publisher, 1000);
	wait_until(publisher_acked_total(r.publisher) > 100, WAIT_MS, "acknowledgements");
	assert_true(publisher_rest(r.publisher, WAIT_MS));
	wait_written(r.scene, r.broker, r.db, "test");
	wait_replicated(r.db, replica_db);
	proxy_hold(between, true);
	long before = publisher_acked_total(r.publisher);
	publisher_pace(r.publisher, 1000);
	wait_until(publisher_acked_total(r.publisher) > before + 300, WAIT_MS, "acknowledgements");
	assert_true(publisher_rest(r.publisher, WAIT_MS));
	wait_written(r.scene, r.broker, r.db, "test");
	long long behind = store_stream_len(r.db, "s:load/0") - store_stream_len(replica_db, "s:load/0");
	assert_true(behind > 0);
	fail_over(&r, &replica, &replica_db);
	publisher_pace(r.publisher, 1000);
	server_log_wait(r.broker, 0, "redis has lost writes it had confirmed", WAIT_MS);
	server_log_wait(r.broker, 0, "are sent to it again; 0 bytes of them", WAIT_MS);
	sleep_ms(300);
	finish(&r);
	print_message("%lld messages and more were with the dead master alone\n", behind);
	assert_int_equal(store_stream_len(r.db, "mqtt:dead"), 0);
	proxy_hold(between, false);
	scene_end(r.scene);
}

/* --- restarts -------------------------------------------------------------------------------------------------- */

static void refused_again(struct rig *r, unsigned more)
{
	unsigned losses = publisher_losses(r->publisher);

	wait_until(publisher_losses(r->publisher) >= losses + more, WAIT_MS, "refusals");
}

/* Redis was never there; the journal is full; the broker is killed and stopped with it. */
static void test_restarts_with_a_full_journal(void **state)
{
	struct rig r;

	rig_begin(&r, *state, RULES, "1M", false);
	publisher_pace(r.publisher, 6000);
	refused_again(&r, 20);
	long acked = publisher_acked_total(r.publisher);
	assert_true(acked > 1000);
	server_kill(r.broker);
	server_start(r.broker);
	refused_again(&r, 20);
	server_restart(r.broker);
	refused_again(&r, 20);
	assert_true(publisher_acked_total(r.publisher) < acked + 200); /* hardly any room was left */
	server_start(r.redis);
	r.db = store_open(r.redis);
	publisher_pace(r.publisher, 500);
	acked = publisher_acked_total(r.publisher);
	wait_until(publisher_acked_total(r.publisher) > acked + 200, WAIT_MS, "acknowledgements again");
	finish(&r);
	assert_int_equal(store_stream_len(r.db, "mqtt:dead"), 0);
	scene_end(r.scene);
}

static uint64_t (*real_clock)(void);

static uint64_t clock_ahead(void)
{
	return real_clock() + 3600 * 1000;
}

static void write_record(struct journal *j, enum journal_type type, const struct buf *body)
{
	bool wake;
	char *to = journal_reserve(j, type, body->len);

	scene_require(to, "no room in the journal");
	memcpy(to, body->data, body->len);
	(void)journal_commit(j, body->len, &wake);
}

static void write_message(struct journal *j, uint16_t rule, const char *topic, const char *payload)
{
	struct message m = {.topic = slice_str(topic), .payload = slice_str(payload), .client = slice_str("before"),
		.qos = 1, .payload_format = -1};
	struct buf body = {0};
	size_t size = message_packed_size(&m);

	buf_u16(&body, 1);
	buf_u16(&body, rule);
	message_pack(&m, buf_reserve(&body, size));
	body.len += size;
	write_record(j, JOURNAL_MESSAGE, &body);
	buf_free(&body);
}

/* The journal of a broker that ran while the clock was an hour ahead, with `count` messages unsent. */
static void write_journal_ahead(struct scene *s, int count)
{
	struct journal_report found;
	struct journal *j;
	struct buf boot = {0};
	uint16_t rule;
	char why[512] = "";

	real_clock = journal_clock_ms;
	journal_clock_ms = clock_ahead;
	scene_require(journal_open(scene_path(s, "test-journal"), 1u << 20, "test", &j, &found, why, sizeof(why)) == ST_OK,
		"%s", why);
	scene_require(journal_rule(j, "# stream s:%t", &rule) == ST_OK, "rule");
	session_event_pack(&boot, &(struct session_event){0});
	write_record(j, JOURNAL_BOOT, &boot);
	buf_free(&boot);
	for (int i = 0; i < count; i++) write_message(j, rule, "clock", scene_text(s, "%d", i));
	journal_close(j);
	journal_clock_ms = real_clock;
}

static void check_clock_stream(struct rig *r, size_t count)
{
	const redisReply *all = stored_stream(r->db, "s:clock");
	char before[64] = "0-0";

	assert_int_equal(all->elements, count);
	for (size_t i = 0; i < count; i++) {
		const char *id = stored_id(all->element[i]);
		assert_int_equal(atoi(stored_field(all->element[i], "payload")->str), i);
		assert_true(stored_before(before, id));
		assert_true((uint64_t)atoll(id) > real_clock() + 3000 * 1000);
		(void)snprintf(before, sizeof(before), "%s", id);
	}
	assert_int_equal(store_stream_len(r->db, "mqtt:dead"), 0);
}

/* The clock was stepped back an hour between two runs: ids go on where they were, and Redis takes them all. */
static void test_clock_stepped_back(void **state)
{
	enum { BEFORE = 100, EACH = 50 };
	struct rig r;

	write_journal_ahead(*state, BEFORE);
	rig_begin(&r, *state, "mirror # stream s:%t", "1M", true);
	for (int run = 0; run < 3; run++) {
		struct guest *g = guest_new_at(r.scene, server_port(r.broker), scene_text(r.scene, "run%d", run), NULL);
		guest_connect(g);
		for (int i = 0; i < EACH; i++) guest_publish(g, "clock", scene_text(r.scene, "%d", BEFORE + run * EACH + i), 1);
		guest_disconnect(g);
		if (run == 0) wait_written(r.scene, r.broker, r.db, "test");
		if (run == 1) server_kill(r.broker);
		if (run == 0) server_stop(r.broker);
		if (run < 2) server_start(r.broker);
	}
	wait_written(r.scene, r.broker, r.db, "test");
	check_clock_stream(&r, BEFORE + 3 * EACH);
	scene_end(r.scene);
}

/* --- dead letters ---------------------------------------------------------------------------------------------- */

static void test_dead_letters(void **state)
{
	struct rig r;

	rig_begin(&r, *state, RULES "mirror one/+ stream o:%t\nmirror one/+ list ol:%t\nmirror one/# stream all\n", "1M",
		true);
	store_query(r.db, "XADD", "o:one/ahead", HIGH_ID, "by", "hand", NULL);
	store_query(r.db, "SET", "ol:one/wrong", "x", NULL);
	publisher_pace(r.publisher, 500);
	struct guest *g = guest_new_at(r.scene, server_port(r.broker), "poet", &(struct guest_options){.user = "anna",
		.password = "x"});
	guest_connect(g);
	guest_publish(g, "one/ahead", "late", 1);
	server_log_wait(r.broker, 0, "equal or smaller", WAIT_MS); /* the log tells of one, now and then */
	guest_publish(g, "one/wrong", "50% \"%s\"", 1);
	guest_publish(g, "one/good", "fine", 1);
	wait_until(publisher_acked_total(r.publisher) > 100, WAIT_MS, "neighbours");
	finish(&r);
	const redisReply *dead = stored_stream(r.db, "mqtt:dead");
	assert_int_equal(dead->elements, 2);
	stored_expect(dead->element[0], "error", "*", "source", "one/+ stream o:%t", "key", "o:one/ahead", "id", "*",
		"topic", "one/ahead", "payload", "late", "qos", "1", "retain", "0", "client", "poet", "user", "anna", NULL);
	assert_non_null(strstr(stored_field(dead->element[0], "error")->str, "equal or smaller"));
	stored_expect(dead->element[1], "error", "*", "source", "one/+ list ol:%t", "key", "ol:one/wrong", "id", "*",
		"topic", "one/wrong", "payload", "50% \"%s\"", "qos", "1", "retain", "0", "client", "poet", "user", "anna",
		NULL);
	assert_int_equal(strncmp(stored_field(dead->element[1], "error")->str, "WRONGTYPE", 9), 0);
	/* The letter's id field is the record's, which stands beside in the other rules' streams. */
	const char *id = scene_text(r.scene, "%s", stored_field(dead->element[0], "id")->str);
	const char *key[] = {"all", "s:one/ahead"};
	for (int i = 0; i < 2; i++)
		assert_int_equal(store_query(r.db, "XRANGE", key[i], id, id, NULL)->elements, 1);
	assert_int_equal(store_stream_len(r.db, "all"), 3);
	assert_int_equal(store_list_len(r.db, "ol:one/ahead"), 1);
	assert_int_equal(store_stream_len(r.db, "o:one/wrong"), 1);
	assert_int_equal(store_stream_len(r.db, "o:one/good"), 1);
	assert_int_equal(store_stream_len(r.db, "o:one/ahead"), 1);
	assert_true(server_log_has(r.broker, 0, "dead letters"));
	scene_end(r.scene);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_thousand_cuts),
		scene_test(test_all_kinds_of_trouble),
		scene_test(test_failover),
		scene_test(test_failover_with_a_gap),
		scene_test(test_restarts_with_a_full_journal),
		scene_test(test_clock_stepped_back),
		scene_test(test_dead_letters),
	};

	if (argc > 1) cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
