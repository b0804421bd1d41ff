/*
 * text.c - text.wordcount: lines, words, characters and bytes of a text, as wc(1) counts them.
 */
#include "tasks/builtin.h"

#include <stdbool.h>

struct counts {
    json_int_t lines;
    json_int_t words;
    json_int_t chars;
};

static bool is_space(unsigned char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static struct counts count(const char *text, size_t len)
{
    struct counts n = {0, 0, 0};
    bool in_word = false;

    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];

        n.lines += c == '\n';
        n.words += !in_word && !is_space(c);
        n.chars += (c & 0xc0u) != 0x80u; /* every byte of UTF-8 that is not a continuation */
        in_word = !is_space(c);
    }
    return n;
}

static int text_wordcount(struct celeriac_call *call)
{
    json_t *text = celeriac_arg(call, 0, "text");
    struct counts n;

    if (!json_is_string(text))
        return celeriac_fail(call, "TypeError", "text is not a string");
    n = count(json_string_value(text), json_string_length(text));
    return celeriac_ok(call,
                       json_pack("{s:I, s:I, s:I, s:I}", "lines", n.lines, "words", n.words,
                                 "chars", n.chars, "bytes", (json_int_t)json_string_length(text)));
}

static const struct celeriac_task rows[] = {
    {.size = sizeof(struct celeriac_task),
     .name = "text.wordcount",
     .params = "text",
     .run = text_wordcount},
};

struct builtin_table text_tasks(void)
{
    return BUILTIN_TABLE(rows);
}
