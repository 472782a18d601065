/* SPDX-License-Identifier: MIT
 *
 * asm.h: the frame around every assembly function of this port, so that none
 * goes without symbol type and size, unwind information, a landing pad for
 * indirect branches, or the notes of its object file. */
/* clang-format off */

/* A function of the library, not exported. */
.macro function name
    .text
    .globl \name
    .hidden \name
    .type \name, @function
    .balign 64 /* one cache line, and the same speed in every build */
\name:
    .cfi_startproc
.endm

.macro end_function name
    .cfi_endproc
    .size \name, . - \name
.endm

/* push and pop that keep the unwind information right: the register of the
 * caller's frame lies in the stack from the instruction after the push up to
 * and including the pop. */
.macro save reg
    pushq %\reg
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %\reg, 0
.endm

.macro restore reg
    popq %\reg
    .cfi_adjust_cfa_offset -8
    .cfi_restore %\reg
.endm

/* Once, at the end of a file: the stack need not be executable; every indirect
 * branch target starts with endbr64 (IBT). A shadow stack (SHSTK) is not
 * claimed: a switch would have to exchange it as well. */
.macro object_notes
    .section .note.GNU-stack, "", @progbits
    .section .note.gnu.property, "a", @note
    .balign 8
    .long 4          /* size of the name */
    .long 16         /* size of the description */
    .long 5          /* NT_GNU_PROPERTY_TYPE_0 */
    .asciz "GNU"
    .long 0xc0000002 /* GNU_PROPERTY_X86_FEATURE_1_AND */
    .long 4          /* size of the value */
    .long 1          /* IBT */
    .long 0
.endm
