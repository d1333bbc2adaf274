/*
 * One connection to Redis, made and kept: connect, AUTH, SELECT, CLIENT SETNAME, then ready; when it is lost, back-off
 * (50 ms doubling to 2 s, with jitter; from 50 ms again when it was ready, unless it is lost time and again before a
 * command was answered) and again, without end. Of many losses alike only the first are logged, and how many followed.
 * Runs on the libuv loop it was given, on that loop's thread only. Built on hiredis' context and reader (non-blocking),
 * not on its async API: one write may carry many commands with one callback, and a connection is lost in one place
 * only. Host names are looked up beside the loop (config/resolve.h), TLS is spoken by config/redis_socket.h. With
 * redis+sentinel:// it goes to the master that the sentinels name (config/redis_sentinel.h), makes sure that it is one
 * (ROLE), and leaves it as soon as they name another or it answers READONLY. With redis+cluster:// it stands for all nodes of
 * a cluster, and each command goes to the node of its key (config/redis_cluster.h). Certificates and the password are read anew for
 * every connection, and an answer NOAUTH ends one, so that both can be replaced while we run.
 *
 * Deadlines: when replies are pending and no byte arrived for `timeout_ms`, the connection counts as lost (a stopped
 * Redis answers nothing and closes nothing). A send may ask for its own, longer deadline (blocking commands).
 */
#ifndef MQR_CONFIG_REDIS_LINK_H
#define MQR_CONFIG_REDIS_LINK_H

#include <hiredis/hiredis.h>
#include <hiredis/read.h>
#include <stdbool.h>
#include <uv.h>

#include "config/buf.h"
#include "config/histogram.h"
#include "config/log.h"
#include "config/settings.h"
#include "config/status.h"

struct redis_link;

struct redis_link_events {
	/* Ready for commands: after connect and handshake, each time. Anything sent from here goes first. */
	void (*ready)(void *ctx, struct redis_link *link);
	/* Lost, refused or given up a handshake; called after every pending reply callback had its NULL. `text` says why.
	 * The link is already trying again. */
	void (*lost)(void *ctx, struct redis_link *link, enum status st, const char *text);
	void *ctx;
};

/* Called for each reply in order, on the loop's thread: `reply` is borrowed, NULL when the connection was lost before it
 * came (then no further reply of that send comes). `index` counts 0..replies-1 within the send. */
typedef void redis_reply_fn(void *ctx, const redisReply *reply, size_t index);

/* `settings` and `log` must outlive the link. `name` goes into CLIENT SETNAME and log lines ("plugin", "bridge"). */
enum status redis_link_new(uv_loop_t *loop, const struct settings *settings, const char *name,
	const struct log_sink *log, const struct redis_link_events *events, struct redis_link **out) MUST_CHECK;
/* The same to one address, whatever the settings say about where Redis is: a node of a cluster. */
enum status redis_link_new_at(uv_loop_t *loop, const struct settings *settings, const char *host, uint16_t port,
	const char *name, const struct log_sink *log, const struct redis_link_events *events, struct redis_link **out) MUST_CHECK;
/* Connections from now on are made with these settings, of the same redis_url. They must outlive the link, or the next
 * call of this. */
void redis_link_rewire(struct redis_link *link, const struct settings *settings);
void redis_link_start(struct redis_link *link);
bool redis_link_is_ready(const struct redis_link *link);
/* Sends `commands` (RESP bytes, copied) that bring `replies` replies. ST_LOST when not ready (fn is then not called).
 * `deadline_ms` 0: the link's own time-out. May be called from a reply callback. */
enum status redis_link_send(struct redis_link *link, const struct buf *commands, size_t replies, unsigned deadline_ms,
	redis_reply_fn *fn, void *ctx) MUST_CHECK;
/* Replies will never be taken, so that their memory may be used again for the next one: cheaper where they are large. Before
 * redis_link_start. In a cluster it changes nothing. */
void redis_link_brief(struct redis_link *link);
/* From a reply callback: the reply is now the caller's (freeReplyObject). Not after redis_link_brief. */
void redis_link_take_reply(struct redis_link *link);
/* Bytes not yet written to the socket. */
size_t redis_link_unsent(const struct redis_link *link);
/* Replies that were asked for and have not come. Looks at every pending send. */
size_t redis_link_in_flight(const struct redis_link *link);
/* From a send to the last of its replies, for all that asked for no deadline of their own. Borrowed until the close. */
const struct histogram *redis_link_latency(const struct redis_link *link);
/* Why it is not ready, as was logged; "" when nothing is known to be wrong. Valid until the loop turns. */
const char *redis_link_trouble(const struct redis_link *link);
/* Times it became ready. */
uint64_t redis_link_connects(const struct redis_link *link);
/* Gives up the present connection as if it had been lost, and connects again after the back-off. */
void redis_link_reset(struct redis_link *link, enum status st, const char *text);
/* Ends it: pending callbacks get NULL, `closed` is called on a later turn of the loop, after which memory is gone.
 * Idempotent. Neither ready nor lost is called any more. */
void redis_link_close(struct redis_link *link, void (*closed)(void *ctx), void *ctx);

#define REDIS_LINK_TIMEOUT_MS 3000
#define REDIS_LINK_CONNECT_TIMEOUT_MS 3000

#endif
