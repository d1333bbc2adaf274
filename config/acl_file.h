/*
 * A Mosquitto ACL file, read as Mosquitto reads it (src/security_default.c in 2.0, src/acl_file.c in 2.1): "user",
 * "topic [read|write|readwrite|deny] T", "pattern [...] T". Loading blocks; checking does not. One thread at a time.
 */
#ifndef MQR_CONFIG_ACL_FILE_H
#define MQR_CONFIG_ACL_FILE_H

#include <stdbool.h>

#include "config/slice.h"
#include "config/status.h"

struct acl_file;

enum acl_access { ACL_READ = 1, ACL_WRITE = 2 };

enum status acl_file_load(const char *path, struct acl_file **out, char *why, size_t size) MUST_CHECK;
void acl_file_free(struct acl_file *acl);
/* What Mosquitto would answer for this client; `user` absent for anonymous ones. */
bool acl_file_allows(const struct acl_file *acl, struct slice client, struct slice user, struct slice topic,
	enum acl_access access);
/* 2.1 replaces %c and %u in patterns only where they are a whole level, 2.0 anywhere. Loading chooses by the version of
 * libmosquitto; this is for tests. */
void acl_file_whole_levels(struct acl_file *acl, bool whole_levels);

#endif
