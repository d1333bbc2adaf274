/*
 * Writes JSON strings and reads JSON values for the records. Writing runs on the writer thread for every list element:
 * text that needs no escape is copied in long runs. Reading is cJSON's; what that would accept silently is refused
 * here.
 */
#include "config/json.h"

#include <openssl/evp.h>
#include <stdlib.h>

#include "config/message.h"
#include "config/utf8.h"

#define EACH_BYTE(value) (UINT64_C(0x0101010101010101) * (value))

/* Any byte of eight that is below 0x20, '"', '\\' or not ASCII? (Borrows only make it say yes too often.) */
static bool needs_care(const char *text)
{
	uint64_t word;
	memcpy(&word, text, sizeof word);
	uint64_t hit = word | (word - EACH_BYTE(0x20)) | ((word ^ EACH_BYTE('"')) - EACH_BYTE(1)) |
		((word ^ EACH_BYTE('\\')) - EACH_BYTE(1));
	return (hit & EACH_BYTE(0x80)) != 0;
}

/* Length of what can be copied as it is. */
static size_t plain_run(const char *text, size_t len)
{
	size_t at = 0;
	while (at < len) {
		while (len - at >= 8 && !needs_care(text + at))
			at += 8;
		for (unsigned i = 0; i < 8 && at < len; i++) {
			unsigned char c = (unsigned char)text[at];
			size_t step = c < 0x20 || c == '"' || c == '\\' ? 0 : utf8_sequence(text + at, len - at);
			if (step == 0) return at;
			at += step;
		}
	}
	return at;
}

static void escape(struct buf *out, unsigned char c)
{
	static const char hex[] = "0123456789abcdef";
	static const char letters[0x20] = {['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f', ['\r'] = 'r'};
	if (c == 0 || c >= 0x80) buf_append_str(out, "\xef\xbf\xbd");
	else if (c == '"' || c == '\\') buf_append(out, (char[]){'\\', (char)c}, 2);
	else if (letters[c]) buf_append(out, (char[]){'\\', letters[c]}, 2);
	else buf_append(out, (char[]){'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]}, 6);
}

void json_string(struct buf *out, struct slice text)
{
	(void)buf_reserve(out, text.len + 2); /* saves growing in steps; a failure is sticky */
	buf_append(out, "\"", 1);
	for (size_t at = 0; at < text.len;) {
		size_t run = plain_run(text.data + at, text.len - at);
		buf_append(out, text.data + at, run);
		at += run;
		if (at < text.len) escape(out, (unsigned char)text.data[at++]);
	}
	buf_append(out, "\"", 1);
}

void json_base64(struct buf *out, struct slice bytes)
{
	char *to = bytes.len > MESSAGE_PAYLOAD_MAX ? NULL : buf_reserve(out, (bytes.len + 2) / 3 * 4 + 3);
	if (!to) {
		out->failed = true;
		return;
	}
	*to = '"';
	int len = bytes.len == 0 ? 0 : EVP_EncodeBlock((unsigned char *)to + 1, (const unsigned char *)bytes.data,
		(int)bytes.len);
	to[1 + len] = '"'; /* over its NUL */
	out->len += (size_t)len + 2;
}

static bool base64_char(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/';
}

enum status json_base64_read(struct slice text, struct buf *out)
{
	if (text.len % 4 != 0 || text.len > (MESSAGE_PAYLOAD_MAX + UINT64_C(2)) / 3 * 4) return ST_INVALID;
	if (text.len == 0) return ST_OK;
	size_t padding = text.data[text.len - 1] != '=' ? 0 : text.data[text.len - 2] != '=' ? 1 : 2;
	/* EVP_DecodeBlock would skip white space and not tell how much is padding. */
	for (size_t i = 0; i < text.len - padding; i++)
		if (!base64_char(text.data[i])) return ST_INVALID;
	char *to = buf_reserve(out, text.len / 4 * 3);
	if (!to) return ST_NOMEM;
	int len = EVP_DecodeBlock((unsigned char *)to, (const unsigned char *)text.data, (int)text.len);
	if (len < 0 || (size_t)len != text.len / 4 * 3) return ST_INVALID;
	out->len += (size_t)len - padding;
	return ST_OK;
}

/* An escape \u0000 that is not itself escaped. Outside of strings there are no backslashes in JSON. */
static bool has_nul_escape(struct slice text)
{
	for (size_t at = 0; at < text.len;) {
		const char *slash = memchr(text.data + at, '\\', text.len - at);
		if (!slash) return false;
		at = (size_t)(slash - text.data);
		if (text.len - at >= 6 && memcmp(slash, "\\u0000", 6) == 0) return true;
		at += 2;
	}
	return false;
}

/* cJSON does not tell want of memory from a wrong text. A text that is wrong is so twice, and then there is memory for as much
 * as it would have needed. */
static cJSON *parse(struct slice text, const char **end, enum status *st)
{
	cJSON *value = cJSON_ParseWithLengthOpts(text.data, text.len, end, 0);
	if (!value) value = cJSON_ParseWithLengthOpts(text.data, text.len, end, 0);
	*st = ST_OK;
	if (value) return value;
	void *volatile probe = malloc(text.len + sizeof(cJSON)); /* a compiler may leave out what is freed unused */
	*st = probe ? ST_INVALID : ST_NOMEM;
	free(probe);
	return NULL;
}

enum status json_parse(struct slice text, cJSON **out, const char **why)
{
	*why = "not JSON";
	if (!text.data || text.len == 0) return ST_INVALID;
	if (!utf8_valid(text)) {
		*why = "not UTF-8, or a NUL byte in it";
		return ST_INVALID;
	}
	if (has_nul_escape(text)) {
		*why = "\\u0000 cannot be read as text; use payload_base64";
		return ST_INVALID;
	}
	const char *end = NULL;
	enum status st;
	cJSON *value = parse(text, &end, &st);
	if (st == ST_NOMEM) *why = status_text(st);
	if (!value) return st;
	while (end < text.data + text.len && strchr(" \t\r\n", *end))
		end++;
	if (end < text.data + text.len) {
		*why = "something follows the JSON value";
		cJSON_Delete(value);
		return ST_INVALID;
	}
	*out = value;
	return ST_OK;
}

void json_user_properties(struct buf *out, struct slice wire)
{
	struct slice name, value;
	const char *before = "[";
	while (user_property_next(&wire, &name, &value)) {
		buf_append_str(out, before);
		buf_append_str(out, "[");
		json_string(out, name);
		buf_append_str(out, ",");
		json_string(out, value);
		buf_append_str(out, "]");
		before = ",";
	}
	buf_append_str(out, *before == '[' ? "[]" : "]");
}

enum status json_user_properties_read(const cJSON *array, struct buf *out, const char **why)
{
	*why = "user_properties must be an array of [\"name\",\"value\"] pairs";
	if (!cJSON_IsArray(array)) return ST_INVALID;
	size_t start = out->len;
	const cJSON *pair;
	cJSON_ArrayForEach(pair, array) {
		const cJSON *name = cJSON_IsArray(pair) ? pair->child : NULL;
		const cJSON *value = name ? name->next : NULL;
		if (!value || value->next || !cJSON_IsString(name) || !cJSON_IsString(value)) return ST_INVALID;
		struct slice n = slice_str(name->valuestring), v = slice_str(value->valuestring);
		if (n.len > MESSAGE_TEXT_MAX || v.len > MESSAGE_TEXT_MAX) {
			*why = "a name or value of user_properties is longer than 65535 bytes";
			return ST_INVALID;
		}
		user_property_append(out, n, v);
		if (out->failed) return ST_NOMEM;
	}
	if (out->len - start <= MESSAGE_PAYLOAD_MAX) return ST_OK;
	*why = "user_properties are too large";
	return ST_INVALID;
}
