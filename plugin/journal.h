/*
 * The journal: a fixed-size file, mapped; a ring of checksummed records with one producer (the broker thread) and one
 * consumer (the writer thread). It is the queue, the disk spill and the crash log in one, and gives every record its id.
 *
 * File, version 2, native byte order (a foreign order is refused by the magic number); layout in plugin/journal_format.h,
 * and how to change it. A file of version 1 is brought to version 2 when it is opened.
 *   64 KiB         header: magic, version, node, ring size, maker, twice; slots with checksums for the released position
 *                  (two, written in turn so that one is whole after a crash), the boot id (likewise), the last closing
 *   256 KiB        rule table: up to 1024 texts by number; never changed while records refer to it
 *   ring           mapped twice in a row, so that a record never wraps; positions count bytes since the file was made
 * A record: struct {u64 checksum (XXH3 over all behind it), u64 position, u64 ms, u64 seq, u32 length, u32 previous,
 * u32 type, u32 tag of the file}, the body, padding to 8 bytes. Because a record carries its own position, stale bytes of
 * an earlier round are never taken for a record, and recovery finds the next intact one behind a damaged one. The tag is
 * random, so that no payload can pass for a record. A record with its header takes at most half the ring, and 1 GiB.
 *
 * Crash: pages of a killed process stay with the kernel. open() finds the end by walking from the released position,
 * drops a torn last record, skips damaged ones (counted), and never gives out an id at or below one seen before.
 */
#ifndef MQR_PLUGIN_JOURNAL_H
#define MQR_PLUGIN_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "config/buf.h"
#include "config/entry_id.h"
#include "config/log.h"
#include "config/slice.h"
#include "config/status.h"

struct journal;

#define JOURNAL_RULES_MAX 1024 /* texts in the rule table; numbers are below this */

enum journal_type {
	JOURNAL_MESSAGE = 1,      /* body: u16 rule count, u16 rule numbers (journal_rule), packed message */
	JOURNAL_SUBSCRIBED = 2,   /* bodies of these: plugin/session_event.h */
	JOURNAL_UNSUBSCRIBED = 3,
	JOURNAL_LIVE = 4,
	JOURNAL_GONE = 5,
	JOURNAL_BOOT = 6,
	JOURNAL_POSITION = 7, /* cursors during a long catch-up, so that a crash does not repeat all of it */
	JOURNAL_RELOADED = 8, /* the settings were read again: what follows is by other rules */
};

struct journal_record {
	uint64_t position;      /* of this record */
	uint64_t next;          /* of the one behind it */
	struct entry_id id;
	enum journal_type type;
	struct slice body;      /* borrowed from the map; valid until released */
};

#define JOURNAL_MADE_BY_MAX 32u

/* What open() found; for the log and the counters. */
struct journal_report {
	bool created;
	uint64_t records, bytes;      /* unsent, intact */
	uint64_t damaged_records;     /* places where bytes were skipped */
	uint64_t damaged_bytes;
	bool torn;                    /* the last record was incomplete: it had not been acknowledged */
	struct entry_id last;         /* newest id in file; zero when there is none */
	struct entry_id previous_boot;
	uint64_t made_ms;             /* when the file was made or given its size, since 1970; 0: unknown, it was of version 1 */
	char made_by[JOURNAL_MADE_BY_MAX]; /* version of the program that made it; empty: unknown */
	char note[320];               /* what was found or put right, in words; empty when there is nothing to say */
};

/* Opens or makes the file, `size` bytes of ring (rounded up to 64 KiB; from 1 MiB). Space is allocated at once, so that a
 * full disk is an error here and not a SIGBUS later. A size other than the file's is taken over when no unsent record is
 * lost by it (records are moved), else ST_FULL. A lock on the file keeps a second process out (ST_DENIED).
 * Reports faults in words in `why`. Blocks. */
enum status journal_open(const char *path, uint64_t size, const char *node, struct journal **out,
	struct journal_report *report, char *why, size_t why_size) MUST_CHECK;
void journal_close(struct journal *j); /* bears NULL */

/* --- producer: broker thread ------------------------------------------------------------------------------------ */
/* Number of a rule in the file's rule table, added when it is not there; the number stays good while the journal is open.
 * ST_FULL when the table is full (open() empties it when no record is unsent). Between open and the first record it also
 * makes a damaged entry whole again that was this text, so that its records are not lost. Blocks shortly (file pages only). */
enum status journal_rule(struct journal *j, const char *text, uint16_t *number) MUST_CHECK;
/* Room for a body of `len` bytes: returns where to write it, or NULL when the ring has no room. Messages leave a reserve
 * (1/16 of the ring) to session events, which may use all. No lock, no system call. */
char *journal_reserve(struct journal *j, enum journal_type type, size_t len);
/* A second reserve without a commit replaces the first.
 * Completes the record just reserved: gives it the next id, makes it visible to the consumer. *wake is true when the
 * consumer must be woken: it sleeps, or is to call journal_ahead. The body may be shorter than reserved. */
struct entry_id journal_commit(struct journal *j, size_t len, bool *wake);
/* Newest id given out, and the position behind its record. */
struct entry_id journal_head_id(const struct journal *j);
uint64_t journal_head(const struct journal *j);
/* Could a record with this body ever fit? */
bool journal_fits(const struct journal *j, size_t len);
/* Walks back from the newest record to the first one with an id above `after`, at most `max_records` and `max_bytes`.
 * ST_OK: *position is where to begin (equal to the head when there is none above). ST_TOO_LARGE: further than allowed,
 * already overwritten, or before this boot. Then journal_at(position) reads forward; producer's side only. */
enum status journal_find_after(struct journal *j, struct entry_id after, uint64_t max_records, uint64_t max_bytes,
	uint64_t *position) MUST_CHECK;
/* Record at a position that journal_find_after or a record's `next` gave; ST_END at the head. */
enum status journal_at(struct journal *j, uint64_t position, struct journal_record *r) MUST_CHECK;
/* Flushes everything appended so far to the disk (msync/fdatasync); blocks. */
enum status journal_sync(struct journal *j) MUST_CHECK;
/* For journal_full=drop-old, behind each message with a body of `len` bytes, whether it found room or not: asks the consumer
 * for room when 7/8 of what messages may use are in use, or when another one like it would not fit. Never blocks. True:
 * the consumer must be woken. What lies more than a quarter of the ring behind the head is not to be had any more from
 * journal_find_after and journal_at once room was asked for. */
bool journal_press(struct journal *j, size_t len) MUST_CHECK;

/* --- consumer: writer thread ------------------------------------------------------------------------------------ */
/* Next record at or behind *position (start: journal_released). ST_END when there is none yet. Damaged stretches found at
 * open are skipped. Does not consume. */
enum status journal_next(struct journal *j, uint64_t position, struct journal_record *r) MUST_CHECK;
uint64_t journal_released(const struct journal *j);
/* Everything before `position` is confirmed: its room may be used again. `id` is that of the last record before it. */
void journal_release(struct journal *j, uint64_t position, struct entry_id id);
/* What was released and is not yet overwritten: the first intact record at or behind `position` (of a record that was
 * released since open), copied to the end of `out`, where *r points; only a first one makes room, for itself and at least
 * `room` bytes, so that the copies stay where they are. ST_END: there is none. ST_FULL: no room in `out`. ST_NOMEM. */
enum status journal_past(struct journal *j, uint64_t position, size_t room, struct buf *out, struct journal_record *r)
	MUST_CHECK;
/* About to sleep: true when there is nothing at `position`; the producer will then set *wake with its next commit. */
bool journal_sleep(struct journal *j, uint64_t position);
/* After each wake: has the kernel make the pages ready that the producer writes next, so that it need not wait for them. Blocks
 * as long as the file system does. */
void journal_ahead(struct journal *j);
/* Has the producer asked for room? Told once for each request. */
bool journal_room_wanted(struct journal *j) MUST_CHECK;
/* Releases the oldest messages at or behind position `held` until 3/4 of what messages may use are in use, or what the
 * producer asked for is done. What lies before `held` (under way to Redis) and session events stay, in order, moved up to
 * what comes next; journal_released() is where they begin now. The calls come in journal order, every `dropped` before the
 * first `moved`. False: there was nothing to release, or no memory; nothing has changed. Blocks for no more than memory. */
struct journal_drop_events {
	void (*dropped)(void *ctx, const struct journal_record *r);
	void (*moved)(void *ctx, size_t index, const struct journal_record *r); /* the index-th of those before `held` */
	void *ctx;
};
bool journal_drop(struct journal *j, uint64_t held, const struct journal_drop_events *events) MUST_CHECK;
/* Text of a rule number; NULL when there is none (damaged). Valid while the journal is open. */
const char *journal_rule_text(struct journal *j, uint16_t number);

/* --- any thread --------------------------------------------------------------------------------------------------- */
uint64_t journal_used(const struct journal *j); /* bytes between released and head */
uint64_t journal_size(const struct journal *j);
uint32_t journal_tag(const struct journal *j); /* random, made with the file; kept when its size changes */
struct entry_id journal_boot(const struct journal *j); /* id of this boot's JOURNAL_BOOT; zero before it is written */
void journal_boot_set(struct journal *j, struct entry_id boot); /* producer, once, after the boot record */

/* Tests make time and the disk fail through these. */
extern uint64_t (*journal_clock_ms)(void);
extern int (*journal_allocate)(int fd, int64_t offset, int64_t len); /* posix_fallocate */
extern int (*journal_flush)(int fd);                                 /* fdatasync */
extern int (*journal_populate)(void *at, size_t len);                /* madvise, MADV_POPULATE_WRITE */

#endif
