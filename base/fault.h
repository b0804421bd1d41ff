/*
 * fault.h - named crash points, so that a test can kill a process exactly there.
 *
 * Purpose: every window between two steps that should have been one has a name; docs/faults.md
 * lists them with what recovers. Model: FAULT_POINT("broker.after-fetch") kills the process with
 * SIGKILL when the environment variable CELERIAC_FAULT holds that name, or "name:N" at the N-th
 * pass (counted per process from 1). With CELERIAC_FAULT_FILE set, the death happens only while
 * that file exists, and removes it first: exactly one process dies. Invariant: compiled to nothing
 * unless the build has CELERIAC_FAULTS. Fork rule: the counter is the process's own.
 */
#ifndef BASE_FAULT_H
#define BASE_FAULT_H

#ifdef CELERIAC_FAULTS
void fault_point(const char *name);
#define FAULT_POINT(name) fault_point(name)
#else
#define FAULT_POINT(name)                                                                          \
    do {                                                                                           \
    } while (0)
#endif

#endif
