/* SPDX-License-Identifier: MIT
 *
 * stacks.h: what others ask of stacks. Part of rt.h. How stacks are made: slots.h, copystack.h.
 */
#ifndef WEFT_STACKS_H
#define WEFT_STACKS_H

/* ---- stack.c: private stacks ---------------------------------------------- */

struct Slot;                       /* stack.c */
int stack_init(size_t stack_max);  /* reserves nothing yet */
void stack_fini(void);             /* end of a run: everything back; no slot is in use */
int stack_class(size_t stack_max); /* the class for a wanted size; -EINVAL */
int stack_reserve(P *p, int cls);  /* a later stack_get(cls) cannot fail. p may be NULL. -ENOMEM */
void stack_unreserve(P *p, int cls);
/* A reserved slot: guard set, top page warm if it can be. p may be NULL */
Slot *stack_get(P *p, int cls);
/* Nothing runs on s any more; stack_unreserve() on the same P follows at once */
void stack_put(P *p, Slot *s);
void *stack_top(const Slot *s); /* where to start: 16-byte aligned, coloured */
void stack_bounds(const Slot *s, void **lo, void **hi);
void *stack_floor(const Slot *s); /* (signal) what lies below may be the guard */
bool stack_unguarded(const Slot *s);
/* What runs g is deep in g's stack, which has no guard: dies if that is too deep. */
void stack_check(G *g);
void stack_check_at(G *g, void *ucontext); /* (signal) the same of what the tick interrupted */
void stack_flush(P *p);                    /* p's warm slots and credits to the arena */
/* Give back memory of slots that have been free for a second; < 1 ms; true: call again */
bool stack_trim(int64_t now);
bool stack_trim_pending(void);
void stack_counts(uint64_t *slots, uint64_t *bytes);
bool stack_try_counts(uint64_t *slots, uint64_t *bytes); /* false: that would take a wait */
bool stack_owns(const void *addr);                       /* (signal) addr lies in a slot */
bool stack_on_fault(void *addr, void *ucontext);         /* (signal) what sys_fault_install gets */
/* (signal) move g's guard down; false: overflow, or not ours */
bool stack_fault(G *g, void *addr, uintptr_t sp);

bool stack_deepen(
    Slot *s, size_t n); /* nobody is on it: room for n bytes above the guard. false: no memory */
void stack_give_back(Slot *s, char *sp); /* nobody is on it: the pages below sp, and the guard */
void stack_ready(Slot *s);               /* a slot that no arena knows: its guard */

/* ---- window.c, copystack.c: copied stacks ------------------------------------- */

enum { STACK_WINDOW = 255 }; /* in place of a class of slots */

static inline bool window_copied(const G *g)
{
    return (g->flags & G_COPIED) != 0;
}
void window_init(uint32_t procs, bool membarrier);
void window_fini(void);   /* end of a run: all of them */
int window_reserve(void); /* a later coro_bind() finds a window. -ENOMEM */
void window_flush(P *p);  /* p's free windows are everybody's */
/* Others are about to wait for the object, or to wake who does: fatal if it lies on a copied stack */
void window_refuse(M *m, const void *object, const char *what);
/* (signal) After a fault: say who touched whose stack, if that is what it was */
void window_trespass(const M *m, const void *addr, void *ucontext);
bool window_trim(int64_t now); /* give back memory of windows not used for a second */
bool window_trim_pending(void);
void copystack_starved(M *m);      /* on g0: m->starved: wait a little */
bool copystack_wanted(const G *g); /* (signal) g runs, and somebody may wait for its window */
/* The monitor: tell of who is in the kernel for long and keeps others from their window. When to look again; INT64_MAX:
 * not before something has run */
int64_t copystack_watch(int64_t now);

#endif
