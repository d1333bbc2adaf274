/*
 * A Redis link that is none: what is asked over it stands in a queue until the test has it answered, each command by what the
 * test says, or loses it. Static, one for each test program.
 */
#ifndef MQR_TESTS_REDIS_FAKE_H
#define MQR_TESTS_REDIS_FAKE_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "config/command_key.h"
#include "config/redis_link.h"

#define REDIS_FAKE_QUESTIONS_MAX 256

struct question {
	redis_reply_fn *fn;
	void *ctx;
	size_t replies;
	char text[4096];
};

static struct {
	bool down;        /* nothing can be asked */
	bool loses;       /* what is asked, instead of answering it */
	size_t loses_behind; /* so many replies of the first question */
	struct question queue[REDIS_FAKE_QUESTIONS_MAX];
	size_t count;
} redis_fake;

enum status redis_link_send(struct redis_link *link, const struct buf *commands, size_t replies, unsigned deadline_ms,
	redis_reply_fn *fn, void *ctx)
{
	struct question *q = &redis_fake.queue[redis_fake.count];

	(void)link, (void)deadline_ms;
	if (redis_fake.down) return ST_LOST;
	assert_true(redis_fake.count < REDIS_FAKE_QUESTIONS_MAX && commands->len < sizeof(q->text));
	redis_fake.count++;
	q->fn = fn;
	q->ctx = ctx;
	q->replies = replies;
	memcpy(q->text, commands->data, commands->len);
	q->text[commands->len] = '\0';
	return ST_OK;
}

bool redis_link_is_ready(const struct redis_link *link)
{
	(void)link;
	return !redis_fake.down;
}

typedef void redis_fake_fn(struct slice command, struct buf *out); /* appends the reply */

static inline void redis_fake_reply(const struct question *q, size_t index, struct slice *rest, redis_fake_fn *answer)
{
	struct buf text = {0};
	redisReader *reader = redisReaderCreate();
	struct command c;
	void *reply = NULL;

	assert_int_equal(command_next(rest, &c), ST_OK);
	answer(c.bytes, &text);
	assert_int_equal(redisReaderFeed(reader, text.data, text.len), REDIS_OK);
	assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_OK);
	assert_non_null(reply);
	q->fn(q->ctx, reply, index);
	freeReplyObject(reply);
	redisReaderFree(reader);
	buf_free(&text);
}

/* Answers the first `count` of what is asked, once: what is asked meanwhile waits. */
static inline void redis_fake_answer(size_t count, redis_fake_fn *answer)
{
	static struct question asked[REDIS_FAKE_QUESTIONS_MAX];

	if (count > redis_fake.count) count = redis_fake.count;
	memcpy(asked, redis_fake.queue, count * sizeof(asked[0]));
	redis_fake.count -= count;
	memmove(redis_fake.queue, &redis_fake.queue[count], redis_fake.count * sizeof(asked[0]));
	for (size_t i = 0; i < count; i++) {
		struct slice rest = slice_str(asked[i].text);
		for (size_t k = 0; k < asked[i].replies; k++) {
			if (redis_fake.loses && (i > 0 || k >= redis_fake.loses_behind)) {
				asked[i].fn(asked[i].ctx, NULL, k);
				break;
			}
			redis_fake_reply(&asked[i], k, &rest, answer);
		}
	}
}

#endif
