/*
 * What a redis_link does when the settings say redis+cluster://: its functions go on here, one to one, and the contract is
 * that of config/redis_link.h and config/redis_cluster.h. Nobody else calls these.
 */
#ifndef MQR_CONFIG_REDIS_ROUTER_H
#define MQR_CONFIG_REDIS_ROUTER_H

#include "config/redis_link.h"

struct redis_router;

/* `owner` is what the events name. */
enum status redis_router_new(struct redis_link *owner, uv_loop_t *loop, const struct settings *settings, const char *name,
	const struct log_sink *log, const struct redis_link_events *events, struct redis_router **out) MUST_CHECK;
void redis_router_rewire(struct redis_router *r, const struct settings *settings);
void redis_router_start(struct redis_router *r);
bool redis_router_is_ready(const struct redis_router *r);
enum status redis_router_send(struct redis_router *r, const struct buf *commands, size_t replies, unsigned deadline_ms,
	redis_reply_fn *fn, void *ctx) MUST_CHECK;
void redis_router_take_reply(struct redis_router *r);
size_t redis_router_unsent(const struct redis_router *r);
size_t redis_router_in_flight(const struct redis_router *r);
const struct histogram *redis_router_latency(const struct redis_router *r);
const char *redis_router_trouble(const struct redis_router *r);
uint64_t redis_router_connects(const struct redis_router *r);
void redis_router_reset(struct redis_router *r, enum status st, const char *text);
void redis_router_close(struct redis_router *r, void (*closed)(void *ctx), void *ctx);

/* In config/redis_link.c. NULL: a link to one server. */
struct redis_router *redis_link_router(const struct redis_link *link);

#endif
