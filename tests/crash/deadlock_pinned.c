/* SPDX-License-Identifier: MIT
 *
 * Pinned coroutines do not hide a deadlock, nor do threads that once held a busy
 * one in its handler, nor the last one that runs if it ends pinned.
 * Go: TestLockedDeadlock, TestLockedDeadlock2 */
#include <weft.h>

#include <stdatomic.h>

static weft_chan_t *c;
static _Atomic int over;

static void busy(void *arg)
{
    (void)arg;
    while (!over)
        ;
}

static void pinned(void *arg)
{
    (void)arg;
    weft_thread_lock();
    weft_recv(c, NULL);
}

static void ends_last(void *arg)
{
    (void)arg;
    weft_thread_lock();
    while (!over)
        weft_sleep(1000000);
    weft_sleep(50000000);
}

static int entry(void *arg)
{
    (void)arg;
    c = weft_chan_make(0, 0);
    weft_thread_lock();
    for (int i = 0; i < 4; i++)
        weft_go(busy, NULL);
    weft_go(pinned, NULL);
    weft_go(ends_last, NULL);
    weft_sleep(50000000);
    over = 1;
    return weft_recv(c, NULL);
}

int main(void)
{
    weft_config_t cfg = {.procs = 2};
    return weft_run_with(&cfg, entry, NULL);
}
