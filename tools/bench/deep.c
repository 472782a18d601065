/* SPDX-License-Identifier: MIT
 *
 * deep.c: a recursion as deep as only a copied stack can be, that gives way to another
 * coroutine every few MB, and what of its memory is left three seconds later.
 *
 * usage: deep [copied|private] [MB [MB_BETWEEN_YIELDS]]     (copied, 400, 4; private: 48)
 *
 * On the way down and back, each frame follows the chain of pointers into the frames of
 * its callers and compares what is there: a stack that was put back one byte off, or not in
 * whole, is found. With
 * WEFT_DEBUG=windows=1 both coroutines have one window, and every yield copies the stack out
 * and in (deep copied 400 40: some 10 s). Exit status 1: a frame was not as it was, the other
 * coroutine got no turn at most of the yields, or more than 64 MB are left. */
#include <weft.h>
#include "resident.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FRAME = 4096, CALLERS = 32, LEFT_MAX_MB = 64 };
static const size_t MB = 1000000;

typedef struct Frame {
    struct Frame *up;
    uint64_t depth; /* 0: the first */
    uint64_t words[FRAME / 8 - 16];
} Frame;

static int stack = WEFT_STACK_COPIED;
static size_t deepest, between;

/* Not on any coroutine's stack: others look at these. */
static _Atomic bool dived, over;
static _Atomic uint64_t others_turns, wrong;
static uint64_t yields;
static weft_wg_t wg;

static uint64_t word(uint64_t depth, size_t i)
{
    return (depth << 16 | i) * 0x9e3779b97f4a7c15u;
}

/* The frames of the next callers, each somewhere else, and the first of all. */
static void look_up(const Frame *f, const Frame *first)
{
    uint64_t depth = f->depth;
    size_t n = sizeof f->words / sizeof f->words[0], at = depth % n;
    bool same = first->depth == 0 && first->words[at] == word(0, at);
    for (int i = 0; i < CALLERS && f != NULL; i++, f = f->up, depth--) {
        same &= f->depth == depth && f->words[at] == word(depth, at) &&
                f->words[n - 1] == word(depth, n - 1);
        at = (at + 37) % n;
    }
    if (!same)
        atomic_fetch_add(&wrong, 1);
}

static void pass(size_t done)
{
    if (done / between != (done - sizeof(Frame)) / between) {
        yields++;
        weft_yield();
    }
}

__attribute__((noinline)) static uint64_t descend(Frame *up, const Frame *first, size_t done)
{
    Frame f = {.up = up, .depth = up != NULL ? up->depth + 1 : 0};
    uint64_t sum = f.depth;
    for (size_t i = 0; i < sizeof f.words / sizeof f.words[0]; i++)
        f.words[i] = word(f.depth, i);
    __asm__ volatile("" ::"r"(&f) : "memory");
    if (up == NULL)
        first = &f;
    done += sizeof f;
    pass(done);
    look_up(&f, first);
    if (done < deepest)
        sum += descend(&f, first, done);
    pass(done);
    __asm__ volatile("" ::"r"(&f) : "memory");
    look_up(&f, first);
    return sum;
}

static double resident_mb(void)
{
    return memory(getpid()).rss / (double)MB;
}

/* In a frame of its own, so that none of it lies below what stays. */
__attribute__((noinline)) static void dive(void)
{
    int64_t t = weft_now();
    uint64_t sum = descend(NULL, NULL, 0), n = (deepest + sizeof(Frame) - 1) / sizeof(Frame);
    printf("deep: %llu frames, %zu MB, and back in %.2f s with %llu yields, "
           "the other had %llu turns; %.0f MB resident\n",
           (unsigned long long)n, deepest / MB, (double)(weft_now() - t) / 1e9,
           (unsigned long long)yields, (unsigned long long)others_turns, resident_mb());
    fflush(stdout);
    if (others_turns < yields / 2) {
        fprintf(stderr, "deep: a yield did not let the other run\n");
        atomic_fetch_add(&wrong, 1);
    }
    if (sum != n * (n - 1) / 2)
        atomic_fetch_add(&wrong, 1);
}

static void deep(void *arg)
{
    (void)arg;
    dive();
    dived = true;
    weft_sleep(3000000000);
    over = true;
    weft_wg_done(&wg);
}

/* It sleeps between its turns once the dive is done with, so that idle threads can tidy up. */
static void other(void *arg)
{
    uint64_t mark[4] = {1, 2, 3, 4};
    (void)arg;
    while (!over) {
        __asm__ volatile("" ::"r"(mark) : "memory");
        if (mark[0] != 1 || mark[3] != 4)
            atomic_fetch_add(&wrong, 1);
        weft_yield();
        others_turns++;
        if (dived)
            weft_sleep(1000000);
    }
    weft_wg_done(&wg);
}

static int deep_main(void *arg)
{
    weft_attr_t attr = {.stack = stack,
                        .stack_max = stack == WEFT_STACK_PRIVATE ? (size_t)64 << 20 : 0};
    (void)arg;
    weft_wg_add(&wg, 2);
    int rc = weft_go_with(&attr, deep, NULL);
    if (rc == 0)
        rc = weft_go_with(&attr, other, NULL);
    if (rc != 0) {
        fprintf(stderr, "deep: weft_go_with: %s\n", strerror(-rc));
        return 2;
    }
    weft_wg_wait(&wg);
    double left = resident_mb();
    printf("deep: %.1f MB resident three seconds later\n", left);
    if (wrong != 0)
        fprintf(stderr, "deep: %llu times something was not as it should be\n",
                (unsigned long long)wrong);
    if (left > LEFT_MAX_MB)
        fprintf(stderr, "deep: more than %d MB are left\n", LEFT_MAX_MB);
    return wrong != 0 || left > LEFT_MAX_MB;
}

int main(int argc, char **argv)
{
    int at = 1;
    if (at < argc && (strcmp(argv[at], "private") == 0 || strcmp(argv[at], "copied") == 0))
        stack = argv[at++][0] == 'p' ? WEFT_STACK_PRIVATE : WEFT_STACK_COPIED;
    long mb = at < argc ? atol(argv[at++]) : stack == WEFT_STACK_PRIVATE ? 48 : 400;
    long step = at < argc ? atol(argv[at++]) : 4;
    if (mb < 1 || step < 1 || at < argc) {
        fprintf(stderr, "usage: deep [copied|private] [MB [MB_BETWEEN_YIELDS]]\n");
        return 2;
    }
    deepest = (size_t)mb * MB;
    between = (size_t)step * MB;
    weft_config_t cfg = {.procs = 1};
    int rc = weft_run_with(&cfg, deep_main, NULL);
    if (rc < 0)
        fprintf(stderr, "deep: %s\n", strerror(-rc));
    return rc != 0;
}
