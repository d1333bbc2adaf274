/* Owns nothing. Must never read behind what it is given. */
#include "tests/harness/packet.h"

#include <string.h>

size_t packet_u16(char *to, size_t value)
{
	to[0] = (char)(value >> 8);
	to[1] = (char)(value & 0xff);
	return 2;
}

size_t packet_text(char *to, const char *text)
{
	size_t len = strlen(text);

	(void)packet_u16(to, len);
	memcpy(to + 2, text, len);
	return 2 + len;
}

size_t packet_head(char *to, unsigned first, size_t rest)
{
	to[0] = (char)first;
	for (int i = 0; i < 4; i++, rest >>= 7) to[1 + i] = (char)((rest & 0x7f) | (i < 3 ? 0x80 : 0));
	return PACKET_HEAD;
}

size_t packet_connect(char *to, const char *id, bool clean)
{
	size_t len = PACKET_HEAD;

	len += packet_text(to + len, "MQTT");
	to[len++] = 4;
	to[len++] = clean ? 2 : 0;
	len += packet_u16(to + len, 0);
	len += packet_text(to + len, id);
	(void)packet_head(to, 0x10, len - PACKET_HEAD);
	return len;
}

size_t packet_subscribe(char *to, const char *filter, int qos)
{
	size_t len = PACKET_HEAD;

	len += packet_u16(to + len, 1);
	len += packet_text(to + len, filter);
	to[len++] = (char)qos;
	(void)packet_head(to, 0x82, len - PACKET_HEAD);
	return len;
}

bool packet_read(const char *data, size_t len, struct packet *p)
{
	size_t at = 1, rest = 0;

	for (unsigned shift = 0; shift <= 21; shift += 7) {
		if (at >= len) return false;
		unsigned char byte = (unsigned char)data[at++];
		rest |= (size_t)(byte & 127) << shift;
		if (!(byte & 128)) break;
	}
	if (len - at < rest) return false;
	*p = (struct packet){(unsigned char)data[0], data + at, rest, at + rest};
	return true;
}
