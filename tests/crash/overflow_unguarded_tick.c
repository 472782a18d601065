/* SPDX-License-Identifier: MIT
 *
 * overflow_unguarded_tick.c: without a guard and without a call of weft's: noticed by a tick,
 * and, since this recursion takes some time, before it has left its stack.
 */
#include "weft.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *lowest;

static int dig(unsigned depth)
{
    volatile char frame[4000];
    memset((char *)frame, (int)depth, sizeof(frame));
    if ((char *)frame < lowest)
        _exit(5);
    for (volatile int i = 0; i < 20000; i++)
        ;
    return dig(depth + 1) + frame[depth & 127];
}

static void digger(void *arg)
{
    void *hi;
    (void)arg;
    weft_stack_bounds((void **)&lowest, &hi);
    dig(0);
}

static int entry(void *arg)
{
    weft_attr_t attr = {.name = "digger", .stack_max = 64 << 20};
    if (weft_go_with(&attr, digger, arg) != 0)
        return 3;
    weft_sleep(INT64_C(60) * 1000000000);
    return 4;
}

int main(void)
{
    setenv("WEFT_DEBUG", "guards=1", 1);
    return weft_run(entry, NULL);
}
