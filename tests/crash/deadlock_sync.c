/* SPDX-License-Identifier: MIT
 *
 * Nobody signals, releases or unlocks: each wait has its name in the dump. */
#include <weft.h>

static weft_mutex_t mx;
static weft_cond_t cond;
static weft_sem_t sem;
static weft_rwmutex_t rw;

static void waits(void *arg)
{
    (void)arg;
    weft_mutex_lock(&mx);
    weft_cond_wait(&cond, &mx);
}

static void acquires(void *arg)
{
    (void)arg;
    weft_sem_acquire(&sem, 1);
}

static void writes(void *arg)
{
    (void)arg;
    weft_rwmutex_lock(&rw);
}

static int entry(void *arg)
{
    (void)arg;
    weft_go(waits, NULL);
    weft_go(acquires, NULL);
    weft_rwmutex_rlock(&rw);
    weft_go(writes, NULL);
    while (weft_rwmutex_tryrlock(&rw) == 0) { /* until the writer waits for us */
        weft_rwmutex_runlock(&rw);
        weft_yield();
    }
    weft_rwmutex_rlock(&rw);
    return 0;
}

int main(void)
{
    return weft_run(entry, NULL);
}
