/* SPDX-License-Identifier: MIT
 *
 * window.c: windows: addresses, memory, free ones. Who may use one: copystack.c.
 *
 * A window looks like a slot of a private stack (stack.c): 1 GiB of addresses with a guard that moves
 * down as the stack grows, so faults, overflows, bounds and dumps need not know the difference. Windows are made
 * when they are needed, BATCH from one mapping, up to MOST of them: each costs a page and two of page tables. With
 * little address space (ulimit -v) the first ones are smaller, down to 256 KiB, and their number ends where the
 * space does.
 *
 * Free windows: each P keeps a few, last in, first out, as their top pages are warm; the rest is in a list. Who finds
 * no more there shares any window, a free one in another's list as well; it stays in that list, and who takes
 * it out looks whether it is still free.
 *
 * Memory. A window is as deep as the deepest stack it has held. window_trim(), from busy Ps and idle threads,
 * looks at each once a second; what has not been used since the last time but one loses its pages below
 * the live stack. It takes the biases away, all with one membarrier, and looks under each window's lock. Never the
 * monitor: copystack.c, "Where this runs".
 *
 * WEFT_DEBUG=stackshare: a window for each coroutine, smaller ones; what lies in it is inaccessible while its
 * coroutine is parked, and window_trespass() says who touched it.
 *
 * Locks: windows.lock, RANK_WINDOW like each window's, never both. w[] only grows during a run; the entry is
 * stored before the count.
 */
#include "copystack.h"

#include <errno.h>

enum {
    MOST = 1024,
    BATCH = 64,
    SHARE_MOST = WINDOWS_MAX,
    CACHE_MOST = 8, /* free ones kept by a P */
};
#define KIB ((size_t)1024)
#define MIB (1024 * KIB)
static const size_t SHARE_LIMIT = 16 * MIB;
static const size_t FIRST_ENOUGH = MIB; /* well above the first place of a guard */
static const int64_t TRIM_EVERY = 900000000, TRIM_SLICE = 300000;

struct Windows windows;

void window_init(uint32_t procs, bool membarrier)
{
    uint32_t most = sched.stackshare          ? SHARE_MOST
                    : sched.windows_most != 0 ? sched.windows_most
                                              : MOST;
    memset(&windows, 0, sizeof(windows));
    windows.limit = sched.stackshare ? SHARE_LIMIT : 1024 * MIB;
#if defined(WEFT_TSAN) || defined(WEFT_ASAN)
    windows.limit = 4 * MIB; /* the sanitizers' shadow */
#endif
    windows.most = most < WINDOWS_MAX ? most : WINDOWS_MAX;
    uint32_t cache = windows.most / (4 * procs);
    windows.cache = cache < CACHE_MOST ? cache : CACHE_MOST;
    windows.biased = membarrier && !sched.stackshare;
}

/* Nothing runs any more. */
void window_fini(void)
{
    uint32_t n = get(&windows.n), k = get(&windows.nbatches);
    set(&windows.n, 0);
    set(&windows.nbatches, 0);
    foreign_wait_all(); /* window_refuse() */
    for (uint32_t i = 0; i < n; i++)
        rt_free(get(&windows.w[i]));
    for (uint32_t i = 0; i < k; i++)
        sys_release(windows.batch[i].base, (size_t)(windows.batch[i].end - windows.batch[i].base));
    windows.free = NULL;
}

/* ---- making them ----------------------------------------------------------------------- */

static size_t stride_of(size_t limit)
{
    return (limit + slots_apart() + 4 * MIB - 1) &
           ~(2 * MIB - 1); /* guard and colour come on top */
}

/* Stacks of different windows start at different places in the caches and the TLB. */
static size_t colour(uint32_t id)
{
    return (id % 16) * CACHE_LINE + (id / 16 + id) % 64 * sys_page();
}

/* Addresses for more windows: the first ones may be smaller; a quarter of what there is, at most. */
static bool batch_make(void)
{
    uint32_t k = get(&windows.nbatches), n = windows.most - get(&windows.n);
    size_t most = sys_address_limit() / 16;
    if (k == BATCHES_MAX)
        return false;
    n = n < BATCH ? n : BATCH;
    for (char *base = NULL; base == NULL;) {
        size_t stride = stride_of(windows.limit);
        if (stride * n <= most && windows.bytes + stride * n <= 4 * most &&
            (base = sys_reserve(stride * n, 2 * MIB)) != NULL) {
            windows.bytes += stride * n;
            windows.batch[k] = (WindowBatch){base, base + stride * n, stride, get(&windows.n)};
            set_rel(&windows.nbatches, k + 1); /* pairs with window_at() */
            return true;
        }
        if (n > 1)
            n /= 2;
        else if (k == 0 && windows.limit > 256 * KIB)
            windows.limit /= 4, n = BATCH < windows.most ? BATCH : windows.most;
        else
            return false;
    }
    return false;
}

static Window *window_make(void)
{
    uint32_t id = get(&windows.n), k = get(&windows.nbatches);
    if (id == windows.most)
        return NULL;
    const WindowBatch *b = k > 0 ? &windows.batch[k - 1] : NULL;
    if (b == NULL || b->base + (id - b->first) * b->stride == b->end) {
        if (!batch_make()) {
            windows.most = id; /* there are no more: do not ask again */
            return NULL;
        }
        b = &windows.batch[k];
    }
    Window *w = rt_alloc_aligned(CACHE_LINE, sizeof(*w) + sizeof(Slot));
    if (w == NULL)
        return NULL;
    char *base = b->base + (id - b->first) * b->stride;
    w->free = w->listed = true; /* on the way from one */
    w->chunk.base = base;
    w->chunk.end = base + b->stride;
    w->chunk.stride = b->stride;
    w->chunk.limit = windows.limit;
    w->chunk.guard_size = 64 * KIB;
    w->chunk.nslots = 1;
    w->chunk.cls = STACK_WINDOW;
    *window_slot(w) = (Slot){.chunk = &w->chunk, .hi = w->chunk.end - slots_apart() - colour(id)};
    stack_ready(window_slot(w));
    set_rel(&windows.w[id], w);
    set_rel(&windows.n, id + 1); /* pairs with window_shared(), window_trim() */
    return w;
}

/* ---- free ones ---------------------------------------------------------------------------- */

static void windows_lock(void)
{
    lock_acquire(NULL, &windows.lock, RANK_WINDOW); /* RANK_ARENA is for guards: slots.c */
}

static void windows_unlock(void)
{
    lock_release(&windows.lock);
}

/* windows.lock held. */
static void free_push(Window *w)
{
    w->link = windows.free;
    windows.free = w;
    bump(&windows.nfree, 1);
}

Window *window_get(P *p)
{
    Window *w = p->windows;
    if (likely(w != NULL)) {
        p->windows = w->link;
        p->nwindows--;
        return w;
    }
    if (get(&windows.nfree) == 0 && get(&windows.n) == windows.most)
        return NULL;
    windows_lock();
    if ((w = windows.free) != NULL) {
        windows.free = w->link;
        bump(&windows.nfree, -1u);
    } else {
        w = window_make();
    }
    windows_unlock();
    return w;
}

void window_put(P *p, Window *w)
{
    if (p->nwindows < windows.cache) {
        w->link = p->windows;
        p->windows = w;
        p->nwindows++;
        return;
    }
    windows_lock();
    free_push(w);
    windows_unlock();
}

void window_flush(P *p)
{
    windows_lock();
    for (Window *w; (w = p->windows) != NULL;) {
        p->windows = w->link;
        free_push(w);
    }
    p->nwindows = 0;
    windows_unlock();
}

int window_reserve(void)
{
    if (likely(get(&windows.n) != 0))
        return 0;
    windows_lock();
    Window *w = get(&windows.n) == 0 ? window_make() : NULL;
    if (w != NULL)
        free_push(w);
    int rc = get(&windows.n) != 0 ? 0 : -ENOMEM;
    windows_unlock();
    return rc;
}

/* Each P begins elsewhere. */
Window *window_shared(P *p, uint32_t turn)
{
    uint32_t n = get_acq(&windows.n);
    return get_acq(&windows.w[((uint64_t)p->id * n / get(&sched.procs) + turn) % n]);
}

/* ---- whose is it? ------------------------------------------------------------------------------ */

static Window *window_at(const void *addr)
{
    uint32_t n = get_acq(&windows.nbatches);
    for (uint32_t i = 0; i < n; i++) {
        const WindowBatch *b = &windows.batch[i];
        if ((const char *)addr < b->base || (const char *)addr >= b->end)
            continue;
        uint32_t id = b->first + (uint32_t)((size_t)((const char *)addr - b->base) / b->stride);
        return id < get_acq(&windows.n) ? get_acq(&windows.w[id]) : NULL;
    }
    return NULL;
}

bool window_deepen(Window *w, size_t n)
{
    return n <= FIRST_ENOUGH || stack_deepen(window_slot(w), n);
}

void window_refuse(M *m, const void *object, const char *what)
{
    if (likely(get(&windows.nbatches) == 0))
        return;
    Window *w = window_at(object);
    if (w == NULL)
        return;
    G *g = m != NULL && m->g->slot == window_slot(w) ? m->g : w->resident;
    fatal("a %s at %p lies on the copied stack of coroutine %llu (%s), which is not there while "
          "that is parked: allocate it, or give that coroutine WEFT_STACK_PRIVATE",
          what, object, g != NULL ? (unsigned long long)g->id : 0,
          g != NULL && *name_of(g) != '\0' ? name_of(g) : "no name");
}

/* ---- WEFT_DEBUG=stackshare ---------------------------------------------------------------------- */

void window_protect(Window *w, char *sp, bool access)
{
    char *from = (char *)((uintptr_t)sp & ~((uintptr_t)sys_page() - 1));
    sys_protect(from, (size_t)(w->chunk.end - from), access);
}

void window_trespass(const M *m, const void *addr, void *ucontext)
{
    Window *w = sched.stackshare ? window_at(addr) : NULL;
    if (w == NULL || m == NULL || m->g->slot == window_slot(w))
        return;
    G *owner = w->resident;
    if (owner != NULL && !get(&owner->on))
        dump_trespass(m->g, owner, addr, ucontext);
}

/* ---- memory goes back ------------------------------------------------------------------------------ */

bool window_trim_pending(void)
{
    return get(&windows.used);
}

void window_used(void)
{
    if (!get(&windows.used))
        set(&windows.used, true);
}

/* Those whose second is over: nobody may enter them unseen. No lock is held over the membarrier. */
static void unbias_old(uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        Window *w = get_acq(&windows.w[i]);
        lock_acquire(NULL, &w->lock, RANK_WINDOW);
        if (get(&w->age) == WINDOW_TRIMMED - 1 && get(&w->bias) != NULL) {
            set(&w->bias, NULL);
            w->unseen = true; /* who comes before the barrier makes one */
            w->calm = 0;
        }
        lock_release(&w->lock);
    }
    sys_membarrier(); /* pairs with the fences in copystack_enter() and copystack_leave() */
}

/* w->lock held, its second is over. True: look again; else whoever leaves it asks for that. */
static bool trim_one(Window *w)
{
    G *g = w->resident;
    if (get(&w->bias) != NULL)
        return true; /* busy again */
    if (g != NULL && get_acq(&g->on)) {
        set(&w->age, 0);
        return false;
    }
    if (!sched.stackshare)
        stack_give_back(window_slot(w), g != NULL ? g->sp : window_slot(w)->hi);
    set(&w->age, WINDOW_TRIMMED);
    return false;
}

/* True: look again. */
static bool visit(Window *w)
{
    lock_acquire(NULL, &w->lock, RANK_WINDOW);
    uint8_t age = get(&w->age);
    bool again = age < WINDOW_TRIMMED - 1;
    if (get(&w->bias) == NULL)
        w->unseen = false; /* the barrier came after that */
    if (again)
        set(&w->age, age + 1);
    else if (age == WINDOW_TRIMMED - 1)
        again = trim_one(w);
    GList list = copystack_homeless(w);
    lock_release(&w->lock);
    for (G *g; (g = glist_get(&list)) != NULL;)
        sched_try_again(g);
    return again;
}

bool window_trim(int64_t now)
{
    if (!get(&windows.used) ||
        (get(&windows.next) == 0 && now - get(&windows.trimmed) < TRIM_EVERY) ||
        atomic_exchange(&windows.trimming, true))
        return false; /* one at a time: the marks are of its own barrier */
    uint32_t n = get_acq(&windows.n), i = get(&windows.next);
    if (i == 0) {
        set(&windows.trimmed, now);
        set(&windows.used, false);
        windows.again = false;
        unbias_old(n);
    }
    for (int64_t until = sys_now() + TRIM_SLICE; i < n && sys_now() < until; i++)
        windows.again |= visit(get_acq(&windows.w[i]));
    bool done = i >= n;
    set(&windows.next, done ? 0 : i);
    if (windows.again || !done)
        window_used();
    atomic_store(&windows.trimming, false);
    return done;
}
