/* The plugin's books as the CLI shows them, out of its status hash (plugin/status_redis.h). Pure, but for stdout. */
#ifndef MQR_BRIDGE_CTL_BOOKS_H
#define MQR_BRIDGE_CTL_BOOKS_H

#include <cjson/cJSON.h>
#include <hiredis/hiredis.h>
#include <stdint.h>

#include "config/slice.h"

/* `status`: reply of HGETALL; NULL or another type shows nothing. The fields, then a line for each rule. */
void ctl_books_print(const redisReply *status);
/* Adds every field to `plugin`, and the rules as an array "rules". */
void ctl_books_json(cJSON *plugin, const redisReply *status);

/* Value of a field; absent when there is none. Borrowed from the reply. */
struct slice ctl_books_field(const redisReply *hash, const char *name);
/* The same as a number; 0 when there is none. */
uint64_t ctl_books_number(const redisReply *hash, const char *name);

#define CTL_RULE_COLUMNS 5

struct ctl_rule_line {
	char number[12];                  /* or "?" */
	uint64_t value[CTL_RULE_COLUMNS]; /* in, stored, queued, dropped, dead */
	char text[256];                   /* printable */
};

/* The rules by number, at most `max`; returns how many. */
size_t ctl_books_rules(const redisReply *status, struct ctl_rule_line *out, size_t max);

#endif
