/* Key templates of mirror rules (expansion: key_expand in config/rule.h). Pure; any thread. */
#ifndef MQR_CONFIG_KEY_TEMPLATE_H
#define MQR_CONFIG_KEY_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>

#include "config/slice.h"
#include "config/status.h"

struct key_needs {
	bool topic;  /* %t */
	bool levels; /* %1..%9 */
	bool node;   /* %n */
	bool device; /* %c or %u */
};

/* What the template needs; ST_INVALID with a reason for an empty one or an unknown escape. */
enum status key_template_check(const char *tmpl, struct key_needs *needs, char *why, size_t size) MUST_CHECK;
/* Does the template make the same key of every topic that the filter matches? Then key_expand makes it of the filter. */
bool key_template_fixed(const char *tmpl, struct slice filter);
/* Is a key (or the fixed text a template begins with) one of our own, "<prefix>:dead" and the like (config/keys.h)? */
bool key_reserved(const char *prefix, struct slice key);
/* The fixed text that a template begins with, up to its first escape. */
struct slice key_template_start(const char *tmpl);

#endif
