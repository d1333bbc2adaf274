/* Status codes of every module. Foreign codes (errno, mosquitto, hiredis, libuv) are translated at the edge. */
#ifndef MQR_CONFIG_STATUS_H
#define MQR_CONFIG_STATUS_H

#define STATUS_MAP(X) \
	X(OK, "success") \
	X(NOMEM, "out of memory") \
	X(INVALID, "invalid value") \
	X(UNSUPPORTED, "not supported yet") \
	X(NOT_FOUND, "not found") \
	X(FULL, "full") \
	X(TOO_LARGE, "too large") \
	X(CORRUPT, "damaged data") \
	X(VERSION, "unknown version") \
	X(FOREIGN, "belongs to another node") \
	X(IO, "input or output error") \
	X(LOST, "connection lost") \
	X(TIMEOUT, "timed out") \
	X(DENIED, "access denied") \
	X(AGAIN, "try again later") \
	X(END, "nothing left")

enum status {
#define X(name, text) ST_##name,
	STATUS_MAP(X)
#undef X
	ST_COUNT
};

#define MUST_CHECK __attribute__((warn_unused_result))
/* Of functions that the path of every message leads past, but seldom through: not to be merged into it. */
#define SELDOM __attribute__((noinline, cold))
/* Of what the broker calls for every message: all that it calls is merged into it, but what is SELDOM or APART. */
#define EVERY_MESSAGE __attribute__((flatten))
#define APART __attribute__((noinline))

/* A short English text, never NULL. Any thread. */
const char *status_text(enum status st);

#endif
