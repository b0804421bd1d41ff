/* Logs as files: identity, chunks, packed logs, and what cannot be read. */
#include "tests/unit/etl_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

static void chunks_end_on_line_ends(void **state)
{
    static const char text[] = "aaaa\nbb\n\ncccccccccc\nd";
    struct etl_fixture *f = *state;
    struct etl_source source;
    struct etl_err err;

    etl_write_text(f->log, text);
    etl_must_open(&source, f->log, f->spool);
    for (uint64_t wanted = 1; wanted < 40; wanted++) {
        struct etl_cut cut = {0, 0, 0, 0};
        uint64_t at = 0;
        uint64_t lines = 0;

        while (etl_source_cut(&source, at, wanted, &cut, &err) == 1) {
            assert_int_equal(cut.begin, at);
            if (cut.end <= at || cut.end > source.size)
                fail_msg("a part ends at %d", (int)cut.end);
            assert_true(cut.end == source.size || text[cut.end - 1] == '\n');
            assert_true(cut.end == source.size || cut.end - at >= wanted);
            at = cut.end;
            lines += cut.lines;
        }
        assert_int_equal(at, sizeof(text) - 1);
        assert_int_equal(lines, 5);
    }
    etl_source_close(&source);
}

static void a_chunk_of_the_wanted_length_is_not_longer(void **state)
{
    struct etl_fixture *f = *state;
    struct etl_source source;
    struct etl_cut cut;
    struct etl_err err;

    etl_write_text(f->log, "aaaa\nbbbb\n");
    etl_must_open(&source, f->log, f->spool);
    assert_int_equal(etl_source_cut(&source, 0, 5, &cut, &err), 1);
    assert_int_equal(cut.end, 5);
    assert_int_equal(cut.lines, 1);
    assert_int_equal(etl_source_cut(&source, 0, 500, &cut, &err), 1);
    assert_int_equal(cut.lines, 2);
    assert_int_equal(etl_source_cut(&source, 10, 5, &cut, &err), 0);
    etl_source_close(&source);
}

/* Longer than the blocks that are read. */
static void a_long_line_is_one_chunk(void **state)
{
    struct etl_fixture *f = *state;
    size_t len = (size_t)300 * 1024;
    char *text = malloc(len);
    struct etl_chunk_data data;
    struct etl_source source;
    struct etl_cut cut;
    struct etl_err err;

    assert_non_null(text);
    memset(text, 'x', len);
    text[len - 2] = '\n';
    etl_write_file(f->log, "wb", text, len);
    etl_must_open(&source, f->log, f->spool);
    assert_int_equal(etl_source_cut(&source, 0, 10, &cut, &err), 1);
    assert_int_equal(cut.end, len - 1);
    assert_int_equal(etl_chunk_read(&data, f->log, &cut, &err), 0);
    assert_memory_equal(data.bytes.at, text, len - 1);
    etl_chunk_release(&data);
    etl_source_close(&source);
    free(text);
}

/* A hole of NULs, as a crash leaves it: one line that is mapped, not copied. */
static void a_huge_line_is_mapped(void **state)
{
    struct etl_fixture *f = *state;
    struct etl_chunk_data data;
    struct etl_source source;
    struct etl_batch batch;
    struct etl_cut cut;
    struct etl_err err;

    etl_write_text(f->log, "first\n");
    assert_int_equal(truncate(f->log, (off_t)80 * 1024 * 1024), 0);
    etl_append_text(f->log, "\nlast\n");
    etl_must_open(&source, f->log, f->spool);
    assert_int_equal(etl_source_cut(&source, 6, 4096, &cut, &err), 1);
    assert_int_equal(cut.end, 80 * 1024 * 1024 + 1);
    assert_int_equal(etl_chunk_read(&data, f->log, &cut, &err), 0);
    assert_true(data.map_len > 0);
    assert_int_equal(
        etl_batch_read(&batch, etl_format_named("combined"), data.bytes, cut.begin, &err), 0);
    assert_int_equal(batch.records_len, 1);
    assert_int_equal(batch.reasons[ETL_TOO_LONG], 1);
    etl_batch_release(&batch);
    etl_chunk_release(&data);
    etl_source_close(&source);
}

static void changed_bytes_are_refused(void **state)
{
    struct etl_fixture *f = *state;
    struct etl_chunk_data data;
    struct etl_source source;
    struct etl_cut cut;
    struct etl_err err;

    etl_write_text(f->log, "one\ntwo\n");
    etl_must_open(&source, f->log, f->spool);
    assert_int_equal(etl_source_cut(&source, 0, 100, &cut, &err), 1);
    etl_source_close(&source);
    etl_write_text(f->log, "one\nTWO\n");
    assert_int_equal(etl_chunk_read(&data, f->log, &cut, &err), -1);
    assert_int_equal(err.kind, ETL_ERR_CHANGED);
    assert_non_null(strstr(err.text, "replaced or changed"));
    etl_write_text(f->log, "one\n");
    assert_int_equal(etl_chunk_read(&data, f->log, &cut, &err), -1);
    assert_int_equal(err.kind, ETL_ERR_CHANGED);
    assert_non_null(strstr(err.text, "truncated"));
}

static void write_packed(const char *path, const char *text, size_t len)
{
    gzFile out = gzopen(path, "wb");

    assert_non_null(out);
    assert_int_equal(gzwrite(out, text, (unsigned)len), len);
    assert_int_equal(gzclose(out), Z_OK);
}

static void a_packed_log_is_unpacked_once(void **state)
{
    struct etl_fixture *f = *state;
    struct etl_source first;
    struct etl_source second;
    struct stat one;
    struct stat two;

    write_packed(f->log, "line 1\nline 2\n", 14);
    etl_must_open(&first, f->log, f->spool);
    assert_int_equal(first.size, 14);
    assert_string_not_equal(first.path, first.data_path);
    assert_int_equal(stat(f->log, &one), 0);
    assert_int_equal(first.inode, one.st_ino);
    assert_int_equal(stat(first.data_path, &one), 0);
    etl_must_open(&second, f->log, f->spool);
    assert_int_equal(stat(second.data_path, &two), 0);
    assert_int_equal(one.st_ino, two.st_ino);
    etl_source_close(&first);
    etl_source_close(&second);
}

static void a_packed_log_needs_no_folder(void **state)
{
    struct etl_fixture *f = *state;
    struct etl_chunk_data data;
    struct etl_source source;
    struct etl_cut cut;
    struct etl_err err;

    write_packed(f->log, "line 1\nline 2\n", 14);
    assert_int_equal(setenv("TMPDIR", f->folder, 1), 0);
    etl_must_open(&source, f->log, NULL);
    assert_int_equal(etl_source_cut(&source, 0, 100, &cut, &err), 1);
    assert_int_equal(etl_chunk_read(&data, source.data_path, &cut, &err), 0);
    assert_int_equal(data.bytes.len, 14);
    etl_chunk_release(&data);
    etl_source_close(&source);
    unsetenv("TMPDIR");
    /* Nothing of it is left: the folder is empty but for the log. */
    assert_int_equal(unlink(f->log), 0);
    assert_int_equal(rmdir(f->folder), 0);
}

/* /tmp is everybody's: the spool folder's name and those of its files can be guessed. */
static void a_folder_of_another_user_is_not_used(void **state)
{
    struct etl_fixture *f = *state;
    struct etl_source source;
    struct etl_err err;

    if (geteuid() != 0)
        skip(); /* only root can give a folder away */
    write_packed(f->log, "line\n", 5);
    assert_int_equal(mkdir(f->spool, 0777), 0);
    assert_int_equal(chown(f->spool, 65534, 65534), 0);
    assert_int_equal(etl_source_open(&source, f->log, f->spool, &err), -1);
    assert_non_null(strstr(err.text, "belongs to another user: name one of your own with --spool"));
}

static void a_damaged_packed_log_is_refused(void **state)
{
    struct etl_fixture *f = *state;
    struct etl_source source;
    struct etl_err err;
    char text[4096];
    unsigned seed = 1;

    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = (char)((seed = seed * 1103515245u + 12345u) >> 16);
    write_packed(f->log, text, sizeof(text));
    assert_int_equal(truncate(f->log, 2000), 0);
    assert_int_equal(etl_source_open(&source, f->log, f->spool, &err), -1);
    assert_int_equal(err.kind, ETL_ERR_INPUT);
    assert_non_null(strstr(err.text, "damaged gzip data ("));
    assert_null(strstr(err.text, "<fd:"));
    /* Nothing half-made is left to be taken for the log. */
    assert_int_equal(rmdir(f->spool), 0);
}

static void unreadable_logs_are_named(void **state)
{
    struct etl_fixture *f = *state;
    struct etl_source source;
    struct etl_err err;

    assert_int_equal(etl_source_open(&source, f->log, f->spool, &err), -1);
    assert_int_equal(err.kind, ETL_ERR_NOTFOUND);
    assert_non_null(strstr(err.text, f->log));
    assert_non_null(strstr(err.text, "No such file"));
    assert_int_equal(etl_source_open(&source, f->folder, f->spool, &err), -1);
    assert_non_null(strstr(err.text, "is a directory"));
    assert_int_equal(etl_source_open(&source, "/dev/null", f->spool, &err), -1);
    assert_non_null(strstr(err.text, "not a regular file"));
}

static void an_empty_log_has_no_chunk(void **state)
{
    struct etl_fixture *f = *state;
    const struct etl_format *format;
    struct etl_source source;
    struct etl_cut cut;
    struct etl_err err;

    etl_write_text(f->log, "");
    etl_must_open(&source, f->log, f->spool);
    assert_int_equal(etl_source_cut(&source, 0, 100, &cut, &err), 0);
    assert_int_equal(etl_source_format(&source, &format, &err), 0);
    assert_string_equal(format->name, "combined");
    etl_source_close(&source);
}

static void hashes_are_read_back(void **state)
{
    char text[ETL_HASH_TEXT_SIZE];
    uint64_t hash;

    (void)state;
    etl_hash_text(0x0123456789abcdefu, text);
    assert_true(etl_hash_parse(text, &hash));
    assert_int_equal(hash, 0x0123456789abcdefu);
    assert_false(etl_hash_parse("0123456789abcde", &hash));
    assert_false(etl_hash_parse("0123456789abcdeg", &hash));
    assert_false(etl_hash_parse("0x23456789abcdef", &hash));
}

#define WITH_FOLDER(test)                                                                          \
    cmocka_unit_test_setup_teardown(test, etl_fixture_setup, etl_fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(chunks_end_on_line_ends),
        WITH_FOLDER(a_chunk_of_the_wanted_length_is_not_longer),
        WITH_FOLDER(a_long_line_is_one_chunk),
        WITH_FOLDER(a_huge_line_is_mapped),
        WITH_FOLDER(changed_bytes_are_refused),
        WITH_FOLDER(a_packed_log_is_unpacked_once),
        WITH_FOLDER(a_packed_log_needs_no_folder),
        WITH_FOLDER(a_folder_of_another_user_is_not_used),
        WITH_FOLDER(a_damaged_packed_log_is_refused),
        WITH_FOLDER(unreadable_logs_are_named),
        WITH_FOLDER(an_empty_log_has_no_chunk),
        cmocka_unit_test(hashes_are_read_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
