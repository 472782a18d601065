/* SPDX-License-Identifier: MIT
 *
 * check_dump.c: dumps of what is parked, runs, stands still or is blocked in the kernel, on both kinds of
 * stacks; while everything spins; of a hundred thousand; by SIGQUIT.
 *
 * Bounds of time: machines stand still for a second at times, so the best of several counts. */
#include <weft.h>

#include "tests/behaviour/behaviour.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__SANITIZE_THREAD__)
#define TICKS 0 /* there are none: nobody says where it is */
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TICKS 0
#endif
#endif
#ifndef TICKS
#define TICKS 1
#endif
#ifdef HAVE_LIBUNWIND
#define NAMES 1 /* of static functions, and every frame */
#else
#define NAMES 0
#endif

enum { TRIES = 10 };

static char text[4 << 20];

static int dump_fd(void)
{
    char name[] = "/tmp/check_dump.XXXXXX";
    int fd = mkstemp(name);
    OK(fd >= 0);
    unlink(name);
    return fd;
}

static void read_back(int fd)
{
    ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
    OK(n >= 0);
    text[n] = '\0';
}

static void take_dump(void)
{
    int fd = dump_fd();
    EQ(weft_dump(fd), 0);
    read_back(fd);
    close(fd);
}

static int count(const char *needle)
{
    int n = 0;
    for (const char *p = text; (p = strstr(p, needle)) != NULL; p += strlen(needle))
        n++;
    return n;
}

/* What is said of the coroutine of that name, up to the next empty line. */
static char part[16384];
static const char *part_of(const char *name)
{
    char quoted[64];
    snprintf(quoted, sizeof(quoted), "\"%s\" [", name);
    part[0] = '\0';
    const char *at = strstr(text, quoted);
    if (at == NULL)
        return part;
    const char *end = strstr(at, "\n\n");
    size_t n = end != NULL ? (size_t)(end - at) : strlen(at);
    n = n < sizeof(part) ? n : sizeof(part) - 1;
    memcpy(part, at, n);
    part[n] = '\0';
    return part;
}

static bool says(const char *name, const char *what)
{
    return strstr(part_of(name), what) != NULL;
}

static void go_named(const char *name, int stack, void (*fn)(void *), void *arg)
{
    weft_attr_t attr = {.name = name, .stack = stack};
    EQ(weft_go_with(&attr, fn, arg), 0);
}

static const int STACKS[] = {WEFT_STACK_PRIVATE, WEFT_STACK_COPIED};

/* ---- what each is doing -------------------------------------------------------------- */

static _Atomic int stop;
static _Atomic unsigned long turns;
static int pipes[2];

static __attribute__((noinline)) void spin_in_here(void)
{
    while (!stop)
        turns++;
}

static void hog(void *arg)
{
    (void)arg;
    spin_in_here();
    turns++; /* no tail call */
}

static __attribute__((noinline)) ssize_t block_in_here(void)
{
    char c;
    ssize_t n = read(pipes[0], &c, 1);
    turns++;
    return n;
}

static void blocked(void *arg)
{
    (void)arg;
    block_in_here();
    turns++;
}

static __attribute__((noinline)) void pinned_in_here(weft_chan_t *c)
{
    weft_recv(c, NULL);
    turns++;
}

static void pinned(void *arg)
{
    weft_thread_lock();
    pinned_in_here(arg);
    weft_thread_unlock();
}

static void start(void)
{
    stop = 0;
    EQ(pipe(pipes), 0);
}

static void end(weft_chan_t *c)
{
    stop = 1;
    weft_chan_close(c);
    close(pipes[1]); /* the reader gets an end of file */
    while (weft_num_coroutines() > 1)
        weft_sleep(MS);
    close(pipes[0]);
    weft_chan_unref(c);
}

/* A dump in which all is as it is to be once they have come so far. */
static bool dump_shows(int stack)
{
    char state[64];
    bool ok = true;
    (void)stack;
    weft_sleep(20 * MS);
    take_dump();
    ok &= says("pinned", "[chan receive") && says("pinned", ", locked to thread]");
    ok &= says("blocked", "[syscall") || says("blocked", "[running");
    ok &= says("hog", "[running, P ") || says("hog", "[runnable, preempted");
    snprintf(state, sizeof(state), ", M ");
    ok &= says("pinned", state) && says("blocked", state);
    if (NAMES && TICKS) {
        ok &= says("pinned", "pinned_in_here+");
        ok &= says("blocked", "read+");
        ok &= says("hog", "spin_in_here+") && says("hog", "arch_entry+");
    }
    return ok;
}

static void each_body(int stack)
{
    weft_chan_t *c = weft_chan_make(0, 0);
    bool ok = false;
    start();
    go_named("pinned", STACKS[stack], pinned, c);
    go_named("blocked", STACKS[stack], blocked, NULL);
    go_named("hog", STACKS[stack], hog, NULL);
    for (int i = 0; !ok && i < TRIES; i++)
        ok = dump_shows(stack);
    if (!ok || getenv("WEFT_TEST_VERBOSE") != NULL)
        fprintf(stderr, "%s\n", text);
    end(c);
    OK(ok);
}

static void each_private(void)
{
    each_body(0);
}

static void each_copied(void)
{
    each_body(1);
}

START_TEST(test_each)
{
    if (!TICKS && _i % NPROCS == 0)
        return; /* the hog would have it all */
    run(_i % NPROCS, _i < NPROCS ? each_private : each_copied);
}
END_TEST

/* Many hogs, few processors: those that stand still have a backtrace too. */
static void held_body(void)
{
    weft_chan_t *c = weft_chan_make(0, 0);
    enum { HOGS = 12 };
    bool ok = false;
    start();
    for (int i = 0; i < HOGS; i++)
        go_named("hog", WEFT_STACK_PRIVATE, hog, NULL);
    for (int i = 0; !ok && i < 5 * TRIES; i++) {
        weft_sleep(20 * MS);
        take_dump();
        ok = count("\"hog\" [") == HOGS;
        if (TICKS) { /* all but those that have never run, and were just about to run */
            ok &= count("\"hog\" [runnable, preempted, M ") >= 2;
            ok &= !NAMES || count("spin_in_here+") >= HOGS - 5;
        }
    }
    if (!ok || getenv("WEFT_TEST_VERBOSE") != NULL)
        fprintf(stderr, "%s\n", text);
    end(c);
    OK(ok);
}

START_TEST(test_held)
{
    run(_i, held_body);
}
END_TEST

/* ---- while everything spins ------------------------------------------------------------ */

static struct {
    int fd;
    int64_t best;
} spun;

/* How long a dump takes that a thread of the program asks for. */
static void *ask_thread(void *arg)
{
    (void)arg;
    for (int i = 0; i < TRIES; i++) {
        int fd = dump_fd();
        int64_t before = weft_now();
        EQ(weft_dump(fd), 0);
        int64_t took = weft_now() - before;
        spun.best = took < spun.best ? took : spun.best;
        if (i == TRIES - 1)
            read_back(fd);
        close(fd);
    }
    stop = 1;
    return NULL;
}

static void spin_ask_self(void *arg)
{
    (void)arg;
    for (int i = 0; i < TRIES; i++) {
        weft_sleep(5 * MS);
        int64_t before = weft_now();
        take_dump();
        int64_t took = weft_now() - before;
        spun.best = took < spun.best ? took : spun.best;
    }
    stop = 1;
}

static void spin_ask_signal(void *arg)
{
    (void)arg;
    for (int i = 0; i < TRIES && spun.best > 100 * MS; i++) {
        struct pollfd p = {.fd = spun.fd, .events = POLLIN};
        char c;
        weft_sleep(5 * MS);
        int64_t before = weft_now();
        kill(getpid(), SIGQUIT);
        if (weft_poll_fd(spun.fd, WEFT_READ, before + SEC) > 0) {
            int64_t took = weft_now() - before;
            spun.best = took < spun.best ? took : spun.best;
        }
        weft_sleep(50 * MS);
        text[0] = '\0';
        size_t n = 0;
        while (poll(&p, 1, 0) > 0 && n < sizeof(text) - 1 && read(spun.fd, &c, 1) == 1)
            text[n++] = c;
        text[n] = '\0';
    }
    stop = 1;
}

static void spin_with(void (*asker)(void *))
{
    pthread_t pt;
    stop = 0;
    spun.best = INT64_MAX;
    for (int i = 0; i < 4; i++)
        go_named("hog", 0, hog, NULL);
    weft_sleep(30 * MS);
    if (asker != NULL)
        go_named("asker", WEFT_STACK_PRIVATE, asker, NULL);
    else
        EQ(pthread_create(&pt, NULL, ask_thread, NULL), 0);
    spin_in_here(); /* main too */
    if (asker == NULL)
        pthread_join(pt, NULL);
    while (weft_num_coroutines() > 1)
        weft_yield();
    if (spun.best >= 100 * MS)
        fprintf(stderr, "best: %lld ns\n", (long long)spun.best);
    OK(spun.best < 100 * MS);
    EQ(count("\"hog\" ["), 4);
}

static int spin_thread(void *arg)
{
    (void)arg;
    spin_with(NULL);
    return 0;
}

static int spin_self(void *arg)
{
    (void)arg;
    spin_with(spin_ask_self);
    return 0;
}

static int spin_signal(void *arg)
{
    (void)arg;
    spin_with(spin_ask_signal);
    EQ(count("weft: SIGQUIT: all coroutines:\n"), 1);
    return 0;
}

START_TEST(test_spin_thread)
{
    weft_config_t cfg = {.procs = 2, .stack = test_stack()};
    EQ(weft_run_with(&cfg, spin_thread, NULL), 0);
}
END_TEST

START_TEST(test_spin_self)
{
    weft_config_t cfg = {.procs = 2, .stack = test_stack()};
    EQ(weft_run_with(&cfg, spin_self, NULL), 0);
}
END_TEST

/* With standard error a pipe that we read. */
static void run_signalled(const weft_config_t *cfg, int (*entry)(void *))
{
    int saved = dup(2), p[2];
    EQ(pipe(p), 0);
    dup2(p[1], 2);
    spun.fd = p[0];
    EQ(weft_run_with(cfg, entry, NULL), 0);
    dup2(saved, 2);
    close(saved);
    close(p[0]);
    close(p[1]);
}

START_TEST(test_spin_signal)
{
    weft_config_t cfg = {.procs = 2, .stack = test_stack(), .flags = WEFT_SIGQUIT};
    run_signalled(&cfg, spin_signal);
}
END_TEST

/* ---- SIGQUIT ------------------------------------------------------------------------------- */

static void await_dump(void)
{
    size_t n = 0;
    memset(text, 0, 4096);
    while (strstr(text, "entered at ") == NULL && n < 4000) {
        OK(weft_poll_fd(spun.fd, WEFT_READ, from_now(20 * SEC)) > 0);
        n += (size_t)read(spun.fd, text + n, 4000 - n);
        text[n] = '\0';
    }
}

/* Everybody waits; then a channel listens to it as well, and stops. */
static int quit_idle(void *arg)
{
    int signo = 0;
    (void)arg;
    kill(getpid(), SIGQUIT);
    await_dump();
    weft_chan_t *c = weft_chan_make(sizeof(int), 1);
    EQ(weft_signal_notify(c, SIGQUIT), 0);
    kill(getpid(), SIGQUIT);
    await_dump();
    EQ(weft_recv_until(c, &signo, from_now(20 * SEC)), 1);
    EQ(signo, SIGQUIT);
    EQ(weft_signal_stop(c), 0);
    kill(getpid(), SIGQUIT);
    await_dump();
    EQ(weft_try_recv(c, &signo), -EAGAIN);
    weft_chan_unref(c);
    return 0;
}

static void (*handler_now(void))(int)
{
    struct sigaction sa;
    sigaction(SIGQUIT, NULL, &sa);
    return sa.sa_handler;
}

static int quit_not(void *arg)
{
    (void)arg;
    OK(handler_now() == SIG_DFL);
    return 0;
}

START_TEST(test_quit)
{
    weft_config_t by_config = {.procs = PROCS[_i], .flags = WEFT_SIGQUIT};
    weft_config_t plain = {.procs = PROCS[_i]}, wrong = {.flags = 2};
    run_signalled(&by_config, quit_idle);
    OK(handler_now() == SIG_DFL);
    EQ(weft_run_with(&plain, quit_not, NULL), 0); /* nobody has asked */
    setenv("WEFT_DEBUG", "sigquit", 1);
    run_signalled(&plain, quit_idle);
    OK(handler_now() == SIG_DFL);
    EQ(weft_run_with(&wrong, quit_not, NULL), -EINVAL);
}
END_TEST

/* The program's only thread blocks it: weft's takes it. */
START_TEST(test_quit_blocked)
{
    weft_config_t cfg = {.flags = WEFT_SIGQUIT};
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGQUIT);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    run_signalled(&cfg, quit_idle);
}
END_TEST

/* ---- a hundred thousand ------------------------------------------------------------------------ */

static weft_chan_t *gate;
static _Atomic int parked;

/* No two bodies are equal, or a compiler may make one of them. */
static __attribute__((noinline)) void wait_one(void)
{
    parked++;
    weft_recv(gate, NULL);
    turns += 2;
}

static __attribute__((noinline)) void wait_two(void)
{
    parked++;
    weft_recv(gate, NULL);
    turns += 3;
}

static __attribute__((noinline)) void one_elsewhere(void)
{
    wait_one();
    turns += 4;
}

/* The same function called from two places, and another one: three backtraces. */
static void waiter(void *arg)
{
    if (arg == NULL)
        wait_one();
    else if (arg == &gate)
        wait_two();
    else
        one_elsewhere();
    turns++;
}

static const int MANY = TICKS ? 100000 : 1400, WAIT = 7; /* TSan has no room for more */

static void many_body(int stack)
{
    void *const args[] = {NULL, &gate, &parked};
    static const int share[] = {2, 5, 7}; /* of WAIT */
    gate = weft_chan_make(0, 0);
    parked = 0;
    for (int i = 0; i < MANY; i++) {
        int which = 0;
        while (i % WAIT >= share[which])
            which++;
        go_named(NULL, STACKS[stack], waiter, args[which]);
    }
    while (parked < MANY)
        weft_sleep(10 * MS);
    int64_t best = INT64_MAX;
    for (int i = 0; i < TRIES && best > SEC; i++) {
        weft_sleep(50 * MS);
        int64_t before = weft_now();
        take_dump();
        int64_t took = weft_now() - before;
        best = took < best ? took : best;
    }
    if (getenv("WEFT_TEST_VERBOSE") != NULL)
        fprintf(stderr, "%lld ns\n%s", (long long)best, text);
    OK(best < SEC);
    OK(strlen(text) < 5000);
    EQ(count(TICKS ? "100001 coroutines, by state" : "1401 coroutines, by state"), 1);
    EQ(count(" coroutines, the first: coroutine "), 3);
    EQ(count(" [chan receive"), 3);
    if (TICKS) {
        EQ(count("42858 coroutines, the first: "), 1);
        EQ(count("28572 coroutines, the first: "), 1);
        EQ(count("28570 coroutines, the first: "), 1);
        OK(strstr(text, "42858 coroutines") < strstr(text, "28572 coroutines"));
    }
    if (NAMES) {
        EQ(count("wait_one+"), 2);
        EQ(count("wait_two+"), 1);
        EQ(count("arch_entry+"), 4);
    }
    weft_chan_close(gate);
    while (weft_num_coroutines() > 1)
        weft_sleep(10 * MS);
    weft_chan_unref(gate);
}

static void many_private(void)
{
    many_body(0);
}

static void many_copied(void)
{
    many_body(1);
}

START_TEST(test_many)
{
    run(1, _i == 0 ? many_private : many_copied);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("dump");
    TCase *tc = tcase_create("dump");
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, test_each, 0, 2 * NPROCS);
    if (TICKS) { /* else hogs starve everybody */
        tcase_add_loop_test(tc, test_held, 0, NPROCS);
        tcase_add_test(tc, test_spin_thread);
        tcase_add_test(tc, test_spin_self);
        tcase_add_test(tc, test_spin_signal);
    }
    tcase_add_loop_test(tc, test_quit, 0, NPROCS);
    if (TICKS) /* TSan keeps signals back while a thread sleeps in a call that it does not know */
        tcase_add_test(tc, test_quit_blocked);
    tcase_add_loop_test(tc, test_many, 0, 2);
    suite_add_tcase(s, tc);
    return run_suite(s);
}
