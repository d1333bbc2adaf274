/* Owns a socket and what of a packet has come. Runs on its owner's thread; blocks for no longer than a full socket takes. */
#include "tests/harness/listener.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "tests/harness/packet.h"

#define INPUT_MAX 65536
#define TEXT_MAX 256 /* of a topic, and of a payload's beginning */

struct listener {
	int fd;
	bool subscribed;
	size_t len;
	char input[INPUT_MAX];
};

static void lose(struct listener *l)
{
	if (l->fd >= 0) (void)close(l->fd);
	l->fd = -1;
	l->subscribed = false;
}

static bool put(struct listener *l, const char *data, size_t len)
{
	if (send(l->fd, data, len, MSG_NOSIGNAL) == (ssize_t)len) return true;
	lose(l);
	return false;
}

static bool start(struct listener *l, uint16_t port, const char *id, const char *filter, int qos)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct timeval limit = {5, 0};
	char packet[512];
	int on = 1;

	if (strlen(id) > TEXT_MAX || strlen(filter) > TEXT_MAX) return false;
	l->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (l->fd < 0) return false;
	(void)setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* without, figures are worse, not wrong */
	(void)setsockopt(l->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	return connect(l->fd, (struct sockaddr *)&a, sizeof(a)) == 0 && put(l, packet, packet_connect(packet, id, true)) &&
		put(l, packet, packet_subscribe(packet, filter, qos));
}

struct listener *listener_new(uint16_t port, const char *id, const char *filter, int qos)
{
	struct listener *l = malloc(sizeof(*l));

	if (!l) return NULL;
	l->fd = -1;
	l->len = 0;
	l->subscribed = false;
	if (start(l, port, id, filter, qos)) return l;
	listener_free(l);
	return NULL;
}

int listener_fd(const struct listener *l)
{
	return l->fd;
}

bool listener_subscribed(const struct listener *l)
{
	return l->subscribed;
}

/* False: no PUBLISH, or none that there is room for. */
static bool take_publish(struct listener *l, const struct packet *p, listener_fn *fn, void *ctx)
{
	const unsigned char *body = (const unsigned char *)p->body;
	size_t topic_len = p->len >= 2 ? (size_t)body[0] << 8 | body[1] : p->len;
	bool acknowledged = (p->first >> 1 & 3) != 0;
	size_t at = 2 + topic_len + (acknowledged ? 2 : 0);
	char topic[TEXT_MAX + 1], payload[TEXT_MAX + 1];

	if (at > p->len || topic_len > TEXT_MAX) return false;
	size_t payload_len = p->len - at < TEXT_MAX ? p->len - at : TEXT_MAX;
	memcpy(topic, p->body + 2, topic_len);
	topic[topic_len] = '\0';
	memcpy(payload, p->body + at, payload_len);
	payload[payload_len] = '\0';
	fn(ctx, topic, payload);
	return !acknowledged || put(l, (char[]){0x40, 2, p->body[at - 2], p->body[at - 1]}, 4);
}

static bool take(struct listener *l, const struct packet *p, listener_fn *fn, void *ctx)
{
	switch (p->first >> 4) {
	case 2:
		return p->len == 2 && p->body[1] == 0;
	case 9:
		l->subscribed = p->len == 3 && (unsigned char)p->body[2] <= 2;
		return l->subscribed;
	case 3:
		return take_publish(l, p, fn, ctx);
	default:
		return false;
	}
}

bool listener_read(struct listener *l, listener_fn *fn, void *ctx)
{
	ssize_t got = recv(l->fd, l->input + l->len, INPUT_MAX - l->len, MSG_DONTWAIT);
	struct packet p;
	size_t at = 0;

	if (got <= 0) {
		lose(l);
		return false;
	}
	l->len += (size_t)got;
	for (; packet_read(l->input + at, l->len - at, &p); at += p.whole) {
		if (take(l, &p, fn, ctx)) continue;
		lose(l);
		return false;
	}
	memmove(l->input, l->input + at, l->len - at);
	l->len -= at;
	return true;
}

void listener_free(struct listener *l)
{
	if (!l) return;
	lose(l);
	free(l);
}
