/* SPDX-License-Identifier: MIT
 *
 * overflow.c: a coroutine recurses beyond its stack_max. Go: TestStackOverflow.
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
    return overflow_run(3 << 20);
}
