/* SPDX-License-Identifier: MIT
 *
 * events.c: switches and wake-ups are noted, for a trace and for the histogram of latencies.
 *
 * The histogram, as Go's /sched/latencies: how long coroutines wait in run queues. A coroutine that is made ready, or gives
 * its P away and could run on, gets the time, negated, into g->since, which says nothing until it parks again; when it is
 * next, what has passed is counted in a bucket of that P. Who is made ready on a way without a note keeps
 * the time of its park there, which is positive, and is not counted.
 *   While a trace is written each wait counts; else (WEFT_DEBUG=latencies) one of SAMPLE, as in Go. It is not always on:
 * by callgrind a yield takes 389 instructions in place of 263, an unbuffered round trip 1220 in place of 957, most of
 * them for the switch to leave its fast path. Of a P's coroutines each SAMPLE-th that stops gets G_NOTED for that wait.
 *
 * Who writes what: g->flags and g->since belong to the M that runs g until g's commit, then to its
 * waker until it is queued, then to the M that has taken it out of the queue. p->latency: the M that holds p.
 *
 * Lock: sched.lock in event_note(), so that the bits and sched.noting agree on every P, new ones too (procs_add).
 */
#include "rt.h"

enum { SAMPLE = 8, FIRST = 7 /* log2 of the first bucket's end */ };

/* See weft.h: bucket 0 ends at 128 ns, then there are two for each power of two. */
static uint32_t bucket(int64_t ns)
{
    if (ns < 1 << FIRST)
        return 0;
    uint32_t log = 63 - (uint32_t)__builtin_clzll((uint64_t)ns);
    uint32_t i = 1 + 2 * (log - FIRST) + ((uint64_t)ns >> (log - 1) & 1);
    return i < LATENCIES ? i : LATENCIES - 1;
}

/* It is about to run on p. */
static void waited(P *p, G *g, int64_t now)
{
    if ((g->flags & G_NOTED) == 0)
        return;
    if (g->since < 0) {
        bump(&p->latency[bucket(now + g->since)], 1);
        g->since = now;
    }
    if (!event_wanted(NOTE_TRACE))
        g->flags &= (uint16_t)~G_NOTED;
}

/* Is this one's wait to be noted? */
static bool sampled(P *p)
{
    return event_wanted(NOTE_TRACE) || (p != NULL && ++p->starts % SAMPLE == 0);
}

/* Whom the switch will really run: not one that stands still on a thread of its own. */
static bool runs(const M *m, const G *g)
{
    return g != NULL && g != &m->g0 && !(g->sp == NULL && g->slot != NULL);
}

/* Why m->g, which picks, stops. In sched_exit() m->prev is itself already. */
static uint8_t why_stops(const M *m, const G *g)
{
    if (m->prev == g)
        return TRACE_EXITS;
    uint8_t why = get(&g->reason);
    if (get(&g->state) == G_WAITING)
        return why;
    return why == WHY_PREEMPTED ? TRACE_PREEMPTED : TRACE_YIELDS;
}

void event_picked(M *m, G *next)
{
    P *p = m->p;
    G *g = m->g != &m->g0 ? m->g : NULL;
    bool begins = runs(m, next);
    if (!event_wanted(NOTE_TRACE | NOTE_LATENCY))
        return;
    p->id_end = p->id_next; /* births are noted from now on: next_id() */
    if (g == NULL && !begins)
        return;
    uint8_t why = g != NULL ? why_stops(m, g) : 0;
    if (why == TRACE_YIELDS && next == NULL)
        return; /* it goes on */
    bool note = g != NULL && why != TRACE_EXITS && sampled(p);
    if (!note && !event_wanted(NOTE_TRACE) && !(begins && next->flags & G_NOTED))
        return;
    int64_t now = sys_now();
    if (begins)
        waited(p, next, now);
    if (note) {
        g->flags |= G_NOTED;
        if (why == TRACE_YIELDS || why == TRACE_PREEMPTED)
            g->since = -now;
    }
    if (event_wanted(NOTE_TRACE))
        trace_put(TRACE_SWITCH, why, p->id, g != NULL ? g->id : 0, begins ? next->id : 0, now);
}

void event_found(M *m, G *g)
{
    if (!runs(m, g) || !event_wanted(NOTE_TRACE | NOTE_LATENCY))
        return;
    int64_t now = sys_now();
    waited(m->p, g, now);
    if (event_wanted(NOTE_TRACE))
        trace_put(TRACE_SWITCH, 0, m->p->id, 0, g->id, now);
}

void event_readied(M *m, G *g)
{
    if (!event_wanted(NOTE_TRACE | NOTE_LATENCY)) {
        g->flags &= (uint16_t)~G_NOTED;
        return;
    }
    int64_t now = sys_now();
    g->since = -now;
    if (!event_wanted(NOTE_TRACE))
        return;
    uint32_t p = m != NULL && m->p != NULL ? m->p->id : TRACE_NO_P;
    if (get(&g->reason) != WHY_START) {
        trace_put(TRACE_READY, 0, p, g->id, m != NULL ? m->g->id : 0, now);
        return;
    }
    trace_put(TRACE_SPAWN, 0, p, g->id, (uint64_t)(uintptr_t)g->spawn_pc, now);
    trace_name(g);
}

void event_born(P *p, G *g)
{
    if (event_wanted(NOTE_TRACE | NOTE_LATENCY) && sampled(p))
        g->flags |= G_NOTED;
}

void event_held(G *g)
{
    if (!event_wanted(NOTE_TRACE | NOTE_LATENCY))
        return;
    g->flags |= G_NOTED;
    g->since = -sys_now();
}

void event_resumed(M *m, G *g)
{
    PROBE1(resume, g->id);
    if (!event_wanted(NOTE_TRACE | NOTE_LATENCY))
        return;
    int64_t now = sys_now();
    waited(m->p, g, now);
    if (event_wanted(NOTE_TRACE))
        trace_put(TRACE_RESUME, 0, m->p->id, g->id, 0, now);
}

void event_waits(M *m, G *g, enum Reason why)
{
    PROBE2(park, g->id, (int)why);
    if (!event_wanted(NOTE_TRACE))
        return;
    g->flags |= G_NOTED;
    trace_put(TRACE_WAIT, (uint8_t)why, m->p != NULL ? m->p->id : TRACE_NO_P, g->id, 0, sys_now());
}

void event_note(uint32_t bits, bool on)
{
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    if (on)
        atomic_fetch_or(&sched.noting, bits);
    else
        atomic_fetch_and(&sched.noting, ~bits);
    bool any = get(&sched.noting) != 0;
    for (uint32_t i = 0; i < get_acq(&sched.np); i++) {
        if (any)
            atomic_fetch_or(&sched.p[i]->attention, ATT_NOTE);
        else
            atomic_fetch_and(&sched.p[i]->attention, ~(uint32_t)ATT_NOTE);
    }
    lock_release(&sched.lock);
}

void event_latencies(uint64_t sum[LATENCIES])
{
    assert_held(&sched.lock);
    for (uint32_t i = 0; i < get_acq(&sched.np); i++)
        for (uint32_t b = 0; b < LATENCIES; b++)
            sum[b] += get(&sched.p[i]->latency[b]);
}
