/*
 * Private to plugin/journal*.c: the file's layout, byte by byte, and the journal in memory.
 *
 *   0        struct journal_static, first copy: a page that is never rewritten while the journal is intact
 *   4096     slots, SLOT_STRIDE apart: who released what, boots, last closing
 *   8192     struct journal_static, second copy
 *   64 KiB   rule directory (RULE_ENTRIES of struct journal_rule_entry), then the rules' texts, each with a NUL
 *   320 KiB  ring (a multiple of 64 KiB, whatever the page size of the machine)
 *
 * To change the format (any struct that lies in the file, an offset, the meaning of a byte):
 *   1. Raise JOURNAL_VERSION by one. Never reuse a number, not even one that was never released.
 *   2. Keep the present struct beside the new one, with the old version in its name and its static_assert on the size
 *      (as struct journal_static_1). It is frozen from then on. Readers older than the one before may go.
 *   3. Leave `magic`, `version` and `length` of struct journal_static where they are and its checksum in its last 8 bytes,
 *      so that every program can tell an intact header of an unknown version from a damaged one of its own.
 *   4. Teach kind_of() and best_of() of journal_static.c the version before. What it did not record is "unknown" in the
 *      new struct, never invented.
 *   5. Upgrade in place, in journal_static_settle(), after every check that may refuse the file. At each step a crash must
 *      leave a file that opens: write what is new beside what is old, flush, and raise the version of the header copies
 *      last, one at a time, each flushed before the other is touched. When slots, rules or records change their form, do
 *      not convert them in place: copy what is unsent to a new file as journal_resize() does. Ids are kept in any case.
 *   6. Bodies have a version byte of their own: the packed message in its header (config/message_pack.c), the session
 *      event in front (plugin/session_event.c). A change of one of them raises that byte, keeps the decoder for the one
 *      before, and leaves JOURNAL_VERSION alone: a file then holds bodies of both until the older ones are released.
 *   7. Freeze the layout as it was in tests/unit/journal_v<old>.h, apart from this header, and test with files made from
 *      it: unsent records, rules and slots survive; a crash between any two steps; one damaged copy; version + 1 refused.
 *   8. Update the comment on top of plugin/journal.h.
 */
#ifndef MQR_PLUGIN_JOURNAL_FORMAT_H
#define MQR_PLUGIN_JOURNAL_FORMAT_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/entry_id.h"
#include "config/status.h"
#include "plugin/journal.h"

#define JOURNAL_MAGIC 0x314c4e524a52514dULL /* "MQRJRNL1" on a little-endian machine */
#define JOURNAL_VERSION 2u
#define JOURNAL_GRANULE (64u * 1024u)
#define JOURNAL_NODE_MAX 255u

#define STATIC_COPY_0 0u
#define STATIC_COPY_1 8192u
#define STATIC_MIN 40u /* bytes of a struct journal_static, whatever its version from 2 on */
#define STATIC_MAX 4096u
#define SLOT_OFFSET 4096u
#define SLOT_STRIDE 512u
#define RULES_OFFSET JOURNAL_GRANULE
#define RULES_BYTES (256u * 1024u)
#define RULE_ENTRIES ((uint32_t)JOURNAL_RULES_MAX)
#define RING_OFFSET (RULES_OFFSET + RULES_BYTES)
#define RING_MIN (1024u * 1024u)
#define RING_MAX (UINT64_C(1) << 44)
#define RECORD_MAX (UINT64_C(1) << 30)
#define POSITION_MAX (UINT64_C(1) << 56) /* out of reach; keeps most payload bytes from looking like a position */

/* What does not change while the file lives. */
struct journal_static {
	uint64_t magic;
	uint32_t version;
	uint32_t tag; /* random; in every record, so that no payload can pass for one */
	uint64_t ring_size;
	uint32_t node_length;
	uint32_t length; /* of this struct; the checksum is its last 8 bytes, in every version from 2 on */
	char node[JOURNAL_NODE_MAX + 1];
	uint64_t made_ms; /* since 1970; 0: unknown */
	char made_by[JOURNAL_MADE_BY_MAX]; /* version of the program, with a NUL; empty: unknown */
	uint64_t checksum; /* over all before */
};
static_assert(sizeof(struct journal_static) == 336, "layout of the file");
static_assert(offsetof(struct journal_static, checksum) == 328, "the checksum is last");

/* Version 1, frozen. Everything else in the file was as it is now. */
struct journal_static_1 {
	uint64_t magic;
	uint32_t version;
	uint32_t tag;
	uint64_t ring_size;
	uint32_t node_length;
	uint32_t reserved;
	char node[256];
	uint64_t checksum;
};
static_assert(sizeof(struct journal_static_1) == 296, "layout of the file");
static_assert(offsetof(struct journal_static_1, checksum) == 288, "the checksum is last");

enum journal_slot_number { SLOT_RELEASED_0, SLOT_RELEASED_1, SLOT_BOOT_0, SLOT_BOOT_1, SLOT_CLOSED, SLOT_COUNT };

struct journal_slot {
	uint64_t checksum; /* over the rest, changed by the tag */
	uint64_t position; /* RELEASED, CLOSED: of the ring; BOOT: 0 */
	uint64_t ms, seq;
	uint64_t clean; /* CLOSED: 1 when nothing was appended since */
};
static_assert(sizeof(struct journal_slot) == 40, "layout of the file");
static_assert(SLOT_OFFSET + SLOT_COUNT * SLOT_STRIDE <= STATIC_COPY_1, "slots have a page of their own");

struct journal_rule_entry {
	uint32_t offset; /* from RULES_OFFSET */
	uint32_t length; /* without the NUL; 0: no entry */
	uint64_t checksum; /* over number, offset, length and text */
};
static_assert(sizeof(struct journal_rule_entry) == 16, "layout of the file");
#define RULES_TEXT_OFFSET (RULE_ENTRIES * (uint32_t)sizeof(struct journal_rule_entry))

/* In front of every body; records begin at multiples of 8. */
struct journal_header {
	uint64_t checksum; /* XXH3 over the rest and the body, not the padding */
	uint64_t position; /* its own */
	uint64_t ms, seq;
	uint32_t length;   /* of the body */
	uint32_t previous; /* bytes from the record before to this one; 0 for the first of a boot */
	uint32_t type;
	uint32_t tag;
};
static_assert(sizeof(struct journal_header) == 48, "layout of the file");
static_assert(offsetof(struct journal_header, position) == 8, "the checksum covers what lies behind it in one piece");

/* The mapped file. */
struct journal_map {
	int fd;
	char *base; /* header and rules: RING_OFFSET bytes */
	char *ring; /* the ring twice in a row */
	uint64_t size;
	uint32_t tag;
};

/* Bytes that hold no record; the consumer jumps from `from` to `to`. */
struct journal_skip {
	uint64_t from, to;
};

/* What recovery knows of a file. */
struct journal_found {
	uint64_t released, head;
	struct entry_id released_id, last, boot;
	struct journal_skip *skips; /* owned, in order */
	size_t skip_count;
	uint64_t records, bytes; /* intact and not released */
};

#define CACHE_LINE 64
#define AHEAD_BYTES (1024u * 1024u) /* of the ring, made ready before the producer is there */
#define AHEAD_GRAIN JOURNAL_GRANULE /* made ready at once; no ring ends within one */
#define AHEAD_STEPS 4u /* the producer asks so often while it writes AHEAD_BYTES */
#define AHEAD_NEVER UINT64_MAX /* the kernel cannot */

struct journal {
	/* Constant after open. */
	struct journal_map map;
	uint64_t message_room; /* bytes of the ring that messages may use */
	size_t body_max;
	uint64_t first_position; /* where this boot began */
	struct entry_id first_last; /* newest id before it */
	struct journal_skip *skips;
	size_t skip_count;
	uint64_t skip_end; /* behind the last skip */
	bool hash_wide;

	/* Producer. */
	_Alignas(CACHE_LINE) uint64_t next_position;
	uint64_t next_offset; /* the same within the ring */
	uint64_t released_seen;
	struct entry_id last;
	uint64_t touched; /* end of what was ever written, also of what was reserved and not committed */
	size_t reserved_len;
	uint32_t reserved_type;
	uint32_t previous;
	bool reserved;
	uint32_t rule_text_end;
	uint64_t floor; /* the consumer may move records below it */
	uint64_t ahead_ask; /* at this position the producer looks whether enough is made ready */

	/* Written by the producer, read by the consumer. */
	_Alignas(CACHE_LINE) _Atomic uint64_t head;
	_Atomic uint64_t boot_ms, boot_seq;
	_Atomic uint32_t rule_count;
	const char *rule_texts[RULE_ENTRIES]; /* into the map; NULL: damaged */

	/* Written by the consumer. */
	_Alignas(CACHE_LINE) _Atomic uint64_t released;
	unsigned slot_turn;
	uint64_t packed_end; /* from released to here, records follow each other without a gap */
	_Atomic uint64_t ahead_end; /* what lies below is ready, or was; AHEAD_NEVER */

	/* Written by both, seldom. */
	_Alignas(CACHE_LINE) atomic_bool sleeping;
	atomic_bool drop_wanted;
	_Atomic uint64_t drop_limit, drop_target; /* positions below; bytes in use */
};

static inline uint64_t record_total(uint64_t body_length)
{
	return (sizeof(struct journal_header) + body_length + 7) & ~UINT64_C(7);
}

static inline char *ring_at(const struct journal_map *m, uint64_t position)
{
	return m->ring + position % m->size; /* NOLINT(clang-analyzer-core.DivideZero): what is mapped has a size */
}

static inline struct journal_header *header_at(const struct journal_map *m, uint64_t position)
{
	return (struct journal_header *)(void *)ring_at(m, position);
}

static inline struct entry_id header_id(const struct journal_header *h)
{
	return (struct entry_id){h->ms, h->seq};
}

static inline struct journal_slot *slot_at(const struct journal_map *m, unsigned number)
{
	return (struct journal_slot *)(void *)(m->base + SLOT_OFFSET + number * SLOT_STRIDE);
}

static inline struct entry_id slot_id(const struct journal_slot *s)
{
	return (struct entry_id){s->ms, s->seq};
}

static inline struct entry_id id_larger(struct entry_id a, struct entry_id b)
{
	return entry_id_compare(a, b) < 0 ? b : a;
}

/* journal.c: over all of the record behind the checksum field. */
uint64_t journal_record_checksum(const struct journal_header *h);
uint64_t journal_slot_checksum(const struct journal_slot *s, uint32_t tag);
void journal_slot_write(const struct journal_map *m, unsigned number, uint64_t position, struct entry_id id,
	uint64_t clean);

/* journal_ahead.c: for the producer; true: the consumer is to call journal_ahead. */
bool journal_ahead_ask(struct journal *j);

/* journal_hash.c: may only be called when usable. */
bool journal_hash_usable(void);
uint64_t journal_hash_wide(const void *data, size_t len);

/* journal_map.c */
bool journal_map_file(int fd, uint64_t size, struct journal_map *m); /* errno on failure */
void journal_unmap(struct journal_map *m); /* closes fd too; bears a second call */
/* Makes the content of an empty file: space, maps, slots that say "empty", header. tag 0: a new one. On failure fd stays
 * open and nothing is mapped. */
enum status journal_make(int fd, const char *path, uint64_t size, uint32_t tag, const char *node, struct journal_map *m,
	char *why, size_t why_size) MUST_CHECK;
enum status journal_sync_folder(const char *path) MUST_CHECK;

/* journal_static.c */
/* What a file says of itself, brought to the present form in *out; nothing is written yet. */
enum status journal_static_read(int fd, const char *path, struct journal_static *out, struct journal_report *report,
	char *why, size_t why_size) MUST_CHECK;
/* Makes both copies whole and of the present version, one after the other. A crash anywhere leaves one that serves. */
enum status journal_static_settle(const struct journal_map *m) MUST_CHECK;
/* Of a new file, which nobody relies on yet: both copies, not flushed. */
void journal_static_write(const struct journal_map *m, const char *node);

/* journal_file.c */
enum status journal_fail(enum status st, char *why, size_t why_size, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
void journal_note(struct journal_report *report, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* journal_recovery.c */
bool journal_intact(const struct journal_map *m, uint64_t position, uint64_t limit);
bool journal_slot_intact(const struct journal_map *m, unsigned number);
/* Fills *found (skips owned by the caller) and the report. */
enum status journal_recover(const struct journal_map *m, struct journal_found *found,
	struct journal_report *report) MUST_CHECK;

/* journal_resize.c: moves what is unsent to a file of the new size, which replaces the old one. On success *m and *found
 * are those of the new file; on failure both and the old file are unchanged. */
enum status journal_resize(const char *path, uint64_t size, const char *node, struct journal_map *m,
	struct journal_found *found, char *why, size_t why_size) MUST_CHECK;
/* Removes what a crash during a resize left. */
enum status journal_resize_clean(const char *path, char *why, size_t why_size) MUST_CHECK;

/* journal_rules.c: reads the table; empties it first when nothing refers to it. Returns the number of damaged entries. */
unsigned journal_rules_load(struct journal *j, bool empty);

#endif
