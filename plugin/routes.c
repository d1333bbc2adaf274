/*
 * Topic to rules. Owns the cache: a topic's hash leads to a set of four places, the oldest of which is replaced, so memory is
 * bounded by the number of places and the length of topics worth keeping. Broker thread.
 */
#include "plugin/routes.h"

#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "config/topic.h"

#define SET_COUNT 2048           /* a power of two */
#define SET_SLOTS 4              /* with one, a tenth of 1000 topics would drive each other out all the time */
#define CACHED_TOPIC_MAX 512     /* bytes; longer topics are matched each time */

struct slot {
	struct route route;
	size_t len;
	uint16_t data[]; /* the route's rule numbers, then the topic */
};

struct set {
	uint64_t hash[SET_SLOTS];
	struct slot *slot[SET_SLOTS]; /* NULL: none */
	unsigned oldest;
};

struct routes {
	const struct mirror_rule *rules;
	uint16_t *numbers;
	size_t count;
	bool *readable;          /* by rule number */
	size_t readable_count;
	struct route matched;    /* where nothing is cached; in `scratch` */
	uint16_t *scratch;
	struct set sets[SET_COUNT];
};

static void own_readable(struct routes *r)
{
	for (size_t i = 0; i < r->count; i++) r->readable[r->numbers[i]] = mirror_rule_readable(&r->rules[i]);
}

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
	for (size_t i = 0; i < count; i++) r->numbers[i] = numbers[i];
	own_readable(r);
	*out = r;
	return ST_OK;
}

void routes_inherit(struct routes *r, const struct routes *before)
{
	memcpy(r->readable, before->readable, r->readable_count * sizeof *r->readable);
	own_readable(r);
}

void routes_free(struct routes *r)
{
	if (!r) return;
	for (size_t i = 0; i < SET_COUNT; i++)
		for (size_t k = 0; k < SET_SLOTS; k++) free(r->sets[i].slot[k]);
	free(r->numbers);
	free(r->scratch);
	free(r->readable);
	free(r);
}

SELDOM static const struct route *match_all(struct routes *r, struct slice topic)
{
	struct route route = {.rules = r->scratch};

	for (size_t i = 0; i < r->count; i++) {
		if (!topic_matches(slice_str(r->rules[i].filter), topic)) continue;
		r->scratch[route.count++] = r->numbers[i];
		if (mirror_rule_readable(&r->rules[i])) route.readable = true;
		if (r->rules[i].durability == DURABILITY_FSYNC) route.synced = true;
		if (r->rules[i].durability == DURABILITY_REDIS) route.confirmed = true;
	}
	r->matched = route;
	return &r->matched;
}

static void remember(struct set *set, uint64_t hash, struct slice topic, const struct route *route)
{
	size_t numbers = sizeof(uint16_t) * route->count;
	struct slot *slot = malloc(sizeof *slot + numbers + topic.len);

	if (!slot) return; /* only a cache */
	slot->route = *route;
	slot->route.rules = slot->data;
	slot->len = topic.len;
	memcpy(slot->data, route->rules, numbers);
	memcpy((char *)slot->data + numbers, topic.data, topic.len);
	free(set->slot[set->oldest]);
	set->slot[set->oldest] = slot;
	set->hash[set->oldest] = hash;
	set->oldest = (set->oldest + 1) % SET_SLOTS;
}

SELDOM static const struct route *find_anew(struct routes *r, uint64_t hash, struct slice topic)
{
	const struct route *route = match_all(r, topic);

	remember(&r->sets[hash & (SET_COUNT - 1)], hash, topic, route);
	return route;
}

const struct route *routes_find(struct routes *r, struct slice topic)
{
	uint64_t hash;
	const struct set *set;

	if (topic.len > CACHED_TOPIC_MAX) return match_all(r, topic);
	hash = XXH3_64bits(topic.data, topic.len);
	set = &r->sets[hash & (SET_COUNT - 1)];
	for (size_t i = 0; i < SET_SLOTS; i++) {
		const struct slot *slot = set->slot[i];

		if (set->hash[i] == hash && slot && slot->len == topic.len
			&& memcmp(slot->data + slot->route.count, topic.data, topic.len) == 0)
			return &slot->route;
	}
	return find_anew(r, hash, topic);
}

bool routes_readable(const struct routes *r, const uint16_t *numbers, uint16_t count)
{
	for (uint16_t i = 0; i < count; i++) {
		if (r->readable[numbers[i]]) return true;
	}
	return false;
}
