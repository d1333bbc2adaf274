/*
 * The burst, and then single questions. Owns the timer. Loop thread. It must never take a slow broker for one that drops:
 * the burst is over when something that was sent behind it has come.
 */
#include "bridge/probe.h"

#include <stdlib.h>

#define MARK_MS 200   /* between attempts to get a message through behind the burst */
#define LATE_MS 1000  /* a turn that comes so late: this process stood still */
#define IDLE_MS 5000

struct probe {
	struct probe_deps deps;
	uv_timer_t timer;
	bool open, found;
	bool late; /* found for the time being: the burst is still coming */
	unsigned arrived;
	struct entry_id boot; /* of the broker of which it is known: */
	uint32_t limit;
	uint32_t sequence, burst; /* of the last question, and of the burst's */
	uint64_t began_ms, moved_ms, marked_ms, turned_ms;
	struct buf packet;
	void (*closed)(void *ctx);
	void *closed_ctx;
};

static void on_timer(uv_timer_t *timer);

/* What is not sent, is asked again. */
static void ask(struct probe *p, uint16_t count)
{
	control_probe(&p->packet, ++p->sequence, count);
	if (!p->packet.failed) (void)p->deps.send(p->deps.ctx, slice_of(p->packet.data, p->packet.len));
}

static void tell(struct probe *p, uint32_t limit)
{
	if (limit > 0) {
		log_to(p->deps.log, LOG_LEVEL_WARNING,
			"redelivery: the broker takes at most %u messages at once for one device and drops the rest silently; set "
			"max_queued_messages 0 in mosquitto.conf. Until then backlogs go slowly, and a device that reads less than %u "
			"messages a second may lose some", limit, limit < 20 ? 1 : limit / 20);
	}
	control_limit(&p->packet, limit);
	if (!p->packet.failed) (void)p->deps.send(p->deps.ctx, slice_of(p->packet.data, p->packet.len));
}

static void end_burst(struct probe *p, uint32_t limit)
{
	p->found = true;
	p->limit = limit;
	(void)uv_timer_start(&p->timer, on_timer, IDLE_MS, IDLE_MS);
	p->deps.found(p->deps.ctx, limit);
}

static void wait_for_burst(struct probe *p, uint64_t now)
{
	if (now - p->turned_ms >= LATE_MS) p->moved_ms = now; /* what has come meanwhile is yet to be read */
	p->turned_ms = now;
	if (now - p->moved_ms >= PROBE_PATIENCE_MS) {
		log_to(p->deps.log, LOG_LEVEL_WARNING,
			"redelivery: the plugin does not tell how many messages the broker takes for one device; taken for no limit");
		p->boot = ENTRY_ID_ZERO; /* asked for again at the next greeting */
		end_burst(p, 0);
	} else if (now - p->began_ms >= p->deps.burst_ms) {
		log_to(p->deps.log, LOG_LEVEL_NOTICE, "redelivery: the broker is slow: %u of %u messages to find out how many it takes for "
			"one device have come in %u s; taken for the limit until all have", p->arrived, CONTROL_PROBE_MAX,
			p->deps.burst_ms / 1000);
		p->late = true;
		end_burst(p, p->arrived > 0 ? p->arrived : 1);
	} else if (now - p->marked_ms >= MARK_MS) {
		p->marked_ms = now;
		ask(p, 1);
	}
}

static void on_timer(uv_timer_t *timer)
{
	probe_turn(timer->data);
}

void probe_turn(struct probe *p)
{
	if (!p->open) return;
	if (!p->found) wait_for_burst(p, uv_now(p->deps.loop));
	else if (pace_ask(p->deps.pace, uv_hrtime() / 1000, p->deps.busy(p->deps.ctx))) ask(p, 1);
}

enum status probe_new(const struct probe_deps *deps, struct probe **out)
{
	struct probe *p = calloc(1, sizeof(*p));

	if (!p) return ST_NOMEM;
	p->deps = *deps;
	if (p->deps.burst_ms == 0) p->deps.burst_ms = PROBE_BURST_MS;
	(void)uv_timer_init(deps->loop, &p->timer);
	p->timer.data = p;
	*out = p;
	return ST_OK;
}

static void begin(struct probe *p)
{
	p->found = p->late = false;
	p->arrived = 0;
	p->burst = p->sequence + 1;
	p->began_ms = p->moved_ms = p->marked_ms = p->turned_ms = uv_now(p->deps.loop);
	ask(p, CONTROL_PROBE_MAX);
	(void)uv_timer_start(&p->timer, on_timer, MARK_MS, MARK_MS);
}

void probe_open(struct probe *p, struct entry_id boot)
{
	p->open = true;
	pace_init(p->deps.pace, uv_hrtime() / 1000);
	if (p->found && !p->late && entry_id_compare(boot, p->boot) == 0) {
		end_burst(p, p->limit);
		return;
	}
	p->boot = boot;
	begin(p);
}

void probe_stop(struct probe *p)
{
	p->open = false;
	(void)uv_timer_stop(&p->timer);
}

static void arrived(struct probe *p, const struct control_command *probed)
{
	p->moved_ms = uv_now(p->deps.loop);
	if (probed->sequence != p->burst || probed->tells_sent || p->arrived + 1 == CONTROL_PROBE_MAX) p->late = false;
	if (probed->tells_sent) {
		end_burst(p, 0);
		return;
	}
	if (probed->sequence != p->burst && probed->probes != 1) {
		begin(p); /* the plugin had no memory for all of it */
		return;
	}
	if (probed->sequence == p->burst) {
		if (++p->arrived < CONTROL_PROBE_MAX) return;
		tell(p, 0);
	} else {
		tell(p, p->arrived);
	}
	end_burst(p, p->arrived < CONTROL_PROBE_MAX ? p->arrived : 0);
}

void probe_answer(struct probe *p, const struct control_command *probed)
{
	if (!p->open) return;
	if (!p->found || p->late) {
		/* From before the burst: an answer that was on its way when it began. */
		if (probed->sequence >= p->burst) arrived(p, probed);
	} else if (probed->sequence == p->sequence && probed->probes == 1) {
		pace_answered(p->deps.pace, uv_hrtime() / 1000, p->deps.busy(p->deps.ctx));
	}
}

static void timer_closed(uv_handle_t *handle)
{
	struct probe *p = handle->data;

	buf_free(&p->packet);
	if (p->closed) p->closed(p->closed_ctx);
	free(p);
}

void probe_close(struct probe *p, void (*closed)(void *ctx), void *ctx)
{
	p->open = false;
	p->closed = closed;
	p->closed_ctx = ctx;
	uv_close((uv_handle_t *)&p->timer, timer_closed);
}
