/* SPDX-License-Identifier: MIT
 *
 * trace_test.h: the file of a trace, read and held to what must be true of any.
 */
#ifndef TRACE_TEST_H
#define TRACE_TEST_H

#include "trace_format.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    TraceRecord *x; /* events by time; texts before them */
    size_t n;
    bool whole;
    uint64_t lost;
} TraceFile;

static inline int trace_by_time(const void *a, const void *b)
{
    const TraceRecord *x = a, *y = b;
    return x->when < y->when ? -1 : x->when > y->when;
}

/* A file that ends well begins with a header and ends with TRACE_END. NULL: it does; else what is wrong. */
static inline const char *trace_load(TraceFile *f, const char *path)
{
    *f = (TraceFile){0};
    FILE *in = fopen(path, "rb");
    if (in == NULL)
        return "no file";
    fseek(in, 0, SEEK_END);
    long size = ftell(in);
    rewind(in);
    f->n = (size_t)size / sizeof *f->x;
    f->x = calloc(f->n + 1, sizeof *f->x);
    bool read = f->x != NULL && fread(f->x, sizeof *f->x, f->n, in) == f->n;
    fclose(in);
    if (!read || size % (long)sizeof *f->x != 0 || f->n < 2)
        return "not a number of records";
    if (f->x[0].kind != TRACE_HEADER || f->x[0].id != TRACE_MAGIC || f->x[0].p != TRACE_VERSION)
        return "no header";
    if (f->x[f->n - 1].kind != TRACE_END)
        return "no end";
    f->lost = f->x[f->n - 1].id;
    for (size_t i = 1; i < f->n; i++) {
        if (f->x[i].kind <= TRACE_VOID || f->x[i].kind >= TRACE_KINDS)
            return "a record of no kind";
        if (f->x[i].kind < TRACE_EXISTS)
            f->x[i].when = 0;
    }
    qsort(f->x, f->n, sizeof *f->x, trace_by_time);
    return NULL;
}

static inline size_t trace_count(const TraceFile *f, uint8_t kind, uint64_t id)
{
    size_t n = 0;
    for (size_t i = 0; i < f->n; i++)
        n += f->x[i].kind == kind && (id == 0 || f->x[i].id == id);
    return n;
}

/* Nothing was lost: then a coroutine begins to run only when it does not run, and stops only when it does (but for the
 * first time, as it may have run before), and does nothing after its end. */
static inline const char *trace_check(const TraceFile *f, uint64_t id)
{
    enum { BEFORE, RUNS, STOPPED, ENDED } state = BEFORE;
    for (size_t i = 0; i < f->n; i++) {
        const TraceRecord *x = &f->x[i];
        bool begins =
            (x->kind == TRACE_SWITCH && x->arg == id) || (x->kind == TRACE_RESUME && x->id == id);
        bool stops = x->id == id &&
                     (x->kind == TRACE_SWITCH || x->kind == TRACE_WAIT || x->kind == TRACE_RETAKE ||
                      (x->kind == TRACE_PREEMPT && x->detail == 1));
        if ((begins || stops) && state == ENDED)
            return "runs after its end";
        if (begins && state == RUNS)
            return "runs twice";
        if (stops && state == STOPPED && x->kind != TRACE_WAIT)
            return "stops twice";
        if (begins)
            state = RUNS;
        else if (stops)
            state = x->kind == TRACE_SWITCH && x->detail == TRACE_EXITS ? ENDED : STOPPED;
    }
    return NULL;
}

#endif
