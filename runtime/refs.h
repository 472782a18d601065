/* SPDX-License-Identifier: MIT
 *
 * refs.h: counted references to what lies on the heap and may have a timer.
 *
 * A pending timer has a reference of its own to what it belongs to (*the timer's ref*), which goes to
 * its function when it fires. So the object cannot go under it. But an object that nobody else has any
 * more need not wait for its time to come: who is about to drop the last reference but the timer's
 * takes the timer away first, while its own reference keeps the object. Whether it has the timer, or
 * the timer fires, is decided under the heap's lock: exactly one of both has the timer's reference
 * afterwards.
 *   The count of 2 that ref_drop() sees is ours and the timer's: had anybody else a reference
 * it would be 3, as long as the timer has not fired; and if that has fired, timer_del() says so.
 *
 * Order. Who drops a reference releases what it has done with the object; who drops the last one
 * acquires all of that, and frees. 64 bits do not overflow. */
#ifndef WEFT_REFS_H
#define WEFT_REFS_H

#include "rt.h"

typedef _Atomic uint64_t Refs;

/* The caller has one. */
static inline void ref_take(Refs *refs)
{
    atomic_fetch_add_explicit(refs, 1, memory_order_relaxed);
}

/* The caller has found the object under the lock that its last owner takes before it goes. False: it is going. */
static inline bool ref_take_found(Refs *refs)
{
    uint64_t n = get(refs);
    while (n != 0)
        if (atomic_compare_exchange_weak_explicit(refs, &n, n + 1, memory_order_relaxed,
                                                  memory_order_relaxed))
            return true;
    return false;
}

/* Drop one that is neither the last nor the last but the timer's. False: it may be. */
static inline bool ref_drop_shared(Refs *refs)
{
    uint64_t n = get(refs);
    while (n > 2)
        if (atomic_compare_exchange_weak_explicit(refs, &n, n - 1, memory_order_release,
                                                  memory_order_relaxed))
            return true;
    return false;
}

/* Drop one; timer: of the object, or NULL. No lock of rank TIMERS or above is held. True: it was the last one,
 * and the object is the caller's. */
static inline bool ref_drop(M *m, Refs *refs, TimerHead *timer)
{
    if (timer == NULL)
        return atomic_fetch_sub_explicit(refs, 1, memory_order_acq_rel) == 1;
    uint64_t n = get(refs);
    do {
        if (n == 2 && timer_del(m, timer))
            return atomic_fetch_sub_explicit(refs, 2, memory_order_acq_rel) == 2;
    } while (!atomic_compare_exchange_weak_explicit(refs, &n, n - 1, memory_order_acq_rel,
                                                    memory_order_relaxed));
    return n == 1;
}

#endif
