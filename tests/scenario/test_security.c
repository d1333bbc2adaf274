/*
 * What a device, whoever can write to Redis, and another user of the machine must not be able to do: the README's section
 * on security, as far as no other test has it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "config/control.h"
#include "tests/harness/guest.h"
#include "tests/harness/store.h"

#define WAIT_MS 60000
#define SECRET "the-Password-of-Redis-8128"

/* --- a device -------------------------------------------------------------------------------------------------- */

/* Names that would be wildcards, several levels, or a pattern of Redis, where a grant has %c or %u. */
static void test_names_as_wildcards(void **state)
{
	static const char *const names[] = {"+", "#", "victim/#", "vic*", "[v]ictim", "victim/", "%c"};
	enum { NAMES = sizeof(names) / sizeof(names[0]) };
	struct scene *s = *state;
	struct world w;
	struct guest *evil[2 * NAMES];

	world_start(&w, s, "mirror cmd/# stream s:%t\nredeliver cmd/%c/#\nredeliver cmd/%u/#\n", WORLD_BRIDGE);
	struct guest *victim = guest_join(&w, "victim", NULL), *boss = guest_join(&w, "boss", NULL);
	guest_subscribe(victim, "cmd/victim/#", 1);
	world_wait_event(&w, "live", "victim", 1);
	for (int i = 0; i < 2 * NAMES; i++) {
		struct guest_options o = {.user = i < NAMES ? "anybody" : names[i - NAMES], .password = "x"};
		evil[i] = guest_new(&w, i < NAMES ? names[i] : scene_text(s, "evil %d", i), &o);
		if (guest_connect_code(evil[i]) != 0) { /* a name that the broker does not take */
			evil[i] = NULL;
			continue;
		}
		(void)guest_subscribe_code(evil[i], "cmd/victim/#", 1);
		(void)guest_subscribe_code(evil[i], "cmd/+/#", 1);
		guest_disconnect(evil[i]);
		guest_clear(evil[i]);
	}
	guest_disconnect(victim);
	world_wait_event(&w, "gone", "victim", 1);
	guest_publish(boss, "cmd/victim/do", "secret", 1);
	store_wait_stream(w.db, "s:cmd/victim/do", 1, WAIT_MS);
	for (int i = 0; i < 2 * NAMES; i++) {
		if (!evil[i]) continue;
		guest_connect(evil[i]);
		guest_subscribe(evil[i], "cmd/victim/#", 1);
		guest_subscribe(evil[i], "cmd/+/#", 1);
	}
	guest_connect(victim);
	guest_subscribe(victim, "cmd/victim/#", 1);
	guest_wait(victim, 1, WAIT_MS);
	assert_string_equal(guest_message(victim, 0).payload, "secret");
	guest_publish(boss, "cmd/other/do", "end", 1);
	for (int i = 0; i < 2 * NAMES; i++) {
		if (!evil[i]) continue;
		guest_wait(evil[i], 1, WAIT_MS);
		for (size_t k = 0; k < guest_count(evil[i]); k++)
			assert_string_equal(guest_message(evil[i], k).payload, "end");
	}
	scene_end(s);
}

/* Topics and client ids that would lead a template to a key of ours. What stands there is as it was. */
static void test_keys_of_ours(void **state)
{
	static const char *const own[] = {"token:test", "mark:test", "lock:test", "fence:test", "session:victim", "sessions", "index",
		"events:test", "boots:test", "status:test", "requests:test", "delayed:push", "outbox:processing:test:push", "dead"};
	enum { OWN = sizeof(own) / sizeof(own[0]) };
	struct scene *s = *state;
	struct world w;

	world_start(&w, s, "mirror t/+/+ stream %2:%3\nmirror c/# stream %c\nmirror l/+/+ list %2:%3 format=raw\n", WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "publisher", NULL);
	const char *token = scene_text(s, "%s", store_query(w.db, "GET", "mqtt:token:test", NULL)->str);
	for (size_t i = 0; i < OWN; i++) {
		struct guest *q = guest_join(&w, scene_text(s, "mqtt:%s", own[i]), NULL);
		guest_publish(p, scene_text(s, "t/mqtt/%s", own[i]), "x", 1);
		guest_publish(p, scene_text(s, "l/mqtt/%s", own[i]), "x", 1);
		guest_publish(q, "c/x", "x", 1);
	}
	guest_publish(p, "t/mine/key", "x", 1);
	store_wait_stream(w.db, "mine:key", 1, WAIT_MS);
	store_wait_stream(w.db, "mqtt:dead", 3 * OWN, WAIT_MS);
	assert_string_equal(store_query(w.db, "GET", "mqtt:token:test", NULL)->str, token);
	assert_int_equal(store_query(w.db, "EXISTS", "mqtt:session:victim", "mqtt:delayed:push", "mqtt:outbox:processing:test:push",
		NULL)->integer, 0);
	const redisReply *dead = stored_stream(w.db, "mqtt:dead");
	for (size_t i = 0; i < dead->elements; i++) assert_non_null(stored_field(dead->element[i], "error"));
	scene_end(s);
}

/* The longest topics, and properties that only we are to give. */
static void test_what_a_publisher_sends(void **state)
{
	struct scene *s = *state;
	struct world w;
	char *topic = malloc(65536);
	mosquitto_property *forged = NULL;

	assert_non_null(topic);
	memset(topic, 'x', 65535);
	memcpy(topic, "a/", 2);
	topic[60000] = 0;
	world_start(&w, s, "mirror a/# stream one\nredeliver a/#\n", WORLD_BRIDGE);
	struct guest *d = guest_join(&w, "device", &(struct guest_options){.v5 = true}), *p = guest_join(&w, "publisher",
		&(struct guest_options){.v5 = true});
	guest_subscribe(d, "a/#", 1);
	world_wait_event(&w, "live", "device", 1);
	guest_disconnect(d);
	world_wait_event(&w, "gone", "device", 1);
	guest_publish(p, topic, "long", 1);
	assert_int_equal(mosquitto_property_add_string_pair(&forged, MQTT_PROP_USER_PROPERTY, "redis-id",
		"99999999999999-0"), MOSQ_ERR_SUCCESS);
	assert_int_equal(mosquitto_property_add_string_pair(&forged, MQTT_PROP_USER_PROPERTY, "redelivered", "no"), MOSQ_ERR_SUCCESS);
	guest_publish_bytes(p, "a/forged", "forged", 6, 1, false, forged);
	mosquitto_property_free_all(&forged);
	guest_publish(p, "a/last", "last", 1);
	store_wait_stream(w.db, "one", 3, WAIT_MS);
	guest_connect(d);
	guest_subscribe(d, "a/#", 1);
	guest_expect(d, 0, "long", "forged", "last", NULL);
	struct received r = guest_message(d, 0);
	assert_string_equal(r.topic, topic);
	/* Ours is the last of that name. */
	r = guest_message(d, 1);
	assert_string_equal(received_user_property(s, &r, "redis-id", 0), "99999999999999-0");
	assert_string_equal(received_user_property(s, &r, "redis-id", 1), stored_id(stored_stream(w.db, "one")->element[1]));
	assert_null(received_user_property(s, &r, "redis-id", 2));
	assert_string_equal(received_user_property(s, &r, "redelivered", 0), "no");
	assert_string_equal(received_user_property(s, &r, "redelivered", 1), "1");
	assert_null(received_user_property(s, &r, "redelivered", 2));
	/* The forged id moved nothing: what comes now is told from what was given. */
	guest_publish(p, "a/now", "now", 1);
	guest_expect(d, 3, "now", NULL);
	guest_disconnect(d);
	world_wait_event(&w, "gone", "device", 2);
	guest_publish(p, "a/later", "later", 1);
	store_wait_stream(w.db, "one", 5, WAIT_MS);
	guest_connect(d);
	guest_subscribe(d, "a/#", 1);
	wait_until(guest_count(d) > 4 && strcmp(guest_message(d, guest_count(d) - 1).payload, "later") == 0, WAIT_MS, "the last one");
	free(topic);
	scene_end(s);
}

static void send_control(struct guest *p, struct buf *packet)
{
	if (!guest_connected(p)) guest_connect(p);
	assert_false(packet->failed);
	(void)guest_send(p, CONTROL_TOPIC, packet->data, packet->len, 0, false, 0);
}

/* The token lives as long as the broker; who takes the bridge's client id has not shown it; and only the outbox's connection may
 * speak of itself without. */
static void test_the_token(void **state)
{
	struct scene *s = *state;
	struct world w;
	struct buf packet = {0};
	size_t from;

	world_start(&w, s, "mirror a/# stream s:%t\nredeliver a/#\n", WORLD_BRIDGE);
	const char *first = scene_text(s, "%s", store_query(w.db, "GET", "mqtt:token:test", NULL)->str);
	server_stop(w.bridge);
	server_restart(w.broker);
	wait_until(strcmp(store_query(w.db, "GET", "mqtt:token:test", NULL)->str, first) != 0, WAIT_MS, "another token");
	struct guest *forger = guest_join(&w, "forger", NULL);
	from = server_log_size(w.broker);
	control_hello(&packet, UINT64_MAX, slice_str(first));
	send_control(forger, &packet);
	server_log_wait(w.broker, from, "wrong token", WAIT_MS);
	server_start(w.bridge);
	world_wait_bridge(&w, from);
	/* In the bridge's place, which must not take it back. */
	server_pause(w.bridge);
	struct guest *heir = guest_join(&w, "mosquitto-redis-bridge-test", NULL);
	control_switch(&packet, slice_str("victim"), (struct entry_id){1, 1}, 1, (struct entry_id){1, 1});
	send_control(heir, &packet);
	wait_until(!guest_connected(heir), WAIT_MS, "its end");
	server_continue(w.bridge);
	control_outbox(&packet);
	send_control(forger, &packet);
	wait_until(!guest_connected(forger), WAIT_MS, "its end");
	buf_free(&packet);
	scene_end(s);
}

/* Thousands of forged commands: the log stays short, the bridge's work goes on. */
static void test_flood(void **state)
{
	enum { FLOOD = 2000 };
	struct scene *s = *state;
	struct world w;
	unsigned lines = 0;
	uint64_t began = now_ms();

	world_start(&w, s, "mirror a/# stream s:%t\nredeliver a/#\n", WORLD_BRIDGE);
	struct guest *d = guest_join(&w, "device", NULL), *forger = guest_join(&w, "forger", NULL);
	for (int i = 0; i < FLOOD; i++) {
		if (!guest_connected(forger) && guest_connect_code(forger) != 0) break;
		(void)guest_send(forger, i % 2 ? CONTROL_TOPIC : CONTROL_TOPIC_REPLAY, "\x01\x02", 2, 0, false, 0);
		if (i % 20 == 0) guest_drop(forger);
	}
	guest_subscribe(d, "a/#", 1);
	world_wait_event(&w, "live", "device", 1);
	const char *log = scene_read(s, server_log_path(w.broker), NULL);
	for (const char *at = log; (at = strstr(at, "control: refused")) != NULL; at++) lines++;
	scene_require(lines >= 1 && lines <= 2 + (now_ms() - began) / 10000, "%u lines", lines);
	server_check_alive(w.bridge);
	scene_end(s);
}

/* --- another user of the machine ------------------------------------------------------------------------------- */

/* Is `secret` in the memory of that process? */
static bool in_memory(int pid, const char *secret)
{
	char path[64], line[512];
	FILE *maps;
	int mem;
	bool found = false;

	(void)snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	maps = fopen(path, "r");
	(void)snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	mem = open(path, O_RDONLY | O_CLOEXEC);
	scene_require(maps && mem >= 0, "the memory of process %d cannot be read", pid);
	while (!found && fgets(line, sizeof(line), maps)) {
		unsigned long from, to;
		char rights[5];

		if (sscanf(line, "%lx-%lx %4s", &from, &to, rights) != 3 || rights[0] != 'r' || strstr(line, "[v")) continue;
		char *bytes = malloc(to - from);
		scene_require(bytes, "out of memory");
		ssize_t got = pread(mem, bytes, to - from, (off_t)from);
		found = got > 0 && memmem(bytes, (size_t)got, secret, strlen(secret));
		free(bytes);
	}
	(void)fclose(maps);
	(void)close(mem);
	return found;
}

static bool in_file(int pid, const char *name, const char *secret)
{
	char path[64], bytes[65536];
	int fd;
	ssize_t got;

	(void)snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	scene_require(fd >= 0, "%s cannot be read", path);
	got = read(fd, bytes, sizeof(bytes));
	(void)close(fd);
	return got > 0 && memmem(bytes, (size_t)got, secret, strlen(secret));
}

/* Once connected, the password of Redis is in no memory, and so in no core file; it never was in a process list. */
static void test_passwords_in_memory(void **state)
{
	struct scene *s = *state;
	struct world w;

	world_start(&w, s, "", WORLD_NO_START | WORLD_BRIDGE | WORLD_ADMIN);
	server_start(w.redis);
	w.db = store_open(w.redis);
	(void)store_query(w.db, "ACL", "SETUSER", "mqtt", "on", ">" SECRET, "~*", "&*", "+@all", NULL);
	const char *file = scene_write(s, "redis.password", SECRET "\n");
	(void)scene_write(s, "mosquitto-redis.conf", scene_text(s, "redis_url redis://127.0.0.1:%u/0\njournal %s/journal\n"
		"journal_size 4M\nnode test\nbroker_url mqtt://127.0.0.1:%u\nlisten none\nredis_username mqtt\nredis_password_file %s\n"
		"mirror a/# stream s:%%t\nredeliver a/#\noutbox stream push\n", server_port(w.redis), scene_dir(s), server_port(w.broker), file));
	server_start(w.broker);
	server_start(w.bridge);
	world_wait_bridge(&w, 0);
	struct guest *d = guest_join(&w, "device", NULL);
	guest_subscribe(d, "a/#", 1);
	world_wait_event(&w, "live", "device", 1);
	(void)store_query(w.db, "XADD", "push", "*", "topic", "a/x", "payload", "x", NULL);
	guest_wait(d, 1, WAIT_MS);
	const int pids[] = {server_pid(w.broker), server_pid(w.bridge)};
	for (size_t i = 0; i < 2; i++) {
		assert_true(in_memory(pids[i], "redis://127.0.0.1")); /* that would be found */
		/* One of their connections may be about to be made. */
		wait_until(!in_memory(pids[i], SECRET), WAIT_MS, i ? "the bridge without the password" : "the broker without the password");
		assert_false(in_file(pids[i], "cmdline", SECRET));
		assert_false(in_file(pids[i], "environ", SECRET));
	}
	scene_end(s);
}

/* Of what is mapped from a file and shared nothing is in a core file (core(5), coredump_filter). */
static bool is_shared_map(struct scene *s, int pid, const char *file)
{
	const char *maps = scene_read(s, scene_text(s, "/proc/%d/maps", pid), NULL);
	unsigned found = 0;

	for (const char *line = maps; line && *line; line = strchr(line, '\n') + 1) {
		size_t len = strcspn(line, "\n");
		char rights[5];

		if (!memmem(line, len, file, strlen(file))) continue;
		if (sscanf(line, "%*s %4s", rights) != 1 || rights[3] != 's') return false;
		found++;
	}
	return found > 0;
}

static void test_files(void **state)
{
	struct scene *s = *state;
	struct world w;
	struct stat info;
	const char *file = scene_write(s, "broker.password", SECRET "\n");

	assert_int_equal(chmod(file, 0644), 0);
	world_start(&w, s, scene_text(s, "mirror a/# stream s\nbroker_username bridge\nbroker_password_file %s\n", file), WORLD_BRIDGE);
	assert_int_equal(stat(scene_path(s, "journal"), &info), 0);
	assert_int_equal(info.st_mode & 0777, 0600);
	assert_true(is_shared_map(s, server_pid(w.broker), scene_path(s, "journal")));
	server_log_wait(w.broker, 0, "can be read by every user of this machine", WAIT_MS);
	server_log_wait(w.bridge, 0, "can be read by every user of this machine", WAIT_MS);
	scene_end(s);
}

/* --- whoever can write to Redis -------------------------------------------------------------------------------- */

/* Entries that no broker let in lead nowhere: a device gets what it subscribed to and may have, and nothing that MQTT forbids. */
static void test_hostile_entries(void **state)
{
	static const char *const bad[] = {"a/+", "a/#", "", "$SYS/broker/uptime", "$CONTROL/mosquitto-redis/v1", "b/other",
		"a/\xff\xfe"};
	struct scene *s = *state;
	unsigned long long ms, seq;
	struct world w;

	world_start(&w, s, "mirror a/# stream s\nmirror b/# stream s\nredeliver a/#\noutbox stream push\n", WORLD_BRIDGE);
	struct guest *d = guest_join(&w, "device", NULL), *p = guest_join(&w, "publisher", NULL);
	guest_subscribe(d, "#", 1);
	world_wait_event(&w, "live", "device", 1);
	guest_disconnect(d);
	world_wait_event(&w, "gone", "device", 1);
	guest_publish(p, "a/1", "good 1", 1);
	store_wait_stream(w.db, "s", 1, WAIT_MS);
	/* Ids behind it, and before all that comes later. */
	assert_int_equal(sscanf(stored_id(stored_stream(w.db, "s")->element[0]), "%llu-%llu", &ms, &seq), 2);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		(void)store_query(w.db, "XADD", "s", scene_text(s, "%llu-%llu", ms, ++seq), "topic", bad[i], "payload", "bad", "qos", "1",
			"retain", "0", "client", "x", NULL);
		(void)store_query(w.db, "XADD", "push", "*", "topic", i == 5 ? "$share/x" : bad[i], "payload", "bad", NULL);
	}
	(void)store_query(w.db, "XADD", "s", scene_text(s, "%llu-%llu", ms, ++seq), "topic", "a/2", "payload", "bad", "qos", "7", NULL);
	(void)store_query(w.db, "XADD", "s", scene_text(s, "%llu-%llu", ms, ++seq), "nothing", "known", NULL);
	(void)store_query(w.db, "XADD", "s", scene_text(s, "%llu-%llu", ms, ++seq), "topic", "a/by/hand", "payload", "by hand", "qos", "1",
		"retain", "0", "client", "x", NULL);
	store_wait_stream(w.db, "mqtt:dead", sizeof(bad) / sizeof(bad[0]), WAIT_MS);
	guest_publish(p, "a/3", "good 2", 1);
	store_wait_stream(w.db, "s", 12, WAIT_MS);
	guest_connect(d);
	guest_subscribe(d, "#", 1);
	guest_publish(p, "a/4", "end", 1);
	guest_wait(d, 1, WAIT_MS);
	wait_until(strcmp(guest_message(d, guest_count(d) - 1).payload, "end") == 0, WAIT_MS, "the end");
	/* What stands between was read. */
	guest_expect(d, 0, "good 1", "by hand", "good 2", "end", NULL);
	for (size_t i = 0; i < guest_count(d); i++)
		scene_require(strcmp(guest_message(d, i).payload, "bad") != 0, "the device got an entry of topic %s", guest_message(d, i).topic);
	server_check_alive(w.broker);
	server_check_alive(w.bridge);
	scene_end(s);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_names_as_wildcards),
		scene_test(test_keys_of_ours),
		scene_test(test_what_a_publisher_sends),
		scene_test(test_the_token),
		scene_test(test_flood),
		scene_test(test_passwords_in_memory),
		scene_test(test_files),
		scene_test(test_hostile_entries),
	};

	if (argc > 1) cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
