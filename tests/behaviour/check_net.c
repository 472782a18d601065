/* SPDX-License-Identifier: MIT
 *
 * check_net.c: TCP: listen, accept, dial, deadlines, close. Loopback only.
 * What a test answers to in Go's own tests is named at it.
 */
#include "net_test.h"

/* ---- bytes go through --------------------------------------------------------- */

enum { BIG = 1 << 20 };

static unsigned char pattern(size_t i)
{
    return (unsigned char)(i * 31 + (i >> 8));
}

static void write_big(void *arg)
{
    int fd = *(int *)arg;
    unsigned char *buf = malloc(BIG);
    OK(buf != NULL);
    for (size_t i = 0; i < BIG; i++)
        buf[i] = pattern(i);
    for (size_t done = 0; done < BIG;) {
        ssize_t n = weft_write(fd, buf + done, BIG - done);
        OK(n > 0);
        done += (size_t)n;
    }
    free(buf);
    EQ(weft_close(fd), 0);
}

/* The writer fills the socket's buffer and parks; the end of the stream is seen. */
static void big_body(void)
{
    int ends[2];
    unsigned char buf[3000];
    size_t at = 0;
    tcp_pair(ends);
    go(write_big, &ends[0]);
    for (;;) {
        ssize_t n = weft_read(ends[1], buf, 1 + at % sizeof buf);
        OK(n >= 0);
        if (n == 0)
            break;
        for (ssize_t i = 0; i < n; i++)
            OK(buf[i] == pattern(at + (size_t)i));
        at += (size_t)n;
    }
    EQ(at, BIG);
    EQ(weft_read(ends[1], buf, 1), 0); /* still */
    EQ(weft_close(ends[1]), 0);
}

START_TEST(big)
{
    run(_i, big_body);
}
END_TEST

/* Data and the end of the stream in one packet, or nearly: the short read that
 * takes the data must not be taken for "nothing left". */
static void data_and_end_body(void)
{
    for (int i = 0; i < 200; i++) {
        int ends[2];
        char buf[64];
        tcp_pair(ends);
        EQ(weft_write(ends[0], "x", 1), 1);
        EQ(weft_read(ends[1], buf, sizeof buf), 1);
        Reader r; /* makes it known to the poller */
        if (i % 2 == 0) {
            reader_start(&r, ends[1]);
            EQ(weft_write(ends[0], "y", 1), 1);
            EQ(reader_result(&r), 1);
        }
        EQ(weft_write(ends[0], "abc", 3), 3);
        EQ(weft_close(ends[0]), 0);
        if (i % 3 == 0)
            weft_sleep(MS / 10);
        EQ(weft_read(ends[1], buf, sizeof buf), 3);
        EQ(weft_read(ends[1], buf, sizeof buf), 0);
        EQ(weft_close(ends[1]), 0);
    }
}

START_TEST(data_and_end)
{
    run(_i, data_and_end_body);
}
END_TEST

/* A read stops short at urgent data though more is there. */
static void urgent_body(void)
{
    for (int i = 0; i < 50; i++) {
        int ends[2];
        char buf[64];
        Reader r;
        tcp_pair(ends);
        reader_start(&r, ends[1]);
        EQ(weft_write(ends[0], "y", 1), 1);
        EQ(reader_result(&r), 1);
        EQ(send(ends[0], "abc", 3, 0), 3);
        EQ(send(ends[0], "!", 1, MSG_OOB), 1);
        EQ(send(ends[0], "def", 3, 0), 3);
        if (i % 2 == 0)
            weft_sleep(MS / 2);
        size_t got = 0;
        EQ(weft_set_deadline(ends[1], WEFT_READ, weft_now() + 5 * SEC), 0);
        while (got < 6) {
            ssize_t n = weft_read(ends[1], buf, sizeof buf);
            OK(n > 0);
            got += (size_t)n;
        }
        close_pair(ends);
    }
}

START_TEST(urgent)
{
    run(_i, urgent_body);
}
END_TEST

/* Go: TestZeroByteRead. */
static void zero_body(void)
{
    int ends[2];
    char c;
    tcp_pair(ends);
    EQ(weft_read(ends[0], &c, 0), 0);
    EQ(weft_write(ends[0], &c, 0), 0);
    EQ(weft_write(ends[0], "a", 1), 1);
    EQ(weft_read(ends[1], &c, 0), 0);
    EQ(weft_read(ends[1], &c, 1), 1);
    close_pair(ends);
    EQ(weft_read(ends[0], &c, 0), -EBADF);
}

START_TEST(zero)
{
    run(_i, zero_body);
}
END_TEST

static void epipe_body(void)
{
    int ends[2], rc = 0;
    tcp_pair(ends);
    EQ(weft_close(ends[1]), 0);
    for (int i = 0; i < 100 && rc >= 0; i++) {
        rc = (int)weft_write(ends[0], "x", 1); /* SIGPIPE would kill us */
        weft_sleep(MS);
    }
    OK(rc == -EPIPE || rc == -ECONNRESET);
    EQ(weft_close(ends[0]), 0);
}

START_TEST(epipe)
{
    run(_i, epipe_body);
}
END_TEST

/* ---- deadlines ------------------------------------------------------------------ */

/* Go: TestReadTimeout (past, now, future). */
static void read_timeout_body(void)
{
    int ends[2];
    char buf[8];
    tcp_pair(ends);
    static const int64_t in[] = {-SEC, -1, 0, 1, 100000, 5 * MS};
    for (size_t i = 0; i < sizeof in / sizeof in[0]; i++) {
        int64_t deadline = weft_now() + in[i];
        EQ(weft_set_deadline(ends[0], WEFT_READ, deadline), 0);
        for (int again = 0; again < 3; again++) { /* it stays */
            EQ(weft_read(ends[0], buf, sizeof buf), -ETIMEDOUT);
            OK(weft_now() >= deadline);
        }
        EQ(weft_write(ends[0], "x", 1), 1); /* the other direction has none */
    }
    /* What can be done at once is done. */
    EQ(weft_write(ends[1], "hello", 5), 5);
    weft_sleep(5 * MS);
    EQ(weft_read(ends[0], buf, sizeof buf), 5);
    EQ(weft_read(ends[0], buf, sizeof buf), -ETIMEDOUT);
    /* Lifted, it waits again. */
    EQ(weft_set_deadline(ends[0], WEFT_READ, 0), 0);
    Reader r;
    reader_start(&r, ends[0]);
    EQ(weft_write(ends[1], "hello", 5), 5);
    EQ(reader_result(&r), 5);
    close_pair(ends);
}

START_TEST(read_timeout)
{
    run(_i, read_timeout_body);
}
END_TEST

/* Go: TestReadTimeoutUnblocksRead: a deadline set while the read waits. */
static void unblocks_body(void)
{
    int ends[2];
    tcp_pair(ends);
    for (int i = 0; i < 20; i++) {
        Reader r;
        reader_start(&r, ends[0]);
        EQ(weft_set_deadline(ends[0], WEFT_READ | WEFT_WRITE, weft_now() + (i % 3 - 1) * MS), 0);
        EQ(reader_result(&r), -ETIMEDOUT);
        EQ(weft_set_deadline(ends[0], WEFT_READ | WEFT_WRITE, 0), 0);
    }
    close_pair(ends);
}

START_TEST(unblocks)
{
    run(_i, unblocks_body);
}
END_TEST

/* A deadline that was put off must not fire at its old time. */
static void put_off_body(void)
{
    int ends[2];
    Reader r;
    tcp_pair(ends);
    EQ(weft_set_deadline(ends[0], WEFT_READ, weft_now() + 300 * MS), 0);
    reader_start(&r, ends[0]);
    EQ(weft_set_deadline(ends[0], WEFT_READ, weft_now() + 60 * SEC), 0);
    weft_sleep(400 * MS);
    EQ(weft_write(ends[1], "x", 1), 1);
    EQ(reader_result(&r), 1);
    close_pair(ends);
}

START_TEST(put_off)
{
    run(_i, put_off_body);
}
END_TEST

/* Go: TestWriteTimeout*. */
static void write_timeout_body(void)
{
    int ends[2];
    static char buf[65536];
    ssize_t n = 0, total = 0;
    tcp_pair(ends);
    int64_t start = weft_now();
    EQ(weft_set_deadline(ends[0], WEFT_WRITE, start + 20 * MS), 0);
    while ((n = weft_write(ends[0], buf, sizeof buf)) > 0)
        OK((total += n) < 100 << 20);
    EQ(n, -ETIMEDOUT);
    OK(weft_now() >= start + 20 * MS);
    EQ(weft_set_deadline(ends[0], WEFT_WRITE, 0), 0);
    while (total > 0) {
        OK((n = weft_read(ends[1], buf, sizeof buf)) > 0);
        total -= n;
    }
    EQ(weft_write(ends[0], "x", 1), 1);
    close_pair(ends);
}

START_TEST(write_timeout)
{
    run(_i, write_timeout_body);
}
END_TEST

/* Go: TestAcceptTimeout. */
static void accept_timeout_body(void)
{
    int listener = listen_local(0);
    int64_t start = weft_now();
    EQ(weft_set_deadline(listener, WEFT_READ, start - 1), 0);
    EQ(weft_accept(listener, NULL, NULL), -ETIMEDOUT);
    EQ(weft_set_deadline(listener, WEFT_READ, start + 10 * MS), 0);
    EQ(weft_accept(listener, NULL, NULL), -ETIMEDOUT);
    OK(weft_now() >= start + 10 * MS);
    int fd = weft_dial_tcp("127.0.0.1", port_of(listener), 0);
    OK(fd >= 0);
    int peer = weft_accept(listener, NULL, NULL); /* at once, though it is late */
    OK(peer >= 0);
    EQ(weft_close(fd), 0);
    EQ(weft_close(peer), 0);
    EQ(weft_close(listener), 0);
}

START_TEST(accept_timeout)
{
    run(_i, accept_timeout_body);
}
END_TEST

/* Go: TestVariousDeadlines: a server that pours, a client with a deadline. */
static void pour(void *arg)
{
    int fd = *(int *)arg;
    static const char buf[4096];
    while (weft_write(fd, buf, sizeof buf) > 0)
        ;
}

static void various_body(void)
{
    static const int64_t in[] = {1,      1000, 10000,  50000,   100000, 250000,
                                 500000, MS,   5 * MS, 10 * MS, 25 * MS};
    static char buf[65536];
    for (size_t i = 0; i < sizeof in / sizeof in[0]; i++) {
        int ends[2];
        ssize_t n;
        tcp_pair(ends);
        go(pour, &ends[1]);
        int64_t start = weft_now();
        EQ(weft_set_deadline(ends[0], WEFT_READ, start + in[i]), 0);
        do {
            n = weft_read(ends[0], buf, sizeof buf);
            OK(n != 0);
            if (weft_now() > start + in[i] + 100 * MS)
                break; /* data came faster than we read: that is no time-out */
        } while (n > 0);
        OK(n > 0 || n == -ETIMEDOUT);
        EQ(weft_close(ends[0]), 0); /* ends the pouring */
        weft_sleep(MS);
        EQ(weft_close(ends[1]), 0);
    }
}

START_TEST(various)
{
    run(_i, various_body);
}
END_TEST

/* Go: TestReadWriteDeadlineRace, TestConcurrentSetDeadline. */
typedef struct {
    int fd;
    _Atomic bool stop;
    weft_wg_t wg;
    _Atomic int timeouts, oks;
} Race;

static void race_set(void *arg)
{
    Race *r = arg;
    for (int i = 0; !r->stop; i++) {
        EQ(weft_set_deadline(r->fd, WEFT_READ, weft_now() + (i % 7) * 20000), 0);
        EQ(weft_set_deadline(r->fd, WEFT_WRITE, weft_now() + (i % 5) * 20000), 0);
        EQ(weft_set_deadline(r->fd, WEFT_READ | WEFT_WRITE, weft_now() + 50000), 0);
        if (i % 16 == 0)
            weft_sleep(10000);
        else
            weft_yield();
    }
}

static void race_read(void *arg)
{
    Race *r = arg;
    char c;
    while (!r->stop) {
        ssize_t n = weft_read(r->fd, &c, 1);
        OK(n == -ETIMEDOUT || n == 1);
        n < 0 ? r->timeouts++ : r->oks++;
        weft_yield();
    }
}

static void race_write(void *arg)
{
    Race *r = arg;
    while (!r->stop) {
        ssize_t n = weft_write(r->fd, "x", 1);
        OK(n == -ETIMEDOUT || n == 1);
        weft_sleep(20000);
    }
}

static void race_peer(void *arg)
{
    int fd = *(int *)arg;
    char c;
    while (weft_read(fd, &c, 1) == 1 && weft_write(fd, &c, 1) == 1)
        ;
}

static void deadline_race_body(void)
{
    int ends[2];
    static Race r;
    r = (Race){0};
    tcp_pair(ends);
    r.fd = ends[0];
    go(race_peer, &ends[1]);
    for (int i = 0; i < 3; i++) {
        EQ(weft_wg_go(&r.wg, race_set, &r), 0);
        EQ(weft_wg_go(&r.wg, race_read, &r), 0);
        EQ(weft_wg_go(&r.wg, race_write, &r), 0);
    }
    weft_sleep(150 * MS);
    r.stop = true;
    weft_wg_wait(&r.wg);
    OK(r.timeouts > 0);
    OK(r.oks > 0);
    close_pair(ends);
}

START_TEST(deadline_race)
{
    run(_i, deadline_race_body);
}
END_TEST

/* ---- close ----------------------------------------------------------------------- */

/* The runtime opens files of /proc now and then, and has them for a moment: they may get the number. */
static bool is_closed(int fd)
{
    for (int64_t late = from_now(5 * SEC); fcntl(fd, F_GETFD) != -1; weft_sleep(100 * US))
        if (weft_now() > late)
            return false;
    return true;
}

/* Go: TestCloseUnblocksRead; and all readers, not one. */
static void close_unblocks_body(void)
{
    for (int i = 0; i < 20; i++) {
        int ends[2];
        Reader r[3];
        tcp_pair(ends);
        for (int k = 0; k < 3; k++)
            reader_start(&r[k], ends[0]);
        EQ(weft_close(ends[0]), 0);
        for (int k = 0; k < 3; k++)
            EQ(reader_result(&r[k]), -ECANCELED);
        OK(is_closed(ends[0]));
        char c;
        EQ(weft_read(ends[1], &c, 1), 0);
        EQ(weft_close(ends[1]), 0);
        EQ(weft_close(ends[1]), -EBADF);
    }
}

START_TEST(close_unblocks)
{
    run(_i, close_unblocks_body);
}
END_TEST

static void accept_one(void *arg)
{
    Reader *r = arg;
    r->began = true;
    r->n = weft_accept(r->fd, NULL, NULL);
    weft_wg_done(&r->done);
}

/* Go: TestListenerClose, TestClosingListener: the port is free at once. */
static void close_listener_body(void)
{
    for (int i = 0; i < 20; i++) {
        int listener = listen_local(0), port = port_of(listener);
        Reader r[2];
        for (int k = 0; k < 2; k++) {
            r[k] = (Reader){.fd = listener};
            weft_wg_add(&r[k].done, 1);
            go(accept_one, &r[k]);
        }
        weft_sleep(i % 2 * MS);
        EQ(weft_close(listener), 0);
        for (int k = 0; k < 2; k++) {
            ssize_t n = reader_result(&r[k]);
            OK(n == -ECANCELED || n == -EBADF); /* EBADF: it had not begun */
        }
        listener = weft_listen_tcp("127.0.0.1", port, 0);
        OK(listener >= 0);
        EQ(weft_close(listener), 0);
    }
}

START_TEST(close_listener)
{
    run(_i, close_listener_body);
}
END_TEST

/* ---- accept ------------------------------------------------------------------------- */

/* Out of descriptors: the error is told, and the pending connection, whose edge
 * is long gone, is accepted later. */
static void emfile_body(void)
{
    int listener = listen_local(0), client = weft_dial_tcp("127.0.0.1", port_of(listener), 0);
    OK(client >= 0);
    struct rlimit old, low;
    EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
    int next = dup(0);
    close(next);
    low = old;
    low.rlim_cur = (rlim_t)next;
    EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
    EQ(weft_accept(listener, NULL, NULL), -EMFILE);
    EQ(weft_accept(listener, NULL, NULL), -EMFILE);
    EQ(weft_listen_tcp("127.0.0.1", 0, 0), -EMFILE);
    EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
    weft_sleep(2 * MS);
    EQ(weft_set_deadline(listener, WEFT_READ, weft_now() + 5 * SEC), 0);
    int fd = weft_accept(listener, NULL, NULL);
    OK(fd >= 0);
    EQ(weft_close(fd), 0);
    EQ(weft_close(client), 0);
    EQ(weft_close(listener), 0);
}

START_TEST(emfile)
{
    run(_i, emfile_body);
}
END_TEST

enum { MANY = 50 };

static void count_accepts(void *arg)
{
    Race *r = arg;
    int fd;
    while ((fd = weft_accept(r->fd, NULL, NULL)) >= 0) {
        r->oks++;
        weft_close(fd);
    }
    OK(fd == -ECANCELED || fd == -EBADF);
}

/* Many connections at once give one edge; several coroutines accept. */
static void accept_many_body(void)
{
    static Race r;
    int fds[MANY];
    r = (Race){.fd = listen_local(MANY)};
    for (int i = 0; i < 3; i++)
        EQ(weft_wg_go(&r.wg, count_accepts, &r), 0);
    weft_sleep(2 * MS);
    for (int i = 0; i < MANY; i++)
        OK((fds[i] = weft_dial_tcp("127.0.0.1", port_of(r.fd), 0)) >= 0);
    int64_t limit = weft_now() + 5 * SEC;
    while (r.oks < MANY && weft_now() < limit)
        weft_sleep(MS);
    EQ(r.oks, MANY);
    EQ(weft_close(r.fd), 0);
    weft_wg_wait(&r.wg);
    for (int i = 0; i < MANY; i++)
        EQ(weft_close(fds[i]), 0);
}

START_TEST(accept_many)
{
    run(_i, accept_many_body);
}
END_TEST

static void accept_address_body(void)
{
    int listener = listen_local(0), on = 0;
    int fd = weft_dial_tcp("127.0.0.1", port_of(listener), weft_now() + 5 * SEC);
    OK(fd >= 0);
    struct sockaddr_in sa;
    socklen_t len = sizeof sa;
    int peer = weft_accept(listener, (struct sockaddr *)&sa, &len);
    OK(peer >= 0);
    EQ(len, sizeof sa);
    EQ(ntohs(sa.sin_port), port_of(fd));
    OK(fcntl(peer, F_GETFL) & O_NONBLOCK);
    OK(fcntl(peer, F_GETFD) & FD_CLOEXEC);
    len = sizeof on;
    EQ(getsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &on, &len), 0);
    OK(on);
    EQ(weft_close(fd), 0);
    EQ(weft_close(peer), 0);
    EQ(weft_close(listener), 0);
}

START_TEST(accept_address)
{
    run(_i, accept_address_body);
}
END_TEST

/* ---- listen, dial, connect -------------------------------------------------------------- */

static void listen_body(void)
{
    EQ(weft_listen_tcp(NULL, -1, 0), -EINVAL);
    EQ(weft_listen_tcp(NULL, 65536, 0), -EINVAL);
    EQ(weft_listen_tcp("no-such-host.invalid", 0, 0), -EHOSTUNREACH);
    EQ(weft_dial_tcp("no-such-host.invalid", 80, 0), -EHOSTUNREACH);
    EQ(weft_dial_tcp("127.0.0.1", 70000, 0), -EINVAL);
    int listener = weft_listen_tcp(NULL, 0, 0);
    OK(listener >= 0);
    struct sockaddr_storage sa;
    socklen_t len = sizeof sa;
    EQ(getsockname(listener, (struct sockaddr *)&sa, &len), 0);
    int port = ntohs(sa.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&sa)->sin6_port
                                              : ((struct sockaddr_in *)&sa)->sin_port);
    int fd = weft_dial_tcp("127.0.0.1", port, 0); /* IPv4 in any case */
    OK(fd >= 0);
    int peer = weft_accept(listener, NULL, NULL);
    OK(peer >= 0);
    EQ(weft_close(fd), 0);
    EQ(weft_close(peer), 0);
    EQ(weft_listen_tcp("127.0.0.1", port, 0), -EADDRINUSE);
    EQ(weft_close(listener), 0);
    EQ(weft_dial_tcp("127.0.0.1", port, 0), -ECONNREFUSED);
}

START_TEST(listen_dial)
{
    run(_i, listen_body);
}
END_TEST

/* A listener whose backlog is full does not answer: the dial times out. */
static void dial_timeout_body(void)
{
    int listener = listen_local(1), fds[16], n = 0, rc = 0;
    int64_t start = weft_now();
    while (n < 16 && (rc = weft_dial_tcp("127.0.0.1", port_of(listener), start + 50 * MS)) >= 0)
        fds[n++] = rc;
    EQ(rc, -ETIMEDOUT);
    OK(weft_now() >= start + 50 * MS);
    while (n > 0)
        EQ(weft_close(fds[--n]), 0);
    EQ(weft_close(listener), 0);
}

START_TEST(dial_timeout)
{
    run(_i, dial_timeout_body);
}
END_TEST

/* A socket of the caller's own making: blocking, until weft sees it. */
static void connect_body(void)
{
    int listener = listen_local(0);
    struct sockaddr_in sa = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port_of(listener)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    OK(fd >= 0);
    EQ(weft_connect(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    int again = weft_connect(fd, (struct sockaddr *)&sa, sizeof sa);
    OK(again == -EISCONN || again == 0); /* 0: Linux, once, after a connect without blocking */
    int peer = weft_accept(listener, NULL, NULL);
    OK(peer >= 0);
    Reader r;
    reader_start(&r, fd);
    EQ(weft_write(peer, "hi", 2), 2);
    EQ(reader_result(&r), 2);
    EQ(weft_close(fd), 0);
    EQ(weft_close(peer), 0);
    EQ(weft_close(listener), 0);
    OK((fd = socket(AF_INET, SOCK_STREAM, 0)) >= 0);
    EQ(weft_connect(fd, (struct sockaddr *)&sa, sizeof sa), -ECONNREFUSED);
    EQ(weft_close(fd), 0);
}

START_TEST(connect_plain)
{
    run(_i, connect_body);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("net");
    TCase *tc = tcase_create("net");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, big, 0, NPROCS);
    tcase_add_loop_test(tc, data_and_end, 0, NPROCS);
    tcase_add_loop_test(tc, urgent, 0, NPROCS);
    tcase_add_loop_test(tc, zero, 0, NPROCS);
    tcase_add_loop_test(tc, epipe, 0, NPROCS);
    tcase_add_loop_test(tc, read_timeout, 0, NPROCS);
    tcase_add_loop_test(tc, unblocks, 0, NPROCS);
    tcase_add_loop_test(tc, put_off, 0, NPROCS);
    tcase_add_loop_test(tc, write_timeout, 0, NPROCS);
    tcase_add_loop_test(tc, accept_timeout, 0, NPROCS);
    tcase_add_loop_test(tc, various, 0, NPROCS);
    tcase_add_loop_test(tc, deadline_race, 0, NPROCS);
    tcase_add_loop_test(tc, close_unblocks, 0, NPROCS);
    tcase_add_loop_test(tc, close_listener, 0, NPROCS);
    tcase_add_loop_test(tc, emfile, 0, NPROCS);
    tcase_add_loop_test(tc, accept_many, 0, NPROCS);
    tcase_add_loop_test(tc, accept_address, 0, NPROCS);
    tcase_add_loop_test(tc, listen_dial, 0, NPROCS);
    tcase_add_loop_test(tc, dial_timeout, 0, NPROCS);
    tcase_add_loop_test(tc, connect_plain, 0, NPROCS);
    suite_add_tcase(s, tc);
    return run_suite(s);
}
