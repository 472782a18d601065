/* SPDX-License-Identifier: MIT
 *
 * solo.pml: the biased lock of runtime/lock.c.
 *
 * Two Ms pass one P between them; whoever has it takes the lock, fast if its
 * solo flag is up. A foreign thread ends solo mode and then takes the lock by
 * its word. To show: never two in the critical section.
 *
 * Each M's plain stores go through a store buffer (TSO); it reads its own
 * stores before others do. membarrier() empties all buffers; the foreign
 * thread's own stores are as if visible at once, being followed by one.
 * Left out in turn: the first barrier (NO_BARRIER_FIRST), the second one
 * (NO_BARRIER_SECOND), waiting for the fast holder (NO_DRAIN), looking at solo
 * again after fast = 1 (NO_AGAIN), after solo = 1 (NO_AGAIN_ENTER).
 */
#define SOLO 0
#define FAST 1
#define WORD 2

bool sched_solo = true, solo[2], fast, word, p_free = true;
bool mine[2];  /* what an M itself reads as its solo */
byte behind[2]; /* stores to solo still in its buffer */
byte inside;   /* in the critical section */
chan sb[2] = [6] of { byte, bool };

active [2] proctype buffer()
{
    byte var;
    bool val;
end:
    do
    :: atomic {
        sb[_pid]?var, val;
        if
        :: var == SOLO -> solo[_pid] = val; behind[_pid]--
        :: var == FAST -> fast = val
        :: var == WORD -> word = val
        fi
    }
    od
}

inline set_solo(v)
{
    atomic { sb[me]!SOLO, v; mine[me] = v; behind[me]++ }
}

inline get_solo(v)
{
    atomic { if :: behind[me] > 0 -> v = mine[me] :: else -> v = solo[me] fi }
}

active [2] proctype M()
{
    byte me = _pid - 2;
    bool s;
    byte turns;
    do
    :: turns < 2 ->
        turns++;
        atomic { p_free && empty(sb[me]) -> p_free = false }; /* under sched.lock */
        s = sched_solo;
        if
        :: s ->
            set_solo(true);
#ifndef NO_AGAIN_ENTER
            s = sched_solo;
            if :: !s -> set_solo(false) :: else fi
#endif
        :: else
        fi;
        /* take the lock */
        get_solo(s);
        if
        :: s ->
            sb[me]!FAST, true;
#ifndef NO_AGAIN
            get_solo(s);
#endif
            if
            :: s ->
                inside++;
                assert(inside == 1);
                inside--;
            :: else
            fi;
            sb[me]!FAST, false
        :: else
        fi;
        if
        :: !s -> /* by the word; a read-modify-write empties the buffer */
            atomic { empty(sb[me]) && !word -> word = true };
            !fast;
            inside++;
            assert(inside == 1);
            inside--;
            sb[me]!WORD, false
        :: else
        fi;
        set_solo(false);
        atomic { empty(sb[me]) -> p_free = true } /* under sched.lock */
    :: else -> break
    od
}

#define MEMBARRIER (empty(sb[0]) && empty(sb[1]))

active proctype foreign()
{
    sched_solo = false; /* solo_end() */
#ifndef NO_BARRIER_FIRST
    MEMBARRIER;
#endif
    solo[0] = false;
    solo[1] = false;
#ifndef NO_BARRIER_SECOND
    MEMBARRIER;
#endif
    atomic { !word -> word = true };
#ifndef NO_DRAIN
    !fast;
#endif
    inside++;
    assert(inside == 1);
    inside--;
    word = false
}
