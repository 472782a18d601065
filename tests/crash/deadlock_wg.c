/* SPDX-License-Identifier: MIT
 *
 * Nobody counts down. */
#include "deadlock.h"

static weft_wg_t wg;

static void waits(void *arg)
{
    (void)arg;
    weft_wg_wait(&wg);
}

static int entry(void *arg)
{
    (void)arg;
    weft_wg_add(&wg, 1);
    named("waits", waits, NULL);
    return weft_wg_wait(&wg);
}

int main(void)
{
    return run_watched(entry);
}
