/*
 * Owns one MQTT client and its inbox. The peer's own thread runs libmosquitto's loop and the callbacks, the test's thread
 * the rest; everything both touch is under the peer's lock, which is never held over a call into libmosquitto. The
 * callbacks must never end the test.
 */
#include "tests/harness/peer.h"

#include <errno.h>
#if LIBMOSQUITTO_VERSION_NUMBER < 2001000
#include <mqtt_protocol.h> /* part of mosquitto.h since 2.1 */
#endif
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "tests/harness/scene_internal.h"

#define ANSWER_LIMIT_MS 15000
#define MIDS 65536

struct letter {
	char *topic;
	char *payload;
	size_t len;
	int qos;
	bool retain;
	mosquitto_property *properties;
};

struct peer {
	struct scene *scene;
	uint16_t port;
	char *id;
	struct peer_options options;
	struct mosquitto *mosq; /* NULL: never connected or closed */
	pthread_t thread;
	bool thread_runs;       /* test's thread only */
	atomic_bool stop;

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

/* --- the peer's thread ------------------------------------------------------------------------------------------- */

static void on_connect(struct mosquitto *mosq, void *obj, int code, int flags, const mosquitto_property *properties)
{
	struct peer *p = obj;

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
	struct peer *p = obj;
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
}

static void on_answer(struct peer *p, int mid, int answer)
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
static void note_code(struct peer *p, long number, int code)
{
	p->codes[number] = (short)code;
	p->finished++;
	if (code < 128) p->acked++;
}

static void on_publish(struct mosquitto *mosq, void *obj, int mid, int code, const mosquitto_property *properties)
{
	struct peer *p = obj;
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

static void *peer_run(void *ctx)
{
	struct peer *p = ctx;

	while (!atomic_load(&p->stop))
		if (mosquitto_loop(p->mosq, 50, 1) != MOSQ_ERR_SUCCESS) break;
	pthread_mutex_lock(&p->lock);
	p->connected = false;
	p->ended = true;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

/* --- life ---------------------------------------------------------------------------------------------------------- */

/* Ends thread and connection; the inbox stays. */
static void peer_close(struct peer *p)
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

static void peer_free(void *ctx)
{
	struct peer *p = ctx;

	if (p->mosq && p->thread_runs) (void)shutdown(mosquitto_socket(p->mosq), SHUT_RDWR); /* perhaps closed already */
	peer_close(p);
	for (size_t i = 0; i < p->inbox_count; i++) letter_free(p->inbox[i]);
	free(p->inbox);
	free(p->codes);
	free(p->id);
	pthread_mutex_destroy(&p->lock);
	pthread_cond_destroy(&p->changed);
	free(p);
}

struct peer *peer_new_at(struct scene *s, uint16_t port, const char *id, const struct peer_options *options)
{
	struct peer *p = calloc(1, sizeof(*p));
	pthread_condattr_t clock;

	pthread_once(&library_once, library_init);
	scene_require(p, "out of memory");
	p->scene = s;
	p->port = port;
	p->id = strdup(id);
	scene_require(p->id, "out of memory");
	if (options) p->options = *options;
	for (size_t i = 0; i < MIDS; i++) {
		p->number_of[i] = -1;
		p->early[i] = -1;
	}
	pthread_mutex_init(&p->lock, NULL);
	pthread_condattr_init(&clock);
	pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
	pthread_cond_init(&p->changed, &clock);
	pthread_condattr_destroy(&clock);
	scene_at_end(s, peer_free, p);
	return p;
}

struct peer *peer_new(struct world *w, const char *id, const struct peer_options *options)
{
	return peer_new_at(w->scene, server_port(w->broker), id, options);
}

struct peer *peer_join(struct world *w, const char *id, const struct peer_options *options)
{
	struct peer *p = peer_new(w, id, options);

	peer_connect(p);
	return p;
}

static void peer_setup(struct peer *p)
{
	const struct peer_options *o = &p->options;
	int rc = MOSQ_ERR_SUCCESS;

	p->mosq = mosquitto_new(p->id, !o->keep_session, p);
	scene_require(p->mosq, "%s: no client: %s", p->id, strerror(errno));
	mosquitto_threaded_set(p->mosq, true);
	mosquitto_int_option(p->mosq, MOSQ_OPT_PROTOCOL_VERSION, o->v5 ? MQTT_PROTOCOL_V5 : MQTT_PROTOCOL_V311);
	mosquitto_int_option(p->mosq, MOSQ_OPT_TCP_NODELAY, 1);
	if (o->user) rc = mosquitto_username_pw_set(p->mosq, o->user, o->password);
	if (o->will_topic && rc == MOSQ_ERR_SUCCESS)
		rc = mosquitto_will_set(p->mosq, o->will_topic, (int)strlen(o->will_payload), o->will_payload, o->will_qos, false);
	scene_require(rc == MOSQ_ERR_SUCCESS, "%s: %s", p->id, mosquitto_strerror(rc));
	mosquitto_connect_v5_callback_set(p->mosq, on_connect);
	mosquitto_message_v5_callback_set(p->mosq, on_message);
	mosquitto_subscribe_v5_callback_set(p->mosq, on_subscribe);
	mosquitto_unsubscribe_v5_callback_set(p->mosq, on_unsubscribe);
	mosquitto_publish_v5_callback_set(p->mosq, on_publish);
}

static int peer_open(struct peer *p)
{
	const struct peer_options *o = &p->options;
	mosquitto_property *properties = NULL;
	int rc = MOSQ_ERR_SUCCESS;

	if (o->v5 && o->keep_session)
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
static bool peer_await(struct peer *p, uint64_t limit)
{
	struct timespec until = {(time_t)(limit / 1000), (long)(limit % 1000) * 1000000};

	return pthread_cond_timedwait(&p->changed, &p->lock, &until) != ETIMEDOUT || now_ms() < limit;
}

int peer_connect_code(struct peer *p)
{
	uint64_t limit = now_ms() + ANSWER_LIMIT_MS;
	int code;

	scene_require(!peer_connected(p), "%s is connected already", p->id);
	peer_close(p);
	peer_setup(p);
	p->connected = p->ended = false;
	p->connack = -1;
	atomic_store(&p->stop, false);
	if (peer_open(p) != MOSQ_ERR_SUCCESS) return -1;
	scene_require(pthread_create(&p->thread, NULL, peer_run, p) == 0, "no thread");
	p->thread_runs = true;
	pthread_mutex_lock(&p->lock);
	while (p->connack == -1 && !p->ended && peer_await(p, limit)) {}
	code = p->connack;
	pthread_mutex_unlock(&p->lock);
	return code;
}

void peer_connect(struct peer *p)
{
	int code = peer_connect_code(p);

	scene_require(code == 0, "%s: connection refused: %d", p->id, code);
}

bool peer_session_present(const struct peer *p)
{
	return p->session_present;
}

bool peer_connected(struct peer *p)
{
	bool connected;

	pthread_mutex_lock(&p->lock);
	connected = p->connected;
	pthread_mutex_unlock(&p->lock);
	return connected;
}

static void peer_await_end(struct peer *p)
{
	uint64_t limit = now_ms() + ANSWER_LIMIT_MS;
	bool ended;

	pthread_mutex_lock(&p->lock);
	while (!p->ended && peer_await(p, limit)) {}
	ended = p->ended;
	pthread_mutex_unlock(&p->lock);
	scene_require(ended, "%s: the connection did not end", p->id);
	peer_close(p);
}

void peer_disconnect(struct peer *p)
{
	scene_require(peer_connected(p), "%s is not connected", p->id);
	scene_require(mosquitto_disconnect(p->mosq) == MOSQ_ERR_SUCCESS, "%s: no disconnect", p->id);
	peer_await_end(p);
}

void peer_drop(struct peer *p)
{
	scene_require(p->thread_runs, "%s is not connected", p->id);
	(void)shutdown(mosquitto_socket(p->mosq), SHUT_RDWR); /* perhaps lost already */
	peer_await_end(p);
}

/* --- subscribing ----------------------------------------------------------------------------------------------------- */

/* -1 when no answer came. */
static int peer_answer(struct peer *p, int mid)
{
	uint64_t limit = now_ms() + ANSWER_LIMIT_MS;
	int answer;

	pthread_mutex_lock(&p->lock);
	while (p->answered_mid != mid && !p->ended && peer_await(p, limit)) {}
	answer = p->answered_mid == mid ? p->answer : -1;
	p->answered_mid = 0;
	pthread_mutex_unlock(&p->lock);
	return answer;
}

static int peer_subscribe_send(struct peer *p, const char *filter, int qos)
{
	int mid = 0, rc;

	scene_require(p->mosq, "%s is not connected", p->id);
	rc = mosquitto_subscribe(p->mosq, &mid, filter, qos);
	scene_require(rc == MOSQ_ERR_SUCCESS, "%s: subscribe %s: %s", p->id, filter, mosquitto_strerror(rc));
	return mid;
}

int peer_subscribe_code(struct peer *p, const char *filter, int qos)
{
	int answer = peer_answer(p, peer_subscribe_send(p, filter, qos));

	scene_require(answer >= 0, "%s: subscribe %s: not answered", p->id, filter);
	return answer;
}

void peer_subscribe(struct peer *p, const char *filter, int qos)
{
	int code = peer_subscribe_code(p, filter, qos);

	scene_require(code == qos, "%s: subscribe %s: %d", p->id, filter, code);
}

void peer_subscribe_nowait(struct peer *p, const char *filter, int qos)
{
	(void)peer_subscribe_send(p, filter, qos);
}

void peer_unsubscribe(struct peer *p, const char *filter)
{
	int mid = 0, rc = mosquitto_unsubscribe(p->mosq, &mid, filter);

	scene_require(rc == MOSQ_ERR_SUCCESS, "%s: unsubscribe %s: %s", p->id, filter, mosquitto_strerror(rc));
	scene_require(peer_answer(p, mid) == 0, "%s: unsubscribe %s: not answered", p->id, filter);
}

/* --- publishing ------------------------------------------------------------------------------------------------------ */

static void codes_reserve(struct peer *p)
{
	if ((size_t)p->sent < p->codes_size) return;
	p->codes_size = p->codes_size ? p->codes_size * 2 : 1024;
	p->codes = realloc(p->codes, p->codes_size * sizeof(*p->codes));
	if (!p->codes) abort();
}

static long peer_send_with(struct peer *p, const char *topic, const void *payload, size_t len, int qos, bool retain,
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

long peer_send(struct peer *p, const char *topic, const void *payload, size_t len, int qos, bool retain, unsigned window)
{
	uint64_t limit = now_ms() + 4 * ANSWER_LIMIT_MS;
	bool ended;

	pthread_mutex_lock(&p->lock);
	while (window > 0 && p->sent - p->finished >= (long)window && !p->ended && peer_await(p, limit)) {}
	ended = p->ended;
	pthread_mutex_unlock(&p->lock);
	return ended ? -1 : peer_send_with(p, topic, payload, len, qos, retain, NULL);
}

static int peer_await_code(struct peer *p, long number)
{
	uint64_t limit = now_ms() + ANSWER_LIMIT_MS;
	int code;

	if (number < 0) return -1;
	pthread_mutex_lock(&p->lock);
	while (p->codes[number] < 0 && !p->ended && peer_await(p, limit)) {}
	code = p->codes[number];
	pthread_mutex_unlock(&p->lock);
	return code;
}

int peer_publish_code(struct peer *p, const char *topic, const char *text, int qos)
{
	return peer_await_code(p, peer_send_with(p, topic, text, strlen(text), qos, false, NULL));
}

void peer_publish_bytes(struct peer *p, const char *topic, const void *payload, size_t len, int qos, bool retain,
	const mosquitto_property *properties)
{
	int code = peer_await_code(p, peer_send_with(p, topic, payload, len, qos, retain, properties));

	scene_require(code >= 0 && code < 128, "%s: publish to %s not acknowledged: %d", p->id, topic, code);
}

void peer_publish(struct peer *p, const char *topic, const char *text, int qos)
{
	peer_publish_bytes(p, topic, text, strlen(text), qos, false, NULL);
}

bool peer_acked(struct peer *p, long number)
{
	bool acked;

	pthread_mutex_lock(&p->lock);
	acked = number >= 0 && number < p->sent && p->codes[number] >= 0 && p->codes[number] < 128;
	pthread_mutex_unlock(&p->lock);
	return acked;
}

long peer_sent_count(struct peer *p)
{
	long n;

	pthread_mutex_lock(&p->lock);
	n = p->sent;
	pthread_mutex_unlock(&p->lock);
	return n;
}

long peer_acked_count(struct peer *p)
{
	long n;

	pthread_mutex_lock(&p->lock);
	n = p->acked;
	pthread_mutex_unlock(&p->lock);
	return n;
}

bool peer_flush(struct peer *p, unsigned timeout_ms)
{
	uint64_t limit = now_ms() + timeout_ms;
	bool done;

	pthread_mutex_lock(&p->lock);
	while (p->finished < p->sent && !p->ended && peer_await(p, limit)) {}
	done = p->finished >= p->sent;
	pthread_mutex_unlock(&p->lock);
	return done;
}

/* --- the inbox ------------------------------------------------------------------------------------------------------- */

size_t peer_count(struct peer *p)
{
	size_t n;

	pthread_mutex_lock(&p->lock);
	n = p->inbox_count;
	pthread_mutex_unlock(&p->lock);
	return n;
}

struct received peer_message(struct peer *p, size_t index)
{
	const struct letter *letter = NULL;

	pthread_mutex_lock(&p->lock);
	if (index < p->inbox_count) letter = p->inbox[index];
	pthread_mutex_unlock(&p->lock);
	scene_require(letter, "%s: no message %zu", p->id, index);
	return (struct received){.topic = letter->topic, .payload = letter->payload, .len = letter->len, .qos = letter->qos,
		.retain = letter->retain, .properties = letter->properties};
}

void peer_clear(struct peer *p)
{
	pthread_mutex_lock(&p->lock);
	for (size_t i = 0; i < p->inbox_count; i++) letter_free(p->inbox[i]);
	p->inbox_count = 0;
	pthread_mutex_unlock(&p->lock);
}

bool peer_wait_quiet(struct peer *p, size_t n, unsigned timeout_ms)
{
	uint64_t limit = now_ms() + timeout_ms;
	bool here;

	pthread_mutex_lock(&p->lock);
	while (p->inbox_count < n && !p->ended && peer_await(p, limit)) {}
	here = p->inbox_count >= n;
	pthread_mutex_unlock(&p->lock);
	return here;
}

/* The last few messages, for a failure's text. */
static const char *peer_tail(struct peer *p)
{
	const char *text = "";
	size_t n = peer_count(p);

	for (size_t i = n > 12 ? n - 12 : 0; i < n; i++) {
		struct received r = peer_message(p, i);
		text = scene_text(p->scene, "%s\n  %zu: %s = %.40s", text, i, r.topic, r.payload);
	}
	return text;
}

void peer_wait(struct peer *p, size_t n, unsigned timeout_ms)
{
	if (peer_wait_quiet(p, n, timeout_ms)) return;
	scene_fail(__FILE__, __LINE__, "%s has %zu messages, waited for %zu%s%s", p->id, peer_count(p), n,
		peer_connected(p) ? "" : " (connection lost)", peer_tail(p));
}

void peer_expect(struct peer *p, size_t index, ...)
{
	va_list args;
	bool more = false;

	va_start(args, index);
	for (const char *text = va_arg(args, const char *); text; text = va_arg(args, const char *)) {
		more = strcmp(text, "!") == 0;
		if (more) break;
		peer_wait(p, index + 1, ANSWER_LIMIT_MS);
		struct received r = peer_message(p, index);
		scene_require(strcmp(r.payload, text) == 0, "%s: message %zu is \"%s\", not \"%s\"%s", p->id, index, r.payload,
			text, peer_tail(p));
		index++;
	}
	va_end(args);
	scene_require(more || peer_count(p) == index, "%s has %zu messages, not %zu%s", p->id, peer_count(p), index,
		peer_tail(p));
}

static bool marker_here(struct peer *p, const char *topic, const char *text)
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

void peer_settle(struct peer *p)
{
	static unsigned markers;
	const char *topic = scene_text(p->scene, "marker/%s", p->id);
	const char *text = scene_text(p->scene, "marker %u", markers++);

	peer_subscribe(p, topic, 0);
	peer_publish(p, topic, text, 1);
	wait_until(marker_here(p, topic, text), ANSWER_LIMIT_MS, "the marker");
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
