/*
 * When a turn of the broker's loop has ended, of which it does not tell (2.0.11 with per_listener_settings true), against a broker
 * that delivers what plugins publish as Mosquitto does: at the start of a turn, one after the other, with what is published
 * meanwhile as long as something was left when it began with one.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "config/control.h"
#include "plugin/turns.h"

#define GO_MAX 100 /* messages that the broker delivers in one go; it must come to an end */

struct published {
	struct published *next, *prev;
	const char *topic;
	void *payload;
	size_t len;
};

static struct {
	struct turns turns;
	struct published *list;
	uint64_t published, now_ms;
	bool subscribed;         /* the broker knows of it, and has memory */
	unsigned readers;        /* who are asked for each call */
	unsigned more;           /* calls may go on for so many more */
	bool answers;            /* something is published in answer to each end of a turn */
	unsigned ended, answered; /* turns; answers that were delivered */
	unsigned answered_at_end; /* when the last turn ended */
	unsigned fail_at;        /* the allocation that fails; 0: none */
} w;

void *mosquitto_malloc(size_t size)
{
	return w.fail_at > 0 && --w.fail_at == 0 ? NULL : malloc(size);
}

void mosquitto_free(void *mem)
{
	free(mem);
}

int mosquitto_broker_publish(const char *client, const char *topic, int len, void *payload, int qos, bool retain,
	mosquitto_property *properties)
{
	struct published *p = mosquitto_malloc(sizeof *p);

	assert_false(retain);
	assert_null(client);
	assert_null(properties);
	assert_int_equal(qos, 0);
	if (!p) return MOSQ_ERR_NOMEM;
	p->topic = topic;
	p->payload = payload;
	p->len = (size_t)len;
	DL_APPEND(w.list, p);
	return MOSQ_ERR_SUCCESS;
}

/* --- as plugin/broker.c ---------------------------------------------------------------------------------------------- */

static void publish_other(void)
{
	w.published++;
	assert_int_equal(mosquitto_broker_publish(NULL, "other", 0, NULL, 0, false, NULL), MOSQ_ERR_SUCCESS);
}

static void ask(const struct published *p)
{
	switch (turns_called(&w.turns, p->topic, slice_of(p->payload ? p->payload : "", p->len))) {
	case TURNS_OTHER:
		w.answered++;
		break;
	case TURNS_ENDED:
		w.ended++;
		w.answered_at_end = w.answered;
		if (w.answers) publish_other();
		break;
	case TURNS_OVER:
		if (w.more == 0) break;
		w.more--;
		turns_go_on(&w.turns, w.now_ms, w.published);
		break;
	case TURNS_VOID:
		break;
	}
}

/* --- the broker ------------------------------------------------------------------------------------------------------ */

/* The start of a turn. Returns how many have ended with it. */
static unsigned turn(void)
{
	struct published *p, *next;
	unsigned before = w.ended, count = 0;

	DL_FOREACH_SAFE(w.list, p, next) {
		bool call = strcmp(p->topic, CONTROL_TOPIC_TURN) == 0;

		assert_true(++count < GO_MAX);
		DL_DELETE(w.list, p);
		for (unsigned i = 0; i < (call ? w.readers : 1); i++) {
			if (!call || w.subscribed) ask(p);
		}
		free(p->payload);
		free(p);
	}
	w.now_ms += 100;
	return w.ended - before;
}

static void call(void)
{
	turns_call(&w.turns, w.now_ms, w.published);
}

static int begin(void **state)
{
	(void)state;
	memset(&w, 0, sizeof w);
	w.subscribed = true;
	w.readers = 1;
	assert_int_equal(turns_listen(&w.turns, "bridge"), ST_OK);
	return 0;
}

static int end(void **state)
{
	(void)state;
	turns_deaf(&w.turns);
	w.more = 0;
	(void)turn();
	assert_null(w.list);
	return 0;
}

/* --- tests ----------------------------------------------------------------------------------------------------------- */

static void a_call_tells_that_a_turn_has_ended(void **state)
{
	(void)state;
	assert_int_equal(turn(), 0);
	call();
	call(); /* one is under way */
	assert_int_equal(turn(), 1);
	assert_int_equal(turn(), 0);
	call();
	assert_int_equal(turn(), 1);
}

static void what_is_published_in_answer_is_delivered_in_the_same_go(void **state)
{
	(void)state;
	w.answers = true;
	publish_other();
	call();
	publish_other();
	assert_int_equal(turn(), 1);
	assert_int_equal(w.answered_at_end, 1); /* what was published before the call was delivered before it */
	assert_int_equal(w.answered, 3);
	assert_null(w.list);
}

/* Once in each turn, and the broker comes to an end with each, whatever stands behind the calls. */
static void calls_go_on(void **state)
{
	(void)state;
	w.more = 1000;
	call();
	for (unsigned i = 0; i < 30; i++) {
		w.answers = i % 3 == 1;
		if (i % 5 == 1) publish_other();
		assert_int_equal(turn(), 1);
	}
	assert_int_equal(w.ended, 30);
	assert_int_equal(w.answered, 16);
}

static void every_reader_is_refused_and_one_counts(void **state)
{
	struct slice text = slice_str("x"), number = slice_of("12345678", 8);

	(void)state;
	w.readers = 3;
	w.more = 100;
	w.answers = true;
	call();
	for (unsigned i = 0; i < 5; i++) assert_int_equal(turn(), 1);
	assert_int_equal(w.answered, 5);
	assert_int_equal(turns_called(&w.turns, CONTROL_TOPIC_TURN, text), TURNS_VOID);
	assert_int_equal(turns_called(&w.turns, CONTROL_TOPIC_TURN, number), TURNS_VOID);
	assert_int_equal(turns_called(&w.turns, CONTROL_TOPIC_BRIDGE, number), TURNS_OTHER);
	assert_int_equal(turns_called(&w.turns, "a/b", number), TURNS_OTHER);
}

static void without_a_listener_nothing_is_called(void **state)
{
	(void)state;
	call();
	turns_deaf(&w.turns);
	call();
	assert_int_equal(turn(), 0); /* the one that was under way is void */
	assert_null(w.list);
	assert_false(turns_overdue(&w.turns, w.now_ms + 100000, 0));
	assert_int_equal(turns_listen(&w.turns, "bridge"), ST_OK);
	call();
	assert_int_equal(turns_listen(&w.turns, "another"), ST_OK);
	assert_int_equal(turn(), 0);
	call();
	assert_int_equal(turn(), 1);
}

static void a_call_that_does_not_come_is_repeated(void **state)
{
	(void)state;
	w.subscribed = false;
	call();
	assert_int_equal(turn(), 0);
	assert_false(turns_overdue(&w.turns, w.now_ms, w.published));
	assert_null(w.list);
	w.now_ms += 1000;
	assert_false(turns_overdue(&w.turns, w.now_ms, w.published));
	w.subscribed = true;
	assert_int_equal(turn(), 1);
	w.subscribed = false;
	call();
	for (unsigned i = 0; i < 2; i++) {
		w.now_ms += 1000;
		assert_int_equal(turn(), 0);
		assert_false(turns_overdue(&w.turns, w.now_ms, w.published));
	}
	w.now_ms += 1000;
	assert_true(turns_overdue(&w.turns, w.now_ms, w.published));
	assert_null(w.turns.listener);
}

/* Whatever the allocation, no turn ends unless what is published in answer is delivered with it. */
static void a_call_without_memory_is_repeated(void **state)
{
	for (unsigned at = 1; at <= 4; at++) {
		(void)end(state);
		(void)begin(state);
		w.answers = true;
		w.fail_at = at;
		call();
		assert_int_equal(w.fail_at, 0);
		assert_int_equal(turn(), 0);
		assert_int_equal(turn(), 0);
		w.now_ms += 1000;
		assert_false(turns_overdue(&w.turns, w.now_ms, w.published));
		assert_int_equal(turn(), 1);
		assert_int_equal(w.answered, 1);
	}
}

/* The broker has had no memory for the call, and for its end it has. */
static void an_end_alone_is_no_turn(void **state)
{
	struct published *first;

	(void)state;
	w.more = 1;
	call();
	first = w.list;
	DL_DELETE(w.list, first);
	free(first->payload);
	free(first);
	assert_int_equal(turn(), 0);
	assert_int_equal(turn(), 1);
}

int main(int argc, char **argv)
{
#define TURNS_TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		TURNS_TEST(a_call_tells_that_a_turn_has_ended),
		TURNS_TEST(what_is_published_in_answer_is_delivered_in_the_same_go),
		TURNS_TEST(calls_go_on),
		TURNS_TEST(every_reader_is_refused_and_one_counts),
		TURNS_TEST(without_a_listener_nothing_is_called),
		TURNS_TEST(a_call_that_does_not_come_is_repeated),
		TURNS_TEST(a_call_without_memory_is_repeated),
		TURNS_TEST(an_end_alone_is_no_turn),
	};

	if (argc > 1) cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
