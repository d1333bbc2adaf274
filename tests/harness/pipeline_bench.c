/* The bench of the pipeline's unit tests. Uses cmocka's assertions: a wrong use of it fails the test. */
#include "tests/harness/pipeline_bench.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/message.h"
#include "tests/harness/resp_text.h"

static const char *rule_text(void *ctx, uint16_t number)
{
	struct bench *b = ctx;
	return number < BENCH_RULES_MAX ? b->rules[number] : NULL;
}

static bool has_record(void *ctx, struct entry_id id)
{
	struct bench *b = ctx;
	for (size_t i = b->released; i < b->count; i++) {
		if (entry_id_compare(b->records[i].id, id) == 0) return true;
	}
	return false;
}

static uint64_t bench_now(void *ctx)
{
	struct bench *b = ctx;
	return b->clock_ms;
}

static void log_line(void *ctx, enum log_level level, const char *line)
{
	struct bench *b = ctx;
	size_t len = strlen(b->log);
	snprintf(b->log + len, sizeof(b->log) - len, "%d %s\n", (int)level, line);
}

uint64_t bench_wall_ms;

static uint64_t wall(void)
{
	return bench_wall_ms;
}

static void make_pipeline(struct bench *b)
{
	struct pipeline_config config = {.keys = {"p", false}, .node = "n", .rules = b->cache, .wait = b->wait,
		.log = &b->sink,
		.position = b->released * 10, .boot = {77, 0}, .journal = b->journal, .left_over = b->left_over, .has_record = has_record, .now_ms = bench_now, .ctx = b};
	assert_int_equal(pipeline_new(&config, &b->p), ST_OK);
}

void bench_open(struct bench *b, const char *const *rules, size_t rule_count)
{
	memset(b, 0, sizeof(*b));
	memcpy(b->rules, rules, rule_count * sizeof(*rules));
	b->sink = (struct log_sink){log_line, b};
	bench_wall_ms = 0;
	journal_clock_ms = wall;
	assert_int_equal(rule_cache_new(rule_text, b, &b->cache), ST_OK);
	make_pipeline(b);
}

void bench_restart(struct bench *b)
{
	pipeline_free(b->p);
	make_pipeline(b);
}

void bench_close(struct bench *b)
{
	pipeline_free(b->p);
	rule_cache_free(b->cache);
	for (size_t i = 0; i < b->count; i++) {
		free((char *)(uintptr_t)b->records[i].body.data);
	}
	buf_free(&b->sent);
}

void bench_body(struct bench *b, uint64_t ms, enum journal_type type, struct slice body)
{
	assert_true(b->count < BENCH_RECORDS_MAX);
	char *copy = malloc(body.len + 1);
	assert_non_null(copy);
	if (body.len > 0) memcpy(copy, body.data, body.len);
	b->records[b->count] = (struct journal_record){.position = b->count * 10, .next = (b->count + 1) * 10,
		.id = {ms, b->count}, .type = type, .body = slice_of(copy, body.len)};
	b->count++;
}

void bench_message(struct bench *b, uint64_t ms, const char *rules, const char *topic, struct slice payload)
{
	struct message m = {.topic = slice_str(topic), .payload = payload, .client = slice_str("c"), .qos = 1,
		.payload_format = -1};
	struct buf body = {0};
	buf_u16(&body, (uint16_t)strlen(rules));
	for (const char *r = rules; *r; r++) {
		buf_u16(&body, (uint16_t)(*r - '0'));
	}
	size_t size = message_packed_size(&m);
	char *to = buf_reserve(&body, size);
	assert_non_null(to);
	message_pack(&m, to);
	body.len += size;
	bench_body(b, ms, JOURNAL_MESSAGE, slice_of(body.data, body.len));
	buf_free(&body);
}

void bench_event(struct bench *b, uint64_t ms, enum journal_type type, const struct session_event *e)
{
	struct buf body = {0};
	session_event_pack(&body, e);
	bench_body(b, ms, type, slice_of(body.data, body.len));
	buf_free(&body);
}

enum status bench_gather(struct bench *b)
{
	while (true) {
		size_t at = (size_t)pipeline_position(b->p) / 10;
		if (pipeline_in_past(b->p)) {
			if (at < b->overwritten) at = b->overwritten;
			if (at >= b->released) {
				pipeline_past_end(b->p);
				continue;
			}
		}
		if (at >= b->count) return ST_END;
		enum status st = pipeline_add(b->p, &b->records[at]);
		if (st != ST_OK) return st;
	}
}

char *bench_sent(struct bench *b)
{
	assert_int_equal(pipeline_step(b->p), PIPELINE_SEND);
	const struct buf *commands = pipeline_send(b->p, &b->replies);
	assert_false(commands->failed);
	assert_int_equal(pipeline_step(b->p), PIPELINE_WAIT);
	buf_clear(&b->sent);
	buf_append(&b->sent, commands->data, commands->len);
	char *text = resp_text(slice_of(commands->data, commands->len));
	size_t lines = 0;
	for (const char *c = text; *c; c++) {
		lines += *c == '\n';
	}
	assert_int_equal(lines, b->replies);
	return text;
}

void bench_reply(struct bench *b, size_t index, const char *text)
{
	redisReader *reader = redisReaderCreate();
	void *reply = NULL;
	for (const char *c = text; *c; c++) {
		assert_int_equal(redisReaderFeed(reader, *c == '|' ? "\r\n" : c, *c == '|' ? 2 : 1), REDIS_OK);
	}
	assert_int_equal(redisReaderFeed(reader, "\r\n", 2), REDIS_OK);
	assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_OK);
	assert_non_null(reply);
	pipeline_reply(b->p, reply, index);
	freeReplyObject(reply);
	redisReaderFree(reader);
}

void bench_replies(struct bench *b, const char *const *texts, size_t count)
{
	assert_int_equal(count, b->replies);
	for (size_t i = 0; i < count; i++) {
		bench_reply(b, i, texts[i]);
	}
}

static const char *bulk(const char *text, char *out, size_t size)
{
	if (*text == '\0') return "$-1";
	snprintf(out, size, "$%zu|%s", strlen(text), text);
	return out;
}

void bench_mark(struct bench *b, const char *mark, const char *dead)
{
	char texts[3][64], expected[256];
	char *sent = bench_sent(b);
	snprintf(expected, sizeof(expected), "MULTI\nEXEC\nWATCH p:mark:n p:mark:n:dead\nGET p:mark:n\nGET p:mark:n:dead\n%s",
		b->journal ? "GET p:mark:n:journal\n" : "");
	assert_string_equal(sent, expected);
	free(sent);
	const char *replies[] = {"+OK", "*0", "+OK", bulk(mark, texts[0], sizeof(texts[0])),
		bulk(dead, texts[1], sizeof(texts[1])),
		bulk(b->journal_there ? b->journal_there : "", texts[2], sizeof(texts[2]))};
	bench_replies(b, replies, b->journal ? 6 : 5);
}
