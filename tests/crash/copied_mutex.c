/* SPDX-License-Identifier: MIT
 *
 * copied_mutex.c: so is a mutex that somebody has to wait for. */
#include "victim.h"

static void waiter(void *arg)
{
    weft_mutex_lock(arg);
}

static void owner(void *arg)
{
    weft_attr_t attr = {.name = "waiter", .stack = WEFT_STACK_PRIVATE};
    weft_mutex_t mutex = {0};
    (void)arg;
    weft_mutex_lock(&mutex);
    weft_go_with(&attr, waiter, &mutex);
    weft_sleep(INT64_C(60) * 1000000000);
    weft_mutex_unlock(&mutex);
}

int main(void)
{
    return victim_run((Victim){.attr = {.name = "owner", .stack = WEFT_STACK_COPIED}, .fn = owner});
}
