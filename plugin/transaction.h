/*
 * One MULTI..EXEC: the commands of some journal records in a row, and what is needed to understand the replies. Pure:
 * no I/O. Writer thread. The members are for reading by the pipeline; only the functions here change them.
 *
 *   MULTI
 *   per message and distinct (kind, key):  XADD key [MINID ~ id | MAXLEN ~ n] id fields...   or   LPUSH key element
 *   per session record:                    plugin/session_redis.h
 *   XTRIM key MAXLEN ~ n, LTRIM key 0 n-1  once for each key that asks for it
 *   ZADD <prefix>:index GT ms member ...   all index members touched that need it (plugin/index_lease.h)
 *   SET <prefix>:mark:<node>:journal text  when another journal's is there
 *   SET <prefix>:mark:<node> id            of the last record
 *   EXEC
 *   WATCH mark, dead mark                  for the next transaction (see pipeline.h)
 *
 * Two rules that give one message the same kind and key write it once, in the way of the first one, and count for both.
 * In a cluster (plugin/stretch.h) the writes alone are taken from it: session records add nothing, and it is never sealed.
 * What can be seen beforehand to be refused is not sent, and fails like a command that was: a key of our own, a value
 * larger than Redis takes, a rule that the journal no longer knows.
 */
#ifndef MQR_PLUGIN_TRANSACTION_H
#define MQR_PLUGIN_TRANSACTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/buf.h"
#include "config/keys.h"
#include "config/message.h"
#include "plugin/index_lease.h"
#include "plugin/journal.h"
#include "plugin/key_set.h"
#include "plugin/rule_cache.h"

#define TRANSACTION_RECORDS_MAX 512
#define TRANSACTION_BYTES_MAX (1024u * 1024) /* at most; a larger single record makes a transaction of its own */
#define TRANSACTION_TARGETS_MAX 4096         /* likewise */
/* What Redis takes unless told otherwise. */
#define TRANSACTION_BULK_MAX (512u * 1024 * 1024)     /* proto-max-bulk-len */
#define TRANSACTION_REQUEST_MAX (1024u * 1024 * 1024) /* client-query-buffer-limit */
#define TRANSACTION_BULK_LEAST (1024u * 1024)         /* no Redis can be told to take less */

/* One XADD or LPUSH. */
struct transaction_write {
	size_t command;  /* its place in EXEC's reply */
	size_t at;       /* of its command in the bytes to send */
	size_t key;      /* in the transaction's keys */
	const char *doomed; /* why it was not even sent; NULL: it was */
	size_t largest;  /* bytes of its largest value */
	size_t record;
	size_t key_at, key_len; /* in keys.bytes */
	bool list;
	bool failed;
	size_t error_at, error_len; /* in errors */
};

/* Stands for the rule's number where that cannot be read either. */
#define TRANSACTION_NO_RULE UINT16_MAX

/* One message and rule. */
struct transaction_target {
	size_t write;
	const struct mirror_rule *rule; /* NULL: no longer known */
	uint16_t number; /* of the rule */
};

struct transaction {
	struct buf commands;
	size_t command_count; /* between MULTI and EXEC */
	size_t session_count; /* commands of session records */
	size_t trim_first, trim_count;
	struct journal_record *records;
	size_t record_count, record_room;
	bool past; /* the pipeline's: its records were confirmed once already */
	bool leased; /* an index member was left out since the lease covers it */
	struct transaction_write *writes;
	size_t write_count, write_room;
	size_t doomed_count; /* of the writes */
	struct transaction_target *targets; /* in order of their records */
	size_t target_count, target_room;
	uint16_t *damaged; /* messages that can no longer be read: their rules' numbers */
	size_t damaged_count, damaged_room;
	struct entry_id boot_before; /* the run its first record belongs to */
	struct key_set keys, members;
	struct buf errors;
	size_t failed_count; /* writes */
	/* working memory */
	struct buf scratch, key, fields, json;
};

struct transaction_names {
	struct key_space keys;
	const char *node;
	struct rule_cache *rules;
	size_t bytes_max; /* of a transaction, unless it is a single record */
	size_t records_max; /* likewise */
	size_t bulk_max, request_max; /* what Redis takes: bytes of a value, of a transaction */
	const char *journal; /* names the journal in Redis with the mark; NULL: it is named there */
	const struct index_lease *lease; /* what the index has already; NULL: every member is written, and not ahead of its time */
};

enum status transaction_init(struct transaction *t) MUST_CHECK;
void transaction_fini(struct transaction *t);
void transaction_clear(struct transaction *t);
/* `boot`: of the run the record belongs to. ST_FULL: send what is there first. ST_NOMEM: the transaction is spoilt,
 * clear it. The record's body must stay where it is until the transaction is cleared. */
enum status transaction_add(struct transaction *t, const struct transaction_names *names,
	const struct journal_record *record, struct entry_id boot) MUST_CHECK;
/* Adds what comes behind the last record. ST_NOMEM as above. */
enum status transaction_seal(struct transaction *t, const struct transaction_names *names) MUST_CHECK;
/* Replies that the sealed commands bring: MULTI, the commands, EXEC, WATCH. */
size_t transaction_replies(const struct transaction *t);

struct slice transaction_key(const struct transaction *t, const struct transaction_write *w);
/* Notes that a write was refused by itself. */
void transaction_fail(struct transaction *t, struct transaction_write *w, struct slice error);
struct slice transaction_error(const struct transaction *t, const struct transaction_write *w);
/* Forgets all errors but those of what was not sent. */
void transaction_reset_errors(struct transaction *t);
/* The message of a record in it. */
enum status transaction_message(const struct journal_record *record, struct message *m) MUST_CHECK;

/* Arguments of a command: one of our keys without a name behind it; the mark of the messages in Redis, or (dead) that
 * of the dead letters. */
void resp_arg_key(struct buf *out, struct buf *scratch, struct key_space keys, enum key_kind kind);
void resp_arg_mark(struct buf *out, struct buf *scratch, struct key_space keys, const char *node, bool dead);
void resp_arg_journal(struct buf *out, struct buf *scratch, struct key_space keys, const char *node);
/* WATCH of both marks. */
void append_watch(struct buf *out, struct buf *scratch, struct key_space keys, const char *node);

#endif
