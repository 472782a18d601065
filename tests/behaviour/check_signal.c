/* SPDX-License-Identifier: MIT
 *
 * check_signal.c: signals to channels. What a test answers to in Go's own tests is named at it. */
#include "hogs.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static weft_chan_t *ints(size_t room)
{
    weft_chan_t *c = weft_chan_make(sizeof(int), room);
    OK(c != NULL);
    return c;
}

static int next(weft_chan_t *c)
{
    int signo = 0;
    EQ(weft_recv(c, &signo), 1);
    return signo;
}

static void send_self(int signo)
{
    EQ(kill(getpid(), signo), 0);
}

/* The program's own handler. */
static _Atomic int handled;

static void handler(int signo)
{
    (void)signo;
    handled++;
}

static void handle(int signo)
{
    struct sigaction sa = {.sa_handler = handler};
    handled = 0;
    EQ(sigaction(signo, &sa, NULL), 0);
}

static bool is_handled_by(int signo, void (*fn)(int))
{
    struct sigaction sa;
    EQ(sigaction(signo, NULL, &sa), 0);
    return sa.sa_handler == fn;
}

static void until_handled(int n)
{
    int64_t late = weft_now() + 10 * SEC;
    while (handled < n) {
        OK(weft_now() < late);
        weft_sleep(MS);
    }
}

/* ---- who gets what ------------------------------------------------------------------ */

static void basics_body(void)
{
    weft_chan_t *a = ints(4), *b = ints(4), *one = ints(1);
    EQ(weft_signal_notify(a, SIGUSR1), 0);
    EQ(weft_signal_notify(a, SIGUSR1), 0); /* once is enough */
    for (int i = 0; i < 20; i++) {
        send_self(SIGUSR1);
        EQ(next(a), SIGUSR1);
        EQ(weft_chan_len(a), 0);
    }
    EQ(weft_signal_notify(b, SIGUSR1), 0);
    EQ(weft_signal_notify(b, SIGUSR2), 0);
    EQ(weft_signal_notify(b, SIGRTMIN + 3), 0);
    send_self(SIGUSR1);
    EQ(next(a), SIGUSR1);
    EQ(next(b), SIGUSR1);
    send_self(SIGUSR2);
    EQ(next(b), SIGUSR2);
    send_self(SIGRTMIN + 3);
    EQ(next(b), SIGRTMIN + 3);
    EQ(weft_chan_len(a), 0);

    EQ(weft_signal_stop(a), 0);
    EQ(weft_signal_stop(a), 0);
    send_self(SIGUSR1);
    EQ(next(b), SIGUSR1);
    EQ(weft_chan_len(a), 0);
    EQ(weft_num_coroutines(), 1);

    /* Full: dropped, and nobody waits. */
    EQ(weft_signal_notify(one, SIGUSR2), 0);
    for (int i = 0; i < 5; i++) {
        send_self(SIGUSR2);
        EQ(next(b), SIGUSR2);
    }
    send_self(SIGUSR1);
    EQ(next(b), SIGUSR1); /* all before has been dealt with */
    EQ(weft_chan_len(one), 1);
    EQ(next(one), SIGUSR2);
    EQ(weft_signal_stop(one), 0);
    EQ(weft_signal_stop(b), 0);
    weft_chan_unref(a);
    weft_chan_unref(b);
    weft_chan_unref(one);
}

START_TEST(basics)
{
    run(_i, basics_body);
}
END_TEST

static void refused_body(void)
{
    static const int no[] = {SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP,
                             SIGSYS,  SIGURG,  0,       -1,     65,     32,     1000};
    weft_chan_t *c = ints(1), *wrong = weft_chan_make(8, 1);
    for (size_t i = 0; i < sizeof no / sizeof no[0]; i++)
        EQ(weft_signal_notify(c, no[i]), -EINVAL);
    EQ(weft_signal_notify(wrong, SIGUSR1), -EINVAL);
    EQ(weft_signal_notify(NULL, SIGUSR1), -EINVAL);
    EQ(weft_signal_stop(NULL), -EINVAL);
    EQ(weft_signal_stop(c), 0);
    OK(is_handled_by(SIGUSR1, SIG_DFL));
    weft_chan_unref(c);
    weft_chan_unref(wrong);
}

START_TEST(refused)
{
    run(_i, refused_body);
    weft_chan_t *c = ints(1);
    EQ(weft_signal_notify(c, SIGUSR1), -EPERM);
    EQ(weft_signal_stop(c), 0);
    weft_chan_unref(c);
}
END_TEST

/* Only the listeners have it, until the last has stopped; a reference is kept as long. */
static void restored_body(void)
{
    weft_chan_t *a = ints(1), *b = ints(1);
    EQ(weft_signal_notify(a, SIGUSR1), 0);
    EQ(weft_signal_notify(b, SIGUSR1), 0);
    weft_chan_t *kept = a;
    weft_chan_unref(a);
    send_self(SIGUSR1);
    EQ(next(kept), SIGUSR1);
    EQ(next(b), SIGUSR1);
    EQ(weft_signal_stop(kept), 0);
    OK(!is_handled_by(SIGUSR1, handler));
    EQ(weft_signal_stop(b), 0);
    OK(is_handled_by(SIGUSR1, handler));
    EQ(handled, 0);
    send_self(SIGUSR1);
    until_handled(1);
    EQ(weft_chan_len(b), 0);
    EQ(weft_signal_notify(b, SIGUSR1), 0); /* again */
    send_self(SIGUSR1);
    EQ(next(b), SIGUSR1);
    EQ(weft_chan_close(b), 0);
    send_self(SIGUSR1); /* nobody minds */
    weft_sleep(MS);
    EQ(weft_signal_stop(b), 0);
    EQ(handled, 1);
    weft_chan_unref(b);
}

START_TEST(restored)
{
    handle(SIGUSR1);
    run(_i, restored_body);
}
END_TEST

/* The end of a run ends it all. */
static weft_chan_t *outliving;

static void left_listening_body(void)
{
    EQ(weft_signal_notify(outliving, SIGUSR1), 0);
    send_self(SIGUSR1);
    EQ(next(outliving), SIGUSR1);
    send_self(SIGUSR1); /* perhaps not even delivered */
}

static void nobody_listens_body(void)
{
    send_self(SIGUSR1);
    until_handled(2);
}

START_TEST(ends)
{
    outliving = ints(1);
    handle(SIGUSR1);
    run(_i, left_listening_body);
    OK(is_handled_by(SIGUSR1, handler));
    int before = handled; /* the last one may have come late */
    OK(before <= 1);
    handled = 1;
    int n = 0;
    while (weft_try_recv(outliving, &n) == 1)
        ;
    send_self(SIGUSR1);
    EQ(handled, 2);
    handled = 1;
    run(_i, nobody_listens_body);
    EQ(weft_chan_len(outliving), 0);
    run(_i, left_listening_body);
    weft_chan_unref(outliving);
}
END_TEST

/* ---- wherever the threads are --------------------------------------------------------------- */

/* Another process sends n of them, each when it is asked to. A thread of ours would keep the
 * runtime from finding deadlocks, and could be hit itself. */
static int ask[2];
static pid_t sender;

static void start_sender(int signo)
{
    pid_t us = getpid();
    EQ(pipe2(ask, O_CLOEXEC), 0);
    sender = fork();
    if (sender == 0) {
        char c;
        close(ask[1]);
        while (read(ask[0], &c, 1) == 1) {
            usleep(30000);
            kill(us, signo);
        }
        _exit(0);
    }
    OK(sender > 0);
    close(ask[0]);
}

static void ask_sender(void)
{
    EQ(write(ask[1], "", 1), 1);
}

static void end_sender(void)
{
    int status;
    close(ask[1]);
    EQ(waitpid(sender, &status, 0), sender);
    EQ(status, 0);
}

/* All threads asleep: that is no deadlock. Go: issue 21576. */
static void idle_body(void)
{
    weft_chan_t *c = ints(1);
    EQ(weft_signal_notify(c, SIGUSR1), 0);
    for (int i = 0; i < 5; i++) {
        ask_sender();
        EQ(next(c), SIGUSR1);
    }
    EQ(weft_signal_stop(c), 0);
    weft_chan_unref(c);
}

START_TEST(all_idle)
{
    start_sender(SIGUSR1);
    run(_i, idle_body);
    end_sender();
}
END_TEST

/* All processors busy, the thread of main computing or held. */
static void busy_body(void)
{
    weft_chan_t *c = ints(1);
    int64_t worst = 0;
    EQ(weft_signal_notify(c, SIGUSR1), 0);
    start_hogs(6, 0);
    for (int i = 0; i < 20; i++) {
        wait_progress(2);
        int64_t begin = weft_now();
        send_self(SIGUSR1);
        EQ(next(c), SIGUSR1);
        if (weft_now() - begin > worst)
            worst = weft_now() - begin;
    }
    stop_hogs();
    printf("signal beside hogs: at most %lld us\n", (long long)(worst / US));
    OK(worst < (strict() ? 100 * MS : 10 * SEC)); /* the hogs never end */
    EQ(weft_signal_stop(c), 0);
    weft_chan_unref(c);
}

START_TEST(all_busy)
{
#ifdef WEFT_TSAN
    return; /* no preemption */
#endif
    run(_i, busy_body);
}
END_TEST

START_TEST(storm_busy)
{
#ifdef WEFT_TSAN
    return;
#endif
    storm("200");
    run(_i, busy_body);
}
END_TEST

/* The thread of main in the kernel, in a call that it has not declared, or in one that it has. */
static void in_kernel_body(void)
{
    weft_chan_t *c = ints(1);
    EQ(weft_signal_notify(c, SIGUSR1), 0);
    for (int i = 0; i < 6; i++) {
        ask_sender();
        if (i % 2)
            weft_syscall_enter();
        int64_t end = weft_now() + 60 * MS;
        while (weft_now() < end)
            usleep(10000);
        if (i % 2)
            weft_syscall_exit();
        EQ(next(c), SIGUSR1);
    }
    EQ(weft_signal_stop(c), 0);
    weft_chan_unref(c);
}

START_TEST(in_kernel)
{
    start_sender(SIGUSR1);
    run(_i, in_kernel_body);
    end_sender();
}
END_TEST

/* Only another thread of the program takes it. */
static void *take_signals(void *arg)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    while (!*(_Atomic bool *)arg)
        usleep(1000);
    return NULL;
}

static void by_thread_body(void)
{
    _Atomic bool over = false;
    weft_chan_t *c = ints(1);
    pthread_t t;
    EQ(pthread_create(&t, NULL, take_signals, &over), 0);
    EQ(weft_signal_notify(c, SIGUSR1), 0);
    for (int i = 0; i < 20; i++) {
        send_self(SIGUSR1);
        EQ(next(c), SIGUSR1);
    }
    over = true;
    pthread_join(t, NULL);
    EQ(weft_signal_stop(c), 0);
    weft_chan_unref(c);
}

START_TEST(by_thread)
{
    sigset_t set, before;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, &before);
    run(_i, by_thread_body);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}
END_TEST

/* Threads that are not weft's ask and listen, too. */
static void *foreign_listener(void *arg)
{
    weft_chan_t *c = arg;
    EQ(weft_signal_notify(c, SIGUSR2), 0);
    for (int i = 0; i < 10; i++) {
        send_self(SIGUSR2);
        EQ(next(c), SIGUSR2);
    }
    EQ(weft_signal_stop(c), 0);
    weft_send(c, &(int){-1});
    return NULL;
}

static void foreign_body(void)
{
    weft_chan_t *c = ints(1);
    pthread_t t;
    EQ(pthread_create(&t, NULL, foreign_listener, c), 0);
    pthread_join(t, NULL);
    EQ(next(c), -1);
    weft_chan_unref(c);
}

START_TEST(foreign)
{
    run(_i, foreign_body);
}
END_TEST

/* ---- none lost, none twice -------------------------------------------------------------------- */

/* Go: TestAtomicStop. A signal that races with the stop goes to the channel or to what was there
 * before. */
enum { TRIES = 300 };

static void stop_it(void *arg)
{
    EQ(weft_signal_stop(arg), 0);
}

static void atomic_stop_body(void)
{
    int to_channel = 0;
    for (int i = 0; i < TRIES; i++) {
        weft_chan_t *c = ints(10);
        weft_wg_t group = {0};
        int got = 0, signo;
        handled = 0;
        EQ(weft_signal_notify(c, SIGUSR1), 0);
        EQ(weft_wg_go(&group, stop_it, c), 0);
        if (i % 3 == 0)
            weft_yield();
        else if (i % 3 == 1)
            burn_ms(0.002 * (i % 17));
        send_self(SIGUSR1);
        EQ(weft_wg_wait(&group), 0);
        size_t len = weft_chan_len(c); /* all that there will ever be */
        while (weft_try_recv(c, &signo) == 1)
            got++;
        EQ(got, len);
        OK(got <= 1);
        to_channel += got;
        until_handled(1 - got);
        EQ(got + handled, 1);
        EQ(weft_chan_len(c), 0);
        weft_chan_unref(c);
    }
    printf("%d of %d signals went to the channel\n", to_channel, TRIES);
}

START_TEST(atomic_stop)
{
    handle(SIGUSR1);
    run(_i, atomic_stop_body);
}
END_TEST

/* Go: TestStress. */
static _Atomic bool stress_over;
static _Atomic long stress_got;

static void come_and_go(void *arg)
{
    (void)arg;
    while (!stress_over) {
        weft_chan_t *c = ints(1);
        EQ(weft_signal_notify(c, SIGWINCH), 0);
        if (weft_id() % 2)
            weft_yield();
        else
            weft_sleep(50 * US);
        stress_got += weft_try_recv(c, NULL) == 1;
        EQ(weft_signal_stop(c), 0);
        weft_chan_unref(c);
    }
}

static void send_many(void *arg)
{
    (void)arg;
    while (!stress_over) {
        send_self(SIGWINCH);
        weft_yield();
    }
}

static void stress_body(void)
{
    weft_wg_t group = {0};
    stress_over = false;
    stress_got = 0;
    for (int i = 0; i < 4; i++)
        EQ(weft_wg_go(&group, come_and_go, NULL), 0);
    EQ(weft_wg_go(&group, send_many, NULL), 0);
    weft_sleep(200 * MS);
    while (stress_got == 0)
        weft_sleep(MS);
    stress_over = true;
    EQ(weft_wg_wait(&group), 0);
    OK(is_handled_by(SIGWINCH, SIG_DFL));
}

START_TEST(stress)
{
    run(_i, stress_body);
}
END_TEST

/* Go: TestEINTR. Signals all the time, to the thread of main too: no call of weft's says so. */
static void write_slowly(void *arg)
{
    for (int i = 0; i < 50; i++) {
        weft_sleep(MS);
        EQ(weft_write(*(int *)arg, "x", 1), 1);
    }
}

static void eintr_body(void)
{
    weft_chan_t *c = ints(1);
    weft_wg_t group = {0};
    int p[2], status, zero = open("/dev/zero", O_RDONLY), self = open("/proc/self/stat", O_RDONLY);
    char buf[64];
    EQ(pipe(p), 0);
    stress_over = false;
    EQ(weft_signal_notify(c, SIGWINCH), 0);
    EQ(weft_wg_go(&group, send_many, NULL), 0);
    go(write_slowly, &p[1]);
    pid_t child = fork();
    if (child == 0) {
        usleep(50000);
        _exit(3);
    }
    for (int i = 0; i < 50; i++) {
        EQ(weft_read(p[0], buf, 1), 1);
        EQ(weft_read(zero, buf, sizeof buf), sizeof buf);
        EQ(weft_pread(self, buf, 8, 0), 8);
        int64_t begin = weft_now();
        EQ(weft_sleep(100 * US), 0);
        OK(weft_now() >= begin + 100 * US);
    }
    EQ(weft_waitpid(child, &status, 0), child);
    child = fork();
    if (child == 0) {
        usleep(20000);
        _exit(3);
    }
    EQ(weft_waitpid(-1, &status, 0), child);
    EQ(WEXITSTATUS(status), 3);
    stress_over = true;
    EQ(weft_wg_wait(&group), 0);
    EQ(weft_signal_stop(c), 0);
    weft_chan_unref(c);
    EQ(weft_close(p[0]), 0);
    EQ(weft_close(p[1]), 0);
    EQ(weft_close(zero), 0);
    EQ(weft_close(self), 0);
}

START_TEST(no_eintr)
{
    run(_i, eintr_body);
}
END_TEST

/* ---- fork -------------------------------------------------------------------------------------- */

/* A child is ended by SIGTERM whatever its parent does about it, and tells the parent nothing. */
static void fork_term(void *arg)
{
    weft_chan_t *c = arg;
    int status, ready[2];
    char x;
    EQ(pipe2(ready, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        if (weft_signal_notify(c, SIGUSR1) == -ENOSYS)
            (void)!write(ready[1], "", 1);
        for (;;)
            usleep(1000000);
    }
    EQ(read(ready[0], &x, 1), 1);
    EQ(kill(pid, SIGTERM), 0);
    EQ(weft_waitpid(pid, &status, 0), pid);
    OK(WIFSIGNALED(status));
    EQ(WTERMSIG(status), SIGTERM);
    close(ready[0]);
    close(ready[1]);
}

static void fork_body(void)
{
    weft_chan_t *c = ints(1);
    weft_wg_t group = {0};
    EQ(weft_signal_notify(c, SIGTERM), 0);
    for (int i = 0; i < 6; i++)
        EQ(weft_wg_go(&group, fork_term, c), 0);
    fork_term(c);
    EQ(weft_wg_wait(&group), 0);
    EQ(weft_chan_len(c), 0);
    send_self(SIGTERM);
    EQ(next(c), SIGTERM);
    EQ(weft_signal_stop(c), 0);
    weft_chan_unref(c);
}

START_TEST(forked)
{
    signal(SIGTERM, SIG_DFL); /* Check has a handler that ends its whole process group */
    run(_i, fork_body);
}
END_TEST

int main(void)
{
#ifdef WEFT_TSAN
    puts("skipped: the thread sanitizer delivers signals when the thread calls it next, asleep or "
         "not");
    return 77;
#endif
    Suite *s = suite_create("signal");
    TCase *tc = tcase_create("signal");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, basics, 0, NPROCS);
    tcase_add_loop_test(tc, refused, 0, NPROCS);
    tcase_add_loop_test(tc, restored, 0, NPROCS);
    tcase_add_loop_test(tc, ends, 0, NPROCS);
    tcase_add_loop_test(tc, all_idle, 0, NPROCS);
    tcase_add_loop_test(tc, all_busy, 0, NPROCS);
    tcase_add_loop_test(tc, storm_busy, 0, NPROCS);
    tcase_add_loop_test(tc, in_kernel, 0, NPROCS);
    tcase_add_loop_test(tc, by_thread, 0, NPROCS);
    tcase_add_loop_test(tc, foreign, 0, NPROCS);
    tcase_add_loop_test(tc, atomic_stop, 0, NPROCS);
    tcase_add_loop_test(tc, stress, 0, NPROCS);
    tcase_add_loop_test(tc, no_eintr, 0, NPROCS);
    tcase_add_loop_test(tc, forked, 0, NPROCS);
    suite_add_tcase(s, tc);
    return run_suite(s);
}
