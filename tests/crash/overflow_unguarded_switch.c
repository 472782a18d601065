/* SPDX-License-Identifier: MIT
 *
 * overflow_unguarded_switch.c: without a guard and without ticks: noticed where it yields,
 * and before it has left its stack.
 */
#include "overflow.h"

static int dig(int depth)
{
    volatile char frame[1000];
    memset((char *)frame, depth, sizeof(frame));
    not_below(frame);
    weft_yield();
    return dig(depth + 1) + frame[depth & 127];
}

int main(void)
{
    setenv("WEFT_DEBUG", "guards=1,preempt=off", 1);
    return overflow_run(100 << 10);
}
