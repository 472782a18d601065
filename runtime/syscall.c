/* SPDX-License-Identifier: MIT
 *
 * syscall.c: a coroutine may block in the kernel, its processor may not.
 *
 * Two kinds of blocking call. *Declared*: weft_syscall_enter/exit, weft_blocking, weft's own calls
 * on files. *Undeclared*: any other, in anybody's library. In both the thread keeps its coroutine, and the
 * P stays with the thread until the monitor takes it away, which it does if anyone else could use it.
 * Most calls are over before that, and pay next to nothing. The thread learns of it when it comes
 * back, and then takes its old P, an idle one, or stands at the head of the global queue (hold_return).
 * Without a P it never runs code of the runtime's; the user's it may, until its next weft call or tick.
 *
 * The lease is a word of the M that says whose its P is:
 *
 *      OWN --- the M, syscall_begin() --> CALL --- the M, syscall_end() --> OWN
 *                                          +------ the monitor ----------> TAKEN
 *      OWN --- the monitor -------------> ASKED -- the M, or the monitor -> OWN
 *                                          +------ the monitor ----------> TAKEN
 *      TAKEN --------- the M, with another P and sched.lock held --------> OWN
 *
 * Each arrow but the first and the last is a compare-and-swap, so two that start at one state exclude each other. Into
 * TAKEN it goes under sched.lock, with the P already seen to be the M's, and there is somebody to run on it.
 *
 * Declared. CALL is stored with release: everything the M has done to its P comes before. The
 * monitor's swap acquires it. If the M's own swap wins, nobody has touched the P.
 *
 * Undeclared. There the M does nothing before it blocks. The monitor must not take the P of an M that is inside the runtime
 * (preempt_off > 0), nor of one that is about to enter:
 *
 *      M, rt_enter()                     the monitor
 *      preempt_off = 1                   lease: OWN -> ASKED
 *      (compiler barrier)                membarrier()
 *      if lease != OWN: syscall_back()   if preempt_off == 0: lease: ASKED -> TAKEN, else -> OWN
 *
 * membarrier() puts a full barrier somewhere into the M's column. If the M read the lease before it, its
 * preempt_off is seen, and the monitor withdraws. If after, it sees ASKED, and turns it back into
 * OWN, or loses to the monitor and sees TAKEN. If the M has been in and out again, preempt_off is 0 (a release,
 * acquired here) and the P is in order, but perhaps no longer that M's: hence the look at p->m under sched.lock. So taking is safe
 * whether the M is blocked or computes; that it is blocked is only why. A handler of the tick raises preempt_off as
 * well before it looks at its P. (tests/model/lease.pml)
 *
 * Is it blocked? The same coroutine on the P at two looks, the thread in state S or D at the later (if that can be told),
 * and its CPU clock the same at both. After IDLE_NS it loses its P even if nobody wants it: an M from bed puts it
 * to rest, and the monitor with it.
 *
 * When. While any P runs the monitor looks every millisecond. If work waits for a P whose thread has not
 * computed for most of the time since the last look, it looks once more after LOOK_HOT; shortly after it
 * has taken a P, always. For declared calls that is too late. So syscall_begin() rouses it if no P is idle, and it
 * looks again after CALL_NS. A call that lasts so long loses its P at once if work waits; if not, the monitor goes
 * into the poller meanwhile (monitor.c), and whoever makes something ready rouses it. Meeting short calls in PATIENT looks
 * in a row means that they are short here, and from then on it comes every LOOK without being roused, until one lasts or
 * none is seen for WATCH_NS.
 * `watching` says that it comes by itself:
 *      the monitor: watching = false; membarrier(); looks at the leases    M: lease = CALL; (compiler barrier); reads watching
 * so that one of both sees the other. (tests/model/watching.pml)
 *
 * Rejected: giving the P away at once (a thread switch, 20 us, for each read of a cached page); a signal to the blocked
 * thread (cuts its call short); a P that looks after itself by a state word of its own, as in Go before 1.26 (the M
 * would have to swap it on every entry into the runtime, for the undeclared calls' sake).
 */
#include "rt.h"

#include <errno.h>

static const int64_t CALL_NS = 20000, LOOK = 500000, LOOK_HOT = 100000, SLOW = 1000000,
                     HOT_NS = 5000000, WATCH_NS = 10000000, IDLE_NS = 10000000;
enum { PATIENT = 50 };

/* ---- the thread's side ---------------------------------------------------------- */

uint32_t syscall_settle(M *m)
{
    uint32_t lease = get_acq(&m->lease);
    if (lease == LEASE_ASKED && atomic_compare_exchange_strong(&m->lease, &lease, LEASE_OWN))
        return LEASE_OWN;
    return lease;
}

static bool call_over(M *m)
{
    uint32_t call = LEASE_CALL;
    return atomic_compare_exchange_strong_explicit(&m->lease, &call, LEASE_OWN,
                                                   memory_order_acquire, memory_order_relaxed);
}

/* A weft call in the middle of a declared call ends it: what follows is ordinary code again. */
void syscall_back(M *m)
{
    uint32_t lease = syscall_settle(m);
    bool declared = m->declared;
    m->declared = false;
    if (lease == LEASE_OWN || (lease == LEASE_CALL && call_over(m)))
        return;
    int saved = *m->errno_addr;
    if (hold_return(m, NULL) == HOLD_NOBODY)
        hold_abandon(m);
    if (unlikely(sched.blockwarn != 0) && !declared && m->out_for >= sched.blockwarn)
        dump_blocked(m->g, m->out_for, m->out_at);
    *m->errno_addr = saved;
}

void syscall_begin(M *m)
{
    m->declared = true;
    bump(&m->calls, 1);
    set_rel(&m->lease, LEASE_CALL);
    atomic_signal_fence(memory_order_seq_cst); /* pairs with the membarrier in watch_calls() */
    if (unlikely(!get(&sched.watching)) && get(&sched.idle_p) == 0)
        monitor_alarm();
}

/* At the end of a run there is no P any more: then the coroutine leaves at its next weft call, or tick. */
void syscall_end(M *m)
{
    m->declared = false;
    if (unlikely(!call_over(m))) {
        int saved = *m->errno_addr;
        hold_return(m, NULL);
        *m->errno_addr = saved;
    }
}

void syscall_abandon(M *m)
{
    uint32_t lease = syscall_settle(m);
    m->declared = false;
    if (lease == LEASE_OWN || (lease == LEASE_CALL && call_over(m)))
        return;
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    sched.n_out--;
    set(&m->lease, LEASE_OWN);
    lock_release(&sched.lock);
}

/* ---- the monitor's side ---------------------------------------------------------- */

/* What was seen on a P. */
typedef struct {
    M *m;
    uint32_t tick, calls;
    bool in_call, lasted;
    bool suspected; /* at the last look: it may be blocked */
    int64_t since;  /* when it was seen first */
    int64_t looked; /* when it was seen last */
    int64_t cpu;    /* of the M's thread, then */
} Seen;

static struct {
    Seen seen[P_MAX + P_LENT];
    uint32_t fruitless; /* looks at calls since one that lasted */
    int64_t called;     /* when one was last seen */
    bool short_ones;    /* at this look: one that has not lasted yet */
    bool lasts;         /* at the last look: one that has */
    int64_t took;       /* when the P of a blocked one was last taken */
} watch;

void syscall_reset(void)
{
    memset(&watch, 0, sizeof watch);
    set(&sched.watching, false);
}

/* Is it what was seen there before? */
static bool same(Seen *s, P *p, M *m, int64_t now)
{
    uint32_t tick = get(&p->tick), calls = get(&m->calls);
    bool in_call = get_acq(&m->lease) == LEASE_CALL;
    bool called = s->m == m && s->calls != calls;
    if (in_call || called)
        watch.called = now;
    watch.short_ones |= called;
    if (s->m == m && s->tick == tick && s->calls == calls && s->in_call == in_call)
        return true;
    if (s->m != m)
        s->cpu = -1;
    s->m = m;
    s->tick = tick;
    s->calls = calls;
    s->in_call = in_call;
    s->lasted = false;
    s->since = now;
    return false;
}

/* What its thread has done since the last look. */
enum Doing { COMPUTES, STILL, UNKNOWN };

static enum Doing look_at_clock(Seen *s, int64_t now)
{
    int64_t cpu = sys_task_cpu(s->m->tid), ran = s->cpu < 0 ? -1 : cpu - s->cpu;
    enum Doing doing = ran == 0 ? STILL : ran >= (now - s->looked) / 2 ? COMPUTES : UNKNOWN;
    s->cpu = cpu;
    s->looked = now;
    return doing;
}

static bool take_undeclared(P *p, M *m)
{
    uint32_t own = LEASE_OWN, asked = LEASE_ASKED;
    if (get(&m->preempt_off) != 0 || !atomic_compare_exchange_strong(&m->lease, &own, LEASE_ASKED))
        return false;
    sys_membarrier();
    if (sched.blockwarn != 0)
        m->out_at = sys_task_pc(m->tid, NULL); /* nobody reads it before the P is taken */
    if (get_acq(&m->preempt_off) == 0 && hold_retake(m, p, LEASE_ASKED))
        return true;
    atomic_compare_exchange_strong(&m->lease, &asked, LEASE_OWN);
    return false;
}

/* In a declared call. When to look again. */
static int64_t look_at_call(Seen *s, P *p, bool waits, int64_t now)
{
    int64_t for_ns = now - s->since;
    if (for_ns < CALL_NS) {
        watch.short_ones = true;
        return INT64_MAX;
    }
    if (!s->lasted)
        watch.fruitless = 0;
    s->lasted = true;
    if ((waits || for_ns >= IDLE_NS) && hold_retake(s->m, p, LEASE_CALL))
        return INT64_MAX;
    watch.lasts = true;
    return waits ? now + LOOK : INT64_MAX;
}

/* In any other code; was: the same coroutine was seen there at the last look. */
static int64_t look_at_code(M *monitor, Seen *s, P *p, bool waits, bool was, int64_t now)
{
    enum Doing doing = look_at_clock(s, now);
    bool suspect = waits && doing != COMPUTES && !s->suspected, hot = now - watch.took < HOT_NS;
    s->suspected = suspect;
    if (!waits && !(was && now - s->since >= IDLE_NS))
        return INT64_MAX;
    bool take = was && doing == STILL && sys_task_runs(s->m->tid) <= 0;
    if ((take || (waits && !hot && chaos(monitor, 4))) && take_undeclared(p, s->m)) {
        watch.took = now;
        return now + LOOK_HOT;
    }
    return !waits ? INT64_MAX : suspect || hot ? now + LOOK_HOT : now + SLOW;
}

/* Something to run, and no P for it. */
static bool work_waits(void)
{
    return atomic_load(&sched.idle_p) == 0 && (get(&sched.hogs_n) != 0 || preempt_work_waits());
}

/* Work that nobody else can take, or looks for: procs has grown since its owner was last at a switch; or it is one too
 * many, or lent. */
static bool is_shut(P *p)
{
    return p->id >= get(&sched.procs) ||
           (get(&sched.procs) > 1 && !get(&p->stealable) && !runq_empty(p));
}

static int64_t look_at(M *monitor, P *p, bool waits, int64_t now)
{
    Seen *s = &watch.seen[p->id];
    M *m = monitor_holder(p);
    if (m == NULL)
        return waits ? now + LOOK_HOT : INT64_MAX;
    bool was = same(s, p, m, now);
    int64_t again =
        s->in_call ? look_at_call(s, p, waits, now) : look_at_code(monitor, s, p, waits, was, now);
    monitor_let_go(m);
    return again;
}

/* Come again by itself, or be roused? When to look again. */
static int64_t watch_calls(int64_t now, int64_t again)
{
    int64_t soon = now + (watch.fruitless < PATIENT ? CALL_NS : LOOK);
    if (watch.short_ones)
        watch.fruitless++;
    bool patient = watch.fruitless >= PATIENT && now - watch.called < WATCH_NS;
    bool by_itself = watch.short_ones || patient;
    bool did = get(&sched.watching);
    set(&sched.watching, by_itself);
    if (did && !by_itself) {
        sys_membarrier(); /* pairs with the fence in syscall_begin() */
        watch.fruitless = 0;
        soon = now + CALL_NS; /* one more look */
    }
    return (did || by_itself) && again > soon ? soon : again;
}

int64_t syscall_watch(M *monitor, int64_t now)
{
    int64_t again = INT64_MAX;
    bool waits = work_waits();
    watch.lasts = watch.short_ones = false;
    for (uint32_t i = 0; i < get_acq(&sched.np); i++) {
        P *p = sched.p[i];
        if (get(&p->state) != P_RUNNING)
            continue;
        int64_t at = look_at(monitor, p, waits || is_shut(p), now);
        if (at < again)
            again = at;
    }
    return watch_calls(now, again);
}

bool syscall_lasts(void)
{
    return watch.lasts;
}

/* ---- public ----------------------------------------------------------------------- */

/* m comes from rt_enter(). */
static void declare(M *m)
{
    if (likely(m->p != NULL))
        syscall_begin(m);
    rt_lower(m); /* what is asked for now, exit does */
}

void weft_syscall_enter(void)
{
    M *m = rt_enter();
    if (likely(m != NULL))
        declare(m);
}

void weft_syscall_exit(void)
{
    M *m = arch_self();
    if (unlikely(m == NULL || m->foreign))
        return;
    rt_raise(m);
    if (get(&m->lease) == LEASE_CALL && call_over(m))
        m->declared = false;
    else
        syscall_back(m);
    rt_leave(m);
}

int weft_blocking(void *(*fn)(void *), void *arg, void **result)
{
    if (fn == NULL)
        return -EINVAL;
    M *m = rt_enter();
    if (unlikely(m == NULL))
        return rt_no_m();
    declare(m);
    void *value = fn(arg);
    weft_syscall_exit();
    if (result != NULL)
        *result = value;
    return 0;
}
