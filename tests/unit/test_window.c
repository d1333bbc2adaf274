/*
 * A device's window against a small broker: a queue that sends when the client has taken something, and drops what it has
 * no room for. Everything put arrives once and in order.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugin/window.h"
#include "tests/unit/seeds.h"

#define QUEUE_MAX 4096
#define SEEN_MAX 20000

/* The broker: what it was handed and has not looked at; its queue; the client. */
static struct {
	struct window *window;
	uint64_t turn, now_ms;
	int handed[QUEUE_MAX], queue[QUEUE_MAX];
	uint8_t handed_qos[QUEUE_MAX];
	size_t handed_count, queue_count, queue_limit;
	size_t unread, unread_limit;  /* QoS 0 */
	unsigned inflight;
	int seen[SEEN_MAX];
	size_t seen_count;
	uint32_t marks[64];
	size_t mark_count;
	size_t most;                  /* ever in the broker's hands */
	bool refuse;
} b;

static const char *text_of(int number)
{
	static char text[16];

	snprintf(text, sizeof text, "%d", number);
	return text;
}

static int qos_now(void *ctx, const struct message *m, enum delivery kind)
{
	(void)ctx;
	(void)kind;
	return m->qos;
}

static enum status take_message(void *ctx, const struct message *m, uint8_t qos, enum delivery kind)
{
	char text[16];

	(void)ctx;
	(void)kind;
	if (b.refuse) return ST_NOMEM;
	if (m->payload.len == 7 && memcmp(m->payload.data, "expired", 7) == 0) return ST_END;
	snprintf(text, sizeof text, "%.*s", (int)m->payload.len, m->payload.data);
	assert_true(b.handed_count < QUEUE_MAX);
	b.handed_qos[b.handed_count] = qos;
	b.handed[b.handed_count++] = atoi(text);
	if (b.handed_count + b.queue_count > b.most) b.most = b.handed_count + b.queue_count;
	return ST_OK;
}

static void take_mark(void *ctx, const struct window_mark *mark)
{
	(void)ctx;
	b.marks[b.mark_count++] = mark->sequence;
}

static const struct window_calls calls = {qos_now, take_message, take_mark, NULL, NULL};

static void put(int number, uint8_t qos, enum delivery kind)
{
	struct message m = {.id = {1, (uint64_t)number + 1}, .topic = slice_str("t"), .payload = slice_str(text_of(number)),
		.client = slice_str("p"), .qos = qos, .payload_format = -1};

	assert_int_equal(window_put(b.window, &m, kind, false), ST_OK);
}

static void put_mark(uint32_t sequence, uint64_t upto)
{
	struct window_mark mark = {.generation = {9, 9}, .upto = {1, upto}, .sequence = sequence, .filters = slice_str("f")};

	assert_int_equal(window_put_mark(b.window, &mark), ST_OK);
}

static void send_to_client(int number)
{
	assert_true(b.seen_count < SEEN_MAX);
	b.seen[b.seen_count++] = number;
	(void)window_sent(b.window, (struct entry_id){1, (uint64_t)number + 1}, slice_str("t"), slice_str(text_of(number)));
	(void)window_feed(b.window, &calls, b.turn, WINDOW_SENDING);
}

static void send_queued(void)
{
	while (b.queue_count > 0 && b.inflight > 0) {
		int number = b.queue[0];

		memmove(b.queue, b.queue + 1, --b.queue_count * sizeof *b.queue);
		b.inflight--;
		send_to_client(number);
	}
}

/* As 2.1's loop: what was handed over is queued or sent, with what comes meanwhile; then the tick. */
static void turn(void)
{
	while (b.handed_count > 0) {
		int number = b.handed[0];
		uint8_t qos = b.handed_qos[0];

		b.handed_count--;
		memmove(b.handed, b.handed + 1, b.handed_count * sizeof *b.handed);
		memmove(b.handed_qos, b.handed_qos + 1, b.handed_count);
		if (qos > 0) {
			if (b.queue_count < b.queue_limit) b.queue[b.queue_count++] = number;
			send_queued();
		} else if (b.unread < b.unread_limit) {
			b.unread++;
			send_to_client(number);
		}
	}
	b.turn++;
	b.now_ms += 30;
	window_turn(b.window, b.turn, b.now_ms, 1000);
	(void)window_feed(b.window, &calls, b.turn, WINDOW_TURN);
}

static int setup(void **state)
{
	(void)state;
	memset(&b, 0, sizeof b);
	b.turn = 1;
	b.queue_limit = 1000;
	b.unread_limit = 1000;
	b.window = window_new();
	return b.window ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	window_free(b.window);
	return 0;
}

static void expect_in_order(int count)
{
	for (size_t i = 0; i < b.seen_count; i++) assert_int_equal(b.seen[i], i);
	assert_int_equal(b.seen_count, count);
	assert_int_equal(window_waiting(b.window), 0);
	assert_int_equal(window_unsent(b.window), 0);
	assert_int_equal(window_bytes(b.window), 0);
}

/* A client that takes three messages a turn: the broker never has more than the window. */
static void test_slow_client(void **state)
{
	(void)state;
	for (int i = 0; i < 1000; i++) {
		put(i, 1, DELIVERY_BACKLOG);
		if (i % 500 == 499) put_mark((uint32_t)i / 500 + 1, (uint64_t)i + 1);
	}
	assert_true(window_feed(b.window, &calls, b.turn, WINDOW_TURN));
	assert_int_equal(b.handed_count, WINDOW_MESSAGES);
	for (int i = 0; i < 400; i++) {
		turn();
		b.inflight += 3;
		send_queued();
	}
	assert_int_equal(b.most, WINDOW_MESSAGES);
	assert_int_equal(b.mark_count, 2);
	assert_int_equal(b.marks[1], 2);
	expect_in_order(1000);
}

/* QoS 0 has no acknowledgement: the broker drops what its queue has no room for, and the window gives it again. */
static void test_qos0_dropped(void **state)
{
	(void)state;
	b.unread_limit = 50;
	for (int i = 0; i < 1000; i++) put(i, 0, DELIVERY_BACKLOG);
	put_mark(1, 1000);
	(void)window_feed(b.window, &calls, b.turn, WINDOW_TURN);
	for (int i = 0; i < 400; i++) {
		turn();
		b.unread = b.unread > 7 ? b.unread - 7 : 0;
	}
	assert_int_equal(b.mark_count, 1);
	expect_in_order(1000);
	assert_true(window_dropped(b.window) > 0);
	assert_int_equal(window_dropped(b.window), 0);
}

/* QoS 0 passes what is queued, so it waits until nothing is. */
static void test_mixed(void **state)
{
	(void)state;
	for (int i = 0; i < 300; i++) put(i, i % 7 == 0 || i % 5 == 0 ? 0 : 1, DELIVERY_BACKLOG);
	(void)window_feed(b.window, &calls, b.turn, WINDOW_TURN);
	for (int i = 0; i < 600; i++) {
		turn();
		b.inflight = 2;
		send_queued();
		b.unread = 0;
	}
	expect_in_order(300);
	assert_int_equal(window_dropped(b.window), 0);
}

/* What was handed over with QoS 0 is not sent yet: what joins it in a later turn could pass it, or be dropped before it. */
static void test_qos0_in_another_turn(void **state)
{
	(void)state;
	b.unread_limit = 1000;
	put(0, 0, DELIVERY_BACKLOG);
	(void)window_feed(b.window, &calls, 1, WINDOW_TURN);
	put(1, 0, DELIVERY_BACKLOG);
	put(2, 0, DELIVERY_BACKLOG);
	size_t handed = window_waiting(b.window);
	(void)window_feed(b.window, &calls, 2, WINDOW_TURN);
	assert_int_equal(window_waiting(b.window), handed);
}

/* What is handed over while the broker sends the last of before is taken up in that turn. Dropped, it is behind nothing new. */
static void test_qos0_dropped_behind_the_last(void **state)
{
	(void)state;
	b.unread_limit = 1;
	put(0, 1, DELIVERY_BACKLOG);
	for (int i = 1; i < 4; i++) put(i, 0, DELIVERY_BACKLOG);
	(void)window_feed(b.window, &calls, b.turn, WINDOW_TURN);
	b.inflight = 1;
	turn(); /* 0 is sent, and 1 behind it */
	assert_int_equal(b.seen_count, 2);
	put(4, 0, DELIVERY_BACKLOG);
	(void)window_feed(b.window, &calls, b.turn, WINDOW_TURN);
	b.unread = 0;
	b.unread_limit = 1000;
	for (int i = 0; i < 3; i++) turn();
	expect_in_order(5);
}

/* The broker's queue is smaller than the window: what it dropped comes later, nothing is lost. */
static void test_qos1_dropped(void **state)
{
	bool got[200] = {false};

	(void)state;
	b.queue_limit = 30;
	for (int i = 0; i < 200; i++) put(i, 1, DELIVERY_BACKLOG);
	(void)window_feed(b.window, &calls, b.turn, WINDOW_TURN);
	for (int i = 0; i < 400; i++) {
		turn();
		b.inflight = 4;
		send_queued();
	}
	for (size_t i = 0; i < b.seen_count; i++) {
		assert_false(got[b.seen[i]]);
		got[b.seen[i]] = true;
	}
	/* The last ones dropped show only when something is sent behind them. */
	assert_int_equal(b.seen_count + window_unsent(b.window), 200);
	assert_true(window_unsent(b.window) <= WINDOW_MESSAGES);
	assert_true(window_dropped(b.window) > 0);
}

static void test_at_once(void **state)
{
	(void)state;
	for (int i = 0; i < WINDOW_AT_ONCE + 10; i++) put(i, 1, DELIVERY_HELD);
	(void)window_feed(b.window, &calls, b.turn, WINDOW_AT_ONCE_TURN);
	assert_int_equal(window_unsent(b.window), WINDOW_AT_ONCE);
	assert_int_equal(window_waiting(b.window), 10);
	window_take_back(b.window, 4);
	assert_int_equal(window_waiting(b.window), 4);
	b.inflight = 2000;
	for (int i = 0; i < 20; i++) turn();
	expect_in_order(WINDOW_AT_ONCE + 4);
}

/* A batch is cut short: what of it is handed over is told, the rest goes. */
static void test_part(void **state)
{
	struct window_mark part;

	(void)state;
	assert_false(window_part(b.window, &part));
	for (int i = 0; i < 150; i++) put(i, 1, DELIVERY_BACKLOG);
	put_mark(1, 150);
	for (int i = 150; i < 200; i++) put(i, 1, DELIVERY_BACKLOG);
	put_mark(2, 200);
	(void)window_feed(b.window, &calls, b.turn, WINDOW_TURN);
	assert_true(window_part(b.window, &part));
	assert_int_equal(part.upto.seq, WINDOW_MESSAGES);
	assert_int_equal(part.sequence, 1);
	assert_true(slice_equal(part.filters, slice_str("f")));
	window_drop_batches(b.window);
	assert_false(window_part(b.window, &part));
	assert_int_equal(window_waiting(b.window), 0);
	b.inflight = 2000;
	turn();
	assert_int_equal(b.mark_count, 0);
	expect_in_order(WINDOW_MESSAGES);
}

static void test_expired_and_refused(void **state)
{
	struct message m = {.id = {1, 1}, .topic = slice_str("t"), .payload = slice_str("expired"), .client = slice_str("p"),
		.qos = 1, .payload_format = -1, .has_expiry = true, .expiry_ms = 5};

	(void)state;
	assert_int_equal(window_put(b.window, &m, DELIVERY_BACKLOG, false), ST_OK);
	put(0, 1, DELIVERY_BACKLOG);
	b.refuse = true;
	assert_false(window_feed(b.window, &calls, b.turn, WINDOW_TURN));
	b.refuse = false;
	assert_true(window_feed(b.window, &calls, b.turn, WINDOW_TURN));
	assert_int_equal(b.handed_count, 1);
	b.inflight = 1;
	turn();
	expect_in_order(1);
	/* One that expires in the broker's queue is never sent. */
	m.payload = slice_str("1");
	assert_int_equal(window_put(b.window, &m, DELIVERY_BACKLOG, false), ST_OK);
	(void)window_feed(b.window, &calls, b.turn, WINDOW_TURN);
	assert_int_equal(window_unsent(b.window), 1);
	window_turn(b.window, b.turn + 1, b.now_ms, 2000);
	assert_int_equal(window_unsent(b.window), 0);
}

/* Random puts, turns and reading. */
static void test_random(void **state)
{
	struct seeds s = seeds(1, 50);

	for (unsigned seed = s.first; seed < s.end; seed++) {
		unsigned now = seed;
		int count = 0;

		teardown(state);
		setup(state);
		b.unread_limit = 20 + seed % 50;
		for (int step = 0; step < 2000; step++) {
			unsigned what = (unsigned)rand_r(&now) % 8;

			if (what < 4 && count < 1500) put(count++, (uint8_t)((unsigned)rand_r(&now) % 2), DELIVERY_BACKLOG);
			else if (what == 4) turn();
			else if (what == 5) b.unread = (unsigned)rand_r(&now) % 2 ? 0 : b.unread;
			else {
				b.inflight += (unsigned)rand_r(&now) % 5;
				send_queued();
			}
		}
		for (int i = 0; i < 4000; i++) {
			turn();
			b.unread = 0;
			b.inflight = 20;
			send_queued();
		}
		expect_in_order(count);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_slow_client, setup, teardown),
		cmocka_unit_test_setup_teardown(test_qos0_dropped, setup, teardown),
		cmocka_unit_test_setup_teardown(test_qos0_dropped_behind_the_last, setup, teardown),
		cmocka_unit_test_setup_teardown(test_mixed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_qos0_in_another_turn, setup, teardown),
		cmocka_unit_test_setup_teardown(test_qos1_dropped, setup, teardown),
		cmocka_unit_test_setup_teardown(test_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_part, setup, teardown),
		cmocka_unit_test_setup_teardown(test_expired_and_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_random, setup, teardown),
	};

	seeds_test_wanted();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
