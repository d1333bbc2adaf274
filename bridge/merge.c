/*
 * The merge of a device's keys. Owns the entries read ahead. Loop thread. It must never give out an entry while a
 * source that may still hold an earlier one is empty.
 */
#include "bridge/merge.h"

#include <stdlib.h>

struct source {
	uint16_t node;
	struct merge_entry *head, *tail;
	size_t count;
	struct entry_id last; /* newest pushed */
	bool any;             /* something was pushed */
	bool finished;
};

struct merge {
	bool backwards;
	struct source *sources;
	size_t source_count, source_cap;
	size_t *heap; /* sources that have entries, the one with the first entry on top */
	size_t heap_count;
	size_t starved; /* sources neither finished nor with entries */
	size_t bytes, entries;
	struct entry_id popped;
	uint16_t popped_node;
	bool popped_any;
};

struct merge_entry *merge_entry_new(const struct message *m)
{
	size_t len = message_packed_size(m);
	struct merge_entry *e = malloc(sizeof(*e) + len);

	if (!e) return NULL;
	e->next = NULL;
	e->id = m->id;
	e->node = m->node;
	e->len = len;
	message_pack(m, e->packed);
	return e;
}

enum status merge_new(bool backwards, struct merge **out)
{
	struct merge *m = calloc(1, sizeof(*m));

	if (!m) return ST_NOMEM;
	m->backwards = backwards;
	*out = m;
	return ST_OK;
}

void merge_free(struct merge *m)
{
	if (!m) return;
	for (size_t i = 0; i < m->source_count; i++) {
		while (m->sources[i].head) {
			struct merge_entry *e = m->sources[i].head;

			m->sources[i].head = e->next;
			free(e);
		}
	}
	free(m->sources);
	free(m->heap);
	free(m);
}

enum status merge_add(struct merge *m, uint16_t node, size_t *source)
{
	if (m->source_count == m->source_cap) {
		size_t cap = m->source_cap ? m->source_cap * 2 : 8;
		struct source *sources = realloc(m->sources, cap * sizeof(*sources));
		size_t *heap;

		if (!sources) return ST_NOMEM;
		m->sources = sources;
		heap = realloc(m->heap, cap * sizeof(*heap));
		if (!heap) return ST_NOMEM;
		m->heap = heap;
		m->source_cap = cap;
	}
	m->sources[m->source_count] = (struct source){.node = node};
	*source = m->source_count++;
	m->starved++;
	return ST_OK;
}

bool merge_finished(const struct merge *m, size_t source)
{
	return m->sources[source].finished;
}

size_t merge_waiting(const struct merge *m, size_t source)
{
	return m->sources[source].count;
}

size_t merge_bytes(const struct merge *m)
{
	return m->bytes;
}

size_t merge_count(const struct merge *m)
{
	return m->entries;
}

static bool in_order(const struct merge *m, struct entry_id a, struct entry_id b)
{
	int order = entry_id_compare(a, b);

	return m->backwards ? order > 0 : order < 0;
}

/* Of one id: by node. */
static bool goes_before(const struct merge *m, struct entry_id a, uint16_t a_node, struct entry_id b, uint16_t b_node)
{
	if (entry_id_compare(a, b) != 0) return in_order(m, a, b);
	return m->backwards ? a_node > b_node : a_node < b_node;
}

static bool heap_before(const struct merge *m, size_t a, size_t b)
{
	const struct source *x = &m->sources[m->heap[a]], *y = &m->sources[m->heap[b]];

	return goes_before(m, x->head->id, x->node, y->head->id, y->node);
}

static void heap_swap(struct merge *m, size_t a, size_t b)
{
	size_t t = m->heap[a];

	m->heap[a] = m->heap[b];
	m->heap[b] = t;
}

static void heap_up(struct merge *m, size_t i)
{
	while (i > 0 && heap_before(m, i, (i - 1) / 2)) {
		heap_swap(m, i, (i - 1) / 2);
		i = (i - 1) / 2;
	}
}

static void heap_down(struct merge *m, size_t i)
{
	for (;;) {
		size_t first = i, left = 2 * i + 1, right = 2 * i + 2;

		if (left < m->heap_count && heap_before(m, left, first)) first = left;
		if (right < m->heap_count && heap_before(m, right, first)) first = right;
		if (first == i) return;
		heap_swap(m, i, first);
		i = first;
	}
}

void merge_push(struct merge *m, size_t source, struct merge_entry *entry)
{
	struct source *s = &m->sources[source];

	if (s->finished || (s->any && !in_order(m, s->last, entry->id))) {
		free(entry);
		return;
	}
	s->any = true;
	s->last = entry->id;
	entry->next = NULL;
	entry->node = s->node;
	if (s->tail) s->tail->next = entry;
	else s->head = entry;
	s->tail = entry;
	m->bytes += entry->len;
	m->entries++;
	if (s->count++ > 0) return;
	m->starved--;
	m->heap[m->heap_count] = source;
	heap_up(m, m->heap_count++);
}

void merge_finish(struct merge *m, size_t source)
{
	struct source *s = &m->sources[source];

	if (s->finished) return;
	s->finished = true;
	if (s->count == 0) m->starved--;
}

/* Takes the first entry of the source on top of the heap. */
static struct merge_entry *take_top(struct merge *m)
{
	struct source *s = &m->sources[m->heap[0]];
	struct merge_entry *e = s->head;

	s->head = e->next;
	s->count--;
	m->bytes -= e->len;
	m->entries--;
	if (!s->head) {
		s->tail = NULL;
		if (!s->finished) m->starved++;
		m->heap[0] = m->heap[--m->heap_count];
	}
	if (m->heap_count) heap_down(m, 0);
	e->next = NULL;
	return e;
}

enum merge_result merge_pop(struct merge *m, struct merge_entry **entry)
{
	while (m->starved == 0 && m->heap_count > 0) {
		struct merge_entry *e = take_top(m);

		if (m->popped_any && !goes_before(m, m->popped, m->popped_node, e->id, e->node)) {
			free(e);
			continue;
		}
		m->popped = e->id;
		m->popped_node = e->node;
		m->popped_any = true;
		*entry = e;
		return MERGE_ENTRY;
	}
	return m->starved ? MERGE_STARVED : MERGE_END;
}
