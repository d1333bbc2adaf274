/*
 * Counts what became of messages. Broker and writer thread, each its own columns; neither waits for the other.
 * Columns lie apart in memory, so that the threads do not fight over cache lines.
 */
#include "plugin/books.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "config/buf.h"

struct books {
	_Atomic uint64_t column[BOOKS_COLUMNS][BOOKS_PAGES];
	_Atomic bool listed[BOOKS_PAGES];
	_Atomic size_t end; /* behind the last rule listed; BOOKS_NO_RULE aside */
};

enum status books_new(struct books **out)
{
	struct books *b = calloc(1, sizeof(*b));
	if (!b) return ST_NOMEM;
	*out = b;
	return ST_OK;
}

void books_free(struct books *b)
{
	free(b);
}

static uint16_t page_of(uint16_t rule)
{
	return rule < JOURNAL_RULES_MAX ? rule : BOOKS_NO_RULE;
}

void books_list(struct books *b, uint16_t rule)
{
	uint16_t page = page_of(rule);
	size_t end = atomic_load_explicit(&b->end, memory_order_relaxed);
	/* Either thread may list one; the larger end stays. */
	while (page != BOOKS_NO_RULE && page >= end &&
		!atomic_compare_exchange_weak_explicit(&b->end, &end, page + 1u, memory_order_relaxed, memory_order_relaxed)) {}
	atomic_store_explicit(&b->listed[page], true, memory_order_release); /* and its end with it */
}

void books_add(struct books *b, uint16_t rule, enum books_column column)
{
	uint16_t page = page_of(rule);
	_Atomic uint64_t *n = &b->column[column][page];
	if (!atomic_load_explicit(&b->listed[page], memory_order_relaxed)) books_list(b, page);
	atomic_store_explicit(n, atomic_load_explicit(n, memory_order_relaxed) + 1, memory_order_release);
}

size_t books_add_record(struct books *b, struct slice body, enum books_column column)
{
	struct reader r = reader_of(body);
	uint16_t count = reader_u16(&r);
	struct reader numbers = reader_of(reader_bytes(&r, (size_t)count * 2));
	if (r.failed) {
		books_add(b, BOOKS_NO_RULE, column);
		return 1;
	}
	for (uint16_t i = 0; i < count; i++) {
		books_add(b, reader_u16(&numbers), column);
	}
	return count;
}

static uint64_t read_column(const struct books *b, enum books_column column, size_t page)
{
	return atomic_load_explicit(&b->column[column][page], memory_order_acquire);
}

/* What left is read before what came. */
static void read_page(const struct books *b, size_t page, struct books_line *line)
{
	uint64_t left = 0;
	*line = (struct books_line){.rule = (uint16_t)page};
	for (size_t c = BOOKS_COLUMNS; c > 0; c--) {
		line->column[c - 1] = read_column(b, (enum books_column)(c - 1), page);
		if (c - 1 != BOOKS_IN) left += line->column[c - 1];
		if (c - 1 >= BOOKS_COLUMNS - BOOKS_REASONS) line->dropped += line->column[c - 1];
	}
	/* Not below zero, whatever happened: the equation would show it. */
	line->queued = line->column[BOOKS_IN] > left ? line->column[BOOKS_IN] - left : 0;
}

void books_sample(const struct books *b, struct books_sample *out)
{
	out->count = 0;
	out->total = (struct books_line){.rule = BOOKS_NO_RULE};
	for (size_t page = 0; page < BOOKS_PAGES; page++) {
		if (!atomic_load_explicit(&b->listed[page], memory_order_relaxed)) continue;
		struct books_line *line = &out->lines[out->count++];
		read_page(b, page, line);
		for (size_t c = 0; c < BOOKS_COLUMNS; c++) {
			out->total.column[c] += line->column[c];
		}
		out->total.queued += line->queued;
		out->total.dropped += line->dropped;
	}
}

uint64_t books_total(const struct books *b, enum books_column column)
{
	uint64_t sum = 0;
	size_t end = atomic_load_explicit(&b->end, memory_order_acquire);
	for (size_t page = 0; page < end; page++) {
		sum += read_column(b, column, page);
	}
	return sum + read_column(b, column, BOOKS_NO_RULE);
}

const char *books_reason_name(enum books_reason reason)
{
	static const char *const names[] = {
#define X(name) #name,
		BOOKS_REASON_MAP(X)
#undef X
	};
	return names[reason];
}
