/* SPDX-License-Identifier: MIT
 *
 * check_deadlock.c: WEFT_DEBUG=deadlock, stuck and leaks say what they should, and nothing else.
 *
 * Standard error goes to a file, and main waits until what it wants is there: as long as it takes. A ticker
 * runs all the time, so that nothing is a deadlock of the whole program. That nothing is said can only be
 * seen by waiting for longer than a report takes.
 * Planted deadlocks of the whole program: tests/crash/deadlock_*.c. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "behaviour.h"

static weft_mutex_t mx[3];
static weft_rwmutex_t rw[2];
static weft_once_t once;
static weft_wg_t arrived;
static weft_chan_t *chan;
static atomic_int ticks;

static char text[1 << 16];
static FILE *err;

/* What has been written to fd 2 so far. */
static const char *said(void)
{
    ssize_t n = pread(fileno(err), text, sizeof text - 1, 0);
    text[n < 0 ? 0 : n] = '\0';
    return text;
}

static int times(const char *what)
{
    int n = 0;
    for (const char *p = said(); (p = strstr(p, what)) != NULL; p += strlen(what))
        n++;
    return n;
}

static void await(const char *what)
{
    int64_t until = from_now(40 * SEC);
    while (strstr(said(), what) == NULL) {
        if (weft_now() > until)
            ck_abort_msg("nobody says \"%s\", but: %s", what, text);
        weft_sleep(20 * MS);
    }
}

/* One line with all of it. */
static bool line_with(const char *a, const char *b, const char *c)
{
    char line[1024];
    said();
    for (const char *p = text; *p != '\0'; p += strcspn(p, "\n"), p += *p == '\n') {
        snprintf(line, sizeof line, "%.*s", (int)strcspn(p, "\n"), p);
        if (strstr(line, a) != NULL && strstr(line, b) != NULL && strstr(line, c) != NULL)
            return true;
    }
    return false;
}

static const char *hex(const void *p)
{
    static char s[4][32];
    static int turn;
    char *to = s[turn++ % 4];
    snprintf(to, sizeof s[0], "%p", p);
    return to;
}

static void ticker(void *arg)
{
    (void)arg;
    for (;;) {
        atomic_fetch_add(&ticks, 1);
        weft_sleep(5 * MS);
    }
}

/* One spawn site, whatever loop it is called from. */
static __attribute__((noinline)) void named(const char *name, void (*fn)(void *), void *arg)
{
    weft_attr_t attr = {.name = name};
    EQ(weft_go_with(&attr, fn, arg), 0);
}

/* fd 2 in `err`, WEFT_DEBUG is what it was and more. */
static void run_watched(int which, const char *debug, void (*body)(void))
{
    const char *old = getenv("WEFT_DEBUG");
    char now[200];
    snprintf(now, sizeof now, "%s%s%s", old != NULL ? old : "", old != NULL ? "," : "", debug);
    setenv("WEFT_DEBUG", now, 1);
    err = tmpfile();
    int saved = dup(2);
    dup2(fileno(err), 2);
    run(which, body);
    said();
    dup2(saved, 2);
    close(saved);
}

/* ---- cycles ------------------------------------------------------------------------------------ */

/* Lock one, wait until all have one, lock the next. */
static void meet(void)
{
    weft_wg_done(&arrived);
    weft_wg_wait(&arrived);
}

static void two(void *arg)
{
    int i = (int)(intptr_t)arg;
    weft_mutex_lock(&mx[i]);
    meet();
    weft_mutex_lock(&mx[1 - i]);
}

/* The mutexes are new, or were used before, in peace. */
static void two_body(void)
{
    static int turn;
    for (int i = 0; i < 2 && turn % 2 == 1; i++) {
        weft_mutex_lock(&mx[i]);
        weft_mutex_unlock(&mx[i]);
    }
    turn++;
    go(ticker, NULL);
    weft_wg_add(&arrived, 2);
    named("first", two, (void *)0);
    named("second", two, (void *)1);
    await("weft: deadlock: 2 coroutines");
    await("second\" [sync.Mutex.Lock");
    int before = ticks;
    weft_sleep(1500 * MS); /* once */
    OK(ticks > before);
    EQ(times("weft: deadlock:"), 1);
    OK(line_with("\"first\" [sync.Mutex.Lock, ", "waits for mutex", hex(&mx[1])));
    OK(line_with("\"second\" [sync.Mutex.Lock, ", "waits for mutex", hex(&mx[0])));
    OK(line_with("\"first\" [", hex(&mx[1]), "locked by coroutine"));
    OK(line_with("coroutine", "locked by", "\"second\":"));
    OK(line_with("coroutine", "locked by", "\"first\":"));
    EQ(times("created at "), 2);
#ifdef HAVE_LIBUNWIND
    OK(times("#0 ") == 2);
#endif
}

static void three(void *arg)
{
    int i = (int)(intptr_t)arg;
    weft_mutex_lock(&mx[i]);
    meet();
    weft_mutex_lock(&mx[(i + 1) % 3]);
}

static void bystander(void *arg)
{
    weft_mutex_lock(arg);
}

static void three_body(void)
{
    go(ticker, NULL);
    weft_wg_add(&arrived, 3);
    named("a", three, (void *)0);
    named("b", three, (void *)1);
    named("c", three, (void *)2);
    weft_sleep(20 * MS);
    named("bystander", bystander, &mx[1]);
    await("weft: deadlock: 3 coroutines");
    await("\"c\" [");
    weft_sleep(1500 * MS);
    EQ(times("weft: deadlock:"), 1);
    OK(line_with("\"a\" [", hex(&mx[1]), "\"b\":"));
    OK(line_with("\"b\" [", hex(&mx[2]), "\"c\":"));
    OK(line_with("\"c\" [", hex(&mx[0]), "\"a\":"));
    EQ(times("bystander"), 0);
}

static void twice(void *arg)
{
    (void)arg;
    weft_mutex_lock(&mx[0]);
    weft_mutex_lock(&mx[0]);
}

static void self_body(void)
{
    go(ticker, NULL);
    named("twice", twice, NULL);
    await("weft: deadlock: a coroutine waits for a lock that it has itself");
    await("\":");
    OK(line_with("\"twice\" [sync.Mutex.Lock", hex(&mx[0]), "locked by coroutine"));
}

/* A reader that wants to write waits for itself. */
static void upgrade(void *arg)
{
    (void)arg;
    weft_rwmutex_rlock(&rw[0]);
    weft_rwmutex_lock(&rw[0]);
}

static void upgrade_body(void)
{
    go(ticker, NULL);
    named("upgrade", upgrade, NULL);
    await("weft: deadlock: a coroutine waits");
    await("\":");
    OK(line_with("\"upgrade\" [sync.RWMutex.Lock", hex(&rw[0]), "read-locked by coroutine"));
    OK(line_with("\"upgrade\" [", "waits for rwmutex", "upgrade\":"));
}

/* Reads again while a writer waits for its first time. */
static void reads_twice(void *arg)
{
    (void)arg;
    weft_rwmutex_rlock(&rw[0]);
    weft_wg_done(&arrived);
    while (weft_rwmutex_tryrlock(&rw[0]) == 0) { /* until the writer waits */
        weft_rwmutex_runlock(&rw[0]);
        weft_sleep(MS);
    }
    weft_rwmutex_rlock(&rw[0]);
}

static void writes(void *arg)
{
    weft_rwmutex_lock(arg);
}

static void reread_body(void)
{
    go(ticker, NULL);
    weft_wg_add(&arrived, 1);
    named("reader", reads_twice, NULL);
    weft_wg_wait(&arrived);
    named("writer", writes, &rw[0]);
    await("weft: deadlock: 2 coroutines");
    await("\"writer\" [sync.RWMutex.Lock");
    await("\"reader\" [sync.RWMutex.RLock");
    OK(line_with("\"writer\" [", "read-locked by", "\"reader\":"));
    OK(line_with("\"reader\" [", ", locked by", "\"writer\":"));
}

/* Writers of two, and one that many read. */
static void write_two(void *arg)
{
    int i = (int)(intptr_t)arg;
    weft_rwmutex_lock(&rw[i]);
    meet();
    weft_rwmutex_lock(&rw[1 - i]);
}

static void writers_body(void)
{
    go(ticker, NULL);
    weft_wg_add(&arrived, 2);
    named("first", write_two, (void *)0);
    named("second", write_two, (void *)1);
    await("weft: deadlock: 2 coroutines");
    await("\"second\" [");
    await("\"first\" [");
    OK(line_with("\"first\" [", "waits for rwmutex", hex(&rw[1])));
    OK(line_with("\"second\" [", "waits for rwmutex", hex(&rw[0])));
}

/* A reader has what a mutex's owner wants to write. */
static void reads_then_locks(void *arg)
{
    (void)arg;
    weft_rwmutex_rlock(&rw[0]);
    meet();
    weft_mutex_lock(&mx[0]);
}

static void locks_then_writes(void *arg)
{
    (void)arg;
    weft_mutex_lock(&mx[0]);
    meet();
    weft_rwmutex_lock(&rw[0]);
}

static void mixed_body(void)
{
    go(ticker, NULL);
    weft_wg_add(&arrived, 2);
    named("reads", reads_then_locks, NULL);
    named("locks", locks_then_writes, NULL);
    for (int i = 0; i < 4; i++) /* readers that come and go do not hide it */
        OK(weft_rwmutex_tryrlock(&rw[0]) != 0 || weft_rwmutex_runlock(&rw[0]) == 0);
    await("weft: deadlock: 2 coroutines");
    await("\"locks\" [sync.RWMutex.Lock");
    await("\"reads\" [sync.Mutex.Lock");
    OK(line_with("\"reads\" [", "waits for mutex", "\"locks\":"));
    OK(line_with("\"locks\" [", "rwmutex", "read-locked by coroutine"));
}

/* A function that once runs wants it run. */
static void again(void *arg)
{
    (void)arg;
    weft_once_do(&once, again, NULL);
}

static void once_body(void)
{
    go(ticker, NULL);
    named("again", again, NULL);
    await("weft: deadlock: a coroutine waits");
    await("\"again\" [sync.Mutex.Lock");
}

/* Two, one after the other, each told once. */
static void both_body(void)
{
    two_body();
    named("twice", twice, NULL); /* waits for "first" only: no cycle */
    weft_mutex_lock(&mx[2]);
    named("other", bystander, &mx[2]); /* nor this */
    named("upgrade", upgrade, NULL);
    await("\"upgrade\" [");
    weft_sleep(1500 * MS);
    EQ(times("weft: deadlock:"), 2);
}

/* ---- no cycle ---------------------------------------------------------------------------------------- */

static void lends(void *arg)
{
    (void)arg;
    weft_mutex_lock(&mx[0]);
    meet();
    weft_mutex_lock(&mx[1]);
    weft_mutex_unlock(&mx[1]);
}

static void borrows(void *arg)
{
    (void)arg;
    weft_mutex_lock(&mx[1]);
    meet();
    OK(weft_mutex_lock_until(&mx[0], from_now(2500 * MS)) == -ETIMEDOUT);
    weft_mutex_unlock(&mx[1]);
}

/* One waits with a deadline: it goes on by itself. Others wait long in a chain. */
static void chain(void *arg)
{
    int i = (int)(intptr_t)arg;
    weft_mutex_lock(&mx[2]);
    if (i == 0)
        weft_sleep(2500 * MS);
    weft_mutex_unlock(&mx[2]);
}

static void deadline_body(void)
{
    weft_wg_t wg = {0};
    go(ticker, NULL);
    weft_wg_add(&arrived, 2);
    weft_wg_go(&wg, lends, NULL);
    weft_wg_go(&wg, borrows, NULL);
    for (int i = 0; i < 5; i++)
        weft_wg_go(&wg, chain, (void *)(intptr_t)i);
    weft_wg_wait(&wg);
    EQ(times("weft: deadlock:"), 0);
}

/* What one has locked another may unlock: whoever locked it last has it. */
static void waits_for_peer(void *arg)
{
    (void)arg;
    weft_mutex_lock(&mx[0]);
    meet();
    weft_mutex_lock(&mx[1]);
    weft_mutex_unlock(&mx[1]);
}

static void passed_on_body(void)
{
    weft_wg_t wg = {0};
    go(ticker, NULL);
    weft_mutex_lock(&mx[1]);
    weft_wg_add(&arrived, 2);
    weft_wg_go(&wg, waits_for_peer, NULL);
    meet();
    weft_mutex_unlock(&mx[0]); /* not ours */
    weft_mutex_lock(&mx[0]);   /* ours now: no wait for the peer, which waits for us */
    weft_sleep(2500 * MS);
    EQ(times("weft: deadlock:"), 0);
    weft_mutex_unlock(&mx[1]);
    weft_wg_wait(&wg);
}

/* Somebody leaves for a reader: nobody knows any more who reads, so nobody is accused. */
static void reads_long(void *arg)
{
    (void)arg;
    weft_rwmutex_rlock(&rw[0]);
    meet();
    weft_sleep(3 * SEC);
    weft_rwmutex_runlock(&rw[0]);
}

static void leaves_for_it(void *arg)
{
    (void)arg;
    weft_rwmutex_runlock(&rw[0]);
}

static void locks_and_writes(void *arg)
{
    (void)arg;
    weft_mutex_lock(&mx[0]);
    meet();
    weft_rwmutex_lock(&rw[0]); /* when reads_long() has left */
    weft_rwmutex_unlock(&rw[0]);
    weft_mutex_unlock(&mx[0]);
}

static void left_for_body(void)
{
    weft_wg_t wg = {0}, left = {0};
    go(ticker, NULL);
    weft_rwmutex_rlock(&rw[0]);
    weft_wg_go(&left, leaves_for_it, NULL);
    weft_wg_wait(&left);
    weft_rwmutex_rlock(&rw[0]);
    weft_wg_add(&arrived, 3);
    weft_wg_go(&wg, reads_long, NULL);
    weft_wg_go(&wg, locks_and_writes, NULL);
    meet();
    weft_wg_go(&left, leaves_for_it, NULL);
    weft_wg_wait(&left);
    weft_mutex_lock(&mx[0]); /* what is noted must not say that the writer waits for us */
    weft_mutex_unlock(&mx[0]);
    weft_wg_wait(&wg);
    EQ(times("weft: deadlock:"), 0);
}

/* A storm of short waits. */
static atomic_bool over;

static void storm(void *arg)
{
    uint32_t at = (uint32_t)(uintptr_t)arg;
    while (!over) {
        at = at * 1664525 + 1013904223;
        uint32_t i = at >> 30, j = at >> 28 & 3;
        if (i == 3 || j == 3 || i >= j) {
            weft_rwmutex_rlock(&rw[i & 1]);
            if (at & 1)
                weft_yield();
            weft_rwmutex_runlock(&rw[i & 1]);
            continue;
        }
        weft_mutex_lock(&mx[i]);
        weft_mutex_lock(&mx[j]);
        if (at & 2)
            weft_rwmutex_lock(&rw[0]);
        weft_yield();
        if (at & 2)
            weft_rwmutex_unlock(&rw[0]);
        weft_mutex_unlock(&mx[j]);
        weft_mutex_unlock(&mx[i]);
    }
}

static void storm_body(void)
{
    weft_wg_t wg = {0};
    for (int i = 0; i < 20; i++)
        weft_wg_go(&wg, storm, (void *)(uintptr_t)(i * 7919 + 1));
    weft_sleep(3 * SEC);
    over = true;
    weft_wg_wait(&wg);
    EQ(times("weft: deadlock:"), 0);
}

/* ---- stuck and leaks ------------------------------------------------------------------------------- */

static void receives(void *arg)
{
    (void)arg;
    weft_recv(chan, NULL);
}

static void sleeps(void *arg)
{
    (void)arg;
    weft_sleep(3600 * SEC);
}

/* How many coroutines that receive were said to be stuck, in how many lines soever. */
static int stuck(void)
{
    int n = 0;
    said();
    for (const char *p = text; (p = strstr(p, "weft: stuck: ")) != NULL; p++)
        if (strncmp(strchr(p, '['), "[chan receive], oldest ", 23) == 0)
            n += atoi(p + strlen("weft: stuck: "));
    return n;
}

static void await_stuck(int n)
{
    for (int64_t until = from_now(40 * SEC); stuck() < n; weft_sleep(50 * MS))
        OK(weft_now() < until);
    EQ(stuck(), n);
}

static void stuck_body(void)
{
    chan = weft_chan_make(0, 0);
    go(ticker, NULL);
    for (int i = 0; i < 3; i++)
        named("stuck one", receives, NULL);
    await_stuck(3);
    OK(line_with("weft: stuck: ", "\"stuck one\")", "created at "));
    for (int i = 0; i < 60; i++)
        weft_sleep(50 * MS);
    EQ(stuck(), 3); /* each wait once */
    weft_send(chan, NULL);
    named("stuck one", receives, NULL);
    await_stuck(4);
    EQ(times("[sleep]"), 0); /* short ones in a row are not one long one */
}

static void leak_body(void)
{
    if (chan == NULL)
        chan = weft_chan_make(0, 0);
    for (int i = 0; i < 3; i++)
        named("leaked", receives, NULL);
    named("sleeper", sleeps, NULL);
    weft_sleep(300 * MS);
}

static void clean_body(void)
{
    weft_wg_t wg = {0};
    chan = weft_chan_make(0, 4);
    for (int i = 0; i < 4; i++)
        weft_wg_go(&wg, receives, NULL);
    for (int i = 0; i < 4; i++)
        weft_send(chan, NULL);
    weft_wg_wait(&wg);
}

/* ---- the suite --------------------------------------------------------------------------------------- */

static const struct {
    const char *debug;
    void (*body)(void);
    bool
        once; /* it takes seconds: with one number of processors, of which each has its share of these */
} watched[] = {
    {"deadlock=1", two_body, false},       {"deadlock=1", three_body, true},
    {"deadlock=1", self_body, true},       {"deadlock=1", upgrade_body, true},
    {"deadlock=1", reread_body, true},     {"deadlock=1", writers_body, true},
    {"deadlock=1", mixed_body, true},      {"deadlock=1", once_body, true},
    {"deadlock=1", both_body, true},       {"deadlock=1", deadline_body, true},
    {"deadlock=1", passed_on_body, true},  {"deadlock=1", left_for_body, true},
    {"deadlock=1", storm_body, true},      {"stuck=2000", stuck_body, true},
    {"leaks,deadlock", clean_body, false},
};
enum { NWATCHED = sizeof watched / sizeof watched[0] };

START_TEST(each)
{
    if (watched[_i / NPROCS].once && _i % NPROCS != _i / NPROCS % NPROCS)
        return;
    run_watched(_i % NPROCS, watched[_i / NPROCS].debug, watched[_i / NPROCS].body);
    if (watched[_i / NPROCS].body == clean_body)
        ck_assert_str_eq(text, "");
}
END_TEST

/* In the order in which they are found, one line each. */
START_TEST(leaks)
{
    run_watched(_i, "leaks", leak_body);
    OK(line_with("weft: leak: 3 coroutines [chan receive], oldest ", "\"leaked\")", "created at "));
    OK(line_with("weft: leak: 1 coroutine [sleep], oldest ", "\"sleeper\")", "created at "));
    EQ(times("weft: leak:"), 2);
    EQ(times("\n"), 2);
    run_watched(_i, "leaks=0", leak_body);
    ck_assert_str_eq(text, "");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("deadlock");
    TCase *tc = tcase_create("deadlock");
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, each, 0, NWATCHED * NPROCS);
    tcase_add_loop_test(tc, leaks, 0, NPROCS);
    suite_add_tcase(s, tc);
    return run_suite(s);
}
