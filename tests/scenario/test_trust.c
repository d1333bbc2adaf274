/*
 * The control topic: commands from anybody but the bridge are refused and logged, harm nobody, and nobody else hears
 * what plugin and bridge say to each other.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "config/control.h"
#include "tests/harness/guest.h"
#include "tests/harness/store.h"

#define WAIT_MS 60000
#define LINES "mirror plant/# stream s:%t\nredeliver plant/# overlap=0\n"
#define REFUSED "control: refused"

/* Sends and waits until the broker has dealt with it, be it by closing the connection. */
static void send_forged(struct guest *forger, const char *topic, const void *bytes, size_t len)
{
	for (int tries = 0;; tries++) { /* the broker may be closing the connection for the one before */
		scene_require(tries < 10, "the forger is not let in any more");
		if (!guest_connected(forger)) guest_connect(forger);
		if (guest_send(forger, topic, bytes, len, 1, false, 0) >= 0) break;
		wait_until(!guest_connected(forger), WAIT_MS, "the end of the connection");
	}
	(void)guest_flush(forger, WAIT_MS); /* or closed */
}

static void send_command(struct guest *forger, const struct buf *command)
{
	assert_false(command->failed);
	send_forged(forger, CONTROL_TOPIC, command->data, command->len);
}

/* A batch that would hand a message to the device "victim". */
static void send_forged_batch(struct world *w, struct guest *forger)
{
	struct buf out = {0};
	struct control_batch batch;
	struct entry_id generation = {1, 1}, upto = {UINT32_MAX, 0};
	struct message m = {.id = {UINT32_MAX, 0}, .topic = slice_str("plant/1"), .payload = slice_str("forged"),
		.client = slice_str("x"), .qos = 1, .payload_format = -1};

	/* The generation is no secret to who can read Redis: take the right one. */
	const redisReply *events = stored_stream(w->db, "mqtt:events:test");
	for (size_t i = 0; i < events->elements; i++) {
		const redisReply *client = stored_field(events->element[i], "client");
		const redisReply *text = stored_field(events->element[i], "generation");
		if (client && text && strcmp(client->str, "victim") == 0)
			assert_int_equal(entry_id_parse(slice_str(text->str), &generation), ST_OK);
	}
	control_batch_begin(&batch, &out, slice_str("victim"), generation, 1);
	control_batch_filter(&batch, slice_str("plant/#"));
	control_batch_message(&batch, &m);
	control_batch_end(&batch, upto);
	send_command(forger, &out);
	control_switch(&out, slice_str("victim"), generation, 2, upto);
	send_command(forger, &out);
	buf_free(&out);
}

/* Redelivery works: a device that was away gets what it missed and nothing else. */
static void check_redelivery(struct world *w)
{
	struct guest *p = guest_join(w, "p", NULL), *d = guest_join(w, "d", NULL);

	guest_subscribe(d, "plant/#", 1);
	world_wait_event(w, "live", "d", 1);
	guest_disconnect(d);
	world_wait_event(w, "gone", "d", 1);
	guest_publish(p, "plant/1", "missed", 1);
	guest_connect(d);
	guest_subscribe(d, "plant/#", 1);
	guest_publish(p, "plant/1", "live", 1);
	guest_expect(d, 0, "missed", "live", NULL);
}

static struct guest *live_victim(struct world *w)
{
	struct guest *victim = guest_join(w, "victim", NULL);

	guest_subscribe(victim, "plant/#", 1);
	world_wait_event(w, "live", "victim", 1);
	return victim;
}

static void test_without_greeting(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, LINES, WORLD_BRIDGE);
	struct guest *victim = live_victim(&w), *forger = guest_join(&w, "forger", NULL);
	send_forged_batch(&w, forger);
	server_log_wait(w.broker, 0, REFUSED, WAIT_MS);
	guest_settle(victim);
	assert_int_equal(guest_count(victim), 0);
	check_redelivery(&w);
	scene_end(scene);
}

static void test_wrong_token(void **state)
{
	struct scene *scene = *state;
	struct buf out = {0};
	struct world w;

	world_start(&w, scene, LINES, WORLD_BRIDGE);
	struct guest *victim = live_victim(&w), *forger = guest_join(&w, "forger", NULL);
	const redisReply *token = store_query(w.db, "GET", "mqtt:token:test", NULL);
	assert_int_equal(token->type, REDIS_REPLY_STRING);
	assert_true(token->len >= 32);
	char *wrong = strdup(token->str);
	assert_non_null(wrong);
	wrong[token->len - 1] = wrong[token->len - 1] == '0' ? '1' : '0';
	const char *const tokens[] = {"", "x", wrong};
	for (size_t i = 0; i < 3; i++) {
		control_hello(&out, UINT64_MAX, slice_str(tokens[i]));
		send_command(forger, &out);
		send_forged_batch(&w, forger);
	}
	/* Right, but too short and too long. */
	token = store_query(w.db, "GET", "mqtt:token:test", NULL);
	control_hello(&out, UINT64_MAX, slice_of(token->str, token->len - 1));
	send_command(forger, &out);
	control_hello(&out, UINT64_MAX, slice_str(scene_text(scene, "%s0", wrong)));
	send_command(forger, &out);
	free(wrong);
	buf_free(&out);
	server_log_wait(w.broker, 0, REFUSED, WAIT_MS);
	guest_settle(victim);
	assert_int_equal(guest_count(victim), 0);
	/* The token itself is in no log. */
	token = store_query(w.db, "GET", "mqtt:token:test", NULL);
	assert_false(server_log_has(w.broker, 0, token->str));
	assert_false(server_log_has(w.bridge, 0, token->str));
	check_redelivery(&w);
	scene_end(scene);
}

static void test_random_bytes(void **state)
{
	enum { SEED = 20240611, COUNT = 1000 };
	struct scene *scene = *state;
	struct world w;
	char bytes[512];

	print_message("seed %d\n", SEED);
	srand(SEED);
	world_start(&w, scene, LINES, WORLD_BRIDGE);
	struct guest *victim = live_victim(&w), *forger = guest_join(&w, "forger", NULL);
	for (int i = 0; i < COUNT; i++) {
		size_t len = (size_t)(rand() % (int)sizeof(bytes));
		for (size_t k = 0; k < len; k++) bytes[k] = (char)(rand() % 256);
		if (len > 1 && i % 2) { /* a plausible beginning */
			bytes[0] = CONTROL_VERSION;
			bytes[1] = (char)(1 + rand() % 4);
		}
		const char *topic = i % 5 ? CONTROL_TOPIC : i % 3 ? CONTROL_TOPIC_BRIDGE : "$CONTROL/mosquitto-redis/v2";
		send_forged(forger, topic, bytes, len);
	}
	server_log_wait(w.broker, 0, REFUSED, WAIT_MS);
	server_check_alive(w.broker);
	server_check_alive(w.bridge);
	guest_settle(victim);
	assert_int_equal(guest_count(victim), 0);
	check_redelivery(&w);
	scene_end(scene);
}

/* Listening in, and speaking to the bridge in the plugin's name. */
static void test_topic_taken(void **state)
{
	struct scene *scene = *state;
	struct buf out = {0};
	struct world w;

	world_start(&w, scene, LINES, WORLD_NO_START | WORLD_BRIDGE);
	server_start(w.redis);
	w.db = store_open(w.redis);
	server_start(w.broker);
	struct guest *spy = guest_join(&w, "spy", NULL), *liar = guest_join(&w, "liar", NULL);
	(void)guest_subscribe_code(spy, CONTROL_TOPIC_BRIDGE, 2);
	(void)guest_subscribe_code(spy, "$CONTROL/#", 2);
	(void)guest_subscribe_code(spy, "#", 2);
	server_start(w.bridge);
	world_wait_bridge(&w, 0);
	control_refused(&out, "go away");
	send_forged(liar, CONTROL_TOPIC_BRIDGE, out.data, out.len);
	control_welcome(&out, (struct entry_id){1, 1});
	send_forged(liar, CONTROL_TOPIC_BRIDGE, out.data, out.len);
	buf_free(&out);
	check_redelivery(&w);
	guest_settle(spy);
	for (size_t i = 0; i < guest_count(spy); i++)
		scene_require(strncmp(guest_message(spy, i).topic, "$CONTROL", 8) != 0, "the spy received a message on %s",
			guest_message(spy, i).topic);
	server_check_alive(w.bridge);
	scene_end(scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_without_greeting),
		scene_test(test_wrong_token),
		scene_test(test_random_bytes),
		scene_test(test_topic_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
