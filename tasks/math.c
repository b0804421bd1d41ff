/*
 * math.c - tasks that compute: add, mul, tsum as in Celery's own examples, and primes, which burns
 * CPU. Whole numbers are 64 bits wide; a result that does not fit is an OverflowError, never a
 * wrong number.
 */
#include "tasks/builtin.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PRIMES_MAX   100000000
#define CANCEL_EVERY (1 << 16)

enum operation { ADD, MUL };

static const char *python_type(const json_t *value)
{
    static const char *const names[] = {
        [JSON_OBJECT] = "dict", [JSON_ARRAY] = "list",    [JSON_STRING] = "str",
        [JSON_INTEGER] = "int", [JSON_REAL] = "float",    [JSON_TRUE] = "bool",
        [JSON_FALSE] = "bool",  [JSON_NULL] = "NoneType",
    };

    return value ? names[json_typeof(value)] : "NoneType";
}

static bool is_whole(const json_t *value)
{
    return json_is_integer(value) || json_is_boolean(value);
}

static json_int_t whole(const json_t *value)
{
    return json_is_boolean(value) ? json_is_true(value) : json_integer_value(value);
}

static double real(const json_t *value)
{
    return is_whole(value) ? (double)whole(value) : json_number_value(value);
}

static int unsupported(struct celeriac_call *call, enum operation op, const json_t *x,
                       const json_t *y)
{
    char text[120];

    snprintf(text, sizeof(text), "unsupported operand type(s) for %s: '%s' and '%s'",
             op == ADD ? "+" : "*", python_type(x), python_type(y));
    return celeriac_fail(call, "TypeError", text);
}

/* A new number, or NULL with the verdict set. */
static json_t *apply(struct celeriac_call *call, enum operation op, const json_t *x,
                     const json_t *y)
{
    long long sum;
    double r;

    if ((!is_whole(x) && !json_is_number(x)) || (!is_whole(y) && !json_is_number(y))) {
        unsupported(call, op, x, y);
        return NULL;
    }
    if (is_whole(x) && is_whole(y)) {
        if (op == ADD ? __builtin_add_overflow(whole(x), whole(y), &sum)
                      : __builtin_mul_overflow(whole(x), whole(y), &sum)) {
            celeriac_fail(call, "OverflowError", "the result does not fit in 64 bits");
            return NULL;
        }
        return json_integer(sum);
    }
    r = op == ADD ? real(x) + real(y) : real(x) * real(y);
    if (!isfinite(r)) {
        celeriac_fail(call, "OverflowError", "the result is not a finite number");
        return NULL;
    }
    return json_real(r);
}

static int binary(struct celeriac_call *call, enum operation op)
{
    json_t *result = apply(call, op, celeriac_arg(call, 0, "x"), celeriac_arg(call, 1, "y"));

    return result ? celeriac_ok(call, result) : 0;
}

static int math_add(struct celeriac_call *call)
{
    return binary(call, ADD);
}

static int math_mul(struct celeriac_call *call)
{
    return binary(call, MUL);
}

static int math_tsum(struct celeriac_call *call)
{
    json_t *numbers = celeriac_arg(call, 0, "numbers");
    json_t *total, *number;
    size_t i;

    if (!json_is_array(numbers))
        return celeriac_fail(call, "TypeError", "numbers is not a list");
    total = json_integer(0);
    json_array_foreach(numbers, i, number)
    {
        json_t *next = apply(call, ADD, total, number);

        json_decref(total);
        if (!next)
            return 0;
        total = next;
    }
    return celeriac_ok(call, total);
}

/* Crosses out the multiples of one prime. */
static void sieve_out(unsigned char *composite, size_t limit, size_t prime)
{
    for (size_t k = prime * prime; k <= limit; k += prime)
        composite[k] = 1;
}

/* How many primes are at most limit; -1 when out of memory or cancelled. */
static json_int_t count_primes(struct celeriac_call *call, size_t limit)
{
    unsigned char *composite = calloc(limit + 1, 1);
    json_int_t count = 0;

    if (!composite)
        return -1;
    for (size_t n = 2; n <= limit; n++) {
        if (n % CANCEL_EVERY == 0 && celeriac_cancelled(call)) {
            count = -1;
            break;
        }
        if (composite[n])
            continue;
        count++;
        if (n <= limit / n)
            sieve_out(composite, limit, n);
    }
    free(composite);
    return count;
}

static int math_primes(struct celeriac_call *call)
{
    json_t *limit = celeriac_arg(call, 0, "limit");
    json_int_t count;

    if (!json_is_integer(limit))
        return celeriac_fail(call, "TypeError", "limit is not a whole number");
    if (json_integer_value(limit) > PRIMES_MAX)
        return celeriac_fail(call, "ValueError", "limit is larger than 100000000");
    if (json_integer_value(limit) < 2)
        return celeriac_ok(call, json_integer(0));
    count = count_primes(call, (size_t)json_integer_value(limit));
    return count < 0 ? -1 : celeriac_ok(call, json_integer(count));
}

static const struct celeriac_task rows[] = {
    {.size = sizeof(struct celeriac_task), .name = "math.add", .params = "x, y", .run = math_add},
    {.size = sizeof(struct celeriac_task), .name = "math.mul", .params = "x, y", .run = math_mul},
    {.size = sizeof(struct celeriac_task),
     .name = "math.tsum",
     .params = "numbers",
     .run = math_tsum},
    {.size = sizeof(struct celeriac_task),
     .name = "math.primes",
     .params = "limit",
     .run = math_primes},
};

struct builtin_table math_tasks(void)
{
    return BUILTIN_TABLE(rows);
}
