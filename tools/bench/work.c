/* SPDX-License-Identifier: MIT
 *
 * work.c: the benchmarks of bench.c. Most are a function that does n operations, which
 * bench.c times; the others (`whole`) measure and print their figures themselves. */
#include "bench.h"
#include "resident.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { HOUR_S = 3600, BATCH = 100, IDLE_TIMERS = 32768 };
static const int64_t SECOND = 1000000000;

static weft_chan_t *chan_make(size_t size, size_t cap)
{
    weft_chan_t *c = weft_chan_make(size, cap);
    check(c != NULL, "weft_chan_make");
    return c;
}

/* ---- the work: fn(n) does n operations -------------------------------------------- */

struct pair {
    weft_chan_t *a, *b;
    weft_wg_t wg;
    int64_t n;
};

static void yielder(void *arg)
{
    struct pair *p = arg;
    for (int64_t i = 0; i < p->n; i++)
        weft_yield();
    weft_wg_done(&p->wg);
}

static void yield_run(int64_t n)
{
    struct pair p = {.n = n / 2};
    weft_wg_add(&p.wg, 2);
    for (int i = 0; i < 2; i++)
        go(yielder, &p);
    weft_wg_wait(&p.wg);
}

/* Many: the number of yields in a given time, whatever the order. Each counts its own, as a
 * counter that all share would be most of the time of a yield. */
enum { WARM, COUNT, STOP };
static const int64_t WARM_NS = 100000000, COUNT_NS = 500000000;

static struct {
    weft_wg_t in, out;
    _Atomic int phase;
    _Atomic int64_t yields;
} turns;

static void turner(void *arg)
{
    int64_t n = 0;
    (void)arg;
    weft_wg_done(&turns.in);
    for (int phase; (phase = atomic_load_explicit(&turns.phase, memory_order_relaxed)) != STOP;) {
        weft_yield();
        n += phase == COUNT;
    }
    atomic_fetch_add(&turns.yields, n);
    weft_wg_done(&turns.out);
}

static void turns_of(const char *name, int k)
{
    double v[REPETITIONS_MAX];
    for (int r = 0; r < repetitions; r++) {
        turns.phase = WARM;
        turns.yields = 0;
        weft_wg_add(&turns.in, k);
        weft_wg_add(&turns.out, k);
        for (int i = 0; i < k; i++)
            go(turner, NULL);
        weft_wg_wait(&turns.in);
        weft_sleep(WARM_NS);
        int64_t t = weft_now();
        turns.phase = COUNT;
        weft_sleep(COUNT_NS);
        turns.phase = STOP;
        v[r] = (double)(weft_now() - t);
        weft_wg_wait(&turns.out);
        v[r] /= (double)turns.yields;
    }
    print(name, v, repetitions);
}

static void yield1000(void)
{
    turns_of("yield1000", 1000);
}

static void yield100k(void)
{
    turns_of("yield100k", 100000);
}

/* Strictly in turn: a token goes round, each waits for it on a channel of its own. The token is the
 * number of hops that are left. */
static struct {
    weft_chan_t **c, *end;
    weft_wg_t wg;
    int k;
} ring;

static void ring_member(void *arg)
{
    weft_chan_t *mine = ring.c[(intptr_t)arg], *next = ring.c[((intptr_t)arg + 1) % ring.k];
    int64_t left;
    while (weft_recv(mine, &left) == 1) {
        left--;
        weft_send(left == 0 ? ring.end : next, &left);
    }
    weft_wg_done(&ring.wg);
}

static void ring_setup(int k)
{
    ring.k = k;
    ring.end = chan_make(8, 1);
    check((ring.c = calloc((size_t)k, sizeof(*ring.c))) != NULL, "calloc");
    for (int i = 0; i < k; i++)
        ring.c[i] = chan_make(8, 1);
    weft_wg_add(&ring.wg, k);
    for (int i = 0; i < k; i++)
        go(ring_member, (void *)(intptr_t)i);
}

static void ring1000_setup(void)
{
    ring_setup(1000);
}

static void ring100k_setup(void)
{
    ring_setup(100000);
}

static void ring_run(int64_t n)
{
    weft_send(ring.c[0], &n);
    weft_recv(ring.end, NULL);
}

static void ring_teardown(void)
{
    for (int i = 0; i < ring.k; i++)
        weft_chan_close(ring.c[i]);
    weft_wg_wait(&ring.wg);
    for (int i = 0; i < ring.k; i++)
        weft_chan_unref(ring.c[i]);
    weft_chan_unref(ring.end);
    free(ring.c);
}

static void pinger(void *arg)
{
    struct pair *p = arg;
    for (int64_t i = 0, v; i < p->n; i++) {
        weft_send(p->a, &i);
        weft_recv(p->b, &v);
    }
    weft_wg_done(&p->wg);
}

static void ponger(void *arg)
{
    struct pair *p = arg;
    int64_t v;
    for (int64_t i = 0; i < p->n; i++) {
        weft_recv(p->a, &v);
        weft_send(p->b, &v);
    }
    weft_wg_done(&p->wg);
}

static void pingpong_run(int64_t n)
{
    struct pair p = {.a = chan_make(8, 0), .b = chan_make(8, 0), .n = n};
    weft_wg_add(&p.wg, 2);
    go(pinger, &p);
    go(ponger, &p);
    weft_wg_wait(&p.wg);
    weft_chan_unref(p.a);
    weft_chan_unref(p.b);
}

static void buffered_run(int64_t n)
{
    weft_chan_t *c = chan_make(8, 100);
    for (int64_t i = 0, v; i < n; i++) {
        weft_send(c, &i);
        weft_recv(c, &v);
    }
    weft_chan_unref(c);
}

/* One select that finds one of its two channels ready, one send to the other. A
 * C program that selects in a loop fills its cases in once (select2); Go's select
 * statement makes them anew each time, and so does select2_new. */
static void select2_loop(int64_t n, bool anew)
{
    weft_chan_t *a = chan_make(8, 1), *b = chan_make(8, 1);
    int64_t v = 1;
    weft_case_t cases[2] = {{.op = WEFT_RECV, .chan = a, .elem = &v},
                            {.op = WEFT_RECV, .chan = b, .elem = &v}};
    weft_send(a, &v);
    for (int64_t i = 0; i < n; i++) {
        if (anew) {
            cases[0] = (weft_case_t){.op = WEFT_RECV, .chan = a, .elem = &v};
            cases[1] = (weft_case_t){.op = WEFT_RECV, .chan = b, .elem = &v};
        }
        weft_send(weft_select(cases, 2, 0) == 0 ? b : a, &v);
    }
    weft_chan_unref(a);
    weft_chan_unref(b);
}

static void select2_run(int64_t n)
{
    select2_loop(n, false);
}

static void select2_new_run(int64_t n)
{
    select2_loop(n, true);
}

static void finisher(void *arg)
{
    weft_wg_done(arg);
}

static void spawn_run(int64_t n)
{
    for (int64_t i = 0; i < n; i += BATCH) {
        weft_wg_t wg = {0};
        weft_wg_add(&wg, BATCH);
        for (int j = 0; j < BATCH; j++)
            go(finisher, &wg);
        weft_wg_wait(&wg);
    }
}

static void timer_run(int64_t n)
{
    weft_timer_t t = {0};
    for (int64_t i = 0; i < n; i++) {
        weft_timer_start(&t, weft_now() + HOUR_S * SECOND, 0, nothing, NULL);
        weft_timer_stop(&t);
    }
}

static weft_timer_t *idle_timers;

static void timer_idle_setup(void)
{
    idle_timers = calloc(IDLE_TIMERS, sizeof(*idle_timers));
    check(idle_timers != NULL, "calloc");
    for (int64_t i = 0; i < IDLE_TIMERS; i++)
        check(weft_timer_start(&idle_timers[i], weft_now() + (HOUR_S + i) * SECOND, 0, nothing,
                               NULL) == 0,
              "weft_timer_start");
}

static void timer_idle_teardown(void)
{
    for (int i = 0; i < IDLE_TIMERS; i++)
        weft_timer_stop(&idle_timers[i]);
    free(idle_timers);
}

/* A declared call that is over at once, and nobody wants the processor. */
static void syscall_run(int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        weft_syscall_enter();
        weft_syscall_exit();
    }
}

struct sky {
    weft_chan_t *c;
    int64_t num, size;
};

/* Each node's arguments lie on its parent's stack, as Go's closures lie in its
 * heap: the parent waits for all ten. On a copied stack they would not be there then. */
static void sky(void *arg)
{
    struct sky *s = arg;
    if (s->size == 1) {
        weft_send(s->c, &s->num);
        return;
    }
    struct sky own[10], *kids = own;
    weft_chan_t *c = chan_make(8, 0);
    int64_t sum = 0;
    if (stack != WEFT_STACK_PRIVATE)
        check((kids = malloc(sizeof own)) != NULL, "malloc");
    for (int i = 0; i < 10; i++) {
        kids[i] = (struct sky){.c = c, .num = s->num + i * (s->size / 10), .size = s->size / 10};
        go(sky, &kids[i]);
    }
    for (int64_t i = 0, v; i < 10; i++) {
        weft_recv(c, &v);
        sum += v;
    }
    weft_chan_unref(c);
    if (kids != own)
        free(kids);
    weft_send(s->c, &sum);
}

static void skynet_run(int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        struct sky root = {.c = chan_make(8, 0), .size = 1000000};
        int64_t sum;
        go(sky, &root);
        weft_recv(root.c, &sum);
        check(sum == 499999500000, "the sum");
        weft_chan_unref(root.c);
    }
}

/* ---- lateness of short sleeps on an idle machine ------------------------------------- */

enum { SLEEPS = 1000, SLEEP_NS = 50000 };

static void sleep50(void)
{
    static double late[SLEEPS];
    double p50[REPETITIONS_MAX], p99[REPETITIONS_MAX];
    for (int r = 0; r < repetitions; r++) {
        for (int i = 0; i < SLEEPS; i++) {
            int64_t due = weft_now() + SLEEP_NS;
            weft_sleep(SLEEP_NS);
            late[i] = (double)(weft_now() - due);
        }
        qsort(late, SLEEPS, sizeof(*late), compare);
        p50[r] = late[SLEEPS / 2];
        p99[r] = late[SLEEPS * 99 / 100];
    }
    print("sleep50_p50", p50, repetitions);
    print("sleep50_p99", p99, repetitions);
}

/* ---- what a declaration adds to a real call ------------------------------------------ */

enum { CALLS = 1000, BATCHES = 500 };

static double getppids(bool declared)
{
    int64_t t = weft_now();
    for (int i = 0; i < CALLS; i++) {
        if (declared)
            weft_syscall_enter();
        syscall(SYS_getppid);
        if (declared)
            weft_syscall_exit();
    }
    return (double)(weft_now() - t);
}

/* The difference of two large figures: in small batches in turn, so that both drift alike. */
static void syscall_call(void)
{
    double v[REPETITIONS_MAX], with, without;
    for (int r = 0; r < repetitions; r++) {
        with = without = 0;
        for (int i = 0; i < BATCHES; i++) {
            without += getppids(false);
            with += getppids(true);
        }
        v[r] = (with - without) / CALLS / BATCHES;
    }
    print("syscall_call", v, repetitions);
}

/* ---- parked coroutines: memory, creation, end ---------------------------------------- */

struct crowd {
    weft_chan_t *gate;
    weft_wg_t in, out;
};

static void parker(void *arg)
{
    struct crowd *c = arg;
    weft_wg_done(&c->in);
    weft_recv(c->gate, NULL);
    weft_wg_done(&c->out);
}

static double resident(void)
{
    Memory m = memory(getpid());
    return m.rss + m.pte;
}

/* Once a process: the memory of a second round would be the first's, used again. */
static void parked(void)
{
    struct crowd c = {.gate = chan_make(0, 0)};
    double before = resident();
    int64_t t0 = weft_now();
    weft_wg_add(&c.in, parked_n);
    weft_wg_add(&c.out, parked_n);
    for (int i = 0; i < parked_n; i++)
        go(parker, &c);
    weft_wg_wait(&c.in);
    weft_sleep(SECOND / 100); /* the last one is on its way from done to recv */
    int64_t t1 = weft_now() - SECOND / 100;
    double each = (resident() - before) / parked_n;
    int64_t t2 = weft_now();
    weft_chan_close(c.gate);
    weft_wg_wait(&c.out);
    int64_t t3 = weft_now();
    double create = (double)(t1 - t0) / parked_n, end = (double)(t3 - t2) / parked_n;
    print("parked_create", &create, 1);
    print("parked_bytes", &each, 1);
    print("parked_wake", &end, 1);
    weft_chan_unref(c.gate);
}

/* ---- the list ------------------------------------------------------------------------ */

const struct bench benches[] = {
    {.name = "yield", .n = 2000000, .run = yield_run},
    {.name = "yield1000", .whole = yield1000},
    {.name = "yield100k", .whole = yield100k},
    {.name = "ring1000",
     .n = 1000000,
     .run = ring_run,
     .before = ring1000_setup,
     .after = ring_teardown},
    {.name = "ring100k",
     .n = 1000000,
     .run = ring_run,
     .before = ring100k_setup,
     .after = ring_teardown},
    {.name = "pingpong", .n = 1000000, .run = pingpong_run},
    {.name = "buffered", .n = 5000000, .run = buffered_run},
    {.name = "select2", .n = 3000000, .run = select2_run},
    {.name = "select2_new", .n = 3000000, .run = select2_new_run},
    {.name = "spawn", .n = 1000000, .run = spawn_run},
    {.name = "skynet", .n = 1, .run = skynet_run},
    {.name = "timer", .n = 1000000, .run = timer_run},
    {.name = "timer_idle",
     .n = 1000000,
     .run = timer_run,
     .before = timer_idle_setup,
     .after = timer_idle_teardown},
    {.name = "mutex", .n = 5000000, .run = mutex_run},
    {.name = "mutex4", .n = 2000000, .run = mutex4_run},
    {.name = "rlock", .n = 5000000, .run = rlock_run},
    {.name = "rwlock", .n = 5000000, .run = rwlock_run},
    {.name = "wg", .n = 5000000, .run = wg_run},
    {.name = "group", .n = 1000000, .run = group_run},
    {.name = "once", .n = 200000000, .run = once_run},
    {.name = "sem", .n = 5000000, .run = sem_run},
    {.name = "cond", .n = 1000000, .run = cond_run},
    {.name = "ctx_tree", .n = 10000, .run = ctx_tree_run},
    {.name = "ctx_cancel", .n = 2000000, .run = ctx_cancel_run},
    {.name = "ctx_deadline", .n = 1000000, .run = ctx_deadline_run},
    {.name = "ctx_err", .n = 20000000, .run = ctx_err_run},
    {.name = "ctx_value", .n = 5000000, .run = ctx_value_run},
    {.name = "syscall", .n = 10000000, .run = syscall_run},
    {.name = "syscall_call", .whole = syscall_call},
    {.name = "sleep50", .whole = sleep50},
    {.name = "parked", .whole = parked},
    {.name = NULL},
};
