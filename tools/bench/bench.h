/* SPDX-License-Identifier: MIT
 *
 * bench.h: between bench.c (options, timing, what is printed) and work.c (the work). */
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
