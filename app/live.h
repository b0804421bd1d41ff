/*
 * live.h - what the workers of a broker do right now.
 *
 * Purpose: the figures of `celeriac advise --live`, from what `celeriac status` shows.
 * Model: totals and workers are asked for again and again over some seconds; rates are differences
 * of the totals, shares are means of what the workers said. Invariants: asks, changes nothing.
 * Fork rule: as client/session.h.
 */
#ifndef APP_LIVE_H
#define APP_LIVE_H

#include "client/session.h"

struct live {
    double seconds;
    double rate;        /* jobs a second that ended */
    double arrivals;    /* jobs a second that were published */
    double waiting;     /* at the end */
    double growth;      /* of what waits, jobs a second */
    int workers, hosts; /* at the end */
    int runners;        /* of all workers */
    double busy;        /* mean share of the runners that had a job, 0..1 */
    double busy_sum;    /* of the samples, while they are taken */
    int samples;
};

int live_watch(struct live *live, struct session *s, double seconds, struct err *e);

/* Runners that do the wanted rate at ADVICE_HEADROOM; 0 when nothing ran, so nothing is known. */
int live_runners_for(const struct live *live, double rate);

/* One or two sentences on what limits it. */
const char *live_verdict(const struct live *live);

#endif
