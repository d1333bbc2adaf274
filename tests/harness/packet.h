/* Writes MQTT 3.1.1 packets into memory that is large enough. Pure; any thread. */
#ifndef MQR_TESTS_HARNESS_PACKET_H
#define MQR_TESTS_HARNESS_PACKET_H

#include <stdbool.h>
#include <stddef.h>

/* Each returns the bytes written. */
size_t packet_u16(char *to, size_t value);
size_t packet_text(char *to, const char *text);
/* Fixed header with a length of four bytes, which is what any length may have. */
#define PACKET_HEAD 5
size_t packet_head(char *to, unsigned first, size_t rest);
/* CONNECT without a keepalive; `to` holds 32 bytes more than the id. */
size_t packet_connect(char *to, const char *id, bool clean);
/* SUBSCRIBE with packet id 1; `to` holds 32 bytes more than the filter. */
size_t packet_subscribe(char *to, const char *filter, int qos);

/* The packet at `data`: its type (upper half of the first byte) and flags, its body and the whole's length. False: it is
 * not there in full yet. */
struct packet {
	unsigned first;
	const char *body;
	size_t len, whole;
};
bool packet_read(const char *data, size_t len, struct packet *p);

#endif
