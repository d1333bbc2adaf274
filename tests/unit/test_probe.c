/* What the bridge finds out of the broker's queue limit, against a plugin made of counters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "bridge/probe.h"

#define BURST_MS 20

static const struct entry_id boot = {7, 0};

static struct bench {
	uv_loop_t loop;
	uv_timer_t tick;
	struct pace pace;
	struct probe *probe;
	uint32_t burst, last; /* sequences */
	unsigned asked, told, found;
	uint32_t limit, told_limit;
} bench;

static enum status on_send(void *ctx, struct slice payload)
{
	struct bench *b = ctx;
	struct control_command c;

	assert_int_equal(control_decode(payload, &c), ST_OK);
	if (c.type == CONTROL_LIMIT) {
		b->told++;
		b->told_limit = c.queue_limit;
		return ST_OK;
	}
	assert_int_equal(c.type, CONTROL_PROBE);
	b->asked++;
	b->last = c.sequence;
	if (c.probes == CONTROL_PROBE_MAX) b->burst = c.sequence;
	return ST_OK;
}

static bool on_busy(void *ctx)
{
	(void)ctx;
	return false;
}

static void on_found(void *ctx, uint32_t limit)
{
	struct bench *b = ctx;

	b->found++;
	b->limit = limit;
}

static void on_line(void *ctx, enum log_level level, const char *line)
{
	(void)ctx;
	(void)level;
	(void)line;
}

static void on_tick(uv_timer_t *timer)
{
	(void)timer; /* so that uv_run returns */
}

static void begin_with(unsigned burst_ms)
{
	static const struct log_sink log = {on_line, NULL};

	memset(&bench, 0, sizeof(bench));
	assert_int_equal(uv_loop_init(&bench.loop), 0);
	assert_int_equal(uv_timer_init(&bench.loop, &bench.tick), 0);
	assert_int_equal(uv_timer_start(&bench.tick, on_tick, 1, 1), 0);
	struct probe_deps deps = {.loop = &bench.loop, .log = &log, .pace = &bench.pace, .send = on_send, .busy = on_busy,
		.found = on_found, .burst_ms = burst_ms, .ctx = &bench};
	assert_int_equal(probe_new(&deps, &bench.probe), ST_OK);
	probe_open(bench.probe, boot);
	assert_int_equal(bench.asked, 1);
}

static void begin(void)
{
	begin_with(BURST_MS);
}

static void end(void)
{
	probe_close(bench.probe, NULL, NULL);
	uv_close((uv_handle_t *)&bench.tick, NULL);
	assert_int_equal(uv_run(&bench.loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(uv_loop_close(&bench.loop), 0);
}

static void come(uint32_t sequence, uint16_t probes, unsigned count)
{
	struct control_command c = {.type = CONTROL_PROBED, .sequence = sequence, .probes = probes};

	for (unsigned i = 0; i < count; i++) probe_answer(bench.probe, &c);
}

/* Until it is found, or for longer than a burst may take. */
static void time_passes(void)
{
	uint64_t until = uv_now(&bench.loop) + 3 * BURST_MS;
	unsigned found = bench.found;

	while (bench.found == found && uv_now(&bench.loop) < until) {
		(void)uv_run(&bench.loop, UV_RUN_ONCE);
		probe_turn(bench.probe);
	}
}

static void all_come(void **state)
{
	(void)state;
	begin();
	come(bench.burst, CONTROL_PROBE_MAX, CONTROL_PROBE_MAX - 1);
	assert_int_equal(bench.found, 0);
	come(bench.burst, CONTROL_PROBE_MAX, 1);
	assert_true(bench.found == 1 && bench.limit == 0 && bench.told == 1 && bench.told_limit == 0);
	probe_stop(bench.probe);
	probe_open(bench.probe, boot); /* known */
	assert_true(bench.found == 2 && bench.limit == 0 && bench.asked == 1);
	end();
}

/* What is asked behind the burst comes, and some of the burst has not. */
static void some_are_dropped(void **state)
{
	(void)state;
	begin();
	come(bench.burst, CONTROL_PROBE_MAX, 120);
	come(bench.burst + 1, 1, 1);
	assert_true(bench.found == 1 && bench.limit == 120 && bench.told == 1 && bench.told_limit == 120);
	end();
}

/* The bridge stands still for longer than it waits for a plugin that says nothing: what has come is heard first. */
static void own_standstill(void **state)
{
	(void)state;
	begin_with(10 * PROBE_PATIENCE_MS);
	(void)usleep((PROBE_PATIENCE_MS + 100) * 1000);
	uv_update_time(&bench.loop);
	probe_turn(bench.probe);
	assert_int_equal(bench.found, 0);
	come(bench.burst, CONTROL_PROBE_MAX, 120);
	come(bench.burst + 1, 1, 1);
	assert_true(bench.found == 1 && bench.limit == 120);
	end();
}

/* The plugin had no memory for all of it: what has come says nothing about the broker. */
static void cut_short(void **state)
{
	(void)state;
	begin();
	come(bench.burst, CONTROL_PROBE_MAX, 2);
	come(bench.burst + 1, CONTROL_PROBE_MAX, 1);
	assert_true(bench.found == 0 && bench.told == 0 && bench.asked == 2);
	come(bench.burst, CONTROL_PROBE_MAX, 120);
	come(bench.burst + 1, 1, 1);
	assert_true(bench.found == 1 && bench.limit == 120 && bench.told_limit == 120);
	end();
}

/* A broker that takes its time: devices are served meanwhile, as one with that limit would serve them. */
static void slow(void **state)
{
	(void)state;
	begin();
	come(bench.burst, CONTROL_PROBE_MAX, 300);
	time_passes();
	assert_true(bench.found == 1 && bench.limit == 300);
	assert_int_equal(bench.told, 0); /* nobody is to mend mosquitto.conf for that */
	come(bench.burst, CONTROL_PROBE_MAX, CONTROL_PROBE_MAX - 301);
	assert_int_equal(bench.found, 1);
	come(bench.burst, CONTROL_PROBE_MAX, 1);
	assert_true(bench.found == 2 && bench.limit == 0 && bench.told == 1 && bench.told_limit == 0);
	end();
}

/* It was slow, and drops; or nothing at all has come yet; or the plugin's connection is lost meanwhile. */
static void slow_and_more(void **state)
{
	(void)state;
	begin();
	time_passes();
	assert_true(bench.found == 1 && bench.limit == 1);
	come(bench.burst, CONTROL_PROBE_MAX, 500);
	come(bench.burst + 1, 1, 1);
	assert_true(bench.found == 2 && bench.limit == 500 && bench.told_limit == 500);
	end();

	begin();
	come(bench.burst, CONTROL_PROBE_MAX, 10);
	time_passes();
	assert_int_equal(bench.limit, 10);
	uint32_t before = bench.burst;
	probe_stop(bench.probe);
	probe_open(bench.probe, boot); /* not known: it is asked again */
	assert_true(bench.burst > before && bench.found == 1);
	come(before, CONTROL_PROBE_MAX, 10); /* of the last time */
	come(bench.burst, CONTROL_PROBE_MAX, CONTROL_PROBE_MAX);
	assert_true(bench.found == 2 && bench.limit == 0);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_come), cmocka_unit_test(some_are_dropped),
		cmocka_unit_test(own_standstill),
		cmocka_unit_test(cut_short), cmocka_unit_test(slow), cmocka_unit_test(slow_and_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
