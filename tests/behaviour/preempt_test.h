/* SPDX-License-Identifier: MIT
 *
 * preempt_test.h: what the tests of preemption have in common. Plain C without
 * Check, so that stress and torture programs use it too.
 *
 * Bounds of time: machines that run tests are shared, and a thread of ours may
 * have to wait for a processor longer than anything that weft does. Each test
 * therefore has a generous bound, prints the figure, and keeps to the bound that
 * was promised when WEFT_STRICT=1 is set, on an idle machine.
 *
 * The storm: WEFT_DEBUG=preempt=US stops a running coroutine every US
 * microseconds of its CPU time if anything else could run. Without permission
 * for perf events a tick takes a jiffy (4 ms), and far less happens.
 */
#ifndef PREEMPT_TEST_H
#define PREEMPT_TEST_H

#include <dirent.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/stack_test.h"

/* The run's preemption: "50", "200", "off"; what else WEFT_DEBUG says (a chaos
 * seed) stays. Before weft_run(). */
static inline void storm(const char *preempt)
{
    const char *old = getenv("WEFT_DEBUG");
    char kept[200] = "", now[256];
    while (old != NULL && *old != '\0') {
        size_t len = strcspn(old, ",");
        if (strncmp(old, "preempt=", 8) != 0 && strlen(kept) + len + 2 < sizeof kept) {
            strncat(kept, old, len);
            strcat(kept, ",");
        }
        old += len + (old[len] == ',');
    }
    snprintf(now, sizeof now, "%spreempt=%s", kept, preempt);
    setenv("WEFT_DEBUG", now, 1);
}

/* Of this process; -1: cannot be told. */
static inline int count_threads(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/task");
    if (d == NULL)
        return -1;
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

/* WEFT_DEBUG already chooses what preemption does: a test that has no need of a
 * certain storm leaves it. */
static inline bool storm_given(void)
{
    const char *s = getenv("WEFT_DEBUG");
    return s != NULL && strstr(s, "preempt=") != NULL;
}

/* Something must have been preempted in this run, else it shows nothing. Not when the
 * user has switched it off, to see what the work itself does. */
static inline bool storm_seen(void)
{
    const char *env = getenv("WEFT_DEBUG");
    weft_stats_t s;
    if (env != NULL && strstr(env, "preempt=off") != NULL)
        return true;
    return weft_stats(&s) == 0 && s.preempt_handed + s.preempt_moved > 0;
}

static inline bool strict(void)
{
    const char *s = getenv("WEFT_STRICT");
    return s != NULL && *s == '1';
}

/* Milliseconds of CPU time the calling thread has used. Only for code that
 * stays on its thread. */
static inline double cpu_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

/* Compute for about ms milliseconds of real time without calling weft, libc's
 * clock apart. */
static inline void burn_ms(double ms)
{
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (;;) {
        for (volatile int i = 0; i < 1000; i++)
            ;
        clock_gettime(CLOCK_MONOTONIC, &b);
        if ((double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6 >= ms)
            return;
    }
}

/* Preemptions of the run so far, of all three kinds. */
static inline uint64_t preemptions(void)
{
    weft_stats_t s;
    if (weft_stats(&s) != 0)
        return 0;
    return s.preempt_flagged + s.preempt_handed + s.preempt_moved;
}

static inline void print_preemptions(const char *who)
{
    weft_stats_t s;
    if (weft_stats(&s) == 0)
        printf("%s: stopped itself %llu, handed over %llu, moved %llu; %llu threads\n", who,
               (unsigned long long)s.preempt_flagged, (unsigned long long)s.preempt_handed,
               (unsigned long long)s.preempt_moved, (unsigned long long)s.threads);
    fflush(stdout);
}

/* A coroutine that computes until *stop and counts. The function calls nothing
 * and has no thread-local: WEFT_MOVABLE may be used with it. */
typedef struct {
    _Alignas(128) _Atomic uint64_t rounds; /* neighbours run at the same time */
    _Atomic bool *stop;                    /* NULL: never */
    weft_wg_t *wg;                         /* done at the end; or NULL */
} Hog;

static inline void hog_loop(Hog *h)
{
    while (h->stop == NULL || !atomic_load_explicit(h->stop, memory_order_relaxed))
        atomic_store_explicit(&h->rounds,
                              atomic_load_explicit(&h->rounds, memory_order_relaxed) + 1,
                              memory_order_relaxed);
}

static inline void hog(void *arg)
{
    Hog *h = arg;
    hog_loop(h);
    if (h->wg != NULL)
        weft_wg_done(h->wg);
}

static inline int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* The permille-th of n figures, which get sorted. */
static inline int64_t quantile(int64_t *v, size_t n, unsigned permille)
{
    if (n == 0)
        return 0;
    qsort(v, n, sizeof *v, by_size);
    size_t i = n * permille / 1000;
    return v[i < n ? i : n - 1];
}

#endif
