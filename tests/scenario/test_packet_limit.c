/*
 * A broker that takes small packets only (max_packet_size): batches of a backlog become smaller until they fit, and what alone is
 * too large is left out, with a line in the log.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/harness/guest.h"
#include "tests/harness/store.h"

#define WAIT_MS 60000

enum { MESSAGES = 100, SIZE = 600, PACKET = 4000 };

static void test_small_packets(void **state)
{
	struct scene *s = *state;
	struct world w;
	char payload[PACKET + 1001];
	unsigned long long ms, seq;

	world_start_with(&w, s, "mirror plant/# stream plant\nredeliver plant/#\n", scene_text(s, "max_packet_size %d\n", PACKET),
		WORLD_BRIDGE);
	struct guest *d = guest_join(&w, "device", NULL), *p = guest_join(&w, "publisher", NULL);
	guest_subscribe(d, "plant/#", 1);
	world_wait_event(&w, "live", "device", 1);
	guest_disconnect(d);
	world_wait_event(&w, "gone", "device", 1);
	memset(payload, 'x', sizeof(payload));
	for (int i = 0; i < MESSAGES; i++) {
		(void)snprintf(payload, 8, "%06d ", i);
		payload[7] = 'x';
		guest_publish_bytes(p, "plant/1", payload, SIZE, 1, false, NULL);
	}
	store_wait_stream(w.db, "plant", MESSAGES, WAIT_MS);
	/* By hand, as no broker of that kind would let it in. */
	const redisReply *last = store_query(w.db, "XREVRANGE", "plant", "+", "-", "COUNT", "1", NULL);
	assert_int_equal(sscanf(stored_id(last->element[0]), "%llu-%llu", &ms, &seq), 2);
	payload[sizeof(payload) - 1] = '\0';
	(void)store_query(w.db, "XADD", "plant", scene_text(s, "%llu-%llu", ms, seq + 1), "topic", "plant/large", "payload", payload, "qos",
		"1", "retain", "0", "client", "x", NULL);
	poll_pause(); /* into another millisecond, or "end" gets the id that was made up */
	guest_publish(p, "plant/1", "end", 1);
	guest_connect(d);
	guest_subscribe(d, "plant/#", 1);
	guest_wait(d, MESSAGES + 1, WAIT_MS);
	wait_until(strcmp(guest_message(d, guest_count(d) - 1).payload, "end") == 0, WAIT_MS, "the end");
	int next = 0;
	for (size_t i = 0; i + 1 < guest_count(d); i++) { /* in order; what was sent again may repeat */
		struct received r = guest_message(d, i);
		int n = atoi(r.payload);
		scene_require(strcmp(r.topic, "plant/1") == 0 && n <= next, "number %d of %s where %d is due", n, r.topic, next);
		if (n == next) next++;
	}
	assert_int_equal(next, MESSAGES);
	server_log_wait(w.bridge, 0, "redelivery: the broker takes no batch of ", WAIT_MS);
	server_log_wait(w.bridge, 0, "device device: a message of ", WAIT_MS);
	assert_true(server_log_has(w.bridge, 0, "is larger than the broker takes (max_packet_size) and is left out"));
	scene_end(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_small_packets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
