/* SPDX-License-Identifier: MIT
 *
 * walk.c: from an interrupted instruction up its stack, by the records that ehframe.c
 * finds, inside a signal handler. Frame pointers would not do: a function built without
 * one does not break the chain, it is skipped, and an unseen frame is an unproved one.
 *
 * Understood are all call-frame instructions, and expressions of simple arithmetic. What
 * is not understood ends the walk with false, which means "not proved". The data
 * may be garbage: every read is checked, every loop consumes bytes of a record
 * or runs a fixed number of times, the stack pointer must rise at each step.
 *
 * How right is the result? As right as the tables. Those of today's compilers
 * describe every instruction of a function (-fasynchronous-unwind-tables is the
 * default of the CPUs we have); tables made without that are wrong in the middle of
 * prologues and epilogues, where a step could skip one caller. safepoint.c does
 * not rely on the walk alone: the caller found must have called the function found. */
#include "bytes.h"
#include "safepoint.h"

/* ---- call-frame instructions ---------------------------------------------------------- */

enum RuleKind { RULE_SAME, RULE_UNDEFINED, RULE_OFFSET, RULE_VALUE, RULE_REG, RULE_AT, RULE_IS };

typedef struct {
    uint8_t kind; /* RULE_AT, RULE_IS: an expression for its address, its value */
    uint8_t reg;
    int64_t offset; /* from the CFA; of an expression, its size */
    uintptr_t expression;
} Rule;

typedef struct {
    Rule cfa; /* RULE_REG: reg + offset; RULE_IS */
    Rule reg[ARCH_DWARF_REGS];
} Row;

enum { ROWS = 4 }; /* remembered ones; compilers need one */

typedef struct {
    Row row, first; /* first: after the CIE's instructions */
    Row kept[ROWS];
    uint32_t nkept;
    uint32_t changes; /* before the first advance */
    const Fde *f;
    uintptr_t loc;
} Rows;

static Rule rule_expression(Bytes *b, uint8_t kind)
{
    uint64_t size = bytes_uleb(b);
    Rule r = {.kind = kind, .offset = (int64_t)size, .expression = b->at};
    bytes_skip(b, size);
    return r;
}

/* Registers that we do not follow (vectors) are dropped. */
static void rows_put(Rows *rows, uint64_t reg, Rule rule)
{
    if (reg < ARCH_DWARF_REGS)
        rows->row.reg[reg] = rule;
}

static Rule rule_offset(const Rows *rows, uint8_t kind, int64_t factored)
{
    return (Rule){.kind = kind,
                  .offset = (int64_t)((uint64_t)factored * (uint64_t)rows->f->data_align)};
}

static void rows_restore(Rows *rows, uint64_t reg)
{
    if (reg < ARCH_DWARF_REGS)
        rows->row.reg[reg] = rows->first.reg[reg];
}

static bool rows_cfa_reg(Rows *rows, uint64_t reg)
{
    if (reg >= ARCH_DWARF_REGS)
        return false;
    rows->row.cfa.kind = RULE_REG;
    rows->row.cfa.reg = (uint8_t)reg;
    return true;
}

/* An instruction without an operand in its own byte, other than an advance. */
static bool rows_extended(Rows *rows, Bytes *b, uint8_t op)
{
    uint64_t reg;
    int64_t align = rows->f->data_align;
    switch (op) {
    case 0x00: /* nop */
        return true;
    case 0x05: /* offset_extended */
        reg = bytes_uleb(b);
        rows_put(rows, reg, rule_offset(rows, RULE_OFFSET, (int64_t)bytes_uleb(b)));
        return true;
    case 0x06: /* restore_extended */
        rows_restore(rows, bytes_uleb(b));
        return true;
    case 0x07: /* undefined */
        rows_put(rows, bytes_uleb(b), (Rule){.kind = RULE_UNDEFINED});
        return true;
    case 0x08: /* same_value */
        rows_put(rows, bytes_uleb(b), (Rule){.kind = RULE_SAME});
        return true;
    case 0x09: /* register */
        reg = bytes_uleb(b);
        rows_put(rows, reg, (Rule){.kind = RULE_REG, .reg = (uint8_t)bytes_uleb(b)});
        return true;
    case 0x0a: /* remember_state */
        if (rows->nkept == ROWS)
            return false;
        rows->kept[rows->nkept++] = rows->row;
        return true;
    case 0x0b: /* restore_state */
        if (rows->nkept == 0)
            return false;
        rows->row = rows->kept[--rows->nkept];
        return true;
    case 0x0c: /* def_cfa */
    case 0x12: /* def_cfa_sf */
        reg = bytes_uleb(b);
        rows->row.cfa.offset = op == 0x0c ? (int64_t)bytes_uleb(b)
                                          : (int64_t)((uint64_t)bytes_sleb(b) * (uint64_t)align);
        return rows_cfa_reg(rows, reg);
    case 0x0d: /* def_cfa_register */
        return rows_cfa_reg(rows, bytes_uleb(b));
    case 0x0e: /* def_cfa_offset */
        rows->row.cfa.offset = (int64_t)bytes_uleb(b);
        return rows->row.cfa.kind == RULE_REG;
    case 0x13: /* def_cfa_offset_sf */
        rows->row.cfa.offset = (int64_t)((uint64_t)bytes_sleb(b) * (uint64_t)align);
        return rows->row.cfa.kind == RULE_REG;
    case 0x0f: /* def_cfa_expression */
        rows->row.cfa = rule_expression(b, RULE_IS);
        return true;
    case 0x10: /* expression */
    case 0x16: /* val_expression */
        reg = bytes_uleb(b);
        rows_put(rows, reg, rule_expression(b, op == 0x10 ? RULE_AT : RULE_IS));
        return true;
    case 0x11: /* offset_extended_sf */
        reg = bytes_uleb(b);
        rows_put(rows, reg, rule_offset(rows, RULE_OFFSET, bytes_sleb(b)));
        return true;
    case 0x14: /* val_offset */
    case 0x15: /* val_offset_sf */
        reg = bytes_uleb(b);
        rows_put(
            rows, reg,
            rule_offset(rows, RULE_VALUE, op == 0x14 ? (int64_t)bytes_uleb(b) : bytes_sleb(b)));
        return true;
    case 0x2d: /* aarch64: the return address is signed from here, or no longer. See arch_strip() */
        return true;
    case 0x2e: /* GNU_args_size */
        bytes_uleb(b);
        return true;
    default:
        return false;
    }
}

/* The advance that op is, in bytes of code; -1: it is none. */
static int64_t rows_advance(const Rows *rows, Bytes *b, uint8_t op)
{
    uint64_t n;
    if (op >> 6 == 1)
        n = op & 0x3f;
    else if (op == 0x02)
        n = bytes_u8(b);
    else if (op == 0x03)
        n = bytes_fixed(b, 2);
    else if (op == 0x04)
        n = bytes_fixed(b, 4);
    else
        return -1;
    return (int64_t)(n * rows->f->code_align);
}

/* Run the instructions in [at, end) as far as they hold at pc. */
static bool rows_run(Rows *rows, uintptr_t at, uintptr_t end, uintptr_t pc)
{
    Bytes b = {.at = at, .end = end};
    while (b.at < b.end) {
        uint8_t op = bytes_u8(&b);
        int64_t advance = rows_advance(rows, &b, op);
        if (advance >= 0) {
            rows->loc += (uint64_t)advance;
            if (rows->loc > pc)
                return !b.bad;
            continue;
        }
        if (op == 0x01) /* set_loc: no compiler of ours */
            return false;
        rows->changes += op != 0;
        if (op >> 6 == 2)
            rows_put(rows, op & 0x3f, rule_offset(rows, RULE_OFFSET, (int64_t)bytes_uleb(&b)));
        else if (op >> 6 == 3)
            rows_restore(rows, op & 0x3f);
        else if (!rows_extended(rows, &b, op))
            return false;
    }
    return !b.bad;
}

static bool rows_at(Rows *rows, const Fde *f, uintptr_t pc)
{
    rows->f = f;
    rows->loc = f->start;
    rows->nkept = 0;
    memset(&rows->row, 0, sizeof(rows->row));
    if (!rows_run(rows, f->common, f->common_end, UINTPTR_MAX))
        return false;
    rows->first = rows->row;
    rows->changes = 0;
    return rows_run(rows, f->rules, f->rules_end, pc);
}

bool fde_starts_plain(const Object *o, const Fde *f)
{
    (void)o;
    Rows rows;
    return rows_at(&rows, f, f->start) && rows.changes == 0;
}

/* ---- expressions -------------------------------------------------------------------- */

enum { DEPTH = 16 };

typedef struct {
    uintptr_t v[DEPTH];
    uint32_t n;
    bool bad;
} Stack;

static void stack_push(Stack *s, uintptr_t v)
{
    if (s->n == DEPTH)
        s->bad = true;
    else
        s->v[s->n++] = v;
}

static uintptr_t stack_pop(Stack *s)
{
    if (s->n == 0) {
        s->bad = true;
        return 0;
    }
    return s->v[--s->n];
}

/* Operators on two values. */
static bool expression_binary(Stack *s, uint8_t op)
{
    uintptr_t b = stack_pop(s), a = stack_pop(s), v;
    switch (op) {
    case 0x1a:
        v = a & b;
        break;
    case 0x1c:
        v = a - b;
        break;
    case 0x1e:
        v = a * b;
        break;
    case 0x21:
        v = a | b;
        break;
    case 0x22:
        v = a + b;
        break;
    case 0x24:
        v = b < 64 ? a << b : 0;
        break;
    case 0x25:
        v = b < 64 ? a >> b : 0;
        break;
    case 0x29:
        v = a == b;
        break;
    case 0x2a:
        v = (intptr_t)a >= (intptr_t)b;
        break;
    case 0x2b:
        v = (intptr_t)a > (intptr_t)b;
        break;
    case 0x2c:
        v = (intptr_t)a <= (intptr_t)b;
        break;
    case 0x2d:
        v = (intptr_t)a < (intptr_t)b;
        break;
    case 0x2e:
        v = a != b;
        break;
    default:
        return false;
    }
    stack_push(s, v);
    return true;
}

static bool expression_op(const Walk *w, Bytes *b, Stack *s, uint8_t op)
{
    static const uint8_t size[8] = {1, 1, 2, 2, 4, 4, 8, 8};
    uintptr_t v;
    if (op >= 0x30 && op <= 0x4f) { /* lit */
        stack_push(s, op - 0x30u);
    } else if (op >= 0x70 && op <= 0x8f) { /* breg */
        if (op - 0x70 >= ARCH_DWARF_REGS)
            return false;
        stack_push(s, w->reg[op - 0x70] + (uintptr_t)bytes_sleb(b));
    } else if (op >= 0x08 && op <= 0x0f) { /* const, unsigned and signed in turn */
        stack_push(s, op % 2 == 0 ? (uintptr_t)bytes_fixed(b, size[op - 8])
                                  : (uintptr_t)bytes_signed(b, size[op - 8]));
    } else if (op == 0x10) {
        stack_push(s, (uintptr_t)bytes_uleb(b));
    } else if (op == 0x11) {
        stack_push(s, (uintptr_t)bytes_sleb(b));
    } else if (op == 0x23) { /* plus_uconst */
        stack_push(s, stack_pop(s) + (uintptr_t)bytes_uleb(b));
    } else if (op == 0x12) { /* dup */
        v = stack_pop(s);
        stack_push(s, v);
        stack_push(s, v);
    } else if (op == 0x06) { /* deref */
        if (!walk_word(w, stack_pop(s), &v))
            return false;
        stack_push(s, v);
    } else {
        return expression_binary(s, op);
    }
    return true;
}

static bool expression_run(const Walk *w, const Rule *r, const uintptr_t *first, uintptr_t *out)
{
    Stack s = {.n = 0};
    Bytes b = {.at = r->expression, .end = r->expression + (uintptr_t)r->offset};
    if (first != NULL)
        stack_push(&s, *first);
    while (b.at < b.end)
        if (!expression_op(w, &b, &s, bytes_u8(&b)) || b.bad || s.bad)
            return false;
    *out = stack_pop(&s);
    return !s.bad;
}

/* ---- the walk --------------------------------------------------------------------------- */

enum { RED_ZONE = 128 };

void walk_start(Walk *w, const void *ucontext, const void *lo, const void *hi)
{
    *w = (Walk){.hi = (uintptr_t)hi};
    w->pc = arch_dwarf_load(ucontext, w->reg);
    /* Pages below the stack pointer may not be there. */
    uintptr_t sp = w->reg[ARCH_DWARF_SP];
    w->lo = sp - (uintptr_t)lo >= RED_ZONE ? sp - RED_ZONE : sp;
    if (sp < (uintptr_t)lo || sp > w->hi)
        w->lo = w->hi; /* not on this stack: nothing may be read */
}

/* The stack may have the address sanitizer's marks. */
__attribute__((no_sanitize("address"))) bool walk_word(const Walk *w, uintptr_t at, uintptr_t *out)
{
    typedef uintptr_t __attribute__((may_alias, aligned(1))) Word;
    if (at < w->lo || at > w->hi || w->hi - at < sizeof(Word))
        return false;
    *out = *(const Word *)at;
    return true;
}

/* The caller's value of a register. */
static bool walk_register(const Walk *w, const Rule *r, uintptr_t cfa, uintptr_t *out)
{
    uintptr_t at;
    switch (r->kind) {
    case RULE_OFFSET:
        return walk_word(w, cfa + (uintptr_t)r->offset, out);
    case RULE_VALUE:
        *out = cfa + (uintptr_t)r->offset;
        return true;
    case RULE_REG:
        if (r->reg >= ARCH_DWARF_REGS)
            return false;
        *out = w->reg[r->reg];
        return true;
    case RULE_AT:
        return expression_run(w, r, &cfa, &at) && walk_word(w, at, out);
    case RULE_IS:
        return expression_run(w, r, &cfa, out);
    default:
        return true; /* as it was; an undefined one is not looked at by sound code */
    }
}

static bool walk_cfa(const Walk *w, const Row *row, uintptr_t *out)
{
    if (row->cfa.kind == RULE_IS)
        return expression_run(w, &row->cfa, NULL, out);
    if (row->cfa.kind != RULE_REG)
        return false;
    *out = w->reg[row->cfa.reg] + (uintptr_t)row->cfa.offset;
    return true;
}

/* A function that aligns its frame keeps the caller's frame pointer at an address that is computed
 * from its own. gcc forgets to say where the epilogue has restored it: from there on that register
 * would be read from the wrong place, and a caller be missed. The CFA is not computed there any
 * more, nor is it at two instructions of the prologue. */
static bool row_may_be_stale(const Walk *w, const Row *row)
{
    if (w->call || row->cfa.kind == RULE_IS)
        return false;
    for (uint32_t i = 0; i < ARCH_DWARF_REGS; i++)
        if (row->reg[i].kind == RULE_AT)
            return true;
    return false;
}

bool walk_step(Walk *w, const Object *o, const Fde *f)
{
    (void)o;
    Rows rows;
    uintptr_t cfa, reg[ARCH_DWARF_REGS];
    if (f->return_reg >= ARCH_DWARF_REGS || f->signal_frame ||
        !rows_at(&rows, f, w->call ? w->pc - 1 : w->pc))
        return false;
    if (row_may_be_stale(w, &rows.row))
        return false;
    if (rows.row.reg[f->return_reg].kind == RULE_UNDEFINED) {
        w->ended = true;
        return false;
    }
    uintptr_t sp = w->reg[ARCH_DWARF_SP];
    const Rule *ret = &rows.row.reg[f->return_reg];
    if (!walk_cfa(w, &rows.row, &cfa) || cfa < sp || cfa > w->hi || (cfa == sp && w->call))
        return false;
    memcpy(reg, w->reg, sizeof(reg));
    for (uint32_t i = 0; i < ARCH_DWARF_REGS; i++)
        if (!walk_register(w, &rows.row.reg[i], cfa, &reg[i]))
            return false;
    if (rows.row.reg[ARCH_DWARF_SP].kind == RULE_SAME)
        reg[ARCH_DWARF_SP] = cfa;
    memcpy(w->reg, reg, sizeof(reg));
    w->ret = ret->kind == RULE_OFFSET             ? RETURN_AT
             : ret->kind == RULE_SAME && !w->call ? RETURN_LINK
                                                  : RETURN_ELSEWHERE;
    w->ret_at = cfa + (uintptr_t)ret->offset;
    w->pc = arch_strip(reg[f->return_reg]);
    w->call = true;
    return w->pc != 0;
}
