#include "app/command.h"
#include "broker/json_text.h"

#include <stdio.h>

int main(int argc, char **argv)
{
    struct proc_title title;

    if (proc_title_init(&title, argc, argv) < 0) {
        fputs("celeriac: out of memory\n", stderr);
        return EXITCODE_INTERNAL;
    }
    json_text_watch_memory();
    return app_run(argc - 1, argv + 1, &title);
}
