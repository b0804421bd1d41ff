/* The ETL tasks as a runner calls them: arguments in, one verdict out. */
#include "tasks/builtin.h"
#include "tests/unit/etl_fixture.h"

#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#define LINE "192.0.2.7 - - [10/Oct/2000:13:55:36 -0700] \"GET / HTTP/1.0\" 200 5 \"-\" \"-\"\n"

/* A call that keeps its verdict. */
struct fake_call {
    struct celeriac_call call; /* first: the pointer is cast */
    const char *verdict;
    json_t *value;
    char type[64];
    char message[1024];
};

static int keep_ok(struct celeriac_call *call, json_t *value)
{
    struct fake_call *fake = (struct fake_call *)call;

    fake->verdict = "ok";
    fake->value = value;
    return 0;
}

static int keep_fail(struct celeriac_call *call, const char *type, const char *module,
                     json_t *messages, const char *traceback)
{
    struct fake_call *fake = (struct fake_call *)call;

    (void)module;
    (void)traceback;
    fake->verdict = "fail";
    snprintf(fake->type, sizeof(fake->type), "%s", type);
    snprintf(fake->message, sizeof(fake->message), "%s", json_string_value(messages));
    json_decref(messages);
    return 0;
}

static int keep_retry(struct celeriac_call *call, const struct celeriac_retry *how)
{
    struct fake_call *fake = (struct fake_call *)call;

    fake->verdict = "retry";
    snprintf(fake->type, sizeof(fake->type), "%s", how->exc_type);
    snprintf(fake->message, sizeof(fake->message), "%s", how->exc_message);
    return 0;
}

static const struct celeriac_task *task_named(const char *name)
{
    const struct builtin_table table = etl_tasks();
    const struct celeriac_task *row = table.rows;

    while (row < table.rows + table.len && strcmp(row->name, name) != 0)
        row++;
    if (row == table.rows + table.len)
        fail_msg("there is no task %s", name);
    return row;
}

/* Runs a task; kwargs: taken. */
static void run(struct fake_call *fake, const char *name, json_t *kwargs)
{
    static const struct celeriac_call_fns fns = {
        .size = sizeof(fns), .ok = keep_ok, .fail = keep_fail, .retry = keep_retry};

    memset(fake, 0, sizeof(*fake));
    assert_non_null(kwargs);
    fake->call.size = sizeof(fake->call);
    fake->call.fn = &fns;
    fake->call.args = json_array();
    fake->call.kwargs = kwargs;
    fake->call.fence = 42;
    assert_int_equal(task_named(name)->run(&fake->call), 0);
    json_decref(fake->call.args);
    json_decref(kwargs);
}

static void release(struct fake_call *fake)
{
    json_decref(fake->value);
    task_named("etl.load_chunk")->exit();
}

/* The arguments of the whole log as one chunk. */
static json_t *kwargs_of(const struct etl_fixture *f)
{
    char checksum[ETL_HASH_TEXT_SIZE];
    struct etl_source source;
    struct etl_cut cut;
    struct etl_err err;
    json_t *kwargs;

    etl_must_open(&source, f->log, f->spool);
    assert_int_equal(etl_source_cut(&source, 0, 1 << 20, &cut, &err), 1);
    etl_hash_text(cut.checksum, checksum);
    kwargs =
        json_pack("{s:s, s:s, s:I, s:I, s:s, s:I, s:I, s:s, s:s, s:s}", "path", f->log, "source",
                  f->log, "device", (json_int_t)source.device, "inode", (json_int_t)source.inode,
                  "generation", "g", "begin", (json_int_t)cut.begin, "end", (json_int_t)cut.end,
                  "checksum", checksum, "format", "combined", "db", f->db);
    etl_source_close(&source);
    return kwargs;
}

static int64_t result(const struct fake_call *fake, const char *key)
{
    return json_integer_value(json_object_get(fake->value, key));
}

static void a_chunk_is_loaded_once(void **state)
{
    struct etl_fixture *f = *state;
    struct fake_call fake;

    etl_write_text(f->log, LINE "\n" LINE);
    run(&fake, "etl.load_chunk", kwargs_of(f));
    assert_string_equal(fake.verdict, "ok");
    assert_int_equal(result(&fake, "lines"), 3);
    assert_int_equal(result(&fake, "inserted"), 2);
    assert_int_equal(result(&fake, "quarantined"), 1);
    assert_int_equal(result(&fake, "pid"), getpid());
    assert_int_equal(
        json_integer_value(json_object_get(json_object_get(fake.value, "reasons"), "empty")), 1);
    assert_true(json_is_false(json_object_get(fake.value, "replayed")));
    json_decref(fake.value);
    run(&fake, "etl.load_chunk", kwargs_of(f));
    assert_int_equal(result(&fake, "inserted"), 2);
    assert_true(json_is_true(json_object_get(fake.value, "replayed")));
    assert_int_equal(etl_number(f->db, "SELECT count(*) FROM event"), 2);
    assert_int_equal(etl_number(f->db, "SELECT fence FROM ledger"), 42);
    release(&fake);
}

/* Redelivered after the log is gone: the ledger answers. */
static void a_stored_chunk_needs_no_log(void **state)
{
    struct etl_fixture *f = *state;
    struct fake_call fake;
    json_t *kwargs;

    etl_write_text(f->log, LINE);
    kwargs = kwargs_of(f);
    run(&fake, "etl.load_chunk", json_incref(kwargs));
    json_decref(fake.value);
    assert_int_equal(unlink(f->log), 0);
    run(&fake, "etl.load_chunk", kwargs);
    assert_string_equal(fake.verdict, "ok");
    release(&fake);
}

static void a_changed_log_fails(void **state)
{
    struct etl_fixture *f = *state;
    struct fake_call fake;
    json_t *kwargs;

    etl_write_text(f->log, LINE);
    kwargs = kwargs_of(f);
    etl_write_text(f->log, "x" LINE);
    run(&fake, "etl.load_chunk", kwargs);
    assert_string_equal(fake.verdict, "fail");
    assert_string_equal(fake.type, "SourceChanged");
    assert_non_null(strstr(fake.message, f->log));
    release(&fake);
}

/* A new database under the same name is not the one that was open. */
static void a_replaced_database_is_opened_anew(void **state)
{
    struct etl_fixture *f = *state;
    struct fake_call fake;

    etl_write_text(f->log, LINE);
    run(&fake, "etl.load_chunk", kwargs_of(f));
    json_decref(fake.value);
    assert_int_equal(unlink(f->db), 0);
    run(&fake, "etl.load_chunk", kwargs_of(f));
    assert_string_equal(fake.verdict, "ok");
    assert_true(json_is_false(json_object_get(fake.value, "replayed")));
    assert_int_equal(etl_number(f->db, "SELECT count(*) FROM event"), 1);
    release(&fake);
}

/* As on a full disk: writes beyond a limit fail. Time may mend it, so it is a retry. */
static void a_full_disk_is_a_retry(void **state)
{
    struct etl_fixture *f = *state;
    struct rlimit before;
    struct rlimit small;
    struct fake_call fake;
    json_t *kwargs;

    etl_write_text(f->log, "");
    for (int i = 0; i < 3000; i++)
        etl_append_text(f->log, LINE);
    kwargs = kwargs_of(f);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = (struct rlimit){200000, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    run(&fake, "etl.load_chunk", json_incref(kwargs));
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_DFL);
    assert_string_equal(fake.verdict, "retry");
    assert_string_equal(fake.type, "OSError");
    assert_non_null(strstr(fake.message, f->db));
    run(&fake, "etl.load_chunk", kwargs);
    assert_string_equal(fake.verdict, "ok");
    assert_int_equal(result(&fake, "inserted"), 3000);
    release(&fake);
}

static void wrong_arguments_are_named(void **state)
{
    static const struct {
        const char *key;
        const char *message;
    } cases[] = {
        {"path", "path must be a string"},     {"inode", "inode must be an integer"},
        {"begin", "begin must be an integer"}, {"checksum", "checksum must be a string"},
        {"format", "format must be a string"}, {"db", "db must be a string"},
    };
    struct etl_fixture *f = *state;
    struct fake_call fake;
    json_t *kwargs;

    etl_write_text(f->log, LINE);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        kwargs = kwargs_of(f);
        json_object_set_new(kwargs, cases[i].key, json_null());
        run(&fake, "etl.load_chunk", kwargs);
        assert_string_equal(fake.verdict, "fail");
        assert_string_equal(fake.type, "ValueError");
        assert_string_equal(fake.message, cases[i].message);
    }
    kwargs = kwargs_of(f);
    json_object_set_new(kwargs, "end", json_integer(-1));
    run(&fake, "etl.load_chunk", kwargs);
    assert_string_equal(fake.message, "begin and end are not a byte range");
    kwargs = kwargs_of(f);
    json_object_set_new(kwargs, "checksum", json_string("xyz"));
    run(&fake, "etl.load_chunk", kwargs);
    assert_string_equal(fake.message, "checksum must be 16 hexadecimal digits");
    release(&fake);
}

static void parsing_stores_nothing(void **state)
{
    struct etl_fixture *f = *state;
    struct fake_call fake;

    etl_write_text(f->log, LINE "\n" LINE);
    run(&fake, "etl.parse_chunk", kwargs_of(f));
    assert_string_equal(fake.verdict, "ok");
    assert_int_equal(result(&fake, "lines"), 3);
    assert_int_equal(result(&fake, "events"), 2);
    assert_int_equal(result(&fake, "quarantined"), 1);
    assert_int_not_equal(access(f->db, F_OK), 0);
    release(&fake);
}

#define WITH_FOLDER(test)                                                                          \
    cmocka_unit_test_setup_teardown(test, etl_fixture_setup, etl_fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(a_chunk_is_loaded_once), WITH_FOLDER(a_stored_chunk_needs_no_log),
        WITH_FOLDER(a_changed_log_fails),    WITH_FOLDER(a_replaced_database_is_opened_anew),
        WITH_FOLDER(a_full_disk_is_a_retry), WITH_FOLDER(wrong_arguments_are_named),
        WITH_FOLDER(parsing_stores_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
