/*
 * `sessions`: the devices that are known, page by page, a few cheap fields of each. Blocks; reads only. Must never ask
 * Redis for all keys at once.
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
#include "bridge/fetch_source.h"
#include "bridge/node_names.h"
#include "config/keys.h"
#include "config/resp.h"
#include "config/session_fields.h"

#define PAGE "500"

struct row {
	char *client, *user;
	char *node; /* where it is; NULL: nowhere */
	enum ctl_presence presence;
	uint64_t seen_ms, filters;
	struct ctl_gap gap;
};

struct listing {
	const struct settings *settings;
	struct ctl_redis *redis;
	redisReply *known; /* ZRANGE of the nodes */
	struct slice nodes[NODES_MAX]; /* ours first */
	redisReply *boots[NODES_MAX];  /* HKEYS: runs of that broker that are over */
	size_t node_count;
	struct row *rows;
	size_t count, cap;
	bool failed;       /* out of memory */
};

/* Has the run of the broker `node` that this boot id names ended? */
static bool boot_over(const struct listing *l, struct slice node, struct slice boot)
{
	for (size_t n = 0; n < l->node_count; n++) {
		if (!slice_equal(l->nodes[n], node)) continue;
		for (size_t i = 0; l->boots[n] && i < l->boots[n]->elements; i++) {
			if (slice_equal(reply_slice(l->boots[n]->element[i]), boot)) return true;
		}
		return false;
	}
	return true; /* a node that is not known any more */
}

static struct row *row_add(struct listing *l)
{
	if (l->count == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 256;
		struct row *rows = realloc(l->rows, cap * sizeof(*rows));

		if (!rows) return NULL;
		l->rows = rows;
		l->cap = cap;
	}
	l->rows[l->count] = (struct row){0};
	return &l->rows[l->count++];
}

/* Is this the mark `name` of a node, and of a run of its broker that goes on? */
static bool marks(const struct listing *l, struct slice field, struct slice value, const char *name, struct slice *node)
{
	if (slice_equal(field, slice_str(name))) *node = l->nodes[0]; /* from before there were nodes */
	else if (!session_node_field_parse(field, name, node)) return false;
	return value.data && !boot_over(l, *node, value);
}

static void take_field(struct listing *l, struct row *row, struct slice field, struct slice value)
{
	enum session_field kind;
	struct slice node, filter;
	enum ctl_presence presence = CTL_ABSENT;

	if (session_filter_field_parse(field, &kind, &node, &filter)) {
		row->filters += kind == SESSION_BEGAN;
	} else if (ctl_gap_field(&row->gap, field, value)) {
		return;
	} else if (slice_equal(field, slice_str(SESSION_USER))) {
		if (!row->user && !(row->user = strndup(value.data, value.len))) l->failed = true;
	} else if (marks(l, field, value, SESSION_LIVE, &node)) {
		presence = CTL_LIVE;
	} else if (marks(l, field, value, SESSION_HERE, &node)) {
		presence = CTL_CATCHING_UP;
	}
	if (presence <= row->presence) return;
	row->presence = presence;
	free(row->node);
	if (!(row->node = strndup(node.data, node.len))) l->failed = true;
}

/* HGETALL */
static void take(struct listing *l, const redisReply *client, const redisReply *score, const redisReply *hash)
{
	struct row *row;
	struct slice name = reply_slice(client);

	if (!name.data || hash->type != REDIS_REPLY_ARRAY || hash->elements == 0) return; /* forgotten meanwhile */
	row = row_add(l);
	if (!row || !(row->client = strndup(name.data, name.len))) {
		l->failed = true;
		return;
	}
	row->seen_ms = score->str ? strtoull(score->str, NULL, 10) : 0;
	for (size_t i = 0; i + 1 < hash->elements; i += 2) {
		take_field(l, row, reply_slice(hash->element[i]), reply_slice(hash->element[i + 1]));
	}
}

static void ask_fields(struct listing *l, const redisReply *client, struct buf *key, struct buf *commands)
{
	resp_begin(commands, 2);
	resp_arg_str(commands, "HGETALL");
	resp_arg(commands, key_make(key, settings_keys(l->settings), KEY_SESSION, reply_slice(client)));
}

/* One page of ZSCAN: all devices of it are asked for at once. False: the connection failed. */
static bool take_page(struct listing *l, const redisReply *members)
{
	struct buf key = {0}, commands = {0};
	size_t count = members->elements / 2;
	redisReply **replies = calloc(count ? count : 1, sizeof(redisReply *));
	bool ok = false;

	for (size_t i = 0; i < count; i++) ask_fields(l, members->element[2 * i], &key, &commands);
	if (!replies || commands.failed || key.failed) {
		l->failed = true;
	} else {
		ok = ctl_redis_batch(l->redis, &commands, count, replies);
		for (size_t i = 0; ok && i < count; i++) {
			take(l, members->element[2 * i], members->element[2 * i + 1], replies[i]);
		}
		for (size_t i = 0; i < count; i++) {
			if (replies[i]) freeReplyObject(replies[i]);
		}
	}
	free(replies);
	buf_free(&commands);
	buf_free(&key);
	return ok;
}

/* One shard of the sessions. */
static int scan(struct listing *l, const char *pattern, unsigned shard)
{
	char cursor[24] = "0";
	struct buf key = {0};
	bool ok = true;

	do {
		struct slice argv[] = {slice_str("ZSCAN"), key_make_shard(&key, settings_keys(l->settings), KEY_SESSIONS, shard,
			(struct slice){0}), slice_str(cursor), slice_str("MATCH"), slice_str(pattern), slice_str("COUNT"), slice_str(PAGE)};
		redisReply *page = ctl_redis_command(l->redis, sizeof(argv) / sizeof(argv[0]), argv);

		ok = page && page->type == REDIS_REPLY_ARRAY && page->elements == 2 && page->element[0]->str
			&& page->element[1]->type == REDIS_REPLY_ARRAY;
		if (ok) {
			(void)snprintf(cursor, sizeof(cursor), "%s", page->element[0]->str);
			ok = take_page(l, page->element[1]);
		} else {
			fprintf(stderr, CTL_PROGRAM_NAME ": Redis: %s\n", page && page->str ? page->str : ctl_redis_error(l->redis));
		}
		if (page) freeReplyObject(page);
		ctl_progress("devices read", l->count);
	} while (ok && !l->failed && strcmp(cursor, "0") != 0);
	ctl_progress_end();
	buf_free(&key);
	if (!l->failed) return ok ? CTL_OK : CTL_UNREACHABLE;
	fprintf(stderr, CTL_PROGRAM_NAME ": out of memory\n");
	return CTL_PROBLEM;
}

static void read_nodes(struct listing *l)
{
	struct buf key = {0};
	struct slice ask[] = {slice_str("ZRANGE"), key_make(&key, settings_keys(l->settings), KEY_NODES, (struct slice){0}), slice_str("0"),
		slice_str("-1")};

	l->nodes[l->node_count++] = slice_str(l->settings->node);
	l->known = ctl_redis_command(l->redis, sizeof(ask) / sizeof(ask[0]), ask);
	for (size_t i = 0; l->known && l->known->type == REDIS_REPLY_ARRAY && i < l->known->elements; i++) {
		struct slice name = reply_slice(l->known->element[i]);

		if (name.data && !slice_equal(name, l->nodes[0]) && l->node_count < NODES_MAX) l->nodes[l->node_count++] = name;
	}
	for (size_t i = 0; i < l->node_count; i++) {
		struct slice argv[] = {slice_str("HKEYS"), key_make_shard(&key, settings_keys(l->settings), KEY_BOOTS, 0, l->nodes[i])};

		l->boots[i] = ctl_redis_command(l->redis, 2, argv);
	}
	buf_free(&key);
}

static int compare(const void *a, const void *b)
{
	return strcmp(((const struct row *)a)->client, ((const struct row *)b)->client);
}

/* A scan may meet a member twice. */
static bool repeated(const struct listing *l, size_t i)
{
	return i > 0 && strcmp(l->rows[i - 1].client, l->rows[i].client) == 0;
}

static bool print_text(const struct listing *l)
{
	static const char *const heads[] = {"CLIENT", "USER", "STATE", "LAST SEEN", ">FILTERS", ">MISSING", NULL};
	struct ctl_table *t = ctl_table_new(heads);
	char when[CTL_TIME_TEXT_MAX], gap[CTL_GAP_TEXT_MAX];

	for (size_t i = 0; t && i < l->count; i++) {
		const struct row *row = &l->rows[i];

		if (repeated(l, i)) continue;
		ctl_table_text(t, row->client);
		ctl_table_text(t, row->user ? row->user : "-");
		ctl_table_text(t, ctl_presence_text(row->presence));
		ctl_table_text(t, ctl_time_format(row->seen_ms, when));
		ctl_table_number(t, row->filters);
		ctl_table_text(t, ctl_gap_text(&row->gap, gap));
	}
	return t && ctl_table_print(t);
}

static bool print_json(const struct listing *l)
{
	struct buf out = {0};
	bool ok;

	buf_append_str(&out, "[");
	for (size_t i = 0; i < l->count; i++) {
		const struct row *row = &l->rows[i];

		if (repeated(l, i)) continue;
		buf_append_str(&out, i > 0 ? ",\n{" : "{");
		ctl_json_text(&out, "client", slice_str(row->client));
		ctl_json_text(&out, "user", slice_str(row->user));
		ctl_json_text(&out, "state", slice_str(ctl_presence_text(row->presence)));
		ctl_json_text(&out, "node", slice_str(row->node));
		ctl_json_number(&out, "seen_ms", row->seen_ms);
		ctl_json_number(&out, "filters", row->filters);
		ctl_gap_json(&out, &row->gap);
		buf_append_str(&out, "}");
	}
	buf_append_str(&out, "]");
	ok = ctl_json_print(&out);
	buf_free(&out);
	return ok;
}

static void fini(struct listing *l, struct settings *settings)
{
	for (size_t i = 0; i < l->count; i++) {
		free(l->rows[i].client);
		free(l->rows[i].user);
		free(l->rows[i].node);
	}
	free(l->rows);
	for (size_t i = 0; i < l->node_count; i++) {
		if (l->boots[i]) freeReplyObject(l->boots[i]);
	}
	if (l->known) freeReplyObject(l->known);
	ctl_redis_close(l->redis);
	settings_free(settings);
}

int ctl_sessions_run(const struct ctl_call *call)
{
	bool json = false;
	const struct ctl_option options[] = {{"--json", &json, NULL}, {NULL, NULL, NULL}};
	struct settings *settings;
	struct listing l = {0};
	const char *pattern;
	int code = ctl_args(call, options, &pattern, 0, 1);

	if (code == CTL_OK) code = ctl_connect(call, &settings, &l.redis);
	if (code != CTL_OK) return code;
	l.settings = settings;
	read_nodes(&l);
	for (unsigned i = 0; code == CTL_OK && i < key_shard_count(settings_keys(settings)); i++) {
		code = scan(&l, pattern ? pattern : "*", i);
	}
	if (code == CTL_OK) {
		if (l.count > 0) qsort(l.rows, l.count, sizeof(*l.rows), compare);
		if (!(json ? print_json(&l) : print_text(&l))) code = CTL_PROBLEM;
	}
	fini(&l, settings);
	return code;
}
