/* SPDX-License-Identifier: MIT
 *
 * stress_procs.c: everything goes on while the number of processors jumps
 * between 1 and 4, changed by main, by any coroutine and by foreign threads.
 *
 * A processor that goes away must leave nothing behind: what was queued on it
 * runs (families, pairs), its timers fire (one-shots, the ticker, sleepers, and
 * these not early), and no waker counts on it. Threads come and go as well: coroutines
 * end while they are locked to theirs (hermits). All books must balance at the
 * end; what is lost makes the program hang, and its caller has a time limit.
 * Half of the runs have no foreign thread, so that a lost wake-up, or idle
 * processors that were miscounted, end in the deadlock report.
 * WEFT_STRESS_SECONDS long (2); WEFT_DEBUG=chaos=SEED makes it wilder. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/stack_test.h"
#include "tests/stress/stress.h"

enum { PROCS = 4, FAMILIES = 6, PAIRS = 4, SLEEPERS = 10, SHOTS = 6, HERMITS = 3, THREADS = 2 };

static const int64_t MS = 1000000;

static _Atomic uint64_t spawned, ended, sent, received, armed, fired, sleeps, ticks, changes,
    hermits;
static int64_t end;
static weft_wg_t all;

static void change(uint32_t r)
{
    int old = weft_procs(1 + (int)(r % PROCS));
    OK(old >= 1 && old <= PROCS);
    atomic_fetch_add(&changes, 1);
}

/* ---- families: spawn, wait, now and then more than a queue holds ---- */

static void child(void *arg)
{
    uint32_t r = (uint32_t)(uintptr_t)arg;
    if (r % 3 == 0)
        weft_yield();
    if (r % 101 == 0)
        change(r / 101);
    atomic_fetch_add(&ended, 1);
}

static void family(void *arg)
{
    uint32_t s = (uint32_t)(uintptr_t)arg * 31 + 1;
    while (weft_now() < end) {
        weft_wg_t wg = {0};
        uint32_t n = next(&s) % 50 == 0 ? 400 : 1 + next(&s) % 20;
        for (uint32_t i = 0; i < n; i++)
            OK(weft_wg_go(&wg, child, (void *)(uintptr_t)next(&s)) == 0);
        atomic_fetch_add(&spawned, n);
        OK(weft_wg_wait(&wg) == 0);
    }
}

/* ---- hermits: each takes its thread with it, with what is queued on its processor ---- */

static void hermit(void *arg)
{
    uint32_t r = (uint32_t)(uintptr_t)arg;
    weft_thread_lock();
    int tid = gettid();
    if (r % 3 == 0)
        weft_yield();
    if (r % 5 == 0)
        weft_sleep(r % MS);
    OK(gettid() == tid);
    if (r % 7 == 0)
        OK(weft_wg_go(&all, child, (void *)(uintptr_t)(r | 1)) == 0);
    if (r % 7 == 0)
        atomic_fetch_add(&spawned, 1);
    if (r % 4 == 0)
        weft_exit();
}

static void monastery(void *arg)
{
    uint32_t s = (uint32_t)(uintptr_t)arg * 43 + 9;
    while (weft_now() < end) {
        weft_wg_t wg = {0};
        uint32_t n = 1 + next(&s) % 5;
        for (uint32_t i = 0; i < n; i++)
            OK(weft_wg_go(&wg, hermit, (void *)(uintptr_t)next(&s)) == 0);
        atomic_fetch_add(&hermits, n);
        OK(weft_wg_wait(&wg) == 0);
    }
}

/* ---- pairs over a channel ---- */

static void sender(void *arg)
{
    weft_chan_t *c = arg;
    for (uint64_t i = 0; i % 64 != 0 || weft_now() < end; i++) {
        OK(weft_send(c, &i) == 0);
        atomic_fetch_add(&sent, 1);
    }
    weft_chan_close(c);
    weft_chan_unref(c);
}

static void receiver(void *arg)
{
    weft_chan_t *c = arg;
    uint64_t v, want = 0;
    for (; weft_recv(c, &v) == 1; want++) {
        OK(v == want);
        atomic_fetch_add(&received, 1);
        if (v % 1000 == 0)
            change((uint32_t)(v / 1000));
    }
    weft_chan_unref(c);
}

/* ---- time ---- */

static void sleeper(void *arg)
{
    uint32_t s = (uint32_t)(uintptr_t)arg * 77 + 5;
    while (weft_now() < end) {
        int64_t until = weft_now() + next(&s) % (2 * MS);
        OK(weft_sleep_until(until) == 0);
        OK(weft_now() >= until);
        atomic_fetch_add(&sleeps, 1);
    }
}

static void shot(void *arg)
{
    atomic_fetch_add(&fired, 1);
    OK(weft_send(arg, NULL) == 0);
}

/* Timers that wait in some processor's heap when that goes away. */
static void shooter(void *arg)
{
    uint32_t s = (uint32_t)(uintptr_t)arg * 55 + 3;
    weft_chan_t *c = weft_chan_make(0, 0);
    weft_timer_t t[8] = {0};
    while (weft_now() < end) {
        int live = 0;
        for (int i = 0; i < 8; i++) {
            OK(weft_timer_start(&t[i], weft_now() + next(&s) % (3 * MS), 0, shot, c) == 0);
            atomic_fetch_add(&armed, 1);
        }
        for (int i = 0; i < 8; i++)
            if (next(&s) % 4 == 0 && weft_timer_stop(&t[i]) == 1)
                atomic_fetch_sub(&armed, 1);
            else
                live++;
        while (live-- > 0)
            OK(weft_recv(c, NULL) == 1);
    }
    weft_chan_unref(c);
}

static void tick(void *arg)
{
    (void)arg;
    atomic_fetch_add(&ticks, 1);
}

/* ---- threads that are not weft's ---- */

static void errand(void *arg)
{
    OK(weft_send(arg, NULL) == 0);
}

static void *thread(void *arg)
{
    uint32_t s = (uint32_t)(uintptr_t)arg * 99 + 7;
    weft_chan_t *c = weft_chan_make(0, 0);
    while (weft_now() < end) {
        OK(weft_go(errand, c) == 0);
        OK(weft_recv(c, NULL) == 1);
        if (next(&s) % 16 == 0)
            change(next(&s));
        if (next(&s) % 4 == 0)
            weft_sleep(next(&s) % MS);
    }
    weft_chan_unref(c);
    weft_wg_done(&all);
    return NULL;
}

/* ---- one run ---- */

typedef struct {
    int64_t ns;
    int threads;
} Plan;

static int entry(void *arg)
{
    const Plan *plan = arg;
    pthread_t th[THREADS];
    weft_timer_t ticker = {0};
    uint32_t s = (uint32_t)weft_now();
    end = weft_now() + plan->ns;
    for (uintptr_t i = 0; i < FAMILIES; i++)
        OK(weft_wg_go(&all, family, (void *)i) == 0);
    for (int i = 0; i < PAIRS; i++) {
        weft_chan_t *c = weft_chan_make(sizeof(uint64_t), i % 2 == 0 ? 0 : 3);
        OK(weft_wg_go(&all, receiver, weft_chan_ref(c)) == 0);
        OK(weft_wg_go(&all, sender, c) == 0);
    }
    for (uintptr_t i = 0; i < SLEEPERS; i++)
        OK(weft_wg_go(&all, sleeper, (void *)i) == 0);
    for (uintptr_t i = 0; i < SHOTS; i++)
        OK(weft_wg_go(&all, shooter, (void *)i) == 0);
    for (uintptr_t i = 0; i < HERMITS; i++)
        OK(weft_wg_go(&all, monastery, (void *)i) == 0);
    OK(weft_timer_start(&ticker, weft_now(), MS, tick, NULL) == 0);
    OK(weft_wg_add(&all, plan->threads) == 0);
    for (int i = 0; i < plan->threads; i++)
        OK(pthread_create(&th[i], NULL, thread, (void *)(uintptr_t)i) == 0);

    while (weft_now() < end) {
        change(next(&s));
        if (next(&s) % 8 == 0)
            weft_yield();
        else
            weft_sleep(next(&s) % (3 * MS));
    }
    OK(weft_wg_wait(&all) == 0);
    OK(weft_timer_stop(&ticker) == 1);
    for (int i = 0; i < plan->threads; i++)
        pthread_join(th[i], NULL);
    return 0;
}

int main(void)
{
    private_only("shooter() has its timer in its frame");
    double seconds = stress_seconds();
    Plan plan = {.ns = (int64_t)(seconds * 1e9 / 4)};
    for (int i = 0; i < 4; i++) {
        weft_config_t cfg = {.stack = test_stack(), .procs = 1 + i};
        plan.threads = i % 2 == 0 ? 0 : THREADS;
        uint64_t before = atomic_load(&ticks);
        OK(weft_run_with(&cfg, entry, &plan) == 0);
        OK(atomic_load(&ticks) > before);
    }
    printf("children %llu, messages %llu, timers %llu, sleeps %llu, ticks %llu, changes %llu, "
           "hermits %llu\n",
           (unsigned long long)spawned, (unsigned long long)sent, (unsigned long long)fired,
           (unsigned long long)sleeps, (unsigned long long)ticks, (unsigned long long)changes,
           (unsigned long long)hermits);
    OK(spawned == ended);
    OK(sent == received);
    OK(armed == fired);
    return 0;
}
