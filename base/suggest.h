/*
 * suggest.h - "did you mean ...?".
 *
 * Purpose: an error about a word that nobody knows names the nearest one that somebody does.
 * Model: candidates are offered one by one, or as a list. The distance counts letters inserted,
 * dropped, replaced and neighbours swapped, without regard to case; a word is near when at most a
 * third of it, and at least one letter, has to change, or when the candidate begins with it.
 * Fork rule: none, pure; words are borrowed.
 */
#ifndef BASE_SUGGEST_H
#define BASE_SUGGEST_H

#include <stddef.h>

struct suggest {
    const char *word;
    const char *best; /* the nearest candidate so far, or NULL */
    size_t best_distance;
};

void suggest_init(struct suggest *s, const char *word);
void suggest_offer(struct suggest *s, const char *candidate);

/* The nearest of the n words (borrowed from the list), or NULL when none is near enough. */
const char *suggest_word(const char *word, const char *const *words, size_t n);

#endif
