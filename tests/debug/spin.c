/* SPDX-License-Identifier: MIT
 *
 * spin.c: a coroutine that computes, for debuggers and profilers to look at.
 * usage: spin [SECONDS]; default 1. */
#include <weft.h>

#include <stdio.h>
#include <stdlib.h>

static int64_t until;
static volatile unsigned long sink;

/* Has a frame of its own: it keeps a local in memory. */
static __attribute__((noinline)) int64_t spin_leaf(void)
{
    for (volatile unsigned long i = 0; i < 20000; i++)
        ;
    sink++;
    int64_t now = weft_now();
    sink++; /* no tail call */
    return now;
}

static __attribute__((noinline)) void spin_middle(void)
{
    while (spin_leaf() < until)
        sink++;
    sink++; /* no tail call */
}

static void spin_start(void *arg)
{
    spin_middle();
    weft_wg_done(arg);
}

static int entry(void *arg)
{
    weft_wg_t wg = {0};
    const char *seconds = arg;
    until = weft_now() + (int64_t)(strtod(seconds, NULL) * 1e9);
    weft_wg_add(&wg, 1);
    int rc = weft_go_with(&(weft_attr_t){.name = "spinner"}, spin_start, &wg);
    if (rc == 0)
        rc = weft_wg_wait(&wg);
    return -rc;
}

int main(int argc, char **argv)
{
    char one[] = "1";
    int rc = weft_run(entry, argc > 1 ? argv[1] : one);
    if (rc != 0)
        fprintf(stderr, "spin: %d\n", rc);
    return rc != 0;
}
