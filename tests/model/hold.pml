/* SPDX-License-Identifier: MIT
 *
 * hold.pml: coroutines that stand still on their threads, and the end of a run
 * (runtime/hold.c; sched.c sched_loop(); monitor.c lending, end_run(); idle.c
 * put_back()).
 *
 * Three Ms, three coroutines: main, a hog, one that is pinned and parks in place.
 * Any of them may be stopped by a tick; the hog may also start on any thread. In
 * library code all want one lock; a thread that waits for it is in the kernel, with
 * its P. The monitor wakes what has parked, lends Ps, and helps at the end of the
 * run, which comes at any time, or never.
 * Four settings. No ticks (slice 0), and main on a P that is one too many since procs
 * fell from two to one; one P (solo mode) and library code, the hog stopped in there;
 * one P and a park; two Ps and a park.
 * To show: a P has one owner, a coroutine one thread; each P that is given
 * arrives, and at a thread that has not left; who has a P in solo mode finds its
 * locks free; after the end nobody is told to go on; when nothing moves any more, either
 * all coroutines have ended and the Ps are idle, or all Ms have left.
 *
 * Left out in turn.
 * Giving: the park word is zeroed before G can be found (NO_ZERO_FIRST); next_p
 * before GO (NO_P_FIRST); the claim under sched.lock (NO_CLAIM_LOCKED).
 * Parking in place: held before the commit (NO_HELD_FIRST), the P dropped after it
 * (NO_DROP_LAST).
 * Other ways to a P: put_back() offers it to the thread of who is held (NO_RESCUE); lending
 * (NO_LEND), to another one if that coroutine blocks as well (NO_LEND_MORE).
 * The end: the look at `stopping` under the lock in hold_give() (NO_LOOK_GIVE),
 * hold_running() (NO_LOOK_RUNNING), release() (NO_LOOK_RELEASE), lend_one()
 * (NO_LOOK_LEND); a P that is on its way to who parks in place is waited for,
 * although the run ends (NO_SETTLE); who leaves gives its P on (NO_GIVE_NEXT), and does
 * not retire it before (NO_END_FIRST); the monitor's help, if what runs is blocked
 * (NO_END_ONE).
 *
 * What is done under sched.lock is one atomic step; a handler's try for it that
 * fails changes nothing. Looking for work, waking an M and going to bed are one
 * step each: wake.pml has those. A queue is a set. The monitor's help at the end is
 * there for ticks only, as in monitor.c; preempt_insist() is not.
 */
#define NONE 7
#define GO 1
#define END 2

mtype = { RUN, IDLE, SPARE };
mtype pst[4] = SPARE;   /* Ps; 2 and 3 are there to be lent */
byte pm[4] = NONE;      /* p->m */
byte procs;
bool solo;
bool preempts;          /* slice != 0 */
byte ticks;             /* to come, that may stop somebody */
bool parks, library;    /* PINNED may park, all may enter library code: once */
byte next_p[3] = NONE, park[3];
bool in_bed[3], gone[3];
bool in_kernel[3];      /* waits for the library's lock */

#define PINNED 2        /* 0: main, 1: the hog */
byte gm[3] = NONE;      /* g->m */
bool held[3], hogs[3], runq[3]; /* hogs, runq: queued there */
bool on[3], done[3];    /* runs; has ended, or never runs again */
byte lib[3];            /* library code: */
#define WANTS 1         /* is in there, and wants the lock */
#define OWNS 2
#define LEFT 3
bool lock_taken;
bool locked, waiting;   /* what PINNED parks on: its lock; it is queued there */
bool stopping, stopped; /* stopped: idle_stop_all() has been under sched.lock */

#define WOKEN (runq[0] || runq[1] || runq[2])
#define WORK (WOKEN || hogs[0] || hogs[1] || hogs[2])
#define INSIDE(g) (lib[g] == WANTS || lib[g] == OWNS)
#define URGENT(g) (held[g] && hogs[g] && INSIDE(g))
/* a P that is nobody's for long counts as blocked */
#define BLOCKED(p) (pst[p] != RUN || pm[p] == NONE || in_kernel[pm[p]])
#define FIRST(x, set) \
    if \
    :: set[0] -> x = 0 \
    :: !set[0] && set[1] -> x = 1 \
    :: !set[0] && !set[1] && set[2] -> x = 2 \
    :: else -> x = NONE \
    fi

/* Those in library code first. */
inline any_held_hog(x)
{
    if
    :: URGENT(0) -> x = 0
    :: URGENT(1) -> x = 1
    :: URGENT(2) -> x = 2
    :: else ->
        if
        :: held[0] && hogs[0] -> x = 0
        :: held[1] && hogs[1] -> x = 1
        :: held[2] && hogs[2] -> x = 2
        :: else -> x = NONE
        fi
    fi
}

inline any_idle_p(x)
{
    if
    :: pst[0] == IDLE -> x = 0
    :: pst[0] != IDLE && pst[1] == IDLE -> x = 1
    :: else -> x = NONE
    fi
}

inline any_holder(x)
{
    if
    :: held[0] && INSIDE(0) -> x = 0
    :: held[1] && INSIDE(1) -> x = 1
    :: held[2] && INSIDE(2) -> x = 2
    :: else -> FIRST(x, held)
    fi
}

inline pass(to, p, how)
{
#ifndef NO_P_FIRST
    atomic {
        assert(!gone[to] && next_p[to] == NONE && park[to] == 0);
        next_p[to] = p;
        park[to] = how;
        p = NONE;
        to = NONE
    }
#else
    park[to] = how;
    atomic { next_p[to] = p; p = NONE; to = NONE }
#endif
}

inline acquire(p)
{
    assert(pst[p] == RUN && pm[p] == NONE);
    pm[p] = me
}

inline drop(p)
{
    assert(pm[p] == me);
    pm[p] = NONE
}

inline put_idle(p)
{
    assert(pm[p] == NONE && pst[p] == RUN);
    pst[p] = IDLE
}

inline claim(g)
{
    assert(held[g]);
    held[g] = false
}

inline rescue(x, g) /* under sched.lock, by who has no P */
{
    claim(g);
    hogs[g] = false;
    runq[g] = false;
    assert(!stopped && next_p[gm[g]] == NONE && park[gm[g]] == 0);
    next_p[gm[g]] = x;
    park[gm[g]] = GO
}

/* Work was published: an idle P for an M in bed, or for the thread of who is held. */
inline idle_wake(x, y)
{
    atomic {
        any_idle_p(x);
        FIRST(y, in_bed);
        if
        :: x == NONE || stopping
        :: x != NONE && !stopping && y != NONE ->
            pst[x] = RUN;
            in_bed[y] = false;
            next_p[y] = x;
            park[y] = GO
        :: x != NONE && !stopping && y == NONE ->
#ifndef NO_RESCUE
            any_held_hog(y);
            if :: y == NONE && held[PINNED] && runq[PINNED] -> y = PINNED :: else fi;
            if
            :: y != NONE -> pst[x] = RUN; rescue(x, y)
            :: else
            fi
#else
            skip
#endif
        fi;
        x = NONE;
        y = NONE
    }
}

inline await()
{
    atomic {
        park[me] != 0 ->
        how = park[me];
        park[me] = 0;
        p = next_p[me];
        next_p[me] = NONE;
        assert(p != NONE);
        acquire(p);
        assert(!on[g] && gm[g] == me && !(solo && locked));
        on[g] = true
    }
}

inline commit()
{
    if
    :: atomic { waiting = true; locked = false }
    :: atomic { locked = false; runq[g] = true; ok = true } /* takes the park back */
    fi
}

inline release()
{
    atomic {
        if
#if defined(NO_LOOK_RELEASE)
        :: false
#elif defined(NO_SETTLE)
        :: stopping -> held[g] = false; ok = false; goto abandon
#else
        :: stopping && held[g] -> claim(g); ok = false; goto abandon
#endif
        :: else ->
            drop(p);
            if
            :: ok && runq[g] && !stopping ->
                FIRST(to, in_bed);
                if :: to != NONE -> in_bed[to] = false :: else fi
            :: else
            fi;
            ok = false
        fi
    };
    if
    :: to != NONE -> pass(to, p, GO)
    :: else ->
        atomic { /* procs_put_back() */
            if
            :: p >= procs -> pst[p] = SPARE
            :: else -> put_idle(p)
            fi;
            p = NONE
        };
        idle_wake(to, next)
    fi
}

proctype M(byte me; byte p; byte g)
{
    byte give = NONE, to = NONE, next = NONE, how;
    bool ok;
    if
    :: p != NONE -> atomic { gm[g] = me; on[g] = true }; goto going
    :: p == NONE && g != NONE -> goto stopped_by_tick
    :: else -> goto end_bed
    fi;

loop: /* sched_loop() */
    atomic {
        if
        :: give != NONE -> /* hold_give() */
#ifndef NO_LOOK_GIVE
            if
            :: stopping -> give = NONE; goto after_give
            :: else
            fi;
#endif
            assert(!stopped);
#ifndef NO_CLAIM_LOCKED
            claim(give);
#endif
            drop(p);
            to = gm[give]
        :: else -> goto after_give
        fi
    }
#ifdef NO_CLAIM_LOCKED
    held[give] = false;
#endif
    give = NONE;
    pass(to, p, GO);

after_give:
#ifdef NO_END_FIRST
    if
    :: p != NONE && p >= procs ->
        atomic { drop(p); pst[p] = SPARE; p = NONE };
        idle_wake(to, next)
    :: else
    fi;
#endif
    atomic {
        if
        :: stopping -> goto leave
        :: else -> goto find
        fi
    };

find: /* idle_find() */
    atomic {
        if
        :: stopping -> goto quit
        :: else -> goto attend
        fi
    };

attend:
    atomic {
        if
        :: p != NONE && p >= procs -> drop(p); pst[p] = SPARE; p = NONE /* procs_retire() */
        :: else -> goto look
        fi
    };
    idle_wake(to, next);

look:
    atomic {
        if
        :: stopping -> goto quit
        :: !stopping && p == NONE ->
            any_idle_p(p);
            if
            :: p != NONE && WORK -> pst[p] = RUN; acquire(p); goto find
            :: else -> p = NONE; in_bed[me] = true; goto end_bed
            fi
        :: !stopping && p != NONE ->
            FIRST(g, runq);
            if
            :: g != NONE -> runq[g] = false
            :: else ->
                if
                :: hogs[0] -> g = 0; hogs[0] = false
                :: hogs[1] -> g = 1; hogs[1] = false
                :: hogs[2] -> g = 2; hogs[2] = false
                :: else -> drop(p); put_idle(p); p = NONE; goto find
                fi
            fi;
            if
            :: held[g] -> give = g; g = NONE; goto loop
            :: else
            fi;
            assert(!on[g] && !done[g] && !(solo && locked));
            gm[g] = me;
            on[g] = true
        fi
    }

going:
    if
    :: atomic { !stopping && ticks > 0 && (WORK || p >= procs) -> ticks--; goto tick }
    :: !stopping && library && lib[g] == 0 -> lib[g] = WANTS; goto going
    :: lib[g] == WANTS ->
        atomic {
            if
            :: !lock_taken -> lock_taken = true; lib[g] = OWNS; goto going
            :: else -> in_kernel[me] = true
            fi
        };
        atomic { !lock_taken -> lock_taken = true; in_kernel[me] = false; lib[g] = OWNS };
        goto going
    :: lib[g] == OWNS -> atomic { lock_taken = false; lib[g] = LEFT }; goto going
    :: !INSIDE(g) && stopping && preempts -> goto abandon /* the handler's leave() */
    :: !INSIDE(g) && g == 0 && !stopping -> /* main returns */
        stopping = true;
        atomic { /* idle_stop_all() */
            stopped = true;
            to = 0;
            do
            :: to < 3 ->
                if :: in_bed[to] -> in_bed[to] = false; park[to] = GO :: else fi;
                to++
            :: else -> break
            od;
            to = NONE
        };
        goto abandon
    :: !INSIDE(g) -> atomic { on[g] = false; gm[g] = NONE; done[g] = true; g = NONE }; goto loop
    :: !INSIDE(g) && g == PINNED && parks -> goto park_in_place
    fi;

tick: /* hold_running() */
    atomic {
        to = NONE;
        next = NONE;
        if
#ifndef NO_LOOK_RUNNING
        :: stopping
#endif
        :: else ->
            if :: p >= procs || WOKEN -> FIRST(to, in_bed) :: else fi;
            if
            :: to == NONE && (p < procs || URGENT(0) || URGENT(1) || URGENT(2)) ->
                any_held_hog(next);
                if :: next != NONE -> to = gm[next] :: else fi
            :: else
            fi;
            if :: to == NONE -> FIRST(to, in_bed) :: else fi
        fi;
        if
        :: to == NONE -> next = NONE; goto going
        :: else ->
            assert(!stopped);
            on[g] = false;
            held[g] = true;
            hogs[g] = true;
#ifndef NO_ZERO_FIRST
            park[me] = 0;
#endif
            drop(p);
            if
            :: next != NONE -> claim(next); hogs[next] = false; next = NONE
            :: else -> in_bed[to] = false
            fi
        fi
    }
    pass(to, p, GO);
#ifdef NO_ZERO_FIRST
    park[me] = 0;
#endif
stopped_by_tick:
    await();
    atomic { how = 0; goto going };

park_in_place: /* hold_park() */
    atomic { locked = true; parks = false };
#ifdef NO_HELD_FIRST
    commit();
#endif
    atomic { on[g] = false; held[g] = true; park[me] = 0 };
#ifdef NO_DROP_LAST
    release();
    commit();
    idle_wake(to, next);
    ok = false;
#else
#ifndef NO_HELD_FIRST
    commit();
#endif
    release();
#endif
    await();
    if
    :: how == END -> how = 0; goto abandon
    :: else -> how = 0; goto going
    fi;

abandon: /* on to g0, for good */
    atomic { on[g] = false; gm[g] = NONE; done[g] = true; g = NONE; goto loop };

end_bed:
    atomic {
        park[me] != 0 ->
        park[me] = 0;
        p = next_p[me];
        next_p[me] = NONE;
        if :: p != NONE -> acquire(p) :: else fi
    };
    goto find;

leave:
#ifndef NO_GIVE_NEXT
    if
    :: p != NONE -> /* hold_give_next() */
        atomic {
            any_holder(next);
            if
            :: next != NONE -> to = gm[next]; claim(next); next = NONE; drop(p)
            :: else
            fi
        }
        if
        :: to != NONE -> pass(to, p, END)
        :: else
        fi
    :: else
    fi;
#endif
quit:
    atomic {
        if :: p != NONE -> drop(p); put_idle(p) :: else fi;
        assert(next_p[me] == NONE && park[me] == 0);
        gone[me] = true
    }
}

#ifndef NO_LEND_MORE
#define LENT_BLOCKED (BLOCKED(2) && BLOCKED(3))
#else
#define LENT_BLOCKED (pst[2] != RUN && pst[3] != RUN)
#endif

proctype monitor()
{
    byte x = NONE, y = NONE;
end:
    do
    :: atomic { waiting && !locked -> waiting = false; runq[PINNED] = true }; /* polls */
        idle_wake(x, y)
#ifndef NO_LEND
    :: atomic {
            library &&
#ifndef NO_LOOK_LEND
            !stopping &&
#endif
            (URGENT(0) || URGENT(1) || URGENT(2)) && LENT_BLOCKED &&
            (pst[2] != RUN || pst[3] != RUN) ->
            if :: pst[2] != RUN -> x = 2 :: else -> x = 3 fi;
            any_held_hog(y);
            solo = false;
            pst[x] = RUN;
            rescue(x, y);
            x = NONE;
            y = NONE
        }
#endif
#ifndef NO_END_ONE
    :: atomic {
            library && stopped && (held[0] || held[1] || held[2]) &&
            (pst[2] != RUN || pst[3] != RUN) &&
            BLOCKED(0) && BLOCKED(1) && BLOCKED(2) && BLOCKED(3) ->
            if :: pst[2] != RUN -> x = 2 :: else -> x = 3 fi;
            any_holder(y);
            pst[x] = RUN;
            claim(y);
            assert(!gone[gm[y]] && next_p[gm[y]] == NONE && park[gm[y]] == 0);
            next_p[gm[y]] = x;
            park[gm[y]] = END;
            x = NONE;
            y = NONE
        }
#endif
    od
}

init
{
    atomic {
        hogs[1] = true;
        pst[0] = RUN;
        if
        :: pst[1] = RUN; pm[0] = 1; pm[1] = 0; procs = 1; parks = true; /* no ticks */
            run M(0, 1, 0);
            run M(1, 0, PINNED)
        :: preempts = true; pm[0] = 1; procs = 1; solo = true;
            gm[1] = 0;
            held[1] = true; /* the hog was stopped already */
            run M(0, NONE, 1);
            if
            :: ticks = 1; library = true; lib[1] = WANTS; runq[0] = true;
                run M(1, 0, PINNED)
            :: ticks = 2; parks = true; runq[PINNED] = true;
                run M(1, 0, 0)
            fi
        :: preempts = true; ticks = 2; pst[1] = RUN; pm[0] = 0; pm[1] = 1; procs = 2; parks = true;
            run M(0, 0, 0);
            run M(1, 1, PINNED)
        fi;
        in_bed[2] = true;
        run M(2, NONE, NONE);
        run monitor()
    }
    timeout ->
    if
    :: stopping -> assert(gone[0] && gone[1] && gone[2])
    :: else ->
        assert(done[0] && done[1] && done[2] && pst[0] == IDLE);
        assert(pst[1] != RUN && pst[2] != RUN && pst[3] != RUN)
    fi
}
