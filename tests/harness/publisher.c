/*
 * Owns a thread and a few sockets that speak just enough MQTT 3.1.1 to publish and to read acknowledgements: what is
 * measured is the broker, not a client library. The lock guards what the test's thread asks for. The thread must never
 * call cmocka.
 */
#include "tests/harness/publisher.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "tests/harness/listener.h"
#include "tests/harness/packet.h"
#include "tests/harness/publisher_parts.h"

#define AGAIN_MS 20

static uint64_t clock_us(clockid_t id)
{
	struct timespec t = {0};

	(void)clock_gettime(id, &t); /* a process that has ended has no more time */
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static uint64_t now_us(void)
{
	return clock_us(CLOCK_MONOTONIC);
}

/* --- packets; lock held --------------------------------------------------------------------------------------- */

static void lose(struct publisher *p, struct connection *c)
{
	if (c->fd < 0) return;
	close(c->fd);
	c->fd = -1;
	if (c->greeted) p->losses++;
	c->greeted = false;
	c->under_way = 0;
	c->input_len = 0;
	for (size_t i = 0; i < MIDS; i++) c->number_of[i] = -1;
	c->again_at_ms = now_ms() + AGAIN_MS;
}

static void put(struct publisher *p, struct connection *c, const void *data, size_t len)
{
	if (send(c->fd, data, len, MSG_NOSIGNAL) != (ssize_t)len) lose(p, c);
}

static void open_connection(struct publisher *p, struct connection *c, unsigned n)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(p->port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct timeval limit = {5, 0};
	char packet[128], id[80];
	int on = 1;

	c->again_at_ms = now_ms() + AGAIN_MS;
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0) return;
	(void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* without, figures are worse, not wrong */
	(void)setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(c->fd, (struct sockaddr *)&a, sizeof(a)) != 0) {
		lose(p, c);
		return;
	}
	(void)snprintf(id, sizeof(id), "%s-%u", p->base, n);
	put(p, c, packet, packet_connect(packet, id, true));
}

static void publish(struct publisher *p, struct connection *c, unsigned n)
{
	char topic[96];
	long number = c->count;
	size_t mid = (size_t)number % (MIDS - 1) + 1, len = PACKET_HEAD;
	int head;

	if (c->count == c->size) {
		c->size = c->size ? c->size * 2 : 4096;
		c->messages = realloc(c->messages, (size_t)c->size * sizeof(*c->messages));
		if (!c->messages) abort();
	}
	if (p->spread > 0) (void)snprintf(topic, sizeof(topic), "%s/d%lu/%u", p->base, (unsigned long)number % p->spread, n);
	else (void)snprintf(topic, sizeof(topic), "%s/%u", p->base, n);
	len += packet_text(p->packet + len, topic);
	len += packet_u16(p->packet + len, mid);
	memset(p->packet + len, 'x', p->payload_len);
	head = snprintf(p->packet + len, p->payload_len, "%ld ", number);
	p->packet[len + (size_t)head] = '%'; /* in the NUL's place, and a trap for whoever formats payloads */
	len += p->payload_len;
	(void)packet_head(p->packet, 0x32, len - PACKET_HEAD);
	c->messages[c->count++] = (struct sent){.at_us = now_us(), .section = p->section};
	if (p->watches) c->messages[number].busy_at_us = clock_us(p->watched);
	c->number_of[mid] = number;
	c->under_way++;
	put(p, c, p->packet, len);
}

static void acknowledged(struct connection *c, size_t mid)
{
	long number = c->number_of[mid];

	if (number < 0) return;
	c->number_of[mid] = -1;
	c->under_way--;
	c->messages[number].acked = true;
	c->messages[number].took_us = (unsigned)(now_us() - c->messages[number].at_us);
}

/* CONNACK and PUBACK are all that comes, four bytes each. */
static void read_some(struct publisher *p, struct connection *c)
{
	ssize_t got = recv(c->fd, c->input + c->input_len, INPUT_MAX - c->input_len, MSG_DONTWAIT);
	size_t at = 0;

	if (got <= 0) {
		lose(p, c);
		return;
	}
	c->input_len += (size_t)got;
	for (; c->input_len - at >= 4; at += 4) {
		const unsigned char *packet = c->input + at;
		if (packet[0] == 0x20 && packet[3] == 0) {
			c->greeted = true;
		} else if (packet[0] == 0x40) {
			acknowledged(c, (size_t)packet[2] << 8 | packet[3]);
		} else {
			lose(p, c);
			return;
		}
	}
	memmove(c->input, c->input + at, c->input_len - at);
	c->input_len -= at;
}

/* --- the listener; lock held ---------------------------------------------------------------------------------- */

static void on_heard(void *ctx, const char *topic, const char *payload)
{
	struct publisher *p = ctx;
	size_t base_len = strlen(p->base);
	unsigned long n = p->connection_count;
	long number = strtol(payload, NULL, 10);

	if (strncmp(topic, p->base, base_len) == 0 && topic[base_len] == '/') n = strtoul(topic + base_len + 1, NULL, 10);
	if (n >= p->connection_count || number < p->connections[n].heard || number >= p->connections[n].count) {
		p->misheard++;
		return;
	}
	struct sent *m = &p->connections[n].messages[number];

	m->heard = true;
	m->heard_us = (unsigned)(now_us() - m->at_us);
	if (p->watches) m->busy_us = (unsigned)(clock_us(p->watched) - m->busy_at_us);
	p->connections[n].heard = number + 1;
}

static void listen_on(struct publisher *p)
{
	if (listener_read(p->listener, on_heard, p)) return;
	p->misheard++;
	listener_free(p->listener);
	p->listener = NULL;
}

/* --- the thread ----------------------------------------------------------------------------------------------- */

static void send_what_is_due(struct publisher *p)
{
	uint64_t now = now_us();

	if (p->per_second == 0) return;
	/* Bounded: what is further behind than 10 ms is not made up for. */
	if (p->due_us + 10000 < now) p->due_us = now - 10000;
	for (; p->due_us <= now; p->due_us += 1000000 / p->per_second) {
		for (unsigned tries = 0; tries < p->connection_count; tries++) {
			unsigned n = p->turn++ % p->connection_count;
			struct connection *c = &p->connections[n];
			if (!c->greeted || c->under_way >= PUBLISHER_WINDOW) continue;
			publish(p, c, n);
			break;
		}
	}
}

static void *run(void *arg)
{
	struct publisher *p = arg;
	struct pollfd fds[PUBLISHER_CONNECTIONS_MAX + 1];
	bool stop = false;

	while (!stop) {
		for (unsigned i = 0; i < p->connection_count; i++)
			fds[i] = (struct pollfd){p->connections[i].fd, POLLIN, 0}; /* only this thread changes them */
		struct pollfd *ear = &fds[p->connection_count];
		pthread_mutex_lock(&p->lock);
		*ear = (struct pollfd){p->listener ? listener_fd(p->listener) : -1, POLLIN, 0};
		pthread_mutex_unlock(&p->lock);
		(void)poll(fds, p->connection_count + 1, 1);
		pthread_mutex_lock(&p->lock);
		if (p->listener && ear->revents) listen_on(p);
		for (unsigned i = 0; i < p->connection_count; i++) {
			struct connection *c = &p->connections[i];
			if (c->fd >= 0 && fds[i].revents) read_some(p, c);
			if (c->fd < 0 && now_ms() >= c->again_at_ms) open_connection(p, c, i);
		}
		send_what_is_due(p);
		stop = p->stop;
		pthread_mutex_unlock(&p->lock);
	}
	return NULL;
}

/* --- the test's thread ---------------------------------------------------------------------------------------- */

static void end(void *ctx)
{
	struct publisher *p = ctx;

	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_mutex_unlock(&p->lock);
	pthread_join(p->thread, NULL);
	for (unsigned i = 0; i < p->connection_count; i++) {
		if (p->connections[i].fd >= 0) close(p->connections[i].fd);
		free(p->connections[i].messages);
	}
	listener_free(p->listener);
	pthread_mutex_destroy(&p->lock);
	free(p->packet);
	free(p);
}

struct publisher *publisher_start(struct scene *s, uint16_t broker_port, const char *base, unsigned connections,
	size_t payload_len)
{
	struct publisher *p = calloc(1, sizeof(*p));

	scene_require(p && connections <= PUBLISHER_CONNECTIONS_MAX && payload_len >= 16, "no such publisher");
	p->packet = malloc(payload_len + 256);
	scene_require(p->packet, "out of memory");
	(void)snprintf(p->base, sizeof(p->base), "%s", base);
	p->port = broker_port;
	p->connection_count = connections;
	p->payload_len = payload_len;
	for (unsigned i = 0; i < connections; i++) {
		p->connections[i].fd = -1;
		for (size_t k = 0; k < MIDS; k++) p->connections[i].number_of[k] = -1;
	}
	pthread_mutex_init(&p->lock, NULL);
	scene_require(pthread_create(&p->thread, NULL, run, p) == 0, "no thread");
	scene_at_end(s, end, p);
	return p;
}

void publisher_spread(struct publisher *p, unsigned topics)
{
	pthread_mutex_lock(&p->lock);
	p->spread = topics;
	pthread_mutex_unlock(&p->lock);
}

void publisher_pace(struct publisher *p, unsigned per_second)
{
	pthread_mutex_lock(&p->lock);
	p->per_second = per_second;
	p->due_us = now_us();
	pthread_mutex_unlock(&p->lock);
}

static bool at_rest(struct publisher *p)
{
	unsigned under_way = 0;

	pthread_mutex_lock(&p->lock);
	for (unsigned i = 0; i < p->connection_count; i++) under_way += p->connections[i].under_way;
	pthread_mutex_unlock(&p->lock);
	return under_way == 0;
}

bool publisher_rest(struct publisher *p, unsigned timeout_ms)
{
	uint64_t limit = now_ms() + (uint64_t)timeout_ms * instrument_slowness();

	publisher_pace(p, 0);
	while (!at_rest(p)) {
		if (now_ms() > limit) return false;
		poll_pause();
	}
	return true;
}

static bool listener_is_granted(struct publisher *p)
{
	bool lost, granted;

	pthread_mutex_lock(&p->lock);
	lost = !p->listener;
	granted = !lost && listener_subscribed(p->listener);
	pthread_mutex_unlock(&p->lock);
	scene_require(!lost, "the listener is not let in");
	return granted;
}

void publisher_listen(struct publisher *p, int qos)
{
	char id[80], filter[80];
	struct listener *l;

	(void)snprintf(id, sizeof(id), "%s-listener", p->base);
	(void)snprintf(filter, sizeof(filter), "%s/#", p->base);
	l = listener_new(p->port, id, filter, qos);
	scene_require(l, "the listener has no connection");
	pthread_mutex_lock(&p->lock);
	p->listener = l;
	pthread_mutex_unlock(&p->lock);
	wait_until(listener_is_granted(p), 60000, "the listener's SUBACK");
}

void publisher_watch(struct publisher *p, pid_t pid)
{
	struct sched_param first = {.sched_priority = 1};
	clockid_t clock;

	scene_require(clock_getcpuclockid(pid, &clock) == 0, "no clock of process %d", (int)pid);
	/* So that it is told at once; where that is not allowed, what comes after counts, too. */
	(void)pthread_setschedparam(p->thread, SCHED_FIFO, &first);
	pthread_mutex_lock(&p->lock);
	p->watched = clock;
	p->watches = true;
	pthread_mutex_unlock(&p->lock);
}
