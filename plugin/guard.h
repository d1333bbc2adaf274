/*
 * Keeps the order of pushes when one is refused. The bridge's outbox has many publishes under way; MQTT lets the broker
 * accept those behind one that it refused, and what was accepted cannot be taken back. So behind a refused publish of
 * that connection, whoever refused it, every other one of QoS 1 and 2 is refused too, until the bridge says that it has
 * heard of it (config/control.h, OUTBOX) or connects anew. QoS 0 passes: nobody would be told that it was refused.
 * Concerns the client `mosquitto-redis-outbox-<node>` alone. Broker thread. Plain data, zero but `client` to begin with.
 */
#ifndef MQR_PLUGIN_GUARD_H
#define MQR_PLUGIN_GUARD_H

#include <stdbool.h>

#include "config/control.h"
#include "config/message.h"
#include "config/slice.h"
#include "plugin/outlet.h"

struct guard {
	char client[CONTROL_CLIENT_MAX];
	size_t client_len;
	bool asked;   /* a publish is with the other plugins, or was refused by one of them */
	bool blocked;
	bool refused; /* by us, and the outbox may not know why its connection ended */
};

void guard_init(struct guard *g, const char *node);
/* A publish has come. False: refuse it. */
bool guard_admits(struct guard *g, const struct message *m);
/* We refuse it ourselves. */
void guard_refused(struct guard *g, const struct message *m);
/* No plugin refused the publish of this client that came last. */
void guard_passed(struct guard *g, const char *client);
void guard_disconnected(struct guard *g, const char *client);
/* A publish on the control topic. True: it was the outbox's, and is answered; or that of an outbox of another node, which goes
 * unanswered: it keeps the order by itself. */
bool guard_command(struct guard *g, const char *client, struct slice payload, const struct outlet *outlet);

#endif
