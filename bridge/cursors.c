/*
 * The cursors of one filter. Owns what is known of each node. Loop thread; no I/O. It must never take a message for given that
 * the device may not have had, other than by the overlap it asked for.
 */
#include "bridge/cursors.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/counted_script.h"
#include "bridge/fetch_source.h"
#include "config/keys.h"
#include "config/resp.h"
#include "config/session_fields.h"

struct place {
	uint16_t node;
	bool has_cursor;
	struct entry_id cursor;
	char generation[ENTRY_ID_TEXT_MAX]; /* that subscribed to the filter last; empty: none known */
	bool has_given;
	struct given given;      /* by: not used, see given_by */
	uint16_t given_by;
	char live[ENTRY_ID_TEXT_MAX]; /* boot id; empty: not live there */
	char live_of[ENTRY_ID_TEXT_MAX]; /* the generation that is; empty: not known */
	struct entry_id since;   /* live since */
	bool ended;
	struct entry_id last;    /* of that run, when ended */
	struct entry_id mark;    /* zero: none */
};

enum round { ROUND_OWN, ROUND_COUNTED, ROUND_OTHERS, ROUND_BOOTS, ROUND_OVER };

struct cursors {
	const struct settings *settings;
	struct node_names *names;
	struct buf client, filter;
	struct entry_id subscribed;
	enum round round;        /* the next one to be asked for */
	struct place places[NODES_MAX]; /* [0]: our own */
	size_t count;
	bool has_began, counts, write;
	struct entry_id began;   /* where the filter began */
	struct entry_id last_id; /* counts: to be counted back from here */
	uint64_t last_count, overlap_ms;
	struct catch_up_debt debts[NODES_MAX];
	size_t debt_count;
	struct buf scratch;
};

bool last_parse(struct slice text, uint64_t *count, struct entry_id *id)
{
	const char *at;
	uint64_t n = 0;

	if (text.len < 7 || memcmp(text.data, "last=", 5) != 0) return false;
	at = memchr(text.data, '@', text.len);
	if (!at || at == text.data + 5 || at - text.data > 5 + 18) return false;
	for (const char *p = text.data + 5; p < at; p++) {
		if (*p < '0' || *p > '9') return false;
		n = n * 10 + (uint64_t)(*p - '0');
	}
	*count = n;
	return entry_id_parse(slice_of(at + 1, text.len - (size_t)(at + 1 - text.data)), id) == ST_OK;
}

enum status cursors_new(const struct settings *settings, struct node_names *names, struct slice client, const char *filter,
	struct entry_id subscribed, struct cursors **out)
{
	struct cursors *c = calloc(1, sizeof(*c));

	if (!c) return ST_NOMEM;
	c->settings = settings;
	c->names = names;
	c->subscribed = subscribed;
	c->count = 1; /* places[0] is NODE_OWN */
	buf_append_slice(&c->client, client);
	buf_append_str(&c->filter, filter);
	if (c->client.failed || c->filter.failed) {
		cursors_free(c);
		return ST_NOMEM;
	}
	*out = c;
	return ST_OK;
}

void cursors_free(struct cursors *c)
{
	if (!c) return;
	buf_free(&c->client);
	buf_free(&c->filter);
	buf_free(&c->scratch);
	free(c);
}

/* --- questions ------------------------------------------------------------------------------------------------- */

static struct slice whole(const struct buf *b)
{
	return b->len ? slice_of(b->data, b->len) : slice_of("", 0);
}

static struct slice name_of(const struct cursors *c, size_t place)
{
	return slice_str(node_names_text(c->names, c->places[place].node));
}

static void arg(struct cursors *c, struct buf *commands, struct slice made)
{
	if (c->scratch.failed) commands->failed = true;
	else resp_arg(commands, made);
}

static void begin_hmget(struct cursors *c, struct buf *commands, size_t fields)
{
	resp_begin(commands, 2 + fields);
	resp_arg_str(commands, "HMGET");
	arg(c, commands, key_make(&c->scratch, settings_keys(c->settings), KEY_SESSION, whole(&c->client)));
}

static void arg_filter_field(struct cursors *c, struct buf *commands, enum session_field kind, size_t place)
{
	arg(c, commands, session_filter_field(&c->scratch, kind, name_of(c, place), whole(&c->filter)));
}

static size_t ask_own(struct cursors *c, struct buf *commands)
{
	begin_hmget(c, commands, 4);
	arg_filter_field(c, commands, SESSION_BEGAN, 0);
	arg_filter_field(c, commands, SESSION_CURSOR, 0);
	arg_filter_field(c, commands, SESSION_GIVEN, 0);
	resp_arg_str(commands, SESSION_OVERLAP);
	resp_begin(commands, 4);
	resp_arg_str(commands, "ZRANGE");
	arg(c, commands, key_make(&c->scratch, settings_keys(c->settings), KEY_NODES, (struct slice){0}));
	resp_arg_str(commands, "0");
	resp_arg_u64(commands, NODES_MAX - 1);
	return 2;
}

static size_t write_counted(struct cursors *c, struct buf *commands)
{
	char text[ENTRY_ID_TEXT_MAX + 32], id[ENTRY_ID_TEXT_MAX];

	if (!c->write) return 0;
	(void)entry_id_format(c->last_id, id);
	(void)snprintf(text, sizeof(text), "last=%" PRIu64 "@%s", c->last_count, id);
	resp_begin(commands, 10);
	resp_arg_str(commands, "EVAL");
	resp_arg_str(commands, COUNTED_SCRIPT);
	resp_arg_str(commands, "1");
	arg(c, commands, key_make(&c->scratch, settings_keys(c->settings), KEY_SESSION, whole(&c->client)));
	arg_filter_field(c, commands, SESSION_BEGAN, 0);
	arg_filter_field(c, commands, SESSION_CURSOR, 0);
	arg_filter_field(c, commands, SESSION_SINCE, 0);
	resp_arg_str(commands, text);
	resp_arg_str(commands, id);
	resp_arg_id(commands, c->began);
	return 1;
}

static size_t ask_others(struct cursors *c, struct buf *commands)
{
	for (size_t i = 1; i < c->count; i++) {
		begin_hmget(c, commands, 6);
		arg_filter_field(c, commands, SESSION_CURSOR, i);
		arg_filter_field(c, commands, SESSION_GIVEN, i);
		arg(c, commands, session_node_field(&c->scratch, SESSION_LIVE, name_of(c, i)));
		arg(c, commands, session_node_field(&c->scratch, SESSION_LIVE_AT, name_of(c, i)));
		arg(c, commands, session_node_field(&c->scratch, SESSION_LIVE_OF, name_of(c, i)));
		arg_filter_field(c, commands, SESSION_SINCE, i);
		resp_begin(commands, 2);
		resp_arg_str(commands, "GET");
		arg(c, commands, key_make(&c->scratch, settings_keys(c->settings), KEY_MARK, name_of(c, i)));
	}
	return 2 * (c->count - 1);
}

static bool asks_boot(const struct cursors *c, size_t i)
{
	return i > 0 && c->places[i].live[0];
}

static size_t ask_boots(struct cursors *c, struct buf *commands)
{
	size_t n = 0;

	for (size_t i = 1; i < c->count; i++) {
		if (!asks_boot(c, i)) continue;
		resp_begin(commands, 3);
		resp_arg_str(commands, "HGET");
		arg(c, commands, key_make_beside(&c->scratch, settings_keys(c->settings), KEY_BOOTS, whole(&c->client), name_of(c, i)));
		resp_arg_str(commands, c->places[i].live);
		n++;
	}
	return n;
}

static void settle(struct cursors *c);

size_t cursors_ask(struct cursors *c, struct buf *commands)
{
	size_t replies = 0;

	while (replies == 0 && c->round < ROUND_OVER) {
		switch (c->round++) {
		case ROUND_OWN:
			replies = ask_own(c, commands);
			break;
		case ROUND_COUNTED:
			replies = write_counted(c, commands);
			break;
		case ROUND_OTHERS:
			replies = ask_others(c, commands);
			break;
		case ROUND_BOOTS:
			replies = ask_boots(c, commands);
			break;
		case ROUND_OVER: /* unreached: the loop ends before */
			break;
		}
	}
	if (replies == 0) settle(c);
	return replies;
}

/* --- answers --------------------------------------------------------------------------------------------------- */

static struct slice element(const redisReply *reply, size_t i)
{
	if (reply->type != REDIS_REPLY_ARRAY || i >= reply->elements) return (struct slice){0};
	return reply_slice(reply->element[i]);
}

static void take_cursor(struct place *p, struct slice text)
{
	p->has_cursor = text.data && entry_id_parse(text, &p->cursor) == ST_OK;
}

static void take_given(struct cursors *c, struct place *p, struct slice text)
{
	p->has_given = text.data && given_parse(text, &p->given);
	if (p->has_given) p->given_by = node_names_number(c->names, p->given.by);
	p->given.by = (struct slice){0}; /* the reply's */
}

static void take_own(struct cursors *c, const redisReply *reply)
{
	struct slice began = element(reply, 0), cursor = element(reply, 1), overlap = element(reply, 3);

	c->has_began = began.data && (last_parse(began, &c->last_count, &c->began) || entry_id_parse(began, &c->began) == ST_OK);
	if (!cursor.data) cursor = began; /* before nodes had cursors of their own */
	take_cursor(&c->places[0], cursor);
	c->counts = cursor.data && last_parse(cursor, &c->last_count, &c->last_id);
	take_given(c, &c->places[0], element(reply, 2));
	c->overlap_ms = overlap.data ? strtoull(overlap.data, NULL, 10) : 0; /* hiredis ends texts with a NUL */
}

/* It cannot be written (no memory, or a user of Redis made for an older bridge), or the filter is subscribed to no more:
 * then as it was counted. */
static void take_counted(struct cursors *c, const redisReply *reply)
{
	struct slice began = element(reply, 0), cursor = element(reply, 1);
	struct entry_id id;

	if (began.data && entry_id_parse(began, &id) == ST_OK) c->began = id;
	if (cursor.data && entry_id_parse(cursor, &id) == ST_OK) c->places[0].cursor = id;
}

static void take_nodes(struct cursors *c, const redisReply *reply)
{
	for (size_t i = 0; reply->type == REDIS_REPLY_ARRAY && i < reply->elements; i++) {
		struct slice name = reply_slice(reply->element[i]);
		uint16_t node = name.data ? node_names_number(c->names, name) : NODE_UNKNOWN;

		if (node != NODE_OWN && node != NODE_UNKNOWN && c->count < NODES_MAX) c->places[c->count++].node = node;
	}
}

static void copy_text(char out[ENTRY_ID_TEXT_MAX], struct slice text)
{
	size_t len = text.data && text.len < ENTRY_ID_TEXT_MAX ? text.len : 0;

	if (len > 0) memcpy(out, text.data, len);
	out[len] = '\0';
}

static void take_other(struct cursors *c, const redisReply *reply, size_t index)
{
	struct place *p = &c->places[1 + index / 2];
	struct slice generation;
	struct entry_id ignored;

	if (index % 2) {
		if (entry_id_parse(reply_slice(reply), &p->mark) != ST_OK) p->mark = ENTRY_ID_ZERO;
		return;
	}
	take_cursor(p, element(reply, 0));
	take_given(c, p, element(reply, 1));
	copy_text(p->live, element(reply, 2));
	if (entry_id_parse(element(reply, 3), &p->since) != ST_OK) p->since = ENTRY_ID_ZERO;
	copy_text(p->live_of, element(reply, 4));
	if (session_since_parse(element(reply, 5), &ignored, &generation)) copy_text(p->generation, generation);
}

static void take_boot(struct cursors *c, const redisReply *reply, size_t index)
{
	size_t i = 1;

	while (!asks_boot(c, i) || index-- > 0) i++; /* ends: so many were asked for */
	c->places[i].ended = entry_id_parse(reply_slice(reply), &c->places[i].last) == ST_OK;
}

enum status cursors_take(struct cursors *c, const redisReply *reply, size_t index)
{
	if (c->round != ROUND_COUNTED + 1 && reply_error_passes(reply)) return ST_AGAIN;
	if (c->round == ROUND_OWN + 1 && index == 0) take_own(c, reply);
	else if (c->round == ROUND_OWN + 1) take_nodes(c, reply);
	else if (c->round == ROUND_COUNTED + 1) take_counted(c, reply);
	else if (c->round == ROUND_OTHERS + 1) take_other(c, reply, index);
	else take_boot(c, reply, index);
	return ST_OK;
}

bool cursors_last(const struct cursors *c, uint64_t *count, struct entry_id *id)
{
	*count = c->last_count;
	*id = c->last_id;
	return c->counts;
}

void cursors_counted(struct cursors *c, struct entry_id id, bool write)
{
	c->write = write;
	c->counts = false;
	c->began = c->places[0].cursor = id;
	c->has_began = c->places[0].has_cursor = true;
}

/* --- what they mean -------------------------------------------------------------------------------------------- */

/* Its own cursor, brought up to the end of a run of the broker that no GONE told of. */
static struct entry_id stands(const struct cursors *c, size_t i)
{
	const struct place *p = &c->places[i];
	struct entry_id cursor = p->has_cursor ? p->cursor : c->began;
	struct entry_id end = entry_id_back(p->ended ? p->last : p->mark, c->overlap_ms);

	if (!asks_boot(c, i) || (c->overlap_ms > 0 && end.ms < p->since.ms)) return cursor;
	if (p->live_of[0] && strcmp(p->live_of, p->generation) != 0) return cursor; /* it was not subscribed to then */
	return entry_id_compare(end, cursor) > 0 ? end : cursor;
}

static struct entry_id had_upto(const struct cursors *c, size_t i)
{
	const struct place *p = &c->places[i];
	struct entry_id cursor = stands(c, i), given;

	if (!p->has_given) return cursor;
	given = p->given.start;
	for (size_t k = 0; k < c->count; k++) {
		if (c->places[k].node == p->given_by) given = given_upto(&p->given, stands(c, k));
	}
	return entry_id_compare(given, cursor) > 0 ? given : cursor;
}

static void settle(struct cursors *c)
{
	c->debt_count = 0;
	for (size_t i = 1; i < c->count; i++) {
		struct place *p = &c->places[i];
		struct entry_id end = entry_id_compare(p->mark, c->subscribed) < 0 ? p->mark : c->subscribed;
		struct entry_id start = had_upto(c, i);

		if (!p->has_cursor && !c->has_began) continue; /* nothing tells that it is owed */
		if (entry_id_compare(start, end) >= 0) continue;
		c->debts[c->debt_count++] = (struct catch_up_debt){p->node, start, end};
	}
}

struct entry_id cursors_own(const struct cursors *c)
{
	return c->places[0].has_cursor ? had_upto(c, 0) : ENTRY_ID_MAX;
}

const struct catch_up_debt *cursors_debts(const struct cursors *c, size_t *count)
{
	*count = c->debt_count;
	return c->debts;
}

uint64_t cursors_overlap_ms(const struct cursors *c)
{
	return c->overlap_ms;
}
