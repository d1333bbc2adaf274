/*
 * Between the journal, the spread and the cluster's connections. Writer thread. Releases of the journal only what the spread
 * calls done. Owns the spread and what is known of each node.
 */
#include "plugin/cluster_writer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <uv.h>

#include "plugin/aof_rewrite.h"
#include "plugin/redis_checks.h"
#include "plugin/spread.h"
#include "plugin/stretch.h"

#define NO_MEMORY_PAUSE_MS 50

struct cluster_node_facts {
	struct cluster_writer *writer;
	cluster_node node;
	uint64_t asked, answered; /* the connection that it was asked over, and that it has answered over */
	uint64_t doubt_ms;        /* when the oldest record came that was perhaps under way then; 0: none */
	struct redis_checks checks;
	struct aof_rewrite rewrite;
	size_t bulk_max, request_max;
};

/* What is on its way to a node. */
struct shipment {
	struct cluster_writer *writer;
	struct spread_batch *batch;
	size_t replies;
	uint64_t sent_ns;
};

struct cluster_writer {
	struct cluster_writer_parts parts;
	struct spread *spread;
	struct cluster_node_facts *nodes[REDIS_CLUSTER_NODES_MAX + 1];
	char run[24];
	struct buf side;
};

/* --- nodes ---------------------------------------------------------------------------------------------------- */

static bool writes_lists(const struct cluster_writer *c)
{
	for (uint16_t n = 0; n < JOURNAL_RULES_MAX; n++) {
		const struct mirror_rule *rule;
		if (rule_cache_get(c->parts.rules, n, &rule) == ST_OK && rule->kind == RULE_LIST) return true;
	}
	return false;
}

static void on_rewrite_reply(void *ctx, const redisReply *reply, size_t index)
{
	struct cluster_node_facts *f = ctx;
	(void)index;
	if (reply) aof_rewrite_reply(f->writer->parts.log, reply);
}

/* Only lists can have something twice. */
static void rewrite_if_due(struct cluster_writer *c, struct cluster_node_facts *f)
{
	if (!writes_lists(c) || !aof_rewrite_due(&f->rewrite, &f->checks.facts, f->doubt_ms, journal_clock_ms(), false)) return;
	buf_clear(&c->side);
	aof_rewrite_ask(&c->side);
	enum status st = redis_cluster_send_node(c->parts.link, f->node, &c->side, 1, 0, on_rewrite_reply, f);
	if (st != ST_OK) f->rewrite = (struct aof_rewrite){0};
}

/* The least that any of them takes. */
static void tell_limits(struct cluster_writer *c)
{
	size_t bulk = 0, request = 0;
	for (cluster_node n = 1; n <= REDIS_CLUSTER_NODES_MAX; n++) {
		const struct cluster_node_facts *f = c->nodes[n];
		if (!f || f->answered == 0) continue;
		if (f->bulk_max > 0 && (bulk == 0 || f->bulk_max < bulk)) bulk = f->bulk_max;
		if (f->request_max > 0 && (request == 0 || f->request_max < request)) request = f->request_max;
	}
	spread_limits(c->spread, bulk, request);
}

static void on_checks_reply(void *ctx, const redisReply *reply, size_t index)
{
	struct cluster_node_facts *f = ctx;
	struct cluster_writer *c = f->writer;
	if (!reply) {
		f->asked = 0;
		return;
	}
	redis_checks_reply(&f->checks, c->parts.log, reply, index);
	if (index + 1 < REDIS_CHECKS_REPLIES) return;
	f->answered = f->asked;
	f->bulk_max = strtoull(f->checks.facts.bulk_max, NULL, 10);
	f->request_max = strtoull(f->checks.facts.request_max, NULL, 10);
	tell_limits(c);
	rewrite_if_due(c, f);
	spread_resume(c->spread);
	c->parts.pump(c->parts.ctx);
}

static struct cluster_node_facts *facts_of(struct cluster_writer *c, cluster_node node)
{
	if (node == 0 || node > REDIS_CLUSTER_NODES_MAX) return NULL;
	if (c->nodes[node]) return c->nodes[node];
	struct cluster_node_facts *f = calloc(1, sizeof(*f));
	if (!f) return NULL;
	f->writer = c;
	f->node = node;
	f->checks.cluster = true;
	c->nodes[node] = f;
	return f;
}

/* Has it told, over its present connection, what it takes? If not, it is asked. */
static bool usable(void *ctx, cluster_node node)
{
	struct cluster_writer *c = ctx;
	struct cluster_node_facts *f = facts_of(c, node);
	if (!f || !redis_cluster_node_ready(c->parts.link, node)) return false;
	uint64_t connects = redis_cluster_connects(c->parts.link, node);
	if (f->answered == connects) return true;
	if (f->asked == connects) return false;
	buf_clear(&c->side);
	redis_checks_ask(&c->side);
	bool doubt = spread_in_doubt(c->spread) || (f->answered == 0 && !entry_id_is_zero(c->parts.left_over));
	f->doubt_ms = doubt ? report_get(c->parts.report, oldest_ms) : 0;
	enum status st = redis_cluster_send_node(c->parts.link, node, &c->side, REDIS_CHECKS_REPLIES, 0, on_checks_reply, f);
	if (st == ST_OK) f->asked = connects;
	return false;
}

static cluster_node node_of(void *ctx, unsigned slot)
{
	struct cluster_writer *c = ctx;
	return redis_cluster_node(c->parts.link, slot);
}

static uint64_t connects_of(void *ctx, cluster_node node)
{
	struct cluster_writer *c = ctx;
	return redis_cluster_connects(c->parts.link, node);
}

static enum cluster_redirect redirect_of(void *ctx, const redisReply *reply, cluster_node *node)
{
	struct cluster_writer *c = ctx;
	unsigned slot;
	return redis_cluster_redirect(c->parts.link, reply, &slot, node);
}

void cluster_writer_changed(struct cluster_writer *c)
{
	cluster_node node = 0;
	while ((node = redis_cluster_next_master(c->parts.link, node)) != 0) { /* bounded by REDIS_CLUSTER_NODES_MAX */
		(void)usable(c, node);
	}
	spread_resume(c->spread);
	c->parts.pump(c->parts.ctx);
}

void cluster_writer_resume(struct cluster_writer *c)
{
	spread_resume(c->spread);
}

/* --- messages ------------------------------------------------------------------------------------------------- */

/* ST_END: all of the journal is gathered. ST_FULL: more later. ST_NOMEM. */
static enum status gather(struct cluster_writer *c)
{
	while (true) { /* ends: the spread is full some time */
		struct journal_record record;
		enum status st = journal_next(c->parts.journal, spread_position(c->spread), &record);
		if (st == ST_OK) st = spread_add(c->spread, &record);
		if (st != ST_OK) return st;
	}
}

static void on_reply(void *ctx, const redisReply *reply, size_t index)
{
	struct shipment *s = ctx;
	struct cluster_writer *c = s->writer;
	spread_reply(c->spread, s->batch, reply, index);
	if (reply && index + 1 < s->replies) return;
	if (reply) histogram_add(c->parts.latency, (uv_hrtime() - s->sent_ns) / 1000);
	free(s);
	if (reply) c->parts.pump(c->parts.ctx); /* else the change of the cluster is told, too */
}

static void ship(struct cluster_writer *c)
{
	struct spread_batch *batch = spread_batch_now(c->spread);
	struct shipment *s = malloc(sizeof(*s));
	enum status st = ST_NOMEM;
	if (s) {
		*s = (struct shipment){.writer = c, .batch = batch, .sent_ns = uv_hrtime()};
		const struct buf *commands = spread_batch_commands(batch, &s->replies);
		st = redis_cluster_send_node(c->parts.link, spread_batch_node(batch), commands, s->replies, 0, on_reply, s);
	}
	report_set(c->parts.report, retries, spread_retries(c->spread));
	if (st == ST_OK) return;
	free(s);
	spread_unsent(c->spread, batch);
}

static void note_oldest(struct cluster_writer *c)
{
	struct journal_record record;
	bool any = journal_next(c->parts.journal, journal_released(c->parts.journal), &record) == ST_OK;
	report_set(c->parts.report, oldest_ms, any ? record.id.ms : 0);
}

static void enter_fate(void *ctx, uint16_t rule, enum fate fate)
{
	static const enum books_column columns[] = {
		[FATE_STORED] = BOOKS_STORED, [FATE_DEAD] = BOOKS_DEAD, [FATE_DAMAGED] = BOOKS_DROPPED_damaged,
	};
	books_add(ctx, rule, columns[fate]);
}

static void release(struct cluster_writer *c)
{
	struct pipeline_outcome o = spread_outcome(c->spread);
	spread_fates(c->spread, enter_fate, c->parts.report->books);
	report_add(c->parts.report, batches, 1);
	spread_released(c->spread); /* before: it reads the records */
	journal_release(c->parts.journal, o.position, o.id);
	confirm_tell(c->parts.confirm, o.position);
	note_oldest(c);
}

/* `end`: where all of the journal was gathered; UINT64_MAX: it is not. */
static enum cluster_writer_state waiting(struct cluster_writer *c, uint64_t end, unsigned *pause_ms, bool *more)
{
	*pause_ms = spread_pause_ms(c->spread);
	/* Something may stay where it is for long: what comes meanwhile must not wait for it. But what was gathered and dropped for
	 * want of memory waits for the pause to be over. */
	*more = *pause_ms > 0 && spread_position(c->spread) == end && !journal_sleep(c->parts.journal, end);
	return *pause_ms > 0 ? CLUSTER_WRITER_PAUSED : CLUSTER_WRITER_ASLEEP;
}

enum cluster_writer_state cluster_writer_pump(struct cluster_writer *c, bool stopping, unsigned *pause_ms)
{
	while (true) { /* ends: each turn gathers, sends, releases, or returns */
		bool more;
		enum status gathered = gather(c);
		uint64_t end = gathered == ST_END ? spread_position(c->spread) : UINT64_MAX;
		switch (spread_step(c->spread)) {
		case SPREAD_SEND:
			ship(c);
			break;
		case SPREAD_RELEASE:
			release(c);
			break;
		case SPREAD_WAIT: {
			enum cluster_writer_state state = waiting(c, end, pause_ms, &more);
			if (!more) return state;
			break;
		}
		case SPREAD_IDLE:
			if (gathered != ST_END) {
				*pause_ms = NO_MEMORY_PAUSE_MS; /* no memory for a single record */
				return CLUSTER_WRITER_PAUSED;
			}
			if (stopping) return CLUSTER_WRITER_EMPTY;
			if (journal_sleep(c->parts.journal, spread_position(c->spread))) return CLUSTER_WRITER_ASLEEP;
			break; /* unreached: no test can time a record between the two looks at the journal */
		}
	}
}

/* --- room in the journal -------------------------------------------------------------------------------------- */

static void on_dropped(void *ctx, const struct journal_record *record)
{
	struct cluster_writer *c = ctx;
	(void)books_add_record(c->parts.report->books, record->body, BOOKS_DROPPED_old); /* how many does not matter here */
}

static void on_moved(void *ctx, size_t index, const struct journal_record *record)
{
	struct cluster_writer *c = ctx;
	spread_moved(c->spread, index, record);
}

void cluster_writer_make_room(struct cluster_writer *c)
{
	if (!journal_room_wanted(c->parts.journal)) return;
	struct journal_drop_events events = {on_dropped, on_moved, c};
	uint64_t held = spread_step_back(c->spread);
	if (journal_drop(c->parts.journal, held, &events)) spread_go_on(c->spread, journal_released(c->parts.journal));
	note_oldest(c);
}

/* --- start and end -------------------------------------------------------------------------------------------- */

/* What is under way keeps its room, whatever happens: it should not be most of a small journal. */
static size_t stretch_bytes(const struct journal *journal)
{
	uint64_t part = journal_size(journal) / (4 * SPREAD_STRETCHES);
	return part < STRETCH_BYTES_MAX ? (size_t)part : STRETCH_BYTES_MAX;
}

static void name_run(struct cluster_writer *c, uint64_t order)
{
	uint64_t random = 0;
	/* Without: the time, which differs as well unless it was set back. */
	if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random)) random = order;
	(void)snprintf(c->run, sizeof(c->run), "%016" PRIx64, random);
}

enum status cluster_writer_new(const struct cluster_writer_parts *parts, struct cluster_writer **out)
{
	struct cluster_writer *c = calloc(1, sizeof(*c));
	if (!c) return ST_NOMEM;
	c->parts = *parts;
	struct spread_config config = {
		.keys = settings_keys(parts->settings),
		.node = parts->settings->node,
		.rules = parts->rules,
		.log = parts->log,
		.position = journal_released(parts->journal),
		.bytes_max = stretch_bytes(parts->journal),
		.boot = parts->boot,
		.left_over = parts->left_over,
		.journal = parts->journal_name,
		.run = c->run,
		.order = journal_clock_ms(),
		.wait = {parts->settings->confirm, parts->settings->confirm_replicas},
		.cluster = {node_of, usable, connects_of, redirect_of, c},
		.now_ms = parts->now_ms,
		.ctx = parts->ctx,
	};
	name_run(c, config.order);
	enum status st = spread_new(&config, &c->spread);
	if (st != ST_OK) {
		free(c);
		return st;
	}
	*out = c;
	return ST_OK;
}

void cluster_writer_free(struct cluster_writer *c)
{
	if (!c) return;
	spread_free(c->spread);
	for (size_t i = 0; i <= REDIS_CLUSTER_NODES_MAX; i++) {
		free(c->nodes[i]);
	}
	buf_free(&c->side);
	free(c);
}
