/* SPDX-License-Identifier: MIT
 *
 * check_preempt.c: no coroutine can hold a processor, unless it says so by
 * weft_preempt_disable().
 *
 * check_preempt_set.c has the settings and the host's signals, check_pin.c
 * weft_thread_lock(), check_preempt_libc.c what C library code makes of it,
 * check_preempt_end.c how a run ends. */
#include "hogs.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- a busy loop starves nobody ------------------------------------------------------- */

static void sleeper_body(void)
{
    int64_t late[50];
    int n = weft_procs(0);
    start_hogs(2 * n, 0);
    for (int i = 0; i < 50; i++) {
        int64_t due = weft_now() + MS;
        EQ(weft_sleep_until(due), 0);
        late[i] = weft_now() - due;
        OK(late[i] < (strict() ? 20 : 500) * MS);
    }
    stop_hogs();
    printf("sleeper: %d procs, %d hogs: late by p50 %lld us, max %lld us\n", n, 2 * n,
           (long long)quantile(late, 50, 500) / 1000, (long long)quantile(late, 50, 1000) / 1000);
}

START_TEST(sleeper)
{
    run(_i, sleeper_body);
}
END_TEST

static void progress_body(void)
{
    int n = 3 * weft_procs(0) + 1;
    start_hogs(n, 0);
    wait_progress(n);
    wait_progress(n);
    stop_hogs();
}

START_TEST(progress)
{
    run(_i, progress_body);
}
END_TEST

/* Beside ones that may be moved, which are stopped in another way. */
static void mixed_body(void)
{
    start_hogs(6, WEFT_MOVABLE);
    EQ(weft_wg_add(&wg, 2), 0);
    for (int i = 6; i < 8; i++) {
        hogs[i] = (Hog){.stop = &stop, .wg = &wg};
        go(hog, &hogs[i]);
    }
    for (int i = 0; i < 3; i++)
        wait_progress(8);
    print_preemptions("mixed");
    weft_stats_t st;
    EQ(weft_stats(&st), 0);
#ifndef WEFT_ASAN /* its calls in every function are not proved harmless */
    OK(st.preempt_moved > 0);
#endif
    stop_hogs();
}

START_TEST(mixed)
{
    run(_i, mixed_body);
}
END_TEST

/* A coroutine that never parks also must not keep what comes by network from being seen. */
static int ends[2];

static void pipe_reader(void *arg)
{
    char c;
    for (int i = 0; i < 20; i++) {
        EQ(weft_read(ends[0], &c, 1), 1);
        EQ(c, i);
        *(_Atomic int *)arg = i + 1;
    }
    weft_wg_done(&wg);
}

static void *pipe_writer(void *arg)
{
    for (char c = 0; c < 20; c++) {
        EQ(write(ends[1], &c, 1), 1);
        while (*(_Atomic int *)arg <= c)
            usleep(200);
    }
    return NULL;
}

static void pipe_body(void)
{
    _Atomic int got = 0;
    pthread_t t;
    EQ(pipe(ends), 0);
    start_hogs(2 * weft_procs(0), 0);
    EQ(weft_wg_add(&wg, 1), 0);
    go(pipe_reader, &got);
    EQ(pthread_create(&t, NULL, pipe_writer, &got), 0);
    while (got < 20)
        weft_sleep(5 * MS);
    stop_hogs();
    EQ(pthread_join(t, NULL), 0);
    weft_close(ends[0]);
    weft_close(ends[1]);
}

START_TEST(pipe_beside_hogs)
{
    run(_i, pipe_body);
}
END_TEST

/* Hogs keep running, and keep being stopped, while the number of processors changes. */
static void procs_body(void)
{
    start_hogs(8, 0);
    for (int i = 0; i < 40; i++) {
        OK(weft_procs(1 + i % 4) > 0);
        weft_sleep(5 * MS);
    }
    wait_progress(8);
    stop_hogs();
}

START_TEST(procs_change)
{
    storm("200");
    run(_i, procs_body);
}
END_TEST

/* Each gets its share: between half and twice the mean. */
enum { SHARERS = 24 };

static void fair_body(void)
{
    uint64_t begin[SHARERS], sum = 0, lo = UINT64_MAX, hi = 0;
    start_hogs(SHARERS, 0);
    wait_progress(SHARERS);
    for (int i = 0; i < SHARERS; i++)
        begin[i] = hogs[i].rounds;
    weft_sleep((strict() ? 10 : 3) * SEC);
    for (int i = 0; i < SHARERS; i++) {
        uint64_t n = hogs[i].rounds - begin[i];
        sum += n;
        lo = n < lo ? n : lo;
        hi = n > hi ? n : hi;
    }
    stop_hogs();
    double mean = (double)sum / SHARERS;
    printf("fair: %.2f .. %.2f of a share\n", (double)lo / mean, (double)hi / mean);
    OK((double)lo >= mean * (strict() ? 0.5 : 0.25));
    OK((double)hi <= mean * (strict() ? 2 : 3));
}

START_TEST(fair)
{
    weft_config_t cfg = {.procs = 2, .slice = 2 * MS};
    void (*body)(void) = fair_body;
    EQ(weft_run_with(&cfg, run_entry, &body), 7);
}
END_TEST

/* ---- preempt_disable ---------------------------------------------------------------- */

static _Atomic int others;

static void other(void *arg)
{
    (void)arg;
    others++;
}

/* With one processor nobody else runs in between, with enable somebody soon does. */
static void disable_body(void)
{
    for (int i = 0; i < 5; i++) {
        others = 0;
        weft_preempt_disable();
        weft_preempt_disable();
        go(other, NULL);
        burn_ms(60);
        EQ(others, 0);
        weft_preempt_enable(); /* still once */
        burn_ms(60);
        EQ(others, 0);
        go(other, NULL); /* a call that does not park is allowed */
        EQ(others, 0);
        weft_preempt_enable();
        for (int64_t late = weft_now() + 5 * SEC; others < 2;)
            OK(weft_now() < late);
    }
}

START_TEST(disable)
{
    storm("200");
    run(0, disable_body);
}
END_TEST

START_TEST(disable_slice)
{
    run(0, disable_body);
}
END_TEST

/* It belongs to the coroutine: those beside one that disabled are stopped all the same. */
static _Atomic bool release;

static void holder(void *arg)
{
    (void)arg;
    weft_preempt_disable();
    while (!release)
        ;
    weft_preempt_enable();
    weft_wg_done(&wg);
}

static void disable_own_body(void)
{
    release = false;
    EQ(weft_wg_add(&wg, 1), 0);
    go(holder, NULL);
    start_hogs(3, 0);
    wait_progress(3);
    release = true;
    stop_hogs();
}

START_TEST(disable_own)
{
    run(1, disable_own_body);
}
END_TEST

/* ---- seeing inside -------------------------------------------------------------------- */

/* A dump while coroutines are held in their handlers names every one of them. */
static void dump_body(void)
{
    char line[512];
    int seen = 0;
    start_hogs(5, 0);
    wait_progress(5);
    FILE *f = tmpfile();
    OK(f != NULL);
    EQ(weft_dump(fileno(f)), 0);
    rewind(f);
    while (fgets(line, sizeof line, f) != NULL)
        seen += strstr(line, "\"hog\"") != NULL;
    fclose(f);
    EQ(seen, 5);
    EQ(weft_num_coroutines(), 6);
    stop_hogs();
}

START_TEST(dump)
{
    storm("200");
    run(_i, dump_body);
}
END_TEST

int main(void)
{
#ifdef WEFT_TSAN
    puts("skipped: with the thread sanitizer there is no preemption");
    return 77;
#endif
    Suite *s = suite_create("preempt");
    TCase *tc = tcase_create("preempt");
    tcase_add_loop_test(tc, sleeper, 0, NPROCS);
    tcase_add_loop_test(tc, progress, 0, NPROCS);
    tcase_add_loop_test(tc, mixed, 0, NPROCS);
    tcase_add_loop_test(tc, pipe_beside_hogs, 0, NPROCS);
    tcase_add_test(tc, procs_change);
    tcase_add_test(tc, fair);
    tcase_add_test(tc, disable);
    tcase_add_test(tc, disable_slice);
    tcase_add_test(tc, disable_own);
    tcase_add_loop_test(tc, dump, 0, NPROCS);
    suite_add_tcase(s, tc);
    return run_suite(s);
}
