/* SPDX-License-Identifier: MIT
 *
 * summary.c: what a trace says in numbers: time running, runnable, blocked, by the coroutines' names; the waits by
 * reason; how long those that could run waited for that.
 */
#include "weft-trace.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *name;
    size_t coros;
    uint64_t runs;
    int64_t ns[STATES];
} Group;

typedef struct {
    uint64_t n;
    int64_t ns, most;
    const char *name;
} Reason;

typedef struct {
    Trace *t;
    Group *group; /* by name, then by time */
    size_t ngroups;
    Reason reason[REASONS + 1]; /* the last: in the kernel */
    int64_t *latency;
    size_t nlatencies, room;
} Summary;

static int by_name(const void *a, const void *b)
{
    return strcmp(((const Group *)a)->name, ((const Group *)b)->name);
}

static int by_running(const void *a, const void *b)
{
    const Group *x = a, *y = b;
    if (x->ns[RUNNING] != y->ns[RUNNING])
        return x->ns[RUNNING] > y->ns[RUNNING] ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int by_time(const void *a, const void *b)
{
    const Reason *x = a, *y = b;
    return x->ns > y->ns ? -1 : x->ns < y->ns;
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static void make_groups(Summary *s)
{
    Trace *t = s->t;
    size_t kept = 0;
    s->group = xrealloc(NULL, t->ncoros, sizeof *s->group);
    for (size_t i = 0; i < t->ncoros; i++)
        s->group[i] = (Group){.name = trace_called(t, &t->coro[i])};
    qsort(s->group, t->ncoros, sizeof *s->group, by_name);
    for (size_t i = 0; i < t->ncoros; i++)
        if (kept == 0 || strcmp(s->group[kept - 1].name, s->group[i].name) != 0)
            s->group[kept++] = s->group[i];
    s->ngroups = kept;
    for (size_t i = 0; i < t->ncoros; i++) {
        Group key = {.name = trace_called(t, &t->coro[i])};
        Group *g = bsearch(&key, s->group, kept, sizeof key, by_name);
        g->coros++;
        t->coro[i].group = (size_t)(g - s->group);
    }
}

static void on_span(void *arg, const Span *x)
{
    Summary *s = arg;
    Group *g = &s->group[x->coro->group];
    int64_t ns = x->to - x->from;
    g->ns[x->state] += ns;
    g->runs += x->state == RUNNING;
    if (x->state == WAITING || x->state == IN_KERNEL) {
        Reason *r = &s->reason[x->state == WAITING ? x->why : REASONS];
        r->name = trace_doing(s->t, x->state, x->why);
        r->n++;
        r->ns += ns;
        r->most = ns > r->most ? ns : r->most;
    }
    if (x->state == RUNNABLE && x->next == RUNNING) {
        if (s->nlatencies == s->room)
            s->latency = xrealloc(s->latency, s->room = 2 * s->room + 1024, sizeof *s->latency);
        s->latency[s->nlatencies++] = ns;
    }
}

static double ms(int64_t ns)
{
    return (double)ns / 1e6;
}

static void print_groups(const Summary *s, size_t rows, FILE *out)
{
    fprintf(out, "%12s %12s %12s %10s %8s  %s\n", "running ms", "runnable ms", "blocked ms", "runs",
            "number", "coroutines");
    for (size_t i = 0; i < s->ngroups && i < rows; i++) {
        const Group *g = &s->group[i];
        fprintf(out, "%12.3f %12.3f %12.3f %10" PRIu64 " %8zu  %s\n", ms(g->ns[RUNNING]),
                ms(g->ns[RUNNABLE]), ms(g->ns[WAITING] + g->ns[IN_KERNEL]), g->runs, g->coros,
                g->name);
    }
    if (s->ngroups > rows)
        fprintf(out, "%58s  and %zu names more: -n\n", "", s->ngroups - rows);
}

static void print_reasons(Summary *s, FILE *out)
{
    qsort(s->reason, REASONS + 1, sizeof s->reason[0], by_time);
    fprintf(out, "\n%12s %12s %12s  %s\n", "blocked ms", "longest ms", "times", "for");
    for (size_t i = 0; i <= REASONS && s->reason[i].n > 0; i++)
        fprintf(out, "%12.3f %12.3f %12" PRIu64 "  %s\n", ms(s->reason[i].ns),
                ms(s->reason[i].most), s->reason[i].n, s->reason[i].name);
}

static int64_t quantile(const Summary *s, size_t percent)
{
    return s->latency[(s->nlatencies - 1) * percent / 100];
}

static void print_latencies(Summary *s, FILE *out)
{
    if (s->nlatencies == 0)
        return;
    qsort(s->latency, s->nlatencies, sizeof *s->latency, by_value);
    fprintf(out, "\nscheduling latency, us: p50 %.3f  p90 %.3f  p99 %.3f  max %.3f  of %zu waits\n",
            (double)quantile(s, 50) / 1e3, (double)quantile(s, 90) / 1e3,
            (double)quantile(s, 99) / 1e3, (double)quantile(s, 100) / 1e3, s->nlatencies);
}

void summary_print(Trace *t, size_t rows, FILE *out)
{
    Summary s = {.t = t};
    Sink sink = {.arg = &s, .span = on_span};
    make_groups(&s);
    replay(t, &sink);
    qsort(s.group, s.ngroups, sizeof *s.group, by_running);
    fprintf(out, "%.3f ms, %zu events, %zu coroutines, %" PRIu64 " records lost%s\n\n",
            ms(t->end - t->begin), t->nevents, t->ncoros, t->lost,
            t->whole ? "" : "; the file was cut short");
    print_groups(&s, rows, out);
    print_reasons(&s, out);
    print_latencies(&s, out);
    free(s.group);
    free(s.latency);
}
