/*
 * What reads bring: replies become items of the flow, judged as far as that can be done before they are published. Loop
 * thread; no I/O.
 */
#ifndef MQR_BRIDGE_OUTBOX_INTAKE_H
#define MQR_BRIDGE_OUTBOX_INTAKE_H

#include <hiredis/hiredis.h>

#include "bridge/outbox_counts.h"
#include "bridge/outbox_flow.h"
#include "config/log.h"
#include "config/settings.h"

struct outbox_intake {
	const struct settings *settings;
	const struct outbox_setting *setting;
	const struct log_sink *log;
	const char *name; /* of the outbox, for logs */
	struct outbox_flow *flow;
	struct outbox_counts *counts;
	void *owner;      /* of the items */
	/* the read under way */
	struct flow_read read;
	size_t got;
	struct entry_id next;
	/* since it was last looked at */
	uint64_t earliest_ms; /* deliver_at of what is to be put aside; UINT64_MAX: nothing */
	struct buf scratch;
	char unknown[PUSH_IGNORED_MAX]; /* fields that were told of last */
};

void intake_begin(struct outbox_intake *in, const struct flow_read *read);
/* One reply of the read, no error. What there is no memory for stays pending in Redis and is read again. */
void intake_reply(struct outbox_intake *in, const redisReply *reply);
/* Milliseconds since 1970 now. */
uint64_t outbox_wall_ms(void);

#endif
