/* SPDX-License-Identifier: MIT
 *
 * check_rwmutex.c: the readers-writer mutex behaves as Go's does.
 *
 * A test's body runs as the main coroutine on 1, 2 and 4 processors. Fatal
 * misuse: tests/crash/rwmutex_*.c. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "behaviour.h"
#include "tests/objects_test.h"

static weft_rwmutex_t rw;
static weft_wg_t wg;
static atomic_int inside, readers_most, order;
static int plain;

static void reset(void)
{
    memset(&rw, 0, sizeof rw);
    memset(&wg, 0, sizeof wg);
    inside = readers_most = order = 0;
    plain = 0;
}

/* ---- who may be in it ------------------------------------------------------------------ */

/* Go: TestRWMutex, TestTryRLock: the table. */
static void table_body(void)
{
    OK(weft_rwmutex_trylock(&rw) == 0);
    OK(weft_rwmutex_trylock(&rw) == -EBUSY);
    OK(weft_rwmutex_tryrlock(&rw) == -EBUSY);
    OK(weft_rwmutex_unlock(&rw) == 0);
    OK(weft_rwmutex_tryrlock(&rw) == 0);
    OK(weft_rwmutex_tryrlock(&rw) == 0);
    OK(weft_rwmutex_rlock(&rw) == 0);
    OK(weft_rwmutex_trylock(&rw) == -EBUSY);
    for (int i = 0; i < 3; i++)
        OK(weft_rwmutex_runlock(&rw) == 0);
    OK(weft_rwmutex_lock(&rw) == 0);
    OK(weft_rwmutex_unlock(&rw) == 0);
    OK(rwmutex_unused(&rw));
}

/* Go: TestParallelReaders. n readers are in it at a time, and each waits for all others there. */
static void parallel_reader(void *arg)
{
    int n = (int)(intptr_t)arg;
    OK(weft_rwmutex_rlock(&rw) == 0);
    atomic_fetch_add(&inside, 1);
    while (inside < n)
        weft_yield();
    atomic_fetch_add(&order, 1);
    while (order < n)
        weft_yield();
    OK(weft_rwmutex_runlock(&rw) == 0);
}

static void parallel_readers_body(void)
{
    for (int n = 1; n <= 20; n++) {
        inside = order = 0;
        for (int i = 0; i < n; i++)
            OK(weft_wg_go(&wg, parallel_reader, (void *)(intptr_t)n) == 0);
        OK(weft_wg_wait(&wg) == 0);
    }
}

/* Go: TestRWMutex, HammerRWMutex. */
enum { WRITES = 10000 };

static void hammer_reader(void *arg)
{
    for (int i = 0; i < (int)(intptr_t)arg; i++) {
        OK(weft_rwmutex_rlock(&rw) == 0);
        int n = atomic_fetch_add(&inside, 1) + 1;
        OK(n >= 1 && n < WRITES);
        for (int k = 0; k < 20; k++)
            __asm__ volatile("");
        if (i % 64 == 0)
            weft_yield();
        atomic_fetch_sub(&inside, 1);
        OK(weft_rwmutex_runlock(&rw) == 0);
    }
}

static void hammer_writer(void *arg)
{
    for (int i = 0; i < (int)(intptr_t)arg; i++) {
        if (i % 8 == 0) {
            if (weft_rwmutex_trylock(&rw) != 0)
                continue;
        } else {
            OK(weft_rwmutex_lock(&rw) == 0);
        }
        EQ(atomic_fetch_add(&inside, WRITES), 0);
        plain++;
        if (i % 64 == 0)
            weft_yield();
        EQ(atomic_fetch_sub(&inside, WRITES), WRITES);
        OK(weft_rwmutex_unlock(&rw) == 0);
    }
}

static void hammer_body(void)
{
    static const int READERS[] = {1, 3, 10};
    for (int k = 0; k < 3; k++) {
        void *n = (void *)(intptr_t)1000;
        OK(weft_wg_go(&wg, hammer_writer, n) == 0);
        for (int i = 0; i < READERS[k] / 2; i++)
            OK(weft_wg_go(&wg, hammer_reader, n) == 0);
        OK(weft_wg_go(&wg, hammer_writer, n) == 0);
        for (int i = READERS[k] / 2; i < READERS[k]; i++)
            OK(weft_wg_go(&wg, hammer_reader, n) == 0);
        OK(weft_wg_wait(&wg) == 0);
        EQ(inside, 0);
    }
}

/* ---- fairness --------------------------------------------------------------------------- */

static void note_writer(void *arg)
{
    (void)arg;
    OK(weft_rwmutex_lock(&rw) == 0);
    plain = atomic_fetch_add(&order, 1);
    OK(weft_rwmutex_unlock(&rw) == 0);
}

static void note_reader(void *arg)
{
    OK(weft_rwmutex_rlock(&rw) == 0);
    *(int *)arg = atomic_fetch_add(&order, 1);
    OK(weft_rwmutex_runlock(&rw) == 0);
}

/* A writer that waits keeps new readers out, and goes before them. */
static void writer_first_body(void)
{
    static int reader[4];
    OK(weft_rwmutex_rlock(&rw) == 0);
    OK(weft_wg_go(&wg, note_writer, NULL) == 0);
    while (weft_rwmutex_tryrlock(&rw) == 0) { /* until it waits */
        OK(weft_rwmutex_runlock(&rw) == 0);
        weft_yield();
    }
    for (int i = 0; i < 4; i++)
        OK(weft_wg_go(&wg, note_reader, &reader[i]) == 0);
    weft_sleep(2 * MS);
    EQ(order, 0);
    OK(weft_rwmutex_runlock(&rw) == 0);
    OK(weft_wg_wait(&wg) == 0);
    EQ(plain, 0);
    for (int i = 0; i < 4; i++)
        OK(reader[i] >= 1);
}

static atomic_bool stop;

static void keen_writer(void *arg)
{
    (void)arg;
    while (!stop) {
        OK(weft_rwmutex_lock(&rw) == 0);
        OK(weft_rwmutex_unlock(&rw) == 0);
        weft_yield();
    }
}

static void keen_reader(void *arg)
{
    while (!stop) {
        OK(weft_rwmutex_rlock(&rw) == 0);
        weft_yield(); /* there is always one inside */
        OK(weft_rwmutex_runlock(&rw) == 0);
        atomic_fetch_add((atomic_int *)arg, 1);
    }
}

/* Neither many readers nor many writers keep the other kind out. */
static void nobody_starves_body(void)
{
    static atomic_int reads;
    reads = 0;
    stop = false;
    for (int i = 0; i < 4; i++)
        OK(weft_wg_go(&wg, keen_reader, &reads) == 0);
    for (int i = 0; i < 50; i++) {
        OK(weft_rwmutex_lock_until(&rw, from_now(20 * SEC)) == 0);
        OK(weft_rwmutex_unlock(&rw) == 0);
        weft_yield();
    }
    for (int i = 0; i < 4; i++)
        OK(weft_wg_go(&wg, keen_writer, NULL) == 0);
    int before = reads;
    for (int i = 0; i < 50; i++) {
        OK(weft_rwmutex_rlock_until(&rw, from_now(20 * SEC)) == 0);
        OK(weft_rwmutex_runlock(&rw) == 0);
        weft_yield();
    }
    for (int64_t end = from_now(20 * SEC); reads == before && weft_now() < end;)
        weft_yield();
    OK(reads > before);
    stop = true;
    OK(weft_wg_wait(&wg) == 0);
}

/* The unlock of a writer lets in all that wait, not one after the other. */
static void batch_reader(void *arg)
{
    (void)arg;
    OK(weft_rwmutex_rlock(&rw) == 0);
    atomic_fetch_add(&inside, 1);
    while (inside < 8)
        weft_yield();
    OK(weft_rwmutex_runlock(&rw) == 0);
}

static void batch_body(void)
{
    OK(weft_rwmutex_lock(&rw) == 0);
    for (int i = 0; i < 8; i++)
        OK(weft_wg_go(&wg, batch_reader, NULL) == 0);
    weft_sleep(2 * MS);
    EQ(inside, 0);
    OK(weft_rwmutex_unlock(&rw) == 0);
    OK(weft_wg_wait(&wg) == 0);
}

/* ---- deadlines ----------------------------------------------------------------------------- */

/* What can be done is done, whatever the deadline; what cannot fails at once if it is past. */
static void past_deadline_body(void)
{
    OK(weft_rwmutex_lock_until(&rw, 1) == 0);
    OK(weft_rwmutex_rlock_until(&rw, 1) == -ETIMEDOUT);
    OK(weft_rwmutex_lock_until(&rw, 1) == -ETIMEDOUT);
    OK(weft_rwmutex_unlock(&rw) == 0);
    OK(weft_rwmutex_rlock_until(&rw, 1) == 0);
    OK(weft_rwmutex_rlock_until(&rw, 1) == 0);
    OK(weft_rwmutex_lock_until(&rw, 1) == -ETIMEDOUT);
    OK(weft_rwmutex_tryrlock(&rw) == 0); /* that writer has left nothing behind */
    for (int i = 0; i < 3; i++)
        OK(weft_rwmutex_runlock(&rw) == 0);
    OK(weft_rwmutex_trylock(&rw) == 0);
    OK(weft_rwmutex_unlock(&rw) == 0);
}

static void late_writer(void *arg)
{
    (void)arg;
    int64_t until = from_now(100 * MS);
    OK(weft_rwmutex_lock_until(&rw, until) == -ETIMEDOUT);
    OK(weft_now() >= until);
    atomic_fetch_add(&order, 1);
}

/* A writer that gives up lets in the readers that wait because of it. */
static void writer_gives_up_body(void)
{
    static int reader;
    reader = -1;
    OK(weft_rwmutex_rlock(&rw) == 0);
    OK(weft_wg_go(&wg, late_writer, NULL) == 0);
    while (order == 0 && weft_rwmutex_tryrlock(&rw) == 0) {
        OK(weft_rwmutex_runlock(&rw) == 0);
        weft_yield();
    }
    OK(weft_wg_go(&wg, note_reader, &reader) == 0);
    OK(weft_wg_wait(&wg) == 0); /* we are still reading */
    OK(reader >= 0);
    OK(weft_rwmutex_runlock(&rw) == 0);
    OK(weft_rwmutex_trylock(&rw) == 0);
    OK(weft_rwmutex_unlock(&rw) == 0);
}

static void late_reader(void *arg)
{
    (void)arg;
    OK(weft_rwmutex_rlock_until(&rw, from_now(5 * MS)) == -ETIMEDOUT);
}

static void reader_gives_up_body(void)
{
    static int reader;
    reader = -1;
    OK(weft_rwmutex_lock(&rw) == 0);
    for (int i = 0; i < 3; i++)
        OK(weft_wg_go(&wg, late_reader, NULL) == 0);
    OK(weft_wg_wait(&wg) == 0);
    OK(weft_wg_go(&wg, note_reader, &reader) == 0);
    weft_sleep(2 * MS);
    EQ(reader, -1);
    OK(weft_rwmutex_unlock(&rw) == 0);
    OK(weft_wg_wait(&wg) == 0);
    EQ(reader, 0);
    OK(rwmutex_unused(&rw));
}

/* ---- threads that are not weft's --------------------------------------------------------------- */

static void *foreign(void *arg)
{
    for (int i = 0; i < 2000; i++) {
        if (i % 4 == 0) {
            OK(weft_rwmutex_lock(&rw) == 0);
            plain++;
            OK(weft_rwmutex_unlock(&rw) == 0);
        } else {
            int rc = weft_rwmutex_rlock_until(&rw, from_now(100 * SEC));
            OK(rc == 0);
            OK(weft_rwmutex_runlock(&rw) == 0);
        }
    }
    weft_wg_done(arg);
    return NULL;
}

static void foreign_body(void)
{
    pthread_t th[2];
    OK(weft_wg_add(&wg, 2) == 0);
    for (int i = 0; i < 2; i++)
        OK(pthread_create(&th[i], NULL, foreign, &wg) == 0);
    for (int i = 0; i < 2000; i++) {
        OK(weft_rwmutex_lock(&rw) == 0);
        int seen = plain;
        weft_yield();
        plain = seen + 1;
        OK(weft_rwmutex_unlock(&rw) == 0);
    }
    OK(weft_wg_wait(&wg) == 0);
    for (int i = 0; i < 2; i++)
        pthread_join(th[i], NULL);
    EQ(plain, 2000 + 2 * 500);
}

/* A foreign thread that waits when the run ends is sent home, and has left nothing behind. */
static atomic_bool waits;

static void *sent_home(void *arg)
{
    waits = true;
    int rc = arg != NULL ? weft_rwmutex_lock(&rw) : weft_rwmutex_rlock(&rw);
    return (void *)(intptr_t)rc;
}

static pthread_t homeless;
static bool writes;

static void end_body(void)
{
    waits = false;
    OK((writes ? weft_rwmutex_rlock(&rw) : weft_rwmutex_lock(&rw)) == 0);
    OK(pthread_create(&homeless, NULL, sent_home, writes ? &rw : NULL) == 0);
    while (!waits)
        weft_sleep(MS);
    weft_sleep(50 * MS);
}

START_TEST(end_of_run)
{
    for (int i = 0; i < 2; i++) {
        void *rc;
        reset();
        writes = i == 1;
        run(_i, end_body);
        pthread_join(homeless, &rc);
        EQ((intptr_t)rc, -ECANCELED);
        EQ(writes ? weft_rwmutex_runlock(&rw) : weft_rwmutex_unlock(&rw), 0);
        EQ(weft_rwmutex_trylock(&rw), 0); /* outside of a run what need not wait works */
        EQ(weft_rwmutex_rlock(&rw), -EPERM);
        EQ(weft_rwmutex_unlock(&rw), 0);
    }
}
END_TEST

/* ---------------------------------------------------------------------------------------------- */

static void (*const bodies[])(void) = {
    table_body,         parallel_readers_body, hammer_body,
    writer_first_body,  nobody_starves_body,   batch_body,
    past_deadline_body, writer_gives_up_body,  reader_gives_up_body,
    foreign_body,
};
enum { BODIES = sizeof bodies / sizeof bodies[0] };

START_TEST(each)
{
    reset();
    run(_i % NPROCS, bodies[_i / NPROCS]);
}
END_TEST

int main(void)
{
    return run_bodies("rwmutex", each, BODIES, end_of_run);
}
