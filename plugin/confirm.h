/*
 * How far Redis is, for durability=redis: the broker thread waits here, bounded, until the writer thread has had a journal
 * position confirmed. One waiter. The writer takes the lock only while somebody waits; nobody else ever takes it.
 */
#ifndef MQR_PLUGIN_CONFIRM_H
#define MQR_PLUGIN_CONFIRM_H

#include <stdbool.h>
#include <stdint.h>

#include "config/status.h"

struct confirm;

enum status confirm_new(struct confirm **out) MUST_CHECK;
void confirm_free(struct confirm *c); /* bears NULL */
/* Writer thread: everything before this journal position is in Redis or in its dead letters. Never blocks for longer than
 * the waiter needs to look. Bears NULL. */
void confirm_tell(struct confirm *c, uint64_t position);
/* Broker thread: blocks until `position` is confirmed (true) or `timeout_ms` have passed (false). */
bool confirm_wait(struct confirm *c, uint64_t position, unsigned timeout_ms) MUST_CHECK;
/* Any thread: what was told last; 0 at first. */
uint64_t confirm_position(const struct confirm *c);

#endif
