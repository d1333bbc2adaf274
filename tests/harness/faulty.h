/* A server of a scene in which calls can be made to fail while it runs (tests/faults). */
#ifndef MQR_TESTS_HARNESS_FAULTY_H
#define MQR_TESTS_HARNESS_FAULTY_H

#include "tests/faults/fault.h"
#include "tests/harness/servers.h"

/* To be called before its first start; `modules` as in FAULT_MODULES_ENV. Nothing fails until fault_arm_in. Lasts over
 * restarts; ends with the scene. */
struct fault_control *faulty_server(struct server *v, const char *modules);
/* Without libuv, which ends the process when it cannot wake a loop, or grow its table (config/loop_needs.h); the latter is
 * looked for before, so that it is in where memory is missing for longer than a moment. */
#define FAULTY_PLUGIN "mosquitto_redis:libhiredis:~"
#define FAULTY_BRIDGE ".:libhiredis:libcjson:libmosquitto"
#define FAULTY_PAGES ".:libmicrohttpd"
#define FAULTY_LOOP ":libuv"

#endif
