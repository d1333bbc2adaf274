/*
 * Mirror rules by their number in the journal's rule table, parsed once. One thread (the writer's). A number may get
 * another text when the journal's table is emptied, which happens only while no unsent record refers to it: so a rule
 * handed out stays valid as long as the record that led to it is unreleased.
 */
#ifndef MQR_PLUGIN_RULE_CACHE_H
#define MQR_PLUGIN_RULE_CACHE_H

#include <stdint.h>

#include "config/rule.h"
#include "config/status.h"

struct rule_cache;

/* Gives the text of a rule number, NULL when there is none; see journal_rule_text. */
typedef const char *rule_text_fn(void *ctx, uint16_t number);

enum status rule_cache_new(rule_text_fn *text, void *ctx, struct rule_cache **out) MUST_CHECK;
void rule_cache_free(struct rule_cache *cache); /* bears NULL */
/* ST_NOT_FOUND: no such rule, or its text cannot be parsed. ST_NOMEM: try again. */
enum status rule_cache_get(struct rule_cache *cache, uint16_t number, const struct mirror_rule **rule) MUST_CHECK;

#endif
