/* SPDX-License-Identifier: MIT
 *
 * A select without cases and without a deadline waits for ever, on more than
 * one processor too. */
#include <weft.h>

static void idler(void *arg)
{
    (void)arg;
    weft_select(NULL, 0, 0);
}

static int entry(void *arg)
{
    (void)arg;
    for (int i = 0; i < 10; i++)
        weft_go(idler, NULL);
    weft_sleep(5000000);
    return weft_select(NULL, 0, 0);
}

int main(void)
{
    weft_config_t cfg = {.procs = 4};
    return weft_run_with(&cfg, entry, NULL);
}
