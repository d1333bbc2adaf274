/*
 * Brings a device to the middle of what was published for it. Runs on the test's thread.
 */
#include "tests/harness/half_read.h"

#include <stdio.h>

#include "tests/harness/store.h"

#define WAIT_MS 60000

struct guest *half_read(struct world *w, struct scene *s, const struct guest_options *options)
{
	char text[16];

	world_start(w, s, "mirror t stream s\nredeliver t\n", WORLD_BRIDGE);
	struct guest *d = guest_join(w, "device", options), *p = guest_join(w, "p", NULL);
	guest_subscribe(d, "t", 1);
	world_wait_event(w, "live", "device", 1);
	guest_pace(d, 900);
	for (int i = 0; i < HALF_READ; i++) {
		(void)snprintf(text, sizeof(text), "%d", i);
		guest_publish(p, "t", text, 1);
	}
	store_wait_stream(w->db, "s", HALF_READ, WAIT_MS);
	return d;
}
