/* SPDX-License-Identifier: MIT
 *
 * dump.c: every coroutine, in words.
 *
 *   coroutine 12 "conn" [chan receive, 3 min]:
 *     #0 0x7f... recv_line+0x4f (server)
 *     ...
 *     created at serve+0x1f (server)
 *
 * Beyond 1000 coroutines those with the same state, reason and spawn site are
 * one entry with a count, and the backtrace of the first.
 *
 * A dump is taken in two steps. First all Gs are visited, under the lock that
 * coro_foreach() needs, and what is to be said of each is noted in a static
 * table: no allocation, no I/O, no loader lock that a constructor may hold. Then
 * the table is written: the descriptor may be a pipe whose reader is a
 * coroutine that wants that lock. Others run on meanwhile: each entry is true of
 * some moment, and a backtrace is kept only if its G was seen parked, on the
 * same stack pointer, before and after. What is read of a G that has started to
 * run meanwhile may be nonsense, and its old stack may be a guard by now: a fault
 * while an entry is noted leaves that entry as far as it got (dump_on_fault).
 *
 * All this runs on a stack of its own: libunwind wants more than a small
 * coroutine has left. There is one such stack, one table and one cache of
 * names, held by `reporting`: 0 free, 1 held; taken by CAS (acquire), given back
 * with release, so the next holder sees all of the tables.
 */
#include "annotate.h"
#include "copystack.h"
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <unistd.h>

const char *const reason_name[WHY_MAX] = {
    [WHY_NONE] = "waiting",
    [WHY_CHAN_RECV] = "chan receive",
    [WHY_CHAN_SEND] = "chan send",
    [WHY_CHAN_NIL_RECV] = "chan receive (nil chan)",
    [WHY_CHAN_NIL_SEND] = "chan send (nil chan)",
    [WHY_SELECT] = "select",
    [WHY_SELECT_EMPTY] = "select (no cases)",
    [WHY_SLEEP] = "sleep",
    [WHY_MUTEX] = "sync.Mutex.Lock",
    [WHY_WG] = "sync.WaitGroup.Wait",
    [WHY_RLOCK] = "sync.RWMutex.RLock",
    [WHY_RWLOCK] = "sync.RWMutex.Lock",
    [WHY_COND] = "sync.Cond.Wait",
    [WHY_SEM] = "semaphore acquire",
    [WHY_JOIN] = "join",
    [WHY_TIMER] = "timer callback",
    [WHY_IO] = "IO wait",
    [WHY_YIELD] = "yield",
    [WHY_START] = "runnable",
    [WHY_PREEMPTED] = "preempted",
    [WHY_SYSCALL] = "syscall",
    [WHY_WINDOW] = "stack window",
};

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

/* ---- what is to be said ------------------------------------------------------ */

enum { ENTRIES = 1000 };

static struct {
    const ArchContext *here; /* where the reporting thread stands */
    G *self;                 /* the coroutine it runs, or NULL */
    int64_t now;
    uint64_t total;    /* Gs counted by the first visit */
    uint64_t left_out; /* no room for their entry */
    uint32_t n;
    Entry e[ENTRIES];
} dump;

static uint32_t entry_walk(G *g, const ArchContext *ctx, uintptr_t *frames)
{
    void *lo, *hi;
    if (g->slot == NULL)
        return 0;
    stack_bounds(g->slot, &lo, &hi);
    if (ctx->sp <= (uintptr_t)lo || ctx->sp > (uintptr_t)hi)
        return 0;
    return unwind_walk(ctx, NULL, lo, hi, frames, ENTRY_FRAMES);
}

/* A stack that lies in its block: the image of its inner end, with everything that may be an address on the
 * stack moved along. That would ruin a program; a backtrace may be wrong at worst. Racy like the rest: see below. */
static uint32_t walk_block(G *g, char *sp, char *hi, uintptr_t *frames)
{
    static _Alignas(16) uintptr_t image[8192]; /* one report at a time */
    size_t n = (size_t)(hi - sp);
    uintptr_t delta = (uintptr_t)image - (uintptr_t)sp;
    ArchContext ctx;
    if (n > g->block_size)
        return 0;
    if (n > sizeof(image))
        n = sizeof(image);
    memcpy(image, g->block, n);
    for (size_t i = 0; i < n / sizeof(image[0]); i++)
        if (image[i] >= (uintptr_t)sp && image[i] < (uintptr_t)hi)
            image[i] += delta;
    arch_context(image, &ctx);
    return unwind_walk(&ctx, NULL, image, (char *)image + n, frames, ENTRY_FRAMES);
}

static void entry_backtrace(Entry *e, G *g)
{
    if (g == dump.self) {
        e->nframes = entry_walk(g, dump.here, e->frames);
        return;
    }
    void *sp = g->sp;
    if (e->state == G_RUNNING || sp == NULL || g->slot == NULL)
        return;
    void *lo, *hi;
    stack_bounds(g->slot, &lo, &hi);
    if (sp < lo || sp >= hi)
        return;
    ArchContext ctx;
    if (window_copied(g) && window_of(g)->resident != g) {
        e->nframes = walk_block(g, sp, hi, e->frames);
    } else {
        arch_context(sp, &ctx);
        e->nframes = entry_walk(g, &ctx, e->frames);
    }
    /* The fence keeps the walk's reads before these; a G that left and came back
     * to the same place in between has a true backtrace again. */
    atomic_thread_fence(memory_order_acquire);
    if (get(&g->state) != e->state || *(void *volatile *)&g->sp != sp)
        e->nframes = 0; /* it ran meanwhile */
}

void report_copy_name(char to[NAME_MAX_LEN + 1], const G *g)
{
    const char *name = name_of(g);
    size_t i = 0;
    for (; i < NAME_MAX_LEN && name[i] != '\0'; i++)
        to[i] = name[i];
    to[i] = '\0';
}

static void entry_fill(Entry *e, G *g)
{
    e->id = g->id;
    e->state = get(&g->state);
    e->reason = get(&g->reason);
    e->spawn_pc = (uintptr_t)g->spawn_pc;
    e->age = e->state == G_WAITING ? dump.now - g->since : 0;
    report_copy_name(e->name, g);
    entry_backtrace(e, g);
}

/* The thread that notes an entry, and where it goes on after a fault. Only that
 * thread writes them, and reads them in its own signal handler. */
static _Atomic int noting;
static sigjmp_buf noting_failed;

void dump_on_fault(void)
{
    int tid = get(&noting);
    if (tid != 0 && tid == sys_tid())
        siglongjmp(noting_failed, 1);
}

static void entry_note(Entry *e, G *g)
{
    *e = (Entry){.count = 1};
    if (sigsetjmp(noting_failed, 1) == 0) {
        set(&noting, sys_tid());
        atomic_signal_fence(memory_order_seq_cst);
        entry_fill(e, g);
    }
    atomic_signal_fence(memory_order_seq_cst); /* with the handler in this thread */
    set(&noting, 0);
}

void report_note(Entry *e, G *g)
{
    dump.self = NULL;
    dump.now = sys_now();
    note_racy_reads(true);
    entry_note(e, g);
    note_racy_reads(false);
}

static void visit_count(G *g, void *arg)
{
    (void)arg;
    dump.total += get(&g->state) != G_DEAD && !(g->flags & G_OWN);
}

static Entry *entry_same(const G *g)
{
    uint8_t state = get(&g->state), reason = get(&g->reason);
    for (uint32_t i = 0; i < dump.n; i++) {
        Entry *e = &dump.e[i];
        if (e->spawn_pc == (uintptr_t)g->spawn_pc && e->state == state && e->reason == reason)
            return e;
    }
    return NULL;
}

static void visit_note(G *g, void *arg)
{
    (void)arg;
    if (get(&g->state) == G_DEAD || g == dump.self || g->flags & G_OWN)
        return;
    Entry *same = dump.total > ENTRIES ? entry_same(g) : NULL;
    if (same != NULL)
        same->count++;
    else if (dump.n < ENTRIES)
        entry_note(&dump.e[dump.n++], g);
    else
        dump.left_out++;
}

/* ---- saying it --------------------------------------------------------------- */

const char *report_state(uint8_t state, uint8_t reason)
{
    switch (state) {
    case G_RUNNING:
        return reason == WHY_SYSCALL ? "syscall" : "running";
    case G_RUNNABLE:
        return reason == WHY_PREEMPTED ? "runnable, preempted" : "runnable";
    default:
        return reason < WHY_MAX && reason_name[reason] != NULL ? reason_name[reason] : "waiting";
    }
}

void report_age(Out *o, int64_t age)
{
    int64_t s = age / 1000000000;
    if (s < 1)
        return;
    out_str(o, ", ");
    out_dec(o, (uint64_t)(s < 120 ? s : s / 60));
    out_str(o, s < 120 ? " s" : " min");
}

void report_who(Out *o, uint64_t id, const char *name)
{
    out_str(o, "coroutine ");
    out_dec(o, id);
    if (name != NULL && name[0] != '\0') {
        out_str(o, " \"");
        out_strn(o, name, NAME_MAX_LEN);
        out_str(o, "\"");
    }
}

static void print_frames(Out *o, const uintptr_t *frames, uint32_t n, bool first_is_call)
{
    for (uint32_t i = 0; i < n; i++) {
        out_str(o, "  #");
        out_dec(o, i);
        out_str(o, i < 10 ? "  " : " ");
        out_hex(o, frames[i]);
        out_str(o, " ");
        unwind_print(o, frames[i], i > 0 || first_is_call);
        out_str(o, "\n");
    }
}

/* Main's site is the function given to weft_run(), anyone else's a return address in its maker. */
void report_spawn(Out *o, uint64_t id, uintptr_t pc, const char *before)
{
    if (pc == 0)
        return;
    out_str(o, before);
    out_str(o, id == 1 ? "entered at " : "created at ");
    unwind_print(o, pc, id != 1);
}

static void print_spawn(Out *o, uint64_t id, uintptr_t pc)
{
    report_spawn(o, id, pc, "  ");
    if (pc != 0)
        out_str(o, "\n");
}

void report_where(Out *o, const Entry *e)
{
    print_frames(o, e->frames, e->nframes, true);
    print_spawn(o, e->id, e->spawn_pc);
}

static void print_entry(Out *o, const Entry *e)
{
    out_str(o, "\n");
    if (e->count > 1) {
        out_dec(o, e->count);
        out_str(o, " coroutines, the first: ");
    }
    report_who(o, e->id, e->name);
    out_str(o, " [");
    out_str(o, report_state(e->state, e->reason));
    report_age(o, e->age);
    out_str(o, "]:\n");
    report_where(o, e);
}

static void dump_body(void *arg, const ArchContext *here)
{
    M *m = arch_self();
    dump.here = here;
    dump.self = m != NULL && m->g != NULL && !(m->g->flags & (G_FOREIGN | G_SYSTEM)) ? m->g : NULL;
    dump.now = sys_now();
    dump.total = dump.left_out = 0;
    dump.n = 0;
    if (dump.self != NULL)
        entry_note(&dump.e[dump.n++], dump.self);
    note_racy_reads(true);
    coro_foreach(visit_count, NULL);
    coro_foreach(visit_note, NULL);
    note_racy_reads(false);
    Out o;
    out_open(&o, *(int *)arg);
    for (uint32_t i = 0; i < dump.n; i++)
        print_entry(&o, &dump.e[i]);
    if (dump.left_out > 0) {
        out_str(&o, "\n");
        out_dec(&o, dump.left_out);
        out_str(&o, " more coroutines\n");
    }
    out_flush(&o);
}

void dump_all(int fd)
{
    if (!report_run(dump_body, &fd))
        warn("another report is being written: no dump");
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
    else
        dump_all(fd);
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

/* ---- stack overflow ------------------------------------------------------------ */

typedef struct {
    void *ucontext;
    const void *lo, *hi;
    const G *g;
} Overflow;

static void overflow_body(void *arg, const ArchContext *here)
{
    const Overflow *v = arg;
    uintptr_t frames[32];
    ArchContext ctx = *here;
    if (v->ucontext != NULL)
        arch_ucontext(v->ucontext, &ctx);
    uint32_t n = unwind_walk(&ctx, v->ucontext, v->lo, v->hi, frames, 32);
    Out o;
    out_open(&o, STDERR_FILENO);
    print_frames(&o, frames, n, v->ucontext == NULL);
    print_spawn(&o, v->g->id, (uintptr_t)v->g->spawn_pc);
    out_flush(&o);
}

/* On the alternate signal stack, save for stack_check(). The line itself needs nothing but write(2); the
 * backtrace may, so it comes second and under guard. */
void dump_overflow(G *g, void *addr, void *ucontext)
{
    void *lo, *hi;
    stack_bounds(g->slot, &lo, &hi);
    Out o;
    out_open(&o, STDERR_FILENO);
    out_str(&o, "weft: stack overflow in ");
    report_who(&o, g->id, name_of(g));
    if (g->spawn_pc != NULL) {
        out_str(&o, ", spawned at ");
        out_hex(&o, (uintptr_t)g->spawn_pc);
    }
    out_str(&o, ", limit ");
    out_dec(&o, (uint64_t)((char *)hi - (char *)lo));
    out_str(&o, " bytes (stack_max in weft_attr_t or weft_config_t raises it), address ");
    out_hex(&o, (uintptr_t)addr);
    if (g->flags & G_UNGUARDED) {
        out_str(&o, ", no guard: a quarter is kept free (the sysctl vm.max_map_count)");
        if (addr < lo) /* it was noticed late: show all of it */
            lo = addr;
    }
    out_str(&o, "\n");
    out_flush(&o);
    fatal_guard(true);
    Overflow v = {.ucontext = ucontext, .lo = lo, .hi = hi, .g = g};
    (void)report_run(overflow_body, &v);
    fatal_unguard();
}

/* ---- somebody else's stack: WEFT_DEBUG=stackshare ------------------------------------------------- */

/* On the alternate signal stack, like the above. */
void dump_trespass(const G *g, const G *owner, const void *addr, void *ucontext)
{
    void *lo, *hi;
    Out o;
    out_open(&o, STDERR_FILENO);
    out_str(&o, "weft: ");
    report_who(&o, g->id, name_of(g));
    out_str(&o, " touches ");
    out_hex(&o, (uintptr_t)addr);
    out_str(&o, " on the copied stack of parked ");
    report_who(&o, owner->id, name_of(owner));
    out_str(&o, ", spawned at ");
    out_hex(&o, (uintptr_t)owner->spawn_pc);
    out_str(&o, "\n");
    out_flush(&o);
    if (g->slot == NULL)
        return;
    stack_bounds(g->slot, &lo, &hi);
    fatal_guard(true);
    Overflow v = {.ucontext = ucontext, .lo = lo, .hi = hi, .g = (G *)(uintptr_t)g};
    (void)report_run(overflow_body, &v);
    fatal_unguard();
}

/* ---- undeclared blocking calls: WEFT_DEBUG=blockwarn -------------------------------------- */

typedef struct {
    const G *g;
    int64_t ns;
    uintptr_t pc;
} Blocked;

static void blocked_body(void *arg, const ArchContext *here)
{
    const Blocked *b = arg;
    uintptr_t frames[16];
    void *lo, *hi;
    stack_bounds(b->g->slot, &lo, &hi);
    uint32_t n = unwind_walk(here, NULL, lo, hi, frames, 16);
    Out o;
    out_open(&o, STDERR_FILENO);
    out_str(&o, "weft: ");
    report_who(&o, b->g->id, name_of(b->g));
    out_str(&o, " blocked its thread for ");
    out_dec(&o, (uint64_t)b->ns / 1000000);
    out_str(&o, " ms");
    if (b->pc != 0) {
        out_str(&o, " in ");
        unwind_print(&o, b->pc, true);
    }
    out_str(&o, ", undeclared (weft_blocking); its next weft call:\n");
    print_frames(&o, frames, n, true);
    out_flush(&o);
}

void dump_blocked(const G *g, int64_t ns, uintptr_t pc)
{
    Blocked b = {g, ns, pc};
    (void)report_run(blocked_body, &b);
}
