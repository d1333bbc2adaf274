/*
 * Between Mosquitto and our logic. Owns the one attached instance. Broker thread; must never bring the broker down.
 *
 * Access checks on 2.0.x: if every callback defers, access is denied, while without any callback it is granted. So that
 * watching changes no decision, there are two callbacks: the first always defers (or holds a delivery back), the last,
 * which is reached when nobody decided, says what the broker would have done without us. The last one is registered from
 * inside the first one, because the list is walked live, and taken out at reload, when an ACL file's own callback is
 * made anew and must come before it. 2.1 has MOSQ_ERR_PLUGIN_IGNORE instead.
 *
 * Publishes, too, have a last callback on 2.1: what does not come to it was refused by another plugin, which plugin/guard.h
 * wants to know. It is registered when a bridge speaks to us, as every plugin is loaded by then. (On 2.0.x a refusal
 * ends the connection.)
 */
#include "plugin/broker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "config/control.h"
#include "plugin/core.h"
#include "plugin/handed.h"
#include "plugin/neighbours.h"
#include "plugin/properties.h"
#include "plugin/untold.h"

#if MOSQUITTO_HAS_EVENTS
#define PASS_ON MOSQ_ERR_PLUGIN_IGNORE
#define WAKE_MS 50 /* as 2.0 turns its loop at least every 100 ms */
#else
#define PASS_ON MOSQ_ERR_PLUGIN_DEFER
#endif

static struct {
	mosquitto_plugin_id_t *id;
	struct core *core;
	struct buf topic;         /* for NUL-terminated texts */
	bool neighbours_known, neighbours;
	bool last_registered;
	bool undecided_known, undecided; /* what nobody decides is allowed; asked anew after each reload */
	bool passed_registered, passed_stale; /* the last callback of publishes; it may be the last no more */
	struct handed handed;
	uint64_t published;       /* messages */
#if !MOSQUITTO_HAS_EVENTS
	struct untold untold;     /* 2.0.11 with per_listener_settings true does not tell of its turns */
#endif
} attached;

/* --- outlet ------------------------------------------------------------------------------------------------------ */

static void log_write(void *ctx, enum log_level level, const char *line)
{
	static const int levels[] = {MOSQ_LOG_ERR, MOSQ_LOG_WARNING, MOSQ_LOG_NOTICE, MOSQ_LOG_INFO, MOSQ_LOG_DEBUG};

	(void)ctx; /* the broker has one log */
	mosquitto_log_printf(levels[level], "mosquitto-redis: %s", line);
}

static uint64_t wall_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000u + (uint64_t)ts.tv_nsec / 1000000u;
}

/* Takes `list` in any case. */
static enum status publish(const char *client, const char *topic, struct slice payload, int qos, bool retain,
	mosquitto_property *list)
{
	void *copy = payload.len > 0 ? mosquitto_malloc(payload.len) : NULL;
	int rc = MOSQ_ERR_NOMEM;

	if (copy) memcpy(copy, payload.data, payload.len);
	attached.published++;
	if (copy || payload.len == 0)
		rc = mosquitto_broker_publish(client, topic, (int)payload.len, copy, qos, retain, list);
	if (rc == MOSQ_ERR_SUCCESS) return ST_OK;
	if (copy) mosquitto_free(copy);
	mosquitto_property_free_all(&list);
	return ST_NOMEM;
}

static void hand_over(void)
{
	if (attached.handed.items) attached.published++;
	if (handed_publish(&attached.handed) != ST_OK)
		log_write(NULL, LOG_LEVEL_ERROR, "out of memory: what devices are due comes later");
	else core_given(attached.core);
}

/* Until no connection can come in between. Takes `list` in any case. */
static enum status hand(const char *client, const char *topic, struct slice payload, int qos, mosquitto_property *list)
{
#if MOSQUITTO_HAS_EVENTS
	bool first = !attached.handed.items;
	enum status st = handed_put(&attached.handed, client, topic, payload, qos, list);

	if (first) handed_call(&attached.handed);
	return st;
#else
	if (!untold_defers(&attached.untold)) return publish(client, topic, payload, qos, false, list);
	return handed_put(&attached.handed, client, topic, payload, qos, list);
#endif
}

static enum status outlet_deliver(void *ctx, const char *client, const struct message *m, uint8_t qos,
	enum delivery kind, const struct mqtt5_extras *v5)
{
	mosquitto_property *list = NULL;
	enum status st = ST_OK;

	(void)ctx; /* the broker is one */
	if (v5 || m->has_expiry) st = properties_write(m, wall_ms(), kind == DELIVERY_BACKLOG, v5 ? v5->subscription_id : 0, &list);
	else if (MOSQUITTO_HAS_EVENTS) st = properties_mark(m, &list); /* not sent; on_message_out sees it */
	if (st == ST_END) return ST_END; /* expired while it waited */
	buf_clear(&attached.topic);
	buf_append_slice(&attached.topic, m->topic);
	buf_u8(&attached.topic, 0);
	if (st == ST_OK && !attached.topic.failed) return hand(client, attached.topic.data, m->payload, qos, list);
	mosquitto_property_free_all(&list);
	return ST_NOMEM;
}

static enum status outlet_tell_bridge(void *ctx, const char *client, const void *payload, size_t len)
{
	(void)ctx;
	return publish(client, CONTROL_TOPIC_BRIDGE, slice_of(payload, len), 0, false, NULL);
}

static enum status outlet_publish_status(void *ctx, const char *topic, const char *text)
{
	(void)ctx;
	return publish(NULL, topic, slice_str(text), 0, true, NULL);
}

static const struct outlet outlet = {
	.deliver = outlet_deliver,
	.tell_bridge = outlet_tell_bridge,
	.publish_status = outlet_publish_status,
	.log = {.write = log_write},
	.tells_sent = MOSQUITTO_HAS_EVENTS,
};

/* --- what the broker knows ------------------------------------------------------------------------------------------ */

static struct client_info info_of(const struct mosquitto *client)
{
	return (struct client_info){
		.id = mosquitto_client_id(client), .user = mosquitto_client_username(client),
		.v5 = mosquitto_client_protocol_version(client) == 5, .clean = mosquitto_client_clean_session(client),
		.keepalive_s = (uint32_t)mosquitto_client_keepalive(client),
	};
}

static int subscription_count(const void *handle)
{
	return mosquitto_client_sub_count(handle);
}

#if MOSQUITTO_HAS_EVENTS
static int session_subscriptions(const char *client)
{
	const struct mosquitto *session = mosquitto_client(client);

	return session ? mosquitto_client_sub_count(session) : -1;
}
#endif

/* Asked at the first access check, when every plugin of mosquitto.conf is loaded, and after each reload. */
static bool others_loaded(void)
{
	char name[256];

	if (attached.neighbours_known) return attached.neighbours;
	attached.neighbours_known = true;
	attached.neighbours = neighbours_count((const void *)(uintptr_t)broker_attach, name, sizeof name) > 0;
	if (attached.neighbours)
		log_to(&outlet.log, LOG_LEVEL_NOTICE, "access: another plugin is loaded (%s)", name);
	return attached.neighbours;
}

static void describe(struct message *m, const struct mosquitto *client, const char *topic, const void *payload,
	uint32_t payloadlen, uint8_t qos, bool retain)
{
	const char *id = mosquitto_client_id(client);
	struct slice absent = {0}, name = slice_str(topic), publisher = slice_str(id ? id : "");
	struct slice user = slice_str(mosquitto_client_username(client));

	/* Field by field: of an assignment to the whole the compiler makes a loop that takes longer than all else here. */
	m->id = ENTRY_ID_ZERO;
	m->topic = name;
	m->payload = slice_of(payload ? payload : "", payloadlen);
	m->client = publisher;
	m->user = user;
	m->qos = qos;
	m->retain = retain;
	m->will = m->has_expiry = false;
	m->expiry_ms = 0;
	m->payload_format = -1;
	m->content_type = absent;
	m->response_topic = absent;
	m->correlation = absent;
	m->user_properties = absent;
	m->node = 0;
}

/* --- access checks ---------------------------------------------------------------------------------------------------- */

#if !MOSQUITTO_HAS_EVENTS
SELDOM static void find_undecided(void)
{
	static bool told;
	enum acl_default setting = core_acl_default(attached.core);
	bool allow = setting == ACL_DEFAULT_ALLOW || (setting == ACL_DEFAULT_DETECT && !others_loaded());

	if (!told)
		log_to(&outlet.log, LOG_LEVEL_NOTICE, "access: what nobody decides is %s (%s)", allow ? "allowed" : "denied",
			setting != ACL_DEFAULT_DETECT ? "setting acl_default"
			: allow ? "as without plugins" : "another plugin is loaded and denies by not deciding");
	told = true;
	attached.undecided_known = true;
	attached.undecided = allow;
}

static int on_acl_last(int event, void *event_data, void *userdata)
{
	const struct mosquitto_evt_acl_check *ed = event_data;

	(void)event;
	(void)userdata;
	if (!attached.core) return MOSQ_ERR_PLUGIN_DEFER;
	if (!attached.undecided_known) find_undecided();
	if (!attached.undecided) return MOSQ_ERR_PLUGIN_DEFER;
	if (ed->access == MOSQ_ACL_WRITE) core_write_granted(attached.core, ed->client);
	return MOSQ_ERR_SUCCESS;
}

SELDOM static bool register_last(void)
{
	attached.last_registered = mosquitto_callback_register(attached.id, MOSQ_EVT_ACL_CHECK, on_acl_last, NULL, NULL)
		== MOSQ_ERR_SUCCESS;
	return attached.last_registered;
}

static void remove_last(void)
{
	if (!attached.last_registered) return;
	mosquitto_callback_unregister(attached.id, MOSQ_EVT_ACL_CHECK, on_acl_last, NULL);
	attached.last_registered = false;
}

SELDOM static void subscription_check(const struct mosquitto_evt_acl_check *ed)
{
	struct client_info client = info_of(ed->client);

	if (ed->access == MOSQ_ACL_UNSUBSCRIBE)
		core_unsubscribed(attached.core, client.id, ed->topic);
	else
		core_subscribe_check(attached.core, ed->client, &client, ed->topic, ed->qos,
			mosquitto_client_sub_count(ed->client));
}
#endif

SELDOM static void will_check(const struct mosquitto_evt_acl_check *ed)
{
	struct client_info client = info_of(ed->client);
	struct message will;

	describe(&will, ed->client, ed->topic, ed->payload, ed->payloadlen, ed->qos, ed->retain);
	core_will_check(attached.core, ed->client, &client, &will, ed->properties);
}

#if !MOSQUITTO_HAS_EVENTS
SELDOM static void look_for_return(const struct mosquitto_evt_acl_check *ed)
{
	struct client_info client = info_of(ed->client);
	bool certain = ed->access == MOSQ_ACL_SUBSCRIBE || ed->access == MOSQ_ACL_UNSUBSCRIBE;
	struct read_check read = {slice_str(ed->topic), slice_of(ed->payload, ed->payloadlen), ed->qos};

	core_back(attached.core, ed->client, &client, mosquitto_client_sub_count(ed->client), certain,
		ed->access == MOSQ_ACL_READ ? &read : NULL);
}
#endif

APART static bool hold_back(const struct mosquitto_evt_acl_check *ed)
{
	return core_read_check(attached.core, mosquitto_client_id(ed->client), slice_str(ed->topic),
		slice_of(ed->payload, ed->payloadlen), ed->qos);
}

static bool named(const struct mosquitto_evt_acl_check *ed)
{
	return mosquitto_client_id(ed->client) != NULL;
}

#if MOSQUITTO_HAS_EVENTS
EVERY_MESSAGE static int on_acl_first(int event, void *event_data, void *userdata)
{
	const struct mosquitto_evt_acl_check *ed = event_data;

	(void)event;
	(void)userdata;
	if (!attached.core || !ed->client) return PASS_ON;
	if (ed->access == MOSQ_ACL_WRITE && core_write_check(attached.core, ed->client) && named(ed)) will_check(ed);
	if (ed->access == MOSQ_ACL_READ && core_checks_reads(attached.core, ed->qos) && named(ed) && hold_back(ed))
		return MOSQ_ERR_ACL_DENIED;
	return PASS_ON;
}
#else
EVERY_MESSAGE static int check_first(const struct mosquitto_evt_acl_check *ed)
{
	/* Without it what nobody decides would be denied, and a denied publish is acknowledged to MQTT 3.1.1. */
	if (!attached.last_registered && !register_last()) return MOSQ_ERR_NOMEM;
	if (core_expects_return(attached.core) && named(ed) && core_expects(attached.core, mosquitto_client_id(ed->client)))
		look_for_return(ed);
	switch (ed->access) {
	case MOSQ_ACL_WRITE:
		if (core_write_check(attached.core, ed->client) && named(ed)) will_check(ed);
		break;
	case MOSQ_ACL_READ:
		if (untold_called(&attached.untold, ed->topic, slice_of(ed->payload ? ed->payload : "", ed->payloadlen)))
			return MOSQ_ERR_ACL_DENIED;
		if (core_checks_reads(attached.core, ed->qos) && named(ed) && hold_back(ed)) return MOSQ_ERR_ACL_DENIED;
		break;
	case MOSQ_ACL_SUBSCRIBE:
		if (untold_listens(&attached.untold, mosquitto_client_id(ed->client), ed->topic)) return MOSQ_ERR_SUCCESS;
		/* fall through */
	case MOSQ_ACL_UNSUBSCRIBE:
		if (named(ed)) subscription_check(ed);
		break;
	default:
		break;
	}
	return PASS_ON;
}

EVERY_MESSAGE static int on_acl_first(int event, void *event_data, void *userdata)
{
	const struct mosquitto_evt_acl_check *ed = event_data;
	int rc;

	(void)event;
	(void)userdata;
	if (!attached.core || !ed->client) return PASS_ON;
	rc = check_first(ed);
	untold_end(&attached.untold);
	return rc;
}
#endif

/* --- other events ----------------------------------------------------------------------------------------------------- */

/* The code that gives the publisher no success: MQTT 5 on 2.1 hears "quota exceeded"; everybody else loses the connection,
 * since the broker would acknowledge a 3.1.1 publish all the same. */
static int refusal(const struct mosquitto *client)
{
#if MOSQUITTO_HAS_EVENTS
	if (mosquitto_client_protocol_version(client) == 5) return MOSQ_ERR_QUOTA_EXCEEDED;
#endif
	(void)client;
	return MOSQ_ERR_UNKNOWN;
}

EVERY_MESSAGE static int on_message(int event, void *event_data, void *userdata)
{
	struct mosquitto_evt_message *ed = event_data;
	struct message *m;

	(void)event;
	(void)userdata;
	if (!attached.core) return MOSQ_ERR_SUCCESS;
#if !MOSQUITTO_HAS_EVENTS
	untold_begin(&attached.untold);
#endif
	m = core_message(attached.core);
	describe(m, ed->client, ed->topic, ed->payload, ed->payloadlen, ed->qos, ed->retain);
	if (!core_publish(attached.core, ed->client, m, ed->properties)) return refusal(ed->client);
	if (!attached.passed_registered) core_published(attached.core, m->client.data);
	return MOSQ_ERR_SUCCESS;
}

#if MOSQUITTO_HAS_EVENTS
static int on_passed(int event, void *event_data, void *userdata)
{
	const struct mosquitto_evt_message *ed = event_data;
	const char *id = mosquitto_client_id(ed->client);

	(void)event;
	(void)userdata;
	if (attached.core && id) core_published(attached.core, id);
	return MOSQ_ERR_SUCCESS;
}

static void remove_passed(void)
{
	if (attached.passed_registered)
		mosquitto_callback_unregister(attached.id, MOSQ_EVT_MESSAGE, on_passed, NULL);
	attached.passed_registered = false;
}

static void ensure_passed(void)
{
	if (attached.passed_registered && !attached.passed_stale) return;
	remove_passed();
	attached.passed_stale = false;
	attached.passed_registered = mosquitto_callback_register(attached.id, MOSQ_EVT_MESSAGE, on_passed, NULL, NULL)
		== MOSQ_ERR_SUCCESS;
}
#endif

static int on_control(int event, void *event_data, void *userdata)
{
	struct mosquitto_evt_control *ed = event_data;
	const char *id = mosquitto_client_id(ed->client);
	bool taken;

	(void)event;
	(void)userdata;
#if MOSQUITTO_HAS_EVENTS
	ensure_passed();
	if (!attached.passed_registered) return MOSQ_ERR_NOMEM; /* every publish would seem to be refused */
#else
	if (attached.core) untold_begin(&attached.untold);
#endif
	taken = attached.core && id
		&& core_control(attached.core, id, slice_of(ed->payload ? ed->payload : "", ed->payloadlen));
#if !MOSQUITTO_HAS_EVENTS
	untold_end(&attached.untold);
#endif
	return taken ? MOSQ_ERR_SUCCESS : MOSQ_ERR_ACL_DENIED; /* denied: the broker closes the connection */
}

static int on_replay(int event, void *event_data, void *userdata)
{
	struct mosquitto_evt_control *ed = event_data;
	const char *id = mosquitto_client_id(ed->client);

	(void)event;
	(void)userdata;
	if (attached.core && id && core_replay(attached.core, id, slice_of(ed->payload ? ed->payload : "", ed->payloadlen)))
		return MOSQ_ERR_SUCCESS;
	return MOSQ_ERR_ACL_DENIED;
}

#if MOSQUITTO_HAS_EVENTS
/* What it was handed and the broker does not have yet. */
static void take_back(const char *client)
{
	handed_drop(&attached.handed, client);
	core_taken_back(attached.core, client);
}
#endif

#if MOSQUITTO_HAS_EVENTS
static void disconnected(int event, const struct mosquitto_evt_disconnect *ed, const struct client_info *client)
{
	if (client->id) take_back(client->id);
	if (ed->reason == MOSQ_ERR_SUCCESS && client->id) core_goodbye(attached.core, client->id);
	core_disconnected(attached.core, ed->client, client->id, client->v5, event == MOSQ_EVT_CLIENT_OFFLINE);
}
#else
static void disconnected(int event, const struct mosquitto_evt_disconnect *ed, const struct client_info *client)
{
	(void)event;
	untold_begin(&attached.untold);
	if (client->id && !client->clean) core_ending(attached.core, client, mosquitto_client_sub_count(ed->client));
	if (client->id && core_takes_back(attached.core, client->id)) handed_drop(&attached.handed, client->id);
	core_disconnected(attached.core, ed->client, client->id, client->v5, !client->clean);
	untold_disconnected(&attached.untold, client->id);
	untold_end(&attached.untold);
}
#endif

static int on_disconnect(int event, void *event_data, void *userdata)
{
	const struct mosquitto_evt_disconnect *ed = event_data;
	struct client_info client;

	(void)userdata;
	if (!attached.core || !ed->client) return MOSQ_ERR_SUCCESS;
	client = info_of(ed->client);
	disconnected(event, ed, &client);
	return MOSQ_ERR_SUCCESS;
}

#if MOSQUITTO_HAS_EVENTS
/* Does the broker have all that it was handed in the turn before? If not, that turn goes on. */
static bool is_taken_over(void)
{
	bool vain, all = handed_turn(&attached.handed, &vain);

	if (vain) hand_over();
	return all;
}
#endif

/* At every turn of the loop. On 2.1 a tick that asks for no time comes with every turn, but wakes nobody: on_wake does. */
static int on_tick(int event, void *event_data, void *userdata)
{
	(void)event;
	(void)event_data;
	(void)userdata;
	if (!attached.core) return MOSQ_ERR_SUCCESS;
#if MOSQUITTO_HAS_EVENTS
	if (attached.passed_stale) ensure_passed();
	core_tick(attached.core, is_taken_over());
#else
	core_tick(attached.core, true);
	untold_told(&attached.untold);
	hand_over();
#endif
	return MOSQ_ERR_SUCCESS;
}

#if MOSQUITTO_HAS_EVENTS
static int on_wake(int event, void *event_data, void *userdata)
{
	struct mosquitto_evt_tick *ed = event_data;

	(void)event;
	(void)userdata;
	ed->next_ms = WAKE_MS;
	return MOSQ_ERR_SUCCESS;
}
#endif

static int on_reload(int event, void *event_data, void *userdata)
{
	(void)event;
	(void)event_data; /* the broker gives no options at reload */
	(void)userdata;
	attached.neighbours_known = false;
	attached.passed_stale = attached.passed_registered; /* others may register anew */
#if !MOSQUITTO_HAS_EVENTS
	remove_last();
	attached.undecided_known = false;
#endif
	if (attached.core) core_reload(attached.core);
#if MOSQUITTO_HAS_EVENTS
	return MOSQ_ERR_SUCCESS;
#else
	return MOSQ_ERR_PLUGIN_DEFER; /* success would keep the reload from other plugins, an error would end the broker */
#endif
}

#if MOSQUITTO_HAS_EVENTS
static int on_connect(int event, void *event_data, void *userdata)
{
	const struct mosquitto_evt_connect *ed = event_data;
	struct client_info client = info_of(ed->client);

	(void)event;
	(void)userdata;
	if (attached.core && client.id)
		core_connected(attached.core, &client, mosquitto_client_sub_count(ed->client));
	return MOSQ_ERR_SUCCESS;
}

static int on_message_out(int event, void *event_data, void *userdata)
{
	const struct mosquitto_evt_message *ed = event_data;
	const char *client = mosquitto_client_id(ed->client);
	struct slice payload = slice_of(ed->payload ? ed->payload : "", ed->payloadlen);
	struct entry_id id = ENTRY_ID_ZERO;
	enum handed_answer answer;

	(void)event;
	(void)userdata;
	if (!attached.core || !client || !ed->topic) return MOSQ_ERR_SUCCESS;
	answer = handed_called(&attached.handed, ed->topic, payload);
	if (answer == HANDED_NOW) hand_over();
	if (answer != HANDED_OTHER) return MOSQ_ERR_PLUGIN_IGNORE; /* not sent, and not logged either */
	if (!core_awaits(attached.core, client, slice_str(ed->topic), payload)) return MOSQ_ERR_SUCCESS;
	(void)properties_id(ed->properties, &id);
	core_sent(attached.core, client, id, slice_str(ed->topic), payload);
	return MOSQ_ERR_SUCCESS;
}

static int on_subscribe(int event, void *event_data, void *userdata)
{
	const struct mosquitto_evt_subscribe *ed = event_data;
	struct client_info client = info_of(ed->client);

	(void)event;
	(void)userdata;
	client.subscription_id = ed->data.identifier;
	if (attached.core && client.id)
		core_subscribed(attached.core, &client, ed->data.topic_filter, ed->data.options & 0x03,
			mosquitto_client_sub_count(ed->client));
	return MOSQ_ERR_SUCCESS;
}

static int on_unsubscribe(int event, void *event_data, void *userdata)
{
	const struct mosquitto_evt_unsubscribe *ed = event_data;
	const char *id = mosquitto_client_id(ed->client);

	(void)event;
	(void)userdata;
	if (attached.core && id) core_unsubscribed(attached.core, id, ed->data.topic_filter);
	return MOSQ_ERR_SUCCESS;
}
#endif

/* --- attach ------------------------------------------------------------------------------------------------------------ */

static const struct {
	int event;
	MOSQ_FUNC_generic_callback function;
	const char *data;
} callbacks[] = {
	{MOSQ_EVT_RELOAD, on_reload, NULL},
	{MOSQ_EVT_ACL_CHECK, on_acl_first, NULL},
	{MOSQ_EVT_CONTROL, on_control, CONTROL_TOPIC},
	{MOSQ_EVT_CONTROL, on_replay, CONTROL_TOPIC_REPLAY},
	{MOSQ_EVT_MESSAGE, on_message, NULL},
	{MOSQ_EVT_TICK, on_tick, NULL},
	{MOSQ_EVT_DISCONNECT, on_disconnect, NULL},
#if MOSQUITTO_HAS_EVENTS
	{MOSQ_EVT_TICK, on_wake, NULL},
	{MOSQ_EVT_CLIENT_OFFLINE, on_disconnect, NULL},
	{MOSQ_EVT_CONNECT, on_connect, NULL},
	{MOSQ_EVT_MESSAGE_OUT, on_message_out, NULL},
	{MOSQ_EVT_SUBSCRIBE, on_subscribe, NULL},
	{MOSQ_EVT_UNSUBSCRIBE, on_unsubscribe, NULL},
#endif
};

#define CALLBACK_COUNT (sizeof callbacks / sizeof *callbacks)

static void unregister_all(void)
{
#if MOSQUITTO_HAS_EVENTS
	remove_passed();
#else
	remove_last();
#endif
	for (size_t i = 0; i < CALLBACK_COUNT; i++)
		mosquitto_callback_unregister(attached.id, callbacks[i].event, callbacks[i].function, callbacks[i].data);
}

static int register_all(void)
{
	for (size_t i = 0; i < CALLBACK_COUNT; i++) {
		int rc = mosquitto_callback_register(attached.id, callbacks[i].event, callbacks[i].function, callbacks[i].data,
			NULL);

		if (rc != MOSQ_ERR_SUCCESS) return rc;
	}
	return MOSQ_ERR_SUCCESS;
}

static int start(struct mosquitto_opt *options, int count)
{
	static const struct core_broker broker = {
		.outlet = &outlet, .subscription_count = subscription_count, .others_loaded = others_loaded,
		.subscriptions_certain = MOSQUITTO_HAS_EVENTS,
#if MOSQUITTO_HAS_EVENTS
		.session_subscriptions = session_subscriptions,
#endif
	};
	struct setting_override *overrides = calloc((size_t)count + 1, sizeof *overrides);
	char why[4096] = "";
	enum status st = overrides ? ST_OK : ST_NOMEM;

	for (int i = 0; overrides && i < count; i++) overrides[i] = (struct setting_override){options[i].key, options[i].value};
	if (st == ST_OK) st = core_start(&broker, overrides, (size_t)count, &attached.core, why, sizeof why);
	free(overrides);
#if !MOSQUITTO_HAS_EVENTS
	attached.untold = (struct untold){.core = attached.core, .handed = &attached.handed, .hand_over = hand_over,
		.published = &attached.published, .log = &outlet.log};
#endif
	if (st == ST_OK) return MOSQ_ERR_SUCCESS;
	log_lines_to(&outlet.log, LOG_LEVEL_ERROR, why[0] ? why : status_text(st));
	return MOSQ_ERR_INVAL;
}

/* A plugin loaded before ours is asked before ours: on 2.1 our abstention would turn its deferral into a grant. */
static bool loaded_in_order(void)
{
	char name[256];

	if (neighbours_count((const void *)(uintptr_t)broker_attach, name, sizeof name) == 0) return true;
	log_to(&outlet.log, MOSQUITTO_HAS_EVENTS ? LOG_LEVEL_ERROR : LOG_LEVEL_WARNING,
		"access: %s is loaded before mosquitto-redis, which then does not see what it decides; put the plugin line of "
		"mosquitto-redis first", name);
	return !MOSQUITTO_HAS_EVENTS;
}

int broker_attach(mosquitto_plugin_id_t *id, struct mosquitto_opt *options, int count)
{
	int rc;

	if (attached.id) {
		log_to(&outlet.log, LOG_LEVEL_ERROR, "there is a second plugin line for mosquitto-redis; one broker has one");
		return MOSQ_ERR_ALREADY_EXISTS;
	}
	if (!loaded_in_order()) return MOSQ_ERR_INVAL;
	attached.id = id;
	rc = start(options, count);
	if (rc == MOSQ_ERR_SUCCESS) {
		rc = register_all();
		if (rc != MOSQ_ERR_SUCCESS) log_to(&outlet.log, LOG_LEVEL_ERROR, "the broker takes no callbacks (error %d)", rc);
	}
	if (rc != MOSQ_ERR_SUCCESS) broker_detach();
	return rc;
}

void broker_detach(void)
{
	if (!attached.id) return;
	unregister_all();
	core_stop(attached.core);
	handed_drop(&attached.handed, NULL);
#if !MOSQUITTO_HAS_EVENTS
	untold_stop(&attached.untold);
#endif
	buf_free(&attached.topic);
	memset(&attached, 0, sizeof attached);
}
