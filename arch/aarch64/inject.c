/* SPDX-License-Identifier: MIT
 *
 * inject.c: make interrupted code call a function. preempt.S has the picture. */
#include "arch/arch.h"

#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

extern const char arch_inject_entry[];

/* What rt_sigreturn finds at the stack pointer; the first part is the kernel's siginfo, which it does
 * not look at. */
typedef struct {
    void (*fn)(void);
    uint64_t unused;
    uint64_t record[2]; /* a frame record for those who follow x29 */
    char info[128 - 32];
    ucontext_t uc;
} Frame;
_Static_assert(sizeof(Frame) == 4688 && offsetof(Frame, uc.uc_mcontext.regs) == 312 &&
                   offsetof(Frame, uc.uc_mcontext.pc) == 568,
               "the kernel and preempt.S know this layout");
void arch_inject_call(Frame *f); /* called by preempt.S */

/* Records in the signal frame behind the general registers. */
enum {
    RECORD_FPSIMD = 0x46508001,
    RECORD_ESR = 0x45535201,
    RECORD_FPMR = 0x46504d52,
    RECORD_SVE = 0x53564501,
    RECORD_ZA = 0x54366345,
    RECORD_TPIDR2 = 0x54504902,
    UNUSED = 16 /* the size of an SVE or ZA record without content */
};

/* All the state is in the frame, and none of it belongs to the thread. SVE and SME in use, and what we do
 * not know, is refused. */
static bool frame_is_whole(const ucontext_t *uc)
{
    const char *at = (const char *)uc->uc_mcontext.__reserved;
    const char *end = at + sizeof(uc->uc_mcontext.__reserved);
    bool vectors = false;
    while (end - at >= 16) {
        uint32_t magic, size;
        uint64_t value;
        memcpy(&magic, at, 4);
        memcpy(&size, at + 4, 4);
        memcpy(&value, at + 8, 8);
        if (magic == 0)
            return vectors;
        if (size < 16 || size > (size_t)(end - at))
            return false;
        if (magic == RECORD_FPSIMD)
            vectors = true;
        else if (magic == RECORD_SVE || magic == RECORD_ZA) {
            if (size > UNUSED)
                return false;
        } else if (magic == RECORD_TPIDR2) {
            if (value != 0)
                return false;
        } else if (magic != RECORD_ESR && magic != RECORD_FPMR)
            return false;
        at += size;
    }
    return false;
}

size_t arch_inject_space(void)
{
    return sizeof(Frame);
}

/* The stack may have the address sanitizer's marks. */
__attribute__((no_sanitize("address"))) bool arch_inject(void *ucontext, void (*fn)(void))
{
    ucontext_t *uc = ucontext;
    uintptr_t sp = (uintptr_t)uc->uc_mcontext.sp;
    if (sp % 16 != 0 || !frame_is_whole(uc))
        return false;
    Frame *f = (Frame *)sp - 1;
    f->fn = fn;
    f->record[0] = uc->uc_mcontext.regs[29];
    f->record[1] = uc->uc_mcontext.pc;
    f->uc = *uc;
    uc->uc_mcontext.sp = (uintptr_t)f;
    uc->uc_mcontext.pc = (uintptr_t)arch_inject_entry;
    return true;
}

/* rt_sigreturn installs the alternate stack and the signal mask that it finds: those of the thread that
 * runs this in the end, which may not be the one that was interrupted. */
void arch_inject_call(Frame *f)
{
    f->fn();
    syscall(SYS_sigaltstack, NULL, &f->uc.uc_stack);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, NULL, &f->uc.uc_sigmask, 8);
}

/* Guarded control stacks: each thread has a list of the addresses that it may return to. */
static bool has_guarded_stack(void)
{
    register uint64_t x16 __asm__("x16") = 1;
    __asm__("hint #40" : "+r"(x16)); /* chkfeat: clears the bit if they are in use; else a nop */
    return x16 == 0;
}

/* The stack may have the address sanitizer's marks. */
__attribute__((no_sanitize("address"))) bool arch_return_to_left(void *ucontext, uintptr_t *at,
                                                                 uintptr_t from)
{
    typedef uintptr_t __attribute__((may_alias)) Word;
    ucontext_t *uc = ucontext;
    Word *word = at != NULL ? (Word *)at : (Word *)&uc->uc_mcontext.regs[30];
    if (*word != from || has_guarded_stack()) /* a signed address differs */
        return false;
    *word = (uintptr_t)arch_left_entry;
    return true;
}
