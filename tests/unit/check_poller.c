/* SPDX-License-Identifier: MIT
 *
 * check_poller.c: readiness, timeouts and wake-ups of sys_poller_*, on
 * epoll_pwait2 and on the timerfd that stands in for it.
 */
#include "sys/sys.h"
#include "sys/linux/linux.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MS = 1000000 };
static SysEvent ev[64];

static void open_poller(bool old)
{
    poller_no_pwait2 = old;
    ck_assert_int_eq(sys_poller_open(), 0);
}

static void pair(int fd[2])
{
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
}

/* Each edge is told once; both directions, and ends and errors as both. */
START_TEST(test_edges)
{
    int fd[2];
    open_poller(_i != 0);
    pair(fd);
    ck_assert_int_eq(sys_poller_add(fd[0], 77), 0);
    ck_assert_int_eq(sys_poller_add(fd[0], 78), -EEXIST);
    ck_assert_int_eq(sys_poller_wait(ev, 64, 0), 1); /* writable from the start */
    ck_assert_uint_eq(ev[0].cookie, 77);
    ck_assert_uint_eq(ev[0].events, SYS_OUT);
    ck_assert_int_eq(sys_poller_wait(ev, 64, 0), 0);
    ck_assert_int_eq(write(fd[1], "x", 1), 1);
    ck_assert_int_eq(sys_poller_wait(ev, 64, -1), 1);
    ck_assert_uint_ne(ev[0].events & SYS_IN, 0);
    ck_assert_int_eq(sys_poller_wait(ev, 64, 0), 0); /* unread, yet no new edge */
    ck_assert_int_eq(write(fd[1], "y", 1), 1);
    ck_assert_int_eq(sys_poller_wait(ev, 64, 10 * MS), 1);
    close(fd[1]);
    ck_assert_int_eq(sys_poller_wait(ev, 64, 10 * MS), 1);
    ck_assert_uint_eq(ev[0].events, SYS_IN | SYS_OUT | SYS_HUP);
    ck_assert_int_eq(sys_poller_del(fd[0]), 0);
    ck_assert_int_eq(sys_poller_del(fd[0]), -ENOENT);
    close(fd[0]);
    sys_poller_close();
}
END_TEST

START_TEST(test_half_close_reads)
{
    int fd[2];
    open_poller(false);
    pair(fd);
    ck_assert_int_eq(sys_poller_add(fd[0], 1), 0);
    ck_assert_int_eq(sys_poller_wait(ev, 64, 0), 1);
    shutdown(fd[1], SHUT_WR);
    ck_assert_int_eq(sys_poller_wait(ev, 64, 100 * MS), 1);
    ck_assert_uint_ne(ev[0].events & SYS_IN, 0);
    sys_poller_close();
}
END_TEST

START_TEST(test_bad_descriptors)
{
    open_poller(false);
    int file = open("/proc/self/exe", O_RDONLY);
    ck_assert_int_eq(sys_poller_add(file, 1), -EPERM);
    ck_assert_int_eq(sys_poller_add(-1, 1), -EBADF);
    ck_assert_int_eq(sys_poller_del(-1), -EBADF);
    sys_poller_close();
}
END_TEST

/* Never early, and late by well under a millisecond when nothing else runs: for long, something else may. */
START_TEST(test_timeouts)
{
    static const int64_t ns[] = {1, 50000, 300000, 2 * MS};
    open_poller(_i != 0);
    sys_timer_slack(true);
    for (size_t k = 0; k < sizeof(ns) / sizeof(ns[0]); k++) {
        int64_t best = INT64_MAX;
        for (int i = 0; i < 1000 && (i < 20 || best >= ns[k] + 800000); i++) {
            int64_t t0 = sys_now();
            ck_assert_int_eq(sys_poller_wait(ev, 64, ns[k]), 0);
            int64_t took = sys_now() - t0;
            ck_assert_int_ge(took, ns[k]);
            best = took < best ? took : best;
        }
        ck_assert_msg(best < ns[k] + 800000, "%lld ns took %lld", (long long)ns[k],
                      (long long)best);
    }
    sys_timer_slack(false);
    sys_poller_close();
}
END_TEST

/* A wake-up ends the next wait, once; many are one; looking does not eat it. */
START_TEST(test_wake_first)
{
    open_poller(_i != 0);
    for (int i = 0; i < 1000; i++)
        sys_poller_wake();
    ck_assert_int_eq(sys_poller_wait(ev, 64, 0), 0);
    ck_assert_int_eq(sys_poller_wait(ev, 64, 0), 0);
    int64_t t0 = sys_now();
    ck_assert_int_eq(sys_poller_wait(ev, 64, -1), 0);
    ck_assert_int_lt(sys_now() - t0, 1000 * MS);
    t0 = sys_now();
    ck_assert_int_eq(sys_poller_wait(ev, 64, 20 * MS), 0);
    ck_assert_int_ge(sys_now() - t0, 20 * MS);
    sys_poller_close();
}
END_TEST

/* None is lost: the waker says a number and wakes; the waiter waits for ever
 * and must come back for each. Lookers are about all the time. */
enum { ROUNDS = 20000 };
static _Atomic int said, seen, stop;

static void *waker(void *arg)
{
    (void)arg;
    for (int i = 1; i <= ROUNDS; i++) {
        said = i;
        sys_poller_wake();
        while (i % 3 == 0 && seen < i)
            sys_yield();
    }
    return NULL;
}

static void *looker(void *arg)
{
    SysEvent mine[4];
    (void)arg;
    while (!stop) {
        sys_poller_wait(mine, 4, 0);
        sys_yield();
    }
    return NULL;
}

START_TEST(test_no_wake_lost)
{
    pthread_t t[3];
    open_poller(_i != 0);
    said = seen = stop = 0;
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(pthread_create(&t[i], NULL, i < 2 ? waker : looker, NULL), 0);
    while (seen < ROUNDS) {
        if (said == seen)
            sys_poller_wait(ev, 64, -1);
        seen = said;
    }
    stop = 1;
    for (int i = 0; i < 3; i++)
        pthread_join(t[i], NULL);
    sys_poller_close();
}
END_TEST

START_TEST(test_no_descriptors)
{
    struct rlimit rl = {64, 64};
    int fd[64], n = 0;
    setrlimit(RLIMIT_NOFILE, &rl);
    while (n < 64 && (fd[n] = dup(0)) >= 0)
        n++;
    for (int free = 0; free <= 2; free++) { /* too few, however many there are */
        ck_assert_int_eq(sys_poller_open(), -EMFILE);
        close(fd[--n]);
    }
    for (int i = 0; i < 100; i++) { /* and nothing has leaked */
        ck_assert_int_eq(sys_poller_open(), 0);
        sys_poller_close();
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("poller");
    TCase *tc = tcase_create("poller");
    tcase_set_timeout(tc, 30);
    tcase_add_loop_test(tc, test_edges, 0, 2);
    tcase_add_test(tc, test_half_close_reads);
    tcase_add_test(tc, test_bad_descriptors);
    tcase_add_loop_test(tc, test_timeouts, 0, 2);
    tcase_add_loop_test(tc, test_wake_first, 0, 2);
    tcase_add_loop_test(tc, test_no_wake_lost, 0, 2);
    tcase_add_test(tc, test_no_descriptors);
    suite_add_tcase(suite, tc);
    SRunner *sr = srunner_create(suite);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? 0 : 1;
}
