/* Writes into a device's hash what we are about to give it, or have given, of other nodes' messages. Loop thread. */
#ifndef MQR_BRIDGE_DEBT_REPORT_H
#define MQR_BRIDGE_DEBT_REPORT_H

#include "bridge/catch_up.h"
#include "bridge/fetch.h"

/* For every companion among the filters that is not through: `had` is certain to have reached the device (zero: nothing).
 * Should it not get there, what is given comes again, so nobody waits for it. */
void debt_report(struct fetch_env *env, struct slice client, const struct catch_up_filter *filters, size_t count,
	struct entry_id had);

#endif
