/*
 * The inside of an outbox's line (bridge/outbox_line.h): for its own files only. Loop thread.
 */
#ifndef MQR_BRIDGE_OUTBOX_LINE_PARTS_H
#define MQR_BRIDGE_OUTBOX_LINE_PARTS_H

#include "bridge/outbox_intake.h"
#include "bridge/outbox_line.h"
#include "bridge/outbox_script.h"
#include "config/redis_link.h"

#define RETRY_MS_MIN 100
#define SHOWN_KEY_MAX 128

/* Attempts at something that Redis refuses. */
struct retry {
	uint64_t at_ms;
	unsigned wait_ms;
	char said[160]; /* the refusal that was logged last */
};

struct outbox_line {
	struct outbox_line_deps deps;
	struct redis_link *reader, *writer;
	struct outbox_flow *flow;
	struct outbox_keys keys;
	struct buf names;         /* what `keys` points into */
	struct buf command;
	struct outbox_intake intake;
	struct outbox_counts counts;
	char line[SHOWN_KEY_MAX]; /* for logs */
	bool active, broker;
	bool group_made;
	bool making_group;
	bool empty;               /* the last look at the list found nothing */
	bool read_bad;            /* an error among the replies */
	size_t read_replies;
	struct retry read_retry, settle_retry, due_retry;
	size_t settle_replies, result_replies;
	bool results_doubtful;    /* those that were sent by themselves may not be there */
	bool settle_bad;
	uint64_t settle_number;   /* names groups */
	bool due_asked;
	uint64_t due_at_ms, claim_at_ms;
	unsigned closing;
	void (*closed)(void *ctx);
	void *closed_ctx;
};

/* --- outbox_line.c --- */
/* Redis refuses `what`: again after a longer pause than before. Logged if it says something else than the last time. `reply`: NULL, or
 * one that was not expected. */
void line_retry_later(struct outbox_line *l, struct retry *r, const char *what, const redisReply *reply);
void line_retry_over(struct retry *r);
bool line_retry_due(const struct outbox_line *l, const struct retry *r);

/* --- outbox_line_read.c --- */
/* Asks for what there is room for, if nothing is asked for already. */
void line_read_more(struct outbox_line *l);

/* --- outbox_line_settle.c --- */
/* Tells Redis of outcomes, if there are any and nothing is told already. */
void line_settle(struct outbox_line *l);
/* Puts what was put aside until its time back, when that has come. */
void line_look_for_due(struct outbox_line *l);

#endif
