/* SPDX-License-Identifier: MIT
 *
 * check_io.c: the calls beside read and write: several pieces, positions, addresses, sendfile;
 * files whose calls block; names. What a test answers to in Go's own tests is named at it. */
#include "net_test.h"

#include <dlfcn.h>
#include <limits.h>
#include <linux/userfaultfd.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

static int temp_file(void)
{
    char name[] = "/tmp/weft-test-XXXXXX";
    int fd = mkstemp(name);
    OK(fd >= 0);
    unlink(name);
    return fd;
}

/* ---- pieces ------------------------------------------------------------------------ */

static void pieces(int in, int out)
{
    char a[3], b[5], c[9];
    struct iovec w[] = {
        {(void *)(uintptr_t) "hel", 3}, {NULL, 0}, {(void *)(uintptr_t) "lo world", 8}};
    struct iovec r[] = {{a, 3}, {b, 5}, {c, 9}};
    EQ(weft_writev(out, w, 3), 11);
    if (in == out)
        EQ(lseek(in, 0, SEEK_SET), 0);
    EQ(weft_readv(in, r, 3), 11); /* short: the last piece is not full */
    EQ(memcmp(a, "hel", 3) | memcmp(b, "lo wo", 5) | memcmp(c, "rld", 3), 0);
    EQ(weft_readv(in, r, 0), 0);
    EQ(weft_writev(out, w + 1, 1), 0);
    EQ(weft_readv(in, r, -1), -EINVAL);
    EQ(weft_writev(out, w, IOV_MAX + 1), -EINVAL);
    EQ(weft_readv(-1, r, 1), -EBADF);
    EQ(weft_writev(-5, w, 1), -EBADF);
    EQ(weft_readv(900, r, 1), -EBADF);
}

static void pieces_body(void)
{
    int p[2], s[2], t[2], fd = temp_file();
    EQ(pipe(p), 0);
    EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
    tcp_pair(t);
    pieces(p[0], p[1]);
    pieces(s[0], s[1]);
    pieces(t[1], t[0]);
    pieces(fd, fd);
    close_pair(p);
    close_pair(s);
    close_pair(t);
    EQ(weft_close(fd), 0);
}

START_TEST(in_pieces)
{
    run(_i, pieces_body);
}
END_TEST

/* What is longer than one call moves is cut, also if it is the first piece. */
static void long_pieces_body(void)
{
    size_t huge = (size_t)3 << 30, most = (size_t)1 << 30;
    int null = open("/dev/null", O_RDWR), zero = open("/dev/zero", O_RDONLY);
    char *big = mmap(NULL, huge, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), c;
    OK(big != MAP_FAILED && null >= 0 && zero >= 0);
    struct iovec v[] = {{&c, 0}, {big, huge}, {big, 1}}, w[] = {{&c, 1}, {big, huge}};
    EQ(weft_writev(null, v, 3), (long long)most);
    EQ(weft_writev(null, w, 2), 1);
    EQ(weft_write(null, big, huge), (long long)most);
    EQ(weft_pwrite(null, big, huge, 0), (long long)most);
    EQ(weft_write(null, big, SIZE_MAX), (long long)most);
    munmap(big, huge);
    EQ(weft_close(null), 0);
    EQ(weft_close(zero), 0);
}

START_TEST(long_pieces)
{
    run(_i, long_pieces_body);
}
END_TEST

/* Many more bytes than a pipe or a socket holds, in pieces of odd sizes. */
enum { FLOW = 3000000 };

static uint8_t flow_byte(size_t at)
{
    return (uint8_t)(at * 7 + at / 251);
}

static void flow_out(void *arg)
{
    int fd = *(int *)arg;
    static uint8_t buf[100000];
    for (size_t at = 0; at < FLOW;) {
        size_t len = FLOW - at < sizeof buf ? FLOW - at : sizeof buf;
        for (size_t i = 0; i < len; i++)
            buf[i] = flow_byte(at + i);
        size_t a = len / 3, b = len / 2;
        struct iovec v[] = {{buf, a}, {buf + a, b - a}, {buf + b, len - b}};
        ssize_t n = weft_writev(fd, v, 3);
        OK(n > 0 && (size_t)n <= len);
        at += (size_t)n;
    }
    EQ(weft_close(fd), 0);
}

static void flow_in(int fd)
{
    uint8_t buf[7777];
    size_t at = 0;
    for (;;) {
        struct iovec v[] = {{buf, 1000}, {buf + 1000, 6777}};
        ssize_t n = weft_readv(fd, v, 2);
        if (n == 0)
            break;
        OK(n > 0);
        for (size_t i = 0; i < (size_t)n; i++, at++)
            OK(buf[i] == flow_byte(at));
    }
    EQ(at, FLOW);
    EQ(weft_close(fd), 0);
}

static void flow_body(void)
{
    int p[2], t[2];
    EQ(pipe(p), 0);
    go(flow_out, &p[1]);
    flow_in(p[0]);
    tcp_pair(t);
    go(flow_out, &t[0]);
    flow_in(t[1]);
}

START_TEST(flow)
{
    run(_i, flow_body);
}
END_TEST

/* ---- deadlines, closing, a reader that is gone ------------------------------------------ */

typedef ssize_t Call(int fd);

static char some[200000];
static int some_file; /* the same */

static void make_some(void)
{
    some_file = temp_file();
    EQ(write(some_file, some, sizeof some), sizeof some);
}

static ssize_t call_readv(int fd)
{
    char c[2];
    struct iovec v[] = {{c, 1}, {c + 1, 1}};
    return weft_readv(fd, v, 2);
}

static ssize_t call_recvfrom(int fd)
{
    char c;
    return weft_recvfrom(fd, &c, 1, 0, NULL, NULL);
}

static ssize_t call_writev(int fd)
{
    struct iovec v[] = {{some, 70000}, {some, 70000}};
    return weft_writev(fd, v, 2);
}

static ssize_t call_sendto(int fd)
{
    return weft_sendto(fd, some, sizeof some, 0, NULL, 0);
}

static ssize_t call_sendfile(int fd)
{
    off_t at = 0;
    return weft_sendfile(fd, some_file, &at, sizeof some);
}

static const struct {
    Call *call;
    int dir;
} waits[] = {{call_readv, WEFT_READ},
             {call_recvfrom, WEFT_READ},
             {call_writev, WEFT_WRITE},
             {call_sendto, WEFT_WRITE},
             {call_sendfile, WEFT_WRITE}};
enum { WAITS = sizeof waits / sizeof waits[0] };

typedef struct {
    int fd, i;
    ssize_t n;
    weft_wg_t done;
    _Atomic bool began;
} Waiter;

static void call_until_it_fails(void *arg)
{
    Waiter *w = arg;
    w->began = true;
    do
        w->n = waits[w->i].call(w->fd);
    while (w->n > 0); /* writers fill the socket first */
}

static void waiter_start(Waiter *w, int fd, int i)
{
    *w = (Waiter){.fd = fd, .i = i};
    EQ(weft_wg_go(&w->done, call_until_it_fails, w), 0);
    while (!w->began)
        weft_yield();
    weft_sleep(10 * MS); /* parked by now, else the test is only weaker */
}

/* Go: TestReadTimeoutUnblocksRead, TestCloseUnblocksRead. */
static void waits_body(void)
{
    for (int i = 0; i < WAITS; i++) {
        int s[2];
        Waiter w;
        EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
        waiter_start(&w, s[0], i);
        EQ(weft_set_deadline(s[0], waits[i].dir, weft_now() + 5 * MS), 0);
        EQ(weft_wg_wait(&w.done), 0);
        EQ(w.n, -ETIMEDOUT);
        EQ(weft_set_deadline(s[0], waits[i].dir, 1), 0);
        EQ(waits[i].call(s[0]), -ETIMEDOUT);
        EQ(weft_set_deadline(s[0], waits[i].dir, 0), 0);
        waiter_start(&w, s[0], i);
        EQ(weft_close(s[0]), 0);
        EQ(weft_wg_wait(&w.done), 0);
        EQ(w.n, -ECANCELED);
        EQ(waits[i].call(s[0]), -EBADF);
        EQ(weft_close(s[1]), 0);
    }
}

START_TEST(waiting)
{
    make_some();
    run(_i, waits_body);
}
END_TEST

/* On the thread of main and on others: no signal, and none left behind. */
static void gone_body(void)
{
    for (int i = 2; i < WAITS; i++) {
        int s[2];
        sigset_t set;
        EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
        close(s[1]);
        EQ(waits[i].call(s[0]), -EPIPE);
        EQ(waits[i].call(s[0]), -EPIPE);
        sigpending(&set);
        EQ(sigismember(&set, SIGPIPE), 0);
        EQ(weft_close(s[0]), 0);
    }
}

static void gone_elsewhere(void *arg)
{
    (void)arg;
    for (int i = 0; i < 50; i++) {
        gone_body();
        weft_yield();
    }
}

static void gone_all_body(void)
{
    weft_wg_t wg = {0};
    for (int i = 0; i < 4; i++)
        EQ(weft_wg_go(&wg, gone_elsewhere, NULL), 0);
    gone_body();
    EQ(weft_wg_wait(&wg), 0);
}

START_TEST(gone)
{
    make_some();
    run(_i, gone_all_body);
}
END_TEST

/* ---- positions -------------------------------------------------------------------------- */

static void positions_body(void)
{
    int fd = temp_file(), p[2];
    char buf[8];
    EQ(weft_pwrite(fd, "world", 5, 6), 5);
    EQ(weft_pwrite(fd, "hello ", 6, 0), 6);
    EQ(lseek(fd, 0, SEEK_CUR), 0);
    EQ(weft_pread(fd, buf, 8, 3), 8);
    EQ(memcmp(buf, "lo world", 8), 0);
    EQ(weft_pread(fd, buf, 8, 9), 2);
    EQ(weft_pread(fd, buf, 8, 11), 0);
    EQ(weft_pread(fd, buf, 0, 0), 0);
    EQ(weft_pread(fd, buf, 8, -1), -EINVAL);
    EQ(weft_pread(-1, buf, 8, 0), -EBADF);
    EQ(weft_pwrite(-1, buf, 8, 0), -EBADF);
    EQ(pipe(p), 0);
    EQ(weft_pread(p[0], buf, 1, 0), -ESPIPE);
    EQ(weft_pwrite(p[1], buf, 1, 0), -ESPIPE);
    close_pair(p);
    EQ(weft_close(fd), 0);
    EQ(weft_pread(fd, buf, 8, 0), -EBADF);
}

START_TEST(positions)
{
    run(_i, positions_body);
}
END_TEST

/* ---- addresses -------------------------------------------------------------------------- */

static int udp(struct sockaddr_in *sa)
{
    socklen_t len = sizeof *sa;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    *sa = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    EQ(bind(fd, (struct sockaddr *)sa, len), 0);
    EQ(getsockname(fd, (struct sockaddr *)sa, &len), 0);
    return fd;
}

static void echo_datagrams(void *arg)
{
    int fd = *(int *)arg;
    for (;;) {
        char buf[64];
        struct sockaddr_in from;
        socklen_t len = sizeof from;
        ssize_t n = weft_recvfrom(fd, buf, sizeof buf, 0, (struct sockaddr *)&from, &len);
        if (n < 0)
            break;
        EQ(len, sizeof from);
        EQ(weft_sendto(fd, buf, (size_t)n, 0, (struct sockaddr *)&from, len), n);
    }
}

static void addresses_body(void)
{
    struct sockaddr_in there, here, from;
    int fd = udp(&here), server = udp(&there);
    socklen_t len = sizeof from;
    char buf[64];
    weft_wg_t wg = {0};
    EQ(weft_wg_go(&wg, echo_datagrams, &server), 0);
    for (int i = 0; i < 100; i++) {
        EQ(weft_sendto(fd, "0123456789", (size_t)i % 11, 0, (struct sockaddr *)&there,
                       sizeof there),
           i % 11); /* an empty one is one too */
        EQ(weft_recvfrom(fd, buf, sizeof buf, 0, (struct sockaddr *)&from, &len), i % 11);
        EQ(from.sin_port, there.sin_port);
        EQ(len, sizeof from);
    }
    EQ(weft_recvfrom(fd, buf, 4, MSG_DONTWAIT, NULL, NULL), -EAGAIN);
    EQ(weft_sendto(fd, "peek", 4, 0, (struct sockaddr *)&here, sizeof here), 4);
    EQ(weft_recvfrom(fd, buf, 4, MSG_PEEK, NULL, NULL), 4);
    EQ(weft_recvfrom(fd, buf, 2, MSG_TRUNC, NULL, NULL), 4); /* its real length */
    EQ(weft_sendto(fd, buf, 1, 0, NULL, 0), -EDESTADDRREQ);
    EQ(weft_recvfrom(-1, buf, 1, 0, NULL, NULL), -EBADF);
    EQ(weft_sendto(-1, buf, 1, 0, NULL, 0), -EBADF);
    EQ(weft_close(server), 0);
    EQ(weft_wg_wait(&wg), 0);
    EQ(weft_close(fd), 0);
    int p[2];
    EQ(pipe(p), 0);
    EQ(weft_recvfrom(p[0], buf, 1, 0, NULL, NULL), -ENOTSOCK);
    close_pair(p);
}

START_TEST(addresses)
{
    run(_i, addresses_body);
}
END_TEST

/* ---- sendfile --------------------------------------------------------------------------- */

static int flow_file(void)
{
    static uint8_t buf[FLOW];
    int fd = temp_file();
    for (size_t i = 0; i < FLOW; i++)
        buf[i] = flow_byte(i);
    for (size_t at = 0; at < FLOW;) {
        ssize_t n = weft_write(fd, buf + at, FLOW - at);
        OK(n > 0);
        at += (size_t)n;
    }
    return fd;
}

typedef struct {
    int in, out;
    bool own_position;
} Pump;

static void pump(void *arg)
{
    Pump *p = arg;
    off_t at = 0, before;
    ssize_t n;
    EQ(lseek(p->in, 0, SEEK_SET), 0);
    do {
        before = at;
        n = weft_sendfile(p->out, p->in, p->own_position ? NULL : &at, FLOW);
        OK(n >= 0);
        EQ(p->own_position ? n : at - before, n);
    } while (n > 0);
    EQ(lseek(p->in, 0, SEEK_CUR), p->own_position ? FLOW : 0);
    EQ(weft_close(p->out), 0);
}

static void sendfile_body(void)
{
    int t[2], p[2], file = flow_file(), copy = temp_file();
    off_t at = 0;
    Pump pumps[2];
    tcp_pair(t);
    pumps[0] = (Pump){file, t[0], false};
    go(pump, &pumps[0]);
    flow_in(t[1]);
    EQ(pipe(p), 0);
    pumps[1] = (Pump){file, p[1], true};
    go(pump, &pumps[1]);
    flow_in(p[0]);
    while (at < FLOW)
        OK(weft_sendfile(copy, file, &at, FLOW) > 0); /* from file to file */
    EQ(lseek(copy, 0, SEEK_SET), 0);
    flow_in(copy);
    tcp_pair(t);
    EQ(weft_sendfile(t[0], t[1], NULL, 1), -EINVAL);
    EQ(weft_sendfile(t[0], -1, NULL, 1), -EBADF);
    EQ(weft_sendfile(-1, file, NULL, 1), -EBADF);
    EQ(weft_sendfile(t[0], 900, NULL, 1), -EBADF);
    at = FLOW;
    EQ(weft_sendfile(t[0], file, &at, 1), 0);
    close_pair(t);
    EQ(weft_close(file), 0);
}

START_TEST(sendfiles)
{
    run(_i, sendfile_body);
}
END_TEST

/* ---- files that block ------------------------------------------------------------------- */

/* A page that is not there until somebody brings it: a system call that touches it waits in the
 * kernel for as long as a test wants, on any file. -1: not permitted. */
static int missing_page(char **page)
{
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return -1;
    struct uffdio_api api = {.api = UFFD_API};
    EQ(ioctl(fd, UFFDIO_API, &api), 0);
    *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    OK(*page != MAP_FAILED);
    struct uffdio_register reg = {.range = {(uintptr_t)*page, 4096},
                                  .mode = UFFDIO_REGISTER_MODE_MISSING};
    EQ(ioctl(fd, UFFDIO_REGISTER, &reg), 0);
    return fd;
}

static void bring_page(int fd, char *page)
{
    struct uffdio_zeropage zero = {.range = {(uintptr_t)page, 4096}};
    EQ(ioctl(fd, UFFDIO_ZEROPAGE, &zero), 0);
}

typedef struct {
    int fd, how;
    char *page;
    ssize_t n;
    _Atomic bool over;
} Slow;

static void slow_call(void *arg)
{
    Slow *s = arg;
    struct iovec v = {s->page, 100};
    switch (s->how) {
    case 0:
        s->n = weft_read(s->fd, s->page, 100);
        break;
    case 1:
        s->n = weft_pread(s->fd, s->page, 100, 0);
        break;
    case 2:
        s->n = weft_readv(s->fd, &v, 1);
        break;
    case 3:
        s->n = weft_write(s->fd, s->page, 100);
        break;
    case 4:
        s->n = weft_pwrite(s->fd, s->page, 100, 0);
        break;
    default:
        s->n = weft_writev(s->fd, &v, 1);
    }
    s->over = true;
}

enum { SLOW_CALLS = 6 };
static _Atomic bool unpermitted;

static bool is_file(int fd, const struct stat *file)
{
    struct stat st;
    return fstat(fd, &st) == 0 && st.st_dev == file->st_dev && st.st_ino == file->st_ino;
}

/* Main needs the processor of the one that blocks: on one processor nothing would go on. */
static void slow_body(void)
{
    for (int how = 0; how < SLOW_CALLS; how++) {
        weft_stats_t before, after;
        struct stat file;
        Slow s = {.fd = temp_file(), .how = how};
        int uffd = missing_page(&s.page);
        if (uffd < 0) {
            unpermitted = true;
            return;
        }
        EQ(ftruncate(s.fd, 4096), 0);
        EQ(fstat(s.fd, &file), 0);
        EQ(weft_stats(&before), 0);
        go(slow_call, &s);
        do {
            weft_yield();
            EQ(weft_stats(&after), 0);
        } while (weft_procs(0) == 1 && after.retaken_declared == before.retaken_declared);
        weft_sleep(MS);
        OK(!s.over);
        /* Closed while in use: at once, and the number is free only afterwards. */
        EQ(weft_close(s.fd), 0);
        EQ(weft_read(s.fd, &(char){0}, 1), -EBADF);
        OK(is_file(s.fd, &file));
        bring_page(uffd, s.page);
        while (!s.over)
            weft_sleep(MS);
        EQ(s.n, 100);
        OK(!is_file(s.fd, &file)); /* the number may be another's */
        munmap(s.page, 4096);
        close(uffd);
    }
}

START_TEST(slow_files)
{
    run(_i, slow_body);
    if (unpermitted)
        puts("slow files: skipped, no userfaultfd here");
}
END_TEST

/* Files are read at the same time by more coroutines than there are processors, each busy all the
 * time. */
static int shared_file;

static void read_all(void *arg)
{
    static const size_t STEP = 10007;
    uint8_t *buf = malloc(STEP);
    (void)arg;
    for (size_t at = 0; at < FLOW;) {
        ssize_t n = weft_pread(shared_file, buf, STEP, (off_t)at);
        OK(n > 0);
        for (size_t i = 0; i < (size_t)n; i++, at++)
            OK(buf[i] == flow_byte(at));
    }
    free(buf);
}

static void shared_body(void)
{
    weft_wg_t wg = {0};
    shared_file = flow_file();
    for (int i = 0; i < 20; i++)
        EQ(weft_wg_go(&wg, read_all, NULL), 0);
    EQ(weft_wg_wait(&wg), 0);
    EQ(weft_close(shared_file), 0);
}

START_TEST(shared)
{
    run(_i, shared_body);
}
END_TEST

/* ---- names --------------------------------------------------------------------------------
 *
 * getaddrinfo() is ours here: some names take their time, or fail in ways that no network is needed
 * for. */

static _Atomic bool let_go;
static _Atomic int asked;

int getaddrinfo(const char *restrict host, const char *restrict service,
                const struct addrinfo *restrict hints, struct addrinfo **restrict list)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    *(void **)(void *)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    bool numeric = hints != NULL && (hints->ai_flags & AI_NUMERICHOST);
    if (host == NULL || strstr(host, ".test") == NULL || numeric)
        return real(host, service, hints, list);
    asked++;
    if (strcmp(host, "slow.test") == 0)
        while (!let_go)
            usleep(1000);
    if (strcmp(host, "system.test") == 0) {
        *weft_errno() = ENFILE;
        return EAI_SYSTEM;
    }
    if (strcmp(host, "memory.test") == 0)
        return EAI_MEMORY;
    if (strcmp(host, "none.test") == 0)
        return EAI_NONAME;
    return real("127.0.0.1", service, hints, list);
}

static void names_body(void)
{
    struct addrinfo *list, hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    int listener = listen_local(0), port = port_of(listener), fd;
    let_go = true;
    errno = 77;
    EQ(weft_getaddrinfo("quick.test", "80", &hints, &list), 0);
    EQ(ntohs(((struct sockaddr_in *)(void *)list->ai_addr)->sin_port), 80);
    freeaddrinfo(list);
    EQ(weft_getaddrinfo("none.test", NULL, &hints, &list), EAI_NONAME);
    EQ(weft_getaddrinfo("memory.test", NULL, &hints, &list), EAI_MEMORY);
    EQ(errno, 77);
    EQ(weft_getaddrinfo("system.test", NULL, &hints, &list), EAI_SYSTEM);
    EQ(errno, ENFILE);
    errno = 77;
    for (int late = 0; late < 2; late++) { /* with a deadline somebody else asks */
        int64_t deadline = late ? weft_now() + 20 * SEC : 0;
        OK((fd = weft_dial_tcp("quick.test", port, deadline)) >= 0);
        EQ(weft_close(fd), 0);
        EQ(weft_dial_tcp("none.test", port, deadline), -EHOSTUNREACH);
        EQ(weft_dial_tcp("memory.test", port, deadline), -ENOMEM);
        EQ(weft_dial_tcp("system.test", port, deadline), -ENFILE);
    }
    EQ(weft_dial_tcp("quick.test", -1, 0), -EINVAL);
    EQ(errno, 77);
    EQ(weft_close(listener), 0);
}

START_TEST(names)
{
    run(_i, names_body);
}
END_TEST

static void slow_name_body(void)
{
    int listener = listen_local(0), port = port_of(listener), before = asked;
    let_go = false;
    int64_t deadline = weft_now() + 20 * MS;
    EQ(weft_dial_tcp("slow.test", port, deadline), -ETIMEDOUT);
    OK(weft_now() >= deadline);
    EQ(asked, before + 1);
    EQ(weft_num_coroutines(), 1); /* who still asks is none of ours */
    EQ(weft_dial_tcp("slow.test", port, 1), -ETIMEDOUT);
    int fd = weft_dial_tcp("127.0.0.1", port, weft_now() + 20 * SEC); /* nobody is asked */
    OK(fd >= 0);
    EQ(weft_close(fd), 0);
    let_go = true;
    OK((fd = weft_dial_tcp("slow.test", port, weft_now() + 20 * SEC)) >= 0);
    EQ(weft_close(fd), 0);
    EQ(weft_close(listener), 0);
}

START_TEST(slow_name)
{
    run(_i, slow_name_body);
}
END_TEST

/* Go: many lookups at a time do not stop the others. */
static void look_up(void *arg)
{
    struct addrinfo *list;
    (void)arg;
    EQ(weft_getaddrinfo("slow.test", "1", NULL, &list), 0);
    freeaddrinfo(list);
}

static void many_names_body(void)
{
    weft_wg_t wg = {0};
    int before = asked;
    let_go = false;
    for (int i = 0; i < 8; i++)
        EQ(weft_wg_go(&wg, look_up, NULL), 0);
    while (asked < before + 8) /* all of them, on one processor too */
        weft_sleep(MS);
    let_go = true;
    EQ(weft_wg_wait(&wg), 0);
}

START_TEST(many_names)
{
    run(_i, many_names_body);
}
END_TEST

/* The run ends while somebody asks. */
static void abandoned_name_body(void)
{
    int before = asked;
    let_go = false;
    go(look_up, NULL);
    while (asked == before)
        weft_sleep(MS);
}

START_TEST(abandoned_name)
{
    run(_i, abandoned_name_body);
    let_go = true;
    run(_i, names_body);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("io");
    TCase *tc = tcase_create("io");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, in_pieces, 0, NPROCS);
    tcase_add_loop_test(tc, long_pieces, 0, NPROCS);
    tcase_add_loop_test(tc, flow, 0, NPROCS);
    tcase_add_loop_test(tc, waiting, 0, NPROCS);
    tcase_add_loop_test(tc, gone, 0, NPROCS);
    tcase_add_loop_test(tc, positions, 0, NPROCS);
    tcase_add_loop_test(tc, addresses, 0, NPROCS);
    tcase_add_loop_test(tc, sendfiles, 0, NPROCS);
    tcase_add_loop_test(tc, shared, 0, NPROCS);
    tcase_add_loop_test(tc, names, 0, NPROCS);
    tcase_add_loop_test(tc, slow_name, 0, NPROCS);
#ifndef WEFT_TSAN
    /* It does not know of libc's own locks, nor that fstat() may race with close(); and without a signal
     * a lookup cannot be abandoned. */
    tcase_add_loop_test(tc, slow_files, 0, NPROCS);
    tcase_add_loop_test(tc, many_names, 0, NPROCS);
    tcase_add_loop_test(tc, abandoned_name, 0, NPROCS);
#endif
    suite_add_tcase(s, tc);
    return run_suite(s);
}
