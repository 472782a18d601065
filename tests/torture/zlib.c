/* SPDX-License-Identifier: MIT
 *
 * zlib.c: zlib in coroutines under the storm: round trips at every level, in one
 * piece and in streams of small pieces, checksums against slow ones of our own,
 * and damaged data that must be found out. */
#include "torture.h"

#include <zlib.h>

enum { SIZE = 40000 };
typedef struct {
    uint32_t seed;
    int level;
    unsigned char plain[SIZE], packed[SIZE + 1000], again[SIZE];
} Buffers;

static uint32_t next(uint32_t *s)
{
    *s = *s * 1664525u + 1013904223u;
    return *s >> 8;
}

static void *buffers_begin(Torture *t)
{
    (void)t;
    Buffers *b = calloc(1, sizeof *b);
    OK(b != NULL);
    b->seed = (uint32_t)++torture_id;
    return b;
}

static void buffers_end(Torture *t, void *state)
{
    (void)t;
    free(state);
}

/* Something that can be compressed somewhat. */
static void fill(Buffers *b)
{
    for (size_t i = 0; i < SIZE;) {
        size_t run = next(&b->seed) % 40, from = i > 1000 ? next(&b->seed) % (i - 100) : 0;
        if (i > 1000 && run > 3) {
            for (size_t k = 0; k < run && i < SIZE; k++, i++)
                b->plain[i] = b->plain[from + k];
        } else {
            b->plain[i++] = (unsigned char)next(&b->seed);
        }
    }
    b->level = (b->level + 1) % 10;
}

static void one_piece(Torture *t, void *state)
{
    Buffers *b = state;
    uLongf packed = sizeof b->packed, again = sizeof b->again;
    (void)t;
    fill(b);
    OK(compress2(b->packed, &packed, b->plain, SIZE, b->level) == Z_OK);
    OK(uncompress(b->again, &again, b->packed, packed) == Z_OK);
    OK(again == SIZE && memcmp(b->plain, b->again, SIZE) == 0);
    b->packed[packed / 2] ^= 0x55;
    again = sizeof b->again;
    OK(uncompress(b->again, &again, b->packed, packed) != Z_OK ||
       memcmp(b->plain, b->again, SIZE) != 0);
}

static size_t deflate_pieces(Buffers *b)
{
    z_stream z = {0};
    OK(deflateInit2(&z, b->level, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    z.next_out = b->packed;
    z.avail_out = sizeof b->packed;
    for (size_t at = 0; at < SIZE;) {
        size_t n = 1 + next(&b->seed) % 3000;
        n = n < SIZE - at ? n : SIZE - at;
        z.next_in = b->plain + at;
        z.avail_in = (uInt)n;
        OK(deflate(&z, Z_NO_FLUSH) == Z_OK && z.avail_in == 0);
        at += n;
    }
    OK(deflate(&z, Z_FINISH) == Z_STREAM_END);
    size_t n = z.total_out;
    OK(deflateEnd(&z) == Z_OK);
    return n;
}

static void streams(Torture *t, void *state)
{
    Buffers *b = state;
    z_stream z = {0};
    int rc = Z_OK;
    (void)t;
    fill(b);
    size_t packed = deflate_pieces(b);
    OK(inflateInit2(&z, 15 + 16) == Z_OK);
    z.next_in = b->packed;
    z.avail_in = (uInt)packed;
    while (rc == Z_OK) {
        z.next_out = b->again + z.total_out;
        size_t room = SIZE - z.total_out, n = 1 + next(&b->seed) % 5000;
        z.avail_out = (uInt)(n < room ? n : room);
        rc = inflate(&z, Z_NO_FLUSH);
        OK(rc == Z_OK || rc == Z_STREAM_END || (rc == Z_BUF_ERROR && z.avail_out == 0));
        if (rc == Z_BUF_ERROR)
            rc = Z_OK;
    }
    OK(z.total_out == SIZE && memcmp(b->plain, b->again, SIZE) == 0);
    OK(inflateEnd(&z) == Z_OK);
}

static void checksums(Torture *t, void *state)
{
    Buffers *b = state;
    uint32_t crc = 0xffffffffu, lo = 1, hi = 0;
    (void)t;
    fill(b);
    for (size_t i = 0; i < SIZE; i++) {
        crc ^= b->plain[i];
        for (int k = 0; k < 8; k++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
        lo = (lo + b->plain[i]) % 65521;
        hi = (hi + lo) % 65521;
    }
    OK(crc32(crc32(0, NULL, 0), b->plain, SIZE) == (uint32_t)~crc);
    OK(adler32(adler32(0, NULL, 0), b->plain, SIZE) == ((uLong)hi << 16 | lo));
    size_t cut = next(&b->seed) % SIZE;
    OK(crc32_combine(crc32(0, b->plain, (uInt)cut), crc32(0, b->plain + cut, (uInt)(SIZE - cut)),
                     (z_off_t)(SIZE - cut)) == (uint32_t)~crc);
}

int main(void)
{
    Torture all[] = {
        {.name = "one piece",
         .unit = one_piece,
         .begin = buffers_begin,
         .end = buffers_end,
         .workers = 5},
        {.name = "streams",
         .unit = streams,
         .begin = buffers_begin,
         .end = buffers_end,
         .workers = 5},
        {.name = "checksums",
         .unit = checksums,
         .begin = buffers_begin,
         .end = buffers_end,
         .workers = 4},
    };
    return torture(all, sizeof all / sizeof all[0]);
}
