/* SPDX-License-Identifier: MIT
 *
 * stress_mutex.c: mutexes and wait groups under everything at once: coroutines
 * and foreign threads, short and long holds, try, hand-over to another
 * unlocker, objects freed by their last user, processors that come and go.
 * WEFT_STRESS_SECONDS long (2); WEFT_DEBUG=chaos=SEED makes it wilder. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/stack_test.h"
#include "tests/stress/stress.h"

enum { COROS = 40, THREADS = 2, CELLS = 5 };

typedef struct {
    weft_mutex_t mx;
    uint64_t a, b; /* equal while mx is free */
} Cell;

static Cell cells[CELLS];
static _Atomic uint64_t added, groups, objects;
static weft_wg_t all;
static int64_t end;

static void use(Cell *c, uint32_t r, bool coro)
{
    if (r % 5 == 0) {
        int rc = weft_mutex_trylock(&c->mx);
        OK(rc == 0 || rc == -EBUSY);
        if (rc != 0)
            return;
    } else {
        OK(weft_mutex_lock(&c->mx) == 0);
    }
    OK(c->a == c->b);
    c->a++;
    if (coro && r % 11 == 0)
        weft_yield();
    if (coro && r % 501 == 0)
        weft_sleep(1200000); /* long enough for others to starve */
    c->b++;
    OK(weft_mutex_unlock(&c->mx) == 0);
    atomic_fetch_add(&added, 1);
}

static void member(void *arg)
{
    _Atomic int *n = arg;
    atomic_fetch_add(n, 1);
}

/* A group on our stack, gone with the wait. */
static void group(void)
{
    weft_wg_t g = {0};
    _Atomic int n = 0;
    for (int i = 0; i < 3; i++)
        OK(weft_wg_go(&g, member, &n) == 0);
    OK(weft_wg_wait(&g) == 0);
    OK(atomic_load(&n) == 3);
    memset((void *)&g, 0xff, sizeof g);
    atomic_fetch_add(&groups, 1);
}

typedef struct {
    weft_mutex_t mx;
    int refs;
} Object;

static void drop(void *arg)
{
    Object *o = arg;
    OK(weft_mutex_lock(&o->mx) == 0);
    bool last = --o->refs == 0;
    OK(weft_mutex_unlock(&o->mx) == 0);
    if (last) {
        memset((void *)o, 0x55, sizeof *o);
        free(o);
        atomic_fetch_add(&objects, 1);
    }
    weft_wg_done(&all);
}

static void object(void)
{
    Object *o = calloc(1, sizeof *o);
    o->refs = 3;
    OK(weft_wg_add(&all, 3) == 0);
    for (int i = 0; i < 3; i++)
        OK(weft_go(drop, o) == 0);
}

static void worker(void *arg)
{
    uint32_t s = (uint32_t)(uintptr_t)arg * 77 + 1;
    while (weft_now() < end) {
        for (int i = 0; i < 20; i++) {
            uint32_t r = next(&s);
            use(&cells[r % CELLS], r / CELLS, true);
        }
        group();
        if (next(&s) % 4 == 0)
            object();
        weft_yield();
    }
}

static void *thread(void *arg)
{
    uint32_t s = (uint32_t)(uintptr_t)arg * 99 + 5;
    while (weft_now() < end) {
        uint32_t r = next(&s);
        use(&cells[r % CELLS], r / CELLS, false);
        if (r % 64 == 0)
            group();
    }
    weft_wg_done(&all);
    return NULL;
}

static int entry(void *arg)
{
    end = weft_now() + (int64_t)(*(double *)arg * 1e9);
    crowd_run(&(Crowd){&all, COROS, THREADS, worker, thread}, end);
    uint64_t sum = 0;
    for (int i = 0; i < CELLS; i++) {
        OK((cells[i].mx.opaque[0] & ~(uint32_t)WEFT_ABI_MUTEX_READY) == 0 &&
           cells[i].mx.opaque[1] == 0);
        OK(cells[i].a == cells[i].b);
        sum += cells[i].a;
    }
    OK(sum == atomic_load(&added));
    return 0;
}

int main(void)
{
    private_only("group() waits for a wait group in its frame");
    double seconds = stress_seconds();
    int rc = weft_run_with(&(weft_config_t){.stack = test_stack()}, entry, &seconds);
    printf("locked %llu, groups %llu, objects %llu\n", (unsigned long long)atomic_load(&added),
           (unsigned long long)atomic_load(&groups), (unsigned long long)atomic_load(&objects));
    return rc == 0 ? 0 : 1;
}
