/* SPDX-License-Identifier: MIT
 *
 * sync.h: what the files of the sync family share.
 *
 * None of their objects may lie on a copied stack once others use it: they would find whatever lies
 * there while its coroutine is parked. That is said (window_refuse()) in the slow calls, those that
 * have somebody wait, or wake, or find the words wrong; a fast call stays one atomic operation.
 *
 * An operation that can be done at once is done, whatever its deadline: so the deadline is looked at
 * last, before the caller queues. */
#ifndef WEFT_SYNC_H
#define WEFT_SYNC_H

#include "rt.h"

/* Before the first change of a call that later may need an M and could not go back: 0, or no memory for a foreign
 * thread's. In a forked child, where nobody else is, it goes on. */
static inline int sync_attach(void)
{
    if (likely(arch_self() != NULL) || get(&sched.forked))
        return 0;
    M *m = rt_enter();
    if (m == NULL)
        return rt_no_m();
    rt_leave(m);
    return 0;
}

/* 0: the caller may park; else what it returns. */
static inline int sync_may_wait(int64_t deadline)
{
    if (unlikely(!get_acq(&sched.active)))
        return -EPERM;
    return deadline != 0 && deadline <= sys_now() ? -ETIMEDOUT : 0;
}

/* A mutex that nobody waits for, as in line (weft.h, "fast paths"). In a run that watches for deadlocks none is
 * READY: all come to the functions. */
static inline bool sync_lock_quick(weft_mutex_t *m)
{
    uint32_t old = WEFT_ABI_MUTEX_READY;
    return __atomic_compare_exchange_n(&m->opaque[0], &old, old | WEFT_ABI_LOCKED, false,
                                       __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}
static inline bool sync_unlock_quick(weft_mutex_t *m)
{
    uint32_t old = WEFT_ABI_MUTEX_READY | WEFT_ABI_LOCKED;
    return __atomic_compare_exchange_n(&m->opaque[0], &old, WEFT_ABI_MUTEX_READY, false,
                                       __ATOMIC_RELEASE, __ATOMIC_RELAXED);
}

/* Chaos: long enough for others to see what is between two steps, where the caller cannot park. */
static inline void sync_dawdle(M *m)
{
    if (chaos(m, 2))
        for (int i = 0; i < 200; i++)
            arch_pause();
}

#endif
