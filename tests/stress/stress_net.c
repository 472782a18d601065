/* SPDX-License-Identifier: MIT
 *
 * stress_net.c: TCP under everything at once.
 *
 * Clients (coroutines, and in some rounds foreign threads) stream bytes of a
 * known pattern through an echo server; each connection has a coroutine that
 * writes, one that reads, and one that keeps changing its deadlines. Some
 * connections are shut down in the middle by a third party. (A close() would
 * give the number to the next connection while the others still use it:
 * stress_fdreuse.c closes, with care.)
 *
 * Checked: no byte is lost, doubled or out of order; nothing hangs; no error
 * that cannot happen happens. Rounds go on for WEFT_STRESS_SECONDS (2).
 * Go: TestReadWriteDeadlineRace, TestClosingListener.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "tests/stack_test.h"
#include "tests/stress/stress.h"

enum { CLIENTS = 8, CONNECTIONS = 6, CHUNK = 4096 };

typedef struct {
    int fd;
    uint32_t total; /* bytes to stream */
    unsigned seed;
    _Atomic int broken; /* it is to be shut down in the middle: any end will do */
    _Atomic int over;
    weft_wg_t wg, helper;
} Stream;

static int listener, port;
static weft_wg_t clients, servers;
static atomic_ullong bytes, timeouts, breaks;

static void must(int ok, const char *what, long rc)
{
    if (!ok) {
        fprintf(stderr, "stress_net: %s: %ld\n", what, rc);
        abort();
    }
}

static unsigned rnd(unsigned *seed, unsigned n)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (*seed >> 8) % n;
}

static unsigned char pattern(uint32_t i, unsigned seed)
{
    return (unsigned char)(i * 7 + (i >> 8) * 13 + seed);
}

static int gone(ssize_t n)
{
    return n == -ECANCELED || n == -EBADF || n == -EPIPE || n == -ECONNRESET;
}

/* ---- the server ------------------------------------------------------------------ */

static void echo(void *arg)
{
    int fd = (int)(intptr_t)arg;
    char buf[CHUNK];
    ssize_t n;
    while ((n = weft_read(fd, buf, sizeof buf)) > 0)
        for (ssize_t done = 0, w; done < n; done += w) {
            if ((w = weft_write(fd, buf + done, (size_t)(n - done))) < 0) {
                must(gone(w), "echo: write", w);
                n = w;
                w = 0;
            }
        }
    must(n == 0 || gone(n), "echo: read", n);
    must(weft_close(fd) == 0, "echo: close", fd);
    weft_wg_done(&servers);
}

static void accept_all(void *arg)
{
    int fd;
    (void)arg;
    while ((fd = weft_accept(listener, NULL, NULL)) >= 0) {
        weft_wg_add(&servers, 1);
        must(weft_go(echo, (void *)(intptr_t)fd) == 0, "spawn", 0);
    }
    must(gone(fd), "accept", fd);
    weft_wg_done(&servers);
}

/* ---- a connection ------------------------------------------------------------------- */

static void write_stream(Stream *s)
{
    unsigned seed = s->seed + 1;
    char buf[CHUNK];
    for (uint32_t at = 0; at < s->total;) {
        uint32_t len = 1 + rnd(&seed, CHUNK);
        if (len > s->total - at)
            len = s->total - at;
        for (uint32_t i = 0; i < len; i++)
            buf[i] = (char)pattern(at + i, s->seed);
        ssize_t n = weft_write(s->fd, buf, len);
        if (n > 0) {
            at += (uint32_t)n;
        } else if (n == -ETIMEDOUT) {
            atomic_fetch_add(&timeouts, 1);
            weft_sleep(20000);
        } else {
            must(s->broken && gone(n), "write", n);
            return;
        }
    }
}

static void read_stream(Stream *s)
{
    unsigned seed = s->seed + 2;
    unsigned char buf[CHUNK];
    for (uint32_t at = 0; at < s->total;) {
        ssize_t n = weft_read(s->fd, buf, 1 + rnd(&seed, CHUNK));
        if (n > 0) {
            for (ssize_t i = 0; i < n; i++)
                must(buf[i] == pattern(at + (uint32_t)i, s->seed), "wrong byte", (long)at + i);
            at += (uint32_t)n;
            atomic_fetch_add(&bytes, (unsigned long long)n);
        } else if (n == -ETIMEDOUT) {
            atomic_fetch_add(&timeouts, 1);
            weft_sleep(20000);
        } else {
            must(s->broken && (n == 0 || gone(n)), "read", n);
            return;
        }
    }
}

static void writer(void *arg)
{
    write_stream(arg);
}

static void reader(void *arg)
{
    read_stream(arg);
}

static void meddler(void *arg)
{
    Stream *s = arg;
    unsigned seed = s->seed + 3;
    for (int i = 0; !s->over; i++) {
        int64_t when = weft_now() + (int64_t)rnd(&seed, 400) * 1000 - 50000;
        int rc = weft_set_deadline(s->fd, 1 + (int)rnd(&seed, 3), rnd(&seed, 3) ? when : 0);
        must(rc == 0, "set_deadline", rc);
        if (s->broken && i == 5) {
            atomic_fetch_add(&breaks, 1);
            rc = shutdown(s->fd, SHUT_RDWR);
            must(rc == 0 || errno == ENOTCONN, "shutdown in the middle", errno);
            return;
        }
        weft_sleep((int64_t)rnd(&seed, 200) * 1000);
    }
}

static void connection(unsigned seed)
{
    Stream s = {.seed = seed, .total = 1 + rnd(&seed, 200000)};
    s.broken = rnd(&seed, 4) == 0;
    s.fd = weft_dial_tcp("127.0.0.1", port, weft_now() + INT64_C(20000000000));
    must(s.fd >= 0, "dial", s.fd);
    must(weft_wg_go(&s.wg, writer, &s) == 0, "spawn", 0);
    must(weft_wg_go(&s.wg, reader, &s) == 0, "spawn", 0);
    if (s.broken || rnd(&seed, 2))
        must(weft_wg_go(&s.helper, meddler, &s) == 0, "spawn", 0);
    weft_wg_wait(&s.wg);
    s.over = 1;
    weft_wg_wait(&s.helper);
    int rc = weft_close(s.fd);
    must(rc == 0, "close", rc);
}

static void client(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg;
    for (int i = 0; i < CONNECTIONS; i++)
        connection(seed + (unsigned)i * 977);
    weft_wg_done(&clients);
}

/* A thread that reads and writes by turns: it waits on a futex, not on a coroutine. */
static void *foreign(void *arg)
{
    (void)arg;
    int fd = weft_dial_tcp("127.0.0.1", port, weft_now() + INT64_C(20000000000));
    must(fd >= 0, "dial", fd);
    for (unsigned i = 0; i < 100; i++) {
        unsigned char out = pattern(i, 5), in = 0;
        ssize_t n = weft_write(fd, &out, 1);
        must(n == 1, "thread: write", n);
        n = weft_read(fd, &in, 1);
        must(n == 1 && in == out, "thread: read", n);
    }
    must(weft_close(fd) == 0, "thread: close", fd);
    weft_wg_done(&clients);
    return NULL;
}

static int round_main(void *arg)
{
    unsigned round = *(unsigned *)arg;
    struct sockaddr_in sa;
    socklen_t len = sizeof sa;
    pthread_t pt;
    listener = weft_listen_tcp("127.0.0.1", 0, 0);
    must(listener >= 0, "listen", listener);
    getsockname(listener, (struct sockaddr *)&sa, &len);
    port = ntohs(sa.sin_port);
    weft_wg_add(&servers, 1);
    must(weft_go(accept_all, NULL) == 0, "spawn", 0);
    weft_wg_add(&clients, CLIENTS);
    for (unsigned i = 0; i < CLIENTS; i++)
        must(weft_go(client, (void *)(uintptr_t)(round * 1000 + i * 31 + 1)) == 0, "spawn", 0);
    if (round % 3 == 2) {
        weft_wg_add(&clients, 1);
        must(pthread_create(&pt, NULL, foreign, NULL) == 0, "thread", 0);
    }
    weft_wg_wait(&clients);
    if (round % 3 == 2)
        pthread_join(pt, NULL);
    must(weft_close(listener) == 0, "close the listener", 0);
    weft_wg_wait(&servers);
    return 0;
}

int main(void)
{
    private_only("client() waits for a wait group in its frame");
    int64_t end = weft_now() + (int64_t)(stress_seconds() * 1e9);
    unsigned rounds = 0;
    do {
        weft_config_t cfg = {.stack = test_stack(), .procs = 1 + (int)(rounds % 4)};
        must(weft_run_with(&cfg, round_main, &rounds) == 0, "run", 0);
        rounds++;
    } while (weft_now() < end);
    printf("stress_net: %u rounds, %llu bytes, %llu time-outs, %llu broken\n", rounds,
           (unsigned long long)bytes, (unsigned long long)timeouts, (unsigned long long)breaks);
    return 0;
}
