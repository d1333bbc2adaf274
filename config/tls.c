/*
 * Contexts of OpenSSL and the check of host names. Owns nothing but what it returns. Any thread. Must never leave an error
 * in OpenSSL's queue: the next operation of this thread, perhaps the broker's, would take it for its own.
 */
#include "config/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Else OpenSSL asks at the terminal for the password of an encrypted key. */
static int no_password(char *out, int size, int writing, void *ctx)
{
	(void)out;
	(void)size;
	(void)writing;
	(void)ctx;
	return 0;
}

SSL_CTX *tls_context_new(void)
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());
	if (context && SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1) {
		SSL_CTX_free(context);
		context = NULL;
	}
	ERR_clear_error();
	if (!context) return NULL;
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_default_passwd_cb(context, no_password);
	/* A server that is killed says no goodbye; what is whole is told by the protocol above. */
	(void)SSL_CTX_set_options(context, SSL_OP_IGNORE_UNEXPECTED_EOF);
	/* A write may be tried again from a buffer that has moved. */
	(void)SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	return context;
}

/* Of what came first: is a file wrong, or is there none of something now? */
static enum status queue_status(void)
{
	unsigned long code = ERR_peek_error();
	int why = ERR_GET_LIB(code) == ERR_LIB_SYS ? ERR_GET_REASON(code) : 0;
	if (code == 0 || ERR_GET_REASON(code) == ERR_R_MALLOC_FAILURE || why == ENOMEM) return ST_NOMEM; /* 0: not even for the error */
	return why == EMFILE || why == ENFILE || why == EIO ? ST_IO : ST_INVALID;
}

static void queue_text(char *text, size_t size)
{
	unsigned long code = ERR_get_error();
	const char *reason = code ? ERR_reason_error_string(code) : NULL;
	if (reason) snprintf(text, size, "%s", reason);
	else snprintf(text, size, "TLS error %lx", code);
	ERR_clear_error();
}

static enum status file_error(const char *path, char *why, size_t size)
{
	char text[128];
	enum status st = queue_status();
	queue_text(text, sizeof(text));
	snprintf(why, size, "%s: %s", path, text);
	return st;
}

enum status tls_context_load(SSL_CTX *context, const struct tls_files *files, char *why, size_t size)
{
	X509_STORE *store = X509_STORE_new();
	ERR_clear_error();
	if (!store) return file_error("certificates to trust", why, size);
	SSL_CTX_set_cert_store(context, store); /* takes it; what was trusted before is no longer */
	if (files->ca) {
		if (SSL_CTX_load_verify_locations(context, files->ca, NULL) != 1) return file_error(files->ca, why, size);
	} else if (SSL_CTX_set_default_verify_paths(context) != 1) {
		return file_error("certificates of the system", why, size);
	}
	if (!files->cert) return ST_OK;
	if (SSL_CTX_use_certificate_chain_file(context, files->cert) != 1) return file_error(files->cert, why, size);
	if (SSL_CTX_use_PrivateKey_file(context, files->key, SSL_FILETYPE_PEM) != 1) {
		return file_error(files->key, why, size);
	}
	if (SSL_CTX_check_private_key(context) != 1) return file_error(files->key, why, size);
	ERR_clear_error();
	return ST_OK;
}

static bool is_address(const char *host)
{
	unsigned char bytes[16];
	return inet_pton(AF_INET, host, bytes) == 1 || inet_pton(AF_INET6, host, bytes) == 1;
}

static enum status expect_host(X509_VERIFY_PARAM *param, const char *host)
{
	X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	int done = is_address(host) ? X509_VERIFY_PARAM_set1_ip_asc(param, host) : X509_VERIFY_PARAM_set1_host(param, host, 0);
	ERR_clear_error();
	return done == 1 ? ST_OK : ST_NOMEM;
}

enum status tls_host(SSL *ssl, const char *host)
{
	enum status st = expect_host(SSL_get0_param(ssl), host);
	/* RFC 6066, 3: no addresses in SNI. */
	if (st == ST_OK && !is_address(host) && SSL_set_tlsext_host_name(ssl, host) != 1) st = ST_NOMEM;
	ERR_clear_error();
	return st;
}

/* Called before the first message of a handshake is built. */
static void on_state(const SSL *ssl, int where, int result)
{
	(void)result;
	if (!(where & SSL_CB_HANDSHAKE_START)) return;
	struct tls_peer *peer = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
	char *host = (char *)(uintptr_t)peer->host; /* OpenSSL copies it */
	SSL *own = (SSL *)(uintptr_t)ssl; /* OpenSSL gives it const, but this is its place for such changes */
	/* Without memory the handshake goes without a name, or with the maker's. */
	(void)SSL_set_tlsext_host_name(own, is_address(host) ? NULL : host);
}

static int on_verdict(int good, X509_STORE_CTX *store)
{
	const SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct tls_peer *peer = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
	if (!good) peer->refused = X509_STORE_CTX_get_error(store);
	return good;
}

enum status tls_context_peer(SSL_CTX *context, struct tls_peer *peer)
{
	(void)SSL_CTX_set_app_data(context, peer); /* fails without memory only, found by what follows */
	if (SSL_CTX_get_app_data(context) != peer) return ST_NOMEM;
	SSL_CTX_set_info_callback(context, on_state);
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER, on_verdict);
	return expect_host(SSL_CTX_get0_param(context), peer->host);
}

void tls_error(const SSL *ssl, char *why, size_t size)
{
	long verdict = SSL_get_verify_result(ssl);
	if (verdict != X509_V_OK) {
		snprintf(why, size, "its certificate is refused: %s", X509_verify_cert_error_string(verdict));
		ERR_clear_error();
		return;
	}
	char text[128];
	queue_text(text, sizeof(text));
	snprintf(why, size, "TLS: %s", text);
}
