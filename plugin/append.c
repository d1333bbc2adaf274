/*
 * Journal entries of the broker thread. Owns the queue of session events that wait for room.
 * Must never block and never drop an event without saying so.
 */
#include "plugin/append.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ROOM_PAUSE_NS 100000
#define ROOM_WAIT_MS 20
#define ROOM_WAIT_GAP_MS 1000
#define WAITING_MAX 65536 /* events; a device has at most a few, so this is tens of thousands of devices */
#define WAITING_BYTES_MAX (64u * 1024 * 1024) /* their bodies: filters may be long */

struct waiting_event {
	struct waiting_event *next;
	enum journal_type type;
	size_t len;
	char body[];
};

struct append {
	struct journal *journal;
	struct report *report;
	void (*wake)(void *ctx);
	void *ctx;
	struct waiting_event *first, **last;
	size_t waiting, waiting_bytes;
	struct buf scratch;
	bool drop_old;
	bool turns;      /* append_turn was called since a wake was last put off */
	bool owed;       /* a wake is put off */
	unsigned behind; /* messages since */
	uint64_t no_wait_until_ms; /* the writer did not make room in time: do not wait for it again before this */
};

enum status append_new(struct journal *journal, struct report *report, void (*wake)(void *ctx), void *ctx,
	struct append **out)
{
	struct append *a = calloc(1, sizeof *a);

	if (!a) return ST_NOMEM;
	a->journal = journal;
	a->report = report;
	a->wake = wake;
	a->ctx = ctx;
	a->last = &a->first;
	*out = a;
	return ST_OK;
}

void append_drop_old(struct append *a)
{
	a->drop_old = true;
}

void append_free(struct append *a)
{
	if (!a) return;
	while (a->first) {
		struct waiting_event *e = a->first;

		a->first = e->next;
		free(e);
	}
	buf_free(&a->scratch);
	free(a);
}

SELDOM static void wake_now(struct append *a)
{
	a->owed = false;
	a->wake(a->ctx);
}

SELDOM static void wake_later(struct append *a)
{
	if (!a->turns) {
		wake_now(a);
		return;
	}
	a->turns = false;
	a->owed = true;
	a->behind = 0;
}

void append_turn(struct append *a)
{
	a->turns = true;
	if (a->owed) wake_now(a);
}

static inline struct entry_id commit(struct append *a, size_t len)
{
	bool wake = false;
	struct entry_id id = journal_commit(a->journal, len, &wake);

	if (a->owed) {
		if (++a->behind == APPEND_WAKE_MAX) wake_now(a);
	} else if (wake) {
		wake_later(a);
	}
	return id;
}

static void press(struct append *a, size_t len)
{
	if (a->drop_old && journal_press(a->journal, len)) wake_now(a);
}

static uint64_t monotonic_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000u + (uint64_t)ts.tv_nsec / 1000000u;
}

/* The newest message is what drop-old is to keep, and the writer thread, which never waits for Redis, needs a moment. */
SELDOM static char *await_room(struct append *a, size_t len)
{
	const struct timespec pause = {.tv_nsec = ROOM_PAUSE_NS};
	uint64_t now = monotonic_ms(), limit = now + ROOM_WAIT_MS;

	press(a, len);
	if (!a->drop_old || now < a->no_wait_until_ms) return NULL;
	for (; now < limit; now = monotonic_ms()) {
		char *body;

		nanosleep(&pause, NULL);
		body = journal_reserve(a->journal, JOURNAL_MESSAGE, len);
		if (body) return body;
	}
	a->no_wait_until_ms = now + ROOM_WAIT_GAP_MS;
	return NULL;
}

enum status append_message(struct append *a, const struct message *m, const uint16_t *rules, uint16_t rule_count,
	struct entry_id *id)
{
	size_t head = sizeof(uint16_t) * (1u + rule_count);
	size_t len = head + message_packed_size(m);
	char *body;

	if (!journal_fits(a->journal, len)) return ST_TOO_LARGE;
	body = journal_reserve(a->journal, JOURNAL_MESSAGE, len);
	if (!body) body = await_room(a, len);
	if (!body) return ST_FULL;
	memcpy(body, &rule_count, sizeof rule_count);
	for (uint16_t i = 0; i < rule_count; i++) {
		memcpy(body + sizeof *rules * (1u + i), &rules[i], sizeof *rules);
		/* Before the writer can see it: see plugin/books.h. */
		books_add(a->report->books, rules[i], BOOKS_IN);
	}
	message_pack(m, body + head);
	*id = commit(a, len);
	press(a, len);
	return ST_OK;
}

static enum status write_body(struct append *a, enum journal_type type, const char *data, size_t len,
	struct entry_id *id)
{
	char *body = journal_reserve(a->journal, type, len);

	if (!body) return ST_FULL;
	memcpy(body, data, len);
	*id = commit(a, len);
	wake_now(a); /* a device waits: the writer is not to let messages gather */
	return ST_OK;
}

enum status append_event_now(struct append *a, enum journal_type type, const struct session_event *e,
	struct entry_id *id)
{
	append_flush(a);
	buf_clear(&a->scratch);
	session_event_pack(&a->scratch, e);
	if (a->scratch.failed) return ST_NOMEM;
	/* Waiting for room that never comes, it would keep all others waiting too. */
	if (!journal_fits(a->journal, a->scratch.len)) return ST_TOO_LARGE;
	if (a->first) return ST_FULL;
	return write_body(a, type, a->scratch.data, a->scratch.len, id);
}

enum status append_event(struct append *a, enum journal_type type, const struct session_event *e)
{
	struct entry_id id;
	struct waiting_event *w;
	enum status st = append_event_now(a, type, e, &id);

	if (st != ST_FULL) return st; /* now the scratch holds its body */
	if (a->waiting >= WAITING_MAX || a->waiting_bytes >= WAITING_BYTES_MAX) return ST_FULL;
	w = malloc(sizeof *w + a->scratch.len);
	if (!w) return ST_NOMEM;
	w->next = NULL;
	w->type = type;
	w->len = a->scratch.len;
	memcpy(w->body, a->scratch.data, w->len);
	*a->last = w;
	a->last = &w->next;
	a->waiting++;
	a->waiting_bytes += w->len;
	return ST_OK;
}

void append_flush(struct append *a)
{
	while (a->first) {
		struct waiting_event *e = a->first;
		struct entry_id id;

		if (write_body(a, e->type, e->body, e->len, &id) != ST_OK) return;
		a->first = e->next;
		if (!a->first) a->last = &a->first;
		a->waiting--;
		a->waiting_bytes -= e->len;
		free(e);
	}
}

struct entry_id append_head(const struct append *a)
{
	return journal_head_id(a->journal);
}
