/*
 * A load that lasts, while broker, bridge and Redis are killed and stopped at random and devices come and go. First all three
 * suffer; then broker and bridge live on, and neither their memory nor their descriptors may grow. At the end the books
 * balance, every acknowledged message and every push is in Redis, and every device has had its history: in order, without a
 * gap, and with repeats only where something was killed or its connection was lost. With QoS 0 what was on its way to a
 * connection that ends may be lost; within a connection nothing. A group has its history among its members.
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
	"outbox stream out\noutbox list jobs\n"
#define BROKER_LINES "log_type none\nlog_type error\nlog_type warning\nlog_type notice\nmax_queued_messages 0\n"

enum { TOPICS = 4, PER_SECOND = 100, GROWTH_KIB_MAX = 8 * 1024, GROWTH_FILES_MAX = 8, TELL_MS = 300000 };

/* plant/0 to plant/3 come from the publisher, push/0 from the stream outbox, push/1 from the list. */
enum { PUSHED = TOPICS, OUTBOXES = 2, TRACKS = TOPICS + OUTBOXES };

static const struct kind {
	const char *filter; /* of a group when it begins with $share */
	int qos;
	bool keep_session, v5;
} kinds[] = {
	{"plant/#", 1, false, false}, /* stays */
	{"plant/+", 1, true, false},
	{"plant/#", 1, false, true},
	{"plant/1", 1, true, false},
	{"plant/2", 2, false, false},
	{"plant/+", 1, true, true},
	{"plant/#", 0, false, false},
	{"plant/+", 0, false, true},
	{"push/#", 2, false, true},
	{"push/+", 2, true, true},
	{"$share/crew/plant/#", 1, false, false},
	{"$share/crew/plant/#", 1, false, true},
};

static const char *const names[] = {"redis", "bridge", "broker"};

enum { REDIS_SERVER, SERVERS = sizeof(names) / sizeof(names[0]) };

enum { DEVICES = sizeof(kinds) / sizeof(kinds[0]) };

/* What a device, or a group, has had of one topic. */
struct track {
	uint8_t *had; /* by number */
	size_t size;
	long first, highest; /* -1: nothing */
};

struct device {
	const struct kind *kind;
	struct guest *guest;
	bool group;
	bool away;
	bool queued; /* on 2.0.x the broker's own queue comes first when it is back, and a backlog cut short follows it */
	unsigned long faults; /* when it connected, or when the last step back was forgiven */
	long repeats;
	long last[TRACKS];       /* of this connection; -1: nothing */
	struct track *tracks;    /* its own, or its group's */
	struct track own[TRACKS];
};

/* Numbers that a connection passed over: nothing that is stored may be among them, unless it comes later. */
struct hole {
	int device;
	unsigned topic;
	long from, to;
};

struct soak {
	struct scene *scene;
	struct world w;
	struct publisher *publisher;
	struct device devices[DEVICES];
	uint64_t random;
	unsigned long faults, kills[SERVERS];
	long pushed[OUTBOXES];
	struct track group[TRACKS];
	unsigned long received;
	struct hole *holes;
	size_t hole_count, hole_size;
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

static void hole(struct soak *k, struct device *d, unsigned topic, long from, long to)
{
	if (k->hole_count == k->hole_size) {
		k->hole_size = k->hole_size ? 2 * k->hole_size : 64;
		k->holes = realloc(k->holes, k->hole_size * sizeof(k->holes[0]));
		scene_require(k->holes, "out of memory");
	}
	k->holes[k->hole_count++] = (struct hole){(int)(d - k->devices), topic, from, to};
}

static void grow(struct track *t, long number)
{
	size_t size = t->size ? t->size : 4096;

	if ((size_t)number < t->size) return;
	while (size <= (size_t)number) size *= 2;
	t->had = realloc(t->had, size);
	scene_require(t->had, "out of memory");
	memset(t->had + t->size, 0, size - t->size);
	t->size = size;
}

/* The members of a group are given again what another one lost, and a push that is repeated is another message. */
static bool is_ordered(const struct device *d, unsigned topic)
{
	return !d->queued && !d->group && topic < PUSHED;
}

static void note(struct soak *k, struct device *d, unsigned topic, long number)
{
	struct track *t = &d->tracks[topic];
	long last = d->last[topic];

	k->received++;
	if (last >= 0 && number <= last && is_ordered(d, topic)) {
		scene_require(d->faults != k->faults, "device %td: plant/%u has %ld behind %ld, and nothing had been killed",
			d - k->devices, topic, number, last);
	}
	if (last >= 0 && number > last + 1 && d->kind->qos == 0) hole(k, d, topic, last + 1, number - 1);
	grow(t, number);
	if (t->had[number]) d->repeats++;
	t->had[number] = 1;
	if (t->first < 0 || number < t->first) t->first = number;
	if (number > t->highest) t->highest = number;
	d->last[topic] = number;
}

/* Which track a topic is. */
static unsigned topic_number(const char *topic)
{
	unsigned n = (unsigned)atoi(topic + strcspn(topic, "/") + 1);

	if (strncmp(topic, "plant/", 6) == 0 && n < TOPICS) return n;
	if (strncmp(topic, "push/", 5) == 0 && n < OUTBOXES) return PUSHED + n;
	return TRACKS;
}

static void look(struct soak *k, struct device *d)
{
	size_t count = guest_count(d->guest);

	for (size_t i = 0; i < count; i++) {
		struct received r = guest_message(d->guest, i);
		unsigned topic = topic_number(r.topic);
		scene_require(topic < TRACKS, "device %td got %s", d - k->devices, r.topic);
		scene_require(r.qos <= d->kind->qos, "device %td got QoS %d", d - k->devices, r.qos);
		note(k, d, topic, atol(r.payload));
	}
	guest_forget(d->guest, count);
}

/* Everything of the connection that ended is looked at before. */
static void come(struct soak *k, struct device *d)
{
	look(k, d);
	d->away = false;
	for (unsigned t = 0; t < TRACKS; t++) d->last[t] = -1;
	if (guest_connect_code(d->guest) != 0) return; /* another time */
	d->faults = k->faults;
	guest_subscribe_nowait(d->guest, d->kind->filter, d->kind->qos);
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

static void hit(struct soak *k, unsigned server, bool kill)
{
	struct server *const servers[SERVERS] = {k->w.redis, k->w.bridge, k->w.broker};
	struct server *v = servers[server];

	k->faults++;
	if (kill) {
		server_kill(v);
		k->kills[server]++;
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

static void trouble(struct soak *k, bool all)
{
	unsigned server = all ? below(k, SERVERS) : REDIS_SERVER;

	hit(k, server, below(k, 3) > 0);
}

/* QoS 1 or 2; one of QoS 0 may be lost. */
static void push(struct soak *k)
{
	unsigned box = below(k, OUTBOXES);
	const char *qos = below(k, 2) ? "2" : "1";
	char text[96];
	const redisReply *r;

	if (box == 0) {
		(void)snprintf(text, sizeof(text), "%ld", k->pushed[box]);
		r = store_try(k->w.db, "XADD", "out", "*", "topic", "push/0", "payload", text, "qos", qos, NULL);
	} else {
		(void)snprintf(text, sizeof(text), "{\"topic\":\"push/1\",\"payload\":\"%ld\",\"qos\":%s}", k->pushed[box], qos);
		r = store_try(k->w.db, "LPUSH", "jobs", text, NULL);
	}
	if (r->type != REDIS_REPLY_ERROR) k->pushed[box]++; /* else it is still loading */
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

static void check_growth(const char *name, struct server *v, struct size before)
{
	/* Connections that were cut may still be closing. */
	wait_until(size_of(v).files - before.files <= GROWTH_FILES_MAX, WAIT_MS, "descriptors to be closed");
	struct size after = size_of(v);
	long grown = after.rss_kib - before.rss_kib;
	print_message("%s: %ld KiB, %+ld; %ld descriptors, %+ld\n", name, after.rss_kib, grown, after.files,
		after.files - before.files);
	if (instrument_slowness() > 1) return; /* the instrument's own memory */
	scene_require(grown <= GROWTH_KIB_MAX, "%s: grown by %ld KiB", name, grown);
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

static const char *topic_text(unsigned topic, char *out, size_t size)
{
	(void)snprintf(out, size, "%s/%u", topic < PUSHED ? "plant" : "push", topic < PUSHED ? topic : topic - PUSHED);
	return out;
}

static long sent_of(struct soak *k, unsigned topic)
{
	return topic < PUSHED ? publisher_sent(k->publisher, topic) : k->pushed[topic - PUSHED];
}

/* Which numbers of a topic are stored, by number: of the publisher's each once, in order. Returns owned. */
static uint8_t *stored_numbers(struct soak *k, unsigned topic, long sent)
{
	uint8_t *stored = calloc((size_t)sent + 1, 1);
	char key[32], name[16], from[64] = "-";
	long last = -1;

	scene_require(stored, "out of memory");
	(void)snprintf(key, sizeof(key), "s:%s", topic_text(topic, name, sizeof(name)));
	for (;;) {
		const redisReply *r = store_query(k->w.db, "XRANGE", key, from, "+", "COUNT", "1000", NULL);
		for (size_t i = 0; i < r->elements; i++) {
			long number = atol(stored_field(r->element[i], "payload")->str);
			scene_require(number >= 0 && number < sent, "%s: %ld is stored, of %ld", name, number, sent);
			scene_require(number > last || topic >= PUSHED, "%s: %ld is stored behind %ld", name, number, last);
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

/* Kinds have "#" or "+" as their last level, or one number. */
static bool matches(const struct kind *kind, unsigned topic)
{
	const char *filter = strncmp(kind->filter, "$share/crew/", 12) == 0 ? kind->filter + 12 : kind->filter;
	const char *end = strchr(filter, '/') + 1;
	char name[16];

	if (strncmp(topic_text(topic, name, sizeof(name)), filter, (size_t)(end - filter)) != 0) return false;
	return *end == '#' || *end == '+' || strcmp(name, filter) == 0;
}

static bool had(const struct device *d, unsigned topic, long n)
{
	const struct track *t = &d->tracks[topic];

	return (size_t)n < t->size && t->had[n];
}

/* The first number from `from` on that the device should have had and has not; behind `last`: none. */
static long next_lack(const struct device *d, unsigned topic, const uint8_t *stored, long last, long from)
{
	while (from <= last && (!stored[from] || had(d, topic, from))) from++;
	return from;
}

/*
 * The highest number alone does not tell: what a member of a group lost comes to another one behind later messages, and a
 * push that is repeated behind later pushes. With QoS 0 no more is to be waited for.
 */
static bool is_complete(const struct device *d, unsigned topic, const uint8_t *stored, long last)
{
	const struct track *t = &d->tracks[topic];

	if (!matches(d->kind, topic)) return true;
	if (t->highest < last) return false;
	return d->kind->qos == 0 || t->first < 0 || next_lack(d, topic, stored, last, t->first) > last;
}

static bool all_complete(struct soak *k, uint8_t *const *stored, const long *last)
{
	look_all(k);
	for (int i = 0; i < DEVICES; i++)
		for (unsigned t = 0; t < TRACKS; t++)
			if (!is_complete(&k->devices[i], t, stored[t], last[t])) return false;
	return true;
}

static void tell_incomplete(struct soak *k, uint8_t *const *stored, const long *last)
{
	for (int i = 0; i < DEVICES; i++) {
		const struct device *d = &k->devices[i];
		for (unsigned t = 0; t < TRACKS; t++) {
			if (is_complete(d, t, stored[t], last[t])) continue;
			print_message("device %d (%s): track %u up to %ld of %ld, lacks %ld\n", i, d->kind->filter, t, d->tracks[t].highest,
				last[t], d->tracks[t].first < 0 ? 0 : next_lack(d, t, stored[t], last[t], d->tracks[t].first));
		}
	}
}

/* As long as anything still comes, slow as the machine may be. */
static void wait_for_all(struct soak *k, uint8_t *const *stored, const long *last)
{
	uint64_t since = now_ms(), begun = since, patience = (uint64_t)WAIT_MS * instrument_slowness();
	unsigned long received = k->received;

	while (!all_complete(k, stored, last)) {
		if (k->received != received) since = now_ms();
		received = k->received;
		if (now_ms() - since >= patience || now_ms() - begun >= 10 * patience) {
			tell_incomplete(k, stored, last);
			scene_fail(__FILE__, __LINE__, "not every device has everything: %lu messages came in %llu s, the last one %llu s ago", received,
				(unsigned long long)(now_ms() - begun) / 1000, (unsigned long long)(now_ms() - since) / 1000);
		}
		poll_pause();
	}
}

/* Of a device with QoS 0 only what a connection passed over is wrong, and returned is how many it lacks. */
static long check_device(struct soak *k, struct device *d, unsigned topic, const uint8_t *stored, long last)
{
	struct track *t = &d->tracks[topic];
	long lacks = 0;

	for (long n = t->first < 0 ? last + 1 : t->first; n <= last; n++) {
		if (!stored[n] || had(d, topic, n)) continue;
		scene_require(d->kind->qos == 0, "device %td (%s): track %u lacks %ld (had %ld to %ld)", d - k->devices,
			d->kind->filter, topic, n, t->first, t->highest);
		lacks++;
	}
	return lacks;
}

static void check_holes(struct soak *k, uint8_t *const *stored)
{
	for (size_t i = 0; i < k->hole_count; i++) {
		const struct hole *h = &k->holes[i];
		for (long n = h->from; n <= h->to; n++)
			scene_require(!stored[h->topic][n] || had(&k->devices[h->device], h->topic, n),
				"device %d (%s): track %u lacks %ld in the middle of a connection", h->device, kinds[h->device].filter, h->topic, n);
	}
}

static void check_histories(struct soak *k)
{
	uint8_t *stored[TRACKS];
	long last[TRACKS];

	for (unsigned t = 0; t < TRACKS; t++) {
		long sent = sent_of(k, t);
		stored[t] = stored_numbers(k, t, sent);
		last[t] = last_of(stored[t], sent);
		for (long n = 0; n < sent; n++) /* a push at least once */
			scene_require(stored[t][n] || (t < PUSHED && !publisher_acked(k->publisher, t, n)), "track %u: %ld is not stored", t, n);
	}
	wait_for_all(k, stored, last);
	for (int i = 0; i < DEVICES; i++) {
		struct device *d = &k->devices[i];
		long lacks = 0;
		for (unsigned t = 0; t < TRACKS; t++) lacks += check_device(k, d, t, stored[t], last[t]);
		print_message("device %d, %s, QoS %d%s%s: %ld repeats, %ld lost on the way\n", i, d->kind->filter, d->kind->qos,
			d->kind->keep_session ? ", session kept" : "", d->kind->v5 ? ", MQTT 5" : "", d->repeats, lacks);
	}
	check_holes(k, stored);
	for (unsigned t = 0; t < TRACKS; t++) free(stored[t]);
}

static bool outbox_done(struct soak *k)
{
	const redisReply *pending = store_try(k->w.db, "XPENDING", "out", "mosquitto-redis", NULL);
	bool done = pending->type == REDIS_REPLY_ARRAY && pending->element[0]->integer == 0 && store_stream_len(k->w.db, "out") == 0;
	const redisReply *waiting = done ? store_try(k->w.db, "EXISTS", "jobs", "mqtt:outbox:processing:test:jobs", NULL) : NULL;

	return waiting && waiting->type == REDIS_REPLY_INTEGER && waiting->integer == 0;
}

/* --- the whole ------------------------------------------------------------------------------------------------- */

static void begin(struct soak *k, struct scene *s)
{
	char id[16];
	bool events = broker_has_events(s);

	k->scene = s;
	k->random = number_from("MQR_SOAK_SEED", (uint64_t)time(NULL));
	print_message("seed %llu\n", (unsigned long long)k->random);
	k->random = k->random * 2862933555777941757u + 3037000493u;
	world_start_with(&k->w, s, RULES, BROKER_LINES, WORLD_BRIDGE | WORLD_REDIS_ALWAYS);
	k->publisher = publisher_start(s, server_port(k->w.broker), "plant", TOPICS, 64);
	for (unsigned t = 0; t < TRACKS; t++) k->group[t] = (struct track){.first = -1, .highest = -1};
	for (int i = 0; i < DEVICES; i++) {
		struct device *d = &k->devices[i];
		struct guest_options options = {.keep_session = kinds[i].keep_session, .v5 = kinds[i].v5, .keepalive_s = 10};
		(void)snprintf(id, sizeof(id), "device-%d", i);
		d->kind = &kinds[i];
		d->guest = guest_new(&k->w, id, &options);
		d->group = strncmp(kinds[i].filter, "$share/", 7) == 0;
		d->queued = options.keep_session && !events;
		d->tracks = d->group ? k->group : d->own;
		for (unsigned t = 0; t < TRACKS; t++) {
			d->own[t] = (struct track){.first = -1, .highest = -1};
			d->last[t] = -1;
		}
		guest_connect(d->guest);
		guest_subscribe(d->guest, d->kind->filter, d->kind->qos);
		world_wait_event(&k->w, "live", d->group ? d->kind->filter : id, 1);
	}
	publisher_pace(k->publisher, PER_SECOND);
}

/* Until then; `all`: not only Redis suffers. Else it is told now and then how large the others are. */
static void suffer(struct soak *k, uint64_t until, bool all)
{
	uint64_t tell = now_ms() + TELL_MS;

	while (now_ms() < until) {
		if (!all && now_ms() >= tell) {
			print_message("broker %ld KiB, bridge %ld KiB\n", size_of(k->w.broker).rss_kib, size_of(k->w.bridge).rss_kib);
			tell = now_ms() + TELL_MS;
		}
		spend(k, 200 + below(k, 1200));
		unsigned what = below(k, 10);
		if (what < 4) come_or_go(k);
		else if (what < 8) push(k);
		else trouble(k, all);
	}
}

/* However short the run is: each of them once, in any order. */
static void kill_each(struct soak *k)
{
	unsigned order[SERVERS];

	for (unsigned i = 0; i < SERVERS; i++) {
		unsigned at = below(k, i + 1);
		if (at < i) order[i] = order[at];
		order[at] = i;
	}
	for (unsigned i = 0; i < SERVERS; i++) {
		spend(k, 200 + below(k, 1200));
		push(k);
		come_or_go(k);
		hit(k, order[i], true);
	}
}

static bool all_connected(struct soak *k)
{
	look_all(k);
	for (int i = 0; i < DEVICES; i++)
		if (!guest_connected(k->devices[i].guest)) return false;
	return true;
}

/* Every device is there, and broker and bridge have all their connections. */
static void settle(struct soak *k)
{
	for (int i = 0; i < DEVICES; i++) k->devices[i].away = false;
	wait_until(all_connected(k), WAIT_MS, "every device to be back");
	wait_until(outbox_done(k), WAIT_MS, "the outbox to be empty");
	spend(k, 3000); /* what has just been connected takes its memory */
}

/* Else the rest has shown nothing. */
static void check_happened(struct soak *k)
{
	for (unsigned i = 0; i < SERVERS; i++) {
		print_message("%s: killed %lu times\n", names[i], k->kills[i]);
		scene_require(k->kills[i] > 0, "%s was not killed", names[i]);
	}
	assert_true(publisher_acked_total(k->publisher) > 0);
	assert_true(k->pushed[0] + k->pushed[1] > 0);
	assert_true(k->received > 0);
}

static void test_soak(void **state)
{
	static struct soak k;
	uint64_t minutes = number_from("MQR_SOAK_MINUTES", 1), start;

	begin(&k, *state);
	start = now_ms();
	kill_each(&k);
	suffer(&k, start + minutes * 30000, true);
	settle(&k);
	struct size broker = size_of(k.w.broker), bridge = size_of(k.w.bridge);
	suffer(&k, start + minutes * 60000, false);
	assert_true(publisher_rest(k.publisher, WAIT_MS));
	settle(&k);
	check_growth("broker", k.w.broker, broker);
	check_growth("bridge", k.w.bridge, bridge);
	check_books(&k);
	check_histories(&k);
	print_message("%ld messages acknowledged, %ld and %ld pushes, %lu faults, %u publishers' connections lost\n",
		publisher_acked_total(k.publisher), k.pushed[0], k.pushed[1], k.faults / 2, publisher_losses(k.publisher));
	check_happened(&k);
	for (unsigned t = 0; t < TRACKS; t++) {
		for (int i = 0; i < DEVICES; i++) free(k.devices[i].own[t].had);
		free(k.group[t].had);
	}
	free(k.holes);
	scene_end(k.scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_soak),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
