/*
 * MQTT 5 properties in and out. Owns nothing. Broker thread.
 */
#include "plugin/properties.h"

#include <stdlib.h>

#include <string.h>

/* Values are copied into the scratch buffer, which moves while it grows: remember where, make slices at the end. */
struct place {
	struct slice *target;
	size_t at, len;
};

#define PROPERTY_ID "redis-id"
#define PLACES_MAX 4

static void keep(struct buf *scratch, struct place *place, struct slice *target, const void *data, size_t len)
{
	*place = (struct place){target, scratch->len, len};
	buf_append(scratch, data, len);
}

static bool keep_string(const mosquitto_property *p, int id, struct buf *scratch, struct place *place,
	struct slice *target)
{
	char *text = NULL;

	if (!mosquitto_property_read_string(p, id, &text, false)) return false;
	keep(scratch, place, target, text, text ? strlen(text) : 0);
	free(text);
	return true;
}

static bool keep_binary(const mosquitto_property *p, struct buf *scratch, struct place *place, struct slice *target)
{
	void *data = NULL;
	uint16_t len = 0;

	if (!mosquitto_property_read_binary(p, MQTT_PROP_CORRELATION_DATA, &data, &len, false)) return false;
	keep(scratch, place, target, data, len);
	free(data);
	return true;
}

static void keep_pair(const mosquitto_property *p, struct buf *pairs)
{
	char *name = NULL, *value = NULL;

	if (mosquitto_property_read_string_pair(p, MQTT_PROP_USER_PROPERTY, &name, &value, false))
		user_property_append(pairs, slice_str(name ? name : ""), slice_str(value ? value : ""));
	free(name);
	free(value);
}

static void read_number(const mosquitto_property *p, int id, uint64_t now_ms, struct message *m)
{
	uint8_t byte;
	uint32_t seconds;

	if (id == MQTT_PROP_PAYLOAD_FORMAT_INDICATOR && mosquitto_property_read_byte(p, id, &byte, false))
		m->payload_format = byte != 0;
	if (id == MQTT_PROP_MESSAGE_EXPIRY_INTERVAL && mosquitto_property_read_int32(p, id, &seconds, false)) {
		m->has_expiry = true;
		m->expiry_ms = now_ms + (uint64_t)seconds * 1000u;
	}
}

enum status properties_read(const mosquitto_property *list, uint64_t now_ms, struct message *m, struct buf *scratch)
{
	struct place places[PLACES_MAX];
	struct buf pairs = {0};
	size_t count = 0;
	bool failed;

	buf_clear(scratch);
	for (const mosquitto_property *p = list; p && count < PLACES_MAX; p = mosquitto_property_next(p)) {
		int id = mosquitto_property_identifier(p);

		if (id == MQTT_PROP_CONTENT_TYPE)
			count += keep_string(p, id, scratch, &places[count], &m->content_type);
		else if (id == MQTT_PROP_RESPONSE_TOPIC)
			count += keep_string(p, id, scratch, &places[count], &m->response_topic);
		else if (id == MQTT_PROP_CORRELATION_DATA)
			count += keep_binary(p, scratch, &places[count], &m->correlation);
		else if (id == MQTT_PROP_USER_PROPERTY)
			keep_pair(p, &pairs);
		else
			read_number(p, id, now_ms, m);
	}
	if (pairs.len > 0 && count < PLACES_MAX)
		keep(scratch, &places[count++], &m->user_properties, pairs.data, pairs.len);
	failed = pairs.failed || scratch->failed;
	buf_free(&pairs);
	if (failed) return ST_NOMEM;
	for (size_t i = 0; i < count; i++)
		*places[i].target = slice_of(scratch->data ? scratch->data + places[i].at : "", places[i].len);
	return ST_OK;
}

static int add_text(mosquitto_property **list, int id, struct slice value)
{
	char *text = value.data ? strndup(value.data, value.len) : NULL;
	int rc = value.data && !text ? MOSQ_ERR_NOMEM : MOSQ_ERR_SUCCESS;

	if (text) rc = mosquitto_property_add_string(list, id, text);
	free(text);
	return rc;
}

static int add_pair(mosquitto_property **list, struct slice name, struct slice value)
{
	char *n = strndup(name.data, name.len), *v = strndup(value.data, value.len);
	int rc = MOSQ_ERR_NOMEM;

	if (n && v) rc = mosquitto_property_add_string_pair(list, MQTT_PROP_USER_PROPERTY, n, v);
	free(n);
	free(v);
	return rc;
}

static int add_own(mosquitto_property **list, const struct message *m)
{
	int rc = add_text(list, MQTT_PROP_CONTENT_TYPE, m->content_type);

	if (!rc) rc = add_text(list, MQTT_PROP_RESPONSE_TOPIC, m->response_topic);
	if (!rc && m->correlation.data)
		rc = mosquitto_property_add_binary(list, MQTT_PROP_CORRELATION_DATA, m->correlation.data,
			(uint16_t)m->correlation.len);
	if (!rc && m->payload_format >= 0)
		rc = mosquitto_property_add_byte(list, MQTT_PROP_PAYLOAD_FORMAT_INDICATOR, (uint8_t)m->payload_format);
	return rc;
}

static int add_id(mosquitto_property **list, const struct message *m)
{
	char id[ENTRY_ID_TEXT_MAX];

	entry_id_format(m->id, id);
	return mosquitto_property_add_string_pair(list, MQTT_PROP_USER_PROPERTY, PROPERTY_ID, id);
}

static int add_user(mosquitto_property **list, const struct message *m, bool repeat)
{
	struct slice rest = m->user_properties, name, value;
	int rc = MOSQ_ERR_SUCCESS;

	while (!rc && user_property_next(&rest, &name, &value)) rc = add_pair(list, name, value);
	if (!rc) rc = add_id(list, m);
	if (!rc && repeat) rc = mosquitto_property_add_string_pair(list, MQTT_PROP_USER_PROPERTY, "redelivered", "1");
	return rc;
}

enum status properties_write(const struct message *m, uint64_t now_ms, bool repeat, uint32_t subscription_id,
	mosquitto_property **out)
{
	mosquitto_property *list = NULL;
	int rc = MOSQ_ERR_SUCCESS;

	if (m->has_expiry) {
		uint64_t left = m->expiry_ms > now_ms ? (m->expiry_ms - now_ms + 999) / 1000 : 0;

		if (left == 0) return ST_END;
		rc = mosquitto_property_add_int32(&list, MQTT_PROP_MESSAGE_EXPIRY_INTERVAL,
			left > UINT32_MAX ? UINT32_MAX : (uint32_t)left);
	}
	if (!rc) rc = add_own(&list, m);
	if (!rc) rc = add_user(&list, m, repeat);
	if (!rc && subscription_id > 0)
		rc = mosquitto_property_add_varint(&list, MQTT_PROP_SUBSCRIPTION_IDENTIFIER, subscription_id);
	if (rc) {
		mosquitto_property_free_all(&list);
		return ST_NOMEM;
	}
	*out = list;
	return ST_OK;
}

enum status properties_mark(const struct message *m, mosquitto_property **out)
{
	mosquitto_property *list = NULL;

	if (add_id(&list, m) != MOSQ_ERR_SUCCESS) return ST_NOMEM;
	*out = list;
	return ST_OK;
}

bool properties_id(const mosquitto_property *list, struct entry_id *id)
{
	bool found = false;

	/* A publisher may have sent one of that name; ours stands behind it. */
	for (; list; list = mosquitto_property_next(list)) {
		char *name = NULL, *value = NULL;

		if (mosquitto_property_identifier(list) != MQTT_PROP_USER_PROPERTY) continue;
		if (!mosquitto_property_read_string_pair(list, MQTT_PROP_USER_PROPERTY, &name, &value, false)) continue;
		if (strcmp(name, PROPERTY_ID) == 0) found = entry_id_parse(slice_str(value), id) == ST_OK;
		free(name);
		free(value);
	}
	return found;
}
