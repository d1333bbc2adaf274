/*
 * What order per topic asks for. Owns the lanes. Loop thread; no I/O.
 */
#include "bridge/outbox_lane.h"

#include <stdlib.h>
#include <xxhash.h>

struct lane *lane_of(struct lanes *l, struct slice topic)
{
	uint64_t hash = XXH64(topic.data ? topic.data : "", topic.len, 0);
	struct lane *lane = NULL;

	HASH_FIND(hh, l->map, &hash, sizeof(hash), lane);
	if (lane) return lane;
	lane = calloc(1, sizeof(*lane));
	if (!lane) return NULL;
	lane->topic = hash;
	HASH_ADD(hh, l->map, topic, sizeof(hash), lane);
	if (lane->hh.tbl) return lane;
	free(lane);
	return NULL;
}

bool lane_lets(const struct lane *lane, uint64_t seq, uint8_t qos, bool guarded)
{
	if (lane->held > 0 && seq > lane->held_seq) return false;
	if (lane->sent == 0) return true;
	/* The broker passes those of another QoS on at another moment. */
	return guarded && lane->refusals == 0 && lane->qos == qos;
}

void lane_refused(struct lanes *l, struct lane *lane, uint64_t seq, uint64_t retry_ms)
{
	lane->refusals++;
	lane->refused_seq = seq;
	lane->retry_ms = retry_ms;
	if (retry_ms < l->retry_ms) l->retry_ms = retry_ms;
}

void lane_release(struct lanes *l, struct lane *lane)
{
	if (lane->sent > 0 || lane->held > 0) return;
	HASH_DEL(l->map, lane);
	free(lane);
}

void lanes_clear(struct lanes *l)
{
	struct lane *lane, *tmp;

	HASH_ITER(hh, l->map, lane, tmp) {
		HASH_DEL(l->map, lane); /* NOLINT(clang-analyzer-unix.Malloc): its table goes with the last one; the loop ends then */
		free(lane);
	}
	l->retry_ms = UINT64_MAX;
}
