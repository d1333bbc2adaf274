/*
 * Owns the generator of decisions, and draws what a run consists of: rules, grants, devices, publishers. Runs on the test's
 * thread. The same seed draws the same.
 */
#include "tests/soak/explore.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "config/topic.h"
#include "tests/harness/store.h"

static const char *const topics[] = {"a/0", "a/1", "a/2", "b/0", "b/1", "b/2/x", "c/0", "c/1"};

static const char *const keys[] = {"%t", "%t", "%1", "%1:%2", "all"};

static const char *const rule_filters[] = {"a/#", "a/+", "b/#", "c/#", "+/0", "#"};

static const char *const filters[] = {"a/#", "a/+", "a/1", "a/2", "b/#", "b/+/x", "+/0", "+/1", "c/#", "c/0", "#", "+/+"};

unsigned draw(struct explore *x, unsigned n)
{
	x->random ^= x->random << 13;
	x->random ^= x->random >> 7;
	x->random ^= x->random << 17;
	return (unsigned)(x->random >> 33) % n;
}

bool chance(struct explore *x, unsigned percent)
{
	return draw(x, 100) < percent;
}

#define DRAW(x, table) ((table)[draw((x), sizeof(table) / sizeof((table)[0]))])

bool plan_matches(const char *filter, const char *topic)
{
	return topic_matches(slice_str(filter), slice_str(topic));
}

const struct grant_plan *plan_grant(const struct explore *x, const char *filter)
{
	for (unsigned i = 0; i < x->grant_count; i++)
		if (filters_intersect(slice_str(x->grants[i].pattern), slice_str(filter))) return &x->grants[i];
	return NULL;
}

bool plan_granted(const struct explore *x, const char *topic)
{
	for (unsigned i = 0; i < x->grant_count; i++)
		if (plan_matches(x->grants[i].pattern, topic)) return true;
	return false;
}

/* Every topic is stored by one rule; some by more. */
static void draw_rules(struct explore *x)
{
	static const char *const each[] = {"a/#", "b/#", "c/#"};

	for (unsigned i = 0; i < 3; i++) {
		if (i == 2 && chance(x, 20)) continue; /* those are live only */
		x->rules[x->rule_count++] = (struct rule){each[i], DRAW(x, keys), chance(x, 30)};
	}
	while (chance(x, 35) && x->rule_count < RULES_MAX)
		x->rules[x->rule_count++] = (struct rule){DRAW(x, rule_filters), DRAW(x, keys), chance(x, 30)};
}

static struct grant_plan draw_grant(struct explore *x, const char *pattern)
{
	struct grant_plan g = {.pattern = pattern};
	unsigned overlap = draw(x, 10);

	g.new_policy = (enum new_policy)draw(x, 3);
	g.new_count = 1 + draw(x, 20);
	g.overlap_keepalive = overlap >= 8;
	g.overlap_s = overlap < 5 ? 0 : 1 + draw(x, 3);
	g.replay = chance(x, 50);
	g.rate = chance(x, 25) ? 50 + draw(x, 300) : 0;
	return g;
}

static void draw_grants(struct explore *x)
{
	static const char *const some[] = {"a/#", "b/#", "+/0"};

	for (unsigned i = 0; i < 3; i++)
		if (chance(x, 25)) x->grants[x->grant_count++] = draw_grant(x, some[i]);
	x->grants[x->grant_count++] = draw_grant(x, "#");
}

static const char *settings(struct explore *x)
{
	const char *text = "hold_timeout 1h\n";

	for (unsigned i = 0; i < x->rule_count; i++) {
		const struct rule *r = &x->rules[i];
		text = scene_text(x->scene, "%smirror %s %s %s:%u:%s\n", text, r->filter, r->list ? "list" : "stream", r->list ? "l" : "s", i, r->key);
	}
	for (unsigned i = 0; i < x->grant_count; i++) {
		const struct grant_plan *g = &x->grants[i];
		const char *first = g->new_policy == NEW_NONE ? "none" : g->new_policy == NEW_ALL ? "all" : scene_text(x->scene, "last=%u", g->new_count);
		const char *overlap = g->overlap_keepalive ? "keepalive" : scene_text(x->scene, "%u", g->overlap_s);
		text = scene_text(x->scene, "%sredeliver %s new=%s overlap=%s%s%s\n", text, g->pattern, first, overlap, g->replay ? " replay=yes" : "",
			g->rate ? scene_text(x->scene, " rate=%u", g->rate) : "");
	}
	return text;
}

static void draw_subs(struct explore *x, struct device *d, bool member, const char *group_filter)
{
	unsigned count = 1 + draw(x, 3);

	if (member) d->subs[d->sub_count++] = (struct sub){.filter = group_filter, .group = "crew", .qos = (int)draw(x, 3), .wanted = true};
	if (member && chance(x, 65)) return;
	for (unsigned i = 0; i < count; i++) {
		const char *filter = DRAW(x, filters);
		bool had = false;
		for (unsigned k = 0; k < d->sub_count; k++) had |= !d->subs[k].group && strcmp(d->subs[k].filter, filter) == 0;
		if (!had) d->subs[d->sub_count++] = (struct sub){.filter = filter, .qos = (int)draw(x, 3), .wanted = true};
	}
}

static void draw_device(struct explore *x, unsigned i, bool member, const char *group_filter)
{
	struct device *d = &x->devices[i];
	unsigned session = draw(x, 10);

	(void)snprintf(d->id, sizeof(d->id), "d%u", i);
	d->v5 = chance(x, 50);
	d->session = session < 5 ? SESSION_CLEAN : session < 8 || !d->v5 ? SESSION_KEPT : SESSION_BEGUN_CLEAN;
	d->keepalive_s = 2 + draw(x, 3);
	d->receive_maximum = d->v5 && chance(x, 40) ? 1 + draw(x, 10) : 0;
	d->slow_ms = chance(x, 15) ? 3 + draw(x, 10) : 0;
	d->subscribes_again = chance(x, 60);
	d->has_will = chance(x, 20);
	d->link.fd = d->old.fd = -1;
	d->received2 = calloc(65536, 1);
	scene_require(d->received2, "out of memory");
	draw_subs(x, d, member, group_filter);
}

static void draw_devices(struct explore *x)
{
	const char *group_filter = DRAW(x, filters);
	unsigned members = chance(x, 60) ? 2 + draw(x, 2) : 0;

	x->device_count = DEVICES_MAX - draw(x, 3);
	for (unsigned i = 0; i < x->device_count; i++) draw_device(x, i, i < members, group_filter);
	x->publisher_count = 3 + draw(x, PUBLISHERS_MAX - 3);
	for (unsigned i = 0; i < x->publisher_count; i++) x->publishers[i].link.fd = -1;
}

void plan_begin(struct explore *x, struct scene *s, uint64_t seed)
{
	struct timespec t;

	memset(x, 0, sizeof(*x));
	x->scene = s;
	x->seed = seed;
	x->random = seed * 2862933555777941757u + 3037000493u;
	x->random = x->random ? x->random : 1;
	clock_gettime(CLOCK_REALTIME, &t);
	x->begun_ms = now_ms();
	x->clock = (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000 - (int64_t)x->begun_ms;
	x->events = broker_has_events(s);
	x->duplicates = chance(x, 50);
	x->topic_count = sizeof(topics) / sizeof(topics[0]);
	memcpy(x->topics, topics, sizeof(topics));
	draw_rules(x);
	draw_grants(x);
	draw_devices(x);
	x->settings = settings(x);
	world_start_with(&x->w, s, x->settings,
		scene_text(s, "log_type error\nlog_type warning\nlog_type notice\nlog_type information\nlog_timestamp_format %%H:%%M:%%S\n"
			"allow_duplicate_messages %s\n", x->duplicates ? "true" : "false"), WORLD_BRIDGE | WORLD_REDIS_ALWAYS);
}
