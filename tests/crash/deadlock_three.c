/* SPDX-License-Identifier: MIT
 *
 * Three mutexes, each with its owner waiting for the next. */
#include "deadlock.h"

static weft_mutex_t mx[3];

static void next(void *arg)
{
    weft_mutex_t *m = arg;
    weft_mutex_lock(m);
    weft_sleep(20000000);
    if (weft_mutex_lock(m == &mx[2] ? &mx[0] : m + 1) != 0)
        abort(); /* and no tail call: our name is to be seen */
}

static int entry(void *arg)
{
    (void)arg;
    named("one", next, &mx[0]);
    named("two", next, &mx[1]);
    named("three", next, &mx[2]);
    settle();
    return weft_mutex_lock(&mx[0]);
}

int main(void)
{
    return run_watched(entry);
}
