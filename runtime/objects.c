/* SPDX-License-Identifier: MIT
 *
 * objects.c: what is loaded, for safepoint.c: whose code an address is, what may
 * be read around it, which functions hand out addresses of the thread's own.
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
 * is moved; -static-pie has it.)
 *
 * Givers are functions whose result (or argument) belongs to the calling thread and
 * may be kept by the code around the call. Their addresses are looked up
 * in every place that may define them.
 *
 * A slot of the linkage table that is not bound yet has no function in it. It will
 * get one by the name in its relocation, from one of the objects that the loader
 * searches for everybody: those that were there when the program started, which is
 * the table without the vdso; what is opened later comes after them. So we look the
 * name up in all of them, by their hash tables, and what we find, of whatever
 * version, is what the slot may lead to: more than it will, never less. Not told, and so refused without being remembered: a
 * name that none has, a function that is chosen when it is bound (IFUNC; but in libc, where
 * givers are none), and slots of objects that are not in the table, since those may be
 * bound to others that are not: unless libc has the name, whose meaning is then known.
 * Bounded: SCOPE objects, in each a few words and CHAIN symbols, names of NAME bytes,
 * SLOT_TARGETS functions. (LD_AUDIT may bind as it likes: not under our eyes.) */
#include "safepoint.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum {
    GIVERS = 256,
    MARKS = 16,
    SPANS = 3,
    SCOPE = 128,           /* objects in which a name is looked up */
    CHAIN = 128,           /* symbols that are looked at in each */
    NAME = 4096,           /* longest name, with its end */
    ENTRIES = 256,         /* of a dynamic section */
    LOOK_UP = 8,           /* cost of looking into one object, see Targets */
    RELOCATIONS = 1 << 16, /* of a linkage table that is searched from end to end */
};

static struct {
    Object *object; /* sorted by lo */
    uint32_t n;
    uintptr_t giver[GIVERS]; /* sorted */
    uint32_t ngivers;
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
static const char *const fixed_names[] = {
    "libweft",   "linux-vdso", "libgcc_s", "libstdc++", "libc++",
    "libunwind", "libgomp",    "libomp",   "libatomic", "libsupc++",
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
/* By what they hand out: addresses of the thread's variables; its name; its locale; buffers of its
 * own; what it keeps a pointer to, or what is only right until it is set back. */
static const char *const giver_names[] = {
    "weft_errno",
    "__errno_location",
    "___errno",
    "__errno",
    "__error",
    "__tls_get_addr",
    "___tls_get_addr",
    "__emutls_get_address",
    "pthread_getspecific",
    "__pthread_getspecific",
    "tss_get",
    "__ctype_b_loc",
    "__ctype_tolower_loc",
    "__ctype_toupper_loc",
    "__cxa_get_globals",
    "__cxa_get_globals_fast",
    "__h_errno_location",
    "__res_state",
    "__resolv_context_get",
    "__resolv_context_get_preinit",
    "__resolv_context_get_override",
    "__rpc_thread_createerr",
    "__rpc_thread_svc_fdset",
    "__rpc_thread_svc_pollfd",
    "__rpc_thread_svc_max_pollfd",
    "pthread_self",
    "thrd_current",
    "gettid",
    "syscall",
    "uselocale",
    "strerror",
    "strerror_l",
    "strsignal",
    "dlerror",
    "inet_ntoa",
    "__pthread_register_cancel",
    "__pthread_register_cancel_defer",
    "_pthread_cleanup_push",
    "_pthread_cleanup_push_defer",
    "pthread_setcancelstate",
    "pthread_setcanceltype",
    "pthread_sigmask",
    "sigprocmask",
    "sigaltstack",
    "flockfile",
    "_IO_flockfile",
    "ftrylockfile",
    "_IO_ftrylockfile",
};

/* In a static program dlsym() finds nothing, but the linker does. Not weak references: a symbol
 * that is weak here would be so in all that link-time optimisation puts beside it, and then not
 * be linked at all. */
typedef void Function(void);
static Function *const linked_givers[] = {
    (Function *)weft_errno, (Function *)pthread_self,     (Function *)pthread_getspecific,
    (Function *)uselocale,  (Function *)strerror,         (Function *)pthread_sigmask,
    (Function *)syscall,    (Function *)__errno_location,
};
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
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

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

/* ---- the dynamic section ------------------------------------------------------------- */

/* Entry i of an object's dynamic section. */
static bool dynamic_entry(const Object *o, size_t i, ElfW(Dyn) * out)
{
    uintptr_t at = o->dynamic + i * sizeof(*out);
    if (o->dynamic == 0 || i >= ENTRIES || !object_readable(o, at, sizeof(*out), 0))
        return false;
    memcpy(out, (const void *)at, sizeof(*out));
    return out->d_tag != DT_NULL;
}

static uintptr_t dynamic_value(const Object *o, ElfW(Sxword) tag)
{
    ElfW(Dyn) d;
    for (size_t i = 0; dynamic_entry(o, i, &d); i++)
        if (d.d_tag == tag)
            return d.d_un.d_val;
    return 0;
}

/* The loader has replaced addresses by absolute ones, where it could write. */
static uintptr_t dynamic_address(const Object *o, ElfW(Addr) v)
{
    return v == 0 || v >= o->base ? v : v + o->base;
}

static void tables_read(const Object *o, Tables *out)
{
    ElfW(Dyn) d;
    *out = (Tables){0};
    for (size_t i = 0; dynamic_entry(o, i, &d); i++) {
        uintptr_t at = dynamic_address(o, d.d_un.d_ptr);
        if (d.d_tag == DT_SYMTAB)
            out->symbols = at;
        else if (d.d_tag == DT_STRTAB)
            out->strings = at;
        else if (d.d_tag == DT_GNU_HASH)
            out->gnu_hash = at;
        else if (d.d_tag == DT_HASH)
            out->hash = at;
        else if (d.d_tag == DT_PLTGOT)
            out->got = at;
        else if (d.d_tag == DT_JMPREL)
            out->relocations = at;
        else if (d.d_tag == DT_PLTRELSZ)
            out->nrelocations = d.d_un.d_val / sizeof(ElfW(Rela));
    }
}

static const Tables *tables_of(const Object *o, Tables *room)
{
    if (o->tables.symbols != 0)
        return &o->tables;
    tables_read(o, room);
    return room;
}

/* The string at offset, NULL if it is not there in full. */
static const char *dynamic_string(const Object *o, uintptr_t offset)
{
    uintptr_t at = dynamic_address(o, dynamic_value(o, DT_STRTAB)) + offset,
              end = object_end(o, at);
    if (end == 0 || memchr((const char *)at, 0, end - at) == NULL)
        return NULL;
    return (const char *)at;
}

/* ---- names --------------------------------------------------------------------------- */

typedef struct {
    const char *text;
    size_t size; /* with the end */
    uint32_t gnu, sysv;
} Name;

/* The name at text, of which `room` bytes may be read. */
static bool name_take(const char *text, size_t room, Name *out)
{
    *out = (Name){.text = text, .gnu = 5381};
    for (size_t i = 0; i < room && i < NAME; i++) {
        uint8_t c = (uint8_t)text[i];
        if (c == 0) {
            out->size = i + 1;
            return true;
        }
        out->gnu = out->gnu * 33 + c;
        out->sysv = (out->sysv << 4) + c;
        out->sysv = (out->sysv ^ (out->sysv >> 24 & 0xf0)) & 0x0fffffff;
    }
    return false;
}

static bool name_gives(const Name *name)
{
    for (size_t i = 0; i < COUNT(giver_names); i++)
        if (strcmp(name->text, giver_names[i]) == 0)
            return true;
    return false;
}

static bool object_half(const Object *o, uintptr_t at, uint32_t *out)
{
    if (!object_readable(o, at, sizeof(*out), 0))
        return false;
    memcpy(out, (const void *)at, sizeof(*out));
    return true;
}

/* Symbol `index` of o, if it defines the name. false: not understood. */
static bool symbol_take(const Object *o, const Tables *t, uint32_t index, const Name *name,
                        Targets *out)
{
    ElfW(Sym) sym;
    uintptr_t at = t->symbols + index * sizeof(sym);
    if (!object_readable(o, at, sizeof(sym), 0))
        return false;
    memcpy(&sym, (const void *)at, sizeof(sym));
    uintptr_t text = t->strings + sym.st_name;
    if (!object_readable(o, text, 1, 0))
        return false;
    if (sym.st_shndx == SHN_UNDEF || ELF64_ST_BIND(sym.st_info) == STB_LOCAL ||
        !object_readable(o, text, name->size, 0) ||
        memcmp((const char *)text, name->text, name->size) != 0)
        return true;
    uint32_t type = ELF64_ST_TYPE(sym.st_info);
    out->library |= o->kind == OBJECT_LIBRARY;
    if (type == STT_GNU_IFUNC) /* it will choose */
        return o->kind == OBJECT_LIBRARY;
    uintptr_t function = o->base + sym.st_value;
    if ((type != STT_FUNC && type != STT_NOTYPE) || sym.st_shndx == SHN_ABS ||
        !object_readable(o, function, 1, PF_X) || out->n == SLOT_TARGETS)
        return false;
    out->at[out->n++] = function;
    return true;
}

static bool gnu_hash_look_up(const Object *o, const Tables *t, const Name *name, Targets *out)
{
    uint32_t buckets, first, words, shift, index, hash;
    uintptr_t bits, head = t->gnu_hash, h = name->gnu;
    if (!object_half(o, head, &buckets) || !object_half(o, head + 4, &first) ||
        !object_half(o, head + 8, &words) || !object_half(o, head + 12, &shift))
        return false;
    if (buckets == 0)
        return true;
    uintptr_t bucket = head + 16 + (uintptr_t)words * 8, chain = bucket + (uintptr_t)buckets * 4;
    if (words == 0 || (words & (words - 1)) != 0 || shift > 31 ||
        !object_word(o, head + 16 + (h / 64 & (words - 1)) * 8, &bits))
        return false;
    if ((bits >> h % 64 & bits >> (h >> shift) % 64 & 1) == 0)
        return true;
    if (!object_half(o, bucket + h % buckets * 4, &index) || (index != 0 && index < first))
        return false;
    for (uint32_t i = 0; index != 0 && i < CHAIN; i++, index++) {
        if (!object_half(o, chain + (uintptr_t)(index - first) * 4, &hash))
            return false;
        if ((hash | 1) == (h | 1) && !symbol_take(o, t, index, name, out))
            return false;
        if ((hash & 1) != 0)
            return true;
    }
    return index == 0;
}

static bool sysv_hash_look_up(const Object *o, const Tables *t, const Name *name, Targets *out)
{
    uint32_t buckets, index;
    if (!object_half(o, t->hash, &buckets))
        return false;
    if (buckets == 0)
        return true;
    uintptr_t bucket = t->hash + 8, chain = bucket + (uintptr_t)buckets * 4;
    if (!object_half(o, bucket + name->sysv % buckets * 4, &index))
        return false;
    for (uint32_t i = 0; index != 0 && i < CHAIN; i++)
        if (!symbol_take(o, t, index, name, out) ||
            !object_half(o, chain + (uintptr_t)index * 4, &index))
            return false;
    return index == 0;
}

/* Add what o defines by this name. false: that cannot be told. */
static bool object_look_up(const Object *o, const Name *name, Targets *out)
{
    Tables room;
    const Tables *t = tables_of(o, &room);
    if (t->symbols == 0)
        return true;
    if (t->gnu_hash != 0)
        return gnu_hash_look_up(o, t, name, out);
    return t->hash != 0 && sysv_hash_look_up(o, t, name, out);
}

/* All that a name may mean to the loader, when code that was there at the start asks for it. */
static bool name_look_up(const Name *name, Targets *out)
{
    if (loaded.n > SCOPE)
        return false;
    out->cost += loaded.n * LOOK_UP;
    for (uint32_t i = 0; i < loaded.n; i++)
        if (loaded.object[i].searched && !object_look_up(&loaded.object[i], name, out))
            return false;
    return out->n > 0 || out->library;
}

/* ---- givers ---------------------------------------------------------------------------- */

bool object_is_giver(uintptr_t at)
{
    uint32_t lo = 0, hi = loaded.ngivers;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (loaded.giver[mid] == at)
            return true;
        if (loaded.giver[mid] < at)
            lo = mid + 1;
        else
            hi = mid;
    }
    return false;
}

/* The name that a relocation of o is about. */
static bool relocation_name(const Object *o, const Tables *t, const ElfW(Rela) * rela, Name *out)
{
    ElfW(Sym) sym;
    uintptr_t at = t->symbols + ELF64_R_SYM(rela->r_info) * sizeof(sym);
    if (!object_readable(o, at, sizeof(sym), 0))
        return false;
    memcpy(&sym, (const void *)at, sizeof(sym));
    uintptr_t text = t->strings + sym.st_name, end = object_end(o, text);
    return end != 0 && name_take((const char *)text, end - text, out);
}

/* The relocation of a slot of the linkage table. 0: there is none; -1: cannot be told. Slots and
 * relocations are in the same order as far as we know linkers, so look there first. */
static int slot_relocation(const Object *o, const Tables *t, uintptr_t slot, ElfW(Rela) * out,
                           uint32_t *cost)
{
    uintptr_t table = t->relocations;
    size_t n = t->nrelocations, i = (slot - t->got) / sizeof(uintptr_t) - 3;
    if (table == 0 || n == 0)
        return 0;
    if (n > RELOCATIONS || table % sizeof(uintptr_t) != 0 ||
        !object_readable(o, table, n * sizeof(*out), 0))
        return -1;
    const ElfW(Rela) *rela = (const ElfW(Rela) *)table;
    if (i >= n || o->base + rela[i].r_offset != slot) {
        *cost += (uint32_t)n / 8;
        for (i = 0; i < n && o->base + rela[i].r_offset != slot;)
            i++;
    }
    if (i == n)
        return 0;
    *out = rela[i];
    return 1;
}

bool object_slot_is_linkage(const Object *o, uintptr_t slot)
{
    Tables room;
    ElfW(Rela) rela;
    uint32_t cost = 0;
    return slot_relocation(o, tables_of(o, &room), slot, &rela, &cost) > 0;
}

/* The slot holds an address in its own object: it is bound if a function starts there. */
static bool slot_is_bound(const Object *o, uintptr_t value)
{
    Fde f;
    return fde_find(o, value, &f) && f.start == value &&
           !arch_is_binder((const uint8_t *)f.start, (const uint8_t *)f.end);
}

bool object_slot(const Object *o, uintptr_t slot, Targets *out)
{
    Tables room;
    ElfW(Rela) rela;
    Name name;
    *out = (Targets){.n = 1};
    if (!object_word(o, slot, &out->at[0]))
        return false;
    uintptr_t value = out->at[0];
    if (value < o->lo || value >= o->hi || slot_is_bound(o, value))
        return true;
    const Tables *t = tables_of(o, &room);
    int has = slot_relocation(o, t, slot, &rela, &out->cost);
    if (has <= 0 || ELF64_R_TYPE(rela.r_info) != ARCH_JUMP_SLOT)
        return has == 0; /* a function that no table describes */
    out->n = 0;
    if (!relocation_name(o, t, &rela, &name))
        return false;
    out->giver = name_gives(&name);
    return out->giver || (name_look_up(&name, out) && (o->permanent || out->library));
}

static void giver_add(uintptr_t at)
{
    if (at == 0)
        return;
    uint32_t i = 0;
    while (i < loaded.ngivers && loaded.giver[i] < at)
        i++;
    if (i < loaded.ngivers && loaded.giver[i] == at)
        return;
    if (loaded.ngivers == GIVERS) {
        loaded.sanitized = true;
        return;
    }
    memmove(&loaded.giver[i + 1], &loaded.giver[i], (loaded.ngivers - i) * sizeof(uintptr_t));
    loaded.giver[i] = at;
    loaded.ngivers++;
}

static void givers_init(void)
{
    static const char *const from[] = {
        "libc.so.6",      "libpthread.so.0",      "libstdc++.so.6",
        "libc++abi.so.1", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"};
    loaded.ngivers = 0;
    for (size_t i = 0; i < COUNT(linked_givers); i++)
        giver_add((uintptr_t)linked_givers[i]);
    for (size_t i = 0; i < COUNT(giver_names); i++)
        giver_add((uintptr_t)dlsym(RTLD_DEFAULT, giver_names[i]));
    for (size_t k = 0; k < COUNT(from); k++) {
        void *lib = dlopen(from[k], RTLD_LAZY | RTLD_LOCAL | RTLD_NOLOAD);
        if (lib == NULL)
            continue;
        for (size_t i = 0; i < COUNT(giver_names); i++)
            giver_add((uintptr_t)dlsym(lib, giver_names[i]));
        dlclose(lib);
    }
}

/* Every definition in the objects of the table; dlsym() finds but the first. */
static void givers_init_table(void)
{
    for (size_t i = 0; i < COUNT(giver_names); i++) {
        Name name;
        bool is = name_take(giver_names[i], NAME, &name);
        for (uint32_t k = 0; is && k < loaded.n; k++) {
            Targets found = {0};
            object_look_up(&loaded.object[k], &name, &found);
            for (uint32_t j = 0; j < found.n; j++)
                giver_add(found.at[j]);
        }
    }
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
    bool vdso = name_begins(name, &fixed_names[1], 1);
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
    givers_init();
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
        givers_init_table();
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
