/* SPDX-License-Identifier: MIT
 *
 * idle_conns.c: an HTTP server with many idle keep-alive connections and a few busy ones.
 *
 * usage: idle_conns [-n IDLE] [-b BUSY] [-s SECONDS] [-u PATH] SERVER [ARGUMENT...]
 *                                     (20000 idle, 64 busy, 5 s, /plaintext)
 *
 * Starts SERVER with its arguments and "-p 0" (examples/httpd, with -c or without, or
 * peers/httpd.go built), and reads the port from its first line. The busy connections ask
 * again and again, first alone, then, after each of the others has sent one request and
 * read its answer, beside these.
 *
 *   alone         requests a second of the busy connections before there are others
 *   beside_idle   the same beside the idle ones
 *   idle_rss      resident memory of the server for each idle connection, in bytes: growth
 *                 of its VmRSS
 *   idle_pte      page tables, likewise: growth of its VmPTE
 *   server_mb     both, of the whole server with all connections, in MB (10^6)
 *
 * One line a figure: name, idle connections, figure, separated by tabs. What the kernel
 * takes for sockets is not in it. Each connection needs a descriptor here and one in the server:
 * as many as the hard limit allows (ulimit -Hn) are opened, and less than IDLE is said on
 * standard error. The client is a weft program with a processor for itself: what it takes is taken
 * from the server, but it is the same for all servers. */
#include <weft.h>
#include "resident.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SPARE_FDS = 64, DIALERS = 32, ANSWER_MAX = 4096, PER_ADDRESS = 20000 };
static const int64_t SECOND = 1000000000;

static int idle_n = 20000, busy_n = 64, port;
static double seconds = 5;
static const char *path = "/plaintext";
static char request[512];
static pid_t server;
static int *idle_fds;
static _Atomic int next_idle;
static _Atomic bool counting, stop;
static _Atomic int64_t answers;

static void check(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "idle_conns: %s failed\n", what);
        exit(1);
    }
}

/* ---- one request ---------------------------------------------------------------------- */

/* Connections beyond the ports of one address go to the next one of the loopback interface. */
static int dial(int i)
{
    char host[32];
    snprintf(host, sizeof host, "127.0.0.%d", 1 + i / PER_ADDRESS);
    int fd = weft_dial_tcp(host, port, weft_now() + 10 * SECOND);
    if (fd < 0) {
        fprintf(stderr, "idle_conns: connection %d: %s\n", i, strerror(-fd));
        exit(1);
    }
    return fd;
}

/* Until the whole answer is there: a head with its Content-Length, and the body. */
static void ask(int fd)
{
    char buf[ANSWER_MAX + 1];
    size_t have = 0, want = 0, len = strlen(request);
    check(weft_write(fd, request, len) == (ssize_t)len, "to send a request");
    while (want == 0 || have < want) {
        ssize_t n = weft_read(fd, buf + have, ANSWER_MAX - have);
        check(n > 0, "to read an answer");
        have += (size_t)n;
        buf[have] = '\0';
        const char *end = strstr(buf, "\r\n\r\n");
        if (want == 0 && end != NULL) {
            const char *length = strcasestr(buf, "\r\nContent-Length:");
            check(strncmp(buf, "HTTP/1.1 200", 12) == 0, "to be answered with 200");
            check(length != NULL && length < end, "to find the length of an answer");
            want = (size_t)(end + 4 - buf) + strtoul(length + 17, NULL, 10);
            check(want <= ANSWER_MAX, "an answer of at most 4096 bytes");
        }
    }
    check(have == want, "one answer for one request");
}

/* ---- connections ---------------------------------------------------------------------- */

static void idle_opener(void *arg)
{
    for (int i; (i = atomic_fetch_add(&next_idle, 1)) < idle_n;) {
        idle_fds[i] = dial(i);
        ask(idle_fds[i]);
    }
    weft_wg_done(arg);
}

static void busy(void *arg)
{
    int fd = dial(0);
    while (!stop) {
        ask(fd);
        if (counting)
            atomic_fetch_add_explicit(&answers, 1, memory_order_relaxed);
    }
    weft_close(fd);
    weft_wg_done(arg);
}

/* Answers a second; the first half second does not count. */
static double load(void)
{
    weft_wg_t wg = {0};
    stop = counting = false;
    answers = 0;
    weft_wg_add(&wg, busy_n);
    for (int i = 0; i < busy_n; i++)
        check(weft_go(busy, &wg) == 0, "weft_go");
    weft_sleep(SECOND / 2);
    int64_t t = weft_now();
    counting = true;
    weft_sleep((int64_t)(seconds * 1e9));
    counting = false;
    t = weft_now() - t;
    stop = true;
    weft_wg_wait(&wg);
    return (double)answers * 1e9 / (double)t;
}

/* ---- the server -------------------------------------------------------------------------- */

static void stop_server(void)
{
    kill(server, SIGTERM);
    waitpid(server, NULL, 0);
}

/* Before weft_run(): the server is to have the signal mask of an ordinary program. */
static void start_server(char **args, int n)
{
    char **argv = calloc((size_t)n + 3, sizeof *argv), line[256];
    int out[2];
    check(argv != NULL && pipe(out) == 0, "pipe");
    memcpy(argv, args, (size_t)n * sizeof *argv);
    argv[n] = "-p";
    argv[n + 1] = "0";
    check((server = fork()) >= 0, "fork");
    if (server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        dup2(out[1], 1);
        close(out[0]);
        close(out[1]);
        execv(argv[0], argv);
        perror(argv[0]);
        _exit(127);
    }
    atexit(stop_server);
    close(out[1]);
    FILE *f = fdopen(out[0], "r"); /* stays open: it may write more */
    const char *colon = NULL;
    if (f != NULL && fgets(line, sizeof line, f) != NULL)
        colon = strrchr(line, ':');
    check(colon != NULL && (port = atoi(colon + 1)) > 0, "to learn the server's port");
    free(argv);
}

/* As many descriptors as there may be; the server inherits the limit. */
static void raise_limit(void)
{
    struct rlimit r;
    rlim_t want = (rlim_t)idle_n + (rlim_t)busy_n + SPARE_FDS;
    check(getrlimit(RLIMIT_NOFILE, &r) == 0, "getrlimit");
    if (r.rlim_max < want) {
        struct rlimit more = {want, want};
        if (setrlimit(RLIMIT_NOFILE, &more) == 0)
            return;
    }
    r.rlim_cur = r.rlim_max;
    check(setrlimit(RLIMIT_NOFILE, &r) == 0, "setrlimit");
    if (r.rlim_max < want) {
        idle_n = (int)r.rlim_max - busy_n - SPARE_FDS;
        check(idle_n > 0, "to have enough descriptors");
        fprintf(stderr, "idle_conns: %d idle connections only: ulimit -Hn is %llu\n", idle_n,
                (unsigned long long)r.rlim_max);
    }
}

static void report(const char *name, int idle, double v)
{
    printf("%s\t%d\t%.1f\n", name, idle, v);
    fflush(stdout);
}

static int client(void *arg)
{
    weft_wg_t wg = {0};
    (void)arg;
    check((idle_fds = calloc((size_t)idle_n, sizeof *idle_fds)) != NULL, "calloc");
    report("alone", 0, load());
    weft_sleep(2 * SECOND); /* what the load took is given back, or kept: not our matter */
    Memory before = memory(server);
    weft_wg_add(&wg, DIALERS);
    for (int i = 0; i < DIALERS; i++)
        check(weft_go(idle_opener, &wg) == 0, "weft_go");
    weft_wg_wait(&wg);
    weft_sleep(2 * SECOND);
    Memory then = memory(server);
    report("beside_idle", idle_n, load());
    report("idle_rss", idle_n, (then.rss - before.rss) / idle_n);
    report("idle_pte", idle_n, (then.pte - before.pte) / idle_n);
    Memory end = memory(server);
    report("server_mb", idle_n, (end.rss + end.pte) / 1e6);
    for (int i = 0; i<idle_n; i += idle_n> 100 ? idle_n / 100 : 1)
        ask(idle_fds[i]); /* they are still connections */
    for (int i = 0; i < idle_n; i++)
        weft_close(idle_fds[i]);
    free(idle_fds);
    return 0;
}

int main(int argc, char **argv)
{
    int opt;
    while ((opt = getopt(argc, argv, "+n:b:s:u:")) != -1) {
        if (opt == 'n')
            idle_n = atoi(optarg);
        else if (opt == 'b')
            busy_n = atoi(optarg);
        else if (opt == 's')
            seconds = atof(optarg);
        else if (opt == 'u')
            path = optarg;
        else
            optind = argc;
    }
    if (optind >= argc || idle_n < 1 || idle_n > 200 * PER_ADDRESS || busy_n < 1 || seconds <= 0) {
        fprintf(stderr, "usage: idle_conns [-n idle] [-b busy] [-s seconds] [-u path] "
                        "server [argument...]\n");
        return 2;
    }
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", path);
    raise_limit();
    start_server(argv + optind, argc - optind);
    weft_config_t cfg = {.procs = 1};
    int rc = weft_run_with(&cfg, client, NULL);
    if (rc < 0)
        fprintf(stderr, "idle_conns: %s\n", strerror(-rc));
    return rc != 0;
}
