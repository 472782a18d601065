/* SPDX-License-Identifier: MIT
 *
 * Many threads fail at once: one report, one exit status. */
#include <weft.h>

static void fail(void *arg)
{
    weft_chan_close(arg);
}

static int entry(void *arg)
{
    (void)arg;
    weft_chan_t *c = weft_chan_make(0, 0);
    weft_chan_close(c);
    for (int i = 0; i < 100; i++)
        weft_go(fail, c);
    weft_sleep(INT64_C(10000000000));
    return 0;
}

int main(void)
{
    weft_config_t cfg = {.procs = 8};
    return weft_run_with(&cfg, entry, NULL);
}
