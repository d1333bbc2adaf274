/*
 * What stands for the broker's tick where there is none. Owns who listens for calls, and when what was done last. Broker thread.
 * Must never hand over what comes again once nobody listens any more: whoever takes over in this turn would have it, too.
 */
#include "plugin/untold.h"

#include <string.h>

#include "config/control.h"

#define MEANWHILE_MS 1000
#define HOUSEKEEPING_MS 50

static bool something_waits(const struct untold *u)
{
	return u->handed->items || core_wants_turn(u->core);
}

void untold_call(struct untold *u)
{
	if (something_waits(u)) turns_call(&u->turns, core_monotonic_ms(), *u->published);
}

static bool is_left_out(void *core, const char *client)
{
	return core_withdraws(core, client);
}

/* No turn is told of from now on, so what comes again is not handed over at all: it may come to whoever takes over in this one. */
static void deaf(struct untold *u)
{
	turns_deaf(&u->turns);
	u->stirred_ms = core_monotonic_ms();
	handed_leave_out(u->handed, is_left_out, u->core);
	u->hand_over();
}

void untold_pass_time(struct untold *u)
{
	uint64_t now = core_monotonic_ms();

	if (turns_overdue(&u->turns, now, *u->published)) deaf(u);
	if (u->turns.listener) {
		if (now - u->turn_ms >= HOUSEKEEPING_MS) turns_call(&u->turns, now, *u->published);
		return;
	}
	if (now - u->meanwhile_ms < MEANWHILE_MS) return;
	u->meanwhile_ms = now;
	core_meanwhile(u->core, now - u->stirred_ms >= MEANWHILE_MS);
}

/* As a tick. */
static void end_turn(struct untold *u)
{
	u->turn_ms = core_monotonic_ms();
	core_turn(u->core);
	u->hand_over();
}

bool untold_read(struct untold *u, const char *topic, struct slice payload)
{
	switch (turns_called(&u->turns, topic, payload)) {
	case TURNS_OTHER:
		return false;
	case TURNS_ENDED:
		end_turn(u);
		break;
	case TURNS_OVER:
		if (something_waits(u)) turns_go_on(&u->turns, core_monotonic_ms(), *u->published);
		break;
	case TURNS_VOID:
		break;
	}
	return true;
}

bool untold_listens(struct untold *u, const char *client, const char *filter)
{
	if (strcmp(filter, CONTROL_TOPIC_TURN) != 0 || !client || !core_is_bridge(u->core, client)) return false;
	if (u->told) return true;
	if (turns_listen(&u->turns, client) != ST_OK) {
		log_to(u->log, LOG_LEVEL_ERROR, "out of memory: no turns of the broker's loop are told of until the bridge is back");
		return true;
	}
	turns_call(&u->turns, core_monotonic_ms(), *u->published);
	return true;
}

bool untold_defers(struct untold *u)
{
	if (u->told || u->turns.listener) return true;
	u->stirred_ms = core_monotonic_ms();
	return false;
}

void untold_disconnected(struct untold *u, const char *client)
{
	if (u->told) return;
	u->stirred_ms = core_monotonic_ms();
	if (client && u->turns.listener && strcmp(client, u->turns.listener) == 0) deaf(u);
}

void untold_stop(struct untold *u)
{
	turns_deaf(&u->turns);
}
