/* SPDX-License-Identifier: MIT
 *
 * layout.c: where a debugger finds what of the runtime's data.
 *
 * tools/gdb/weft.py reads the structures of a program that has stopped, or of a core file, and the
 * library that a distribution ships has no debug information. So the offsets that the script
 * needs are part of the library: some 4 KB that nobody reads while the program runs. The symbol is
 * exported, as a stripped library has no other symbols, under the version WEFT_PRIVATE: it is no
 * interface, it changes with the runtime, and script and library belong to each other. A
 * field that the script reads by another name than it has here is an error there, not a guess.
 */
#include "layout.h"

#include "chan.h"
#include "copystack.h"
#include "report.h"

/* LAYOUT_VERSION: raise it when what fields mean changes, here or in objects of the public header that
 * the script knows (mutex.c, rwmutex.c, cond.c, weighted.c, wg.c); weft.py has the same number. */
enum { LAYOUT_VERSION = 1 };

extern const char arch_parked[], arch_inject_entry[]; /* switch.S, preempt.S */

static const Layout layout_coroutines[] = {
    LAYOUT_CONST(LAYOUT_VERSION),
    LAYOUT_CONST(G_FOREIGN),
    LAYOUT_CONST(G_MAIN),
    LAYOUT_CONST(G_SYSTEM),
    LAYOUT_CONST(G_MOVABLE),
    LAYOUT_CONST(G_PINNED),
    LAYOUT_CONST(G_OWN),
    LAYOUT_CONST(G_COPIED),
    LAYOUT_CONST(G_DEAD),
    LAYOUT_CONST(G_RUNNABLE),
    LAYOUT_CONST(G_RUNNING),
    LAYOUT_CONST(G_WAITING),
    LAYOUT_CONST(WHY_PREEMPTED),
    LAYOUT_CONST(WHY_SYSCALL),
    LAYOUT_CONST(WHY_START),
    LAYOUT_CONST(WHY_MAX),
    LAYOUT_ADDRESS("reason_name", reason_name),
    LAYOUT_ADDRESS("arch_parked", arch_parked),
    LAYOUT_ADDRESS("arch_inject_entry", arch_inject_entry),
    LAYOUT_SIZE(G),
    LAYOUT_FIELD(G, sp),
    LAYOUT_FIELD(G, slot),
    LAYOUT_FIELD(G, m),
    LAYOUT_FIELD(G, fn),
    LAYOUT_FIELD(G, block),
    LAYOUT_FIELD(G, block_size),
    LAYOUT_FIELD(G, state),
    LAYOUT_FIELD(G, reason),
    LAYOUT_FIELD(G, flags),
    LAYOUT_FIELD(G, held),
    LAYOUT_FIELD(G, id),
    LAYOUT_FIELD(G, spawn_pc),
    LAYOUT_FIELD(G, x),
    LAYOUT_FIELD(G, since),
    LAYOUT_FIELD(Extra, name),
    LAYOUT_SIZE(Slot),
    LAYOUT_FIELD(Slot, chunk),
    LAYOUT_FIELD(Slot, hi),
    LAYOUT_FIELD(Window, resident),
    LAYOUT_FIELD(Window, chunk),
    LAYOUT_SIZE(Wait),
    LAYOUT_FIELD(Wait, next),
    LAYOUT_FIELD(Wait, g),
    LAYOUT_SIZE(weft_chan_t),
    LAYOUT_FIELD(weft_chan_t, elem_size),
    LAYOUT_FIELD(weft_chan_t, closed),
    LAYOUT_FIELD(weft_chan_t, count),
    LAYOUT_FIELD(weft_chan_t, cap),
    LAYOUT_FIELD(weft_chan_t, recvq.head),
    LAYOUT_FIELD(weft_chan_t, sendq.head),
    {0, 0, ""},
};

static const Layout layout_sched[] = {
    LAYOUT_ADDRESS("sched", &sched),
    LAYOUT_SIZE(M),
    LAYOUT_FIELD(M, g),
    LAYOUT_FIELD(M, p),
    LAYOUT_FIELD(M, spinning),
    LAYOUT_FIELD(M, in_bed),
    LAYOUT_FIELD(M, foreign),
    LAYOUT_FIELD(M, declared),
    LAYOUT_FIELD(M, holds),
    LAYOUT_FIELD(M, lease),
    LAYOUT_CONST(LEASE_TAKEN),
    LAYOUT_FIELD(M, all),
    LAYOUT_FIELD(M, id),
    LAYOUT_FIELD(M, tid),
    LAYOUT_SIZE(P),
    LAYOUT_FIELD(P, head),
    LAYOUT_FIELD(P, tail),
    LAYOUT_FIELD(P, runnext),
    LAYOUT_FIELD(P, tick),
    LAYOUT_FIELD(P, now),
    LAYOUT_FIELD(P, m),
    LAYOUT_FIELD(P, switches),
    LAYOUT_FIELD(P, timers.count),
    LAYOUT_FIELD(P, state),
    LAYOUT_FIELD(P, id),
    LAYOUT_CONST(P_IDLE),
    LAYOUT_CONST(P_RUNNING),
    LAYOUT_CONST(P_DEAD),
    LAYOUT_SIZE(struct Sched),
    LAYOUT_FIELD(struct Sched, procs),
    LAYOUT_FIELD(struct Sched, hogs_n),
    LAYOUT_FIELD(struct Sched, active),
    LAYOUT_FIELD(struct Sched, p),
    LAYOUT_FIELD(struct Sched, np),
    LAYOUT_FIELD(struct Sched, runq_n),
    LAYOUT_FIELD(struct Sched, polled),
    LAYOUT_FIELD(struct Sched, idle_p),
    LAYOUT_FIELD(struct Sched, waiters),
    LAYOUT_FIELD(struct Sched, nm),
    LAYOUT_FIELD(struct Sched, all_ms),
    {0, 0, ""},
};

const Layout *const weft_private_layout[] __attribute__((used)) = {
    layout_coroutines,
    layout_sched,
    coro_layout,
    NULL,
};
