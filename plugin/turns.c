/*
 * Calls that tell when a turn of the broker's loop has ended. With broker.c and handed.c the only file that calls the broker.
 * Broker thread. Must never call in answer to a call, before its end: the broker would deliver calls without end.
 */
#include "plugin/turns.h"

#include <stdlib.h>
#include <string.h>

#include "config/control.h"

#define OVERDUE_MS 1000 /* the broker turns its loop at least every 100 ms */
#define CALLS_MAX 3

/* A call has an even number, its end the one behind that. */
static bool publish(uint64_t number)
{
	void *copy = mosquitto_malloc(sizeof number);

	if (!copy) return false;
	memcpy(copy, &number, sizeof number);
	if (mosquitto_broker_publish(NULL, CONTROL_TOPIC_TURN, (int)sizeof number, copy, 0, false, NULL) == MOSQ_ERR_SUCCESS)
		return true;
	mosquitto_free(copy);
	return false;
}

enum status turns_listen(struct turns *t, const char *client)
{
	turns_deaf(t);
	t->listener = strdup(client);
	return t->listener ? ST_OK : ST_NOMEM;
}

void turns_deaf(struct turns *t)
{
	free(t->listener);
	t->listener = NULL;
	t->state = TURNS_IDLE;
	t->missed = 0;
	t->call += 2; /* what is under way is void */
}

static void call(struct turns *t, uint64_t now_ms, uint64_t published, bool same)
{
	t->call += 2;
	t->state = TURNS_CALLED;
	t->same = same;
	t->called_ms = now_ms;
	t->published = published;
	/* What has no end behind it must not be answered. It is overdue then. */
	if (!publish(t->call) || !publish(t->call + 1)) t->call += 2;
}

void turns_call(struct turns *t, uint64_t now_ms, uint64_t published)
{
	if (t->listener && t->state == TURNS_IDLE) call(t, now_ms, published, false);
}

/* If there is something behind the end of the last call, the broker will come to the next one in the same go. */
void turns_go_on(struct turns *t, uint64_t now_ms, uint64_t published)
{
	if (t->listener && t->state == TURNS_IDLE) call(t, now_ms, published, published != t->published);
}

enum turns_answer turns_called(struct turns *t, const char *topic, struct slice payload)
{
	uint64_t number;

	if (topic[0] != '$' || strcmp(topic, CONTROL_TOPIC_TURN) != 0) return TURNS_OTHER;
	if (payload.len != sizeof number) return TURNS_VOID;
	memcpy(&number, payload.data, sizeof number);
	if (number == t->call && t->state == TURNS_CALLED) {
		t->state = TURNS_ANSWERED;
		t->missed = 0;
		return t->same ? TURNS_VOID : TURNS_ENDED;
	}
	if (number != t->call + 1 || t->state == TURNS_IDLE) return TURNS_VOID;
	t->state = TURNS_IDLE;
	return TURNS_OVER;
}

bool turns_overdue(struct turns *t, uint64_t now_ms, uint64_t published)
{
	if (t->state == TURNS_IDLE || now_ms - t->called_ms < OVERDUE_MS) return false;
	if (++t->missed >= CALLS_MAX) {
		turns_deaf(t);
		return true;
	}
	call(t, now_ms, published, false);
	return false;
}
