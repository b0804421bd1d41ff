#include "app/spread.h"

#include <stdlib.h>

void spread_add(struct spread *s, double value)
{
    size_t at = s->len;

    if (s->len == SPREAD_MAX)
        return;
    for (; at > 0 && s->values[at - 1] > value; at--)
        s->values[at] = s->values[at - 1];
    s->values[at] = value;
    s->len++;
}

double spread_min(const struct spread *s)
{
    return s->len > 0 ? s->values[0] : 0;
}

double spread_median(const struct spread *s)
{
    if (s->len == 0)
        return 0;
    return (s->values[(s->len - 1) / 2] + s->values[s->len / 2]) / 2;
}

double spread_max(const struct spread *s)
{
    return s->len > 0 ? s->values[s->len - 1] : 0;
}

double spread_quantile(const double *ascending, size_t n, double share)
{
    size_t at = (size_t)(share * (double)n);

    return ascending[at < n ? at : n - 1];
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

void spread_sort(double *values, size_t n)
{
    qsort(values, n, sizeof(values[0]), by_value);
}
