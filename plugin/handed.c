/*
 * What the broker is handed in a turn, until it can be published. With broker.c and turns.c the only file that calls the broker.
 * Broker thread. Must never publish a later item before an earlier one.
 */
#include "plugin/handed.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "config/control.h"

#define CALL_TOPIC CONTROL_TOPIC "/call" /* what clients publish there the broker gives to nobody */
#define NOBODY "\xff"                    /* no client id: it is not UTF-8 */
#define CALLS_MAX 2

struct handed_item {
	struct handed_item *next, *prev;
	mosquitto_property *list;
	void *payload;            /* the broker's to free */
	int len, qos;
	size_t topic_at;
	char texts[];             /* client id, topic */
};

static void item_free(struct handed_item *i)
{
	if (i->payload) mosquitto_free(i->payload);
	mosquitto_property_free_all(&i->list);
	free(i);
}

enum status handed_put(struct handed *h, const char *client, const char *topic, struct slice payload, int qos,
	mosquitto_property *list)
{
	size_t client_len = strlen(client) + 1, topic_len = strlen(topic) + 1;
	struct handed_item *i = calloc(1, sizeof *i + client_len + topic_len);

	if (!i) {
		mosquitto_property_free_all(&list);
		return ST_NOMEM;
	}
	i->list = list;
	i->payload = payload.len > 0 ? mosquitto_malloc(payload.len) : NULL;
	if (payload.len > 0 && !i->payload) {
		item_free(i);
		return ST_NOMEM;
	}
	if (i->payload) memcpy(i->payload, payload.data, payload.len);
	i->len = (int)payload.len;
	i->qos = qos;
	i->topic_at = client_len;
	memcpy(i->texts, client, client_len);
	memcpy(i->texts + client_len, topic, topic_len);
	DL_APPEND(h->items, i);
	return ST_OK;
}

void handed_drop(struct handed *h, const char *client)
{
	struct handed_item *i, *next;

	DL_FOREACH_SAFE(h->items, i, next) {
		if (client && strcmp(i->texts, client) != 0) continue;
		DL_DELETE(h->items, i); /* NOLINT(clang-analyzer-core.NullDereference): it is in the list */
		item_free(i);
	}
}

void handed_leave_out(struct handed *h, bool (*is_out)(void *ctx, const char *client), void *ctx)
{
	struct handed_item *i, *next;

	DL_FOREACH_SAFE(h->items, i, next) {
		if (!is_out(ctx, i->texts)) continue;
		DL_DELETE(h->items, i); /* NOLINT(clang-analyzer-core.NullDereference): it is in the list */
		item_free(i);
	}
}

/* Behind this, what is published meanwhile is delivered in the same go. */
static bool stand_behind(void)
{
	return mosquitto_broker_publish(NOBODY, CALL_TOPIC, 0, NULL, 0, false, NULL) == MOSQ_ERR_SUCCESS;
}

enum status handed_publish(struct handed *h)
{
	struct handed_item *i, *next;

	h->missed = 0;
	DL_FOREACH_SAFE(h->items, i, next) {
		if (mosquitto_broker_publish(i->texts, i->texts + i->topic_at, i->len, i->payload, i->qos, false, i->list)
			!= MOSQ_ERR_SUCCESS) return ST_NOMEM;
		DL_DELETE(h->items, i); /* NOLINT(clang-analyzer-core.NullDereference): it is in the list */
		i->payload = NULL;
		i->list = NULL;
		item_free(i);
	}
	if (h->call > 0) (void)stand_behind(); /* without it, what the broker's sending calls for is delivered a turn later */
	return ST_OK;
}

static bool call(struct handed *h, const char *client)
{
	void *number = mosquitto_malloc(sizeof h->call);

	if (!number) return false;
	memcpy(number, &h->call, sizeof h->call);
	if (mosquitto_broker_publish(client, CALL_TOPIC, (int)sizeof h->call, number, 0, false, NULL) != MOSQ_ERR_SUCCESS) {
		mosquitto_free(number);
		return false;
	}
	return stand_behind();
}

void handed_call(struct handed *h)
{
	if (!h->items) return;
	h->call++;
	/* What has nothing behind it must not be answered. It is called for again in the next turn. */
	if (!call(h, h->missed == 0 ? h->items->texts : h->items->prev->texts)) h->call++;
}

enum handed_answer handed_called(const struct handed *h, const char *topic, struct slice payload)
{
	if (topic[0] != '$' || strcmp(topic, CALL_TOPIC) != 0) return HANDED_OTHER;
	if (payload.len != sizeof h->call || memcmp(payload.data, &h->call, sizeof h->call) != 0) return HANDED_VOID;
	return HANDED_NOW;
}

bool handed_turn(struct handed *h, bool *vain)
{
	*vain = false;
	if (!h->items) {
		h->missed = 0;
		return true;
	}
	*vain = ++h->missed >= CALLS_MAX;
	if (!*vain) handed_call(h);
	return false;
}
