/* SPDX-License-Identifier: MIT
 *
 * bench.h: between bench.c (options, timing, what is printed), work.c, locks.c and
 * contexts.c (the work). */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include <weft.h>

enum { REPETITIONS_MAX = 101 };

/* ---- bench.c ------------------------------------------------------------------- */

/* The options. */
extern int procs, repetitions, parked_n;
extern int stack; /* of the coroutines that are started */

/* Unless ok, exit and say so. */
void check(int ok, const char *what);
/* For qsort: doubles, upwards. */
int compare(const void *a, const void *b);
/* The line of a figure, from its n repetitions, which are sorted. */
void print(const char *name, double *v, int n);

/* A coroutine on a stack of the kind that was asked for. */
static inline void go(void (*fn)(void *), void *arg)
{
    weft_attr_t attr = {.stack = stack};
    check((stack == WEFT_STACK_PRIVATE ? weft_go(fn, arg) : weft_go_with(&attr, fn, arg)) == 0,
          "weft_go");
}

static inline void nothing(void *arg)
{
    (void)arg;
}

/* ---- locks.c ------------------------------------------------------------------- */

void mutex_run(int64_t n);
void mutex4_run(int64_t n);
void rlock_run(int64_t n);
void rwlock_run(int64_t n);
void wg_run(int64_t n);
void group_run(int64_t n);
void once_run(int64_t n);
void sem_run(int64_t n);
void cond_run(int64_t n);

/* ---- contexts.c ---------------------------------------------------------------- */

void ctx_tree_run(int64_t n);
void ctx_cancel_run(int64_t n);
void ctx_deadline_run(int64_t n);
void ctx_err_run(int64_t n);
void ctx_value_run(int64_t n);

/* ---- work.c -------------------------------------------------------------------- */

struct bench {
    const char *name;
    int64_t n; /* operations a repetition */
    void (*run)(int64_t n);
    void (*before)(void), (*after)(void);
    void (*whole)(void); /* instead of all that: prints its own figures */
};
extern const struct bench benches[]; /* ends with one without a name */

#endif
