/*
 * The command line tool against real servers: what it says of devices is what they then get, what it moves moves, what it
 * refuses stays as it was, and nothing hostile reaches the terminal.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include <cjson/cJSON.h>

#include "config/keys.h"
#include "tests/harness/guest.h"
#include "tests/harness/store.h"

#define WAIT_MS 60000
#define EVIL "evil\x1b[2J\xc2\x9b" "1m"
#define RULES "mirror a/# stream a:%t\nmirror b/# list b\nredeliver a/# overlap=0 new=all\nredeliver b/# overlap=0\n"

/* Runs a command; its exit code. argv ends with NULL. It gives Redis two seconds (status 3), which a busy machine may not give it. */
static int ctl(struct world *w, const char **output, ...)
{
	const char *argv[16] = {CTL_PROGRAM, "-c", w->settings};
	va_list list;
	int argc = 3, status;
	uint64_t limit = now_ms() + WAIT_MS;

	va_start(list, output);
	while (argc < 15 && (argv[argc] = va_arg(list, const char *)) != NULL) argc++;
	va_end(list);
	do status = program_run(w->scene, argv, WAIT_MS, output);
	while (status == 3 && server_running(w->redis) && now_ms() < limit);
	return status;
}

static cJSON *parsed(const char *text)
{
	cJSON *json = cJSON_Parse(text);

	scene_require(json, "no JSON: %s", text);
	return json;
}

static double number(const cJSON *object, const char *name)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);

	scene_require(cJSON_IsNumber(item), "no number %s", name);
	return item->valuedouble;
}

static const char *text(const cJSON *object, const char *name)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);

	return cJSON_IsString(item) ? item->valuestring : NULL;
}

static void assert_printable(const char *output)
{
	for (const unsigned char *p = (const unsigned char *)output; *p; p++) {
		scene_require((*p >= 0x20 && *p != 0x7f) || *p == '\n', "a control character (%02x) in: %s", *p, output);
		scene_require(!(p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0), "a C1 control character in: %s", output);
	}
}

/* A device that was here and is absent, and what it missed. */
static struct guest *visitor(struct world *w, const char *id, const char *filter)
{
	struct guest *d = guest_join(w, id, NULL);

	guest_subscribe(d, filter, 1);
	world_wait_event(w, "live", id, 1);
	guest_disconnect(d);
	world_wait_event(w, "gone", id, 1);
	return d;
}

static void publish(struct world *w, struct guest *p, const char *topic, int from, int count)
{
	for (int i = from; i < from + count; i++) guest_publish(p, topic, scene_text(w->scene, "%d", i), 1);
}

/* What Mosquitto would not let in, but whoever can write to Redis can leave there. */
static void leave_hostile(struct world *w)
{
	unsigned long long ms, seq;
	struct buf member = {0};
	redisReply *reply;

	(void)store_query(w->db, "HSET", "mqtt:session:" EVIL, "f:a/+", "1-0", "user", "\x1b]0;x\x07", NULL);
	(void)store_query(w->db, "ZADD", "mqtt:sessions", "1000", EVIL, NULL);
	/* The next id behind what dev-1 had: ids of Redis' own may be ahead of the mark. */
	assert_int_equal(sscanf(store_query(w->db, "HGET", "mqtt:session:dev-1", "f@test #", NULL)->str, "%llu-%llu", &ms, &seq), 2);
	(void)store_query(w->db, "XADD", "hostile", scene_text(w->scene, "%llu-%llu", ms, seq + 1), "topic", "a/hostile\x1b[31m", "payload", "\x07" "bell", NULL);
	index_member_make(&member, 's', slice_str("hostile"), slice_str("a/#"), (struct slice){0});
	reply = redisCommand(w->db, "ZADD mqtt:index GT %lld %b", (long long)ms, member.data, member.len);
	assert_true(reply && reply->type == REDIS_REPLY_INTEGER);
	freeReplyObject(reply);
	buf_free(&member);
}

/* --- looking --------------------------------------------------------------------------------------------------- */

static void check_sessions(struct world *w)
{
	const char *out;
	cJSON *json;

	assert_int_equal(ctl(w, &out, "sessions", NULL), 0);
	assert_printable(out);
	assert_non_null(strstr(out, "CLIENT"));
	assert_non_null(strstr(out, "dev-1"));
	assert_non_null(strstr(out, "evil\\x1b[2J\\xc2\\x9b1m"));
	assert_int_equal(ctl(w, &out, "sessions", "--json", "dev-*", NULL), 0);
	json = parsed(out);
	assert_int_equal(cJSON_GetArraySize(json), 2);
	assert_string_equal(text(cJSON_GetArrayItem(json, 0), "client"), "dev-1");
	assert_string_equal(text(cJSON_GetArrayItem(json, 0), "state"), "absent");
	assert_int_equal((int)number(cJSON_GetArrayItem(json, 0), "filters"), 1);
	assert_string_equal(text(cJSON_GetArrayItem(json, 1), "client"), "dev-live");
	assert_string_equal(text(cJSON_GetArrayItem(json, 1), "state"), "live");
	cJSON_Delete(json);
	assert_int_equal(ctl(w, &out, "sessions", "evil*", "--json", NULL), 0);
	assert_printable(out);
	json = parsed(out);
	assert_string_equal(text(cJSON_GetArrayItem(json, 0), "client"), EVIL);
	assert_string_equal(text(cJSON_GetArrayItem(json, 0), "user"), "\x1b]0;x\x07");
	cJSON_Delete(json);
	assert_int_equal(ctl(w, &out, "sessions", "nobody", "--json", NULL), 0);
	assert_string_equal(out, "[]\n");
}

static void check_peek(struct world *w)
{
	const char *out;
	cJSON *json;

	assert_int_equal(ctl(w, &out, "peek", "dev-1", "-n", "2", NULL), 0);
	assert_printable(out);
	assert_non_null(strstr(out, "a/hostile\\x1b[31m"));
	assert_non_null(strstr(out, "\\x07bell"));
	assert_null(strstr(out, "second"));
	assert_int_equal(ctl(w, &out, "peek", "dev-1", "-n", "3", "--json", NULL), 0);
	json = parsed(out);
	assert_int_equal(cJSON_GetArraySize(json), 3);
	assert_string_equal(text(cJSON_GetArrayItem(json, 2), "payload"), "second");
	cJSON_Delete(json);
}

static void check_wrong_usage(struct world *w)
{
	const char *out;

	assert_int_equal(ctl(w, &out, "peek", "dev-1", "-n", "0", NULL), 2);
	assert_int_equal(ctl(w, &out, "backlog", NULL), 2);
	assert_int_equal(ctl(w, &out, "backlog", "a", "b", NULL), 2);
	assert_int_equal(ctl(w, &out, "rewind", "dev-1", NULL), 2);
	assert_int_equal(ctl(w, &out, "rewind", "dev-1", "--to", NULL), 2);
	assert_int_equal(ctl(w, &out, "rewind", "dev-1", "--to", "yesterday", "--yes", NULL), 2);
	assert_non_null(strstr(out, "yesterday"));
	assert_int_equal(ctl(w, &out, "tail", "a/#/b", NULL), 2);
	assert_int_equal(ctl(w, &out, "sessions", "--nothing", NULL), 2);
	assert_int_equal(ctl(w, &out, "nothing", NULL), 2);
	assert_int_equal(ctl(w, &out, "backlog", "nobody\x1b[2J", NULL), 1);
	assert_printable(out);
	assert_int_equal(ctl(w, &out, "backlog", "--", "-1h", NULL), 1); /* an unknown device of that name */
	assert_non_null(strstr(out, "-1h"));
}

static void test_looking(void **state)
{
	struct scene *s = *state;
	struct world w;
	struct guest *p, *live;
	const char *out;
	cJSON *json;

	world_start(&w, s, RULES, WORLD_BRIDGE);
	p = guest_join(&w, "publisher", NULL);
	(void)visitor(&w, "dev-1", "#");
	live = guest_join(&w, "dev-live", NULL);
	guest_subscribe(live, "a/#", 1);
	world_wait_event(&w, "live", "dev-live", 1);
	leave_hostile(&w);
	guest_publish(p, "b/list", "first", 1);
	guest_publish(p, "a/plain", "second", 1);
	store_wait_stream(w.db, "a:a/plain", 1, WAIT_MS);

	check_sessions(&w);
	assert_int_equal(ctl(&w, &out, "backlog", "dev-1", "--json", NULL), 0);
	json = parsed(out);
	scene_require((int)number(json, "messages") == 3, "%s", out);
	assert_int_equal((int)number(json, "bytes"), 16);
	cJSON_Delete(json);
	assert_int_equal(ctl(&w, &out, "backlog", "dev-1", NULL), 0);
	assert_non_null(strstr(out, "in all 3 messages"));
	assert_int_equal(ctl(&w, &out, "backlog", "dev-live", "--json", NULL), 0);
	json = parsed(out);
	assert_int_equal((int)number(json, "messages"), 0);
	assert_string_equal(text(json, "state"), "live");
	cJSON_Delete(json);
	check_peek(&w);
	check_wrong_usage(&w);
	server_stop(w.bridge);
	server_stop(w.broker);
	server_stop(w.redis);
	assert_int_equal(ctl(&w, &out, "sessions", NULL), 3);
	assert_int_equal(ctl(&w, &out, "backlog", "dev-1", NULL), 3);
	assert_int_equal(ctl(&w, &out, "tail", "#", NULL), 3);
	assert_int_equal(ctl(&w, &out, "top", NULL), 3);
	scene_end(s);
}

/* --- what it says is what comes -------------------------------------------------------------------------------- */

static int backlog_of(struct world *w, const char *id)
{
	const char *out;
	cJSON *json;
	int n;

	assert_int_equal(ctl(w, &out, "backlog", id, "--json", NULL), 0);
	json = parsed(out);
	n = (int)number(json, "messages");
	cJSON_Delete(json);
	return n;
}

static void expect_backlog(struct world *w, struct guest *d, const char *id, const char *filter, int n)
{
	size_t had = guest_count(d), live = world_events(w, "live", id);

	guest_connect(d);
	guest_subscribe(d, filter, 1);
	world_wait_event(w, "live", id, live + 1);
	guest_settle(d);
	assert_int_equal(guest_count(d) - had, n);
	guest_disconnect(d);
}

/* Absent; live when the broker was killed; with a cursor not yet resolved ("last=3"); with a grant that covers less than
 * the subscription. */
static void test_backlog_is_what_comes(void **state)
{
	struct scene *s = *state;
	struct world w;
	struct guest *p, *absent, *crashed, *last;

	world_start(&w, s, "mirror a/# stream a:%t\nmirror b/# list b\nredeliver a/1 overlap=0\nredeliver b/# overlap=0\n"
		"redeliver a/last overlap=0 new=last=3\n", WORLD_BRIDGE);
	p = guest_join(&w, "publisher", NULL);
	publish(&w, p, "a/last", 0, 5);
	absent = visitor(&w, "absent", "+/1");
	crashed = guest_join(&w, "crashed", NULL);
	guest_subscribe(crashed, "+/1", 1);
	world_wait_event(&w, "live", "crashed", 1);
	publish(&w, p, "a/1", 0, 10);
	store_wait_stream(w.db, "a:a/1", 10, WAIT_MS);
	server_kill(w.broker);
	server_kill(w.bridge);
	server_start(w.broker);
	p = guest_join(&w, "publisher-2", NULL);
	publish(&w, p, "a/1", 10, 4);
	publish(&w, p, "a/2", 0, 2); /* granted to nobody */
	publish(&w, p, "b/1", 0, 3);
	last = guest_join(&w, "last", NULL); /* without a bridge it stays owed */
	guest_subscribe(last, "a/last", 1);
	world_wait_event(&w, "subscribed", "last", 1);
	guest_disconnect(last);
	world_wait_event(&w, "gone", "last", 1);

	assert_int_equal(backlog_of(&w, "absent"), 17);
	assert_int_equal(backlog_of(&w, "crashed"), 7);
	assert_int_equal(backlog_of(&w, "last"), 3);
	size_t log = server_log_size(w.broker);
	server_start(w.bridge);
	world_wait_bridge(&w, log);
	expect_backlog(&w, absent, "absent", "+/1", 17);
	guest_clear(crashed);
	expect_backlog(&w, crashed, "crashed", "+/1", 7);
	expect_backlog(&w, last, "last", "a/last", 3);
	scene_end(s);
}

/* --- moving ---------------------------------------------------------------------------------------------------- */

static void test_rewind_and_purge(void **state)
{
	struct scene *s = *state;
	struct world w;
	struct guest *p, *d;
	const char *out, *third;
	const redisReply *fields;
	cJSON *json;

	world_start(&w, s, RULES, WORLD_BRIDGE);
	p = guest_join(&w, "publisher", NULL);
	d = visitor(&w, "dev", "a/#");
	publish(&w, p, "a/x", 0, 5);
	store_wait_stream(w.db, "a:a/x", 5, WAIT_MS);
	third = scene_text(s, "%s", stored_id(stored_stream(w.db, "a:a/x")->element[2]));
	expect_backlog(&w, d, "dev", "a/#", 5);
	world_wait_event(&w, "gone", "dev", 2);
	assert_int_equal(backlog_of(&w, "dev"), 0);

	/* Not without being asked, and there is nobody to ask. */
	assert_int_equal(ctl(&w, &out, "rewind", "dev", "--to", third, NULL), 2);
	assert_non_null(strstr(out, "--yes"));
	assert_int_equal(ctl(&w, &out, "purge", "dev", NULL), 2);
	assert_int_equal(backlog_of(&w, "dev"), 0);

	assert_int_equal(ctl(&w, &out, "rewind", "dev", "--to", third, "--yes", "--json", NULL), 0);
	json = parsed(out);
	assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(json, "filters")), 1);
	cJSON_Delete(json);
	assert_int_equal(backlog_of(&w, "dev"), 3);
	guest_clear(d);
	expect_backlog(&w, d, "dev", "a/#", 3);
	assert_string_equal(guest_message(d, 0).payload, "2");
	world_wait_event(&w, "gone", "dev", 3);
	assert_int_equal(ctl(&w, &out, "rewind", "dev", "--to", "-1h", "--yes", NULL), 0);
	assert_int_equal(backlog_of(&w, "dev"), 5);
	/* What a crash of the broker would have meant, what other nodes have given and what was taken back is void with the cursors. */
	(void)store_query(w.db, "HSET", "mqtt:session:dev", "b@test a/#", third, "kept@test", "0-1", "g@test a/#", "1-0 9-0 1-0 n",
		"u@test b", "1-0 9-0+7-0:10-0", "left@test", "5-0", NULL);
	assert_int_equal(ctl(&w, &out, "purge", "dev", "--yes", NULL), 0);
	fields = store_query(w.db, "HKEYS", "mqtt:session:dev", NULL);
	for (size_t i = 0; i < fields->elements; i++) scene_require(!strchr("bgklu", fields->element[i]->str[0]) || strcmp(
		fields->element[i]->str, "user") == 0, "%s is still there", fields->element[i]->str);
	assert_int_equal(backlog_of(&w, "dev"), 0);
	expect_backlog(&w, d, "dev", "a/#", 0);
	world_wait_event(&w, "gone", "dev", 4);

	guest_connect(d);
	guest_subscribe(d, "a/#", 1);
	world_wait_event(&w, "live", "dev", 5);
	assert_int_equal(ctl(&w, &out, "rewind", "dev", "--to", "0-0", "--yes", NULL), 1);
	assert_non_null(strstr(out, "connected"));
	assert_int_equal(ctl(&w, &out, "purge", "dev", "--yes", NULL), 1);
	assert_int_equal(ctl(&w, &out, "purge", "nobody", "--yes", NULL), 1);
	scene_end(s);
}

/* A client id that Redis would take for a pattern of another one means itself alone. */
static void test_names_are_no_patterns(void **state)
{
	static const char *const ids[] = {"dev-1", "dev-*", "dev-[1]"};
	enum { IDS = 3, ALL = 7 };
	struct scene *s = *state;
	struct world w;
	struct guest *p, *d[IDS];
	const char *out;

	world_start(&w, s, RULES, WORLD_BRIDGE);
	p = guest_join(&w, "publisher", NULL);
	for (int i = 0; i < IDS; i++) {
		publish(&w, p, "a/x", i * (i + 1) / 2, i + 1);
		store_wait_stream(w.db, "a:a/x", (i + 1) * (i + 2) / 2, WAIT_MS);
		d[i] = visitor(&w, ids[i], "a/#");
		guest_clear(d[i]);
	}
	publish(&w, p, "a/x", ALL - 1, 1);
	store_wait_stream(w.db, "a:a/x", ALL, WAIT_MS);
	assert_int_equal(backlog_of(&w, "dev-1"), 6);
	assert_int_equal(backlog_of(&w, "dev-*"), 4);
	assert_int_equal(backlog_of(&w, "dev-[1]"), 1);
	for (int i = 1; i < IDS; i++) {
		assert_int_equal(ctl(&w, &out, "purge", ids[i], "--yes", NULL), 0);
		assert_int_equal(backlog_of(&w, ids[i]), 0);
		assert_int_equal(backlog_of(&w, "dev-1"), 6);
		assert_int_equal(ctl(&w, &out, "rewind", ids[i], "--to", "0-0", "--yes", NULL), 0);
		assert_int_equal(backlog_of(&w, ids[i]), ALL);
		assert_int_equal(backlog_of(&w, "dev-1"), 6);
	}
	assert_int_equal(ctl(&w, &out, "purge", "dev-?", "--yes", NULL), 1); /* nobody has that name */
	expect_backlog(&w, d[0], "dev-1", "a/#", 6);
	expect_backlog(&w, d[1], "dev-*", "a/#", ALL);
	expect_backlog(&w, d[2], "dev-[1]", "a/#", ALL);
	scene_end(s);
}

/* A device that was live when the broker was killed: what the plugin would make of that at its return is void. While
 * it catches up without a bridge, it is here although it is not live. */
static void test_rewind_after_a_crash(void **state)
{
	struct scene *s = *state;
	struct world w;
	struct guest *p, *d;
	const char *out;

	world_start(&w, s, RULES, WORLD_BRIDGE);
	p = guest_join(&w, "publisher", NULL);
	d = guest_join(&w, "dev", NULL);
	guest_subscribe(d, "a/#", 1);
	world_wait_event(&w, "live", "dev", 1);
	publish(&w, p, "a/x", 0, 5);
	store_wait_stream(w.db, "a:a/x", 5, WAIT_MS);
	server_kill(w.broker);
	assert_int_equal(ctl(&w, &out, "rewind", "dev", "--to", "0-0", "--yes", NULL), 1); /* it may be live, for all Redis knows */
	server_stop(w.bridge);
	server_start(w.broker);
	wait_until(store_stream_len(w.db, "mqtt:events:test") > 0
		&& store_integer(w.db, "HLEN", "mqtt:boots:test", NULL) > 0, WAIT_MS, "the new run in Redis");
	assert_int_equal(backlog_of(&w, "dev"), 0);
	assert_int_equal(ctl(&w, &out, "rewind", "dev", "--to", "0-0", "--yes", NULL), 0);
	assert_int_equal(backlog_of(&w, "dev"), 5);

	guest_clear(d);
	guest_connect(d);
	guest_subscribe(d, "a/#", 1);
	world_wait_event(&w, "subscribed", "dev", 2);
	assert_int_equal(ctl(&w, &out, "sessions", "dev", NULL), 0);
	assert_non_null(strstr(out, "catching up"));
	assert_int_equal(ctl(&w, &out, "purge", "dev", "--yes", NULL), 1);
	guest_disconnect(d);
	world_wait_event(&w, "gone", "dev", 1);
	size_t log = server_log_size(w.broker);
	server_start(w.bridge);
	world_wait_bridge(&w, log);
	expect_backlog(&w, d, "dev", "a/#", 5);
	scene_end(s);
}

/* --- following ------------------------------------------------------------------------------------------------- */

struct follower {
	struct scene *scene;
	pid_t pid;
	const char *out;
};

static struct follower follow(struct world *w, const char *command, const char *more, const char *since)
{
	static unsigned count;
	struct follower f = {.scene = w->scene, .out = scene_path(w->scene, scene_text(w->scene, "follow-%u", count++))};
	char *const argv[] = {(char *)(uintptr_t)CTL_PROGRAM, (char *)(uintptr_t)"-c", (char *)(uintptr_t)w->settings,
		(char *)(uintptr_t)command, (char *)(uintptr_t)"--json", (char *)(uintptr_t)more,
		(char *)(uintptr_t)(since ? "--since" : NULL), (char *)(uintptr_t)since, NULL};

	f.pid = fork();
	assert_true(f.pid >= 0);
	if (f.pid == 0) {
		int fd = open(f.out, O_WRONLY | O_CREAT | O_TRUNC, 0600);

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)close(0); /* as some services start programs */
		if (fd < 0 || dup2(fd, 1) < 0) _exit(127);
		execv(argv[0], argv);
		_exit(127);
	}
	return f;
}

static size_t lines(const struct follower *f, const char *with)
{
	const char *all = scene_read(f->scene, f->out, NULL), *p = all;
	size_t n = 0;

	while (p && (p = strstr(p, with)) != NULL) {
		n++;
		p++;
	}
	return n;
}

static void unfollow(struct follower *f)
{
	int status;

	assert_int_equal(kill(f->pid, SIGINT), 0);
	assert_int_equal(waitpid(f->pid, &status, 0), f->pid);
	scene_require(WIFEXITED(status), "%s ended by signal %d: %s", f->out, WTERMSIG(status), scene_read(f->scene, f->out, NULL));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_following(void **state)
{
	struct scene *s = *state;
	struct world w;
	struct guest *p;
	struct follower all, some, top;
	const char *out;

	world_start(&w, s, RULES, 0);
	p = guest_join(&w, "publisher", NULL);
	guest_publish(p, "a/0", "before", 1);
	store_wait_stream(w.db, "a:a/0", 1, WAIT_MS);
	all = follow(&w, "tail", "#", "1h");
	some = follow(&w, "tail", "b/+", NULL);
	top = follow(&w, "top", NULL, NULL);
	wait_until(lines(&all, "\"before\"") == 1, WAIT_MS, "what was there already");
	wait_until((guest_publish(p, "b/hello", "is it here", 1), lines(&some, "is it here") > 0), WAIT_MS, "a follower");
	for (int i = 0; i < 200; i++) guest_publish(p, i % 2 ? "a/1" : "b/1", scene_text(s, "<%d>", i), 1);
	guest_publish(p, "b/end", "the end", 1);
	wait_until(lines(&all, "the end") == 1 && lines(&some, "the end") == 1, WAIT_MS, "the last message");
	for (int i = 0; i < 200; i++) {
		assert_int_equal(lines(&all, scene_text(s, "\"<%d>\"", i)), 1);
		assert_int_equal(lines(&some, scene_text(s, "\"<%d>\"", i)), i % 2 ? 0 : 1);
	}
	assert_int_equal(lines(&some, "before"), 0);
	wait_until(lines(&top, "\"per_second\"") > 2 && !strstr(scene_read(s, top.out, NULL), "\"in\":0,\"stored\":0,\"queued\":0}"),
		WAIT_MS, "lines of top");
	unfollow(&all);
	unfollow(&some);
	unfollow(&top);
	out = scene_read(s, all.out, NULL);
	for (char *line = strtok((char *)(uintptr_t)out, "\n"); line; line = strtok(NULL, "\n")) cJSON_Delete(parsed(line));
	scene_end(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_looking),
		scene_test(test_backlog_is_what_comes),
		scene_test(test_rewind_and_purge),
		scene_test(test_names_are_no_patterns),
		scene_test(test_rewind_after_a_crash),
		scene_test(test_following),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
