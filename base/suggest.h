/*
 * suggest.h - "did you mean ...?".
 *
 * Purpose: an error about a word that nobody knows names the nearest one that somebody does.
 * Model: Levenshtein distance without regard to case; a word is near when at most a third of it,
 * and at least one letter, has to change. Fork rule: none, pure.
 */
#ifndef BASE_SUGGEST_H
#define BASE_SUGGEST_H

#include <stddef.h>

/* The nearest of the n words (borrowed from the list), or NULL when none is near enough. */
const char *suggest_word(const char *word, const char *const *words, size_t n);

#endif
