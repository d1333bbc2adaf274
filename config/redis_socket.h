/*
 * One socket to Redis, never blocking: TCP or unix, plain or with TLS. The caller polls its descriptor. Loop thread.
 */
#ifndef MQR_CONFIG_REDIS_SOCKET_H
#define MQR_CONFIG_REDIS_SOCKET_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#include "config/status.h"

struct redis_socket {
	int fd;              /* -1: none */
	SSL *ssl;            /* NULL: plain */
	bool connected;      /* the handshake of TLS may still be to come */
	bool wants_write;    /* TLS waits for room */
	char why[192];       /* after ST_LOST or ST_DENIED */
};

/* Begins to connect. With `tls` (borrowed until it returns) the other side must prove to be `host`. ST_OK: under way. */
enum status redis_socket_open(struct redis_socket *s, const struct sockaddr *to, socklen_t len, SSL_CTX *tls,
	const char *host) MUST_CHECK;
/* The descriptor can be read or written: goes on connecting. ST_OK: connected; ST_AGAIN; ST_LOST; ST_DENIED: by TLS. */
enum status redis_socket_step(struct redis_socket *s) MUST_CHECK;
/* While it connects: is the descriptor to be polled for writing (else for reading)? */
bool redis_socket_awaits_room(const struct redis_socket *s);
/* ST_OK: *done bytes, from 1; ST_AGAIN: nothing there, or no room; ST_LOST. */
enum status redis_socket_read(struct redis_socket *s, char *data, size_t size, size_t *done) MUST_CHECK;
enum status redis_socket_write(struct redis_socket *s, const char *data, size_t len, size_t *done) MUST_CHECK;
/* Bytes wait in TLS, of which polling tells nothing. */
bool redis_socket_holds(const struct redis_socket *s);
/* Bears one whose descriptor is -1. */
void redis_socket_close(struct redis_socket *s);

#endif
