/* SPDX-License-Identifier: MIT
 *
 * sema.c: permits on an address: what mutexes and wait groups sleep on.
 *
 * A fixed table of buckets, each a lock and the waiters whose address hashes
 * there. So an object costs its words only, and can be given back as plain
 * memory while nobody waits. Waiters of one address form a ring in the order
 * they are to be woken; the first waiter of each ring stands for it in the
 * bucket's chain:
 *
 *      bucket.rings -> A1 --elem--> B1 --elem--> NULL
 *                      |ring: A1 A2 A3   |ring: B1
 *
 * Linking and taking cost a walk along the addresses of one bucket, however
 * many waiters each has. (Wait.elem links the chain: no element is copied here.)
 *
 * A permit is granted to a waiter in the queue by taking it out, or counted in
 * *sema when the waiter it is meant for has not come yet. Both sides hold the
 * bucket's lock, and a waiter's commit lets go of it only when it is parked:
 *   release first: the waiter finds the count and does not queue;
 *   acquire first: the release finds the waiter.
 * No wake-up is lost, and no atomic is needed beyond the lock.
 *
 * Grants are final: a permit goes to a given waiter and cannot be caught by a
 * newcomer (Go calls this ticket hand-off). Fairness against barging is
 * decided one level above, in the state words of sync.c.
 *
 * Lock: RANK_SEMA, one at a time; sched_ready() after the unlock.
 */
#include "sema.h"

enum { BUCKETS = 1024 }; /* a power of two */

typedef struct {
    _Alignas(CACHE_LINE) Lock lock;
    Wait *rings;
} SemaBucket;

static SemaBucket table[BUCKETS];

static SemaBucket *sema_bucket(const void *addr)
{
    uint64_t h = (uint64_t)(uintptr_t)addr * 0x9E3779B97F4A7C15u;
    return &table[h >> 54];
}
_Static_assert(BUCKETS == 1u << (64 - 54), "the hash gives an index");

/* The place of the pointer to the first waiter of addr; at the end if there is none. */
static Wait **sema_find(SemaBucket *b, const void *addr)
{
    Wait **at = &b->rings;
    while (*at != NULL && (*at)->on != addr)
        at = (Wait **)(void *)&(*at)->elem;
    return at;
}

static void sema_queue(SemaBucket *b, Wait *w, bool lifo)
{
    Wait **at = sema_find(b, w->on), *first = *at;
    w->queued = true;
    if (first == NULL) {
        w->next = w->prev = w;
        w->elem = NULL;
        *at = w;
        return;
    }
    w->next = first;
    w->prev = first->prev;
    w->prev->next = first->prev = w;
    if (lifo) {
        w->elem = first->elem;
        *at = w;
    }
}

static void sema_unqueue(SemaBucket *b, Wait *w)
{
    Wait **at = sema_find(b, w->on);
    w->queued = false;
    if (w->next == w) {
        *at = w->elem;
    } else {
        if (*at == w) {
            w->next->elem = w->elem;
            *at = w->next;
        }
        w->prev->next = w->next;
        w->next->prev = w->prev;
    }
}

/* A foreign thread whose wait was ended with the run. True: it has got its
 * permit nevertheless. */
static bool sema_cancel(M *m, SemaBucket *b, Wait *w)
{
    lock_acquire(m, &b->lock, RANK_SEMA);
    bool queued = w->queued;
    if (queued)
        sema_unqueue(b, w);
    lock_release(&b->lock);
    if (!queued)
        foreign_settle(m); /* taken out already: the wake-up is on its way */
    return !queued;
}

int sema_acquire(M **mp, uint32_t *sema, bool lifo, enum Reason why)
{
    M *m = *mp;
    SemaBucket *b = sema_bucket(sema);
    lock_acquire(m, &b->lock, RANK_SEMA);
    if (*sema > 0) {
        --*sema;
        lock_release(&b->lock);
        return 0;
    }
    Wait *w = &m->g->wait;
    w->g = m->g;
    w->on = sema;
    w->select = false;
    w->g->result = 0; /* as a waker leaves it; only a cancelled wait has another */
    sema_queue(b, w, lifo);
    *mp = m = sched_park_unlock(m, why, &b->lock);
    if (likely(m->g->result == 0))
        return 0;
    return sema_cancel(m, b, w) ? 0 : -ECANCELED;
}

void sema_collect(M *m, uint32_t *sema)
{
    SemaBucket *b = sema_bucket(sema);
    for (bool got = false; !got; sys_yield()) {
        lock_acquire(m, &b->lock, RANK_SEMA);
        if ((got = *sema > 0))
            --*sema;
        lock_release(&b->lock);
    }
}

void sema_release(M **mp, uint32_t *sema, uint32_t n, bool hand_off)
{
    M *m = *mp;
    SemaBucket *b = sema_bucket(sema);
    G *head = NULL, **tail = &head;
    lock_acquire(m, &b->lock, RANK_SEMA);
    for (; n > 0; n--) {
        Wait *w = *sema_find(b, sema);
        if (w == NULL)
            break;
        sema_unqueue(b, w);
        w->g->woke = w;
        w->g->link = NULL;
        *tail = w->g;
        tail = &w->g->link;
    }
    if (n > 0)
        *sema += n; /* somebody who waits for these has not come yet: the word is still there */
    lock_release(&b->lock);
    if (head == NULL)
        return;
    if (head->link != NULL) {
        sched_ready_list(m, head);
        return;
    }
    sched_ready(m, head);
    if (hand_off && m->p != NULL)
        *mp = sched_yield_to_others(m);
}

void sema_reset(void)
{
    for (SemaBucket *b = table; b < table + BUCKETS; b++) {
        Wait *keep = NULL;
        lock_acquire(NULL, &b->lock, RANK_SEMA);
        while (b->rings != NULL) {
            Wait *w = b->rings;
            sema_unqueue(b, w);
            if (w->g->flags & G_FOREIGN) { /* a thread: it takes itself out */
                w->elem = keep;
                keep = w;
            }
        }
        while (keep != NULL) {
            Wait *w = keep;
            keep = w->elem;
            sema_queue(b, w, false);
        }
        lock_release(&b->lock);
    }
}
