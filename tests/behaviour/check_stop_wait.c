/* SPDX-License-Identifier: MIT
 *
 * check_stop_wait.c: weft_timer_stop_wait() waits for the calls that have begun, and for no others.
 *
 * A test's body runs as the main coroutine on 1, 2 and 4 processors. Upper bounds are wide: the
 * machine may stand still for a while. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "behaviour.h"

#define FAR (3600 * SEC)

static weft_timer_t t, u;
static weft_wg_t wg;
static atomic_int begun, ended, done, result;
static weft_chan_t *gate, *gate2;

static void reset(void)
{
    memset(&t, 0, sizeof t);
    memset(&u, 0, sizeof u);
    memset(&wg, 0, sizeof wg);
    begun = ended = done = 0;
}

static void wait_for(atomic_int *what, int n)
{
    for (int64_t end = from_now(20 * SEC); atomic_load(what) < n;) {
        OK(weft_now() < end);
        weft_sleep(100 * US);
    }
}

static void slow(void *arg)
{
    atomic_fetch_add(&begun, 1);
    weft_sleep((int64_t)(intptr_t)arg);
    atomic_fetch_add(&ended, 1);
}

static void gated(void *arg)
{
    atomic_fetch_add(&begun, 1);
    EQ(weft_recv(arg, NULL), 0);
    atomic_fetch_add(&ended, 1);
}

/* ---- what it returns ------------------------------------------------------------------------ */

static void table_body(void)
{
    EQ(weft_timer_stop_wait(NULL), -EINVAL);
    EQ(weft_timer_stop_wait(&t), 0); /* never started */
    EQ(weft_timer_stop_wait_until(&t, 1), 0);
    EQ(weft_timer_start(&t, from_now(FAR), 0, slow, NULL), 0);
    EQ(weft_timer_stop_wait(&t), 1);
    EQ(weft_timer_stop_wait(&t), 0);
    EQ(weft_timer_start(&t, 0, 0, slow, NULL), 0);
    wait_for(&ended, 1);
    EQ(weft_timer_stop_wait(&t), 0);
    EQ(weft_timer_stop_wait_until(&t, 1), 0); /* it has ended: whatever the deadline */
    EQ(weft_timer_reset(&t, from_now(FAR)), 0);
    EQ(weft_timer_stop_wait_until(&t, 1), 1);
    EQ(begun, 1);
}

/* Go: TestTimerStopStress and what 1.23 promises of Stop and Reset: nothing comes afterwards. Half of
 * the calls are made by the time of the stop, some have not run yet. */
static void nothing_after_body(void)
{
    int calls = 0;
    for (int i = 0; i < 2000; i++) {
        EQ(weft_timer_start(&t, from_now(i % 50 * US), i % 3 ? 0 : 10 * US, slow,
                            (void *)(intptr_t)(i % 2 * 20 * US)),
           0);
        if (i % 4 != 0)
            weft_sleep(i % 7 * 10 * US);
        int rc = weft_timer_stop_wait(&t);
        OK(rc == 0 || rc == 1);
        EQ(begun, ended);
        calls = begun;
        OK(rc == 1 || calls > 0);
        if (i % 5 == 0)
            weft_yield();
        EQ(begun, calls);
        EQ(weft_timer_stop(&t), 0);
    }
    OK(calls > 0);
}

/* stop says that it is too late: then the call was made, and is waited for, run or not. */
static void too_late_body(void)
{
    for (int i = 0; i < 300; i++) {
        int before = ended;
        EQ(weft_timer_start(&t, 0, 0, slow, NULL), 0);
        while (weft_timer_reset(&t, 0) == 1) /* pending still; each call that is made ends */
            weft_yield();
        EQ(weft_timer_stop_wait(&t) < 0, 0);
        OK(ended > before && begun == ended);
    }
}

/* ---- which calls ---------------------------------------------------------------------------- */

/* Ticks overlap: all of them. */
static void overlap_body(void)
{
    EQ(weft_timer_start(&t, 0, 2 * MS, slow, (void *)(intptr_t)(30 * MS)), 0);
    wait_for(&begun, 4);
    EQ(weft_timer_stop_wait(&t), 1);
    OK(begun >= 4);
    EQ(begun, ended);
}

static void stopper(void *arg)
{
    atomic_store(&result, weft_timer_stop_wait(arg));
    atomic_fetch_add(&done, 1);
}

static uint64_t timers(void)
{
    weft_stats_t st;
    EQ(weft_stats(&st), 0);
    return st.timers;
}

/* One call is waited for, the timer is started again, and the call of that is still going on. False: the
 * waiter had not looked yet when it was started again. */
static bool restarted(void)
{
    reset();
    gate = weft_chan_make(0, 0);
    gate2 = weft_chan_make(0, 0);
    EQ(weft_timer_start(&t, 0, 0, gated, gate), 0);
    wait_for(&begun, 1);
    EQ(weft_timer_start(&t, from_now(FAR), 0, gated, gate), 0);
    EQ(weft_wg_go(&wg, stopper, &t), 0);
    while (timers() != 0) /* until it has stopped the timer */
        weft_yield();
    weft_sleep(10 * MS);
    EQ(done, 0);
    EQ(weft_timer_start(&t, 0, 0, gated, gate2), 0);
    wait_for(&begun, 2);
    EQ(weft_chan_close(gate), 0);
    for (int64_t end = from_now(2 * SEC); atomic_load(&done) == 0 && weft_now() < end;)
        weft_sleep(MS);
    bool in_time = done == 1;
    EQ(weft_chan_close(gate2), 0);
    EQ(weft_wg_wait(&wg), 0);
    EQ(result, 1);
    EQ(weft_timer_stop_wait(&t), 0);
    EQ(ended, 2);
    weft_chan_unref(gate);
    weft_chan_unref(gate2);
    return in_time;
}

static void restarted_body(void)
{
    int tries = 0;
    while (!restarted())
        OK(++tries < 5);
}

/* Several wait, for one timer and for another. */
static void several_body(void)
{
    gate = weft_chan_make(0, 0);
    gate2 = weft_chan_make(0, 0);
    EQ(weft_timer_start(&t, 0, 0, gated, gate), 0);
    EQ(weft_timer_start(&u, 0, 0, gated, gate2), 0);
    wait_for(&begun, 2);
    for (int i = 0; i < 5; i++)
        EQ(weft_wg_go(&wg, stopper, &t), 0);
    weft_sleep(5 * MS);
    EQ(done, 0);
    EQ(weft_chan_close(gate2), 0);
    EQ(weft_timer_stop_wait(&u), 0);
    EQ(done, 0);
    EQ(weft_chan_close(gate), 0);
    EQ(weft_wg_wait(&wg), 0);
    EQ(done, 5);
    weft_chan_unref(gate);
    weft_chan_unref(gate2);
}

/* ---- from within a call --------------------------------------------------------------------- */

static void stops_itself(void *arg)
{
    (void)arg;
    if (atomic_fetch_add(&begun, 1) > 0)
        return; /* a tick before the stop */
    EQ(weft_timer_stop_wait(&t), -EDEADLK);
    EQ(weft_timer_stop_wait_until(&t, from_now(SEC)), -EDEADLK);
    EQ(weft_timer_stop(&t), 1); /* that did not stop it */
    atomic_store(&done, 1);
}

static void own_body(void)
{
    EQ(weft_timer_start(&t, 0, 20 * MS, stops_itself, NULL), 0);
    wait_for(&done, 1);
    EQ(weft_timer_stop_wait(&t), 0);
}

/* A call may free its timer; what lies there next is another one. */
static void another(void *arg)
{
    (void)arg;
    atomic_fetch_add(&ended, 1);
}

static void frees_itself(void *arg)
{
    (void)arg;
    memset(&t, 0, sizeof t);
    EQ(weft_timer_start(&t, from_now(FAR), 0, another, NULL), 0);
    EQ(weft_timer_stop_wait(&t), 1);
    EQ(weft_timer_start(&t, 0, 0, another, NULL), 0);
    wait_for(&ended, 1);
    EQ(weft_timer_stop_wait_until(&t, from_now(20 * SEC)), 0);
    atomic_store(&done, 1);
}

static void freed_body(void)
{
    EQ(weft_timer_start(&t, 0, 0, frees_itself, NULL), 0);
    wait_for(&done, 1);
}

/* A call waits for those of another timer. */
static void stops_other(void *arg)
{
    (void)arg;
    EQ(weft_timer_stop_wait(&u), 0);
    EQ(ended, 1);
    atomic_store(&done, 1);
}

static void other_body(void)
{
    EQ(weft_timer_start(&u, 0, 0, slow, (void *)(intptr_t)(20 * MS)), 0);
    wait_for(&begun, 1);
    EQ(weft_timer_start(&t, 0, 0, stops_other, NULL), 0);
    wait_for(&done, 1);
    EQ(weft_timer_stop_wait(&t), 0);
}

/* A call may end by weft_exit(). */
static void slow_exit(void *arg)
{
    slow(arg);
    weft_exit();
}

static void exit_body(void)
{
    EQ(weft_timer_start(&t, 0, 0, slow_exit, (void *)(intptr_t)(20 * MS)), 0);
    wait_for(&begun, 1);
    EQ(weft_timer_stop_wait_until(&t, from_now(20 * SEC)), 0);
    EQ(ended, 1);
}

/* Who waits is cancelled; the call is not. */
static void cancel_body(void)
{
    weft_id_t id;
    gate = weft_chan_make(0, 0);
    EQ(weft_timer_start(&t, 0, 0, gated, gate), 0);
    wait_for(&begun, 1);
    EQ(weft_go_with(&(weft_attr_t){.id = &id}, stopper, &t), 0);
    weft_sleep(5 * MS);
    EQ(weft_cancel(id), 0);
    wait_for(&done, 1);
    EQ(result, -ECANCELED);
    EQ(weft_chan_close(gate), 0);
    EQ(weft_timer_stop_wait_until(&t, from_now(20 * SEC)), 0);
    EQ(ended, 1);
    weft_chan_unref(gate);
}

/* ---- deadlines, threads, the end of a run ---------------------------------------------------- */

static void until_body(void)
{
    gate = weft_chan_make(0, 0);
    EQ(weft_timer_start(&t, 0, 0, gated, gate), 0);
    wait_for(&begun, 1);
    int64_t start = weft_now();
    EQ(weft_timer_stop_wait_until(&t, 1), -ETIMEDOUT);
    EQ(weft_timer_stop_wait_until(&t, start + 5 * MS), -ETIMEDOUT);
    OK(weft_now() - start >= 5 * MS);
    EQ(weft_timer_reset(&t, from_now(FAR)), 0);
    EQ(weft_timer_stop_wait_until(&t, from_now(5 * MS)), -ETIMEDOUT);
    EQ(weft_timer_stop(&t), 0); /* it was stopped all the same */
    EQ(weft_chan_close(gate), 0);
    EQ(weft_timer_stop_wait_until(&t, from_now(20 * SEC)), 0);
    EQ(ended, 1);
    weft_chan_unref(gate);
}

static void *foreign_main(void *arg)
{
    (void)arg;
    EQ(weft_timer_start(&t, 0, 0, gated, gate), 0);
    while (atomic_load(&begun) == 0)
        weft_sleep(MS);
    EQ(weft_timer_stop_wait_until(&t, from_now(5 * MS)), -ETIMEDOUT);
    atomic_store(&done, 1);
    EQ(weft_timer_stop_wait(&t), 0);
    EQ(ended, 1);
    return NULL;
}

static void foreign_body(void)
{
    pthread_t th;
    gate = weft_chan_make(0, 0);
    EQ(pthread_create(&th, NULL, foreign_main, NULL), 0);
    wait_for(&done, 1);
    weft_sleep(5 * MS);
    EQ(weft_chan_close(gate), 0);
    pthread_join(th, NULL); /* blocks this thread: another goes on */
    weft_chan_unref(gate);
}

static pthread_t homeless;

static void *stop_for_ever(void *arg)
{
    (void)arg;
    atomic_store(&done, 1);
    return (void *)(intptr_t)weft_timer_stop_wait(&t);
}

static void end_body(void)
{
    gate = weft_chan_make(0, 0);
    EQ(weft_timer_start(&t, 0, 0, gated, gate), 0);
    wait_for(&begun, 1);
    go(stopper, &t);
    EQ(pthread_create(&homeless, NULL, stop_for_ever, NULL), 0);
    wait_for(&done, 1);
    weft_sleep(20 * MS);
}

static void again_body(void)
{
    EQ(weft_timer_stop_wait(&t), 0); /* its call was abandoned */
    EQ(weft_timer_reset(&t, 0), 0);
    weft_chan_close(gate);
    wait_for(&ended, 1);
    EQ(weft_timer_stop_wait(&t), 0);
}

START_TEST(end_of_run)
{
    void *rc;
    reset();
    run(_i, end_body);
    pthread_join(homeless, &rc);
    OK((intptr_t)rc == -ECANCELED || (intptr_t)rc == -EPERM || (intptr_t)rc == 0);
    EQ(weft_timer_stop_wait(&t), 0);
    run(_i, again_body);
    weft_chan_unref(gate);
}
END_TEST

/* --------------------------------------------------------------------------------------------- */

static void (*const bodies[])(void) = {
    table_body,   nothing_after_body, too_late_body, overlap_body, restarted_body,
    several_body, exit_body,          cancel_body,   own_body,     freed_body,
    other_body,   until_body,         foreign_body,
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
    return run_bodies("stop_wait", each, BODIES, end_of_run);
}
