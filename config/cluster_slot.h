/*
 * Slots of Redis Cluster: which of the 16384 a key stands in (CRC16 of the key, or of the hash tag in it), and a short text
 * for each slot that stands in it, so that keys of our own can be placed anywhere: "{tag}" in a key decides. Pure; any thread.
 * Source: https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/ ("Key distribution model")
 */
#ifndef MQR_CONFIG_CLUSTER_SLOT_H
#define MQR_CONFIG_CLUSTER_SLOT_H

#include "config/slice.h"

#define CLUSTER_SLOTS 16384
#define CLUSTER_TAG_MAX 5 /* with its NUL */

/* What decides about the slot of a key: the text between its first '{' and the next '}', unless that is empty; else the
 * whole key. Borrows from `key`. */
struct slice cluster_hash_part(struct slice key);
/* From 0. */
unsigned cluster_slot(struct slice key);
/* The first of "0", "1", .. "z", "00", .. (digits and small letters) whose slot it is; the same in every process, so that keys
 * may be made of it. The table is made at the first call, a few milliseconds. */
const char *cluster_slot_tag(unsigned slot);

#endif
