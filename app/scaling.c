#include "app/scaling.h"

#include <math.h>

#define TERMS 3
/* The universal law has one more parameter, so it always fits a little better; it is believed when
 * it takes away so much of the error of the simpler one. */
#define CLEARLY_BETTER 0.75

/* n / X(n) = t0 + t1 (n - 1) + t2 n (n - 1), with terms left out where use is false. */
struct system {
    double a[TERMS][TERMS];
    double b[TERMS];
    bool use[TERMS];
};

static void terms_of(double n, double terms[TERMS])
{
    terms[0] = 1;
    terms[1] = n - 1;
    terms[2] = n * (n - 1);
}

static void fill(struct system *s, const struct scaling_point *points, size_t len)
{
    *s = (struct system){.use = {s->use[0], s->use[1], s->use[2]}};
    for (size_t i = 0; i < len; i++) {
        double y = points[i].n / points[i].rate, weight = 1 / (y * y), terms[TERMS];

        terms_of(points[i].n, terms);
        for (int row = 0; row < TERMS; row++) {
            for (int column = 0; column < TERMS; column++)
                s->a[row][column] += weight * terms[row] * terms[column];
            s->b[row] += weight * terms[row] * y;
        }
    }
    for (int row = 0; row < TERMS; row++) {
        for (int other = 0; !s->use[row] && other < TERMS; other++)
            s->a[row][other] = s->a[other][row] = 0;
        if (!s->use[row]) {
            s->a[row][row] = 1;
            s->b[row] = 0;
        }
    }
}

static void subtract_row(struct system *s, int row, int pivot)
{
    double factor = s->a[row][pivot] / s->a[pivot][pivot];

    for (int column = pivot; column < TERMS; column++)
        s->a[row][column] -= factor * s->a[pivot][column];
    s->b[row] -= factor * s->b[pivot];
}

/* Gauss; the matrix is symmetric and positive definite when there are enough different n. */
static void solve(struct system *s, double x[TERMS])
{
    for (int pivot = 0; pivot < TERMS; pivot++) {
        for (int row = pivot + 1; row < TERMS; row++)
            subtract_row(s, row, pivot);
    }
    for (int row = TERMS - 1; row >= 0; row--) {
        x[row] = s->b[row];
        for (int column = row + 1; column < TERMS; column++)
            x[row] -= s->a[row][column] * x[column];
        x[row] /= s->a[row][row];
    }
}

/* The term that must not be negative and is the most so, or 0. */
static int worst_term(const double x[TERMS])
{
    int worst = 0;

    for (int i = 1; i < TERMS; i++) {
        if (x[i] < 0 && (worst == 0 || x[i] < x[worst]))
            worst = i;
    }
    return worst;
}

static double error_of(const struct scaling_fit *fit, const struct scaling_point *points,
                       size_t len)
{
    double sum = 0;

    for (size_t i = 0; i < len; i++)
        sum += pow(scaling_rate(fit, points[i].n) / points[i].rate - 1, 2);
    return sqrt(sum / (double)len);
}

static size_t different(const struct scaling_point *points, size_t len)
{
    size_t found = 0;

    for (size_t i = 0; i < len; i++) {
        size_t k = 0;

        while (k < i && points[k].n != points[i].n)
            k++;
        found += k == i;
    }
    return found;
}

static int fit_terms(const struct scaling_point *points, size_t len, bool universal,
                     struct scaling_fit *fit)
{
    struct system s = {.use = {true, true, universal}};
    double x[TERMS];
    int worst;

    if (different(points, len) < (universal ? 3 : 2))
        return -1;
    do {
        fill(&s, points, len);
        solve(&s, x);
        worst = worst_term(x);
        s.use[worst] = worst == 0;
    } while (worst != 0);
    *fit = (struct scaling_fit){
        .one = 1 / x[0], .serial = fmin(1, x[1] / x[0]), .coherency = x[2] / x[0]};
    fit->error = error_of(fit, points, len);
    return 0;
}

int scaling_fit_amdahl(const struct scaling_point *points, size_t len, struct scaling_fit *fit)
{
    return fit_terms(points, len, false, fit);
}

int scaling_fit_usl(const struct scaling_point *points, size_t len, struct scaling_fit *fit)
{
    return fit_terms(points, len, true, fit);
}

int scaling_fit_best(const struct scaling_point *points, size_t len, struct scaling_fit *fit)
{
    struct scaling_fit universal;

    if (scaling_fit_amdahl(points, len, fit) < 0)
        return -1;
    /* Three points and three parameters always fit: they prove nothing. */
    if (different(points, len) > TERMS && scaling_fit_usl(points, len, &universal) == 0 &&
        universal.error < CLEARLY_BETTER * fit->error)
        *fit = universal;
    return 0;
}

double scaling_rate(const struct scaling_fit *fit, double n)
{
    return fit->one * n / (1 + fit->serial * (n - 1) + fit->coherency * n * (n - 1));
}

/* Shares that no measurement of a few seconds can tell from nothing. */
static bool is_nothing(double share)
{
    return share < 1e-6;
}

double scaling_knee(const struct scaling_fit *fit)
{
    if (!is_nothing(fit->coherency))
        return fmax(1, sqrt((1 - fit->serial) / fit->coherency));
    if (is_nothing(fit->serial))
        return INFINITY;
    return fmax(1, (1 - fit->serial) / fit->serial);
}

double scaling_limit(const struct scaling_fit *fit)
{
    if (!is_nothing(fit->coherency))
        return scaling_rate(fit, scaling_knee(fit));
    return is_nothing(fit->serial) ? INFINITY : fit->one / fit->serial;
}

int scaling_runners_for(const struct scaling_fit *fit, double rate, int max)
{
    for (int n = 1; n <= max; n++) {
        if (scaling_rate(fit, n) >= rate)
            return n;
    }
    return 0;
}
