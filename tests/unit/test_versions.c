/*
 * What differs between versions is in one file: config/mosquitto_version.h compares Mosquitto's, plugin/broker.c acts on it and,
 * with handed.c and turns.c, alone calls the broker; plugin/redis_checks.c compares that of Redis. Reads the sources, without
 * their comments; no server.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/text_file.h"

/* A text, where it may stand: files, with blanks around each. */
struct place {
	const char *text, *files;
};

static const struct place everywhere[] = {
	{"LIBMOSQUITTO_", " config/mosquitto_version.h "},
	{"mosquitto_lib_version", " config/mosquitto_version.h "},
	{"MOSQUITTO_2_1", " config/mosquitto_version.h "},
	{"<mosquitto", " config/mosquitto_version.h "},
	{"<mqtt_protocol", " config/mosquitto_version.h "},
	{"MOSQUITTO_HAS_EVENTS", " config/mosquitto_version.h plugin/broker.c tests/neighbours/refuser.c tests/bench/plugins/generate.c "
		"tests/bench/plugins/nothing.c "},
	{"mosquitto_acl_whole_levels", " config/mosquitto_version.h config/acl_file.c "},
};

static const struct place product[] = {
	{"MOSQ_PLUGIN_VERSION", " plugin/plugin.c "},
	{"dlsym", " plugin/neighbours.c "},
	{"dlopen", " plugin/neighbours.c "},
	{"__weak__", ""}, {"(weak", ""},
	{"HIREDIS_", " config/reply_arena.c "}, {"UV_VERSION", ""}, {"OPENSSL_VERSION", ""}, {"MHD_VERSION", ""}, {"CJSON_VERSION", ""},
	{"\"redis_version\"", " plugin/redis_checks.c bridge/ctl_status.c "}, /* the second shows it */
	{"version_too_old", " plugin/redis_checks.c "},
};

/* Who calls which functions of Mosquitto, by how their names begin. */
static const struct place callers[] = {
	{"mosquitto_property_", " plugin/broker.c plugin/handed.c plugin/properties.c bridge/mqtt_connect.c bridge/mqtt_packets.c "},
	{"mosquitto_callback_", " plugin/broker.c "},
	{"mosquitto_client_", " plugin/broker.c "},
	{"mosquitto_client", " plugin/broker.c "},
	{"mosquitto_broker_", " plugin/broker.c plugin/handed.c plugin/turns.c "},
	{"mosquitto_log_", " plugin/broker.c "},
	{"mosquitto_malloc", " plugin/broker.c plugin/handed.c plugin/turns.c "},
	{"mosquitto_free", " plugin/broker.c plugin/handed.c plugin/turns.c "},
	{"mosquitto_plugin_", " plugin/plugin.c "},
	{"mosquitto_sub_topic_check", " config/acl_file.c "},
	{"mosquitto_acl_whole_levels", " config/acl_file.c config/mosquitto_version.h "},
	{"mosquitto_lib_version", " config/mosquitto_version.h "},
	{"mosquitto_topic_matches_sub2", " config/topic.c "},
	{"mosquitto_", " bridge/mqtt.c bridge/mqtt_connect.c bridge/mqtt_packets.c bridge/mqtt_watch.c "}, /* the rest: that of a client */
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Blanks in place of comments. */
static void strip(char *text)
{
	for (char *p = text; *p; p++) {
		char *end;

		if (*p == '"' || *p == '\'') {
			for (char quote = *p++; *p && *p != quote; p++) p += *p == '\\' && p[1];
			if (!*p) return;
		} else if (p[0] == '/' && (p[1] == '*' || p[1] == '/')) {
			end = p[1] == '*' ? strstr(p + 2, "*/") : strchr(p, '\n');
			if (!end) end = p + strlen(p);
			else if (p[1] == '*') end += 2;
			memset(p, ' ', (size_t)(end - p));
			p = end - 1;
		}
	}
}

static bool may(const struct place *place, const char *file)
{
	char wanted[512];

	(void)snprintf(wanted, sizeof(wanted), " %s ", file);
	return strstr(place->files, wanted) != NULL;
}

static void check_texts(const struct place *places, size_t count, const char *file, const char *code)
{
	for (size_t i = 0; i < count; i++)
		if (strstr(code, places[i].text) && !may(&places[i], file)) fail_msg("%s has %s", file, places[i].text);
}

/* Calls and definitions: a name with a bracket behind it. */
static void check_callers(const char *file, const char *code)
{
	for (const char *p = code; (p = strstr(p, "mosquitto_")) != NULL;) {
		size_t len = strspn(p, "abcdefghijklmnopqrstuvwxyz_0123456789"), i = 0;
		bool begins = p == code || !(isalnum((unsigned char)p[-1]) || p[-1] == '_' || p[-1] == '"');

		if (begins && p[len + strspn(p + len, " ")] == '(') {
			while (strncmp(p, callers[i].text, strlen(callers[i].text)) != 0) i++; /* the last one fits all */
			if (!may(&callers[i], file)) fail_msg("%s calls %.*s", file, (int)len, p);
		}
		p += len;
	}
}

static bool is_c(const char *name)
{
	size_t len = strlen(name);

	return len > 2 && name[len - 2] == '.' && (name[len - 1] == 'c' || name[len - 1] == 'h');
}

/* All C files right in the folder. Returns their number. */
static unsigned check_folder(const char *folder, bool of_product)
{
	char path[512], why[256];
	unsigned files = 0;
	struct dirent *entry;

	(void)snprintf(path, sizeof(path), TEST_SOURCE_DIR "/%s", folder);
	DIR *dir = opendir(path);
	if (!dir) fail_msg("no folder %s", path);
	while ((entry = readdir(dir)) != NULL) {
		struct text_file f = {0};
		char file[400], *code;
		if (!is_c(entry->d_name)) continue;
		(void)snprintf(file, sizeof(file), "%s/%s", folder, entry->d_name);
		(void)snprintf(path, sizeof(path), TEST_SOURCE_DIR "/%s", file);
		if (text_file_read(path, 1u << 22, &f, why, sizeof(why)) != ST_OK) fail_msg("%s %s", path, why);
		code = strndup(f.data, f.len);
		assert_non_null(code);
		strip(code);
		check_texts(everywhere, COUNT(everywhere), file, code);
		if (of_product) check_texts(product, COUNT(product), file, code);
		if (of_product) check_callers(file, code);
		free(code);
		text_file_free(&f);
		files++;
	}
	(void)closedir(dir); /* only read */
	return files;
}

static void product_knows_versions_in_one_place(void **state)
{
	static const char *const folders[] = {"config", "plugin", "bridge"};

	(void)state;
	for (size_t i = 0; i < COUNT(folders); i++) assert_true(check_folder(folders[i], true) > 50);
}

static void tests_ask_the_same_place(void **state)
{
	static const char *const folders[] = {"harness", "scenario", "redis", "neighbours", "bench", "bench/plugins", "fuzz", "soak"};
	char folder[64];

	(void)state;
	for (size_t i = 0; i < COUNT(folders); i++) {
		(void)snprintf(folder, sizeof(folder), "tests/%s", folders[i]);
		assert_true(check_folder(folder, false) > 0);
	}
}

static void comments_do_not_count(void **state)
{
	char text[] = "a /* LIBMOSQUITTO_ */ \"/* b\" // dlsym\nc '\\'' /**/ d";

	(void)state;
	strip(text);
	assert_null(strstr(text, "LIBMOSQUITTO_"));
	assert_null(strstr(text, "dlsym"));
	assert_non_null(strstr(text, "\"/* b\""));
	assert_non_null(strstr(text, "\nc '\\''"));
	assert_non_null(strstr(text, " d"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(comments_do_not_count),
		cmocka_unit_test(product_knows_versions_in_one_place),
		cmocka_unit_test(tests_ask_the_same_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
