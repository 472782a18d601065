/* SPDX-License-Identifier: MIT
 *
 * arch.h: what the runtime asks of a processor. arch/<cpu>/ holds
 * arch_cpu.h (inline parts), arch.c, switch.S and asm.h (macros), under the
 * same names for each.
 * HACKING.md, "What a port owes", has the reasons.
 */
#ifndef WEFT_ARCH_H
#define WEFT_ARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Save the callee-saved registers and the floating-point control words on the
 * current stack, store the stack pointer in *save, continue where the context
 * whose stack pointer is `to` was saved. There arch_switch returns `pass`. The
 * unwind information is right at every instruction. */
void *arch_switch(void **save, void *to, void *pass);

/* The same for a function that ends with it: `return arch_park(...)`. When the context is resumed, by
 * either of the two, sched_parked(pass) is called in place of arch_park, and returns to its caller.
 * So as a tail call it leaves no frame of the callers' that did so too on the parked stack: no pointer
 * into one may be in use. Without (-O0) it is an ordinary call, and right as well. */
int arch_park(void **save, void *to, void *pass);
int sched_parked(void *pass); /* sched.c */

/* Lay out a first frame below top (16-byte aligned) so that an arch_switch to
 * the returned stack pointer calls entry(pass), on the default floating-point
 * control words. entry must not return. The unwind ends at its caller,
 * arch_entry: return address undefined, frame pointer 0. */
void *arch_prepare(void *top, void (*entry)(void *pass));

/* From arch_cpu.h:
 *   static inline void *arch_self(void);       the calling thread's pointer, NULL at first: one volatile
 *                                              load off the thread register, never kept by the compiler
 *   static inline void arch_set_self(void *);
 *   static inline void arch_pause(void);       spin-wait hint
 *   static inline void arch_context(void *sp, ArchContext *out);  pc, sp, fp of a context saved by
 *                                              arch_switch, as its resumption would see them
 */
typedef struct {
    uintptr_t pc, sp, fp;
} ArchContext;

/* The interrupted registers of a signal handler's third argument. */
void arch_ucontext(void *ucontext, ArchContext *out);
/* The reverse: write pc, sp and fp where a signal frame (ucontext_t) has them, so that an unwinder
 * which starts from one can start from a saved context. */
void arch_fill_ucontext(const ArchContext *ctx, void *ucontext);

/* preempt.S: in a signal handler: change ucontext so that the interrupted code, once the handler has
 * returned, seems to call fn() at that very instruction, on its own stack, and goes on with every
 * register as it was (all of them: flags, vector and mask registers, control words), perhaps on another
 * thread. The red zone is kept. Uses up to arch_inject_space() bytes below the stack pointer. false: this
 * state cannot be kept (then nothing is changed). */
bool arch_inject(void *ucontext, void (*fn)(void));
size_t arch_inject_space(void);

/* In a signal handler that has interrupted a call to the kernel: the call is not begun again, but fails
 * with EINTR. Without effect where no call is. */
void arch_fail_syscall(void *ucontext);

/* preempt.S, inject.c: at the end of a run: in a signal handler: code interrupted at ucontext will return to
 * arch_left_entry instead of `from`, which lies at `at`; at == 0: in the interrupted link register. That calls
 * preempt_left() (preempt.c) and, if it returns at all, goes on where it says. false: not found there. */
bool arch_return_to_left(void *ucontext, uintptr_t *at, uintptr_t from);
extern const char arch_left_entry[];

/* scan.c: reading machine code, for safepoint.c (signal). What one instruction is, as far as the proof of
 * code that may be moved wants to know it. */
enum ArchInsnKind {
    INSN_PLAIN,  /* nothing of interest; calls through registers and memory too */
    INSN_BAD,    /* not decoded: unknown, or longer than what is left */
    INSN_THREAD, /* belongs to the thread: the thread register (but for the stack protector's load),
                       the kernel, protection keys, shadow stacks */
    INSN_CALL,   /* direct call of `target` */
    INSN_JUMP,   /* direct jump to `target`, conditional ones too */
    INSN_INDIRECT,  /* jump through a register or memory */
    INSN_CALL_SLOT, /* call or jump to what the word at `target` holds */
    INSN_REF, /* `target` is an address or immediate in it: the thing itself, or where it is loaded from */
};
typedef struct {
    uint32_t size; /* in bytes */
    enum ArchInsnKind kind;
    uintptr_t target;
} ArchInsn;
/* What must be remembered from one instruction of a function to the next; zero at its first. */
typedef struct {
    uintptr_t page[32];
} ArchScan;
/* The instruction at code, which goes on up to end. Reads nothing behind end. */
void arch_decode(ArchScan *scan, const uint8_t *code, const uint8_t *end, ArchInsn *out);
/* The call that a return address follows: INSN_CALL, INSN_CALL_SLOT, INSN_PLAIN for one through a
 * register or memory; INSN_BAD: none. Reads nothing before start. */
void arch_call_before(const uint8_t *ret, const uint8_t *start, ArchInsn *out);
/* A stub of the procedure linkage table at code: the address of the word it jumps through, or 0. */
uintptr_t arch_stub_slot(const uint8_t *code, const uint8_t *end);

/* arch.c's part of the walk by .eh_frame (walk.c): registers by their DWARF numbers, ARCH_DWARF_REGS of
 * them in arch_cpu.h; ARCH_DWARF_SP is the stack pointer. */
uintptr_t arch_dwarf_load(const void *ucontext, uintptr_t *reg); /* returns the pc */
uintptr_t arch_strip(uintptr_t ret); /* a return address without its signature */

#if defined(__x86_64__)
#include "x86_64/arch_cpu.h"
#elif defined(__aarch64__)
#include "aarch64/arch_cpu.h"
#else
#error "weft has no port to this processor; see HACKING.md, What a port owes"
#endif

#endif
