/* SPDX-License-Identifier: MIT
 *
 * alarm.pml: who wants the monitor at once (runtime/monitor.c "Alarms",
 * monitor_alarm(), poll(), nap()).
 *
 * Two threads leave work for it, each twice, and alarm it. It looks for work and then
 * waits in the poller, if nobody has that role, or naps. An M takes the role now and
 * then. No wait ends by itself.
 * To show: when nothing moves any more, no work is left.
 *
 * Left out in turn: the order of the role and the look at the alarm
 * (NO_BARRIER_ROLE: the monitor looks first), of the alarm and the look at the
 * role (NO_BARRIER_ALARM: the caller looks first); the kick of the poller (NO_KICK);
 * a kick that comes before somebody waits is kept (NO_KEPT); the alarm is cleared
 * before one looks for work (NO_CLEAR_FIRST).
 */
bool work[2];
bool alarm, kick;
bool waits;       /* somebody is in the kernel's wait */
byte poller;      /* 1: an M, 2: the monitor */

proctype caller(byte me)
{
    byte turns = 0;
    bool was, role;
    do
    :: turns < 2 ->
        turns++;
        work[me] = true;
#ifdef NO_BARRIER_ALARM
        role = poller == 2;
#endif
        atomic { was = alarm; alarm = true }; /* wakes who naps */
        if
        :: !was ->
#ifndef NO_BARRIER_ALARM
            role = poller == 2;
#endif
            if
#ifndef NO_KICK
            :: role ->
#ifdef NO_KEPT
                if :: waits -> kick = true :: else fi
#else
                kick = true
#endif
#endif
            :: else
            fi
        :: else
        fi
    :: else -> break
    od
}

active proctype monitor()
{
    bool at_once;
end:
    do
    :: true ->
        work[0] = false;
        work[1] = false;
#ifdef NO_CLEAR_FIRST
        alarm = false;
#endif
#ifdef NO_BARRIER_ROLE
        at_once = alarm;
#endif
        atomic { if :: poller == 0 -> poller = 2 :: else -> goto nap fi };
#ifndef NO_BARRIER_ROLE
        at_once = alarm;
#endif
        if
        :: at_once -> at_once = false; kick = false
        :: else ->
            waits = true;
end_poll:
            atomic { kick -> kick = false; waits = false }
        fi;
#ifndef NO_CLEAR_FIRST
        alarm = false;
#endif
        poller = 0;
        goto again;
nap:
end_nap:
        alarm;
#ifndef NO_CLEAR_FIRST
        alarm = false;
#endif
again:
        skip
    od
}

active proctype M()
{
    byte turns = 0;
    do
    :: turns < 2 ->
        turns++;
end_m:
        atomic { poller == 0 -> poller = 1 };
        if :: kick -> kick = false :: true fi;
        poller = 0
    :: else -> break
    od
}

init
{
    atomic { run caller(0); run caller(1) };
    timeout -> assert(!work[0] && !work[1])
}
