#include "broker/result.h"
#include "broker/sqlite.h"

#include <stdlib.h>

/* FNV-1a: ids are random already, the table only has to spread them. */
static size_t slot_of(const struct sqlite_watches *w, struct slice id)
{
    uint64_t hash = 14695981039346656037u;

    for (size_t i = 0; i < id.len; i++)
        hash = (hash ^ (unsigned char)id.ptr[i]) * 1099511628211u;
    return (size_t)(hash & (w->slots_len - 1));
}

static struct slice watch_id(const struct sqlite_watch *watch)
{
    return slice_make(watch->id, watch->id_len);
}

static bool grow(struct sqlite_watches *w)
{
    struct sqlite_watches wider = *w;

    wider.slots_len = w->slots_len ? w->slots_len * 2 : 64;
    wider.slots = calloc(wider.slots_len, sizeof(struct sqlite_watch *));
    if (!wider.slots)
        return false;
    for (size_t i = 0; i < w->slots_len; i++) {
        struct sqlite_watch *watch = w->slots[i];

        while (watch) {
            struct sqlite_watch *next = watch->next;
            size_t at = slot_of(&wider, watch_id(watch));

            watch->next = wider.slots[at];
            wider.slots[at] = watch;
            watch = next;
        }
    }
    free(w->slots);
    *w = wider;
    return true;
}

int sqlite_watch(struct sqlite_broker *b, uint64_t tag, struct slice id, struct err *e)
{
    struct sqlite_watches *w = &b->watches;
    struct sqlite_watch *watch;
    size_t at;

    if (w->len >= w->slots_len && !grow(w))
        return err_nomem(e);
    watch = malloc(sizeof(*watch) + id.len);
    if (!watch)
        return err_nomem(e);
    at = slot_of(w, id);
    *watch =
        (struct sqlite_watch){.next = w->slots[at], .tag = tag, .fresh = true, .id_len = id.len};
    memcpy(watch->id, id.ptr, id.len);
    w->slots[at] = watch;
    w->len++;
    w->fresh++;
    return 0;
}

/* Takes out what `at` points to; the caller frees it. */
static struct sqlite_watch *take_out(struct sqlite_watches *w, struct sqlite_watch **at)
{
    struct sqlite_watch *watch = *at;

    *at = watch->next;
    w->len--;
    w->fresh -= watch->fresh;
    return watch;
}

static void drop(struct sqlite_watches *w, struct sqlite_watch **at)
{
    free(take_out(w, at));
}

void sqlite_unwatch(struct sqlite_broker *b, struct slice id)
{
    struct sqlite_watches *w = &b->watches;
    struct sqlite_watch **at = w->slots_len ? &w->slots[slot_of(w, id)] : NULL;

    while (at && *at) {
        if (slice_eq(watch_id(*at), id))
            drop(w, at);
        else
            at = &(*at)->next;
    }
}

void sqlite_watches_release(struct sqlite_broker *b)
{
    struct sqlite_watches *w = &b->watches;

    for (size_t i = 0; i < w->slots_len; i++) {
        while (w->slots[i])
            drop(w, &w->slots[i]);
    }
    free(w->slots);
    *w = (struct sqlite_watches){0};
}

/* Hands out a document to every watch of its id that has not seen it; ready ones end the watch. */
static void hand_out(struct sqlite_broker *b, struct slice id, struct slice doc, int64_t version)
{
    struct sqlite_watches *w = &b->watches;
    struct sqlite_watch **at = &w->slots[slot_of(w, id)], *ended = NULL;
    bool ready = false, known = false;

    while (*at) {
        struct broker_event event = {.kind = BROKER_RESULT, .tag = (*at)->tag, .data = doc};

        if (!slice_eq(watch_id(*at), id) || (*at)->seen >= version) {
            at = &(*at)->next;
            continue;
        }
        if (!known)
            ready = result_is_ready(doc);
        known = true;
        event_queue_push(&b->out, &event);
        (*at)->seen = version;
        if (ready) {
            /* Freed below: `id` may be a watch's own. */
            struct sqlite_watch *watch = take_out(w, at);

            watch->next = ended;
            ended = watch;
        } else {
            at = &(*at)->next;
        }
    }
    while (ended) {
        struct sqlite_watch *next = ended->next;

        free(ended);
        ended = next;
    }
}

static int look_up(struct sqlite_broker *b, struct slice id)
{
    sqlite3_stmt *row;
    int rc = sqlite_query(b, SQL_RESULT_GET, &row, ARG_TEXT(id), ARG_INT(clock_wall_ms(b->clock)));

    if (rc != SQLITE_OK)
        return rc;
    rc = sqlite3_step(row);
    if (rc == SQLITE_ROW)
        /* The row's own id: the caller's may be freed with its watch. */
        hand_out(b, sqlite_column(row, 2), sqlite_column(row, 1), sqlite3_column_int64(row, 0));
    return sqlite_end(row, rc);
}

/* Looks up the first fresh watch of a slot. hand_out may drop watches, hence one at a time. */
static int look_up_slot(struct sqlite_broker *b, size_t slot)
{
    struct sqlite_watches *w = &b->watches;
    struct sqlite_watch *watch = w->slots[slot];
    int rc = SQLITE_OK;

    while (watch && rc == SQLITE_OK) {
        if (!watch->fresh) {
            watch = watch->next;
            continue;
        }
        watch->fresh = false;
        w->fresh--;
        rc = look_up(b, slice_make(watch->id, watch->id_len));
        watch = w->slots[slot];
    }
    return rc;
}

/* The newest version there is. */
static int newest(struct sqlite_broker *b, int64_t *version)
{
    sqlite3_stmt *row;
    int rc = sqlite_bind(b, SQL_STATE_GET, &row, NULL, 0);

    if (rc != SQLITE_OK)
        return rc;
    rc = sqlite3_step(row);
    if (rc == SQLITE_ROW)
        *version = sqlite3_column_int64(row, 9);
    return sqlite_end(row, rc);
}

static int look_up_fresh(struct sqlite_broker *b)
{
    struct sqlite_watches *w = &b->watches;
    int rc = SQLITE_OK;

    /* With no older watch nothing between seen and now was missed by anybody. The version is read
     * before the documents, so that one stored meanwhile is seen by the next scan. */
    if (w->fresh == w->len)
        rc = newest(b, &w->seen);
    for (size_t i = 0; rc == SQLITE_OK && w->fresh && i < w->slots_len; i++)
        rc = look_up_slot(b, i);
    return rc;
}

static int scan_newer(struct sqlite_broker *b)
{
    struct sqlite_watches *w = &b->watches;
    sqlite3_stmt *row;
    int rc = sqlite_query(b, SQL_RESULT_NEWER, &row, ARG_INT(w->seen));

    if (rc != SQLITE_OK)
        return rc;
    while ((rc = sqlite3_step(row)) == SQLITE_ROW) {
        struct slice id = sqlite_column(row, 1);
        int64_t version = sqlite3_column_int64(row, 0);

        /* The document itself is read only when somebody waits for it. */
        for (struct sqlite_watch *x = w->slots[slot_of(w, id)]; x; x = x->next) {
            if (slice_eq(watch_id(x), id)) {
                hand_out(b, id, sqlite_column(row, 2), version);
                break;
            }
        }
        w->seen = version;
    }
    return sqlite_end(row, rc);
}

int sqlite_watch_scan(struct sqlite_broker *b)
{
    struct sqlite_watches *w = &b->watches;
    int rc = SQLITE_OK;

    if (w->len && w->fresh)
        rc = look_up_fresh(b);
    if (rc == SQLITE_OK && w->len && w->scan)
        rc = scan_newer(b);
    if (rc == SQLITE_OK)
        w->scan = false;
    return rc;
}
