/* Tells what a device will never get: in the log, and in its session hash, where the CLI finds it. Loop thread. */
#ifndef MQR_BRIDGE_GAP_REPORT_H
#define MQR_BRIDGE_GAP_REPORT_H

#include "bridge/fetch.h"

/* Once for each catch-up. Whether Redis takes it is not waited for; a session that is forgotten stays so. */
void gap_report(struct fetch_env *env, struct slice client, const struct gap *gap);

#endif
