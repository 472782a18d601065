/* SPDX-License-Identifier: MIT
 *
 * Nobody signals. */
#include "deadlock.h"

static weft_mutex_t mx;
static weft_cond_t cond;

static void waits(void *arg)
{
    (void)arg;
    weft_mutex_lock(&mx);
    weft_cond_wait(&cond, &mx);
}

static int entry(void *arg)
{
    (void)arg;
    named("waits", waits, NULL);
    settle();
    waits(NULL);
    return 0;
}

int main(void)
{
    return run_watched(entry);
}
