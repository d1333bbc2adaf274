/*
 * libFuzzer entry: a file of settings, as plugin, bridge and command line tool read it. Whatever stands in it, the reader
 * returns with settings or with a text that says what is wrong.
 */
#include <string.h>

#include "config/settings.h"
#include "tests/fuzz/fuzz_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char why[4096];
	struct settings *settings = NULL;
	struct fuzz_file f = fuzz_file_make(data, size);

	why[0] = '\0';
	if (settings_load(f.path, NULL, 0, NULL, &settings, why, sizeof(why)) == ST_OK) {
		if (!settings) abort();
	} else if (settings || why[0] == '\0' || strlen(why) >= sizeof(why)) {
		abort();
	}
	settings_free(settings);
	(void)close(f.fd);
	return 0;
}
