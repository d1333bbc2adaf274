/* Puts settings into words. Owns nothing. */
#include "config/settings_text.h"

#include <stdio.h>
#include <string.h>

static const char *const durabilities[] = {
	[DURABILITY_ASYNC] = "async", [DURABILITY_JOURNAL] = "journal", [DURABILITY_FSYNC] = "fsync", [DURABILITY_REDIS] = "redis",
};

#define DURABILITIES (sizeof(durabilities) / sizeof(durabilities[0]))

static const char *full_word(enum journal_full policy)
{
	static const char *const words[] = {
		[JOURNAL_REFUSE] = "refuse", [JOURNAL_DROP_NEW] = "drop-new", [JOURNAL_DROP_OLD] = "drop-old",
	};

	return words[policy];
}

char *settings_promise(const struct settings *s, char out[SETTINGS_PROMISE_MAX])
{
	size_t counts[DURABILITIES] = {0}, len = 0;
	char rules[96] = "";

	for (size_t i = 0; i < s->mirror_count; i++) counts[s->mirrors[i].durability]++;
	for (size_t i = 0; i < DURABILITIES; i++) {
		if (counts[i] == 0) continue;
		(void)snprintf(rules + len, sizeof(rules) - len, "%s%s %zu", len ? ", " : " (durability ", durabilities[i], counts[i]);
		len = strlen(rules);
	}
	(void)snprintf(out, SETTINGS_PROMISE_MAX, "%zu mirror rules%s%s, %zu grants, journal_full %s, redis_confirm %.40s",
		s->mirror_count, rules, len ? ")" : "", s->grant_count, full_word(s->journal_full), s->redis_confirm);
	return out;
}
