/* The rate, and the room that it has made. Pure; loop thread. It must never stand still because an answer was lost. */
#include "bridge/pace.h"

#include <string.h>

#define ASK_BUSY_US 10000
#define ASK_START_US 2500 /* while it looks for the rate */
#define REST_US 1000000   /* nobody caught up for so long: what the rate was says little */
#define ASK_IDLE_US 5000000
#define LOST_US 2000000       /* an answer that does not come */
#define BURST_US 1000         /* room is saved up for so long */
#define BATCH_US 250          /* one batch is what the rate gives in this time: the broker does nothing else meanwhile */
#define CALM_MAX_US 50000     /* a longer answer says nothing of calm */
#define QUICK_US 400          /* a sooner answer says that there is much room */
#define SHARE_CALM 0.125
#define SHARE_CALMER 0.5
#define SHARE_FLOOR 0.015     /* at the lowest rate: it is not the backlogs that the broker is busy with */
#define SHARE_CHUNK 0.0625

void pace_init(struct pace *p, uint64_t now_us)
{
	*p = (struct pace){.rate = PACE_RATE_FIRST, .chunk = 8, .filled_us = now_us, .starting = true};
}

static double late_us(const struct pace *p)
{
	return 2 * p->calm_us + PACE_LATE_US;
}

static double very_late_us(const struct pace *p)
{
	return 6 * p->calm_us + PACE_VERY_LATE_US;
}

static void set_rate(struct pace *p, double rate)
{
	p->rate = rate < PACE_RATE_MIN ? PACE_RATE_MIN : rate > PACE_RATE_MAX ? PACE_RATE_MAX : rate;
}

static uint64_t ask_after_us(const struct pace *p, bool busy)
{
	if (!busy) return ASK_IDLE_US;
	return p->starting ? ASK_START_US : ASK_BUSY_US;
}

static void start_anew(struct pace *p)
{
	p->starting = true;
	p->doubting = false;
	if (p->rate < PACE_RATE_FIRST) set_rate(p, PACE_RATE_FIRST);
}

bool pace_ask(struct pace *p, uint64_t now_us, bool busy)
{
	if (p->asked_us != 0) {
		if (now_us - p->asked_us < LOST_US) return false;
		set_rate(p, p->rate / 2);
	} else {
		if (busy && now_us - p->answered_us >= REST_US) start_anew(p);
		if (now_us - p->answered_us < ask_after_us(p, busy)) return false;
	}
	p->asked_us = now_us;
	return true;
}

/* For an answer that is not late. In the beginning there are four times as many of them. */
static double growth(const struct pace *p, double took_us)
{
	if (took_us >= late_us(p) / 2) return 1.05;
	if (!p->starting) return 1.25;
	return took_us < QUICK_US ? 2 : 1.06;
}

/* One late answer does not end the search in the beginning: what came then is the devices' arrival. */
static bool searches_on(struct pace *p, double took_us)
{
	bool first = p->starting && !p->doubting && took_us <= very_late_us(p);

	p->doubting = true;
	return first;
}

static void slow_down(struct pace *p, double took_us)
{
	if (searches_on(p, took_us)) return;
	if (p->rate <= PACE_RATE_MIN) p->calm_us += SHARE_FLOOR * (took_us - p->calm_us);
	set_rate(p, p->rate * (took_us > very_late_us(p) ? 0.5 : 0.8));
	p->starting = false;
}

static void judge(struct pace *p, double took_us)
{
	if (took_us > late_us(p)) {
		slow_down(p, took_us);
	} else {
		if (p->wanting) set_rate(p, p->rate * growth(p, took_us));
		p->doubting = false;
	}
	p->wanting = false;
}

void pace_answered(struct pace *p, uint64_t now_us, bool busy)
{
	double took_us;

	if (p->asked_us == 0) return;
	took_us = (double)(now_us - p->asked_us);
	p->asked_us = 0;
	p->answered_us = now_us;
	if (busy) {
		judge(p, took_us);
		return;
	}
	if (took_us > CALM_MAX_US) took_us = CALM_MAX_US;
	p->calm_us += (took_us < p->calm_us ? SHARE_CALMER : SHARE_CALM) * (took_us - p->calm_us);
}

size_t pace_batch(const struct pace *p)
{
	double n = p->rate * BATCH_US / 1e6;

	return n < PACE_BATCH_MIN ? PACE_BATCH_MIN : (size_t)n;
}

static void fill(struct pace *p, uint64_t now_us)
{
	double most = p->rate * BURST_US / 1e6;

	p->room += p->rate * (double)(now_us - p->filled_us) / 1e6;
	p->filled_us = now_us;
	if (p->room > most) p->room = most;
}

static bool answer_is_late(const struct pace *p, uint64_t now_us)
{
	return p->asked_us != 0 && (double)(now_us - p->asked_us) > late_us(p) && now_us - p->asked_us < LOST_US;
}

size_t pace_room(struct pace *p, uint64_t now_us)
{
	fill(p, now_us);
	if (answer_is_late(p, now_us) && p->room > 0) p->room = 0; /* nor is any saved up meanwhile */
	if (p->room <= 0) return 0;
	return 1 + (size_t)(p->room / p->chunk);
}

bool pace_take(struct pace *p, uint64_t now_us)
{
	if (pace_room(p, now_us) == 0) {
		p->wanting = true;
		return false;
	}
	p->room -= p->chunk;
	return true;
}

void pace_read(struct pace *p, size_t messages)
{
	p->room -= (double)messages - p->chunk;
	p->chunk += SHARE_CHUNK * ((double)messages - p->chunk);
	if (p->chunk < 1) p->chunk = 1;
}

uint64_t pace_rate(const struct pace *p)
{
	return (uint64_t)p->rate;
}
