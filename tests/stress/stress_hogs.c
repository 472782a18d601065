/* SPDX-License-Identifier: MIT
 *
 * stress_hogs.c: many coroutines that only compute, and what becomes of the
 * others beside them. Prints the figures that were promised, and fails when one
 * is missed:
 *
 *   share     of the processors' time that each of many hogs gets: 0.5 to 2 times the mean
 *   threads   that they need: procs + 6 where all may be moved; where not, one
 *             each, and those are gone again some seconds after
 *   print     one line to a stream that twenty write to, beside four hogs: 20 ms
 *             (p99.9); malloc and free: 10 ms (max)
 *
 * WEFT_STRESS_SECONDS (2) are divided among these. WEFT_STRICT=1 is the real thing:
 * a thousand hogs for thirty seconds, the promised bounds, and ten seconds' wait
 * for the threads; otherwise there are fewer hogs, shorter slices, and bounds
 * that a busy machine can keep. WEFT_HOGS=N sets their number. */
#include "config.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/behaviour/preempt_test.h"
#include "tests/stress/stress.h"

static const int64_t MS = 1000000;
static int bad;

/* A promise: counted, so that all figures are seen before the program fails. */
static void promise(bool kept, const char *what)
{
    if (!kept) {
        printf("stress_hogs: MISSED: %s\n", what);
        bad++;
    }
}

static double seconds;
static int nhogs;
static Hog *hogs;
static _Atomic bool stop;
static weft_wg_t wg;

static weft_stats_t stats(void)
{
    weft_stats_t s;
    OK(weft_stats(&s) == 0);
    return s;
}

static void start_hogs(int n, unsigned flags)
{
    weft_attr_t attr = {.name = "hog", .flags = flags, .stack_max = 256 * 1024};
    stop = false;
    OK(weft_wg_add(&wg, n) == 0);
    for (int i = 0; i < n; i++) {
        hogs[i] = (Hog){.stop = &stop, .wg = &wg};
        OK(weft_go_with(&attr, hog, &hogs[i]) == 0);
    }
}

static void end_hogs(void)
{
    stop = true;
    OK(weft_wg_wait(&wg) == 0);
}

/* ---- shares and threads ------------------------------------------------------------------ */

static bool chaotic(void)
{
    const char *debug = getenv("WEFT_DEBUG");
    return debug != NULL && strstr(debug, "chaos=") != NULL;
}

static void all_run_once(void)
{
    int64_t late = weft_now() + 120000 * MS;
    for (int i = 0; i < nhogs; i++) {
        while (hogs[i].rounds == 0) {
            OK(weft_now() < late);
            weft_sleep(MS);
        }
    }
}

static void shares(const char *what)
{
    uint64_t *begin = calloc((size_t)nhogs, sizeof *begin), sum = 0, lo = UINT64_MAX, hi = 0;
    OK(begin != NULL);
    for (int i = 0; i < nhogs; i++)
        begin[i] = hogs[i].rounds;
    weft_sleep((int64_t)(seconds * 1e9));
    for (int i = 0; i < nhogs; i++) {
        uint64_t n = hogs[i].rounds - begin[i];
        sum += n;
        lo = n < lo ? n : lo;
        hi = n > hi ? n : hi;
    }
    free(begin);
    double mean = (double)sum / nhogs, least = (double)lo / mean, most = (double)hi / mean;
    printf("%s: %d hogs, %.1f s: share %.2f .. %.2f\n", what, nhogs, seconds, least, most);
    if (!chaotic()) /* chance is not fair so soon */
        promise(least >= (strict() ? 0.5 : 0.2) && most <= (strict() ? 2 : 4), "fair shares");
}

static int ordinary(void *arg)
{
    (void)arg;
    start_hogs(nhogs, 0);
    all_run_once();
    shares("ordinary");
    print_preemptions("ordinary");
    end_hogs();
    if (strict()) {
        weft_sleep(10000 * MS);
        weft_stats_t s = stats();
        printf("ordinary: %llu threads 10 s later\n", (unsigned long long)s.threads);
        promise(s.threads <= s.procs + 6, "the threads are gone");
    }
    return 0;
}

static int movable(void *arg)
{
    uint64_t most = 0;
    (void)arg;
    start_hogs(nhogs, WEFT_MOVABLE);
    all_run_once();
    most = stats().threads;
    shares("movable");
    print_preemptions("movable");
    weft_stats_t s = stats();
    most = s.threads > most ? s.threads : most;
    end_hogs();
#ifdef WEFT_ASAN /* its calls in every function are not proved harmless */
    return 0;
#endif
    if (!chaotic()) /* chance takes processors from what computes, as if it were in the kernel */
        promise(most <= s.procs + 6, "movable hogs need no threads of their own");
    promise(s.preempt_moved > 0, "movable hogs are moved");
    return 0;
}

/* ---- printers and allocators beside four hogs ----------------------------------------------- */

enum { PRINTERS = 20, ROUNDS = 20000 };
static FILE *out;
static int64_t end;
static struct {
    int64_t print[ROUNDS], most_malloc;
    int n;
} printers[PRINTERS];

static void printer(void *arg)
{
    int i = (int)(intptr_t)arg;
    while (weft_now() < end && printers[i].n < ROUNDS) {
        int64_t a = weft_now();
        fprintf(out, "printer %d, line %d: %.3f and more\n", i, printers[i].n, (double)a * 1e-9);
        int64_t b = weft_now();
        void *p = malloc((size_t)(b % 5000)), *q = malloc(100000);
        OK(p != NULL && q != NULL);
        free(p);
        free(q);
        int64_t c = weft_now();
        printers[i].print[printers[i].n++] = b - a;
        if (c - b > printers[i].most_malloc)
            printers[i].most_malloc = c - b;
        weft_sleep(200000);
    }
    weft_wg_done(&wg);
}

static int printing(void *arg)
{
    static int64_t all[PRINTERS * ROUNDS];
    size_t n = 0;
    int64_t most_malloc = 0;
    (void)arg;
    end = weft_now() + (int64_t)(seconds * 1e9);
    start_hogs(4, 0);
    OK(weft_wg_add(&wg, PRINTERS) == 0);
    for (intptr_t i = 0; i < PRINTERS; i++)
        OK(weft_go(printer, (void *)i) == 0);
    weft_sleep_until(end);
    end_hogs();
    for (int i = 0; i < PRINTERS; i++) {
        for (int k = 0; k < printers[i].n; k++)
            all[n++] = printers[i].print[k];
        if (printers[i].most_malloc > most_malloc)
            most_malloc = printers[i].most_malloc;
    }
    int64_t p999 = quantile(all, n, 999);
    printf("printing: %zu lines: p50 %lld us, p99 %lld us, p99.9 %lld us, max %lld us; malloc "
           "max %lld us\n",
           n, (long long)quantile(all, n, 500) / 1000, (long long)quantile(all, n, 990) / 1000,
           (long long)p999 / 1000, (long long)quantile(all, n, 1000) / 1000,
           (long long)most_malloc / 1000);
    print_preemptions("printing");
    OK(n > PRINTERS);
    promise(p999 <= (strict() ? 20 : 500) * MS, "print within 20 ms, p99.9");
    /* Chaos: who has the lock is as likely to run as any hog, and a woken waiter to be late for it. */
    promise(most_malloc <= (strict() ? 10 : chaotic() ? 5000 : 500) * MS, "malloc within 10 ms");
    return 0;
}

static void part(int (*fn)(void *), int64_t slice)
{
    weft_config_t cfg = {.stack = test_stack(), .procs = 2, .slice = slice};
    int rc = weft_run_with(&cfg, fn, NULL);
    fflush(stdout);
    if (rc != 0) {
        fprintf(stderr, "stress_hogs: weft_run: %d\n", rc);
        exit(1);
    }
}

int main(void)
{
#ifdef WEFT_TSAN
    puts("skipped: with the thread sanitizer there is no preemption");
    return 0;
#endif
    const char *n = getenv("WEFT_HOGS");
    seconds = stress_seconds();
    seconds = strict() && seconds < 30 ? 30 : seconds;
    nhogs = n != NULL ? atoi(n) : strict() ? 1000 : 40;
    hogs = calloc((size_t)(nhogs < 4 ? 4 : nhogs), sizeof *hogs);
    out = tmpfile();
    OK(nhogs > 0 && hogs != NULL && out != NULL);
    /* Each hog must have its turn several times within the time. */
    int64_t slice = strict() ? 0 : 2 * MS;
    if (!strict())
        seconds /= 3;
    part(ordinary, slice);
    part(movable, slice);
    if (strict())
        seconds = 10;
    part(printing, 0);
    return bad == 0 ? 0 : 1;
}
