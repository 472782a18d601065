/* SPDX-License-Identifier: MIT
 *
 * check_runq.c: the ring of a P without a scheduler: order, stealing, and when it is empty. The Go test that each
 * answers to is named. The Ps and Gs here are bare. */
#include "rt.h"

#include "config.h"

#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Check's assertions are slow, and not for several threads. */
static void must(bool ok, const char *what, int n)
{
    if (!ok)
        ck_abort_msg("%s, at %d", what, n);
}

static P p, thief;
static G gs[RUNQ];
static uint8_t seen[RUNQ];

static M *bare_m(void)
{
    M *m = calloc(1, sizeof *m);
    ck_assert_ptr_nonnull(m);
    return m;
}

static void stealable(bool yes)
{
    memset(&p, 0, sizeof p);
    memset(&thief, 0, sizeof thief);
    atomic_store(&p.stealable, yes);
    atomic_store(&thief.stealable, yes);
}

/* Go: TestSchedLocalQueue. First in, first out, at every length, wherever in the ring it begins. */
START_TEST(in_order)
{
    stealable(_i == 1);
    ck_assert_ptr_null(runq_get(&p));
    for (int n = 0; n < RUNQ; n++) {
        for (int i = 0; i < n; i++)
            runq_put(&p, &gs[i]);
        must(runq_len(&p) == (uint32_t)n, "another length", n);
        for (int i = 0; i < n; i++)
            must(runq_get(&p) == &gs[i], "not the first", n);
        must(runq_get(&p) == NULL && runq_empty(&p), "something is left", n);
    }
}
END_TEST

/* What is next goes first; what was next before, to the end. */
START_TEST(next)
{
    M *m = bare_m();
    stealable(_i == 1);
    runq_put(&p, &gs[0]);
    runq_put_next(m, &p, &gs[1]);
    runq_put_next(m, &p, &gs[2]);
    ck_assert_uint_eq(runq_len(&p), 3);
    ck_assert_ptr_eq(runq_take_next(&p), &gs[2]);
    ck_assert_ptr_null(runq_take_next(&p));
    ck_assert_ptr_eq(runq_get(&p), &gs[0]);
    ck_assert_ptr_eq(runq_get(&p), &gs[1]);
    ck_assert(runq_empty(&p));
    free(m);
}
END_TEST

/* Take one out of q, note it. */
static bool note(P *q)
{
    G *g = runq_get(q);
    if (g != NULL)
        seen[g - gs]++;
    return g != NULL;
}

/* Go: TestSchedLocalQueueSteal. Half is taken, rounded either way, and each is there once afterwards. */
START_TEST(steal)
{
    stealable(true);
    for (int n = 0; n < RUNQ; n++) {
        memset(seen, 0, sizeof seen);
        for (int i = 0; i < n; i++)
            runq_put(&p, &gs[i]);
        int stolen = 0, left = 0;
        G *g = runq_steal(&thief, &p, false);
        if (g != NULL) {
            seen[g - gs]++;
            stolen++;
        }
        while (note(&thief))
            stolen++;
        while (note(&p))
            left++;
        must(stolen == n / 2 || stolen == n / 2 + 1, "not half was stolen", n);
        must(stolen + left == n, "another number", n);
        for (int i = 0; i < n; i++)
            must(seen[i] == 1, "not once", n);
    }
}
END_TEST

/* The next one is taken only if that is asked for, and the ring has none. */
START_TEST(steal_next)
{
    M *m = bare_m();
    stealable(true);
    runq_put_next(m, &p, &gs[0]);
    ck_assert_ptr_null(runq_steal(&thief, &p, false));
    runq_put(&p, &gs[1]);
    ck_assert_ptr_eq(runq_steal(&thief, &p, true), &gs[1]);
    ck_assert_ptr_eq(runq_steal(&thief, &p, true), &gs[0]);
    ck_assert_ptr_null(runq_steal(&thief, &p, true));
    free(m);
}
END_TEST

/* Go: TestSchedLocalQueueEmpty. One is in, a second one comes and one of them goes, while another thread looks: it never
 * finds nothing. There are four ways to put them in; the one in which the second kicks the first out of its place is hard. */
enum { ROUNDS = 5000 };
static atomic_int ready, looking, settled, finished;
static atomic_bool was_empty;

static void wait_for(atomic_int *v, int round)
{
    for (int spins = 0; atomic_load(v) < round; spins++)
        if (spins > 1000) /* there may be one CPU only */
            sched_yield();
}

static void *look(void *arg)
{
    (void)arg;
    for (int round = 1; round <= ROUNDS; round++) {
        wait_for(&ready, round);
        atomic_store(&looking, round);
        do {
            if (runq_empty(&p))
                atomic_store(&was_empty, true);
        } while (atomic_load(&settled) < round);
        atomic_store(&finished, round);
    }
    return NULL;
}

static void put(M *m, G *g, bool first)
{
    if (first)
        runq_put_next(m, &p, g);
    else
        runq_put(&p, g);
}

static G *take(void)
{
    G *g = runq_take_next(&p);
    return g != NULL ? g : runq_get(&p);
}

START_TEST(never_empty)
{
    M *m = bare_m();
    pthread_t t;
    stealable(true);
    ck_assert_int_eq(pthread_create(&t, NULL, look, NULL), 0);
    for (int round = 1; round <= ROUNDS; round++) {
        put(m, &gs[0], round & 1);
        atomic_store(&ready, round);
        wait_for(&looking, round);
        put(m, &gs[1], round & 2);
        bool one = take() != NULL;
        atomic_store(&settled, round);
        wait_for(&finished, round);
        must(!atomic_load(&was_empty), "it was empty", round);
        must(one && take() != NULL && take() == NULL, "not two were there", round);
    }
    pthread_join(t, NULL);
    free(m);
}
END_TEST

/* Two thieves and the owner at the same time: each G comes out once. */
enum { PASSES = 1000 };
static atomic_int taken[RUNQ];
static atomic_bool over;

static void *steal_all(void *arg)
{
    P *mine = arg;
    while (!atomic_load(&over)) {
        G *g = runq_steal(mine, &p, false);
        for (; g != NULL; g = runq_get(mine))
            atomic_fetch_add(&taken[g - gs], 1);
    }
    return NULL;
}

START_TEST(many_thieves)
{
    static P mine[2];
    pthread_t t[2];
    stealable(true);
    for (int i = 0; i < 2; i++) {
        atomic_store(&mine[i].stealable, true);
        ck_assert_int_eq(pthread_create(&t[i], NULL, steal_all, &mine[i]), 0);
    }
    for (int pass = 1; pass <= PASSES; pass++) {
        for (int i = 0; i < RUNQ; i++) {
            runq_put(&p, &gs[i]);
            G *g = i % 8 == 0 ? runq_get(&p) : NULL;
            if (g != NULL)
                atomic_fetch_add(&taken[g - gs], 1);
        }
        for (int i = 0; i < RUNQ; i++)
            while (atomic_load(&taken[i]) < pass) /* a thief has it */
                sched_yield();
    }
    atomic_store(&over, true);
    for (int i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
    for (int i = 0; i < RUNQ; i++)
        must(atomic_load(&taken[i]) == PASSES, "not once", i);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("runq");
    TCase *tc = tcase_create("runq");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, in_order, 0, 2);
    tcase_add_loop_test(tc, next, 0, 2);
    tcase_add_test(tc, steal);
    tcase_add_test(tc, steal_next);
    tcase_add_test(tc, never_empty);
    tcase_add_test(tc, many_thieves);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
