/* SPDX-License-Identifier: MIT
 *
 * overflow.c: a coroutine recurses beyond its stack_max.
 */
#include "weft.h"

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
    weft_attr_t attr = {.name = "digger", .stack_max = 3 << 20};
    if (weft_go_with(&attr, digger, arg) != 0)
        return 3;
    weft_sleep(INT64_C(60) * 1000000000);
    return 4;
}

int main(void)
{
    int depth = 0;
    return weft_run(entry, &depth);
}
