/* Well-formed UTF-8 as MQTT wants it (MQTT 5 1.5.4): no surrogates, nothing overlong, up to U+10FFFF, no U+0000.
 * Pure functions; any thread. */
#ifndef MQR_CONFIG_UTF8_H
#define MQR_CONFIG_UTF8_H

#include <stdbool.h>

#include "config/slice.h"

/* Bytes (1..4) of the character at `text`, of which `len` bytes may be read; 0 when there is no valid one. */
size_t utf8_sequence(const char *text, size_t len);
/* Every byte of `s` belongs to a valid character. */
bool utf8_valid(struct slice s);

#endif
