/* SPDX-License-Identifier: MIT
 *
 * Closing a channel twice, in a coroutine with the smallest stack there is: the
 * report must not need more than that. */
#include <weft.h>

static void closer(void *arg)
{
    weft_sleep(20000000); /* main is to be seen asleep */
    weft_chan_close(arg);
    weft_chan_close(arg);
}

static int entry(void *arg)
{
    weft_attr_t attr = {.name = "closer", .stack_max = 16384};
    (void)arg;
    weft_go_with(&attr, closer, weft_chan_make(0, 0));
    weft_sleep(INT64_C(10000000000));
    return 0;
}

int main(void)
{
    return weft_run(entry, NULL);
}
