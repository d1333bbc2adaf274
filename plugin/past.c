/* Remembers where transactions ended. Writer thread; allocates once, at start. */
#include "plugin/past.h"

#include <stdlib.h>

enum status past_init(struct past *past)
{
	*past = (struct past){0};
	past->points = calloc(PAST_POINTS, sizeof(*past->points));
	return past->points ? ST_OK : ST_NOMEM;
}

void past_fini(struct past *past)
{
	free(past->points);
	*past = (struct past){0};
}

void past_note(struct past *past, const struct past_point *point)
{
	past->points[past->count++ % PAST_POINTS] = *point;
}

const struct past_point *past_find(const struct past *past, struct entry_id id)
{
	uint64_t oldest = past->count > PAST_POINTS ? past->count - PAST_POINTS : 0;
	if (entry_id_is_zero(id)) return NULL;
	for (uint64_t n = past->count; n > oldest; n--) {
		const struct past_point *point = &past->points[(n - 1) % PAST_POINTS];
		if (entry_id_compare(point->id, id) == 0) return point;
	}
	return NULL;
}
