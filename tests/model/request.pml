/* SPDX-License-Identifier: MIT
 *
 * request.pml: a tick against the code of the same thread that is inside the
 * runtime, or has preemption disabled (runtime/preempt.c on_tick(),
 * preempt_pending(); base.h rt_enter(), rt_leave()).
 *
 * One thread: a coroutine makes a call within a call, or one between
 * weft_preempt_disable() and enable(), and then computes for ever. Two ticks, each
 * between any two steps: the first one counts, the second one (or a poke, at any
 * time) wants the coroutine to give way. A request may also be there for another
 * reason (what a hog has woken).
 * To show: when the coroutine computes for ever it has given way since it was
 * last asked to.
 *
 * Left out in turn: the look at the request (NO_LOOK), only after the flag was
 * lowered (NO_LOWER_FIRST); the request cleared before one looks whether one has to
 * give way (NO_CLEAR_FIRST); a second look after preempt_pending() itself has
 * lowered the flag (NO_AGAIN); the question at enable() (NO_ENABLE), after the
 * coroutine's flag was lowered (NO_ENABLE_LAST).
 */
byte off;           /* m->preempt_off */
bool request, disabled, wanted;
bool inside;        /* the code holds what a handler must not need */

active proctype handler()
{
    byte ticks = 0;
    do
    :: ticks < 2 ->
        atomic { /* the code stands still meanwhile */
            ticks++;
            if
            :: wanted = true
            :: ticks == 1 /* its slice has begun */
            fi;
            if
            :: !wanted
            :: wanted && (off > 0 || disabled) -> request = true
            :: wanted && off == 0 && !disabled -> assert(!inside); wanted = false
            fi
        }
    :: else -> break
    od
}

inline pending()
{
    if
    :: off > 0 -> goto_end = true
    :: else
    fi;
    do
    :: goto_end -> break
    :: else ->
#ifndef NO_CLEAR_FIRST
        request = false;
#endif
        if
        :: disabled -> break
        :: else
        fi;
        off = 1;
        inside = true;
        give = wanted; /* wanted(p) */
#ifdef NO_CLEAR_FIRST
        request = false;
#endif
        if
        :: give -> wanted = false /* hold_running(), or a yield */
        :: else
        fi;
        inside = false;
        off = 0;
#ifndef NO_AGAIN
        if :: !request -> break :: else fi
#else
        break
#endif
    od;
    goto_end = false;
    give = false
}

inline enter()
{
    off = off + 1
}

inline leave()
{
#ifdef NO_LOWER_FIRST
    look = request;
    off = off - 1;
#else
    off = off - 1;
#ifndef NO_LOOK
    look = request;
#endif
#endif
    if
    :: look -> look = false; pending()
    :: else
    fi
}

inline call()
{
    enter();
    inside = true;
    if
    :: request = true /* sched_ready() by a hog */
    :: true
    fi;
    inside = false;
    leave()
}

active proctype code()
{
    bool give, look, goto_end;
    if
    :: enter(); call(); leave()
    :: true ->
        disabled = true;
        call();
#ifdef NO_ENABLE_LAST
        pending();
        disabled = false
#else
        disabled = false;
#ifndef NO_ENABLE
        pending()
#endif
#endif
    fi;
    timeout -> assert(!wanted)
}
