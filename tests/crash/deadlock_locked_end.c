/* SPDX-License-Identifier: MIT
 *
 * The last one that runs ends locked to the thread in weft_run(), the only one there is: it is still seen that
 * nothing can ever run again.
 */
#include <weft.h>

static void ends(void *arg)
{
    (void)arg;
    weft_thread_lock();
}

static int entry(void *arg)
{
    (void)arg;
    weft_go(ends, NULL);
    return weft_recv(weft_chan_make(0, 0), NULL);
}

int main(void)
{
    weft_config_t cfg = {.procs = 1};
    return weft_run_with(&cfg, entry, NULL);
}
