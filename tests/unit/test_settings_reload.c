/*
 * From one set of settings to the next: what may change does, what may not keeps its value and its address, and nothing
 * is lost on the way; no server.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/settings_reload.h"

static struct settings *load(const char *text)
{
	char path[] = "/tmp/mqr-reload-XXXXXX", why[1024];
	struct settings *s = NULL;
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	assert_int_equal(close(fd), 0);
	if (settings_load(path, NULL, 0, NULL, &s, why, sizeof(why)) != ST_OK) fail_msg("%s", why);
	assert_int_equal(unlink(path), 0);
	return s;
}

#define BEFORE "node n1\nprefix p\njournal /tmp/j1\njournal_size 2M\njournal_full refuse\nredis_url redis://127.0.0.1:7000/1\n" \
	"mirror a/# stream a:%t\nmirror b/# list b\nredeliver a/#\nsession_ttl 1h\nhold_timeout 2s\nacl_default deny\n" \
	"broker_url mqtt://127.0.0.1:1\n"
#define AFTER "node n2\nprefix q\njournal /tmp/j2\njournal_size 4M\njournal_full drop-old\nredis_url redis://127.0.0.1:7001/2\n" \
	"mirror b/# list b\nmirror c/# stream c maxage=1h\nredeliver c/# rate=5\nsession_ttl 2h\nhold_timeout 3s\n" \
	"acl_default allow\nbroker_url mqtt://127.0.0.1:2\nbroker_username u\n" \
	"outbox stream o\nlisten 127.0.0.1:1\nredis_confirm fsync\n"

static void all_live_and_nothing_else(const struct settings *s)
{
	assert_int_equal(s->mirror_count, 2);
	assert_string_equal(s->mirrors[1].filter, "c/#");
	assert_int_equal(s->grant_count, 1);
	assert_int_equal(s->grants[0].rate, 5);
	assert_int_equal(s->session_ttl_ms, 7200000);
	assert_int_equal(s->hold_timeout_ms, 3000);
	assert_int_equal(s->acl_default, ACL_DEFAULT_ALLOW);
	assert_string_equal(s->broker_username, "u");
	assert_string_equal(s->node, "n1");
	assert_string_equal(s->prefix, "p");
	assert_string_equal(s->journal, "/tmp/j1");
	assert_int_equal(s->journal_size, 2u << 20);
	assert_int_equal(s->journal_full, JOURNAL_REFUSE);
	assert_string_equal(s->redis_url, "redis://127.0.0.1:7000/1");
	assert_int_equal(s->redis.port, 7000);
	assert_int_equal(s->redis.db, 1);
	assert_int_equal(s->broker.port, 1);
	assert_int_equal(s->confirm, REDIS_CONFIRM_REPLY);
	assert_int_equal(s->listen_at.port, 9419);
}

static void exchanged_in_place(void **state)
{
	struct settings *live = load(BEFORE), *fresh = load(AFTER);
	const char *node = live->node, *url = live->redis_url, *host = live->redis.host;

	(void)state;
	assert_true(settings_live_changes(live, fresh));
	settings_exchange(live, fresh);
	all_live_and_nothing_else(live);
	assert_ptr_equal(live->node, node);
	assert_ptr_equal(live->redis_url, url);
	assert_ptr_equal(live->redis.host, host);
	settings_free(fresh);
	all_live_and_nothing_else(live); /* it holds nothing of the other */
	settings_free(live);
}

static void kept_in_the_new(void **state)
{
	struct settings *live = load(BEFORE), *fresh = load(AFTER);

	(void)state;
	assert_int_equal(settings_keep_fixed(fresh, live), ST_OK);
	settings_free(live);
	all_live_and_nothing_else(fresh);
	settings_free(fresh);
}

static void fixed_ones_are_named(void **state)
{
	struct settings *live = load(BEFORE), *fresh = load(AFTER), *again = load(BEFORE);
	char names[256], few[12];

	(void)state;
	assert_int_equal(settings_fixed_changes(live, fresh, names, sizeof(names)), 10);
	assert_string_equal(names,
		"redis_url, redis_confirm, prefix, node, journal, journal_size, journal_full, broker_url, outbox, listen");
	assert_int_equal(settings_fixed_changes(live, fresh, few, sizeof(few)), 10);
	assert_string_equal(few, "redis_url, ");
	assert_int_equal(settings_fixed_changes(live, again, names, sizeof(names)), 0);
	assert_string_equal(names, "");
	assert_false(settings_live_changes(live, again));
	settings_free(live);
	settings_free(fresh);
	settings_free(again);
}

static void a_setting_that_goes_is_unset(void **state)
{
	struct settings *live = load("broker_username u\n"), *fresh = load("node n\n");

	(void)state;
	settings_exchange(live, fresh);
	assert_null(live->broker_username);
	settings_free(fresh);
	settings_free(live);
}

static void rules_that_go_stay_known(void **state)
{
	struct settings *live = load(BEFORE), *fresh = load(AFTER), *back = load(BEFORE);

	(void)state;
	settings_exchange(live, fresh);
	settings_free(fresh);
	assert_int_equal(live->retired_count, 1);
	assert_string_equal(live->retired[0].key, "a:%t");
	settings_exchange(live, back);
	settings_free(back);
	assert_int_equal(live->retired_count, 2);
	/* To and fro remembers each once. */
	for (int i = 0; i < 10; i++) {
		fresh = load(i % 2 ? BEFORE : AFTER);
		settings_exchange(live, fresh);
		settings_free(fresh);
	}
	assert_int_equal(live->retired_count, 2);
	assert_false(live->retired_lost);
	settings_free(live);
}

static void rules_of_the_broker_alone(void **state)
{
	struct settings *live = load(BEFORE), *fresh = load(AFTER);

	(void)state;
	settings_remember(live, (struct slice){0});
	settings_remember(live, slice_str(""));
	assert_int_equal(live->retired_count, 0);
	settings_remember(live, slice_str("a/# stream a:%t\nx/# stream \"x y\" maxage=1h\nraw/# list r format=raw\nx/# stream \"x y\"\n"));
	assert_int_equal(live->retired_count, 1); /* ours, theirs, one that nobody can read, theirs again */
	assert_string_equal(live->retired[0].key, "x y");
	assert_false(live->retired_lost);
	settings_exchange(live, fresh);
	settings_free(fresh);
	assert_int_equal(live->retired_count, 2);
	settings_remember(live, slice_str("no rule\n"));
	assert_int_equal(live->retired_count, 2);
	assert_true(live->retired_lost);
	settings_free(live);
}

static void too_many_rules_that_went(void **state)
{
	struct settings *live = load("node n\n");
	char text[128];

	(void)state;
	for (int i = 0; i < RULE_COUNT_MAX + 2; i++) {
		snprintf(text, sizeof(text), "node n\nmirror a/# stream k%d\n", i);
		struct settings *fresh = load(text);
		settings_exchange(live, fresh);
		settings_free(fresh);
	}
	assert_int_equal(live->retired_count, RULE_COUNT_MAX);
	assert_true(live->retired_lost);
	settings_free(live);
}

static void shared_until_the_last(void **state)
{
	struct settings *s = load(BEFORE);

	(void)state;
	assert_ptr_equal(settings_share(s), s);
	settings_free(s);
	assert_string_equal(s->node, "n1");
	settings_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(exchanged_in_place),
		cmocka_unit_test(kept_in_the_new),
		cmocka_unit_test(fixed_ones_are_named),
		cmocka_unit_test(a_setting_that_goes_is_unset),
		cmocka_unit_test(rules_that_go_stay_known),
		cmocka_unit_test(rules_of_the_broker_alone),
		cmocka_unit_test(too_many_rules_that_went),
		cmocka_unit_test(shared_until_the_last),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
