/*
 * A plugin that refuses publishes for the time being, as one with a quota would: every n-th that the client named by
 * `plugin_opt_client` publishes with QoS 1 or 2, n by `plugin_opt_every`. 2.1 tells the client so, 2.0.x closes its connection.
 */
#include <stdlib.h>
#include <string.h>

#include "config/mosquitto_version.h"

#if MOSQUITTO_HAS_EVENTS
#define REFUSED MOSQ_ERR_QUOTA_EXCEEDED
#else
#define REFUSED MOSQ_ERR_UNKNOWN
#endif

#define EXPORT __attribute__((visibility("default")))

EXPORT int mosquitto_plugin_version(int supported_version_count, const int *supported_versions);
EXPORT int mosquitto_plugin_init(mosquitto_plugin_id_t *identifier, void **userdata, struct mosquitto_opt *options,
	int option_count);
EXPORT int mosquitto_plugin_cleanup(void *userdata, struct mosquitto_opt *options, int option_count);

static mosquitto_plugin_id_t *id;
static unsigned long every = 10, count;
static char client[256];

static int on_message(int event, void *event_data, void *userdata)
{
	const struct mosquitto_evt_message *ed = event_data;
	const char *from = mosquitto_client_id(ed->client);

	(void)event;
	(void)userdata;
	if (ed->qos == 0 || !from || strcmp(from, client) != 0) return MOSQ_ERR_SUCCESS;
	return ++count % every == 0 ? REFUSED : MOSQ_ERR_SUCCESS;
}

int mosquitto_plugin_version(int supported_version_count, const int *supported_versions)
{
	for (int i = 0; i < supported_version_count; i++) {
		if (supported_versions[i] == MOSQ_PLUGIN_VERSION) return MOSQ_PLUGIN_VERSION;
	}
	return -1;
}

int mosquitto_plugin_init(mosquitto_plugin_id_t *identifier, void **userdata, struct mosquitto_opt *options, int option_count)
{
	*userdata = NULL;
	for (int i = 0; i < option_count; i++) {
		if (strcmp(options[i].key, "every") == 0) every = strtoul(options[i].value, NULL, 10);
		else if (strcmp(options[i].key, "client") == 0) strncpy(client, options[i].value, sizeof(client) - 1);
	}
	id = identifier;
	return every > 0 ? mosquitto_callback_register(id, MOSQ_EVT_MESSAGE, on_message, NULL, NULL) : MOSQ_ERR_INVAL;
}

int mosquitto_plugin_cleanup(void *userdata, struct mosquitto_opt *options, int option_count)
{
	(void)userdata;
	(void)options;
	(void)option_count;
	return mosquitto_callback_unregister(id, MOSQ_EVT_MESSAGE, on_message, NULL);
}
