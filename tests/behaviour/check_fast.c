/* SPDX-License-Identifier: MIT
 *
 * check_fast.c: fast_paths.h in every build, on 1, 2 and 4 processors, and outside of a run.
 * (check_fast.sh compiles it in other ways.) */
#include "behaviour.h"

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
static int woken;

static void waiter(void *arg)
{
    (void)arg;
    OK(weft_wg_wait(&fast.wg) == 0);
    __atomic_add_fetch(&woken, 1, __ATOMIC_RELAXED);
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
        EQ(__atomic_load_n(&woken, __ATOMIC_RELAXED), 0);
        OK(CALL_1(k, x_done, weft_wg_done, &fast.wg) == 0);
        while (__atomic_load_n(&woken, __ATOMIC_RELAXED) < 3)
            weft_yield();
    }
}

START_TEST(outside)
{
    if (_i == 0) /* who would have to wait gets something else there */
        for (int k = 0; k < KINDS; k++)
            fast_null(k);
    run(_i, table_body);
}
END_TEST

static void (*const bodies[])(void) = {table_body, null_body, counter_body, fast_mixed};
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
