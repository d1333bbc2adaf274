/* Entry ids as text and number. Pure; any thread. Never allocates. */
#include "config/entry_id.h"

#include "config/decimal.h"

struct entry_id entry_id_next(struct entry_id id)
{
	if (id.seq < UINT64_MAX) return (struct entry_id){id.ms, id.seq + 1};
	if (id.ms < UINT64_MAX) return (struct entry_id){id.ms + 1, 0};
	return id;
}

struct entry_id entry_id_before(struct entry_id id)
{
	if (id.seq > 0) return (struct entry_id){id.ms, id.seq - 1};
	if (id.ms > 0) return (struct entry_id){id.ms - 1, UINT64_MAX};
	return id;
}

struct entry_id entry_id_back(struct entry_id id, uint64_t ms)
{
	if (ms == 0) return id;
	return (struct entry_id){id.ms > ms ? id.ms - ms : 0, 0};
}

size_t entry_id_format(struct entry_id id, char out[ENTRY_ID_TEXT_MAX])
{
	size_t len = decimal_format(id.ms, out);
	out[len++] = '-';
	len += decimal_format(id.seq, out + len);
	out[len] = '\0';
	return len;
}

enum status entry_id_parse(struct slice text, struct entry_id *out)
{
	if (text.len == 0) return ST_INVALID;
	const char *dash = memchr(text.data, '-', text.len);
	struct entry_id id = ENTRY_ID_ZERO;
	size_t ms_len = dash ? (size_t)(dash - text.data) : text.len;
	if (decimal_parse(slice_of(text.data, ms_len), &id.ms) != ST_OK) return ST_INVALID;
	if (dash && decimal_parse(slice_of(dash + 1, text.len - ms_len - 1), &id.seq) != ST_OK) return ST_INVALID;
	*out = id;
	return ST_OK;
}
