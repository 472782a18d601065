/* SPDX-License-Identifier: MIT
 *
 * behaviour.h: what the behaviour tests have in common.
 *
 * A test's body runs as the main coroutine on 1, 2 and 4 processors, in a loop
 * test of Check. Check notes every assertion in a file, which loops cannot
 * afford: EQ and OK speak only when they fail.
 */
#ifndef BEHAVIOUR_H
#define BEHAVIOUR_H

#include "config.h"

#include <check.h>
#include <stdbool.h>
#include <stdint.h>

#include "tests/stack_test.h"

#define US INT64_C(1000)
#define MS (1000 * US)
#define SEC (1000 * MS)

/* The thread sanitizer makes everything some ten times slower: there, so many times fewer rounds. */
#ifdef WEFT_TSAN
enum { FEWER = 5 };
#else
enum { FEWER = 1 };
#endif

static inline void check_eq(long long got, long long want, int line)
{
    if (got != want)
        ck_abort_msg("line %d: %lld, not %lld", line, got, want);
}

static inline void check_true(bool ok, const char *what, int line)
{
    if (!ok)
        ck_abort_msg("line %d: not %s", line, what);
}

#define EQ(got, want) check_eq((long long)(got), (long long)(want), __LINE__)
#define OK(x) check_true((x), #x, __LINE__)

static const int PROCS[] = {1, 2, 4};
enum { NPROCS = 3 };

static inline int run_entry(void *arg)
{
    void (**body)(void) = arg;
    (*body)();
    return 7;
}

/* which: an index of PROCS, as a loop test has it in _i. */
static inline void run(int which, void (*body)(void))
{
    weft_config_t cfg = {.procs = PROCS[which], .stack = test_stack()};
    EQ(weft_run_with(&cfg, run_entry, &body), 7);
}

/* A deadline. */
static inline int64_t from_now(int64_t ns)
{
    return weft_now() + ns;
}

static inline void go(void (*fn)(void *), void *arg)
{
    EQ(weft_go(fn, arg), 0);
}

/* Run what is in it: main's exit status. */
static inline int run_suite(Suite *s)
{
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}

/* A suite of loop tests: each has n bodies, of which _i / NPROCS is one, and end one only. */
static inline int run_bodies(const char *name, const TTest *each, int n, const TTest *end)
{
    Suite *s = suite_create(name);
    TCase *tc = tcase_create(name);
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, each, 0, n * NPROCS);
    tcase_add_loop_test(tc, end, 0, NPROCS);
    suite_add_tcase(s, tc);
    return run_suite(s);
}

#endif
