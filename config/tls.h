/*
 * TLS by OpenSSL, for Redis and for the broker alike: which certificates count, who we are, and whose name the other side
 * must show. OpenSSL itself and not hiredis_ssl, because hiredis 0.14 has none, and because its handshake does not block
 * here. TLS 1.2 or newer. Any thread, one at a time for each context; reading the files blocks shortly.
 */
#ifndef MQR_CONFIG_TLS_H
#define MQR_CONFIG_TLS_H

#include <openssl/ssl.h>
#include <stddef.h>

#include "config/status.h"

struct tls_files {
	const char *ca;         /* certificates to trust; NULL: those of the system */
	const char *cert, *key; /* our own, PEM, the key without a password; both NULL: none */
};

/* A client's context without certificates; NULL without memory. Returns owned (SSL_CTX_free). */
SSL_CTX *tls_context_new(void);
/* Reads the files into the context, also again when they were replaced. On failure `why` names the file. ST_NOMEM, ST_IO: that may
 * pass by itself; ST_INVALID: the files are not what they should be. */
enum status tls_context_load(SSL_CTX *context, const struct tls_files *files, char *why, size_t size) MUST_CHECK;
/* Whom connections that somebody else makes of a context lead to. */
struct tls_peer {
	const char *host;
	int refused; /* the last certificate, why (X509_V_...); X509_V_OK: none was */
};
/* Each connection of the context must show a certificate for peer->host and is asked for it by that name (SNI), whatever
 * its maker sets. `peer` is borrowed until the context and all its connections are freed. */
enum status tls_context_peer(SSL_CTX *context, struct tls_peer *peer) MUST_CHECK;
/* The same for one connection; `host` is a name or an address. */
enum status tls_host(SSL *ssl, const char *host) MUST_CHECK;
/* Why the last operation on it failed (its certificate, or OpenSSL's oldest error, which are forgotten then). */
void tls_error(const SSL *ssl, char *why, size_t size);

#endif
