/*
 * Owns the server processes of a scene: how each kind is configured, started, asked whether it is ready, signalled and
 * awaited. Runs on the test's thread. Must never leave a process behind, nor take a dead server for one that ended.
 */
#include "tests/harness/servers.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/harness/scene_internal.h"
#include "tests/harness/store.h"

#define START_LIMIT_MS (60000 * instrument_slowness())
#define ASK_AGAIN_MS 2000
#define STOP_LIMIT_MS (60000 * instrument_slowness())
#define ARGS_MAX 16
#define ENV_MAX 4

enum server_kind { SERVER_REDIS, SERVER_BROKER, SERVER_BRIDGE, SERVER_OTHER };

struct server {
	struct scene *scene;
	enum server_kind kind;
	const char *name, *dir, *log, *socket_path;
	const char *settings; /* a bridge's; else NULL */
	const char *argv[ARGS_MAX];
	const char *env[ENV_MAX + 1]; /* "NAME=value" */
	unsigned files;    /* descriptors it may have; 0: as many as usual */
	unsigned patience; /* times the usual limits */
	uint16_t port;
	pid_t pid;       /* 0: not running */
	size_t log_from; /* of its log, when it was started */
	bool paused;
};

/* --- processes ------------------------------------------------------------------------------------------------- */

/* `ours`: it is or holds something of this project. `env`: what is added, NULL at the end. `files`: see struct server. */
static pid_t spawn(const char *const argv[], const char *const env[], unsigned files, const char *log, bool ours)
{
	const struct rlimit limit = {files, files};
	struct instrument_command command;
	pid_t parent = getpid(), pid;
	int fd;

	scene_require(instrument_prepare(&command, argv, env, ours), "%s: too many arguments or variables", argv[0]);
	pid = fork();
	scene_require(pid >= 0, "fork: %s", strerror(errno));
	if (pid > 0) return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent) _exit(127); /* died before the line above */
	signal(SIGPIPE, SIG_DFL);
	fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0644);
	if (fd < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0) _exit(127);
	close(fd);
	close(0);
	if (open("/dev/null", O_RDONLY) != 0) _exit(127);
	if (files > 0 && setrlimit(RLIMIT_NOFILE, &limit) != 0) _exit(127);
	execvpe(command.argv[0], command.argv, command.envp);
	dprintf(2, "%s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

/* Has it ended within the time? Then *status is waitpid's. */
static bool await_end(pid_t pid, unsigned timeout_ms, int *status)
{
	uint64_t limit = now_ms() + timeout_ms;

	for (;;) {
		pid_t got = waitpid(pid, status, WNOHANG);
		if (got == pid) return true;
		scene_require(got == 0 || errno == EINTR, "waitpid: %s", strerror(errno));
		if (now_ms() > limit) return false;
		poll_pause();
	}
}

static const char *status_words(struct scene *s, int status)
{
	if (WIFSIGNALED(status)) return scene_text(s, "signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
	return scene_text(s, "exit status %d", WEXITSTATUS(status));
}

bool server_running(const struct server *v)
{
	return v->pid != 0;
}

void server_check_alive(struct server *v)
{
	int status;

	scene_require(v->pid != 0, "%s is not started", v->name);
	if (waitpid(v->pid, &status, WNOHANG) != v->pid) return;
	v->pid = 0;
	scene_fail(__FILE__, __LINE__, "%s ended by itself: %s", v->name, status_words(v->scene, status));
}

bool server_ended(struct server *v, int *status)
{
	int how;

	scene_require(v->pid != 0, "%s is not started", v->name);
	if (waitpid(v->pid, &how, WNOHANG) != v->pid) return false;
	v->pid = 0;
	scene_require(WIFEXITED(how), "%s ended by itself: %s", v->name, status_words(v->scene, how));
	*status = WEXITSTATUS(how);
	return true;
}

void server_end_now(struct server *v)
{
	int status;

	if (v->pid == 0) return;
	kill(v->pid, SIGKILL);
	(void)waitpid(v->pid, &status, 0); /* SIGKILL ends stopped processes too */
	v->pid = 0;
}

void server_check_report(struct server *v)
{
	const char *text, *report;

	if (instrument_slowness() == 1) return;
	text = scene_read(v->scene, v->log, NULL);
	report = text ? instrument_report(text) : NULL;
	scene_require(!report, "%s: %.*s", v->name, (int)strcspn(report, "\n"), report);
}

void server_free(struct server *v)
{
	server_end_now(v);
	free(v);
}

/* --- ready? ---------------------------------------------------------------------------------------------------- */

static bool redis_ready(const struct server *v)
{
	struct timeval limit = {1, 0};
	redisContext *c = redisConnectWithTimeout("127.0.0.1", v->port, limit);
	redisReply *reply = NULL;
	bool ready = false;

	if (c && !c->err && redisSetTimeout(c, limit) == REDIS_OK) {
		reply = redisCommand(c, "PING");
		ready = reply && reply->type == REDIS_REPLY_STATUS;
	}
	if (reply) freeReplyObject(reply);
	if (c) redisFree(c);
	return ready;
}

/* A whole CONNECT is answered, whatever the answer: the port alone is open before the plugins are loaded. */
static bool broker_ready(const struct server *v)
{
	static const unsigned char hello[] = {0x10, 17, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, 5, 'p',
		'r', 'o', 'b', 'e'};
	static const unsigned char goodbye[] = {0xe0, 0};
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(v->port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct timeval limit = {1, 0};
	unsigned char answer[4] = {0};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool ready = false;

	if (fd < 0) return false;
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)); /* asked again anyway */
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
		write(fd, hello, sizeof(hello)) == (ssize_t)sizeof(hello) &&
		recv(fd, answer, sizeof(answer), MSG_WAITALL) == (ssize_t)sizeof(answer) && answer[0] == 0x20) {
		ready = true;
		(void)!write(fd, goodbye, sizeof(goodbye)); /* closing says the same */
	}
	close(fd);
	return ready;
}

static bool server_ready(struct server *v)
{
	switch (v->kind) {
	case SERVER_REDIS: return redis_ready(v);
	case SERVER_BROKER: return broker_ready(v);
	case SERVER_BRIDGE: return true;
	case SERVER_OTHER: return true;
	}
	return false;
}

/* --- verbs ----------------------------------------------------------------------------------------------------- */

/* The default port is everybody's: a test that runs beside would take it away. */
static void check_listens(const struct server *v)
{
	const char *text = v->settings ? scene_read(v->scene, v->settings, NULL) : NULL;

	scene_require(!text || strstr(text, "listen "), "%s: its settings do not say where to listen, or `listen none`", v->name);
}

void server_begin(struct server *v)
{
	scene_require(v->pid == 0, "%s runs already", v->name);
	check_listens(v);
	v->paused = false;
	v->log_from = server_log_size(v);
	v->pid = spawn(v->argv, v->env, v->files, v->log, v->kind == SERVER_BROKER || v->kind == SERVER_BRIDGE);
}

/* Redis 7.0, killed within a transaction and again while it rewrites its append-only file, repairs a file that is not the
 * last one and ends; the next start succeeds. Service managers start it again (Restart=always in Debian's unit), and so
 * does this: once. And a child that was rewriting the file when Redis was killed has its port for a moment longer. */
static bool started_again(struct server *v)
{
	int status;

	if (waitpid(v->pid, &status, WNOHANG) != v->pid) return false;
	v->pid = 0;
	if (server_log_has(v, v->log_from, "Address already in use")) {
		server_begin(v);
		return false;
	}
	scene_require(server_log_has(v, v->log_from, "the truncated file is not the last file"), "%s ended by itself: %s", v->name,
		status_words(v->scene, status));
	printf("%s repaired its append-only file and is started again\n", v->name);
	server_begin(v);
	return true;
}

void server_await(struct server *v)
{
	uint64_t limit = now_ms() + (uint64_t)START_LIMIT_MS * v->patience;
	bool again = false;

	while (!server_ready(v)) {
		if (again || v->kind != SERVER_REDIS) server_check_alive(v);
		else again = started_again(v);
		scene_require(now_ms() < limit, "%s did not get ready", v->name);
		poll_pause();
	}
	server_check_alive(v);
}

void server_start(struct server *v)
{
	server_begin(v);
	server_await(v);
}

bool server_start_or_end(struct server *v, int *status)
{
	server_begin(v);
	uint64_t limit = now_ms() + (uint64_t)START_LIMIT_MS * v->patience;
	while (!server_ready(v)) {
		if (server_ended(v, status)) return false;
		scene_require(now_ms() < limit, "%s neither got ready nor ended", v->name);
		poll_pause();
	}
	return !server_ended(v, status);
}

int server_start_refused(struct server *v)
{
	int status;

	server_begin(v);
	scene_require(await_end(v->pid, START_LIMIT_MS, &status), "%s did not refuse to start", v->name);
	v->pid = 0;
	scene_require(WIFEXITED(status) && WEXITSTATUS(status) != 0, "%s: %s instead of a refusal", v->name,
		status_words(v->scene, status));
	return WEXITSTATUS(status);
}

/* What Redis has refused to the users of config/redis-users.conf, for want of rights, since it started. */
static void check_rights(struct server *v)
{
	struct timeval limit = {5, 0};
	redisContext *c = redisConnectWithTimeout("127.0.0.1", v->port, limit);
	redisReply *log = c && !c->err && redisSetTimeout(c, limit) == REDIS_OK ? redisCommand(c, "ACL LOG") : NULL;
	char what[512] = "";

	/* No answer (its port is closed, its default user has a password now): nothing can be said. */
	for (size_t i = 0; log && log->type == REDIS_REPLY_ARRAY && i < log->elements; i++) {
		const redisReply *entry = log->element[i];
		const char *reason = NULL, *object = NULL, *user = NULL;
		for (size_t f = 0; f + 1 < entry->elements; f += 2) {
			const char *name = entry->element[f]->str, *value = entry->element[f + 1]->str;
			if (strcmp(name, "reason") == 0) reason = value;
			else if (strcmp(name, "object") == 0) object = value;
			else if (strcmp(name, "username") == 0) user = value;
		}
		if (!user || !reason || strncmp(user, "mosquitto-redis-", 16) != 0 || strcmp(reason, "auth") == 0) continue;
		(void)snprintf(what, sizeof(what), "%s: %s %s", user, reason, object ? object : "?");
	}
	if (log) freeReplyObject(log);
	if (c) redisFree(c);
	scene_require(!what[0], "a user of config/redis-users.conf lacks a right: %s", what);
}

void server_stop(struct server *v)
{
	int status;

	server_check_alive(v);
	if (v->paused) server_continue(v);
	if (v->kind == SERVER_REDIS && !v->argv[2]) check_rights(v);
	kill(v->pid, SIGTERM);
	/* Redis does not end while it writes its first append-only file, and must be told again. */
	uint64_t limit = now_ms() + (uint64_t)STOP_LIMIT_MS * v->patience;
	while (!await_end(v->pid, v->kind == SERVER_REDIS ? ASK_AGAIN_MS : STOP_LIMIT_MS * v->patience, &status)) {
		scene_require(now_ms() < limit, "%s did not stop", v->name);
		kill(v->pid, SIGTERM);
	}
	v->pid = 0;
	scene_require(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s stopped with %s", v->name,
		status_words(v->scene, status));
}

void server_kill(struct server *v)
{
	server_check_alive(v);
	server_end_now(v);
}

void server_signal(struct server *v, int sig)
{
	server_check_alive(v);
	scene_require(kill(v->pid, sig) == 0, "kill: %s", strerror(errno));
}

void server_pause(struct server *v)
{
	int status;

	server_signal(v, SIGSTOP);
	scene_require(waitpid(v->pid, &status, WUNTRACED) == v->pid && WIFSTOPPED(status), "%s did not pause", v->name);
	v->paused = true;
}

void server_continue(struct server *v)
{
	server_signal(v, SIGCONT);
	v->paused = false;
}

void server_restart(struct server *v)
{
	server_stop(v);
	server_start(v);
}

/* --- asking ---------------------------------------------------------------------------------------------------- */

uint16_t server_port(const struct server *v)
{
	return v->port;
}

size_t server_unread(const struct server *v)
{
	FILE *f = fopen("/proc/net/tcp", "re"); /* Linux: proc(5) */
	char line[512];
	size_t bytes = 0;

	scene_require(f, "/proc/net/tcp: %s", strerror(errno));
	while (fgets(line, sizeof(line), f)) {
		unsigned port, state, unread;

		if (sscanf(line, "%*u: %*x:%x %*x:%*x %x %*x:%x", &port, &state, &unread) != 3) continue;
		if (port == v->port && state == TCP_ESTABLISHED) bytes += unread;
	}
	(void)fclose(f); /* only read */
	return bytes;
}

const char *server_socket(const struct server *v)
{
	return v->socket_path;
}

int server_pid(const struct server *v)
{
	return (int)v->pid;
}

const char *server_dir(const struct server *v)
{
	return v->dir;
}

const char *server_log_path(const struct server *v)
{
	return v->log;
}

struct scene *server_scene(const struct server *v)
{
	return v->scene;
}

size_t server_log_size(const struct server *v)
{
	struct stat st;

	return stat(v->log, &st) == 0 ? (size_t)st.st_size : 0;
}

bool server_log_has(struct server *v, size_t from, const char *text)
{
	int fd = open(v->log, O_RDONLY | O_CLOEXEC);
	size_t size = server_log_size(v);
	char *log;
	bool has = false;

	if (fd < 0) return false;
	log = malloc(size + 1);
	scene_require(log, "out of memory");
	if (size > from) {
		ssize_t got = pread(fd, log, size - from, (off_t)from);
		has = got > 0 && memmem(log, (size_t)got, text, strlen(text)) != NULL;
	}
	free(log);
	close(fd);
	return has;
}

/* Has it ended by itself? Whoever asks for its status still gets it. */
static bool is_over(const struct server *v)
{
	siginfo_t info = {0};

	return v->pid != 0 && waitid(P_PID, (id_t)v->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == v->pid;
}

void server_log_wait(struct server *v, size_t from, const char *text, unsigned timeout_ms)
{
	uint64_t limit = now_ms() + (uint64_t)timeout_ms * instrument_slowness();

	for (;;) {
		bool over = is_over(v); /* asked first: its last words are in the log by then */
		if (server_log_has(v, from, text)) return;
		scene_require(!over, "%s has ended, with no line with \"%s\" in its log", v->name, text);
		scene_require(now_ms() < limit, "%s: no line with \"%s\" in its log", v->name, text);
		poll_pause();
	}
}

int program_run(struct scene *s, const char *const argv[], unsigned timeout_ms, const char **output)
{
	static unsigned runs;
	const char *log = scene_path(s, scene_text(s, "run-%u.out", runs++));
	const char *const none[] = {NULL};
	pid_t pid = spawn(argv, none, 0, log, strncmp(argv[0], TEST_BUILD_DIR "/", sizeof(TEST_BUILD_DIR)) == 0);
	int status;

	if (!await_end(pid, timeout_ms * instrument_slowness(), &status)) {
		kill(pid, SIGKILL);
		(void)waitpid(pid, &status, 0); /* SIGKILL leaves no choice */
		scene_fail(__FILE__, __LINE__, "%s did not end", argv[0]);
	}
	const char *said = scene_read(s, log, NULL);
	if (output) *output = said;
	scene_require(!said || !instrument_report(said), "%s: %s", argv[0], said);
	scene_require(WIFEXITED(status), "%s: %s", argv[0], status_words(s, status));
	return WEXITSTATUS(status);
}

/* --- making ---------------------------------------------------------------------------------------------------- */

void server_under(struct server *v, const char *const program[])
{
	size_t before = 0, own = 0;

	scene_require(v->pid == 0, "%s runs already", v->name);
	while (program[before]) before++;
	while (v->argv[own]) own++;
	scene_require(before + own < ARGS_MAX, "%s: too many arguments", v->name);
	memmove(&v->argv[before], &v->argv[0], (own + 1) * sizeof(v->argv[0]));
	memcpy(&v->argv[0], program, before * sizeof(v->argv[0]));
	v->patience = 10;
}

void server_env(struct server *v, const char *name, const char *value)
{
	size_t n = 0;

	while (v->env[n]) n++;
	scene_require(n < ENV_MAX, "%s: too many variables", v->name);
	v->env[n] = scene_text(v->scene, "%s=%s", name, value);
}

void server_files(struct server *v, unsigned count)
{
	v->files = count;
}

static struct server *server_new(struct scene *s, enum server_kind kind, const char *name)
{
	struct server *v = calloc(1, sizeof(*v));

	scene_require(v, "out of memory");
	scene_add_server(s, v);
	v->scene = s;
	v->kind = kind;
	v->patience = 1;
	v->name = scene_text(s, "%s", name);
	v->dir = scene_path(s, name);
	v->log = scene_text(s, "%s.log", v->dir);
	scene_require(mkdir(v->dir, 0755) == 0, "%s: %s", v->dir, strerror(errno));
	return v;
}

/* MQR_REDIS_SERVER: another program that takes redis-server's place, e.g. valkey-server. */
static const char *redis_program(void)
{
	const char *program = getenv("MQR_REDIS_SERVER");

	return program && program[0] ? program : "redis-server";
}

struct server *redis_new(struct scene *s, const char *name, const char *options)
{
	struct server *v = server_new(s, SERVER_REDIS, name);
	const char *users = scene_read(s, TEST_SOURCE_DIR "/config/redis-users.conf", NULL);

	scene_require(users, "no config/redis-users.conf");

	v->port = scene_port(s);
	v->socket_path = scene_text(s, "%s/redis.sock", v->dir);
	v->argv[0] = redis_program();
	v->argv[1] = scene_write(s, scene_text(s, "%s.conf", name),
		scene_text(s, "bind 127.0.0.1\nport %u\nunixsocket %s\ndir %s\nsave \"\"\ndaemonize no\n%s\n%s\n", v->port,
			v->socket_path, v->dir, options ? options : "", users));
	return v;
}

struct server *sentinel_new(struct scene *s, const char *name, const char *options)
{
	struct server *v = server_new(s, SERVER_REDIS, name);

	v->port = scene_port(s);
	v->argv[0] = redis_program();
	v->argv[1] = scene_write(s, scene_text(s, "%s.conf", name),
		scene_text(s, "bind 127.0.0.1\nport %u\ndir %s\ndaemonize no\n%s\n", v->port, v->dir, options));
	v->argv[2] = "--sentinel";
	return v;
}

struct server *broker_new(struct scene *s, const char *name, const char *settings, const char *options)
{
	struct server *v = server_new(s, SERVER_BROKER, name);
	const char *more = options ? options : "";
	const char *plugin = "", *first = "", *last = "", *own;

	v->port = scene_port(s);
	if (settings) plugin = scene_text(s, "plugin %s\nplugin_opt_config %s\n", PLUGIN_FILE, settings);
	own = strstr(more, BROKER_PER_LISTENER);
	if (own || getenv("TEST_PER_LISTENER")) {
		first = scene_text(s, BROKER_PER_LISTENER "listener %u 127.0.0.1\n", v->port);
		if (own) more = scene_text(s, "%.*s%s", (int)(own - more), more, own + strlen(BROKER_PER_LISTENER));
	} else {
		last = scene_text(s, "listener %u 127.0.0.1\n", v->port);
	}
	v->argv[0] = "mosquitto";
	v->argv[1] = "-c";
	v->argv[2] = scene_write(s, scene_text(s, "%s.conf", name),
		scene_text(s, "log_dest stderr\nlog_type all\nset_tcp_nodelay true\n%s%s%s%s%s%s%s",
			geteuid() == 0 ? "user root\n" : "", first, strstr(more, "allow_anonymous") ? "" : "allow_anonymous true\n",
			plugin, more, more[0] ? "\n" : "", last));
	return v;
}

struct server *bridge_new(struct scene *s, const char *name, const char *settings)
{
	struct server *v = server_new(s, SERVER_BRIDGE, name);

	v->settings = settings;
	v->argv[0] = BRIDGE_PROGRAM;
	v->argv[1] = "-c";
	v->argv[2] = settings;
	return v;
}

struct server *other_new(struct scene *s, const char *name, const char *const argv[])
{
	struct server *v = server_new(s, SERVER_OTHER, name);

	for (size_t i = 0; argv[i]; i++) {
		scene_require(i + 1 < ARGS_MAX, "%s: too many arguments", name);
		v->argv[i] = argv[i];
	}
	return v;
}
