/*
 * Behind a refused push of the outbox none is accepted. Owns nothing. Broker thread. It must never touch another client's
 * publishes.
 */
#include "plugin/guard.h"

#include <stdio.h>
#include <string.h>

void guard_init(struct guard *g, const char *node)
{
	*g = (struct guard){0};
	snprintf(g->client, sizeof g->client, CONTROL_CLIENT, CONTROL_ROLE_OUTBOX, node);
	g->client_len = strlen(g->client);
}

static bool concerns(const struct guard *g, const struct message *m)
{
	return m->qos > 0 && slice_equal(m->client, slice_of(g->client, g->client_len));
}

bool guard_admits(struct guard *g, const struct message *m)
{
	if (!concerns(g, m)) return true;
	if (g->asked) g->blocked = true; /* the one before did not come through */
	g->asked = !g->blocked;
	return !g->blocked;
}

void guard_refused(struct guard *g, const struct message *m)
{
	if (!concerns(g, m)) return;
	g->blocked = g->refused = true;
	g->asked = false;
}

void guard_passed(struct guard *g, const char *client)
{
	if (g->asked && strcmp(client, g->client) == 0) g->asked = false;
}

static void clear(struct guard *g)
{
	g->asked = g->blocked = false;
}

void guard_disconnected(struct guard *g, const char *client)
{
	if (strcmp(client, g->client) == 0) clear(g);
}

/* Of whichever node: several may have their outboxes published here. */
static bool is_outbox(const char *client)
{
	char any[CONTROL_CLIENT_MAX];

	(void)snprintf(any, sizeof(any), CONTROL_CLIENT, CONTROL_ROLE_OUTBOX, "");
	return strncmp(client, any, strlen(any)) == 0;
}

bool guard_command(struct guard *g, const char *client, struct slice payload, const struct outlet *outlet)
{
	struct control_command c;
	struct buf reply = {0};

	/* Others are longer: they are looked through by who acts on them. */
	if (!control_claims(payload, CONTROL_OUTBOX) || control_decode(payload, &c) != ST_OK) return false;
	if (strcmp(client, g->client) != 0) return is_outbox(client);
	clear(g);
	control_guarded(&reply, g->refused);
	g->refused = false;
	/* Without an answer it keeps the order by itself, more slowly. */
	if (!reply.failed) (void)outlet->tell_bridge(outlet->ctx, client, reply.data, reply.len);
	buf_free(&reply);
	return true;
}
