/* SPDX-License-Identifier: MIT
 *
 * copystack.c: stacks that grow by copying.
 *
 * The idea. A C stack cannot be moved to other addresses: pointers into it are everywhere, and nobody
 * knows which words they are. It can be *stored* elsewhere, and put back to the same addresses before
 * its coroutine goes on. So coroutines share *windows*, each a range of addresses large enough for
 * any stack. A coroutine is bound to one window for life, and its stack lies there while it runs and for
 * as long as no other coroutine of the window wants to run. Then what is live of it, [sp, top), goes to a
 * *block* of the right size. A parked coroutine costs its live bytes, and a stack grows in the stored form:
 * by the next block being larger. Saving is lazy: while those that run often are no more than the
 * windows, nothing is copied.
 *
 * Who may use a window. g->on says that g needs its window as it is: from before a switch to it until after
 * the switch away from it, so also while it stands still in a signal handler (hold.c), is in the kernel
 * without a P, or parks in place because it is pinned. It is lowered *before* the commit that lets others resume g;
 * so a commit reads nothing that lies on the parked stack. w->resident and what lies in the window are changed
 * under w->lock, and only while the resident is not on.
 *
 * Two atomic operations for each switch would cost as much as the switch. So a window has a *bias*: the
 * resident that nobody has contended with lately enters and leaves by plain stores. Who wants the
 * window takes the bias away, with the expensive fence on its side:
 *
 *      the resident's M, entering    leaving                who wants the window (w->lock held)
 *      g->on = true                  g->on = false          w->bias = NULL
 *      (compiler barrier)            (compiler barrier)     membarrier()
 *      w->bias == g: go              w->bias == g: done     g->on: wait in w->waiters
 *      else take w->lock             else take w->lock      else save g
 *
 * membarrier() puts a full barrier somewhere into the M's column. Entering: if the M has read its bias before it,
 * its `on` is seen; if after, it finds NULL and takes the lock, which the other holds until g is saved. Leaving:
 * if it has read the bias before the barrier, `on` is false by then; if after, it takes the lock, and finds who waits. So
 * no stack is saved while it is used, and nobody waits for a window without being woken. Without a bias both
 * sides take the lock. After CALM entries in a row, and while nobody waits (who waits counts on the leaver's look), the
 * resident gets it again, so a barrier (some 2 us) comes once in so many switches at most. Without membarrier in
 * the kernel there is no bias. (tests/model/window.pml)
 *
 * w->bias and w->resident name a G, never a dead one: copystack_end() clears both before the G can be used again.
 *
 * Who cannot have its window is not in any run queue: it waits in w->waiters until the one that is on leaves, and
 * is then made ready. If the holder never leaves, those that share its window never run: hence the rule not to hold, while
 * parked, what others may wait for in the kernel, and copystack_watch(), which names both.
 *
 * Memory. A save may need a larger block, and there may be none: then nothing has happened, and who wanted the window
 * goes to the end of the global queue. Blocks of usual sizes stay with their G while it runs, so that the next save
 * needs no memory; large ones are given back.
 *
 * Where this runs. The short way, inline, on the stack of what ran before, under whatever lock that holds until its
 * commit. All else, which may take long, on g0 or at the end of a coroutine (sched.c, prepare()), inside the runtime and
 * with a P. Lock order: RANK_WINDOW, always with NULL for the M, since threads without a P take it too (lock.c); nothing
 * is taken under it but the allocator's locks. A coroutine that stands still may hold one of these (without jemalloc; with
 * it, when an arena or a cache is made): the monitor lends it a P, and must therefore never wait for a window's lock.
 *
 * What shared windows cannot do: a coroutine that keeps its window (blocked in the kernel, pinned and parked in place, or
 * spinning on a flag) until another one of the *same* window has done something waits for ever, and which share is chance.
 *
 * Rejected: fixing up pointers after a move (strtod() broke: the compiler keeps negated ones); saving at each park
 * (copies what nobody needs the place of); a window per P and no stealing of the coroutines bound to it
 * (a busy P starves its own); an owner word in the window, swapped by each switch (10 ns).
 */
#include "copystack.h"

#include "annotate.h"
#include "report.h"

enum {
    CALM = 64,
    SHALLOW = 8,      /* saves in a row that need a quarter of the block: it is halved */
    KEEP_MAX = 16384, /* bytes; a larger block is not kept while its coroutine runs */
};
static const size_t STARVED_NS = 100000;
static const int64_t KEEPS_NS = 1000000000, LOOK_NS = 250000000;

/* ---- what lies where ----------------------------------------------------------------- */

/* A block for n bytes of g's stack. */
static bool block_fit(P *p, G *g, size_t n)
{
    size_t size = g->block_size, want = n;
    bool shallow = n <= size / 4;
    g->shallow = shallow ? (uint8_t)(g->shallow + 1) : 0;
    if (n <= size && g->shallow < SHALLOW)
        return true;
    if (n <= size)
        want = size / 2;
    else if (want < 2 * size)
        want = 2 * size;
    void *block = block_alloc(p, want, &size);
    if (block == NULL && want > n)
        block = block_alloc(p, n, &size);
    if (block == NULL)
        return n <= g->block_size;
    block_free(p, g->block, g->block_size);
    g->block = block;
    g->block_size = (uint32_t)size;
    g->shallow = 0;
    return true;
}

static size_t live(const G *g)
{
    return (size_t)(g->slot->hi - (char *)g->sp);
}

/* w->lock held; the resident is not on. */
static bool save(M *m, Window *w)
{
    G *g = w->resident;
    size_t n = live(g);
    if (!block_fit(m->p, g, n))
        return false;
    window_open(w, g->sp);
    note_copy(window_slot(w), g->sp);
    memcpy(g->block, g->sp, n);
    bump(&m->p->window_saves, 1);
    event_stack_save(g, n);
    return true;
}

/* w->lock held; nobody is resident. */
static void load(M *m, Window *w, G *g)
{
    size_t n = live(g);
    window_open(w, g->sp);
    note_copy(window_slot(w), g->sp);
    note_write(g->sp, g->slot->hi);
    memcpy(g->sp, g->block, n);
    bump(&m->p->window_loads, 1);
    event_stack_load(g, n);
    if (unlikely(g->block_size > KEEP_MAX)) {
        block_free(m->p, g->block, g->block_size);
        g->block_size = 0;
    }
}

/* ---- who is in it --------------------------------------------------------------------- */

/* w->lock held. From here on the resident takes the lock to enter and to leave. */
static void unbias(Window *w)
{
    w->calm = 0;
    if (get(&w->bias) == NULL && !w->unseen)
        return;
    set(&w->bias, NULL);
    w->unseen = false;
    sys_membarrier(); /* pairs with the fences in copystack_enter(), copystack_leave() */
}

/* w->lock held. May the window be given to another? wait: if not, its leaving will be noticed. */
static bool is_vacant(Window *w, bool wait)
{
    if (w->resident == NULL)
        return true;
    if (!wait && get(&w->resident->on))
        return false;
    unbias(w);
    return !get_acq(&w->resident->on); /* pairs with copystack_leave(): its stack and sp */
}

/* w->lock held. */
static void await(M *m, Window *w, G *g)
{
    set(&g->on, false);
    if (get(&g->reason) != WHY_WINDOW || g->since < 0) /* else it waits again */
        g->since = m->p->now;
    set(&g->state, G_WAITING);
    set(&g->reason, WHY_WINDOW);
    event_waits(m, g, WHY_WINDOW);
    glist_put(&w->waiters, g, g);
    atomic_fetch_add(&windows.waiting, 1);
    if (g->slot == NULL)
        window_used(); /* window_trim() sends it elsewhere, should this one never leave */
}

/* n have left a list of waiters. */
static void count_off(uint32_t n)
{
    if (n != 0)
        atomic_fetch_sub(&windows.waiting, n);
}

GList copystack_homeless(Window *w)
{
    GList list = {NULL, NULL}, keep = {NULL, NULL};
    uint32_t n = 0;
    for (G *g; (g = glist_get(&w->waiters)) != NULL;) {
        bool homeless = g->slot == NULL;
        glist_put(homeless ? &list : &keep, g, g);
        n += homeless;
    }
    w->waiters = keep;
    count_off(n);
    return list;
}

/* w->lock held. Whom to wake: one that will come here, and before it all those that may go elsewhere. */
static GList next_waiters(Window *w)
{
    GList list = {NULL, NULL};
    uint32_t n = 0;
    for (G *g = NULL; (g == NULL || g->slot == NULL) && (g = glist_get(&w->waiters)) != NULL; n++)
        glist_put(&list, g, g);
    count_off(n);
    return list;
}

/* Their turn had come. */
static void awake(M *m, GList *list)
{
    for (G *g; (g = glist_get(list)) != NULL;)
        sched_ready(m, g);
}

/* There is no memory to save whoever is there. */
static void try_later(M *m, G *g)
{
    set(&g->on, false);
    if (unlikely(g->flags & G_NOTED))
        event_readied(m, g);
    event_ready(g);
    runq_put_global(g, g, 1);
    m->starved = true;
}

void copystack_starved(M *m)
{
    static _Atomic uint32_t never;
    m->starved = false;
    sys_park(&never, 0, sys_now() + (int64_t)STARVED_NS);
}

bool copystack_enter_slow(M *m, G *g)
{
    Window *w = window_of(g);
    lock_acquire(NULL, &w->lock, RANK_WINDOW);
    if (w->resident == g) {
        if (++w->calm >= CALM && w->waiters.head == NULL && windows.biased)
            set_rel(&w->bias, g);
        window_open(w, g->sp);
        lock_release(&w->lock);
        return true;
    }
    if (!is_vacant(w, true)) {
        await(m, w, g);
        lock_release(&w->lock);
        return false;
    }
    bool saved = window_deepen(w, live(g)) && (w->resident == NULL || save(m, w));
    if (saved) {
        w->resident = g;
        set(&w->age, 0);
        load(m, w, g);
    }
    lock_release(&w->lock);
    if (!saved)
        try_later(m, g);
    return saved;
}

void copystack_leave_slow(M *m, G *g)
{
    Window *w = window_of(g);
    lock_acquire(NULL, &w->lock, RANK_WINDOW);
    if (w->resident == g) /* else somebody was faster */
        window_close(w, g->sp);
    if (get(&w->age) < WINDOW_TRIMMED)
        window_used();
    GList list = next_waiters(w);
    lock_release(&w->lock);
    awake(m, &list);
}

bool copystack_wanted(const G *g)
{
    return window_copied(g) && get(&windows.waiting) != 0 && copystack_contended(g);
}

/* ---- birth and death -------------------------------------------------------------------- */

/* w->lock held. */
static void move_in(Window *w, G *g)
{
    w->resident = g;
    w->calm = 0;
    set(&w->age, 0);
    w->bound++;
    g->slot = window_slot(w);
    note_copy(g->slot, g->slot->hi);
    note_write(g->slot->hi - NOTE_FIRST, g->slot->hi);
    set(&g->on, true);
    if (w->free) {
        w->free = false;
        set(&w->bias, windows.biased ? g : NULL);
    }
}

/* All windows are taken: one that is vacant. If there is none at all, the last. */
static bool share(M *m, G *g)
{
    P *p = m->p;
    for (uint32_t left = get(&windows.n);; left--) {
        Window *w = window_shared(p, p->window_turn++);
        lock_acquire(NULL, &w->lock, RANK_WINDOW);
        bool vacant = is_vacant(w, left <= 1);
        if (!vacant && left <= 1) {
            await(m, w, g); /* it will look again when it is woken */
            lock_release(&w->lock);
            return false;
        }
        if (vacant && (w->resident == NULL || save(m, w))) {
            move_in(w, g);
            lock_release(&w->lock);
            return true;
        }
        lock_release(&w->lock);
        if (vacant) {
            try_later(m, g);
            return false;
        }
    }
}

bool copystack_bind(M *m, G *g)
{
    bool bound = false;
    for (Window *w; !bound && (w = window_get(m->p)) != NULL;) {
        lock_acquire(NULL, &w->lock, RANK_WINDOW);
        w->listed = false;
        bound = w->free;
        if (likely(bound))
            move_in(w, g);
        lock_release(&w->lock);
    }
    if (unlikely(!bound) && !share(m, g))
        return false;
    window_used();
    return true;
}

void copystack_end(M *m, G *g)
{
    Window *w = window_of(g);
    lock_acquire(NULL, &w->lock, RANK_WINDOW);
    w->resident = NULL;
    set(&w->bias, NULL);
    bool last = --w->bound == 0;
    GList list = next_waiters(w);
    w->free = last;
    bool put = last && !w->listed;
    w->listed |= last;
    lock_release(&w->lock);
    if (put)
        window_put(m->p, w);
    awake(m, &list);
    block_free(m->p, g->block, g->block_size);
    g->block_size = 0;
}

/* ---- who keeps a window --------------------------------------------------------------------- */

/* One that is in the kernel, and the first of those that wait for its window meanwhile. */
typedef struct {
    uint64_t id, other_id;
    char name[NAME_MAX_LEN + 1], other_name[NAME_MAX_LEN + 1];
    int64_t ns; /* since when, both */
} Keeper;

/* S held, m's P was taken. True: it is to be told of; else *next may become earlier. Its lock is only tried: who has it
 * may wait for memory. */
static bool keeps(M *m, int64_t now, Keeper *k, int64_t *next)
{
    G *g = m->g;
    if (!window_copied(g) || g->slot == NULL || m->told == m->out_since)
        return false;
    Window *w = window_of(g);
    int64_t due = now + LOOK_NS;
    bool is = false;
    if (lock_try(&w->lock, RANK_WINDOW)) {
        const G *other = w->waiters.head;
        int64_t since = other != NULL && other->since > m->out_since ? other->since : m->out_since;
        due = other != NULL ? since + KEEPS_NS : INT64_MAX;
        is = due <= now;
        if (is) {
            k->id = g->id;
            k->other_id = other->id;
            k->ns = now - since;
            report_copy_name(k->name,
                             g); /* nobody changes them: both are about to enter the runtime */
            report_copy_name(k->other_name, other);
        }
        lock_release(&w->lock);
    }
    if (is)
        m->told = m->out_since;
    else if (due < *next)
        *next = due;
    return is;
}

int64_t copystack_watch(int64_t now)
{
    static int64_t looked; /* the monitor's */
    bool any = true;
    if (atomic_load(&windows.waiting) == 0)
        return INT64_MAX;
    if (now >= looked && now - looked < LOOK_NS)
        return looked + LOOK_NS;
    int64_t next = INT64_MAX;
    while (any) {
        Keeper k;
        any = false;
        lock_acquire(NULL, &sched.lock, RANK_SCHED);
        for (M *m = sched.all_ms; m != NULL && !any && sched.n_out != 0; m = m->all)
            any = get(&m->lease) == LEASE_TAKEN && keeps(m, now, &k, &next);
        lock_release(&sched.lock);
        if (any)
            warn("coroutine %llu (%s) is in the kernel, and for %lld ms coroutine %llu (%s) has "
                 "waited for the window that their copied stacks share: give one of them "
                 "WEFT_STACK_PRIVATE",
                 (unsigned long long)k.id, k.name[0] != '\0' ? k.name : "no name",
                 (long long)(k.ns / 1000000), (unsigned long long)k.other_id,
                 k.other_name[0] != '\0' ? k.other_name : "no name");
    }
    looked = now;
    return next;
}
