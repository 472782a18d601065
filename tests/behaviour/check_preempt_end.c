/* SPDX-License-Identifier: MIT
 *
 * check_preempt_end.c: the end of a run whose coroutines do not end.
 *
 * A coroutine may be stopped in the middle of printf or malloc when main returns,
 * and then it holds a lock that the host needs. weft lets it run until it has
 * left library code. So the host, in a child process that an alarm would kill,
 * prints to the same stream, allocates, forks (which takes these locks in glibc)
 * and exits (which flushes the stream). */
#include "behaviour.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "preempt_test.h"

enum { HOGS = 8 };
static Hog hogs[HOGS];

/* ---- busy coroutines that never call weft ------------------------------------------------ */

static int hogs_main(void *arg)
{
    weft_attr_t attr = {.flags = *(unsigned *)arg};
    for (int i = 0; i < HOGS; i++) {
        hogs[i] = (Hog){0};
        EQ(weft_go_with(&attr, hog, &hogs[i]), 0);
    }
    for (int i = 0; i < HOGS; i++) {
        while (hogs[i].rounds == 0)
            weft_sleep(MS);
    }
    return 3;
}

static void abandon(int which, unsigned flags)
{
    uint64_t seen[HOGS];
    for (int round = 0; round < 3; round++) {
        weft_config_t cfg = {.procs = PROCS[which], .slice = 3 * MS};
        int64_t begin = weft_now();
        EQ(weft_run_with(&cfg, hogs_main, &flags), 3);
        int64_t took = weft_now() - begin;
        printf("abandon: %d procs: run of %lld ms\n", PROCS[which], (long long)(took / MS));
        OK(took < (strict() ? 1 : 5) * SEC);
        for (int i = 0; i < HOGS; i++)
            seen[i] = hogs[i].rounds;
        usleep(20000);
        for (int i = 0; i < HOGS; i++)
            EQ(hogs[i].rounds, seen[i]); /* nobody runs on */
        EQ(count_threads(), 1);
    }
}

START_TEST(abandoned)
{
    abandon(_i, 0);
}
END_TEST

START_TEST(abandoned_movable)
{
    abandon(_i, WEFT_MOVABLE);
}
END_TEST

START_TEST(abandoned_storm)
{
    storm("50");
    abandon(_i, _i == 1 ? WEFT_MOVABLE : 0);
}
END_TEST

static _Atomic bool disabled;

static void disabled_hog(void *arg)
{
    (void)arg;
    weft_preempt_disable();
    disabled = true;
    int64_t until = weft_now() + 300 * MS;
    while (weft_now() < until)
        ;
    weft_preempt_enable();
    for (;;)
        ;
}

static int disabled_main(void *arg)
{
    (void)arg;
    EQ(weft_go(disabled_hog, NULL), 0);
    while (!disabled)
        weft_sleep(MS);
    return 4;
}

/* One that may not be stopped now is waited for until it may. */
START_TEST(abandoned_disabled)
{
    weft_config_t cfg = {.procs = 2};
    EQ(weft_run_with(&cfg, disabled_main, NULL), 4);
    EQ(count_threads(), 1);
}
END_TEST

/* ---- coroutines inside the library ----------------------------------------------------------- */

static FILE *shared;
static int seed;

static void printer(void *arg)
{
    for (int n = 0;; n++)
        fprintf(shared, "coroutine %d prints line %d of very many: %s %g\n", (int)(intptr_t)arg, n,
                "a string", n * 0.5);
}

static void allocator(void *arg)
{
    unsigned s = (unsigned)(uintptr_t)arg;
    for (;;) {
        void *p[16];
        for (int i = 0; i < 16; i++) {
            s = s * 1664525 + 1013904223;
            p[i] = malloc(s >> 8 & (i == 0 ? 0x3ffff : 0xfff));
        }
        for (int i = 0; i < 16; i++)
            free(p[i]);
    }
}

static void dater(void *arg)
{
    char s[64];
    (void)arg;
    for (time_t t = 0;; t += 86399) {
        struct tm tm;
        localtime_r(&t, &tm);
        strftime(s, sizeof s, "%c", &tm);
        setenv("WEFT_TEST_DATE", s, 1);
    }
}

static void opener(void *arg)
{
    (void)arg;
    for (;;) {
        FILE *f = fopen("/dev/null", "w");
        if (f != NULL) {
            fputs("x", f);
            fclose(f);
        }
    }
}

static int library_main(void *arg)
{
    (void)arg;
    void (*const fns[])(void *) = {printer, allocator, dater, opener};
    for (intptr_t i = 0; i < HOGS; i++)
        EQ(weft_go(fns[i % 4], (void *)i), 0);
    weft_sleep(5 * MS + seed * 37 % 1000 * 11 * US);
    return 5;
}

static void use_library(void)
{
    for (size_t n = 1; n < 1 << 22; n *= 2)
        free(malloc(n));
    EQ(fprintf(shared, "the host prints\n"), 16);
    EQ(fflush(shared), 0);
    time_t t = 0;
    struct tm tm;
    OK(localtime_r(&t, &tm) != NULL);
    EQ(setenv("WEFT_TEST_HOST", "1", 1), 0);
    pid_t pid = fork();
    if (pid == 0) {
        free(malloc(1000));
        fprintf(shared, "so does its child\n");
        _exit(fflush(shared) == 0 ? 0 : 1);
    }
    int status;
    OK(pid > 0);
    EQ(waitpid(pid, &status, 0), pid);
    EQ(status, 0);
}

/* A host of several runs, which ends by exit(). */
static _Noreturn void host(int number)
{
    alarm(strict() ? 10 : 30); /* kills: a lock was left behind */
    shared = fopen("/dev/null", "w");
    OK(shared != NULL);
    for (int i = 0; i < 4; i++) {
        seed = number * 4 + i;
        weft_config_t cfg = {.procs = 1 + seed % 3};
        EQ(weft_run_with(&cfg, library_main, NULL), 5);
        use_library();
    }
    exit(23);
}

static void hosts(const char *preempt, int n)
{
    if (preempt != NULL)
        storm(preempt);
    for (int i = 0; i < n; i++) {
        int status;
        fflush(NULL);
        pid_t pid = fork();
        if (pid == 0)
            host(i);
        OK(pid > 0);
        EQ(waitpid(pid, &status, 0), pid);
        if (WIFSIGNALED(status))
            ck_abort_msg("host %d died of signal %d", i, WTERMSIG(status));
        EQ(WEXITSTATUS(status), 23);
    }
}

START_TEST(inside_library)
{
    hosts(NULL, 10);
}
END_TEST

START_TEST(inside_library_storm)
{
    hosts("50", 25);
}
END_TEST

/* ---- many short runs: start and end while ticks arrive --------------------------------------- */

static int short_main(void *arg)
{
    int i = *(int *)arg;
    for (int k = 0; k < i % 5; k++) {
        hogs[k] = (Hog){0};
        EQ(weft_go(hog, &hogs[k]), 0);
    }
    if (i % 3 == 0)
        burn_ms(0.1 * (i % 17));
    else
        weft_sleep(i % 13 * 100 * US);
    return i;
}

START_TEST(short_runs)
{
    storm(_i == 0 ? "50" : "200");
    for (int i = 0; i < 100; i++) {
        weft_config_t cfg = {.procs = 1 + i % 3};
        EQ(weft_run_with(&cfg, short_main, &i), i);
    }
    EQ(count_threads(), 1);
}
END_TEST

int main(void)
{
#ifdef WEFT_TSAN
    puts("skipped: with the thread sanitizer there is no preemption");
    return 77;
#endif
    Suite *s = suite_create("preempt_end");
    TCase *tc = tcase_create("preempt_end");
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, abandoned, 0, NPROCS);
    tcase_add_loop_test(tc, abandoned_movable, 0, NPROCS);
    tcase_add_loop_test(tc, abandoned_storm, 0, NPROCS);
    tcase_add_test(tc, abandoned_disabled);
    tcase_add_test(tc, inside_library);
    tcase_add_test(tc, inside_library_storm);
    tcase_add_loop_test(tc, short_runs, 0, 2);
    suite_add_tcase(s, tc);
    return run_suite(s);
}
