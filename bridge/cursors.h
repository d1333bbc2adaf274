/*
 * Where one topic filter of a device stands, at our node and at every other that shares the Redis: questions to Redis, and
 * what the answers mean (config/session_fields.h). No I/O. Loop thread.
 *
 * With one node a single round of questions is enough. Of another node the cursor is settled as that node's plugin would do it at
 * the next SUBSCRIBE there: a device that is marked live had everything until that broker's run ended - or, while it has not
 * ended as far as anybody knows, until its newest message in Redis - less the overlap.
 */
#ifndef MQR_BRIDGE_CURSORS_H
#define MQR_BRIDGE_CURSORS_H

#include <hiredis/hiredis.h>

#include "bridge/catch_up.h"
#include "config/buf.h"
#include "config/settings.h"

struct cursors;

/* Borrows settings and names, copies the texts. `subscribed`: nothing above it is owed by other nodes. */
enum status cursors_new(const struct settings *settings, struct node_names *names, struct slice client, const char *filter,
	struct entry_id subscribed, struct cursors **out) MUST_CHECK;
void cursors_free(struct cursors *c); /* bears NULL */

/* Appends the next round of commands and returns how many replies they bring; 0: everything is known. Without memory
 * commands->failed is set. */
size_t cursors_ask(struct cursors *c, struct buf *commands);
/* Reply `index` of that round. ST_AGAIN: Redis could not say; begin anew later. */
enum status cursors_take(struct cursors *c, const redisReply *reply, size_t index) MUST_CHECK;

/* Behind the first round: is our cursor to be counted back ("last=N@id")? Then cursors_counted tells what came of it before
 * the next round. `write`: Redis is to know it, for good, before anything is given by it; if it knows already, that counts. */
bool cursors_last(const struct cursors *c, uint64_t *count, struct entry_id *id);
void cursors_counted(struct cursors *c, struct entry_id id, bool write);

/* When everything is known: our cursor (ENTRY_ID_MAX: none), what other nodes owe (borrowed until freed), the overlap. */
struct entry_id cursors_own(const struct cursors *c);
const struct catch_up_debt *cursors_debts(const struct cursors *c, size_t *count);
uint64_t cursors_overlap_ms(const struct cursors *c);

/* "last=N@<id>". */
bool last_parse(struct slice text, uint64_t *count, struct entry_id *id);

#endif
