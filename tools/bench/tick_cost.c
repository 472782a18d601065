/* SPDX-License-Identifier: MIT
 *
 * tick_cost.c: what the signals of sys/linux/tick.c cost, without a runtime.
 * Linked with the library's objects: sys_* are hidden.
 *
 * usage: tick_cost [PAIRS]
 *
 * tick    a busy loop of 20 ms with a tick against the same without, in turns;
 *         the median of the paired differences in per cent, the number of ticks in all,
 *         and the difference divided by the ticks
 * poke, nudge   to a thread that computes: the call, and until its handler runs
 * naps    pokes and nudges of a thread that keeps going to sleep: naps cut short
 * state   sys_task_runs() of a thread that sleeps, and of one that runs
 */
#include "sys/sys.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 2001, POKES = 501, TRIES = 1000 };
static const int64_t MS = 1000000;

static SysTick tick, own; /* the other thread's, the main thread's */
static _Atomic int ticks, doing, ready, tries_cut;
static _Atomic int64_t arrived;
static char alt[2][128 * 1024];
enum { COMPUTE, NAP, SLEEP, END };

static void look(bool poked, void *uc)
{
    (void)poked, (void)uc;
    atomic_store(&arrived, sys_now());
    ticks++;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof(*v), compare);
    return v[n / 2];
}

/* ---- ticks ------------------------------------------------------------------- */

static int64_t cpu_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return ts.tv_sec * 1000 * MS + ts.tv_nsec;
}

/* In CPU time, which leaves out what other threads take. It counts interrupts, but
 * on a kernel with CONFIG_IRQ_TIME_ACCOUNTING. */
static int64_t work(int64_t loops)
{
    int64_t start = cpu_now();
    for (volatile int64_t i = 0; i < loops; i++)
        ;
    return cpu_now() - start;
}

static void measure_tick(const char *name, SysTickSource source, int64_t period, int pairs)
{
    static double diff[MOST];
    int64_t loops = 1000000, off = 0;
    int rc = sys_tick_start(&own, source, 0, 0);
    if (rc != 0) {
        printf("tick\t%s\tnot to be had: %d\n", name, rc);
        sys_tick_stop(&own);
        return;
    }
    loops = loops * 20 * MS / work(loops);
    ticks = 0;
    for (int i = 0; i < pairs; i++) {
        int64_t t[2];
        for (int k = 0; k < 2; k++) {
            int on = k ^ (i & 1); /* either comes first as often */
            sys_tick_period(&own, on ? period : 0);
            t[on] = work(loops);
        }
        diff[i] = 100.0 * (double)(t[1] - t[0]) / (double)t[0];
        off += t[0];
    }
    sys_tick_stop(&own);
    double d = median(diff, pairs);
    printf("tick\t%s\t%.3f %%\t%d ticks\t%.2f us each\n", name, d, ticks,
           ticks == 0 ? 0 : d / 100 * (double)off / ticks / 1000);
    fflush(stdout);
}

/* ---- another thread -------------------------------------------------------------- */

static void stay_on(int cpu) /* where there is no such CPU: anywhere */
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((unsigned)cpu, &set);
    sched_setaffinity(0, sizeof(set), &set);
}

static void other(void *arg)
{
    stay_on(1);
    struct timespec ts = {0, 1000}, longer = {0, 50 * MS};
    (void)arg;
    sys_altstack_set(alt[1], sizeof(alt[1]));
    sys_tick_start(&tick, SYS_TICK_TIMER, 0, 0);
    ready = 1;
    while (doing != END)
        if (doing == NAP)
            tries_cut += nanosleep(&ts, NULL) != 0;
        else if (doing == SLEEP)
            nanosleep(&longer, NULL);
    sys_tick_stop(&tick);
}

static int send(int way)
{
    if (way == 1)
        return sys_tick_nudge(&tick);
    sys_tick_poke(&tick);
    return 0;
}

static void measure_send(int way)
{
    static double sent[POKES], took[POKES];
    const char *name = way == 1 ? "nudge" : "poke";
    for (int i = 0; i < POKES; i++) {
        int before = ticks;
        int64_t start = sys_now();
        int rc = send(way);
        sent[i] = (double)(sys_now() - start) / 1000;
        if (rc != 0) {
            printf("%s\tnot to be had: %d\n", name, rc);
            return;
        }
        while (ticks == before)
            ;
        took[i] = (double)(arrived - start) / 1000;
        usleep(300);
    }
    double s = median(sent, POKES), t = median(took, POKES);
    printf("%s\tcall %.1f us (p99 %.1f)\tarrives after %.1f us (p99 %.1f)\n", name, s,
           sent[POKES * 99 / 100], t, took[POKES * 99 / 100]);
}

/* way 0: poke; 1: nudge; 2: poke if the thread is not blocked at that moment */
static void measure_naps(int way)
{
    static const char *const names[] = {"poke", "nudge", "poke if running"};
    int sent = 0, before;
    usleep(1000);
    tries_cut = 0;
    before = ticks;
    for (int i = 0; i < TRIES; i++) {
        if (way != 2 || sys_task_runs(tick.tid) == 1) {
            if (send(way) != 0)
                return;
            sent++;
        }
        usleep(150);
    }
    usleep(1000);
    printf("naps\t%s\t%d sent, %d arrived, %d naps cut short\n", names[way], sent, ticks - before,
           tries_cut);
}

static void measure_state(const char *name)
{
    enum { N = 2000 };
    int runs = 0;
    int64_t start = sys_now();
    for (int i = 0; i < N; i++)
        runs += sys_task_runs(tick.tid) == 1;
    printf("state\t%s\t%.2f us\t%d of %d said running\n", name,
           (double)(sys_now() - start) / N / 1000, runs, N);
}

static void measure_other(void)
{
    SysThread thread;
    stay_on(0);
    doing = COMPUTE;
    if (sys_thread_create(&thread, other, NULL) != 0)
        return;
    while (ready == 0)
        usleep(100);
    measure_send(0);
    measure_state("running");
    doing = NAP;
    measure_naps(0);
    measure_naps(2);
    doing = SLEEP;
    usleep(3000);
    measure_state("asleep");
    doing = COMPUTE;
    measure_send(1); /* from here on the thread has an event */
    doing = NAP;
    measure_naps(1);
    doing = END;
    sys_thread_join(&thread);
}

int main(int argc, char **argv)
{
    int pairs = argc > 1 ? atoi(argv[1]) : 101;
    if (pairs < 1 || pairs > MOST)
        pairs = MOST;
    sys_altstack_set(alt[0], sizeof(alt[0]));
    if (sys_tick_install(0, look) != 0)
        return 1;
    measure_tick("timer 10 ms", SYS_TICK_TIMER, 10 * MS, pairs);
    measure_tick("timer 1 ms (a jiffy)", SYS_TICK_TIMER, MS, pairs);
    measure_tick("perf 10 ms", SYS_TICK_PERF, 10 * MS, pairs);
    measure_tick("perf 1 ms", SYS_TICK_PERF, MS, pairs);
    measure_tick("perf 100 us", SYS_TICK_PERF, MS / 10, pairs);
    measure_other();
    sys_tick_remove();
    return 0;
}
