/* SPDX-License-Identifier: MIT
 *
 * Two mutexes in two orders, and a main that waits for both: nothing can run. */
#include "deadlock.h"

static weft_mutex_t a, b;
static weft_wg_t wg;

static void ab(void *arg)
{
    (void)arg;
    weft_set_name("ab");
    weft_mutex_lock(&a);
    weft_sleep(20000000);
    weft_mutex_lock(&b);
}

static void ba(void *arg)
{
    (void)arg;
    weft_set_name("ba");
    weft_mutex_lock(&b);
    weft_sleep(20000000);
    weft_mutex_lock(&a);
}

static int entry(void *arg)
{
    (void)arg;
    weft_wg_go(&wg, ab, NULL);
    weft_wg_go(&wg, ba, NULL);
    return weft_wg_wait(&wg);
}

int main(void)
{
    return run_watched(entry);
}
