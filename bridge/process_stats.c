/* Reads /proc/self (proc(5)). Owns nothing; any thread. */
#include "bridge/process_stats.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* Seconds since 1970 at which this machine was started, from two clocks of it. */
static double boot_time(void)
{
	struct timespec wall, up;

	(void)clock_gettime(CLOCK_REALTIME, &wall); /* neither can fail with a valid clock */
	(void)clock_gettime(CLOCK_BOOTTIME, &up);
	return (double)(wall.tv_sec - up.tv_sec) + (double)(wall.tv_nsec - up.tv_nsec) / 1e9;
}

static uint64_t count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	uint64_t count = 0;
	const struct dirent *entry;

	if (!dir) return 0;
	while ((entry = readdir(dir)) != NULL) count += entry->d_name[0] != '.';
	(void)closedir(dir); /* only read */
	return count > 0 ? count - 1 : 0; /* less the one that reads the folder */
}

static bool read_text(const char *path, char *out, size_t size)
{
	FILE *f = fopen(path, "re");
	size_t len;

	if (!f) return false;
	len = fread(out, 1, size - 1, f);
	out[len] = '\0';
	(void)fclose(f); /* only read */
	return len > 0;
}

bool process_stats_read(struct process_stats *out)
{
	char text[1024];
	const char *after;
	unsigned long user, system, size;
	long pages;
	unsigned long long started;
	double ticks = (double)sysconf(_SC_CLK_TCK);
	struct rlimit files = {0};

	/* The name in parentheses may hold anything. */
	if (!read_text("/proc/self/stat", text, sizeof(text)) || !(after = strrchr(text, ')'))) return false;
	/* NOLINTNEXTLINE(cert-err34-c): the kernel writes no numbers that are too large */
	if (sscanf(after + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %*d %*d %*d %*d %*d %*d %llu %lu %ld",
		&user, &system, &started, &size, &pages) != 5 || ticks <= 0) return false;
	out->cpu_seconds = (double)(user + system) / ticks;
	out->start_time = boot_time() + (double)started / ticks;
	out->virtual_bytes = size;
	out->resident_bytes = pages > 0 ? (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
	out->open_fds = count_fds();
	out->max_fds = getrlimit(RLIMIT_NOFILE, &files) == 0 ? (uint64_t)files.rlim_cur : 0;
	return true;
}
