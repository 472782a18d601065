/* SPDX-License-Identifier: MIT
 *
 * switch.S: from one context to another, and the first frame of a new one.
 *
 * A context that is not running is a stack pointer; above it lie (the offsets
 * are those of arch_cpu.h):
 *
 *      0  MXCSR (4 bytes), x87 control word (2), 2 unused
 *      8  r15   16 r14   24 r13   32 r12   40 rbx   48 rbp
 *     56  return address
 *
 * Unwinding. As both stacks look the same when the stack pointer is exchanged,
 * one description of the frame is right before and after it: the debugger that
 * stops on any instruction sees a caller, the one that left before the exchange
 * and the one that comes back after it. rbp is a frame pointer throughout, for
 * perf record -g; at the one instruction after the exchange it still leads up
 * the old stack, which is a whole chain too.
 *
 * Floating point. The psABI makes the control bits callee-saved, so each context
 * has its own. To store them is nearly free, to load them costs more than all the
 * rest of a switch: they are loaded only when they differ. The exception flags
 * in MXCSR (its low 6 bits) are scratch across calls by the same rule, and
 * differ all the time: they stay with the thread. The two words are read back
 * as they were written, with 4 and 2 bytes: a wider load could not be forwarded
 * from the stores and would stall.
 *
 * Prediction. A mispredicted branch costs more than the rest of the switch. A
 * return is predicted by the call that it matches: right if the other context
 * left from the same call, as in most switches between coroutines, and then the
 * returns of the callers above are right as well, as far as they are the same.
 * For a context that left elsewhere, or has not run yet, a return is always
 * predicted wrong, an indirect jump by what followed last time. So look which of
 * the two it is. Measured here, ns a switch, return / jump / this: same place
 * 5.3 / 16 / 5.3; other place 15 / 4.8 / 4.7; prepare, enter and leave a new
 * context 29 / 7.5 / 7.8.
 *   arch_park has no call of its own that a return could match: it always jumps, and
 * the prediction that is next is for the user's call, where arch_parked's sequel
 * returns to. */

#include "asm.h"

/* void *arch_switch(void **save (rdi), void *to (rsi), void *pass (rdx)) */
function arch_switch
    endbr64
    movq (%rsp), %r9    /* where we left */
.Lleave:
    save rbp
    movq %rsp, %rbp
    save rbx
    save r12
    save r13
    save r14
    save r15
    subq $8, %rsp
    .cfi_adjust_cfa_offset 8
    stmxcsr (%rsp)
    fnstcw 4(%rsp)
    movl (%rsp), %ecx
    movzwl 4(%rsp), %r8d
    movq %rsp, (%rdi)
    movq %rsi, %rsp     /* the exchange */
    leaq 48(%rsp), %rbp
    movq %rdx, %rax
    xorl (%rsp), %ecx
    xorw 4(%rsp), %r8w
    andl $~0x3f, %ecx
    orl %r8d, %ecx
    jnz .Lload_control
.Lrestore:
    addq $8, %rsp
    .cfi_adjust_cfa_offset -8
    restore r15
    restore r14
    restore r13
    restore r12
    restore rbx
    restore rbp
    cmpq %r9, (%rsp)
    jne .Lother_place
    ret

.Lother_place:
    popq %rcx
    .cfi_adjust_cfa_offset -8
    .cfi_register %rip, %rcx
    notrack jmp *%rcx /* after a call there is no endbr64 */

.Lload_control:
    .cfi_def_cfa_offset 64
    .cfi_offset %rip, -8
    .cfi_rel_offset %r15, 8
    .cfi_rel_offset %r14, 16
    .cfi_rel_offset %r13, 24
    .cfi_rel_offset %r12, 32
    .cfi_rel_offset %rbx, 40
    .cfi_rel_offset %rbp, 48
    ldmxcsr (%rsp)
    fldcw 4(%rsp)
    jmp .Lrestore
end_function arch_switch

/* int arch_park(void **save (rdi), void *to (rsi), void *pass (rdx)). A switch whose
 * caller seems to be arch_parked, which was called where arch_park was. Unwinders look
 * up the byte before a return address, so there is one before arch_parked. A chain of
 * frame pointers leaves out one function, as always where none was set up. */
function arch_park
    endbr64
    leaq arch_parked(%rip), %rcx
    pushq %rcx
    .cfi_adjust_cfa_offset 8
    xorl %r9d, %r9d /* no place: jump */
    jmp .Lleave
    .cfi_adjust_cfa_offset -8
    nop
    .globl arch_parked
    .hidden arch_parked
arch_parked:
    movq %rax, %rdi
    .hidden sched_parked
    jmp sched_parked
end_function arch_park

/* The caller of every coroutine's first function. arch_prepare's frame makes
 * the first arch_switch return to arch_start with rax = pass, rbx = the function,
 * rbp = 0 and the stack aligned. Here every unwinder stops: there is no return
 * address, and no frame pointer. arch_start is not the function's first byte
 * because unwinders look up the byte before a return address, and arch_start is
 * one while the context waits for its first run. */
function arch_entry
    .cfi_undefined %rip
    nop
    .globl arch_start
    .hidden arch_start
arch_start:
    movq %rax, %rdi
    callq *%rbx
    ud2 /* the function must not return */
end_function arch_entry

/* What arch_self() reads. Defined here, because link-time optimisation does not
 * see the references in arch_cpu.h's assembly. */
    .section .tbss, "awT", @nobits
    .globl weft_self
    .hidden weft_self
    .type weft_self, @tls_object
    .size weft_self, 8
    .balign 8
weft_self:
    .zero 8

    object_notes
