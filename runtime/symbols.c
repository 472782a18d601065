/* SPDX-License-Identifier: MIT
 *
 * symbols.c: what the objects of objects.c say of names, for safepoint.c: which functions
 * hand out addresses of the thread's own, and where a slot of a linkage table leads.
 *
 * Givers are functions whose result (or argument) belongs to the calling thread and
 * may be kept by the code around the call. Their addresses are looked up, at the start
 * of a run, in every place that may define them.
 *
 * A slot of the linkage table that is not bound yet has no function in it. It will
 * get one by the name in its relocation, from one of the objects that the loader
 * searches for everybody: those that were there when the program started, which is
 * the table without the vdso; what is opened later comes after them. So we look the
 * name up in all of them, by their hash tables, and what we find, of whatever
 * version, is what the slot may lead to: more than it will, never less. Not told, and
 * so refused without being remembered: a name that none has, a function that is chosen
 * when it is bound (IFUNC; but in libc, where givers are none), and slots of objects that
 * are not in the table, since those may be bound to others that are not: unless libc has
 * the name, whose meaning is then known.
 * Bounded: SCOPE objects, in each a few words and CHAIN symbols, names of NAME bytes,
 * SLOT_TARGETS functions. (LD_AUDIT may bind as it likes: not under our eyes.) */
#include "objects.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

enum {
    GIVERS = 256,
    SCOPE = 128,           /* objects in which a name is looked up */
    CHAIN = 128,           /* symbols that are looked at in each */
    NAME = 4096,           /* longest name, with its end */
    ENTRIES = 256,         /* of a dynamic section */
    LOOK_UP = 8,           /* cost of looking into one object, see Targets */
    RELOCATIONS = 1 << 16, /* of a linkage table that is searched from end to end */
};

static struct {
    uintptr_t at[GIVERS]; /* sorted */
    uint32_t n;
    bool full; /* there are more than we can keep */
} givers;

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

static Function *const linked_givers[] = {
    (Function *)weft_errno, (Function *)pthread_self,     (Function *)pthread_getspecific,
    (Function *)uselocale,  (Function *)strerror,         (Function *)pthread_sigmask,
    (Function *)syscall,    (Function *)__errno_location,
};

/* ---- the dynamic section ------------------------------------------------------------- */

bool dynamic_entry(const Object *o, size_t i, ElfW(Dyn) * out)
{
    uintptr_t at = o->dynamic + i * sizeof(*out);
    if (o->dynamic == 0 || i >= ENTRIES || !object_readable(o, at, sizeof(*out), 0))
        return false;
    memcpy(out, (const void *)at, sizeof(*out));
    return out->d_tag != DT_NULL;
}

uintptr_t dynamic_value(const Object *o, ElfW(Sxword) tag)
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

void tables_read(const Object *o, Tables *out)
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

const char *dynamic_string(const Object *o, uintptr_t offset)
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
    uint32_t n;
    const Object *object = objects_table(&n);
    if (n > SCOPE)
        return false;
    out->cost += n * LOOK_UP;
    for (uint32_t i = 0; i < n; i++)
        if (object[i].searched && !object_look_up(&object[i], name, out))
            return false;
    return out->n > 0 || out->library;
}

/* ---- slots of a linkage table ------------------------------------------------------------ */

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

/* ---- givers ---------------------------------------------------------------------------- */

bool object_is_giver(uintptr_t at)
{
    uint32_t lo = 0, hi = givers.n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (givers.at[mid] == at)
            return true;
        if (givers.at[mid] < at)
            lo = mid + 1;
        else
            hi = mid;
    }
    return false;
}

static void giver_add(uintptr_t at)
{
    if (at == 0)
        return;
    uint32_t i = 0;
    while (i < givers.n && givers.at[i] < at)
        i++;
    if (i < givers.n && givers.at[i] == at)
        return;
    if (givers.n == GIVERS) {
        givers.full = true;
        return;
    }
    memmove(&givers.at[i + 1], &givers.at[i], (givers.n - i) * sizeof(uintptr_t));
    givers.at[i] = at;
    givers.n++;
}

bool givers_init(void)
{
    static const char *const from[] = {
        "libc.so.6",      "libpthread.so.0",      "libstdc++.so.6",
        "libc++abi.so.1", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"};
    givers.n = 0;
    givers.full = false;
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
    return !givers.full;
}

/* dlsym() finds but the first definition. */
bool givers_init_table(void)
{
    uint32_t n;
    const Object *object = objects_table(&n);
    for (size_t i = 0; i < COUNT(giver_names); i++) {
        Name name;
        bool is = name_take(giver_names[i], NAME, &name);
        for (uint32_t k = 0; is && k < n; k++) {
            Targets found = {0};
            object_look_up(&object[k], &name, &found);
            for (uint32_t j = 0; j < found.n; j++)
                giver_add(found.at[j]);
        }
    }
    return !givers.full;
}
