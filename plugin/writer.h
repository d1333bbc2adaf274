/*
 * The writer thread: drains the journal into Redis in id order and releases only what Redis confirmed.
 *
 * One transaction (MULTI..EXEC) at a time, as large as what has gathered meanwhile (bounded): the XADD and LPUSH of
 * every message, the topic index, session events, and last the mark, the id of the newest message in it. What comes
 * right behind a transaction is gathered for a millisecond or two, unless somebody waits (writer_wake). Redis rejects a
 * transaction whole when it cannot write (OOM, READONLY, LOADING, MISCONF, NOAUTH ...), so a refused command never lets
 * a later one of the same key pass it. After a lost reply the mark says whether the transaction was applied: that makes
 * a retry exact for streams and lists alike. What a cut connection has still under way is kept out by a WATCH of the
 * mark that was answered before the transaction was sent.
 *
 * Owns its libuv loop (not the default one; neither the thread pool nor signal handles are used) and its Redis link.
 * All signals are blocked in it. Logs through the report.
 */
#ifndef MQR_PLUGIN_WRITER_H
#define MQR_PLUGIN_WRITER_H

#include "config/settings.h"
#include "config/status.h"
#include "plugin/confirm.h"
#include "plugin/journal.h"
#include "plugin/report.h"

struct writer;

/* Borrows everything until writer_stop. `confirm` is told how far Redis is (NULL: nobody wants to know). `token` is what the
 * bridge must show; written to Redis at every connect. */
enum status writer_start(const struct settings *settings, struct journal *journal, struct report *report,
	struct confirm *confirm, const char *token, struct writer **out) MUST_CHECK;
/* Broker thread, after a commit that asked for it, or when somebody waits for what is in the journal: it is sent as soon as the
 * transaction under way is done. Never blocks. */
void writer_wake(struct writer *w);
/* Broker thread: connections from now on are made with these (user name, password, certificates). Takes one share; what
 * cannot change live must be as in the settings of writer_start. */
void writer_rewire(struct writer *w, struct settings *settings);
/* Drains for at most `drain_ms` while Redis takes what is there, ends the thread, joins it, frees. What is left stays
 * in the journal. Bears NULL. Returns within drain_ms and a second, unless a look-up of Redis' host name hangs (an
 * address needs none). */
void writer_stop(struct writer *w, unsigned drain_ms);

#endif
