/* SPDX-License-Identifier: MIT
 *
 * overflow_small.c: the same on a small stack, between others: one guard
 * page is all that keeps it from the neighbour.
 */
#include "victim.h"

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

int main(void)
{
    return victim_run(
        (Victim){.attr = {.name = "small", .stack_max = 16 << 10}, .fn = digger, .n = 3});
}
