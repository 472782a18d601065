/* SPDX-License-Identifier: MIT
 *
 * check_guards.c: more stacks than there may be guards.
 *
 * Kernels before 6.13 have PROT_NONE guards only, and vm.max_map_count allows some
 * 29,000 of them; WEFT_DEBUG=guards= makes any kernel one of those. The same with
 * little address space: under ulimit -v, and under ulimit -d, which refuses mappings
 * as vm.overcommit_memory=2 does (that one is for the whole machine to
 * bear; where it is set, all of this runs under it).
 *
 * Linux shows what is missing in /proc/self/maps; each test runs in a process of its own.
 */
#include "behaviour.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define GIB ((rlim_t)1 << 30)

static char text[4096];

static int count(const char *what)
{
    int n = 0;
    for (const char *at = text; (at = strstr(at, what)) != NULL; at++)
        n++;
    return n;
}

/* What a run says goes to text. */
static void hear(int procs, int (*entry)(void *))
{
    weft_config_t cfg = {.procs = procs};
    FILE *f = tmpfile();
    int saved = dup(2);
    OK(f != NULL && saved >= 0);
    dup2(fileno(f), 2);
    int rc = weft_run_with(&cfg, entry, NULL);
    dup2(saved, 2);
    close(saved);
    rewind(f);
    text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
    fclose(f);
    ck_assert_msg(rc == 7, "%d: %s", rc, text);
}

/* ---- many ------------------------------------------------------------------------ */

enum { MANY = 100000 };
static uint32_t result[MANY];
static weft_wg_t parked, ended;
static weft_chan_t *gate;
static int spawned, mappings;

static uint32_t mix(uint32_t x)
{
    return (x ^ x >> 7) * 2654435761u;
}

/* What it knows lies on its stack while others run on theirs. */
static void parker(void *arg)
{
    uint32_t *at = arg;
    volatile uint32_t mine[64];
    for (uint32_t i = 0; i < 64; i++)
        mine[i] = mix((uint32_t)(at - result) + i);
    weft_wg_done(&parked);
    weft_recv(gate, NULL);
    for (uint32_t i = 0; i < 64; i++)
        *at += mine[i];
    weft_wg_done(&ended);
}

static int count_mappings(void)
{
    int n = 0, c;
    FILE *f = fopen("/proc/self/maps", "r");
    while (f != NULL && (c = getc(f)) != EOF)
        n += c == '\n';
    if (f != NULL)
        fclose(f);
    return n;
}

static int many(void *arg)
{
    (void)arg;
    gate = weft_chan_make(0, 0);
    memset(result, 0, sizeof(result));
    for (spawned = 0; spawned < MANY; spawned++) {
        weft_wg_add(&parked, 1);
        weft_wg_add(&ended, 1);
        if (weft_go(parker, &result[spawned]) != 0)
            return 1;
    }
    weft_wg_wait(&parked);
    mappings = count_mappings();
    weft_chan_close(gate);
    weft_wg_wait(&ended);
    weft_chan_unref(gate);
    for (uint32_t i = 0; i < MANY; i++) {
        uint32_t sum = 0;
        for (uint32_t j = 0; j < 64; j++)
            sum += mix(i + j);
        if (result[i] != sum)
            return 2;
    }
    return 7;
}

/* Said once with the sysctl's name, and the program has mappings left for itself. */
static void see_few_guards(void)
{
    long max = 65530;
    FILE *f = fopen("/proc/sys/vm/max_map_count", "r");
    if (f != NULL && fscanf(f, "%ld", &max) != 1)
        max = 65530;
    if (f != NULL)
        fclose(f);
    if (max > 2 * MANY) /* there are enough for all */
        return;
    EQ(count("no guard"), 1);
    EQ(count("vm.max_map_count"), 1);
    OK(mappings > max / 2);
    OK(mappings < max - max / 20);
}

START_TEST(test_many)
{
    setenv("WEFT_DEBUG", "guards=vma", 1);
    hear(PROCS[_i], many);
    see_few_guards();
    EQ(count("\n"), count("no guard"));
}
END_TEST

/* Where the kernel has better, or max_map_count is high, nothing is said. */
START_TEST(test_few)
{
    setenv("WEFT_DEBUG", "guards=1000", 1);
    hear(PROCS[_i], many);
    EQ(count("no guard"), 1);
    OK(mappings < 5000);
}
END_TEST

/* ---- little address space ------------------------------------------------------------ */

static void limit(int what, rlim_t most)
{
    struct rlimit rl = {most, most};
    EQ(setrlimit((__rlimit_resource_t)what, &rl), 0);
}

START_TEST(test_ulimit_v)
{
    setenv("WEFT_DEBUG", "guards=vma", 1);
    limit(RLIMIT_AS, 64 * GIB);
    hear(PROCS[_i], many);
    see_few_guards();
    EQ(count("little address space"), 1);
}
END_TEST

START_TEST(test_ulimit_d)
{
    setenv("WEFT_DEBUG", "guards=vma", 1);
    limit(RLIMIT_DATA, 64 * GIB);
    hear(PROCS[_i], many);
    see_few_guards();
    EQ(count("little address space"), 1);
}
END_TEST

/* The processor's addresses suffice, but there are fewer than many want: an error, and all that
 * live go on. */
static int too_many(void *arg)
{
    int rc = many(arg);
    if (rc == 7)
        return 3;
    weft_wg_done(&parked); /* the one that could not be */
    weft_wg_done(&ended);
    weft_wg_wait(&parked);
    weft_chan_close(gate);
    weft_wg_wait(&ended);
    return spawned > 2000 ? 7 : 4;
}

START_TEST(test_too_many)
{
    limit(RLIMIT_DATA, 4 * GIB);
    hear(PROCS[_i], too_many);
    EQ(count("little address space"), 1);
}
END_TEST

/* ---- deep without a guard -------------------------------------------------------------- */

static long resident(void)
{
    long pages = -1;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f != NULL && fscanf(f, "%*d %ld", &pages) != 1)
        pages = -1;
    if (f != NULL)
        fclose(f);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static __attribute__((noinline)) size_t dig(size_t bytes, const char *top)
{
    volatile char frame[1000];
    frame[0] = (char)bytes;
    if ((size_t)(top - (char *)frame) >= bytes) {
        weft_yield(); /* looks how deep it is */
        return 1;
    }
    size_t n = dig(bytes, top);
    if (frame[0] != (char)bytes)
        abort();
    return n + 1;
}

static void digger(void *arg)
{
    char top = 0;
    weft_wg_t *wg = arg;
    if (dig(40 * 1000 * 1000, &top) < 1000)
        abort();
    weft_wg_done(wg);
}

/* All but the margin may be used. At the end the memory is back, but for the first
 * 2 MiB of each of the slots. */
static int deep(void *arg)
{
    (void)arg;
    weft_wg_t wg = {0};
    long before = resident();
    for (int i = 0; i < 10; i++) {
        weft_wg_add(&wg, 1);
        if (weft_go(digger, &wg) != 0)
            return 1;
        weft_wg_wait(&wg);
        for (int j = 0; j < 1000 && resident() > before + 30000; j++)
            weft_sleep(MS);
        if (resident() > before + 30000)
            return 2;
    }
    return 7;
}

START_TEST(test_deep)
{
    setenv("WEFT_DEBUG", "guards=1", 1);
    hear(PROCS[_i], deep);
    EQ(count("no guard"), 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("guards");
    TCase *tc = tcase_create("guards");
    tcase_set_timeout(tc, 120);
#if !defined(WEFT_TSAN) && !defined(WEFT_ASAN) /* their stacks are small, their memory is not */
    tcase_add_loop_test(tc, test_many, 0, NPROCS);
    tcase_add_test(tc, test_few);
    tcase_add_loop_test(tc, test_ulimit_v, 1, 2);
    tcase_add_loop_test(tc, test_ulimit_d, 1, 2);
    tcase_add_loop_test(tc, test_too_many, 0, 2);
    tcase_add_loop_test(tc, test_deep, 0, NPROCS);
#else
    (void)many, (void)deep, (void)too_many; /* what is left is that it builds */
#endif
    suite_add_tcase(s, tc);
    return run_suite(s);
}
