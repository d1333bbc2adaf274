/*
 * Topic to rules. Owns the cache: direct-mapped by the topic's hash, a collision replaces, so memory is bounded by the
 * number of slots and the length of topics worth keeping. Broker thread.
 */
#include "plugin/routes.h"

#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "config/topic.h"

#define SLOT_COUNT 8192          /* a power of two */
#define CACHED_TOPIC_MAX 512     /* bytes; longer topics are matched each time */

struct slot {
	uint64_t hash;
	uint16_t len;
	uint16_t count;
	bool readable, synced, confirmed;
	uint16_t data[]; /* count rule numbers, then the topic */
};

struct routes {
	const struct mirror_rule *rules;
	uint16_t *numbers;
	size_t count;
	bool *readable;          /* by rule number */
	size_t readable_count;
	uint16_t *scratch;
	struct slot *slots[SLOT_COUNT];
};

enum status routes_new(const struct mirror_rule *rules, const uint16_t *numbers, size_t count, struct routes **out)
{
	struct routes *r = calloc(1, sizeof *r);

	if (!r) return ST_NOMEM;
	r->rules = rules;
	r->count = count;
	r->numbers = calloc(count + 1, sizeof *r->numbers);
	r->scratch = calloc(count + 1, sizeof *r->scratch);
	r->readable_count = UINT16_MAX + 1u;
	r->readable = calloc(r->readable_count, sizeof *r->readable);
	if (!r->numbers || !r->scratch || !r->readable) {
		routes_free(r);
		return ST_NOMEM;
	}
	for (size_t i = 0; i < count; i++) {
		r->numbers[i] = numbers[i];
		r->readable[numbers[i]] = mirror_rule_readable(&rules[i]);
	}
	*out = r;
	return ST_OK;
}

void routes_free(struct routes *r)
{
	if (!r) return;
	for (size_t i = 0; i < SLOT_COUNT; i++) free(r->slots[i]);
	free(r->numbers);
	free(r->scratch);
	free(r->readable);
	free(r);
}

static struct route match_all(struct routes *r, struct slice topic)
{
	struct route route = {.rules = r->scratch};

	for (size_t i = 0; i < r->count; i++) {
		if (!topic_matches(slice_str(r->rules[i].filter), topic)) continue;
		r->scratch[route.count++] = r->numbers[i];
		if (mirror_rule_readable(&r->rules[i])) route.readable = true;
		if (r->rules[i].durability == DURABILITY_FSYNC) route.synced = true;
		if (r->rules[i].durability == DURABILITY_REDIS) route.confirmed = true;
	}
	return route;
}

static void remember(struct slot **place, uint64_t hash, struct slice topic, const struct route *route)
{
	size_t numbers = sizeof(uint16_t) * route->count;
	struct slot *slot = malloc(sizeof *slot + numbers + topic.len);

	if (!slot) return; /* only a cache */
	slot->hash = hash;
	slot->len = (uint16_t)topic.len;
	slot->count = route->count;
	slot->readable = route->readable;
	slot->synced = route->synced;
	slot->confirmed = route->confirmed;
	memcpy(slot->data, route->rules, numbers);
	memcpy((char *)slot->data + numbers, topic.data, topic.len);
	free(*place);
	*place = slot;
}

struct route routes_find(struct routes *r, struct slice topic)
{
	uint64_t hash;
	struct slot **place, *slot;
	struct route route;

	if (topic.len > CACHED_TOPIC_MAX) return match_all(r, topic);
	hash = XXH3_64bits(topic.data, topic.len);
	place = &r->slots[hash & (SLOT_COUNT - 1)];
	slot = *place;
	if (slot && slot->hash == hash && slot->len == topic.len
		&& memcmp(slot->data + slot->count, topic.data, topic.len) == 0)
		return (struct route){slot->count, slot->readable, slot->synced, slot->confirmed, slot->data};
	route = match_all(r, topic);
	remember(place, hash, topic, &route);
	return route;
}

bool routes_readable(const struct routes *r, const uint16_t *numbers, uint16_t count)
{
	for (uint16_t i = 0; i < count; i++) {
		if (r->readable[numbers[i]]) return true;
	}
	return false;
}
