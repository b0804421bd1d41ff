#include "broker/memory_store.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>

#define TOKEN_MS 60000

int memory_copy(struct slice *to, struct slice from)
{
    char *bytes;

    *to = (struct slice){NULL, 0};
    if (!from.ptr)
        return 0;
    bytes = malloc(from.len + 1);
    if (!bytes)
        return -1;
    memcpy(bytes, from.ptr, from.len);
    bytes[from.len] = '\0';
    *to = slice_make(bytes, from.len);
    return 0;
}

void memory_drop(struct slice *owned)
{
    free((char *)owned->ptr);
    *owned = (struct slice){NULL, 0};
}

/* --- stores --- */

/* The one list of a process: brokers opened under one name meet here. It holds no store that has no
 * broker, so a child that opens after its fork starts with what its parent had open at that moment,
 * which the fork rule of broker.h forbids it to touch. */
static struct memory_store **named_stores(void)
{
    static struct memory_store *first;

    return &first;
}

struct memory_store *memory_store_join(const char *name)
{
    struct memory_store **first = named_stores();
    struct memory_store *store;

    for (store = *name ? *first : NULL; store; store = store->next) {
        if (strcmp(store->name, name) == 0) {
            store->users++;
            return store;
        }
    }
    store = calloc(1, sizeof(*store));
    if (!store)
        return NULL;
    store->name = strdup(name);
    if (!store->name) {
        free(store);
        return NULL;
    }
    store->users = 1;
    store->next = *first;
    *first = store;
    return store;
}

static void free_list(struct memory_list *list)
{
    while (list->head) {
        struct memory_job *job = list->head;

        list->head = job->next;
        memory_job_free(job);
    }
}

static void free_queue(struct memory_queue *queue)
{
    for (int i = 0; i < MEMORY_STEPS; i++)
        free_list(&queue->waiting[i]);
    for (int i = 0; i < MEMORY_GRAVES; i++)
        free_list(&queue->graves[i]);
    memory_drop(&queue->name);
    free(queue);
}

static void leave_node(void *element)
{
    (void)element; /* the lists own what the trees point to */
}

static void free_token(struct memory_token *token)
{
    memory_drop(&token->text);
    free(token);
}

static void free_store(struct memory_store *store)
{
    tdestroy(store->by_fence, leave_node);
    tdestroy(store->tokens, leave_node);
    free_list(&store->delayed);
    free_list(&store->leased);
    while (store->queues) {
        struct memory_queue *queue = store->queues;

        store->queues = queue->next;
        free_queue(queue);
    }
    while (store->token_head) {
        struct memory_token *token = store->token_head;

        store->token_head = token->next;
        free_token(token);
    }
    memory_claim_free(store);
    memory_node_free(store);
    memory_result_free(store);
    free(store->name);
    free(store);
}

void memory_store_leave(struct memory_store *store)
{
    struct memory_store **link = named_stores();

    if (--store->users > 0)
        return;
    while (*link && *link != store)
        link = &(*link)->next;
    if (*link)
        *link = store->next;
    free_store(store);
}

/* --- queues --- */

int memory_compare(struct slice a, struct slice b)
{
    size_t shorter = a.len < b.len ? a.len : b.len;
    int order = shorter ? memcmp(a.ptr, b.ptr, shorter) : 0;

    return order ? order : (a.len > b.len) - (a.len < b.len);
}

/* The link that holds the queue of this name, or where it belongs. */
static struct memory_queue **queue_link(struct memory_store *store, struct slice name)
{
    struct memory_queue **link = &store->queues;

    while (*link && memory_compare((*link)->name, name) < 0)
        link = &(*link)->next;
    return link;
}

struct memory_queue *memory_store_known(struct memory_store *store, struct slice name)
{
    struct memory_queue *queue = *queue_link(store, name);

    return queue && slice_eq(queue->name, name) ? queue : NULL;
}

struct memory_queue *memory_store_queue(struct memory_store *store, struct slice name)
{
    struct memory_queue *queue = memory_store_known(store, name);
    struct memory_queue **link;

    if (queue)
        return queue;
    queue = calloc(1, sizeof(*queue));
    if (!queue || memory_copy(&queue->name, name) != 0) {
        free(queue);
        return NULL;
    }
    link = queue_link(store, name);
    queue->next = *link;
    *link = queue;
    return queue;
}

/* --- tokens --- */

static int compare_tokens(const void *a, const void *b)
{
    return memory_compare(((const struct memory_token *)a)->text,
                          ((const struct memory_token *)b)->text);
}

static void forget_old_tokens(struct memory_store *store, int64_t now_ms)
{
    while (store->token_head && store->token_head->until_ms <= now_ms) {
        struct memory_token *old = store->token_head;

        store->token_head = old->next;
        if (!store->token_head)
            store->token_tail = NULL;
        tdelete(old, &store->tokens, compare_tokens);
        free_token(old);
    }
}

static struct memory_token *new_token(struct slice text, int64_t until_ms)
{
    struct memory_token *token = calloc(1, sizeof(*token));

    if (!token || memory_copy(&token->text, text) != 0) {
        free(token);
        return NULL;
    }
    token->until_ms = until_ms;
    return token;
}

int memory_store_token(struct memory_store *store, struct slice text, int64_t now_ms)
{
    struct memory_token *token;
    struct memory_token key = {.text = text};

    forget_old_tokens(store, now_ms);
    if (tfind(&key, &store->tokens, compare_tokens))
        return 1;
    token = new_token(text, now_ms + TOKEN_MS);
    if (!token || !tsearch(token, &store->tokens, compare_tokens)) {
        if (token)
            free_token(token);
        return -1;
    }
    if (store->token_tail)
        store->token_tail->next = token;
    else
        store->token_head = token;
    store->token_tail = token;
    return 0;
}
