/*
 * What goes over the connection and what comes: subscriptions, messages, and acknowledgements of them. Loop thread. It must
 * never tell of an acknowledgement from within mqtt_send, whose caller does not know the number yet.
 */
#include "bridge/mqtt_parts.h"

#include <limits.h>
#include <string.h>
#include <sys/socket.h>

void mqtt_on_message(struct mosquitto *client, void *ctx, const struct mosquitto_message *message)
{
	struct mqtt *m = ctx;

	(void)client;
	if (m->closing || message->payloadlen < 0) return;
	m->events.message(m->events.ctx, slice_str(message->topic),
		slice_of(message->payload ? message->payload : "", (size_t)message->payloadlen));
}

void mqtt_on_publish(struct mosquitto *client, void *ctx, int mid, int reason, const mosquitto_property *properties)
{
	struct mqtt *m = ctx;

	(void)client;
	(void)properties;
	if (m->closing) return;
	if (m->sending) buf_append(&m->early, &mid, sizeof(mid));
	else m->events.published(m->events.ctx, mid, reason);
}

/* Of QoS 0 only: acknowledgements are read from the loop. The end of one that was partly written goes out with the next. */
static void on_late(uv_timer_t *timer)
{
	struct mqtt *m = timer->data;
	struct buf mids = m->early;

	m->early = (struct buf){0};
	if (mids.failed) mqtt_down(m, "out of memory"); /* what is not known to be written counts as lost with the connection */
	for (size_t at = 0; at < mids.len && m->connected; at += sizeof(int)) {
		int mid;

		memcpy(&mid, mids.data + at, sizeof(mid));
		m->events.published(m->events.ctx, mid, 0);
	}
	buf_free(&mids);
}

/* The library could not write, for whatever reason (ENOBUFS says nothing of the connection): what it was given may be half
 * written, or waits in it although the caller hears that it was not taken. So the connection is to end, at the next read. */
static enum status unwritten(struct mqtt *m)
{
	int fd = mosquitto_socket(m->client);

	if (fd >= 0) (void)shutdown(fd, SHUT_RDWR); /* it may be down already */
	return ST_LOST;
}

enum status mqtt_subscribe(struct mqtt *m, const char *filter)
{
	if (!m->connected) return ST_LOST;
	if (mosquitto_subscribe(m->client, NULL, filter, 0) != MOSQ_ERR_SUCCESS) return unwritten(m);
	mqtt_turn(m);
	return ST_OK;
}

enum status mqtt_publish(struct mqtt *m, const char *topic, struct slice payload)
{
	int rc;

	if (!m->connected || m->closing) return ST_LOST;
	if (payload.len > INT_MAX) return ST_TOO_LARGE;
	rc = mosquitto_publish(m->client, NULL, topic, (int)payload.len, payload.data, 0, false);
	if (m->watch && !m->in_library && mosquitto_want_write(m->client)) mqtt_turn(m);
	switch (rc) {
	case MOSQ_ERR_SUCCESS:
		return ST_OK;
	case MOSQ_ERR_OVERSIZE_PACKET:
	case MOSQ_ERR_PAYLOAD_SIZE:
		return ST_TOO_LARGE;
	case MOSQ_ERR_NOMEM:
		return ST_NOMEM;
	default:
		return unwritten(m);
	}
}

/* --- messages with all their properties ------------------------------------------------------------------------ */

/* A text with a NUL behind it, for libmosquitto. */
static const char *text_of(struct mqtt *m, struct slice s)
{
	const char *text = m->texts.data + m->texts.len;

	buf_append_slice(&m->texts, s);
	buf_append(&m->texts, "", 1);
	return text;
}

static int user_properties_add(struct mqtt *m, mosquitto_property **p, struct slice rest)
{
	struct slice name, value;
	int rc = MOSQ_ERR_SUCCESS;

	while (rc == MOSQ_ERR_SUCCESS && user_property_next(&rest, &name, &value)) {
		const char *name_text = text_of(m, name);
		rc = mosquitto_property_add_string_pair(p, MQTT_PROP_USER_PROPERTY, name_text, text_of(m, value));
	}
	return rc;
}

static int properties_make(struct mqtt *m, const struct mqtt_message *message, mosquitto_property **p)
{
	int rc = MOSQ_ERR_SUCCESS;

	if (message->has_expiry) {
		rc = mosquitto_property_add_int32(p, MQTT_PROP_MESSAGE_EXPIRY_INTERVAL, message->expiry_s);
	}
	if (rc == MOSQ_ERR_SUCCESS && message->payload_format >= 0) {
		rc = mosquitto_property_add_byte(p, MQTT_PROP_PAYLOAD_FORMAT_INDICATOR, (uint8_t)message->payload_format);
	}
	if (rc == MOSQ_ERR_SUCCESS && message->content_type.data) {
		rc = mosquitto_property_add_string(p, MQTT_PROP_CONTENT_TYPE, text_of(m, message->content_type));
	}
	if (rc == MOSQ_ERR_SUCCESS && message->response_topic.data) {
		rc = mosquitto_property_add_string(p, MQTT_PROP_RESPONSE_TOPIC, text_of(m, message->response_topic));
	}
	if (rc == MOSQ_ERR_SUCCESS && message->correlation.data) {
		rc = mosquitto_property_add_binary(p, MQTT_PROP_CORRELATION_DATA, message->correlation.data,
			(uint16_t)message->correlation.len);
	}
	if (rc == MOSQ_ERR_SUCCESS) rc = user_properties_add(m, p, message->user_properties);
	return rc;
}

static enum status send_status(struct mqtt *m, int rc)
{
	switch (rc) {
	case MOSQ_ERR_SUCCESS: return ST_OK;
	case MOSQ_ERR_OVERSIZE_PACKET:
	case MOSQ_ERR_PAYLOAD_SIZE: return ST_TOO_LARGE;
	case MOSQ_ERR_NOMEM: return ST_NOMEM;
	case MOSQ_ERR_INVAL:
	case MOSQ_ERR_MALFORMED_UTF8:
	case MOSQ_ERR_QOS_NOT_SUPPORTED:
	case MOSQ_ERR_DUPLICATE_PROPERTY:
	case MOSQ_ERR_PROTOCOL: return ST_INVALID;
	default: return unwritten(m);
	}
}

/* Takes out `mid`, if it is the last. */
static bool early_take(struct mqtt *m, int mid)
{
	int last;

	if (m->early.len < sizeof(last)) return false;
	memcpy(&last, m->early.data + m->early.len - sizeof(last), sizeof(last));
	if (last != mid) return false;
	m->early.len -= sizeof(last);
	return true;
}

enum status mqtt_send(struct mqtt *m, const struct mqtt_message *message, int *mid, bool *done)
{
	size_t texts = message->topic.len + message->content_type.len + message->response_topic.len +
		2 * message->user_properties.len + 8;
	mosquitto_property *properties = NULL;
	const char *topic;
	int rc;

	if (!m->connected || m->closing) return ST_LOST;
	if (message->payload.len > INT_MAX) return ST_TOO_LARGE;
	buf_clear(&m->texts);
	if (!buf_reserve(&m->texts, texts)) return ST_NOMEM; /* so that it does not move */
	topic = text_of(m, message->topic);
	rc = properties_make(m, message, &properties);
	if (rc == MOSQ_ERR_SUCCESS) {
		m->sending = true;
		rc = mosquitto_publish_v5(m->client, mid, topic, (int)message->payload.len, message->payload.data, message->qos,
			message->retain, properties);
		m->sending = false;
	}
	mosquitto_property_free_all(&properties);
	*done = rc == MOSQ_ERR_SUCCESS && early_take(m, *mid);
	if (m->early.len > 0 || m->early.failed) (void)uv_timer_start(&m->late, on_late, 0, 0);
	if (m->watch && !m->in_library && mosquitto_want_write(m->client)) mqtt_turn(m);
	return send_status(m, rc);
}
