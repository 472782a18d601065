/* SPDX-License-Identifier: MIT
 *
 * A wait group that is raised again before its waiter has got away: on one
 * processor the waiter runs only after the add. */
#include <weft.h>

static weft_wg_t wg;

static void waiter(void *arg)
{
    (void)arg;
    weft_wg_wait(&wg);
}

static int entry(void *arg)
{
    (void)arg;
    weft_wg_add(&wg, 1);
    weft_go(waiter, NULL);
    weft_sleep(1000000);
    weft_wg_done(&wg);
    weft_wg_add(&wg, 1);
    weft_sleep(1000000);
    return 0;
}

int main(void)
{
    weft_config_t cfg = {.procs = 1};
    return weft_run_with(&cfg, entry, NULL);
}
