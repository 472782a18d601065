/* SPDX-License-Identifier: MIT
 *
 * bytes.h: numbers as .eh_frame has them, for ehframe.c and walk.c. */
#ifndef WEFT_BYTES_H
#define WEFT_BYTES_H

#include "rt.h"

/* Bytes in a segment of an object; `bad` once a read went past the end. */
typedef struct {
    uintptr_t at, end;
    bool bad;
} Bytes;

static inline void bytes_skip(Bytes *b, uint64_t n)
{
    if (n > b->end - b->at)
        b->bad = true, b->at = b->end;
    else
        b->at += n;
}

static inline uint64_t bytes_fixed(Bytes *b, size_t size)
{
    uint64_t v = 0;
    uintptr_t at = b->at;
    bytes_skip(b, size);
    if (!b->bad)
        memcpy(&v, (const void *)at, size); /* little-endian, as both CPUs are */
    return v;
}

static inline uint8_t bytes_u8(Bytes *b)
{
    return (uint8_t)bytes_fixed(b, 1);
}

static inline int64_t bytes_signed(Bytes *b, size_t size)
{
    unsigned shift = 64 - 8 * (unsigned)size;
    return (int64_t)(bytes_fixed(b, size) << shift) >> shift;
}

static inline uint64_t bytes_leb(Bytes *b, bool sign)
{
    uint64_t v = 0;
    for (unsigned shift = 0; !b->bad; shift += 7) {
        uint8_t x = bytes_u8(b);
        if (shift < 64)
            v |= (uint64_t)(x & 0x7f) << shift;
        if ((x & 0x80) == 0) {
            if (sign && (x & 0x40) != 0 && shift + 7 < 64)
                v |= ~0ull << (shift + 7);
            break;
        }
    }
    return v;
}

static inline uint64_t bytes_uleb(Bytes *b)
{
    return bytes_leb(b, false);
}

static inline int64_t bytes_sleb(Bytes *b)
{
    return (int64_t)bytes_leb(b, true);
}

#endif
