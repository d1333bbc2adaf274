/*
 * Owns the functions of the C library that are put in front of the real ones. Runs in any thread of the program under test, in
 * its allocator above all: allocates nothing itself and takes no lock. Must pass everything on unchanged but the calls that
 * are to fail.
 */
#undef _FILE_OFFSET_BITS /* both names of each function are wanted, below */
#include "tests/faults/fault.h"

#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define RANGES_MAX 32
#define VIA_FRAMES 10
#define EARLY_BYTES 65536
#define DEFAULT_MODULES ".:mosquitto_redis:libhiredis:libuv:libcjson:libmosquitto"
#define FRONT __attribute__((visibility("default")))

struct range {
	uintptr_t from, to, base;
};

static struct fault_control own;
static struct fault_control *control = &own;
static struct range ranges[RANGES_MAX];
static size_t range_count;
static struct range program; /* when "~" is wanted */
static atomic_uint ranges_of; /* generation for which they were found */
static atomic_long live;
/* volatile: the compiler takes dlsym for one that calls nothing of here. */
static __thread volatile int inside __attribute__((tls_model("initial-exec")));
/* Until dlsym has found the real ones; never freed. */
static char early[EARLY_BYTES] __attribute__((aligned(16)));
static size_t early_used;

#define REAL(name) \
	static __typeof__(&name) real_##name; \
	if (!real_##name) find_real((void **)&real_##name, #name)

static void find_real(void **to, const char *name)
{
	inside = inside + 1;
	void *found = dlsym(RTLD_NEXT, name);
	inside = inside - 1;
	if (!found) abort();
	*to = found;
}

struct fault_control *fault_own(void)
{
	return control;
}

long fault_live(void)
{
	return atomic_load(&live);
}

/* --- whose call is it? ------------------------------------------------------------------------------------------------- */

/* "." is the program, "~" the program where it works for one of the others. */
static bool module_wanted(const char *name)
{
	const char *list = getenv(FAULT_MODULES_ENV);

	if (!list) list = DEFAULT_MODULES;
	while (*list) {
		size_t len = strcspn(list, ":");
		char word[64];
		snprintf(word, sizeof(word), "%.*s", (int)len, list);
		bool alone = !word[1], same = strcmp(name, word) == 0;
		if (same || (!alone && strstr(name, word))) return true;
		list += len + (list[len] == ':');
	}
	return false;
}

static void note_program(const struct dl_phdr_info *info)
{
	for (size_t i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		if (p->p_type != PT_LOAD || !(p->p_flags & PF_X)) continue;
		program = (struct range){info->dlpi_addr + p->p_vaddr, info->dlpi_addr + p->p_vaddr + p->p_memsz, info->dlpi_addr};
	}
}

static int add_module(struct dl_phdr_info *info, size_t size, void *ctx)
{
	(void)size;
	(void)ctx;
	if (!module_wanted(*info->dlpi_name ? info->dlpi_name : ".")) {
		if (!*info->dlpi_name && module_wanted("~")) note_program(info);
		return 0;
	}
	for (size_t i = 0; i < info->dlpi_phnum && range_count < RANGES_MAX; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		if (p->p_type != PT_LOAD || !(p->p_flags & PF_X)) continue;
		uintptr_t from = info->dlpi_addr + p->p_vaddr;
		ranges[range_count++] = (struct range){from, from + p->p_memsz, info->dlpi_addr};
	}
	return 0;
}

static const struct range *range_of(const void *caller)
{
	for (size_t i = 0; i < range_count; i++) {
		if ((uintptr_t)caller >= ranges[i].from && (uintptr_t)caller < ranges[i].to) return &ranges[i];
	}
	return NULL;
}

/* Does the program do this for a call of ours? Its frames come first, then one of ours. */
static __attribute__((noinline)) bool for_ours(const void *caller)
{
	void *frames[VIA_FRAMES];
	int count, i = 0;

	if (!program.to || (uintptr_t)caller < program.from || (uintptr_t)caller >= program.to) return false;
	count = backtrace(frames, VIA_FRAMES);
	while (i < count && frames[i] != caller) i++;
	while (i < count && (uintptr_t)frames[i] >= program.from && (uintptr_t)frames[i] < program.to) i++;
	return i < count && range_of(frames[i]) != NULL;
}

static void find_ranges(void)
{
	unsigned generation = atomic_load(&control->generation);

	if (atomic_load(&ranges_of) == generation) return;
	range_count = 0;
	dl_iterate_phdr(add_module, NULL);
	atomic_store(&ranges_of, generation);
}

/* The same in each run of the program: offsets in our modules. */
static uint64_t stack_hash(void)
{
	void *frames[FAULT_STACK_MAX];
	int count = backtrace(frames, FAULT_STACK_MAX);
	uint64_t hash = 14695981039346656037u;

	for (int i = 0; i < count; i++) {
		const struct range *r = range_of(frames[i]);
		if (!r && (uintptr_t)frames[i] >= program.from && (uintptr_t)frames[i] < program.to) r = &program;
		if (r) hash = (hash ^ ((uintptr_t)frames[i] - r->base)) * 1099511628211u;
	}
	return hash ? hash : 1;
}

/* Where this hash is, or is to be put; NULL: the table is full. */
static _Atomic uint64_t *stack_slot(uint64_t hash)
{
	for (size_t i = 0; i < FAULT_STACKS_MAX; i++) {
		_Atomic uint64_t *slot = &control->stacks[(hash + i) & (FAULT_STACKS_MAX - 1)];
		uint64_t held = atomic_load(slot);
		if (held == 0 || held == hash) return slot;
	}
	return NULL;
}

static void note_where(void)
{
	void *frames[FAULT_STACK_MAX + 2];
	int count = backtrace(frames, FAULT_STACK_MAX + 2);
	size_t used = 0;

	for (int i = 2; i < count; i++) {
		Dl_info info;
		if (used >= sizeof(control->where) || !dladdr(frames[i], &info) || !info.dli_fname) continue;
		const char *slash = strrchr(info.dli_fname, '/');
		int len = snprintf(control->where + used, sizeof(control->where) - used, "%s+0x%lx ", slash ? slash + 1 : info.dli_fname,
			(unsigned long)((uintptr_t)frames[i] - (uintptr_t)info.dli_fbase - 1));
		used += len > 0 ? (size_t)len : 0;
	}
}

/* Whether this call, one of those that are counted, is the nth or one behind it. */
static bool is_nth(void)
{
	bool distinct = atomic_load(&control->distinct);
	uint64_t fired = atomic_load(&control->fired), hash = 0;
	_Atomic uint64_t *slot = NULL;

	if (distinct && fired > 0) return fired < atomic_load(&control->count);
	if (distinct) {
		hash = stack_hash();
		slot = stack_slot(hash);
		if (!slot || atomic_load(slot) == hash) return false;
	}
	uint64_t number = atomic_fetch_add(&control->seen, 1) + 1, nth = atomic_load(&control->nth);
	if (number < nth || number - nth >= atomic_load(&control->count)) return false;
	if (slot) atomic_store(slot, hash);
	return true;
}

/* Whether this call is to fail; then errno is set. */
static __attribute__((noinline)) bool fails(enum fault_kind kind, const void *caller)
{
	if (atomic_load_explicit(&control->kind, memory_order_acquire) != (unsigned)kind || inside) return false;
	inside = inside + 1;
	find_ranges();
	bool fail = (range_of(caller) || for_ours(caller)) && is_nth();
	if (fail && atomic_fetch_add(&control->fired, 1) == 0) note_where();
	inside = inside - 1;
	if (fail) errno = atomic_load(&control->error);
	return fail;
}

#define FAILS(kind) fails(kind, __builtin_return_address(0))

/* What the loader keeps for what backtrace loads, which comes by this malloc now. */
FRONT const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) /* NOLINT(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp): the sanitizer's */
{
	return "leak:_dl_map_object_deps\n";
}

static __attribute__((constructor)) void begin(void)
{
	const char *path = getenv(FAULT_FILE_ENV);
	void *frames[2];

	(void)backtrace(frames, 2); /* the first loads a library */
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	if (fd < 0) return;
	void *map = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (map != MAP_FAILED) control = map;
}

/* --- memory ------------------------------------------------------------------------------------------------------------- */

static void *early_memory(size_t size)
{
	size_t from = early_used;

	early_used += (size + 15) & ~(size_t)15;
	return early_used <= EARLY_BYTES ? early + from : NULL;
}

static bool is_early(const void *p)
{
	return (uintptr_t)p >= (uintptr_t)early && (uintptr_t)p < (uintptr_t)early + EARLY_BYTES;
}

static void *counted(void *p)
{
	if (p) atomic_fetch_add(&live, 1);
	return p;
}

FRONT void *malloc(size_t size)
{
	static void *(*real)(size_t);

	if (!real) {
		if (inside) return early_memory(size);
		find_real((void **)&real, "malloc");
	}
	return FAILS(FAULT_MEMORY) ? NULL : counted(real(size));
}

FRONT void *calloc(size_t count, size_t size)
{
	static void *(*real)(size_t, size_t);

	if (!real) {
		if (inside) return early_memory(count * size);
		find_real((void **)&real, "calloc");
	}
	return FAILS(FAULT_MEMORY) ? NULL : counted(real(count, size));
}

FRONT void *realloc(void *old, size_t size)
{
	static void *(*real)(void *, size_t);
	if (!real) find_real((void **)&real, "realloc");
	if (FAILS(FAULT_MEMORY)) return NULL;
	if (is_early(old)) {
		void *fresh = malloc(size);
		size_t rest = (size_t)(early + EARLY_BYTES - (char *)old);
		return fresh ? memcpy(fresh, old, size < rest ? size : rest) : NULL;
	}
	void *fresh = real(old, size);
	if (!old) return counted(fresh);
	if (size == 0 && !fresh) atomic_fetch_sub(&live, 1);
	return fresh;
}

FRONT void *aligned_alloc(size_t alignment, size_t size)
{
	static void *(*real)(size_t, size_t);
	if (!real) find_real((void **)&real, "aligned_alloc");
	return FAILS(FAULT_MEMORY) ? NULL : counted(real(alignment, size));
}

FRONT void free(void *p)
{
	static void (*real)(void *);
	if (!p || is_early(p)) return;
	if (!real) {
		if (inside) return; /* dlsym forgets an earlier error; once */
		find_real((void **)&real, "free");
	}
	atomic_fetch_sub(&live, 1);
	real(p);
}

FRONT char *strndup(const char *text, size_t max)
{
	size_t len = strnlen(text, max);

	if (FAILS(FAULT_MEMORY)) return NULL;
	char *copy = malloc(len + 1); /* not counted again if this module is none of ours; NULL is an answer all the same */
	if (copy) {
		memcpy(copy, text, len);
		copy[len] = '\0';
	}
	return copy;
}

FRONT char *strdup(const char *text)
{
	size_t len = strlen(text) + 1;

	if (FAILS(FAULT_MEMORY)) return NULL;
	char *copy = malloc(len);
	return copy ? memcpy(copy, text, len) : NULL;
}

FRONT int vasprintf(char **out, const char *fmt, va_list args)
{
	static int (*real)(char **, const char *, va_list);
	if (!real) find_real((void **)&real, "vasprintf");
	return FAILS(FAULT_MEMORY) ? -1 : real(out, fmt, args);
}

FRONT int asprintf(char **out, const char *fmt, ...)
{
	static int (*real)(char **, const char *, va_list);
	va_list args;

	if (!real) find_real((void **)&real, "vasprintf");
	if (FAILS(FAULT_MEMORY)) return -1;
	va_start(args, fmt);
	int len = real(out, fmt, args);
	va_end(args);
	return len;
}

/* --- writing and reading -------------------------------------------------------------------------------------------------- */

/* How much of this to write: less than all when this call is to be short, then *error is false; 0 and *error when it fails. */
static size_t allowed(size_t len, const void *caller, bool *error)
{
	*error = fails(FAULT_WRITE, caller);
	if (*error) return 0;
	return len > 1 && fails(FAULT_SHORT, caller) ? len / 2 : len;
}

#define ALLOWED(len) allowed(len, __builtin_return_address(0), &error)

FRONT ssize_t write(int fd, const void *data, size_t len)
{
	bool error;
	REAL(write);
	len = ALLOWED(len);
	return error ? -1 : real_write(fd, data, len);
}

FRONT ssize_t pwrite(int fd, const void *data, size_t len, off_t at)
{
	bool error;
	REAL(pwrite);
	len = ALLOWED(len);
	return error ? -1 : real_pwrite(fd, data, len, at);
}

FRONT ssize_t send(int fd, const void *data, size_t len, int flags)
{
	bool error;
	REAL(send);
	len = ALLOWED(len);
	return error ? -1 : real_send(fd, data, len, flags);
}

FRONT ssize_t sendto(int fd, const void *data, size_t len, int flags, const struct sockaddr *to, socklen_t to_len)
{
	REAL(sendto);
	return FAILS(FAULT_WRITE) ? -1 : real_sendto(fd, data, len, flags, to, to_len);
}

FRONT ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	REAL(sendmsg);
	struct msghdr part = *message;
	struct iovec half;
	if (FAILS(FAULT_WRITE)) return -1;
	if (part.msg_iovlen == 0 || !FAILS(FAULT_SHORT)) return real_sendmsg(fd, message, flags);
	half = (struct iovec){part.msg_iov->iov_base, (part.msg_iov->iov_len + 1) / 2};
	part.msg_iov = &half;
	part.msg_iovlen = 1;
	return real_sendmsg(fd, &part, flags);
}

FRONT ssize_t writev(int fd, const struct iovec *parts, int count)
{
	REAL(writev);
	if (FAILS(FAULT_WRITE)) return -1;
	return count > 1 && FAILS(FAULT_SHORT) ? real_writev(fd, parts, count / 2) : real_writev(fd, parts, count);
}

FRONT int ftruncate(int fd, off_t len)
{
	REAL(ftruncate);
	return FAILS(FAULT_WRITE) ? -1 : real_ftruncate(fd, len);
}

FRONT int posix_fallocate(int fd, off_t from, off_t len)
{
	REAL(posix_fallocate);
	return FAILS(FAULT_WRITE) ? errno : real_posix_fallocate(fd, from, len);
}

FRONT int rename(const char *from, const char *to)
{
	REAL(rename);
	return FAILS(FAULT_WRITE) ? -1 : real_rename(from, to);
}

FRONT ssize_t read(int fd, void *data, size_t len)
{
	REAL(read);
	return FAILS(FAULT_READ) ? -1 : real_read(fd, data, len);
}

FRONT ssize_t recv(int fd, void *data, size_t len, int flags)
{
	REAL(recv);
	return FAILS(FAULT_READ) ? -1 : real_recv(fd, data, len, flags);
}

FRONT ssize_t pread(int fd, void *data, size_t len, off_t at)
{
	REAL(pread);
	return FAILS(FAULT_READ) ? -1 : real_pread(fd, data, len, at);
}

/* --- syncing, descriptors ---------------------------------------------------------------------------------------------------- */

FRONT int fsync(int fd)
{
	REAL(fsync);
	return FAILS(FAULT_SYNC) ? -1 : real_fsync(fd);
}

FRONT int fdatasync(int fd)
{
	REAL(fdatasync);
	return FAILS(FAULT_SYNC) ? -1 : real_fdatasync(fd);
}

FRONT int msync(void *at, size_t len, int flags)
{
	REAL(msync);
	return FAILS(FAULT_SYNC) ? -1 : real_msync(at, len, flags);
}

FRONT int open(const char *path, int flags, ...)
{
	static int (*real)(const char *, int, ...);
	va_list args;

	if (!real) find_real((void **)&real, "open");
	if (FAILS(FAULT_OPEN)) return -1;
	va_start(args, flags);
	mode_t mode = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(args, mode_t) : 0;
	va_end(args);
	return real(path, flags, mode);
}

FRONT FILE *fopen(const char *path, const char *mode)
{
	REAL(fopen);
	return FAILS(FAULT_OPEN) ? NULL : real_fopen(path, mode);
}

FRONT void *mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset)
{
	REAL(mmap);
	return FAILS(FAULT_OPEN) ? MAP_FAILED : real_mmap(at, len, protection, flags, fd, offset);
}

FRONT int socket(int domain, int type, int protocol)
{
	REAL(socket);
	return FAILS(FAULT_OPEN) ? -1 : real_socket(domain, type, protocol);
}

FRONT int accept4(int fd, struct sockaddr *from, socklen_t *len, int flags)
{
	REAL(accept4);
	return FAILS(FAULT_OPEN) ? -1 : real_accept4(fd, from, len, flags);
}

FRONT int eventfd(unsigned count, int flags)
{
	REAL(eventfd);
	return FAILS(FAULT_OPEN) ? -1 : real_eventfd(count, flags);
}

FRONT int epoll_create1(int flags)
{
	REAL(epoll_create1);
	return FAILS(FAULT_OPEN) ? -1 : real_epoll_create1(flags);
}

FRONT int pipe2(int fds[2], int flags)
{
	REAL(pipe2);
	return FAILS(FAULT_OPEN) ? -1 : real_pipe2(fds, flags);
}

FRONT int epoll_ctl(int fd, int op, int of, struct epoll_event *event)
{
	REAL(epoll_ctl);
	int result = real_epoll_ctl(fd, op, of, event);
	if (op != EPOLL_CTL_ADD || result != 0 || !FAILS(FAULT_EPOLL)) return result;
	(void)real_epoll_ctl(fd, EPOLL_CTL_DEL, of, event); /* it was there a moment ago */
	return -1;
}

/* A module that is loaded now may be one of those whose calls are counted. */
FRONT void *dlopen(const char *path, int flags)
{
	REAL(dlopen);
	void *module = real_dlopen(path, flags);
	atomic_store(&ranges_of, 0);
	return module;
}

/* --- the same with 64 bits of offset, which is no difference here ------------------------------------------------------------- */

_Static_assert(sizeof(off_t) == 8, "offsets have 64 bits anyway");
#define ALSO(name) FRONT __attribute__((alias(#name)))
ALSO(open) int open64(const char *path, int flags, ...);
ALSO(fopen) FILE *fopen64(const char *path, const char *mode);
ALSO(pwrite) ssize_t pwrite64(int fd, const void *data, size_t len, off64_t at);
ALSO(pread) ssize_t pread64(int fd, void *data, size_t len, off64_t at);
ALSO(ftruncate) int ftruncate64(int fd, off64_t len);
ALSO(posix_fallocate) int posix_fallocate64(int fd, off64_t from, off64_t len);
ALSO(mmap) void *mmap64(void *at, size_t len, int protection, int flags, int fd, off64_t offset);
