/* SPDX-License-Identifier: MIT
 *
 * fast_program.c: fast_paths.h as a program of its own, in C and in C++: see check_fast.sh. */
#include <stdio.h>
#include <stdlib.h>

static void fail(const char *what, int line)
{
    fprintf(stderr, "line %d: not %s\n", line, what);
    exit(1);
}
#define OK(x) ((x) ? (void)0 : fail(#x, __LINE__))

#include "fast_paths.h"

static int entry(void *arg)
{
    (void)arg;
    for (int k = 0; k < KINDS; k++) {
        fast_table(k);
        fast_null(k);
    }
    fast_mixed();
    return 7;
}

int main(void)
{
    OK(weft_run(entry, NULL) == 7);
    return 0;
}
