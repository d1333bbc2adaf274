/*
 * Owns the sockets of the explorer's clients, and knows the packets of both versions of MQTT as far as it needs them. Runs on the
 * test's thread. Must never wait for the broker, which may be stopped.
 */
#include "tests/soak/explore_link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/harness/packet.h"
#include "tests/harness/scene.h"

#define SMALL 512 /* packets without a payload of ours */
#define SLOW_INPUT 1024 /* what one that reads packet by packet takes in beforehand */

enum { PROPERTY_EXPIRY = 0x11, PROPERTY_RECEIVE_MAXIMUM = 0x21, PROPERTY_USER = 0x26 };

static void flush(struct link *l)
{
	ssize_t n = l->out_len > 0 ? send(l->fd, l->out, l->out_len, MSG_NOSIGNAL) : 0;

	if (n <= 0) return; /* later, or its end shows when it is read */
	l->wrote_ms = now_ms();
	l->out_len -= (size_t)n;
	memmove(l->out, l->out + n, l->out_len);
}

bool link_has_room(const struct link *l, size_t bytes)
{
	return l->out_len + bytes + SMALL <= LINK_OUTPUT_MAX;
}

static void put(struct link *l, const void *bytes, size_t len)
{
	if (l->fd < 0) return;
	scene_require(l->out_len + len <= LINK_OUTPUT_MAX, "a client has more to say than its socket and the explorer take");
	memcpy(l->out + l->out_len, bytes, len);
	l->out_len += len;
	flush(l);
}

/* `len` bytes are behind the room for the head. */
static void put_packet(struct link *l, char *packet, unsigned first, size_t len)
{
	(void)packet_head(packet, first, len - PACKET_HEAD);
	put(l, packet, len);
}

static uint16_t next_id(struct link *l)
{
	if (++l->last_packet_id == 0) l->last_packet_id = 1;
	return l->last_packet_id;
}

static size_t connect_properties(char *to, const struct link_options *o)
{
	size_t len = 1;

	if (o->expiry_s > 0) {
		to[len++] = PROPERTY_EXPIRY;
		len += packet_u16(to + len, o->expiry_s >> 16);
		len += packet_u16(to + len, o->expiry_s & 0xffff);
	}
	if (o->receive_maximum > 0) {
		to[len++] = PROPERTY_RECEIVE_MAXIMUM;
		len += packet_u16(to + len, o->receive_maximum);
	}
	to[0] = (char)(len - 1);
	return len;
}

static void greet(struct link *l, const struct link_options *o)
{
	char packet[SMALL];
	size_t len = PACKET_HEAD;

	len += packet_text(packet + len, "MQTT");
	packet[len++] = o->v5 ? 5 : 4;
	packet[len++] = (char)((o->clean ? 2 : 0) | (o->will_topic ? 4 | 8 : 0)); /* a will has QoS 1 */
	len += packet_u16(packet + len, o->keepalive_s);
	if (o->v5) len += connect_properties(packet + len, o);
	len += packet_text(packet + len, o->id);
	if (o->will_topic) {
		if (o->v5) packet[len++] = 0;
		len += packet_text(packet + len, o->will_topic);
		len += packet_text(packet + len, o->will_payload);
	}
	put_packet(l, packet, 0x10, len);
}

bool link_open(struct link *l, uint16_t port, const struct link_options *o)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int on = 1, buffer = (int)o->receive_buffer;

	l->in_len = l->out_len = 0;
	l->v5 = o->v5;
	l->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	scene_require(l->fd >= 0, "socket: %s", strerror(errno));
	(void)setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));                       /* for speed only */
	if (buffer > 0) (void)setsockopt(l->fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer)); /* it is slow either way */
	if (connect(l->fd, (struct sockaddr *)&to, sizeof(to)) != 0 && errno != EINPROGRESS) {
		link_close(l, LINK_CLOSE);
		return false;
	}
	greet(l, o);
	return true;
}

void link_close(struct link *l, enum link_end how)
{
	if (l->fd < 0) return;
	if (how == LINK_RESET) (void)setsockopt(l->fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger)); /* else it closes */
	(void)close(l->fd);
	l->fd = -1;
	l->in_len = l->out_len = 0;
}

void link_half_close(struct link *l)
{
	if (l->fd >= 0) (void)shutdown(l->fd, SHUT_WR); /* its end may have come first */
}

static uint16_t ask(struct link *l, unsigned first, const char *filter, int qos)
{
	char packet[SMALL];
	size_t len = PACKET_HEAD;
	uint16_t id = next_id(l);

	len += packet_u16(packet + len, id);
	if (l->v5) packet[len++] = 0;
	len += packet_text(packet + len, filter);
	if (qos >= 0) packet[len++] = (char)qos;
	put_packet(l, packet, first, len);
	return id;
}

uint16_t link_subscribe(struct link *l, const char *filter, int qos)
{
	return ask(l, 0x82, filter, qos);
}

uint16_t link_unsubscribe(struct link *l, const char *filter)
{
	return ask(l, 0xa2, filter, -1);
}

uint16_t link_publish(struct link *l, const char *topic, const void *payload, size_t payload_len, int qos)
{
	char packet[4096];
	size_t len = PACKET_HEAD;
	uint16_t id = qos > 0 ? next_id(l) : 0;

	scene_require(payload_len + SMALL <= sizeof(packet), "a payload of %zu bytes", payload_len);
	len += packet_text(packet + len, topic);
	if (qos > 0) len += packet_u16(packet + len, id);
	if (l->v5) packet[len++] = 0;
	memcpy(packet + len, payload, payload_len);
	put_packet(l, packet, 0x30u | (unsigned)qos << 1, len + payload_len);
	return id;
}

void link_answer(struct link *l, unsigned first, uint16_t packet_id)
{
	char packet[4] = {(char)first, 2};

	(void)packet_u16(packet + 2, packet_id);
	put(l, packet, sizeof(packet));
}

void link_ping(struct link *l)
{
	put(l, "\xc0\0", 2);
}

void link_goodbye(struct link *l)
{
	put(l, "\xe0\0", 2);
}

bool link_turn(struct link *l, unsigned packets_max, link_fn *fn, void *ctx)
{
	struct packet p;
	size_t used = 0;

	if (l->fd < 0) return false;
	flush(l);
	size_t room = packets_max > 1 ? LINK_INPUT_MAX : SLOW_INPUT;
	if (l->in_len >= room && room < LINK_INPUT_MAX) room = l->in_len + 1; /* only its end is looked for, or half a packet more */
	ssize_t n = recv(l->fd, l->in + l->in_len, room - l->in_len, 0);
	bool ended = n == 0 ? l->in_len < LINK_INPUT_MAX : n < 0 && errno != EAGAIN && errno != EINTR && errno != ENOTCONN;
	if (n > 0) l->in_len += (size_t)n;
	for (unsigned i = 0; (ended || i < packets_max) && packet_read(l->in + used, l->in_len - used, &p); i++) {
		fn(ctx, l, p.first, p.body, p.len);
		used += p.whole;
	}
	l->in_len -= used;
	memmove(l->in, l->in + used, l->in_len);
	return !ended;
}

/* --- PUBLISH --------------------------------------------------------------------------------------------------- */

static unsigned u16(const char *at)
{
	return (unsigned)(unsigned char)at[0] << 8 | (unsigned char)at[1];
}

/* A text with its length before it, into memory that holds `size`, cut. Its whole length, 0 when it is not there. */
static size_t read_text(const char *at, size_t left, char *out, size_t size)
{
	size_t len = left >= 2 ? u16(at) : 0, fits;

	if (left < 2 || len + 2 > left) return 0;
	fits = len < size ? len : size - 1;
	memcpy(out, at + 2, fits);
	out[fits] = '\0';
	return len + 2;
}

/* User properties are all that a broker sends here, beside a subscription identifier, which nobody asks for. */
static bool read_properties(const char *at, size_t len, struct link_publish *out)
{
	char name[32], value[48];

	for (size_t i = 0; i < len;) {
		if (at[i++] != PROPERTY_USER) return false;
		size_t n = read_text(at + i, len - i, name, sizeof(name));
		i += n;
		size_t v = n ? read_text(at + i, len - i, value, sizeof(value)) : 0;
		i += v;
		if (!v) return false;
		if (strcmp(name, "redis-id") == 0) memcpy(out->redis_id, value, sizeof(value));
		if (strcmp(name, "redelivered") == 0) out->redelivered = strcmp(value, "1") == 0;
	}
	return true;
}

bool link_read_publish(const struct link *l, unsigned first, const char *body, size_t len, struct link_publish *out)
{
	size_t at = read_text(body, len, out->topic, sizeof(out->topic)), fits;

	*out->redis_id = '\0';
	out->redelivered = false;
	out->dup = first & 8;
	out->retain = first & 1;
	out->qos = (int)(first >> 1 & 3);
	out->packet_id = 0;
	if (at == 0 || (out->qos > 0 && len - at < 2)) return false;
	if (out->qos > 0) {
		out->packet_id = (uint16_t)u16(body + at);
		at += 2;
	}
	if (l->v5) {
		if (at >= len || (unsigned char)body[at] > 127 || len - at - 1 < (size_t)body[at]) return false;
		if (!read_properties(body + at + 1, (size_t)body[at], out)) return false;
		at += 1 + (size_t)body[at];
	}
	fits = len - at < sizeof(out->payload) ? len - at : sizeof(out->payload) - 1;
	memcpy(out->payload, body + at, fits);
	out->payload[fits] = '\0';
	return true;
}
