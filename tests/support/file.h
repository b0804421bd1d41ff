/*
 * file.h - a whole file into a buffer, for tests.
 *
 * Model: file_read appends the content; 0, or -1 when the file can not be read. Fork rule: none.
 */
#ifndef TESTS_FILE_H
#define TESTS_FILE_H

#include "base/buf.h"

#include <stdio.h>

static inline int file_read(struct buf *out, const char *path)
{
    FILE *file = fopen(path, "re");
    size_t n = 1;

    if (!file)
        return -1;
    while (n > 0) {
        char *to = buf_reserve(out, 65536);

        n = to ? fread(to, 1, 65536, file) : 0;
        buf_commit(out, n);
    }
    return fclose(file) == 0 && !out->failed ? 0 : -1;
}

#endif
