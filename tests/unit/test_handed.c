/*
 * What the broker is handed on 2.1, against a broker that delivers what plugins publish as Mosquitto does: at the start of a turn,
 * one after the other, with what is published meanwhile as long as something was left when it began with one.
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

#include "plugin/handed.h"
#include "tests/faults/nth.h"

struct published {
	struct published *next, *prev;
	char client[16], topic[64];
	void *payload;
	size_t len;
	int qos;
};

static struct {
	struct handed handed;
	struct published *published;
	const char *congested;   /* the broker drops QoS 0 for this one; NULL: for nobody */
	const char *answer;      /* while "1" is sent to somebody, this one is handed something, once */
	bool gone;               /* nobody is connected */
	char delivered[256];     /* "client:payload " */
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
	if (!p) return MOSQ_ERR_NOMEM;
	(void)snprintf(p->client, sizeof p->client, "%s", client);
	(void)snprintf(p->topic, sizeof p->topic, "%s", topic);
	p->payload = payload;
	p->len = (size_t)len;
	p->qos = qos;
	mosquitto_property_free_all(&properties);
	DL_APPEND(w.published, p);
	return MOSQ_ERR_SUCCESS;
}

/* --- as plugin/broker.c ---------------------------------------------------------------------------------------------- */

static enum status hand(const char *client, const char *text)
{
	bool first = !w.handed.items;
	enum status st = handed_put(&w.handed, client, "t", slice_str(text), 1, NULL);

	if (first) handed_call(&w.handed);
	return st;
}

static void publish_all(void)
{
	if (handed_publish(&w.handed) != ST_OK) assert_int_equal(w.fail_at, 0); /* the one that was to fail */
}

/* The broker is about to send it. True: it may. */
static bool send(const struct published *p)
{
	enum handed_answer answer = handed_called(&w.handed, p->topic, slice_of(p->payload ? p->payload : "", p->len));

	if (answer == HANDED_NOW) publish_all();
	if (answer != HANDED_OTHER) return false;
	if (w.answer && memcmp(p->payload, "1", p->len) == 0) {
		const char *client = w.answer;

		w.answer = NULL;
		assert_int_equal(hand(client, "more"), ST_OK);
	}
	return true;
}

/* --- the broker ------------------------------------------------------------------------------------------------------ */

static void deliver(const struct published *p)
{
	size_t at = strlen(w.delivered);

	if (w.gone || p->client[0] == '\xff') return;
	if (p->qos == 0 && w.congested && strcmp(p->client, w.congested) == 0) return;
	if (!send(p)) return;
	(void)snprintf(w.delivered + at, sizeof w.delivered - at, "%s:%.*s ", p->client, (int)p->len, (const char *)p->payload);
}

static void walk(void)
{
	struct published *p, *next;

	DL_FOREACH_SAFE(w.published, p, next) {
		DL_DELETE(w.published, p);
		deliver(p);
		free(p->payload);
		free(p);
	}
}

/* The start of a turn. True: that of the devices' too. */
static bool turn(void)
{
	bool vain, all;

	walk();
	all = handed_turn(&w.handed, &vain);
	if (vain) publish_all();
	return all;
}

static void begin(void)
{
	memset(&w, 0, sizeof w);
}

static void end(void)
{
	handed_drop(&w.handed, NULL);
	w.gone = true;
	walk();
	assert_null(w.handed.items);
}

/* --- tests ----------------------------------------------------------------------------------------------------------- */

static void test_in_its_turn_and_order(void **state)
{
	(void)state;
	begin();
	assert_true(turn());
	assert_null(w.published); /* costs nothing */
	assert_int_equal(hand("a", "1"), ST_OK);
	assert_int_equal(hand("b", "2"), ST_OK);
	assert_int_equal(hand("a", ""), ST_OK);
	assert_true(turn());
	assert_string_equal(w.delivered, "a:1 b:2 a: ");
	assert_null(w.published);
	assert_int_equal(hand("b", "4"), ST_OK);
	assert_true(turn());
	assert_string_equal(w.delivered, "a:1 b:2 a: b:4 ");
	end();
}

/* What was for a connection that has ended does not come to the next of that name; what is for others does. */
static void test_nothing_to_the_next_connection(void **state)
{
	(void)state;
	begin();
	assert_int_equal(hand("a", "1"), ST_OK);
	assert_int_equal(hand("b", "2"), ST_OK);
	handed_drop(&w.handed, "a");
	assert_true(turn());
	assert_string_equal(w.delivered, "b:2 ");
	assert_int_equal(hand("a", "3"), ST_OK);
	handed_drop(&w.handed, "a");
	assert_int_equal(hand("a", "4"), ST_OK);
	assert_true(turn());
	assert_string_equal(w.delivered, "b:2 a:4 ");
	assert_int_equal(hand("a", "5"), ST_OK);
	handed_drop(&w.handed, "a");
	assert_true(turn());
	assert_string_equal(w.delivered, "b:2 a:4 ");
	end();
}

static bool is_named(void *name, const char *client)
{
	return strcmp(client, name) == 0;
}

static void test_left_out(void **state)
{
	(void)state;
	begin();
	assert_int_equal(hand("b", "1"), ST_OK);
	assert_int_equal(hand("a", "2"), ST_OK);
	assert_int_equal(hand("b", "3"), ST_OK);
	assert_int_equal(hand("a", "4"), ST_OK);
	handed_leave_out(&w.handed, is_named, (char[]){"b"});
	publish_all();
	walk();
	assert_string_equal(w.delivered, "a:2 a:4 ");
	end();
}

/* Of the last, too. */
static void test_meanwhile_in_the_same_go(void **state)
{
	(void)state;
	begin();
	w.answer = "b";
	assert_int_equal(hand("a", "1"), ST_OK);
	assert_true(turn());
	assert_string_equal(w.delivered, "a:1 b:more ");
	end();
}

/* A call that the broker drops delays the turn; it is not lost, and nothing comes to a connection that takes over then. */
static void test_call_in_vain(void **state)
{
	(void)state;
	begin();
	w.congested = "a";
	assert_int_equal(hand("a", "1"), ST_OK);
	assert_int_equal(hand("b", "2"), ST_OK);
	assert_false(turn());
	assert_string_equal(w.delivered, "");
	handed_drop(&w.handed, "a");
	assert_int_equal(hand("b", "3"), ST_OK);
	assert_true(turn());
	assert_string_equal(w.delivered, "b:2 b:3 ");
	w.delivered[0] = '\0';
	assert_int_equal(hand("a", "1"), ST_OK);
	assert_false(turn()); /* called for by the same one */
	assert_false(turn()); /* published */
	assert_string_equal(w.delivered, "");
	assert_true(turn());
	assert_string_equal(w.delivered, "a:1 ");
	end();
}

/* The broker may take a call and send it later (while a client authenticates anew): then it is void. */
static void test_late_call(void **state)
{
	struct published *call, *behind;

	(void)state;
	begin();
	assert_int_equal(hand("a", "1"), ST_OK);
	call = w.published;
	behind = call->next;
	w.published = NULL;
	assert_false(turn());
	deliver(call);
	assert_string_equal(w.delivered, "");
	assert_true(turn());
	assert_string_equal(w.delivered, "a:1 ");
	free(call->payload);
	free(call);
	free(behind);
	end();
}

/* No allocation that fails loses anything that was taken, or changes its order. */
static void test_no_memory(void **state)
{
	(void)state;
	for (unsigned fail_at = 1; fail_at < 20; fail_at++) {
		char expected[16] = "";

		begin();
		w.fail_at = fail_at;
		if (hand("a", "1") == ST_OK) strcat(expected, "a:1 ");
		if (hand("b", "2") == ST_OK) strcat(expected, "b:2 ");
		for (int i = 0; i < 4; i++) (void)turn(); /* how many it takes is no matter */
		assert_string_equal(w.delivered, expected);
		assert_true(turn());
		end();
	}
}

static void hand_one(void)
{
	static const char payload[] = "1";
	mosquitto_property *list = NULL;
	enum status st;

	begin();
	assert_int_equal(mosquitto_property_add_string(&list, MQTT_PROP_CONTENT_TYPE, "text"), MOSQ_ERR_SUCCESS);
	nth_on();
	st = handed_put(&w.handed, "a", "t", slice_str(payload), 1, list);
	assert_int_equal(nth_ok(st), w.handed.items != NULL);
	end();
}

/* What was not taken is not there, and its properties are freed all the same. */
static void test_not_taken(void **state)
{
	(void)state;
	nth_sweep(hand_one);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_in_its_turn_and_order),
		cmocka_unit_test(test_nothing_to_the_next_connection),
		cmocka_unit_test(test_left_out),
		cmocka_unit_test(test_meanwhile_in_the_same_go),
		cmocka_unit_test(test_call_in_vain),
		cmocka_unit_test(test_late_call),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_not_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
