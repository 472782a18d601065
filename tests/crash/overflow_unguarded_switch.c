/* SPDX-License-Identifier: MIT
 *
 * overflow_unguarded_switch.c: without a guard and without ticks: noticed where it yields,
 * and before it has left its stack.
 */
#include "weft.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *lowest;

static int dig(int depth)
{
    volatile char frame[1000];
    memset((char *)frame, depth, sizeof(frame));
    if ((char *)frame < lowest)
        _exit(5);
    weft_yield();
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
    weft_attr_t attr = {.name = "digger", .stack_max = 100 << 10};
    if (weft_go_with(&attr, digger, arg) != 0)
        return 3;
    weft_sleep(INT64_C(60) * 1000000000);
    return 4;
}

int main(void)
{
    setenv("WEFT_DEBUG", "guards=1,preempt=off", 1);
    return weft_run(entry, NULL);
}
