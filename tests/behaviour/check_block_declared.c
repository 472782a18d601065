/* SPDX-License-Identifier: MIT
 *
 * check_block_declared.c: weft_syscall_enter(), weft_syscall_exit() and weft_blocking(). */
#include <errno.h>
#include <sched.h>

#include "block_test.h"

static weft_wg_t wg;

/* ---- somebody else wants the P ----------------------------------------------------------- */

static _Atomic bool stop;
static _Atomic uint64_t rounds;

/* Always ready to run, so that a P that is given up is taken. */
static void yielder(void *arg)
{
    (void)arg;
    while (!stop) {
        rounds++;
        weft_yield();
    }
    weft_wg_done(&wg);
}

static void yielders_start(void)
{
    stop = false;
    EQ(weft_wg_add(&wg, 5), 0);
    for (int i = 0; i < 5; i++)
        go(yielder, NULL);
}

static void yielders_end(void)
{
    stop = true;
    EQ(weft_wg_wait(&wg), 0);
}

/* In a declared call: until our P is somebody else's, by what that one does. */
static void until_taken(void)
{
    uint64_t was = rounds;
    int64_t late = weft_now() + 20 * SEC;
    while (rounds < was + 20) {
        OK(weft_now() < late);
        usleep(100);
    }
}

/* A body beside the yielders, with one P: what it does there, they do not stop. */
static void (*inner)(void);

static void among_yielders(void)
{
    uint64_t before = retaken(true);
    yielders_start();
    inner();
    yielders_end();
    OK(retaken(true) > before);
}

/* Each body with the ticks that there are, in a storm of them, and without. */
static const char *const ticks[] = {NULL, "200", "off"};
enum { NTICKS = sizeof ticks / sizeof ticks[0] };

static void declared_run(int how, void (*fn)(void))
{
    if (ticks[how] != NULL)
        storm(ticks[how]);
    inner = fn;
    run(0, among_yielders);
}

/* ---- enter and exit ------------------------------------------------------------------------ */

static void usual(void)
{
    for (int i = 0; i < 50; i++) {
        int tid = gettid();
        errno = 1000 + i;
        weft_syscall_enter();
        EQ(errno, 1000 + i);
        until_taken();
        errno = 2000 + i;
        EQ(gettid(), tid);
        weft_syscall_exit();
        EQ(gettid(), tid); /* exit has parked nobody elsewhere */
        EQ(errno, 2000 + i);
        weft_yield();
        EQ(errno, 2000 + i);
    }
}

static void nested(void)
{
    for (int i = 0; i < 20; i++) {
        weft_syscall_enter();
        weft_syscall_enter();
        until_taken();
        weft_syscall_enter();
        weft_syscall_exit();
        plain_sleep(MS);
        weft_syscall_exit();
        weft_syscall_exit();
        weft_syscall_exit(); /* more than there were */
        weft_yield();
    }
}

static void exit_alone(void)
{
    weft_syscall_exit();
    weft_yield();
    weft_syscall_exit();
    EQ(weft_sleep(MS), 0);
    weft_syscall_exit();
    weft_syscall_enter();
    until_taken();
    weft_syscall_exit();
}

/* The first weft call ends the declaration; whether the P was taken, and whether it parks. */
static void calls_between(void)
{
    weft_chan_t *c = weft_chan_make(sizeof(int), 1);
    for (int i = 0, v; i < 30; i++) {
        weft_syscall_enter();
        if (i % 2 == 0)
            until_taken();
        EQ(weft_id(), 1);
        EQ(weft_send(c, &i), 0);
        EQ(weft_recv(c, &v), 1);
        EQ(v, i);
        if (i % 3 == 0)
            EQ(weft_sleep(100 * US), 0);
        if (i % 5 == 0)
            weft_yield();
        plain_sleep(100 * US);
        weft_syscall_exit();
        if (i % 2 == 0)
            weft_syscall_exit();
    }
    weft_chan_unref(c);
}

static weft_wg_t children;

static void never_exits(void *arg)
{
    weft_wg_done(&children);
    weft_syscall_enter();
    if (arg != NULL)
        until_taken();
}

static void end_within(void)
{
    EQ(weft_wg_add(&children, 40), 0);
    for (intptr_t i = 0; i < 40; i++)
        go(never_exits, (void *)(i % 2));
    EQ(weft_wg_wait(&children), 0);
    while (weft_num_coroutines() > 6)
        EQ(weft_sleep(MS), 0);
    weft_syscall_enter();
    until_taken();
    weft_syscall_exit();
}

/* Short ones, of which few lose their P. */
static void many_short(void)
{
    for (int i = 0; i < 100000; i++) {
        weft_syscall_enter();
        if (i % 1000 == 0)
            until_taken();
        weft_syscall_exit();
    }
}

static void pinned(void)
{
    weft_thread_lock();
    int tid = gettid();
    for (int i = 0; i < 20; i++) {
        weft_syscall_enter();
        until_taken();
        weft_syscall_exit();
        EQ(gettid(), tid);
        EQ(weft_sleep(100 * US), 0);
        EQ(gettid(), tid);
    }
    weft_thread_unlock();
}

static void (*const enters[])(void) = {usual,      nested,     exit_alone, calls_between,
                                       end_within, many_short, pinned};
enum { NENTERS = sizeof enters / sizeof enters[0] };

START_TEST(enter_exit)
{
    declared_run(_i / NENTERS, enters[_i % NENTERS]);
}
END_TEST

/* How soon others go on, when there is somebody in the queue already. */
static void soon_body(void)
{
    static const Call c = {"declared", pipe_open, pipe_declared, pipe_release};
    enum { ROUNDS = 50 };
    int64_t gap[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        call_start(&c);
        while (blocked_at == 0)
            weft_yield();
        gap[i] = weft_now() - blocked_at;
        OK(!call_over);
        OK(gap[i] < LOOSE);
        call_end(&c);
    }
    printf("beside a declared read: p50 %lld us, p90 %lld us\n",
           (long long)quantile(gap, ROUNDS, 500) / 1000,
           (long long)quantile(gap, ROUNDS, 900) / 1000);
    if (strict())
        OK(quantile(gap, ROUNDS, 500) <= 300 * US);
    OK(retaken(true) >= ROUNDS / 2);
}

START_TEST(soon)
{
    run(0, soon_body);
}
END_TEST

/* ---- weft_blocking ---------------------------------------------------------------------------- */

static void *twice(void *arg)
{
    until_taken();
    errno = 77;
    return (void *)((uintptr_t)arg * 2);
}

static void *short_one(void *arg)
{
    return (void *)((uintptr_t)arg + 1);
}

/* Calls weft, blocks again, declares again. */
static void *with_calls(void *arg)
{
    void *got = NULL;
    until_taken();
    weft_yield();
    EQ(weft_sleep(100 * US), 0);
    EQ(weft_blocking(twice, arg, &got), 0);
    plain_sleep(MS);
    return got;
}

static void blocking_inner(void)
{
    for (uintptr_t i = 1; i < 20; i++) {
        void *got = NULL;
        errno = 5;
        EQ(weft_blocking(twice, (void *)i, &got), 0);
        EQ((uintptr_t)got, 2 * i);
        EQ(errno, 77); /* what fn leaves */
        EQ(weft_blocking(short_one, (void *)i, &got), 0);
        EQ((uintptr_t)got, i + 1);
        EQ(weft_blocking(with_calls, (void *)i, &got), 0);
        EQ((uintptr_t)got, 2 * i);
        EQ(weft_blocking(short_one, NULL, NULL), 0);
        EQ(weft_blocking(NULL, NULL, &got), -EINVAL);
        EQ((uintptr_t)got, 2 * i); /* as it was */
    }
}

static void blocking_pinned(void)
{
    weft_thread_lock();
    int tid = gettid();
    blocking_inner();
    EQ(gettid(), tid);
    weft_thread_unlock();
}

static void movable_one(void *arg)
{
    (void)arg;
    blocking_inner();
    weft_wg_done(&children);
}

static void blocking_movable(void)
{
    weft_attr_t attr = {.flags = WEFT_MOVABLE};
    EQ(weft_wg_add(&children, 3), 0);
    for (int i = 0; i < 3; i++)
        EQ(weft_go_with(&attr, movable_one, NULL), 0);
    EQ(weft_wg_wait(&children), 0);
}

static void (*const blockings[])(void) = {blocking_inner, blocking_pinned, blocking_movable};
enum { NBLOCKINGS = sizeof blockings / sizeof blockings[0] };

START_TEST(blocking)
{
    declared_run(_i / NBLOCKINGS, blockings[_i % NBLOCKINGS]);
}
END_TEST

/* ---- elsewhere ---------------------------------------------------------------------------------- */

static void *nap(void *arg)
{
    plain_sleep(MS);
    return arg;
}

/* What a thread that weft knows nothing of gets from all three. */
static void *stranger(void *arg)
{
    void *got = NULL;
    errno = 9;
    weft_syscall_exit();
    weft_syscall_enter();
    weft_syscall_enter();
    plain_sleep(MS);
    weft_syscall_exit();
    EQ(errno, 9);
    EQ(weft_blocking(nap, &got, &got), 0);
    OK(got == &got);
    EQ(weft_blocking(NULL, NULL, NULL), -EINVAL);
    weft_syscall_enter(); /* for ever */
    return arg;
}

static void stranger_run(void)
{
    pthread_t t;
    EQ(pthread_create(&t, NULL, stranger, NULL), 0);
    EQ(pthread_join(t, NULL), 0);
}

START_TEST(foreign)
{
    stranger(NULL); /* without a run */
    for (int i = 0; i < NPROCS; i++)
        run(i, stranger_run);
    stranger(NULL);
}
END_TEST

static void fork_body(void)
{
    int status = 0;
    pid_t pid = fork();
    OK(pid >= 0);
    if (pid == 0) {
        weft_syscall_enter();
        weft_syscall_exit();
        _exit(weft_blocking(nap, NULL, NULL) == -ENOSYS ? 0 : 1);
    }
    weft_syscall_enter();
    EQ(waitpid(pid, &status, 0), pid);
    weft_syscall_exit();
    EQ(status, 0);
}

START_TEST(forked)
{
    run(_i, fork_body);
}
END_TEST

/* On several Ps that are all wanted, some coroutines blocked and some not, and all come through. */
static void crossing(void *arg)
{
    uintptr_t me = (uintptr_t)arg;
    for (uintptr_t i = 0; i < 60; i++) {
        void *got = NULL;
        weft_syscall_enter();
        if ((i + me) % 3 == 0)
            plain_sleep((int64_t)(me % 4) * 100 * US);
        else if ((i + me) % 3 == 1)
            sched_yield();
        weft_syscall_exit();
        EQ(weft_blocking(i % 4 == 0 ? nap : short_one, (void *)i, &got), 0);
        EQ((uintptr_t)got, i % 4 == 0 ? i : i + 1);
    }
    weft_wg_done(&children);
}

static void crossing_body(void)
{
    EQ(weft_wg_add(&children, 12), 0);
    yielders_start();
    for (intptr_t i = 0; i < 12; i++)
        go(crossing, (void *)i);
    for (int i = 0; i < 30; i++) {
        OK(weft_procs(1 + (i + weft_procs(0)) % 4) > 0);
        EQ(weft_sleep(MS), 0);
    }
    EQ(weft_wg_wait(&children), 0);
    yielders_end();
}

START_TEST(crossing_calls)
{
    run(_i, crossing_body);
}
END_TEST

START_TEST(crossing_calls_storm)
{
    storm("200");
    run(_i, crossing_body);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("block_declared");
    TCase *tc = tcase_create("block_declared");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, enter_exit, 0, NTICKS * NENTERS);
    tcase_add_test(tc, soon);
    tcase_add_loop_test(tc, blocking, 0, NTICKS * NBLOCKINGS);
    tcase_add_test(tc, foreign);
    tcase_add_loop_test(tc, forked, 0, NPROCS);
    tcase_add_loop_test(tc, crossing_calls, 0, NPROCS);
    tcase_add_loop_test(tc, crossing_calls_storm, 0, NPROCS);
    suite_add_tcase(s, tc);
    return run_suite(s);
}
