/* Messages packed, as fields and as JSON: round trips, every truncation, every flipped byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <cjson/cJSON.h>
#include <inttypes.h>

#include "config/message.h"
#include "random_message.h"

#define ROUNDS 3000

static const struct message plain = {
	.id = {1700000000000, 3},
	.topic = {"a/b", 3},
	.payload = {"20.5", 4},
	.client = {"dev", 3},
	.qos = 1,
	.payload_format = -1,
};

/* Everything there is; the payload has NUL and '%' and is not UTF-8. */
static const struct message full = {
	.id = {UINT64_MAX, UINT64_MAX},
	.topic = {"a/\xc3\xa9", 4},
	.payload = {"\0%s%n\xff\r\n\"", 9},
	.client = {"", 0},
	.user = {"", 0},
	.qos = 2,
	.retain = true,
	.will = true,
	.has_expiry = true,
	.expiry_ms = 1700000060000,
	.payload_format = 0,
	.content_type = {"text/\"x\"", 8},
	.response_topic = {"r", 1},
	.correlation = {"\0\x01\xfe", 3},
	.user_properties = {"\0\1k\0\2v1\0\1k\0\0", 12},
};

static char *packed_copy(const struct message *m, size_t *len)
{
	*len = message_packed_size(m);
	char *packed = malloc(*len);
	assert_non_null(packed);
	message_pack(m, packed);
	return packed;
}

static void check_packed(const struct message *m)
{
	size_t len;
	char *packed = packed_copy(m, &len);
	struct message back;
	assert_int_equal(message_unpack(slice_of(packed, len), &back), ST_OK);
	assert_true(message_same(m, &back));
	free(packed);
}

static void packed_layout(void **state)
{
	(void)state;
	size_t len;
	char *packed = packed_copy(&plain, &len);
	/* Journals of an earlier program must be readable: this does not change without a new version. */
	static const unsigned char expected[] = {
		0x00, 0x68, 0xe5, 0xcf, 0x8b, 0x01, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		3, 0, 0, 0, 4, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		0, 0, 1, 1, 0xff, 0, 0, 0, 'a', '/', 'b', '2', '0', '.', '5', 'd', 'e', 'v'};
	assert_int_equal(len, sizeof expected);
	assert_memory_equal(packed, expected, len);
	free(packed);
}

static void packed_round_trips(void **state)
{
	(void)state;
	check_packed(&plain);
	check_packed(&full);
	struct message m = plain;
	m.payload = slice_of("", 0);
	m.content_type = m.response_topic = m.correlation = m.user = slice_of("", 0); /* empty is not absent */
	check_packed(&m);
	char *large = calloc(1, MESSAGE_TEXT_MAX + 1);
	assert_non_null(large);
	m.topic = m.client = m.user = m.correlation = slice_of(large, MESSAGE_TEXT_MAX);
	m.payload = slice_of(large, MESSAGE_TEXT_MAX + 1);
	check_packed(&m);
	free(large);
	/* Absent payload and client count as empty, user properties without a pair as absent. */
	size_t len;
	struct message back;
	m = plain;
	m.payload = m.client = slice_of(NULL, 0);
	m.user_properties = slice_of("", 0);
	char *packed = packed_copy(&m, &len);
	assert_int_equal(message_unpack(slice_of(packed, len), &back), ST_OK);
	assert_non_null(back.payload.data);
	assert_non_null(back.client.data);
	assert_null(back.user_properties.data);
	free(packed);
}

static void random_packed(void **state)
{
	(void)state;
	uint64_t seed = 20240601;
	print_message("seed %" PRIu64 "\n", seed);
	struct random_message r = {0};
	for (unsigned i = 0; i < ROUNDS; i++) {
		random_message(&seed, &r);
		check_packed(&r.m);
	}
	random_message_free(&r);
}

static void packed_cut_or_longer(void **state)
{
	(void)state;
	size_t len;
	char *packed = packed_copy(&full, &len);
	struct message m;
	for (size_t cut = 0; cut < len; cut++) {
		char *copy = exact_copy(packed, cut);
		assert_int_equal(message_unpack(slice_of(copy, cut), &m), ST_CORRUPT);
		free(copy);
	}
	assert_int_equal(message_unpack(slice_of(NULL, 0), &m), ST_CORRUPT);
	char *longer = malloc(len + 1);
	assert_non_null(longer);
	memcpy(longer, packed, len);
	longer[len] = 0;
	assert_int_equal(message_unpack(slice_of(longer, len + 1), &m), ST_CORRUPT);
	free(longer);
	free(packed);
}

/* What was accepted must be a message that everything else can handle. */
static void use(const struct message *m)
{
	struct slice names[MESSAGE_FIELDS_MAX], values[MESSAGE_FIELDS_MAX];
	struct buf scratch = {0}, json = {0};
	assert_true(m->topic.len >= 1 && m->topic.len <= MESSAGE_TEXT_MAX && m->qos <= 2);
	assert_true(m->payload_format >= -1 && m->payload_format <= 1);
	check_packed(m);
	size_t count = message_to_fields(m, names, values, &scratch);
	assert_true(count >= 5 && count <= MESSAGE_FIELDS_MAX);
	message_to_json(m, &json);
	cJSON *parsed = cJSON_ParseWithLength(json.data, json.len);
	assert_non_null(parsed);
	cJSON_Delete(parsed);
	buf_free(&scratch);
	buf_free(&json);
}

static void packed_flipped(void **state)
{
	(void)state;
	size_t len;
	char *packed = packed_copy(&full, &len);
	unsigned accepted = 0, refused = 0;
	for (size_t at = 0; at < len; at++) {
		for (unsigned flip = 1; flip < 256; flip++) {
			struct message m;
			packed[at] = (char)((unsigned char)packed[at] ^ flip);
			if (message_unpack(slice_of(packed, len), &m) == ST_OK) {
				use(&m);
				accepted++;
			} else {
				refused++;
			}
			packed[at] = (char)((unsigned char)packed[at] ^ flip);
		}
	}
	assert_true(accepted > 0 && refused > 0);
	free(packed);
}

static void packed_impossible(void **state)
{
	(void)state;
	static const struct {
		size_t at;
		unsigned char value;
	} changes[] = {
		{58, 0}, {58, 2},       /* version */
		{59, 3},                /* QoS */
		{60, 2}, {60, 0xfe},    /* payload format */
		{61, 1}, {62, 1}, {63, 1}, /* reserved */
		{57, 1},                /* a flag that we do not know */
		{16, 1},                /* expiry without its flag */
		{24, 0}, {24, 2}, {24, 4}, {27, 1}, /* topic's length */
		{36, 1},                /* user without its flag */
		{56, 0x80},             /* user properties, but none there */
	};
	size_t len;
	char *packed = packed_copy(&plain, &len);
	for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
		struct message m;
		char before = packed[changes[i].at];
		packed[changes[i].at] = (char)changes[i].value;
		assert_int_equal(message_unpack(slice_of(packed, len), &m), ST_CORRUPT);
		packed[changes[i].at] = before;
	}
	free(packed);
	/* Lengths that only their limits forbid. */
	char *large = calloc(1, MESSAGE_TEXT_MAX + 1);
	assert_non_null(large);
	struct slice *parts[4];
	struct message m;
	parts[0] = &m.topic, parts[1] = &m.client, parts[2] = &m.user, parts[3] = &m.correlation;
	for (size_t i = 0; i < 4; i++) {
		struct message back;
		m = plain;
		*parts[i] = slice_of(large, MESSAGE_TEXT_MAX + 1);
		packed = packed_copy(&m, &len);
		assert_int_equal(message_unpack(slice_of(packed, len), &back), ST_CORRUPT);
		free(packed);
	}
	free(large);
	m = plain;
	m.topic = slice_of("", 0);
	struct message back;
	packed = packed_copy(&m, &len);
	assert_int_equal(message_unpack(slice_of(packed, len), &back), ST_CORRUPT);
	free(packed);
}

static void packed_damaged_properties(void **state)
{
	(void)state;
	static const struct slice bad[] = {{"\0", 1}, {"\0\0", 2}, {"\0\0\0", 3}, {"\0\1a", 3}, {"\0\1a\0\2b", 6},
		{"\0\1a\0\1b\0", 7}, {"\0\1a\0\1b\0\0", 8}, {"\xff\xff\0\0", 4}};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct message m = plain, back;
		size_t len;
		m.user_properties = bad[i];
		char *packed = packed_copy(&m, &len);
		assert_int_equal(message_unpack(slice_of(packed, len), &back), ST_CORRUPT);
		free(packed);
	}
}

static void properties_step(void **state)
{
	(void)state;
	struct buf b = {0};
	struct slice rest, name, value;
	char *large = malloc(70000);
	assert_non_null(large);
	memset(large, 'x', 70000);
	user_property_append(&b, slice_str("n"), slice_str("v"));
	user_property_append(&b, slice_str(""), slice_str(""));
	user_property_append(&b, slice_of(large, 70000), slice_of(large, 65535));
	rest = slice_of(b.data, b.len);
	assert_true(user_property_next(&rest, &name, &value));
	assert_true(slice_equal(name, slice_str("n")) && slice_equal(value, slice_str("v")));
	assert_true(user_property_next(&rest, &name, &value));
	assert_true(name.len == 0 && value.len == 0 && name.data && value.data);
	assert_true(user_property_next(&rest, &name, &value));
	assert_int_equal(name.len, 65535);
	assert_int_equal(value.len, 65535);
	assert_false(user_property_next(&rest, &name, &value));
	rest = slice_of(NULL, 0);
	assert_false(user_property_next(&rest, &name, &value));
	free(large);
	buf_free(&b);
}

static void check_field(struct slice name, struct slice value, const char *expected_name, struct slice expected)
{
	assert_true(slice_equal(name, slice_str(expected_name)));
	assert_true(slice_equal(value, expected));
	assert_non_null(value.data);
}

static void fields_in_order(void **state)
{
	(void)state;
	struct slice n[MESSAGE_FIELDS_MAX], v[MESSAGE_FIELDS_MAX];
	struct buf scratch = {0};
	buf_append_str(&scratch, "before");
	assert_int_equal(message_to_fields(&full, n, v, &scratch), 13);
	check_field(n[0], v[0], "topic", full.topic);
	check_field(n[1], v[1], "payload", full.payload);
	check_field(n[2], v[2], "qos", slice_str("2"));
	check_field(n[3], v[3], "retain", slice_str("1"));
	check_field(n[4], v[4], "client", slice_str(""));
	check_field(n[5], v[5], "user", slice_str(""));
	check_field(n[6], v[6], "expiry", slice_str("1700000060000"));
	check_field(n[7], v[7], "payload_format", slice_str("0"));
	check_field(n[8], v[8], "content_type", full.content_type);
	check_field(n[9], v[9], "response_topic", slice_str("r"));
	check_field(n[10], v[10], "correlation", full.correlation);
	check_field(n[11], v[11], "user_properties", slice_str("[[\"k\",\"v1\"],[\"k\",\"\"]]"));
	check_field(n[12], v[12], "will", slice_str("1"));
	assert_int_equal(message_to_fields(&plain, n, v, &scratch), 5);
	check_field(n[0], v[0], "topic", slice_str("a/b"));
	check_field(n[1], v[1], "payload", slice_str("20.5"));
	check_field(n[2], v[2], "qos", slice_str("1"));
	check_field(n[3], v[3], "retain", slice_str("0"));
	check_field(n[4], v[4], "client", slice_str("dev"));
	buf_free(&scratch);
}

static void check_fields_round_trip(uint64_t *seed, const struct message *m, struct buf *out, struct buf *in)
{
	struct slice n[MESSAGE_FIELDS_MAX], v[MESSAGE_FIELDS_MAX];
	struct message back;
	const char *why = "";
	size_t count = message_to_fields(m, n, v, out);
	for (size_t i = count; i > 1; i--) { /* any order */
		size_t j = random_below(seed, i);
		struct slice name = n[j], value = v[j];
		n[j] = n[i - 1], v[j] = v[i - 1];
		n[i - 1] = name, v[i - 1] = value;
	}
	buf_free(in); /* small again, so that it moves */
	buf_append_str(in, "kept");
	if (message_from_fields(m->id, n, v, count, &back, in, &why) != ST_OK) fail_msg("%s", why);
	assert_true(message_same(m, &back));
	assert_memory_equal(in->data, "kept", 4);
}

static void random_fields(void **state)
{
	(void)state;
	uint64_t seed = 20240602;
	print_message("seed %" PRIu64 "\n", seed);
	struct random_message r = {0};
	struct buf out = {0}, in = {0};
	check_fields_round_trip(&seed, &plain, &out, &in);
	check_fields_round_trip(&seed, &full, &out, &in);
	for (unsigned i = 0; i < ROUNDS; i++) {
		random_message(&seed, &r);
		check_fields_round_trip(&seed, &r.m, &out, &in);
	}
	random_message_free(&r);
	buf_free(&out);
	buf_free(&in);
}

static enum status one_field(const char *name, struct slice value, struct message *m, struct buf *scratch)
{
	struct slice names[] = {slice_str("topic"), slice_str(name)};
	struct slice values[] = {slice_str("t"), value};
	const char *why = NULL;
	enum status st = message_from_fields((struct entry_id){1, 2}, names, values, 2, m, scratch, &why);
	if (st != ST_OK) assert_true(why && strlen(why) > 5);
	return st;
}

static void fields_refused(void **state)
{
	(void)state;
	static const char *const bad[][2] = {{"topic", "t"}, {"qos", "3"}, {"qos", ""}, {"qos", "01"}, {"qos", "-1"},
		{"retain", "2"}, {"retain", "true"}, {"will", "x"}, {"payload_format", "2"}, {"expiry", "-1"}, {"expiry", ""},
		{"expiry", "1.5"}, {"expiry", "18446744073709551616"}, {"content_type", "\xff"}, {"response_topic", "\xc0\x80"},
		{"user_properties", ""}, {"user_properties", "{}"}, {"user_properties", "[[\"a\"]]"},
		{"user_properties", "[[\"a\",\"b\",\"c\"]]"}, {"user_properties", "[[\"a\",1]]"},
		{"user_properties", "[\"a\",\"b\"]"}, {"user_properties", "[[\"a\",\"b\"]"}, {"user_properties", "[] x"},
		{"user_properties", "[[\"a\",\"\\u0000\"]]"}};
	struct message m;
	struct buf scratch = {0};
	const char *why = NULL;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (one_field(bad[i][0], slice_str(bad[i][1]), &m, &scratch) != ST_INVALID)
			fail_msg("%s = %s", bad[i][0], bad[i][1]);
	assert_int_equal(message_from_fields(ENTRY_ID_ZERO, NULL, NULL, 0, &m, &scratch, &why), ST_INVALID);
	assert_string_equal(why, "topic is missing");
	struct slice name = slice_str("topic"), value = slice_of("", 0);
	assert_int_equal(message_from_fields(ENTRY_ID_ZERO, &name, &value, 1, &m, &scratch, &why), ST_INVALID);
	char *large = calloc(1, MESSAGE_TEXT_MAX + 1);
	assert_non_null(large);
	memset(large, 'x', MESSAGE_TEXT_MAX + 1);
	static const char *const limited[] = {"client", "user", "content_type", "response_topic", "correlation"};
	for (size_t i = 0; i < sizeof limited / sizeof *limited; i++) {
		assert_int_equal(one_field(limited[i], slice_of(large, MESSAGE_TEXT_MAX), &m, &scratch), ST_OK);
		assert_int_equal(one_field(limited[i], slice_of(large, MESSAGE_TEXT_MAX + 1), &m, &scratch), ST_INVALID);
	}
	value = slice_of(large, MESSAGE_TEXT_MAX + 1);
	assert_int_equal(message_from_fields(ENTRY_ID_ZERO, &name, &value, 1, &m, &scratch, &why), ST_INVALID);
	free(large);
	buf_free(&scratch);
}

static void fields_accepted(void **state)
{
	(void)state;
	struct message m;
	struct buf scratch = {0};
	assert_int_equal(one_field("unknown", slice_of("\0\xff", 2), &m, &scratch), ST_OK);
	assert_true(m.id.ms == 1 && m.id.seq == 2 && m.payload.data && m.payload.len == 0 && m.client.data);
	assert_true(m.qos == 1 && m.payload_format == -1 && !m.user.data && !m.has_expiry && !m.user_properties.data);
	assert_int_equal(one_field("user_properties", slice_str(" [ ] "), &m, &scratch), ST_OK);
	assert_null(m.user_properties.data);
	assert_int_equal(one_field("user_properties", slice_str("[[\"\\u20ac\",\"\\\"\"]]"), &m, &scratch), ST_OK);
	assert_true(slice_equal(m.user_properties, slice_of("\0\3\xe2\x82\xac\0\1\"", 8)));
	assert_int_equal(one_field("payload", slice_of(NULL, 0), &m, &scratch), ST_OK);
	assert_non_null(m.payload.data);
	buf_free(&scratch);
}

static void check_json(const struct message *m, const char *expected)
{
	struct buf out = {0};
	buf_append_str(&out, ">");
	message_to_json(m, &out);
	buf_append(&out, "", 1);
	assert_false(out.failed);
	assert_string_equal(out.data + 1, expected);
	buf_free(&out);
}

static void json_texts(void **state)
{
	(void)state;
	check_json(&plain, "{\"id\":\"1700000000000-3\",\"topic\":\"a/b\",\"payload\":\"20.5\",\"qos\":1,\"retain\":false,"
		"\"client\":\"dev\"}");
	check_json(&full, "{\"id\":\"18446744073709551615-18446744073709551615\",\"topic\":\"a/\xc3\xa9\","
		"\"payload_base64\":\"ACVzJW7/DQoi\",\"qos\":2,\"retain\":true,\"client\":\"\",\"user\":\"\","
		"\"expiry\":1700000060000,\"payload_format\":0,\"content_type\":\"text/\\\"x\\\"\",\"response_topic\":\"r\","
		"\"correlation_base64\":\"AAH+\",\"user_properties\":[[\"k\",\"v1\"],[\"k\",\"\"]],\"will\":true}");
	struct message m = plain;
	m.payload = slice_str("\x01\b\t\n\f\r\x1f\\\"/\x7f\xe2\x82\xac");
	m.topic = slice_of("bad\xff\0.", 6);
	m.client = slice_of(NULL, 0);
	check_json(&m, "{\"id\":\"1700000000000-3\",\"topic\":\"bad\xef\xbf\xbd\xef\xbf\xbd.\","
		"\"payload\":\"\\u0001\\b\\t\\n\\f\\r\\u001f\\\\\\\"/\x7f\xe2\x82\xac\","
		"\"qos\":1,\"retain\":false,\"client\":\"\"}");
}

/* Every byte that needs an escape, at every offset of the eight that are looked at together. */
static void json_escapes_anywhere(void **state)
{
	(void)state;
	struct buf json = {0}, scratch = {0};
	for (unsigned c = 1; c < 0x80; c++) {
		for (size_t at = 0; at < 20; at++) {
			char text[20];
			memset(text, 'p', sizeof text);
			text[at] = (char)c;
			struct message m = plain, back;
			const char *why = "";
			m.payload = slice_of(text, sizeof text);
			buf_clear(&json);
			message_to_json(&m, &json);
			cJSON *parsed = cJSON_ParseWithLength(json.data, json.len);
			assert_non_null(parsed);
			cJSON_Delete(parsed);
			for (size_t i = 0; i < json.len; i++)
				assert_true((unsigned char)json.data[i] >= 0x20);
			if (message_from_json(slice_of(json.data, json.len), &back, &scratch, &why) != ST_OK)
				fail_msg("%02x at %zu: %s", c, at, why);
			assert_true(slice_equal(m.payload, back.payload));
		}
	}
	buf_free(&json);
	buf_free(&scratch);
}

static void check_json_round_trip(const struct message *m, struct buf *json, struct buf *scratch)
{
	struct message back;
	const char *why = "";
	buf_clear(json);
	message_to_json(m, json);
	assert_false(json->failed);
	char *copy = exact_copy(json->data, json->len);
	buf_free(scratch);
	if (message_from_json(slice_of(copy, json->len), &back, scratch, &why) != ST_OK)
		fail_msg("%s: %.*s", why, (int)json->len, json->data);
	free(copy); /* nothing may point into it */
	assert_true(message_same(m, &back));
}

static void random_json(void **state)
{
	(void)state;
	uint64_t seed = 20240603;
	print_message("seed %" PRIu64 "\n", seed);
	struct random_message r = {0};
	struct buf json = {0}, scratch = {0};
	check_json_round_trip(&plain, &json, &scratch);
	check_json_round_trip(&full, &json, &scratch);
	for (unsigned i = 0; i < ROUNDS; i++) {
		random_message(&seed, &r);
		check_json_round_trip(&r.m, &json, &scratch);
	}
	for (size_t len = 0; len < 70; len++) { /* all paddings of base64 */
		struct message m = plain;
		char bytes[70];
		memset(bytes, 0xff, sizeof bytes);
		m.payload = m.correlation = slice_of(bytes, len);
		check_json_round_trip(&m, &json, &scratch);
	}
	random_message_free(&r);
	buf_free(&json);
	buf_free(&scratch);
}

static void json_cut_and_flipped(void **state)
{
	(void)state;
	struct buf json = {0}, scratch = {0};
	struct message m;
	const char *why;
	message_to_json(&full, &json);
	for (size_t len = 0; len < json.len; len++) {
		char *copy = exact_copy(json.data, len);
		assert_int_equal(message_from_json(slice_of(copy, len), &m, &scratch, &why), ST_INVALID);
		free(copy);
	}
	char *copy = exact_copy(json.data, json.len);
	for (size_t at = 0; at < json.len; at++) {
		for (unsigned flip = 1; flip < 256; flip++) {
			copy[at] = (char)((unsigned char)copy[at] ^ flip);
			if (message_from_json(slice_of(copy, json.len), &m, &scratch, &why) == ST_OK) use(&m);
			copy[at] = (char)((unsigned char)copy[at] ^ flip);
		}
	}
	free(copy);
	buf_free(&json);
	buf_free(&scratch);
}

static void json_refused(void **state)
{
	(void)state;
	static const char *const bad[] = {"", "x", "[]", "null", "\"topic\"", "{}", "{\"topic\":\"t\"}x",
		"{\"topic\":\"t\"}{}",
		"{\"topic\":\"\"}", "{\"topic\":null}", "{\"topic\":1}", "{\"topic\":[\"t\"]}", "{\"Topic\":\"t\"}",
		"{\"topic\":\"t\",\"topic\":\"t\"}", "{\"topic\":\"t\",\"payload\":1}", "{\"topic\":\"t\",\"payload\":{}}",
		"{\"topic\":\"t\",\"payload\":\"a\",\"payload_base64\":\"YQ==\"}",
		"{\"topic\":\"t\",\"payload\":\"a\\u0000b\"}",
		"{\"topic\":\"t\\u0000\"}", "{\"topic\":\"t\",\"payload\":\"\\\\\\u0000\"}",
		"{\"topic\":\"t\",\"payload_base64\":\"YQ=\"}", "{\"topic\":\"t\",\"payload_base64\":\"YQ\"}",
		"{\"topic\":\"t\",\"payload_base64\":\"YQ= \"}", "{\"topic\":\"t\",\"payload_base64\":\"Y===\"}",
		"{\"topic\":\"t\",\"payload_base64\":\"=\"}", "{\"topic\":\"t\",\"payload_base64\":\"====\"}",
		"{\"topic\":\"t\",\"payload_base64\":\"YQ==YQ==\"}", "{\"topic\":\"t\",\"payload_base64\":\"YW-_\"}",
		"{\"topic\":\"t\",\"payload_base64\":\"YWFh\\nYWFh\"}", "{\"topic\":\"t\",\"payload_base64\":7}",
		"{\"topic\":\"t\",\"qos\":3}", "{\"topic\":\"t\",\"qos\":-1}", "{\"topic\":\"t\",\"qos\":1.5}",
		"{\"topic\":\"t\",\"qos\":\"1\"}", "{\"topic\":\"t\",\"qos\":true}", "{\"topic\":\"t\",\"qos\":1e300}",
		"{\"topic\":\"t\",\"retain\":1}", "{\"topic\":\"t\",\"retain\":\"true\"}", "{\"topic\":\"t\",\"will\":0}",
		"{\"topic\":\"t\",\"expiry\":-1}", "{\"topic\":\"t\",\"expiry\":0.5}", "{\"topic\":\"t\",\"expiry\":\"5\"}",
		"{\"topic\":\"t\",\"expiry\":9007199254740993}", "{\"topic\":\"t\",\"expiry\":1e999}",
		"{\"topic\":\"t\",\"payload_format\":2}", "{\"topic\":\"t\",\"id\":\"x\"}", "{\"topic\":\"t\",\"id\":5}",
		"{\"topic\":\"t\",\"user\":false}", "{\"topic\":\"t\",\"client\":[]}",
		"{\"topic\":\"t\",\"user_properties\":{}}",
		"{\"topic\":\"t\",\"user_properties\":[[\"a\"]]}",
		"{\"topic\":\"t\",\"user_properties\":[[\"a\",\"b\",\"c\"]]}",
		"{\"topic\":\"t\",\"user_properties\":[{\"a\":\"b\",\"c\":\"d\"}]}", "{\"topic\":\"t\",\"payload\":\"\xff\"}",
		"{\"topic\":\"t\",\"payload\":\"\\ud800\"}",
		"{\"topic\":\"t\",\"correlation\":\"a\",\"correlation_base64\":\"\"}"};
	struct message m;
	struct buf scratch = {0};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		const char *why = NULL;
		if (message_from_json(slice_str(bad[i]), &m, &scratch, &why) != ST_INVALID) fail_msg("%s", bad[i]);
		assert_true(why && strlen(why) > 5);
	}
	const char *why = NULL;
	assert_int_equal(message_from_json(slice_of("{\"topic\":\"a\0b\"}", 15), &m, &scratch, &why), ST_INVALID);
	assert_int_equal(message_from_json(slice_of(NULL, 0), &m, &scratch, &why), ST_INVALID);
	assert_int_equal(message_from_json(slice_str("{\"topic\":\"t\",\"payload\":\"\\u0000\"}"), &m, &scratch, &why),
		ST_INVALID);
	assert_non_null(strstr(why, "payload_base64"));
	buf_free(&scratch);
}

static void json_limits(void **state)
{
	(void)state;
	struct message m;
	struct buf json = {0}, scratch = {0};
	const char *why = NULL;
	for (unsigned extra = 0; extra < 2; extra++) {
		static const char *const limited[] = {"topic", "client", "user", "content_type", "response_topic",
			"correlation"};
		for (size_t i = 0; i < sizeof limited / sizeof *limited; i++) {
			buf_clear(&json);
			buf_printf(&json, "{%s\"%s\":\"%0*d\"}", i == 0 ? "" : "\"topic\":\"t\",", limited[i],
				MESSAGE_TEXT_MAX + (int)extra, 0);
			assert_int_equal(message_from_json(slice_of(json.data, json.len), &m, &scratch, &why),
				extra ? ST_INVALID : ST_OK);
		}
		buf_clear(&json);
		buf_printf(&json, "{\"topic\":\"t\",\"user_properties\":[[\"a\",\"%0*d\"]]}", MESSAGE_TEXT_MAX + (int)extra, 0);
		assert_int_equal(message_from_json(slice_of(json.data, json.len), &m, &scratch, &why),
			extra ? ST_INVALID : ST_OK);
	}
	/* Nested deeper than any parser should follow. */
	buf_clear(&json);
	buf_append_str(&json, "{\"topic\":\"t\",\"x\":");
	for (unsigned i = 0; i < 1000000; i++)
		buf_append(&json, "[", 1);
	assert_int_equal(message_from_json(slice_of(json.data, json.len), &m, &scratch, &why), ST_INVALID);
	buf_free(&json);
	buf_free(&scratch);
}

static void json_accepted(void **state)
{
	(void)state;
	struct message m;
	struct buf scratch = {0};
	const char *why = "";
	assert_int_equal(message_from_json(slice_str(" {\"topic\":\"t\"} \r\n"), &m, &scratch, &why), ST_OK);
	assert_true(entry_id_is_zero(m.id) && m.payload.data && m.payload.len == 0 && m.client.data && m.qos == 1);
	assert_true(m.payload_format == -1 && !m.user.data && !m.user_properties.data && !m.has_expiry && !m.retain);
	assert_int_equal(message_from_json(slice_str("{\"x\":{\"topic\":1},\"payload\":\"\\\\u0000 \\u00e9\\ud83d\\ude00\","
		"\"topic\":\"\\u0074\",\"user\":null,\"expiry\":9007199254740991,\"user_properties\":[],\"will\":false,"
		"\"retain\":true,\"qos\":0,\"payload_format\":1,\"id\":\"5\"}"), &m, &scratch, &why), ST_OK);
	assert_true(slice_equal(m.payload, slice_str("\\u0000 \xc3\xa9\xf0\x9f\x98\x80")));
	assert_true(slice_equal(m.topic, slice_str("t")));
	assert_true(!m.user.data && m.has_expiry && m.expiry_ms == UINT64_C(9007199254740991) && !m.user_properties.data);
	assert_true(m.retain && !m.will && m.qos == 0 && m.payload_format == 1 && m.id.ms == 5);
	assert_int_equal(message_from_json(slice_str("{\"topic\":\"t\",\"payload_base64\":\"AP8=\"}"), &m, &scratch, &why),
		ST_OK);
	assert_true(slice_equal(m.payload, slice_of("\0\xff", 2)));
	assert_int_equal(message_from_json(slice_str("{\"topic\":\"t\",\"payload_base64\":\"\"}"), &m, &scratch, &why),
		ST_OK);
	assert_true(m.payload.data && m.payload.len == 0);
	buf_free(&scratch);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(packed_layout),
		cmocka_unit_test(packed_round_trips),
		cmocka_unit_test(random_packed),
		cmocka_unit_test(packed_cut_or_longer),
		cmocka_unit_test(packed_flipped),
		cmocka_unit_test(packed_impossible),
		cmocka_unit_test(packed_damaged_properties),
		cmocka_unit_test(properties_step),
		cmocka_unit_test(fields_in_order),
		cmocka_unit_test(random_fields),
		cmocka_unit_test(fields_refused),
		cmocka_unit_test(fields_accepted),
		cmocka_unit_test(json_texts),
		cmocka_unit_test(json_escapes_anywhere),
		cmocka_unit_test(random_json),
		cmocka_unit_test(json_cut_and_flipped),
		cmocka_unit_test(json_refused),
		cmocka_unit_test(json_limits),
		cmocka_unit_test(json_accepted),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
