/*
 * The three entry points, the only symbols that this module exports. Broker thread.
 */
#include "plugin/broker.h"

#define EXPORT __attribute__((visibility("default")))

/* By hand: with hidden visibility 2.1's MOSQUITTO_PLUGIN_DECLARE_VERSION would hide its own function. */
EXPORT int mosquitto_plugin_version(int supported_version_count, const int *supported_versions)
{
	for (int i = 0; i < supported_version_count; i++) {
		if (supported_versions[i] == MOSQ_PLUGIN_VERSION) return MOSQ_PLUGIN_VERSION;
	}
	return -1;
}

EXPORT int mosquitto_plugin_init(mosquitto_plugin_id_t *identifier, void **userdata, struct mosquitto_opt *options,
	int option_count)
{
	*userdata = NULL;
	return broker_attach(identifier, options, option_count);
}

EXPORT int mosquitto_plugin_cleanup(void *userdata, struct mosquitto_opt *options, int option_count)
{
	(void)userdata; /* one instance in a broker; it is known */
	(void)options;
	(void)option_count;
	broker_detach();
	return MOSQ_ERR_SUCCESS;
}
