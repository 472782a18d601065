/* SPDX-License-Identifier: MIT
 *
 * scan.c: reading x86-64 machine code for safepoint.c: where an instruction ends,
 * and whether it touches what belongs to the thread.
 *
 * The decoder knows the layout of every instruction that compilers emit for 64-bit
 * code: legacy maps, VEX and EVEX. Rule: what is not known to be harmless is
 * INSN_BAD, and a function with one bad instruction is not moved. So the tables
 * list what is valid; AMX, XOP, APX, 3DNow and the
 * instructions of an operating system are left out on purpose.
 *
 * A table has one letter for each opcode:
 *   .  no operand bytes              m  ModRM
 *   b  imm8                          M  ModRM, imm8
 *   z  imm32, or imm16 with 66       Z  ModRM, immz
 *   w  imm16                         E  imm16, imm8 (enter)
 *   v  imm32, imm16 with 66, imm64 with REX.W (mov)
 *   o  address of 8 bytes, 4 with 67
 *   r  rel8                          R  rel32
 *   g  ModRM, imm8 if reg is 0, 1    G  ModRM, immz if reg is 0, 1
 *   t  belongs to the thread         T  the same with ModRM
 *   x  not valid, or not known
 *
 * Belongs to the thread: memory through %fs or %gs (all but a load of %fs:0x28, the
 * stack protector's guard, which is the same in all threads), their bases and
 * selectors, the kernel's entries, protection keys, the shadow stack pointer. */
#include "runtime/safepoint.h"

#include <string.h>

static const char one_byte[257] = "mmmmbzxxmmmmbzxx"  /* 00 */
                                  "mmmmbzxxmmmmbzxx"  /* 10 */
                                  "mmmmbzxxmmmmbzxx"  /* 20: 26, 2e are prefixes */
                                  "mmmmbzxxmmmmbzxx"  /* 30: 36, 3e are prefixes */
                                  "xxxxxxxxxxxxxxxx"  /* 40: REX */
                                  "................"  /* 50 */
                                  "xxxmxxxxzZbMxxxx"  /* 60: no ins, outs */
                                  "rrrrrrrrrrrrrrrr"  /* 70 */
                                  "MZxMmmmmmmmmTmTm"  /* 80: 8c, 8e move selectors */
                                  "..........x....."  /* 90 */
                                  "oooo....bz......"  /* a0 */
                                  "bbbbbbbbvvvvvvvv"  /* b0 */
                                  "MMw.xxMZE.xx.txx"  /* c0: c4, c5 are VEX; no iret */
                                  "mmmmxxx.mmmmmmmm"  /* d0 */
                                  "rrrrxxxxRRxrxxxx"  /* e0: no in, out */
                                  "x.xx..gG..xx..mm"; /* f0: no cli, sti */

static const char two_byte[257] = "xsxmxtxxxxx.xmxx"  /* 00 */
                                  "mmmmmmmmmmmmmmsm"  /* 10 */
                                  "xxxxxxxxmmmmmmmm"  /* 20 */
                                  "x.x.txxxxxxxxxxx"  /* 30: 38, 3a are escapes */
                                  "mmmmmmmmmmmmmmmm"  /* 40 */
                                  "mmmmmmmmmmmmmmmm"  /* 50 */
                                  "mmmmmmmmmmmmmmmm"  /* 60 */
                                  "MMMMmmm.xxxxmmmm"  /* 70 */
                                  "RRRRRRRRRRRRRRRR"  /* 80 */
                                  "mmmmmmmmmmmmmmmm"  /* 90 */
                                  "tt.mMmxxttxmMmsm"  /* a0 */
                                  "mmxmTTmmmmMmmmmm"  /* b0 */
                                  "mmMmMMMs........"  /* c0 */
                                  "mmmmmmmmmmmmmmmm"  /* d0 */
                                  "mmmmmmmmmmmmmmmm"  /* e0 */
                                  "mmmmmmmmmmmmmmmm"; /* f0 */

enum { REX_W = 8, REX_X = 2 };
enum { MAP_ONE, MAP_0F, MAP_0F38, MAP_0F3A };
enum { LONGEST = 15 };

/* An instruction being read. */
typedef struct {
    const uint8_t *at, *end; /* what is read next; nothing is read from end on */
    bool over;               /* end was met */
    bool opsize, addrsize, repne, rep;
    uint8_t segment, rex; /* 0x64, 0x65 or 0; the REX prefix or 0 */
    uint8_t map, opcode;
    bool vex, evex;
    bool has_modrm;
    uint8_t modrm, sib;
    bool relative, absolute; /* memory operand: disp(%rip); disp alone */
    int32_t disp;
    uint64_t imm; /* sign-extended */
    bool has_imm;
} Reader;

static uint8_t next_byte(Reader *r)
{
    if (r->at >= r->end) {
        r->over = true;
        return 0;
    }
    return *r->at++;
}

static uint64_t next_number(Reader *r, size_t size)
{
    if (size == 4 && r->end - r->at >= 4) {
        int32_t n;
        memcpy(&n, r->at, 4);
        r->at += 4;
        return (uint64_t)(int64_t)n;
    }
    uint64_t v = 0;
    for (size_t i = 0; i < size; i++)
        v |= (uint64_t)next_byte(r) << (8 * i);
    if (size < 8 && (v >> (8 * size - 1)) != 0)
        v |= ~0ull << (8 * size);
    return v;
}

static uint8_t modrm_mod(const Reader *r)
{
    return r->modrm >> 6;
}

static uint8_t modrm_reg(const Reader *r)
{
    return r->modrm >> 3 & 7;
}

static void read_prefixes(Reader *r)
{
    for (;;) {
        uint8_t b = next_byte(r);
        switch (b) {
        case 0x66:
            r->opsize = true;
            break;
        case 0x67:
            r->addrsize = true;
            break;
        case 0xf2:
            r->repne = true;
            break;
        case 0xf3:
            r->rep = true;
            break;
        case 0x64:
        case 0x65:
            r->segment = b;
            break;
        case 0x26:
        case 0x2e:
        case 0x36:
        case 0x3e:
        case 0xf0:
            break;
        default:
            if ((b & 0xf0) == 0x40) {
                r->rex = b; /* counts only right before the opcode */
                continue;
            }
            r->opcode = b;
            return;
        }
        if (r->over)
            return;
        r->rex = 0;
    }
}

/* The opcode's map, from escapes or from VEX, EVEX. false: not valid. */
static bool read_opcode(Reader *r)
{
    bool plain = r->rex == 0 && !r->opsize && !r->rep && !r->repne;
    uint8_t first = r->opcode, p;
    switch (first) {
    case 0x0f:
        r->map = MAP_0F;
        r->opcode = next_byte(r);
        if (r->opcode == 0x38 || r->opcode == 0x3a) {
            r->map = r->opcode == 0x38 ? MAP_0F38 : MAP_0F3A;
            r->opcode = next_byte(r);
        }
        return true;
    case 0xc5:
        next_byte(r);
        r->map = MAP_0F;
        break;
    case 0xc4:
        p = next_byte(r);
        r->rex = (uint8_t)(~p >> 5 & 7); /* R X B */
        r->map = p & 0x1f;
        next_byte(r);
        break;
    case 0x62:
        p = next_byte(r);
        r->evex = true;
        r->rex = (uint8_t)(~p >> 5 & 7);
        r->map = p & 7;
        if ((p & 8) != 0 || (next_byte(r) & 4) == 0)
            return false;
        next_byte(r);
        break;
    default:
        return true;
    }
    r->vex = true;
    r->opcode = next_byte(r);
    /* Maps 5 and 6 of EVEX are half-precision arithmetic, laid out like 0F38. */
    if (r->evex && (r->map == 5 || r->map == 6))
        r->map = MAP_0F38;
    return plain && r->map >= MAP_0F && r->map <= MAP_0F3A;
}

static bool in(uint8_t x, uint8_t lo, uint8_t hi)
{
    return x >= lo && x <= hi;
}

static char layout_0f38(const Reader *r)
{
    uint8_t op = r->opcode;
    if (r->evex)
        return 'm';
    if (r->vex) /* not AMX */
        return in(op, 0x48, 0x4f) || in(op, 0x5c, 0x5f) || in(op, 0x6c, 0x6f) ? 'x' : 'm';
    if (op == 0xf6)
        return r->opsize || r->rep ? 'm' : 'T'; /* adcx, adox; else a shadow stack's write */
    if (op == 0xf8)
        return r->opsize ? 'm' : 'x';
    if (in(op, 0x00, 0x0b) || in(op, 0x10, 0x15) || op == 0x17 || in(op, 0x1c, 0x1e) ||
        in(op, 0x20, 0x25) || in(op, 0x28, 0x2b) || in(op, 0x30, 0x41) || in(op, 0xc8, 0xcf) ||
        in(op, 0xdb, 0xdf) || op == 0xf0 || op == 0xf1 || op == 0xf9)
        return 'm';
    return 'x';
}

static char layout_0f3a(const Reader *r)
{
    uint8_t op = r->opcode;
    if (r->vex || in(op, 0x08, 0x0f) || in(op, 0x14, 0x17) || in(op, 0x20, 0x22) ||
        in(op, 0x40, 0x44) || in(op, 0x60, 0x63) || in(op, 0xcc, 0xcf) || op == 0xdf)
        return 'M';
    return 'x';
}

static char layout(const Reader *r)
{
    char c;
    switch (r->map) {
    case MAP_ONE:
        return one_byte[r->opcode];
    case MAP_0F38:
        return layout_0f38(r);
    case MAP_0F3A:
        return layout_0f3a(r);
    default:
        break;
    }
    c = two_byte[r->opcode];
    if (r->evex && in(r->opcode, 0x78, 0x7b))
        return 'm';
    if (r->vex) {
        if (r->opcode == 0xae)
            return 'm';
        if (r->opcode == 0x77)
            return r->evex ? 'x' : '.';
        return c == 'm' || c == 'M' ? c : 'x';
    }
    return c;
}

static void read_modrm(Reader *r)
{
    r->has_modrm = true;
    r->modrm = next_byte(r);
    uint8_t mod = modrm_mod(r), rm = r->modrm & 7;
    if (mod == 3)
        return;
    bool wide = mod == 2;
    if (rm == 4) {
        r->sib = next_byte(r);
        if (mod == 0 && (r->sib & 7) == 5) {
            wide = true;
            r->absolute = r->sib == 0x25 && (r->rex & REX_X) == 0;
        }
    } else if (mod == 0 && rm == 5) {
        wide = true;
        r->relative = true;
    }
    if (wide)
        r->disp = (int32_t)(uint32_t)next_number(r, 4);
    else if (mod == 1)
        next_byte(r);
}

static void read_imm(Reader *r, size_t size)
{
    r->imm = next_number(r, size);
    r->has_imm = true;
}

/* The groups whose members differ in kind: 0F 01, 0F 1E, 0F AE, 0F C7. */
static enum ArchInsnKind special_kind(const Reader *r)
{
    bool memory = modrm_mod(r) != 3;
    switch (r->opcode) {
    case 0x01:
        if (memory)
            return INSN_BAD;
        /* xgetbv, xend, xtest, rdtscp */
        return !r->rep && (r->modrm == 0xd0 || r->modrm == 0xd5 || r->modrm == 0xd6 ||
                           r->modrm == 0xf9)
                   ? INSN_PLAIN
                   : INSN_THREAD;
    case 0x1e:
        return r->rep && !memory && modrm_reg(r) == 1 ? INSN_THREAD : INSN_PLAIN;
    case 0xae: /* rdfsbase and its like, incssp; clrssbsy */
        if (!r->rep)
            return INSN_PLAIN;
        return memory ? modrm_reg(r) == 6 ? INSN_THREAD : INSN_PLAIN
               : modrm_reg(r) == 4 || modrm_reg(r) == 6 ? INSN_PLAIN
                                                        : INSN_THREAD;
    default: /* 0xc7 */
        return r->rep && modrm_reg(r) == 6 ? INSN_THREAD : INSN_PLAIN;
    }
}

static bool layout_has_modrm(char c)
{
    return c == 'm' || c == 'M' || c == 'Z' || c == 'g' || c == 'G' || c == 'T' || c == 's';
}

/* What follows the opcode. */
static enum ArchInsnKind read_operands(Reader *r)
{
    char c = layout(r);
    bool rexw = (r->rex & REX_W) != 0 && !r->vex;
    size_t immz = r->opsize && !rexw ? 2 : 4;
    if (layout_has_modrm(c))
        read_modrm(r);
    switch (c) {
    case '.':
    case 'm':
        return INSN_PLAIN;
    case 'b':
    case 'M':
        read_imm(r, 1);
        return INSN_PLAIN;
    case 'z':
    case 'Z':
        read_imm(r, immz);
        return INSN_PLAIN;
    case 'g':
    case 'G':
        if (modrm_reg(r) < 2)
            read_imm(r, c == 'g' ? 1 : immz);
        return INSN_PLAIN;
    case 'w':
    case 'E':
        read_imm(r, c == 'w' ? 2 : 3);
        return INSN_PLAIN;
    case 'v':
        read_imm(r, rexw ? 8 : immz);
        return INSN_PLAIN;
    case 'o':
        read_imm(r, r->addrsize ? 4 : 8);
        return INSN_PLAIN;
    case 'r':
    case 'R':
        read_imm(r, c == 'r' ? 1 : 4);
        /* With 66 alone Intel and AMD differ in what this is. */
        return r->opsize && !rexw                       ? INSN_BAD
               : r->opcode == 0xe8 && r->map == MAP_ONE ? INSN_CALL
                                                        : INSN_JUMP;
    case 's':
        return special_kind(r);
    case 't':
        if (r->opcode == 0xcd)
            next_byte(r); /* int n */
        return INSN_THREAD;
    case 'T':
        if (r->map == MAP_ONE && modrm_reg(r) < 4)
            return INSN_PLAIN; /* selectors other than fs, gs */
        return INSN_THREAD;
    default:
        return INSN_BAD;
    }
}

/* One-byte opcodes with members that are not what the others are. */
static enum ArchInsnKind group_kind(const Reader *r, enum ArchInsnKind kind)
{
    uint8_t reg = modrm_reg(r);
    switch (r->opcode) {
    case 0x8f: /* else XOP */
    case 0xfe:
        return reg <= (r->opcode == 0xfe ? 1 : 0) ? kind : INSN_BAD;
    case 0xc6:
    case 0xc7: /* else a transaction's end or begin */
        return reg == 0 ? kind : INSN_THREAD;
    case 0xff:
        if (reg == 3 || reg == 5 || reg == 7)
            return INSN_BAD;
        if ((reg == 2 || reg == 4) && (r->relative || r->absolute))
            return INSN_CALL_SLOT;
        return reg == 4 ? INSN_INDIRECT : kind;
    default:
        return kind;
    }
}

/* mov, xor, sub or cmp of a register with %fs:0x28. */
static bool is_protector(const Reader *r)
{
    return r->segment == 0x64 && r->map == MAP_ONE && r->absolute && r->disp == 0x28 &&
           !r->addrsize && !r->vex &&
           (r->opcode == 0x8b || r->opcode == 0x33 || r->opcode == 0x2b || r->opcode == 0x3b);
}

/* Addresses in the instruction, which may be those of functions. */
static bool find_reference(const Reader *r, uintptr_t next, uintptr_t *target)
{
    if (r->relative)
        *target = next + (uintptr_t)(intptr_t)r->disp;
    else if (r->absolute)
        *target = (uintptr_t)(intptr_t)r->disp;
    else if (r->has_imm && r->map == MAP_ONE &&
             ((r->opcode & 0xf8) == 0xb8 || r->opcode == 0x68 || r->opcode == 0xc7))
        *target = (uintptr_t)r->imm;
    else
        return false;
    return true;
}

void arch_decode(ArchScan *scan, const uint8_t *code, const uint8_t *end, ArchInsn *out)
{
    (void)scan;
    Reader r = {.at = code, .end = end - code > LONGEST ? code + LONGEST : end};
    *out = (ArchInsn){.kind = INSN_BAD};
    read_prefixes(&r);
    if (r.over || !read_opcode(&r))
        return;
    enum ArchInsnKind kind = read_operands(&r);
    if (r.over || kind == INSN_BAD)
        return;
    if (r.has_modrm && r.map == MAP_ONE && !r.vex)
        kind = group_kind(&r, kind);
    if (kind == INSN_BAD || (r.relative && r.addrsize))
        return;
    uintptr_t next = (uintptr_t)r.at;
    out->size = (uint32_t)(r.at - code);
    if (kind == INSN_CALL || kind == INSN_JUMP) {
        out->target = next + (uintptr_t)r.imm;
    } else if (r.segment != 0) {
        kind = is_protector(&r) ? INSN_PLAIN : INSN_THREAD;
    } else if (find_reference(&r, next, &out->target) && kind == INSN_PLAIN) {
        kind = INSN_REF;
    }
    out->kind = kind;
}

void arch_call_before(const uint8_t *ret, const uint8_t *start, ArchInsn *out)
{
    ArchScan scan;
    ptrdiff_t room = ret - start;
    /* A direct call first: a longer indirect one that happens to hold an E8 there is taken for
     * one with a wrong target, which the caller refuses. */
    if (room >= 5 && ret[-5] == 0xe8) {
        arch_decode(&scan, ret - 5, ret, out);
        if (out->kind == INSN_CALL)
            return;
    }
    static const uint8_t sizes[] = {6, 2, 3, 7, 4, 5}; /* ff 15 disp32 before all others */
    for (size_t i = 0; i < sizeof(sizes); i++) {
        if (room < sizes[i] || ret[-sizes[i]] != 0xff || (ret[1 - sizes[i]] >> 3 & 7) != 2)
            continue;
        arch_decode(&scan, ret - sizes[i], ret, out);
        if (out->kind != INSN_BAD && out->size == sizes[i]) {
            if (out->kind != INSN_CALL_SLOT)
                out->kind = INSN_PLAIN;
            return;
        }
    }
    *out = (ArchInsn){.kind = INSN_BAD};
}

uintptr_t arch_stub_slot(const uint8_t *code, const uint8_t *end)
{
    static const uint8_t endbr64[4] = {0xf3, 0x0f, 0x1e, 0xfa};
    ArchScan scan;
    ArchInsn insn;
    if (end - code >= 4 && memcmp(code, endbr64, 4) == 0)
        code += 4;
    const uint8_t *op = code;
    if (op < end && *op == 0xf2) /* bnd */
        op++;
    if (end - op < 6 || op[0] != 0xff || op[1] != 0x25)
        return 0;
    arch_decode(&scan, code, end, &insn);
    return insn.kind == INSN_CALL_SLOT ? insn.target : 0;
}

/* push imm32 or push disp(%rip), perhaps behind endbr64: what binds a slot is told its number, or
 * which object's it is. */
bool arch_is_binder(const uint8_t *code, const uint8_t *end)
{
    static const uint8_t endbr64[4] = {0xf3, 0x0f, 0x1e, 0xfa};
    if (end - code >= 4 && memcmp(code, endbr64, 4) == 0)
        code += 4;
    return end - code < 6 || code[0] == 0x68 || (code[0] == 0xff && code[1] == 0x35);
}

/* Addresses are in the instruction itself. */
bool arch_page_offset(const uint8_t *code, uintptr_t *offset)
{
    (void)code, (void)offset;
    return false;
}
