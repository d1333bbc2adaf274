/*
 * The one table of settings, read-only; any thread. tests/unit/test_documents.c holds README.md and
 * config/mosquitto-redis.conf against it, so the texts of defaults here are those of the documents.
 */
#include "config/settings.h"

#define AT(member) .offset = offsetof(struct settings, member)
#define DAY_MS (UINT64_C(86400) * 1000)
#define MIB (UINT64_C(1) << 20)

static const struct setting_word journal_full_words[] = {
	{"refuse", JOURNAL_REFUSE, true}, {"drop-new", JOURNAL_DROP_NEW, true}, {"drop-old", JOURNAL_DROP_OLD, true},
	{NULL, 0, false},
};
static const struct setting_word acl_default_words[] = {
	{"allow", ACL_DEFAULT_ALLOW, true}, {"deny", ACL_DEFAULT_DENY, true}, {NULL, 0, false},
};

static const struct setting_row rows[] = {
	{.name = "redis_url", .type = SETTING_REDIS_URL, .default_text = "redis://127.0.0.1:6379/0", .supported = true,
		.accepted = "redis://HOST[:PORT][/DB] (IPv6 in brackets), rediss:// (TLS), unix:///PATH[?db=DB] "
			"redis+sentinel://HOST[:PORT],.../MASTER[/DB] (rediss+sentinel:// with TLS) and "
			"redis+cluster://HOST[:PORT],... (rediss+cluster:// with TLS)",
		.help = "where Redis is", AT(redis_url)},
	{.name = "redis_username", .type = SETTING_STRING, .supported = true, .reloadable = true,
		.accepted = "a Redis ACL user name",
		.help = "user name for AUTH; needs redis_password_file", AT(redis_username)},
	{.name = "redis_password_file", .type = SETTING_PATH, .supported = true, .reloadable = true,
		.accepted = "a file whose first line is the password",
		.help = "file that holds the password for AUTH", AT(redis_password_file)},
	{.name = "redis_tls_ca", .type = SETTING_PATH, .supported = true, .reloadable = true, .accepted = "a file",
		.help = "certificates to trust, with rediss://; those of the system when not given", AT(redis_tls_ca)},
	{.name = "redis_tls_cert", .type = SETTING_PATH, .supported = true, .reloadable = true, .accepted = "a file",
		.help = "own certificate, with rediss://", AT(redis_tls_cert)},
	{.name = "redis_tls_key", .type = SETTING_PATH, .supported = true, .reloadable = true, .accepted = "a file",
		.help = "key of that certificate", AT(redis_tls_key)},
	{.name = "redis_confirm", .type = SETTING_REDIS_CONFIRM, .default_text = "reply", .supported = true,
		.accepted = "reply, replicas=N (N from 1 to 100) and fsync", .help = "when a write counts as stored",
		AT(redis_confirm)},
	{.name = "prefix", .type = SETTING_PREFIX, .default_text = "mqtt", .supported = true,
		.accepted = "1 to 64 characters of A-Z a-z 0-9 . _ : -",
		.help = "own keys in Redis begin with it and a colon", AT(prefix)},
	{.name = "node", .type = SETTING_NODE, .supported = true,
		.accepted = "1 to 128 characters without blanks, control characters and braces",
		.help = "name of this broker, unique where several share a Redis; the host name when not given", AT(node)},
	{.name = "mirror", .type = SETTING_MIRROR, .supported = true, .repeatable = true, .reloadable = true,
		.accepted = "FILTER stream|list KEY [option...]", .help = "messages to write to Redis"},
	{.name = "journal", .type = SETTING_PATH, .default_text = "/var/lib/mosquitto/mosquitto-redis.journal",
		.supported = true, .accepted = "a file name", .help = "file that keeps messages until Redis has them",
		AT(journal)},
	{.name = "journal_size", .type = SETTING_SIZE, .default_text = "256M", .supported = true,
		.accepted = "a size from 1M to 1T, such as 256M or 4G", .help = "size of the journal", AT(journal_size),
		.min = MIB, .max = MIB * MIB},
	{.name = "journal_full", .type = SETTING_ENUM, .default_text = "refuse", .supported = true,
		.accepted = "refuse, drop-new and drop-old", .help = "what happens to a publish when the journal is full",
		.words = journal_full_words, AT(journal_full)},
	{.name = "redeliver", .type = SETTING_REDELIVER, .supported = true, .repeatable = true, .reloadable = true,
		.accepted = "PATTERN [option...]", .help = "messages that a device which comes back may get from Redis"},
	{.name = "acl_file", .type = SETTING_PATH, .supported = true, .reloadable = true,
		.accepted = "a Mosquitto ACL file", .help = "ACL file whose read rules redelivery also honours", AT(acl_file)},
	{.name = "acl_default", .type = SETTING_ENUM, .supported = true, .reloadable = true, .accepted = "allow and deny",
		.help = "what the broker does when no ACL decides; found out by itself when not given",
		.words = acl_default_words, AT(acl_default)},
	{.name = "session_ttl", .type = SETTING_DURATION, .default_text = "7d", .supported = true, .reloadable = true,
		.accepted = "a duration from 1s to 3650d, such as 12h or 7d", .help = "how long an absent device is remembered",
		AT(session_ttl_ms), .min = 1000, .max = 3650 * DAY_MS},
	{.name = "hold_timeout", .type = SETTING_DURATION, .default_text = "5s", .supported = true, .reloadable = true,
		.accepted = "a duration from 0 to 1d, such as 500ms or 5s",
		.help = "how long a device that catches up waits for live messages while bridge or Redis is away",
		AT(hold_timeout_ms), .min = 0, .max = DAY_MS},
	{.name = "broker_url", .type = SETTING_BROKER_URL, .default_text = "mqtt://127.0.0.1:1883", .supported = true,
		.accepted = "mqtt://HOST[:PORT] (IPv6 in brackets) and mqtts://HOST[:PORT] (TLS)", .help = "where the bridge reaches the broker",
		AT(broker_url)},
	{.name = "broker_username", .type = SETTING_STRING, .supported = true, .reloadable = true,
		.accepted = "a user name", .help = "user name of the bridge at the broker", AT(broker_username)},
	{.name = "broker_password_file", .type = SETTING_PATH, .supported = true, .reloadable = true,
		.accepted = "a file whose first line is the password", .help = "file that holds the bridge's password",
		AT(broker_password_file)},
	{.name = "broker_tls_ca", .type = SETTING_PATH, .supported = true, .reloadable = true, .accepted = "a file",
		.help = "certificates to trust, with mqtts://; those of the system when not given", AT(broker_tls_ca)},
	{.name = "broker_tls_cert", .type = SETTING_PATH, .supported = true, .reloadable = true, .accepted = "a file",
		.help = "own certificate, with mqtts://", AT(broker_tls_cert)},
	{.name = "broker_tls_key", .type = SETTING_PATH, .supported = true, .reloadable = true, .accepted = "a file",
		.help = "key of that certificate", AT(broker_tls_key)},
	{.name = "outbox", .type = SETTING_OUTBOX, .supported = true, .repeatable = true,
		.accepted = "stream|list KEY [option...]", .help = "what a backend adds there is published"},
	{.name = "listen", .type = SETTING_LISTEN, .default_text = "127.0.0.1:9419", .supported = true,
		.accepted = "ADDRESS:PORT with an address in numbers (IPv6 in brackets), and none",
		.help = "where the bridge answers HTTP: /metrics, /health and a status page", AT(listen)},
};

_Static_assert(sizeof(rows) / sizeof(rows[0]) <= SETTING_ROWS_MAX, "SETTING_ROWS_MAX bounds the table");

const struct setting_row *settings_table(size_t *count)
{
	*count = sizeof(rows) / sizeof(rows[0]);
	return rows;
}
