/* The plugin's books as the CLI shows them, out of its status hash (plugin/status_redis.h). Pure, but for stdout. */
#ifndef MQR_BRIDGE_CTL_BOOKS_H
#define MQR_BRIDGE_CTL_BOOKS_H

#include <cjson/cJSON.h>
#include <hiredis/hiredis.h>

/* `status`: reply of HGETALL; NULL or another type shows nothing. The fields, then a line for each rule. */
void ctl_books_print(const redisReply *status);
/* Adds every field to `plugin`, and the rules as an array "rules". */
void ctl_books_json(cJSON *plugin, const redisReply *status);

#endif
