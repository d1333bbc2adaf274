/*
 * The bridge's side of the control topic (config/control.h): shows the token, keeps the conversation open, gives the
 * acknowledgements on. The plugin makes a new token at every broker start, so it is read anew before every HELLO.
 * Loop thread.
 */
#ifndef MQR_BRIDGE_CONTROL_CLIENT_H
#define MQR_BRIDGE_CONTROL_CLIENT_H

#include <uv.h>

#include "bridge/mqtt.h"
#include "config/control.h"
#include "config/log.h"
#include "config/redis_link.h"
#include "config/settings.h"

struct control_client;

struct control_calls {
	/* HELLO goes out now: whatever was under way is void, the plugin will tell again what is owed. */
	void (*opening)(void *ctx);
	void (*open)(void *ctx);
	/* No commands until the next `open`. */
	void (*shut)(void *ctx);
	void (*ack)(void *ctx, const struct control_command *ack); /* borrowed */
	void (*probed)(void *ctx, const struct control_command *probed); /* borrowed */
	/* The plugin has seen a larger fencing number than ours. From within a callback of the MQTT library. */
	void (*overtaken)(void *ctx);
	void *ctx;
};

/* All borrowed until closed. */
enum status control_client_new(uv_loop_t *loop, const struct settings *settings, const struct log_sink *log,
	struct mqtt *mqtt, struct redis_link *link, const struct control_calls *calls,
		struct control_client **out) MUST_CHECK;
/* From now on HELLO may be sent, with this fencing number. */
void control_client_allow(struct control_client *cc, uint64_t fence);
/* No longer; `shut` is called if it was open. */
void control_client_forbid(struct control_client *cc);
/* MQTT or Redis became ready, or MQTT was lost. */
void control_client_ready(struct control_client *cc);
void control_client_lost(struct control_client *cc);
void control_client_message(struct control_client *cc, struct slice topic, struct slice payload);
/* Begins anew with HELLO. */
void control_client_again(struct control_client *cc);
/* Which start of the broker it is open with. */
struct entry_id control_client_boot(const struct control_client *cc);
bool control_client_is_open(const struct control_client *cc);
/* ST_LOST when not open; else as mqtt_publish. */
enum status control_client_send(struct control_client *cc, struct slice payload) MUST_CHECK;
void control_client_close(struct control_client *cc, void (*closed)(void *ctx), void *ctx);

#endif
