/* SPDX-License-Identifier: MIT
 *
 * timerwake.pml: a wait with a deadline: its waker, its timer, and the end of
 * the G (rt.h TimerFire; sched.c commit_until; timer.c).
 *
 * One G waits twice and ends; its timer lies inside it. Its M commits each park
 * (arms the timer, then lets go of the queue's lock). A waker takes what it finds
 * in the queue; a thief fires the timer, due at once. To show: nobody touches
 * the G's memory after its end, each wait is ended exactly once, and the timer of
 * the first wait does not end the second.
 *
 * Left out in turn: the timer's claim (NO_CLAIM); timer_del() after the wait
 * (NO_DEL); that t->heap = NULL is the last access to the timer (NO_NULL_LAST);
 * that the timer is armed before the queue's lock is let go (NO_ARM_FIRST).
 * (The serial in the timer is not among them: with timer_del() it is a second
 * line of defence, and the model holds without it.)
 */
bool alive = true, parked, runnable;
bool queue_lock, heap_lock;
bool queued, in_heap;
byte serial;   /* g->claim >> 1 */
bool claimed;  /* g->claim & 1 */
byte armed;    /* t->seq */
byte commits;  /* parks to be committed */
bool over;     /* the G has ended: the others may stop */

inline lock(l) { atomic { !l -> l = true } }

inline wait_claim(s, won)
{
    atomic {
        assert(alive);
        if :: !claimed && serial == s -> claimed = true; won = true :: else -> won = false fi
    }
}

inline ready()
{
    atomic { assert(alive && parked && !runnable); parked = false; runnable = true }
}

inline arm()
{
    lock(heap_lock);
    assert(alive && !in_heap); /* timer_add: not pending */
    armed = serial;
    in_heap = true;
    heap_lock = false
}

active proctype G()
{
    do
    :: serial < 2 ->
        lock(queue_lock);
        atomic { serial++; claimed = false };
        queued = true;
        atomic { parked = true; commits++ }; /* the M goes on with the commit */
        atomic { runnable -> runnable = false };
        lock(queue_lock); /* timed out: out of the queue */
        queued = false;
        queue_lock = false;
#ifndef NO_DEL
        if
        :: in_heap -> lock(heap_lock); in_heap = false; heap_lock = false
        :: else
        fi
#endif
    :: else -> break
    od;
    atomic { alive = false; over = true }
}

active proctype commit()
{
end:
    do
    :: commits > 0 ->
        commits--;
#ifndef NO_ARM_FIRST
        arm();
        queue_lock = false
#else
        queue_lock = false;
        arm()
#endif
    od
}

active proctype waker()
{
    bool won;
    byte s;
    do
    :: over -> break
    :: true ->
        lock(queue_lock);
        won = false;
        if
        :: queued -> queued = false; s = serial; wait_claim(s, won)
        :: else
        fi;
        queue_lock = false;
        if :: won -> ready() :: else fi
    od
}

active proctype thief()
{
    bool won;
    byte s;
    do
    :: over -> break
    :: in_heap ->
        lock(heap_lock);
        won = false;
        if
        :: in_heap ->
            s = armed;
#ifdef NO_NULL_LAST
            in_heap = false;
#endif
#ifndef NO_CLAIM
            wait_claim(s, won);
#else
            won = true;
#endif
            assert(alive);
            in_heap = false
        :: else
        fi;
        heap_lock = false;
        if :: won -> ready() :: else fi
    od
}
