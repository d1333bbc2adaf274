/* The interface of version 3. */
#define AUTH_VERSION 3
#include "tests/neighbours/old_decider.c"
