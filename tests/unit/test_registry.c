#include "tests/support/check.h"

#include "worker/registry.h"

#include <jansson.h>
#include <stdio.h>

static struct registry fresh(void)
{
    struct registry r;
    struct err e = ERR_INIT;

    CHECK_OK(registry_init(&r, &e));
    return r;
}

static void finds_built_in_tasks(void **state)
{
    static const char *const names[] = {"math.add",    "math.mul",       "math.tsum",
                                        "math.primes", "text.wordcount", "hash.sha256",
                                        "sleep",       "noop",           "fail"};
    struct registry r = fresh();

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct registry_entry *entry = registry_find(&r, names[i]);

        assert_non_null(entry);
        assert_string_equal(entry->row.name, names[i]);
        assert_int_equal(entry->row.max_retries, 3);
        assert_true(entry->row.backoff_s == 1.0 && entry->row.backoff_max_s == 600.0);
    }
    assert_null(registry_find(&r, "math.ad"));
    assert_null(registry_find(&r, ""));
    registry_release(&r);
}

static void describes_rows_as_json(void **state)
{
    struct registry r = fresh();
    struct buf text = BUF_INIT;
    struct err e = ERR_INIT;
    json_t *list;

    (void)state;
    CHECK_OK(registry_load(&r, TEST_MODULE_DIR "/probe.so", &e));
    CHECK_OK(registry_describe(&r, &text, &e));
    list = json_loads(buf_str(&text), 0, NULL);
    assert_int_equal(json_array_size(list), r.len);
    for (size_t i = 0; i < r.len; i++) {
        json_t *row = json_array_get(list, i);
        const char *name = json_string_value(json_object_get(row, "name"));

        assert_true(json_is_real(json_object_get(row, "soft_limit_s")));
        assert_true(json_is_real(json_object_get(row, "hard_limit_s")));
        assert_true(json_is_false(json_object_get(row, "ack_early")));
        assert_int_equal(json_is_true(json_object_get(row, "track_started")),
                         strcmp(name, "probe.progress") == 0);
        assert_int_equal(json_integer_value(json_object_get(row, "ignore_result")),
                         strcmp(name, "probe.quiet") == 0 ? CELERIAC_YES : CELERIAC_UNSET);
    }
    json_decref(list);
    buf_release(&text);
    registry_release(&r);
}

static void refuses_with_the_reason(void **state)
{
    static const struct {
        const char *file;
        const char *reason;
    } cases[] = {
        {"missing.so", "No such file or directory"},
        {"not_elf.so", "can not be loaded"},
        {"no_symbol.so", "exports no celeriac_module"},
        {"major.so", "built for task ABI 2.1 and this worker has 1.1"},
        {"clash.so", "task \"math.add\" exists already"},
        {"params.so", "task \"probe.spawn\": params \"x, x\": a name comes twice"},
        {"dedup.so", "task \"probe.spawn\": dedup names \"y\", which is not in params"},
        {"dedup_early.so", "task \"probe.spawn\": dedup and ack_early exclude each other"},
        {"small_row.so", "a row says it is 8 bytes long"},
        {"large_row.so", "a row says it is 4096 bytes long"},
    };
    struct registry r = fresh();
    size_t before = r.len;
    struct err e;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char path[512];

        snprintf(path, sizeof(path), "%s/%s", TEST_MODULE_DIR, cases[i].file);
        CHECK_ERR(registry_load(&r, path, &e), ERR_OPERATOR, cases[i].reason);
        CHECK_ERR(registry_load(&r, path, &e), ERR_OPERATOR, path);
        assert_int_equal(r.len, before);
        assert_null(registry_find(&r, "probe.send_now"));
    }
    assert_int_equal(r.handles_len, 0);
    CHECK_OK(registry_load(&r, TEST_MODULE_DIR "/probe.so", &e));
    CHECK_ERR(registry_load(&r, TEST_MODULE_DIR "/probe.so", &e), ERR_OPERATOR, "exists already");
    registry_release(&r);
}

static void reads_rows_of_other_versions(void **state)
{
    static const struct {
        const char *file;
        int max_retries;
    } cases[] = {{"future.so", 7}, {"past.so", 3}};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct registry r = fresh();
        struct registry_entry *entry;
        struct err e = ERR_INIT;
        char path[512];

        snprintf(path, sizeof(path), "%s/%s", TEST_MODULE_DIR, cases[i].file);
        CHECK_OK(registry_load(&r, path, &e));
        entry = registry_find(&r, "future.two");
        assert_non_null(entry);
        assert_int_equal(entry->row.max_retries, cases[i].max_retries);
        assert_null(entry->row.init);
        assert_non_null(registry_find(&r, "future.one")->params);
        registry_release(&r);
    }
}

static void starts_again_after_a_failure(void **state)
{
    struct registry r = fresh();
    struct err e = ERR_INIT;

    (void)state;
    CHECK_OK(registry_load(&r, TEST_MODULE_DIR "/probe.so", &e));
    assert_int_equal(registry_start(registry_find(&r, "probe.init")), -1);
    assert_int_equal(registry_start(registry_find(&r, "probe.init")), -1);
    assert_int_equal(registry_start(registry_find(&r, "math.add")), 0);
    assert_true(registry_find(&r, "math.add")->init_ok);
    registry_exit(&r);
    assert_false(registry_find(&r, "math.add")->init_ok);
    registry_release(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_built_in_tasks),
        cmocka_unit_test(describes_rows_as_json),
        cmocka_unit_test(refuses_with_the_reason),
        cmocka_unit_test(reads_rows_of_other_versions),
        cmocka_unit_test(starts_again_after_a_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
