/*
 * libmosquitto under libuv. Owns the client, its timers and the polled descriptor. Loop thread. It must never poll
 * the client's own socket: libmosquitto closes that by itself, which libuv forbids while it is polled; a duplicate is
 * polled.
 */
#include "bridge/mqtt.h"

#include <errno.h>
#include <limits.h>
#include "config/mosquitto_version.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "config/buf.h"
#include "config/control.h"
#include "config/loop_needs.h"
#include "config/message.h"
#include "config/resolve.h"
#include "config/tls.h"

#define KEEPALIVE_S 30
#define MISC_MS 500
#define CONNECT_TIMEOUT_MS 5000
#define READ_PACKETS_MAX 64
#define READ_PACKETS_TLS_MAX 8192 /* of a TLS record, 16 KiB: polling does not tell that some of it is left */
#define LOOKUP_TIMEOUT_MS 5000

/* Polls one duplicate; lives until its handle is closed. */
struct watch {
	uv_poll_t poll;
	int fd;
	int events;
	struct mqtt *owner; /* NULL: given up */
};

struct mqtt {
	uv_loop_t *loop;
	const struct settings *settings;
	const struct log_sink *log;
	struct mqtt_events events;
	struct mosquitto *client;
	struct resolver *resolver;
	SSL_CTX *tls; /* NULL: plain */
	struct tls_peer peer;
	struct watch *watch;
	uv_timer_t misc, retry, late;
	unsigned backoff_ms;
	const char *role; /* NULL: the one for control */
	unsigned receive_maximum;
	struct buf texts;  /* of the message being sent */
	struct buf early;  /* numbers (int) whose publish was acknowledged or written while mqtt_send was under way */
	bool sending;
	unsigned random;
	uint64_t connecting_since;
	bool running;
	bool connected, told; /* told: the present trouble was logged */
	bool in_library;
	unsigned closing;
	void (*closed)(void *ctx);
	void *closed_ctx;
};

static void turn(struct mqtt *m);
static void down(struct mqtt *m, const char *why);

/* --- the polled duplicate -------------------------------------------------------------------------------------- */

static void watch_closed(uv_handle_t *handle)
{
	struct watch *w = handle->data;

	(void)close(w->fd);
	free(w);
}

static void watch_drop(struct mqtt *m)
{
	if (!m->watch) return;
	m->watch->owner = NULL;
	(void)uv_poll_stop(&m->watch->poll);
	uv_close((uv_handle_t *)&m->watch->poll, watch_closed);
	m->watch = NULL;
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct watch *w = poll->data;
	struct mqtt *m = w->owner;

	if (!m) return;
	m->in_library = true;
	if (status < 0 || (events & (UV_READABLE | UV_DISCONNECT))) {
		for (int i = 0; i < (m->tls ? READ_PACKETS_TLS_MAX : READ_PACKETS_MAX) && m->watch == w; i++) {
			errno = 0;
			if (mosquitto_loop_read(m->client, 1) != MOSQ_ERR_SUCCESS || errno == EAGAIN) break;
		}
	}
	if (m->watch == w && (events & UV_WRITABLE)) (void)mosquitto_loop_write(m->client, 1);
	m->in_library = false;
	turn(m);
}

static bool watch_make(struct mqtt *m)
{
	struct watch *w = calloc(1, sizeof(*w));

	if (!w) return false;
	w->fd = dup(mosquitto_socket(m->client));
	if (w->fd < 0 || loop_memory(w->fd) != ST_OK || uv_poll_init(m->loop, &w->poll, w->fd) != 0) {
		if (w->fd >= 0) (void)close(w->fd);
		free(w);
		return false;
	}
	w->poll.data = w;
	w->owner = m;
	m->watch = w;
	return true;
}

/* After anything that may have changed what the library waits for. */
static void turn(struct mqtt *m)
{
	int events = UV_READABLE;

	if (m->in_library || m->closing || !m->running) return;
	if (mosquitto_socket(m->client) < 0) {
		down(m, "the connection was closed");
		return;
	}
	if (!m->watch) return;
	if (mosquitto_want_write(m->client)) events |= UV_WRITABLE;
	if (events == m->watch->events) return;
	m->watch->events = events;
	if (loop_poll(&m->watch->poll, events, on_poll) != ST_OK) down(m, "cannot poll its socket");
}

/* --- connecting ------------------------------------------------------------------------------------------------ */

static void tell(struct mqtt *m, const char *why)
{
	if (m->told) return;
	m->told = true;
	log_to(m->log, LOG_LEVEL_WARNING, "broker %s%s%s: %s%s%s; trying again until it is there", m->settings->broker_url,
		m->role ? ", " : "", m->role ? m->role : "", why,
		m->peer.refused ? ": its certificate is refused: " : "",
		m->peer.refused ? X509_verify_cert_error_string(m->peer.refused) : "");
}

static void on_retry(uv_timer_t *timer);

/* Not connected any more: whatever there was is dropped, and a later attempt is due. */
static void down(struct mqtt *m, const char *why)
{
	bool was_connected = m->connected;
	unsigned wait;

	watch_drop(m);
	buf_clear(&m->early);
	m->connected = false;
	m->connecting_since = 0;
	if (m->closing) return;
	tell(m, why);
	m->random = m->random * 1103515245u + 12345u;
	wait = m->backoff_ms / 2 + (m->random >> 16) % (m->backoff_ms / 2 + 1);
	m->backoff_ms = m->backoff_ms * 2 < MQTT_BACKOFF_MS_MAX ? m->backoff_ms * 2 : MQTT_BACKOFF_MS_MAX;
	(void)uv_timer_start(&m->retry, on_retry, wait, 0);
	if (was_connected) m->events.lost(m->events.ctx);
}

static enum status credentials(struct mqtt *m)
{
	const struct settings *s = m->settings;
	char *password = NULL;
	enum status st = ST_OK;

	/* Without a name nothing is sent, not even what was set before a reload. */
	if (s->broker_username && s->broker_password_file) st = password_read(s->broker_password_file, &password);
	if (st == ST_OK && mosquitto_username_pw_set(m->client, s->broker_username, password) != MOSQ_ERR_SUCCESS) {
		st = ST_NOMEM;
	}
	if (password) {
		explicit_bzero(password, strlen(password));
		free(password);
	}
	return st;
}

static enum status client_make(struct mqtt *m);
static bool may_go_on(struct mqtt *m);

/* The first address that does not refuse at once. */
static void on_found(void *ctx, enum status st, const struct resolved *found, const char *why)
{
	struct mqtt *m = ctx;
	int rc = MOSQ_ERR_NO_CONN;

	if (!may_go_on(m)) return; /* a look-up takes its time */
	if (st != ST_OK) {
		down(m, why);
		return;
	}
	m->in_library = true;
	for (size_t i = 0; i < found->count && rc != MOSQ_ERR_SUCCESS; i++) {
		char address[RESOLVE_TEXT_MAX];

		rc = mosquitto_connect_async(m->client, resolved_text(&found->address[i], address), m->settings->broker.port,
			KEEPALIVE_S);
	}
	m->in_library = false;
	if (rc != MOSQ_ERR_SUCCESS) {
		down(m, rc == MOSQ_ERR_ERRNO ? strerror(errno) : mosquitto_strerror(rc));
		return;
	}
	if (mosquitto_socket(m->client) < 0 || !watch_make(m)) {
		down(m, "no socket");
		return;
	}
	m->connecting_since = uv_now(m->loop);
	turn(m);
}

static bool may_go_on(struct mqtt *m)
{
	if (!m->events.may_connect || m->events.may_connect(m->events.ctx)) return true;
	(void)uv_timer_start(&m->retry, on_retry, MISC_MS, 0);
	return false;
}

static void on_retry(uv_timer_t *timer)
{
	struct mqtt *m = timer->data;
	const struct settings *s = m->settings;
	struct tls_files files = {s->broker_tls_ca, s->broker_tls_cert, s->broker_tls_key};
	char why[256];

	if (!may_go_on(m)) return;
	/* libmosquitto would send what was not acknowledged again by itself, and a half finished QoS 2 publish not at all. And 2.1
	 * keeps what it had read ahead when the connection ended in the middle of that (for want of memory, say), takes it for the begin
	 * of the next one, and so refuses every CONNACK. */
	mosquitto_destroy(m->client);
	m->client = NULL;
	if (client_make(m) != ST_OK) {
		down(m, "out of memory");
		return;
	}
	/* Both are read each time: they may have been changed. */
	if (credentials(m) != ST_OK) {
		down(m, "its password file cannot be read");
		return;
	}
	if (m->tls && tls_context_load(m->tls, &files, why, sizeof(why)) != ST_OK) {
		down(m, why);
		return;
	}
	m->peer.refused = X509_V_OK;
	resolver_start(m->resolver, s->broker.host, s->broker.port, LOOKUP_TIMEOUT_MS, on_found, m);
}

static void on_misc(uv_timer_t *timer)
{
	struct mqtt *m = timer->data;

	if (!m->watch) return;
	if (!m->connected && uv_now(m->loop) - m->connecting_since > CONNECT_TIMEOUT_MS) {
		down(m, "no answer");
		return;
	}
	m->in_library = true;
	(void)mosquitto_loop_misc(m->client);
	m->in_library = false;
	turn(m);
}

static void on_connect(struct mosquitto *client, void *ctx, int reason, int flags, const mosquitto_property *properties)
{
	struct mqtt *m = ctx;
	uint16_t receive_maximum = UINT16_MAX; /* when it is not sent */

	(void)client;
	(void)flags;
	if (m->closing) return;
	if (reason != 0) {
		char why[96];

		snprintf(why, sizeof(why), "refuses the connection: %s",
			mosquitto_reason_string(reason));
		tell(m, why);
		return; /* the broker closes it, or the time-out does */
	}
	(void)mosquitto_property_read_int16(properties, MQTT_PROP_RECEIVE_MAXIMUM, &receive_maximum, false);
	m->receive_maximum = receive_maximum > 0 ? receive_maximum : 1;
	m->connected = true;
	m->told = false;
	m->backoff_ms = MQTT_BACKOFF_MS_MIN;
	log_to(m->log, LOG_LEVEL_NOTICE, "broker %s%s%s: connected", m->settings->broker_url, m->role ? ", " : "",
		m->role ? m->role : "");
	m->events.connected(m->events.ctx);
}

static void on_message(struct mosquitto *client, void *ctx, const struct mosquitto_message *message)
{
	struct mqtt *m = ctx;

	(void)client;
	if (m->closing || message->payloadlen < 0) return;
	m->events.message(m->events.ctx, slice_str(message->topic),
		slice_of(message->payload ? message->payload : "", (size_t)message->payloadlen));
}

static void on_publish(struct mosquitto *client, void *ctx, int mid, int reason, const mosquitto_property *properties)
{
	struct mqtt *m = ctx;

	(void)client;
	(void)properties;
	if (m->closing) return;
	if (m->sending) buf_append(&m->early, &mid, sizeof(mid));
	else m->events.published(m->events.ctx, mid, reason);
}

/* Of QoS 0 only: acknowledgements are read from the loop. The end of one that was partly written goes out with the next. */
static void on_late(uv_timer_t *timer)
{
	struct mqtt *m = timer->data;
	struct buf mids = m->early;

	m->early = (struct buf){0};
	if (mids.failed) down(m, "out of memory"); /* what is not known to be written counts as lost with the connection */
	for (size_t at = 0; at < mids.len && m->connected; at += sizeof(int)) {
		int mid;

		memcpy(&mid, mids.data + at, sizeof(mid));
		m->events.published(m->events.ctx, mid, 0);
	}
	buf_free(&mids);
}

/* --- outside --------------------------------------------------------------------------------------------------- */

/* Every bridge of a node has the same id: the broker itself ends the connection of the one before, with whatever that one
 * has still under way. */
static enum status client_make(struct mqtt *m)
{
	char id[CONTROL_CLIENT_MAX];

	snprintf(id, sizeof(id), CONTROL_CLIENT, m->role ? m->role : "bridge", m->settings->node);
	m->client = mosquitto_new(id, true, m);
	if (!m->client) return ST_NOMEM;
	if (mosquitto_int_option(m->client, MOSQ_OPT_PROTOCOL_VERSION, MQTT_PROTOCOL_V5) != MOSQ_ERR_SUCCESS
		|| mosquitto_int_option(m->client, MOSQ_OPT_TCP_NODELAY, 1) != MOSQ_ERR_SUCCESS) return ST_UNSUPPORTED;
	mosquitto_connect_v5_callback_set(m->client, on_connect);
	mosquitto_message_callback_set(m->client, on_message);
	if (m->events.published) {
		mosquitto_publish_v5_callback_set(m->client, on_publish);
		/* Who publishes keeps to the broker's receive maximum; libmosquitto's own limit is lower. */
		if (mosquitto_int_option(m->client, MOSQ_OPT_SEND_MAXIMUM, UINT16_MAX) != MOSQ_ERR_SUCCESS) return ST_UNSUPPORTED;
	}
	if (!m->settings->broker.tls) return ST_OK;
	SSL_CTX_free(m->tls); /* the client before is gone */
	m->tls = tls_context_new();
	m->peer.host = m->settings->broker.host;
	if (!m->tls || tls_context_peer(m->tls, &m->peer) != ST_OK) return ST_NOMEM;
	/* libmosquitto knows addresses only: the check of the name is ours, in the context. */
	if (mosquitto_void_option(m->client, MOSQ_OPT_SSL_CTX, m->tls) != MOSQ_ERR_SUCCESS
		|| mosquitto_int_option(m->client, MOSQ_OPT_SSL_CTX_WITH_DEFAULTS, 0) != MOSQ_ERR_SUCCESS) return ST_UNSUPPORTED;
	return ST_OK;
}

enum status mqtt_new(uv_loop_t *loop, const struct settings *settings, const struct log_sink *log,
	const struct mqtt_events *events, struct mqtt **out)
{
	return mqtt_new_role(loop, settings, NULL, log, events, out);
}

enum status mqtt_new_role(uv_loop_t *loop, const struct settings *settings, const char *role, const struct log_sink *log,
	const struct mqtt_events *events, struct mqtt **out)
{
	struct mqtt *m = calloc(1, sizeof(*m));
	enum status st;

	if (!m) return ST_NOMEM;
	m->role = role;
	m->loop = loop;
	m->settings = settings;
	m->log = log;
	m->events = *events;
	m->backoff_ms = MQTT_BACKOFF_MS_MIN;
	m->random = (unsigned)uv_hrtime() ^ (unsigned)getpid();
	(void)mosquitto_lib_init();
	st = client_make(m);
	if (st == ST_OK) st = resolver_new(loop, &m->resolver);
	if (st != ST_OK) {
		mosquitto_destroy(m->client);
		SSL_CTX_free(m->tls);
		(void)mosquitto_lib_cleanup();
		free(m);
		return st;
	}
	(void)uv_timer_init(loop, &m->misc);
	(void)uv_timer_init(loop, &m->retry);
	(void)uv_timer_init(loop, &m->late);
	m->misc.data = m->retry.data = m->late.data = m;
	*out = m;
	return ST_OK;
}

void mqtt_start(struct mqtt *m)
{
	if (m->running || m->closing) return;
	m->running = true;
	m->told = false;
	m->backoff_ms = MQTT_BACKOFF_MS_MIN;
	(void)uv_timer_start(&m->misc, on_misc, MISC_MS, MISC_MS);
	(void)uv_timer_start(&m->retry, on_retry, 0, 0);
}

void mqtt_stop(struct mqtt *m)
{
	if (!m->running || m->closing) return;
	m->running = false;
	(void)uv_timer_stop(&m->misc);
	(void)uv_timer_stop(&m->retry);
	(void)uv_timer_stop(&m->late);
	buf_clear(&m->early);
	resolver_stop(m->resolver);
	if (m->connected) (void)mosquitto_disconnect(m->client);
	watch_drop(m);
	mosquitto_destroy(m->client); /* the only way to have its socket closed now */
	m->client = NULL;
	m->connected = false;
	m->connecting_since = 0;
}

bool mqtt_is_connected(const struct mqtt *m)
{
	return m->connected;
}

/* The library could not write, for whatever reason (ENOBUFS says nothing of the connection): what it was given may be half
 * written, or waits in it although the caller hears that it was not taken. So the connection is to end, at the next read. */
static enum status unwritten(struct mqtt *m)
{
	int fd = mosquitto_socket(m->client);

	if (fd >= 0) (void)shutdown(fd, SHUT_RDWR); /* it may be down already */
	return ST_LOST;
}

enum status mqtt_subscribe(struct mqtt *m, const char *filter)
{
	if (!m->connected) return ST_LOST;
	if (mosquitto_subscribe(m->client, NULL, filter, 0) != MOSQ_ERR_SUCCESS) return unwritten(m);
	turn(m);
	return ST_OK;
}

enum status mqtt_publish(struct mqtt *m, const char *topic, struct slice payload)
{
	int rc;

	if (!m->connected || m->closing) return ST_LOST;
	if (payload.len > INT_MAX) return ST_TOO_LARGE;
	rc = mosquitto_publish(m->client, NULL, topic, (int)payload.len, payload.data, 0, false);
	if (m->watch && !m->in_library && mosquitto_want_write(m->client)) turn(m);
	switch (rc) {
	case MOSQ_ERR_SUCCESS:
		return ST_OK;
	case MOSQ_ERR_OVERSIZE_PACKET:
	case MOSQ_ERR_PAYLOAD_SIZE:
		return ST_TOO_LARGE;
	case MOSQ_ERR_NOMEM:
		return ST_NOMEM;
	default:
		return unwritten(m);
	}
}

/* --- messages with all their properties ------------------------------------------------------------------------ */

/* A text with a NUL behind it, for libmosquitto. */
static const char *text_of(struct mqtt *m, struct slice s)
{
	const char *text = m->texts.data + m->texts.len;

	buf_append_slice(&m->texts, s);
	buf_append(&m->texts, "", 1);
	return text;
}

static int user_properties_add(struct mqtt *m, mosquitto_property **p, struct slice rest)
{
	struct slice name, value;
	int rc = MOSQ_ERR_SUCCESS;

	while (rc == MOSQ_ERR_SUCCESS && user_property_next(&rest, &name, &value)) {
		const char *name_text = text_of(m, name);
		rc = mosquitto_property_add_string_pair(p, MQTT_PROP_USER_PROPERTY, name_text, text_of(m, value));
	}
	return rc;
}

static int properties_make(struct mqtt *m, const struct mqtt_message *message, mosquitto_property **p)
{
	int rc = MOSQ_ERR_SUCCESS;

	if (message->has_expiry) {
		rc = mosquitto_property_add_int32(p, MQTT_PROP_MESSAGE_EXPIRY_INTERVAL, message->expiry_s);
	}
	if (rc == MOSQ_ERR_SUCCESS && message->payload_format >= 0) {
		rc = mosquitto_property_add_byte(p, MQTT_PROP_PAYLOAD_FORMAT_INDICATOR, (uint8_t)message->payload_format);
	}
	if (rc == MOSQ_ERR_SUCCESS && message->content_type.data) {
		rc = mosquitto_property_add_string(p, MQTT_PROP_CONTENT_TYPE, text_of(m, message->content_type));
	}
	if (rc == MOSQ_ERR_SUCCESS && message->response_topic.data) {
		rc = mosquitto_property_add_string(p, MQTT_PROP_RESPONSE_TOPIC, text_of(m, message->response_topic));
	}
	if (rc == MOSQ_ERR_SUCCESS && message->correlation.data) {
		rc = mosquitto_property_add_binary(p, MQTT_PROP_CORRELATION_DATA, message->correlation.data,
			(uint16_t)message->correlation.len);
	}
	if (rc == MOSQ_ERR_SUCCESS) rc = user_properties_add(m, p, message->user_properties);
	return rc;
}

static enum status send_status(struct mqtt *m, int rc)
{
	switch (rc) {
	case MOSQ_ERR_SUCCESS: return ST_OK;
	case MOSQ_ERR_OVERSIZE_PACKET:
	case MOSQ_ERR_PAYLOAD_SIZE: return ST_TOO_LARGE;
	case MOSQ_ERR_NOMEM: return ST_NOMEM;
	case MOSQ_ERR_INVAL:
	case MOSQ_ERR_MALFORMED_UTF8:
	case MOSQ_ERR_QOS_NOT_SUPPORTED:
	case MOSQ_ERR_DUPLICATE_PROPERTY:
	case MOSQ_ERR_PROTOCOL: return ST_INVALID;
	default: return unwritten(m);
	}
}

/* Takes out `mid`, if it is the last. */
static bool early_take(struct mqtt *m, int mid)
{
	int last;

	if (m->early.len < sizeof(last)) return false;
	memcpy(&last, m->early.data + m->early.len - sizeof(last), sizeof(last));
	if (last != mid) return false;
	m->early.len -= sizeof(last);
	return true;
}

enum status mqtt_send(struct mqtt *m, const struct mqtt_message *message, int *mid, bool *done)
{
	size_t texts = message->topic.len + message->content_type.len + message->response_topic.len +
		2 * message->user_properties.len + 8;
	mosquitto_property *properties = NULL;
	const char *topic;
	int rc;

	if (!m->connected || m->closing) return ST_LOST;
	if (message->payload.len > INT_MAX) return ST_TOO_LARGE;
	buf_clear(&m->texts);
	if (!buf_reserve(&m->texts, texts)) return ST_NOMEM; /* so that it does not move */
	topic = text_of(m, message->topic);
	rc = properties_make(m, message, &properties);
	if (rc == MOSQ_ERR_SUCCESS) {
		m->sending = true;
		rc = mosquitto_publish_v5(m->client, mid, topic, (int)message->payload.len, message->payload.data, message->qos,
			message->retain, properties);
		m->sending = false;
	}
	mosquitto_property_free_all(&properties);
	*done = rc == MOSQ_ERR_SUCCESS && early_take(m, *mid);
	if (m->early.len > 0 || m->early.failed) (void)uv_timer_start(&m->late, on_late, 0, 0);
	if (m->watch && !m->in_library && mosquitto_want_write(m->client)) turn(m);
	return send_status(m, rc);
}

unsigned mqtt_receive_maximum(const struct mqtt *m)
{
	return m->receive_maximum;
}

static void part_gone(void *ctx)
{
	struct mqtt *m = ctx;

	if (--m->closing > 0) return;
	buf_free(&m->texts);
	buf_free(&m->early);
	SSL_CTX_free(m->tls);
	if (m->closed) m->closed(m->closed_ctx);
	free(m);
}

static void part_closed(uv_handle_t *handle)
{
	part_gone(handle->data);
}

void mqtt_close(struct mqtt *m, void (*closed)(void *ctx), void *ctx)
{
	if (m->closing) return;
	m->closing = 4;
	m->closed = closed;
	m->closed_ctx = ctx;
	if (m->connected) (void)mosquitto_disconnect(m->client);
	watch_drop(m);
	mosquitto_destroy(m->client); /* and with it its last TLS connection */
	m->client = NULL;
	(void)mosquitto_lib_cleanup();
	resolver_close(m->resolver, part_gone, m);
	uv_close((uv_handle_t *)&m->misc, part_closed);
	uv_close((uv_handle_t *)&m->retry, part_closed);
	uv_close((uv_handle_t *)&m->late, part_closed);
}
