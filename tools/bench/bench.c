/* SPDX-License-Identifier: MIT
 *
 * bench.c: what weft's operations cost. tools/bench/README.md says how each
 * figure is taken, work.c has the work; peers/gobench does the same in Go, under the
 * same names.
 *
 * usage: bench [-c] [-p PROCS] [-r REPETITIONS] [-n PARKED] [NAME...]
 *
 * -c: the coroutines that a benchmark starts are on copied stacks. The one that runs
 * the benchmark is not, so what they share may lie on its stack.
 *
 * One line per figure: name, procs, median and minimum of the repetitions, in
 * nanoseconds per operation (bytes for parked_bytes), separated by tabs.
 */
#include "bench.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int procs = 1, repetitions = 5;
int parked_n = 100000;
int stack = WEFT_STACK_PRIVATE;
static const char *current; /* name of the benchmark that runs */

void check(int ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "bench: %s: %s failed\n", current, what);
        exit(1);
    }
}

/* ---- figures ------------------------------------------------------------------- */

int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void print(const char *name, double *v, int n)
{
    qsort(v, (size_t)n, sizeof(*v), compare);
    printf("%s\t%d\t%.3f\t%.3f\n", name, procs, v[n / 2], v[0]);
    fflush(stdout);
}

/* ---- running them -------------------------------------------------------------- */

static int bench_main(void *arg)
{
    const struct bench *b = arg;
    double v[REPETITIONS_MAX];
    if (b->whole != NULL) {
        b->whole();
        return 0;
    }
    if (b->before != NULL)
        b->before();
    b->run(b->n / 10 + 1); /* warm: memory, branch predictors, threads */
    for (int r = 0; r < repetitions; r++) {
        int64_t t = weft_now();
        b->run(b->n);
        v[r] = (double)(weft_now() - t) / (double)b->n;
    }
    if (b->after != NULL)
        b->after();
    print(b->name, v, repetitions);
    return 0;
}

static void bench_run(const struct bench *b)
{
    weft_config_t cfg = {.procs = procs};
    current = b->name;
    check(weft_run_with(&cfg, bench_main, (void *)b) == 0, "weft_run");
}

static int usage(void)
{
    fprintf(stderr, "usage: bench [-c] [-p procs] [-r repetitions] [-n parked] [name...]\nnames:");
    for (int i = 0; benches[i].name != NULL; i++)
        fprintf(stderr, " %s", benches[i].name);
    fprintf(stderr, "\n");
    return 2;
}

static bool bench_by_name(const char *name)
{
    for (int i = 0; benches[i].name != NULL; i++) {
        if (strcmp(benches[i].name, name) == 0) {
            bench_run(&benches[i]);
            return true;
        }
    }
    return false;
}

int main(int argc, char **argv)
{
    int opt;
    while ((opt = getopt(argc, argv, "cp:r:n:")) != -1) {
        int v = optarg != NULL ? atoi(optarg) : 0;
        if (opt == 'c')
            stack = WEFT_STACK_COPIED;
        else if (opt == 'p' && v > 0)
            procs = v;
        else if (opt == 'r' && v > 0 && v <= REPETITIONS_MAX)
            repetitions = v;
        else if (opt == 'n' && v > 0)
            parked_n = v;
        else
            return usage();
    }
    for (int i = 0; optind == argc && benches[i].name != NULL; i++)
        bench_run(&benches[i]);
    for (; optind < argc; optind++) {
        if (!bench_by_name(argv[optind]))
            return usage();
    }
    return 0;
}
