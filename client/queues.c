#include "client/queues.h"

#include "base/table.h"
#include "client/cli.h"

int queues_print(const struct command_context *ctx, const json_t *queues)
{
    static const char *const names[] = {"QUEUE", ">WAITING", ">DELAYED", ">LEASED",
                                        ">DEAD", ">UNKNOWN", NULL};
    static const char *const members[] = {"waiting", "delayed", "leased", "dead", "unknown", NULL};
    struct table t;
    json_t *queue;
    size_t i;

    table_init(&t, names);
    json_array_foreach(queues, i, queue)
    {
        table_cell(&t, cli_member(queue, "queue"));
        for (const char *const *member = members; *member; member++)
            table_cellf(&t, "%lld", (long long)json_integer_value(json_object_get(queue, *member)));
    }
    return cli_print_table(ctx, &t);
}
