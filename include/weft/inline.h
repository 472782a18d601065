/* SPDX-License-Identifier: MIT
 *
 * weft/inline.h: the fast paths of mutexes, once, semaphores and wait groups. Part of weft.h, which includes it
 * where their types are known; it is not for others.
 *
 * Where nobody is in the way, the functions below are an atomic operation on one word of the object,
 * compiled into the program by GCC and compilers like it when they optimise. Otherwise, and for
 * who takes its address, a function is the exported one of the same name, which is compiled
 * from the same text. Define WEFT_NO_INLINE to have these only: as tools may need that stand between a
 * program and libweft.
 *
 * ABI note. What is compiled into programs stays there, so this is fixed for good, for every
 * libweft.so.0: the sizes of the objects; zero as their first state; and
 *   weft_mutex_t    opaque[0]: READY is free, READY | LOCKED locked, nobody waits, and one may be swapped for the
 *                   other; with whatever else is set or not, LOCKED says that it is taken. Zero
 *                   is free as well: its first lock makes it READY.
 *   weft_rwmutex_t  opaque[2]: with READY, and without WRITER, readers enter and leave by adding or
 *                   taking off READER, which is above both.
 *   weft_once_t     opaque[2]: not 0 when fn has returned.
 *   weft_sem_t      opaque[0]: WEFT_ABI_UNIT times the units that are free; with WEFT_ABI_QUEUED
 *                   set none are taken or given by a change of this word alone.
 *   weft_wg_t       opaque[0]: the counter in the upper half, waiters in the lower one.
 * Entering is an acquire operation, leaving a release, those of a weft_wg_t both; none need be stronger.
 * All else of an object, and the bits not named, may change with any version, as only the library
 * looks at it. Bindings for other languages use the exported functions. */
#ifndef WEFT_INLINE_H
#define WEFT_INLINE_H

enum {
    WEFT_ABI_LOCKED = 1, /* weft_mutex_t */
    WEFT_ABI_MUTEX_READY = 8,
    WEFT_ABI_WRITER = 1, /* weft_rwmutex_t */
    WEFT_ABI_RWMUTEX_READY = 4,
    WEFT_ABI_READER = 8,
    WEFT_ABI_QUEUED = 1, /* weft_sem_t */
    WEFT_ABI_UNIT = 2
};

/* What is left to do when the word did not allow it, for the functions below and nobody else. old is the
 * word that was found, state what it is after the counter was moved by n. */
WEFT_API int weft_slow_mutex_lock(weft_mutex_t *m, uint32_t old);
WEFT_API int weft_slow_mutex_trylock(weft_mutex_t *m, uint32_t old);
WEFT_API int weft_slow_mutex_unlock(weft_mutex_t *m, uint32_t old);
WEFT_API int weft_slow_rwmutex_runlock(weft_rwmutex_t *rw);
WEFT_API int weft_slow_sem_release(weft_sem_t *s, int64_t n);
WEFT_API int weft_slow_wg_add(weft_wg_t *wg, int n, uint64_t state);

#if defined(__GNUC__) && !defined(WEFT_NO_INLINE)
#ifndef WEFT_INLINE /* nothing: this is runtime/fast.c, which makes the exported functions */
#define WEFT_INLINE extern __inline__ __attribute__((__gnu_inline__))
#endif
#define WEFT_LIKELY(x) __builtin_expect(!!(x), 1)
#ifdef __cplusplus
#define WEFT_CAST(type, x) static_cast<type>(x)
#else
#define WEFT_CAST(type, x) ((type)(x))
#endif

WEFT_INLINE int weft_mutex_lock(weft_mutex_t *m)
{
    uint32_t old = WEFT_ABI_MUTEX_READY;
    if (!m)
        return -EINVAL;
    if (WEFT_LIKELY(__atomic_compare_exchange_n(&m->opaque[0], &old, old | WEFT_ABI_LOCKED, 0,
                                                __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)))
        return 0;
    return weft_slow_mutex_lock(m, old);
}

WEFT_INLINE int weft_mutex_trylock(weft_mutex_t *m)
{
    uint32_t old;
    if (!m)
        return -EINVAL;
    old = __atomic_load_n(&m->opaque[0], __ATOMIC_RELAXED);
    if (old & WEFT_ABI_LOCKED)
        return -EBUSY;
    if (WEFT_LIKELY(old == WEFT_ABI_MUTEX_READY) &&
        __atomic_compare_exchange_n(&m->opaque[0], &old, old | WEFT_ABI_LOCKED, 0, __ATOMIC_ACQUIRE,
                                    __ATOMIC_RELAXED))
        return 0;
    return weft_slow_mutex_trylock(m, old);
}

WEFT_INLINE int weft_mutex_unlock(weft_mutex_t *m)
{
    uint32_t old = WEFT_ABI_MUTEX_READY | WEFT_ABI_LOCKED;
    if (!m)
        return -EINVAL;
    if (WEFT_LIKELY(__atomic_compare_exchange_n(&m->opaque[0], &old, WEFT_ABI_MUTEX_READY, 0,
                                                __ATOMIC_RELEASE, __ATOMIC_RELAXED)))
        return 0;
    return weft_slow_mutex_unlock(m, old);
}

/* As above, a guess: a load before the swap would cost as much as the guess saves. Here it is that nobody
 * else reads. */
WEFT_INLINE int weft_rwmutex_rlock(weft_rwmutex_t *rw)
{
    uint32_t old = WEFT_ABI_RWMUTEX_READY;
    if (!rw)
        return -EINVAL;
    do
        if (WEFT_LIKELY(__atomic_compare_exchange_n(&rw->opaque[2], &old, old + WEFT_ABI_READER, 1,
                                                    __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)))
            return 0;
    while ((old & (WEFT_ABI_WRITER | WEFT_ABI_RWMUTEX_READY)) == WEFT_ABI_RWMUTEX_READY &&
           old < UINT32_MAX - WEFT_ABI_READER);
    return weft_rwmutex_rlock_until(rw, 0);
}

WEFT_INLINE int weft_rwmutex_runlock(weft_rwmutex_t *rw)
{
    uint32_t old = WEFT_ABI_RWMUTEX_READY + WEFT_ABI_READER;
    if (!rw)
        return -EINVAL;
    do
        if (WEFT_LIKELY(__atomic_compare_exchange_n(&rw->opaque[2], &old, old - WEFT_ABI_READER, 1,
                                                    __ATOMIC_RELEASE, __ATOMIC_RELAXED)))
            return 0;
    while ((old & (WEFT_ABI_WRITER | WEFT_ABI_RWMUTEX_READY)) == WEFT_ABI_RWMUTEX_READY &&
           old >= WEFT_ABI_READER);
    return weft_slow_rwmutex_runlock(rw);
}

WEFT_INLINE int weft_once_do(weft_once_t *o, void (*fn)(void *), void *arg)
{
    if (!o)
        return -EINVAL;
    if (WEFT_LIKELY(__atomic_load_n(&o->opaque[2], __ATOMIC_ACQUIRE) != 0))
        return 0;
    return weft_once_do_until(o, fn, arg, 0);
}

WEFT_INLINE int weft_sem_try_acquire(weft_sem_t *s, int64_t n)
{
    uint64_t old, units = WEFT_CAST(uint64_t, n);
    if (!s || n < 0)
        return -EINVAL;
    old = __atomic_load_n(&s->opaque[0], __ATOMIC_RELAXED);
    while (!(old & WEFT_ABI_QUEUED) && old / WEFT_ABI_UNIT >= units)
        if (WEFT_LIKELY(__atomic_compare_exchange_n(&s->opaque[0], &old,
                                                    old - units * WEFT_ABI_UNIT, 1,
                                                    __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)))
            return 0;
    return -EBUSY;
}

WEFT_INLINE int weft_sem_acquire(weft_sem_t *s, int64_t n)
{
    int rc = weft_sem_try_acquire(s, n);
    return WEFT_LIKELY(rc != -EBUSY) ? rc : weft_sem_acquire_until(s, n, 0);
}

WEFT_INLINE int weft_sem_release(weft_sem_t *s, int64_t n)
{
    uint64_t old, units = WEFT_CAST(uint64_t, n);
    if (!s || n < 0)
        return -EINVAL;
    old = __atomic_load_n(&s->opaque[0], __ATOMIC_RELAXED);
    while (!(old & WEFT_ABI_QUEUED) && old / WEFT_ABI_UNIT + units <= INT64_MAX)
        if (WEFT_LIKELY(__atomic_compare_exchange_n(&s->opaque[0], &old,
                                                    old + units * WEFT_ABI_UNIT, 1,
                                                    __ATOMIC_RELEASE, __ATOMIC_RELAXED)))
            return 0;
    return weft_slow_sem_release(s, n);
}

/* Nothing else is to be done while nobody waits, nor when the counter sinks but not to zero. */
WEFT_INLINE int weft_wg_add(weft_wg_t *wg, int n)
{
    uint64_t state;
    if (!wg)
        return -EINVAL;
    state = __atomic_add_fetch(&wg->opaque[0], WEFT_CAST(uint64_t, n) << 32, __ATOMIC_ACQ_REL);
    if (WEFT_LIKELY(state <= INT64_MAX &&
                    ((state & UINT32_MAX) == 0 || (n < 0 && state > UINT32_MAX))))
        return 0;
    return weft_slow_wg_add(wg, n, state);
}

WEFT_INLINE int weft_wg_done(weft_wg_t *wg)
{
    return weft_wg_add(wg, -1);
}

WEFT_INLINE int weft_wg_wait(weft_wg_t *wg)
{
    if (!wg)
        return -EINVAL;
    if (WEFT_LIKELY(__atomic_load_n(&wg->opaque[0], __ATOMIC_ACQUIRE) >> 32 == 0))
        return 0;
    return weft_wg_wait_until(wg, 0);
}

#undef WEFT_INLINE
#undef WEFT_LIKELY
#undef WEFT_CAST
#endif

#endif
