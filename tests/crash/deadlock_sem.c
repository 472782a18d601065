/* SPDX-License-Identifier: MIT
 *
 * Nobody releases. */
#include "deadlock.h"

static weft_sem_t sem;

static void acquires(void *arg)
{
    (void)arg;
    weft_sem_acquire(&sem, 2);
}

static int entry(void *arg)
{
    (void)arg;
    weft_sem_init(&sem, 3);
    weft_sem_acquire(&sem, 3);
    named("acquires", acquires, NULL);
    return weft_sem_acquire(&sem, 1);
}

int main(void)
{
    return run_watched(entry);
}
