/* SPDX-License-Identifier: MIT
 *
 * overflow_unguarded_tick.c: without a guard and without a call of weft's: noticed by a tick,
 * and, since this recursion takes some time, before it has left its stack.
 */
#include "overflow.h"

static int dig(int depth)
{
    volatile char frame[4000];
    memset((char *)frame, depth, sizeof(frame));
    not_below(frame);
    for (volatile int i = 0; i < 20000; i++)
        ;
    return dig(depth + 1) + frame[depth & 127];
}

int main(void)
{
    setenv("WEFT_DEBUG", "guards=1", 1);
    return overflow_run(64 << 20);
}
