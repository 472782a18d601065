/* SPDX-License-Identifier: MIT
 *
 * overflow_copied.c: a copied stack overflows, and is reported like a private one. Its
 * window is a small one, as stackshare makes them: a gigabyte is much to fill. */
#include "weft.h"

#include <stdlib.h>

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

static int entry(void *arg)
{
    weft_attr_t attr = {.name = "digger", .stack = WEFT_STACK_COPIED};
    for (int i = 0; i < 2; i++)
        if (weft_go_with(&attr, digger, arg) != 0)
            return 3;
    weft_sleep(INT64_C(60) * 1000000000);
    return 4;
}

int main(void)
{
    setenv("WEFT_DEBUG", "stackshare", 1);
    return weft_run(entry, NULL);
}
