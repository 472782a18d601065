/* SPDX-License-Identifier: MIT
 *
 * overflow_unguarded.c: a coroutine without a guard recurses for ever and as fast as it
 * can: a tick reports it, or what it runs into.
 */
#include "weft.h"

#include <stdlib.h>
#include <string.h>

static int dig(int depth)
{
    volatile char frame[400];
    memset((char *)frame, depth, sizeof(frame));
    return dig(depth + 1) + frame[depth & 127];
}

static void digger(void *arg)
{
    dig(*(int *)arg);
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
    int depth = 0;
    setenv("WEFT_DEBUG", "guards=1", 1); /* main's */
    return weft_run(entry, &depth);
}
