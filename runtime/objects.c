/* SPDX-License-Identifier: MIT
 *
 * objects.c: what is loaded, for safepoint.c: whose code an address is, and what may
 * be read around it. symbols.c has what an object says of names and functions.
 *
 * The table holds the objects that are never unloaded: the program, what it needs
 * (DT_NEEDED, and so on from there) and the vdso. It is made at the start of a run,
 * with the loader's lock, and constant from then on: a look-up in a handler is a
 * binary search. All other objects, opened before or after, might go away and
 * another appear at the same address, so nothing about them is remembered; they
 * are asked for each time through _dl_find_object() (glibc 2.35, made to be called
 * from handlers) and described from their own program headers. Without that
 * function they are unknown, and unknown means not moved. While one of the frames on
 * a stack is code of such an object it stays; should a walk through bad tables
 * find an address in an object that is none of the stack's, and another thread
 * unload that one at this very moment, we would read unmapped memory. We take that.
 *
 * Kinds are told by the file's name, and by where the symbols of allocators and
 * sanitizers lead. In a statically linked program libc is not an object. A linker
 * puts the members of an archive next to each other: what lies between the lowest
 * and the highest of some functions known to be libc's is taken for libc, and the
 * same for the allocator, and for a sanitizer's runtime (clang's is part of the program).
 * That catches most, not all: a coroutine stopped with libc's lock there waits its turn
 * like any other, at worst. (-static also leaves out .eh_frame_hdr, without which nothing
 * is moved; -static-pie has it.) */
#include "objects.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { MARKS = 16, SPANS = 3 };

static struct {
    Object *object; /* sorted by lo */
    uint32_t n;
    uintptr_t mark[MARKS]; /* code of allocators and sanitizers */
    uint32_t nmarks;
    bool sanitized; /* or more givers than we can keep */
    struct {
        uintptr_t lo, hi;
    } span[SPANS]; /* libraries inside the program; empty: lo > hi */
#ifdef DLFO_STRUCT_HAS_EH_DBASE
    int (*find)(void *, struct dl_find_object *);
#endif
} loaded;

static const char *const library_names[] = {
    "libc.so",     "libc-",       "libc.musl", "ld-",          "ld.so",       "ld64.so",
    "libpthread",  "libdl.",      "libdl-",    "librt.",       "librt-",      "libresolv",
    "libnss_",     "libnsl",      "libanl",    "libthread_db", "libjemalloc", "libtcmalloc",
    "libmimalloc", "libsnmalloc", "libhoard",  "librpmalloc",  "libscudo",    "libasan",
    "libtsan",     "libubsan",    "liblsan",   "libmsan",      "libhwasan",   "libclang_rt",
};
enum { VDSO = 0 };
static const char *const fixed_names[] = {
    [VDSO] = "linux-vdso", "libweft", "libgcc_s", "libstdc++", "libc++",
    "libunwind",           "libgomp", "libomp",   "libatomic", "libsupc++",
};
static const char *const mark_names[] = {
    "malloc", "free", "mallocx", "mi_malloc", "tc_malloc", "__ubsan_handle_add_overflow",
};
/* clang links them into the program: the first and last of these bound what is taken for theirs. */
static const char *const sanitizer_names[] = {
    "__asan_init",         "__asan_memcpy",
    "__asan_report_load1", "__tsan_init",
    "__tsan_func_entry",   "__msan_init",
    "__hwasan_init",       "__lsan_do_leak_check",
    "__interceptor_qsort", "__sanitizer_get_heap_size",
};

/* Of libraries that may be part of the program, see span_init(). */
static Function *const linked_libc[] = {
    (Function *)exit,   (Function *)vfprintf, (Function *)fwrite,          (Function *)setlocale,
    (Function *)strtol, (Function *)strtod,   (Function *)mktime,          (Function *)write,
    (Function *)mmap,   (Function *)fopen,    (Function *)getenv,          (Function *)sigaction,
    (Function *)qsort,  (Function *)snprintf, (Function *)dl_iterate_phdr, (Function *)memchr,
    (Function *)dlsym,
};
static Function *const linked_allocator[] = {
    (Function *)malloc,  (Function *)free,           (Function *)calloc,
    (Function *)realloc, (Function *)posix_memalign, (Function *)aligned_alloc,
};

/* ---- what may be read ----------------------------------------------------------- */

uintptr_t object_end(const Object *o, uintptr_t at)
{
    for (uint32_t i = 0; i < o->nseg; i++)
        if (at >= o->seg[i].lo && at < o->seg[i].hi)
            return (o->seg[i].flags & PF_R) != 0 ? o->seg[i].hi : 0;
    return 0;
}

bool object_readable(const Object *o, uintptr_t at, size_t size, uint32_t flags)
{
    for (uint32_t i = 0; i < o->nseg; i++) {
        const Segment *s = &o->seg[i];
        if (at >= s->lo && at < s->hi)
            return size <= s->hi - at && (s->flags & (PF_R | flags)) == (PF_R | flags);
    }
    return false;
}

/* Whatever code refers to may be asked for: also what the address sanitizer has put marks around.
 * */
__attribute__((no_sanitize("address"))) bool object_word(const Object *o, uintptr_t at,
                                                         uintptr_t *out)
{
    typedef uintptr_t __attribute__((may_alias, aligned(1))) Word;
    if (!object_readable(o, at, sizeof(Word), 0))
        return false;
    *out = *(const Word *)at;
    return true;
}

/* ---- describing an object ----------------------------------------------------------- */

static bool object_fill(Object *o, uintptr_t base, const ElfW(Phdr) * ph, size_t n)
{
    *o = (Object){.lo = UINTPTR_MAX, .base = base};
    for (size_t i = 0; i < n; i++) {
        uintptr_t at = base + ph[i].p_vaddr;
        if (ph[i].p_type == PT_GNU_EH_FRAME)
            o->frames = at;
        else if (ph[i].p_type == PT_DYNAMIC)
            o->dynamic = at;
        if (ph[i].p_type != PT_LOAD || ph[i].p_memsz == 0)
            continue;
        if (o->nseg == OBJECT_SEGMENTS)
            return false;
        o->seg[o->nseg++] = (Segment){.lo = at, .hi = at + ph[i].p_memsz, .flags = ph[i].p_flags};
        if (at < o->lo)
            o->lo = at;
        if (at + ph[i].p_memsz > o->hi)
            o->hi = at + ph[i].p_memsz;
    }
    return o->nseg > 0;
}

static bool name_begins(const char *name, const char *const *with, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t k = 0;
        while (with[i][k] != 0 && name[k] == with[i][k])
            k++;
        if (with[i][k] == 0)
            return true;
    }
    return false;
}

static enum ObjectKind object_classify(const Object *o, const char *path)
{
    const char *name = path;
    for (const char *c = path; *c != 0; c++)
        if (*c == '/')
            name = c + 1;
    if (name_begins(name, library_names, COUNT(library_names)))
        return OBJECT_LIBRARY;
    for (uint32_t i = 0; i < loaded.nmarks; i++)
        if (loaded.mark[i] >= o->lo && loaded.mark[i] < o->hi)
            return OBJECT_LIBRARY;
    uintptr_t here = (uintptr_t)object_classify;
    if (name_begins(name, fixed_names, COUNT(fixed_names)) || (here >= o->lo && here < o->hi))
        return OBJECT_FIXED;
    return OBJECT_USER;
}

/* An object that is not in the table. */
static const Object *object_ask(uintptr_t addr, Object *room)
{
#ifdef DLFO_STRUCT_HAS_EH_DBASE
    struct dl_find_object found;
    if (loaded.find == NULL || loaded.find((void *)addr, &found) != 0)
        return NULL;
    /* The file's header begins its first page in memory: so do linkers lay it out. */
    uintptr_t start = (uintptr_t)found.dlfo_map_start;
    const ElfW(Ehdr) *e = (const ElfW(Ehdr) *)start;
    const struct link_map *map = found.dlfo_link_map;
    if (map == NULL || map->l_name == NULL || memcmp(e->e_ident, ELFMAG, SELFMAG) != 0 ||
        e->e_phentsize != sizeof(ElfW(Phdr)) || e->e_phoff > 512 || e->e_phnum > 32)
        return NULL;
    if (!object_fill(room, map->l_addr, (const ElfW(Phdr) *)(start + e->e_phoff), e->e_phnum) ||
        room->lo < start || room->hi > (uintptr_t)found.dlfo_map_end || addr < room->lo ||
        addr >= room->hi)
        return NULL;
    room->kind = object_classify(room, map->l_name);
    return room;
#else
    (void)addr, (void)room;
    return NULL;
#endif
}

const Object *object_find(uintptr_t addr, Object *room)
{
    uint32_t lo = 0, hi = loaded.n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (addr < loaded.object[mid].lo)
            hi = mid;
        else if (addr >= loaded.object[mid].hi)
            lo = mid + 1;
        else
            return &loaded.object[mid];
    }
    return object_ask(addr, room);
}

const Object *objects_table(uint32_t *n)
{
    *n = loaded.n;
    return loaded.object;
}

bool objects_sanitized(void)
{
    return loaded.sanitized;
}

bool object_in_static_library(uintptr_t pc)
{
    for (int i = 0; i < SPANS; i++)
        if (pc >= loaded.span[i].lo && pc < loaded.span[i].hi)
            return true;
    return false;
}

/* ---- the start of a run ------------------------------------------------------------------- */

typedef struct {
    const char **name;
    uint32_t room;
    bool dynamic; /* the program has a loader */
} Collect;

static int objects_count(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)info, (void)size;
    ++*(uint32_t *)arg;
    return 0;
}

static int objects_collect(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    Collect *c = arg;
    Object *o = &loaded.object[loaded.n];
    bool program = loaded.n == 0;
    if (loaded.n == c->room || !object_fill(o, info->dlpi_addr, info->dlpi_phdr, info->dlpi_phnum))
        return 0;
    const char *name = info->dlpi_name != NULL ? info->dlpi_name : "";
    c->name[loaded.n++] = name;
    o->kind = program ? OBJECT_USER : object_classify(o, name);
    bool vdso = name_begins(name, &fixed_names[VDSO], 1);
    o->permanent = program || vdso;
    o->searched = !vdso;
    tables_read(o, &o->tables);
    if (!program && name[0] == 0) /* an old name of the vdso */
        o->kind = OBJECT_FIXED;
    for (size_t i = 0; program && i < info->dlpi_phnum; i++)
        c->dynamic |= info->dlpi_phdr[i].p_type == PT_INTERP;
    return 0;
}

/* Mark what o needs; true: one was new. */
static bool objects_mark_needed(const Object *o, const char *const *names)
{
    ElfW(Dyn) d;
    bool any = false;
    for (size_t i = 0; dynamic_entry(o, i, &d); i++) {
        const char *want = d.d_tag == DT_NEEDED ? dynamic_string(o, d.d_un.d_val) : NULL;
        for (uint32_t k = 0; want != NULL && k < loaded.n; k++) {
            Object *other = &loaded.object[k];
            uintptr_t soname = dynamic_value(other, DT_SONAME);
            const char *is = soname != 0 ? dynamic_string(other, soname) : names[k];
            if (is == NULL || strcmp(is, want) != 0)
                continue;
            any |= !other->permanent;
            other->permanent = true;
            break; /* another by this name was opened by its path */
        }
    }
    return any;
}

static int objects_order(const void *a, const void *b)
{
    const Object *x = a, *y = b;
    return x->lo < y->lo ? -1 : x->lo > y->lo;
}

/* The loader's list begins with what was there at the start. Some of that nobody needs: LD_PRELOAD. */
static bool objects_mark_first(void)
{
    bool later = false, any = false;
    for (uint32_t i = loaded.n; i-- > 0;) {
        later |= loaded.object[i].permanent;
        any |= later && !loaded.object[i].permanent;
        loaded.object[i].permanent = later;
    }
    return any;
}

static void objects_keep_permanent(const char *const *names)
{
    for (bool again = true; again;) {
        again = false;
        for (uint32_t i = 0; i < loaded.n; i++)
            if (loaded.object[i].permanent)
                again |= objects_mark_needed(&loaded.object[i], names);
        again |= objects_mark_first();
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < loaded.n; i++)
        if (loaded.object[i].permanent)
            loaded.object[kept++] = loaded.object[i];
    loaded.n = kept;
    qsort(loaded.object, loaded.n, sizeof(Object), objects_order);
}

static void mark_add(const char *name)
{
    uintptr_t at = (uintptr_t)dlsym(RTLD_DEFAULT, name);
    if (at != 0 && loaded.nmarks < MARKS)
        loaded.mark[loaded.nmarks++] = at;
}

static void marks_init(void)
{
    loaded.nmarks = 0;
    for (size_t i = 0; i < COUNT(sanitizer_names); i++)
        mark_add(sanitizer_names[i]);
    loaded.sanitized = loaded.nmarks > 0;
    for (size_t i = 0; i < COUNT(mark_names); i++)
        mark_add(mark_names[i]);
#ifdef DLFO_STRUCT_HAS_EH_DBASE
    *(void **)&loaded.find = dlsym(RTLD_DEFAULT, "_dl_find_object");
#endif
}

/* What lies between functions of a library that is part of the program. */
static void span_init(int which, const Object *program, Function *const *of, size_t n)
{
    loaded.span[which].lo = UINTPTR_MAX;
    loaded.span[which].hi = 0;
    for (size_t i = 0; i < n; i++) {
        uintptr_t at = (uintptr_t)of[i];
        /* The program may have stubs by these names instead. */
        if (!object_readable(program, at, 16, PF_X) ||
            arch_stub_slot((const uint8_t *)at, (const uint8_t *)at + 16) != 0)
            continue;
        Fde f;
        uintptr_t end = fde_find(program, at, &f) ? f.end : at + 1;
        if (at < loaded.span[which].lo)
            loaded.span[which].lo = at;
        if (end > loaded.span[which].hi)
            loaded.span[which].hi = end;
    }
}

int objects_init(void)
{
    Collect c = {0};
    marks_init();
    loaded.sanitized |= !givers_init();
    dl_iterate_phdr(objects_count, &c.room);
    objects_fini();
    loaded.object = rt_alloc(c.room * sizeof(Object));
    c.name = rt_alloc(c.room * sizeof(*c.name));
    if (loaded.object == NULL || c.name == NULL) {
        rt_free(c.name);
        objects_fini();
        return -ENOMEM;
    }
    dl_iterate_phdr(objects_collect, &c);
    if (loaded.n > 0) {
        span_init(0, &loaded.object[0], linked_allocator, COUNT(linked_allocator));
        if (loaded.sanitized)
            span_init(2, &loaded.object[0], (Function *const *)loaded.mark, loaded.nmarks);
        span_init(1, &loaded.object[0], linked_libc, c.dynamic ? 0 : COUNT(linked_libc));
        objects_keep_permanent(c.name);
        loaded.sanitized |= !givers_init_table();
    }
    rt_free(c.name);
    return 0;
}

void objects_fini(void)
{
    rt_free(loaded.object);
    loaded.object = NULL;
    loaded.n = 0;
}
