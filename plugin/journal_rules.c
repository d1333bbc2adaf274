/*
 * The rule table of the journal file: texts of mirror rules by number, so that a record found after a restart still says
 * where it belongs. The broker thread adds, the writer thread looks up; a number is only looked up after a record that
 * holds it was seen, which orders the two. Entries never change once the journal is in use; the table is emptied at
 * open, when no unsent record refers to it. Every entry stands alone, so damage to one costs no other, and a damaged one
 * is made whole when the settings name a rule that it can be proven to have been.
 */
#include "plugin/journal.h"

#include <string.h>
#include <xxhash.h>

#include "plugin/journal_format.h"

static struct journal_rule_entry *entry_at(const struct journal *j, uint32_t number)
{
	return (struct journal_rule_entry *)(void *)(j->map.base + RULES_OFFSET) + number;
}

static uint64_t entry_checksum(const struct journal *j, uint32_t number, const struct journal_rule_entry *e,
	const char *text)
{
	uint32_t fields[4] = {number, e->offset, e->length, j->map.tag};
	return XXH3_64bits_withSeed(text, e->length, XXH3_64bits(fields, sizeof(fields)));
}

/* The text of an entry when it is intact. */
static const char *entry_text(const struct journal *j, uint32_t number)
{
	const struct journal_rule_entry *e = entry_at(j, number);
	if (e->length == 0 || e->offset < RULES_TEXT_OFFSET || e->offset >= RULES_BYTES) return NULL;
	if (e->length >= RULES_BYTES - e->offset) return NULL;
	const char *text = j->map.base + RULES_OFFSET + e->offset;
	if (text[e->length] != '\0' || memchr(text, '\0', e->length)) return NULL;
	return e->checksum == entry_checksum(j, number, e, text) ? text : NULL;
}

static bool entry_used(const struct journal *j, uint32_t number)
{
	static const struct journal_rule_entry unused;
	return memcmp(entry_at(j, number), &unused, sizeof(unused)) != 0;
}

/* Where the text of an entry was put, judging by the one before it; 0: not known. */
static uint32_t follows(const struct journal *j, uint32_t number)
{
	if (number == 0) return RULES_TEXT_OFFSET;
	const struct journal_rule_entry *before = entry_at(j, number - 1);
	return j->rule_texts[number - 1] ? before->offset + before->length + 1 : 0;
}

unsigned journal_rules_load(struct journal *j, bool empty)
{
	unsigned damaged = 0;
	uint32_t count = 0;
	j->rule_text_end = RULES_TEXT_OFFSET;
	if (empty) memset(entry_at(j, 0), 0, RULES_TEXT_OFFSET);
	for (uint32_t n = 0; n < RULE_ENTRIES; n++) {
		if (!entry_used(j, n)) continue;
		count = n + 1; /* a damaged number is not given out again: a record may hold it */
		j->rule_texts[n] = entry_text(j, n);
		const struct journal_rule_entry *e = entry_at(j, n);
		if (!j->rule_texts[n]) {
			damaged++;
			/* Its text may be whole (entry_was): not to be written over. */
			if (e->offset == 0 || e->offset != follows(j, n) || e->length >= RULES_BYTES - e->offset) continue;
		}
		uint32_t end = e->offset + e->length + 1;
		if (end > j->rule_text_end) j->rule_text_end = end;
	}
	atomic_store_explicit(&j->rule_count, count, memory_order_release);
	return damaged;
}

/* Was the damaged entry this text? Either its checksum says so, with its text, its length or its offset damaged, or only
 * the checksum is, and the text lies where it must. */
static bool entry_was(const struct journal *j, uint32_t number, const char *text, uint32_t length)
{
	const struct journal_rule_entry *e = entry_at(j, number);
	struct journal_rule_entry was = {.offset = e->offset, .length = length};
	if (e->checksum == entry_checksum(j, number, &was, text)) return true;
	was.offset = follows(j, number);
	if (was.offset == 0) return false;
	if (e->checksum == entry_checksum(j, number, &was, text)) return true;
	return e->offset == was.offset && e->length == length && length < RULES_BYTES - was.offset &&
		memcmp(j->map.base + RULES_OFFSET + was.offset, text, (size_t)length + 1) == 0;
}

/* The text goes behind all others, since its old place may be another's by now. */
static void entry_put(struct journal *j, uint32_t number, const char *text, uint32_t length)
{
	char *place = j->map.base + RULES_OFFSET + j->rule_text_end;
	memcpy(place, text, (size_t)length + 1);
	struct journal_rule_entry e = {.offset = j->rule_text_end, .length = length};
	e.checksum = entry_checksum(j, number, &e, place);
	*entry_at(j, number) = e;
	j->rule_texts[number] = place;
	j->rule_text_end += length + 1;
}

/* Number of the damaged entry that was this text; `count` when there is none, or when the consumer may be at work. */
static uint32_t heal(struct journal *j, const char *text, uint32_t length, uint32_t count)
{
	if (j->next_position != j->first_position) return count;
	for (uint32_t n = 0; n < count; n++) {
		if (j->rule_texts[n] || !entry_used(j, n) || !entry_was(j, n, text, length)) continue;
		entry_put(j, n, text, length);
		return n;
	}
	return count;
}

enum status journal_rule(struct journal *j, const char *text, uint16_t *number)
{
	uint32_t count = atomic_load_explicit(&j->rule_count, memory_order_relaxed);
	for (uint32_t n = 0; n < count; n++) {
		if (!j->rule_texts[n] || strcmp(j->rule_texts[n], text) != 0) continue;
		*number = (uint16_t)n;
		return ST_OK;
	}
	size_t length = strlen(text);
	if (length == 0) return ST_INVALID;
	if (length >= RULES_BYTES - j->rule_text_end) return ST_FULL;
	uint32_t healed = heal(j, text, (uint32_t)length, count);
	if (healed < count) {
		*number = (uint16_t)healed;
		return ST_OK;
	}
	if (count == RULE_ENTRIES) return ST_FULL;
	entry_put(j, count, text, (uint32_t)length);
	atomic_store_explicit(&j->rule_count, count + 1, memory_order_release);
	*number = (uint16_t)count;
	return ST_OK;
}

const char *journal_rule_text(struct journal *j, uint16_t number)
{
	if (number >= atomic_load_explicit(&j->rule_count, memory_order_acquire)) return NULL;
	return j->rule_texts[number];
}
