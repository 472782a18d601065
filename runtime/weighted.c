/* SPDX-License-Identifier: MIT
 *
 * weighted.c: the weighted semaphore, after golang.org/x/sync/semaphore.
 *
 * One word: the units that are free, and QUEUED, somebody waits. What finds QUEUED unset is one swap.
 * Otherwise all is done under the lock of the object's lot (lot.c): QUEUED changes only there, and
 * while it is set the rest of the word changes only there too.
 *
 * First in, first out: who comes while others wait queues behind them, even if there would be enough
 * for it, and a release gives to the first only, as long as there is enough. So large requests do not
 * starve. A waiter that leaves for its deadline may have been what the others waited for: it gives as
 * a release of nothing would.
 *
 * After its change a release uses only the object's address.
 */
#include "sync.h"

#include "lot.h"

enum { QUEUED = WEFT_ABI_QUEUED, UNIT = WEFT_ABI_UNIT };
static const uint64_t MOST = INT64_MAX; /* units */

typedef struct {
    _Atomic uint64_t state;
} Semaphore;
_Static_assert(sizeof(Semaphore) <= sizeof(weft_sem_t), "weft_sem_t holds a Semaphore");
_Static_assert(offsetof(Semaphore, state) == offsetof(weft_sem_t, opaque[0]),
               "ABI note in weft/inline.h");

static inline Semaphore *sem_of(weft_sem_t *s)
{
    return (Semaphore *)(void *)s;
}

static inline bool sem_swap(Semaphore *x, uint64_t *old, uint64_t new)
{
    return atomic_compare_exchange_weak_explicit(&x->state, old, new, memory_order_acq_rel,
                                                 memory_order_relaxed);
}

/* Without a queue. */
static inline bool sem_take(Semaphore *x, uint64_t n)
{
    uint64_t old = get(&x->state);
    while (!(old & QUEUED) && old / UNIT >= n)
        if (likely(sem_swap(x, &old, old - n * UNIT)))
            return true;
    return false;
}

/* Locked, QUEUED is set: give what there is, units more than before. The change of the word comes last. */
static GList sem_give(M *m, Lot *lot, Semaphore *x, uint64_t units)
{
    GList ready = {NULL, NULL};
    Wait *w;
    units += get(&x->state) / UNIT;
    while ((w = lot_first(lot, x)) != NULL && w->word <= units) {
        uint64_t n = w->word;
        if (lot_grant(lot, w, &ready))
            units -= n;
    }
    sync_dawdle(m);
    set_rel(&x->state, units * UNIT | (w != NULL ? QUEUED : 0));
    return ready;
}

int weft_sem_init(weft_sem_t *s, int64_t n)
{
    if (s == NULL || n < 0)
        return -EINVAL;
    set(&sem_of(s)->state, (uint64_t)n * UNIT);
    return 0;
}

/* Locked. True: taken. Else, if asked for, QUEUED is set now: nobody else takes or gives without the lock. */
static bool sem_take_or_queue(Semaphore *x, uint64_t n, bool queue)
{
    uint64_t old = get(&x->state);
    for (;;) {
        if (!(old & QUEUED) && old / UNIT >= n) {
            if (sem_swap(x, &old, old - n * UNIT))
                return true;
        } else if (!queue || sem_swap(x, &old, old | QUEUED)) {
            return false;
        }
    }
}

static __attribute__((noinline)) int sem_acquire_slow(Semaphore *x, uint64_t n, int64_t deadline)
{
    M *m = rt_enter();
    if (m == NULL)
        return rt_no_m();
    window_refuse(m, x, "weft_sem_t");
    m = chaos_yield(m, 4);
    GList ready = {NULL, NULL};
    LotWait how = {.addr = x, .word = n, .deadline = deadline, .why = WHY_SEM};
    Lot *lot = lot_lock(m, x);
    int rc = sync_may_wait(deadline);
    bool taken = sem_take_or_queue(x, n, rc == 0);
    if (taken)
        rc = 0;
    if (taken || rc < 0) {
        lot_unlock(lot);
    } else if ((rc = lot_wait(&m, lot, &how)) < 0) {
        /* Else a release has found nobody but us, and the word is not ours alone. */
        if (get(&x->state) & QUEUED)
            ready = sem_give(m, lot, x, 0);
        lot_unlock(lot);
    }
    sched_ready_list(m, ready.head);
    rt_leave(m);
    return rc;
}

int weft_sem_acquire_until(weft_sem_t *s, int64_t n, int64_t deadline)
{
    if (unlikely(s == NULL || n < 0))
        return -EINVAL;
    if (likely(sem_take(sem_of(s), (uint64_t)n)))
        return 0;
    return sem_acquire_slow(sem_of(s), (uint64_t)n, deadline);
}

int weft_slow_sem_release(weft_sem_t *s, int64_t units)
{
    Semaphore *x = sem_of(s);
    uint64_t n = (uint64_t)units;
    M *m = rt_enter(); /* before the change: after it there is no way back */
    if (m == NULL)
        return rt_no_m();
    window_refuse(m, x, "weft_sem_t");
    GList ready = {NULL, NULL};
    Lot *lot = lot_lock(m, x);
    uint64_t old = get(&x->state);
    while (!(old & QUEUED) && n <= MOST - old / UNIT && !sem_swap(x, &old, old + n * UNIT))
        ;
    int rc = n <= MOST - old / UNIT ? 0 : -EOVERFLOW;
    if (rc == 0 && old & QUEUED)
        ready = sem_give(m, lot, x, n);
    lot_unlock(lot);
    sched_ready_list(m, ready.head);
    rt_leave(m);
    return rc;
}
