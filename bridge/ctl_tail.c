/*
 * `tail`: follows the mark, and reads what matches between two of its values, as a catch-up would. So every message is
 * shown once and in order, whichever stream or list it went to. Blocks; reads only.
 */
#include <stdio.h>
#include <string.h>

#include "bridge/ctl_args.h"
#include "bridge/ctl_reader.h"
#include "bridge/ctl_terminal.h"
#include "bridge/ctl_time.h"
#include "bridge/fetch_source.h"
#include "config/topic.h"

#define LOOK_MS 200
#define SHOWN 160 /* bytes of a payload */

struct tail {
	bool json;
	struct buf out;
};

static bool show(void *ctx, const struct message *m)
{
	struct tail *t = ctx;
	char when[CTL_TIME_TEXT_MAX], id[ENTRY_ID_TEXT_MAX], topic[CTL_TIME_TEXT_MAX * 8], payload[SHOWN];

	if (t->json) {
		buf_clear(&t->out);
		message_to_json(m, &t->out);
		return ctl_json_print(&t->out) && !ctl_interrupted();
	}
	(void)entry_id_format(m->id, id);
	printf("%s  %s  %s  %s\n", ctl_time_format(m->id.ms, when), id,
		log_printable(m->topic.data, m->topic.len, topic, sizeof(topic)),
		log_printable(m->payload.data, m->payload.len, payload, sizeof(payload)));
	return !ferror(stdout) && !ctl_interrupted();
}

static int follow(struct ctl_reader *reader, struct catch_up_filter *f, struct tail *t, const char *url)
{
	struct entry_id mark = f->position;
	enum status st = ST_OK;

	while (st == ST_OK && !ctl_interrupted() && fflush(stdout) == 0) {
		st = ctl_reader_mark(reader, &mark);
		if (st != ST_OK || entry_id_compare(mark, f->position) <= 0) {
			ctl_reader_pause(reader, LOOK_MS);
			if (st == ST_AGAIN) st = ST_OK; /* loading, busy: it passes */
			continue;
		}
		st = ctl_reader_read(reader, f, 1, mark, show, t);
		if (st == ST_OK) f->start = f->position = mark;
	}
	if (st == ST_OK) return CTL_OK;
	fprintf(stderr, "redis %s: %s\n", url, status_text(st));
	return CTL_UNREACHABLE;
}

/* "$SYS" is never mirrored, and a shared subscription has no meaning here. */
static int check_filter(const char *filter)
{
	struct slice inner;

	if (!filter_valid(slice_str(filter))) return ctl_wrong("no valid topic filter:", filter);
	if (filter_is_shared(slice_str(filter), &inner)) return ctl_wrong("a shared subscription cannot be followed:", filter);
	return CTL_OK;
}

static int tail_from(struct settings *settings, const char *filter, const struct entry_id *since, bool json)
{
	struct catch_up_filter f = {.filter = (char *)(uintptr_t)filter, .qos = 2, .known = true, .end = ENTRY_ID_MAX};
	struct tail t = {.json = json};
	struct ctl_reader *reader = NULL;
	char why[256];
	int code = CTL_UNREACHABLE;

	if (ctl_reader_open(settings, &reader, why, sizeof(why)) != ST_OK || ctl_reader_mark(reader, &f.position) != ST_OK) {
		fprintf(stderr, "redis %s: %s\n", settings->redis_url, why);
	} else {
		if (since) f.position = entry_id_before(*since);
		f.start = f.position;
		code = follow(reader, &f, &t, settings->redis_url);
	}
	ctl_reader_close(reader);
	buf_free(&t.out);
	return code;
}

int ctl_tail_run(const struct ctl_call *call)
{
	bool json = false;
	const char *filter, *since = NULL;
	const struct ctl_option options[] = {{"--since", NULL, &since}, {"--json", &json, NULL}, {NULL, NULL, NULL}};
	struct settings *settings;
	struct entry_id from;
	int code = ctl_args(call, options, &filter, 1, 1);

	if (code == CTL_OK) code = check_filter(filter);
	if (code != CTL_OK) return code;
	if (since && ctl_time_parse(since, ctl_time_now(), &from) != ST_OK)
		return ctl_wrong("--since: accepted is " CTL_TIME_ACCEPTED "; not", since);
	settings = ctl_settings(call);
	if (!settings) return CTL_PROBLEM;
	ctl_catch_interrupt();
	code = tail_from(settings, filter, since ? &from : NULL, json);
	settings_free(settings);
	return code;
}
