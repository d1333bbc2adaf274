/*
 * Numbers for the names of the nodes (brokers) that share a Redis, for as long as the process lives. Loop thread.
 */
#ifndef MQR_BRIDGE_NODE_NAMES_H
#define MQR_BRIDGE_NODE_NAMES_H

#include <stdint.h>

#include "config/slice.h"
#include "config/status.h"

#define NODE_OWN 0           /* our own broker; also of keys that several nodes write (no %n in their template) */
#define NODE_EVERY 0xffff    /* of a filter that is for messages of any node */
#define NODE_UNKNOWN 0xfffe  /* one more than NODES_MAX, or without memory */
#define NODES_MAX 64

struct node_names;

enum status node_names_new(const char *own, struct node_names **out) MUST_CHECK;
void node_names_free(struct node_names *n); /* bears NULL */
/* Its number; a new one for a name that was not seen before. An absent name is our own. */
uint16_t node_names_number(struct node_names *n, struct slice name);
/* Borrowed; "" for a number that was not given out. */
const char *node_names_text(const struct node_names *n, uint16_t number);

#endif
