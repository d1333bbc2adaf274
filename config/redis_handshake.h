/*
 * What is said first on a new Redis connection: AUTH, SELECT, CLIENT SETNAME, ROLE (when sentinels have led us there), in
 * one write. Loop thread only. Building
 * reads the password file (each time, so that a rotated password is found), which blocks shortly.
 */
#ifndef MQR_CONFIG_REDIS_HANDSHAKE_H
#define MQR_CONFIG_REDIS_HANDSHAKE_H

#include <hiredis/hiredis.h>
#include <stddef.h>

#include "config/buf.h"
#include "config/settings.h"
#include "config/status.h"

enum handshake_step { HANDSHAKE_AUTH, HANDSHAKE_SELECT, HANDSHAKE_NAME, HANDSHAKE_ROLE, HANDSHAKE_STEPS };

struct handshake {
	enum handshake_step steps[HANDSHAKE_STEPS];
	size_t count; /* replies expected */
};

/* Appends the commands to `out`. On failure `why` tells which file could not be read. The bytes may hold a password:
 * the caller wipes them once they are sent. */
enum status handshake_build(const struct settings *settings, const char *name, struct handshake *h, struct buf *out,
	char *why, size_t size) MUST_CHECK;
/* Judges the reply to step `index`: ST_OK, ST_DENIED (credentials), ST_INVALID (no such database), ST_LOST (other: not
 * the master). */
enum status handshake_check(const struct handshake *h, size_t index, const redisReply *reply, char *why, size_t size)
	MUST_CHECK;

#endif
