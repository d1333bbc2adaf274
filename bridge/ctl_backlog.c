/*
 * `backlog` and `peek`: what a device would get if it came now, counted or shown. Blocks; reads only, in the bridge's own
 * way, so that both mean the same.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/ctl_args.h"
#include "bridge/ctl_redis.h"
#include "bridge/ctl_session.h"
#include "bridge/ctl_table.h"
#include "bridge/ctl_terminal.h"
#include "bridge/ctl_time.h"
#include "config/topic.h"

#define PEEK_DEFAULT 10
#define PEEK_MAX 100000

struct part {
	uint64_t messages;
	struct entry_id oldest;
};

struct backlog {
	struct settings *settings;
	struct ctl_redis *redis;
	struct ctl_reader *reader;
	struct ctl_session session;
	struct entry_id mark, upto;
	/* counted */
	struct part total, *parts; /* by filter */
	uint64_t bytes;
	/* shown */
	unsigned long left;
	bool json;
	struct ctl_table *table;
	struct buf out;
};

static int backlog_open(struct backlog *b, const struct ctl_call *call, const char *device)
{
	char why[256];
	int code = ctl_connect(call, &b->settings, &b->redis);

	if (code != CTL_OK) return code;
	if (ctl_reader_open(b->settings, &b->reader, why, sizeof(why)) != ST_OK
		|| ctl_reader_mark(b->reader, &b->mark) != ST_OK) {
		fprintf(stderr, "redis %s: %s\n", b->settings->redis_url, why);
		return CTL_UNREACHABLE;
	}
	b->upto = b->mark;
	code = ctl_session_read(b->redis, b->reader, b->settings, device, &b->session);
	if (code != CTL_OK) return code;
	for (size_t i = 0; i < b->session.filter_count; i++) {
		const struct catch_up_filter *f = &b->session.filters[i];

		if (f->node != NODE_OWN && !f->had && entry_id_compare(f->end, b->upto) > 0) b->upto = f->end;
	}
	b->parts = calloc(b->session.filter_count + 1, sizeof(*b->parts));
	return b->parts ? CTL_OK : CTL_PROBLEM;
}

static void backlog_close(struct backlog *b)
{
	ctl_session_fini(&b->session);
	ctl_reader_close(b->reader);
	if (b->redis) ctl_redis_close(b->redis);
	settings_free(b->settings);
	free(b->parts);
	buf_free(&b->out);
}

/* A live device has everything; what its cursors say is of an earlier connection. */
static int read_all(struct backlog *b, bool (*each)(void *ctx, const struct message *m))
{
	enum status st = ST_OK;

	if (b->session.presence != CTL_LIVE)
		st = ctl_reader_read(b->reader, b->session.filters, b->session.filter_count, b->upto, each, b);
	ctl_progress_end();
	if (st != ST_OK) {
		fprintf(stderr, CTL_PROGRAM_NAME ": Redis: %s\n", status_text(st));
		return CTL_UNREACHABLE;
	}
	if (ctl_reader_malformed(b->reader) > 0)
		fprintf(stderr, CTL_PROGRAM_NAME ": %" PRIu64 " entries are no records and were passed over\n",
			ctl_reader_malformed(b->reader));
	return CTL_OK;
}

/* --- backlog --------------------------------------------------------------------------------------------------- */

static void part_add(struct part *p, struct entry_id id)
{
	if (p->messages++ == 0) p->oldest = id;
}

static bool count(void *ctx, const struct message *m)
{
	struct backlog *b = ctx;

	if (!ctl_session_may(&b->session, m->topic)) return true;
	part_add(&b->total, m->id);
	b->bytes += m->payload.len;
	for (size_t i = 0; i < b->session.filter_count; i++) {
		const struct catch_up_filter *f = &b->session.filters[i];

		if (m->node == f->node && !f->had && entry_id_compare(m->id, f->position) > 0 && topic_matches(slice_str(f->filter), m->topic))
			part_add(&b->parts[i], m->id);
	}
	ctl_progress("messages read", b->total.messages);
	return true;
}

static const char *oldest_text(const struct part *p, char out[CTL_TIME_TEXT_MAX])
{
	return p->messages ? ctl_time_format(p->oldest.ms, out) : "-";
}

static void session_text(const struct ctl_session *s)
{
	char client[256], user[256], when[CTL_TIME_TEXT_MAX], span[CTL_TIME_TEXT_MAX];
	uint64_t now = ctl_time_now();

	printf("device %s, %s%s, %s", log_printable(s->client, strlen(s->client), client, sizeof(client)),
		s->user ? "user " : "anonymous", s->user ? log_printable(s->user, strlen(s->user), user, sizeof(user)) : "",
		ctl_presence_text(s->presence));
	if (s->seen_ms)
		printf(", last seen %s (%s ago)", ctl_time_format(s->seen_ms, when),
			ctl_time_span(now > s->seen_ms ? now - s->seen_ms : 0, span));
	printf("\n");
}

/* With the node it is of, if that is another. */
static const char *filter_text(const struct backlog *b, size_t i, char *out, size_t size)
{
	const struct catch_up_filter *f = &b->session.filters[i];

	if (f->node == NODE_OWN) return f->filter;
	(void)snprintf(out, size, "%s (%s)", f->filter, ctl_reader_node(b->reader, f->node));
	return out;
}

static void gap_line(const struct ctl_gap *gap)
{
	char count[48] = "", when[CTL_TIME_TEXT_MAX];

	if (gap->messages == 0 && !gap->more) return;
	if (gap->messages) (void)snprintf(count, sizeof(count), "up to %" PRIu64 " messages%s", gap->messages, gap->more ? " and " : "");
	printf("retention had removed %s%s before its catch-up of %s\n", count, gap->more ? "an unknown number" : "",
		ctl_time_format(gap->at_ms, when));
}

static bool backlog_text(const struct backlog *b)
{
	static const char *const heads[] = {"FILTER", "HAS ALL UP TO", ">MESSAGES", "OLDEST", NULL};
	struct ctl_table *t = ctl_table_new(heads);
	char text[CTL_TIME_TEXT_MAX], span[CTL_TIME_TEXT_MAX], shown[512];
	uint64_t now = ctl_time_now(), since = b->total.oldest.ms;

	session_text(&b->session);
	for (size_t i = 0; t && i < b->session.filter_count; i++) {
		if (b->session.filters[i].had) continue;
		ctl_table_text(t, filter_text(b, i, shown, sizeof(shown)));
		ctl_table_text(t, b->session.presence == CTL_LIVE ? "now" : ctl_time_format(b->session.filters[i].position.ms, text));
		ctl_table_number(t, b->parts[i].messages);
		ctl_table_text(t, oldest_text(&b->parts[i], text));
	}
	if (!t || !ctl_table_print(t)) return false;
	printf("in all %" PRIu64 " messages, %" PRIu64 " bytes of payload", b->total.messages, b->bytes);
	if (b->total.messages)
		printf(", oldest %s (%s ago)", ctl_time_format(since, text), ctl_time_span(now > since ? now - since : 0, span));
	printf("\n");
	gap_line(&b->session.gap);
	return true;
}

static void json_id(struct buf *out, const char *name, bool there, struct entry_id id)
{
	char text[ENTRY_ID_TEXT_MAX];

	ctl_json_text(out, name, there ? slice_of(text, entry_id_format(id, text)) : (struct slice){0});
}

static bool backlog_json(struct backlog *b)
{
	struct buf *out = &b->out;

	buf_append_str(out, "{");
	ctl_json_text(out, "client", slice_str(b->session.client));
	ctl_json_text(out, "user", slice_str(b->session.user));
	ctl_json_text(out, "state", slice_str(ctl_presence_text(b->session.presence)));
	ctl_json_number(out, "seen_ms", b->session.seen_ms);
	ctl_gap_json(out, &b->session.gap);
	json_id(out, "mark", true, b->mark);
	ctl_json_number(out, "messages", b->total.messages);
	ctl_json_number(out, "bytes", b->bytes);
	json_id(out, "oldest", b->total.messages > 0, b->total.oldest);
	ctl_json_name(out, "filters");
	buf_append_str(out, "[");
	for (size_t i = 0, n = 0; i < b->session.filter_count; i++) {
		if (b->session.filters[i].had) continue;
		buf_append_str(out, n++ > 0 ? ",{" : "{");
		ctl_json_text(out, "filter", slice_str(b->session.filters[i].filter));
		ctl_json_text(out, "node", slice_str(ctl_reader_node(b->reader, b->session.filters[i].node)));
		json_id(out, "cursor", true, b->session.filters[i].position);
		ctl_json_number(out, "messages", b->parts[i].messages);
		json_id(out, "oldest", b->parts[i].messages > 0, b->parts[i].oldest);
		buf_append_str(out, "}");
	}
	buf_append_str(out, "]}");
	return ctl_json_print(out);
}

int ctl_backlog_run(const struct ctl_call *call)
{
	bool json = false;
	const struct ctl_option options[] = {{"--json", &json, NULL}, {NULL, NULL, NULL}};
	struct backlog b = {0};
	const char *device;
	int code = ctl_args(call, options, &device, 1, 1);

	if (code != CTL_OK) return code;
	code = backlog_open(&b, call, device);
	if (code == CTL_OK) code = read_all(&b, count);
	if (code == CTL_OK && !(json ? backlog_json(&b) : backlog_text(&b))) code = CTL_PROBLEM;
	backlog_close(&b);
	return code;
}

/* --- peek ------------------------------------------------------------------------------------------------------ */

static bool show(void *ctx, const struct message *m)
{
	struct backlog *b = ctx;
	char text[CTL_TIME_TEXT_MAX], id[ENTRY_ID_TEXT_MAX];

	if (!ctl_session_may(&b->session, m->topic)) return true;
	if (b->json) {
		if (b->out.len > 1) buf_append_str(&b->out, ",\n");
		message_to_json(m, &b->out);
	} else {
		ctl_table_cell(b->table, slice_of(id, entry_id_format(m->id, id)));
		ctl_table_text(b->table, ctl_time_format(m->id.ms, text));
		ctl_table_cell(b->table, m->topic);
		ctl_table_number(b->table, m->qos);
		ctl_table_number(b->table, m->payload.len);
		ctl_table_cell(b->table, m->payload);
	}
	return --b->left > 0;
}

int ctl_peek_run(const struct ctl_call *call)
{
	static const char *const heads[] = {"ID", "TIME", "TOPIC", ">QOS", ">BYTES", "PAYLOAD", NULL};
	struct backlog b = {.left = PEEK_DEFAULT};
	const char *device, *number = NULL;
	const struct ctl_option options[] = {{"--json", &b.json, NULL}, {"-n", NULL, &number}, {NULL, NULL, NULL}};
	int code = ctl_args(call, options, &device, 1, 1);

	if (code == CTL_OK && number) code = ctl_args_number("-n", number, PEEK_MAX, &b.left);
	if (code != CTL_OK) return code;
	code = backlog_open(&b, call, device);
	if (code == CTL_OK && !b.json && !(b.table = ctl_table_new(heads))) code = CTL_PROBLEM;
	buf_append_str(&b.out, "[");
	if (code == CTL_OK) code = read_all(&b, show);
	buf_append_str(&b.out, "]");
	if (code == CTL_OK && b.json && !ctl_json_print(&b.out)) code = CTL_PROBLEM;
	if (b.table && !ctl_table_print(b.table)) code = CTL_PROBLEM;
	backlog_close(&b);
	return code;
}
