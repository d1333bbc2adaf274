/*
 * Another size in the settings: a new file beside the old one, with what is unsent, then renamed over it. Runs inside
 * open(), under the old file's lock, so nobody else is at it. A crash leaves either the old file or the new one, whole.
 */
#include "plugin/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "plugin/journal_format.h"

/* Returns owned. */
static char *new_path(const char *path)
{
	char *text = malloc(strlen(path) + sizeof(".new"));
	if (text) (void)sprintf(text, "%s.new", path);
	return text;
}

enum status journal_resize_clean(const char *path, char *why, size_t why_size)
{
	char *text = new_path(path);
	if (!text) return ST_NOMEM;
	enum status st = ST_OK;
	if (unlink(text) != 0 && errno != ENOENT) {
		st = journal_fail(ST_IO, why, why_size, "journal %s: cannot remove what an interrupted resize left: %s", text,
			strerror(errno));
	}
	free(text);
	return st;
}

/* Copies the intact unsent records, one behind the other, from `to->size` on. Returns the end. */
static uint64_t copy_records(const struct journal_map *from, const struct journal_found *found,
	const struct journal_map *to)
{
	uint64_t at = found->released, out = to->size;
	size_t skip = 0;
	while (at < found->head) {
		if (skip < found->skip_count && found->skips[skip].from == at) {
			at = found->skips[skip++].to;
			continue;
		}
		const struct journal_header *old = header_at(from, at);
		struct journal_header *h = header_at(to, out);
		memcpy(h, old, sizeof(*old) + old->length);
		h->position = out;
		h->previous = 0;
		h->checksum = journal_record_checksum(h);
		at += record_total(old->length);
		out += record_total(old->length);
	}
	return out;
}

/* Fills the new file; its slots say what the old one's said. */
static void fill(const struct journal_map *from, const struct journal_found *found, const struct journal_map *to,
	struct journal_found *now)
{
	*now = *found;
	now->skips = NULL;
	now->skip_count = 0;
	now->released = to->size;
	now->head = copy_records(from, found, to);
	journal_slot_write(to, SLOT_RELEASED_0, now->released, now->released_id, 0);
	journal_slot_write(to, SLOT_RELEASED_1, now->released, now->released_id, 0);
	journal_slot_write(to, SLOT_BOOT_0, 0, now->boot, 0);
	journal_slot_write(to, SLOT_CLOSED, now->head, now->last, 1);
}

enum status journal_resize(const char *path, uint64_t size, const char *node, struct journal_map *m,
	struct journal_found *found, char *why, size_t why_size)
{
	struct journal_map to = {.fd = -1};
	struct journal_found now;
	if (found->bytes > size) {
		return journal_fail(ST_FULL, why, why_size, "journal %s: holds %llu bytes of unsent records, more than "
			"journal_size %llu; keep journal_size at %llu until they are stored", path,
			(unsigned long long)found->bytes, (unsigned long long)size, (unsigned long long)m->size);
	}
	char *text = new_path(path);
	if (!text) return ST_NOMEM;
	enum status st = ST_OK;
	int fd = open(text, O_RDWR | O_CLOEXEC | O_CREAT | O_EXCL, 0600);
	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) != 0) {
		st = journal_fail(ST_IO, why, why_size, "journal %s: cannot make it: %s", text, strerror(errno));
	} else {
		st = journal_make(fd, text, size, m->tag, node, &to, why, why_size);
	}
	if (st != ST_OK) goto fail;

	/* The rule table goes along with the records as it is, which is why the new file has the tag of the old one. */
	/* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): what is made is mapped */
	memcpy(to.base + RULES_OFFSET, m->base + RULES_OFFSET, RULES_BYTES);
	fill(m, found, &to, &now);
	if (fsync(fd) != 0 || rename(text, path) != 0 || journal_sync_folder(path) != ST_OK) {
		st = journal_fail(ST_IO, why, why_size, "journal %s: cannot replace %s: %s", text, path, strerror(errno));
		goto fail;
	}
	free(text);
	free(found->skips);
	journal_unmap(m);
	*m = to;
	*found = now;
	return ST_OK;

fail:
	if (to.base) journal_unmap(&to);
	else if (fd >= 0) (void)close(fd);
	(void)unlink(text);
	free(text);
	return st;
}
