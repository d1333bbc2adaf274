/*
 * The table of unreleased QoS 2 messages. Broker thread. Must never look at what the addresses point to.
 */
#include "plugin/qos2.h"

#include <stdlib.h>
#include <uthash.h>

#define QOS2_MAX 65536 /* the broker takes 20 in flight a client by default: more than 3000 busy publishers */

struct unreleased {
	UT_hash_handle hh;
	const void *topic;
	struct entry_id id;
};

struct qos2 {
	struct unreleased *by_topic;
};

enum status qos2_new(struct qos2 **out)
{
	*out = calloc(1, sizeof **out);
	return *out ? ST_OK : ST_NOMEM;
}

static void drop(struct qos2 *q, struct unreleased *u)
{
	HASH_DEL(q->by_topic, u);
	free(u);
}

void qos2_free(struct qos2 *q)
{
	struct unreleased *u, *tmp;

	if (!q) return;
	HASH_ITER(hh, q->by_topic, u, tmp) drop(q, u);
	free(q);
}

void qos2_put(struct qos2 *q, const void *topic, struct entry_id id)
{
	struct unreleased *u = NULL;

	HASH_FIND_PTR(q->by_topic, &topic, u);
	if (u) drop(q, u);
	if (HASH_COUNT(q->by_topic) >= QOS2_MAX) drop(q, q->by_topic); /* the first one added */
	u = malloc(sizeof *u);
	if (!u) return; /* the message may then reach a device once more at the seam, never less */
	u->topic = topic;
	u->id = id;
	HASH_ADD_PTR(q->by_topic, topic, u);
}

bool qos2_find(const struct qos2 *q, const void *topic, struct entry_id *id)
{
	struct unreleased *u = NULL;

	HASH_FIND_PTR(q->by_topic, &topic, u);
	if (u) *id = u->id;
	return u != NULL;
}
