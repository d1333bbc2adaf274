/*
 * Reads a command's arguments. Owns nothing, keeps pointers to argv only.
 */
#include "bridge/ctl_args.h"

#include <string.h>

#include "config/units.h"

/* The option of this argument; *inlined is what stands behind its "=". */
static const struct ctl_option *option_of(const struct ctl_option *options, const char *text, const char **inlined)
{
	size_t len = strcspn(text, "=");

	*inlined = text[len] ? text + len + 1 : NULL;
	for (const struct ctl_option *o = options; o->name; o++) {
		if (strlen(o->name) == len && strncmp(o->name, text, len) == 0) return o;
	}
	return NULL;
}

/* Takes option number *i; moves on when its value is the next argument. */
static int take_option(const struct ctl_call *call, const struct ctl_option *options, int *i)
{
	const char *inlined, *text = call->argv[*i];
	const struct ctl_option *o = option_of(options, text, &inlined);

	if (!o) return ctl_wrong("unknown option", text);
	if (o->flag) {
		if (inlined) return ctl_wrong("no value belongs to", o->name);
		*o->flag = true;
		return CTL_OK;
	}
	if (!inlined) {
		if (*i + 1 == call->argc) return ctl_wrong("a value is missing behind", o->name);
		inlined = call->argv[++*i];
	}
	*o->value = inlined;
	return CTL_OK;
}

int ctl_args(const struct ctl_call *call, const struct ctl_option *options, const char **rest, int least, int max)
{
	bool over = false;
	int count = 0;

	for (int i = 0; i < max; i++) rest[i] = NULL;
	for (int i = 0; i < call->argc; i++) {
		const char *text = call->argv[i];

		if (!over && strcmp(text, "--") == 0) {
			over = true;
		} else if (!over && text[0] == '-' && text[1]) {
			int code = take_option(call, options, &i);

			if (code != CTL_OK) return code;
		} else if (count == max) {
			return ctl_wrong("unexpected argument", text);
		} else {
			rest[count++] = text;
		}
	}
	return count < least ? ctl_wrong("an argument is missing", NULL) : CTL_OK;
}

int ctl_args_number(const char *option, const char *text, unsigned long most, unsigned long *out)
{
	uint64_t n;

	if (number_parse(text, 1, most, &n) != ST_OK) return ctl_wrong("a number from 1 on belongs to", option);
	*out = (unsigned long)n;
	return CTL_OK;
}
