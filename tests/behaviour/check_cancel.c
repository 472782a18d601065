/* SPDX-License-Identifier: MIT
 *
 * check_cancel.c: weft_cancel() ends every kind of wait, and nothing but waits.
 *
 * A test's body runs as the main coroutine on 1, 2 and 4 processors. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "behaviour.h"
#include "tests/objects_test.h"

static weft_chan_t *none, *full, *ask, *answer;
static weft_mutex_t mx;
static weft_rwmutex_t rw;
static weft_cond_t cond;
static weft_sem_t sem;
static weft_wg_t wg, done;
static int fds[2];
static weft_id_t sleeper;
static atomic_int count;

static void reset(void)
{
    memset(&mx, 0, sizeof mx);
    memset(&rw, 0, sizeof rw);
    memset(&cond, 0, sizeof cond);
    memset(&sem, 0, sizeof sem);
    memset(&wg, 0, sizeof wg);
    memset(&done, 0, sizeof done);
    count = 0;
}

static weft_id_t spawn(void (*fn)(void *), void *arg)
{
    weft_id_t id = 0;
    weft_attr_t attr = {.id = &id};
    EQ(weft_go_with(&attr, fn, arg), 0);
    OK(id > 1);
    return id;
}

/* ---- every wait --------------------------------------------------------------------------- */

static int64_t far_off(void)
{
    return from_now(1000 * SEC);
}

static int w_recv(void)
{
    char big[100];
    return weft_recv(none, big);
}

static int w_send(void)
{
    char big[100] = {0};
    return weft_send(full, big);
}

static int w_recv_until(void)
{
    char big[100];
    return weft_recv_until(none, big, far_off());
}

static int w_recv_nil(void)
{
    return weft_recv(NULL, NULL);
}

static int w_send_nil(void)
{
    return weft_send(NULL, NULL);
}

static int w_select(void)
{
    char big[100];
    weft_case_t cases[] = {{.op = WEFT_RECV, .chan = none, .elem = big},
                           {.op = WEFT_SEND, .chan = full, .elem = big}};
    memset(big, 1, sizeof big);
    int rc = weft_select(cases, 2, 0);
    for (size_t i = 0; i < sizeof big; i++)
        OK(big[i] == 1);
    return rc;
}

static int w_select_until(void)
{
    weft_case_t one = {.op = WEFT_RECV, .chan = none};
    return weft_select(&one, 1, far_off());
}

static int w_select_none(void)
{
    return weft_select(NULL, 0, 0);
}

static int w_sleep(void)
{
    return weft_sleep(1000 * SEC);
}

static int w_mutex(void)
{
    return weft_mutex_lock(&mx);
}

static int w_mutex_until(void)
{
    return weft_mutex_lock_until(&mx, far_off());
}

static int w_rlock(void)
{
    return weft_rwmutex_rlock(&rw);
}

static int w_wlock(void)
{
    return weft_rwmutex_lock(&rw);
}

static int w_wg(void)
{
    return weft_wg_wait(&wg);
}

static int w_sem(void)
{
    return weft_sem_acquire(&sem, 2);
}

static int w_cond(void)
{
    weft_mutex_t own = {{0}};
    static weft_mutex_t shared;
    weft_mutex_t *m = test_stack() == WEFT_STACK_COPIED ? &shared : &own;
    EQ(weft_mutex_lock(m), 0);
    int rc = weft_cond_wait(&cond, m);
    EQ(weft_mutex_trylock(m), -EBUSY); /* it is ours again */
    EQ(weft_mutex_unlock(m), 0);
    return rc;
}

static int w_read(void)
{
    char c;
    return (int)weft_read(fds[0], &c, 1);
}

static int w_poll(void)
{
    return weft_poll_fd(fds[0], WEFT_READ, 0);
}

static int w_poll_until(void)
{
    return weft_poll_fd(fds[0], WEFT_READ, far_off());
}

static int w_join(void)
{
    return weft_join(sleeper, 0);
}

static int w_pinned(void)
{
    weft_thread_lock();
    int rc = weft_recv(none, NULL);
    weft_thread_unlock();
    return rc;
}

static int (*const waits[])(void) = {
    w_recv,        w_send,  w_recv_until, w_recv_nil,    w_send_nil,   w_select, w_select_until,
    w_select_none, w_sleep, w_mutex,      w_mutex_until, w_rlock,      w_wlock,  w_wg,
    w_sem,         w_cond,  w_read,       w_poll,        w_poll_until, w_join,   w_pinned};
enum { WAITS = sizeof waits / sizeof waits[0] };

static void waiter(void *arg)
{
    int (*wait)(void) = waits[(uintptr_t)arg % 100];
    if ((uintptr_t)arg >= 100)
        weft_sleep(1 * MS); /* the cancelling may come first */
    atomic_fetch_add(&count, 1);
    int rc = wait();
    if (rc != -ECANCELED)
        ck_abort_msg("wait %d: %d", (int)((uintptr_t)arg % 100), rc);
    EQ(wait(), -ECANCELED); /* and for good */
    EQ(weft_wg_done(&done), 0);
}

static void sleep_on(void *arg)
{
    (void)arg;
    weft_sleep(2000 * SEC);
}

static void make_busy(void)
{
    char big[100] = {0};
    OK((none = weft_chan_make(sizeof big, 0)) != NULL);
    OK((full = weft_chan_make(sizeof big, 1)) != NULL);
    EQ(weft_send(full, big), 0);
    EQ(weft_mutex_lock(&mx), 0);
    EQ(weft_rwmutex_lock(&rw), 0);
    EQ(weft_sem_init(&sem, 1), 0);
    EQ(weft_wg_add(&wg, 1), 0);
    OK(pipe(fds) == 0);
    sleeper = spawn(sleep_on, NULL);
}

/* Nothing of those that were cancelled is left: everything is as free as it would be without them. */
static void check_free(void)
{
    char big[100] = {0};
    weft_cond_t zero_cond = {{0}};
    EQ(weft_try_send(none, big), -EAGAIN);
    EQ(weft_try_recv(none, big), -EAGAIN);
    EQ(weft_try_recv(full, big), 1);
    EQ(weft_chan_len(full), 0);
    EQ(weft_mutex_unlock(&mx), 0);
    EQ(weft_mutex_trylock(&mx), 0);
    EQ(weft_rwmutex_unlock(&rw), 0);
    OK(rwmutex_unused(&rw));
    OK(memcmp(&cond, &zero_cond, sizeof zero_cond) == 0);
    EQ(weft_sem_try_acquire(&sem, 1), 0);
    EQ(weft_wg_done(&wg), 0);
    EQ(weft_wg_wait(&wg), 0);
    EQ(weft_cancel(sleeper), 0);
    EQ(weft_join(sleeper, 0), 0);
    EQ(weft_close(fds[0]), 0);
    EQ(weft_close(fds[1]), 0);
    weft_chan_unref(none);
    weft_chan_unref(full);
}

static void each_body(void)
{
    for (uintptr_t late = 0; late <= 100; late += 100) {
        weft_id_t ids[WAITS];
        reset();
        make_busy();
        EQ(weft_wg_add(&done, WAITS), 0);
        for (uintptr_t i = 0; i < WAITS; i++)
            ids[i] = spawn(waiter, (void *)(i + late));
        if (late == 0) {
            while (count < WAITS)
                weft_yield();
            weft_sleep(2 * MS);
        }
        for (int i = 0; i < WAITS; i++)
            EQ(weft_cancel(ids[i]), 0);
        EQ(weft_wg_wait(&done), 0);
        for (int i = 0; i < WAITS; i++)
            EQ(weft_join(ids[i], 0), 0);
        for (int i = 0; i < WAITS; i++)
            EQ(weft_cancel(ids[i]), -ESRCH);
        check_free();
    }
}

/* ---- what need not wait is done ------------------------------------------------------------- */

static void cancelled_works(void *arg)
{
    int one = 1;
    weft_case_t k = {.op = WEFT_RECV, .chan = full, .elem = &one};
    EQ(weft_cancel(weft_id()), 0);
    EQ(weft_cancel(weft_id()), 0);
    EQ(weft_send(full, &one), 0);
    EQ(weft_recv(full, &one), 1);
    EQ(weft_send(full, &one), 0);
    EQ(weft_select(&k, 1, 0), 0);
    EQ(weft_mutex_lock(&mx), 0);
    EQ(weft_mutex_unlock(&mx), 0);
    EQ(weft_sem_acquire(&sem, 1), 0);
    EQ(weft_sleep(0), 0);
    EQ(weft_sleep_until(1), 0);
    EQ(weft_write(fds[1], "x", 1), 1);
    char c;
    EQ(weft_read(fds[0], &c, 1), 1);
    weft_yield();
    EQ(weft_sleep(1), -ECANCELED);
    EQ(weft_recv(full, &one), -ECANCELED);
    EQ(weft_recv_until(full, &one, 1), -ETIMEDOUT); /* it would not have waited */
    go(sleep_on, NULL);
    (void)arg;
}

static void at_once_body(void)
{
    reset();
    OK((full = weft_chan_make(sizeof(int), 1)) != NULL);
    OK(pipe(fds) == 0);
    EQ(weft_sem_init(&sem, 1), 0);
    weft_id_t id = spawn(cancelled_works, NULL);
    EQ(weft_join(id, 0), 0);
    weft_close(fds[0]);
    weft_close(fds[1]);
    weft_chan_unref(full);
}

/* ---- the mask ----------------------------------------------------------------------------------- */

static void masked(void *arg)
{
    int v = 0;
    (void)arg;
    EQ(weft_cancel_mask(1), 0);
    EQ(weft_cancel_mask(1), 1);
    EQ(weft_send(answer, &v), 0);
    EQ(weft_recv(ask, &v), 1); /* cancelled by now */
    EQ(v, 42);
    EQ(weft_sleep(1 * MS), 0);
    EQ(weft_cancel_mask(0), 1);
    EQ(weft_cancel_mask(0), 0);
    EQ(weft_recv(ask, &v), -ECANCELED);
    EQ(weft_cancel_mask(1), 0);
    EQ(weft_sleep(1 * MS), 0);
    count++;
}

static void mask_body(void)
{
    int v = 0;
    reset();
    OK((ask = weft_chan_make(sizeof(int), 0)) != NULL);
    OK((answer = weft_chan_make(sizeof(int), 0)) != NULL);
    weft_id_t id = spawn(masked, NULL);
    EQ(weft_recv(answer, &v), 1);
    weft_sleep(1 * MS);
    EQ(weft_cancel(id), 0);
    weft_sleep(2 * MS);
    v = 42;
    EQ(weft_send(ask, &v), 0);
    EQ(weft_join(id, 0), 0);
    EQ(count, 1);
    EQ(weft_cancel(id), -ESRCH);
    weft_chan_unref(ask);
    weft_chan_unref(answer);
}

/* ---- who was it? --------------------------------------------------------------------------------- */

static void cancel_main(void *arg)
{
    (void)arg;
    weft_sleep(1 * MS);
    EQ(weft_cancel(1), 0);
}

static void main_body(void)
{
    go(cancel_main, NULL);
    EQ(weft_sleep(1000 * SEC), -ECANCELED);
    EQ(weft_recv(NULL, NULL), -ECANCELED);
}

/* By itself, by its name from within, by a thread that is not weft's. */
static void tells(void *arg)
{
    weft_id_t id = weft_id();
    (void)arg;
    EQ(weft_send(answer, &id), 0);
    EQ(weft_recv(ask, NULL), -ECANCELED);
    count++;
}

static void *cancel_it(void *arg)
{
    const weft_id_t *id = arg;
    EQ(weft_cancel(*id), 0);
    EQ(weft_join(*id, 0), 0);
    EQ(weft_cancel(*id), -ESRCH);
    EQ(weft_cancel_mask(1), -EPERM);
    return NULL;
}

static void foreign_body(void)
{
    reset();
    OK((ask = weft_chan_make(0, 0)) != NULL);
    OK((answer = weft_chan_make(sizeof(weft_id_t), 0)) != NULL);
    for (int i = 0; i < 20; i++) {
        static weft_id_t id;
        pthread_t th;
        go(tells, NULL);
        EQ(weft_recv(answer, &id), 1);
        OK(pthread_create(&th, NULL, cancel_it, &id) == 0);
        EQ(weft_join(id, 0), 0);
        OK(pthread_join(th, NULL) == 0);
        EQ(count, i + 1);
    }
    weft_chan_unref(ask);
    weft_chan_unref(answer);
}

/* ---- with a context ------------------------------------------------------------------------------- */

static void until_over(void *arg)
{
    (void)arg;
    count++;
    EQ(weft_recv(ask, NULL), -ECANCELED);
    EQ(weft_sleep(1000 * SEC), -ECANCELED);
    count += 100;
}

static weft_id_t spawn_with(weft_ctx_t *ctx, bool id)
{
    weft_id_t given = 0;
    weft_attr_t attr = {.id = id ? &given : NULL, .ctx = ctx};
    EQ(weft_go_with(&attr, until_over, NULL), 0);
    return given;
}

/* Those below, too, and those that come later; not those whose context goes on. */
static void ctx_body(void)
{
    weft_id_t ids[20];
    reset();
    OK((ask = weft_chan_make(0, 0)) != NULL);
    weft_ctx_t *top = weft_ctx_with_cancel(weft_ctx_background());
    weft_ctx_t *sub = weft_ctx_with_value(top, &count, NULL);
    weft_ctx_t *sub_sub = weft_ctx_with_cancel(sub);
    weft_ctx_t *other = weft_ctx_with_cancel(weft_ctx_background());
    OK(top != NULL && sub != NULL && sub_sub != NULL && other != NULL);
    for (int i = 0; i < 20; i++)
        ids[i] = spawn_with(i % 3 == 0 ? top : i % 3 == 1 ? sub : sub_sub, true);
    weft_id_t late = spawn_with(other, true);
    while (count < 21)
        weft_yield();
    weft_ctx_unref(sub); /* the coroutines keep them */
    weft_ctx_unref(sub_sub);
    weft_sleep(2 * MS);
    EQ(count, 21);
    EQ(weft_ctx_cancel(top, -EIO), 0);
    for (int i = 0; i < 20; i++)
        EQ(weft_join(ids[i], 0), 0);
    EQ(count, 2021);
    EQ(weft_join(spawn_with(top, true), 0), 0); /* from the start */
    EQ(count, 2122);
    spawn_with(other, false);
    spawn_with(weft_ctx_background(), false); /* for ever */
    EQ(weft_join(late, from_now(1 * MS)), -ETIMEDOUT);
    EQ(weft_ctx_cancel(other, 0), 0);
    EQ(weft_join(late, 0), 0);
    while (count < 2324)
        weft_yield();
    weft_ctx_unref(top);
    weft_ctx_unref(other);
    while (weft_num_coroutines() > 2)
        weft_yield();
}

/* A deadline; and many that end against it. */
static void ctx_deadline_body(void)
{
    reset();
    OK((ask = weft_chan_make(0, 0)) != NULL);
    for (int i = 0; i < 20; i++) {
        weft_id_t ids[20];
        weft_ctx_t *ctx = weft_ctx_with_deadline(weft_ctx_background(), from_now(i * 20 * US));
        OK(ctx != NULL);
        for (int j = 0; j < 20; j++)
            ids[j] = spawn_with(ctx, true);
        for (int j = 0; j < i; j++) {
            int rc = weft_cancel(ids[j]);
            OK(rc == 0 || rc == -ESRCH);
        }
        weft_ctx_unref(ctx);
        for (int j = 0; j < 20; j++)
            EQ(weft_join(ids[j], 0), 0);
    }
    EQ(count, 20 * 20 * 101);
    weft_chan_unref(ask);
}

/* ---- against a waker: it is one or the other ------------------------------------------------------ */

enum { RACES = 3000 };

static _Atomic int64_t got, cancelled;

static void racer(void *arg)
{
    int64_t v = 0;
    int rc = weft_recv(arg, &v);
    OK(rc == 1 || rc == -ECANCELED);
    if (rc == 1)
        atomic_fetch_add(&got, v);
    else
        atomic_fetch_add(&cancelled, 1);
}

static void race_body(void)
{
    got = cancelled = 0;
    int64_t sent = 0, n = 0;
    for (int i = 0; i < RACES; i++) {
        weft_chan_t *c = weft_chan_make(sizeof sent, 0);
        OK(c != NULL);
        weft_id_t id = spawn(racer, c);
        if (i % 3 == 0)
            weft_yield();
        if (i % 2 == 0)
            EQ(weft_cancel(id), 0);
        int64_t v = i;
        int rc = weft_try_send(c, &v);
        if (i % 2 != 0) {
            rc = rc == 0 ? 0 : weft_send_until(c, &v, 0);
            int late = weft_cancel(id);
            OK(late == 0 || late == -ESRCH);
        }
        if (rc == 0) {
            sent += v;
            n++;
        }
        EQ(weft_join(id, 0), 0);
        weft_chan_unref(c);
    }
    EQ(got, sent);
    EQ(cancelled, RACES - n);
}

static void (*const bodies[])(void) = {each_body, at_once_body,      mask_body, foreign_body,
                                       ctx_body,  ctx_deadline_body, race_body};
enum { BODIES = sizeof bodies / sizeof bodies[0] };

START_TEST(each)
{
    run(_i % NPROCS, bodies[_i / NPROCS]);
}
END_TEST

/* It is cancelled for the rest of its run, not for the next. */
START_TEST(main_too)
{
    for (int i = 0; i < 3; i++)
        run(_i, main_body);
}
END_TEST

int main(void)
{
    return run_bodies("cancel", each, BODIES, main_too);
}
