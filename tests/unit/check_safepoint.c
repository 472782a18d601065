/* SPDX-License-Identifier: MIT
 *
 * check_safepoint.c: the second key of stop-and-move: what it allows, what it refuses, at
 * which instruction, how long it takes, and that garbage does not hurt it.
 *
 * The verdicts: each case is a function known to be harmless or not. It runs as a coroutine
 * (arch_prepare: the walk must end at arch_entry), single-stepped by the trap flag, and the
 * SIGTRAP handler asks at every instruction, prologues, epilogues, linkage stubs and libc
 * included. "Harmless" must be allowed at each of its own instructions and refused inside
 * libc; "not" must be refused wherever its frame is on the stack.
 *
 * Some are asked once instead, at a trap in the function itself, which works on all processors.
 *
 * Late binding: what is not bound must not be allowed if it would be refused when it is; all
 * that the loader binds a slot to must have been found before.
 *
 * The decoder: against the boundaries that objdump prints for whole libraries. */
#include "safepoint.h"

#include <check.h>
#include <ctype.h>
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

enum { STACK = 1 << 20 };

#define KEEP __asm__ volatile("" ::: "memory")
#if defined(__clang__)
#define HARMLESS __attribute__((noinline))
#define NO_FRAME_POINTER
#define PROTECTED
#else
#define HARMLESS __attribute__((noinline, noclone))
#define NO_FRAME_POINTER __attribute__((optimize("omit-frame-pointer")))
#define PROTECTED __attribute__((stack_protect))
#endif

#define COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))

/* Nothing is moved under a sanitizer. */
#if !defined(WEFT_ASAN) && !defined(WEFT_TSAN)
#define CAN_TRAP 1
#if defined(__x86_64__)
#define CAN_STEP 1
#endif
#endif

#if defined(__x86_64__)
#define TRAP __asm__ volatile("int3" ::: "memory")
#define TRAP_SIZE 0
#else
#define TRAP __asm__ volatile("brk #0" ::: "memory")
#define TRAP_SIZE 4
#endif

#ifdef CAN_TRAP
static char *stack;
static void *here, *there;
static void (*volatile the_case)(void);
static volatile int sink, seven = 7;

static void coroutine(void (*handler)(int, siginfo_t *, void *), void (*entry)(void *))
{
    stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_int_eq(safepoint_init(), 0);
    static _Alignas(64) char alternate[65536];
    stack_t ss = {.ss_sp = alternate, .ss_size = sizeof(alternate)};
    sigaltstack(&ss, NULL);
    struct sigaction sa = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaction(SIGTRAP, &sa, NULL);
    there = arch_prepare(stack + STACK, entry);
}
#endif

#ifdef CAN_STEP

/* ---- harmless ------------------------------------------------------------------------ */

static volatile double fsink;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

HARMLESS static void f_loop(void)
{
    for (int i = 0; i < 50; i++)
        sink += i;
}

HARMLESS NO_FRAME_POINTER static int f_chain3(int a, int b)
{
    sink += a * b;
    return a - b;
}
HARMLESS NO_FRAME_POINTER static int f_chain2(int a, int b, int c)
{
    int x = f_chain3(a, b), y = f_chain3(b, c), z = f_chain3(c, a);
    return x * y + z * a + b - c;
}
HARMLESS NO_FRAME_POINTER static int f_chain1(int a)
{
    int s = 0;
    for (int i = 0; i < 3; i++)
        s += f_chain2(a, i, s) + f_chain2(i, a, s);
    return s;
}
HARMLESS static void f_chain(void)
{
    sink = f_chain1(seven);
    KEEP;
}

HARMLESS static int f_tail2(int a)
{
    sink += a;
    return f_chain3(a, sink);
}
HARMLESS static int f_tail(int a)
{
    sink -= a;
    return f_tail2(a + 1);
}
HARMLESS static void f_tail_calls(void)
{
    sink = f_tail(seven);
    KEEP;
}

HARMLESS static void f_alloca(void)
{
    char *p = __builtin_alloca((size_t)seven * 10);
    for (int i = 0; i < seven * 10; i++)
        p[i] = (char)i;
    KEEP;
    f_chain3(p[3], p[5]);
    sink += p[9];
}

HARMLESS static void f_big(void)
{
    volatile char big[40000];
    for (int i = 0; i < 40000; i += 4000)
        big[i] = (char)i;
    f_chain3(big[4000], big[8000]);
    KEEP;
}

HARMLESS static void f_aligned(void)
{
    _Alignas(64) volatile double v[16];
    char *p = __builtin_alloca((size_t)seven);
    p[0] = 1;
    for (int i = 0; i < 16; i++)
        v[i] = i * 0.5 + p[0];
    f_chain3((int)v[3], (int)v[4]);
    KEEP;
    fsink = v[5];
}

HARMLESS PROTECTED static void f_protected(void)
{
    volatile char text[64];
    for (int i = 0; i < 64; i++)
        text[i] = (char)i;
    f_chain3(text[3], text[4]);
    KEEP;
}

HARMLESS static int f_recurse(int n)
{
    KEEP;
    int r = n == 0 ? seven : f_recurse(n - 1) + 1;
    KEEP;
    return r;
}
HARMLESS static void f_deep(void)
{
    sink = f_recurse(40);
    KEEP;
}

static int (*volatile f_pointer)(int, int) = f_chain3;
HARMLESS static void f_by_pointer(void)
{
    sink = f_pointer(seven, 3) + f_pointer(3, seven);
    KEEP;
}

HARMLESS static void f_switch(void)
{
    for (int i = 0; i < 9; i++)
        switch (i + seven - 7) {
        case 0:
            sink += 11;
            break;
        case 1:
            sink *= 3;
            break;
        case 2:
            f_chain3(1, 2);
            break;
        case 3:
            sink ^= 99;
            break;
        case 4:
            sink -= 4;
            break;
        case 5:
            f_chain3(4, sink);
            break;
        case 6:
            sink |= 1;
            break;
        default:
            sink = 5;
        }
    KEEP;
}

__attribute__((cold, noinline)) static void f_cold_callee(int a)
{
    sink += a;
    KEEP;
}
HARMLESS static void f_cold(void)
{
    int keep = seven;
    for (int i = 0; i < 4; i++) {
        if (__builtin_expect(seven == i + 4, 0)) {
            f_cold_callee(i);
            keep += sink;
            f_cold_callee(keep);
        }
        sink += keep;
    }
    KEEP;
}

HARMLESS static void f_vector(void)
{
    typedef double V __attribute__((vector_size(32)));
    V a = {1, 2, 3, 4}, b = {5, 6, 7, 8};
    for (int i = 0; i < 10; i++) {
        a = a * b + a;
        KEEP;
        fsink = a[i & 3];
    }
}

/* What is not called is not bound: it must be found by its name, and be harmless. */
HARMLESS static void f_unbound(void)
{
    f_loop();
    if (seven == 0)
        sink = (int)a64l("a") + (int)ffsl(sink);
    if (seven == 1)
        sink = (int)strtol("1", NULL, seven);
    KEEP;
}

/* ---- in libc: refused there, allowed around it ------------------------------------------ */

HARMLESS static void f_strlen(void)
{
    static char text[100];
    memset(text, seven, sizeof(text) - 1);
    KEEP;
    sink += (int)strlen(text);
    KEEP;
}

HARMLESS static void f_malloc(void)
{
    void *volatile p = malloc((size_t)seven);
    KEEP;
    free(p);
    KEEP;
}

/* ---- not harmless ---------------------------------------------------------------------------- */

HARMLESS static void n_errno(void)
{
    errno = seven;
    f_loop();
    sink = errno;
}

static __thread volatile int thread_local;
HARMLESS static void n_thread_local(void)
{
    thread_local += seven;
    f_loop();
    thread_local ++;
}

HARMLESS static void n_self(void)
{
    pthread_t me = pthread_self();
    sink = (int)me;
    f_loop();
    sink = (int)(me >> 3);
}

HARMLESS static void n_ctype(void)
{
    for (int i = 0; i < 5; i++)
        sink += isalpha(seven * 9 + i) != 0;
    f_loop();
    KEEP;
}

HARMLESS static volatile int *accessor(void)
{
    return &thread_local;
}
HARMLESS static void n_accessor(void)
{
    volatile int *p = accessor();
    f_loop();
    ++*p;
}

/* gcc's -fno-plt: through a register that was loaded from the global offset table. */
HARMLESS static void n_no_plt(void)
{
    int *p;
    __asm__ volatile("movq __errno_location@GOTPCREL(%%rip), %%rbx\n\tsubq $136, %%rsp\n\t"
                     "call *%%rbx\n\taddq $136, %%rsp"
                     : "=a"(p)
                     :
                     : "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc");
    f_loop();
    *p = 3;
}

/* The same with an accessor, by its address and by a word that holds it. */
static volatile int *(*const accessors[])(void) = {accessor};
HARMLESS static void n_by_address(void)
{
    volatile int *p;
    __asm__ volatile("leaq %c1(%%rip), %%rbx\n\tsubq $136, %%rsp\n\tcall *%%rbx\n\t"
                     "addq $136, %%rsp"
                     : "=a"(p)
                     : "i"(accessor)
                     : "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc");
    f_loop();
    ++*p;
}
HARMLESS static void n_by_word(void)
{
    volatile int *p;
    __asm__ volatile("movq %1, %%rbx\n\tsubq $136, %%rsp\n\tcall *%%rbx\n\taddq $136, %%rsp"
                     : "=a"(p)
                     : "m"(accessors[0])
                     : "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc");
    f_loop();
    ++*p;
}

/* An accessor without unwind information. */
int *accessor_no_cfi(void);
__asm__(".text\n.globl accessor_no_cfi\n.hidden accessor_no_cfi\n"
        ".type accessor_no_cfi, @function\naccessor_no_cfi:\n"
        "movq %fs:0, %rax\nleaq thread_word@tpoff(%rax), %rax\nret\n"
        ".size accessor_no_cfi, . - accessor_no_cfi\n"
        ".section .tbss, \"awT\", @nobits\nthread_word: .zero 8\n.text\n");
HARMLESS static void n_accessor_no_cfi(void)
{
    int *p = accessor_no_cfi();
    f_loop();
    ++*p;
}

HARMLESS static void n_weft_errno(void)
{
    int *p = weft_errno();
    f_loop();
    *p = seven;
}

HARMLESS static int *n_tail2(void)
{
    sink++;
    return __errno_location();
}
HARMLESS static void n_tail(void)
{
    int *p = n_tail2();
    f_loop();
    *p = 3;
}

/* The thread's own is touched in the part that was split off only, and kept over the jump back. */
HARMLESS static void n_cold(void)
{
    volatile int *p = &sink;
    for (int i = 0; i < 4; i++) {
        if (__builtin_expect(seven == i + 4, 0)) {
            f_cold_callee(i);
            p = &thread_local;
        }
        *p += i;
    }
    KEEP;
}

HARMLESS static int n_compare(const void *a, const void *b)
{
    f_chain3(1, 2);
    return *(const int *)a - *(const int *)b;
}
HARMLESS static void n_qsort(void)
{
    int v[6] = {4, 2, 6, 1, 5, seven};
    qsort(v, 6, sizeof(v[0]), n_compare);
    sink += v[0];
}

/* Without unwind information. */
void n_no_cfi(void);
__asm__(".text\n.globl n_no_cfi\n.type n_no_cfi, @function\nn_no_cfi:\nmovl $20, %eax\n1: decl "
        "%eax\njnz 1b\nret\n"
        ".size n_no_cfi, . - n_no_cfi\n");

HARMLESS static void n_kernel(void)
{
    long r = 39; /* getpid */
    __asm__ volatile("syscall" : "+a"(r) : : "rcx", "r11", "memory");
    f_loop();
    KEEP;
}

HARMLESS static void n_base(void)
{
    __asm__ volatile("movq %%fs:0, %%rax" : : : "rax");
    f_loop();
    KEEP;
}

HARMLESS static void n_deeper(void)
{
    sink = f_recurse(100);
    KEEP;
}

/* ---- stepping ---------------------------------------------------------------------------------- */

static long asked, yes, no, outside, outside_wrong;
static Fde wrapper;
static Fde only;           /* count there only */
static bool stepping_over; /* allowed only where the code is the test's own */

static void wrapper_main(void *pass)
{
    for (;;) {
        __asm__ volatile("leaq -128(%%rsp), %%rsp\n\tpushfq\n\torq $0x100, (%%rsp)\n\tpopfq\n\t"
                         "leaq 128(%%rsp), %%rsp" ::
                             : "memory", "cc");
        the_case();
        __asm__ volatile("leaq -128(%%rsp), %%rsp\n\tpushfq\n\tandq $~0x100, (%%rsp)\n\tpopfq\n\t"
                         "leaq 128(%%rsp), %%rsp" ::
                             : "memory", "cc");
        arch_switch(&there, here, pass);
    }
}

static bool own_code(uintptr_t pc)
{
    extern const char __executable_start[], etext[];
    Object room;
    const Object *o = object_find(pc, &room);
    Fde f;
    return pc >= (uintptr_t)__executable_start && pc < (uintptr_t)etext && fde_find(o, pc, &f) &&
           arch_stub_slot((const uint8_t *)pc, (const uint8_t *)f.end) == 0;
}

static void on_trap(int sig, siginfo_t *si, void *uc)
{
    (void)sig, (void)si;
    ArchContext c;
    arch_ucontext(uc, &c);
    if (c.pc >= wrapper.start && c.pc < wrapper.end)
        return;
    bool is = safepoint_movable(uc, stack, stack + STACK);
    if (stepping_over && !own_code(c.pc)) {
        outside++;
        /* No ck_assert: it calls malloc(), which may be what is being stepped. */
        Object room;
        const Object *o = object_find(c.pc, &room);
        outside_wrong +=
            is || o == NULL ||
            (!safepoint_in_library(uc, stack, stack + STACK) && o->kind != OBJECT_USER);
        return;
    }
    if (only.start != 0 && (c.pc < only.start || c.pc >= only.end))
        return;
    asked++;
    yes += is;
    no += !is;
    if (is != (the_case != NULL && stepping_over) && getenv("SAFEPOINT_VERBOSE") != NULL)
        fprintf(stderr, "%#lx: %d\n", (long)c.pc, is);
}

static void prepare(void)
{
    Object room;
    coroutine(on_trap, wrapper_main);
    ck_assert(
        fde_find(object_find((uintptr_t)wrapper_main, &room), (uintptr_t)wrapper_main, &wrapper));
}

static void step(void (*fn)(void))
{
    the_case = fn;
    asked = yes = no = outside = outside_wrong = 0;
    arch_switch(&here, there, NULL);
}

#define CASE(f)                                                                                    \
    {                                                                                              \
#f, f                                                                                      \
    }
static const struct {
    const char *name;
    void (*run)(void);
} harmless[] =
    {
        CASE(f_loop),    CASE(f_chain),     CASE(f_tail_calls), CASE(f_alloca),     CASE(f_big),
        CASE(f_aligned), CASE(f_protected), CASE(f_deep),       CASE(f_by_pointer), CASE(f_switch),
        CASE(f_cold),    CASE(f_vector),    CASE(f_strlen),     CASE(f_malloc),     CASE(f_unbound),
},
  harmful[] = {
      CASE(n_errno),   CASE(n_thread_local), CASE(n_self),
      CASE(n_ctype),   CASE(n_accessor),     CASE(n_cold),
      CASE(n_no_plt),  CASE(n_tail),         CASE(n_no_cfi),
      CASE(n_base),    CASE(n_kernel),       CASE(n_by_address),
      CASE(n_by_word), CASE(n_weft_errno),   CASE(n_accessor_no_cfi),
};
START_TEST(allowed)
{
    prepare();
    stepping_over = true;
    harmless[_i].run(); /* binds what is bound lazily: ld.so is not under test */
    step(harmless[_i].run);
    printf("%-16s %5ld allowed, %ld refused, %ld outside\n", harmless[_i].name, yes, no, outside);
    ck_assert_int_eq(outside_wrong, 0);
    ck_assert_int_gt(yes, 5);
    /* gcc's tables are wrong in the epilogue of a function that aligns its frame: refused there. */
    ck_assert_msg(no <= (harmless[_i].run == f_aligned ? asked / 20 : 0), "%s: %ld of %ld refused",
                  harmless[_i].name, no, asked);
}
END_TEST

START_TEST(refused)
{
    prepare();
    step(harmful[_i].run);
    ck_assert_int_gt(no, 5);
    ck_assert_msg(yes == 0, "%s: %ld of %ld allowed", harmful[_i].name, yes, asked);
}
END_TEST

/* Called back by libc: harmless itself, but a frame of libc lies below. */
START_TEST(called_back)
{
    Object room;
    prepare();
    fde_find(object_find((uintptr_t)n_compare, &room), (uintptr_t)n_compare, &only);
    step(n_qsort);
    ck_assert_int_gt(no, 20);
    ck_assert_int_eq(yes, 0);
}
END_TEST

START_TEST(too_deep)
{
    prepare();
    step(n_deeper);
    ck_assert_int_gt(no, 100); /* beyond the bound */
    ck_assert_int_gt(yes, 100);
}
END_TEST

/* Code that is loaded later is not in the table and never remembered. */
START_TEST(loaded_later)
{
    char dir[] = "/tmp/weft-safepoint-XXXXXX", cmd[1024];
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(cmd, sizeof(cmd),
             "cd %s && printf '%%s\\n' 'static volatile int s; __thread int t;' "
             "'void good(void) { for (int i = 0; i < 50; i++) s += i; }' "
             "'void bad(void) { t++; good(); t++; }' > m.c && "
             "cc -O2 -fPIC -shared -o m.so m.c 2>/dev/null",
             dir);
    if (system(cmd) != 0) {
        printf("skipped: no compiler\n");
        return;
    }
    prepare();
    snprintf(cmd, sizeof(cmd), "%s/m.so", dir);
    void *lib = dlopen(cmd, RTLD_NOW);
    ck_assert_ptr_nonnull(lib);
    for (int i = 0; i < 2; i++) {
        step((void (*)(void))dlsym(lib, "good"));
        ck_assert_int_gt(yes, 50);
        ck_assert_int_eq(no, 0);
        step((void (*)(void))dlsym(lib, "bad"));
        ck_assert_int_gt(no, 50);
        ck_assert_int_eq(yes, 0);
    }
    dlclose(lib);
    snprintf(cmd, sizeof(cmd), "rm -r %s", dir);
    ck_assert_int_eq(system(cmd), 0);
}
END_TEST

/* ---- time ------------------------------------------------------------------------------------------ */

static double first, warm, library;
static volatile int timed;

static void on_timer(int sig, siginfo_t *si, void *uc)
{
    (void)sig, (void)si;
    timed++;
    if (timed != 5)
        return;
    double t0 = now();
    bool is = safepoint_movable(uc, stack, stack + STACK);
    first = now() - t0;
    ck_assert(is);
    t0 = now();
    for (int i = 0; i < 1000; i++)
        safepoint_movable(uc, stack, stack + STACK);
    warm = (now() - t0) / 1000;
    t0 = now();
    for (int i = 0; i < 1000; i++)
        safepoint_in_library(uc, stack, stack + STACK);
    library = (now() - t0) / 1000;
}

HARMLESS static int f_spin(int n)
{
    int r = 0;
    if (n > 0)
        r = f_spin(n - 1);
    else
        while (timed < 8)
            r++;
    KEEP;
    return r;
}
HARMLESS static void f_time(void)
{
    __asm__ volatile("leaq -128(%%rsp), %%rsp\n\tpushfq\n\tandq $~0x100, (%%rsp)\n\tpopfq\n\t"
                     "leaq 128(%%rsp), %%rsp" ::
                         : "memory", "cc");
    sink = f_spin(5);
    KEEP;
}

START_TEST(takes_time)
{
    prepare();
    struct sigaction sa = {.sa_sigaction = on_timer, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaction(SIGALRM, &sa, NULL);
    setitimer(ITIMER_REAL, &(struct itimerval){{0, 5000}, {0, 5000}}, NULL);
    step(f_time);
    setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 0}}, NULL);
    printf("8 frames: movable %.1f us at first, %.2f us then; in_library %.2f us\n", first, warm,
           library);
    ck_assert(warm > 0 && warm < 100);
}
END_TEST

/* ---- garbage --------------------------------------------------------------------------------------- */

START_TEST(garbage)
{
    prepare();
    static ucontext_t uc;
    static const uintptr_t code[] = {(uintptr_t)f_chain, (uintptr_t)f_aligned,
                                     (uintptr_t)n_qsort, (uintptr_t)qsort,
                                     (uintptr_t)printf,  (uintptr_t)arch_switch};
    uint64_t rng = 12345;
    for (int i = 0; i < 100000; i++) {
        uintptr_t *word = (uintptr_t *)(void *)(stack + STACK - 4096);
        for (int k = 0; k < 64; k++) {
            uint64_t r = rng_next(&rng);
            word[rng_next(&rng) % 512] = r % 3 == 0   ? code[r / 3 % 6] + r % 97
                                         : r % 3 == 1 ? (uintptr_t)word + r % 4096
                                                      : r;
        }
        for (int k = 0; k < 16; k++)
            uc.uc_mcontext.gregs[k] = (greg_t)((uintptr_t)word + rng_next(&rng) % 4096);
        uc.uc_mcontext.gregs[REG_RIP] =
            i % 7 == 0 ? (greg_t)rng_next(&rng) : (greg_t)(code[i % 6] + rng_next(&rng) % 200);
        ck_assert(!safepoint_movable(&uc, stack, stack + STACK));
        safepoint_in_library(&uc, stack, stack + STACK);
    }
}
END_TEST
#endif

/* ---- asked at a trap ------------------------------------------------------------------------------- */

#ifdef CAN_TRAP
static int answers[4], nanswers;
static enum Leave leaves[4];
static uintptr_t left_from;
static bool leaving;

static void put_back(void *from, void *to)
{
    for (void **w = __builtin_frame_address(0); (char *)w < stack + STACK; w++)
        if (*w == from)
            *w = to;
}

static void on_ask(int sig, siginfo_t *si, void *uc)
{
    (void)sig, (void)si;
    if (leaving)
        leaves[nanswers] = safepoint_leave(uc, stack, stack + STACK, &left_from);
    else
        answers[nanswers] = safepoint_movable(uc, stack, stack + STACK);
    nanswers++;
#if defined(__aarch64__)
    ((ucontext_t *)uc)->uc_mcontext.pc += TRAP_SIZE;
#endif
}

static void trapped_main(void *pass)
{
    for (;;) {
        the_case();
        arch_switch(&there, here, pass);
    }
}

static void ask(void (*fn)(void))
{
    nanswers = 0;
    the_case = fn;
    arch_switch(&here, there, NULL);
}

/* Functions of another library than libc that are called at the second call only. In some C libraries
 * some of them are small and set errno: refused. With late binding the first answer comes before there
 * is a function in the slot. */
static volatile bool calls;
static volatile double half = 0.5;
#define LATE(f, type)                                                                              \
    HARMLESS static void late_##f(void)                                                            \
    {                                                                                              \
        TRAP;                                                                                      \
        if (calls)                                                                                 \
            sink = (int)f((type)half);                                                             \
        KEEP;                                                                                      \
    }
LATE(log1p, double)
LATE(log1pf, float)
LATE(ilogb, double)
LATE(ilogbf, float)
LATE(cbrt, double)
LATE(lgamma, double)
LATE(floor, double)
LATE(sin, double)
static void (*const late[])(void) = {late_log1p, late_log1pf, late_ilogb, late_ilogbf,
                                     late_cbrt,  late_lgamma, late_floor, late_sin};

START_TEST(late_binding)
{
    coroutine(on_ask, trapped_main);
    ask(late[_i]);
    int before = answers[0];
    calls = true;
    ask(late[_i]);
    ask(late[_i]);
    int after = answers[0];
    ck_assert_int_eq(safepoint_init(), 0); /* nothing is remembered */
    ask(late[_i]);
    printf("late %d: %s when bound, %s before\n", _i, after ? "allowed" : "refused",
           before ? "allowed" : "refused");
    ck_assert_int_eq(after, answers[0]);
    ck_assert(after || !before); /* one that is chosen when it is bound (IFUNC) is refused first */
}
END_TEST

/* The program, as the table has it. */
static Object *program(void)
{
    Object room;
    return (Object *)(uintptr_t)object_find((uintptr_t)program, &room);
}

static bool slot_has(const Targets *t, uintptr_t at)
{
    for (uint32_t i = 0; i < t->n; i++)
        if (t->at[i] == at)
            return true;
    return false;
}

/* Each of the program's slots that is not bound: is what the loader would take among what is found? */
static int slots_check(void)
{
    const Object *o = program();
    const ElfW(Rela) *rela = (const ElfW(Rela) *)o->tables.relocations;
    int found = 0;
    for (size_t i = 0; i < o->tables.nrelocations; i++) {
        Targets t;
        uintptr_t value, slot = o->base + rela[i].r_offset;
        const ElfW(Sym) *sym = (const ElfW(Sym) *)o->tables.symbols + ELF64_R_SYM(rela[i].r_info);
        const char *name = (const char *)o->tables.strings + sym->st_name;
        if (!object_word(o, slot, &value) || value < o->lo || value >= o->hi || name[0] == 0)
            continue;
        bool told = object_slot(o, slot, &t);
        /* The program's own stub goes for the function itself, if it is not position-independent. */
        bool is = slot_has(&t, (uintptr_t)dlsym(RTLD_DEFAULT, name)) ||
                  slot_has(&t, (uintptr_t)dlsym(RTLD_NEXT, name));
        bool ifunc = t.library && t.n == 0;
        ck_assert_msg(!told || t.giver || ifunc || is, "%s is not found", name);
        found += told && !t.giver;
    }
    return found;
}

START_TEST(late_binding_finds)
{
    ck_assert_int_eq(safepoint_init(), 0);
    Object *libc = (Object *)(uintptr_t)object_find((uintptr_t)dlsym(RTLD_DEFAULT, "qsort"), NULL);
    int n = slots_check(), again = -1, none = 0;
    if (libc != NULL && libc->tables.hash != 0 && libc->tables.gnu_hash != 0) {
        libc->tables.gnu_hash = 0;
        again = slots_check();
        libc->tables.hash = 0;
        none = slots_check(); /* an object that is not understood: nothing is told */
    }
    printf("%d unbound slots found, %d by the old hash table\n", n, again);
    ck_assert(again == -1 || again == n);
    ck_assert_int_eq(none, 0);
}
END_TEST

START_TEST(late_binding_garbage)
{
    ck_assert_int_eq(safepoint_init(), 0);
    Object *libc = (Object *)(uintptr_t)object_find((uintptr_t)dlsym(RTLD_DEFAULT, "qsort"), NULL);
    Object *o = program();
    if (libc == NULL || libc == o)
        return;
    const Tables good = libc->tables, own = o->tables;
    uint64_t rng = 4711;
    for (int i = 0; i < 20000; i++) {
        Targets t;
        uintptr_t *field = (uintptr_t *)&libc->tables + rng_next(&rng) % 4;
        *field = libc->lo + rng_next(&rng) % (libc->hi - libc->lo + 64);
        if (i % 2 == 0)
            libc->tables.gnu_hash = 0;
        if (i % 3 == 0)
            o->tables.symbols = o->lo + rng_next(&rng) % (o->hi - o->lo);
        const ElfW(Rela) *rela = (const ElfW(Rela) *)own.relocations;
        if (own.nrelocations > 0)
            object_slot(o, o->base + rela[(size_t)i % own.nrelocations].r_offset, &t);
        libc->tables = good;
        o->tables = own;
    }
}
END_TEST

/* ---- leaving ---- */

/* The loader has bound a slot, and the function it goes to returns to arch_left_entry. */
HARMLESS static void left_user(void)
{
    void *volatile *ret = (void *volatile *)__builtin_frame_address(0) + 1, *was = *ret;
    *ret = (void *)(uintptr_t)arch_left_entry;
    TRAP;
    *ret = was;
}

START_TEST(left_by_the_user)
{
    leaving = true;
    coroutine(on_ask, trapped_main);
    ask(left_user);
    ck_assert_int_eq(nanswers, 1);
    ck_assert_int_eq(leaves[0], LEAVE_OUTSIDE);
}
END_TEST

static int left_compare(const void *a, const void *b)
{
    if (nanswers == 0) {
        TRAP;
        TRAP;
        put_back((void *)(uintptr_t)arch_left_entry, (void *)left_from);
    }
    return *(const int *)a - *(const int *)b;
}
HARMLESS static void left_qsort(void)
{
    int v[4] = {3, seven, 2, 5};
    qsort(v, 4, sizeof(v[0]), left_compare);
    sink = v[0];
}

START_TEST(left_in_a_library)
{
    leaving = true;
    coroutine(on_ask, trapped_main);
    ask(left_qsort);
    ck_assert_int_eq(nanswers, 2);
    if (leaves[0] == LEAVE_OUTSIDE) /* a static program, perhaps */
        return;
    ck_assert_int_eq(leaves[0], LEAVE_ARRANGED); /* it is arranged now, */
    ck_assert_int_eq(leaves[1], LEAVE_ARRANGED); /* and has been before */
}
END_TEST

/* ---- pages ---- */

#if defined(__aarch64__)
/* The page is made behind the load that uses it, and it is copied. */
HARMLESS static void n_pages(void)
{
    int *p;
    __asm__ volatile(
        "b 1f\n"
        "2: ldr x20, [x20, :got_lo12:__errno_location]\n\tblr x20\n\tmov %0, x0\n\tb 3f\n"
        "1: adrp x19, :got:__errno_location\n\tmov x20, x19\n\tb 2b\n"
        "3:"
        : "=r"(p)
        :
        : "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13",
          "x14", "x15", "x16", "x17", "x18", "x19", "x20", "x30", "memory", "cc");
    TRAP;
    *p = 3;
}

/* Two that differ by the way, as the code has it the harmless one is the last. */
HARMLESS static void n_two_pages(void)
{
    int *p;
    __asm__ volatile("adrp x19, :got:__errno_location\n\tb 1f\n\tadrp x19, _start\n"
                     "1: ldr x20, [x19, :got_lo12:__errno_location]\n\tblr x20\n\tmov %0, x0"
                     : "=r"(p)
                     :
                     : "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11",
                       "x12", "x13", "x14", "x15", "x16", "x17", "x18", "x19", "x20", "x30",
                       "memory", "cc");
    TRAP;
    *p = 3;
}

struct list {
    struct list *field[16], *next;
};
static struct list one, two = {.next = &one};
static int (*volatile pointer)(int) = abs;
HARMLESS static void f_pages(void)
{
    struct list *p = &two;
    for (int i = 0; i < 16; i++)
        two.field[i] = p;
    TRAP;
    for (; p != NULL; p = p->next)
        sink += pointer((int)(p->field[2] - p->field[3]));
}

START_TEST(pages)
{
    coroutine(on_ask, trapped_main);
    ask(f_pages);
    ck_assert_int_eq(answers[0], 1);
    ask(n_pages);
    ck_assert_int_eq(answers[0], 0);
    ask(n_two_pages);
    ck_assert_int_eq(answers[0], 0);
}
END_TEST
#endif
#endif

/* ---- the decoder -------------------------------------------------------------------------------------- */

START_TEST(decoder_stays_inside)
{
    uint8_t *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_int_eq(mprotect(page + 4096, 4096, PROT_NONE), 0);
    uint64_t rng = 99;
    long sizes[16] = {0};
    for (int i = 0; i < 300000; i++) {
        uint8_t *at = page + 4096 - 16;
        for (int k = 0; k < 2; k++) {
            uint64_t r = rng_next(&rng);
            memcpy(at + 8 * k, &r, 8);
        }
        static const uint8_t start[] = {0x0f, 0x66, 0xf3, 0xc5, 0xc4, 0x62, 0x48, 0x64};
        at += rng_next(&rng) % 16;
        if (i % 2 == 0)
            *at = start[i / 2 % 8];
        ArchScan scan = {0};
        ArchInsn insn;
        arch_decode(&scan, at, page + 4096, &insn);
        ck_assert(insn.kind == INSN_BAD ||
                  (insn.size > 0 && insn.size <= 15 && at + insn.size <= page + 4096));
        sizes[insn.size < 16 ? insn.size : 0]++;
        arch_call_before(at, page, &insn);
        arch_stub_slot(at, page + 4096);
    }
    ck_assert_int_gt(sizes[1] + sizes[4], 0);
}
END_TEST

#if defined(__x86_64__)
static long boundaries, wrong, unknown;

/* Every instruction of .text as objdump has it. */
static void compare(const char *path)
{
    char line[512], last[512] = "";
    snprintf(line, sizeof(line), "objdump -d -w --no-show-raw-insn -j .text %s 2>/dev/null", path);
    FILE *image = fopen(path, "r"), *dump = popen(line, "r");
    if (image == NULL || dump == NULL)
        return;
    fseek(image, 0, SEEK_END);
    size_t size = (size_t)ftell(image);
    rewind(image);
    uint8_t *file = malloc(size);
    ck_assert_uint_eq(fread(file, 1, size, image), size);
    const Elf64_Ehdr *e = (const Elf64_Ehdr *)(void *)file;
    const Elf64_Shdr *sh = (const Elf64_Shdr *)(void *)(file + e->e_shoff), *text = sh;
    for (int i = 0; i < e->e_shnum; i++)
        if (strcmp((char *)file + sh[e->e_shstrndx].sh_offset + sh[i].sh_name, ".text") == 0)
            text = &sh[i];
    uintptr_t from = 0;
    while (fgets(line, sizeof(line), dump) != NULL) {
        char *end;
        uintptr_t at = strtoull(line, &end, 16);
        if (line[0] != ' ' || *end != ':') {
            from = 0;
            continue;
        }
        if (from != 0 && strstr(last, "(bad)") == NULL) {
            const uint8_t *p = file + text->sh_offset + (from - text->sh_addr),
                          *q = p + (at - from);
            ArchInsn insn = {.kind = INSN_PLAIN};
            /* objdump joins fwait with what follows. */
            while (p < q && insn.kind != INSN_BAD) {
                arch_decode(&(ArchScan){0}, p, file + text->sh_offset + text->sh_size, &insn);
                p += insn.size;
            }
            boundaries++;
            unknown += insn.kind == INSN_BAD;
            wrong += insn.kind != INSN_BAD && p != q;
            if (insn.kind == INSN_BAD || p != q)
                fprintf(stderr, "%s: %s", path, last);
        }
        from = at;
        strcpy(last, line);
    }
    pclose(dump);
    fclose(image);
    free(file);
}

START_TEST(decoder_agrees_with_objdump)
{
    Dl_info info;
    char self[512];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    ck_assert_int_gt(n, 0);
    self[n] = 0;
    compare(self);
    void *libc = dlopen("libc.so.6", RTLD_NOW);
    if (libc != NULL && dladdr(dlsym(libc, "qsort"), &info) != 0)
        compare(info.dli_fname);
    printf("%ld instructions: %ld wrong, %ld unknown\n", boundaries, wrong, unknown);
    ck_assert_int_eq(wrong, 0);
    ck_assert_int_eq(unknown, 0);
}
END_TEST
#endif

int main(void)
{
    Suite *s = suite_create("safepoint");
    TCase *c = tcase_create("safepoint");
    tcase_set_timeout(c, 60);
#ifdef CAN_STEP
    tcase_add_loop_test(c, allowed, 0, COUNT(harmless));
    tcase_add_loop_test(c, refused, 0, COUNT(harmful));
    tcase_add_test(c, called_back);
    tcase_add_test(c, too_deep);
    tcase_add_test(c, loaded_later);
    tcase_add_test(c, takes_time);
    tcase_add_test(c, garbage);
#endif
#ifdef CAN_TRAP
    tcase_add_loop_test(c, late_binding, 0, COUNT(late));
    tcase_add_test(c, late_binding_finds);
    tcase_add_test(c, late_binding_garbage);
    tcase_add_test(c, left_by_the_user);
    tcase_add_test(c, left_in_a_library);
#if defined(__aarch64__)
    tcase_add_test(c, pages);
#endif
#endif
    tcase_add_test(c, decoder_stays_inside);
#if defined(__x86_64__)
    tcase_add_test(c, decoder_agrees_with_objdump);
#endif
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
