/*
 * analyzer.h - where gcc's -fanalyzer is wrong about memory.
 *
 * Purpose: the analyze preset makes every finding an error; gcc 12 believes that memory is lost
 * when its only pointer is stored through a pointer that it cannot follow (a bucket, an element of
 * a grown array, the middle of a structure), and that memory may be missing where a size says that
 * it is there. Model: the two words stand around one function, with the reason beside them; clang's
 * analyzer, cppcheck, LeakSanitizer and valgrind still look there. Fork rule: none.
 */
#ifndef BASE_ANALYZER_H
#define BASE_ANALYZER_H

#if defined(__GNUC__) && !defined(__clang__)
#define ANALYZER_LOSES_SIGHT                                                                       \
    _Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wanalyzer-malloc-leak\"")    \
        _Pragma("GCC diagnostic ignored \"-Wanalyzer-null-argument\"")
#define ANALYZER_SEES_AGAIN _Pragma("GCC diagnostic pop")
#else
#define ANALYZER_LOSES_SIGHT
#define ANALYZER_SEES_AGAIN
#endif

#endif
