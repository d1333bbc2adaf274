/*
 * When libmosquitto reads and writes. Owns the polled descriptor. Loop thread. It must never poll the client's own socket:
 * libmosquitto closes that by itself, which libuv forbids while it is polled; a duplicate is polled.
 */
#include "bridge/mqtt_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "config/loop_needs.h"

#define READ_PACKETS_MAX 64
#define READ_PACKETS_TLS_MAX 8192 /* of a TLS record, 16 KiB: polling does not tell that some of it is left */

/* Polls one duplicate; lives until its handle is closed. */
struct mqtt_watch {
	uv_poll_t poll;
	int fd;
	int events;
	struct mqtt *owner; /* NULL: given up */
};

static void watch_closed(uv_handle_t *handle)
{
	struct mqtt_watch *w = handle->data;

	(void)close(w->fd);
	free(w);
}

void mqtt_watch_drop(struct mqtt *m)
{
	if (!m->watch) return;
	m->watch->owner = NULL;
	(void)uv_poll_stop(&m->watch->poll);
	uv_close((uv_handle_t *)&m->watch->poll, watch_closed);
	m->watch = NULL;
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct mqtt_watch *w = poll->data;
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
	mqtt_turn(m);
}

bool mqtt_watch_make(struct mqtt *m)
{
	struct mqtt_watch *w = calloc(1, sizeof(*w));

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

void mqtt_turn(struct mqtt *m)
{
	int events = UV_READABLE;

	if (m->in_library || m->closing || !m->running) return;
	if (mosquitto_socket(m->client) < 0) {
		mqtt_down(m, "the connection was closed");
		return;
	}
	if (!m->watch) return;
	if (mosquitto_want_write(m->client)) events |= UV_WRITABLE;
	if (events == m->watch->events) return;
	m->watch->events = events;
	if (loop_poll(&m->watch->poll, events, on_poll) != ST_OK) mqtt_down(m, "cannot poll its socket");
}
