/* A plugin of today's interface that decides logins and access (decision.h). */
#include "tests/neighbours/decision.h"

EXPORT int mosquitto_plugin_version(int supported_version_count, const int *supported_versions);
EXPORT int mosquitto_plugin_init(mosquitto_plugin_id_t *identifier, void **userdata, struct mosquitto_opt *options,
	int option_count);
EXPORT int mosquitto_plugin_cleanup(void *userdata, struct mosquitto_opt *options, int option_count);

static mosquitto_plugin_id_t *id;

static int on_login(int event, void *event_data, void *userdata)
{
	const struct mosquitto_evt_basic_auth *ed = event_data;

	(void)event;
	(void)userdata;
	return decide_login(ed->username, ed->password);
}

static int on_access(int event, void *event_data, void *userdata)
{
	const struct mosquitto_evt_acl_check *ed = event_data;

	(void)event;
	(void)userdata;
	return decide_access(mosquitto_client_username(ed->client), ed->topic);
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
	int rc;

	(void)options;
	(void)option_count;
	*userdata = NULL;
	id = identifier;
	rc = mosquitto_callback_register(id, MOSQ_EVT_BASIC_AUTH, on_login, NULL, NULL);
	return rc == MOSQ_ERR_SUCCESS ? mosquitto_callback_register(id, MOSQ_EVT_ACL_CHECK, on_access, NULL, NULL) : rc;
}

int mosquitto_plugin_cleanup(void *userdata, struct mosquitto_opt *options, int option_count)
{
	(void)userdata;
	(void)options;
	(void)option_count;
	mosquitto_callback_unregister(id, MOSQ_EVT_BASIC_AUTH, on_login, NULL);
	return mosquitto_callback_unregister(id, MOSQ_EVT_ACL_CHECK, on_access, NULL);
}
