/*
 * libFuzzer entry: what nodes of a cluster say about slots, in RESP, and the commands of which the keys are sought. The
 * first byte chooses. A map that is taken must be within its own bounds.
 */
#include <stdint.h>
#include <stdlib.h>

#include "config/cluster_map.h"
#include "config/command_key.h"
#include "tests/fuzz/fuzz_reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_map(const struct cluster_map *map)
{
	size_t unowned = 0;

	if (map->count > CLUSTER_MASTERS_MAX) abort();
	for (size_t i = 0; i < map->count; i++) {
		if (!map->masters[i].port || !map->masters[i].host[0] || !memchr(map->masters[i].host, 0, CLUSTER_HOST_MAX)) abort();
	}
	for (size_t i = 0; i < CLUSTER_SLOTS; i++) {
		if (map->owner[i] > map->count) abort();
		unowned += map->owner[i] == 0;
	}
	if (unowned != map->unowned) abort();
}

static void read_replies(const uint8_t *data, size_t size)
{
	static struct cluster_map map;
	redisReader *reader = fuzz_reader_new(data, size);
	redisReply *reply = fuzz_reader_next(reader);
	char why[100];

	if (reply) {
		struct cluster_address to;
		unsigned slot = 0;
		enum cluster_redirect what = cluster_redirect_read(reply, &slot, &to);

		if ((what == CLUSTER_MOVED || what == CLUSTER_ASK) && (slot >= CLUSTER_SLOTS || to.port == 0)) abort();
		if (cluster_map_read(reply, "asked", &map, why, sizeof(why)) == ST_OK) check_map(&map);
		freeReplyObject(reply);
	}
	redisReaderFree(reader);
}

static void read_commands(const uint8_t *data, size_t size)
{
	struct slice rest = slice_of(data, size);
	struct command c;
	size_t total = 0;

	while (command_next(&rest, &c) == ST_OK) {
		total += c.bytes.len;
		if (c.slot >= CLUSTER_SLOTS || c.bytes.len == 0 || total > size) abort();
		if (c.key.data && (c.key.data < c.bytes.data || c.key.data + c.key.len > c.bytes.data + c.bytes.len)) abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2 || !fuzz_reader_modest(data, size)) return 0;
	if (data[0] & 1) read_commands(data + 1, size - 1);
	else read_replies(data + 1, size - 1);
	return 0;
}
