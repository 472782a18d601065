/* SPDX-License-Identifier: MIT
 *
 * check_fast.c: fast_paths.h in every build, on 1, 2 and 4 processors, and outside of a run.
 * (check_fast.sh compiles it in other ways.) And a wait group when there is no memory. */
#include "behaviour.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "fast_paths.h"

static void table_body(void)
{
    for (int k = 0; k < KINDS; k++)
        fast_table(k);
}

static void null_body(void)
{
    for (int k = 0; k < KINDS; k++)
        fast_null(k);
}

/* A counter at its ends, with and without somebody who waits. */
static atomic_int woken;

static void waiter(void *arg)
{
    (void)arg;
    OK(weft_wg_wait(&fast.wg) == 0);
    woken++;
}

static void counter_body(void)
{
    for (int k = 0; k < KINDS; k++) {
        fast_reset();
        woken = 0;
        OK(CALL_2(k, x_add, weft_wg_add, &fast.wg, 2) == 0);
        for (int i = 0; i < 3; i++)
            go(waiter, NULL);
        weft_sleep(5 * MS);
        OK(CALL_2(k, x_add, weft_wg_add, &fast.wg, 5) == 0); /* allowed: it is not zero */
        OK(CALL_2(k, x_add, weft_wg_add, &fast.wg, 0) == 0);
        OK(CALL_2(k, x_add, weft_wg_add, &fast.wg, -6) == 0);
        weft_sleep(5 * MS);
        EQ(woken, 0);
        OK(CALL_1(k, x_done, weft_wg_done, &fast.wg) == 0);
        while (woken < 3)
            weft_yield();
    }
}

/* ---- the ABI ---------------------------------------------------------------------------------
 *
 * The numbers that programs compiled years ago have in them, on purpose not by the names of weft.h. */

_Static_assert(sizeof(weft_mutex_t) == 8 && sizeof(weft_rwmutex_t) == 16, "fixed for good");
_Static_assert(sizeof(weft_once_t) == 16 && sizeof(weft_sem_t) == 16, "fixed for good");
_Static_assert(sizeof(weft_wg_t) == 16, "fixed for good");

static bool swap_32(uint32_t *word, uint32_t from, uint32_t to)
{
    return __atomic_compare_exchange_n(word, &from, to, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

static bool swap_64(uint64_t *word, uint64_t from, uint64_t to)
{
    return __atomic_compare_exchange_n(word, &from, to, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

static void abi_body(void)
{
    const char *debug = getenv("WEFT_DEBUG");
    if (debug != NULL && strstr(debug, "deadlock") != NULL)
        return; /* nothing is READY then */
    fast_reset();
    OK(x_lock(&fast.mx) == 0);
    OK(swap_32(&fast.mx.opaque[0], 9, 8));
    OK(swap_32(&fast.mx.opaque[0], 8, 9));
    OK(x_trylock(&fast.mx) == -EBUSY);
    OK(x_unlock(&fast.mx) == 0);

    OK(x_rlock(&fast.rw) == 0);
    OK(swap_32(&fast.rw.opaque[2], 12, 20));
    OK(x_runlock(&fast.rw) == 0);
    OK(weft_rwmutex_trylock(&fast.rw) == -EBUSY);
    OK(swap_32(&fast.rw.opaque[2], 12, 4));
    OK(weft_rwmutex_trylock(&fast.rw) == 0);
    OK((fast.rw.opaque[2] & 1) == 1);
    OK(weft_rwmutex_unlock(&fast.rw) == 0);

    OK(fast.once.opaque[2] == 0);
    OK(x_once(&fast.once, fast_count_call, NULL) == 0);
    OK(fast.once.opaque[2] != 0);

    OK(weft_sem_init(&fast.sem, 3) == 0);
    OK(swap_64(&fast.sem.opaque[0], 6, 2));
    OK(x_try_acquire(&fast.sem, 2) == -EBUSY);
    OK(x_try_acquire(&fast.sem, 1) == 0);
    OK(swap_64(&fast.sem.opaque[0], 0, 2));
    OK(x_acquire(&fast.sem, 1) == 0);

    OK(x_add(&fast.wg, 3) == 0);
    OK(swap_64(&fast.wg.opaque[0], 3ull << 32, 1ull << 32));
    OK(x_done(&fast.wg) == 0);
    OK(x_wait(&fast.wg) == 0);
}

/* ---- no memory for a foreign thread --------------------------------------------------------
 *
 * This program is not linked with jemalloc: what the library takes aligned memory from is here. */

static _Thread_local bool none_left;

int posix_memalign(void **place, size_t align, size_t size)
{
    if (none_left)
        return ENOMEM;
    *place = aligned_alloc(align, (size + align - 1) / align * align);
    return *place != NULL ? 0 : ENOMEM;
}

static weft_wg_t group;
static atomic_int released, late;

static void wait_for_group(void *arg)
{
    (void)arg;
    OK(weft_wg_wait(&group) == 0);
    released++;
}

static void wait_shortly(void *arg)
{
    (void)arg;
    int rc = weft_wg_wait_until(&group, from_now(20 * MS));
    OK(rc == -ETIMEDOUT || rc == 0); /* 0: it came while a done was under way */
    late++;
}

/* Its first call would wake the others, and cannot: nothing has happened. The second is the first again. */
static void *poor(void *arg)
{
    int kind = *(int *)arg;
    none_left = true;
    for (int i = 0; i < 100; i++)
        OK(CALL_1(kind, x_done, weft_wg_done, &group) == -ENOMEM);
    OK(weft_id() == 0);
    while (late == 0) /* who gives up is not held up by that either */
        OK(CALL_1(kind, x_done, weft_wg_done, &group) == -ENOMEM);
    OK(released == 0);
    none_left = false;
    OK(CALL_1(kind, x_done, weft_wg_done, &group) == 0);
    return NULL;
}

static void take_back(int kind)
{
    pthread_t th;
    OK(weft_wg_add(&group, 1) == 0);
    for (int i = 0; i < 3; i++)
        go(wait_for_group, NULL);
    while ((uint32_t)__atomic_load_n(&group.opaque[0], __ATOMIC_RELAXED) < 3)
        weft_yield();
    go(wait_shortly, NULL);
    weft_sleep(5 * MS);
    OK(pthread_create(&th, NULL, poor, &kind) == 0);
    while (released < 3)
        weft_sleep(MS);
    EQ(late, 1);
    EQ(group.opaque[0], 0);
    pthread_join(th, NULL);
}

static void inline_body(void)
{
    take_back(INLINE);
}

static void exported_body(void)
{
    take_back(EXPORTED);
}

/* -------------------------------------------------------------------------------------------- */

START_TEST(outside)
{
    if (_i == 0) /* who would have to wait gets something else there */
        for (int k = 0; k < KINDS; k++)
            fast_null(k);
    run(_i, table_body);
}
END_TEST

static void (*const bodies[])(void) = {table_body, abi_body,    null_body,    counter_body,
                                       fast_mixed, inline_body, exported_body};
enum { BODIES = sizeof bodies / sizeof bodies[0] };

START_TEST(each)
{
    run(_i % NPROCS, bodies[_i / NPROCS]);
}
END_TEST

int main(void)
{
    return run_bodies("fast", each, BODIES, outside);
}
