/* SPDX-License-Identifier: MIT
 *
 * sema.c: permits on an address: what mutexes and wait groups sleep on.
 *
 * A permit is granted to a waiter in the queue by taking it out, or counted in *sema when the waiter
 * it is meant for has not come yet, or has left because of its deadline and does not know yet. Both
 * sides hold the lot's lock (lot.c):
 *   release first: the waiter finds the count and does not queue;
 *   acquire first: the release finds the waiter.
 *
 * Grants are final: a permit goes to a given waiter and cannot be caught by a
 * newcomer (Go calls this ticket hand-off). Fairness against barging is
 * decided one level above, in the state words of mutex.c.
 */
#include "sema.h"

#include "lot.h"

int sema_acquire(M **m, uint32_t *sema, bool lifo, enum Reason why, int64_t deadline)
{
    Lot *lot = lot_lock(*m, sema);
    if (*sema > 0) {
        --*sema;
        lot_unlock(lot);
        return 0;
    }
    LotWait how = {.addr = sema, .deadline = deadline, .why = why, .first = lifo};
    int rc = lot_wait(m, lot, &how);
    if (rc < 0)
        lot_unlock(lot);
    return rc;
}

bool sema_collect(M *m, uint32_t *sema)
{
    Lot *lot = lot_lock(m, sema);
    bool got = *sema > 0;
    *sema -= got;
    lot_unlock(lot);
    return got;
}

void sema_release(M **mp, uint32_t *sema, uint32_t n, bool hand_off)
{
    M *m = *mp;
    GList ready = {NULL, NULL};
    Lot *lot = lot_lock(m, sema);
    for (Wait *w; n > 0 && (w = lot_first(lot, sema)) != NULL;)
        n -= lot_grant(lot, w, &ready);
    if (n > 0)
        *sema += n; /* who waits for these is not in the queue: the word is still there */
    lot_unlock(lot);
    G *head = ready.head;
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
