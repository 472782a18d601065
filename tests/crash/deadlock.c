/* SPDX-License-Identifier: MIT
 *
 * Everybody waits for somebody: main for a worker, the worker for main. The dump
 * names both, and what they wait for.
 * Go: TestSimpleDeadlock */
#include <weft.h>

static weft_chan_t *ping, *pong;

static void worker(void *arg)
{
    (void)arg;
    weft_set_name("worker");
    weft_recv(ping, NULL);
    weft_send(pong, NULL);
}

static int entry(void *arg)
{
    (void)arg;
    ping = weft_chan_make(0, 0);
    pong = weft_chan_make(0, 0);
    weft_go(worker, NULL);
    return weft_recv(pong, NULL);
}

int main(void)
{
    return weft_run(entry, NULL);
}
