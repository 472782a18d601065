/* SPDX-License-Identifier: MIT
 *
 * arch.h: what the runtime asks of a processor. arch/<cpu>/ holds
 * arch_cpu.h (inline parts), arch.c, switch.S and asm.h (macros), under the
 * same names for each.
 * HACKING.md, "What a port owes", has the reasons.
 */
#ifndef WEFT_ARCH_H
#define WEFT_ARCH_H

#include <stdint.h>

/* Save the callee-saved registers and the floating-point control words on the
 * current stack, store the stack pointer in *save, continue where the context
 * whose stack pointer is `to` was saved. There arch_switch returns `pass`. The
 * unwind information is right at every instruction. */
void *arch_switch(void **save, void *to, void *pass);

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

#if defined(__x86_64__)
#include "x86_64/arch_cpu.h"
#elif defined(__aarch64__)
#include "aarch64/arch_cpu.h"
#else
#error "weft has no port to this processor; see HACKING.md, What a port owes"
#endif

#endif
