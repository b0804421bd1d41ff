/*
 * scaling.h - what a table of runners and rates says about the next runner.
 *
 * Purpose: fits two laws to measured points (n runners did X jobs a second); pure.
 * Model: X(n) = one * n / (1 + serial * (n - 1) + coherency * n * (n - 1)). With coherency 0 this
 * is Amdahl's law: `serial` is the share of a job that only one runner at a time can do. With it
 * it is the universal scalability law: `coherency` is what each pair of runners costs, and beyond
 * a certain n more of them make it slower. Both are linear in n / X(n), so they are fitted by
 * weighted least squares there; the weights make errors relative to the rate. A share is never
 * negative: one that would be is left out and the rest fitted again.
 * Invariants: a fit that was made has one > 0, serial in 0..1, coherency >= 0. Fork rule: none,
 * plain memory.
 */
#ifndef APP_SCALING_H
#define APP_SCALING_H

#include <stdbool.h>
#include <stddef.h>

struct scaling_point {
    double n;    /* runners, at least 1 */
    double rate; /* jobs a second, above 0; several points may have one n */
};

struct scaling_fit {
    double one;       /* jobs a second of one runner */
    double serial;    /* Amdahl's serial share */
    double coherency; /* cost of each pair of runners; 0 in a fit of Amdahl's law */
    double error;     /* root mean square of the relative errors */
};

/* 0, or -1 when there are too few different n: two for Amdahl's law, three for the other. */
int scaling_fit_amdahl(const struct scaling_point *points, size_t len, struct scaling_fit *fit);
int scaling_fit_usl(const struct scaling_point *points, size_t len, struct scaling_fit *fit);

/* The law that the points ask for: the universal one where it explains clearly more. Returns -1
 * when not even Amdahl's can be fitted. */
int scaling_fit_best(const struct scaling_point *points, size_t len, struct scaling_fit *fit);

double scaling_rate(const struct scaling_fit *fit, double n);

/* The number of runners beyond which more are not worth it: where the rate is largest, or where it
 * has come to half of what endlessly many would do; INFINITY when there is no such number. */
double scaling_knee(const struct scaling_fit *fit);

/* The largest rate there can be, INFINITY when there is none. */
double scaling_limit(const struct scaling_fit *fit);

/* The smallest whole n up to max with at least that rate, 0 when there is none. */
int scaling_runners_for(const struct scaling_fit *fit, double rate, int max);

#endif
