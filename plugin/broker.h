/*
 * The broker's side of the plugin: registers callbacks, translates events, and is the only place that calls the broker
 * and knows how 2.0 and 2.1 differ. Broker thread only.
 */
#ifndef MQR_PLUGIN_BROKER_H
#define MQR_PLUGIN_BROKER_H

#include "config/mosquitto_version.h"

/* MOSQ_ERR_SUCCESS or an error, after which nothing is registered or running. */
int broker_attach(mosquitto_plugin_id_t *id, struct mosquitto_opt *options, int count);
/* Undoes it; bears being called when nothing is attached. */
void broker_detach(void);

#endif
