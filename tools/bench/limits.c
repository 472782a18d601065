/* SPDX-License-Identifier: MIT
 *
 * limits.c: what the machine itself allows, without libweft: so that each figure of bench can be read as a
 * multiple of it. Nothing here can be faster than it is, in any program that does the same.
 *
 * usage: limits [NAME...]
 *
 * One line per figure: name, median and minimum in nanoseconds, separated by tabs. A repetition takes some
 * microseconds, so that most are not interrupted: on a machine that does other work the minimum is still right, but for
 * what needs two processors at once.
 */
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { REPETITIONS = 2001, LINE = 64, PAGE = 4096 };

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static struct {
    _Alignas(LINE) _Atomic uint64_t a;
    _Alignas(LINE) _Atomic uint32_t b;
} word;

/* ---- atomic operations on a line that nobody else has ---------------------------------- */

static void locked(int n)
{
    for (int i = 0; i < n; i++)
        atomic_fetch_add(&word.a, 1);
}

static void swap(uint32_t from, uint32_t to)
{
    if (!atomic_compare_exchange_strong(&word.b, &from, to))
        abort();
}

static void swaps(int n)
{
    for (int i = 0; i < n; i++) {
        swap(0, 1);
        swap(1, 0);
    }
}

static void adds_load(int n)
{
    for (int i = 0; i < n; i++) {
        atomic_fetch_add(&word.a, (uint64_t)1 << 32);
        atomic_fetch_sub(&word.a, (uint64_t)1 << 32);
        if (atomic_load(&word.a) >> 63)
            abort();
    }
}

/* An unlock that is no locked instruction: is it ours, a store, and a look elsewhere for who waits. */
static void swap_store_load(int n)
{
    for (int i = 0; i < n; i++) {
        swap(0, 1);
        if (atomic_load_explicit(&word.b, memory_order_relaxed) != 1)
            abort();
        atomic_store_explicit(&word.b, 0, memory_order_release);
        if (atomic_load_explicit(&word.a, memory_order_relaxed) >> 63)
            abort();
    }
}

static void load_branch(int n)
{
    for (int i = 0; i < n; i++)
        if (atomic_load_explicit(&word.b, memory_order_acquire) != 0)
            abort();
}

/* ---- a switch -------------------------------------------------------------------------- */

#ifdef __x86_64__
/* Six registers and the stack. By a jump: a return to where the last call did not come from is mispredicted. */
void limits_switch(void **from, void **to);
__asm__(".pushsection .text\n"
        ".type limits_switch, @function\n"
        "limits_switch:\n"
        "push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15\n"
        "mov %rsp, (%rdi); mov (%rsi), %rsp\n"
        "pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp\n"
        "pop %rcx\n"
        "jmp *%rcx\n"
        ".size limits_switch, . - limits_switch\n"
        ".popsection\n");

static void *here, *there;

static void other(void)
{
    for (;;)
        limits_switch(&there, &here);
}

static void switches(int n)
{
    static _Alignas(16) void *stack[1024];
    if (there == NULL) {
        stack[1023 - 1] = (void *)(uintptr_t)other; /* so that it starts as after a call */
        there = &stack[1023 - 1 - 6];
    }
    for (int i = 0; i < n; i += 2)
        limits_switch(&here, &there);
}
#else
#define switches NULL
#endif

/* ---- two processors -------------------------------------------------------------------- */

static cpu_set_t may; /* where we may run */

static void allow(pthread_t t, const cpu_set_t *cpus)
{
    int rc = pthread_setaffinity_np(t, sizeof *cpus, cpus);
    if (rc != 0) {
        fprintf(stderr, "pthread_setaffinity_np: %s\n", strerror(rc));
        exit(1);
    }
}

/* To the k-th of the processors. */
static void pin(pthread_t t, int k)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &may) && k-- == 0)
            CPU_SET(cpu, &one);
    allow(t, &one);
}

static _Alignas(LINE) _Atomic uint32_t turn;
static bool sleeping; /* the two wait in the kernel, not in a loop */
enum { MINE, YOURS, OVER };

static void await(uint32_t who)
{
    for (uint32_t t; (t = atomic_load(&turn)) != who && t != OVER;)
        if (sleeping)
            syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, t, NULL, NULL, 0);
}

static void pass(uint32_t whom)
{
    atomic_store(&turn, whom);
    if (sleeping)
        syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void *partner(void *arg)
{
    for (;;) {
        await(YOURS);
        if (atomic_load(&turn) == OVER)
            return arg;
        pass(MINE);
    }
}

static void hand_offs(int n)
{
    for (int i = 0; i < n; i += 2) {
        pass(YOURS);
        await(MINE);
    }
}

static pthread_t second;

static bool second_start(void)
{
    if (sched_getaffinity(0, sizeof may, &may) != 0 || CPU_COUNT(&may) < 2)
        return false;
    turn = MINE;
    if (pthread_create(&second, NULL, partner, NULL) != 0)
        die("pthread_create");
    pin(pthread_self(), 0);
    pin(second, 1);
    return true;
}

static bool line_start(void)
{
    sleeping = false;
    return second_start();
}

static bool futex_start(void)
{
    sleeping = true;
    return second_start();
}

static void second_end(void)
{
    pass(OVER);
    pthread_join(second, NULL);
    allow(pthread_self(), &may);
}

/* ---- the kernel ------------------------------------------------------------------------ */

static void calls(int n)
{
    for (int i = 0; i < n; i++)
        syscall(SYS_getppid);
}

static void faults(int n)
{
    size_t size = (size_t)n * PAGE;
    char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        die("mmap");
    madvise(p, size, MADV_NOHUGEPAGE);
    for (size_t at = 0; at < size; at += PAGE)
        p[at] = 1;
    munmap(p, size);
}

static void on_signal(int signo)
{
    (void)signo;
}

static bool signal_start(void)
{
    return signal(SIGUSR1, on_signal) != SIG_ERR;
}

static void signals(int n)
{
    for (int i = 0; i < n; i++)
        raise(SIGUSR1);
}

/* ---- the list -------------------------------------------------------------------------- */

static const struct limit {
    const char *name;
    int n; /* operations a repetition */
    void (*run)(int n);
    bool (*start)(void); /* false: not on this machine */
    void (*end)(void);
} limits[] = {
    {.name = "locked", .n = 1000, .run = locked},
    {.name = "swap_swap", .n = 1000, .run = swaps},
    {.name = "swap_store_load", .n = 1000, .run = swap_store_load},
    {.name = "add_add_load", .n = 1000, .run = adds_load},
    {.name = "load_branch", .n = 20000, .run = load_branch},
    {.name = "switch6", .n = 1000, .run = switches},
    {.name = "line", .n = 200, .run = hand_offs, .start = line_start, .end = second_end},
    {.name = "futex", .n = 10, .run = hand_offs, .start = futex_start, .end = second_end},
    {.name = "syscall", .n = 100, .run = calls},
    {.name = "fault", .n = 64, .run = faults},
    {.name = "signal", .n = 20, .run = signals, .start = signal_start},
};
enum { N_LIMITS = sizeof limits / sizeof limits[0] };

static void measure(const struct limit *l)
{
    static double v[REPETITIONS];
    if (l->run == NULL || (l->start != NULL && !l->start())) {
        printf("%s\t-\t-\n", l->name);
        return;
    }
    l->run(l->n);
    for (int r = 0; r < REPETITIONS; r++) {
        double t = now();
        l->run(l->n);
        v[r] = (now() - t) / l->n;
    }
    if (l->end != NULL)
        l->end();
    qsort(v, REPETITIONS, sizeof v[0], ascending);
    printf("%s\t%.3f\t%.3f\n", l->name, v[REPETITIONS / 2], v[0]);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        bool known = false;
        for (int k = 0; k < N_LIMITS; k++)
            known |= strcmp(argv[i], limits[k].name) == 0;
        if (!known) {
            fprintf(stderr, "limits: there is no %s\n", argv[i]);
            return 2;
        }
    }
    for (int k = 0; k < N_LIMITS; k++) {
        bool asked = argc == 1;
        for (int i = 1; i < argc; i++)
            asked |= strcmp(argv[i], limits[k].name) == 0;
        if (asked)
            measure(&limits[k]);
    }
    return 0;
}
