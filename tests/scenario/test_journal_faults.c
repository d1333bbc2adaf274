/*
 * The journal's file mistreated between two runs of a real broker, with 200 acknowledged messages in it that no Redis has
 * seen: the broker starts and every intact message arrives, or it refuses and says why, and the file is as it was.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "plugin/journal_format.h"
#include "tests/harness/guest.h"
#include "tests/harness/servers.h"
#include "tests/harness/store.h"
#include "tests/unit/journal_v1.h"

#define WAIT_MS 60000
#define COUNT 200
#define RECORDS_MAX 300
#define MIB (1024u * 1024u)
#define SEED 20260611u

/* Where a record lies in the file. */
struct span {
	size_t from, len, total; /* len: without padding */
	int number;              /* of the message, -1: another record */
};

struct fault {
	struct world w;
	const char *path;
	char *image; /* of the file as the broker left it; owned */
	size_t len;
	struct span spans[RECORDS_MAX];
	size_t span_count;
};

static char payload[20000];

/* Message `number`, `len` bytes. */
static const char *text_of(int number, size_t len)
{
	memset(payload, 'x', len);
	payload[len] = '\0';
	(void)snprintf(payload, sizeof(payload), "message number %03d.", number);
	payload[strlen(payload)] = 'x';
	return payload;
}

static void image_free(void *ctx)
{
	free(*(char **)ctx);
}

static void image_write(const struct fault *f)
{
	int fd = open(f->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, f->image, f->len), (ssize_t)f->len);
	(void)close(fd);
}

/* The file is exactly what the broker left. */
static void expect_untouched(const struct fault *f)
{
	size_t len = 0;
	const char *now = scene_read(f->w.scene, f->path, &len);

	assert_non_null(now);
	assert_int_equal(len, f->len);
	assert_memory_equal(now, f->image, len);
}

/* All records, in order: the ring has not gone round, and nothing was released. */
static void find_spans(struct fault *f)
{
	char needle[32];
	int number = 0;

	for (size_t at = RING_OFFSET; at + sizeof(struct journal_header) <= f->len;) {
		struct journal_header h;
		memcpy(&h, f->image + at, sizeof(h));
		if (h.position != at - RING_OFFSET + f->len - RING_OFFSET) break;
		assert_true(f->span_count < RECORDS_MAX);
		struct span *s = &f->spans[f->span_count++];
		*s = (struct span){at, sizeof(h) + h.length, (size_t)record_total(h.length), -1};
		if (h.type == JOURNAL_MESSAGE) {
			(void)snprintf(needle, sizeof(needle), "message number %03d.", number);
			assert_non_null(memmem(f->image + at, s->len, needle, strlen(needle)));
			s->number = number++;
		}
		at += s->total;
	}
	assert_int_equal(number, COUNT);
}

/* Redis away, the messages acknowledged, the broker stopped. */
static struct fault *fault_new(struct scene *s, size_t len)
{
	struct fault *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	scene_at_end(s, free, f);
	scene_at_end(s, image_free, &f->image);
	world_start(&f->w, s, "mirror # stream s", WORLD_NO_START);
	f->path = scene_path(s, "journal");
	server_start(f->w.broker);
	struct guest *p = guest_join(&f->w, "p", NULL);
	for (int i = 0; i < COUNT; i++) guest_publish(p, "t", text_of(i, len), 1);
	guest_disconnect(p);
	server_stop(f->w.broker);
	const char *image = scene_read(s, f->path, &f->len);
	assert_non_null(image);
	f->image = malloc(f->len);
	assert_non_null(f->image);
	memcpy(f->image, image, f->len);
	find_spans(f);
	return f;
}

/* Replaces a text in a file of the scene. */
static void edit(struct scene *s, const char *name, const char *old, const char *fresh)
{
	const char *text = scene_read(s, scene_path(s, name), NULL), *at = text ? strstr(text, old) : NULL;

	scene_require(at, "%s: no \"%s\"", name, old);
	(void)scene_write(s, name, scene_text(s, "%.*s%s%s", (int)(at - text), text, fresh, at + strlen(old)));
}

/* The broker does not start; its log names every one of the texts. NULL-terminated. */
static void expect_refused(struct fault *f, ...)
{
	size_t from = server_log_size(f->w.broker);
	const char *text;
	va_list args;

	(void)server_start_refused(f->w.broker);
	va_start(args, f);
	while ((text = va_arg(args, const char *))) {
		scene_require(server_log_has(f->w.broker, from, text), "the refusal does not say \"%s\"", text);
	}
	va_end(args);
}

/* All but the missing ones are in Redis, once, in order, and nothing else is. `missing` NULL: all. */
static void expect_arrived(struct fault *f, const bool *missing)
{
	struct world *w = &f->w;
	int expected = COUNT;
	size_t at = 0;

	if (!server_running(w->redis)) server_start(w->redis);
	if (!w->db) w->db = store_open(w->redis);
	for (int i = 0; missing && i < COUNT; i++) expected -= missing[i];
	struct guest *last = guest_join(w, scene_text(w->scene, "last %zu", server_log_size(w->broker)), NULL);
	guest_publish(last, "t", "the last", 1);
	store_wait_stream(w->db, "s", expected + 1, WAIT_MS);
	const redisReply *all = stored_stream(w->db, "s");
	assert_int_equal(all->elements, expected + 1);
	for (int i = 0; i < COUNT; i++) {
		if (missing && missing[i]) continue;
		const redisReply *found = stored_field(all->element[at++], "payload");
		assert_non_null(found);
		assert_string_equal(found->str, text_of(i, found->len));
	}
	assert_string_equal(stored_field(all->element[at], "payload")->str, "the last");
	assert_int_equal(store_stream_len(w->db, "mqtt:dead"), 0);
	guest_disconnect(last);
}

static void start_and_expect_all(struct fault *f)
{
	size_t from = server_log_size(f->w.broker);

	server_start(f->w.broker);
	assert_true(server_log_has(f->w.broker, from, "of an earlier run go to Redis first"));
	assert_false(server_log_has(f->w.broker, from, "damaged"));
	expect_arrived(f, NULL);
}

/* --- the settings changed -------------------------------------------------------------------------------------- */

static void test_grown(void **state)
{
	struct fault *f = fault_new(*state, 8000);
	struct stat info;

	edit(*state, "mosquitto-redis.conf", "journal_size 4M", "journal_size 9M");
	start_and_expect_all(f);
	assert_int_equal(stat(f->path, &info), 0);
	assert_int_equal(info.st_size, RING_OFFSET + 9 * MIB);
	scene_end(*state);
}

static void test_shrunk(void **state)
{
	struct fault *f = fault_new(*state, 8000);
	struct stat info;

	edit(*state, "mosquitto-redis.conf", "journal_size 4M", "journal_size 2M");
	start_and_expect_all(f);
	assert_int_equal(stat(f->path, &info), 0);
	assert_int_equal(info.st_size, RING_OFFSET + 2 * MIB);
	scene_end(*state);
}

static void test_shrunk_too_far(void **state)
{
	struct fault *f = fault_new(*state, 8000);
	size_t unsent = 0;

	for (size_t n = 0; n < f->span_count; n++) unsent += f->spans[n].total;
	edit(*state, "mosquitto-redis.conf", "journal_size 4M", "journal_size 1M");
	expect_refused(f, scene_text(*state, "holds %zu bytes of unsent records", unsent), "journal_size 1048576",
		"keep journal_size at 4194304", NULL);
	expect_untouched(f);
	edit(*state, "mosquitto-redis.conf", "journal_size 1M", "journal_size 4M");
	start_and_expect_all(f);
	scene_end(*state);
}

static void test_other_node(void **state)
{
	struct fault *f = fault_new(*state, 100);

	edit(*state, "mosquitto-redis.conf", "node test", "node neighbour");
	expect_refused(f, "belongs to node \"test\"", "the settings say node \"neighbour\"", NULL);
	expect_untouched(f);
	edit(*state, "mosquitto-redis.conf", "node neighbour", "node test");
	start_and_expect_all(f);
	scene_end(*state);
}

/* --- the file damaged ------------------------------------------------------------------------------------------ */

static void test_truncated(void **state)
{
	struct fault *f = fault_new(*state, 16000);
	bool missing[COUNT] = {false};
	size_t kept = f->len / 2, lost = 0;

	assert_int_equal(truncate(f->path, (off_t)kept), 0);
	for (size_t n = 0; n < f->span_count; n++) {
		const struct span *s = &f->spans[n];
		if (s->from + s->len <= kept) continue;
		lost += s->total;
		if (s->number >= 0) missing[s->number] = true;
	}
	assert_true(missing[COUNT - 1] && !missing[0] && !missing[COUNT / 3]);
	size_t from = server_log_size(f->w.broker);
	server_start(f->w.broker);
	assert_true(server_log_has(f->w.broker, from, scene_text(*state, "file was %zu bytes too short", f->len - kept)));
	assert_true(server_log_has(f->w.broker, from, scene_text(*state, "damaged in 1 places (%zu bytes)", lost)));
	expect_arrived(f, missing);
	scene_end(*state);
}

/* Flips a bit of `count` random bytes of the records; what that costs. */
static void flip(const struct fault *f, char *image, int count, bool *missing, size_t *places, size_t *lost)
{
	const struct span *last = &f->spans[f->span_count - 1];
	bool hit[RECORDS_MAX] = {false};

	while (count-- > 0) {
		size_t at = RING_OFFSET + (size_t)rand() % (last->from + last->total - RING_OFFSET), n = 0;
		while (f->spans[n].from + f->spans[n].total <= at) n++;
		if (hit[n]) continue; /* a second flip may undo the first */
		image[at] = (char)(image[at] ^ 1 << rand() % 8);
		hit[n] = at - f->spans[n].from < f->spans[n].len; /* padding is nobody's */
	}
	*places = *lost = 0;
	for (size_t n = 0; n < f->span_count; n++) {
		if (!hit[n]) continue;
		if (n == 0 || !hit[n - 1]) ++*places; /* neighbours are one place */
		*lost += f->spans[n].total;
		if (f->spans[n].number >= 0) missing[f->spans[n].number] = true;
	}
}

static void test_flipped(void **state)
{
	struct fault *f = fault_new(*state, 500);
	char *whole = f->image;

	print_message("seed %u\n", SEED);
	srand(SEED);
	server_start(f->w.redis);
	f->w.db = store_open(f->w.redis);
	for (int round = 0; round < 8; round++) {
		bool missing[COUNT] = {false};
		size_t places, lost;
		f->image = malloc(f->len);
		assert_non_null(f->image);
		memcpy(f->image, whole, f->len);
		flip(f, f->image, 1 << round, missing, &places, &lost);
		/* One copy of the header, what nobody uses, and the rule, which the settings still have. */
		f->image[(round % 2 ? STATIC_COPY_1 : STATIC_COPY_0) + (size_t)rand() % sizeof(struct journal_static)] ^= 1;
		f->image[RING_OFFSET + 3 * MIB + (size_t)rand() % MIB] ^= 1;
		if (round % 2) f->image[RULES_OFFSET + (size_t)rand() % sizeof(struct journal_rule_entry)] ^= 1;
		else f->image[RULES_OFFSET + RULES_TEXT_OFFSET + (size_t)rand() % strlen("# stream s")] ^= 1;
		image_write(f);
		free(f->image);
		f->image = whole;
		(void)store_query(f->w.db, "FLUSHALL", NULL);
		size_t from = server_log_size(f->w.broker);
		server_start(f->w.broker);
		if (places > 0) {
			const char *text = scene_text(*state, "damaged in %zu places (%zu bytes)", places, lost);
			scene_require(server_log_has(f->w.broker, from, text), "round %d: the log does not say %s", round, text);
		}
		assert_true(server_log_has(f->w.broker, from, "one copy of the header was damaged"));
		assert_true(server_log_has(f->w.broker, from, "1 damaged in the rule table"));
		expect_arrived(f, missing);
		server_stop(f->w.broker);
	}
	scene_end(*state);
}

/* The broker's host fails: the file is as it was on the disk, long before all of it was written to Redis, and without its end.
 * Nothing comes twice, or to the dead letters. */
static void test_host_failed(void **state)
{
	struct fault *f = fault_new(*state, 100);
	const struct span *lost = &f->spans[f->span_count - 20];

	server_start(f->w.redis);
	f->w.db = store_open(f->w.redis);
	server_start(f->w.broker);
	store_wait_stream(f->w.db, "s", COUNT, WAIT_MS);
	server_kill(f->w.broker);
	memset(f->image + lost->from, 0, f->len - lost->from);
	image_write(f);
	server_start(f->w.broker);
	struct guest *p = guest_join(&f->w, "p", NULL);
	guest_publish(p, "t", "behind", 1);
	store_wait_stream(f->w.db, "s", COUNT + 1, WAIT_MS);
	assert_int_equal(store_stream_len(f->w.db, "s"), COUNT + 1);
	assert_int_equal(store_stream_len(f->w.db, "mqtt:dead"), 0);
	scene_end(*state);
}

/* A rule that the settings no longer have is damaged in the journal: its messages were acknowledged, so they are kept where
 * somebody can find them. */
static void test_lost_rule(void **state)
{
	struct fault *f = fault_new(*state, 100);

	f->image[RULES_OFFSET + RULES_TEXT_OFFSET] ^= 1;
	image_write(f);
	server_start(f->w.redis);
	f->w.db = store_open(f->w.redis);
	(void)scene_write(*state, "mosquitto-redis.conf", scene_text(*state,
		"redis_url redis://127.0.0.1:%u/0\njournal %s\njournal_size 4M\nnode test\nmirror other stream other\n",
		server_port(f->w.redis), f->path));
	size_t from = server_log_size(f->w.broker);
	server_start(f->w.broker);
	assert_true(server_log_has(f->w.broker, from, "1 damaged in the rule table"));
	store_wait_stream(f->w.db, "mqtt:dead", COUNT, WAIT_MS);
	const redisReply *all = stored_stream(f->w.db, "mqtt:dead");
	for (int i = 0; i < COUNT; i++) {
		stored_expect(all->element[i], "error", "*", "source", "rule 0", "key", "", "id", "*", "topic", "t", "payload",
			text_of(i, 100), "qos", "1", "retain", "0", "client", "p", NULL);
		assert_int_equal(strncmp(stored_field(all->element[i], "error")->str, "RULE ", 5), 0);
	}
	scene_end(*state);
}

/* --- another file there ---------------------------------------------------------------------------------------- */

static void test_not_a_journal(void **state)
{
	struct fault *f = fault_new(*state, 100);
	char *whole = f->image;
	char letter[] = "somebody's letter\n";
	size_t len = f->len;

	f->image = letter;
	f->len = strlen(letter);
	image_write(f);
	expect_refused(f, "not a journal of mosquitto-redis", f->path, NULL);
	expect_untouched(f);
	f->image = whole;
	f->len = len;
	image_write(f);
	start_and_expect_all(f);
	scene_end(*state);
}

static void test_version(void **state)
{
	struct fault *f = fault_new(*state, 100);
	struct journal_static s;

	memcpy(&s, f->image, sizeof(s));
	v1_static(f->image, 3, s.tag, s.ring_size, s.node);
	image_write(f);
	expect_refused(f, "version 3, this program reads versions 1 to 2", f->path, NULL);
	expect_untouched(f);
	/* And of the version before, with what is in it. */
	v1_static(f->image, 1, s.tag, s.ring_size, s.node);
	image_write(f);
	size_t from = server_log_size(f->w.broker);
	server_start(f->w.broker);
	assert_true(server_log_has(f->w.broker, from, "version 1 brought to version 2"));
	expect_arrived(f, NULL);
	scene_end(*state);
}

static void test_directory(void **state)
{
	struct fault *f = fault_new(*state, 100);

	assert_int_equal(unlink(f->path), 0);
	assert_int_equal(mkdir(f->path, 0755), 0);
	expect_refused(f, f->path, "Is a directory", NULL);
	assert_int_equal(rmdir(f->path), 0);
	image_write(f);
	start_and_expect_all(f);
	scene_end(*state);
}

/* --- no leave, no room ----------------------------------------------------------------------------------------- */

/* As root the broker runs as user mosquitto, which may look into the folder and no more; the plugin moves to where that
 * user can load it. Other users take the leave from themselves. */
static void test_no_permission(void **state)
{
	struct fault *f = fault_new(*state, 100);
	const char *conf = scene_path(*state, "broker.conf"), *usual = scene_read(*state, conf, NULL);
	size_t len;

	if (geteuid() == 0) {
		const char *plugin = scene_read(*state, PLUGIN_FILE, &len), *copy = scene_path(*state, "plugin.so");
		int fd = open(copy, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
		assert_true(plugin && fd >= 0);
		assert_int_equal(write(fd, plugin, len), (ssize_t)len);
		(void)close(fd);
		edit(*state, "broker.conf", PLUGIN_FILE, copy);
		edit(*state, "broker.conf", "user root", "user mosquitto");
		assert_int_equal(chmod(copy, 0755), 0);
		assert_int_equal(chmod(scene_dir(*state), 0755), 0);
		assert_int_equal(chmod(conf, 0644), 0);
		assert_int_equal(chmod(f->w.settings, 0644), 0);
		assert_int_equal(chmod(scene_path(*state, "mosquitto-redis-plugin.password"), 0644), 0);
	} else {
		assert_int_equal(chmod(f->path, 0), 0);
	}
	expect_refused(f, f->path, "cannot open: Permission denied", NULL);
	assert_int_equal(chmod(f->path, 0600), 0);
	expect_untouched(f);
	(void)scene_write(*state, "broker.conf", usual);
	start_and_expect_all(f);
	scene_end(*state);
}

/* A limit on the size of files, which the broker inherits, fails where a full disk would: when room is allocated. */
static void expect_no_room(struct fault *f, rlim_t most)
{
	struct rlimit usual, small;
	void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &usual), 0);
	small = (struct rlimit){.rlim_cur = most, .rlim_max = usual.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	expect_refused(f, "cannot allocate", "File too large", f->path, NULL);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &usual), 0);
	(void)signal(SIGXFSZ, handler);
	assert_int_equal(access(scene_text(f->w.scene, "%s.new", f->path), F_OK), -1);
}

static void test_full_disk(void **state)
{
	struct fault *f = fault_new(*state, 100);

	/* No room for a larger one: the present one stays. */
	edit(*state, "mosquitto-redis.conf", "journal_size 4M", "journal_size 9M");
	expect_no_room(f, 6 * MIB);
	expect_untouched(f);
	edit(*state, "mosquitto-redis.conf", "journal_size 9M", "journal_size 4M");
	/* No room for the first one: none is left behind, and room later is all it takes. */
	assert_int_equal(unlink(f->path), 0);
	expect_no_room(f, 1 * MIB);
	assert_int_equal(access(f->path, F_OK), -1);
	server_start(f->w.broker);
	assert_int_equal(access(f->path, F_OK), 0);
	server_stop(f->w.broker);
	image_write(f);
	start_and_expect_all(f);
	scene_end(*state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_grown),
		scene_test(test_shrunk),
		scene_test(test_shrunk_too_far),
		scene_test(test_other_node),
		scene_test(test_truncated),
		scene_test(test_flipped),
		scene_test(test_host_failed),
		scene_test(test_lost_rule),
		scene_test(test_not_a_journal),
		scene_test(test_version),
		scene_test(test_directory),
		scene_test(test_no_permission),
		scene_test(test_full_disk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
