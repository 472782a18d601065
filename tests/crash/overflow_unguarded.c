/* SPDX-License-Identifier: MIT
 *
 * overflow_unguarded.c: a coroutine without a guard recurses for ever and as fast as it
 * can: a tick reports it, or what it runs into.
 */
#include "overflow.h"

static int dig(int depth)
{
    volatile char frame[400];
    memset((char *)frame, depth, sizeof(frame));
    return dig(depth + 1) + frame[depth & 127];
}

int main(void)
{
    setenv("WEFT_DEBUG", "guards=1", 1); /* main's */
    return overflow_run(64 << 20);
}
