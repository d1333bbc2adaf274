/*
 * The lock that lets one bridge of a node work. Owns what it knows of it and the timer that renews it. Loop thread. It
 * must never count as held for longer than Redis keeps it.
 */
#include "bridge/lock.h"

#include <stdlib.h>
#include <time.h>

#include "bridge/fetch_source.h"
#include "bridge/lock_owner.h"
#include "config/keys.h"
#include "config/resp.h"

#define TICK_MS 250
#define TAKEN_OVER_MS 10000 /* promised in README.md: a holder that ends has a successor within it */

_Static_assert(LOCK_TTL_MS + LOCK_TRY_MS + LOCK_YIELD_MS + TICK_MS < TAKEN_OVER_MS, "another bridge takes over within ten seconds");

/* The lock's value is "<fence> <owner>".
 * KEYS: lock, fence. ARGV: our signature, time to live in ms, the value of a holder that has ended (or ""). Returns fence
 * and value when it is ours now, else an empty text and the value of who has it. */
static const char take_script[] =
	"local held = redis.call('GET', KEYS[1])\n"
	"if held and held ~= ARGV[3] and string.sub(held, -#ARGV[1]) ~= ARGV[1] then return {'', held} end\n"
	"local time = redis.call('TIME')\n"
	"local fence = tonumber(time[1]) * 1000000 + tonumber(time[2])\n"
	"local last = tonumber(redis.call('GET', KEYS[2]) or '0') or 0\n"
	"if fence <= last then fence = last + 1 end\n"
	"local text = string.format('%.0f', fence)\n"
	"redis.call('SET', KEYS[2], text)\n"
	"redis.call('SET', KEYS[1], text .. ' ' .. ARGV[1], 'PX', ARGV[2])\n"
	"return {text, text .. ' ' .. ARGV[1]}";

/* KEYS: lock. ARGV: value, time to live in ms (0: give it back). */
static const char keep_script[] =
	"if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end\n"
	"if ARGV[2] == '0' then return redis.call('DEL', KEYS[1]) end\n"
	"return redis.call('PEXPIRE', KEYS[1], ARGV[2])";

enum state { LOCK_FREE, LOCK_HELD };

struct lock {
	const struct settings *settings;
	const struct log_sink *log;
	struct redis_link *link;
	struct lock_calls calls;
	uv_timer_t timer;
	enum state state;
	bool asking;
	bool yielding;
	bool told;             /* who holds it, or what Redis refused, was logged */
	char owner[LOCK_OWNER_MAX];
	char value[LOCK_OWNER_MAX + 24];  /* while held */
	char holder[LOCK_OWNER_MAX + 24]; /* of another bridge; "" when unknown */
	uint64_t asked_ms;     /* when the question under way was sent */
	uint64_t until_ms;     /* held: at least until then */
	uint64_t next_ms;      /* the next question is due */
	struct buf commands, key;
	bool closing;
	void (*closed)(void *ctx);
	void *closed_ctx;
};

/* Goes on while the machine is suspended, as Redis' clock does. */
static uint64_t clock_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void arg_key(struct lock *l, enum key_kind kind)
{
	resp_arg(&l->commands, key_make(&l->key, settings_keys(l->settings), kind, slice_str(l->settings->node)));
	if (l->key.failed) l->commands.failed = true;
}

/* --- changes of state ------------------------------------------------------------------------------------------ */

static void free_now(struct lock *l, const char *why)
{
	if (l->state != LOCK_HELD) return;
	l->state = LOCK_FREE;
	l->value[0] = '\0';
	l->told = false;
	log_to(l->log, LOG_LEVEL_WARNING, "lock: %s; this bridge stands by", why);
	l->calls.lost(l->calls.ctx);
}

static void hold(struct lock *l, struct slice value, uint64_t fence)
{
	memcpy(l->value, value.data, value.len);
	l->value[value.len] = '\0';
	l->holder[0] = '\0';
	l->until_ms = l->asked_ms + LOCK_TTL_MS - LOCK_MARGIN_MS;
	l->next_ms = l->asked_ms + LOCK_RENEW_MS;
	if (clock_ms() >= l->until_ms) return; /* answered too late to be of use */
	l->state = LOCK_HELD;
	l->told = false;
	log_to(l->log, LOG_LEVEL_NOTICE, "lock: this bridge works for node %s (fence %llu)", l->settings->node,
		(unsigned long long)fence);
	l->calls.held(l->calls.ctx, fence);
}

static void tell_holder(struct lock *l, struct slice value)
{
	const char *owner;

	if (value.len >= sizeof(l->holder)) value.len = sizeof(l->holder) - 1;
	if (l->told && slice_equal(value, slice_str(l->holder))) return;
	memcpy(l->holder, value.data, value.len);
	l->holder[value.len] = '\0';
	l->told = true;
	owner = strchr(l->holder, ' ');
	owner = owner ? owner + 1 : l->holder;
	log_to(l->log, LOG_LEVEL_NOTICE, "lock: another bridge works for node %s (%.*s); this one stands by",
		l->settings->node, (int)strcspn(owner, "/"), owner);
}

static void tell_trouble(struct lock *l, const redisReply *reply)
{
	char text[160];

	if (l->told) return;
	l->told = true;
	log_to(l->log, LOG_LEVEL_WARNING, "lock: Redis answers: %s", reply->type == REDIS_REPLY_ERROR
		? log_printable(reply->str, (size_t)reply->len, text, sizeof(text)) : "something unexpected");
}

/* --- questions ------------------------------------------------------------------------------------------------- */

static void on_taken(void *ctx, const redisReply *reply, size_t index)
{
	struct lock *l = ctx;
	struct slice fence, value;

	(void)index;
	l->asking = false;
	if (!reply || l->closing) return;
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 || !reply_slice(reply->element[1]).data) {
		tell_trouble(l, reply);
		return;
	}
	fence = reply_slice(reply->element[0]);
	value = reply_slice(reply->element[1]);
	if (fence.data && fence.len > 0 && value.len < sizeof(l->value)) hold(l, value, strtoull(fence.data, NULL, 10));
	else tell_holder(l, value);
}

static void on_kept(void *ctx, const redisReply *reply, size_t index)
{
	struct lock *l = ctx;

	(void)index;
	l->asking = false;
	if (!reply || l->closing || l->state != LOCK_HELD) return;
	if (reply->type != REDIS_REPLY_INTEGER) {
		tell_trouble(l, reply);
		return;
	}
	l->told = false;
	if (reply->integer == 1) l->until_ms = l->asked_ms + LOCK_TTL_MS - LOCK_MARGIN_MS;
	else free_now(l, "another bridge has it, or Redis has lost it");
}

static void ask_to_take(struct lock *l)
{
	const char *owner = strchr(l->holder, ' ');
	bool ended = owner && lock_owner_ended(l->owner, slice_str(owner + 1));

	buf_clear(&l->commands);
	resp_begin(&l->commands, 8);
	resp_arg_str(&l->commands, "EVAL");
	resp_arg_str(&l->commands, take_script);
	resp_arg_str(&l->commands, "2");
	arg_key(l, KEY_LOCK);
	arg_key(l, KEY_FENCE);
	resp_arg_str(&l->commands, l->owner);
	resp_arg_u64(&l->commands, LOCK_TTL_MS);
	resp_arg_str(&l->commands, ended ? l->holder : "");
	l->next_ms = l->asked_ms + LOCK_TRY_MS;
	l->asking = redis_link_send(l->link, &l->commands, 1, 0, on_taken, l) == ST_OK;
}

static void make_keep(struct lock *l, uint64_t ttl_ms)
{
	buf_clear(&l->commands);
	resp_begin(&l->commands, 6);
	resp_arg_str(&l->commands, "EVAL");
	resp_arg_str(&l->commands, keep_script);
	resp_arg_str(&l->commands, "1");
	arg_key(l, KEY_LOCK);
	resp_arg_str(&l->commands, l->value);
	resp_arg_u64(&l->commands, ttl_ms);
}

static void ask_to_keep(struct lock *l)
{
	make_keep(l, LOCK_TTL_MS);
	l->next_ms = l->asked_ms + LOCK_RENEW_MS;
	l->asking = redis_link_send(l->link, &l->commands, 1, 0, on_kept, l) == ST_OK;
}

static void on_given_back(void *ctx, const redisReply *reply, size_t index)
{
	(void)ctx;
	(void)reply;
	(void)index; /* if it did not arrive, the lock ends by itself */
}

static void give_back(struct lock *l)
{
	if (l->state != LOCK_HELD) return;
	make_keep(l, 0);
	(void)!redis_link_send(l->link, &l->commands, 1, 0, on_given_back, NULL); /* likewise */
}

/* --- time ------------------------------------------------------------------------------------------------------ */

static void look(struct lock *l)
{
	uint64_t now = clock_ms();

	if (l->yielding) {
		l->yielding = false;
		give_back(l);
		free_now(l, "the plugin obeys a later bridge");
		l->next_ms = now + LOCK_YIELD_MS;
	}
	if (l->state == LOCK_HELD && now >= l->until_ms) {
		free_now(l, "it could not be renewed in time");
		l->next_ms = now;
	}
	if (l->asking || now < l->next_ms || !redis_link_is_ready(l->link)) return;
	l->asked_ms = now;
	if (l->state == LOCK_HELD) ask_to_keep(l);
	else ask_to_take(l);
}

static void on_timer(uv_timer_t *timer)
{
	look(timer->data);
}

/* --- outside --------------------------------------------------------------------------------------------------- */

enum status lock_new(uv_loop_t *loop, const struct settings *settings, const struct log_sink *log,
	struct redis_link *link, const struct lock_calls *calls, struct lock **out)
{
	struct lock *l = calloc(1, sizeof(*l));
	enum status st;

	if (!l) return ST_NOMEM;
	l->settings = settings;
	l->log = log;
	l->link = link;
	l->calls = *calls;
	st = lock_owner_make(l->owner);
	if (st != ST_OK) {
		free(l);
		return st;
	}
	(void)uv_timer_init(loop, &l->timer);
	l->timer.data = l;
	*out = l;
	return ST_OK;
}

void lock_start(struct lock *l)
{
	(void)uv_timer_start(&l->timer, on_timer, TICK_MS, TICK_MS);
}

void lock_ready(struct lock *l)
{
	if (l->closing || l->yielding) return;
	l->next_ms = 0;
	look(l);
}

bool lock_is_held(const struct lock *l)
{
	return l->state == LOCK_HELD && clock_ms() < l->until_ms;
}

void lock_yield(struct lock *l)
{
	if (l->closing || l->state != LOCK_HELD) return;
	l->yielding = true;
	(void)uv_timer_start(&l->timer, on_timer, 0, TICK_MS);
}

static void timer_closed(uv_handle_t *handle)
{
	struct lock *l = handle->data;

	buf_free(&l->commands);
	buf_free(&l->key);
	if (l->closed) l->closed(l->closed_ctx);
	free(l);
}

void lock_close(struct lock *l, void (*closed)(void *ctx), void *ctx)
{
	if (l->closing) return;
	give_back(l);
	l->closing = true;
	l->state = LOCK_FREE;
	l->closed = closed;
	l->closed_ctx = ctx;
	uv_close((uv_handle_t *)&l->timer, timer_closed);
}
