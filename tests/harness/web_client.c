/* Owns nothing but the socket of one request. Runs on the test's thread. */
#include "tests/harness/web_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define LIMIT_S 20
#define ANSWER_MAX (4u << 20)

int web_connect(uint16_t port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct timeval limit = {LIMIT_S, 0};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0) return -1;
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)); /* the test would only wait longer */
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0) return fd;
	(void)close(fd);
	return -1;
}

bool web_listens(uint16_t port)
{
	int fd = web_connect(port);

	if (fd >= 0) (void)close(fd);
	return fd >= 0;
}

/* For the next answer: what was used longest ago. */
static char *room(void)
{
	static char *rooms[WEB_ANSWERS_KEPT];
	static unsigned next;
	char **one = &rooms[next++ % WEB_ANSWERS_KEPT];

	if (!*one) *one = malloc(ANSWER_MAX + 1);
	scene_require(*one, "out of memory");
	return *one;
}

struct web_answer web_send(uint16_t port, const char *request)
{
	struct web_answer a = {0, "", "", 0};
	char *text = room();
	size_t len = 0;
	ssize_t got;
	int fd = web_connect(port);
	char *end;

	if (fd < 0) return a;
	(void)!send(fd, request, strlen(request), MSG_NOSIGNAL); /* who refuses a request may close before it is all read */
	while (len < ANSWER_MAX && (got = recv(fd, text + len, ANSWER_MAX - len, 0)) > 0) len += (size_t)got;
	scene_require(got >= 0 || errno == ECONNRESET, "reading the answer: %s", strerror(errno));
	(void)close(fd);
	text[len] = '\0';
	end = strstr(text, "\r\n\r\n");
	if (!end || sscanf(text, "HTTP/1.%*d %d", &a.code) != 1) return a;
	*end = '\0';
	a.head = text;
	a.body = end + 4;
	a.len = len - (size_t)(end + 4 - text);
	return a;
}

struct web_answer web_get(uint16_t port, const char *path)
{
	char request[512];

	(void)snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n\r\n", path, port);
	return web_send(port, request);
}

bool web_metric(const char *metrics, const char *series, double *value)
{
	size_t len = strlen(series);

	for (const char *line = metrics; line && *line; line = strchr(line, '\n')) {
		if (*line == '\n') line++;
		if (strncmp(line, series, len) != 0 || line[len] != ' ') continue;
		*value = strtod(line + len + 1, NULL);
		return true;
	}
	return false;
}

void web_metric_wait(uint16_t port, const char *series, double least, unsigned timeout_ms)
{
	uint64_t limit = now_ms() + timeout_ms;
	double value = 0;

	while (!web_metric(web_get(port, "/metrics").body, series, &value) || value < least) {
		scene_require(now_ms() < limit, "%s is %g, not %g", series, value, least);
		for (int i = 0; i < 50; i++) poll_pause();
	}
}
