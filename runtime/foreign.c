/* SPDX-License-Identifier: MIT
 *
 * foreign.c: threads that weft did not make.
 *
 * A thread that calls weft for the first time gets an M without a P, whose g0
 * stands for it in wait queues (G_FOREIGN). Where a coroutine would park, it
 * sleeps on its park word; sched_ready() on its G sets the word. Everything else
 * in the runtime treats both alike. Foreign Ms are never freed, only kept for
 * the next thread: a waker may still call futex-wake on the word of a thread
 * that has gone on already and ended.
 *
 * The park word:   0 waiting   | TOKEN ready   | CANCEL the run has ended
 * The owner sets it to 0 before its wait can be found (its commit comes after),
 * wakers only set bits. When weft_run() ends, threads that still wait get
 * CANCEL: the wait returns result -ECANCELED, woke NULL, and its caller takes
 * itself out of the queue. Should a waker have taken it out already, the wake-up
 * is under way; foreign_settle() waits for the token, so that it cannot be
 * mistaken for a later one.
 * foreign_wait_all() then waits until every thread has left the runtime.
 * foreign_cancel_all() runs after `active` was cleared; a thread that parks
 * later reads `active` after it has zeroed its word: one of both is seen.
 *
 * Lock: sched.lock for the lists. A thread that attaches ends solo mode
 * (lock.c) before it touches anything.
 */
#include "rt.h"

#include <limits.h>

enum { TOKEN = 1, CANCEL = 2 };

static pthread_key_t exit_key;
static pthread_once_t exit_once = PTHREAD_ONCE_INIT;
static M *spare; /* S */

static void at_thread_exit(void *m)
{
    arch_set_self(NULL);
    if (get(&sched.forked))
        return; /* sched.lock may have been held by a thread that is not here */
    foreign_detach(m);
}

static void make_key(void)
{
    pthread_key_create(&exit_key, at_thread_exit);
}

M *foreign_attach(void)
{
    if (get(&sched.forked))
        return NULL;
    pthread_once(&exit_once, make_key);
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    solo_end(); /* first: without memory for an M this thread still takes locks */
    M *m = spare;
    if (m != NULL)
        spare = m->link;
    lock_release(&sched.lock);
    if (m == NULL && (m = rt_alloc_aligned(CACHE_LINE, sizeof *m)) == NULL)
        return NULL;
    m->foreign = true;
    m->g0.flags = G_FOREIGN;
    m->g0.m = m;
    m->g = &m->g0;
    m->rng = sys_seed() | 1;
    m->errno_addr = weft_errno();
    m->tid = sys_tid();

    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    m->all = sched.all_ms;
    sched.all_ms = m;
    atomic_fetch_add(&sched.foreign, 1);
    solo_end();
    lock_release(&sched.lock);
    arch_set_self(m);
    pthread_setspecific(exit_key, m);
    return m;
}

void foreign_detach(M *m)
{
    /* It may have been the last that could wake somebody: have an M look. That
     * touches Ps, so this thread counts as inside (foreign_wait_all). */
    bump(&m->preempt_off, 1);
    trace_leave(m);
    atomic_fetch_sub(&sched.foreign, 1);
    if (get_acq(&sched.active))
        idle_wake_slow();
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    M **at = &sched.all_ms;
    while (*at != m)
        at = &(*at)->all;
    *at = m->all;
    set_rel(&m->preempt_off, 0);
    m->link = spare;
    spare = m;
    lock_release(&sched.lock);
    if (arch_self() == m)
        arch_set_self(NULL);
    pthread_setspecific(exit_key, NULL);
}

static M *woken(M *m, int32_t result)
{
    m->g->woke = NULL;
    m->g->result = result;
    return m;
}

M *foreign_park(M *m, Commit *commit, void *arg, int64_t deadline)
{
    G *g = m->g;
    uint64_t serial = get(&g->claim) >> 1;
    atomic_store(&m->park, 0); /* before `active` is read, and before wakers find us */
    set(&g->state, G_WAITING);
    if (commit != NULL && !commit(m, g, arg))
        return woken(m, 0);
    for (;;) {
        uint32_t w = get_acq(&m->park); /* pairs with foreign_ready(): result, woke */
        if (w & TOKEN)
            return m;
        if (w & CANCEL || !atomic_load(&sched.active)) {
            g->result = -ECANCELED; /* woke is a waker's, if one has taken us out meanwhile */
            return m;
        }
        if (sys_park(&m->park, 0, deadline) == -ETIMEDOUT && deadline != 0) {
            if (wait_claim(g, serial))
                return woken(m, -ETIMEDOUT);
            deadline = 0; /* a waker has claimed us: its token is on the way */
        }
    }
}

void foreign_ready(G *g)
{
    M *m = g->m;
    set(&g->state, G_RUNNING);
    atomic_fetch_or_explicit(&m->park, TOKEN, memory_order_release);
    sys_unpark(&m->park, 1);
}

void foreign_settle(M *m)
{
    uint32_t w;
    while (((w = get_acq(&m->park)) & TOKEN) == 0)
        sys_park(&m->park, w, 0);
}

/* A foreign thread reads `active` inside the runtime (preempt_off > 0), and goes
 * on to touch queues, heaps and Gs that m0 is about to free. `active` is false by
 * now; after the barrier every thread that has read it as true is seen inside,
 * and every later one reads false. A foreign thread that sleeps is outside; one
 * that reads a file or resolves a name is waited for. */
void foreign_wait_all(void)
{
    sys_membarrier();
    for (;;) {
        bool inside = false;
        lock_acquire(NULL, &sched.lock, RANK_SCHED);
        for (M *m = sched.all_ms; m != NULL; m = m->all)
            if (m->foreign && get_acq(&m->preempt_off) != 0)
                inside = true;
        lock_release(&sched.lock);
        if (!inside)
            return;
        sys_sleep_until(sys_now() + 50000);
    }
}

void foreign_cancel_all(void)
{
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    for (M *m = sched.all_ms; m != NULL; m = m->all)
        if (m->foreign) {
            atomic_fetch_or(&m->park, CANCEL);
            sys_unpark(&m->park, INT_MAX);
        }
    lock_release(&sched.lock);
}
