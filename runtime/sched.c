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
 * be switched to calls sched_arrive() first: a resumed G in switch_to(), a new
 * one in coro_start(), g0 in switch_to().
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
 * runnext while the ring has others: a talking pair must not starve them (Go
 * has its time slice for this). After TICK switches one looks at the clock, the
 * timers and the poller, every GLOBAL-th at the global queue first.
 *   The periodic look happens in sched_arrive(), after the commit, never in pick(): a
 * parking G may hold a channel's or a descriptor's lock, which timers and the
 * poller take.
 */
#include "annotate.h"

#include <pthread.h>

struct Sched sched;

enum { TICK = 16, GLOBAL = 64, STREAK = 64 };
static const int64_t POLL_NS = 50000; /* a busy P looks at the poller this often */

/* Chaos: any queued G may be next. */
static G *pick_chaos(M *m, P *p)
{
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

/* The next G of this P, without looking further than the global queue. */
static G *pick(M *m, P *p)
{
    uint32_t tick = ++p->tick;
    G *g;

    if (unlikely(get(&p->attention) != 0)) {
        if (get(&p->attention) & (ATT_STOP | ATT_PROCS))
            return &m->g0;
        if (tick % GLOBAL == 0 && (g = runq_get_oldest(p)) != NULL)
            return g;
        g = pick_chaos(m, p);
        return g != NULL ? g : runq_get_global(m, p);
    }
    if (unlikely(tick % GLOBAL == 0) && (g = runq_get_oldest(p)) != NULL)
        return g;
    if (get(&p->runnext) != NULL) {
        if (likely(p->streak < STREAK)) {
            p->streak++;
            if ((g = runq_take_next(p)) != NULL) /* a thief may have been faster */
                return g;
        } else {
            p->streak = 0;
            if ((g = runq_take_next(p)) != NULL)
                runq_put(p, g);
        }
    } else {
        p->streak = 0;
    }
    if ((g = runq_get(p)) != NULL)
        return g;
    return runq_get_global(m, p);
}

void sched_tick(M *m)
{
    P *p = m->p;
    p->ticked = p->tick;
    p->now = sys_now();
    if (get(&p->timers.first) <= p->now)
        timer_run(m, p, p->now);
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
    if (likely(commit != NULL)) {
        m->commit = NULL;
        if (unlikely(!commit(m, prev, m->commit_arg)))
            sched_ready(m, prev);
    }
    if (unlikely(m->p->tick - m->p->ticked >= TICK))
        sched_tick(m);
}

/* Continue as next; returns when prev is switched to again, on the M that did. */
WEFT_NO_TSAN static M *switch_to(M *m, G *prev, G *next)
{
    m->prev = prev;
    m->g = next;
    if (next != &m->g0) {
        P *p = m->p;
        bump(&p->switches, 1);
        if (unlikely(next->sp == NULL))
            coro_bind(m, next);
        next->m = m;
        set(&next->state, G_RUNNING);
    }
    note_leave(m, prev, next, false);
    m = arch_switch(&prev->sp, next->sp, m);
    note_arrive(m->g);
    sched_arrive(m);
    return m;
}

M *sched_park(M *m, enum Reason why, Commit *commit, void *arg)
{
    G *g = m->g;
    if (unlikely(g->flags & G_FOREIGN))
        return foreign_park(m, commit, arg, 0);
    rt_assert(m->preempt_off == 1);
    set(&g->state, G_WAITING);
    set(&g->reason, (uint8_t)why);
    g->since = m->p->now;
    g->saved_errno = *m->errno_addr;
    m->commit = commit;
    m->commit_arg = arg;
    G *next = pick(m, m->p);
    m = switch_to(m, g, next != NULL ? next : &m->g0);
    *m->errno_addr = g->saved_errno;
    return m;
}

static bool commit_unlock(M *m, G *g, void *arg)
{
    (void)m, (void)g;
    lock_release(arg);
    return true;
}

M *sched_park_unlock(M *m, enum Reason why, Lock *l)
{
    return sched_park(m, why, commit_unlock, l);
}

/* A park with a deadline: the timer must be armed once the G is off its stack,
 * but before the inner commit lets go of the queue's lock: after that the G may
 * be running again, and use g->timer anew. */
typedef struct {
    Commit *commit;
    void *arg;
    int64_t deadline;
} Until;

static bool commit_until(M *m, G *g, void *arg)
{
    Until u = *(Until *)arg; /* it lies on g's stack, which may be in use after the commit */
    uint64_t serial = get(&g->claim) >> 1;
    g->timer.fire = timer_wake;
    g->timer.arg = g;
    g->timer.seq = serial;
    g->timer.period = 0;
    int rc = timer_add(m, &g->timer, u.deadline);
    /* No room in the heap: report that in place of the wait. Claimed before the
     * inner commit, for after it g may be gone. */
    bool failed = rc != 0 && wait_claim(g, serial);
    if (failed) {
        g->woke = NULL;
        g->result = rc;
    }
    if (u.commit != NULL && !u.commit(m, g, u.arg)) {
        if (!wait_claim(g, serial)) /* the timer was faster and has made it ready */
            return !failed;
        g->woke = NULL;
        g->result = 0;
        return false;
    }
    return !failed;
}

M *sched_park_until(M *m, enum Reason why, Commit *commit, void *arg, int64_t deadline)
{
    if (deadline == 0)
        return sched_park(m, why, commit, arg);
    if (unlikely(m->g->flags & G_FOREIGN))
        return foreign_park(m, commit, arg, deadline);
    Until u = {commit, arg, deadline};
    m = sched_park(m, why, commit_until, &u);
    timer_del(m, &m->g->timer);
    return m;
}

M *sched_park_until_unlock(M *m, enum Reason why, Lock *l, int64_t deadline)
{
    return sched_park_until(m, why, commit_unlock, l, deadline);
}

void sched_ready(M *m, G *g)
{
    if (unlikely(g->flags & G_FOREIGN)) {
        foreign_ready(g);
        return;
    }
    rt_assert(get(&g->state) == G_WAITING);
    set(&g->state, G_RUNNABLE);
    if (unlikely(m->p == NULL))
        runq_put_global(g, g, 1);
    else
        runq_put_next(m, m->p, g);
    idle_wake(m);
}

void sched_ready_tail(M *m, G *g)
{
    if (unlikely(g->flags & G_FOREIGN)) {
        foreign_ready(g);
        return;
    }
    set(&g->state, G_RUNNABLE);
    if (unlikely(m->p == NULL))
        runq_put_global(g, g, 1);
    else
        runq_put(m->p, g);
    idle_wake(m);
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

M *sched_yield_to_others(M *m)
{
    G *g = m->g;
    G *next = pick(m, m->p);
    if (next != NULL) {
        set(&g->reason, WHY_YIELD);
        g->saved_errno = *m->errno_addr;
        m->commit = commit_yield;
        m = switch_to(m, g, next);
        *m->errno_addr = g->saved_errno;
    } else if (m->p->tick - m->p->ticked >= TICK) {
        sched_tick(m);
    }
    return m;
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
    rt_leave(sched_yield_to_others(m));
}

WEFT_NO_TSAN _Noreturn void sched_exit(M *m)
{
    G *g = m->g, *next = pick(m, m->p);
    if (next == NULL)
        next = &m->g0;
    m->commit = coro_reap;
    m->prev = g;
    m->g = next;
    if (next != &m->g0) {
        bump(&m->p->switches, 1);
        if (next->sp == NULL)
            coro_bind(m, next);
        next->m = m;
        set(&next->state, G_RUNNING);
    }
    note_leave(m, g, next, true);
    arch_switch(&g->sp, next->sp, m);
    __builtin_unreachable();
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
        if (m->p != NULL && get(&m->p->attention) != 0)
            sched_attend(m);
        if (get(&sched.stopping)) {
            if (m->p != NULL)
                idle_release_p(m);
            return;
        }
        G *g = m->p != NULL ? pick(m, m->p) : NULL;
        if (g == &m->g0)
            continue;
        if (g == NULL)
            g = idle_find(m);
        if (g == NULL)
            return;
        if (m->spinning)
            idle_end_spin(m);
        switch_to(m, &m->g0, g);
    }
}
