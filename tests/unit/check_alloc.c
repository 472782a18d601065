/* SPDX-License-Identifier: MIT
 *
 * check_alloc.c: the runtime's allocator, with whichever allocator the program
 * has: jemalloc when it is linked or preloaded, malloc otherwise. */
#include "rt.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

extern int mallctl(const char *name, void *old, size_t *oldlen, void *new, size_t newlen)
    __attribute__((weak));

START_TEST(test_alignment_and_zero)
{
    static const size_t aligns[] = {1, 8, 16, 64, 4096};
    for (size_t i = 0; i < sizeof(aligns) / sizeof(aligns[0]); i++) {
        for (size_t size = 0; size < 20000; size = size * 3 + 1) {
            unsigned char *p = rt_alloc_aligned(aligns[i], size);
            ck_assert_ptr_nonnull(p);
            ck_assert_uint_eq((uintptr_t)p % aligns[i], 0);
            for (size_t j = 0; j < size; j++)
                ck_assert_uint_eq(p[j], 0);
            memset(p, 0xa5, size); /* the next one of this size must be zero again */
            rt_free(p);
        }
    }
}
END_TEST

START_TEST(test_realloc_keeps)
{
    unsigned char *p = rt_realloc(NULL, 10);
    ck_assert_ptr_nonnull(p);
    for (unsigned char i = 0; i < 10; i++)
        p[i] = i;
    for (size_t size = 20; size < 3000000; size *= 4) {
        p = rt_realloc(p, size);
        ck_assert_ptr_nonnull(p);
        for (unsigned char i = 0; i < 10; i++)
            ck_assert_uint_eq(p[i], i);
        p[size - 1] = 1;
    }
    p = rt_realloc(p, 10);
    ck_assert_uint_eq(p[9], 9);
    rt_free(p);
    rt_free(NULL);
}
END_TEST

/* Too much is NULL, errno stays as it was, and the old block is as it was. */
START_TEST(test_too_much)
{
    volatile size_t huge = SIZE_MAX / 2 - 4096;
    errno = EXDEV;
    ck_assert_ptr_null(rt_alloc(huge));
    ck_assert_ptr_null(rt_alloc_aligned(64, huge));
    char *p = rt_alloc(3);
    p[2] = 'x';
    ck_assert_ptr_null(rt_realloc(p, huge));
    ck_assert_int_eq(p[2], 'x');
    rt_free(p);
    ck_assert_int_eq(errno, EXDEV);
}
END_TEST

/* With jemalloc our blocks are not in the host's arenas. */
START_TEST(test_own_arena)
{
    if (mallctl == NULL)
        return;
    void *ours = rt_alloc(100000), *theirs = malloc(100000);
    unsigned a = 0, b = 0;
    size_t len = sizeof(a);
    ck_assert_int_eq(mallctl("arenas.lookup", &a, &len, &ours, sizeof(ours)), 0);
    ck_assert_int_eq(mallctl("arenas.lookup", &b, &len, &theirs, sizeof(theirs)), 0);
    ck_assert_uint_ne(a, b);
    rt_free(ours);
    free(theirs);
}
END_TEST

/* Blocks allocated here are freed there. */
static void *free_all(void *arg)
{
    void **p = arg;
    for (int i = 0; i < 1000; i++)
        rt_free(p[i]);
    return NULL;
}

START_TEST(test_other_thread_frees)
{
    void *p[1000];
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 1000; i++) {
            p[i] = rt_alloc((size_t)i + 1);
            ck_assert_ptr_nonnull(p[i]);
            memset(p[i], i, (size_t)i + 1);
        }
        pthread_t t;
        ck_assert_int_eq(pthread_create(&t, NULL, free_all, p), 0);
        pthread_join(t, NULL);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("alloc");
    TCase *tc = tcase_create("alloc");
    tcase_add_test(tc, test_alignment_and_zero);
    tcase_add_test(tc, test_realloc_keeps);
    tcase_add_test(tc, test_too_much);
    tcase_add_test(tc, test_own_arena);
    tcase_add_test(tc, test_other_thread_frees);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? 0 : 1;
}
