/* Reads answers about slots. Owns nothing. Any thread. It must never take a number or a name that is not within bounds. */
#include "config/cluster_map.h"

#include <stdio.h>
#include <string.h>

#include "config/decimal.h"
#include "config/explain.h"
#include "config/log.h"

#define PORT_MAX 65535

static bool host_valid(struct slice host)
{
	if (host.len == 0 || host.len >= CLUSTER_HOST_MAX) return false;
	for (size_t i = 0; i < host.len; i++) {
		if ((unsigned char)host.data[i] <= ' ' || (unsigned char)host.data[i] >= 0x7f) return false;
	}
	return true;
}

static bool address_make(struct cluster_address *to, struct slice host, long long port)
{
	if (!host_valid(host) || port < 1 || port > PORT_MAX) return false;
	memset(to, 0, sizeof(*to));
	memcpy(to->host, host.data, host.len);
	to->port = (uint16_t)port;
	return true;
}

/* Returns its number from 1; 0: no room. */
static uint8_t add_master(struct cluster_map *map, const struct cluster_address *a)
{
	size_t at = 0;
	while (at < map->count && (map->masters[at].port != a->port || strcmp(map->masters[at].host, a->host) != 0)) at++;
	if (at == CLUSTER_MASTERS_MAX) return 0;
	if (at == map->count) map->masters[map->count++] = *a;
	return (uint8_t)(at + 1);
}

/* [host, port, id, ...]. Redis leaves the host out (nil or "") when it does not know by which one it was reached, and says
 * "?" for a host name that it was not told. */
static bool read_master(const redisReply *node, const char *asked, struct cluster_address *to, bool *unknown)
{
	if (node->type != REDIS_REPLY_ARRAY || node->elements < 2 || node->element[1]->type != REDIS_REPLY_INTEGER) return false;
	const redisReply *host = node->element[0];
	bool text = host->type == REDIS_REPLY_STRING || host->type == REDIS_REPLY_STATUS;
	if (!text && host->type != REDIS_REPLY_NIL) return false;
	struct slice name = text && host->len > 0 ? slice_of(host->str, host->len) : slice_str(asked);
	*unknown = slice_equal(name, slice_str("?"));
	return address_make(to, name, node->element[1]->integer);
}

/* [first, last, master, replicas ...] */
static enum status read_range(const redisReply *range, const char *asked, struct cluster_map *map)
{
	struct cluster_address master;
	bool unknown = false;
	if (range->type != REDIS_REPLY_ARRAY || range->elements < 3) return ST_CORRUPT;
	if (range->element[0]->type != REDIS_REPLY_INTEGER || range->element[1]->type != REDIS_REPLY_INTEGER) return ST_CORRUPT;
	long long first = range->element[0]->integer, last = range->element[1]->integer;
	if (first < 0 || last >= CLUSTER_SLOTS || first > last) return ST_CORRUPT;
	if (!read_master(range->element[2], asked, &master, &unknown)) return ST_CORRUPT;
	if (unknown) return ST_OK;
	uint8_t number = add_master(map, &master);
	if (number == 0) return ST_FULL;
	for (long long slot = first; slot <= last; slot++) {
		if (map->owner[slot] != 0) return ST_CORRUPT;
		map->owner[slot] = number;
		map->unowned--;
	}
	return ST_OK;
}

enum status cluster_map_read(const redisReply *reply, const char *asked, struct cluster_map *map, char *why, size_t size)
{
	char text[160];
	memset(map, 0, sizeof(*map));
	map->unowned = CLUSTER_SLOTS;
	if (reply->type == REDIS_REPLY_ERROR) {
		return explain(ST_DENIED, why, size, "CLUSTER SLOTS: %s", log_printable(reply->str, reply->len, text, sizeof(text)));
	}
	enum status st = reply->type == REDIS_REPLY_ARRAY && reply->elements <= CLUSTER_SLOTS ? ST_OK : ST_CORRUPT;
	for (size_t i = 0; st == ST_OK && i < reply->elements; i++) st = read_range(reply->element[i], asked, map);
	if (st == ST_FULL) return explain(st, why, size, "more than %d masters", CLUSTER_MASTERS_MAX);
	if (st != ST_OK) return explain(st, why, size, "an answer to CLUSTER SLOTS that cannot be read");
	return ST_OK;
}

/* --- redirects -------------------------------------------------------------------------------------------------- */

static bool begins(struct slice text, const char *word)
{
	size_t len = strlen(word);
	return text.len >= len && memcmp(text.data, word, len) == 0 && (text.len == len || text.data[len] == ' ');
}

/* " SLOT HOST:PORT" behind the word; the host may be an IPv6 address without brackets, or missing. */
static bool read_target(struct slice text, unsigned *slot, struct cluster_address *to)
{
	const char *end = text.data + text.len;
	const char *blank = text.len > 0 ? memchr(text.data, ' ', text.len) : NULL;
	uint64_t number, port;
	if (!blank || decimal_parse(slice_of(text.data, (size_t)(blank - text.data)), &number) != ST_OK) return false;
	if (number >= CLUSTER_SLOTS) return false;
	const char *host = blank + 1;
	const char *colon = memrchr(host, ':', (size_t)(end - host));
	if (!colon || decimal_parse(slice_of(colon + 1, (size_t)(end - colon - 1)), &port) != ST_OK) return false;
	if (port < 1 || port > PORT_MAX) return false;
	*slot = (unsigned)number;
	if (colon != host) return address_make(to, slice_of(host, (size_t)(colon - host)), (long long)port);
	memset(to, 0, sizeof(*to));
	to->port = (uint16_t)port;
	return true;
}

enum cluster_redirect cluster_redirect_read(const redisReply *reply, unsigned *slot, struct cluster_address *to)
{
	static const char *const again[] = {"TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN", "LOADING", "READONLY", "UNBLOCKED"};
	if (reply->type != REDIS_REPLY_ERROR) return CLUSTER_NOT;
	struct slice text = slice_of(reply->str, reply->len);
	bool moved = begins(text, "MOVED"), ask = begins(text, "ASK");
	if (moved || ask) {
		size_t head = moved ? strlen("MOVED ") : strlen("ASK ");
		if (text.len <= head) return CLUSTER_AGAIN;
		bool read = read_target(slice_of(text.data + head, text.len - head), slot, to);
		return !read ? CLUSTER_AGAIN : moved ? CLUSTER_MOVED : CLUSTER_ASK;
	}
	for (size_t i = 0; i < sizeof(again) / sizeof(again[0]); i++) {
		if (begins(text, again[i])) return CLUSTER_AGAIN;
	}
	return CLUSTER_NOT;
}
