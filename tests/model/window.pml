/* SPDX-License-Identifier: MIT
 *
 * window.pml: coroutines whose stacks are copied share a window (runtime/copystack.c).
 *
 * Ms take coroutines from a queue, enter their window, run, leave and commit (the coroutine
 * can be resumed by the other M at once), or end and start anew, as another coroutine in
 * the same G. An M may also go on with the one it has left without a look at the queue.
 * There is one window, first free: taken by the first that finds it in the list, and shared by
 * those that come while it is bound, who have to wait for it, but may bind to another window once
 * they are woken. Memory for a block may be lacking: tried again later. A resident gets the
 * bias after one calm entry rather than 64. With two coroutines there is also who gives pages back.
 * To show: nobody is in the window, or copies, while another one is in it; who runs sees the
 * bytes that it left; what is saved is what was left; a window that is free is nobody's;
 * and who waits for the window goes on in the end, also if all others are parked for good (no
 * invalid end state).
 *
 * Plain stores go through a store buffer for each M (TSO): on, the bytes of the stack,
 * and that a coroutine is in the queue. membarrier() empties them, and so does each
 * read-modify-write of the M itself: the locks, and a take from the queue. What is stored
 * under the window's lock is as if visible at once: nobody else looks at it, or the barrier
 * follows.
 *
 * Left out in turn: the membarrier, the M's own barrier staying (NO_MEMBARRIER); the order
 * of the two steps of Enter (NO_ENTER_FENCE) and of Leave (NO_LEAVE_FENCE); that `on` is
 * lowered before the commit (NO_LOWER_FIRST), after the switch away (NO_SWITCH_FIRST), under the
 * lock by who becomes a waiter (NO_LOWER_LOCKED); the look at the waiters at Leave
 * (NO_LEAVE_LOOK) and at the end (NO_END_LOOK); that those who wait are woken up to one that is
 * bound, since the others may go elsewhere (NO_WAKE_BOUND); the look at r->on (NO_LOOK_ON);
 * that the bias is taken away (NO_UNBIAS); the lock if g is the resident (NO_LOCK_RESIDENT);
 * that the bias is given only to who is the resident already (NO_CALM), and if nobody waits, who
 * may have come after `on` was raised (NO_LOOK_WAITERS); that the end forgets the resident
 * (NO_END_RESIDENT), and makes the window free under the lock (NO_FREE_LOCKED); that a commit
 * does without the stack (NO_COMMIT_BLIND); the lock by who takes a free window
 * (NO_TAKEN_LOCKED); the look by who wants to share it whether it is free (NO_LOOK_FREE), and
 * whether the barrier for a bias that the trimmer took away is still to come (NO_LOOK_BARRIER);
 * the trimmer's look whether the bias has come back (NO_LOOK_BIAS).
 */
#ifndef MS
#define MS 2
#endif
#ifndef GS
#define GS 3
#endif
#ifndef TURNS
#define TURNS 2
#endif
#define NONE 7

bool on[GS], ready[GS], bound[GS]; /* g->slot */
byte bias = NONE, resident = NONE;
byte binds;         /* w->bound */
bool locked;        /* w->lock */
bool free = true;   /* w->free */
bool listed = true; /* in the list of free windows */
bool pending;       /* w->pending: the bias was taken away, the barrier is to come */
byte content;       /* of the window */
byte block[GS];
chan waiters = [GS] of { byte };

byte users;    /* who are in the window, in fact */
byte left[GS]; /* what a coroutine left on its stack last; 0: it has not run yet */
byte turns[GS];
byte done;

#define ON 0
#define READY 4
#define CONTENT 8
chan sb[MS] = [4] of { byte, byte };

proctype buffer(byte me)
{
    byte var, val;
end:
    do
    :: atomic {
        sb[me]?var, val;
        if
        :: var == CONTENT -> content = val
        :: var >= READY && var < CONTENT -> assert(!ready[var - READY]); ready[var - READY] = true
        :: else -> on[var] = val
        fi;
        var = 0;
        val = 0
    }
    od
}

#define RMW empty(sb[me])
#define OWN_BYTES (content == left[g] || sb[me]??[CONTENT, eval(left[g])])

inline membarrier()
{
#ifdef NO_MEMBARRIER
    RMW
#elif MS == 2
    atomic { RMW && empty(sb[1 - me]) }
#else
    RMW;
    empty(sb[(me + 1) % MS]);
    empty(sb[(me + 2) % MS])
#endif
}

inline wake_waiters() /* the lock is held */
{
    do
    :: nempty(waiters) ->
        waiters?r;
        ready[r] = true;
#ifndef NO_WAKE_BOUND
        if
        :: bound[r] -> break
        :: else
        fi
#else
        break
#endif
    :: empty(waiters) -> break
    od;
    r = 0
}

proctype M(byte me)
{
    byte g, r, b;

next:
    atomic {
        g = 0;
        r = 0;
        b = 0;
        if
        :: RMW && ready[0] -> g = 0
        :: RMW && ready[1] -> g = 1
#if GS == 3
        :: RMW && ready[2] -> g = 2
#endif
        :: done == GS -> goto over
        fi;
        ready[g] = false;
        if
        :: !bound[g] -> goto first
        :: else
        fi
    }

enter:
#ifdef NO_ENTER_FENCE
    b = bias;
    sb[me]!ON + g, 1;
#else
    sb[me]!ON + g, 1;
    b = bias;
#endif
    if
    :: b == g -> b = 0; goto go
    :: else
    fi;
#ifdef NO_LOCK_RESIDENT
    if
    :: resident == g -> goto go
    :: else
    fi;
#endif
    atomic {
        RMW && !locked ->
        if
        :: resident == g ->
            if
#ifndef NO_LOOK_WAITERS
            :: empty(waiters) -> bias = g
#else
            :: bias = g
#endif
            :: true /* not yet */
            fi;
            b = 0;
            goto go
        :: else -> locked = true
        fi
    }

contend: /* the lock is held */
    atomic {
        r = resident;
        b = bias;
#ifndef NO_UNBIAS
        bias = NONE;
#endif
#ifndef NO_LOOK_BARRIER
        if
        :: pending -> b = r; pending = false /* before the trimmer's barrier */
        :: else
        fi
#endif
    }
    if
    :: b != NONE -> membarrier()
    :: else
    fi;
#ifndef NO_LOOK_ON
    b = (r != NONE -> on[r] : false);
#else
    b = false;
#endif
    if
    :: b -> /* run something else */
        atomic {
            waiters!g;
#ifndef NO_LOWER_LOCKED
            on[g] = false;
#endif
            locked = false
        }
#ifdef NO_LOWER_LOCKED
        sb[me]!ON + g, 0;
#endif
        goto next
    :: !b && r != NONE -> /* its block cannot be allocated */
        atomic { on[g] = false; locked = false; ready[g] = true }
        goto next
    :: !b -> atomic {
            assert(users == 0);
            if
            :: r != NONE -> block[r] = content; assert(block[r] == left[r])
            :: else
            fi;
            resident = g;
            if
            :: bound[g] -> content = block[g]
            :: else -> bound[g] = true; binds++; on[g] = true
            fi;
#ifdef NO_CALM
            bias = g;
#endif
            locked = false;
            r = 0;
            b = 0
        }
    fi;
    goto go;

first:
    if
    :: turns[g] = TURNS; done++; goto next /* it binds to another window: no more of it here */
    :: atomic { listed -> listed = false; assert(free && binds == 0 && empty(waiters) && users == 0) }
#ifdef NO_TAKEN_LOCKED
        free = false;
        resident = g;
        bound[g] = true;
        binds++;
        on[g] = true;
        bias = g
#else
        atomic {
            !locked ->
            free = false;
            resident = g;
            bound[g] = true;
            binds++;
            on[g] = true;
            bias = g
        }
#endif
    :: atomic { !listed && !locked -> locked = true; b = free }
#ifdef NO_LOOK_FREE
        b = false;
#endif
        if
        :: b -> atomic { locked = false; b = 0 } goto first
        :: else -> goto contend
        fi
    fi;

go:
    atomic {
        assert(users == 0);
        users++;
        if
        :: left[g] != 0 -> assert(OWN_BYTES)
        :: else
        fi;
        turns[g]++;
        left[g] = g * 8 + turns[g]
    }
#ifdef NO_SWITCH_FIRST
    sb[me]!ON + g, 0;
#endif
    sb[me]!CONTENT, left[g];
    users--;
    if
    :: goto ends
    :: true /* parks */
    fi;

#ifdef NO_LEAVE_FENCE
    b = bias;
#endif
#ifdef NO_LOWER_FIRST
    if
    :: turns[g] < TURNS -> sb[me]!READY + g, 1
    :: else
    fi;
#endif
#ifndef NO_SWITCH_FIRST
    sb[me]!ON + g, 0;
#endif
#ifndef NO_LEAVE_FENCE
    b = bias;
#endif
    if
#ifndef NO_LEAVE_LOOK
    :: b != g -> atomic { RMW && !locked -> wake_waiters() }
#endif
    :: else
    fi;
    b = 0;
#ifdef NO_COMMIT_BLIND
    assert(OWN_BYTES);
#endif
    if
    :: turns[g] == TURNS -> atomic { RMW -> done++ } /* parked for good */
#ifndef NO_LOWER_FIRST
    :: turns[g] < TURNS -> goto enter
    :: turns[g] < TURNS -> sb[me]!READY + g, 1
#else
    :: else
#endif
    fi;
    goto next;

ends:
    atomic {
        RMW && !locked ->
#ifndef NO_END_RESIDENT
        resident = NONE;
#endif
        bias = NONE;
        bound[g] = false;
        left[g] = 0;
        binds--;
#ifndef NO_END_LOOK
        wake_waiters();
#endif
#ifndef NO_FREE_LOCKED
        free = binds == 0;
#endif
        b = binds == 0
    }
    if
    :: b ->
#ifdef NO_FREE_LOCKED
        free = true;
#endif
        listed = true
    :: else
    fi;
    b = 0;
    if
    :: turns[g] == TURNS -> done++
    :: else -> sb[me]!READY + g, 1
    fi;
    goto next;

over:
    assert(empty(waiters))
}

/* Takes the bias from many windows, with one barrier after that, without a lock. */
proctype trimmer()
{
end:
    atomic { !locked && bias != NONE -> bias = NONE; pending = true }
    empty(sb[0]);
    empty(sb[1]);
    atomic {
        !locked ->
        if
        :: resident != NONE &&
#ifndef NO_LOOK_BIAS
            bias == NONE &&
#endif
            !on[resident] -> assert(users == 0) /* gives pages back */
        :: else
        fi;
        pending = false
    }
}

init
{
    atomic {
        ready[0] = true;
        ready[1] = true;
        if
        :: GS == 3 -> ready[2] = true
        :: done = GS - 2; run trimmer()
        fi;
        run buffer(0);
        run M(0);
        run buffer(1);
        run M(1);
#if MS == 3
        run buffer(2);
        run M(2)
#endif
    }
}
