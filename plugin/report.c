/*
 * Counters and log lines from the writer thread to the broker thread. Counters are relaxed atomics. Lines wait in a
 * ring of fixed size under a mutex that is held for one copy: neither thread ever waits for more than that.
 */
#include "plugin/report.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LINES_MAX 128
#define LINE_SIZE 640

struct report_line {
	enum log_level level;
	char text[LINE_SIZE];
};

struct report_lines {
	pthread_mutex_t lock;
	size_t first, count;
	uint64_t lost;
	struct report_line ring[LINES_MAX];
};

enum status report_init(struct report *r)
{
	memset(r, 0, sizeof(*r));
	if (books_new(&r->books) != ST_OK) return ST_NOMEM;
	r->lines = calloc(1, sizeof(*r->lines));
	if (r->lines && pthread_mutex_init(&r->lines->lock, NULL) == 0) return ST_OK;
	free(r->lines);
	r->lines = NULL;
	report_fini(r);
	return ST_NOMEM;
}

void report_fini(struct report *r)
{
	books_free(r->books);
	r->books = NULL;
	if (!r->lines) return;
	(void)pthread_mutex_destroy(&r->lines->lock); /* fails only while locked */
	free(r->lines);
	r->lines = NULL;
}

uint64_t report_oldest_age(struct report *r)
{
	uint64_t oldest = report_get(r, oldest_ms);
	struct timespec ts;
	(void)clock_gettime(CLOCK_REALTIME, &ts); /* cannot fail with a valid clock */
	uint64_t now = (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
	return oldest > 0 && now > oldest ? now - oldest : 0;
}

static void line_put(void *ctx, enum log_level level, const char *text)
{
	struct report_lines *lines = ctx;
	size_t len = strlen(text);
	(void)pthread_mutex_lock(&lines->lock); /* a default mutex that this thread does not hold: cannot fail */
	if (lines->count == LINES_MAX) {
		lines->lost++;
	} else {
		struct report_line *line = &lines->ring[(lines->first + lines->count) % LINES_MAX];
		bool fits = len < LINE_SIZE;
		line->level = level;
		memcpy(line->text, text, fits ? len : LINE_SIZE - 4);
		memcpy(line->text + (fits ? len : LINE_SIZE - 4), fits ? "" : "...", fits ? 1 : 4);
		lines->count++;
	}
	(void)pthread_mutex_unlock(&lines->lock);
}

struct log_sink report_sink(struct report *r)
{
	return (struct log_sink){line_put, r->lines};
}

static bool line_take(struct report_lines *lines, struct report_line *line)
{
	(void)pthread_mutex_lock(&lines->lock);
	bool any = lines->count > 0;
	if (any) {
		*line = lines->ring[lines->first];
		lines->first = (lines->first + 1) % LINES_MAX;
		lines->count--;
	}
	(void)pthread_mutex_unlock(&lines->lock);
	return any;
}

static uint64_t lost_take(struct report_lines *lines)
{
	(void)pthread_mutex_lock(&lines->lock);
	uint64_t lost = lines->lost;
	lines->lost = 0;
	(void)pthread_mutex_unlock(&lines->lock);
	return lost;
}

void report_drain(struct report *r, const struct log_sink *out)
{
	if (!r->lines) return;
	struct report_line line;
	/* Bounded, since the writer may add while we take. */
	for (size_t i = 0; i < LINES_MAX && line_take(r->lines, &line); i++) {
		out->write(out->ctx, line.level, line.text);
	}
	uint64_t lost = lost_take(r->lines);
	if (lost > 0) {
		log_to(out, LOG_LEVEL_WARNING, "writer: %llu log lines did not fit and are lost", (unsigned long long)lost);
	}
}
