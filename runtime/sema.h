/* SPDX-License-Identifier: MIT
 *
 * sema.h: permits on an address, for mutex.c and wg.c.
 *
 * A semaphore is one word of the user's object (zero at first) and its address.
 * The word counts permits that came before their waiter; sema.c alone touches
 * it, under the lot's lock. */
#ifndef WEFT_SEMA_H
#define WEFT_SEMA_H

#include "rt.h"

/* Wait for a permit; lifo: in front of all other waiters. Parks, *m is set to the
 * M that runs the caller now. deadline: 0, or one that has not passed. 0; -ETIMEDOUT;
 * -ENOMEM, for the deadline; -ECANCELED: it was cancelled, or, on a foreign thread, the run has ended: no permit was
 * taken; if one is to come for this waiter it must be taken by sema_collect(). */
int sema_acquire(M **m, uint32_t *sema, bool lifo, enum Reason why, int64_t deadline);

/* Take a permit that was given to nobody in the queue. True: got it. */
bool sema_collect(M *m, uint32_t *sema);

/* Give n permits. At least n callers are in, or on their way into, sema_acquire(), or out of it to sema_collect().
 * Once every one of them has been granted *sema is not touched: the object may
 * be gone. hand_off: the caller wants the woken one to run at once, and yields
 * to it where it can; *m as above. */
void sema_release(M **m, uint32_t *sema, uint32_t n, bool hand_off);

#endif
