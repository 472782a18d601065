/* SPDX-License-Identifier: MIT
 *
 * errno_moved.c: functions that use errno before and after a weft call in which
 * the coroutine may go to another thread. check_errno.sh compiles it in the ways
 * in which compilers keep the address of the first thread's errno.
 *
 * usage: errno_moved [SECONDS]    prints how often a call moved, and how often a
 * wrong value was read. Exit status 0: none; 1: some; 2: hardly anything moved.
 *
 * With -DWEFT_KEEP_ERRNO it is what a program would be without <weft.h>'s errno. */
#include <weft.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { WORKERS = 12, ENOUGH = 300 };
static _Atomic int moved, wrong;
static int64_t end;
static weft_chan_t *tokens;
static weft_wg_t wg;

static long tid(void)
{
    return syscall(SYS_gettid); /* sets errno only when it fails */
}

/* Others' errors on this thread meanwhile. */
static void disturb(int value)
{
    errno = value;
    (void)close(-1);
}

/* errno is a coroutine's own, across a call in which it moved. */
static void kept(int id, void (*park)(void))
{
    long before = tid();
    errno = 1000 + id;
    park();
    int got = errno;
    long after = tid();
    moved += before != after;
    wrong += got != 1000 + id;
}

/* An error of after the move is found. */
static void fresh(int id, void (*park)(void))
{
    long before = tid();
    errno = 1000 + id;
    park();
    long after = tid();
    (void)!chdir("/no/such/directory");
    moved += before != after;
    wrong += errno != ENOENT;
}

/* What is written after the move is what a function sees that was compiled elsewhere. */
static void written(int id, void (*park)(void))
{
    long before = tid();
    if (close(-1) == 0 || errno != EBADF)
        wrong++;
    park();
    errno = 2000 + id;
    long after = tid();
    char text[64], want[64];
    snprintf(text, sizeof text, "%m"); /* libc reads the thread's own */
    snprintf(want, sizeof want, "Unknown error %d", 2000 + id);
    moved += before != after;
    wrong += strcmp(text, want) != 0;
}

static void park_sleep(void)
{
    weft_sleep(30000);
}

static void park_yield(void)
{
    weft_yield();
}

static void park_channel(void)
{
    int v = 1;
    weft_send(tokens, &v);
    weft_recv(tokens, &v);
}

static void worker(void *arg)
{
    static void (*const parks[])(void) = {park_sleep, park_yield, park_channel};
    int id = (int)(intptr_t)arg;
    for (int n = 0; weft_now() < end && moved < 20 * ENOUGH; n++) {
        kept(id, parks[n % 3]);
        disturb(id);
        fresh(id, parks[n % 3]);
        written(id, parks[n % 3]);
    }
    weft_wg_done(&wg);
}

static int entry(void *arg)
{
    end = weft_now() + atoi(arg) * INT64_C(1000000000);
    tokens = weft_chan_make(sizeof(int), WORKERS);
    weft_wg_add(&wg, WORKERS);
    for (intptr_t i = 0; i < WORKERS; i++) {
        if (weft_go(worker, (void *)i) != 0)
            abort();
    }
    weft_wg_wait(&wg);
    return 0;
}

int main(int argc, char **argv)
{
    weft_config_t cfg = {.procs = 4};
    if (weft_run_with(&cfg, entry, argc > 1 ? argv[1] : "10") != 0)
        return 3;
    printf("moved %d, wrong %d\n", moved, wrong);
    return wrong > 0 ? 1 : moved < ENOUGH ? 2 : 0;
}
