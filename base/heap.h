/*
 * heap.h - gives unused memory back to the system.
 *
 * Purpose: a process that had a burst is as small after it as before. Model: malloc_trim gives back
 * pages of which nothing is in use; but glibc (2.26 and later) keeps up to seven freed pieces of
 * each of 64 sizes for the thread, wherever they lie, and each of them holds its page. So those are
 * exchanged first for pieces that lie together. Those take 240 KB: this is for a heap that was
 * spread over megabytes, not for a runner's. Invariants: nothing that is in use moves. Fork rule:
 * any process, one thread.
 */
#ifndef BASE_HEAP_H
#define BASE_HEAP_H

/* Takes some 50 us, and 0.2 ms where much is given back. */
void heap_give_back(void);

#endif
