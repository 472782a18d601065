/* SPDX-License-Identifier: MIT
 *
 * check_after.c: weft_after() delivers as Go's time.After does, and costs nothing once it is dropped.
 *
 * A test's body runs as the main coroutine on 1, 2 and 4 processors. Upper bounds are wide: the
 * machine may stand still for a while. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "behaviour.h"

#define FAR (3600 * SEC)

static weft_chan_t *chan, *other;
static weft_wg_t wg;
static atomic_int count;

static void reset(void)
{
    memset(&wg, 0, sizeof wg);
    count = 0;
}

static uint64_t timers(void)
{
    weft_stats_t st;
    EQ(weft_stats(&st), 0);
    return st.timers;
}

/* Those of coroutines that are about to go on are none. */
static void no_timers(void)
{
    for (int64_t end = from_now(20 * SEC); timers() != 0;) {
        OK(weft_now() < end);
        weft_yield();
    }
}

/* ---- delivery ------------------------------------------------------------------------------- */

/* Go: TestAfter. The time is delivered, once, not before it has come. */
static void once_body(void)
{
    int64_t start = weft_now(), at = 0;
    weft_chan_t *c = weft_after(20 * MS);
    OK(c != NULL);
    EQ(weft_chan_cap(c), 1);
    int rc = weft_try_recv(c, &at);
    OK(rc == -EAGAIN || weft_now() - start >= 20 * MS);
    OK(rc == 1 || weft_recv(c, &at) == 1);
    OK(at - start >= 20 * MS && at <= weft_now());
    EQ(weft_try_recv(c, &at), -EAGAIN);
    EQ(weft_recv_until(c, &at, from_now(5 * MS)), -ETIMEDOUT);
    weft_chan_unref(c);
    EQ(timers(), 0);
}

/* Go: TestAfter with 0, synctest's TestTimerRanInPast and TestTimerRunsImmediately. */
static void at_once_body(void)
{
    static const int64_t past[] = {0, -1, -SEC, INT64_MIN};
    for (size_t i = 0; i < sizeof past / sizeof past[0]; i++) {
        int64_t start = weft_now(), at = 0;
        weft_chan_t *c = weft_after(past[i]);
        EQ(weft_chan_len(c), 1);
        EQ(weft_try_recv(c, &at), 1);
        OK(at >= start && at <= weft_now());
        EQ(weft_try_recv(c, NULL), -EAGAIN);
        weft_chan_unref(c);
        weft_chan_unref(weft_after(past[i])); /* or nobody wants it */
    }
}

/* Go: TestOverflowSleep, its time.After part. */
static void overflow_body(void)
{
    weft_chan_t *a = weft_after(INT64_MAX), *b = weft_after(INT64_MAX - 1);
    weft_sleep(10 * MS);
    EQ(weft_try_recv(a, NULL), -EAGAIN);
    EQ(weft_try_recv(b, NULL), -EAGAIN);
    EQ(timers(), 2);
    weft_chan_unref(a);
    weft_chan_unref(b);
    EQ(timers(), 0);
}

/* Go: TestAfterQueuing. Who waits for longer gets it later. */
static const int slots[] = {5, 3, 6, 6, 6, 1, 1, 2, 7, 9, 4, 8, 0};
enum { NSLOTS = sizeof slots / sizeof slots[0] };
static int64_t queuing_start;

static void queuing_one(void *arg)
{
    int slot = *(const int *)arg;
    weft_chan_t *c = weft_after(queuing_start + slot * 50 * MS - weft_now());
    EQ(weft_recv(c, NULL), 1);
    weft_chan_unref(c);
    EQ(weft_send(chan, &slot), 0);
}

/* In order? Never early. */
static bool queuing(void)
{
    bool ordered = true;
    queuing_start = from_now(50 * MS);
    for (int i = 0; i < NSLOTS; i++)
        go(queuing_one, (void *)(intptr_t)&slots[i]);
    for (int i = 0, last = 0; i < NSLOTS; i++) {
        int slot;
        EQ(weft_recv(chan, &slot), 1);
        OK(weft_now() >= queuing_start + slot * 50 * MS);
        ordered = ordered && slot >= last;
        last = slot;
    }
    return ordered;
}

static void queuing_body(void)
{
    chan = weft_chan_make(sizeof(int), 0);
    for (int try = 0; !queuing(); try++)
        OK(try <
           5); /* who has got it may stand still for 50 ms before it sends: Go tries five times, too */
    weft_chan_unref(chan);
}

/* Go: TestAfterStress. */
static void stress_one(void *arg)
{
    for (int i = 0; i < 100; i++) {
        int64_t ns = ((intptr_t)arg * 7919 + i * 104729) % 300 * US, start = weft_now(), at;
        weft_chan_t *c = weft_after(ns);
        if (i % 3 == 0) {
            weft_chan_unref(c); /* about when it comes, for some */
            continue;
        }
        EQ(weft_recv(c, &at), 1);
        OK(at - start >= ns);
        weft_chan_unref(c);
    }
}

static void stress_body(void)
{
    for (int i = 0; i < 100; i++)
        EQ(weft_wg_go(&wg, stress_one, (void *)(intptr_t)i), 0);
    EQ(weft_wg_wait(&wg), 0);
    no_timers();
}

/* One of those that wait gets it. */
static void wait_some(void *arg)
{
    (void)arg;
    int rc = weft_recv_until(chan, NULL, from_now(60 * MS));
    OK(rc == 1 || rc == -ETIMEDOUT);
    atomic_fetch_add(&count, rc == 1);
}

static void one_of_many_body(void)
{
    chan = weft_after(20 * MS);
    for (int i = 0; i < 5; i++)
        EQ(weft_wg_go(&wg, wait_some, NULL), 0);
    EQ(weft_wg_wait(&wg), 0);
    OK(count <= 1);
    if (count == 0) /* it is late */
        EQ(weft_recv_until(chan, NULL, from_now(20 * SEC)), 1);
    EQ(weft_try_recv(chan, NULL), -EAGAIN);
    weft_chan_unref(chan);
}

/* It is a channel: what its users do with it is not undone. */
static void used_body(void)
{
    int64_t mine = 5, at;
    weft_chan_t *closed = weft_after(20 * MS), *full = weft_after(20 * MS);
    EQ(weft_chan_close(closed), 0);
    bool first = weft_try_send(full, &mine) == 0;
    weft_sleep(25 * MS);
    no_timers();
    while (weft_recv(closed, &at) == 1) /* it was there before the close */
        OK(weft_chan_len(closed) == 0);
    EQ(weft_recv(full, &at), 1);
    OK(first ? at == mine : at > mine);
    weft_chan_unref(closed);
    weft_chan_unref(full);
}

/* ---- fairness ------------------------------------------------------------------------------- */

static int read_end = -1;

static void saturate(void *arg)
{
    weft_case_t k[2] = {{.op = WEFT_SEND, .chan = chan}, {.op = WEFT_RECV, .chan = other}};
    char byte;
    do {
        if (arg != NULL)
            EQ(read(read_end, &byte, 0), 0);
    } while (weft_select(k, 2, 0) == 0);
}

static void fairness(void *with_calls)
{
    chan = weft_chan_make(0, 0);
    other = weft_chan_make(0, 0);
    for (int i = 0; i < 2; i++)
        EQ(weft_wg_go(&wg, saturate, with_calls), 0);
    int64_t start = weft_now();
    weft_chan_t *timer = weft_after(20 * MS);
    weft_case_t k[2] = {{.op = WEFT_RECV, .chan = chan}, {.op = WEFT_RECV, .chan = timer}};
    while (weft_select(k, 2, 0) == 0)
        OK(weft_now() - start < 20 * SEC);
    EQ(weft_chan_close(other), 0);
    EQ(weft_wg_wait(&wg), 0);
    weft_chan_unref(timer);
    weft_chan_unref(chan);
    weft_chan_unref(other);
}

/* Go: TestTimerFairness. Two that keep a channel busy do not keep a timer from firing. */
static void fairness_body(void)
{
    fairness(NULL);
}

/* Go: TestTimerFairness2. The same with a system call each time. */
static void fairness_calls_body(void)
{
    int fd[2];
    EQ(pipe(fd), 0);
    read_end = fd[0];
    fairness(&wg);
    close(fd[0]);
    close(fd[1]);
}

/* ---- dropped -------------------------------------------------------------------------------- */

/* Go: TestGC of timers (1.23). What nobody refers to has no timer. */
static void dropped_body(void)
{
    enum { N = 2000 };
    static weft_chan_t *c[N];
    for (int i = 0; i < N; i++)
        OK((c[i] = weft_after(FAR + i)) != NULL);
    EQ(timers(), N);
    for (int i = 0; i < N; i += 2)
        weft_chan_unref(c[i]);
    EQ(timers(), N / 2);
    for (int i = 1; i < N; i += 2) {
        EQ(weft_chan_ref(c[i]) == c[i], 1);
        weft_chan_unref(c[i]);
    }
    EQ(timers(), N / 2); /* a reference is left */
    for (int i = 1; i < N; i += 2)
        weft_chan_unref(c[i]);
    EQ(timers(), 0);
}

/* Until that many timers are armed; one who waits with a deadline arms its own when it is queued. Or until
 * somebody has come back already. */
static void until_timers(uint64_t n)
{
    for (int64_t end = from_now(20 * SEC); timers() < n && atomic_load(&count) == 0;) {
        OK(weft_now() < end);
        weft_yield();
    }
}

/* Who is parked has a reference, and may be the last to give it up. */
static void recv_last(void *arg)
{
    (void)arg;
    EQ(weft_recv_until(chan, NULL, from_now(200 * MS)), -ETIMEDOUT);
    atomic_fetch_add(&count, 1);
}

static void select_last(void *arg)
{
    (void)arg;
    weft_case_t k[2] = {{.op = WEFT_RECV, .chan = chan}, {.op = WEFT_RECV, .chan = other}};
    EQ(weft_select(k, 2, from_now(FAR)), 1);
    atomic_fetch_add(&count, 1);
}

static void last_waiter_body(void)
{
    chan = weft_after(FAR);
    EQ(weft_wg_go(&wg, recv_last, NULL), 0);
    until_timers(2);
    weft_chan_unref(chan);
    EQ(weft_wg_wait(&wg), 0);
    no_timers();
}

static void last_select_body(void)
{
    chan = weft_after(FAR);
    other = weft_chan_make(0, 0);
    EQ(weft_wg_go(&wg, select_last, NULL), 0);
    until_timers(2);
    weft_chan_unref(chan);
    EQ(timers(), 2);
    EQ(weft_send(other, NULL), 0);
    EQ(weft_wg_wait(&wg), 0);
    no_timers();
    weft_chan_unref(other);
}

/* The receiver alone is left, and gets the time: the channel is not freed under it. */
static void recv_time(void *arg)
{
    (void)arg;
    int64_t at = 0;
    EQ(weft_recv_until(chan, &at, from_now(FAR)), 1);
    OK(at > 0 && at <= weft_now());
    atomic_fetch_add(&count, 1);
}

static void only_waiter_body(void)
{
    chan = weft_after(200 * MS);
    EQ(weft_wg_go(&wg, recv_time, NULL), 0);
    until_timers(2);
    weft_chan_unref(chan);
    EQ(weft_wg_wait(&wg), 0);
    no_timers();
}

/* ---- threads, the end of a run -------------------------------------------------------------- */

static void *foreign_main(void *arg)
{
    (void)arg;
    int64_t start = weft_now(), at;
    weft_chan_t *c = weft_after(10 * MS), *dropped = weft_after(FAR);
    weft_chan_unref(dropped);
    OK(weft_recv(c, &at) == 1 && at - start >= 10 * MS);
    weft_chan_unref(c);
    EQ(weft_send(other, NULL), 0);
    return NULL;
}

static void foreign_body(void)
{
    pthread_t th;
    other = weft_chan_make(0, 0);
    EQ(pthread_create(&th, NULL, foreign_main, NULL), 0);
    EQ(weft_recv(other, NULL), 1);
    pthread_join(th, NULL);
    no_timers();
    weft_chan_unref(other);
}

enum { KEPT = 3 };
static weft_chan_t *kept[KEPT];
static pthread_t homeless;

static void *wait_for_ever(void *arg)
{
    (void)arg;
    weft_chan_t *c = weft_after(FAR);
    atomic_fetch_add(&count, 1);
    int rc = weft_recv(c, NULL);
    weft_chan_unref(c);
    return (void *)(intptr_t)rc;
}

static void parked_for_ever(void *arg)
{
    (void)arg;
    atomic_fetch_add(&count, 1);
    weft_recv(kept[0], NULL);
    ck_abort_msg("received after the end");
}

static void end_body(void)
{
    for (int i = 0; i < KEPT; i++)
        kept[i] = weft_after(FAR);
    go(parked_for_ever, NULL);
    EQ(pthread_create(&homeless, NULL, wait_for_ever, NULL), 0);
    while (atomic_load(&count) < 2)
        weft_yield();
    weft_sleep(5 * MS);
}

static void again_body(void)
{
    EQ(weft_recv_until(kept[1], NULL, from_now(5 * MS)),
       -ETIMEDOUT); /* it belonged to the other run */
    int64_t at = 3, got;
    EQ(weft_send(kept[1], &at), 0);
    EQ(weft_recv(kept[1], &got), 1);
    EQ(got, 3);
    EQ(timers(), 0);
}

/* The timers are gone, the channels are their users'. */
START_TEST(end_of_run)
{
    void *rc;
    reset();
    EQ(weft_after(0) == NULL, 1);
    run(_i, end_body);
    pthread_join(homeless, &rc);
    OK((intptr_t)rc == -ECANCELED || (intptr_t)rc == -EPERM);
    EQ(weft_after(SEC) == NULL, 1);
    EQ(weft_try_recv(kept[0], NULL), -EAGAIN);
    EQ(weft_recv(kept[1], NULL), -EPERM);
    weft_chan_unref(kept[0]);
    run(_i, again_body);
    weft_chan_unref(kept[1]);
    weft_chan_unref(kept[2]);
}
END_TEST

/* --------------------------------------------------------------------------------------------- */

static void (*const bodies[])(void) = {
    once_body,        at_once_body,     overflow_body,    queuing_body,        stress_body,
    one_of_many_body, used_body,        fairness_body,    fairness_calls_body, dropped_body,
    last_waiter_body, last_select_body, only_waiter_body, foreign_body,
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
    return run_bodies("after", each, BODIES, end_of_run);
}
