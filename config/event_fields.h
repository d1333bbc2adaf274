/*
 * Field names of the entries in <prefix>:events:<node>, which the plugin's writer adds and the bridge reads. An entry's
 * id is the event's id. It is added in the same transaction as what it tells of, so who reads it knows that every
 * message of that node with a smaller id is in Redis.
 *
 *   op          boot | reloaded | subscribed | unsubscribed | live | gone
 *   client      client id                                  all but boot, reloaded
 *   generation  id of the connection's first subscription  all but boot, reloaded
 *   filter, qos                                            subscribed; unsubscribed has filter only
 *   user        user name, when not anonymous              subscribed
 *   rate        messages a second, when limited            subscribed
 *   again       1: told again because a bridge came        subscribed
 *   queued      up to this id only QoS 0 deliveries miss   subscribed
 *   from        already handed over up to this id          subscribed, with again
 *   replay      this is no subscription but history asked for again: what lies behind this cursor ("last=N@<id>", too),
 *               up to upto, whether the device had it or not  subscribed, with again
 *   rules       all mirror rules, past ones too, a line each; a line that is none stands for too many  boot, reloaded
 *   upto        what is owed ends here (went live without it)  subscribed, live
 */
#ifndef MQR_CONFIG_EVENT_FIELDS_H
#define MQR_CONFIG_EVENT_FIELDS_H

#define EVENT_OP "op"
#define EVENT_OP_BOOT "boot"
#define EVENT_OP_RELOADED "reloaded"
#define EVENT_OP_SUBSCRIBED "subscribed"
#define EVENT_OP_UNSUBSCRIBED "unsubscribed"
#define EVENT_OP_LIVE "live"
#define EVENT_OP_GONE "gone"
#define EVENT_CLIENT "client"
#define EVENT_GENERATION "generation"
#define EVENT_FILTER "filter"
#define EVENT_QOS "qos"
#define EVENT_USER "user"
#define EVENT_RATE "rate"
#define EVENT_AGAIN "again"
#define EVENT_QUEUED "queued"
#define EVENT_HELD "held"
#define EVENT_FROM "from"
#define EVENT_UPTO "upto"
#define EVENT_REPLAY "replay"
#define EVENT_RULES "rules"

#define EVENT_STREAM_MAXLEN 100000

#endif
