/* SPDX-License-Identifier: MIT
 *
 * stress_dump.c: dumps, one after the other, of coroutines that compute, park, block in the kernel, stand still
 * and end meanwhile, on both kinds of stacks, while processors come and go. A coroutine and a thread
 * ask for them at the same time. Each dump must end, name the coroutines that are there throughout, and
 * disturb nobody: what computes must come to its result, a read must not be interrupted. */
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "tests/stress/stress.h"

static const int64_t MS = 1000000;
static _Atomic bool stop;
static _Atomic unsigned long turns, dumps;

/* ---- what is dumped ---------------------------------------------------------- */

static __attribute__((noinline)) uint32_t deep(uint32_t s, int n)
{
    volatile uint32_t here = s;
    for (int i = 0; i < 50; i++)
        here = next(&s) ^ here;
    return n > 0 ? deep(s, n - 1) ^ here : here;
}

static void computes(void *arg)
{
    uint32_t seed = (uint32_t)(uintptr_t)arg, want = deep(seed, 20);
    while (!stop) {
        for (int i = 0; i < 1000; i++)
            OK(deep(seed, 20) == want);
        turns++;
        weft_yield();
    }
}

static void child(void *arg)
{
    OK(weft_send(arg, NULL) == 0);
}

static void makes_others(void *arg)
{
    weft_chan_t *c = weft_chan_make(0, 0);
    uint32_t seed = (uint32_t)(uintptr_t)arg;
    while (!stop) {
        for (int i = 0; i < 10; i++) {
            weft_attr_t attr = {.name = "child", .stack = 1 + (int)(next(&seed) % 2)};
            OK(weft_go_with(&attr, child, c) == 0);
        }
        for (int i = 0; i < 10; i++)
            OK(weft_recv(c, NULL) == 1);
        turns++;
    }
    weft_chan_unref(c);
}

static void blocks(void *arg)
{
    int p[2];
    (void)arg;
    while (!stop) {
        char c = 'x';
        OK(pipe(p) == 0);
        OK(weft_write(p[1], &c, 1) == 1);
        OK(read(p[0], &c, 1) == 1); /* a plain one */
        OK(usleep(3000) == 0);      /* EINTR otherwise */
        OK(weft_close(p[0]) == 0 && weft_close(p[1]) == 0);
    }
}

static void is_pinned(void *arg)
{
    (void)arg;
    weft_thread_lock();
    while (!stop)
        OK(weft_sleep(MS) == 0);
    weft_thread_unlock();
}

/* ---- who asks --------------------------------------------------------------------- */

static void ask(char *text, size_t size)
{
    char name[] = "/tmp/stress_dump.XXXXXX";
    int fd = mkstemp(name);
    OK(fd >= 0);
    unlink(name);
    int rc = weft_dump(fd);
    if (rc == -EBUSY) { /* a slow build's took a second */
        close(fd);
        return;
    }
    OK(rc == 0);
    ssize_t n = pread(fd, text, size - 1, 0);
    OK(n > 0);
    close(fd);
    text[n] = '\0';
    OK(strstr(text, "\ncoroutine 1 [") != NULL);
    bool whole = (size_t)n < size - 1 && !stop;
    OK(!whole || strstr(text, "\"computes\" [") != NULL);
    OK(!whole || strstr(text, "\"pinned\" [") != NULL);
    dumps++;
}

static void asks(void *arg)
{
    static char text[1 << 20];
    (void)arg;
    while (!stop) {
        ask(text, sizeof(text));
        weft_sleep(MS);
    }
}

static void *asks_too(void *arg)
{
    static char text[1 << 20];
    (void)arg;
    while (!stop) {
        ask(text, sizeof(text));
        usleep(1000);
    }
    return NULL;
}

static void start(const char *name, int stack, void (*fn)(void *), int i)
{
    weft_attr_t attr = {.name = name, .stack = stack, .flags = i % 2 ? WEFT_MOVABLE : 0};
    OK(weft_go_with(&attr, fn, (void *)(uintptr_t)(unsigned)i) == 0);
}

static int entry(void *arg)
{
    pthread_t pt;
    (void)arg;
    for (int i = 0; i < 4; i++) {
        int stack = i < 2 ? WEFT_STACK_PRIVATE : WEFT_STACK_COPIED;
        start("computes", stack, computes, i);
        start("makes", stack, makes_others, i);
        start("blocks", WEFT_STACK_PRIVATE, blocks, i);
        start("pinned", WEFT_STACK_PRIVATE, is_pinned, i);
    }
    start("asks", WEFT_STACK_PRIVATE, asks, 0);
    OK(pthread_create(&pt, NULL, asks_too, NULL) == 0);
    churn(weft_now() + (int64_t)(stress_seconds() * 1e9));
    stop = true;
    pthread_join(pt, NULL);
    while (weft_num_coroutines() > 1)
        weft_sleep(MS);
    return 0;
}

int main(void)
{
    weft_config_t cfg = {.procs = 4};
    OK(weft_run_with(&cfg, entry, NULL) == 0);
    OK(dumps > 0 && turns > 0);
    printf("%lu dumps, %lu turns\n", dumps, turns);
    return 0;
}
