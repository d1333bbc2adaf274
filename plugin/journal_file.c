/*
 * The journal's file: opened, made, locked, mapped, checked, closed. Runs on the broker thread before the writer thread
 * starts and after it ended; blocks on the disk. Must never give up unsent records: what it cannot read it refuses and
 * says why, so that the operator decides.
 */
#include "plugin/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "plugin/journal_format.h"

enum status journal_fail(enum status st, char *why, size_t why_size, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	(void)vsnprintf(why, why_size, fmt, args);
	va_end(args);
	return st;
}

void journal_note(struct journal_report *report, const char *fmt, ...)
{
	size_t used = strlen(report->note);
	if (used > 0 && used + 2 < sizeof(report->note)) {
		memcpy(report->note + used, "; ", 3);
		used += 2;
	}
	va_list args;
	va_start(args, fmt);
	(void)vsnprintf(report->note + used, sizeof(report->note) - used, fmt, args);
	va_end(args);
}

/* A file that a crash left while it was being made, or that somebody touched: zeros, but for the slots' page. */
static bool nothing_in(int fd)
{
	static const char zeros[4096];
	char block[sizeof(zeros)];
	static_assert(SLOT_OFFSET % sizeof(zeros) == 0, "the slots' page is one block");
	ssize_t n;
	for (off_t at = 0; (n = pread(fd, block, sizeof(block), at)) > 0; at += (off_t)sizeof(block)) {
		if (at != SLOT_OFFSET && memcmp(block, zeros, (size_t)n) != 0) return false;
	}
	return n == 0;
}

/* --- opening ----------------------------------------------------------------------------------------------------- */

static enum status open_failed(int error, const char *path, char *why, size_t why_size)
{
	enum status st = error == EACCES || error == EPERM ? ST_DENIED : ST_IO;
	return journal_fail(st, why, why_size, "journal %s: cannot open: %s", path, strerror(error));
}

/* Opens and locks what `path` names now. *made: this call made the file. */
static enum status open_locked(const char *path, int *out, struct stat *info, bool *made, char *why,
	size_t why_size)
{
	for (int attempt = 0; attempt < 8; attempt++) {
		*made = false;
		int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
		if (fd < 0 && errno == ENOENT) {
			fd = open(path, O_RDWR | O_CLOEXEC | O_CREAT | O_EXCL, 0600);
			if (fd < 0 && errno == EEXIST) continue;
			*made = fd >= 0;
		}
		if (fd < 0) return open_failed(errno, path, why, why_size);
		struct stat named;
		if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
			int error = errno;
			(void)close(fd);
			if (error != EWOULDBLOCK) return open_failed(error, path, why, why_size);
			return journal_fail(ST_DENIED, why, why_size, "journal %s: in use by another broker", path);
		}
		if (fstat(fd, info) != 0 || stat(path, &named) != 0 || info->st_ino != named.st_ino ||
			info->st_dev != named.st_dev) {
			(void)close(fd); /* replaced between open and lock */
			continue;
		}
		*out = fd;
		return ST_OK;
	}
	return journal_fail(ST_IO, why, why_size, "journal %s: replaced again and again while it was being opened", path);
}

/* Maps an existing file with the size it has. */
static enum status open_existing(int fd, const char *path, const char *node, off_t length, struct journal_map *m,
	struct journal_report *report, char *why, size_t why_size)
{
	struct journal_static s;
	enum status st = journal_static_read(fd, path, &s, report, why, why_size);
	if (st != ST_OK) return st;
	if (strcmp(s.node, node) != 0) {
		return journal_fail(ST_FOREIGN, why, why_size, "journal %s: belongs to node \"%s\", the settings say node "
			"\"%s\"; set node back, or give another path", path, s.node, node);
	}
	if ((uint64_t)length < RING_OFFSET) {
		return journal_fail(ST_CORRUPT, why, why_size, "journal %s: %llu bytes long, too short for a journal; "
			"restore the file or move it away (what is unsent in it is lost)", path, (unsigned long long)length);
	}
	/* Always: a copy of the file may have holes, and a hole is a SIGBUS on a full disk. */
	int rc = journal_allocate(fd, 0, (int64_t)(RING_OFFSET + s.ring_size));
	if (rc != 0) {
		return journal_fail(ST_IO, why, why_size, "journal %s: cannot allocate %llu bytes: %s", path,
			(unsigned long long)(RING_OFFSET + s.ring_size), strerror(rc));
	}
	if (!journal_map_file(fd, s.ring_size, m)) {
		return journal_fail(ST_IO, why, why_size, "journal %s: cannot map: %s", path, strerror(errno));
	}
	m->tag = s.tag;
	return ST_OK;
}

/* Puts the file in order for this boot: the header is of the present version, nothing behind the head passes for a
 * record, both slots are whole, and the closing slot says that the journal is open. Flushed, since a later crash relies
 * on it. The header of a file that was refused is as it was. */
static enum status begin_boot(const struct journal_map *m, const struct journal_found *found)
{
	enum status st = journal_static_settle(m);
	if (st != ST_OK) return st;
	if (found->released + m->size - found->head >= sizeof(struct journal_header)) {
		memset(ring_at(m, found->head), 0, sizeof(struct journal_header));
	}
	journal_slot_write(m, SLOT_RELEASED_0, found->released, found->released_id, 0);
	journal_slot_write(m, SLOT_RELEASED_1, found->released, found->released_id, 0);
	journal_slot_write(m, SLOT_CLOSED, found->head, found->last, 0);
	return journal_flush(m->fd) == 0 ? ST_OK : ST_IO;
}

static struct journal *journal_new(const struct journal_map *m, const struct journal_found *found)
{
	struct journal *j = aligned_alloc(CACHE_LINE, sizeof(*j));
	if (!j) return NULL;
	memset(j, 0, sizeof(*j));
	j->map = *m;
	j->hash_wide = journal_hash_usable();
	j->message_room = m->size - m->size / 16;
	/* unreached: RECORD_MAX needs a file of 2 GiB. */
	uint64_t largest = m->size / 2 < RECORD_MAX ? m->size / 2 : RECORD_MAX;
	j->body_max = (size_t)(largest - sizeof(struct journal_header));
	j->first_position = j->next_position = j->touched = found->head;
	j->next_offset = found->head % m->size; /* NOLINT(clang-analyzer-core.DivideZero): what is mapped has a size */
	j->first_last = j->last = found->last;
	j->released_seen = found->released;
	j->skips = found->skips;
	j->skip_count = found->skip_count;
	j->skip_end = found->skip_count ? found->skips[found->skip_count - 1].to : 0;
	atomic_init(&j->head, found->head);
	atomic_init(&j->released, found->released);
	atomic_init(&j->ahead_end, 0);
	atomic_init(&j->boot_ms, 0);
	atomic_init(&j->boot_seq, 0);
	atomic_init(&j->rule_count, 0);
	atomic_init(&j->sleeping, false);
	atomic_init(&j->drop_wanted, false);
	atomic_init(&j->drop_limit, 0);
	atomic_init(&j->drop_target, 0);
	return j;
}

/* The file's content becomes a mapped journal of whatever size it has. Takes fd, on success and on failure. */
static enum status take_file(int fd, const char *path, const struct stat *info, uint64_t size, const char *node,
	struct journal_map *m, struct journal_report *report, char *why, size_t why_size)
{
	enum status st;
	/* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): journal_fail never says that all is well */
	if (!S_ISREG(info->st_mode)) {
		st = journal_fail(ST_INVALID, why, why_size, "journal %s: not a regular file", path);
	} else if (info->st_size == 0 || nothing_in(fd)) {
		report->created = true;
		st = journal_make(fd, path, size, 0, node, m, why, why_size);
		if (st == ST_OK && (fsync(fd) != 0 || journal_sync_folder(path) != ST_OK)) {
			st = journal_fail(ST_IO, why, why_size, "journal %s: cannot flush: %s", path, strerror(errno));
		}
	} else {
		st = open_existing(fd, path, node, info->st_size, m, report, why, why_size);
	}
	if (st != ST_OK && !m->base) (void)close(fd);
	return st;
}

enum status journal_open(const char *path, uint64_t size, const char *node, struct journal **out,
	struct journal_report *report, char *why, size_t why_size)
{
	struct journal_map m = {.fd = -1};
	struct journal_found found = {0};
	struct journal *j = NULL;
	struct stat info;
	bool made = false;
	int fd = -1;

	*report = (struct journal_report){0};
	if (size < RING_MIN || size > RING_MAX) {
		return journal_fail(ST_INVALID, why, why_size, "journal_size: from 1M to 16T");
	}
	if (strlen(node) > JOURNAL_NODE_MAX) return journal_fail(ST_INVALID, why, why_size, "node: at most 255 bytes");
	size = (size + JOURNAL_GRANULE - 1) / JOURNAL_GRANULE * JOURNAL_GRANULE;

	enum status st = open_locked(path, &fd, &info, &made, why, why_size);
	if (st != ST_OK) return st;
	st = take_file(fd, path, &info, size, node, &m, report, why, why_size);
	if (st == ST_OK) st = journal_resize_clean(path, why, why_size);
	if (st != ST_OK) goto fail;
	st = journal_recover(&m, &found, report);
	if (st != ST_OK) goto fail;
	if ((uint64_t)info.st_size < RING_OFFSET + m.size && !report->created) {
		journal_note(report, "file was %llu bytes too short",
			(unsigned long long)(RING_OFFSET + m.size - (uint64_t)info.st_size));
		if (report->damaged_records == 0) report->damaged_records = 1;
	}
	if (size != m.size) st = journal_resize(path, size, node, &m, &found, why, why_size);
	if (st != ST_OK) goto fail;
	st = begin_boot(&m, &found);
	if (st != ST_OK) {
		(void)journal_fail(st, why, why_size, "journal %s: cannot flush: %s", path, strerror(errno));
		goto fail;
	}
	j = journal_new(&m, &found);
	if (!j) {
		st = journal_fail(ST_NOMEM, why, why_size, "journal %s: out of memory", path);
		goto fail;
	}
	unsigned damaged_rules = journal_rules_load(j, found.records == 0);
	if (damaged_rules > 0) {
		journal_note(report, "%u damaged in the rule table: lost is what belongs to a rule that the settings have no more",
			damaged_rules);
	}
	const struct journal_static *made_as = (const void *)m.base;
	report->made_ms = made_as->made_ms;
	memcpy(report->made_by, made_as->made_by, sizeof(report->made_by));
	journal_ahead(j);
	*out = j;
	return ST_OK;

fail:
	if (st == ST_NOMEM && !j) (void)journal_fail(st, why, why_size, "journal %s: out of memory", path);
	journal_unmap(&m);
	free(found.skips);
	if (made) (void)unlink(path); /* nothing is in it yet */
	return st;
}

void journal_close(struct journal *j)
{
	if (!j) return;
	journal_slot_write(&j->map, SLOT_CLOSED, j->next_position, j->last, 1);
	journal_unmap(&j->map);
	free(j->skips);
	free(j);
}
