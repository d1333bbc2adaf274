/*
 * The broker's events, one function each. Broker thread: no system call that can block, no Redis, no lock shared with
 * the writer (but the report's, held for a copy).
 */
#include "plugin/core.h"

#include <string.h>
#include <time.h>

#include "plugin/core_state.h"
#include "plugin/properties.h"

#define TICK_GAP_MS 50 /* housekeeping; the switch to live is done at every tick */

uint64_t core_monotonic_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return (uint64_t)ts.tv_sec * 1000u + (uint64_t)ts.tv_nsec / 1000000u;
}

static uint64_t wall_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000u + (uint64_t)ts.tv_nsec / 1000000u;
}

/* Journals m if a rule wants it; then *id is its id, else zero. False: refuse. */
static bool mirror(struct core *core, const struct message *m, const struct route *route, struct entry_id *id)
{
	enum status st;

	*id = ENTRY_ID_ZERO;
	if (route->count == 0) return true;
	st = append_message(core->append, m, route->rules, route->count, id);
	if (st != ST_OK) return !full_refuses(&core->full, m, route, st);
	if (core->full.active || core->full.policy == JOURNAL_DROP_OLD) full_look(&core->full);
	return true;
}

SELDOM static void mirror_will(struct core *core)
{
	const struct message *will = wills_kept(core->wills);
	const struct route *route = routes_find(core->routes, will->topic);
	struct entry_id id;

	core->will_granted = false;
	core->will_mirrored = true;
	core->will_id = ENTRY_ID_ZERO;
	core->current_valid = false;
	/* If it is refused, that is counted; a will has no publisher left to tell, so it waits for nothing else either. */
	if (!mirror(core, will, route, &id)) return;
	if (route->readable) core->will_id = id;
	report_add(&core->report, wills, 1);
}

/* Before anything else in every callback: what the broker has done since the last one is known now. */
static void settle(struct core *core)
{
	if (core->watch.pending) watch_resolve(&core->watch, core->devices, core->broker.subscription_count);
	if (core->will_granted && wills_kept(core->wills)) mirror_will(core);
}

/* In every callback but a read check: the deliveries of the publish or will before it are over. */
static void deliveries_over(struct core *core)
{
	devices_deliveries_over(core->devices);
	core->current_valid = false;
	core->will_granted = false;
	wills_drop(core->wills);
	qos2_over(core->qos2);
}

/* Of a QoS 1 or 2 publish that is in the journal: may it be acknowledged? QoS 0 has no acknowledgement to wait for. */
static bool assured(struct core *core, const struct message *m, const struct route *route)
{
	if (!(route->synced || route->confirmed) || m->qos == 0) return true;
	if (assurance_given(&core->assurance, route->synced, route->confirmed)) return true;
	report_add(&core->report, refused, 1);
	return false; /* nobody gets it now */
}

/* The journalled message whose read checks follow. */
static void make_current(struct core *core, struct message *m, struct entry_id id)
{
	m->id = id;
	if (m != &core->current.message) core->current.message = *m;
	core->current.id = id;
	core->current_valid = true;
	if (m->qos == 2) qos2_put(core->qos2, m->topic, m->payload, id);
}

static bool take(struct core *core, struct message *m, const mosquitto_property *properties)
{
	const struct route *route = routes_find(core->routes, m->topic);
	struct entry_id id;

	if (properties && properties_read(properties, wall_ms(), m, &core->properties) != ST_OK)
		return route->count == 0 || !full_refuses(&core->full, m, route, ST_NOMEM);
	if (!mirror(core, m, route, &id)) return false;
	if (entry_id_is_zero(id)) return true; /* no rule, or dropped by policy: nothing to wait for */
	if (!assured(core, m, route)) return false;
	if (route->readable) make_current(core, m, id);
	return true;
}

struct message *core_message(struct core *core)
{
	return &core->current.message;
}

bool core_publish(struct core *core, const void *handle, struct message *m, const mosquitto_property *properties)
{
	if (core->will_handle == handle) core->will_granted = false; /* it was a publish after all */
	settle(core);
	deliveries_over(core);
	wills_alive(core->wills, handle);
	if (!guard_admits(&core->guard, m)) return false;
	if (take(core, m, properties)) return true;
	guard_refused(&core->guard, m);
	return false;
}

void core_published(struct core *core, const char *client)
{
	guard_passed(&core->guard, client);
}

bool core_write_check(struct core *core, const void *handle)
{
	bool expected = wills_expected(core->wills, handle);

	settle(core);
	deliveries_over(core);
	return expected;
}

SELDOM void core_will_check(struct core *core, const void *handle, const struct client_info *client, const struct message *m,
	const mosquitto_property *properties)
{
	struct message will = *m;

	if (routes_find(core->routes, m->topic)->count == 0) return;
	will.will = true;
	if (properties && properties_read(properties, wall_ms(), &will, &core->properties) != ST_OK) return;
	if (wills_keep(core->wills, &will) != ST_OK) return;
	core->will_handle = handle;
	core->will_mirrored = false;
	core->will_id = ENTRY_ID_ZERO;
	if (core->acl)
		core->will_granted = acl_file_allows(core->acl, slice_str(client->id), slice_str(client->user), m->topic,
			ACL_WRITE);
	else if (core->broker.subscriptions_certain) /* 2.1 has no last word for a watcher */
		core->will_granted = core->settings->acl_default == ACL_DEFAULT_ALLOW
			|| (core->settings->acl_default == ACL_DEFAULT_DETECT && !core->broker.others_loaded());
}

void core_write_granted(struct core *core, const void *handle)
{
	if (wills_kept(core->wills) && core->will_handle == handle && !core->will_mirrored) core->will_granted = true;
}

/* A read check of the will under way proves that it was allowed. False: it is not in the journal. */
static bool will_now(struct core *core, struct message *will)
{
	if (!core->will_mirrored) mirror_will(core);
	*will = *wills_kept(core->wills);
	will->id = core->will_id;
	return !entry_id_is_zero(core->will_id);
}

static bool will_read_check(struct core *core, const char *client, struct slice topic, struct slice payload)
{
	struct current_message will;

	if (!will_now(core, &will.message)) return false;
	will.id = core->will_id;
	will.message.topic = topic;
	will.message.payload = payload;
	return devices_check_reads(core->devices, &will) && devices_hold(core->devices, client, &will);
}

/* The broker's own pointers, all four: an address alone may have been freed and used for another message meanwhile. */
static bool is_current(const struct core *core, struct slice topic, struct slice payload)
{
	const struct message *m = &core->current.message;

	return core->current_valid && m->topic.data == topic.data && m->topic.len == topic.len
		&& m->payload.len == payload.len && (payload.len == 0 || m->payload.data == payload.data);
}

bool core_checks_reads(const struct core *core, uint8_t qos)
{
	const struct current_message *current = core->current_valid ? &core->current : NULL;

	return devices_check_reads(core->devices, current) || wills_kept(core->wills) || qos == 2 || core->watch.pending;
}

bool core_read_check(struct core *core, const char *client, struct slice topic, struct slice payload, uint8_t qos)
{
	struct entry_id id = ENTRY_ID_ZERO;
	bool released;

	if (core->watch.pending || core->will_granted) settle(core);
	released = qos == 2 && qos2_released(core->qos2, topic, &id);
	if (is_current(core, topic, payload))
		return devices_check_reads(core->devices, &core->current) && devices_hold(core->devices, client, &core->current);
	if (wills_is(core->wills, topic, payload)) return will_read_check(core, client, topic, payload);
	return released && devices_hold_released(core->devices, client, topic, payload, id);
}

/* What is in the journal and delivered now. Without an id: it was published before, and is released. */
SELDOM static bool delivered_now(struct core *core, const struct read_check *read, struct message *m)
{
	struct entry_id id;

	if (is_current(core, read->topic, read->payload)) {
		*m = core->current.message;
		return true;
	}
	if (wills_is(core->wills, read->topic, read->payload)) return will_now(core, m);
	*m = (struct message){.topic = read->topic, .qos = read->qos};
	return read->qos == 2 && qos2_released(core->qos2, read->topic, &id);
}

void core_subscribe_check(struct core *core, const void *handle, const struct client_info *client, const char *filter,
	uint8_t qos, int subscriptions)
{
	settle(core);
	deliveries_over(core);
	wills_alive(core->wills, handle);
	devices_seen(core->devices, client->id, subscriptions);
	if (core->booted)
		watch_begin(&core->watch, client, filter, qos, handle, subscriptions, core->broker.others_loaded());
}

void core_subscribed(struct core *core, const struct client_info *client, const char *filter, uint8_t qos,
	int subscriptions)
{
	settle(core);
	deliveries_over(core);
	devices_seen(core->devices, client->id, subscriptions);
	if (core->booted) devices_subscribed(core->devices, client, filter, qos);
}

void core_unsubscribed(struct core *core, const char *client, const char *filter)
{
	settle(core);
	deliveries_over(core);
	devices_unsubscribed(core->devices, client, filter);
}

void core_connected(struct core *core, const struct client_info *client, int subscriptions)
{
	settle(core);
	deliveries_over(core);
	if (core->booted) devices_connected(core->devices, client, subscriptions);
}

/* These two come in the middle of a publish's deliveries too, so nothing is settled or over. */
bool core_awaits(struct core *core, const char *client, struct slice topic, struct slice payload)
{
	devices_sending(core->devices, client, topic, payload);
	return devices_await(core->devices, client);
}

void core_sent(struct core *core, const char *client, struct entry_id id, struct slice topic, struct slice payload)
{
	devices_sent(core->devices, client, id, topic, payload);
}

void core_given(struct core *core)
{
	devices_given(core->devices);
}

void core_taken_back(struct core *core, const char *client)
{
	devices_taken_back(core->devices, client);
}

bool core_takes_back(struct core *core, const char *client)
{
	return devices_take_back(core->devices, client);
}

bool core_withdraws(struct core *core, const char *client)
{
	return devices_withdraw(core->devices, client);
}

bool core_expects_return(const struct core *core)
{
	return devices_expect_return(core->devices);
}

bool core_expects(struct core *core, const char *client)
{
	return devices_expected(core->devices, client);
}

void core_back(struct core *core, const void *handle, const struct client_info *client, int subscriptions, bool certain,
	const struct read_check *read)
{
	struct message m;
	struct sign_of_life sign = {.certain = certain, .qos0 = read && read->qos == 0, .at = read ? read->topic.data : NULL,
		.delivered = read && delivered_now(core, read, &m) ? &m : NULL};

	if (core->booted) devices_back(core->devices, client, handle, subscriptions, &sign);
}

void core_ending(struct core *core, const struct client_info *client, int subscriptions)
{
	if (core->booted) devices_ending(core->devices, client, subscriptions);
}

void core_goodbye(struct core *core, const char *client)
{
	devices_goodbye(core->devices, client);
}

void core_disconnected(struct core *core, const void *handle, const char *client, bool v5, bool persistent)
{
	settle(core);
	deliveries_over(core);
	if (client) {
		devices_disconnected(core->devices, client, persistent);
		devices_kept_by(core->devices, client, handle);
		peer_disconnected(core->peer, client);
		guard_disconnected(&core->guard, client);
	}
	wills_disconnected(core->wills, handle, v5);
}

bool core_control(struct core *core, const char *client, struct slice payload)
{
	settle(core);
	deliveries_over(core);
	if (guard_command(&core->guard, client, payload, core->broker.outlet)) return true;
	return peer_command(core->peer, client, payload) == ST_OK;
}

bool core_replay(struct core *core, const char *client, struct slice payload)
{
	settle(core);
	deliveries_over(core);
	return peer_replay(core->peer, client, payload, wall_ms()) == ST_OK;
}

/* What is done at any time, and often. */
static void housekeep(struct core *core, uint64_t now)
{
	core->tick_ms = now;
	report_drain(&core->report, &core->broker.outlet->log);
	full_look(&core->full);
	core_status(core, now);
}

static bool is_away(const struct core *core)
{
	return !peer_present(core->peer, core->settings->hold_timeout_ms) || report_get(&core->report, redis_ready) == 0;
}

void core_turn(struct core *core)
{
	uint64_t now = core_monotonic_ms();

	settle(core);
	deliveries_over(core);
	if (now - core->tick_ms < TICK_GAP_MS && !core_busy(core)) return;
	core_boot(core);
	devices_tick(core->devices, is_away(core));
	housekeep(core, now);
}

bool core_wants_turn(const struct core *core)
{
	return core->watch.pending || core->will_granted || core_busy(core);
}

void core_tick(struct core *core, bool given)
{
	append_turn(core->append);
	if (given) {
		core_turn(core);
		return;
	}
	settle(core);
	deliveries_over(core);
}

void core_meanwhile(struct core *core, bool quiet)
{
	settle(core);
	deliveries_over(core);
	core_boot(core);
	devices_meanwhile(core->devices, is_away(core), quiet);
	housekeep(core, core_monotonic_ms());
}

bool core_is_bridge(const struct core *core, const char *client)
{
	return peer_is(core->peer, client);
}

bool core_busy(const struct core *core)
{
	return devices_busy(core->devices);
}

enum acl_default core_acl_default(const struct core *core)
{
	return core->settings->acl_default;
}
