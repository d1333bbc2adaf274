/*
 * Loading of settings: syntax, values, overrides, contradictions, and that every error names its place; no server.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/settings.h"

#define SEED 31337u
#define WHY_MAX 4096

static char folder[] = "/tmp/mqr-settings-XXXXXX";
static char path[64], other[64];
static char warnings[WHY_MAX];

static int setup(void **state)
{
	(void)state;
	if (!mkdtemp(folder)) return -1;
	(void)snprintf(path, sizeof(path), "%s/conf", folder);
	(void)snprintf(other, sizeof(other), "%s/other", folder);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	(void)unlink(path);
	(void)unlink(other);
	return rmdir(folder);
}

static void file_is(const char *name, const char *text, size_t len)
{
	FILE *f = fopen(name, "wb");

	assert_true(f != NULL);
	assert_int_equal(fwrite(text, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

static void keep_warning(void *ctx, enum log_level level, const char *line)
{
	(void)ctx;
	assert_int_equal(level, LOG_LEVEL_WARNING);
	assert_true(strlen(warnings) + strlen(line) + 2 < sizeof(warnings));
	strcat(warnings, line);
	strcat(warnings, "\n");
}

static const struct log_sink sink = {keep_warning, NULL};

static enum status load(const char *text, const struct setting_override *overrides, size_t count, struct settings **s,
	char why[WHY_MAX])
{
	warnings[0] = '\0';
	*s = NULL;
	if (text) file_is(path, text, strlen(text));
	return settings_load(text ? path : NULL, overrides, count, &sink, s, why, WHY_MAX);
}

static struct settings *good(const char *text)
{
	struct settings *s;
	char why[WHY_MAX];

	if (load(text, NULL, 0, &s, why) != ST_OK) fail_msg("%s", why);
	assert_string_equal(why, "");
	return s;
}

/* The explanation must begin with the file and hold `part`, which begins with ":LINE: ". */
static void bad(const char *text, const char *part)
{
	struct settings *s;
	char why[WHY_MAX];

	if (load(text, NULL, 0, &s, why) == ST_OK) fail_msg("accepted: %s", text);
	assert_true(s == NULL);
	if (strncmp(why, path, strlen(path)) != 0) fail_msg("\"%s\" does not begin with the file", why);
	if (!strstr(why, part)) fail_msg("%s: \"%s\" lacks \"%s\"", text, why, part);
}

static void defaults(void **state)
{
	struct settings *s = good(NULL);

	(void)state;
	assert_string_equal(s->redis_url, "redis://127.0.0.1:6379/0");
	assert_int_equal(s->redis.form, REDIS_TCP);
	assert_string_equal(s->redis.host, "127.0.0.1");
	assert_int_equal(s->redis.port, 6379);
	assert_int_equal(s->redis.db, 0);
	assert_string_equal(s->redis_confirm, "reply");
	assert_string_equal(s->prefix, "mqtt");
	assert_true(s->node && s->node[0] && !strpbrk(s->node, " {}\t"));
	assert_string_equal(s->journal, "/var/lib/mosquitto/mosquitto-redis.journal");
	assert_true(s->journal_size == UINT64_C(256) << 20);
	assert_int_equal(s->journal_full, JOURNAL_REFUSE);
	assert_int_equal(s->acl_default, ACL_DEFAULT_DETECT);
	assert_true(s->session_ttl_ms == UINT64_C(604800000) && s->hold_timeout_ms == 5000);
	assert_string_equal(s->broker.host, "127.0.0.1");
	assert_int_equal(s->broker.port, 1883);
	assert_true(!s->redis_username && !s->redis_password_file && !s->acl_file && !s->broker_username);
	assert_string_equal(s->listen_at.host, "127.0.0.1");
	assert_true(s->listen_at.port == 9419 && !s->listen_at.off && !s->listen_at.ipv6);
	assert_true(s->mirror_count == 0 && s->grant_count == 0);
	settings_free(s);
	settings_free(NULL);
	s = good("");
	settings_free(s);
}

static void syntax(void **state)
{
	struct settings *s = good("# comment\r\n"
		"   # prefix other\r\n"
		"\r\n"
		" \t prefix \t my:app  \t\r\n"
		"node\tbroker#1\r\n"
		"journal /tmp/with blank # not a comment\n"
		"mirror \"a b/#\" list \"k k\"\n"
		"mirror a/# stream k maxlen=5\r\n"
		"redeliver \"a b/%c\" rate=7\n"
		"journal_size 1M\n"
		"hold_timeout 0\n"
		"acl_default deny");

	(void)state;
	assert_string_equal(s->prefix, "my:app");
	assert_string_equal(s->node, "broker#1");
	assert_string_equal(s->journal, "/tmp/with blank # not a comment");
	assert_int_equal(s->mirror_count, 2);
	assert_string_equal(s->mirrors[0].filter, "a b/#");
	assert_string_equal(s->mirrors[1].text, "a/# stream k maxlen=5");
	assert_int_equal(s->grant_count, 1);
	assert_int_equal(s->grants[0].rate, 7);
	assert_true(s->journal_size == 1u << 20 && s->hold_timeout_ms == 0);
	assert_int_equal(s->acl_default, ACL_DEFAULT_DENY);
	assert_string_equal(warnings, "");
	settings_free(s);
}

static void journal_full_values(void **state)
{
	static const struct {
		const char *line;
		enum journal_full value;
	} cases[] = {
		{"journal_full refuse", JOURNAL_REFUSE}, {"journal_full drop-new", JOURNAL_DROP_NEW},
		{"journal_full drop-old", JOURNAL_DROP_OLD},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct settings *s = good(cases[i].line);
		assert_int_equal(s->journal_full, cases[i].value);
		settings_free(s);
	}
}

static void all_errors_with_their_lines(void **state)
{
	struct settings *s;
	char why[WHY_MAX];

	(void)state;
	assert_int_equal(load("prefix a b\n\nwhat ever\nmirror a stream\nprefix x\njournal_size 5\nnode\n", NULL, 0, &s,
		why),
		ST_INVALID);
	assert_true(strstr(why, ":1: prefix \"a b\"") != NULL);
	assert_true(strstr(why, ":3: \"what\" is not the name") != NULL);
	assert_true(strstr(why, ":4: mirror: ") != NULL);
	assert_true(strstr(why, ":5: prefix is already set in ") && strstr(why, "conf:1\n") != NULL);
	assert_true(strstr(why, ":6: journal_size \"5\"") && strstr(why, "from 1M") != NULL);
	assert_true(strstr(why, ":7: node has no value") != NULL);
	assert_true(strstr(why, "ever") == NULL); /* values of unknown names may be passwords */
}

static void values(void **state)
{
	static const char *const cases[][2] = {
		{"prefix a{b}", ":1: prefix \"a{b}\""}, {"prefix ", ":1: prefix has no value"},
		{"prefix aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "1 to 64"},
		{"node a b", "node \"a b\""}, {"node {a}", "braces"}, {"node a\x01", "\\x01"},
		{"journal_size 1023K", "from 1M"}, {"journal_size 2000000T", "from 1M"}, {"journal_size big", "\"big\""},
		{"journal_full drop", "accepted: refuse, drop-new and drop-old"}, {"acl_default maybe", "allow and deny"},
		{"session_ttl 0", "1s to"}, {"session_ttl 3651d", "3650d"}, {"hold_timeout 2d", "0 to 1d"},
		{"hold_timeout -1", "\"-1\""}, {"redis_confirm replicas=0", "replicas=N"},
		{"redis_confirm replicas=", "replicas=N"}, {"redis_confirm maybe", "accepted: reply"},
		{"redis_tls_ca /x", "redis_tls_ca needs rediss:// or"}, {"broker_tls_key /x", "broker_tls_key needs mqtts://"},
		{"redis_url rediss://h\nredis_tls_ca /does/not/exist", "/does/not/exist: "},
		{"redis_url rediss://h\nredis_tls_cert /x", "need each other"},
		{"broker_url mqtts://h\nbroker_tls_key /x", "need each other"},
		{"listen localhost:1", "address in numbers"},
		{"outbox stream k\noutbox list k", "outbox: the same key stands in"}, {"outbox stream mqtt:dead", "keeps for itself"},
		{"outbox list mqtt:delayed:x", "keeps for itself"}, {"outbox stream k result=mqtt:dead", "keeps for itself"},
		{"outbox stream k result=l\noutbox list l", "cannot go to the outbox \"l\""},
		{"mirror a/# stream k\noutbox stream k", "mirrors to this key"},
		{"acl_file /nonexistent", ":1: acl_file: /nonexistent"}, {"acl_file /tmp", "directory"},
		{"redis_username bob", "redis_password_file"},
		{"redis_password_file /nonexistent", ":1: redis_password_file \"/nonexistent\""},
		{"redis_url=redis://h", "\"redis_url\" is not"}, {"Prefix x", "\"Prefix\""}, {"config x", "\"config\""},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) bad(cases[i][0], cases[i][1]);
}

static void redis_urls(void **state)
{
	static const struct {
		const char *url, *host;
		unsigned port, db;
	} tcp[] = {
		{"redis://h", "h", 6379, 0}, {"redis://h/", "h", 6379, 0}, {"redis://h:1", "h", 1, 0},
		{"redis://h:65535/15", "h", 65535, 15}, {"redis://[::1]", "::1", 6379, 0}, {"redis://[fe80::1%eth0]:7/3",
		"fe80::1%eth0", 7, 3},
		{"redis://my-host.example:6380/2147483647", "my-host.example", 6380, 2147483647},
	};
	char text[256];
	struct settings *s;

	(void)state;
	for (size_t i = 0; i < sizeof(tcp) / sizeof(tcp[0]); i++) {
		(void)snprintf(text, sizeof(text), "redis_url %s", tcp[i].url);
		s = good(text);
		assert_int_equal(s->redis.form, REDIS_TCP);
		assert_string_equal(s->redis.host, tcp[i].host);
		assert_int_equal(s->redis.port, tcp[i].port);
		assert_int_equal(s->redis.db, tcp[i].db);
		settings_free(s);
	}
	s = good("redis_url unix:///run/redis/a@b.sock?db=4");
	assert_int_equal(s->redis.form, REDIS_UNIX);
	assert_string_equal(s->redis.path, "/run/redis/a@b.sock");
	assert_true(!s->redis.host && s->redis.db == 4 && !s->redis.tls);
	settings_free(s);
	s = good("redis_url rediss://[::1]:7000/2");
	assert_true(s->redis.form == REDIS_TCP && s->redis.tls && s->redis.port == 7000 && s->redis.db == 2);
	assert_string_equal(s->redis.host, "::1");
	settings_free(s);
}

static void redis_urls_of_several(void **state)
{
	struct settings *s;

	(void)state;
	s = good("redis_url redis+sentinel://a:1,[::1],b.example:2/my-master/3");
	assert_true(s->redis.form == REDIS_SENTINEL && !s->redis.tls && s->redis.db == 3);
	assert_string_equal(s->redis.master, "my-master");
	assert_int_equal(s->redis.host_count, 3);
	assert_string_equal(s->redis.hosts[0].host, "a");
	assert_int_equal(s->redis.hosts[0].port, 1);
	assert_string_equal(s->redis.hosts[1].host, "::1");
	assert_int_equal(s->redis.hosts[1].port, 26379);
	assert_string_equal(s->redis.hosts[2].host, "b.example");
	assert_int_equal(s->redis.hosts[2].port, 2);
	settings_free(s);
	s = good("redis_url rediss+sentinel://a/m");
	assert_true(s->redis.form == REDIS_SENTINEL && s->redis.tls && s->redis.db == 0);
	settings_free(s);
	s = good("redis_url redis+cluster://a:1,[::1]/0");
	assert_true(s->redis.form == REDIS_CLUSTER && !s->redis.tls && s->redis.db == 0 && s->redis.host_count == 2);
	assert_string_equal(s->redis.hosts[1].host, "::1");
	assert_int_equal(s->redis.hosts[1].port, 6379);
	assert_true(settings_keys(s).cluster);
	settings_free(s);
	s = good("redis_url rediss+cluster://a");
	assert_true(s->redis.form == REDIS_CLUSTER && s->redis.tls && s->redis.host_count == 1);
	settings_free(s);
}

static void wrong_redis_urls(void **state)
{
	static const char *const wrong[] = {"redis://", "redis://:6379", "redis://h:0", "redis://h:65536", "redis://h:",
		"redis://h:x",
		"redis://h/x", "redis://h/-1", "redis://h/2147483648", "redis://h/0/1", "redis://::1", "redis://[::1",
		"redis://[]",
		"redis://[h]", "redis://[::1]x", "redis://h?db=1", "redis://h h", "h:6379", "http://h", "unix://", "unix:///",
		"unix://run/x", "unix:///x?db=", "unix:///x?db=a", "unix:///x?other=1", "redis:/h", "REDIS://h",
		"redis://h:999999999", "redis://h,g", "rediss://", "rediss://h/x", "redis+sentinel://", "redis+sentinel://a:1",
		"redis+sentinel:///m", "redis+sentinel://a:1/", "redis+sentinel://a:1,/m", "redis+sentinel://a:0/m",
		"redis+sentinel://a:1/m/x", "redis+sentinel://a:1/m/0/1",
		"redis+cluster://", "redis+cluster://a:1,", "redis+cluster://a:1/1", "redis+cluster://a:1/m", "redis+cluster://a:0"};
	char text[256];

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		(void)snprintf(text, sizeof(text), "redis_url %s", wrong[i]);
		bad(text, "accepted: redis://");
	}
}

/* They do not come back in the message. */
static void passwords_in_redis_urls(void **state)
{
	static const char *const secret[] = {"redis://u:hidden@h", "redis://:hidden@h/0", "rediss://u:hidden@h",
		"unix://u:hidden@/x",
		"redis:/u:hidden@h", "u:hidden@h", "redis://u:hid/hidden@h", "redis://h?password=hidden"};
	char text[256], why[WHY_MAX];
	struct settings *s;

	(void)state;
	for (size_t i = 0; i < sizeof(secret) / sizeof(secret[0]); i++) {
		(void)snprintf(text, sizeof(text), "redis_url %s", secret[i]);
		assert_int_not_equal(load(text, NULL, 0, &s, why), ST_OK);
		assert_true(strstr(why, "hidden") == NULL);
	}
	bad("redis_url redis://u:p@h", "redis_username and redis_password_file");
}

static void broker_urls(void **state)
{
	static const char *const wrong[] = {"mqtt://", "mqtt://h:0", "mqtt://h/x", "h:1883", "tcp://h", "mqtt://[::1"};
	struct settings *s = good("broker_url mqtt://[::1]:1999/");
	char text[128];

	(void)state;
	assert_string_equal(s->broker.host, "::1");
	assert_int_equal(s->broker.port, 1999);
	settings_free(s);
	s = good("broker_url mqtt://broker");
	assert_int_equal(s->broker.port, 1883);
	assert_true(!s->broker.tls);
	settings_free(s);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		(void)snprintf(text, sizeof(text), "broker_url %s", wrong[i]);
		bad(text, "accepted: mqtt://");
	}
	s = good("broker_url mqtts://h");
	assert_true(s->broker.tls && s->broker.port == 8883);
	settings_free(s);
	bad("broker_url mqtt://u:p@h", "broker_password_file");
}

static void listen_addresses(void **state)
{
	static const char *const wrong[] = {"127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", ":9419", "9419", "[::1]", "::1:9419",
		"[127.0.0.1]:1", "127.0.0.1:1/", "http://127.0.0.1:1", "127.1:1", "*:9419", "None"};
	struct settings *s = good("listen [::1]:80");
	char text[128];

	(void)state;
	assert_string_equal(s->listen_at.host, "::1");
	assert_true(s->listen_at.ipv6 && !s->listen_at.off && s->listen_at.port == 80);
	settings_free(s);
	s = good("listen 0.0.0.0:65535");
	assert_string_equal(s->listen_at.host, "0.0.0.0");
	assert_true(!s->listen_at.ipv6 && s->listen_at.port == 65535);
	settings_free(s);
	s = good("listen none");
	assert_true(s->listen_at.off && !s->listen_at.host);
	settings_free(s);
	s = good("listen off");
	assert_true(s->listen_at.off);
	settings_free(s);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		(void)snprintf(text, sizeof(text), "listen %s", wrong[i]);
		bad(text, "address in numbers");
	}
}

static void overrides(void **state)
{
	static const struct setting_override win[] = {
		{"config", "whatever"}, {"prefix", "over"}, {"mirror", " b/# stream kb"}, {"mirror", "c stream kc"},
		{"redis_url", "redis://over:1/2"}, {"journal_size", "2M"},
	};
	static const struct setting_override twice[] = {{"prefix", "a"}, {"prefix", "b"}};
	static const struct setting_override same[] = {{"mirror", "a  stream   k durability=journal"}};
	static const struct setting_override wrong[] = {{"node", "a b"}, {"nodes", "a"}, {"redis_url", NULL}};
	struct settings *s;
	char why[WHY_MAX];

	(void)state;
	assert_int_equal(load("prefix file\nmirror a stream ka\nredis_url redis://file\nnode n\n", win, 6, &s, why), ST_OK);
	assert_string_equal(s->prefix, "over");
	assert_string_equal(s->node, "n");
	assert_string_equal(s->redis.host, "over");
	assert_int_equal(s->redis.db, 2);
	assert_int_equal(s->mirror_count, 3);
	assert_string_equal(s->mirrors[1].key, "kb");
	assert_true(s->journal_size == 2u << 20);
	settings_free(s);
	assert_int_equal(load(NULL, win, 6, &s, why), ST_OK);
	settings_free(s);
	assert_int_equal(load("prefix ok\n", twice, 2, &s, why), ST_INVALID);
	assert_string_equal(why, "plugin_opt_prefix: prefix is already set in plugin_opt_prefix");
	assert_int_equal(load("\nmirror a stream k\n", same, 1, &s, why), ST_INVALID);
	assert_true(strstr(why, "plugin_opt_mirror: mirror: the same rule stands in ") == why && strstr(why,
		"conf:2") != NULL);
	assert_int_equal(load(NULL, wrong, 3, &s, why), ST_INVALID);
	assert_true(strstr(why, "plugin_opt_node: node \"a b\"") == why);
	assert_true(strstr(why, "\nplugin_opt_nodes: \"nodes\"") && strstr(why, "\nplugin_opt_redis_url: ") != NULL);
}

static void contradictions(void **state)
{
	char many[RULE_COUNT_MAX * 24 + 64];
	size_t len = 0;
	struct settings *s;

	(void)state;
	bad("mirror a stream k\nmirror  a  stream k durability=journal\n", ":2: mirror: the same rule stands in ");
	bad("redeliver a\nredeliver a rate=1\n", ":2: redeliver: the same pattern stands in ");
	bad("mirror a stream mqtt:dead\n", ":1: mirror: the key \"mqtt:dead\"");
	bad("mirror # stream x:events:%n\nprefix x\n", ":1: mirror: the key");
	bad("mirror a stream k\nmirror b list k\n", ":2: mirror: the key \"k\" is a list here and a stream");
	bad("mirror a/# stream %1\nmirror +/b list %1\n", ":2: mirror: the key");
	bad("mirror a list k\nmirror b list k format=raw\n", "raw");
	settings_free(good("mirror a/# stream %1\nmirror b/# list %1\n"));
	settings_free(good("mirror # stream mqtt:events:%n\nprefix x\n"));
	settings_free(good("mirror # stream mqtt:stream:%t\n"));
	settings_free(good("mirror a stream k\nmirror b stream k maxlen=9\n"));
	assert_true(strstr(warnings, "trimmed differently") != NULL);
	for (unsigned i = 0; i <= RULE_COUNT_MAX; i++) {
		if (i == RULE_COUNT_MAX) settings_free(good(many));
		len += (size_t)sprintf(many + len, "mirror a/%u stream k\n", i);
	}
	bad(many, ":257: mirror: more than 256 rules");
	s = good("mirror a/# list k format=raw\nmirror b/+ stream k2\nredeliver a/%c\nredeliver b/%u\n"
		"redeliver x%c/c/c\nredeliver #\n");
	assert_true(strstr(warnings, ":3: redeliver: no mirror rule") && !strstr(warnings, ":4:") &&
		strstr(warnings, ":5: redeliver: no mirror") && !strstr(warnings, ":6:"));
	settings_free(s);
	settings_free(good("mirror $SYS/# stream k\n"));
	assert_true(strstr(warnings, ":1: mirror: the broker shows $SYS") != NULL);
	settings_free(good("prefix x\n"));
	assert_true(strstr(warnings, "no mirror rule") != NULL);
}

static void files_that_are_none(void **state)
{
	struct settings *s = NULL;
	char why[WHY_MAX], *text = malloc(65536 + 64);

	(void)state;
	assert_true(text != NULL);
	assert_int_equal(settings_load("/nonexistent/x", NULL, 0, NULL, &s, why, sizeof(why)), ST_NOT_FOUND);
	assert_true(strstr(why, "/nonexistent/x: cannot be opened") == why);
	assert_int_equal(settings_load(folder, NULL, 0, NULL, &s, why, sizeof(why)), ST_INVALID);
	assert_true(strstr(why, "is a directory") != NULL);
	assert_int_equal(settings_load("/dev/zero", NULL, 0, NULL, &s, why, sizeof(why)), ST_INVALID);

	file_is(path, "prefix a\nnode b\0c\n", 18);
	assert_int_equal(settings_load(path, NULL, 0, NULL, &s, why, sizeof(why)), ST_INVALID);
	assert_true(strstr(why, ":2: the line holds a NUL byte") != NULL);

	memset(text, 'a', 65536 + 64);
	memcpy(text, "journal ", 8);
	text[65536] = '\n';
	file_is(path, text, 65537);
	assert_int_equal(settings_load(path, NULL, 0, NULL, &s, why, sizeof(why)), ST_OK);
	settings_free(s);
	text[65536] = 'a';
	file_is(path, text, 65537);
	assert_int_equal(settings_load(path, NULL, 0, NULL, &s, why, sizeof(why)), ST_INVALID);
	assert_true(strstr(why, ":1: the line has more than 65536 bytes") != NULL);
	free(text);
}

static void passwords(void **state)
{
	char text[512], why[WHY_MAX], *password = NULL;
	struct settings *s;

	(void)state;
	file_is(other, "s3cret word\r\nsecond\n", 20);
	assert_int_equal(password_read(other, &password), ST_OK);
	assert_string_equal(password, "s3cret word");
	free(password);
	file_is(other, "s3cret", 6);
	assert_int_equal(password_read(other, &password), ST_OK);
	assert_string_equal(password, "s3cret");
	free(password);

	(void)snprintf(text, sizeof(text), "mirror a stream k\nredis_password_file %s\nbroker_username b\n"
		"broker_password_file %s\n", other, other);
	assert_int_equal(chmod(other, 0644), 0);
	settings_free(good(text));
	assert_true(strstr(warnings, ":2: redis_password_file") && strstr(warnings, ":4: broker_password_file") != NULL);
	assert_true(strstr(warnings, "s3cret") == NULL);
	assert_int_equal(chmod(other, 0640), 0);
	settings_free(good(text));
	assert_string_equal(warnings, "");

	(void)snprintf(text, sizeof(text), "broker_password_file %s\n", other);
	bad(text, ":1: broker_password_file needs broker_username");
	file_is(other, "\nsecret\n", 8);
	assert_int_equal(password_read(other, &password), ST_INVALID);
	assert_int_equal(load(text, NULL, 0, &s, why), ST_INVALID);
	assert_true(strstr(why, "has no password in its first line") && strstr(why, "secret") == NULL);
	file_is(other, "", 0);
	assert_int_equal(password_read(other, &password), ST_INVALID);
	file_is(other, "a\0b\n", 4);
	assert_int_equal(password_read(other, &password), ST_INVALID);
	assert_int_equal(password_read("/nonexistent", &password), ST_NOT_FOUND);
	assert_int_equal(password_read(folder, &password), ST_INVALID);
}

static void acl_files(void **state)
{
	char text[256], part[128];

	(void)state;
	(void)snprintf(text, sizeof(text), "mirror a stream k\nacl_file %s\n", other);
	file_is(other, "user a\ntopic read b/#\n", 22);
	settings_free(good(text));
	file_is(other, "user a\ntopic maybe b\n", 21);
	(void)snprintf(part, sizeof(part), ":2: acl_file: %s:2: access \"maybe\"", other);
	bad(text, part);
}

/* However small the room, the text is terminated, begins with the first error and counts what is left out. */
static void errors_in_small_room(void **state)
{
	char text[4096] = "";
	struct settings *s;

	(void)state;
	for (int i = 0; i < 100; i++) strcat(text, "unknown_name value\n");
	file_is(path, text, strlen(text));
	for (size_t size = 0; size < 1200; size++) {
		char *why = malloc(size ? size : 1);
		assert_true(why != NULL);
		assert_int_equal(settings_load(path, NULL, 0, NULL, &s, why, size), ST_INVALID);
		if (size > 0) assert_true(memchr(why, '\0', size) != NULL);
		if (size > 200) assert_true(strncmp(why, path, strlen(path)) == 0 && strstr(why, "more") != NULL);
		free(why);
	}
}

static void random_files_never_crash(void **state)
{
	static const char *const parts[] = {" ", "\n", "\"", "\\", "a", "/", "+", "#", "%c", "%t", "stream", "list",
		"redis://", "@", ":",
		"[", "]", "1", "M", "d", "=", "maxlen=", "format=", "new=last=", "\xff", "\r\n", "\t", "unix:///", "mqtt://"};
	unsigned seed = SEED;
	size_t count, accepted = 0;
	const struct setting_row *rows = settings_table(&count);

	(void)state;
	printf("seed %u\n", SEED);
	for (int round = 0; round < 4000; round++) {
		char text[2048] = "", why[256];
		struct settings *s = NULL;
		size_t pieces = (size_t)rand_r(&seed) % 12;

		for (size_t i = 0; i < pieces; i++) {
			if (rand_r(&seed) % 3 == 0) {
				strcat(text, "\n");
				strcat(text, rows[(size_t)rand_r(&seed) % count].name);
				strcat(text, " ");
			}
			strcat(text, parts[(size_t)rand_r(&seed) % (sizeof(parts) / sizeof(parts[0]))]);
		}
		file_is(path, text, strlen(text));
		if (settings_load(path, NULL, 0, NULL, &s, why, sizeof(why)) == ST_OK) {
			accepted++;
			settings_free(s);
		} else {
			assert_true(s == NULL && strncmp(why, path, strlen(path)) == 0);
		}
	}
	assert_true(accepted > 50);
}

/* The table itself: names are unique, defaults are valid, texts are there. */
static void table(void **state)
{
	size_t count;
	const struct setting_row *rows = settings_table(&count);

	(void)state;
	assert_true(count > 20 && count <= SETTING_ROWS_MAX);
	for (size_t i = 0; i < count; i++) {
		assert_true(rows[i].name && rows[i].accepted && rows[i].help);
		assert_true(rows[i].supported || !rows[i].default_text);
		for (size_t j = 0; j < i; j++) {
			assert_string_not_equal(rows[i].name, rows[j].name);
			if (!rows[i].repeatable && !rows[j].repeatable) assert_true(rows[i].offset != rows[j].offset);
		}
		if (rows[i].default_text) {
			struct setting_override o = {rows[i].name, rows[i].default_text};
			struct settings *s;
			char why[WHY_MAX];
			assert_int_equal(load(NULL, &o, 1, &s, why), ST_OK);
			settings_free(s);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults), cmocka_unit_test(syntax), cmocka_unit_test(journal_full_values), cmocka_unit_test(all_errors_with_their_lines),
		cmocka_unit_test(values), cmocka_unit_test(redis_urls), cmocka_unit_test(redis_urls_of_several),
		cmocka_unit_test(wrong_redis_urls), cmocka_unit_test(passwords_in_redis_urls), cmocka_unit_test(broker_urls),
		cmocka_unit_test(listen_addresses),
		cmocka_unit_test(overrides), cmocka_unit_test(contradictions), cmocka_unit_test(files_that_are_none),
		cmocka_unit_test(passwords), cmocka_unit_test(acl_files), cmocka_unit_test(errors_in_small_room),
		cmocka_unit_test(random_files_never_crash), cmocka_unit_test(table),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
