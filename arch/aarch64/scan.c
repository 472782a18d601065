/* SPDX-License-Identifier: MIT
 *
 * scan.c: reading AArch64 machine code for safepoint.c: jumps and calls, and
 * whether an instruction touches what belongs to the thread.
 *
 * All instructions are four bytes long, and those of interest are few; the others need
 * not be known. Belongs to the thread: the thread registers (TPIDR_EL0, TPIDRRO_EL0,
 * TPIDR2_EL0; the stack protector's guard is a global variable here), svc and its like.
 *
 * Addresses are made by ADRP and an ADD or a load that comes later (-fno-plt calls
 * through the global offset table do so). Which ADRP a load belongs to cannot be known from
 * one pass over the code: there are jumps between them, and pages get copied
 * and spilled. To forget pages at jumps would be wrong: a load whose page is not known
 * is like any load of any structure, which cannot be refused, and so the reference would be
 * missed. Therefore an ArchScan is the set of all pages of a function, whatever
 * register they are for, and safepoint.c tries each offset with each of them: it sees
 * all references that there are, and some that there are not. Such a one
 * matters only if it hits by chance the slot of a function that must not be called. */
#include "runtime/safepoint.h"

#include <string.h>

static uint32_t word_at(const uint8_t *p)
{
    uint32_t w;
    memcpy(&w, p, sizeof(w));
    return w;
}

/* The `bits` bits of w from `low`, sign-extended, in words. */
static uintptr_t offset_words(uint32_t w, unsigned low, unsigned bits)
{
    int64_t v = (int64_t)((uint64_t)w << (64 - low - bits)) >> (64 - bits);
    return (uintptr_t)(v * 4);
}

static uintptr_t adrp_page(uint32_t w, uintptr_t pc)
{
    uint64_t imm = (w >> 5 & 0x7ffff) << 2 | (w >> 29 & 3);
    return (pc & ~(uintptr_t)4095) + (uintptr_t)((int64_t)(imm << 43) >> 31);
}

/* mrs, msr of CRn 13 with op1 3: the thread registers. */
static bool is_thread(uint32_t w)
{
    bool move = (w & 0xffd00000) == 0xd5100000;
    bool exception = (w & 0xff000000) == 0xd4000000 && (w & 0xffe0001f) != 0xd4200000; /* not brk */
    return exception || (move && (w >> 16 & 7) == 3 && (w >> 12 & 15) == 13);
}

/* false: too many. */
static bool page_add(ArchScan *scan, uintptr_t page)
{
    enum { PAGES = sizeof(scan->page) / sizeof(scan->page[0]) };
    for (int i = 0; i < PAGES; i++) {
        if (scan->page[i] == 0)
            scan->page[i] = page;
        if (scan->page[i] == page)
            return true;
    }
    return false;
}

/* A load of 8 bytes, or an add, with an unsigned offset. */
bool arch_page_offset(const uint8_t *code, uintptr_t *offset)
{
    uint32_t w = word_at(code), imm = w >> 10 & 0xfff;
    bool load = (w & 0xffc00000) == 0xf9400000;
    *offset = load ? imm * 8 : imm;
    return load || (w & 0xffc00000) == 0x91000000;
}

void arch_decode(ArchScan *scan, const uint8_t *code, const uint8_t *end, ArchInsn *out)
{
    *out = (ArchInsn){.kind = INSN_BAD};
    if (end - code < 4 || (uintptr_t)code % 4 != 0)
        return;
    uint32_t w = word_at(code);
    uintptr_t pc = (uintptr_t)code;
    out->size = 4;
    out->kind = INSN_PLAIN;
    if (w >> 16 == 0) { /* udf: not code */
        out->size = 0;
        out->kind = INSN_BAD;
    } else if (w >> 26 == 0x25) { /* bl */
        out->kind = INSN_CALL;
        out->target = pc + offset_words(w, 0, 26);
    } else if (w >> 26 == 0x05) { /* b */
        out->kind = INSN_JUMP;
        out->target = pc + offset_words(w, 0, 26);
    } else if (w >> 24 == 0x54 || (w & 0x7e000000) == 0x34000000) { /* b.cond, cbz, cbnz */
        out->kind = INSN_JUMP;
        out->target = pc + offset_words(w, 5, 19);
    } else if ((w & 0x7e000000) == 0x36000000) { /* tbz, tbnz */
        out->kind = INSN_JUMP;
        out->target = pc + offset_words(w, 5, 14);
    } else if ((w & 0xfefff000) == 0xd61f0000) { /* br, also braa */
        out->kind = INSN_INDIRECT;
    } else if (is_thread(w)) {
        out->kind = INSN_THREAD;
    } else if ((w & 0x9f000000) == 0x90000000) { /* adrp */
        if (!page_add(scan, adrp_page(w, pc)))
            out->kind = INSN_BAD;
    } else if ((w & 0x9f000000) == 0x10000000 || (w & 0xff000000) == 0x58000000) { /* adr, ldr =x */
        uint64_t imm = (w >> 5 & 0x7ffff) << 2 | (w >> 29 & 3);
        out->kind = INSN_REF;
        out->target = (w >> 31) == 0 && (w & 0x9f000000) == 0x10000000
                          ? pc + (uintptr_t)((int64_t)(imm << 43) >> 43)
                          : pc + offset_words(w, 5, 19);
    }
}

void arch_call_before(const uint8_t *ret, const uint8_t *start, ArchInsn *out)
{
    *out = (ArchInsn){.kind = INSN_BAD};
    if (ret - start < 4)
        return;
    uint32_t w = word_at(ret - 4);
    out->size = 4;
    if (w >> 26 == 0x25) {
        out->kind = INSN_CALL;
        out->target = (uintptr_t)ret - 4 + offset_words(w, 0, 26);
    } else if ((w & 0xfefff000) == 0xd63f0000) { /* blr, also blraa */
        out->kind = INSN_PLAIN;
    }
}

uintptr_t arch_stub_slot(const uint8_t *code, const uint8_t *end)
{
    if (end - code >= 4 && word_at(code) == 0xd503245f) /* bti c */
        code += 4;
    if (end - code < 16 || (uintptr_t)code % 4 != 0)
        return 0;
    /* adrp x16; ldr x17, [x16, #]; add x16, x16, #; br x17 */
    uint32_t page = word_at(code), load = word_at(code + 4);
    if ((page & 0x9f00001f) != 0x90000010 || (load & 0xffc003ff) != 0xf9400211 ||
        (word_at(code + 8) & 0xffc003ff) != 0x91000210)
        return 0;
    return adrp_page(page, (uintptr_t)code) + (load >> 10 & 0xfff) * 8;
}

/* stp x16, x30, [sp, #-16]!: the linkage table's first entry, which all slots lead to at first. */
bool arch_is_binder(const uint8_t *code, const uint8_t *end)
{
    if (end - code >= 4 && word_at(code) == 0xd503245f) /* bti c */
        code += 4;
    return end - code < 4 || word_at(code) == 0xa9bf7bf0;
}
