/*
 * Groups: shared subscriptions ($share/group/filter). A group is one reader with one cursor, kept like a device's under the
 * subscription's whole text as its client id; what it missed is shared out among the members that are there, each message to
 * one of them. Part of the device table (devices.h), which calls everything here. Broker thread only; never blocks.
 *
 *   AWAY      no member is there that a grant covers. What the broker would queue for those whose sessions it keeps is held back
 *   CATCHING  live messages of all members are held back; the backlog comes in batches from the bridge
 *   LIVE      the broker chooses the member, as ever. `late` while something is still owed that members had not taken when their
 *             connections were lost, or because the bridge was away
 *
 * In LIVE, too, the plugin looks at each delivery. What the broker would give to a member that is away goes to another one, and
 * so does what would pass something handed over before. The broker does not tell for which subscription it asks: a client that
 * has others that match, or is in two groups, is handed everything, its own copy at once, and the group's to whomever when all
 * were asked and nobody else can have been the one.
 *
 * In the turn of the broker's loop in which a connection ends the broker goes on to choose that member, and asks nobody: what comes
 * in it is given to the others when it ends.
 *
 * When a connection ends, what that member was given and may not have taken is owed; the others are given it again. On 2.1 that
 * is also what the broker had for it by itself and had not sent: little, since who does not take what it has gets no more. Nothing
 * of that is owed while the broker goes on with the session, kept or taken over by another connection.
 */
#ifndef MQR_PLUGIN_GROUPS_H
#define MQR_PLUGIN_GROUPS_H

#include "plugin/devices.h"

#define GROUP_WAITING_MAX 8192u /* live messages that wait for a member with room (2.1); beyond, they come from Redis */
#define GROUP_UNSENT_MAX 25u /* messages that the broker has for a member and has not sent yet (2.1): it gets no more before */

struct window;

struct groups *groups_new(void); /* NULL: out of memory */
void groups_free(struct devices *d); /* bears none */
void groups_rewire(struct devices *d);

bool groups_any(const struct devices *d);
bool groups_busy(const struct devices *d);
bool groups_member(struct devices *d, const char *client); /* Is it in one? */
bool groups_name(const char *client); /* Is it one that a group may have? */

/* As those of devices.h. */
void groups_subscribed(struct devices *d, const struct client_info *client, const char *filter, uint8_t qos);
void groups_unsubscribed(struct devices *d, const char *client, const char *filter);
bool groups_holds(struct devices *d, const char *client, const char *filter);
void groups_connected(struct devices *d, const struct client_info *client, int subscriptions);
void groups_goodbye(struct devices *d, const char *client);
void groups_disconnected(struct devices *d, const char *client, bool persistent);
/* Any granted subscription of a client: with a clean session, it is in no group from before. */
void groups_fresh(struct devices *d, const struct client_info *client);

/* Is the message for any group? Cheap: asked once for each. */
bool groups_concern(const struct devices *d, const struct current_message *current);

/* NONE: the client is in no group that the topic is for; ask the device. */
enum group_verdict { GROUP_NONE, GROUP_HOLD, GROUP_PASS };
enum group_verdict groups_hold(struct devices *d, const char *client, const struct current_message *current);
enum group_verdict groups_hold_released(struct devices *d, const char *client, struct slice topic, struct slice payload,
	struct entry_id id);
/* All read checks of the message before are over. */
void groups_over(struct devices *d);

bool groups_named(struct devices *d, struct slice name);
enum control_result groups_batch(struct devices *d, const struct control_command *c);
enum control_result groups_switch(struct devices *d, const struct control_command *c);
/* As devices_taken_back. */
void groups_taken_back(struct devices *d, const char *client);
bool groups_await(struct devices *d, const char *client);
/* True: it was one that the client was given as a member. `own`: the device's window, or NULL. */
bool groups_sent(struct devices *d, const char *client, struct entry_id id, struct slice topic, struct slice payload,
	const struct window *own);
/* The client's window as a device ends, and its connection goes on. */
void groups_window_over(struct devices *d, const char *client, const struct window *own);
void groups_sending(struct devices *d, const char *client, struct slice topic, struct slice payload);
/* The file of kept sessions: a line of it about a group; what is in it; when all is read, how many clients are restored. */
void groups_restore(struct devices *d, const struct kept_record *r, const char *client, const char *filter);
void groups_file_all(struct devices *d);
size_t groups_restored(struct devices *d, int (*subscriptions)(const char *client));
void groups_announce(struct devices *d);
void groups_tick(struct devices *d, bool away);
void groups_meanwhile(struct devices *d); /* as devices_meanwhile, away and not quiet */
void groups_count(const struct devices *d, struct devices_counts *n);

#endif
