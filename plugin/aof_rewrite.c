/* Decides when Redis is to rewrite its append-only file. Writer thread. Never insists: a refusal is told, and that is all. */
#include "plugin/aof_rewrite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/resp.h"

#define SECOND_MS 1000u

bool aof_rewrite_due(struct aof_rewrite *rewrite, const struct redis_facts *facts, uint64_t oldest_ms, uint64_t now_ms,
	bool lost)
{
	if (strcmp(facts->aof, "1") != 0 || !facts->run_id[0] || !facts->uptime_s[0]) return false;
	if (strcmp(facts->run_id, rewrite->asked) == 0) return false;
	uint64_t uptime_ms = strtoull(facts->uptime_s, NULL, 10) * SECOND_MS;
	uint64_t started_ms = now_ms > uptime_ms ? now_ms - uptime_ms : 0;
	/* A second more: uptime is in whole ones. */
	bool under_way = oldest_ms != 0 && oldest_ms <= started_ms + SECOND_MS;
	if (!under_way && !lost) return false;
	snprintf(rewrite->asked, sizeof(rewrite->asked), "%s", facts->run_id);
	return true;
}

void aof_rewrite_ask(struct buf *out)
{
	resp_command(out, "BGREWRITEAOF", NULL);
}

void aof_rewrite_reply(const struct log_sink *log, const redisReply *reply)
{
	char text[128];
	/* One that is under way was begun in this life of Redis, too. */
	if (reply->type != REDIS_REPLY_ERROR || strstr(reply->str, "already in progress")) {
		log_to(log, LOG_LEVEL_NOTICE, "redis: was restarted while messages were on their way; it was asked to rewrite its "
			"append-only file, which may have been cut within a transaction");
		return;
	}
	log_to(log, LOG_LEVEL_WARNING, "redis: was restarted while messages were on their way, and its append-only file may have "
		"been cut within a transaction: run BGREWRITEAOF, or its next start may put elements of lists there twice (%s)",
		log_printable(reply->str, reply->len, text, sizeof(text)));
}
