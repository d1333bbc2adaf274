/*
 * Last wills. Owns the set of client objects that have disconnected (bounded, oldest forgotten first) and a copy of the
 * will under way. Broker thread. Must never look into a client object: it may be gone.
 */
#include "plugin/wills.h"

#include <stdlib.h>

#include "plugin/table.h"

#define DELAYED_MAX 65536 /* MQTT 5 sessions that may still publish a delayed will */

struct departed {
	UT_hash_handle hh;
	const void *handle;
};

struct wills {
	struct departed *delayed;
	const void *just_gone;   /* its will is checked before anything else happens */
	bool kept;
	struct message will;
	struct buf packed;
};

enum status wills_new(struct wills **out)
{
	*out = calloc(1, sizeof **out);
	return *out ? ST_OK : ST_NOMEM;
}

static struct departed *find(const struct wills *w, const void *handle)
{
	struct departed *d = NULL;

	HASH_FIND_PTR(w->delayed, &handle, d);
	return d;
}

SELDOM static void forget(struct wills *w, struct departed *d)
{
	HASH_DEL(w->delayed, d); /* NOLINT(clang-analyzer-unix.Malloc): its table goes with the last one only */
	free(d);
}

void wills_free(struct wills *w)
{
	struct departed *d, *tmp;

	if (!w) return;
	HASH_ITER(hh, w->delayed, d, tmp) forget(w, d);
	buf_free(&w->packed);
	free(w);
}

void wills_disconnected(struct wills *w, const void *handle, bool v5)
{
	struct departed *d;

	w->just_gone = handle;
	if (!v5 || find(w, handle)) return;
	if (HASH_COUNT(w->delayed) >= DELAYED_MAX) forget(w, w->delayed);
	d = malloc(sizeof *d);
	if (!d) return; /* a delayed will of this client is then not mirrored */
	d->handle = handle;
	HASH_ADD_PTR(w->delayed, handle, d); /* NOLINT(clang-analyzer-unix.Malloc): likewise */
	if (!d->hh.tbl) free(d);
}

void wills_alive(struct wills *w, const void *handle)
{
	struct departed *d;

	w->just_gone = NULL;
	if (!w->delayed) return;
	d = find(w, handle);
	if (d) forget(w, d);
}

bool wills_expected(const struct wills *w, const void *handle)
{
	return handle == w->just_gone || (w->delayed && find(w, handle));
}

enum status wills_keep(struct wills *w, const struct message *will)
{
	char *room;

	w->kept = false;
	buf_clear(&w->packed);
	room = buf_reserve(&w->packed, message_packed_size(will));
	if (!room) return ST_NOMEM;
	message_pack(will, room);
	w->packed.len = message_packed_size(will);
	if (message_unpack(slice_of(w->packed.data, w->packed.len), &w->will) != ST_OK) return ST_INVALID;
	w->kept = true;
	return ST_OK;
}

const struct message *wills_kept(const struct wills *w)
{
	return w->kept ? &w->will : NULL;
}

bool wills_is(const struct wills *w, struct slice topic, struct slice payload)
{
	return w->kept && slice_equal(w->will.topic, topic) && slice_equal(w->will.payload, payload);
}

void wills_drop(struct wills *w)
{
	w->kept = false;
	w->just_gone = NULL;
}
