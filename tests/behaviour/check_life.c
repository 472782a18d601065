/* SPDX-License-Identifier: MIT
 *
 * check_life.c: how a coroutine ends, and who learns of it: join, exit, keys.
 *
 * A test's body runs as the main coroutine on 1, 2 and 4 processors. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "behaviour.h"

static weft_wg_t wg;
static weft_chan_t *gate;
static atomic_int count, destroyed;
static weft_id_t target;

static void reset(void)
{
    memset(&wg, 0, sizeof wg);
    count = destroyed = 0;
    if (gate != NULL)
        weft_chan_unref(gate);
    OK((gate = weft_chan_make(sizeof(int), 0)) != NULL);
}

static weft_id_t spawn(void (*fn)(void *), void *arg)
{
    weft_id_t id = 0;
    weft_attr_t attr = {.id = &id};
    EQ(weft_go_with(&attr, fn, arg), 0);
    return id;
}

static void counts(void *arg)
{
    (void)arg;
    count++;
}

static void waits(void *arg)
{
    (void)arg;
    weft_recv(gate, NULL);
    count++;
}

/* ---- join ------------------------------------------------------------------------------- */

static void join_body(void)
{
    weft_id_t ids[100];
    reset();
    for (int i = 0; i < 100; i++)
        ids[i] = spawn(counts, NULL);
    for (int i = 99; i >= 0; i--)
        EQ(weft_join(ids[i], 0), 0);
    EQ(count, 100);
    EQ(weft_join(ids[7], 0), 0);
    EQ(weft_join(ids[7], 1), 0); /* ended: whatever the deadline */
    EQ(weft_join(weft_id(), 0), -EDEADLK);
    EQ(weft_join(1, 0), -EDEADLK);
    EQ(weft_join(0, 0), -ESRCH);
    EQ(weft_join(UINT64_MAX, 0), -ESRCH);
    EQ(weft_cancel(0), -ESRCH);
    EQ(weft_cancel(UINT64_MAX), -ESRCH);
}

static void deadline_body(void)
{
    reset();
    weft_id_t id = spawn(waits, NULL);
    EQ(weft_join(id, 1), -ETIMEDOUT);
    int64_t until = from_now(3 * MS);
    EQ(weft_join(id, until), -ETIMEDOUT);
    OK(weft_now() >= until);
    EQ(weft_send(gate, &(int){1}), 0);
    EQ(weft_join(id, from_now(20 * SEC)), 0);
    EQ(count, 1);
}

static void joiner(void *arg)
{
    (void)arg;
    EQ(weft_join(target, 0), 0);
    EQ(count, 1);
}

static void *joining_thread(void *arg)
{
    joiner(arg);
    EQ(weft_id(), 0);
    return NULL;
}

/* Any number may join one, threads too. */
static void many_body(void)
{
    pthread_t th;
    reset();
    target = spawn(waits, NULL);
    for (int i = 0; i < 50; i++)
        EQ(weft_wg_go(&wg, joiner, NULL), 0);
    OK(pthread_create(&th, NULL, joining_thread, NULL) == 0);
    weft_sleep(2 * MS);
    EQ(weft_send(gate, &(int){1}), 0);
    EQ(weft_wg_wait(&wg), 0);
    OK(pthread_join(th, NULL) == 0);
}

/* Against the end of what is joined; the list of ids grows and shrinks. */
enum { CROWD = 20000 };

static void crowd_body(void)
{
    static weft_id_t ids[CROWD];
    reset();
    for (int i = 0; i < CROWD; i++)
        ids[i] = spawn(counts, NULL);
    for (int i = 0; i < CROWD; i++)
        EQ(weft_join(ids[i], 0), 0);
    EQ(count, CROWD);
    for (int i = 0; i < 2000; i++) {
        weft_id_t id = spawn(counts, NULL);
        if (i % 3 == 0)
            weft_yield();
        EQ(weft_join(id, 0), 0);
        EQ(count, CROWD + i + 1);
    }
}

/* ---- exit ------------------------------------------------------------------------------- */

static void (*volatile leave)(void) =
    weft_exit; /* the compiler need not see that nothing returns */

static __attribute__((noinline)) void deep(int n)
{
    volatile char room[200];
    room[0] = 1;
    if (n > 0)
        deep(n - 1);
    else
        leave();
    room[1] = room[0];
}

static void leaves(void *arg)
{
    count++;
    deep((int)(intptr_t)arg);
    count += 1000;
}

static void leaves_locked(void *arg)
{
    (void)arg;
    weft_thread_lock();
    count++;
    weft_exit();
}

static void exit_body(void)
{
    reset();
    for (int i = 0; i < 300; i++)
        EQ(weft_wg_go(&wg, leaves, (void *)(intptr_t)(i % 50 * 8)), 0);
    EQ(weft_wg_wait(&wg), 0);
    EQ(count, 300);
    weft_id_t id = spawn(leaves, (void *)(intptr_t)10);
    EQ(weft_join(id, 0), 0);
    EQ(count, 301);
    for (int i = 0; i < 20; i++)
        EQ(weft_wg_go(&wg, leaves_locked, NULL), 0);
    EQ(weft_wg_wait(&wg), 0);
    EQ(count, 321);
}

/* ---- keys ------------------------------------------------------------------------------- */

static weft_key_t key, again, leaving, plain;

static void destroy(void *value)
{
    OK(weft_getspecific(key) == NULL);
    destroyed += *(int *)value;
    weft_yield(); /* it may park */
    EQ(weft_sleep(1), 0);
}

/* Sets itself anew: four rounds, then it is given up. */
static void destroy_again(void *value)
{
    destroyed++;
    EQ(weft_setspecific(again, value), 0);
}

/* Not cancelled either, after it has asked for its id; and the rounds are counted all the same. */
static void leave_again(void *value)
{
    destroyed++;
    EQ(weft_sleep(1), 0);
    OK(weft_id() != 0);
    EQ(weft_sleep(1), 0);
    EQ(weft_setspecific(leaving, value), 0);
    weft_exit();
}

static void keys_once(void)
{
    static bool made;
    if (made)
        return;
    made = true;
    EQ(weft_key_create(NULL, NULL), -EINVAL);
    EQ(weft_key_create(&key, destroy), 0);
    EQ(weft_key_create(&again, destroy_again), 0);
    EQ(weft_key_create(&leaving, leave_again), 0);
    EQ(weft_key_create(&plain, NULL), 0);
    OK(key != again && again != plain && key != plain);
}

static int values[64];

static void uses_keys(void *arg)
{
    int *mine = arg;
    OK(weft_getspecific(key) == NULL);
    OK(weft_getspecific(plain) == NULL);
    EQ(weft_setspecific(plain, mine), 0);
    EQ(weft_setspecific(key, &count), 0);
    weft_yield();
    EQ(weft_setspecific(key, mine), 0);
    weft_sleep(1000);
    OK(weft_getspecific(key) == mine && weft_getspecific(plain) == mine);
    if (*mine % 2 == 0)
        weft_exit();
}

static void uses_again(void *arg)
{
    EQ(weft_setspecific(again, arg), 0);
}

/* The destructors of one that is cancelled are not. */
static void uses_cancelled(void *arg)
{
    EQ(weft_setspecific(key, arg), 0);
    EQ(weft_cancel(weft_id()), 0);
    EQ(weft_sleep(1), -ECANCELED);
}

static void uses_leaving(void *arg)
{
    EQ(weft_setspecific(leaving, arg), 0);
}

static void *no_keys(void *arg)
{
    EQ(weft_setspecific(key, arg), -EPERM);
    OK(weft_getspecific(key) == NULL);
    return NULL;
}

static void keys_body(void)
{
    pthread_t th;
    weft_id_t ids[64];
    int sum = 0;
    reset();
    keys_once();
    EQ(weft_setspecific(1000, &count), -EINVAL);
    OK(weft_getspecific(1000) == NULL);
    for (int i = 0; i < 64; i++) {
        values[i] = i + 1;
        sum += i + 1;
        ids[i] = spawn(uses_keys, &values[i]);
    }
    for (int i = 0; i < 64; i++)
        EQ(weft_join(ids[i], 0), 0); /* the destructors, too */
    EQ(destroyed, sum);
    destroyed = 0;
    EQ(weft_join(spawn(uses_again, &count), 0), 0);
    EQ(destroyed, 4);
    EQ(weft_join(spawn(uses_leaving, &count), 0), 0);
    EQ(destroyed, 8);
    EQ(weft_join(spawn(uses_cancelled, &values[2]), 0), 0);
    EQ(destroyed, 8 + 3);
    OK(pthread_create(&th, NULL, no_keys, &count) == 0);
    OK(pthread_join(th, NULL) == 0);
}

static void (*const bodies[])(void) = {join_body,  deadline_body, many_body,
                                       crowd_body, exit_body,     keys_body};
enum { BODIES = sizeof bodies / sizeof bodies[0] };

START_TEST(each)
{
    run(_i % NPROCS, bodies[_i / NPROCS]);
}
END_TEST

/* ---- the end of a run -------------------------------------------------------------------- */

static void count_value(void *value)
{
    destroyed += *(int *)value;
}

static weft_key_t counted, sleepy;

/* The calls of which the thread in weft_run() has nobody to wait with. */
static void wait_there(void *value)
{
    EQ(weft_sleep(1 * MS), 0);
    EQ(weft_recv(NULL, NULL), -EPERM);
    EQ(weft_setspecific(sleepy, value), -EPERM);
    EQ(weft_id(), 0);
    destroyed += *(int *)value;
}

static void keeps(void *arg)
{
    EQ(weft_setspecific(counted, arg), 0);
    EQ(weft_setspecific(sleepy, &values[2]), 0);
    count++;
    weft_recv(NULL, NULL);
}

static void *joins_too_long(void *arg)
{
    int rc = weft_join(*(weft_id_t *)arg, 0);
    OK(rc == -ECANCELED || rc == -EPERM || rc == 0); /* the last two: it came too late */
    return NULL;
}

static pthread_t left;

static void abandon_body(void)
{
    static weft_id_t id;
    count = destroyed = 0;
    values[0] = 5;
    values[1] = 7;
    values[2] = 100;
    EQ(weft_setspecific(counted, &values[1]), 0); /* main's */
    for (int i = 0; i < 10; i++)
        id = spawn(keeps, &values[0]);
    while (count < 10)
        weft_yield();
    OK(pthread_create(&left, NULL, joins_too_long, &id) == 0);
    weft_sleep(2 * MS);
}

/* The destructors of those that are abandoned run; who joins one goes home; an old id is one that has ended. */
START_TEST(abandoned)
{
    EQ(weft_key_create(&counted, count_value), 0);
    EQ(weft_key_create(&sleepy, wait_there), 0);
    for (int i = 0; i < 3; i++) {
        run(_i, abandon_body);
        EQ(destroyed, 1057);
        OK(pthread_join(left, NULL) == 0);
    }
    EQ(weft_join(1, 0), 0);
    EQ(weft_cancel(1), -ESRCH);
}
END_TEST

int main(void)
{
    return run_bodies("life", each, BODIES, abandoned);
}
