/*
 * libFuzzer entry: what tells bridge and plugin of devices; the first byte chooses: a session event as it stands in Redis (its
 * pairs, each up to a NUL), or a device's own request for history in JSON.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/device_event.h"
#include "plugin/replay.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PAIRS_MAX 24

static void must(bool condition)
{
	if (!condition) abort();
}

static void event(struct slice rest)
{
	struct slice names[PAIRS_MAX], values[PAIRS_MAX] = {{0}};
	struct device_event e;
	const char *why = NULL;
	size_t count = 0;

	for (size_t i = 0; i < 2 * PAIRS_MAX && rest.len > 0; i++) {
		size_t len = strnlen(rest.data, rest.len), step = len < rest.len ? len + 1 : len;
		*(i % 2 ? &values[i / 2] : &names[i / 2]) = slice_of(rest.data, len);
		count = (i + 1) / 2;
		rest = slice_of(rest.data + step, rest.len - step);
	}
	if (count > 0 && !values[count - 1].data) count--;
	if (device_event_decode(ENTRY_ID_MAX, names, values, count, &e, &why) != ST_OK) {
		must(why != NULL);
		return;
	}
	if (e.op == DEVICE_OP_BOOT || e.op == DEVICE_OP_RELOADED) return;
	must(e.client.data != NULL && e.client.len > 0);
	if (e.op == DEVICE_OP_SUBSCRIBED || e.op == DEVICE_OP_UNSUBSCRIBED) must(e.filter.len > 0);
	must(e.qos <= 2);
}

static void request(struct slice json)
{
	struct replay_request r = {0};
	struct buf text = {0};
	const char *why = NULL;

	if (replay_parse(json, UINT64_C(1700000000000), &text, &r, &why) == ST_OK)
		must(r.filter.len > 0 && r.last <= REPLAY_LAST_MAX);
	else must(why != NULL);
	buf_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0) return 0;
	struct slice rest = slice_of(data + 1, size - 1);
	if (data[0] % 2) event(rest);
	else request(rest);
	return 0;
}
