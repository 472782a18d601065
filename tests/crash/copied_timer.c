/* SPDX-License-Identifier: MIT
 *
 * copied_timer.c: and a timer. */
#include "victim.h"

static void tick(void *arg)
{
    (void)arg;
}

static void owner(void *arg)
{
    weft_timer_t t = {{0}};
    weft_timer_start(&t, weft_now(), 0, tick, arg);
}

int main(void)
{
    return victim_run((Victim){.attr = {.name = "owner", .stack = WEFT_STACK_COPIED}, .fn = owner});
}
