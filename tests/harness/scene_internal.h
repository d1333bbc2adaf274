/* Between the files of the harness; tests do not include it. */
#ifndef MQR_TESTS_HARNESS_SCENE_INTERNAL_H
#define MQR_TESTS_HARNESS_SCENE_INTERNAL_H

#include "tests/harness/servers.h"

/* Takes memory, freed with the scene; returns it. */
void *scene_keep(struct scene *s, void *memory);
/* Takes the server. */
void scene_add_server(struct scene *s, struct server *v);
/* Ends whatever still runs, without judging it. */
void server_end_now(struct server *v);
void server_free(struct server *v);
/* Ends the test when a sanitizer or valgrind has something to say in its log. */
void server_check_report(struct server *v);
struct scene *server_scene(const struct server *v);

#endif
