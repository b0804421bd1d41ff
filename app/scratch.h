/*
 * scratch.h - a folder for a measurement's own files, gone afterwards.
 *
 * Model: made under TMPDIR, removed with everything in it. Fork rule: whoever made it removes it.
 */
#ifndef APP_SCRATCH_H
#define APP_SCRATCH_H

#include "base/err.h"

#define SCRATCH_PATH_SIZE 64

int scratch_make(char path[SCRATCH_PATH_SIZE], struct err *e);
void scratch_remove(const char *path);

#endif
