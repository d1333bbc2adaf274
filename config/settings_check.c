/*
 * Checks that need the whole of the settings: files they name, and lines that contradict each other. One thread; blocks
 * while it looks at files.
 */
#include "config/settings_load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/acl_file.h"
#include "config/explain.h"
#include "config/key_template.h"
#include "config/text_file.h"
#include "config/tls.h"
#include "config/topic.h"

static struct place place_of(const struct settings_load *l, const char *name)
{
	size_t index = 0;

	return setting_find(name, &index) ? l->places[index] : (struct place){0};
}

static void password_check(struct settings_load *l, const char *name, const char *path)
{
	struct place where = place_of(l, name);
	struct text_file text = {0};
	char why[256], shown_path[SHOWN_MAX], *password = NULL;
	enum status st;

	if (!path) return;
	st = text_file_read(path, TEXT_LINE_MAX, &text, why, sizeof(why));
	if (st != ST_OK) {
		load_error(l, where, st, "%s \"%s\" %s", name, shown(path, shown_path), why);
		return;
	}
	if (text.world_readable) {
		load_warning(l, where, "%s \"%s\" can be read by every user of this machine; take that right away (chmod o-r)",
			name, shown(path, shown_path));
	}
	text_file_free(&text);
	st = password_read(path, &password);
	if (st == ST_OK) {
		explicit_bzero(password, strlen(password));
		free(password);
		return;
	}
	load_error(l, where, st, "%s \"%s\" has no password in its first line", name, shown(path, shown_path));
}

static void acl_check(struct settings_load *l)
{
	struct acl_file *acl = NULL;
	char why[512];
	enum status st;

	if (!l->s->acl_file) return;
	st = acl_file_load(l->s->acl_file, &acl, why, sizeof(why));
	if (st == ST_OK) acl_file_free(acl);
	else load_error(l, place_of(l, "acl_file"), st, "acl_file: %s", why);
}

static void login_check(struct settings_load *l)
{
	const struct settings *s = l->s;

	password_check(l, "redis_password_file", s->redis_password_file);
	password_check(l, "broker_password_file", s->broker_password_file);
	if (s->redis_username && !s->redis_password_file) {
		load_error(l, place_of(l, "redis_username"), ST_INVALID, "redis_username needs redis_password_file");
	}
	/* MQTT 3.1.1, 3.1.2.9 knows no password without a user name. */
	if (s->broker_password_file && !s->broker_username) {
		load_error(l, place_of(l, "broker_password_file"), ST_INVALID, "broker_password_file needs broker_username");
	}
}

/* The three files of one connection; `prefix` is "redis" or "broker", `url` what asks for TLS. */
static void tls_check(struct settings_load *l, const char *prefix, const char *url, bool tls, const struct tls_files *files)
{
	const struct {
		const char *end, *path;
	} settings[] = {{"_tls_ca", files->ca}, {"_tls_cert", files->cert}, {"_tls_key", files->key}};
	struct place where = {0};
	bool any = false;

	for (size_t i = 3; i-- > 0;) {
		char name[32];
		if (!settings[i].path) continue;
		(void)snprintf(name, sizeof(name), "%s%s", prefix, settings[i].end);
		where = place_of(l, name);
		any = true;
		if (!tls) load_error(l, where, ST_INVALID, "%s needs %s in %s_url", name, url, prefix);
	}
	if (!tls) return;
	if (!files->cert != !files->key) {
		load_error(l, where, ST_INVALID, "%s_tls_cert and %s_tls_key need each other", prefix, prefix);
		return;
	}
	char why[384];
	SSL_CTX *context = tls_context_new();
	enum status st = context ? tls_context_load(context, files, why, sizeof(why)) : ST_NOMEM;
	if (!context) load_error(l, where, st, "out of memory");
	else if (st != ST_OK) load_error(l, any ? where : place_of(l, "redis_url"), st, "%s_tls: %s", prefix, why);
	SSL_CTX_free(context);
}

static void secure_check(struct settings_load *l)
{
	const struct settings *s = l->s;
	struct tls_files redis = {s->redis_tls_ca, s->redis_tls_cert, s->redis_tls_key};
	struct tls_files broker = {s->broker_tls_ca, s->broker_tls_cert, s->broker_tls_key};

	tls_check(l, "redis", "rediss:// or rediss+sentinel://", s->redis.tls, &redis);
	tls_check(l, "broker", "mqtts://", s->broker.tls, &broker);
}

/* Do two rules with the same key template certainly meet in one key? */
static bool keys_meet(const struct mirror_rule *a, const struct mirror_rule *b)
{
	if (strcmp(a->key, b->key) != 0) return false;
	if (a->key_from_topic && !strchr(a->key, '%')) return true;
	return filters_intersect(slice_str(a->filter), slice_str(b->filter));
}

static const char *kind_text(const struct mirror_rule *rule)
{
	if (rule->kind == RULE_STREAM) return "stream";
	return rule->format == FORMAT_RAW ? "list of raw payloads" : "list";
}

/* Two rules that write one key must agree on what it is, and should on how it is trimmed. */
static void pair_check(struct settings_load *l, size_t index, size_t before)
{
	const struct mirror_rule *rule = &l->s->mirrors[index], *other = &l->s->mirrors[before];
	char text[SHOWN_MAX], other_text[SHOWN_MAX];

	if (!keys_meet(rule, other)) return;
	if (other->kind != rule->kind || other->format != rule->format) {
		load_error(l, l->mirror_places[index], ST_INVALID,
			"mirror: the key \"%s\" is a %s here and a %s in the rule \"%s\"", shown(rule->key, text),
			kind_text(rule), kind_text(other), shown(other->text, other_text));
	} else if (other->maxlen != rule->maxlen || other->maxage_ms != rule->maxage_ms) {
		load_warning(l, l->mirror_places[index], "mirror: the key \"%s\" is trimmed differently by the rule \"%s\"",
			shown(rule->key, text), shown(other->text, other_text));
	}
}

static void mirror_check(struct settings_load *l, size_t index)
{
	const struct settings *s = l->s;
	const struct mirror_rule *rule = &s->mirrors[index];
	char text[SHOWN_MAX];

	if (key_reserved(s->prefix, key_template_start(rule->key))) {
		load_error(l, l->mirror_places[index], ST_INVALID, "mirror: the key \"%s\" begins like the keys that this "
			"software keeps for itself (prefix %s); choose another key or prefix", shown(rule->key, text), s->prefix);
	}
	if (strncmp(rule->filter, "$SYS", 4) == 0) {
		load_warning(l, l->mirror_places[index], "mirror: the broker shows $SYS messages to no plugin; this rule will "
			"see none");
	}
	for (size_t i = 0; i < index; i++) pair_check(l, index, i);
}

/* The pattern with '+' for every level that holds a name: at least as wide as what any device gets by it. */
static void pattern_widest(const char *pattern, struct buf *out)
{
	for (const char *p = pattern;;) {
		size_t len = strcspn(p, "/");
		bool named = false;

		for (size_t i = 0; i + 1 < len; i++) named |= p[i] == '%' && (p[i + 1] == 'c' || p[i + 1] == 'u');
		if (named) buf_append(out, "+", 1);
		else buf_append(out, p, len);
		if (p[len] == '\0') return;
		buf_append(out, "/", 1);
		p += len + 1;
	}
}

static void grant_check(struct settings_load *l, size_t index)
{
	const struct settings *s = l->s;
	char text[SHOWN_MAX];
	struct buf widest = {0};
	bool reached = false;

	pattern_widest(s->grants[index].pattern, &widest);
	for (size_t i = 0; i < s->mirror_count && !widest.failed; i++) {
		if (!mirror_rule_readable(&s->mirrors[i])) continue;
		reached |= filters_intersect(slice_of(widest.data, widest.len), slice_str(s->mirrors[i].filter));
	}
	if (!reached && !widest.failed) {
		load_warning(l, l->grant_places[index], "redeliver: no mirror rule that redelivery can read (a stream, or a "
			"list with format=json) keeps topics of \"%s\"; nothing will be redelivered by it",
			shown(s->grants[index].pattern, text));
	}
	buf_free(&widest);
}

static void own_key_check(struct settings_load *l, size_t index, const char *key)
{
	char text[SHOWN_MAX];

	if (!key || !key_reserved(l->s->prefix, slice_str(key))) return;
	load_error(l, l->outbox_places[index], ST_INVALID, "outbox: the key \"%s\" begins like the keys that this software "
		"keeps for itself (prefix %s); choose another key or prefix", shown(key, text), l->s->prefix);
}

static void outbox_check(struct settings_load *l, size_t index)
{
	const struct settings *s = l->s;
	const struct outbox_setting *outbox = &s->outboxes[index];
	char text[SHOWN_MAX];

	own_key_check(l, index, outbox->key);
	own_key_check(l, index, outbox->result);
	for (size_t i = 0; i < s->outbox_count; i++) {
		if (!outbox->result || strcmp(outbox->result, s->outboxes[i].key) != 0) continue;
		load_error(l, l->outbox_places[index], ST_INVALID, "outbox: results cannot go to the outbox \"%s\"",
			shown(s->outboxes[i].key, text));
	}
	for (size_t i = 0; i < s->mirror_count; i++) {
		if (strcmp(s->mirrors[i].key, outbox->key) != 0) continue;
		load_error(l, l->outbox_places[index], ST_INVALID, "outbox: the rule \"%s\" mirrors to this key; what it "
			"publishes would come back for ever", shown(s->mirrors[i].text, text));
	}
}

void settings_check(struct settings_load *l)
{
	const struct settings *s = l->s;

	login_check(l);
	secure_check(l);
	acl_check(l);
	if (s->prefix) {
		for (size_t i = 0; i < s->mirror_count; i++) mirror_check(l, i);
		for (size_t i = 0; i < s->outbox_count; i++) outbox_check(l, i);
	}
	/* Judged only when no line is missing for another error. */
	if (l->errors > 0) return;
	for (size_t i = 0; i < s->grant_count; i++) grant_check(l, i);
	if (s->mirror_count == 0 && s->outbox_count == 0) {
		load_warning(l, (struct place){0}, "no mirror rule: nothing will be written to Redis");
	}
}
