/*
 * What tests of the device table stand on: a real journal in a temporary folder, real append and routes, a clock that only
 * the test moves, and an outlet that records what is handed over. One thread; static, one instance for each test program.
 */
#ifndef MQR_TESTS_DEVICE_RIG_H
#define MQR_TESTS_DEVICE_RIG_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/control.h"
#include "plugin/devices.h"
#include "plugin/qos2.h"

#define RIG_RULES_MAX 8
#define RIG_DELIVERIES_MAX 16384

struct delivery_seen {
	char client[32], topic[64];
	struct entry_id id;
	uint8_t qos;
	enum delivery kind;
	bool v5;
	uint32_t subscription_id;
};

struct rig {
	char folder[64], path[96];
	struct settings settings;
	struct mirror_rule mirrors[RIG_RULES_MAX];
	struct grant grants[RIG_RULES_MAX];
	struct journal *journal;
	struct report report;
	struct append *append;
	struct routes *routes;
	struct devices *devices;
	struct outlet outlet;
	struct devices_deps deps;
	struct qos2 *qos2;
	struct delivery_seen seen[RIG_DELIVERIES_MAX];
	size_t seen_count;
	uint64_t read_position;  /* of rig_event */
	unsigned log_lines;
	char last_line[2048];
	struct buf command;
	struct buf told;         /* to the bridge, the last */
	char told_client[32];
	unsigned told_count;
};

static uint64_t rig_now_ms, rig_wall_ms;

static inline uint64_t rig_monotonic(void)
{
	return rig_now_ms;
}

static inline uint64_t rig_wall(void)
{
	return rig_wall_ms;
}

static inline void rig_pass_time(uint64_t ms)
{
	rig_now_ms += ms;
	rig_wall_ms += ms;
}

static inline enum status rig_deliver(void *ctx, const char *client, const struct message *m, uint8_t qos,
	enum delivery kind, const struct mqtt5_extras *v5)
{
	struct rig *r = ctx;
	struct delivery_seen *d = &r->seen[r->seen_count++];

	assert_true(r->seen_count < RIG_DELIVERIES_MAX);
	snprintf(d->client, sizeof d->client, "%s", client);
	snprintf(d->topic, sizeof d->topic, "%.*s", (int)m->topic.len, m->topic.data);
	d->id = m->id;
	d->qos = qos;
	d->kind = kind;
	d->v5 = v5 != NULL;
	d->subscription_id = v5 ? v5->subscription_id : 0;
	return ST_OK;
}

static inline enum status rig_tell(void *ctx, const char *client, const void *payload, size_t len)
{
	struct rig *r = ctx;

	snprintf(r->told_client, sizeof r->told_client, "%s", client);
	buf_clear(&r->told);
	buf_append(&r->told, payload, len);
	r->told_count++;
	return ST_OK;
}

static inline void rig_log(void *ctx, enum log_level level, const char *line)
{
	struct rig *r = ctx;

	(void)level;
	r->log_lines++;
	snprintf(r->last_line, sizeof r->last_line, "%s", line);
}

static inline void rig_wake(void *ctx)
{
	(void)ctx;
}

static inline void rig_open_journal(struct rig *r, uint64_t size)
{
	struct journal_report report;
	char why[256] = "";

	snprintf(r->folder, sizeof r->folder, "/tmp/mqr-unit-XXXXXX");
	assert_non_null(mkdtemp(r->folder));
	snprintf(r->path, sizeof r->path, "%s/journal", r->folder);
	if (journal_open(r->path, size, "n1", &r->journal, &report, why, sizeof why) != ST_OK) fail_msg("%s", why);
}

static inline void rig_parse(struct rig *r, const char *const *mirrors, const char *const *grants)
{
	char why[256];

	r->settings.mirrors = r->mirrors;
	r->settings.grants = r->grants;
	for (; *mirrors; mirrors++)
		assert_int_equal(mirror_rule_parse(*mirrors, &r->mirrors[r->settings.mirror_count++], why, sizeof why), ST_OK);
	for (; *grants; grants++)
		assert_int_equal(grant_parse(*grants, &r->grants[r->settings.grant_count++], why, sizeof why), ST_OK);
	r->settings.hold_timeout_ms = 5000;
}

/* `mirrors` and `grants`: settings values, NULL at the end. */
static inline struct rig *rig_new(uint64_t journal_size, const char *const *mirrors, const char *const *grants)
{
	struct rig *r = calloc(1, sizeof *r);
	uint16_t numbers[RIG_RULES_MAX];

	assert_non_null(r);
	rig_now_ms = 1000000;
	rig_wall_ms = 1700000000000;
	journal_clock_ms = rig_wall;
	rig_open_journal(r, journal_size);
	rig_parse(r, mirrors, grants);
	r->outlet = (struct outlet){.deliver = rig_deliver, .tell_bridge = rig_tell, .log = {rig_log, r}, .ctx = r};
	for (size_t i = 0; i < r->settings.mirror_count; i++)
		assert_int_equal(journal_rule(r->journal, r->mirrors[i].text, &numbers[i]), ST_OK);
	assert_int_equal(report_init(&r->report), ST_OK);
	assert_int_equal(append_new(r->journal, &r->report, rig_wake, r, &r->append), ST_OK);
	assert_int_equal(routes_new(r->mirrors, numbers, r->settings.mirror_count, &r->routes), ST_OK);
	assert_int_equal(qos2_new(&r->qos2), ST_OK);
	r->deps = (struct devices_deps){.settings = &r->settings, .journal = r->journal, .append = r->append,
		.routes = r->routes, .report = &r->report, .outlet = &r->outlet, .now_ms = rig_monotonic,
		.qos2 = r->qos2};
	assert_int_equal(devices_new(&r->deps, &r->devices), ST_OK);
	r->read_position = journal_released(r->journal);
	return r;
}

static inline void rig_free(struct rig *r)
{
	devices_free(r->devices);
	qos2_free(r->qos2);
	routes_free(r->routes);
	append_free(r->append);
	report_fini(&r->report);
	journal_close(r->journal);
	for (size_t i = 0; i < r->settings.mirror_count; i++) mirror_rule_free(&r->mirrors[i]);
	for (size_t i = 0; i < r->settings.grant_count; i++) grant_free(&r->grants[i]);
	buf_free(&r->command);
	buf_free(&r->told);
	unlink(r->path);
	rmdir(r->folder);
	free(r);
}

/* The same on 2.1, where the broker tells what it sends and who connects. */
static inline struct rig *rig_told(uint64_t journal_size, const char *const *mirrors, const char *const *grants)
{
	struct rig *r = rig_new(journal_size, mirrors, grants);

	r->outlet.tells_sent = r->deps.tells_connect = true;
	devices_rewire(r->devices, &r->deps);
	return r;
}

static inline bool rig_logged(const struct rig *r, const char *text)
{
	return strstr(r->last_line, text) != NULL;
}

/* --- a full journal ---------------------------------------------------------------------------------------------- */

/* Until not even the smallest event has room. */
static inline void rig_fill(struct rig *r)
{
	char *out;
	bool wake;

	for (size_t len = 4096; len > 0; len /= 2) {
		while ((out = journal_reserve(r->journal, JOURNAL_UNSUBSCRIBED, len)) != NULL) {
			memset(out, 0, len);
			(void)journal_commit(r->journal, len, &wake);
		}
	}
}

static inline void rig_drain(struct rig *r)
{
	struct journal_record rec;
	uint64_t position = journal_released(r->journal);

	while (journal_next(r->journal, position, &rec) == ST_OK) {
		position = rec.next;
		journal_release(r->journal, position, rec.id);
	}
	r->read_position = position;
}

/* --- what clients do ------------------------------------------------------------------------------------------- */

static inline struct client_info rig_client(const char *id)
{
	return (struct client_info){.id = id, .user = NULL, .clean = true, .keepalive_s = 60};
}

/* Its session is kept. */
static inline struct client_info rig_kept(const char *id)
{
	struct client_info c = rig_client(id);

	c.clean = false;
	return c;
}

static inline void rig_subscribe(struct rig *r, const char *id, const char *filter, uint8_t qos)
{
	struct client_info c = rig_client(id);

	devices_subscribed(r->devices, &c, filter, qos);
}

/* Journals a message; its read checks may follow with rig_offer. */
static inline struct current_message rig_publish(struct rig *r, const char *topic, uint8_t qos)
{
	struct current_message c = {.message = {.topic = slice_str(topic), .payload = slice_str("x"),
		.client = slice_str("publisher"), .qos = qos, .payload_format = -1}};
	struct route route = *routes_find(r->routes, c.message.topic);

	assert_true(route.count > 0);
	assert_int_equal(append_message(r->append, &c.message, route.rules, route.count, &c.id), ST_OK);
	c.message.id = c.id;
	return c;
}

/* The broker's read check for one subscriber: true when it is held back. */
static inline bool rig_offer(struct rig *r, const char *client, const struct current_message *c)
{
	return devices_check_reads(r->devices, c) && devices_hold(r->devices, client, c);
}

/* --- what the journal got --------------------------------------------------------------------------------------- */

/* The next session event, skipping messages; false at the end. */
static inline bool rig_event(struct rig *r, enum journal_type *type, struct entry_id *id, struct session_event *e)
{
	struct journal_record rec;

	while (journal_next(r->journal, r->read_position, &rec) == ST_OK) {
		r->read_position = rec.next;
		if (rec.type == JOURNAL_MESSAGE) continue;
		assert_int_equal(session_event_unpack(rec.body, e), ST_OK);
		*type = rec.type;
		*id = rec.id;
		return true;
	}
	return false;
}

static inline struct session_event rig_expect(struct rig *r, enum journal_type type, struct entry_id *id)
{
	struct session_event e;
	enum journal_type got;
	struct entry_id ignored;

	do { /* positions come with time, in between; who does not ask for them does not care */
		if (!rig_event(r, &got, id ? id : &ignored, &e)) fail_msg("no event, expected type %d", (int)type);
	} while (got == JOURNAL_POSITION && type != JOURNAL_POSITION);
	assert_int_equal(got, type);
	return e;
}

static inline void rig_expect_none(struct rig *r)
{
	struct session_event e;
	enum journal_type type;
	struct entry_id id;

	if (rig_event(r, &type, &id, &e)) fail_msg("unexpected event of type %d", (int)type);
}

/* The cursor that a GONE event holds for a filter. */
static inline bool rig_cursor(const struct session_event *e, const char *filter, struct entry_id *cursor)
{
	struct slice rest = e->cursors, f;
	struct entry_id c;

	*cursor = ENTRY_ID_ZERO;
	for (unsigned i = 0; i < e->cursor_count; i++) {
		assert_true(session_cursor_next(&rest, &f, &c));
		if (!slice_equal(f, slice_str(filter))) continue;
		*cursor = c;
		return true;
	}
	return false;
}

/* --- what the bridge does --------------------------------------------------------------------------------------- */

static inline enum control_result rig_batch(struct rig *r, const char *client, struct entry_id generation,
	const char *const *filters, const struct message *messages, size_t count, struct entry_id upto)
{
	struct control_batch b;
	struct control_command c;

	control_batch_begin(&b, &r->command, slice_str(client), generation, 1);
	for (; *filters; filters++) control_batch_filter(&b, slice_str(*filters));
	for (size_t i = 0; i < count; i++) control_batch_message(&b, &messages[i]);
	control_batch_end(&b, upto);
	assert_int_equal(control_decode(slice_of(r->command.data, r->command.len), &c), ST_OK);
	return devices_batch(r->devices, &c);
}

static inline enum control_result rig_switch(struct rig *r, const char *client, struct entry_id generation,
	struct entry_id upto)
{
	struct control_command c;

	control_switch(&r->command, slice_str(client), generation, 1, upto);
	assert_int_equal(control_decode(slice_of(r->command.data, r->command.len), &c), ST_OK);
	return devices_switch(r->devices, &c);
}

static inline void assert_id_equal(struct entry_id a, struct entry_id b)
{
	assert_int_equal(a.ms, b.ms);
	assert_int_equal(a.seq, b.seq);
}

#endif
