/*
 * Owns what happens to the servers of a run, and the list of it. Runs on the test's thread; while one is down or stopped, everything
 * else goes on.
 */
#include "tests/soak/explore.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tests/harness/store.h"

static const char *const names[] = {"Redis", "the bridge", "the broker"};

static struct server *server_of(struct explore *x, unsigned server)
{
	struct server *const servers[] = {x->w.redis, x->w.bridge, x->w.broker};

	return servers[server];
}

struct event *happened_add(struct explore *x, enum event_kind kind, int device)
{
	if (x->event_count == x->event_size) {
		x->event_size = x->event_size ? 2 * x->event_size : 64;
		x->happened = realloc(x->happened, x->event_size * sizeof(*x->happened));
		scene_require(x->happened, "out of memory");
	}
	x->happened[x->event_count] = (struct event){.kind = kind, .from_ms = now_ms(), .device = device};
	return &x->happened[x->event_count++];
}

static bool busy(const struct explore *x, unsigned server)
{
	return x->start_at_ms[server] > 0 || x->continue_at_ms[server] > 0;
}

void trouble_kill(struct explore *x, unsigned server, unsigned away_ms)
{
	static const enum event_kind kinds[] = {EVENT_KILL_REDIS, EVENT_KILL_BRIDGE, EVENT_KILL_BROKER};

	if (busy(x, server)) return;
	(void)happened_add(x, kinds[server], -1);
	story(-1, "%s is killed", names[server]);
	server_kill(server_of(x, server));
	x->start_at_ms[server] = now_ms() + away_ms + 1;
	for (unsigned i = 0; server == TROUBLE_BROKER && i < x->device_count; i++) device_broker_ended(x, (int)i);
}

void trouble_pause(struct explore *x, unsigned server, unsigned for_ms)
{
	static const enum event_kind kinds[] = {EVENT_PAUSE_REDIS, EVENT_PAUSE_BRIDGE, EVENT_PAUSE_BROKER};

	if (busy(x, server)) return;
	(void)happened_add(x, kinds[server], -1);
	story(-1, "%s is stopped", names[server]);
	server_pause(server_of(x, server));
	x->continue_at_ms[server] = now_ms() + for_ms + 1;
}

void trouble_reload(struct explore *x)
{
	if (busy(x, TROUBLE_BROKER)) return;
	story(-1, "the broker reloads");
	server_signal(x->w.broker, SIGHUP);
}

/* The last of its kind is over. */
static void over(struct explore *x, enum event_kind kill, enum event_kind pause)
{
	for (size_t i = x->event_count; i-- > 0;) {
		struct event *e = &x->happened[i];
		if ((e->kind != kill && e->kind != pause) || e->to_ms > 0) continue;
		e->to_ms = now_ms();
		return;
	}
}

void trouble_turn(struct explore *x)
{
	static const enum event_kind kills[] = {EVENT_KILL_REDIS, EVENT_KILL_BRIDGE, EVENT_KILL_BROKER},
		pauses[] = {EVENT_PAUSE_REDIS, EVENT_PAUSE_BRIDGE, EVENT_PAUSE_BROKER};

	for (unsigned i = 0; i < TROUBLES; i++) {
		struct server *v = server_of(x, i);
		if (x->start_at_ms[i] > 0 && now_ms() >= x->start_at_ms[i]) {
			server_start(v);
			if (i == TROUBLE_REDIS) store_reopen(x->w.db);
			x->start_at_ms[i] = 0;
			over(x, kills[i], pauses[i]);
			story(-1, "%s is there again", names[i]);
		}
		if (x->continue_at_ms[i] > 0 && now_ms() >= x->continue_at_ms[i]) {
			server_continue(v);
			x->continue_at_ms[i] = 0;
			over(x, kills[i], pauses[i]);
			story(-1, "%s goes on", names[i]);
		}
	}
}

bool trouble_over(const struct explore *x)
{
	for (unsigned i = 0; i < TROUBLES; i++)
		if (busy(x, i)) return false;
	return true;
}
