/*
 * Keeps the cells as one run of NUL-terminated texts until all widths are known. Owns them. Must never print a control
 * character that somebody else sent.
 */
#include "bridge/ctl_table.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "bridge/ctl_command.h"
#include "config/buf.h"
#include "config/log.h"

struct ctl_table {
	size_t columns, next; /* column of the next cell */
	size_t width[CTL_TABLE_COLUMNS_MAX];
	bool right[CTL_TABLE_COLUMNS_MAX];
	struct buf cells;
};

/* Characters, not bytes; all of one width, which is wrong for a few scripts and harms nothing but the looks. */
static size_t width_of(const char *text)
{
	size_t n = 0;

	for (; *text; text++) n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
}

struct ctl_table *ctl_table_new(const char *const heads[])
{
	struct ctl_table *t = calloc(1, sizeof(*t));

	if (!t) return NULL;
	while (heads[t->columns] && t->columns < CTL_TABLE_COLUMNS_MAX) t->columns++;
	for (size_t i = 0; i < t->columns && heads[i]; i++) {
		t->right[i] = heads[i][0] == '>';
		ctl_table_text(t, heads[i] + t->right[i]);
	}
	return t;
}

void ctl_table_cell(struct ctl_table *t, struct slice text)
{
	char shown[CTL_TABLE_CELL_MAX];
	size_t width;

	(void)log_printable(text.data ? text.data : "", text.len, shown, sizeof(shown));
	width = width_of(shown);
	if (width > t->width[t->next]) t->width[t->next] = width;
	buf_append(&t->cells, shown, strlen(shown) + 1);
	t->next = (t->next + 1) % t->columns;
}

void ctl_table_text(struct ctl_table *t, const char *text)
{
	ctl_table_cell(t, slice_str(text));
}

void ctl_table_number(struct ctl_table *t, uint64_t n)
{
	char text[24];

	(void)snprintf(text, sizeof(text), "%" PRIu64, n);
	ctl_table_text(t, text);
}

bool ctl_table_print(struct ctl_table *t)
{
	bool whole = !t->cells.failed;
	const char *cell = t->cells.data, *end = cell + t->cells.len;

	if (!whole) fprintf(stderr, CTL_PROGRAM_NAME ": out of memory\n");
	for (size_t i = 0; whole && cell < end; i = (i + 1) % t->columns) {
		size_t pad = t->width[i] - width_of(cell);
		bool last = i + 1 == t->columns;

		if (t->right[i]) printf("%*s%s", (int)pad, "", cell);
		else printf("%s%*s", cell, last ? 0 : (int)pad, "");
		(void)fputs(last ? "\n" : "  ", stdout);
		cell += strlen(cell) + 1;
	}
	buf_free(&t->cells);
	free(t);
	return whole;
}
