/* SPDX-License-Identifier: MIT
 *
 * preempt.S: a call that code makes without knowing of it. Every register may be
 * live, x16, x17 and x18 too, and no instruction of this processor jumps to an address in
 * memory: so what a signal interrupted can only be resumed by the kernel. inject.c
 * has copied the kernel's signal frame to the interrupted code's own stack, and the
 * code goes on here with the stack pointer at the copy. When the function has returned, on
 * whatever thread, the copy is given to rt_sigreturn.
 *
 * No unwind information, on purpose: DWARF has no agreed column for a pc beside a live
 * x30. What gdb, libgcc and libunwind all know is how a signal's frame looks on this system:
 * a return address without an FDE that leads to these two instructions, with the frame at
 * the stack pointer. So the function called is seen as a signal's handler, which
 * was called at the interrupted instruction. (They look for an FDE one byte before the return
 * address as well: the four instructions before it have none either.) */

#include "asm.h"

    .text
    .globl arch_inject_entry
    .hidden arch_inject_entry
    .type arch_inject_entry, %function
    .balign 64
arch_inject_entry:
    landing_pad
    mov x0, sp
    add x29, sp, #16 /* the frame record in the frame */
    adr x30, 1f
    b arch_inject_call
    nop
1:  mov x8, #139 /* rt_sigreturn */
    svc #0
    brk #1000
    .size arch_inject_entry, . - arch_inject_entry

/* Where library code returns at the end of a run (arch_return_to_left). Outermost for unwinders; they look
 * up the byte before. An exception that a callback throws through qsort, say, ends here as well
 * (cxx_left_personality). preempt_left() returns only in a child of vfork(): its result is kept. */
function arch_left
    .cfi_personality 0x1b, cxx_left_personality /* pc-relative, 4 bytes */
    .cfi_undefined x30
    nop
    .globl arch_left_entry
    .hidden arch_left_entry
arch_left_entry:
    str x0, [sp, #-16]!
    .cfi_adjust_cfa_offset 16
    bl preempt_left
    mov x30, x0
    ldr x0, [sp], #16
    .cfi_adjust_cfa_offset -16
    ret
end_function arch_left

    object_notes
