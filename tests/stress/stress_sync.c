/* SPDX-License-Identifier: MIT
 *
 * stress_sync.c: readers-writer mutexes, condition variables and semaphores under everything at once:
 * coroutines and foreign threads, deadlines that come at about the same time as what is waited for,
 * processors that come and go. What they guard must be right, nobody may be left waiting, and
 * every object must be as new in the end.
 * WEFT_STRESS_SECONDS long (2); WEFT_DEBUG=chaos=SEED makes it wilder. */
#include <weft.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "tests/objects_test.h"
#include "tests/stack_test.h"
#include "tests/stress/stress.h"

enum { COROS = 30, THREADS = 2, CELLS = 3, UNITS = 5, ROOM = 4 };

typedef struct {
    weft_rwmutex_t rw;
    uint64_t a, b; /* equal while no writer is in it */
} Cell;

/* What is put in comes out. */
typedef struct {
    weft_mutex_t mx;
    weft_cond_t not_full, not_empty;
    uint64_t put, got;
} Store;

static Cell cells[CELLS];
static Store store;
static weft_sem_t sem;
static _Atomic long used;
static _Atomic uint64_t reads, writes, puts_done, gets_done, took, gave_up;
static weft_wg_t all;
static int64_t end;

/* Mostly none; else about as long as the others hold what is waited for. */
static int64_t some_deadline(uint32_t r)
{
    return r % 3 != 0 ? 0 : weft_now() + (int64_t)(r % 512) * 400;
}

static bool entered(int rc)
{
    OK(rc == 0 || rc == -ETIMEDOUT || rc == -EBUSY);
    if (rc != 0)
        atomic_fetch_add(&gave_up, 1);
    return rc == 0;
}

static void hold(uint32_t r, bool coro)
{
    if (coro && r % 7 == 0)
        weft_yield();
    if (coro && r % 97 == 0)
        weft_sleep(r % 100000);
}

static void use_cell(Cell *c, uint32_t r, bool coro)
{
    int64_t deadline = some_deadline(r / 8);
    if (r % 4 != 0) {
        if (!entered(r % 8 == 1 ? weft_rwmutex_tryrlock(&c->rw)
                                : weft_rwmutex_rlock_until(&c->rw, deadline)))
            return;
        uint64_t a = c->a;
        hold(r / 64, coro);
        OK(c->a == a && c->b == a);
        OK(weft_rwmutex_runlock(&c->rw) == 0);
        atomic_fetch_add(&reads, 1);
        return;
    }
    if (!entered(r % 32 == 4 ? weft_rwmutex_trylock(&c->rw)
                             : weft_rwmutex_lock_until(&c->rw, deadline)))
        return;
    OK(c->a == c->b);
    c->a++;
    hold(r / 64, coro);
    c->b++;
    OK(weft_rwmutex_unlock(&c->rw) == 0);
    atomic_fetch_add(&writes, 1);
}

static void put(uint32_t r)
{
    int64_t deadline = some_deadline(r);
    int rc = 0;
    OK(weft_mutex_lock(&store.mx) == 0);
    while (store.put - store.got == ROOM && rc == 0)
        rc = weft_cond_wait_until(&store.not_full, &store.mx, deadline);
    if (store.put - store.got < ROOM) {
        store.put++;
        OK((r % 16 == 0 ? weft_cond_broadcast(&store.not_empty)
                        : weft_cond_signal(&store.not_empty)) == 0);
        atomic_fetch_add(&puts_done, 1);
    } else {
        (void)entered(rc);
    }
    OK(weft_mutex_unlock(&store.mx) == 0);
}

static void get(uint32_t r)
{
    int64_t deadline = weft_now() + (int64_t)(r % 512) * 400; /* nobody may be left at the end */
    int rc = 0;
    OK(weft_mutex_lock(&store.mx) == 0);
    while (store.put == store.got && rc == 0)
        rc = weft_cond_wait_until(&store.not_empty, &store.mx, deadline);
    if (store.put != store.got) {
        store.got++;
        OK(weft_cond_signal(&store.not_full) == 0);
        atomic_fetch_add(&gets_done, 1);
    } else {
        (void)entered(rc);
    }
    OK(weft_mutex_unlock(&store.mx) == 0);
}

static void use_sem(uint32_t r, bool coro)
{
    long n = 1 + (long)(r % UNITS);
    r /= UNITS;
    if (!entered(r % 8 == 0 ? weft_sem_try_acquire(&sem, n)
                            : weft_sem_acquire_until(&sem, n, some_deadline(r / 8))))
        return;
    OK(atomic_fetch_add(&used, n) + n <= UNITS);
    hold(r / 64, coro);
    atomic_fetch_sub(&used, n);
    OK(weft_sem_release(&sem, n) == 0);
    atomic_fetch_add(&took, 1);
}

static void step(uint32_t *s, bool coro)
{
    uint32_t kind = next(s) % 4, r = next(s);
    if (kind < 2)
        use_cell(&cells[kind == 0 ? 0 : r % CELLS], r / CELLS, coro);
    else if (kind == 2)
        use_sem(r, coro);
    else
        get(r);
}

/* Each puts as often as it gets or more, so that who waits for room is let go by those that get; who puts
 * when all others have gone has a deadline. */
static void worker(void *arg)
{
    uint32_t s = (uint32_t)(uintptr_t)arg * 77 + 1;
    while (weft_now() < end) {
        for (int i = 0; i < 20; i++)
            step(&s, true);
        put(next(&s) / 3 * 3);
        weft_yield();
    }
}

static void *thread(void *arg)
{
    uint32_t s = (uint32_t)(uintptr_t)arg * 99 + 5;
    while (weft_now() < end) {
        step(&s, false);
        put(next(&s) / 3 * 3);
    }
    weft_wg_done(&all);
    return NULL;
}

static int entry(void *arg)
{
    end = weft_now() + (int64_t)(*(double *)arg * 1e9);
    OK(weft_sem_init(&sem, UNITS) == 0);
    crowd_run(&(Crowd){&all, COROS, THREADS, worker, thread}, end);
    uint64_t written = 0;
    for (int i = 0; i < CELLS; i++) {
        OK(rwmutex_unused(&cells[i].rw));
        OK(cells[i].a == cells[i].b);
        written += cells[i].a;
    }
    OK(written == atomic_load(&writes));
    OK(store.put == atomic_load(&puts_done) && store.got == atomic_load(&gets_done));
    weft_cond_t none = {{0}};
    OK(memcmp(&store.not_full, &none, sizeof none) == 0);
    OK(memcmp(&store.not_empty, &none, sizeof none) == 0);
    OK(weft_sem_try_acquire(&sem, UNITS) == 0 && weft_sem_try_acquire(&sem, 1) == -EBUSY);
    return 0;
}

int main(void)
{
    double seconds = stress_seconds();
    weft_config_t cfg = {.stack = test_stack()};
    int rc = weft_run_with(&cfg, entry, &seconds);
    printf("read %llu, written %llu, put %llu, got %llu, took %llu, gave up %llu\n",
           (unsigned long long)reads, (unsigned long long)writes, (unsigned long long)puts_done,
           (unsigned long long)gets_done, (unsigned long long)took, (unsigned long long)gave_up);
    return rc == 0 ? 0 : 1;
}
