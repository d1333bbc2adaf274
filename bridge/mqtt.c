/*
 * libmosquitto under libuv. Owns what a connection consists of (bridge/mqtt_parts.h), and its timers. Loop thread. It must
 * never free that before the last handle is closed.
 */
#include "bridge/mqtt_parts.h"

#include <stdlib.h>
#include <unistd.h>

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
	st = mqtt_client_make(m);
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

bool mqtt_is_connected(const struct mqtt *m)
{
	return m->connected;
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
	mqtt_watch_drop(m);
	mosquitto_destroy(m->client); /* and with it its last TLS connection */
	m->client = NULL;
	(void)mosquitto_lib_cleanup();
	resolver_close(m->resolver, part_gone, m);
	uv_close((uv_handle_t *)&m->misc, part_closed);
	uv_close((uv_handle_t *)&m->retry, part_closed);
	uv_close((uv_handle_t *)&m->late, part_closed);
}
