#include "tasks/etl_db.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define APPLICATION_ID 0x43656C65 /* "Cele" */
#define SCHEMA_VERSION 1

/* SQLite's own checkpoints give way to writers; with several writers that never pause they never
 * reach the end, and the log grew to ten times the database. Ours makes the writers wait, and is
 * rare, so that a page which changed often is copied once. */
#define WAL_PAGES_MAX 8000 /* 64 MiB */
#define CHECKPOINT_MS 2000
#define FOLD_MS       200

/* The numbers in here are APPLICATION_ID, SCHEMA_VERSION and ETL_OFFSET_BITS. */
static const char schema[] =
    "CREATE TABLE source ("
    " id INTEGER PRIMARY KEY,"
    " path TEXT NOT NULL, device INTEGER NOT NULL, inode INTEGER NOT NULL,"
    " generation TEXT NOT NULL,"
    " format TEXT NOT NULL,"
    " head_len INTEGER NOT NULL, head_hash TEXT NOT NULL,"
    " UNIQUE (path, device, inode, generation));"
    "CREATE INDEX source_by_inode ON source (device, inode);"
    "CREATE TABLE event ("
    " id INTEGER PRIMARY KEY,"
    " time INTEGER NOT NULL, zone INTEGER NOT NULL,"
    " address TEXT NOT NULL, user TEXT, vhost TEXT,"
    " method TEXT, path TEXT, query TEXT, protocol TEXT, request TEXT,"
    " status INTEGER NOT NULL, bytes INTEGER NOT NULL,"
    " referer TEXT, agent TEXT,"
    " request_time INTEGER, request_id BLOB,"
    " source INTEGER AS (id >> 42), byte_offset INTEGER AS (id & 4398046511103));"
    "CREATE UNIQUE INDEX event_by_request_id ON event (request_id)"
    " WHERE request_id IS NOT NULL;"
    "CREATE TABLE quarantine ("
    " id INTEGER PRIMARY KEY,"
    " length INTEGER NOT NULL, reason TEXT NOT NULL, raw BLOB NOT NULL,"
    " source INTEGER AS (id >> 42), byte_offset INTEGER AS (id & 4398046511103));"
    "CREATE TABLE ledger ("
    " source INTEGER NOT NULL REFERENCES source (id),"
    " begin INTEGER NOT NULL, end INTEGER NOT NULL, format_version INTEGER NOT NULL,"
    " checksum TEXT NOT NULL, fence INTEGER NOT NULL,"
    " lines INTEGER NOT NULL, inserted INTEGER NOT NULL,"
    " quarantined INTEGER NOT NULL, duplicates INTEGER NOT NULL,"
    " open_line INTEGER,"
    " stored_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),"
    " PRIMARY KEY (source, begin, end, format_version),"
    " CHECK (inserted + quarantined + duplicates = lines)) WITHOUT ROWID;"
    "CREATE VIEW access_log AS SELECT"
    " datetime(time, 'unixepoch') AS utc, address, user, vhost, method, path, query, protocol,"
    " request, status, bytes, referer, agent, request_time / 1000.0 AS request_time,"
    " lower(hex(request_id)) AS request_id, source, byte_offset FROM event;"
    "PRAGMA application_id = 1130720357;"
    "PRAGMA user_version = 1;";

_Static_assert(APPLICATION_ID == 1130720357 && SCHEMA_VERSION == 1 && ETL_OFFSET_BITS == 42 &&
                   ETL_OFFSET_MAX == 4398046511103,
               "the schema has these numbers written out");

/* synchronous=NORMAL: after a power cut the last transactions may be missing, rows and ledger
 * alike, and the next load brings them back. Pages of 8 KiB: request ids come in random order, so a
 * chunk touches most pages of their index, and half as many pages of twice the size are written a
 * third faster up to some million rows; even larger ones lose again in the millions after. */
static const char pragmas[] = "PRAGMA page_size = 8192;"
                              "PRAGMA journal_mode = WAL;"
                              "PRAGMA synchronous = NORMAL;"
                              "PRAGMA cache_size = -65536;"
                              "PRAGMA temp_store = MEMORY;";

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* SQLite's own handler soon sleeps 100 ms at a time, far longer than the few milliseconds that a
 * chunk's transaction holds the lock. */
static int wait_for_lock(void *user, int times)
{
    struct etl_db *db = user;
    struct timespec pause = {0, 100000L << (times < 4 ? times : 4)};

    if (times == 0)
        db->busy_until_ms = now_ms() + db->busy_ms;
    if (now_ms() >= db->busy_until_ms)
        return 0;
    nanosleep(&pause, NULL);
    return 1;
}

static int note_wal(void *user, sqlite3 *handle, const char *name, int pages)
{
    struct etl_db *db = user;

    (void)handle;
    (void)name;
    db->wal_pages = pages;
    return SQLITE_OK;
}

static void checkpoint(struct etl_db *db, int mode, int64_t busy_ms)
{
    int64_t before_ms = db->busy_ms;

    db->busy_ms = busy_ms;
    if (sqlite3_wal_checkpoint_v2(db->handle, NULL, mode, NULL, NULL) == SQLITE_OK)
        db->wal_pages = 0;
    db->busy_ms = before_ms;
}

void etl_db_checkpoint(struct etl_db *db)
{
    if (db->wal_pages >= WAL_PAGES_MAX)
        checkpoint(db, SQLITE_CHECKPOINT_RESTART, CHECKPOINT_MS);
}

void etl_db_fold(struct etl_db *db)
{
    checkpoint(db, SQLITE_CHECKPOINT_TRUNCATE, FOLD_MS);
}

static enum etl_err_kind kind_of(int code)
{
    switch (code & 0xFF) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return ETL_ERR_BUSY;
    case SQLITE_FULL:
    case SQLITE_IOERR:
        return ETL_ERR_SPACE;
    case SQLITE_NOMEM:
        return ETL_ERR_MEMORY;
    default:
        return ETL_ERR_DATABASE;
    }
}

int etl_db_fail(struct etl_db *db, const char *doing, struct etl_err *err)
{
    int code = sqlite3_extended_errcode(db->handle);
    int os_error = sqlite3_system_errno(db->handle);

    if ((code & 0xFF) == SQLITE_CANTOPEN && os_error != 0)
        return etl_err_set(err, ETL_ERR_DATABASE, "%s: cannot %s: %s", db->path, doing,
                           strerror(os_error));
    return etl_err_set(err, kind_of(code), "%s: cannot %s: %s", db->path, doing,
                       sqlite3_errmsg(db->handle));
}

int etl_db_run(struct etl_db *db, const char *sql, const char *doing, struct etl_err *err)
{
    return sqlite3_exec(db->handle, sql, NULL, NULL, NULL) == SQLITE_OK
               ? 0
               : etl_db_fail(db, doing, err);
}

int etl_db_prepare(struct etl_db *db, const char *sql, sqlite3_stmt **stmt, struct etl_err *err)
{
    return sqlite3_prepare_v3(db->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, stmt, NULL) ==
                   SQLITE_OK
               ? 0
               : etl_db_fail(db, "read the tables (is it a database of `celeriac etl`?)", err);
}

/* One number that a pragma or a count answers with. */
static int read_number(struct etl_db *db, const char *sql, int64_t *number, struct etl_err *err)
{
    sqlite3_stmt *stmt;
    int rc = 0;

    if (sqlite3_prepare_v2(db->handle, sql, -1, &stmt, NULL) != SQLITE_OK)
        return etl_db_fail(db, "open the database", err);
    if (sqlite3_step(stmt) == SQLITE_ROW)
        *number = sqlite3_column_int64(stmt, 0);
    else
        rc = etl_db_fail(db, "open the database", err);
    sqlite3_finalize(stmt);
    return rc;
}

static int check_owner(struct etl_db *db, bool *is_new, struct etl_err *err)
{
    int64_t application = 0;
    int64_t version = 0;
    int64_t tables = 0;

    if (read_number(db, "PRAGMA application_id", &application, err) != 0 ||
        read_number(db, "PRAGMA user_version", &version, err) != 0 ||
        read_number(db, "SELECT count(*) FROM sqlite_schema", &tables, err) != 0)
        return -1;
    *is_new = application == 0 && version == 0 && tables == 0;
    if (*is_new || (application == APPLICATION_ID && version == SCHEMA_VERSION))
        return 0;
    if (application == APPLICATION_ID)
        return etl_err_set(err, ETL_ERR_DATABASE,
                           "%s: has tables of version %lld, this program knows version %d; use the "
                           "program that wrote it, or another database",
                           db->path, (long long)version, SCHEMA_VERSION);
    return etl_err_set(err, ETL_ERR_DATABASE,
                       "%s: is a database of some other program; name another file", db->path);
}

static int make_tables(struct etl_db *db, struct etl_err *err)
{
    bool is_new;

    if (etl_db_run(db, "BEGIN IMMEDIATE", "make the tables", err) != 0)
        return -1;
    /* Another process may have been first while we waited for the lock. */
    if (check_owner(db, &is_new, err) != 0 ||
        (is_new && etl_db_run(db, schema, "make the tables", err) != 0) ||
        etl_db_run(db, "COMMIT", "make the tables", err) != 0) {
        sqlite3_exec(db->handle, "ROLLBACK", NULL, NULL, NULL);
        return -1;
    }
    return 0;
}

static int prepare_file(struct etl_db *db, enum etl_db_mode mode, struct etl_err *err)
{
    bool is_new;

    if (check_owner(db, &is_new, err) != 0)
        return -1;
    if (is_new && mode == ETL_DB_READ)
        return etl_err_set(err, ETL_ERR_DATABASE, "%s: holds no events; load a log into it first",
                           db->path);
    if (mode == ETL_DB_READ)
        return 0;
    if (etl_db_run(db, pragmas, "set up the database", err) != 0)
        return -1;
    return is_new ? make_tables(db, err) : 0;
}

static int open_handle(struct etl_db *db, enum etl_db_mode mode, struct etl_err *err)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX |
                (mode == ETL_DB_CREATE ? SQLITE_OPEN_CREATE : 0);
    struct stat st;

    if (mode == ETL_DB_READ && stat(db->path, &st) != 0 && errno == ENOENT)
        return etl_err_set(err, ETL_ERR_NOTFOUND,
                           "%s: no such database; `celeriac etl load` makes it", db->path);
    if (sqlite3_open_v2(db->path, &db->handle, flags, NULL) != SQLITE_OK) {
        if (db->handle == NULL)
            return etl_err_set(err, ETL_ERR_MEMORY, "out of memory");
        return etl_db_fail(db, "open the database", err);
    }
    sqlite3_busy_handler(db->handle, wait_for_lock, db);
    sqlite3_wal_hook(db->handle, note_wal, db);
    if (prepare_file(db, mode, err) != 0)
        return -1;
    if (stat(db->path, &st) != 0)
        return etl_err_set(err, ETL_ERR_DATABASE, "%s: %s", db->path, strerror(errno));
    db->device = (uint64_t)st.st_dev;
    db->inode = (uint64_t)st.st_ino;
    return 0;
}

int etl_db_open(struct etl_db *db, const char *path, enum etl_db_mode mode, int64_t busy_ms,
                struct etl_err *err)
{
    memset(db, 0, sizeof(*db));
    db->busy_ms = busy_ms;
    db->path = strdup(path);
    if (db->path == NULL)
        return etl_err_set(err, ETL_ERR_MEMORY, "out of memory");
    if (open_handle(db, mode, err) == 0)
        return 0;
    etl_db_close(db);
    return -1;
}

void etl_db_close(struct etl_db *db)
{
    sqlite3_close(db->handle);
    free(db->path);
    memset(db, 0, sizeof(*db));
}

int etl_db_is_current(const struct etl_db *db, const char *path)
{
    struct stat st;

    return db->handle != NULL && strcmp(db->path, path) == 0 && stat(path, &st) == 0 &&
           (uint64_t)st.st_dev == db->device && (uint64_t)st.st_ino == db->inode;
}

/* Length of the UTF-8 sequence at text, 0 if it is not a valid one. */
static size_t sequence_len(const unsigned char *at, size_t left)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t len = *at < 0x80    ? 1
                 : *at >= 0xF8 ? 0
                 : *at >= 0xF0 ? 4
                 : *at >= 0xE0 ? 3
                 : *at >= 0xC0 ? 2
                               : 0;
    uint32_t value = len > 1 ? *at & (0x7Fu >> len) : *at;

    if (len == 0 || len > left)
        return 0;
    for (size_t i = 1; i < len; i++) {
        if ((at[i] & 0xC0) != 0x80)
            return 0;
        value = value << 6 | (at[i] & 0x3F);
    }
    if (len > 1 && (value < smallest[len] || value > 0x10FFFF || (value >> 11) == 0x1B))
        return 0;
    return len;
}

/* Can the bytes be read back as SQL text? */
static bool is_text(struct etl_slice text)
{
    const unsigned char *at = (const unsigned char *)text.at;
    size_t i = 0;
    uint64_t word;

    while (i < text.len) {
        /* Eight plain bytes at once: no high bit, and none that is zero. */
        if (text.len - i >= sizeof(word)) {
            memcpy(&word, at + i, sizeof(word));
            if (((word | (word - 0x0101010101010101u)) & 0x8080808080808080u) == 0) {
                i += sizeof(word);
                continue;
            }
        }
        size_t len = at[i] == 0 ? 0 : sequence_len(at + i, text.len - i);

        if (len == 0)
            return false;
        i += len;
    }
    return true;
}

void etl_db_bind(sqlite3_stmt *stmt, int index, struct etl_slice text)
{
    if (text.at == NULL)
        sqlite3_bind_null(stmt, index);
    else if (is_text(text))
        sqlite3_bind_text64(stmt, index, text.at, text.len, SQLITE_STATIC, SQLITE_UTF8);
    else
        sqlite3_bind_blob64(stmt, index, text.at, text.len, SQLITE_STATIC);
}
