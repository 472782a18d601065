/* SPDX-License-Identifier: MIT
 *
 * check_arch.c: what arch/arch.h promises, without the runtime.
 *
 * The unwind information is checked where it is easy to get wrong: the processor
 * is single-stepped through the switch (the trap flag of x86-64, in this
 * process), and at every instruction the SIGTRAP handler unwinds by the CFI. */
#include "config.h"

#include "arch/arch.h"

#include <check.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unwind.h>

enum { STACK = 128 * 1024, NREG = 18 };

extern const char arch_entry[], arch_start[], arch_parked[];

static _Alignas(64) char stack[STACK];
static void *here, *there; /* saved contexts: the test's, and the other one's */

static bool on_stack(uintptr_t a)
{
    return a >= (uintptr_t)stack && a <= (uintptr_t)stack + STACK;
}

/* From the address sanitizer, if it is there: frames that never return leave their red zones. */
__attribute__((weak)) void __asan_unpoison_memory_region(void const volatile *, size_t);

static void start(void (*fn)(void *))
{
    if (__asan_unpoison_memory_region != NULL)
        __asan_unpoison_memory_region(stack, STACK);
    there = arch_prepare(stack + STACK, fn);
    /* Nobody may take what lies above the first frame for a return address. */
    memset(stack + STACK - 16, 0x41, 16);
}

/* What arch_park needs of the runtime. */
enum { PARKED = 7 };
static void *parked_pass;
int sched_parked(void *pass)
{
    parked_pass = pass;
    return PARKED;
}

static inline __attribute__((always_inline)) void *go(bool park, void **save, void *to, void *pass)
{
    if (!park)
        return arch_switch(save, to, pass);
    if (arch_park(save, to, pass) != PARKED)
        abort();
    return parked_pass;
}

/* Loop tests: who leaves by arch_park. */
enum { PARK_HERE = 1, PARK_THERE = 2, PARK_WAYS = 4 };
static int parks;

/* ---- per processor ----------------------------------------------------------
 *
 * switch_filled(save, to, pass, regs): load the callee-saved registers from
 * regs, arch_switch, store what they are then into regs. switch_filled_back is
 * the return address in it. park_filled does the same by arch_park. */
void *switch_filled(void **save, void *to, void *pass, uint64_t *regs);
extern const char switch_filled_back[];
int park_filled(void **save, void *to, void *pass, uint64_t *regs);

static inline __attribute__((always_inline)) void go_filled(bool park, void **save, void *to,
                                                            uint64_t *regs)
{
    if (!park)
        switch_filled(save, to, NULL, regs);
    else if (park_filled(save, to, NULL, regs) != PARKED)
        abort();
}

#if defined(__x86_64__)
enum { NFILLED = 6, FP_AT = 1, WAYS = 2 };
#define FILLED(name, function)                                                                     \
    __asm__(".text\n.globl " name ", " name "_back\n.type " name ", @function\n" name              \
            ":\n.cfi_startproc\nendbr64\n"                                                         \
            "pushq %rbp\n.cfi_adjust_cfa_offset 8\n.cfi_rel_offset %rbp, 0\n"                      \
            "pushq %rbx\n.cfi_adjust_cfa_offset 8\n.cfi_rel_offset %rbx, 0\n"                      \
            "pushq %r12\n.cfi_adjust_cfa_offset 8\n.cfi_rel_offset %r12, 0\n"                      \
            "pushq %r13\n.cfi_adjust_cfa_offset 8\n.cfi_rel_offset %r13, 0\n"                      \
            "pushq %r14\n.cfi_adjust_cfa_offset 8\n.cfi_rel_offset %r14, 0\n"                      \
            "pushq %r15\n.cfi_adjust_cfa_offset 8\n.cfi_rel_offset %r15, 0\n"                      \
            "pushq %rcx\n.cfi_adjust_cfa_offset 8\n"                                               \
            "movq (%rcx), %rbx\nmovq 8(%rcx), %rbp\nmovq 16(%rcx), %r12\n"                         \
            "movq 24(%rcx), %r13\nmovq 32(%rcx), %r14\nmovq 40(%rcx), %r15\n"                      \
            "call " function "\n" name "_back:\n"                                                  \
            "popq %rcx\n.cfi_adjust_cfa_offset -8\n"                                               \
            "movq %rbx, (%rcx)\nmovq %rbp, 8(%rcx)\nmovq %r12, 16(%rcx)\n"                         \
            "movq %r13, 24(%rcx)\nmovq %r14, 32(%rcx)\nmovq %r15, 40(%rcx)\n"                      \
            "popq %r15\n.cfi_adjust_cfa_offset -8\n.cfi_restore %r15\n"                            \
            "popq %r14\n.cfi_adjust_cfa_offset -8\n.cfi_restore %r14\n"                            \
            "popq %r13\n.cfi_adjust_cfa_offset -8\n.cfi_restore %r13\n"                            \
            "popq %r12\n.cfi_adjust_cfa_offset -8\n.cfi_restore %r12\n"                            \
            "popq %rbx\n.cfi_adjust_cfa_offset -8\n.cfi_restore %rbx\n"                            \
            "popq %rbp\n.cfi_adjust_cfa_offset -8\n.cfi_restore %rbp\n"                            \
            "ret\n.cfi_endproc\n.size " name ", . - " name "\n")
FILLED("switch_filled", "arch_switch");
FILLED("park_filled", "arch_park");

/* The control words: all that decides how to compute, nothing of the flags. */
static uint64_t control_get(void)
{
    uint32_t mxcsr;
    uint16_t cw;
    __asm__ volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(mxcsr), "=m"(cw));
    return (mxcsr & ~0x3fu) | (uint64_t)cw << 32;
}

static void control_set(uint64_t v)
{
    uint32_t mxcsr = (uint32_t)v;
    uint16_t cw = (uint16_t)(v >> 32);
    __asm__ volatile("ldmxcsr %0\n\tfldcw %1" : : "m"(mxcsr), "m"(cw));
}

static const uint64_t control_default = 0x37f00001f80;
/* Ways to be different: only MXCSR (round up), only x87 (53 bits). */
static const uint64_t control_other[WAYS] = {0x37f00005f80, 0x27f00001f80};

#elif defined(__aarch64__)
enum { NFILLED = 18, FP_AT = 10, WAYS = 2 };
#define FILLED(name, function)                                                                     \
    __asm__(".text\n.globl " name ", " name "_back\n.type " name ", %function\n" name              \
            ":\n.cfi_startproc\nhint #34\n"                                                        \
            "stp x29, x30, [sp, #-192]!\n.cfi_adjust_cfa_offset 192\n"                             \
            ".cfi_rel_offset x29, 0\n.cfi_rel_offset x30, 8\n"                                     \
            "stp x19, x20, [sp, #16]\nstp x21, x22, [sp, #32]\nstp x23, x24, [sp, #48]\n"          \
            "stp x25, x26, [sp, #64]\nstp x27, x28, [sp, #80]\nstp d8, d9, [sp, #96]\n"            \
            "stp d10, d11, [sp, #112]\nstp d12, d13, [sp, #128]\nstp d14, d15, [sp, #144]\n"       \
            "str x3, [sp, #160]\n"                                                                 \
            "ldp x19, x20, [x3]\nldp x21, x22, [x3, #16]\nldp x23, x24, [x3, #32]\n"               \
            "ldp x25, x26, [x3, #48]\nldp x27, x28, [x3, #64]\nldr x29, [x3, #80]\n"               \
            "ldp d8, d9, [x3, #88]\nldp d10, d11, [x3, #104]\nldp d12, d13, [x3, #120]\n"          \
            "ldp d14, d15, [x3, #136]\n"                                                           \
            "bl " function "\n" name "_back:\n"                                                    \
            "ldr x3, [sp, #160]\n"                                                                 \
            "stp x19, x20, [x3]\nstp x21, x22, [x3, #16]\nstp x23, x24, [x3, #32]\n"               \
            "stp x25, x26, [x3, #48]\nstp x27, x28, [x3, #64]\nstr x29, [x3, #80]\n"               \
            "stp d8, d9, [x3, #88]\nstp d10, d11, [x3, #104]\nstp d12, d13, [x3, #120]\n"          \
            "stp d14, d15, [x3, #136]\n"                                                           \
            "ldp x19, x20, [sp, #16]\nldp x21, x22, [sp, #32]\nldp x23, x24, [sp, #48]\n"          \
            "ldp x25, x26, [sp, #64]\nldp x27, x28, [sp, #80]\nldp d8, d9, [sp, #96]\n"            \
            "ldp d10, d11, [sp, #112]\nldp d12, d13, [sp, #128]\nldp d14, d15, [sp, #144]\n"       \
            "ldp x29, x30, [sp], #192\n.cfi_adjust_cfa_offset -192\n"                              \
            ".cfi_restore x29\n.cfi_restore x30\n"                                                 \
            "ret\n.cfi_endproc\n.size " name ", . - " name "\n")
FILLED("switch_filled", "arch_switch");
FILLED("park_filled", "arch_park");

static uint64_t control_get(void)
{
    uint64_t v;
    __asm__ volatile("mrs %0, fpcr" : "=r"(v));
    return v;
}

static void control_set(uint64_t v)
{
    __asm__ volatile("msr fpcr, %0" : : "r"(v));
}

static const uint64_t control_default = 0;
static const uint64_t control_other[WAYS] = {1u << 22, 1u << 24}; /* round up, flush to zero */
#endif

/* ---- registers ------------------------------------------------------------- */

static void fill(uint64_t *regs, uint64_t seed)
{
    for (uint64_t i = 0; i < NREG; i++)
        regs[i] = seed * 0x0101010101010101 + i;
}

static bool filled(const uint64_t *regs, uint64_t seed)
{
    uint64_t want[NREG];
    fill(want, seed);
    return memcmp(regs, want, NFILLED * sizeof(*want)) == 0;
}

static int kept_there;

static void registers_there(void *pass)
{
    (void)pass;
    for (;;) {
        uint64_t regs[NREG];
        fill(regs, 0x5a);
        go_filled(parks & PARK_THERE, &there, here, regs);
        kept_there += filled(regs, 0x5a);
    }
}

START_TEST(registers)
{
    parks = _i;
    start(registers_there);
    for (int i = 0; i < 3; i++) {
        uint64_t regs[NREG];
        fill(regs, (uint64_t)i + 1);
        go_filled(parks & PARK_HERE, &here, there, regs);
        ck_assert(filled(regs, (uint64_t)i + 1));
        ck_assert_int_eq(kept_there, i);
    }
}
END_TEST

/* ---- floating-point control ------------------------------------------------- */

static uint64_t control_at_entry, control_again;
static uint64_t control_there_is;

static void control_there(void *pass)
{
    (void)pass;
    control_at_entry = control_get();
    control_set(control_there_is);
    go(parks & PARK_THERE, &there, here, NULL);
    control_again = control_get();
    go(parks & PARK_THERE, &there, here, NULL);
    abort();
}

static void control_one(uint64_t ours, uint64_t theirs)
{
    control_there_is = theirs;
    control_set(ours);
    start(control_there);
    go(parks & PARK_HERE, &here, there, NULL);
    ck_assert_uint_eq(control_at_entry, control_default); /* not inherited */
    ck_assert_uint_eq(control_get(), ours);
    go(parks & PARK_HERE, &here, there, NULL);
    ck_assert_uint_eq(control_again, theirs);
    ck_assert_uint_eq(control_get(), ours);
    control_set(control_default);
}

START_TEST(control)
{
    parks = _i;
    for (int i = 0; i < WAYS; i++) {
        control_one(control_default, control_other[i]);
        control_one(control_other[i], control_default);
        control_one(control_other[i], control_other[!i]);
    }
    control_one(control_default, control_default);
}
END_TEST

/* ---- entry ------------------------------------------------------------------ */

static void *passed[3];
static uintptr_t entry_frame;

static void entry_there(void *pass)
{
    entry_frame = (uintptr_t)__builtin_frame_address(0);
    passed[0] = pass;
    passed[1] = go(parks & PARK_THERE, &there, here, (void *)11);
    passed[2] = go(parks & PARK_THERE, &there, here, (void *)22);
    abort();
}

START_TEST(entry)
{
    parks = _i;
    for (uintptr_t down = 0; down < 64; down += 16) {
        there = arch_prepare(stack + STACK - down, entry_there);
        ck_assert(on_stack((uintptr_t)there));
        ck_assert_ptr_eq(go(parks & PARK_HERE, &here, there, (void *)1), (void *)11);
        ck_assert_ptr_eq(passed[0], (void *)1);
        /* The frame pointer lies two words below the caller's aligned stack. */
        ck_assert_uint_eq(entry_frame % 16, 0);
        ck_assert_ptr_eq(go(parks & PARK_HERE, &here, there, (void *)2), (void *)22);
        ck_assert_ptr_eq(passed[1], (void *)2);
    }
}
END_TEST

/* ---- contexts ------------------------------------------------------------- */

START_TEST(context)
{
    ArchContext c;
    start(registers_there);
    arch_context(there, &c);
    ck_assert_ptr_eq((void *)c.pc, arch_start);
    ck_assert_uint_eq(c.fp, 0);
    ck_assert_uint_eq(c.sp % 16, 0);
    ck_assert(on_stack(c.sp));

    uint64_t regs[NREG];
    fill(regs, 1);
    switch_filled(&here, there, NULL, regs);
    arch_context(there, &c);
    ck_assert_ptr_eq((void *)c.pc, switch_filled_back);
    uint64_t want[NREG];
    fill(want, 0x5a);
    ck_assert_uint_eq(c.fp, want[FP_AT]);
    ck_assert_uint_gt(c.sp, (uintptr_t)there);
    ck_assert(on_stack(c.sp));

    parks = PARK_THERE;
    switch_filled(&here, there, NULL, regs);
    arch_context(there, &c);
    ck_assert_ptr_eq((void *)c.pc, arch_parked);
    ck_assert(on_stack(c.sp));

    ArchContext again;
    static ucontext_t uc;
    arch_fill_ucontext(&c, &uc);
    arch_ucontext(&uc, &again);
    ck_assert(c.pc == again.pc && c.sp == again.sp && c.fp == again.fp);
}
END_TEST

static ArchContext interrupted;
static volatile uintptr_t raised_at;

static void on_usr1(int sig, siginfo_t *si, void *uc)
{
    (void)sig, (void)si;
    arch_ucontext(uc, &interrupted);
}

START_TEST(interrupted_context)
{
    struct sigaction sa = {.sa_sigaction = on_usr1, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR1, &sa, NULL);
    raised_at = (uintptr_t)__builtin_frame_address(0);
    raise(SIGUSR1);
    ck_assert_uint_le(interrupted.sp, raised_at);
    ck_assert_uint_gt(interrupted.sp, raised_at - 65536);
    ck_assert_uint_ne(interrupted.pc, 0);
}
END_TEST

/* ---- the thread's pointer ----------------------------------------------------- */

static void *seen[4];

static void self_there(void *pass)
{
    (void)pass;
    seen[0] = arch_self();
    arch_switch(&there, here, NULL);
    seen[1] = arch_self(); /* on another thread, in the same function */
    arch_switch(&there, here, NULL);
    abort();
}

static void *self_thread(void *arg)
{
    seen[2] = arch_self();
    arch_set_self(arg);
    seen[3] = arch_self();
    arch_switch(&here, there, NULL);
    return NULL;
}

START_TEST(self)
{
    int ours, theirs;
    ck_assert_ptr_null(arch_self());
    arch_set_self(&ours);
    ck_assert_ptr_eq(arch_self(), &ours);
    start(self_there);
    arch_switch(&here, there, NULL);
    pthread_t t;
    ck_assert_int_eq(pthread_create(&t, NULL, self_thread, &theirs), 0);
    pthread_join(t, NULL);
    ck_assert_ptr_eq(seen[0], &ours);
    ck_assert_ptr_null(seen[2]);
    ck_assert_ptr_eq(seen[3], &theirs);
    ck_assert_ptr_eq(seen[1], &theirs);
    ck_assert_ptr_eq(arch_self(), &ours);
    arch_set_self(NULL);
}
END_TEST

/* ---- unwinding ------------------------------------------------------------------ */

enum { FRAMES = 12 };

typedef struct {
    uintptr_t pc, sp, fp;  /* where it starts */
    int skip;              /* frames before that, -1: found */
    int n;                 /* frames seen from there on */
    uintptr_t fn[FRAMES];  /* their functions' first bytes */
    uint64_t caller[NREG]; /* callee-saved registers in frame 1 */
} Walk;

static void walk_registers(struct _Unwind_Context *ctx, uint64_t *out)
{
#if defined(__x86_64__)
    static const int dwarf[NFILLED] = {3, 6, 12, 13, 14, 15};
    for (int i = 0; i < NFILLED; i++)
        out[i] = _Unwind_GetGR(ctx, dwarf[i]);
#else
    (void)ctx, (void)out;
#endif
}

static _Unwind_Reason_Code walk_frame(struct _Unwind_Context *ctx, void *arg)
{
    Walk *w = arg;
    uintptr_t pc = _Unwind_GetIP(ctx);
    if (pc == 0) /* libgcc calls once more after the last frame */
        return _URC_END_OF_STACK;
    if (w->n == 0 && w->pc != 0 && pc != w->pc)
        return w->skip++ < 20 ? _URC_NO_REASON : _URC_END_OF_STACK;
    if (w->n == 1)
        walk_registers(ctx, w->caller);
    if (w->n < FRAMES)
        w->fn[w->n] = (uintptr_t)_Unwind_GetRegionStart(ctx);
    return ++w->n < 50 ? _URC_NO_REASON : _URC_END_OF_STACK;
}

static Walk whole;

static void unwind_there(void *pass)
{
    (void)pass;
    _Unwind_Backtrace(walk_frame, &whole);
    arch_switch(&there, here, NULL);
    abort();
}

START_TEST(unwind_ends)
{
    start(unwind_there);
    arch_switch(&here, there, NULL);
    ck_assert_int_eq(whole.n, 2);
    ck_assert_uint_eq(whole.fn[0], (uintptr_t)unwind_there);
    ck_assert_uint_eq(whole.fn[1], (uintptr_t)arch_entry);
}
END_TEST

#if defined(__x86_64__) && !defined(WEFT_ASAN) && !defined(WEFT_TSAN)
enum { STEPS = 4000 };

static Walk step[STEPS];
static int nsteps;
static _Alignas(64) char signal_stack[256 * 1024];

static void on_trap(int sig, siginfo_t *si, void *uc)
{
    (void)sig, (void)si;
    if (nsteps == STEPS)
        return;
    Walk *w = &step[nsteps++];
    ArchContext c;
    arch_ucontext(uc, &c);
    w->pc = c.pc;
    w->sp = c.sp;
    w->fp = c.fp;
    _Unwind_Backtrace(walk_frame, w);
}

static __attribute__((noinline)) void step_begin(void)
{
    struct sigaction sa = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    stack_t ss = {.ss_sp = signal_stack, .ss_size = sizeof(signal_stack)};
    sigaltstack(&ss, NULL);
    sigaction(SIGTRAP, &sa, NULL);
    /* The unwinder's first use allocates and resolves symbols. */
    Walk warm = {0};
    _Unwind_Backtrace(walk_frame, &warm);
}

static inline __attribute__((always_inline)) void trap_flag(bool on)
{
    if (on)
        __asm__ volatile("subq $128, %%rsp\n\tpushfq\n\torl $0x100, (%%rsp)\n\tpopfq\n\t"
                         "addq $128, %%rsp" ::
                             : "cc", "memory");
    else
        __asm__ volatile("subq $128, %%rsp\n\tpushfq\n\tandl $~0x100, (%%rsp)\n\tpopfq\n\t"
                         "addq $128, %%rsp" ::
                             : "cc", "memory");
}

static void step_there(void *pass)
{
    uint64_t regs[NREG];
    fill(regs, 0x5a);
    for (uintptr_t n = (uintptr_t)pass;; n++) {
        go_filled(parks & PARK_THERE, &there, here, regs);
        control_set(n % 2 == 0 ? control_other[0] : control_default);
    }
}

static __attribute__((noinline)) void step_here(void)
{
    uint64_t regs[NREG];
    fill(regs, 0x11);
    trap_flag(true);
    for (int i = 0; i < 4; i++)
        go_filled(parks & PARK_HERE, &here, there, regs);
    trap_flag(false);
}

static bool in_switch(uintptr_t pc)
{
    return pc >= (uintptr_t)arch_switch && pc < (uintptr_t)arch_entry;
}

static int distinct(const bool *seen_pc, uintptr_t from, uintptr_t to)
{
    int n = 0;
    for (uintptr_t pc = from; pc < to; pc++)
        n += seen_pc[pc - (uintptr_t)arch_switch];
    return n;
}

START_TEST(every_instruction)
{
    parks = _i;
    step_begin();
    start(step_there);
    step_here();
    ck_assert_int_lt(nsteps, STEPS);

    int inside[2] = {0, 0}, at_entry = 0;
    bool seen_pc[512] = {false};
    for (int i = 0; i < nsteps; i++) {
        const Walk *w = &step[i];
        bool other = on_stack(w->sp);
        bool park = (parks & (other ? PARK_THERE : PARK_HERE)) != 0;
        ck_assert_int_gt(w->n, 0); /* the interrupted frame was found */
        if (other) {               /* every walk up the other stack ends at its entry */
            ck_assert_int_le(w->n, 5);
            ck_assert_uint_eq(w->fn[w->n - 1], (uintptr_t)arch_entry);
        }
        at_entry += w->fn[0] == (uintptr_t)arch_entry;
        if (!in_switch(w->pc))
            continue;
        inside[other]++;
        seen_pc[w->pc - (uintptr_t)arch_switch] = true;
        int at = 0; /* of our own caller */
        at += w->fn[at] == (uintptr_t)arch_switch;
        if (w->fn[at] == (uintptr_t)arch_entry && w->n == 2)
            continue; /* on its way to the first frame */
        if (park) {
            ck_assert_uint_eq(w->fn[at], (uintptr_t)arch_park);
            at++;
        }
        ck_assert_int_gt(at, 0);
        ck_assert_uint_eq(w->fn[at], park ? (uintptr_t)park_filled : (uintptr_t)switch_filled);
        ck_assert_uint_eq(w->fn[at + 1], other ? (uintptr_t)step_there : (uintptr_t)step_here);
        ck_assert(filled(w->caller, other ? 0x5a : 0x11));
        if (other)
            ck_assert_int_eq(w->n, at + 3);
    }
    ck_assert_int_gt(inside[0], 100);
    ck_assert_int_gt(inside[1], 100);
    ck_assert_int_ge(at_entry, 2);
    /* Every instruction in switch.S, whichever way it took. It returns only where both call arch_switch;
     * arch_park jumps in behind the first two. */
    static const int of_switch[PARK_WAYS] = {38, 37, 37, 35};
    uintptr_t park = (uintptr_t)arch_park;
    ck_assert_int_eq(distinct(seen_pc, (uintptr_t)arch_switch, park), of_switch[parks]);
    ck_assert_int_eq(distinct(seen_pc, park, (uintptr_t)arch_entry), parks != 0 ? 7 : 0);
}
END_TEST

/* The same for frame pointers. Without registers full of other things. */
static __attribute__((noinline)) void frames_there(void *pass)
{
    (void)pass;
    for (;;)
        go(parks & PARK_THERE, &there, here, NULL);
}

static __attribute__((noinline)) void frames_here(void)
{
    trap_flag(true);
    for (int i = 0; i < 2; i++)
        go(parks & PARK_HERE, &here, there, NULL);
    trap_flag(false);
}

START_TEST(frame_pointers)
{
    parks = _i;
    step_begin();
    start(frames_there);
    frames_here();
    int walked = 0;
    for (int i = 0; i < nsteps; i++) {
        uintptr_t fp = step[i].fp, pc = 0;
        if (!on_stack(step[i].sp) || !on_stack(fp))
            continue;
        if (step[i].pc - (uintptr_t)sched_parked < 64)
            continue; /* its frame is no more: arch_park's lies there by now */
        int n = 0;
        for (; fp != 0; fp = ((uintptr_t *)fp)[0]) {
            ck_assert(on_stack(fp));
            ck_assert_int_lt(n++, 5);
            pc = ((uintptr_t *)fp)[1];
        }
        ck_assert_uint_ge(pc, (uintptr_t)arch_entry);
        ck_assert_uint_lt(pc, (uintptr_t)arch_entry + 16);
        walked++;
    }
    ck_assert_int_gt(walked, 30);
}
END_TEST
#endif

int main(void)
{
    Suite *s = suite_create("arch");
    TCase *tc = tcase_create("arch");
    tcase_add_loop_test(tc, registers, 0, PARK_WAYS);
    tcase_add_loop_test(tc, control, 0, PARK_WAYS);
    tcase_add_loop_test(tc, entry, 0, PARK_WAYS);
    tcase_add_test(tc, context);
    tcase_add_test(tc, interrupted_context);
    tcase_add_test(tc, self);
    tcase_add_test(tc, unwind_ends);
#if defined(__x86_64__) && !defined(WEFT_ASAN) && !defined(WEFT_TSAN)
    tcase_add_loop_test(tc, every_instruction, 0, PARK_WAYS);
    tcase_add_loop_test(tc, frame_pointers, 0, PARK_WAYS);
#endif
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed != 0;
}
