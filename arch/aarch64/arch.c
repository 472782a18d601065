/* SPDX-License-Identifier: MIT
 *
 * arch.c: the part of the aarch64 port that is not worth assembly: the first
 * frame of a context, and Linux's signal frame. */
#include "arch/arch.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>

extern const char arch_start[]; /* in arch_entry: switch.S */

void *arch_prepare(void *top, void (*entry)(void *pass))
{
    /* The 16 bytes left over are zero, for whoever reads a frame record where
     * there is none. FPCR 0: round to nearest, no traps, no flush to zero. */
    char *base = (char *)top - 16;
    memset(base, 0, 16);
    ArchFrame *f = (ArchFrame *)(void *)base - 1;
    *f = (ArchFrame){
        .x30 = (uintptr_t)arch_start,
        .x19_28 = {(uintptr_t)entry},
    };
    return f;
}

void arch_ucontext(void *ucontext, ArchContext *out)
{
    const ucontext_t *uc = ucontext;
    out->pc = (uintptr_t)uc->uc_mcontext.pc;
    out->sp = (uintptr_t)uc->uc_mcontext.sp;
    out->fp = (uintptr_t)uc->uc_mcontext.regs[29];
}

void arch_fill_ucontext(const ArchContext *ctx, void *ucontext)
{
    ucontext_t *uc = ucontext;
    uc->uc_mcontext.pc = ctx->pc;
    uc->uc_mcontext.sp = ctx->sp;
    uc->uc_mcontext.regs[29] = ctx->fp;
}

/* A call that is to be begun again has its own instruction for the next one. */
__attribute__((no_sanitize("address"))) void arch_fail_syscall(void *ucontext)
{
    enum { SVC = 0xd4000001, NUMBER = 8 };
    ucontext_t *uc = ucontext;
    if (*(const uint32_t *)uc->uc_mcontext.pc != SVC ||
        uc->uc_mcontext.regs[NUMBER] == SYS_rt_sigreturn)
        return;
    uc->uc_mcontext.pc += 4;
    uc->uc_mcontext.regs[0] = (uint64_t)-EINTR;
}

uintptr_t arch_dwarf_load(const void *ucontext, uintptr_t *reg)
{
    const ucontext_t *uc = ucontext;
    for (int i = 0; i < 31; i++)
        reg[i] = (uintptr_t)uc->uc_mcontext.regs[i];
    reg[31] = (uintptr_t)uc->uc_mcontext.sp;
    reg[32] = (uintptr_t)uc->uc_mcontext.pc;
    return reg[32];
}

uintptr_t arch_strip(uintptr_t ret)
{
    /* xpaclri, as a hint: a nop where pointers are not signed. */
    register uintptr_t x30 __asm__("x30") = ret;
    __asm__("hint #7" : "+r"(x30));
    return x30;
}
