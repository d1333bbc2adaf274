/*
 * A device that is live and reads at once: one MQTT 3.1.1 connection over a bare socket, clean session, one filter. Whoever owns it
 * waits for its descriptor and calls; the connection is not made again. Not thread-safe; never calls cmocka.
 */
#ifndef MQR_TESTS_HARNESS_LISTENER_H
#define MQR_TESTS_HARNESS_LISTENER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct listener;

/* `topic` and `payload` have a NUL behind them, and are borrowed until it returns. */
typedef void listener_fn(void *ctx, const char *topic, const char *payload);

/* Connects and sends CONNECT and SUBSCRIBE at once. NULL: no memory or no connection. */
struct listener *listener_new(uint16_t port, const char *id, const char *filter, int qos);
int listener_fd(const struct listener *l); /* -1: lost */
bool listener_subscribed(const struct listener *l); /* SUBACK has come, granted */
/* Reads what has come and acknowledges it. False: the connection is lost. */
bool listener_read(struct listener *l, listener_fn *fn, void *ctx);
void listener_free(struct listener *l);

#endif
