/* SPDX-License-Identifier: MIT
 *
 * preempt.S: a call that code makes without knowing of it. inject.c has arranged that
 * the interrupted code goes on here, at arch_inject_entry, on its own stack, and has
 * laid two words below its red zone. S is its stack pointer:
 *
 *      S        where it was interrupted: every register is live
 *      S - 128  end of the red zone
 *      S - 136  the interrupted instruction
 *      S - 144  the function to call            <- rsp; then rbp goes there
 *      S - 152  the function to call
 *      S - 160  rflags
 *      S - 168 ... S - 272  rax rcx rdx rbx rsi rdi r8 ... r15
 *      ...      XSAVE area, 64-byte aligned     <- rsp at the call
 *
 * rbp's place below the return address makes it a frame as every other, for perf
 * record -g. The unwind information is right at every instruction, and says that this
 * is a signal's frame: the caller is at its very instruction, not behind a call.
 *
 * The function called finds what C code may expect: direction flag clear, x87 stack
 * empty, upper halves of the vector registers clean. MXCSR stays that of the
 * interrupted code and the x87 control word becomes the default one: arch_switch keeps
 * both per coroutine, and what is restored here in the end is the whole state.
 *
 * What is kept is XCR0 without the protection keys, which belong to the thread, and
 * AMX tiles, with which inject.c refuses. XSAVEC where there is one: it
 * writes only what is in use. XRSTOR wants the rest of the header zero. */

#include "asm.h"

    .macro save_at reg, offset
    pushq %\reg
    .cfi_offset %\reg, \offset
    .endm

function arch_inject_entry
    .cfi_signal_frame
    .cfi_def_cfa %rsp, 144
    .cfi_offset %rip, -136
    endbr64
    xchgq %rbp, (%rsp)
    .cfi_offset %rbp, -144
    pushq %rbp
    .cfi_adjust_cfa_offset 8
    leaq 8(%rsp), %rbp
    .cfi_def_cfa %rbp, 144
    pushfq
    cld
    save_at rax, -168
    save_at rcx, -176
    save_at rdx, -184
    save_at rbx, -192
    save_at rsi, -200
    save_at rdi, -208
    save_at r8, -216
    save_at r9, -224
    save_at r10, -232
    save_at r11, -240
    save_at r12, -248
    save_at r13, -256
    save_at r14, -264
    save_at r15, -272
    movl arch_xstate+8(%rip), %ecx
    subq %rcx, %rsp
    andq $-64, %rsp
    xorl %eax, %eax
    movq %rax, 512(%rsp)
    movq %rax, 520(%rsp)
    movq %rax, 528(%rsp)
    movq %rax, 536(%rsp)
    movq %rax, 544(%rsp)
    movq %rax, 552(%rsp)
    movq %rax, 560(%rsp)
    movq %rax, 568(%rsp)
    movl arch_xstate(%rip), %eax
    movl arch_xstate+4(%rip), %edx
    movl %eax, %ebx
    cmpl $0, arch_xstate+12(%rip)
    je .Lplain
    xsavec64 (%rsp)
    jmp .Lsaved
.Lplain:
    xsave64 (%rsp)
.Lsaved:
    fninit
    testl $4, %ebx
    jz .Lcall
    vzeroupper
.Lcall:
    callq *-8(%rbp)
    movl arch_xstate(%rip), %eax
    movl arch_xstate+4(%rip), %edx
    xrstor64 (%rsp)
    leaq -128(%rbp), %rsp
    popq %r15
    .cfi_restore %r15
    popq %r14
    .cfi_restore %r14
    popq %r13
    .cfi_restore %r13
    popq %r12
    .cfi_restore %r12
    popq %r11
    .cfi_restore %r11
    popq %r10
    .cfi_restore %r10
    popq %r9
    .cfi_restore %r9
    popq %r8
    .cfi_restore %r8
    popq %rdi
    .cfi_restore %rdi
    popq %rsi
    .cfi_restore %rsi
    popq %rbx
    .cfi_restore %rbx
    popq %rdx
    .cfi_restore %rdx
    popq %rcx
    .cfi_restore %rcx
    popq %rax
    .cfi_restore %rax
    popfq
    leaq 8(%rsp), %rsp /* no flags */
    popq %rbp
    .cfi_restore %rbp
    .cfi_def_cfa %rsp, 136
    ret $128
end_function arch_inject_entry

/* Where library code returns at the end of a run (arch_return_to_left). Outermost for unwinders; they look
 * up the byte before. An exception that a callback throws through qsort, say, ends here as well
 * (cxx_left_personality). preempt_left() returns only in a child of vfork(): its result is kept. */
function arch_left
    .cfi_personality 0x1b, cxx_left_personality /* pc-relative, 4 bytes */
    .cfi_undefined %rip
    nop
    .globl arch_left_entry
    .hidden arch_left_entry
arch_left_entry:
    pushq %rax /* room for the return address */
    .cfi_adjust_cfa_offset 8
    pushq %rax
    .cfi_adjust_cfa_offset 8
    callq preempt_left
    movq %rax, 8(%rsp)
    popq %rax
    .cfi_adjust_cfa_offset -8
    ret
end_function arch_left

    object_notes
