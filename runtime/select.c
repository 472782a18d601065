/* SPDX-License-Identifier: MIT
 *
 * select.c: do one of several channel operations.
 *
 * Ideas. A select that finds something ready is the common one, so it looks at
 * its cases without any lock, picks one at random among those that seem ready,
 * takes that one channel's lock and does the operation if it still can. Any
 * ready case is a right choice, so no other channel needs to stand still for
 * it. That *no* case is ready is a statement about all channels at one moment,
 * and only that one needs all locks. With them held select looks again, and
 * either does a case, or gives up, or queues a Wait on every channel and parks.
 *
 * The choice: going through the cases, the k-th ready one replaces the choice
 * with probability 1/k. That is uniform over the ready ones, as the first ready
 * one of a random permutation is, and costs no permutation.
 *
 * Locks are taken in address order, each once however often its channel occurs,
 * so selects over the same channels cannot block each other in a circle.
 *
 * One winner. The Waits of one select have select set: who wants to grant one
 * must win wait_claim(), as must the deadline's timer; the claim is the one
 * point where a select commits, and so it never does two cases. No case of a
 * select can meet another one of the same select: it looks before it is queued.
 *
 * Awake again, the owner takes out its other Waits, each under its channel's
 * lock, and drops their references. Only the winner's was dropped by the waker,
 * so a channel of a lost case cannot go before its Wait is out, even when the
 * peer of the winning case drops the last other reference at once.
 *
 * The commit (select_unlock) runs when this G may already be resumed elsewhere:
 * by a waker behind a channel unlocked first, or by the timer. It reads the list
 * of channels, which lies in that G's block (bounce.c). But the G has to take
 * every channel's lock but the winner's before it lets go of the block, and the
 * winner's was free for the waker only after the commit had unlocked it. So
 * until the last unlock the list stays, and after it the commit does not look.
 * (Without any channel there is no lock to wait for: no commit then.)
 */
#include "chan.h"

enum { CASES_MAX = 65536, SMALL = 8 };

/* ---- the locks ---------------------------------------------------------------------- */

static void select_sift(weft_chan_t **a, uint32_t root, uint32_t n)
{
    for (uint32_t kid; (kid = 2 * root + 1) < n; root = kid) {
        if (kid + 1 < n && (uintptr_t)a[kid + 1] > (uintptr_t)a[kid])
            kid++;
        if ((uintptr_t)a[root] >= (uintptr_t)a[kid])
            return;
        weft_chan_t *c = a[root];
        a[root] = a[kid];
        a[kid] = c;
    }
}

static void select_heapsort(weft_chan_t **a, uint32_t n)
{
    for (uint32_t i = n / 2; i-- > 0;)
        select_sift(a, i, n);
    for (uint32_t end = n; end-- > 1;) {
        weft_chan_t *c = a[0];
        a[0] = a[end];
        a[end] = c;
        select_sift(a, 0, end);
    }
}

/* The channels of the cases: sorted, each once. set->chan has room for n. */
static void select_sort_few(LockSet *set, const weft_case_t *cases, uint32_t n)
{
    weft_chan_t **a = set->chan;
    set->n = 0;
    for (uint32_t i = 0; i < n; i++) {
        weft_chan_t *c = cases[i].chan;
        uint32_t j = set->n;
        while (j > 0 && (uintptr_t)a[j - 1] > (uintptr_t)c)
            j--;
        if (c == NULL || (j > 0 && a[j - 1] == c))
            continue;
        memmove(a + j + 1, a + j, (set->n - j) * sizeof *a);
        a[j] = c;
        set->n++;
    }
}

static void select_sort_many(LockSet *set, const weft_case_t *cases, uint32_t n)
{
    weft_chan_t **a = set->chan;
    uint32_t all = 0, distinct = 0;
    for (uint32_t i = 0; i < n; i++)
        if (cases[i].chan != NULL)
            a[all++] = cases[i].chan;
    select_heapsort(a, all);
    for (uint32_t i = 0; i < all; i++)
        if (distinct == 0 || a[distinct - 1] != a[i])
            a[distinct++] = a[i];
    set->n = distinct;
}

static void select_lock(M *m, const LockSet *set)
{
    for (uint32_t i = 0; i < set->n; i++)
        lock_acquire(m, &set->chan[i]->lock, RANK_CHAN);
}

static bool select_unlock(M *m, G *g, void *arg)
{
    (void)m, (void)g;
    LockSet set = *(LockSet *)arg;
    weft_chan_t *c, *next = set.n > 0 ? set.chan[0] : NULL;
    for (uint32_t i = 1; (c = next) != NULL; i++) {
        next = i < set.n ? set.chan[i] : NULL;
        lock_release(&c->lock); /* after the last one, *arg and its list may be gone */
    }
    return true;
}

/* ---- the cases ---------------------------------------------------------------------- */

/* A random one of the cases that look ready; -EAGAIN: none does; -EINVAL: a case
 * has an unknown op. Exact if all channels are locked, but for waiters that
 * were won by somebody else and are still queued. */
static int select_pick(M *m, const weft_case_t *cases, int n)
{
    uint32_t ready = 0;
    int choice = -EAGAIN;
    for (int i = 0; i < n; i++) {
        weft_chan_t *c = cases[i].chan;
        if (unlikely(cases[i].op != WEFT_RECV && cases[i].op != WEFT_SEND))
            return -EINVAL;
        if (c == NULL || !(cases[i].op == WEFT_RECV ? chan_may_recv(c) : chan_may_send(c)))
            continue;
        if (++ready == 1 || rng_below(&m->rng, ready) == 0)
            choice = i;
    }
    return choice;
}

/* Do case k, whose channel is locked. False: it would have to wait. */
static bool select_do(weft_case_t *k, G **wake)
{
    int rc = k->op == WEFT_RECV ? chan_recv_now(k->chan, k->elem, wake)
                                : chan_send_now(k->chan, k->elem, wake);
    if (rc == -EAGAIN)
        return false;
    k->result = rc;
    return true;
}

/* The block, large enough to do these cases; for a wait that a copied stack is not
 * there for, with room for their elements. NULL: no memory. */
static BounceTail *select_block(G *g, const weft_case_t *cases, uint32_t n, bool wait)
{
    size_t room = 0;
    if (wait && unlikely(window_copied(g)))
        for (uint32_t i = 0; i < n; i++)
            room += bounce_size(cases[i].chan, cases[i].elem);
    if (!bounce_fits(g, n, room) && !bounce_grow(g, n, room))
        return NULL;
    return bounce_tail(g);
}

/* ---- waiting ----------------------------------------------------------------------- */

/* Of cases on the same channel the one queued first will be granted: begin
 * anywhere, and go either way round. */
static void select_enqueue(M *m, weft_case_t *cases, uint32_t n)
{
    G *g = m->g;
    uint32_t dice = rng_below(&m->rng, 2 * n), i = dice / 2;
    uint32_t step = dice % 2 == 0 ? 1 : n - 1;
    bool copied = window_copied(g);
    char *room = copied ? bounce_room(g) : NULL;
    for (uint32_t left = n; left > 0; left--, i = i + step < n ? i + step : i + step - n) {
        weft_chan_t *c = cases[i].chan;
        Wait *w = &g->cases[i];
        if (c == NULL)
            continue;
        w->g = g;
        w->select = true;
        if (unlikely(copied))
            room = bounce_in(w, c, cases[i].elem, cases[i].op == WEFT_SEND, room);
        else
            w->elem = cases[i].elem;
        chan_enqueue(c, cases[i].op == WEFT_RECV ? &c->recvq : &c->sendq, w);
    }
}

/* A foreign thread is sent home by the end of the run, but a waker has the
 * claim: wait for it, and find the case that it did by the missing reference. */
static Wait *select_settle(M *m, const weft_case_t *cases, uint32_t n)
{
    foreign_settle(m);
    for (uint32_t i = 0; i < n; i++)
        if (cases[i].chan != NULL && m->g->cases[i].on == NULL)
            return &m->g->cases[i];
    return NULL;
}

/* Queue the caller on all channels, which are locked, and park. The index of
 * the case that was done; -ETIMEDOUT, -ENOMEM, -ECANCELED. */
static int select_wait(M **mp, weft_case_t *cases, uint32_t n, int64_t deadline, LockSet *set)
{
    M *m = *mp;
    G *g = m->g;
    uint64_t serial = wait_begin(g);
    g->woke = NULL;
    g->result = 0;
    select_enqueue(m, cases, n);
    *mp = m = sched_park_until(m, WHY_SELECT, set->n > 0 ? select_unlock : NULL, set, deadline);

    /* Wakers leave g->result alone; a deadline and a cancellation do not. */
    Wait *woke = g->result == 0 ? g->woke : NULL;
    if (unlikely(g->result == -ECANCELED) && g->flags & G_FOREIGN && !wait_claim(g, serial))
        woke = select_settle(m, cases, n);
    for (uint32_t i = 0; i < n; i++) {
        Wait *w = &g->cases[i];
        if (w != woke && w->on != NULL)
            chan_forget(m, w->on, w);
    }
    int rc = g->result;
    if (likely(woke != NULL)) {
        rc = (int)(woke - g->cases);
        cases[rc].result = woke->result;
    }
    if (unlikely(window_copied(g)))
        bounce_out(g, woke, woke != NULL && cases[rc].op == WEFT_RECV ? cases[rc].elem : NULL);
    return rc;
}

/* ---- select ----------------------------------------------------------------------- */

static int select_each(weft_case_t *cases, int n, G **wake)
{
    for (int i = 0; i < n; i++)
        if (cases[i].chan != NULL && select_do(&cases[i], wake))
            return i;
    return -EAGAIN;
}

/* With all channels locked: there is one moment at which none was ready. */
static int select_all(M **mp, weft_case_t *cases, int n, int64_t deadline, bool block)
{
    M *m = *mp;
    weft_chan_t *few[SMALL];
    LockSet here = {few, 0}, *set = &here;
    uint32_t un = (uint32_t)n;
    if (block || un > SMALL) {
        BounceTail *tail = select_block(m->g, cases, un, block);
        if (tail == NULL)
            return -ENOMEM;
        set = &tail->set;
    }
    if (un <= SMALL)
        select_sort_few(set, cases, un);
    else
        select_sort_many(set, cases, un);

    G *peer = NULL;
    int i;
    select_lock(m, set);
    /* Each failure empties a queue of lost waiters: this ends. After a run its
     * coroutines' Waits stay queued and look ready (chan_pop): each case once. */
    while ((i = select_pick(m, cases, n)) >= 0 && !select_do(&cases[i], &peer))
        if (unlikely(!get_acq(&sched.active))) {
            i = select_each(cases, n, &peer);
            break;
        }
    if (i == -EAGAIN && block) {
        if (deadline != 0 && deadline <= sys_now())
            i = -ETIMEDOUT;
        else if (!get_acq(&sched.active))
            i = -EPERM;
        else
            return select_wait(mp, cases, un, deadline, set);
    }
    select_unlock(m, NULL, set);
    if (peer != NULL)
        sched_ready(m, peer);
    return i;
}

/* No case at all. */
static int select_none(M **mp, int64_t deadline)
{
    M *m = *mp;
    if (deadline != 0 && deadline <= sys_now())
        return -ETIMEDOUT;
    if (!get_acq(&sched.active))
        return -EPERM;
    wait_begin(m->g);
    m->g->result = 0;
    *mp = m = sched_park_until(m, WHY_SELECT_EMPTY, NULL, NULL, deadline);
    return m->g->result;
}

static int select_run(weft_case_t *cases, int n, int64_t deadline, bool block)
{
    if (unlikely(n < 0 || n > CASES_MAX || (n > 0 && cases == NULL)))
        return -EINVAL;
    M *m = rt_enter();
    if (unlikely(m == NULL))
        return rt_no_m();
    m = chaos_yield(m, 8);
    int i = select_pick(m, cases, n);
    if (i >= 0 && !chaos(m, 4)) {
        G *peer = NULL;
        weft_chan_t *c = cases[i].chan;
        lock_acquire(m, &c->lock, RANK_CHAN);
        bool done = select_do(&cases[i], &peer);
        lock_release(&c->lock);
        if (peer != NULL)
            sched_ready(m, peer);
        if (likely(done))
            goto out;
        i = -EAGAIN;
    }
    if (i == -EINVAL)
        goto out;
    if (unlikely(n == 0))
        i = block ? select_none(&m, deadline) : -EAGAIN;
    else if (n > 1 || block || i >= 0) /* of one case alone the look without a lock was exact */
        i = select_all(&m, cases, n, deadline, block);
out:
    rt_leave(m);
    return i;
}

int weft_select(weft_case_t *cases, int n, int64_t deadline)
{
    return select_run(cases, n, deadline, true);
}

int weft_try_select(weft_case_t *cases, int n)
{
    return select_run(cases, n, 0, false);
}

/* One case is all there is to choose from. */
static int select_one(int op, weft_chan_t *c, void *elem, int64_t deadline)
{
    weft_case_t one = {.op = op, .chan = c, .elem = elem};
    int rc = select_run(&one, 1, deadline, true);
    return rc < 0 ? rc : one.result;
}

int weft_send_until(weft_chan_t *c, const void *elem, int64_t deadline)
{
    return deadline == 0 ? weft_send(c, elem)
                         : select_one(WEFT_SEND, c, (void *)(uintptr_t)elem, deadline);
}

int weft_recv_until(weft_chan_t *c, void *elem, int64_t deadline)
{
    return deadline == 0 ? weft_recv(c, elem) : select_one(WEFT_RECV, c, elem, deadline);
}
