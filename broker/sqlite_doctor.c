/* What a doctor says of a queue file: the library, the file's own settings, the place it lies in.
 */
#include "broker/answer.h"
#include "broker/sqlite.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#define MIB        (1024.0 * 1024.0)
#define LEAST_FREE (64 * 1024 * 1024LL)
#define LARGE_LOG  (256 * 1024 * 1024LL)

/* The first column of a PRAGMA that only reads. */
static int read_pragma(struct sqlite_broker *b, const char *sql, char *to, size_t size)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(b->db, sql, -1, &stmt, NULL);

    to[0] = '\0';
    if (rc == SQLITE_OK) {
        rc = sqlite3_step(stmt);
        if (rc == SQLITE_ROW)
            snprintf(to, size, "%s", (const char *)sqlite3_column_text(stmt, 0));
        rc = rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
    }
    sqlite3_finalize(stmt);
    return rc;
}

static int check_settings(struct sqlite_broker *b, struct buf *out)
{
    char journal[32], sync[8], schema[16];
    int rc = read_pragma(b, "PRAGMA journal_mode", journal, sizeof(journal));

    if (rc == SQLITE_OK)
        rc = read_pragma(b, "PRAGMA synchronous", sync, sizeof(sync));
    if (rc == SQLITE_OK)
        rc = read_pragma(b, "PRAGMA user_version", schema, sizeof(schema));
    if (rc != SQLITE_OK)
        return rc;
    answer_check(out, "journal", strcmp(journal, "wal") == 0 ? ANSWER_OK : ANSWER_BAD,
                 strcmp(journal, "wal") == 0 ? NULL : "another program changed it: set it to wal",
                 "%s", journal);
    answer_check(out, "synchronous", ANSWER_OK,
                 strcmp(sync, "1") == 0
                     ? "a power failure may undo the last commits, a crash of a "
                       "process none: '?synchronous=FULL' behind the path forbids both"
                     : NULL,
                 "%s", strcmp(sync, "1") == 0 ? "normal" : "full");
    answer_check(out, "schema", ANSWER_OK, NULL, "version %s", schema);
    return SQLITE_OK;
}

static int64_t size_of(const char *path, const char *suffix)
{
    char name[4200];
    struct stat st;

    snprintf(name, sizeof(name), "%s%s", path, suffix);
    return stat(name, &st) == 0 ? (int64_t)st.st_size : -1;
}

static void check_file(const struct sqlite_broker *b, struct buf *out)
{
    int64_t file = size_of(b->path, ""), log = size_of(b->path, "-wal");

    answer_check(out, "file", ANSWER_OK, NULL, "%s, %.1f MiB", b->path, (double)file / MIB);
    if (log > LARGE_LOG)
        answer_check(out, "write-ahead log", ANSWER_WARN,
                     "somebody keeps a read transaction open on the file: look for a shell or a "
                     "backup that hangs",
                     "%.1f MiB", (double)log / MIB);
}

static void check_space(const struct sqlite_broker *b, struct buf *out)
{
    struct statvfs fs;
    int64_t free_bytes, file = size_of(b->path, "");
    enum answer_verdict verdict = ANSWER_OK;

    if (statvfs(b->path, &fs) != 0)
        return;
    free_bytes = (int64_t)(fs.f_bavail * fs.f_frsize);
    if (free_bytes < LEAST_FREE)
        verdict = ANSWER_BAD;
    else if (free_bytes < file || free_bytes < 16 * LEAST_FREE)
        verdict = ANSWER_WARN;
    answer_check(out, "free space", verdict,
                 verdict == ANSWER_OK ? NULL
                                      : "make room: a full disk stops every queue in the file",
                 "%.0f MiB", (double)free_bytes / MIB);
}

/* Locks between hosts and write-ahead logging do not go together. */
static void check_file_system(const struct sqlite_broker *b, struct buf *out)
{
    static const struct {
        uint32_t magic;
        const char *name;
        enum answer_verdict verdict;
        const char *advice;
    } known[] = {
        {0x6969, "NFS", ANSWER_BAD, "move the file to a local disk: locks over NFS fail"},
        {0xff534d42, "CIFS", ANSWER_BAD, "move the file to a local disk: locks over CIFS fail"},
        {0xfe534d42, "SMB", ANSWER_BAD, "move the file to a local disk: locks over SMB fail"},
        {0x01021997, "9p", ANSWER_WARN, "use a local disk if several hosts or guests share it"},
        {0x65735546, "FUSE", ANSWER_WARN, "make sure that it is local and keeps locks"},
        {0x01021994, "tmpfs", ANSWER_WARN, "jobs are gone with the next start of the machine"},
    };
    struct statfs fs;

    if (statfs(b->path, &fs) != 0)
        return;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if ((uint32_t)fs.f_type == known[i].magic) {
            answer_check(out, "file system", known[i].verdict, known[i].advice, "%s",
                         known[i].name);
            return;
        }
    }
    answer_check(out, "file system", ANSWER_OK, NULL, "local");
}

/* Without the bell others look every 100 ms (no inotify) or every second (no file). */
static void check_bell(const struct sqlite_broker *b, struct buf *out)
{
    int notify = inotify_init1(IN_CLOEXEC);
    int watch = notify < 0 ? -1 : inotify_add_watch(notify, b->bell.path, IN_MODIFY);

    if (notify >= 0)
        close(notify);
    if (watch >= 0 && access(b->bell.path, W_OK) == 0)
        answer_check(out, "bell", ANSWER_OK, NULL, "%s", b->bell.path);
    else if (watch >= 0)
        answer_check(out, "bell", ANSWER_WARN,
                     "make it writable: until then others see new jobs up to a second later",
                     "%s can not be written", b->bell.path);
    else
        answer_check(out, "bell", ANSWER_WARN,
                     "raise fs.inotify.max_user_instances and max_user_watches: until then workers "
                     "look every 100 ms",
                     "%s can not be watched", b->bell.path);
}

int sqlite_doctor(struct sqlite_broker *b, const struct broker_ask *ask, struct buf *out)
{
    int rc;

    (void)ask;
    answer_begin(out);
    answer_check(out, "library", ANSWER_OK, NULL, "SQLite %s", sqlite3_libversion());
    rc = check_settings(b, out);
    check_file(b, out);
    check_file_system(b, out);
    check_space(b, out);
    check_bell(b, out);
    answer_end(out);
    return rc;
}
