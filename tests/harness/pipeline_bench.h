/* A pipeline on a bench: records in memory instead of a journal, a clock that stands, replies given as text. */
#ifndef MQR_TESTS_HARNESS_PIPELINE_BENCH_H
#define MQR_TESTS_HARNESS_PIPELINE_BENCH_H

#include <hiredis/hiredis.h>

#include "plugin/pipeline.h"
#include "plugin/session_event.h"

#define BENCH_RECORDS_MAX 20000
#define BENCH_RULES_MAX 16

struct bench {
	const char *rules[BENCH_RULES_MAX]; /* NULL: no such rule */
	struct journal_record records[BENCH_RECORDS_MAX]; /* position: index times 10; bodies are owned */
	size_t count, released;
	size_t overwritten; /* released ones before this one are gone */
	uint64_t clock_ms;
	const char *journal, *journal_there; /* this journal's name; the one in Redis, "" for none */
	struct entry_id left_over;
	struct wait wait; /* from the next bench_restart on */
	char log[8192]; /* lines, newest last; cleared by the test */
	struct log_sink sink;
	struct rule_cache *cache;
	struct pipeline *p;
	struct buf sent;
	size_t replies;
};

/* What time the pipeline takes it to be, for what is late; 0 from bench_open on: nothing is. */
extern uint64_t bench_wall_ms;

/* Prefix "p", node "n". */
void bench_open(struct bench *b, const char *const *rules, size_t rule_count);
/* The process dies and another begins with the unreleased records. */
void bench_restart(struct bench *b);
void bench_close(struct bench *b);
/* Appends a record with id <ms>-<count>. `rules`: numbers as digits, "02" is rule 0 and rule 2. */
void bench_message(struct bench *b, uint64_t ms, const char *rules, const char *topic, struct slice payload);
void bench_event(struct bench *b, uint64_t ms, enum journal_type type, const struct session_event *e);
void bench_body(struct bench *b, uint64_t ms, enum journal_type type, struct slice body);
/* Adds records until the pipeline takes no more; returns its last word, ST_END when all are in. */
enum status bench_gather(struct bench *b);
/* Requires PIPELINE_SEND; the commands as text (owned by the caller). */
char *bench_sent(struct bench *b);
/* One reply, in RESP without the last CRLF; lines are separated by '|'. */
void bench_reply(struct bench *b, size_t index, const char *text);
/* All of them. */
void bench_replies(struct bench *b, const char *const *texts, size_t count);
/* Sends and answers a mark, "" for none; then gathers. */
void bench_mark(struct bench *b, const char *mark, const char *dead);

#endif
