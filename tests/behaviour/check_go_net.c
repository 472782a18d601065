/* SPDX-License-Identifier: MIT
 *
 * check_go_net.c: descriptors: what Go's own tests of deadlines and of the lock around a descriptor ask for and
 * check_net.c does not. The Go test is named at each; GO-TESTS lists all. */
#include "net_test.h"

static weft_wg_t wg;

static void spawn(void (*fn)(void *), void *arg)
{
    EQ(weft_wg_go(&wg, fn, arg), 0);
}

static void join(void)
{
    EQ(weft_wg_wait(&wg), 0);
}

/* ---- Go: TestReadTimeoutFluctuation -------------------------------------------------------------- */

/* One deadline after the other, longer and shorter ones, each kept and none early. */
static void fluctuation_body(void)
{
    static const int64_t FOR[] = {MS, 20 * MS, 100 * US, 3 * MS, 10 * US, 15 * MS, US, 8 * MS};
    int ends[2];
    char c;
    tcp_pair(ends);
    for (int i = 0; i < 24; i++) {
        int64_t deadline = from_now(FOR[i % 8]);
        EQ(weft_set_deadline(ends[0], WEFT_READ, deadline), 0);
        EQ(weft_read(ends[0], &c, 1), -ETIMEDOUT);
        int64_t late = weft_now() - deadline;
        OK(late >= 0 && late < 10 * SEC);
    }
    close_pair(ends);
}

/* ---- Go: TestReadTimeoutMustNotReturn -------------------------------------------------------------- */

/* Neither the deadline that was lifted ends a read, nor that of the writes, which is past. */
static void no_return_body(void)
{
    int ends[2];
    static Reader r;
    tcp_pair(ends);
    EQ(weft_set_deadline(ends[0], WEFT_READ | WEFT_WRITE, from_now(5 * MS)), 0);
    EQ(weft_set_deadline(ends[0], WEFT_WRITE, 1), 0);
    EQ(weft_set_deadline(ends[0], WEFT_READ, 0), 0);
    r = (Reader){.n = -1};
    reader_start(&r, ends[0]);
    EQ(weft_wg_wait_until(&r.done, from_now(60 * MS)), -ETIMEDOUT);
    EQ(weft_write(ends[1], "ab", 2), 2);
    EQ(reader_result(&r), 2);
    close_pair(ends);
}

/* ---- Go: TestNetpollDeadlock ------------------------------------------------------------------------- */

static weft_chan_t *ping, *pong;

static void echo(void *arg)
{
    (void)arg;
    while (weft_recv(ping, NULL) == 1)
        EQ(weft_send(pong, NULL), 0);
}

/* Descriptors were used, some are still there, and now all wait for channels and timers: nothing is reported, and the run
 * ends. */
static void used_before_body(void)
{
    int refused = listen_local(0), port = port_of(refused), ends[2];
    EQ(weft_close(refused), 0);
    EQ(weft_dial_tcp("127.0.0.1", port, 0), -ECONNREFUSED);
    tcp_pair(ends);
    ping = weft_chan_make(0, 0);
    pong = weft_chan_make(0, 0);
    spawn(echo, NULL);
    for (int i = 0; i < 20; i++) {
        EQ(weft_send(ping, NULL), 0);
        EQ(weft_recv(pong, NULL), 1);
        weft_sleep(MS / 2);
    }
    weft_chan_close(ping);
    join();
    weft_chan_unref(ping);
    weft_chan_unref(pong);
}

/* ---- Go: TestMutexClose, TestMutexCloseUnblock ---------------------------------------------------------- */

/* After its close nothing can be done with a descriptor, and it cannot be closed again. */
static void closed_body(void)
{
    int ends[2];
    char c = 0;
    tcp_pair(ends);
    EQ(weft_write(ends[1], &c, 1), 1);
    EQ(weft_close(ends[0]), 0);
    EQ(weft_read(ends[0], &c, 1), -EBADF);
    EQ(weft_write(ends[0], &c, 1), -EBADF);
    EQ(weft_accept(ends[0], NULL, NULL), -EBADF);
    EQ(weft_poll_fd(ends[0], WEFT_READ, 1), -EBADF);
    EQ(weft_set_deadline(ends[0], WEFT_READ, 0), -EBADF);
    EQ(weft_close(ends[0]), -EBADF);
    EQ(weft_close(ends[1]), 0);
}

static int fd;
static atomic_int waiting, ended;

static void read_for_ever(void *arg)
{
    char c;
    (void)arg;
    waiting++;
    EQ(weft_read(fd, &c, 1), -ECANCELED);
    ended++;
}

static void write_for_ever(void *arg)
{
    static const char full[65536];
    ssize_t n;
    (void)arg;
    waiting++;
    while ((n = weft_write(fd, full, sizeof full)) > 0)
        ;
    EQ(n, -ECANCELED);
    ended++;
}

/* Readers and writers that wait, four each, all go home when it is closed, and none before. */
static void unblock_body(void)
{
    for (int i = 0; i < 5; i++) {
        int ends[2];
        tcp_pair(ends);
        fd = ends[0];
        waiting = ended = 0;
        for (int k = 0; k < 4; k++) {
            spawn(read_for_ever, NULL);
            spawn(write_for_ever, NULL);
        }
        while (waiting < 8)
            weft_yield();
        weft_sleep(20 * MS); /* they are parked by now; if not, the test is only weaker */
        EQ(ended, 0);
        EQ(weft_close(fd), 0);
        join();
        EQ(weft_close(ends[1]), 0);
    }
}

/* ---- Go: TestMutexStress ----------------------------------------------------------------------------------- */

/* Any number read, write, set deadlines and poll, while one closes it: each ends with one of a few errors, and reads
 * nothing but what belongs to this descriptor. Lower numbers are free meanwhile: who is late must not find a file of the
 * runtime's in its place. */
static int pair_of[2];
static atomic_int users;
static char tag;

static bool is_end(ssize_t rc)
{
    return rc == 0 || rc == -ECANCELED || rc == -EBADF || rc == -EPIPE || rc == -ECONNRESET;
}

static void use(void *arg)
{
    int kind = (int)(intptr_t)arg;
    char c = tag;
    ssize_t rc;
    do {
        switch (kind) {
        case 0:
            rc = weft_read(pair_of[0], &c, 1);
            OK(rc != 1 || c == tag);
            break;
        case 1:
            rc = weft_write(pair_of[1], &c, 1);
            break;
        case 2:
            rc = weft_set_deadline(pair_of[0], WEFT_WRITE, from_now(SEC));
            rc = rc == 0 ? 1 : rc;
            weft_yield();
            break;
        default:
            rc = weft_poll_fd(pair_of[0], WEFT_READ, from_now(US));
            rc = rc == -ETIMEDOUT ? 1 : rc;
            weft_yield(); /* it may be ready all the time */
            break;
        }
        users++;
    } while (rc > 0);
    OK(is_end(rc));
}

static void stress_body(void)
{
    for (int i = 0; i < 40; i++) {
        int lower[8];
        for (int k = 0; k < 8; k++)
            OK((lower[k] = dup(2)) >= 0);
        EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair_of), 0);
        for (int k = 0; k < 8; k++)
            close(lower[k]);
        tag = (char)('A' + i);
        users = 0;
        for (int k = 0; k < 8; k++)
            spawn(use, (void *)(intptr_t)(k % 4));
        while (users < 8 + i * 2)
            weft_yield();
        EQ(weft_close(pair_of[0]), 0);
        for (int k = 0; k < i % 7; k++)
            weft_yield();
        EQ(weft_close(pair_of[1]), 0);
        join();
    }
}

/* ---- all ------------------------------------------------------------------------------------------------ */

static void (*const bodies[])(void) = {fluctuation_body, no_return_body, used_before_body,
                                       closed_body,      unblock_body,   stress_body};
enum { BODIES = sizeof bodies / sizeof bodies[0] };

START_TEST(each)
{
    run(_i % NPROCS, bodies[_i / NPROCS]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("go net");
    TCase *tc = tcase_create("go net");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, each, 0, BODIES * NPROCS);
    suite_add_tcase(s, tc);
    return run_suite(s);
}
