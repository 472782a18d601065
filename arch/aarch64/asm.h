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
    .type \name, %function
    .balign 64 /* one cache line, and the same speed in every build */
\name:
    .cfi_startproc
.endm

.macro end_function name
    .cfi_endproc
    .size \name, . - \name
.endm

/* Where a pair of the caller's registers lies, from the stack pointer. */
.macro saved_at a, b, offset
    .cfi_rel_offset \a, \offset
    .cfi_rel_offset \b, \offset + 8
.endm

/* bti c, as a hint: older assemblers and processors take it for a nop. */
.macro landing_pad
    hint #34
.endm

/* Once, at the end of a file: the stack need not be executable; every indirect
 * branch target is a landing pad (BTI). A guarded control stack (GCS) is not
 * claimed: a switch would have to exchange it as well. */
.macro object_notes
    .section .note.GNU-stack, "", %progbits
    .section .note.gnu.property, "a", %note
    .balign 8
    .long 4          /* size of the name */
    .long 16         /* size of the description */
    .long 5          /* NT_GNU_PROPERTY_TYPE_0 */
    .asciz "GNU"
    .long 0xc0000000 /* GNU_PROPERTY_AARCH64_FEATURE_1_AND */
    .long 4          /* size of the value */
    .long 1          /* BTI */
    .long 0
.endm
