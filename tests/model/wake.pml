/* SPDX-License-Identifier: MIT
 *
 * wake.pml: making work against going to sleep (runtime/idle.c).
 *
 * Two submitters run on Ps of their own and never look into their own queues
 * again (hogs). Two Ms share two further Ps; no more threads can be made. A
 * coroutine that an M takes either ends at once or keeps its P for ever.
 * To show: when nothing moves any more, no work waits while a P is idle and an
 * M sleeps.
 *
 * The ring's tail is written through a store buffer when the store is not
 * sequentially consistent (NO_BARRIER_SUBMIT). The other two reorderings are a
 * load that is done before the store it follows: the sleeper's look at the
 * queues before its idle_p + 1 (NO_BARRIER_IDLE), before its spinning - 1
 * (NO_BARRIER_SPIN). Rules that are not barriers, each left out in turn: the
 * look itself (NO_LOOK); a submitter that finds its P taken lowers spinning
 * while it holds sched.lock (NO_LOWER_LOCKED: in between others rely on a
 * spinner that is none); a P that comes back for want of an M is offered to who
 * went to bed meanwhile (NO_OFFER), and is seen by who is about to (NO_BED_LOOK).
 * need_spin serves that last rule; the other places that set it are a second line
 * of defence, because here every M looks at all queues after it gave its P back.
 * What is done under sched.lock is one atomic step.
 */
byte q[2];    /* work that all can see */
byte buf[2];  /* stored, but not yet visible */
byte idle_p, spinning;
bool need_spin;
bool in_bed[2], token[2]; /* token: woken, with a P */

active proctype store_buffer()
{
end:
    do
    :: atomic { buf[0] > 0 -> buf[0]--; q[0]++ }
    :: atomic { buf[1] > 0 -> buf[1]--; q[1]++ }
    od
}

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
                :: idle_p > 0 -> idle_p--
                :: else ->
                    ok = false;
                    need_spin = true;
#ifndef NO_LOWER_LOCKED
                    spinning--
#endif
                fi
            }
            if
            :: ok ->
                atomic { hand_over(ok) }
                if
                :: ok
                :: else -> /* no M in bed, no thread to be had: the P goes back */
                    atomic {
#ifndef NO_OFFER
                        hand_over(ok);
#endif
                        if
                        :: !ok -> idle_p++; need_spin = true; spinning--
                        :: else
                        fi
                    }
                fi
            :: else ->
#ifdef NO_LOWER_LOCKED
                spinning--
#endif
            fi
        :: else
        fi
    fi;
    ok = false
}

inline look_at(i, ok)
{
    atomic { if :: !ok && q[i] > 0 -> q[i]--; ok = true :: else fi }
}

inline any_work(w)
{
    w = q[0] > 0;
    w = w || q[1] > 0
}

inline take_any_p(ok)
{
    atomic {
        if
        :: idle_p > 0 -> idle_p--; ok = true
        :: else -> ok = false; need_spin = true
        fi
    }
}

active [2] proctype M()
{
    byte me = _pid - 1;
    bool spin, work, ok, polled;
look:
    ok = false;
    if
    :: !spin && spinning > 0 -> goto give_up /* enough are looking */
    :: !spin && spinning == 0 -> spin = true; spinning++
    :: spin
    fi;
    if
    :: true -> look_at(0, ok); look_at(1, ok)
    :: true -> look_at(1, ok); look_at(0, ok)
    fi;
    if :: ok -> goto found :: else fi;
give_up:
#ifdef NO_BARRIER_IDLE
    any_work(work);
#endif
    atomic {
        if
        :: need_spin ->
            need_spin = false;
            if :: !spin -> spin = true; spinning++ :: else fi;
            goto look
        :: else -> idle_p++
        fi
    }
#ifdef NO_BARRIER_SPIN
    any_work(work);
#endif
    if :: spin -> spinning--; spin = false :: else fi;
#if !defined(NO_BARRIER_IDLE) && !defined(NO_BARRIER_SPIN) && !defined(NO_LOOK)
    any_work(work);
#endif
    if
    :: work ->
        work = false;
        take_any_p(ok);
        if :: ok -> spin = true; spinning++; goto look :: else fi
    :: else
    fi;
    if /* it may have been the poller, and something came */
    :: !polled -> polled = true; take_any_p(ok); if :: ok -> goto look :: else fi
    :: true
    fi;
bed:
    atomic {
        if
#ifndef NO_BED_LOOK
        :: need_spin && idle_p > 0 -> idle_p--; goto look
#else
        :: false
#endif
        :: else -> in_bed[me] = true
        fi
    }
end_bed:
    atomic { token[me] -> token[me] = false; spin = true };
    goto look;
found:
    if
    :: spin ->
        spin = false;
        atomic { spinning--; ok = spinning == 0 };
        if :: ok -> idle_wake(ok) :: else fi
    :: else
    fi;
    if
    :: goto look
    :: true
    fi;
end_hog:
    false
}

active [2] proctype submitter()
{
    byte me = _pid - 3;
    byte left = 5 - _pid;
    bool ok;
    do
    :: left > 0 ->
        left--;
#ifdef NO_BARRIER_SUBMIT
        buf[me]++;
#else
        q[me]++;
#endif
        idle_wake(ok)
    :: else -> break
    od
}

active proctype check()
{
    timeout -> assert(q[0] + q[1] == 0 || idle_p == 0 || (!in_bed[0] && !in_bed[1]))
}
