#include "base/heap.h"

#include <malloc.h>
#include <stddef.h>
#include <stdlib.h>

#define SIZES      64 /* 24 to 1032 bytes in steps of 16: what glibc keeps for a thread */
#define SMALLEST   24
#define STEP       16
#define KEPT       7 /* of each */
#define PIECES_MAX (SIZES * KEPT)

static void take(void **pieces)
{
    for (size_t i = 0; i < PIECES_MAX; i++)
        pieces[i] = malloc(SMALLEST + STEP * (i / KEPT));
}

static void give(void **pieces)
{
    for (size_t i = 0; i < PIECES_MAX; i++)
        free(pieces[i]);
}

void heap_give_back(void)
{
    void *kept[PIECES_MAX], *together[PIECES_MAX];

    take(kept);
    take(together); /* from what is free: next to each other, mostly */
    give(together); /* are kept now, */
    give(kept);     /* and these are not */
    malloc_trim(0);
}
