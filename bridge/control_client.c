/*
 * The conversation with the plugin. Owns its state and the retry timer. Loop thread. It must never log the token, nor
 * send a command before WELCOME.
 */
#include "bridge/control_client.h"

#include <stdlib.h>

#include "bridge/fetch_source.h"
#include "config/keys.h"
#include "config/resp.h"

#define REFUSED_RETRY_MS 500
#define ANSWER_TIMEOUT_MS 2000
#define TELL_EVERY 30 /* attempts */

enum state { WAITING, READING_TOKEN, HELLO_SENT, OPEN };

struct control_client {
	const struct settings *settings;
	const struct log_sink *log;
	struct mqtt *mqtt;
	struct redis_link *link;
	struct control_calls calls;
	enum state state;
	bool allowed;
	uint64_t fence;
	struct entry_id boot;
	unsigned attempts; /* without success, for the log */
	uv_timer_t timer;
	struct buf commands, key, packet;
	bool closing;
	void (*closed)(void *ctx);
	void *closed_ctx;
};

static void begin(struct control_client *cc);

static void on_timer(uv_timer_t *timer)
{
	struct control_client *cc = timer->data;

	if (cc->state == HELLO_SENT) {
		if (cc->attempts++ % TELL_EVERY == 0) {
			log_to(cc->log, LOG_LEVEL_WARNING,
				"control: no answer from the plugin; is it loaded in the broker at %s, and "
				"may this client write to %s?", cc->settings->broker_url, CONTROL_TOPIC);
		}
	}
	if (cc->state != OPEN) cc->state = WAITING;
	begin(cc);
}

static void again_in(struct control_client *cc, unsigned ms)
{
	cc->state = WAITING;
	if (!cc->closing) (void)uv_timer_start(&cc->timer, on_timer, ms, 0);
}

static void hello(struct control_client *cc, struct slice token)
{
	control_hello(&cc->packet, cc->fence, token);
	if (cc->packet.failed) {
		again_in(cc, REFUSED_RETRY_MS);
		return;
	}
	cc->state = HELLO_SENT;
	cc->calls.opening(cc->calls.ctx);
	if (mqtt_publish(cc->mqtt, CONTROL_TOPIC, slice_of(cc->packet.data, cc->packet.len)) != ST_OK) {
		again_in(cc, REFUSED_RETRY_MS);
	} else {
		(void)uv_timer_start(&cc->timer, on_timer, ANSWER_TIMEOUT_MS, 0);
	}
	explicit_bzero(cc->packet.data, cc->packet.len);
	buf_clear(&cc->packet);
}

static void on_token(void *ctx, const redisReply *reply, size_t index)
{
	struct control_client *cc = ctx;

	(void)index;
	if (cc->closing || cc->state != READING_TOKEN) return;
	if (!reply || !cc->allowed) {
		cc->state = WAITING; /* ready comes again */
		return;
	}
	if (!mqtt_is_connected(cc->mqtt)) {
		cc->state = WAITING;
		return;
	}
	if (reply->type != REDIS_REPLY_STRING) {
		if (cc->attempts++ % TELL_EVERY == 0) {
			log_to(cc->log, LOG_LEVEL_WARNING,
				"control: the plugin has left no token in Redis yet (node %s, prefix %s)",
				cc->settings->node, cc->settings->prefix);
		}
		again_in(cc, REFUSED_RETRY_MS);
		return;
	}
	hello(cc, reply_slice(reply));
}

/* Reads the token if everything is there for it. */
static void begin(struct control_client *cc)
{
	if (cc->closing || cc->state != WAITING || !cc->allowed) return;
	if (!mqtt_is_connected(cc->mqtt) || !redis_link_is_ready(cc->link)) return;
	(void)uv_timer_stop(&cc->timer);
	buf_clear(&cc->commands);
	(void)key_make(&cc->key, settings_keys(cc->settings), KEY_TOKEN, slice_str(cc->settings->node));
	resp_begin(&cc->commands, 2);
	resp_arg_str(&cc->commands, "GET");
	resp_arg(&cc->commands, slice_of(cc->key.data, cc->key.len));
	cc->state = READING_TOKEN;
	if (cc->key.failed || cc->commands.failed
		|| redis_link_send(cc->link, &cc->commands, 1, 0, on_token, cc) != ST_OK) again_in(cc, REFUSED_RETRY_MS);
}

static void on_welcome(struct control_client *cc, struct entry_id boot)
{
	if (cc->state != HELLO_SENT) return;
	cc->boot = boot;
	(void)uv_timer_stop(&cc->timer);
	cc->state = OPEN;
	cc->attempts = 0;
	/* Before the first command. A refusal leaves a plugin that needs it without; a loss shows at once. */
	(void)!mqtt_subscribe(cc->mqtt, CONTROL_TOPIC_TURN);
	log_to(cc->log, LOG_LEVEL_NOTICE, "control: the plugin has let this bridge in");
	cc->calls.open(cc->calls.ctx);
}

static void on_refused(struct control_client *cc, struct slice reason)
{
	char text[128];

	if (cc->attempts++ % TELL_EVERY == 0) {
		log_to(cc->log, LOG_LEVEL_WARNING, "control: refused by the plugin: %s; trying again",
			log_printable(reason.data, reason.len, text, sizeof(text)));
	}
	if (cc->state == OPEN) cc->calls.shut(cc->calls.ctx);
	again_in(cc, REFUSED_RETRY_MS);
	if (slice_equal(reason, slice_str(CONTROL_REFUSED_FENCE))) cc->calls.overtaken(cc->calls.ctx);
}

void control_client_message(struct control_client *cc, struct slice topic, struct slice payload)
{
	struct control_command c;

	if (cc->closing || !slice_equal(topic, slice_str(CONTROL_TOPIC_BRIDGE))) return;
	if (control_decode(payload, &c) != ST_OK) {
		log_to(cc->log, LOG_LEVEL_WARNING, "control: a damaged message from the plugin was ignored (%zu bytes)",
			payload.len);
		return;
	}
	switch (c.type) {
	case CONTROL_WELCOME:
		on_welcome(cc, c.boot);
		break;
	case CONTROL_REFUSED:
		on_refused(cc, c.reason);
		break;
	case CONTROL_ACK:
		/* Before WELCOME it answers what is void already. */
		if (cc->state == OPEN) cc->calls.ack(cc->calls.ctx, &c);
		break;
	case CONTROL_PROBED:
		if (cc->state == OPEN) cc->calls.probed(cc->calls.ctx, &c);
		break;
	default:
		break;
	}
}

enum status control_client_new(uv_loop_t *loop, const struct settings *settings, const struct log_sink *log,
	struct mqtt *mqtt, struct redis_link *link, const struct control_calls *calls, struct control_client **out)
{
	struct control_client *cc = calloc(1, sizeof(*cc));

	if (!cc) return ST_NOMEM;
	cc->settings = settings;
	cc->log = log;
	cc->mqtt = mqtt;
	cc->link = link;
	cc->calls = *calls;
	(void)uv_timer_init(loop, &cc->timer);
	cc->timer.data = cc;
	*out = cc;
	return ST_OK;
}

void control_client_allow(struct control_client *cc, uint64_t fence)
{
	cc->allowed = true;
	cc->fence = fence;
	begin(cc);
}

void control_client_forbid(struct control_client *cc)
{
	cc->allowed = false;
	control_client_lost(cc);
}

void control_client_ready(struct control_client *cc)
{
	begin(cc);
}

void control_client_lost(struct control_client *cc)
{
	bool was_open = cc->state == OPEN;

	if (cc->closing) return;
	(void)uv_timer_stop(&cc->timer);
	cc->state = WAITING;
	if (was_open) cc->calls.shut(cc->calls.ctx);
}

void control_client_again(struct control_client *cc)
{
	control_client_lost(cc);
	begin(cc);
}

struct entry_id control_client_boot(const struct control_client *cc)
{
	return cc->boot;
}

bool control_client_is_open(const struct control_client *cc)
{
	return cc->state == OPEN;
}

enum status control_client_send(struct control_client *cc, struct slice payload)
{
	if (cc->state != OPEN) return ST_LOST;
	return mqtt_publish(cc->mqtt, CONTROL_TOPIC, payload);
}

static void timer_closed(uv_handle_t *handle)
{
	struct control_client *cc = handle->data;

	buf_free(&cc->commands);
	buf_free(&cc->key);
	buf_free(&cc->packet);
	if (cc->closed) cc->closed(cc->closed_ctx);
	free(cc);
}

void control_client_close(struct control_client *cc, void (*closed)(void *ctx), void *ctx)
{
	if (cc->closing) return;
	cc->closing = true;
	cc->closed = closed;
	cc->closed_ctx = ctx;
	uv_close((uv_handle_t *)&cc->timer, timer_closed);
}
