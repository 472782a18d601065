/* SPDX-License-Identifier: MIT
 *
 * weft-trace.h: the parts of weft-trace(1).
 *
 * read.c takes a file apart: events in the order of their times, names, symbols, reasons. replay.c goes through the events
 * and knows at each moment what every coroutine does; each time that changes it tells of the span that is over. summary.c
 * adds the spans up, json.c writes them down. main.c has the arguments.
 */
#ifndef WEFT_TRACE_H
#define WEFT_TRACE_H

#include "trace_format.h"

#include <stdbool.h>
#include <stdio.h>

enum State { UNKNOWN, RUNNING, RUNNABLE, WAITING, IN_KERNEL, ENDED, STATES };

enum { NAME_SIZE = 64, SYMBOL_SIZE = 224, REASONS = 256, NO_P = TRACE_NO_P };

typedef struct {
    uint64_t id;
    char name[NAME_SIZE]; /* "": none */
    uint64_t site;        /* code address, 0: unknown */
    enum State state;
    int64_t since, born;
    uint8_t why;  /* WAITING */
    uint16_t p;   /* RUNNING */
    size_t group; /* summary.c */
} Coro;

typedef struct {
    uint64_t pc;
    char text[SYMBOL_SIZE];
} Symbol;

typedef struct {
    TraceRecord *all; /* the file */
    size_t nall;
    const TraceRecord **event; /* by time */
    size_t nevents;
    Coro *coro; /* by id */
    size_t ncoros;
    Symbol *symbol; /* by address */
    size_t nsymbols;
    char reason[REASONS][NAME_SIZE];
    int64_t begin, end;
    bool whole; /* TRACE_END is there */
    uint64_t lost;
} Trace;

/* read.c. false: said on standard error */
bool trace_read(Trace *t, const char *path);
void trace_free(Trace *t);
Coro *trace_coro(const Trace *t, uint64_t id);           /* NULL: there is none */
const char *trace_called(const Trace *t, const Coro *c); /* its name, or where it was made */
const char *trace_doing(const Trace *t, enum State s, uint8_t why);
void *xrealloc(void *p, size_t n, size_t size); /* ends the program without memory */

/* A coroutine was in this state from then to then. p: where it was RUNNING, or NO_P. */
typedef struct {
    const Coro *coro;
    enum State state;
    uint8_t why;
    uint16_t p;
    int64_t from, to;
    enum State next;
} Span;

/* Who is told; any may be NULL. */
typedef struct {
    void *arg;
    void (*born)(void *arg, const Coro *c, int64_t when);
    void (*span)(void *arg, const Span *s);
    void (*ended)(void *arg, const Coro *c, int64_t when); /* or the trace has */
    void (*event)(void *arg, const TraceRecord *x);        /* what is no change of a state */
} Sink;

void replay(Trace *t, const Sink *sink); /* replay.c */

bool json_write(Trace *t, const char *path);          /* json.c; "-": standard output */
void summary_print(Trace *t, size_t rows, FILE *out); /* summary.c */

#endif
