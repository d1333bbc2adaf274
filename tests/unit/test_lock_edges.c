/*
 * The lock of the bridges where it seldom comes: answers too late, of a Redis that refuses or says what it never says, a lock that is
 * lost, given up, closed. No server: link, clock and a few calls to the kernel stand here.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "bridge/lock.h"
#include "bridge/lock_owner.h"

/* --- what is around it ---------------------------------------------------------------------------------------------- */

static uint64_t now = 1000000;

int clock_gettime(clockid_t id, struct timespec *out)
{
	if (id != CLOCK_BOOTTIME) return (int)syscall(SYS_clock_gettime, id, out); /* of the loop */
	out->tv_sec = (time_t)(now / 1000);
	out->tv_nsec = (long)(now % 1000) * 1000000;
	return 0;
}

static bool nothing_random, nameless, unreadable;

ssize_t getrandom(void *to, size_t len, unsigned flags)
{
	if (!nothing_random) return syscall(SYS_getrandom, to, len, flags);
	errno = ENOSYS;
	return -1;
}

int gethostname(char *name, size_t len)
{
	if (nameless) return -1;
	(void)snprintf(name, len, "host");
	return 0;
}

int open(const char *name, int flags, ...)
{
	if (!unreadable) return (int)syscall(SYS_openat, AT_FDCWD, name, flags, 0);
	errno = EACCES;
	return -1;
}

ssize_t readlink(const char *name, char *out, size_t size)
{
	return unreadable ? -1 : syscall(SYS_readlink, name, out, size);
}

static struct {
	bool ready, down;
	redis_reply_fn *fn;
	void *ctx;
	unsigned sends;
	char sent[2048];
} link_now;

enum status redis_link_send(struct redis_link *link, const struct buf *commands, size_t replies, unsigned deadline_ms,
	redis_reply_fn *fn, void *ctx)
{
	(void)link, (void)deadline_ms, (void)replies;
	if (link_now.down) return ST_LOST;
	link_now.fn = fn;
	link_now.ctx = ctx;
	link_now.sends++;
	(void)snprintf(link_now.sent, sizeof(link_now.sent), "%.*s", (int)commands->len, commands->data);
	return ST_OK;
}

bool redis_link_is_ready(const struct redis_link *link)
{
	(void)link;
	return link_now.ready;
}

static void reply_with(const char *text)
{
	redisReader *reader = redisReaderCreate();
	void *reply = NULL;

	assert_int_equal(redisReaderFeed(reader, text, strlen(text)), REDIS_OK);
	assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_OK);
	assert_non_null(reply);
	redisReaderFree(reader);
	link_now.fn(link_now.ctx, reply, 0);
	freeReplyObject(reply);
}

static unsigned held, lost, lines, closed;
static char line[512];

static void on_held(void *ctx, uint64_t fence)
{
	(void)ctx;
	assert_int_equal(fence, 17);
	held++;
}

static void on_lost(void *ctx)
{
	(void)ctx;
	lost++;
}

static void on_log(void *ctx, enum log_level level, const char *text)
{
	(void)ctx, (void)level;
	lines++;
	(void)snprintf(line, sizeof(line), "%s", text);
}

static void on_closed(void *ctx)
{
	(void)ctx;
	closed++;
}

static uv_loop_t loop;
static struct settings *settings;
static struct lock *lock;

static int setup(void **state)
{
	static const struct log_sink sink = {on_log, NULL};
	static const struct lock_calls calls = {on_held, on_lost, NULL};
	char why[256];

	(void)state;
	memset(&link_now, 0, sizeof(link_now));
	held = lost = lines = closed = 0;
	link_now.ready = true;
	assert_int_equal(uv_loop_init(&loop), 0);
	assert_int_equal(settings_load(NULL, NULL, 0, NULL, &settings, why, sizeof(why)), ST_OK);
	assert_int_equal(lock_new(&loop, settings, &sink, NULL, &calls, &lock), ST_OK);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	lock_close(lock, on_closed, NULL);
	lock_close(lock, on_closed, NULL);
	assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(closed, 1);
	assert_int_equal(uv_loop_close(&loop), 0);
	settings_free(settings);
	return 0;
}

#define MINE "*2\r\n$2\r\n17\r\n$9\r\n17 host/1\r\n"
#define ANOTHERS "*2\r\n$0\r\n\r\n$13\r\n16 there/5/b/n\r\n"

static void take(void)
{
	lock_ready(lock);
	reply_with(MINE);
	assert_int_equal(held, 1);
	assert_true(lock_is_held(lock));
}

/* --- cases ---------------------------------------------------------------------------------------------------------- */

static void redis_refuses(void **state)
{
	static const char *const odd[] = {"-NOPERM no permissions\r\n", ":1\r\n", "*1\r\n$1\r\nx\r\n", "*2\r\n$2\r\n17\r\n:5\r\n"};

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		lock_ready(lock);
		reply_with(odd[i]);
		assert_int_equal(lines, 1); /* told once */
	}
	assert_string_equal(line, "lock: Redis answers: NOPERM no permissions");
	lock_ready(lock);
	link_now.fn(link_now.ctx, NULL, 0);
	lock_ready(lock);
	reply_with(MINE);
	assert_int_equal(held, 1);
	lines = 0;
	now += LOCK_RENEW_MS;
	lock_ready(lock);
	reply_with("$2\r\nno\r\n");
	assert_string_equal(line, "lock: Redis answers: something unexpected");
	assert_int_equal(lines, 1);
	lock_ready(lock);
	link_now.fn(link_now.ctx, NULL, 0);
	assert_true(lock_is_held(lock));
}

static void answered_too_late(void **state)
{
	unsigned sends;

	(void)state;
	lock_ready(lock);
	now += LOCK_TTL_MS;
	reply_with(MINE);
	assert_int_equal(held, 0);
	/* The next time it is; then it is not renewed in time. */
	lock_ready(lock);
	reply_with(MINE);
	assert_int_equal(held, 1);
	link_now.down = true;
	now += LOCK_TTL_MS;
	assert_false(lock_is_held(lock)); /* by the clock, before anybody has looked */
	sends = link_now.sends;
	lock_ready(lock);
	assert_int_equal(lost, 1);
	assert_string_equal(line, "lock: it could not be renewed in time; this bridge stands by");
	assert_int_equal(link_now.sends, sends);
	link_now.down = false;
	link_now.ready = false;
	lock_ready(lock);
	assert_int_equal(link_now.sends, sends);
}

/* An answer about a lock that is lost by then. */
static void renewed_behind_its_end(void **state)
{
	(void)state;
	take();
	now += LOCK_RENEW_MS;
	lock_ready(lock);
	now += LOCK_TTL_MS;
	lock_ready(lock); /* asking still */
	assert_int_equal(lost, 1);
	reply_with(":1\r\n");
	assert_false(lock_is_held(lock));
	lock_ready(lock);
	reply_with(MINE);
	now += LOCK_RENEW_MS;
	lock_ready(lock);
	reply_with(":0\r\n");
	assert_int_equal(lost, 2);
	assert_string_equal(line, "lock: another bridge has it, or Redis has lost it; this bridge stands by");
}

/* Its process has ended, here: it is not waited for. And a lock that is renewed is held on. */
static void the_holder_has_ended(void **state)
{
	char mine[LOCK_OWNER_MAX], holder[LOCK_OWNER_MAX + 32], text[LOCK_OWNER_MAX + 64];

	(void)state;
	assert_int_equal(lock_owner_make(mine), ST_OK);
	const char *host_end = strchr(mine, '/'), *rest = strchr(host_end + 1, '/');
	(void)snprintf(holder, sizeof(holder), "16 %.*s/999999999%s", (int)(host_end - mine), mine, rest); /* no such process */
	(void)snprintf(text, sizeof(text), "*2\r\n$0\r\n\r\n$%zu\r\n%s\r\n", strlen(holder), holder);
	lock_ready(lock);
	reply_with(text);
	assert_null(strstr(link_now.sent, holder));
	now += LOCK_TRY_MS;
	lock_ready(lock);
	assert_non_null(strstr(link_now.sent, holder)); /* to be taken from that one */
	reply_with(MINE);
	assert_int_equal(held, 1);
	for (int i = 0; i < 2 * LOCK_TTL_MS / LOCK_RENEW_MS; i++) {
		now += LOCK_RENEW_MS;
		lock_ready(lock);
		reply_with(":1\r\n");
	}
	assert_true(lock_is_held(lock));
	assert_int_equal(lost, 0);
}

/* The plugin knows a later one, and this one has nothing to give. */
static void yields_what_it_has_not(void **state)
{
	(void)state;
	lock_yield(lock);
	lock_ready(lock);
	assert_int_equal(lost, 0);
	assert_int_equal(lines, 0);
}

static void another_has_it(void **state)
{
	char text[700];

	(void)state;
	for (int i = 0; i < 2; i++) {
		lock_ready(lock);
		reply_with(ANOTHERS);
		assert_int_equal(lines, 1);
	}
	assert_non_null(strstr(line, "(there); this one stands by"));
	/* Whatever else stands there is shown as far as it goes. */
	(void)snprintf(text, sizeof(text), "*2\r\n$-1\r\n$600\r\n%0600d\r\n", 7);
	lock_ready(lock);
	reply_with(text);
	assert_int_equal(lines, 2);
	(void)snprintf(text, sizeof(text), "*2\r\n$2\r\n17\r\n$600\r\n%0600d\r\n", 7);
	lock_ready(lock);
	reply_with(text); /* too long to be ours */
	assert_int_equal(held, 0);
}

static void given_up(void **state)
{
	(void)state;
	lock_yield(lock); /* there is nothing to give up */
	take();
	lock_start(lock);
	lock_yield(lock);
	lock_ready(lock); /* waits for the timer */
	assert_int_equal(lost, 0);
	while (lost == 0) (void)uv_run(&loop, UV_RUN_ONCE);
	assert_string_equal(line, "lock: the plugin obeys a later bridge; this bridge stands by");
	assert_non_null(strstr(link_now.sent, "17 host/1\r\n$1\r\n0\r\n"));
	link_now.fn(link_now.ctx, NULL, 0);
	assert_false(lock_is_held(lock));
}

/* Redis has given it to another one before it could be given up: it is lost once, and nothing is given back. */
static void lost_before_it_is_given_up(void **state)
{
	unsigned sends;

	(void)state;
	take();
	lock_start(lock);
	now += LOCK_RENEW_MS;
	lock_ready(lock);
	lock_yield(lock);
	reply_with(":0\r\n");
	assert_int_equal(lost, 1);
	sends = link_now.sends;
	lock_ready(lock); /* waits for the timer */
	assert_int_equal(link_now.sends, sends);
	(void)uv_run(&loop, UV_RUN_ONCE);
	assert_int_equal(link_now.sends, sends);
	assert_int_equal(lost, 1);
	assert_string_equal(line, "lock: another bridge has it, or Redis has lost it; this bridge stands by");
	lock_ready(lock);
	assert_int_equal(link_now.sends, sends + 1);
}

/* What comes behind the end is nobody's. */
static void answered_when_closed(void **state)
{
	redis_reply_fn *fn;
	void *ctx;

	(void)state;
	take();
	now += LOCK_RENEW_MS;
	lock_ready(lock);
	fn = link_now.fn;
	ctx = link_now.ctx;
	lock_close(lock, on_closed, NULL);
	lock_ready(lock);
	lock_yield(lock);
	fn(ctx, NULL, 0);
	assert_int_equal(lost, 0);
}

static void closed_while_it_is_taken(void **state)
{
	(void)state;
	lock_ready(lock);
	lock_close(lock, on_closed, NULL);
	reply_with(MINE);
	assert_int_equal(held, 0);
}

/* A signature is made wherever it can be told from others. */
static void signatures(void **state)
{
	static const struct lock_calls calls = {on_held, on_lost, NULL};
	static const struct log_sink sink = {on_log, NULL};
	char owner[LOCK_OWNER_MAX];
	struct lock *none = NULL;

	(void)state;
	nameless = unreadable = true;
	assert_int_equal(lock_owner_make(owner), ST_OK);
	nameless = unreadable = false;
	assert_int_equal(strncmp(owner, "-/", 2), 0);
	assert_non_null(strstr(owner, "/-/-/"));
	assert_false(lock_owner_ended(owner, slice_str("-/4000000/-/-/1"))); /* nobody knows where that was */
	nothing_random = true;
	assert_int_equal(lock_owner_make(owner), ST_IO);
	assert_int_equal(lock_new(&loop, settings, &sink, NULL, &calls, &none), ST_IO);
	nothing_random = false;
	assert_null(none);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(redis_refuses), TEST(answered_too_late), TEST(renewed_behind_its_end), TEST(the_holder_has_ended),
		TEST(yields_what_it_has_not), TEST(another_has_it), TEST(given_up), TEST(lost_before_it_is_given_up),
		TEST(answered_when_closed), TEST(closed_while_it_is_taken), TEST(signatures),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
