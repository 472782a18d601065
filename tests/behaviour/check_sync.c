/* SPDX-License-Identifier: MIT
 *
 * check_sync.c: mutex and wait group behave as Go's do.
 *
 * A test's body runs as the main coroutine on 1, 2 and 4 processors. Fatal
 * misuse: tests/crash/mutex_unlock.c, wg_negative.c, wg_misuse.c. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "behaviour.h"

static weft_mutex_t mx;
static weft_wg_t wg;
static int plain; /* under mx */
static atomic_int count;

/* The first word of a mutex: 1 locked, and waiters from 16 on. Whether it may be locked in line is another matter. */
enum { MUTEX_READY = 8, MUTEX_WAITER = 16 };

static uint32_t mutex_word(const weft_mutex_t *m)
{
    return m->opaque[0] & ~(uint32_t)MUTEX_READY;
}

/* ---- mutex --------------------------------------------------------------------- */

/* Go: TestMutex, the table of TryLock. */
static void table_body(void)
{
    OK(weft_mutex_trylock(&mx) == 0);
    OK(weft_mutex_trylock(&mx) == -EBUSY);
    OK(weft_mutex_unlock(&mx) == 0);
    OK(weft_mutex_lock(&mx) == 0);
    OK(weft_mutex_trylock(&mx) == -EBUSY);
    OK(weft_mutex_unlock(&mx) == 0);
    OK(weft_mutex_trylock(&mx) == 0);
    OK(weft_mutex_unlock(&mx) == 0);
}

START_TEST(table)
{
    run(_i, table_body);
}
END_TEST

/* Go: TestMutex, the hammer; every third try only tries. */
static void hammer(void *arg)
{
    (void)arg;
    for (int i = 0; i < 1000; i++) {
        if (i % 3 == 0) {
            if (weft_mutex_trylock(&mx) != 0)
                continue;
        } else {
            OK(weft_mutex_lock(&mx) == 0);
        }
        int seen = plain;
        if (i % 7 == 0)
            weft_yield(); /* as if preempted while it holds the mutex */
        plain = seen + 1;
        atomic_fetch_add(&count, 1);
        OK(weft_mutex_unlock(&mx) == 0);
        if (i % 16 == 0)
            weft_yield();
    }
}

static void hammer_body(void)
{
    for (int i = 0; i < 10; i++)
        OK(weft_wg_go(&wg, hammer, NULL) == 0);
    OK(weft_wg_wait(&wg) == 0);
    OK(plain == atomic_load(&count));
    OK(plain >= 10 * 666);
}

START_TEST(mutex_hammer)
{
    run(_i, hammer_body);
}
END_TEST

/* Go: TestSemaphore. A mutex that one coroutine locks and another unlocks. */
static weft_mutex_t gate;

static void opener(void *arg)
{
    (void)arg;
    for (int i = 0; i < 1000; i++) {
        while (weft_mutex_trylock(&gate) == 0) { /* not closed yet */
            weft_mutex_unlock(&gate);
            weft_yield();
        }
        plain = i;
        OK(weft_mutex_unlock(&gate) == 0);
        while (atomic_load(&count) <= i)
            weft_yield();
    }
}

static void other_unlocks_body(void)
{
    OK(weft_wg_go(&wg, opener, NULL) == 0);
    for (int i = 0; i < 1000; i++) {
        OK(weft_mutex_lock(&gate) == 0);
        OK(weft_mutex_lock(&gate) == 0); /* until the other one has opened it */
        OK(plain == i);
        OK(weft_mutex_unlock(&gate) == 0);
        atomic_fetch_add(&count, 1);
    }
    OK(weft_wg_wait(&wg) == 0);
}

START_TEST(other_unlocks)
{
    run(_i, other_unlocks_body);
}
END_TEST

static void busy(int64_t ns)
{
    for (int64_t end = weft_now() + ns; weft_now() < end;)
        ;
}

/* Go: TestMutexFairness. One that holds the mutex nearly all the time must not
 * starve one that wants it ten times. */
static atomic_bool fair_stop;

static void holder(void *arg)
{
    (void)arg;
    while (!atomic_load(&fair_stop)) {
        OK(weft_mutex_lock(&mx) == 0);
        weft_sleep(100 * US); /* holds it */
        OK(weft_mutex_unlock(&mx) == 0);
    }
}

static void fairness_body(void)
{
    OK(weft_wg_go(&wg, holder, NULL) == 0);
    int64_t start = weft_now();
    for (int i = 0; i < 10; i++) {
        weft_sleep(100 * US);
        OK(weft_mutex_lock(&mx) == 0);
        OK(weft_mutex_unlock(&mx) == 0);
    }
    OK(weft_now() - start < 10 * SEC);
    atomic_store(&fair_stop, true);
    OK(weft_wg_wait(&wg) == 0);
}

START_TEST(fairness)
{
    run(_i, fairness_body);
}
END_TEST

/* Starving mode is first come, first served. Go: TestSemaHandoff: the waiter that gets the
 * mutex runs before the one that gave it. */
static int served[8], nserved;

static void starved(void *arg)
{
    OK(weft_mutex_lock(&mx) == 0);
    served[nserved++] = (int)(intptr_t)arg;
    busy(10 * US);
    OK(weft_mutex_unlock(&mx) == 0);
    weft_wg_done(&wg);
}

static void hand_off_body(void)
{
    OK(weft_mutex_lock(&mx) == 0);
    OK(weft_wg_add(&wg, 8) == 0);
    for (int i = 0; i < 8; i++) {
        go(starved, (void *)(intptr_t)i);
        while (__atomic_load_n(&mx.opaque[0], __ATOMIC_RELAXED) / MUTEX_WAITER <= (uint32_t)i)
            weft_yield();   /* until it is counted as a waiter */
        weft_sleep(2 * MS); /* it queues */
    }
    weft_sleep(3 * MS);
    /* The first is woken in vain, finds that it has waited too long, and queues in front. */
    OK(weft_mutex_unlock(&mx) == 0);
    OK(weft_mutex_lock(&mx) == 0);
    int before = nserved;
    weft_sleep(3 * MS);
    OK(before == nserved);
    OK(weft_mutex_trylock(&mx) == -EBUSY);
    OK(weft_mutex_unlock(&mx) == 0);
    if (before == 0 && weft_procs(0) == 1)
        OK(nserved > 0); /* handed off, and run at once */
    OK(weft_wg_wait(&wg) == 0);
    for (int i = 0; i < 8; i++)
        OK(served[i] == i);
    OK(weft_mutex_trylock(&mx) == 0); /* back to normal */
    OK(mutex_word(&mx) == 1 && mx.opaque[1] == 0);
    OK(weft_mutex_unlock(&mx) == 0);
}

START_TEST(hand_off)
{
    run(_i, hand_off_body);
}
END_TEST

/* Many waiters on many mutexes; the words are zero in the end. */
enum { NMX = 300 };
static weft_mutex_t many[NMX];
static int many_n[NMX];

static void crowd(void *arg)
{
    int at = (int)(intptr_t)arg;
    for (int i = 0; i < 20; i++) {
        at = (at * 31 + 7) % NMX;
        OK(weft_mutex_lock(&many[at]) == 0);
        int n = many_n[at];
        weft_yield();
        many_n[at] = n + 1;
        OK(weft_mutex_unlock(&many[at]) == 0);
    }
}

static void crowd_body(void)
{
    for (int i = 0; i < 2000; i++)
        OK(weft_wg_go(&wg, crowd, (void *)(intptr_t)(i % NMX)) == 0);
    OK(weft_wg_wait(&wg) == 0);
    int sum = 0;
    for (int i = 0; i < NMX; i++) {
        sum += many_n[i];
        OK(mutex_word(&many[i]) == 0 && many[i].opaque[1] == 0);
    }
    OK(sum == 2000 * 20);
}

START_TEST(crowds)
{
    run(_i, crowd_body);
}
END_TEST

/* The last one to use a mutex frees it, while the unlock before is on its way out. */
typedef struct {
    weft_mutex_t mx;
    int refs;
    char pad[40];
} Object;

static void drop(void *arg)
{
    Object *o = arg;
    OK(weft_mutex_lock(&o->mx) == 0);
    int refs = --o->refs;
    OK(weft_mutex_unlock(&o->mx) == 0);
    if (refs == 0) {
        memset((void *)o, 0x55, sizeof *o); /* what is written here later spoils a successor */
        free(o);
    }
}

static void destroy_body(void)
{
    for (int i = 0; i < 2000; i++) {
        Object *o = calloc(1, sizeof *o);
        o->refs = 4;
        for (int k = 0; k < 4; k++)
            OK(weft_wg_go(&wg, drop, o) == 0);
        if (i % 8 == 0)
            OK(weft_wg_wait(&wg) == 0);
    }
    OK(weft_wg_wait(&wg) == 0);
}

START_TEST(destroy)
{
    run(_i, destroy_body);
}
END_TEST

/* ---- wait group ---------------------------------------------------------------------- */

/* Go: TestWaitGroup: two groups as a barrier, eight times. */
static weft_wg_t first, second;
static weft_chan_t *exited;

static void barrier_one(void *arg)
{
    (void)arg;
    OK(weft_wg_done(&first) == 0);
    OK(weft_wg_wait(&second) == 0);
    OK(weft_send(exited, NULL) == 0);
}

static void barrier_body(void)
{
    exited = weft_chan_make(0, 16);
    for (int round = 0; round < 8; round++) {
        OK(weft_wg_add(&first, 16) == 0);
        OK(weft_wg_add(&second, 16) == 0);
        for (int i = 0; i < 16; i++)
            go(barrier_one, NULL);
        OK(weft_wg_wait(&first) == 0);
        for (int i = 0; i < 16; i++) {
            OK(weft_try_recv(exited, NULL) == -EAGAIN); /* not released too soon */
            OK(weft_wg_done(&second) == 0);
        }
        for (int i = 0; i < 16; i++)
            OK(weft_recv(exited, NULL) == 1);
    }
    weft_chan_unref(exited);
}

START_TEST(barrier)
{
    run(_i, barrier_body);
}
END_TEST

/* Go: TestWaitGroupRace: no spurious wake-up. The group lies on the waiter's stack and is
 * gone right after. */
static void adder(void *arg)
{
    weft_wg_t *g = arg;
    atomic_fetch_add(&count, 1);
    weft_wg_done(g);
}

static __attribute__((noinline)) void wg_once(int i)
{
    weft_wg_t g = {0};
    atomic_store(&count, 0);
    OK(weft_wg_add(&g, 1) == 0);
    go(adder, &g);
    OK(weft_wg_add(&g, 1) == 0);
    go(adder, &g);
    if (i % 3 == 0)
        weft_yield();
    OK(weft_wg_wait(&g) == 0);
    OK(atomic_load(&count) == 2);
    OK(g.opaque[0] == 0 && g.opaque[1] == 0);
    g = (weft_wg_t){{~0ull, ~0ull}};
    __asm__ volatile("" : : "r"(&g) : "memory");
}

static void race_body(void)
{
    for (int i = 0; i < 5000; i++)
        wg_once(i);
}

START_TEST(wg_race)
{
    run(_i, race_body);
}
END_TEST

static void wg_waiter(void *arg)
{
    OK(weft_wg_wait(arg) == 0);
    atomic_fetch_add(&count, 1);
}

/* Many wait for one; wg_go's errors leave the counter alone. */
static void waiters_body(void)
{
    static weft_wg_t many_wg;
    OK(weft_wg_wait(&many_wg) == 0);
    OK(weft_wg_add(&many_wg, 1) == 0);
    for (int i = 0; i < 1000; i++)
        OK(weft_wg_go(&wg, wg_waiter, &many_wg) == 0);
    OK(weft_wg_go(&many_wg, NULL, NULL) == -EINVAL);
    weft_sleep(5 * MS);
    OK(atomic_load(&count) == 0);
    OK(weft_wg_done(&many_wg) == 0);
    OK(weft_wg_wait(&wg) == 0);
    OK(atomic_load(&count) == 1000);
    OK(many_wg.opaque[0] == 0 && many_wg.opaque[1] == 0);
}

START_TEST(waiters)
{
    run(_i, waiters_body);
}
END_TEST

/* ---- without a run; threads that are not weft's ------------------------------------------ */

START_TEST(outside)
{
    weft_mutex_t x = {0};
    weft_wg_t g = {0};
    OK(weft_mutex_lock(&x) == 0);
    OK(weft_mutex_lock(&x) == -EPERM);
    OK(weft_mutex_trylock(&x) == -EBUSY);
    OK(weft_mutex_unlock(&x) == 0);
    OK(mutex_word(&x) == 0 && x.opaque[1] == 0);
    OK(weft_wg_wait(&g) == 0);
    OK(weft_wg_add(&g, 2) == 0);
    OK(weft_wg_wait(&g) == -EPERM);
    OK(weft_wg_go(&g, hammer, NULL) == -EPERM);
    OK(weft_wg_add(&g, -2) == 0);
    OK(weft_wg_wait(&g) == 0);
}
END_TEST

static void *hammer_thread(void *arg)
{
    hammer(arg);
    weft_wg_done(&wg);
    return NULL;
}

static void foreign_body(void)
{
    pthread_t th[3];
    for (int i = 0; i < 4; i++)
        OK(weft_wg_go(&wg, hammer, NULL) == 0);
    OK(weft_wg_add(&wg, 3) == 0);
    for (int i = 0; i < 3; i++)
        OK(pthread_create(&th[i], NULL, hammer_thread, NULL) == 0);
    OK(weft_wg_wait(&wg) == 0);
    for (int i = 0; i < 3; i++)
        OK(pthread_join(th[i], NULL) == 0);
    OK(plain == atomic_load(&count));
}

START_TEST(foreign)
{
    run(_i, foreign_body);
}
END_TEST

/* Threads that wait when the run ends get -ECANCELED, and the objects are as if
 * they had never waited. */
static weft_mutex_t held;
static weft_wg_t open_wg;
static atomic_int cancelled, entering;

static void *cancel_mutex(void *arg)
{
    (void)arg;
    atomic_fetch_add(&entering, 1);
    if (weft_mutex_lock(&held) == -ECANCELED)
        atomic_fetch_add(&cancelled, 1);
    return NULL;
}

static void *cancel_wg(void *arg)
{
    (void)arg;
    atomic_fetch_add(&entering, 1);
    if (weft_wg_wait(&open_wg) == -ECANCELED)
        atomic_fetch_add(&cancelled, 1);
    return NULL;
}

static pthread_t cancel_thread[4];

static void cancel_body(void)
{
    OK(weft_mutex_lock(&held) == 0);
    OK(weft_wg_add(&open_wg, 1) == 0);
    for (int i = 0; i < 4; i++)
        OK(pthread_create(&cancel_thread[i], NULL, i % 2 ? cancel_mutex : cancel_wg, NULL) == 0);
    while (atomic_load(&entering) < 4)
        weft_sleep(MS);
    weft_sleep(50 * MS);
}

START_TEST(cancel)
{
    run(_i, cancel_body);
    for (int i = 0; i < 4; i++)
        OK(pthread_join(cancel_thread[i], NULL) == 0);
    OK(atomic_load(&cancelled) == 4);
    OK(mutex_word(&held) == 1 && held.opaque[1] == 0);
    OK(open_wg.opaque[0] == 1ull << 32 && open_wg.opaque[1] == 0);
    OK(weft_mutex_unlock(&held) == 0);
    OK(weft_wg_done(&open_wg) == 0);
    OK(weft_wg_wait(&open_wg) == 0);
    run(_i, table_body); /* nobody is left in a queue */
}
END_TEST

/* Coroutines abandoned in a wait are forgotten. */
static void stuck(void *arg)
{
    weft_mutex_lock(arg);
    ck_abort_msg("the mutex was never unlocked");
}

static void abandon_body(void)
{
    static weft_mutex_t x;
    x = (weft_mutex_t){{0}}; /* the second time around; not at the end, when one may be late */
    OK(weft_mutex_lock(&x) == 0);
    for (int i = 0; i < 10; i++)
        go(stuck, &x);
    weft_sleep(5 * MS);
}

START_TEST(abandoned)
{
    run(_i, abandon_body);
    run(_i, abandon_body);
    run(_i, hammer_body);
}
END_TEST

/* ---- deadlines ----------------------------------------------------------------- */

/* What can be done is done, whatever the deadline. */
static void past_deadline_body(void)
{
    OK(weft_mutex_lock_until(&mx, 1) == 0);
    OK(weft_mutex_lock_until(&mx, 1) == -ETIMEDOUT);
    OK(weft_mutex_unlock(&mx) == 0);
    OK(weft_wg_wait_until(&wg, 1) == 0);
    OK(weft_wg_add(&wg, 1) == 0);
    OK(weft_wg_wait_until(&wg, 1) == -ETIMEDOUT);
    int64_t until = from_now(3 * MS);
    OK(weft_wg_wait_until(&wg, until) == -ETIMEDOUT);
    OK(weft_now() >= until);
    OK(weft_wg_done(&wg) == 0);
    OK(wg.opaque[0] == 0 && wg.opaque[1] == 0);
}

static atomic_int gave_up;
static weft_wg_t count_down;

static void impatient(void *arg)
{
    uint32_t s = (uint32_t)(uintptr_t)arg * 7919 + 1;
    for (int i = 0; i < 400; i++) {
        s = s * 1664525u + 1013904223u;
        int rc = weft_mutex_lock_until(&mx, from_now((int64_t)(s >> 8) % (150 * US)));
        OK(rc == 0 || rc == -ETIMEDOUT);
        if (rc != 0) {
            atomic_fetch_add(&gave_up, 1);
            continue;
        }
        int seen = plain;
        if (s >> 26 < 8)
            weft_sleep(100 * US); /* now and then long enough for starving mode */
        else if (s >> 26 < 9)
            weft_sleep(2 * MS);
        plain = seen + 1;
        atomic_fetch_add(&count, 1);
        OK(weft_mutex_unlock(&mx) == 0);
    }
}

/* Waits that end early leave neither a waiter nor a wake-up behind. */
static void lock_until_body(void)
{
    gave_up = 0;
    plain = 0;
    atomic_store(&count, 0);
    for (int i = 0; i < 10; i++)
        OK(weft_wg_go(&wg, impatient, (void *)(intptr_t)i) == 0);
    OK(weft_wg_wait(&wg) == 0);
    OK(gave_up > 0);
    EQ(plain, atomic_load(&count));
    OK(mutex_word(&mx) == 0 && mx.opaque[1] == 0);
}

static void late_for_group(void *arg)
{
    int rc = weft_wg_wait_until(arg, from_now((int64_t)(count++ % 40) * 10 * US));
    OK(rc == 0 || rc == -ETIMEDOUT);
}

static void wg_until_body(void)
{
    static weft_wg_t slow;
    for (int i = 0; i < 300; i++) {
        OK(weft_wg_add(&slow, 1) == 0);
        for (int k = 0; k < 8; k++)
            OK(weft_wg_go(&wg, late_for_group, &slow) == 0);
        if (i % 2 == 0)
            weft_sleep(150 * US);
        else
            weft_yield();
        OK(weft_wg_done(&slow) == 0);
        OK(weft_wg_wait(&wg) == 0);
        OK(slow.opaque[0] == 0 && slow.opaque[1] == 0);
    }
}

/* A wait whose deadline comes with the done that it waits for. */
static atomic_int go_at;

static void last_done(void *arg)
{
    (void)arg;
    for (int i = 1; i <= 3000; i++) {
        while (go_at < i)
            weft_yield();
        weft_wg_done(&count_down);
    }
}

static void with_done_body(void)
{
    go_at = 0;
    OK(weft_wg_go(&wg, last_done, NULL) == 0);
    for (int i = 1; i <= 3000; i++) {
        OK(weft_wg_add(&count_down, 1) == 0);
        int64_t until = from_now(i % 64 * 100);
        go_at = i;
        int rc = weft_wg_wait_until(&count_down, until);
        OK(rc == 0 || rc == -ETIMEDOUT);
        OK(weft_wg_wait(&count_down) == 0);
        OK(count_down.opaque[0] == 0 && count_down.opaque[1] == 0);
    }
    OK(weft_wg_wait(&wg) == 0);
}

START_TEST(until)
{
    static void (*const bodies[])(void) = {past_deadline_body, lock_until_body, wg_until_body,
                                           with_done_body};
    run(_i % NPROCS, bodies[_i / NPROCS]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("sync");
    TCase *tc = tcase_create("sync");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, table, 0, NPROCS);
    tcase_add_loop_test(tc, mutex_hammer, 0, NPROCS);
    tcase_add_loop_test(tc, other_unlocks, 0, NPROCS);
    tcase_add_loop_test(tc, fairness, 0, NPROCS);
    tcase_add_loop_test(tc, hand_off, 0, NPROCS);
    tcase_add_loop_test(tc, crowds, 0, NPROCS);
    tcase_add_loop_test(tc, destroy, 0, NPROCS);
    tcase_add_loop_test(tc, barrier, 0, NPROCS);
    tcase_add_loop_test(tc, wg_race, 0, NPROCS);
    tcase_add_loop_test(tc, waiters, 0, NPROCS);
    tcase_add_test(tc, outside);
    tcase_add_loop_test(tc, foreign, 0, NPROCS);
    tcase_add_loop_test(tc, cancel, 0, NPROCS);
    tcase_add_loop_test(tc, abandoned, 0, NPROCS);
    tcase_add_loop_test(tc, until, 0, 4 * NPROCS);
    suite_add_tcase(s, tc);
    return run_suite(s);
}
