/*
 * Values of single settings: URLs, words, sizes, durations, names. Pure but for the host name; any thread. Must never
 * show a value that may hold a password.
 */
#include "config/settings_values.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/explain.h"
#include "config/units.h"

#define REDIS_PORT 6379
#define SENTINEL_PORT 26379
#define BROKER_PORT 1883
#define BROKER_TLS_PORT 8883
#define REPLICAS_MAX 100
#define MASTER_NAME_MAX 128
#define REDIS_DB_MAX INT32_MAX
#define PREFIX_MAX 64
#define NODE_MAX (NODE_NAME_MAX - 1)
#define HOST_MAX 255

static void *member(struct settings *s, const struct setting_row *row)
{
	return (char *)s + row->offset;
}

/* A mistyped URL may still hold a password. */
static const char *value_shown(const struct setting_row *row, const char *value, char text[SHOWN_MAX])
{
	bool url = row->type == SETTING_REDIS_URL || row->type == SETTING_BROKER_URL;

	if (url && (strchr(value, '@') || strstr(value, "pass"))) return "(not shown)";
	return shown(value, text);
}

static enum status refuse(const struct setting_row *row, const char *value, char *why, size_t size)
{
	char text[SHOWN_MAX];

	return explain(ST_INVALID, why, size, "%s \"%s\" is not valid; accepted: %s", row->name,
		value_shown(row, value, text), row->accepted);
}

static enum status unsupported(const struct setting_row *row, const char *value, char *why, size_t size)
{
	char text[SHOWN_MAX];

	return explain(ST_UNSUPPORTED, why, size, "%s \"%s\" is not supported yet; accepted: %s", row->name,
		value_shown(row, value, text), row->accepted);
}

static enum status string_set(struct settings *s, const struct setting_row *row, const char *value, char *why,
	size_t size)
{
	char **slot = member(s, row), *copy = strdup(value);

	if (!copy) return explain(ST_NOMEM, why, size, "out of memory");
	free(*slot);
	*slot = copy;
	return ST_OK;
}

/* --- URLs --------------------------------------------------------------------------------------------------------- */

static bool host_char(char c)
{
	return (unsigned char)c > ' ' && c != 0x7f && !strchr("@/?#[]\\\"", c);
}

/* "HOST", "HOST:PORT", "[IPv6]:PORT" from the start of *text up to '/', ',' or the end, where *text then points. The host is
 * written to `host` without brackets. */
static bool host_port_parse(const char **text, char host[HOST_MAX + 1], uint16_t *port)
{
	const char *p = *text, *begin = p, *end;
	bool bracket = *p == '[';
	char digits[8] = "";
	uint64_t number;
	size_t len;

	if (bracket) {
		begin = p + 1;
		p = strchr(begin, ']');
		if (!p) return false;
		end = p++;
	} else {
		p += strcspn(p, ":/,");
		end = p;
	}
	len = (size_t)(end - begin);
	if (len == 0 || len > HOST_MAX || (bracket && !memchr(begin, ':', len))) return false;
	for (size_t i = 0; i < len; i++) {
		if (!host_char(begin[i])) return false;
	}
	if (*p == ':') {
		size_t count = strcspn(++p, "/,");
		if (count >= sizeof(digits)) return false;
		memcpy(digits, p, count);
		if (number_parse(digits, 1, UINT16_MAX, &number) != ST_OK) return false;
		*port = (uint16_t)number;
		p += count;
	}
	if (*p && *p != '/' && *p != ',') return false;
	memcpy(host, begin, len);
	host[len] = '\0';
	*text = p;
	return true;
}

/* User name and password have their own settings, so that no URL is a secret. A path may hold '@'. */
static bool has_login(const char *url)
{
	const char *authority = strstr(url, "://");
	size_t len;

	if (!authority) return false;
	authority += 3;
	len = strncmp(url, "unix:", 5) == 0 ? strcspn(authority, "/") : strlen(authority);
	return memchr(authority, '@', len) != NULL;
}

static enum status redis_tcp_parse(const char *rest, struct redis_address *a)
{
	char host[HOST_MAX + 1];
	uint64_t db = 0;

	a->port = REDIS_PORT;
	if (!host_port_parse(&rest, host, &a->port) || *rest == ',') return ST_INVALID;
	if (*rest == '/') rest++;
	if (*rest && number_parse(rest, 0, REDIS_DB_MAX, &db) != ST_OK) return ST_INVALID;
	a->form = REDIS_TCP;
	a->db = (unsigned)db;
	a->host = strdup(host);
	return a->host ? ST_OK : ST_NOMEM;
}

static enum status redis_unix_parse(const char *rest, struct redis_address *a)
{
	size_t len = strcspn(rest, "?");
	uint64_t db = 0;

	if (rest[0] != '/' || len < 2) return ST_INVALID;
	if (rest[len]) {
		if (strncmp(rest + len, "?db=", 4) != 0) return ST_INVALID;
		if (number_parse(rest + len + 4, 0, REDIS_DB_MAX, &db) != ST_OK) return ST_INVALID;
	}
	a->form = REDIS_UNIX;
	a->db = (unsigned)db;
	a->path = strndup(rest, len);
	return a->path ? ST_OK : ST_NOMEM;
}

/* "HOST[:PORT],HOST[:PORT]", up to a '/' or the end, where *rest then points. */
static enum status redis_hosts_parse(const char **rest, uint16_t default_port, struct redis_address *a)
{
	char host[HOST_MAX + 1];

	a->hosts = calloc(REDIS_HOSTS_MAX, sizeof(*a->hosts));
	if (!a->hosts) return ST_NOMEM;
	for (bool more = true; more; *rest += more) {
		struct redis_host *to = &a->hosts[a->host_count];
		uint16_t port = default_port;
		if (a->host_count == REDIS_HOSTS_MAX || !host_port_parse(rest, host, &port)) return ST_INVALID;
		to->host = strdup(host);
		if (!to->host) return ST_NOMEM;
		to->port = port;
		a->host_count++;
		more = **rest == ',';
	}
	return ST_OK;
}

/* "HOSTS/MASTER[/DB]" */
static enum status redis_sentinel_parse(const char *rest, struct redis_address *a)
{
	uint64_t db = 0;

	a->form = REDIS_SENTINEL;
	enum status st = redis_hosts_parse(&rest, SENTINEL_PORT, a);
	if (st != ST_OK) return st;
	if (*rest == '/') rest++;
	size_t len = strcspn(rest, "/");
	if (len == 0 || len > MASTER_NAME_MAX) return ST_INVALID;
	for (size_t i = 0; i < len; i++) {
		if (!host_char(rest[i]) || rest[i] == ',') return ST_INVALID;
	}
	if (rest[len] == '/' && rest[len + 1] && number_parse(rest + len + 1, 0, REDIS_DB_MAX, &db) != ST_OK) {
		return ST_INVALID;
	}
	a->db = (unsigned)db;
	a->master = strndup(rest, len);
	return a->master ? ST_OK : ST_NOMEM;
}

/* "HOSTS", and nothing or "/" or "/0": a cluster has no other database. */
static enum status redis_cluster_parse(const char *rest, struct redis_address *a)
{
	a->form = REDIS_CLUSTER;
	enum status st = redis_hosts_parse(&rest, REDIS_PORT, a);
	if (st != ST_OK) return st;
	return *rest == '\0' || strcmp(rest, "/") == 0 || strcmp(rest, "/0") == 0 ? ST_OK : ST_INVALID;
}

static void redis_address_free(struct redis_address *a)
{
	free(a->host);
	free(a->path);
	free(a->master);
	for (size_t i = 0; i < a->host_count; i++) free(a->hosts[i].host);
	free(a->hosts);
	*a = (struct redis_address){0};
}

static bool starts(const char *value, const char *head)
{
	return strncmp(value, head, strlen(head)) == 0;
}

static enum status redis_url_set(struct settings *s, const struct setting_row *row, const char *value, char *why,
	size_t size)
{
	struct redis_address a = {0};
	enum status st = ST_INVALID;

	if (has_login(value)) {
		return explain(ST_INVALID, why, size, "redis_url: user name and password do not stand in the URL; use "
			"redis_username and redis_password_file");
	}
	a.tls = starts(value, "rediss");
	if (starts(value, "redis+sentinel://") || starts(value, "rediss+sentinel://")) {
		st = redis_sentinel_parse(strstr(value, "://") + 3, &a);
	} else if (starts(value, "redis+cluster://") || starts(value, "rediss+cluster://")) {
		st = redis_cluster_parse(strstr(value, "://") + 3, &a);
	} else if (starts(value, "rediss://")) {
		st = redis_tcp_parse(value + strlen("rediss://"), &a);
	} else if (starts(value, "redis://")) {
		st = redis_tcp_parse(value + strlen("redis://"), &a);
	} else if (starts(value, "unix://")) {
		st = redis_unix_parse(value + strlen("unix://"), &a);
	}
	if (st == ST_OK) st = string_set(s, row, value, why, size);
	if (st != ST_OK) {
		redis_address_free(&a);
		return st == ST_INVALID ? refuse(row, value, why, size) : explain(st, why, size, "out of memory");
	}
	redis_address_free(&s->redis);
	s->redis = a;
	return ST_OK;
}

static enum status broker_url_set(struct settings *s, const struct setting_row *row, const char *value, char *why,
	size_t size)
{
	struct broker_address a = {.port = BROKER_PORT};
	char host[HOST_MAX + 1];
	const char *rest = strstr(value, "://");

	if (has_login(value)) {
		return explain(ST_INVALID, why, size, "broker_url: user name and password do not stand in the URL; use "
			"broker_username and broker_password_file");
	}
	a.tls = starts(value, "mqtts://");
	if (a.tls) a.port = BROKER_TLS_PORT;
	if (!a.tls && !starts(value, "mqtt://")) return refuse(row, value, why, size);
	rest += strlen("://");
	if (!host_port_parse(&rest, host, &a.port) || (*rest && strcmp(rest, "/") != 0)) {
		return refuse(row, value, why, size);
	}
	a.host = strdup(host);
	if (!a.host || string_set(s, row, value, why, size) != ST_OK) {
		free(a.host);
		return explain(ST_NOMEM, why, size, "out of memory");
	}
	free(s->broker.host);
	s->broker = a;
	return ST_OK;
}

/* A name would be looked up once and then be taken for one address of several: only numbers say what is meant. */
static enum status listen_parse(const char *value, struct listen_address *a)
{
	char host[HOST_MAX + 1];
	struct in6_addr bytes;

	a->off = strcmp(value, "none") == 0 || strcmp(value, "off") == 0;
	if (a->off) return ST_OK;
	a->ipv6 = value[0] == '[';
	if (!host_port_parse(&value, host, &a->port) || *value || a->port == 0) return ST_INVALID;
	if (inet_pton(a->ipv6 ? AF_INET6 : AF_INET, host, &bytes) != 1) return ST_INVALID;
	a->host = strdup(host);
	return a->host ? ST_OK : ST_NOMEM;
}

static enum status listen_set(struct settings *s, const struct setting_row *row, const char *value, char *why,
	size_t size)
{
	struct listen_address a = {0};
	enum status st = listen_parse(value, &a);

	if (st == ST_INVALID) return refuse(row, value, why, size);
	if (st == ST_OK) st = string_set(s, row, value, why, size);
	if (st != ST_OK) {
		free(a.host);
		return explain(st, why, size, "out of memory");
	}
	free(s->listen_at.host);
	s->listen_at = a;
	return ST_OK;
}

/* "reply", "replicas=N", "fsync" */
static enum status confirm_set(struct settings *s, const struct setting_row *row, const char *value, char *why,
	size_t size)
{
	enum redis_confirm confirm = REDIS_CONFIRM_REPLY;
	uint64_t replicas = 0;

	if (starts(value, "replicas=")) {
		confirm = REDIS_CONFIRM_REPLICAS;
		if (number_parse(value + strlen("replicas="), 1, REPLICAS_MAX, &replicas) != ST_OK) {
			return refuse(row, value, why, size);
		}
	} else if (strcmp(value, "fsync") == 0) {
		confirm = REDIS_CONFIRM_FSYNC;
	} else if (strcmp(value, "reply") != 0) {
		return refuse(row, value, why, size);
	}
	enum status st = string_set(s, row, value, why, size);
	if (st != ST_OK) return st;
	s->confirm = confirm;
	s->confirm_replicas = (unsigned)replicas;
	return ST_OK;
}

/* --- words, sizes, names ------------------------------------------------------------------------------------------ */

static const struct setting_word *word_find(const struct setting_row *row, const char *value)
{
	for (const struct setting_word *w = row->words; w->name; w++) {
		size_t len = strlen(w->name);
		if (strcmp(value, w->name) == 0) return w;
		if (w->name[len - 1] == '=' && strncmp(value, w->name, len) == 0) return w;
	}
	return NULL;
}

static enum status word_set(struct settings *s, const struct setting_row *row, const char *value, char *why,
	size_t size)
{
	const struct setting_word *word = word_find(row, value);

	_Static_assert(sizeof(enum journal_full) == sizeof(int) && sizeof(enum acl_default) == sizeof(int),
		"members of type ENUM are set as int");
	if (!word) return refuse(row, value, why, size);
	if (!word->supported) return unsupported(row, value, why, size);
	if (row->type == SETTING_STRING) return string_set(s, row, value, why, size);
	memcpy(member(s, row), &word->value, sizeof(int));
	return ST_OK;
}

static enum status amount_set(struct settings *s, const struct setting_row *row, const char *value, char *why,
	size_t size)
{
	uint64_t amount;
	enum status st = row->type == SETTING_SIZE ? size_parse(value, &amount) : duration_parse(value, &amount);

	if (st != ST_OK || amount < row->min || amount > row->max) return refuse(row, value, why, size);
	memcpy(member(s, row), &amount, sizeof(amount));
	return ST_OK;
}

static bool prefix_valid(const char *value)
{
	size_t len = strspn(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-");

	return value[len] == '\0' && len >= 1 && len <= PREFIX_MAX;
}

static bool node_char(char c)
{
	return (unsigned char)c > ' ' && c != 0x7f && c != '{' && c != '}';
}

static bool node_valid(const char *value)
{
	size_t len = strlen(value);

	for (size_t i = 0; i < len; i++) {
		if (!node_char(value[i])) return false;
	}
	return len >= 1 && len <= NODE_MAX;
}

char *node_default(void)
{
	char name[NODE_MAX + 1];

	if (gethostname(name, sizeof(name)) != 0) name[0] = '\0';
	name[NODE_MAX] = '\0'; /* a longer host name is cut and then has no NUL */
	for (char *p = name; *p; p++) {
		if (!node_char(*p)) *p = '-';
	}
	return strdup(*name ? name : "localhost");
}

enum status setting_set(struct settings *s, const struct setting_row *row, const char *value, char *why, size_t size)
{
	if (!*value) return explain(ST_INVALID, why, size, "%s has no value; accepted: %s", row->name, row->accepted);
	if (!row->supported) {
		return explain(ST_UNSUPPORTED, why, size, "%s is not supported yet; leave the line out", row->name);
	}
	switch (row->type) {
	case SETTING_STRING:
		if (row->words) return word_set(s, row, value, why, size);
		return string_set(s, row, value, why, size);
	case SETTING_PATH: return string_set(s, row, value, why, size);
	case SETTING_SIZE:
	case SETTING_DURATION: return amount_set(s, row, value, why, size);
	case SETTING_ENUM: return word_set(s, row, value, why, size);
	case SETTING_REDIS_URL: return redis_url_set(s, row, value, why, size);
	case SETTING_REDIS_CONFIRM: return confirm_set(s, row, value, why, size);
	case SETTING_BROKER_URL: return broker_url_set(s, row, value, why, size);
	case SETTING_LISTEN: return listen_set(s, row, value, why, size);
	case SETTING_PREFIX:
		if (!prefix_valid(value)) return refuse(row, value, why, size);
		return string_set(s, row, value, why, size);
	case SETTING_NODE:
		if (!node_valid(value)) return refuse(row, value, why, size);
		return string_set(s, row, value, why, size);
	case SETTING_MIRROR:
	case SETTING_REDELIVER:
	case SETTING_OUTBOX: break;
	}
	return explain(ST_INVALID, why, size, "%s is set another way", row->name);
}

void setting_values_free(struct settings *s)
{
	size_t count;
	const struct setting_row *rows = settings_table(&count);

	for (size_t i = 0; i < count; i++) {
		if (rows[i].repeatable || rows[i].type == SETTING_SIZE || rows[i].type == SETTING_DURATION ||
			rows[i].type == SETTING_ENUM) continue;
		free(*(char **)member(s, &rows[i]));
	}
	redis_address_free(&s->redis);
	free(s->broker.host);
	free(s->listen_at.host);
}
