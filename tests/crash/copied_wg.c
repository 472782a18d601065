/* SPDX-License-Identifier: MIT
 *
 * copied_wg.c: a wait group on a copied stack is refused: who counts it down may find another stack there. */
#include <weft.h>

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

static int entry(void *arg)
{
    weft_attr_t attr = {.name = "owner", .stack = WEFT_STACK_COPIED};
    if (weft_go_with(&attr, owner, arg) != 0)
        return 3;
    weft_sleep(INT64_C(60) * 1000000000);
    return 4;
}

int main(void)
{
    weft_config_t cfg = {.procs = 1}; /* else the kid may be through before its owner waits */
    return weft_run_with(&cfg, entry, NULL);
}
