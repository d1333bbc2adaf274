/*
 * A plugin for benchmarks, for Mosquitto 2.0.x: two plugin lines of it stand around the one that is measured. The first takes
 * the time when a publish comes, the second when the callbacks between have returned. plugin_opt_file: a struct clock_file.
 */
#include "tests/bench/plugins/clock.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "plugin/broker.h" /* for Mosquitto's headers */

#define EXPORT __attribute__((visibility("default")))

int EXPORT mosquitto_plugin_version(int count, const int *versions);
int EXPORT mosquitto_plugin_init(mosquitto_plugin_id_t *id, void **data, struct mosquitto_opt *options, int count);
int EXPORT mosquitto_plugin_cleanup(void *data, struct mosquitto_opt *options, int count);

static struct clock_file *file; /* of both lines */
static uint64_t began;

static uint64_t now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int on_begin(int event, void *event_data, void *data)
{
	(void)event;
	(void)event_data;
	(void)data;
	began = now_ns();
	return MOSQ_ERR_SUCCESS;
}

static int on_end(int event, void *event_data, void *data)
{
	uint64_t took = now_ns() - began;

	(void)event;
	(void)event_data;
	(void)data;
	atomic_fetch_add_explicit(&file->bucket[clock_bucket(took)], 1, memory_order_relaxed);
	if (took > atomic_load_explicit(&file->max_ns, memory_order_relaxed))
		atomic_store_explicit(&file->max_ns, took, memory_order_relaxed);
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
	const char *path = NULL;
	int fd;

	(void)data;
	if (file) return mosquitto_callback_register(id, MOSQ_EVT_MESSAGE, on_end, NULL, NULL);
	for (int i = 0; i < count; i++) {
		if (strcmp(options[i].key, "file") == 0) path = options[i].value;
	}
	fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	if (fd < 0) return MOSQ_ERR_INVAL;
	void *map = mmap(NULL, sizeof(*file), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	(void)close(fd);
	if (map == MAP_FAILED) return MOSQ_ERR_NOMEM;
	file = map;
	return mosquitto_callback_register(id, MOSQ_EVT_MESSAGE, on_begin, NULL, NULL);
}

int mosquitto_plugin_cleanup(void *data, struct mosquitto_opt *options, int count)
{
	(void)data;
	(void)options;
	(void)count;
	return MOSQ_ERR_SUCCESS; /* the broker ends */
}
