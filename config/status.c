/* Texts of the status codes. Pure; any thread. */
#include "config/status.h"

const char *status_text(enum status st)
{
	static const char *const texts[] = {
#define X(name, text) text,
		STATUS_MAP(X)
#undef X
	};
	return (unsigned)st < ST_COUNT ? texts[st] : "unknown status";
}
