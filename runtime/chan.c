/* SPDX-License-Identifier: MIT
 *
 * chan.c: channels.
 *
 * As in Go: a ring of elements, a FIFO queue of waiting receivers and one of
 * waiting senders, one lock over all. An operation that finds a peer waiting
 * hands the element over directly, into or out of the place the peer named, so
 * an unbuffered exchange copies once. With senders waiting on a full ring a
 * receiver takes the oldest element and the oldest sender's takes its place:
 * the order of the elements is the order of the sends.
 *
 * Who writes what. Everything but the words marked (a) in chan.h is read and
 * written under the lock. A waiter fills its Wait, queues it and parks with the
 * lock held; the lock is released by the park's commit, when the waiter can be
 * resumed. So a waker, who takes the lock, never finds a waiter that is not off
 * its stack, and a waiter that looked and found nothing cannot miss the peer
 * that comes next: no wake-up is lost. The waker unlinks the Wait, copies the
 * element, writes result and g->woke, unlocks, and only then makes g ready. The
 * waiter reads its Wait when it runs again; sched_ready orders that.
 *
 * References. The caller of an operation owns one or borrows one for the time
 * of its call; every queued Wait has one of its own, which the waker drops
 * under the lock that it holds anyway. That never frees, since the waker works
 * on a reference too. The count is therefore a plain integer under the lock.
 *
 * The last touch. An operation is done with its channel before anybody can see
 * its effect: the buffer's new count is seen by who takes the lock after it was
 * released, a waiter runs after the waker has unlocked, and a waiter does not
 * look at the channel again. So a peer may drop the last reference as soon as
 * it has what it came for. (lock_release() may still make a wake-up call on
 * the address of the lock's word after it has released it: the kernel does not
 * mind whose memory that is.)
 *
 * A waiter whose stack is copied names a place of its own for the element, and
 * copies once more: bounce.c.
 *
 * Without the lock only the try calls and select look, see chan_may_recv().
 *
 * Lock order: RANK_CHAN; nothing is taken under a channel's lock but, by
 * select, locks of further channels in address order.
 */
#include "chan.h"
#include "glist.h"

#include <stdint.h>

enum { ELEM_MAX = 65535 };

/* ---- life ------------------------------------------------------------------------ */

/* For calls that have no way to report an error. m == NULL (no memory for a
 * foreign thread's M) is good enough for a lock. */
static M *chan_enter(const char *what)
{
    M *m = rt_enter();
    if (unlikely(m == NULL && get(&sched.forked)))
        fatal("%s in a forked child", what);
    return m;
}

static void chan_leave(M *m)
{
    if (likely(m != NULL))
        rt_leave(m);
}

/* A channel with `bytes` in buf, of which the elements take the first; one reference. */
weft_chan_t *chan_new(uint32_t elem_size, size_t cap, size_t bytes)
{
    weft_chan_t *c = rt_alloc(sizeof *c + bytes);
    if (likely(c != NULL)) {
        memset(c, 0, sizeof *c);
        c->elem_size = elem_size;
        c->cap = cap;
        c->bytes = elem_size * cap;
        c->refs = 1;
    }
    return c;
}

void chan_release(M *m, weft_chan_t *c)
{
    lock_acquire(m, &c->lock, RANK_CHAN);
    bool last = --c->refs == 0;
    lock_release(&c->lock);
    if (last)
        rt_free(c);
}

weft_chan_t *weft_chan_make(size_t elem_size, size_t capacity)
{
    size_t bytes, total;
    if (elem_size > ELEM_MAX || capacity > PTRDIFF_MAX ||
        __builtin_mul_overflow(elem_size, capacity, &bytes) ||
        __builtin_add_overflow(bytes, sizeof(weft_chan_t), &total) || total > PTRDIFF_MAX)
        return NULL;
    M *m = rt_enter();
    if (unlikely(m == NULL))
        return NULL;
    weft_chan_t *c = chan_new((uint32_t)elem_size, capacity, bytes);
    rt_leave(m);
    return c;
}

weft_chan_t *weft_chan_ref(weft_chan_t *c)
{
    if (c == NULL)
        return NULL;
    M *m = chan_enter("weft_chan_ref");
    lock_acquire(m, &c->lock, RANK_CHAN);
    if (unlikely(c->refs == UINT32_MAX))
        fatal("too many references to a channel");
    c->refs++;
    lock_release(&c->lock);
    chan_leave(m);
    return c;
}

void weft_chan_unref(weft_chan_t *c)
{
    if (c == NULL)
        return;
    M *m = chan_enter("weft_chan_unref");
    chan_release(m, c);
    chan_leave(m);
}

size_t weft_chan_len(weft_chan_t *c)
{
    return c != NULL ? get(&c->count) : 0;
}

size_t weft_chan_cap(weft_chan_t *c)
{
    return c != NULL ? c->cap : 0;
}

/* ---- waiting --------------------------------------------------------------------- */

/* The owner of w, or who ends the run, is done with it: unlink it if nobody did,
 * and drop its reference. True: it was still queued. */
bool chan_forget(M *m, weft_chan_t *c, Wait *w)
{
    lock_acquire(m, &c->lock, RANK_CHAN);
    bool queued = w->queued;
    if (queued) {
        /* Only the ends of a queue are reached from the channel. */
        bool receiver = get(&c->recvq.head) == w || c->recvq.tail == w;
        chan_unlink(receiver ? &c->recvq : &c->sendq, w);
    }
    /* One that a waker granted has no reference any more. */
    bool last = false;
    if (w->on != NULL) {
        w->on = NULL;
        last = --c->refs == 0;
    }
    lock_release(&c->lock);
    if (unlikely(last))
        rt_free(c);
    return queued;
}

/* A Wait that was granted, but whose owner never ran again, has nothing on. */
void chan_abandon(M *m, Wait *w)
{
    if (w->on != NULL)
        chan_forget(m, w->on, w);
}

/* Cancelled; or a foreign thread was sent home by the end of the run. In the second case a waker may have been
 * at it at the same time; then the exchange has taken place. The channel is
 * there: either our Wait still has its reference, or our caller has one. */
static int chan_cancelled(M *m, weft_chan_t *c, Wait *w)
{
    if (chan_forget(m, c, w) || (m->g->flags & G_FOREIGN) == 0)
        return m->g->result;
    foreign_settle(m);
    return w->result;
}

/* A call that has to wait ends with one of the functions below, in tail position and with no
 * address of a variable given away, so that nothing of it lies on the stack of who waits. */

int chan_parked(M *m)
{
    G *g = m->g;
    Wait *w = &g->wait;
    int rc = w->result;
    if (unlikely(window_copied(g))) {
        void *place = rc < 0 ? NULL : g->place;
        if (w->elem == &w->word)
            chan_copy(place, &w->word, w->size);
        else
            bounce_out(g, w, place);
    }
    rt_leave(m);
    return rc;
}

/* c may be gone on return. */
static __attribute__((noinline)) int chan_park_odd(M *m, weft_chan_t *c, enum Reason why)
{
    G *g = m->g;
    g->result = 0;
    m = sched_park_until_unlock(m, why, &c->lock, 0);
    if (likely(g->result == 0)) /* wakers leave it alone, cancellation does not */
        return chan_parked(m);
    int rc = chan_cancelled(m, c, &g->wait);
    if (window_copied(g))
        bounce_out(g, NULL, NULL);
    rt_leave(m);
    return rc;
}

/* Queue the caller and park; c is locked, and let go. The waker does the rest. */
static inline int chan_park(M *m, weft_chan_t *c, ChanQueue *q, void *elem, enum Reason why)
{
    G *g = m->g;
    Wait *w = &g->wait;
    if (unlikely(!get_acq(&sched.active))) {
        lock_release(&c->lock);
        rt_leave(m);
        return -EPERM;
    }
    w->g = g;
    w->elem = elem;
    w->select = wait_contested(g, 0);
    if (unlikely(w->select))
        wait_begin(g);
    chan_enqueue(c, q, w);
    if (sched_parks_last(g))
        return sched_park_last(m, why, &c->lock);
    return chan_park_odd(m, c, why);
}

/* chan_park() for a coroutine whose stack is copied, and an element that its Wait has no room for. If its block
 * has none either, the call begins again when it has: the lock is in the way. */
static __attribute__((noinline)) int chan_wait_copied(M *m, weft_chan_t *c, ChanQueue *q,
                                                      void *elem, enum Reason why)
{
    G *g = m->g;
    bool send = why == WHY_CHAN_SEND;
    size_t room = bounce_size(c, elem);
    if (!bounce_fits(g, 0, room)) {
        lock_release(&c->lock);
        bool grown = bounce_grow(g, 0, room);
        rt_leave(m);
        if (!grown)
            return -ENOMEM;
        return send ? weft_send(c, elem) : weft_recv(c, elem);
    }
    bounce_in(&g->wait, c, elem, send, bounce_room(g));
    g->place = send ? NULL : elem;
    return chan_park(m, c, q, g->wait.elem, why);
}

static inline int chan_wait(M *m, weft_chan_t *c, ChanQueue *q, void *elem, enum Reason why)
{
    G *g = m->g;
    if (unlikely(window_copied(g))) {
        if (c->elem_size > sizeof g->wait.word || elem == NULL)
            return chan_wait_copied(m, c, q, elem, why);
        g->wait.size = (uint16_t)c->elem_size;
        g->place = elem;
        if (why == WHY_CHAN_SEND) {
            chan_copy(&g->wait.word, elem, c->elem_size);
            g->place = NULL;
        }
        elem = &g->wait.word;
    }
    return chan_park(m, c, q, elem, why);
}

/* A NULL channel: nobody comes. Who is cancelled returns, and a foreign thread when the run ends. */
static __attribute__((noinline)) int chan_wait_nil(M *m, enum Reason why)
{
    int rc = -EPERM;
    if (get_acq(&sched.active)) {
        if (wait_contested(m->g, 0))
            wait_begin(m->g);
        m = sched_park_until(m, why, NULL, NULL, 0);
        rc = m->g->result;
    }
    rt_leave(m);
    return rc;
}

/* ---- operations -------------------------------------------------------------------- */

int weft_send(weft_chan_t *c, const void *elem)
{
    M *m = rt_enter();
    if (unlikely(m == NULL))
        return rt_no_m();
    m = chaos_yield(m, 8);
    if (unlikely(c == NULL))
        return chan_wait_nil(m, WHY_CHAN_NIL_SEND);
    G *peer = NULL;
    lock_acquire(m, &c->lock, RANK_CHAN);
    int rc = chan_send_now(c, elem, &peer);
    if (rc == -EAGAIN) /* the waker only reads a sender's element */
        return chan_wait(m, c, &c->sendq, (void *)(uintptr_t)elem, WHY_CHAN_SEND);
    lock_release(&c->lock);
    if (peer != NULL)
        sched_ready(m, peer);
    rt_leave(m);
    return rc;
}

int weft_recv(weft_chan_t *c, void *elem)
{
    M *m = rt_enter();
    if (unlikely(m == NULL))
        return rt_no_m();
    m = chaos_yield(m, 8);
    if (unlikely(c == NULL))
        return chan_wait_nil(m, WHY_CHAN_NIL_RECV);
    G *peer = NULL;
    lock_acquire(m, &c->lock, RANK_CHAN);
    int rc = chan_recv_now(c, elem, &peer);
    if (rc == -EAGAIN)
        return chan_wait(m, c, &c->recvq, elem, WHY_CHAN_RECV);
    lock_release(&c->lock);
    if (peer != NULL)
        sched_ready(m, peer);
    rt_leave(m);
    return rc;
}

int weft_try_send(weft_chan_t *c, const void *elem)
{
    M *m = rt_enter();
    if (unlikely(m == NULL))
        return rt_no_m();
    m = chaos_yield(m, 8);
    int rc = -EAGAIN;
    if (likely(c != NULL) && chan_may_send(c)) {
        G *peer = NULL;
        lock_acquire(m, &c->lock, RANK_CHAN);
        rc = chan_send_now(c, elem, &peer);
        lock_release(&c->lock);
        if (peer != NULL)
            sched_ready(m, peer);
    }
    rt_leave(m);
    return rc;
}

int weft_try_recv(weft_chan_t *c, void *elem)
{
    M *m = rt_enter();
    if (unlikely(m == NULL))
        return rt_no_m();
    m = chaos_yield(m, 8);
    int rc = -EAGAIN;
    if (likely(c != NULL) && chan_may_recv(c)) {
        if (get_acq(&c->closed) && !chan_has_elem(c)) {
            /* A closed channel gets no elements any more: drained for good. Many
             * poll one that only says "done"; they do it without the lock. */
            chan_copy(elem, NULL, c->elem_size);
            rc = 0;
        } else {
            G *peer = NULL;
            lock_acquire(m, &c->lock, RANK_CHAN);
            rc = chan_recv_now(c, elem, &peer);
            lock_release(&c->lock);
            if (peer != NULL)
                sched_ready(m, peer);
        }
    }
    rt_leave(m);
    return rc;
}

/* ---- close ---------------------------------------------------------------------------- */

/* Grant `result` to everyone in q and append them to list. */
static void chan_drain(weft_chan_t *c, ChanQueue *q, int result, GList *list)
{
    Wait *w;
    while ((w = chan_pop(q)) != NULL) {
        if (result == 0)
            chan_copy_to_peer(w, NULL, c->elem_size);
        G *g = chan_grant(c, w, result);
        glist_put(list, g, g);
    }
}

bool chan_shut(M *m, weft_chan_t *c, GList *ready)
{
    lock_acquire(m, &c->lock, RANK_CHAN);
    bool open = !get(&c->closed);
    if (likely(open)) {
        set_rel(&c->closed, true); /* before the queues are emptied: see chan_may_send() */
        chan_drain(c, &c->recvq, 0, ready);
        chan_drain(c, &c->sendq, -EPIPE, ready);
    }
    lock_release(&c->lock);
    return open;
}

int weft_chan_close(weft_chan_t *c)
{
    M *m = rt_enter();
    if (unlikely(m == NULL))
        return rt_no_m();
    if (unlikely(c == NULL))
        fatal("close of nil channel");
    m = chaos_yield(m, 8);
    GList list = {NULL, NULL};
    if (unlikely(!chan_shut(m, c, &list)))
        fatal("close of closed channel");

    /* The first of them next, the others behind what is queued: FIFO all the same. */
    G *next, *g = list.head;
    if (g != NULL) {
        next = g->link;
        sched_ready(m, g);
        while ((g = next) != NULL) {
            next = g->link;
            sched_ready_tail(m, g);
        }
    }
    rt_leave(m);
    return 0;
}
