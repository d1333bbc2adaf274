/*
 * Splits settings values into words and joins them again. Pure; any thread.
 */
#include "config/words.h"

#include <stdlib.h>
#include <string.h>

#include "config/explain.h"

#define BLANKS " \t"

/* Copies the quoted word behind the opening quote at *text to *to. */
static enum status quoted(const char **text, char **to, char *why, size_t size)
{
	const char *p = *text + 1;

	for (; *p != '"'; p++) {
		if (*p == '\\' && p[1] != '"' && p[1] != '\\') {
			return explain(ST_INVALID, why, size, "in double quotes a backslash stands before \\ or \" only");
		}
		if (*p == '\\') p++;
		if (*p == '\0') return explain(ST_INVALID, why, size, "a double quote is not closed");
		*(*to)++ = *p;
	}
	p++;
	if (*p && !strchr(BLANKS, *p)) {
		return explain(ST_INVALID, why, size, "a blank is missing behind a closing double quote");
	}
	*text = p;
	return ST_OK;
}

static enum status unquoted(const char **text, char **to, char *why, size_t size)
{
	size_t len = strcspn(*text, BLANKS);

	if (memchr(*text, '"', len)) {
		return explain(ST_INVALID, why, size,
			"a double quote stands inside a word; put the whole word in quotes and write \\\" for the quote");
	}
	memcpy(*to, *text, len);
	*to += len;
	*text += len;
	return ST_OK;
}

enum status words_split(const char *text, struct words *words, char *why, size_t size)
{
	struct words w = {0};
	enum status st = ST_OK;
	char *to;

	/* Every word but the last has a blank behind it, in whose place its NUL goes. */
	to = w.memory = malloc(strlen(text) + 1);
	if (!to) return explain(ST_NOMEM, why, size, "out of memory");
	for (text += strspn(text, BLANKS); *text; text += strspn(text, BLANKS)) {
		if (w.count == WORDS_MAX) {
			st = explain(ST_INVALID, why, size, "more than %d words", WORDS_MAX);
			break;
		}
		w.word[w.count++] = to;
		st = *text == '"' ? quoted(&text, &to, why, size) : unquoted(&text, &to, why, size);
		if (st != ST_OK) break;
		*to++ = '\0';
	}
	if (st == ST_OK) *words = w;
	else words_free(&w);
	return st;
}

void words_free(struct words *words)
{
	free(words->memory);
	*words = (struct words){0};
}

void word_append(struct buf *out, const char *word)
{
	if (*word && !strpbrk(word, BLANKS "\"")) {
		buf_append_str(out, word);
		return;
	}
	buf_append(out, "\"", 1);
	for (; *word; word++) {
		if (*word == '"' || *word == '\\') buf_append(out, "\\", 1);
		buf_append(out, word, 1);
	}
	buf_append(out, "\"", 1);
}

char *word_option(char *word)
{
	char *equals = strchr(word, '=');

	if (!equals) return NULL;
	*equals = '\0';
	return equals + 1;
}

enum status words_options(struct words *words, size_t first, const char *const *names, size_t count, const char *accepted,
	words_option_fn *take, void *ctx, char *why, size_t size)
{
	bool seen[WORDS_OPTIONS_MAX] = {false};

	for (size_t i = first; i < words->count; i++) {
		char *name = words->word[i], *value = word_option(name), text[SHOWN_MAX];
		size_t option = 0;
		enum status st;

		while (option < count && strcmp(name, names[option]) != 0) option++;
		if (option == count || !value) {
			return explain(ST_INVALID, why, size, "option \"%s\" is unknown or without =value; accepted are %s",
				shown(name, text), accepted);
		}
		if (seen[option]) return explain(ST_INVALID, why, size, "option %s is given twice", name);
		seen[option] = true;
		st = take(ctx, (int)option, value, why, size);
		if (st != ST_OK) return st;
	}
	return ST_OK;
}
