/* SPDX-License-Identifier: MIT
 *
 * check_netpoll.c: readiness of descriptors of all kinds: pipes, socket pairs,
 * datagrams, files; bad and closed ones; numbers used again; threads that are
 * not weft's; before, after and between runs.
 * What a test answers to in Go's own tests is named at it.
 */
#include "net_test.h"

#include <sys/eventfd.h>
#include <sys/syscall.h>

/* ---- kinds ------------------------------------------------------------------------ */

enum { PIPES = 100 };

static void read_pipe(void *arg)
{
    Reader *r = arg;
    r->n = weft_read(r->fd, r->buf, 3);
    weft_wg_done(&r->done);
}

/* Go: TestPipeThreads: many blocked reads need few threads. */
static void pipe_threads_body(void)
{
    static Reader r[PIPES];
    int w[PIPES];
    for (int i = 0; i < PIPES; i++) {
        int p[2];
        EQ(pipe(p), 0); /* blocking: weft must make it otherwise before it reads */
        r[i] = (Reader){.fd = p[0]};
        w[i] = p[1];
        weft_wg_add(&r[i].done, 1);
        go(read_pipe, &r[i]);
    }
    weft_sleep(10 * MS);
    weft_stats_t s;
    EQ(weft_stats(&s), 0);
    OK(s.threads <= 8);
    EQ(s.coroutines, PIPES + 1);
    for (int i = 0; i < PIPES; i++)
        EQ(weft_write(w[i], "abc", 3), 3);
    for (int i = 0; i < PIPES; i++) {
        EQ(reader_result(&r[i]), 3);
        EQ(weft_close(w[i]), 0);
        EQ(weft_read(r[i].fd, r[i].buf, 1), 0);
        EQ(weft_close(r[i].fd), 0);
    }
    EQ(weft_stats(&s), 0);
    OK(s.netpoll_wakeups >= PIPES / 2);
}

START_TEST(pipe_threads)
{
    run(_i, pipe_threads_body);
}
END_TEST

static _Atomic size_t filled; /* a pipe orders too, but the thread sanitizer does not know */

static void fill_pipe(void *arg)
{
    int fd = *(int *)arg;
    static char buf[10000];
    for (filled = 0; filled < 1000000;) {
        ssize_t n = weft_write(fd, buf, sizeof buf);
        OK(n > 0);
        filled += (size_t)n;
    }
    EQ(weft_close(fd), 0);
}

static void pipe_full_body(void)
{
    int p[2];
    char buf[777];
    ssize_t n;
    size_t total = 0;
    EQ(pipe(p), 0);
    go(fill_pipe, &p[1]);
    while ((n = weft_read(p[0], buf, sizeof buf)) > 0)
        total += (size_t)n;
    EQ(n, 0);
    EQ(total, filled);
    EQ(weft_close(p[0]), 0);
}

START_TEST(pipe_full)
{
    run(_i, pipe_full_body);
}
END_TEST

/* A packet pipe: a short read leaves packets behind. */
static void packets_body(void)
{
    int p[2];
    char buf[64];
    Reader r;
    EQ(pipe2(p, O_DIRECT), 0);
    reader_start(&r, p[0]);
    EQ(weft_write(p[1], "1", 1), 1);
    EQ(reader_result(&r), 1);
    for (int i = 0; i < 5; i++)
        EQ(weft_write(p[1], "abcd", 4), 4);
    for (int i = 0; i < 5; i++)
        EQ(weft_read(p[0], buf, sizeof buf), 4);
    close_pair(p);
}

START_TEST(packets)
{
    run(_i, packets_body);
}
END_TEST

/* Message boundaries too: datagrams, and a stream with descriptors in it. */
static void datagrams_body(void)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof sa;
    int in = socket(AF_INET, SOCK_DGRAM, 0), out = socket(AF_INET, SOCK_DGRAM, 0);
    char buf[64];
    Reader r;
    EQ(bind(in, (struct sockaddr *)&sa, sizeof sa), 0);
    EQ(getsockname(in, (struct sockaddr *)&sa, &len), 0);
    EQ(weft_connect(out, (struct sockaddr *)&sa, sizeof sa), 0);
    reader_start(&r, in);
    EQ(weft_write(out, "one", 3), 3);
    EQ(reader_result(&r), 3);
    for (int i = 1; i <= 5; i++)
        EQ(weft_write(out, "12345", (size_t)i), i);
    for (int i = 1; i <= 5; i++)
        EQ(weft_read(in, buf, sizeof buf), i);
    EQ(weft_write(out, "", 0), 0); /* an empty datagram is one */
    EQ(weft_read(in, buf, sizeof buf), 0);
    EQ(weft_set_deadline(in, WEFT_READ, weft_now() + MS), 0);
    EQ(weft_read(in, buf, sizeof buf), -ETIMEDOUT);
    EQ(weft_close(in), 0);
    EQ(weft_close(out), 0);
}

START_TEST(datagrams)
{
    run(_i, datagrams_body);
}
END_TEST

static void send_with_fd(int fd, const char *text)
{
    union {
        struct cmsghdr align;
        char buf[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec iov = {(void *)(uintptr_t)text, strlen(text)};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.buf,
                         .msg_controllen = sizeof control.buf};
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    *(int *)(void *)CMSG_DATA(c) = 0;
    EQ(sendmsg(fd, &msg, 0), (long long)strlen(text));
}

static void unix_pair_body(void)
{
    int s[2];
    char buf[64];
    Reader r;
    EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
    reader_start(&r, s[0]);
    EQ(weft_write(s[1], "x", 1), 1);
    EQ(reader_result(&r), 1);
    send_with_fd(s[1], "abc"); /* reads stop behind each */
    send_with_fd(s[1], "de");
    send_with_fd(s[1], "f");
    EQ(weft_read(s[0], buf, sizeof buf), 3);
    EQ(weft_read(s[0], buf, sizeof buf), 2);
    EQ(weft_read(s[0], buf, sizeof buf), 1);
    EQ(shutdown(s[1], SHUT_WR), 0); /* Go: TestCloseRead/Write */
    EQ(weft_read(s[0], buf, sizeof buf), 0);
    EQ(weft_write(s[0], "back", 4), 4);
    EQ(weft_read(s[1], buf, sizeof buf), 4);
    close_pair(s);
}

START_TEST(unix_pair)
{
    run(_i, unix_pair_body);
}
END_TEST

static void eventfd_body(void)
{
    Reader r;
    uint64_t n = 5;
    int fd = eventfd(0, 0);
    OK(fd >= 0);
    reader_start(&r, fd);
    EQ(weft_write(fd, &n, sizeof n), 8);
    EQ(reader_result(&r), 8);
    EQ(memcmp(r.buf, &n, 8), 0);
    EQ(weft_close(fd), 0);
}

START_TEST(event)
{
    run(_i, eventfd_body);
}
END_TEST

/* Go: TestNonpollableDeadline. */
static void files_body(void)
{
    char name[] = "/tmp/weft-test-XXXXXX", buf[8];
    int fd = mkstemp(name);
    OK(fd >= 0);
    unlink(name);
    EQ(weft_write(fd, "hello", 5), 5);
    EQ(lseek(fd, 0, SEEK_SET), 0);
    EQ(weft_read(fd, buf, 8), 5);
    EQ(weft_read(fd, buf, 8), 0);
    EQ(weft_poll_fd(fd, WEFT_READ, 0), -EPERM);
    OK((fcntl(fd, F_GETFL) & O_NONBLOCK) == 0);
    EQ(weft_close(fd), 0);
    EQ(weft_read(fd, buf, 8), -EBADF);
    OK((fd = open("/dev/zero", O_RDWR)) >= 0);
    EQ(weft_read(fd, buf, 8), 8);
    EQ(weft_write(fd, buf, 8), 8);
    EQ(weft_close(fd), 0);
    OK((fd = open("/tmp", O_RDONLY)) >= 0);
    EQ(weft_read(fd, buf, 8), -EISDIR);
    EQ(weft_close(fd), 0);
}

START_TEST(files)
{
    run(_i, files_body);
}
END_TEST

/* ---- errors -------------------------------------------------------------------------- */

static void bad_body(void)
{
    static const int bad[] = {-1, -5, 900, 1 << 20, 0x7fffffff};
    char c;
    struct sockaddr_in sa = {.sin_family = AF_INET};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int fd = bad[i];
        EQ(weft_read(fd, &c, 1), -EBADF);
        EQ(weft_read(fd, &c, 0), -EBADF);
        EQ(weft_write(fd, &c, 1), -EBADF);
        EQ(weft_accept(fd, NULL, NULL), -EBADF);
        EQ(weft_connect(fd, (struct sockaddr *)&sa, sizeof sa), -EBADF);
        EQ(weft_poll_fd(fd, WEFT_READ, 0), -EBADF);
        EQ(weft_set_deadline(fd, WEFT_READ, 0), -EBADF);
        EQ(weft_close(fd), -EBADF);
    }
    int p[2];
    EQ(pipe(p), 0);
    EQ(weft_read(p[1], &c, 1), -EBADF); /* the wrong end */
    EQ(weft_write(p[0], &c, 1), -EBADF);
    EQ(weft_accept(p[0], NULL, NULL), -ENOTSOCK);
    EQ(weft_poll_fd(p[0], 0, 0), -EINVAL);
    EQ(weft_poll_fd(p[0], 4, 0), -EINVAL);
    EQ(weft_poll_fd(p[0], WEFT_READ, -1), -EINVAL);
    EQ(weft_set_deadline(p[0], 0, 0), -EINVAL);
    EQ(weft_set_deadline(p[0], 8, 0), -EINVAL);
    EQ(weft_set_deadline(p[0], WEFT_READ, -1), -EINVAL);
    EQ(weft_write(p[1], (void *)8, 5000), -EFAULT);
    close_pair(p);
    for (int i = 0; i < 2; i++) {
        EQ(weft_read(p[i], &c, 1), -EBADF);
        EQ(weft_close(p[i]), -EBADF);
    }
}

START_TEST(bad)
{
    run(_i, bad_body);
}
END_TEST

static void errno_kept_body(void)
{
    int p[2];
    Reader r;
    char c;
    EQ(pipe(p), 0);
    errno = 77;
    EQ(weft_read(-1, &c, 1), -EBADF);
    EQ(weft_read(900, &c, 1), -EBADF);
    EQ(weft_dial_tcp("127.0.0.1", 1, 0), -ECONNREFUSED);
    EQ(errno, 77);
    reader_start(&r, p[0]);
    EQ(weft_set_deadline(p[0], WEFT_READ, weft_now() + MS), 0);
    EQ(reader_result(&r), -ETIMEDOUT);
    EQ(errno, 77);
    close_pair(p);
    EQ(errno, 77);
}

START_TEST(errno_kept)
{
    run(_i, errno_kept_body);
}
END_TEST

/* ---- poll ----------------------------------------------------------------------------- */

static void write_later(void *arg)
{
    weft_sleep(3 * MS);
    EQ(weft_write(*(int *)arg, "x", 1), 1);
}

static void poll_body(void)
{
    int s[2];
    char buf[64];
    EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
    EQ(weft_poll_fd(s[0], WEFT_WRITE, 0), WEFT_WRITE);
    EQ(weft_poll_fd(s[0], WEFT_READ | WEFT_WRITE, 0), WEFT_WRITE);
    int64_t start = weft_now();
    EQ(weft_poll_fd(s[0], WEFT_READ, start - 1), -ETIMEDOUT);
    EQ(weft_poll_fd(s[0], WEFT_READ, start + 10 * MS), -ETIMEDOUT);
    OK(weft_now() >= start + 10 * MS);
    for (int i = 0; i < 10; i++) {
        go(write_later, &s[1]);
        EQ(weft_poll_fd(s[0], WEFT_READ, i % 2 ? 0 : weft_now() + 5 * SEC), WEFT_READ);
        EQ(weft_poll_fd(s[0], WEFT_READ, start), WEFT_READ); /* at once, though it is late */
        EQ(weft_poll_fd(s[0], WEFT_READ | WEFT_WRITE, 0), WEFT_READ | WEFT_WRITE);
        EQ(weft_read(s[0], buf, sizeof buf), 1);
    }
    /* A poll must not take away the edge of a read that waits, nor the other way. */
    Reader r;
    reader_start(&r, s[0]);
    EQ(weft_poll_fd(s[0], WEFT_READ, weft_now() + 2 * MS), -ETIMEDOUT);
    EQ(weft_write(s[1], "x", 1), 1);
    EQ(reader_result(&r), 1);
    EQ(weft_close(s[1]), 0);
    EQ(weft_poll_fd(s[0], WEFT_READ, 0), WEFT_READ); /* the end of the stream is readable */
    EQ(weft_poll_fd(s[0], WEFT_READ, 0), WEFT_READ);
    EQ(weft_close(s[0]), 0);
}

START_TEST(polls)
{
    run(_i, poll_body);
}
END_TEST

static void poll_once(void *arg)
{
    Reader *r = arg;
    r->began = true;
    r->n = weft_poll_fd(r->fd, WEFT_READ, r->len != 0 ? weft_now() + 10 * SEC : 0);
    weft_wg_done(&r->done);
}

static void poll_close_body(void)
{
    for (int i = 0; i < 10; i++) {
        int s[2];
        Reader r[2];
        EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
        for (int k = 0; k < 2; k++) {
            r[k] = (Reader){.fd = s[0], .len = (size_t)k};
            weft_wg_add(&r[k].done, 1);
            go(poll_once, &r[k]);
        }
        while (!r[0].began || !r[1].began)
            weft_yield();
        weft_sleep(20 * MS); /* both are parked */
        EQ(weft_close(s[0]), 0);
        EQ(reader_result(&r[0]), -ECANCELED);
        EQ(reader_result(&r[1]), -ECANCELED);
        EQ(weft_close(s[1]), 0);
    }
}

START_TEST(poll_close)
{
    run(_i, poll_close_body);
}
END_TEST

/* ---- numbers used again ------------------------------------------------------------------ */

/* The old file lives on through a duplicate, so that its registration could
 * still give events; they must not wake who waits for the new one, nor may its
 * deadline, its kind or its end be the new one's. */
static void reuse_body(void)
{
    int n = 0;
    for (int i = 0; n < 50; i++) {
        int old[2], now[2];
        Reader r;
        EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, old), 0);
        reader_start(&r, old[0]);
        EQ(weft_write(old[1], "x", 1), 1);
        EQ(reader_result(&r), 1);
        int twin = dup(old[0]);
        EQ(weft_set_deadline(old[0], WEFT_READ, weft_now() + MS), 0);
        EQ(weft_close(old[0]), 0);
        EQ(pipe(now), 0);
        OK(i < 1000);
        if (now[0] != old[0]) { /* a file that the monitor looked into had it: once more */
            close_pair(now);
            EQ(weft_close(old[1]), 0);
            close(twin);
            continue;
        }
        n++;
        reader_start(&r, now[0]);
        EQ(weft_write(old[1], "stale", 5), 5);
        EQ(weft_close(old[1]), 0);
        weft_sleep(2 * MS);
        EQ(weft_write(now[1], "new", 3), 3);
        EQ(reader_result(&r), 3);
        close_pair(now);
        close(twin);
    }
}

START_TEST(reuse)
{
    run(_i, reuse_body);
}
END_TEST

/* Plain close() behind weft's back: what weft makes itself is new all the same. */
static void plain_close_body(void)
{
    for (int i = 0; i < 20; i++) {
        int s[2], ends[2];
        Reader stuck, r;
        EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
        reader_start(&stuck, s[0]);
        EQ(weft_set_deadline(s[0], WEFT_READ | WEFT_WRITE, weft_now() + 3600 * SEC), 0);
        close(s[0]);
        close(s[1]);
        tcp_pair(ends); /* takes the numbers */
        EQ(reader_result(&stuck), -ECANCELED);
        reader_start(&r, ends[0]);
        EQ(weft_write(ends[1], "abc", 3), 3);
        EQ(reader_result(&r), 3);
        close_pair(ends);
    }
}

START_TEST(plain_close)
{
    run(_i, plain_close_body);
}
END_TEST

/* ---- threads that are not weft's ---------------------------------------------------- */

typedef struct {
    int fd, out;
    ssize_t got[4];
    _Atomic int stage;
} Thread;

static void *foreign_reader(void *arg)
{
    Thread *t = arg;
    char buf[8];
    t->stage = 1;
    t->got[0] = weft_read(t->fd, buf, sizeof buf);
    t->got[1] = weft_poll_fd(t->fd, WEFT_READ, weft_now() + 5 * MS);
    weft_set_deadline(t->fd, WEFT_READ, weft_now() + 5 * MS);
    t->got[2] = weft_read(t->fd, buf, sizeof buf);
    weft_set_deadline(t->fd, WEFT_READ, 0);
    t->stage = 2;
    t->got[3] = weft_read(t->fd, buf, sizeof buf);
    return NULL;
}

static void foreign_body(void)
{
    int s[2];
    pthread_t pt;
    EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
    Thread t = {.fd = s[0]};
    EQ(pthread_create(&pt, NULL, foreign_reader, &t), 0);
    while (t.stage < 1)
        weft_sleep(MS);
    weft_sleep(5 * MS);
    EQ(weft_write(s[1], "abc", 3), 3);
    while (t.stage < 2)
        weft_sleep(MS);
    weft_sleep(5 * MS);
    EQ(weft_close(s[0]), 0);
    pthread_join(pt, NULL);
    EQ(t.got[0], 3);
    EQ(t.got[1], -ETIMEDOUT);
    EQ(t.got[2], -ETIMEDOUT);
    EQ(t.got[3], -ECANCELED);
    EQ(weft_close(s[1]), 0);
}

START_TEST(foreign)
{
    run(_i, foreign_body);
}
END_TEST

/* The runtime sleeps altogether, main in a channel; a thread waits for a
 * descriptor, and nobody but the kernel makes it ready: some M must poll. Go: TestNetpollBreak. */
static weft_chan_t *finish;

static void *foreign_alone(void *arg)
{
    Thread *t = arg;
    char buf[8];
    usleep(50000);
    t->got[0] = weft_read(t->fd, buf, sizeof buf);
    t->stage = 2;
    weft_send(finish, NULL);
    return NULL;
}

static void *kernel_writer(void *arg)
{
    Thread *t = arg;
    usleep(120000);
    EQ(write(t->out, "abc", 3), 3);
    return NULL;
}

static void foreign_idle_body(void)
{
    int s[2];
    pthread_t a, b;
    EQ(pipe(s), 0);
    Thread t = {.fd = s[0], .out = s[1]};
    finish = weft_chan_make(0, 0);
    EQ(pthread_create(&a, NULL, foreign_alone, &t), 0);
    EQ(pthread_create(&b, NULL, kernel_writer, &t), 0);
    EQ(weft_recv(finish, NULL), 1);
    EQ(t.got[0], 3);
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    weft_chan_unref(finish);
    close_pair(s);
}

START_TEST(foreign_idle)
{
    run(_i, foreign_idle_body);
}
END_TEST

/* ---- runs --------------------------------------------------------------------------- */

static int carried[2];
static _Atomic bool first_over;

static void leave_waiting(void *arg)
{
    (void)arg;
    char c;
    ssize_t n = weft_read(carried[0], &c, 1);
    if (first_over || n != -ETIMEDOUT) /* it may come before a late end of its own run */
        abort();                       /* it was abandoned */
}

static void first_run_body(void)
{
    EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, carried), 0);
    go(leave_waiting, NULL);
    weft_sleep(2 * MS);
    EQ(weft_set_deadline(carried[0], WEFT_READ | WEFT_WRITE, weft_now() + 50 * MS), 0);
}

static void second_run_body(void)
{
    Reader r;
    weft_sleep(60 * MS); /* the deadline of the first run is not ours */
    reader_start(&r, carried[0]);
    EQ(weft_write(carried[1], "ab", 2), 2);
    EQ(reader_result(&r), 2);
    close_pair(carried);
}

START_TEST(two_runs)
{
    first_over = false;
    run(_i, first_run_body);
    first_over = true;
    for (int i = 0; i < 3; i++) {
        char c;
        EQ(weft_write(carried[1], "x", 1), 1);
        EQ(weft_read(carried[0], &c, 1), 1);
        EQ(weft_read(carried[0], &c, 1), -EPERM);
        EQ(weft_read(carried[0], &c, 1), -EPERM);
    }
    run(_i, second_run_body);
}
END_TEST

static void *wait_across(void *arg)
{
    Thread *t = arg;
    char c;
    t->stage = 1;
    t->got[0] = weft_read(t->fd, &c, 1);
    return NULL;
}

static Thread across;
static pthread_t across_thread;

static void end_with_waiter_body(void)
{
    EQ(pthread_create(&across_thread, NULL, wait_across, &across), 0);
    while (across.stage < 1)
        weft_sleep(MS);
    weft_sleep(5 * MS);
}

/* The run ends while a thread waits in it. */
START_TEST(end_with_waiter)
{
    int s[2];
    EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
    for (int i = 0; i < 5; i++) {
        across = (Thread){.fd = s[0]};
        run(_i, end_with_waiter_body);
        pthread_join(across_thread, NULL);
        EQ(across.got[0], -EPERM);
    }
    close_pair(s);
}
END_TEST

/* Before any run: what can be done at once is done. */
START_TEST(outside)
{
    int s[2];
    char c;
    (void)_i;
    EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
    EQ(weft_read(s[0], &c, 1), -EPERM);
    EQ(weft_poll_fd(s[0], WEFT_READ, 0), -EPERM);
    EQ(weft_poll_fd(s[0], WEFT_WRITE, 0), WEFT_WRITE);
    EQ(weft_write(s[1], "x", 1), 1);
    EQ(weft_read(s[0], &c, 1), 1);
    EQ(weft_set_deadline(s[0], WEFT_READ, 1), -EPERM);
    int listener = weft_listen_tcp("127.0.0.1", 0, 0);
    OK(listener >= 0);
    EQ(weft_accept(listener, NULL, NULL), -EPERM);
    EQ(weft_close(listener), 0);
    close_pair(s);
    EQ(weft_close(s[0]), -EBADF);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("netpoll");
    TCase *tc = tcase_create("netpoll");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, pipe_threads, 0, NPROCS);
    tcase_add_loop_test(tc, pipe_full, 0, NPROCS);
    tcase_add_loop_test(tc, packets, 0, NPROCS);
    tcase_add_loop_test(tc, datagrams, 0, NPROCS);
    tcase_add_loop_test(tc, unix_pair, 0, NPROCS);
    tcase_add_loop_test(tc, event, 0, NPROCS);
    tcase_add_loop_test(tc, files, 0, NPROCS);
    tcase_add_loop_test(tc, bad, 0, NPROCS);
    tcase_add_loop_test(tc, errno_kept, 0, NPROCS);
    tcase_add_loop_test(tc, polls, 0, NPROCS);
    tcase_add_loop_test(tc, poll_close, 0, NPROCS);
    tcase_add_loop_test(tc, reuse, 0, NPROCS);
    tcase_add_loop_test(tc, plain_close, 0, NPROCS);
    tcase_add_loop_test(tc, foreign, 0, NPROCS);
    tcase_add_loop_test(tc, foreign_idle, 0, NPROCS);
    tcase_add_loop_test(tc, two_runs, 0, NPROCS);
    tcase_add_loop_test(tc, end_with_waiter, 0, NPROCS);
    tcase_add_test(tc, outside);
    suite_add_tcase(s, tc);
    return run_suite(s);
}
