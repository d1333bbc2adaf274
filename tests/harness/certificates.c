/* Runs openssl for a test. Owns nothing: the files go with the scene's folder. Test's thread. */
#include "tests/harness/certificates.h"

#include "tests/harness/servers.h"

#define LIMIT_MS 30000

static void openssl(struct scene *s, const char *const argv[])
{
	const char *output = NULL;
	scene_require(program_run(s, argv, LIMIT_MS, &output) == 0, "openssl: %s", output ? output : "?");
}

static struct certificate paths(struct scene *s, const char *name)
{
	return (struct certificate){scene_path(s, scene_text(s, "%s.pem", name)), scene_path(s, scene_text(s, "%s.key", name))};
}

struct certificate certificate_authority(struct scene *s, const char *name)
{
	struct certificate c = paths(s, name);
	const char *const argv[] = {"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
		"-days", "30", "-subj", scene_text(s, "/CN=%s", name), "-keyout", c.key, "-out", c.cert, NULL};
	openssl(s, argv);
	return c;
}

struct certificate certificate_signed(struct scene *s, const char *name, const struct certificate *authority,
	const char *names)
{
	struct certificate c = paths(s, name);
	const char *request = scene_path(s, scene_text(s, "%s.csr", name));
	const char *more = scene_write(s, scene_text(s, "%s.ext", name), scene_text(s, "subjectAltName=%s\n", names));
	const char *const ask[] = {"openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
		scene_text(s, "/CN=%s", name), "-keyout", c.key, "-out", request, NULL};
	const char *const sign[] = {"openssl", "x509", "-req", "-in", request, "-CA", authority->cert, "-CAkey", authority->key,
		"-CAcreateserial", "-days", "30", "-extfile", more, "-out", c.cert, NULL};
	openssl(s, ask);
	openssl(s, sign);
	return c;
}
