/* A table for people: columns as wide as their widest cell. Gathers all rows, then prints. One thread. */
#ifndef MQR_BRIDGE_CTL_TABLE_H
#define MQR_BRIDGE_CTL_TABLE_H

#include <stdint.h>

#include "config/slice.h"

#define CTL_TABLE_COLUMNS_MAX 10
#define CTL_TABLE_CELL_MAX 200 /* bytes of a cell; longer ones are cut */

struct ctl_table;

/* Heads of the columns, ending with NULL; one that begins with '>' is flush right. NULL without memory. */
struct ctl_table *ctl_table_new(const char *const heads[]);
/* The next cell, row by row; made printable. */
void ctl_table_cell(struct ctl_table *t, struct slice text);
void ctl_table_text(struct ctl_table *t, const char *text);
void ctl_table_number(struct ctl_table *t, uint64_t n);
/* To stdout, and frees. False: memory was short, nothing is printed but a word on stderr. */
bool ctl_table_print(struct ctl_table *t);

#endif
