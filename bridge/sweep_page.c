/*
 * A page of members: which of them a script is to look at, and what it answers. Loop thread; no I/O. It must count every member
 * that stays and has the page's last score: behind those the next page begins.
 */
#include "bridge/sweep_parts.h"

#include "bridge/fetch_source.h"
#include "bridge/retention.h"
#include "config/entry_id.h"
#include "config/key_template.h"
#include "config/resp.h"

/* One member and its score; `arguments` for the script go behind those of the members before. False: not for the
 * script. */
static bool add_item(struct sweep *s, struct buf *keys, struct buf *arguments, struct slice member, struct slice score)
{
	struct slice key, hint, node;
	char kind, minid[ENTRY_ID_TEXT_MAX];
	uint64_t maxage;

	if (s->windows[s->window].kind == KEY_SESSIONS) {
		if (s->config.serving(s->config.ctx, member)) return false;
		sweep_arg_key(s, keys, KEY_SESSION, member);
		resp_arg(arguments, member);
		resp_arg(arguments, score);
		return true;
	}
	if (!index_member_parse(member, &kind, &key, &hint, &node)) return false;
	if (key_reserved(s->config.settings->prefix, key)) return false;
	maxage = kind == 's' ? retention_of(s->config.settings, key, hint, node, &s->scratch) : 0;
	if (maxage > 0) (void)entry_id_format((struct entry_id){sweep_back(s->now, maxage), 0}, minid);
	if (sweep_shards(s) > 1) {
		sweep_add_key(s, kind, key, member, score, maxage > 0 ? minid : "");
		return true;
	}
	resp_arg(keys, key);
	resp_arg(arguments, member);
	resp_arg(arguments, score);
	resp_arg_str(arguments, maxage > 0 ? minid : "");
	return true;
}

bool sweep_take_page(struct sweep *s, const redisReply *reply)
{
	struct buf keys = {0}, arguments = {0};
	size_t pairs = reply->elements / 2;
	struct slice last;

	if (reply->type != REDIS_REPLY_ARRAY || pairs > SWEEP_PAGE) return false;
	s->last_page = pairs < SWEEP_PAGE;
	s->items = 0;
	if (pairs == 0) {
		sweep_page_ended(s);
		return true;
	}
	last = reply_slice(reply->element[2 * pairs - 1]);
	if (last.len >= SCORE_MAX) return false;
	if (!slice_equal(last, slice_str(s->score))) s->kept = 0;
	memcpy(s->score, last.data, last.len);
	s->score[last.len] = '\0';
	s->looked_at = s->gone_count = s->member_at[0] = 0;
	buf_clear(&s->command);
	buf_clear(&s->members);
	for (size_t i = 0; i < pairs; i++) {
		struct slice score = reply_slice(reply->element[2 * i + 1]);
		bool tie = slice_equal(score, last);

		if (add_item(s, &keys, &arguments, reply_slice(reply->element[2 * i]), score)) s->tie[s->items++] = tie;
		else s->kept += tie;
	}
	if (s->items > 0 && sweep_shards(s) > 1 && s->windows[s->window].kind == KEY_INDEX) {
		s->step = STEP_KEYS;
	} else if (s->items > 0) {
		sweep_build_script(s, &keys, &arguments);
		s->step = STEP_SCRIPT;
	} else {
		sweep_page_ended(s);
	}
	buf_free(&keys);
	buf_free(&arguments);
	return true;
}

bool sweep_take_key(struct sweep *s, const redisReply *reply)
{
	size_t item = s->looked_at++;

	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 3) return false;
	for (size_t i = 0; i < 3; i++) {
		if (reply->element[i]->type != REDIS_REPLY_INTEGER || reply->element[i]->integer < 0) return false;
	}
	s->totals.entries += (uint64_t)reply->element[0]->integer;
	s->totals.streams += (uint64_t)reply->element[1]->integer;
	if (reply->element[2]->integer) s->gone[s->gone_count++] = item;
	else s->kept += s->tie[item];
	if (s->looked_at < s->items) return true;
	if (s->gone_count == 0) {
		sweep_page_ended(s);
		return true;
	}
	sweep_build_members(s);
	s->step = STEP_MEMBERS;
	return true;
}

bool sweep_take_members(struct sweep *s, const redisReply *reply)
{
	struct slice flags;

	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 3) return false;
	flags = reply_slice(reply->element[2]);
	if (flags.len != s->gone_count) return false;
	for (size_t i = 0; i < s->gone_count; i++) {
		if (flags.data[i] == '1') s->totals.members++;
		else s->kept += s->tie[s->gone[i]];
	}
	sweep_page_ended(s);
	return true;
}

bool sweep_take_script(struct sweep *s, const redisReply *reply)
{
	bool sessions = s->windows[s->window].kind == KEY_SESSIONS;
	struct slice flags;

	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 3 || reply->element[0]->type != REDIS_REPLY_INTEGER
		|| reply->element[1]->type != REDIS_REPLY_INTEGER) return false;
	flags = reply_slice(reply->element[2]);
	if (flags.len != s->items) return false;
	s->totals.entries += (uint64_t)reply->element[0]->integer;
	s->totals.streams += (uint64_t)reply->element[1]->integer;
	for (size_t i = 0; i < s->items; i++) {
		bool removed = flags.data[i] == '1';

		if (removed && sessions) s->totals.devices++;
		else if (removed) s->totals.members++;
		else s->kept += s->tie[i];
	}
	sweep_page_ended(s);
	return true;
}
