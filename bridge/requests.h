/*
 * What operators ask of the bridge, by way of the stream <prefix>:requests:<node>; only the bridge that works reads it. An
 * entry has the fields op = replay, client, filter, and from (an entry id) or last (a number). It is deleted when it
 * is answered: <prefix>:answer:<node>:<id> holds REQUEST_BEGUN or the reason why not, for REQUEST_ANSWER_S. Loop thread.
 */
#ifndef MQR_BRIDGE_REQUESTS_H
#define MQR_BRIDGE_REQUESTS_H

#include "config/control.h"
#include "config/log.h"
#include "config/redis_link.h"
#include "config/settings.h"

#define REQUEST_OP "op"
#define REQUEST_OP_REPLAY "replay"
#define REQUEST_CLIENT "client"
#define REQUEST_FILTER "filter"
#define REQUEST_FROM "from"
#define REQUEST_LAST "last"
#define REQUEST_BEGUN "begun"
#define REQUEST_STREAM_MAXLEN 1000
#define REQUEST_ANSWER_S 60
#define REQUEST_AGE_MS_MAX 60000 /* older ones are refused: who asked has gone */
#define REQUEST_PENDING_MAX 64

struct requests;

struct requests_deps {
	const struct settings *settings;
	const struct log_sink *log;
	struct redis_link *link;
	enum status (*send)(void *ctx, struct slice payload); /* to the plugin */
	void *ctx;
};

enum status requests_new(const struct requests_deps *deps, struct requests **out) MUST_CHECK;
void requests_free(struct requests *r); /* bears NULL */
/* An entry of the stream; borrowed. */
void requests_take(struct requests *r, struct entry_id id, const struct slice *names, const struct slice *values,
	size_t count);
/* An ACK with generation zero. */
void requests_ack(struct requests *r, const struct control_command *ack);
/* The plugin is gone: what it has not answered is answered with that. */
void requests_reset(struct requests *r);

#endif
