/*
 * The file of kept sessions: what was appended is read back, a torn or damaged end is cut off, what cannot be written is
 * removed; and what the device table makes of it.
 */
#include "device_rig.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "plugin/kept_file.h"

static char folder[64], path[96];
static unsigned lines;
static bool swallows;

/* In place of the system's: what is written may be counted only, so that a file is at its bound at once. */
ssize_t write(int fd, const void *data, size_t len)
{
	return swallows ? (ssize_t)len : syscall(SYS_write, fd, data, len);
}

static void count_line(void *ctx, enum log_level level, const char *line)
{
	(void)ctx;
	(void)level;
	(void)line;
	lines++;
}

static const struct log_sink sink = {.write = count_line};

static void note(void *ctx, const struct kept_record *r)
{
	struct buf *b = ctx;

	buf_printf(b, "%d %.*s %.*s %.*s %u\n", r->subscription_id == 268435455 ? (int)r->change : -1, (int)r->client.len, r->client.data,
		r->user.data ? (int)r->user.len : 1, r->user.data ? r->user.data : "-", (int)r->filter.len, r->filter.data, r->qos);
}

static int setup(void **state)
{
	(void)state;
	lines = 0;
	snprintf(folder, sizeof folder, "/tmp/mqr-unit-XXXXXX");
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof path, "%s/sessions", folder);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	(void)unlink(path);
	return rmdir(folder);
}

static void append(struct kept_file *k, enum kept_change change, const char *client, const char *user, const char *filter)
{
	const struct kept_record r = {change, slice_str(client), slice_str(user), slice_str(filter), 1, 268435455};

	kept_file_append(k, &r);
}

static struct kept_file *reopen(struct buf *seen)
{
	struct kept_file *k;

	buf_clear(seen);
	assert_int_equal(kept_file_open(path, &sink, note, seen, &k), ST_OK);
	buf_u8(seen, 0);
	return k;
}

#define THREE "1 d1 - a/# 1\n1 d2 u b 1\n2 d1 - a/# 1\n3 d2 -  1\n"

static void write_three(struct kept_file *k)
{
	kept_file_begin(k);
	append(k, KEPT_HOLDS, "d1", NULL, "a/#");
	append(k, KEPT_HOLDS, "d2", "u", "b");
	kept_file_end(k);
	append(k, KEPT_DROPS, "d1", NULL, "a/#");
	append(k, KEPT_OVER, "d2", NULL, "");
	kept_file_close(k);
}

static void test_round_trip(void **state)
{
	struct buf seen = {0};
	struct stat info;

	(void)state;
	write_three(reopen(&seen));
	assert_string_equal(seen.data, "");
	assert_int_equal(stat(path, &info), 0);
	assert_int_equal(info.st_mode & 0777, 0600);
	kept_file_close(reopen(&seen));
	assert_string_equal(seen.data, THREE);
	buf_free(&seen);
}

/* Cut anywhere, or with any byte other: a beginning of what was written. */
static void test_damage(void **state)
{
	struct buf seen = {0};
	struct stat info;
	char whole[4096];

	(void)state;
	write_three(reopen(&seen));
	assert_int_equal(stat(path, &info), 0);
	int fd = open(path, O_RDWR);
	assert_int_equal(pread(fd, whole, sizeof whole, 0), info.st_size);
	for (off_t at = 0; at < info.st_size; at++) {
		char other = (char)(whole[at] ^ 0x41);

		assert_int_equal(pwrite(fd, &other, 1, at), 1);
		kept_file_close(reopen(&seen));
		assert_memory_equal(seen.data, THREE, strlen(seen.data));
		assert_int_equal(pwrite(fd, &whole[at], 1, at), 1);
	}
	for (off_t len = info.st_size - 1; len >= 0; len--) {
		assert_int_equal(ftruncate(fd, len), 0);
		kept_file_close(reopen(&seen));
		assert_memory_equal(seen.data, THREE, strlen(seen.data));
		assert_true(strlen(seen.data) < strlen(THREE));
	}
	close(fd);
	buf_free(&seen);
}

/* What is whole by its sum and still says nothing ends it as damage does. */
static void test_foreign_records(void **state)
{
	static const struct {
		uint8_t change;
		struct slice client, filter;
		uint8_t qos;
		bool more, whole;
	} table[] = {
		{KEPT_HOLDS, {"d", 1}, {"a", 1}, 2, false, true},
		{KEPT_OVER, {"d", 1}, {NULL, 0}, 0, false, true},
		{0, {"d", 1}, {"a", 1}, 1, false, false},
		{4, {"d", 1}, {"a", 1}, 1, false, false},
		{KEPT_HOLDS, {"d", 1}, {"a", 1}, 3, false, false},
		{KEPT_HOLDS, {"d", 1}, {"a", 1}, 1, true, false},
		{KEPT_HOLDS, {"", 0}, {"a", 1}, 1, false, false},
		{KEPT_HOLDS, {"d\0e", 3}, {"a", 1}, 1, false, false},
		{KEPT_HOLDS, {"d", 1}, {"", 0}, 1, false, false},
		{KEPT_DROPS, {"d", 1}, {"a\0b", 3}, 1, false, false},
	};
	struct buf seen = {0}, all = {0}, body = {0};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		buf_clear(&all);
		buf_append(&all, KEPT_FILE_MAGIC, 8);
		for (int times = 0; times < 2; times++) {
			buf_clear(&body);
			buf_u8(&body, times == 0 ? (uint8_t)KEPT_HOLDS : table[i].change);
			buf_lenslice(&body, times == 0 ? slice_str("first") : table[i].client);
			buf_lenslice(&body, (struct slice){0});
			buf_lenslice(&body, times == 0 ? slice_str("f") : table[i].filter);
			buf_u8(&body, times == 0 ? 1 : table[i].qos);
			buf_u32(&body, 268435455);
			if (times == 1 && table[i].more) buf_u8(&body, 0);
			buf_u32(&all, (uint32_t)body.len);
			buf_u32(&all, XXH32(body.data, body.len, 0));
			buf_append(&all, body.data, body.len);
		}
		FILE *out = fopen(path, "w");
		assert_non_null(out);
		assert_int_equal(fwrite(all.data, 1, all.len, out), all.len);
		assert_int_equal(fclose(out), 0);
		kept_file_close(reopen(&seen));
		assert_memory_equal(seen.data, "1 first - f 1\n", 14);
		assert_int_equal(strlen(seen.data) > 14, table[i].whole);
	}
	buf_free(&seen);
	buf_free(&all);
	buf_free(&body);
}

/* At its bound it is given up: nothing is known rather than a part. */
static void test_too_long(void **state)
{
	static char text[65000];
	struct buf seen = {0};
	struct kept_file *k = reopen(&seen);
	size_t bytes = 0;

	(void)state;
	memset(text, 'x', sizeof text - 1);
	kept_file_begin(k);
	kept_file_end(k);
	assert_int_equal(access(path, F_OK), 0);
	swallows = true;
	for (; lines == 0 && bytes < 2 * (size_t)KEPT_FILE_MAX; bytes += sizeof text) append(k, KEPT_HOLDS, "d", NULL, text);
	swallows = false;
	assert_int_equal(lines, 1);
	assert_true(bytes >= KEPT_FILE_MAX && bytes < KEPT_FILE_MAX + 3 * sizeof text);
	assert_int_equal(access(path, F_OK), -1);
	append(k, KEPT_HOLDS, "d", NULL, "a");
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(lines, 1);
	kept_file_close(k);
	buf_free(&seen);
}

/* It grows with changes, and is written anew in time. */
static void test_long(void **state)
{
	struct buf seen = {0};
	struct kept_file *k = reopen(&seen);
	unsigned times = 0;

	(void)state;
	kept_file_begin(k);
	kept_file_end(k);
	while (!kept_file_is_long(k) && times++ < 1000000) append(k, KEPT_HOLDS, "d", NULL, "a/long/filter/with/many/levels");
	assert_true(times > 1000 && times < 100000);
	kept_file_begin(k);
	append(k, KEPT_HOLDS, "d", NULL, "a");
	kept_file_end(k);
	assert_false(kept_file_is_long(k));
	kept_file_close(k);
	kept_file_close(reopen(&seen));
	assert_string_equal(seen.data, "1 d - a 1\n");
	buf_free(&seen);
}

static void test_unwritable(void **state)
{
	struct buf seen = {0};
	struct kept_file *k;

	(void)state;
	snprintf(path, sizeof path, "%s/missing/sessions", folder);
	k = reopen(&seen);
	kept_file_begin(k);
	assert_int_equal(lines, 1);
	append(k, KEPT_HOLDS, "d1", NULL, "a/#");
	kept_file_end(k);
	assert_int_equal(lines, 1);
	kept_file_close(k);
	buf_free(&seen);
}

/* --- the device table ---------------------------------------------------------------------------------------------- */

static int two_subscriptions(const char *client)
{
	return strcmp(client, "gone") == 0 ? -1 : strcmp(client, "old") == 0 ? 1 : 2;
}

static struct rig *begin(void)
{
	static const char *const mirrors[] = {"dev/# stream s:%t", NULL};
	static const char *const grants[] = {"dev/#", NULL};
	struct rig *r = rig_new(1 << 20, mirrors, grants);

	r->outlet.tells_sent = r->deps.tells_connect = true;
	assert_int_equal(kept_file_open(path, &r->outlet.log, devices_restore, r->devices, &r->deps.kept), ST_OK);
	devices_rewire(r->devices, &r->deps);
	devices_restored(r->devices, two_subscriptions);
	return r;
}

static void end(struct rig *r)
{
	struct kept_file *k = r->deps.kept;

	rig_free(r);
	kept_file_close(k);
}

static void connect_kept(struct rig *r, const char *client, int subscriptions)
{
	struct client_info c = rig_client(client);

	c.clean = false;
	devices_connected(r->devices, &c, subscriptions);
}

static void subscribe_kept(struct rig *r, const char *client, const char *filter)
{
	struct client_info c = rig_client(client);

	c.clean = false;
	devices_subscribed(r->devices, &c, filter, 1);
}

/* After a restart a message for such a device is held back as before, and it catches up when it is back. */
static void test_restart(void **state)
{
	struct rig *r = begin();
	struct current_message m;
	struct session_event e;
	const char *const clients[] = {"d1", "old", "gone", "clean", "over"};

	(void)state;
	for (size_t i = 0; i < 5; i++) {
		if (strcmp(clients[i], "clean") == 0) rig_subscribe(r, "clean", "dev/a", 1);
		else {
			subscribe_kept(r, clients[i], "dev/a");
			subscribe_kept(r, clients[i], "dev/b");
			subscribe_kept(r, clients[i], "dev/c");
		}
		devices_unsubscribed(r->devices, clients[i], "dev/c");
		devices_disconnected(r->devices, clients[i], i != 3);
	}
	connect_kept(r, "over", 0); /* its session was lost */
	end(r);

	r = begin();
	assert_int_equal(devices_count(r->devices).known, 1);
	m = rig_publish(r, "dev/a", 1);
	assert_true(rig_offer(r, "d1", &m));
	assert_false(rig_offer(r, "old", &m));
	assert_false(rig_offer(r, "gone", &m));
	assert_false(rig_offer(r, "clean", &m));
	m = rig_publish(r, "dev/c", 1);
	assert_false(rig_offer(r, "d1", &m));
	connect_kept(r, "d1", 2);
	e = rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
	assert_false(e.broker_queued);
	rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
	rig_expect_none(r);
	end(r);
}

/* The same for members of groups: what comes while none is back is held back, and they need not subscribe again, if
 * the broker has their subscriptions, as it shows when it asks for one. */
static void test_restart_of_a_group(void **state)
{
	static const char group[] = "$share/g/dev/#";
	struct rig *r = begin();
	struct current_message m;
	const char *const clients[] = {"m1", "gone", "clean", "left"};

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		if (strcmp(clients[i], "clean") == 0) rig_subscribe(r, "clean", group, 1);
		else subscribe_kept(r, clients[i], group);
		if (strcmp(clients[i], "left") == 0) devices_unsubscribed(r->devices, "left", group);
		devices_disconnected(r->devices, clients[i], strcmp(clients[i], "clean") != 0);
	}
	end(r);

	r = begin();
	m = rig_publish(r, "dev/a", 1);
	assert_true(rig_offer(r, "m1", &m));
	assert_false(rig_offer(r, "gone", &m));
	assert_false(rig_offer(r, "clean", &m));
	assert_false(rig_offer(r, "left", &m));
	rig_expect_none(r);
	connect_kept(r, "m1", 1);
	assert_true(slice_equal(rig_expect(r, JOURNAL_SUBSCRIBED, NULL).client, slice_str(group)));
	assert_true(devices_holds(r->devices, "m1", group));
	end(r);

	r = begin(); /* it is in the file still; but the broker may have restored another subscription, and not this one */
	connect_kept(r, "m1", 1);
	rig_expect_none(r);
	m = rig_publish(r, "dev/a", 1);
	assert_true(rig_offer(r, "m1", &m));
	rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
	end(r);
	r = begin();
	connect_kept(r, "m1", 1);
	subscribe_kept(r, "m1", group);
	rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
	end(r);

	r = begin();
	m = rig_publish(r, "dev/a", 1);
	assert_true(rig_offer(r, "m1", &m));
	connect_kept(r, "m1", 0); /* its session was lost */
	end(r);
	r = begin();
	m = rig_publish(r, "dev/a", 1);
	assert_false(rig_offer(r, "m1", &m));
	end(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damage, setup, teardown),
		cmocka_unit_test_setup_teardown(test_foreign_records, setup, teardown),
		cmocka_unit_test_setup_teardown(test_long, setup, teardown),
		cmocka_unit_test_setup_teardown(test_too_long, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unwritable, setup, teardown),
		cmocka_unit_test_setup_teardown(test_restart, setup, teardown),
		cmocka_unit_test_setup_teardown(test_restart_of_a_group, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
