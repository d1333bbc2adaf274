/*
 * The plugin without the broker: what each of the broker's events does. Owns settings, journal, writer thread, routes,
 * devices and the bridge's identity. All functions run on the broker thread; none but start, reload and stop may block.
 * Pointers in arguments are borrowed for the call; `handle` is the broker's client object, only ever compared.
 */
#ifndef MQR_PLUGIN_CORE_H
#define MQR_PLUGIN_CORE_H

#include "config/mosquitto_version.h"

#include "config/settings.h"
#include "config/status.h"
#include "plugin/outlet.h"

struct core;

struct core_broker {
	const struct outlet *outlet;
	/* How many subscriptions has the client now? (2.0.x; see plugin/watch.h) */
	int (*subscription_count)(const void *handle);
	/* Are there plugins that may deny what we cannot see? */
	bool (*others_loaded)(void);
	/* The broker tells of a subscription only once it is granted, and of every CONNECT (2.1). */
	bool subscriptions_certain;
	/* Of the session that the broker has of this client; -1: it has none. NULL before 2.1. */
	int (*session_subscriptions)(const char *client);
};

/* Blocks while the journal is opened; never waits for Redis. `why` gets one or more lines on failure. */
enum status core_start(const struct core_broker *broker, const struct setting_override *options, size_t option_count,
	struct core **out, char *why, size_t size) MUST_CHECK;
/* Drains into Redis for at most a second, then stops; what is left stays in the journal. Bears NULL. */
void core_stop(struct core *core);
/* SIGHUP: reads the settings again; an invalid file changes nothing and is logged. */
void core_reload(struct core *core);

/* Where a publish may be described for core_publish, which then need not copy it. Nothing else may be called in between. */
struct message *core_message(struct core *core);
/* A publish by a client. False: refuse it, the publisher must be told no success. */
bool core_publish(struct core *core, const void *handle, struct message *m, const mosquitto_property *properties);
/* No plugin has refused the publish of this client that core_publish took last. */
void core_published(struct core *core, const char *client);
/* A write check, before anybody has decided. True: it may be that of a last will; then core_will_check comes, with
 * `properties` as far as the broker shows them. */
bool core_write_check(struct core *core, const void *handle);
void core_will_check(struct core *core, const void *handle, const struct client_info *client, const struct message *m,
	const mosquitto_property *properties);
/* The write check last seen was left to us and is granted. */
void core_write_granted(struct core *core, const void *handle);
/* Read check. True: hold this delivery back. Need not be asked unless core_checks_reads, for a delivery with that QoS. */
bool core_checks_reads(const struct core *core, uint8_t qos);
bool core_read_check(struct core *core, const char *client, struct slice topic, struct slice payload, uint8_t qos);
/* 2.0.x: a subscription is being checked; `subscriptions` the client has before it. */
void core_subscribe_check(struct core *core, const void *handle, const struct client_info *client, const char *filter,
	uint8_t qos, int subscriptions);
/* 2.1: a subscription is granted and about to be made. */
void core_subscribed(struct core *core, const struct client_info *client, const char *filter, uint8_t qos,
	int subscriptions);
void core_unsubscribed(struct core *core, const char *client, const char *filter);
/* 2.1: a client has connected; `subscriptions` of its session the broker has kept. */
void core_connected(struct core *core, const struct client_info *client, int subscriptions);
/* 2.1: a message is being sent to a client, in the middle of a publish's deliveries perhaps. `id`: which it had when it
 * was handed to the broker, zero if it was not. Only asked for when core_awaits,
 * which is asked at each. */
bool core_awaits(struct core *core, const char *client, struct slice topic, struct slice payload);
void core_sent(struct core *core, const char *client, struct entry_id id, struct slice topic, struct slice payload);
/* 2.1: the broker has all that it was handed until now. And before core_disconnected: the rest of what was for this client is
 * taken back. */
void core_given(struct core *core);
void core_taken_back(struct core *core, const char *client);
/* 2.0.x, before core_disconnected: is what was handed over for it in this turn not to be delivered? */
bool core_takes_back(struct core *core, const char *client);
/* 2.0.x, of each message that was handed over in this turn: is it to be left out, as it comes again? */
bool core_withdraws(struct core *core, const char *client);
/* 2.0.x: must core_back be told of each access check, before anything else? Of those of this client? `certain`: of SUBSCRIBE or
 * UNSUBSCRIBE. `read`: what it is about, if it is a read check, else NULL. */
struct read_check {
	struct slice topic, payload;   /* the broker's own */
	uint8_t qos;
};
bool core_expects_return(const struct core *core);
bool core_expects(struct core *core, const char *client);
void core_back(struct core *core, const void *handle, const struct client_info *client, int subscriptions, bool certain,
	const struct read_check *read);
/* 2.0.x, before core_disconnected: its session is not clean. */
void core_ending(struct core *core, const struct client_info *client, int subscriptions);
/* 2.1, before core_disconnected: the client said goodbye. */
void core_goodbye(struct core *core, const char *client);
void core_disconnected(struct core *core, const void *handle, const char *client, bool v5, bool persistent);
/* A publish on the control topic. False: refused, the client is to be closed. */
bool core_control(struct core *core, const char *client, struct slice payload);
/* The same on the replay topic. */
bool core_replay(struct core *core, const char *client, struct slice payload);
/* A turn of the broker's loop has begun, or, on 2.0.x, ends. `given`: it has all that it was handed in the one before; if not,
 * that one goes on for the devices. */
void core_tick(struct core *core, bool given);
/* 2.0.11 with per_listener_settings true tells of no turn (plugin/untold.h). Instead: one has ended, if not each is told of; in the
 * middle of one, now and then, while nobody tells. `quiet`: nothing was handed over in this one. Not between the read checks of a
 * message. */
void core_turn(struct core *core);
/* Does anything wait for the end of this turn? */
bool core_wants_turn(const struct core *core);
void core_meanwhile(struct core *core, bool quiet);
/* Is it the bridge whose commands are acted on? */
bool core_is_bridge(const struct core *core, const char *client);
/* Is any device held back at present? */
bool core_busy(const struct core *core);

/* As coarse as the kernel's tick, and cheap. */
uint64_t core_monotonic_ms(void);

/* What the broker does when nobody decides an access (settings acl_default). */
enum acl_default core_acl_default(const struct core *core);

#endif
