/*
 * A module of tasks for `celeriac worker -A ./weather.so`: two functions and a table of rows.
 */
#include <celeriac/task.h>

#include <math.h>

/* weather.windchill(celsius, kmh=0): a plain computation; wrong input is a failure, not a crash. */
static int windchill(struct celeriac_call *call)
{
    json_t *celsius = celeriac_arg(call, 0, "celsius");
    json_t *kmh = celeriac_arg(call, 1, "kmh");
    double t = json_number_value(celsius), v;

    if (!json_is_number(celsius) || !json_is_number(kmh))
        return celeriac_fail(call, "TypeError", "celsius and kmh are numbers");
    v = pow(json_number_value(kmh), 0.16);
    return celeriac_ok(call, json_real(13.12 + 0.6215 * t - 11.37 * v + 0.3965 * t * v));
}

/* weather.survey(*stations): one more task for each station, all visible together with this result;
 * the rest is left when the job is cancelled or its soft time limit has passed. */
static int survey(struct celeriac_call *call)
{
    char id[CELERIAC_TASK_ID_SIZE];
    json_t *station;
    size_t i;

    json_array_foreach(call->args, i, station)
    {
        json_t *args = json_pack("[O, i]", station, 20);

        if (celeriac_cancelled(call))
            return celeriac_retry(call, 60, "not every station was asked");
        if (call->fn->spawn(call, celeriac_signature("weather.windchill", args, NULL, NULL), id))
            return 1;
    }
    return celeriac_ok(call, json_integer((json_int_t)json_array_size(call->args)));
}

static const struct celeriac_task rows[] = {
    {.size = sizeof(struct celeriac_task),
     .name = "weather.windchill",
     .params = "celsius, kmh=0",
     .run = windchill},
    {.size = sizeof(struct celeriac_task),
     .name = "weather.survey",
     .params = "*stations",
     .run = survey,
     .max_retries = 5},
};

CELERIAC_MODULE("weather", rows);
