/*
 * Several brokers with one Redis: a device that moves from one to another gets what it missed from all of them, in the
 * order of the ids, each message once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "config/entry_id.h"
#include "tests/harness/guest.h"
#include "tests/harness/store.h"

#define WAIT_MS 60000
#define LINES "mirror plant/# stream %n:%t maxlen=100000\nredeliver plant/# overlap=0\n"

/* World `a` has Redis; broker and bridge of `b` use it. */
struct pair {
	struct world a, b;
};

static void pair_start(struct pair *p, struct scene *s, const char *lines)
{
	const char *settings = scene_path(s, "b.conf");

	world_start(&p->a, s, lines, WORLD_BRIDGE);
	p->b = (struct world){.scene = s, .redis = p->a.redis, .db = p->a.db, .settings = settings};
	p->b.broker = broker_new(s, "broker-b", settings, scene_text(s, "max_queued_messages 0\n"
		"plugin_opt_redis_username " PLUGIN_USER "\nplugin_opt_redis_password_file %s\n",
		scene_write(s, "b.plugin", PLUGIN_PASSWORD)));
	(void)scene_write(s, "b.conf", scene_text(s, "redis_url redis://127.0.0.1:%u/0\njournal %s/journal-b\njournal_size 4M\n"
		"node other\nlisten none\nhold_timeout 60s\nbroker_url mqtt://127.0.0.1:%u\nredis_username " BRIDGE_USER "\nredis_password_file %s\n%s",
		server_port(p->a.redis), scene_dir(s), server_port(p->b.broker), scene_write(s, "b.bridge", BRIDGE_PASSWORD),
		lines));
	p->b.bridge = bridge_new(s, "bridge-b", settings);
	server_start(p->b.broker);
	server_start(p->b.bridge);
	world_wait_bridge(&p->b, 0);
}

/* Events of a device at one of the nodes. */
static size_t events(struct world *w, const char *node, const char *op, const char *client)
{
	const redisReply *all;
	char key[64];
	size_t n = 0;

	(void)snprintf(key, sizeof(key), "mqtt:events:%s", node);
	all = stored_stream(w->db, key);

	for (size_t i = 0; i < all->elements; i++) {
		const redisReply *found_op = stored_field(all->element[i], "op"), *who = stored_field(all->element[i], "client");

		if (found_op && who && strcmp(found_op->str, op) == 0 && strcmp(who->str, client) == 0) n++;
	}
	return n;
}

#define wait_event(w, node, op, client, n) wait_until(events(w, node, op, client) >= (n), WAIT_MS, op " at " node)

static struct guest *visit(struct world *w, const char *node, const char *client, const char *filter)
{
	struct guest *d = guest_new_at(w->scene, server_port(w->broker), client, &(struct guest_options){.v5 = true});
	size_t live = events(w, node, "live", client);

	guest_connect(d);
	guest_subscribe(d, filter, 1);
	wait_until(events(w, node, "live", client) > live, WAIT_MS, "the device to be live");
	return d;
}

static void leave(struct world *w, const char *node, const char *client, struct guest *d)
{
	size_t gone = events(w, node, "gone", client);

	guest_disconnect(d);
	wait_until(events(w, node, "gone", client) > gone, WAIT_MS, "the device to be gone");
}

static void publish(struct pair *p, struct guest *at_a, struct guest *at_b, unsigned from, unsigned to)
{
	char text[16];

	for (unsigned i = from; i < to; i++) {
		(void)snprintf(text, sizeof(text), "%u", i);
		guest_publish(i % 2 ? at_b : at_a, i % 2 ? "plant/b" : "plant/a", text, 1);
	}
	/* What another node has not stored yet when the device comes is given the next time. */
	store_wait_stream(p->a.db, "test:plant/a", to / 2, WAIT_MS);
	store_wait_stream(p->a.db, "other:plant/b", to / 2, WAIT_MS);
}

/* Exactly from..to-1, each once, ids never going back. Brokers may give out one id twice, so between such either may be first. */
static void expect_numbers(struct scene *s, struct guest *d, unsigned from, unsigned to)
{
	struct entry_id last = ENTRY_ID_ZERO;
	bool had[4096] = {false};

	guest_wait(d, to - from, WAIT_MS);
	guest_settle(d);
	scene_require(guest_count(d) == to - from, "%zu messages came, not %u", guest_count(d), to - from);
	for (size_t i = 0; i < guest_count(d); i++) {
		struct received r = guest_message(d, i);
		const char *text = received_user_property(s, &r, "redis-id", 0);
		unsigned long number = strtoul(r.payload, NULL, 10);
		struct entry_id id;

		scene_require(number >= from && number < to && !had[number - from], "message %zu is %s", i, r.payload);
		had[number - from] = true;
		scene_require(text && entry_id_parse(slice_str(text), &id) == ST_OK, "no redis-id");
		scene_require(entry_id_compare(id, last) >= 0, "%s comes behind a later one", text);
		last = id;
	}
	guest_clear(d);
}

/* To and fro; what was published at either while it was away, or connected to the other, comes once. */
static void test_moves(void **state)
{
	struct scene *s = *state;
	struct pair p;
	struct guest *at_a, *at_b, *d;

	pair_start(&p, s, LINES);
	at_a = guest_join(&p.a, "pa", NULL);
	at_b = guest_new_at(s, server_port(p.b.broker), "pb", NULL);
	guest_connect(at_b);
	d = visit(&p.a, "test", "d", "plant/+");
	leave(&p.a, "test", "d", d);
	publish(&p, at_a, at_b, 0, 400);
	d = visit(&p.b, "other", "d", "plant/+");
	expect_numbers(s, d, 0, 400);
	/* Live at `other`, and what is published at `test` meanwhile waits. */
	publish(&p, at_a, at_b, 400, 500);
	guest_wait(d, 50, WAIT_MS);
	guest_settle(d);
	assert_int_equal(guest_count(d), 50);
	leave(&p.b, "other", "d", d);
	publish(&p, at_a, at_b, 500, 600);
	d = visit(&p.a, "test", "d", "plant/+");
	/* 50 from each node while it was at the other or away: of `test` 400.. and 500.., of `other` only 500... */
	guest_wait(d, 150, WAIT_MS);
	guest_settle(d);
	assert_int_equal(guest_count(d), 150);
	for (size_t i = 0; i < 150; i++) {
		unsigned long n = strtoul(guest_message(d, i).payload, NULL, 10);
		scene_require(n >= 500 || (n >= 400 && n % 2 == 0), "%lu comes again", n);
	}
	leave(&p.a, "test", "d", d);
	d = visit(&p.b, "other", "d", "plant/+");
	guest_settle(d);
	scene_require(guest_count(d) == 0, "%zu messages come again, the first is %s", guest_count(d), guest_message(d, 0).payload);
	scene_end(s);
}

/* A filter that computes to one key, one that does not, and history for a device never seen. */
static void test_new_and_fixed(void **state)
{
	struct scene *s = *state;
	struct pair p;
	struct guest *at_a, *at_b, *d;

	pair_start(&p, s, LINES "redeliver fresh/# new=all\nmirror fresh/# stream fresh:%n\n");
	at_a = guest_join(&p.a, "pa", NULL);
	at_b = guest_new_at(s, server_port(p.b.broker), "pb", NULL);
	guest_connect(at_b);
	guest_publish(at_a, "fresh/1", "0", 1);
	guest_publish(at_b, "fresh/1", "1", 1);
	store_wait_stream(p.a.db, "fresh:test", 1, WAIT_MS);
	store_wait_stream(p.a.db, "fresh:other", 1, WAIT_MS);
	d = visit(&p.b, "other", "n", "fresh/1");
	expect_numbers(s, d, 0, 2);
	/* Unsubscribed, it is new again at every node; while its connection lasts, it is known what that has brought. */
	guest_unsubscribe(d, "fresh/1");
	wait_event(&p.b, "other", "unsubscribed", "n", 1u);
	assert_int_equal(store_integer(p.a.db, "HEXISTS", "mqtt:session:n", "f:fresh/1", NULL), 0);
	guest_disconnect(d);
	wait_until(store_integer(p.a.db, "HLEN", "mqtt:session:n", NULL) == 2, WAIT_MS, "only overlap and left@other");
	d = visit(&p.a, "test", "n", "fresh/1");
	expect_numbers(s, d, 0, 2);
	scene_end(s);
}

/* The broker it was live at is killed and stays away; it goes on at the other one. */
static void test_broker_dies(void **state)
{
	struct scene *s = *state;
	struct pair p;
	struct guest *at_a, *at_b, *d;

	pair_start(&p, s, LINES);
	at_a = guest_join(&p.a, "pa", NULL);
	at_b = guest_new_at(s, server_port(p.b.broker), "pb", NULL);
	guest_connect(at_b);
	d = visit(&p.a, "test", "d", "plant/+");
	for (unsigned i = 0; i < 200; i += 2) {
		char text[16];
		(void)snprintf(text, sizeof(text), "%u", i);
		guest_publish(at_a, "plant/a", text, 1);
	}
	guest_wait(d, 100, WAIT_MS);
	store_wait_stream(p.a.db, "test:plant/a", 100, WAIT_MS);
	server_kill(p.a.bridge);
	server_kill(p.a.broker);
	guest_publish(at_b, "plant/b", "1", 1);
	d = visit(&p.b, "other", "d", "plant/+");
	guest_expect(d, 0, "1", NULL);
	leave(&p.b, "other", "d", d);
	/* Back again, and so is the device. */
	server_start(p.a.broker);
	server_start(p.a.bridge);
	at_a = guest_new_at(s, server_port(p.a.broker), "pa2", NULL);
	guest_connect(at_a);
	guest_publish(at_a, "plant/a", "1000", 1);
	d = visit(&p.a, "test", "d", "plant/+");
	guest_expect(d, 0, "1000", NULL);
	scene_end(s);
}

/* Cut short in the middle, a catch-up from two nodes goes on where it was, or a little before. */
static void test_cut_short(void **state)
{
	struct scene *s = *state;
	bool had[2000] = {false};
	struct pair p;
	struct guest *at_a, *at_b, *d;
	size_t came = 0;

	pair_start(&p, s, "mirror plant/# stream %n:%t\nredeliver plant/# overlap=1s rate=400\n");
	at_a = guest_join(&p.a, "pa", NULL);
	at_b = guest_new_at(s, server_port(p.b.broker), "pb", NULL);
	guest_connect(at_b);
	d = visit(&p.a, "test", "d", "plant/+");
	leave(&p.a, "test", "d", d);
	publish(&p, at_a, at_b, 0, 2000);
	for (unsigned round = 0; round < 2; round++) {
		size_t gone = events(&p.b, "other", "gone", "d");

		d = guest_new_at(s, server_port(p.b.broker), "d", &(struct guest_options){.v5 = true});
		guest_connect(d);
		guest_subscribe(d, "plant/+", 1);
		guest_wait(d, 900, WAIT_MS);
		guest_drop(d);
		wait_until(events(&p.b, "other", "gone", "d") > gone, WAIT_MS, "the device to be gone");
		for (size_t i = 0; i < guest_count(d); i++) had[strtoul(guest_message(d, i).payload, NULL, 10)] = true;
		came += guest_count(d);
	}
	d = visit(&p.b, "other", "d", "plant/+");
	guest_settle(d);
	for (size_t i = 0; i < guest_count(d); i++) had[strtoul(guest_message(d, i).payload, NULL, 10)] = true;
	came += guest_count(d);
	for (size_t i = 0; i < 2000; i++) scene_require(had[i], "%zu is missing; %zu came, %zu of them last", i, came, guest_count(d));
	/* The overlap's worth for each cut, and what was on its way; not all of it again. */
	scene_require(came < 2000 + 2 * 850, "%zu messages came for 2000", came);
	scene_end(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_moves),
		scene_test(test_new_and_fixed),
		scene_test(test_broker_dies),
		scene_test(test_cut_short),
	};

	return cmocka_run_group_tests_name("nodes", tests, NULL, NULL);
}
