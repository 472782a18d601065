/* SPDX-License-Identifier: MIT
 *
 * Two mutexes in two orders, and a main that waits for both: nothing can run. */
#include <weft.h>

static weft_mutex_t a, b;

static void ab(void *arg)
{
    (void)arg;
    weft_mutex_lock(&a);
    weft_sleep(2000000);
    weft_mutex_lock(&b);
}

static void ba(void *arg)
{
    (void)arg;
    weft_mutex_lock(&b);
    weft_sleep(2000000);
    weft_mutex_lock(&a);
}

static int entry(void *arg)
{
    weft_wg_t wg = {0};
    (void)arg;
    weft_wg_go(&wg, ab, NULL);
    weft_wg_go(&wg, ba, NULL);
    return weft_wg_wait(&wg);
}

int main(void)
{
    return weft_run(entry, NULL);
}
