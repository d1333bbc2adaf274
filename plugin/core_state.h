/* Inside of struct core; private to core.c, core_start.c and core_status.c. */
#ifndef MQR_PLUGIN_CORE_STATE_H
#define MQR_PLUGIN_CORE_STATE_H

#include "config/acl_file.h"
#include "plugin/append.h"
#include "plugin/assurance.h"
#include "plugin/confirm.h"
#include "plugin/core.h"
#include "plugin/devices.h"
#include "plugin/full.h"
#include "plugin/guard.h"
#include "plugin/journal.h"
#include "plugin/peer.h"
#include "plugin/qos2.h"
#include "plugin/report.h"
#include "plugin/routes.h"
#include "plugin/status_redis.h"
#include "plugin/watch.h"
#include "plugin/wills.h"
#include "plugin/writer.h"

struct core {
	struct core_broker broker;
	struct setting_override *options; /* copies; Mosquitto gives none at reload */
	size_t option_count;
	struct settings *writer_settings; /* as at start: the writer thread reads them */
	struct settings *settings;        /* as last reloaded */
	struct acl_file *acl;
	struct journal *journal;
	struct report report;
	bool report_ready;
	struct append *append;
	struct routes *routes;
	struct devices *devices;
	struct kept_file *kept;           /* where the broker tells of CONNECT */
	struct peer *peer;
	struct writer *writer;
	struct qos2 *qos2;
	struct wills *wills;
	struct watch watch;

	struct current_message current;   /* the publish whose read checks follow */
	bool current_valid;
	struct buf properties;            /* what `current` borrows */
	const void *will_handle;
	bool will_granted;
	bool will_mirrored;               /* tried once, with whatever result */
	struct entry_id will_id;          /* zero: not journalled for a rule that redelivery can read */
	struct confirm *confirm;
	struct assurance assurance;
	struct full full;
	struct guard guard;               /* of the outbox's order */

	bool booted;                      /* the boot record is journalled */
	struct entry_id previous_boot, previous_last;
	uint64_t tick_ms, status_ms;
};

/* Journals the boot record if that is still to be done. */
void core_boot(struct core *core);
/* Publishes the counters under $SYS/broker/redis when it is time. */
void core_status(struct core *core, uint64_t now_ms);

#endif
