/* SPDX-License-Identifier: MIT
 *
 * sync.c: mutex and wait group, after Go's sync.Mutex and sync.WaitGroup.
 *
 * Mutex. One word: LOCKED, WOKEN, STARVING, and the number of waiters that are
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
 * Unlock changes the word once and takes the waiter it is going to wake off the
 * count in the same swap; then it uses only the mutex's address, save for a
 * permit left for a waiter that is not in the queue yet, and that waiter cannot
 * leave without it. So the next owner may lock, unlock and free the mutex while
 * the previous unlock is still on its way out. (Go may look at the word again; a
 * collector keeps it alive.)
 *
 * A foreign thread whose wait ends with the run (-ECANCELED) takes itself off the
 * count. If the count is 0, an unlock has done so for it: its permit is coming
 * and must be taken, or it would stay behind for a later waiter.
 *
 * Order: the swaps that lock are acquire and pair with those that unlock,
 * release; a hand-over is ordered by the bucket's lock and the wake-up as well.
 *
 * Wait group. One 64-bit word, the counter above the number of waiters, and a
 * semaphore. The add that brings the counter to zero with waiters there clears the
 * word and gives all permits at once, for the same reason: after that the
 * group may be gone, with its last waiter's stack. Without waiters the add itself
 * is the last access. add is acquire and release: wait's acquire load of zero pairs
 * with every done before it.
 *
 * On a copied stack neither may lie, once others use it: they would find whatever
 * lies there while its coroutine is parked. That is said in the slow calls, those
 * that have somebody wait, or wake, or find the words wrong; a fast call stays one
 * atomic operation.
 */
#include "sema.h"

enum { LOCKED = 1, WOKEN = 2, STARVING = 4, WAITER = 8 };
enum { SPINS = 4, PAUSES = 30 };
static const int64_t STARVE_NS = 1000000;

typedef struct {
    _Atomic uint32_t state;
    uint32_t sema;
} Mutex;
_Static_assert(sizeof(Mutex) <= sizeof(weft_mutex_t), "weft_mutex_t holds a Mutex");

typedef struct {
    _Atomic uint64_t state; /* counter << 32 | waiters */
    uint32_t sema;
} WaitGroup;
_Static_assert(sizeof(WaitGroup) <= sizeof(weft_wg_t), "weft_wg_t holds a WaitGroup");

static int sync_no_m(void)
{
    return get(&sched.forked) ? -ENOSYS : -ENOMEM;
}

/* ---- mutex ---- */

static inline Mutex *mutex_of(weft_mutex_t *wm)
{
    return (Mutex *)(void *)wm;
}

static inline bool mutex_swap(Mutex *x, uint32_t *old, uint32_t new)
{
    return atomic_compare_exchange_strong_explicit(&x->state, old, new, memory_order_acq_rel,
                                                   memory_order_relaxed);
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

/* Our wait was cancelled. True: we are off the count; false: we were woken before. */
static bool mutex_withdraw(M *m, Mutex *x)
{
    uint32_t old = get(&x->state);
    while (old >= WAITER)
        if (mutex_swap(x, &old, old - WAITER))
            return true;
    sema_collect(m, &x->sema);
    return false;
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
static int mutex_sleep(M **m, Mutex *x, bool again)
{
    int rc = sema_acquire(m, &x->sema, again, WHY_MUTEX);
    if (unlikely(rc < 0) && !mutex_withdraw(*m, x))
        return 0;
    return rc;
}

static int mutex_lock_contended(M **m, Mutex *x)
{
    int64_t since = 0; /* when the first sleep began */
    bool starved = false, awake = false;
    int spins = 0;
    uint32_t old = get(&x->state);
    for (;;) {
        uint32_t new = awake ? old & ~(uint32_t)WOKEN : old;
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
        bool give_up = !get_acq(&sched.active);
        if (!mutex_swap(x, &old, give_up ? new : (new + WAITER) | (starved ? STARVING : 0)))
            continue;
        if (give_up)
            return since == 0 ? -EPERM : -ECANCELED;
        bool again = since != 0;
        if (!again)
            since = sys_now();
        int rc = mutex_sleep(m, x, again);
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

static __attribute__((noinline)) int mutex_lock_slow(Mutex *x)
{
    M *m = rt_enter();
    if (m == NULL)
        return sync_no_m();
    window_refuse(m, x, "weft_mutex_t");
    if (chaos(m, 4) && m->p != NULL)
        m = sched_yield_to_others(m);
    int rc = mutex_lock_contended(&m, x);
    rt_leave(m);
    return rc;
}

static __attribute__((noinline)) int mutex_unlock_slow(Mutex *x, uint32_t old)
{
    M *m = rt_enter(); /* before the swap: after it there is no way back */
    if (m == NULL)
        return sync_no_m();
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

int weft_mutex_lock(weft_mutex_t *wm)
{
    Mutex *x = mutex_of(wm);
    uint32_t old = 0;
    if (likely(atomic_compare_exchange_strong_explicit(&x->state, &old, LOCKED,
                                                       memory_order_acquire, /* pairs with unlock */
                                                       memory_order_relaxed)))
        return 0;
    return mutex_lock_slow(x);
}

int weft_mutex_trylock(weft_mutex_t *wm)
{
    Mutex *x = mutex_of(wm);
    uint32_t old = get(&x->state);
    while (!(old & LOCKED))
        if (mutex_swap(x, &old, old | LOCKED))
            return 0;
    return -EBUSY;
}

int weft_mutex_unlock(weft_mutex_t *wm)
{
    Mutex *x = mutex_of(wm);
    uint32_t old = LOCKED;
    if (likely(atomic_compare_exchange_strong_explicit(&x->state, &old, 0,
                                                       memory_order_release, /* pairs with lock */
                                                       memory_order_relaxed)))
        return 0;
    return mutex_unlock_slow(x, old);
}

/* ---- wait group ---- */

static inline WaitGroup *wg_of(weft_wg_t *wg)
{
    return (WaitGroup *)(void *)wg;
}

static inline int32_t wg_counter(uint64_t state)
{
    return (int32_t)(uint32_t)(state >> 32);
}

/* The words say what they cannot. */
static _Noreturn void wg_misused(const WaitGroup *g, const char *how)
{
    window_refuse(arch_self(), g, "weft_wg_t");
    fatal("sync: %s", how);
}

/* The counter has come to zero and waiters sleep: nobody else may change it now. */
static int wg_wake(WaitGroup *g, uint64_t state)
{
    M *m = rt_enter();
    if (m == NULL) /* a weft thread never gets here; a foreign one is attached by add */
        return sync_no_m();
    window_refuse(m, g, "weft_wg_t");
    if (!atomic_compare_exchange_strong_explicit(&g->state, &state, 0, memory_order_relaxed,
                                                 memory_order_relaxed)) /* add has ordered it */
        fatal("sync: WaitGroup misuse: Add called concurrently with Wait");
    sema_release(&m, &g->sema, (uint32_t)state, false);
    rt_leave(m);
    return 0;
}

int weft_wg_add(weft_wg_t *wg, int n)
{
    WaitGroup *g = wg_of(wg);
    if (unlikely(arch_self() == NULL)) {
        M *m = rt_enter(); /* a foreign thread's first call: may fail only now */
        if (m == NULL)
            return sync_no_m();
        rt_leave(m);
    }
    uint64_t add = (uint64_t)(uint32_t)n << 32;
    uint64_t state = atomic_fetch_add_explicit(&g->state, add, memory_order_acq_rel) + add;
    int32_t counter = wg_counter(state);
    uint32_t waiters = (uint32_t)state;
    if (unlikely(counter < 0))
        wg_misused(g, "negative WaitGroup counter");
    if (unlikely(waiters != 0 && n > 0 && counter == n))
        wg_misused(g, "WaitGroup misuse: Add called concurrently with Wait");
    if (counter > 0 || waiters == 0)
        return 0;
    return wg_wake(g, state);
}

int weft_wg_done(weft_wg_t *wg)
{
    return weft_wg_add(wg, -1);
}

/* Our wait was cancelled. True: we are off the count; false: it is over. */
static bool wg_withdraw(M *m, WaitGroup *g)
{
    uint64_t state = get(&g->state);
    while ((uint32_t)state > 0)
        if (atomic_compare_exchange_strong(&g->state, &state, state - 1))
            return true;
    sema_collect(m, &g->sema);
    return false;
}

static int wg_sleep(M **m, WaitGroup *g)
{
    int rc = sema_acquire(m, &g->sema, false, WHY_WG);
    if (unlikely(rc < 0) && wg_withdraw(*m, g))
        return rc;
    if (unlikely(get(&g->state) != 0))
        fatal("sync: WaitGroup is reused before previous Wait has returned");
    return 0;
}

int weft_wg_wait(weft_wg_t *wg)
{
    WaitGroup *g = wg_of(wg);
    uint64_t state = get_acq(&g->state); /* pairs with add */
    if (wg_counter(state) == 0)
        return 0;
    M *m = rt_enter();
    if (m == NULL)
        return sync_no_m();
    window_refuse(m, g, "weft_wg_t");
    int rc = 0;
    do {
        if (wg_counter(state) == 0)
            goto out;
        if (!get_acq(&sched.active)) {
            rc = -EPERM;
            goto out;
        }
    } while (!atomic_compare_exchange_strong_explicit(&g->state, &state, state + 1,
                                                      memory_order_acquire, /* pairs with add */
                                                      memory_order_acquire));
    rc = wg_sleep(&m, g);
out:
    rt_leave(m);
    return rc;
}

int weft_wg_go(weft_wg_t *wg, void (*fn)(void *), void *arg)
{
    G *g;
    if (fn == NULL)
        return -EINVAL;
    M *m = rt_enter();
    if (m == NULL)
        return sync_no_m();
    window_refuse(m, wg, "weft_wg_t");
    int rc = -EPERM;
    if (get_acq(&sched.active) &&
        (rc = coro_spawn(m, NULL, fn, arg, __builtin_return_address(0), &g)) == 0) {
        weft_wg_add(wg, 1);
        g->wg = wg;
        sched_ready(m, g);
    }
    rt_leave(m);
    return rc;
}
