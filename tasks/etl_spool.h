/*
 * etl_spool.h - packed logs, unpacked once into a folder.
 *
 * Purpose: runners read chunks by byte offset, which a .gz file does not allow. It is unpacked into
 * a file of the spool folder before its chunks are cut.
 *
 * Model: the spool file is named after what identifies the packed one (device, inode, size, time of
 * the last change), so a second load finds it and a replaced log does not.
 *
 * Who reads the log by itself needs no folder: it is unpacked into a file that has no name and ends
 * with its descriptor.
 *
 * Invariants: a file under its final name is complete: it is written under another name, synced,
 * then renamed. A folder that belongs to another user (but root) is not used.
 *
 * Fork rule: no descriptor is open between calls.
 */
#ifndef CELERIAC_ETL_SPOOL_H
#define CELERIAC_ETL_SPOOL_H

#include <stdbool.h>
#include <sys/stat.h>

#include "tasks/etl_err.h"

/* Does the file begin like gzip data? */
bool etl_spool_is_packed(int fd);

/* Unpacks the file behind fd (path is its name, for messages) into TMPDIR: the descriptor of the
 * copy, which is the caller's, or -1. */
int etl_spool_unpack_nameless(int fd, const char *path, struct etl_err *err);

/* Unpacks the file behind fd into folder, which is made if it is missing. *spooled: owned by the
 * caller, the path of the unpacked file. */
int etl_spool_unpack(int fd, const char *path, const char *folder, char **spooled,
                     struct etl_err *err);

#endif
