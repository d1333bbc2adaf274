/*
 * Owns a thread, a listening socket and up to PAIRS_MAX connections. Faults are decided by a seeded generator. The
 * thread must never call cmocka; what it cannot do it gives up by closing the connection.
 */
#include "tests/harness/proxy.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PAIRS_MAX 64
#define CHUNK_MAX 65536
#define SLOW_MS 20
#define PIECE_MAX 64
#define LATE_MAX_MS 200 /* longer than a client needs to come back */
#define HOLD_LIMIT_MS 60000

struct pair {
	int client, server; /* -1: closed; a pair with both closed is free */
	unsigned target;    /* which server_port it was made for */
	char *late;         /* client cut: what the server still gets */
	size_t late_len;
	uint64_t late_at;
	unsigned hang_round, chunks; /* chunks in the direction that is to hang, since then */
	bool hung;
};

struct proxy {
	pthread_t thread;
	int listener;
	uint16_t port;
	unsigned random;
	atomic_uint server_port, one_in, cuts, habit;
	atomic_uint hang_at, hang_round, hung; /* hang_round is set last */
	atomic_bool hang_upward;
	atomic_bool hold, holds, stop; /* holds: it does as asked */
	struct pair pairs[PAIRS_MAX];
	char chunk[CHUNK_MAX];
};

static unsigned next_random(struct proxy *p)
{
	p->random = p->random * 1664525u + 1013904223u;
	return p->random >> 8;
}

static void shut(int *fd)
{
	if (*fd >= 0) close(*fd);
	*fd = -1;
}

static void drop(struct pair *pair)
{
	shut(&pair->client);
	shut(&pair->server);
	free(pair->late);
	pair->late = NULL;
}

static bool send_all(int fd, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
		if (n <= 0) return false;
		data += n;
		len -= (size_t)n;
	}
	return true;
}

static struct sockaddr_in local(uint16_t port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return a;
}

static void welcome(struct proxy *p)
{
	int client = accept(p->listener, NULL, NULL);
	int server = socket(AF_INET, SOCK_STREAM, 0);
	unsigned target = atomic_load(&p->server_port);
	struct sockaddr_in a = local((uint16_t)target);
	int on = 1;
	struct pair *pair = NULL;
	for (size_t i = 0; i < PAIRS_MAX && !pair; i++) {
		if (p->pairs[i].client < 0 && p->pairs[i].server < 0) pair = &p->pairs[i];
	}
	if (client < 0 || server < 0 || !pair || connect(server, (struct sockaddr *)&a, sizeof(a)) != 0) {
		shut(&client);
		shut(&server);
		return;
	}
	(void)setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* for speed only */
	(void)setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	*pair = (struct pair){.client = client, .server = server, .target = target};
}

/* True when the chunk has met its fate. */
static bool mistreat(struct proxy *p, struct pair *pair, bool upward, size_t len)
{
	unsigned one_in = atomic_load(&p->one_in);
	if (one_in == 0 || next_random(p) % one_in != 0) return false;
	atomic_fetch_add(&p->cuts, 1);
	int to = upward ? pair->server : pair->client;
	unsigned fate = next_random(p) % 4;
	if (fate == 3 && upward) {
		pair->late = malloc(len);
		if (pair->late) memcpy(pair->late, p->chunk, len);
		pair->late_len = len;
		pair->late_at = now_ms() + next_random(p) % LATE_MAX_MS;
		shut(&pair->client);
		return true;
	}
	if (fate == 1) (void)send_all(to, p->chunk, len / 2); /* cut afterwards in any case */
	if (fate == 2) (void)send_all(to, p->chunk, len);
	drop(pair);
	return true;
}

static bool send_pieces(struct proxy *p, int to, size_t len, size_t piece_max)
{
	for (size_t at = 0; at < len;) {
		size_t piece = 1 + next_random(p) % piece_max;
		if (piece > len - at) piece = len - at;
		if (!send_all(to, p->chunk + at, piece)) return false;
		at += piece;
	}
	return true;
}

/* Passes a chunk on as the habit says; false: the connection ends. */
static bool pass(struct proxy *p, struct pair *pair, bool upward, size_t len)
{
	int to = upward ? pair->server : pair->client;
	struct timespec slow = {0, SLOW_MS * 1000000L};
	switch ((enum proxy_habit)atomic_load(&p->habit)) {
	case PROXY_SLOW:
		(void)nanosleep(&slow, NULL); /* cut short, it is a little faster */
		return send_all(to, p->chunk, len);
	case PROXY_PIECES:
		return send_pieces(p, to, len, upward ? PIECE_MAX : 1);
	case PROXY_HALF_ANSWERS:
		if (upward || next_random(p) % 3 != 0) return send_all(to, p->chunk, len);
		atomic_fetch_add(&p->cuts, 1);
		(void)send_all(to, p->chunk, len / 2); /* cut afterwards in any case */
		return false;
	case PROXY_ONE_ANSWER:
		if (upward) return send_all(to, p->chunk, len);
		atomic_fetch_add(&p->cuts, 1);
		(void)send_all(to, p->chunk, len);
		return false;
	case PROXY_PLAIN:
		break;
	}
	return send_all(to, p->chunk, len);
}

/* True when the chunk is swallowed. */
static bool hangs(struct proxy *p, struct pair *pair, bool upward)
{
	unsigned round = atomic_load(&p->hang_round);
	if (pair->hung) return true;
	if (pair->hang_round != round) pair->chunks = 0;
	pair->hang_round = round;
	if (atomic_load(&p->hang_at) == 0 || upward != atomic_load(&p->hang_upward)) return false;
	pair->hung = ++pair->chunks == atomic_load(&p->hang_at) && atomic_load(&p->hung) < PROXY_HANGS_MAX;
	if (pair->hung) atomic_fetch_add(&p->hung, 1);
	return pair->hung;
}

static void carry(struct proxy *p, struct pair *pair, bool upward)
{
	ssize_t n = recv(upward ? pair->client : pair->server, p->chunk, sizeof(p->chunk), 0);
	if (n <= 0) {
		drop(pair);
		return;
	}
	if (pair->client < 0) return; /* an answer that nobody waits for */
	if (hangs(p, pair, upward)) return;
	if (mistreat(p, pair, upward, (size_t)n)) return;
	if (!pass(p, pair, upward, (size_t)n)) drop(pair);
}

/* The server gets it all, and has a moment to carry it out before it sees the end. */
static void deliver_late(struct pair *pair)
{
	if (pair->server < 0 || pair->client >= 0 || now_ms() < pair->late_at) return;
	if (pair->late) {
		(void)send_all(pair->server, pair->late, pair->late_len); /* the connection ends either way */
		free(pair->late);
		pair->late = NULL;
		pair->late_at = now_ms() + LATE_MAX_MS;
		return;
	}
	drop(pair);
}

static void *run(void *arg)
{
	struct proxy *p = arg;
	while (!atomic_load(&p->stop)) {
		struct pollfd fds[1 + 2 * PAIRS_MAX];
		bool hold = atomic_load(&p->hold);
		atomic_store(&p->holds, hold);
		if (hold) {
			poll_pause();
			continue;
		}
		fds[0] = (struct pollfd){p->listener, POLLIN, 0};
		for (size_t i = 0; i < PAIRS_MAX; i++) {
			fds[1 + 2 * i] = (struct pollfd){p->pairs[i].client, POLLIN, 0}; /* negative ones are passed over */
			fds[2 + 2 * i] = (struct pollfd){p->pairs[i].server, POLLIN, 0};
		}
		(void)poll(fds, 1 + 2 * PAIRS_MAX, 5);
		for (size_t i = 0; i < PAIRS_MAX; i++) {
			struct pair *pair = &p->pairs[i];
			if (pair->server >= 0 && pair->target != atomic_load(&p->server_port)) drop(pair);
			if (pair->client >= 0 && fds[1 + 2 * i].revents) carry(p, pair, true);
			if (pair->server >= 0 && fds[2 + 2 * i].revents) carry(p, pair, false);
			deliver_late(pair);
		}
		if (fds[0].revents) welcome(p);
	}
	return NULL;
}

static void end(void *ctx)
{
	struct proxy *p = ctx;
	atomic_store(&p->stop, true);
	pthread_join(p->thread, NULL);
	for (size_t i = 0; i < PAIRS_MAX; i++) {
		drop(&p->pairs[i]);
	}
	shut(&p->listener);
	free(p);
}

struct proxy *proxy_start(struct scene *s, uint16_t server_port, unsigned seed)
{
	struct proxy *p = calloc(1, sizeof(*p));
	int on = 1;
	scene_require(p, "out of memory");
	for (size_t i = 0; i < PAIRS_MAX; i++) {
		p->pairs[i].client = p->pairs[i].server = -1;
	}
	atomic_store(&p->server_port, server_port);
	p->random = seed;
	p->port = scene_port(s);
	struct sockaddr_in a = local(p->port);
	p->listener = socket(AF_INET, SOCK_STREAM, 0);
	scene_require(p->listener >= 0 && setsockopt(p->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
		bind(p->listener, (struct sockaddr *)&a, sizeof(a)) == 0 && listen(p->listener, 64) == 0, "proxy: no listener");
	scene_require(pthread_create(&p->thread, NULL, run, p) == 0, "proxy: no thread");
	scene_at_end(s, end, p);
	return p;
}

uint16_t proxy_port(const struct proxy *p)
{
	return p->port;
}

void proxy_faults(struct proxy *p, unsigned one_in)
{
	atomic_store(&p->one_in, one_in);
}

unsigned proxy_cuts(const struct proxy *p)
{
	return atomic_load(&p->cuts);
}

void proxy_behave(struct proxy *p, enum proxy_habit habit)
{
	atomic_store(&p->habit, habit);
}

void proxy_lead(struct proxy *p, uint16_t server_port)
{
	atomic_store(&p->server_port, server_port);
}

void proxy_hold(struct proxy *p, bool hold)
{
	atomic_store(&p->hold, hold);
	wait_until(atomic_load(&p->holds) == hold, HOLD_LIMIT_MS, "the proxy to hold, or to go on");
}

void proxy_hang(struct proxy *p, unsigned nth, bool upward)
{
	atomic_store(&p->hang_at, nth);
	atomic_store(&p->hang_upward, upward);
	atomic_store(&p->hung, 0);
	atomic_fetch_add(&p->hang_round, 1);
}

unsigned proxy_hung(const struct proxy *p)
{
	return atomic_load(&p->hung);
}
