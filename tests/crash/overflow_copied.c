/* SPDX-License-Identifier: MIT
 *
 * overflow_copied.c: a copied stack overflows, and is reported like a private one. Its
 * window is a small one, as stackshare makes them: a gigabyte is much to fill. */
#include <stdlib.h>

#include "victim.h"

static int dig(volatile int *up)
{
    volatile int here = *up + 1;
    if (here % 1000 == 0)
        weft_yield();
    return dig(&here) + here;
}

static void digger(void *arg)
{
    volatile int zero = 0;
    (void)arg;
    dig(&zero);
}

int main(void)
{
    setenv("WEFT_DEBUG", "stackshare", 1);
    return victim_run(
        (Victim){.attr = {.name = "digger", .stack = WEFT_STACK_COPIED}, .fn = digger, .n = 2});
}
