/* SPDX-License-Identifier: MIT
 *
 * arch_cpu.h: the inline part of the x86-64 port. Included by arch/arch.h only. */
#ifndef WEFT_ARCH_CPU_H
#define WEFT_ARCH_CPU_H

/* The frame of a saved context; switch.S has the picture. */
typedef struct {
    uint32_t mxcsr;
    uint16_t x87cw, unused;
    uintptr_t r15, r14, r13, r12, rbx, rbp;
    uintptr_t pc;
} ArchFrame;
_Static_assert(sizeof(ArchFrame) == 64, "switch.S knows this layout");

/* weft_self's distance from the thread register: the same in all threads, so
 * the compiler may keep it. Initial-exec: one load in a shared library, a
 * constant after linking into a program. */
static inline uintptr_t arch_self_offset(void)
{
    uintptr_t off;
    __asm__("movq weft_self@gottpoff(%%rip), %0" : "=r"(off));
    return off;
}

/* One instruction reads the thread register and the variable. Volatile: a
 * coroutine is on another thread after a switch, and neither the value nor its
 * address may be kept from before. */
static inline void *arch_self(void)
{
    void *self;
    __asm__ volatile("movq %%fs:(%1), %0" : "=r"(self) : "r"(arch_self_offset()));
    return self;
}

static inline void arch_set_self(void *self)
{
    __asm__ volatile("movq %0, %%fs:(%1)" : : "r"(self), "r"(arch_self_offset()));
}

static inline void arch_pause(void)
{
    __asm__ volatile("pause");
}

/* DWARF's numbers of registers that a walk follows, and of the stack pointer. */
enum { ARCH_DWARF_REGS = 17, ARCH_DWARF_SP = 7 };
/* The relocation of a slot in the linkage table: R_X86_64_JUMP_SLOT. */
enum { ARCH_JUMP_SLOT = 7 };

static inline void arch_context(void *sp, ArchContext *out)
{
    const ArchFrame *f = sp;
    out->pc = f->pc;
    out->sp = (uintptr_t)(f + 1);
    out->fp = f->rbp;
}

#endif
