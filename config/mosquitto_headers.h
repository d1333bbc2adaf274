/*
 * Mosquitto's headers, which differ: mosquitto.h alone on 2.1, where the others only warn; several on 2.0.
 */
#ifndef MQR_CONFIG_MOSQUITTO_HEADERS_H
#define MQR_CONFIG_MOSQUITTO_HEADERS_H

#include <mosquitto.h>

#if LIBMOSQUITTO_VERSION_NUMBER < 2001000
#include <mqtt_protocol.h>
#endif

#endif
