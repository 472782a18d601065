/* SPDX-License-Identifier: MIT
 *
 * check_sys.c: clock, threads, park word, memory, faults, CPU limit.
 */
#include "config.h"

#include "sys/sys.h"
#include "sys/linux/linux.h"

#include <check.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef WEFT_ASAN
#include <sanitizer/asan_interface.h>
#endif

enum { MS = 1000000 };

/* ---- clock, threads, park ------------------------------------------------- */

START_TEST(test_sleep_is_never_early)
{
    for (int64_t ns = 1; ns < 4 * MS; ns *= 7) {
        int64_t when = sys_now() + ns;
        sys_sleep_until(when);
        ck_assert_int_ge(sys_now(), when);
    }
    sys_sleep_until(0);
    sys_sleep_until(-5);
    sys_sleep_until(1);
}
END_TEST

static sigset_t thread_set;
static char thread_got_name[32];
static void record_thread(void *arg)
{
    *(int *)arg = sys_tid();
    pthread_sigmask(SIG_BLOCK, NULL, &thread_set);
    sys_thread_name("a name that is far too long");
    pthread_getname_np(pthread_self(), thread_got_name, sizeof(thread_got_name));
}

START_TEST(test_thread)
{
    SysThread t;
    sigset_t before, after;
    int tid = 0, n = sys_process_threads();
    sigemptyset(&before);
    sigaddset(&before, SIGUSR2);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    ck_assert_int_eq(sys_thread_create(&t, record_thread, &tid), 0);
    sys_thread_join(&t);
    ck_assert_int_ne(tid, 0);
    ck_assert_int_ne(tid, sys_tid());
    ck_assert_str_eq(thread_got_name, "a name that is ");
    ck_assert(sigismember(&thread_set, SIGTERM) && sigismember(&thread_set, SIGURG));
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
        ck_assert(!sigismember(&thread_set, faults[i]));
    pthread_sigmask(SIG_BLOCK, NULL, &after); /* ours is as it was */
    ck_assert(sigismember(&after, SIGUSR2) && !sigismember(&after, SIGTERM));
    for (int i = 0; i < 1000 && sys_process_threads() != n; i++)
        usleep(1000); /* a joined thread leaves the count a moment later */
    ck_assert_int_eq(sys_process_threads(), n);
}
END_TEST

static void wait_on(void *arg)
{
    while (atomic_load((_Atomic uint32_t *)arg) == 0)
        sys_park(arg, 0, 0);
}

START_TEST(test_process_threads)
{
    SysThread t[5];
    _Atomic uint32_t word = 0;
    int n = sys_process_threads();
    ck_assert_int_ge(n, 1);
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(sys_thread_create(&t[i], wait_on, &word), 0);
    ck_assert_int_eq(sys_process_threads(), n + 5);
    word = 1;
    sys_unpark(&word, INT_MAX);
    for (int i = 0; i < 5; i++)
        sys_thread_join(&t[i]);
}
END_TEST

START_TEST(test_no_thread)
{
    struct rlimit rl = {64 << 20, 64 << 20};
    SysThread t[1000];
    _Atomic uint32_t word = 0;
    int n = 0, rc = 0;
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &rl), 0);
    while (n < 1000 && (rc = sys_thread_create(&t[n], wait_on, &word)) == 0)
        n++;
    ck_assert(rc == -EAGAIN || rc == -ENOMEM);
    word = 1;
    sys_unpark(&word, INT_MAX);
    while (n > 0)
        sys_thread_join(&t[--n]);
    ck_assert_int_eq(sys_thread_create(t, wait_on, &word), 0);
    sys_thread_join(t);
}
END_TEST

START_TEST(test_park)
{
    _Atomic uint32_t word = 5;
    errno = 1234;
    ck_assert_int_eq(sys_park(&word, 4, 0), 0); /* another value: at once */
    ck_assert_int_eq(sys_park(&word, 5, 1), -ETIMEDOUT);
    ck_assert_int_eq(sys_park(&word, 5, -1), -ETIMEDOUT);
    int64_t when = sys_now() + 3 * MS;
    int rc;
    while ((rc = sys_park(&word, 5, when)) == 0)
        ;
    ck_assert_int_eq(rc, -ETIMEDOUT);
    ck_assert_int_ge(sys_now(), when);
    sys_unpark(&word, 1);
    ck_assert_int_eq(errno, 1234);
}
END_TEST

START_TEST(test_membarrier_and_seed)
{
    ck_assert(sys_membarrier_init());
    sys_membarrier();
    uint64_t a = sys_seed(), b = sys_seed();
    ck_assert_uint_ne(a, 0);
    ck_assert_uint_ne(a, b);
}
END_TEST

/* ---- memory ---------------------------------------------------------------- */

START_TEST(test_reserve)
{
    size_t page = sys_page();
    for (size_t align = page; align <= (size_t)64 << 20; align *= 2) {
        char *p = sys_reserve(3 * page, align);
        ck_assert_ptr_nonnull(p);
        ck_assert_uint_eq((uintptr_t)p % align, 0);
        memset(p, 1, 3 * page);
        sys_decommit(p + page, page);
        ck_assert(p[0] == 1 && p[page] == 0 && p[2 * page] == 1);
        ck_assert_int_eq(sys_discard(p, 3 * page), 0);
        ck_assert(p[0] == 0 && p[2 * page] == 0);
        sys_release(p, 3 * page);
    }
    ck_assert_ptr_null(sys_reserve((size_t)1 << 60, page));
}
END_TEST

#ifdef WEFT_ASAN
/* A thread's last frames leave their marks where its stack was. */
START_TEST(test_reserve_unmarked)
{
    size_t size = 65536;
    char *p = sys_reserve(size, size);
    __asan_poison_memory_region(p, size);
    munmap(p, size);
    for (int i = 0; i < 64; i++) {
        char *q = sys_reserve(size, size);
        ck_assert_ptr_null(__asan_region_is_poisoned(q, size));
        if (q == p)
            return;
    }
    ck_abort_msg("the kernel did not give the same addresses again");
}
END_TEST
#endif

START_TEST(test_guard)
{
    size_t page = sys_page();
    int pfd[2];
    sys_guard_plain(_i != 0);
    ck_assert_int_eq(pipe(pfd), 0);
    char *p = sys_reserve(4 * page, page);
    memset(p, 1, 4 * page);
    ck_assert_int_eq(sys_guard_set(p + page, page), 0);
    /* the kernel's word for a fault: EFAULT */
    ck_assert_int_eq(write(pfd[1], p, 1), 1);
    ck_assert(write(pfd[1], p + page, 1) == -1 && errno == EFAULT);
    ck_assert_int_eq(write(pfd[1], p + 2 * page, 1), 1);
    sys_decommit(p, 4 * page); /* guards stay */
    ck_assert(write(pfd[1], p + page, 1) == -1 && errno == EFAULT);
    ck_assert_int_eq(sys_guard_clear(p + page, page), 0);
    ck_assert_int_eq(p[page], 0);
    ck_assert_int_eq(sys_guard_set(p + page, page), 0);
    ck_assert_int_eq(sys_discard(p, 4 * page), 0); /* guards go */
    ck_assert_int_eq(p[page], 0);
    ck_assert_int_gt(sys_guard_max(), 100);
}
END_TEST

START_TEST(test_address_limit)
{
    struct rlimit rl = {1 << 30, RLIM_INFINITY};
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &rl), 0);
    ck_assert_uint_le(sys_address_limit(), 1 << 30);
}
END_TEST

/* ---- faults ------------------------------------------------------------------ */

static char *bad_page; /* PROT_NONE */
static volatile sig_atomic_t before_called;
static bool on_altstack(void)
{
    stack_t ss;
    sigaltstack(NULL, &ss);
    return ss.ss_flags & SS_ONSTACK;
}

static bool mend(void *addr, void *uc)
{
    return uc != NULL && (char *)addr == bad_page + 8 && on_altstack() &&
           mprotect(bad_page, sys_page(), PROT_READ | PROT_WRITE) == 0;
}
static bool never(void *addr, void *uc)
{
    (void)addr, (void)uc;
    return false;
}

static void before(int sig)
{
    before_called = sig;
    mprotect(bad_page, sys_page(), PROT_READ | PROT_WRITE);
}
static void before_info(int sig, siginfo_t *info, void *uc)
{
    if (uc != NULL && info->si_addr == bad_page)
        before(sig);
}

static void fault_setup(void)
{
    static char alt[256 * 1024];
    ck_assert_uint_ge(sys_altstack_size(), 64 * 1024);
    ck_assert_int_eq(sys_altstack_set(alt, sizeof(alt)), 0);
    bad_page = mmap(NULL, sys_page(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert(bad_page != MAP_FAILED);
}

START_TEST(test_fault_mended)
{
    struct sigaction sa;
    fault_setup();
    ck_assert_int_eq(sys_fault_install(mend), 0);
    bad_page[8] = 1;
    ck_assert_int_eq(bad_page[8], 1);
    sys_fault_remove();
    sigaction(SIGSEGV, NULL, &sa);
    ck_assert(sa.sa_handler == SIG_DFL);
    sys_altstack_clear();
    stack_t ss;
    sigaltstack(NULL, &ss);
    ck_assert(ss.ss_flags & SS_DISABLE);
}
END_TEST

START_TEST(test_fault_passed_on)
{
    struct sigaction sa = {0}, now;
    fault_setup();
    if (_i == 0) {
        sa.sa_handler = before;
    } else {
        sa.sa_sigaction = before_info;
        sa.sa_flags = SA_SIGINFO;
    }
    sigaction(SIGSEGV, &sa, NULL);
    ck_assert_int_eq(sys_fault_install(never), 0);
    *(volatile char *)bad_page = 1;
    ck_assert_int_eq(before_called, SIGSEGV);
    before_called = 0;
    raise(SIGSEGV); /* sent, not caught in the act: theirs too */
    ck_assert_int_eq(before_called, _i == 0 ? SIGSEGV : 0);
    sys_fault_remove();
    sigaction(SIGSEGV, NULL, &now);
    ck_assert(_i == 0 ? now.sa_handler == before : now.sa_sigaction == before_info);
}
END_TEST

static struct sigaction above;
static void above_handler(int sig, siginfo_t *info, void *uc)
{
    above.sa_sigaction(sig, info, uc);
}

/* Someone puts theirs on top of ours and passes on: twice over, no loop. */
START_TEST(test_fault_replaced)
{
    struct sigaction sa = {.sa_sigaction = above_handler, .sa_flags = SA_SIGINFO | SA_ONSTACK}, now;
    fault_setup();
    ck_assert_int_eq(sys_fault_install(mend), 0);
    sigaction(SIGSEGV, &sa, &above);
    sys_fault_remove(); /* stays below theirs */
    sigaction(SIGSEGV, NULL, &now);
    ck_assert(now.sa_sigaction == above_handler);
    ck_assert_int_eq(sys_fault_install(mend), 0);
    bad_page[8] = 1;
    ck_assert_int_eq(bad_page[8], 1);
}
END_TEST

/* How a child dies that sets SIGSEGV's action and then faults, or is sent one. */
static int death(void (*action)(int), bool sent, bool ours)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGSEGV, action);
        if (ours) {
            fault_setup();
            sys_fault_install(never);
        } else {
            bad_page = NULL;
        }
        if (sent)
            raise(SIGSEGV);
        else
            *(volatile char *)bad_page = 1;
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return status;
}

START_TEST(test_fault_deaths)
{
    for (int sent = 0; sent < 2; sent++) {
        ck_assert_int_eq(death(SIG_DFL, sent, true), death(SIG_DFL, sent, false));
        ck_assert_int_eq(death(SIG_IGN, sent, true), death(SIG_IGN, sent, false));
    }
    ck_assert_int_eq(WTERMSIG(death(SIG_DFL, false, true)), SIGSEGV);
    ck_assert_int_eq(death(SIG_IGN, true, true), 0);
}
END_TEST

/* ---- CPU limit ------------------------------------------------------------------ */

static char root[64];

static void put(const char *path, const char *text)
{
    char name[512];
    snprintf(name, sizeof(name), "%s%s", root, path);
    for (char *s = name + strlen(root) + 1; (s = strchr(s, '/')) != NULL; s++) {
        *s = '\0';
        mkdir(name, 0700);
        *s = '/';
    }
    FILE *f = fopen(name, "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
}

static void new_root(void)
{
    strcpy(root, "/tmp/weft-cgroup-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(root));
}

static void end_root(void)
{
    char cmd[128];
    snprintf(cmd, sizeof(cmd), "rm -rf %s", root);
    ck_assert_int_eq(system(cmd), 0);
}

/* Go: the cgroup tests (v1 before v2, escapes, ancestors, incomplete files). */
START_TEST(test_cgroup)
{
    new_root();
    ck_assert_int_eq(cgroup_cpu_limit(root), 0); /* no files at all */
    put("/proc/self/cgroup", "0::/a b/c\n");
    put("/proc/self/mountinfo",
        "22 1 0:1 / /proc rw - proc proc rw\n"
        "30 22 0:26 / /sys/fs/cg\\040two rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n");
    ck_assert_int_eq(cgroup_cpu_limit(root), 0);
    put("/sys/fs/cg two/a b/c/cpu.max", "max 100000\n");
    ck_assert_int_eq(cgroup_cpu_limit(root), 0);
    put("/sys/fs/cg two/a b/c/cpu.max", "250000 100000\n");
    ck_assert_int_eq(cgroup_cpu_limit(root), 3); /* rounded up */
    put("/sys/fs/cg two/a b/cpu.max", "200000 100000\n");
    ck_assert_int_eq(cgroup_cpu_limit(root), 2); /* the one above allows less */
    put("/sys/fs/cg two/a b/c/cpu.max", "1000 100000\n");
    ck_assert_int_eq(cgroup_cpu_limit(root), 1);
    put("/sys/fs/cg two/a b/c/cpu.max", "1000");
    ck_assert_int_eq(cgroup_cpu_limit(root), 2); /* a torn file says nothing */
    end_root();

    new_root(); /* version 1, with version 2 beside it, in a container */
    put("/proc/self/cgroup", "0::/\n4:cpuset:/x\n3:cpu,cpuacct:/docker/id\n");
    put("/proc/self/mountinfo",
        "30 22 0:26 / /cg2 rw - cgroup2 cgroup2 rw\n"
        "31 22 0:27 / /cpuset rw - cgroup cgroup rw,cpuset\n"
        "32 22 0:28 /docker/id /cg1 rw master:9 - cgroup cgroup rw,cpu,cpuacct\n");
    put("/cg2/cpu.max", "100000 100000\n");
    put("/cg1/cpu.cfs_quota_us", "-1\n");
    put("/cg1/cpu.cfs_period_us", "100000\n");
    ck_assert_int_eq(cgroup_cpu_limit(root), 0);
    put("/cg1/cpu.cfs_quota_us", "420000\n");
    ck_assert_int_eq(cgroup_cpu_limit(root), 5);
    end_root();
}
END_TEST

START_TEST(test_ncpu)
{
    cpu_set_t set, one;
    int n = sys_ncpu();
    ck_assert_int_ge(n, 1);
    ck_assert_int_eq(sched_getaffinity(0, sizeof(set), &set), 0);
    ck_assert_int_le(n, CPU_COUNT(&set));
    CPU_ZERO(&one);
    for (int i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++)
        if (CPU_ISSET(i, &set))
            CPU_SET(i, &one);
    ck_assert_int_eq(sched_setaffinity(0, sizeof(one), &one), 0);
    ck_assert_int_eq(sys_ncpu(), 1);
}
END_TEST

static volatile int child_mark;
static void mark_child(void)
{
    child_mark = 1;
}

START_TEST(test_atfork)
{
    int status;
    ck_assert_int_eq(sys_atfork(NULL, NULL, mark_child), 0);
    pid_t pid = fork();
    if (pid == 0)
        _exit(child_mark);
    waitpid(pid, &status, 0);
    ck_assert_int_eq(WEXITSTATUS(status), 1);
    ck_assert_int_eq(child_mark, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sys");
    TCase *tc = tcase_create("sys");
    tcase_set_timeout(tc, 30);
    tcase_add_test(tc, test_sleep_is_never_early);
#ifndef WEFT_TSAN /* it has a thread that comes and goes */
    tcase_add_test(tc, test_thread);
    tcase_add_test(tc, test_process_threads);
#endif
    tcase_add_test(tc, test_park);
    tcase_add_test(tc, test_membarrier_and_seed);
    tcase_add_test(tc, test_reserve);
#ifdef WEFT_ASAN
    tcase_add_test(tc, test_reserve_unmarked);
#endif
    tcase_add_loop_test(tc, test_guard, 0, 2);
    tcase_add_test(tc, test_cgroup);
    tcase_add_test(tc, test_ncpu);
    tcase_add_test(tc, test_atfork);
#if !defined(WEFT_TSAN) && !defined(WEFT_ASAN) /* they have handlers and limits of their own */
    tcase_add_test(tc, test_no_thread);
    tcase_add_test(tc, test_address_limit);
    tcase_add_test(tc, test_fault_mended);
    tcase_add_loop_test(tc, test_fault_passed_on, 0, 2);
    tcase_add_test(tc, test_fault_replaced);
    tcase_add_test(tc, test_fault_deaths);
#endif
    suite_add_tcase(suite, tc);
    SRunner *sr = srunner_create(suite);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? 0 : 1;
}
