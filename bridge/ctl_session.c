/*
 * Reads the session hash. Owns what it fills in. Must never change anything in Redis.
 */
#include "bridge/ctl_session.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/ctl_command.h"
#include "bridge/ctl_redis.h"
#include "bridge/ctl_terminal.h"
#include "bridge/cursors.h"
#include "bridge/fetch_source.h"
#include "config/keys.h"
#include "config/session_fields.h"
#include "config/topic.h"

/* A device that was live when the broker ended: until then it had everything (as the plugin's script at SUBSCRIBE). */
struct crash {
	bool happened;
	struct entry_id end; /* less the overlap */
	bool cursors_stay;   /* it had been live for less than that */
	bool session_lost;   /* the one that the broker kept for it */
};

const char *ctl_presence_text(enum ctl_presence presence)
{
	static const char *const texts[] = {"absent", "catching up", "live"};

	return texts[presence];
}

bool ctl_gap_field(struct ctl_gap *gap, struct slice field, struct slice value)
{
	uint64_t number = value.data ? strtoull(value.data, NULL, 10) : 0; /* hiredis ends texts with a NUL */

	if (slice_equal(field, slice_str(SESSION_GAP))) gap->messages = number;
	else if (slice_equal(field, slice_str(SESSION_GAP_MORE))) gap->more = number > 0;
	else if (slice_equal(field, slice_str(SESSION_GAP_AT))) gap->at_ms = number;
	else return false;
	return true;
}

const char *ctl_gap_text(const struct ctl_gap *gap, char out[CTL_GAP_TEXT_MAX])
{
	if (gap->messages == 0 && !gap->more) return "-";
	(void)snprintf(out, CTL_GAP_TEXT_MAX, "%" PRIu64 "%s", gap->messages, gap->more ? "+" : "");
	return out;
}

void ctl_gap_json(struct buf *json, const struct ctl_gap *gap)
{
	ctl_json_number(json, "gap", gap->messages);
	ctl_json_name(json, "gap_more");
	buf_append_str(json, gap->more ? "true" : "false");
	ctl_json_number(json, "gap_at_ms", gap->at_ms);
}

static redisReply *boot_end(struct ctl_redis *redis, const struct settings *settings, struct slice boot)
{
	struct buf key = {0};
	struct slice argv[3] = {slice_str("HGET"), key_make_shard(&key, settings_keys(settings), KEY_BOOTS, 0,
		slice_str(settings->node)), boot};
	redisReply *reply = key.failed ? NULL : ctl_redis_command(redis, 3, argv);

	buf_free(&key);
	return reply;
}

bool ctl_boot_over(struct ctl_redis *redis, const struct settings *settings, struct slice value)
{
	redisReply *reply = value.data ? boot_end(redis, settings, value) : NULL;
	bool over = !value.data || (reply && reply->type == REDIS_REPLY_STRING);

	if (reply) freeReplyObject(reply);
	return over;
}

static struct slice field(const redisReply *hash, struct slice name)
{
	for (size_t i = 0; i + 1 < hash->elements; i += 2) {
		if (slice_equal(reply_slice(hash->element[i]), name)) return reply_slice(hash->element[i + 1]);
	}
	return (struct slice){0};
}

/* `live` and the like at our node; before there were nodes they had none in their names. */
static struct slice node_field(const redisReply *hash, const struct settings *settings, const char *name)
{
	struct buf made = {0};
	struct slice value = field(hash, session_node_field(&made, name, slice_str(settings->node)));

	buf_free(&made);
	return value.data ? value : field(hash, slice_str(name));
}

static struct crash crash_of(struct ctl_redis *redis, const struct settings *settings, const redisReply *hash)
{
	struct slice live = node_field(hash, settings, SESSION_LIVE), text = field(hash, slice_str(SESSION_OVERLAP));
	struct crash c = {0};
	struct entry_id since;
	redisReply *end = live.data ? boot_end(redis, settings, live) : NULL;
	uint64_t overlap = text.data ? strtoull(text.data, NULL, 10) : 0; /* hiredis ends texts with a NUL */

	if (end && end->type == REDIS_REPLY_STRING && entry_id_parse(reply_slice(end), &c.end) == ST_OK) {
		c.happened = true;
		c.end = entry_id_back(c.end, overlap);
		c.cursors_stay = overlap > 0 && entry_id_parse(node_field(hash, settings, SESSION_LIVE_AT), &since) == ST_OK && c.end.ms < since.ms;
	}
	if (end) freeReplyObject(end);
	return c;
}

static int no_memory(void)
{
	fprintf(stderr, CTL_PROGRAM_NAME ": out of memory\n");
	return CTL_PROBLEM;
}

/* Of our node, and of the others that owe it something. */
static int add_filters(struct ctl_session *s, struct slice filter, const struct ctl_cursor *cursor, bool moves,
	struct entry_id crash_end)
{
	size_t room = s->filter_count + 1 + cursor->debt_count;
	struct catch_up_filter *filters = realloc(s->filters, room * sizeof(*filters));

	if (!filters) return no_memory();
	s->filters = filters;
	for (size_t i = 0; i <= cursor->debt_count; i++) {
		struct catch_up_filter f = {.qos = 2, .known = true, .start = cursor->own, .end = ENTRY_ID_MAX};

		if (i == 0 && moves && entry_id_compare(f.start, crash_end) < 0) f.start = crash_end;
		if (i > 0) {
			f.node = cursor->debts[i - 1].node;
			f.start = cursor->debts[i - 1].start;
			f.end = cursor->debts[i - 1].end;
		}
		f.position = f.start;
		f.filter = strndup(filter.data, filter.len);
		if (!f.filter) return no_memory();
		s->filters[s->filter_count++] = f;
	}
	return CTL_OK;
}

/* Had it been subscribed to when the device was live? */
static bool was_live(const struct settings *settings, const redisReply *hash, struct slice filter)
{
	struct slice of = node_field(hash, settings, SESSION_LIVE_OF), generation = {0};
	struct buf made = {0};
	struct entry_id since;

	(void)!session_since_parse(field(hash, session_filter_field(&made, SESSION_SINCE, slice_str(settings->node), filter)), &since,
		&generation);
	buf_free(&made);
	return !of.data || slice_equal(of, generation);
}

/* Where it stands without the session that the broker kept. */
static void step_back(const struct settings *settings, const redisReply *hash, struct slice filter, struct entry_id *cursor)
{
	struct buf made = {0};
	struct slice value = field(hash, session_filter_field(&made, SESSION_BEHIND, slice_str(settings->node), filter));
	struct entry_id behind;

	if (value.data && entry_id_parse(value, &behind) == ST_OK && entry_id_compare(behind, *cursor) < 0) *cursor = behind;
	buf_free(&made);
}

static int take_filter(struct ctl_session *s, struct ctl_reader *reader, const redisReply *hash, struct slice filter,
	struct slice value, const struct crash *crash)
{
	struct ctl_cursor cursor = {.own = ENTRY_ID_MAX};
	struct entry_id id;
	uint64_t count;
	char *text = strndup(filter.data, filter.len);
	enum status st = text ? ctl_reader_cursor(reader, slice_str(s->client), text, &cursor) : ST_NOMEM;

	free(text);
	if (st != ST_OK) {
		fprintf(stderr, CTL_PROGRAM_NAME ": Redis: %s\n", status_text(st));
		return CTL_UNREACHABLE;
	}
	if (crash->session_lost) step_back(s->settings, hash, filter, &cursor.own);
	return add_filters(s, filter, &cursor, crash->happened && !crash->cursors_stay && !last_parse(value, &count, &id),
		crash->end);
}

/* What has come already through subscriptions whose cursors stand higher. */
static int take_had(struct ctl_reader *reader, const redisReply *hash, struct ctl_session *s)
{
	struct had_list *list = NULL;
	enum status st = ctl_reader_had(reader, hash, &list);
	size_t count;
	const struct catch_up_had *had = had_list_items(list, &count);
	struct catch_up_filter *filters = st == ST_OK ? realloc(s->filters, (s->filter_count + count + 1) * sizeof(*filters)) : NULL;

	if (filters) s->filters = filters;
	for (size_t i = 0; filters && i < count; i++) {
		struct catch_up_filter f = {.node = had[i].node, .had = true, .known = true, .start = had[i].since,
			.position = had[i].upto, .end = had[i].upto, .filter = strndup(had[i].filter.data, had[i].filter.len)};

		if (f.filter) s->filters[s->filter_count++] = f;
		else filters = NULL;
	}
	had_list_free(list);
	return filters ? CTL_OK : no_memory();
}

static int take_hash(struct ctl_redis *redis, struct ctl_reader *reader, const redisReply *hash, struct ctl_session *s)
{
	struct slice live = node_field(hash, s->settings, SESSION_LIVE), here = node_field(hash, s->settings, SESSION_HERE);
	struct slice user = field(hash, slice_str(SESSION_USER));
	struct slice kept = node_field(hash, s->settings, SESSION_KEPT);
	struct crash crash = crash_of(redis, s->settings, hash);
	int code = CTL_OK;

	crash.session_lost = kept.data && ctl_boot_over(redis, s->settings, kept);
	if (live.data && !ctl_boot_over(redis, s->settings, live)) s->presence = CTL_LIVE;
	else if (here.data && !ctl_boot_over(redis, s->settings, here)) s->presence = CTL_CATCHING_UP;
	if (user.data && !(s->user = strndup(user.data, user.len))) return no_memory();
	for (size_t i = 0; code == CTL_OK && i + 1 < hash->elements; i += 2) {
		enum session_field kind;
		struct slice name = reply_slice(hash->element[i]), node, filter;

		if (ctl_gap_field(&s->gap, name, reply_slice(hash->element[i + 1]))) continue;
		if (!session_filter_field_parse(name, &kind, &node, &filter)) continue;
		if (kind != SESSION_BEGAN) continue;
		struct crash its = crash;

		its.happened = crash.happened && was_live(s->settings, hash, filter);
		code = take_filter(s, reader, hash, filter, reply_slice(hash->element[i + 1]), &its);
	}
	return code == CTL_OK ? take_had(reader, hash, s) : code;
}

static uint64_t seen(struct ctl_redis *redis, const struct settings *settings, const char *client)
{
	struct buf key = {0};
	struct slice argv[3] = {slice_str("ZSCORE"), key_make_beside(&key, settings_keys(settings), KEY_SESSIONS, slice_str(client),
		(struct slice){0}), slice_str(client)};
	redisReply *reply = key.failed ? NULL : ctl_redis_command(redis, 3, argv);
	uint64_t ms = reply && reply->type == REDIS_REPLY_STRING ? strtoull(reply->str, NULL, 10) : 0;

	buf_free(&key);
	if (reply) freeReplyObject(reply);
	return ms;
}

int ctl_session_read(struct ctl_redis *redis, struct ctl_reader *reader, const struct settings *settings, const char *client,
	struct ctl_session *out)
{
	struct buf key = {0};
	struct slice argv[2] = {slice_str("HGETALL"), key_make(&key, settings_keys(settings), KEY_SESSION, slice_str(client))};
	redisReply *hash = key.failed ? NULL : ctl_redis_command(redis, 2, argv);
	char why[512], shown[256];
	int code = CTL_OK;

	buf_free(&key);
	*out = (struct ctl_session){.client = client, .settings = settings};
	if (!hash || hash->type != REDIS_REPLY_ARRAY) {
		fprintf(stderr, CTL_PROGRAM_NAME ": Redis: %s\n", hash && hash->str ? hash->str : ctl_redis_error(redis));
		code = hash ? CTL_PROBLEM : CTL_UNREACHABLE;
	} else if (hash->elements == 0) {
		fprintf(stderr, CTL_PROGRAM_NAME ": device %s is not known (prefix %s)\n",
			log_printable(client, strlen(client), shown, sizeof(shown)), settings->prefix);
		code = CTL_PROBLEM;
	} else if (settings->acl_file && acl_file_load(settings->acl_file, &out->acl, why, sizeof(why)) != ST_OK) {
		fprintf(stderr, "%s\n", why);
		code = CTL_PROBLEM;
	} else {
		out->seen_ms = seen(redis, settings, client);
		code = take_hash(redis, reader, hash, out);
	}
	if (hash) freeReplyObject(hash);
	return code;
}

void ctl_session_fini(struct ctl_session *s)
{
	for (size_t i = 0; i < s->filter_count; i++) free(s->filters[i].filter);
	free(s->filters);
	free(s->user);
	acl_file_free(s->acl);
	*s = (struct ctl_session){0};
}

/* A pattern with any client id and user name: "%c" and "%u" as levels that match all. */
static void pattern_widen(const char *pattern, struct buf *out)
{
	buf_clear(out);
	for (const char *p = pattern; *p; p++) {
		bool name = p[0] == '%' && (p[1] == 'c' || p[1] == 'u');

		buf_append(out, name ? "+" : p, 1);
		p += name;
	}
}

/* A group ($share/group/filter) is given what any member could be. */
static bool granted_by(const struct ctl_session *s, const char *pattern, struct slice topic, struct buf *scratch)
{
	struct slice inner;

	if (!filter_is_shared(slice_str(s->client), &inner))
		return pattern_expand(slice_str(pattern), slice_str(s->client), slice_str(s->user), scratch)
			&& topic_matches(slice_of(scratch->data, scratch->len), topic);
	pattern_widen(pattern, scratch);
	return !scratch->failed && topic_matches(slice_of(scratch->data, scratch->len), topic);
}

bool ctl_session_may(const struct ctl_session *s, struct slice topic)
{
	struct slice client = slice_str(s->client), user = slice_str(s->user), inner;
	bool granted = s->settings->grant_count == 0;
	struct buf scratch = {0};

	for (size_t i = 0; i < s->settings->grant_count && !granted; i++)
		granted = granted_by(s, s->settings->grants[i].pattern, topic, &scratch);
	buf_free(&scratch);
	if (!granted || filter_is_shared(client, &inner)) return granted;
	return !s->acl || acl_file_allows(s->acl, client, user, topic, ACL_READ);
}
