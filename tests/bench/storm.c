/*
 * Very many devices reconnect at once, each with a backlog of its own and on a common topic: how long until all have
 * everything, what others notice (acknowledgements of a steady publisher), and what the bridge needs. Before that, as a
 * measure for the others' latency, as many devices arrive at a plain Mosquitto, and at one with the plugin with nothing
 * missed. All in one run on the same machine; the ratios compare, the figures of different machines do not.
 *
 *	cmake -S . -B build -DBENCH=ON && cmake --build build && build/storm [devices [own messages [common messages]]]
 *
 * 2000 devices with 1000 messages each (200 of their own, 800 common) unless said otherwise. The devices and the publisher
 * share the machine with the servers.
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
#include "tests/harness/publisher.h"
#include "tests/harness/store.h"

#define LINES "mirror own/# stream own:%2\nmirror common/# stream common\nredeliver own/%c/# overlap=0\n" \
	"redeliver common/# overlap=0\nhold_timeout 1h\n"
#define QUIET "log_type none\nlog_type error\nlog_type warning\nlog_type notice\n"

enum { WAIT_MS = 600000, LIVE_PER_SECOND = 500, PAYLOAD = 100 };

static unsigned devices = 2000, own = 200, common = 800;

struct storm {
	struct world w;
	struct crowd *crowd;
	unsigned *next_own, *next_common;
	unsigned complete;
	unsigned long long messages;
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

static void on_nothing(void *ctx, const struct crowd_message *m)
{
	(void)ctx;
	scene_fail(__FILE__, __LINE__, "device %u was given %s", m->device, m->topic);
}

/* Connects all and measures the publisher's section from there until all have their SUBACK. */
static struct latency arrive(struct crowd *c, struct publisher *p)
{
	unsigned section = publisher_section(p);
	uint64_t limit = now_ms() + WAIT_MS;

	crowd_connect(c);
	while (crowd_subscribed(c) < devices) {
		scene_require(now_ms() < limit, "only %u subscribed", crowd_subscribed(c));
		crowd_turn(c, 20);
	}
	return publisher_latency(p, section);
}

static struct latency quiet_second(struct publisher *p)
{
	unsigned section = publisher_section(p);

	wait_until(publisher_latency(p, section).count >= LIVE_PER_SECOND, WAIT_MS, "a second");
	return publisher_latency(p, section);
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

static long bridge_peak_kib(struct storm *s)
{
	const char *text = scene_read(s->w.scene, scene_text(s->w.scene, "/proc/%d/status", server_pid(s->w.bridge)), NULL);
	const char *at = text ? strstr(text, "VmHWM:") : NULL;

	return at ? strtol(at + 6, NULL, 10) : -1;
}

static void tell(const char *what, struct latency l, struct latency to)
{
	printf("%-44s %8u us %8u us   %6.1f\n", what, l.p50_us, l.p99_us, (double)l.p99_us / (to.p99_us + 1));
	(void)fflush(stdout);
}

static void test_storm(void **state)
{
	struct scene *scene = *state;
	struct storm s = {0};
	struct server *plain;
	struct latency calm, plain_arrival, arrival, storm;
	unsigned section;

	crowd_descriptors(devices * 2 + 200);
	s.next_own = calloc(devices, sizeof(unsigned));
	s.next_common = calloc(devices, sizeof(unsigned));
	assert_true(s.next_own && s.next_common);
	plain = broker_new(scene, "plain", NULL, QUIET "max_queued_messages 0\n");
	server_start(plain);
	struct publisher *to_plain = publisher_start(scene, server_port(plain), "live", 1, 64);
	struct crowd *guests = crowd_new(scene, server_port(plain), devices, "d%u", on_nothing, &s);
	crowd_filter(guests, 0, devices, "own/%s/#");
	crowd_filter(guests, 0, devices, "common/#");
	publisher_pace(to_plain, LIVE_PER_SECOND);
	(void)quiet_second(to_plain);
	plain_arrival = arrive(guests, to_plain);
	publisher_pace(to_plain, 0);
	crowd_disconnect(guests);
	server_stop(plain);

	world_start_with(&s.w, scene, LINES, QUIET, WORLD_BRIDGE);
	struct publisher *p = publisher_start(scene, server_port(s.w.broker), "live", 1, 64);
	struct guest *source = guest_join(&s.w, "source", NULL);
	s.crowd = crowd_new(scene, server_port(s.w.broker), devices, "d%u", on_message, &s);
	crowd_filter(s.crowd, 0, devices, "own/%s/#");
	crowd_filter(s.crowd, 0, devices, "common/#");
	publisher_pace(p, LIVE_PER_SECOND);
	calm = quiet_second(p);
	arrival = arrive(s.crowd, p);
	settle(&s);
	crowd_disconnect(s.crowd);
	settle(&s);
	for (unsigned i = 0; i < devices; i++) {
		char topic[32];

		(void)snprintf(topic, sizeof(topic), "own/d%u/t", i);
		publish(source, topic, own);
	}
	publish(source, "common/t", common);
	scene_require(guest_flush(source, WAIT_MS), "publishes not acknowledged");

	section = publisher_section(p);
	uint64_t began = now_ms();
	crowd_connect(s.crowd);
	while (s.complete < devices) {
		scene_require(now_ms() < began + WAIT_MS, "only %u of %u devices have everything", s.complete, devices);
		crowd_turn(s.crowd, 20);
	}
	double seconds = (double)(now_ms() - began) / 1000;
	storm = publisher_latency(p, section);
	publisher_pace(p, 0);
	printf("%u devices, %llu messages in %.1f s (%.0f a second); bridge at most %ld KiB\n", devices, s.messages, seconds,
		(double)s.messages / seconds, bridge_peak_kib(&s));
	printf("%-44s %11s %11s   p99 to calm\n", "others' acknowledgements", "p50", "p99");
	tell("calm", calm, calm);
	tell("the devices arrive, plain Mosquitto", plain_arrival, calm);
	tell("the devices arrive, plugin, nothing missed", arrival, calm);
	tell("the storm", storm, calm);
	figure("storm", "rate", (double)s.messages / seconds, "1/s");
	figure("storm", "bridge", (double)bridge_peak_kib(&s) / 1024, "MiB");
	figure("storm", "others p99, storm", storm.p99_us, "us");
	figure("storm", "others p99, plain arrival", plain_arrival.p99_us, "us");
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
