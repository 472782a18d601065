/* SPDX-License-Identifier: MIT
 *
 * events.h: what the scheduler does, for those who look on. Part of rt.h.
 *
 * Each event is a function here, which is
 * - a static probe (USDT, provider "weft") where <sys/sdt.h> is there: one nop and a note in the ELF file that
 *   tells perf, bpftrace and gdb where it is and where the arguments are. tools/bpf uses them;
 * - a record of a trace, while there is one: trace.c. Events of the slow paths look at sched.noting. The hot paths do
 *   not, nothing is added to them:
 *   . The switch leaves its fast path while P.attention has any bit: ATT_NOTE is one more.
 *   . Making ready tells foreign threads apart by a flag; G_NOTED is tested with it.
 *   . A birth takes an id from its P's stock, unless that is empty. While births are noted it always is.
 *
 * G_NOTED is given to a coroutine as it is born or switched away from (by m, whose it is), and taken from it when
 * nothing is noted any more, by whoever makes it ready: it belongs to them then. So those that were
 * parked when a trace began get it at their next park; the trace begins with a list of who was there.
 *
 * sched.noting is written under sched.lock together with ATT_NOTE of all Ps; who reads it without may be late, which
 * does no harm: trace_put() looks again, and counters may be raised by one more.
 *
 * The probes and their arguments; ids are those of weft_id(), 0 is no coroutine:
 *   spawn(id, fn, pc)        it was made by code that goes on at pc     exit(id)
 *   ready(id)                it is in a run queue now
 *   switch(from, to)         of the calling thread
 *   park(id, why)            enum Reason in rt.h; a switch follows
 *   resume(id)               it goes on after it stood still on its own thread, without a switch
 *   preempt(id, how, pc)     enum Answer; pc: of the interrupted code, 0: none was
 *   handoff(p, from, to)     the P goes from a thread to another one: thread ids
 *   retake(p, tid, declared) the P was taken from a thread in the kernel
 *   stack_save(id, bytes)    a copied stack leaves its window     stack_load(id, bytes)   it is back
 *   stack_grow(id, bytes)    so deep may its stack become now
 *   netpoll(id, fd)          the descriptor is ready, it waits for that
 */
#ifndef WEFT_EVENTS_H
#define WEFT_EVENTS_H

#ifdef HAVE_SDT
#include <sys/sdt.h>
#define PROBE1(name, a) DTRACE_PROBE1(weft, name, a)
#define PROBE2(name, a, b) DTRACE_PROBE2(weft, name, a, b)
#define PROBE3(name, a, b, c) DTRACE_PROBE3(weft, name, a, b, c)
#else
#define PROBE1(name, a) ((void)(a))
#define PROBE2(name, a, b) ((void)(a), (void)(b))
#define PROBE3(name, a, b, c) ((void)(a), (void)(b), (void)(c))
#endif

/* Bits of sched.noting. */
enum { NOTE_TRACE = 1, NOTE_LATENCY = 2 };

enum Answer { ANSWER_FLAGGED, ANSWER_HANDED, ANSWER_MOVED };

#include "trace_format.h"

/* events.c, the slow halves */
void event_picked(M *m,
                  G *next);     /* the switch, with ATT_NOTE: next (or NULL, or g0) follows m->g */
void event_found(M *m, G *g);   /* on g0, with ATT_NOTE: g is next */
void event_readied(M *m, G *g); /* g has G_NOTED and is about to be queued; m may be NULL */
void event_born(P *p, G *g);    /* something is noted, and g is new; p may be NULL */
void event_note(uint32_t bits, bool on); /* S not held: sched.noting, and ATT_NOTE of all Ps */
void event_held(G *g);                   /* it stands still, and is about to be queued */
void event_resumed(M *m, G *g);          /* it goes on after that, with m->p */
void event_waits(M *m, G *g, enum Reason why); /* no switch says so: for its window, or in place */
void event_latencies(uint64_t sum[LATENCIES]); /* S held: of all Ps */

/* trace.c */
void trace_put(enum TraceKind kind, uint8_t detail, uint32_t p, uint64_t id, uint64_t arg,
               int64_t when); /* (signal) */
void trace_name(const G *g);  /* what it is called */
void trace_begin_run(void);   /* WEFT_DEBUG=trace=PATH */
void trace_end_run(void);     /* all Ms have gone */
void trace_leave(const M *m); /* its thread ends */
bool trace_set_path(const char *s,
                    size_t len); /* debug.c: to be traced from the start; false: too long */

static inline bool event_wanted(uint32_t bits)
{
    return unlikely((get(&sched.noting) & bits) != 0);
}

static inline __attribute__((always_inline)) void event_switch(const G *from, const G *to)
{
    PROBE2(switch, from->id, to->id);
}

static inline __attribute__((always_inline)) void event_park(const G *g, enum Reason why)
{
    PROBE2(park, g->id, (int)why);
}

static inline __attribute__((always_inline)) void event_ready(const G *g)
{
    PROBE1(ready, g->id);
}

static inline __attribute__((always_inline)) void event_spawn(const G *g, void (*fn)(void *),
                                                              void *pc)
{
    PROBE3(spawn, g->id, fn, pc);
}

static inline __attribute__((always_inline)) void event_exit(const G *g)
{
    PROBE1(exit, g->id);
}

/* (signal) The run ends, and it is left where it is. */
static inline void event_abandoned(const M *m, const G *g)
{
    PROBE1(exit, g->id);
    if (event_wanted(NOTE_TRACE))
        trace_put(TRACE_SWITCH, TRACE_EXITS, m->p != NULL ? m->p->id : TRACE_NO_P, g->id, 0,
                  sys_now());
}

/* (signal) It runs on p; uc, if not NULL, is what was interrupted. */
static inline void event_preempt(const P *p, const G *g, enum Answer how, void *uc)
{
    ArchContext at = {0};
    if (uc != NULL)
        arch_ucontext(uc, &at);
    PROBE3(preempt, g->id, (int)how, at.pc);
    if (event_wanted(NOTE_TRACE))
        trace_put(TRACE_PREEMPT, (uint8_t)how, p->id, g->id, at.pc, sys_now());
}

/* (signal) */
static inline void event_handoff(const P *p, const M *to)
{
    const M *from = arch_self();
    PROBE3(handoff, p->id, from->tid, to->tid);
    if (event_wanted(NOTE_TRACE))
        trace_put(TRACE_HANDOFF, 0, p->id, 0, (uint64_t)to->tid, sys_now());
}

static inline void event_retake(const P *p, const M *m, bool declared)
{
    PROBE3(retake, p->id, m->tid, (int)declared);
    if (event_wanted(NOTE_TRACE))
        trace_put(TRACE_RETAKE, declared, p->id, m->g->id, (uint64_t)m->tid, sys_now());
}

static inline void event_stack_save(const G *g, size_t bytes)
{
    PROBE2(stack_save, g->id, bytes);
    if (event_wanted(NOTE_TRACE))
        trace_put(TRACE_STACK, TRACE_SAVED, TRACE_NO_P, g->id, bytes, sys_now());
}

static inline void event_stack_load(const G *g, size_t bytes)
{
    PROBE2(stack_load, g->id, bytes);
    if (event_wanted(NOTE_TRACE))
        trace_put(TRACE_STACK, TRACE_LOADED, TRACE_NO_P, g->id, bytes, sys_now());
}

/* (signal) */
static inline void event_stack_grow(const G *g, size_t bytes)
{
    PROBE2(stack_grow, g->id, bytes);
    if (event_wanted(NOTE_TRACE))
        trace_put(TRACE_STACK, TRACE_GROWN, TRACE_NO_P, g->id, bytes, sys_now());
}

static inline void event_netpoll(const G *g, int fd)
{
    PROBE2(netpoll, g->id, fd);
    if (event_wanted(NOTE_TRACE))
        trace_put(TRACE_NETPOLL, 0, TRACE_NO_P, g->id, (uint64_t)fd, sys_now());
}

#endif
