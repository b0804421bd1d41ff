#include "tests/support/nomem.h"

#include "broker/json_text.h"
#include "tests/support/check.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define TRIES 100000

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size);
char *__real_strdup(const char *text);
char *__wrap_strdup(const char *text);
char *__real_strndup(const char *text, size_t len);
char *__wrap_strndup(const char *text, size_t len);
void *__real_tsearch(const void *key, void **root, __compar_fn_t compare);
void *__wrap_tsearch(const void *key, void **root, __compar_fn_t compare);
int __real_inflateInit_(z_stream *z, const char *version, int size);
/* Visible, or newer linkers (binutils 2.44) refuse it: OpenSSL's library uses inflateInit_ as well.
 */
__attribute__((visibility("default"))) int __wrap_inflateInit_(z_stream *z, const char *version,
                                                               int size);

static struct {
    long left; /* requests until the one that fails; 0: none does */
    enum nomem_mode mode;
    bool failed;
} memory;

static bool fails(void)
{
    if (memory.failed && memory.mode == NOMEM_ON)
        return true;
    if (memory.left == 0 || --memory.left > 0)
        return false;
    memory.failed = true;
    return true;
}

void nomem_begin(long n, enum nomem_mode mode)
{
    memory.left = n;
    memory.mode = mode;
    memory.failed = false;
}

bool nomem_end(void)
{
    bool failed = memory.failed;

    nomem_begin(0, NOMEM_ONCE);
    return failed;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return fails() ? NULL : __real_realloc(old, size);
}

char *__wrap_strdup(const char *text)
{
    return fails() ? NULL : __real_strdup(text);
}

char *__wrap_strndup(const char *text, size_t len)
{
    return fails() ? NULL : __real_strndup(text, len);
}

/* A lookup that finds needs no memory; one that adds does. */
void *__wrap_tsearch(const void *key, void **root, __compar_fn_t compare)
{
    void *found = tfind(key, root, compare);

    if (found)
        return found;
    return fails() ? NULL : __real_tsearch(key, root, compare);
}

static void *zlib_alloc(void *user, unsigned n, unsigned size)
{
    (void)user;
    return __wrap_calloc(n, size);
}

static void zlib_free(void *user, void *address)
{
    (void)user;
    free(address);
}

int __wrap_inflateInit_(z_stream *z, const char *version, int size)
{
    z->zalloc = zlib_alloc;
    z->zfree = zlib_free;
    return __real_inflateInit_(z, version, size);
}

void nomem_init(void)
{
    json_text_watch_memory(); /* its malloc is ours */
}

/* --- pieces of work --- */

static void try_mode(const struct nomem_work *work, const char *want, enum nomem_mode mode)
{
    for (long n = 1; n < TRIES; n++) {
        struct buf out = BUF_INIT;
        struct err e = ERR_INIT;
        bool failed;
        int rc;

        nomem_begin(n, mode);
        rc = work->run(work->user, &out, &e);
        failed = nomem_end();
        if (rc != 0 && (!failed || e.code != ERR_NOMEM))
            fail_msg("%s, request %ld: %s \"%s\"", work->name, n, err_word(e.code), e.text);
        if (rc == 0 && !out.failed && strcmp(buf_str(&out), want) != 0)
            fail_msg("%s, request %ld: got %s, wanted %s", work->name, n, buf_str(&out), want);
        buf_release(&out);
        if (!failed)
            return;
    }
    fail_msg("%s: no end in %d requests", work->name, TRIES);
}

void nomem_try(const struct nomem_work *work)
{
    struct buf want = BUF_INIT;
    struct err e = ERR_INIT;

    if (work->run(work->user, &want, &e) != 0)
        fail_msg("%s: %s", work->name, e.text);
    try_mode(work, buf_str(&want), NOMEM_ONCE);
    try_mode(work, buf_str(&want), NOMEM_ON);
    buf_release(&want);
}
