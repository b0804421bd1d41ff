#include "broker/sqlite.h"

#include <stdlib.h>

#define FOLLOWUP_SLICES 4
#define OP_SLICES       6

static size_t message_slices(struct broker_message *m, struct slice *out[FOLLOWUP_SLICES])
{
    out[0] = &m->queue;
    out[1] = &m->envelope;
    out[2] = &m->token;
    out[3] = &m->id;
    return FOLLOWUP_SLICES;
}

#define AT(member) offsetof(struct sqlite_op, member)

/* The places of all borrowed texts of an op; those of follow-ups are apart. */
static size_t op_slices(struct sqlite_op *op, struct slice *out[OP_SLICES])
{
    static const struct {
        size_t len;
        size_t at[OP_SLICES];
    } texts[SQLITE_OP_KINDS] = {
        [SQLITE_OP_PUBLISH] = {4,
                               {AT(publish.queue), AT(publish.envelope), AT(publish.token),
                                AT(publish.id)}},
        [SQLITE_OP_NOTE] = {2, {AT(note.result_id), AT(note.result)}},
        [SQLITE_OP_FINISH] = {3, {AT(finish.result_id), AT(finish.result), AT(finish.dedup_key)}},
        [SQLITE_OP_RELEASE] = {1, {AT(release.envelope)}},
        [SQLITE_OP_BURY] = {6,
                            {AT(bury.cause), AT(bury.id), AT(bury.task), AT(bury.result_id),
                             AT(bury.result), AT(bury.dedup_key)}},
        [SQLITE_OP_STORE] = {2, {AT(store.id), AT(store.result)}},
        [SQLITE_OP_CLAIM] = {2, {AT(claim.key), AT(claim.id)}},
        [SQLITE_OP_GET] = {1, {AT(id.id)}},
        [SQLITE_OP_FORGET] = {1, {AT(id.id)}},
        [SQLITE_OP_ASK] = {2, {AT(ask.queue), AT(ask.handle)}},
    };
    size_t n = texts[op->kind].len;

    for (size_t i = 0; i < n; i++)
        out[i] = (struct slice *)(void *)((char *)op + texts[op->kind].at[i]);
    return n;
}

static size_t followups_len(const struct sqlite_op *op)
{
    return op->kind == SQLITE_OP_FINISH ? op->finish.followups_len : 0;
}

static size_t texts_size(struct slice *const *slices, size_t n)
{
    size_t size = 0;

    for (size_t i = 0; i < n; i++)
        size += slices[i]->len;
    return size;
}

static char *take_texts(char *to, struct slice *const *slices, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (slices[i]->len)
            memcpy(to, slices[i]->ptr, slices[i]->len);
        if (slices[i]->ptr)
            slices[i]->ptr = to;
        to += slices[i]->len;
    }
    return to;
}

static size_t block_size(struct sqlite_op *op)
{
    struct slice *slices[OP_SLICES] = {NULL};
    size_t size = sizeof(*op) + 1 + texts_size(slices, op_slices(op, slices));

    for (size_t i = 0; i < followups_len(op); i++) {
        struct broker_message m = op->finish.followups[i];

        size += sizeof(m) + texts_size(slices, message_slices(&m, slices));
    }
    return size;
}

static char *take_followups(struct sqlite_op *op, char *to)
{
    struct slice *slices[FOLLOWUP_SLICES];
    size_t n = followups_len(op);
    struct broker_message *copies = (struct broker_message *)(op + 1);

    if (n) {
        memcpy(copies, op->finish.followups, n * sizeof(*copies));
        op->finish.followups = copies;
    }
    for (size_t i = 0; i < n; i++)
        to = take_texts(to, slices, message_slices(&copies[i], slices));
    return to;
}

/* Block: the op, its follow-ups, all texts. */
static struct sqlite_op *copy_op(struct sqlite_op *op)
{
    struct slice *slices[OP_SLICES];
    size_t size = block_size(op);
    struct sqlite_op *copy = malloc(size);
    char *to;

    if (!copy)
        return NULL;
    *copy = *op;
    copy->size = size;
    to = (char *)(copy + 1) + followups_len(op) * sizeof(struct broker_message);
    to = take_followups(copy, to);
    take_texts(to, slices, op_slices(copy, slices));
    return copy;
}

static void free_chain(struct sqlite_op *op)
{
    while (op) {
        struct sqlite_op *next = op->next;

        free(op);
        op = next;
    }
}

bool sqlite_op_writes(const struct sqlite_op *op)
{
    if (op->kind == SQLITE_OP_GET)
        return false;
    if (op->kind == SQLITE_OP_ASK)
        return op->ask.question == BROKER_ASK_PURGE || op->ask.question == BROKER_ASK_DEAD_RETRY ||
               op->ask.question == BROKER_ASK_DEAD_RM || op->ask.question == BROKER_ASK_DROP;
    return true;
}

int sqlite_ops_add(struct sqlite_ops_list *list, enum sqlite_op_kind kind, const void *v,
                   size_t item_size, size_t n, struct err *e)
{
    struct sqlite_ops_list added = {0};

    for (size_t i = 0; i < n; i++) {
        struct sqlite_op op = {.kind = kind};
        struct sqlite_op *copy;

        memcpy(&op.publish, (const char *)v + i * item_size, item_size);
        copy = copy_op(&op);
        if (!copy) {
            sqlite_ops_release(&added);
            return err_nomem(e);
        }
        if (added.tail)
            added.tail->next = copy;
        else
            added.head = copy;
        added.tail = copy;
        added.len++;
        added.writers += sqlite_op_writes(copy);
    }
    sqlite_ops_append(list, &added);
    return 0;
}

void sqlite_ops_append(struct sqlite_ops_list *list, struct sqlite_ops_list *from)
{
    if (!from->head)
        return;
    if (list->tail)
        list->tail->next = from->head;
    else
        list->head = from->head;
    list->tail = from->tail;
    list->len += from->len;
    list->writers += from->writers;
    *from = (struct sqlite_ops_list){0};
}

void sqlite_ops_drop(struct sqlite_ops_list *list, size_t n)
{
    while (n-- && list->head) {
        struct sqlite_op *op = list->head;

        list->head = op->next;
        list->len--;
        list->writers -= sqlite_op_writes(op);
        free(op);
    }
    if (!list->head)
        list->tail = NULL;
}

void sqlite_ops_release(struct sqlite_ops_list *list)
{
    free_chain(list->head);
    *list = (struct sqlite_ops_list){0};
}
