/*
 * Parsed rules by number, in a table that grows with the largest number seen. Writer thread. Never keeps a rule whose
 * text has changed.
 */
#include "plugin/rule_cache.h"

#include <stdlib.h>
#include <string.h>

struct cached_rule {
	char *text; /* what was parsed; NULL: nothing yet */
	struct mirror_rule *rule; /* NULL: cannot be parsed */
};

struct rule_cache {
	rule_text_fn *text;
	void *ctx;
	struct cached_rule *rules;
	size_t count;
};

enum status rule_cache_new(rule_text_fn *text, void *ctx, struct rule_cache **out)
{
	struct rule_cache *cache = calloc(1, sizeof(*cache));
	if (!cache) return ST_NOMEM;
	cache->text = text;
	cache->ctx = ctx;
	*out = cache;
	return ST_OK;
}

static void forget(struct cached_rule *c)
{
	if (c->rule) mirror_rule_free(c->rule);
	free(c->rule);
	free(c->text);
	*c = (struct cached_rule){0};
}

void rule_cache_free(struct rule_cache *cache)
{
	if (!cache) return;
	for (size_t i = 0; i < cache->count; i++) {
		forget(&cache->rules[i]);
	}
	free(cache->rules);
	free(cache);
}

static struct cached_rule *slot(struct rule_cache *cache, uint16_t number)
{
	if (number < cache->count) return &cache->rules[number];
	size_t count = (size_t)number + 16;
	struct cached_rule *rules = realloc(cache->rules, count * sizeof(*rules));
	if (!rules) return NULL;
	memset(rules + cache->count, 0, (count - cache->count) * sizeof(*rules));
	cache->rules = rules;
	cache->count = count;
	return &rules[number];
}

static enum status parse(struct cached_rule *c, const char *text)
{
	char why[256];
	c->text = strdup(text);
	c->rule = calloc(1, sizeof(*c->rule));
	if (!c->text || !c->rule) {
		free(c->rule);
		c->rule = NULL;
		forget(c);
		return ST_NOMEM;
	}
	enum status st = mirror_rule_parse(text, c->rule, why, sizeof(why));
	if (st == ST_OK) return ST_OK;
	free(c->rule);
	c->rule = NULL;
	if (st == ST_NOMEM) forget(c);
	return st;
}

enum status rule_cache_get(struct rule_cache *cache, uint16_t number, const struct mirror_rule **rule)
{
	const char *text = cache->text(cache->ctx, number);
	if (!text) return ST_NOT_FOUND;
	struct cached_rule *c = slot(cache, number);
	if (!c) return ST_NOMEM;
	if (!c->text || strcmp(c->text, text) != 0) {
		forget(c);
		if (parse(c, text) == ST_NOMEM) return ST_NOMEM;
	}
	*rule = c->rule;
	return c->rule ? ST_OK : ST_NOT_FOUND;
}
