/* SPDX-License-Identifier: MIT
 *
 * stress_timer.c: start, stop and reset of shared timers from many coroutines and
 * foreign threads, beside sleepers, while processors come and go.
 *
 * The books must balance. Each arming of an idle timer (start or reset that found
 * it not pending) ends in exactly one of: a stop that says 1, a call of its
 * function. Whether start found it pending it does not say: timers that are
 * started have no balance of their own and are only kept from the others.
 * WEFT_STRESS_SECONDS long (2); WEFT_DEBUG=chaos=SEED makes it wilder. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/stack_test.h"
#include "tests/stress/stress.h"

enum { COROS = 30, THREADS = 2, SHARED = 8 };

static weft_timer_t counted[SHARED], wild[SHARED];
static _Atomic uint64_t armed, stopped, fired, slept, one_shots;
static weft_wg_t all;
static int64_t end;

static void fire(void *arg)
{
    atomic_fetch_add((_Atomic uint64_t *)arg, 1);
}

static void nothing(void *arg)
{
    (void)arg;
}

static void count_arm(weft_timer_t *t, int64_t when)
{
    int rc = weft_timer_reset(t, when);
    OK(rc == 0 || rc == 1);
    if (rc == 0)
        atomic_fetch_add(&armed, 1);
}

static void count_stop(weft_timer_t *t)
{
    int rc = weft_timer_stop(t);
    OK(rc == 0 || rc == 1);
    if (rc == 1)
        atomic_fetch_add(&stopped, 1);
}

/* A timer of our own, whose memory goes at once. */
static void own(uint32_t r)
{
    weft_timer_t *t = calloc(1, sizeof *t);
    _Atomic uint64_t *n = calloc(1, sizeof *n);
    OK(weft_timer_start(t, weft_now() + r % 100000, 0, fire, n) == 0);
    if (r % 3 == 0)
        weft_yield();
    if (weft_timer_stop(t) == 0) {
        memset((void *)t, 0xff, sizeof *t); /* fired: nobody looks at it any more */
        while (atomic_load(n) == 0)
            weft_yield();
    }
    OK(atomic_load(n) <= 1);
    free(t);
    free((void *)n);
    atomic_fetch_add(&one_shots, 1);
}

static void step(uint32_t *s)
{
    uint32_t r = next(s), kind = next(s) % 8;
    weft_timer_t *t = &counted[r % SHARED], *w = &wild[r % SHARED];
    int64_t when = weft_now() + (int64_t)(next(s) % 300000) - 50000;
    switch (kind) {
    case 0:
    case 1:
        count_arm(t, when);
        break;
    case 2:
        count_stop(t);
        break;
    case 3:
        OK(weft_timer_start(w, when, r % 2 ? 0 : 20000, nothing, NULL) == 0);
        break;
    case 4:
        OK(weft_timer_stop(w) >= 0);
        break;
    case 5:
        OK(weft_timer_reset(w, when) >= 0);
        break;
    default:
        own(r);
    }
}

static void worker(void *arg)
{
    uint32_t s = (uint32_t)(uintptr_t)arg * 77 + 1;
    while (weft_now() < end) {
        for (int i = 0; i < 10; i++)
            step(&s);
        int64_t when = weft_now() + next(&s) % 200000;
        OK(weft_sleep_until(when) == 0);
        OK(weft_now() >= when);
        atomic_fetch_add(&slept, 1);
    }
}

static void *thread(void *arg)
{
    uint32_t s = (uint32_t)(uintptr_t)arg * 99 + 5;
    while (weft_now() < end) {
        step(&s);
        weft_sleep(next(&s) % 20000);
    }
    weft_wg_done(&all);
    return NULL;
}

static int entry(void *arg)
{
    end = weft_now() + (int64_t)(*(double *)arg * 1e9);
    for (int i = 0; i < SHARED; i++) {
        OK(weft_timer_start(&counted[i], end, 0, fire, (void *)&fired) == 0);
        atomic_fetch_add(&armed, 1);
        OK(weft_timer_start(&wild[i], end, 0, nothing, NULL) == 0);
    }
    crowd_run(&(Crowd){&all, COROS, THREADS, worker, thread}, end);
    for (int i = 0; i < SHARED; i++) {
        count_stop(&counted[i]);
        weft_timer_stop(&wild[i]);
    }
    int64_t late = weft_now() + 10000000000;
    while (atomic_load(&armed) != atomic_load(&stopped) + atomic_load(&fired)) {
        OK(weft_now() < late);
        weft_sleep(1000000);
    }
    weft_stats_t st;
    OK(weft_stats(&st) == 0);
    OK(st.timers == 0);
    return 0;
}

int main(void)
{
    double seconds = stress_seconds();
    int rc = weft_run_with(&(weft_config_t){.stack = test_stack()}, entry, &seconds);
    printf("armed %llu = stopped %llu + fired %llu; slept %llu, own timers %llu\n",
           (unsigned long long)atomic_load(&armed), (unsigned long long)atomic_load(&stopped),
           (unsigned long long)atomic_load(&fired), (unsigned long long)atomic_load(&slept),
           (unsigned long long)atomic_load(&one_shots));
    return rc == 0 ? 0 : 1;
}
