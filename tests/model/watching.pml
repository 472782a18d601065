/* SPDX-License-Identifier: MIT
 *
 * watching.pml: a declared call against the monitor that ceases to look at calls
 * (runtime/syscall.c syscall_begin(), rest_from_calls(), syscall_watch(); monitor.c nap()).
 *
 * An M makes calls, some while work waits for its P; such a call is over only when that has
 * run, for which the monitor must have taken the P. The M rouses the monitor, unless that
 * watches calls by itself. Between two looks the monitor naps: for long, until
 * somebody rouses it, or until the next look is due.
 * To show: no call waits for the end of a long nap (in the runtime that is up to 10 ms; here it
 * never ends: no invalid end state).
 *
 * The M's plain stores go through a store buffer (TSO), which membarrier() and a
 * read-modify-write empty.
 * Left out in turn: the membarrier (NO_MEMBARRIER); the order of the M's two steps (NO_FENCE);
 * that the monitor looks after it has ceased to watch (NO_LOOK_AFTER); that it naps
 * only until the next look while it watches (NO_LOOK_AGAIN); the M's alarm
 * (NO_ALARM).
 */
#define OWN 0
#define CALL 1
#define TAKEN 2

byte lease;
bool work;     /* waits for the M's P */
bool watching; /* sched.watching */
bool alarm;    /* monitor.alarm */
chan sb = [2] of { byte };

active proctype buffer()
{
end:
    do
    :: atomic { sb?lease }
    od
}

#define RMW empty(sb)

active proctype M()
{
    byte calls;
    bool w, waits;
    do
    :: calls < 4 ->
        calls++;
        if
        :: waits = true
        :: true
        fi;
        atomic { RMW -> work = waits };
#ifdef NO_FENCE
        w = watching;
        sb!CALL;
#else
        sb!CALL; /* syscall_begin() */
        w = watching;
#endif
        if
#ifndef NO_ALARM
        :: !w && waits -> atomic { RMW -> alarm = true }
#endif
        :: else
        fi;
        if
        :: waits -> lease == TAKEN; waits = false /* its P has been taken */
        :: else
        fi;
        atomic { RMW -> lease = OWN; work = false; w = false }
    :: else -> break
    od
}

inline rest() /* it has been long since a wanted one was seen */
{
    if
    :: watching ->
        watching = false;
#ifndef NO_MEMBARRIER
        RMW
#endif
    :: true
    fi
}

active proctype monitor()
{
    bool wanted, soon;
    do
    ::
#ifndef NO_LOOK_AFTER
        rest();
#endif
        atomic {
            wanted = lease == CALL && work;
            soon = wanted;
            if
            :: wanted -> lease = TAKEN; work = false; soon = false /* somebody runs it */
            :: true /* not yet */
            fi
        };
        if
        :: wanted -> watching = true
        :: else
        fi;
#ifdef NO_LOOK_AFTER
        rest();
#endif
        if
        :: soon
#ifndef NO_LOOK_AGAIN
        :: watching
#endif
        :: else -> /* a long nap */
end:
            alarm
        fi;
        alarm = false
    od
}
