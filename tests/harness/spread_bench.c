/* The bench of the spread's unit tests. Masters are a table of keys; a script is carried out as plugin/slot_script.h says. */
#include "tests/harness/spread_bench.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>


#include "config/key_template.h"
#include "plugin/transaction.h"
#include "tests/harness/resp_text.h"

#define WORDS_MAX 20000

/* --- keys ----------------------------------------------------------------------------------------------------- */

struct fake_key *spread_bench_key(struct spread_bench *f, const char *name)
{
	for (size_t i = 0; i < f->key_count; i++) {
		if (strcmp(f->keys[i].name, name) == 0) return &f->keys[i];
	}
	return NULL;
}

static struct fake_key *key_of(struct spread_bench *f, struct slice name)
{
	char text[64];
	assert_true(name.len < sizeof(text));
	memcpy(text, name.data, name.len);
	text[name.len] = '\0';
	struct fake_key *key = spread_bench_key(f, text);
	if (key) return key;
	assert_true(f->key_count < FAKE_KEYS_MAX);
	key = &f->keys[f->key_count];
	memset(key, 0, sizeof(*key));
	memset(&f->replica[f->key_count], 0, sizeof(*key));
	f->key_count++;
	strcpy(key->name, text);
	key->slot = cluster_slot(name);
	strcpy(f->replica[f->key_count - 1].name, text);
	f->replica[f->key_count - 1].slot = key->slot;
	return key;
}

static bool has_id(const struct fake_key *key, struct entry_id id)
{
	for (size_t i = 0; key && i < key->count; i++) {
		if (entry_id_compare(key->ids[i], id) == 0) return true;
	}
	return false;
}

/* --- what must hold at every moment ---------------------------------------------------------------------------- */

/* Calls `fn` for each key of a message; rules are "FILTER kind KEY" with KEY "x" or "x%t". */
static void each_key(struct spread_bench *f, const struct journal_record *r, void (*fn)(struct spread_bench *f,
	const char *key, struct entry_id id))
{
	struct reader body = reader_of(r->body);
	uint16_t count = reader_u16(&body);
	struct message m;
	assert_int_equal(transaction_message(r, &m), ST_OK);
	char seen[16][64];
	for (uint16_t i = 0; i < count; i++) {
		const struct mirror_rule *rule;
		char key[64];
		assert_int_equal(rule_cache_get(f->b.cache, reader_u16(&body), &rule), ST_OK);
		struct buf name = {0};
		key_expand(rule->key, m.topic, m.client, m.user, "n", &name);
		snprintf(key, sizeof(key), "%.*s", (int)name.len, name.data);
		buf_free(&name);
		snprintf(seen[i], sizeof(seen[i]), "%s", key);
		bool again = false;
		for (uint16_t k = 0; k < i; k++) again |= strcmp(seen[k], key) == 0;
		bool refused = f->refuses && strncmp(key, f->refuses, strlen(f->refuses)) == 0;
		if (!again && !refused) fn(f, key, r->id);
	}
}

static void must_be_there(struct spread_bench *f, const char *key, struct entry_id id)
{
	if (!has_id(spread_bench_key(f, key), id)) fail_msg("%s has not %" PRIu64 "-%" PRIu64, key, id.ms, id.seq);
}

static void all_before(struct spread_bench *f, struct entry_id id)
{
	for (size_t i = 0; i < f->b.count && !f->loses; i++) {
		if (f->b.records[i].type != JOURNAL_MESSAGE || entry_id_compare(f->b.records[i].id, id) > 0) continue;
		each_key(f, &f->b.records[i], must_be_there);
	}
}

void spread_bench_check(struct spread_bench *f)
{
	size_t expected = 0, found = 0;
	for (size_t i = 0; i < f->b.count; i++) {
		if (f->b.records[i].type != JOURNAL_MESSAGE) continue;
		expected++;
		each_key(f, &f->b.records[i], must_be_there);
	}
	(void)expected;
	for (size_t k = 0; k < f->key_count; k++) {
		const struct fake_key *key = &f->keys[k];
		if (strncmp(key->name, "p:", 2) == 0) continue;
		found += key->count;
		for (size_t i = 1; i < key->count; i++) {
			if (entry_id_compare(key->ids[i], key->ids[i - 1]) <= 0) fail_msg("%s: twice, or out of order", key->name);
		}
	}
	assert_true(expected == 0 || found > 0);
}

/* --- a node carries out a script --------------------------------------------------------------------------------- */

struct mark {
	struct entry_id at;
	uint64_t order;
	char run[24], journal[16];
	char rest[4096];
	bool there;
};

static struct mark read_mark(const struct fake_key *key)
{
	struct mark m = {0};
	const char *line = strchr(key->text, '\n');
	if (!line) return m;
	m.there = sscanf(key->text, "%" SCNu64 "-%" SCNu64 " %" SCNu64 " %23s %15s", &m.at.ms, &m.at.seq, &m.order, m.run,
		m.journal) == 5;
	snprintf(m.rest, sizeof(m.rest), "%s", line + 1);
	return m;
}

static struct entry_id label_id(struct slice label)
{
	struct entry_id id = ENTRY_ID_ZERO;
	const char *dot = memchr(label.data, '.', label.len);
	if (!dot) dot = label.data + label.len;
	(void)!entry_id_parse(slice_of(label.data, (size_t)(dot - label.data)), &id);
	return id;
}

static bool word_is(struct slice word, const char *text)
{
	return slice_equal(word, slice_str(text));
}

/* An error, or NULL. */
static const char *write_one(struct spread_bench *f, struct slice *words, struct entry_id id)
{
	struct fake_key *key = key_of(f, words[1]);
	if (f->refuses && strncmp(key->name, f->refuses, strlen(f->refuses)) == 0) return "WRONGTYPE no such list";
	if (word_is(words[0], "SET") || (word_is(words[0], "XADD") && strstr(key->name, "p:events"))) all_before(f, id);
	assert_true(key->count < FAKE_IDS_MAX);
	key->ids[key->count++] = id;
	return NULL;
}

struct script_call {
	struct slice *fixed, *words;
	size_t words_count;
	struct fake_key *mark_key;
};

static void set_mark(const struct script_call *c, struct entry_id at, const char *rest)
{
	snprintf(c->mark_key->text, sizeof(c->mark_key->text), "%" PRIu64 "-%" PRIu64 " %.*s %.*s %.*s\n%s", at.ms, at.seq,
		(int)c->fixed[2].len, c->fixed[2].data, (int)c->fixed[1].len, c->fixed[1].data, (int)c->fixed[0].len,
		c->fixed[0].data, rest);
}

static void append_answer(struct buf *out, const struct mark *m, const char *rest)
{
	char at[64];
	size_t lines = 0;
	for (const char *p = rest; (p = strchr(p, '\n')) != NULL; p++) lines++;
	snprintf(at, sizeof(at), "%" PRIu64 "-%" PRIu64, m->at.ms, m->at.seq);
	if (!m->there) at[0] = '\0';
	buf_printf(out, "*%zu\r\n$%zu\r\n%s\r\n", 1 + 2 * lines, strlen(at), at);
	for (const char *p = rest; *p; p = strchr(p, '\n') + 1) {
		const char *space = strchr(p, ' '), *end = strchr(p, '\n');
		buf_printf(out, "$%zu\r\n%.*s\r\n$%zu\r\n%.*s\r\n", (size_t)(space - p), (int)(space - p), p,
			(size_t)(end - space) - 1, (int)(end - space) - 1, space + 1);
	}
}

static void keep_above_floor(const struct mark *m, const struct script_call *c, char *rest, size_t size)
{
	struct entry_id floor = label_id(c->fixed[4]);
	size_t len = 0;
	rest[0] = '\0';
	if (!word_is(c->fixed[0], m->journal)) return;
	for (const char *p = m->rest; *p; p = strchr(p, '\n') + 1) {
		size_t line = (size_t)(strchr(p, '\n') - p) + 1;
		if (entry_id_compare(label_id(slice_of(p, (size_t)(strchr(p, ' ') - p))), floor) <= 0) continue;
		len += (size_t)snprintf(rest + len, size - len, "%.*s", (int)line, p);
	}
}

static void run_script(struct spread_bench *f, const struct script_call *c, struct buf *out)
{
	struct mark m = read_mark(c->mark_key);
	bool own = m.there && word_is(c->fixed[1], m.run);
	struct entry_id bound = ENTRY_ID_ZERO, left = label_id(c->fixed[3]), last = label_id(c->fixed[5]);
	char rest[4096];
	if (m.there && !own && m.order > strtoull(c->fixed[2].data, NULL, 10)) {
		buf_printf(out, "-STALE %" PRIu64 "\r\n", m.order);
		return;
	}
	if (own) bound = m.at;
	else if (m.there && word_is(c->fixed[0], m.journal)) bound = entry_id_compare(left, m.at) < 0 ? left : m.at;
	if (entry_id_compare(label_id(c->fixed[7]), own ? m.at : ENTRY_ID_ZERO) > 0) {
		buf_printf(out, "-LOST %" PRIu64 "-%" PRIu64 "\r\n", own ? m.at.ms : 0, own ? m.at.seq : 0);
		return;
	}
	keep_above_floor(&m, c, rest, sizeof(rest));
	if (entry_id_compare(last, bound) <= 0) {
		f->already++;
		if (!own) set_mark(c, bound, rest);
		append_answer(out, &m, rest);
		return;
	}
	f->executed++;
	for (size_t i = 0; i < c->words_count;) {
		struct slice label = c->words[i];
		size_t count = strtoul(c->words[i + 1].data, NULL, 10);
		struct entry_id id = label_id(label);
		if (!word_is(label, "t") && entry_id_compare(id, bound) > 0) {
			const char *error = write_one(f, c->words + i + 2, id);
			size_t len = strlen(rest);
			if (error) snprintf(rest + len, sizeof(rest) - len, "%.*s %s\n", (int)label.len, label.data, error);
		}
		i += 2 + count;
	}
	set_mark(c, last, rest);
	append_answer(out, &m, rest);
}

static void carry_out(struct spread_bench *f, cluster_node node, struct slice command, bool asking, struct buf *out)
{
	static struct slice words[WORDS_MAX];
	size_t count = 0;
	struct fake_node *n = &f->nodes[node];
	assert_true(resp_take(&command, words, WORDS_MAX, &count));
	if (word_is(words[0], "ASKING")) {
		buf_append_str(out, "+OK\r\n");
		return;
	}
	if (word_is(words[0], "WAIT") && n->demoted) {
		buf_append_str(out, "-ERR WAIT cannot be used with replica instances. Please also note that\r\n");
		return;
	}
	if (word_is(words[0], "WAIT")) {
		spread_bench_replicate(f, node);
		buf_append_str(out, ":1\r\n");
		return;
	}
	bool whole = word_is(words[0], "EVAL");
	char sha[SLOT_SCRIPT_SHA_MAX];
	slot_script_sha(SLOT_SCRIPT_PLAIN, sha);
	bool plain = whole ? word_is(words[1], slot_script_text(SLOT_SCRIPT_PLAIN)) : word_is(words[1], sha);
	bool *loaded = &n->loaded[plain ? SLOT_SCRIPT_PLAIN : SLOT_SCRIPT_SESSIONS];
	size_t keys = strtoul(words[2].data, NULL, 10);
	unsigned slot = cluster_slot(words[3]);
	for (size_t k = 0; k < keys; k++) assert_int_equal(cluster_slot(words[3 + k]), slot);
	bool here = f->owner[slot] == node, coming = asking && f->importing[slot] == node;
	if (!here && !coming) {
		buf_printf(out, "-MOVED %u %u\r\n", slot, f->owner[slot]);
	} else if (here && f->importing[slot] != 0) {
		buf_printf(out, "-ASK %u %u\r\n", slot, f->importing[slot]);
	} else if (n->state) {
		buf_printf(out, "-%s\r\n", n->state);
	} else if (!whole && !*loaded) {
		buf_append_str(out, "-NOSCRIPT no such script\r\n");
	} else {
		*loaded = true;
		struct script_call c = {words + 3 + keys, words + 3 + keys + SLOT_SCRIPT_FIXED, count - 3 - keys - SLOT_SCRIPT_FIXED,
			key_of(f, words[3])};
		run_script(f, &c, out);
	}
}

/* --- connections ---------------------------------------------------------------------------------------------- */

static redisReply *parse(const struct buf *text)
{
	redisReader *reader = redisReaderCreate();
	void *reply = NULL;
	assert_int_equal(redisReaderFeed(reader, text->data, text->len), REDIS_OK);
	assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_OK);
	assert_non_null(reply);
	redisReaderFree(reader);
	return reply;
}

static void execute(struct spread_bench *f, cluster_node node, struct buf *out)
{
	struct fake_node *n = &f->nodes[node];
	struct fake_request *r = &n->queue[n->head];
	carry_out(f, node, slice_of(r->command.data, r->command.len), r->asking, out);
	n->head++;
}

static void tidy(struct fake_node *n)
{
	if (n->head < n->tail && n->tail < FAKE_QUEUE_MAX) return;
	for (size_t i = 0; i < n->head; i++) buf_free(&n->queue[i].command);
	memmove(n->queue, n->queue + n->head, (n->tail - n->head) * sizeof(n->queue[0]));
	n->tail -= n->head;
	n->head = 0;
}

bool spread_bench_deliver(struct spread_bench *f, cluster_node node)
{
	struct fake_node *n = &f->nodes[node];
	struct buf out = {0};
	if (n->head == n->tail) return false;
	struct fake_request r = n->queue[n->head];
	execute(f, node, &out);
	redisReply *reply = parse(&out);
	buf_free(&out);
	tidy(n);
	spread_bench_within(true);
	spread_reply(f->s, r.batch, reply, r.index);
	spread_bench_within(false);
	freeReplyObject(reply);
	return true;
}

static void keep_late(struct spread_bench *f, cluster_node node, const struct buf *command)
{
	if (f->late_count == FAKE_LATE_MAX) return;
	struct buf *late = &f->late[f->late_count];
	*late = (struct buf){0};
	buf_append(late, command->data, command->len);
	f->late_node[f->late_count++] = node;
}

void spread_bench_cut(struct spread_bench *f, cluster_node node, size_t done)
{
	struct fake_node *n = &f->nodes[node];
	struct { struct spread_batch *batch; size_t index; } lost[FAKE_QUEUE_MAX];
	size_t count = 0;
	for (size_t i = n->head; i < n->tail; i++) { /* one NULL for each batch */
		bool same = count > 0 && lost[count - 1].batch == n->queue[i].batch;
		if (same) continue;
		lost[count].batch = n->queue[i].batch;
		lost[count++].index = n->queue[i].index;
	}
	while (n->head < n->tail) {
		struct buf out = {0};
		if (done > 0) {
			execute(f, node, &out);
			done--;
		} else {
			keep_late(f, node, &n->queue[n->head++].command);
		}
		buf_free(&out);
	}
	tidy(n);
	n->connects++;
	for (size_t i = 0; i < count; i++) {
		if (lost[i].batch) spread_reply(f->s, lost[i].batch, NULL, lost[i].index);
	}
}

void spread_bench_late(struct spread_bench *f, size_t which)
{
	struct buf out = {0};
	if (which >= f->late_count) return;
	cluster_node node = f->late_node[which];
	if (f->nodes[node].up) carry_out(f, node, slice_of(f->late[which].data, f->late[which].len), false, &out);
	buf_free(&out);
	buf_free(&f->late[which]);
	f->late[which] = f->late[--f->late_count];
	f->late_node[which] = f->late_node[f->late_count];
}

static cluster_node holder(const struct spread_bench *f, unsigned slot)
{
	return f->importing[slot] ? f->importing[slot] : f->owner[slot];
}

void spread_bench_replicate(struct spread_bench *f, cluster_node node)
{
	for (size_t i = 0; i < f->key_count; i++) {
		if (holder(f, f->keys[i].slot) == node) f->replica[i] = f->keys[i];
	}
}

/* Returns who takes over, with what it has. */
static cluster_node take_over(struct spread_bench *f, cluster_node node)
{
	cluster_node other = node > FAKE_MASTERS ? node - FAKE_MASTERS : node + FAKE_MASTERS;
	memcpy(f->map, f->owner, sizeof(f->map)); /* two in a row are further apart than the map is read */
	spread_resume(f->s);
	for (size_t i = 0; i < f->key_count; i++) {
		if (holder(f, f->keys[i].slot) == node) f->keys[i] = f->replica[i];
	}
	for (unsigned slot = 0; slot < CLUSTER_SLOTS; slot++) {
		if (f->owner[slot] == node) f->owner[slot] = other;
		if (f->importing[slot] == node) f->importing[slot] = other;
	}
	if (!f->nodes[other].up) {
		f->nodes[other].connects++;
		memset(f->nodes[other].loaded, 0, sizeof(f->nodes[other].loaded));
	}
	f->nodes[other].up = true;
	f->nodes[other].demoted = false;
	return other;
}

void spread_bench_fail_over(struct spread_bench *f, cluster_node node)
{
	cluster_node other = take_over(f, node);
	for (unsigned slot = 0; slot < CLUSTER_SLOTS; slot++) {
		if (f->map[slot] == node) f->map[slot] = other;
	}
	f->nodes[node].up = f->nodes[node].demoted = false;
	spread_bench_cut(f, node, 0);
	spread_resume(f->s);
}

void spread_bench_demote(struct spread_bench *f, cluster_node node)
{
	(void)take_over(f, node);
	f->nodes[node].demoted = true;
}

void spread_bench_move_slot(struct spread_bench *f, unsigned slot, cluster_node to)
{
	spread_bench_import(f, slot, to);
	f->owner[slot] = to;
	f->importing[slot] = 0;
}

void spread_bench_import(struct spread_bench *f, unsigned slot, cluster_node to)
{
	f->importing[slot] = to;
	for (size_t i = 0; i < f->key_count; i++) {
		if (f->keys[i].slot == slot) f->replica[i] = f->keys[i]; /* what is moved is written there, and replicated */
	}
}

/* --- the spread --------------------------------------------------------------------------------------------------- */

static cluster_node node_of(void *ctx, unsigned slot)
{
	struct spread_bench *f = ctx;
	return f->map[slot];
}

static bool usable(void *ctx, cluster_node node)
{
	struct spread_bench *f = ctx;
	return node >= 1 && node <= FAKE_NODES && f->nodes[node].up;
}

static uint64_t connects(void *ctx, cluster_node node)
{
	struct spread_bench *f = ctx;
	return f->nodes[node].connects;
}

static enum cluster_redirect redirect(void *ctx, const redisReply *reply, cluster_node *node)
{
	struct spread_bench *f = ctx;
	unsigned slot;
	if (sscanf(reply->str, "MOVED %u %u", &slot, node) == 2) {
		f->map[slot] = *node;
		return CLUSTER_MOVED;
	}
	if (sscanf(reply->str, "ASK %u %u", &slot, node) == 2) return CLUSTER_ASK;
	return strncmp(reply->str, "TRYAGAIN", 8) == 0 ? CLUSTER_AGAIN : CLUSTER_NOT;
}

static uint64_t bench_now(void *ctx)
{
	struct spread_bench *f = ctx;
	return f->b.clock_ms;
}

static void make_spread(struct spread_bench *f)
{
	snprintf(f->run, sizeof(f->run), "run%" PRIu64, f->order);
	struct spread_config config = {.keys = {"p", true}, .node = "n", .rules = f->b.cache, .log = &f->b.sink,
		.position = f->b.released * 10, .boot = {77, 0}, .left_over = f->b.left_over, .journal = "j", .run = f->run,
		.order = f->order++, .wait = f->wait, .cluster = {node_of, usable, connects, redirect, f}, .now_ms = bench_now, .ctx = f};
	assert_int_equal(spread_new(&config, &f->s), ST_OK);
}

void spread_bench_open(struct spread_bench *f, const char *const *rules, size_t rule_count)
{
	memset(f, 0, sizeof(*f));
	bench_open(&f->b, rules, rule_count);
	f->keys = calloc(FAKE_KEYS_MAX, sizeof(*f->keys));
	f->replica = calloc(FAKE_KEYS_MAX, sizeof(*f->replica));
	assert_true(f->keys && f->replica);
	f->order = 100;
	for (cluster_node n = 1; n <= FAKE_NODES; n++) {
		f->nodes[n].up = n <= FAKE_MASTERS;
		f->nodes[n].connects = 1;
	}
	for (unsigned slot = 0; slot < CLUSTER_SLOTS; slot++) {
		f->owner[slot] = f->map[slot] = 1 + slot % FAKE_MASTERS;
	}
	make_spread(f);
}

static void cut_all(struct spread_bench *f)
{
	for (cluster_node n = 1; n <= FAKE_NODES; n++) spread_bench_cut(f, n, 0);
}

void spread_bench_restart(struct spread_bench *f)
{
	cut_all(f);
	spread_free(f->s);
	f->b.left_over = f->b.count > f->b.released ? f->b.records[f->b.count - 1].id : ENTRY_ID_ZERO;
	make_spread(f);
}

void spread_bench_close(struct spread_bench *f)
{
	cut_all(f);
	while (f->late_count > 0) buf_free(&f->late[--f->late_count]);
	spread_free(f->s);
	free(f->keys);
	free(f->replica);
	bench_close(&f->b);
}

static void nobody(bool in)
{
	(void)in;
}

void (*spread_bench_within)(bool in) = nobody;

static void put_on_connection(struct spread_bench *f, struct spread_batch *batch)
{
	struct fake_node *n = &f->nodes[spread_batch_node(batch)];
	size_t replies;
	const struct buf *commands = spread_batch_commands(batch, &replies);
	if (commands->failed) { /* as the writer does it */
		spread_unsent(f->s, batch);
		return;
	}
	struct slice rest = slice_of(commands->data, commands->len);
	static struct slice words[WORDS_MAX];
	bool asking = false;
	assert_true(n->up);
	for (size_t i = 0; i < replies; i++) {
		struct slice before = rest;
		size_t count;
		assert_true(resp_take(&rest, words, WORDS_MAX, &count));
		tidy(n);
		assert_true(n->tail < FAKE_QUEUE_MAX);
		struct fake_request *r = &n->queue[n->tail++];
		*r = (struct fake_request){batch, i, asking, {0}};
		asking = word_is(words[0], "ASKING");
		buf_append(&r->command, before.data, before.len - rest.len);
		buf_append(&r->command, "", 1);
		r->command.len--;
	}
	assert_int_equal(rest.len, 0);
}

static void count_fate(void *ctx, uint16_t rule, enum fate fate)
{
	struct spread_bench *f = ctx;
	(void)rule;
	f->stored += fate == FATE_STORED;
	f->dead += fate == FATE_DEAD;
}

static void release(struct spread_bench *f)
{
	struct pipeline_outcome o = spread_outcome(f->s);

	spread_fates(f->s, count_fate, f);
	spread_bench_within(true);
	spread_released(f->s);
	spread_bench_within(false);
	f->b.released = (size_t)o.position / 10;
	all_before(f, o.id);
}

/* One step, with all that it takes in; *added: what the last spread_add said. */
static enum spread_action step(struct spread_bench *f, enum status *added)
{
	enum spread_action action;

	*added = ST_END;
	spread_bench_within(true);
	while (spread_position(f->s) / 10 < f->b.count) {
		*added = spread_add(f->s, &f->b.records[spread_position(f->s) / 10]);
		if (*added != ST_OK) break;
	}
	action = spread_step(f->s);
	spread_bench_within(false);
	if (action == SPREAD_SEND) put_on_connection(f, spread_batch_now(f->s));
	if (action == SPREAD_RELEASE) release(f);
	return action;
}

enum spread_action spread_bench_step(struct spread_bench *f)
{
	enum status added;

	return step(f, &added);
}

bool spread_bench_pump(struct spread_bench *f)
{
	enum spread_action action;
	enum status added;

	do action = step(f, &added);
	while (action == SPREAD_SEND || action == SPREAD_RELEASE || (action == SPREAD_IDLE && added == ST_NOMEM)); /* again */
	if (action == SPREAD_WAIT) return false;
	assert_int_equal(f->b.released, f->b.count);
	return true;
}

void spread_bench_run(struct spread_bench *f)
{
	for (size_t turn = 0; turn < 100000; turn++) {
		bool any = false;
		if (spread_bench_pump(f)) return;
		for (cluster_node n = 1; n <= FAKE_NODES; n++) {
			any |= spread_bench_deliver(f, n);
		}
		if (any) continue;
		assert_true(spread_pause_ms(f->s) > 0); /* else nothing would ever happen again */
		f->b.clock_ms += spread_pause_ms(f->s);
		memcpy(f->map, f->owner, sizeof(f->map)); /* read anew */
		spread_resume(f->s);
	}
	fail_msg("it never ends");
}
