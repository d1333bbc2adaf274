/*
 * Descriptors that are used up, a disk that is full or fails, a file system that is read-only, for real: in broker and bridge as they
 * run.
 * README, "When something runs out", is the list of what is looked at here and in test_failing_calls.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/harness/guest.h"
#include "tests/harness/store.h"
#include "tests/harness/web_client.h"

#define WAIT_MS 60000
#define NO_MORE 3 /* descriptors: the three that every process has */
#define DISK_BYTES "8m"
#define AGAIN 3 /* the bridge's status for what may pass by itself: systemd starts it again */
#define NO_LIBRARY 127
#define EMFILE_TEXT "Too many open files"

/* --- descriptors ------------------------------------------------------------------------------------------------------- */

/* Nothing can be opened any more; returns what was allowed before. */
static rlim_t take_descriptors(struct server *v)
{
	struct rlimit none, before;

	assert_int_equal(prlimit(server_pid(v), RLIMIT_NOFILE, NULL, &before), 0);
	none = before;
	none.rlim_cur = NO_MORE;
	assert_int_equal(prlimit(server_pid(v), RLIMIT_NOFILE, &none, NULL), 0);
	return before.rlim_cur;
}

static void give_descriptors(struct server *v, rlim_t allowed)
{
	struct rlimit limit;

	assert_int_equal(prlimit(server_pid(v), RLIMIT_NOFILE, NULL, &limit), 0);
	limit.rlim_cur = allowed;
	assert_int_equal(prlimit(server_pid(v), RLIMIT_NOFILE, &limit, NULL), 0);
}

static void cut(struct world *w)
{
	store_query(w->db, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes", NULL);
}

/* The link to Redis cannot be made again: the journal takes what comes, nobody waits, and it is there when the link is. */
static void test_broker_descriptors(void **state)
{
	enum { COUNT = 100 };
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, "mirror t/# stream s:%t\nmirror f/# stream s:%t durability=fsync", 0);
	struct guest *p = guest_join(&w, "p", NULL), *d = guest_join(&w, "d", NULL);
	guest_subscribe(d, "t/#", 1);
	size_t from = server_log_size(w.broker);
	rlim_t allowed = take_descriptors(w.broker);
	cut(&w);
	server_log_wait(w.broker, from, EMFILE_TEXT, WAIT_MS);
	for (int i = 0; i < COUNT; i++) guest_publish(p, i % 2 ? "t/a" : "f/a", "x", 1);
	guest_wait(d, COUNT / 2, WAIT_MS);
	assert_int_equal(store_stream_len(w.db, "s:t/a"), 0);
	give_descriptors(w.broker, allowed);
	store_wait_stream(w.db, "s:t/a", COUNT / 2, WAIT_MS);
	store_wait_stream(w.db, "s:f/a", COUNT / 2, WAIT_MS);
	scene_end(scene);
}

/* No Redis and no HTTP for the bridge: devices go live, and get what they missed when there are descriptors again. */
static void test_bridge_descriptors(void **state)
{
	struct scene *scene = *state;
	struct world w;
	uint16_t port = scene_port(scene);
	int held[8];

	world_start(&w, scene, scene_text(scene, "mirror t/# stream s:%%t\nredeliver t/# new=all\nhold_timeout 1s\nlisten 127.0.0.1:%u\n",
		port), WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL), *d = guest_join(&w, "d", NULL);
	guest_publish(p, "t/a", "missed", 1);
	for (int i = 0; i < 8; i++) held[i] = web_connect(port);
	size_t from = server_log_size(w.bridge);
	rlim_t allowed = take_descriptors(w.bridge);
	cut(&w);
	server_log_wait(w.bridge, from, EMFILE_TEXT, WAIT_MS);
	int waiting = web_connect(port); /* taken by the kernel, not by the bridge */
	guest_subscribe(d, "t/#", 1);
	size_t sent = 0;
	wait_until((guest_publish(p, "t/a", "held, then live", 1), ++sent, guest_count(d) > 0), WAIT_MS, "a live message");
	give_descriptors(w.bridge, allowed);
	guest_wait(d, sent + 1, WAIT_MS); /* and what it missed, before and meanwhile */
	server_pause(w.bridge); /* so that it sees all of them end in one turn */
	for (int i = 0; i < 8; i++) close(held[i]);
	if (waiting >= 0) close(waiting);
	server_continue(w.bridge);
	wait_until(web_get(port, "/health/live").code == 200, WAIT_MS, "an answer over HTTP");
	server_check_alive(w.bridge);
	scene_end(scene);
}

/* Started with few: it serves, and says so, or ends with a word and the wanted status (0: any but 0), and never by a signal. With so
 * few that its libraries cannot be read, the dynamic loader ends it with its own, after which systemd starts it again, too. */
static void starts_with_few(struct server *v, const char *serving, const char *word, int wanted)
{
	unsigned served = 0, ended = 0;

	for (unsigned files = 4; served < 2 && files < 64; files++) {
		size_t from = server_log_size(v);
		int status = 0;
		server_files(v, files);
		bool serves = server_start_or_end(v, &status);
		uint64_t limit = now_ms() + WAIT_MS * instrument_slowness();
		while (serves && !server_log_has(v, from, serving)) {
			scene_require(now_ms() < limit, "with %u descriptors it neither serves nor ends", files);
			poll_pause();
			serves = !server_ended(v, &status);
		}
		if (serves) {
			served++;
			server_kill(v);
			continue;
		}
		ended++;
		scene_require(wanted ? status == wanted || status == NO_LIBRARY : status != 0, "with %u descriptors it ended with status %d",
			files, status);
		scene_require(server_log_has(v, from, word), "with %u descriptors it ended without a word", files);
	}
	print_message("%u times it ended\n", ended);
	assert_true(served == 2 || TEST_SANITIZE[0]); /* then the broker lacks the runtime here */
	server_files(v, 0);
}

static void test_broker_starts(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, "mirror t/# stream s:%t", WORLD_NO_START);
	/* Not asked whether it is ready: with as few as it can run with it accepts nobody. */
	const char *const argv[] = {"mosquitto", "-c", scene_path(scene, "broker.conf"), NULL};
	starts_with_few(other_new(scene, "few", argv), " running\n", "rror", 0);
	server_start(w.broker);
	server_start(w.redis);
	w.db = store_open(w.redis);
	guest_publish(guest_join(&w, "p", NULL), "t/a", "x", 1);
	store_wait_stream(w.db, "s:t/a", 1, WAIT_MS);
	scene_end(scene);
}

static void test_bridge_starts(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, scene_text(scene, "mirror t/# stream s:%%t\nlisten 127.0.0.1:%u\n", scene_port(scene)),
		WORLD_BRIDGE | WORLD_NO_START);
	server_start(w.redis);
	w.db = store_open(w.redis);
	server_start(w.broker);
	starts_with_few(w.bridge, " starts: ", "error", AGAIN);
	server_start(w.bridge);
	world_wait_bridge(&w, 0);
	scene_end(scene);
}

/* --- a disk of our own ---------------------------------------------------------------------------------------------------- */

static void unmount(void *ctx)
{
	(void)umount2(ctx, MNT_DETACH); /* goes with the namespace anyway */
}

/* A folder for it, in a mount namespace that only this program and its servers see. */
static const char *mount_point(struct scene *s)
{
	static bool apart;
	const char *at = scene_path(s, "disk");

	if (!apart) {
		scene_require(unshare(CLONE_NEWNS) == 0, "this test needs root: %s", strerror(errno));
		/* In a chroot / is no mount point; who made that has made it private, or sees the disk for a moment. */
		scene_require(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 || errno == EINVAL, "mount: %s", strerror(errno));
		apart = true;
	}
	assert_int_equal(mkdir(at, 0700), 0);
	return at;
}

static const char *disk(struct scene *s)
{
	const char *at = mount_point(s);

	scene_require(mount("none", at, "tmpfs", 0, "size=" DISK_BYTES) == 0, "mount: %s", strerror(errno));
	scene_at_end(s, unmount, (void *)(uintptr_t)at);
	return at;
}

static void fill(struct scene *s, const char *at)
{
	static char block[4096];
	const char *path = scene_text(s, "%s/filler", at);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	while (write(fd, block, sizeof(block)) > 0) continue;
	assert_int_equal(errno, ENOSPC);
	close(fd);
}

static void publish_some(struct guest *p, int count, int from)
{
	static char text[10000];

	for (int i = from; i < from + count; i++) {
		memset(text, 'x', sizeof(text) - 1);
		text[snprintf(text, sizeof(text), "%d", i)] = ' ';
		guest_publish(p, "t/a", text, 1);
	}
}

static void check_some(struct world *w, int count)
{
	store_wait_stream(w->db, "s:t/a", count, WAIT_MS);
	const redisReply *all = stored_stream(w->db, "s:t/a");
	assert_int_equal(all->elements, count);
	for (int i = 0; i < count; i++) assert_int_equal(atoi(stored_field(all->element[i], "payload")->str), i);
}

#define ON_DISK "plugin_opt_journal %s/journal\nplugin_opt_journal_size %s\n"
#define RULES "mirror t/# stream s:%t\nmirror f/# stream s:%t durability=fsync\nredeliver t/#\n"

/* It fills up behind the journal's back: the journal has its room. A larger one has not, and the old one stays whole. */
static void test_disk_full(void **state)
{
	enum { COUNT = 60 };
	struct scene *scene = *state;
	struct world w;
	const char *at = disk(scene);

	world_start_with(&w, scene, RULES, scene_text(scene, ON_DISK, at, "2M"), 0);
	struct guest *p = guest_join(&w, "p", NULL);
	struct guest *d = guest_join(&w, "d", &(struct guest_options){.keep_session = true});
	fill(scene, at);
	server_pause(w.redis);
	guest_subscribe(d, "t/#", 1); /* 2.1: to be noted in <journal>.sessions, which has no room */
	publish_some(p, COUNT, 0);
	guest_publish(p, "f/a", "x", 1);
	server_kill(w.broker);
	struct server *larger = broker_new(scene, "larger", w.settings,
		scene_text(scene, "plugin_opt_redis_username " PLUGIN_USER "\nplugin_opt_redis_password_file %s\n" ON_DISK,
			scene_path(scene, PLUGIN_USER ".password"), at, "5M"));
	assert_int_not_equal(server_start_refused(larger), 0);
	server_log_wait(larger, 0, "cannot allocate", WAIT_MS);
	server_start(w.broker); /* the disk is full still */
	server_continue(w.redis);
	check_some(&w, COUNT);
	store_wait_stream(w.db, "s:f/a", 1, WAIT_MS);
	wait_until(!guest_connected(p), WAIT_MS, "the end of the connection");
	guest_connect(p);
	publish_some(p, 5, COUNT);
	check_some(&w, COUNT + 5);
	scene_end(scene);
}

static void remount(const char *at, bool read_only)
{
	assert_int_equal(mount("none", at, "tmpfs", MS_REMOUNT | (read_only ? MS_RDONLY : 0), "size=" DISK_BYTES), 0);
}

/* A journal on it is an error at the start; what waits in it is there when it can be written. */
static void test_read_only(void **state)
{
	enum { COUNT = 20 };
	struct scene *scene = *state;
	struct world w;
	const char *at = disk(scene);

	world_start_with(&w, scene, RULES, scene_text(scene, ON_DISK, at, "2M"), WORLD_NO_START);
	remount(at, true); /* no journal is there yet */
	assert_int_not_equal(server_start_refused(w.broker), 0);
	server_log_wait(w.broker, 0, "Read-only file system", WAIT_MS);
	remount(at, false);
	server_start(w.broker);
	publish_some(guest_join(&w, "p", NULL), COUNT, 0);
	server_kill(w.broker);
	size_t from = server_log_size(w.broker);
	remount(at, true);
	assert_int_not_equal(server_start_refused(w.broker), 0);
	server_log_wait(w.broker, from, "Read-only file system", WAIT_MS);
	remount(at, false);
	server_start(w.redis);
	w.db = store_open(w.redis);
	server_start(w.broker);
	check_some(&w, COUNT);
	scene_end(scene);
}

/* --- a disk that fails ----------------------------------------------------------------------------------------------------- */

/* A device of a file: in a chroot there may be none for it yet. */
static int device_open(struct scene *s, const char *name, unsigned major, unsigned minor, const char **path)
{
	*path = scene_text(s, "/dev/%s", name);
	int fd = open(*path, O_RDWR | O_CLOEXEC);

	if (fd >= 0) return fd;
	*path = scene_path(s, name);
	scene_require(mknod(*path, S_IFCHR | 0600, makedev(major, minor)) == 0 || errno == EEXIST, "%s: %s", *path, strerror(errno));
	return open(*path, O_RDWR | O_CLOEXEC);
}

/* The file as a block device, as long as it is mounted. */
static const char *loop_device(struct scene *s, const char *image, int *held)
{
	struct loop_config config = {.fd = (uint32_t)open(image, O_RDWR | O_CLOEXEC), .info.lo_flags = LO_FLAGS_AUTOCLEAR};
	const char *path = NULL;
	int control = device_open(s, "loop-control", 10, 237, &path);

	if (control < 0) {
		print_message("%s: %s; a disk that fails is not tried\n", path, strerror(errno));
		skip();
	}
	for (int tries = 0; tries < 100; tries++) { /* others look for one, too */
		int n = ioctl(control, LOOP_CTL_GET_FREE);
		scene_require(n >= 0, "no free loop device: %s", strerror(errno));
		path = scene_path(s, scene_text(s, "loop%d", n));
		scene_require(mknod(path, S_IFBLK | 0600, makedev(7, (unsigned)n)) == 0 || errno == EEXIST, "%s: %s", path, strerror(errno));
		*held = open(path, O_RDWR | O_CLOEXEC);
		if (*held >= 0 && ioctl(*held, LOOP_CONFIGURE, &config) == 0) break;
		scene_require(errno == EBUSY || errno == ENXIO, "%s: %s", path, strerror(errno));
		if (*held >= 0) close(*held);
		*held = -1;
	}
	close(control);
	close((int)config.fd);
	scene_require(*held >= 0, "every loop device is taken");
	return path;
}

static const char *ext4_disk(struct scene *s)
{
	const char *at = mount_point(s), *image = scene_path(s, "image"), *output = NULL;
	const char *const argv[] = {"/sbin/mkfs.ext4", "-q", "-F", image, "32M", NULL};
	int held = -1;

	int status = program_run(s, argv, WAIT_MS, &output);
	scene_require(status == 0, "mkfs.ext4: %d: %s", status, output);
	const char *device = loop_device(s, image, &held);
	scene_require(mount(device, at, "ext4", 0, "") == 0, "mount: %s", strerror(errno));
	close(held);
	return at;
}

/*
 * The kernel has found the disk broken, and writes to it no more (with a mount that asks for it; the kernel itself refuses
 * "read-only" as long as a journal is open). What waits goes to Redis, from memory; a flush is refused, and the publish with it.
 */
static void test_disk_fails(void **state)
{
	enum { COUNT = 40 };
	struct scene *scene = *state;
	struct world w;
	const char *at = ext4_disk(scene);

	world_start_with(&w, scene, RULES, scene_text(scene, ON_DISK, at, "2M"), 0);
	struct guest *p = guest_join(&w, "p", NULL), *f = guest_join(&w, "f", NULL);
	guest_publish(f, "f/a", "x", 1);
	server_pause(w.redis);
	publish_some(p, COUNT / 2, 0);
	scene_require(mount(NULL, at, NULL, MS_REMOUNT, "abort") == 0, "mount: %s", strerror(errno));
	assert_true(open(scene_text(scene, "%s/other", at), O_WRONLY | O_CREAT | O_CLOEXEC, 0600) < 0 && errno == EROFS);
	publish_some(p, COUNT / 2, COUNT / 2);
	assert_int_not_equal(guest_publish_code(f, "f/a", "refused", 1), 0);
	server_continue(w.redis);
	check_some(&w, COUNT);
	for (int i = COUNT; i < 10 * COUNT; i += COUNT) { /* around the ring, more than once */
		publish_some(p, COUNT, i);
		check_some(&w, i + COUNT);
	}
	assert_true(store_stream_len(w.db, "s:f/a") >= 1); /* what was refused may be there all the same */
	server_stop(w.broker);
	assert_int_equal(umount2(at, MNT_DETACH), 0); /* nothing can be removed on it */
	scene_end(scene);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_broker_descriptors),
		scene_test(test_bridge_descriptors),
		scene_test(test_broker_starts),
		scene_test(test_bridge_starts),
		scene_test(test_disk_full),
		scene_test(test_read_only),
		scene_test(test_disk_fails),
	};

	if (argc > 1) cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
