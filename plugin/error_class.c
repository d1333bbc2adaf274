/* The table of Redis' errors. Pure; any thread. An error that is not in it is never a reason to give a message up. */
#include "plugin/error_class.h"

#include <stdbool.h>
#include <string.h>

static const char aborted[] = "EXECABORT Transaction discarded because of: ";

/* The first row that fits; the last one fits all. */
static const struct error_class table[] = {
	{"LOADING", ERROR_RETRY, ""},
	{"BUSY", ERROR_RETRY, "a script holds it up: SCRIPT KILL"},
	{"TRYAGAIN", ERROR_RETRY, ""},
	{"CLUSTERDOWN", ERROR_RETRY, "see CLUSTER INFO"},
	{"NOREPLICAS", ERROR_RETRY, "min-replicas-to-write is not met"},
	{"OOM", ERROR_RETRY, "make room, or raise maxmemory"},
	{"MISCONF", ERROR_RETRY, "its snapshots or its append-only file fail: see its log and its disk"},
	{"NOPERM", ERROR_RETRY, "its user may not do what is needed: see ACL LOG"},
	{"MOVED", ERROR_RETRY, "redis_url names a node of a cluster: redis+cluster:// is needed"},
	{"ASK", ERROR_RETRY, "redis_url names a node of a cluster: redis+cluster:// is needed"},
	{"CROSSSLOT", ERROR_RETRY, "redis_url names a node of a cluster: redis+cluster:// is needed"},
	{"READONLY", ERROR_RECONNECT, "it is a replica: redis_url must lead to the master"},
	{"MASTERDOWN", ERROR_RECONNECT, "it is a replica: redis_url must lead to the master"},
	{"ERR WAIT cannot be used with replica", ERROR_RECONNECT, "it is a replica: redis_url must lead to the master"},
	{"ERR WAITAOF cannot be used with replica", ERROR_RECONNECT, "it is a replica: redis_url must lead to the master"},
	{"NOAUTH", ERROR_RECONNECT, "see redis_username and redis_password_file"},
	{"WRONGPASS", ERROR_RECONNECT, "see redis_username and redis_password_file"},
	{"ERR Protocol error: unauthenticated", ERROR_RECONNECT, "see redis_username and redis_password_file"},
	{"ERR Protocol error: invalid bulk length", ERROR_TOO_LARGE, "see proto-max-bulk-len"},
	{"ERR unknown command", ERROR_RETRY, "it must be Redis 6.2 or newer"},
	{"", ERROR_RETRY, ""},
};

static bool begins_with(const char *text, size_t len, const char *prefix)
{
	size_t prefix_len = strlen(prefix);
	if (len < prefix_len || memcmp(text, prefix, prefix_len) != 0) return false;
	return prefix_len == 0 || len == prefix_len || text[prefix_len] == ' ';
}

const struct error_class *error_class_of(const char *text, size_t len)
{
	size_t skip = sizeof(aborted) - 1;
	if (len >= skip && memcmp(text, aborted, skip) == 0) {
		text += skip;
		len -= skip;
	}
	const struct error_class *row = table;
	while (!begins_with(text, len, row->prefix)) { /* ends: the last row fits all */
		row++;
	}
	return row;
}

enum error_action error_action(const struct error_class *row, enum error_place place)
{
	return place == ERROR_WITHIN_EXEC ? ERROR_LETTER : row->before;
}

const struct error_class *error_classes(size_t *count)
{
	*count = sizeof(table) / sizeof(table[0]);
	return table;
}
