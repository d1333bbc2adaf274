/*
 * Owns one socket and what was half read from it. Runs on the test's thread.
 */
#include "tests/harness/reader.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#define INPUT_MAX (1u << 20)
#define LIMIT_MS 30000

struct reader {
	uint16_t port;
	const char *id;
	bool clean;
	reader_fn *fn;
	void *ctx;
	int fd; /* -1: none */
	bool acknowledges, greeted, subscribed;
	size_t len;
	unsigned char input[INPUT_MAX];
	char topic[256], payload[4096];
};

static void reader_close(struct reader *r)
{
	if (r->fd >= 0) close(r->fd);
	r->fd = -1;
}

static void reader_end(void *ctx)
{
	reader_close(ctx);
	free(ctx);
}

struct reader *reader_new(struct scene *s, uint16_t port, const char *id, bool clean, reader_fn *fn, void *ctx)
{
	struct reader *r = calloc(1, sizeof *r);

	assert_non_null(r);
	r->port = port;
	r->id = id;
	r->clean = clean;
	r->fn = fn;
	r->ctx = ctx;
	r->fd = -1;
	scene_at_end(s, reader_end, r);
	return r;
}

static void send_all(struct reader *r, const void *bytes, size_t len)
{
	scene_require(send(r->fd, bytes, len, MSG_NOSIGNAL) == (ssize_t)len, "%s: cannot send: %s", r->id, strerror(errno));
}

static void copy(char *out, size_t size, const unsigned char *from, size_t len)
{
	scene_require(len < size, "a text of %zu bytes", len);
	memcpy(out, from, len);
	out[len] = '\0';
}

static void publish_came(struct reader *r, unsigned flags, const unsigned char *p, size_t len)
{
	size_t topic_len = (size_t)p[0] << 8 | p[1], at = 2 + topic_len;
	bool qos1 = (flags & 6) == 2;

	copy(r->topic, sizeof r->topic, p + 2, topic_len);
	if (qos1 && r->acknowledges) send_all(r, (unsigned char[]){0x40, 2, p[at], p[at + 1]}, 4);
	at += qos1 ? 2 : 0;
	copy(r->payload, sizeof r->payload, p + at, len - at);
	r->fn(r->ctx, r->topic, r->payload);
}

/* The first whole packet; 0: none yet. */
static size_t packet_take(struct reader *r)
{
	size_t head = 1, len = 0;
	unsigned shift = 0;

	do {
		if (head >= r->len) return 0;
		len |= (size_t)(r->input[head] & 127) << shift;
		shift += 7;
	} while (r->input[head++] & 128);
	if (r->len < head + len) return 0;
	switch (r->input[0] >> 4) {
	case 2:
		r->greeted = r->input[head + 1] == 0;
		break;
	case 3:
		publish_came(r, r->input[0] & 15u, r->input + head, len);
		break;
	case 9:
		r->subscribed = r->input[head + 2] < 3;
		break;
	default:
		break;
	}
	return head + len;
}

/* False: the connection has ended. */
static bool read_some(struct reader *r, int timeout_ms)
{
	struct pollfd p = {.fd = r->fd, .events = POLLIN};
	ssize_t n;
	size_t used = 0, one;

	if (poll(&p, 1, timeout_ms) <= 0) return true;
	n = recv(r->fd, r->input + r->len, INPUT_MAX - r->len, 0);
	if (n <= 0) return false;
	r->len += (size_t)n;
	while ((one = packet_take(r)) > 0) {
		used += one;
		memmove(r->input, r->input + one, r->len - one);
		r->len -= one;
	}
	return used > 0 || r->len < INPUT_MAX;
}

void reader_connect(struct reader *r, const char *filter)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(r->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	size_t id_len = strlen(r->id), filter_len = filter ? strlen(filter) : 0;
	unsigned char connect_head[] = {0x10, (unsigned char)(12 + id_len), 0, 4, 'M', 'Q', 'T', 'T', 4, r->clean ? 2 : 0, 0, 60, 0,
		(unsigned char)id_len};
	unsigned char subscribe_head[] = {0x82, (unsigned char)(5 + filter_len), 0, 1, 0, (unsigned char)filter_len};
	uint64_t limit = now_ms() + LIMIT_MS;

	assert_true(r->fd < 0 && id_len < 100 && filter_len < 100);
	r->fd = socket(AF_INET, SOCK_STREAM, 0);
	scene_require(r->fd >= 0 && connect(r->fd, (struct sockaddr *)&to, sizeof to) == 0, "%s: %s", r->id, strerror(errno));
	(void)setsockopt(r->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
	r->len = 0;
	r->acknowledges = true;
	r->greeted = r->subscribed = false;
	send_all(r, connect_head, sizeof connect_head);
	send_all(r, r->id, id_len);
	while (!r->greeted) scene_require(read_some(r, 100) && now_ms() < limit, "%s: not connected", r->id);
	if (!filter) return;
	send_all(r, subscribe_head, sizeof subscribe_head);
	send_all(r, filter, filter_len);
	send_all(r, "\1", 1);
	while (!r->subscribed) scene_require(read_some(r, 100) && now_ms() < limit, "%s: not subscribed", r->id);
}

void reader_turn(struct reader *r, unsigned for_ms, bool acknowledges)
{
	uint64_t until = now_ms() + for_ms;

	r->acknowledges = acknowledges;
	do {
		scene_require(read_some(r, 1), "%s: the connection has ended", r->id);
	} while (now_ms() < until);
}

void reader_goodbye(struct reader *r)
{
	uint64_t limit = now_ms() + LIMIT_MS;

	send_all(r, "\xe0\0", 2);
	r->acknowledges = false;
	while (read_some(r, 100)) scene_require(now_ms() < limit, "%s: the broker does not close", r->id);
	reader_close(r);
}

void reader_drop(struct reader *r)
{
	reader_close(r);
}
