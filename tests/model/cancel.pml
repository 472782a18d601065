/* SPDX-License-Identifier: MIT
 *
 * cancel.pml: cancelling a coroutine, against its park, its waker, its deadline and its mask
 * (runtime/known.c, known.h known_parks(); sched.c commit_until(), commit_until_known()).
 *
 * One known coroutine waits WAITS times, each time with a queue or without (a sleep), with a deadline or
 * without, masked or not, and ends. A short sleep may not be cancelled at all (known_defer()). It runs on
 * whichever of two Ms takes it; that one commits its park once its context is saved. A waker takes what it
 * finds in the queue, or does not; the timer fires at any time once it is armed; a canceller comes once, at
 * any time.
 * To show: a coroutine that is cancelled, and not masked, does not wait for ever; each wait is ended by one,
 * and made ready once; it is not resumed before its context is saved; its commit touches nothing of it once it
 * is past that wait, and nobody does once it is gone; a masked wait is not cancelled, nor one that may not be.
 *
 * Plain stores of an M go through its store buffer (TSO): the serial, the context, the timer, `parked`, and
 * the release of the locks that a commit holds. membarrier() empties both, one after the other, and each
 * read-modify-write of the M itself empties its own. Taking a lock does not, as in solo mode. What else is
 * done under the queue's lock or the heap's is as if visible at once.
 *
 * Left out in turn: the membarrier (NO_MEMBARRIER), and the claim after it (NO_AGAIN); that `parked` is stored
 * before CANCELLED is read (NO_FENCE), after the context is saved (NO_SAVE_FIRST), after the timer is armed
 * (NO_ARM_FIRST), and before the queue is let go (NO_PARKED_LOCKED); the look at CANCELLED in the commit
 * (NO_LOOK), and at MASKED there (NO_COMMIT_MASK), and in the canceller (NO_LOOK_MASK), after `parked`
 * (NO_PARKED_FIRST); the claim by the waker (NO_CLAIM_WAKER), the timer (NO_CLAIM_TIMER), the canceller
 * (NO_CLAIM_CANCEL), and the commit (NO_CLAIM_COMMIT); that it is for one serial (NO_SERIAL); the shard's lock
 * in a sleep's commit (NO_SLEEP_LOCK), and when that is over (NO_SLEEP_TAKE); the queue's if it was not the
 * waker (NO_QUEUE_TAKE); timer_del() (NO_DEL); the look whether it defers before the timer is armed
 * (NO_FLAGS_FIRST); the shard's lock at the end (NO_END_LOCK).
 */
#ifndef WAITS
#define WAITS 2
#endif

/* A wait. */
#define QUEUE 0
#define ALONE 1
#define DEFERRED 2

/* Who ended it. */
#define WAKER 1
#define TIMER 2
#define CANCEL 3

bool alive = true, listed = true;
bool runnable = true, waiting;
byte wait_no;           /* of the wait it is in, or was in last */
bool past = true;       /* it is done with that */
bool sleeps;            /* that wait has no queue */
bool known = true;      /* g->flags & G_KNOWN */
byte result;            /* (w) */
byte saved;             /* the context, of which wait */
byte serial;            /* g->claim >> 1 */
bool claimed = true;    /* g->claim & 1 */
byte parked;            /* x->parked */
bool cancelled, masked; /* x->bits */
bool queue_lock, shard_lock;
bool queued;
byte armed; /* the timer's serial; 0: not in the heap */

#define SERIAL 0
#define SAVED 1
#define ARMED 2
#define PARKED 3
#define QUEUE_FREE 4
#define SHARD_FREE 5
chan sb[2] = [5] of { byte, byte };

/* Its coroutine is in that wait still. */
#define IN_WAIT(w) assert(alive && wait_no == w && !past)

proctype buffer(byte me)
{
    byte var, val;
end:
    do
    :: atomic {
        sb[me]?var, val;
        if
        :: var == SERIAL -> serial = val; claimed = false
        :: var == SAVED -> saved = val
        :: var == ARMED -> IN_WAIT(val); assert(armed == 0); armed = val
        :: var == PARKED -> IN_WAIT(val); parked = val
        :: var == QUEUE_FREE -> queue_lock = false
        :: else -> shard_lock = false
        fi;
        var = 0;
        val = 0
    }
    od
}

#define RMW empty(sb[me])

/* wait_claim(); in an atomic step */
inline wait_claim(s, won, by)
{
    assert(alive);
    if
#ifndef NO_SERIAL
    :: serial == s && !claimed ->
#else
    :: !claimed ->
#endif
        claimed = true;
        result = by;
        won = true
    :: else -> won = false
    fi
}

inline ready(won)
{
    if
    :: won -> atomic { assert(alive && waiting && !runnable); runnable = true; won = false }
    :: else
    fi
}

/* sched_park_until(), from the start of the wait to the switch: the queue's lock is held, if it has one */
inline park()
{
    sb[me]!SERIAL, s;
    atomic {
        wait_no = s;
        past = false;
        result = 0;
        waiting = true;
        if
        :: sleeps
        :: else -> queued = true
        fi
    }
#ifndef NO_SAVE_FIRST
    sb[me]!SAVED, s
#endif
}

inline look_known()
{
    atomic { IN_WAIT(s); defers = !known }
}

inline arm()
{
    if
    :: due -> sb[me]!ARMED, s
    :: else
    fi;
#ifdef NO_FLAGS_FIRST
    look_known()
#endif
}

inline look_cancelled()
{
    atomic { IN_WAIT(s); won = cancelled }
}

inline known_parks()
{
#ifdef NO_FENCE
    look_cancelled();
    sb[me]!PARKED, s;
#else
    sb[me]!PARKED, s;
    look_cancelled();
#endif
#ifdef NO_LOOK
    won = false;
#endif
    if
#ifndef NO_COMMIT_MASK
    :: won && masked -> won = false
    :: won && !masked ->
#else
    :: won ->
#endif
#ifndef NO_CLAIM_COMMIT
        atomic { RMW -> wait_claim(s, won, CANCEL); assert(!won || (!masked && known)) }
#else
        atomic { RMW -> result = CANCEL; assert(!masked) }
#endif
    :: else
    fi
}

inline parks()
{
    if
    :: defers
    :: else -> known_parks()
    fi
}

inline commit()
{
#ifndef NO_FLAGS_FIRST
    look_known();
#endif
#ifndef NO_SLEEP_LOCK
    if
    :: kind == ALONE -> atomic { !shard_lock -> shard_lock = true }
    :: else
    fi;
#endif
#ifdef NO_PARKED_LOCKED
    arm();
    if
    :: kind == QUEUE -> sb[me]!QUEUE_FREE, 0
    :: else
    fi;
    parks();
#elif defined(NO_ARM_FIRST)
    parks();
    arm();
#else
    arm();
    parks();
#endif
    if
#ifndef NO_SLEEP_LOCK
    :: kind == ALONE -> sb[me]!SHARD_FREE, 0
#endif
#ifndef NO_PARKED_LOCKED
    :: kind == QUEUE -> sb[me]!QUEUE_FREE, 0
#endif
    :: else
    fi;
#ifdef NO_SAVE_FIRST
    sb[me]!SAVED, s;
#endif
    ready(won)
}

/* The end of sched_park_until(), and of who called it. */
inline wait_over()
{
#ifndef NO_DEL
    armed = 0;
#endif
    if
#ifndef NO_SLEEP_TAKE
    :: sleeps && known -> atomic { !shard_lock -> skip }
#endif
#ifndef NO_QUEUE_TAKE
    :: !sleeps && result != WAKER -> atomic { !queue_lock -> queued = false }
#endif
    :: else
    fi;
    atomic { past = true; result = 0; sleeps = false; known = true }
}

proctype M(byte me)
{
    byte s;
    byte kind;
    bool due, defers, won;

next:
    if
    :: atomic {
        runnable ->
        runnable = false;
        waiting = false;
        assert(wait_no == 0 || saved == wait_no || sb[me]??[SAVED, eval(wait_no)])
    }
    :: atomic { !alive -> goto over }
    :: atomic { timeout -> assert(waiting && masked && cancelled); goto over } /* for ever */
    fi;

    if
    :: wait_no > 0 -> wait_over()
    :: else
    fi;
    if
    :: wait_no == WAITS -> goto ends
    :: else -> s = wait_no + 1
    fi;
    if
    :: true
    :: atomic { RMW -> masked = !masked }
    fi;
    atomic {
        if
        :: sleeps = true; kind = ALONE; due = true
        :: sleeps = true; kind = ALONE
        :: sleeps = true; kind = DEFERRED; known = false; due = true
        :: kind = QUEUE; due = true
        :: kind = QUEUE
        fi
    }
    if
    :: kind == QUEUE -> atomic { !queue_lock -> queue_lock = true }
    :: else
    fi;
    park();
    commit();
    atomic { s = 0; kind = QUEUE; due = false; defers = false }
    goto next;

ends:
#ifndef NO_END_LOCK
    atomic { !shard_lock -> listed = false }
#else
    listed = false;
#endif
    assert(armed == 0 && !queued);
    alive = false;
over:
    skip
}

proctype waker()
{
    bool won;
end:
    do
    :: atomic { queued && !queue_lock -> queue_lock = true; queued = false }
#ifndef NO_CLAIM_WAKER
        atomic { wait_claim(serial, won, WAKER) }
#else
        atomic { result = WAKER; won = true }
#endif
        queue_lock = false;
        ready(won)
    :: true -> break
    od
}

/* Under the heap's lock; what follows its last access to the timer is timerwake.pml's. */
proctype timer()
{
    bool won;
end:
    do
#ifndef NO_CLAIM_TIMER
    :: atomic { armed != 0 -> wait_claim(armed, won, TIMER); armed = 0 }
#else
    :: atomic { armed != 0 -> assert(alive); result = TIMER; won = true; armed = 0 }
#endif
        ready(won)
    od
}

inline known_claim()
{
#ifndef NO_PARKED_FIRST
    atomic { assert(alive); p = parked }
    off = masked;
#else
    off = masked;
    atomic { assert(alive); p = parked }
#endif
#ifdef NO_LOOK_MASK
    off = false;
#endif
    if
    :: p != 0 && !off ->
#ifndef NO_CLAIM_CANCEL
        atomic { wait_claim(p, won, CANCEL); assert(!won || (!masked && known)) }
#else
        atomic { result = CANCEL; won = true; assert(!masked) }
#endif
    :: else
    fi;
    atomic { p = 0; off = false }
}

proctype canceller()
{
    byte p;
    bool off, won;

    atomic {
        !shard_lock ->
        if
        :: listed -> shard_lock = true
        :: else -> goto over
        fi
    }
    cancelled = true;
    known_claim();
#ifndef NO_AGAIN
    if
    :: !won ->
#ifndef NO_MEMBARRIER
        empty(sb[0]);
        empty(sb[1]);
#endif
        known_claim()
    :: else
    fi;
#endif
    shard_lock = false;
    ready(won);
over:
    skip
}

init
{
    atomic {
        run buffer(0);
        run M(0);
        run buffer(1);
        run M(1);
        run waker();
        run timer();
        run canceller()
    }
}
