/*
 * etl_progress.h - how far a load has come, on stderr.
 *
 * Model: a bar that is drawn over itself on a terminal, at most ten times a second; plain lines
 * elsewhere, at most one a second and always the last. Fork rule: none.
 */
#ifndef APP_ETL_PROGRESS_H
#define APP_ETL_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/clock.h"

struct etl_progress {
    FILE *out; /* borrowed */
    bool tty;
    bool drawn;       /* the cursor stands behind a bar */
    int64_t shown_ms; /* when something was shown last */
    const struct clock *clock;
};

void etl_progress_init(struct etl_progress *progress, FILE *out, bool tty,
                       const struct clock *clock);

/* An etl_moved_fn; user is the progress. */
void etl_progress_moved(void *user, size_t done, size_t all, uint64_t lines);

/* Ends the line of the bar, so that something else can be printed. */
void etl_progress_end(struct etl_progress *progress);

#endif
