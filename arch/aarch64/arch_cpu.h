/* SPDX-License-Identifier: MIT
 *
 * arch_cpu.h: the inline part of the aarch64 port. Included by arch/arch.h only. */
#ifndef WEFT_ARCH_CPU_H
#define WEFT_ARCH_CPU_H

/* The frame of a saved context; switch.S has the picture. */
typedef struct {
    uintptr_t x29, x30;
    uintptr_t x19_28[10];
    uint64_t d8_15[8];
    uint64_t fpcr, unused;
} ArchFrame;
_Static_assert(sizeof(ArchFrame) == 176, "switch.S knows this layout");

/* weft_self's distance from the thread register: the same in all threads, so
 * the compiler may keep it. Initial-exec: one load in a shared library, a
 * constant after linking into a program. */
static inline uintptr_t arch_self_offset(void)
{
    uintptr_t off;
    __asm__("adrp %0, :gottprel:weft_self\n\t"
            "ldr %0, [%0, :gottprel_lo12:weft_self]"
            : "=r"(off));
    return off;
}

/* Read the thread register and the variable in one piece. Volatile: a coroutine
 * is on another thread after a switch, and neither the value nor its address may
 * be kept from before. Between the two instructions the thread cannot change:
 * code that reads the thread register is never stopped to be moved. */
static inline void *arch_self(void)
{
    void *self;
    __asm__ volatile("mrs %0, tpidr_el0\n\t"
                     "ldr %0, [%0, %1]"
                     : "=&r"(self)
                     : "r"(arch_self_offset()));
    return self;
}

static inline void arch_set_self(void *self)
{
    uintptr_t tp;
    __asm__ volatile("mrs %0, tpidr_el0\n\t"
                     "str %1, [%0, %2]"
                     : "=&r"(tp)
                     : "r"(self), "r"(arch_self_offset()));
}

/* isb holds the core back for some tens of cycles; yield is a nop on most. */
static inline void arch_pause(void)
{
    __asm__ volatile("isb");
}

/* DWARF's numbers of registers that a walk follows, and of the stack pointer. */
enum { ARCH_DWARF_REGS = 33, ARCH_DWARF_SP = 31 };
/* The relocation of a slot in the linkage table: R_AARCH64_JUMP_SLOT. */
enum { ARCH_JUMP_SLOT = 1026 };

static inline void arch_context(void *sp, ArchContext *out)
{
    const ArchFrame *f = sp;
    out->pc = f->x30;
    out->sp = (uintptr_t)(f + 1);
    out->fp = f->x29;
}

#endif
