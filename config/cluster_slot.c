/* Slots of keys and texts for slots. Owns a table that is made once and then only read. Any thread. */
#include "config/cluster_slot.h"

#include <pthread.h>
#include <stdint.h>

#define DIGITS 36
#define TAGS_TRIED (DIGITS + DIGITS * DIGITS + DIGITS * DIGITS * DIGITS + DIGITS * DIGITS * DIGITS * DIGITS)

static uint16_t crc_table[256];
static char tags[CLUSTER_SLOTS][CLUSTER_TAG_MAX];
static pthread_once_t crc_made = PTHREAD_ONCE_INIT, tags_made = PTHREAD_ONCE_INIT;

/* CRC-16/XMODEM: polynomial 0x1021, begun with 0, nothing reflected. */
static void make_crc_table(void)
{
	for (unsigned i = 0; i < 256; i++) {
		unsigned crc = i << 8;
		for (int bit = 0; bit < 8; bit++) crc = crc & 0x8000 ? crc << 1 ^ 0x1021 : crc << 1;
		crc_table[i] = (uint16_t)crc;
	}
}

static unsigned slot_of(struct slice part)
{
	unsigned crc = 0;
	(void)pthread_once(&crc_made, make_crc_table); /* fails only for a control that is none */
	for (size_t i = 0; i < part.len; i++) {
		crc = (crc << 8 & 0xffff) ^ crc_table[crc >> 8 ^ (unsigned char)part.data[i]];
	}
	return crc % CLUSTER_SLOTS;
}

struct slice cluster_hash_part(struct slice key)
{
	const char *open = key.len > 0 ? memchr(key.data, '{', key.len) : NULL;
	if (!open) return key;
	size_t rest = (size_t)(key.data + key.len - open - 1);
	const char *close = memchr(open + 1, '}', rest);
	if (!close || close == open + 1) return key;
	return slice_of(open + 1, (size_t)(close - open - 1));
}

unsigned cluster_slot(struct slice key)
{
	return slot_of(cluster_hash_part(key));
}

/* The n-th text, from 0, shorter ones first. Returns its length. */
static size_t tag_text(unsigned n, char out[CLUSTER_TAG_MAX])
{
	size_t len = 1;
	for (unsigned of_len = DIGITS; n >= of_len; of_len *= DIGITS, len++) n -= of_len;
	memset(out, 0, CLUSTER_TAG_MAX);
	for (size_t i = len; i > 0; n /= DIGITS, i--) out[i - 1] = "0123456789abcdefghijklmnopqrstuvwxyz"[n % DIGITS];
	return len;
}

static void make_tags(void)
{
	unsigned left = CLUSTER_SLOTS;
	for (unsigned n = 0; n < TAGS_TRIED && left > 0; n++) {
		char text[CLUSTER_TAG_MAX];
		unsigned slot = slot_of(slice_of(text, tag_text(n, text)));
		if (tags[slot][0]) continue;
		memcpy(tags[slot], text, CLUSTER_TAG_MAX);
		left--;
	}
}

const char *cluster_slot_tag(unsigned slot)
{
	(void)pthread_once(&tags_made, make_tags); /* as above */
	return tags[slot % CLUSTER_SLOTS];
}
