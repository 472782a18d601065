/* SPDX-License-Identifier: MIT
 *
 * stress_after.c: after-channels that are dropped, received from and passed on at about the time when they
 * fire; stop_wait against firing, stop and restart. Coroutines and foreign threads, while processors
 * come and go.
 *
 * A time never comes early, and to one receiver. No timer is left in the end. Whoever has stopped
 * a timer with stop_wait, and kept others from starting it, finds no call of it, and may free what its calls
 * use: the address sanitizer looks at that.
 * WEFT_STRESS_SECONDS long (2); WEFT_DEBUG=chaos=SEED makes it wilder. */
#include <weft.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/stack_test.h"
#include "tests/stress/stress.h"

enum { COROS = 30, THREADS = 2, SHARED = 4 };

/* Started, stopped and looked at under mx; wild ones by anybody at any time. */
typedef struct {
    weft_mutex_t mx;
    weft_timer_t t;
    _Atomic int calls; /* in flight */
} Shared;

static Shared kept[SHARED], wild[SHARED];
static _Atomic uint64_t afters, received, dropped, waited, gave_up, freed;
static weft_wg_t all;
static int64_t end;
static atomic_bool over; /* wild calls start nothing any more */

static void pause_some(uint32_t r)
{
    if (r % 4 == 0)
        weft_yield();
    else if (r % 16 == 1)
        weft_sleep(r % 100000);
}

/* ---- channels ---- */

typedef struct {
    weft_chan_t *c;
    int64_t due;
    uint32_t seed;
} Passed;

static void got(int64_t at, int64_t due)
{
    OK(at >= due && at <= weft_now());
    atomic_fetch_add(&received, 1);
}

/* Wait for it in one of many ways, perhaps for less long than it takes, and drop a reference. */
static void use_after(weft_chan_t *c, int64_t due, uint32_t r)
{
    int64_t at, until = weft_now() + r % 200000;
    weft_case_t k = {.op = WEFT_RECV, .chan = c, .elem = &at};
    int rc = -EAGAIN;
    switch (r % 5) {
    case 0:
        pause_some(r / 8);
        break;
    case 1:
        pause_some(r / 8);
        rc = weft_try_recv(c, &at);
        break;
    case 2:
        rc = weft_recv_until(c, &at, until);
        break;
    case 3:
        rc = weft_select(&k, 1, until) == 0 ? 1 : -ETIMEDOUT;
        break;
    default:
        weft_sleep(due - weft_now());
        rc = weft_try_recv(c, &at);
    }
    OK(rc == 1 || rc == -EAGAIN || rc == -ETIMEDOUT);
    if (rc == 1)
        got(at, due);
    else
        atomic_fetch_add(&dropped, 1);
    weft_chan_unref(c);
}

static void passed_on(void *arg)
{
    Passed p = *(Passed *)arg;
    free(arg);
    use_after(p.c, p.due, p.seed);
}

static void after(uint32_t *s)
{
    int64_t ns = next(s) % 200000, due = weft_now() + ns;
    weft_chan_t *c = weft_after(ns);
    OK(c != NULL);
    atomic_fetch_add(&afters, 1);
    uint32_t r = next(s);
    if (r % 3 == 0) { /* two users, each with a reference */
        Passed *p = malloc(sizeof *p);
        *p = (Passed){weft_chan_ref(c), due, next(s)};
        OK(weft_wg_go(&all, passed_on, p) == 0);
    } else if (r % 16 == 1) {
        int64_t at;
        OK(weft_recv(c, &at) == 1);
        got(at, due);
    }
    use_after(c, due, r / 16);
}

/* ---- stop_wait ---- */

static void call(void *arg)
{
    Shared *x = arg;
    atomic_fetch_add(&x->calls, 1);
    pause_some((uint32_t)weft_now() / 16);
    atomic_fetch_sub(&x->calls, 1);
}

static void call_wild(void *arg)
{
    Shared *x = arg;
    uint32_t r = (uint32_t)weft_now() / 16;
    pause_some(r);
    if (r % 8 == 0 && !atomic_load(&over))
        OK(weft_timer_reset(&x->t, weft_now() + r % 50000) >= 0);
    else if (r % 8 == 1)
        OK(weft_timer_stop_wait(&x->t) == -EDEADLK);
}

static void use_kept(Shared *x, uint32_t r)
{
    int64_t when = weft_now() + (int64_t)(r % 1024) * 50 - 10000;
    OK(weft_mutex_lock(&x->mx) == 0);
    switch (r / 1024 % 4) {
    case 0:
        OK(weft_timer_start(&x->t, when, r % 2 ? 0 : 20000, call, x) == 0);
        break;
    case 1:
        OK(weft_timer_reset(&x->t, when) >= 0);
        break;
    case 2: {
        int rc = weft_timer_stop_wait_until(&x->t, weft_now() + r % 100000);
        OK(rc == -ETIMEDOUT || ((rc == 0 || rc == 1) && atomic_load(&x->calls) == 0));
        atomic_fetch_add(rc < 0 ? &gave_up : &waited, 1);
        break;
    }
    default:
        OK(weft_timer_stop_wait(&x->t) >= 0);
        OK(atomic_load(&x->calls) == 0);
        atomic_fetch_add(&waited, 1);
    }
    OK(weft_mutex_unlock(&x->mx) == 0);
}

static void use_wild(Shared *x, uint32_t r)
{
    if (r % 4 == 0)
        OK(weft_timer_start(&x->t, weft_now() + r % 100000, r % 8 ? 0 : 30000, call_wild, x) == 0);
    else if (r % 4 == 1)
        OK(weft_timer_stop(&x->t) >= 0);
    else
        OK(weft_timer_stop_wait(&x->t) >= 0); /* however often the others start it */
}

/* What a call uses goes as soon as it has ended; or it frees its timer itself. */
static void call_and_free(void *arg)
{
    free(arg);
    atomic_fetch_add(&freed, 1);
}

static void own(uint32_t r)
{
    Shared *x = calloc(1, sizeof *x);
    if (r % 4 == 0) {
        OK(weft_timer_start(&x->t, weft_now() + r % 50000, 0, call_and_free, x) == 0);
        return;
    }
    OK(weft_timer_start(&x->t, weft_now() + r % 50000, r % 8 == 1 ? 10000 : 0, call, x) == 0);
    pause_some(r / 16);
    OK(weft_timer_stop_wait(&x->t) >= 0);
    OK(atomic_load(&x->calls) == 0);
    memset((void *)x, 0xff, sizeof *x);
    free(x);
}

static void step(uint32_t *s)
{
    uint32_t kind = next(s) % 5, r = next(s);
    if (kind < 2)
        after(s);
    else if (kind == 2)
        use_kept(&kept[r % SHARED], r / SHARED);
    else if (kind == 3)
        use_wild(&wild[r % SHARED], r / SHARED);
    else
        own(r);
}

static void worker(void *arg)
{
    uint32_t s = (uint32_t)(uintptr_t)arg * 77 + 1;
    while (weft_now() < end) {
        for (int i = 0; i < 10; i++)
            step(&s);
        weft_yield();
    }
}

static void *thread(void *arg)
{
    uint32_t s = (uint32_t)(uintptr_t)arg * 99 + 5;
    while (weft_now() < end)
        step(&s);
    weft_wg_done(&all);
    return NULL;
}

static void settle(void)
{
    for (int i = 0; i < SHARED; i++) {
        OK(weft_timer_stop_wait(&kept[i].t) >= 0);
        OK(atomic_load(&kept[i].calls) == 0);
        OK(weft_timer_stop_wait(&wild[i].t) >= 0); /* one of its calls may have armed it still */
        OK(weft_timer_stop_wait(&wild[i].t) >= 0);
        OK(weft_timer_stop_wait(&wild[i].t) == 0);
    }
    weft_stats_t st;
    for (int64_t late = weft_now() + 10000000000;; weft_yield()) { /* those that free themselves */
        OK(weft_stats(&st) == 0);
        if (st.timers == 0)
            return;
        OK(weft_now() < late);
    }
}

static int entry(void *arg)
{
    end = weft_now() + (int64_t)(*(double *)arg * 1e9);
    for (int i = 0; i < SHARED; i++) {
        OK(weft_timer_start(&kept[i].t, end, 0, call, &kept[i]) == 0);
        OK(weft_timer_start(&wild[i].t, end, 0, call_wild, &wild[i]) == 0);
    }
    crowd_run(&(Crowd){&all, COROS, THREADS, worker, thread}, end);
    atomic_store(&over, true);
    settle();
    OK(atomic_load(&received) <= atomic_load(&afters));
    return 0;
}

/* ---- runs that end meanwhile ---- */

enum { HELD = 16, ROUNDS = 100 };

static weft_timer_t endless;
static atomic_bool enough;

static void never_ends(void *arg)
{
    weft_recv(arg, NULL); /* of no channel */
}

/* Holds channels of several runs, in and between runs. */
static void *holder(void *arg)
{
    uint32_t s = (uint32_t)(uintptr_t)arg;
    weft_chan_t *held[HELD] = {NULL};
    while (!atomic_load(&enough)) {
        weft_chan_t **c = &held[next(&s) % HELD];
        uint32_t r = next(&s);
        weft_chan_unref(*c);
        *c = weft_after(r % 4 == 0 ? r % 100000 : 3600000000000);
        if (*c == NULL)
            weft_sleep(r % 1000000); /* between two runs; the others stay meanwhile */
        if (r % 8 == 1) {
            int rc = weft_recv_until(*c, NULL, weft_now() + r % 100000);
            OK(*c == NULL || rc == 1 || rc < 0);
        } else if (r % 8 == 2) {
            int rc = weft_timer_stop_wait_until(&endless, weft_now() + r % 500000);
            OK(rc == 0 || rc == 1 || rc == -ETIMEDOUT || rc == -ECANCELED || rc == -EPERM);
        }
    }
    for (int i = 0; i < HELD; i++)
        weft_chan_unref(held[i]);
    return NULL;
}

static int short_run(void *arg)
{
    weft_chan_t *c[HELD];
    for (int i = 0; i < HELD; i++)
        c[i] = weft_after(i % 4 == 0 ? i * 10000 : 3600000000000);
    OK(weft_timer_start(&endless, 0, 50000, never_ends, NULL) == 0);
    weft_sleep(next(arg) % 1000000);
    for (int i = 0; i < HELD; i++)
        weft_chan_unref(c[i]);
    return 0;
}

static void ends(void)
{
    uint32_t s = 7;
    pthread_t th[THREADS];
    for (int i = 0; i < THREADS; i++)
        OK(pthread_create(&th[i], NULL, holder, (void *)(uintptr_t)(i + 1)) == 0);
    weft_config_t cfg = {.procs = 2, .stack = test_stack()};
    for (int i = 0; i < ROUNDS && weft_now() < end + 10000000000; i++)
        OK(weft_run_with(&cfg, short_run, &s) == 0);
    atomic_store(&enough, true);
    for (int i = 0; i < THREADS; i++)
        pthread_join(th[i], NULL);
}

int main(void)
{
    double seconds = stress_seconds();
    weft_config_t cfg = {.stack = test_stack()};
    int rc = weft_run_with(&cfg, entry, &seconds);
    ends();
    printf("afters %llu, received %llu, dropped %llu; waited %llu, gave up %llu, freed %llu\n",
           (unsigned long long)afters, (unsigned long long)received, (unsigned long long)dropped,
           (unsigned long long)waited, (unsigned long long)gave_up, (unsigned long long)freed);
    return rc == 0 ? 0 : 1;
}
