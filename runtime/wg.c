/* SPDX-License-Identifier: MIT
 *
 * wg.c: the wait group, after Go's sync.WaitGroup.
 *
 * One 64-bit word, the counter above the number of waiters, and a
 * semaphore. The add that brings the counter to zero with waiters there clears the
 * word and gives all permits at once: after that the
 * group may be gone, with its last waiter's stack. Without waiters the add itself
 * is the last access. add is acquire and release: wait's acquire load of zero pairs
 * with every done before it.
 *
 * A waiter that leaves takes itself off the number, but not once the counter is zero: who has
 * brought it there is about to clear the word it has seen, and would take another for misuse.
 * Then a permit is coming, the waiter takes it, and the wait is over, whatever its deadline.
 */
#include "sync.h"

#include "sema.h"

typedef struct {
    _Atomic uint64_t state; /* counter << 32 | waiters */
    uint32_t sema;
} WaitGroup;
_Static_assert(sizeof(WaitGroup) <= sizeof(weft_wg_t), "weft_wg_t holds a WaitGroup");
_Static_assert(offsetof(WaitGroup, state) == offsetof(weft_wg_t, opaque[0]),
               "ABI note in weft/inline.h");

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
    (void)sync_attach(); /* a foreign thread's first call: it is to be seen in the dump */
    window_refuse(arch_self(), g, "weft_wg_t");
    fatal("sync: %s", how);
}

/* The counter has come to zero and waiters sleep: nobody else may change it now. Without an M, in a foreign
 * thread's first call, the add of n is taken back: they wait on. (Who comes for the first time meanwhile
 * may return: what it waits for was done.) */
static int wg_wake(WaitGroup *g, int n, uint64_t state)
{
    M *m = rt_enter();
    if (unlikely(m == NULL)) {
        atomic_fetch_sub_explicit(&g->state, (uint64_t)(uint32_t)n << 32, memory_order_relaxed);
        return rt_no_m();
    }
    window_refuse(m, g, "weft_wg_t");
    sync_dawdle(m);
    if (!atomic_compare_exchange_strong_explicit(&g->state, &state, 0, memory_order_relaxed,
                                                 memory_order_relaxed)) /* add has ordered it */
        fatal("sync: WaitGroup misuse: Add called concurrently with Wait");
    sema_release(&m, &g->sema, (uint32_t)state, false);
    rt_leave(m);
    return 0;
}

/* The add itself is weft_wg_add(), weft.h. */
int weft_slow_wg_add(weft_wg_t *wg, int n, uint64_t state)
{
    WaitGroup *g = wg_of(wg);
    int32_t counter = wg_counter(state);
    uint32_t waiters = (uint32_t)state;
    if (unlikely(counter < 0))
        wg_misused(g, "negative WaitGroup counter");
    if (unlikely(waiters != 0 && n > 0 && counter == n))
        wg_misused(g, "WaitGroup misuse: Add called concurrently with Wait");
    if (counter > 0 || waiters == 0)
        return 0;
    return wg_wake(g, n, state);
}

/* Our wait was ended. True: we are off the count; false: it is over. The counter may be zero, and no permit there
 * yet: who has brought it there may have been stopped in between, on our processor, or will take it back
 * (wg_wake()). So it gets its turn. */
static bool wg_withdraw(M **m, WaitGroup *g)
{
    while (!sema_collect(*m, &g->sema)) {
        uint64_t state = get(&g->state);
        while ((uint32_t)state > 0 && wg_counter(state) != 0)
            if (atomic_compare_exchange_strong(&g->state, &state, state - 1))
                return true;
        if ((*m)->p != NULL)
            *m = sched_yield_to_others(*m);
        else
            sys_yield();
    }
    return false;
}

static int wg_sleep(M **m, WaitGroup *g, int64_t deadline)
{
    int rc = sema_acquire(m, &g->sema, false, WHY_WG, deadline);
    if (unlikely(rc < 0) && wg_withdraw(m, g))
        return rc;
    if (unlikely(get(&g->state) != 0))
        fatal("sync: WaitGroup is reused before previous Wait has returned");
    return 0;
}

int weft_wg_wait_until(weft_wg_t *wg, int64_t deadline)
{
    WaitGroup *g = wg_of(wg);
    if (unlikely(g == NULL))
        return -EINVAL;
    uint64_t state = get_acq(&g->state); /* pairs with add */
    if (wg_counter(state) == 0)
        return 0;
    M *m = rt_enter();
    if (m == NULL)
        return rt_no_m();
    window_refuse(m, g, "weft_wg_t");
    int rc = 0;
    do {
        if (wg_counter(state) == 0)
            goto out;
        if ((rc = sync_may_wait(deadline)) != 0)
            goto out;
    } while (!atomic_compare_exchange_strong_explicit(&g->state, &state, state + 1,
                                                      memory_order_acquire, /* pairs with add */
                                                      memory_order_acquire));
    rc = wg_sleep(&m, g, deadline);
out:
    rt_leave(m);
    return rc;
}

int weft_wg_go(weft_wg_t *wg, void (*fn)(void *), void *arg)
{
    G *g;
    if (wg == NULL || fn == NULL)
        return -EINVAL;
    M *m = rt_enter();
    if (m == NULL)
        return rt_no_m();
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
