/* SPDX-License-Identifier: MIT
 *
 * stress_blocked500.c: five hundred coroutines blocked in the kernel at the same time, on two processors,
 * and what becomes of a ticker of 1 ms beside them. Prints the figures that were promised:
 *
 *   plain      nanosleep(300 ms): all done within 3 s, the ticker late by 2.5 ms at most (p50); ten
 *              seconds later there are at most procs + 4 threads
 *   blocking   the same through weft_blocking(): 0.6 s, 0.3 ms
 *
 * WEFT_STRICT=1, on an idle machine, keeps to these, and waits the ten seconds; otherwise the bounds
 * are what a busy machine can keep. */
#include "config.h"

#include <unistd.h>

#include "tests/behaviour/preempt_test.h"
#include "tests/stress/stress.h"

static const int64_t MS = 1000000;
enum { SLEEPERS = 500, SLEEP_MS = 300, TICKS = 100000 };
static int bad;

/* Counted, so that all figures are seen before the program fails. */
static void promise(bool kept, const char *what)
{
    if (!kept) {
        printf("stress_blocked500: MISSED: %s\n", what);
        bad++;
    }
}

static weft_wg_t wg, ticking;
static _Atomic bool stop;
static int64_t late[TICKS];
static size_t ticks;
static _Atomic int slept;

static void *sleep_plain(void *arg)
{
    struct timespec ts = {0, SLEEP_MS * MS};
    int64_t begin = weft_now();
    OK(nanosleep(&ts, NULL) == 0);
    OK(weft_now() - begin >= SLEEP_MS * MS);
    slept++;
    return arg;
}

static void plain(void *arg)
{
    sleep_plain(arg);
    weft_wg_done(&wg);
}

static void blocking(void *arg)
{
    void *got = NULL;
    OK(weft_blocking(sleep_plain, &got, &got) == 0 && got == &got);
    (void)arg;
    weft_wg_done(&wg);
}

/* Late against the time it asked for, not against a raster: a late tick is counted once. */
static void ticker(void *arg)
{
    (void)arg;
    for (ticks = 0; !stop && ticks < TICKS;) {
        int64_t due = weft_now() + MS;
        OK(weft_sleep_until(due) == 0);
        late[ticks++] = weft_now() - due;
    }
    weft_wg_done(&ticking);
}

static bool named(const char *what)
{
    const char *debug = getenv("WEFT_DEBUG");
    return debug != NULL && strstr(debug, what) != NULL;
}

static void part(const char *name, void (*fn)(void *), int64_t most, int64_t most_late)
{
    weft_attr_t attr = {.name = name, .stack_max = 64 * 1024};
    stop = false;
    slept = 0;
    OK(weft_wg_add(&ticking, 1) == 0 && weft_go(ticker, NULL) == 0);
    OK(weft_sleep(20 * MS) == 0);
    int64_t begin = weft_now();
    OK(weft_wg_add(&wg, SLEEPERS) == 0);
    for (int i = 0; i < SLEEPERS; i++)
        OK(weft_go_with(&attr, fn, NULL) == 0);
    OK(weft_wg_wait(&wg) == 0);
    int64_t took = weft_now() - begin;
    stop = true;
    OK(weft_wg_wait(&ticking) == 0);
    OK(slept == SLEEPERS);
    int64_t p50 = quantile(late, ticks, 500);
    weft_stats_t s;
    OK(weft_stats(&s) == 0);
    printf("%s: %d x %d ms in %lld ms; ticker late by p50 %lld us, p99 %lld us, max %lld us; %d "
           "threads; Ps retaken %llu declared, %llu undeclared\n",
           name, SLEEPERS, SLEEP_MS, (long long)(took / MS), (long long)p50 / 1000,
           (long long)quantile(late, ticks, 990) / 1000,
           (long long)quantile(late, ticks, 1000) / 1000, count_threads(),
           (unsigned long long)s.retaken_declared, (unsigned long long)s.retaken_undeclared);
    promise(took <= most, "all within the time");
    promise(p50 <= most_late, "the ticker");
}

static int run_main(void *arg)
{
    (void)arg;
    part("plain", plain, (strict() ? 3000 : 20000) * MS, strict() ? MS * 5 / 2 : 300 * MS);
    part("blocking", blocking, (strict() ? 600 : 10000) * MS, strict() ? MS * 3 / 10 : 300 * MS);
    if (strict()) {
        weft_stats_t s;
        OK(weft_sleep(10000 * MS) == 0);
        OK(weft_stats(&s) == 0);
        int n = count_threads();
        printf("%d threads in the process 10 s later\n", n);
        promise((uint64_t)n <= s.procs + 4, "the threads are gone");
    }
    return 0;
}

int main(void)
{
    weft_config_t cfg = {.stack = test_stack(), .procs = 2};
    if (named("threads=1")) {
        puts("skipped: each has a thread of its own");
        return 0;
    }
    OK(weft_run_with(&cfg, run_main, NULL) == 0);
    return bad == 0 ? 0 : 1;
}
