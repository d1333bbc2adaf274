/*
 * SIGHUP to broker and bridge, again and again under load: what was acknowledged is stored once, devices that come and go
 * get everything, an invalid file changes nothing and is reported with its line, and what cannot change live says so.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/harness/guest.h"
#include "tests/harness/publisher.h"
#include "tests/harness/store.h"

#define WAIT_MS 60000
#define ROUNDS 40
#define CONNECTIONS 3
#define PACE 400

#define RULES_A "mirror a/# stream a:%t\nredeliver a/# overlap=1h\n"
#define RULES_B "mirror a/# stream b:%t\nmirror z/# list z maxlen=5\nredeliver a/# overlap=1h rate=100000\nredeliver z/#\n"
#define RULES_C "mirror a/+ stream all\nredeliver a/+ overlap=1h\nsession_ttl 2d\n"

/* Takes the place of the settings in one step; `lines` behind what every version has. */
static void settings_become(struct world *w, const char *lines)
{
	const char *fresh = scene_write(w->scene, "fresh.conf",
		scene_text(w->scene, "redis_url redis://127.0.0.1:%u/0\njournal %s/journal\njournal_size 4M\nnode test\n"
			"listen none\nbroker_url mqtt://127.0.0.1:%u\n%s", server_port(w->redis), scene_dir(w->scene), server_port(w->broker),
			lines));

	(void)fresh;
	assert_int_equal(rename(fresh, w->settings), 0);
}

/* How often this number is in the payloads of these streams, of messages of this connection. */
static void count_stored(struct world *w, const char *key, const char *topic, unsigned *times, long sent)
{
	const redisReply *all = stored_stream(w->db, key);

	for (size_t i = 0; i < all->elements; i++) {
		const redisReply *t = stored_field(all->element[i], "topic"), *p = stored_field(all->element[i], "payload");
		long n;

		assert_true(t && p);
		if (strcmp(t->str, topic) != 0) continue;
		n = strtol(p->str, NULL, 10);
		assert_true(n >= 0 && n < sent);
		times[n]++;
	}
}

/* Entries of all streams that any of the rules names. */
static long stored_total(struct world *w)
{
	long total = (long)store_stream_len(w->db, "all");

	for (unsigned c = 0; c < CONNECTIONS; c++)
		total += (long)(store_stream_len(w->db, scene_text(w->scene, "a:a/%u", c)) + store_stream_len(w->db, scene_text(w->scene, "b:a/%u", c)));
	return total;
}

static void check_stored_once(struct world *w, struct publisher *p)
{
	/* A device that is live may have a message before Redis does. */
	wait_until(stored_total(w) >= publisher_acked_total(p), WAIT_MS, "all that was acknowledged in Redis");
	for (unsigned c = 0; c < CONNECTIONS; c++) {
		long sent = publisher_sent(p, c);
		unsigned *times = calloc((size_t)sent + 1, sizeof(*times));
		const char *topic = scene_text(w->scene, "a/%u", c);

		assert_non_null(times);
		count_stored(w, scene_text(w->scene, "a:a/%u", c), topic, times, sent);
		count_stored(w, scene_text(w->scene, "b:a/%u", c), topic, times, sent);
		count_stored(w, "all", topic, times, sent);
		for (long n = 0; n < sent; n++) {
			if (publisher_acked(p, c, n)) scene_require(times[n] == 1, "%s: number %ld is stored %u times", topic, n, times[n]);
			else scene_require(times[n] <= 1, "%s: number %ld is stored %u times", topic, n, times[n]);
		}
		free(times);
	}
}

/* Everything on this connection's topic that was acknowledged, at least once. */
static void check_received(struct world *w, struct publisher *p, struct guest *d, unsigned c)
{
	long sent = publisher_sent(p, c);
	bool *had = calloc((size_t)sent + 1, sizeof(*had));
	const char *topic = scene_text(w->scene, "a/%u", c);

	assert_non_null(had);
	for (size_t i = 0; i < guest_count(d); i++) {
		struct received r = guest_message(d, i);

		if (strcmp(r.topic, topic) == 0) had[strtol(r.payload, NULL, 10)] = true;
	}
	for (long n = 0; n < sent; n++) {
		if (publisher_acked(p, c, n)) scene_require(had[n], "the device of %s never got number %ld of %ld", topic, n, sent);
	}
	free(had);
}

static bool all_received(struct publisher *p, struct guest *d, unsigned c, const char *topic)
{
	char last[24];

	snprintf(last, sizeof(last), "%ld ", publisher_sent(p, c) - 1);
	for (size_t i = guest_count(d); i > 0; i--) {
		struct received r = guest_message(d, i - 1);

		if (strcmp(r.topic, topic) == 0 && strncmp(r.payload, last, strlen(last)) == 0) return true;
	}
	return false;
}

static void come(struct guest *d, const char *filter)
{
	guest_connect(d);
	guest_subscribe(d, filter, 1);
}

static void test_reload_under_load(void **state)
{
	static const char *const versions[] = {RULES_A, RULES_B, RULES_C, RULES_B "mirror a/# stream\n", RULES_A "hold_timeout 1s\n"};
	static const char *const filters[CONNECTIONS] = {"a/0", "a/+", "a/2"};
	struct scene *s = *state;
	struct guest *devices[CONNECTIONS];
	struct publisher *p;
	struct world w;
	unsigned random = 20240611u;

	world_start(&w, s, RULES_A, WORLD_BRIDGE);
	for (unsigned c = 0; c < CONNECTIONS; c++) {
		devices[c] = guest_new(&w, scene_text(s, "dev-%u", c), NULL);
		come(devices[c], filters[c]);
		world_wait_event(&w, "live", scene_text(s, "dev-%u", c), 1);
	}
	p = publisher_start(s, server_port(w.broker), "a", CONNECTIONS, 64);
	publisher_pace(p, PACE);
	for (int i = 0; i < ROUNDS; i++) {
		struct guest *d = devices[i % CONNECTIONS];
		long acked = publisher_acked_total(p);

		random = random * 1103515245u + 12345u;
		if (guest_connected(d)) guest_drop(d); /* a goodbye gives up what is under way */
		settings_become(&w, versions[(random >> 16) % 5]);
		if ((random >> 8) % 3) server_signal(w.broker, SIGHUP);
		if ((random >> 9) % 3) server_signal(w.bridge, SIGHUP);
		wait_until(publisher_acked_total(p) >= acked + 20, WAIT_MS, "acknowledgements");
		come(d, filters[i % CONNECTIONS]);
		if (i % 4 == 3) wait_until(publisher_acked_total(p) >= acked + 60, WAIT_MS, "acknowledgements");
	}
	settings_become(&w, RULES_A);
	server_signal(w.broker, SIGHUP);
	server_signal(w.bridge, SIGHUP);
	assert_true(publisher_rest(p, WAIT_MS));
	assert_int_equal(publisher_losses(p), 0);
	for (unsigned c = 0; c < CONNECTIONS; c++) {
		const char *topic = scene_text(s, "a/%u", c);

		wait_until(all_received(p, devices[c], c, topic), WAIT_MS, "the last message of each device");
	}
	for (unsigned c = 0; c < CONNECTIONS; c++) check_received(&w, p, devices[c], c);
	check_stored_once(&w, p);
	scene_end(s);
}

/* --- what is said ---------------------------------------------------------------------------------------------- */

static void test_what_is_said(void **state)
{
	struct scene *s = *state;
	struct world w;
	struct guest *p;
	size_t broker, bridge;

	world_start(&w, s, RULES_A, WORLD_BRIDGE);
	p = guest_join(&w, "publisher", NULL);
	settings_become(&w, "mirror a/# stream a:%t\nredeliver a/# rate=nothing\nmirror\n");
	broker = server_log_size(w.broker);
	bridge = server_log_size(w.bridge);
	server_signal(w.broker, SIGHUP);
	server_signal(w.bridge, SIGHUP);
	server_log_wait(w.broker, broker, "mosquitto-redis.conf:8: ", WAIT_MS);
	server_log_wait(w.broker, broker, "mosquitto-redis.conf:9: ", WAIT_MS);
	server_log_wait(w.bridge, bridge, "mosquitto-redis.conf:8: ", WAIT_MS);
	server_log_wait(w.bridge, bridge, "mosquitto-redis.conf:9: ", WAIT_MS);
	server_log_wait(w.broker, broker, "settings: not changed", WAIT_MS);
	guest_publish(p, "a/1", "by the old rules", 1);
	store_wait_stream(w.db, "a:a/1", 1, WAIT_MS);

	settings_become(&w, "mirror a/# stream c:%t\nprefix other\njournal_full drop-new\nbroker_username u\n");
	broker = server_log_size(w.broker);
	bridge = server_log_size(w.bridge);
	server_signal(w.broker, SIGHUP);
	server_log_wait(w.broker, broker, "changed only at the next start: prefix, ", WAIT_MS);
	server_log_wait(w.bridge, bridge, "settings: read again, 1 mirror rules, 0 grants", WAIT_MS); /* the broker told it */
	server_log_wait(w.bridge, bridge, "changed only at the next start: prefix, ", WAIT_MS);
	guest_publish(p, "a/1", "by the new rules", 1);
	store_wait_stream(w.db, "c:a/1", 1, WAIT_MS);
	assert_int_equal(store_stream_len(w.db, "a:a/1"), 1);
	assert_int_equal(store_integer(w.db, "EXISTS", "other:index", NULL), 0);
	bridge = server_log_size(w.bridge);
	server_signal(w.bridge, SIGHUP);
	server_log_wait(w.bridge, bridge, "nothing has changed", WAIT_MS);
	scene_end(s);
}

/* The broker's mosquitto.conf has a rule of its own, and a device missed what only that one keeps, under a name that
 * the bridge could not guess by its file. */
static void test_rules_of_the_broker_alone(void **state)
{
	struct scene *s = *state;
	struct world w;
	struct guest *p, *d;

	world_start_with(&w, s, "redeliver a/# overlap=0\n", "plugin_opt_mirror a/1 stream only\n", WORLD_BRIDGE);
	p = guest_join(&w, "publisher", NULL);
	d = guest_join(&w, "dev", NULL);
	guest_subscribe(d, "a/1", 1);
	world_wait_event(&w, "live", "dev", 1);
	guest_disconnect(d);
	world_wait_event(&w, "gone", "dev", 1);
	guest_publish(p, "a/1", "first", 1);
	settings_become(&w, "mirror a/+ stream second\nredeliver a/# overlap=0\n");
	server_signal(w.broker, SIGHUP);
	server_log_wait(w.broker, 0, "settings: read again", WAIT_MS);
	guest_publish(p, "a/1", "second", 1);
	guest_connect(d);
	guest_subscribe(d, "a/1", 1);
	guest_expect(d, 0, "first", "second", NULL);

	/* The same when the bridge comes later than the rule went, and the broker was restarted in between. */
	guest_disconnect(d);
	world_wait_event(&w, "gone", "dev", 2);
	guest_publish(p, "a/1", "third", 1);
	settings_become(&w, "mirror a/+ stream fourth\nredeliver a/# overlap=0\n");
	server_stop(w.bridge);
	server_restart(w.broker);
	size_t log = server_log_size(w.broker);
	server_start(w.bridge);
	world_wait_bridge(&w, log);
	guest_connect(d);
	guest_subscribe(d, "a/1", 1);
	guest_expect(d, 2, "third", NULL);
	scene_end(s);
}

/* A new password: connections that are made from now on show it. */
static void test_a_new_password(void **state)
{
	struct scene *s = *state;
	struct world w;
	struct guest *p;
	const char *first, *second;

	world_start(&w, s, "", WORLD_NO_START);
	first = scene_write(s, "first.password", "one\n");
	second = scene_write(s, "second.password", "two\n");
	settings_become(&w, scene_text(s, "mirror a/# stream s\nredis_username first\nredis_password_file %s\n", first));
	server_start(w.redis);
	w.db = store_open(w.redis);
	(void)store_query(w.db, "ACL", "SETUSER", "first", "on", ">one", "~*", "&*", "+@all", NULL);
	(void)store_query(w.db, "ACL", "SETUSER", "second", "on", ">two", "~*", "&*", "+@all", NULL);
	server_start(w.broker);
	p = guest_join(&w, "publisher", NULL);
	guest_publish(p, "a", "1", 1);
	store_wait_stream(w.db, "s", 1, WAIT_MS);
	settings_become(&w, scene_text(s, "mirror a/# stream s\nredis_username second\nredis_password_file %s\n", second));
	server_signal(w.broker, SIGHUP);
	server_log_wait(w.broker, 0, "settings: read again", WAIT_MS);
	guest_publish(p, "a", "2", 1);
	store_wait_stream(w.db, "s", 2, WAIT_MS); /* over the old connection */
	(void)store_query(w.db, "ACL", "DELUSER", "first", NULL); /* ends its connections */
	guest_publish(p, "a", "3", 1);
	store_wait_stream(w.db, "s", 3, WAIT_MS);
	scene_end(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_reload_under_load),
		scene_test(test_what_is_said),
		scene_test(test_rules_of_the_broker_alone),
		scene_test(test_a_new_password),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
