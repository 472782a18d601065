/* SPDX-License-Identifier: MIT
 *
 * check_regress.c: what once went wrong. Each test is the shortest program that
 * showed a mistake in the scheduler, and says which one. A hang is ended by
 * Check's time limit; a run that was wrongly declared dead ends with status 2. */
#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "weft.h"

#define MS INT64_C(1000000)

static void check_eq(long long got, long long want, int line)
{
    if (got != want)
        ck_abort_msg("line %d: %lld, not %lld", line, got, want);
}
#define EQ(got, want) check_eq((long long)(got), (long long)(want), __LINE__)
#define OK(x) EQ(!!(x), 1)

static void run(int procs, int (*entry)(void *))
{
    weft_config_t cfg = {.procs = procs};
    EQ(weft_run_with(&cfg, entry, NULL), 0);
}

static void start(pthread_t *t, void *(*fn)(void *), void *arg)
{
    EQ(pthread_create(t, NULL, fn, arg), 0);
}

static struct rlimit threads; /* as it was */

/* forbid_threads() will work: root is not limited. Before any thread is there. */
static void become_limited(void)
{
    if (geteuid() == 0)
        EQ(setresuid(54321, 54321, 54321), 0);
    EQ(getrlimit(RLIMIT_NPROC, &threads), 0);
}

/* No new thread from now on. */
static void forbid_threads(void)
{
    struct rlimit none = {1, threads.rlim_max};
    EQ(setrlimit(RLIMIT_NPROC, &none), 0);
}

/* ---- a foreign thread waits while the whole runtime sleeps -------------------------- */

static weft_chan_t *c;
static int ends[2];

static void *feed_late(void *arg)
{
    (void)arg;
    usleep(200000);
    EQ(write(ends[1], "x", 1), 1);
    return NULL;
}

static void *read_foreign(void *arg)
{
    char x;
    (void)arg;
    usleep(100000);
    EQ(weft_read(ends[0], &x, 1), 1);
    EQ(weft_send(c, NULL), 0);
    return NULL;
}

static int recv_one(void *arg)
{
    (void)arg;
    return weft_recv(c, NULL) - 1;
}

/* idle_poke() did nothing for threads that are not weft's: everybody slept, nobody polled. */
START_TEST(foreign_polls)
{
    pthread_t reader, feeder;
    c = weft_chan_make(0, 0);
    EQ(pipe(ends), 0);
    start(&reader, read_foreign, NULL);
    start(&feeder, feed_late, NULL);
    run(1 + _i, recv_one);
    pthread_join(reader, NULL);
    pthread_join(feeder, NULL);
}
END_TEST

static void send_one(void *arg)
{
    (void)arg;
    weft_send(c, NULL);
}

static _Atomic bool timer_seen;

static void *start_timer(void *arg)
{
    usleep(100000);
    EQ(weft_timer_start(arg, weft_now() + 50 * MS, 0, send_one, NULL), 0);
    while (!timer_seen) /* its end would wake somebody */
        usleep(1000);
    return NULL;
}

static int see_timer(void *arg)
{
    int rc = recv_one(arg);
    timer_seen = true;
    return rc;
}

/* The same in idle_timer_added(): nobody waited for the timer. */
START_TEST(foreign_timer)
{
    static weft_timer_t timer;
    pthread_t t;
    c = weft_chan_make(0, 0);
    start(&t, start_timer, &timer);
    run(1 + _i, see_timer);
    pthread_join(t, NULL);
}
END_TEST

/* ---- fewer processors while the one to go still computes -------------------------------- */

static _Atomic bool shrunk;

static void shrink_and_compute(void *arg)
{
    (void)arg;
    EQ(weft_procs(1), 2);
    shrunk = true;
    for (int64_t until = weft_now() + 20 * MS; weft_now() < until;)
        ;
    EQ(weft_send(c, NULL), 0);
}

static int shrink_main(void *arg)
{
    (void)arg;
    for (int i = 0; i < 40; i++) {
        EQ(weft_procs(2), 1 + (i == 0));
        shrunk = false;
        EQ(weft_go(shrink_and_compute, NULL), 0);
        while (!shrunk) /* it must be on the other processor */
            ;
        EQ(weft_recv(c, NULL), 1);
    }
    return 0;
}

/* "All idle" was idle_p == procs: true as soon as processor 0 slept, while the
 * other one, one too many now, still ran. The run ended with "deadlock". */
START_TEST(shrink)
{
    c = weft_chan_make(0, 0);
    run(2, shrink_main);
}
END_TEST

/* ---- the periodic look at time ------------------------------------------------------------- */

static _Atomic bool awake;
static int batch;

static void nothing(void *arg)
{
    (void)arg;
}

static void sleep_once(void *arg)
{
    (void)arg;
    weft_sleep(MS);
    awake = true;
}

static int tick_main(void *arg)
{
    (void)arg;
    for (int phase = 0; phase < 3; phase++) {
        int64_t start_time = weft_now();
        long rounds = 0;
        awake = false;
        EQ(weft_go(sleep_once, NULL), 0);
        for (int i = 0; i < phase * 5 + 1; i++)
            weft_yield();
        while (!awake) {
            for (int i = 0; i < batch; i++)
                EQ(weft_go(nothing, NULL), 0);
            weft_yield();
            if (++rounds > 10000 && weft_now() > start_time + 1000 * MS)
                ck_abort_msg("batches of %d: the sleeper starved", batch);
        }
    }
    return 0;
}

/* One processor looked at its timers when its count of switches was a multiple of 16
 * and a coroutine that had run before was resumed. "Spawn 15, yield" resumed main
 * at the same residue for ever, and sleepers starved. */
START_TEST(tick)
{
    for (batch = 1; batch < 48; batch++)
        run(1, tick_main);
}
END_TEST

/* ---- the end of a run, with a select that was won but has not run -------------------------- */

static weft_chan_t *won, *lost, *other[2];

static void select_two(void *arg)
{
    weft_chan_t **of = arg;
    weft_case_t k[2] = {{.op = WEFT_RECV, .chan = of[0]}, {.op = WEFT_RECV, .chan = of[1]}};
    weft_select(k, 2, 0);
}

static int win_and_leave(void *arg)
{
    weft_chan_t *both[2] = {won, lost};
    (void)arg;
    EQ(weft_go(select_two, both), 0);
    weft_yield();
    EQ(weft_send(won, NULL), 0);
    return 0; /* it is runnable now, and abandoned */
}

static int nobody_receives(void *arg)
{
    (void)arg;
    for (int i = 0; i < 20; i++) /* take the memory that the first one had */
        EQ(weft_go(select_two, other), 0);
    weft_yield();
    EQ(weft_try_send(lost, NULL), -EAGAIN);
    weft_yield();
    EQ(weft_num_coroutines(), 21);
    return 0;
}

/* Only parked selects were taken out of their channels: the losers of one that
 * had been won stayed in the queues of channels that outlive the run. */
START_TEST(abandoned_winner)
{
    won = weft_chan_make(0, 0), lost = weft_chan_make(0, 0);
    other[0] = weft_chan_make(0, 0), other[1] = weft_chan_make(0, 0);
    for (int i = 0; i < 20; i++) {
        run(1, win_and_leave);
        EQ(weft_try_send(lost, NULL), -EAGAIN);
        run(1, nobody_receives);
    }
    weft_chan_unref(won);
    weft_chan_unref(lost);
}
END_TEST

/* ---- a processor for which no thread can be had ------------------------------------------------ */

static _Atomic bool stop;

static uint32_t next(uint32_t *s)
{
    *s = *s * 1664525u + 1013904223u;
    return *s >> 8;
}

static void *send_at_random(void *arg)
{
    uint32_t s = 1;
    (void)arg;
    while (!stop) {
        usleep(next(&s) % 60);
        int rc = weft_send(c, NULL);
        OK(rc == 0 || rc == -ECANCELED || rc == -EPERM);
    }
    return NULL;
}

static int recv_at_random(void *arg)
{
    uint32_t s = 7;
    long received = 0, timed_out = 0;
    (void)arg;
    forbid_threads();
    for (int64_t until = weft_now() + 1000 * MS; weft_now() < until;) {
        weft_case_t k = {.op = WEFT_RECV, .chan = c};
        int rc = weft_select(&k, 1, weft_now() + next(&s) % 80000);
        OK(rc == 0 || rc == -ETIMEDOUT);
        rc == 0 ? received++ : timed_out++;
    }
    stop = true;
    while (weft_try_recv(c, NULL) == 1)
        ;
    OK(received > 0 && timed_out > 0);
    return 0;
}

/* A foreign thread took the idle processor, found no thread for it, and put it back;
 * the one thread there was had looked for it meanwhile, and gone to bed. Both the
 * sender's wake-up and the timer were lost. */
START_TEST(put_back)
{
    pthread_t t;
    weft_config_t cfg = {.procs = 1, .threads_max = 1};
    become_limited();
    c = weft_chan_make(0, 0);
    start(&t, send_at_random, NULL);
    EQ(weft_run_with(&cfg, recv_at_random, NULL), 0);
    pthread_join(t, NULL);
}
END_TEST

/* ---- a foreign thread's second wait ------------------------------------------------------------- */

static weft_wg_t granted, never;
static int got[2];

static void *wait_twice(void *arg)
{
    (void)arg;
    got[0] = weft_wg_wait(&granted);
    got[1] = weft_wg_wait(&never);
    return NULL;
}

static int grant_one(void *arg)
{
    weft_wg_add(&granted, 1);
    weft_wg_add(&never, 1);
    start(arg, wait_twice, NULL);
    weft_sleep(50 * MS);
    weft_wg_done(&granted);
    weft_sleep(50 * MS);
    return 0;
}

/* The end of a run cancelled the second wait, but a note of the first one, which
 * had been granted, was still there: weft_wg_wait() returned 0. */
START_TEST(stale_grant)
{
    for (int i = 0; i < 4; i++) {
        pthread_t t;
        memset((void *)&granted, 0, sizeof granted);
        memset((void *)&never, 0, sizeof never);
        EQ(weft_run(grant_one, &t), 0);
        pthread_join(t, NULL);
        OK(got[0] == 0 || got[0] == -EPERM);          /* -EPERM: a busy machine, the thread came */
        OK(got[1] == -ECANCELED || got[1] == -EPERM); /* when the run was over */
    }
}
END_TEST

/* ---- two coroutines become ready at once in the poller ------------------------------------------- */

static int feeds[2][2];
static int64_t began[2];
static weft_wg_t hogs;

static void hog(void *arg)
{
    int i = *(int *)arg;
    char x;
    EQ(weft_read(feeds[i][0], &x, 1), 1);
    began[i] = weft_now();
    while (weft_now() < began[i] + 60 * MS)
        ;
}

static void *feed_both(void *arg)
{
    (void)arg;
    usleep(60000); /* both are parked, their thread waits in the poller: there is no other */
    EQ(setrlimit(RLIMIT_NPROC, &threads), 0);
    EQ(write(feeds[0][1], "x", 1), 1);
    EQ(write(feeds[1][1], "x", 1), 1);
    return NULL;
}

static int hogs_main(void *arg)
{
    static int which[2] = {0, 1};
    pthread_t t;
    (void)arg;
    start(&t, feed_both, NULL);
    forbid_threads();
    for (int i = 0; i < 2; i++)
        EQ(weft_wg_go(&hogs, hog, &which[i]), 0);
    EQ(weft_wg_wait(&hogs), 0);
    pthread_join(t, NULL);
    return 0;
}

/* The poller made both ready while it still called itself the poller: so it was not
 * replaced, no thread was made for the second one, and it waited until the monitor
 * looked (10 ms), if there was something to look for. */
START_TEST(poller_wakes_many)
{
    int64_t best = INT64_MAX;
    if (!freopen("/dev/null", "w", stderr)) /* "cannot create a thread" */
        ck_abort();
    become_limited();
    for (int round = 0; round < 8 && best > 4 * MS; round++) {
        EQ(pipe(feeds[0]), 0);
        EQ(pipe(feeds[1]), 0);
        run(2, hogs_main);
        int64_t late = began[1] > began[0] ? began[1] - began[0] : began[0] - began[1];
        best = late < best ? late : best;
    }
    ck_assert_msg(best <= 4 * MS, "the second coroutine began %lld us late",
                  (long long)best / 1000);
}
END_TEST

/* ---- an idle program is not woken ------------------------------------------------------------------- */

static void *watch_switches(void *arg)
{
    struct rusage before, after;
    usleep(300000);
    getrusage(RUSAGE_SELF, &before);
    usleep(1200000);
    getrusage(RUSAGE_SELF, &after);
    *(long *)arg = after.ru_nvcsw - before.ru_nvcsw;
    EQ(weft_send(c, NULL), 0);
    return NULL;
}

/* With a thread in the process that might still end a deadlock, the last thread to
 * sleep and the monitor looked again every 10 ms, for ever. */
START_TEST(idle_sleeps)
{
    pthread_t t;
    long switches = -1;
    c = weft_chan_make(0, 0);
    start(&t, watch_switches, &switches);
    run(2, recv_one);
    pthread_join(t, NULL);
    ck_assert_msg(switches >= 0 && switches < 40, "woken %ld times in 1.2 s", switches);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("regress");
    TCase *tc = tcase_create("regress");
    tcase_set_timeout(tc, 30);
    tcase_add_loop_test(tc, foreign_polls, 0, 2);
    tcase_add_loop_test(tc, foreign_timer, 0, 2);
    tcase_add_test(tc, shrink);
    tcase_add_test(tc, tick);
    tcase_add_test(tc, abandoned_winner);
    tcase_add_test(tc, put_back);
    tcase_add_test(tc, stale_grant);
    tcase_add_test(tc, poller_wakes_many);
    tcase_add_test(tc, idle_sleeps);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? 0 : 1;
}
