/* SPDX-License-Identifier: MIT
 *
 * semaphore.c: a weighted semaphore bounds what is in use at once: here megabytes. Requests are served in
 * the order they came, so that a large one is not passed for ever by small ones. */
#include <weft.h>

#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>

enum { MEGABYTES = 10, REQUESTS = 200 };

static weft_sem_t room;
static atomic_int used, most, served;

static void request(void *arg)
{
    int size = (int)(intptr_t)arg;
    if (weft_sem_acquire(&room, size) != 0)
        return;
    int now = atomic_fetch_add(&used, size) + size;
    for (int seen = most; now > seen && !atomic_compare_exchange_weak(&most, &seen, now);)
        ;
    weft_sleep(100000);
    atomic_fetch_sub(&used, size);
    served++;
    weft_sem_release(&room, size);
}

static int entry(void *arg)
{
    weft_wg_t wg = {0};
    (void)arg;
    weft_sem_init(&room, MEGABYTES);
    for (int i = 0; i < REQUESTS; i++)
        if (weft_wg_go(&wg, request, (void *)(intptr_t)(1 + i % 7)) != 0)
            return 1;
    weft_wg_wait(&wg);
    printf("%d served, never more than %d at once: %s\n", served, MEGABYTES,
           most <= MEGABYTES ? "yes" : "no");
    return 0;
}

int main(void)
{
    return weft_run(entry, NULL);
}
