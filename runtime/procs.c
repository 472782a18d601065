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

P *procs_new(uint32_t id)
{
    P *p = rt_alloc_aligned(CACHE_LINE, sizeof *p);
    if (p == NULL)
        return NULL;
    p->id = id;
    p->rng = sys_seed() | 1;
    set(&p->state, P_DEAD);
    if (get(&sched.chaos) != 0)
        set(&p->attention, ATT_CHAOS);
    timer_init(NULL, &p->timers);
    return p;
}

static void empty(M *m, P *p)
{
    G *head, *tail;
    uint32_t n;
    runq_drain(p, &head, &tail, &n);
    runq_put_global(head, tail, n);
    timer_move(m, p, sched.p[0]);
    stack_flush(p);
    coro_flush(p);
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
    set(&p->state, P_DEAD);
    p->m = NULL;
    m->p = NULL;
    set(&m->solo, 0);
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

static int grow(uint32_t n)
{
    while (get_acq(&sched.np) < n) {
        P *p = procs_new(get_acq(&sched.np));
        if (p == NULL)
            return -ENOMEM;
        if (get(&sched
                     .stopping)) /* idle_stop_all() has marked, or will mark, those it found: under S too */
            set(&p->attention, get(&p->attention) | ATT_STOP);
        sched.p[p->id] = p;
        atomic_store(&sched.np, p->id + 1);
    }
    return 0;
}

int procs_set(M *m, uint32_t n)
{
    P *gone = NULL;
    lock_acquire(NULL, &setting, RANK_LIFE);
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    uint32_t old = get(&sched.procs);
    int rc = grow(n);
    if (rc == 0 && n != old) {
        if (n > 1)
            solo_end();
        atomic_store(&sched.procs, n);
        for (uint32_t i = old; i < n; i++)
            if (get(&sched.p[i]->state) == P_DEAD)
                idle_put_p(sched.p[i]);
        if (n < old)
            gone = shrink(n);
        for (uint32_t i = 0; i < get_acq(&sched.np); i++)
            atomic_fetch_or(&sched.p[i]->attention, ATT_PROCS);
    }
    lock_release(&sched.lock);
    /* An idle P has no queue, but may have timers and warm stacks. Nobody holds
     * it any more, and it is not on the list: it is ours. */
    for (; gone != NULL; gone = gone->link)
        empty(m, gone);
    lock_release(&setting);
    if (m != NULL && n > old)
        idle_wake(m);
    return rc == 0 ? (int)old : rc;
}

void procs_free_all(void)
{
    for (uint32_t i = 0; i < get_acq(&sched.np); i++) {
        timer_free(NULL, &sched.p[i]->timers);
        rt_free(sched.p[i]);
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
        return get(&sched.forked) ? -ENOSYS : -ENOMEM;
    int rc = -EPERM;
    if (get_acq(&sched.active))
        rc = n > 0 ? procs_set(m, (uint32_t)n) : (int)get(&sched.procs);
    if (rc > 0 && n > 1 && m->p != NULL && !get(&m->p->stealable))
        set_rel(&m->p->stealable, true); /* ours: no need to wait for the next switch */
    rt_leave(m);
    return rc;
}
