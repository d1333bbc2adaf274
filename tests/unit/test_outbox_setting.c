/* Outbox lines of the settings: what is taken, its canonical form, what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "config/outbox.h"

static void taken(void **state)
{
	static const struct {
		const char *value, *text;
	} table[] = {
		{"stream push", NULL},
		{"list push", NULL},
		{"  stream   push   window=100 claim=60s keep=no group=mosquitto-redis", "stream push"},
		{"stream push keep=yes claim=90000ms result=out group=g window=7", "stream push window=7 result=out group=g claim=90s keep=yes"},
		{"list \"a b\" \"result=c d\"", NULL},
		{"list %t window=10000", NULL},
	};
	struct outbox_setting o, again;
	char why[256];

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		assert_int_equal(outbox_setting_parse(table[i].value, &o, why, sizeof(why)), ST_OK);
		assert_string_equal(o.text, table[i].text ? table[i].text : table[i].value);
		assert_int_equal(outbox_setting_parse(o.text, &again, why, sizeof(why)), ST_OK);
		assert_string_equal(again.text, o.text);
		assert_string_equal(again.key, o.key);
		assert_true(again.kind == o.kind && again.window == o.window && again.claim_ms == o.claim_ms && again.keep == o.keep);
		outbox_setting_free(&o);
		outbox_setting_free(&again);
	}
	assert_int_equal(outbox_setting_parse("list k", &o, why, sizeof(why)), ST_OK);
	assert_true(o.kind == RULE_LIST && o.window == OUTBOX_WINDOW_DEFAULT && !o.result && !o.keep);
	outbox_setting_free(&o);
}

static void refused(void **state)
{
	static const char *const table[][2] = {
		{"", "accepted is"}, {"stream", "accepted is"}, {"table k", "stream and list"}, {"stream \"\"", "the key needs"},
		{"stream k window=0", "1 to 10000"}, {"stream k window=10001", "1 to 10000"}, {"stream k window", "without =value"},
		{"stream k size=1", "\"size\" is unknown"}, {"stream k claim=10ms", "1s to 7d"}, {"stream k claim=8d", "1s to 7d"},
		{"stream k keep=maybe", "yes and no"}, {"stream k keep=no keep=no", "twice"}, {"stream k result=", "result needs"},
		{"stream k result=k", "outbox itself"}, {"list k group=g", "for streams only"}, {"list k keep=yes", "for streams only"},
		{"list k claim=1m", "for streams only"}, {"stream \"k", "not closed"},
	};
	struct outbox_setting o;
	char why[512];

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		assert_int_equal(outbox_setting_parse(table[i][0], &o, why, sizeof(why)), ST_INVALID);
		if (!strstr(why, table[i][1])) fail_msg("%s: \"%s\" without \"%s\"", table[i][0], why, table[i][1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(taken),
		cmocka_unit_test(refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
