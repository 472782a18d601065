/* SPDX-License-Identifier: MIT
 *
 * poller.pml: who waits for the next timer (runtime/idle.c "Time and
 * descriptors", rest(); monitor.c take_the_poller()).
 *
 * One P, two Ms, the monitor, and a thread that is not ours. Coroutines add two
 * timers, 1 or 2, the foreign thread adds 1, which is due before 2 (with three, and both
 * of the foreign thread, it holds as well: 48 million states, 100 s). An M that runs may
 * also keep its P for ever (a hog). Time passes only for who waits in the kernel, so
 * a timer that nobody waits for stays pending.
 * To show: when nothing moves any more, a timer is pending only if a hog has the P.
 *
 * Left out in turn: the poller that found no P looks again when one is idle
 * (NO_LOOK_AGAIN), and looks only after it has given the role back
 * (NO_BARRIER_ROLE); poll_until says for ever before the heaps are read
 * (NO_EVER_FIRST); who adds a first timer wakes the poller (NO_KICK), or
 * an M if there is no poller (NO_WAKE); the monitor wakes an M after it gave the
 * role back (NO_MONITOR_WAKE).
 * What is done under sched.lock is one atomic step.
 */
#define EVER 3
#define pending (timer[1] || timer[2])

bool timer[3];
bool kick;        /* sys_poller_wake(): kept until somebody waits */
byte poller;      /* 1: an M, 2: the monitor */
byte poll_until;  /* 0: nobody waits */
byte idle_p = 0, spinning;
bool need_spin;
bool in_bed[2], token[2];
byte adds = 2;    /* timers that coroutines may still add */

inline hand_over(done) /* under sched.lock: the P in hand to an M in bed */
{
    if
    :: in_bed[0] -> in_bed[0] = false; token[0] = true; done = true
    :: in_bed[1] -> in_bed[1] = false; token[1] = true; done = true
    :: !in_bed[0] && !in_bed[1] -> done = false
    fi
}

inline idle_wake(ok)
{
    if
    :: idle_p == 0
    :: else ->
        atomic { if :: spinning == 0 -> spinning = 1; ok = true :: else -> ok = false fi }
        if
        :: ok ->
            atomic {
                if
                :: idle_p > 0 -> idle_p--; hand_over(ok)
                :: else -> need_spin = true; spinning--; goto_end = true
                fi
            }
            if
            :: goto_end
            :: !goto_end && ok
            :: !goto_end && !ok ->
                atomic { /* put_back */
                    hand_over(ok);
                    if :: !ok -> idle_p++; need_spin = true; spinning-- :: else fi
                }
                if :: !ok -> kick = true :: else fi
            fi
        :: else
        fi
    fi;
    goto_end = false;
    ok = false
}

inline added(w, goes_on, ok) /* idle_timer_added() */
{
    timer[w] = true;
    if
    :: poll_until > w ->
#ifndef NO_KICK
        kick = true
#else
        skip
#endif
    :: else ->
#ifndef NO_WAKE
        if :: goes_on && poller == 0 -> idle_wake(ok) :: else fi
#else
        skip
#endif
    fi
}

/* One pass over the heaps, not at one moment. */
inline next_timer(n)
{
    n = EVER;
    if :: timer[2] -> n = 2 :: else fi;
    if :: timer[1] -> n = 1 :: else fi
}

inline poll_wait(n, fired)
{
    fired = 0;
#ifndef NO_EVER_FIRST
    poll_until = EVER;
#endif
    next_timer(n);
    poll_until = n;
end_wait:
    if
    :: atomic { kick -> kick = false }
    :: n < EVER -> fired = n
    fi;
    poll_until = 0
}

active [2] proctype M()
{
    byte me = _pid, next, fired;
    bool spin, ok, goto_end;
    if :: atomic { me == 0 -> skip } :: atomic { me == 1 -> goto bed } fi;
look: /* with a P: run what is due, then coroutines */
    if :: fired > 0 -> timer[fired] = false; fired = 0 :: else fi;
    if :: spin -> spin = false; spinning-- :: else fi;
    if
    :: true
    :: atomic { adds > 0 -> adds-- };
        if
        :: added(1, true, ok)
        :: added(2, true, ok)
        :: added(2, false, ok) /* in a commit: this M is about to look for itself */
        fi
    :: goto end_hog
    fi;
    atomic { /* give_up_p */
        if
        :: need_spin -> need_spin = false; if :: !spin -> spin = true; spinning++ :: else fi; goto look
        :: else -> idle_p++
        fi
    }
rest:
    if
    :: !pending -> goto bed
    :: else ->
        atomic { if :: poller == 0 -> poller = 1 :: else -> goto bed fi }
    fi;
    poll_wait(next, fired);
    atomic {
        if
        :: idle_p > 0 -> idle_p--; ok = true;
            if
            :: need_spin -> need_spin = false; spin = true; spinning++
            :: else
            fi
        :: else -> ok = false; need_spin = true
        fi
    }
    if
    :: ok -> ok = false; poller = 0; goto look
    :: else
    fi;
    fired = 0;
#ifdef NO_BARRIER_ROLE
    ok = idle_p > 0;
    poller = 0;
#else
    poller = 0;
    ok = idle_p > 0;
#endif
#ifdef NO_LOOK_AGAIN
    ok = false;
#endif
    if :: ok -> ok = false; goto rest :: else fi;
bed:
    atomic {
        if
        :: need_spin && idle_p > 0 -> idle_p--; need_spin = false; spin = true; spinning++; goto look
        :: else ->
            in_bed[me] = true;
            if :: poller == 1 && !pending -> kick = true :: else fi
        fi
    }
end_bed:
    atomic { token[me] -> token[me] = false; spin = true };
    goto look;
end_hog:
    false
}

active proctype foreign()
{
    bool ok, goto_end;
    added(1, true, ok)
}

active proctype monitor()
{
    bool ok, goto_end;
end:
    do
    :: atomic { poller == 0 && pending && (idle_p == 0 || spinning > 0) -> poller = 2 };
        poll_until = EVER;
        poll_until = 1; /* some time within its period */
        if :: kick -> kick = false :: true fi;
        poll_until = 0;
        poller = 0;
#ifndef NO_MONITOR_WAKE
        if :: pending -> idle_wake(ok) :: else fi
#endif
    od
}

active proctype check()
{
    timeout -> assert(!pending || idle_p == 0)
}
