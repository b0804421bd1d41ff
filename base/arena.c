#include "base/arena.h"

#include "base/poison.h"

#include <stdint.h>
#include <stdlib.h>

#define BLOCK_SIZE ((size_t)16 << 10)
#define LARGE      (BLOCK_SIZE / 4) /* wastes no more than that of a block */
#define SPARES_MAX 16
#define ALIGN      _Alignof(max_align_t)

struct arena_block {
    struct arena_block *next;
    size_t at;
    size_t cap;
    _Alignas(max_align_t) char bytes[];
};

static void free_blocks(struct arena_block *block)
{
    while (block) {
        struct arena_block *next = block->next;

        free(block);
        block = next;
    }
}

void arena_rest(struct arena *a)
{
    free_blocks(a->spare);
    a->spare = NULL;
    a->spares = 0;
}

void arena_release(struct arena *a)
{
    free_blocks(a->used);
    arena_rest(a);
    *a = (struct arena)ARENA_INIT;
}

static struct arena_block *new_block(size_t cap)
{
    struct arena_block *block = malloc(sizeof(*block) + cap);

    if (block) {
        block->at = 0;
        block->cap = cap;
    }
    return block;
}

/* Behind the first, which is still cut from. */
static void *take_large(struct arena *a, size_t n)
{
    struct arena_block *block = new_block(n), **at = a->used ? &a->used->next : &a->used;

    if (!block)
        return NULL;
    block->at = n;
    block->next = *at;
    *at = block;
    return block->bytes;
}

static struct arena_block *next_block(struct arena *a)
{
    struct arena_block *block = a->spare;

    if (block) {
        a->spare = block->next;
        a->spares--;
    } else if (!(block = new_block(BLOCK_SIZE))) {
        return NULL;
    }
    block->next = a->used;
    a->used = block;
    return block;
}

void *arena_take(struct arena *a, size_t n)
{
    struct arena_block *block = a->used;
    void *piece;

    if (n > SIZE_MAX / 2)
        return NULL;
    n = (n + ALIGN - 1) / ALIGN * ALIGN;
    if (n > LARGE)
        return take_large(a, n);
    if ((!block || block->cap - block->at < n) && !(block = next_block(a)))
        return NULL;
    piece = block->bytes + block->at;
    block->at += n;
    UNPOISON(piece, n);
    return piece;
}

void arena_clear(struct arena *a)
{
    struct arena_block *block;

    while ((block = a->used)) {
        a->used = block->next;
        if (block->cap != BLOCK_SIZE || a->spares == SPARES_MAX) {
            free(block);
            continue;
        }
        block->at = 0;
        POISON(block->bytes, block->cap);
        block->next = a->spare;
        a->spare = block;
        a->spares++;
    }
}
