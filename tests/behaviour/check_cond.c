/* SPDX-License-Identifier: MIT
 *
 * check_cond.c: the condition variable and once behave as Go's do.
 *
 * A test's body runs as the main coroutine on 1, 2 and 4 processors. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "behaviour.h"

static weft_cond_t cond;
static weft_mutex_t mx;
static weft_once_t once;
static weft_wg_t wg;
static atomic_int count;
static int plain, waiting; /* under mx */
static bool go_on;         /* under mx */

static void reset(void)
{
    memset(&cond, 0, sizeof cond);
    memset(&mx, 0, sizeof mx);
    memset(&once, 0, sizeof once);
    memset(&wg, 0, sizeof wg);
    count = plain = waiting = 0;
    go_on = false;
}

/* ---- signals ------------------------------------------------------------------------- */

static void waiter(void *arg)
{
    OK(weft_mutex_lock(&mx) == 0);
    waiting++;
    OK(weft_cond_wait(&cond, &mx) == 0);
    if (arg != NULL)
        *(int *)arg = plain++;
    OK(weft_mutex_unlock(&mx) == 0);
    atomic_fetch_add(&count, 1);
}

/* Until n are waiting, which they do when they have let go of the mutex. */
static void until_waiting(int n)
{
    for (;;) {
        OK(weft_mutex_lock(&mx) == 0);
        bool all = waiting == n;
        OK(weft_mutex_unlock(&mx) == 0);
        if (all)
            return;
        weft_yield();
    }
}

/* Go: TestCondSignal. A signal wakes one, no more. */
static void signal_body(void)
{
    enum { N = 10 };
    for (int i = 0; i < N; i++)
        OK(weft_wg_go(&wg, waiter, NULL) == 0);
    until_waiting(N);
    for (int i = 0; i < N; i++) {
        OK(weft_mutex_lock(&mx) == 0);
        OK(weft_cond_signal(&cond) == 0);
        OK(weft_mutex_unlock(&mx) == 0);
        while (count < i + 1)
            weft_yield();
        weft_sleep(MS / 2);
        EQ(count, i + 1);
    }
    OK(weft_wg_wait(&wg) == 0);
    OK(weft_cond_signal(&cond) == 0); /* nobody is there */
}

/* Go: TestCondSignalGenerations. In the order in which they came. */
static void order_body(void)
{
    enum { N = 50 };
    static int when[N];
    for (int i = 0; i < N; i++) {
        OK(weft_wg_go(&wg, waiter, &when[i]) == 0);
        until_waiting(i + 1);
    }
    for (int i = 0; i < N; i++) {
        OK(weft_cond_signal(&cond) == 0);
        while (count < i + 1)
            weft_yield();
    }
    OK(weft_wg_wait(&wg) == 0);
    for (int i = 0; i < N; i++)
        EQ(when[i], i);
}

/* Go: TestCondBroadcast. */
enum { ALL = 100, ROUNDS = 5 };
static int round_no;

static void member(void *arg)
{
    (void)arg;
    OK(weft_mutex_lock(&mx) == 0);
    for (int seen = 0; seen < ROUNDS;) {
        waiting++;
        while (round_no == seen)
            OK(weft_cond_wait(&cond, &mx) == 0);
        seen++;
        EQ(round_no, seen);
    }
    OK(weft_mutex_unlock(&mx) == 0);
}

static void broadcast_body(void)
{
    round_no = 0;
    for (int i = 0; i < ALL; i++)
        OK(weft_wg_go(&wg, member, NULL) == 0);
    for (int r = 0; r < ROUNDS; r++) {
        until_waiting(ALL * (r + 1));
        OK(weft_mutex_lock(&mx) == 0);
        round_no++;
        OK(weft_cond_broadcast(&cond) == 0);
        OK(weft_mutex_unlock(&mx) == 0);
    }
    OK(weft_wg_wait(&wg) == 0);
}

/* Go: TestRace. Two that wait for what the other does. */
static int x;

static void race_one(void *arg)
{
    (void)arg;
    OK(weft_mutex_lock(&mx) == 0);
    x = 1;
    OK(weft_cond_wait(&cond, &mx) == 0);
    EQ(x, 2);
    x = 3;
    OK(weft_cond_signal(&cond) == 0);
    OK(weft_mutex_unlock(&mx) == 0);
}

static void race_two(void *arg)
{
    (void)arg;
    OK(weft_mutex_lock(&mx) == 0);
    while (x != 1) {
        OK(weft_mutex_unlock(&mx) == 0);
        weft_yield();
        OK(weft_mutex_lock(&mx) == 0);
    }
    x = 2;
    OK(weft_cond_signal(&cond) == 0);
    while (x != 3)
        OK(weft_cond_wait(&cond, &mx) == 0);
    OK(weft_mutex_unlock(&mx) == 0);
}

static void race_body(void)
{
    for (int i = 0; i < 200; i++) {
        x = 0;
        OK(weft_wg_go(&wg, race_one, NULL) == 0);
        OK(weft_wg_go(&wg, race_two, NULL) == 0);
        OK(weft_wg_wait(&wg) == 0);
        EQ(x, 3);
    }
}

/* A bounded queue: what is put in comes out, once. */
enum { ITEMS = 5000, ROOM = 3 };
static weft_cond_t not_full, not_empty;
static int items, taken_n;

static void producer(void *arg)
{
    (void)arg;
    for (int i = 1; i <= ITEMS; i++) {
        OK(weft_mutex_lock(&mx) == 0);
        while (items == ROOM)
            OK(weft_cond_wait(&not_full, &mx) == 0);
        items++;
        plain += i;
        OK(weft_cond_signal(&not_empty) == 0);
        OK(weft_mutex_unlock(&mx) == 0);
    }
}

static void consumer(void *arg)
{
    (void)arg;
    for (;;) {
        OK(weft_mutex_lock(&mx) == 0);
        while (items == 0 && taken_n < 2 * ITEMS)
            OK(weft_cond_wait(&not_empty, &mx) == 0);
        if (items > 0) {
            items--;
            taken_n++;
        }
        bool done = taken_n == 2 * ITEMS;
        if (done)
            OK(weft_cond_broadcast(&not_empty) == 0);
        OK(weft_cond_signal(&not_full) == 0);
        OK(weft_mutex_unlock(&mx) == 0);
        if (done)
            return;
    }
}

static void queue_body(void)
{
    items = taken_n = 0;
    for (int i = 0; i < 2; i++)
        OK(weft_wg_go(&wg, producer, NULL) == 0);
    for (int i = 0; i < 3; i++)
        OK(weft_wg_go(&wg, consumer, NULL) == 0);
    OK(weft_wg_wait(&wg) == 0);
    EQ(taken_n, 2 * ITEMS);
    EQ(items, 0);
}

/* ---- a mutex that others want: its unlock has somebody to wake ------------------------------ */

static void wants(void *arg)
{
    OK(weft_mutex_lock(&mx) == 0);
    EQ(plain, 1); /* who waits has let go, not before */
    plain = 2;
    if (arg != NULL)
        OK(weft_cond_signal(&cond) == 0);
    OK(weft_mutex_unlock(&mx) == 0);
}

/* signal: or the wait ends by its deadline. wanted: somebody waits for the mutex when the wait begins. */
static void wanted_wait(bool signal, bool wanted)
{
    plain = 0;
    OK(weft_mutex_lock(&mx) == 0);
    OK(weft_wg_go(&wg, wants, signal ? &mx : NULL) == 0);
    if (wanted)
        weft_sleep(2 * MS);
    OK(weft_mutex_trylock(&mx) == -EBUSY);
    plain = 1;
    if (signal) {
        OK(weft_cond_wait(&cond, &mx) == 0);
        EQ(plain, 2);
    } else {
        EQ(weft_cond_wait_until(&cond, &mx, from_now(5 * MS)), -ETIMEDOUT);
    }
    OK(weft_mutex_trylock(&mx) == -EBUSY); /* ours again */
    OK(weft_mutex_unlock(&mx) == 0);
    OK(weft_wg_wait(&wg) == 0);
    EQ(plain, 2);
}

static void wanted_body(void)
{
    for (int i = 0; i < 10; i++)
        wanted_wait(i % 2 == 0, i < 6);
}

/* ---- deadlines --------------------------------------------------------------------------- */

static void timeout_body(void)
{
    OK(weft_mutex_lock(&mx) == 0);
    OK(weft_cond_wait_until(&cond, &mx, 1) == -ETIMEDOUT);
    OK(weft_mutex_trylock(&mx) == -EBUSY); /* it is ours again */
    int64_t until = from_now(5 * MS);
    OK(weft_cond_wait_until(&cond, &mx, until) == -ETIMEDOUT);
    OK(weft_now() >= until);
    OK(weft_mutex_trylock(&mx) == -EBUSY);
    OK(weft_mutex_unlock(&mx) == 0);
    weft_cond_t zero = {{0}};
    OK(memcmp(&cond, &zero, sizeof cond) == 0);
}

/* A signal goes to one that still waits, not to one whose deadline has passed. */
static atomic_int late, woken;

static void short_waiter(void *arg)
{
    int64_t ns = (int64_t)(intptr_t)arg;
    OK(weft_mutex_lock(&mx) == 0);
    waiting++;
    int rc = weft_cond_wait_until(&cond, &mx, ns != 0 ? from_now(ns) : 0);
    OK(weft_mutex_unlock(&mx) == 0);
    OK(rc == 0 || rc == -ETIMEDOUT);
    atomic_fetch_add(rc == 0 ? &woken : &late, 1);
}

static void no_signal_lost_body(void)
{
    enum { EACH = 40 };
    for (int round = 0; round < 10; round++) {
        waiting = 0;
        late = woken = 0;
        for (int i = 0; i < EACH; i++) {
            OK(weft_wg_go(&wg, short_waiter, (void *)(intptr_t)(MS / 2 + i * 20 * US)) == 0);
            OK(weft_wg_go(&wg, short_waiter, NULL) == 0);
        }
        until_waiting(2 * EACH);
        int sent = 0;
        for (; sent < EACH; sent++) {
            OK(weft_mutex_lock(&mx) == 0);
            OK(weft_cond_signal(&cond) == 0);
            OK(weft_mutex_unlock(&mx) == 0);
            if (sent % 4 == 0)
                weft_sleep(50 * US);
        }
        while (late + woken < EACH || woken < sent) /* as many signals, as many woken */
            weft_sleep(100 * US);
        EQ(woken, sent);
        OK(weft_mutex_lock(&mx) == 0);
        OK(weft_cond_broadcast(&cond) == 0);
        OK(weft_mutex_unlock(&mx) == 0);
        OK(weft_wg_wait(&wg) == 0);
        EQ(late + woken, 2 * EACH);
        weft_cond_t zero = {{0}};
        OK(memcmp(&cond, &zero, sizeof cond) == 0);
    }
}

/* ---- foreign threads ------------------------------------------------------------------------ */

static void *foreign(void *arg)
{
    (void)arg;
    OK(weft_mutex_lock(&mx) == 0);
    for (int i = 0; i < 500; i++) {
        while (plain % 2 == 0)
            OK(weft_cond_wait(&cond, &mx) == 0);
        plain++;
        OK(weft_cond_broadcast(&cond) == 0);
    }
    OK(weft_mutex_unlock(&mx) == 0);
    return NULL;
}

static void foreign_body(void)
{
    pthread_t th;
    OK(pthread_create(&th, NULL, foreign, NULL) == 0);
    OK(weft_mutex_lock(&mx) == 0);
    for (int i = 0; i < 500; i++) {
        while (plain % 2 != 0)
            OK(weft_cond_wait(&cond, &mx) == 0);
        plain++;
        OK(weft_cond_broadcast(&cond) == 0);
    }
    while (plain < 1000)
        OK(weft_cond_wait(&cond, &mx) == 0);
    OK(weft_mutex_unlock(&mx) == 0);
    pthread_join(th, NULL);
}

static atomic_bool waits;
static pthread_t homeless;

static void *sent_home(void *arg)
{
    (void)arg;
    if (weft_mutex_lock(&mx) != 0)
        return (void *)1;
    waits = true;
    return (void *)(intptr_t)weft_cond_wait(&cond, &mx);
}

static void end_body(void)
{
    waits = false;
    OK(pthread_create(&homeless, NULL, sent_home, NULL) == 0);
    while (!waits)
        weft_sleep(MS);
    weft_sleep(20 * MS);
}

START_TEST(end_of_run)
{
    void *rc;
    reset();
    run(_i, end_body);
    pthread_join(homeless, &rc);
    EQ((intptr_t)rc, -ECANCELED);
    weft_cond_t zero = {{0}};
    OK(memcmp(&cond, &zero, sizeof cond) == 0);
    EQ(weft_mutex_trylock(&mx), 0); /* the thread has not got it again */
    EQ(weft_cond_wait(&cond, &mx), -EPERM);
    EQ(weft_mutex_trylock(&mx), -EBUSY); /* it was not unlocked */
    EQ(weft_mutex_unlock(&mx), 0);
}
END_TEST

/* ---- once ----------------------------------------------------------------------------------- */

static void slowly(void *arg)
{
    weft_sleep(2 * MS);
    ++*(int *)arg;
}

static void do_once(void *arg)
{
    OK(weft_once_do(&once, slowly, arg) == 0);
    EQ(*(int *)arg, 1); /* whoever did it, it is done */
    atomic_fetch_add(&count, 1);
}

/* Go: TestOnce. */
static void once_body(void)
{
    static int n;
    n = 0;
    for (int i = 0; i < 10; i++)
        OK(weft_wg_go(&wg, do_once, &n) == 0);
    OK(weft_wg_wait(&wg) == 0);
    EQ(n, 1);
    EQ(count, 10);
    OK(weft_once_do(&once, NULL, NULL) == 0);
}

static void slow_once(void *arg)
{
    (void)arg;
    OK(weft_once_do(&once, slowly, &plain) == 0);
}

static void once_until_body(void)
{
    weft_once_t other = {{0}};
    OK(weft_once_do_until(&other, NULL, NULL, 0) == -EINVAL);
    OK(weft_wg_go(&wg, slow_once, NULL) == 0);
    weft_sleep(200 * US);
    int rc = weft_once_do_until(&once, slowly, &plain, 1);
    OK(rc == -ETIMEDOUT || (rc == 0 && plain == 1));
    OK(weft_once_do_until(&once, slowly, &plain, from_now(20 * SEC)) == 0);
    EQ(plain, 1);
    OK(weft_wg_wait(&wg) == 0);
}

/* ---------------------------------------------------------------------------------------------- */

static void (*const bodies[])(void) = {
    signal_body,  order_body,          broadcast_body, race_body, queue_body,      wanted_body,
    timeout_body, no_signal_lost_body, foreign_body,   once_body, once_until_body,
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
    return run_bodies("cond", each, BODIES, end_of_run);
}
