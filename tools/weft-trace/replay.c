/* SPDX-License-Identifier: MIT
 *
 * replay.c: from events to what each coroutine did from when to when.
 *
 * A trace may begin in the middle of everything and may have lost records. So no event is trusted to fit what came
 * before: it says what holds from then on, and ends whatever was thought to go on. What is not known is UNKNOWN, and
 * is told to nobody.
 */
#include "weft-trace.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    Trace *t;
    const Sink *sink;
    Coro *on[NO_P]; /* what runs on each processor */
} Replay;

static void leave_p(Replay *r, Coro *c)
{
    if (c->p != NO_P && r->on[c->p] == c)
        r->on[c->p] = NULL;
    c->p = NO_P;
}

static void change(Replay *r, Coro *c, int64_t when, enum State state, uint8_t why)
{
    if (c->state == state && c->why == why && state != RUNNING)
        return;
    if (c->state != UNKNOWN && c->state != ENDED && r->sink->span != NULL) {
        Span s = {.coro = c,
                  .state = c->state,
                  .why = c->why,
                  .p = c->p,
                  .from = c->since,
                  .to = when,
                  .next = state};
        r->sink->span(r->sink->arg, &s);
    }
    leave_p(r, c);
    c->state = state;
    c->why = why;
    c->since = when;
}

static void bear(Replay *r, Coro *c, int64_t when)
{
    if (c->born != 0)
        return;
    c->born = when;
    if (r->sink->born != NULL)
        r->sink->born(r->sink->arg, c, when);
}

/* The event is the first of c: it was there before, and did `was` since. */
static void meet(Replay *r, Coro *c, enum State was, uint16_t p)
{
    if (c->born != 0)
        return;
    bear(r, c, r->t->begin);
    c->state = was;
    c->since = r->t->begin;
    if (was == RUNNING && p != NO_P && r->on[p] == NULL) {
        c->p = p;
        r->on[p] = c;
    }
}

static void run(Replay *r, Coro *c, int64_t when, uint16_t p)
{
    meet(r, c, UNKNOWN, NO_P);
    change(r, c, when, RUNNING, 0);
    if (p == NO_P)
        return;
    if (r->on[p] != NULL) /* what it did after is not known */
        change(r, r->on[p], when, UNKNOWN, 0);
    c->p = p;
    r->on[p] = c;
}

static void end(Replay *r, Coro *c, int64_t when)
{
    change(r, c, when, ENDED, 0);
    if (r->sink->ended != NULL)
        r->sink->ended(r->sink->arg, c, when);
}

static void stop(Replay *r, Coro *c, const TraceRecord *x)
{
    meet(r, c, RUNNING, x->p);
    if (x->detail == TRACE_EXITS)
        end(r, c, x->when);
    else if (x->detail == TRACE_YIELDS || x->detail == TRACE_PREEMPTED)
        change(r, c, x->when, RUNNABLE, 0);
    else
        change(r, c, x->when, WAITING, x->detail);
}

static void on_switch(Replay *r, Coro *c, const TraceRecord *x)
{
    Coro *next = trace_coro(r->t, x->arg);
    if (c != NULL)
        stop(r, c, x);
    if (next != NULL)
        run(r, next, x->when, x->p);
}

static void on_exists(Replay *r, Coro *c, const TraceRecord *x)
{
    static const enum State as[] = {[TRACE_WAS_RUNNABLE] = RUNNABLE,
                                    [TRACE_WAS_RUNNING] = RUNNING,
                                    [TRACE_WAS_WAITING] = WAITING};
    if (c->born != 0 || x->detail > TRACE_WAS_WAITING) /* an event was faster, and is right */
        return;
    bear(r, c, x->when);
    change(r, c, x->when, as[x->detail], as[x->detail] == WAITING ? (uint8_t)x->p : 0);
}

static void on_wait(Replay *r, Coro *c, const TraceRecord *x)
{
    meet(r, c, RUNNING, x->p);
    bool yields = strcmp(r->t->reason[x->detail], "yield") == 0;
    change(r, c, x->when, yields ? RUNNABLE : WAITING, yields ? 0 : x->detail);
}

static void one(Replay *r, const TraceRecord *x)
{
    Coro *c = trace_coro(r->t, x->id);
    if (c != NULL && c->state == ENDED)
        return; /* its last wake-up was noted late */
    if (c == NULL && x->kind != TRACE_SWITCH && x->kind != TRACE_HANDOFF)
        return;
    switch (x->kind) {
    case TRACE_EXISTS:
        on_exists(r, c, x);
        break;
    case TRACE_SPAWN:
        bear(r, c, x->when);
        change(r, c, x->when, RUNNABLE, 0);
        break;
    case TRACE_READY:
        meet(r, c, UNKNOWN, NO_P);
        change(r, c, x->when, RUNNABLE, 0);
        break;
    case TRACE_SWITCH:
        on_switch(r, c, x);
        break;
    case TRACE_RESUME:
        run(r, c, x->when, x->p);
        break;
    case TRACE_WAIT:
        on_wait(r, c, x);
        break;
    case TRACE_PREEMPT:
        if (x->detail == 1) {
            meet(r, c, RUNNING, x->p);
            change(r, c, x->when, RUNNABLE, 0);
        }
        break;
    case TRACE_RETAKE:
        meet(r, c, RUNNING, x->p);
        change(r, c, x->when, IN_KERNEL, 0);
        break;
    }
    if (x->kind != TRACE_SWITCH && r->sink->event != NULL)
        r->sink->event(r->sink->arg, x);
}

void replay(Trace *t, const Sink *sink)
{
    Replay *r = xrealloc(NULL, 1, sizeof *r);
    memset(r, 0, sizeof *r);
    r->t = t;
    r->sink = sink;
    for (size_t i = 0; i < t->ncoros; i++) {
        t->coro[i].state = UNKNOWN;
        t->coro[i].since = t->coro[i].born = 0;
        t->coro[i].p = NO_P;
    }
    for (size_t i = 0; i < t->nevents; i++)
        one(r, t->event[i]);
    for (size_t i = 0; i < t->ncoros; i++)
        if (t->coro[i].born != 0 && t->coro[i].state != ENDED)
            end(r, &t->coro[i], t->end);
    free(r);
}
