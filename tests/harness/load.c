/*
 * Owns the sockets of publishers and readers, and what each reader was given. Runs on the test's thread. It must stay much
 * cheaper than a broker: packets are made by changing a few bytes of a template, and sent and read many at a time.
 */
#include "tests/harness/load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/harness/packet.h"

#define WAIT_MS 120000
#define OUT_BYTES (128u * 1024)
#define IN_BYTES (256u * 1024)
#define PACKET_MAX 65536
#define MIDS 65535
#define TOPIC_DIGITS 4
#define STEPS 8                   /* delivery times: parts of each doubling */
#define BUCKETS (64 * STEPS)

struct side {
	int fd;                       /* -1: none */
	unsigned events;              /* what epoll waits for */
	int least;                    /* bytes that must be there before it looks; 0: any */
	bool greeted, subscribed, answered, closed;
	char *out, *in;
	size_t out_at, out_len, in_len;
	struct load *load;
	struct publisher_side *publisher; /* NULL: a reader */
	unsigned number;
};

struct publisher_side {
	struct side side;
	char *packet;                 /* template */
	size_t packet_len, digits_at, mid_at, payload_at;
	uint64_t next, until, acked, first; /* numbers; `first`: at load_reset */
};

/* What one reader has of one publisher. */
struct seen {
	uint64_t next, unique;
	unsigned char *bits;          /* from the publisher's `first` on */
	size_t bytes;
};

struct reader_side {
	struct side side;
	char id[64];
	bool keep;
	struct seen seen[LOAD_PUBLISHERS_MAX];
};

struct load {
	struct load_plan plan;
	uint16_t port;
	int epoll;
	struct publisher_side publishers[LOAD_PUBLISHERS_MAX];
	struct reader_side readers[LOAD_READERS_MAX];
	unsigned reader_count;
	uint64_t acked_before, received, repeats, reorders, first_ns;
	uint64_t delivery[BUCKETS];
};

uint64_t load_now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

double load_cpu_s(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* --- sockets --------------------------------------------------------------------------------------------------- */

static void flush(struct side *s)
{
	unsigned wanted = EPOLLIN;

	while (s->out_at < s->out_len) {
		ssize_t n = send(s->fd, s->out + s->out_at, s->out_len - s->out_at, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR) continue;
		if (n < 0 && errno == EAGAIN) break;
		scene_require(n > 0, "load: cannot send (%s)", strerror(errno));
		s->out_at += (size_t)n;
	}
	if (s->out_at == s->out_len) s->out_at = s->out_len = 0;
	else wanted |= EPOLLOUT;
	if (wanted == s->events) return;
	struct epoll_event e = {.events = wanted, .data.ptr = s};
	scene_require(epoll_ctl(s->load->epoll, EPOLL_CTL_MOD, s->fd, &e) == 0, "epoll: %s", strerror(errno));
	s->events = wanted;
}

static char *room(struct side *s, size_t len)
{
	if (OUT_BYTES - s->out_len >= len) return s->out + s->out_len;
	memmove(s->out, s->out + s->out_at, s->out_len - s->out_at);
	s->out_len -= s->out_at;
	s->out_at = 0;
	return OUT_BYTES - s->out_len >= len ? s->out + s->out_len : NULL;
}

static void put(struct side *s, const void *data, size_t len)
{
	char *to = room(s, len);

	scene_require(to, "load: the broker takes nothing");
	memcpy(to, data, len);
	s->out_len += len;
}

static void open_side(struct load *l, struct side *s, const char *id, bool clean)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(l->port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = s};
	char packet[128];
	int on = 1;

	s->load = l;
	if (!s->out) s->out = malloc(OUT_BYTES);
	if (!s->in) s->in = malloc(IN_BYTES);
	scene_require(s->out && s->in, "out of memory");
	s->greeted = s->subscribed = s->answered = s->closed = false;
	s->out_at = s->out_len = s->in_len = 0;
	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	scene_require(s->fd >= 0 && connect(s->fd, (struct sockaddr *)&to, sizeof(to)) == 0, "connect: %s", strerror(errno));
	(void)setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* without, figures are worse, not wrong */
	s->events = EPOLLIN;
	s->least = 0;
	scene_require(epoll_ctl(l->epoll, EPOLL_CTL_ADD, s->fd, &e) == 0, "epoll: %s", strerror(errno));
	put(s, packet, packet_connect(packet, id, clean));
	flush(s);
}

/* A broker may send each acknowledgement by itself; to wake for each would cost more than all the rest. */
static void look_for(struct side *s, int least)
{
	if (least == s->least) return;
	scene_require(setsockopt(s->fd, SOL_SOCKET, SO_RCVLOWAT, &least, sizeof(least)) == 0, "SO_RCVLOWAT: %s", strerror(errno));
	s->least = least;
}

static void close_side(struct side *s)
{
	if (s->fd < 0) return;
	(void)close(s->fd);
	s->fd = -1;
}

/* --- what is received ------------------------------------------------------------------------------------------ */

static unsigned bucket_of(uint64_t us)
{
	if (us < STEPS) return (unsigned)us;
	unsigned doubling = 63u - (unsigned)__builtin_clzll(us); /* from 3 on */

	return (doubling - 2) * STEPS + (unsigned)((us >> (doubling - 3)) & (STEPS - 1));
}

static double bucket_us(unsigned bucket)
{
	if (bucket < STEPS) return bucket;
	return (double)((STEPS + bucket % STEPS) * (1ull << (bucket / STEPS - 1))) * (1 + 0.5 / STEPS);
}

/* Has it been seen before? */
static bool mark(struct seen *s, uint64_t at)
{
	size_t byte = (size_t)(at / 8);
	unsigned bit = 1u << (at % 8);

	if (byte >= s->bytes) {
		size_t more = byte + 65536;

		s->bits = realloc(s->bits, more);
		scene_require(s->bits, "out of memory");
		memset(s->bits + s->bytes, 0, more - s->bytes);
		s->bytes = more;
	}
	if (s->bits[byte] & bit) return true;
	s->bits[byte] = (unsigned char)(s->bits[byte] | bit);
	return false;
}

static void take_payload(struct load *l, struct reader_side *r, const char *payload, size_t len)
{
	uint64_t head[3], now = load_now_ns();

	scene_require(len >= sizeof(head), "load: an odd payload of %zu bytes", len);
	memcpy(head, payload, sizeof(head));
	scene_require(head[0] < LOAD_PUBLISHERS_MAX, "load: an odd payload");
	struct seen *s = &r->seen[head[0]];
	uint64_t first = l->publishers[head[0]].first;
	if (head[1] < first) { /* from before load_reset */
		l->repeats++;
		return;
	}
	if (l->received++ == 0) l->first_ns = now;
	l->delivery[bucket_of((now - head[2]) / 1000)]++;
	if (mark(s, head[1] - first)) {
		l->repeats++;
		return;
	}
	s->unique++;
	if (head[1] < s->next) l->reorders++;
	else s->next = head[1] + 1;
}

static void take_publish(struct side *s, const struct packet *p)
{
	struct reader_side *r = (struct reader_side *)(void *)s;
	size_t topic_len = p->len >= 2 ? (size_t)(unsigned char)p->body[0] << 8 | (unsigned char)p->body[1] : 0;
	bool acked = p->first & 6;
	size_t at = 2 + topic_len + (acked ? 2 : 0);

	scene_require(!s->publisher && at <= p->len, "load: an odd PUBLISH");
	if (acked) put(s, (char[]){0x40, 2, p->body[at - 2], p->body[at - 1]}, 4);
	take_payload(s->load, r, p->body + at, p->len - at);
}

static void take_packet(struct side *s, const struct packet *p)
{
	switch (p->first >> 4) {
	case 2:
		scene_require(p->len == 2 && p->body[1] == 0, "load: refused");
		s->greeted = true;
		break;
	case 3: take_publish(s, p); break;
	case 4:
		if (s->publisher) s->publisher->acked++;
		break;
	case 9:
		scene_require(p->len == 3 && (unsigned char)p->body[2] < 3, "load: the subscription was refused");
		s->subscribed = true;
		break;
	case 13: s->answered = true; break;
	default: scene_fail(__FILE__, __LINE__, "load: an odd packet, type %u", p->first >> 4);
	}
}

static void read_some(struct side *s)
{
	struct packet p;
	size_t at = 0;
	ssize_t n = recv(s->fd, s->in + s->in_len, IN_BYTES - s->in_len, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
	if (n <= 0) {
		s->closed = true;
		return;
	}
	s->in_len += (size_t)n;
	while (packet_read(s->in + at, s->in_len - at, &p)) {
		take_packet(s, &p);
		at += p.whole;
	}
	memmove(s->in, s->in + at, s->in_len - at);
	s->in_len -= at;
	if (s->out_len > 0) flush(s);
}

void load_turn(struct load *l, unsigned timeout_ms)
{
	struct epoll_event events[LOAD_PUBLISHERS_MAX + LOAD_READERS_MAX];
	int n = epoll_wait(l->epoll, events, LOAD_PUBLISHERS_MAX + LOAD_READERS_MAX, (int)timeout_ms);

	scene_require(n >= 0 || errno == EINTR, "epoll: %s", strerror(errno));
	for (int i = 0; i < n; i++) {
		struct side *s = events[i].data.ptr;

		if (events[i].events & EPOLLOUT) flush(s);
		if (events[i].events & ~(unsigned)EPOLLOUT) read_some(s);
		if (s->closed) close_side(s);
	}
}

#define turn_until(l, condition, timeout_ms, what) \
	do { \
		uint64_t limit_ = now_ms() + (uint64_t)(timeout_ms); \
		while (!(condition)) { \
			scene_require(now_ms() < limit_, "load: waited in vain: %s", what); \
			load_turn(l, 10); \
		} \
	} while (0)

/* --- publishing ------------------------------------------------------------------------------------------------ */

static void make_template(struct load *l, struct publisher_side *p)
{
	char topic[128];
	const struct load_plan *plan = &l->plan;
	size_t len = PACKET_HEAD;

	(void)snprintf(topic, sizeof(topic), "%s/%u/%0*u", plan->base, p->side.number, TOPIC_DIGITS, 0u);
	p->packet = calloc(1, strlen(topic) + plan->payload_len + 16);
	scene_require(p->packet, "out of memory");
	len += packet_text(p->packet + len, topic);
	p->digits_at = len - TOPIC_DIGITS;
	p->mid_at = len;
	if (plan->qos > 0) len += 2;
	p->payload_at = len;
	memset(p->packet + len, 'x', plan->payload_len);
	memcpy(p->packet + len, &(uint64_t){p->side.number}, 8);
	len += plan->payload_len;
	p->packet_len = len;
	(void)packet_head(p->packet, plan->qos > 0 ? 0x32 : 0x30, len - PACKET_HEAD);
}

static void append_next(struct load *l, struct publisher_side *p, char *to)
{
	unsigned topic = (unsigned)(p->next % l->plan.topics);

	memcpy(to, p->packet, p->packet_len);
	for (size_t i = TOPIC_DIGITS; i > 0; i--, topic /= 10) to[p->digits_at + i - 1] = (char)('0' + topic % 10);
	if (l->plan.qos > 0) (void)packet_u16(to + p->mid_at, (size_t)(p->next % MIDS) + 1);
	memcpy(to + p->payload_at + 8, &p->next, 8);
	memcpy(to + p->payload_at + 16, &(uint64_t){load_now_ns()}, 8);
	p->side.out_len += p->packet_len;
	p->next++;
}

/* As many as window and socket take, up to `until`. A quarter of the window at once, unless it is the rest. */
static void publish_some(struct load *l, struct publisher_side *p, uint64_t until)
{
	uint64_t window = l->plan.window;

	if (until > p->until) until = p->until;
	if (l->plan.qos > 0) {
		uint64_t most = p->acked + window;

		if (p->next + window / 4 > most && until > most) return;
		if (until > most) until = most;
	}
	if (p->side.out_len > 0) return; /* the socket is full */
	while (p->next < until) {
		char *to = room(&p->side, p->packet_len);

		if (!to) break;
		append_next(l, p, to);
	}
	if (p->side.out_len > 0) flush(&p->side);
}

static bool all_over(const struct load *l)
{
	for (unsigned i = 0; i < l->plan.publishers; i++) {
		const struct publisher_side *p = &l->publishers[i];

		if (p->next < p->until) return false;
		if (l->plan.qos > 0 ? p->acked < p->until : !p->side.answered) return false;
	}
	return true;
}

static void one_turn(struct load *l, uint64_t due)
{
	static const char ping[] = {(char)0xc0, 0};

	for (unsigned i = 0; i < l->plan.publishers; i++) {
		struct publisher_side *p = &l->publishers[i];
		uint64_t before = p->next;

		scene_require(p->side.fd >= 0, "load: publisher %u lost its connection", i);
		publish_some(l, p, due);
		look_for(&p->side, p->next < p->until ? (int)l->plan.window : 1); /* a quarter: 4 bytes each */
		if (l->plan.qos == 0 && p->next == p->until && before < p->until) {
			put(&p->side, ping, sizeof(ping));
			flush(&p->side);
		}
	}
}

void load_publish(struct load *l, uint64_t count, unsigned per_second)
{
	uint64_t began = load_now_ns(), share = count / l->plan.publishers, limit, from = l->publishers[0].next;

	for (unsigned i = 0; i < l->plan.publishers; i++) {
		struct publisher_side *p = &l->publishers[i];

		scene_require(p->next == from, "load: publishers are not in step");
		p->until = p->next + share;
		p->side.answered = false;
	}
	limit = now_ms() + WAIT_MS + count + (per_second ? count * 1000 / per_second : 0);
	while (!all_over(l)) {
		uint64_t due = UINT64_MAX;

		scene_require(now_ms() < limit, "load: the broker does not acknowledge");
		if (per_second) {
			double each = (double)per_second / l->plan.publishers;
			due = from + (uint64_t)((double)(load_now_ns() - began) / 1e9 * each);
		}
		one_turn(l, due);
		load_turn(l, per_second ? 1 : 10);
	}
}

/* --- readers --------------------------------------------------------------------------------------------------- */

unsigned load_reader(struct load *l, const char *id, bool keep)
{
	struct reader_side *r = &l->readers[l->reader_count];

	scene_require(l->reader_count < LOAD_READERS_MAX, "load: too many readers");
	(void)snprintf(r->id, sizeof(r->id), "%s", id);
	r->keep = keep;
	r->side.number = l->reader_count;
	open_side(l, &r->side, id, !keep);
	turn_until(l, r->side.greeted, WAIT_MS, "CONNACK");
	return l->reader_count++;
}

void load_subscribe(struct load *l, unsigned reader, const char *filter, int qos)
{
	struct side *s = &l->readers[reader].side;
	char packet[512];

	s->subscribed = false;
	put(s, packet, packet_subscribe(packet, filter, qos));
	flush(s);
	turn_until(l, s->subscribed, WAIT_MS, "SUBACK");
}

void load_leave(struct load *l, unsigned reader)
{
	struct side *s = &l->readers[reader].side;
	static const char bye[] = {(char)0xe0, 0};

	put(s, bye, sizeof(bye));
	flush(s);
	turn_until(l, s->fd < 0, WAIT_MS, "the broker to close");
}

void load_return(struct load *l, unsigned reader)
{
	struct reader_side *r = &l->readers[reader];

	open_side(l, &r->side, r->id, !r->keep);
	turn_until(l, r->side.greeted, WAIT_MS, "CONNACK");
}

void load_wait(struct load *l, uint64_t received, unsigned timeout_ms)
{
	uint64_t limit = now_ms() + timeout_ms;

	while (l->received < received) {
		scene_require(now_ms() < limit, "load: only %ju of %ju messages came", (uintmax_t)l->received, (uintmax_t)received);
		load_turn(l, 10);
	}
}

void load_settle(struct load *l, unsigned reader)
{
	static const char ping[] = {(char)0xc0, 0};
	struct side *s = &l->readers[reader].side;

	s->answered = false;
	put(s, ping, sizeof(ping));
	flush(s);
	turn_until(l, s->answered, WAIT_MS, "PINGRESP");
}

/* --- counts ---------------------------------------------------------------------------------------------------- */

static uint64_t acked_by_all(const struct load *l)
{
	uint64_t acked = 0;

	for (unsigned i = 0; i < l->plan.publishers; i++) acked += l->publishers[i].acked;
	return acked;
}

void load_reset(struct load *l)
{
	for (unsigned i = 0; i < l->plan.publishers; i++) l->publishers[i].first = l->publishers[i].next;
	for (unsigned i = 0; i < l->reader_count; i++) {
		for (unsigned k = 0; k < LOAD_PUBLISHERS_MAX; k++) {
			struct seen *s = &l->readers[i].seen[k];

			s->next = l->publishers[k].first;
			s->unique = 0;
			if (s->bits) memset(s->bits, 0, s->bytes);
		}
	}
	l->acked_before = acked_by_all(l);
	l->received = l->repeats = l->reorders = l->first_ns = 0;
	memset(l->delivery, 0, sizeof(l->delivery));
}

struct load_counts load_counts(const struct load *l)
{
	struct load_counts c = {.received = l->received, .repeats = l->repeats, .reorders = l->reorders};

	c.acked = acked_by_all(l) - l->acked_before;
	for (unsigned i = 0; i < l->plan.publishers; i++) {
		uint64_t sent = l->publishers[i].next - l->publishers[i].first;

		c.sent += sent;
		for (unsigned k = 0; k < l->reader_count; k++) c.gaps += sent - l->readers[k].seen[i].unique;
	}
	return c;
}

uint64_t load_first_ns(const struct load *l)
{
	return l->first_ns;
}

double load_delivery_us(const struct load *l, double share)
{
	uint64_t so_far = 0;

	for (unsigned i = 0; i < BUCKETS; i++) {
		so_far += l->delivery[i];
		if ((double)so_far >= share * (double)l->received && so_far > 0) return bucket_us(i);
	}
	return 0;
}

/* --- life ------------------------------------------------------------------------------------------------------ */

static void load_free(void *ctx)
{
	struct load *l = ctx;

	for (unsigned i = 0; i < LOAD_PUBLISHERS_MAX; i++) {
		close_side(&l->publishers[i].side);
		free(l->publishers[i].side.out);
		free(l->publishers[i].side.in);
		free(l->publishers[i].packet);
	}
	for (unsigned i = 0; i < LOAD_READERS_MAX; i++) {
		close_side(&l->readers[i].side);
		free(l->readers[i].side.out);
		free(l->readers[i].side.in);
		for (unsigned k = 0; k < LOAD_PUBLISHERS_MAX; k++) free(l->readers[i].seen[k].bits);
	}
	(void)close(l->epoll);
	free(l);
}

struct load *load_new(struct scene *s, uint16_t port, const struct load_plan *plan)
{
	struct load *l = calloc(1, sizeof(*l));

	scene_require(l && plan->publishers <= LOAD_PUBLISHERS_MAX && plan->payload_len >= LOAD_PAYLOAD_MIN &&
		plan->window < MIDS && plan->topics > 0, "no such load");
	l->plan = *plan;
	l->port = port;
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	scene_require(l->epoll >= 0, "epoll: %s", strerror(errno));
	for (unsigned i = 0; i < LOAD_PUBLISHERS_MAX; i++) l->publishers[i].side.fd = -1;
	for (unsigned i = 0; i < LOAD_READERS_MAX; i++) l->readers[i].side.fd = -1;
	scene_at_end(s, load_free, l);
	for (unsigned i = 0; i < plan->publishers; i++) {
		struct publisher_side *p = &l->publishers[i];
		char id[80];

		p->side.publisher = p;
		p->side.number = i;
		make_template(l, p);
		(void)snprintf(id, sizeof(id), "%s-%u", plan->base, i);
		open_side(l, &p->side, id, true);
	}
	for (unsigned i = 0; i < plan->publishers; i++)
		turn_until(l, l->publishers[i].side.greeted, WAIT_MS, "CONNACK");
	return l;
}
