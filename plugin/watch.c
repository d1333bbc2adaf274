/*
 * Was a subscription granted? Owns copies of one client's names and a filter. Broker thread.
 *
 * Plain Mosquitto 2.0 grants every SUBSCRIBE that its ACL file sees (src/security_default.c), so without other plugins
 * there is no doubt. With others the number of subscriptions must have grown; it does not when the broker reuses a place
 * that an UNSUBSCRIBE left, and then the device goes without redelivery rather than getting what it may not have.
 */
#include "plugin/watch.h"

#include <string.h>

void watch_begin(struct watch *w, const struct client_info *client, const char *filter, uint8_t qos,
	const void *handle, int count_before, bool doubtful)
{
	size_t id_len = strlen(client->id) + 1, user_len = client->user ? strlen(client->user) + 1 : 0;

	buf_clear(&w->text);
	buf_append(&w->text, client->id, id_len);
	if (client->user) buf_append(&w->text, client->user, user_len);
	buf_append(&w->text, filter, strlen(filter) + 1);
	if (w->text.failed) return; /* goes live without its backlog; the cursor stays */
	w->client = *client;
	w->client.id = w->text.data;
	w->client.user = client->user ? w->text.data + id_len : NULL;
	w->filter = w->text.data + id_len + user_len;
	w->qos = qos;
	w->handle = handle;
	w->count_before = count_before;
	w->doubtful = doubtful;
	w->pending = true;
}

SELDOM void watch_resolve(struct watch *w, struct devices *devices, int (*sub_count)(const void *handle))
{
	if (!w->pending) return;
	w->pending = false;
	if (w->doubtful && sub_count(w->handle) <= w->count_before && !devices_holds(devices, w->client.id, w->filter))
		return;
	devices_subscribed(devices, &w->client, w->filter, w->qos);
}

void watch_fini(struct watch *w)
{
	buf_free(&w->text);
}
