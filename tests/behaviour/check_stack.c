/* SPDX-License-Identifier: MIT
 *
 * check_stack.c: private stacks seen from outside: deep recursion and its
 * memory, many coroutines, small stacks, no address space left.
 */
#include "weft.h"

#include "config.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define KIB ((size_t)1024)
#define MIB (1024 * KIB)
static const int64_t MS = 1000000;

/* Kilobytes: a field of /proc/self/status. */
static long status(const char *field)
{
    char line[256];
    long v = -1;
    FILE *f = fopen("/proc/self/status", "r");
    if (f == NULL)
        return -1;
    while (fgets(line, sizeof(line), f) != NULL)
        if (strncmp(line, field, strlen(field)) == 0)
            v = atol(line + strlen(field));
    fclose(f);
    return v;
}

static long memory(void)
{
    return status("VmRSS:") + status("VmPTE:");
}

static void run(int procs, int (*entry)(void *), void *arg)
{
    weft_config_t cfg = {.procs = procs};
    ck_assert_int_eq(weft_run_with(&cfg, entry, arg), 0);
}

/* ---- deep -------------------------------------------------------------------- */

static __attribute__((noinline)) size_t dig(size_t bytes, const char *top)
{
    volatile char frame[1000];
    frame[0] = (char)bytes;
    if ((size_t)(top - (char *)frame) >= bytes)
        return 1;
    size_t n = dig(bytes, top);
    if (frame[0] != (char)bytes)
        abort();
    return n + 1;
}

typedef struct {
    size_t bytes;
    long peak;
    weft_chan_t *done;
    weft_chan_t *hold;
} Deep;

static void digger(void *arg)
{
    Deep *d = arg;
    char top = 0;
    if (dig(d->bytes, &top) < 1000)
        abort(); /* Check is not for several threads at once */
    d->peak = status("VmRSS:");
    weft_send(d->done, NULL);
    if (d->hold != NULL)
        weft_recv(d->hold, NULL);
}

/* 40 MB on a default coroutine; when it has ended, the memory is back at once. */
static int deep_main(void *arg)
{
    (void)arg;
    Deep d = {.bytes = 40 * 1000 * 1000, .done = weft_chan_make(0, 1)};
    long before = status("VmRSS:");
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(weft_go(digger, &d), 0);
        weft_recv(d.done, NULL);
        ck_assert_int_gt(d.peak - before, 39000);
        for (int j = 0; j < 1000 && status("VmRSS:") > before + 2000; j++)
            weft_sleep(MS);
        ck_assert_int_le(status("VmRSS:"), before + 2000);
    }
    weft_chan_unref(d.done);
    return 0;
}

START_TEST(test_deep)
{
    run(_i, deep_main, NULL);
}
END_TEST

/* Several at once, on several threads, each on a guard of its own. */
static int deep_many_main(void *arg)
{
    static Deep d; /* the diggers look at it to the end */
    (void)arg;
    d = (Deep){.bytes = 10 * MIB, .done = weft_chan_make(0, 0), .hold = weft_chan_make(0, 0)};
    for (int i = 0; i < 20; i++)
        ck_assert_int_eq(weft_go(digger, &d), 0);
    for (int i = 0; i < 20; i++)
        weft_recv(d.done, NULL);
    weft_chan_close(d.hold);
    while (weft_num_coroutines() > 1)
        weft_sleep(MS);
    return 0;
}

START_TEST(test_deep_many)
{
    run(4, deep_many_main, NULL);
}
END_TEST

/* ---- bounds ------------------------------------------------------------------- */

static void see_bounds(void *arg)
{
    size_t want = *(size_t *)arg;
    char here, *lo, *hi;
    ck_assert_int_eq(weft_stack_bounds((void **)&lo, (void **)&hi), 0);
    ck_assert(lo < &here && &here < hi);
    ck_assert_uint_ge((size_t)(hi - lo), want);
    if (want <= 256 * KIB)
        memset(lo, 1, (size_t)(&here - lo) - 4 * KIB); /* all of it can be used */
    *(size_t *)arg = 0;
}

static int bounds_main(void *arg)
{
    (void)arg;
    static const size_t sizes[] = {16 * KIB, 64 * KIB, 100 * KIB, 256 * KIB,
                                   1 * MIB,  5 * MIB,  64 * MIB};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t want = sizes[i];
        weft_attr_t attr = {.stack_max = want};
        ck_assert_int_eq(weft_go_with(&attr, see_bounds, &want), 0);
        while (*(volatile size_t *)&want != 0)
            weft_yield();
    }
    weft_attr_t attr = {.stack_max = 16 * KIB - 1};
    ck_assert_int_eq(weft_go_with(&attr, see_bounds, NULL), -EINVAL);
    attr.stack_max = 64 * MIB + 1;
    ck_assert_int_eq(weft_go_with(&attr, see_bounds, NULL), -EINVAL);
    ck_assert_int_eq(weft_stack_bounds(NULL, NULL), -EINVAL);
    return 0;
}

START_TEST(test_bounds)
{
    run(1, bounds_main, NULL);
}
END_TEST

/* ---- many ---------------------------------------------------------------------- */

enum { MANY = 30000 };
static _Atomic int arrived, ended;
static weft_chan_t *gate;

static void parker(void *arg)
{
    (void)arg;
    arrived++;
    weft_recv(gate, NULL);
    ended++;
}

/* Parked coroutines cost a page, a page table and the G; small ones a page, a
 * share of a page table and the G. All of it goes back. */
static int many_main(void *arg)
{
    size_t stack_max = *(size_t *)arg;
    double limit = stack_max == 0 ? 9.5 : 5.5;
    weft_attr_t attr = {.stack_max = stack_max};
    gate = weft_chan_make(0, 0);
    arrived = ended = 0;
    long before = memory();
    for (int i = 0; i < MANY; i++)
        ck_assert_int_eq(weft_go_with(&attr, parker, NULL), 0);
    while (arrived < MANY)
        weft_sleep(MS);
    double each = (double)(memory() - before) / MANY;
    ck_assert_msg(each < limit, "%.2f KiB each", each);
    weft_chan_close(gate);
    while (ended < MANY)
        weft_sleep(MS);
    for (int i = 0; i < 150 && memory() - before > MANY; i++)
        weft_sleep(100 * MS);
    ck_assert_int_le(memory() - before, MANY); /* all but 1 KiB each */
    weft_chan_unref(gate);
    return 0;
}

START_TEST(test_many)
{
    size_t stack_max = 0;
    run(_i, many_main, &stack_max);
}
END_TEST

START_TEST(test_many_small)
{
    size_t stack_max = 256 * KIB;
    run(_i, many_main, &stack_max);
}
END_TEST

/* ---- none left ------------------------------------------------------------------- */

/* Park as many as there can be, or as max says, and let them end. */
static int fill(int max)
{
    int n = 0, rc = 0;
    gate = weft_chan_make(0, 0);
    arrived = ended = 0;
    while (n < max && (rc = weft_go(parker, NULL)) == 0)
        if (++n % 50 == 0)
            weft_yield();
    if (rc != 0 && rc != -ENOMEM)
        abort();        /* ck_assert allocates */
    while (arrived < n) /* those that live go on */
        weft_yield();
    weft_chan_close(gate);
    while (ended < n)
        weft_yield();
    weft_chan_unref(gate);
    return n;
}

/* weft_go says -ENOMEM when no more addresses may be had, and what was in use
 * can all be used again: as many coroutines as before fit without more. */
static int exhaust_main(void *arg)
{
    struct rlimit rl = {600 * MIB, RLIM_INFINITY};
    (void)arg;
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &rl), 0);
    int n = fill(1000000);
    fill(1000000); /* an unknown number: freed memory of malloc's is in pieces */
    rl.rlim_cur = RLIM_INFINITY;
    if (setrlimit(RLIMIT_AS, &rl) != 0)
        abort();
    ck_assert_int_gt(n, 1000);
    ck_assert_int_lt(n, 1000000);
    long size = status("VmSize:");
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(fill(n), n);
    /* Not stacks: n of them are 540 MB. malloc maps some MiB more or
     * less; with two threads, whole 64 MiB heaps. */
    ck_assert_int_le(status("VmSize:") - size, weft_procs(0) == 1 ? 64 * 1024 : 200 * 1024);
    return 0;
}

START_TEST(test_exhaust)
{
    struct rlimit rl = {600 * MIB, RLIM_INFINITY};
    if (!freopen("/dev/null", "w", stderr)) /* one line about small stacks */
        ck_abort();
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &rl), 0); /* the runtime looks at its start */
    run(_i, exhaust_main, NULL);
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &rl), 0);
    run(_i, exhaust_main, NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("stack");
    TCase *tc = tcase_create("stack");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, test_bounds);
#if !defined(WEFT_TSAN) &&                                                                         \
    !defined(WEFT_ASAN) /* their default stacks are small, their memory is not */
    tcase_add_loop_test(tc, test_deep, 1, 3);
    tcase_add_test(tc, test_deep_many);
    tcase_add_loop_test(tc, test_many, 1, 3);
    tcase_add_loop_test(tc, test_many_small, 1, 3);
    tcase_add_loop_test(tc, test_exhaust, 1, 3);
#endif
    suite_add_tcase(suite, tc);
    SRunner *sr = srunner_create(suite);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? 0 : 1;
}
