/* SPDX-License-Identifier: MIT
 *
 * dump.c: every coroutine, in words (entry.c).
 *
 * Beyond 1000 coroutines those with the same state, reason, spawn site and backtrace are one entry with a
 * count, the largest first. The backtrace is that of the one met first. Whether another one's is equal is seen
 * by some words of its stack (report_equals): to walk each would take libunwind a second for a hundred
 * thousand.
 *
 * A dump is taken in three steps. What runs is asked where it is (where.c). Then all Gs are visited, under the
 * lock that coro_foreach() needs, and what is to be said of each is noted in a static table: no
 * allocation, no I/O, no loader lock that a constructor may hold. Then the table is written.
 *
 * All this runs on a stack of its own: libunwind wants more than a small coroutine has left. There is one such
 * stack, one table and one cache of names, held by `reporting`: 0 free, 1 held; taken by CAS (acquire), given
 * back with release, so the next holder sees all of the tables. */
#include "annotate.h"
#include "where.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* ---- the report stack ------------------------------------------------------ */

typedef struct {
    void (*fn)(void *arg, const ArchContext *ctx);
    void *arg;
    void *caller; /* its saved stack pointer */
} ReportJob;

static _Atomic uint32_t reporting;
static _Alignas(64) char report_stack[128 * 1024]; /* touched only when used */

static void report_start(void *pass)
{
    ReportJob *job = pass;
    ArchContext ctx;
    arch_context(job->caller, &ctx);
    job->fn(job->arg, &ctx);
    void *gone;
    arch_switch(&gone, job->caller, NULL);
}

bool report_run(void (*fn)(void *arg, const ArchContext *ctx), void *arg)
{
    int64_t until = sys_now() + 1000000000;
    uint32_t free = 0;
    while (!atomic_compare_exchange_strong_explicit(&reporting, &free, 1, memory_order_acquire,
                                                    memory_order_relaxed)) {
        int64_t now = sys_now();
        if (now >= until)
            return false;
        sys_sleep_until(now + 1000000);
        free = 0;
    }
    ReportJob job = {.fn = fn, .arg = arg};
    /* We may come from the alternate signal stack, whose top the kernel takes for free meanwhile. */
    bool was_blocked = sys_tick_block(true);
    void *sp = arch_prepare(report_stack + sizeof(report_stack), report_start);
    arch_switch(&job.caller, sp, &job);
    if (!was_blocked)
        sys_tick_block(false);
    set_rel(&reporting, 0); /* pairs with the acquire above */
    return true;
}

/* ---- all of them -------------------------------------------------------------- */

enum { ENTRIES = 1000, CHAINS = 1024 };

/* What an entry is found by: the innermost address stands for all of them. */
typedef struct {
    uintptr_t spawn_pc, pc;
    uint8_t state, reason;
} Key;

static struct {
    const G *self;     /* the coroutine that the reporting thread runs, or NULL */
    bool grouped;      /* so many that equal ones are counted only */
    uint64_t total;    /* Gs counted by the first visit */
    uint64_t left_out; /* no room for their entry */
    uint32_t n;
    Entry e[ENTRIES];
    Key key[ENTRIES];
    uint32_t chain[CHAINS], next[ENTRIES]; /* entries of one hash: index + 1, 0: the end */
    uint32_t order[ENTRIES];               /* in which they are said */
} dump;

static bool shown(const G *g)
{
    return get(&g->state) != G_DEAD && !(g->flags & G_OWN);
}

static void visit_count(G *g, void *arg)
{
    (void)arg;
    dump.total += shown(g);
}

typedef struct {
    Key key;
    uint32_t *chain; /* where an entry for it belongs */
    Entry *same;     /* the one there is, or NULL */
} Search;

static uint32_t *chain_of(const Key *k)
{
    uint64_t h = (k->spawn_pc * 31 + k->pc) * 31 + k->state * 256u + k->reason;
    h *= 0x9E3779B97F4A7C15u;
    return &dump.chain[h >> 54];
}

static bool key_equals(const Key *a, const Key *b)
{
    return a->spawn_pc == b->spawn_pc && a->pc == b->pc && a->state == b->state &&
           a->reason == b->reason;
}

/* Under guard: it reads a stack. */
static bool search(void *arg, G *g)
{
    Search *s = arg;
    s->key.pc = report_inmost(g);
    s->chain = chain_of(&s->key);
    for (uint32_t i = *s->chain; i != 0; i = dump.next[i - 1])
        if (key_equals(&dump.key[i - 1], &s->key) && report_equals(&dump.e[i - 1], g)) {
            s->same = &dump.e[i - 1];
            return true;
        }
    return true;
}

static void count_in(Entry *e, const G *g)
{
    int64_t age = report_age_of(g);
    e->count++;
    e->age = age < e->age ? age : e->age;
    e->oldest = age > e->oldest ? age : e->oldest;
}

static void visit_note(G *g, void *arg)
{
    (void)arg;
    if (!shown(g) || g == dump.self)
        return;
    static Search s;
    s = (Search){.key = {.spawn_pc = (uintptr_t)g->spawn_pc,
                         .state = get(&g->state),
                         .reason = get(&g->reason)}};
    if (dump.grouped && !report_guarded(search, &s, g))
        s.chain = chain_of(&s.key); /* its stack cannot be read */
    if (s.same != NULL) {
        count_in(s.same, g);
        return;
    }
    if (dump.n == ENTRIES) {
        dump.left_out++;
        return;
    }
    uint32_t i = dump.n++;
    report_entry(&dump.e[i], g);
    if (!dump.grouped)
        return;
    dump.key[i] = s.key;
    dump.next[i] = *s.chain;
    *s.chain = i + 1;
}

/* The largest first, after the caller's own; among equals those met first. */
static void sort(void)
{
    for (uint32_t i = 0; i < dump.n; i++) {
        uint32_t at = i, first = dump.self != NULL;
        if (dump.grouped)
            while (at > first && dump.e[dump.order[at - 1]].count < dump.e[i].count) {
                dump.order[at] = dump.order[at - 1];
                at--;
            }
        dump.order[at] = i;
    }
}

static void print_all(Out *o)
{
    if (dump.grouped) {
        out_str(o, "\n");
        out_dec(o, dump.total);
        out_str(o, " coroutines, by state, spawn site and backtrace:\n");
    }
    for (uint32_t i = 0; i < dump.n; i++) {
        const Entry *e = &dump.e[dump.order[i]];
        out_str(o, "\n");
        if (e->count > 1) {
            out_dec(o, e->count);
            out_str(o, " coroutines, the first: ");
        }
        report_print(o, e);
    }
    if (dump.left_out > 0) {
        out_str(o, "\n");
        out_dec(o, dump.left_out);
        out_str(o, " more coroutines\n");
    }
}

static void dump_body(void *arg, const ArchContext *here)
{
    M *m = arch_self();
    Out o;
    G *self = m != NULL && m->g != NULL && !(m->g->flags & (G_FOREIGN | G_SYSTEM)) ? m->g : NULL;
    where_ask(m);
    dump.self = self;
    dump.total = dump.left_out = 0;
    dump.n = 0;
    memset(dump.chain, 0, sizeof(dump.chain));
    report_begin(self, here);
    if (self != NULL)
        report_entry(&dump.e[dump.n++], self);
    note_racy_reads(true);
    coro_foreach(visit_count, NULL);
    dump.grouped = dump.total > ENTRIES;
    coro_foreach(visit_note, NULL);
    note_racy_reads(false);
    sort();
    out_open(&o, *(int *)arg);
    print_all(&o);
    out_flush(&o);
}

bool dump_all(int fd)
{
    bool done = report_run(dump_body, &fd);
    if (!done)
        warn("another report is being written: no dump");
    return done;
}

int weft_dump(int fd)
{
    M *m = rt_enter();
    if (m == NULL)
        return rt_no_m();
    int err = 0, e = errno;
    if (!get_acq(&sched.active))
        err = -EPERM;
    else if (fcntl(fd, F_GETFD) < 0)
        err = -EBADF;
    else if (!dump_all(fd))
        err = -EBUSY;
    errno = e;
    rt_leave(m);
    return err;
}

void dump_init(void)
{
    static _Atomic bool loaded;
    if (!atomic_exchange(&loaded, true))
        unwind_load();
}
