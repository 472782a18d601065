/* SPDX-License-Identifier: MIT
 *
 * check_eintr.c: blocking calls in a coroutine's own code are not cut short by
 * weft's signals, neither by ticks nor by the monitor's. SA_RESTART does not
 * help any of these (signal(7)): there must not be a signal. */
#include "company.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* ---- blocking calls are not cut short --------------------------------------------------- */

static int64_t want_ns; /* each blocks at least so long */

static void call_nanosleep(void)
{
    struct timespec ts = {0, want_ns}, left = {0};
    EQ(nanosleep(&ts, &left), 0);
}

static void call_clock_nanosleep(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    ts.tv_nsec += want_ns;
    ts.tv_sec += ts.tv_nsec / SEC;
    ts.tv_nsec %= SEC;
    EQ(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL), 0);
}

static void call_usleep(void)
{
    EQ(usleep((useconds_t)(want_ns / US)), 0);
}

static void call_poll(void)
{
    EQ(poll(NULL, 0, (int)(want_ns / MS)), 0);
}

static void call_select(void)
{
    struct timeval tv = {0, want_ns / US};
    EQ(select(0, NULL, NULL, NULL, &tv), 0);
}

static void call_epoll(void)
{
    struct epoll_event ev;
    int ep = epoll_create1(0);
    OK(ep >= 0);
    EQ(epoll_wait(ep, &ev, 1, (int)(want_ns / MS)), 0);
    close(ep);
}

static struct timespec wall(int64_t ns)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    ns += ts.tv_nsec;
    return (struct timespec){ts.tv_sec + ns / SEC, ns % SEC};
}

static void call_sem(void)
{
    sem_t s;
    struct timespec ts = wall(want_ns);
    sem_init(&s, 0, 0);
    int rc = sem_timedwait(&s, &ts), e = errno;
    EQ(rc, -1);
    EQ(e, ETIMEDOUT);
}

static void call_cond(void)
{
    pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t c = PTHREAD_COND_INITIALIZER;
    struct timespec ts = wall(want_ns);
    int rc = 0;
    pthread_mutex_lock(&m);
    while (rc == 0)
        rc = pthread_cond_timedwait(&c, &m, &ts);
    EQ(rc, ETIMEDOUT);
    pthread_mutex_unlock(&m);
}

static void call_recv(void)
{
    int sv[2];
    char x;
    struct timeval tv = {0, want_ns / US};
    EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
    EQ(setsockopt(sv[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv), 0);
    ssize_t n = recv(sv[0], &x, 1, 0);
    int e = errno;
    EQ(n, -1);
    EQ(e, EAGAIN);
    close(sv[0]);
    close(sv[1]);
}

static void call_sleep(void)
{
    EQ(sleep(1), 0);
}

static const struct {
    const char *name;
    void (*fn)(void);
    int64_t ns;
    int times;
    int64_t early; /* what it may be early by its own */
} calls[] = {
    {"nanosleep", call_nanosleep, 20 * MS, 15, 0},
    {"clock_nanosleep", call_clock_nanosleep, 20 * MS, 15, 0},
    {"usleep", call_usleep, 20 * MS, 15, 0},
    {"poll", call_poll, 20 * MS, 15, 0},
    {"select", call_select, 20 * MS, 15, 0},
    {"epoll_wait", call_epoll, 20 * MS, 15, 0},
    {"sem_timedwait", call_sem, 20 * MS, 15, 0},
    {"pthread_cond_timedwait", call_cond, 20 * MS, 15, 0},
    {"recv", call_recv, 20 * MS, 15, 11 * MS}, /* the kernel counts jiffies, of up to 10 ms */
    {"sleep", call_sleep, SEC, 2, 0},
};
enum { NCALLS = sizeof calls / sizeof calls[0] };
static int call;

/* A varying amount of computing before it: the moment of blocking meets every phase of the tick. */
static void blocking_body(void)
{
    want_ns = calls[call].ns;
    for (int i = 0; i < calls[call].times; i++) {
        burn_ms(0.15 * (i % 11));
        int64_t begin = weft_now();
        calls[call].fn();
        int64_t took = weft_now() - begin;
        if (took < want_ns - calls[call].early)
            ck_abort_msg("%s came back after %lld us", calls[call].name, (long long)took / 1000);
    }
}

START_TEST(blocking)
{
    call = _i;
    storm_run(1, blocking_body);
}
END_TEST

/* The same at the usual slice, where the monitor's signals are what may hit. */
START_TEST(blocking_slice)
{
    call = _i;
    under_test = blocking_body;
    run(1, beside_company);
}
END_TEST

/* Where perf is not permitted the timers do it all. */
START_TEST(blocking_timer)
{
    call = _i;
    setenv("WEFT_DEBUG", "tick=timer", 1);
    under_test = blocking_body;
    run(1, beside_company);
}
END_TEST

int main(void)
{
#ifdef WEFT_TSAN
    puts("skipped: with the thread sanitizer there is no preemption");
    return 77;
#endif
    Suite *s = suite_create("eintr");
    TCase *tc = tcase_create("eintr");
    tcase_add_loop_test(tc, blocking, 0, NCALLS);
    tcase_add_loop_test(tc, blocking_slice, 0, NCALLS);
    tcase_add_loop_test(tc, blocking_timer, 0, NCALLS);
    suite_add_tcase(s, tc);
    return run_suite(s);
}
