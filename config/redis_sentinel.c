/*
 * The sentinels' word on who is master. Owns a link to one sentinel and the settings that lead it there. Loop thread. Must
 * never tell a master that no sentinel has named.
 */
#include "config/redis_sentinel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/redis_link.h"
#include "config/resp.h"
#include "config/sentinel_reply.h"

struct redis_sentinel {
	const struct settings *settings;
	struct settings view; /* as `settings`, but leading to one sentinel; owns what view_renew copies */
	const struct log_sink *log;
	struct redis_sentinel_events events;
	struct redis_link *link;
	uv_timer_t timer;
	size_t at; /* which sentinel */
	bool asked, closing, change;
	unsigned handles;
	void (*closed)(void *ctx);
	void *closed_ctx;
};

static void lead_to(struct redis_sentinel *s, size_t at)
{
	const struct redis_host *host = &s->settings->redis.hosts[at];
	s->at = at;
	s->view.redis = (struct redis_address){.form = REDIS_TCP, .tls = s->settings->redis.tls, .host = host->host,
		.port = host->port};
}

/* --- answers -------------------------------------------------------------------------------------------------- */

static void on_reply(void *ctx, const redisReply *reply, size_t index)
{
	struct redis_sentinel *s = ctx;
	struct sentinel_master master;
	char why[256];
	(void)index;
	s->asked = false;
	if (!reply || s->closing) return;
	enum status st = sentinel_reply_read(reply, s->settings->redis.master, &master, why, sizeof(why));
	if (st == ST_OK) s->events.master(s->events.ctx, master.host, master.port);
	else redis_link_reset(s->link, st, why);
}

static void ask(struct redis_sentinel *s)
{
	struct buf commands = {0};
	if (s->asked || !redis_link_is_ready(s->link)) return;
	resp_command(&commands, "SENTINEL", "get-master-addr-by-name", s->settings->redis.master, NULL);
	/* Without success the timer asks again. */
	s->asked = redis_link_send(s->link, &commands, 1, 0, on_reply, s) == ST_OK;
	buf_free(&commands);
}

/* --- the link ------------------------------------------------------------------------------------------------- */

static void on_ready(void *ctx, struct redis_link *link)
{
	(void)link;
	ask(ctx);
}

/* Copies of what can change live, since the settings may be read again while a connection is being made. */
static void view_renew(struct redis_sentinel *s, bool show_password)
{
	const struct settings *from = s->settings;
	const struct {
		char **slot;
		const char *value;
	} texts[] = {
		{&s->view.redis_password_file, show_password ? from->redis_password_file : NULL},
		{&s->view.redis_username, show_password ? from->redis_username : NULL},
		{&s->view.redis_tls_ca, from->redis_tls_ca},
		{&s->view.redis_tls_cert, from->redis_tls_cert},
		{&s->view.redis_tls_key, from->redis_tls_key},
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		free(*texts[i].slot);
		*texts[i].slot = texts[i].value ? strdup(texts[i].value) : NULL; /* without memory: found by Redis' refusal */
	}
}

static void view_forget(struct redis_sentinel *s)
{
	free(s->view.redis_password_file);
	free(s->view.redis_username);
	free(s->view.redis_tls_ca);
	free(s->view.redis_tls_cert);
	free(s->view.redis_tls_key);
}

void redis_sentinel_rewire(struct redis_sentinel *s, const struct settings *settings)
{
	s->settings = settings;
	view_renew(s, s->view.redis_password_file != NULL);
	lead_to(s, s->at);
}

/* Another sentinel next time, unless this one only wants to see a password, or none. */
static void on_lost(void *ctx, struct redis_link *link, enum status st, const char *text)
{
	struct redis_sentinel *s = ctx;
	bool shown = s->view.redis_password_file != NULL;
	(void)link;
	if (st == ST_DENIED && !shown && s->settings->redis_password_file) {
		view_renew(s, true);
		return;
	}
	if (st == ST_DENIED && shown && strstr(text, "without any password")) {
		view_renew(s, false);
		return;
	}
	view_renew(s, shown); /* they may be others by now */
	lead_to(s, (s->at + 1) % s->settings->redis.host_count);
}

static void on_timer(uv_timer_t *timer)
{
	struct redis_sentinel *s = timer->data;
	if (s->change) {
		s->change = false;
		redis_link_reset(s->link, ST_LOST, "its master cannot be used; asking another sentinel");
		return;
	}
	ask(s);
}

/* --- the interface -------------------------------------------------------------------------------------------- */

enum status redis_sentinel_new(uv_loop_t *loop, const struct settings *settings, const char *name,
	const struct log_sink *log, const struct redis_sentinel_events *events, struct redis_sentinel **out)
{
	struct redis_sentinel *s = calloc(1, sizeof(*s));
	if (!s) return ST_NOMEM;
	s->settings = settings;
	s->view = *settings;
	s->view.redis_password_file = s->view.redis_username = s->view.redis_tls_ca = s->view.redis_tls_cert =
		s->view.redis_tls_key = NULL;
	view_renew(s, false);
	s->log = log;
	s->events = *events;
	lead_to(s, 0);
	char own_name[64];
	snprintf(own_name, sizeof(own_name), "%s-sentinel", name);
	struct redis_link_events calls = {on_ready, on_lost, s};
	enum status st = redis_link_new(loop, &s->view, own_name, log, &calls, &s->link);
	if (st != ST_OK) {
		view_forget(s);
		free(s);
		return st;
	}
	(void)uv_timer_init(loop, &s->timer); /* never fails */
	s->timer.data = s;
	s->handles = 2;
	*out = s;
	return ST_OK;
}

void redis_sentinel_start(struct redis_sentinel *s)
{
	redis_link_start(s->link);
	(void)uv_timer_start(&s->timer, on_timer, SENTINEL_ASK_MS, SENTINEL_ASK_MS);
}

/* By the timer, since the caller may be in the middle of our own answer. */
void redis_sentinel_ask(struct redis_sentinel *s, bool other)
{
	if (s->closing) return;
	s->change |= other && s->settings->redis.host_count > 1;
	(void)uv_timer_start(&s->timer, on_timer, 0, SENTINEL_ASK_MS);
}

static void part_gone(struct redis_sentinel *s)
{
	if (--s->handles > 0) return;
	void (*closed)(void *ctx) = s->closed;
	void *ctx = s->closed_ctx;
	view_forget(s);
	free(s);
	if (closed) closed(ctx);
}

static void on_timer_closed(uv_handle_t *handle)
{
	part_gone(handle->data);
}

static void on_link_closed(void *ctx)
{
	part_gone(ctx);
}

void redis_sentinel_close(struct redis_sentinel *s, void (*closed)(void *ctx), void *ctx)
{
	s->closing = true;
	s->closed = closed;
	s->closed_ctx = ctx;
	uv_close((uv_handle_t *)&s->timer, on_timer_closed);
	redis_link_close(s->link, on_link_closed, s);
}
