/* SPDX-License-Identifier: MIT
 *
 * check_go_stack.c: stacks grow as Go's own tests ask: to every depth, at every place, and give back what they took.
 * The Go test is named at each; GO-TESTS lists all. Stacks that are put elsewhere: check_copied.c. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "behaviour.h"

#if defined(WEFT_TSAN) || defined(WEFT_ASAN)
enum { DEEPEST = 256, STEP = 8 }; /* their frames are large, their stacks small */
#else
enum { DEEPEST = 1024, STEP = 1 };
#endif

static weft_wg_t wg;

static void spawn(void (*fn)(void *), void *arg)
{
    EQ(weft_wg_go(&wg, fn, arg), 0);
}

static void join(void)
{
    EQ(weft_wg_wait(&wg), 0);
}

/* ---- Go: TestStackGrowth -------------------------------------------------------------------------- */

/* Each frame is given the address of a local of the one before, changes it there, and finds its own changed. */
static __attribute__((noinline)) void descend(int *outer, int depth)
{
    volatile int own = depth;
    int mine = depth;
    EQ(*outer, depth + 1);
    *outer = -depth;
    if (depth > 0) {
        descend(&mine, depth - 1);
        EQ(mine, -(depth - 1));
    }
    EQ(own, depth);
}

static void to_each_depth(void)
{
    for (int depth = 0; depth <= DEEPEST; depth += STEP) {
        int first = depth + 1;
        descend(&first, depth);
        EQ(first, -depth);
    }
}

static void grows(void *arg)
{
    (void)arg;
    to_each_depth();
}

static void grows_locked(void *arg)
{
    (void)arg;
    weft_thread_lock();
    to_each_depth();
    weft_thread_unlock();
}

/* In the place of Go's finalizers: what runs behind a coroutine's end. */
static atomic_int destroyed;

static void grows_at_end(void *value)
{
    (void)value;
    to_each_depth();
    destroyed++;
}

static weft_key_t key;

static void ends(void *arg)
{
    EQ(weft_setspecific(key, arg), 0);
}

static void growth_body(void)
{
    destroyed = 0;
    EQ(weft_key_create(&key, grows_at_end), 0);
    for (int i = 0; i < 3; i++) {
        spawn(grows, NULL);
        spawn(grows_locked, NULL);
        spawn(ends, &key);
    }
    join();
    while (destroyed < 3)
        weft_yield();
    to_each_depth(); /* main's */
}

/* ---- Go: TestStackGrowthCallback ---------------------------------------------------------------------- */

static weft_chan_t *chan;

static __attribute__((noinline)) void at_depth(int depth, void (*fn)(void))
{
    volatile int own = depth;
    if (depth > 0)
        at_depth(depth - 1, fn);
    else
        fn();
    EQ(own, depth);
}

/* The runtime is entered at the end of what there is of the stack, and then all the same leaves the caller's value. */
static void channel_op(void)
{
    int v = 1;
    EQ(weft_send(chan, &v), 0);
    v = 0;
    EQ(weft_recv(chan, &v), 1);
    EQ(v, 1);
}

static void child(void *arg)
{
    weft_send(arg, NULL);
}

static void spawning(void)
{
    weft_chan_t *c = weft_chan_make(0, 0);
    EQ(weft_go(child, c), 0);
    EQ(weft_recv(c, NULL), 1); /* and parks there */
    weft_chan_unref(c);
}

static void each_depth_op(void *arg)
{
    (void)arg;
    for (int depth = 0; depth < DEEPEST; depth += 4 * STEP)
        at_depth(depth, channel_op);
}

static void each_depth_go(void *arg)
{
    (void)arg;
    for (int depth = 0; depth < DEEPEST; depth += 4 * STEP)
        at_depth(depth, spawning);
}

static void one_depth(void *arg)
{
    at_depth((int)(intptr_t)arg, spawning);
}

static void callback_body(void)
{
    chan = weft_chan_make(sizeof(int), 1);
    spawn(each_depth_op, NULL);
    spawn(each_depth_go, NULL);
    join();
    for (int depth = 0; depth < DEEPEST;
         depth += 16 * STEP) /* each on a stack that was never used so far */
        spawn(one_depth, (void *)(intptr_t)depth);
    join();
    weft_chan_unref(chan);
}

/* ---- Go: TestStackMem ------------------------------------------------------------------------------------ */

#if !defined(WEFT_TSAN) && !defined(WEFT_ASAN) /* their memory grows */
/* Kilobytes. */
static long resident(void)
{
    long pages = -1;
    FILE *f = fopen("/proc/self/statm", "r");
    OK(f != NULL && fscanf(f, "%*d %ld", &pages) == 1);
    fclose(f);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

enum { BATCHES = 12, BATCH = 256, DEEP = 128 << 10 };

static __attribute__((noinline)) void dig(const char *top)
{
    volatile char frame[1000];
    frame[0] = frame[999] = 1;
    if (top - (const char *)frame < DEEP)
        dig(top);
    EQ(frame[0] + frame[999], 2);
}

static void digs(void *arg)
{
    char top = 0;
    (void)arg;
    dig(&top);
    weft_yield(); /* all of a batch at the same time */
    dig(&top);
}

/* Never more than eight times what is used at the same time; and all but 4 MiB goes back, save stacks that are kept warm:
 * 16 for each processor and 16 more. */
static void memory_body(void)
{
    long before = resident(), most = 0, rest = 4096 + 16 * (weft_procs(0) + 1) * (DEEP >> 10);
    for (int i = 0; i < BATCHES; i++) {
        for (int k = 0; k < BATCH; k++)
            spawn(digs, NULL);
        join();
        long now = resident() - before;
        most = now > most ? now : most;
    }
    int64_t late = weft_now() + 20 * SEC;
    while (resident() - before > rest && weft_now() < late)
        weft_sleep(10 * MS);
    printf("memory: %ld KiB at most, %ld in the end\n", most, resident() - before);
    fflush(stdout);
    OK(most < 8 * BATCH * (DEEP >> 10));
    OK(resident() - before <= rest);
}

START_TEST(memory)
{
    run(_i, memory_body);
}
END_TEST
#endif

/* ---- all ------------------------------------------------------------------------------------------------ */

START_TEST(growth)
{
    run(_i, growth_body);
}
END_TEST

START_TEST(callback)
{
    run(_i, callback_body);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("go stack");
    TCase *tc = tcase_create("go stack");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, growth, 0, NPROCS);
    tcase_add_loop_test(tc, callback, 0, NPROCS);
#if !defined(WEFT_TSAN) && !defined(WEFT_ASAN)
    tcase_add_loop_test(tc, memory, 0, NPROCS);
#endif
    suite_add_tcase(s, tc);
    return run_suite(s);
}
