#include <celeriac.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    struct celeriac_task_options how = CELERIAC_TASK_OPTIONS_INIT;
    struct celeriac_error err;
    struct celeriac *c = celeriac_open(argc > 1 ? argv[1] : "sqlite:queue.db", NULL, &err);
    char id[CELERIAC_ID_SIZE], *result = NULL;

    how.args_json = "[2, 3]";
    if (c && celeriac_send(c, "math.add", &how, id, &err) == 0)
        celeriac_wait(c, id, 10000, &result, &err);
    puts(result ? result : err.text);
    celeriac_free(result);
    celeriac_close(c);
    return err.code;
}
