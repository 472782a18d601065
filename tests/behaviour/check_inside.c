/* SPDX-License-Identifier: MIT
 *
 * check_inside.c: what can be seen from within: dumps, statistics, the
 * environment's settings. */
#include "config.h"

#include <weft.h>

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char text[1 << 20];

static void take_dump(void)
{
    FILE *f = tmpfile();
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(weft_dump(fileno(f)), 0);
    rewind(f);
    text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
    fclose(f);
}

static int count(const char *needle)
{
    int n = 0;
    for (const char *p = text; (p = strstr(p, needle)) != NULL; p += strlen(needle))
        n++;
    return n;
}

static weft_chan_t *gate;

static void waiter(void *arg)
{
    weft_set_name(arg);
    weft_recv(gate, NULL);
}

static int dump_few(void *arg)
{
    (void)arg;
    gate = weft_chan_make(0, 0);
    for (int i = 0; i < 3; i++)
        weft_go(waiter, "a waiter");
    weft_sleep(20000000);
    take_dump();
    ck_assert_int_eq(count("coroutine 1 [running, P "), 1);
    ck_assert_int_eq(count("\"a waiter\" [chan receive]:"), 3);
    ck_assert_int_eq(count("  #0 "), 4);
#ifdef HAVE_LIBUNWIND /* hidden and static functions have names */
    ck_assert_int_eq(count("weft_dump+"), 1);
    ck_assert_int_eq(count("arch_entry+"), 4); /* every backtrace goes to its end */
#endif
    ck_assert_int_eq(count("created at "), 3);
    ck_assert_int_eq(count("entered at "), 1);
    ck_assert_int_eq(weft_dump(-1), -EBADF);
    ck_assert_int_eq(weft_dump(1000), -EBADF);
    weft_chan_close(gate);
    weft_sleep(20000000);
    take_dump();
    ck_assert_int_eq(count("coroutine "), 1);
    return 0;
}

START_TEST(test_dump)
{
    for (int procs = 1; procs <= 4; procs *= 2) {
        weft_config_t cfg = {.procs = procs};
        ck_assert_int_eq(weft_run_with(&cfg, dump_few, NULL), 0);
    }
    ck_assert_int_eq(weft_dump(2), -EPERM);
}
END_TEST

/* Beyond 1000, one entry for those that do the same. */
static int dump_many(void *arg)
{
    (void)arg;
    gate = weft_chan_make(0, 0);
    for (int i = 0; i < 5000; i++)
        ck_assert_int_eq(weft_go(waiter, NULL), 0);
    int64_t until = weft_now() + INT64_C(10000000000);
    do {
        weft_sleep(50000000);
        take_dump();
    } while (count("5000 coroutines") == 0 && weft_now() < until);
    ck_assert_int_eq(count("5000 coroutines, the first: coroutine "), 1);
    ck_assert_int_eq(count("created at "), 1);
    return 0;
}

START_TEST(test_dump_groups)
{
    ck_assert_int_eq(weft_run(dump_many, NULL), 0);
}
END_TEST

/* Dumps while everybody runs, parks and ends: each must come to its end. */
static _Atomic int stop;

static void churn_child(void *arg)
{
    weft_set_name("child");
    weft_send(arg, NULL);
}

static void churn(void *arg)
{
    (void)arg;
    weft_chan_t *c = weft_chan_make(0, 0);
    while (!stop) {
        for (int i = 0; i < 10; i++)
            weft_go(churn_child, c);
        for (int i = 0; i < 10; i++)
            weft_recv(c, NULL);
    }
    weft_chan_unref(c);
}

static int dump_churn(void *arg)
{
    (void)arg;
    for (int i = 0; i < 8; i++)
        weft_go(churn, NULL);
    for (int i = 0; i < 200; i++) {
        take_dump();
        ck_assert_int_eq(count("[running, P ") >= 1, 1);
        weft_yield();
    }
    stop = 1;
    return 0;
}

START_TEST(test_dump_churn)
{
    weft_config_t cfg = {.procs = 4};
    ck_assert_int_eq(weft_run_with(&cfg, dump_churn, NULL), 0);
}
END_TEST

static int stats_entry(void *arg)
{
    weft_stats_t s;
    int procs = *(int *)arg;
    ck_assert_uint_eq(weft_num_coroutines(), 1);
    gate = weft_chan_make(0, 0);
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(weft_go(waiter, NULL), 0);
    weft_sleep(50000000);
    ck_assert_int_eq(weft_stats(&s), 0);
    ck_assert_uint_eq(s.coroutines, 101);
    ck_assert_uint_eq(weft_num_coroutines(), 101);
    ck_assert_uint_eq(s.spawned, 101);
    ck_assert_uint_eq(s.exited, 0);
    ck_assert_uint_eq(s.runnable, 0);
    ck_assert_uint_eq(s.procs, (uint64_t)procs);
    ck_assert_uint_ge(s.threads, 1);
    ck_assert_uint_ge(s.switches, 101);
    ck_assert_uint_ge(s.timers_fired, 1); /* the sleep */
    ck_assert_uint_eq(s.timers, 0);
    ck_assert_uint_ge(s.stacks_private, 101);
    ck_assert_uint_gt(s.stack_private_bytes, 0);
    weft_chan_close(gate);
    weft_sleep(50000000);
    ck_assert_int_eq(weft_stats(&s), 0);
    ck_assert_uint_eq(s.coroutines, 1);
    ck_assert_uint_eq(s.exited, 100);
    ck_assert_int_eq(weft_stats(NULL), -EINVAL);
    return 0;
}

START_TEST(test_stats)
{
    weft_stats_t s;
    ck_assert_int_eq(weft_stats(&s), -EPERM);
    ck_assert_uint_eq(weft_num_coroutines(), 0);
    for (int procs = 1; procs <= 4; procs *= 2) { /* counters begin anew with each run */
        weft_config_t cfg = {.procs = procs};
        ck_assert_int_eq(weft_run_with(&cfg, stats_entry, &procs), 0);
    }
}
END_TEST

static int ask_procs(void *arg)
{
    (void)arg;
    return weft_procs(0);
}

/* Runs fn with fd 2 in `text`. */
static int with_stderr(int (*entry)(void *))
{
    FILE *f = tmpfile();
    int saved = dup(2);
    dup2(fileno(f), 2);
    int rc = weft_run(entry, NULL);
    dup2(saved, 2);
    close(saved);
    rewind(f);
    text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
    fclose(f);
    return rc;
}

START_TEST(test_environment)
{
    setenv("WEFT_PROCS", "3", 1);
    ck_assert_int_eq(with_stderr(ask_procs), 3);
    ck_assert_str_eq(text, "");
    unsetenv("WEFT_PROCS");
    int usual = with_stderr(ask_procs);
    static const char *const wrong[] = {"0", "-1", "1025", "99999999999999999999", "2x", " 2", ""};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        setenv("WEFT_PROCS", wrong[i], 1);
        ck_assert_int_eq(with_stderr(ask_procs), usual);
        ck_assert_int_eq(count("weft: WEFT_PROCS="), i == 0); /* said once */
    }
}
END_TEST

START_TEST(test_debug)
{
    setenv("WEFT_DEBUG", "chaos=7", 1);
    ck_assert_int_ge(with_stderr(ask_procs), 1);
    ck_assert_str_eq(text, "");
    setenv("WEFT_DEBUG", "chaos=7,nonsense=1", 1);
    ck_assert_int_ge(with_stderr(ask_procs), 1);
    ck_assert_str_eq(text, "weft: WEFT_DEBUG: \"nonsense=1\" ignored\n");
    ck_assert_int_ge(with_stderr(ask_procs), 1);
    ck_assert_str_eq(text, "");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("inside");
    TCase *tc = tcase_create("inside");
    tcase_set_timeout(tc, 30);
    tcase_add_test(tc, test_dump);
    tcase_add_test(tc, test_dump_groups);
    tcase_add_test(tc, test_dump_churn);
    tcase_add_test(tc, test_stats);
    tcase_add_test(tc, test_environment);
    tcase_add_test(tc, test_debug);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? 0 : 1;
}
