/* The parts of a publisher (tests/harness/publisher.h): of its own files only. */
#ifndef MQR_TESTS_HARNESS_PUBLISHER_PARTS_H
#define MQR_TESTS_HARNESS_PUBLISHER_PARTS_H

#include <pthread.h>
#include <time.h>

#include "tests/harness/publisher.h"

#define MIDS 65536
#define INPUT_MAX 4096

struct sent {
	uint64_t at_us;
	uint64_t busy_at_us;     /* the watched process had computed so long */
	unsigned took_us;        /* until it was acknowledged */
	unsigned heard_us;       /* until it came to the listener */
	unsigned busy_us;        /* likewise, what the watched process computed */
	unsigned section;
	bool acked, heard;
};

struct connection {
	int fd;                  /* -1: none */
	bool greeted;            /* CONNACK has come */
	uint64_t again_at_ms;
	struct sent *messages;   /* by number */
	long count, size;
	long heard;              /* the listener has been given all below, or never will be */
	unsigned under_way;
	long number_of[MIDS];    /* packet id to number, -1: none */
	unsigned char input[INPUT_MAX];
	size_t input_len;
};

struct publisher {
	pthread_t thread;
	pthread_mutex_t lock;    /* all below */
	uint16_t port;
	char base[64];
	unsigned connection_count;
	size_t payload_len;
	unsigned spread;         /* 0: a connection's messages all have one topic */
	bool stop;
	unsigned per_second;
	uint64_t due_us;         /* when the next message is due */
	unsigned turn, section, losses;
	struct listener *listener; /* NULL: none, or lost */
	unsigned misheard;
	bool watches;
	clockid_t watched;       /* CPU time of the watched process */
	char *packet;
	struct connection connections[PUBLISHER_CONNECTIONS_MAX];
};

#endif
