/* A broker, a crowd and two publishers for as long as it takes. Test's thread; the publishers have their own. */
#include "tests/harness/live_load.h"

#include "tests/harness/crowd.h"

#define QUIET "log_type none\nlog_type error\nlog_type warning\nmax_queued_messages 0\n"

enum { WAIT_MS = 60000, SETTLE_MS = 500 };

static void on_message(void *ctx, const struct crowd_message *m)
{
	unsigned long *received = ctx;

	(void)m;
	(*received)++;
}

static void turn_for(struct crowd *c, unsigned ms)
{
	for (uint64_t end = now_ms() + ms; now_ms() < end;) crowd_turn(c, 1);
}

static void arrive(struct crowd *c, unsigned devices)
{
	uint64_t limit = now_ms() + WAIT_MS;

	crowd_filter(c, 0, devices, "own/%s/#");
	crowd_connect(c);
	while (crowd_subscribed(c) < devices) {
		scene_require(now_ms() < limit, "only %u of %u devices subscribed", crowd_subscribed(c), devices);
		crowd_turn(c, 20);
	}
}

/* Measured once all are under way. */
static struct live_load measure(const struct live_load_plan *plan, struct crowd *c, struct publisher *others, const unsigned long *received)
{
	struct live_load l;
	unsigned section;
	unsigned long before;

	turn_for(c, SETTLE_MS);
	section = publisher_section(others);
	before = *received;
	turn_for(c, plan->ms);
	l.per_second = (double)(*received - before) * 1000 / plan->ms;
	l.delivery = publisher_delivery(others, section);
	l.work = publisher_work(others, section);
	return l;
}

struct live_load live_load(struct scene *s, const struct live_load_plan *plan)
{
	struct server *broker = broker_new(s, "live", NULL, QUIET);
	unsigned long received = 0;

	server_start(broker);
	struct publisher *others = publisher_start(s, server_port(broker), "others", 1, plan->payload_len);
	publisher_listen(others, 1);
	if (plan->watch) publisher_watch(others, server_pid(broker));
	struct publisher *source = publisher_start(s, server_port(broker), "own", PUBLISHER_CONNECTIONS_MAX, plan->payload_len);
	publisher_spread(source, plan->devices);
	struct crowd *c = crowd_new(s, server_port(broker), plan->devices, "d%u", on_message, &received);
	arrive(c, plan->devices);
	publisher_pace(others, plan->others_per_second);
	publisher_pace(source, (unsigned)plan->per_second);
	struct live_load l = measure(plan, c, others, &received);
	publisher_pace(source, 0);
	publisher_pace(others, 0);
	scene_require(l.delivery.count > 0 && l.per_second > 0 && publisher_misheard(others) == 0,
		"live: %zu messages of others, %.0f a second to the crowd", l.delivery.count, l.per_second);
	crowd_disconnect(c);
	server_stop(broker);
	return l;
}
