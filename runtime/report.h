/* SPDX-License-Identifier: MIT
 *
 * report.h: what fatal reports, dumps and overflow reports are made of.
 *
 * Out        text into a buffer and on to a descriptor, with nothing but
 *            write(2): usable in a signal handler, and in a process that is
 *            out of memory.
 * unwind_*   from a saved context to a list of code addresses, and from an
 *            address to a name. Callers hold the report stack (report_run).
 */
#ifndef WEFT_REPORT_H
#define WEFT_REPORT_H

#include "rt.h"

/* ---- out.c ---- */
typedef struct {
    int fd;
    uint32_t n;
    char buf[1024];
} Out;

void out_open(Out *o, int fd);
void out_str(Out *o, const char *s);
void out_strn(Out *o, const char *s,
              size_t max); /* stops at a NUL, writes '?' for control characters */
void out_dec(Out *o, uint64_t v);
void out_hex(Out *o, uint64_t v);
void out_flush(Out *o);

/* ---- unwind.c ---- */
enum { FRAMES_MAX = 64 };

void unwind_load(void); /* once, at a quiet time: opens libunwind */
/* The code addresses from *ctx outwards, at most max; nothing outside [lo, hi)
 * is taken for a frame. ucontext: the interrupted registers if the context is a
 * signal's, else NULL; call: then, ctx->pc is a return address. sps, if not NULL: the stack pointer in
 * each frame, that is where the frame further in ends. */
uint32_t unwind_walk(const ArchContext *ctx, void *ucontext, bool call, const void *lo,
                     const void *hi, uintptr_t *pcs, uintptr_t *sps, uint32_t max);
/* "function+0x1f (library)". call: pc is a return address, name what comes before it. */
void unwind_print(Out *o, uintptr_t pc, bool call);

/* ---- dump.c ---- */
/* Run fn(arg, ctx) on the report stack; ctx is where the caller stands. One at a
 * time: waits up to a second for another report, then returns false without having run fn. */
bool report_run(void (*fn)(void *arg, const ArchContext *ctx), void *arg);

/* ---- entry.c ---- */
/* What is said of one coroutine. The rest is for who has the report stack. */
enum { ENTRY_FRAMES = 24 };
typedef struct {
    uint64_t id;
    uint64_t count;      /* Gs in this entry */
    int64_t age, oldest; /* ns since it parked; the least and the most of those in the entry */
    uintptr_t spawn_pc;
    uint32_t nframes;
    uint8_t state, reason;
    bool call;   /* frames[0] is a return address, as the others are */
    bool pinned; /* weft_thread_lock() */
    bool kernel; /* it runs, but is blocked there */
    int m, p;    /* numbers of the M and the P it has; -1: none */
    char name[NAME_MAX_LEN + 1];
    uintptr_t frames[ENTRY_FRAMES];
    uint32_t at
        [ENTRY_FRAMES]; /* parked: where each lies on the stack, from its stack pointer on; 0: not found */
} Entry;
/* A report begins: caller is the coroutine of the reporting thread, or NULL, and stands at `at` */
void report_begin(const G *caller, const ArchContext *at);
/* g as it is now. It may run, end, and be gone from memory meanwhile: then *e is as far as it got */
void report_entry(Entry *e, G *g);
void report_note(Entry *e, G *g); /* the same, and begin */
/* fn(arg, g); false: it met a fault. Must leave nothing to be undone */
bool report_guarded(bool (*fn)(void *arg, G *g), void *arg, G *g);
/* Of a parked one: the address in its innermost frame, else 0; under guard */
uintptr_t report_inmost(const G *g);
/* g, with the same of all that a dump groups by, has e's backtrace; of what is not parked: neither has one; under guard */
bool report_equals(const Entry *e, const G *g);
int64_t report_age_of(const G *g);
void report_copy_name(char to[NAME_MAX_LEN + 1], const G *g);
const char *report_state(uint8_t state, uint8_t reason);
void report_who(Out *o, uint64_t id, const char *name);
void report_age(Out *o, int64_t age); /* ", 3 s", from a second on */
/* "created at ...", after `before`; nothing if pc is 0 */
void report_spawn(Out *o, uint64_t id, uintptr_t pc, const char *before);
void report_created(Out *o, uint64_t id, uintptr_t pc); /* the same, as a line */
void report_frames(Out *o, const uintptr_t *frames, uint32_t n, bool first_is_call);
void report_where(Out *o, const Entry *e); /* backtrace and spawn site, in lines of their own */
void report_print(Out *o, const Entry *e); /* and who, and its state */

/* ---- fatal.c ---- */
/* The process is dying: should the report crash or take longer than some
 * seconds, end it as announced: with status 2, or by SIGSEGV. */
void fatal_guard(bool by_signal);
void fatal_unguard(void);

#endif
