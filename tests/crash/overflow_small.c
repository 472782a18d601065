/* SPDX-License-Identifier: MIT
 *
 * overflow_small.c: the same on a small stack, between others: one guard
 * page is all that keeps it from the neighbour.
 */
#include "weft.h"

static int dig(volatile int *up)
{
    volatile int here = *up + 1;
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
    weft_attr_t attr = {.name = "small", .stack_max = 16 << 10};
    for (int i = 0; i < 3; i++)
        if (weft_go_with(&attr, digger, arg) != 0)
            return 3;
    weft_sleep(INT64_C(60) * 1000000000);
    return 4;
}

int main(void)
{
    return weft_run(entry, NULL);
}
