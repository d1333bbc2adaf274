/*
 * Redis commands as bytes (RESP2 arrays of bulk strings), formatted once into the output buffer: argv and lengths, never
 * format strings. Source: https://redis.io/docs/latest/develop/reference/protocol-spec/
 * A command is begun with its number of arguments, then exactly that many are added. Not thread-safe.
 */
#ifndef MQR_CONFIG_RESP_H
#define MQR_CONFIG_RESP_H

#include "config/buf.h"
#include "config/entry_id.h"

void resp_begin(struct buf *out, size_t argc);
void resp_arg(struct buf *out, struct slice arg);
void resp_arg_str(struct buf *out, const char *arg);
void resp_arg_u64(struct buf *out, uint64_t arg);
void resp_arg_id(struct buf *out, struct entry_id id);
/* A whole command from C strings, NULL-terminated: resp_command(out, "GET", key, NULL). */
void resp_command(struct buf *out, ...) __attribute__((sentinel));

#endif
