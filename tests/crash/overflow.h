/* SPDX-License-Identifier: MIT
 *
 * overflow.h: a coroutine "digger" that recurses beyond its stack. How is the program's dig(). */
#ifndef OVERFLOW_H
#define OVERFLOW_H

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "victim.h"

static int dig(int depth);
static char *lowest; /* of its stack */

static void digger(void *arg)
{
    void *hi;
    (void)arg;
    weft_stack_bounds((void **)&lowest, &hi);
    dig(0);
}

/* It must have been noticed before this is called from below the stack. */
static inline void not_below(const volatile char *frame)
{
    if ((const char *)frame < lowest)
        _exit(5);
}

static inline int overflow_run(size_t stack_max)
{
    return victim_run((Victim){.attr = {.name = "digger", .stack_max = stack_max}, .fn = digger});
}

#endif
