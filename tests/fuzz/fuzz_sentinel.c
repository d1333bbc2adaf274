/*
 * libFuzzer entry: what a sentinel answers, in RESP. The master that is taken must be one that can be looked up and logged.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "config/sentinel_reply.h"
#include "tests/fuzz/fuzz_reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
	if (!condition) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sentinel_master master;
	redisReply *reply;
	char why[160];

	if (!fuzz_reader_modest(data, size)) return 0;
	redisReader *reader = fuzz_reader_new(data, size);
	while ((reply = fuzz_reader_next(reader)) != NULL) {
		enum status st = sentinel_reply_read(reply, "mymaster", &master, why, sizeof(why));

		if (st == ST_OK) {
			size_t len = strnlen(master.host, sizeof(master.host));
			must(len > 0 && len < sizeof(master.host) && master.port > 0);
			for (size_t i = 0; i < len; i++) must(master.host[i] > ' ' && master.host[i] < 0x7f);
		} else {
			must(strnlen(why, sizeof(why)) < sizeof(why) && why[0]);
			for (const char *p = why; *p; p++) must((unsigned char)*p >= ' ');
		}
		freeReplyObject(reply);
	}
	redisReaderFree(reader);
	return 0;
}
