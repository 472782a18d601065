/* SPDX-License-Identifier: MIT
 *
 * weft_preempt_enable() without disable is fatal. */
#include <weft.h>

static int entry(void *arg)
{
    (void)arg;
    weft_preempt_disable();
    weft_preempt_enable();
    weft_preempt_enable();
    return 0;
}

int main(void)
{
    return weft_run(entry, NULL);
}
