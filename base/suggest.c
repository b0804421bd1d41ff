#include "base/suggest.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

#define WORD_MAX 63

static size_t min2(size_t a, size_t b)
{
    return a < b ? a : b;
}

static bool same_letter(char a, char b)
{
    return tolower((unsigned char)a) == tolower((unsigned char)b);
}

/* Levenshtein's distance with swaps of neighbours; three rows of the table turn in a ring. Both
 * words are at most WORD_MAX long. */
static size_t distance(const char *a, const char *b)
{
    size_t rows[3][WORD_MAX + 1];
    size_t b_len = strlen(b), i;

    for (size_t j = 0; j <= b_len; j++)
        rows[0][j] = j;
    for (i = 1; a[i - 1]; i++) {
        size_t *now = rows[i % 3];
        const size_t *last = rows[(i + 2) % 3], *before = rows[(i + 1) % 3];

        now[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            now[j] =
                min2(min2(last[j], now[j - 1]) + 1, last[j - 1] + !same_letter(a[i - 1], b[j - 1]));
            if (i > 1 && j > 1 && same_letter(a[i - 1], b[j - 2]) &&
                same_letter(a[i - 2], b[j - 1]))
                now[j] = min2(now[j], before[j - 2] + 1);
        }
    }
    return rows[(i - 1) % 3][b_len];
}

void suggest_init(struct suggest *s, const char *word)
{
    size_t len = strlen(word);

    /* best_distance begins at the first distance that is too far. */
    *s = (struct suggest){word, NULL, len / 3 > 1 ? len / 3 + 1 : 2};
    if (len == 0 || len > WORD_MAX)
        s->best_distance = 0;
}

void suggest_offer(struct suggest *s, const char *candidate)
{
    size_t len = strlen(s->word), d;

    if (s->best_distance == 0 || strlen(candidate) > WORD_MAX)
        return;
    d = distance(s->word, candidate);
    if (len >= 2 && strncasecmp(s->word, candidate, len) == 0)
        d = min2(d, 1);
    if (d < s->best_distance) {
        s->best_distance = d;
        s->best = candidate;
    }
}

const char *suggest_word(const char *word, const char *const *words, size_t n)
{
    struct suggest s;

    suggest_init(&s, word);
    for (size_t i = 0; i < n; i++)
        suggest_offer(&s, words[i]);
    return s.best;
}
