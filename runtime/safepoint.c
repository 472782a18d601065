/* SPDX-License-Identifier: MIT
 *
 * safepoint.c: may the code that is being interrupted resume on another thread? Is it
 * inside a library whose locks everybody needs?
 *
 * safepoint_movable() is the second key of stop-and-move. The first is its author's
 * word (WEFT_MOVABLE). What is proved, and what must be promised:
 *
 *   Proved, of every frame from the interrupted instruction up to the coroutine's
 *   entry: its function, all of its machine code, touches nothing of its thread's: no
 *   thread register (but for the stack protector's guard, the same in all threads),
 *   no system call, no call of a function known to hand out something of the
 *   thread's (errno's address, pthread_self(): symbols.c has the list), no call
 *   of a small function that does such a thing itself (an accessor) or goes on to one by
 *   a jump; nor does it load the address of such a one into a register, where we would
 *   not see it called. None of the frames lies in libc, the loader, an allocator or a
 *   sanitizer, nor in the runtime (see below).
 *   So none of these functions can hold such an address that it got by itself.
 *
 *   Promised, because no proof sees it: that nobody gave it one, as an argument, through
 *   memory, as the result of some larger function; and that it holds nothing else
 *   that is bound to the thread: a recursive mutex, a robust one, a lock of stdio.
 *
 * Any doubt means false, which costs a hand-over instead of a move.
 *
 * Functions are what FDEs describe, and a compiler splits them: seldom used code lies
 * elsewhere under an FDE of its own, reached and left by jumps, with live registers.
 * So a verdict is about a closure: the function, all that direct jumps lead to from
 * it, and what its neighbours in .eh_frame, where compilers keep the parts of a
 * function together, have to do with it. Whether the code at an address is such a
 * part, and of what, is told from the frame above. The call before the return address
 * names the function that was called: this one, or one whose closure has this one in
 * it. If the call does not name it (through a pointer), the code must look like a
 * function that was called, nothing saved at its start, or be a part of its
 * neighbour that does. The same check of each call
 * against what it is said to have called catches a walk that went astray in bad tables.
 *
 * Verdicts are remembered in `verdicts`, one 64-bit word each: the function's start and
 * the answer. Any thread writes and reads them without order: a word is right by
 * itself or not there. It stays right since only objects that are never unloaded
 * are remembered, and a slot of the linkage table that is not bound yet was
 * taken for all that it may be bound to (symbols.c). Where that could not be told the
 * verdict is no, and not remembered: the slot may be bound next time. Not looked at:
 * code and slots that somebody patches at run time.
 *
 * The runtime's own frames are refused by their object where it is a shared one. Linked into
 * the program its code is not told from its user's, among which link-time
 * optimisation spreads it. It need not be: we are asked only while preempt_off is 0 (preempt.c),
 * and what code of the runtime a coroutine can have on its stack then is
 * - coro_start(), which has called the coroutine's function and holds nothing;
 * - functions that have nothing to do with an M, like weft_now();
 * - functions about to raise preempt_off, or that have just lowered it. What reads the thread
 *   register does not move, be it inlined (rt_enter(), rt_leave(), preempt_pending()) or
 *   called (arch_self() without optimisation, an accessor).
 *
 * Bounded: FRAMES frames; of code that is not remembered at most CODE bytes are read in one
 * call, more only for the first function (then: false, and what was read is remembered);
 * functions longer than LONGEST, or next to such a one, are never moved. What calls and
 * references take is counted as bytes of code that are read in that time: an accessor,
 * and a slot that is not bound yet (symbols.c has the bounds of one look-up). */
#include "safepoint.h"

#include <elf.h>

enum {
    FRAMES = 64,
    PARTS = 16,
    CODE = 16 * 1024,
    LONGEST = 32 * 1024,
    SMALL = 64,    /* an accessor is at most this long */
    REFERENCE = 4, /* cost of a reference that may be one */
    HOPS = 4,
    TAILS = 2,
    VERDICTS = 4096,
    WAYS = 4
};

extern const char arch_entry[];

enum Verdict { VERDICT_NONE, VERDICT_YES, VERDICT_NO, VERDICT_LATER };

static _Atomic uint64_t verdicts[VERDICTS];

/* ---- remembered verdicts ---------------------------------------------------------- */

static uint32_t verdict_place(uintptr_t start)
{
    return (uint32_t)((start * 0x9e3779b97f4a7c15ull) >> 40) & (VERDICTS - WAYS);
}

static enum Verdict verdict_recall(uintptr_t start)
{
    uint32_t at = verdict_place(start);
    for (uint32_t i = 0; i < WAYS; i++) {
        uint64_t v = get(&verdicts[at + i]);
        if (v >> 2 == start)
            return (enum Verdict)(v & 3);
    }
    return VERDICT_NONE;
}

/* The newest is put first, the oldest falls out. Races lose entries, no more. */
static void verdict_remember(uintptr_t start, enum Verdict verdict)
{
    uint32_t at = verdict_place(start);
    for (uint32_t i = WAYS - 1; i > 0; i--)
        set(&verdicts[at + i], get(&verdicts[at + i - 1]));
    set(&verdicts[at], (uint64_t)start << 2 | (uint64_t)verdict);
}

/* ---- the machine code ----------------------------------------------------------------- */

/* The functions that belong together by jumps. */
typedef struct {
    const Object *o;
    struct {
        uintptr_t start, end;
    } part[PARTS];
    uint32_t n;
    uint32_t read;    /* bytes of code so far, and what took as long */
    uint32_t allowed; /* how many may be read */
    uint32_t hops;    /* stubs that this instruction led to */
    uint32_t tails;   /* accessors that end in a jump to another */
    bool unsure;      /* where a slot leads could not be told: perhaps it can later */
    ArchScan scan;
} Closure;

static bool closure_has(const Closure *c, uintptr_t pc)
{
    for (uint32_t i = 0; i < c->n; i++)
        if (pc >= c->part[i].start && pc < c->part[i].end)
            return true;
    return false;
}

/* Add the function around pc, if it is not there. */
static bool closure_add(Closure *c, uintptr_t pc)
{
    Fde f;
    if (closure_has(c, pc))
        return true;
    if (c->n == PARTS || !fde_find(c->o, pc, &f) || f.signal_frame)
        return false;
    c->part[c->n].start = f.start;
    c->part[c->n].end = f.end;
    c->n++;
    return true;
}

static bool accessor_gives(Closure *c, const Object *o, uintptr_t target);
static bool slot_gives(Closure *c, const Object *o, uintptr_t slot, bool small);

/* What is at `target` in o, called or jumped to: a function that hands out something of the
 * thread's? small: look into it. A stub may lead to a stub, of a program whose functions' addresses
 * are those of its stubs. */
static bool callee_gives(Closure *c, const Object *o, uintptr_t target, bool small)
{
    if (object_is_giver(target))
        return true;
    uintptr_t end = object_end(o, target);
    if (end == 0)
        return true; /* a call out of the object without a slot: not ours to understand */
    uintptr_t slot = arch_stub_slot((const uint8_t *)target, (const uint8_t *)end);
    if (slot != 0)
        return c->hops++ >= HOPS || slot_gives(c, o, slot, small);
    return small && accessor_gives(c, o, target);
}

/* The same of a function that may lie in any object. */
static bool function_gives(Closure *c, uintptr_t at, bool small)
{
    Object room;
    if (object_is_giver(at))
        return true;
    const Object *o = object_find(at, &room);
    /* A C++ runtime that was loaded later has givers that we have not looked up. */
    if (o == NULL || (!o->permanent && o->kind != OBJECT_USER))
        return true;
    /* libc's are known by name, those that matter. */
    return o->kind != OBJECT_LIBRARY && callee_gives(c, o, at, small);
}

/* What is called through a slot. */
static bool slot_gives(Closure *c, const Object *o, uintptr_t slot, bool small)
{
    Targets s;
    bool told = object_slot(o, slot, &s), gives = s.giver;
    c->read += s.cost;
    c->unsure |= !told;
    for (uint32_t i = 0; i < s.n && !gives; i++)
        gives = function_gives(c, s.at[i], small);
    return gives || !told;
}

/* A function or a stub starts at `at`. */
static bool is_callable(const Object *o, uintptr_t at)
{
    Fde f;
    uintptr_t end = object_readable(o, at, 1, PF_X) ? object_end(o, at) : 0;
    return end != 0 && (arch_stub_slot((const uint8_t *)at, (const uint8_t *)end) != 0 ||
                        (fde_find(o, at, &f) && f.start == at));
}

/* What a register may be loaded with that is called later: an address, or the word that is there.
 * Most of them are data. */
static bool reference_gives(Closure *c, const Object *o, uintptr_t at, bool small)
{
    enum { FIRST_PAGES = 1 << 16 };
    Object room;
    uintptr_t word;
    if (object_is_giver(at) || (is_callable(o, at) && callee_gives(c, o, at, small)))
        return true;
    if (!object_word(o, at, &word) || word < FIRST_PAGES)
        return false;
    if (object_is_giver(word))
        return true;
    /* What was there at the start has no slots that lead to what came later, and a variable's function
     * might be unloaded as we look. */
    const Object *to = object_find(word, &room);
    return to != NULL && (to->permanent || !o->permanent) && is_callable(to, word) &&
           function_gives(c, word, small);
}

/* The references in [at, end) through the pages of its function. */
static bool pages_give(Closure *c, const Object *o, const ArchScan *scan, uintptr_t at,
                       uintptr_t end, bool small)
{
    enum { PAGES = sizeof(scan->page) / sizeof(scan->page[0]) };
    uintptr_t offset;
    for (; scan->page[0] != 0 && at < end; at += 4) {
        if (!arch_page_offset((const uint8_t *)at, &offset))
            continue;
        for (int i = 0; i < PAGES && scan->page[i] != 0; i++) {
            if (c->read > c->allowed)
                return false; /* the verdict is VERDICT_LATER then */
            c->hops = 0;
            c->tails = small ? 0 : TAILS;
            c->read += REFERENCE;
            /* No compiler loads from the linkage table's own slots: it is chance. */
            if (reference_gives(c, o, scan->page[i] + offset, small) &&
                !object_slot_is_linkage(o, scan->page[i] + offset))
                return true;
        }
    }
    return false;
}

/* One instruction of o's code. false: it may not be moved, or is not understood. */
static bool insn_allowed(Closure *c, const Object *o, const ArchInsn *insn, bool small)
{
    c->hops = 0;
    switch (insn->kind) {
    case INSN_PLAIN:
    case INSN_JUMP:
    case INSN_INDIRECT:
        return true;
    case INSN_CALL:
        return !callee_gives(c, o, insn->target, small);
    case INSN_CALL_SLOT:
        return !slot_gives(c, o, insn->target, small);
    case INSN_REF:
        return !reference_gives(c, o, insn->target, small);
    default:
        return false;
    }
}

/* The code of a small function that starts at target. Without an FDE it might be anything: its
 * first bytes must be harmless then, and not lead on to where we do not see. */
static bool accessor_extent(const Object *o, uintptr_t target, Fde *out, bool *known)
{
    *known = fde_find(o, target, out);
    if (*known)
        return out->start == target;
    uintptr_t end = object_end(o, target);
    out->start = target;
    out->end = end - target > SMALL ? target + SMALL : end;
    return object_readable(o, target, 1, PF_X);
}

/* A function of at most SMALL bytes that touches the thread: its callers may keep what it returns. */
static bool accessor_gives(Closure *c, const Object *o, uintptr_t target)
{
    Fde f;
    bool known;
    ArchScan scan = {0};
    ArchInsn insn;
    if (!accessor_extent(o, target, &f, &known))
        return true;
    if (f.end - f.start > SMALL)
        return false;
    c->read += SMALL;
    for (uintptr_t at = f.start; at < f.end; at += insn.size) {
        arch_decode(&scan, (const uint8_t *)at, (const uint8_t *)f.end, &insn);
        bool leaves = insn.kind == INSN_JUMP && (insn.target < f.start || insn.target >= f.end);
        bool tail = leaves && is_callable(o, insn.target) && c->tails++ < TAILS;
        if (!insn_allowed(c, o, &insn, false) || (!known && insn.kind == INSN_INDIRECT) ||
            (leaves && callee_gives(c, o, insn.target, tail)))
            return true;
    }
    return pages_give(c, o, &scan, f.start, f.end, false);
}

/* Read part i; what it jumps to becomes part of the closure. */
static enum Verdict part_read(Closure *c, uint32_t i)
{
    uintptr_t at = c->part[i].start, end = c->part[i].end;
    ArchInsn insn;
    if (end - at > LONGEST)
        return VERDICT_NO;
    c->read += (uint32_t)(end - at);
    for (; at < end; at += insn.size) {
        if (c->read > c->allowed)
            return VERDICT_LATER;
        arch_decode(&c->scan, (const uint8_t *)at, (const uint8_t *)end, &insn);
        c->tails = 0;
        if (!insn_allowed(c, c->o, &insn, true))
            return VERDICT_NO;
        if (insn.kind != INSN_JUMP || (insn.target >= c->part[i].start && insn.target < end))
            continue;
        uintptr_t stop = object_end(c->o, insn.target);
        if (stop != 0 && arch_stub_slot((const uint8_t *)insn.target, (const uint8_t *)stop) != 0) {
            if (callee_gives(c, c->o, insn.target, true))
                return VERDICT_NO;
        } else if (object_is_giver(insn.target) || !closure_add(c, insn.target)) {
            return VERDICT_NO;
        }
    }
    return VERDICT_YES;
}

/* All parts; then the references, which may be made of pages of any part. */
static enum Verdict closure_read(Closure *c)
{
    enum Verdict v = VERDICT_YES;
    for (uint32_t i = 0; i < c->n && v == VERDICT_YES; i++)
        v = object_in_static_library(c->part[i].start) ? VERDICT_NO : part_read(c, i);
    for (uint32_t i = 0; i < c->n && v == VERDICT_YES; i++)
        if (pages_give(c, c->o, &c->scan, c->part[i].start, c->part[i].end, true))
            v = VERDICT_NO;
    return v == VERDICT_YES && c->read > c->allowed ? VERDICT_LATER : v;
}

/* What a neighbour in .eh_frame has to do with [lo, hi). */
enum Link { LINK_NONE, LINK_PERHAPS, LINK_JUMPS };

static enum Link function_link(const Fde *f, uintptr_t lo, uintptr_t hi)
{
    ArchScan scan = {0};
    ArchInsn insn;
    enum Link link = LINK_NONE;
    for (uintptr_t at = f->start; at < f->end; at += insn.size) {
        arch_decode(&scan, (const uint8_t *)at, (const uint8_t *)f->end, &insn);
        if (insn.kind == INSN_BAD ||
            (insn.kind == INSN_JUMP && insn.target >= lo && insn.target < hi))
            return LINK_JUMPS;
        if (insn.kind == INSN_INDIRECT)
            link = LINK_PERHAPS;
    }
    return link;
}

/* f may be a part of the function before it in .eh_frame, or that after it a part of f. Add what
 * is. A table of jumps may lead to a part without any direct jump; then f must lie right behind the
 * other, as an ordinary next function does and a part, which lies in another section, does not. */
static bool closure_add_neighbours(Closure *c, const Fde *f)
{
    Fde before, after;
    uint32_t longest = c->o->permanent ? LONGEST : CODE;
    int is = fde_before(c->o, f, &before);
    if (is < 0 || (is > 0 && before.end - before.start > longest))
        return false;
    if (is > 0) {
        c->read += (uint32_t)(before.end - before.start);
        enum Link link = function_link(&before, f->start, f->end);
        if (link == LINK_PERHAPS && f->start - before.end >= SMALL)
            link = LINK_JUMPS;
        if (link == LINK_JUMPS && !closure_add(c, before.start))
            return false;
    }
    is = fde_after(c->o, f, &after);
    if (is < 0 || (is > 0 && after.end - after.start > longest))
        return false;
    if (is == 0)
        return true;
    c->read += (uint32_t)(after.end - after.start);
    return function_link(&after, f->start, f->end) != LINK_JUMPS || closure_add(c, after.start);
}

/* f is a function that may have been called, or a part of one that its verdict covers too. */
static bool function_is_whole(const Object *o, const Fde *f)
{
    Fde before;
    if (fde_starts_plain(o, f))
        return true;
    return fde_before(o, f, &before) > 0 && before.end - before.start <= LONGEST &&
           fde_starts_plain(o, &before) && function_link(&before, f->start, f->end) == LINK_JUMPS;
}

/* The verdict on f: on its closure, and on what it may have been split off. A call that has read
 * nothing yet may read more than its share, if that will be remembered: else a long function would
 * never get a verdict. */
static enum Verdict function_read(const Object *o, const Fde *f, uint32_t *code)
{
    bool first = *code == CODE && o->permanent;
    Closure c = {.o = o, .allowed = first ? 4 * LONGEST : *code};
    enum Verdict v = VERDICT_NO;
    if (closure_add(&c, f->start) && closure_add_neighbours(&c, f))
        v = closure_read(&c);
    *code -= c.read < *code ? c.read : *code;
    if (v == VERDICT_NO && c.unsure && c.read <= CODE)
        return VERDICT_LATER; /* what took longer is not asked again */
    return v == VERDICT_LATER && first ? VERDICT_NO : v;
}

static enum Verdict function_verdict(const Object *o, const Fde *f, uint32_t *code)
{
    enum Verdict v = o->permanent ? verdict_recall(f->start) : VERDICT_NONE;
    if (v != VERDICT_NONE)
        return v;
    v = function_read(o, f, code);
    if (o->permanent && v != VERDICT_LATER)
        verdict_remember(f->start, v);
    return v;
}

/* ---- the frames --------------------------------------------------------------------------- */

/* One frame: whose code it is. */
typedef struct {
    const Object *o;
    Object room;
    Fde f;
} Frame;

static bool frame_find(const Walk *w, Frame *out)
{
    uintptr_t pc = w->call ? w->pc - 1 : w->pc;
    out->o = object_find(pc, &out->room);
    return out->o != NULL && fde_find(out->o, pc, &out->f);
}

/* What the call before the return address leads to; 0: not known. false: there is no call. */
static bool call_target(const Frame *caller, uintptr_t ret, uintptr_t *out)
{
    ArchInsn insn;
    arch_call_before((const uint8_t *)ret, (const uint8_t *)caller->f.start, &insn);
    uintptr_t slot = 0;
    *out = 0;
    if (insn.kind == INSN_BAD)
        return false;
    if (insn.kind == INSN_CALL) {
        uintptr_t end = object_end(caller->o, insn.target);
        if (end == 0)
            return false;
        slot = arch_stub_slot((const uint8_t *)insn.target, (const uint8_t *)end);
        *out = insn.target;
    } else if (insn.kind == INSN_CALL_SLOT) {
        slot = insn.target;
    }
    return slot == 0 || object_word(caller->o, slot, out);
}

/* Was the code in the frame `callee` reached by the call that ret in `caller` follows, and does the
 * proof cover the way? */
static bool call_leads_to(const Frame *caller, uintptr_t ret, const Frame *callee, uint32_t *code)
{
    uintptr_t target;
    if (!call_target(caller, ret, &target))
        return false;
    if (target == callee->f.start)
        return true;
    if (target == 0)
        return function_is_whole(callee->o, &callee->f);
    /* Parts, and tail calls by a direct jump. */
    Closure c = {.o = callee->o, .allowed = *code};
    if (target < callee->o->lo || target >= callee->o->hi || !closure_add(&c, target) ||
        c.part[0].start != target)
        return false;
    enum Verdict v = closure_read(&c);
    *code -= c.read < *code ? c.read : *code;
    return v == VERDICT_YES && closure_has(&c, callee->f.start);
}

static bool frame_allowed(const Walk *w, const Frame *frame, uint32_t *code)
{
    /* The runtime's last frame, which has called the coroutine's function and holds nothing then.
     * */
    if (w->call && frame->f.start == (uintptr_t)coro_start)
        return true;
    if (frame->o->kind != OBJECT_USER || frame->f.signal_frame)
        return false;
    return function_verdict(frame->o, &frame->f, code) == VERDICT_YES;
}

bool safepoint_movable(void *ucontext, const void *lo, const void *hi)
{
    Walk w;
    Frame frame[2]; /* this one and its callee, in turn */
    uint32_t code = CODE;
    if (objects_sanitized())
        return false;
    walk_start(&w, ucontext, lo, hi);
    for (uint32_t i = 0; i < FRAMES; i++) {
        Frame *at = &frame[i % 2];
        if (!frame_find(&w, at))
            return false;
        bool entry = at->f.start == (uintptr_t)arch_entry;
        if (i > 0 && !(entry && frame[(i - 1) % 2].f.start == (uintptr_t)coro_start) &&
            !call_leads_to(at, w.pc, &frame[(i - 1) % 2], &code))
            return false;
        if (entry)
            return i > 0;
        if (!frame_allowed(&w, at, &code) || !walk_step(&w, at->o, &at->f))
            return false;
    }
    return false;
}

bool safepoint_in_library(void *ucontext, const void *lo, const void *hi)
{
    Walk w;
    Frame at;
    walk_start(&w, ucontext, lo, hi);
    for (uint32_t i = 0; i < FRAMES; i++) {
        uintptr_t pc = w.call ? w.pc - 1 : w.pc;
        at.o = object_find(pc, &at.room);
        if (at.o == NULL)
            return false;
        if (at.o->kind == OBJECT_LIBRARY || object_in_static_library(pc))
            return true;
        if (!fde_find(at.o, pc, &at.f) || !walk_step(&w, at.o, &at.f))
            return false;
    }
    return false;
}

/* A walk that goes on past the first library code, to the last: an unlocked part of it may have been called
 * by another that holds a lock (qsort's comparison prints). */
enum Leave safepoint_leave(void *ucontext, const void *lo, const void *hi, uintptr_t *from)
{
    Walk w;
    Frame at;
    enum Leave where = LEAVE_OUTSIDE;
    enum WalkReturn ret = RETURN_ELSEWHERE;
    uintptr_t ret_at = 0, ret_pc = 0;
    walk_start(&w, ucontext, lo, hi);
    for (uint32_t i = 0; i < FRAMES; i++) {
        /* Without a library frame on the way: the loader has bound a slot, the return from it was
         * arranged, and it has gone to the user's function by a jump instead. */
        if (w.pc == (uintptr_t)arch_left_entry)
            return where == LEAVE_INSIDE || i == 0 ? LEAVE_ARRANGED : LEAVE_OUTSIDE;
        if (!frame_find(&w, &at))
            break;
        bool library = at.o->kind == OBJECT_LIBRARY || object_in_static_library(at.f.start);
        if (library)
            where = LEAVE_INSIDE;
        if (at.f.start == (uintptr_t)arch_entry) {
            if (ret == RETURN_ELSEWHERE ||
                !arch_return_to_left(ucontext, ret == RETURN_AT ? (uintptr_t *)ret_at : NULL,
                                     ret_pc))
                return where;
            *from = ret_pc;
            return LEAVE_ARRANGED;
        }
        if (!walk_step(&w, at.o, &at.f))
            break;
        if (library) {
            ret = w.ret;
            ret_at = w.ret_at;
            ret_pc = w.pc;
        }
    }
    return where == LEAVE_INSIDE || safepoint_in_library(ucontext, lo, hi) ? LEAVE_INSIDE
                                                                           : LEAVE_OUTSIDE;
}

int safepoint_init(void)
{
    for (uint32_t i = 0; i < VERDICTS; i++)
        set(&verdicts[i], 0);
    return objects_init();
}

void safepoint_fini(void)
{
    objects_fini();
}
