/*
 * Mosquitto's headers, and the one place that compares its version. What follows from the version is in plugin/broker.c, and
 * for users in the table "Versions" of README.md; tests/unit/test_versions.c holds the tree to it.
 */
#ifndef MQR_CONFIG_MOSQUITTO_VERSION_H
#define MQR_CONFIG_MOSQUITTO_VERSION_H

#include <mosquitto.h>
#include <stdbool.h>

#define MOSQUITTO_2_1 2001000

/* 2.1 tells plugins of CONNECT, SUBSCRIBE, MESSAGE_OUT and more. For #if: the types of these events are missing before. */
#define MOSQUITTO_HAS_EVENTS (LIBMOSQUITTO_VERSION_NUMBER >= MOSQUITTO_2_1)

#if !MOSQUITTO_HAS_EVENTS /* 2.1 has all in mosquitto.h and warns of the others */
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>
#include <mqtt_protocol.h>
#endif

/* Does the Mosquitto of this machine take %c and %u in patterns of ACL files only where they are a whole level? Asked when it
 * runs, since the bridge's command line tool knows no broker. Any thread. */
static inline bool mosquitto_acl_whole_levels(void)
{
	return mosquitto_lib_version(NULL, NULL, NULL) >= MOSQUITTO_2_1;
}

#endif
