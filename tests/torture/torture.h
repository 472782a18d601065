/* SPDX-License-Identifier: MIT
 *
 * torture.h: the frame of the torture programs: workers that do checked work of a
 * grown-up library until the time is over, under the storms. README.md. */
#ifndef TORTURE_H
#define TORTURE_H

#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/behaviour/preempt_test.h"

static _Noreturn void die(const char *what, const char *why, int line)
{
    fprintf(stderr, "torture: line %d: %s%s%s\n", line, what, why[0] != '\0' ? ": " : "", why);
    abort();
}
#define OK(x) ((x) ? (void)0 : die(#x, "", __LINE__))

typedef struct Torture Torture;
struct Torture {
    const char *name;
    void (*unit)(Torture *, void *state);
    void *(*begin)(Torture *); /* a worker's own state; or NULL */
    void (*end)(Torture *, void *state);
    int workers;
    _Atomic uint64_t units;
};

static Torture *torture_all;
static int torture_n;
static _Atomic int torture_id;
static int64_t torture_until;
static weft_wg_t torture_wg;

/* Between units a worker yields: units themselves make no weft call. */
static void torture_worker(void *arg)
{
    Torture *t = arg;
    void *state = t->begin != NULL ? t->begin(t) : NULL;
    do {
        int tid = gettid();
        t->unit(t, state);
        OK(gettid() == tid); /* who is not movable stays where it is */
        if (++t->units % 4 == 0)
            weft_sleep(50000);
        else
            weft_yield();
    } while (weft_now() < torture_until);
    if (t->end != NULL)
        t->end(t, state);
    weft_wg_done(&torture_wg);
}

static int torture_entry(void *arg)
{
    torture_until = weft_now() + (int64_t)(*(double *)arg * 1e9);
    for (int k = 0; k < torture_n; k++) {
        weft_attr_t attr = {.name = torture_all[k].name};
        OK(weft_wg_add(&torture_wg, torture_all[k].workers) == 0);
        for (int i = 0; i < torture_all[k].workers; i++)
            OK(weft_go_with(&attr, torture_worker, &torture_all[k]) == 0);
    }
    OK(weft_wg_wait(&torture_wg) == 0);
    print_preemptions(getenv("WEFT_DEBUG"));
    OK(storm_seen());
    return 0;
}

/* main: WEFT_TORTURE_SECONDS (4), half under each of two storms, or all of it under what
 * WEFT_DEBUG names. */
static inline int torture(Torture *all, int n)
{
    static const char *const storms[] = {"200", "50"};
    const char *env = getenv("WEFT_TORTURE_SECONDS");
    double seconds = env != NULL ? atof(env) : 4;
    weft_config_t cfg = {.stack = test_stack(), .procs = 2};
    int rc = 0;
#ifdef WEFT_TSAN
    puts("skipped: with the thread sanitizer there is no preemption");
    return 77;
#endif
    torture_all = all;
    torture_n = n;
    if (storm_given()) {
        rc = weft_run_with(&cfg, torture_entry, &seconds);
    } else {
        seconds /= 2;
        for (int i = 0; i < 2 && rc == 0; i++) {
            storm(storms[i]);
            rc = weft_run_with(&cfg, torture_entry, &seconds);
        }
    }
    for (int i = 0; i < n; i++) {
        printf("%s: %llu units by %d coroutines\n", all[i].name, (unsigned long long)all[i].units,
               all[i].workers);
        OK(all[i].units > 0);
    }
    return rc == 0 ? 0 : 1;
}

#endif
