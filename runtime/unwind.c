/* SPDX-License-Identifier: MIT
 *
 * unwind.c: backtraces of contexts that are not running, and names for them.
 *
 * By libunwind where there is one: it follows .eh_frame, so code built without
 * frame pointers is seen too, and it reads .symtab, so static functions have
 * names. It is opened with RTLD_LOCAL when the runtime first starts, never
 * linked: its _Unwind_* functions would shadow libgcc's in the host program.
 * Without it: the frame-pointer chain, and the names dladdr() knows.
 *
 * libunwind takes the loader's lock and needs some 16 KiB of stack. This is
 * for cold paths, on the report stack; a caller that cannot afford to wait
 * sets an alarm first (fatal.c, dump_overflow).
 *
 * A walk may meet a stack that somebody runs on meanwhile. libunwind asks the
 * kernel about a page before it reads from it, the chain is held between
 * bounds, both go one way only and at most `max` frames: the worst is a
 * backtrace that makes no sense.
 */
#include "report.h"

#include <dlfcn.h>

#ifdef HAVE_LIBUNWIND
#define UNW_LOCAL_ONLY
#include <libunwind.h>

/* The functions' real names carry the CPU's; the header's macros know them. */
#define UNWIND_NAME2(x) #x
#define UNWIND_NAME(x) UNWIND_NAME2(x)

static struct {
    int (*init)(unw_cursor_t *c, unw_context_t *uc, int flags);
    int (*step)(unw_cursor_t *c);
    int (*reg)(unw_cursor_t *c, int reg, unw_word_t *value);
    int (*name)(unw_cursor_t *c, char *buf, size_t size, unw_word_t *offset);
} unw;

void unwind_load(void)
{
    void *lib = dlopen("libunwind.so.8", RTLD_LOCAL | RTLD_NOW);
    if (lib == NULL)
        return; /* frame pointers will do */
    *(void **)&unw.step = dlsym(lib, UNWIND_NAME(unw_step));
    *(void **)&unw.reg = dlsym(lib, UNWIND_NAME(unw_get_reg));
    *(void **)&unw.name = dlsym(lib, UNWIND_NAME(unw_get_proc_name));
    if (unw.step != NULL && unw.reg != NULL && unw.name != NULL)
        *(void **)&unw.init = dlsym(lib, UNWIND_NAME(unw_init_local2));
}

static bool unwind_start(unw_cursor_t *c, unw_context_t *uc, const ArchContext *ctx, bool call)
{
    if (unw.init == NULL)
        return false;
    memset(uc, 0, sizeof(*uc));
    arch_fill_ucontext(ctx, uc);
    return unw.init(c, uc, call ? 0 : UNW_INIT_SIGNAL_FRAME) == 0;
}

static uint32_t unwind_walk_cfi(const ArchContext *ctx, void *ucontext, bool call, const void *lo,
                                const void *hi, uintptr_t *pcs, uintptr_t *sps, uint32_t max)
{
    unw_cursor_t c;
    unw_context_t uc;
    uint32_t n = 0;
    if (ucontext != NULL) {
        if (unw.init == NULL || unw.init(&c, ucontext, UNW_INIT_SIGNAL_FRAME) != 0)
            return 0;
    } else if (!unwind_start(&c, &uc, ctx, call)) {
        return 0;
    }
    uintptr_t last = 0;
    while (n < max) {
        unw_word_t pc, sp;
        if (unw.reg(&c, UNW_REG_IP, &pc) != 0 || pc == 0 || unw.reg(&c, UNW_REG_SP, &sp) != 0)
            break;
        /* After an overflow the first sp is below lo: only the frames further out must fit. */
        if (n > 0 && (sp <= last || sp <= (uintptr_t)lo || sp > (uintptr_t)hi))
            break;
        last = sp;
        if (sps != NULL)
            sps[n] = sp;
        pcs[n++] = pc;
        if (unw.step(&c) <= 0)
            break;
    }
    return n;
}

static bool unwind_name_cfi(uintptr_t pc, char *buf, size_t size, uintptr_t *offset)
{
    unw_cursor_t c;
    unw_context_t uc;
    unw_word_t off;
    ArchContext ctx = {.pc = pc};
    if (!unwind_start(&c, &uc, &ctx, false))
        return false;
    int err = unw.name(&c, buf, size, &off);
    if (err != 0 && err != -UNW_ENOMEM) /* that one: cut to the buffer's size */
        return false;
    *offset = off;
    return true;
}
#else
void unwind_load(void)
{
}

static uint32_t unwind_walk_cfi(const ArchContext *ctx, void *ucontext, bool call, const void *lo,
                                const void *hi, uintptr_t *pcs, uintptr_t *sps, uint32_t max)
{
    (void)ctx, (void)ucontext, (void)call, (void)lo, (void)hi, (void)pcs, (void)sps, (void)max;
    return 0;
}

static bool unwind_name_cfi(uintptr_t pc, char *buf, size_t size, uintptr_t *offset)
{
    (void)pc, (void)buf, (void)size, (void)offset;
    return false;
}
#endif

/* Frame pointers: fp points at the caller's fp, the return address is above it
 * (both CPUs). Code built without them leaves a value that is no frame, or skips
 * its callers. */
static uint32_t unwind_walk_fp(const ArchContext *ctx, const void *lo, const void *hi,
                               uintptr_t *pcs, uintptr_t *sps, uint32_t max)
{
    uint32_t n = 0;
    uintptr_t fp = ctx->fp, low = (uintptr_t)lo, high = (uintptr_t)hi;
    if (max > 0) {
        if (sps != NULL)
            sps[n] = ctx->sp;
        pcs[n++] = ctx->pc;
    }
    while (n < max && fp >= low && fp + 16 <= high && fp % sizeof(void *) == 0) {
        const uintptr_t *frame = (const uintptr_t *)fp;
        if (frame[1] < 4096)
            break; /* not code. No dladdr() here: its lock is held while constructors run */
        if (sps != NULL)
            sps[n] = fp + 16;
        pcs[n++] = frame[1];
        low = fp + 16;
        fp = frame[0];
    }
    return n;
}

uint32_t unwind_walk(const ArchContext *ctx, void *ucontext, bool call, const void *lo,
                     const void *hi, uintptr_t *pcs, uintptr_t *sps, uint32_t max)
{
    uint32_t n = unwind_walk_cfi(ctx, ucontext, call, lo, hi, pcs, sps, max);
    return n > 0 ? n : unwind_walk_fp(ctx, lo, hi, pcs, sps, max);
}

/* Names looked up, by address: parked coroutines stand at few different places,
 * and a look-up maps a file. Guarded by the report stack. */
typedef struct {
    uintptr_t key; /* pc << 1 | call */
    uint32_t len;
    char text[132];
} UnwindName;
static UnwindName unwind_names[256];

static void unwind_describe(Out *o, uintptr_t pc, bool call)
{
    Dl_info info = {0};
    char name[64];
    uintptr_t offset = 0;
    uintptr_t at = call ? pc - 1 : pc; /* a call may be a function's last instruction */
    const char *lib = "?";
    if (dladdr((void *)at, &info) != 0 && info.dli_fname != NULL) {
        const char *slash = strrchr(info.dli_fname, '/');
        lib = slash != NULL ? slash + 1 : info.dli_fname;
    }
    if (unwind_name_cfi(at, name, sizeof(name), &offset)) {
        out_strn(o, name, sizeof(name));
        offset += pc - at;
    } else if (info.dli_sname != NULL) {
        out_strn(o, info.dli_sname, sizeof(name));
        offset = pc - (uintptr_t)info.dli_saddr;
    } else {
        offset = pc - (uintptr_t)info.dli_fbase; /* as addr2line -e library takes it */
    }
    out_str(o, "+");
    out_hex(o, offset);
    out_str(o, " (");
    out_strn(o, lib, 32);
    out_str(o, ")");
}

void unwind_print(Out *o, uintptr_t pc, bool call)
{
    uintptr_t key = pc << 1 | call;
    UnwindName *u = &unwind_names[pc % (sizeof(unwind_names) / sizeof(unwind_names[0]))];
    if (u->key != key) {
        Out text;
        out_open(&text, -1); /* never flushed: the parts above are shorter than its buffer */
        unwind_describe(&text, pc, call);
        u->len = text.n < sizeof(u->text) ? text.n : (uint32_t)sizeof(u->text);
        memcpy(u->text, text.buf, u->len);
        u->key = key;
    }
    out_strn(o, u->text, u->len);
}
