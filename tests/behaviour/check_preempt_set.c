/* SPDX-License-Identifier: MIT
 *
 * check_preempt_set.c: preemption switched off, on another signal; what becomes
 * of the host's own use of the signal, and of threads that are not weft's. */
#include "hogs.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static _Atomic int others;

static void other(void *arg)
{
    (void)arg;
    others++;
}

/* ---- settings ------------------------------------------------------------------------ */

/* With preempt=off a busy coroutine is let run, and nobody gets a signal. */
static void off_body(void)
{
    others = 0;
    go(other, NULL);
    burn_ms(200);
    EQ(others, 0);
    weft_yield();
    EQ(others, 1);
    EQ(preemptions(), 0);
}

START_TEST(off)
{
    storm("off");
    run(0, off_body);
}
END_TEST

static _Atomic int host_signals;

static void on_signal(int sig)
{
    (void)sig;
    host_signals++;
}

static void host_handler(int sig, bool restart)
{
    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = restart ? SA_RESTART : 0};
    EQ(sigaction(sig, &sa, NULL), 0);
}

static bool is_host_handler(int sig)
{
    struct sigaction sa;
    EQ(sigaction(sig, NULL, &sa), 0);
    return sa.sa_handler == on_signal;
}

/* Another signal than SIGURG: SIGURG stays the program's own. */
static void signal_body(void)
{
    start_hogs(3, 0);
    wait_progress(3);
    OK(is_host_handler(SIGURG));
    OK(!is_host_handler(SIGUSR2));
    stop_hogs();
    OK(preemptions() > 0);
}

START_TEST(other_signal)
{
    weft_config_t cfg = {.procs = 1, .signal = SIGUSR2};
    void (*body)(void) = signal_body;
    host_handler(SIGURG, true);
    host_handler(SIGUSR2, true);
    EQ(weft_run_with(&cfg, run_entry, &body), 7);
    OK(is_host_handler(SIGUSR2)); /* given back */
    EQ(host_signals, 0);
}
END_TEST

START_TEST(bad_signal)
{
    void (*body)(void) = off_body;
    static const int bad[] = {-1, SIGKILL, SIGSTOP, 1000};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        weft_config_t cfg = {.procs = 1, .signal = bad[i]};
        EQ(weft_run_with(&cfg, run_entry, &body), -EINVAL);
    }
    weft_config_t cfg = {.procs = 1, .slice = -1};
    EQ(weft_run_with(&cfg, run_entry, &body), -EINVAL);
}
END_TEST

/* Signals that are the host's reach the handler that was there before. */
static void *raise_foreign(void *arg)
{
    (void)arg;
    for (int i = 0; i < 200; i++)
        raise(SIGURG); /* no tick here: none is lost */
    return NULL;
}

static void host_body(void)
{
    pthread_t t;
    start_hogs(4, 0);
    host_signals = 0;
    EQ(pthread_create(&t, NULL, raise_foreign, NULL), 0);
    while (pthread_tryjoin_np(t, NULL) != 0)
        weft_sleep(MS);
    EQ(host_signals, 200);
    /* From a coroutine: one that meets a pending tick is one with it. */
    for (int i = 0; i < 500; i++) {
        raise(SIGURG);
        if (i % 50 == 0)
            weft_sleep(100 * US);
    }
    printf("host_signal: %d of 500 reached the host's handler\n", host_signals - 200);
    OK(host_signals > 200 + 250 && host_signals <= 700);
    wait_progress(4);
    int before = host_signals;
    weft_sleep(50 * MS);
    EQ(host_signals, before); /* and ours do not */
    stop_hogs();
}

START_TEST(host_signal)
{
    storm("200");
    host_handler(SIGURG, true);
    run(_i, host_body);
    OK(is_host_handler(SIGURG));
    host_signals = 0;
    raise(SIGURG);
    EQ(host_signals, 1);
}
END_TEST

static void burner(void *arg)
{
    (void)arg;
    burn_ms(500);
}

/* Somebody takes the signal away: no more preemption, which is said once, but nothing breaks. */
static void replaced_body(void)
{
    start_hogs(2, 0);
    wait_progress(2);
    host_handler(SIGURG, true);
    stop = true; /* after that, wait only for what ends by itself */
    EQ(weft_wg_wait(&wg), 0);
    stop = false;
    others = 0;
    for (int i = 0; i < 3; i++) /* on two processors: somebody waits */
        go(burner, NULL);
    weft_sleep(MS);
    for (int i = 0; i < 10; i++)
        go(other, NULL);
    burn_ms(100);
    while (others < 10)
        weft_yield();
}

START_TEST(replaced)
{
    char text[1000];
    int err = dup(2), said = 0;
    FILE *f = tmpfile();
    OK(f != NULL && dup2(fileno(f), 2) == 2);
    run(1, replaced_body);
    dup2(err, 2);
    close(err);
    OK(is_host_handler(SIGURG)); /* theirs stays */
    rewind(f);
    while (fgets(text, sizeof text, f) != NULL)
        said += strstr(text, "has got another handler") != NULL;
    EQ(said, 1);
    fclose(f);
}
END_TEST

/* Without perf, as in most containers, and with its clock for all ticks. */
static void tick_body(void)
{
    start_hogs(4, 0);
    wait_progress(4);
    for (int i = 0; i < 20; i++)
        weft_sleep(MS);
    wait_progress(4);
    stop_hogs();
    OK(preemptions() > 0);
}

START_TEST(tick_source)
{
    setenv("WEFT_DEBUG", _i % 2 == 0 ? "tick=timer" : "tick=perf", 1);
    run(_i / 2, tick_body);
}
END_TEST

/* Threads that are not weft's are neither ticked nor stopped. */
static weft_chan_t *to_foreign;

static void *foreign_thread(void *arg)
{
    struct timespec ts = {0, 20000000}, left;
    (void)arg;
    for (int i = 0; i < 10; i++) {
        int v;
        EQ(nanosleep(&ts, &left), 0);
        EQ(weft_recv(to_foreign, &v), 1); /* it has an M from now on */
        EQ(v, i);
        burn_ms(5);
    }
    return NULL;
}

static void foreign_body(void)
{
    pthread_t t;
    to_foreign = weft_chan_make(sizeof(int), 0);
    start_hogs(4, 0);
    EQ(pthread_create(&t, NULL, foreign_thread, NULL), 0);
    for (int i = 0; i < 10; i++)
        EQ(weft_send(to_foreign, &i), 0);
    while (pthread_tryjoin_np(t, NULL) != 0)
        weft_sleep(MS);
    stop_hogs();
    weft_chan_unref(to_foreign);
}

START_TEST(foreign)
{
    storm("200");
    run(_i, foreign_body);
}
END_TEST

int main(void)
{
#ifdef WEFT_TSAN
    puts("skipped: with the thread sanitizer there is no preemption");
    return 77;
#endif
    Suite *s = suite_create("preempt_set");
    TCase *tc = tcase_create("preempt_set");
    tcase_add_test(tc, off);
    tcase_add_test(tc, other_signal);
    tcase_add_test(tc, bad_signal);
    tcase_add_loop_test(tc, host_signal, 0, NPROCS);
    tcase_add_test(tc, replaced);
    tcase_add_loop_test(tc, tick_source, 0, 2 * NPROCS);
    tcase_add_loop_test(tc, foreign, 0, NPROCS);
    suite_add_tcase(s, tc);
    return run_suite(s);
}
