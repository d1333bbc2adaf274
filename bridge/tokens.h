/*
 * A token bucket: lets a device's messages go no faster than at a rate, and not one by one. A token is one message; in
 * here they are counted in thousandths. Pure: `now_ms` is any clock, and one that goes back gives nothing. Not
 * thread-safe.
 */
#ifndef MQR_BRIDGE_TOKENS_H
#define MQR_BRIDGE_TOKENS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TOKENS_REST_MS_MAX 60000 /* of a longer rest no more than this counts */

struct tokens {
	uint64_t thousandths, at_ms;
	bool started;
};

/* How it fills and what may be taken. It may change from call to call. */
struct token_flow {
	uint64_t rate;              /* messages a second, at least 1 */
	uint64_t first, need, most; /* thousandths of a message: at the first call; before any may go; never more */
};

/* How many messages may go now; 0: not before *until_ms. `tokens` begins as zeros; it is filled by the time since the
 * last call. */
size_t tokens_ready(struct tokens *t, const struct token_flow *flow, uint64_t now_ms, uint64_t *until_ms);
/* So many went; more than there are tokens leave none. */
void tokens_spend(struct tokens *t, size_t messages);

#endif
