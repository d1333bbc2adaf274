/*
 * The token bucket of one device's catch-up. Owns nothing; loop thread; cannot fail.
 */
#include "bridge/tokens.h"

size_t tokens_ready(struct tokens *t, const struct token_flow *flow, uint64_t now_ms, uint64_t *until_ms)
{
	uint64_t elapsed;

	if (!t->started) {
		t->thousandths = flow->first;
		t->at_ms = now_ms;
		t->started = true;
	}
	elapsed = now_ms > t->at_ms ? now_ms - t->at_ms : 0;
	if (elapsed > TOKENS_REST_MS_MAX) elapsed = TOKENS_REST_MS_MAX;
	t->thousandths += elapsed * flow->rate;
	t->at_ms = now_ms;
	if (t->thousandths > flow->most) t->thousandths = flow->most;
	if (t->thousandths < flow->need) {
		*until_ms = now_ms + (flow->need - t->thousandths + flow->rate - 1) / flow->rate;
		return 0;
	}
	return (size_t)(t->thousandths / 1000);
}

void tokens_spend(struct tokens *t, size_t messages)
{
	uint64_t used = (uint64_t)messages * 1000;

	t->thousandths -= used < t->thousandths ? used : t->thousandths;
}
