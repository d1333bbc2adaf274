/*
 * Topics and filters: the matcher and the intersection are held against a plain reading of MQTT 5 4.7 over all small
 * topics; no server.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "config/topic.h"

#define SEED 20240611u

static struct slice S(const char *text)
{
	return slice_str(text);
}

/* A copy of exactly the bytes, so that a sanitizer sees a read behind the end. */
static struct slice exact(struct slice s)
{
	char *copy = malloc(s.len ? s.len : 1);

	assert_true(copy != NULL);
	memcpy(copy, s.data, s.len);
	return slice_of(copy, s.len);
}

static bool matches(const char *filter, const char *topic)
{
	struct slice f = exact(S(filter)), t = exact(S(topic));
	bool result = topic_matches(f, t);

	free((void *)(uintptr_t)f.data);
	free((void *)(uintptr_t)t.data);
	return result;
}

/* --- a plain model: levels are cut apart, wildcards compared level by level --------------------------------------- */

static size_t levels(const char *text, char out[8][8])
{
	size_t count = 0, len = 0;

	for (; *text; text++) {
		if (*text == '/') {
			out[count++][len] = '\0';
			len = 0;
		} else {
			out[count][len++] = *text;
		}
	}
	out[count++][len] = '\0';
	return count;
}

static bool model_matches(const char *filter, const char *topic)
{
	char f[8][8], t[8][8];
	size_t filter_levels = levels(filter, f), topic_levels = levels(topic, t);

	if (topic[0] == '$' && (filter[0] == '+' || filter[0] == '#')) return false;
	for (size_t i = 0; i < filter_levels; i++) {
		if (strcmp(f[i], "#") == 0) return topic_levels >= i;
		if (i == topic_levels) return false;
		if (strcmp(f[i], "+") != 0 && strcmp(f[i], t[i]) != 0) return false;
	}
	return filter_levels == topic_levels;
}

/* The n-th text of one to three levels of the alphabet; false when there is no further one. */
static bool nth(const char *const *alphabet, size_t letters, size_t n, char out[32])
{
	size_t total = letters;

	for (size_t count = 1; count <= 3; count++, total *= letters) {
		if (n >= total) {
			n -= total;
			continue;
		}
		out[0] = '\0';
		for (size_t i = 0; i < count; i++, n /= letters) {
			if (i) strcat(out, "/");
			strcat(out, alphabet[n % letters]);
		}
		return true;
	}
	return false;
}

static const char *const topic_alphabet[] = {"", "a", "b", "ab", "$", "$a"};
static const char *const filter_alphabet[] = {"", "a", "b", "ab", "$", "$a", "+", "#"};

static size_t fill(const char *const *alphabet, size_t letters, char (*out)[32], size_t max,
	bool (*valid)(struct slice))
{
	size_t count = 0;
	char text[32];

	for (size_t n = 0; nth(alphabet, letters, n, text); n++) {
		if (!valid(S(text))) continue;
		assert_true(count < max);
		strcpy(out[count++], text);
	}
	return count;
}

static char all_topics[300][32], all_filters[600][32];
static size_t topic_count, filter_count;

static int enumerate(void **state)
{
	(void)state;
	topic_count = fill(topic_alphabet, 6, all_topics, 300, topic_valid);
	filter_count = fill(filter_alphabet, 8, all_filters, 600, filter_valid);
	return 0;
}

static void matcher_agrees_with_the_standard(void **state)
{
	size_t hits = 0;

	(void)state;
	for (size_t i = 0; i < filter_count; i++) {
		for (size_t j = 0; j < topic_count; j++) {
			bool expected = model_matches(all_filters[i], all_topics[j]);
			if (matches(all_filters[i], all_topics[j]) != expected) {
				fail_msg("filter \"%s\" topic \"%s\": expected %d", all_filters[i], all_topics[j], expected);
			}
			hits += expected;
		}
	}
	assert_true(hits > 1000);
}

/* Two filters meet exactly when one of the small topics matches both: a fresh letter "ab" is among them. */
static void intersection_agrees_with_all_small_topics(void **state)
{
	size_t met = 0, apart = 0;

	(void)state;
	for (size_t i = 0; i < filter_count; i++) {
		for (size_t j = i; j < filter_count; j++) {
			bool expected = false;
			for (size_t k = 0; k < topic_count && !expected; k++) {
				expected = model_matches(all_filters[i], all_topics[k]) && model_matches(all_filters[j], all_topics[k]);
			}
			if (filters_intersect(S(all_filters[i]), S(all_filters[j])) != expected ||
				filters_intersect(S(all_filters[j]), S(all_filters[i])) != expected) {
				fail_msg("filters \"%s\" and \"%s\": expected %d", all_filters[i], all_filters[j], expected);
			}
			met += expected;
			apart += !expected;
		}
	}
	assert_true(met > 5000 && apart > 5000);
}

/* What is said to be covered is, and whatever matches the same topics by being the same filter is said to be. */
static void covering_agrees_with_all_small_topics(void **state)
{
	size_t covered = 0;

	(void)state;
	for (size_t i = 0; i < filter_count; i++) {
		assert_true(filter_covers(S(all_filters[i]), S(all_filters[i])));
		for (size_t j = 0; j < filter_count; j++) {
			if (!filter_covers(S(all_filters[i]), S(all_filters[j]))) continue;
			covered++;
			for (size_t k = 0; k < topic_count; k++) {
				if (!model_matches(all_filters[j], all_topics[k]) || model_matches(all_filters[i], all_topics[k])) continue;
				fail_msg("\"%s\" does not cover \"%s\": \"%s\"", all_filters[i], all_filters[j], all_topics[k]);
			}
		}
	}
	assert_true(covered > 2000);
	assert_true(filter_covers(S("#"), S("a/+/b")));
	assert_true(filter_covers(S("a/#"), S("a")));
	assert_true(filter_covers(S("a/+/#"), S("a/b/#")));
	assert_true(filter_covers(S("a/+"), S("a/b")));
	assert_true(!filter_covers(S("a/+"), S("a/#")));
	assert_true(!filter_covers(S("a/b"), S("a/+")));
	assert_true(!filter_covers(S("#"), S("$SYS/#")));
	assert_true(!filter_covers(S(""), S("a")));
}

/* A level that is said to be fixed is the same in all topics that match. */
static void fixed_levels(void **state)
{
	(void)state;
	assert_true(filter_fixes_level(S("a/b/#"), 1));
	assert_true(filter_fixes_level(S("a/b/#"), 2));
	assert_true(!filter_fixes_level(S("a/b/#"), 3));
	assert_true(!filter_fixes_level(S("a/b/#"), 9));
	assert_true(!filter_fixes_level(S("a/+/c"), 2));
	assert_true(filter_fixes_level(S("a/+/c"), 3));
	assert_true(filter_fixes_level(S("a/+/c"), 4)); /* none has it */
	assert_true(!filter_fixes_level(S("#"), 1));
}

static void random_long_filters(void **state)
{
	static const char *const words[] = {"+", "a", "b", "", "#"};
	unsigned seed = SEED;

	(void)state;
	printf("seed %u\n", SEED);
	for (int round = 0; round < 4000; round++) {
		char filters[2][32], topic[32];
		bool both = false;

		for (int f = 0; f < 2; f++) {
			size_t count = 1 + (size_t)rand_r(&seed) % 5;
			filters[f][0] = '\0';
			for (size_t i = 0; i < count; i++) {
				if (i) strcat(filters[f], "/");
				strcat(filters[f], words[(size_t)rand_r(&seed) % (i + 1 == count ? 5 : 4)]);
			}
		}
		if (!filter_valid(S(filters[0])) || !filter_valid(S(filters[1]))) continue;
		for (unsigned n = 0; n < 3u * 3 * 3 * 3 * 3 * 5 && !both; n++) {
			unsigned rest = n / 5;
			topic[0] = '\0';
			for (unsigned i = 0; i <= n % 5; i++, rest /= 3) {
				if (i) strcat(topic, "/");
				strcat(topic, words[1 + rest % 3]);
			}
			both = topic[0] && matches(filters[0], topic) && matches(filters[1], topic);
		}
		if (filters_intersect(S(filters[0]), S(filters[1])) != both) {
			fail_msg("filters \"%s\" and \"%s\": expected %d", filters[0], filters[1], both);
		}
	}
}

static void random_bytes_never_crash(void **state)
{
	static const char alphabet[] = "+#/$ab%cu\0\xc3\xa9";
	unsigned seed = SEED;

	(void)state;
	for (int round = 0; round < 50000; round++) {
		char a[12], b[12];
		struct slice x, y, inner;
		struct buf out = {0};
		size_t len_a = (size_t)rand_r(&seed) % sizeof(a), len_b = (size_t)rand_r(&seed) % sizeof(b);

		for (size_t i = 0; i < len_a; i++) a[i] = alphabet[(size_t)rand_r(&seed) % (sizeof(alphabet) - 1)];
		for (size_t i = 0; i < len_b; i++) b[i] = alphabet[(size_t)rand_r(&seed) % (sizeof(alphabet) - 1)];
		x = exact(slice_of(a, len_a));
		y = exact(slice_of(b, len_b));
		if (topic_matches(x, y)) assert_true(!filter_has_wildcard(y) && !memchr(x.data, 0, x.len));
		if (filters_intersect(x, y)) assert_true(filter_valid(x) && filter_valid(y));
		if (filter_is_shared(x, &inner)) assert_true(inner.len > 0 && inner.len < x.len);
		if (pattern_expand(x, y, y, &out)) assert_true(!out.failed);
		buf_free(&out);
		free((void *)(uintptr_t)x.data);
		free((void *)(uintptr_t)y.data);
	}
}

static void validity(void **state)
{
	static const char *const good[] = {"a", "/", "//", "#", "+", "+/+", "a/#", "/#", "+/a/+", "$SYS/#", "a b",
		"\xc3\xa9"};
	static const char *const bad[] = {"", "a#", "#a", "a/#/b", "a+", "+a", "a/b+/c", "##", "++", "a/#b", "\xff",
		"\xc3"};

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) assert_true(filter_valid(S(good[i])));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_true(!filter_valid(S(bad[i])));
		assert_true(!topic_valid(S(bad[i])));
	}
	assert_true(topic_valid(S("a/b")) && topic_valid(S("/")) && topic_valid(S("$SYS/x")));
	assert_true(!topic_valid(S("a/+")) && !topic_valid(S("#")));
	assert_true(!filter_valid(slice_of("a\0b", 3)) && !topic_valid(slice_of("a\0b", 3)));
	assert_true(!filter_valid(slice_of(NULL, 0)) && !topic_valid(slice_of(NULL, 0)));
	assert_true(!topic_matches(slice_of(NULL, 0), S("a")) && !topic_matches(S("a"), slice_of(NULL, 0)));
	assert_true(!topic_matches(slice_of("a\0", 2), S("a")) && !topic_matches(S("a"), slice_of("a\0", 2)));
	/* The library says yes to this one. */
	assert_true(!matches("a/+/#b", "a/x"));
}

static void longest(void **state)
{
	char *text = malloc(65537), *other = malloc(65537);

	(void)state;
	assert_true(text && other);
	memset(text, 'a', 65537);
	memcpy(other, text, 65537);
	assert_true(topic_valid(slice_of(text, 65535)) && filter_valid(slice_of(text, 65535)));
	assert_true(!topic_valid(slice_of(text, 65536)) && !filter_valid(slice_of(text, 65536)));
	assert_true(topic_matches(slice_of(text, 65535), slice_of(other, 65535)));
	assert_true(!topic_matches(slice_of(text, 65536), slice_of(other, 65536)));
	assert_true(topic_matches(S("+"), slice_of(text, 65535)));
	for (size_t len = 500; len < 520; len++) {
		assert_true(topic_matches(slice_of(text, len), slice_of(other, len)));
		assert_true(!topic_matches(slice_of(text, len), slice_of(other, len + 1)));
	}
	memset(text, '/', 201);
	assert_true(topic_valid(slice_of(text, 200)) && !topic_valid(slice_of(text, 201)));
	free(text);
	free(other);
}

static void shared(void **state)
{
	struct slice inner = {0};

	(void)state;
	assert_true(filter_is_shared(S("$share/g/a/#"), &inner));
	assert_true(slice_equal(inner, S("a/#")));
	assert_true(filter_is_shared(S("$share/g//"), &inner));
	assert_true(slice_equal(inner, S("/")));
	assert_true(!filter_is_shared(S("$share/g/"), &inner) && !filter_is_shared(S("$share//a"), &inner));
	assert_true(!filter_is_shared(S("$share/g"), &inner) && !filter_is_shared(S("$share"), &inner));
	assert_true(!filter_is_shared(S("$shared/g/a"), &inner) && !filter_is_shared(S("a"), &inner));
	assert_true(!filter_is_shared(slice_of(NULL, 0), &inner));
}

static void expands(const char *pattern, const char *client, const char *user, const char *expected)
{
	struct buf out = {0};
	bool done = pattern_expand(S(pattern), S(client), S(user), &out);

	if (done != (expected != NULL)) fail_msg("pattern \"%s\" client \"%s\"", pattern, client ? client : "-");
	if (expected) assert_true(slice_equal(slice_of(out.data, out.len), S(expected)));
	else assert_int_equal(out.len, 0);
	buf_free(&out);
}

static void patterns(void **state)
{
	(void)state;
	expands("d/%c/#", "c1", NULL, "d/c1/#");
	expands("d/%c/%u/x%c", "c1", "u1", "d/c1/u1/xc1");
	expands("d/%%c/%d/%", "c1", NULL, "d/%c1/%d/%");
	expands("plain/#", NULL, NULL, "plain/#");
	expands("d/%u", "c1", NULL, NULL);
	expands("d/%u", "c1", "", NULL);
	expands("d/%c", NULL, "u", NULL);
	expands("d/%c", "a/b", "u", NULL);
	expands("d/%c", "+", "u", NULL);
	expands("d/%c", "a#", "u", NULL);
	expands("d/%u", "c", "#", NULL);
	expands("d/%u", "#", "u", "d/u");
	expands("%c/#", "$SYS", NULL, NULL);
	expands("d/%c", "$SYS", NULL, "d/$SYS");
	expands("d/%c", "%u", "x", "d/%u");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(matcher_agrees_with_the_standard),
		cmocka_unit_test(intersection_agrees_with_all_small_topics),
		cmocka_unit_test(covering_agrees_with_all_small_topics),
		cmocka_unit_test(fixed_levels),
		cmocka_unit_test(random_long_filters),
		cmocka_unit_test(random_bytes_never_crash),
		cmocka_unit_test(validity),
		cmocka_unit_test(longest),
		cmocka_unit_test(shared),
		cmocka_unit_test(patterns),
	};

	return cmocka_run_group_tests(tests, enumerate, NULL);
}
