/* SPDX-License-Identifier: MIT
 *
 * check_block_end.c: main returns while coroutines are blocked in the kernel, for ever perhaps.
 *
 * Their calls are cut short, and weft_run() returns at once; who is blocked inside library code that goes
 * back to sleep, as pthread_mutex_lock() does, has a second. The host then prints, allocates and
 * forks: no lock of libc's may be left behind where the coroutine could have let go of it. */
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

#include "block_test.h"

enum { EACH = 3 };
static weft_wg_t ready;
static int pipe_never[2];

/* ---- what they are blocked in ------------------------------------------------------------- */

static void in_sleep(void)
{
    sleep(1000);
}

static void in_nanosleep(void)
{
    plain_sleep(1000 * SEC);
}

static void in_read(void)
{
    char c;
    (void)!read(pipe_never[0], &c, 1);
}

static void in_poll(void)
{
    struct pollfd p = {.fd = pipe_never[0], .events = POLLIN};
    poll(&p, 1, -1);
}

static void in_accept(void)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    OK(fd >= 0);
    EQ(bind(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    EQ(listen(fd, 1), 0);
    accept(fd, NULL, NULL);
}

static void *sleep_long(void *arg)
{
    sleep(1000);
    return arg;
}

static void in_blocking(void)
{
    weft_blocking(sleep_long, NULL, NULL);
}

static void in_declared(void)
{
    weft_syscall_enter();
    in_read();
    weft_syscall_exit();
}

static void in_pinned(void)
{
    weft_thread_lock();
    in_read();
}

/* A call that is cut short is not the end of this one: it goes on, and makes the next. */
static void in_loop(void)
{
    for (;;) {
        sleep(1000);
        weft_yield();
    }
}

static void in_loop_declared(void)
{
    for (;;) {
        weft_syscall_enter();
        sleep(1000);
        weft_syscall_exit();
    }
}

static void (*const ins[])(void) = {in_sleep,  in_nanosleep,    in_read,     in_poll,
                                    in_accept, in_blocking,     in_declared, in_pinned,
                                    in_loop,   in_loop_declared};
enum { NINS = sizeof ins / sizeof ins[0] };

/* ---- a host ---------------------------------------------------------------------------------- */

static void blocker(void *arg)
{
    void (*in)(void) = NULL;
    memcpy(&in, arg, sizeof in);
    weft_wg_done(&ready);
    in();
    for (;;) /* it was cut short: wait until we are stopped */
        weft_sleep(SEC);
}

static bool early; /* main returns before anybody can have lost a P */

static int end_main(void *arg)
{
    int i = *(int *)arg, n = i < NINS ? EACH : NINS;
    memset(&ready, 0, sizeof ready);
    EQ(weft_wg_add(&ready, n), 0);
    for (int k = 0; k < n; k++)
        go(blocker, (void *)&ins[i < NINS ? i : k]);
    EQ(weft_wg_wait(&ready), 0);
    if (!early)
        EQ(weft_sleep(20 * MS), 0);
    now_blocks(); /* from here on it is the end */
    return 7;
}

static void use_libc(void)
{
    FILE *f = fopen("/dev/null", "w");
    OK(f != NULL);
    EQ(fprintf(f, "the host prints\n"), 16);
    EQ(fclose(f), 0);
    for (size_t n = 1; n < 1 << 22; n *= 2)
        free(malloc(n));
    EQ(fflush(NULL), 0);
    int status = 1;
    pid_t pid = fork();
    if (pid == 0) {
        free(malloc(1000));
        _exit(0);
    }
    OK(pid > 0);
    EQ(waitpid(pid, &status, 0), pid);
    EQ(status, 0);
}

/* i: which of ins; NINS: one of each. */
static void end(int i, int procs)
{
    int64_t most = 0;
    EQ(pipe(pipe_never), 0);
    for (int k = 0; k < 6; k++) {
        weft_config_t cfg = {.procs = procs};
        early = k % 2 == 1;
        EQ(weft_run_with(&cfg, end_main, &i), 7);
        int64_t took = weft_now() - blocked_at;
        most = took > most ? took : most;
        OK(took < (strict() ? 1 : 8) * SEC);
        use_libc();
        EQ(count_threads(), 1);
    }
    printf("end of %d, %d procs: %lld us at most\n", i, procs, (long long)(most / US));
    close(pipe_never[0]);
    close(pipe_never[1]);
}

START_TEST(ends)
{
    end(_i / NPROCS, PROCS[_i % NPROCS]);
}
END_TEST

START_TEST(ends_storm)
{
    storm("200");
    end(_i / NPROCS, PROCS[_i % NPROCS]);
}
END_TEST

/* ---- in a mutex that nobody unlocks ------------------------------------------------------------ */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void locker(void *arg)
{
    (void)arg;
    weft_wg_done(&ready);
    pthread_mutex_lock(&mutex);
    abort();
}

static int mutex_main(void *arg)
{
    (void)arg;
    memset(&ready, 0, sizeof ready);
    EQ(weft_wg_add(&ready, EACH), 0);
    for (int i = 0; i < EACH; i++)
        go(locker, NULL);
    EQ(weft_wg_wait(&ready), 0);
    EQ(weft_sleep(20 * MS), 0);
    now_blocks();
    return 7;
}

START_TEST(mutex_for_ever)
{
    pthread_mutex_lock(&mutex);
    for (int i = 0; i < 2; i++) {
        weft_config_t cfg = {.procs = PROCS[_i]};
        EQ(weft_run_with(&cfg, mutex_main, NULL), 7);
        int64_t took = weft_now() - blocked_at;
        printf("mutex_for_ever: %lld ms\n", (long long)(took / MS));
        OK(took < (strict() ? 1500 * MS : 8 * SEC));
        use_libc();
        EQ(count_threads(), 1);
    }
    pthread_mutex_unlock(&mutex);
}
END_TEST

/* ---- inside stdio, with the stream locked --------------------------------------------------------- */

static FILE *stream;

static void printer(void *arg)
{
    (void)arg;
    weft_wg_done(&ready);
    for (;;)
        fprintf(stream, "a line for a pipe that nobody reads\n");
}

static int stdio_main(void *arg)
{
    (void)arg;
    memset(&ready, 0, sizeof ready);
    EQ(weft_wg_add(&ready, EACH), 0);
    for (int i = 0; i < EACH; i++)
        go(printer, NULL);
    EQ(weft_wg_wait(&ready), 0);
    EQ(weft_sleep(50 * MS), 0); /* the pipe is full by now; if not, the test is only weaker */
    now_blocks();
    return 7;
}

/* Whoever had the stream has left it: the host can use it. Those behind it are in its lock. */
START_TEST(in_stdio)
{
    int fds[2];
    weft_config_t cfg = {.procs = PROCS[_i]};
    EQ(pipe(fds), 0);
    stream = fdopen(fds[1], "w");
    OK(stream != NULL);
    EQ(weft_run_with(&cfg, stdio_main, NULL), 7);
    int64_t took = weft_now() - blocked_at;
    printf("in_stdio: %lld ms\n", (long long)(took / MS));
    OK(took < (strict() ? 1500 * MS : 8 * SEC));
    signal(SIGPIPE, SIG_IGN);
    close(fds[0]);
    fprintf(stream, "the host prints\n"); /* hangs if the lock is left behind */
    fclose(stream);
    use_libc();
    EQ(count_threads(), 1);
}
END_TEST

/* ---- many, and many runs ------------------------------------------------------------------------------ */

enum { CROWD = 100 };

static int crowd_main(void *arg)
{
    static void (*const in)(void) = in_read;
    memset(&ready, 0, sizeof ready);
    EQ(weft_wg_add(&ready, CROWD), 0);
    for (int i = 0; i < CROWD; i++)
        go(blocker, (void *)&in);
    if (arg != NULL)
        EQ(weft_wg_wait(&ready), 0);
    now_blocks();
    return 7;
}

START_TEST(crowd)
{
    EQ(pipe(pipe_never), 0);
    for (int k = 0; k < 4; k++) {
        weft_config_t cfg = {.procs = PROCS[_i]};
        EQ(weft_run_with(&cfg, crowd_main, k % 2 == 0 ? pipe_never : NULL), 7);
        int64_t took = weft_now() - blocked_at;
        printf("crowd: %lld ms\n", (long long)(took / MS));
        OK(took < (strict() ? 1 : 8) * SEC);
        use_libc();
        EQ(count_threads(), 1);
    }
}
END_TEST

/* What comes back from a call while the run ends leaves by itself. */
static void brief(void *arg)
{
    int64_t ns = (intptr_t)arg * 37 % 11 * 50 * US;
    for (;;) {
        if ((intptr_t)arg % 2 == 0)
            weft_syscall_enter();
        plain_sleep(ns);
        weft_syscall_exit();
        if ((intptr_t)arg % 3 == 0)
            weft_yield();
    }
}

static int brief_main(void *arg)
{
    int i = *(int *)arg;
    for (intptr_t k = 0; k < 8; k++)
        go(brief, (void *)(k + i));
    weft_sleep(i % 10 * 300 * US);
    return 7;
}

START_TEST(brief_runs)
{
    if (_i == 1)
        storm("200");
    for (int i = 0; i < 40; i++) {
        weft_config_t cfg = {.procs = 1 + i % 3};
        EQ(weft_run_with(&cfg, brief_main, &i), 7);
        EQ(count_threads(), 1);
    }
    use_libc();
}
END_TEST

int main(void)
{
#ifdef WEFT_TSAN
    puts("skipped: with the thread sanitizer nobody's call is cut short");
    return 77;
#endif
    if (preempt_off()) {
        puts("skipped: without a signal nobody's call is cut short");
        return 77;
    }
    Suite *s = suite_create("block_end");
    TCase *tc = tcase_create("block_end");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, ends, 0, (NINS + 1) * NPROCS);
    tcase_add_loop_test(tc, ends_storm, 0, (NINS + 1) * NPROCS);
    tcase_add_loop_test(tc, mutex_for_ever, 0, NPROCS);
    tcase_add_loop_test(tc, in_stdio, 0, NPROCS);
    tcase_add_loop_test(tc, crowd, 0, NPROCS);
    tcase_add_loop_test(tc, brief_runs, 0, 2);
    suite_add_tcase(s, tc);
    return run_suite(s);
}
