/* What the plugin says about a Redis, by tables: one line where a promise is weaker, and only when something changed.
 * */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugin/redis_checks.h"
#include "tests/harness/resp_text.h"

struct said {
	unsigned lines;
	enum log_level level;
	char text[4096];
};

static void hear(void *ctx, enum log_level level, const char *line)
{
	struct said *s = ctx;
	size_t len = strlen(s->text);
	s->lines++;
	s->level = level;
	snprintf(s->text + len, sizeof(s->text) - len, "%s\n", line);
}

/* A Redis with nothing to complain about, but for one fact. */
static struct redis_facts good(void)
{
	return (struct redis_facts){.version = "7.0.15", .mode = "standalone", .policy = "noeviction", .aof = "1",
		.bgsave = "ok", .role = "master", .fsync = "always", .rewrite = "no", .save = "3600 1", .save_known = true};
}

static const struct {
	const char *what; /* fact=value */
	enum redis_check check;
	const char *part; /* of the line; empty: no line */
} judgements[] = {
	{"version=6.2.0", CHECK_VERSION, ""},
	{"version=6.1.99", CHECK_VERSION, "6.1.99 is too old"},
	{"version=5.0.14", CHECK_VERSION, "too old"},
	{"version=8.0.2", CHECK_VERSION, ""},
	{"version=10", CHECK_VERSION, ""},
	{"version=", CHECK_VERSION, ""},
	{"mode=cluster", CHECK_MODE, "cluster"},
	{"mode=", CHECK_MODE, ""},
	{"role=slave", CHECK_ROLE, "replica"},
	{"role=", CHECK_ROLE, ""},
	{"policy=allkeys-lru", CHECK_EVICTION, "allkeys-lru"},
	{"policy=volatile-ttl", CHECK_EVICTION, "volatile-ttl"},
	{"policy=", CHECK_EVICTION, ""},
	{"aof=0", CHECK_APPEND_ONLY, "since the last snapshot"},
	{"aof=0,save=", CHECK_APPEND_ONLY, "no snapshots"},
	{"aof=", CHECK_APPEND_ONLY, ""},
	{"fsync=everysec", CHECK_FSYNC, "everysec"},
	{"fsync=no", CHECK_FSYNC, "appendfsync is no"},
	{"rewrite=yes", CHECK_FSYNC, "no-appendfsync-on-rewrite"},
	{"fsync=everysec,rewrite=yes", CHECK_FSYNC, "everysec"},
	{"fsync=", CHECK_FSYNC, ""},
	{"aof=0,fsync=everysec", CHECK_FSYNC, ""}, /* one line about one thing */
	{"bgsave=err", CHECK_SNAPSHOT, "snapshot failed"},
	{"bgsave=", CHECK_SNAPSHOT, ""},
};

/* `what`: fact=value, and more of them behind commas. */
static void set_facts(struct redis_facts *f, const char *what)
{
	struct {
		const char *name;
		char *value;
		size_t size;
	} facts[] = {
		{"version", f->version, sizeof(f->version)}, {"mode", f->mode, sizeof(f->mode)},
		{"policy", f->policy, sizeof(f->policy)}, {"aof", f->aof, sizeof(f->aof)},
		{"bgsave", f->bgsave, sizeof(f->bgsave)}, {"role", f->role, sizeof(f->role)},
		{"fsync", f->fsync, sizeof(f->fsync)}, {"rewrite", f->rewrite, sizeof(f->rewrite)},
		{"save", f->save, sizeof(f->save)},
	};

	for (const char *p = what; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL) {
		size_t name_len = strcspn(p, "=");
		bool found = false;
		for (size_t n = 0; n < sizeof(facts) / sizeof(facts[0]); n++) {
			if (strlen(facts[n].name) != name_len || memcmp(facts[n].name, p, name_len) != 0) continue;
			const char *value = p + name_len + 1;
			snprintf(facts[n].value, facts[n].size, "%.*s", (int)strcspn(value, ","), value);
			found = true;
		}
		assert_true(found);
	}
}

static void judged(void **state)
{
	char line[REDIS_CHECK_LINE_MAX];
	(void)state;
	for (size_t i = 0; i < sizeof(judgements) / sizeof(judgements[0]); i++) {
		struct redis_facts f = good();
		set_facts(&f, judgements[i].what);
		for (int check = 0; check < CHECK_COUNT; check++) {
			redis_checks_judge(&f, (enum redis_check)check, line);
			const char *part = check == (int)judgements[i].check ? judgements[i].part : "";
			if (check != (int)judgements[i].check && strncmp(judgements[i].what, "aof=0", 5) == 0) continue;
			if (part[0] ? strstr(line, part) == NULL : line[0] != '\0')
				fail_msg("%s: check %d says \"%s\"", judgements[i].what, check, line);
		}
	}
	struct redis_facts unknown = {0};
	for (int check = 0; check < CHECK_COUNT; check++) {
		redis_checks_judge(&unknown, (enum redis_check)check, line);
		assert_string_equal(line, "");
	}
}

static void answer(struct redis_checks *c, struct said *s, const char *const texts[REDIS_CHECKS_REPLIES])
{
	struct log_sink sink = {hear, s};
	for (size_t i = 0; i < REDIS_CHECKS_REPLIES; i++) {
		redisReader *reader = redisReaderCreate();
		void *reply = NULL;
		if (texts[i][0] == '*' || texts[i][0] == '-') {
			assert_int_equal(redisReaderFeed(reader, texts[i], strlen(texts[i])), REDIS_OK);
		} else {
			char head[32];
			int len = snprintf(head, sizeof(head), "$%zu\r\n", strlen(texts[i]));
			assert_int_equal(redisReaderFeed(reader, head, (size_t)len), REDIS_OK);
			assert_int_equal(redisReaderFeed(reader, texts[i], strlen(texts[i])), REDIS_OK);
			assert_int_equal(redisReaderFeed(reader, "\r\n", 2), REDIS_OK);
		}
		assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_OK);
		assert_non_null(reply);
		redis_checks_reply(c, &sink, reply, i);
		freeReplyObject(reply);
		redisReaderFree(reader);
	}
}

#define PAIR(name, len, value) "*2\r\n$" #name "\r\nx\r\n$" #len "\r\n" value "\r\n"

static const char *const healthy[REDIS_CHECKS_REPLIES] = {
	"# Server\r\nredis_version:7.0.15\r\nredis_git_sha1:0\r\nredis_mode:standalone\r\nrun_id:ab12\r\nuptime_in_seconds:77\r\n",
	"# Memory\r\nused_memory:5\r\nmaxmemory_policy:noeviction\r\n",
	"# Persistence\r\nloading:0\r\nrdb_last_bgsave_status:ok\r\naof_enabled:1\r\n",
	"# Replication\r\nrole:master\r\n",
	PAIR(1, 6, "always"), PAIR(1, 2, "no"), PAIR(1, 6, "3600 1"), PAIR(1, 9, "536870912"), PAIR(1, 7, "1048576"),
};

static void repeated_only_when_changed(void **state)
{
	static struct redis_checks c;
	struct said s = {0};
	const char *texts[REDIS_CHECKS_REPLIES];
	(void)state;
	memset(&c, 0, sizeof(c));
	answer(&c, &s, healthy);
	assert_int_equal(s.lines, 0);
	assert_string_equal(c.facts.run_id, "ab12");
	assert_string_equal(c.facts.uptime_s, "77");
	assert_string_equal(c.facts.bulk_max, "536870912");
	assert_string_equal(c.facts.request_max, "1048576");
	memcpy(texts, healthy, sizeof(texts));
	texts[1] = "maxmemory_policy:allkeys-lru\r\n";
	texts[4] = PAIR(1, 8, "everysec");
	answer(&c, &s, texts);
	assert_int_equal(s.lines, 2);
	answer(&c, &s, texts);
	answer(&c, &s, texts);
	assert_int_equal(s.lines, 2);
	texts[1] = "maxmemory_policy:allkeys-lfu\r\n"; /* bad in another way */
	answer(&c, &s, texts);
	assert_int_equal(s.lines, 3);
	assert_non_null(strstr(s.text, "allkeys-lfu"));
	answer(&c, &s, healthy);
	assert_int_equal(s.lines, 3);
	answer(&c, &s, texts); /* had gone in between */
	assert_int_equal(s.lines, 5);
	assert_int_equal(s.level, LOG_LEVEL_WARNING);
	texts[0] = "redis_version:5.0.0";
	answer(&c, &s, texts);
	assert_int_equal(s.lines, 6);
	assert_int_equal(s.level, LOG_LEVEL_ERROR);
}

/* The nodes of a cluster are what they should be, and are looked at in all else. */
static void nodes_of_a_cluster(void **state)
{
	struct redis_checks c = {.cluster = true};
	struct said s = {0};
	const char *texts[REDIS_CHECKS_REPLIES];
	(void)state;
	memcpy(texts, healthy, sizeof(texts));
	texts[0] = "redis_version:7.0.15\r\nredis_mode:cluster\r\nrun_id:ab12\r\nuptime_in_seconds:77\r\n";
	answer(&c, &s, texts);
	assert_int_equal(s.lines, 0);
	assert_string_equal(c.facts.bulk_max, "536870912");
	assert_string_equal(c.facts.request_max, "1048576");
	texts[4] = PAIR(1, 8, "everysec");
	answer(&c, &s, texts);
	assert_int_equal(s.lines, 1);
	assert_non_null(strstr(s.text, "appendfsync is everysec"));
}

/* While it loads, Redis says that its append-only file is off: nothing is said before it is asked again. */
static void loading(void **state)
{
	static struct redis_checks c;
	struct said s = {0};
	const char *texts[REDIS_CHECKS_REPLIES];
	(void)state;
	memset(&c, 0, sizeof(c));
	memcpy(texts, healthy, sizeof(texts));
	texts[2] = "# Persistence\r\nloading:1\r\nrdb_last_bgsave_status:ok\r\naof_enabled:0\r\n";
	answer(&c, &s, texts);
	assert_int_equal(s.lines, 0);
	assert_true(redis_checks_loading(&c));
	answer(&c, &s, healthy);
	assert_int_equal(s.lines, 0);
	assert_false(redis_checks_loading(&c));
}

/* Refused questions, other types, and answers cut off anywhere say nothing and do no harm. */
static void refused_and_odd_answers(void **state)
{
	static struct redis_checks c;
	struct said s = {0};
	const char *texts[REDIS_CHECKS_REPLIES];
	char cut[128];
	(void)state;
	memset(&c, 0, sizeof(c));
	for (size_t i = 0; i < REDIS_CHECKS_REPLIES; i++) texts[i] = "-NOPERM this user has no permissions\r\n";
	answer(&c, &s, texts);
	assert_int_equal(s.lines, 0);
	for (size_t i = 0; i < REDIS_CHECKS_REPLIES; i++) texts[i] = "*0\r\n";
	answer(&c, &s, texts);
	assert_int_equal(s.lines, 0);
	for (size_t index = 0; index < 4; index++) {
		for (size_t len = 0; len <= strlen(healthy[index]); len++) {
			memcpy(texts, healthy, sizeof(texts));
			snprintf(cut, sizeof(cut), "%.*s", (int)len, healthy[index]);
			texts[index] = cut;
			memset(&c, 0, sizeof(c));
			answer(&c, &s, texts);
		}
	}
	/* "redis_version:7" cut to "redis_version:" is not known; a cut policy is no known one. */
	assert_null(strstr(s.text, "too old"));
}

static void asks_as_many_as_it_takes(void **state)
{
	struct buf out = {0};
	struct slice args[8];
	size_t argc, commands = 0;
	(void)state;
	redis_checks_ask(&out);
	struct slice rest = slice_of(out.data, out.len);
	while (resp_take(&rest, args, 8, &argc)) commands++;
	assert_int_equal(rest.len, 0);
	assert_int_equal(commands, REDIS_CHECKS_REPLIES);
	buf_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(judged), cmocka_unit_test(repeated_only_when_changed), cmocka_unit_test(nodes_of_a_cluster),
		cmocka_unit_test(loading),
		cmocka_unit_test(refused_and_odd_answers), cmocka_unit_test(asks_as_many_as_it_takes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
