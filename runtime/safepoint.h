/* SPDX-License-Identifier: MIT
 *
 * safepoint.h: between safepoint.c (the verdict), objects.c (what is loaded), symbols.c
 * (what it says of names), ehframe.c (where functions begin and end) and walk.c (the
 * walk up a stack). Everything here but objects_init/fini may be called in a signal
 * handler: no lock, no allocation, no errno.
 *
 * What may be read, and why it is mapped: the segments of an Object, of which
 * one of the frames on the stack is code or which is never unloaded; the stack,
 * from the red zone below the interrupted stack pointer up to its top. Nothing
 * else; every read goes through object_readable() or walk_word(). */
#ifndef WEFT_SAFEPOINT_H
#define WEFT_SAFEPOINT_H

#include "rt.h"

/* ---- objects.c --------------------------------------------------------------- */

enum ObjectKind {
    OBJECT_USER,    /* code that may be moved if it is proved */
    OBJECT_FIXED,   /* never moved: the runtime, the C++ runtime, the vdso */
    OBJECT_LIBRARY, /* nor these: libc, loader, allocators, sanitizers; hold locks all need */
};

enum { OBJECT_SEGMENTS = 8 };

typedef struct {
    uintptr_t lo, hi;
    uint32_t flags; /* PF_R, PF_X */
} Segment;

/* What the loader knows of an object; 0: it has none. */
typedef struct {
    uintptr_t symbols, strings;
    uintptr_t gnu_hash, hash;
    uintptr_t got, relocations; /* of the linkage table */
    size_t nrelocations;
} Tables;

typedef struct {
    uintptr_t lo, hi; /* all its segments */
    uintptr_t base;   /* what its addresses in the file are relative to */
    uintptr_t frames; /* .eh_frame_hdr, or 0 */
    uintptr_t dynamic;
    enum ObjectKind kind;
    bool permanent; /* never unloaded: was there when the program started */
    bool searched;  /* and the loader looks names up in it for everybody */
    Tables tables;  /* of permanent ones */
    uint32_t nseg;
    Segment seg[OBJECT_SEGMENTS];
} Object;

int objects_init(void); /* not in a handler. -ENOMEM */
void objects_fini(void);
/* The object that addr lies in; NULL: none known. room: for one that is not in the table. */
const Object *object_find(uintptr_t addr, Object *room);
/* All of [at, at + size) lies in one readable segment, which has these flags too. */
bool object_readable(const Object *o, uintptr_t at, size_t size, uint32_t flags);
/* The word at `at`; false: not readable. */
bool object_word(const Object *o, uintptr_t at, uintptr_t *out);
/* Where the segment around `at` ends; 0: not readable. */
uintptr_t object_end(const Object *o, uintptr_t at);
/* Code of libc or an allocator that is linked into the program itself, as far as known. */
bool object_in_static_library(uintptr_t pc);
/* The process runs under a sanitizer that knows threads: its state is everywhere, nothing is moved.
 * */
bool objects_sanitized(void);

/* ---- symbols.c ---------------------------------------------------------------- */

/* at is a function that hands out the address of something of its thread's. */
bool object_is_giver(uintptr_t at);
/* The functions that a slot of a linkage or offset table leads to. */
enum { SLOT_TARGETS = 8 };
typedef struct {
    bool giver;    /* one is, by its name */
    bool library;  /* one is libc's */
    uint32_t cost; /* what finding out took, in bytes of code that are read in that time */
    uint32_t n;
    uintptr_t at[SLOT_TARGETS];
} Targets;
/* One function if the slot is bound, else all that it may be bound to. false: that cannot be told,
 * or not yet. */
bool object_slot(const Object *o, uintptr_t slot, Targets *out);
/* The slot is one of those that only stubs of the linkage table use. */
bool object_slot_is_linkage(const Object *o, uintptr_t slot);

/* ---- scan.c, beside what arch.h has --------------------------------------------- */

/* The instruction at code adds `offset` to a register that may hold any of an ArchScan's pages.
 * Such instructions are four bytes long, and so are all others of a processor that has them. */
bool arch_page_offset(const uint8_t *code, uintptr_t *offset);
/* At code starts what a slot leads to that is not bound yet. */
bool arch_is_binder(const uint8_t *code, const uint8_t *end);

/* ---- ehframe.c ---------------------------------------------------------------- */

/* A function, or a part of one: what one FDE describes. */
typedef struct {
    uintptr_t start, end;
    uintptr_t record;                               /* the FDE itself */
    uintptr_t rules, rules_end, common, common_end; /* the FDE's instructions, the CIE's */
    uint64_t code_align;
    int64_t data_align;
    uint32_t return_reg;
    bool signal_frame;
} Fde;

/* The FDE for the code at pc; false: none, or not understood. */
bool fde_find(const Object *o, uintptr_t pc, Fde *out);
/* The FDE before f's in .eh_frame, and the one after. -1: cannot be told; 0: f's is the first, the
 * last. */
int fde_before(const Object *o, const Fde *f, Fde *out);
int fde_after(const Object *o, const Fde *f, Fde *out);

/* ---- walk.c ------------------------------------------------------------------- */

/* The function starts as every function does when it is called: nothing saved, nothing pushed. A
 * part that was split off usually does not. */
bool fde_starts_plain(const Object *o, const Fde *f);

typedef struct {
    uintptr_t lo, hi; /* what may be read of the stack */
    uintptr_t pc;
    bool call;  /* pc is a return address */
    bool ended; /* the last step came to a frame without a caller */
    enum WalkReturn {
        RETURN_ELSEWHERE,
        RETURN_AT,
        RETURN_LINK
    } ret; /* where the last step found pc */
    uintptr_t
        ret_at; /* RETURN_AT: its address. RETURN_LINK: it was in the interrupted link register */
    uintptr_t reg[ARCH_DWARF_REGS];
} Walk;

void walk_start(Walk *w, const void *ucontext, const void *lo, const void *hi);
bool walk_word(const Walk *w, uintptr_t at, uintptr_t *out);
/* To the caller of the frame that o and f describe. false: no further; w->ended tells whether
 * properly. */
bool walk_step(Walk *w, const Object *o, const Fde *f);

#endif
