/* SPDX-License-Identifier: MIT
 *
 * A mutex is not recursive. */
#include "deadlock.h"

static weft_mutex_t mx;

static int entry(void *arg)
{
    (void)arg;
    weft_set_name("main");
    weft_mutex_lock(&mx);
    return weft_mutex_lock(&mx);
}

int main(void)
{
    return run_watched(entry);
}
