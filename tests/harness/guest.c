/*
 * Owns one MQTT client and its inbox. The guest's own thread runs libmosquitto's loop and the callbacks, the test's
 * thread the rest; everything both touch is under the guest's lock, which is never held over a call into libmosquitto.
 * The callbacks must never end the test.
 */
#include "tests/harness/guest.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "tests/harness/scene_internal.h"

#define ANSWER_LIMIT_MS 60000
#define SURELY_LIMIT_MS 120000
#define MIDS 65536

struct letter {
	char *topic;
	char *payload;
	size_t len;
	int qos;
	bool retain;
	mosquitto_property *properties;
};

struct guest {
	struct scene *scene;
	uint16_t port;
	char *id;
	struct guest_options options;
	struct mosquitto *mosq; /* NULL: never connected or closed */
	pthread_t thread;
	bool thread_runs;       /* test's thread only */
	atomic_bool stop;
	atomic_uint pace_ms;    /* taken for each message */

	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool connected, ended;
	int connack;            /* -1: none yet */
	bool session_present;
	int answered_mid, answer; /* last SUBACK or UNSUBACK */
	struct letter **inbox;
	size_t inbox_count, inbox_size;
	long sent, acked, finished; /* messages: sent, acknowledged with success, acknowledged at all */
	short *codes;           /* by number: -1 not yet, else reason code */
	size_t codes_size;
	long number_of[MIDS];   /* packet id to number, -1: none */
	short early[MIDS];      /* acknowledged before the sender had noted the id; -1: no */
};

static pthread_once_t library_once = PTHREAD_ONCE_INIT;

static void library_init(void)
{
	mosquitto_lib_init();
}

/* --- the guest's thread -------------------------------------------------- */

static void on_connect(struct mosquitto *mosq, void *obj, int code, int flags, const mosquitto_property *properties)
{
	struct guest *p = obj;

	(void)mosq;
	(void)properties;
	pthread_mutex_lock(&p->lock);
	p->connack = code;
	p->session_present = flags & 1;
	p->connected = code == 0;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
}

static void on_message(struct mosquitto *mosq, void *obj, const struct mosquitto_message *m,
	const mosquitto_property *properties)
{
	struct guest *p = obj;
	struct letter *letter = calloc(1, sizeof(*letter));

	(void)mosq;
	if (!letter) abort();
	letter->topic = strdup(m->topic);
	letter->len = (size_t)m->payloadlen;
	letter->payload = malloc(letter->len + 1);
	if (!letter->topic || !letter->payload) abort();
	if (letter->len) memcpy(letter->payload, m->payload, letter->len);
	letter->payload[letter->len] = '\0';
	letter->qos = m->qos;
	letter->retain = m->retain;
	if (properties && mosquitto_property_copy_all(&letter->properties, properties) != MOSQ_ERR_SUCCESS) abort();
	pthread_mutex_lock(&p->lock);
	if (p->inbox_count == p->inbox_size) {
		p->inbox_size = p->inbox_size ? p->inbox_size * 2 : 256;
		p->inbox = realloc(p->inbox, p->inbox_size * sizeof(*p->inbox));
		if (!p->inbox) abort();
	}
	p->inbox[p->inbox_count++] = letter;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
	unsigned ms = atomic_load(&p->pace_ms);
	if (ms > 0) (void)nanosleep(&(struct timespec){0, (long)ms * 1000000}, NULL);
}

void guest_pace(struct guest *p, unsigned ms)
{
	atomic_store(&p->pace_ms, ms);
}

static void on_answer(struct guest *p, int mid, int answer)
{
	pthread_mutex_lock(&p->lock);
	p->answered_mid = mid;
	p->answer = answer;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
}

static void on_subscribe(struct mosquitto *mosq, void *obj, int mid, int count, const int *granted,
	const mosquitto_property *properties)
{
	(void)mosq;
	(void)properties;
	on_answer(obj, mid, count > 0 ? granted[0] : 128);
}

static void on_unsubscribe(struct mosquitto *mosq, void *obj, int mid, const mosquitto_property *properties)
{
	(void)mosq;
	(void)properties;
	on_answer(obj, mid, 0);
}

/* Lock held. */
static void note_code(struct guest *p, long number, int code)
{
	p->codes[number] = (short)code;
	p->finished++;
	if (code < 128) p->acked++;
}

static void on_publish(struct mosquitto *mosq, void *obj, int mid, int code, const mosquitto_property *properties)
{
	struct guest *p = obj;
	size_t at = (size_t)mid % MIDS;

	(void)mosq;
	(void)properties;
	pthread_mutex_lock(&p->lock);
	if (p->number_of[at] >= 0) note_code(p, p->number_of[at], code);
	else p->early[at] = (short)code;
	p->number_of[at] = -1;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
}

static void *guest_run(void *ctx)
{
	struct guest *p = ctx;

	while (!atomic_load(&p->stop))
		if (mosquitto_loop(p->mosq, 50, 1) != MOSQ_ERR_SUCCESS) break;
	pthread_mutex_lock(&p->lock);
	p->connected = false;
	p->ended = true;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

/* No packet id stands for a message. */
static void forget_ids(struct guest *p)
{
	for (size_t i = 0; i < MIDS; i++) {
		p->number_of[i] = -1;
		p->early[i] = -1;
	}
}

/* --- life -------------------------------------------------- */

/* Ends thread and connection; the inbox stays. */
static void guest_close(struct guest *p)
{
	if (p->thread_runs) {
		atomic_store(&p->stop, true);
		pthread_join(p->thread, NULL);
		p->thread_runs = false;
	}
	if (p->mosq) mosquitto_destroy(p->mosq);
	p->mosq = NULL;
}

static void letter_free(struct letter *letter)
{
	free(letter->topic);
	free(letter->payload);
	mosquitto_property_free_all(&letter->properties);
	free(letter);
}

static void guest_free(void *ctx)
{
	struct guest *p = ctx;

	if (p->mosq && p->thread_runs) (void)shutdown(mosquitto_socket(p->mosq), SHUT_RDWR); /* perhaps closed already */
	guest_close(p);
	for (size_t i = 0; i < p->inbox_count; i++) letter_free(p->inbox[i]);
	free(p->inbox);
	free(p->codes);
	free(p->id);
	pthread_mutex_destroy(&p->lock);
	pthread_cond_destroy(&p->changed);
	free(p);
}

struct guest *guest_new_at(struct scene *s, uint16_t port, const char *id, const struct guest_options *options)
{
	struct guest *p = calloc(1, sizeof(*p));
	pthread_condattr_t clock;

	pthread_once(&library_once, library_init);
	scene_require(p, "out of memory");
	p->scene = s;
	p->port = port;
	p->id = strdup(id);
	scene_require(p->id, "out of memory");
	if (options) p->options = *options;
	forget_ids(p);
	pthread_mutex_init(&p->lock, NULL);
	pthread_condattr_init(&clock);
	pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
	pthread_cond_init(&p->changed, &clock);
	pthread_condattr_destroy(&clock);
	scene_at_end(s, guest_free, p);
	return p;
}

struct guest *guest_new(struct world *w, const char *id, const struct guest_options *options)
{
	return guest_new_at(w->scene, server_port(w->broker), id, options);
}

struct guest *guest_join(struct world *w, const char *id, const struct guest_options *options)
{
	struct guest *p = guest_new(w, id, options);

	guest_connect(p);
	return p;
}

static void guest_setup(struct guest *p)
{
	const struct guest_options *o = &p->options;
	int rc = MOSQ_ERR_SUCCESS;

	p->mosq = mosquitto_new(p->id, !o->keep_session, p);
	scene_require(p->mosq, "%s: no client: %s", p->id, strerror(errno));
	mosquitto_threaded_set(p->mosq, true);
	mosquitto_int_option(p->mosq, MOSQ_OPT_PROTOCOL_VERSION, o->v5 ? MQTT_PROTOCOL_V5 : MQTT_PROTOCOL_V311);
	mosquitto_int_option(p->mosq, MOSQ_OPT_TCP_NODELAY, 1);
	if (o->user) rc = mosquitto_username_pw_set(p->mosq, o->user, o->password);
	if (o->will_topic && rc == MOSQ_ERR_SUCCESS)
		rc = mosquitto_will_set(p->mosq, o->will_topic, (int)strlen(o->will_payload), o->will_payload, o->will_qos,
			false);
	scene_require(rc == MOSQ_ERR_SUCCESS, "%s: %s", p->id, mosquitto_strerror(rc));
	mosquitto_connect_v5_callback_set(p->mosq, on_connect);
	mosquitto_message_v5_callback_set(p->mosq, on_message);
	mosquitto_subscribe_v5_callback_set(p->mosq, on_subscribe);
	mosquitto_unsubscribe_v5_callback_set(p->mosq, on_unsubscribe);
	mosquitto_publish_v5_callback_set(p->mosq, on_publish);
}

static int guest_open(struct guest *p)
{
	const struct guest_options *o = &p->options;
	mosquitto_property *properties = NULL;
	int rc = MOSQ_ERR_SUCCESS;

	if (o->v5 && (o->keep_session || o->begin_session))
		rc = mosquitto_property_add_int32(&properties, MQTT_PROP_SESSION_EXPIRY_INTERVAL, 3600);
	if (o->v5 && o->receive_maximum && rc == MOSQ_ERR_SUCCESS)
		rc = mosquitto_property_add_int16(&properties, MQTT_PROP_RECEIVE_MAXIMUM, o->receive_maximum);
	if (rc == MOSQ_ERR_SUCCESS)
		rc = mosquitto_connect_bind_v5(p->mosq, "127.0.0.1", p->port, o->keepalive_s ? o->keepalive_s : 60, NULL,
			properties);
	mosquitto_property_free_all(&properties);
	return rc;
}

/* Waits for a change, at most until `limit`; false when it has passed. Lock held. */
static bool guest_await(struct guest *p, uint64_t limit)
{
	struct timespec until = {(time_t)(limit / 1000), (long)(limit % 1000) * 1000000};

	return pthread_cond_timedwait(&p->changed, &p->lock, &until) != ETIMEDOUT || now_ms() < limit;
}

int guest_connect_code(struct guest *p)
{
	uint64_t limit;
	int code;

	wait_until(!guest_connected(p), ANSWER_LIMIT_MS, "the end of its connection"); /* the broker's end is seen a little later */
	limit = now_ms() + ANSWER_LIMIT_MS;
	guest_close(p);
	guest_setup(p);
	p->connected = p->ended = false;
	p->connack = -1;
	p->finished = p->sent; /* what was under way is given up */
	forget_ids(p);
	atomic_store(&p->stop, false);
	if (guest_open(p) != MOSQ_ERR_SUCCESS) return -1;
	scene_require(pthread_create(&p->thread, NULL, guest_run, p) == 0, "no thread");
	p->thread_runs = true;
	pthread_mutex_lock(&p->lock);
	while (p->connack == -1 && !p->ended && guest_await(p, limit)) {}
	code = p->connack;
	pthread_mutex_unlock(&p->lock);
	return code;
}

void guest_connect(struct guest *p)
{
	int code = guest_connect_code(p);

	scene_require(code == 0, "%s: connection refused: %d", p->id, code);
}

bool guest_session_present(const struct guest *p)
{
	return p->session_present;
}

bool guest_connected(struct guest *p)
{
	bool connected;

	pthread_mutex_lock(&p->lock);
	connected = p->connected;
	pthread_mutex_unlock(&p->lock);
	return connected;
}

static void guest_await_end(struct guest *p)
{
	uint64_t limit = now_ms() + ANSWER_LIMIT_MS;
	bool ended;

	pthread_mutex_lock(&p->lock);
	while (!p->ended && guest_await(p, limit)) {}
	ended = p->ended;
	pthread_mutex_unlock(&p->lock);
	scene_require(ended, "%s: the connection did not end", p->id);
	guest_close(p);
}

void guest_disconnect(struct guest *p)
{
	scene_require(guest_connected(p), "%s is not connected", p->id);
	scene_require(mosquitto_disconnect(p->mosq) == MOSQ_ERR_SUCCESS, "%s: no disconnect", p->id);
	guest_await_end(p);
}

void guest_drop(struct guest *p)
{
	scene_require(p->thread_runs, "%s is not connected", p->id);
	(void)shutdown(mosquitto_socket(p->mosq), SHUT_RDWR); /* perhaps lost already */
	guest_await_end(p);
}

/* --- subscribing -------------------------------------------------- */

/* -1 when no answer came. */
static int guest_answer(struct guest *p, int mid)
{
	uint64_t limit = now_ms() + ANSWER_LIMIT_MS;
	int answer;

	pthread_mutex_lock(&p->lock);
	while (p->answered_mid != mid && !p->ended && guest_await(p, limit)) {}
	answer = p->answered_mid == mid ? p->answer : -1;
	p->answered_mid = 0;
	pthread_mutex_unlock(&p->lock);
	return answer;
}

static int guest_subscribe_send(struct guest *p, const char *filter, int qos)
{
	int mid = 0, rc;

	scene_require(p->mosq, "%s is not connected", p->id);
	rc = mosquitto_subscribe(p->mosq, &mid, filter, qos);
	scene_require(rc == MOSQ_ERR_SUCCESS, "%s: subscribe %s: %s", p->id, filter, mosquitto_strerror(rc));
	return mid;
}

int guest_subscribe_code(struct guest *p, const char *filter, int qos)
{
	int answer = guest_answer(p, guest_subscribe_send(p, filter, qos));

	scene_require(answer >= 0, "%s: subscribe %s: not answered", p->id, filter);
	return answer;
}

void guest_subscribe(struct guest *p, const char *filter, int qos)
{
	int code = guest_subscribe_code(p, filter, qos);

	scene_require(code == qos, "%s: subscribe %s: %d", p->id, filter, code);
}

void guest_subscribe_id(struct guest *p, const char *filter, int qos, uint32_t id)
{
	mosquitto_property *list = NULL;
	int mid = 0, rc;

	rc = mosquitto_property_add_varint(&list, MQTT_PROP_SUBSCRIPTION_IDENTIFIER, id);
	scene_require(rc == MOSQ_ERR_SUCCESS, "%s: identifier %u: %s", p->id, id, mosquitto_strerror(rc));
	rc = mosquitto_subscribe_v5(p->mosq, &mid, filter, qos, 0, list);
	mosquitto_property_free_all(&list);
	scene_require(rc == MOSQ_ERR_SUCCESS, "%s: subscribe %s: %s", p->id, filter, mosquitto_strerror(rc));
	scene_require(guest_answer(p, mid) == qos, "%s: subscribe %s: refused", p->id, filter);
}

bool received_subscription_id(const struct received *r, uint32_t id)
{
	const mosquitto_property *at = r->properties;
	uint32_t found = 0;
	bool skip = false;

	while ((at = mosquitto_property_read_varint(at, MQTT_PROP_SUBSCRIPTION_IDENTIFIER, &found, skip))) {
		if (id == 0 || found == id) return true;
		skip = true;
	}
	return false;
}

void guest_subscribe_nowait(struct guest *p, const char *filter, int qos)
{
	(void)guest_subscribe_send(p, filter, qos);
}

void guest_unsubscribe(struct guest *p, const char *filter)
{
	int mid = 0, rc = mosquitto_unsubscribe(p->mosq, &mid, filter);

	scene_require(rc == MOSQ_ERR_SUCCESS, "%s: unsubscribe %s: %s", p->id, filter, mosquitto_strerror(rc));
	scene_require(guest_answer(p, mid) == 0, "%s: unsubscribe %s: not answered", p->id, filter);
}

/* --- publishing -------------------------------------------------- */

static void codes_reserve(struct guest *p)
{
	if ((size_t)p->sent < p->codes_size) return;
	p->codes_size = p->codes_size ? p->codes_size * 2 : 1024;
	p->codes = realloc(p->codes, p->codes_size * sizeof(*p->codes));
	if (!p->codes) abort();
}

static long guest_send_with(struct guest *p, const char *topic, const void *payload, size_t len, int qos, bool retain,
	const mosquitto_property *properties)
{
	int mid = 0;
	size_t at;
	long number;

	if (!p->mosq || mosquitto_publish_v5(p->mosq, &mid, topic, (int)len, payload, qos, retain, properties) !=
		MOSQ_ERR_SUCCESS) return -1;
	at = (size_t)mid % MIDS;
	pthread_mutex_lock(&p->lock);
	codes_reserve(p);
	number = p->sent++;
	p->codes[number] = -1;
	if (p->early[at] >= 0) note_code(p, number, p->early[at]);
	else p->number_of[at] = number;
	p->early[at] = -1;
	pthread_mutex_unlock(&p->lock);
	return number;
}

long guest_send(struct guest *p, const char *topic, const void *payload, size_t len, int qos, bool retain,
	unsigned window)
{
	uint64_t limit = now_ms() + 4 * ANSWER_LIMIT_MS;
	bool ended;

	pthread_mutex_lock(&p->lock);
	while (window > 0 && p->sent - p->finished >= (long)window && !p->ended && guest_await(p, limit)) {}
	ended = p->ended;
	pthread_mutex_unlock(&p->lock);
	return ended ? -1 : guest_send_with(p, topic, payload, len, qos, retain, NULL);
}

static int guest_await_code(struct guest *p, long number)
{
	uint64_t limit = now_ms() + ANSWER_LIMIT_MS;
	int code;

	if (number < 0) return -1;
	pthread_mutex_lock(&p->lock);
	while (p->codes[number] < 0 && !p->ended && guest_await(p, limit)) {}
	code = p->codes[number];
	pthread_mutex_unlock(&p->lock);
	return code;
}

int guest_publish_code(struct guest *p, const char *topic, const char *text, int qos)
{
	return guest_await_code(p, guest_send_with(p, topic, text, strlen(text), qos, false, NULL));
}

void guest_publish_bytes(struct guest *p, const char *topic, const void *payload, size_t len, int qos, bool retain,
	const mosquitto_property *properties)
{
	int code = guest_await_code(p, guest_send_with(p, topic, payload, len, qos, retain, properties));

	scene_require(code >= 0 && code < 128, "%s: publish to %s not acknowledged: %d", p->id, topic, code);
}

void guest_publish(struct guest *p, const char *topic, const char *text, int qos)
{
	guest_publish_bytes(p, topic, text, strlen(text), qos, false, NULL);
}

unsigned guest_publish_surely(struct guest *p, const char *topic, const char *text, int qos)
{
	uint64_t limit = now_ms() + SURELY_LIMIT_MS;
	unsigned sent = 0;
	int code = -1;

	while (code < 0 || code >= 128) {
		scene_require(now_ms() < limit, "%s: publish to %s is never acknowledged: %d", p->id, topic, code);
		if (sent > 0) poll_pause();
		if (!guest_connected(p)) guest_connect(p);
		long number = guest_send_with(p, topic, text, strlen(text), qos, false, NULL);
		if (number < 0) continue; /* closed just now, for what was refused before */
		sent++;
		code = guest_await_code(p, number);
	}
	return sent;
}

bool guest_acked(struct guest *p, long number)
{
	bool acked;

	pthread_mutex_lock(&p->lock);
	acked = number >= 0 && number < p->sent && p->codes[number] >= 0 && p->codes[number] < 128;
	pthread_mutex_unlock(&p->lock);
	return acked;
}

long guest_sent_count(struct guest *p)
{
	long n;

	pthread_mutex_lock(&p->lock);
	n = p->sent;
	pthread_mutex_unlock(&p->lock);
	return n;
}

long guest_acked_count(struct guest *p)
{
	long n;

	pthread_mutex_lock(&p->lock);
	n = p->acked;
	pthread_mutex_unlock(&p->lock);
	return n;
}

bool guest_flush(struct guest *p, unsigned timeout_ms)
{
	uint64_t limit = now_ms() + (uint64_t)timeout_ms * instrument_slowness();
	bool done;

	pthread_mutex_lock(&p->lock);
	while (p->finished < p->sent && !p->ended && guest_await(p, limit)) {}
	done = p->finished >= p->sent;
	pthread_mutex_unlock(&p->lock);
	return done;
}

/* --- the inbox -------------------------------------------------- */

size_t guest_count(struct guest *p)
{
	size_t n;

	pthread_mutex_lock(&p->lock);
	n = p->inbox_count;
	pthread_mutex_unlock(&p->lock);
	return n;
}

struct received guest_message(struct guest *p, size_t index)
{
	const struct letter *letter = NULL;

	pthread_mutex_lock(&p->lock);
	if (index < p->inbox_count) letter = p->inbox[index];
	pthread_mutex_unlock(&p->lock);
	scene_require(letter, "%s: no message %zu", p->id, index);
	return (struct received){.topic = letter->topic, .payload = letter->payload, .len = letter->len, .qos = letter->qos,
		.retain = letter->retain, .properties = letter->properties};
}

void guest_clear(struct guest *p)
{
	pthread_mutex_lock(&p->lock);
	for (size_t i = 0; i < p->inbox_count; i++) letter_free(p->inbox[i]);
	p->inbox_count = 0;
	pthread_mutex_unlock(&p->lock);
}

void guest_forget(struct guest *p, size_t n)
{
	if (n == 0) return;
	pthread_mutex_lock(&p->lock);
	for (size_t i = 0; i < n; i++) letter_free(p->inbox[i]);
	p->inbox_count -= n;
	memmove(p->inbox, p->inbox + n, p->inbox_count * sizeof(*p->inbox));
	pthread_mutex_unlock(&p->lock);
}

bool guest_wait_quiet(struct guest *p, size_t n, unsigned timeout_ms)
{
	uint64_t limit = now_ms() + (uint64_t)timeout_ms * instrument_slowness();
	bool here;

	pthread_mutex_lock(&p->lock);
	while (p->inbox_count < n && !p->ended && guest_await(p, limit)) {}
	here = p->inbox_count >= n;
	pthread_mutex_unlock(&p->lock);
	return here;
}

/* The last few messages, for a failure's text. */
static const char *guest_tail(struct guest *p)
{
	const char *text = "";
	size_t n = guest_count(p);

	for (size_t i = n > 12 ? n - 12 : 0; i < n; i++) {
		struct received r = guest_message(p, i);
		text = scene_text(p->scene, "%s\n  %zu: %s = %.40s", text, i, r.topic, r.payload);
	}
	return text;
}

void guest_wait(struct guest *p, size_t n, unsigned timeout_ms)
{
	if (guest_wait_quiet(p, n, timeout_ms)) return;
	scene_fail(__FILE__, __LINE__, "%s has %zu messages, waited for %zu%s%s", p->id, guest_count(p), n,
		guest_connected(p) ? "" : " (connection lost)", guest_tail(p));
}

void guest_expect(struct guest *p, size_t index, ...)
{
	va_list args;
	bool more = false;

	va_start(args, index);
	for (const char *text = va_arg(args, const char *); text; text = va_arg(args, const char *)) {
		more = strcmp(text, "!") == 0;
		if (more) break;
		guest_wait(p, index + 1, ANSWER_LIMIT_MS);
		struct received r = guest_message(p, index);
		scene_require(strcmp(r.payload, text) == 0, "%s: message %zu is \"%s\", not \"%s\"%s", p->id, index, r.payload,
			text, guest_tail(p));
		index++;
	}
	va_end(args);
	scene_require(more || guest_count(p) == index, "%s has %zu messages, not %zu%s", p->id, guest_count(p), index,
		guest_tail(p));
}

static bool marker_here(struct guest *p, const char *topic, const char *text)
{
	bool here = false;

	pthread_mutex_lock(&p->lock);
	for (size_t i = p->inbox_count; i-- > 0 && !here;) {
		struct letter *letter = p->inbox[i];
		if (strcmp(letter->topic, topic) != 0 || strcmp(letter->payload, text) != 0) continue;
		here = true;
		memmove(&p->inbox[i], &p->inbox[i + 1], (p->inbox_count - i - 1) * sizeof(*p->inbox));
		p->inbox_count--;
		letter_free(letter);
	}
	pthread_mutex_unlock(&p->lock);
	return here;
}

/* True when nothing else came meanwhile. */
static bool marker_comes_alone(struct guest *p)
{
	static unsigned markers;
	const char *topic = scene_text(p->scene, "marker/%s", p->id);
	const char *text = scene_text(p->scene, "marker %u", markers++);
	size_t before = guest_count(p);

	/* One of a lower QoS would overtake what the broker has queued beyond what may be in flight. */
	guest_subscribe(p, topic, 2);
	guest_publish(p, topic, text, 2);
	wait_until(marker_here(p, topic, text), ANSWER_LIMIT_MS, "the marker");
	return guest_count(p) == before;
}

/* 2.0.11 at times sends what comes before what it has queued. */
void guest_settle(struct guest *p)
{
	wait_until(marker_comes_alone(p), ANSWER_LIMIT_MS, "what is on its way");
}

const char *received_user_property(struct scene *s, const struct received *r, const char *name, unsigned nth)
{
	const mosquitto_property *at = r->properties;
	bool skip = false;

	for (;;) {
		char *found_name = NULL, *value = NULL;
		at = mosquitto_property_read_string_pair(at, MQTT_PROP_USER_PROPERTY, &found_name, &value, skip);
		if (!at) return NULL;
		bool same = strcmp(found_name, name) == 0 && nth-- == 0;
		free(found_name);
		if (same) return scene_keep(s, value);
		free(value);
		skip = true;
	}
}
