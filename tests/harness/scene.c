/*
 * Owns a test's folder, its reserved ports and the list of things to undo at its end. Runs on the test's thread. Must
 * never end a test without saying why, and never remove the folder of a failed one.
 */
#include "tests/harness/scene.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/harness/scene_internal.h"

#define ITEMS_MAX 262144 /* a look at a condition may need some, and a busy machine thousands of looks */
#define LOG_TAIL_BYTES 16384

struct ending {
	void (*fn)(void *ctx);
	void *ctx;
};

struct scene {
	char dir[256];
	bool passed;
	void *texts[ITEMS_MAX];
	size_t text_count;
	int ports[64];
	size_t port_count;
	struct ending endings[512];
	size_t ending_count;
	struct server *servers[32];
	size_t server_count;
};

void scene_fail(const char *file, int line, const char *fmt, ...)
{
	char text[4096];
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, args); /* cut when longer */
	va_end(args);
	print_error("%s:%d: %s\n", file, line, text);
	_fail(file, line);
	abort(); /* _fail does not come back */
}

uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void poll_pause(void)
{
	struct timespec t = {0, 2000000};

	nanosleep(&t, NULL);
}

int scene_setup(void **state)
{
	struct scene *s = calloc(1, sizeof(*s));
	const char *base = getenv("TMPDIR");

	if (!s) return -1;
	signal(SIGPIPE, SIG_IGN);
	(void)snprintf(s->dir, sizeof(s->dir), "%s/mqr-test-XXXXXX", base && base[0] ? base : "/tmp");
	if (!mkdtemp(s->dir)) {
		print_error("%s: %s\n", s->dir, strerror(errno));
		free(s);
		return -1;
	}
	*state = s;
	return 0;
}

const char *scene_dir(const struct scene *s)
{
	return s->dir;
}

void *scene_keep(struct scene *s, void *memory)
{
	scene_require(memory, "out of memory");
	if (s->text_count == ITEMS_MAX) {
		free(memory);
		scene_fail(__FILE__, __LINE__, "more than %d texts in one scene", ITEMS_MAX);
	}
	s->texts[s->text_count++] = memory;
	return memory;
}

const char *scene_text(struct scene *s, const char *fmt, ...)
{
	char *text = NULL;
	va_list args;
	int len;

	va_start(args, fmt);
	len = vasprintf(&text, fmt, args);
	va_end(args);
	scene_require(len >= 0, "out of memory");
	return scene_keep(s, text);
}

const char *scene_path(struct scene *s, const char *name)
{
	return scene_text(s, "%s/%s", s->dir, name);
}

const char *scene_write(struct scene *s, const char *name, const char *text)
{
	const char *path = scene_path(s, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	size_t len = strlen(text);

	scene_require(fd >= 0, "%s: %s", path, strerror(errno));
	scene_require(write(fd, text, len) == (ssize_t)len, "%s: short write", path);
	scene_require(close(fd) == 0, "%s: %s", path, strerror(errno));
	return path;
}

/*
 * The socket is bound without SO_REUSEADDR, so that no other search for a free port finds it, then marked with it, so
 * that a server which sets it too may bind and listen beside. It never listens itself.
 */
uint16_t scene_port(struct scene *s)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);
	int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	scene_require(fd >= 0 && s->port_count < sizeof(s->ports) / sizeof(s->ports[0]), "no socket for a port");
	s->ports[s->port_count++] = fd;
	scene_require(bind(fd, (struct sockaddr *)&address, len) == 0, "bind: %s", strerror(errno));
	scene_require(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0, "setsockopt: %s", strerror(errno));
	scene_require(getsockname(fd, (struct sockaddr *)&address, &len) == 0, "getsockname: %s", strerror(errno));
	return ntohs(address.sin_port);
}

void scene_at_end(struct scene *s, void (*fn)(void *ctx), void *ctx)
{
	scene_require(s->ending_count < sizeof(s->endings) / sizeof(s->endings[0]), "too many endings");
	s->endings[s->ending_count++] = (struct ending){fn, ctx};
}

void scene_add_server(struct scene *s, struct server *v)
{
	scene_require(s->server_count < sizeof(s->servers) / sizeof(s->servers[0]), "too many servers");
	s->servers[s->server_count++] = v;
}

const char *scene_read(struct scene *s, const char *path, size_t *len)
{
	FILE *f = fopen(path, "rbe");
	char *text = NULL;
	size_t used = 0, size = 0;

	if (!f) return NULL;
	for (;;) {
		if (used + 65536 + 1 > size) {
			size = size ? size * 2 : 262144;
			text = realloc(text, size);
			scene_require(text, "out of memory");
		}
		size_t got = fread(text + used, 1, 65536, f);
		used += got;
		if (got == 0) break;
	}
	(void)fclose(f); /* only read */
	text[used] = '\0';
	if (len) *len = used;
	char *fitting = realloc(text, used + 1); /* there may be very many */
	return scene_keep(s, fitting ? fitting : text);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)st;
	(void)type;
	(void)where;
	return remove(path);
}

/* Peers and stores first, then the servers; `keep` leaves the folder. */
static void scene_free(struct scene *s, bool keep)
{
	while (s->ending_count > 0) {
		struct ending e = s->endings[--s->ending_count];
		e.fn(e.ctx);
	}
	for (size_t i = 0; i < s->server_count; i++) server_free(s->servers[i]);
	for (size_t i = 0; i < s->port_count; i++) (void)close(s->ports[i]);
	if (!keep && nftw(s->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0)
		print_error("%s: not removed: %s\n", s->dir, strerror(errno));
	for (size_t i = 0; i < s->text_count; i++) free(s->texts[i]);
	free(s);
}

void scene_end(struct scene *s)
{
	while (s->ending_count > 0) {
		struct ending e = s->endings[--s->ending_count];
		e.fn(e.ctx);
	}
	/* Last made, first stopped: bridge, broker, Redis. */
	for (size_t i = s->server_count; i-- > 0;)
		if (server_running(s->servers[i])) server_stop(s->servers[i]);
	for (size_t i = 0; i < s->server_count; i++) server_check_report(s->servers[i]);
	s->passed = true;
}

static void print_log(const struct server *v)
{
	FILE *f = fopen(server_log_path(v), "rbe");
	char line[2048];

	print_error("---- %s\n", server_log_path(v));
	if (!f) return;
	if (fseek(f, 0, SEEK_END) == 0 && ftell(f) > LOG_TAIL_BYTES) {
		print_error("...\n");
		(void)fseek(f, -LOG_TAIL_BYTES, SEEK_END);
	} else {
		rewind(f);
	}
	while (fgets(line, sizeof(line), f)) print_error("%s", line);
	(void)fclose(f); /* only read */
}

int scene_teardown(void **state)
{
	struct scene *s = *state;
	bool passed;

	if (!s) return 0;
	passed = s->passed;
	if (!passed) {
		for (size_t i = s->server_count; i-- > 0;) server_end_now(s->servers[i]); /* before they can tell of the others' end */
		for (size_t i = 0; i < s->server_count; i++) print_log(s->servers[i]);
		print_error("---- kept: %s\n", s->dir);
	}
	scene_free(s, !passed);
	*state = NULL;
	return 0;
}
