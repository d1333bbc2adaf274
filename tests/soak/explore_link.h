/*
 * One MQTT connection of the explorer over a bare socket, 3.1.1 or 5: what is sent and when it is read is the explorer's decision.
 * Nothing blocks; what the socket does not take waits. Driven by the test's thread.
 */
#ifndef MQR_TESTS_SOAK_EXPLORE_LINK_H
#define MQR_TESTS_SOAK_EXPLORE_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINK_INPUT_MAX (1u << 18)
#define LINK_OUTPUT_MAX (1u << 16)

struct link {
	int fd;                   /* -1: none */
	bool v5;
	unsigned connection;      /* which one of its owner's, from 1 */
	uint16_t last_packet_id;
	uint64_t wrote_ms;        /* last */
	size_t in_len, out_len;
	char in[LINK_INPUT_MAX], out[LINK_OUTPUT_MAX];
};

struct link_options {
	const char *id;
	bool v5, clean;           /* clean: session, or start */
	uint32_t expiry_s;        /* v5 */
	uint16_t keepalive_s, receive_maximum; /* the latter v5; 0: not sent */
	const char *will_topic, *will_payload; /* NULL: no will */
	unsigned receive_buffer;  /* bytes; 0: as the system has it */
};

enum link_end { LINK_CLOSE, LINK_RESET };

/* What a PUBLISH holds. Texts end with NUL where said. */
struct link_publish {
	char topic[128];          /* NUL */
	char payload[64];         /* its beginning, NUL */
	char redis_id[48];        /* v5 user property, NUL; empty: none */
	bool redelivered;         /* the same */
	bool dup, retain;
	int qos;
	uint16_t packet_id;
};

/* Connects and sends CONNECT. False: nobody listens. */
bool link_open(struct link *l, uint16_t port, const struct link_options *o);
void link_close(struct link *l, enum link_end how); /* bears one that is closed */
void link_half_close(struct link *l);
/* The packet id that it has. */
uint16_t link_subscribe(struct link *l, const char *filter, int qos);
uint16_t link_unsubscribe(struct link *l, const char *filter);
/* Packet id, 0 with QoS 0. */
uint16_t link_publish(struct link *l, const char *topic, const void *payload, size_t len, int qos);
/* PUBACK, PUBREC, PUBREL, PUBCOMP (`first`: the fixed header's first byte). */
void link_answer(struct link *l, unsigned first, uint16_t packet_id);
void link_ping(struct link *l);
void link_goodbye(struct link *l); /* DISCONNECT */
/* Room for so many bytes more? */
bool link_has_room(const struct link *l, size_t bytes);
/* Sends what waits, reads what is there, up to `packets_max` packets, each given to `fn`; false: the connection has ended. `fn` must
 * not close it. */
typedef void link_fn(void *ctx, struct link *l, unsigned first, const char *body, size_t len);
bool link_turn(struct link *l, unsigned packets_max, link_fn *fn, void *ctx);
/* Of a PUBLISH. False: it is odd. */
bool link_read_publish(const struct link *l, unsigned first, const char *body, size_t len, struct link_publish *out);

#endif
