/* SPDX-License-Identifier: MIT
 *
 * A wait group below zero. Go: TestWaitGroupMisuse. */
#include <weft.h>

static int entry(void *arg)
{
    static weft_wg_t wg;
    (void)arg;
    weft_wg_add(&wg, 1);
    weft_wg_done(&wg);
    weft_wg_done(&wg);
    return 0;
}

int main(void)
{
    return weft_run(entry, NULL);
}
