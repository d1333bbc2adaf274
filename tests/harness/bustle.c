/*
 * Owns the record of what was published, acknowledged and received while things fail around it. Runs on the test's thread.
 * Must not wait for anything that may rightly fail.
 */
#include "tests/harness/bustle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "config/control.h"
#include "tests/harness/store.h"

#define WAIT_MS 60000
#define CATCH_UP_MS 300
#define TOPIC "t/%ld"
#define TOPICS 3

/* --- what goes on ------------------------------------------------------------------------------------------------------- */

static void join(struct bustle *b, struct guest *g)
{
	wait_until((server_check_alive(b->w.broker), guest_connected(g) || guest_connect_code(g) == 0), WAIT_MS, "a connection");
}

void bustle_publish(struct bustle *b, int count)
{
	for (int i = 0; i < count; i++) {
		long n = b->next++;
		assert_true(n < BUSTLE_NUMBERS_MAX);
		join(b, b->publisher);
		char topic[32], text[32];
		snprintf(topic, sizeof(topic), TOPIC, n % TOPICS);
		snprintf(text, sizeof(text), "%ld", n);
		b->acked[n] = guest_publish_code(b->publisher, topic, text, 1) == 0;
	}
}

static void push(struct bustle *b)
{
	char text[32], json[96];

	snprintf(text, sizeof(text), "%ld", b->pushed++);
	store_query(b->w.db, "XADD", "pushes", "*", "topic", "p", "payload", text, "user_properties", "[[\"a\",\"b\"]]", NULL);
	snprintf(json, sizeof(json), "{\"topic\":\"p\",\"payload\":\"%ld\",\"user_properties\":[[\"a\",\"b\"]]}", b->pushed++);
	store_query(b->w.db, "LPUSH", "jobs", json, NULL);
}

static void look(struct bustle *b)
{
	for (size_t count = guest_count(b->device); b->looked_at < count; b->looked_at++) {
		struct received m = guest_message(b->device, b->looked_at);
		long n = atol(m.payload);
		assert_true(n >= 0 && n < BUSTLE_NUMBERS_MAX);
		(*m.topic == 'p' ? b->push_got : b->got)[n] = true;
	}
	guest_forget(b->device, b->looked_at);
	b->looked_at = 0;
}

static void come(struct bustle *b)
{
	join(b, b->device);
	guest_subscribe_nowait(b->device, "p", 1);
	(void)guest_subscribe_code(b->device, "t/#", 1); /* may be refused, or the connection be lost: it comes again */
}

void bustle_cut(struct bustle *b)
{
	store_query(b->w.db, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes", NULL);
}

/* Others, of whom nothing is asked but that they do no harm: two members of a group; one with a session that the broker keeps, which
 * asks for history. */
static void visit(struct bustle *b)
{
	for (size_t i = 0; i < BUSTLE_VISITORS; i++) {
		join(b, b->visitors[i]);
		(void)guest_subscribe_code(b->visitors[i], i == 0 ? "t/1" : "$share/g/t/+", 1);
	}
	if (guest_connected(b->visitors[0]))
		(void)guest_publish_code(b->visitors[0], CONTROL_TOPIC_REPLAY, "{\"filter\":\"t/1\",\"last\":2}", 1);
}

static void leave(struct bustle *b)
{
	for (size_t i = 0; i < BUSTLE_VISITORS; i++) {
		if (guest_connected(b->visitors[i])) guest_drop(b->visitors[i]);
		guest_clear(b->visitors[i]);
	}
}

void bustle_turn(struct bustle *b)
{
	if (b->turns++ % 3 == 2) bustle_cut(b);
	visit(b);
	come(b);
	bustle_publish(b, 2);
	guest_drop(b->device);
	bustle_publish(b, 3);
	push(b);
	come(b);
	bustle_publish(b, 1);
	join(b, b->publisher);
	(void)guest_publish_code(b->publisher, "f/x", "x", 1);
	(void)guest_wait_quiet(b->device, 7, CATCH_UP_MS); /* the backlog, the push; how far it gets meanwhile is no matter */
	look(b);
	guest_drop(b->device);
	leave(b);
}

/* --- what must be ---------------------------------------------------------------------------------------------------------- */

static void check_order(struct bustle *b, const char *what, const char *payload, long *last)
{
	long n = atol(payload);

	scene_require(n > *last && n < b->next, "%s: %ld follows %ld", what, n, *last);
	for (long i = *last + 1; i < n; i++) scene_require(!b->acked[i], "%s: %ld was acknowledged and is not there", what, i);
	*last = n;
}

static void check_stored(struct bustle *b)
{
	const redisReply *all = stored_stream(b->w.db, "s:all");
	long last = -1;

	for (size_t i = 0; i < all->elements; i++)
		check_order(b, "stream", stored_field(all->element[i], "payload")->str, &last);
	for (long i = last + 1; i < b->next; i++) scene_require(!b->acked[i], "stream: %ld is not there", i);
	all = store_query(b->w.db, "LRANGE", "l:all", "0", "-1", NULL);
	last = -1;
	for (size_t i = all->elements; i > 0; i--)
		check_order(b, "list", strstr(all->element[i - 1]->str, "\"payload\":\"") + 11, &last);
	for (long i = last + 1; i < b->next; i++) scene_require(!b->acked[i], "list: %ld is not there", i);
}

static bool stored_last(struct bustle *b)
{
	const redisReply *r = store_query(b->w.db, "XREVRANGE", "s:all", "+", "-", "COUNT", "1", NULL);

	return r->elements == 1 && atol(stored_field(r->element[0], "payload")->str) == b->next - 1;
}

static long long book(struct bustle *b, const char *name)
{
	const redisReply *r = store_query(b->w.db, "HGET", "mqtt:status:test", name, NULL);

	return r->type == REDIS_REPLY_STRING ? atoll(r->str) : -1;
}

static bool books_close(struct bustle *b)
{
	return book(b, "queued") == 0 && book(b, "in") == book(b, "stored") + book(b, "dropped") + book(b, "dead");
}

static bool device_has_all(struct bustle *b)
{
	if (!guest_connected(b->device)) come(b);
	look(b);
	for (long i = 0; i < b->next; i++) {
		if (b->acked[i] && !b->got[i]) return false;
	}
	return true;
}

static bool pushes_arrived(struct bustle *b)
{
	if (!guest_connected(b->device)) come(b);
	look(b);
	return store_stream_len(b->w.db, "pushes") == 0 && store_list_len(b->w.db, "jobs") == 0;
}

void bustle_finish(struct bustle *b)
{
	bustle_publish(b, 1);
	assert_true(b->acked[b->next - 1]);
	wait_until(stored_last(b), WAIT_MS, "the last message");
	wait_until(books_close(b), WAIT_MS, "the books to close");
	assert_int_equal(book(b, "dropped"), 0);
	assert_int_equal(book(b, "dead"), 0);
	check_stored(b);
	wait_until(device_has_all(b), WAIT_MS, "the device to have everything");
	wait_until(pushes_arrived(b), WAIT_MS, "the pushes to be published");
	assert_int_equal(store_stream_len(b->w.db, "mqtt:dead"), 0);
	server_check_alive(b->w.broker);
}

void bustle_begin(struct bustle *b)
{
	b->publisher = guest_new(&b->w, "publisher", NULL);
	b->device = guest_new(&b->w, "device", NULL);
	b->visitors[0] = guest_new(&b->w, "kept", &(struct guest_options){.v5 = true, .keep_session = true});
	b->visitors[1] = guest_new(&b->w, "m1", &(struct guest_options){.v5 = true});
	b->visitors[2] = guest_new(&b->w, "m2", NULL);
	come(b);
}
