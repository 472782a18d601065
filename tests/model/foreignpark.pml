/* SPDX-License-Identifier: MIT
 *
 * foreignpark.pml: the park word of a thread that is not weft's, and the end of
 * a run (runtime/foreign.c).
 *
 * The thread waits in a queue, twice; a waker takes it out once and gives the
 * token; the run ends. To show: no wait outlasts the run, and a token ends the
 * wait it was given for.
 *
 * Left out in turn: the order of park = 0 and the load of `active`
 * (NO_BARRIER_PARK: the load is done first), that of active = false and CANCEL
 * (NO_BARRIER_CANCEL: the bit is set first), waiting for a token that is under
 * way (NO_SETTLE).
 */
bool token, cancel; /* the bits of m->park */
bool active_run = true, queue_lock, queued;

inline lock(l) { atomic { !l -> l = true } }

inline begin()
{
    lock(queue_lock);
    queued = true;
#ifdef NO_BARRIER_PARK
    act = active_run;
#endif
    atomic { token = false; cancel = false };
    queue_lock = false;
#ifndef NO_BARRIER_PARK
    act = token || cancel || active_run; /* looked at only if no bit is set */
#endif
}

inline finish()
{
    if
    :: token -> assert(!queued)
    :: else ->
        lock(queue_lock);
        was = queued;
        queued = false;
        queue_lock = false;
#ifndef NO_SETTLE
        if :: !was -> token :: else fi
#endif
    fi
}

active proctype thread()
{
    bool act, was;
    begin();
    if :: act -> (token || cancel) :: else fi;
    finish();
    begin();
    if :: act -> (token || cancel) :: else fi;
    finish()
}

active proctype waker()
{
    bool got;
end:
    atomic { queued && !queue_lock -> queue_lock = true };
    got = queued;
    queued = false;
    queue_lock = false;
    if :: got -> token = true :: else fi
}

active proctype ender()
{
#ifdef NO_BARRIER_CANCEL
    cancel = true;
    active_run = false
#else
    active_run = false;
    cancel = true
#endif
}
