/* SPDX-License-Identifier: MIT
 *
 * deadlock.h: planted deadlocks of the whole program, watched by WEFT_DEBUG=deadlock: the fatal line, the
 * cycle of locks if there is one, and the dump with every name. */
#ifndef DEADLOCK_H
#define DEADLOCK_H

#include <stdlib.h>
#include <weft.h>

static inline void named(const char *name, void (*fn)(void *), void *arg)
{
    weft_attr_t attr = {.name = name};
    weft_go_with(&attr, fn, arg);
}

static inline int run_watched(int (*entry)(void *))
{
    setenv("WEFT_DEBUG", "deadlock", 1);
    return weft_run(entry, NULL);
}

/* Until who has been started waits for good. */
static inline void settle(void)
{
    weft_sleep(20000000);
}

#endif
