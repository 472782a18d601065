/* SPDX-License-Identifier: MIT
 *
 * trouble.c: what one coroutine has done, in some lines with its backtrace: a stack overflow, another's
 * copied stack touched (WEFT_DEBUG=stackshare), a call that blocked its thread (WEFT_DEBUG=blockwarn).
 *
 * The first two are written on the alternate signal stack. The line itself needs nothing but write(2); the
 * backtrace may, so it comes second and under guard (fatal.c). */
#include "report.h"

#include <unistd.h>

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
    uint32_t n = unwind_walk(&ctx, v->ucontext, true, v->lo, v->hi, frames, NULL, 32);
    Out o;
    out_open(&o, STDERR_FILENO);
    report_frames(&o, frames, n, v->ucontext == NULL);
    report_created(&o, v->g->id, (uintptr_t)v->g->spawn_pc);
    out_flush(&o);
}

/* On the alternate signal stack, save for stack_check(). */
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
    uint32_t n = unwind_walk(here, NULL, true, lo, hi, frames, NULL, 16);
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
    report_frames(&o, frames, n, true);
    out_flush(&o);
}

void dump_blocked(const G *g, int64_t ns, uintptr_t pc)
{
    Blocked b = {g, ns, pc};
    (void)report_run(blocked_body, &b);
}
