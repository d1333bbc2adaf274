/*
 * A plugin for benchmarks: what any plugin costs that writes from a thread of its own, before it does anything. It starts a
 * thread that sleeps; with plugin_opt_callbacks it also registers the callbacks that ours needs for a publish, empty.
 */
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "config/mosquitto_version.h"

#define EXPORT __attribute__((visibility("default")))

#if MOSQUITTO_HAS_EVENTS
#define PASS_ON MOSQ_ERR_PLUGIN_IGNORE
#else
#define PASS_ON MOSQ_ERR_PLUGIN_DEFER
#endif

int EXPORT mosquitto_plugin_version(int count, const int *versions);
int EXPORT mosquitto_plugin_init(mosquitto_plugin_id_t *id, void **data, struct mosquitto_opt *options, int count);
int EXPORT mosquitto_plugin_cleanup(void *data, struct mosquitto_opt *options, int count);

static pthread_t thread;

static void *sleep_on(void *arg)
{
	for (;;) (void)pause();
	return arg;
}

static enum mosq_err_t start_thread(void)
{
	sigset_t all, before;

	(void)sigfillset(&all);
	if (pthread_sigmask(SIG_SETMASK, &all, &before) != 0) return MOSQ_ERR_UNKNOWN;
	int rc = pthread_create(&thread, NULL, sleep_on, NULL);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	return rc == 0 ? MOSQ_ERR_SUCCESS : MOSQ_ERR_NOMEM;
}

static int on_acl_first(int event, void *event_data, void *data)
{
	(void)event;
	(void)event_data;
	(void)data;
	return PASS_ON;
}

static int on_other(int event, void *event_data, void *data)
{
	(void)event;
	(void)event_data;
	(void)data;
	return MOSQ_ERR_SUCCESS;
}

static int register_all(mosquitto_plugin_id_t *id)
{
	int rc = mosquitto_callback_register(id, MOSQ_EVT_ACL_CHECK, on_acl_first, NULL, NULL);

#if !MOSQUITTO_HAS_EVENTS
	if (rc == MOSQ_ERR_SUCCESS) rc = mosquitto_callback_register(id, MOSQ_EVT_ACL_CHECK, on_other, NULL, NULL);
#else
	if (rc == MOSQ_ERR_SUCCESS) rc = mosquitto_callback_register(id, MOSQ_EVT_MESSAGE_OUT, on_other, NULL, NULL);
#endif
	if (rc == MOSQ_ERR_SUCCESS) rc = mosquitto_callback_register(id, MOSQ_EVT_MESSAGE, on_other, NULL, NULL);
	if (rc == MOSQ_ERR_SUCCESS) rc = mosquitto_callback_register(id, MOSQ_EVT_TICK, on_other, NULL, NULL);
	return rc;
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
	int rc = start_thread();

	(void)data;
	for (int i = 0; i < count && rc == MOSQ_ERR_SUCCESS; i++) {
		if (strcmp(options[i].key, "callbacks") == 0) rc = register_all(id);
	}
	return rc;
}

int mosquitto_plugin_cleanup(void *data, struct mosquitto_opt *options, int count)
{
	(void)data;
	(void)options;
	(void)count;
	(void)pthread_cancel(thread); /* in pause(), or about to be there */
	(void)pthread_join(thread, NULL);
	return MOSQ_ERR_SUCCESS;
}
