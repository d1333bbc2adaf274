/*
 * What the nodes' answers mean for the spread. Writer thread; no I/O but the log. Never takes a group for stored that its
 * script has not answered for.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugin/error_class.h"
#include "plugin/letters.h"
#include "plugin/spread_state.h"

#define LOG_EVERY_MS 10000
#define UNREACHABLE_PAUSE_MS 1000
#define REDIRECTS_MAX 8 /* one after the other; then the map has to settle first */

/* --- log lines that may come often ---------------------------------------------------------------------------- */

static bool may_say(const struct spread *s, uint64_t *said_ms)
{
	uint64_t now = spread_now(s) + 1; /* so that zero is never */
	if (*said_ms != 0 && now - *said_ms < LOG_EVERY_MS) return false;
	*said_ms = now;
	return true;
}

void spread_tell_dead(struct spread *s, const struct stretch *st)
{
	char key_text[128], error_text[EPISODE_REASON_MAX];
	const struct transaction *t = &st->t;
	size_t last = t->write_count;
	s->dead_unsaid += st->letter_count;
	while (last > 0 && !t->writes[last - 1].failed) last--;
	if (last == 0 || !may_say(s, &s->dead_said_ms)) return;
	struct slice key = transaction_key(t, &t->writes[last - 1]), error = transaction_error(t, &t->writes[last - 1]);
	log_to(s->config.log, LOG_LEVEL_ERROR, "writer: %" PRIu64 " messages went to the dead letters (the oldest go beyond %d); "
		"the last one for key %s: %s", s->dead_unsaid, DEAD_STREAM_MAXLEN,
		log_printable(key.data, key.len, key_text, sizeof(key_text)),
		log_printable(error.data, error.len, error_text, sizeof(error_text)));
	s->dead_unsaid = 0;
}

static void tell_refused(struct spread *s, const redisReply *error)
{
	char text[EPISODE_REASON_MAX];
	s->refused_unsaid++;
	if (!may_say(s, &s->refused_said_ms)) return;
	log_to(s->config.log, LOG_LEVEL_ERROR, "writer: %" PRIu64 " session, index or mark commands were refused; the last one: %s",
		s->refused_unsaid, log_printable(error->str, error->len, text, sizeof(text)));
	s->refused_unsaid = 0;
}

static void tell_lost(struct spread *s, unsigned slot, struct entry_id now, struct entry_id before)
{
	char ids[2][ENTRY_ID_TEXT_MAX];
	s->lost_unsaid++;
	if (!may_say(s, &s->lost_said_ms)) return;
	(void)entry_id_format(now, ids[0]);
	(void)entry_id_format(before, ids[1]);
	log_to(s->config.log, LOG_LEVEL_ERROR, "writer: redis has lost writes it had confirmed (failover, restore or flush?), in %"
		PRIu64 " slots so far; mark of slot %u now, confirmed (%s, %s); they are not sent again", s->lost_unsaid, slot, ids[0],
		ids[1]);
}

/* --- stored --------------------------------------------------------------------------------------------------- */

static void close_group(struct spread *s, struct slot_group *g)
{
	g->state = GROUP_STORED;
	g->stretch->open--;
	g->redirects = 0;
	g->whole = false;
	if (!g->refused) return;
	g->refused = false;
	if (--s->refused == 0) episode_end(&s->episode, s->config.log, spread_now(s));
}

/* Labels and errors: of this group's writes, or of some that were noted before. */
static void note_errors(struct spread *s, struct slot_group *g, const redisReply *reply)
{
	for (size_t i = 1; i + 1 < reply->elements; i += 2) {
		const redisReply *label = reply->element[i], *error = reply->element[i + 1];
		if (label->type != REDIS_REPLY_STRING || error->type != REDIS_REPLY_STRING) continue;
		if (g->kind != GROUP_MESSAGES) {
			tell_refused(s, error);
			continue;
		}
		struct transaction_write *w = stretch_labelled(g->stretch, label->str, label->len);
		if (w && !w->failed) transaction_fail(&g->stretch->t, w, slice_of(error->str, error->len));
	}
}

static void stored(struct spread *s, struct slot_group *g, const redisReply *reply)
{
	close_group(s, g);
	note_errors(s, g, reply);
	if (g->kind != GROUP_MESSAGES) return;
	struct slot_group *behind = g->behind;
	if (entry_id_compare(g->last, s->known[g->slot]) > 0) s->known[g->slot] = g->last;
	if (s->tails[g->slot] == g) s->tails[g->slot] = NULL;
	g->behind = NULL;
	if (behind && behind->state == GROUP_BEHIND) spread_make_ready(s, behind);
}

/* --- refused -------------------------------------------------------------------------------------------------- */

static void refused(struct spread *s, struct slot_group *g, const char *reason)
{
	if (!g->refused) s->refused++;
	g->refused = true;
	/* What many are refused for at the same time is one attempt. */
	if (s->refusal_pause_ms == 0) {
		s->refusal_pause_ms = episode_refused(&s->episode, s->config.log, reason, spread_now(s));
	}
	spread_hold(s, g, s->refusal_pause_ms);
}

static void refused_by(struct spread *s, struct slot_group *g, const redisReply *reply)
{
	char reason[EPISODE_REASON_MAX];
	refused(s, g, log_printable(reply->str, reply->len, reason, sizeof(reason)));
}

static bool begins_with(const redisReply *reply, const char *word)
{
	size_t len = strlen(word);
	return reply->len > len && memcmp(reply->str, word, len) == 0 && reply->str[len] == ' ';
}

static void redirected(struct spread *s, struct slot_group *g, const redisReply *reply, cluster_node node, bool ask)
{
	if (node == 0 || ++g->redirects > REDIRECTS_MAX) {
		g->redirects = 0;
		refused_by(s, g, reply);
		return;
	}
	g->asked = node;
	g->asking = ask;
	spread_make_ready(s, g);
}

/* The mark is of a run with a higher order. The answer came to us, so this was no copy that came late. */
static void order_overtaken(struct spread *s, struct slot_group *g, const redisReply *reply)
{
	uint64_t order = strtoull(reply->str + sizeof(SLOT_STALE), NULL, 10);
	if (order >= s->head.order) {
		s->head.order = order + 1;
		log_to(s->config.log, LOG_LEVEL_WARNING, "writer: marks of node %s were written by a run that seems to be later: was the "
			"clock set back, or is the node name used by another broker?", s->config.node);
	}
	spread_make_ready(s, g);
}

/* --- a failover has lost what this slot had ------------------------------------------------------------------- */

static void reopen(struct slot_group *g, struct entry_id known)
{
	g->state = GROUP_BEHIND;
	g->durable = false;
	g->known = known;
	g->stretch->open++;
	if (g->stretch->phase == STRETCH_DONE) g->stretch->phase = STRETCH_NODE;
}

/* Groups of the slot that are under way and come before `g` come again, in order, and `g` behind them. Returns the first of
 * these; *needed is what it takes to be there. */
static struct slot_group *reopen_before(struct spread *s, struct slot_group *g, struct entry_id at,
	struct entry_id *needed)
{
	struct slot_group *first = NULL, *last = NULL;
	*needed = g->known;
	for (size_t i = 0; i < s->under_way_count; i++) {
		struct group_list *list = &s->under_way[i]->messages;
		for (size_t n = 0; n < list->count; n++) {
			struct slot_group *x = &list->all[n];
			if (x == g) {
				if (last) last->behind = g;
				g->known = at;
				return first;
			}
			if (x->slot != g->slot) continue;
			if (!first) *needed = x->known;
			if (x->state == GROUP_STORED) reopen(x, at);
			if (entry_id_compare(x->last, at) > 0) at = x->last;
			if (last) last->behind = x;
			if (!first) first = x;
			last = x;
		}
	}
	return first; /* unreached: `g` is one of them */
}

/* What the next one of the slot must find there: what is stored behind the one that has to come again may be lost as well, and
 * must not be overtaken. */
static struct entry_id stored_upto(const struct spread *s, unsigned slot, struct entry_id at)
{
	for (size_t i = 0; i < s->under_way_count; i++) {
		const struct group_list *list = &s->under_way[i]->messages;
		for (size_t n = 0; n < list->count; n++) {
			const struct slot_group *x = &list->all[n];
			if (x->slot == slot && x->state == GROUP_STORED && entry_id_compare(x->last, at) > 0) at = x->last;
		}
	}
	return at;
}

static void lost_before(struct spread *s, struct slot_group *g, const redisReply *reply)
{
	struct entry_id at = ENTRY_ID_ZERO, needed;
	const char *text = reply->str + sizeof(SLOT_LOST);
	if (entry_id_parse(slice_of(text, reply->len - sizeof(SLOT_LOST)), &at) != ST_OK) at = ENTRY_ID_ZERO;
	struct slot_group *first = reopen_before(s, g, at, &needed);
	s->known[g->slot] = stored_upto(s, g->slot, at);
	if (entry_id_compare(needed, at) > 0) tell_lost(s, g->slot, at, needed);
	if (!first) {
		spread_make_ready(s, g);
		return;
	}
	g->state = GROUP_BEHIND;
	if (first->state == GROUP_BEHIND) spread_make_ready(s, first);
}

static void error_answer(struct spread *s, struct slot_group *g, const redisReply *reply)
{
	cluster_node node = 0;
	enum cluster_redirect redirect = s->config.cluster.redirect(s->config.cluster.ctx, reply, &node);
	if (redirect == CLUSTER_MOVED || redirect == CLUSTER_ASK) {
		redirected(s, g, reply, node, redirect == CLUSTER_ASK);
	} else if (begins_with(reply, "NOSCRIPT") && !g->whole) {
		g->whole = true;
		spread_make_ready(s, g);
	} else if (begins_with(reply, SLOT_STALE)) {
		order_overtaken(s, g, reply);
	} else if (begins_with(reply, SLOT_LOST) && g->kind == GROUP_MESSAGES) {
		lost_before(s, g, reply);
	} else {
		refused_by(s, g, reply);
	}
}

/* --- how far what is stored has spread ------------------------------------------------------------------------ */

static void disown(struct group_list *list, const struct slot_group *wait)
{
	for (size_t i = 0; i < list->count; i++) {
		struct slot_group *g = &list->all[i];
		if (g->node == wait->node && g->connects == wait->connects) g->connects = CONNECTS_NONE;
	}
}

/* The node cannot tell, and may never: it may be no master any more, on a connection that stays. What it was sent is asked about
 * again, where it belongs now. */
static void give_up_wait(struct slot_group *g)
{
	disown(&g->stretch->messages, g);
	disown(&g->stretch->beside, g);
	disown(&g->stretch->node, g);
	g->connects = CONNECTS_NONE;
}

static void wait_answer(struct spread *s, struct slot_group *g, const redisReply *reply)
{
	char reason[EPISODE_REASON_MAX];
	g->durable = reply && wait_reached(&s->config.wait, reply, reason, sizeof(reason));
	if (!reply || g->durable) {
		close_group(s, g);
		return;
	}
	if (wait_unknown(reply)) {
		if (!s->told_unknown) log_to(s->config.log, LOG_LEVEL_ERROR, "writer: %s; nothing counts as stored until then", reason);
		s->told_unknown = true;
	} else if (reply->type == REDIS_REPLY_ERROR) {
		give_up_wait(g);
	}
	refused(s, g, reason);
}

void spread_answer(struct spread *s, struct slot_group *g, const redisReply *reply)
{
	if (g->kind == GROUP_WAIT) {
		wait_answer(s, g, reply);
	} else if (!reply) {
		spread_hold(s, g, UNREACHABLE_PAUSE_MS);
	} else if (reply->type == REDIS_REPLY_ERROR) {
		error_answer(s, g, reply);
	} else if (reply->type == REDIS_REPLY_ARRAY) {
		stored(s, g, reply);
	} else {
		refused(s, g, "ERR a script gave no answer of ours");
	}
}
