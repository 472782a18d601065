/* SPDX-License-Identifier: MIT
 *
 * stack.c: private stacks.
 *
 * Each coroutine runs in a slot: a range of addresses of its own, reserved at
 * full length and given memory by the kernel as it is touched. A stack thus
 * grows in place, no local variable ever moves, and it costs one page and,
 * for big slots, the page table page above it.
 *
 *      base                                                        end
 *      | (colour) | guard |  never touched   | guard | stack        | colour |
 *                 ^ last                     ^ first          hi ---^
 *                         lo, hi - lo >= limit
 *
 * The guard moves. At first it lies 2 MiB below the end: there it shares the
 * page table page of the stack, and a runaway recursion is stopped before it has
 * eaten 64 MiB. When a stack runs into it, the fault handler puts it four times
 * as deep, the last time right below lo; a hit there is an overflow. The lower
 * guard is in place before the upper one goes. Slots of less than 2 MiB have the
 * last guard only. A frame larger than the guard (64 KiB; a page for small
 * slots) can step over it unless the code was compiled with
 * -fstack-clash-protection.
 *
 * When a coroutine ends that went past the first guard, its slot gives the deep
 * pages back at once and the guard goes to its first place.
 *
 * No guard. Before Linux 6.13 a guard takes two of the mappings that a process may
 * have, so beyond some 29,000 stacks there is none. The coroutine then has
 * G_UNGUARDED, and the depth is looked at when it parks or yields (sched.c; a flag
 * beside those looked at anyway, so the others pay nothing), and at every tick
 * (preempt.c). A runaway recursion touches some gigabytes a second and a tick comes
 * every 10 ms: for that to be noticed inside the slot, the margin is wide, a
 * quarter of the limit (of 64 MiB, recursions that do nothing else were seen at 50 to
 * 72). It is no promise: one that is faster, or on a smaller stack, damages the
 * stacks of others before it is reported, by the tick or at the next guard.
 *
 * Colour: see slots.c. Limits: a stack may grow to at least stack_max; guard and
 * colour come on top.
 *
 * Warm slots. Each P keeps up to 16 of the default class, last in, first out;
 * the stack a coroutine has just left is the next one's. A slot is put
 * there right after the switch away from it. Credits (slots.c) are kept per P as
 * well; a slot is in the cache only against a credit in hand
 * (nslots <= credits), and stack_put() counts on the stack_unreserve() of the same
 * coroutine on the same P right after it, before any stack_reserve(). Spawn and
 * exit in the common case: no atomic operation, no system call.
 *
 * Signals: stack_fault() runs in the SIGSEGV handler of the thread whose G
 * faulted, on its alternate stack. It writes the Slot of that G only, which nobody
 * else writes while the G runs, and makes system calls only.
 */
#include "annotate.h"
#include "copystack.h"

enum {
    CREDIT_BATCH = 64, /* from the arena */
    SLOT_BATCH = 8,    /* taken at a time by a P whose cache is empty */
    MARGIN = 4,        /* one part in so many of a stack without a guard is not to be used */
    KEEP = 16 * 1024,  /* bytes of the top that a slot keeps when it gives deep pages back */
};
static const size_t FIRST_DEPTH = 2 * 1024 * 1024;
static const uintptr_t PROBE = 4096; /* how far below the stack pointer code may touch first */

int stack_init(size_t stack_max)
{
    return slots_init(stack_max);
}

void stack_fini(void)
{
    slots_fini();
}

int stack_class(size_t stack_max)
{
    return slots_class(stack_max);
}

/* ---- credits ---------------------------------------------------------------- */

static int stack_reserve_slow(P *p, int cls)
{
    if (p == NULL || cls != 0)
        return slots_credit(cls, 1) != 0 ? 0 : -ENOMEM;
    uint32_t n = slots_credit(0, CREDIT_BATCH);
    if (n == 0 && p->nslots == 0)
        return -ENOMEM;
    p->credits += n;
    if (p->credits <= p->nslots) { /* all that is left stands for warm slots: let one go */
        Slot *s = p->slots[--p->nslots];
        s->link = NULL;
        slots_give(s, p->now);
    }
    p->credits--;
    return 0;
}

int stack_reserve(P *p, int cls)
{
    if (unlikely(p == NULL || cls != 0 || p->credits <= p->nslots))
        return stack_reserve_slow(p, cls);
    p->credits--;
    return 0;
}

void stack_unreserve(P *p, int cls)
{
    if (unlikely(p == NULL || cls != 0)) {
        slots_uncredit(cls, 1);
    } else if (unlikely(++p->credits > get(&slot_arena.credit_max))) {
        uint32_t half = p->credits / 2; /* the other half is no less than what the cache may hold */
        p->credits -= half;
        slots_uncredit(0, half);
    }
}

/* ---- guards ------------------------------------------------------------------- */

static char *guard_lo(const Slot *s)
{
    return slot_end(s) - (size_t)s->guard * sys_page();
}

static char *slot_lo(const Slot *s)
{
    return (char *)((uintptr_t)(s->hi - s->chunk->limit) & ~((uintptr_t)sys_page() - 1));
}

/* The guard's low edge at the given depth below the end, in pages; at the most
 * that of the last guard. */
static uint32_t guard_at(const Slot *s, size_t depth)
{
    size_t last = (size_t)(slot_end(s) - slot_lo(s)) + s->chunk->guard_size;

    return (uint32_t)((depth < last ? depth : last) / sys_page());
}

void stack_ready(Slot *s)
{
    bool counted = sys_guard_kind() == SYS_GUARD_VMA;

    if (!counted || slots_guard_quota(1)) {
        s->guard = guard_at(s, FIRST_DEPTH);
        if (sys_guard_set(guard_lo(s), s->chunk->guard_size) == 0)
            return;
        s->guard = 0; /* the program has many mappings, or there is no memory for page tables */
        if (counted)
            slots_guard_quota(-1);
    }
    if (counted)
        slots_say_unguarded();
}

static bool guard_is_deep(const Slot *s)
{
    return (size_t)s->guard * sys_page() > FIRST_DEPTH && s->guard != guard_at(s, FIRST_DEPTH);
}

void stack_give_back(Slot *s, char *sp)
{
    char *old = guard_lo(s);
    uint32_t first = guard_at(s, FIRST_DEPTH), deep = s->guard;
    char *keep = (char *)((uintptr_t)(sp - KEEP) & ~((uintptr_t)sys_page() - 1));

    if (guard_is_deep(s) && keep > slot_end(s) - FIRST_DEPTH + s->chunk->guard_size) {
        s->guard = first;
        if (sys_guard_set(guard_lo(s), s->chunk->guard_size) != 0) {
            s->guard = deep;
            return;
        }
        sys_guard_clear(old, s->chunk->guard_size);
        sys_decommit(old, (size_t)(guard_lo(s) - old));
    }
    char *above = guard_lo(s) + s->chunk->guard_size;
    if (s->guard == 0)
        above = slot_lo(s);
    if (keep > above)
        sys_decommit(above, (size_t)(keep - above));
}

/* How deep it went nobody knows. One system call for each end of such a coroutine. */
static void slot_shrink_unguarded(Slot *s)
{
    char *base = slot_end(s) - s->chunk->stride;

    if (s->chunk->stride > FIRST_DEPTH)
        sys_decommit(base, s->chunk->stride - FIRST_DEPTH);
}

/* ---- slots ---------------------------------------------------------------------- */

static Slot *stack_get_slow(P *p, int cls)
{
    uint32_t n = 1;

    if (p != NULL && cls == 0) /* each one beyond the first against a credit in hand */
        n += p->credits < SLOT_BATCH - 1 ? p->credits : SLOT_BATCH - 1;
    Slot *s = slots_take(cls, n);
    if (unlikely(s == NULL))
        fatal("no stack left for a coroutine that has one reserved");
    for (Slot *rest = s->link, *next; rest != NULL; rest = next) {
        next = rest->link;
        p->slots[p->nslots++] = rest;
    }
    return s;
}

Slot *stack_get(P *p, int cls)
{
    Slot *s;

    if (likely(p != NULL && cls == 0 && p->nslots > 0))
        s = p->slots[--p->nslots];
    else
        s = stack_get_slow(p, cls);
    if (unlikely(s->guard == 0))
        stack_ready(s);
#ifdef WEFT_ASAN
    /* What the last coroutine's frames have poisoned and it never returned from. */
    __asan_unpoison_memory_region(slot_lo(s), (size_t)(s->hi - slot_lo(s)));
#endif
    note_write(s->hi - NOTE_FIRST, s->hi);
    return s;
}

/* The cache is full: the half that was used longest ago to the arena. */
static void stack_spill(P *p)
{
    uint32_t half = p->nslots / 2;

    for (uint32_t i = 0; i + 1 < half; i++)
        p->slots[i]->link = p->slots[i + 1];
    p->slots[half - 1]->link = NULL;
    slots_give(p->slots[0], p->now != 0 ? p->now : sys_now());
    p->nslots -= half;
    memmove(p->slots, p->slots + half, p->nslots * sizeof(p->slots[0]));
}

void stack_put(P *p, Slot *s)
{
    if (unlikely(guard_is_deep(s)))
        stack_give_back(s, s->hi); /* the top pages stay warm for the next one */
    if (unlikely(s->guard == 0))
        slot_shrink_unguarded(s);
    if (unlikely(p == NULL || s->chunk->cls != 0 || p->nslots > p->credits)) {
        s->link = NULL;
        slots_give(s, p != NULL && p->now != 0 ? p->now : sys_now());
        return;
    }
    if (unlikely(p->nslots == sizeof(p->slots) / sizeof(p->slots[0])))
        stack_spill(p);
    p->slots[p->nslots++] = s;
}

void *stack_top(const Slot *s)
{
    return s->hi;
}

void stack_bounds(const Slot *s, void **lo, void **hi)
{
    *lo = slot_lo(s);
    *hi = s->hi;
}

void *stack_floor(const Slot *s)
{
    return s->guard == 0 ? slot_lo(s) + s->chunk->limit / MARGIN
                         : guard_lo(s) + s->chunk->guard_size;
}

void stack_flush(P *p)
{
    Slot *list = NULL;

    while (p->nslots > 0) {
        Slot *s = p->slots[--p->nslots];
        s->link = list;
        list = s;
    }
    if (list != NULL)
        slots_give(list, sys_now());
    if (p->credits > 0)
        slots_uncredit(0, p->credits);
    p->credits = 0;
}

/* ---- without a guard ------------------------------------------------------------- */

bool stack_unguarded(const Slot *s)
{
    return s->guard == 0;
}

/* Not only within the slot: it may have run through those below since the last
 * look. What lies elsewhere is another stack, of the user's making. */
static bool stack_is_over(const Slot *s, uintptr_t sp)
{
    return sp < (uintptr_t)stack_floor(s) && sp >= (uintptr_t)s->chunk->base;
}

void stack_check(G *g)
{
    char *sp = __builtin_frame_address(0);

    if (likely(!stack_is_over(g->slot, (uintptr_t)sp)))
        return;
    dump_overflow(g, sp, NULL);
    fatal_segv();
}

void stack_check_at(G *g, void *ucontext)
{
    ArchContext at;

    arch_ucontext(ucontext, &at);
    if (likely(!stack_is_over(g->slot, at.sp)))
        return;
    dump_overflow(g, (void *)at.sp, ucontext);
    fatal_segv();
}

/* ---- faults --------------------------------------------------------------------- */

/* Did the coroutine's own stack reach its guard? An access far above or below
 * the stack pointer is a stray pointer, whatever it hits. */
static bool guard_hit(const Slot *s, const char *addr, uintptr_t sp)
{
    const char *lo = guard_lo(s);

    if (s->guard == 0 || addr < lo || addr >= lo + s->chunk->guard_size)
        return false;
    return sp == 0 || (uintptr_t)addr >= sp - PROBE;
}

/* The guard four times as deep. false: it is at its last place, or no memory. */
static bool guard_lower(Slot *s)
{
    char *old = guard_lo(s);
    uint32_t was = s->guard, next = guard_at(s, (size_t)was * sys_page() * 4);
    if (next == was)
        return false;
    s->guard = next;
    if (sys_guard_set(guard_lo(s), s->chunk->guard_size) != 0 ||
        sys_guard_clear(old, s->chunk->guard_size) != 0) {
        s->guard = was;
        return false;
    }
    return true;
}

bool stack_fault(G *g, void *addr, uintptr_t sp)
{
    Slot *s = g->slot;

    if (s == NULL || !guard_hit(s, addr, sp) || !guard_lower(s))
        return false;
    event_stack_grow(g, (size_t)(slot_end(s) - guard_lo(s)) - s->chunk->guard_size);
    if (s->chunk->cls == STACK_WINDOW) {
        set(&container_of(s->chunk, Window, chunk)->age, 0);
        window_used();
    }
    return true;
}

bool stack_deepen(Slot *s, size_t n)
{
    while ((char *)stack_floor(s) > s->hi - n - KEEP && s->guard != 0)
        if (!guard_lower(s))
            return n <= (size_t)(s->hi - (char *)stack_floor(s));
    return true;
}

bool stack_on_fault(void *addr, void *ucontext)
{
    M *m = arch_self();
    G *g = m != NULL ? m->g : NULL;
    ArchContext at;

    dump_on_fault();
    if (g == NULL || g->slot == NULL)
        return false;
    arch_ucontext(ucontext, &at);
    if (stack_fault(g, addr, at.sp))
        return true;
    if (guard_hit(g->slot, addr, at.sp) || /* or, without one, a neighbour's: */
        (g->flags & G_UNGUARDED && stack_is_over(g->slot, at.sp)))
        dump_overflow(g, addr, ucontext);
    else
        window_trespass(m, addr, ucontext);
    return false;
}
