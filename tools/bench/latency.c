/* SPDX-License-Identifier: MIT
 *
 * latency.c: how long others wait beside coroutines that only compute. The same in
 * Go: peers/latency.go; same options, same lines.
 *
 * usage: latency [-p PROCS] [-h HOGS] [-s SECONDS]      (2 processors, 4 hogs, 3 s each)
 *
 *   sleep1ms_*   a coroutine sleeps 1 ms again and again: from the time it was due to the
 *                time it runs, p50, p99, p99.9 and maximum
 *   echo_*       a byte goes to another coroutine and back over TCP on the loopback
 *                interface: round trip, p50, p99, p99.9 and maximum
 *
 * One line a figure: name, procs, nanoseconds, number of samples, separated by tabs.
 * With WEFT_STRICT=1 the exit status is 1 when a promise is not kept (4 hogs on 2
 * processors): sleep1ms p50 <= 0.2 ms, p99 <= 1 ms; echo p50 <= 0.3 ms. */
#include <weft.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SAMPLES = 200000 };
static const int64_t MS = 1000000;

static int procs = 2, nhogs = 4;
static double seconds = 3;
static int64_t samples[SAMPLES];
static int bad;

static void check(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "latency: %s failed\n", what);
        exit(2);
    }
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* bound50, bound99: in nanoseconds; 0: nothing was promised. */
static void report(const char *name, int n, int64_t bound50, int64_t bound99)
{
    static const struct {
        const char *name;
        int permille;
    } q[] = {{"p50", 500}, {"p99", 990}, {"p999", 999}, {"max", 1000}};
    check(n > 0, "to get any sample");
    qsort(samples, (size_t)n, sizeof samples[0], compare);
    for (int i = 0; i < 4; i++) {
        int at = (int)((int64_t)n * q[i].permille / 1000);
        int64_t v = samples[at < n ? at : n - 1], bound = i == 0 ? bound50 : i == 1 ? bound99 : 0;
        printf("%s_%s\t%d\t%lld\t%d\n", name, q[i].name, procs, (long long)v, n);
        if (bound > 0 && v > bound) {
            fprintf(stderr, "latency: %s_%s above %lld ns\n", name, q[i].name, (long long)bound);
            bad++;
        }
    }
    fflush(stdout);
}

/* ---- the company ------------------------------------------------------------------- */

static _Atomic bool stop;
static volatile uint64_t sink;

static void hog(void *arg)
{
    uint64_t x = 1;
    while (!atomic_load_explicit(&stop, memory_order_relaxed))
        x = x * 6364136223846793005u + 1442695040888963407u;
    sink = x;
    weft_wg_done(arg);
}

/* ---- what is measured ------------------------------------------------------------------- */

static void sleeps(void)
{
    int n = 0;
    for (int64_t end = weft_now() + (int64_t)(seconds * 1e9); weft_now() < end && n < SAMPLES;) {
        int64_t due = weft_now() + MS;
        weft_sleep_until(due);
        samples[n++] = weft_now() - due;
    }
    report("sleep1ms", n, 200000, MS);
}

static void echo_server(void *arg)
{
    int fd = weft_accept(*(int *)arg, NULL, NULL), one = 1;
    char c;
    check(fd >= 0, "weft_accept");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    while (weft_read(fd, &c, 1) == 1)
        check(weft_write(fd, &c, 1) == 1, "weft_write");
    weft_close(fd);
}

static void echoes(void)
{
    struct sockaddr_in sa;
    socklen_t len = sizeof sa;
    int listener = weft_listen_tcp("127.0.0.1", 0, 0), n = 0;
    check(listener >= 0 && getsockname(listener, (struct sockaddr *)&sa, &len) == 0, "listen");
    check(weft_go(echo_server, &listener) == 0, "weft_go");
    int fd = weft_dial_tcp("127.0.0.1", ntohs(sa.sin_port), 0);
    check(fd >= 0, "weft_dial_tcp");
    for (int64_t end = weft_now() + (int64_t)(seconds * 1e9); weft_now() < end && n < SAMPLES;) {
        char c = (char)n;
        int64_t begin = weft_now();
        check(weft_write(fd, &c, 1) == 1 && weft_read(fd, &c, 1) == 1, "echo");
        samples[n++] = weft_now() - begin;
        check(c == (char)(n - 1), "the same byte");
        weft_sleep(MS / 5);
    }
    weft_close(fd);
    weft_close(listener);
    report("echo", n, 300000, 0);
}

static int entry(void *arg)
{
    weft_wg_t wg = {0};
    (void)arg;
    check(weft_wg_add(&wg, nhogs) == 0, "weft_wg_add");
    for (int i = 0; i < nhogs; i++)
        check(weft_go(hog, &wg) == 0, "weft_go");
    weft_sleep(50 * MS); /* until all are at it */
    sleeps();
    echoes();
    stop = true;
    return weft_wg_wait(&wg);
}

int main(int argc, char **argv)
{
    for (int c; (c = getopt(argc, argv, "p:h:s:")) != -1;) {
        switch (c) {
        case 'p':
            procs = atoi(optarg);
            break;
        case 'h':
            nhogs = atoi(optarg);
            break;
        case 's':
            seconds = atof(optarg);
            break;
        default:
            fprintf(stderr, "usage: latency [-p PROCS] [-h HOGS] [-s SECONDS]\n");
            return 2;
        }
    }
    weft_config_t cfg = {.procs = procs};
    check(weft_run_with(&cfg, entry, NULL) == 0, "weft_run");
    const char *strict = getenv("WEFT_STRICT");
    return strict != NULL && *strict == '1' && bad > 0 ? 1 : 0;
}
