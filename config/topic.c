/*
 * Topics and topic filters. Pure; any thread; runs in the broker's callbacks, so nothing here allocates but
 * pattern_expand.
 */
#include "config/topic.h"

#include "config/mosquitto_version.h"

#include "config/message.h"

#define TOPIC_BYTES_MAX 65535
#define COPY_SHORT 512

/* Steps through the levels of a topic or filter; an empty level counts. */
struct levels {
	struct slice rest;
	bool more;
};

static struct levels levels_of(struct slice s)
{
	return (struct levels){s, true};
}

static bool level_next(struct levels *l, struct slice *level)
{
	const char *slash;

	if (!l->more) return false;
	slash = l->rest.len ? memchr(l->rest.data, '/', l->rest.len) : NULL;
	*level = slice_of(l->rest.data, slash ? (size_t)(slash - l->rest.data) : l->rest.len);
	l->more = slash != NULL;
	if (slash) l->rest = slice_of(slash + 1, l->rest.len - level->len - 1);
	return true;
}

static bool level_is(struct slice level, char wildcard)
{
	return level.len == 1 && level.data[0] == wildcard;
}

static bool length_valid(struct slice s)
{
	return s.data && s.len > 0 && s.len <= TOPIC_BYTES_MAX && !memchr(s.data, '\0', s.len);
}

static bool is_wildcard(char c)
{
	return c == '+' || c == '#';
}

/* MQTT 5 4.7.1: a wildcard fills its level, '#' is the last. */
static bool wildcards_valid(struct slice filter)
{
	for (size_t i = 0; i < filter.len; i++) {
		bool last = i + 1 == filter.len;

		if (!is_wildcard(filter.data[i])) continue;
		if (i > 0 && filter.data[i - 1] != '/') return false;
		if (!last && (filter.data[i] == '#' || filter.data[i + 1] != '/')) return false;
	}
	return true;
}

static bool slashes_valid(struct slice s)
{
	size_t slashes = 0;

	for (size_t i = 0; i < s.len; i++) slashes += s.data[i] == '/';
	return slashes <= TOPIC_SLASHES_MAX;
}

/* libmosquitto 2.0 takes the lengths but reads up to a NUL; 2.1 reads the lengths. Give it both. */
static bool match_copies(struct slice filter, struct slice topic, char *filter_copy, char *topic_copy)
{
	bool result = false;

	memcpy(filter_copy, filter.data, filter.len);
	filter_copy[filter.len] = '\0';
	memcpy(topic_copy, topic.data, topic.len);
	topic_copy[topic.len] = '\0';
	if (mosquitto_topic_matches_sub2(filter_copy, filter.len, topic_copy, topic.len, &result) != MOSQ_ERR_SUCCESS) {
		return false;
	}
	return result;
}

/* Apart, so that short topics do not pay for this stack. */
static __attribute__((noinline)) bool match_long(struct slice filter, struct slice topic)
{
	char filter_copy[TOPIC_BYTES_MAX + 1], topic_copy[TOPIC_BYTES_MAX + 1];

	return match_copies(filter, topic, filter_copy, topic_copy);
}

bool topic_matches(struct slice filter, struct slice topic)
{
	char filter_copy[COPY_SHORT], topic_copy[COPY_SHORT];

	if (!length_valid(filter) || !length_valid(topic)) return false;
	/* The matcher says yes to some invalid filters ("a/+/#b"). */
	if (!wildcards_valid(filter)) return false;
	if (filter.len >= COPY_SHORT || topic.len >= COPY_SHORT) return match_long(filter, topic);
	return match_copies(filter, topic, filter_copy, topic_copy);
}

bool filters_intersect(struct slice a, struct slice b)
{
	struct levels levels_a = levels_of(a), levels_b = levels_of(b);
	struct slice x, y;

	if (!filter_valid(a) || !filter_valid(b)) return false;
	/* MQTT 5 4.7.2: a leading wildcard does not match topics that begin with '$'. */
	if (is_wildcard(a.data[0]) && b.data[0] == '$') return false;
	if (is_wildcard(b.data[0]) && a.data[0] == '$') return false;
	for (size_t depth = 0;; depth++) {
		bool in_a = level_next(&levels_a, &x), in_b = level_next(&levels_b, &y);

		/* '#' also matches the level above it, so it reaches a filter that has just ended; but "+" and "/#" would meet in
		 * the empty topic, which there is not. */
		if ((in_a && level_is(x, '#')) || (in_b && level_is(y, '#'))) {
			return (in_a && in_b) || depth > 1 || (a.data[0] != '/' && b.data[0] != '/');
		}
		if (!in_a || !in_b) return in_a == in_b;
		if (level_is(x, '+') || level_is(y, '+')) continue;
		if (!slice_equal(x, y)) return false;
	}
}

bool filter_covers(struct slice wide, struct slice narrow)
{
	struct levels levels_w = levels_of(wide), levels_n = levels_of(narrow);
	struct slice w, n;

	if (!filter_valid(wide) || !filter_valid(narrow)) return false;
	if (is_wildcard(wide.data[0]) && narrow.data[0] == '$') return false;
	for (;;) {
		bool in_w = level_next(&levels_w, &w), in_n = level_next(&levels_n, &n);

		if (in_w && level_is(w, '#')) return true;
		if (!in_w || !in_n) return in_w == in_n;
		if (level_is(n, '#')) return false;
		if (!level_is(w, '+') && !slice_equal(w, n)) return false;
	}
}

bool filter_fixes_level(struct slice filter, unsigned number)
{
	struct levels levels = levels_of(filter);
	struct slice level;

	for (unsigned i = 1; level_next(&levels, &level); i++) {
		if (level_is(level, '#')) return false;
		if (i == number) return !level_is(level, '+');
	}
	return true;
}

bool filter_valid(struct slice filter)
{
	return length_valid(filter) && wildcards_valid(filter) && slashes_valid(filter) && utf8_valid(filter);
}

bool topic_valid(struct slice topic)
{
	return length_valid(topic) && !filter_has_wildcard(topic) && slashes_valid(topic) && utf8_valid(topic);
}

bool filter_has_wildcard(struct slice filter)
{
	for (size_t i = 0; i < filter.len; i++) {
		if (is_wildcard(filter.data[i])) return true;
	}
	return false;
}

bool filter_is_shared(struct slice filter, struct slice *inner)
{
	static const char share[] = "$share/";
	const size_t head = sizeof(share) - 1;
	const char *group, *slash;

	if (!filter.data || filter.len <= head || memcmp(filter.data, share, head) != 0) return false;
	group = filter.data + head;
	slash = memchr(group, '/', filter.len - head);
	if (!slash || slash == group) return false;
	*inner = slice_of(slash + 1, filter.len - (size_t)(slash + 1 - filter.data));
	return inner->len > 0;
}

static bool name_usable(struct slice name, bool leads)
{
	if (!name.data || name.len == 0) return false;
	/* A '$' in front would move the pattern to topics that its author did not mean ("%c/#" and a client "$SYS"). */
	if (leads && name.data[0] == '$') return false;
	for (size_t i = 0; i < name.len; i++) {
		if (is_wildcard(name.data[i]) || name.data[i] == '/' || name.data[i] == '\0') return false;
	}
	return true;
}

bool pattern_expand(struct slice pattern, struct slice client, struct slice user, struct buf *out)
{
	size_t i = 0;

	buf_clear(out);
	while (i < pattern.len) {
		bool escape = pattern.data[i] == '%' && i + 1 < pattern.len;
		char which = escape ? pattern.data[i + 1] : '\0';

		if (which == 'c' || which == 'u') {
			struct slice name = which == 'c' ? client : user;
			if (!name_usable(name, i == 0)) goto refused;
			buf_append_slice(out, name);
			i += 2;
		} else {
			buf_append(out, pattern.data + i, 1);
			i++;
		}
	}
	return !out->failed;
refused:
	buf_clear(out);
	return false;
}
