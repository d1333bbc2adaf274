/*
 * What plugin and bridge share, with each of its allocations failing in turn (tests/faults/nth.h): success, or out of memory
 * without a leak; never half a result.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>
#include <cmocka.h>

#include "config/acl_file.h"
#include "config/control.h"
#include "config/message.h"
#include "config/redis_link.h"
#include "config/settings.h"
#include "config/settings_reload.h"
#include "tests/faults/nth.h"

#define S(text) slice_str(text)

static char folder[] = "/tmp/mqr-nth-XXXXXX", path[64], other[64];
static struct log_sink quiet;

static void ignore(void *ctx, enum log_level level, const char *line)
{
	(void)ctx;
	(void)level;
	(void)line;
}

static void file_is(const char *name, const char *text)
{
	FILE *f = fopen(name, "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static int setup(void **state)
{
	(void)state;
	quiet.write = ignore;
	if (!mkdtemp(folder)) return -1;
	snprintf(path, sizeof(path), "%s/conf", folder);
	snprintf(other, sizeof(other), "%s/other", folder);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	(void)unlink(path);
	(void)unlink(other);
	return rmdir(folder);
}

/* --- settings ------------------------------------------------------------------------------------------------------------- */

#define PARTS "mirror a/# stream \"s:%1 x\" maxlen=5\nmirror b/+ list l format=raw\nredeliver a/# new=last=3 rate=5\n" \
	"redeliver %c/# replay=yes\noutbox stream pushes\noutbox list jobs\nnode n1\n"

/* NULL without memory; then nothing is kept. */
static struct settings *load(void)
{
	static const struct setting_override overrides[] = {{"mirror", "c/# stream c"}, {"prefix", "p"}};
	static char why[4096];
	struct settings *s = NULL;

	nth_on();
	enum status st = settings_load(path, overrides, 2, &quiet, &s, why, sizeof(why));
	nth_off();
	if (st == ST_OK) return s;
	/* The status, too: the bridge ends with another one for settings that are wrong. */
	if (!nth_fired() || st != ST_NOMEM) fail_msg("%s: %s", status_text(st), why);
	return NULL;
}

static void settings_single(void)
{
	file_is(path, "redis_url redis://host.example:7000/3\nbroker_url mqtt://h:1\nlisten 127.0.0.1:1234\n" PARTS);
	struct settings *s = load();
	if (!s) return;
	assert_int_equal(s->mirror_count, 3);
	assert_int_equal(s->grant_count, 2);
	assert_int_equal(s->outbox_count, 2);
	assert_string_equal(s->redis.host, "host.example");
	assert_string_equal(s->prefix, "p");
	settings_free(s);
}

static void settings_sentinel(void)
{
	file_is(path, "redis_url redis+sentinel://a:1,b:2,c:3/main/4\nredis_confirm replicas=2\n" PARTS);
	struct settings *s = load();
	if (!s) return;
	assert_int_equal(s->redis.host_count, 3);
	assert_string_equal(s->redis.master, "main");
	settings_free(s);
}

static void settings_reloaded(void)
{
	file_is(path, "node x\nmirror a stream a\n");
	struct settings *live = NULL, *fresh;
	static char why[4096];
	assert_int_equal(settings_load(path, NULL, 0, &quiet, &live, why, sizeof(why)), ST_OK);
	file_is(path, "node y\nredis_url redis+cluster://a:1,b:2\nmirror b stream b\nmirror c stream c\n");
	assert_int_equal(settings_load(path, NULL, 0, &quiet, &fresh, why, sizeof(why)), ST_OK);
	if (NTH_OK(settings_keep_fixed(fresh, live))) {
		assert_string_equal(fresh->node, "x");
		assert_string_equal(fresh->redis_url, live->redis_url);
		NTH_DO(settings_exchange(live, fresh));
		assert_int_equal(live->mirror_count, 2);
		NTH_DO(settings_remember(live, S("d stream d\ne stream e")));
		assert_true(nth_fired() || live->retired_count > 0);
	}
	settings_free(live);
	settings_free(fresh);
}

static void passwords(void)
{
	char *password = NULL;

	file_is(path, "secret\n");
	if (!NTH_OK(password_read(path, &password))) return;
	assert_string_equal(password, "secret");
	free(password);
}

static void acl_files(void)
{
	struct acl_file *acl = NULL;
	char why[256];

	file_is(path, "topic read all/#\nuser a\ntopic readwrite a/#\ntopic deny a/b\nuser b\ntopic b/+\npattern read %c/#\npattern %u/x\n");
	nth_on();
	if (!nth_ok(acl_file_load(path, &acl, why, sizeof(why)))) return;
	assert_true(acl_file_allows(acl, S("c"), S("a"), S("a/x"), ACL_READ));
	assert_false(acl_file_allows(acl, S("c"), S("a"), S("a/b"), ACL_READ));
	assert_false(acl_file_allows(acl, S("c"), S("b"), S("a/x"), ACL_READ));
	acl_file_free(acl);
}

/* --- messages and commands -------------------------------------------------------------------------------------------------- */

static const struct message sample = {.id = {5, 6}, .topic = {"a/b", 3}, .payload = {"\xff\x00 binary", 9}, .client = {"c", 1},
	.user = {"u", 1}, .qos = 1, .retain = true, .has_expiry = true, .expiry_ms = 7, .payload_format = 1,
	.content_type = {"t", 1}, .response_topic = {"r", 1}, .correlation = {"\xfe", 1},
	.user_properties = {"\0\1a\0\1b\0\1c\0\1d", 12}};

static void check_sample(const struct message *m)
{
	assert_true(slice_equal(m->topic, sample.topic) && slice_equal(m->payload, sample.payload));
	assert_true(slice_equal(m->user_properties, sample.user_properties) && slice_equal(m->correlation, sample.correlation));
}

static void messages_json(void)
{
	struct buf out = {0}, scratch = {0};
	struct message m;
	const char *why = "";

	NTH_DO(message_to_json(&sample, &out));
	assert_true(nth_fired() || !out.failed);
	if (!out.failed && NTH_OK(message_from_json(slice_of(out.data, out.len), &m, &scratch, &why))) check_sample(&m);
	buf_free(&out);
	buf_free(&scratch);
}

static void messages_fields(void)
{
	struct slice names[MESSAGE_FIELDS_MAX], values[MESSAGE_FIELDS_MAX];
	struct buf out = {0}, scratch = {0};
	struct message m;
	const char *why = "";

	nth_on();
	size_t count = message_to_fields(&sample, names, values, &out);
	nth_off();
	assert_true(nth_fired() || count > 0);
	assert_int_equal(count == 0, out.failed);
	if (count > 0 && NTH_OK(message_from_fields(sample.id, names, values, count, &m, &scratch, &why))) check_sample(&m);
	buf_free(&out);
	buf_free(&scratch);
}

static void commands(void)
{
	struct buf out = {0};
	struct control_batch b;
	struct control_command c;

	nth_on();
	control_batch_begin(&b, &out, S("device"), (struct entry_id){1, 2}, 3);
	for (unsigned i = 0; i < 20; i++) control_batch_filter(&b, S("a/long/filter/+/#"));
	for (unsigned i = 0; i < 20; i++) control_batch_message(&b, &sample);
	control_batch_end(&b, (struct entry_id){9, 9});
	nth_off();
	assert_true(nth_fired() || !out.failed);
	if (!out.failed) { /* what is whole is right */
		assert_int_equal(control_decode(slice_of(out.data, out.len), &c), ST_OK);
		assert_int_equal(c.message_count, 20);
		assert_int_equal(c.filter_count, 20);
	}
	buf_free(&out);
}

/* --- links, not connected ------------------------------------------------------------------------------------------------------ */

static void ready(void *ctx, struct redis_link *link)
{
	(void)ctx;
	(void)link;
}

static void lost(void *ctx, struct redis_link *link, enum status st, const char *text)
{
	(void)ctx;
	(void)link;
	assert_int_not_equal(st, ST_OK);
	assert_non_null(text);
}

static void link_lives(const char *url)
{
	uv_loop_t loop;
	struct settings *s = NULL;
	struct redis_link *link = NULL;
	const struct redis_link_events events = {.ready = ready, .lost = lost};
	static char why[4096], line[256];

	snprintf(line, sizeof(line), "redis_url %s\n", url);
	file_is(path, line);
	assert_int_equal(settings_load(path, NULL, 0, &quiet, &s, why, sizeof(why)), ST_OK);
	assert_int_equal(uv_loop_init(&loop), 0);
	if (NTH_OK(redis_link_new(&loop, s, "test", &quiet, &events, &link))) {
		redis_link_start(link);
		NTH_DO((void)uv_run(&loop, UV_RUN_NOWAIT)); /* without memory it tries again later */
		redis_link_close(link, NULL, NULL);
	}
	while (uv_run(&loop, UV_RUN_DEFAULT) != 0) continue;
	assert_int_equal(uv_loop_close(&loop), 0);
	settings_free(s);
}

static void link_single(void)
{
	link_lives("redis://127.0.0.1:1/0");
}

static void link_sentinel(void)
{
	link_lives("redis+sentinel://127.0.0.1:1,127.0.0.1:2/main/0");
}

static void link_cluster(void)
{
	link_lives("redis+cluster://127.0.0.1:1,127.0.0.1:2");
}

#define SWEEP(name) \
	static void test_##name(void **state) \
	{ \
		(void)state; \
		nth_sweep(name); \
	}

SWEEP(settings_single)
SWEEP(settings_sentinel)
SWEEP(settings_reloaded)
SWEEP(passwords)
SWEEP(acl_files)
SWEEP(messages_json)
SWEEP(messages_fields)
SWEEP(commands)
SWEEP(link_single)
SWEEP(link_sentinel)
SWEEP(link_cluster)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_settings_single),
		cmocka_unit_test(test_settings_sentinel),
		cmocka_unit_test(test_settings_reloaded),
		cmocka_unit_test(test_passwords),
		cmocka_unit_test(test_acl_files),
		cmocka_unit_test(test_messages_json),
		cmocka_unit_test(test_messages_fields),
		cmocka_unit_test(test_commands),
		cmocka_unit_test(test_link_single),
		cmocka_unit_test(test_link_sentinel),
		cmocka_unit_test(test_link_cluster),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
