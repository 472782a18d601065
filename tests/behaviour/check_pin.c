/* SPDX-License-Identifier: MIT
 *
 * check_pin.c: weft_thread_lock(): a coroutine keeps its thread, and has it for
 * itself; WEFT_DEBUG=threads=1 does that to all. */
#include "hogs.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- thread_lock --------------------------------------------------------------------- */

enum { PINNED = 3, PARKS = 300 };
static _Atomic int pinned_tid[PINNED];
static _Atomic int pinned_left;
static _Atomic uint64_t moves;
static __thread int mine; /* of the thread */

/* An ordinary coroutine never runs on a thread that is somebody's own. */
static void churn(void *arg)
{
    int last = 0;
    (void)arg;
    while (pinned_left > 0) {
        int tid = gettid();
        for (int i = 0; i < PINNED; i++)
            OK(pinned_tid[i] != tid);
        moves += tid != last;
        last = tid;
        weft_sleep(20 * US);
        weft_yield();
    }
    weft_wg_done(&wg);
}

static void pinned(void *arg)
{
    int i = (int)(intptr_t)arg;
    pthread_mutex_t m;
    pthread_mutexattr_t attr;
    weft_thread_lock();
    weft_thread_lock();
    int tid = gettid(), *here = &mine;
    pinned_tid[i] = tid;
    *here = 100 + i;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ERRORCHECK); /* knows its owner */
    pthread_mutex_init(&m, &attr);
    for (int n = 0; n < PARKS; n++) {
        EQ(pthread_mutex_lock(&m), 0);
        if (n % 3 == 0)
            weft_yield();
        else
            EQ(weft_sleep(n % 7 * 10 * US), 0);
        if (n % 50 == 0)
            burn_ms(3);
        EQ(gettid(), tid);
        EQ(*here, 100 + i);
        EQ(pthread_mutex_unlock(&m), 0);
        if (n == PARKS / 2)
            weft_thread_unlock(); /* locked once more still */
    }
    for (int k = 0; k < PINNED; k++)
        OK(k == i || pinned_tid[k] != tid);
    pinned_tid[i] = 0;
    weft_thread_unlock();
    pinned_left--;
    weft_wg_done(&wg);
}

static void pinned_body(void)
{
    moves = 0;
    pinned_left = PINNED;
    EQ(weft_wg_add(&wg, PINNED + 4), 0);
    for (int i = 0; i < PINNED; i++)
        go(pinned, (void *)(intptr_t)i);
    for (int i = 0; i < 4; i++)
        go(churn, NULL);
    EQ(weft_wg_wait(&wg), 0);
    OK(weft_procs(0) == 1 || moves > 4); /* else nothing has been shown */
}

START_TEST(thread_lock)
{
    run(_i, pinned_body);
}
END_TEST

START_TEST(thread_lock_storm)
{
    storm("200");
    run(_i, pinned_body);
}
END_TEST

/* More pinned coroutines than processors, handing a token round. */
static weft_chan_t *ring[8];

static void link_body(void *arg)
{
    int i = (int)(intptr_t)arg, v, tid;
    weft_thread_lock();
    tid = gettid();
    for (int n = 0; n < 100; n++) {
        EQ(weft_recv(ring[i], &v), 1);
        EQ(gettid(), tid);
        v++;
        EQ(weft_send(ring[(i + 1) % 8], &v), 0);
    }
    weft_wg_done(&wg); /* ends without unlock: that is allowed */
}

static void ring_body(void)
{
    int v = 0;
    for (int i = 0; i < 8; i++)
        ring[i] = weft_chan_make(sizeof(int), 1);
    EQ(weft_wg_add(&wg, 8), 0);
    for (int i = 0; i < 8; i++)
        go(link_body, (void *)(intptr_t)i);
    EQ(weft_send(ring[0], &v), 0);
    EQ(weft_wg_wait(&wg), 0);
    EQ(weft_recv(ring[0], &v), 1);
    EQ(v, 800);
}

START_TEST(pinned_ring)
{
    run(_i, ring_body);
}
END_TEST

static void pin_and_end(void *arg)
{
    (void)arg;
    weft_thread_lock();
    weft_sleep(100 * US);
    weft_wg_done(&wg);
}

/* Their threads do not pile up, and the others go on. */
static void pinned_end_body(void)
{
    weft_stats_t s;
    for (int round = 0; round < 20; round++) {
        EQ(weft_wg_add(&wg, 10), 0);
        for (int i = 0; i < 10; i++)
            go(pin_and_end, NULL);
        EQ(weft_wg_wait(&wg), 0);
    }
    weft_sleep(10 * MS);
    EQ(weft_stats(&s), 0);
    printf("pinned_end: %llu threads after 200 pinned coroutines\n", (unsigned long long)s.threads);
    OK(s.threads < 60);
}

START_TEST(pinned_end)
{
    run(_i, pinned_end_body);
}
END_TEST

/* A pinned coroutine that computes beside others: stopped like any other. */
static void pinned_hog(void *arg)
{
    weft_thread_lock();
    int tid = gettid();
    hog_loop(arg);
    EQ(gettid(), tid);
    weft_thread_unlock();
    weft_wg_done(&wg);
}

static void pinned_hog_body(void)
{
    weft_thread_lock(); /* main too */
    int tid = gettid();
    start_hogs(2, 0);
    EQ(weft_wg_add(&wg, 2), 0);
    for (int i = 2; i < 4; i++) {
        hogs[i] = (Hog){.stop = &stop};
        go(pinned_hog, &hogs[i]);
    }
    for (int i = 0; i < 3; i++)
        wait_progress(4);
    EQ(gettid(), tid);
    stop_hogs();
    weft_thread_unlock();
}

START_TEST(pinned_hogs)
{
    run(_i, pinned_hog_body);
}
END_TEST

/* Too many unlocks do nothing, nor does any of it on a thread that is not weft's. */
static void unlock_unlocked_body(void)
{
    weft_thread_unlock();
    weft_thread_lock();
    weft_thread_unlock();
    weft_thread_unlock();
    weft_sleep(MS);
    weft_thread_lock();
    int tid = gettid();
    for (int i = 0; i < 20; i++) {
        weft_sleep(100 * US);
        EQ(gettid(), tid);
    }
    weft_thread_unlock();
}

START_TEST(unlock_unlocked)
{
    weft_thread_lock();
    weft_thread_unlock();
    weft_thread_unlock();
    weft_preempt_disable();
    weft_preempt_enable();
    run(_i, unlock_unlocked_body);
}
END_TEST

/* WEFT_DEBUG=threads=1: each coroutine has a thread of its own for life. */
static _Atomic int own_tid[8];

static void own_thread(void *arg)
{
    int i = (int)(intptr_t)arg, v, tid = gettid();
    own_tid[i] = tid;
    for (int n = 0; n < 50; n++) {
        EQ(weft_recv(ring[i], &v), 1);
        EQ(v, n);
        EQ(weft_send(ring[i], &v), 0);
        weft_sleep(50 * US);
        EQ(gettid(), tid);
    }
    weft_wg_done(&wg);
}

static void threads_body(void)
{
    EQ(weft_wg_add(&wg, 8), 0);
    for (int i = 0; i < 8; i++) {
        ring[i] = weft_chan_make(sizeof(int), 0);
        go(own_thread, (void *)(intptr_t)i);
    }
    for (int n = 0; n < 50; n++) {
        for (int i = 0; i < 8; i++)
            EQ(weft_send(ring[i], &n), 0);
        for (int i = 0, v; i < 8; i++) {
            EQ(weft_recv(ring[i], &v), 1);
            EQ(v, n);
        }
    }
    EQ(weft_wg_wait(&wg), 0);
    for (int i = 0; i < 8; i++) {
        OK(own_tid[i] != gettid());
        for (int k = 0; k < i; k++)
            OK(own_tid[i] != own_tid[k]);
        weft_chan_unref(ring[i]);
    }
}

START_TEST(threads)
{
    setenv("WEFT_DEBUG", "threads=1", 1);
    run(_i, threads_body);
}
END_TEST

int main(void)
{
#ifdef WEFT_TSAN
    puts("skipped: with the thread sanitizer there is no preemption");
    return 77;
#endif
    Suite *s = suite_create("pin");
    TCase *tc = tcase_create("pin");
    tcase_add_loop_test(tc, thread_lock, 0, NPROCS);
    tcase_add_loop_test(tc, thread_lock_storm, 0, NPROCS);
    tcase_add_loop_test(tc, pinned_ring, 0, NPROCS);
    tcase_add_loop_test(tc, pinned_end, 0, NPROCS);
    tcase_add_loop_test(tc, pinned_hogs, 0, NPROCS);
    tcase_add_loop_test(tc, unlock_unlocked, 0, NPROCS);
    tcase_add_loop_test(tc, threads, 0, NPROCS);
    suite_add_tcase(s, tc);
    return run_suite(s);
}
