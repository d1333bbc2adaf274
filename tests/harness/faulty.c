/* Owns the files through which tests/faults is told what is to fail. Test's thread. */
#include "tests/harness/faulty.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/harness/scene_internal.h"

static void unmap(void *ctx)
{
	(void)munmap(ctx, sizeof(struct fault_control)); /* the process ends soon anyway */
}

struct fault_control *faulty_server(struct server *v, const char *modules)
{
	struct scene *s = server_scene(v);
	const char *path = scene_text(s, "%s.faults", server_dir(v));
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	void *map = MAP_FAILED;

	if (fd >= 0 && ftruncate(fd, sizeof(struct fault_control)) == 0)
		map = mmap(NULL, sizeof(struct fault_control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	scene_require(map != MAP_FAILED, "%s: %s", path, strerror(errno));
	close(fd);
	scene_at_end(s, unmap, map);
	server_env(v, FAULT_FILE_ENV, path);
	server_env(v, FAULT_MODULES_ENV, modules);
	return map;
}
