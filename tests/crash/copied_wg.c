/* SPDX-License-Identifier: MIT
 *
 * copied_wg.c: a wait group on a copied stack is refused: who counts it down may find another stack there. */
#include "victim.h"

static void kid(void *arg)
{
    weft_wg_done(arg);
}

static void owner(void *arg)
{
    weft_wg_t wg = {0};
    (void)arg;
    weft_wg_add(&wg, 1);
    weft_go(kid, &wg);
    weft_wg_wait(&wg);
}

int main(void)
{
    /* One P, else the kid may be through before its owner waits. */
    return victim_run(
        (Victim){.attr = {.name = "owner", .stack = WEFT_STACK_COPIED}, .fn = owner, .procs = 1});
}
