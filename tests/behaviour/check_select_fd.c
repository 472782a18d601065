/* SPDX-License-Identifier: MIT
 *
 * check_select_fd.c: descriptors beside channels in a select.
 *
 * A test's body runs as the main coroutine on 1, 2 and 4 processors. Go has no
 * such thing; what a test asks for is in weft.h.
 */
#include "net_test.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>

enum { MOST = 8, UNTOUCHED = 99 };

static weft_chan_t *make(size_t size, size_t cap)
{
    weft_chan_t *c = weft_chan_make(size, cap);
    OK(c != NULL);
    return c;
}

/* chan is not looked at: any value will do. */
static weft_case_t on_in(int fd)
{
    return (weft_case_t){.op = WEFT_FD_IN, .fd = fd, .chan = (void *)8, .result = UNTOUCHED};
}

static weft_case_t on_out(int fd)
{
    return (weft_case_t){.op = WEFT_FD_OUT, .fd = fd, .chan = (void *)8, .result = UNTOUCHED};
}

static weft_case_t on_recv(weft_chan_t *c, void *v)
{
    return (weft_case_t){.op = WEFT_RECV, .fd = -1, .chan = c, .elem = v, .result = UNTOUCHED};
}

static weft_case_t on_send(weft_chan_t *c, void *v)
{
    return (weft_case_t){.op = WEFT_SEND, .fd = -1, .chan = c, .elem = v, .result = UNTOUCHED};
}

/* A coroutine that selects once, with the cases on its own stack. */
typedef struct {
    weft_case_t k[MOST];
    int n;
    int64_t deadline;
    int got, result;
    _Atomic bool over;
    weft_wg_t done;
} Waiter;

static void wait_once(void *arg)
{
    Waiter *w = arg;
    weft_case_t k[MOST];
    memcpy(k, w->k, sizeof k);
    w->got = weft_select(k, w->n, w->deadline);
    for (int i = 0; i < w->n; i++)
        OK(i == w->got || k[i].result == UNTOUCHED);
    if (w->got >= 0)
        w->result = k[w->got].result;
    w->over = true;
    weft_wg_done(&w->done);
}

static void start(Waiter *w, int n)
{
    w->n = n;
    w->got = -77;
    w->over = false;
    weft_wg_add(&w->done, 1);
    go(wait_once, w);
    for (int i = 0; i < 4; i++)
        weft_yield();
    weft_sleep(2 * MS); /* it is parked by now; if not, the test is only weaker */
}

static void ends(Waiter *w, int got, int result)
{
    weft_wg_wait(&w->done);
    EQ(w->got, got);
    EQ(w->result, result);
}

/* Its case i is the one that weft_close() ended. False: it had not even begun. */
static bool cancelled(Waiter *w, int i)
{
    weft_wg_wait(&w->done);
    EQ(w->got, i);
    OK(w->result == -ECANCELED || w->result == -EBADF);
    return w->result == -ECANCELED;
}

static int try_one(weft_case_t k)
{
    int got = weft_try_select(&k, 1);
    return got == 0 ? k.result : got;
}

static void put_byte(int fd)
{
    EQ(weft_write(fd, "x", 1), 1);
}

static void get_byte(int fd)
{
    char c;
    EQ(weft_read(fd, &c, 1), 1);
}

static void fill(int fd)
{
    static char zeros[4096];
    put_byte(fd); /* makes it non-blocking */
    while (write(fd, zeros, sizeof zeros) > 0)
        ;
    EQ(errno, EAGAIN);
}

/* ---- what is ready ----------------------------------------------------------------------- */

static void ready_body(void)
{
    int p[2], v = 5;
    weft_chan_t *c = make(sizeof(int), 1);
    EQ(pipe(p), 0);
    weft_case_t k[2] = {on_in(p[0]), on_recv(c, &v)};
    EQ(weft_try_select(k, 2), -EAGAIN);
    EQ(weft_select(k, 2, 1), -ETIMEDOUT);
    put_byte(p[1]);
    EQ(weft_try_select(k, 2), 0);
    EQ(k[0].result, WEFT_READ);
    EQ(k[1].result, UNTOUCHED);
    EQ(weft_select(k, 2, 1), 0); /* whatever the deadline; and nothing was read */
    get_byte(p[0]);
    EQ(weft_send(c, &v), 0);
    v = 0;
    k[0].result = UNTOUCHED;
    EQ(weft_select(k, 2, 0), 1);
    OK(k[1].result == 1 && v == 5 && k[0].result == UNTOUCHED);

    EQ(try_one(on_out(p[1])), WEFT_WRITE);
    EQ(try_one(on_in(p[1])), -EAGAIN); /* the wrong end never is */
    fill(p[1]);
    EQ(try_one(on_out(p[1])), -EAGAIN);
    weft_case_t s[2] = {on_out(p[1]), on_send(c, &v)};
    EQ(weft_select(s, 2, 0), 1);
    EQ(s[1].result, 0);
    EQ(weft_select(s, 2, weft_now() + MS), -ETIMEDOUT);
    EQ(weft_close(p[0]), 0);
    EQ(weft_select(s, 2, 0), 0); /* an error is told by the write */
    EQ(s[0].result, WEFT_WRITE);
    signal(SIGPIPE, SIG_IGN);
    EQ(weft_write(p[1], "x", 1), -EPIPE);
    EQ(weft_close(p[1]), 0);

    EQ(pipe(p), 0);
    EQ(weft_close(p[1]), 0);
    EQ(try_one(on_in(p[0])), WEFT_READ); /* so is the end */
    EQ(weft_read(p[0], &v, 1), 0);
    EQ(try_one(on_in(p[0])), WEFT_READ);
    EQ(weft_close(p[0]), 0);
    weft_chan_unref(c);
}

START_TEST(ready)
{
    run(_i, ready_body);
}
END_TEST

static void files_body(void)
{
    char name[] = "/tmp/weft-test-XXXXXX";
    int fd = mkstemp(name);
    OK(fd >= 0);
    unlink(name);
    for (int i = 0; i < 3; i++) {
        weft_case_t k[2] = {on_in(fd), on_out(fd)};
        int got = i == 0 ? weft_try_select(k, 2) : weft_select(k, 2, (int64_t)(i == 1));
        OK(got == 0 || got == 1);
        EQ(k[got].result, got == 0 ? WEFT_READ : WEFT_WRITE);
    }
    OK((fcntl(fd, F_GETFL) & O_NONBLOCK) == 0);
    EQ(weft_close(fd), 0);
    OK((fd = open("/dev/zero", O_RDWR)) >= 0);
    EQ(try_one(on_in(fd)), WEFT_READ);
    EQ(weft_close(fd), 0);
}

START_TEST(files)
{
    run(_i, files_body);
}
END_TEST

static void sockets_body(void)
{
    int ends_[2], fd;
    int listener = listen_local(0);
    Waiter w = {.k = {on_in(listener)}};
    EQ(try_one(on_in(listener)), -EAGAIN);
    start(&w, 1);
    OK((fd = weft_dial_tcp("127.0.0.1", port_of(listener), 0)) >= 0);
    ends(&w, 0, WEFT_READ);
    OK((ends_[1] = weft_accept(listener, NULL, NULL)) >= 0);
    ends_[0] = fd;
    EQ(weft_close(listener), 0);
    EQ(try_one(on_out(ends_[0])), WEFT_WRITE);
    for (int i = 0; i < 20; i++) {
        w.k[0] = on_in(ends_[i % 2]);
        start(&w, 1);
        EQ(weft_write(ends_[1 - i % 2], "abcd", 4), 4);
        ends(&w, 0, WEFT_READ);
        char buf[64];
        EQ(weft_read(ends_[i % 2], buf, sizeof buf), 4); /* a short read: it is dry */
    }
    w.k[0] = on_in(ends_[0]);
    start(&w, 1);
    EQ(shutdown(ends_[1], SHUT_WR), 0);
    ends(&w, 0, WEFT_READ);
    close_pair(ends_);
}

START_TEST(sockets)
{
    run(_i, sockets_body);
}
END_TEST

static void bad_body(void)
{
    static const int bad[] = {-1, -5, 900, 1 << 20, 0x7fffffff};
    weft_chan_t *never = make(0, 0);
    int p[2];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        for (int how = 0; how < 3; how++) {
            weft_case_t k[2] = {on_recv(never, NULL), how == 2 ? on_out(bad[i]) : on_in(bad[i])};
            EQ(how == 0 ? weft_try_select(k, 2) : weft_select(k, 2, how == 1), 1);
            EQ(k[1].result, -EBADF);
        }
    EQ(pipe(p), 0);
    put_byte(p[1]);
    weft_case_t k[3] = {on_in(p[0]), on_recv(never, NULL), on_in(p[0])};
    static const int ops[] = {0, 3, 12, 16, -4, 5};
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        k[1].op = ops[i];
        EQ(weft_try_select(k, 3), -EINVAL);
        EQ(weft_select(k, 3, 0), -EINVAL);
        EQ(weft_select(k + 1, 1, 0), -EINVAL);
    }
    get_byte(p[0]);
    close_pair(p);
    EQ(weft_select(k, 1, 0), 0); /* closed before it began */
    EQ(k[0].result, -EBADF);
    EQ(pipe(p), 0);
    put_byte(p[1]);
    get_byte(p[0]); /* weft knows it */
    close(p[0]);
    close(p[1]);
    k[0] = on_in(p[0]);
    EQ(weft_select(k, 1, 0), 0);
    EQ(k[0].result, -EBADF);
    EQ(weft_close(p[0]), -EBADF); /* they know now, too */
    EQ(weft_close(p[1]), -EBADF);
    weft_chan_unref(never);
}

START_TEST(bad)
{
    run(_i, bad_body);
}
END_TEST

static void errno_kept_body(void)
{
    int p[2];
    EQ(pipe(p), 0);
    errno = 77;
    EQ(try_one(on_in(900)), -EBADF);
    EQ(try_one(on_in(p[0])), -EAGAIN);
    weft_case_t k = on_in(p[0]);
    EQ(weft_select(&k, 1, weft_now() + MS), -ETIMEDOUT);
    k.op = 12;
    EQ(weft_try_select(&k, 1), -EINVAL);
    EQ(errno, 77);
    close_pair(p);
}

START_TEST(errno_kept)
{
    run(_i, errno_kept_body);
}
END_TEST

/* ---- waiting ------------------------------------------------------------------------------- */

/* Each of three wins in turn; what did not is there the next time. */
static void wait_body(void)
{
    int p[2], full[2], v = 0;
    weft_chan_t *c = make(sizeof(int), 0);
    EQ(pipe(p), 0);
    EQ(pipe2(full, O_NONBLOCK), 0);
    fill(full[1]);
    for (int i = 0; i < 30; i++) {
        Waiter w = {.k = {on_out(full[1]), on_recv(c, NULL), on_in(p[0])},
                    .deadline = i % 2 ? 0 : weft_now() + 100 * SEC};
        start(&w, 3);
        OK(!w.over);
        switch (i % 3) {
        case 0:
            put_byte(p[1]);
            ends(&w, 2, WEFT_READ);
            get_byte(p[0]);
            break;
        case 1:
            EQ(weft_send(c, &v), 0);
            ends(&w, 1, 1);
            EQ(weft_try_send(c, &v), -EAGAIN); /* nobody was left in the queue */
            break;
        default:
            while (read(full[0], (char[4096]){0}, 4096) > 0)
                ;
            ends(&w, 0, WEFT_WRITE);
            fill(full[1]);
        }
    }
    close_pair(p);
    close_pair(full);
    weft_chan_unref(c);
}

START_TEST(waits)
{
    run(_i, wait_body);
}
END_TEST

/* Both are made ready at once, by two others: one is done, and the other is not lost, for a select
 * nor (every other round) for a read or a receive. */
typedef struct {
    int p[2];
    weft_chan_t *c, *turn[2];
} Both;

static void both_write(void *arg)
{
    Both *b = arg;
    for (int i = 0; weft_recv(b->turn[0], NULL) == 1; i++) {
        if (i % 8 < 4)
            weft_sleep(i % 4 * 10 * US);
        put_byte(b->p[1]);
    }
}

static void both_send(void *arg)
{
    Both *b = arg;
    for (int i = 0; weft_recv(b->turn[1], NULL) == 1; i++) {
        if (i % 8 >= 4)
            weft_sleep(i % 4 * 10 * US);
        EQ(weft_send(b->c, NULL), 0);
    }
}

static void both_body(void)
{
    Both b = {.c = make(0, 0), .turn = {make(0, 0), make(0, 0)}};
    int won[2] = {0, 0};
    EQ(pipe(b.p), 0);
    go(both_write, &b);
    go(both_send, &b);
    for (int i = 0; i < 1000; i++) {
        weft_case_t k[2] = {on_in(b.p[0]), on_recv(b.c, NULL)};
        EQ(weft_send(b.turn[i / 2 % 2], NULL), 0);
        EQ(weft_send(b.turn[1 - i / 2 % 2], NULL), 0);
        int got = weft_select(k, 2, 0);
        EQ(k[got].result, got == 0 ? WEFT_READ : 1);
        won[got]++;
        if (got == 0)
            get_byte(b.p[0]);
        if (i % 2 == 0) {
            EQ(weft_select(k, 2, 0), 1 - got);
            if (got == 1)
                get_byte(b.p[0]);
        } else if (got == 1) {
            get_byte(b.p[0]);
        } else {
            EQ(weft_recv(b.c, NULL), 1);
        }
    }
    OK(won[0] > 10 && won[1] > 10);
    weft_chan_close(b.turn[0]);
    weft_chan_close(b.turn[1]);
    weft_sleep(5 * MS);
    close_pair(b.p);
}

START_TEST(both)
{
    run(_i, both_body);
}
END_TEST

static void deadline_body(void)
{
    int p[2];
    weft_chan_t *c = make(0, 0);
    EQ(pipe(p), 0);
    weft_case_t k[2] = {on_recv(c, NULL), on_in(p[0])};
    for (int i = 0; i < 5; i++) {
        int64_t until = weft_now() + 3 * MS;
        EQ(weft_select(k, 2, until), -ETIMEDOUT);
        OK(weft_now() >= until);
        OK(k[0].result == UNTOUCHED && k[1].result == UNTOUCHED);
    }
    EQ(weft_select(k, 2, weft_now() - 1), -ETIMEDOUT);
    put_byte(p[1]);
    EQ(weft_select(k, 2, 1), 1);
    get_byte(p[0]);
    close_pair(p);
    weft_chan_unref(c);
}

START_TEST(deadline)
{
    run(_i, deadline_body);
}
END_TEST

/* weft_set_deadline(): the case is ready, and says so. */
static void fd_deadline_body(void)
{
    int s[2];
    weft_chan_t *c = make(0, 0);
    EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
    EQ(weft_set_deadline(s[0], WEFT_READ, weft_now() - 1), 0);
    EQ(try_one(on_in(s[0])), -ETIMEDOUT);
    EQ(try_one(on_out(s[0])), WEFT_WRITE);
    weft_case_t k[2] = {on_recv(c, NULL), on_in(s[0])};
    EQ(weft_select(k, 2, 0), 1);
    EQ(k[1].result, -ETIMEDOUT);
    put_byte(s[1]); /* what can be read is read, however late */
    EQ(weft_select(k, 2, 0), 1);
    EQ(k[1].result, WEFT_READ);
    get_byte(s[0]);
    EQ(weft_set_deadline(s[0], WEFT_READ, 0), 0);
    EQ(weft_try_select(k, 2), -EAGAIN);

    for (int i = 0; i < 6; i++) { /* while it waits */
        Waiter w = {.k = {on_recv(c, NULL), on_in(s[0])},
                    .deadline = i % 2 ? 0 : weft_now() + 100 * SEC};
        start(&w, 2);
        EQ(weft_set_deadline(s[0], WEFT_WRITE, 1), 0); /* the other direction's */
        weft_sleep(MS);
        OK(!w.over);
        EQ(weft_set_deadline(s[0], WEFT_READ, i % 3 == 0 ? 1 : weft_now() + 3 * MS), 0);
        ends(&w, 1, -ETIMEDOUT);
        EQ(weft_set_deadline(s[0], WEFT_READ | WEFT_WRITE, 0), 0);
    }
    close_pair(s);
    weft_chan_unref(c);
}

START_TEST(fd_deadline)
{
    run(_i, fd_deadline_body);
}
END_TEST

static void close_body(void)
{
    int count = 0;
    for (int i = 0; i < 10; i++) {
        int p[2], v;
        weft_chan_t *c = make(sizeof v, 0);
        EQ(pipe(p), 0);
        fill(p[1]);
        Waiter w[2] = {
            {.k = {on_recv(c, &v), on_out(p[1])}, .deadline = i % 2 ? 0 : weft_now() + 100 * SEC},
            {.k = {on_out(p[1]), on_recv(c, &v)}}};
        start(&w[0], 2);
        start(&w[1], 2);
        EQ(weft_close(p[1]), 0);
        count += cancelled(&w[0], 1) + cancelled(&w[1], 0);
        EQ(weft_try_send(c, &i), -EAGAIN);
        EQ(weft_close(p[0]), 0);
        weft_chan_unref(c);
    }
    OK(count >= 2);
}

START_TEST(closed)
{
    run(_i, close_body);
}
END_TEST

/* weft_cancel() ends the select as a whole; against a write of which the byte must be there after. */
static void cancel_body(void)
{
    int p[2], count[2] = {0, 0};
    weft_chan_t *c = make(0, 0);
    EQ(pipe(p), 0);
    for (int i = 0; i < 60; i++) {
        Waiter w = {.k = {on_in(p[0]), on_recv(c, NULL), on_in(p[0])},
                    .n = 3,
                    .deadline = i % 2 ? 0 : weft_now() + 100 * SEC};
        weft_id_t id;
        weft_attr_t attr = {.id = &id};
        weft_wg_add(&w.done, 1);
        EQ(weft_go_with(&attr, wait_once, &w), 0);
        if (i % 3 != 0)
            weft_sleep(MS);
        if (i % 4 == 3)
            put_byte(p[1]);
        int rc = weft_cancel(id);
        OK(rc == 0 || rc == -ESRCH);
        weft_wg_wait(&w.done);
        if (i % 4 == 3) {
            OK(w.got == -ECANCELED || (w.got % 2 == 0 && w.result == WEFT_READ));
            EQ(try_one(on_in(p[0])), WEFT_READ);
            get_byte(p[0]);
        } else {
            EQ(w.got, -ECANCELED);
        }
        count[w.got < 0]++;
        EQ(weft_try_send(c, NULL), -EAGAIN);
        EQ(try_one(on_in(p[0])), -EAGAIN);
    }
    OK(count[0] > 0 && count[1] > 0);
    close_pair(p);
    weft_chan_unref(c);
}

START_TEST(cancel)
{
    run(_i, cancel_body);
}
END_TEST

/* The number is another file's before who waited has run; the old file lives on through a
 * duplicate. */
static void reuse_body(void)
{
    int count = 0, n = 0;
    for (int i = 0; n < 20; i++) {
        int old[2], now[2];
        char buf[8];
        EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, old), 0);
        Waiter w = {.k = {on_in(old[0])}}, next = w;
        start(&w, 1);
        int twin = dup(old[0]);
        EQ(weft_set_deadline(old[0], WEFT_READ, weft_now() + 10 * MS), 0);
        EQ(weft_close(old[0]), 0);
        EQ(pipe(now), 0);
        OK(i < 1000);
        if (now[0] != old[0]) { /* a file that the monitor looked into had it: once more */
            weft_wg_wait(&w.done);
            close_pair(now);
            EQ(weft_close(old[1]), 0);
            close(twin);
            continue;
        }
        n++;
        start(&next, 1);
        count += w.over && w.result == -ECANCELED; /* else it was late, and waits for the new one */
        EQ(weft_write(old[1], "stale", 5), 5);
        EQ(weft_close(old[1]), 0);
        weft_sleep(12 * MS);
        OK(!next.over);
        EQ(weft_write(now[1], "new", 3), 3);
        ends(&next, 0, WEFT_READ);
        EQ(weft_read(now[0], buf, sizeof buf), 3);
        close_pair(now);
        weft_wg_wait(&w.done);
        close(twin);
    }
    OK(count >= 2);
}

START_TEST(reuse)
{
    run(_i, reuse_body);
}
END_TEST

/* Plain close() behind weft's back: what weft makes itself ends the wait. */
static void plain_close_body(void)
{
    int count = 0;
    for (int i = 0; i < 20; i++) {
        int s[2], tcp[2];
        EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
        Waiter w = {.k = {on_in(s[0])}};
        start(&w, 1);
        close(s[0]);
        close(s[1]);
        tcp_pair(tcp); /* takes the numbers */
        weft_sleep(2 * MS);
        count += w.over; /* else it was late, and waits for the new one */
        close_pair(tcp);
        cancelled(&w, 0);
    }
    OK(count >= 2);
}

START_TEST(plain_close)
{
    run(_i, plain_close_body);
}
END_TEST

/* ---- fairness; one descriptor for many ------------------------------------------------- */

/* n cases that are always ready, 1000 n times: each about 1000 (sigma below 32). */
static void fair(weft_case_t *k, int n)
{
    int count[MOST] = {0};
    for (int i = 0; i < 1000 * n; i++) {
        int got = i % 2 ? weft_try_select(k, n) : weft_select(k, n, 0);
        OK(got >= 0 && got < n);
        count[got]++;
    }
    for (int i = 0; i < n; i++)
        if (count[i] < 780 || count[i] > 1220)
            ck_abort_msg("case %d of %d: %d times", i, n, count[i]);
}

static void fair_body(void)
{
    int p[2], s[2];
    weft_chan_t *c = make(0, 0);
    weft_chan_close(c);
    EQ(pipe(p), 0);
    EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
    put_byte(p[1]);
    put_byte(s[1]);
    weft_case_t mixed[4] = {on_in(p[0]), on_recv(c, NULL), on_in(s[0]), on_recv(c, NULL)};
    fair(mixed, 4);
    weft_case_t same[3] = {on_in(s[0]), on_out(s[0]), on_in(s[0])};
    fair(same, 3);
    weft_case_t odd[3] = {on_in(p[0]), on_in(-1), on_recv(c, NULL)};
    fair(odd, 3);
    close_pair(p);
    close_pair(s);
}

START_TEST(fairness)
{
    run(_i, fair_body);
}
END_TEST

/* The same descriptor in several cases of one select that waits. */
static void twice_body(void)
{
    int s[2], won[3] = {0, 0, 0};
    weft_chan_t *c = make(0, 0);
    EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
    fill(s[0]);
    for (int i = 0; i < 40; i++) {
        Waiter w = {.k = {on_in(s[0]), on_in(s[0]), on_recv(c, NULL), on_out(s[0])}};
        start(&w, 4);
        if (i % 4 == 3) {
            EQ(weft_send(c, NULL), 0);
            ends(&w, 2, 1);
            continue;
        }
        put_byte(s[1]);
        weft_wg_wait(&w.done);
        OK((w.got == 0 || w.got == 1) && w.result == WEFT_READ);
        won[w.got]++;
        get_byte(s[0]);
    }
    OK(won[0] > 0 && won[1] > 0);
    Waiter w = {.k = {on_in(s[0]), on_in(s[0]), on_out(s[0])}};
    start(&w, 3);
    EQ(weft_close(s[0]), 0);
    weft_wg_wait(&w.done);
    OK(w.got >= 0 && (w.result == -ECANCELED || w.result == -EBADF));
    EQ(weft_close(s[1]), 0);
    weft_chan_unref(c);
}

START_TEST(twice)
{
    run(_i, twice_body);
}
END_TEST

/* Several coroutines, each of them a select, take turns at one socket: every packet is taken once.
 * */
enum { TAKERS = 4, PACKETS = 2000 };
static int packets_fd;
static weft_chan_t *packets_quit;
static _Atomic int packets_taken, packets_missed;
static _Atomic bool packet_seen[PACKETS];

static void taker(void *arg)
{
    weft_case_t k[2] = {on_in(packets_fd), on_recv(packets_quit, NULL)};
    for (int got; (got = weft_select(k, 2, 0)) == 0;) {
        int v;
        ssize_t n = weft_recvfrom(packets_fd, &v, sizeof v, MSG_DONTWAIT, NULL, NULL);
        EQ(k[0].result, WEFT_READ);
        if (n == -EAGAIN) {
            packets_missed++;
            continue;
        }
        EQ(n, sizeof v);
        OK(!atomic_exchange(&packet_seen[v], true));
        packets_taken++;
    }
    EQ(k[1].result, 0);
    weft_wg_done(arg);
}

static void share_body(void)
{
    int s[2];
    weft_wg_t done = {0};
    EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s), 0);
    packets_fd = s[0];
    packets_quit = make(0, 0);
    packets_taken = 0;
    weft_wg_add(&done, TAKERS);
    for (int i = 0; i < TAKERS; i++)
        go(taker, &done);
    for (int i = 0; i < PACKETS; i++) {
        EQ(weft_write(s[1], &i, sizeof i), sizeof i);
        if (i % 16 == 0)
            weft_yield();
        if (i % 100 == 0)
            weft_sleep(100 * US); /* all wait */
    }
    while (packets_taken < PACKETS)
        weft_sleep(MS);
    weft_chan_close(packets_quit);
    weft_wg_wait(&done);
    EQ(packets_taken, PACKETS);
    close_pair(s);
    weft_chan_unref(packets_quit);
}

START_TEST(shared)
{
    run(_i, share_body);
}
END_TEST

/* A reader and a select wait for the same byte: if the reader is faster, the select waits on. */
static void stolen_body(void)
{
    int stolen = 0;
    for (int i = 0; i < 20; i++) {
        int s[2];
        Reader r;
        EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
        Waiter w = {.k = {on_in(s[0])}};
        reader_start(&r, s[0]);
        start(&w, 1);
        put_byte(s[1]);
        EQ(reader_result(&r), 1);
        weft_sleep(2 * MS);
        if (!w.over) {
            stolen++;
            EQ(weft_close(s[0]), 0);
            cancelled(&w, 0);
        } else {
            ends(&w, 0, WEFT_READ);
            EQ(weft_close(s[0]), 0);
        }
        EQ(weft_close(s[1]), 0);
    }
    if (getenv("WEFT_DEBUG") == NULL && weft_procs(0) == 1)
        OK(stolen > 0); /* woken in the order they came */
}

START_TEST(stolen)
{
    run(_i, stolen_body);
}
END_TEST

/* ---- many cases; large elements ------------------------------------------------------------ */

enum { PIPES = 150, LOTS = 65536 };

static void write_soon(void *arg)
{
    weft_sleep(3 * MS);
    put_byte((int)(intptr_t)arg);
}

static void many_body(void)
{
    static int p[PIPES][2];
    static weft_case_t k[LOTS];
    for (int i = 0; i < PIPES; i++) {
        EQ(pipe(p[i]), 0);
        k[2 * i] = on_in(p[i][0]);
        k[2 * i + 1] = on_recv(make(0, 0), NULL);
    }
    EQ(weft_try_select(k, 2 * PIPES), -EAGAIN);
    EQ(weft_select(k, 2 * PIPES, weft_now() + MS), -ETIMEDOUT);
    for (int i = 0; i < PIPES; i += 29) {
        go(write_soon, (void *)(intptr_t)p[i][1]);
        EQ(weft_select(k, 2 * PIPES, 0), 2 * i);
        get_byte(p[i][0]);
    }
    for (int i = 0; i < PIPES; i++)
        weft_chan_unref(k[2 * i + 1].chan);
    for (int i = 0; i < LOTS; i++)
        k[i] = on_in(p[i % 3][0]);
    EQ(weft_try_select(k, LOTS), -EAGAIN);
    EQ(weft_select(k, LOTS, weft_now() + MS), -ETIMEDOUT);
    go(write_soon, (void *)(intptr_t)p[1][1]);
    int got = weft_select(k, LOTS, 0);
    OK(got % 3 == 1 && k[got].result == WEFT_READ);
    for (int i = 0; i < PIPES; i++)
        close_pair(p[i]);
}

START_TEST(many)
{
    run(_i, many_body);
}
END_TEST

enum { FAT = 3000 };

static void fat_select(void *arg)
{
    Both *b = arg;
    unsigned char v[2][FAT];
    for (int i = 0; i < 10; i++) {
        memset(v[0], 1, FAT);
        memset(v[1], 0x40 + i, FAT);
        weft_case_t k[3] = {on_recv(b->c, v[0]), on_in(b->p[0]), on_send(b->turn[0], v[1])};
        int got = weft_select(k, 3, 0);
        EQ(got, i % 3);
        for (int n = 0; n < FAT; n++)
            OK(v[0][n] == (got == 0 ? 7 : 1) && v[1][n] == 0x40 + i);
        if (got == 1)
            get_byte(b->p[0]);
        EQ(weft_send(b->turn[1], NULL), 0);
    }
}

static void fat_body(void)
{
    static unsigned char v[FAT];
    Both b = {.c = make(FAT, 0), .turn = {make(FAT, 0), make(0, 0)}};
    EQ(pipe(b.p), 0);
    go(fat_select, &b);
    for (int i = 0; i < 10; i++) {
        weft_sleep(MS);
        if (i % 3 == 0) {
            memset(v, 7, FAT);
            EQ(weft_send(b.c, v), 0);
        } else if (i % 3 == 1) {
            put_byte(b.p[1]);
        } else {
            EQ(weft_recv(b.turn[0], v), 1);
            OK(v[0] == 0x40 + i && v[FAT - 1] == 0x40 + i);
        }
        EQ(weft_recv(b.turn[1], NULL), 1);
    }
    close_pair(b.p);
}

START_TEST(fat)
{
    run(_i, fat_body);
}
END_TEST

/* ---- what comes from outside ---------------------------------------------------------- */

/* Nobody but another process makes it ready: that is no deadlock, and some M must poll. */
static void process_body(void)
{
    int p[2];
    weft_chan_t *c = make(0, 0);
    EQ(pipe(p), 0);
    pid_t pid = fork();
    OK(pid >= 0);
    if (pid == 0) {
        nanosleep(&(struct timespec){.tv_nsec = 50 * MS}, NULL);
        _exit(write(p[1], "x", 1) == 1 ? 0 : 1);
    }
    weft_case_t k[2] = {on_recv(c, NULL), on_in(p[0])};
    EQ(weft_select(k, 2, 0), 1);
    EQ(k[1].result, WEFT_READ);
    EQ(waitpid(pid, NULL, 0), pid);
    close_pair(p);
    weft_chan_unref(c);
}

START_TEST(process)
{
    run(_i, process_body);
}
END_TEST

typedef struct {
    int fd, out;
    weft_chan_t *c;
    int bytes, elems, last;
    _Atomic int stage;
} Thread;

static void *foreign_select(void *arg)
{
    Thread *t = arg;
    char b;
    weft_case_t k[2] = {on_in(t->fd), on_recv(t->c, NULL)};
    t->stage = 1;
    EQ(weft_select(k, 2, weft_now() + 3 * MS), -ETIMEDOUT);
    t->stage = 2;
    for (;;) {
        int got = weft_select(k, 2, t->bytes % 2 ? weft_now() + 100 * SEC : 0);
        t->last = got >= 0 ? k[got].result : got;
        if (got == 0 && k[0].result == WEFT_READ) {
            EQ(weft_read(t->fd, &b, 1), 1);
            t->bytes++;
        } else if (got == 1 && k[1].result == 1) {
            t->elems++;
        } else {
            break;
        }
    }
    t->stage = 3;
    return NULL;
}

static void foreign_body(void)
{
    enum { N = 300 };
    int p[2];
    pthread_t pt;
    EQ(pipe(p), 0);
    Thread t = {.fd = p[0], .c = make(0, 0)};
    EQ(pthread_create(&pt, NULL, foreign_select, &t), 0);
    while (t.stage < 2)
        weft_sleep(MS);
    for (int i = 0; i < N; i++) {
        put_byte(p[1]);
        EQ(weft_send(t.c, NULL), 0);
        if (i % 50 == 0)
            weft_sleep(2 * MS);
    }
    for (int left = 1; left != 0;) { /* until it has read all, and waits again */
        weft_sleep(2 * MS);
        EQ(ioctl(p[0], FIONREAD, &left), 0);
    }
    weft_sleep(5 * MS);
    EQ(weft_close(p[0]), 0);
    pthread_join(pt, NULL);
    OK(t.last == -ECANCELED || t.last == -EBADF);
    EQ(t.bytes, N);
    EQ(t.elems, N);
    EQ(weft_close(p[1]), 0);
    weft_chan_unref(t.c);
}

START_TEST(foreign)
{
    run(_i, foreign_body);
}
END_TEST

/* The runtime sleeps altogether, main in a channel; a thread selects: some M must poll for it. */
static weft_chan_t *finish;

static void *foreign_alone(void *arg)
{
    Thread *t = arg;
    weft_case_t k[2] = {on_recv(t->c, NULL), on_in(t->fd)};
    usleep(30000);
    t->last = weft_select(k, 2, 0);
    EQ(weft_send(finish, NULL), 0);
    return NULL;
}

static void *kernel_writer(void *arg)
{
    Thread *t = arg;
    usleep(80000);
    EQ(write(t->out, "abc", 3), 3);
    return NULL;
}

static void foreign_idle_body(void)
{
    int s[2];
    pthread_t a, b;
    EQ(pipe(s), 0);
    Thread t = {.fd = s[0], .out = s[1], .c = make(0, 0)};
    finish = make(0, 0);
    EQ(pthread_create(&a, NULL, foreign_alone, &t), 0);
    EQ(pthread_create(&b, NULL, kernel_writer, &t), 0);
    EQ(weft_recv(finish, NULL), 1);
    EQ(t.last, 1);
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    weft_chan_unref(finish);
    weft_chan_unref(t.c);
    close_pair(s);
}

START_TEST(foreign_idle)
{
    run(_i, foreign_idle_body);
}
END_TEST

/* ---- runs ------------------------------------------------------------------------------------ */

static int carried[2];
static Thread across;
static pthread_t across_thread;

static void leave_waiting(void *arg)
{
    weft_case_t k[3] = {on_in(carried[0]), on_recv(arg, NULL), on_in(carried[0])};
    weft_select(k, 3, 0);
    ck_abort_msg("an abandoned select returns");
}

static void *foreign_left(void *arg)
{
    Thread *t = arg;
    weft_case_t k[2] = {on_recv(t->c, NULL), on_in(t->fd)};
    t->stage = 1;
    t->last = weft_select(k, 2, 0);
    return NULL;
}

static void first_run(void)
{
    across = (Thread){.fd = carried[0], .c = make(0, 0)};
    for (int i = 0; i < 3; i++)
        go(leave_waiting, across.c);
    EQ(pthread_create(&across_thread, NULL, foreign_left, &across), 0);
    while (across.stage < 1)
        weft_sleep(MS);
    weft_sleep(5 * MS);
}

static void second_run(void)
{
    Waiter w = {.k = {on_in(carried[0]), on_recv(across.c, NULL)}};
    start(&w, 2);
    put_byte(carried[1]);
    ends(&w, 0, WEFT_READ);
    get_byte(carried[0]);
    start(&w, 2);
    EQ(weft_send(across.c, NULL), 0); /* to nobody who is gone */
    ends(&w, 1, 1);
}

START_TEST(two_runs)
{
    EQ(pipe(carried), 0);
    run(_i, first_run);
    pthread_join(across_thread, NULL);
    OK(across.last == -ECANCELED || across.last == -EPERM);
    run(_i, second_run);
    weft_chan_unref(across.c);
    close_pair(carried);
}
END_TEST

/* Before any run: what can be done at once is done. */
START_TEST(outside)
{
    int p[2];
    (void)_i;
    EQ(pipe(p), 0);
    weft_chan_t *c = make(0, 1);
    weft_case_t k[2] = {on_in(p[0]), on_recv(c, NULL)};
    EQ(weft_try_select(k, 2), -EAGAIN);
    EQ(weft_select(k, 2, 0), -EPERM);
    EQ(weft_select(k, 2, 1), -ETIMEDOUT);
    put_byte(p[1]);
    EQ(weft_select(k, 2, 0), 0);
    get_byte(p[0]);
    EQ(weft_send(c, NULL), 0);
    EQ(weft_select(k, 2, 0), 1);
    close_pair(p);
    EQ(weft_select(k, 2, 0), 0);
    EQ(k[0].result, -EBADF);
    weft_chan_unref(c);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("select_fd");
    TCase *tc = tcase_create("select_fd");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, ready, 0, NPROCS);
    tcase_add_loop_test(tc, files, 0, NPROCS);
    tcase_add_loop_test(tc, sockets, 0, NPROCS);
    tcase_add_loop_test(tc, bad, 0, NPROCS);
    tcase_add_loop_test(tc, errno_kept, 0, NPROCS);
    tcase_add_loop_test(tc, waits, 0, NPROCS);
    tcase_add_loop_test(tc, both, 0, NPROCS);
    tcase_add_loop_test(tc, deadline, 0, NPROCS);
    tcase_add_loop_test(tc, fd_deadline, 0, NPROCS);
    tcase_add_loop_test(tc, closed, 0, NPROCS);
    tcase_add_loop_test(tc, cancel, 0, NPROCS);
    tcase_add_loop_test(tc, reuse, 0, NPROCS);
    tcase_add_loop_test(tc, plain_close, 0, NPROCS);
    tcase_add_loop_test(tc, fairness, 0, NPROCS);
    tcase_add_loop_test(tc, twice, 0, NPROCS);
    tcase_add_loop_test(tc, shared, 0, NPROCS);
    tcase_add_loop_test(tc, stolen, 0, NPROCS);
    tcase_add_loop_test(tc, many, 0, NPROCS);
    tcase_add_loop_test(tc, fat, 0, NPROCS);
    tcase_add_loop_test(tc, process, 0, NPROCS);
    tcase_add_loop_test(tc, foreign, 0, NPROCS);
    tcase_add_loop_test(tc, foreign_idle, 0, NPROCS);
    tcase_add_loop_test(tc, two_runs, 0, NPROCS);
    tcase_add_test(tc, outside);
    suite_add_tcase(s, tc);
    return run_suite(s);
}
