/* SPDX-License-Identifier: MIT
 *
 * stress_foreign.c: threads that are not weft's, at any moment of a run's life.
 *
 * Runs of a few milliseconds follow each other. Each is visited by threads made
 * before it, by main, and by coroutines; they do one thing or many, then end, or
 * still wait when main returns: on a channel, in a select, for a mutex, a
 * wait group, a descriptor, a timer. Two residents never end: they call weft
 * between the runs as well.
 *
 * The end of a run lets every waiter go with -ECANCELED, no later; who comes
 * too late gets -EPERM. What was cancelled has not been done: `exact` is a channel
 * that only threads use, and what they sent with success is what they received.
 * Nothing of a run may be touched afterwards: its objects are freed as soon
 * as its visitors are joined (valgrind, ASan and TSan look on).
 * WEFT_STRESS_SECONDS long (2); WEFT_DEBUG=chaos=SEED makes it wilder. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/stack_test.h"
#include "tests/stress/stress.h"

enum { VISITORS = 6, EARLY = 2, RESIDENTS = 2, HOSTS = 6 };

static const int64_t MS = 1000000;

/* What one run shares with its visitors. */
typedef struct {
    weft_chan_t *talk, *mute;     /* with coroutines; nobody ever sends on the other */
    weft_mutex_t mx, stuck;       /* the other is held by main and never given back */
    weft_wg_t wg;                 /* never done */
    int pipe[2];                  /* nobody writes */
    _Atomic bool open;            /* the run has begun */
    _Atomic uint64_t told, heard; /* by visitors, by hosts */
    uint64_t guarded;             /* mx */
    uint32_t seed;
    int count; /* visitors */
    struct {
        pthread_t thread;
        uint32_t seed;
    } visitor[VISITORS];
} Stage;

static _Atomic bool over;
static _Atomic uint64_t runs, visits, cancelled, late, spawned, sent, received;
static weft_chan_t *exact; /* between the residents: outlives the runs */

/* 0 or more: done. Else it must be the run's end that came between. */
static bool done(int64_t rc)
{
    if (rc >= 0)
        return true;
    OK(rc == -ECANCELED || rc == -EPERM);
    atomic_fetch_add(rc == -ECANCELED ? &cancelled : &late, 1);
    return false;
}

/* ---- visitors ---- */

static Stage *stage; /* of the run in progress: for what its visitors spawn */

static void nothing(void *arg)
{
    (void)arg;
}

static bool spawn(Stage *s)
{
    (void)s;
    bool ok = done(weft_go(nothing, NULL));
    if (ok)
        atomic_fetch_add(&spawned, 1);
    return ok;
}

static bool tell(Stage *s)
{
    int v = 1;
    bool ok = done(weft_send(s->talk, &v));
    if (ok)
        atomic_fetch_add(&s->told, 1);
    return ok;
}

static bool hear_nothing(Stage *s)
{
    int rc = weft_recv(s->mute, NULL);
    OK(rc < 0);
    return done(rc);
}

static bool choose(Stage *s)
{
    int v = 1;
    weft_case_t k[3] = {{.op = WEFT_RECV, .chan = s->mute},
                        {.op = WEFT_SEND, .chan = s->talk, .elem = &v},
                        {.op = WEFT_RECV, .chan = s->mute}};
    int64_t deadline = weft_now() % 2 == 0 ? 0 : weft_now() + MS / 10;
    int rc = weft_select(k, 3, deadline);
    if (rc == -ETIMEDOUT)
        return true;
    if (!done(rc))
        return false;
    OK(rc == 1);
    atomic_fetch_add(&s->told, 1);
    return true;
}

static bool choose_nothing(Stage *s)
{
    weft_case_t k[2] = {{.op = WEFT_RECV, .chan = s->mute}, {.op = WEFT_RECV, .chan = s->mute}};
    return done(weft_select(k, 2, 0));
}

static bool guard(Stage *s)
{
    if (!done(weft_mutex_lock(&s->mx)))
        return false;
    s->guarded++;
    OK(weft_mutex_unlock(&s->mx) == 0);
    return true;
}

static bool be_stuck(Stage *s)
{
    return done(weft_mutex_lock(&s->stuck));
}

static bool wait_group(Stage *s)
{
    return done(weft_wg_wait(&s->wg));
}

static bool read_nothing(Stage *s)
{
    char c;
    return done(weft_read(s->pipe[0], &c, 1));
}

static bool nap(Stage *s)
{
    (void)s;
    OK(weft_sleep(MS / 5) == 0);
    return true;
}

static bool set_timer(Stage *s)
{
    weft_timer_t t = {0};
    (void)s;
    bool ok = done(weft_timer_start(&t, weft_now() + MS / 10, MS / 10, nothing, NULL));
    weft_yield();
    OK(weft_timer_stop(&t) >= 0); /* after this nobody knows t */
    return ok;
}

static bool look_around(Stage *s)
{
    weft_stats_t st;
    (void)s;
    weft_num_coroutines();
    OK(weft_id() == 0);
    return done(weft_procs(0)) && done(weft_stats(&st));
}

/* The last of these wait until the run ends. */
static bool (*const acts[])(Stage *) = {
    spawn,       tell,         choose,   guard,          nap,        set_timer,
    look_around, hear_nothing, be_stuck, choose_nothing, wait_group, read_nothing,
};
enum { ACTS = sizeof acts / sizeof acts[0], QUICK = 7 };

static void *visit(void *arg)
{
    uint32_t *seed = arg;
    Stage *s = stage;
    while (!atomic_load(&s->open))
        usleep(50);
    atomic_fetch_add(&visits, 1);
    uint32_t stay = next(seed) % 8 == 0 ? 0 : next(seed) % 40;
    for (uint32_t i = 0; i < stay; i++)
        if (!acts[next(seed) % QUICK](s))
            return NULL;
    if (next(seed) % 2 == 0)
        acts[QUICK + next(seed) % (ACTS - QUICK)](s);
    return NULL;
}

static void invite(Stage *s, int n)
{
    for (; n > 0; n--) {
        int i = s->count++;
        OK(i < VISITORS);
        s->visitor[i].seed = next(&s->seed);
        OK(pthread_create(&s->visitor[i].thread, NULL, visit, &s->visitor[i].seed) == 0);
    }
}

/* ---- coroutines ---- */

static void host(void *arg)
{
    Stage *s = arg;
    int v;
    while (weft_recv(s->talk, &v) == 1) {
        atomic_fetch_add(&s->heard, 1);
        if (atomic_load(&s->heard) % 3 == 0) {
            OK(weft_mutex_lock(&s->mx) == 0);
            weft_yield();
            s->guarded++;
            OK(weft_mutex_unlock(&s->mx) == 0);
        }
    }
}

static int entry(void *arg)
{
    Stage *s = arg;
    OK(weft_mutex_lock(&s->stuck) == 0);
    OK(weft_wg_add(&s->wg, 1) == 0);
    for (int i = 0; i < HOSTS; i++)
        OK(weft_go(host, s) == 0);
    atomic_store(&s->open, true);
    invite(s, (int)(next(&s->seed) % (uint32_t)(VISITORS - s->count + 1)));
    if (next(&s->seed) % 4 != 0)
        weft_sleep(next(&s->seed) % (5 * MS));
    return 7;
}

/* ---- residents ---- */

static void *resident(void *arg)
{
    bool sends = arg != NULL;
    uint64_t v = 1;
    while (!atomic_load(&over)) {
        int rc = sends ? weft_send(exact, &v) : weft_recv(exact, &v);
        if (!done(rc)) {
            usleep(20);
            continue;
        }
        OK(sends ? rc == 0 : rc == 1);
        atomic_fetch_add(sends ? &sent : &received, v);
        if (sends)
            v = v % 1000 + 1;
        if (v % 50 == 0 && done(weft_go(nothing, NULL)))
            atomic_fetch_add(&spawned, 1);
    }
    return NULL;
}

/* ---- runs ---- */

static void one_run(uint32_t seed)
{
    Stage *s = calloc(1, sizeof *s);
    *s = (Stage){.seed = seed};
    s->talk = weft_chan_make(sizeof(int), seed % 3);
    s->mute = weft_chan_make(0, 0);
    OK(pipe(s->pipe) == 0);
    stage = s;
    invite(s, (int)(seed % (EARLY + 1)));
    weft_config_t cfg = {.stack = test_stack(), .procs = 1 + (int)(seed / 7 % 3)};
    OK(weft_run_with(&cfg, entry, s) == 7);
    for (int i = 0; i < s->count; i++)
        pthread_join(s->visitor[i].thread, NULL);
    uint64_t left = 0;
    for (int v; weft_try_recv(s->talk, &v) == 1;)
        left++;
    /* A host may have been abandoned between hearing and counting. */
    OK(s->told >= s->heard + left && s->told <= s->heard + left + HOSTS);
    weft_chan_unref(s->talk);
    weft_chan_unref(s->mute);
    OK(weft_close(s->pipe[0]) == 0);
    OK(weft_close(s->pipe[1]) == 0);
    free(s);
    atomic_fetch_add(&runs, 1);
}

int main(void)
{
    double seconds = stress_seconds();
    int64_t end = weft_now() + (int64_t)(seconds * 1e9);
    uint32_t seed = (uint32_t)weft_now();
    pthread_t res[RESIDENTS];
    exact = weft_chan_make(sizeof(uint64_t), 2);
    for (uintptr_t i = 0; i < RESIDENTS; i++)
        OK(pthread_create(&res[i], NULL, resident, (void *)i) == 0);
    while (weft_now() < end)
        one_run(next(&seed));
    atomic_store(&over, true);
    for (int i = 0; i < RESIDENTS; i++)
        pthread_join(res[i], NULL);
    for (uint64_t v; weft_try_recv(exact, &v) == 1;)
        atomic_fetch_add(&received, v);
    printf("runs %llu, visits %llu, cancelled %llu, late %llu, spawned %llu, sent %llu\n",
           (unsigned long long)runs, (unsigned long long)visits, (unsigned long long)cancelled,
           (unsigned long long)late, (unsigned long long)spawned, (unsigned long long)sent);
    OK(sent == received);
    OK(cancelled > 0 && spawned > 0);
    return 0;
}
