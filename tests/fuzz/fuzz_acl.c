/*
 * libFuzzer entry: an ACL file behind a first line "client NUL user NUL topic LF". A reading that succeeds must answer, and
 * answer the same twice.
 */
#include <string.h>

#include "config/acl_file.h"
#include "tests/fuzz/fuzz_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct slice next(struct slice *rest, char end)
{
	const char *at = rest->len ? memchr(rest->data, end, rest->len) : NULL;
	struct slice part = slice_of(rest->data, at ? (size_t)(at - rest->data) : rest->len);
	size_t used = part.len + (at ? 1 : 0);

	*rest = slice_of(rest->data + used, rest->len - used);
	return part;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char why[512] = "";
	struct acl_file *acl = NULL;
	struct slice rest = slice_of((const char *)data, size);

	if (size == 0) return 0;
	struct slice client = next(&rest, '\0'), user = next(&rest, '\0'), topic = next(&rest, '\n');
	struct fuzz_file f = fuzz_file_make((const uint8_t *)rest.data, rest.len);
	if (acl_file_load(f.path, &acl, why, sizeof(why)) == ST_OK) {
		bool may = acl_file_allows(acl, client, user, topic, ACL_READ);

		if (may != acl_file_allows(acl, client, user, topic, ACL_READ)) abort();
		(void)acl_file_allows(acl, client, user, topic, ACL_WRITE);
	} else if (why[0] == '\0') {
		abort();
	}
	acl_file_free(acl);
	(void)close(f.fd);
	return 0;
}
