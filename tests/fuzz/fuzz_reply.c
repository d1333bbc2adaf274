/*
 * libFuzzer entry: what Redis answers to the reads of a catch-up, in RESP, as a hostile or damaged Redis may: hiredis'
 * reader, then the reader of one key. The first byte chooses kind and direction. What it gives on must be in order.
 */
#include <stdint.h>
#include <stdlib.h>

#include "bridge/fetch_source.h"
#include "tests/fuzz/fuzz_reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REPLIES_MAX 64

static void check_order(struct merge *merge, bool backwards)
{
	struct merge_entry *entry;
	struct entry_id last = backwards ? ENTRY_ID_MAX : ENTRY_ID_ZERO;
	bool first = true;

	while (merge_pop(merge, &entry) == MERGE_ENTRY) {
		int order = entry_id_compare(entry->id, last);

		if (!first && (backwards ? order >= 0 : order <= 0)) abort();
		first = false;
		last = entry->id;
		free(entry);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fetch_source source;
	struct fetch_source_tally tally = {0};
	struct buf scratch = {0}, commands = {0};
	struct merge *merge = NULL;

	if (size < 2 || !fuzz_reader_modest(data, size)) return 0;
	bool list = data[0] & 1, backwards = data[0] & 2;
	size_t number;
	if (merge_new(backwards, &merge) != ST_OK || merge_add(merge, 0, &number) != ST_OK) abort();
	fetch_source_init(&source, list ? 'l' : 's', slice_str("key"), number, ENTRY_ID_ZERO, ENTRY_ID_MAX, backwards);
	redisReader *reader = fuzz_reader_new(data + 1, size - 1);
	for (unsigned i = 0; i < REPLIES_MAX; i++) {
		redisReply *reply = fuzz_reader_next(reader);

		if (!reply) break;
		fetch_source_ask(&source, 10, &commands);
		(void)!fetch_source_take(&source, reply, merge, &scratch, &tally);
		freeReplyObject(reply);
		if (merge_finished(merge, number)) break;
	}
	redisReaderFree(reader);
	check_order(merge, backwards);
	merge_free(merge);
	buf_free(&scratch);
	buf_free(&commands);
	return 0;
}
