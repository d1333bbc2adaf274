/*
 * The table of unreleased QoS 2 messages. Broker thread. Must never look at what a stored address points to.
 */
#include "plugin/qos2.h"

#include <stdlib.h>
#include <string.h>

#include "plugin/table.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#define QOS2_MAX 65536 /* the broker takes 20 in flight a client by default: more than 3000 busy publishers */

struct unreleased {
	UT_hash_handle hh, hh_id;
	const void *address;
	struct entry_id id;
	uint64_t payload;  /* its hash */
	size_t len;
	char text[]; /* the topic */
};

struct qos2 {
	struct unreleased *by_address, *by_id;
	struct unreleased *released; /* one of them, or NULL */
};

enum status qos2_new(struct qos2 **out)
{
	*out = calloc(1, sizeof **out);
	return *out ? ST_OK : ST_NOMEM;
}

SELDOM static void drop(struct qos2 *q, struct unreleased *u)
{
	if (q->released == u) q->released = NULL;
	HASH_DEL(q->by_address, u);
	if (u->hh_id.tbl) HASH_DELETE(hh_id, q->by_id, u);
	free(u);
}

void qos2_free(struct qos2 *q)
{
	struct unreleased *u, *tmp;

	if (!q) return;
	HASH_ITER(hh, q->by_address, u, tmp) drop(q, u);
	free(q);
}

static struct unreleased *find(const struct qos2 *q, const void *address)
{
	struct unreleased *u = NULL;

	HASH_FIND_PTR(q->by_address, &address, u);
	return u;
}

static uint64_t hash_of(struct slice payload)
{
	return XXH3_64bits(payload.len > 0 ? payload.data : "", payload.len);
}

void qos2_put(struct qos2 *q, struct slice topic, struct slice payload, struct entry_id id)
{
	struct unreleased *u = find(q, topic.data);

	if (u) drop(q, u);
	if (HASH_COUNT(q->by_address) >= QOS2_MAX) drop(q, q->by_address); /* the first one added */
	u = malloc(sizeof *u + topic.len);
	if (!u) return; /* the message may then reach a device once more at the seam, never less */
	u->address = topic.data;
	u->id = id;
	u->payload = hash_of(payload);
	u->len = topic.len;
	memcpy(u->text, topic.data, topic.len);
	HASH_ADD_PTR(q->by_address, address, u); /* NOLINT(clang-analyzer-unix.Malloc): the table goes with the last one only */
	if (!u->hh.tbl) {
		free(u);
		return;
	}
	HASH_ADD(hh_id, q->by_id, id, sizeof u->id, u); /* out of memory: then it is none of qos2_waits */
}

bool qos2_waits(const struct qos2 *q, const struct message *m)
{
	struct unreleased *u = NULL;

	HASH_FIND(hh_id, q->by_id, &m->id, sizeof m->id, u);
	return u && u != q->released && u->payload == hash_of(m->payload) && slice_equal(slice_of(u->text, u->len), m->topic);
}

bool qos2_released(struct qos2 *q, struct slice topic, struct entry_id *id)
{
	struct unreleased *u = find(q, topic.data);

	if (q->released && q->released != u) drop(q, q->released);
	if (!u || !slice_equal(slice_of(u->text, u->len), topic)) return false;
	q->released = u;
	*id = u->id;
	return true;
}

void qos2_over(struct qos2 *q)
{
	if (q->released) drop(q, q->released);
}

bool qos2_each(const struct qos2 *q, const void **at, struct slice *topic, struct entry_id *id)
{
	const struct unreleased *u = *at;

	u = u ? u->hh.next : q->by_address;
	if (u && u == q->released) u = u->hh.next;
	*at = u;
	if (!u) return false;
	*topic = slice_of(u->text, u->len);
	*id = u->id;
	return true;
}
