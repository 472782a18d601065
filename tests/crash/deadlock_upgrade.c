/* SPDX-License-Identifier: MIT
 *
 * A reader that wants to write waits for itself to leave, and main with it. */
#include "deadlock.h"

static weft_rwmutex_t rw;

static void upgrade(void *arg)
{
    (void)arg;
    weft_rwmutex_rlock(&rw);
    weft_rwmutex_lock(&rw);
}

static int entry(void *arg)
{
    (void)arg;
    named("upgrade", upgrade, NULL);
    settle();
    return weft_rwmutex_rlock(&rw);
}

int main(void)
{
    return run_watched(entry);
}
