/*
 * Replies of Redis in memory that is used again for the next one. hiredis makes an object and a string by themselves for each
 * member of a reply, some thirty for one stream entry; here they lie one behind the other in a few large blocks. The replies
 * are hiredis' own (redisReply), but nobody may keep or free one. Not thread-safe.
 */
#ifndef MQR_CONFIG_REPLY_ARENA_H
#define MQR_CONFIG_REPLY_ARENA_H

#include <hiredis/hiredis.h>
#include <hiredis/read.h>

#define REPLY_ARENA_BLOCK (64u * 1024)
#define REPLY_ARENA_KEPT 8 /* blocks that stay for the next reply */

struct reply_arena;

/* NULL without memory. */
struct reply_arena *reply_arena_new(void);
/* Returns owned (redisReaderFree, before the arena): a reader whose replies lie in the arena; NULL without memory. One reader
 * for an arena. */
redisReader *reply_arena_reader(struct reply_arena *a);
/* The reply that the reader gave last, the only one that is whole, is over. */
void reply_arena_reset(struct reply_arena *a);
void reply_arena_free(struct reply_arena *a); /* bears NULL */

#endif
