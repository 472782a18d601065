/* SPDX-License-Identifier: MIT
 *
 * check_copied_memory.c: copied stacks when there is no memory for them.
 *
 * The library takes the blocks of parked stacks from jemalloc's extended functions if the program has them.
 * This program is not linked with jemalloc: it has those functions itself, and they fail when they are told
 * to. Nothing may be lost: who cannot have its window waits for memory, what lies on the stacks stays, and
 * what was allocated is freed, once, as large as it was.
 */
#include "behaviour.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>

/* ---- the allocator ------------------------------------------------------------------------- */

void *mallocx(size_t size, int flags);
void sdallocx(void *p, size_t size, int flags);
size_t nallocx(size_t size, int flags);
int mallctl(const char *name, void *old, size_t *oldlen, void *new, size_t newlen);

static _Atomic unsigned asked, every; /* one in so many fails; 0: none, 1: all */
static _Atomic unsigned failed;
static _Atomic long blocks, bytes;

typedef struct {
    _Alignas(16) size_t size;
} Header;

void *mallocx(size_t size, int flags)
{
    unsigned n = ++asked, of = every;
    (void)flags;
    if (of != 0 && n % of == 0) {
        failed++;
        return NULL;
    }
    Header *h = malloc(sizeof *h + size);
    if (h == NULL)
        return NULL;
    h->size = size;
    blocks++;
    bytes += (long)size;
    return h + 1;
}

void sdallocx(void *p, size_t size, int flags)
{
    Header *h = (Header *)p - 1;
    (void)flags;
    if (h->size != size)
        abort();
    blocks--;
    bytes -= (long)size;
    memset(h, 0x5a, sizeof *h + size);
    free(h);
}

size_t nallocx(size_t size, int flags)
{
    (void)flags;
    return (size + 127) & ~(size_t)127;
}

int mallctl(const char *name, void *old, size_t *oldlen, void *new, size_t newlen)
{
    (void)name, (void)old, (void)oldlen, (void)new, (void)newlen;
    return ENOENT; /* no arenas, no caches */
}

/* ---- who needs it ---------------------------------------------------------------------------- */

static _Atomic unsigned steps, ended;
static _Atomic bool stop;

typedef struct Frame {
    struct Frame *outer;
    volatile uint64_t word[30];
} Frame;

static void look(const Frame *f)
{
    for (; f != NULL; f = f->outer)
        for (uint64_t i = 0; i < 30; i++)
            OK(f->word[i] == ((uint64_t)(uintptr_t)f ^ weft_id() << 32) + i);
}

static void descend(Frame *outer, int depth)
{
    Frame f = {.outer = outer};
    for (uint64_t i = 0; i < 30; i++)
        f.word[i] = ((uint64_t)(uintptr_t)&f ^ weft_id() << 32) + i;
    if (depth > 0)
        descend(&f, depth - 1);
    weft_yield();
    look(&f);
    steps++;
}

static void worker(void *arg)
{
    for (int i = 0; i < 5; i++)
        descend(NULL, (int)(intptr_t)arg % 30);
    ended++;
}

static void forever(void *arg)
{
    Frame f = {.outer = NULL};
    (void)arg;
    for (uint64_t i = 0; i < 30; i++)
        f.word[i] = ((uint64_t)(uintptr_t)&f ^ weft_id() << 32) + i;
    while (!stop) {
        weft_yield();
        steps++;
    }
    look(&f);
    ended++;
}

static void alone(void)
{
    while (weft_num_coroutines() > 1)
        weft_sleep(MS);
    EQ(blocks, 0);
    EQ(bytes, 0);
    weft_stats_t s;
    EQ(weft_stats(&s), 0);
    EQ(s.stack_copied_bytes, 0);
}

/* Some fail: each is tried again. */
static void some(void)
{
    for (unsigned n = 2; n < 6; n++) {
        ended = 0;
        every = n;
        for (intptr_t i = 0; i < 20; i++)
            go(worker, (void *)i);
        while (ended < 20)
            weft_sleep(MS);
        alone();
    }
    OK(failed > 0);
}

/* All fail, for a while: main goes on, who needs a block does not, and then all do. */
static void none(void)
{
    every = 0;
    for (intptr_t i = 0; i < 10; i++)
        go(forever, NULL);
    while (steps < 100)
        weft_sleep(MS);
    every = 1;
    for (intptr_t i = 0; i < 10; i++) /* there is none at all for these */
        go(worker, (void *)(i + 20));
    unsigned before = failed;
    while (failed < before + 20)
        weft_sleep(MS);
    OK(ended < 10); /* blocks that are there already serve some */
    every = 0;
    while (ended < 10)
        weft_sleep(MS);
    stop = true;
    while (ended < 20)
        weft_sleep(MS);
    alone();
}

/* main returns meanwhile. */
static void abandoned(void)
{
    for (intptr_t i = 0; i < 10; i++)
        go(forever, NULL);
    while (steps < 100)
        weft_sleep(MS);
    every = 1;
    for (intptr_t i = 0; i < 10; i++)
        go(worker, (void *)(i + 20));
    unsigned before = failed;
    while (failed < before + 20)
        weft_sleep(MS);
}

/* On 1, 2 and 4 processors, 1 and 2 windows. */
static void run_way(int way, void (*body)(void))
{
    weft_config_t cfg = {.procs = PROCS[way / 2], .stack = WEFT_STACK_COPIED};
    const char *old = getenv("WEFT_DEBUG");
    char now[256];
    snprintf(now, sizeof now, "%s%swindows=%d", old != NULL ? old : "", old != NULL ? "," : "",
             1 + way % 2);
    setenv("WEFT_DEBUG", now, 1);
    EQ(weft_run_with(&cfg, run_entry, &body), 7);
}

START_TEST(test_some)
{
    run_way(_i, some);
}
END_TEST

START_TEST(test_none)
{
    run_way(_i, none);
}
END_TEST

START_TEST(test_abandoned)
{
    run_way(_i, abandoned);
    EQ(blocks, 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("memory for copied stacks");
    TCase *tc = tcase_create("memory");
    tcase_add_loop_test(tc, test_some, 0, 2 * NPROCS);
    tcase_add_loop_test(tc, test_none, 0, 2 * NPROCS);
    tcase_add_loop_test(tc, test_abandoned, 0, 2 * NPROCS);
    suite_add_tcase(s, tc);
    return run_suite(s);
}
