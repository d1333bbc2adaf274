/*
 * The script that makes one step of what is written to a slot of a Redis Cluster: all or nothing, exactly once, in order. Pure;
 * any thread.
 *
 * KEYS: the slot's mark (config/keys.h), and every key that is written, all in one slot.
 * ARGV: journal, run, order, id of what is left over, floor, id of the step, "1" when nothing in it may be refused, what this
 * run knows to be there; then for each command a label, its number of words, the words. A label is "<id of the record>.<n>", ids in ascending order, or "t" for
 * trimming, which may fail.
 *
 * The mark is "<id> <order> <run> <journal>\n" and a line "<label> <error>\n" for each command that was refused by itself. `run`
 * names a life of the writer, `order` grows from one to the next, `journal` names the file. Commands of records up to the
 * mark's id are there and are passed over; when another run wrote the mark, only those of records up to `left over` can be (the
 * clock may have been set back), and with another journal none.
 *
 * The mark is written first. So what stops all writes (OOM, READONLY, MISCONF, no replicas) comes before anything is
 * written and is the error of the whole, as before an EXEC: Redis looks at its state at a script's first write only. An error of
 * a later command is its own: it is noted in the mark, and its neighbours are written. But NOPERM, and any error where nothing
 * may be refused, ends the step before that record, and is the error of the whole. (Asking about what is there writes the mark
 * too, as this run's, and so that WAIT has something to wait for.)
 *
 * Answers an array: the mark's id as it was, then label and error of each command refused, of this step or an earlier one
 * above the floor, so that a lost answer is told again. Error "STALE <order>": somebody with a higher order has been here, so this is a copy
 * that came late, or the clock was set back. Error "LOST <id>": the mark, which is given, is below what this run knows to have
 * been there; a failover has lost it, and this step would bar the way for it.
 */
#ifndef MQR_PLUGIN_SLOT_SCRIPT_H
#define MQR_PLUGIN_SLOT_SCRIPT_H

#include "config/slice.h"

enum slot_script {
	SLOT_SCRIPT_PLAIN,
	SLOT_SCRIPT_SESSIONS, /* with the commands below */
	SLOT_SCRIPT_COUNT
};

#define SLOT_SCRIPT_FIXED 8         /* words of ARGV before the first label */
#define SLOT_COMMAND_SUBSCRIBED "@subscribed" /* of plugin/session_script.h: two keys, then its ARGV */
#define SLOT_COMMAND_UNSUBSCRIBED "@unsubscribed" /* one key */
#define SLOT_COMMAND_LEFT "@left"             /* one key */
#define SLOT_COMMAND_GONE "@gone"             /* one key */
#define SLOT_LABEL_TRIM "t"
#define SLOT_STALE "STALE"
#define SLOT_LOST "LOST"

const char *slot_script_text(enum slot_script script);
/* What EVALSHA calls it. */
#define SLOT_SCRIPT_SHA_MAX 41
void slot_script_sha(enum slot_script script, char out[SLOT_SCRIPT_SHA_MAX]);

#endif
