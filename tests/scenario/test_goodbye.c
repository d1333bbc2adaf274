/*
 * Clean goodbyes in the middle of a load. Mosquitto 2.1 tells them, and what it has sent: a device that reads what it was sent
 * misses nothing and is given nothing twice. 2.0.x does not: nothing is missed, and `overlap` comes again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/harness/publisher.h"
#include "tests/harness/reader.h"

#define WAIT_MS 60000
#define TOPICS PUBLISHER_CONNECTIONS_MAX

struct account {
	bool told;              /* nothing may come twice */
	bool began[TOPICS];     /* in this connection; where not told, a topic may begin again from before */
	long next[TOPICS];
	long count;
};

static void came(void *ctx, const char *topic, const char *payload)
{
	struct account *a = ctx;
	unsigned t = (unsigned)atoi(topic + strlen("plant/"));
	long number = atol(payload);
	bool fits;

	assert_true(t < TOPICS);
	fits = number == a->next[t] || (!a->told && !a->began[t] && number < a->next[t]);
	scene_require(fits, "%s has %ld where %ld is due (message %ld)", topic, number, a->next[t], a->count);
	a->began[t] = true;
	a->next[t] = number + 1;
	a->count++;
}

static bool complete(struct reader *r, const struct account *a, struct publisher *p)
{
	reader_turn(r, 20, true);
	for (unsigned t = 0; t < TOPICS; t++) {
		if (a->next[t] != publisher_sent(p, t)) return false;
	}
	return true;
}

static void come(struct reader *r, struct account *a)
{
	memset(a->began, 0, sizeof a->began);
	reader_connect(r, "plant/#");
}

/* Live, or in the middle of its backlog; reading to the last, or with so much unacknowledged that the broker has to queue:
 * a hundred times the device says goodbye while the publishers go on (where it is not told, some times). */
static void test_hundred_goodbyes(void **state)
{
	struct scene *scene = *state;
	struct account a = {.told = broker_has_events(scene)};
	struct world w;

	world_start(&w, scene, a.told ? "mirror plant/# stream s:%t\nredeliver plant/#\n"
		: "mirror plant/# stream s:%t\nredeliver plant/# overlap=20s\n", WORLD_BRIDGE);
	struct publisher *p = publisher_start(scene, server_port(w.broker), "plant", TOPICS, 32);
	struct reader *r = reader_new(scene, server_port(w.broker), "d", true, came, &a);
	come(r, &a);
	world_wait_event(&w, "live", "d", 1);
	for (unsigned round = 0; round < (a.told ? 100 : 25); round++) {
		publisher_pace(p, 1500 + round * 37 % 1000);
		reader_turn(r, round * 7 % 50, true);
		if (round % 2) reader_turn(r, 10 + round % 40, false);
		reader_goodbye(r);
		if (round % 10 == 3) world_wait_event(&w, "gone", "d", 1);
		come(r, &a);
		for (size_t live = world_events(&w, "live", "d"), i = 0; round % 3 && i < 200; i++) {
			reader_turn(r, 10, true);
			if (world_events(&w, "live", "d") > live) break;
		}
	}
	reader_turn(r, 100, true);
	assert_true(publisher_rest(p, WAIT_MS));
	wait_until(complete(r, &a, p), WAIT_MS, "the device to have everything");
	reader_turn(r, 200, true);
	scene_end(scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {scene_test(test_hundred_goodbyes)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
