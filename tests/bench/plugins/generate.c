/*
 * A plugin for benchmarks: the most that a backlog handed to the broker by a plugin could reach, without a journal, Redis or a
 * bridge. A publish to generate/<client>/<count> makes it hand so many messages of 256 bytes to that client, some at each turn
 * of the broker's loop; their payloads are those of tests/harness/load.h, publisher 0.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "plugin/broker.h" /* for Mosquitto's headers */

#define EXPORT __attribute__((visibility("default")))
#define PAYLOAD 256
#define TOPICS 100
#define AT_ONCE 2000

int EXPORT mosquitto_plugin_version(int count, const int *versions);
int EXPORT mosquitto_plugin_init(mosquitto_plugin_id_t *id, void **data, struct mosquitto_opt *options, int count);
int EXPORT mosquitto_plugin_cleanup(void *data, struct mosquitto_opt *options, int count);

static char client[64];
static uint64_t next, until;

static int on_message(int event, void *event_data, void *data)
{
	const struct mosquitto_evt_message *ed = event_data;
	unsigned long count;

	(void)event;
	(void)data;
	if (sscanf(ed->topic, "generate/%63[^/]/%lu", client, &count) == 2) until = next + count;
	return MOSQ_ERR_SUCCESS;
}

static int on_tick(int event, void *event_data, void *data)
{
	char topic[64], payload[PAYLOAD];
	struct timespec t;

	(void)event;
	(void)data;
#if MOSQUITTO_HAS_EVENTS
	((struct mosquitto_evt_tick *)event_data)->next_ms = 1; /* 2.0 turns its loop often enough by itself */
#else
	(void)event_data;
#endif
	memset(payload, 'x', sizeof(payload));
	for (unsigned i = 0; i < AT_ONCE && next < until; i++, next++) {
		(void)clock_gettime(CLOCK_MONOTONIC, &t);
		uint64_t head[3] = {0, next, (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec};
		memcpy(payload, head, sizeof(head));
		(void)snprintf(topic, sizeof(topic), "load/0/%04u", (unsigned)(next % TOPICS));
		if (mosquitto_broker_publish_copy(client, topic, PAYLOAD, payload, 1, false, NULL) != MOSQ_ERR_SUCCESS) break;
	}
	return MOSQ_ERR_SUCCESS;
}

int mosquitto_plugin_version(int count, const int *versions)
{
	for (int i = 0; i < count; i++) {
		if (versions[i] == 5) return 5;
	}
	return -1;
}

int mosquitto_plugin_init(mosquitto_plugin_id_t *id, void **data, struct mosquitto_opt *options, int count)
{
	int rc = mosquitto_callback_register(id, MOSQ_EVT_MESSAGE, on_message, NULL, NULL);

	(void)data;
	(void)options;
	(void)count;
	return rc == MOSQ_ERR_SUCCESS ? mosquitto_callback_register(id, MOSQ_EVT_TICK, on_tick, NULL, NULL) : rc;
}

int mosquitto_plugin_cleanup(void *data, struct mosquitto_opt *options, int count)
{
	(void)data;
	(void)options;
	(void)count;
	return MOSQ_ERR_SUCCESS; /* the broker ends */
}
