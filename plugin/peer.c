/*
 * The bridge's commands. Owns the token of this broker start and the identity of the connection that showed it.
 * Broker thread. Must never act on a command from any other connection.
 */
#include "plugin/peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "config/control.h"
#include "config/topic.h"
#include "plugin/replay.h"

#define REFUSAL_LOG_GAP_MS 10000

struct peer {
	struct devices *devices;
	struct append *append;
	void (*greeted)(void *ctx);
	void *greeted_ctx;
	struct journal *journal;
	const struct outlet *outlet;
	uint64_t (*now_ms)(void);
	char token[PEER_TOKEN_BYTES * 2 + 1];
	char *client;            /* NULL: no bridge */
	uint64_t fence;          /* highest number seen */
	uint64_t heard_ms;
	uint64_t refused, refused_told_ms;
	bool burst_cut;          /* not all of the last answer to more than one probe was handed to the broker */
	struct buf reply, scratch;
};

static enum status token_make(char *out)
{
	unsigned char random[PEER_TOKEN_BYTES];

	if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random) return ST_IO;
	for (size_t i = 0; i < sizeof random; i++) sprintf(out + 2 * i, "%02x", random[i]);
	return ST_OK;
}

static void send(struct peer *p, const char *client)
{
	if (p->reply.failed || p->outlet->tell_bridge(p->outlet->ctx, client, p->reply.data, p->reply.len) != ST_OK)
		log_to(&p->outlet->log, LOG_LEVEL_ERROR, "bridge: out of memory for an answer; it will ask again");
}

/* A batch that took its time. */
static void answer(void *ctx, const char *client, struct entry_id generation, uint32_t sequence,
	enum control_result result)
{
	struct peer *p = ctx;

	if (!p->client) return;
	control_ack(&p->reply, slice_str(client), generation, sequence, result, append_head(p->append));
	send(p, p->client);
}

enum status peer_new(struct devices *devices, struct append *append, struct journal *journal,
	const struct outlet *outlet, uint64_t (*now_ms)(void), struct peer **out)
{
	struct peer *p = calloc(1, sizeof *p);
	enum status st;

	if (!p) return ST_NOMEM;
	p->devices = devices;
	p->append = append;
	p->journal = journal;
	p->outlet = outlet;
	p->now_ms = now_ms;
	st = token_make(p->token);
	if (st != ST_OK) {
		peer_free(p);
		return st;
	}
	devices_answer_by(devices, answer, p);
	*out = p;
	return ST_OK;
}

void peer_free(struct peer *p)
{
	if (!p) return;
	devices_answer_by(p->devices, NULL, NULL);
	explicit_bzero(p->token, sizeof p->token);
	buf_free(&p->reply);
	buf_free(&p->scratch);
	free(p->client);
	free(p);
}

void peer_on_hello(struct peer *p, void (*greeted)(void *ctx), void *ctx)
{
	p->greeted = greeted;
	p->greeted_ctx = ctx;
}

const char *peer_token(const struct peer *p)
{
	return p->token;
}

/* Takes as long for a wrong token as for a right one. */
static bool token_equal(const struct peer *p, struct slice token)
{
	unsigned char difference = 0;

	if (token.len != sizeof p->token - 1) return false;
	for (size_t i = 0; i < token.len; i++)
		difference |= (unsigned char)(token.data[i] ^ p->token[i]);
	return difference == 0;
}

static void tell_refused(struct peer *p, const char *client, const char *why)
{
	uint64_t now = p->now_ms();
	char name[128];

	p->refused++;
	if (p->refused_told_ms != 0 && now - p->refused_told_ms < REFUSAL_LOG_GAP_MS) return;
	p->refused_told_ms = now;
	log_to(&p->outlet->log, LOG_LEVEL_WARNING, "control: refused what client %s asks for: %s (%llu refused so far)",
		log_printable(client, strlen(client), name, sizeof name), why, (unsigned long long)p->refused);
}

static enum status hello(struct peer *p, const char *client, const struct control_command *c)
{
	const char *why = NULL;
	char *name;

	if (!token_equal(p, c->token)) why = "wrong token";
	else if (c->fence < p->fence) why = CONTROL_REFUSED_FENCE;
	if (why) {
		tell_refused(p, client, why);
		control_refused(&p->reply, why);
		send(p, client);
		return ST_OK;
	}
	name = strdup(client);
	if (!name) return ST_NOMEM;
	free(p->client);
	p->client = name;
	p->fence = c->fence;
	p->heard_ms = p->now_ms();
	control_welcome(&p->reply, journal_boot(p->journal));
	send(p, client);
	log_to(&p->outlet->log, LOG_LEVEL_NOTICE, "bridge: connected");
	if (p->greeted) p->greeted(p->greeted_ctx);
	devices_announce(p->devices);
	return ST_OK;
}

/* The operator's: asked for through the bridge. */
static enum control_result replay(struct peer *p, const struct control_command *c)
{
	struct replay_request r = {.filter = c->filter, .from = c->from, .last = c->last};

	if (memchr(c->device.data, 0, c->device.len) || !filter_valid(c->filter)) return CONTROL_ABSENT;
	buf_clear(&p->scratch);
	buf_append_slice(&p->scratch, c->device);
	buf_u8(&p->scratch, 0);
	return p->scratch.failed ? CONTROL_BUSY : replay_begin(p->devices, p->scratch.data, &r);
}

enum status peer_replay(struct peer *p, const char *client, struct slice payload, uint64_t wall_ms)
{
	struct replay_request r;
	enum control_result result;
	const char *why = "out of memory";

	if (replay_parse(payload, wall_ms, &p->scratch, &r, &why) != ST_OK) {
		/* Only who may ask is forgiven a slip of the tongue. */
		tell_refused(p, client, why);
		return devices_may_replay(p->devices, client) ? ST_OK : ST_DENIED;
	}
	result = replay_begin(p->devices, client, &r);
	if (result == CONTROL_DONE) return ST_OK;
	tell_refused(p, client, replay_why(result));
	return result == CONTROL_UNGRANTED ? ST_DENIED : ST_OK;
}

/* As what redelivery hands over: QoS 1, and at once. What the broker drops of it, it would drop for a device. */
static void probe(struct peer *p, const char *client, const struct control_command *c)
{
	bool tells = p->outlet->tells_sent, burst = c->probes > 1;
	struct message m = {.topic = slice_str(CONTROL_TOPIC_BRIDGE), .qos = 1, .payload_format = -1};
	unsigned count = tells ? 1 : c->probes;

	control_probed(&p->reply, c->sequence, p->burst_cut && !burst ? CONTROL_PROBE_MAX : c->probes, tells);
	if (burst) p->burst_cut = p->reply.failed;
	if (p->reply.failed) return; /* it asks again */
	m.payload = slice_of(p->reply.data, p->reply.len);
	for (unsigned i = 0; i < count; i++) {
		if (p->outlet->deliver(p->outlet->ctx, client, &m, 1, DELIVERY_HELD, false) == ST_OK) continue;
		if (burst) p->burst_cut = true; /* what comes of it must not pass for what the broker takes */
		return;
	}
}

bool peer_is(const struct peer *p, const char *client)
{
	return p->client && strcmp(p->client, client) == 0;
}

enum status peer_command(struct peer *p, const char *client, struct slice payload)
{
	struct control_command c;
	enum control_result result;

	if (control_decode(payload, &c) != ST_OK) {
		tell_refused(p, client, "damaged command");
		return ST_DENIED;
	}
	if (c.type == CONTROL_HELLO) return hello(p, client, &c);
	if (!peer_is(p, client)) {
		tell_refused(p, client, "it has not shown the token");
		return ST_DENIED;
	}
	p->heard_ms = p->now_ms();
	switch (c.type) {
	case CONTROL_BATCH: result = devices_batch(p->devices, &c); break;
	case CONTROL_SWITCH: result = devices_switch(p->devices, &c); break;
	case CONTROL_REPLAY: result = replay(p, &c); break;
	case CONTROL_PROBE:
		probe(p, client, &c);
		return ST_OK;
	case CONTROL_LIMIT:
		devices_queue_limit(p->devices, c.queue_limit);
		return ST_OK;
	default:
		tell_refused(p, client, "not a command for the plugin");
		return ST_DENIED;
	}
	if (result == CONTROL_LATER) return ST_OK; /* answered when it is done */
	control_ack(&p->reply, c.device, c.generation, c.sequence, result, append_head(p->append));
	send(p, client);
	return ST_OK;
}

void peer_disconnected(struct peer *p, const char *client)
{
	if (!peer_is(p, client)) return;
	free(p->client);
	p->client = NULL;
	log_to(&p->outlet->log, LOG_LEVEL_NOTICE, "bridge: disconnected");
}

bool peer_present(const struct peer *p, uint64_t ms)
{
	return p->client && p->now_ms() - p->heard_ms < ms;
}
