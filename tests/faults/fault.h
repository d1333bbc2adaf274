/*
 * Calls that fail on purpose: the n-th allocation, write, sync, open or epoll_ctl made directly by the code under test (modules
 * named below). Linked into a unit test it is driven by the functions; preloaded into a server (tests/harness/faulty.h), by
 * the same structure in a file that both have mapped. Counts calls of all threads.
 */
#ifndef MQR_TESTS_FAULTS_FAULT_H
#define MQR_TESTS_FAULTS_FAULT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define FAULT_FILE_ENV "MQR_FAULT_FILE"       /* the file, of sizeof(struct fault_control) */
#define FAULT_MODULES_ENV "MQR_FAULT_MODULES" /* words in names of modules, "a:b"; "." is the program itself, "~" the program
                                               * while it works for a call of the others. Default: all of ours */
#define FAULT_STACK_MAX 16
#define FAULT_FOREVER UINT64_MAX
#define FAULT_STACKS_MAX 16384 /* a power of 2 */

enum fault_kind {
	FAULT_NONE,
	FAULT_MEMORY, /* malloc, calloc, realloc, aligned_alloc, strdup, strndup, asprintf */
	FAULT_WRITE,  /* write, writev, pwrite, send, sendto, sendmsg; ftruncate, rename */
	FAULT_SHORT,  /* the same, of which only a part is written: no error */
	FAULT_READ,   /* read, readv, pread, recv, recvmsg */
	FAULT_SYNC,   /* fsync, fdatasync, msync */
	FAULT_OPEN,   /* open, socket, accept, eventfd, epoll_create, pipe: what makes a descriptor */
	FAULT_EPOLL,  /* epoll_ctl that adds what is not there yet: the rest never fails */
	FAULT_KINDS
};

struct fault_control {
	atomic_uint kind;      /* enum fault_kind; set last, which arms it */
	atomic_uint generation; /* grows with each arming */
	_Atomic uint64_t nth, count; /* the nth call fails, 1 the first, and what comes until count have failed */
	_Atomic int error;     /* errno */
	atomic_bool distinct;  /* counted are only calls with a stack that has not failed before */
	_Atomic uint64_t stacks[FAULT_STACKS_MAX]; /* those that have */
	_Atomic uint64_t seen; /* calls since it was armed */
	_Atomic uint64_t fired; /* of them have failed */
	char where[256];       /* the stack of the first that failed: "module+offset ..." */
};

void fault_arm_in(struct fault_control *c, enum fault_kind kind, uint64_t nth, uint64_t count, int error);
/* True when at least one call has failed since it was armed. */
bool fault_disarm_in(struct fault_control *c);

/* Of this process. */
struct fault_control *fault_own(void);
/* Allocations that are not freed, of all modules. */
long fault_live(void);

#endif
