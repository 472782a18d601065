/* SPDX-License-Identifier: MIT
 *
 * cond.c: the condition variable, after Go's sync.Cond; and once, after sync.Once.
 *
 * The object is its address: who waits is in the queue of its lot (lot.c). wait queues before anybody can find
 * the mutex unlocked and signal: so a signal that follows the unlock finds it. If nobody is to be woken for the
 * mutex its unlock is one swap, and is done under the lot's lock, which the commit of the park lets go: a signaller
 * that comes in between waits there. Else wait queues first, and parks after the unlock, in a second
 * step, since an unlock may take other lots' locks and park itself. Signals wake in the order of the
 * waits. A signal's waiter whose deadline was faster does not count: the next one is woken.
 *
 * The number of waiters is kept in the object, so that a signal for nobody is one load. It is raised
 * before the mutex is unlocked, and whoever signals because of what it has changed under the mutex
 * has locked it since: it reads a number that counts the waiter. It sinks under the lot's lock.
 *
 * Once is a flag and a mutex that is held while fn runs.
 */
#include "sync.h"

#include "lot.h"

typedef struct {
    _Atomic uint32_t waiters;
} Cond;
_Static_assert(sizeof(Cond) <= sizeof(weft_cond_t), "weft_cond_t holds a Cond");

typedef struct {
    weft_mutex_t running;
    _Atomic uint32_t done;
} Once;
_Static_assert(sizeof(Once) <= sizeof(weft_once_t), "weft_once_t holds a Once");
_Static_assert(offsetof(Once, done) == offsetof(weft_once_t, opaque[2]),
               "ABI note in weft/inline.h");

/* ---- condition variable ---- */

static inline Cond *cond_of(weft_cond_t *c)
{
    return (Cond *)(void *)c;
}

/* A wait has come back without a signal, and with the lock. */
static void cond_withdraw(Lot *lot, Cond *x)
{
    set(&x->waiters, get(&x->waiters) - 1);
    lot_unlock(lot);
}

/* Queued. Wait for a signal, however long the unlock takes. */
static int cond_park(const LotWait *how, Cond *x)
{
    Lot *lot;
    M *m = chaos_yield(rt_enter(), 4);
    int rc = lot_park(&m, how, &lot);
    if (rc < 0)
        cond_withdraw(lot, x);
    rt_leave(m);
    return rc;
}

/* Unlock the mutex and wait. */
static int cond_sleep(M *m, const LotWait *how, Cond *x, weft_mutex_t *mutex)
{
    Lot *lot = lot_lock(m, x);
    set(&x->waiters, get(&x->waiters) + 1); /* before the unlock: see above */
    if (likely(!chaos(m, 2) && sync_unlock_quick(mutex))) {
        int rc = lot_wait(&m, lot, how);
        if (unlikely(rc < 0))
            cond_withdraw(lot, x);
        rt_leave(m);
        return rc;
    }
    lot_join(m, lot, how);
    lot_unlock(lot);
    rt_leave(m);
    weft_mutex_unlock(mutex);
    return cond_park(how, x);
}

/* A coroutine that is cancelled has the mutex all the same. */
static int cond_lock_again(weft_mutex_t *mutex)
{
    if (likely(sync_lock_quick(mutex)))
        return 0;
    G *g = coro_self();
    if (g == NULL)
        return weft_mutex_lock(mutex);
    uint16_t was = known_defer(g);
    int rc = weft_mutex_lock(mutex);
    known_resume(g, was);
    return rc;
}

int weft_cond_wait_until(weft_cond_t *c, weft_mutex_t *mutex, int64_t deadline)
{
    Cond *x = cond_of(c);
    LotWait how = {.addr = x, .deadline = deadline, .why = WHY_COND};
    if (unlikely(x == NULL || mutex == NULL))
        return -EINVAL;
    M *m = rt_enter();
    if (m == NULL)
        return rt_no_m();
    window_refuse(m, x, "weft_cond_t");
    int rc = sync_may_wait(deadline);
    if (rc != 0) {
        rt_leave(m);
        return rc;
    }
    rc = cond_sleep(m, &how, x, mutex);
    if (unlikely(rc == -ECANCELED && coro_self() == NULL))
        return rc; /* the run has ended */
    return likely(cond_lock_again(mutex) == 0) ? rc : -ECANCELED;
}

int weft_cond_wait(weft_cond_t *c, weft_mutex_t *mutex)
{
    return weft_cond_wait_until(c, mutex, 0);
}

/* One goes next to the caller, who is about to let go of the mutex, or to wait, on the same processor: behind
 * the ring it would be stolen by an idle one at once, and wait for the mutex there. */
static void cond_ready(M *m, G *head)
{
    if (head != NULL && head->link == NULL)
        sched_ready(m, head);
    else
        sched_ready_list(m, head);
}

/* Wake at most n. */
static int cond_wake(weft_cond_t *c, uint32_t n)
{
    Cond *x = cond_of(c);
    if (unlikely(x == NULL))
        return -EINVAL;
    if (get_acq(&x->waiters) == 0)
        return 0;
    M *m = rt_enter();
    if (m == NULL)
        return rt_no_m();
    window_refuse(m, x, "weft_cond_t");
    GList ready = {NULL, NULL};
    uint32_t left = 0;
    Lot *lot = lot_lock(m, x);
    for (Wait *w; n > 0 && (w = lot_first(lot, x)) != NULL;) {
        bool granted = lot_grant(lot, w, &ready);
        n -= granted;
        left += granted;
    }
    set(&x->waiters, get(&x->waiters) - left);
    lot_unlock(lot);
    cond_ready(m, ready.head);
    rt_leave(m);
    return 0;
}

int weft_cond_signal(weft_cond_t *c)
{
    return cond_wake(c, 1);
}

int weft_cond_broadcast(weft_cond_t *c)
{
    return cond_wake(c, UINT32_MAX);
}

/* ---- once ---- */

int weft_once_do_until(weft_once_t *o, void (*fn)(void *), void *arg, int64_t deadline)
{
    Once *x = (Once *)(void *)o;
    if (unlikely(x == NULL))
        return -EINVAL;
    if (likely(get_acq(&x->done) != 0)) /* pairs with the store below: what fn did */
        return 0;
    if (fn == NULL)
        return -EINVAL;
    int rc = weft_mutex_lock_until(&x->running, deadline);
    if (rc != 0)
        return rc;
    if (get(&x->done) == 0) {
        fn(arg);
        set_rel(&x->done, 1);
    }
    return weft_mutex_unlock(&x->running);
}
