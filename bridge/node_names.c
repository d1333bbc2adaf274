/* Owns the names. There are few nodes and they are asked for per key or device, never per message, so a list will do. */
#include "bridge/node_names.h"

#include <stdlib.h>

struct node_names {
	char *names[NODES_MAX];
	uint16_t count;
};

static bool add(struct node_names *n, struct slice name)
{
	char *copy = n->count < NODES_MAX ? strndup(name.data, name.len) : NULL;

	if (copy) n->names[n->count++] = copy;
	return copy != NULL;
}

enum status node_names_new(const char *own, struct node_names **out)
{
	struct node_names *n = calloc(1, sizeof(*n));

	if (!n || !add(n, slice_str(own))) {
		free(n);
		return ST_NOMEM;
	}
	*out = n;
	return ST_OK;
}

void node_names_free(struct node_names *n)
{
	if (!n) return;
	while (n->count > 0) free(n->names[--n->count]);
	free(n);
}

uint16_t node_names_number(struct node_names *n, struct slice name)
{
	if (!name.data) return NODE_OWN;
	for (uint16_t i = 0; i < n->count; i++) {
		if (slice_equal(slice_str(n->names[i]), name)) return i;
	}
	return add(n, name) ? (uint16_t)(n->count - 1) : NODE_UNKNOWN;
}

const char *node_names_text(const struct node_names *n, uint16_t number)
{
	return number < n->count ? n->names[number] : "";
}
