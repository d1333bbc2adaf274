/* Finds the keys in commands as config/resp.h makes them. Owns nothing. Any thread. It must never read past the end. */
#include "config/command_key.h"

#include <strings.h>

#include "config/cluster_slot.h"
#include "config/decimal.h"

enum key_rule { KEYS_NONE, KEYS_REFUSED, KEYS_FIRST, KEYS_SECOND, KEYS_TWO, KEYS_ALL, KEYS_NUMBERED, KEYS_STREAMS };

static const struct {
	const char *name;
	enum key_rule rule;
} rules[] = {
	{"PING", KEYS_NONE}, {"ECHO", KEYS_NONE}, {"TIME", KEYS_NONE}, {"INFO", KEYS_NONE}, {"ROLE", KEYS_NONE},
	{"CONFIG", KEYS_NONE}, {"CLUSTER", KEYS_NONE}, {"COMMAND", KEYS_NONE}, {"CLIENT", KEYS_NONE}, {"ACL", KEYS_NONE},
	{"MULTI", KEYS_REFUSED}, {"EXEC", KEYS_REFUSED}, {"DISCARD", KEYS_REFUSED}, {"WATCH", KEYS_REFUSED},
	{"UNWATCH", KEYS_REFUSED}, {"SUBSCRIBE", KEYS_REFUSED}, {"PSUBSCRIBE", KEYS_REFUSED}, {"SSUBSCRIBE", KEYS_REFUSED},
	{"MONITOR", KEYS_REFUSED}, {"SELECT", KEYS_REFUSED}, {"WAIT", KEYS_REFUSED}, {"WAITAOF", KEYS_REFUSED},
	{"ASKING", KEYS_REFUSED}, {"READONLY", KEYS_REFUSED},
	{"XINFO", KEYS_SECOND}, {"XGROUP", KEYS_SECOND}, {"OBJECT", KEYS_SECOND}, {"MEMORY", KEYS_SECOND},
	{"LMOVE", KEYS_TWO}, {"BLMOVE", KEYS_TWO}, {"RPOPLPUSH", KEYS_TWO}, {"BRPOPLPUSH", KEYS_TWO}, {"RENAME", KEYS_TWO},
	{"DEL", KEYS_ALL}, {"UNLINK", KEYS_ALL}, {"EXISTS", KEYS_ALL}, {"TOUCH", KEYS_ALL}, {"MGET", KEYS_ALL},
	{"EVAL", KEYS_NUMBERED}, {"EVALSHA", KEYS_NUMBERED}, {"EVAL_RO", KEYS_NUMBERED}, {"EVALSHA_RO", KEYS_NUMBERED},
	{"XREAD", KEYS_STREAMS}, {"XREADGROUP", KEYS_STREAMS},
};

static bool is_word(struct slice arg, const char *word)
{
	return arg.len == strlen(word) && strncasecmp(arg.data, word, arg.len) == 0;
}

static enum key_rule rule_of(struct slice name)
{
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		if (is_word(name, rules[i].name)) return rules[i].rule;
	}
	return KEYS_FIRST;
}

/* "<kind><number>\r\n" */
static bool take_head(struct slice *rest, char kind, uint64_t *number)
{
	if (rest->len < 4 || rest->data[0] != kind) return false;
	const char *end = memchr(rest->data, '\r', rest->len - 1);
	if (!end || end[1] != '\n') return false;
	if (decimal_parse(slice_of(rest->data + 1, (size_t)(end - rest->data - 1)), number) != ST_OK) return false;
	size_t used = (size_t)(end - rest->data) + 2;
	*rest = slice_of(rest->data + used, rest->len - used);
	return true;
}

static bool take_arg(struct slice *rest, struct slice *arg)
{
	uint64_t len;
	if (!take_head(rest, '$', &len) || rest->len < 2 || len > rest->len - 2) return false;
	*arg = slice_of(rest->data, (size_t)len);
	if (memcmp(rest->data + len, "\r\n", 2) != 0) return false;
	*rest = slice_of(rest->data + len + 2, rest->len - (size_t)len - 2);
	return true;
}

/* Which arguments are keys: from `first` to before `end`; known as the command is read. */
struct span {
	uint64_t first, end;
};

static struct span span_of(enum key_rule rule, uint64_t argc)
{
	switch (rule) {
	case KEYS_FIRST: return (struct span){1, 2};
	case KEYS_SECOND: return (struct span){2, 3};
	case KEYS_TWO: return (struct span){1, 3};
	case KEYS_ALL: return (struct span){1, argc};
	case KEYS_NONE:
	case KEYS_REFUSED:
	case KEYS_NUMBERED: /* until the number is read */
	case KEYS_STREAMS: break;
	}
	return (struct span){argc, argc};
}

static void add_key(struct command *c, struct slice key)
{
	unsigned slot = cluster_slot(key);
	if (c->place == COMMAND_ANY) {
		c->place = COMMAND_SLOT;
		c->slot = slot;
		c->key = key;
	} else if (slot != c->slot) {
		c->place = COMMAND_CROSS;
	}
}

static enum status read_command(struct slice *rest, struct command *c)
{
	uint64_t argc, keys;
	struct slice arg;
	if (!take_head(rest, '*', &argc) || argc == 0 || !take_arg(rest, &arg)) return ST_CORRUPT;
	enum key_rule rule = rule_of(arg);
	struct span span = span_of(rule, argc);
	c->place = rule == KEYS_REFUSED ? COMMAND_REFUSED : COMMAND_ANY;
	for (uint64_t i = 1; i < argc; i++) { /* ends with the bytes at the latest */
		if (!take_arg(rest, &arg)) return ST_CORRUPT;
		if (i >= span.first && i < span.end) {
			add_key(c, arg);
		} else if (rule == KEYS_NUMBERED && i == 2) {
			if (decimal_parse(arg, &keys) != ST_OK || keys > argc - 3) return ST_CORRUPT;
			span = (struct span){3, 3 + keys};
		} else if (rule == KEYS_STREAMS && span.first == argc && is_word(arg, "STREAMS")) {
			span = (struct span){i + 1, i + 1 + (argc - i - 1) / 2};
		}
	}
	return ST_OK;
}

enum status command_next(struct slice *rest, struct command *out)
{
	const char *from = rest->data;
	*out = (struct command){0};
	if (rest->len == 0) return ST_END;
	enum status st = read_command(rest, out);
	if (st == ST_OK) out->bytes = slice_of(from, (size_t)(rest->data - from));
	return st;
}
