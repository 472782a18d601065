/* SPDX-License-Identifier: MIT
 *
 * cycles.h: who has a lock, who waits for one: WEFT_DEBUG=deadlock.
 *
 * For mutex.c and rwmutex.c. A lock is known by the address of its object, the mutex within an
 * rwmutex by that of the rwmutex, at whose beginning it lies: a writer has it as soon as it has
 * that mutex. None of these parks, takes a lock or needs an M. */
#ifndef WEFT_CYCLES_H
#define WEFT_CYCLES_H

#include "rt.h"

enum Holds { HOLDS_MUTEX, HOLDS_READ, HOLDS_WRITE };

typedef struct CycleWait CycleWait;

static inline bool cycles_on(void)
{
    return unlikely(get(&sched.deadlock));
}

/* The caller has got the lock. WRITE: beside the MUTEX that is noted already. */
void cycles_note(const void *lock, enum Holds how);
/* The caller is about to unlock. MUTEX stands for WRITE as well. */
void cycles_forget(const void *lock, enum Holds how);

/* The caller waits, in a call that returns when it has the lock and not before. NULL: not noted. */
CycleWait *cycles_note_wait(M *m, const void *lock, enum Reason why);
void cycles_forget_wait(CycleWait *w);

/* A wait with a deadline ends by itself, whoever holds what. */
static inline CycleWait *cycles_wait(M *m, const void *lock, enum Reason why, int64_t deadline)
{
    return cycles_on() && deadline == 0 ? cycles_note_wait(m, lock, why) : NULL;
}
static inline void cycles_waited(CycleWait *w)
{
    if (unlikely(w != NULL))
        cycles_forget_wait(w);
}

/* For census.c. */
void cycles_start(void);   /* start of a run: nobody holds or waits */
bool cycles_waiting(void); /* somebody does */
/* Report every cycle not yet reported whose waits have lasted for `patience` ns. */
void cycles_look(int64_t patience);

#endif
