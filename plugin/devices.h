/*
 * Devices with a redelivery grant, and the seam between their backlog and live messages. Broker thread only; never
 * blocks, never calls the broker but through the outlet.
 *
 *   AWAY      known, not connected (kept only while the broker keeps its session). Where the broker tells of CONNECT (2.1),
 *             what redelivery covers is held back from its queue meanwhile, and comes from Redis when it is back; elsewhere if its
 *             catch-up was cut short (device_return.c)
 *   CATCHING  subscribed; live messages that redelivery covers are held back (they are in the journal), the backlog
 *             comes in batches from the bridge
 *   PASS      everything up to now is handed over; live messages are handed over behind it, addressed, so that none
 *             overtakes what the broker has not delivered yet; ends at the next tick
 *   LIVE      the broker delivers directly; `late` while a backlog is still owed because the bridge was away
 *
 * One generation names one catch-up: the id of its first `subscribed` event. Commands of another generation are answered
 * with CONTROL_GONE.
 */
#ifndef MQR_PLUGIN_DEVICES_H
#define MQR_PLUGIN_DEVICES_H

#include "config/control.h"
#include "config/settings.h"
#include "plugin/append.h"
#include "plugin/journal.h"
#include "plugin/kept_file.h"
#include "plugin/outlet.h"
#include "plugin/report.h"
#include "plugin/routes.h"

struct devices;

struct devices_deps {
	const struct settings *settings;
	const struct acl_file *acl;    /* NULL: none */
	struct journal *journal;
	struct append *append;
	struct routes *routes;
	struct report *report;
	const struct outlet *outlet;
	uint64_t (*now_ms)(void);      /* monotonic */
	bool tells_connect;            /* devices_connected is called for each CONNECT (2.1) */
	struct kept_file *kept;        /* with that; NULL: none */
	const struct qos2 *qos2;       /* what is published and not released; NULL: nothing */
};

/* A publish whose deliveries are being decided now. */
struct current_message {
	struct entry_id id;
	struct message message;        /* borrowed from the publish */
};

#define DEVICES_MAX 262144 /* with those that are away; more are only kept while they are connected */

enum status devices_new(const struct devices_deps *deps, struct devices **out) MUST_CHECK;
void devices_free(struct devices *d);
/* After a reload: new settings, routes and ACL file. Grants of connected devices are looked up again at their next
 * subscription. */
void devices_rewire(struct devices *d, const struct devices_deps *deps);

/* At the start: what the file of kept sessions holds, a kept_file_fn with the devices as context. */
void devices_restore(void *devices, const struct kept_record *r);
/* That was all: those that the broker has not restored are forgotten, and the file is written anew. `subscriptions`: of the
 * client's session, -1: the broker has none. */
void devices_restored(struct devices *d, int (*subscriptions)(const char *client));

/* Any SUBSCRIBE of a client is being checked; `subscriptions` it has so far. Tells a resumed session from a new one. */
void devices_seen(struct devices *d, const char *client, int subscriptions);
/* Does this device hold that subscription, by what we know? */
bool devices_holds(struct devices *d, const char *client, const char *filter);
/* A subscription that the broker has granted (or is about to, 2.1). */
void devices_subscribed(struct devices *d, const struct client_info *client, const char *filter, uint8_t qos);
void devices_unsubscribed(struct devices *d, const char *client, const char *filter);
/* A client has connected; `subscriptions` the broker has kept for it (2.1). A device whose session goes on catches up from
 * here, whether it subscribes again or not. */
void devices_connected(struct devices *d, const struct client_info *client, int subscriptions);
/* Before devices_disconnected: the client said goodbye, so nothing it was sent is in doubt (2.1). */
void devices_goodbye(struct devices *d, const char *client);
/* The broker has all that was handed over through windows until now (2.1). Before devices_disconnected: what was handed over for
 * the client since will not come to it. */
void devices_given(struct devices *d);
void devices_taken_back(struct devices *d, const char *client);
/* Before that, on 2.0.x: is what was handed over for it in this turn not to be delivered, as it is given it again? (What the broker
 * says of the session of one that another connection takes over is not to be relied on.) */
bool devices_take_back(struct devices *d, const char *client);
/* On 2.0.x, while it goes on: can what was handed over for it in this turn be left out, as it then comes again, from the bridge? True:
 * it is to be. Asked for each message of it. */
bool devices_withdraw(struct devices *d, const char *client);
/* The connection ended. `persistent`: the broker keeps the session. */
void devices_disconnected(struct devices *d, const char *client, bool persistent);
/* Behind that, on 2.0.x: the object in which the broker keeps it, only ever compared. */
void devices_kept_by(struct devices *d, const char *client, const void *handle);
/* Is there a device that must be noticed when it is back (2.0.x)? Is it this one? */
bool devices_expect_return(const struct devices *d);
bool devices_expected(struct devices *d, const char *client);
/* Then, before any other access check is worked on: it is of this client, with so many subscriptions. */
struct sign_of_life {
	bool certain;                    /* only one that is connected asks for that */
	bool qos0;                       /* a read check of a message that was published with QoS 0 */
	const void *at;                  /* a read check: where the broker has the message, only ever compared */
	const struct message *delivered; /* the journalled message whose delivery is being decided, without an id if it was published
	                                  * before and is released; NULL: it is about something else */
};
void devices_back(struct devices *d, const struct client_info *client, const void *handle, int subscriptions,
	const struct sign_of_life *sign);
/* Before devices_disconnected, of a connection whose session is not clean. */
void devices_ending(struct devices *d, const struct client_info *client, int subscriptions);

/* Is any device held back at present, connected or not? */
bool devices_any_gated(const struct devices *d);
/* Is this message (NULL: none that is journalled now) to be looked at when it is delivered? The read check asks this first. */
bool devices_check_reads(const struct devices *d, const struct current_message *current);
/* Is anything to be done at every turn of the broker's loop? */
bool devices_busy(const struct devices *d);
/* Shall the broker not deliver this message to this client now? (Because it comes, or has come, another way.) Topic and payload are
 * the broker's own. */
bool devices_hold(struct devices *d, const char *client, const struct current_message *current);
/* All read checks of a message are over. */
void devices_deliveries_over(struct devices *d);
/* The same for a QoS 2 message published earlier and released now. */
bool devices_hold_released(struct devices *d, const char *client, struct slice topic, struct slice payload,
	struct entry_id id);

/* Commands of the bridge. CONTROL_LATER: the answer comes later, through devices_answer_by; until then it is told every few
 * seconds. */
typedef void devices_answer_fn(void *ctx, const char *client, struct entry_id generation, uint32_t sequence,
	enum control_result result);
void devices_answer_by(struct devices *d, devices_answer_fn *fn, void *ctx);
enum control_result devices_batch(struct devices *d, const struct control_command *c);
enum control_result devices_switch(struct devices *d, const struct control_command *c);
/* The broker sends a message to a client (2.1, outlet->tells_sent): room for the next. `id`: the outlet was given it with
 * that; zero: it was not. */
void devices_sent(struct devices *d, const char *client, struct entry_id id, struct slice topic, struct slice payload);
/* The same for whatever it sends, in the middle of a publish's deliveries too; topic and payload are its own. Cheap. */
void devices_sending(struct devices *d, const char *client, struct slice topic, struct slice payload);
/* Would devices_sent make a difference? */
bool devices_await(struct devices *d, const char *client);
/* The broker drops what exceeds so many messages waiting for one device, as the bridge has found out; 0: no such limit is known.
 * Logged when it changes. */
void devices_queue_limit(struct devices *d, uint32_t limit);
/* A bridge has come: every device that is owed something is told again, in a new generation. */
void devices_announce(struct devices *d);

/* Ends PASS; lets devices go live that waited longer than hold_timeout while `away` (no bridge or no Redis). */
void devices_tick(struct devices *d, bool away);
/* In the middle of a turn, where nobody tells when one ends (2.0.x): the latter; and if all is `quiet`, so that what was handed over
 * must have been delivered, the former, too. */
void devices_meanwhile(struct devices *d, bool away, bool quiet);

struct devices_counts { uint64_t known, catching, late; };
struct devices_counts devices_count(const struct devices *d);

#endif
