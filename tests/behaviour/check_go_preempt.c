/* SPDX-License-Identifier: MIT
 *
 * check_go_preempt.c: preemption does what Go's own tests ask of theirs. The Go test is named at each; GO-TESTS lists
 * all. More of it: check_preempt.c.
 *
 * Coroutines that spin for each other may have copied stacks here: they are few, and each has a window. */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "behaviour.h"
#include "preempt_test.h"

static weft_wg_t wg;

static void spawn(unsigned flags, void (*fn)(void *), void *arg)
{
    weft_attr_t attr = {.flags = flags};
    EQ(weft_go_with(&attr, fn, arg), 0);
}

/* ---- Go: TestPreemption ------------------------------------------------------------------------- */

enum { TURNS = 10 };
static _Atomic unsigned turn;

/* Waits for the other without a weft call. */
static void alternate(void *arg)
{
    unsigned mine = (unsigned)(uintptr_t)arg;
    for (unsigned i = 0; i < TURNS; i++) {
        while (turn != 2 * i + mine)
            ;
        turn++;
    }
    EQ(weft_wg_done(&wg), 0);
}

static void alternate_body(void)
{
    static const unsigned FLAGS[] = {0, WEFT_MOVABLE};
    for (int i = 0; i < 2; i++) {
        turn = 0;
        EQ(weft_wg_add(&wg, 2), 0);
        spawn(FLAGS[i], alternate, (void *)0);
        spawn(FLAGS[i], alternate, (void *)1);
        EQ(weft_wg_wait(&wg), 0);
        EQ(turn, 2 * TURNS);
    }
}

/* ---- Go: TestAsyncPreempt ------------------------------------------------------------------------- */

static _Atomic int begun;
static volatile unsigned sink;

static __attribute__((noinline)) unsigned leaf(unsigned x)
{
    return x * 3 + 1;
}

static void calls_leaves(void *arg)
{
    (void)arg;
    begun++;
    for (unsigned x = 0;; x = leaf(x))
        sink = x;
}

static void computes(void *arg)
{
    unsigned x = (unsigned)(uintptr_t)arg;
    begun++;
    for (;;) {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        __asm__ volatile("" : "+r"(x));
    }
}

static void does_nothing(void *arg)
{
    (void)arg;
    begun++;
    for (;;)
        __asm__ volatile("");
}

/* None of these ever ends, or calls anything: all begin, and main goes on, and to its end. */
static void async_body(void)
{
    static void (*const LOOPS[])(void *) = {calls_leaves, computes, does_nothing};
    int n = 3 * weft_procs(0);
    begun = 0;
    for (int i = 0; i < n; i++)
        spawn(i / 3 % 2 == 0 ? 0 : WEFT_MOVABLE, LOOPS[i % 3], (void *)(uintptr_t)(i + 1));
    while (begun < n)
        weft_yield();
    for (int i = 0; i < 10; i++)
        weft_sleep(MS);
}

/* ---- Go: TestSigStackSwapping ------------------------------------------------------------------------ */

static _Atomic bool stop;
static _Atomic uint64_t swaps;

/* Some library that exchanges its thread's alternate signal stack while it computes, and restores it. */
static void swap_stacks(void *arg)
{
    enum { SIZE = 1 << 17 };
    (void)arg;
    void *mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    OK(mem != MAP_FAILED);
    while (!stop) {
        stack_t own = {.ss_sp = mem, .ss_size = SIZE}, was, now;
        EQ(sigaltstack(&own, &was), 0);
        for (volatile int i = 0; i < 200000; i++)
            ;
        EQ(sigaltstack(&was, &now), 0);
        OK(now.ss_sp == mem); /* still this thread, and nobody else's stack */
        swaps++;
    }
    munmap(mem, SIZE);
    EQ(weft_wg_done(&wg), 0);
}

static void swapping_body(void)
{
    int n = weft_procs(0) + 2;
    stop = false;
    swaps = 0;
    EQ(weft_wg_add(&wg, n), 0);
    for (int i = 0; i < n; i++)
        spawn(0, swap_stacks, NULL);
    for (int i = 0; i < 100; i++)
        weft_sleep(MS);
    stop = true;
    EQ(weft_wg_wait(&wg), 0);
    OK(swaps > 0 && storm_seen());
}

/* ---- all ------------------------------------------------------------------------------------------------ */

static void (*const bodies[])(void) = {alternate_body, async_body};
enum { BODIES = sizeof bodies / sizeof bodies[0] };

START_TEST(each)
{
    run(_i % NPROCS, bodies[_i / NPROCS]);
}
END_TEST

START_TEST(swapping)
{
    storm("200");
    run(_i, swapping_body);
}
END_TEST

int main(void)
{
#ifdef WEFT_TSAN
    puts("skipped: with the thread sanitizer there is no preemption");
    return 77;
#endif
    Suite *s = suite_create("go preempt");
    TCase *tc = tcase_create("go preempt");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, each, 0, BODIES * NPROCS);
    tcase_add_loop_test(tc, swapping, 0, NPROCS);
    suite_add_tcase(s, tc);
    return run_suite(s);
}
