/* SPDX-License-Identifier: MIT
 *
 * trace.h: between trace.c (who notes what, and the thread that collects it) and trace_file.c (the file).
 */
#ifndef WEFT_TRACE_H
#define WEFT_TRACE_H

#include "rt.h"

/* A text as records, one after the other; empty: one record. */
static inline void trace_cut(enum TraceKind kind, uint64_t id, const char *text, size_t len,
                             void (*to)(const TraceRecord *, void *), void *arg)
{
    for (size_t at = 0, piece = 0; at < len || piece == 0; at += TRACE_TEXT, piece++) {
        TraceRecord x = {.when = 0, .id = id, .detail = (uint8_t)piece, .kind = (uint8_t)kind};
        if (len > at)
            memcpy(trace_text(&x), text + at, len - at < TRACE_TEXT ? len - at : TRACE_TEXT);
        to(&x, arg);
    }
}

/* One thread at a time: who starts or stops a trace, the drain between. -errno of open() */
int trace_file_open(const char *path);
int trace_file_present(void); /* the coroutines that there are. -ENOMEM */
void trace_file_put(const TraceRecord *x);
void trace_file_flush(void);         /* what was put, and the names of new spawn sites */
void trace_file_drop(void);          /* nothing is written from now on */
int trace_file_close(uint64_t lost); /* the end. What write() or close() said */

#endif
