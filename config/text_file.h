/* Small files read whole (settings, ACL, passwords). Blocks; any thread. */
#ifndef MQR_CONFIG_TEXT_FILE_H
#define MQR_CONFIG_TEXT_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "config/slice.h"
#include "config/status.h"

#define TEXT_LINE_MAX 65536 /* bytes of a line without its end */

struct text_file {
	char *data;          /* NUL behind the last byte; NULs inside are possible */
	size_t len;
	bool world_readable;
};

/* Reads a regular file of at most `max` bytes. On failure `why` says what is wrong, without the path, and nothing is
 * owned: ST_NOT_FOUND, ST_DENIED, ST_INVALID (a directory or the like), ST_TOO_LARGE, ST_IO, ST_NOMEM. */
enum status text_file_read(const char *path, size_t max, struct text_file *out, char *why, size_t size) MUST_CHECK;
/* Overwrites and frees the text. Bears a zeroed struct. */
void text_file_free(struct text_file *f);
/* Next line without its LF or CRLF; *rest starts as the whole text. False at the end. */
bool text_line_next(struct slice *rest, struct slice *line);

#endif
