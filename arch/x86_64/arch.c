/* SPDX-License-Identifier: MIT
 *
 * arch.c: the part of the x86-64 port that is not worth assembly: the first
 * frame of a context, and Linux's signal frame. */
#include "arch/arch.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>

extern const char arch_start[]; /* in arch_entry: switch.S */

/* What the kernel gives a new program: all exceptions masked, round to nearest;
 * x87 in 64-bit precision. */
enum { MXCSR_DEFAULT = 0x1f80, X87CW_DEFAULT = 0x037f };

void *arch_prepare(void *top, void (*entry)(void *pass))
{
    /* arch_start runs with the stack pointer just above the frame, and calls:
     * it must be a multiple of 16 there. The 16 bytes left over are zero, for
     * whoever reads a return address where there is none. */
    char *base = (char *)top - 16;
    memset(base, 0, 16);
    ArchFrame *f = (ArchFrame *)(void *)base - 1;
    *f = (ArchFrame){
        .mxcsr = MXCSR_DEFAULT,
        .x87cw = X87CW_DEFAULT,
        .rbx = (uintptr_t)entry,
        .pc = (uintptr_t)arch_start,
    };
    return f;
}

void arch_ucontext(void *ucontext, ArchContext *out)
{
    const ucontext_t *uc = ucontext;
    const greg_t *reg = uc->uc_mcontext.gregs;
    out->pc = (uintptr_t)reg[REG_RIP];
    out->sp = (uintptr_t)reg[REG_RSP];
    out->fp = (uintptr_t)reg[REG_RBP];
}

void arch_fill_ucontext(const ArchContext *ctx, void *ucontext)
{
    ucontext_t *uc = ucontext;
    greg_t *reg = uc->uc_mcontext.gregs;
    reg[REG_RIP] = (greg_t)ctx->pc;
    reg[REG_RSP] = (greg_t)ctx->sp;
    reg[REG_RBP] = (greg_t)ctx->fp;
}

/* A call that is to be begun again has its own instruction for the next one. */
__attribute__((no_sanitize("address"))) void arch_fail_syscall(void *ucontext)
{
    static const uint8_t syscall_insn[2] = {0x0f, 0x05};
    ucontext_t *uc = ucontext;
    greg_t *reg = uc->uc_mcontext.gregs;
    const uint8_t *pc = (const uint8_t *)reg[REG_RIP];
    if (pc[0] != syscall_insn[0] || pc[1] != syscall_insn[1] || reg[REG_RAX] == SYS_rt_sigreturn)
        return;
    reg[REG_RIP] += 2;
    reg[REG_RAX] = -EINTR;
}

uintptr_t arch_dwarf_load(const void *ucontext, uintptr_t *reg)
{
    static const uint8_t number[ARCH_DWARF_REGS] = {
        REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI, REG_RBP, REG_RSP, REG_R8,
        REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15, REG_RIP,
    };
    const ucontext_t *uc = ucontext;
    for (int i = 0; i < ARCH_DWARF_REGS; i++)
        reg[i] = (uintptr_t)uc->uc_mcontext.gregs[number[i]];
    return reg[16];
}

uintptr_t arch_strip(uintptr_t ret)
{
    return ret;
}
