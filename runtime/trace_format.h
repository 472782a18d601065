/* SPDX-License-Identifier: MIT
 *
 * trace_format.h: the file of a trace, for who writes it (trace.c) and who reads it (tools/weft-trace.c).
 *
 * A file is a sequence of records of 32 bytes, in the byte order of the machine. The first is TRACE_HEADER. Those of one
 * thread are nearly in the order of their times (a signal handler's may come before what it has interrupted), those of
 * several are not: who reads them sorts them. Texts (names, symbols) are cut into pieces of TRACE_TEXT
 * bytes, of which a record holds one, its number in `detail`; what is left of the last one is zero bytes. Piece 0 begins
 * the text of that id anew. They may come after the records that they explain. A file without TRACE_END was
 * cut short.
 */
#ifndef WEFT_TRACE_FORMAT_H
#define WEFT_TRACE_FORMAT_H

#include <stddef.h>
#include <stdint.h>

enum { TRACE_VERSION = 1, TRACE_TEXT = 14, TRACE_NO_P = 0xffff };
#define TRACE_MAGIC UINT64_C(0x3145434152544657) /* "WFTRACE1" */

typedef struct {
    int64_t when; /* ns, the clock of weft_now() */
    uint64_t id;  /* of a coroutine, unless it says otherwise; 0: none */
    uint64_t arg;
    uint32_t tid; /* the thread that has written it */
    uint16_t p;   /* the processor, or TRACE_NO_P */
    uint8_t detail;
    uint8_t kind; /* enum TraceKind */
} TraceRecord;

/* A piece of a text lies in place of arg, tid and p. */
static inline char *trace_text(TraceRecord *x)
{
    return (char *)x + offsetof(TraceRecord, arg);
}

enum TraceKind {
    TRACE_HEADER =
        1,        /* id TRACE_MAGIC, arg the time of day in ns, tid the process, p TRACE_VERSION */
    TRACE_VOID,   /* nothing */
    TRACE_NAME,   /* text: the name of coroutine id */
    TRACE_SYMBOL, /* text: where code address id is: "function+0x1f (library)" */
    TRACE_WHY,    /* text: the name of wait reason number id */
    TRACE_EXISTS, /* it was there when the trace began; arg: spawn site; p: why it waits; detail: TRACE_WAS_* */
    TRACE_SPAWN,  /* it was made, and can run; arg: spawn site. By the coroutine on thread tid */
    TRACE_READY,  /* it can run; arg: the coroutine that has woken it, or 0 */
    TRACE_SWITCH, /* on tid with p: from id to arg; detail: why id stops, or TRACE_EXITS */
    TRACE_RESUME, /* it goes on, on its own thread tid, with p */
    TRACE_WAIT,   /* it waits; detail: why */
    TRACE_PREEMPT, /* detail: 0 flagged, 1 handed: it can run, but does not; 2 moved. arg: code address */
    TRACE_HANDOFF, /* p goes to thread arg */
    TRACE_RETAKE,  /* p was taken from thread arg, where id is in the kernel; detail: 1, declared */
    TRACE_STACK,   /* arg: bytes; detail: TRACE_SAVED ... */
    TRACE_NETPOLL, /* it is woken by descriptor arg */
    TRACE_END,     /* id: records that were lost */
    TRACE_KINDS
};

enum { TRACE_WAS_RUNNABLE, TRACE_WAS_RUNNING, TRACE_WAS_WAITING };
enum { TRACE_SAVED, TRACE_LOADED, TRACE_GROWN };
enum { TRACE_EXITS = 255, TRACE_YIELDS = 254, TRACE_PREEMPTED = 253 }; /* in place of a reason */

_Static_assert(sizeof(TraceRecord) == 32, "TraceRecord is 32 bytes on every machine");

#endif
