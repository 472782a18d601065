/* SPDX-License-Identifier: MIT
 *
 * check_preempt_libc.c: C library code in coroutines that are stopped all the
 * time: jumps, children, the loader, signal handlers and big stacks work as in
 * a plain program. Values that go wrong only rarely are for
 * tests/stress/stress_preempt.c. */
#include "company.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

/* ---- jumps, stacks ------------------------------------------------------------------------ */

static jmp_buf top;
static sigjmp_buf top_mask;

static volatile bool never;

static __attribute__((noinline)) int dig(int depth, int value)
{
    volatile int pad[64];
    for (int i = 0; i < 64; i++)
        pad[i] = value + i;
    if (never)
        return 0;
    if (depth == 0)
        longjmp(top, value);
    int r = dig(depth - 1, value) + 1;
    return r + pad[value % 64];
}

static void jumps_body(void)
{
    volatile int caught = 0;
    for (volatile int i = 1; i < 3000; i++) {
        int v = setjmp(top);
        if (v == 0)
            dig(i % 40, i);
        EQ(v, i);
        caught++;
        if (sigsetjmp(top_mask, 1) == 0)
            siglongjmp(top_mask, i);
        if (i % 100 == 0)
            weft_yield();
    }
    EQ(caught, 2999);
}

START_TEST(jumps)
{
    storm_run(_i, jumps_body);
}
END_TEST

/* The stack grows by faults, on the alternate stack where the ticks arrive too. */
static __attribute__((noinline)) unsigned deep(unsigned n)
{
    volatile unsigned char pad[3000];
    memset((void *)pad, (int)(n & 0xff), sizeof pad);
    unsigned r = n == 0 ? 0 : deep(n - 1) + 1;
    for (size_t i = 0; i < sizeof pad; i += 499)
        OK(pad[i] == (n & 0xff));
    return r;
}

#ifdef WEFT_ASAN
enum { DEPTH = 50 }; /* its default stacks are small */
#else
enum { DEPTH = 3000 }; /* 9 MiB */
#endif

static void digger(void *arg)
{
    EQ(deep(DEPTH), DEPTH);
    weft_wg_done(arg);
}

static void growth_body(void)
{
    weft_wg_t wg = {0};
    for (int round = 0; round < 5; round++) {
        EQ(weft_wg_add(&wg, 4), 0);
        for (int i = 0; i < 4; i++)
            go(digger, &wg);
        EQ(weft_wg_wait(&wg), 0);
    }
}

START_TEST(growth)
{
    storm_run(_i, growth_body);
}
END_TEST

/* ---- the loader ------------------------------------------------------------------------------ */

static int count_object(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)info, (void)size;
    ++*(int *)arg;
    return 0;
}

static void loader(void *arg)
{
    static const char *const libs[] = {"libresolv.so.2", "libnsl.so.1", "libBrokenLocale.so.1",
                                       "libthread_db.so.1"};
    for (int i = 0; i < 150; i++) {
        int objects = 0;
        void *h = dlopen(libs[i % 4], RTLD_NOW | RTLD_LOCAL);
        if (h != NULL) {
            OK(dlsym(h, "no_such_symbol") == NULL);
            OK(dlerror() != NULL);
        }
        dl_iterate_phdr(count_object, &objects);
        OK(objects > 1);
        OK(dlsym(RTLD_DEFAULT, "malloc") != NULL);
        if (h != NULL)
            EQ(dlclose(h), 0);
    }
    weft_wg_done(arg);
}

static void loader_body(void)
{
    weft_wg_t wg = {0};
    EQ(weft_wg_add(&wg, 3), 0);
    for (int i = 0; i < 3; i++)
        go(loader, &wg);
    EQ(weft_wg_wait(&wg), 0);
}

START_TEST(loading)
{
    storm_run(_i, loader_body);
}
END_TEST

/* ---- children -------------------------------------------------------------------------------- */

static void reap(pid_t pid, int want)
{
    int status = 0;
    OK(pid > 0);
    EQ(waitpid(pid, &status, 0), pid); /* restarted, were it interrupted */
    OK(WIFEXITED(status));
    EQ(WEXITSTATUS(status), want);
}

/* No tick in the child: a sleep there is a whole one; weft calls refuse. */
static _Noreturn void forked_child(void)
{
    struct timespec ts = {0, 30000000};
    burn_ms(10);
    if (nanosleep(&ts, NULL) != 0)
        _exit(3);
    if (weft_go(hog, NULL) != -ENOSYS)
        _exit(4);
    _exit(17);
}

static void fork_body(void)
{
    for (volatile int i = 0; i < 15; i++) {
        burn_ms(0.2 * (i % 5));
        pid_t pid = fork();
        if (pid == 0)
            forked_child();
        reap(pid, 17);
        pid = fork();
        if (pid == 0) {
            execl("/bin/sh", "sh", "-c", "exit 5", (char *)NULL);
            _exit(127);
        }
        reap(pid, 5);
        pid = vfork();
        if (pid == 0) {
            execl("/bin/sh", "sh", "-c", "exit 6", (char *)NULL);
            _exit(127);
        }
        reap(pid, 6);
    }
}

START_TEST(forks)
{
    storm_run(_i, fork_body);
}
END_TEST

static void spawn_body(void)
{
    char line[64];
    for (int i = 0; i < 15; i++) {
        char *argv[] = {"sh", "-c", "exit 8", NULL};
        pid_t pid = 0;
        EQ(posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ), 0);
        reap(pid, 8);
        int status = system("exit 9");
        OK(WIFEXITED(status));
        EQ(WEXITSTATUS(status), 9);
        FILE *f = popen("echo hello", "r");
        OK(f != NULL);
        OK(fgets(line, sizeof line, f) != NULL);
        EQ(strcmp(line, "hello\n"), 0);
        EQ(pclose(f), 0);
    }
}

START_TEST(spawns)
{
    storm_run(_i, spawn_body);
}
END_TEST

/* A program started by exec handles and ignores the signal no more than by birth. */
static void exec_body(void)
{
    char line[256], what[32] = "?";
    pid_t pid;
    int out[2];
    EQ(pipe(out), 0);
    pid = fork();
    if (pid == 0) {
        dup2(out[1], 1);
        execl("/bin/grep", "grep", "Sig[BIC]", "/proc/self/status", (char *)NULL);
        _exit(127);
    }
    close(out[1]);
    FILE *f = fdopen(out[0], "r");
    OK(f != NULL);
    while (fgets(line, sizeof line, f) != NULL) {
        unsigned long long bits = 0;
        EQ(sscanf(line, "%31[^:]: %llx", what, &bits), 2);
        if (strcmp(what, "SigCgt") == 0 || strcmp(what, "SigIgn") == 0)
            EQ(bits >> (SIGURG - 1) & 1, 0);
    }
    fclose(f);
    reap(pid, 0);
}

START_TEST(execs)
{
    storm_run(_i, exec_body);
}
END_TEST

/* ---- other signals of the program -------------------------------------------------------- */

static _Atomic int alarms, alarm_moved, alarm_nested;

/* Long enough to be interrupted itself. It must stay on its thread for all its
 * life, whatever it interrupted, and not run inside itself there. */
static void on_alarm(int sig)
{
    static __thread volatile int depth;
    int e = errno, tid = gettid();
    (void)sig;
    alarm_nested += depth != 0;
    depth = 1;
    for (volatile int i = 0; i < 20000; i++)
        ;
    depth = 0;
    errno = EDOM;
    alarm_moved += gettid() != tid;
    alarms++;
    errno = e;
}

static uint64_t lcg(int n)
{
    uint64_t x = 1;
    for (int k = 0; k < n; k++)
        x = x * 6364136223846793005u + 1442695040888963407u;
    return x;
}

static void compute_with_alarms(void *arg)
{
    volatile int n = 300000;
    for (int i = 0; i < 60; i++) {
        errno = 4242;
        uint64_t x = lcg(n), y = lcg(n);
        OK(x == y);
        EQ(errno, 4242);
        weft_yield();
    }
    weft_wg_done(arg);
}

static void alarms_body(void)
{
    struct itimerval it = {{0, 1000}, {0, 1000}}, off = {0};
    struct sigaction sa = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    weft_wg_t wg = {0};
    EQ(sigaction(SIGALRM, &sa, NULL), 0);
    EQ(setitimer(ITIMER_REAL, &it, NULL), 0);
    EQ(weft_wg_add(&wg, 4), 0);
    for (int i = 0; i < 4; i++)
        go(compute_with_alarms, &wg);
    EQ(weft_wg_wait(&wg), 0);
    EQ(setitimer(ITIMER_REAL, &off, NULL), 0);
    weft_sleep(20 * MS);
    printf("alarms: %d handled, %d on another thread at the end, %d nested\n", alarms, alarm_moved,
           alarm_nested);
    OK(alarms > 5);
    EQ(alarm_moved, 0);
    EQ(alarm_nested, 0);
}

START_TEST(user_handler)
{
    storm_run(_i, alarms_body);
}
END_TEST

/* The hogs beside it may be moved: not out of a handler. */
static void movable_company(void)
{
    company_comes(WEFT_MOVABLE);
    alarms_body();
    company_goes();
}

START_TEST(user_handler_movable)
{
    storm("200");
    run(_i, movable_company);
}
END_TEST

/* A coroutine that blocks all signals for a while is merely not stopped then. */
static void masked_body(void)
{
    sigset_t all, old, now;
    for (int i = 0; i < 30; i++) {
        sigfillset(&all);
        EQ(pthread_sigmask(SIG_SETMASK, &all, &old), 0);
        burn_ms(2);
        EQ(pthread_sigmask(SIG_SETMASK, &old, NULL), 0);
        EQ(pthread_sigmask(SIG_SETMASK, NULL, &now), 0);
        for (int s = 1; s < 32; s++)
            EQ(sigismember(&old, s), sigismember(&now, s));
        weft_sleep(200 * US);
    }
}

START_TEST(masked)
{
    storm_run(_i, masked_body);
}
END_TEST

/* Who is not movable keeps its thread from one weft call to the next. */
static void stays_body(void)
{
    for (int i = 0; i < 200; i++) {
        int tid = gettid();
        pthread_t self = pthread_self();
        burn_ms(1);
        EQ(gettid(), tid);
        OK(pthread_equal(pthread_self(), self));
        weft_sleep(100 * US);
    }
}

START_TEST(stays)
{
    storm_run(_i, stays_body);
}
END_TEST

int main(void)
{
#ifdef WEFT_TSAN
    puts("skipped: with the thread sanitizer there is no preemption");
    return 77;
#endif
    Suite *s = suite_create("preempt_libc");
    TCase *tc = tcase_create("preempt_libc");
    tcase_add_loop_test(tc, jumps, 0, NPROCS);
    tcase_add_loop_test(tc, growth, 0, NPROCS);
    tcase_add_loop_test(tc, loading, 0, NPROCS);
    tcase_add_loop_test(tc, forks, 0, NPROCS);
    tcase_add_loop_test(tc, spawns, 0, NPROCS);
    tcase_add_loop_test(tc, execs, 0, NPROCS);
    tcase_add_loop_test(tc, user_handler, 0, NPROCS);
    tcase_add_loop_test(tc, user_handler_movable, 0, NPROCS);
    tcase_add_loop_test(tc, masked, 0, NPROCS);
    tcase_add_loop_test(tc, stays, 0, NPROCS);
    suite_add_tcase(s, tc);
    return run_suite(s);
}
