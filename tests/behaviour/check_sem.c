/* SPDX-License-Identifier: MIT
 *
 * check_sem.c: the weighted semaphore behaves as golang.org/x/sync/semaphore does.
 *
 * A test's body runs as the main coroutine on 1, 2 and 4 processors. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "behaviour.h"

static weft_sem_t sem;
static weft_wg_t wg;
static atomic_int count, order;
static atomic_long used;

static void reset(void)
{
    memset(&sem, 0, sizeof sem);
    memset(&wg, 0, sizeof wg);
    count = order = 0;
    used = 0;
}

/* ---- units ------------------------------------------------------------------------------- */

/* {0} holds nothing, release gives. */
static void table_body(void)
{
    OK(weft_sem_try_acquire(&sem, 1) == -EBUSY);
    OK(weft_sem_try_acquire(&sem, 0) == 0);
    OK(weft_sem_acquire(&sem, 0) == 0);
    OK(weft_sem_release(&sem, 3) == 0);
    OK(weft_sem_try_acquire(&sem, 4) == -EBUSY);
    OK(weft_sem_try_acquire(&sem, 2) == 0);
    OK(weft_sem_try_acquire(&sem, 2) == -EBUSY);
    OK(weft_sem_acquire(&sem, 1) == 0);
    OK(weft_sem_release(&sem, 0) == 0);
    OK(weft_sem_init(&sem, 5) == 0);
    OK(weft_sem_acquire(&sem, 5) == 0);
}

static void bad_body(void)
{
    OK(weft_sem_init(&sem, -1) == -EINVAL);
    OK(weft_sem_acquire(&sem, -1) == -EINVAL);
    OK(weft_sem_try_acquire(&sem, INT64_MIN) == -EINVAL);
    OK(weft_sem_release(&sem, -1) == -EINVAL);
    OK(weft_sem_init(&sem, INT64_MAX) == 0);
    OK(weft_sem_release(&sem, 1) == -EOVERFLOW);
    OK(weft_sem_acquire(&sem, INT64_MAX) == 0);
    OK(weft_sem_release(&sem, INT64_MAX) == 0);
    OK(weft_sem_release(&sem, INT64_MAX) == -EOVERFLOW);
}

/* Go: TestWeighted, HammerWeighted; TestSemaphore. Never more than there are. */
enum { UNITS = 7 };

static void hammer(void *arg)
{
    long n = (long)(intptr_t)arg;
    for (int i = 0; i < 1000; i++) {
        OK(weft_sem_acquire(&sem, n) == 0);
        OK(atomic_fetch_add(&used, n) + n <= UNITS);
        if (i % 16 == 0)
            weft_yield();
        atomic_fetch_sub(&used, n);
        OK(weft_sem_release(&sem, n) == 0);
    }
}

static void hammer_body(void)
{
    OK(weft_sem_init(&sem, UNITS) == 0);
    for (int i = 0; i < 8; i++)
        OK(weft_wg_go(&wg, hammer, (void *)(intptr_t)(1 + i % UNITS)) == 0);
    OK(weft_wg_wait(&wg) == 0);
    OK(weft_sem_try_acquire(&sem, UNITS) == 0);
    OK(weft_sem_try_acquire(&sem, 1) == -EBUSY);
}

/* ---- first come, first served --------------------------------------------------------------- */

typedef struct {
    int n, place;
} Turn;

static void take_turn(void *arg)
{
    Turn *t = arg;
    atomic_fetch_add(&count, 1);
    OK(weft_sem_acquire(&sem, t->n) == 0);
    t->place = atomic_fetch_add(&order, 1);
}

/* Go: TestLargeAcquireDoesntStarve, TestWeightedAcquire. Who wants few does not pass who wants many. */
static void fifo_body(void)
{
    static Turn t[4];
    static const int WANT[4] = {3, 1, 2, 1};
    OK(weft_sem_init(&sem, 1) == 0);
    for (int i = 0; i < 4; i++) {
        t[i] = (Turn){WANT[i], -1};
        OK(weft_wg_go(&wg, take_turn, &t[i]) == 0);
        while (count < i + 1)
            weft_yield();
        while (i == 0 && weft_sem_try_acquire(&sem, 1) == 0) { /* until it waits */
            OK(weft_sem_release(&sem, 1) == 0);
            weft_yield();
        }
        weft_sleep(20 * MS);
    }
    EQ(order, 0);
    OK(weft_sem_try_acquire(&sem, 1) == -EBUSY); /* there is one, but others wait */
    OK(weft_sem_release(&sem, 1) == 0);
    weft_sleep(MS);
    EQ(order, 0);
    OK(weft_sem_release(&sem, 2) == 0); /* 4: the first and the second */
    while (order < 2)
        weft_yield();
    weft_sleep(MS);
    EQ(order, 2);
    OK(weft_sem_release(&sem, 3) == 0);
    OK(weft_wg_wait(&wg) == 0);
    EQ(t[0].place + t[1].place, 1);
    OK(weft_sem_try_acquire(&sem, 1) == -EBUSY);
}

/* ---- deadlines ------------------------------------------------------------------------------ */

static void deadline_body(void)
{
    OK(weft_sem_init(&sem, 2) == 0);
    OK(weft_sem_acquire_until(&sem, 2, 1) == 0);
    OK(weft_sem_acquire_until(&sem, 1, 1) == -ETIMEDOUT);
    int64_t until = from_now(5 * MS);
    OK(weft_sem_acquire_until(&sem, 1, until) == -ETIMEDOUT);
    OK(weft_now() >= until);
    OK(weft_sem_release(&sem, 1) == 0);
    OK(weft_sem_try_acquire(&sem, 1) == 0); /* the one that left is forgotten */
}

static void greedy(void *arg)
{
    (void)arg;
    atomic_fetch_add(&count, 1);
    OK(weft_sem_acquire_until(&sem, 10, from_now(10 * MS)) == -ETIMEDOUT);
}

/* One that gives up lets those go that it was in the way of. */
static void gives_up_body(void)
{
    static Turn small[3];
    OK(weft_sem_init(&sem, 3) == 0);
    OK(weft_wg_go(&wg, greedy, NULL) == 0);
    while (count < 1)
        weft_yield();
    weft_sleep(MS);
    for (int i = 0; i < 3; i++) {
        small[i] = (Turn){1, -1};
        OK(weft_wg_go(&wg, take_turn, &small[i]) == 0);
    }
    OK(weft_wg_wait(&wg) == 0);
    EQ(order, 3);
    OK(weft_sem_try_acquire(&sem, 1) == -EBUSY);
}

/* Units are neither lost nor made where waits end early. */
static atomic_int timeouts;

static void impatient(void *arg)
{
    uint32_t s = (uint32_t)(uintptr_t)arg * 7919 + 1;
    for (int i = 0; i < 500; i++) {
        s = s * 1664525u + 1013904223u;
        long n = 1 + (long)(s >> 16) % UNITS;
        int rc = weft_sem_acquire_until(&sem, n, from_now((int64_t)(s >> 8) % (200 * US)));
        OK(rc == 0 || rc == -ETIMEDOUT);
        if (rc != 0) {
            atomic_fetch_add(&timeouts, 1);
            continue;
        }
        OK(atomic_fetch_add(&used, n) + n <= UNITS);
        if (s % 64 < 8)
            weft_sleep(100 * US);
        atomic_fetch_sub(&used, n);
        OK(weft_sem_release(&sem, n) == 0);
    }
}

static void impatient_body(void)
{
    timeouts = 0;
    OK(weft_sem_init(&sem, UNITS) == 0);
    for (int i = 0; i < 10; i++)
        OK(weft_wg_go(&wg, impatient, (void *)(intptr_t)i) == 0);
    OK(weft_wg_wait(&wg) == 0);
    OK(timeouts > 0);
    OK(weft_sem_try_acquire(&sem, UNITS) == 0);
    OK(weft_sem_try_acquire(&sem, 1) == -EBUSY);
}

/* Deadlines that come with the unit that was waited for, and others that take it at once. */
static atomic_bool enough;
static atomic_int in_use;

static void just_late(void *arg)
{
    uint32_t s = (uint32_t)(uintptr_t)arg * 7919 + 3;
    while (!enough) {
        s = s * 1664525u + 1013904223u;
        int rc = s % 4 == 0
                     ? weft_sem_try_acquire(&sem, 1)
                     : weft_sem_acquire_until(&sem, 1, from_now((int64_t)(s >> 8) % (5 * US)));
        if (rc == 0) {
            EQ(atomic_fetch_add(&in_use, 1), 0);
            atomic_fetch_sub(&in_use, 1);
            OK(weft_sem_release(&sem, 1) == 0);
        }
        if (s % 16 == 0)
            weft_yield(); /* where nobody is preempted */
    }
}

static void just_late_body(void)
{
    enough = false;
    OK(weft_sem_init(&sem, 1) == 0);
    for (int i = 0; i < 6; i++)
        OK(weft_wg_go(&wg, just_late, (void *)(intptr_t)i) == 0);
    weft_sleep(300 * MS);
    enough = true;
    OK(weft_wg_wait(&wg) == 0);
    OK(weft_sem_try_acquire(&sem, 1) == 0);
    OK(weft_sem_try_acquire(&sem, 1) == -EBUSY);
}

/* ---- foreign threads ------------------------------------------------------------------------- */

static void *foreign(void *arg)
{
    hammer((void *)(intptr_t)3);
    weft_wg_done(arg);
    return NULL;
}

static void foreign_body(void)
{
    pthread_t th[2];
    OK(weft_sem_init(&sem, UNITS) == 0);
    OK(weft_wg_add(&wg, 2) == 0);
    for (int i = 0; i < 2; i++)
        OK(pthread_create(&th[i], NULL, foreign, &wg) == 0);
    for (int i = 0; i < 3; i++)
        OK(weft_wg_go(&wg, hammer, (void *)(intptr_t)(2 + i)) == 0);
    OK(weft_wg_wait(&wg) == 0);
    for (int i = 0; i < 2; i++)
        pthread_join(th[i], NULL);
    OK(weft_sem_try_acquire(&sem, UNITS) == 0);
}

static atomic_bool waits;
static pthread_t homeless;

static void *sent_home(void *arg)
{
    (void)arg;
    waits = true;
    return (void *)(intptr_t)weft_sem_acquire(&sem, 2);
}

static void end_body(void)
{
    waits = false;
    OK(weft_sem_init(&sem, 1) == 0);
    OK(pthread_create(&homeless, NULL, sent_home, NULL) == 0);
    while (!waits)
        weft_sleep(MS);
    weft_sleep(50 * MS);
}

START_TEST(end_of_run)
{
    void *rc;
    reset();
    run(_i, end_body);
    pthread_join(homeless, &rc);
    EQ((intptr_t)rc, -ECANCELED);
    EQ(weft_sem_try_acquire(&sem, 1), 0);
    EQ(weft_sem_acquire(&sem, 1), -EPERM);
    EQ(weft_sem_release(&sem, 1), 0);
}
END_TEST

/* ---------------------------------------------------------------------------------------------- */

static void (*const bodies[])(void) = {
    table_body,    bad_body,       hammer_body,    fifo_body,    deadline_body,
    gives_up_body, impatient_body, just_late_body, foreign_body,
};
enum { BODIES = sizeof bodies / sizeof bodies[0] };

START_TEST(each)
{
    reset();
    run(_i % NPROCS, bodies[_i / NPROCS]);
}
END_TEST

int main(void)
{
    return run_bodies("sem", each, BODIES, end_of_run);
}
