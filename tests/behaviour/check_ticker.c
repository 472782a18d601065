/* SPDX-License-Identifier: MIT
 *
 * check_ticker.c: what Go's tests of package time ask beyond check_time.c and check_after.c: tickers,
 * many timers that change all the time, signals.
 *
 * A test's body runs as the main coroutine on 1, 2 and 4 processors. Upper bounds are wide: the
 * machine may stand still for a while. */
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "behaviour.h"

#define FAR (3600 * SEC)

static atomic_int count;
static weft_wg_t wg;

static void reset(void)
{
    count = 0;
    memset(&wg, 0, sizeof wg);
}

static void add_one(void *arg)
{
    (void)arg;
    atomic_fetch_add(&count, 1);
}

static void never(void *arg)
{
    (void)arg;
    ck_abort_msg("a timer fired that was stopped");
}

static void wait_count(int n)
{
    for (int64_t end = from_now(20 * SEC); atomic_load(&count) < n;) {
        OK(weft_now() < end);
        weft_sleep(100 * US);
    }
}

/* ---- tickers -------------------------------------------------------------------------------- */

/* Ticks as Go's readers see them: what finds no room is dropped. */
static weft_chan_t *ticks;

static void tick(void *arg)
{
    (void)arg;
    int64_t now = weft_now();
    int rc = weft_try_send(ticks, &now);
    OK(rc == 0 || rc == -EAGAIN);
}

/* How long ten ticks take, from the first on. */
static int64_t ten_ticks(weft_timer_t *t, int64_t period)
{
    int64_t first, last;
    EQ(weft_timer_start(t, from_now(period), period, tick, NULL), 0);
    EQ(weft_recv(ticks, &first), 1);
    for (int i = 0; i < 10; i++)
        EQ(weft_recv(ticks, &last), 1);
    EQ(weft_timer_stop_wait(t), 1);
    return last - first;
}

/* Go: TestTicker. Ten ticks take ten periods, with another period ten of these; after the stop there are none. A
 * machine that stands still spoils a try, not five. */
static void rate_body(void)
{
    weft_timer_t t = {{0}};
    ticks = weft_chan_make(sizeof(int64_t), 1);
    for (int try = 0;; try++) {
        int64_t one = ten_ticks(&t, 5 * MS), two = ten_ticks(&t, 10 * MS);
        while (weft_try_recv(ticks, NULL) == 1)
            ;
        if (one >= 35 * MS && one <= 65 * MS && two >= 70 * MS && two <= 130 * MS)
            break;
        OK(try < 20);
    }
    weft_sleep(30 * MS);
    EQ(weft_try_recv(ticks, NULL), -EAGAIN);
    weft_chan_unref(ticks);
}

/* A slow receiver finds one tick, not all that it missed, as with Go's Ticker; the next one is new. The
 * sender may be slow as well, for a try or two. */
static bool slow_reader(void)
{
    weft_timer_t t = {{0}};
    int64_t start = weft_now(), one, two;
    EQ(weft_timer_start(&t, start, 2 * MS, tick, NULL), 0);
    weft_sleep(50 * MS);
    EQ(weft_recv(ticks, &one), 1);
    EQ(weft_recv(ticks, &two), 1);
    EQ(weft_timer_stop_wait(&t), 1);
    while (weft_try_recv(ticks, NULL) == 1)
        ;
    return one < start + 25 * MS && two >= start + 50 * MS;
}

static void slow_reader_body(void)
{
    ticks = weft_chan_make(sizeof(int64_t), 1);
    for (int try = 0; !slow_reader(); try++)
        OK(try < 20);
    weft_chan_unref(ticks);
}

/* Go: TestTeardown. Started, used once and stopped, again and again. */
static void teardown_body(void)
{
    ticks = weft_chan_make(sizeof(int64_t), 1);
    for (int i = 0; i < 3; i++) {
        weft_timer_t t = {{0}};
        EQ(weft_timer_start(&t, from_now(20 * MS), 20 * MS, tick, NULL), 0);
        EQ(weft_recv(ticks, NULL), 1);
        EQ(weft_timer_stop_wait(&t), 1);
        while (weft_try_recv(ticks, NULL) == 1)
            ;
    }
    weft_stats_t st;
    EQ(weft_stats(&st), 0);
    EQ(st.timers, 0);
    weft_chan_unref(ticks);
}

/* Go: TestNewTickerLtZeroDuration, TestTickerResetLtZeroDuration, TestZeroTimer*Panics: what panics there is
 * an error, or means nothing, here. */
static void refused_body(void)
{
    weft_timer_t t = {{0}};
    EQ(weft_timer_start(&t, 0, -1, never, NULL), -EINVAL);
    EQ(weft_timer_start(&t, 0, INT64_MIN, never, NULL), -EINVAL);
    EQ(weft_timer_stop(&t), 0);
    EQ(weft_timer_stop_wait(&t), 0);
    EQ(weft_timer_reset(&t, 0), -EINVAL);
}

/* Go: TestOverflowPeriodRuntimeTimer, TestOverflowSleep for timers. Times as far as can be. */
static void overflow_body(void)
{
    static weft_timer_t t[4];
    memset(t, 0, sizeof t);
    EQ(weft_timer_start(&t[0], INT64_MAX, 0, never, NULL), 0);
    EQ(weft_timer_start(&t[1], INT64_MAX, INT64_MAX, never, NULL), 0);
    EQ(weft_timer_start(&t[2], 0, INT64_MAX, add_one, NULL), 0);
    EQ(weft_timer_start(&t[3], INT64_MIN, 0, add_one, NULL), 0);
    wait_count(2);
    weft_sleep(10 * MS);
    EQ(count, 2);
    EQ(weft_timer_reset(&t[1], INT64_MAX - 1), 1);
    EQ(weft_timer_reset(&t[0], from_now(FAR)), 1);
    for (int i = 0; i < 3; i++)
        EQ(weft_timer_stop_wait(&t[i]), 1);
    EQ(weft_timer_stop_wait(&t[3]), 0);
    EQ(count, 2);
}

/* ---- many timers that change ---------------------------------------------------------------- */

/* Go: TestTimerStopStress. */
static void stop_soon(void *arg)
{
    weft_timer_t *t = arg;
    EQ(weft_timer_start(t, from_now(20 * SEC), 0, never, NULL), 0);
    weft_sleep(MS);
    EQ(weft_timer_stop(t), 1);
}

static void stop_stress_body(void)
{
    static weft_timer_t t[100];
    memset(t, 0, sizeof t);
    for (int i = 0; i < 100; i++)
        EQ(weft_wg_go(&wg, stop_soon, &t[i]), 0);
    EQ(weft_wg_wait(&wg), 0);
}

/* Go: TestAdjustTimers. A hundred timers, each a step further in a random order; in the end all have
 * fired, none early. */
typedef struct {
    weft_timer_t t;
    int state;
    int64_t due;
    atomic_int fired;
} Walker;

enum { WALKERS = 100, STATES = 9 };

static void walker_fire(void *arg)
{
    Walker *w = arg;
    OK(weft_now() >= w->due);
    atomic_fetch_add(&w->fired, 1);
}

static void walker_wait(Walker *w, int n)
{
    for (int64_t end = from_now(20 * SEC); atomic_load(&w->fired) < n;) {
        OK(weft_now() < end);
        weft_yield();
    }
    EQ(w->fired, n);
}

static void walker_step(Walker *w)
{
    switch (w->state++) {
    case 0:
        EQ(weft_timer_start(&w->t, 0, 0, walker_fire, w), 0);
        break;
    case 1:
        walker_wait(w, 1);
        break;
    case 2:
    case 6:
        EQ(weft_timer_reset(&w->t, from_now(FAR)), 0);
        break;
    case 3:
        EQ(weft_timer_stop(&w->t), 1);
        EQ(weft_timer_reset(&w->t, from_now(3 * FAR)), 0);
        break;
    case 4:
        EQ(weft_timer_reset(&w->t, from_now(2 * FAR)), 1);
        break;
    case 5:
        EQ(weft_timer_stop_wait(&w->t), 1);
        break;
    case 7:
        w->due = from_now(10 * MS);
        EQ(weft_timer_reset(&w->t, w->due), 1);
        break;
    default:
        walker_wait(w, 2);
    }
}

static void walk_body(void)
{
    static Walker w[WALKERS];
    static int at[WALKERS * STATES];
    unsigned seed = 12345;
    memset((void *)w, 0, sizeof w);
    for (int i = 0; i < WALKERS * STATES; i++)
        at[i] = i % WALKERS;
    for (int i = WALKERS * STATES - 1; i > 0; i--) {
        int k = (int)((seed = seed * 1664525u + 1013904223u) >> 8) % (i + 1), x = at[i];
        at[i] = at[k];
        at[k] = x;
    }
    for (int i = 0; i < WALKERS * STATES; i++)
        walker_step(&w[at[i]]);
    for (int i = 0; i < WALKERS; i++)
        EQ(w[i].fired, 2);
}

/* Go: TestLongAdjustTimers. While thousands are moved about, a short one is not forgotten. */
enum { MANY = 3000 };
static weft_timer_t many[MANY];
static atomic_bool enough;

static void move_about(void *arg)
{
    (void)arg;
    unsigned seed = 99;
    while (!atomic_load(&enough)) {
        for (int i = 0; i < MANY; i++) {
            seed = seed * 1664525u + 1013904223u;
            EQ(weft_timer_reset(&many[i], from_now(FAR + (int64_t)(seed >> 8) * US)), 1);
        }
        weft_yield();
    }
}

static void long_adjust_body(void)
{
    memset(many, 0, sizeof many);
    atomic_store(&enough, false);
    for (int i = 0; i < MANY; i++)
        EQ(weft_timer_start(&many[i], from_now(FAR + i), 0, never, NULL), 0);
    EQ(weft_wg_go(&wg, move_about, NULL), 0);
    for (int i = 0; i < 10; i++) {
        int64_t when = from_now(5 * MS);
        weft_timer_t t = {{0}};
        EQ(weft_timer_start(&t, when, 0, add_one, NULL), 0);
        wait_count(i + 1);
        OK(weft_now() >= when);
        EQ(weft_timer_stop_wait(&t), 0);
    }
    atomic_store(&enough, true);
    EQ(weft_wg_wait(&wg), 0);
    for (int i = 0; i < MANY; i++)
        EQ(weft_timer_stop(&many[i]), 1);
}

/* A timer is armed again while it fires: each arming that found it idle is one call. Go: synctest's
 * TestTimerReset, the races of Reset with a firing. */
static void reset_firing_body(void)
{
    weft_timer_t t = {{0}};
    int calls = 1;
    EQ(weft_timer_start(&t, 0, 0, add_one, NULL), 0);
    for (int i = 0; i < 20000; i++) {
        calls += weft_timer_reset(&t, i % 3 ? 0 : from_now(i % 20 * US)) == 0;
        if (i % 8 == 0)
            weft_yield();
    }
    calls -= weft_timer_stop_wait(&t);
    EQ(count, calls);
    OK(calls > 1);
}

/* ---- signals -------------------------------------------------------------------------------- */

static atomic_int alarms;

static void on_alarm(int signo)
{
    (void)signo;
    atomic_fetch_add(&alarms, 1);
}

static void sleep_through(void *arg)
{
    (void)arg;
    int64_t start = weft_now();
    EQ(weft_sleep(50 * MS), 0);
    OK(weft_now() - start >= 50 * MS);
}

/* Go: TestSleep, its signal half-way; TestSpuriousWakeupsNeverHangSemasleep: what waits is neither woken
 * early by signals nor kept by them. (SIGALRM is Check's; the handler stays, for a signal that comes late.) */
static void signals_body(void)
{
    struct sigaction sa = {.sa_handler = on_alarm};
    struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2};
    struct itimerspec fast = {{0, 2 * MS}, {0, 2 * MS}};
    timer_t timer;
    alarms = 0;
    EQ(sigaction(SIGUSR2, &sa, NULL), 0);
    EQ(timer_create(CLOCK_MONOTONIC, &ev, &timer), 0);
    EQ(timer_settime(timer, 0, &fast, NULL), 0);
    int64_t start = weft_now(), at;
    weft_chan_t *c = weft_after(100 * MS);
    for (int i = 0; i < 10; i++)
        EQ(weft_wg_go(&wg, sleep_through, NULL), 0);
    EQ(weft_recv(c, &at), 1);
    OK(at - start >= 100 * MS);
    EQ(weft_wg_wait(&wg), 0);
    EQ(timer_delete(timer), 0);
    OK(alarms > 0);
    weft_chan_unref(c);
}

/* --------------------------------------------------------------------------------------------- */

static void (*const bodies[])(void) = {
    rate_body,        slow_reader_body, teardown_body,    refused_body,      overflow_body,
    stop_stress_body, walk_body,        long_adjust_body, reset_firing_body, signals_body,
};
enum { BODIES = sizeof bodies / sizeof bodies[0] };

START_TEST(each)
{
    reset();
    run(_i % NPROCS, bodies[_i / NPROCS]);
}
END_TEST

/* Tickers that are pending when the run ends do not tick in the next. */
static weft_timer_t left;

static void leave_body(void)
{
    EQ(weft_timer_start(&left, from_now(5 * MS), 5 * MS, add_one, NULL), 0);
    wait_count(2);
}

static int before_end;

static void later_body(void)
{
    weft_sleep(30 * MS);
    EQ(count, before_end);
    EQ(weft_timer_stop_wait(&left), 0);
    EQ(weft_timer_reset(&left, 0), 0);
    wait_count(before_end + 2); /* the period is as before */
    EQ(weft_timer_stop_wait(&left), 1);
}

START_TEST(end_of_run)
{
    reset();
    run(_i, leave_body);
    before_end = count;
    run(_i, later_body);
}
END_TEST

int main(void)
{
    return run_bodies("ticker", each, BODIES, end_of_run);
}
