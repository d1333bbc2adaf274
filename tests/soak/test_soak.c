/*
 * A load that lasts, while broker, bridge and Redis are killed and stopped at random and devices come and go. First all three
 * suffer; then broker and bridge live on, and neither their memory nor their descriptors may grow. At the end the books
 * balance, every acknowledged message and every push is in Redis, and every device has had its history: in order, without a
 * gap, and with repeats only where something was killed or its connection was lost.
 *
 * MQR_SOAK_MINUTES (1) and MQR_SOAK_SEED (from the clock) in the environment; tests/soak.sh sets them.
 */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "tests/harness/guest.h"
#include "tests/harness/publisher.h"
#include "tests/harness/store.h"

#define WAIT_MS 60000
#define RULES "mirror plant/# stream s:%t\nmirror push/# stream s:%t\nredeliver # overlap=keepalive\nhold_timeout 1h\n" \
	"outbox stream out\n"
#define BROKER_LINES "log_type none\nlog_type error\nlog_type warning\nlog_type notice\nmax_queued_messages 0\n"

enum { TOPICS = 4, DEVICES = 6, PER_SECOND = 100, GROWTH_KIB_MAX = 8 * 1024, GROWTH_FILES_MAX = 8 };

/* What a device has had of one topic. */
struct track {
	uint8_t *had; /* by number */
	size_t size;
	long first, highest, last; /* -1: nothing; `last` of this connection */
};

struct device {
	struct guest *guest;
	const char *filter;
	bool away;
	bool queued; /* on 2.0.x the broker's own queue comes first when it is back, and a backlog cut short follows it */
	unsigned long faults; /* when it connected, or when the last step back was forgiven */
	long repeats;
	struct track tracks[TOPICS];
};

struct soak {
	struct scene *scene;
	struct world w;
	struct publisher *publisher;
	struct device devices[DEVICES];
	uint64_t random;
	unsigned long faults;
	long pushed;
};

static unsigned below(struct soak *k, unsigned n)
{
	k->random ^= k->random << 13;
	k->random ^= k->random >> 7;
	k->random ^= k->random << 17;
	return (unsigned)(k->random >> 33) % n;
}

static uint64_t number_from(const char *name, uint64_t usual)
{
	const char *text = getenv(name);

	return text && text[0] ? strtoull(text, NULL, 10) : usual;
}

/* --- devices --------------------------------------------------------------------------------------------------- */

static void note(struct soak *k, struct device *d, unsigned topic, long number)
{
	struct track *t = &d->tracks[topic];

	if (t->last >= 0 && number <= t->last && !d->queued) {
		scene_require(d->faults != k->faults, "device %td: plant/%u has %ld behind %ld, and nothing had been killed",
			d - k->devices, topic, number, t->last);
	}
	if ((size_t)number >= t->size) {
		size_t size = t->size ? t->size : 4096;
		while (size <= (size_t)number) size *= 2;
		t->had = realloc(t->had, size);
		scene_require(t->had, "out of memory");
		memset(t->had + t->size, 0, size - t->size);
		t->size = size;
	}
	if (t->had[number]) d->repeats++;
	t->had[number] = 1;
	if (t->first < 0 || number < t->first) t->first = number;
	if (number > t->highest) t->highest = number;
	t->last = number;
}

static void look(struct soak *k, struct device *d)
{
	size_t count = guest_count(d->guest);

	for (size_t i = 0; i < count; i++) {
		struct received r = guest_message(d->guest, i);
		unsigned topic = (unsigned)atoi(r.topic + strlen("plant/"));
		scene_require(strncmp(r.topic, "plant/", 6) == 0 && topic < TOPICS, "device %td got %s", d - k->devices, r.topic);
		note(k, d, topic, atol(r.payload));
	}
	guest_forget(d->guest, count);
}

/* Everything of the connection that ended is looked at before. */
static void come(struct soak *k, struct device *d)
{
	look(k, d);
	d->away = false;
	for (unsigned t = 0; t < TOPICS; t++) d->tracks[t].last = -1;
	if (guest_connect_code(d->guest) != 0) return; /* another time */
	d->faults = k->faults;
	guest_subscribe_nowait(d->guest, d->filter, 1);
}

/* Whoever has lost its connection comes back. */
static void look_all(struct soak *k)
{
	for (int i = 0; i < DEVICES; i++) {
		struct device *d = &k->devices[i];
		look(k, d);
		if (!d->away && !guest_connected(d->guest)) come(k, d);
	}
}

static void come_or_go(struct soak *k)
{
	struct device *d = &k->devices[1 + below(k, DEVICES - 1)]; /* the first stays */

	if (d->away) {
		come(k, d);
	} else if (guest_connected(d->guest)) {
		/* Where the broker tells a goodbye, it is taken at its word, and what was under way is the device's loss. */
		guest_drop(d->guest);
		look(k, d);
		d->away = true;
	}
}

/* --- faults ---------------------------------------------------------------------------------------------------- */

static void spend(struct soak *k, uint64_t ms)
{
	for (uint64_t end = now_ms() + ms; now_ms() < end; poll_pause()) look_all(k);
}

static void trouble(struct soak *k, bool all)
{
	struct server *const servers[] = {k->w.redis, k->w.bridge, k->w.broker};
	struct server *v = servers[all ? below(k, 3) : 0];

	k->faults++;
	if (below(k, 3) > 0) {
		server_kill(v);
		if (v != k->w.broker) spend(k, below(k, 3000));
		server_start(v);
	} else {
		server_pause(v);
		if (v != k->w.broker) spend(k, below(k, 2000)); /* a stopped broker would keep a device that connects waiting */
		server_continue(v);
	}
	if (v == k->w.redis) store_reopen(k->w.db);
	k->faults++; /* what comes from now on may repeat, too */
}

static void push(struct soak *k)
{
	char payload[32];

	(void)snprintf(payload, sizeof(payload), "%ld", k->pushed);
	const redisReply *r = store_try(k->w.db, "XADD", "out", "*", "topic", "push/1", "payload", payload, NULL);
	if (r->type == REDIS_REPLY_STRING) k->pushed++; /* else it is still loading */
}

/* --- growth ---------------------------------------------------------------------------------------------------- */

struct size {
	long rss_kib, files;
};

static struct size size_of(struct server *v)
{
	struct size size = {0, 0};
	char path[64], line[256];

	(void)snprintf(path, sizeof(path), "/proc/%d/status", server_pid(v));
	FILE *f = fopen(path, "re");
	scene_require(f, "no %s", path);
	while (fgets(line, sizeof(line), f))
		if (strncmp(line, "RssAnon:", 8) == 0) size.rss_kib = atol(line + 8);
	(void)fclose(f); /* only read */
	(void)snprintf(path, sizeof(path), "/proc/%d/fd", server_pid(v));
	DIR *dir = opendir(path);
	scene_require(dir, "no %s", path);
	while (readdir(dir)) size.files++;
	(void)closedir(dir); /* only read */
	return size;
}

static void check_growth(const char *name, struct size before, struct size after)
{
	print_message("%s: %ld KiB, %+ld; %ld descriptors, %+ld\n", name, after.rss_kib, after.rss_kib - before.rss_kib,
		after.files, after.files - before.files);
	if (instrument_slowness() > 1) return; /* the instrument's own memory */
	assert_true(after.rss_kib - before.rss_kib <= GROWTH_KIB_MAX);
	assert_true(after.files - before.files <= GROWTH_FILES_MAX);
}

/* --- the end --------------------------------------------------------------------------------------------------- */

static long long status_number(struct soak *k, const char *field)
{
	const redisReply *r = store_query(k->w.db, "HGET", "mqtt:status:test", field, NULL);

	return r->type == REDIS_REPLY_STRING ? atoll(r->str) : -1;
}

static void check_books(struct soak *k)
{
	static const char *const lost[] = {"dropped", "dead", "refused"};

	wait_until(status_number(k, "queued") == 0 && status_number(k, "in") > 0, WAIT_MS, "the journal to be written");
	assert_int_equal(status_number(k, "in"), status_number(k, "stored"));
	for (size_t i = 0; i < sizeof(lost) / sizeof(lost[0]); i++) {
		long long n = status_number(k, lost[i]);
		scene_require(n <= 0, "%s: %lld", lost[i], n);
	}
	assert_int_equal(store_stream_len(k->w.db, "mqtt:dead"), 0);
}

/* Which numbers of a topic are stored, by number; each once, in order. Returns owned. */
static uint8_t *stored_numbers(struct soak *k, unsigned topic, long sent)
{
	uint8_t *stored = calloc((size_t)sent + 1, 1);
	char key[32], from[64] = "-";
	long last = -1;

	scene_require(stored, "out of memory");
	(void)snprintf(key, sizeof(key), "s:plant/%u", topic);
	for (;;) {
		const redisReply *r = store_query(k->w.db, "XRANGE", key, from, "+", "COUNT", "1000", NULL);
		for (size_t i = 0; i < r->elements; i++) {
			long number = atol(stored_field(r->element[i], "payload")->str);
			scene_require(number > last && number < sent, "plant/%u: %ld is stored behind %ld", topic, number, last);
			last = number;
			stored[number] = 1;
		}
		if (r->elements == 0) return stored;
		(void)snprintf(from, sizeof(from), "(%s", stored_id(r->element[r->elements - 1]));
	}
}

static long last_of(const uint8_t *stored, long sent)
{
	long last = sent - 1;

	while (last >= 0 && !stored[last]) last--;
	return last;
}

static bool complete(struct device *d, unsigned topic, long last)
{
	return (strstr(d->filter, "#") == NULL && strstr(d->filter, "+") == NULL && atoi(d->filter + strlen("plant/")) != (int)topic) ||
		last < 0 || d->tracks[topic].highest >= last;
}

static bool all_complete(struct soak *k, const long *last)
{
	look_all(k);
	for (int i = 0; i < DEVICES; i++)
		for (unsigned t = 0; t < TOPICS; t++)
			if (!complete(&k->devices[i], t, last[t])) return false;
	return true;
}

static void check_device(struct soak *k, struct device *d, unsigned topic, const uint8_t *stored, long last)
{
	struct track *t = &d->tracks[topic];

	for (long n = t->first < 0 ? last + 1 : t->first; n <= last; n++) {
		long end = n;
		while (end <= last && stored[end] && !((size_t)end < t->size && t->had[end])) end++;
		scene_require(end == n, "device %td (%s): plant/%u lacks %ld to %ld (had %ld to %ld)", d - k->devices, d->filter, topic,
			n, end - 1, t->first, t->highest);
	}
}

static void check_histories(struct soak *k)
{
	uint8_t *stored[TOPICS];
	long last[TOPICS];

	for (unsigned t = 0; t < TOPICS; t++) {
		long sent = publisher_sent(k->publisher, t);
		stored[t] = stored_numbers(k, t, sent);
		last[t] = last_of(stored[t], sent);
		for (long n = 0; n < sent; n++)
			scene_require(stored[t][n] || !publisher_acked(k->publisher, t, n), "plant/%u: %ld was acknowledged and is not stored",
				t, n);
	}
	wait_until(all_complete(k, last), WAIT_MS, "every device to have everything");
	for (int i = 0; i < DEVICES; i++) {
		for (unsigned t = 0; t < TOPICS; t++) check_device(k, &k->devices[i], t, stored[t], last[t]);
		print_message("device %d, %s: %ld repeats\n", i, k->devices[i].filter, k->devices[i].repeats);
	}
	for (unsigned t = 0; t < TOPICS; t++) free(stored[t]);
}

static bool outbox_done(struct soak *k)
{
	const redisReply *pending = store_try(k->w.db, "XPENDING", "out", "mosquitto-redis", NULL);

	return pending->type == REDIS_REPLY_ARRAY && pending->element[0]->integer == 0 && store_stream_len(k->w.db, "out") == 0;
}

/* Each at least once. */
static void check_pushes(struct soak *k)
{
	uint8_t *came = calloc((size_t)k->pushed + 1, 1);
	const redisReply *all = stored_stream(k->w.db, "s:push/1");

	scene_require(came, "out of memory");
	for (size_t i = 0; i < all->elements; i++) {
		long n = atol(stored_field(all->element[i], "payload")->str);
		scene_require(n >= 0 && n < k->pushed, "a push %ld", n);
		came[n] = 1;
	}
	for (long n = 0; n < k->pushed; n++) scene_require(came[n], "push %ld never came", n);
	print_message("%ld pushes, %zu times delivered\n", k->pushed, all->elements);
	free(came);
}

/* --- the whole ------------------------------------------------------------------------------------------------- */

static void begin(struct soak *k, struct scene *s)
{
	static const char *const filters[DEVICES] = {"plant/#", "plant/+", "plant/#", "plant/1", "plant/2", "plant/+"};
	char id[16];
	bool events = broker_has_events(s);

	k->scene = s;
	k->random = number_from("MQR_SOAK_SEED", (uint64_t)time(NULL));
	print_message("seed %llu\n", (unsigned long long)k->random);
	k->random = k->random * 2862933555777941757u + 3037000493u;
	world_start_with(&k->w, s, RULES, BROKER_LINES, WORLD_BRIDGE | WORLD_REDIS_ALWAYS);
	k->publisher = publisher_start(s, server_port(k->w.broker), "plant", TOPICS, 64);
	for (int i = 0; i < DEVICES; i++) {
		struct guest_options options = {.keep_session = i % 2 == 1, .v5 = i % 3 == 2, .keepalive_s = 10};
		struct device *d = &k->devices[i];
		(void)snprintf(id, sizeof(id), "device-%d", i);
		d->guest = guest_new(&k->w, id, &options);
		d->filter = filters[i];
		d->queued = options.keep_session && !events;
		for (unsigned t = 0; t < TOPICS; t++) d->tracks[t] = (struct track){.first = -1, .highest = -1, .last = -1};
		guest_connect(d->guest);
		guest_subscribe(d->guest, d->filter, 1);
		world_wait_event(&k->w, "live", id, 1);
	}
	publisher_pace(k->publisher, PER_SECOND);
}

/* Until then; `all`: not only Redis suffers. */
static void suffer(struct soak *k, uint64_t until, bool all)
{
	while (now_ms() < until) {
		spend(k, 200 + below(k, 1200));
		unsigned what = below(k, 10);
		if (what < 4) come_or_go(k);
		else if (what < 8) push(k);
		else trouble(k, all);
	}
}

static void test_soak(void **state)
{
	static struct soak k;
	uint64_t minutes = number_from("MQR_SOAK_MINUTES", 1), start;

	begin(&k, *state);
	start = now_ms();
	suffer(&k, start + minutes * 30000, true);
	spend(&k, 3000);
	struct size broker = size_of(k.w.broker), bridge = size_of(k.w.bridge);
	suffer(&k, start + minutes * 60000, false);
	assert_true(publisher_rest(k.publisher, WAIT_MS));
	for (int i = 0; i < DEVICES; i++) k.devices[i].away = false;
	spend(&k, 3000);
	check_growth("broker", broker, size_of(k.w.broker));
	check_growth("bridge", bridge, size_of(k.w.bridge));
	wait_until(outbox_done(&k), WAIT_MS, "the outbox to be empty");
	check_books(&k);
	check_pushes(&k);
	check_histories(&k);
	print_message("%ld messages acknowledged, %lu faults, %u publishers' connections lost\n",
		publisher_acked_total(k.publisher), k.faults / 2, publisher_losses(k.publisher));
	for (int i = 0; i < DEVICES; i++)
		for (unsigned t = 0; t < TOPICS; t++) free(k.devices[i].tracks[t].had);
	scene_end(k.scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_soak),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
