/* SPDX-License-Identifier: MIT
 *
 * preempt_cost: what it costs to stop one coroutine that computes and go on with
 * another, in microseconds, by holding it on its thread and by moving it.
 *
 * usage: preempt_cost [ROUNDS]      (default 15)
 *        preempt_cost slice [PAIRS]  (default 61)
 *
 * A fixed amount of work on one processor under WEFT_DEBUG=preempt=100, once by one
 * coroutine, so that every tick finds nothing to switch to, and once by two, half
 * each, so that every tick switches. The difference of the two times, divided by
 * the number of switches that weft counted, is the cost of one: stopping the one,
 * going on with the other. That is two ways for a processor: from the coroutine that
 * is held to a spare thread, and from there to the thread of the other. A round is
 * A B A B...; the medians count. The ticks themselves are in both and cancel out; see
 * tick_cost for them. With longer slices there are fewer stops, and what they cost is lost
 * in the machine's noise.
 *
 * All threads are kept on one CPU, where holding costs what it costs. With an idle
 * CPU beside, the kernel wakes the other thread there, and a sleeping CPU of a virtual
 * machine takes 50 us to come: the last line, which is not a cost of the CPU in use.
 *
 * `slice`: what a busy loop loses to the ticks of an ordinary run when nothing waits: the same work
 * of half a second under WEFT_DEBUG=preempt=off and with a slice of 10 ms, in turns, in CPU time of the thread; the median of
 * the differences of pairs, and of pairs without ticks in both, which says what to make of it.
 */

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <weft.h>

enum { WORK = 150000000, SLICE_WORK = 250000000, MOST_ROUNDS = 99, MOST_PAIRS = 9999 };

typedef struct {
    int coroutines;
    unsigned flags;
    int64_t ns;       /* out */
    uint64_t stopped; /* out */
} Case;

static void work(void *arg)
{
    uint64_t x = 1, n = *(int64_t *)arg > 0 ? (uint64_t) * (int64_t *)arg : 0;
    for (uint64_t i = 0; i < n; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        __asm__ volatile("" : "+r"(x));
    }
}

typedef struct {
    weft_wg_t wg;
    int64_t n;
} Job;

static void job(void *arg)
{
    Job *j = arg;
    work(&j->n);
    weft_wg_done(&j->wg);
    __asm__ volatile(""); /* no tail call: what it jumps to counts as its code (safepoint.c) */
}

static int case_main(void *arg)
{
    Case *c = arg;
    Job j = {.n = WORK / c->coroutines};
    weft_attr_t attr = {.flags = c->flags};
    weft_stats_t s;
    int64_t start = weft_now();
    weft_wg_add(&j.wg, c->coroutines);
    for (int i = 0; i < c->coroutines; i++)
        if (weft_go_with(&attr, job, &j) != 0)
            return 1;
    weft_wg_wait(&j.wg);
    c->ns = weft_now() - start;
    weft_stats(&s);
    c->stopped = c->flags != 0 ? s.preempt_moved : s.preempt_handed;
    return 0;
}

static int by_number(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(const char *name, unsigned flags, int rounds)
{
    static const weft_config_t cfg = {.procs = 1};
    double cost[MOST_ROUNDS];
    uint64_t stopped = 0;
    for (int i = 0; i < rounds; i++) {
        Case one = {.coroutines = 1, .flags = flags}, two = {.coroutines = 2, .flags = flags};
        if (weft_run_with(&cfg, case_main, &one) != 0 || weft_run_with(&cfg, case_main, &two) != 0)
            exit(1);
        stopped += two.stopped;
        cost[i] = two.stopped == 0 ? 0 : (double)(two.ns - one.ns) / (double)two.stopped / 1000;
    }
    qsort(cost, (size_t)rounds, sizeof cost[0], by_number);
    printf("%s\tus\tmedian %.1f\tfrom %.1f to %.1f\t(%llu stops)", name, cost[rounds / 2], cost[0],
           cost[rounds - 1], (unsigned long long)stopped);
    if (flags == 0)
        printf("\t%.1f each way", cost[rounds / 2] / 2);
    putchar('\n');
}

/* ---- slice ------------------------------------------------------------------------ */

static int lonely_main(void *arg)
{
    struct timespec from, to;
    int64_t n = SLICE_WORK;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
    work(&n);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
    *(double *)arg = (double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec);
    return 0;
}

static double lonely(const char *debug)
{
    static const weft_config_t cfg = {.procs = 1};
    double ns = 0;
    setenv("WEFT_DEBUG", debug, 1);
    if (weft_run_with(&cfg, lonely_main, &ns) != 0)
        exit(1);
    return ns;
}

/* In per cent of without. The order of the two changes, for a machine that gets slower or faster meanwhile. */
static void compare_slices(const char *name, const char *with, int pairs)
{
    static double lost[MOST_PAIRS];
    for (int i = 0; i < pairs; i++) {
        double first = lonely(i % 2 == 0 ? "preempt=off" : with);
        double second = lonely(i % 2 == 0 ? with : "preempt=off");
        lost[i] = i % 2 == 0 ? (second / first - 1) * 100 : (first / second - 1) * 100;
    }
    qsort(lost, (size_t)pairs, sizeof lost[0], by_number);
    printf("%s\t%%\tmedian %.3f\tquartiles %.3f %.3f\t(%d pairs)\n", name, lost[pairs / 2],
           lost[pairs / 4], lost[pairs * 3 / 4], pairs);
}

static int slice_cost(int pairs)
{
    if (pairs < 1 || pairs > MOST_PAIRS)
        return 2;
    compare_slices("no ticks against none", "preempt=off", pairs);
    compare_slices("ticks against none", "", pairs);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "slice") == 0)
        return slice_cost(argc > 2 ? atoi(argv[2]) : 61);
    int rounds = argc > 1 ? atoi(argv[1]) : 15;
    if (rounds < 1 || rounds > MOST_ROUNDS) {
        fprintf(stderr, "usage: preempt_cost [ROUNDS]\n");
        return 2;
    }
    cpu_set_t all, one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    setenv("WEFT_DEBUG", "preempt=100", 0);
    sched_getaffinity(0, sizeof all, &all);
    sched_setaffinity(0, sizeof one, &one);
    measure("hold and go on", 0, rounds);
    measure("move and go on", WEFT_MOVABLE, rounds);
    sched_setaffinity(0, sizeof all, &all);
    measure("hold and go on, several CPUs", 0, rounds);
    return 0;
}
