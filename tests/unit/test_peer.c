/*
 * The bridge's commands: who may give them, and what everybody else gets.
 */
#include "device_rig.h"

#include <sys/random.h>
#include <sys/syscall.h>

#include "plugin/peer.h"
#include "plugin/window.h"

static const char *const mirrors[] = {"dev/# stream s:%t", NULL};
static const char *const grants[] = {"dev/1/# overlap=0 replay=yes", "dev/# overlap=0", NULL};
static struct rig *r;
static struct peer *p;
static bool no_random;

/* In place of the system's: it may have none. */
ssize_t getrandom(void *out, size_t len, unsigned flags)
{
	return no_random ? -1 : syscall(SYS_getrandom, out, len, flags);
}

static int begin(void **state)
{
	struct session_event boot = {0};
	struct entry_id id;

	(void)state;
	r = rig_new(1 << 20, mirrors, grants);
	if (append_event_now(r->append, JOURNAL_BOOT, &boot, &id) != ST_OK) return -1;
	journal_boot_set(r->journal, id);
	rig_expect(r, JOURNAL_BOOT, NULL);
	return peer_new(r->devices, r->append, r->journal, &r->outlet, rig_monotonic, &p) == ST_OK ? 0 : -1;
}

static int end(void **state)
{
	(void)state;
	peer_free(p);
	rig_free(r);
	return 0;
}

static enum status hello(const char *client, uint64_t fence, struct slice token)
{
	control_hello(&r->command, fence, token);
	return peer_command(p, client, slice_of(r->command.data, r->command.len));
}

static enum status do_switch(const char *client, struct entry_id generation, uint32_t sequence)
{
	control_switch(&r->command, slice_str("d1"), generation, sequence, generation);
	return peer_command(p, client, slice_of(r->command.data, r->command.len));
}

static struct control_command answer(void)
{
	struct control_command c;

	assert_int_equal(control_decode(slice_of(r->told.data, r->told.len), &c), ST_OK);
	return c;
}

static void assert_refused(const char *client)
{
	assert_int_equal(answer().type, CONTROL_REFUSED);
	assert_string_equal(r->told_client, client);
	assert_false(peer_present(p, 5000));
}

static void test_token(void **state)
{
	char wrong[PEER_TOKEN_BYTES * 2 + 2];
	struct slice token = slice_str(peer_token(p));

	(void)state;
	assert_int_equal(token.len, PEER_TOKEN_BYTES * 2);
	assert_int_equal(strspn(token.data, "0123456789abcdef"), token.len);
	assert_int_equal(hello("b", 1, slice_of(token.data, token.len - 1)), ST_OK);
	assert_refused("b");
	assert_int_equal(hello("b", 1, slice_str("")), ST_OK);
	assert_refused("b");
	for (size_t i = 0; i < token.len; i++) {
		memcpy(wrong, token.data, token.len);
		wrong[i] ^= 1;
		assert_int_equal(hello("b", 1, slice_of(wrong, token.len)), ST_OK);
		assert_refused("b");
	}
	snprintf(wrong, sizeof wrong, "%s0", token.data);
	assert_int_equal(hello("b", 1, slice_str(wrong)), ST_OK);
	assert_refused("b");
	assert_int_equal(hello("b", 1, token), ST_OK);
	assert_int_equal(answer().type, CONTROL_WELCOME);
	assert_id_equal(answer().boot, journal_boot(r->journal));
	assert_true(peer_present(p, 5000));
}

static void test_log_never_shows_the_token_and_is_limited(void **state)
{
	(void)state;
	for (int i = 0; i < 100; i++) assert_int_equal(hello("b\n1", 1, slice_str("guess")), ST_OK);
	assert_int_equal(r->log_lines, 1);
	assert_null(strchr(r->last_line, '\n'));
	assert_null(strstr(r->last_line, "guess"));
	rig_pass_time(10000);
	assert_int_equal(hello("b", 1, slice_str("guess")), ST_OK);
	assert_int_equal(r->log_lines, 2);
	assert_non_null(strstr(r->last_line, "101"));
	assert_int_equal(hello("b", 1, slice_str(peer_token(p))), ST_OK);
	assert_null(strstr(r->last_line, peer_token(p)));
}

static void test_fence(void **state)
{
	struct slice token = slice_str(peer_token(p));

	(void)state;
	assert_int_equal(hello("b1", 7, token), ST_OK);
	assert_int_equal(hello("b2", 8, token), ST_OK);
	assert_int_equal(answer().type, CONTROL_WELCOME);
	assert_int_equal(do_switch("b1", (struct entry_id){1, 0}, 1), ST_DENIED); /* taken over */
	assert_int_equal(hello("b1", 7, token), ST_OK);
	assert_int_equal(answer().type, CONTROL_REFUSED);
	assert_int_equal(do_switch("b2", (struct entry_id){1, 0}, 1), ST_OK);
	peer_disconnected(p, "b2");
	assert_int_equal(hello("b1", 7, token), ST_OK);
	assert_refused("b1");
	assert_int_equal(hello("b1", 9, token), ST_OK);
	assert_true(peer_present(p, 1));
}

static void test_commands(void **state)
{
	struct entry_id generation;
	struct control_command a;

	(void)state;
	rig_subscribe(r, "d1", "dev/#", 1);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_int_equal(do_switch("b", generation, 1), ST_DENIED); /* before hello */
	assert_int_equal(r->told_count, 0);
	assert_int_equal(hello("b", 1, slice_str(peer_token(p))), ST_OK);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation); /* told again */
	assert_int_equal(do_switch("c", generation, 1), ST_DENIED);
	assert_true(devices_any_gated(r->devices));
	assert_int_equal(do_switch("b", generation, 4), ST_OK);
	a = answer();
	assert_int_equal(a.type, CONTROL_ACK);
	assert_int_equal(a.result, CONTROL_DONE);
	assert_int_equal(a.sequence, 4);
	assert_id_equal(a.generation, generation);
	assert_id_equal(a.head, append_head(r->append));
	assert_true(slice_equal(a.device, slice_str("d1")));
	control_welcome(&r->command, generation);
	assert_int_equal(peer_command(p, "b", slice_of(r->command.data, r->command.len)), ST_DENIED);
}

/* Every prefix of a batch, and of anything else a stranger may send. */
static void test_damaged(void **state)
{
	struct message m = {.id = {5, 0}, .topic = slice_str("dev/a"), .payload = slice_str("x"), .client = slice_str("p"),
		.payload_format = -1};
	struct entry_id generation;
	struct control_batch b;
	char *copy;

	(void)state;
	assert_int_equal(hello("b", 1, slice_str(peer_token(p))), ST_OK);
	rig_subscribe(r, "d1", "dev/#", 1);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	control_batch_begin(&b, &r->command, slice_str("d1"), generation, 1);
	control_batch_filter(&b, slice_str("dev/#"));
	control_batch_message(&b, &m);
	control_batch_end(&b, generation);
	for (size_t len = 0; len < r->command.len; len++) {
		copy = malloc(len + 1); /* its exact size, for the sanitizer */
		assert_non_null(copy);
		memcpy(copy, r->command.data, len);
		assert_int_equal(peer_command(p, "b", slice_of(copy, len)), ST_DENIED);
		free(copy);
	}
	assert_int_equal(r->seen_count, 0);
	assert_int_equal(peer_command(p, "b", slice_of(r->command.data, r->command.len)), ST_OK);
	assert_int_equal(r->seen_count, 1);
}

/* What the bridge counts to find out what the broker drops goes to the bridge alone, as backlogs go to a device. */
static unsigned deliveries_left;
static struct control_command probed;

static enum status deliver_some(void *ctx, const char *client, const struct message *m, uint8_t qos, enum delivery kind,
	const struct mqtt5_extras *v5)
{
	(void)ctx;
	(void)client;
	(void)qos;
	(void)kind;
	(void)v5;
	if (deliveries_left == 0) return ST_NOMEM;
	deliveries_left--;
	assert_int_equal(control_decode(m->payload, &probed), ST_OK);
	return ST_OK;
}

static void ask_probes(uint32_t sequence, uint16_t count)
{
	control_probe(&r->command, sequence, count);
	assert_int_equal(peer_command(p, "b", slice_of(r->command.data, r->command.len)), ST_OK);
}

/* What could not be handed to the broker must not be taken for what it drops. */
static void test_probe_without_memory(void **state)
{
	(void)state;
	assert_int_equal(hello("b", 1, slice_str(peer_token(p))), ST_OK);
	r->outlet.deliver = deliver_some;
	deliveries_left = 2;
	ask_probes(1, CONTROL_PROBE_MAX);
	ask_probes(2, 1); /* not answered */
	assert_int_equal(probed.sequence, 1);
	deliveries_left = 20000;
	ask_probes(3, 1);
	assert_true(probed.sequence == 3 && probed.probes == CONTROL_PROBE_MAX);
	ask_probes(4, CONTROL_PROBE_MAX);
	ask_probes(5, 1);
	assert_true(probed.sequence == 5 && probed.probes == 1);
}

static void test_probe(void **state)
{
	(void)state;
	control_probe(&r->command, 1, 200);
	assert_int_equal(peer_command(p, "b", slice_of(r->command.data, r->command.len)), ST_DENIED); /* before hello */
	assert_int_equal(hello("b", 1, slice_str(peer_token(p))), ST_OK);
	control_probe(&r->command, 1, 200); /* hello has used its buffer */
	assert_int_equal(peer_command(p, "b", slice_of(r->command.data, r->command.len)), ST_OK);
	assert_int_equal(r->seen_count, 200);
	for (size_t i = 0; i < 200; i++) {
		assert_string_equal(r->seen[i].client, "b");
		assert_string_equal(r->seen[i].topic, CONTROL_TOPIC_BRIDGE);
		assert_int_equal(r->seen[i].qos, 1);
	}
	r->outlet.tells_sent = true;
	assert_int_equal(peer_command(p, "b", slice_of(r->command.data, r->command.len)), ST_OK);
	assert_int_equal(r->seen_count, 201); /* there is no limit to look for */
	control_limit(&r->command, 1020);
	assert_int_equal(peer_command(p, "b", slice_of(r->command.data, r->command.len)), ST_OK);
	assert_non_null(strstr(r->last_line, "1020 messages"));
	assert_int_equal(report_get(&r->report, queue_limit), 1020);
}

static void test_device_with_nul(void **state)
{
	(void)state;
	assert_int_equal(hello("b", 1, slice_str(peer_token(p))), ST_OK);
	rig_subscribe(r, "d1", "dev/#", 1);
	control_switch(&r->command, slice_of("d1\0x", 4), append_head(r->append), 1, append_head(r->append));
	assert_int_equal(peer_command(p, "b", slice_of(r->command.data, r->command.len)), ST_OK);
	assert_int_equal(answer().result, CONTROL_GONE);
}

static void test_presence(void **state)
{
	(void)state;
	assert_false(peer_present(p, UINT64_MAX));
	peer_disconnected(p, "b");
	assert_int_equal(hello("b", 1, slice_str(peer_token(p))), ST_OK);
	rig_pass_time(4999);
	assert_true(peer_present(p, 5000));
	rig_pass_time(1);
	assert_false(peer_present(p, 5000)); /* silent: its loop may hang */
	assert_int_equal(do_switch("b", (struct entry_id){1, 0}, 1), ST_OK);
	assert_true(peer_present(p, 5000));
	peer_disconnected(p, "c");
	assert_true(peer_present(p, 5000));
	peer_disconnected(p, "b");
	assert_false(peer_present(p, 5000));
	assert_int_equal(do_switch("b", (struct entry_id){1, 0}, 1), ST_DENIED); /* who has its name now must show the token */
}

/* Without a token nobody could tell the bridge from others, so there is none. */
static void test_no_token(void **state)
{
	struct peer *other = NULL;

	(void)state;
	no_random = true;
	assert_int_equal(peer_new(r->devices, r->append, r->journal, &r->outlet, rig_monotonic, &other), ST_IO);
	no_random = false;
	assert_null(other);
	assert_int_equal(peer_new(r->devices, r->append, r->journal, &r->outlet, rig_monotonic, &other), ST_OK);
	assert_string_not_equal(peer_token(other), peer_token(p));
	peer_free(other);
}

/* A batch that takes its time is answered when it is over; until then, every few seconds, that it is under way. */
static void test_batch_under_way(void **state)
{
	struct message m = {.topic = slice_str("dev/a"), .payload = slice_str("x"), .client = slice_str("p"), .qos = 1, .payload_format = -1};
	struct entry_id generation;
	struct control_batch b;
	unsigned told;

	(void)state;
	r->outlet.tells_sent = r->deps.tells_connect = true;
	devices_rewire(r->devices, &r->deps);
	assert_int_equal(hello("b", 1, slice_str(peer_token(p))), ST_OK);
	rig_subscribe(r, "d1", "dev/#", 1);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	control_batch_begin(&b, &r->command, slice_str("d1"), generation, 6);
	control_batch_filter(&b, slice_str("dev/#"));
	for (m.id.ms = 1; m.id.ms <= WINDOW_MESSAGES + 1; m.id.ms++) control_batch_message(&b, &m);
	control_batch_end(&b, (struct entry_id){WINDOW_MESSAGES + 1, 0});
	told = r->told_count;
	assert_int_equal(peer_command(p, "b", slice_of(r->command.data, r->command.len)), ST_OK);
	assert_int_equal(r->seen_count, WINDOW_MESSAGES); /* none of them is sent yet */
	assert_int_equal(r->told_count, told);
	rig_pass_time(5000);
	devices_tick(r->devices, false);
	assert_int_equal(r->told_count, told + 1);
	assert_string_equal(r->told_client, "b");
	assert_true(answer().type == CONTROL_ACK && answer().result == CONTROL_LATER && answer().sequence == 6);
	assert_true(slice_equal(answer().device, slice_str("d1")));
	assert_id_equal(answer().generation, generation);
	peer_disconnected(p, "b");
	rig_pass_time(5000);
	devices_tick(r->devices, false);
	assert_int_equal(r->told_count, told + 1); /* there is nobody to tell */
	assert_int_equal(r->seen_count, WINDOW_MESSAGES);
}

static enum control_result operator_asks(struct slice device, const char *filter)
{
	control_replay(&r->command, device, 3, slice_str(filter), (struct entry_id){1, 0}, 0);
	assert_int_equal(peer_command(p, "b", slice_of(r->command.data, r->command.len)), ST_OK);
	assert_true(answer().type == CONTROL_ACK && answer().sequence == 3);
	return answer().result;
}

static void test_replay_by_the_operator(void **state)
{
	struct session_event e;

	(void)state;
	assert_int_equal(hello("b", 1, slice_str(peer_token(p))), ST_OK);
	assert_int_equal(operator_asks(slice_str("d1"), "dev/a"), CONTROL_ABSENT);
	rig_subscribe(r, "d1", "dev/#", 1);
	rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
	assert_int_equal(operator_asks(slice_of("d1\0x", 4), "dev/a"), CONTROL_ABSENT);
	assert_int_equal(operator_asks(slice_str("d1"), "dev/#/a"), CONTROL_ABSENT); /* no topic filter */
	assert_int_equal(operator_asks(slice_str("d1"), "other"), CONTROL_UNGRANTED);
	rig_expect_none(r);
	assert_int_equal(operator_asks(slice_str("d1"), "dev/a"), CONTROL_DONE);
	e = rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
	assert_true(e.replay && slice_equal(e.filter, slice_str("dev/a")));
	assert_id_equal(e.from, (struct entry_id){1, 0});
	assert_int_equal(operator_asks(slice_str("d1"), "dev/a"), CONTROL_BUSY);
}

/* Who has no grant for it is to be closed. Who has one is told in the log what is wrong. */
static void test_replay_by_a_device(void **state)
{
	static const struct {
		const char *client, *json, *said; /* NULL: nothing */
		enum status st;
	} table[] = {
		{"d1", "{\"filter\":\"dev/1/a\",\"last\":1}", "it has no subscription", ST_OK}, /* not yet there */
		{"d1", "{", "parse", ST_DENIED},
		{"d2", "{\"filter\":\"dev/2/a\"}", "exactly one of", ST_OK},
		{"d2", "{\"filter\":\"dev/2/a\",\"last\":1}", "no grant with replay=yes", ST_DENIED},
		{"d2", "{\"filter\":\"dev/1/a\",\"last\":1}", "none of its subscriptions", ST_OK},
		{"d3", "{\"filter\":\"dev/1/a\",\"last\":1}", NULL, ST_OK},
		{"d3", "{\"filter\":\"dev/1/a\",\"last\":1}", "another replay", ST_OK},
	};

	(void)state;
	rig_subscribe(r, "d2", "dev/2/#", 1);
	rig_subscribe(r, "d3", "dev/1/#", 1);
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		unsigned lines = r->log_lines;

		rig_pass_time(10000); /* what is refused is told of once in so long */
		assert_int_equal(peer_replay(p, table[i].client, slice_str(table[i].json), 1700000000000), table[i].st);
		assert_int_equal(r->log_lines, table[i].said ? lines + 1 : lines);
		if (table[i].said && i != 1) assert_true(rig_logged(r, table[i].said) && rig_logged(r, table[i].client));
	}
	rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
	rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
	assert_true(rig_expect(r, JOURNAL_SUBSCRIBED, NULL).replay);
	rig_expect_none(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_token, begin, end),
		cmocka_unit_test_setup_teardown(test_log_never_shows_the_token_and_is_limited, begin, end),
		cmocka_unit_test_setup_teardown(test_fence, begin, end),
		cmocka_unit_test_setup_teardown(test_commands, begin, end),
		cmocka_unit_test_setup_teardown(test_damaged, begin, end),
		cmocka_unit_test_setup_teardown(test_probe, begin, end),
		cmocka_unit_test_setup_teardown(test_probe_without_memory, begin, end),
		cmocka_unit_test_setup_teardown(test_device_with_nul, begin, end),
		cmocka_unit_test_setup_teardown(test_presence, begin, end),
		cmocka_unit_test_setup_teardown(test_no_token, begin, end),
		cmocka_unit_test_setup_teardown(test_batch_under_way, begin, end),
		cmocka_unit_test_setup_teardown(test_replay_by_the_operator, begin, end),
		cmocka_unit_test_setup_teardown(test_replay_by_a_device, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
