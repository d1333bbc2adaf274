/*
 * Runs a fuzz target over files, for the corpus as a unit test: every compiler has this, not every one libFuzzer. Each
 * input is also tried cut short at up to 64 places.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INPUT_MAX (1u << 20)
#define CUTS 64

static int run(const char *path)
{
	FILE *f = fopen(path, "rb");
	uint8_t *data = f ? malloc(INPUT_MAX) : NULL;
	size_t size = data ? fread(data, 1, INPUT_MAX, f) : 0;

	if (f) (void)fclose(f);
	if (!data) {
		fprintf(stderr, "%s: cannot be read\n", path);
		return -1;
	}
	for (size_t i = 0; i <= CUTS; i++) {
		size_t len = size * i / CUTS;
		uint8_t *exact = malloc(len ? len : 1); /* so that a sanitizer sees every byte too far */

		if (!exact) break;
		memcpy(exact, data, len);
		(void)LLVMFuzzerTestOneInput(exact, len);
		free(exact);
	}
	free(data);
	return 0;
}

int main(int argc, char **argv)
{
	DIR *folder = argc == 2 ? opendir(argv[1]) : NULL;
	struct dirent *entry;
	char path[4096];
	unsigned count = 0;

	if (!folder) {
		fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
		return 2;
	}
	while ((entry = readdir(folder))) {
		if (entry->d_name[0] == '.') continue;
		(void)snprintf(path, sizeof(path), "%s/%s", argv[1], entry->d_name);
		if (run(path) != 0) return 1;
		count++;
	}
	(void)closedir(folder);
	printf("%u inputs\n", count);
	return count > 0 ? 0 : 1;
}
