/* SPDX-License-Identifier: MIT
 *
 * chan.h: the inside of a channel, shared by chan.c, select.c and bounce.c.
 *
 * chan.c's head has the ideas and the protocol; here are the steps that need
 * the channel's lock, written inline because both files live by their speed.
 */
#ifndef WEFT_CHAN_H
#define WEFT_CHAN_H

#include "rt.h"

/* The waiters of one direction, FIFO. head is read without the lock by chan_may_*. */
typedef struct {
    _Atomic(Wait *) head; /* (a) written under the lock */
    Wait *tail;           /* (l) */
} ChanQueue;

struct weft_chan {
    Lock lock;            /* RANK_CHAN */
    uint32_t elem_size;   /* (c) */
    _Atomic bool closed;  /* (a) written under the lock, once */
    uint32_t refs;        /* (l) callers' references, and one for every Wait that has on == this */
    _Atomic size_t count; /* (a) elements buffered; written under the lock */
    size_t cap;           /* (c) */
    size_t head, tail;    /* (l) offsets in buf of the oldest element and of the next one */
    size_t bytes;         /* (c) cap * elem_size, where the offsets wrap */
    ChanQueue recvq;      /* (l) waiting receivers; empty unless count == 0 */
    ChanQueue sendq;      /* (l) waiting senders; empty unless count == cap */
    _Alignas(16) char buf[];
};

/* ---- looking without the lock ---------------------------------------------
 *
 * False means: there was a moment during the call when the channel was open and
 * the operation would have had to wait. Each function reads the one word that
 * decides (a buffered channel's count, an unbuffered one's queue) and then
 * `closed`. closed never goes back, so if it is unset at the second load it was
 * unset at the first, and the first load is that moment. The acquire loads keep
 * the order and pair with set_rel in chan_unlink() and chan_close(): who sees
 * the queue that a close emptied also sees it closed. (Reading closed first, a
 * sender could take the emptied queue of a closed channel for "open, and nobody
 * receives".) True is a hint: ask again under the lock. */

static inline bool chan_has_elem(weft_chan_t *c)
{
    return c->cap == 0 ? get_acq(&c->sendq.head) != NULL : get_acq(&c->count) != 0;
}

static inline bool chan_may_recv(weft_chan_t *c)
{
    return chan_has_elem(c) || get_acq(&c->closed);
}

static inline bool chan_may_send(weft_chan_t *c)
{
    bool room = c->cap == 0 ? get_acq(&c->recvq.head) != NULL : get_acq(&c->count) < c->cap;
    return room || get_acq(&c->closed);
}

/* ---- elements ----------------------------------------------------------------- */

static inline void chan_copy(void *to, const void *from, size_t size)
{
    if (unlikely(to == NULL))
        return;
    if (unlikely(from == NULL)) {
        memset(to, 0, size);
        return;
    }
    if (likely(size == 8)) /* the common sizes without a call, and without a jump table */
        memcpy(to, from, 8);
    else if (size == 4)
        memcpy(to, from, 4);
    else if (size == 16)
        memcpy(to, from, 16);
    else if (size != 0)
        memcpy(to, from, size);
}

/* The only two places that touch a parked peer's element. It may lie on the
 * peer's stack if that stays where it is; a peer whose stack is copied has named
 * another place (bounce.c). from == NULL: zeros. */
static inline void chan_copy_to_peer(Wait *peer, const void *from, size_t size)
{
    chan_copy(peer->elem, from, size);
}

static inline void chan_copy_from_peer(void *to, const Wait *peer, size_t size)
{
    chan_copy(to, peer->elem, size);
}

static inline void chan_buf_put(weft_chan_t *c, const void *elem)
{
    chan_copy(c->buf + c->tail, elem, c->elem_size);
    c->tail += c->elem_size;
    if (c->tail == c->bytes)
        c->tail = 0;
}

static inline void chan_buf_take(weft_chan_t *c, void *elem)
{
    chan_copy(elem, c->buf + c->head, c->elem_size);
    c->head += c->elem_size;
    if (c->head == c->bytes)
        c->head = 0;
}

/* ---- waiters; c->lock is held ---------------------------------------------------- */

static inline void chan_enqueue(weft_chan_t *c, ChanQueue *q, Wait *w)
{
    assert_held(&c->lock);
    Wait *tail = q->tail;
    w->next = NULL;
    w->prev = tail;
    w->queued = true;
    w->on = c;
    c->refs++;
    q->tail = w;
    if (tail != NULL)
        tail->next = w;
    else
        set_rel(&q->head, w);
}

static inline void chan_unlink(ChanQueue *q, Wait *w)
{
    if (w->prev != NULL)
        w->prev->next = w->next;
    else
        set_rel(&q->head, w->next); /* see chan_may_send() */
    if (w->next != NULL)
        w->next->prev = w->prev;
    else
        q->tail = w->prev;
    w->queued = false;
}

/* Take out the first waiter that can still be granted something. A select that
 * was won elsewhere is taken out too and skipped; its reference stays, for its
 * owner is yet to lock this channel and to find it gone from the queue.
 *
 * The serial read here is that of the wait that queued w: w is queued, its
 * owner takes it out under this lock before it begins another wait, and it
 * began this one before it queued w under this lock.
 *
 * A run that has ended leaves its coroutines' Waits here until chan_abandon()
 * comes for them. They are granted nothing; a foreign thread that reads
 * `active` as true is waited for before that (foreign_wait_all). */
static inline Wait *chan_pop(ChanQueue *q)
{
    Wait *next, *w = get(&q->head);
    for (; w != NULL; w = next) {
        next = w->next;
        if (unlikely(!get_acq(&sched.active)) && (w->g->flags & G_FOREIGN) == 0)
            continue;
        chan_unlink(q, w);
        if (likely(!w->select) || wait_claim(w->g, get(&w->g->claim) >> 1))
            break;
    }
    return w;
}

/* w's operation is done: what its owner will find when it runs again. Drops
 * w's reference, never the last one: the caller works on one of its own. */
static inline G *chan_grant(weft_chan_t *c, Wait *w, int result)
{
    w->result = result;
    w->on = NULL;
    w->g->woke = w;
    c->refs--;
    rt_assert(c->refs > 0);
    return w->g;
}

/* ---- operations that need not wait; c->lock is held --------------------------------
 *
 * The operation's result, or -EAGAIN: it would have to wait. *wake is set to a
 * peer for the caller to make ready after it has unlocked c, and left alone
 * otherwise. */

static inline int chan_send_now(weft_chan_t *c, const void *elem, G **wake)
{
    assert_held(&c->lock);
    if (unlikely(get(&c->closed)))
        return -EPIPE;
    Wait *w = chan_pop(&c->recvq);
    if (w != NULL) {
        chan_copy_to_peer(w, elem, c->elem_size);
        *wake = chan_grant(c, w, 1);
        return 0;
    }
    size_t count = get(&c->count);
    if (count == c->cap)
        return -EAGAIN;
    chan_buf_put(c, elem);
    set_rel(&c->count, count + 1); /* pairs with the acquire in chan_may_*() */
    return 0;
}

static inline int chan_recv_now(weft_chan_t *c, void *elem, G **wake)
{
    assert_held(&c->lock);
    size_t count = get(&c->count);
    if (count > 0) {
        chan_buf_take(c, elem);
        Wait *w = chan_pop(&c->sendq);
        if (w != NULL) { /* it was full: the oldest sender's element takes the place */
            chan_copy_from_peer(c->buf + c->tail, w, c->elem_size);
            c->tail = c->head;
            *wake = chan_grant(c, w, 0);
        } else {
            set_rel(&c->count, count - 1);
        }
        return 1;
    }
    Wait *w = chan_pop(&c->sendq);
    if (w != NULL) { /* only an unbuffered channel has senders and no element */
        chan_copy_from_peer(elem, w, c->elem_size);
        *wake = chan_grant(c, w, 0);
        return 1;
    }
    if (get(&c->closed)) {
        chan_copy(elem, NULL, c->elem_size);
        return 0;
    }
    return -EAGAIN;
}

/* chan.c */
bool chan_forget(M *m, weft_chan_t *c, Wait *w);
weft_chan_t *chan_new(uint32_t elem_size, size_t cap, size_t bytes); /* NULL: no memory */
void chan_release(M *m, weft_chan_t *c);                             /* drop a reference */
/* Close; who has waited is appended to ready. False: it was closed before */
bool chan_shut(M *m, weft_chan_t *c, GList *ready);

/* ---- bounce.c: waiting off the stack ---------------------------------------------- */

typedef struct {
    weft_chan_t **chan; /* distinct, ascending */
    uint32_t n;
} LockSet;

/* In g->cases, behind the Waits; its list of channels and the room follow. */
typedef struct {
    LockSet set; /* select.c */
    size_t room; /* bytes for elements */
} BounceTail;

static inline BounceTail *bounce_tail(G *g)
{
    return (BounceTail *)(void *)(g->cases + g->ncases);
}

/* Has g's block n Waits, channels in the list and bytes of room? If not, grow it: g is
 * queued nowhere and holds no channel's lock. False: no memory, and no block. */
static inline bool bounce_fits(G *g, uint32_t n, size_t room)
{
    return likely(n <= g->ncases) &&
           (room == 0 || (g->cases != NULL && room <= bounce_tail(g)->room));
}
bool bounce_grow(G *g, uint32_t n, size_t room);

/* For a g with window_copied(g). The room that an element takes in its block: */
size_t bounce_size(const weft_chan_t *c, const void *elem);
char *bounce_room(G *g); /* where that begins */
/* Give w a place for the element, in the room if it is large, and a sender's a copy of
 * it. Where the next one's room begins. */
char *bounce_in(Wait *w, const weft_chan_t *c, void *elem, bool send, char *room);
/* After the wait: w was granted (or NULL); its element to the receiver's elem, or NULL */
void bounce_out(G *g, const Wait *w, void *elem);

#endif
