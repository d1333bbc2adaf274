/*
 * System calls and TLS under a Redis connection. Owns descriptor and TLS state. Loop thread; never blocks, never raises
 * SIGPIPE on a plain socket (with TLS the thread must have it blocked or ignored).
 */
#include "config/redis_socket.h"

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "config/tls.h"

static enum status lost(struct redis_socket *s, int error)
{
	snprintf(s->why, sizeof(s->why), "%s", error ? strerror(error) : "Server closed the connection");
	return ST_LOST;
}

static void set_options(int fd)
{
	/* These only make things better; without them the connection still works. */
	static const struct {
		int level, name, value;
	} options[] = {
		{IPPROTO_TCP, TCP_NODELAY, 1},
		{SOL_SOCKET, SO_KEEPALIVE, 1},
		{IPPROTO_TCP, TCP_KEEPIDLE, 15},
		{IPPROTO_TCP, TCP_KEEPINTVL, 5},
		{IPPROTO_TCP, TCP_KEEPCNT, 3},
	};
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		(void)setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(options[i].value));
	}
}

static enum status prepare_tls(struct redis_socket *s, SSL_CTX *tls, const char *host)
{
	s->ssl = SSL_new(tls);
	if (!s->ssl || tls_host(s->ssl, host) != ST_OK || SSL_set_fd(s->ssl, s->fd) != 1) {
		ERR_clear_error();
		snprintf(s->why, sizeof(s->why), "TLS: %s", status_text(ST_NOMEM));
		return ST_NOMEM;
	}
	SSL_set_connect_state(s->ssl);
	return ST_OK;
}

enum status redis_socket_open(struct redis_socket *s, const struct sockaddr *to, socklen_t len, SSL_CTX *tls,
	const char *host)
{
	*s = (struct redis_socket){.fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
	if (s->fd < 0) return lost(s, errno);
	if (to->sa_family != AF_UNIX) set_options(s->fd);
	if (connect(s->fd, to, len) != 0 && errno != EINPROGRESS) return lost(s, errno);
	return tls ? prepare_tls(s, tls, host) : ST_OK;
}

/* What a result of OpenSSL means. */
static enum status tls_result(struct redis_socket *s, int result, bool handshake)
{
	int error = errno;
	switch (SSL_get_error(s->ssl, result)) {
	case SSL_ERROR_WANT_READ:
		return ST_AGAIN;
	case SSL_ERROR_WANT_WRITE:
		s->wants_write = true;
		return ST_AGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return lost(s, 0);
	case SSL_ERROR_SYSCALL:
		ERR_clear_error();
		if (!handshake) return lost(s, error);
		snprintf(s->why, sizeof(s->why), "TLS: %s", error ? strerror(error) : "the connection was closed");
		return ST_LOST;
	default:
		tls_error(s->ssl, s->why, sizeof(s->why));
		return handshake ? ST_DENIED : ST_LOST;
	}
}

enum status redis_socket_step(struct redis_socket *s)
{
	if (!s->connected) {
		int error = 0;
		socklen_t size = sizeof(error);
		if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
		if (error != 0) return lost(s, error);
		s->connected = true;
	}
	if (!s->ssl || SSL_is_init_finished(s->ssl)) return ST_OK;
	s->wants_write = false;
	ERR_clear_error();
	errno = 0;
	int result = SSL_connect(s->ssl);
	return result == 1 ? ST_OK : tls_result(s, result, true);
}

bool redis_socket_awaits_room(const struct redis_socket *s)
{
	return !s->connected || s->wants_write;
}

enum status redis_socket_read(struct redis_socket *s, char *data, size_t size, size_t *done)
{
	if (s->ssl) {
		s->wants_write = false;
		ERR_clear_error();
		errno = 0;
		int got = SSL_read(s->ssl, data, size > INT_MAX ? INT_MAX : (int)size);
		if (got <= 0) return tls_result(s, got, false);
		*done = (size_t)got;
		return ST_OK;
	}
	ssize_t got = recv(s->fd, data, size, 0);
	if (got == 0) return lost(s, 0);
	if (got < 0) return errno == EAGAIN || errno == EINTR ? ST_AGAIN : lost(s, errno);
	*done = (size_t)got;
	return ST_OK;
}

enum status redis_socket_write(struct redis_socket *s, const char *data, size_t len, size_t *done)
{
	if (s->ssl) {
		s->wants_write = false;
		ERR_clear_error();
		errno = 0;
		int put = SSL_write(s->ssl, data, len > INT_MAX ? INT_MAX : (int)len);
		if (put <= 0) return tls_result(s, put, false);
		*done = (size_t)put;
		return ST_OK;
	}
	ssize_t put = send(s->fd, data, len, MSG_NOSIGNAL);
	if (put < 0) return errno == EAGAIN || errno == EINTR ? ST_AGAIN : lost(s, errno);
	*done = (size_t)put;
	return ST_OK;
}

bool redis_socket_holds(const struct redis_socket *s)
{
	return s->ssl && SSL_pending(s->ssl) > 0;
}

void redis_socket_close(struct redis_socket *s)
{
	if (s->ssl) SSL_free(s->ssl);
	if (s->fd >= 0) (void)close(s->fd); /* nothing can be done about an error */
	*s = (struct redis_socket){.fd = -1};
}
