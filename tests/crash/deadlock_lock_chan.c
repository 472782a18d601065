/* SPDX-License-Identifier: MIT
 *
 * One sends while it holds the lock that the receiver wants first: no cycle of locks, and a
 * deadlock all the same. */
#include "deadlock.h"

static weft_mutex_t mx;
static weft_chan_t *c;

static void sender(void *arg)
{
    (void)arg;
    weft_mutex_lock(&mx);
    weft_send(c, NULL);
}

static int entry(void *arg)
{
    (void)arg;
    c = weft_chan_make(0, 0);
    named("sender", sender, NULL);
    settle();
    weft_mutex_lock(&mx);
    return weft_recv(c, NULL);
}

int main(void)
{
    return run_watched(entry);
}
