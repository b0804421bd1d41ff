/*
 * What this node says of itself. It is news and not data: written by a statement of its own, never
 * together with jobs, so that an announcement that finds the file locked or the disk full neither
 * holds a batch up nor is held up by one. No bell is rung.
 */
#include "broker/sqlite.h"

#include <stdlib.h>

static void take_back(struct sqlite_news *news)
{
    free((char *)news->json.ptr);
    news->json = slice_make(NULL, 0);
}

int sqlite_node_announce(struct broker *base, struct slice json, int64_t ttl_ms, struct err *e)
{
    struct sqlite_broker *b = (struct sqlite_broker *)base;
    char *copy = malloc(json.len + 1);

    if (!copy)
        return err_nomem(e);
    memcpy(copy, json.ptr, json.len);
    take_back(&b->announced);
    b->announced.json = slice_make(copy, json.len);
    b->announced.until_ms = clock_wall_ms(b->clock) + ttl_ms;
    return 0;
}

void sqlite_node_write(struct sqlite_broker *b)
{
    struct sqlite_news *news = &b->announced;

    if (!news->json.ptr)
        return;
    news->told = true;
    sqlite_do(b, SQL_NODE_SWEEP, ARG_INT(clock_wall_ms(b->clock)));
    sqlite_do(b, SQL_NODE_PUT, ARG_TEXT(slice_of(b->node)), ARG_INT(news->until_ms),
              ARG_BLOB(news->json));
    take_back(news);
}

int sqlite_node_remove(struct sqlite_broker *b)
{
    return b->announced.told ? sqlite_do(b, SQL_NODE_DEL, ARG_TEXT(slice_of(b->node))) : SQLITE_OK;
}
