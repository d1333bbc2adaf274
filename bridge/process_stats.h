/* What /proc says of this process: the standard process_* metrics of Prometheus. Reads a few small files. Any thread. */
#ifndef MQR_BRIDGE_PROCESS_STATS_H
#define MQR_BRIDGE_PROCESS_STATS_H

#include <stdbool.h>
#include <stdint.h>

struct process_stats {
	double cpu_seconds;
	double start_time; /* seconds since 1970 */
	uint64_t resident_bytes, virtual_bytes;
	uint64_t open_fds, max_fds;
};

/* False when /proc cannot be read; nothing of *out is then to be used. */
bool process_stats_read(struct process_stats *out);

#endif
