/* SPDX-License-Identifier: MIT
 *
 * check_inject.c: a call injected into code that knows nothing of it, thousands of
 * times at whatever instruction a timer hits. The function called destroys every
 * register and leaves other control words; results must be the same to the bit.
 *
 * Each kernel is first run undisturbed for its result, then disturbed. Kernels keep much
 * in registers, in the flags, below the stack pointer, in the x87 stack. */
#include "config.h"

#include "arch/arch.h"

#include <check.h>
#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>
#include <unwind.h>

enum { STACK = 256 * 1024 };

static void handler_install(int sig, void (*fn)(int, siginfo_t *, void *))
{
    struct sigaction sa = {.sa_sigaction = fn, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
    ck_assert_int_eq(sigaction(sig, &sa, NULL), 0);
}

/* Returns what was there, which a sanitizer wants back before the thread ends. */
static stack_t alternate_install(void)
{
    stack_t ss = {.ss_size = STACK}, before;
    ss.ss_sp = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(ss.ss_sp, MAP_FAILED);
    ck_assert_int_eq(sigaltstack(&ss, &before), 0);
    return before;
}

static void tick(int us)
{
    struct itimerval it = {{0, us}, {0, us}};
    ck_assert_int_eq(setitimer(ITIMER_REAL, &it, NULL), 0);
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

typedef struct {
    uint64_t word[64];
} Result;
typedef void Kernel(Result *out);

/* ---- per processor: kernels, and how to destroy registers ------------------------- */

#if defined(__x86_64__)

static bool has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl");
}

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

__attribute__((target("avx512f,avx512bw,avx512vl"))) static void destroy_avx512(void)
{
    __asm__ volatile(
        ".irp "
        "n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
        "vpternlogd $0xff, %%zmm\\n, %%zmm\\n, %%zmm\\n\n.endr\n"
        ".irp n,0,1,2,3,4,5,6,7\nkxnorq %%k\\n, %%k\\n, %%k\\n\n.endr\n" ::
            : "memory");
}

__attribute__((target("avx2"))) static void destroy_avx2(void)
{
    __asm__ volatile(".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
                     "vpcmpeqd %%ymm\\n, %%ymm\\n, %%ymm\\n\n.endr\n" ::
                         : "memory");
}

/* What C code may expect when it is called: an empty x87 stack, the direction flag clear. */
static bool called_properly(void)
{
    struct {
        uint32_t control, status, tags, rest[4];
    } x87;
    uint64_t flags;
    __asm__ volatile("fnstenv %0\n\tfldenv %0" : "=m"(x87));
    __asm__ volatile("pushfq\n\tpopq %0" : "=r"(flags));
    return (x87.tags & 0xffff) == 0xffff && (flags & 0x400) == 0;
}

/* Leaves everything as the ABI forbids: rounding to zero, single precision, a full x87 stack, the
 * direction flag. All but the stack pointer and the callee-saved ones, which a C function may not lose. */
static void destroy(void)
{
    static const uint32_t mxcsr = 0x7f80;
    static const uint16_t cw = 0x0c7f;
    if (has_avx512())
        destroy_avx512();
    else if (has_avx2())
        destroy_avx2();
    __asm__ volatile(".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
                     "pcmpeqd %%xmm\\n, %%xmm\\n\n.endr\n"
                     "ldmxcsr %0\n\tfldcw %1\n\t"
                     "fld1\n\tfld1\n\tfld1\n\tfld1\n\tfld1\n\tfld1\n\tfld1\n\tfld1\n\t"
                     "movq $-1, %%rax\n\tmovq %%rax, %%rcx\n\tmovq %%rax, %%rdx\n\t"
                     "movq %%rax, %%rsi\n\tmovq %%rax, %%rdi\n\tmovq %%rax, %%r8\n\t"
                     "movq %%rax, %%r9\n\tmovq %%rax, %%r10\n\tmovq %%rax, %%r11\n\t"
                     "addq %%rax, %%rax\n\tstd"
                     :
                     : "m"(mxcsr), "m"(cw)
                     : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc");
}

/* All fifteen registers are live, the carry is across iterations (dec keeps it), so is the direction
 * flag (lods goes down), and the red zone is full of words that each iteration changes. */
void kernel_integer(Result *out);
__asm__(".text\n.globl kernel_integer\n.type kernel_integer, "
        "@function\nkernel_integer:\n.cfi_startproc\n"
        ".irp r,rbp,rbx,r12,r13,r14,r15,rdi\npushq %\\r\n.cfi_adjust_cfa_offset 8\n.endr\n"
        "leaq kernel_words+56(%rip), %rsi\n"
        ".irp o,8,16,24,32,40,48,56,64,72,80,88,96,104,112,120,128\n"
        "movq $\\o, -\\o(%rsp)\n.endr\n"
        "movl $1, %eax\nmovl $2, %ebx\nmovl $3, %ebp\nmovl $4, %edx\nmovl $5, %edi\n"
        "movl $6, %r8d\nmovl $7, %r9d\nmovl $8, %r10d\nmovl $9, %r11d\nmovl $10, %r12d\n"
        "movl $11, %r13d\nmovl $12, %r14d\nmovl $13, %r15d\nmovl $40000, %ecx\n"
        "std\nclc\n"
        "1:\n"
        "adcq %rax, %rbx\nadcq %rbx, %rbp\nadcq %rbp, %rdx\nadcq %rdx, %rdi\n"
        "adcq %rdi, %r8\nadcq %r8, %r9\nadcq %r9, %r10\nadcq %r10, %r11\n"
        "adcq %r11, %r12\nadcq %r12, %r13\nadcq %r13, %r14\nadcq %r14, %r15\n"
        "adcq %r15, %rax\n"
        ".irp o,8,16,24,32,40,48,56,64,72,80,88,96,104,112,120,128\n"
        "adcq %rax, -\\o(%rsp)\n.endr\n"
        "lodsq\n"
        "leaq 8(%rsi), %rsi\n"
        "decl %ecx\n"
        "jnz 1b\n"
        "cld\n"
        "xchgq (%rsp), %rdi\n"
        "movq %rax, (%rdi)\nmovq %rbx, 8(%rdi)\nmovq %rbp, 16(%rdi)\nmovq %rdx, 24(%rdi)\n"
        "movq %r8, 32(%rdi)\nmovq %r9, 40(%rdi)\nmovq %r10, 48(%rdi)\nmovq %r11, 56(%rdi)\n"
        "movq %r12, 64(%rdi)\nmovq %r13, 72(%rdi)\nmovq %r14, 80(%rdi)\nmovq %r15, 88(%rdi)\n"
        ".irp o,8,16,24,32,40,48,56,64,72,80,88,96,104,112,120,128\n"
        "movq -\\o(%rsp), %rax\nmovq %rax, 96+\\o(%rdi)\n.endr\n"
        "movq (%rsp), %rax\nmovq %rax, 240(%rdi)\n"
        "popq %rdi\n.cfi_adjust_cfa_offset -8\n"
        ".irp r,r15,r14,r13,r12,rbx,rbp\npopq %\\r\n.cfi_adjust_cfa_offset -8\n.endr\n"
        "ret\n.cfi_endproc\n.size kernel_integer, . - kernel_integer\n"
        ".data\n.balign 8\nkernel_words: .quad 1,2,3,4,5,6,7,0x8123456789abcdef\n.text\n");

/* Seven values in the x87 stack, 53 bits of precision, rounding up. */
static void kernel_x87(Result *out)
{
    uint16_t cw = 0x0a7f, old;
    long double x[6] = {1.0L / 3, 2.0L / 7, 3.0L / 11, 4.0L / 13, 5.0L / 17, 6.0L / 19};
    __asm__ volatile("fnstcw %0\n\tfldcw %1" : "=m"(old) : "m"(cw));
    __asm__ volatile(
        "fldt 80(%0)\n\tfldt 64(%0)\n\tfldt 48(%0)\n\tfldt 32(%0)\n\tfldt 16(%0)\n\t"
        "fldt (%0)\n\tmovl $30000, %%ecx\n"
        "1:\n\tfadd %%st(0), %%st(1)\n\tfmul %%st(2), %%st(0)\n\tfsqrt\n\t"
        "fld1\n\tfaddp\n\tfxch %%st(3)\n\tfdiv %%st(4), %%st(0)\n\tfabs\n\tfsqrt\n\t"
        "fxch %%st(5)\n\tfxch %%st(1)\n\tfsqrt\n\tdecl %%ecx\n\tjnz 1b\n\t"
        "fstpt (%0)\n\tfstpt 16(%0)\n\tfstpt 32(%0)\n\tfstpt 48(%0)\n\tfstpt 64(%0)\n\t"
        "fstpt 80(%0)"
        :
        : "r"(x)
        : "ecx", "memory", "cc");
    __asm__ volatile("fldcw %0" : : "m"(old));
    for (int i = 0; i < 6; i++)
        memcpy(&out->word[2 * i], &x[i], 10);
}

#define VECTOR_KERNEL(name, target_text, bytes)                                                    \
    __attribute__((target(target_text), noinline)) static void name(Result *out)                   \
    {                                                                                              \
        typedef double V __attribute__((vector_size(bytes)));                                      \
        typedef int64_t I __attribute__((vector_size(bytes)));                                     \
        enum { N = bytes / 8 };                                                                    \
        V v[12];                                                                                   \
        for (int i = 0; i < 12; i++)                                                               \
            for (int k = 0; k < N; k++)                                                            \
                v[i][k] = 1.0 + (i * 8 + k) / 97.0;                                                \
        for (int r = 0; r < 20000; r++)                                                            \
            for (int i = 0; i < 12; i++) {                                                         \
                v[i] = v[i] * 0.9990234375 + v[(i + 5) % 12] * 0.001;                              \
                I m = v[i] > 1.5;                                                                  \
                v[i] = (V)(((I)(v[i] - 0.25) & m) | ((I)(v[i] + 0.0078125) & ~m));                 \
            }                                                                                      \
        V sum = v[0];                                                                              \
        for (int i = 1; i < 12; i++)                                                               \
            sum = sum * 1.0009765625 + v[i];                                                       \
        memcpy(out->word, &sum, sizeof(sum));                                                      \
    }
VECTOR_KERNEL(kernel_sse, "sse2", 16)
VECTOR_KERNEL(kernel_avx2, "avx2,fma", 32)
VECTOR_KERNEL(kernel_avx512, "avx512f,avx512bw,avx512vl,avx512dq", 64)

static void kernel_rounding(Result *out)
{
    fesetround(FE_UPWARD);
    kernel_sse(out);
    fesetround(FE_TONEAREST);
}

static const struct {
    const char *name;
    Kernel *run;
    bool (*possible)(void);
} kernels[] = {
    {"integer, flags, red zone", kernel_integer, NULL},
    {"x87", kernel_x87, NULL},
    {"sse", kernel_sse, NULL},
    {"sse, rounding up", kernel_rounding, NULL},
    {"avx2", kernel_avx2, has_avx2},
    {"avx512", kernel_avx512, has_avx512},
};

/* For the unwinding test: a leaf that keeps busy. */
void spin(volatile int *until);
extern const char spin_end[];
__asm__(".text\n.globl spin, spin_end\n.type spin, @function\nspin:\n.cfi_startproc\n"
        "movq $0x1111, -8(%rsp)\nmovq $0x2222, -128(%rsp)\n"
        "1: incq %rax\ncmpl $0, (%rdi)\nje 1b\n"
        "cmpq $0x1111, -8(%rsp)\njne 2f\ncmpq $0x2222, -128(%rsp)\njne 2f\nret\n2: ud2\n"
        ".cfi_endproc\nspin_end:\n.size spin, . - spin\n");

#elif defined(__aarch64__)

static bool called_properly(void)
{
    return true;
}

static void destroy(void)
{
    __asm__ volatile(
        ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\nmovi v\\n\\().16b, #255\n.endr\n"
        ".irp n,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
        "movi v\\n\\().16b, #255\n.endr\n"
        ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18\nmov x\\n, #-1\n.endr\n"
        "mov x0, #0x400000\nmsr fpcr, x0\ncmp x0, x0\n"
        :
        :
        : "memory", "cc", "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11",
          "x12", "x13", "x14", "x15", "x16", "x17", "x18");
}

/* Registers and the carry flag live across iterations. */
void kernel_integer(Result *out);
__asm__(".text\n.globl kernel_integer\n.type kernel_integer, "
        "%function\nkernel_integer:\n.cfi_startproc\n"
        "stp x19, x20, [sp, #-96]!\n.cfi_adjust_cfa_offset 96\n"
        "stp x21, x22, [sp, #16]\nstp x23, x24, [sp, #32]\nstp x25, x26, [sp, #48]\n"
        "stp x27, x28, [sp, #64]\nstp x29, x30, [sp, #80]\n"
        ".irp n,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29\n"
        "mov x\\n, #\\n\n.endr\n"
        "ldr x30, =40000\ncmn xzr, xzr\n"
        "1:\n"
        "adcs x1, x1, x29\n"
        ".irp n,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29\n"
        "adcs x\\n, x\\n, x1\neor x1, x1, x\\n, ror #7\n.endr\n"
        "sub x30, x30, #1\ncbnz x30, 1b\n"
        ".irp n,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29\n"
        "str x\\n, [x0, #8*\\n]\n.endr\n"
        "ldp x29, x30, [sp, #80]\nldp x27, x28, [sp, #64]\nldp x25, x26, [sp, #48]\n"
        "ldp x23, x24, [sp, #32]\nldp x21, x22, [sp, #16]\nldp x19, x20, [sp], #96\n"
        ".cfi_adjust_cfa_offset -96\nret\n.ltorg\n.cfi_endproc\n"
        ".size kernel_integer, . - kernel_integer\n");

static void kernel_neon(Result *out)
{
    typedef double V __attribute__((vector_size(16)));
    typedef int64_t I __attribute__((vector_size(16)));
    V v[12];
    for (int i = 0; i < 12; i++)
        for (int k = 0; k < 2; k++)
            v[i][k] = 1.0 + (i * 8 + k) / 97.0;
    for (int r = 0; r < 20000; r++)
        for (int i = 0; i < 12; i++) {
            v[i] = v[i] * 0.9990234375 + v[(i + 5) % 12] * 0.001;
            I m = v[i] > 1.5;
            v[i] = (V)(((I)(v[i] - 0.25) & m) | ((I)(v[i] + 0.0078125) & ~m));
        }
    for (int i = 0; i < 12; i++)
        memcpy(&out->word[2 * i], &v[i], sizeof(v[i]));
}

static void kernel_rounding(Result *out)
{
    fesetround(FE_UPWARD);
    kernel_neon(out);
    fesetround(FE_TONEAREST);
}

static const struct {
    const char *name;
    Kernel *run;
    bool (*possible)(void);
} kernels[] = {
    {"integer, flags", kernel_integer, NULL},
    {"neon", kernel_neon, NULL},
    {"neon, rounding up", kernel_rounding, NULL},
};

void spin(volatile int *until);
extern const char spin_end[];
__asm__(".text\n.globl spin, spin_end\n.type spin, %function\nspin:\n.cfi_startproc\n"
        "1: add x1, x1, #1\nldr w2, [x0]\ncbz w2, 1b\nret\n"
        ".cfi_endproc\nspin_end:\n.size spin, . - spin\n");
#endif

/* ---- bit-exact ---------------------------------------------------------------------- */

static volatile sig_atomic_t inside;
static _Atomic long injected;
static bool refused, improper;

static void injected_call(void)
{
    injected++;
    improper |= !called_properly();
    destroy();
    inside = 0;
}

static void on_tick(int sig, siginfo_t *si, void *uc)
{
    (void)sig, (void)si;
    if (inside)
        return;
    inside = 1;
    if (!arch_inject(uc, injected_call)) {
        refused = true;
        inside = 0;
    }
}

START_TEST(bit_exact)
{
    if (kernels[_i].possible != NULL && !kernels[_i].possible()) {
        printf("skipped: no %s here\n", kernels[_i].name);
        return;
    }
    Result want = {0}, is;
    kernels[_i].run(&want);
    alternate_install();
    handler_install(SIGALRM, on_tick);
    tick(100);
    long runs = 0;
    for (double end = seconds() + 0.7; seconds() < end; runs++) {
        memset(&is, 0, sizeof(is));
        kernels[_i].run(&is);
        ck_assert_msg(memcmp(&is, &want, sizeof(is)) == 0, "%s: run %ld, after %ld calls",
                      kernels[_i].name, runs, (long)injected);
    }
    tick(0);
    ck_assert(!refused);
    ck_assert(!improper);
    ck_assert_int_gt(injected, 200);
    printf("%s: %ld calls in %ld runs\n", kernels[_i].name, (long)injected, runs);
}
END_TEST

/* ---- unwinding ------------------------------------------------------------------------ */

static volatile int enough;
static uintptr_t interrupted_pc, interrupted_sp;

typedef struct {
    uintptr_t sp; /* of the frame at interrupted_pc */
    bool exact;
    uintptr_t above; /* its caller */
} Trace;

static _Unwind_Reason_Code trace_frame(struct _Unwind_Context *c, void *arg)
{
    Trace *t = arg;
    int before = 0;
    uintptr_t pc = _Unwind_GetIPInfo(c, &before);
    if (t->exact && t->above == 0)
        t->above = pc;
    if (pc == interrupted_pc && before) {
        t->exact = true;
        t->sp = _Unwind_GetCFA(c);
    }
    return _URC_NO_REASON;
}

static Trace trace_seen;

static void injected_trace(void)
{
    _Unwind_Backtrace(trace_frame, &trace_seen);
    enough = 1;
}

static void on_tick_trace(int sig, siginfo_t *si, void *uc)
{
    (void)sig, (void)si;
    ArchContext c;
    arch_ucontext(uc, &c);
    if (interrupted_pc != 0 || c.pc < (uintptr_t)spin || c.pc >= (uintptr_t)spin_end)
        return;
    interrupted_pc = c.pc;
    interrupted_sp = c.sp;
    if (!arch_inject(uc, injected_trace))
        abort();
}

static __attribute__((noinline)) void spin_caller(void)
{
    spin(&enough);
    __asm__ volatile("" ::: "memory");
}

START_TEST(unwinds_to_the_interrupted)
{
    alternate_install();
    handler_install(SIGALRM, on_tick_trace);
    tick(1000);
    spin_caller();
    tick(0);
    ck_assert(trace_seen.exact);
    ck_assert(trace_seen.above > (uintptr_t)spin_caller &&
              trace_seen.above < (uintptr_t)spin_caller + 64);
}
END_TEST

#if defined(__x86_64__)

/* Every instruction of the trampoline, by the trap flag: the unwinder must find the
 * interrupted instruction with all its registers. */
extern const char arch_inject_entry[];
enum { TRAP_FLAG = 0x100, TRAMPOLINE = 0xdd };

static int steps, steps_right;
static greg_t live[16]; /* by DWARF number */
static const uint8_t number[16] = {REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI,
                                   REG_RBP, REG_RSP, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                   REG_R12, REG_R13, REG_R14, REG_R15};

static bool step_regs_right;

static _Unwind_Reason_Code step_frame(struct _Unwind_Context *c, void *arg)
{
    bool *found = arg;
    int before = 0;
    if (_Unwind_GetIPInfo(c, &before) != interrupted_pc || !before)
        return _URC_NO_REASON;
    *found = true;
    step_regs_right = true;
    for (int i = 0; i < 16; i++)
        if (i != 7 && _Unwind_GetGR(c, i) != (uintptr_t)live[i])
            step_regs_right = false;
    return _URC_END_OF_STACK;
}

static void on_trap(int sig, siginfo_t *si, void *ucv)
{
    (void)sig, (void)si;
    ucontext_t *uc = ucv;
    uintptr_t pc = (uintptr_t)uc->uc_mcontext.gregs[REG_RIP];
    if (pc == interrupted_pc) {
        uc->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
        for (int i = 0; i < 16; i++)
            if (uc->uc_mcontext.gregs[number[i]] != live[i])
                abort();
        enough = 1;
        return;
    }
    if (pc < (uintptr_t)arch_inject_entry || pc >= (uintptr_t)arch_inject_entry + TRAMPOLINE)
        return;
    bool found = false;
    step_regs_right = false;
    _Unwind_Backtrace(step_frame, &found);
    steps++;
    if (found && step_regs_right)
        steps_right++;
    else
        fprintf(stderr, "at +%#lx: %s\n", (long)(pc - (uintptr_t)arch_inject_entry),
                found ? "a register is wrong" : "not found");
}

static void injected_nothing(void)
{
}

static void on_tick_step(int sig, siginfo_t *si, void *ucv)
{
    (void)sig, (void)si;
    ucontext_t *uc = ucv;
    uintptr_t pc = (uintptr_t)uc->uc_mcontext.gregs[REG_RIP];
    if (interrupted_pc != 0 || pc < (uintptr_t)spin || pc >= (uintptr_t)spin_end)
        return;
    interrupted_pc = pc;
    for (int i = 0; i < 16; i++)
        live[i] = uc->uc_mcontext.gregs[number[i]];
    if (!arch_inject(uc, injected_nothing))
        abort();
    uc->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
}

START_TEST(unwinds_at_every_instruction)
{
    alternate_install();
    handler_install(SIGALRM, on_tick_step);
    handler_install(SIGTRAP, on_trap);
    tick(1000);
    spin_caller();
    tick(0);
    ck_assert_int_gt(steps, 50);
    ck_assert_int_eq(steps, steps_right);
}
END_TEST
#endif

/* ---- another thread -------------------------------------------------------------------- */

/* A coroutine that computes, on a stack of its own; two threads take turns in running it, each until
 * its next tick. */
static void *away;            /* the coroutine */
static void *home[2];         /* the threads */
static _Atomic int turn = -1; /* whose it is */
static _Atomic int running = -1;
static _Atomic bool finished;
static _Atomic long moves;
static char *coroutine_stack;
static Result away_want[8];
static bool away_right = true;

static void injected_move(void)
{
    int me = running;
    running = -1;
    moves++;
    arch_switch(&away, home[me], NULL);
    /* on the other thread */
}

static void on_tick_move(int sig, siginfo_t *si, void *uc)
{
    (void)sig, (void)si;
    ArchContext c;
    arch_ucontext(uc, &c);
    if (running < 0 || c.sp < (uintptr_t)coroutine_stack ||
        c.sp >= (uintptr_t)coroutine_stack + STACK)
        return;
    if (!arch_inject(uc, injected_move))
        abort();
}

static void away_main(void *pass)
{
    (void)pass;
    for (double end = seconds() + 1; seconds() < end;) {
        for (size_t i = 0; i < sizeof(kernels) / sizeof(kernels[0]); i++) {
            Result is = {0};
            if (kernels[i].possible != NULL && !kernels[i].possible())
                continue;
            kernels[i].run(&is);
            away_right &= memcmp(&is, &away_want[i], sizeof(is)) == 0;
        }
    }
    finished = true;
    int me = running;
    running = -1;
    arch_switch(&away, home[me], NULL);
}

static void *taker(void *arg)
{
    int me = (int)(intptr_t)arg;
    stack_t before = alternate_install();
    while (!finished) {
        if (turn != me) {
            struct timespec t = {0, 20000};
            nanosleep(&t, NULL);
            continue;
        }
        running = me;
        arch_switch(&home[me], away, NULL);
        turn = !me;
    }
    sigaltstack(&before, NULL);
    return NULL;
}

START_TEST(moves_to_another_thread)
{
    pthread_t t[2];
    for (size_t i = 0; i < sizeof(kernels) / sizeof(kernels[0]); i++)
        if (kernels[i].possible == NULL || kernels[i].possible())
            kernels[i].run(&away_want[i]);
    handler_install(SIGUSR1, on_tick_move);
    coroutine_stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(coroutine_stack, MAP_FAILED);
    away = arch_prepare(coroutine_stack + STACK, away_main);
    for (int i = 0; i < 2; i++)
        pthread_create(&t[i], NULL, taker, (void *)(intptr_t)i);
    turn = 0;
    while (!finished) {
        struct timespec ts = {0, 100000};
        nanosleep(&ts, NULL);
        int who = running;
        if (who >= 0 && !finished)
            pthread_kill(t[who], SIGUSR1);
    }
    for (int i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
    ck_assert(away_right);
    ck_assert_int_gt(moves, 100);
    printf("%ld moves between two threads\n", (long)moves);
}
END_TEST

/* ---- cost --------------------------------------------------------------------------------- */

START_TEST(space)
{
    size_t n = arch_inject_space();
    ck_assert_uint_gt(n, 256);
    ck_assert_uint_lt(n, 16384);
    printf("an injected call needs %zu bytes of stack\n", n);
}
END_TEST

int main(void)
{
#ifdef WEFT_TSAN
    puts("skipped: under the thread sanitizer nothing is injected");
    return 77;
#endif
    Suite *s = suite_create("inject");
    TCase *c = tcase_create("inject");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, space);
    tcase_add_loop_test(c, bit_exact, 0, (int)(sizeof(kernels) / sizeof(kernels[0])));
    tcase_add_test(c, unwinds_to_the_interrupted);
#if defined(__x86_64__)
    tcase_add_test(c, unwinds_at_every_instruction);
#endif
    tcase_add_test(c, moves_to_another_thread);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
