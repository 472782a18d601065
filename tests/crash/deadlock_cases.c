/* SPDX-License-Identifier: MIT
 *
 * Two wait in selects for each other. */
#include "deadlock.h"

static weft_chan_t *a, *b;

static void waits(void *arg)
{
    weft_case_t two[] = {{.op = WEFT_RECV, .chan = arg}, {.op = WEFT_RECV, .chan = b}};
    weft_select(two, 2, 0);
    weft_send(b, NULL);
}

static int entry(void *arg)
{
    (void)arg;
    a = weft_chan_make(0, 0);
    b = weft_chan_make(0, 0);
    named("waits", waits, a);
    waits(a);
    return 0;
}

int main(void)
{
    return run_watched(entry);
}
