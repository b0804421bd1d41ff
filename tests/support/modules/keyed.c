/*
 * Tasks whose effect can be counted: each run writes its process's number to FILE.pid and then
 * appends the line "WORD" to FILE, in one write. What
 * they do next is in their arguments: sleep, fail as long as the file has too few lines, retry.
 */
#include "tasks/task.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *text(struct celeriac_call *call, size_t index, const char *name)
{
    return json_string_value(celeriac_arg(call, index, name));
}

static int put_line(const char *path, int flags, const char *line)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0644);
    size_t len = strlen(line);
    int ok = fd >= 0 && write(fd, line, len) == (ssize_t)len;

    if (fd >= 0)
        close(fd);
    return ok ? 0 : -1;
}

static int append(struct celeriac_call *call)
{
    const char *path = text(call, 0, "path");
    char pid_path[4096], line[300];

    snprintf(pid_path, sizeof(pid_path), "%s.pid", path);
    snprintf(line, sizeof(line), "%d\n", (int)getpid());
    if (put_line(pid_path, O_TRUNC, line) < 0)
        return -1;
    snprintf(line, sizeof(line), "%s\n", text(call, 1, "word"));
    return put_line(path, O_APPEND, line);
}

static int count_lines(struct celeriac_call *call)
{
    FILE *file = fopen(text(call, 0, "path"), "r");
    char line[300];
    int n = 0;

    while (file && fgets(line, sizeof(line), file))
        n += strncmp(line, text(call, 1, "word"), strlen(line) - 1) == 0;
    if (file)
        fclose(file);
    return n;
}

/* The kill of a hard limit or a test ends it; the soft limit interrupts it. */
static void rest(double seconds)
{
    struct timespec left = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};

    nanosleep(&left, NULL);
}

static int run_work(struct celeriac_call *call)
{
    if (append(call) < 0)
        return 1;
    rest(json_number_value(celeriac_arg(call, 2, "seconds")));
    return celeriac_ok(call, json_string(text(call, 1, "word")));
}

static int run_flaky(struct celeriac_call *call)
{
    int fails = (int)json_integer_value(celeriac_arg(call, 2, "fails"));

    if (append(call) < 0)
        return 1;
    rest(json_number_value(celeriac_arg(call, 3, "seconds")));
    if (count_lines(call) <= fails)
        return celeriac_fail(call, "ValueError", "not yet");
    return celeriac_ok(call, json_string(text(call, 1, "word")));
}

static int run_again(struct celeriac_call *call)
{
    if (append(call) < 0)
        return 1;
    if (call->retries == 0)
        return celeriac_retry(call, json_number_value(celeriac_arg(call, 2, "countdown")), "once");
    return celeriac_ok(call, json_string(text(call, 1, "word")));
}

#define ROW(row_name, row_params, row_run)                                                         \
    .size = sizeof(struct celeriac_task), .name = (row_name), .params = (row_params),              \
    .run = (row_run)

static const struct celeriac_task rows[] = {
    {ROW("keyed.work", "path, word, seconds=0", run_work)},
    {ROW("keyed.once", "path, word, seconds=0", run_work), .dedup = "word", .dedup_window_s = 60},
    {ROW("keyed.early", "path, word, seconds=0", run_work), .ack_early = CELERIAC_YES},
    {ROW("keyed.flaky", "path, word, fails=1, seconds=0", run_flaky)},
    {ROW("keyed.again", "path, word, countdown=0", run_again)},
};

CELERIAC_MODULE("keyed", rows);
