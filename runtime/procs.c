/* SPDX-License-Identifier: MIT
 *
 * procs.c: how many processors.
 *
 * Ps are never freed within a run. More: new or revived ones go to the idle
 * list. Fewer: an idle one leaves the list at once; a running one gets ATT_PROCS
 * and its M empties it at its next switch (procs_retire): the queue to the
 * global one, timers to P 0, which always stays. Growing from one ends solo
 * mode first, and every P's owner is asked to open its ring to thieves (runq.c);
 * until it has, which takes it one switch, its queue is its own.
 * Locks: `setting` first: one change at a time, so that a P that is being
 * emptied is not revived; then timer heaps; then sched.lock.
 */
#include "rt.h"

static Lock setting; /* RANK_LIFE */

#define P_SIZE ((sizeof(P) + 4095) & ~(size_t)4095)

/* Pages of the system: the monitor must not wait for malloc. */
static P *procs_new(void)
{
    P *p = sys_reserve(P_SIZE, sys_page());
    if (p == NULL)
        return NULL;
    p->rng = sys_seed() | 1;
    p->over_tick = UINT32_MAX; /* of no pick yet */
    set(&p->hog_tick, UINT32_MAX);
    set(&p->spared_tick, UINT32_MAX);
    set(&p->state, P_DEAD);
    p->spare = true;
    set(&p->attention, (get(&sched.chaos) != 0 ? ATT_CHAOS : 0u) |
                           (sched.stuck != 0 || sched.leaks ? ATT_CLOCK : 0u));
    timer_init(NULL, &p->timers);
    return p;
}

int procs_add(void)
{
    P *p = procs_new();
    if (p == NULL)
        return -ENOMEM;
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    uint32_t np = get_acq(&sched.np);
    bool room = np < P_MAX + P_LENT;
    if (room) {
        /* idle_stop_all() has marked, or will mark, those it found: under S too */
        if (get(&sched.stopping))
            set(&p->attention, get(&p->attention) | ATT_STOP);
        if (get(&sched.noting) != 0) /* the same: event_note() */
            set(&p->attention, get(&p->attention) | ATT_NOTE);
        p->id = np;
        sched.p[np] = p;
        atomic_store(&sched.np, np + 1);
    }
    lock_release(&sched.lock);
    if (!room)
        sys_release(p, P_SIZE);
    return room ? 0 : -ENOMEM;
}

P *procs_spare(void)
{
    assert_held(&sched.lock);
    for (uint32_t i = get(&sched.procs); i < get_acq(&sched.np); i++)
        if (sched.p[i]->spare)
            return sched.p[i];
    return NULL;
}

static void empty_queue(P *p)
{
    G *head, *tail;
    uint32_t n;
    runq_drain(p, &head, &tail, &n);
    runq_put_global(head, tail, n);
}

static void empty(M *m, P *p)
{
    empty_queue(p);
    timer_move(m, p, sched.p[0]);
    stack_flush(p);
    window_flush(p);
    coro_flush(p);
}

static void put_away(P *p)
{
    assert_held(&sched.lock);
    set(&p->state, P_DEAD);
    p->spare = true;
    set(&p->m, NULL);
}

void procs_put_back(M *m, P *p)
{
    bool lent = p->id >= get(&sched.procs);
    if (lent)
        empty(m, p);
    else
        empty_queue(p); /* an idle P has none */
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    if (lent && p->id >= get(&sched.procs))
        put_away(p);
    else
        idle_put_p(p);
    lock_release(&sched.lock);
    idle_wake(m); /* for what was queued there, and for the poller's role */
}

void procs_retire(M *m)
{
    P *p = m->p;
    empty(m, p);
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    if (p->id < get(&sched.procs)) { /* wanted again meanwhile */
        lock_release(&sched.lock);
        return;
    }
    m->p = NULL;
    set(&m->solo, 0);
    put_away(p);
    lock_release(&sched.lock);
    idle_wake(m);
}

/* Those beyond n: off the idle list, or asked to retire. A list of the former. */
static P *shrink(uint32_t n)
{
    P *gone = NULL;
    for (uint32_t i = n; i < get_acq(&sched.np); i++) {
        P *p = sched.p[i];
        if (get(&p->state) == P_IDLE && idle_take_p(p)) {
            set(&p->state, P_DEAD);
            p->link = gone;
            gone = p;
        }
    }
    return gone;
}

/* Ps up to n - 1, and one more to be lent. Nobody allocates under sched.lock. */
static int grow(uint32_t n)
{
    while (get_acq(&sched.np) <= n) {
        int rc = procs_add();
        if (rc != 0)
            return get_acq(&sched.np) >= n ? 0 : rc;
    }
    return 0;
}

/* S not held. */
static int procs_set(M *m, uint32_t n)
{
    P *gone = NULL;
    lock_acquire(NULL, &setting, RANK_LIFE);
    int rc = grow(n);
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    uint32_t old = get(&sched.procs);
    if (rc == 0 && n != old) {
        if (n > 1)
            solo_end();
        atomic_store(&sched.procs, n);
        for (uint32_t i = old; i < n; i++)
            if (get(&sched.p[i]->state) == P_DEAD) {
                sched.p[i]->spare = false;
                idle_put_p(sched.p[i]);
            }
        if (n < old)
            gone = shrink(n);
        for (uint32_t i = 0; i < get_acq(&sched.np); i++)
            atomic_fetch_or(&sched.p[i]->attention, ATT_PROCS);
    }
    lock_release(&sched.lock);
    /* An idle P has no queue, but may have timers and warm stacks. Nobody holds
     * it any more, and it is not on the list: it is ours. */
    for (P *p = gone; p != NULL; p = p->link)
        empty(m, p);
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    for (P *p = gone; p != NULL; p = p->link)
        p->spare = true;
    lock_release(&sched.lock);
    lock_release(&setting);
    if (m != NULL && n > old)
        idle_wake(m);
    return rc == 0 ? (int)old : rc;
}

void procs_free_all(void)
{
    for (uint32_t i = 0; i < get_acq(&sched.np); i++) {
        timer_free(NULL, &sched.p[i]->timers);
        sys_release(sched.p[i], P_SIZE);
        sched.p[i] = NULL;
    }
    atomic_store(&sched.np, 0);
}

int weft_procs(int n)
{
    if (n > P_MAX)
        return -EINVAL;
    M *m = rt_enter();
    if (m == NULL)
        return rt_no_m();
    int rc = -EPERM;
    if (get_acq(&sched.active))
        rc = n > 0 ? procs_set(m, (uint32_t)n) : (int)get(&sched.procs);
    if (rc > 0 && n > 1 && m->p != NULL && !get(&m->p->stealable))
        set_rel(&m->p->stealable, true); /* ours: no need to wait for the next switch */
    rt_leave(m);
    return rc;
}
