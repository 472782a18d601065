/* SPDX-License-Identifier: MIT
 *
 * fast_paths.h: the functions that weft.h defines inline against the exported ones of the same names: each alone,
 * and mixed at one object, where every second call is of the other kind. For C and C++, at any
 * optimisation: check_fast.c, fast_program.c. Who includes it has defined OK(condition).
 */
#ifndef FAST_PATHS_H
#define FAST_PATHS_H

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include <weft.h>

enum { INLINE, EXPORTED, KINDS, TURNS = 3000, WORKERS = 6, UNITS = 3 };

/* Compilers cannot know what these hold: the exported functions. */
static int (*volatile x_lock)(weft_mutex_t *) = weft_mutex_lock;
static int (*volatile x_trylock)(weft_mutex_t *) = weft_mutex_trylock;
static int (*volatile x_unlock)(weft_mutex_t *) = weft_mutex_unlock;
static int (*volatile x_rlock)(weft_rwmutex_t *) = weft_rwmutex_rlock;
static int (*volatile x_runlock)(weft_rwmutex_t *) = weft_rwmutex_runlock;
static int (*volatile x_once)(weft_once_t *, void (*)(void *), void *) = weft_once_do;
static int (*volatile x_acquire)(weft_sem_t *, int64_t) = weft_sem_acquire;
static int (*volatile x_try_acquire)(weft_sem_t *, int64_t) = weft_sem_try_acquire;
static int (*volatile x_release)(weft_sem_t *, int64_t) = weft_sem_release;
static int (*volatile x_add)(weft_wg_t *, int) = weft_wg_add;
static int (*volatile x_done)(weft_wg_t *) = weft_wg_done;
static int (*volatile x_wait)(weft_wg_t *) = weft_wg_wait;

#define CALL_1(kind, x, f, a) ((kind) == INLINE ? f(a) : x(a))
#define CALL_2(kind, x, f, a, b) ((kind) == INLINE ? f(a, b) : x(a, b))
#define CALL_3(kind, x, f, a, b, c) ((kind) == INLINE ? f(a, b, c) : x(a, b, c))

static struct {
    weft_mutex_t mx;
    weft_rwmutex_t rw;
    weft_once_t once;
    weft_sem_t sem;
    weft_wg_t wg;
    int under_mx, under_rw, calls, in_use;
} fast;

static void fast_count_call(void *arg)
{
    (void)arg;
    fast.calls++;
}

static void fast_reset(void)
{
    memset(&fast, 0, sizeof fast);
}

/* ---- one coroutine: every answer ---- */

static void fast_table(int k)
{
    fast_reset();
    OK(CALL_1(k, x_trylock, weft_mutex_trylock, &fast.mx) == 0);
    OK(CALL_1(k, x_trylock, weft_mutex_trylock, &fast.mx) == -EBUSY);
    OK(CALL_1(k, x_unlock, weft_mutex_unlock, &fast.mx) == 0);
    OK(CALL_1(k, x_lock, weft_mutex_lock, &fast.mx) == 0);
    OK(weft_mutex_lock_until(&fast.mx, 1) == -ETIMEDOUT);
    OK(CALL_1(k, x_unlock, weft_mutex_unlock, &fast.mx) == 0);

    OK(CALL_1(k, x_rlock, weft_rwmutex_rlock, &fast.rw) == 0);
    OK(CALL_1(k, x_rlock, weft_rwmutex_rlock, &fast.rw) == 0);
    OK(CALL_1(k, x_runlock, weft_rwmutex_runlock, &fast.rw) == 0);
    OK(weft_rwmutex_trylock(&fast.rw) == -EBUSY);
    OK(CALL_1(k, x_runlock, weft_rwmutex_runlock, &fast.rw) == 0);
    OK(weft_rwmutex_trylock(&fast.rw) == 0);
    OK(weft_rwmutex_tryrlock(&fast.rw) == -EBUSY);
    OK(weft_rwmutex_unlock(&fast.rw) == 0);

    for (int i = 0; i < 3; i++)
        OK(CALL_3(k, x_once, weft_once_do, &fast.once, fast_count_call, NULL) == 0);
    OK(fast.calls == 1);
    OK(CALL_3(k, x_once, weft_once_do, &fast.once, NULL, NULL) == 0); /* not needed any more */

    OK(CALL_2(k, x_try_acquire, weft_sem_try_acquire, &fast.sem, 0) == 0);
    OK(CALL_2(k, x_try_acquire, weft_sem_try_acquire, &fast.sem, 1) == -EBUSY);
    OK(CALL_2(k, x_release, weft_sem_release, &fast.sem, 5) == 0);
    OK(CALL_2(k, x_acquire, weft_sem_acquire, &fast.sem, 3) == 0);
    OK(CALL_2(k, x_try_acquire, weft_sem_try_acquire, &fast.sem, 3) == -EBUSY);
    OK(CALL_2(k, x_acquire, weft_sem_acquire, &fast.sem, 2) == 0);
    OK(CALL_2(k, x_release, weft_sem_release, &fast.sem, INT64_MAX) == 0);
    OK(CALL_2(k, x_release, weft_sem_release, &fast.sem, 1) == -EOVERFLOW);
    OK(CALL_2(k, x_acquire, weft_sem_acquire, &fast.sem, INT64_MAX) == 0);

    OK(CALL_1(k, x_wait, weft_wg_wait, &fast.wg) == 0);
    OK(CALL_2(k, x_add, weft_wg_add, &fast.wg, INT32_MAX) == 0);
    OK(CALL_2(k, x_add, weft_wg_add, &fast.wg, -INT32_MAX + 2) == 0);
    OK(weft_wg_wait_until(&fast.wg, 1) == -ETIMEDOUT);
    OK(CALL_1(k, x_done, weft_wg_done, &fast.wg) == 0);
    OK(CALL_1(k, x_done, weft_wg_done, &fast.wg) == 0);
    OK(CALL_1(k, x_wait, weft_wg_wait, &fast.wg) == 0);
}

static void fast_null(int k)
{
    OK(CALL_1(k, x_lock, weft_mutex_lock, NULL) == -EINVAL);
    OK(CALL_1(k, x_trylock, weft_mutex_trylock, NULL) == -EINVAL);
    OK(CALL_1(k, x_unlock, weft_mutex_unlock, NULL) == -EINVAL);
    OK(CALL_1(k, x_rlock, weft_rwmutex_rlock, NULL) == -EINVAL);
    OK(CALL_1(k, x_runlock, weft_rwmutex_runlock, NULL) == -EINVAL);
    OK(CALL_3(k, x_once, weft_once_do, NULL, fast_count_call, NULL) == -EINVAL);
    OK(CALL_2(k, x_acquire, weft_sem_acquire, NULL, 1) == -EINVAL);
    OK(CALL_2(k, x_try_acquire, weft_sem_try_acquire, NULL, 1) == -EINVAL);
    OK(CALL_2(k, x_release, weft_sem_release, NULL, 1) == -EINVAL);
    OK(CALL_2(k, x_add, weft_wg_add, NULL, 1) == -EINVAL);
    OK(CALL_1(k, x_done, weft_wg_done, NULL) == -EINVAL);
    OK(CALL_1(k, x_wait, weft_wg_wait, NULL) == -EINVAL);
    OK(CALL_2(k, x_acquire, weft_sem_acquire, &fast.sem, -1) == -EINVAL);
    OK(CALL_2(k, x_try_acquire, weft_sem_try_acquire, &fast.sem, INT64_MIN) == -EINVAL);
    OK(CALL_2(k, x_release, weft_sem_release, &fast.sem, -1) == -EINVAL);
}

/* ---- many: both kinds at one object ---- */

static void fast_turn(int i)
{
    int a = i & 1, b = i >> 1 & 1;
    OK(CALL_1(a, x_lock, weft_mutex_lock, &fast.mx) == 0);
    fast.under_mx++;
    if (i % 61 == 0)
        weft_yield();
    OK(CALL_1(b, x_unlock, weft_mutex_unlock, &fast.mx) == 0);
    if (i % 127 == 0 && CALL_1(b, x_trylock, weft_mutex_trylock, &fast.mx) == 0)
        OK(CALL_1(a, x_unlock, weft_mutex_unlock, &fast.mx) == 0);

    if (i % 31 == 0) {
        OK(weft_rwmutex_lock(&fast.rw) == 0);
        fast.under_rw++;
        OK(weft_rwmutex_unlock(&fast.rw) == 0);
    }
    OK(CALL_1(a, x_rlock, weft_rwmutex_rlock, &fast.rw) == 0);
    int seen = fast.under_rw;
    if (i % 67 == 0)
        weft_yield();
    OK(fast.under_rw == seen);
    OK(CALL_1(b, x_runlock, weft_rwmutex_runlock, &fast.rw) == 0);

    int64_t n = 1 + i % UNITS;
    OK(CALL_2(a, x_acquire, weft_sem_acquire, &fast.sem, n) == 0);
    OK(__atomic_add_fetch(&fast.in_use, (int)n, __ATOMIC_RELAXED) <= UNITS);
    if (i % 71 == 0)
        weft_yield();
    __atomic_sub_fetch(&fast.in_use, (int)n, __ATOMIC_RELAXED);
    OK(CALL_2(b, x_release, weft_sem_release, &fast.sem, n) == 0);
    OK(CALL_3(b, x_once, weft_once_do, &fast.once, fast_count_call, NULL) == 0);
}

static void fast_worker(void *arg)
{
    int kind = *(int *)arg;
    for (int i = 0; i < TURNS; i++)
        fast_turn(i);
    OK(CALL_1(kind, x_done, weft_wg_done, &fast.wg) == 0);
}

static void fast_mixed(void)
{
    static int kinds[KINDS] = {INLINE, EXPORTED};
    fast_reset();
    OK(weft_sem_init(&fast.sem, UNITS) == 0);
    OK(CALL_2(EXPORTED, x_add, weft_wg_add, &fast.wg, WORKERS - 1) == 0);
    OK(CALL_2(INLINE, x_add, weft_wg_add, &fast.wg, 1) == 0);
    for (int i = 0; i < WORKERS; i++)
        OK(weft_go(fast_worker, &kinds[i % KINDS]) == 0);
    OK(CALL_1(WORKERS % KINDS, x_wait, weft_wg_wait, &fast.wg) == 0);
    OK(fast.under_mx == TURNS * WORKERS);
    OK(fast.under_rw == (TURNS + 30) / 31 * WORKERS);
    OK(fast.calls == 1);
    OK(weft_sem_try_acquire(&fast.sem, UNITS) == 0);
    OK(weft_mutex_trylock(&fast.mx) == 0);
    OK(weft_rwmutex_trylock(&fast.rw) == 0);
}

#endif
