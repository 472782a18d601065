/* SPDX-License-Identifier: MIT
 *
 * mutex.c: the mutex, after Go's sync.Mutex.
 *
 * One word: LOCKED, WOKEN, STARVING, and the number of waiters that are
 * asleep or on their way there; behind it the word of a semaphore (sema.h).
 *   Normal mode: unlock lets go and wakes the first waiter, which competes with
 * newcomers; these are running already and mostly win, which is fast. A waiter
 * that loses queues in front. WOKEN: somebody is awake and trying, unlock need
 * not wake another one.
 *   Starving mode: once a waiter has waited for STARVE_NS it sets STARVING.
 * From then on unlock passes the mutex to the first waiter, LOCKED stays set,
 * newcomers queue at the end. A waiter that gets it so and is the last, or did
 * not wait that long, switches back to normal.
 *
 * A woken waiter sees from STARVING that the mutex is already its own. That is
 * right because only one waiter is awake at a time (WOKEN is set from its
 * waking to its swap, and prevents the next), and only a waiter that was woken
 * sets STARVING, in the swap with which it queues again. WOKEN and STARVING are
 * never set together.
 *
 * READY: lock and unlock may be one swap, READY to READY | LOCKED and back, and nothing else: so it is done in
 * programs, by constants that are fixed for good (weft/inline.h). {0} has to earn it: the first lock in a
 * run sets it, unless the run watches for deadlocks (cycles.c). Without it every lock and unlock comes to
 * the slow ways here, and is noted there. Waiters of a watched run take it away from mutexes of an earlier one.
 *
 * Unlock changes the word once and takes the waiter it is going to wake off the
 * count in the same swap; then it uses only the mutex's address, save for a
 * permit left for a waiter that is not in the queue yet, and that waiter cannot
 * leave without it. So the next owner may lock, unlock and free the mutex while
 * the previous unlock is still on its way out. (Go may look at the word again; a
 * collector keeps it alive.)
 *
 * A waiter that leaves, for its deadline, cancelled, or a foreign thread at the end of the run
 * (-ECANCELED both), takes itself off the count. If the count is 0, an unlock has done so for it:
 * its permit is coming and must be taken, or it would stay behind for a later waiter;
 * it is awake then like any that was woken. Nobody knows whose a unit of the count
 * is, or a permit, and nobody needs to: together there are as many as waiters. So it looks
 * for both in turn: the permit may go to a newcomer, whose unit is left then.
 *
 * Order: the swaps that lock are acquire and pair with those that unlock,
 * release; a hand-over is ordered by the lot's lock and the wake-up as well.
 *
 * On a copied stack none may lie, once others use it (sync.h).
 */
#include "sync.h"

#include "cycles.h"
#include "sema.h"

enum {
    LOCKED = WEFT_ABI_LOCKED,
    WOKEN = 2,
    STARVING = 4,
    READY = WEFT_ABI_MUTEX_READY,
    WAITER = 16
};
enum { SPINS = 4, PAUSES = 30 };
static const int64_t STARVE_NS = 1000000;

typedef struct {
    _Atomic uint32_t state;
    uint32_t sema;
} Mutex;
_Static_assert(sizeof(Mutex) <= sizeof(weft_mutex_t), "weft_mutex_t holds a Mutex");
_Static_assert(offsetof(Mutex, state) == offsetof(weft_mutex_t, opaque[0]),
               "ABI note in weft/inline.h");

static inline Mutex *mutex_of(weft_mutex_t *wm)
{
    return (Mutex *)(void *)wm;
}

static inline bool mutex_swap(Mutex *x, uint32_t *old, uint32_t new)
{
    return atomic_compare_exchange_strong_explicit(&x->state, old, new, memory_order_acq_rel,
                                                   memory_order_relaxed);
}

/* The word for who locks, or queues, with READY as it should be. */
static inline uint32_t mutex_mark(uint32_t old)
{
    if (likely(get(&sched.quick)))
        return old | READY;
    return cycles_on() ? old & ~(uint32_t)READY : old;
}

/* It is the caller's now, by a way that is not in line. */
static inline int mutex_locked(const Mutex *x)
{
    if (cycles_on())
        cycles_note(x, HOLDS_MUTEX);
    return 0;
}

/* Lock it if nobody has. */
static bool mutex_try(Mutex *x, uint32_t old)
{
    while (!(old & LOCKED))
        if (mutex_swap(x, &old, mutex_mark(old) | LOCKED))
            return mutex_locked(x) == 0;
    return false;
}

/* Unlock it if nobody is to be woken for that: old is the word, and afterwards what it was. */
static bool mutex_let_go(Mutex *x, uint32_t *old)
{
    while (*old & LOCKED && !(*old & STARVING) && (*old < WAITER || *old & WOKEN))
        if (mutex_swap(x, old, *old - LOCKED))
            return true;
    return false;
}

/* Spinning pays if the owner runs on another P and nobody waits for this one. */
static bool mutex_can_spin(M *m, int spins)
{
    return spins < SPINS && m->p != NULL && get(&sched.procs) - get(&sched.idle_p) > 1 &&
           runq_empty(m->p);
}

/* One round of spinning. Tells unlock that somebody is awake. */
static void mutex_spin(Mutex *x, uint32_t old, bool *awake)
{
    if (!*awake && !(old & WOKEN) && old >= WAITER && mutex_swap(x, &old, old | WOKEN))
        *awake = true;
    for (int i = 0; i < PAUSES; i++)
        arch_pause();
}

/* Our wait was ended. True: we are off the count; false: we were woken before. */
static bool mutex_withdraw(M *m, Mutex *x)
{
    for (;; sys_yield()) {
        uint32_t old = get(&x->state);
        while (old >= WAITER)
            if (mutex_swap(x, &old, old - WAITER))
                return true;
        if (sema_collect(m, &x->sema))
            return false;
    }
}

/* The mutex was handed to us. Starving mode ends with the last waiter, or with
 * one that did not wait long. */
static void mutex_take_over(Mutex *x, bool starved)
{
    uint32_t old = get(&x->state);
    while ((!starved || old < WAITER) && !mutex_swap(x, &old, old & ~(uint32_t)STARVING))
        ;
}

/* Sleep; we are on the count. 0: woken. */
static int mutex_sleep(M **m, Mutex *x, bool again, int64_t deadline)
{
    int rc = sema_acquire(m, &x->sema, again, WHY_MUTEX, deadline);
    if (unlikely(rc < 0) && !mutex_withdraw(*m, x))
        return 0;
    return rc;
}

static int mutex_lock_contended(M **m, Mutex *x, int64_t deadline)
{
    int64_t since = 0; /* when the first sleep began */
    bool starved = false, awake = false;
    int spins = 0;
    uint32_t old = get(&x->state);
    for (;;) {
        uint32_t new = mutex_mark(awake ? old & ~(uint32_t)WOKEN : old);
        if (!(old & LOCKED)) {
            if (mutex_swap(x, &old, new | LOCKED))
                return 0;
            continue;
        }
        if (!(old & STARVING) && mutex_can_spin(*m, spins)) {
            mutex_spin(x, old, &awake);
            spins++;
            old = get(&x->state);
            continue;
        }
        int rc = sync_may_wait(deadline);
        if (!mutex_swap(x, &old, rc != 0 ? new : (new + WAITER) | (starved ? STARVING : 0)))
            continue;
        if (rc != 0)
            return rc == -EPERM && since != 0 ? -ECANCELED : rc;
        bool again = since != 0;
        if (!again)
            since = sys_now();
        rc = mutex_sleep(m, x, again, deadline);
        if (rc < 0)
            return rc;
        starved = starved || sys_now() - since > STARVE_NS;
        old = get_acq(&x->state); /* pairs with the swap in unlock */
        if (old & STARVING) {
            mutex_take_over(x, starved);
            return 0;
        }
        awake = true;
        spins = 0;
    }
}

/* old: the word as it was a moment ago. */
static __attribute__((noinline)) int mutex_lock_slow(Mutex *x, uint32_t old, int64_t deadline)
{
    if (mutex_try(x, old))
        return 0;
    M *m = rt_enter();
    if (m == NULL)
        return rt_no_m();
    window_refuse(m, x, "weft_mutex_t");
    m = chaos_yield(m, 4);
    CycleWait *wait = cycles_wait(m, x, WHY_MUTEX, deadline);
    int rc = mutex_lock_contended(&m, x, deadline);
    cycles_waited(wait);
    rt_leave(m);
    return rc == 0 ? mutex_locked(x) : rc;
}

static __attribute__((noinline)) int mutex_unlock_slow(Mutex *x, uint32_t old)
{
    if (cycles_on())
        cycles_forget(x, HOLDS_MUTEX); /* now: afterwards it would be the next owner's */
    if (mutex_let_go(x, &old))
        return 0;
    M *m = rt_enter(); /* before the swap: after it there is no way back */
    if (m == NULL)
        return rt_no_m();
    window_refuse(m, x, "weft_mutex_t");
    uint32_t new;
    bool wake;
    do {
        if (!(old & LOCKED))
            fatal("sync: unlock of unlocked mutex");
        wake = old >= WAITER && !(old & WOKEN);
        if (!wake)
            new = old & ~(uint32_t)(LOCKED | STARVING);
        else if (old & STARVING)
            new = old - WAITER;
        else
            new = (old - WAITER - LOCKED) | WOKEN;
    } while (!mutex_swap(x, &old, new));
    if (wake)
        sema_release(&m, &x->sema, 1, old & STARVING);
    rt_leave(m);
    return 0;
}

int weft_mutex_lock_until(weft_mutex_t *wm, int64_t deadline)
{
    Mutex *x = mutex_of(wm);
    uint32_t old = READY;
    if (unlikely(x == NULL))
        return -EINVAL;
    if (likely(atomic_compare_exchange_strong_explicit(&x->state, &old, READY | LOCKED,
                                                       memory_order_acquire, /* pairs with unlock */
                                                       memory_order_relaxed)))
        return 0;
    return mutex_lock_slow(x, old, deadline);
}

/* ---- what weft_mutex_lock() and others, in weft.h, leave to do ---- */

int weft_slow_mutex_lock(weft_mutex_t *wm, uint32_t old)
{
    return mutex_lock_slow(mutex_of(wm), old, 0);
}

int weft_slow_mutex_trylock(weft_mutex_t *wm, uint32_t old)
{
    return mutex_try(mutex_of(wm), old) ? 0 : -EBUSY;
}

int weft_slow_mutex_unlock(weft_mutex_t *wm, uint32_t old)
{
    return mutex_unlock_slow(mutex_of(wm), old);
}
