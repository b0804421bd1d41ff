/* Things by task id, and documents that are kept within a bound. */
#include "broker/amqp_docs.h"
#include "tests/support/check.h"

#include <stdio.h>
#include <stdlib.h>

/* --- the table of ids --- */

#define MANY 1000

struct thing {
    struct id_entry entry;
    char text[16];
    int seen;
};

static void count(void *context, struct id_entry *entry)
{
    int *n = context;

    ((struct thing *)entry)->seen++;
    ++*n;
}

static void ids_are_found_removed_and_drained(void **state)
{
    struct thing *things = calloc(MANY, sizeof(*things));
    struct id_table t = {0};
    int n = 0;

    (void)state;
    assert_non_null(things);
    for (int i = 0; i < MANY; i++) {
        snprintf(things[i].text, sizeof(things[i].text), "id-%d", i);
        things[i].entry.id = slice_of(things[i].text);
        assert_int_equal(id_table_add(&t, &things[i].entry), 0);
    }
    for (int i = 0; i < MANY; i += 2)
        id_table_remove(&t, &things[i].entry);
    for (int i = 0; i < MANY; i++)
        assert_ptr_equal(id_table_find(&t, slice_of(things[i].text)),
                         i % 2 ? &things[i].entry : NULL);
    id_table_each(&t, count, &n);
    assert_int_equal(n, MANY / 2);
    id_table_drain(&t, count, &n);
    assert_int_equal(n, MANY);
    for (int i = 0; i < MANY; i++)
        assert_int_equal(things[i].seen, i % 2 ? 2 : 0);
    assert_null(id_table_find(&t, slice_of("id-1")));
    assert_int_equal(id_table_add(&t, &things[1].entry), 0);
    assert_non_null(id_table_find(&t, slice_of("id-1")));
    id_table_release(&t);
    free(things);
}

/* --- documents --- */

static struct kept_doc *keep(struct kept_docs *all, int i, size_t len)
{
    char id[16], *doc = calloc(1, len + 1);
    struct kept_doc *k;

    assert_non_null(doc);
    memset(doc, 'a' + i % 26, len);
    snprintf(id, sizeof(id), "id-%d", i);
    k = kept_docs_add(all, slice_of(id));
    if (k && !kept_docs_set(all, k, slice_make(doc, len)))
        k = NULL;
    free(doc);
    return k;
}

static void the_oldest_documents_go(void **state)
{
    struct kept_docs all = {.max = 100000};
    size_t n = 0;

    (void)state;
    for (int i = 0; i < MANY; i++) {
        assert_non_null(keep(&all, i, 1000));
        assert_in_range(all.bytes, 1000, all.max);
    }
    for (int i = 0; i < MANY; i++) {
        char id[16];
        const struct kept_doc *k;

        snprintf(id, sizeof(id), "id-%d", i);
        k = kept_docs_find(&all, slice_of(id));
        assert_true(k || n == 0); /* those that are there are the last ones */
        n += k != NULL;
        if (k)
            assert_int_equal(buf_slice(&k->doc).ptr[0], 'a' + i % 26);
    }
    assert_in_range(n, 10, 100);
    assert_int_equal(n, all.ids.len);
    kept_docs_release(&all);
}

static void a_document_is_replaced_and_dropped(void **state)
{
    struct kept_docs all = {.max = 100000};
    struct kept_doc *k = MUST_HAVE(keep(&all, 1, 10));

    (void)state;
    k->mark = 7;
    assert_ptr_equal(keep(&all, 1, 5000), k);
    assert_int_equal(k->mark, 7);
    assert_int_equal(k->doc.len, 5000);
    keep(&all, 2, 10);
    kept_docs_drop(&all, k);
    assert_null(kept_docs_find(&all, slice_of("id-1")));
    assert_non_null(kept_docs_find(&all, slice_of("id-2")));
    kept_docs_release(&all);
    assert_int_equal(all.bytes, 0);
    assert_null(kept_docs_find(&all, slice_of("id-2")));
}

static void what_is_too_large_is_not_kept(void **state)
{
    struct kept_docs all = {.max = 100000};

    (void)state;
    assert_non_null(keep(&all, 1, 10));
    assert_null(keep(&all, 2, 200000));
    assert_int_equal(all.ids.len, 0);
    assert_int_equal(all.bytes, 0);
    assert_non_null(keep(&all, 3, 10));
    kept_docs_release(&all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_found_removed_and_drained),
        cmocka_unit_test(the_oldest_documents_go),
        cmocka_unit_test(a_document_is_replaced_and_dropped),
        cmocka_unit_test(what_is_too_large_is_not_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
