/* Certificates for one test, made by the openssl program in the scene's folder: PEM files, keys without a password. */
#ifndef MQR_TESTS_HARNESS_CERTIFICATES_H
#define MQR_TESTS_HARNESS_CERTIFICATES_H

#include "tests/harness/scene.h"

struct certificate {
	const char *cert, *key; /* paths */
};

/* A certificate authority. */
struct certificate certificate_authority(struct scene *s, const char *name);
/* One it has signed. `names`: as in subjectAltName, "DNS:localhost,IP:127.0.0.1". `name`: the files' names. */
struct certificate certificate_signed(struct scene *s, const char *name, const struct certificate *authority,
	const char *names);

#endif
