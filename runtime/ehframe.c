/* SPDX-License-Identifier: MIT
 *
 * ehframe.c: what .eh_frame says of a function: the record (FDE) for an address, its
 * neighbours, and where the instructions lie that walk.c runs.
 *
 * Understood is what gcc, clang and their linkers write: .eh_frame_hdr with the
 * usual table of 32-bit pairs, CIEs of version 1 and 3 with augmentations made of
 * "zRPLSB". What is not understood is not found, which means "not proved". The data
 * may be garbage: every read is checked, every loop consumes bytes of a record or
 * runs as often as a table has entries, TABLE_MAX at most. */
#include "bytes.h"
#include "safepoint.h"

#include <elf.h>

/* ---- pointers ------------------------------------------------------------------------ */

/* A pointer in one of the encodings (DW_EH_PE) that linkers use for code. */
static uintptr_t bytes_pointer(Bytes *b, uint8_t encoding)
{
    uintptr_t from = (encoding & 0x70) == 0x10 ? b->at : 0;
    if ((encoding & 0x70) > 0x10 || (encoding & 0x80) != 0)
        b->bad = true;
    switch (encoding & 0xf) {
    case 0x0:
    case 0x4:
    case 0xc:
        return from + (uintptr_t)bytes_fixed(b, 8);
    case 0x3:
        return from + (uintptr_t)bytes_fixed(b, 4);
    case 0xb:
        return from + (uintptr_t)bytes_signed(b, 4);
    default:
        b->bad = true;
        return 0;
    }
}

static size_t pointer_size(uint8_t encoding)
{
    switch (encoding & 0xf) {
    case 0x2:
    case 0xa:
        return 2;
    case 0x3:
    case 0xb:
        return 4;
    default:
        return 8;
    }
}

/* ---- FDE and CIE ------------------------------------------------------------------ */

/* The content of the record at `at`. */
static bool record_open(const Object *o, uintptr_t at, Bytes *out)
{
    uintptr_t end = object_end(o, at);
    if (end == 0)
        return false;
    *out = (Bytes){.at = at, .end = end};
    uint64_t size = bytes_fixed(out, 4);
    if (out->bad || size == 0 || size == 0xffffffff || size > out->end - out->at)
        return false;
    out->end = out->at + size;
    return true;
}

/* A length of 0 ends the section. */
static bool record_is_end(uintptr_t at)
{
    uint32_t size;
    memcpy(&size, (const void *)at, sizeof(size));
    return size == 0;
}

static bool cie_parse(const Object *o, uintptr_t at, Fde *out, uint8_t *encoding, bool *sized)
{
    Bytes b;
    if (!record_open(o, at, &b) || bytes_fixed(&b, 4) != 0)
        return false;
    uint8_t version = bytes_u8(&b);
    char augmentation[8] = "";
    for (size_t i = 0;; i++) {
        if (i == sizeof(augmentation))
            return false;
        augmentation[i] = (char)bytes_u8(&b);
        if (augmentation[i] == 0)
            break;
    }
    if (version != 1 && version != 3)
        return false;
    out->code_align = bytes_uleb(&b);
    out->data_align = bytes_sleb(&b);
    out->return_reg = version == 1 ? bytes_u8(&b) : (uint32_t)bytes_uleb(&b);
    *encoding = 0;
    *sized = augmentation[0] == 'z';
    if (!*sized && augmentation[0] != 0)
        return false;
    if (*sized) {
        uint64_t size = bytes_uleb(&b);
        if (b.bad || size > b.end - b.at)
            return false;
        Bytes data = {.at = b.at, .end = b.at + size};
        bytes_skip(&b, size);
        for (const char *c = augmentation + 1; *c != 0; c++) {
            if (*c == 'R')
                *encoding = bytes_u8(&data);
            else if (*c == 'L')
                bytes_u8(&data);
            else if (*c == 'P')
                bytes_skip(&data, pointer_size(bytes_u8(&data)));
            else if (*c == 'S')
                out->signal_frame = true;
            else if (*c != 'B')
                return false;
        }
        if (data.bad)
            return false;
    }
    out->common = b.at;
    out->common_end = b.end;
    return !b.bad;
}

static bool fde_parse(const Object *o, uintptr_t at, Fde *out)
{
    Bytes b;
    uint8_t encoding;
    bool sized;
    *out = (Fde){.record = at};
    if (!record_open(o, at, &b))
        return false;
    uintptr_t here = b.at;
    uint64_t back = bytes_fixed(&b, 4);
    if (b.bad || back == 0 || !cie_parse(o, here - back, out, &encoding, &sized))
        return false;
    out->start = bytes_pointer(&b, encoding);
    out->end = out->start + bytes_pointer(&b, encoding & 0xf);
    if (sized)
        bytes_skip(&b, bytes_uleb(&b));
    out->rules = b.at;
    out->rules_end = b.end;
    return !b.bad && out->end > out->start &&
           object_readable(o, out->start, out->end - out->start, PF_X);
}

/* The table of .eh_frame_hdr: pairs of (start of code, FDE), relative to its own
 * address, sorted by the first. */
enum { TABLE_MAX = 1 << 17 }; /* longer ones are not searched from end to end */

typedef struct {
    uintptr_t base;
    const int32_t (*pair)[2];
    uint64_t n;
} FdeTable;

static bool table_open(const Object *o, FdeTable *out)
{
    uintptr_t end = o->frames == 0 ? 0 : object_end(o, o->frames);
    Bytes b = {.at = o->frames, .end = end};
    if (end == 0 || bytes_u8(&b) != 1)
        return false;
    uint8_t pointer = bytes_u8(&b), count = bytes_u8(&b), table = bytes_u8(&b);
    if (count != 0x03 || table != 0x3b)
        return false;
    bytes_skip(&b, pointer_size(pointer));
    out->n = bytes_fixed(&b, 4);
    out->base = o->frames;
    out->pair = (const int32_t(*)[2])b.at;
    return !b.bad && b.at % sizeof(int32_t) == 0 && out->n <= (b.end - b.at) / 8;
}

bool fde_find(const Object *o, uintptr_t pc, Fde *out)
{
    FdeTable t;
    if (!table_open(o, &t) || t.n == 0)
        return false;
    intptr_t key = (intptr_t)(pc - t.base);
    uint64_t lo = 0, hi = t.n; /* the last entry at or below pc lies in [lo, hi) */
    while (hi - lo > 1) {
        uint64_t mid = lo + (hi - lo) / 2;
        if (t.pair[mid][0] <= key)
            lo = mid;
        else
            hi = mid;
    }
    return fde_parse(o, t.base + (uintptr_t)(intptr_t)t.pair[lo][1], out) && pc >= out->start &&
           pc < out->end;
}

int fde_before(const Object *o, const Fde *f, Fde *out)
{
    FdeTable t;
    if (!table_open(o, &t) || t.n > TABLE_MAX)
        return -1;
    intptr_t mine = (intptr_t)(f->record - t.base);
    int32_t best = INT32_MIN;
    for (uint64_t i = 0; i < t.n; i++)
        if (t.pair[i][1] < mine && t.pair[i][1] > best)
            best = t.pair[i][1];
    if (best == INT32_MIN)
        return 0;
    return fde_parse(o, t.base + (uintptr_t)(intptr_t)best, out) ? 1 : -1;
}

int fde_after(const Object *o, const Fde *f, Fde *out)
{
    Bytes b;
    uintptr_t at = f->record;
    for (int i = 0; i < 4; i++) { /* a CIE or two may lie between */
        uintptr_t end = object_end(o, at);
        if (!record_open(o, at, &b))
            return -1;
        at = b.end;
        if (end - at < 4 || record_is_end(at))
            return 0;
        if (!record_open(o, at, &b))
            return -1;
        if (bytes_fixed(&b, 4) != 0)
            return fde_parse(o, at, out) ? 1 : -1;
    }
    return -1;
}
