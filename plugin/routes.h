/*
 * Which mirror rules a topic matches, with a bounded cache, because matching every rule for every publish would be most
 * of our time. Broker thread only; never blocks.
 */
#ifndef MQR_PLUGIN_ROUTES_H
#define MQR_PLUGIN_ROUTES_H

#include <stdbool.h>
#include <stdint.h>

#include "config/rule.h"
#include "config/slice.h"
#include "config/status.h"

struct routes;

/* The rules of one topic, by their numbers in the journal's rule table. */
struct route {
	uint16_t count;     /* 0: not mirrored */
	bool readable;      /* one of them at least can be read back for redelivery */
	bool synced;        /* one of them at least has durability=fsync */
	bool confirmed;     /* one of them at least has durability=redis */
	const uint16_t *rules;
};

/* Borrows `rules`; `numbers[i]` is the journal's number of rules[i]; copied. */
enum status routes_new(const struct mirror_rule *rules, const uint16_t *numbers, size_t count, struct routes **out)
	MUST_CHECK;
void routes_free(struct routes *r);
/* After a reload: what the rules before could be read by, redelivery can read still, where the number is not another rule's now. */
void routes_inherit(struct routes *r, const struct routes *before);
/* The result is valid until the next call. */
const struct route *routes_find(struct routes *r, struct slice topic);
/* Is one of these numbers (of a journal record) a rule that redelivery can read? */
bool routes_readable(const struct routes *r, const uint16_t *numbers, uint16_t count);

#endif
