/*
 * The rounds of housekeeping. Owns where a round stands. Loop thread; no I/O. It must never remove what was written
 * to after it was looked at, nor call a time covered that a broken round has not walked.
 */
#include "bridge/sweep_parts.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "bridge/fetch_source.h"
#include "config/decimal.h"
#include "config/entry_id.h"
#include "config/resp.h"

/* --- life ------------------------------------------------------------------------------------------------------ */

static void add_age(struct sweep *s, uint64_t age)
{
	for (size_t i = 0; i < s->age_count; i++) {
		if (s->ages[i] == age) return;
	}
	s->ages[s->age_count++] = age;
	if (s->youngest == 0 || age < s->youngest) s->youngest = age;
}

enum status sweep_new(const struct sweep_config *config, struct sweep **out)
{
	struct sweep *s = calloc(1, sizeof(*s));

	if (!s) return ST_NOMEM;
	s->config = *config;
	s->step = STEP_OVER;
	*out = s;
	return ST_OK;
}

void sweep_free(struct sweep *s)
{
	if (!s) return;
	buf_free(&s->command);
	buf_free(&s->scratch);
	buf_free(&s->key);
	buf_free(&s->members);
	free(s);
}

/* Anew each time: the rules may have been read again. */
static void note_ages(struct sweep *s)
{
	const struct settings *settings = s->config.settings;
	uint64_t quiet = s->config.key_quiet_ms, least = quiet < SWEEP_KEY_LEAST_MS ? quiet : SWEEP_KEY_LEAST_MS;

	s->age_count = 0;
	s->youngest = 0;
	add_age(s, quiet);
	for (size_t i = 0; i < settings->mirror_count && s->age_count < RULE_COUNT_MAX + 1; i++) {
		uint64_t maxage = settings->mirrors[i].maxage_ms;
		if (maxage > 0) add_age(s, maxage > least ? maxage : least);
	}
}

void sweep_begin(struct sweep *s, bool full, bool sessions)
{
	note_ages(s);
	s->step = STEP_TIME;
	s->full = full;
	s->sessions = sessions;
	s->totals = (struct sweep_totals){0};
}

const struct sweep_totals *sweep_done(const struct sweep *s)
{
	return &s->totals;
}

/* --- windows --------------------------------------------------------------------------------------------------- */

static void add_window(struct sweep *s, enum key_kind kind, uint64_t covered, uint64_t age)
{
	uint64_t from = s->full || covered == 0 ? 0 : sweep_back(covered, age), to = sweep_back(s->now, age);

	if (from < to) s->windows[s->window_count++] = (struct window){kind, from, to};
}

static void plan(struct sweep *s)
{
	s->window = s->window_count = 0;
	s->shard = 0;
	if (s->full || s->covered == 0) {
		add_window(s, KEY_INDEX, 0, s->youngest);
	} else {
		for (size_t i = 0; i < s->age_count; i++) add_window(s, KEY_INDEX, s->covered, s->ages[i]);
	}
	if (s->sessions) add_window(s, KEY_SESSIONS, s->sessions_covered, s->config.settings->session_ttl_ms);
}

static void end(struct sweep *s)
{
	s->step = STEP_OVER;
	s->covered = s->now;
	if (s->sessions) s->sessions_covered = s->now;
}

/* What a window begins with, or the end of all of them. */
static void begin_window(struct sweep *s)
{
	/* Boots may go only when every session was looked at. */
	bool boots = s->sessions && (s->full || s->sessions_covered == 0);

	s->score[0] = '\0';
	s->kept = 0;
	if (s->window < s->window_count) s->step = STEP_PAGE;
	else if (boots) s->step = STEP_BOOTS;
	else end(s);
}

void sweep_page_ended(struct sweep *s)
{
	s->step = STEP_PAGE;
	if (!s->last_page) return;
	if (++s->shard == sweep_shards(s)) {
		s->shard = 0;
		s->window++;
	}
	begin_window(s);
}

/* --- commands -------------------------------------------------------------------------------------------------- */

void sweep_arg_key(struct sweep *s, struct buf *out, enum key_kind kind, struct slice last)
{
	struct slice key = key_make(&s->key, settings_keys(s->config.settings), kind, last);

	if (s->key.failed) out->failed = true;
	resp_arg(out, key);
}

void sweep_arg_shard(struct sweep *s, struct buf *out, enum key_kind kind)
{
	struct slice last = kind == KEY_BOOTS ? slice_str(s->config.settings->node) : slice_of(NULL, 0);
	struct slice key = key_make_shard(&s->key, settings_keys(s->config.settings), kind, s->shard, last);

	if (s->key.failed) out->failed = true;
	resp_arg(out, key);
}

static void ask_page(struct sweep *s, struct buf *out)
{
	const struct window *w = &s->windows[s->window];
	char to[SCORE_MAX];

	(void)snprintf(to, sizeof(to), "(%" PRIu64, w->to);
	resp_begin(out, 8);
	resp_arg_str(out, "ZRANGEBYSCORE");
	sweep_arg_shard(s, out, w->kind);
	if (s->score[0]) resp_arg_str(out, s->score);
	else resp_arg_u64(out, w->from);
	resp_arg_str(out, to);
	resp_arg_str(out, "WITHSCORES");
	resp_arg_str(out, "LIMIT");
	resp_arg_u64(out, s->kept);
	resp_arg_u64(out, SWEEP_PAGE);
}

size_t sweep_ask(struct sweep *s, struct buf *commands)
{
	size_t count = s->step == STEP_KEYS ? s->items : 1;

	if (s->step == STEP_TIME) {
		resp_command(commands, "TIME", NULL);
	} else if (s->step == STEP_PAGE) {
		ask_page(s, commands);
	} else if (s->step != STEP_BOOTS && s->step != STEP_OVER) {
		buf_append(commands, s->command.data, s->command.len);
		if (s->command.failed) commands->failed = true;
	} else if (s->step == STEP_BOOTS) {
		resp_begin(commands, 2);
		resp_arg_str(commands, "HGETALL");
		sweep_arg_shard(s, commands, KEY_BOOTS);
	}
	if (commands->failed) s->step = STEP_OVER;
	return s->step != STEP_OVER ? count : 0;
}

/* --- boots ----------------------------------------------------------------------------------------------------- */

static void boots_ended(struct sweep *s)
{
	s->step = STEP_BOOTS;
	if (++s->shard == sweep_shards(s)) end(s);
}

static bool take_boots(struct sweep *s, const redisReply *reply)
{
	uint64_t limit = sweep_back(s->now, s->config.settings->session_ttl_ms);
	struct buf fields = {0};
	size_t count = 0;

	if (reply->type != REDIS_REPLY_ARRAY) return false;
	for (size_t i = 0; i + 1 < reply->elements; i += 2) {
		struct entry_id last;

		if (entry_id_parse(reply_slice(reply->element[i + 1]), &last) != ST_OK || last.ms >= limit) continue;
		resp_arg(&fields, reply_slice(reply->element[i]));
		count++;
	}
	if (count == 0) {
		boots_ended(s);
	} else {
		buf_clear(&s->command);
		resp_begin(&s->command, 2 + count);
		resp_arg_str(&s->command, "HDEL");
		sweep_arg_shard(s, &s->command, KEY_BOOTS);
		buf_append(&s->command, fields.data, fields.len);
		if (fields.failed) s->command.failed = true;
		s->step = STEP_BOOTS_DROP;
	}
	buf_free(&fields);
	return true;
}

/* --- replies --------------------------------------------------------------------------------------------------- */

/* The earlier of Redis' clock and ours: a wrong one must not remove anything too early. */
static bool take_time(struct sweep *s, const redisReply *reply)
{
	uint64_t seconds, micros, own = s->config.wall_ms(s->config.ctx);

	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2) return false;
	if (decimal_parse(reply_slice(reply->element[0]), &seconds) != ST_OK || seconds > UINT32_MAX) return false;
	if (decimal_parse(reply_slice(reply->element[1]), &micros) != ST_OK || micros >= 1000000) return false;
	s->now = seconds * 1000 + micros / 1000;
	if (own < s->now) s->now = own;
	plan(s);
	begin_window(s);
	return true;
}

bool sweep_take(struct sweep *s, const redisReply *reply)
{
	bool taken = false;

	switch (s->step) {
	case STEP_TIME:
		taken = take_time(s, reply);
		break;
	case STEP_PAGE:
		taken = sweep_take_page(s, reply);
		break;
	case STEP_KEYS:
		taken = sweep_take_key(s, reply);
		break;
	case STEP_MEMBERS:
		taken = sweep_take_members(s, reply);
		break;
	case STEP_SCRIPT:
		taken = sweep_take_script(s, reply);
		break;
	case STEP_BOOTS:
		taken = take_boots(s, reply);
		break;
	case STEP_BOOTS_DROP:
		taken = reply->type == REDIS_REPLY_INTEGER;
		if (taken && s->shard == 0) s->totals.boots += (uint64_t)reply->integer; /* the others are copies */
		if (taken) boots_ended(s);
		break;
	case STEP_OVER:
		break;
	}
	if (!taken) s->step = STEP_OVER;
	return taken;
}
