/* SPDX-License-Identifier: MIT
 *
 * read.c: the file of a trace into memory. Its format: runtime/trace_format.h.
 */
#include "weft-trace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void *xrealloc(void *p, size_t n, size_t size)
{
    void *q = reallocarray(p, n > 0 ? n : 1, size);
    if (q == NULL) {
        fprintf(stderr, "weft-trace: out of memory\n");
        exit(1);
    }
    return q;
}

static bool read_file(Trace *t, const char *path)
{
    size_t room = 0;
    FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    if (f == NULL) {
        fprintf(stderr, "weft-trace: %s: %s\n", path, strerror(errno));
        return false;
    }
    for (size_t n = 1; n > 0; t->nall += n) {
        if (t->nall == room)
            t->all = xrealloc(t->all, room = room > 0 ? 2 * room : 65536, sizeof *t->all);
        n = fread(t->all + t->nall, sizeof *t->all, room - t->nall, f);
    }
    bool ok = !ferror(f);
    if (!ok)
        fprintf(stderr, "weft-trace: %s: %s\n", path, strerror(errno));
    if (f != stdin)
        fclose(f);
    return ok;
}

static bool is_trace(const Trace *t, const char *path)
{
    const TraceRecord *h = t->all;
    if (t->nall == 0 || h->kind != TRACE_HEADER || h->id != TRACE_MAGIC) {
        fprintf(stderr, "weft-trace: %s: not a trace of weft's, or of another machine\n", path);
        return false;
    }
    if (h->p != TRACE_VERSION) {
        fprintf(stderr, "weft-trace: %s: a trace of version %u, this program knows %u\n", path,
                h->p, (unsigned)TRACE_VERSION);
        return false;
    }
    return true;
}

static bool is_event(const TraceRecord *x)
{
    return x->kind >= TRACE_EXISTS && x->kind < TRACE_END;
}

/* By time; those of the same as they are in the file. */
static int by_time(const void *a, const void *b)
{
    const TraceRecord *x = *(TraceRecord *const *)a, *y = *(TraceRecord *const *)b;
    if (x->when != y->when)
        return x->when < y->when ? -1 : 1;
    return x < y ? -1 : x > y;
}

static void sort_events(Trace *t)
{
    t->event = xrealloc(NULL, t->nall, sizeof *t->event);
    for (size_t i = 0; i < t->nall; i++) {
        if (is_event(&t->all[i]))
            t->event[t->nevents++] = &t->all[i];
        if (t->all[i].kind == TRACE_END) {
            t->whole = true;
            t->lost = t->all[i].id;
            t->end = t->all[i].when;
        }
    }
    qsort(t->event, t->nevents, sizeof *t->event, by_time);
    t->begin = t->all[0].when;
    if (t->nevents > 0 && t->event[0]->when < t->begin)
        t->begin = t->event[0]->when;
    if (t->nevents > 0 && t->event[t->nevents - 1]->when > t->end)
        t->end = t->event[t->nevents - 1]->when;
    if (t->end < t->begin)
        t->end = t->begin;
}

/* ---- coroutines and symbols, by number ---- */

static int by_id(const void *a, const void *b)
{
    uint64_t x = ((const Coro *)a)->id, y = ((const Coro *)b)->id;
    return x < y ? -1 : x > y;
}

static int by_pc(const void *a, const void *b)
{
    uint64_t x = ((const Symbol *)a)->pc, y = ((const Symbol *)b)->pc;
    return x < y ? -1 : x > y;
}

static void list_coros(Trace *t)
{
    size_t n = 0, kept = 0;
    Coro *c = xrealloc(NULL, 2 * t->nevents, sizeof *c);
    for (size_t i = 0; i < t->nevents; i++) {
        const TraceRecord *x = t->event[i];
        if (x->id != 0)
            c[n++] = (Coro){.id = x->id, .p = NO_P};
        if (x->kind == TRACE_SWITCH && x->arg != 0)
            c[n++] = (Coro){.id = x->arg, .p = NO_P};
    }
    qsort(c, n, sizeof *c, by_id);
    for (size_t i = 0; i < n; i++)
        if (kept == 0 || c[kept - 1].id != c[i].id)
            c[kept++] = c[i];
    t->coro = xrealloc(c, kept, sizeof *c);
    t->ncoros = kept;
}

static void list_symbols(Trace *t)
{
    size_t n = 0;
    for (size_t i = 0; i < t->nall; i++)
        n += t->all[i].kind == TRACE_SYMBOL && t->all[i].detail == 0;
    t->symbol = xrealloc(NULL, n, sizeof *t->symbol);
    for (size_t i = 0; i < t->nall; i++)
        if (t->all[i].kind == TRACE_SYMBOL && t->all[i].detail == 0)
            t->symbol[t->nsymbols++] = (Symbol){.pc = t->all[i].id};
    qsort(t->symbol, n, sizeof *t->symbol, by_pc);
}

Coro *trace_coro(const Trace *t, uint64_t id)
{
    Coro key = {.id = id};
    return id == 0 ? NULL : bsearch(&key, t->coro, t->ncoros, sizeof key, by_id);
}

static Symbol *symbol_of(const Trace *t, uint64_t pc)
{
    Symbol key = {.pc = pc};
    return bsearch(&key, t->symbol, t->nsymbols, sizeof key, by_pc);
}

/* One piece of a text, into a place that holds size bytes. */
static void add_piece(char *to, size_t size, TraceRecord *x)
{
    size_t at = (size_t)x->detail * TRACE_TEXT;
    if (at == 0)
        memset(to, 0, size);
    if (at + 1 < size)
        memcpy(to + at, trace_text(x), at + TRACE_TEXT < size ? TRACE_TEXT : size - 1 - at);
}

static void read_texts(Trace *t)
{
    for (size_t i = 0; i < t->nall; i++) {
        TraceRecord *x = &t->all[i];
        Coro *c = x->kind == TRACE_NAME ? trace_coro(t, x->id) : NULL;
        Symbol *s = x->kind == TRACE_SYMBOL ? symbol_of(t, x->id) : NULL;
        if (c != NULL)
            add_piece(c->name, sizeof c->name, x);
        else if (s != NULL)
            add_piece(s->text, sizeof s->text, x);
        else if (x->kind == TRACE_WHY && x->id < REASONS)
            add_piece(t->reason[x->id], NAME_SIZE, x);
        if (x->kind == TRACE_SPAWN || x->kind == TRACE_EXISTS)
            trace_coro(t, x->id)->site = x->arg;
    }
}

bool trace_read(Trace *t, const char *path)
{
    *t = (Trace){0};
    if (!read_file(t, path) || !is_trace(t, path)) {
        trace_free(t);
        return false;
    }
    sort_events(t);
    list_coros(t);
    list_symbols(t);
    read_texts(t);
    return true;
}

void trace_free(Trace *t)
{
    free(t->all);
    free(t->event);
    free(t->coro);
    free(t->symbol);
    *t = (Trace){0};
}

const char *trace_called(const Trace *t, const Coro *c)
{
    if (c->name[0] != '\0')
        return c->name;
    if (c->id == 1)
        return "main";
    const Symbol *s = symbol_of(t, c->site);
    return s != NULL && s->text[0] != '\0' ? s->text : "unknown";
}

const char *trace_doing(const Trace *t, enum State s, uint8_t why)
{
    switch (s) {
    case RUNNING:
        return "running";
    case RUNNABLE:
        return "runnable";
    case IN_KERNEL:
        return "syscall";
    case WAITING:
        return t->reason[why][0] != '\0' ? t->reason[why] : "waiting";
    default:
        return "unknown";
    }
}
