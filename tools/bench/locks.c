/* SPDX-License-Identifier: MIT
 *
 * locks.c: the benchmarks of the sync family, for the list in work.c: functions that do n
 * operations. */
#include "bench.h"

void mutex_run(int64_t n)
{
    static weft_mutex_t m;
    for (int64_t i = 0; i < n; i++) {
        weft_mutex_lock(&m);
        weft_mutex_unlock(&m);
    }
}

/* Four coroutines at one mutex, held for a few instructions. */
static struct {
    weft_mutex_t mx;
    weft_wg_t wg;
    int64_t each, count;
} contended;

static void contender(void *arg)
{
    (void)arg;
    for (int64_t i = 0; i < contended.each; i++) {
        weft_mutex_lock(&contended.mx);
        contended.count++;
        weft_mutex_unlock(&contended.mx);
    }
    weft_wg_done(&contended.wg);
}

void mutex4_run(int64_t n)
{
    contended.each = n / 4;
    contended.count = 0;
    weft_wg_add(&contended.wg, 4);
    for (int i = 0; i < 4; i++)
        go(contender, NULL);
    weft_wg_wait(&contended.wg);
    check(contended.count == n / 4 * 4, "the count under the mutex");
}

void rlock_run(int64_t n)
{
    static weft_rwmutex_t rw;
    for (int64_t i = 0; i < n; i++) {
        weft_rwmutex_rlock(&rw);
        weft_rwmutex_runlock(&rw);
    }
}

void rwlock_run(int64_t n)
{
    static weft_rwmutex_t rw;
    for (int64_t i = 0; i < n; i++) {
        weft_rwmutex_lock(&rw);
        weft_rwmutex_unlock(&rw);
    }
}

void wg_run(int64_t n)
{
    static weft_wg_t wg;
    for (int64_t i = 0; i < n; i++) {
        weft_wg_add(&wg, 1);
        weft_wg_done(&wg);
        weft_wg_wait(&wg);
    }
}

static int member(void *arg)
{
    (void)arg;
    return 0;
}

/* Groups of a hundred coroutines that have no error. */
void group_run(int64_t n)
{
    enum { MEMBERS = 100 };
    for (int64_t i = 0; i < n; i += MEMBERS) {
        weft_group_t g = {0};
        for (int k = 0; k < MEMBERS; k++)
            check(weft_group_go(&g, member, NULL) == 0, "weft_group_go");
        check(weft_group_wait(&g) == 0, "no error");
    }
}

void once_run(int64_t n)
{
    static weft_once_t once;
    for (int64_t i = 0; i < n; i++)
        weft_once_do(&once, nothing, NULL);
}

void sem_run(int64_t n)
{
    static weft_sem_t sem;
    weft_sem_init(&sem, 1);
    for (int64_t i = 0; i < n; i++) {
        weft_sem_acquire(&sem, 1);
        weft_sem_release(&sem, 1);
    }
}

/* Two coroutines that signal each other in turn. */
static struct {
    weft_mutex_t mx;
    weft_cond_t cond[2];
    weft_wg_t wg;
    int64_t turn, n;
} volley;

static void player(void *arg)
{
    int64_t me = (int64_t)(intptr_t)arg;
    weft_mutex_lock(&volley.mx);
    while (volley.turn < volley.n) {
        if (volley.turn % 2 != me) {
            weft_cond_wait(&volley.cond[me], &volley.mx);
            continue;
        }
        volley.turn++;
        weft_cond_signal(&volley.cond[!me]);
    }
    weft_cond_signal(&volley.cond[!me]);
    weft_mutex_unlock(&volley.mx);
    weft_wg_done(&volley.wg);
}

/* An operation is a signal and the wait that it ends. */
void cond_run(int64_t n)
{
    volley.turn = 0;
    volley.n = n;
    weft_wg_add(&volley.wg, 2);
    for (int i = 0; i < 2; i++)
        go(player, (void *)(intptr_t)i);
    weft_wg_wait(&volley.wg);
}
