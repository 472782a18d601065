/* SPDX-License-Identifier: MIT
 *
 * lot.c: who waits for an object, by its address.
 *
 * A fixed table of lots, each a lock and the waiters whose address hashes there. So an object costs
 * its words only, and can be given back as plain memory while nobody waits. Waiters of one address
 * form a ring in the order they are to be woken; the first waiter of each ring stands for it in the
 * lot's chain:
 *
 *      lot.rings -> A1 --elem--> B1 --elem--> NULL
 *                   |ring: A1 A2 A3   |ring: B1
 *
 * Linking and taking cost a walk along the addresses of one lot, however many waiters each has.
 * (Wait.elem links the chain: no element is copied here.)
 *
 * No wake-up is lost: whoever waits looks at the object and queues under the lock, which is let go by
 * the commit of its park, or of its second step; whoever grants changes the object and takes the
 * waiter out under the same lock.
 *
 * A deadline. The timer and who grants compete for wait_claim(). The timer won: the grant fails, goes
 * to the next waiter, and ours finds under the lock that it has not been granted. The grant won: the
 * timer does nothing. A waiter between lot_join() and lot_park() has no timer yet: it is granted
 * without a claim, and finds that when it comes to park. It is not made ready: it runs.
 *
 * A foreign thread that is sent home by the end of the run finds out under the lock as well. If it was
 * granted while it slept its token is on the way, and is waited for, lest it end a later wait.
 *
 * Lock: RANK_LOT, one at a time; sched_ready() after the unlock.
 */
#include "lot.h"

enum { LOTS = 1024 /* a power of two */ };
enum { QUEUED = 1, PARKED = 2 }; /* Wait.queued */
enum { WAITS, GRANTED };         /* Wait.result */

struct Lot {
    _Alignas(CACHE_LINE) Lock lock;
    Wait *rings;
};

static Lot table[LOTS];

static Lot *lot_of(const void *addr)
{
    uint64_t h = (uint64_t)(uintptr_t)addr * 0x9E3779B97F4A7C15u;
    return &table[h >> 54];
}
_Static_assert(LOTS == 1u << (64 - 54), "the hash gives an index");

Lot *lot_lock(M *m, const void *addr)
{
    Lot *lot = lot_of(addr);
    lock_acquire(m, &lot->lock, RANK_LOT);
    return lot;
}

void lot_unlock(Lot *lot)
{
    lock_release(&lot->lock);
}

/* ---- the queue ---- */

/* The place of the pointer to the first waiter of addr; at the end if there is none. */
static Wait **lot_find(Lot *lot, const void *addr)
{
    Wait **at = &lot->rings;
    while (*at != NULL && (*at)->on != addr)
        at = (Wait **)(void *)&(*at)->elem;
    return at;
}

Wait *lot_first(Lot *lot, const void *addr)
{
    return *lot_find(lot, addr);
}

static void lot_link(Lot *lot, Wait *w, bool in_front)
{
    Wait **at = lot_find(lot, w->on), *first = *at;
    if (first == NULL) {
        w->next = w->prev = w;
        w->elem = NULL;
        *at = w;
        return;
    }
    w->next = first;
    w->prev = first->prev;
    w->prev->next = first->prev = w;
    if (in_front) {
        w->elem = first->elem;
        *at = w;
    }
}

static void lot_unlink(Lot *lot, Wait *w)
{
    Wait **at = lot_find(lot, w->on);
    w->queued = 0;
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

/* ---- waiting ---- */

static void lot_queue(Lot *lot, G *g, const LotWait *how, uint8_t queued)
{
    Wait *w = &g->wait;
    w->g = g;
    w->on = (void *)(uintptr_t)how->addr;
    w->word = how->word;
    w->queued = queued;
    w->result = WAITS;
    lot_link(lot, w, how->first);
}

/* Not woken by a grant. What came first? */
static int lot_settle(M *m, Lot *lot)
{
    Wait *w = &m->g->wait;
    int rc = m->g->result;
    lock_acquire(m, &lot->lock, RANK_LOT);
    if (w->queued)
        lot_unlink(lot, w);
    if (w->result == WAITS)
        return rc;
    lock_release(&lot->lock);
    rt_assert(m->g->flags & G_FOREIGN); /* a coroutine's claim was won by one only */
    foreign_settle(m); /* nobody else can have been granted, and told something else */
    return 0;
}

/* Locked, and the caller is in the queue. */
static int lot_sleep(M **mp, Lot *lot, const LotWait *how)
{
    M *m = *mp;
    G *g = m->g;
    g->wait.select = wait_contested(g, how->deadline);
    g->result = 0; /* as a waker leaves it */
    if (g->wait.select)
        wait_begin(g);
    *mp = m = sched_park_until_unlock(m, how->why, &lot->lock, how->deadline);
    return likely(m->g->result == 0) ? 0 : lot_settle(m, lot);
}

int lot_wait(M **m, Lot *lot, const LotWait *how)
{
    lot_queue(lot, (*m)->g, how, PARKED);
    return lot_sleep(m, lot, how);
}

void lot_join(M *m, Lot *lot, const LotWait *how)
{
    lot_queue(lot, m->g, how, QUEUED);
    set(&m->g->reason,
        (uint8_t)how->why); /* what Wait.on is, for the end of the run: the last park's would say */
}

int lot_park(M **mp, const LotWait *how, Lot **out)
{
    M *m = *mp;
    Lot *lot = *out = lot_lock(m, how->addr);
    if (!m->g->wait.queued) {
        lot_unlock(lot);
        return 0;
    }
    m->g->wait.queued = PARKED;
    return lot_sleep(mp, lot, how);
}

bool lot_grant(Lot *lot, Wait *w, GList *ready)
{
    G *g = w->g;
    bool parked = w->queued == PARKED;
    lot_unlink(lot, w);
    if (!parked)
        return true;
    if (w->select && !wait_claim(g, get(&g->claim) >> 1))
        return false;
    w->result = GRANTED;
    g->woke = w;
    glist_put(ready, g, g);
    return true;
}

/* The end of a run: its coroutines wait no more; a foreign thread takes itself out. (One that is between its
 * two steps all the time until the next run begins waits on in that.) */
void lot_reset(void)
{
    for (Lot *lot = table; lot < table + LOTS; lot++) {
        Wait *keep = NULL, **last = &keep;
        lock_acquire(NULL, &lot->lock, RANK_LOT);
        while (lot->rings != NULL) {
            Wait *w = lot->rings;
            uint8_t queued = w->queued;
            lot_unlink(lot, w);
            if (w->g->flags & G_FOREIGN) {
                w->queued = queued;
                w->elem = NULL;
                *last = w;
                last = (Wait **)(void *)&w->elem;
            }
        }
        while (keep != NULL) {
            Wait *w = keep;
            keep = w->elem;
            lot_link(lot, w, false);
        }
        lock_release(&lot->lock);
    }
}
