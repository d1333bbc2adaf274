/*
 * Owns the sockets of a crowd of devices and what they have half read. Runs on the test's thread. It must never block on
 * one device while others have something to say.
 */
#include "tests/harness/crowd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#define EVENTS 256
#define PACKET_MAX 65536
#define KEEPALIVE_S 600
#define UNGREETED_MAX 80 /* Mosquitto has the kernel queue 100 connections for it */
#define TURNS_MAX 100000

enum stage { STAGE_NONE, STAGE_CONNECTING, STAGE_GREETING, STAGE_SUBSCRIBING, STAGE_SUBSCRIBED };

struct device {
	int fd; /* -1: none */
	enum stage stage;
	char id[32];
	unsigned char *input;
	size_t input_len, input_cap;
	unsigned filters;
	const char *filter[CROWD_FILTERS_MAX];
};

struct crowd {
	struct scene *scene;
	uint16_t port;
	unsigned count, subscribed, resets;
	unsigned ungreeted; /* connections whose CONNACK has not come */
	bool persistent;
	crowd_fn *fn;
	void *ctx;
	int epoll;
	struct device *devices;
	unsigned char packet[PACKET_MAX];
	size_t packet_len;
};

void crowd_descriptors(unsigned count)
{
	struct rlimit limit;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	if (limit.rlim_cur >= count) return;
	limit.rlim_cur = count;
	if (limit.rlim_max < count) limit.rlim_max = count;
	scene_require(setrlimit(RLIMIT_NOFILE, &limit) == 0, "no more than %ju descriptors are allowed",
		(uintmax_t)limit.rlim_max);
}

/* --- packets --------------------------------------------------------------------------------------------------- */

static void put(struct crowd *c, const void *bytes, size_t len)
{
	scene_require(c->packet_len + len <= PACKET_MAX, "packet too large");
	memcpy(c->packet + c->packet_len, bytes, len);
	c->packet_len += len;
}

static void put_u16(struct crowd *c, unsigned v)
{
	put(c, (unsigned char[]){(unsigned char)(v >> 8), (unsigned char)v}, 2);
}

static void put_text(struct crowd *c, const char *text)
{
	put_u16(c, (unsigned)strlen(text));
	put(c, text, strlen(text));
}

/* The body is made first; its header is put before it when its length is known. */
static void finish(struct crowd *c, unsigned char type)
{
	unsigned char head[5];
	size_t n = 0, len = c->packet_len;

	head[n++] = type;
	do {
		head[n++] = (unsigned char)((len & 127) | (len > 127 ? 128 : 0));
		len >>= 7;
	} while (len > 0);
	scene_require(c->packet_len + n <= PACKET_MAX, "packet too large");
	memmove(c->packet + n, c->packet, c->packet_len);
	memcpy(c->packet, head, n);
	c->packet_len += n;
}

static void begin(struct crowd *c, struct device *d);

/* What the kernel has queued for a busy broker may be made and then reset, before the broker has seen it. So a device does what
 * devices do. True: that was it. */
static bool was_reset(struct crowd *c, struct device *d, int error)
{
	bool taken = d->stage != STAGE_CONNECTING && d->stage != STAGE_GREETING;

	if (taken || (error != ECONNRESET && error != EPIPE)) return false;
	(void)close(d->fd);
	c->resets++;
	c->ungreeted--;
	begin(c, d);
	return true;
}

/* Small packets to a broker that reads: the socket's buffer takes them, or the test has no use for this broker. */
static void flush(struct crowd *c, struct device *d)
{
	ssize_t n = send(d->fd, c->packet, c->packet_len, MSG_NOSIGNAL);

	if (n < 0 && was_reset(c, d, errno)) return;
	scene_require(n == (ssize_t)c->packet_len, "device %s: cannot send (%s)", d->id, n < 0 ? strerror(errno) : "part");
	c->packet_len = 0;
}

static void greet(struct crowd *c, struct device *d)
{
	c->packet_len = 0;
	put_text(c, "MQTT");
	put(c, c->persistent ? "\4" : "\4\2", 2); /* 3.1.1; clean session or not */
	put_u16(c, KEEPALIVE_S);
	put_text(c, d->id);
	finish(c, 0x10);
	d->stage = STAGE_GREETING;
	flush(c, d);
}

static void subscribe(struct crowd *c, struct device *d)
{
	char text[256];

	c->packet_len = 0;
	put_u16(c, 1);
	for (unsigned i = 0; i < d->filters; i++) {
		const char *at = strstr(d->filter[i], "%s");

		if (at) {
			(void)snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - d->filter[i]), d->filter[i], d->id, at + 2);
		} else {
			(void)snprintf(text, sizeof(text), "%s", d->filter[i]);
		}
		put_text(c, text);
		put(c, "\1", 1);
	}
	finish(c, 0x82);
	flush(c, d);
	d->stage = STAGE_SUBSCRIBING;
}

static void take_publish(struct crowd *c, struct device *d, unsigned char flags, const unsigned char *body, size_t len)
{
	size_t topic_len = len >= 2 ? (size_t)body[0] << 8 | body[1] : 0;
	unsigned qos = (flags >> 1) & 3;
	size_t at = 2 + topic_len + (qos > 0 ? 2 : 0);
	char topic[256], payload[512];

	scene_require(at <= len && topic_len < sizeof(topic) && len - at < sizeof(payload), "device %s: odd PUBLISH", d->id);
	memcpy(topic, body + 2, topic_len);
	topic[topic_len] = '\0';
	memcpy(payload, body + at, len - at);
	payload[len - at] = '\0';
	if (qos > 0) {
		c->packet_len = 0;
		put(c, body + at - 2, 2);
		finish(c, 0x40);
		flush(c, d);
	}
	c->fn(c->ctx, &(struct crowd_message){(unsigned)(d - c->devices), topic, payload});
}

static void take_packet(struct crowd *c, struct device *d, const unsigned char *packet, size_t head, size_t len)
{
	const unsigned char *body = packet + head;

	switch (packet[0] >> 4) {
	case 2:
		scene_require(len == 2 && body[1] == 0, "device %s: refused", d->id);
		c->ungreeted--;
		subscribe(c, d);
		break;
	case 9:
		for (size_t i = 2; i < len; i++) scene_require(body[i] < 3, "device %s: a subscription was refused", d->id);
		d->stage = STAGE_SUBSCRIBED;
		c->subscribed++;
		break;
	case 3:
		take_publish(c, d, packet[0], body, len);
		break;
	default:
		break;
	}
}

/* --- sockets --------------------------------------------------------------------------------------------------- */

/* Works through the whole packets that were read. */
static void take_input(struct crowd *c, struct device *d)
{
	size_t at = 0;

	for (;;) {
		size_t head = 1, len = 0, have = d->input_len - at;
		unsigned shift = 0;

		if (have < 2) break;
		while (head < have && head < 5 && (d->input[at + head] & 128)) {
			len |= (size_t)(d->input[at + head++] & 127) << shift;
			shift += 7;
		}
		if (head >= have) break;
		len |= (size_t)d->input[at + head++] << shift;
		if (have - head < len) break;
		take_packet(c, d, d->input + at, head, len);
		at += head + len;
	}
	memmove(d->input, d->input + at, d->input_len - at);
	d->input_len -= at;
}

static void read_some(struct crowd *c, struct device *d)
{
	ssize_t n;

	if (d->input_cap - d->input_len < 4096) {
		d->input_cap = d->input_cap ? d->input_cap * 2 : 8192;
		d->input = realloc(d->input, d->input_cap);
		scene_require(d->input, "out of memory");
	}
	n = recv(d->fd, d->input + d->input_len, d->input_cap - d->input_len, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
	if (n < 0 && was_reset(c, d, errno)) return;
	scene_require(n > 0, "device %s: its connection ended (%s)", d->id, n < 0 ? strerror(errno) : "closed");
	d->input_len += (size_t)n;
	take_input(c, d);
}

static void begin(struct crowd *c, struct device *d)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(c->port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	struct epoll_event e = {.events = EPOLLOUT, .data.ptr = d};
	int on = 1;

	d->input_len = 0;
	d->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	scene_require(d->fd >= 0, "socket: %s", strerror(errno));
	(void)setsockopt(d->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	scene_require(connect(d->fd, (struct sockaddr *)&to, sizeof(to)) == 0 || errno == EINPROGRESS, "connect: %s",
		strerror(errno));
	scene_require(epoll_ctl(c->epoll, EPOLL_CTL_ADD, d->fd, &e) == 0, "epoll: %s", strerror(errno));
	d->stage = STAGE_CONNECTING;
	c->ungreeted++;
}

static void connected(struct crowd *c, struct device *d)
{
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = d};
	int error = 0;
	socklen_t len = sizeof(error);

	(void)getsockopt(d->fd, SOL_SOCKET, SO_ERROR, &error, &len);
	if (was_reset(c, d, error)) return;
	scene_require(error == 0, "device %s: connect: %s", d->id, strerror(error));
	scene_require(epoll_ctl(c->epoll, EPOLL_CTL_MOD, d->fd, &e) == 0, "epoll: %s", strerror(errno));
	greet(c, d);
}

void crowd_turn(struct crowd *c, unsigned timeout_ms)
{
	struct epoll_event events[EVENTS];
	int n = epoll_wait(c->epoll, events, EVENTS, (int)timeout_ms);

	scene_require(n >= 0 || errno == EINTR, "epoll: %s", strerror(errno));
	for (int i = 0; i < n; i++) {
		struct device *d = events[i].data.ptr;

		if (d->stage == STAGE_CONNECTING) connected(c, d);
		else read_some(c, d);
	}
}

/* --- life ------------------------------------------------------------------------------------------------------ */

static void close_all(struct crowd *c)
{
	for (unsigned i = 0; i < c->count; i++) {
		struct device *d = &c->devices[i];

		if (d->fd < 0) continue;
		(void)close(d->fd);
		d->fd = -1;
		d->stage = STAGE_NONE;
		d->input_len = 0;
	}
	c->subscribed = c->ungreeted = 0;
}

static void crowd_free(void *ctx)
{
	struct crowd *c = ctx;

	close_all(c);
	(void)close(c->epoll);
	for (unsigned i = 0; i < c->count; i++) free(c->devices[i].input);
	free(c->devices);
	free(c);
}

struct crowd *crowd_new(struct scene *s, uint16_t port, unsigned count, const char *names, crowd_fn *fn, void *ctx)
{
	struct crowd *c = calloc(1, sizeof(*c));
	const char *at = strstr(names, "%u");

	scene_require(c && at, "out of memory, or no %%u");
	c->devices = calloc(count, sizeof(*c->devices));
	scene_require(c->devices, "out of memory");
	c->scene = s;
	c->port = port;
	c->count = count;
	c->fn = fn;
	c->ctx = ctx;
	c->epoll = epoll_create1(EPOLL_CLOEXEC);
	scene_require(c->epoll >= 0, "epoll: %s", strerror(errno));
	for (unsigned i = 0; i < count; i++) {
		c->devices[i].fd = -1;
		(void)snprintf(c->devices[i].id, sizeof(c->devices[i].id), "%.*s%u%s", (int)(at - names), names, i, at + 2);
	}
	scene_at_end(s, crowd_free, c);
	return c;
}

void crowd_filter(struct crowd *c, unsigned from, unsigned to, const char *filter)
{
	for (unsigned i = from; i < to; i++) {
		struct device *d = &c->devices[i];

		scene_require(d->filters < CROWD_FILTERS_MAX, "too many filters");
		d->filter[d->filters++] = filter;
	}
}

void crowd_connect(struct crowd *c)
{
	for (unsigned i = 0; i < c->count; i++) {
		if (c->devices[i].fd >= 0) continue;
		begin(c, &c->devices[i]);
		/* What the kernel's queue has no room for is tried again after a second, in which nothing is to be measured. */
		for (unsigned turn = 0; c->ungreeted >= UNGREETED_MAX; turn++) {
			scene_require(turn < TURNS_MAX, "the broker greets nobody");
			crowd_turn(c, 10);
		}
	}
}

void crowd_persistent(struct crowd *c)
{
	c->persistent = true;
}

unsigned crowd_subscribed(const struct crowd *c)
{
	return c->subscribed;
}

unsigned crowd_resets(const struct crowd *c)
{
	return c->resets;
}

void crowd_disconnect(struct crowd *c)
{
	for (unsigned i = 0; i < c->count; i++) {
		struct device *d = &c->devices[i];

		if (d->fd < 0) continue;
		c->packet_len = 0;
		finish(c, 0xe0);
		flush(c, d);
	}
	close_all(c);
}
