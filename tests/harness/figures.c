/* Owns nothing but the line it writes. Runs on the test's thread. */
#include "tests/harness/figures.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void figure(const char *measure, const char *variant, double value, const char *unit)
{
	const char *path = getenv("MQR_FIGURES");
	FILE *f;

	printf("%-28s %-32s %14.3f %s\n", measure, variant, value, unit);
	(void)fflush(stdout);
	if (!path || !path[0]) return;
	f = fopen(path, "ae");
	scene_require(f && fprintf(f, "%s\t%s\t%.6g\t%s\n", measure, variant, value, unit) > 0 && fclose(f) == 0,
		"%s cannot be written", path);
}

/* Fields 14 and 15 of a stat file of /proc; the second one, a name, may have blanks. */
static double cpu_of(const char *path)
{
	char text[1024];
	unsigned long user = 0, kernel = 0;
	size_t len;
	FILE *f = fopen(path, "re");

	scene_require(f, "%s cannot be read", path);
	len = fread(text, 1, sizeof(text) - 1, f);
	(void)fclose(f);
	text[len] = '\0';
	const char *at = strrchr(text, ')');
	scene_require(at && sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &kernel) == 2,
		"%s: %s", path, text);
	return (double)(user + kernel) / (double)sysconf(_SC_CLK_TCK);
}

double figure_cpu_of_pid(int pid)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	return cpu_of(path);
}

static bool has_name(int pid, const char *task, const char *name)
{
	char path[PATH_MAX], text[32] = "";
	FILE *f;

	(void)snprintf(path, sizeof(path), "/proc/%d/task/%s/comm", pid, task);
	f = fopen(path, "re");
	if (!f) return false; /* has ended */
	bool read = fgets(text, sizeof(text), f) != NULL;
	(void)fclose(f);
	text[strcspn(text, "\n")] = '\0';
	return read && strcmp(text, name) == 0;
}

double figure_thread_cpu_s(const struct server *v, const char *name)
{
	char path[PATH_MAX];
	double cpu = -1;
	DIR *tasks;

	(void)snprintf(path, sizeof(path), "/proc/%d/task", server_pid(v));
	tasks = opendir(path);
	scene_require(tasks, "%s cannot be read", path);
	for (struct dirent *e; cpu < 0 && (e = readdir(tasks)) != NULL;) {
		if (!has_name(server_pid(v), e->d_name, name)) continue;
		(void)snprintf(path, sizeof(path), "/proc/%d/task/%s/stat", server_pid(v), e->d_name);
		cpu = cpu_of(path);
	}
	(void)closedir(tasks);
	scene_require(cpu >= 0, "no thread %s", name);
	return cpu;
}

double figure_cpu_s(const struct server *v)
{
	return figure_cpu_of_pid(server_pid(v));
}

double figure_memory(const struct server *v)
{
	char path[64], line[256];
	double kib = -1;
	FILE *f;

	(void)snprintf(path, sizeof(path), "/proc/%d/status", server_pid(v));
	f = fopen(path, "re");
	scene_require(f, "%s cannot be read", path);
	while (fgets(line, sizeof(line), f)) {
		if (strncmp(line, "RssAnon:", 8) == 0) kib = strtod(line + 8, NULL);
	}
	(void)fclose(f);
	scene_require(kib >= 0, "%s has no RssAnon", path);
	return kib * 1024;
}
