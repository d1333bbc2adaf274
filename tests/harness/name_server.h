/*
 * A name server of the test's own, which may be silent. Needs the right to a network name space of its own (root, or a kernel
 * that lets users), in which the addresses of /etc/resolv.conf, IPv4, are the process's own.
 */
#ifndef MQR_TESTS_HARNESS_NAME_SERVER_H
#define MQR_TESTS_HARNESS_NAME_SERVER_H

#include "tests/harness/scene.h"

struct name_server;

/* First thing in main, before any thread: false when it is not allowed. */
bool name_server_prepare(void);
/* Silent at first. Ends with the scene. */
struct name_server *name_server_start(struct scene *s);
/* From now on every name is 127.0.0.1 (true), or nothing is answered. */
void name_server_answer(struct name_server *n, bool answer);
unsigned name_server_asked(const struct name_server *n);

#endif
