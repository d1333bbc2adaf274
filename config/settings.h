/*
 * The settings: one file, one typed table, read the same by plugin, bridge and CLI (README, "Settings").
 * Reading a file blocks; done at start and on reload only. A struct settings is owned by its reader and immutable
 * after loading, so several threads may read it. (The bridge, which has one thread, exchanges what can change live in
 * place: config/settings_reload.h.)
 */
#ifndef MQR_CONFIG_SETTINGS_H
#define MQR_CONFIG_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/keys.h"
#include "config/log.h"
#include "config/outbox.h"
#include "config/rule.h"
#include "config/status.h"

enum redis_form { REDIS_TCP, REDIS_UNIX, REDIS_SENTINEL, REDIS_CLUSTER };
enum redis_confirm { REDIS_CONFIRM_REPLY, REDIS_CONFIRM_REPLICAS, REDIS_CONFIRM_FSYNC };
enum journal_full { JOURNAL_REFUSE, JOURNAL_DROP_NEW, JOURNAL_DROP_OLD };
enum acl_default { ACL_DEFAULT_DETECT, ACL_DEFAULT_ALLOW, ACL_DEFAULT_DENY };

struct redis_host {
	char *host;
	uint16_t port;
};

struct redis_address {
	enum redis_form form;
	bool tls;      /* rediss://, rediss+cluster://, rediss+sentinel:// (the sentinels' connections too) */
	char *host;    /* TCP */
	uint16_t port;
	char *path;    /* unix */
	unsigned db;
	char *master;  /* its name at the sentinels */
	struct redis_host *hosts; /* the sentinels, or nodes of the cluster to begin with */
	size_t host_count;
};

#define REDIS_HOSTS_MAX 16

struct broker_address {
	bool tls;
	char *host;
	uint16_t port;
};

/* Where the bridge listens for HTTP: an address in numbers, without brackets. */
struct listen_address {
	bool off;
	bool ipv6;
	char *host; /* NULL when off */
	uint16_t port;
};

#define NODE_NAME_MAX 129 /* with its NUL */

struct settings {
	_Atomic unsigned shares; /* owners beyond the first */
	char *redis_url;
	struct redis_address redis;
	char *redis_username, *redis_password_file;
	char *redis_tls_ca, *redis_tls_cert, *redis_tls_key;
	char *redis_confirm;
	enum redis_confirm confirm;
	unsigned confirm_replicas; /* REDIS_CONFIRM_REPLICAS: from 1 */
	char *prefix;
	char *node;
	struct mirror_rule *mirrors;
	size_t mirror_count;
	struct mirror_rule *retired; /* not ours, but read by: rules until a reload, or of the plugin alone */
	size_t retired_count;
	bool retired_lost;           /* there were too many to remember all */
	char *journal;
	uint64_t journal_size; /* bytes */
	enum journal_full journal_full;
	struct grant *grants;
	size_t grant_count;
	char *acl_file;
	enum acl_default acl_default;
	uint64_t session_ttl_ms;
	uint64_t hold_timeout_ms;
	char *broker_url;
	struct broker_address broker;
	char *broker_username, *broker_password_file;
	char *broker_tls_ca, *broker_tls_cert, *broker_tls_key;
	struct outbox_setting *outboxes;
	size_t outbox_count;
	char *listen;
	struct listen_address listen_at;
};

enum setting_type { SETTING_STRING, SETTING_PATH, SETTING_SIZE, SETTING_DURATION, SETTING_ENUM, SETTING_MIRROR,
	SETTING_REDELIVER, SETTING_OUTBOX, SETTING_REDIS_URL, SETTING_REDIS_CONFIRM, SETTING_BROKER_URL, SETTING_LISTEN,
	SETTING_PREFIX, SETTING_NODE };

/* One accepted word of an ENUM, or of a STRING that has a list of them. */
struct setting_word {
	const char *name; /* one that ends in '=' stands for everything that begins with it */
	int value;
	bool supported;
};

/* One row of the table; tests hold README and config/mosquitto-redis.conf against it. */
struct setting_row {
	const char *name;
	enum setting_type type;
	const char *default_text; /* NULL: none ("-" in the README) */
	const char *accepted;     /* what is accepted, for error messages */
	const char *help;         /* one line */
	bool repeatable;
	bool reloadable;
	bool supported;           /* false: known by name, refused with "not supported yet" */
	size_t offset;            /* of the member in struct settings; unused for repeatable ones */
	uint64_t min, max;        /* SIZE in bytes, DURATION in milliseconds */
	const struct setting_word *words; /* ends with a NULL name; NULL: any text */
};

#define SETTING_ROWS_MAX 40
#define GRANT_COUNT_MAX 256

const struct setting_row *settings_table(size_t *count);

/* An override from mosquitto.conf: name without "plugin_opt_". */
struct setting_override {
	const char *name;
	const char *value;
};

/* Reads `path` (NULL: defaults and overrides only), then the overrides ("config" is skipped: the path came by it). On
 * success *out is owned by the caller. On failure nothing is kept and `why` holds one or more lines, each
 * "FILE:LINE: ..." or "plugin_opt_NAME: ...": what is wrong, the value (never a password), what is accepted. All errors
 * found are reported, not only the first, whose status is returned: ST_NOMEM or ST_IO for what may pass by itself (memory,
 * descriptors, a disk), another one for settings that are wrong. Warnings (a password file that others can read) go to `log`. */
enum status settings_load(const char *path, const struct setting_override *overrides, size_t override_count,
	const struct log_sink *log, struct settings **out, char *why, size_t size) MUST_CHECK;
/* One more owner: the settings live until each has called settings_free. Any thread. Returns s. */
struct settings *settings_share(struct settings *s);
/* Bears NULL. */
void settings_free(struct settings *s);

/* How the keys are named. Borrows. */
static inline struct key_space settings_keys(const struct settings *s)
{
	return (struct key_space){s->prefix, s->redis.form == REDIS_CLUSTER};
}

/* First line of a password file, without its newline; returns owned, to be wiped and freed by the caller. */
enum status password_read(const char *path, char **out) MUST_CHECK;

#endif
