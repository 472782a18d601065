/* SPDX-License-Identifier: MIT
 *
 * lot.h: who waits for an object, by its address: for sema.c and the slow ways of the objects.
 *
 * Everything of one address happens under the lock of its lot. What an object's words say of its
 * waiters is changed under it too, so that a wait and what ends it see one state. */
#ifndef WEFT_LOT_H
#define WEFT_LOT_H

#include "glist.h"

typedef struct Lot Lot;

typedef struct {
    const void *addr;
    uint64_t word;    /* for who looks through the queue: Wait.word */
    int64_t deadline; /* 0: none */
    enum Reason why;
    bool first; /* in front of all others */
} LotWait;

Lot *lot_lock(M *m, const void *addr);
void lot_unlock(Lot *lot);

/* Locked: the first in the queue of addr, or NULL. */
Wait *lot_first(Lot *lot, const void *addr);

/* Locked: queue the caller and park; the lock is let go meanwhile. 0: granted, and the lock is not
 * held. Else the caller is in no queue, was not granted, and *the lock is held again*: -ETIMEDOUT;
 * -ENOMEM, for the deadline; -ECANCELED: it was cancelled, or, on a
 * foreign thread, the run has ended. */
int lot_wait(M **m, Lot *lot, const LotWait *how);

/* The same in two steps. join: locked, and the lock stays held. park: not locked; on failure the
 * lot in *lot is. Between them the caller is in the queue, may be granted already, and parks in no
 * other wait. */
void lot_join(M *m, Lot *lot, const LotWait *how);
int lot_park(M **m, const LotWait *how, Lot **lot);

/* Locked: w leaves the queue. True: it is granted, and if it is to be made ready its G is appended to
 * ready; do so when the lock is let go. False: its deadline was faster. */
bool lot_grant(Lot *lot, Wait *w, GList *ready);

#endif
