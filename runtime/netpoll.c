/* SPDX-License-Identifier: MIT
 *
 * netpoll.c: who waits for a descriptor, and who is woken.
 *
 * A descriptor is given to the system's poller once, at the first call that
 * would have to wait, and from then on reports *edges* of both directions: one
 * each time something has come, none while something is still there. fd.h
 * describes the record; FD_IN (and FD_OUT alike) means "a read may succeed":
 *
 *   set      by an edge; by a call that may have left something (a full read, an
 *            accepted connection, an error, the end of the stream); at first
 *   cleared  by a call, before it looks at the descriptor
 *
 * Hence: while FD_IN is clear, the last call has found nothing left, and no edge
 * has been reported since before it looked. The next call need not even try: it
 * parks at once, which saves a server one system call in three. Nothing that arrives can be
 * missed: it either came before that call looked, which then took it, or after;
 * then its edge is reported after, and sets FD_IN.
 *
 * No wake-up is lost. The waiter, holding the record's lock: sets FD_WAIT_IN, and
 * by the same read-modify-write looks at FD_IN; if it is set the waiter tries
 * again, otherwise it queues itself and lets go of the lock once it is off its
 * stack. Who sets FD_IN looks at FD_WAIT_IN by the same read-modify-write; if that is set
 * it takes the lock, and all waiters out of the queue. The operations on the
 * word are totally ordered: one of both sees the other. All waiters are woken, and
 * all try again; FD_IN stays set, so that those who come in between try too.
 *   Close: CLOSING is set before the lock is taken to empty the queues; a waiter
 * looks at it (fd_same) under the lock before it queues itself. The same holds
 * for a deadline (`expired`) and for the end of the run (sched.active).
 *
 * A stale event, of a file that had the number before, carries an old
 * generation and is dropped: it is compared in the read-modify-write that sets FD_IN.
 *
 * Deadlines: a Timer for each direction, whose fire function gets a copy with
 * the deadline's sequence number; if it is not the record's any more, the
 * deadline was changed meanwhile, and nothing happens.
 *
 * Who waits in weft_poll_fd may also be woken by its own deadline, a select by whatever else it
 * waits for, and who is known may be cancelled, so wakers must win wait_claim() of those; all other
 * waits end only by who takes them out of the queue. As all waiters are taken out at every edge, and
 * FD_IN stays set, an edge is not spent on a select that was won elsewhere.
 *
 * sched.waiters tells the scheduler that descriptors are waited for. A coroutine
 * counts itself until it runs again, not only until it is taken out of the queue: between
 * the two it is in no run queue yet, and if nothing counted it then, the
 * runtime could look as if all were asleep for ever (everyone_idle). A foreign
 * thread is counted while it is queued; a select once for each of its descriptors.
 *
 * Lock order: RANK_FD, then timer heaps. Gs are made ready without a lock held.
 */
#include "fd.h"

#include <errno.h>

enum { EVENTS = 128 };

/* ---- queues -------------------------------------------------------------------- */

typedef struct {
    G *head, *tail;
    uint32_t n;
} Woken;

static void put(WaitQueue *q, Wait *w)
{
    w->next = NULL;
    w->prev = q->tail;
    w->queued = true;
    *(q->tail != NULL ? &q->tail->next : &q->head) = w;
    q->tail = w;
    atomic_fetch_add(&sched.waiters, 1); /* before the lock is let go: idle Ms must poll */
}

static void unlink_wait(WaitQueue *q, Wait *w)
{
    *(w->prev != NULL ? &w->prev->next : &q->head) = w->next;
    *(w->next != NULL ? &w->next->prev : &q->tail) = w->prev;
    w->queued = false;
    if (w->g->flags & G_FOREIGN)
        atomic_fetch_sub(&sched.waiters, 1);
}

static void wake(WaitQueue *q, Wait *w, int result, Woken *out)
{
    G *g = w->g;
    unlink_wait(q, w);
    if (w->select && !wait_claim(g, get(&g->claim) >> 1))
        return; /* its own deadline was faster */
    w->result = result;
    g->woke = w;
    g->link = NULL;
    if (out->tail != NULL)
        out->tail->link = g;
    else
        out->head = g;
    out->tail = g;
    out->n++;
}

static void wake_side(FD *r, unsigned dir, int result, Woken *out)
{
    WaitQueue *q = &r->side[dir - 1].waitq;
    while (q->head != NULL)
        wake(q, q->head, result, out);
}

static void wake_pollers(FD *r, unsigned dirs, int result, Woken *out)
{
    Wait *next;
    for (Wait *w = r->pollq.head; w != NULL; w = next) {
        next = w->next;
        if (w->dirs & dirs)
            wake(&r->pollq, w, result, out);
    }
}

/* FD_WAIT_* say what the queues say. */
static void note_waits(FD *r)
{
    uint64_t waits = 0;
    for (unsigned dir = WEFT_READ; dir <= WEFT_WRITE; dir++)
        if (r->side[dir - 1].waitq.head != NULL)
            waits |= fd_waits(dir);
    for (Wait *w = r->pollq.head; w != NULL; w = w->next)
        waits |= fd_waits(w->dirs);
    uint64_t gone = (FD_WAIT_IN | FD_WAIT_OUT) & ~waits;
    if (get(&r->word) & gone)
        atomic_fetch_and(&r->word, ~gone);
}

static void wake_dirs(FD *r, unsigned dirs, int result, Woken *out)
{
    for (unsigned dir = WEFT_READ; dir <= WEFT_WRITE; dir++)
        if (dirs & dir)
            wake_side(r, dir, result, out);
    wake_pollers(r, dirs, result, out);
    note_waits(r);
}

void netpoll_more(M *m, FD *r, unsigned dirs)
{
    Woken out = {0};
    lock_acquire(NULL, &r->lock, RANK_FD);
    wake_dirs(r, dirs, 0, &out);
    lock_release(&r->lock);
    sched_ready_list(m, out.head);
}

/* ---- events ---------------------------------------------------------------------- */

static void event(const SysEvent *e, Woken *out)
{
    FD *r = fd_find((int)(uint32_t)e->cookie);
    uint32_t gen = (uint32_t)(e->cookie >> 32);
    unsigned dirs = e->events & (SYS_IN | SYS_OUT);
    uint64_t set = 0, w;

    if (r == NULL)
        return;
    if (e->events & SYS_HUP) {
        dirs = SYS_IN | SYS_OUT;
        set = FD_HUP;
    }
    set |= fd_in_out(dirs);
    w = atomic_load(&r->word);
    do {
        if (!fd_same(w, gen))
            return;
    } while ((w & set) != set && !atomic_compare_exchange_weak(&r->word, &w, w | set));
    if (w & fd_waits(dirs)) {
        G *before = out->tail;
        lock_acquire(NULL, &r->lock, RANK_FD);
        wake_dirs(r, dirs, 0, out);
        lock_release(&r->lock);
        for (const G *g = before != NULL ? before->link : out->head; g != NULL; g = g->link)
            event_netpoll(g, (int)(uint32_t)e->cookie);
    }
}

G *netpoll_look(M *m, int64_t timeout)
{
    SysEvent ev[EVENTS];
    Woken out = {0};
    int n = sys_poller_wait(ev, EVENTS, timeout);
    for (int i = 0; i < n; i++)
        event(&ev[i], &out);
    if (out.n != 0)
        atomic_fetch_add_explicit(&sched.polled_ready, out.n,
                                  memory_order_relaxed); /* orders nothing */
    (void)m;
    return out.head;
}

/* ---- waiting ---------------------------------------------------------------------- */

static int add_to_poller(const FDRef *f)
{
    FD *r = f->r;
    uint64_t cookie = (uint64_t)f->gen << 32 | (uint32_t)f->fd;
    if (atomic_load(&r->word) & FD_FILE)
        return -EPERM;
    int rc = sys_poller_add(f->fd, cookie);
    if (rc == -EEXIST) { /* added in another life: a plain close() came between */
        sys_poller_del(f->fd);
        rc = sys_poller_add(f->fd, cookie);
    }
    if (rc == 0)
        atomic_fetch_or(&r->word, FD_ADDED);
    return rc;
}

/* May the caller wait, or is there something to tell it? The lock is held. */
static int may_wait(const FDRef *f)
{
    uint64_t w = atomic_load(&f->r->word);
    if (!fd_same(w, f->gen))
        return -ECANCELED;
    if (!atomic_load(&sched.active))
        return -EPERM;
    return w & FD_ADDED ? 0 : add_to_poller(f);
}

/* The wait ended without a waker: at its deadline, cancelled, or, for a foreign thread, at
 * the end of the run. */
static int not_woken(M *m, FD *r, WaitQueue *q, Wait *w)
{
    int result = m->g->result;
    lock_acquire(NULL, &r->lock, RANK_FD);
    bool queued = w->queued;
    if (queued) {
        unlink_wait(q, w);
        note_waits(r);
    }
    lock_release(&r->lock);
    if (result != -ECANCELED || (m->g->flags & G_FOREIGN) == 0)
        return result;
    if (queued)
        return -EPERM;
    foreign_settle(m); /* a waker was at it */
    return w->result;
}

/* The lock is held, and let go. */
static int park(M **mp, const FDRef *f, unsigned dirs, WaitQueue *q, int64_t deadline)
{
    M *m = *mp;
    FD *r = f->r;
    G *g = m->g;
    Wait *w = &g->wait;
    if (atomic_fetch_or(&r->word, fd_waits(dirs)) & fd_in_out(dirs)) {
        note_waits(r);
        lock_release(&r->lock);
        return 0;
    }
    w->g = g;
    w->on = r;
    w->dirs = dirs;
    w->select = wait_contested(g, deadline);
    g->woke = NULL;
    g->result = 0;
    put(q, w);
    if (m->p == NULL)
        idle_poke(m); /* a coroutine's M looks for work, and polls; this thread does not */
    if (w->select)
        wait_begin(g);
    *mp = m = sched_park_until_unlock(m, WHY_IO, &r->lock, deadline);
    if (likely((g->flags & G_FOREIGN) == 0))
        atomic_fetch_sub(&sched.waiters, 1);
    /* Cancelled goes first: a waker may be half-way through, and must be waited for. */
    bool granted = g->result != -ECANCELED && g->woke != NULL;
    return likely(granted) ? w->result : not_woken(m, r, q, w);
}

int netpoll_wait(M **m, const FDRef *f, unsigned dir)
{
    FDSide *side = &f->r->side[dir - 1];
    lock_acquire(NULL, &f->r->lock, RANK_FD);
    int rc = may_wait(f);
    if (rc == 0 && get(&side->expired))
        rc = -ETIMEDOUT;
    if (rc == 0)
        return park(m, f, dir, &side->waitq, 0);
    lock_release(&f->r->lock);
    return rc;
}

int netpoll_wait_any(M **m, const FDRef *f, unsigned dirs, int64_t deadline)
{
    lock_acquire(NULL, &f->r->lock, RANK_FD);
    int rc = may_wait(f);
    if (rc == 0)
        return park(m, f, dirs, &f->r->pollq, deadline);
    lock_release(&f->r->lock);
    return rc;
}

/* ---- waiting for several things: select_fd.c ------------------------------------------ */

int netpoll_add(const FDRef *f)
{
    lock_acquire(NULL, &f->r->lock, RANK_FD);
    int rc = may_wait(f);
    lock_release(&f->r->lock);
    return rc;
}

/* As may_wait() and park(), but that the locks of others are held too: no system call here. */
bool netpoll_join(M *m, FD *r, Wait *w)
{
    FDSide *side = &r->side[w->dirs - 1];
    uint64_t word = atomic_load(&r->word);
    if (!fd_same(word, w->gen) || (word & FD_ADDED) == 0 || get(&side->expired))
        return false;
    if (atomic_fetch_or(&r->word, fd_waits(w->dirs)) & fd_in_out(w->dirs)) {
        note_waits(r);
        return false;
    }
    put(&side->waitq, w);
    if (m->p == NULL)
        idle_poke(m);
    return true;
}

void netpoll_leave(FD *r, Wait *w)
{
    assert_held(&r->lock);
    if (!w->queued)
        return;
    unlink_wait(&r->side[w->dirs - 1].waitq, w);
    note_waits(r);
}

/* ---- deadlines ---------------------------------------------------------------------- */

static void expire(M *m, Timer *copy, unsigned dir)
{
    FD *r = copy->arg;
    FDSide *side = &r->side[dir - 1];
    Woken out = {0};
    lock_acquire(NULL, &r->lock, RANK_FD);
    if (side->seq == copy->head.seq) {
        set(&side->expired, true);
        wake_side(r, dir, -ETIMEDOUT, &out);
        note_waits(r);
    }
    lock_release(&r->lock);
    sched_ready_list(m, out.head);
}

static void expire_in(M *m, Timer *copy)
{
    expire(m, copy, WEFT_READ);
}

static void expire_out(M *m, Timer *copy)
{
    expire(m, copy, WEFT_WRITE);
}

static void lift(M *m, FDSide *side)
{
    side->seq++;
    set(&side->expired, false);
    timer_del(m, &side->timer.head); /* false: it fires just now, and finds the new seq */
}

static int arm(M *m, FD *r, unsigned dir, int64_t deadline, Woken *out)
{
    FDSide *side = &r->side[dir - 1];
    lift(m, side);
    if (deadline == 0)
        return 0;
    if (deadline <= sys_now()) {
        set(&side->expired, true);
        wake_side(r, dir, -ETIMEDOUT, out);
        note_waits(r);
        return 0;
    }
    side->timer.head.fire = dir == WEFT_READ ? expire_in : expire_out;
    side->timer.arg = r;
    side->timer.head.seq = side->seq;
    side->timer.period = 0;
    return timer_add(m, &side->timer.head, deadline);
}

int netpoll_deadline(M *m, const FDRef *f, unsigned dirs, int64_t deadline)
{
    FD *r = f->r;
    Woken out = {0};
    lock_acquire(NULL, &r->lock, RANK_FD);
    int rc = !fd_same(atomic_load(&r->word), f->gen) ? -EBADF
             : !atomic_load(&sched.active)           ? -EPERM
                                                     : 0;
    for (unsigned dir = WEFT_READ; dir <= WEFT_WRITE && rc == 0; dir++)
        if (dirs & dir)
            rc = arm(m, r, dir, deadline, &out);
    lock_release(&r->lock);
    sched_ready_list(m, out.head);
    return rc;
}

/* ---- the end of a descriptor, and of a run ---------------------------------------------- */

static void forget(M *m, FD *r, int result, Woken *out)
{
    wake_dirs(r, WEFT_READ | WEFT_WRITE, result, out);
    lift(m, &r->side[0]);
    lift(m, &r->side[1]);
}

void netpoll_forget(M *m, FD *r)
{
    Woken out = {0};
    lock_acquire(NULL, &r->lock, RANK_FD);
    forget(m, r, -ECANCELED, &out);
    if (atomic_fetch_and(&r->word, (uint64_t)~FD_ADDED) & FD_ADDED)
        sys_poller_del(r->fd); /* close() forgets it too, unless the file has another descriptor */
    lock_release(&r->lock);
    sched_ready_list(m, out.head);
}

int netpoll_init(void)
{
    set(&sched.polled_ready, 0);
    return sys_poller_open();
}

/* Nothing of this run must be seen by the next: a new generation, no deadline,
 * not known. Foreign threads go home with -EPERM; the Gs of coroutines are
 * about to be freed, and only leave the queues. */
static void reset(FD *r, void *arg)
{
    M *m = arg;
    Woken out = {0};
    lock_acquire(NULL, &r->lock, RANK_FD);
    forget(m, r, -EPERM, &out);
    uint64_t w = get(&r->word);
    while ((w & (FD_FLAGS | FD_CLOSING)) != 0 && (w & FD_CLOSING) == 0 &&
           !atomic_compare_exchange_weak(&r->word, &w, (w & ~FD_FLAGS) + FD_GEN))
        ;
    lock_release(&r->lock);
    for (G *g = out.head, *next; g != NULL; g = next) {
        next = g->link;
        if (g->flags & G_FOREIGN)
            foreign_ready(g);
    }
}

/* After `active` was cleared and the timers were dropped, before Gs are freed. */
void netpoll_fini(void)
{
    fd_foreach(reset, arch_self());
    atomic_store(&sched.waiters, 0); /* left by coroutines that were abandoned */
    sys_poller_close();
}
