/* SPDX-License-Identifier: MIT
 *
 * stress_cancel.c: coroutines that wait in every way, woken, timed out and cancelled at about the same time; by
 * coroutines and by threads that are not weft's; and joined by several while they end. What a channel was given
 * must come out of it, what a mutex guards must be right, and whoever was cancelled ends.
 * WEFT_STRESS_SECONDS long (2); WEFT_DEBUG=chaos=SEED makes it wilder. */
#include <weft.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/objects_test.h"
#include "tests/stack_test.h"
#include "tests/stress/stress.h"

enum { SLOTS = 24, CHANS = 3, KILLERS = 3, THREADS = 2 };

static weft_chan_t *chans[CHANS];
static weft_mutex_t mx;
static weft_rwmutex_t rw;
static weft_cond_t cond;
static weft_sem_t sem;
static uint64_t guarded, guarded_too;
static int fds[2];
static weft_wg_t all;
static int64_t end;
static _Atomic uint64_t sent, received, byte_in, byte_out, cancelled, ended, joined;
static _Atomic weft_id_t ids[SLOTS]; /* of those that live, or lived a moment ago */

typedef struct {
    uint64_t value, twice, thrice; /* more than a Wait has room for */
} Item;

static bool fine(int rc)
{
    OK(rc >= 0 || rc == -ECANCELED || rc == -ETIMEDOUT || rc == -EAGAIN);
    return rc >= 0;
}

static int64_t some_deadline(uint32_t r)
{
    return r % 4 != 0 ? 0 : weft_now() + (int64_t)(r % 512) * 300;
}

static void took(const Item *it)
{
    OK(it->twice == 2 * it->value && it->thrice == 3 * it->value);
    atomic_fetch_add(&received, it->value);
}

static int use_chan(uint32_t r)
{
    weft_chan_t *c = chans[r % CHANS];
    r /= CHANS;
    Item it = {r, 2 * (uint64_t)r, 3 * (uint64_t)r};
    int rc;
    if (r % 2 == 0) {
        rc = weft_send_until(c, &it, some_deadline(r / 2));
        if (fine(rc))
            atomic_fetch_add(&sent, r);
    } else {
        rc = weft_recv_until(c, &it, some_deadline(r / 2));
        if (fine(rc) && rc == 1)
            took(&it);
    }
    return rc;
}

static int use_select(uint32_t r)
{
    Item in = {0, 0, 0}, out = {r, 2 * (uint64_t)r, 3 * (uint64_t)r};
    weft_case_t k[] = {{.op = WEFT_RECV, .chan = chans[r % CHANS], .elem = &in},
                       {.op = WEFT_SEND, .chan = chans[r / CHANS % CHANS], .elem = &out}};
    int rc = weft_select(k, 2, some_deadline(r / 16));
    if (fine(rc) && rc == 0)
        took(&in);
    else if (rc == 1)
        atomic_fetch_add(&sent, r);
    return rc;
}

static int use_mutex(uint32_t r)
{
    int rc = weft_mutex_lock_until(&mx, some_deadline(r));
    if (!fine(rc))
        return rc;
    if (r % 8 == 0)
        rc = weft_cond_wait_until(&cond, &mx, weft_now() + (int64_t)(r % 512) * 300);
    guarded++;
    if (r % 5 == 0)
        weft_yield();
    guarded_too++;
    OK(guarded == guarded_too);
    OK(weft_cond_signal(&cond) == 0);
    OK(weft_mutex_unlock(&mx) == 0);
    return rc;
}

static int use_rw(uint32_t r)
{
    bool write = r % 4 == 0;
    int64_t deadline = some_deadline(r / 4);
    int rc =
        write ? weft_rwmutex_lock_until(&rw, deadline) : weft_rwmutex_rlock_until(&rw, deadline);
    if (!fine(rc))
        return rc;
    if (r % 7 == 0)
        weft_yield();
    OK((write ? weft_rwmutex_unlock(&rw) : weft_rwmutex_runlock(&rw)) == 0);
    return rc;
}

static int use_sem(uint32_t r)
{
    int64_t n = 1 + r % 3;
    int rc = weft_sem_acquire_until(&sem, n, some_deadline(r / 4));
    if (!fine(rc))
        return rc;
    weft_yield();
    OK(weft_sem_release(&sem, n) == 0);
    return rc;
}

static int use_pipe(uint32_t r)
{
    char c = 'x';
    ssize_t n = r % 2 == 0 ? weft_write(fds[1], &c, 1) : weft_read(fds[0], &c, 1);
    if (fine((int)n))
        atomic_fetch_add(r % 2 == 0 ? &byte_in : &byte_out, 1);
    return (int)n;
}

static int use_time(uint32_t r)
{
    return weft_sleep(r % 512 * 200);
}

static int use_join(uint32_t r)
{
    int rc = weft_join(ids[r % SLOTS], some_deadline(r));
    return rc == -EDEADLK || rc == -ESRCH ? 0 : rc;
}

static int (*const uses[])(uint32_t) = {use_chan, use_select, use_mutex, use_rw,
                                        use_sem,  use_pipe,   use_time,  use_join};
enum { USES = sizeof uses / sizeof uses[0] };

/* Goes on until it is cancelled, or for long enough. */
static void worker(void *arg)
{
    uint32_t s = (uint32_t)(uintptr_t)arg;
    bool over = false;
    if (next(&s) % 4 == 0) {
        OK(weft_cancel_mask(1) == 0);
        OK(weft_sleep(next(&s) % 100000) == 0);
        OK(weft_cancel_mask(0) == 1);
    }
    for (int i = 0; i < 60 && !over; i++) {
        uint32_t kind = next(&s) % USES;
        over = uses[kind](next(&s)) == -ECANCELED;
    }
    atomic_fetch_add(over ? &cancelled : &ended, 1);
    if (next(&s) % 4 == 0)
        weft_exit();
}

/* One after the other, in one place of the list. */
static void keeper(void *arg)
{
    uint32_t i = (uint32_t)(uintptr_t)arg, s = i * 131 + 7;
    while (weft_now() < end) {
        weft_id_t id;
        weft_attr_t attr = {.id = &id};
        OK(weft_go_with(&attr, worker, (void *)(uintptr_t)next(&s)) == 0);
        ids[i] = id;
        OK(weft_join(id, 0) == 0);
        OK(weft_cancel(id) == -ESRCH);
        atomic_fetch_add(&joined, 1);
    }
}

static void kill_some(uint32_t *s)
{
    int rc = weft_cancel(ids[next(s) % SLOTS]);
    OK(rc == 0 || rc == -ESRCH);
}

static _Atomic bool stop_killers;

/* Until all keepers have gone: what waits must be cancelled. */
static void killer(void *arg)
{
    uint32_t s = (uint32_t)(uintptr_t)arg * 17 + 3;
    _Atomic bool *stop = arg;
    while (!*stop) {
        kill_some(&s);
        weft_sleep(next(&s) % 64 * 5000);
    }
    weft_wg_done(&all);
}

static void *thread(void *arg)
{
    uint32_t s = (uint32_t)(uintptr_t)arg * 99 + 5;
    while (weft_now() < end) {
        kill_some(&s);
        if (next(&s) % 8 == 0)
            OK(weft_join(ids[next(&s) % SLOTS], weft_now() + 100000) != -ECANCELED);
        usleep(next(&s) % 512);
    }
    return NULL;
}

static void drain(void)
{
    Item it;
    for (int i = 0; i < CHANS; i++)
        while (weft_try_recv(chans[i], &it) == 1)
            took(&it);
    OK(atomic_load(&sent) == atomic_load(&received));
    OK(weft_close(fds[1]) == 0);
    for (char c; weft_read(fds[0], &c, 1) == 1;)
        atomic_fetch_add(&byte_out, 1);
    OK(atomic_load(&byte_in) == atomic_load(&byte_out));
}

static int entry(void *arg)
{
    pthread_t th[THREADS];
    weft_wg_t keepers = {{0}};
    end = weft_now() + (int64_t)(*(double *)arg * 1e9);
    for (size_t i = 0; i < CHANS; i++)
        OK((chans[i] = weft_chan_make(sizeof(Item), 2 * i)) != NULL);
    OK(pipe(fds) == 0);
    OK(weft_sem_init(&sem, 4) == 0);
    for (uintptr_t i = 0; i < SLOTS; i++)
        OK(weft_wg_go(&keepers, keeper, (void *)i) == 0);
    OK(weft_wg_add(&all, KILLERS) == 0);
    for (int i = 0; i < KILLERS; i++)
        OK(weft_go(killer, &stop_killers) == 0);
    weft_sleep(20000000); /* a while without threads */
    for (uintptr_t i = 0; i < THREADS; i++)
        OK(pthread_create(&th[i], NULL, thread, (void *)i) == 0);
    churn(end);
    OK(weft_wg_wait(&keepers) == 0);
    stop_killers = true;
    OK(weft_wg_wait(&all) == 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(th[i], NULL);
    drain();
    OK(rwmutex_unused(&rw));
    weft_cond_t none = {{0}};
    OK(memcmp(&cond, &none, sizeof none) == 0);
    OK(weft_mutex_trylock(&mx) == 0);
    OK(weft_sem_try_acquire(&sem, 4) == 0 && weft_sem_try_acquire(&sem, 1) == -EBUSY);
    for (int64_t most = weft_now() + INT64_C(20000000000); weft_num_coroutines() > 1;) {
        OK(weft_now() < most);
        weft_yield();
    }
    return 0;
}

int main(void)
{
    double seconds = stress_seconds();
    weft_config_t cfg = {.stack = test_stack()};
    int rc = weft_run_with(&cfg, entry, &seconds);
    printf("cancelled %llu, ended %llu, joined %llu\n", (unsigned long long)cancelled,
           (unsigned long long)ended, (unsigned long long)joined);
    return rc == 0 && cancelled > 0 ? 0 : 1;
}
