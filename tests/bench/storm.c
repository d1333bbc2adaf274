/*
 * Very many devices reconnect at once, each with a backlog of its own and on a common topic: how long until all have
 * everything, what others notice (how soon a live device has what a steady publisher sends, on a topic that is mirrored and granted,
 * too), and what the bridge needs. What it is held against, all in one run on the same machine: a plain Mosquitto at which as many
 * devices arrive and nothing was missed; a plain Mosquitto that has queued the same backlog for them in its memory (sessions that it
 * keeps, max_queued_messages 0); the plugin with nothing missed; and a plain Mosquitto that gives the devices as many messages a second
 * live. Ratios compare; the figures of different machines do not.
 *
 *	cmake -S . -B build -DBENCH=ON && cmake --build build && build/storm [devices [own messages [common messages]]]
 *
 * 2000 devices with 1000 messages each (200 of their own, 800 common) unless said otherwise. The devices and the publisher share
 * the machine with the servers. A row tells of the messages sent until the last device had its SUBACK, and of those from then on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/harness/crowd.h"
#include "tests/harness/figures.h"
#include "tests/harness/guest.h"
#include "tests/harness/live_load.h"
#include "tests/harness/publisher.h"
#include "tests/harness/store.h"

#define LINES "mirror own/# stream own:%2\nmirror common/# stream common\nmirror live/# stream live\nredeliver own/%c/# overlap=0\n" \
	"redeliver common/# overlap=0\nredeliver live/# overlap=0\nhold_timeout 1h\n"
#define QUIET "log_type none\nlog_type error\nlog_type warning\nlog_type notice\n"

enum { WAIT_MS = 600000, ARRIVALS = 5, LIVE_PER_SECOND = 500, PAYLOAD = 100, LIVE_MS = 5000 };

static unsigned devices = 2000, own = 200, common = 800;

struct storm {
	struct world w;
	struct crowd *crowd;
	unsigned *next_own, *next_common;
	unsigned complete;
	unsigned long long messages;
};

/* How soon the live device had it. */
struct noticed {
	struct latency arriving, after;
	double seconds; /* all in all */
};

static void on_message(void *ctx, const struct crowd_message *m)
{
	struct storm *s = ctx;
	bool is_common = strcmp(m->topic, "common/t") == 0;
	unsigned *next = is_common ? &s->next_common[m->device] : &s->next_own[m->device];

	scene_require(strtoul(m->payload, NULL, 10) == *next, "device %u, %s: %s came, %u was due", m->device, m->topic,
		m->payload, *next);
	(*next)++;
	s->messages++;
	if (s->next_own[m->device] == own && s->next_common[m->device] == common) s->complete++;
}

static void forget_counts(struct storm *s)
{
	memset(s->next_own, 0, devices * sizeof(*s->next_own));
	memset(s->next_common, 0, devices * sizeof(*s->next_common));
	s->complete = 0;
	s->messages = 0;
}

static struct crowd *gather(struct storm *s, struct scene *scene, struct server *broker)
{
	struct crowd *c = crowd_new(scene, server_port(broker), devices, "d%u", on_message, s);

	crowd_filter(c, 0, devices, "own/%s/#");
	crowd_filter(c, 0, devices, "common/#");
	return c;
}

/* Connects all; `wanted` of them are to have everything in the end. */
static struct noticed arrive(struct storm *s, struct crowd *c, struct publisher *p, unsigned wanted)
{
	struct noticed n;
	unsigned section = publisher_section(p), after;
	uint64_t began = now_ms();

	crowd_connect(c);
	while (crowd_subscribed(c) < devices) {
		scene_require(now_ms() < began + WAIT_MS, "only %u subscribed", crowd_subscribed(c));
		crowd_turn(c, 20);
	}
	after = publisher_section(p);
	n.arriving = publisher_delivery(p, section);
	while (s->complete < wanted) {
		scene_require(now_ms() < began + WAIT_MS, "only %u of %u devices have everything", s->complete, devices);
		crowd_turn(c, 20);
	}
	n.seconds = (double)(now_ms() - began) / 1000;
	n.after = publisher_delivery(p, after);
	return n;
}

static struct latency quiet_second(struct publisher *p)
{
	unsigned section = publisher_section(p);

	wait_until(publisher_delivery(p, section).count >= LIVE_PER_SECOND, WAIT_MS, "a second");
	return publisher_delivery(p, section);
}

/* Until the broker's books say that nobody catches up, and Redis has everything. */
static void settle(struct storm *s)
{
	uint64_t limit = now_ms() + WAIT_MS;
	long long last = -1, same = 0;

	while (same < 20) {
		long long events = store_integer(s->w.db, "XLEN", "mqtt:events:test", NULL);

		same = events == last ? same + 1 : 0;
		last = events;
		scene_require(now_ms() < limit, "it does not settle");
		crowd_turn(s->crowd, 50);
		poll_pause();
	}
}

static void publish(struct guest *p, const char *topic, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		char text[PAYLOAD + 1];

		memset(text, '.', PAYLOAD);
		text[snprintf(text, sizeof(text), "%u", i)] = ' ';
		scene_require(guest_send(p, topic, text, PAYLOAD, 1, false, 500) >= 0, "publisher lost");
	}
}

static void publish_backlog(struct guest *source)
{
	for (unsigned i = 0; i < devices; i++) {
		char topic[32];

		(void)snprintf(topic, sizeof(topic), "own/d%u/t", i);
		publish(source, topic, own);
	}
	publish(source, "common/t", common);
	scene_require(guest_flush(source, WAIT_MS), "publishes not acknowledged");
}

static long bridge_peak_kib(struct storm *s)
{
	const char *text = scene_read(s->w.scene, scene_text(s->w.scene, "/proc/%d/status", server_pid(s->w.bridge)), NULL);
	const char *at = text ? strstr(text, "VmHWM:") : NULL;

	return at ? strtol(at + 6, NULL, 10) : -1;
}

static void tell(const char *what, const struct noticed *n, unsigned long long messages)
{
	printf("%-44s %7u %8u   ", what, n->arriving.p50_us, n->arriving.p99_us);
	if (messages > 0) {
		printf("%7u %8u   %6.1f s, %.0f messages a second\n", n->after.p50_us, n->after.p99_us, n->seconds,
			(double)messages / n->seconds);
	} else {
		printf("%16s   %6.1f s\n", "", n->seconds);
	}
	(void)fflush(stdout);
}

static int by_p99(const void *a, const void *b)
{
	const struct noticed *x = a, *y = b;

	return (x->arriving.p99_us > y->arriving.p99_us) - (x->arriving.p99_us < y->arriving.p99_us);
}

/* With nothing to give out they are all there in a moment, with few publishes meanwhile: the middle one of several arrivals. */
static struct noticed arrive_in_vain(struct storm *s, struct crowd *c, struct publisher *p)
{
	struct noticed n[ARRIVALS];

	for (int i = 0; i < ARRIVALS; i++) {
		if (i > 0) crowd_disconnect(c);
		if (i > 0) (void)quiet_second(p);
		n[i] = arrive(s, c, p, 0);
	}
	qsort(n, ARRIVALS, sizeof(*n), by_p99);
	return n[ARRIVALS / 2];
}

/* Nothing missed, and then with the backlog in the broker's own queues. */
static struct noticed plain_mosquitto(struct storm *s, struct scene *scene, struct latency *nothing_missed)
{
	struct server *broker = broker_new(scene, "plain", NULL, QUIET "max_queued_messages 0\n");
	struct publisher *p;
	struct crowd *c;
	struct guest *source;
	struct noticed n;
	struct latency calm;

	server_start(broker);
	p = publisher_start(scene, server_port(broker), "live", 1, 64);
	publisher_listen(p, 1);
	c = gather(s, scene, broker);
	publisher_pace(p, LIVE_PER_SECOND);
	calm = quiet_second(p);
	printf("%-44s %7u %8u\n", "plain Mosquitto, calm", calm.p50_us, calm.p99_us);
	n = arrive_in_vain(s, c, p);
	tell("plain Mosquitto, nothing missed", &n, 0);
	*nothing_missed = n.arriving;
	crowd_disconnect(c);
	crowd_persistent(c);
	publisher_pace(p, 0);
	(void)arrive(s, c, p, 0);
	crowd_disconnect(c);
	source = guest_new_at(scene, server_port(broker), "source", NULL);
	guest_connect(source);
	publish_backlog(source);
	publisher_pace(p, LIVE_PER_SECOND);
	n = arrive(s, c, p, devices);
	tell("plain Mosquitto, its own queues", &n, s->messages);
	publisher_pace(p, 0);
	crowd_disconnect(c);
	if (crowd_resets(c) > 0) printf("%u connections to it were reset and made again\n", crowd_resets(c));
	server_stop(broker);
	forget_counts(s);
	return n;
}

static void test_storm(void **state)
{
	struct scene *scene = *state;
	struct storm s = {0};
	struct noticed queues, nothing, storm;
	struct latency calm, plain;
	struct live_load live;

	crowd_descriptors(devices * 2 + 200);
	s.next_own = calloc(devices, sizeof(unsigned));
	s.next_common = calloc(devices, sizeof(unsigned));
	assert_true(s.next_own && s.next_common);
	printf("%-44s %16s   %16s\n%-44s %7s %8s   %7s %8s\n", "live messages to a live device, us", "while they come", "from then on",
		"", "p50", "p99", "p50", "p99");
	queues = plain_mosquitto(&s, scene, &plain);

	world_start_with(&s.w, scene, LINES, QUIET, WORLD_BRIDGE);
	struct publisher *p = publisher_start(scene, server_port(s.w.broker), "live", 1, 64);
	publisher_listen(p, 1);
	world_wait_event(&s.w, "live", "live-listener", 1);
	struct guest *source = guest_join(&s.w, "source", NULL);
	s.crowd = gather(&s, scene, s.w.broker);
	publisher_pace(p, LIVE_PER_SECOND);
	calm = quiet_second(p);
	printf("%-44s %7u %8u\n", "the plugin, calm", calm.p50_us, calm.p99_us);
	nothing = arrive(&s, s.crowd, p, 0);
	tell("the plugin, nothing missed", &nothing, 0);
	settle(&s);
	crowd_disconnect(s.crowd);
	settle(&s);
	publish_backlog(source);
	storm = arrive(&s, s.crowd, p, devices);
	publisher_pace(p, 0);
	crowd_disconnect(s.crowd);
	tell("the plugin, the storm", &storm, s.messages);
	live = live_load(scene, &(struct live_load_plan){.devices = devices, .per_second = (double)s.messages / storm.seconds,
		.others_per_second = LIVE_PER_SECOND, .payload_len = PAYLOAD, .ms = LIVE_MS});
	printf("%-44s %16s   %7u %8u   %8s %.0f messages a second\n", "plain Mosquitto, as many messages live", "", live.delivery.p50_us,
		live.delivery.p99_us, "", live.per_second);
	printf("the storm to Mosquitto's own queues: p99 %.2f while they come, %.2f from then on; messages a second %.2f\n",
		(double)storm.arriving.p99_us / (queues.arriving.p99_us + 1), (double)storm.after.p99_us / (queues.after.p99_us + 1),
		queues.seconds / storm.seconds);
	printf("when all are connected to as many messages live: p50 %.2f, p99 %.2f\n",
		(double)storm.after.p50_us / (live.delivery.p50_us + 1), (double)storm.after.p99_us / (live.delivery.p99_us + 1));
	printf("when all are connected to calm: p50 %.2f, p99 %.2f; %u messages otherwise than they should be\n",
		(double)storm.after.p50_us / (calm.p50_us + 1), (double)storm.after.p99_us / (calm.p99_us + 1), publisher_misheard(p));
	printf("%u devices, %llu messages; bridge at most %ld KiB; %u connections were reset and made again\n", devices, s.messages,
		bridge_peak_kib(&s), crowd_resets(s.crowd));
	figure("storm", "rate", (double)s.messages / storm.seconds, "1/s");
	figure("storm", "rate, Mosquitto's queues", (double)s.messages / queues.seconds, "1/s");
	figure("storm", "bridge", (double)bridge_peak_kib(&s) / 1024, "MiB");
	figure("storm", "others p99, storm", storm.arriving.p99_us, "us");
	figure("storm", "others p99, plain arrival", plain.p99_us, "us");
	figure("storm", "others p99, Mosquitto's queues", queues.arriving.p99_us, "us");
	figure("storm", "others p50, as many live", live.delivery.p50_us, "us");
	figure("storm", "others p99, as many live", live.delivery.p99_us, "us");
	figure("storm", "others p50, calm", calm.p50_us, "us");
	figure("storm", "others p50, storm, all connected", storm.after.p50_us, "us");
	figure("storm", "others p99, calm", calm.p99_us, "us");
	figure("storm", "others p99, storm, all connected", storm.after.p99_us, "us");
	free(s.next_own);
	free(s.next_common);
	scene_end(scene);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {scene_test(test_storm)};

	if (argc > 1) devices = (unsigned)strtoul(argv[1], NULL, 10);
	if (argc > 2) own = (unsigned)strtoul(argv[2], NULL, 10);
	if (argc > 3) common = (unsigned)strtoul(argv[3], NULL, 10);
	if (devices == 0 || devices > 30000 || own == 0 || common == 0) {
		fprintf(stderr, "usage: storm [devices, 1 to 30000 [own messages [common messages]]]\n");
		return 2;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
