#include "tests/unit/etl_fixture.h"

#include <dirent.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int etl_fixture_setup(void **state)
{
    struct etl_fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    snprintf(f->folder, sizeof(f->folder), "/tmp/celeriac-etl-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->log, sizeof(f->log), "%s/access.log", f->folder);
    snprintf(f->db, sizeof(f->db), "%s/events.db", f->folder);
    snprintf(f->spool, sizeof(f->spool), "%s/spool", f->folder);
    *state = f;
    return 0;
}

static void remove_files(const char *folder)
{
    DIR *dir = opendir(folder);
    struct dirent *entry;
    char path[512];

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        unlink(path);
    }
    if (dir != NULL)
        closedir(dir);
    rmdir(folder);
}

int etl_fixture_teardown(void **state)
{
    struct etl_fixture *f = *state;

    remove_files(f->spool);
    remove_files(f->folder);
    free(f);
    return 0;
}

void etl_write_file(const char *path, const char *mode, const char *data, size_t len)
{
    FILE *file = fopen(path, mode);

    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

void etl_write_text(const char *path, const char *text)
{
    etl_write_file(path, "wb", text, strlen(text));
}

void etl_append_text(const char *path, const char *text)
{
    etl_write_file(path, "ab", text, strlen(text));
}

void etl_must_open(struct etl_source *source, const char *path, const char *spool)
{
    struct etl_err err;

    if (etl_source_open(source, path, spool, &err) != 0)
        fail_msg("%s", err.text);
}

struct etl_sink *etl_must_sink(const char *db)
{
    struct etl_err err;
    struct etl_sink *sink = etl_sink_sqlite_open(db, 2000, &err);

    if (sink == NULL)
        fail_msg("%s", err.text);
    return sink;
}

int64_t etl_number(const char *db, const char *sql)
{
    sqlite3 *handle;
    sqlite3_stmt *stmt;
    int64_t number;

    assert_int_equal(sqlite3_open(db, &handle), SQLITE_OK);
    if (sqlite3_prepare_v2(handle, sql, -1, &stmt, NULL) != SQLITE_OK)
        fail_msg("%s: %s", sql, sqlite3_errmsg(handle));
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    number = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    sqlite3_close(handle);
    return number;
}

static void load_chunk(struct etl_sink *sink, const char *path, const struct etl_chunk *chunk,
                       struct etl_counts *total)
{
    struct etl_chunk_data data;
    struct etl_batch batch;
    struct etl_counts counts = {0};
    struct etl_err err;

    if (etl_chunk_read(&data, path, &chunk->cut, &err) != 0 ||
        etl_batch_read(&batch, chunk->format, data.bytes, chunk->cut.begin, &err) != 0 ||
        etl_sink_store(sink, chunk, &batch, &counts, &err) != 0)
        fail_msg("%s", err.text);
    assert_int_equal(counts.inserted + counts.quarantined + counts.duplicates, counts.lines);
    total->lines += counts.lines;
    total->inserted += counts.inserted;
    total->quarantined += counts.quarantined;
    total->duplicates += counts.duplicates;
    total->replayed = counts.replayed;
    for (int i = 0; i < ETL_REASONS; i++)
        total->reasons[i] += counts.reasons[i];
    etl_batch_release(&batch);
    etl_chunk_release(&data);
}

struct etl_counts etl_load(struct etl_sink *sink, const char *path, const char *spool,
                           uint64_t wanted_len)
{
    const struct etl_format *format;
    struct etl_counts total = {0};
    struct etl_source source;
    struct etl_place place;
    struct etl_chunk chunk;
    struct etl_err err;
    uint64_t at = 0;

    etl_must_open(&source, path, spool);
    if (etl_source_format(&source, &format, &err) != 0 ||
        etl_sink_place(sink, &source, format, &place, &err) != 0)
        fail_msg("%s", err.text);
    chunk = (struct etl_chunk){
        place.source, place.device, place.inode, place.generation, place.format, {0, 0, 0, 0}, 1};
    while (etl_source_cut(&source, at, wanted_len, &chunk.cut, &err) == 1) {
        load_chunk(sink, source.data_path, &chunk, &total);
        at = chunk.cut.end;
    }
    assert_int_equal(at, source.size);
    etl_place_release(&place);
    etl_source_close(&source);
    return total;
}
