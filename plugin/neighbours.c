/*
 * Looks through the objects loaded into the process. Owns nothing. Broker thread.
 */
#include "plugin/neighbours.h"

#include <dlfcn.h>
#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "config/buf.h"

/* The loader's lock is held here: only collect names. */
static int collect(struct dl_phdr_info *info, size_t size, void *data)
{
	struct buf *names = data;

	(void)size; /* part of the callback's form */
	if (info->dlpi_name && info->dlpi_name[0]) buf_append(names, info->dlpi_name, strlen(info->dlpi_name) + 1);
	return 0;
}

static bool defines(void *handle, const char *symbol, const char *path, const void *own_base)
{
	void *address = dlsym(handle, symbol);
	Dl_info where;

	/* dlsym also looks into the object's own dependencies: count only what it defines itself. */
	if (!address || !dladdr(address, &where) || !where.dli_fname) return false;
	return where.dli_fbase != own_base && strcmp(where.dli_fname, path) == 0;
}

size_t neighbours_count(const void *own, char *name, size_t size)
{
	struct buf names = {0};
	Dl_info self = {0};
	size_t count = 0;

	if (size > 0) name[0] = 0;
	if (!dladdr(own, &self)) return 0;
	dl_iterate_phdr(collect, &names);
	for (const char *path = names.data; path && path < names.data + names.len; path += strlen(path) + 1) {
		void *handle = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);

		if (!handle) continue;
		if (defines(handle, "mosquitto_plugin_version", path, self.dli_fbase)
			|| defines(handle, "mosquitto_auth_plugin_version", path, self.dli_fbase)) {
			if (count++ == 0) snprintf(name, size, "%s", path);
		}
		dlclose(handle);
	}
	buf_free(&names);
	return count;
}
