/* MQTT 5 user properties in wire form. Pure; any thread. Never reads beyond the bytes it was given. */
#include "config/message.h"

/* MQTT's numbers are big-endian, unlike those of our own packed forms. */
static char *put_string(char *to, const char *data, size_t len)
{
	*to++ = (char)(len >> 8);
	*to++ = (char)(len & 0xff);
	if (len > 0) memcpy(to, data, len);
	return to + len;
}

void user_property_append(struct buf *out, struct slice name, struct slice value)
{
	size_t name_len = name.len < MESSAGE_TEXT_MAX ? name.len : MESSAGE_TEXT_MAX;
	size_t value_len = value.len < MESSAGE_TEXT_MAX ? value.len : MESSAGE_TEXT_MAX;
	char *to = buf_reserve(out, name_len + value_len + 4);
	if (!to) return;
	to = put_string(to, name.data, name_len);
	put_string(to, value.data, value_len);
	out->len += name_len + value_len + 4;
}

static bool take_string(struct slice *rest, struct slice *text)
{
	if (rest->len < 2) return false;
	const unsigned char *p = (const unsigned char *)rest->data;
	size_t len = (size_t)p[0] << 8 | p[1];
	if (len > rest->len - 2) return false;
	*text = slice_of(rest->data + 2, len);
	*rest = slice_of(rest->data + 2 + len, rest->len - 2 - len);
	return true;
}

bool user_property_next(struct slice *rest, struct slice *name, struct slice *value)
{
	return take_string(rest, name) && take_string(rest, value);
}
