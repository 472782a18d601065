/* SPDX-License-Identifier: MIT
 *
 * preempt.c: no coroutine can hold a processor, whatever C it runs.
 *
 * When. Each M has a tick that counts the CPU time of its own thread, so a thread
 * that is blocked in the kernel is never interrupted (sys/linux/tick.c). A coroutine
 * during which two ticks pass, or a resumed hog during which one passes, has used
 * up its slice: it is a *hog*, and gives way if anything else can run. Besides, the
 * monitor pokes the M of a hog when something was woken and no P is idle: that
 * one gives way at once, and keeps the rest of its slice (its thread's clock stands
 * still with it). A tick costs 20 us in a virtual machine, nearly all of it in the
 * kernel, so while a hog has nothing to give way to its ticks become rarer, down to
 * one in LAZIEST slices; as soon as anything waits the monitor restores them.
 *
 * Pairs. Two that hand each other the processor would never use up a slice. So who runs next because it
 * was just woken (runnext) goes on in the slice of its waker, as in Go: a streak of these (sched.c) is one
 * coroutine here, and who of it runs when the slice is over gives way. The switch does not pay for that: if no more
 * were picked since the last tick than the streak is long, all came from runnext. (A pick from the global queue does not
 * end a streak: behind one a slice may end a tick early.) A pair of which 64 turns are shorter than
 * a slice is not seen so: it shares with others by turns, not by time.
 *
 * How: three answers.
 * - Not now. Inside the runtime (preempt_off > 0), or when the coroutine has disabled
 *   preemption: set m->request. Who lowers preempt_off to 0 looks at it.
 * - Hold (hold.c): the coroutine stands still on its thread, in the handler; only
 *   the P goes on. True for any C code, since its thread runs nothing else.
 *   In libc, the loader or an allocator it may hold a lock that everybody needs: it
 *   is tried again TRIES times, RETRY apart, and if it has to be stopped there all the
 *   same, it runs before the hogs, and at the latest when the monitor lends it a P.
 * - Move: a coroutine whose author promises that their code keeps nothing of its
 *   thread's (WEFT_MOVABLE), and whose stack is proved to hold none of libc's
 *   either (safepoint.c). The handler makes it call preempt_moved() and returns;
 *   that is an ordinary yield, with every register saved on its own stack.
 *
 * Calls. At the end of a weft call that parks the coroutine yields (sched_give_way):
 * its author knows that it may change threads there. At the end of any other call it
 * is held, and only when its slice is over.
 *
 * Why a handler may do what it does. It runs when preempt_off is 0: the interrupted
 * code is the user's, and holds no lock of ours. It looks at m, m->p and p's owner
 * fields, which only this thread writes; at queues by atomic loads; and tries
 * sched.lock once. preempt_off, request: plain accesses of one thread, kept in order
 * by signal fences: the code lowers preempt_off and then reads request; a tick
 * before the lowering has set it, a tick after it finds 0 and acts itself.
 *
 * The handler also looks how deep a stack without a guard has become (stack.c), in the user's code only:
 * within a switch m->g is not the one whose stack this is. Where such stacks run, ticks do not become rarer.
 *
 * The end of a run: handlers leave for g0 (hold_abandon), but not out of library code:
 * the host that prints next needs stdio's locks. There they make the outermost library
 * frame return to preempt_left() instead of its caller (safepoint_leave); where that
 * cannot be, they try again until preempt_insist().
 */
#include "rt.h"

enum {
    TRIES = 4,
    SELDOM = 16, /* once in so many ticks */
    MOVE_STACK =
        16384, /* what the switch away may need, and what is done after the switch back (sched_arrive) */
    LAZIEST = 32 /* slices */
};

static const int64_t LEAVE_NS = 10000000;

static _Atomic bool insist;
static _Atomic uint32_t stopped_inside;  /* at the end of a run, in library code */
static _Atomic uint64_t stopped_example; /* the id of one of them */
static uintptr_t forked_left;            /* in a forked child: its M's */

static bool over(P *p)
{
    return p->over_tick == get(&p->tick);
}

/* On any P: hogs take turns without anybody looking elsewhere, and another P may be busy for long. */
bool preempt_work_waits(void)
{
    if (get(&sched.runq_n) != 0 || idle_next_timer() <= sys_now())
        return true;
    for (uint32_t i = 0; i < get_acq(&sched.np); i++)
        if (!runq_empty(sched.p[i]))
            return true;
    return false;
}

bool preempt_is_hog(P *p)
{
    return get(&p->hog_tick) == get(&p->tick);
}

static enum HogPlace place_of(P *p)
{
    return over(p) ? HOG_LAST : preempt_is_hog(p) ? HOG_FIRST : HOG_NOT;
}

/* Does what runs on p have to give way? */
static bool wanted(P *p)
{
    if (p->id >= get(&sched.procs)) /* lent, or one too many */
        return true;
    if (over(p))
        return get(&sched.hogs_n) != 0 || preempt_work_waits();
    return get(&p->give_way) && get(&p->spared_tick) != get(&p->tick) && preempt_work_waits();
}

/* Its slice is over, and who shares its window waits: in no queue, nor would another P help. Only leaving the window does,
 * not standing still. */
static bool window_wanted(const M *m)
{
    return over(m->p) && !(m->g->flags & (G_PINNED | G_UNPREEMPTIBLE)) && copystack_wanted(m->g);
}

/* A tick of the clock. True: nobody else has run since the last one. */
static bool count(M *m, P *p)
{
    uint32_t tick = get(&p->tick), picked = tick - m->seen_tick;
    bool seen = m->seen_p == p;
    m->seen_p = p;
    m->seen_tick = tick;
    if ((seen && picked <= p->streak) || sched.storm) {
        p->over_tick = tick;
        set(&p->hog_tick, tick);
    }
    return seen && picked == 0;
}

static void set_period(M *m, int64_t period)
{
    if (get(&m->tick.period) != period)
        sys_tick_period(&m->tick, period);
}

/* The slice of what runs on p is over, and nobody wants its place. */
static void be_lazy(M *m, P *p)
{
    int64_t period = get(&m->tick.period);
    if (over(p) && !sched.storm && period < LAZIEST * sched.slice && !(m->g->flags & G_UNGUARDED))
        set_period(m, 2 * period);
}

void preempt_hasten(M *m)
{
    set_period(m, sched.slice);
}

static bool in_library(M *m, void *uc)
{
    void *lo, *hi;
    stack_bounds(m->g->slot, &lo, &hi);
    return safepoint_in_library(uc, lo, hi);
}

static bool may_move(const G *g)
{
    return (g->flags & (G_MOVABLE | G_PINNED)) == G_MOVABLE &&
           !sched.valgrind; /* it does not expect calls that a handler puts in */
}

static bool movable(M *m, void *uc)
{
    void *lo, *hi;
    ArchContext ctx;
    if (!may_move(m->g))
        return false;
    stack_bounds(m->g->slot, &lo, &hi);
    arch_ucontext(uc, &ctx);
    uintptr_t floor = (uintptr_t)stack_floor(m->g->slot);
    return ctx.sp > floor && ctx.sp <= (uintptr_t)hi &&
           ctx.sp - floor > arch_inject_space() + MOVE_STACK && safepoint_movable(uc, lo, hi);
}

/* The coroutine goes on elsewhere; that it was seen by a tick goes with it. */
static M *step_aside(M *m, enum HogPlace place)
{
    bool seen = m->seen_p == m->p && m->seen_tick == get(&m->p->tick);
    m = place == HOG_NOT ? sched_yield_to_others(m) : sched_give_way(m, place);
    m->seen_p = seen ? m->p : NULL;
    m->seen_tick = get(&m->p->tick);
    return m;
}

/* What the handler has made the coroutine call. */
static void preempt_moved(void)
{
    M *m = rt_enter();
    rt_leave(step_aside(m, place_of(m->p)));
}

static void ask_again(M *m)
{
    set(&m->again, true);
    monitor_alarm();
}

/* Once more where it had better not be stopped. True: often enough. */
static bool tried(M *m, P *p)
{
    uint32_t tick = get(&p->tick);
    if (m->tries_tick != tick) {
        m->tries_tick = tick;
        m->tries = 0;
    }
    return ++m->tries > TRIES;
}

/* It is not inside a library. */
static bool move(M *m, P *p, void *uc)
{
    if (!movable(m, uc) || !arch_inject(uc, preempt_moved))
        return false;
    bump(&p->moved, 1);
    event_preempt(p, m->g, ANSWER_MOVED, uc);
    return true;
}

/* Nothing holds it for a window's sake, so a walk of the stack at each tick could be all that it does. */
static bool due_again(M *m, P *p)
{
    return may_move(m->g) && (!tried(m, p) || m->tries % SELDOM == 0);
}

static void stop(M *m, P *p, void *uc)
{
    enum HogPlace place = place_of(p);
    bool inside = in_library(m, uc);
    if (!inside && move(m, p, uc))
        return;
    if ((inside || may_move(m->g)) && !tried(m, p)) {
        ask_again(m);
        return;
    }
    if (inside)
        place = HOG_URGENT;
    switch (hold_running(m, uc, place)) {
    case HELD:
        break;
    case HOLD_BUSY:
        ask_again(m);
        break;
    case HOLD_NOBODY:
        maker_want();
    }
}

static void leave(M *m, void *uc)
{
    void *lo, *hi;
    stack_bounds(m->g->slot, &lo, &hi);
    enum Leave how = safepoint_leave(uc, lo, hi, &m->left);
    if (how != LEAVE_OUTSIDE) {
        if (!get(&insist)) {
            if (how == LEAVE_INSIDE)
                ask_again(m);
            set(&m->arranged, how == LEAVE_ARRANGED);
            set_period(m, LEAVE_NS); /* under a storm it would never get there */
            return;
        }
        set(&stopped_example, m->g->id);
        atomic_fetch_add(&stopped_inside, 1);
    }
    hold_abandon(m);
}

/* Library code has returned to arch_left_entry. In a child of fork or vfork it goes on as if nothing had
 * been: the child has nothing to do with the end of the run. */
uintptr_t preempt_left(void)
{
    M *m = arch_self();
    if (m == NULL)
        return forked_left;
    if (sys_tid() != m->tid)
        return m->left;
    set(&m->preempt_off, 1);
    hold_abandon(m);
}

void preempt_forked(const M *m)
{
    forked_left = m->left;
}

/* The P is the M's own. */
static void tick_with_p(M *m, bool poked, bool inside, void *uc)
{
    P *p = m->p;
    bool alone = poked || count(m, p);
    bool give_way = wanted(p), share = !give_way && window_wanted(m);
    if (give_way || share || !over(p) || !alone)
        set_period(m, sched.slice);
    else if (!poked)
        be_lazy(m, p);
    if (inside || m->g->flags & G_UNPREEMPTIBLE) {
        if (get(&sched.stopping) || give_way || share) {
            bump(&p->flagged, 1);
            event_preempt(p, m->g, ANSWER_FLAGGED, uc);
            set(&m->request, true);
        }
        return;
    }
    if (!get(&sched.stopping) && give_way)
        stop(m, p, uc);
    else if (!get(&sched.stopping) && share && due_again(m, p) && !in_library(m, uc))
        (void)move(m, p, uc);
    if (get(&sched.stopping))
        leave(m, uc);
}

/* It was taken while the coroutine was in the kernel. What computes now has to wait for one, save in a
 * declared call. */
static void tick_without_p(M *m, void *uc)
{
    set_period(m, sched.slice);
    if (get(&sched.stopping))
        leave(m, uc);
    else if (!m->declared && !(m->g->flags & G_UNPREEMPTIBLE) &&
             (!in_library(m, uc) || ++m->tries > TRIES))
        hold_return(m, uc); /* if it is busy the next tick tries again */
    if (get(&sched.stopping))
        leave(m, uc);
}

static void on_tick(bool poked, void *uc)
{
    M *m = arch_self();
    if (m == NULL || !m->ticking)
        return;
    if (sys_tick_seen(&m->tick))
        poked = true;
    if (unlikely(get(&m->where) != NULL))
        where_answer(m, uc);
    if (m->g == &m->g0)
        return; /* between coroutines, or at either end of its life */
    if (get(&m->arranged) && !get(&insist) && ++m->tries % SELDOM != 0)
        return; /* it will come by itself, unless by longjmp() */
    if (get(&sched.stopping) && get(&m->in_kernel)) {
        set(&m->in_kernel, false);
        arch_fail_syscall(uc); /* whoever waits is to give it up */
    }
    uint32_t off = get(&m->preempt_off);
    if (unlikely(m->g->flags & G_UNGUARDED) && off == 0)
        stack_check_at(m->g, uc);
    set(&m->preempt_off, off + 1); /* the monitor must not take the P from under us: syscall.c */
    atomic_signal_fence(memory_order_seq_cst); /* pairs with the membarrier there */
    if (syscall_settle(m) != LEASE_OWN) {
        if (off == 0)
            tick_without_p(m, uc);
    } else if (m->p != NULL) {
        tick_with_p(m, poked, off != 0, uc);
    }
    set_rel(&m->preempt_off, off);
}

/* preempt_off is 1. The coroutine may come back on another M. */
static M *answer(M *m, bool parks)
{
    P *p = m->p;
    bool waits = preempt_work_waits();
    bool hog = preempt_is_hog(p) && get(&p->spared_tick) != get(&p->tick);
    enum HogPlace place = place_of(p);
    if (parks && !(m->g->flags & G_PINNED) && (wanted(p) || (hog && waits) || window_wanted(m)))
        return step_aside(m, place);
    if (wanted(p) && may_move(m->g) && !tried(m, p))
        ask_again(m); /* in its own code, perhaps, it can be moved */
    else if (wanted(p) && hold_running(m, NULL, place) == HOLD_NOBODY)
        maker_want();
    else if (hog && waits)
        monitor_alarm(); /* it has woken somebody and goes on */
    return m;
}

/* The M is read here, although the callers know it: until preempt_off is raised this code must not be
 * movable, and what reads the thread's own is not (safepoint.c); in a static program the runtime is not told
 * from its user. */
void preempt_pending(bool parks)
{
    M *m = arch_self();
    if (get(&m->preempt_off) != 0)
        return; /* a call within a call: the outer one comes here too */
    if (m->foreign || m->g->flags & G_UNPREEMPTIBLE) {
        set(&m->request, false);
        return;
    }
    do {
        set(&m->request, false);
        atomic_signal_fence(memory_order_seq_cst); /* a tick from here on counts anew */
        set(&m->preempt_off, 1);
        atomic_signal_fence(memory_order_seq_cst); /* pairs with the membarrier in syscall.c */
        if (get(&m->lease) != LEASE_OWN)
            syscall_back(m);
        m = answer(m, parks);
        set_rel(&m->preempt_off, 0);
        atomic_signal_fence(memory_order_seq_cst); /* a tick before this has left a request */
    } while (get(&m->request));
}

/* ---- a run, a thread --------------------------------------------------------- */

int preempt_start(void)
{
    int rc;
    set(&insist, false);
    set(&stopped_inside, 0);
    if (sched.slice == 0)
        return 0;
    if ((rc = safepoint_init()) != 0)
        return rc;
    sys_tick_may_use_perf(sched.tick != TICK_TIMER);
    if ((rc = sys_tick_install(sched.signo, on_tick)) != 0)
        safepoint_fini();
    return rc;
}

void preempt_end(void)
{
    if (sched.slice == 0)
        return;
    sys_tick_remove();
    safepoint_fini();
}

void preempt_thread_enter(M *m)
{
    if (sched.slice == 0)
        return;
    bool perf = sched.tick == TICK_PERF || (sched.storm && sched.tick != TICK_TIMER);
    SysTickSource first = perf ? SYS_TICK_PERF : SYS_TICK_TIMER;
    int rc = sys_tick_start(&m->tick, first, sched.slice, m->id);
    if (rc != 0 && first == SYS_TICK_PERF)
        rc = sys_tick_start(&m->tick, SYS_TICK_TIMER, sched.slice, m->id);
    m->ticking = true;
}

void preempt_thread_leave(M *m)
{
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    m->leaving = true; /* and has no P: nobody begins to poke it */
    lock_release(&sched.lock);
    while (get_acq(&m->poking) != 0)
        sys_yield();
    if (!m->ticking)
        return;
    sys_tick_stop(&m->tick);
    m->ticking = false;
}

void preempt_insist(void)
{
    set(&insist, true);
}

void preempt_say(void)
{
    uint32_t n = get(&stopped_inside);
    if (n > 0)
        warn("the run ended while %u coroutine%s stood in library code for a second, "
             "coroutine %llu for one: locks may be held for ever",
             n, n == 1 ? "" : "s", (unsigned long long)get(&stopped_example));
}

/* ---- public --------------------------------------------------------------------- */

/* The coroutine that runs; NULL on a foreign thread. */
static G *self(void)
{
    M *m = arch_self();
    return m == NULL || m->foreign ? NULL : m->g;
}

void weft_preempt_disable(void)
{
    G *g = self();
    if (g == NULL)
        return;
    if (g->unpreemptible == UINT16_MAX)
        fatal("weft_preempt_disable() nested too deeply");
    g->unpreemptible++;
    g->flags |= G_UNPREEMPTIBLE;
    atomic_signal_fence(memory_order_seq_cst); /* pairs with the handler */
}

void weft_preempt_enable(void)
{
    G *g = self();
    if (g == NULL)
        return;
    if (g->unpreemptible == 0)
        fatal("weft_preempt_enable() without weft_preempt_disable()");
    atomic_signal_fence(memory_order_seq_cst); /* pairs with the handler */
    if (--g->unpreemptible > 0)
        return;
    g->flags &= (uint16_t)~G_UNPREEMPTIBLE;
    preempt_pending(false); /* what was asked for meanwhile */
}

void weft_thread_lock(void)
{
    G *g = self();
    if (g == NULL)
        return;
    if (g->pins == UINT16_MAX)
        fatal("weft_thread_lock() nested too deeply");
    g->pins++;
    g->flags |= G_PINNED;
}

void weft_thread_unlock(void)
{
    G *g = self();
    if (g == NULL || g->pins == 0)
        return;
    if (--g->pins == 0)
        g->flags &= (uint16_t)~G_PINNED;
}
