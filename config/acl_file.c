/*
 * A Mosquitto ACL file. Loaded where it may block, then read-only. Decides as the broker does: a user's own rules
 * before patterns, denials before grants among each, access denied when nothing matches. Where 2.0 and 2.1 differ
 * (patterns) the libmosquitto at hand says which broker it is.
 */
#include "config/acl_file.h"

#include "config/mosquitto_version.h"
#include <stdlib.h>
#include <string.h>

#include "config/buf.h"
#include "config/explain.h"
#include "config/text_file.h"
#include "config/topic.h"

#define FILE_BYTES_MAX (64u << 20)
#define SPACES " \t\n\v\f\r"

struct acl_rule {
	char *topic;
	int access; /* bits of enum acl_access; 0 denies */
};

struct acl_rules {
	struct acl_rule *rule;
	size_t count, cap;
};

struct acl_user {
	char *name;
	struct acl_rules rules;
};

struct acl_file {
	struct acl_rules anonymous; /* topic lines before the first user line */
	struct acl_rules patterns;
	struct acl_user *users;     /* sorted by name */
	size_t user_count, user_cap;
	bool whole_levels;
};

/* --- loading ------------------------------------------------------------------------------------------------------ */

/* Room for one more element; false without memory. */
static bool grow(void **array, size_t count, size_t *cap, size_t element)
{
	size_t more = *cap ? *cap * 2 : 8;
	void *moved;

	if (count < *cap) return true;
	moved = reallocarray(*array, more, element);
	if (!moved) return false;
	*array = moved;
	*cap = more;
	return true;
}

static bool rule_add(struct acl_rules *rules, const char *topic, int access)
{
	void *array = rules->rule;
	bool room = grow(&array, rules->count, &rules->cap, sizeof(struct acl_rule));
	char *copy;

	rules->rule = array;
	copy = room ? strdup(topic) : NULL;
	if (!copy) return false;
	rules->rule[rules->count++] = (struct acl_rule){copy, access};
	return true;
}

/* Bytes first, then length: any order will do, as long as look-up and insertion agree. */
static int name_compare(struct slice a, const char *b)
{
	size_t len = strlen(b), common = a.len < len ? a.len : len;
	int order = common ? memcmp(a.data, b, common) : 0;

	if (order != 0) return order;
	return a.len < len ? -1 : a.len > len;
}

/* Index of the first user not below `name`. */
static size_t user_place(const struct acl_file *acl, struct slice name)
{
	size_t low = 0, high = acl->user_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (name_compare(name, acl->users[middle].name) > 0) low = middle + 1;
		else high = middle;
	}
	return low;
}

static const struct acl_user *user_find(const struct acl_file *acl, struct slice name)
{
	size_t place = user_place(acl, name);

	if (!acl->users || place == acl->user_count || name_compare(name, acl->users[place].name) != 0) return NULL;
	return &acl->users[place];
}

/* The rules of a user, new or known; a later "user" line of the same name goes on with them. */
static struct acl_rules *user_rules(struct acl_file *acl, const char *name)
{
	size_t place = user_place(acl, slice_str(name));
	void *array = acl->users;
	bool room;
	char *copy;

	if (user_find(acl, slice_str(name))) return &acl->users[place].rules;
	room = grow(&array, acl->user_count, &acl->user_cap, sizeof(struct acl_user));
	acl->users = array;
	copy = room ? strdup(name) : NULL;
	if (!copy) return NULL;
	memmove(&acl->users[place + 1], &acl->users[place], (acl->user_count - place) * sizeof(struct acl_user));
	acl->users[place] = (struct acl_user){copy, {0}};
	acl->user_count++;
	return &acl->users[place].rules;
}

static bool access_parse(const char *word, int *access)
{
	if (strcmp(word, "read") == 0) *access = ACL_READ;
	else if (strcmp(word, "write") == 0) *access = ACL_WRITE;
	else if (strcmp(word, "readwrite") == 0) *access = ACL_READ | ACL_WRITE;
	else if (strcmp(word, "deny") == 0) *access = 0;
	else return false;
	return true;
}

/* The broker's own check at loading, which knows no UTF-8; the library's leaves out the limit of levels in 2.0. */
static bool topic_accepted(const char *topic)
{
	size_t slashes = 0;

	for (const char *p = topic; *p; p++) slashes += *p == '/';
	return slashes <= TOPIC_SLASHES_MAX && mosquitto_sub_topic_check(topic) == MOSQ_ERR_SUCCESS;
}

/* "[access] TOPIC": with one word only, that is the topic. */
static enum status rule_line(char *text, struct acl_rules *rules, char *why, size_t size)
{
	int access = ACL_READ | ACL_WRITE;
	char *topic = text + strspn(text, " "), *rest, shown_text[SHOWN_MAX];

	if (!*topic) return explain(ST_INVALID, why, size, "the topic is missing");
	rest = strchr(topic, ' ');
	if (rest && rest[1]) {
		*rest++ = '\0';
		if (!access_parse(topic, &access)) {
			return explain(ST_INVALID, why, size, "access \"%s\" is unknown; accepted are read, write, readwrite, deny",
				shown(topic, shown_text));
		}
		topic = rest + strspn(rest, SPACES);
	}
	if (!topic_accepted(topic)) {
		return explain(ST_INVALID, why, size, "\"%s\" is not a valid topic", shown(topic, shown_text));
	}
	if (!rule_add(rules, topic, access)) return explain(ST_NOMEM, why, size, "out of memory");
	return ST_OK;
}

/* Splits as the broker does: blanks in front may stand, but a tab is no separator and '#' begins a comment in the first
 * column only. */
static enum status acl_line(struct acl_file *acl, char *line, struct acl_rules **current, char *why, size_t size)
{
	char shown_text[SHOWN_MAX], *word, *rest;

	for (size_t len = strlen(line); len > 0 && strchr(SPACES, line[len - 1]); len--) line[len - 1] = '\0';
	if (line[0] == '#') return ST_OK;
	word = line + strspn(line, " ");
	if (!*word) return ST_OK;
	rest = word + strcspn(word, " ");
	if (*rest) *rest++ = '\0';
	if (strcmp(word, "topic") == 0) return rule_line(rest, *current, why, size);
	if (strcmp(word, "pattern") == 0) return rule_line(rest, &acl->patterns, why, size);
	if (strcmp(word, "user") != 0) {
		return explain(ST_INVALID, why, size, "\"%s\" is unknown; accepted are user, topic and pattern",
			shown(word, shown_text));
	}
	rest += strspn(rest, SPACES);
	if (!*rest) return explain(ST_INVALID, why, size, "the user name is missing");
	*current = user_rules(acl, rest);
	if (!*current) return explain(ST_NOMEM, why, size, "out of memory");
	return ST_OK;
}

static enum status text_parse(struct acl_file *acl, const char *path, struct text_file *text, char *why, size_t size)
{
	struct slice rest = slice_of(text->data, text->len), line;
	struct acl_rules *current = &acl->anonymous;
	char what[512];

	for (unsigned number = 1; rest.len > 0; number++) {
		char *start = text->data + (rest.data - text->data);
		enum status st;

		if (!text_line_next(&rest, &line)) break;
		if (memchr(line.data, '\0', line.len)) {
			return explain(ST_INVALID, why, size, "%s:%u: the line holds a NUL byte", path, number);
		}
		start[line.len] = '\0'; /* in place of its end, or of the NUL behind the text */
		st = acl_line(acl, start, &current, what, sizeof(what));
		if (st != ST_OK) return explain(st, why, size, "%s:%u: %s", path, number, what);
	}
	return ST_OK;
}

enum status acl_file_load(const char *path, struct acl_file **out, char *why, size_t size)
{
	struct text_file text = {0};
	struct acl_file *acl;
	char what[256];
	enum status st = text_file_read(path, FILE_BYTES_MAX, &text, what, sizeof(what));

	if (st != ST_OK) return explain(st, why, size, "%s: %s", path, what);
	acl = calloc(1, sizeof(*acl));
	if (acl) {
		acl->whole_levels = mosquitto_acl_whole_levels();
		st = text_parse(acl, path, &text, why, size);
	} else {
		st = explain(ST_NOMEM, why, size, "%s: out of memory", path);
	}
	text_file_free(&text);
	if (st == ST_OK) *out = acl;
	else acl_file_free(acl);
	return st;
}

static void rules_free(struct acl_rules *rules)
{
	for (size_t i = 0; i < rules->count; i++) free(rules->rule[i].topic);
	free(rules->rule);
}

void acl_file_free(struct acl_file *acl)
{
	if (!acl) return;
	rules_free(&acl->anonymous);
	rules_free(&acl->patterns);
	for (size_t i = 0; i < acl->user_count; i++) {
		rules_free(&acl->users[i].rules);
		free(acl->users[i].name);
	}
	free(acl->users);
	free(acl);
}

void acl_file_whole_levels(struct acl_file *acl, bool whole_levels)
{
	acl->whole_levels = whole_levels;
}

/* --- deciding ----------------------------------------------------------------------------------------------------- */

enum verdict { VERDICT_NONE, VERDICT_GRANT, VERDICT_DENY };

struct request {
	struct slice client, user, topic;
	int access;
};

/* 2.0 replaces %c and %u wherever they stand. An absent user: the pattern does not count. */
static bool expand_anywhere(const char *pattern, const struct request *r, struct buf *out)
{
	for (const char *p = pattern; *p; p++) {
		if (p[0] == '%' && p[1] == 'c') {
			buf_append_slice(out, r->client);
			p++;
		} else if (p[0] == '%' && p[1] == 'u') {
			if (!r->user.data) return false;
			buf_append_slice(out, r->user);
			p++;
		} else {
			buf_append(out, p, 1);
		}
	}
	return true;
}

/* 2.1 replaces them where they are a whole level, by a name that is one level and not empty; a '$' that comes from a
 * name does not open the '$' topics. */
static bool expand_levels(const char *pattern, const struct request *r, struct buf *out)
{
	/* Its count of %u knows no levels: any makes the pattern one that anonymous clients do not have. */
	if (strstr(pattern, "%u") && !r->user.data) return false;
	if ((r->topic.data[0] == '$') != (pattern[0] == '$')) return false;
	for (const char *p = pattern; *p;) {
		size_t len = strcspn(p, "/");

		if (len == 2 && p[0] == '%' && (p[1] == 'c' || p[1] == 'u')) {
			struct slice name = p[1] == 'c' ? r->client : r->user;
			if (!name.data || name.len == 0 || memchr(name.data, '/', name.len)) return false;
			buf_append_slice(out, name);
		} else {
			buf_append(out, p, len);
		}
		p += len;
		if (*p == '/') {
			buf_append(out, "/", 1);
			p++;
		}
	}
	return true;
}

static bool pattern_matches(const struct acl_file *acl, const char *pattern, const struct request *r,
	struct buf *scratch)
{
	bool expanded;

	buf_clear(scratch);
	expanded = acl->whole_levels ? expand_levels(pattern, r, scratch) : expand_anywhere(pattern, r, scratch);
	return expanded && !scratch->failed && topic_matches(slice_of(scratch->data, scratch->len), r->topic);
}

/* Denials are asked before grants, whatever their order in the file. */
static enum verdict rules_ask(const struct acl_file *acl, const struct acl_rules *rules, bool patterns,
	const struct request *r, struct buf *scratch)
{
	for (int granting = 0; granting <= 1; granting++) {
		for (size_t i = 0; i < rules->count; i++) {
			const struct acl_rule *rule = &rules->rule[i];
			bool matches;

			if (granting ? (rule->access & r->access) == 0 : rule->access != 0) continue;
			matches = patterns ? pattern_matches(acl, rule->topic, r, scratch)
				: topic_matches(slice_str(rule->topic), r->topic);
			/* A denial that could not be worked out must not become a grant. */
			if (scratch->failed) return VERDICT_DENY;
			if (matches) return granting ? VERDICT_GRANT : VERDICT_DENY;
		}
	}
	return VERDICT_NONE;
}

static bool has_wildcard(struct slice name)
{
	return name.data && filter_has_wildcard(name);
}

/* What the broker decides before it asks any ACL (acl__check_dollar in its src/security.c and src/acl.c). */
static bool dollar_allows(const struct request *r)
{
	const char *topic = r->topic.data;

	if (r->topic.len >= 6 && memcmp(topic, "$share", 6) == 0) return false;
	if (r->access != ACL_WRITE || r->topic.len < 4 || memcmp(topic, "$SYS", 4) != 0) return true;
	return topic_matches(slice_str("$SYS/broker/connection/+/state"), r->topic);
}

bool acl_file_allows(const struct acl_file *acl, struct slice client, struct slice user, struct slice topic,
	enum acl_access access)
{
	const struct request r = {client, user, topic, (int)access};
	const struct acl_user *known = user.data ? user_find(acl, user) : NULL;
	struct buf scratch = {0};
	enum verdict verdict = VERDICT_NONE;

	if (!client.data || !topic.data || topic.len == 0 || !dollar_allows(&r)) return false;
	if (known) verdict = rules_ask(acl, &known->rules, false, &r, &scratch);
	else if (!user.data) verdict = rules_ask(acl, &acl->anonymous, false, &r, &scratch);
	/* With patterns at hand, names that hold wildcards are dangerous: the broker denies them everything else. */
	if (verdict == VERDICT_NONE && acl->patterns.count > 0 && !has_wildcard(user) && !has_wildcard(client)) {
		verdict = rules_ask(acl, &acl->patterns, true, &r, &scratch);
	}
	buf_free(&scratch);
	return verdict == VERDICT_GRANT;
}
