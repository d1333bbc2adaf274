/*
 * The scheduler against a simple model: devices come, go and come again while messages are stored and trimmed, Redis is slow or
 * lost, the broker refuses or is away, and the plugin is late or wants to be told more. The model knows for each device which
 * messages it must get. Each comes once and in order, whatever happens; when all is well again every device is live and nothing is
 * left. The clock is the test's.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <time.h>

#include "bridge/scheduler.h"
#include "tests/unit/redis_fake.h"
#include "tests/unit/seeds.h"

#define DEVICES_MAX (SCHEDULER_FETCHES_MAX + 8)
#define FEW 20
#define FILTERS 2
#define STREAMS 3
#define TOPICS 4
#define STORED_MAX 8192
#define EVENTS_MAX 32768
#define WIRE_MAX 1024
#define STEPS 1500
#define SETTLE_STEPS 50000
#define FLUSH_MAX 3 /* the plugin hands over so many by itself at a switch */
#define SMALL 200
#define LARGE (60 * 1024)
#define HUGE_PAYLOAD (230 * 1024)
#define HEAVY 40 /* devices: two such each are more than may wait for acknowledgement */
#define SWITCH_BYTES 64 /* goes at any time */
#define PACKET_MAX 20000 /* where one entry is too large for the broker */
#define TOO_LARGE 30000

/* --- the model -------------------------------------------------------------------------------------------------------- */

struct stored {
	uint64_t id; /* milliseconds */
	size_t stream, topic, size;
	bool trimmed;
};

struct subscription {
	char text[16];
	size_t stream, topic; /* topic TOPICS: any */
	bool on;
	bool unwritten;       /* its cursor is not in Redis: nothing of before is owed */
	uint64_t told;        /* the event that told of it last */
	uint64_t had;         /* the last message that came, or where it began */
	uint64_t position;    /* the plugin's */
};

struct device {
	char name[8];
	bool there, live;
	uint64_t generation;
	uint32_t sequence;    /* of the last command taken */
	struct subscription filters[FILTERS];
};

struct ack_sent {
	size_t device;        /* SIZE_MAX: WELCOME */
	uint64_t generation, head;
	uint32_t sequence;
	enum control_result result;
};

static struct model {
	uint64_t random;
	unsigned seed;
	unsigned steps;
	bool settling;
	size_t device_count;
	struct device devices[DEVICES_MAX];
	uint64_t clock;       /* the newest id given out */
	uint64_t redis;       /* is complete up to here */
	struct stored stored[STORED_MAX];
	size_t stored_count;
	bool trimmed;         /* any */
	size_t payload;       /* of the usual message */
	struct device_event events[EVENTS_MAX];
	size_t event_count, events_given;
	/* the broker and its plugin */
	bool connected;
	bool broken;          /* the connection; it is noticed in a moment */
	bool open;            /* WELCOME has come */
	bool hello_due;
	size_t packet_max;
	size_t largest;       /* packet so far */
	enum status refuses;  /* the next packet; ST_OK: no */
	uint32_t queue_limit;
	unsigned silent;      /* for so many steps */
	struct buf wire[WIRE_MAX]; /* an empty one is HELLO */
	size_t wire_first, wire_count;
	struct ack_sent acks[WIRE_MAX];
	size_t ack_first, ack_count;
	/* the link to Redis */
	bool loading;
	/* what became of it */
	unsigned again, late_acks;
	unsigned too_far, gone, full;
} *m;

static uv_loop_t loop;
static struct settings *settings;
static struct scheduler *scheduler;
static struct pace pace_now;
static uint64_t clock_ns;
static const char zeros[HUGE_PAYLOAD];

/* libuv asks it, too. */
__attribute__((visibility("default"))) int clock_gettime(clockid_t id, struct timespec *out)
{
	(void)id;
	out->tv_sec = (time_t)(clock_ns / 1000000000);
	out->tv_nsec = (long)(clock_ns % 1000000000);
	return 0;
}

static uint32_t roll(uint32_t n)
{
	m->random ^= m->random << 13;
	m->random ^= m->random >> 7;
	m->random ^= m->random << 17;
	return (uint32_t)((m->random >> 20) % n);
}

static bool chance(uint32_t one_in)
{
	return !m->settling && roll(one_in) == 0;
}

static struct entry_id at(uint64_t ms)
{
	return (struct entry_id){ms, 0};
}

/* In a run that can be found again. */
#define check(condition) do { if (!(condition)) fail_msg("seed %u, step %u: %s", m->seed, m->steps, #condition); } while (0)

static bool matches(const struct subscription *f, const struct stored *s)
{
	return f->on && f->stream == s->stream && (f->topic == TOPICS || f->topic == s->topic);
}

/* The broker takes none that large. */
static bool fits(const struct stored *s)
{
	return s->size < m->packet_max;
}

/* Nothing between what has come and `id` is missing. */
static void check_complete(const struct subscription *f, uint64_t id)
{
	for (size_t i = m->stored_count; i > 0 && m->stored[i - 1].id > f->had; i--) {
		const struct stored *s = &m->stored[i - 1];

		if (s->id < id && matches(f, s) && !s->trimmed && fits(s)) {
			fail_msg("seed %u, step %u: %llu of %s is left out before %llu", m->seed, m->steps, (unsigned long long)s->id, f->text,
				(unsigned long long)id);
		}
	}
}

static const struct stored *stored_find(uint64_t id)
{
	size_t low = 0, high = m->stored_count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (m->stored[middle].id < id) low = middle + 1;
		else high = middle;
	}
	return low < m->stored_count && m->stored[low].id == id ? &m->stored[low] : NULL;
}

/* The device gets this one. */
static void deliver(struct device *d, const struct stored *s)
{
	bool wanted = false;

	for (size_t i = 0; i < FILTERS; i++) {
		struct subscription *f = &d->filters[i];

		if (!matches(f, s)) continue;
		wanted = true;
		if (s->id <= f->had) fail_msg("seed %u, step %u: %s gets %llu again", m->seed, m->steps, d->name, (unsigned long long)s->id);
		check_complete(f, s->id);
		f->had = s->id;
	}
	if (!wanted) fail_msg("seed %u, step %u: %s gets %llu, which is not for it", m->seed, m->steps, d->name, (unsigned long long)s->id);
}

static void progress(struct subscription *f, uint64_t upto)
{
	check_complete(f, upto + 1);
	if (upto > f->position) f->position = upto;
	if (upto > f->had) f->had = upto;
	f->unwritten = false;
}

/* --- Redis ------------------------------------------------------------------------------------------------------------ */

static struct slice argument(struct slice command, size_t index)
{
	const char *p = command.data;
	size_t len = 0;

	for (size_t i = 0; i <= index; i++) {
		p = strchr(p, '$') + 1; /* what we ask has none elsewhere before these */
		len = strtoul(p, NULL, 10);
		p = strchr(p, '\n') + 1;
		if (i < index) p += len;
	}
	return slice_of(p, len);
}

static bool is(struct slice command, const char *word)
{
	return slice_equal(argument(command, 0), slice_str(word));
}

static size_t stream_of(struct slice key)
{
	return (size_t)(key.data[key.len - 1] - 'a');
}

static bool is_stream(struct slice key)
{
	return key.len == 3 && memcmp(key.data, "s:", 2) == 0;
}

static bool is_kept(const struct stored *s, size_t stream)
{
	return s->stream == stream && !s->trimmed && s->id <= m->redis;
}

static void entries(struct slice command, struct buf *out)
{
	size_t stream = stream_of(argument(command, 1));
	uint64_t most = strtoull(argument(command, 5).data, NULL, 10);
	struct entry_id first, last;
	struct buf found = {0};
	unsigned n = 0;

	check(entry_id_parse(argument(command, 2), &first) == ST_OK && entry_id_parse(argument(command, 3), &last) == ST_OK);
	for (size_t i = 0; i < m->stored_count && n < most; i++) {
		const struct stored *s = &m->stored[i];
		char id[32];

		if (!is_kept(s, stream) || entry_id_compare(at(s->id), first) < 0 || entry_id_compare(at(s->id), last) > 0) continue;
		n++;
		buf_printf(&found, "*2\r\n$%d\r\n%s\r\n*4\r\n$5\r\ntopic\r\n$3\r\n%c/%zu\r\n$7\r\npayload\r\n$%zu\r\n",
			snprintf(id, sizeof(id), "%llu-0", (unsigned long long)s->id), id, (char)('a' + stream), s->topic, s->size);
		buf_append(&found, zeros, s->size);
		buf_append_str(&found, "\r\n");
	}
	buf_printf(out, "*%u\r\n", n);
	buf_append(out, found.data, found.len);
	buf_free(&found);
}

static void text(struct buf *out, uint64_t id)
{
	char t[32];
	int len = snprintf(t, sizeof(t), "%llu-0", (unsigned long long)id);

	buf_printf(out, "$%d\r\n%s\r\n", len, t);
}

static void about_stream(size_t stream, struct buf *out)
{
	uint64_t length = 0, added = 0, first = 0, last = 0;

	for (size_t i = 0; i < m->stored_count; i++) {
		const struct stored *s = &m->stored[i];

		if (s->stream != stream || s->id > m->redis) continue;
		added++;
		last = s->id;
		if (s->trimmed) continue;
		length++;
		if (first == 0) first = s->id;
	}
	if (added == 0) {
		buf_append_str(out, "-ERR no such key\r\n");
		return;
	}
	buf_printf(out, "*8\r\n$6\r\nlength\r\n:%llu\r\n$17\r\nlast-generated-id\r\n", (unsigned long long)length);
	text(out, last);
	buf_printf(out, "$13\r\nentries-added\r\n:%llu\r\n$11\r\nfirst-entry\r\n", (unsigned long long)added);
	if (first == 0) {
		buf_append_str(out, "$-1\r\n");
		return;
	}
	buf_append_str(out, "*2\r\n");
	text(out, first);
	buf_append_str(out, "*0\r\n");
}

static struct device *device_named(struct slice name)
{
	size_t i = 0;

	while (i < m->device_count && !slice_equal(slice_str(m->devices[i].name), name)) i++;
	check(i < m->device_count);
	return &m->devices[i];
}

/* What is written down of a filter; its fields end with it. */
static void cursor(struct slice command, struct buf *out)
{
	struct slice key = argument(command, 1), field = argument(command, 2);
	const struct device *d = device_named(slice_of(key.data + key.len - 4, 4));

	for (size_t i = 0; i < FILTERS; i++) {
		const struct subscription *f = &d->filters[i];

		if (!f->on || f->unwritten || field.len < strlen(f->text)) continue;
		if (memcmp(field.data + field.len - strlen(f->text), f->text, strlen(f->text)) != 0) continue;
		buf_append_str(out, "*4\r\n");
		text(out, f->position);
		text(out, f->position);
		buf_append_str(out, "$-1\r\n$-1\r\n");
		return;
	}
	buf_append_str(out, "*4\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n");
}

static void newest_event(struct buf *out)
{
	for (size_t i = m->event_count; i > 0; i--) {
		if (m->events[i - 1].id.ms > m->redis) continue;
		buf_append_str(out, "*1\r\n*2\r\n");
		text(out, m->events[i - 1].id.ms);
		buf_append_str(out, "*0\r\n");
		return;
	}
	buf_append_str(out, "*0\r\n");
}

static void answer_one(struct slice command, struct buf *out)
{
	if (m->loading) buf_append_str(out, "-LOADING\r\n");
	else if (is(command, "XRANGE") && is_stream(argument(command, 1))) entries(command, out);
	else if (is(command, "XREVRANGE")) newest_event(out);
	else if (is(command, "XINFO")) about_stream(stream_of(argument(command, 2)), out);
	else if (is(command, "HMGET")) cursor(command, out);
	else if (is(command, "HSCAN")) buf_append_str(out, "*2\r\n$1\r\n0\r\n*0\r\n");
	else if (is(command, "GET")) text(out, m->redis);
	else if (is(command, "EVAL")) buf_append_str(out, ":1\r\n");
	else buf_append_str(out, "*0\r\n");
}

static void redis_answers(void)
{
	size_t count = m->settling ? redis_fake.count : roll((uint32_t)redis_fake.count + 1);

	m->loading = chance(40);
	redis_fake_answer(count, answer_one);
	m->loading = false;
}

/* All that is asked is lost, some of it in the middle. */
static void redis_lost(void)
{
	if (redis_fake.down) return;
	redis_fake.down = roll(4) > 0; /* else it is there again at once */
	redis_fake.loses = true;
	redis_fake.loses_behind = roll(3);
	redis_fake_answer(redis_fake.count, answer_one);
	redis_fake.loses = false;
	scheduler_ready(scheduler);
}

static void on_again(void *ctx);

static void redis_back(void)
{
	if (!redis_fake.down) return;
	redis_fake.down = false;
	if (chance(2)) on_again(NULL);
	scheduler_ready(scheduler);
}

/* --- session events ---------------------------------------------------------------------------------------------------- */

static struct device_event *event_new(enum device_op op, struct device *d)
{
	struct device_event *e = &m->events[m->event_count++];

	check(m->event_count < EVENTS_MAX);
	*e = (struct device_event){.op = op, .id = at(++m->clock), .client = slice_str(d->name), .generation = at(d->generation)};
	return e;
}

static void tell_filter(struct device *d, struct subscription *f, bool again)
{
	struct device_event *e = event_new(DEVICE_OP_SUBSCRIBED, d);

	if (d->generation == 0) d->generation = e->id.ms;
	e->generation = at(d->generation);
	e->filter = slice_str(f->text);
	e->qos = 1;
	e->again = again;
	if (again) e->from = at(f->position);
	f->told = e->id.ms;
	/* Without a cursor nothing from before is owed. */
	if (f->unwritten && !again) f->had = f->position = f->told;
}

/* All that it subscribes to, with a new generation. */
static void tell(struct device *d, bool again)
{
	d->generation = 0;
	d->sequence = 0;
	for (size_t i = 0; i < FILTERS; i++) {
		if (d->filters[i].on) tell_filter(d, &d->filters[i], again);
	}
}

static void give_event(void)
{
	const struct device_event *e = &m->events[m->events_given];

	if (m->events_given == m->event_count || e->id.ms > m->redis) return;
	m->events_given++; /* scheduler_event is told before the position moves: nothing asks for it meanwhile */
	scheduler_event(scheduler, e);
	scheduler_moved(scheduler);
}

static struct entry_id on_position(void *ctx)
{
	(void)ctx;
	return m->events_given > 0 ? m->events[m->events_given - 1].id : ENTRY_ID_ZERO;
}

/* --- devices ------------------------------------------------------------------------------------------------------------ */

static void subscribe(struct device *d, size_t i)
{
	struct subscription *f = &d->filters[i];

	f->on = true;
	f->unwritten = roll(4) == 0;
	f->had = f->position = 1 + roll((uint32_t)m->clock);
	tell_filter(d, f, false);
}

static void comes(struct device *d)
{
	bool first = true;

	d->there = true;
	d->live = false;
	for (size_t i = 0; i < FILTERS; i++) first = first && !d->filters[i].on;
	if (!first) {
		tell(d, false);
		return;
	}
	d->generation = 0;
	d->sequence = 0;
	subscribe(d, 0);
}

static void goes(struct device *d)
{
	if (!d->there) return;
	d->there = d->live = false;
	(void)event_new(DEVICE_OP_GONE, d);
}

static void device_step(void)
{
	struct device *d = &m->devices[roll((uint32_t)m->device_count)];

	switch (roll(4)) {
	case 0:
		goes(d);
		break;
	case 1:
		if (d->there && !d->live && !d->filters[1].on) subscribe(d, 1);
		break;
	default: /* again, too, without the end of the connection before */
		if (!d->there || roll(3) == 0) comes(d);
	}
}

/* --- messages ----------------------------------------------------------------------------------------------------------- */

static void publish(size_t size)
{
	struct stored *s = &m->stored[m->stored_count];

	if (m->stored_count == STORED_MAX) return;
	*s = (struct stored){.id = ++m->clock, .stream = size == HUGE_PAYLOAD ? 0 : roll(STREAMS), .topic = roll(TOPICS), .size = size};
	m->stored_count++;
	for (size_t i = 0; i < m->device_count; i++) {
		struct device *d = &m->devices[i];

		if (!d->live) continue;
		for (size_t k = 0; k < FILTERS; k++) {
			if (!matches(&d->filters[k], s)) continue;
			d->filters[k].had = s->id;
			d->filters[k].position = s->id;
		}
	}
}

static void publish_some(void)
{
	for (unsigned n = 1 + roll(4); n > 0; n--) publish(m->payload);
}

static void trim(void)
{
	size_t stream = roll(STREAMS), left = roll(8);

	for (size_t i = 0; i < m->stored_count && left > 0; i++) {
		struct stored *s = &m->stored[i];

		if (!is_kept(s, stream)) continue;
		s->trimmed = m->trimmed = true;
		left--;
	}
}

/* --- the plugin ----------------------------------------------------------------------------------------------------------- */

static struct subscription *subscription_find(struct device *d, struct slice filter)
{
	size_t i = 0;

	while (i < FILTERS && !slice_equal(slice_str(d->filters[i].text), filter)) i++;
	check(i < FILTERS && d->filters[i].on);
	return &d->filters[i];
}

static void take_batch(struct device *d, const struct control_command *c)
{
	struct slice rest = c->messages, filter;
	struct message message;

	while (control_message_next(&rest, &message)) {
		const struct stored *s = stored_find(message.id.ms);

		check(s != NULL && s->size == message.payload.len && s->id <= c->upto.ms);
		deliver(d, s);
	}
	rest = c->filters;
	while (control_filter_next(&rest, &filter)) progress(subscription_find(d, filter), c->upto.ms);
}

static enum control_result take_switch(struct device *d, const struct control_command *c)
{
	size_t first = m->stored_count;

	check(!d->live);
	while (first > 0 && m->stored[first - 1].id > c->upto.ms) first--;
	if (m->stored_count - first > FLUSH_MAX) return CONTROL_TOO_FAR;
	for (size_t i = 0; i < FILTERS; i++) {
		if (d->filters[i].on && d->filters[i].told > c->upto.ms) return CONTROL_TOO_FAR;
	}
	for (size_t i = 0; i < FILTERS; i++) {
		struct subscription *f = &d->filters[i];

		if (!f->on) continue;
		progress(f, c->upto.ms);
		f->had = f->position = m->clock; /* the plugin hands over the rest by itself */
	}
	d->live = true;
	return CONTROL_DONE;
}

static struct ack_sent *ack_new(size_t device)
{
	struct ack_sent *a = &m->acks[(m->ack_first + m->ack_count++) % WIRE_MAX];

	check(m->ack_count < WIRE_MAX);
	*a = (struct ack_sent){.device = device};
	return a;
}

static enum control_result take(struct device *d, const struct control_command *c)
{
	enum control_result result = CONTROL_DONE;

	if (!d->there || c->generation.ms != d->generation) return CONTROL_GONE;
	check(c->sequence == d->sequence + 1); /* nothing goes behind what could not be sent */
	d->sequence = c->sequence;
	if (chance(200)) { /* no memory: it is told anew */
		tell(d, true);
		return CONTROL_GONE;
	}
	if (c->type == CONTROL_BATCH) take_batch(d, c);
	else result = take_switch(d, c);
	m->too_far += result == CONTROL_TOO_FAR;
	return result;
}

static void take_hello(void)
{
	for (size_t i = 0; i < m->device_count; i++) {
		if (m->devices[i].there && !m->devices[i].live) tell(&m->devices[i], true);
	}
	(void)ack_new(SIZE_MAX);
}

static void plugin_takes(void)
{
	struct buf packet;
	struct control_command c;
	struct device *d;
	struct ack_sent *a;

	if (m->wire_count == 0) return;
	packet = m->wire[m->wire_first];
	m->wire[m->wire_first] = (struct buf){0};
	m->wire_first = (m->wire_first + 1) % WIRE_MAX;
	m->wire_count--;
	if (packet.len == 0) {
		take_hello();
		return;
	}
	check(control_decode(slice_of(packet.data, packet.len), &c) == ST_OK);
	d = device_named(c.device);
	a = ack_new((size_t)(d - m->devices));
	a->generation = c.generation.ms;
	a->sequence = c.sequence;
	a->result = take(d, &c);
	a->head = m->clock;
	m->gone += a->result == CONTROL_GONE;
	if (a->result == CONTROL_DONE && c.type == CONTROL_SWITCH) (void)event_new(DEVICE_OP_LIVE, d);
	buf_free(&packet);
}

static void plugin_open(void)
{
	m->open = true;
	scheduler_open(scheduler, true, m->queue_limit);
}

static void give_ack(void)
{
	struct ack_sent a = m->acks[m->ack_first];
	struct control_command ack;

	if (m->ack_count == 0) return;
	if (a.device != SIZE_MAX) {
		ack = (struct control_command){.type = CONTROL_ACK, .device = slice_str(m->devices[a.device].name),
			.generation = at(a.generation), .sequence = a.sequence, .result = a.result, .head = at(a.head)};
		if (a.result == CONTROL_DONE && chance(4)) { /* a sign of life first */
			ack.result = CONTROL_LATER;
			scheduler_ack(scheduler, &ack);
			return;
		}
	}
	m->ack_first = (m->ack_first + 1) % WIRE_MAX;
	m->ack_count--;
	if (a.device != SIZE_MAX) scheduler_ack(scheduler, &ack);
	else if (!m->hello_due) plugin_open();
}

/* --- the connection to it -------------------------------------------------------------------------------------------------- */

static enum status on_send(void *ctx, struct slice payload)
{
	enum status st = m->refuses;
	struct buf *packet = &m->wire[(m->wire_first + m->wire_count) % WIRE_MAX];

	(void)ctx;
	m->refuses = ST_OK;
	if (!m->open) return ST_LOST;
	if (payload.len > m->packet_max) return ST_TOO_LARGE;
	if (st == ST_LOST) m->broken = true;
	if (st != ST_OK) return st;
	check(m->wire_count < WIRE_MAX);
	m->wire_count++;
	buf_clear(packet);
	buf_append_slice(packet, payload);
	if (payload.len > m->largest) m->largest = payload.len;
	return ST_OK;
}

static void wire_cut(void)
{
	while (m->wire_count > 0) {
		buf_free(&m->wire[m->wire_first]);
		m->wire_first = (m->wire_first + 1) % WIRE_MAX;
		m->wire_count--;
	}
	m->ack_count = 0;
}

static void broker_lost(void)
{
	if (!m->connected) return;
	m->connected = m->broken = m->open = false;
	wire_cut();
	scheduler_open(scheduler, false, 0);
}

static void broker_back(void)
{
	if (m->connected) return;
	m->connected = m->hello_due = true;
}

/* HELLO goes out: whatever was under way is void. */
static void hello(void)
{
	if (!m->connected || !m->hello_due) return;
	m->hello_due = m->open = false;
	scheduler_open(scheduler, false, 0);
	scheduler_reset(scheduler);
	m->wire_count++;
	check(m->wire_count < WIRE_MAX);
	buf_clear(&m->wire[(m->wire_first + m->wire_count - 1) % WIRE_MAX]);
}

static void on_again(void *ctx)
{
	(void)ctx;
	m->again++;
	m->hello_due = true;
	m->open = false;
	scheduler_open(scheduler, false, 0);
}

/* What a sending may come to when the connection is there. */
static void refuse(void)
{
	static const enum status ways[] = {ST_NOMEM, ST_FULL, ST_LOST};

	m->refuses = ways[roll(3)];
}

static void on_turned(void *ctx)
{
	(void)ctx;
}

static void on_log(void *ctx, enum log_level level, const char *line)
{
	(void)ctx, (void)level;
	if (strstr(line, "has not acknowledged")) m->late_acks++;
	if (getenv("MODEL_VERBOSE")) printf("step %u: %s\n", m->steps, line);
}

/* --- a run ------------------------------------------------------------------------------------------------------------------ */

static void pass_time(uint64_t ms)
{
	clock_ns += ms * 1000000;
}

static void check_bounds(void)
{
	struct scheduler_counts c = scheduler_count(scheduler);

	check(c.fetching <= SCHEDULER_FETCHES_MAX);
	check(c.catching_up <= m->device_count);
	check(c.unacked_bytes <= SCHEDULER_BYTES_MAX + m->largest + m->device_count * SWITCH_BYTES);
	m->full += c.unacked_bytes >= SCHEDULER_BYTES_MAX || c.fetching == SCHEDULER_FETCHES_MAX;
}

static void fault(void)
{
	switch (roll(12)) {
	case 0:
		redis_lost();
		break;
	case 1:
	case 2:
		redis_back();
		break;
	case 3:
		broker_lost();
		break;
	case 4:
	case 5:
	case 6:
		broker_back();
		break;
	case 7:
		refuse();
		break;
	case 8:
		m->silent = roll(60);
		break;
	case 9:
		if (roll(3) == 0) pass_time((uint64_t)roll(40) * 1000);
		break;
	case 10:
		trim();
		break;
	default:
		if (m->packet_max != SIZE_MAX && m->stored_count % 3 == 0) publish(TOO_LARGE);
	}
}

static void world_step(void)
{
	if (chance(6)) publish_some();
	if (chance(8)) device_step();
	if (chance(10)) fault();
	if (m->settling || roll(3) == 0) m->redis = m->settling ? m->clock : m->redis + roll((uint32_t)(m->clock - m->redis) + 1);
	for (unsigned n = m->settling ? 1000 : roll(4); n > 0; n--) give_event();
	if (roll(3) > 0 || m->settling) redis_answers();
	if (m->silent > 0) {
		m->silent--;
		return;
	}
	for (unsigned n = m->settling ? WIRE_MAX : roll(8); n > 0; n--) plugin_takes();
	for (unsigned n = m->settling ? WIRE_MAX : roll(8); n > 0; n--) give_ack();
}

static void step(void)
{
	world_step();
	(void)uv_run(&loop, UV_RUN_NOWAIT);
	if (m->broken) broker_lost();
	if (roll(3) == 0) hello();
	pass_time(roll(4) == 0 ? roll(30) : 0);
	check_bounds();
	m->steps++;
}

static void setup(unsigned seed)
{
	static const struct log_sink sink = {on_log, NULL};
	const struct setting_override lines[] = {{"mirror", "a/# stream s:a"}, {"mirror", "b/# stream s:b"}, {"mirror", "c/# stream s:c"},
		{"redeliver", "#"}, {"node", "own"}};
	struct scheduler_deps deps = {.loop = &loop, .log = &sink, .pace = &pace_now, .send = on_send, .events_position = on_position,
		.turned = on_turned, .again = on_again};
	char why[256];

	m = calloc(1, sizeof(*m));
	assert_non_null(m);
	memset(&redis_fake, 0, sizeof(redis_fake));
	m->seed = seed;
	m->random = seed * 0x9e3779b97f4a7c15u + 1;
	m->clock = 1000;
	m->connected = true;
	clock_ns = 1000000000000;
	assert_int_equal(uv_loop_init(&loop), 0);
	if (settings_load(NULL, lines, 5, NULL, &settings, why, sizeof(why)) != ST_OK) fail_msg("%s", why);
	deps.settings = settings;
	pace_init(&pace_now, uv_hrtime() / 1000);
	if (roll(2)) pace_now.rate = PACE_RATE_MAX;
	assert_int_equal(scheduler_new(&deps, &scheduler), ST_OK);
}

/* What differs from run to run: how many devices, how large the messages are, what the broker takes. */
static void begin(void)
{
	bool heavy = m->seed % 8 == 5;
	unsigned backlog = heavy ? 6 : 100 + roll(700);

	m->device_count = heavy ? HEAVY : m->seed % 4 == 3 ? DEVICES_MAX : FEW;
	m->payload = 1 + roll(SMALL);
	m->silent = heavy ? 60 : 0;
	m->packet_max = !heavy && roll(3) == 0 ? PACKET_MAX : SIZE_MAX;
	m->queue_limit = roll(4) == 0 ? 200 : 0;
	for (size_t i = 0; i < m->device_count; i++) {
		struct device *d = &m->devices[i];

		(void)snprintf(d->name, sizeof(d->name), "d%03u", (unsigned)i % 1000);
		for (size_t k = 0; k < FILTERS; k++) {
			struct subscription *f = &d->filters[k];

			f->stream = heavy ? k : (i + k) % STREAMS;
			f->topic = heavy ? TOPICS : roll(TOPICS + 1);
			if (f->topic == TOPICS) (void)snprintf(f->text, sizeof(f->text), "%c/#", (char)('a' + f->stream));
			else (void)snprintf(f->text, sizeof(f->text), "%c/%zu", (char)('a' + f->stream), f->topic);
		}
	}
	for (unsigned i = 0; i < backlog; i++) publish(heavy ? HUGE_PAYLOAD : m->payload);
	if (m->packet_max != SIZE_MAX) publish(TOO_LARGE);
	else publish(LARGE);
	for (size_t i = 0; i < m->device_count; i++) {
		if (roll(4) > 0) comes(&m->devices[i]);
	}
	m->redis = m->clock;
	plugin_open();
}

static bool quiet(void)
{
	if (scheduler_is_busy(scheduler) || m->events_given < m->event_count || m->hello_due) return false;
	if (redis_fake.count + m->wire_count + m->ack_count > 0) return false;
	for (size_t i = 0; i < m->device_count; i++) {
		if (m->devices[i].there && !m->devices[i].live) return false;
	}
	return true;
}

/* Nothing goes wrong any more: all devices come to their end. */
static void settle(void)
{
	unsigned late;

	m->settling = true;
	m->silent = 0;
	m->refuses = ST_OK;
	redis_back();
	if (!m->connected) broker_back();
	step(); /* what was late comes now */
	late = m->late_acks;
	for (unsigned i = 0; i < SETTLE_STEPS && !quiet(); i++) {
		step();
		pass_time(5);
	}
	if (!quiet()) fail_msg("seed %u: something is left", m->seed);
	check(m->late_acks == late);
}

static void check_end(void)
{
	struct scheduler_counts c = scheduler_count(scheduler);

	for (size_t i = 0; i < m->device_count; i++) {
		if (!m->devices[i].there) continue;
		for (size_t k = 0; k < FILTERS; k++) {
			if (m->devices[i].filters[k].on) check_complete(&m->devices[i].filters[k], UINT64_MAX);
		}
	}
	check(c.catching_up == 0 && c.fetching == 0 && c.unacked_bytes == 0);
	check(c.malformed == 0 && c.expired == 0);
	check(m->trimmed || c.gaps == 0);
	check(m->packet_max != SIZE_MAX || c.oversize == 0);
}

static void on_closed(void *ctx)
{
	*(bool *)ctx = true;
}

static void finish(void)
{
	bool closed = false;

	scheduler_close(scheduler, on_closed, &closed);
	assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
	assert_true(closed);
	assert_int_equal(uv_loop_close(&loop), 0);
	settings_free(settings);
	for (size_t i = 0; i < WIRE_MAX; i++) buf_free(&m->wire[i]);
	free(m);
}

/* Over all runs: a test that never came there would show nothing. */
static struct { unsigned again, too_far, gone, full, oversize; } happened;

static void run(unsigned seed)
{
	setup(seed);
	begin();
	while (m->steps < STEPS) step();
	settle();
	check_end();
	happened.again += m->again;
	happened.too_far += m->too_far;
	happened.gone += m->gone;
	happened.full += m->full;
	happened.oversize += (unsigned)scheduler_count(scheduler).oversize;
	finish();
}

static void model(void **state)
{
	struct seeds s = seeds(1, 40);

	(void)state;
	for (unsigned seed = s.first; seed < s.end; seed++) run(seed);
	if (s.end - s.first < 40) return;
	assert_true(happened.again > 0 && happened.too_far > 0 && happened.gone > 0 && happened.full > 0 && happened.oversize > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(model)};

	seeds_test_wanted();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
