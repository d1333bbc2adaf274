/*
 * ACL files: parsing and decisions, by tables that follow src/security_default.c of mosquitto 2.0 and
 * plugins/acl-file of 2.1; no server.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "config/acl_file.h"

#define SEED 99u

static char path[] = "/tmp/mqr-acl-XXXXXX";

static int setup(void **state)
{
	int fd = mkstemp(path);

	(void)state;
	return fd < 0 ? -1 : close(fd);
}

static int teardown(void **state)
{
	(void)state;
	return unlink(path);
}

static void file_is(const char *text, size_t len)
{
	FILE *f = fopen(path, "wb");

	assert_true(f != NULL);
	assert_int_equal(fwrite(text, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

static struct acl_file *loaded(const char *text)
{
	struct acl_file *acl = NULL;
	char why[256] = "";

	file_is(text, strlen(text));
	if (acl_file_load(path, &acl, why, sizeof(why)) != ST_OK) fail_msg("%s", why);
	return acl;
}

static const char rules[] =
	"# anonymous rules come before the first user\n"
	"topic read public/#\n"
	"topic write inbox\n"
	"\n"
	"user alice\r\n"
	"topic read a/#\n"
	"topic deny a/secret/#\n"
	"topic a/both\n"
	"topic   write   w/with blank \n"
	"topic read $SYS/#\n"
	"user bob\n"
	"topic #\n"
	"pattern read dev/%c/#\n"
	"pattern write user/%u/%c\n"
	"pattern deny dev/+/secret\n"
	"pattern read x-%c/y\n"
	"pattern read plain/#\n"
	"user  alice\n"
	"topic deny late\n"
	"topic readwrite late\n"
	"topic read $foo/#\n"
	"user read\n"
	"topic read";

struct ask {
	const char *client, *user, *topic;
	enum acl_access access;
	bool in_20, in_21;
};

static const struct ask asks[] = {
	/* anonymous */
	{"c", NULL, "public/x", ACL_READ, true, true},
	{"c", NULL, "public", ACL_READ, true, true},
	{"c", NULL, "public/x", ACL_WRITE, false, false},
	{"c", NULL, "inbox", ACL_WRITE, true, true},
	{"c", NULL, "inbox", ACL_READ, false, false},
	{"c", NULL, "a/x", ACL_READ, false, false},
	{"c", "carol", "public/x", ACL_READ, false, false}, /* a named user has no anonymous rules */
	/* a user's own rules, denials first */
	{"c", "alice", "a/x", ACL_READ, true, true},
	{"c", "alice", "a/x", ACL_WRITE, false, false},
	{"c", "alice", "a/secret/x", ACL_READ, false, false},
	{"c", "alice", "a/both", ACL_WRITE, true, true},
	{"c", "alice", "w/with blank", ACL_WRITE, true, true},
	{"c", "alice", "late", ACL_READ, false, false},
	{"c", "ALICE", "a/x", ACL_READ, false, false},
	{"c", "alic", "a/x", ACL_READ, false, false},
	{"c", "alicee", "a/x", ACL_READ, false, false},
	{"c", "", "public/x", ACL_READ, false, false},
	{"c", "read", "read", ACL_WRITE, true, true}, /* one word behind "topic" is the topic */
	/* '$' */
	{"c", "bob", "anything", ACL_WRITE, true, true},
	{"c", "bob", "$SYS/x", ACL_READ, false, false},
	{"c", "bob", "$foo/x", ACL_READ, false, false},
	{"c", "alice", "$SYS/x", ACL_READ, true, true},
	{"c", "alice", "$SYS/x", ACL_WRITE, false, false},
	{"c", "alice", "$foo/x", ACL_READ, true, true},
	{"c", "alice", "$share/g/x", ACL_READ, false, false},
	/* patterns */
	{"c1", NULL, "dev/c1/t", ACL_READ, true, true},
	{"c1", "carol", "dev/c1/t", ACL_READ, true, true},
	{"c1", "carol", "dev/c2/t", ACL_READ, false, false},
	{"c1", "carol", "dev/c1/t", ACL_WRITE, false, false},
	{"c1", "carol", "dev/c1/secret", ACL_READ, false, false},
	{"c1", "bob", "dev/c1/secret", ACL_READ, true, true}, /* own rules are asked before patterns */
	{"c1", "carol", "user/carol/c1", ACL_WRITE, true, true},
	{"c1", NULL, "user//c1", ACL_WRITE, false, false},
	{"c1", "", "user//c1", ACL_WRITE, true, false},
	{"", "carol", "dev//x", ACL_READ, true, false},
	{"c1", "carol", "x-c1/y", ACL_READ, true, false},
	{"c1", "carol", "x-%c/y", ACL_READ, false, true},
	{"a/b", "carol", "dev/a/b/t", ACL_READ, true, false},
	{"c", "carol", "plain/x", ACL_READ, true, true},
	/* dangerous names */
	{"+", "carol", "dev/c1/t", ACL_READ, false, false},
	{"#", "carol", "plain/x", ACL_READ, false, false},
	{"c", "ca+rol", "plain/x", ACL_READ, false, false},
	{"+", "alice", "a/x", ACL_READ, true, true}, /* own rules do not mind */
	{NULL, "alice", "a/x", ACL_READ, false, false},
	/* no topic at all, or not one */
	{"c", "bob", "", ACL_READ, false, false},
	{"c", "bob", "a/+", ACL_READ, false, false},
	{"c", "bob", NULL, ACL_READ, false, false},
};

static void decisions(void **state)
{
	struct acl_file *acl = loaded(rules);

	(void)state;
	for (size_t i = 0; i < 2 * sizeof(asks) / sizeof(asks[0]); i++) {
		const struct ask *a = &asks[i / 2];
		bool expected = i % 2 ? a->in_21 : a->in_20;

		acl_file_whole_levels(acl, i % 2);
		if (acl_file_allows(acl, slice_str(a->client), slice_str(a->user), slice_str(a->topic),
			a->access) == expected) {
			continue;
		}
		fail_msg("2.%zu: client %s user %s topic %s access %d: expected %d", i % 2, a->client ? a->client : "-",
			a->user ? a->user : "-", a->topic ? a->topic : "-", (int)a->access, expected);
	}
	acl_file_free(acl);
}

static void dollar_from_a_name(void **state)
{
	struct acl_file *acl = loaded("pattern read %c/#\n");

	(void)state;
	acl_file_whole_levels(acl, false);
	assert_true(acl_file_allows(acl, slice_str("$x"), slice_str(NULL), slice_str("$x/y"), ACL_READ));
	acl_file_whole_levels(acl, true);
	assert_true(!acl_file_allows(acl, slice_str("$x"), slice_str(NULL), slice_str("$x/y"), ACL_READ));
	assert_true(acl_file_allows(acl, slice_str("x"), slice_str(NULL), slice_str("x"), ACL_READ));
	acl_file_free(acl);
}

static void empty_file_denies(void **state)
{
	struct acl_file *acl = loaded("");

	(void)state;
	assert_true(!acl_file_allows(acl, slice_str("c"), slice_str(NULL), slice_str("a"), ACL_READ));
	assert_true(!acl_file_allows(acl, slice_str("c"), slice_str("u"), slice_str("a"), ACL_WRITE));
	acl_file_free(acl);
	acl_file_free(NULL);
}

static void many_users(void **state)
{
	char *text = malloc(64 * 4000), user[32], topic[32];
	size_t len = 0;
	struct acl_file *acl;

	(void)state;
	assert_true(text != NULL);
	for (unsigned i = 0; i < 4000; i++) {
		unsigned n = i * 7919 % 4000; /* out of order */
		len += (size_t)sprintf(text + len, "user u%u\ntopic read t/%u\n", n, n);
	}
	acl = loaded(text);
	free(text);
	for (unsigned i = 0; i < 4000; i++) {
		(void)sprintf(user, "u%u", i);
		(void)sprintf(topic, "t/%u", i);
		assert_true(acl_file_allows(acl, slice_str("c"), slice_str(user), slice_str(topic), ACL_READ));
		(void)sprintf(topic, "t/%u", (i + 1) % 4000);
		assert_true(!acl_file_allows(acl, slice_str("c"), slice_str(user), slice_str(topic), ACL_READ));
	}
	acl_file_free(acl);
}

static void refused(void **state)
{
	/* text, what the explanation must hold */
	static const char *const cases[][2] = {
		{"topic\n", ":1: the topic"}, {"\n\ntopic \n", ":3: the topic"}, {"pattern", ":1: the topic"},
		{"user\n", "user name"}, {"user   \n", "user name"}, {"topic rw a\n", "\"rw\""}, {"topic a b\n", "\"a\""},
		{"topic read a/#/b\n", "a/#/b"}, {"topic a+\n", "a+"}, {"pattern read +%c\n", "+%c"},
		{"users bob\n", "\"users\""},
		{"\ttopic a\n", "unknown"}, {" # comment\n", "\"#\""}, {"topic a\nx", ":2:"},
	};
	struct acl_file *acl = NULL;
	char why[256], line[512];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		file_is(cases[i][0], strlen(cases[i][0]));
		assert_int_equal(acl_file_load(path, &acl, why, sizeof(why)), ST_INVALID);
		if (!strstr(why, cases[i][1])) fail_msg("\"%s\" lacks \"%s\"", why, cases[i][1]);
	}
	file_is("topic a\0b\n", 10);
	assert_int_equal(acl_file_load(path, &acl, why, sizeof(why)), ST_INVALID);
	assert_int_equal(acl_file_load("/tmp", &acl, why, sizeof(why)), ST_INVALID);
	assert_true(strstr(why, "directory") != NULL);
	assert_int_equal(acl_file_load("/nonexistent/acl", &acl, why, sizeof(why)), ST_NOT_FOUND);
	/* 201 levels are the broker's limit. */
	strcpy(line, "topic read ");
	memset(line + 11, '/', 200);
	file_is(line, 211);
	assert_int_equal(acl_file_load(path, &acl, why, sizeof(why)), ST_OK);
	acl_file_free(acl);
	acl = NULL;
	memset(line + 11, '/', 201);
	file_is(line, 212);
	assert_int_equal(acl_file_load(path, &acl, why, sizeof(why)), ST_INVALID);
	assert_true(acl == NULL);
}

static void random_files_never_crash(void **state)
{
	static const char *const parts[] = {"topic", "user", "pattern", "read", "write", "deny", " ", " ", "\n", "\r\n",
		"\t", "#",
		"+", "/", "a", "%c", "%u", "$SYS", "\xff", "%"};
	unsigned seed = SEED;
	size_t accepted = 0;

	(void)state;
	printf("seed %u\n", SEED);
	for (int round = 0; round < 5000; round++) {
		char text[512] = "", why[64];
		struct acl_file *acl = NULL;
		size_t count = (size_t)rand_r(&seed) % 24;

		if (round % 2) strcat(text, "pattern read %c/%u/#\ntopic ");
		for (size_t i = 0; i < count; i++) {
			strcat(text, parts[(size_t)rand_r(&seed) % (sizeof(parts) / sizeof(parts[0]))]);
		}
		file_is(text, strlen(text));
		if (acl_file_load(path, &acl, why, sizeof(why)) != ST_OK) continue;
		accepted++;
		for (int i = 0; i < 2; i++) {
			acl_file_whole_levels(acl, i == 1);
			(void)acl_file_allows(acl, slice_str("c"), slice_str("u"), slice_str("c/u/a"), ACL_READ);
			(void)acl_file_allows(acl, slice_of("", 0), slice_str(NULL), slice_of("\0", 1), ACL_READ);
		}
		acl_file_free(acl);
	}
	assert_true(accepted > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(decisions), cmocka_unit_test(dollar_from_a_name), cmocka_unit_test(empty_file_denies),
		cmocka_unit_test(many_users), cmocka_unit_test(refused), cmocka_unit_test(random_files_never_crash),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
