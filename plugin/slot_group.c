/* Writes one group as a call of its script. Writer thread; no I/O; changes nothing of the group. */
#include "plugin/slot_group.h"

#include <inttypes.h>
#include <stdio.h>

#include "config/cluster_slot.h"
#include "config/resp.h"
#include "plugin/stretch.h"

#define LABEL_MAX (ENTRY_ID_TEXT_MAX + 12)

static const enum key_kind mark_kinds[] = {
	[GROUP_MESSAGES] = KEY_SLOT_MESSAGES,
	[GROUP_INDEX] = KEY_SLOT_INDEX,
	[GROUP_SESSIONS] = KEY_SLOT_SESSIONS,
	[GROUP_LETTERS] = KEY_SLOT_LETTERS,
	[GROUP_NODE] = KEY_SLOT_NODE,
};

enum slot_script slot_group_script(const struct slot_group *g)
{
	return g->kind == GROUP_SESSIONS ? SLOT_SCRIPT_SESSIONS : SLOT_SCRIPT_PLAIN;
}

static bool left_out(const struct slot_group *g, const struct slot_piece *piece)
{
	return piece->write != PIECE_NO_WRITE && g->stretch->t.writes[piece->write].failed;
}

static void arg_label(struct buf *out, const struct slot_piece *piece)
{
	char label[LABEL_MAX];
	if (piece->trim) {
		resp_arg_str(out, SLOT_LABEL_TRIM);
		return;
	}
	int len = snprintf(label, sizeof(label), "%" PRIu64 "-%" PRIu64 ".%" PRIu32, piece->id.ms, piece->id.seq,
		piece->ordinal);
	resp_arg(out, slice_of(label, (size_t)len));
}

static void append_pieces(const struct slot_group *g, struct buf *out)
{
	for (uint32_t i = g->first_piece; i != PIECE_NONE; i = g->stretch->pieces[i].next) {
		const struct slot_piece *piece = &g->stretch->pieces[i];
		if (left_out(g, piece)) continue;
		arg_label(out, piece);
		resp_arg_u64(out, piece->words);
		buf_append(out, piece->in->data + piece->at, piece->len);
	}
}

static void append_fixed(const struct slot_group *g, const struct slot_head *head, struct buf *out)
{
	resp_arg_str(out, head->journal);
	resp_arg_str(out, head->run);
	resp_arg_u64(out, head->order);
	resp_arg_id(out, head->left_over);
	resp_arg_id(out, head->floor);
	resp_arg_id(out, g->last);
	resp_arg_str(out, g->kind == GROUP_LETTERS ? "1" : "0");
	resp_arg_id(out, g->known);
}

void slot_group_append(const struct slot_group *g, const struct slot_head *head, bool whole, struct buf *out,
	struct buf *scratch)
{
	const struct stretch *s = g->stretch;
	enum slot_script script = slot_group_script(g);
	size_t keys = 1, words = 0;
	for (uint32_t i = g->first_key; i != PIECE_NONE; i = s->slot_keys[i].next) keys++;
	for (uint32_t i = g->first_piece; i != PIECE_NONE; i = s->pieces[i].next) {
		if (!left_out(g, &s->pieces[i])) words += 2 + s->pieces[i].words;
	}
	whole = whole || head->shas[script][0] == '\0';
	resp_begin(out, 3 + keys + SLOT_SCRIPT_FIXED + words);
	resp_arg_str(out, whole ? "EVAL" : "EVALSHA");
	resp_arg_str(out, whole ? slot_script_text(script) : head->shas[script]);
	resp_arg_u64(out, keys);
	struct slice tag = slice_str(cluster_slot_tag(g->slot));
	struct slice mark = key_make_tagged(scratch, head->keys, mark_kinds[g->kind], tag, slice_str(head->node));
	if (scratch->failed) out->failed = true;
	resp_arg(out, mark);
	for (uint32_t i = g->first_key; i != PIECE_NONE; i = s->slot_keys[i].next) {
		resp_arg(out, slice_of(s->slot_keys[i].in->data + s->slot_keys[i].at, s->slot_keys[i].len));
	}
	append_fixed(g, head, out);
	append_pieces(g, out);
}
