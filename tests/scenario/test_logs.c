/*
 * What the logs say, and what they must not: no password, token or payload, whatever goes wrong; no control character that
 * somebody sent; one line at the start that says what is promised; levels, and the form that systemd's journal wants.
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
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "config/control.h"
#include "tests/harness/guest.h"
#include "tests/harness/store.h"

#define WAIT_MS 60000
#define REDIS_PASSWORD "redis-Secret-3141"
#define BROKER_PASSWORD "broker-Secret-2718"
#define WRONG_PASSWORD "wrong-Secret-1618"
#define PAYLOAD "payload-Secret-1414"
#define HOSTILE "\x1b]0;owned\x07\r\n<0>fake line"

static void assert_silent(struct scene *s, struct server *v, const char *secret, const char *what)
{
	size_t len;
	const char *log = scene_read(s, server_log_path(v), &len);

	assert_non_null(log);
	scene_require(len > 0 && !memmem(log, len, secret, strlen(secret)), "%s holds the %s", server_log_path(v), what);
}

static void assert_plain(struct scene *s, struct server *v)
{
	size_t len;
	const unsigned char *log = (const unsigned char *)scene_read(s, server_log_path(v), &len);

	for (size_t i = 0; i < len; i++)
		scene_require((log[i] >= 0x20 && log[i] != 0x7f) || log[i] == '\n' || log[i] == '\t', "%s: a control character (%02x)",
			server_log_path(v), log[i]);
}

static void settings_become(struct world *w, const char *user, const char *lines)
{
	struct scene *s = w->scene;

	(void)scene_write(s, "fresh.conf", scene_text(s, "redis_url redis://127.0.0.1:%u/0\njournal %s/journal\njournal_size 4M\n"
		"node test\nbroker_url mqtt://127.0.0.1:%u\nlisten none\nredis_username %s\nredis_password_file %s/redis.password\n"
		"broker_username bridge\nbroker_password_file %s/broker.password\n%s", server_port(w->redis), scene_dir(s),
		server_port(w->broker), user, scene_dir(s), scene_dir(s), lines));
	assert_int_equal(rename(scene_path(s, "fresh.conf"), w->settings), 0);
}

/* Redis with a user, and a broker with passwords. Returns the bridge's token. */
static const char *world_with_secrets(struct world *w, struct scene *s)
{
	const char *token, *out, *passwords = scene_path(s, "passwords");
	const char *const argv[] = {"sh", "-c", scene_text(s,
		"touch %s && chmod 700 %s && mosquitto_passwd -b %s bridge %s && mosquitto_passwd -b %s pub %s", passwords,
		passwords, passwords, BROKER_PASSWORD, passwords, BROKER_PASSWORD), NULL};

	assert_int_equal(program_run(s, argv, WAIT_MS, &out), 0);
	(void)scene_write(s, "redis.password", REDIS_PASSWORD "\n");
	(void)scene_write(s, "broker.password", BROKER_PASSWORD "\n");
	world_start_with(w, s, "", scene_text(s, "allow_anonymous true\npassword_file %s\n", passwords), WORLD_BRIDGE | WORLD_NO_START | WORLD_ADMIN);
	settings_become(w, "mqtt", "mirror a/# stream a:%t\nmirror wrong/# stream wrong\nredeliver a/#\n");
	server_start(w->redis);
	w->db = store_open(w->redis);
	(void)store_query(w->db, "ACL", "SETUSER", "mqtt", "on", ">" REDIS_PASSWORD, "~*", "&*", "+@all", NULL);
	(void)store_query(w->db, "SET", "wrong", "a string", NULL);
	server_start(w->broker);
	server_start(w->bridge);
	world_wait_bridge(w, 0);
	token = scene_text(s, "%s", store_query(w->db, "GET", "mqtt:token:test", NULL)->str);
	assert_true(strlen(token) >= 16);
	return token;
}

/* A dead letter, an event that is none, a forger. Returns who published. */
static struct guest *hostile_messages(struct world *w)
{
	struct guest *p = guest_join(w, "publisher", &(struct guest_options){.user = "pub", .password = BROKER_PASSWORD}), *forger;
	struct buf packet = {0};

	guest_publish(p, "a/x", PAYLOAD, 1);
	guest_publish(p, "wrong/x", PAYLOAD, 1);
	store_wait_stream(w->db, "mqtt:dead", 1, WAIT_MS);
	(void)store_query(w->db, "XADD", "mqtt:events:test", "*", "op", HOSTILE, "client", HOSTILE, NULL);
	forger = guest_join(w, "forger", NULL);
	control_hello(&packet, 1, slice_str(WRONG_PASSWORD));
	(void)guest_send(forger, CONTROL_TOPIC, packet.data, packet.len, 0, false, 0);
	buf_free(&packet);
	server_log_wait(w->broker, 0, "control: refused", WAIT_MS);
	return p;
}

/* Settings and a file that are wrong, and a Redis that goes and does not let them in again until the file is right. */
static void wrong_passwords(struct world *w, struct guest *p)
{
	struct scene *s = w->scene;

	(void)scene_write(s, "redis.password", WRONG_PASSWORD "\n");
	settings_become(w, "mqtt", "redis_password " REDIS_PASSWORD " " BROKER_PASSWORD "\nredis_url redis://mqtt:" WRONG_PASSWORD "@127.0.0.1/0\n");
	server_signal(w->broker, SIGHUP);
	server_signal(w->bridge, SIGHUP);
	server_log_wait(w->broker, 0, "settings: not changed", WAIT_MS);
	server_log_wait(w->bridge, 0, "settings: not changed", WAIT_MS);
	(void)store_query(w->db, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes", NULL);
	server_log_wait(w->broker, 0, "WRONGPASS", WAIT_MS);
	server_log_wait(w->bridge, 0, "WRONGPASS", WAIT_MS);
	guest_publish(p, "a/x", PAYLOAD, 1);
	(void)scene_write(s, "redis.password", REDIS_PASSWORD "\n");
	store_wait_stream(w->db, "a:a/x", 2, WAIT_MS);
}

/* Everything that makes lines: wrong keys and types, a forger, a dead letter, a wrong file, a Redis that goes. */
static void test_no_secrets(void **state)
{
	struct scene *s = *state;
	struct world w;
	const char *token = world_with_secrets(&w, s);

	wrong_passwords(&w, hostile_messages(&w));
	server_stop(w.bridge);
	server_stop(w.broker);

	struct server *const servers[] = {w.broker, w.bridge};
	for (size_t i = 0; i < 2; i++) {
		assert_silent(s, servers[i], REDIS_PASSWORD, "password for Redis");
		assert_silent(s, servers[i], BROKER_PASSWORD, "password for the broker");
		assert_silent(s, servers[i], WRONG_PASSWORD, "wrong password");
		assert_silent(s, servers[i], PAYLOAD, "payload");
		assert_silent(s, servers[i], token, "token");
		assert_plain(s, servers[i]);
	}
	scene_end(s);
}

/* --- the form -------------------------------------------------------------------------------------------------- */

/* Starts the bridge with its stderr in a file and an environment as systemd's; stops it when `until` was logged. */
static const char *bridge_log(struct world *w, const char *option, bool journal, bool right, const char *until)
{
	static unsigned runs;
	const char *path = scene_path(w->scene, scene_text(w->scene, "by-hand-%u.log", runs++)), *text;
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		char stream[64];
		struct stat st;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (fd < 0 || fstat(fd, &st) != 0 || dup2(fd, 2) < 0) _exit(127);
		snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino + !right);
		if (journal) setenv("JOURNAL_STREAM", stream, 1);
		else unsetenv("JOURNAL_STREAM");
		execl(BRIDGE_PROGRAM, BRIDGE_PROGRAM, "-c", w->settings, option, (char *)NULL);
		_exit(127);
	}
	wait_until((text = scene_read(w->scene, path, NULL)) != NULL && strstr(text, until), WAIT_MS, until);
	assert_int_equal(kill(pid, SIGTERM), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	return scene_read(w->scene, path, NULL);
}

static void test_the_form(void **state)
{
	struct scene *s = *state;
	struct world w;
	const char *text;

	world_start(&w, s, "mirror a/# stream a\nmirror b/# list b durability=fsync\nmirror c/# list c\nredeliver a/#\n"
		"journal_full drop-old\n", 0);
	server_log_wait(w.broker, 0, "version ", WAIT_MS);
	server_log_wait(w.broker, 0, " starts: node test, redis redis://127.0.0.1:", WAIT_MS);
	server_log_wait(w.broker, 0, "; 3 mirror rules (durability journal 2, fsync 1), 1 grants, journal_full drop-old, redis_confirm reply",
		WAIT_MS);

	text = bridge_log(&w, NULL, true, true, "broker mqtt://");
	for (const char *line = text; *line; line = strchr(line, '\n') + 1)
		scene_require(line[0] == '<' && line[1] >= '3' && line[1] <= '7' && line[2] == '>', "not for the journal: %s", line);
	assert_non_null(strstr(text, "<5>mosquitto-redis-bridge "));
	assert_non_null(strstr(text, " starts: node test, redis redis://127.0.0.1:"));
	text = bridge_log(&w, NULL, true, false, "broker mqtt://"); /* the variable was inherited, the journal is not there */
	for (const char *line = text; *line; line = strchr(line, '\n') + 1)
		scene_require(line[0] == '2' && line[4] == '-' && line[10] == 'T' && line[19] == 'Z', "no time: %s", line);
	assert_non_null(strstr(text, " notice mosquitto-redis-bridge "));
	server_stop(w.redis);
	text = bridge_log(&w, "-q", false, false, "redis ");
	assert_null(strstr(text, " notice "));
	assert_non_null(strstr(text, " warning "));
	scene_end(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_no_secrets),
		scene_test(test_the_form),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
