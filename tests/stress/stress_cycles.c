/* SPDX-License-Identifier: MIT
 *
 * stress_cycles.c: no false alarm of WEFT_DEBUG=deadlock, and none that is missing.
 *
 * Coroutines and foreign threads lock mutexes and rwmutexes in one order, read, write, try, give up; and a
 * thread looks for cycles all the time, with no patience at all: cycles_look(0), which is why this is
 * linked with the library's objects. Nothing may be said. In the end a cycle is planted among them, and must be said.
 * WEFT_STRESS_SECONDS long (2); WEFT_DEBUG=chaos=SEED makes it wilder. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "runtime/cycles.h"
#include "tests/stack_test.h"
#include "tests/stress/stress.h"

enum { COROS = 60, THREADS = 2, LOCKS = 6 };

static weft_mutex_t mx[LOCKS];
static weft_rwmutex_t rw[LOCKS];
static weft_mutex_t planted[2];
static weft_wg_t all, met;
static int64_t end;
static _Atomic bool stop;
static _Atomic uint64_t locked, looks;
static FILE *err;

static bool said(const char *what)
{
    static char text[1 << 16];
    ssize_t n = pread(fileno(err), text, sizeof text - 1, 0);
    text[n < 0 ? 0 : n] = '\0';
    return strstr(text, what) != NULL;
}

/* What comes next in the order of locks, from i on; false: it was not to be had. */
static bool take(int i, uint32_t r)
{
    switch (r % 8) {
    case 0:
        return weft_mutex_trylock(&mx[i]) == 0;
    case 1:
        return weft_mutex_lock_until(&mx[i], weft_now() + 50000) == 0;
    case 2:
        OK(weft_mutex_lock(&mx[i]) == 0);
        return true;
    case 3:
        return weft_rwmutex_tryrlock(&rw[i]) == 0;
    case 4:
        OK(weft_rwmutex_lock(&rw[i]) == 0);
        return true;
    case 5:
        return weft_rwmutex_lock_until(&rw[i], weft_now() + 50000) == 0;
    default:
        OK(weft_rwmutex_rlock(&rw[i]) == 0);
        return true;
    }
}

static void give(int i, uint32_t r)
{
    switch (r % 8) {
    case 0:
    case 1:
    case 2:
        OK(weft_mutex_unlock(&mx[i]) == 0);
        return;
    case 4:
    case 5:
        OK(weft_rwmutex_unlock(&rw[i]) == 0);
        return;
    default:
        OK(weft_rwmutex_runlock(&rw[i]) == 0);
    }
}

/* Several locks, in ascending order: no two ever wait for each other. */
static void nest(uint32_t *seed, bool coro)
{
    uint32_t how[LOCKS];
    bool has[LOCKS] = {false};
    for (int i = 0; i < LOCKS; i++) {
        how[i] = next(seed);
        if (next(seed) % 3 == 0)
            has[i] = take(i, how[i]);
        if (coro && next(seed) % 16 == 0)
            weft_yield();
    }
    for (int i = LOCKS; i-- > 0;)
        if (has[i]) {
            give(i, how[i]);
            atomic_fetch_add(&locked, 1);
        }
}

static void coro(void *arg)
{
    uint32_t seed = (uint32_t)(uintptr_t)arg;
    while (weft_now() < end)
        nest(&seed, true);
}

static void *thread(void *arg)
{
    uint32_t seed = (uint32_t)(uintptr_t)arg;
    while (weft_now() < end)
        nest(&seed, false);
    return NULL;
}

static void *looker(void *arg)
{
    while (!stop) {
        cycles_look(0);
        atomic_fetch_add(&looks, 1);
    }
    return arg;
}

static void plant(void *arg)
{
    int i = (int)(intptr_t)arg;
    OK(weft_mutex_lock(&planted[i]) == 0);
    OK(weft_wg_done(&met) == 0 && weft_wg_wait(&met) == 0);
    weft_mutex_lock(&planted[1 - i]);
    die("somebody got both", __LINE__);
}

static int entry(void *arg)
{
    pthread_t th[THREADS], look;
    double seconds = *(double *)arg;
    end = weft_now() + (int64_t)(seconds * 1e9);
    OK(pthread_create(&look, NULL, looker, NULL) == 0);
    for (int i = 0; i < COROS; i++)
        OK(weft_wg_go(&all, coro, (void *)(intptr_t)(i * 7919 + 1)) == 0);
    for (int i = 0; i < THREADS; i++)
        OK(pthread_create(&th[i], NULL, thread, (void *)(intptr_t)(i * 40503 + 7)) == 0);
    OK(weft_wg_wait(&all) == 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(th[i], NULL);
    OK(!said("weft: deadlock"));
    OK(weft_wg_add(&met, 2) == 0);
    OK(weft_go(plant, (void *)0) == 0 && weft_go(plant, (void *)1) == 0);
    for (int64_t until = weft_now() + INT64_C(60000000000);
         !said("weft: deadlock: 2 coroutines");) {
        OK(weft_now() < until);
        weft_sleep(5000000);
    }
    stop = true; /* before those that wait are gone */
    pthread_join(look, NULL);
    return 0;
}

int main(void)
{
    const char *debug = getenv("WEFT_DEBUG");
    char now[200];
    double seconds = stress_seconds();
    snprintf(now, sizeof now, "%s,deadlock", debug != NULL ? debug : "");
    setenv("WEFT_DEBUG", now, 1);
    stderr = fdopen(dup(2), "w"); /* for OK() */
    setbuf(stderr, NULL);
    err = tmpfile();
    dup2(fileno(err), 2);
    int rc = weft_run_with(&(weft_config_t){.stack = test_stack()}, entry, &seconds);
    printf("locked %llu, looked %llu times\n", (unsigned long long)locked,
           (unsigned long long)looks);
    return rc == 0 ? 0 : 1;
}
