/*
 * Owns a UDP socket on port 53 and a thread that reads it. The thread must never call cmocka.
 */
#include "tests/harness/name_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define PACKET_MAX 512
#define HEADER 12

struct name_server {
	pthread_t thread;
	int fd;
	atomic_bool answer, stop;
	atomic_uint asked;
};

static bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	if (fd >= 0) close(fd);
	return done;
}

/* As root of a user name space of our own where we are not root outside. */
static bool unshare_all(void)
{
	uid_t user = geteuid();
	gid_t group = getegid();
	char map[64];
	if (user == 0) return unshare(CLONE_NEWNET) == 0;
	if (unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) return false;
	snprintf(map, sizeof(map), "0 %u 1", user);
	if (!write_file("/proc/self/uid_map", map) || !write_file("/proc/self/setgroups", "deny")) return false;
	snprintf(map, sizeof(map), "0 %u 1", group);
	return write_file("/proc/self/gid_map", map);
}

static bool loopback_up(void)
{
	struct ifreq request = {.ifr_name = "lo"};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	bool up = fd >= 0 && ioctl(fd, SIOCGIFFLAGS, &request) == 0;
	request.ifr_flags |= IFF_UP;
	up = up && ioctl(fd, SIOCSIFFLAGS, &request) == 0;
	if (fd >= 0) close(fd);
	return up;
}

/* An address of the machine's name server becomes one of ours. */
static bool add_address(const char *address, int n)
{
	struct ifreq request = {.ifr_name = ""};
	struct sockaddr_in to = {.sin_family = AF_INET};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	snprintf(request.ifr_name, sizeof(request.ifr_name), "lo:%d", n);
	bool added = fd >= 0 && inet_pton(AF_INET, address, &to.sin_addr) == 1;
	memcpy(&request.ifr_addr, &to, sizeof(to));
	added = added && ioctl(fd, SIOCSIFADDR, &request) == 0;
	if (fd >= 0) close(fd);
	return added;
}

bool name_server_prepare(void)
{
	char line[256], address[64];
	bool ready = unshare_all() && loopback_up();
	FILE *f = fopen("/etc/resolv.conf", "re"); /* without it, 127.0.0.1 is asked */
	for (int n = 1; f && ready && fgets(line, sizeof(line), f);) {
		if (sscanf(line, "nameserver %63s", address) != 1) continue;
		ready = strncmp(address, "127.", 4) == 0 || add_address(address, n++);
	}
	if (f) (void)fclose(f); /* only read */
	return ready && setenv("RES_OPTIONS", "timeout:30 attempts:1", 1) == 0;
}

/* The question again, and for type A one record with 127.0.0.1. Source: RFC 1035, 4.1. */
static size_t make_answer(unsigned char *packet, size_t len)
{
	static const unsigned char record[] = {0xc0, HEADER, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1};
	size_t end = HEADER;
	while (end < len && packet[end] != 0) end += packet[end] + 1u;
	end += 5;
	if (end > len || end + sizeof(record) > PACKET_MAX) return 0;
	bool a = packet[end - 4] == 0 && packet[end - 3] == 1;
	packet[2] = 0x84; /* an authoritative answer */
	packet[3] = 0;
	packet[7] = a;
	memset(packet + 8, 0, 4);
	if (!a) return end;
	memcpy(packet + end, record, sizeof(record));
	return end + sizeof(record);
}

static void *run(void *arg)
{
	struct name_server *n = arg;
	while (!atomic_load(&n->stop)) {
		unsigned char packet[PACKET_MAX];
		struct sockaddr_in from;
		socklen_t from_len = sizeof(from);
		ssize_t len = recvfrom(n->fd, packet, sizeof(packet), 0, (struct sockaddr *)&from, &from_len);
		if (len < HEADER + 5) continue;
		atomic_fetch_add(&n->asked, 1);
		size_t size = atomic_load(&n->answer) ? make_answer(packet, (size_t)len) : 0;
		if (size > 0) (void)sendto(n->fd, packet, size, 0, (struct sockaddr *)&from, from_len);
	}
	return NULL;
}

static void end(void *ctx)
{
	struct name_server *n = ctx;
	atomic_store(&n->stop, true);
	pthread_join(n->thread, NULL);
	close(n->fd);
	free(n);
}

struct name_server *name_server_start(struct scene *s)
{
	struct name_server *n = calloc(1, sizeof(*n));
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(53), .sin_addr.s_addr = htonl(INADDR_ANY)};
	struct timeval look = {0, 50000};
	scene_require(n, "out of memory");
	n->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	scene_require(n->fd >= 0 && setsockopt(n->fd, SOL_SOCKET, SO_RCVTIMEO, &look, sizeof(look)) == 0 &&
		bind(n->fd, (struct sockaddr *)&to, sizeof(to)) == 0, "no socket for a name server");
	scene_require(pthread_create(&n->thread, NULL, run, n) == 0, "no thread for a name server");
	scene_at_end(s, end, n);
	return n;
}

void name_server_answer(struct name_server *n, bool answer)
{
	atomic_store(&n->answer, answer);
}

unsigned name_server_asked(const struct name_server *n)
{
	return atomic_load(&n->asked);
}
