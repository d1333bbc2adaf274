/*
 * The part of the journal's file that does not change while it lives, twice over: read, checked, brought from the format
 * before to the present one. Runs on the broker thread while the journal is being opened; blocks on the disk. Must never
 * touch one copy before the other is whole on the disk, nor take a later program's file for a damaged one of its own.
 */
#include "plugin/journal.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "plugin/journal_format.h"

static_assert(sizeof(MQR_VERSION) <= JOURNAL_MADE_BY_MAX, "the program's version fits the file");


static const uint32_t offsets[2] = {STATIC_COPY_0, STATIC_COPY_1};

union static_page {
	char bytes[STATIC_MAX];
	struct journal_static now;
	struct journal_static_1 one;
};

enum copy_kind {
	COPY_DAMAGED,
	COPY_ONE,   /* intact, version 1 */
	COPY_NOW,   /* intact, JOURNAL_VERSION */
	COPY_OTHER, /* intact, of a version that this program does not know */
};

static uint64_t seal_of(const void *bytes, size_t length)
{
	return XXH3_64bits(bytes, length - sizeof(uint64_t));
}

static bool sealed(const union static_page *page, size_t length)
{
	uint64_t seal;
	memcpy(&seal, page->bytes + length - sizeof(seal), sizeof(seal));
	return seal == seal_of(page->bytes, length);
}

static enum copy_kind kind_of(const union static_page *page)
{
	const struct journal_static *s = &page->now;
	if (s->magic != JOURNAL_MAGIC) return COPY_DAMAGED;
	if (s->version != 1 && s->version != JOURNAL_VERSION) {
		bool sane = s->length >= STATIC_MIN && s->length <= STATIC_MAX && s->length % 8 == 0;
		return sane && sealed(page, s->length) ? COPY_OTHER : COPY_DAMAGED;
	}
	size_t length = s->version == 1 ? sizeof(page->one) : sizeof(page->now);
	if (!sealed(page, length) || s->node_length > JOURNAL_NODE_MAX || s->node[s->node_length] != '\0') {
		return COPY_DAMAGED;
	}
	if (s->version == 1) return COPY_ONE;
	return s->length == sizeof(*s) && s->made_by[JOURNAL_MADE_BY_MAX - 1] == '\0' ? COPY_NOW : COPY_DAMAGED;
}

/* Who made a file of version 1, and when, is not known. */
static struct journal_static from_one(const struct journal_static_1 *one)
{
	struct journal_static s = {.version = JOURNAL_VERSION, .length = sizeof(s), .magic = one->magic, .tag = one->tag,
		.ring_size = one->ring_size, .node_length = one->node_length};
	memcpy(s.node, one->node, sizeof(s.node));
	s.checksum = seal_of(&s, sizeof(s));
	return s;
}

/* What the file says, in the present form, from the copy that says most; false when neither does. */
static bool best_of(const union static_page pages[2], const enum copy_kind kinds[2], struct journal_static *out)
{
	for (enum copy_kind wanted = COPY_NOW; wanted > COPY_DAMAGED; wanted--) {
		for (int n = 0; n < 2; n++) {
			if (kinds[n] != wanted) continue;
			*out = wanted == COPY_NOW ? pages[n].now : from_one(&pages[n].one);
			return true;
		}
	}
	return false;
}

/* The version to refuse; 0: none. Of another version only magic, version and, from 2 on, length can be relied on. */
static uint32_t foreign_version(const union static_page pages[2], const enum copy_kind kinds[2])
{
	for (int n = 0; n < 2; n++) {
		if (kinds[n] == COPY_OTHER) return pages[n].now.version;
	}
	uint32_t version = pages[0].now.version;
	bool agree = pages[0].now.magic == JOURNAL_MAGIC && pages[1].now.magic == JOURNAL_MAGIC &&
		version == pages[1].now.version;
	return agree && version != 1 && version != JOURNAL_VERSION ? version : 0;
}

static void tell(const enum copy_kind kinds[2], struct journal_report *report)
{
	if (kinds[0] == COPY_ONE || kinds[1] == COPY_ONE) {
		journal_note(report, "file of version 1 brought to version %u", JOURNAL_VERSION);
	}
	if (kinds[0] == COPY_DAMAGED || kinds[1] == COPY_DAMAGED) {
		journal_note(report, "one copy of the header was damaged and written again");
	}
}

enum status journal_static_read(int fd, const char *path, struct journal_static *out, struct journal_report *report,
	char *why, size_t why_size)
{
	union static_page pages[2];
	enum copy_kind kinds[2];
	memset(pages, 0, sizeof(pages));
	for (int n = 0; n < 2; n++) {
		if (pread(fd, &pages[n], sizeof(pages[n]), offsets[n]) < 0) {
			return journal_fail(ST_IO, why, why_size, "journal %s: cannot read: %s", path, strerror(errno));
		}
		kinds[n] = kind_of(&pages[n]);
	}
	if (pages[0].now.magic != JOURNAL_MAGIC && pages[1].now.magic != JOURNAL_MAGIC) {
		return journal_fail(ST_VERSION, why, why_size,
			"journal %s: not a journal of mosquitto-redis; give another path or move the file away", path);
	}
	uint32_t foreign = foreign_version(pages, kinds);
	if (foreign != 0) {
		return journal_fail(ST_VERSION, why, why_size, "journal %s: version %u, this program reads versions 1 to %u; let "
			"the program that wrote it send what is in it, then move the file away", path, foreign, JOURNAL_VERSION);
	}
	bool found = best_of(pages, kinds, out);
	if (!found || out->ring_size < RING_MIN || out->ring_size > RING_MAX || out->ring_size % JOURNAL_GRANULE != 0) {
		return journal_fail(ST_CORRUPT, why, why_size,
			"journal %s: both copies of its header are damaged; restore the file or move it away (what is unsent in it "
			"is lost)", path);
	}
	tell(kinds, report);
	return ST_OK;
}

enum status journal_static_settle(const struct journal_map *m)
{
	union static_page pages[2];
	enum copy_kind kinds[2];
	struct journal_static wanted;
	for (int n = 0; n < 2; n++) {
		memcpy(&pages[n], m->base + offsets[n], sizeof(pages[n]));
		kinds[n] = kind_of(&pages[n]);
	}
	if (!best_of(pages, kinds, &wanted)) return ST_CORRUPT;
	/* A damaged copy first: until it is on the disk the other is all there is. */
	int first = kinds[0] == COPY_DAMAGED ? 0 : 1;
	for (int turn = 0; turn < 2; turn++) {
		int n = turn == 0 ? first : 1 - first;
		if (memcmp(&pages[n], &wanted, sizeof(wanted)) == 0) continue;
		memcpy(m->base + offsets[n], &wanted, sizeof(wanted));
		if (journal_flush(m->fd) != 0) return ST_IO;
	}
	return ST_OK;
}

void journal_static_write(const struct journal_map *m, const char *node)
{
	struct journal_static s = {.magic = JOURNAL_MAGIC, .version = JOURNAL_VERSION, .tag = m->tag, .ring_size = m->size,
		.length = sizeof(s), .made_ms = journal_clock_ms(), .made_by = MQR_VERSION};
	s.node_length = (uint32_t)strlen(node);
	memcpy(s.node, node, s.node_length);
	s.checksum = seal_of(&s, sizeof(s));
	for (int n = 0; n < 2; n++) memcpy(m->base + offsets[n], &s, sizeof(s));
}
