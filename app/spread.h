/*
 * spread.h - a figure that was measured several times.
 *
 * Model: values are added as they come; single ones drift, so three are shown: the smallest, the
 * median and the largest. Invariant: at most SPREAD_MAX values, later ones are dropped.
 * Fork rule: none, plain memory.
 */
#ifndef APP_SPREAD_H
#define APP_SPREAD_H

#include <stddef.h>

#define SPREAD_MAX 100

struct spread {
    double values[SPREAD_MAX]; /* ascending */
    size_t len;
};

void spread_add(struct spread *s, double value);

/* 0 of an empty one. */
double spread_min(const struct spread *s);
double spread_median(const struct spread *s);
double spread_max(const struct spread *s);

/* The value below which that share (0..1) of n ascending values lies. n is at least 1. */
double spread_quantile(const double *ascending, size_t n, double share);

/* Sorts ascending, for spread_quantile. */
void spread_sort(double *values, size_t n);

#endif
