/* The interface of version 2. */
#define AUTH_VERSION 2
#include "tests/neighbours/old_decider.c"
