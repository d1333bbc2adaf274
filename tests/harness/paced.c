/* Owns one connection to Redis while it writes. Runs on the test's thread. */
#include "tests/harness/paced.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "tests/harness/store.h"

#define PAYLOAD_MAX 4096

static void append(redisContext *db, const struct load_plan *plan, uint64_t number, uint64_t due_ns)
{
	char key[160], client[160], payload[PAYLOAD_MAX];
	unsigned publisher = (unsigned)(number % plan->publishers);
	uint64_t head[3] = {publisher, number / plan->publishers, due_ns};

	(void)snprintf(key, sizeof(key), "s:%s/%u/%04u", plan->base, publisher, (unsigned)(head[1] % plan->topics));
	(void)snprintf(client, sizeof(client), "%s-%u", plan->base, publisher);
	memset(payload, 'x', plan->payload_len);
	memcpy(payload, head, sizeof(head));
	const char *argv[] = {"XADD", key, "*", "topic", key + 2, "payload", payload, "qos", "1", "retain", "0", "client", client};
	size_t lens[sizeof(argv) / sizeof(*argv)];
	for (size_t i = 0; i < sizeof(argv) / sizeof(*argv); i++) lens[i] = argv[i] == payload ? plan->payload_len : strlen(argv[i]);
	scene_require(redisAppendCommandArgv(db, (int)(sizeof(argv) / sizeof(*argv)), argv, lens) == REDIS_OK, "out of memory");
}

static void take_replies(redisContext *db, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		redisReply *r = NULL;

		scene_require(redisGetReply(db, (void **)&r) == REDIS_OK && r && r->type == REDIS_REPLY_STRING, "XADD: %s",
			r ? r->str : db->errstr);
		freeReplyObject(r);
	}
}

void paced_write(struct server *redis, const struct load_plan *plan, uint64_t count, unsigned per_second)
{
	const struct timespec pause = {.tv_nsec = 1000000}; /* as long as our writer gathers */
	redisContext *db = store_open(redis);
	uint64_t began = load_now_ns(), sent = 0;

	scene_require(plan->payload_len >= LOAD_PAYLOAD_MIN && plan->payload_len <= PAYLOAD_MAX, "an odd payload");
	while (sent < count) { /* ends: time goes on */
		uint64_t first = sent, due = (load_now_ns() - began) * per_second / 1000000000u;

		for (; sent < due && sent < count; sent++) append(db, plan, sent, began + sent * 1000000000u / per_second);
		if (sent == first) (void)nanosleep(&pause, NULL);
		take_replies(db, sent - first);
	}
}
