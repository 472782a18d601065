/* SPDX-License-Identifier: MIT
 *
 * check_slots.c: private stacks without a scheduler: credits, reuse, guards,
 * what goes back, what happens without address space. The Ps here are bare.
 */
#include "slots.h"

#include <check.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sys/linux/linux.h"

#define KIB ((size_t)1024)
#define MIB (1024 * KIB)
enum { SECOND = 1000000000 };

static P *new_p(void)
{
    static P pool[8]; /* each test runs in a process of its own */
    static int n;
    ck_assert_int_lt(n, 8);
    return &pool[n++];
}

static Slot *take(P *p, int cls)
{
    ck_assert_int_eq(stack_reserve(p, cls), 0);
    return stack_get(p, cls);
}

static void drop(P *p, Slot *s, int cls)
{
    stack_put(p, s);
    stack_unreserve(p, cls);
}

static sigjmp_buf fault_jump;
static void fault_catch(int sig)
{
    (void)sig;
    siglongjmp(fault_jump, 1);
}

/* Does an access to addr fault? */
static bool faults(volatile char *addr)
{
    struct sigaction sa = {.sa_handler = fault_catch}, old[2];
    sigaction(SIGSEGV, &sa, &old[0]);
    sigaction(SIGBUS, &sa, &old[1]);
    volatile bool hit = true;
    if (sigsetjmp(fault_jump, 1) == 0) {
        *addr = 1;
        hit = false;
    }
    sigaction(SIGSEGV, &old[0], NULL);
    sigaction(SIGBUS, &old[1], NULL);
    return hit;
}

static bool resident(const char *p)
{
    unsigned char v = 0;
    ck_assert_int_eq(mincore((void *)((uintptr_t)p & ~(uintptr_t)(sys_page() - 1)), sys_page(), &v),
                     0);
    return v & 1;
}

START_TEST(test_classes)
{
    ck_assert_int_eq(stack_init(8 * MIB), 0);
    ck_assert_int_eq(stack_class(0), 0);
    ck_assert_int_eq(stack_class(16 * KIB - 1), -EINVAL);
    ck_assert_int_eq(stack_class(64 * MIB + 1), -EINVAL);
    ck_assert_int_eq(stack_class(8 * MIB), 0);
    static const size_t want[] = {16 * KIB, 64 * KIB, 64 * KIB + 1, 256 * KIB,   256 * KIB + 1,
                                  4 * MIB,  5 * MIB,  8 * MIB,      8 * MIB + 1, 64 * MIB};
    P *p = new_p();
    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        int cls = stack_class(want[i]);
        ck_assert_int_ge(cls, 0);
        Slot *s = take(p, cls);
        void *lo, *hi;
        stack_bounds(s, &lo, &hi);
        ck_assert_uint_ge((size_t)((char *)hi - (char *)lo), want[i]);
        ck_assert_ptr_eq(stack_top(s), hi);
        ck_assert_uint_eq((uintptr_t)hi % 16, 0);
        ck_assert(stack_owns(lo) && stack_owns((char *)hi - 1));
        drop(p, s, cls);
    }
    ck_assert(!stack_owns(p) && !stack_owns(&p));
    stack_fini();
    ck_assert_int_eq(stack_init(16 * KIB - 1), -EINVAL);
    ck_assert_int_eq(stack_init(64 * MIB + 1), -EINVAL);
}
END_TEST

/* Spawning takes no slot; short coroutines pass through one. */
START_TEST(test_lazy_and_hot)
{
    uint64_t slots, bytes;
    P *p = new_p();
    ck_assert_int_eq(stack_init(0), 0);
    for (int i = 0; i < 10000; i++)
        ck_assert_int_eq(stack_reserve(p, 0), 0);
    stack_counts(&slots, &bytes);
    ck_assert_uint_eq(slots, 0);
    Slot *first = stack_get(p, 0);
    drop(p, first, 0);
    for (int i = 1; i < 10000; i++) {
        Slot *s = stack_get(p, 0);
        ck_assert_ptr_eq(s, first);
        drop(p, s, 0);
    }
    stack_counts(&slots, &bytes);
    ck_assert_uint_le(slots, 16);
    stack_flush(p);
    stack_counts(&slots, &bytes);
    ck_assert_uint_eq(slots, 0);
    ck_assert_uint_eq(bytes, 0);
    for (int i = 0; i < STACK_CLASSES; i++)
        ck_assert_uint_eq(slot_arena.cls[i].credits, 0);
    stack_fini();
}
END_TEST

/* Whoever has a credit gets a slot, on whatever P: random spawns, first runs
 * and ends on four Ps and on none. The sums of slots.c's head hold throughout. */
START_TEST(test_credits_always_honoured)
{
    enum { PS = 4, N = 3000 };
    P *p[PS + 1] = {0};
    static Slot *slot[N];
    static uint8_t state[N]; /* 0 none, 1 reserved, 2 running */
    uint64_t rng = 42;
    ck_assert_int_eq(stack_init(0), 0);
    for (int i = 0; i < PS; i++)
        p[i] = new_p();
    for (int step = 0; step < 400000; step++) {
        uint32_t i = rng_below(&rng, step / 100000 % 2 ? N : 200), at = rng_below(&rng, PS + 1);
        if (state[i] == 0) {
            ck_assert_int_eq(stack_reserve(p[at], 0), 0);
            state[i] = 1;
        } else if (state[i] == 1) {
            slot[i] = stack_get(p[at % PS], 0);
            slot[i]->hi[-1] = (char)i;
            state[i] = 2;
        } else {
            ck_assert_int_eq(slot[i]->hi[-1], (char)i);
            drop(p[at % PS], slot[i], 0);
            state[i] = 0;
        }
        if (step % 1000 == 0) {
            const SlotClass *k = &slot_arena.cls[0];
            uint32_t alive = 0, c = 0, n = 0;
            for (int j = 0; j < N; j++)
                alive += state[j] != 0;
            for (int j = 0; j < PS; j++) {
                c += p[j]->credits;
                n += p[j]->nslots;
            }
            ck_assert_uint_ge(k->total, k->credits);
            ck_assert_uint_eq(k->credits, alive + c);
            ck_assert_uint_le(n, c);
            stack_trim(sys_now() + 5LL * SECOND); /* as if all had been free for long */
        }
        if (step % 50000 == 0)
            stack_flush(p[at % PS]);
    }
    stack_fini();
}
END_TEST

static void check_guard_moves(void)
{
    P *p = new_p();
    G g = {0};
    ck_assert_int_eq(stack_init(0), 0);
    g.slot = take(p, 0);
    char *hi = stack_top(g.slot), *lo;
    stack_bounds(g.slot, (void **)&lo, (void **)&hi);
    hi[-1] = 1;

    int moves = 0;
    size_t depth = 0;
    for (char *at = hi - 1; at >= lo; at -= sys_page()) {
        if (!faults(at)) {
            depth = (size_t)(hi - at);
            continue;
        }
        if (moves == 0) /* the first guard: about 1.9 MiB down */
            ck_assert(depth > 1700 * KIB && depth < 2 * MIB);
        ck_assert(stack_fault(&g, at, (uintptr_t)at));
        ck_assert(!faults(at));
        moves++;
    }
    ck_assert_int_eq(moves, 3); /* 2, 8, 32 MiB */
    ck_assert(faults(lo - 1));
    ck_assert(!stack_fault(&g, lo - 1, (uintptr_t)lo - 1)); /* overflow */
    ck_assert(resident(lo));

    drop(p, g.slot, 0); /* went deep: all but the top goes back, the guard returns */
    ck_assert(resident(hi - 1));
    ck_assert(!resident(lo) && !resident(hi - 64 * KIB) && !resident(hi - 1 * MIB));
    Slot *again = take(p, 0);
    ck_assert_ptr_eq(again, g.slot);
    ck_assert(faults(slot_end(again) - 2 * MIB));
    ck_assert(!faults(lo));
    stack_fini();
}

START_TEST(test_guard_moves)
{
    ck_assert_int_eq(sys_guard_kind(), SYS_GUARD_PTE); /* needs Linux 6.13; see main() */
    check_guard_moves();
}
END_TEST

START_TEST(test_guard_moves_mprotect)
{
    sys_guard_plain(true);
    ck_assert_int_eq(sys_guard_kind(), SYS_GUARD_VMA);
    check_guard_moves();
}
END_TEST

/* A stray pointer into a guard is no overflow, nor is another's guard ours. */
START_TEST(test_stray_faults)
{
    P *p = new_p();
    G g = {0}, other = {0};
    ck_assert_int_eq(stack_init(0), 0);
    g.slot = take(p, 0);
    other.slot = take(p, 0);
    char *guard = slot_end(g.slot) - 2 * MIB;
    ck_assert(faults(guard));
    ck_assert(!stack_fault(&other, guard, (uintptr_t)guard));
    ck_assert(!stack_fault(&g, guard, (uintptr_t)guard + 1 * MIB)); /* far from the stack pointer */
    ck_assert(!stack_fault(&g, guard - 1, (uintptr_t)guard));       /* no guard there */
    ck_assert(!stack_fault(&g, NULL, (uintptr_t)guard));
    ck_assert(stack_fault(&g, guard + 100, (uintptr_t)guard + 200)); /* a push */
    stack_fini();
}
END_TEST

START_TEST(test_small_classes_are_guarded)
{
    static const size_t sizes[] = {64 * KIB, 256 * KIB};
    P *p = new_p();
    ck_assert_int_eq(stack_init(0), 0);
    for (int k = 0; k < 2; k++) {
        int cls = stack_class(sizes[k]);
        Slot *s[40];
        for (int i = 0; i < 40; i++) {
            char *lo, *hi;
            s[i] = take(p, cls);
            stack_bounds(s[i], (void **)&lo, (void **)&hi);
            ck_assert(!faults(lo));
            ck_assert(!faults(hi - 1));
            ck_assert(faults(lo - 1));
            G g = {.slot = s[i]};
            ck_assert(!stack_fault(&g, lo - 1, (uintptr_t)lo));
        }
        if (cls != 0)
            ck_assert_uint_le((size_t)labs(s[1]->hi - s[0]->hi), sizes[k] + 16 * KIB); /* packed */
        for (int i = 0; i < 40; i++)
            drop(p, s[i], cls);
    }
    stack_fini();
}
END_TEST

/* Tops of stacks must not all fall into the same cache and TLB sets. */
START_TEST(test_colours)
{
    unsigned char lines[64] = {0}, pages[512] = {0};
    int nlines = 0, npages = 0;
    P *p = new_p();
    ck_assert_int_eq(stack_init(0), 0);
    for (int i = 0; i < 256; i++) {
        uintptr_t a = (uintptr_t)stack_top(take(p, 0)) - 1;
        lines[a / 64 % 64] = 1;
        pages[a / sys_page() % 512] = 1;
    }
    for (int i = 0; i < 64; i++)
        nlines += lines[i];
    for (int i = 0; i < 512; i++)
        npages += pages[i];
    ck_assert_int_ge(nlines, 16);
    ck_assert_int_ge(npages, 16);
    stack_fini();
}
END_TEST

static void check_trim(size_t stack_max)
{
    enum { N = 300 };
    static Slot *s[N];
    P *p = new_p();
    ck_assert_int_eq(stack_init(0), 0);
    int cls = stack_class(stack_max), back = 0;
    for (int i = 0; i < N; i++) {
        s[i] = take(p, cls);
        s[i]->hi[-1] = 1;
    }
    for (int i = 0; i < N; i++)
        drop(p, s[i], cls);
    stack_flush(p);
    ck_assert(stack_trim_pending());
    ck_assert(!stack_trim(sys_now())); /* too early */
    ck_assert(resident(s[0]->hi - 1) && resident(s[N - 1]->hi - 1));
    int64_t later = sys_now() + 2LL * SECOND;
    while (stack_trim(later))
        ;
    ck_assert(!stack_trim_pending());
    for (int i = 0; i < N; i++)
        back += !resident(s[i]->hi - 1);
    ck_assert_int_eq(back, N - 16);
    for (int i = 0; i < N; i++) { /* all as good as new */
        s[i] = take(p, cls);
        char *lo, *hi;
        stack_bounds(s[i], (void **)&lo, (void **)&hi);
        ck_assert(!faults(hi - 1));
        ck_assert_uint_ne(s[i]->guard, 0);
        ck_assert(faults(slot_end(s[i]) - (size_t)s[i]->guard * sys_page()));
    }
    stack_fini();
}

START_TEST(test_trim_big)
{
    check_trim(0);
}
END_TEST

START_TEST(test_trim_small)
{
    check_trim(64 * KIB);
}
END_TEST

START_TEST(test_trim_mprotect)
{
    sys_guard_plain(true);
    check_trim(0);
}
END_TEST

/* Without address space: smaller slots, then -ENOMEM, then all again. */
START_TEST(test_address_limit)
{
    struct rlimit rl = {2048 * MIB, RLIM_INFINITY};
    static Slot *s[200000];
    void *lo, *hi;
    P *p = new_p();
    int n = 0, rc;
    if (!freopen("/dev/null", "w", stderr)) /* it says so once */
        ck_abort();
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &rl), 0);
    ck_assert_int_eq(stack_init(0), 0);
    while ((rc = stack_reserve(p, 0)) == 0) {
        s[n] = stack_get(p, 0);
        s[n]->hi[-1] = 1;
        ck_assert_int_lt(++n, 200000);
    }
    ck_assert_int_eq(rc, -ENOMEM);
    ck_assert_int_gt(n, 1000);
    ck_assert_int_eq(stack_reserve(NULL, 0), -ENOMEM);
    stack_bounds(s[0], &lo, &hi);
    ck_assert_uint_ge((size_t)((char *)hi - (char *)lo), 256 * KIB);
    for (int i = 0; i < n; i++)
        drop(p, s[i], 0);
    for (int i = 0; i < n; i++) /* nothing has been lost */
        ck_assert_ptr_nonnull(take(p, 0));
    ck_assert_int_eq(stack_reserve(p, 0), -ENOMEM);
    stack_fini();
    ck_assert_int_eq(stack_init(0), 0);
    ck_assert_ptr_nonnull(take(new_p(), 0));
    stack_fini();
}
END_TEST

/* vm.max_map_count guards, no more; the stacks work without. */
START_TEST(test_guard_quota)
{
    sys_guard_plain(true);
    if (!freopen("/dev/null", "w", stderr))
        ck_abort();
    P *p = new_p();
    ck_assert_int_eq(stack_init(0), 0);
    ck_assert_int_gt(slot_arena.guards_max, 1000);
    slot_arena.guards_max = 100;
    Slot *s[200];
    int guarded = 0;
    for (int i = 0; i < 200; i++) {
        s[i] = take(p, 0);
        s[i]->hi[-1] = 1;
        guarded += s[i]->guard != 0;
    }
    ck_assert_int_eq(guarded, 100);
    ck_assert(faults(s[0]->chunk->base)); /* nothing runs out of the chunk */
    for (int i = 0; i < 200; i++)
        drop(p, s[i], 0);
    stack_flush(p);
    while (stack_trim(sys_now() + 2LL * SECOND))
        ;
    ck_assert_int_le(slot_arena.guards, 16);
    ck_assert(faults(s[0]->chunk->base));
    stack_fini();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("slots");
    TCase *tc = tcase_create("slots");
    tcase_set_timeout(tc, 30);
    tcase_add_test(tc, test_classes);
    tcase_add_test(tc, test_lazy_and_hot);
    tcase_add_test(tc, test_credits_always_honoured);
#if !defined(WEFT_TSAN) && !defined(WEFT_ASAN) /* small default stacks, and the limits are theirs */
    if (sys_guard_kind() == SYS_GUARD_PTE) {
        tcase_add_test(tc, test_guard_moves);
        tcase_add_test(tc, test_trim_small);
    }
    tcase_add_test(tc, test_guard_moves_mprotect);
    tcase_add_test(tc, test_stray_faults);
    tcase_add_test(tc, test_trim_big);
    tcase_add_test(tc, test_trim_mprotect);
    tcase_add_test(tc, test_address_limit);
    tcase_add_test(tc, test_guard_quota);
#endif
    tcase_add_test(tc, test_small_classes_are_guarded);
    tcase_add_test(tc, test_colours);
    suite_add_tcase(suite, tc);
    SRunner *sr = srunner_create(suite);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? 0 : 1;
}
