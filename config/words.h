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

/* Options "name=value" are the words from `first` on. Each must be one of `names` (`count` of them, at most WORDS_OPTIONS_MAX) and
 * stand once; `take` is given its number and value. Stops at the first fault; `accepted` is for the message. */
#define WORDS_OPTIONS_MAX 16
typedef enum status words_option_fn(void *ctx, int option, const char *value, char *why, size_t size);
enum status words_options(struct words *words, size_t first, const char *const *names, size_t count, const char *accepted,
	words_option_fn *take, void *ctx, char *why, size_t size) MUST_CHECK;

#endif
