/* SPDX-License-Identifier: MIT
 *
 * sched.c: switching between coroutines.
 *
 * The design. As in Go there are Gs, Ms and Ps (rt.h); an M needs a P to run
 * Gs. A G that parks picks the next one itself and switches straight to it: one
 * stack switch, no trip through a scheduler stack. Only when its P's queue is
 * empty, or the P's attention is asked for, does it switch to the M's own
 * context g0, which runs sched_loop: find work elsewhere, poll, sleep.
 *
 * The commit. Between "G is queued where a waker can find it" and "G's context
 * is saved" nobody may resume it. So what makes a parked G reachable happens
 * after the switch, on the context that comes next: sched_arrive() runs the
 * parked G's *commit*. A channel operation queues its wait under the channel's
 * lock, parks, and the commit releases that lock. A yield's commit puts the G
 * into the run queue. An ending G's commit frees its stack. Everything that can
 * be switched to calls sched_arrive() first: a resumed G in switch_to() or, if it
 * has left no frame of ours (sched_park_last()), in sched_parked(), a new one in
 * coro_start(), g0 in switch_to().
 *   Program order across threads: G's writes before it parks, its saved
 * context, the commit's release (unlock, or a put into a queue) on M1; the
 * waker's acquire of that lock, its put into a run queue (release), the taking
 * by M2 (acquire), the load of the saved stack pointer. So everything G wrote
 * on M1 it sees on M2.
 *
 * Rejected: a flag on_stack in each G that the next runner waits for (two Ms
 * that park what the other one picks wait for each other); a scheduler context
 * between any two Gs, as Go has (two switches instead of one, and C's switch
 * has registers to save); parking state words changed by CAS (a locked
 * instruction per park).
 *
 * What runs next. runnext first: what was just made ready runs right after the
 * one that made it ready, so that a pair talking over a channel stays on one P
 * with its data warm. Then the ring. At most STREAK runs in a row come from
 * runnext while the ring has others: a talking pair must not starve them. Nor when it computes between
 * its words: a streak shares one time slice (preempt.c). After TICK switches one looks at the clock, the
 * timers and the poller, every GLOBAL-th at the global queue first.
 *   The periodic look happens in sched_arrive(), after the commit, never in pick(): a
 * parking G may hold a channel's or a descriptor's lock, which timers and the
 * poller take.
 */
#include "annotate.h"
#include "copystack.h"

#include <pthread.h>

struct Sched sched;

enum { TICK = 16, GLOBAL = 64, STREAK = 64 };
static const int64_t POLL_NS = 50000; /* a busy P looks at the poller this often */

/* Chaos: any queued G may be next, of other queues than the ring as well. */
static G *pick_chaos(M *m, P *p)
{
    if (rng_below(&m->rng, 8) == 0) {
        G *g = runq_get_oldest(p);
        if (g != NULL)
            return g;
    }
    for (uint32_t spins = rng_below(&m->rng, 4); spins > 0; spins--) {
        G *g = runq_take_next(p);
        if (g == NULL)
            g = runq_get(p);
        if (g == NULL)
            break;
        runq_put(p, g);
    }
    G *g = runq_get(p);
    return g != NULL ? g : runq_take_next(p);
}

/* A hog's turn has come: it runs for a slice, whatever is woken meanwhile. */
static G *pick_hog(P *p)
{
    atomic_fetch_and(&p->attention, ~(uint32_t)ATT_HOG);
    G *g = hogs_get_turn(p);
    if (g != NULL)
        set(&p->spared_tick, get(&p->tick));
    return g;
}

/* What waits outside this P's ring, in turn. */
static G *pick_oldest(P *p, uint32_t tick)
{
    G *g = tick / GLOBAL % 2 == 0 ? hogs_get_aside() : NULL;
    return g != NULL ? g : runq_get_oldest(p);
}

static inline __attribute__((always_inline)) G *pick_usual(M *m, P *p, uint32_t tick)
{
    G *g;

    if (unlikely(tick % GLOBAL == 0) && (g = pick_oldest(p, tick)) != NULL)
        return g;
    if (get(&p->runnext) != NULL) {
        if (likely(p->streak < STREAK)) {
            p->streak++;
            if ((g = runq_take_next(p)) != NULL) /* a thief may have been faster */
                return g;
        } else {
            p->streak = 0;
            bool alone = get(&p->tail) == get(&p->head);
            if ((g = runq_take_next(p)) != NULL) {
                if (alone) /* in the ring an idle P would steal it at once */
                    return g;
                runq_put(p, g);
            }
        }
    } else {
        p->streak = 0;
    }
    if ((g = runq_get(p)) != NULL)
        return g;
    return runq_get_global(m, p);
}

/* The same while any bit of its attention is set. */
static G *pick_asked(M *m, P *p, uint32_t tick, uint32_t bits)
{
    G *g;

    if (bits & ATT_CLOCK)
        p->now = sys_now();
    if (bits & (ATT_STOP | ATT_PROCS))
        return &m->g0;
    if (bits & ATT_HOG && (g = pick_hog(p)) != NULL)
        return g;
    if (tick % GLOBAL == 0 && (g = pick_oldest(p, tick)) != NULL)
        return g;
    if (bits & ATT_CHAOS) {
        g = pick_chaos(m, p);
        return g != NULL ? g : runq_get_global(m, p);
    }
    return pick_usual(m, p, tick);
}

static __attribute__((noinline)) G *pick_noted(M *m, P *p, uint32_t tick)
{
    uint32_t bits = get(&p->attention);
    G *g = pick_asked(m, p, tick, bits);
    if (bits & ATT_NOTE)
        event_picked(m, g);
    return g;
}

/* The next G of this P, without looking further than the global queue. */
static G *pick(M *m, P *p)
{
    uint32_t tick = get(&p->tick) + 1;
    set(&p->tick, tick);
    if (unlikely(get(&p->attention) != 0))
        return pick_noted(m, p, tick);
    return pick_usual(m, p, tick);
}

void sched_tick(M *m)
{
    P *p = m->p;
    p->ticked = get(&p->tick);
    p->now = sys_now();
    if (get(&p->timers.first) <= p->now)
        timer_run(m, p, p->now);
    if (unlikely(window_trim_pending()) && window_trim(p->now))
        block_trim();
    if (unlikely(get(&sched.hogs_n) != 0) && hogs_due(p))
        atomic_fetch_or(&p->attention, ATT_HOG);
    if (get(&sched.waiters) > 0 && get(&sched.poller) == 0 &&
        p->now - get(&sched.polled) > POLL_NS) {
        set(&sched.polled, p->now);
        G *list = netpoll_look(m, 0);
        sched_ready_list(m, list);
    }
}

void sched_arrive(M *m)
{
    G *prev = m->prev;
    Commit *commit = m->commit;
    if (unlikely(window_copied(prev)))
        copystack_leave(m, prev);
    if (likely(commit != NULL)) {
        m->commit = NULL;
        if (unlikely(!commit(m, prev, m->commit_arg)))
            sched_ready(m, prev);
    } else if (unlikely(m->p == NULL)) {
        return; /* g0, and the coroutine was left at the end of the run without one: hold_abandon() */
    }
    if (unlikely(get(&m->p->tick) - m->p->ticked >= TICK))
        sched_tick(m);
}

void sched_run_timers(M *m)
{
    int64_t now = m->p->now = sys_now();
    for (uint32_t i = 0; i < get_acq(&sched.np); i++)
        if (get(&sched.p[i]->timers.first) <= now)
            timer_run(m, sched.p[i], now);
}

/* next->sp is NULL: it never ran, or it stands still on a thread of its own, which
 * our g0 will give our P. */
static G *first_run(M *m, G *next)
{
    if (next->slot != NULL) {
        m->give = next;
        return &m->g0;
    }
    return coro_bind(m, next) ? next : &m->g0;
}

/* What can be switched to in place of next: itself, unless it has to wait for its thread or its window. What
 * takes longer is for g0: until the commit whoever parks may hold a lock. */
static inline G *prepare(M *m, G *next)
{
    if (likely(next->sp != NULL) && (likely(!window_copied(next)) || copystack_enter(next)))
        return next;
    if (m->commit != NULL && window_copied(next)) {
        m->enter = next;
        return &m->g0;
    }
    if (next->sp == NULL)
        return first_run(m, next);
    return copystack_enter_slow(m, next) ? next : &m->g0;
}

/* What comes right before the switch from prev to next ... */
static inline __attribute__((always_inline)) void leave(M *m, G *prev, G *next)
{
    event_switch(prev, next);
    m->prev = prev;
    m->g = next;
    if (next != &m->g0) {
        P *p = m->p;
        bump(&p->switches, 1);
        next->m = m;
        set(&next->state, G_RUNNING);
    }
    note_leave(m, prev, next, false);
    cxx_leave(m, prev);
}

/* ... and right after the switch back, on the M that did it. */
static inline __attribute__((always_inline)) void arrive(M *m)
{
    cxx_arrive(m, m->g);
    note_arrive(m->g);
    sched_arrive(m);
}

/* Continue as next; returns when prev is switched to again, on the M that did. */
WEFT_NO_TSAN static M *switch_to(M *m, G *prev, G *next)
{
    next = prepare(m, next);
    if (unlikely(next == prev)) /* g0 stays */
        return m;
    leave(m, prev, next);
    m = arch_switch(&prev->sp, next->sp, m);
    arrive(m);
    return m;
}

/* In place, on its own thread. */
static M *park_pinned(M *m, enum Reason why, Commit *commit, void *arg)
{
    G *g = m->g;
    if (g->flags & G_UNPREEMPTIBLE)
        fatal("a coroutine parks while it has preemption disabled");
    set(&g->state, G_WAITING);
    set(&g->reason, (uint8_t)why);
    g->since = m->p->now;
    event_waits(m, g, why);
    int saved = *m->errno_addr;
    hold_park(m, commit, arg);
    *m->errno_addr = saved;
    return m;
}

/* The caller's G waits from now on. Returns what is to run next. */
static inline __attribute__((always_inline)) G *begin_wait(M *m, enum Reason why, Commit *commit,
                                                           void *arg)
{
    G *g = m->g;
    rt_assert(m->preempt_off == 1);
    event_park(g, why);
    set(&g->state, G_WAITING);
    set(&g->reason, (uint8_t)why);
    g->since = m->p->now;
    g->saved_errno = *m->errno_addr;
    m->commit = commit;
    m->commit_arg = arg;
    G *next = pick(m, m->p);
    return next != NULL ? next : &m->g0;
}

static inline __attribute__((always_inline)) M *park(M *m, enum Reason why, Commit *commit,
                                                     void *arg)
{
    G *g = m->g;
    m = switch_to(m, g, begin_wait(m, why, commit, arg));
    *m->errno_addr = g->saved_errno;
    return m;
}

/* Apart, and called last: what it needs of the frame the others need not set up. */
static __attribute__((noinline)) M *park_odd(M *m, enum Reason why, Commit *commit, void *arg)
{
    G *g = m->g;
    if (g->flags & G_UNGUARDED)
        stack_check(g);
    if (g->flags & G_FOREIGN)
        return foreign_park(m, commit, arg, 0);
    if (g->flags & (G_PINNED | G_UNPREEMPTIBLE))
        return park_pinned(m, why, commit, arg);
    return park(m, why, commit, arg);
}

M *sched_park(M *m, enum Reason why, Commit *commit, void *arg)
{
    if (unlikely(m->g->flags & G_PARKS_ODDLY))
        return park_odd(m, why, commit, arg);
    return park(m, why, commit, arg);
}

bool sched_commit_unlock(M *m, G *g, void *arg)
{
    (void)m, (void)g;
    lock_release(arg);
    return true;
}

/* The same for one that may be cancelled. */
static bool commit_unlock_known(M *m, G *g, void *arg)
{
    (void)m;
    bool cancelled = known_parks(g);
    lock_release(arg);
    return !cancelled;
}

int sched_park_last(M *m, enum Reason why, Lock *l)
{
    G *g = m->g;
    Commit *commit = unlikely(g->flags & G_KNOWN) ? commit_unlock_known : sched_commit_unlock;
    G *next = prepare(m, begin_wait(m, why, commit, l));
    leave(m, g, next);
    return arch_park(&g->sp, next->sp, m);
}

int sched_parked(void *pass)
{
    M *m = pass;
    arrive(m);
    *m->errno_addr = m->g->saved_errno;
    return chan_parked(m);
}

static inline __attribute__((always_inline)) void ready(M *m, G *g)
{
    event_ready(g);
    rt_assert(get(&g->state) == G_WAITING);
    set(&g->state, G_RUNNABLE);
    P *p = m->p;
    if (unlikely(p == NULL)) {
        runq_put_global(g, g, 1);
        if (atomic_load(&sched.idle_p) == 0)
            monitor_alarm();
    } else {
        runq_put_next(m, p, g);
        if (unlikely(get(&p->hog_tick) == get(&p->tick)))
            set(&m->request, true); /* a hog: what it has woken goes first */
    }
    idle_wake(m);
}

static inline __attribute__((always_inline)) void ready_tail(M *m, G *g)
{
    event_ready(g);
    set(&g->state, G_RUNNABLE);
    if (unlikely(m->p == NULL))
        runq_put_global(g, g, 1);
    else
        runq_put(m->p, g);
    idle_wake(m);
}

/* Apart, and called last: what it needs of the frame the others need not set up. */
static __attribute__((noinline)) void ready_odd(M *m, G *g, bool tail)
{
    if (g->flags & G_FOREIGN) {
        foreign_ready(g);
        return;
    }
    event_readied(m, g);
    if (tail)
        ready_tail(m, g);
    else
        ready(m, g);
}

void sched_ready(M *m, G *g)
{
    if (unlikely(g->flags & G_READY_ODDLY))
        ready_odd(m, g, false);
    else
        ready(m, g);
}

void sched_ready_tail(M *m, G *g)
{
    if (unlikely(g->flags & G_READY_ODDLY))
        ready_odd(m, g, true);
    else
        ready_tail(m, g);
}

void sched_try_again(G *g)
{
    if (unlikely(g->flags & G_NOTED))
        event_readied(NULL, g);
    event_ready(g);
    set(&g->state, G_RUNNABLE);
    runq_put_global(g, g, 1);
    idle_wake(NULL);
}

void sched_ready_list(M *m, G *head)
{
    G *next;
    for (G *g = head; g != NULL; g = next) {
        next = g->link;
        sched_ready_tail(m, g);
    }
}

static bool commit_yield(M *m, G *g, void *arg)
{
    (void)arg;
    set(&g->state, G_RUNNABLE);
    runq_put(m->p, g);
    idle_wake(m); /* g was in no queue when an M that goes to sleep looked */
    return true;
}

/* For a while it is nobody's: whoever has a P picks it. */
static bool commit_yield_pinned(M *m, G *g, void *arg)
{
    (void)m, (void)arg;
    set(&g->state, G_RUNNABLE);
    runq_put_global(g, g, 1);
    return true;
}

static bool commit_give_way(M *m, G *g, void *arg)
{
    enum HogPlace place = (enum HogPlace)(uintptr_t)arg;
    set(&g->state, G_RUNNABLE);
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    hogs_put(g, place);
    lock_release(&sched.lock);
    idle_wake(m);
    return true;
}

M *sched_give_way(M *m, enum HogPlace place)
{
    G *g = m->g;
    if (unlikely(g->flags & G_UNGUARDED))
        stack_check(g);
    set(&g->reason, WHY_PREEMPTED); /* first: event_picked() */
    G *next = pick(m, m->p);
    g->saved_errno = *m->errno_addr;
    m->commit = commit_give_way;
    m->commit_arg = (void *)(uintptr_t)place;
    m = switch_to(m, g, next != NULL ? next : &m->g0);
    set(&g->reason, WHY_NONE);
    *m->errno_addr = g->saved_errno;
    return m;
}

static inline M *yield(M *m)
{
    G *g = m->g;
    G *next = pick(m, m->p);
    if (next == NULL && unlikely(window_copied(g)) && copystack_contended(g)) {
        next = &m->g0; /* who waits for its window is in no queue until it leaves */
        if (get(&m->p->attention) & ATT_NOTE)
            event_picked(m, next);
    }
    if (next != NULL) {
        set(&g->reason, WHY_YIELD);
        g->saved_errno = *m->errno_addr;
        m->commit = commit_yield;
        m = switch_to(m, g, next);
        *m->errno_addr = g->saved_errno;
    } else if (get(&m->p->tick) - m->p->ticked >= TICK) {
        sched_tick(m);
    }
    return m;
}

static __attribute__((noinline)) M *yield_odd(M *m)
{
    G *g = m->g;
    if (g->flags & G_UNPREEMPTIBLE)
        return m;
    if (g->flags & G_UNGUARDED)
        stack_check(g);
    return g->flags & G_PINNED ? park_pinned(m, WHY_YIELD, commit_yield_pinned, NULL) : yield(m);
}

M *sched_yield_to_others(M *m)
{
    if (unlikely(m->g->flags & (G_PINNED | G_UNPREEMPTIBLE | G_UNGUARDED)))
        return yield_odd(m);
    return yield(m);
}

void weft_yield(void)
{
    M *m = rt_enter();
    if (unlikely(m == NULL || m->p == NULL)) {
        sys_yield();
        if (m != NULL)
            rt_leave(m);
        return;
    }
    if (unlikely(m->g->flags & G_UNPREEMPTIBLE))
        fatal("a coroutine yields while it has preemption disabled");
    rt_leave_parking(sched_yield_to_others(m));
}

WEFT_NO_TSAN static inline __attribute__((always_inline)) _Noreturn void exit_to(M *m, G *g,
                                                                                 G *next)
{
    g->flags &=
        (uint16_t)~G_COPIED; /* it does not leave its window, it is done with it: coro_reap() */
    event_exit(g);
    event_switch(g, next);
    m->commit = coro_reap;
    m->g = next;
    if (next != &m->g0) {
        bump(&m->p->switches, 1);
        next->m = m;
        set(&next->state, G_RUNNING);
    }
    note_leave(m, g, next, true);
    arch_switch(&g->sp, next->sp, m);
    __builtin_unreachable();
}

WEFT_NO_TSAN _Noreturn void sched_exit(M *m)
{
    G *g = m->g;
    m->prev = g; /* first: event_picked() */
    G *next = pick(m, m->p);
    exit_to(m, g, prepare(m, next != NULL ? next : &m->g0));
}

/* What it was reaped with goes to the P, which g0 hands on: hold_thread_ends(). */
WEFT_NO_TSAN _Noreturn void sched_exit_pinned(M *m)
{
    m->ends = true;
    m->prev = m->g;
    if (get(&m->p->attention) & ATT_NOTE)
        event_picked(m, &m->g0);
    exit_to(m, m->g, &m->g0);
}

/* On g0: what an attention bit asks for. Returns the bits it has acted on. */
uint32_t sched_attend(M *m)
{
    P *p = m->p;
    uint32_t bits = get(&p->attention) & (ATT_STOP | ATT_PROCS);
    if (bits == 0)
        return 0;
    atomic_fetch_and(
        &p->attention,
        ~(uint32_t)ATT_PROCS); /* before we look at procs: a later change sets it again */
    if (bits & ATT_PROCS) {
        if (get(&sched.procs) > 1 && !get(&p->stealable)) {
            set_rel(&p->stealable, true); /* our earlier plain stores to head come first */
            idle_wake(m);
        }
        if (p->id >= get(&sched.procs))
            procs_retire(m);
    }
    return bits;
}

void sched_loop(M *m)
{
    for (;;) {
        G *g = NULL;
        if (m->give != NULL) {
            hold_give(m, m->give);
            m->give = NULL;
        } else if (m->enter != NULL) {
            g = m->enter;
            m->enter = NULL;
        }
        /* The end first: the P of main's M must go to a held coroutine's thread, even if it is one too many,
         * and from there to the next. Other Ms may leave without (idle_find). */
        if (get(&sched.stopping)) {
            if (m->p != NULL && !hold_give_next(m))
                idle_release_p(m);
            return;
        }
        if (unlikely(m->ends)) {
            if (hold_thread_ends(m))
                return;
            continue;
        }
        if (m->p != NULL && get(&m->p->attention) != 0)
            sched_attend(m);
        if (g != NULL && m->p == NULL) { /* that P was one too many */
            runq_put_global(g, g, 1);
            g = NULL;
        } else if (g == NULL && m->p != NULL) {
            g = pick(m, m->p);
        }
        if (g == &m->g0)
            continue;
        if (g == NULL) {
            g = idle_find(m);
            if (g == NULL)
                return;
            if (unlikely(get(&m->p->attention) & ATT_NOTE))
                event_found(m, g);
        }
        if (m->spinning)
            idle_end_spin(m);
        if (g->sp == NULL && g->slot != NULL)
            m->give = g;
        else
            switch_to(m, &m->g0, g);
        if (unlikely(m->starved))
            copystack_starved(m);
    }
}
