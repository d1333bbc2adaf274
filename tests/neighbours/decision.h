/* What the plugins of this folder that decide access say. They must not be loaded together. */
#ifndef MQR_TESTS_NEIGHBOURS_DECISION_H
#define MQR_TESTS_NEIGHBOURS_DECISION_H

#include <string.h>

#include "config/mosquitto_version.h"

#define EXPORT __attribute__((visibility("default")))

static inline int decide_login(const char *user, const char *password)
{
	if (!user) return MOSQ_ERR_PLUGIN_DEFER;
	if (strcmp(user, "anna") != 0 && strcmp(user, "boss") != 0) return MOSQ_ERR_AUTH;
	return password && strcmp(password, "secret") == 0 ? MOSQ_ERR_SUCCESS : MOSQ_ERR_AUTH;
}

/* Grants some, denies some, and leaves the rest to others. */
static inline int decide_access(const char *user, const char *topic)
{
	if (user && strcmp(user, "boss") == 0) return MOSQ_ERR_SUCCESS;
	if (strncmp(topic, "public/", 7) == 0 || strncmp(topic, "$CONTROL/mosquitto-redis/", 25) == 0) return MOSQ_ERR_SUCCESS;
	if (strncmp(topic, "private/", 8) == 0 || strncmp(topic, "denied/", 7) == 0) return MOSQ_ERR_ACL_DENIED;
	if (strncmp(topic, "own/anna/", 9) == 0 && user && strcmp(user, "anna") == 0) return MOSQ_ERR_SUCCESS;
	return MOSQ_ERR_PLUGIN_DEFER;
}

#endif
