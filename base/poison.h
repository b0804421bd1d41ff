/*
 * poison.h - memory of ours that nobody may touch for now.
 *
 * Purpose: what is cut from larger blocks and taken back is not free memory for the sanitizer, so
 * it is told. Model: without the sanitizer both do nothing. Fork rule: none.
 */
#ifndef BASE_POISON_H
#define BASE_POISON_H

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#define POISON(at, n)   ASAN_POISON_MEMORY_REGION((at), (n))
#define UNPOISON(at, n) ASAN_UNPOISON_MEMORY_REGION((at), (n))
#else
#define POISON(at, n)   ((void)(at), (void)(n))
#define UNPOISON(at, n) ((void)(at), (void)(n))
#endif

#endif
