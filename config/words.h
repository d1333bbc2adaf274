/*
 * The words of a settings value that has several: separated by blanks; a word with blanks stands in double quotes, in
 * which \" and \\ stand for themselves. Pure; any thread.
 */
#ifndef MQR_CONFIG_WORDS_H
#define MQR_CONFIG_WORDS_H

#include "config/buf.h"
#include "config/status.h"

#define WORDS_MAX 16

struct words {
	size_t count;
	char *word[WORDS_MAX]; /* into `memory` */
	char *memory;
};

/* On success *words is owned by the caller; on failure `why` says what is wrong. */
enum status words_split(const char *text, struct words *words, char *why, size_t size) MUST_CHECK;
void words_free(struct words *words);
/* Appends a word, in quotes when it needs them, so that words_split reads it back. */
void word_append(struct buf *out, const char *word);
/* Splits "name=value" at the first '='; NULL when there is none. Changes `word`; returns the value. */
char *word_option(char *word);

#endif
