/* SPDX-License-Identifier: MIT
 *
 * switch.S: from one context to another, and the first frame of a new one.
 *
 * A context that is not running is a stack pointer; above it lie (the offsets
 * are those of arch_cpu.h):
 *
 *      0  x29, x30    16  x19, x20 ... 80  x27, x28
 *     96  d8, d9 ... 144  d14, d15   160  FPCR, 8 unused
 *
 * x29 and x30 lie lowest so that they are an AAPCS64 frame record, and x29 leads
 * up a whole chain at every instruction.
 *
 * Unwinding. As both stacks look the same when the stack pointer is exchanged,
 * one description of the frame is right before and after it: whoever stops on
 * any instruction sees a caller, the one that left before the exchange and the
 * one that comes back after it.
 *
 * Floating point. FPCR (rounding, flush to zero) is callee-saved in effect, so
 * each context has its own. Writing it is slow: only when it differs. FPSR, the
 * exception flags, is scratch across calls and stays with the thread. Of the
 * vector registers the procedure call standard preserves the low halves of
 * v8 to v15; SVE's and SME's state is scratch.
 *
 * Prediction. x86_64/switch.S jumps to a context that left elsewhere. Here a
 * jump needs a landing pad where BTI is on, and a return address has none. But from
 * arch_park to arch_parked a direct branch leads; then the prediction that is next is for
 * the user's call, where arch_parked's sequel returns to. */

#include "asm.h"

/* void *arch_switch(void **save (x0), void *to (x1), void *pass (x2)) */
function arch_switch
    landing_pad
    mov x11, xzr
.Lleave: /* x11: arch_parked if it is our return address */
    stp x29, x30, [sp, #-176]!
    .cfi_adjust_cfa_offset 176
    saved_at x29, x30, 0
    mov x29, sp
    stp x19, x20, [sp, #16]
    saved_at x19, x20, 16
    stp x21, x22, [sp, #32]
    saved_at x21, x22, 32
    stp x23, x24, [sp, #48]
    saved_at x23, x24, 48
    stp x25, x26, [sp, #64]
    saved_at x25, x26, 64
    stp x27, x28, [sp, #80]
    saved_at x27, x28, 80
    stp d8, d9, [sp, #96]
    saved_at d8, d9, 96
    stp d10, d11, [sp, #112]
    saved_at d10, d11, 112
    stp d12, d13, [sp, #128]
    saved_at d12, d13, 128
    stp d14, d15, [sp, #144]
    saved_at d14, d15, 144
    mrs x9, fpcr
    str x9, [sp, #160]
    mov x10, sp
    str x10, [x0]
    mov sp, x1          /* the exchange */
    mov x29, sp
    mov x0, x2
    ldr x10, [sp, #160]
    cmp x9, x10
    b.ne .Lload_control
.Lrestore:
    ldp d14, d15, [sp, #144]
    .cfi_restore d14
    .cfi_restore d15
    ldp d12, d13, [sp, #128]
    .cfi_restore d12
    .cfi_restore d13
    ldp d10, d11, [sp, #112]
    .cfi_restore d10
    .cfi_restore d11
    ldp d8, d9, [sp, #96]
    .cfi_restore d8
    .cfi_restore d9
    ldp x27, x28, [sp, #80]
    .cfi_restore x27
    .cfi_restore x28
    ldp x25, x26, [sp, #64]
    .cfi_restore x25
    .cfi_restore x26
    ldp x23, x24, [sp, #48]
    .cfi_restore x23
    .cfi_restore x24
    ldp x21, x22, [sp, #32]
    .cfi_restore x21
    .cfi_restore x22
    ldp x19, x20, [sp, #16]
    .cfi_restore x19
    .cfi_restore x20
    ldp x29, x30, [sp], #176
    .cfi_adjust_cfa_offset -176
    .cfi_restore x29
    .cfi_restore x30
    cmp x30, x11
    b.eq arch_parked
    ret

.Lload_control:
    .cfi_adjust_cfa_offset 176
    saved_at x29, x30, 0
    saved_at x19, x20, 16
    saved_at x21, x22, 32
    saved_at x23, x24, 48
    saved_at x25, x26, 64
    saved_at x27, x28, 80
    saved_at d8, d9, 96
    saved_at d10, d11, 112
    saved_at d12, d13, 128
    saved_at d14, d15, 144
    msr fpcr, x10
    b .Lrestore
end_function arch_switch

/* int arch_park(void **save (x0), void *to (x1), void *pass (x2)). A switch whose
 * caller seems to be arch_parked, which was called where arch_park was. What that was
 * called with lies above, as a frame record. Unwinders look up the byte before a return
 * address, so there is one before arch_parked. */
function arch_park
    landing_pad
    stp x29, x30, [sp, #-16]!
    .cfi_adjust_cfa_offset 16
    saved_at x29, x30, 0
    mov x29, sp
    adr x30, arch_parked
    mov x11, x30
    b .Lleave
    nop
    .globl arch_parked
    .hidden arch_parked
arch_parked:
    ldp x29, x30, [sp], #16
    .cfi_adjust_cfa_offset -16
    .cfi_restore x29
    .cfi_restore x30
    .hidden sched_parked
    b sched_parked
end_function arch_park

/* The caller of every coroutine's first function. arch_prepare's frame makes
 * the first arch_switch return to arch_start with x0 = pass, x19 = the function,
 * x29 = 0. Here every unwinder stops: there is no return address (x30 undefined,
 * and 0 in the frame record), and no frame pointer. arch_start is not the
 * function's first instruction because unwinders look up the byte before a
 * return address, and arch_start is one while the context waits for its first
 * run. */
function arch_entry
    .cfi_undefined x30
    nop
    .globl arch_start
    .hidden arch_start
arch_start:
    mov x30, xzr
    blr x19
    brk #1000 /* the function must not return */
end_function arch_entry

/* What arch_self() reads. Defined here, because link-time optimisation does not
 * see the references in arch_cpu.h's assembly. */
    .section .tbss, "awT", %nobits
    .globl weft_self
    .hidden weft_self
    .type weft_self, %object
    .size weft_self, 8
    .balign 8
weft_self:
    .zero 8

    object_notes
