/* Aligned columns. */
#include "tests/support/check.h"

#include "base/suggest.h"
#include "base/table.h"

#include <stdlib.h>

static const char *const names[] = {"NAME", ">N", "TEXT", NULL};

static char *printed(struct table *t)
{
    char *text = NULL;
    size_t len = 0;
    FILE *file = open_memstream(&text, &len);

    assert_non_null(file);
    assert_int_equal(table_print(t, file, false), 0);
    fclose(file);
    table_release(t);
    return text;
}

static void aligns_columns(void **state)
{
    struct table t;
    char *text;

    (void)state;
    table_init(&t, names);
    table_cell(&t, "a");
    table_cellf(&t, "%d", 12345);
    table_cell(&t, NULL);
    table_cell(&t, "longer");
    table_cell(&t, "7");
    table_cell(&t, "x");
    text = printed(&t);
    assert_string_equal(text, "NAME        N  TEXT\n"
                              "a       12345  -\n"
                              "longer      7  x\n");
    free(text);
}

static void counts_characters_not_bytes(void **state)
{
    struct table t;
    char *text;

    (void)state;
    table_init(&t, names);
    table_cell(&t, "\xc3\xa4\xc3\xb6\xc3\xbc\xc3\x9f!");
    table_cell(&t, "1");
    table_cell(&t, "x");
    text = printed(&t);
    assert_string_equal(text, "NAME   N  TEXT\n\xc3\xa4\xc3\xb6\xc3\xbc\xc3\x9f!  1  x\n");
    free(text);
}

static void lets_no_message_steer_the_terminal(void **state)
{
    static const char *const one[] = {"TEXT", NULL};
    struct table t;
    char *text;

    (void)state;
    table_init(&t, one);
    table_cell(&t, "a\033[2Jb\nc\x7f");
    text = printed(&t);
    assert_string_equal(text, "TEXT\na?[2Jb?c?\n");
    free(text);
}

static void prints_no_head_without_names(void **state)
{
    static const char *const none[] = {"", "", NULL};
    struct table t;
    char *text;

    (void)state;
    table_init(&t, none);
    table_cell(&t, "key");
    table_cell(&t, "value");
    text = printed(&t);
    assert_string_equal(text, "key  value\n");
    free(text);
}

static void suggests_near_words_only(void **state)
{
    static const char *const words[] = {"worker", "call", "result", "queue"};

    (void)state;
    assert_string_equal(suggest_word("wroker", words, 4), "worker");
    assert_string_equal(suggest_word("CALL", words, 4), "call");
    assert_string_equal(suggest_word("que", words, 4), "queue");
    assert_string_equal(suggest_word("rsult", words, 4), "result");
    assert_null(suggest_word("q", words, 4));
    assert_null(suggest_word("help", words, 4));
    assert_null(suggest_word("", words, 4));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(aligns_columns),
        cmocka_unit_test(counts_characters_not_bytes),
        cmocka_unit_test(lets_no_message_steer_the_terminal),
        cmocka_unit_test(prints_no_head_without_names),
        cmocka_unit_test(suggests_near_words_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
