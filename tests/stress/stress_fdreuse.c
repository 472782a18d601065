/* SPDX-License-Identifier: MIT
 *
 * stress_fdreuse.c: descriptors closed and opened again at a high rate, with
 * everything of the old file still under way.
 *
 * Each worker opens a socket pair or a pipe, leaves behind on it a reader that
 * is parked, a deadline about to pass, and a duplicate through which the old file
 * goes on making events; closes it; and at once opens the next, which mostly gets
 * the same number.
 *
 * Checked: the parked readers get -ECANCELED (or, if the deadline was first,
 * -ETIMEDOUT); a worker's own bytes arrive, in order and in time: no old reader
 * took them, no old deadline ended the wait; closing twice is -EBADF.
 * Go: TestFdRace, TestFdReadRace.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/stack_test.h"
#include "tests/stress/stress.h"

enum { WORKERS = 6, FILES = 40, LONG_S = 20 };

typedef struct {
    int fd;
    int deadline; /* it has one */
    _Atomic int began;
    weft_wg_t done;
} Left;

static atomic_ullong files, cancelled, timed_out, same_number;

static void must(int ok, const char *what, long rc)
{
    if (!ok) {
        fprintf(stderr, "stress_fdreuse: %s: %ld\n", what, rc);
        abort();
    }
}

static unsigned rnd(unsigned *seed, unsigned n)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (*seed >> 8) % n;
}

static void left_reader(void *arg)
{
    Left *l = arg;
    char c;
    l->began = 1;
    ssize_t n = weft_read(l->fd, &c, 1);
    if (n == -ETIMEDOUT && l->deadline)
        atomic_fetch_add(&timed_out, 1);
    else if (n == -ECANCELED)
        atomic_fetch_add(&cancelled, 1);
    else
        must(0, "a reader that was left behind got", n);
    weft_wg_done(&l->done);
}

static void open_pair(int p[2], unsigned kind)
{
    int rc = kind == 0 ? pipe(p) : socketpair(AF_UNIX, SOCK_STREAM, 0, p);
    must(rc == 0, "open", errno);
}

/* The worker's own: bytes go through, and a wait is not cut short. */
static void write_soon(void *arg)
{
    int fd = (int)(intptr_t)arg;
    weft_sleep(100000);
    must(weft_write(fd, "b", 1) == 1, "write, later", 0);
}

static void use(const int p[2])
{
    char c = 0;
    must(weft_write(p[1], "a", 1) == 1, "write", 0);
    ssize_t n = weft_read(p[0], &c, 1);
    must(n == 1 && c == 'a', "read", n);
    must(weft_set_deadline(p[0], WEFT_READ, weft_now() + LONG_S * INT64_C(1000000000)) == 0,
         "set_deadline", 0);
    must(weft_go(write_soon, (void *)(intptr_t)p[1]) == 0, "spawn", 0);
    n = weft_read(p[0], &c, 1);
    must(n == 1 && c == 'b', "read, later", n);
    must(weft_set_deadline(p[0], WEFT_READ, 0) == 0, "lift the deadline", 0);
}

/* Until the reader is parked. It has begun, and the number of its next call is
 * still ours: so wait rather long before closing; longer if it may be stopped in between. */
static void settle(Left *l)
{
    while (!l->began)
        weft_yield();
    weft_sleep(getenv("WEFT_DEBUG") != NULL ? 30000000 : 2000000);
}

static void worker(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg;
    int last = -1;
    for (int i = 0; i < FILES; i++) {
        int p[2], twin = -1;
        open_pair(p, rnd(&seed, 2));
        if (p[0] == last)
            atomic_fetch_add(&same_number, 1);
        last = p[0];
        use(p);
        Left l = {.fd = p[0], .deadline = rnd(&seed, 2) != 0};
        weft_wg_add(&l.done, 1);
        must(weft_go(left_reader, &l) == 0, "spawn", 0);
        settle(&l);
        if (rnd(&seed, 2) != 0)
            twin = dup(p[0]);
        if (l.deadline)
            must(weft_set_deadline(p[0], WEFT_READ, weft_now() + rnd(&seed, 60) * 1000) == 0,
                 "set_deadline", 0);
        if (rnd(&seed, 2) != 0)
            weft_sleep(rnd(&seed, 60) * 1000);
        must(weft_close(p[0]) == 0, "close", 0);
        if (twin >= 0) {
            must(weft_write(p[1], "stale", 5) == 5, "write to the old file", 0);
            int next[2]; /* the number again, while the old file makes events */
            open_pair(next, rnd(&seed, 2));
            use(next);
            must(weft_close(next[0]) == 0 && weft_close(next[1]) == 0, "close", 0);
            close(twin);
        }
        must(weft_close(p[1]) == 0, "close the other end", 0);
        weft_wg_wait(&l.done);
        atomic_fetch_add(&files, 1);
    }
}

static int round_main(void *arg)
{
    weft_wg_t wg = {0};
    unsigned round = *(unsigned *)arg;
    for (unsigned i = 0; i < WORKERS; i++)
        must(weft_wg_go(&wg, worker, (void *)(uintptr_t)(round * 100 + i)) == 0, "spawn", 0);
    weft_wg_wait(&wg);
    must(weft_close(900) == -EBADF, "close of nothing", 0);
    return 0;
}

int main(void)
{
    private_only("worker() waits for a wait group in its frame");
    int64_t end = weft_now() + (int64_t)(stress_seconds() * 1e9);
    unsigned rounds = 0;
    do {
        weft_config_t cfg = {.stack = test_stack(), .procs = 1 + (int)(rounds % 4)};
        must(weft_run_with(&cfg, round_main, &rounds) == 0, "run", 0);
        rounds++;
    } while (weft_now() < end);
    printf(
        "stress_fdreuse: %u rounds, %llu files, same number %llu, cancelled %llu, timed out %llu\n",
        rounds, (unsigned long long)files, (unsigned long long)same_number,
        (unsigned long long)cancelled, (unsigned long long)timed_out);
    return 0;
}
