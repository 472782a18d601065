/* SPDX-License-Identifier: MIT
 *
 * Parking while preemption is disabled is fatal: the next coroutine on the
 * processor would run with it, or nobody would. */
#include <weft.h>

static int entry(void *arg)
{
    (void)arg;
    weft_set_name("selfish");
    weft_preempt_disable();
    weft_sleep(1000000);
    return 0;
}

int main(void)
{
    return weft_run(entry, NULL);
}
