/* SPDX-License-Identifier: MIT
 *
 * idle.c: an M without work: look, steal, poll, sleep; and who wakes it.
 *
 * The states of an M: it runs Gs (holds a P); it *spins* (holds a P, has no
 * work, looks for some; counted in sched.spinning); it polls (no P, at most one
 * M: sched.poller); it sleeps on its park word (no P, on sched.idle_ms).
 *
 * No wake-up is lost. Whoever makes work (a) publishes it and (b) then reads
 * idle_p and spinning; if a P is idle and nobody spins it wakes an M, which
 * spins. An M that finds nothing (c) puts its P on the idle list (idle_p + 1),
 * stops spinning, and (d) then looks at every queue once more. (a), (b), (c),
 * (d) are sequentially consistent, so either the submitter sees the idle P or
 * the M sees the work. One spinner is enough for any amount of work: a spinner
 * that finds something wakes the next one (idle_end_spin).
 *   A waker that finds no idle P under the lock lowers spinning while it holds
 * it: others may have relied on its looking. A P for which no M can be had goes
 * back to the list with need_spin set, and an M in (d) that sees work but gets no
 * P sets it too; whoever next takes a P or is about to give one back, or to
 * sleep, finds it, under the same lock, and looks. (tests/model/wake.pml)
 *
 * Time and descriptors. The last M to go idle takes the role of the poller: it
 * waits in the kernel until the earliest deadline of all heaps. It announces
 * poll_until = for ever *before* it reads the heaps, and whoever adds a new
 * first timer publishes it *before* it reads poll_until, so an earlier deadline
 * is either seen or wakes the poller (idle_timer_added). A wake-up sent to a
 * poller that is not yet waiting is kept by sys_poller_wake(). While the poller
 * runs Gs again nobody waits there; busy Ps look by themselves (sched_tick), and
 * the monitor takes the role if nobody has looked for 10 ms (monitor.c).
 * (tests/model/poller.pml)
 *
 * Idle Ms end after IDLE_END of sleep; m0, the thread inside weft_run(), stays.
 */
#include "rt.h"

#include <limits.h>

static const int64_t IDLE_END = 5000000000, TRIM_NS = 20000000, TRIM_MORE_NS = 1000000;

/* ---- Ps ---- */

void idle_put_p(P *p)
{
    assert_held(&sched.lock);
    set(&p->state, P_IDLE);
    set(&p->m, NULL);
    p->link = sched.idle_ps;
    sched.idle_ps = p;
    atomic_fetch_add(&sched.idle_p, 1); /* (c) */
}

/* S held: off the list. */
static P *get_p(void)
{
    assert_held(&sched.lock);
    P *p = sched.idle_ps;
    if (p == NULL)
        return NULL;
    sched.idle_ps = p->link;
    set(&p->state, P_RUNNING);
    atomic_fetch_sub(&sched.idle_p, 1);
    return p;
}

bool idle_take_p(P *p)
{
    assert_held(&sched.lock);
    for (P **at = &sched.idle_ps; *at != NULL; at = &(*at)->link)
        if (*at == p) {
            *at = p->link;
            atomic_fetch_sub(&sched.idle_p, 1);
            return true;
        }
    return false;
}

void idle_acquire(M *m, P *p)
{
    m->p = p;
    set(&p->m, m);
    if (!get(&p->stealable) && get(&sched.procs) > 1)
        set_rel(&p->stealable, true);
    solo_enter(m);
    p->now = sys_now();
    if (atomic_load(&sched.monitor) == 0) /* after idle_p fell: pairs with monitor_sleep() */
        monitor_wake();
}

static void drop_p(M *m)
{
    set(&m->solo, 0);
    idle_put_p(m->p);
    m->p = NULL;
}

void idle_release_p(M *m)
{
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    drop_p(m);
    lock_release(&sched.lock);
}

static void begin_spin(M *m)
{
    if (m->spinning)
        return;
    m->spinning = true;
    atomic_fetch_add(&sched.spinning, 1);
}

/* Nothing was found, and nobody else need look. */
static void cease_spin(M *m)
{
    if (!m->spinning)
        return;
    m->spinning = false;
    atomic_fetch_sub(&sched.spinning, 1);
}

P *idle_get_p_for(M *m)
{
    P *p = get_p();
    bool spin = p != NULL && get(&sched.need_spin) != 0;
    if (spin) {
        begin_spin(m);
        set(&sched.need_spin, 0);
    }
    return p;
}

/* An idle P for an M that has none. remember: note in need_spin that there was work. */
static bool take_any_p(M *m, bool remember)
{
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    P *p = idle_get_p_for(m);
    if (p == NULL && remember)
        set(&sched.need_spin, 1);
    lock_release(&sched.lock);
    if (p == NULL)
        return false;
    idle_acquire(m, p);
    return true;
}

/* ---- waking ---- */

M *idle_get_m(void)
{
    assert_held(&sched.lock);
    M *m = sched.idle_ms;
    if (m != NULL) {
        sched.idle_ms = m->link;
        sched.n_idle_m--;
        m->in_bed = false;
    }
    return m;
}

static void hand_over(M *m, P *p)
{
    M *self = arch_self();
    P *ours = self != NULL ? self->p : NULL;
    m->next_p = p;
    m->spinning = true;
    if (ours != NULL)
        set(&ours->waking, true); /* before m runs: see grab_next() */
    set_rel(&m->park, 1);         /* pairs with get_acq in bed() */
    sys_unpark(&m->park, 1);
    if (ours != NULL)
        set(&ours->waking, false);
}

/* No M could be had for p: one sits in the poller, or there can be no more
 * threads. p goes back for the next M that comes by. An M may be on its way to
 * bed and have missed p while we held it: if it is there already it gets p now,
 * if not yet, need_spin keeps it up (bed(), under the same lock). */
static void put_back(P *p)
{
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    M *m = idle_get_m();
    G *g = m == NULL && !get(&sched.stopping) ? hogs_get_held() : NULL;
    if (m == NULL && g == NULL && !get(&sched.stopping))
        g = runq_get_held();
    if (g != NULL) { /* it has a thread */
        atomic_fetch_sub(&sched.spinning, 1);
        hold_rescue(p, g);
    } else if (m == NULL) {
        idle_put_p(p);
        set(&sched.need_spin, 1);
        atomic_fetch_sub(&sched.spinning, 1);
    }
    lock_release(&sched.lock);
    if (m != NULL)
        hand_over(m, p);
    else if (g == NULL)
        sys_poller_wake();
}

/* Work was published and a P is idle: see "No wake-up is lost". */
void idle_wake_slow(void)
{
    uint32_t none = 0;
    if (atomic_load(&sched.spinning) != 0 ||
        !atomic_compare_exchange_strong(&sched.spinning, &none, 1))
        return;
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    P *p = get(&sched.stopping) ? NULL : get_p();
    M *m = p != NULL ? idle_get_m() : NULL;
    if (p == NULL) {
        /* Others may have relied on our looking while spinning was 1. */
        set(&sched.need_spin, 1);
        atomic_fetch_sub(&sched.spinning, 1);
    }
    lock_release(&sched.lock);
    if (p == NULL)
        return;
    if (m != NULL) {
        hand_over(m, p);
        return;
    }
    put_back(p);
    if (get(&sched.poller) != 1)
        maker_want();
}

void idle_end_spin(M *m)
{
    m->spinning = false;
    if (atomic_fetch_sub(&sched.spinning, 1) == 1)
        idle_wake(m); /* there may be more where this came from */
}

/* An M on g0 is about to look for work, and to poll; a foreign thread is not. */
static bool goes_on(const M *m)
{
    return m->p == NULL || m->g != &m->g0;
}

void idle_timer_added(M *m, int64_t when)
{
    if (atomic_load(&sched.poll_until) > when) {
        sys_poller_wake();
    } else if (atomic_load(&sched.poller) == 0 && goes_on(m)) {
        idle_wake(m); /* it will find nothing to run and become the poller */
    }
}

void idle_poke(M *m)
{
    if (atomic_load(&sched.poller) == 0 && goes_on(m))
        idle_wake(m);
}

int64_t idle_next_timer(void)
{
    int64_t next = INT64_MAX;
    for (uint32_t i = 0; i < get_acq(&sched.np); i++) {
        int64_t first = atomic_load(&sched.p[i]->timers.first);
        if (first < next)
            next = first;
    }
    return next;
}

/* ---- looking ---- */

static G *look_here(M *m)
{
    P *p = m->p;
    sched_tick(m);
    G *g = runq_take_next(p);
    if (g != NULL || (g = runq_get(p)) != NULL || (g = runq_get_global(m, p)) != NULL)
        return g;
    if (get(&sched.waiters) > 0 && get(&sched.poller) == 0) {
        set(&sched.polled, p->now);
        G *list = netpoll_look(m, 0);
        if (list != NULL) {
            sched_ready_list(m, list);
            return runq_get(p);
        }
    }
    return NULL;
}

/* 1..n, prime to n. */
static uint32_t steal_step(uint32_t n, uint32_t start)
{
    for (uint32_t step = start % n + 1;; step = step % n + 1) {
        uint32_t a = n, b = step;
        while (b != 0) {
            uint32_t r = a % b;
            a = b;
            b = r;
        }
        if (a == 1)
            return step;
    }
}

static G *look_elsewhere(M *m)
{
    P *p = m->p;
    uint32_t np = get_acq(&sched.np);
    if (get(&sched.procs) == 1) /* np counts Ps to be lent as well */
        return NULL;
    if (!m->spinning) {
        if (2 * get(&sched.spinning) >= get(&sched.procs) - get(&sched.idle_p))
            return NULL; /* enough are looking */
        begin_spin(m);
    }
    for (int round = 0; round < 4; round++) {
        /* Every P once, from a random start: i * step with step prime to np. */
        uint32_t at = rng_below(&m->rng, np), step = steal_step(np, rng_below(&m->rng, np));
        for (uint32_t i = 0; i < np; i++, at = (at + step) % np) {
            P *victim = sched.p[at];
            if (victim == p)
                continue;
            if (round == 3 && get(&victim->timers.first) <= sys_now()) {
                timer_run(m, victim, sys_now());
                G *g = runq_take_next(p);
                if (g != NULL || (g = runq_get(p)) != NULL)
                    return g;
            }
            if (get(&victim->state) == P_IDLE)
                continue;
            G *g = runq_steal(p, victim, round == 3);
            if (g != NULL)
                return g;
        }
    }
    return NULL;
}

static bool any_work(void)
{
    for (uint32_t i = 0; i < get_acq(&sched.np); i++)
        if (get(&sched.p[i]->stealable) && !runq_empty(sched.p[i]))
            return true;
    return atomic_load(&sched.runq_n) > 0 || atomic_load(&sched.hogs_n) > 0;
}

/* ---- going to bed ---- */

/* S held. A P in transit between two Ms, and one that is to retire, counts as
 * running; so does the poller until what it found is in a queue. */
static bool everyone_idle(void)
{
    for (uint32_t i = 0; i < get_acq(&sched.np); i++)
        if (get(&sched.p[i]->state) == P_RUNNING)
            return false;
    return get(&sched.spinning) == 0 && get(&sched.runq_n) == 0 && get(&sched.hogs_n) == 0 &&
           sched.n_out == 0 && get(&sched.poller) == 0 && get(&sched.waiters) == 0 &&
           idle_next_timer() == INT64_MAX && !get(&sched.stopping);
}

/* Nothing can ever run again, unless a thread that is not ours does something.
 * True: it looks like that, but there are such threads (or one of ours is just
 * leaving): look again later. An attached one looks when it detaches. */
bool idle_check_deadlock(void)
{
    assert_held(&sched.lock);
    if (get(&sched.foreign) != 0 || !everyone_idle())
        return false;
    int threads = sys_process_threads();
    if (threads < 0)
        return false;
    if ((uint32_t)threads <= sched.nm - sched.making + sched.system_threads) {
        lock_release(&sched.lock);
        fatal_deadlock();
    }
    return true;
}

/* Memory of free stacks goes back in bites of half a millisecond while idle. */
static int64_t trim_after(const M *m)
{
    return m->trimming ? TRIM_MORE_NS : TRIM_NS;
}

static void trim(M *m)
{
    int64_t now = sys_now();
    if (now - m->trimmed < trim_after(m))
        return;
    m->trimming = stack_trim(now);
    m->trimmed = now;
}

/* Our P comes from a handler: what it was taken for, timers too, goes first, and
 * there must be an M for the next time. */
static void take_over(M *m)
{
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    bool few = sched.n_idle_m < 2;
    lock_release(&sched.lock);
    if (few)
        maker_want();
    sched_run_timers(m);
}

/* Sleep until somebody hands us a P. False: this M has slept enough and ends. */
static bool bed(M *m)
{
    int64_t start = sys_now();
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    bool work = get(&sched.runq_n) > 0 || get(&sched.hogs_n) > 0 || get(&sched.need_spin) != 0;
    if (get(&sched.stopping) || (work && sched.idle_ps != NULL)) {
        lock_release(&sched.lock);
        return true;
    }
    if (idle_check_deadlock())
        monitor_suspect();
    if (get(&sched.poller) == 1 && get(&sched.waiters) == 0 && idle_next_timer() == INT64_MAX)
        sys_poller_wake(); /* nothing left to wait for: it must see that, and whether all sleep */
    m->link = sched.idle_ms;
    sched.idle_ms = m;
    sched.n_idle_m++;
    m->in_bed = true;
    lock_release(&sched.lock);

    while (get_acq(&m->park) == 0) { /* pairs with set_rel in start_m() */
        bool pending = stack_trim_pending();
        int64_t until = m == sched.m0 ? 0 : start + IDLE_END;
        if (pending)
            until = sys_now() + trim_after(m);
        if (sys_park(&m->park, 0, until) != -ETIMEDOUT)
            continue;
        trim(m);
        lock_acquire(NULL, &sched.lock, RANK_SCHED);
        /* The last one stays: a handler can wake an M, but not make one. */
        bool end =
            m->in_bed && m != sched.m0 && sched.n_idle_m > 1 && sys_now() >= start + IDLE_END;
        if (sys_now() >= start + IDLE_END)
            start = sys_now();
        if (end) {
            M **at = &sched.idle_ms;
            while (*at != m)
                at = &(*at)->link;
            *at = m->link;
            sched.n_idle_m--;
            m->in_bed = false;
        }
        lock_release(&sched.lock);
        if (end)
            return false;
    }
    set(&m->park, 0);
    if (m->here)
        sys_thread_anywhere(&m->cpus);
    m->here = false;
    P *p = m->next_p;
    m->next_p = NULL;
    if (p != NULL)
        idle_acquire(m, p);
    if (m->took_over) {
        m->took_over = false;
        take_over(m);
    }
    return true;
}

/* Wait for time and descriptors, without a P. The Gs that became ready: until
 * they are in a queue the role stays ours (rest). */
static G *poll_and_wait(M *m)
{
    atomic_store(&sched.poll_until, INT64_MAX); /* before the heaps are read */
    int64_t next = idle_next_timer(), now = sys_now(), timeout = -1;
    if (next != INT64_MAX)
        timeout = next > now ? next - now : 0;
    if (stack_trim_pending() && (timeout < 0 || timeout > trim_after(m)))
        timeout = trim_after(m);
    /* Only now may a later timer stay silent. */
    atomic_store(&sched.poll_until, next);
    G *list = get(&sched.stopping) ? NULL : netpoll_look(m, timeout);
    atomic_store(&sched.poll_until, 0);
    set(&sched.polled, sys_now());
    return list;
}

/* m has no P and no work. A G to run (m has a P then); or NULL: look again, or
 * *end, this M is to end. */
static G *rest(M *m, bool *end)
{
    if (stack_trim_pending())
        trim(m);
    for (;;) {
        uint32_t nobody = 0;
        if ((atomic_load(&sched.waiters) == 0 && idle_next_timer() == INT64_MAX) ||
            !atomic_compare_exchange_strong(&sched.poller, &nobody, 1))
            break;
        G *list = poll_and_wait(m);
        if (take_any_p(m, true)) { /* our P is RUNNING: everybody can see that we are busy */
            atomic_store(&sched.poller, 0);
            sched_ready_list(m, list);
            return runq_get(m->p);
        }
        sched_ready_list(m, list);
        atomic_store(&sched.poller, 0);
        monitor_alarm(); /* every P is busy, or blocked: what has become ready waits for one */
        /* An M that has given its P back and then found the role taken is going to
         * bed and relies on us, for the timer it had just added say: then we see
         * its P here, and go on (it raises idle_p and reads poller, we store poller and
         * read idle_p). If every P is busy, whoever gives one back finds the role free. */
        if (atomic_load(&sched.idle_p) == 0)
            break;
    }
    *end = !bed(m);
    return NULL;
}

/* Give the P back, unless there is a reason to look again. */
static bool give_up_p(M *m)
{
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    bool again = get(&sched.runq_n) > 0 || get(&sched.hogs_n) > 0 ||
                 get(&m->p->attention) & (ATT_STOP | ATT_PROCS);
    if (get(&sched.need_spin) != 0) {
        set(&sched.need_spin, 0);
        again = true;
        begin_spin(m);
    }
    if (!again)
        drop_p(m);
    lock_release(&sched.lock);
    if (again)
        return false;
    cease_spin(m);
    /* (d) */
    if (any_work() && take_any_p(m, true)) {
        begin_spin(m);
        return false;
    }
    return true;
}

G *idle_find(M *m)
{
    for (;;) {
        if (get(&sched.stopping))
            break;
        if (m->p == NULL && m->spinning)
            idle_end_spin(m); /* its P was retired: somebody else must look */
        if (m->p == NULL && !take_any_p(m, true)) {
            if (!bed(m))
                return NULL;
            continue;
        }
        if (sched_attend(m) != 0)
            continue;
        G *g = look_here(m);
        if (g != NULL || (g = look_elsewhere(m)) != NULL || (g = hogs_get(m->p)) != NULL)
            return g;
        if (!give_up_p(m))
            continue;
        bool end = false;
        if ((g = rest(m, &end)) != NULL)
            return g;
        if (end)
            return NULL;
    }
    cease_spin(m);
    if (m->p != NULL)
        idle_release_p(m);
    return NULL;
}

void idle_stop_all(void)
{
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    for (uint32_t i = 0; i < get_acq(&sched.np); i++)
        atomic_fetch_or(&sched.p[i]->attention, ATT_STOP);
    M *list = sched.idle_ms;
    sched.idle_ms = NULL;
    sched.n_idle_m = 0;
    for (M *m = list; m != NULL; m = m->link)
        m->in_bed = false;
    M *m0 = sched.m0->gone ? sched.m0 : NULL; /* which waits for us, if we are not it */
    lock_release(&sched.lock);
    for (M *next; list != NULL; list = next) {
        next = list->link; /* before it wakes and may be freed */
        set_rel(&list->park, 1);
        sys_unpark(&list->park, 1);
    }
    if (m0 != NULL) {
        set_rel(&m0->park, 1);
        sys_unpark(&m0->park, 1);
    }
    sys_poller_wake();
}
