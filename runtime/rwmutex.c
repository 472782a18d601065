/* SPDX-License-Identifier: MIT
 *
 * rwmutex.c: after Go's sync.RWMutex.
 *
 * Writers first take a mutex, so that at most one is at the rest of it: a word with the number of
 * readers, WRITER (one holds it, or waits for the readers that are left), and QUEUED (readers wait for
 * that writer). Readers enter and leave, and a writer enters and leaves what nobody else wants, by
 * one swap of the word.
 *
 * Nobody starves: from WRITER on new readers queue, so the writer waits for those before it only; its
 * unlock lets in all that have queued meanwhile, and only then the next writer has the mutex.
 *
 * The slow ways are made under the lock of the object's lot (lot.c), in whose queue the writer comes
 * first. What is changed there and what is changed without: while WRITER is set, the number of readers
 * sinks, and QUEUED is set, and WRITER is cleared with QUEUED, under the lock only. So
 *   - the last reader finds the writer in the queue, or the writer, which looks at the number under
 *     the lock before it queues, finds no readers;
 *   - the writer's unlock either swaps a word without QUEUED, and then no reader waits, or finds all
 *     of them in the queue.
 * A writer that leaves for its deadline lets in those who wait for it, as its unlock would.
 *
 * READY: readers may enter and leave by one swap of a number of readers and READY, and nothing else: so it is
 * done in programs (weft/inline.h). {0} has to earn it, as a mutex does (mutex.c), from the first reader or
 * writer of a run that does not watch for deadlocks (cycles.c).
 *
 * Order: swaps that enter are acquire and pair with those that leave, release, of writers and of
 * readers; a grant is ordered by the lot's lock and the wake-up.
 *
 * After its swap, or its change under the lock, an unlock uses only the object's address. That of a
 * writer then unlocks the mutex: so the object may be freed by who has locked it for *writing* last,
 * or when readers and writers have returned from their calls.
 */
#include "sync.h"

#include "cycles.h"
#include "lot.h"

enum {
    WRITER = WEFT_ABI_WRITER,
    QUEUED = 2,
    READY = WEFT_ABI_RWMUTEX_READY,
    READER = WEFT_ABI_READER
};

typedef struct {
    weft_mutex_t writers; /* first: cycles.h */
    _Atomic uint32_t state;
} RWMutex;
_Static_assert(sizeof(RWMutex) <= sizeof(weft_rwmutex_t), "weft_rwmutex_t holds a RWMutex");
_Static_assert(offsetof(RWMutex, state) == offsetof(weft_rwmutex_t, opaque[2]),
               "ABI note in weft/inline.h");

static inline RWMutex *rw_of(weft_rwmutex_t *rw)
{
    return (RWMutex *)(void *)rw;
}

static inline bool rw_swap(RWMutex *x, uint32_t *old, uint32_t new)
{
    return atomic_compare_exchange_weak_explicit(&x->state, old, new, memory_order_acq_rel,
                                                 memory_order_relaxed);
}

/* The word with READY as it should be. */
static inline uint32_t rw_mark(uint32_t old)
{
    if (likely(get(&sched.quick)))
        return old | READY;
    return cycles_on() ? old & ~(uint32_t)READY : old;
}

/* Locked. The writer is gone, or gives up: all readers that wait for it enter. */
static GList rw_let_in(Lot *lot, RWMutex *x)
{
    GList ready = {NULL, NULL};
    uint32_t in = 0;
    for (Wait *w; (w = lot_first(lot, x)) != NULL;)
        in += lot_grant(lot, w, &ready) ? READER : 0;
    uint32_t old = get(&x->state);
    while (!rw_swap(x, &old, (old & ~(uint32_t)(WRITER | QUEUED)) + in))
        ;
    return ready;
}

/* ---- readers ---- */

/* Not in the program, but at once. */
static __attribute__((noinline)) bool rw_enter_marked(RWMutex *x)
{
    uint32_t old = get(&x->state);
    while (!(old & WRITER) && old < UINT32_MAX - READER)
        if (rw_swap(x, &old, rw_mark(old) + READER)) {
            if (cycles_on())
                cycles_note(x, HOLDS_READ);
            return true;
        }
    return false;
}

static __attribute__((noinline)) int rw_rlock_slow(RWMutex *x, int64_t deadline)
{
    if (rw_enter_marked(x))
        return 0;
    M *m = rt_enter();
    if (m == NULL)
        return rt_no_m();
    window_refuse(m, x, "weft_rwmutex_t");
    m = chaos_yield(m, 4);
    CycleWait *wait = cycles_wait(m, x, WHY_RLOCK, deadline);
    Lot *lot = lot_lock(m, x);
    int rc = sync_may_wait(deadline);
    for (uint32_t old = get(&x->state);;) {
        if (unlikely(old >= UINT32_MAX - READER)) {
            lot_unlock(lot);
            fatal("sync: too many readers of an RWMutex");
        }
        if (!(old & WRITER)) {
            if (!rw_swap(x, &old, old + READER))
                continue;
            lot_unlock(lot);
            rc = 0;
            break;
        }
        if (rc == 0 && !rw_swap(x, &old, old | QUEUED))
            continue;
        if (rc == 0)
            rc = lot_wait(&m, lot, &(LotWait){.addr = x, .deadline = deadline, .why = WHY_RLOCK});
        if (rc < 0)
            lot_unlock(lot);
        break;
    }
    cycles_waited(wait);
    if (rc == 0 && cycles_on())
        cycles_note(x, HOLDS_READ);
    rt_leave(m);
    return rc;
}

int weft_rwmutex_rlock_until(weft_rwmutex_t *rw, int64_t deadline)
{
    if (unlikely(rw == NULL))
        return -EINVAL;
    return rw_rlock_slow(rw_of(rw), deadline);
}

int weft_rwmutex_tryrlock(weft_rwmutex_t *rw)
{
    if (unlikely(rw == NULL))
        return -EINVAL;
    return rw_enter_marked(rw_of(rw)) ? 0 : -EBUSY;
}

/* A writer waits, or is about to: the last one lets it in. */
static __attribute__((noinline)) int rw_runlock_slow(RWMutex *x)
{
    if (cycles_on())
        cycles_forget(x, HOLDS_READ); /* now: nobody else's can be meant yet */
    for (uint32_t leave = get(&x->state); !(leave & WRITER) && leave >= READER;)
        if (rw_swap(x, &leave, leave - READER))
            return 0;
    M *m = rt_enter(); /* before the change: after it there is no way back */
    if (m == NULL)
        return rt_no_m();
    window_refuse(m, x, "weft_rwmutex_t");
    GList ready = {NULL, NULL};
    Lot *lot = lot_lock(m, x);
    Wait *w = lot_first(lot, x);
    uint32_t old = get(&x->state);
    while (likely(old >= READER) && !rw_swap(x, &old, old - READER))
        ;
    if (unlikely(old < READER)) {
        lot_unlock(lot);
        fatal("sync: RUnlock of unlocked RWMutex");
    }
    if (old < 2 * READER && w != NULL && w->word == WRITER)
        (void)lot_grant(lot, w, &ready); /* false: it sees by itself that nobody is left */
    lot_unlock(lot);
    if (ready.head != NULL)
        sched_ready(m, ready.head);
    rt_leave(m);
    return 0;
}

/* What weft_rwmutex_runlock(), weft.h, leaves to do. */
int weft_slow_rwmutex_runlock(weft_rwmutex_t *rw)
{
    return rw_runlock_slow(rw_of(rw));
}

/* ---- writers ---- */

/* WRITER is set by us; wait until the readers are gone. */
static __attribute__((noinline)) int rw_await_readers(RWMutex *x, int64_t deadline)
{
    M *m = rt_enter();
    if (unlikely(m == NULL)) {
        atomic_fetch_and_explicit(&x->state, ~(uint32_t)WRITER,
                                  memory_order_relaxed); /* forked: nobody else is there */
        return rt_no_m();
    }
    window_refuse(m, x, "weft_rwmutex_t");
    m = chaos_yield(m, 4);
    GList ready = {NULL, NULL};
    CycleWait *wait = cycles_wait(m, x, WHY_RWLOCK, deadline);
    Lot *lot = lot_lock(m, x);
    int rc = 0;
    if (get_acq(&x->state) >= READER && (rc = sync_may_wait(deadline)) == 0) {
        LotWait how = {
            .addr = x, .word = WRITER, .deadline = deadline, .why = WHY_RWLOCK, .first = true};
        rc = lot_wait(&m, lot, &how);
        if (rc == 0)
            lot = NULL;
        else if (get_acq(&x->state) < READER)
            rc = 0; /* the last one was about to let us in */
    }
    if (rc < 0)
        ready = rw_let_in(lot, x);
    if (lot != NULL)
        lot_unlock(lot);
    cycles_waited(wait);
    sched_ready_list(m, ready.head);
    rt_leave(m);
    return rc;
}

/* The mutex is the caller's, in a run that watches, or in none. */
static __attribute__((noinline)) uint32_t rw_mark_writer(const RWMutex *x)
{
    if (cycles_on())
        cycles_note(x, HOLDS_WRITE);
    return WRITER;
}

int weft_rwmutex_lock_until(weft_rwmutex_t *rw, int64_t deadline)
{
    RWMutex *x = rw_of(rw);
    int rc = x != NULL ? sync_attach() : -EINVAL;
    if (unlikely(rc != 0) || unlikely((rc = weft_mutex_lock_until(&x->writers, deadline)) != 0))
        return rc;
    if (unlikely(deadline != 0 && get(&x->state) >= READER &&
                 (rc = sync_may_wait(deadline)) != 0)) {
        weft_mutex_unlock(&x->writers); /* no reader has noticed */
        return rc;
    }
    uint32_t mark = likely(get(&sched.quick)) ? WRITER | READY : rw_mark_writer(x);
    uint32_t old = atomic_fetch_or_explicit(&x->state, mark, memory_order_acquire);
    if (likely(old < READER))
        return 0;
    rc = rw_await_readers(x, deadline);
    if (unlikely(rc != 0))
        weft_mutex_unlock(&x->writers);
    return rc;
}

int weft_rwmutex_lock(weft_rwmutex_t *rw)
{
    return weft_rwmutex_lock_until(rw, 0);
}

int weft_rwmutex_trylock(weft_rwmutex_t *rw)
{
    RWMutex *x = rw_of(rw);
    int rc = x != NULL ? sync_attach() : -EINVAL;
    if (unlikely(rc != 0))
        return rc;
    if (weft_mutex_trylock(&x->writers) != 0)
        return -EBUSY;
    if (unlikely(!get(&sched.quick)))
        (void)rw_mark_writer(x);
    for (uint32_t old = get(&x->state); old < READER;)
        if (rw_swap(x, &old, rw_mark(old) | WRITER))
            return 0;
    weft_mutex_unlock(&x->writers);
    return -EBUSY;
}

static __attribute__((noinline)) int rw_unlock_slow(RWMutex *x)
{
    uint32_t alone = WRITER;
    if (atomic_compare_exchange_strong_explicit(&x->state, &alone, 0, memory_order_release,
                                                memory_order_relaxed))
        return 0;
    M *m = rt_enter();
    if (m == NULL)
        return rt_no_m();
    window_refuse(m, x, "weft_rwmutex_t");
    Lot *lot = lot_lock(m, x);
    uint32_t old = get(&x->state);
    if (!(old & WRITER) || old >= READER) {
        lot_unlock(lot);
        fatal("sync: Unlock of unlocked RWMutex");
    }
    GList ready = rw_let_in(lot, x);
    lot_unlock(lot);
    sched_ready_list(m, ready.head);
    rt_leave(m);
    return 0;
}

int weft_rwmutex_unlock(weft_rwmutex_t *rw)
{
    RWMutex *x = rw_of(rw);
    uint32_t old = READY | WRITER;
    int rc = x != NULL ? sync_attach() : -EINVAL;
    if (unlikely(rc != 0))
        return rc;
    if (unlikely(!atomic_compare_exchange_strong_explicit(
            &x->state, &old, READY, memory_order_release, memory_order_relaxed))) {
        rc = rw_unlock_slow(x);
        if (unlikely(rc != 0))
            return rc;
    }
    return weft_mutex_unlock(&x->writers);
}
