/*
 * Joins what is to be shown with the server that shows it. Owns the server, the plugin's last report and the samples.
 * Loop thread. It must never make a client wait for Redis: a request is answered from what is at hand.
 */
#include "bridge/web.h"

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bridge/broker_report.h"
#include "bridge/health.h"
#include "bridge/http.h"
#include "bridge/metrics.h"
#include "bridge/samples.h"
#include "bridge/status_json.h"
#include "bridge/status_page.h"
#include "bridge/tally.h"
#include "config/keys.h"
#include "config/resp.h"

#define POLICY_MAX 400
#define HASH_TEXT_MAX 64
#define QUIET_MS 7500 /* the plugin writes its report every five seconds at least */
#define JSON "application/json; charset=utf-8"

enum asked { ASKED_STATUS, ASKED_SESSIONS, ASKED_DEAD, ASKED_COUNT };

struct web {
	struct web_deps deps;
	struct http *http;
	uv_timer_t timer;
	char *node, *redis_url, *broker_url;
	char policy[POLICY_MAX]; /* of the page */
	struct buf commands;
	uint64_t began_ms;
	bool asking;
	struct plugin_status plugin; /* from Redis */
	struct broker_report *broker; /* while Redis does not tell */
	size_t questions[ASKED_COUNT];    /* how many of each are under way; their answers come in that order */
	uint64_t sums[ASKED_COUNT];
	bool bad;                         /* one of them was no number */
	uint64_t counts[ASKED_COUNT];
	bool has_counts;
	struct vitals_devices devices;
	struct samples samples;
	unsigned closing;
};

static uint64_t wall_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail with a valid clock */
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* --- what is known --------------------------------------------------------------------------------------------- */

static void on_reply(void *ctx, const redisReply *reply, size_t index)
{
	struct web *w = ctx;

	size_t total = 1 + w->questions[ASKED_SESSIONS] + w->questions[ASKED_DEAD];
	enum asked asked = index == 0 ? ASKED_STATUS : index <= w->questions[ASKED_SESSIONS] ? ASKED_SESSIONS : ASKED_DEAD;

	if (!reply || index + 1 == total) w->asking = false;
	if (w->closing) return;
	if (!reply) {
		w->has_counts = false;
		return; /* what the plugin said grows old by itself */
	}
	if (asked == ASKED_STATUS) {
		/* Loading, no permission: not an answer about the plugin. */
		if (reply->type == REDIS_REPLY_ERROR) return;
		if (plugin_status_take(&w->plugin, reply, uv_now(w->deps.loop), wall_ms()) != ST_OK) {
			log_to(w->deps.log, LOG_LEVEL_WARNING, "http: out of memory for the plugin's report");
		}
		return;
	}
	if (reply->type == REDIS_REPLY_INTEGER) w->sums[asked] += (uint64_t)reply->integer;
	else w->bad = true;
	if (index + 1 < total) return;
	w->has_counts = !w->bad;
	memcpy(w->counts, w->sums, sizeof(w->counts));
}

/* Nothing new in Redis for longer than the plugin would let pass. */
static bool quiet(const struct web *w)
{
	return !w->plugin.seen || plugin_status_age_ms(&w->plugin, uv_now(w->deps.loop)) > QUIET_MS;
}

/* The report in Redis is newer and says more; while there is none, what the broker says. */
static const struct plugin_status *best(const struct web *w)
{
	const struct plugin_status *sys = broker_report_status(w->broker);
	uint64_t now = uv_now(w->deps.loop);

	if (!sys->seen || !plugin_status_fresh(sys, now)) return &w->plugin;
	return quiet(w) ? sys : &w->plugin;
}

static void ask(struct web *w)
{
	const struct settings *s = w->deps.settings;
	struct buf key = {0};

	if (w->asking || !redis_link_is_ready(w->deps.link)) return;
	buf_clear(&w->commands);
	memset(w->sums, 0, sizeof(w->sums));
	w->bad = false;
	resp_begin(&w->commands, 2);
	resp_arg_str(&w->commands, "HGETALL");
	resp_arg(&w->commands, key_make(&key, settings_keys(s), KEY_STATUS, slice_str(w->node)));
	if (key.failed) w->commands.failed = true;
	w->questions[ASKED_SESSIONS] = tally_sessions(&w->commands, s);
	w->questions[ASKED_DEAD] = tally_dead(&w->commands, s);
	w->asking = redis_link_send(w->deps.link, &w->commands, 1 + w->questions[ASKED_SESSIONS] + w->questions[ASKED_DEAD], 0,
		on_reply, w) == ST_OK;
	buf_free(&key);
}

static void on_timer(uv_timer_t *timer)
{
	struct web *w = timer->data;
	struct vitals v = {0};

	w->deps.vitals(w->deps.ctx, &v);
	w->deps.devices(w->deps.ctx, &w->devices);
	if (!v.redis_ready) w->has_counts = false;
	samples_add(&w->samples, best(w), &v, uv_now(w->deps.loop));
	ask(w);
	if (uv_now(w->deps.loop) - w->began_ms > QUIET_MS) broker_report_want(w->broker, quiet(w));
}

/* --- pages ----------------------------------------------------------------------------------------------------- */

static bool on_request(void *ctx, const char *path, struct http_answer *a)
{
	struct web *w = ctx;
	struct vitals v = {0};
	struct health health;
	struct metrics_view view = {.node = w->node, .vitals = &v, .plugin = best(w), .health = &health,
		.has_counts = w->has_counts, .sessions = w->counts[ASKED_SESSIONS], .dead_letters = w->counts[ASKED_DEAD],
		.http_requests = http_requests(w->http), .now_ms = uv_now(w->deps.loop)};

	w->deps.vitals(w->deps.ctx, &v);
	v.devices = w->devices;
	health_judge(&v, view.plugin, view.now_ms, &health);
	if (strcmp(path, "/") == 0) {
		a->type = "text/html; charset=utf-8";
		a->policy = w->policy;
		buf_append(a->body, status_page, status_page_len);
	} else if (strcmp(path, "/status.json") == 0) {
		a->type = JSON;
		status_json_write(&view, &w->samples, w->redis_url, w->broker_url, wall_ms(), a->body);
	} else if (strcmp(path, "/metrics") == 0) {
		a->type = METRICS_TYPE;
		metrics_write(&view, a->body);
	} else if (strcmp(path, "/health/live") == 0) {
		a->type = JSON;
		buf_append_str(a->body, "{\"status\":\"alive\"}\n");
	} else if (strcmp(path, "/health") == 0 || strcmp(path, "/health/ready") == 0) {
		a->type = JSON;
		if (!health.ready) a->code = 503;
		health_json(&v, &health, a->body);
		buf_append_str(a->body, "\n");
	} else {
		return false;
	}
	return true;
}

/* The hash of what stands between <NAME> and </NAME> in the page, as a policy wants it. */
static void page_hash(const char *name, char out[HASH_TEXT_MAX])
{
	char open[16], close[16];
	unsigned char digest[SHA256_DIGEST_LENGTH];
	const char *page = (const char *)status_page, *end = page + status_page_len, *begin, *behind;

	(void)snprintf(open, sizeof(open), "<%s>", name);
	(void)snprintf(close, sizeof(close), "</%s>", name);
	out[0] = '\0';
	begin = memmem(page, status_page_len, open, strlen(open));
	if (!begin) return;
	begin += strlen(open);
	behind = memmem(begin, (size_t)(end - begin), close, strlen(close));
	if (!behind || EVP_Digest(begin, (size_t)(behind - begin), digest, NULL, EVP_sha256(), NULL) != 1) return;
	(void)EVP_EncodeBlock((unsigned char *)out, digest, sizeof(digest));
}

/* Its own script and style, by their hashes, may run, and it may ask this server: nothing else. */
static void policy_make(struct web *w)
{
	char script[HASH_TEXT_MAX], style[HASH_TEXT_MAX];

	page_hash("script", script);
	page_hash("style", style);
	(void)snprintf(w->policy, sizeof(w->policy), "default-src 'none'; script-src 'sha256-%s'; style-src 'sha256-%s'; "
		"connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'", script, style);
}

/* --- life ------------------------------------------------------------------------------------------------------ */

static void web_free(struct web *w)
{
	plugin_status_free(&w->plugin);
	buf_free(&w->commands);
	free(w->node);
	free(w->redis_url);
	free(w->broker_url);
	free(w);
}

static void free_behind(void *ctx)
{
	web_free(ctx);
}

enum status web_new(const struct web_deps *deps, struct web **out)
{
	const struct settings *s = deps->settings;
	struct web *w;
	enum status st;

	*out = NULL;
	if (s->listen_at.off) return ST_OK;
	w = calloc(1, sizeof(*w));
	if (!w) return ST_NOMEM;
	w->deps = *deps;
	w->node = strdup(s->node);
	w->redis_url = strdup(s->redis_url);
	w->broker_url = strdup(s->broker_url);
	st = w->node && w->redis_url && w->broker_url ? ST_OK : ST_NOMEM;
	if (st == ST_OK) st = broker_report_new(deps->loop, s, deps->log, &w->broker);
	if (st == ST_OK) st = http_new(deps->loop, &s->listen_at, deps->log, on_request, w, &w->http);
	if (st != ST_OK) {
		if (w->broker) broker_report_close(w->broker, free_behind, w); /* in the loop's next turns */
		else web_free(w);
		return st;
	}
	policy_make(w);
	(void)uv_timer_init(deps->loop, &w->timer); /* never fails */
	w->timer.data = w;
	*out = w;
	return ST_OK;
}

void web_start(struct web *w)
{
	w->began_ms = uv_now(w->deps.loop);
	(void)uv_timer_start(&w->timer, on_timer, 0, SAMPLES_EVERY_MS); /* fails only without a callback */
	http_start(w->http);
}

static void part_closed(void *ctx)
{
	struct web *w = ctx;

	if (--w->closing == 0) web_free(w);
}

static void timer_closed(uv_handle_t *handle)
{
	part_closed(handle->data);
}

void web_close(struct web *w)
{
	if (w->closing) return;
	w->closing = 3;
	broker_report_close(w->broker, part_closed, w);
	http_close(w->http, part_closed, w);
	uv_close((uv_handle_t *)&w->timer, timer_closed);
}
