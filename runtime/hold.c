/* SPDX-License-Identifier: MIT
 *
 * hold.c: coroutines that stand still on their threads.
 *
 * A preempted coroutine may be anywhere: in the middle of malloc, with a
 * thread-local's address in a register, inside printf with the FILE locked in its
 * thread's name. None of that can be moved, and nothing else may run on its
 * thread meanwhile. So its thread stops with it, on its park word, inside the
 * signal handler; only the P goes on, to an M from bed or to the thread of another
 * held coroutine. The G is then *held*: it is queued like any other, and who
 * picks it gives its own P to that thread and goes to bed (hold_give). The same
 * serves coroutines that are pinned to their thread: they park in place. One that ends pinned leaves a thread
 * on which nobody else may run: that gives its P away as if the coroutine had parked, and ends (hold_thread_ends).
 *
 * Who writes what. Under sched.lock the holder sets g->held, zeroes its park
 * word, gives up its P and puts g into a queue; whoever gives it a P clears
 * g->held under sched.lock (so that it is done once), and then
 *     giver: next_p = p; park = GO (release)      holder: park != 0 (acquire); reads next_p
 * g->sp is NULL while g is held: the switch looks at that anyway (sched.c), so held
 * coroutines cost the switch nothing.
 *
 * No wake-up is lost: the word is zeroed before anybody can find g, and GO stays
 * in it until the holder has seen it.
 *
 * In a signal handler only the first half runs: one try for sched.lock, lists, one
 * futex wake, one futex wait. The interrupted code holds none of the runtime's
 * locks (preempt_off was 0), nobody allocates or waits for anything but the CPU
 * under sched.lock, so the try fails only for an instant, and then the tick is
 * asked for again.
 *
 * Threads. A handler cannot make one, so there must be one in bed; an M that takes
 * over a P sees to the next (maker.c). Without any, a held coroutine's own thread can still
 * take the P: hogs take turns even at the bound of threads, and a P that is lent goes on
 * to the next coroutine in library code.
 *
 * Where. Who passes a P on here goes to sleep at once, so the other thread is to wake up on this
 * CPU (sys_thread_here): between two hogs on two CPUs a hand-over took 80 us without, 20 with that,
 * and the kernel often put both hogs on one CPU, until the next jiffy or for 10 ms.
 *
 * The end of a run. A thread that holds one gets a P from an M that leaves
 * (hold_give_next) and END in its word. Where its coroutine was stopped in library
 * code it goes on until it has left (preempt.c), else it switches to its g0,
 * which finds that the run is over. Everything on the abandoned stack stays as it is.
 */
#include "annotate.h"

enum { GO = 1, END = 2 };

/* For dumps: the interrupted code, or the caller of the function that this is part of. */
static inline __attribute__((always_inline)) ArchContext here(void *uc)
{
    ArchContext at;
    if (uc != NULL) {
        arch_ucontext(uc, &at);
        return at;
    }
    at.pc = (uintptr_t)__builtin_return_address(0);
    at.sp = (uintptr_t)__builtin_dwarf_cfa();
    at.fp = *(const uintptr_t *)__builtin_frame_address(0);
    return at;
}

/* S held. The running G of m stands still from here on. */
static void hold(M *m, const ArchContext *at, bool call)
{
    G *g = m->g;
    g->held = true;
    g->sp = NULL;
    m->holds = true;
    sched.n_held++;
    m->held_since = sys_now();
    m->at = *at;
    m->at_call = call;
    set(&m->park, 0);
}

/* m's P is nobody's. */
static void drop(M *m)
{
    P *p = m->p;
    set(&m->solo, 0);
    m->p = NULL;
    set(&p->m, NULL);
    set(&p->give_way, false);
    set(&p->tick, get(&p->tick) + 1); /* what was said of its coroutine is no longer true */
}

/* S held. g is to get a P: nobody else gives it one. */
static void claim(G *g)
{
    g->held = false;
    g->m->holds = false;
    sched.n_held--;
    g->m->urgent = false;
}

/* S held. `to` gets a P from a handler or the monitor: next's thread, or an M from bed. */
static void takes_over(M *to, G *next)
{
    if (next != NULL)
        claim(next);
    else
        to->took_over = true;
}

/* uc: in a handler, which may only try. */
static bool lock_sched(const void *uc)
{
    if (uc != NULL)
        return lock_try(&sched.lock, RANK_SCHED);
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    return true;
}

/* p is nobody's. A hog is one from here on: the monitor would miss it until it runs. */
static void pass(M *to, P *p, uint32_t how, bool here)
{
    event_handoff(p, to);
    to->here = here && sys_thread_here(to->tid, &to->cpus);
    if (to->hog)
        set(&p->hog_tick, get(&p->tick));
    to->hog = false;
    to->next_p = p;
    set_rel(&to->park, how); /* pairs with get_acq in await(), and in bed() */
    sys_unpark(&to->park, 1);
}

/* Until somebody gives us a P. True: the run is over. */
static bool await(M *m)
{
    uint32_t how;
    while ((how = get_acq(&m->park)) == 0) /* pairs with pass() */
        sys_park(&m->park, 0, 0);
    set(&m->park, 0);
    if (m->here)
        sys_thread_anywhere(&m->cpus);
    m->here = false;
    P *p = m->next_p;
    G *g = m->g;
    m->next_p = NULL;
    g->m = m;
    set(&g->state, G_RUNNING);
    idle_acquire(m, p);
    bump(&p->switches, 1); /* no context was switched, but the P is another's */
    event_resumed(m, g);
    return how == END;
}

/* It goes on: what is left of this thread's tick is left of its slice. */
static void go_on(M *m, bool hog, bool seen)
{
    P *p = m->p;
    uint32_t tick = get(&p->tick);
    set(&m->g->reason, WHY_NONE);
    if (hog) {
        p->hog_ran = p->now;
        set(&p->hog_tick, tick);
    }
    m->seen_p = hog || seen ? p : NULL;
    m->seen_tick = tick;
}

/* S. Who is back from the kernel goes first every other time: what is queued on the P would never run, if
 * each of them soon blocks again and another is back then. */
static bool back_turn;

/* S held. To whom p goes: an M in bed if something woken waits, else the next
 * hog's thread, g; else whoever there is. */
static M *successor(P *p, bool over, G **g)
{
    M *to = NULL;
    bool lent = p->id >= get(&sched.procs); /* an M out of bed gives it back at once */
    *g = NULL;
    if (!lent && (runq_empty(p) || (back_turn = !back_turn)) && (*g = runq_get_back()) != NULL)
        return (*g)->m;
    if (lent || preempt_work_waits())
        to = idle_get_m();
    if (to == NULL && !lent && (*g = runq_get_back()) != NULL)
        return (*g)->m;
    if (to == NULL && (lent ? hogs_urgent() : over) && (*g = hogs_get_held()) != NULL)
        return (*g)->m;
    return to != NULL ? to : idle_get_m();
}

enum Hold hold_running(M *m, void *uc, enum HogPlace place)
{
    G *g = m->g, *next;
    P *p = m->p;
    ArchContext at = here(uc);
    if (!lock_sched(uc))
        return HOLD_BUSY;
    bool hog = preempt_is_hog(p), seen = m->seen_p == p && m->seen_tick == get(&p->tick);
    bool over = place == HOG_LAST || place == HOG_URGENT;
    M *to = get(&sched.stopping) ? NULL : successor(p, over, &next);
    if (to == NULL) {
        lock_release(&sched.lock);
        return HOLD_NOBODY;
    }
    bump(&p->handed, 1);
    event_preempt(p, g, ANSWER_HANDED, uc);
    event_held(g);
    event_ready(g);
    hold(m, &at, uc == NULL);
    drop(m);
    m->urgent = place == HOG_URGENT;
    m->hog = hog;
    set(&g->state, G_RUNNABLE);
    set(&g->reason, WHY_PREEMPTED);
    hogs_put(g, place);
    takes_over(to, next);
    lock_release(&sched.lock);
    pass(to, p, GO, true);
    if (place == HOG_URGENT)
        monitor_alarm(); /* in case it has to lend a P */
    bool end = await(m);
    go_on(m, hog, seen);
    if (end && uc == NULL)
        hold_abandon(m);
    return HELD;
}

/* p was ours, and is nobody's. */
static void go_on_without(M *m, P *p, M *to, bool last)
{
    if (to != NULL) {
        pass(to, p, GO, false);
        return;
    }
    procs_put_back(m, p);
    if (last)
        maker_want(); /* somebody must wait for timers and descriptors */
}

/* Our P goes on without us, with whatever is queued on it. The end of a run that is
 * seen here is not waited for; one that comes later finds us (hold_give_next). If we have
 * been claimed already there is a P under way to us, and we must be there. */
static void release(M *m)
{
    P *p = m->p;
    M *to = NULL;
    bool busy = !runq_empty(p);
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    bool stopping = get(&sched.stopping) && m->holds;
    if (stopping)
        claim(m->g);
    else
        drop(m);
    if (busy && !stopping)
        to = idle_get_m();
    bool last = sched.idle_ms == NULL;
    lock_release(&sched.lock);
    if (stopping)
        hold_abandon(m);
    go_on_without(m, p, to, last);
}

/* Not lost: `stopping` is set before idle_stop_all() looks for us under sched.lock; either it sees `gone`, or we have seen
 * `stopping` there. */
static void wait_for_stop(M *m0)
{
    while (!get(&sched.stopping))
        sys_park(&m0->park, 0, 0);
}

/* What may still find m: the monitor by p->m, until drop(), and marks it (preempt_thread_leave() waits for that); who
 * walks all_ms, until thread_main() has taken it off there. It holds nobody and is not in bed, so nobody gives it a
 * P. Its own it drops under sched.lock like one that parks in place, and from there it is the same: an M from bed
 * gets it, or it goes to the idle list with its queue in the global one, and whoever looks is woken or made.
 *   From then on m counts as one that stands still: the maker makes one in its place.
 *   The thread in weft_run() is not ours to end. It may be as strange as any other, and so does not run
 * coroutines either: it sleeps until the run is over. (Go's main thread sleeps for ever.) */
bool hold_thread_ends(M *m)
{
    P *p = m->p;
    M *to = NULL;
    bool busy = !runq_empty(p);
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    bool stopping = get(&sched.stopping); /* p may have to go round: hold_give_next() */
    if (!stopping) {
        drop(m);
        m->gone = true;
        sched.n_held++;
        if (busy)
            to = idle_get_m();
    }
    bool last = sched.idle_ms == NULL;
    lock_release(&sched.lock);
    if (stopping)
        return false;
    go_on_without(m, p, to, last);
    if (m == sched.m0)
        wait_for_stop(m);
    return true;
}

/* S held. Somebody to whom successor() gives p. */
static bool have_successor(P *p)
{
    if (p->id >= get(&sched.procs))
        return sched.idle_ms != NULL;
    return sched.idle_ms != NULL || sched.back.head != NULL || hogs_next_is_held();
}

/* The M is in the kernel, or was: its coroutine keeps its thread, which will ask for a P when it
 * enters the runtime again (hold_return). Until the lease is TAKEN nothing has changed. */
bool hold_retake(M *m, P *p, uint32_t lease)
{
    G *next;
    M *to = NULL;
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    bool can = get(&p->m) == m && !get(&sched.stopping) && have_successor(p);
    if (can && atomic_compare_exchange_strong(&m->lease, &lease, LEASE_TAKEN)) {
        to = successor(p, true, &next);
        drop(m);
        m->was_p = p;
        m->out_since = sys_now();
        sched.n_out++;
        bump(lease == LEASE_CALL ? &sched.retaken_calls : &sched.retaken_blocked, 1);
        set(&m->g->reason, WHY_SYSCALL);
        event_retake(p, m, lease == LEASE_CALL);
        takes_over(to, next);
    }
    lock_release(&sched.lock);
    if (to != NULL)
        pass(to, p, GO, false);
    else if (!can)
        maker_want();
    return to != NULL;
}

/* S held. */
static P *any_p(M *m)
{
    P *p = m->was_p;
    if (get(&p->state) != P_IDLE || p->id >= get(&sched.procs) || get(&sched.need_spin) != 0 ||
        !idle_take_p(p))
        return idle_get_p_for(m);
    set(&p->state, P_RUNNING);
    return p;
}

/* Its own P, an idle one, or it stands still before the global queue, for whoever is next. */
enum Hold hold_return(M *m, void *uc)
{
    ArchContext at = here(uc);
    if (!lock_sched(uc))
        return HOLD_BUSY;
    bool stopping = get(&sched.stopping);
    m->tries = 0;
    P *p = stopping ? NULL : any_p(m);
    if (!stopping) {
        m->out_for = sys_now() - m->out_since;
        sched.n_out--;
        set(&m->lease, LEASE_OWN);
        set(&m->g->reason, WHY_NONE);
    }
    if (!stopping && p == NULL) {
        hold(m, &at, uc == NULL);
        set(&m->g->state, G_RUNNABLE);
        event_held(m->g);
        event_ready(m->g);
        if (event_wanted(NOTE_TRACE))
            trace_put(TRACE_READY, 0, TRACE_NO_P, m->g->id, 0, sys_now());
        runq_put_back(m->g);
    }
    lock_release(&sched.lock);
    m->seen_p = NULL;
    if (stopping)
        return HOLD_NOBODY;
    if (p == NULL) {
        monitor_alarm(); /* hogs may have them all */
        if (await(m) && uc == NULL)
            hold_abandon(m);
        return HELD;
    }
    idle_acquire(m, p);
    event_resumed(m, m->g);
    set(&p->tick, get(&p->tick) + 1); /* what was said of its last coroutine is no longer true */
    if (m->spinning)
        idle_end_spin(m);
    return HELD;
}

/* Held first, so that it can be found as soon as the commit is done; the P last,
 * because the commit may hold locks in solo mode (lock.c). If somebody is fast and
 * gives us a P before we have let go of ours, it waits in next_p. */
M *hold_park(M *m, Commit *commit, void *arg)
{
    G *g = m->g;
    ArchContext at = here(NULL);
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    hold(m, &at, true);
    lock_release(&sched.lock);
    if (commit != NULL && !commit(m, g, arg))
        sched_ready(m, g);
    release(m);
    if (await(m))
        hold_abandon(m);
    return m;
}

void hold_give(M *m, G *g)
{
    P *p = m->p;
    bool spared = get(&p->spared_tick) == get(&p->tick);
    if (m->spinning)
        idle_end_spin(m);
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    bool give = !get(&sched.stopping); /* else it is hold_give_next()'s */
    if (give) {
        claim(g);
        drop(m);
        if (spared)
            set(&p->spared_tick, get(&p->tick));
    }
    lock_release(&sched.lock);
    if (give)
        pass(g->m, p, GO, true);
}

void hold_rescue(P *p, G *g)
{
    assert_held(&sched.lock);
    claim(g);
    pass(g->m, p, GO, false);
}

/* S held. A thread that holds a coroutine, those in library code first. */
static M *any_holder(void)
{
    M *to = NULL;
    for (M *x = sched.all_ms; x != NULL; x = x->all)
        if (x->holds && (to == NULL || x->urgent))
            to = x;
    return to;
}

bool hold_give_next(M *m)
{
    P *p = m->p;
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    M *to = any_holder();
    if (to != NULL) {
        claim(to->g);
        drop(m);
    }
    lock_release(&sched.lock);
    if (to != NULL)
        pass(to, p, END, false);
    return to != NULL;
}

bool hold_end_one(P *p)
{
    assert_held(&sched.lock);
    M *to = any_holder();
    if (to == NULL)
        return false;
    claim(to->g);
    pass(to, p, END, false);
    return true;
}

WEFT_NO_TSAN void hold_abandon(M *m)
{
    G *g = m->g;
    set(&m->preempt_off, 1);
    event_abandoned(m, g);
    syscall_abandon(m);
    g->flags &= (uint16_t)~G_COPIED; /* it does not leave its window */
    m->abandoned = true;
    m->prev = g;
    m->commit = NULL;
    m->g = &m->g0;
    note_leave(m, g, &m->g0, true);
    cxx_leave(m, g);
    void *gone; /* not g->sp: who finds it in a queue must not take it for one that can go on */
    arch_switch(&gone, m->g0.sp, m);
    __builtin_unreachable();
}
