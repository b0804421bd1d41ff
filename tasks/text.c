/*
 * text.c - text.wordcount: lines, words, characters and bytes of a text, as wc(1) counts them;
 * text.wordcount_file: those of a file.
 */
#include "tasks/builtin.h"

#include <stdbool.h>

#include "tasks/file.h"

struct counts {
    json_int_t lines;
    json_int_t words;
    json_int_t chars;
    json_int_t bytes;
    bool in_word; /* at the end of what was counted */
};

static bool is_space(unsigned char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Counts more of a text. */
static void count(struct counts *counts, const unsigned char *text, size_t len)
{
    struct counts n = *counts;

    for (size_t i = 0; i < len; i++) {
        unsigned char c = text[i];

        n.lines += c == '\n';
        n.words += !n.in_word && !is_space(c);
        n.chars += (c & 0xc0u) != 0x80u; /* every byte of UTF-8 that is not a continuation */
        n.in_word = !is_space(c);
    }
    n.bytes += (json_int_t)len;
    *counts = n;
}

static int answer(struct celeriac_call *call, const struct counts *n)
{
    return celeriac_ok(call, json_pack("{s:I, s:I, s:I, s:I}", "lines", n->lines, "words", n->words,
                                       "chars", n->chars, "bytes", n->bytes));
}

static int text_wordcount(struct celeriac_call *call)
{
    json_t *text = celeriac_arg(call, 0, "text");
    struct counts n = {0};

    if (!json_is_string(text))
        return celeriac_fail(call, "TypeError", "text is not a string");
    count(&n, (const unsigned char *)json_string_value(text), json_string_length(text));
    return answer(call, &n);
}

static void take_block(void *user, const unsigned char *bytes, size_t len)
{
    count(user, bytes, len);
}

static int text_wordcount_file(struct celeriac_call *call)
{
    struct counts n = {0};
    int rc;

    return file_read(call, take_block, &n, &rc) ? answer(call, &n) : rc;
}

static const struct celeriac_task rows[] = {
    {.size = sizeof(struct celeriac_task),
     .name = "text.wordcount",
     .params = "text",
     .run = text_wordcount},
    {.size = sizeof(struct celeriac_task),
     .name = "text.wordcount_file",
     .params = "path",
     .run = text_wordcount_file},
};

struct builtin_table text_tasks(void)
{
    return BUILTIN_TABLE(rows);
}
