/*
 * libFuzzer entry: control commands, session events, index members, log texts; the first byte chooses. What a decoder
 * accepts must be steppable to its counts.
 */
#include <stdint.h>
#include <stdlib.h>

#include "config/control.h"
#include "config/keys.h"
#include "config/session_fields.h"
#include "config/log.h"
#include "plugin/session_event.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
	if (!condition) abort();
}

static void control(struct slice input)
{
	struct control_command c;
	struct slice filter;
	struct message m;
	if (control_decode(input, &c) != ST_OK) return;
	for (unsigned i = 0; i < c.filter_count; i++)
		must(control_filter_next(&c.filters, &filter));
	for (unsigned i = 0; i < c.message_count; i++)
		must(control_message_next(&c.messages, &m));
	must(c.filters.len == 0 && c.messages.len == 0);
}

static void cursors(struct slice rest, unsigned count)
{
	struct slice filter;
	struct entry_id cursor;
	for (unsigned i = 0; i < count; i++)
		must(session_cursor_next(&rest, &filter, &cursor));
	must(rest.len == 0);
}

static void left(struct slice rest, unsigned count)
{
	struct session_left l;
	for (unsigned i = 0; i < count; i++)
		must(session_left_next(&rest, &l));
	must(rest.len == 0);
}

static void session(struct slice input)
{
	struct session_event e;
	struct buf again = {0};
	if (session_event_unpack(input, &e) != ST_OK) return;
	cursors(e.cursors, e.cursor_count);
	cursors(e.behind, e.behind_count);
	left(e.left, e.left_count);
	session_event_pack(&again, &e);
	/* There is one form only; what older versions do not have is empty. */
	must(input.data[0] < again.data[0] ? again.len > input.len : again.len == input.len && again.data[0] == input.data[0]);
	must(memcmp(again.data + 1, input.data + 1, input.len - 1) == 0);
	buf_free(&again);
}

static void text(struct slice input)
{
	char kind, out[64];
	struct slice key, hint, node, filter;
	enum session_field field;
	struct given given;
	struct session_range range;
	struct slice ranges = input;
	for (size_t left = input.len; left > 0 && session_range_next(&ranges, &range); left = ranges.len) must(ranges.len < left);
	(void)session_filter_field_parse(input, &field, &node, &filter);
	(void)given_parse(input, &given);
	(void)index_member_parse(input, &kind, &key, &hint, &node);
	size_t size = input.len > 0 ? (unsigned char)input.data[0] % sizeof out + 1 : 1;
	log_printable(input.data, input.len, out, size);
	must(memchr(out, '\0', size) != NULL && utf8_valid(slice_str(out)));
	for (const unsigned char *c = (const unsigned char *)out; *c; c++) {
		must(*c >= 0x20 && *c != 0x7f);
		must(c[0] != 0xc2 || c[1] >= 0xa0); /* U+0080 to U+009F */
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0) return 0;
	struct slice rest = slice_of(data + 1, size - 1);
	if (data[0] % 3 == 0) control(rest);
	else if (data[0] % 3 == 1) session(rest);
	else text(rest);
	return 0;
}
