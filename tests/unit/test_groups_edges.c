/*
 * Groups where they seldom come: a longer overlap that joins, grants that a reload takes away, a journal without room, members
 * that take nothing while very much comes. No server.
 */
#include "device_rig.h"

#include <sys/stat.h>

#include "plugin/group.h"

#define GROUP "$share/g/dev/#"

static const char *const mirrors[] = {"dev/# stream s:%t", NULL};
static const char *const grants[] = {"dev/# overlap=keepalive", NULL};
static const char *const inner[] = {"dev/#", NULL};

static void join(struct rig *r, const char *client, uint32_t keepalive_s)
{
	struct client_info c = rig_client(client);

	c.keepalive_s = keepalive_s;
	devices_subscribed(r->devices, &c, GROUP, 1);
}

static struct entry_id live(struct rig *r, const char *client)
{
	struct entry_id generation;

	join(r, client, 60);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_int_equal(rig_switch(r, GROUP, generation, append_head(r->append)), CONTROL_DONE);
	rig_expect(r, JOURNAL_LIVE, NULL);
	devices_tick(r->devices, false);
	return generation;
}

/* A member whose lost connection reaches further back joins: what is known of the group in Redis is brought up to it. */
static void a_longer_overlap_joins(void **state)
{
	(void)state;
	for (int is_live = 0; is_live < 2; is_live++) {
		struct rig *r = rig_new(1 << 20, mirrors, grants);
		struct session_event e;
		if (is_live) (void)live(r, "a");
		else join(r, "a", 60);
		if (!is_live) assert_int_equal(rig_expect(r, JOURNAL_SUBSCRIBED, NULL).overlap_ms, 96000);
		join(r, "b", 60); /* no longer */
		rig_expect_none(r);
		join(r, "c", 300);
		if (is_live) rig_expect(r, JOURNAL_GONE, NULL);
		e = rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
		assert_int_equal(e.overlap_ms, 456000);
		assert_int_equal(devices_count(r->devices).catching, 1);
		rig_free(r);
	}
}

/* It joins in the turn in which another one is lost, with a QoS 2 message that is not released: the group goes back to before
 * that. */
static void a_longer_overlap_joins_at_a_loss(void **state)
{
	char address[] = "dev/x";

	(void)state;
	for (int released = 0; released < 2; released++) { /* in that turn, to the one that is lost */
		struct rig *r = rig_new(1 << 20, mirrors, grants);
		struct current_message m;
		struct session_event e;
		struct entry_id cursor;
		(void)live(r, "a");
		join(r, "b", 60);
		m = rig_publish(r, "dev/x", 2);
		qos2_put(r->qos2, slice_str(address), slice_str("x"), m.id);
		(void)rig_publish(r, "dev/y", 1);
		devices_disconnected(r->devices, "b", false);
		if (released) {
			assert_true(qos2_released(r->qos2, slice_str(address), &cursor));
			qos2_over(r->qos2);
		}
		join(r, "c", 300);
		e = rig_expect(r, JOURNAL_GONE, NULL);
		assert_true(rig_cursor(&e, "dev/#", &cursor));
		assert_id_equal(cursor, entry_id_before(m.id));
		rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
		rig_free(r);
	}
}

static off_t size_of(const char *path)
{
	struct stat info;

	assert_int_equal(stat(path, &info), 0);
	return info.st_size;
}

static int no_subscriptions(const char *client)
{
	(void)client;
	return 0;
}

/* 2.1: how a member whose session is kept has subscribed is kept, too, whenever it changes; of another one nothing is. */
static void the_qos_of_a_kept_member(void **state)
{
	struct rig *r = rig_told(1 << 20, mirrors, grants);
	struct client_info c = rig_kept("k");
	char path[128];
	off_t before;

	(void)state;
	(void)snprintf(path, sizeof path, "%s/sessions", r->folder);
	assert_int_equal(kept_file_open(path, &r->outlet.log, devices_restore, r->devices, &r->deps.kept), ST_OK);
	devices_rewire(r->devices, &r->deps);
	devices_restored(r->devices, no_subscriptions);
	devices_subscribed(r->devices, &c, GROUP, 0);
	for (uint8_t qos = 0; qos < 2; qos++) {
		before = size_of(path);
		devices_subscribed(r->devices, &c, GROUP, qos);
		assert_int_equal(size_of(path) > before, qos == 1);
	}
	c = rig_client("other");
	before = size_of(path);
	for (uint8_t qos = 0; qos < 2; qos++) devices_subscribed(r->devices, &c, GROUP, qos);
	assert_int_equal(size_of(path), before);
	struct kept_file *k = r->deps.kept;
	(void)unlink(path);
	rig_free(r);
	kept_file_close(k);
}

/* A reload takes the grant from its members: they stay the broker's, and redelivery ends; it comes back with the grant. */
static void grants_go_and_come(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct current_message m;

	(void)state;
	(void)live(r, "a");
	join(r, "b", 60);
	devices_rewire(r->devices, &r->deps); /* the same ones */
	rig_expect_none(r);
	r->settings.grant_count = 0;
	devices_rewire(r->devices, &r->deps);
	rig_expect(r, JOURNAL_GONE, NULL);
	m = rig_publish(r, "dev/x", 1);
	assert_false(rig_offer(r, "a", &m)); /* what is there of it is the broker's to serve */
	r->settings.grant_count = 1;
	devices_rewire(r->devices, &r->deps);
	join(r, "c", 60);
	rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
	rig_free(r);
}

/* No room for its events: told at a later tick; what cannot be kept is told to people. */
static void no_room_in_the_journal(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct session_event e = {.client = slice_str("filler")};
	struct entry_id generation;
	enum status st;

	(void)state;
	rig_fill(r);
	join(r, "a", 60);
	rig_drain(r);
	devices_tick(r->devices, false);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	rig_fill(r);
	do st = append_event(r->append, JOURNAL_GONE, &e);
	while (st == ST_OK);
	assert_int_equal(rig_switch(r, GROUP, generation, append_head(r->append)), CONTROL_DONE);
	assert_true(rig_logged(r, "group is live, but this could not be kept"));
	devices_disconnected(r->devices, "a", false);
	assert_true(rig_logged(r, "cursor of a group could not be kept"));
	rig_free(r);
}

static enum status deliver_says;

static enum status deliver_so(void *ctx, const char *client, const struct message *m, uint8_t qos, enum delivery kind,
	const struct mqtt5_extras *v5)
{
	if (deliver_says == ST_OK) return rig_deliver(ctx, client, m, qos, kind, v5);
	return deliver_says;
}

/* 2.1: nobody reads. So much waits and no more; what comes behind it comes from Redis when there is room again. */
static void more_than_may_wait(void **state)
{
	struct rig *r = rig_told(4 << 20, mirrors, grants);
	struct current_message m, first = {0};
	unsigned held = 0;
	struct session_event e;
	struct entry_id generation;
	struct message old = {.id = {5, 0}, .topic = slice_str("dev/x"), .payload = slice_str("x"), .client = slice_str("p"), .qos = 1,
		.payload_format = -1};

	(void)state;
	join(r, "a", 60);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_false(devices_await(r->devices, "a"));
	assert_int_equal(rig_batch(r, GROUP, generation, inner, &old, 1, old.id), CONTROL_LATER); /* handed over, and not sent */
	assert_int_equal(rig_switch(r, GROUP, generation, append_head(r->append)), CONTROL_DONE);
	rig_expect(r, JOURNAL_LIVE, NULL);
	devices_tick(r->devices, false);
	for (unsigned i = 0; devices_count(r->devices).catching == 0; i++) {
		assert_true(i < GROUP_WAITING_MAX + 2 * GROUP_UNSENT_MAX);
		m = rig_publish(r, "dev/x", 1);
		if (rig_offer(r, "a", &m) && held++ == 0) first = m;
	}
	assert_true(held > GROUP_WAITING_MAX);
	assert_true(entry_id_compare(first.id, m.id) < 0);
	assert_true(devices_await(r->devices, "a"));
	assert_false(devices_await(r->devices, "stranger"));
	e = rig_expect(r, JOURNAL_GONE, NULL);
	assert_true(e.cursor_count == 1);
	rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
	rig_free(r);
}

/* At the switch there is too much of it: nothing is taken out of the journal, and the bridge goes on. */
static void too_much_at_the_switch(void **state)
{
	struct rig *r = rig_told(4 << 20, mirrors, grants);
	struct entry_id generation;
	struct message old = {.id = {5, 0}, .topic = slice_str("dev/x"), .payload = slice_str("x"), .client = slice_str("p"), .qos = 1,
		.payload_format = -1};

	(void)state;
	join(r, "a", 60);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	r->outlet.deliver = deliver_so;
	deliver_says = ST_NOMEM;
	for (unsigned i = 0; i < WINDOW_AT_ONCE + 2 * GROUP_UNSENT_MAX; i++) {
		old.id.ms++;
		if (rig_batch(r, GROUP, generation, inner, &old, 1, old.id) != CONTROL_LATER) break;
	}
	assert_int_equal(rig_switch(r, GROUP, generation, append_head(r->append)), CONTROL_TOO_FAR);
	deliver_says = ST_OK;
	rig_free(r);
}

/* Batches that nobody takes are not gathered without end; the bridge hears that they are still there. */
static unsigned later;

static void on_answer(void *ctx, const char *client, struct entry_id generation, uint32_t sequence, enum control_result result)
{
	(void)ctx, (void)generation, (void)sequence;
	assert_string_equal(client, GROUP);
	later += result == CONTROL_LATER;
}

static void batches_have_an_end(void **state)
{
	struct rig *r = rig_told(1 << 20, mirrors, grants);
	char *large = calloc(1, 1024 * 1024);
	struct message old = {.id = {5, 0}, .topic = slice_str("dev/x"), .client = slice_str("p"), .qos = 1, .payload_format = -1};
	enum control_result result = CONTROL_LATER;
	struct entry_id generation;
	int batches = 0;

	(void)state;
	assert_non_null(large);
	old.payload = slice_of(large, 1024 * 1024);
	devices_answer_by(r->devices, on_answer, NULL);
	join(r, "a", 60);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	r->outlet.deliver = deliver_so;
	deliver_says = ST_NOMEM;
	for (; result == CONTROL_LATER; batches++) {
		assert_true(batches < 20);
		old.id.ms++;
		result = rig_batch(r, GROUP, generation, inner, &old, 1, old.id);
		if (batches == 2) { /* a sign of life */
			rig_pass_time(6000);
			devices_tick(r->devices, false);
			assert_int_equal(later, 1);
		}
	}
	assert_int_equal(result, CONTROL_GONE);
	assert_true(rig_expect(r, JOURNAL_SUBSCRIBED, NULL).again);
	deliver_says = ST_OK;
	free(large);
	rig_free(r);
}

/* What has expired while it waited counts as given. */
static void what_has_expired(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct message old = {.id = {5, 0}, .topic = slice_str("dev/x"), .payload = slice_str("x"), .client = slice_str("p"), .qos = 1,
		.payload_format = -1};
	struct entry_id generation;

	(void)state;
	join(r, "a", 60);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	r->outlet.deliver = deliver_so;
	deliver_says = ST_END;
	assert_int_equal(rig_batch(r, GROUP, generation, inner, &old, 1, old.id), CONTROL_DONE);
	deliver_says = ST_OK;
	assert_int_equal(r->seen_count, 0);
	rig_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_longer_overlap_joins),
		cmocka_unit_test(a_longer_overlap_joins_at_a_loss),
		cmocka_unit_test(the_qos_of_a_kept_member),
		cmocka_unit_test(grants_go_and_come),
		cmocka_unit_test(no_room_in_the_journal),
		cmocka_unit_test(more_than_may_wait),
		cmocka_unit_test(too_much_at_the_switch),
		cmocka_unit_test(batches_have_an_end),
		cmocka_unit_test(what_has_expired),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
