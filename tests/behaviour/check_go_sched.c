/* SPDX-License-Identifier: MIT
 *
 * check_go_sched.c: the scheduler does what Go's own tests of theirs ask for. The Go test is named at each;
 * GO-TESTS lists all. What needs preemption is in check_go_preempt.c, pinning in check_go_lock.c.
 *
 * Coroutines that spin for each other may have copied stacks here: they are few, and each has a window. */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "behaviour.h"
#include "preempt_test.h"

static weft_wg_t wg;

static void spawn(void (*fn)(void *), void *arg)
{
    EQ(weft_wg_go(&wg, fn, arg), 0);
}

static void join(void)
{
    EQ(weft_wg_wait(&wg), 0);
}

/* ---- Go: TestYieldProgress, TestYieldLockedProgress ----------------------------------------- */

static weft_chan_t *chan;

/* Ready all the time, never parked in the channel: main must get at it. */
static void look_and_yield(void *locked)
{
    if (locked != NULL)
        weft_thread_lock();
    weft_case_t c = {.op = WEFT_RECV, .chan = chan};
    while (weft_try_select(&c, 1) != 0)
        weft_yield();
    if (locked != NULL)
        weft_thread_unlock();
}

static void yield_progress(void *locked)
{
    chan = weft_chan_make(0, 1);
    for (int i = 0; i < 10; i++) {
        spawn(look_and_yield, locked);
        weft_sleep(MS);
        EQ(weft_send(chan, NULL), 0);
        join();
    }
    weft_chan_unref(chan);
}

static void yield_body(void)
{
    yield_progress(NULL);
}

static void yield_locked_body(void)
{
    yield_progress(&wg);
}

/* ---- Go: TestGoroutineParallelism, TestGoroutineParallelism2 --------------------------------- */

/* As many as processors spin for their turn in a strict order, and nobody is preempted (main switches that off): if one
 * of them waits in a queue while a processor idles, the turn never comes. */
static _Atomic unsigned turn, arrived;
static unsigned spinners;

static void take_turns(void *arg)
{
    unsigned mine = (unsigned)(uintptr_t)arg;
    for (unsigned i = 0; i < 3; i++) {
        while (turn != spinners * i + mine)
            ;
        turn++;
    }
}

static void parallel_body(void)
{
    spinners = (unsigned)weft_procs(0);
    for (int round = 0; round < 10; round++) {
        turn = 0;
        for (unsigned i = 0; i < spinners; i++)
            spawn(take_turns, (void *)(uintptr_t)i);
        join();
        EQ(turn, 3 * spinners);
    }
}

/* All processors are busy until all are. */
static void meet(void *arg)
{
    (void)arg;
    arrived++;
    while (arrived != spinners)
        ;
}

static void take_two_turns(void *arg)
{
    uintptr_t first = (uintptr_t)arg;
    for (uintptr_t i = first; i < first + 2 && i < spinners; i++)
        spawn(take_turns, (void *)i);
}

/* The same with grandchildren, while threads are on their way to sleep, and with a poller at work. */
static void parallel_nested(bool load, bool poller)
{
    int listener = poller ? weft_listen_tcp("127.0.0.1", 0, 0) : -1;
    spinners = (unsigned)weft_procs(0);
    for (int round = 0; round < 4; round++) {
        if (load) {
            arrived = 0;
            for (unsigned i = 0; i < spinners; i++)
                spawn(meet, NULL);
            join();
        }
        turn = 0;
        for (uintptr_t i = 0; i < spinners; i += 2)
            spawn(take_two_turns, (void *)i);
        join();
        EQ(turn, 3 * spinners);
    }
    if (poller)
        EQ(weft_close(listener), 0);
}

static void parallel2_body(void)
{
    for (int how = 0; how < 4; how++)
        parallel_nested(how & 1, how & 2);
}

/* ---- Go: TestTimerFairness, TestTimerFairness2 ------------------------------------------------- */

static weft_chan_t *over;
static int readable;

/* Two of these never let a processor idle. readable: and are in and out of the kernel. */
static void saturate(void *arg)
{
    weft_case_t c[] = {{.op = WEFT_SEND, .chan = chan},
                       {.op = WEFT_RECV, .chan = chan},
                       {.op = WEFT_RECV, .chan = over}};
    (void)arg;
    while (weft_select(c, 3, 0) != 2)
        if (readable >= 0) {
            char none;
            weft_syscall_enter();
            OK(read(readable, &none, 0) == 0);
            weft_syscall_exit();
        }
}

static void timer_fairness(void)
{
    chan = weft_chan_make(0, 0);
    over = weft_chan_make(0, 0);
    for (int i = 0; i < 2; i++)
        spawn(saturate, NULL);
    for (int i = 0; i < 3; i++) { /* a starved timer would never come */
        int64_t start = weft_now();
        EQ(weft_sleep(20 * MS), 0);
        OK(weft_now() - start < 10 * SEC);
    }
    weft_chan_close(over);
    join();
    weft_chan_unref(chan);
    weft_chan_unref(over);
}

static void fairness_body(void)
{
    readable = -1;
    timer_fairness();
}

static void fairness2_body(void)
{
    int ends[2];
    EQ(pipe(ends), 0);
    readable = ends[0];
    timer_fairness();
    close(ends[0]);
    close(ends[1]);
}

/* ---- Go: TestPingPongHog --------------------------------------------------------------------------- */

/* Two pairs pass a token to and fro; who has it counts, far in one pair and a little in the other. Each pair has its
 * share of the processor: who is woken inherits the slice of its waker. Where a pair has a thread to itself, that is the
 * machine's to keep running: so not before ten seconds is a ratio too large. Chance is not fair at all, and the thread
 * sanitizer leaves no slices. */
typedef struct {
    weft_chan_t *token;
    uint64_t limit;
    _Atomic uint64_t count; /* written by who has the token */
} Pair;

static Pair pairs[2];

static void count_up(Pair *p)
{
    for (uint64_t i = 0; i < p->limit; i++)
        atomic_store_explicit(&p->count, atomic_load_explicit(&p->count, memory_order_relaxed) + 1,
                              memory_order_relaxed);
}

static void count_and_pass(void *arg)
{
    Pair *p = arg;
    weft_case_t c[] = {{.op = WEFT_RECV, .chan = p->token}, {.op = WEFT_RECV, .chan = over}};
    while (weft_select(c, 2, 0) == 0) {
        count_up(p);
        weft_case_t pass[] = {{.op = WEFT_SEND, .chan = p->token}, {.op = WEFT_RECV, .chan = over}};
        if (weft_select(pass, 2, 0) != 0)
            return;
    }
}

static bool slices_are_fair(void)
{
#ifdef WEFT_TSAN
    return false;
#else
    const char *debug = getenv("WEFT_DEBUG");
    return debug == NULL ||
           (strstr(debug, "chaos=") == NULL && strstr(debug, "preempt=off") == NULL);
#endif
}

static double ratio_of_pairs(void)
{
    return (double)pairs[0].count / (double)(pairs[1].count + 1);
}

static bool pairs_share(void)
{
    double ratio = ratio_of_pairs();
    return ratio < 20 && ratio > 1.0 / 20;
}

/* How far one counts in as much of a thread's own time. Pinned: to this thread's. */
static uint64_t counted_in_ms(double ms)
{
    Pair p = {.limit = 1000};
    weft_thread_lock();
    for (double end = cpu_ms() + ms; cpu_ms() < end;)
        count_up(&p);
    weft_thread_unlock();
    return p.count;
}

static void ping_pong(uint64_t far)
{
    int64_t late = weft_now() + 10 * SEC;
    over = weft_chan_make(0, 0);
    for (int i = 0; i < 2; i++) {
        pairs[i] = (Pair){weft_chan_make(0, 0), i == 0 ? far : 1000, 0};
        spawn(count_and_pass, &pairs[i]);
        spawn(count_and_pass, &pairs[i]);
    }
    for (int i = 0; i < 2; i++)
        EQ(weft_send(pairs[i].token, NULL), 0);
    do
        weft_sleep(200 * MS);
    while (slices_are_fair() && !pairs_share() && weft_now() < late);
    weft_chan_close(over);
    join();
    printf("ping_pong_hog: %d procs: as far as %llu: %.2f times as much\n", weft_procs(0),
           (unsigned long long)far, ratio_of_pairs());
    fflush(stdout);
    OK(pairs[0].count > 0 && pairs[1].count > 0);
    OK(!slices_are_fair() || pairs_share());
    for (int i = 0; i < 2; i++)
        weft_chan_unref(pairs[i].token);
    weft_chan_unref(over);
}

/* So many as in Go's; and so that neither a word is long nor 64 of them are short. */
static void ping_pong_body(void)
{
    ping_pong(1000000);
    ping_pong(counted_in_ms(0.4));
}

/* ---- Go: TestPreemptionAfterSyscall -------------------------------------------------------------- */

static _Atomic bool stop;
static _Atomic int started;

static void in_and_out(void *arg)
{
    started++;
    do {
        weft_syscall_enter();
        usleep((useconds_t)(uintptr_t)arg);
        weft_syscall_exit();
    } while (!stop);
}

/* Eight that only ever come back from system calls do not keep main from running. */
static void after_syscall_body(void)
{
    static const uintptr_t US_EACH[] = {10, 100, 1000};
    int64_t start = weft_now();
    for (int i = 0; i < 9; i++) {
        stop = false;
        started = 0;
        for (int k = 0; k < 8; k++)
            spawn(in_and_out, (void *)US_EACH[i % 3]);
        while (started < 8)
            weft_yield();
        stop = true;
        join();
    }
    OK(weft_now() - start < 20 * SEC);
}

/* ---- Go: TestNumGoroutine ---------------------------------------------------------------------------- */

static void receive(void *arg)
{
    weft_recv(arg, NULL);
}

/* How many coroutines a dump shows. */
static int in_dump(void)
{
    static char line[4096];
    int n = 0;
    FILE *f = tmpfile();
    OK(f != NULL);
    EQ(weft_dump(fileno(f)), 0);
    rewind(f);
    while (fgets(line, sizeof line, f) != NULL)
        n += strncmp(line, "coroutine ", 10) == 0;
    fclose(f);
    return n;
}

static void number_body(void)
{
    EQ(weft_num_coroutines(), 1);
    EQ(in_dump(), 1);
    chan = weft_chan_make(0, 0);
    for (int i = 1; i <= 50; i++) {
        spawn(receive, chan);
        EQ(weft_num_coroutines(), i + 1);
    }
    EQ(in_dump(), 51);
    weft_chan_close(chan);
    join();
    while (weft_num_coroutines() > 1) /* done() comes before the end */
        weft_yield();
    EQ(in_dump(), 1);
    weft_chan_unref(chan);
}

/* ---- Go: TestGetgThreadSwitch -------------------------------------------------------------------------- */

static _Atomic uint64_t moves;

/* Who am I, on whatever thread: never what was true on the one before. */
static void who_am_i(void *arg)
{
    weft_id_t id = weft_id();
    int last = gettid(), mine = (int)(intptr_t)arg;
    for (int i = 0; i < 500; i++) {
        errno = mine;
        if (i % 5 == 0)
            weft_sleep(10 * US);
        else
            weft_yield();
        EQ(errno, mine);
        EQ(weft_id(), id);
        int tid = gettid();
        moves += tid != last;
        last = tid;
    }
}

static void switch_body(void)
{
    int64_t late = weft_now() + 20 * SEC;
    moves = 0;
    do { /* without a move nothing has been shown */
        OK(weft_now() < late);
        for (int i = 0; i < 8; i++)
            spawn(who_am_i, (void *)(intptr_t)(i + 1));
        join();
    } while (weft_procs(0) > 1 && moves == 0);
}

/* ---- all --------------------------------------------------------------------------------------------------- */

static void (*const bodies[])(void) = {yield_body,     yield_locked_body, fairness_body,
                                       fairness2_body, ping_pong_body,    after_syscall_body,
                                       number_body,    switch_body};
enum { BODIES = sizeof bodies / sizeof bodies[0] };

START_TEST(each)
{
    run(_i % NPROCS, bodies[_i / NPROCS]);
}
END_TEST

START_TEST(parallel)
{
    storm("off");
    run(_i % NPROCS, _i < NPROCS ? parallel_body : parallel2_body);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("go sched");
    TCase *tc = tcase_create("go sched");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, each, 0, BODIES * NPROCS);
    tcase_add_loop_test(tc, parallel, 0, 2 * NPROCS);
    suite_add_tcase(s, tc);
    return run_suite(s);
}
