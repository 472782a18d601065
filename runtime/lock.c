/* SPDX-License-Identifier: MIT
 *
 * lock.c: the lock of channels, timer heaps, the scheduler.
 *
 * Ideas. Critical sections are tens of instructions and never contain a park
 * or a system call, so a contender spins first and sleeps only when the kernel
 * has taken the holder off its CPU.
 *
 * An uncontended compare-and-swap costs as much as the rest of a buffered send
 * (6 to 9 ns on the machine this was written on). While exactly one thread can
 * run coroutines (procs == 1) and no foreign thread has shown itself, nobody
 * can contend. In this *solo* mode the one M that holds the P takes a lock by a
 * plain store to `fast` (biased locking, with one bias for all locks).
 *
 * Ending solo mode is Dekker's handshake with the expensive fence on the rare
 * side:
 *
 *      M, at each lock                   whoever ends solo mode
 *      fast = 1                          sched.solo = m->solo = 0
 *      (compiler barrier)                membarrier()
 *      if m->solo: the lock is held      from now on: take word, then wait for fast == 0
 *      else fast = 0, take word
 *
 * membarrier() puts a full barrier into M's instruction stream at some point
 * of the left column. If M read m->solo before that point, its store to fast is
 * visible to everyone after the barrier, and they wait for it. If M reads
 * after it, it sees 0 and takes the word like everyone; its short-lived
 * fast = 1 only makes others wait a few instructions. The holder notes in
 * by_fast how it holds the lock, since m->solo may change meanwhile and since a
 * fast = 1 seen at unlock may be somebody's failed attempt.
 * Only P-holders and foreign threads use locks in this way; a lock that an M
 * without a P takes too is taken with m == NULL, which never goes fast.
 *
 * m->solo follows the P (solo_enter, and solo_end for all Ms):
 *
 *      M, taking a P                     ending solo mode
 *      m->solo = 1                       sched.solo = 0
 *      (compiler barrier)                membarrier()
 *      if !sched.solo: m->solo = 0       every m->solo = 0; membarrier()
 *
 * by the same argument no m->solo stays 1. Solo mode begins only in weft_run(),
 * before any coroutine exists, with no foreign thread attached (both under
 * sched.lock), and never comes back within a run.
 *
 * The contended path is a futex with one liberty: unlock is a plain store, not
 * an exchange, so a sleeper that marks the word (2) between the holder's load
 * and its store is not woken. It wakes by itself after 50 us. That window is
 * three instructions long and open only after a hundred failed spins.
 *
 * Rejected: a ticket lock (one descheduled waiter stalls all behind it); an
 * exchange at unlock (doubles the cost of every uncontended operation).
 */
#include "rt.h"

enum { SPINS = 100, NAP_NS = 50000 };

void lock_contended(Lock *l)
{
    for (int i = 0; i < SPINS; i++) {
        arch_pause();
        uint32_t free = 0;
        if (get(&l->word) == 0 &&
            atomic_compare_exchange_weak_explicit(&l->word, &free, 1, memory_order_acquire,
                                                  memory_order_relaxed))
            return;
    }
    /* Acquired as 2: others may sleep, and only we know. */
    while (atomic_exchange_explicit(&l->word, 2, memory_order_acquire) != 0)
        sys_park(&l->word, 2, sys_now() + NAP_NS);
}

void lock_drain_fast(Lock *l)
{
    for (int i = 0; get_acq(&l->fast) != 0; i++) /* pairs with set_rel in lock_release */
        if (i < SPINS)
            arch_pause();
        else
            sys_yield();
}

void lock_wake(Lock *l)
{
    sys_unpark(&l->word, 1);
}

void solo_enter(M *m)
{
    if (!get(&sched.solo))
        return;
    set(&m->solo, 1);
    atomic_signal_fence(memory_order_seq_cst); /* pairs with membarrier in solo_end() */
    if (!get(&sched.solo))
        set(&m->solo, 0);
}

void solo_end(void)
{
    assert_held(&sched.lock);
    if (!get(&sched.solo))
        return;
    set(&sched.solo, false);
    sys_membarrier();
    for (M *m = sched.all_ms; m != NULL; m = m->all)
        set(&m->solo, 0);
    sys_membarrier();
}

#ifdef WEFT_CHECKED
/* --enable-debug: each thread knows what it holds, in order. */

void lock_note_acquire(M *unused, Lock *l, enum Rank rank)
{
    (void)unused;
    M *m = arch_self();
    if (m == NULL)
        return;
    if (m->nheld > 0) {
        enum Rank top = m->held[m->nheld - 1].rank;
        bool ordered = rank > top || (rank == top && l > m->held[m->nheld - 1].l);
        if (!ordered)
            fatal("lock order: rank %d taken under rank %d", (int)rank, (int)top);
    }
    if (m->nheld < sizeof m->held / sizeof m->held[0]) {
        m->held[m->nheld].l = l;
        m->held[m->nheld].rank = rank;
        m->nheld++;
    }
}

void lock_note_release(Lock *l)
{
    M *m = arch_self();
    if (m == NULL)
        return;
    for (uint32_t i = m->nheld; i-- > 0;)
        if (m->held[i].l == l) {
            memmove(&m->held[i], &m->held[i + 1], (m->nheld - i - 1) * sizeof m->held[0]);
            m->nheld--;
            return;
        }
}

bool lock_held(const Lock *l)
{
    M *m = arch_self();
    for (uint32_t i = 0; m != NULL && i < m->nheld; i++)
        if (m->held[i].l == l)
            return true;
    return m == NULL ||
           m->nheld == sizeof m->held / sizeof m->held[0]; /* more than fit: cannot tell */
}
#endif
