/*
 * journal_press and journal_drop: which records make room, that all others stay whole, in order and once, also when the
 * process is killed in the middle, and that both threads may go on meanwhile.
 */
#include "tests/unit/journal_help.h"

#include <pthread.h>
#include <sched.h>

#include "tests/harness/scene.h"

#define WAIT_MS 60000
#define SIZE MIB
#define ROOM (SIZE - SIZE / 16)
#define LEN_MAX 4000
#define SEED 2024u
#define RECORDS_MAX 20000
#define EVENT_EVERY 9

/* A record as the test knows it; the body's first 8 bytes are the number. */
struct known {
	uint64_t position;
	bool event, dropped;
};

static struct known known[RECORDS_MAX];
static uint64_t appended, drops, moved_count, last_moved;

static bool put(struct journal *j, uint64_t n, bool event, size_t len_max)
{
	size_t len = body_len(n, len_max);
	char *out = journal_reserve(j, event ? JOURNAL_GONE : JOURNAL_MESSAGE, len);
	if (!out) return false;
	body_fill(out, n, len);
	bool wake;
	known[n] = (struct known){journal_head(j), event, false};
	(void)journal_commit(j, len, &wake);
	return true;
}

static uint64_t number_of(const struct journal_record *r)
{
	uint64_t n;
	memcpy(&n, r->body.data, 8);
	return n;
}

static void on_dropped(void *ctx, const struct journal_record *r)
{
	(void)ctx;
	uint64_t n = record_number(r, LEN_MAX);
	assert_true(n < appended);
	assert_false(known[n].event);
	assert_false(known[n].dropped);
	assert_int_equal(moved_count, 0);
	known[n].dropped = true;
	drops++;
}

static void on_moved(void *ctx, size_t index, const struct journal_record *r)
{
	(void)ctx;
	assert_int_equal(index, moved_count);
	(void)record_number(r, LEN_MAX);
	moved_count++;
	last_moved = r->next;
}

static const struct journal_drop_events events = {on_dropped, on_moved, NULL};

static void any_dropped(void *ctx, const struct journal_record *r)
{
	(void)ctx, (void)r;
}

static void any_moved(void *ctx, size_t index, const struct journal_record *r)
{
	(void)ctx, (void)index, (void)r;
}

static bool drop(struct journal *j, uint64_t held)
{
	drops = moved_count = 0;
	if (journal_room_wanted(j)) drops = 0; /* the request is taken */
	return journal_drop(j, held, &events);
}

/* From `position` the journal holds exactly the records from number `first` on that were not dropped. */
static void expect_rest(struct journal *j, uint64_t position, uint64_t first)
{
	struct journal_record r = {.next = position};
	struct entry_id last = ENTRY_ID_ZERO;
	for (uint64_t n = first; n < appended; n++) {
		if (known[n].dropped) continue;
		assert_int_equal(journal_next(j, r.next, &r), ST_OK);
		assert_int_equal(record_number(&r, LEN_MAX), n);
		assert_int_equal(r.type, known[n].event ? JOURNAL_GONE : JOURNAL_MESSAGE);
		assert_true(entry_id_compare(r.id, last) > 0);
		last = r.id;
		known[n].position = r.position;
	}
	assert_int_equal(journal_next(j, r.next, &r), ST_END);
}

/* Fills until room is asked for; returns the number of records. */
static void fill(struct journal *j, unsigned event_every)
{
	while (true) {
		uint64_t n = appended;
		assert_true(n < RECORDS_MAX);
		bool event = event_every > 0 && n % event_every == event_every - 1;
		assert_true(put(j, n, event, LEN_MAX));
		appended++;
		if (!event && journal_press(j, body_len(n, LEN_MAX))) return;
	}
}

static struct journal *fresh(void)
{
	appended = 0;
	return open_fresh(SIZE);
}

static void asks_in_time(void **state)
{
	(void)state;
	struct journal *j = fresh();
	assert_false(journal_room_wanted(j));
	fill(j, 0);
	assert_true(journal_used(j) > ROOM / 8 * 7);
	assert_true(journal_used(j) - record_total(body_len(appended - 1, LEN_MAX)) <= ROOM / 8 * 7);
	assert_false(journal_press(j, 100)); /* asked already */
	assert_true(journal_room_wanted(j));
	assert_false(journal_room_wanted(j));
	assert_true(journal_press(j, 100));
	journal_close(j);
}

/* Large messages: another one like the last would not fit, long before 7/8 are in use. */
static void asks_for_large_ones(void **state)
{
	(void)state;
	struct journal *j = fresh();
	size_t len = SIZE / 5 * 2;
	bool wake;
	for (int i = 0; i < 20; i++) {
		assert_non_null(journal_reserve(j, JOURNAL_MESSAGE, len)); /* never without room */
		memset(journal_reserve(j, JOURNAL_MESSAGE, len), 0, len);
		(void)journal_commit(j, len, &wake);
		if (!journal_press(j, len)) continue;
		assert_true(journal_room_wanted(j));
		uint64_t before = journal_released(j);
		struct journal_record first, r;
		assert_int_equal(journal_next(j, before, &first), ST_OK);
		/* The bodies are no numbered ones: release as the writer would. */
		journal_release(j, first.next, first.id);
		assert_int_equal(journal_next(j, journal_released(j), &r), ST_OK);
	}
	assert_false(journal_press(j, SIZE)); /* can never fit */
	journal_close(j);
}

static void oldest_go_events_stay(void **state)
{
	(void)state;
	struct journal *j = fresh();
	fill(j, EVENT_EVERY);
	uint64_t before = journal_used(j);
	assert_true(drop(j, journal_released(j)));
	assert_true(drops > 0);
	assert_int_equal(moved_count, 0);
	assert_true(journal_used(j) <= ROOM / 4 * 3);
	assert_true(journal_used(j) > ROOM / 4 * 3 - 3 * LEN_MAX && before > journal_used(j));
	/* Of the messages, exactly the oldest. */
	uint64_t n = 0, seen = 0;
	for (; seen < drops; n++) {
		assert_true(known[n].event || known[n].dropped);
		seen += known[n].dropped;
	}
	for (; n < appended; n++) assert_false(known[n].dropped);
	expect_rest(j, journal_released(j), 0);
	/* And so it stays, closed and opened. */
	journal_close(j);
	struct journal_report report;
	j = open_size(SIZE, &report);
	assert_int_equal(report.damaged_records, 0);
	expect_rest(j, journal_released(j), 0);
	journal_close(j);
}

static void what_is_under_way_stays(void **state)
{
	(void)state;
	struct journal *j = fresh();
	fill(j, EVENT_EVERY);
	uint64_t held = known[40].position; /* 0 to 39 */
	assert_true(drop(j, held));
	assert_int_equal(moved_count, 40);
	for (uint64_t n = 0; n < 40; n++) assert_false(known[n].dropped);
	expect_rest(j, journal_released(j), 0);
	assert_int_equal(last_moved, known[39].position + record_total(body_len(39, LEN_MAX)));
	/* Again and again, with the same ones under way. */
	for (int round = 0; round < 20; round++) {
		fill(j, EVENT_EVERY);
		assert_true(drop(j, last_moved));
		assert_int_equal(moved_count, 40);
		expect_rest(j, journal_released(j), 0);
	}
	/* They are confirmed: what follows is next. */
	struct journal_record r;
	journal_release(j, last_moved, (struct entry_id){1, 1});
	assert_int_equal(journal_next(j, journal_released(j), &r), ST_OK);
	assert_true(number_of(&r) >= 40);
	expect_rest(j, journal_released(j), number_of(&r));
	journal_close(j);
}

/* One that is larger than what would have to go: it is not written over itself. */
static void moves_by_its_own_length(void **state)
{
	(void)state;
	struct journal *j = fresh();
	size_t len = 300000, small = 200;
	bool wake;
	uint64_t first = journal_head(j);
	char *out = journal_reserve(j, JOURNAL_MESSAGE, len);
	assert_non_null(out);
	memset(out, 'h', len);
	(void)journal_commit(j, len, &wake);
	uint64_t held = journal_head(j);
	while (!journal_press(j, small)) {
		appended++;
		out = journal_reserve(j, JOURNAL_MESSAGE, small);
		assert_non_null(out);
		memset(out, 's', small);
		(void)journal_commit(j, small, &wake);
	}
	struct journal_drop_events quiet = {any_dropped, any_moved, NULL};
	assert_true(journal_drop(j, held, &quiet));
	assert_true(journal_released(j) >= first + record_total(len));
	struct journal_record r;
	assert_int_equal(journal_next(j, journal_released(j), &r), ST_OK);
	assert_int_equal(r.body.len, len);
	for (size_t i = 0; i < len; i++) {
		if (r.body.data[i] != 'h') fail();
	}
	journal_close(j);
}

/* What the consumer may move is not to be had any more; what is new is. */
static void producer_looks_no_further(void **state)
{
	(void)state;
	struct journal *j = fresh();
	struct entry_id id = {0};
	uint64_t position;
	struct journal_record r;
	fill(j, 0);
	for (int round = 0; round < 2; round++) {
		assert_int_equal(journal_at(j, known[0].position, &r), ST_TOO_LARGE);
		assert_int_equal(journal_at(j, known[appended / 2].position, &r), ST_TOO_LARGE);
		assert_int_equal(journal_find_after(j, id, RECORDS_MAX, SIZE, &position), ST_TOO_LARGE);
		assert_int_equal(journal_at(j, known[appended - 5].position, &r), ST_OK);
		assert_int_equal(record_number(&r, LEN_MAX), appended - 5);
		assert_int_equal(journal_find_after(j, r.id, 10, SIZE, &position), ST_OK);
		assert_int_equal(position, known[appended - 4].position);
		if (round == 0) assert_true(drop(j, journal_released(j)));
	}
	journal_close(j);
}

static void nothing_to_drop(void **state)
{
	(void)state;
	struct journal *j = fresh();
	fill(j, 1 + 3); /* every fourth an event */
	uint64_t released = journal_released(j);
	assert_false(drop(j, journal_head(j))); /* all of it is under way */
	assert_int_equal(journal_released(j), released);
	expect_rest(j, released, 0);
	journal_close(j);
	j = fresh();
	assert_false(drop(j, journal_released(j))); /* nobody has asked */
	bool wake;
	while (journal_reserve(j, JOURNAL_GONE, 5000)) { /* nothing but events */
		memset(journal_reserve(j, JOURNAL_GONE, 5000), 0, 5000);
		(void)journal_commit(j, 5000, &wake);
	}
	assert_true(journal_press(j, 100));
	assert_false(drop(j, journal_released(j)));
	journal_close(j);
}

/* Killed while records are being moved, before they are released: before it bytes from X on are the new ones, X falling. */
static void killed_meanwhile(void **state)
{
	(void)state;
	struct journal *j = fresh();
	fill(j, EVENT_EVERY);
	uint64_t held = known[15].position, old = journal_released(j);
	size_t len;
	char *before = image_read(&len);
	assert_true(drop(j, held));
	char *after = image_read(&len);
	uint64_t from = journal_released(j), end = from;
	for (uint64_t n = 0; n < appended && (known[n].event || n < 15 || known[n].dropped); n++) {
		if (!known[n].dropped) end += record_total(body_len(n, LEN_MAX));
	}
	journal_close(j);
	printf("seed %u\n", SEED);
	rng = SEED;
	int told = 0, torn = 0;
	for (int round = 0; round < 300; round++) {
		uint64_t x = round == 0 ? from : round == 1 ? end : from + rnd(end - from);
		char *image = malloc(len);
		assert_non_null(image);
		memcpy(image, before, len);
		size_t at = file_offset(x, SIZE), stop = file_offset(end, SIZE);
		assert_true(at <= stop && file_offset(old, SIZE) <= at); /* the ring does not wrap here */
		memcpy(image + at, after + at, stop - at);
		image_write(image, len);
		free(image);
		struct journal_report report;
		j = open_size(SIZE, &report);
		if (report.damaged_records > 0) torn++;
		else if (report.note[0]) told++;
		struct journal_record r = {.next = journal_released(j)};
		uint64_t next = 0;
		while (journal_next(j, r.next, &r) == ST_OK) {
			uint64_t n = record_number(&r, LEN_MAX);
			assert_true(n >= next); /* none twice */
			for (; next < n; next++) assert_true(known[next].dropped); /* none missing that was to stay */
			next = n + 1;
		}
		assert_int_equal(next, appended);
		journal_close(j);
	}
	assert_true(told > 200 && torn < 50); /* damage is only what cannot be told from it: the very first record was being moved */
	free(before);
	free(after);
}

/* A damaged stretch that the consumer jumps over must not hide what was moved into it. */
static void over_damage(void **state)
{
	(void)state;
	struct journal *j = fresh();
	fill(j, EVENT_EVERY);
	uint64_t begin = known[8].position, first_event = 8;
	journal_close(j);
	size_t len;
	char *image = image_read(&len);
	for (uint64_t n = 20; n < 200; n += 2) { /* messages only; also where the events are moved to */
		if (known[n].event) continue;
		image[file_offset(known[n].position, SIZE) + 60] ^= 1;
		known[n].dropped = true;
	}
	image_write(image, len);
	free(image);
	struct journal_report report;
	j = open_size(SIZE, &report);
	assert_true(report.damaged_records > 50);
	assert_true(known[first_event].event && known[first_event].position == begin);
	(void)put(j, appended, false, LEN_MAX);
	appended++;
	assert_true(journal_press(j, LEN_MAX));
	assert_true(drop(j, journal_released(j)));
	expect_rest(j, journal_released(j), 0);
	journal_close(j);
}

static void random_life(void **state)
{
	(void)state;
	printf("seed %u\n", SEED);
	rng = SEED;
	struct journal *j = fresh();
	uint64_t first = 0, held = journal_released(j), held_first = 0;
	while (appended < RECORDS_MAX - 1) {
		bool event = rnd(5) == 0;
		if (put(j, appended, event, LEN_MAX)) appended++;
		(void)(!event && journal_press(j, body_len(appended, LEN_MAX)));
		if (journal_room_wanted(j)) {
			uint64_t held_left = 0;
			for (uint64_t n = first; n < held_first; n++) held_left += !known[n].dropped;
			if (drop(j, held)) {
				assert_int_equal(moved_count, held_left);
				held = moved_count > 0 ? last_moved : journal_released(j);
			}
			expect_rest(j, journal_released(j), first);
		}
		if (rnd(40) == 0 && held_first < appended) { /* what was under way is confirmed, more is under way */
			struct journal_record r = {.next = held};
			journal_release(j, held, journal_head_id(j));
			first = held_first;
			for (uint64_t n = rnd(60); n > 0 && journal_next(j, r.next, &r) == ST_OK; n--) held_first = number_of(&r) + 1;
			held = r.next;
		}
	}
	journal_close(j);
}

/* The producer also looks back, as redelivery does; the consumer takes, drops and releases. */
static struct journal *shared;
static _Atomic bool produced_all;
static uint64_t thread_drops, thread_taken, thread_rounds;

static void count_dropped(void *ctx, const struct journal_record *r)
{
	uint64_t *next = ctx;
	uint64_t n = record_number(r, 600);
	assert_true(n >= *next);
	thread_drops++;
}

static void count_moved(void *ctx, size_t index, const struct journal_record *r)
{
	(void)ctx, (void)index, (void)r;
	assert_true(false); /* nothing is held */
}

static void *consume(void *arg)
{
	(void)arg;
	uint64_t next = 0;
	struct journal_drop_events e = {count_dropped, count_moved, &next};
	while (true) {
		bool end = produced_all;
		if (journal_room_wanted(shared) && journal_drop(shared, journal_released(shared), &e)) thread_rounds++;
		struct journal_record r = {.next = journal_released(shared)};
		int taken = 0;
		for (; taken < 3 && journal_next(shared, r.next, &r) == ST_OK; taken++) {
			uint64_t n = record_number(&r, 600);
			assert_true(n >= next);
			next = n + 1;
			thread_taken++;
		}
		if (taken > 0) journal_release(shared, r.next, r.id);
		if (end && taken == 0) return NULL;
		(void)sched_yield();
	}
}

/* For every other record the other thread is waited for, so that it has its part however little it is let run. */
static char *reserve_patiently(uint64_t n, size_t len, uint64_t *pressed)
{
	enum journal_type type = n % 11 == 0 ? JOURNAL_GONE : JOURNAL_MESSAGE;
	char *out = journal_reserve(shared, type, len);
	uint64_t limit = now_ms() + WAIT_MS;

	while (!out && n % 2 == 0) {
		*pressed += journal_press(shared, len);
		assert_true(now_ms() < limit);
		(void)sched_yield();
		out = journal_reserve(shared, type, len);
	}
	return out;
}

static void two_threads(void **state)
{
	(void)state;
	uint64_t lost = 0, pressed = 0, count = 60000;
	pthread_t thread;
	shared = fresh();
	produced_all = false;
	thread_drops = thread_taken = thread_rounds = 0;
	assert_int_equal(pthread_create(&thread, NULL, consume, NULL), 0);
	for (uint64_t n = 0; n < count; n++) {
		size_t len = body_len(n, 600);
		char *out = reserve_patiently(n, len, &pressed);
		if (out) {
			bool wake;
			body_fill(out, n, len);
			struct entry_id id = journal_commit(shared, len, &wake);
			uint64_t position;
			struct journal_record r;
			id.seq = id.seq > 50 ? id.seq - 50 : 0;
			if (n % 64 == 0 && journal_find_after(shared, id, 1000, SIZE, &position) == ST_OK) {
				while (journal_at(shared, position, &r) == ST_OK) {
					(void)record_number(&r, 600);
					position = r.next;
				}
			}
		} else {
			lost++;
		}
		pressed += journal_press(shared, len);
	}
	produced_all = true;
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(thread_taken + thread_drops + lost, count);
	assert_true(thread_rounds > 0 && thread_drops > 0 && pressed > 0);
	journal_close(shared);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, folder_make, folder_remove)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(asks_in_time),
		CASE(asks_for_large_ones),
		CASE(oldest_go_events_stay),
		CASE(what_is_under_way_stays),
		CASE(moves_by_its_own_length),
		CASE(producer_looks_no_further),
		CASE(nothing_to_drop),
		CASE(killed_meanwhile),
		CASE(over_damage),
		CASE(random_life),
		CASE(two_threads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
