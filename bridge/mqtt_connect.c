/*
 * Getting connected and staying so: an attempt, with a client of libmosquitto of its own, and the wait before the next one.
 * Owns the client. Loop thread. It must never let a client outlive its connection: what that left in it would be sent again.
 */
#include "bridge/mqtt_parts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/control.h"

#define KEEPALIVE_S 30
#define MISC_MS 500
#define CONNECT_TIMEOUT_MS 5000
#define LOOKUP_TIMEOUT_MS 5000

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

void mqtt_down(struct mqtt *m, const char *why)
{
	bool was_connected = m->connected;
	unsigned wait;

	mqtt_watch_drop(m);
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

/* Every bridge of a node has the same id: the broker itself ends the connection of the one before, with whatever that one
 * has still under way. */
enum status mqtt_client_make(struct mqtt *m)
{
	char id[CONTROL_CLIENT_MAX];

	snprintf(id, sizeof(id), CONTROL_CLIENT, m->role ? m->role : "bridge", m->settings->node);
	m->client = mosquitto_new(id, true, m);
	if (!m->client) return ST_NOMEM;
	if (mosquitto_int_option(m->client, MOSQ_OPT_PROTOCOL_VERSION, MQTT_PROTOCOL_V5) != MOSQ_ERR_SUCCESS
		|| mosquitto_int_option(m->client, MOSQ_OPT_TCP_NODELAY, 1) != MOSQ_ERR_SUCCESS) return ST_UNSUPPORTED;
	mosquitto_connect_v5_callback_set(m->client, on_connect);
	mosquitto_message_callback_set(m->client, mqtt_on_message);
	if (m->events.published) {
		mosquitto_publish_v5_callback_set(m->client, mqtt_on_publish);
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

static bool may_go_on(struct mqtt *m)
{
	if (!m->events.may_connect || m->events.may_connect(m->events.ctx)) return true;
	(void)uv_timer_start(&m->retry, on_retry, MISC_MS, 0);
	return false;
}

/* The first address that does not refuse at once. */
static void on_found(void *ctx, enum status st, const struct resolved *found, const char *why)
{
	struct mqtt *m = ctx;
	int rc = MOSQ_ERR_NO_CONN;

	if (!may_go_on(m)) return; /* a look-up takes its time */
	if (st != ST_OK) {
		mqtt_down(m, why);
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
		mqtt_down(m, rc == MOSQ_ERR_ERRNO ? strerror(errno) : mosquitto_strerror(rc));
		return;
	}
	if (mosquitto_socket(m->client) < 0 || !mqtt_watch_make(m)) {
		mqtt_down(m, "no socket");
		return;
	}
	m->connecting_since = uv_now(m->loop);
	mqtt_turn(m);
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
	if (mqtt_client_make(m) != ST_OK) {
		mqtt_down(m, "out of memory");
		return;
	}
	/* Both are read each time: they may have been changed. */
	if (credentials(m) != ST_OK) {
		mqtt_down(m, "its password file cannot be read");
		return;
	}
	if (m->tls && tls_context_load(m->tls, &files, why, sizeof(why)) != ST_OK) {
		mqtt_down(m, why);
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
		mqtt_down(m, "no answer");
		return;
	}
	m->in_library = true;
	(void)mosquitto_loop_misc(m->client);
	m->in_library = false;
	mqtt_turn(m);
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
	mqtt_watch_drop(m);
	mosquitto_destroy(m->client); /* the only way to have its socket closed now */
	m->client = NULL;
	m->connected = false;
	m->connecting_since = 0;
}
