/* What fuzz targets of Redis' replies share: the input as replies of hiredis. */
#ifndef MQR_TESTS_FUZZ_READER_H
#define MQR_TESTS_FUZZ_READER_H

#include <hiredis/hiredis.h>
#include <hiredis/read.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#define FUZZ_ELEMENTS_MAX 65536

/* hiredis 0.14 takes the memory that an array's header asks for (1.0 has a limit); Redis itself sends no such header. */
static inline bool fuzz_reader_modest(const uint8_t *data, size_t size)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < size; i++) {
		uint64_t count = 0;

		if (data[i] != '*') continue;
		for (size_t k = i + 1; k < size && data[k] >= '0' && data[k] <= '9' && count <= FUZZ_ELEMENTS_MAX; k++) {
			count = count * 10 + (uint64_t)(data[k] - '0');
		}
		sum += count;
	}
	return sum <= FUZZ_ELEMENTS_MAX;
}

/* Fed with the input; it must be modest. */
static inline redisReader *fuzz_reader_new(const uint8_t *data, size_t size)
{
	redisReader *reader = redisReaderCreate();

	if (!reader) abort();
	(void)redisReaderFeed(reader, (const char *)data, size); /* a refusal shows at the first reply */
	return reader;
}

/* The next reply, owned (freeReplyObject); NULL: no more. */
static inline redisReply *fuzz_reader_next(redisReader *reader)
{
	void *reply = NULL;

	return redisReaderGetReply(reader, &reply) == REDIS_OK ? reply : NULL;
}

#endif
