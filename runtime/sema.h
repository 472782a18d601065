/* SPDX-License-Identifier: MIT
 *
 * sema.h: permits on an address, for sync.c.
 *
 * A semaphore is one word of the user's object (zero at first) and its address.
 * The word counts permits that came before their waiter; sema.c alone touches
 * it, under the bucket's lock. */
#ifndef WEFT_SEMA_H
#define WEFT_SEMA_H

#include "rt.h"

/* Wait for a permit; lifo: in front of all other waiters. Parks, *m is set to the
 * M that runs the caller now. 0; -ECANCELED, on a foreign thread, the run has
 * ended: no permit was taken, one that is to come for this waiter must be
 * taken by sema_collect(). */
int sema_acquire(M **m, uint32_t *sema, bool lifo, enum Reason why);

/* Wait, without parking, for a permit that somebody is about to give. */
void sema_collect(M *m, uint32_t *sema);

/* Give n permits. At least n callers are in, or on their way into, sema_acquire().
 * Once every one of them has been granted *sema is not touched: the object may
 * be gone. hand_off: the caller wants the woken one to run at once, and yields
 * to it where it can; *m as above. */
void sema_release(M **m, uint32_t *sema, uint32_t n, bool hand_off);

#endif
