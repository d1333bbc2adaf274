/*
 * libFuzzer entry: a journal's file with damage. The input is a list of {u24 offset, u8 length, bytes} that are written
 * over a good file of a few records. When its first byte is 0xff, it is behind that a list of {u8 place, u16 offset, u8 length,
 * bytes} that are written over records, slots, header or rules, and all of these are given the right checksum again: so what
 * is read behind a checksum is tried, too. What opens must be walkable to its end with ids that only go up, take another
 * record, and be understood by who reads the journal for Redis.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "plugin/journal.h"
#include "plugin/journal_format.h"
#include "plugin/session_event.h"
#include "plugin/transaction.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SIZE (1024u * 1024)
#define RECORDS 40
#define RECORD_WALK_MAX 100000 /* more than a ring of this size can hold */
#define SEALED 0xff
#define PLACES_MAX 64
#define DAMAGE_MAX 255 /* bytes at once, also behind the end */

/* Of the file, in this order: records by their position, slots, both copies of the header, the rule's entry and text. */
static struct {
	size_t at, size;
} places[PLACES_MAX];
static size_t place_count, record_count;

static char path[64];
static char *image, *file; /* as it was made; with damage */
static size_t image_len;

static void must(bool condition)
{
	if (!condition) abort();
}

static void remove_file(void)
{
	(void)unlink(path);
}

static uint64_t clock_ms(void)
{
	return UINT64_C(1700000000000);
}

/* No more than the journals here need, whatever a file says. */
static int allocate(int fd, int64_t offset, int64_t len)
{
	return len > 4 * (int64_t)SIZE ? ENOSPC : posix_fallocate(fd, offset, len);
}

static void append(struct journal *j, enum journal_type type, const void *body, size_t len)
{
	bool wake;
	char *out = journal_reserve(j, type, len);

	if (!out) return; /* full, as far as the file says */
	if (body) memcpy(out, body, len);
	else memset(out, 'x', len);
	(void)journal_commit(j, len, &wake);
}

static void place(size_t at, size_t size)
{
	must(place_count < PLACES_MAX);
	places[place_count].at = at;
	places[place_count++].size = size;
}

static void append_known(struct journal *j, enum journal_type type, const void *body, size_t len)
{
	place(RING_OFFSET + journal_head(j) % SIZE, sizeof(struct journal_header) + len);
	append(j, type, body, len);
	record_count = place_count;
}

static void append_message(struct journal *j, uint16_t rule, const struct message *m)
{
	struct buf body = {0};
	size_t len = message_packed_size(m);

	buf_u16(&body, 1);
	buf_u16(&body, rule);
	message_pack(m, buf_reserve(&body, len));
	append_known(j, JOURNAL_MESSAGE, body.data, body.len + len);
	buf_free(&body);
}

static void append_event(struct journal *j, enum journal_type type, const struct session_event *e)
{
	struct buf body = {0};

	session_event_pack(&body, e);
	must(!body.failed);
	append_known(j, type, body.data, body.len);
	buf_free(&body);
}

static void append_events(struct journal *j)
{
	struct session_event e = {.client = slice_str("device"), .filter = slice_str("a/#"), .qos = 1};
	struct buf cursors = {0};

	append_event(j, JOURNAL_SUBSCRIBED, &e);
	append_event(j, JOURNAL_LIVE, &(struct session_event){.client = e.client});
	session_cursor_pack(&cursors, e.filter, (struct entry_id){clock_ms(), 7});
	e = (struct session_event){.client = e.client, .cursor_count = 1, .cursors = slice_of(cursors.data, cursors.len)};
	append_event(j, JOURNAL_GONE, &e);
	append_event(j, JOURNAL_BOOT, &(struct session_event){.filter = slice_str("a/# stream a\n")});
	buf_free(&cursors);
}

/* --- damage ---------------------------------------------------------------------------------------------------- */

/* Returns the length of the file. */
static size_t damage(const uint8_t *data, size_t size)
{
	size_t end = image_len;

	while (size >= 4) {
		size_t at = ((size_t)data[0] << 16 | (size_t)data[1] << 8 | data[2]) % image_len, len = data[3];

		data += 4;
		size -= 4;
		if (len > size) len = size;
		memcpy(file + at, data, len);
		if (at + len > end) end = at + len;
		data += len;
		size -= len;
	}
	return end;
}

/* A record of any length, also over the end of the ring; one that is longer than that cannot be taken for one. */
static void seal_record(size_t at)
{
	struct journal_header *h = (struct journal_header *)(void *)(file + at);
	size_t from = at + sizeof(h->checksum), len = sizeof(*h) - sizeof(h->checksum) + h->length, first = RING_OFFSET + SIZE - from;
	XXH3_state_t state;

	if (h->length > SIZE) return;
	if (first > len) first = len;
	(void)XXH3_64bits_reset(&state);
	(void)XXH3_64bits_update(&state, file + from, first);
	(void)XXH3_64bits_update(&state, file + RING_OFFSET, len - first);
	h->checksum = XXH3_64bits_digest(&state);
}

static void seal_static(size_t at)
{
	const struct journal_static *s = (const void *)(file + at);
	size_t len = s->length;
	uint64_t checksum;

	if (len < STATIC_MIN || len > STATIC_MAX) return;
	checksum = XXH3_64bits(s, len - sizeof(checksum));
	memcpy(file + at + len - sizeof(checksum), &checksum, sizeof(checksum));
}

static void seal_rule(void)
{
	const struct journal_static *s = (const void *)file;
	struct journal_rule_entry *e = (struct journal_rule_entry *)(void *)(file + RULES_OFFSET);
	uint32_t fields[4] = {0, e->offset, e->length, s->tag};

	if (e->offset >= RULES_BYTES || e->length >= RULES_BYTES - e->offset) return;
	e->checksum = XXH3_64bits_withSeed(file + RULES_OFFSET + e->offset, e->length, XXH3_64bits(fields, sizeof(fields)));
}

/* The last record first: one that became longer has those behind it in its checksum. */
static void seal(void)
{
	static const struct journal_slot unused;
	const struct journal_static *s = (const void *)file;

	seal_static(STATIC_COPY_0);
	seal_static(STATIC_COPY_1);
	seal_rule();
	for (size_t i = record_count; i > 0; i--) seal_record(places[i - 1].at);
	for (size_t i = 0; i < SLOT_COUNT; i++) {
		struct journal_slot *slot = (struct journal_slot *)(void *)(file + places[record_count + i].at);
		if (memcmp(slot, &unused, sizeof(unused)) != 0) slot->checksum = journal_slot_checksum(slot, s->tag);
	}
}

static void damage_sealed(const uint8_t *data, size_t size)
{
	while (size >= 4) {
		size_t n = data[0] % place_count, offset = ((size_t)data[1] << 8 | data[2]) % places[n].size, len = data[3];

		data += 4;
		size -= 4;
		if (len > size) len = size;
		memcpy(file + places[n].at + offset, data, len < places[n].size - offset ? len : places[n].size - offset);
		data += len;
		size -= len;
	}
	seal();
}

static void write_damaged(const uint8_t *data, size_t size)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	size_t len = image_len;

	memcpy(file, image, image_len);
	memset(file + image_len, 0, DAMAGE_MAX);
	if (size > 0 && data[0] == SEALED) damage_sealed(data + 1, size - 1);
	else len = damage(data, size);
	must(fd >= 0 && write(fd, file, len) == (ssize_t)len);
	(void)close(fd);
}

static void make_image(void)
{
	struct message m = {.topic = slice_str("a/b"), .payload = slice_str("21.5"), .client = slice_str("sensor"), .qos = 1,
		.payload_format = -1};
	struct journal_report report;
	struct journal *j = NULL;
	char why[512];
	uint16_t rule;

	journal_clock_ms = clock_ms;
	journal_allocate = allocate;
	(void)snprintf(path, sizeof(path), "%s/fuzz-journal-%d", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", (int)getpid());
	must(journal_open(path, SIZE, "node", &j, &report, why, sizeof(why)) == ST_OK);
	must(journal_rule(j, "a/# stream a", &rule) == ST_OK);
	for (size_t i = 0; i < RECORDS; i++) append_known(j, JOURNAL_MESSAGE, NULL, 20 + i * 13);
	append_message(j, rule, &m);
	append_events(j);
	journal_boot_set(j, journal_head_id(j)); /* of BOOT, the last of them */
	journal_close(j);
	for (unsigned i = 0; i < SLOT_COUNT; i++) place(SLOT_OFFSET + i * SLOT_STRIDE, sizeof(struct journal_slot));
	place(STATIC_COPY_0, sizeof(struct journal_static));
	place(STATIC_COPY_1, sizeof(struct journal_static));
	place(RULES_OFFSET, sizeof(struct journal_rule_entry));
	place(RULES_OFFSET + RULES_TEXT_OFFSET, 16);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	must(fd >= 0);
	image_len = (size_t)lseek(fd, 0, SEEK_END);
	image = malloc(image_len);
	file = malloc(image_len + DAMAGE_MAX);
	must(image && file && pread(fd, image, image_len, 0) == (ssize_t)image_len);
	(void)close(fd);
	(void)atexit(remove_file);
	memcpy(file, image, image_len);
	seal();
	must(memcmp(file, image, image_len) == 0); /* the seals are right */
}

/* --- reading --------------------------------------------------------------------------------------------------- */

static const char *text_of(void *j, uint16_t number)
{
	return journal_rule_text(j, number);
}

/* As the writer does, who sends none of it here. */
static void understand(struct transaction *t, struct rule_cache *rules, const struct journal_record *r)
{
	struct transaction_names names = {.keys = {.prefix = "mqtt"}, .node = "node", .rules = rules,
		.bytes_max = TRANSACTION_BYTES_MAX, .records_max = TRANSACTION_RECORDS_MAX, .bulk_max = TRANSACTION_BULK_MAX,
		.request_max = TRANSACTION_REQUEST_MAX};
	enum status st = transaction_add(t, &names, r, ENTRY_ID_ZERO);

	if (st == ST_FULL) {
		must(transaction_seal(t, &names) == ST_OK);
		transaction_clear(t);
		st = transaction_add(t, &names, r, ENTRY_ID_ZERO);
	}
	must(st == ST_OK);
}

static void walk(struct journal *j)
{
	struct journal_record r = {.next = journal_released(j)};
	struct entry_id last = ENTRY_ID_ZERO;
	struct rule_cache *rules = NULL;
	struct transaction t;
	size_t count = 0;

	must(transaction_init(&t) == ST_OK && rule_cache_new(text_of, j, &rules) == ST_OK);
	while (journal_next(j, r.next, &r) == ST_OK) {
		must(entry_id_compare(r.id, last) > 0);
		must(++count < RECORD_WALK_MAX);
		for (size_t i = 0; i < r.body.len; i++) must(r.body.data[i] == r.body.data[i]); /* readable */
		understand(&t, rules, &r);
		last = r.id;
	}
	transaction_fini(&t);
	rule_cache_free(rules);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct journal_report report;
	struct journal *j = NULL;
	char why[512] = "";

	if (!image) make_image();
	write_damaged(data, size);
	if (journal_open(path, SIZE, "node", &j, &report, why, sizeof(why)) != ST_OK) {
		must(why[0] != '\0');
		return 0;
	}
	walk(j);
	append(j, JOURNAL_MESSAGE, NULL, 100);
	walk(j);
	journal_close(j);
	return 0;
}
