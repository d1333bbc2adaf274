/* The same by the interface of version 4, as many older authentication plugins have it (decision.h). decider_v3.c and decider_v2.c
 * are made of it, too. */
#include <stdbool.h>

#ifndef AUTH_VERSION
#define AUTH_VERSION 4
#endif

/* Declared as they are in version 4. */
#if AUTH_VERSION == 2
#define mosquitto_auth_psk_key_get declared_psk_key_get
#define mosquitto_auth_unpwd_check declared_unpwd_check
#define mosquitto_auth_acl_check declared_acl_check
#endif
#include "tests/neighbours/decision.h"
#undef mosquitto_auth_psk_key_get
#undef mosquitto_auth_unpwd_check
#undef mosquitto_auth_acl_check

EXPORT int mosquitto_auth_plugin_version(void);
EXPORT int mosquitto_auth_plugin_init(void **user_data, struct mosquitto_opt *opts, int opt_count);
EXPORT int mosquitto_auth_plugin_cleanup(void *user_data, struct mosquitto_opt *opts, int opt_count);
EXPORT int mosquitto_auth_security_init(void *user_data, struct mosquitto_opt *opts, int opt_count, bool reload);
EXPORT int mosquitto_auth_security_cleanup(void *user_data, struct mosquitto_opt *opts, int opt_count, bool reload);

int mosquitto_auth_plugin_version(void)
{
	return AUTH_VERSION;
}

int mosquitto_auth_plugin_init(void **user_data, struct mosquitto_opt *opts, int opt_count)
{
	(void)opts;
	(void)opt_count;
	*user_data = NULL;
	return MOSQ_ERR_SUCCESS;
}

int mosquitto_auth_plugin_cleanup(void *user_data, struct mosquitto_opt *opts, int opt_count)
{
	(void)user_data;
	(void)opts;
	(void)opt_count;
	return MOSQ_ERR_SUCCESS;
}

int mosquitto_auth_security_init(void *user_data, struct mosquitto_opt *opts, int opt_count, bool reload)
{
	(void)user_data;
	(void)opts;
	(void)opt_count;
	(void)reload;
	return MOSQ_ERR_SUCCESS;
}

int mosquitto_auth_security_cleanup(void *user_data, struct mosquitto_opt *opts, int opt_count, bool reload)
{
	return mosquitto_auth_security_init(user_data, opts, opt_count, reload);
}

#if AUTH_VERSION == 2

EXPORT int mosquitto_auth_unpwd_check(void *user_data, const char *username, const char *password);
EXPORT int mosquitto_auth_acl_check(void *user_data, const char *clientid, const char *username, const char *topic, int access);
EXPORT int mosquitto_auth_psk_key_get(void *user_data, const char *hint, const char *identity, char *key, int max_key_len);

int mosquitto_auth_unpwd_check(void *user_data, const char *username, const char *password)
{
	(void)user_data;
	return decide_login(username, password);
}

int mosquitto_auth_acl_check(void *user_data, const char *clientid, const char *username, const char *topic, int access)
{
	(void)user_data;
	(void)clientid;
	(void)access;
	return decide_access(username, topic);
}

/* It must have one; nobody logs in that way. */
int mosquitto_auth_psk_key_get(void *user_data, const char *hint, const char *identity, char *key, int max_key_len)
{
	(void)user_data;
	(void)hint;
	(void)identity;
	(void)key;
	(void)max_key_len;
	return MOSQ_ERR_AUTH;
}

#else

EXPORT int mosquitto_auth_unpwd_check(void *user_data, struct mosquitto *client, const char *username, const char *password);
EXPORT int mosquitto_auth_acl_check(void *user_data, int access, struct mosquitto *client, const struct mosquitto_acl_msg *msg);
EXPORT int mosquitto_auth_psk_key_get(void *user_data, struct mosquitto *client, const char *hint, const char *identity, char *key,
	int max_key_len);

int mosquitto_auth_unpwd_check(void *user_data, struct mosquitto *client, const char *username, const char *password)
{
	(void)user_data;
	(void)client;
	return decide_login(username, password);
}

int mosquitto_auth_acl_check(void *user_data, int access, struct mosquitto *client, const struct mosquitto_acl_msg *msg)
{
	(void)user_data;
	(void)access;
	return decide_access(mosquitto_client_username(client), msg->topic);
}

/* Version 3 must have one. */
int mosquitto_auth_psk_key_get(void *user_data, struct mosquitto *client, const char *hint, const char *identity, char *key,
	int max_key_len)
{
	(void)user_data;
	(void)client;
	(void)hint;
	(void)identity;
	(void)key;
	(void)max_key_len;
	return MOSQ_ERR_AUTH;
}

#endif
