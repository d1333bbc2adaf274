/*
 * Owns the confirmed position and the place where the broker thread waits for it. Both threads. A position is one word, so
 * that it can be read without the lock; the lock and the condition serve the sleep alone.
 */
#include "plugin/confirm.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

struct confirm {
	_Atomic uint64_t position;
	atomic_bool waiting;
	pthread_mutex_t lock;
	pthread_cond_t moved;
};

static bool make_condition(pthread_cond_t *condition)
{
	pthread_condattr_t monotonic;
	if (pthread_condattr_init(&monotonic) != 0) return false;
	bool made = pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC) == 0 &&
		pthread_cond_init(condition, &monotonic) == 0;
	(void)pthread_condattr_destroy(&monotonic); /* nothing can be wrong with it */
	return made;
}

enum status confirm_new(struct confirm **out)
{
	struct confirm *c = calloc(1, sizeof(*c));
	if (!c) return ST_NOMEM;
	atomic_init(&c->position, 0);
	atomic_init(&c->waiting, false);
	if (!make_condition(&c->moved)) {
		free(c);
		return ST_NOMEM;
	}
	if (pthread_mutex_init(&c->lock, NULL) != 0) {
		(void)pthread_cond_destroy(&c->moved); /* nobody waits */
		free(c);
		return ST_NOMEM;
	}
	*out = c;
	return ST_OK;
}

void confirm_free(struct confirm *c)
{
	if (!c) return;
	(void)pthread_mutex_destroy(&c->lock); /* these fail only while in use */
	(void)pthread_cond_destroy(&c->moved);
	free(c);
}

void confirm_tell(struct confirm *c, uint64_t position)
{
	if (!c) return;
	/* The writer stores the position, then reads `waiting`; the waiter stores `waiting`, then reads the position. All are
	 * seq_cst, so at least one of them sees what the other has stored. */
	atomic_store_explicit(&c->position, position, memory_order_seq_cst);
	if (!atomic_load_explicit(&c->waiting, memory_order_seq_cst)) return;
	(void)pthread_mutex_lock(&c->lock); /* a default mutex that this thread does not hold: cannot fail */
	(void)pthread_cond_signal(&c->moved);
	(void)pthread_mutex_unlock(&c->lock);
}

static struct timespec later(unsigned ms)
{
	struct timespec ts;
	(void)clock_gettime(CLOCK_MONOTONIC, &ts); /* cannot fail with this clock */
	ts.tv_sec += ms / 1000;
	ts.tv_nsec += (long)(ms % 1000) * 1000000;
	if (ts.tv_nsec < 1000000000) return ts;
	ts.tv_sec++;
	ts.tv_nsec -= 1000000000;
	return ts;
}

static bool reached(struct confirm *c, uint64_t position)
{
	return atomic_load_explicit(&c->position, memory_order_seq_cst) >= position;
}

bool confirm_wait(struct confirm *c, uint64_t position, unsigned timeout_ms)
{
	if (reached(c, position)) return true;
	struct timespec limit = later(timeout_ms);
	int result = 0;
	(void)pthread_mutex_lock(&c->lock);
	atomic_store_explicit(&c->waiting, true, memory_order_seq_cst);
	while (!reached(c, position) && result == 0) { /* ends at the limit at the latest */
		result = pthread_cond_timedwait(&c->moved, &c->lock, &limit);
	}
	atomic_store_explicit(&c->waiting, false, memory_order_seq_cst);
	(void)pthread_mutex_unlock(&c->lock);
	return reached(c, position);
}

uint64_t confirm_position(const struct confirm *c)
{
	return atomic_load_explicit(&c->position, memory_order_acquire);
}
