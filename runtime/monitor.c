/* SPDX-License-Identifier: MIT
 *
 * monitor.c: a thread without a P that looks after what busy Ms neglect.
 *
 * Polling. While any P runs it wakes every millisecond. If nobody has looked at the poller
 * or the timers for 10 ms, it takes the poller's role itself for up to 10 ms and hands
 * what becomes ready to the global queue. Afterwards, if a P is idle, it wakes
 * an M, which will find nothing else to do and be the poller from then on: an
 * event that is delivered by the M that runs its coroutine saves a thread
 * switch.
 *
 * Hogs. While every P is busy and one of them runs a hog (preempt.c), the monitor stays
 * in the poller until the next timer, so that a wake-up is seen at once. Once
 * something that was woken, or a timer, waits, it interrupts the M whose coroutine has
 * run longest, so that it gives its P to an M out of bed; if that one does not answer within
 * NUDGE_ANOTHER, the next, until nothing waits. It fires no timers itself: that allocates. An M that
 * is blocked in the kernel is left alone.
 *
 * Lending. A held coroutine may have what all Ps wait for: stopped inside malloc, it has
 * malloc's lock; stopped anywhere, a pthread mutex. So when one in library code has waited
 * for LEND_NS, or every P's thread has been blocked in the kernel that long while
 * hogs waited, the monitor gives one a P beyond `procs`, and another one if that
 * coroutine blocks as well. A lent P is marked as one too many, and whoever gets it after
 * that coroutine retires it (procs_retire).
 *   Hence the monitor must never wait for a lock that a held coroutine can have: it
 * allocates nothing, and takes sched.lock and descriptors' locks only, under which
 * nobody allocates. Threads are made by another one (maker.c).
 *
 * Whom it interrupts. p->m is written under sched.lock when a P changes hands. Under
 * that lock the monitor marks the M it has found (poking, a counter: dumps mark Ms as well, where.c); an M
 * that ends waits until it is not marked (preempt_thread_leave).
 *
 * Alarms. A handler, or an M, that wants something done now stores 1 in `alarm` and
 * then reads sched.poller; the monitor stores its role there and then reads `alarm`:
 * one of them sees the other, and a wake-up of the poller is kept.
 *
 * While every P is idle it sleeps without a timeout: an idle program is not
 * woken (but once, if by then a coroutine in the kernel has kept others from their window for a
 * second: copystack_watch(); and for what WEFT_DEBUG=top and schedtrace show). It stores monitor = 0 and then reads idle_p; an M that takes a P has
 * lowered idle_p and then reads monitor (idle_acquire). Both are sequentially
 * consistent: one of the two sees the other.
 */
#include "view.h"

static const int64_t PERIOD = 10000000, SUSPECT_FIRST = 1000000000, SUSPECT_MOST = 16000000000,
                     RETRY = 75000, NUDGE_ANOTHER = 150000, NUDGE_AGAIN = 1000000, SLOW = 1000000,
                     LEND_NS = 2000000, POKE_AGAIN = 10000000, INSIST_NS = 1000000000,
                     HANDLER_NS = 200000000;

static struct {
    SysThread thread;
    M *m;
    _Atomic bool suspect; /* (a) a deadlock, but for threads that may just be leaving: look again */
    _Atomic uint32_t alarm; /* park word of the naps, 1: come */
    _Atomic bool stop;
    int64_t stopping;  /* since when */
    int64_t looked;    /* when look_at_handler() did */
    bool replaced;     /* what it found */
    uint32_t round;    /* of interrupt_longest() */
    uint32_t ended;    /* where end_some() goes on */
    int64_t poke_from; /* when it may poke blocked ones */
    /* What runs on each P, as it was seen: */
    struct {
        uint32_t tick, tried;
        int64_t since, nudged;
    } seen[P_MAX + P_LENT];
} monitor;

/* Until then, or until an alarm. */
static void nap(int64_t until)
{
    sys_park(&monitor.alarm, 0, until);
    atomic_store(&monitor.alarm, 0);
}

void monitor_alarm(void)
{
    if (atomic_exchange(&monitor.alarm, 1) != 0)
        return;
    sys_unpark(&monitor.alarm, 1);
    if (atomic_load(&sched.poller) == 2)
        sys_poller_wake();
}

static bool all_idle(void) /* >=: a P that is one too many may have come back to the list */
{
    return atomic_load(&sched.idle_p) >= get(&sched.procs) && get(&sched.spinning) == 0;
}

static void check_deadlock(void)
{
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    set(&monitor.suspect, idle_check_deadlock());
    lock_release(&sched.lock);
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* What is shown of the program to others. When to come again, whatever happens until then. */
static int64_t show(int64_t now)
{
    return earlier(view_turn(now), schedtrace_turn(now));
}

/* The same while all is idle: what is left of a count goes on at once. */
static int64_t show_idle(void)
{
    int64_t now, next;
    do {
        now = sys_now();
        next = show(now);
    } while (next <= now && all_idle() && !get(&monitor.stop));
    return next;
}

/* Until something runs. While a deadlock is suspected, look again now and then:
 * the thread that is in the way may end. */
static void sleep_long(void)
{
    int64_t nap = SUSPECT_FIRST, check = sys_now() + nap;
    for (;;) {
        int64_t until = show_idle();
        int rc = 0;
        if (get(&monitor.suspect))
            until = earlier(until, check);
        atomic_store(&sched.monitor, 0);
        until =
            earlier(until, copystack_watch(sys_now())); /* who has begun to wait since wakes us */
        if (until == INT64_MAX)
            until = 0;
        while (atomic_load(&sched.monitor) == 0 && all_idle() && !get(&monitor.stop) &&
               rc != -ETIMEDOUT)
            rc = sys_park(&sched.monitor, 0, until);
        atomic_store(&sched.monitor, 1);
        if (rc != -ETIMEDOUT)
            return;
        if (!get(&monitor.suspect) || sys_now() < check)
            continue;
        check_deadlock();
        nap = nap < SUSPECT_MOST ? 2 * nap : nap;
        check = sys_now() + nap;
    }
}

void monitor_suspect(void)
{
    set(&monitor.suspect, true);
    monitor_wake(); /* to sleep with a timeout from now on */
}

void monitor_wake(void)
{
    if (atomic_exchange(&sched.monitor, 1) == 0)
        sys_unpark(&sched.monitor, 1);
}

static bool something_to_wait_for(void)
{
    return atomic_load(&sched.waiters) > 0 || idle_next_timer() != INT64_MAX;
}

/* Wait in the poller until a deadline, a time or an alarm. False: somebody else does. */
static bool poll(M *m, int64_t until)
{
    uint32_t nobody = 0;
    if (!atomic_compare_exchange_strong(&sched.poller, &nobody, 2))
        return false;
    atomic_store(&sched.poll_until, INT64_MAX);
    int64_t next = idle_next_timer(), now = sys_now();
    if (next <= now) /* known; only time can tell whether somebody fires it */
        next = until;
    int64_t end = next < until ? next : until;
    int64_t timeout = end > now && atomic_load(&monitor.alarm) == 0 ? end - now : 0;
    atomic_store(&sched.poll_until, now + timeout);
    G *list = netpoll_look(m, timeout);
    atomic_store(&sched.poll_until, 0);
    atomic_store(&monitor.alarm, 0);
    set(&sched.polled, sys_now());
    sched_ready_list(m, list); /* before the role is given back: see everyone_idle() */
    atomic_store(&sched.poller, 0);
    if (something_to_wait_for())
        idle_wake(m);
    else
        check_deadlock(); /* while the role was ours the last M to go to sleep could not tell */
    return true;
}

/* ---- interrupting ---- */

/* The M that holds p, marked; NULL: p changes hands. */
M *monitor_holder(P *p)
{
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    M *m = get(&p->m);
    if (m != NULL)
        atomic_fetch_add(&m->poking, 1);
    lock_release(&sched.lock);
    return m;
}

void monitor_let_go(M *m)
{
    atomic_fetch_sub(&m->poking, 1); /* pairs with preempt_thread_leave() */
}

/* Or it cannot be told. */
static bool sees_run(const M *m)
{
    return sys_task_runs(m->tid) != 0;
}

/* Threads that stand still need no nudge. */
static void forget_nudges(void)
{
    enum { SOME = 8 };
    M *some[SOME];
    uint32_t n = 0;
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    for (M *m = sched.all_ms; m != NULL && n < SOME; m = m->all)
        if (m->holds && !get(&m->poking) && atomic_load(&m->tick.nudge_fd) >= 0) {
            atomic_fetch_add(&m->poking, 1);
            some[n++] = m;
        }
    lock_release(&sched.lock);
    while (n > 0) {
        sys_tick_no_nudge(&some[--n]->tick);
        monitor_let_go(some[n]);
    }
}

static void nudge(M *m)
{
    if (sys_tick_nudge(&m->tick) == -EMFILE)
        forget_nudges();
}

/* False: it is blocked in the kernel, or p is nobody's. */
static bool interrupt(P *p)
{
    M *m = monitor_holder(p);
    if (m == NULL)
        return false;
    bool does = sees_run(m);
    if (does) {
        set(&m->again, false);
        set(&p->give_way, true);
        nudge(m);
    }
    monitor_let_go(m);
    return does;
}

static bool blocked(P *p)
{
    M *m = monitor_holder(p);
    bool is = true; /* nobody's for so long: its M waits for memory, say */
    if (m != NULL) {
        is = !sees_run(m);
        monitor_let_go(m);
    }
    return is;
}

static bool wants_again(P *p)
{
    M *m = monitor_holder(p);
    bool does = false;
    if (m != NULL) {
        does = get(&m->again);
        monitor_let_go(m);
    }
    return does;
}

/* ---- hogs ---- */

static void look_at(P *p, int64_t now)
{
    uint32_t tick = get(&p->tick);
    if (tick != monitor.seen[p->id].tick) {
        monitor.seen[p->id].tick = tick;
        monitor.seen[p->id].since = now;
        monitor.seen[p->id].nudged = 0;
    }
}

/* It has run for long, or has a record of doing so. */
static bool is_slow(P *p, int64_t now)
{
    return get(&p->hog_tick) == get(&p->tick) || now - monitor.seen[p->id].since >= SLOW;
}

static bool hogs_about(int64_t now)
{
    bool any = get(&sched.hogs_n) > 0;
    for (uint32_t i = 0; i < get_acq(&sched.np); i++) {
        P *p = sched.p[i];
        if (get(&p->state) != P_RUNNING)
            continue;
        look_at(p, now);
        any |= is_slow(p, now);
    }
    return any;
}

/* Something woken waits for a P. */
static bool somebody_waits(int64_t now)
{
    if (get(&sched.runq_n) > 0 || idle_next_timer() <= now)
        return true;
    for (uint32_t i = 0; i < get_acq(&sched.np); i++)
        if (get(&sched.p[i]->state) == P_RUNNING && is_slow(sched.p[i], now) &&
            !runq_empty(sched.p[i]))
            return true;
    return false;
}

/* The slow one that has run longest, of those not tried in this round nor nudged lately. A nudge comes when
 * its thread runs; the kernel may let it wait behind another, which is then the better choice. *last: when
 * one was nudged. */
static P *longest(int64_t now, uint32_t round, int64_t *last)
{
    P *best = NULL;
    for (uint32_t i = 0; i < get_acq(&sched.np); i++) {
        P *p = sched.p[i];
        if (get(&p->state) != P_RUNNING || !is_slow(p, now) || monitor.seen[i].tried == round ||
            get(&p->spared_tick) == get(&p->tick))
            continue;
        if (monitor.seen[i].nudged > *last)
            *last = monitor.seen[i].nudged;
        if (now - monitor.seen[i].nudged >= NUDGE_AGAIN &&
            (best == NULL || monitor.seen[i].since < monitor.seen[best->id].since))
            best = p;
    }
    return best;
}

/* Somebody has installed a handler for our signal after us: nobody will answer. */
static void look_at_handler(int64_t now)
{
    if (now - monitor.looked < HANDLER_NS || monitor.replaced)
        return;
    monitor.looked = now;
    monitor.replaced = sys_tick_replaced();
    if (monitor.replaced)
        warn("signal %d has got another handler: coroutines that compute are not stopped any more",
             sys_tick_signal());
}

/* True: something is to happen soon. */
static bool interrupt_longest(int64_t now)
{
    uint32_t round = ++monitor.round;
    int64_t last = 0;
    look_at_handler(now);
    for (P *p; (p = longest(now, round, &last)) != NULL;) {
        if (now - last < NUDGE_ANOTHER)
            break;
        monitor.seen[p->id].tried = round;
        if (interrupt(p)) {
            monitor.seen[p->id].nudged = now;
            return true;
        }
    }
    return last != 0;
}

/* Somebody waits: no tick may be rare. */
static void hasten_all(void)
{
    for (uint32_t i = 0; i < get_acq(&sched.np); i++) {
        M *m = get(&sched.p[i]->state) == P_RUNNING ? monitor_holder(sched.p[i]) : NULL;
        if (m != NULL) {
            preempt_hasten(m);
            monitor_let_go(m);
        }
    }
}

/* Lent Ps, and what asked to be interrupted once more. */
static bool interrupt_wanted(void)
{
    bool any = false;
    for (uint32_t i = 0; i < get_acq(&sched.np); i++) {
        P *p = sched.p[i];
        if (get(&p->state) == P_RUNNING && (i >= get(&sched.procs) || wants_again(p)))
            any |= interrupt(p);
    }
    return any;
}

/* ---- lending ---- */

/* Every P that runs, or every lent one, has its thread in the kernel for a while. */
static bool all_blocked(uint32_t from, int64_t now)
{
    for (uint32_t i = from; i < get_acq(&sched.np); i++) {
        P *p = sched.p[i];
        if (get(&p->state) != P_RUNNING)
            continue;
        if (now - monitor.seen[i].since < LEND_NS || !blocked(p))
            return false;
    }
    return true;
}

static void lend_one(bool stuck, int64_t now)
{
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    P *p = procs_spare();
    G *g = NULL;
    if (p != NULL && !get(&sched.stopping) &&
        ((g = hogs_get_urgent(now - LEND_NS)) != NULL ||
         (stuck && ((g = hogs_find_held()) != NULL || (g = runq_get_held()) != NULL)))) {
        solo_end();
        p->spare = false;
        set(&p->state, P_RUNNING);
        atomic_fetch_or(&p->attention, ATT_PROCS);
        monitor.seen[p->id].since = now;
        hold_rescue(p, g);
    }
    lock_release(&sched.lock);
    if (p == NULL)
        procs_add();
}

/* One at a time, but for those whose threads are blocked in their turn. Who is back from the kernel may hold
 * what the others wait for as well. */
static void lend(int64_t now)
{
    if (get(&sched.hogs_n) == 0 && get(&sched.runq_n) == 0)
        return;
    bool stuck = atomic_load(&sched.idle_p) == 0 && all_blocked(0, now);
    if (stuck || (hogs_urgent() && all_blocked(get(&sched.procs), now)))
        lend_one(stuck, now);
}

/* ---- the thread ---- */

/* While every P is busy. */
static void watch(M *m)
{
    int64_t now = sys_now();
    (void)show(now); /* we come again soon anyway */
    bool hogs = hogs_about(now);
    int64_t again = syscall_watch(m, now);
    bool soon = sched.slice != 0 && interrupt_wanted();
    bool waits = somebody_waits(now);
    if (hogs && atomic_load(&sched.idle_p) == 0 && waits && sched.slice != 0)
        soon |= interrupt_longest(now);
    if (sched.slice != 0 && (waits || get(&sched.hogs_n) > 0))
        hasten_all();
    lend(now);
    (void)copystack_watch(now);                  /* the same */
    int64_t until = now + (soon ? RETRY : SLOW); /* whatever runs may block in the kernel */
    if (until > again)
        until = again;
    if ((hogs || syscall_lasts()) && atomic_load(&sched.idle_p) == 0) {
        if (!poll(m, until))
            nap(until < now + SLOW ? until : now + SLOW);
        return;
    }
    nap(until);
    if (get(&sched.poller) == 0 && something_to_wait_for() &&
        sys_now() - get(&sched.polled) >= PERIOD)
        poll(m, sys_now() + PERIOD);
}

/* What runs waits in the kernel, for a lock perhaps that a held one has. */
static void end_one(int64_t now)
{
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    P *p = procs_spare();
    if (p != NULL && hold_end_one(p)) {
        p->spare = false;
        set(&p->state, P_RUNNING);
        monitor.seen[p->id].since = now;
    }
    lock_release(&sched.lock);
    if (p == NULL)
        procs_add();
}

/* Threads with coroutines that run or are blocked in the kernel, with a P or without: some at a time, in the
 * order of the list, which is that of descending numbers. Blocked ones are poked once in POKE_AGAIN: who waits for a lock
 * begins to wait again, and must be seen to be blocked (end_one). */
static void end_some(bool hard, int64_t now)
{
    enum { SOME = 16 };
    M *some[SOME];
    uint32_t n = 0;
    bool poke = now >= monitor.poke_from;
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    for (M *m = sched.all_ms; m != NULL && n < SOME; m = m->all)
        if (!m->foreign && !m->leaving && !m->holds && !m->in_bed && m->id < monitor.ended) {
            atomic_fetch_add(&m->poking, 1);
            some[n++] = m;
        }
    lock_release(&sched.lock);
    monitor.ended = n < SOME ? UINT32_MAX : some[n - 1]->id;
    if (poke && n < SOME)
        monitor.poke_from = now + POKE_AGAIN;
    for (uint32_t i = 0; i < n; i++) {
        bool in_kernel = !sees_run(some[i]);
        set(&some[i]->again, false);
        set(&some[i]->in_kernel, in_kernel && poke);
        if (hard || (in_kernel && poke))
            sys_tick_poke(&some[i]->tick);
        else if (!in_kernel && !get(&some[i]->arranged))
            nudge(some[i]);
        monitor_let_go(some[i]);
    }
}

/* Those that still run leave for g0 at the next tick; calls of those that are blocked in the kernel fail, and those in
 * library code have a second to leave it. */
static void end_run(void)
{
    int64_t now = sys_now();
    if (monitor.stopping == 0)
        monitor.stopping = now;
    bool hard = now - monitor.stopping >= INSIST_NS;
    if (hard)
        preempt_insist();
    hogs_about(now); /* for all_blocked() */
    end_some(hard, now);
    if (all_blocked(0, now))
        end_one(now);
    nap(now + 2 * RETRY);
}

static void monitor_main(void *arg)
{
    M *m = arg;
    thread_enter(m);
    m->monitor = true;
    sys_thread_name("weft-monitor");
    sys_thread_brief();
    while (!get_acq(&monitor.stop)) {
        if (get(&sched.stopping) && sched.slice != 0)
            end_run();
        else if (all_idle())
            sleep_long();
        else
            watch(m);
    }
    thread_leave(m);
}

int monitor_start(void)
{
    set(&monitor.stop, false);
    set(&monitor.suspect, false);
    monitor.stopping = monitor.looked = 0;
    monitor.ended = UINT32_MAX;
    monitor.poke_from = 0;
    monitor.replaced = false;
    atomic_store(&sched.monitor, 1);
    monitor.m = thread_new();
    if (monitor.m == NULL)
        return -ENOMEM;
    int rc = sys_thread_create(&monitor.thread, monitor_main, monitor.m);
    if (rc != 0)
        thread_free(monitor.m);
    return rc;
}

void monitor_stop(void)
{
    set_rel(&monitor.stop, true);
    monitor_alarm();
    sys_unpark(&monitor.alarm, 1);
    atomic_store(&sched.monitor, 1);
    sys_unpark(&sched.monitor, 1);
    sys_poller_wake();
    sys_thread_join(&monitor.thread);
    thread_free(monitor.m);
}
