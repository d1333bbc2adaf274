/*
 * What is done at the end of a turn and meanwhile with a broker that does not tell of its turns: which of core's functions is called
 * when, and what is published when. Against a broker that delivers what plugins publish at the start of a turn, one after the other,
 * with what is published meanwhile.
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
#include <utlist.h>

#include "config/control.h"
#include "plugin/untold.h"
#include "tests/faults/fault.h"

#define GO_MAX 100 /* messages that the broker delivers in one turn; it must come to an end */

struct core {
	unsigned waits;            /* something does for the end of so many turns */
	unsigned turns, meanwhile, quiet; /* how often it was called */
	const char *due;           /* this one is handed something at the next turn; NULL: nobody */
	const char *withdraws;     /* what is for this one comes again */
};

struct published {
	struct published *next, *prev;
	char client[16], topic[64];
	void *payload;
	size_t len;
};

static struct {
	struct core core;
	struct handed handed;
	struct untold untold;
	struct published *list;
	uint64_t published, now_ms;
	bool deaf;                 /* the broker does not deliver calls */
	char delivered[64];        /* client ids, but of calls */
	unsigned logged;
} w;

/* --- the broker, until it delivers ------------------------------------------------------------------------------------ */

void *mosquitto_malloc(size_t size)
{
	return malloc(size);
}

void mosquitto_free(void *mem)
{
	free(mem);
}

int mosquitto_broker_publish(const char *client, const char *topic, int len, void *payload, int qos, bool retain,
	mosquitto_property *properties)
{
	struct published *p = calloc(1, sizeof *p);

	(void)qos;
	assert_non_null(p);
	assert_false(retain);
	assert_null(properties);
	(void)snprintf(p->client, sizeof p->client, "%s", client ? client : "");
	(void)snprintf(p->topic, sizeof p->topic, "%s", topic);
	p->payload = payload;
	p->len = (size_t)len;
	DL_APPEND(w.list, p);
	return MOSQ_ERR_SUCCESS;
}

/* --- as plugin/broker.c ----------------------------------------------------------------------------------------------- */

static void hand_over(void)
{
	if (w.handed.items) w.published++;
	assert_int_equal(handed_publish(&w.handed), ST_OK);
}

static void hand(const char *client)
{
	if (untold_defers(&w.untold)) {
		assert_int_equal(handed_put(&w.handed, client, "t", slice_str(""), 0, NULL), ST_OK);
		return;
	}
	w.published++;
	assert_int_equal(mosquitto_broker_publish(client, "t", 0, NULL, 0, false, NULL), MOSQ_ERR_SUCCESS);
}

static void log_line(void *ctx, enum log_level level, const char *line)
{
	(void)ctx;
	(void)level;
	(void)line;
	w.logged++;
}

/* A callback that is not about a delivery. */
static void something_happens(void)
{
	untold_begin(&w.untold);
	untold_end(&w.untold);
}

static void ends(const char *client)
{
	untold_begin(&w.untold);
	untold_disconnected(&w.untold, client);
	untold_end(&w.untold);
}

/* --- core -------------------------------------------------------------------------------------------------------------- */

uint64_t core_monotonic_ms(void)
{
	return w.now_ms;
}

bool core_is_bridge(const struct core *core, const char *client)
{
	(void)core;
	return strcmp(client, "bridge") == 0;
}

bool core_wants_turn(const struct core *core)
{
	return core->waits > 0;
}

void core_turn(struct core *core)
{
	core->turns++;
	if (core->waits > 0) core->waits--;
	if (core->due) hand(core->due);
	core->due = NULL;
}

void core_meanwhile(struct core *core, bool quiet)
{
	core->meanwhile++;
	core->quiet += quiet;
}

bool core_withdraws(struct core *core, const char *client)
{
	return core->withdraws && strcmp(core->withdraws, client) == 0;
}

/* --- the broker ------------------------------------------------------------------------------------------------------- */

static void deliver(const struct published *p)
{
	bool call = strcmp(p->topic, CONTROL_TOPIC_TURN) == 0;
	size_t at = strlen(w.delivered);

	if (call && w.deaf) return;
	if (!untold_called(&w.untold, p->topic, slice_of(p->payload ? p->payload : "", p->len))) {
		assert_true(!call || w.untold.told);
		if (!call) (void)snprintf(w.delivered + at, sizeof w.delivered - at, "%s ", p->client);
	}
	untold_end(&w.untold);
}

/* The start of a turn. */
static void turn(void)
{
	struct published *p, *next;
	unsigned count = 0;

	DL_FOREACH_SAFE(w.list, p, next) {
		assert_true(++count < GO_MAX);
		DL_DELETE(w.list, p);
		deliver(p);
		free(p->payload);
		free(p);
	}
}

static int begin(void **state)
{
	static const struct log_sink sink = {.write = log_line};

	(void)state;
	memset(&w, 0, sizeof w);
	w.now_ms = 1000000;
	w.untold = (struct untold){.core = &w.core, .handed = &w.handed, .hand_over = hand_over, .published = &w.published,
		.log = &sink};
	return 0;
}

static int begin_with_bridge(void **state)
{
	(void)begin(state);
	assert_true(untold_listens(&w.untold, "bridge", CONTROL_TOPIC_TURN));
	turn();
	assert_int_equal(w.core.turns, 1);
	return 0;
}

static int end(void **state)
{
	(void)state;
	untold_stop(&w.untold);
	untold_stop(&w.untold);
	handed_drop(&w.handed, NULL);
	turn();
	assert_null(w.list);
	assert_int_equal(w.logged, 0);
	return 0;
}

/* --- tests ------------------------------------------------------------------------------------------------------------- */

static void without_a_bridge_it_is_published_at_once(void **state)
{
	(void)state;
	w.core.waits = 1;
	hand("a");
	assert_null(w.handed.items);
	something_happens();
	turn();
	assert_string_equal(w.delivered, "a ");
	assert_int_equal(w.core.turns, 0);
}

static void without_a_bridge_time_passes_once_a_second(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 30; i++, w.now_ms += 100) something_happens();
	assert_int_equal(w.core.meanwhile, 3);
	assert_int_equal(w.core.quiet, 3);
	assert_int_equal(w.core.turns, 0);
	assert_null(w.list);
}

/* A publish of ours, or a connection's end. */
static void quiet_is_a_second_in_which_nothing_happened(void **state)
{
	(void)state;
	something_happens();
	assert_int_equal(w.core.quiet, 1);
	w.now_ms += 500;
	hand("a");
	w.now_ms += 500;
	something_happens();
	assert_int_equal(w.core.quiet, 1);
	w.now_ms += 1000;
	something_happens();
	assert_int_equal(w.core.quiet, 2);
	w.now_ms += 500;
	ends("a");
	w.now_ms += 500;
	something_happens();
	assert_int_equal(w.core.quiet, 2);
	assert_int_equal(w.core.meanwhile, 4);
}

static void only_the_bridge_listens(void **state)
{
	(void)state;
	assert_false(untold_listens(&w.untold, "a", CONTROL_TOPIC_TURN));
	assert_false(untold_listens(&w.untold, NULL, CONTROL_TOPIC_TURN));
	assert_false(untold_listens(&w.untold, "bridge", CONTROL_TOPIC_BRIDGE));
	assert_null(w.list);
	assert_true(untold_listens(&w.untold, "bridge", CONTROL_TOPIC_TURN));
	assert_non_null(w.list);
}

/* It is without turns then, as it is without a bridge, and says so; with the next bridge it has them. */
static void no_memory_for_the_listener(void **state)
{
	(void)state;
	fault_arm_in(fault_own(), FAULT_MEMORY, 1, 1, ENOMEM);
	assert_true(untold_listens(&w.untold, "bridge", CONTROL_TOPIC_TURN));
	assert_true(fault_disarm_in(fault_own()));
	assert_int_equal(w.logged, 1);
	w.logged = 0;
	assert_null(w.list);
	hand("a");
	assert_null(w.handed.items);
	turn();
	assert_string_equal(w.delivered, "a ");
	assert_true(untold_listens(&w.untold, "bridge", CONTROL_TOPIC_TURN));
	turn();
	assert_int_equal(w.core.turns, 1);
	hand("b");
	assert_non_null(w.handed.items);
}

static void with_a_bridge_it_waits_for_the_end_of_the_turn(void **state)
{
	(void)state;
	hand("a");
	assert_non_null(w.handed.items);
	assert_null(w.list);
	something_happens();
	w.core.due = "b";
	turn();
	assert_string_equal(w.delivered, "a b ");
	assert_int_equal(w.core.turns, 2);
	assert_null(w.handed.items);
	turn();
	assert_int_equal(w.core.turns, 2);
}

/* One with each turn. */
static void turns_go_on_while_something_waits(void **state)
{
	(void)state;
	w.core.waits = 5;
	something_happens();
	for (unsigned i = 0; i < 5; i++) {
		turn();
		assert_int_equal(w.core.turns, 2 + i);
	}
	turn();
	assert_null(w.list);
	assert_int_equal(w.core.turns, 6);
	assert_int_equal(w.core.meanwhile, 0);
}

static void with_a_bridge_there_is_a_turn_for_housekeeping(void **state)
{
	(void)state;
	w.now_ms += 49;
	something_happens();
	assert_null(w.list);
	w.now_ms++;
	something_happens();
	turn();
	assert_int_equal(w.core.turns, 2);
	assert_int_equal(w.core.meanwhile, 0);
}

static void without_its_listener_what_comes_again_is_left_out(void **state)
{
	(void)state;
	hand("a");
	hand("b");
	hand("c");
	w.core.withdraws = "b";
	ends("c");
	assert_non_null(w.handed.items);
	ends("bridge");
	assert_null(w.handed.items);
	hand("d");
	turn();
	assert_string_equal(w.delivered, "a c d ");
	assert_int_equal(w.core.turns, 1); /* the call that was under way is void */
}

static void calls_in_vain_are_no_listener(void **state)
{
	(void)state;
	w.deaf = true;
	hand("a");
	something_happens();
	for (unsigned i = 0; i < 3; i++) {
		assert_non_null(w.handed.items);
		turn();
		w.now_ms += 1000;
		something_happens();
	}
	assert_null(w.handed.items);
	assert_int_equal(w.core.meanwhile, 1);
	assert_int_equal(w.core.quiet, 0);
	turn();
	assert_string_equal(w.delivered, "a ");
	assert_int_equal(w.core.turns, 1);
}

static void all_rests_with_the_first_tick(void **state)
{
	(void)state;
	hand("a");
	something_happens();
	untold_told(&w.untold);
	untold_told(&w.untold);
	assert_true(untold_listens(&w.untold, "bridge", CONTROL_TOPIC_TURN));
	hand("b");
	w.core.waits = 1;
	w.now_ms += 10000;
	something_happens();
	ends("bridge");
	assert_non_null(w.handed.items);
	hand_over(); /* as the tick does */
	turn();
	assert_string_equal(w.delivered, "a b ");
	assert_null(w.list);
	assert_int_equal(w.core.turns, 1);
	assert_int_equal(w.core.meanwhile, 0);
}

int main(int argc, char **argv)
{
#define ALONE(name) cmocka_unit_test_setup_teardown(name, begin, end)
#define WITH_BRIDGE(name) cmocka_unit_test_setup_teardown(name, begin_with_bridge, end)
	const struct CMUnitTest tests[] = {
		ALONE(without_a_bridge_it_is_published_at_once),
		ALONE(without_a_bridge_time_passes_once_a_second),
		ALONE(quiet_is_a_second_in_which_nothing_happened),
		ALONE(only_the_bridge_listens),
		ALONE(no_memory_for_the_listener),
		WITH_BRIDGE(with_a_bridge_it_waits_for_the_end_of_the_turn),
		WITH_BRIDGE(turns_go_on_while_something_waits),
		WITH_BRIDGE(with_a_bridge_there_is_a_turn_for_housekeeping),
		WITH_BRIDGE(without_its_listener_what_comes_again_is_left_out),
		WITH_BRIDGE(calls_in_vain_are_no_listener),
		WITH_BRIDGE(all_rests_with_the_first_tick),
	};

	if (argc > 1) cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
