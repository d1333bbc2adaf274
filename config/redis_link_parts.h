/*
 * The parts of a redis_link (config/redis_link.h): of its own files only. All on the loop's thread.
 *
 * A connection is lost in one place, redis_link_lost. Callbacks may send, reset or close: whoever has called one looks whether
 * link->conn is still the connection it works on. The memory of connection and link goes in libuv's close callbacks, which
 * never run inside another callback.
 */
#ifndef MQR_CONFIG_REDIS_LINK_PARTS_H
#define MQR_CONFIG_REDIS_LINK_PARTS_H

#include <sys/socket.h>

#include "config/loss_log.h"
#include "config/redis_handshake.h"
#include "config/redis_link.h"
#include "config/redis_socket.h"
#include "config/resolve.h"

#define BACKOFF_MIN_MS 50
#define TEXT_MAX LOSS_TEXT_MAX

/* LOOKUP, too, while the sentinels have not named a master yet. */
enum link_state { LINK_IDLE, LINK_WAITING, LINK_LOOKUP, LINK_CONNECTING, LINK_HANDSHAKE, LINK_READY, LINK_CLOSED };

struct conn {
	uv_poll_t poll;
	struct redis_socket socket;
	redisReader *reader;
	struct reply_arena *arena; /* of the reader; NULL: each reply is hiredis' own */
	struct redis_link *link;
	bool poll_open;
	int polled;    /* the events it is polled for; 0: none */
	bool was_full; /* the socket took no more */
};

struct pending {
	struct pending *next;
	redis_reply_fn *fn;
	void *ctx;
	size_t replies, seen;
	unsigned deadline_ms;
	uint64_t sent_ns;
};

struct redis_link {
	uv_loop_t *loop;
	const struct settings *settings;
	const struct log_sink *log;
	struct redis_link_events events;
	char name[32];
	char who[224];  /* in log lines */
	char host[256]; /* to connect to, unless by a unix socket; empty: not known yet */
	uint16_t port;
	bool fixed;     /* to this one, whatever the settings say */
	bool brief;     /* replies are never taken */
	struct redis_router *router;     /* a cluster: it does all, and nothing else here is used */
	struct redis_sentinel *sentinel; /* NULL unless they name the master */
	struct resolver *resolver;
	struct resolved found;
	size_t tried; /* of the addresses found */
	SSL_CTX *tls;
	enum link_state state;
	struct conn *conn;
	uv_timer_t timer; /* back-off, connect time-out or reply deadline, by state */
	unsigned handles; /* not yet closed, resolver and sentinel among them */
	struct buf out;
	size_t out_at;
	struct pending *first, *last;
	uint64_t active_at; /* last sign of life, or first pending send; milliseconds of the loop */
	unsigned backoff_ms;
	unsigned barren; /* connections in a row that became ready and answered no command */
	uint32_t jitter;
	struct handshake handshake;
	struct loss_log losses;
	unsigned masters_failed; /* attempts in a row at the master that the sentinels name */
	bool taken;              /* the reply under way belongs to whoever called redis_link_take_reply */
	char stale[TEXT_MAX];    /* why this connection is of no use any more, although it lives; empty: it is */
	struct histogram latency;
	uint64_t connects;
	void (*closed)(void *ctx);
	void *closed_ctx;
};

/* --- redis_link.c ---------------------------------------------------------------------------------------------- */

void redis_link_on_poll(uv_poll_t *poll, int status, int events);

/* --- redis_link_lost.c ----------------------------------------------------------------------------------------- */

/* One of the link's handles is closed; with the last of a closed link its memory goes. */
void redis_link_handle_gone(struct redis_link *link);
/* The connection, if there is one, and what was to be written go; nobody is told. */
void redis_link_drop(struct redis_link *link);
/* Whoever waits for a reply gets NULL. */
void redis_link_fail_pending(struct redis_link *link);
/* All of that, and the next attempt after a back-off. `text` may lie in the connection that goes here. */
void redis_link_lost(struct redis_link *link, enum status st, const char *text);
/* The timer, for the end of what the connection is now allowed without a sign of life. */
void redis_link_arm(struct redis_link *link);
void redis_link_on_timer(uv_timer_t *timer);

/* --- redis_link_io.c ------------------------------------------------------------------------------------------- */

bool redis_link_has_unsent(const struct redis_link *link) MUST_CHECK;
/* ST_AGAIN: the socket is full. ST_LOST: conn->socket.why says why. */
enum status redis_link_write(struct redis_link *link);
/* Polled for these; each start is a system call, and most would change nothing. What cannot be polled is found by a deadline. */
enum status redis_link_poll(struct conn *conn, int events);
/* Polled for what there is to do. */
enum status redis_link_poll_ready(struct redis_link *link) MUST_CHECK;
/* What is there now. False when the connection is no longer this one. */
bool redis_link_read(struct redis_link *link, struct conn *conn) MUST_CHECK;
/* `commands` behind what is to be written, `fn` behind the callbacks of replies to come. ST_NOMEM: nothing changed. */
enum status redis_link_queue(struct redis_link *link, const struct buf *commands, size_t replies, unsigned deadline_ms,
	redis_reply_fn *fn, void *ctx) MUST_CHECK;

/* --- redis_link_connect.c -------------------------------------------------------------------------------------- */

void redis_link_target(struct redis_link *link, const char *host, uint16_t port);
void redis_link_connect(struct redis_link *link);
/* The next of the addresses found; with none left the link is lost for this reason. */
void redis_link_connect_next(struct redis_link *link, enum status st, const char *text);
/* The socket of a connection that is being made is ready for a step. */
void redis_link_connecting(struct redis_link *link, struct conn *conn);
/* The sentinels' word (config/redis_sentinel.h). */
void redis_link_on_master(void *ctx, const char *host, uint16_t port);

#endif
