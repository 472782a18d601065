/* SPDX-License-Identifier: MIT
 *
 * lease.pml: a thread that blocks in the kernel, and the monitor that takes its P
 * (runtime/syscall.c; hold.c hold_retake(), hold_return(); base.h rt_enter(), rt_leave();
 * preempt.c on_tick()).
 *
 * M 0 runs a coroutine that makes calls into the runtime, where it may change its P
 * for another one; declared calls; blocks undeclared; and is hit by ticks, in its
 * own code and between the steps of a call. What it is blocked for is that M 1 runs,
 * which has nothing but what it is given. M 1 gives its P to a coroutine
 * that is held, or back. Two Ms, two Ps, a monitor that looks at either P at any time,
 * whatever the M does.
 * To show: nobody uses a P that another one uses, or has not finished with; who is inside
 * the runtime has a P; who comes back gets one in the end, and who waits for M 1 as well
 * (no invalid end state).
 *
 * M 0's plain stores go through a store buffer (TSO); it reads its own ones before others do.
 * membarrier() empties it, and so does each read-modify-write of M 0: the
 * locks, and the lease's. What is done under sched.lock is one atomic step.
 * Two plain stores are as if visible at once: what precedes the release of the lock, since
 * the monitor takes it, and from a lease that it sees as TAKEN it takes nothing.
 *
 * Left out in turn: the membarrier (NO_MEMBARRIER); the order of M 0's two steps, in
 * rt_enter() and in the handler (NO_FENCE); the handler's raise of preempt_off (NO_RAISE);
 * the look at it after the barrier (NO_LOOK_OFF); the look at p->m under the lock
 * (NO_LOOK_HOLDER); the compare-and-swap in syscall_settle() (NO_SETTLE_CAS), at the end of a
 * declared call (NO_CALL_CAS), in hold_retake() (NO_TAKE_CAS); the monitor's
 * withdrawal (NO_WITHDRAW); that who comes back looks for an idle P and queues under
 * one lock (NO_ONE_LOCK); that M 1 looks for who is held before it gives its P back
 * (NO_GIVE).
 */
#define NONE 7
#define OWN 0
#define ASKED 1
#define CALL 2
#define TAKEN 3

#ifndef TURNS
#define TURNS 3
#endif
#ifndef TICKS
#define TICKS 2
#endif

byte lease = OWN, off; /* of M 0, as others see them; off: its preempt_off */
byte mp;               /* its P */
byte pm[2];            /* p->m: 0, 1, or NONE */
bool idle[2];          /* on the idle list */
bool busy[2];          /* M 0 is in the middle of what it does to this P: as others see it */
byte users[2];         /* who are, in fact */
byte next_p[2] = NONE; /* who has a value here has been woken */
bool held;             /* M 0's coroutine waits in the global queue */
bool in_bed = true;    /* M 1 */
bool ran = true;       /* M 1 has: there is no work */

#define OFF 0
#define LEASE 1
#define BUSY 2 /* and 3 */
chan sb = [6] of { byte, byte };
byte calling; /* CALLs still in the buffer */

proctype buffer()
{
    byte var, val;
end:
    do
    :: atomic {
        sb?var, val;
        if
        :: var == OFF -> off = val
        :: var == LEASE -> lease = val; calling--
        :: else -> busy[var - BUSY] = val
        fi;
        var = 0;
        val = 0
    }
    od
}

#define RMW empty(sb)

inline get_lease()
{
    atomic { if :: calling > 0 -> v = CALL :: else -> v = lease fi }
}

inline settle() /* syscall_settle(), v having been read */
{
    if
    :: v == ASKED ->
#ifndef NO_SETTLE_CAS
        atomic { RMW -> if :: lease == ASKED -> lease = OWN :: else fi; v = lease }
#else
        atomic { RMW -> lease = OWN; v = OWN }
#endif
    :: else
    fi
}

inline pass(to, p)
{
    atomic { assert(next_p[to] == NONE && pm[p] == NONE && !idle[p]); next_p[to] = p }
}

inline await()
{
    atomic {
        next_p[0] != NONE ->
        mp = next_p[0];
        next_p[0] = NONE;
        pm[mp] = 0;
        assert(!held)
    }
}

inline take_idle(p, me) /* under sched.lock */
{
    if
    :: idle[0] -> p = 0
    :: !idle[0] && idle[1] -> p = 1
    :: else -> p = NONE
    fi;
    if :: p != NONE -> idle[p] = false; pm[p] = me :: else fi
}

inline hold_return()
{
#ifndef NO_ONE_LOCK
    atomic {
        RMW ->
        assert(lease == TAKEN && mp == NONE);
        take_idle(mp, 0);
        lease = OWN;
        held = mp == NONE
    };
#else
    atomic { RMW -> take_idle(mp, 0); lease = OWN };
    if :: mp == NONE -> held = true :: else fi;
#endif
    if
    :: mp == NONE -> await()
    :: else
    fi
}

inline use() /* what is done to a P inside the runtime */
{
    atomic {
        u = mp;
        assert(u != NONE && pm[u] == 0 && users[u] == 0);
        users[u]++;
        sb!BUSY + u, true
    };
    atomic { sb!BUSY + u, false; users[u]--; u = 0 }
}

inline change_p() /* its P goes to M 1, or back; M 0 takes an idle one, or waits for one */
{
    atomic {
        RMW ->
        if
        :: in_bed -> in_bed = false; pm[mp] = NONE; pass(1, mp); take_idle(mp, 0)
        :: !in_bed && (idle[0] || idle[1]) ->
            pm[mp] = NONE;
            u = mp;
            take_idle(mp, 0);
            idle[u] = true;
            u = 0
        :: else -> goto no_change
        fi;
        held = mp == NONE
    };
    if
    :: mp == NONE -> await()
    :: else
    fi;
no_change:
    skip
}

inline call_over()
{
#ifndef NO_CALL_CAS
    atomic { RMW -> if :: lease == CALL -> lease = OWN :: else fi; v = lease }
#else
    if :: v == CALL -> atomic { RMW -> lease = OWN; v = OWN } :: else fi
#endif
}

#define USES 0
#define CHANGES 1  /* its P */
#define DECLARES 2 /* a call; the next entry ends it: weft_syscall_exit() is like rt_enter() */
#define ENDS 3

proctype M0()
{
    byte v, u, turns, ticks = TICKS, was, what;
    bool declared;

outside: /* the coroutine's own code, the kernel */
    if
    :: turns < TURNS -> turns++; what = USES
    :: turns < TURNS -> turns++; what = CHANGES
    :: turns < TURNS -> turns++; what = DECLARES
    :: turns < TURNS -> turns++; ran = false; ran -> goto outside
    :: turns == TURNS -> what = ENDS
    :: ticks > 0 -> was = 0; goto handler
    fi;

    /* rt_enter() */
#ifdef NO_FENCE
    get_lease();
    sb!OFF, 1;
#else
    sb!OFF, 1;
    if
    :: ticks > 0 -> was = 1; goto handler
    :: true
    fi;
go_on:
    get_lease();
#endif
    settle(); /* syscall_back() */
    if
    :: v == CALL -> call_over()
    :: else
    fi;
    if
    :: v == TAKEN -> hold_return()
    :: else
    fi;
    declared = false;

    use();
    if
    :: what == CHANGES -> change_p()
    :: what == DECLARES -> declared = true; atomic { sb!LEASE, CALL; calling++ }
    :: what == ENDS -> goto done
    :: else
    fi;
    sb!OFF, 0; /* rt_leave() */
    goto outside;

handler:
    ticks--;
#ifdef NO_FENCE
    get_lease();
    sb!OFF, was + 1;
#else
#ifndef NO_RAISE
    sb!OFF, was + 1;
#endif
    get_lease();
#endif
    settle();
    if
    :: v == TAKEN && was == 0 && !declared -> hold_return(); v = OWN
    :: else
    fi;
    if
    :: v == OWN -> use()
    :: else
    fi;
    sb!OFF, was;
#ifndef NO_FENCE
    if
    :: was == 1 -> goto go_on
    :: else
    fi;
#endif
    goto outside;

done:
    skip
}

proctype M1()
{
    byte p = NONE;
end:
    do
    :: if
        :: atomic { next_p[1] != NONE -> p = next_p[1]; next_p[1] = NONE; pm[p] = 1 }
        :: atomic { in_bed && !ran && (idle[0] || idle[1]) -> in_bed = false; take_idle(p, 1) }
        fi;
        atomic { assert(!busy[p] && users[p] == 0); users[p]++; ran = true };
        users[p]--;
        atomic {
            pm[p] = NONE;
            in_bed = true;
            if
#ifndef NO_GIVE
            :: held -> held = false; pass(0, p) /* hold_give() */
#endif
            :: else -> idle[p] = true
            fi;
            p = NONE
        }
    od
}

/* hold_retake(). The P that is taken from M 0 is m->p; what is passed on is p. */
inline retake(from)
{
    atomic {
        if
        :: in_bed && mp != NONE &&
#ifndef NO_LOOK_HOLDER
            pm[p] == 0 &&
#endif
#ifndef NO_TAKE_CAS
            lease == from
#else
            true
#endif
            ->
            lease = TAKEN;
            pm[mp] = NONE;
            mp = NONE;
            in_bed = false;
            pass(1, p)
        :: else
        fi
    }
}

proctype monitor()
{
    byte p;
end:
    do
    :: atomic {
            if
            :: in_bed && pm[0] == 0 && (lease == OWN || lease == CALL) -> p = 0
            :: in_bed && pm[1] == 0 && (lease == OWN || lease == CALL) -> p = 1
            fi
        };
        if
        :: lease == CALL -> retake(CALL)
        :: atomic { lease == OWN -> lease = ASKED };
#ifndef NO_MEMBARRIER
            RMW;
#endif
            if
#ifndef NO_LOOK_OFF
            :: off == 0 -> retake(ASKED)
            :: else
#else
            :: retake(ASKED)
#endif
            fi;
#ifndef NO_WITHDRAW
            atomic { if :: lease == ASKED -> lease = OWN :: else fi }
#endif
        :: lease != CALL && lease != OWN
        fi;
        p = 0
    od
}

init
{
    atomic {
        pm[1] = NONE;
        if
        :: true /* one P */
        :: idle[1] = true
        fi;
        run buffer();
        run M0();
        run M1();
        run monitor()
    }
}
