/*
 * The check of a settings file. Runs alone in its process; blocks. It must never print a password or what a password
 * file holds.
 */
#include "bridge/ctl_check.h"

#include <inttypes.h>
#include <stdio.h>

#include "bridge/log_stderr.h"
#include "config/settings.h"

static void print_summary(const char *path, const struct settings *s)
{
	printf("%s: ok\n", path);
	printf("  redis      %s, prefix %s, node %s\n", s->redis_url, s->prefix, s->node);
	printf("  broker     %s\n", s->broker_url);
	printf("  journal    %s, %" PRIu64 " MiB\n", s->journal, s->journal_size >> 20);
	printf("  mirror     %zu rule%s\n", s->mirror_count, s->mirror_count == 1 ? "" : "s");
	for (size_t i = 0; i < s->mirror_count; i++) printf("             %s\n", s->mirrors[i].text);
	printf("  redeliver  %zu grant%s\n", s->grant_count, s->grant_count == 1 ? "" : "s");
	for (size_t i = 0; i < s->grant_count; i++) printf("             %s\n", s->grants[i].text);
	if (s->outbox_count > 0) printf("  outbox     %zu line%s\n", s->outbox_count, s->outbox_count == 1 ? "" : "s");
	for (size_t i = 0; i < s->outbox_count; i++) printf("             %s\n", s->outboxes[i].text);
}

int ctl_check(const char *path)
{
	static char why[CTL_WHY_MAX];
	struct log_sink log = log_stderr();
	struct settings *s = NULL;

	if (settings_load(path, NULL, 0, &log, &s, why, sizeof(why)) != ST_OK) {
		fprintf(stderr, "%s\n", why);
		return CTL_PROBLEM;
	}
	print_summary(path, s);
	settings_free(s);
	return CTL_OK;
}
