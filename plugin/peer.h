/*
 * The bridge as the plugin sees it: who it is, whether it has shown the token, and its commands. Broker thread only.
 */
#ifndef MQR_PLUGIN_PEER_H
#define MQR_PLUGIN_PEER_H

#include <stdbool.h>

#include "config/slice.h"
#include "plugin/devices.h"
#include "plugin/outlet.h"

struct peer;

#define PEER_TOKEN_BYTES 32 /* random; 64 hexadecimal digits in Redis */

enum status peer_new(struct devices *devices, struct append *append, struct journal *journal,
	const struct outlet *outlet, uint64_t (*now_ms)(void), struct peer **out) MUST_CHECK;
/* Called when a bridge was let in, before it is told of any device. */
void peer_on_hello(struct peer *p, void (*greeted)(void *ctx), void *ctx);
void peer_free(struct peer *p);
const char *peer_token(const struct peer *p);

/* A publish to the control topic. ST_DENIED: not from the bridge, and refused. */
enum status peer_command(struct peer *p, const char *client, struct slice payload) MUST_CHECK;
/* A device's publish to the replay topic. ST_DENIED: it has no grant for that, and is to be closed. */
enum status peer_replay(struct peer *p, const char *client, struct slice payload, uint64_t wall_ms) MUST_CHECK;
void peer_disconnected(struct peer *p, const char *client);
/* Is it the connection whose commands are acted on? */
bool peer_is(const struct peer *p, const char *client);
/* Is a bridge there, and has it said anything within `ms`? */
bool peer_present(const struct peer *p, uint64_t ms);

#endif
