/* What a publisher has measured: how long messages took, and which were acknowledged. Test's thread; takes the lock for each look. */
#include <stdlib.h>

#include "tests/harness/publisher_parts.h"

enum measure { ACKNOWLEDGED, HEARD, BUSY };

unsigned publisher_section(struct publisher *p)
{
	unsigned section;

	pthread_mutex_lock(&p->lock);
	section = ++p->section;
	pthread_mutex_unlock(&p->lock);
	return section;
}

static int compare(const void *a, const void *b)
{
	unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;

	return x < y ? -1 : x > y;
}

static bool has(const struct sent *m, enum measure measure)
{
	return measure == ACKNOWLEDGED ? m->acked : m->heard;
}

static unsigned of(const struct sent *m, enum measure measure)
{
	return measure == ACKNOWLEDGED ? m->took_us : measure == HEARD ? m->heard_us : m->busy_us;
}

static size_t collect(struct publisher *p, unsigned section, enum measure measure, unsigned *us, size_t room)
{
	size_t count = 0;

	for (unsigned i = 0; i < p->connection_count; i++) {
		const struct connection *c = &p->connections[i];
		for (long k = 0; k < c->count && count < room; k++) {
			const struct sent *m = &c->messages[k];

			if (m->section == section && has(m, measure)) us[count++] = of(m, measure);
		}
	}
	return count;
}

static struct latency summary(unsigned *us, size_t count)
{
	uint64_t sum = 0;

	if (count == 0) return (struct latency){0};
	qsort(us, count, sizeof(*us), compare);
	for (size_t i = 0; i < count; i++) sum += us[i];
	return (struct latency){.count = count, .mean_us = (unsigned)(sum / count), .p50_us = us[count / 2],
		.p99_us = us[count * 99 / 100], .p999_us = us[count * 999 / 1000], .max_us = us[count - 1]};
}

static struct latency latency(struct publisher *p, unsigned section, enum measure measure)
{
	struct latency l = {0};
	size_t room = 0;
	unsigned *us;

	pthread_mutex_lock(&p->lock);
	for (unsigned i = 0; i < p->connection_count; i++) room += (size_t)p->connections[i].count;
	us = malloc((room + 1) * sizeof(*us));
	if (us) l.count = collect(p, section, measure, us, room);
	pthread_mutex_unlock(&p->lock);
	scene_require(us, "out of memory");
	l = summary(us, l.count);
	free(us);
	return l;
}

struct latency publisher_latency(struct publisher *p, unsigned section)
{
	return latency(p, section, ACKNOWLEDGED);
}

struct latency publisher_delivery(struct publisher *p, unsigned section)
{
	return latency(p, section, HEARD);
}

struct latency publisher_work(struct publisher *p, unsigned section)
{
	return latency(p, section, BUSY);
}

unsigned publisher_misheard(struct publisher *p)
{
	unsigned misheard;

	pthread_mutex_lock(&p->lock);
	misheard = p->misheard;
	pthread_mutex_unlock(&p->lock);
	return misheard;
}

unsigned publisher_connections(const struct publisher *p)
{
	return p->connection_count;
}

long publisher_sent(struct publisher *p, unsigned connection)
{
	long count;

	pthread_mutex_lock(&p->lock);
	count = p->connections[connection].count;
	pthread_mutex_unlock(&p->lock);
	return count;
}

bool publisher_acked(struct publisher *p, unsigned connection, long number)
{
	bool acked;

	pthread_mutex_lock(&p->lock);
	acked = number >= 0 && number < p->connections[connection].count &&
		p->connections[connection].messages[number].acked;
	pthread_mutex_unlock(&p->lock);
	return acked;
}

long publisher_acked_total(struct publisher *p)
{
	long total = 0;

	pthread_mutex_lock(&p->lock);
	for (unsigned i = 0; i < p->connection_count; i++)
		for (long k = 0; k < p->connections[i].count; k++) total += p->connections[i].messages[k].acked;
	pthread_mutex_unlock(&p->lock);
	return total;
}

unsigned publisher_losses(struct publisher *p)
{
	unsigned losses;

	pthread_mutex_lock(&p->lock);
	losses = p->losses;
	pthread_mutex_unlock(&p->lock);
	return losses;
}
