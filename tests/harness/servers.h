/*
 * Real servers in a scene: redis-server, mosquitto, mosquitto-redis-bridge. They die with the test process. Logs go to
 * <folder>/<name>.log, over restarts. Starting waits until the server answers, stopping until it has ended; both have
 * a limit and end the test when it passes.
 */
#ifndef MQR_TESTS_HARNESS_SERVERS_H
#define MQR_TESTS_HARNESS_SERVERS_H

#include <hiredis/hiredis.h>

#include "tests/harness/scene.h"

struct server;

/* Made, not yet started. `name` distinguishes several of a kind (log file, folder). */
/* `options`: lines of redis.conf, e.g. "appendonly yes\nappendfsync always\n". Listens on TCP and a unix socket. Has the users
 * of config/redis-users.conf, passwords as there; the user default may do everything, without a password. */
struct server *redis_new(struct scene *s, const char *name, const char *options);
/* A Redis Sentinel; `options`: lines of sentinel.conf. */
struct server *sentinel_new(struct scene *s, const char *name, const char *options);
/* `options`: lines of mosquitto.conf behind the listener and common lines. With `settings` (a path) the plugin is
 * loaded with it, before the options. Without an allow_anonymous line in the options anonymous clients are let in. */
#define BROKER_PER_LISTENER "per_listener_settings true\n" /* then all lines belong to the listener */
struct server *broker_new(struct scene *s, const char *name, const char *settings, const char *options);
/* Its settings must say where it listens (`listen none`), or it does not start. */
struct server *bridge_new(struct scene *s, const char *name, const char *settings);
/* Any other program, argv NULL-terminated; counts as ready at once, listens on no port that is known here. */
struct server *other_new(struct scene *s, const char *name, const char *const argv[]);

/* Not running: it is started under another program from now on, "valgrind", options, NULL; and is given ten times as long. */
void server_under(struct server *v, const char *const program[]);

/* A variable of its environment, from its next start on. */
void server_env(struct server *v, const char *name, const char *value);
/* So many descriptors it may have from its next start on; 0: as many as the test. */
void server_files(struct server *v, unsigned count);

void server_start(struct server *v);
/* The two halves of server_start, for what is to be done before it is ready. */
void server_begin(struct server *v);
void server_await(struct server *v);
/* For a server that may refuse to start, or end soon: true when it is ready; false when it has ended by itself, with an exit
 * status. A signal ends the test. (A bridge counts as ready at once: server_ended.) */
bool server_start_or_end(struct server *v, int *status);
/* For a server that must refuse to start: its exit status (not 0). */
int server_start_refused(struct server *v);
void server_stop(struct server *v);     /* SIGTERM; it must have been alive and end with 0 */
void server_kill(struct server *v);     /* SIGKILL */
void server_pause(struct server *v);    /* SIGSTOP */
void server_continue(struct server *v); /* SIGCONT */
void server_restart(struct server *v);  /* stop, start */
void server_signal(struct server *v, int sig);
/* Ends the test when the server is not running any more. */
void server_check_alive(struct server *v);
bool server_running(const struct server *v);
/* Has it ended by itself since it was started? Then it may be started again, and *status is its exit status; a signal ends the test. */
bool server_ended(struct server *v, int *status);

uint16_t server_port(const struct server *v);
/* Bytes that clients over 127.0.0.1 have sent to its port and it has not read. */
size_t server_unread(const struct server *v);
const char *server_socket(const struct server *v); /* Redis: path of its unix socket */
int server_pid(const struct server *v);
const char *server_dir(const struct server *v);
const char *server_log_path(const struct server *v);
/* Does the log hold this text, behind `from` bytes? */
size_t server_log_size(const struct server *v);
bool server_log_has(struct server *v, size_t from, const char *text);
/* Until it does; not beyond the server's end. */
void server_log_wait(struct server *v, size_t from, const char *text, unsigned timeout_ms);

/* Runs a program to its end: exit status, stdout and stderr in *output (owned by the scene). argv ends with NULL. */
int program_run(struct scene *s, const char *const argv[], unsigned timeout_ms, const char **output);
/* What the plugin logs when it has accepted the bridge's greeting. */
#define BRIDGE_GREETED "bridge: connected"
#define BRIDGE_PROGRAM TEST_BUILD_DIR "/bridge/mosquitto-redis-bridge"
#define CTL_PROGRAM TEST_BUILD_DIR "/bridge/mosquitto-redis-ctl"
#define PLUGIN_FILE TEST_BUILD_DIR "/plugin/mosquitto_redis.so"
#define NEIGHBOUR_FILE(name) TEST_BUILD_DIR "/neighbours/" name ".so" /* tests/neighbours */

/* The usual: one Redis (AOF on, everysec), one broker with the plugin, perhaps a bridge, one settings file:
 *   redis_url, journal <folder>/journal, journal_size 4M, node test, broker_url, listen none unless `lines` say where,
 *   and `lines`. */
/* With a bridge, which has greeted the plugin when world_start returns. hold_timeout is a minute then, unless `lines` say
 * otherwise: on a busy machine a device would sometimes go live ahead of what it missed, and be told of differently. */
#define WORLD_BRIDGE 1u
#define WORLD_NO_START 2u     /* only make them; the test starts them */
#define WORLD_REDIS_ALWAYS 4u /* appendfsync always */
#define WORLD_ADMIN 8u        /* plugin and bridge come as Redis' user default, not as those of config/redis-users.conf */
#define PLUGIN_USER "mosquitto-redis-plugin"
#define PLUGIN_PASSWORD "plugin-password"
#define BRIDGE_USER "mosquitto-redis-bridge"
#define BRIDGE_PASSWORD "bridge-password"
#define CONSUMER_USER "mosquitto-redis-consumer"
#define CONSUMER_PASSWORD "consumer-password"
struct world {
	struct scene *scene;
	struct server *redis, *broker, *bridge; /* bridge NULL without WORLD_BRIDGE */
	redisContext *db;                       /* NULL until Redis was started */
	const char *settings;                   /* path */
};
void world_start(struct world *w, struct scene *s, const char *lines, unsigned flags);
/* With lines for mosquitto.conf, e.g. "acl_file PATH\n"; max_queued_messages 0 is set unless they set it. */
void world_start_with(struct world *w, struct scene *s, const char *lines, const char *broker_options, unsigned flags);
/* Waits until the bridge's greeting was accepted, behind `from` bytes of the broker's log. */
void world_wait_bridge(struct world *w, size_t from);
/* Session events in Redis (config/event_fields.h): how many of this client have this op; wait for the n-th. */
size_t world_events(struct world *w, const char *op, const char *client);
void world_wait_event(struct world *w, const char *op, const char *client, size_t n);
/* Mosquitto 2.1 or later: it tells plugins of CONNECT, SUBSCRIBE and the rest. */
bool broker_has_events(struct scene *s);

#endif
