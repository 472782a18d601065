/* SPDX-License-Identifier: MIT
 *
 * entry.c: one coroutine, in words.
 *
 *   coroutine 12 "conn" [chan receive, 3 min]:
 *     #0  0x7f... recv_line+0x4f (server)
 *     ...
 *     created at serve+0x1f (server)
 *
 * First what is to be said is noted in an Entry, then it is written: the descriptor may be a pipe whose reader
 * is a coroutine that wants a lock of the visit's. Coroutines run on meanwhile. What is noted is true of some
 * moment; a backtrace is kept only if its G was seen parked, on the same stack pointer, before and after. What is
 * read of a G that has started to run meanwhile may be nonsense, and its old stack may be a guard by now: a
 * fault while an entry is noted leaves that entry as far as it got (dump_on_fault).
 *
 * Where the backtrace comes from:
 *   the caller's own                  where the report began (report_run)
 *   parked, its stack in its place    the context that the switch has saved
 *   parked, its stack in a block      an image of that, with addresses on the stack moved along (walk_block)
 *   standing still with its thread    M.at: hold.c
 *   running, blocked in the kernel    where.c
 *
 * Everything here is for who has the report stack: one at a time. */
#include "annotate.h"
#include "copystack.h"
#include "where.h"

#include <setjmp.h>

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

/* Where the reporting thread stands, and the coroutine it runs, or NULL. */
static const ArchContext *here;
static const G *self;
static int64_t now;

/* ---- backtraces ------------------------------------------------------------------- */

/* A word of a stack or a block that may not be that any more, nor what a sanitizer takes it for. */
static __attribute__((noinline, no_sanitize("address"))) uintptr_t peek(const void *at)
{
    typedef uintptr_t __attribute__((may_alias)) Word;
    return *(const volatile Word *)at;
}

/* Where on the stack each of the addresses lies, from base on: in the frame further in, at its outer end as a
 * rule. */
static void find_addresses(Entry *e, uintptr_t base, const uintptr_t *sps)
{
    uintptr_t low = base;
    for (uint32_t i = 0; i < e->nframes; low = sps[i++]) {
        uintptr_t at = sps[i];
        e->at[i] = 0;
        while (e->at[i] == 0 && at - low >= sizeof(uintptr_t) && at > low) {
            at -= sizeof(uintptr_t);
            if (arch_strip(peek((const void *)at)) == e->frames[i])
                e->at[i] = (uint32_t)(at - base + 1);
        }
    }
}

/* From a context that lies at base or above it. */
static void walk_saved(Entry *e, const void *base, const ArchContext *ctx, const void *lo,
                       const void *hi)
{
    uintptr_t sps[ENTRY_FRAMES];
    if (ctx->sp <= (uintptr_t)lo || ctx->sp > (uintptr_t)hi)
        return;
    e->nframes = unwind_walk(ctx, NULL, true, lo, hi, e->frames, sps, ENTRY_FRAMES);
    find_addresses(e, (uintptr_t)base, sps);
}

/* A stack that lies in its block: the image of its inner end, with everything that may be an address on the
 * stack moved along. That would ruin a program; a backtrace may be wrong at worst. */
static void walk_block(Entry *e, G *g, char *sp, char *hi)
{
    static _Alignas(16) uintptr_t image[8192]; /* one report at a time */
    size_t n = (size_t)(hi - sp);
    uintptr_t delta = (uintptr_t)image - (uintptr_t)sp;
    ArchContext ctx;
    if (n > g->block_size)
        return;
    if (n > sizeof(image))
        n = sizeof(image);
    memcpy(image, g->block, n);
    for (size_t i = 0; i < n / sizeof(image[0]); i++)
        if (image[i] >= (uintptr_t)sp && image[i] < (uintptr_t)hi)
            image[i] += delta;
    arch_context(image, &ctx);
    walk_saved(e, image, &ctx, image, (char *)image + n);
}

static bool in_block(const G *g)
{
    return window_copied(g) && window_of(g)->resident != g;
}

/* As arch_context(), of a stack that may run meanwhile. */
static void peek_context(char *sp, ArchContext *ctx)
{
    uintptr_t frame[sizeof(ArchFrame) / sizeof(uintptr_t)];
    for (size_t i = 0; i < sizeof frame / sizeof frame[0]; i++)
        frame[i] = peek(sp + i * sizeof frame[0]);
    arch_context(frame, ctx);
    ctx->sp += (uintptr_t)sp - (uintptr_t)frame;
}

static void walk_parked(Entry *e, G *g)
{
    char *sp = g->sp;
    void *lo, *hi;
    ArchContext ctx;
    stack_bounds(g->slot, &lo, &hi);
    if (sp < (char *)lo || sp >= (char *)hi)
        return;
    if (in_block(g)) {
        walk_block(e, g, sp, hi);
    } else {
        peek_context(sp, &ctx);
        walk_saved(e, sp, &ctx, lo, hi);
    }
    /* The fence keeps the walk's reads before these; a G that left and came back
     * to the same place in between has a true backtrace again. */
    atomic_thread_fence(memory_order_acquire);
    if (get(&g->state) != e->state || *(void *volatile *)&g->sp != sp)
        e->nframes = 0; /* it ran meanwhile */
}

/* It stands still: its thread does nothing else, and cannot end, as long as it is held. */
static void walk_held(Entry *e, G *g)
{
    const M *m = g->m;
    void *lo, *hi;
    int64_t since = m->held_since;
    ArchContext at = m->at;
    e->m = (int)m->id;
    e->call = m->at_call;
    stack_bounds(g->slot, &lo, &hi);
    if (at.sp <= (uintptr_t)lo || at.sp > (uintptr_t)hi)
        return;
    e->nframes = unwind_walk(&at, NULL, e->call, lo, hi, e->frames, NULL, ENTRY_FRAMES);
    atomic_thread_fence(memory_order_acquire); /* as above */
    if (!*(volatile bool *)&g->held || *(const volatile int64_t *)&m->held_since != since)
        e->nframes = 0;
}

static void walk_running(Entry *e, const G *g)
{
    const Place *at = where_of(g);
    if (at == NULL)
        return;
    e->m = (int)at->m;
    e->p = at->p;
    e->kernel = at->kernel;
    e->age = at->out_since != 0 ? now - at->out_since : 0;
    e->call = false;
    e->nframes = at->n;
    memcpy(e->frames, at->frames, at->n * sizeof(at->frames[0]));
}

static void walk_self(Entry *e, const G *g)
{
    const M *m = g->m;
    void *lo, *hi;
    e->m = (int)m->id;
    e->p = m->p != NULL ? (int)m->p->id : -1;
    if (g->slot == NULL)
        return;
    stack_bounds(g->slot, &lo, &hi);
    if (here->sp > (uintptr_t)lo && here->sp <= (uintptr_t)hi)
        e->nframes = unwind_walk(here, NULL, true, lo, hi, e->frames, NULL, ENTRY_FRAMES);
}

static void entry_fill(Entry *e, G *g)
{
    e->id = g->id;
    e->state = get(&g->state);
    e->reason = get(&g->reason);
    e->spawn_pc = (uintptr_t)g->spawn_pc;
    e->age = e->state == G_WAITING && e->reason != WHY_START ? now - g->since : 0;
    e->pinned = (g->flags & G_PINNED) != 0;
    report_copy_name(e->name, g);
    if (g == self)
        walk_self(e, g);
    else if (e->state == G_RUNNING)
        walk_running(e, g);
    else if (g->slot != NULL && g->held)
        walk_held(e, g);
    else if (g->slot != NULL && g->sp != NULL)
        walk_parked(e, g);
    e->oldest = e->age;
}

/* ---- under guard ---------------------------------------------------------------------- */

/* The thread that looks at a G, and where it goes on after a fault. Only that
 * thread writes them, and reads them in its own signal handler. */
static _Atomic int looking;
static sigjmp_buf looking_failed;

void dump_on_fault(void)
{
    int tid = get(&looking);
    if (tid != 0 && tid == sys_tid())
        siglongjmp(looking_failed, 1);
}

bool report_guarded(bool (*fn)(void *arg, G *g), void *arg, G *g)
{
    bool rc = false;
    if (sigsetjmp(looking_failed, 1) == 0) {
        set(&looking, sys_tid());
        atomic_signal_fence(memory_order_seq_cst);
        bool result = fn(arg, g);
        atomic_signal_fence(memory_order_seq_cst); /* with the handler in this thread */
        set(&looking, 0);
        return result;
    }
    set(&looking, 0);
    return rc;
}

static bool fill(void *arg, G *g)
{
    entry_fill(arg, g);
    return true;
}

void report_begin(const G *caller, const ArchContext *at)
{
    self = caller;
    here = at;
    now = sys_now();
}

void report_entry(Entry *e, G *g)
{
    *e = (Entry){.count = 1, .m = -1, .p = -1, .call = true};
    report_guarded(fill, e, g);
}

void report_note(Entry *e, G *g)
{
    report_begin(NULL, NULL);
    note_racy_reads(true);
    report_entry(e, g);
    note_racy_reads(false);
}

void report_copy_name(char to[NAME_MAX_LEN + 1], const G *g)
{
    const char *name = name_of(g);
    size_t i = 0;
    for (; i < NAME_MAX_LEN && name[i] != '\0'; i++)
        to[i] = name[i];
    to[i] = '\0';
}

/* ---- the same as another ------------------------------------------------------------------- */

int64_t report_age_of(const G *g)
{
    return get(&g->state) == G_WAITING && get(&g->reason) != WHY_START ? now - g->since : 0;
}

/* The word at offset from its stack pointer; 0: there is none. */
static uintptr_t saved_word(const G *g, const char *sp, const char *hi, uint32_t offset)
{
    if (hi < sp || (size_t)(hi - sp) < offset + sizeof(uintptr_t))
        return 0;
    if (!in_block(g))
        return peek(sp + offset);
    if (g->block_size < offset + sizeof(uintptr_t))
        return 0;
    return peek((const char *)g->block + offset);
}

uintptr_t report_inmost(const G *g)
{
    ArchContext ctx;
    void *lo, *hi;
    char *sp = g->sp;
    if (g->slot == NULL || g->held || sp == NULL || get(&g->state) == G_RUNNING)
        return 0;
    stack_bounds(g->slot, &lo, &hi);
    if (sp < (char *)lo || (size_t)((char *)hi - sp) < sizeof(ArchFrame) || sp >= (char *)hi)
        return 0;
    if (in_block(g) && g->block_size < sizeof(ArchFrame))
        return 0;
    const char *from = in_block(g) ? g->block : sp;
    union {
        ArchFrame frame;
        uintptr_t word[sizeof(ArchFrame) / sizeof(uintptr_t)];
    } copy;
    for (size_t i = 0; i < sizeof(copy.word) / sizeof(copy.word[0]); i++)
        copy.word[i] = peek(from + i * sizeof(copy.word[0]));
    arch_context(&copy, &ctx);
    return ctx.pc;
}

/* Frames are equal if their return addresses are, at the same distances from the stack pointer: the walk
 * depends on nothing else. (A function whose frame has no fixed size may make two entries of one.) */
bool report_equals(const Entry *e, const G *g)
{
    void *lo, *hi;
    const char *sp = g->sp;
    if (g->slot == NULL || g->held || sp == NULL || get(&g->state) == G_RUNNING)
        return e->nframes == 0 || e->at[0] == 0;
    if (e->nframes != 0 && e->at[0] == 0)
        return false;
    stack_bounds(g->slot, &lo, &hi);
    if (sp < (char *)lo || sp >= (char *)hi)
        return e->nframes == 0;
    for (uint32_t i = 0; i < e->nframes; i++)
        if (e->at[i] != 0 && arch_strip(saved_word(g, sp, hi, e->at[i] - 1)) != e->frames[i])
            return false;
    return true;
}

/* ---- saying it --------------------------------------------------------------------------- */

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

static void print_age(Out *o, int64_t age)
{
    int64_t s = age / 1000000000;
    out_dec(o, (uint64_t)(s < 120 ? s : s / 60));
    out_str(o, s < 120 ? " s" : " min");
}

void report_age(Out *o, int64_t age)
{
    if (age < 1000000000)
        return;
    out_str(o, ", ");
    print_age(o, age);
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

void report_frames(Out *o, const uintptr_t *frames, uint32_t n, bool first_is_call)
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

void report_created(Out *o, uint64_t id, uintptr_t pc)
{
    report_spawn(o, id, pc, "  ");
    if (pc != 0)
        out_str(o, "\n");
}

void report_where(Out *o, const Entry *e)
{
    report_frames(o, e->frames, e->nframes, e->call);
    report_created(o, e->id, e->spawn_pc);
}

static void print_number(Out *o, const char *before, int n)
{
    if (n < 0)
        return;
    out_str(o, before);
    out_dec(o, (uint64_t)n);
}

void report_print(Out *o, const Entry *e)
{
    report_who(o, e->id, e->name);
    out_str(o, " [");
    out_str(o, e->kernel ? "syscall" : report_state(e->state, e->reason));
    report_age(o, e->age);
    if (e->oldest / 1000000000 > e->age / 1000000000) {
        out_str(o, e->age < 1000000000 ? ", up to " : " to ");
        print_age(o, e->oldest);
    }
    print_number(o, ", P ", e->p);
    print_number(o, ", M ", e->m);
    out_str(o, e->pinned ? ", locked to thread]:\n" : "]:\n");
    report_where(o, e);
}
