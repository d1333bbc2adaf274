/* A hash table with open addressing over XXH3. Owns copies of the keys. Any one thread; never shrinks. */
#include "plugin/key_set.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define SLOTS_MIN 1024

void key_set_free(struct key_set *set)
{
	buf_free(&set->bytes);
	free(set->entries);
	free(set->slots);
	*set = (struct key_set){0};
}

void key_set_clear(struct key_set *set)
{
	buf_clear(&set->bytes);
	if (set->count > 0) memset(set->slots, 0, set->slot_count * sizeof(*set->slots));
	set->count = 0;
}

static void put_slot(struct key_set *set, uint64_t hash, uint32_t value)
{
	size_t i = (size_t)hash & (set->slot_count - 1);
	while (set->slots[i] != 0) { /* ends: never more than half full */
		i = (i + 1) & (set->slot_count - 1);
	}
	set->slots[i] = value;
}

static enum status make_room(struct key_set *set)
{
	if (set->count < set->room) return ST_OK;
	size_t room = set->room ? set->room * 2 : SLOTS_MIN / 2;
	struct key_entry *entries = realloc(set->entries, room * sizeof(*entries));
	if (!entries) return ST_NOMEM;
	set->entries = entries;
	uint32_t *slots = calloc(room * 2, sizeof(*slots));
	if (!slots) return ST_NOMEM;
	free(set->slots);
	set->slots = slots;
	set->slot_count = room * 2;
	set->room = room;
	for (size_t i = 0; i < set->count; i++) {
		put_slot(set, set->entries[i].hash, (uint32_t)i + 1);
	}
	return ST_OK;
}

static struct key_entry *find(const struct key_set *set, struct slice key, uint64_t hash)
{
	if (set->slot_count == 0) return NULL;
	for (size_t i = (size_t)hash & (set->slot_count - 1); set->slots[i] != 0; i = (i + 1) & (set->slot_count - 1)) {
		struct key_entry *entry = &set->entries[set->slots[i] - 1];
		if (entry->hash == hash && slice_equal(key_set_bytes(set, entry), key)) return entry;
	}
	return NULL;
}

const struct key_entry *key_set_get(const struct key_set *set, struct slice key)
{
	return find(set, key, XXH3_64bits(key.data, key.len));
}

enum status key_set_put(struct key_set *set, struct slice key, struct key_entry **out, bool *added)
{
	uint64_t hash = XXH3_64bits(key.data, key.len);
	*added = false;
	*out = find(set, key, hash);
	if (*out) return ST_OK;
	if (make_room(set) != ST_OK) return ST_NOMEM;
	size_t at = set->bytes.len;
	buf_append_slice(&set->bytes, key);
	if (set->bytes.failed) return ST_NOMEM;
	*out = &set->entries[set->count];
	**out = (struct key_entry){.hash = hash, .at = at, .len = key.len};
	set->count++;
	put_slot(set, hash, (uint32_t)set->count);
	*added = true;
	return ST_OK;
}
