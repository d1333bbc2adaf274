/*
 * The seam between backlog and live under load: publishers that do not pause on many topics, and everything a device can do
 * in the middle of a catch-up. What a device got is looked at topic by topic: no gap, no step back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/harness/guest.h"
#include "tests/harness/packet.h"
#include "tests/harness/publisher.h"
#include "tests/harness/store.h"

#define WAIT_MS 60000
#define SLOWER_MS 5000
#define PACE_MIN 250
#define TOPICS PUBLISHER_CONNECTIONS_MAX
#define MANY_TOPICS 3000L
#define PLANT "mirror plant/# stream s:%t\nredeliver plant/# overlap=0\n"
#define SLOW_PLANT "mirror plant/# stream s:%t\nredeliver plant/# overlap=10s rate=1000\n"

/* Where a device stands in each topic. */
struct progress {
	size_t seen;           /* of its inbox */
	long next[TOPICS];
};

static long total(struct publisher *p)
{
	long sent = 0;

	for (unsigned t = 0; t < TOPICS; t++) sent += publisher_sent(p, t);
	return sent;
}

static unsigned topic_of(const char *topic)
{
	unsigned t = (unsigned)atoi(topic + strlen("plant/"));

	assert_true(t < TOPICS);
	return t;
}

/* What came since the last look goes on in every topic. `repeats`: a connection has ended uncleanly, so each topic may
 * once step back. */
static void look(struct guest *d, struct progress *g, bool repeats)
{
	bool began[TOPICS] = {false};
	size_t count = guest_count(d);

	for (; g->seen < count; g->seen++) {
		struct received r = guest_message(d, g->seen);
		unsigned t = topic_of(r.topic);
		long number = atol(r.payload);
		bool fits = repeats && !began[t] ? number <= g->next[t] : number == g->next[t];

		scene_require(fits, "message %zu: %s has %ld where %ld is due", g->seen, r.topic, number, g->next[t]);
		began[t] = true;
		g->next[t] = number + 1;
	}
}

static bool complete(struct guest *d, struct progress *g, struct publisher *p, bool repeats)
{
	look(d, g, repeats);
	for (unsigned t = 0; t < TOPICS; t++) {
		if (g->next[t] != publisher_sent(p, t)) return false;
	}
	return true;
}

/* The publishers rest, and the device has all they sent. */
static void rest(struct guest *d, struct progress *g, struct publisher *p)
{
	assert_true(publisher_rest(p, WAIT_MS));
	wait_until(complete(d, g, p, false), WAIT_MS, "the device to have everything");
}

static void publish_more(struct publisher *p, long count)
{
	long until = total(p) + count;

	wait_until(total(p) >= until, WAIT_MS, "the publishers to go on");
}

/* The device's n-th switch to live, while messages never pause. None can catch up with more than it can take, and what that is the
 * machine decides: a window of unacknowledged messages goes to and fro between three processes. So it is half as many a second each
 * time that has taken a while. */
static unsigned wait_live(struct world *w, struct publisher *p, unsigned pace, size_t n)
{
	uint64_t slower = now_ms() + SLOWER_MS;

	while (pace > PACE_MIN && world_events(w, "live", "d") < n) {
		if (now_ms() < slower) {
			poll_pause();
			continue;
		}
		pace /= 2;
		print_message("not live yet: %u messages a second from here on\n", pace);
		publisher_pace(p, pace);
		slower = now_ms() + SLOWER_MS;
	}
	world_wait_event(w, "live", "d", n);
	return pace;
}

/* Again and again the device says goodbye and comes back while eight publishers send thousands a second; from its
 * SUBSCRIBE until it is live they do not pause. Only for its goodbye they rest: with overlap=0, what is under way then is
 * the device's loss. `kept`: in a session, without SUBSCRIBE. */
static void reconnect(struct scene *scene, const char *options, size_t rounds, bool kept)
{
	struct progress g = {0};
	unsigned pace = 4000;
	struct world w;

	world_start_with(&w, scene, PLANT, options, WORLD_BRIDGE);
	struct publisher *p = publisher_start(scene, server_port(w.broker), "plant", TOPICS, 32);
	struct guest *d = guest_join(&w, "d", &(struct guest_options){.keep_session = kept});
	guest_subscribe(d, "plant/#", kept ? 0 : 1);
	world_wait_event(&w, "live", "d", 1);
	for (size_t round = 1; round <= rounds; round++) {
		guest_disconnect(d);
		world_wait_event(&w, "gone", "d", round);
		publisher_pace(p, pace);
		publish_more(p, 60);
		guest_connect(d);
		if (!kept) guest_subscribe(d, "plant/#", round % 5 ? 1 : 0);
		pace = wait_live(&w, p, pace, round + 1); /* a machine that was too slow is so in the next round */
		publish_more(p, 20);
		rest(d, &g, p);
	}
	guest_settle(d);
	assert_int_equal(guest_count(d), total(p));
	scene_end(scene);
}

static void test_hundred_reconnects(void **state)
{
	reconnect(*state, NULL, 100, false);
}

/* 2.0.11 does not tell of the turns of its loop then. */
static void test_reconnects_of_one_listener(void **state)
{
	reconnect(*state, BROKER_PER_LISTENER, 20, false);
}

/* The broker keeps the device's session, and it does not subscribe again in it: what shows that it is back is a message. With QoS 0,
 * so that the broker has queued nothing. */
static void test_reconnects_of_a_kept_session(void **state)
{
	reconnect(*state, NULL, 30, true);
}

/* The same, and there is no bridge: the device is not left silent, and the counters are published. */
static void test_one_listener_without_a_bridge(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start_with(&w, scene, PLANT "hold_timeout 1s\n", BROKER_PER_LISTENER, 0);
	struct guest *p = guest_join(&w, "p", NULL), *d = guest_join(&w, "d", NULL), *s = guest_join(&w, "s", NULL);
	guest_subscribe(d, "plant/#", 1);
	guest_subscribe(s, "$SYS/broker/redis/in", 0);
	uint64_t limit = now_ms() + WAIT_MS;
	for (int i = 0; guest_count(d) == 0 || guest_count(s) == 0; i++) {
		char text[16];

		(void)snprintf(text, sizeof(text), "%d", i);
		guest_publish(p, "plant/0", text, 1);
		poll_pause();
		scene_require(now_ms() < limit, "the device has %zu, the counter came %zu times", guest_count(d), guest_count(s));
	}
	guest_publish(p, "plant/0", "last", 1);
	wait_until(strcmp(guest_message(d, guest_count(d) - 1).payload, "last") == 0, WAIT_MS, "the last");
	scene_end(scene);
}

/* A backlog, and messages that never pause: the switch comes all the same. `killed`: the bridge, in the middle. */
static void converge(struct scene *scene, bool killed)
{
	struct progress g = {0};
	struct world w;

	world_start(&w, scene, PLANT, WORLD_BRIDGE);
	struct publisher *p = publisher_start(scene, server_port(w.broker), "plant", TOPICS, 32);
	struct guest *d = guest_join(&w, "d", NULL);
	guest_subscribe(d, "plant/#", 1);
	world_wait_event(&w, "live", "d", 1);
	guest_disconnect(d);
	world_wait_event(&w, "gone", "d", 1);
	publisher_pace(p, 5000);
	publish_more(p, 8000);
	guest_connect(d);
	guest_subscribe(d, "plant/#", 1);
	if (killed) {
		size_t from = server_log_size(w.broker);

		guest_wait(d, 500, WAIT_MS);
		server_kill(w.bridge);
		server_start(w.bridge);
		world_wait_bridge(&w, from);
	}
	wait_live(&w, p, 5000, 2);
	publish_more(p, 2000);
	rest(d, &g, p);
	assert_int_equal(guest_count(d), total(p));
	scene_end(scene);
}

static void test_converges(void **state)
{
	converge(*state, false);
}

static void test_converges_over_a_kill(void **state)
{
	converge(*state, true);
}

/* The next message of one publisher that goes round over many topics: `n`-th of all, its number in its topic as payload. */
static void send_round(struct guest *p, long n)
{
	char topic[32], text[16];
	int len;

	(void)snprintf(topic, sizeof(topic), "plant/%ld", n * 7919 % MANY_TOPICS);
	len = snprintf(text, sizeof(text), "%ld", n / MANY_TOPICS);
	scene_require(guest_send(p, topic, text, (size_t)len, 1, false, 200) >= 0, "publisher lost");
}

/* Over far more topics than a bridge asks Redis about at once, which all go on while the device catches up. The publisher does not
 * pause, but that on a machine that has taken a while it rests a moment behind so many messages, half as many each time. */
static void test_many_topics(void **state)
{
	static long next[MANY_TOPICS];
	struct scene *scene = *state;
	long n = 0, burst = 4096;
	struct world w;

	memset(next, 0, sizeof(next));
	world_start_with(&w, scene, PLANT, "plugin_opt_journal_size 32M\n", WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL), *d = guest_join(&w, "d", NULL);
	guest_subscribe(d, "plant/#", 1);
	world_wait_event(&w, "live", "d", 1);
	guest_disconnect(d);
	world_wait_event(&w, "gone", "d", 1);
	while (n < 4 * MANY_TOPICS) send_round(p, n++);
	guest_connect(d);
	guest_subscribe_nowait(d, "plant/#", 1);
	uint64_t slower = now_ms() + SLOWER_MS, limit = now_ms() + (uint64_t)WAIT_MS * 2 * instrument_slowness();
	while (n % 500 != 0 || world_events(&w, "live", "d") < 2) {
		send_round(p, n++);
		if (n % burst == 0) poll_pause();
		scene_require(now_ms() < limit, "not live, %ld messages behind its SUBSCRIBE", n - 4 * MANY_TOPICS);
		if (burst == 1 || now_ms() < slower) continue;
		burst /= 2;
		slower = now_ms() + SLOWER_MS;
	}
	assert_true(guest_flush(p, WAIT_MS));
	guest_wait(d, (size_t)n, WAIT_MS);
	guest_settle(d);
	assert_int_equal(guest_count(d), n);
	for (size_t i = 0; i < guest_count(d); i++) {
		struct received r = guest_message(d, i);
		long t = atol(r.topic + strlen("plant/"));

		scene_require(atol(r.payload) == next[t], "message %zu: %s has %s where %ld is due", i, r.topic, r.payload, next[t]);
		next[t]++;
	}
	scene_end(scene);
}

/* In the middle of a catch-up, messages never pausing: the same filter again, a second filter that overlaps, and one of
 * the two taken back. */
static void test_filters_in_the_middle(void **state)
{
	struct scene *scene = *state;
	struct progress g = {0};
	struct world w;

	world_start(&w, scene, "mirror plant/# stream s:%t\nredeliver plant/# overlap=0 rate=400\n", WORLD_BRIDGE);
	struct publisher *p = publisher_start(scene, server_port(w.broker), "plant", TOPICS, 32);
	struct guest *d = guest_join(&w, "d", NULL);
	guest_subscribe(d, "plant/#", 1);
	world_wait_event(&w, "live", "d", 1);
	guest_subscribe(d, "plant/1", 1); /* it starts over, which is written as an end */
	world_wait_event(&w, "live", "d", 2);
	guest_disconnect(d);
	world_wait_event(&w, "gone", "d", 2);
	publisher_pace(p, 1000);
	publish_more(p, 2000);
	guest_connect(d);
	guest_subscribe(d, "plant/#", 1);
	guest_wait(d, 200, WAIT_MS);
	guest_subscribe(d, "plant/#", 1);
	guest_subscribe(d, "plant/1", 1);
	guest_wait(d, 600, WAIT_MS);
	guest_subscribe(d, "plant/+", 1);
	guest_subscribe(d, "plant/#", 0);
	guest_wait(d, 1000, WAIT_MS);
	guest_unsubscribe(d, "plant/1");
	guest_unsubscribe(d, "plant/+");
	rest(d, &g, p);
	publisher_pace(p, 1000);
	publish_more(p, 200);
	rest(d, &g, p);
	guest_settle(d);
	assert_int_equal(guest_count(d), total(p));
	scene_end(scene);
}

/* What the broker has queued for it has come: a message of the same QoS behind that, which no rule meets. Returns how many it has
 * had then. */
static size_t wait_for_queue(struct guest *d)
{
	size_t had;

	guest_subscribe(d, "behind", 1);
	guest_publish(d, "behind", "all", 1);
	wait_until((had = guest_count(d)) > 0 && strcmp(guest_message(d, had - 1).topic, "behind") == 0, WAIT_MS, "what is queued");
	return had;
}

/* The only filter is taken back in the middle of its catch-up: nothing more comes, and later it is a new one. */
static void test_unsubscribe_in_the_middle(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, SLOW_PLANT, WORLD_BRIDGE);
	struct publisher *p = publisher_start(scene, server_port(w.broker), "plant", TOPICS, 32);
	struct guest *d = guest_join(&w, "d", NULL);
	guest_subscribe(d, "plant/#", 1);
	world_wait_event(&w, "live", "d", 1);
	guest_disconnect(d);
	world_wait_event(&w, "gone", "d", 1);
	publisher_pace(p, 4000);
	publish_more(p, 3000);
	guest_connect(d);
	guest_subscribe(d, "plant/#", 1);
	guest_wait(d, 100, WAIT_MS);
	guest_unsubscribe(d, "plant/#");
	size_t had = wait_for_queue(d);
	publish_more(p, 500);
	assert_true(publisher_rest(p, WAIT_MS));
	guest_settle(d);
	assert_int_equal(guest_count(d), had);
	guest_subscribe(d, "plant/#", 1);
	world_wait_event(&w, "live", "d", 2);
	struct guest *one = guest_join(&w, "one", NULL);
	guest_publish(one, "plant/0", "new", 1);
	guest_expect(d, had, "new", NULL);
	scene_end(scene);
}

/* The connection is lost, or said goodbye to, in the middle, again and again: each goes on where the one before ended, or
 * up to `overlap` before that. Where the broker tells a goodbye, that is taken at its word, and what was under way is the
 * device's loss. */
static void test_disconnects_in_the_middle(void **state)
{
	enum { ROUNDS = 6 };
	struct scene *scene = *state;
	bool told = broker_has_events(scene);
	struct progress g = {0};
	struct world w;

	world_start(&w, scene, SLOW_PLANT, WORLD_BRIDGE);
	struct publisher *p = publisher_start(scene, server_port(w.broker), "plant", TOPICS, 32);
	struct guest *d = guest_join(&w, "d", NULL);
	guest_subscribe(d, "plant/#", 1);
	world_wait_event(&w, "live", "d", 1);
	publisher_pace(p, 400);
	for (size_t round = 1; round <= ROUNDS; round++) {
		if (round % 2 || told) guest_drop(d);
		else guest_disconnect(d);
		look(d, &g, true);
		world_wait_event(&w, "gone", "d", round);
		guest_connect(d);
		guest_subscribe(d, "plant/#", 1);
		size_t had = guest_count(d);
		guest_wait(d, had + 150, WAIT_MS);
		look(d, &g, true);
	}
	assert_true(publisher_rest(p, WAIT_MS));
	wait_until(complete(d, &g, p, false), WAIT_MS, "the device to have everything");
	scene_end(scene);
}

/* Another connection of the same name takes over in the middle: `d` and `e` are one device, which so catches up twice at
 * once. Each connection's sequence is unbroken, and none begins behind where the one before ended. */
static void test_takeover_in_the_middle(void **state)
{
	enum { ROUNDS = 6 };
	struct scene *scene = *state;
	struct progress g = {0};
	struct world w;

	world_start(&w, scene, SLOW_PLANT, WORLD_BRIDGE);
	struct publisher *p = publisher_start(scene, server_port(w.broker), "plant", TOPICS, 32);
	struct guest *both[2] = {guest_join(&w, "d", NULL), guest_new(&w, "d", NULL)};
	size_t seen[2] = {0};
	guest_subscribe(both[0], "plant/#", 1);
	world_wait_event(&w, "live", "d", 1);
	publisher_pace(p, 400);
	publish_more(p, 400);
	for (size_t round = 1; round <= ROUNDS; round++) {
		struct guest *old = both[(round + 1) % 2], *fresh = both[round % 2];

		guest_connect(fresh);
		guest_subscribe_nowait(fresh, "plant/#", 1);
		wait_until(!guest_connected(old), WAIT_MS, "the old connection to end");
		g.seen = seen[(round + 1) % 2];
		look(old, &g, true);
		seen[(round + 1) % 2] = g.seen;
		g.seen = seen[round % 2];
		guest_wait(fresh, g.seen + (round % 2 ? 150 : 1), WAIT_MS);
	}
	assert_true(publisher_rest(p, WAIT_MS));
	wait_until(complete(both[0], &g, p, true), WAIT_MS, "the device to have everything");
	scene_end(scene);
}

static int connection_to(uint16_t port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	return fd;
}

/* What a connection is sent: its own backlog, which begins with 0, and perhaps something ahead of that. */
struct coming {
	bool subscribed, early;  /* early: something came ahead of SUBACK */
	long ahead, next;
};

/* Takes what has come, of QoS 0. Returns how much of it is left over. */
static size_t take_packets(char *in, size_t len, struct coming *c)
{
	struct packet k;
	size_t at = 0;

	for (; packet_read(in + at, len - at, &k); at += k.whole) {
		size_t topic = k.len > 1 ? (size_t)(unsigned char)k.body[1] + 2 : k.len;
		long number;

		if (k.first >> 4 == 9) c->subscribed = true;
		if (k.first >> 4 != 3) continue;
		number = strtol(strndupa(k.body + topic, k.len - topic), NULL, 10);
		if (!c->subscribed) c->early = true;
		if (c->next == 0 && number != 0) {
			c->ahead++;
			continue;
		}
		scene_require(number == c->next, "%ld where %ld is due", number, c->next);
		c->next++;
	}
	memmove(in, in + at, len - at);
	return len - at;
}

/* The first `count` of its own backlog, in order. */
static struct coming read_backlog(int fd, long count)
{
	static char in[1 << 20];
	uint64_t until = now_ms() + WAIT_MS;
	struct coming c = {0};
	size_t len = 0;

	while (c.next < count && now_ms() < until) {
		struct pollfd readable = {.fd = fd, .events = POLLIN};
		ssize_t n = poll(&readable, 1, 100) == 1 ? read(fd, in + len, sizeof(in) - len) : 0;

		if (n > 0) len = take_packets(in, len + (size_t)n, &c);
	}
	assert_true(c.next >= count);
	return c;
}

/* The broker deals with a batch for one connection and with the CONNECT of another that takes over in the same turn: the second gets
 * its own backlog, all of it from the beginning, and nothing of what was for the first. */
static void takeover_in_one_turn(struct scene *scene, const char *options)
{
	enum { ROUNDS = 15 };
	char packets[256];
	int fd[ROUNDS];
	struct world w;
	long ahead = 0;
	int early = 0;

	world_start_with(&w, scene, "mirror plant/# stream s:%t\nredeliver plant/# overlap=1h\n", options, WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL), *d = guest_join(&w, "d", NULL);
	guest_subscribe(d, "plant/0", 1);
	world_wait_event(&w, "live", "d", 1);
	guest_drop(d);
	world_wait_event(&w, "gone", "d", 1);
	for (int i = 0; i < 30000; i++) {
		char text[16];
		int len = snprintf(text, sizeof(text), "%d", i);

		(void)guest_send(p, "plant/0", text, (size_t)len, 0, false, 1000);
	}
	guest_publish(p, "plant/0", "30000", 1);
	guest_connect(d);
	guest_subscribe(d, "plant/0", 1);
	guest_wait(d, 800, WAIT_MS);
	for (int round = 0; round < ROUNDS; round++) { /* a batch is there first in one of three */
		size_t from = server_log_size(w.broker), len = packet_connect(packets, "d", true);

		fd[round] = connection_to(server_port(w.broker));
		server_log_wait(w.broker, from, "New connection", WAIT_MS);
		server_pause(w.broker); /* the bridge goes on until its window is full */
		len += packet_subscribe(packets + len, "plant/0", 1);
		assert_int_equal(write(fd[round], packets, len), len);
		server_continue(w.broker);
		struct coming c = read_backlog(fd[round], 200);

		ahead += c.ahead;
		early += c.early;
	}
	scene_require(ahead == 0 && early == 0, "%ld messages ahead of a backlog, in %d rounds ahead of SUBACK", ahead, early);
	for (int round = 0; round < ROUNDS; round++) (void)close(fd[round]);
	scene_end(scene);
}

static void test_takeover_in_one_turn(void **state)
{
	takeover_in_one_turn(*state, NULL);
}

static void test_takeover_of_one_listener(void **state)
{
	takeover_in_one_turn(*state, BROKER_PER_LISTENER);
}

/* The broker is killed in the middle of a catch-up: nothing is missing afterwards. */
static void test_broker_killed_in_the_middle(void **state)
{
	struct scene *scene = *state;
	struct progress g = {0};
	struct world w;

	world_start(&w, scene, SLOW_PLANT, WORLD_BRIDGE);
	struct publisher *p = publisher_start(scene, server_port(w.broker), "plant", TOPICS, 32);
	struct guest *d = guest_join(&w, "d", NULL);
	guest_subscribe(d, "plant/#", 1);
	world_wait_event(&w, "live", "d", 1);
	guest_disconnect(d);
	world_wait_event(&w, "gone", "d", 1);
	publisher_pace(p, 4000);
	publish_more(p, 2500);
	assert_true(publisher_rest(p, WAIT_MS));
	guest_connect(d);
	guest_subscribe(d, "plant/#", 1);
	guest_wait(d, 500, WAIT_MS);
	size_t from = server_log_size(w.broker);
	server_kill(w.broker);
	wait_until(!guest_connected(d), WAIT_MS, "the end of the connection");
	look(d, &g, true);
	server_start(w.broker);
	world_wait_bridge(&w, from);
	guest_connect(d);
	guest_subscribe(d, "plant/#", 1);
	wait_until(complete(d, &g, p, true), WAIT_MS, "the device to have everything");
	scene_end(scene);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_hundred_reconnects),
		scene_test(test_reconnects_of_one_listener),
		scene_test(test_reconnects_of_a_kept_session),
		scene_test(test_one_listener_without_a_bridge),
		scene_test(test_converges), scene_test(test_converges_over_a_kill), scene_test(test_many_topics),
		scene_test(test_filters_in_the_middle),
		scene_test(test_unsubscribe_in_the_middle),
		scene_test(test_disconnects_in_the_middle),
		scene_test(test_takeover_in_one_turn),
		scene_test(test_takeover_of_one_listener),
		scene_test(test_takeover_in_the_middle),
		scene_test(test_broker_killed_in_the_middle),
	};

	if (argc > 1) cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
