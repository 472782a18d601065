/* SPDX-License-Identifier: MIT
 *
 * copied_timer.c: and a timer. */
#include <weft.h>

static void tick(void *arg)
{
    (void)arg;
}

static void owner(void *arg)
{
    weft_timer_t t = {{0}};
    weft_timer_start(&t, weft_now(), 0, tick, arg);
}

static int entry(void *arg)
{
    weft_attr_t attr = {.name = "owner", .stack = WEFT_STACK_COPIED};
    if (weft_go_with(&attr, owner, arg) != 0)
        return 3;
    weft_sleep(INT64_C(60) * 1000000000);
    return 4;
}

int main(void)
{
    return weft_run(entry, NULL);
}
