/*
 * arena.h - memory that is given out piece by piece and taken back all at once.
 *
 * Purpose: what is built of many small pieces and dies as a whole, again and again (the reply of a
 * server), without an allocation for each piece. Model: pieces are cut from blocks in order;
 * arena_clear keeps some of the blocks for the next round. A piece that is large for a block gets
 * one of its own. Invariants: pieces are aligned for anything; no piece is given back by itself.
 * Fork rule: none.
 */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stddef.h>

struct arena_block;

struct arena {
    struct arena_block *used;  /* the first one is cut from */
    struct arena_block *spare; /* of the usual size */
    size_t spares;
};

#define ARENA_INIT                                                                                 \
    {                                                                                              \
        NULL, NULL, 0                                                                              \
    }

void arena_release(struct arena *a);

/* n bytes that last until arena_clear, or NULL when out of memory. */
void *arena_take(struct arena *a, size_t n);

/* Takes back every piece; 256 KB at most are kept. */
void arena_clear(struct arena *a);

/* Frees what is kept; pieces stay. */
void arena_rest(struct arena *a);

#endif
