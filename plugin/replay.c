/*
 * Requests for history. Owns nothing: a device has one replay at a time (plugin/device.h). Broker thread. It must never
 * hand out what the device may not read: every message of a replay passes the same checks as any other backlog.
 */
#include "plugin/replay.h"

#include <stdlib.h>
#include <string.h>

#include "config/json.h"
#include "config/rule.h"
#include "config/topic.h"
#include "plugin/device.h"

/* Numbers in JSON are doubles: beyond this they are not whole any more. */
#define WHOLE_MAX 9007199254740992.0

static bool whole_number(const cJSON *value, uint64_t *out)
{
	double v = value->valuedouble;

	if (!cJSON_IsNumber(value) || !(v >= 0 && v <= WHOLE_MAX)) return false;
	*out = (uint64_t)v;
	return (double)*out >= v; /* no fraction was cut off */
}

static const char *take_since(const cJSON *value, uint64_t wall_ms, struct replay_request *request)
{
	static const char why[] = "since is neither a duration such as \"1h\" nor milliseconds since 1970";
	uint64_t ms;

	if (whole_number(value, &ms)) {
		request->from = entry_id_back((struct entry_id){ms, 0}, 1); /* behind it, and that millisecond is meant, too */
		return NULL;
	}
	if (!cJSON_IsString(value) || duration_parse(value->valuestring, &ms) != ST_OK) return why;
	request->from = entry_id_back((struct entry_id){wall_ms, 0}, ms);
	return NULL;
}

/* Takes one member; returns what is wrong with it, or NULL. */
static const char *take_member(const cJSON *value, uint64_t wall_ms, struct buf *text, struct replay_request *request,
	unsigned *points)
{
	if (strcmp(value->string, "filter") == 0) {
		if (!cJSON_IsString(value) || text->len > 0 || !filter_valid(slice_str(value->valuestring)))
			return "filter is not a topic filter";
		buf_append_str(text, value->valuestring);
		buf_u8(text, 0);
		return NULL;
	}
	(*points)++;
	if (strcmp(value->string, "since") == 0) return take_since(value, wall_ms, request);
	if (strcmp(value->string, "last") == 0) {
		if (!whole_number(value, &request->last) || request->last == 0 || request->last > REPLAY_LAST_MAX)
			return "last is not a number of messages";
		return NULL;
	}
	if (strcmp(value->string, "id") == 0) {
		if (!cJSON_IsString(value) || entry_id_parse(slice_str(value->valuestring), &request->from) != ST_OK)
			return "id is not an entry id";
		return NULL;
	}
	return "unknown member; known are filter, since, last and id";
}

enum status replay_parse(struct slice json, uint64_t wall_ms, struct buf *text, struct replay_request *request,
	const char **why)
{
	cJSON *object = NULL;
	unsigned points = 0;
	enum status st;

	*request = (struct replay_request){.by_device = true};
	*why = "too large";
	if (json.len > REPLAY_BYTES_MAX) return ST_INVALID;
	buf_clear(text);
	st = json_parse(json, &object, why);
	if (st != ST_OK) return st;
	*why = cJSON_IsObject(object) ? NULL : "not an object";
	for (const cJSON *member = object->child; !*why && member; member = member->next)
		*why = take_member(member, wall_ms, text, request, &points);
	cJSON_Delete(object);
	if (!*why && text->failed) return ST_NOMEM;
	if (!*why && text->len == 0) *why = "no filter";
	if (!*why && points != 1) *why = "exactly one of since, last and id is needed";
	if (*why) return ST_INVALID;
	request->filter = slice_of(text->data, text->len - 1);
	return ST_OK;
}

/* One that the broker delivers by the plugin's leave, not one that it has resumed by itself. */
static const struct device_filter *covering(const struct device *dev, struct slice filter)
{
	for (const struct device_filter *f = dev->filters; f; f = f->next) {
		if (!f->implied && filter_covers(slice_str(f->filter), filter)) return f;
	}
	return NULL;
}

static bool granted(const struct device *dev, const struct replay_request *r)
{
	for (size_t i = 0; i < dev->grant_count; i++) {
		const struct device_grant *g = &dev->grants[i];

		if (r->by_device && !g->grant->replay) continue;
		if (r->by_device ? filter_covers(slice_str(g->pattern), r->filter)
				: filters_intersect(slice_str(g->pattern), r->filter)) return true;
	}
	return false;
}

bool devices_may_replay(struct devices *d, const char *client)
{
	struct device *dev = device_find(d, client);

	for (size_t i = 0; dev && dev->state != DEVICE_AWAY && dev->filters && i < dev->grant_count; i++) {
		if (dev->grants[i].grant->replay) return true;
	}
	return false;
}

enum control_result replay_begin(struct devices *d, const char *client, const struct replay_request *r)
{
	struct device *dev = device_find(d, client);
	const struct device_filter *by;
	struct device_replay *replay;

	if (!dev || dev->state == DEVICE_AWAY || !dev->filters) return CONTROL_ABSENT;
	if (!granted(dev, r)) return CONTROL_UNGRANTED;
	by = covering(dev, r->filter);
	if (!by) return CONTROL_UNSUBSCRIBED;
	if (dev->replay || dev->late) return CONTROL_BUSY;
	replay = calloc(1, sizeof *replay);
	if (!replay) return CONTROL_BUSY;
	*replay = (struct device_replay){.filter = strndup(r->filter.data, r->filter.len), .qos = by->qos, .rate = by->rate,
		.from = r->from, .last = r->last};
	if (!replay->filter || device_make_ready(d, dev) != ST_OK) goto fail;
	replay->upto = append_head(d->deps.append);
	dev->replay = replay;
	if (device_announce_replay(d, dev) == ST_OK) return CONTROL_DONE;
	dev->replay = NULL;
fail:
	free(replay->filter);
	free(replay);
	return CONTROL_BUSY;
}

const char *replay_why(enum control_result result)
{
	switch (result) {
	case CONTROL_ABSENT: return "it has no subscription";
	case CONTROL_UNSUBSCRIBED: return "none of its subscriptions covers the filter";
	case CONTROL_UNGRANTED: return "no grant with replay=yes covers the filter";
	case CONTROL_BUSY: return "another replay, or a backlog, is under way";
	default: return "";
	}
}
