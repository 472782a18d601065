/* SPDX-License-Identifier: MIT
 *
 * stress_preempt.c: plain C library code and arithmetic in coroutines that are
 * stopped every 200, then every 50 microseconds. Every result is checked.
 *
 * A unit of work makes no weft call; what it leaves behind is compared with what
 * the same work gave before the run, or with what it must be by its meaning. At
 * its end an ordinary coroutine must be on the thread on which it began, with the
 * errno and the rounding mode that are its own. Between units a worker yields or
 * sleeps, and may go on elsewhere. There are at least three of a kind that touches
 * what threads share (malloc, streams, the time zone), and the arithmetic runs
 * twice: in coroutines that may be moved and in ones that may not.
 *
 * WEFT_STRESS_SECONDS long (2), half of it under either storm; a storm named in
 * WEFT_DEBUG is used instead of both. Beside a chaos seed there is one all the same. */
#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <fenv.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <regex.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

#define WEFT_KEEP_ERRNO /* a unit of work stays on its thread: plain errno is right in it */
#include "tests/behaviour/preempt_test.h"
#include "tests/stress/stress.h"

typedef struct Work Work;
struct Work {
    const char *name;
    void (*unit)(Work *);
    unsigned flags;
    uint32_t seed;
    int id;
    uint64_t units;
    FILE *file;    /* of its own */
    uint64_t want; /* of the arithmetic: what it was before the run */
    uint64_t (*arithmetic)(void);
};

/* ---- malloc ------------------------------------------------------------------------ */

enum { BLOCKS = 24, EXCHANGE = 16 };
typedef struct {
    size_t n;
    unsigned char tag, data[];
} Block;
static _Atomic(Block *) exchange[EXCHANGE]; /* blocks pass from worker to worker */

static Block *block_new(uint32_t *s)
{
    size_t n = next(s) % 64 == 0 ? next(s) % 300000 : next(s) % 600;
    Block *b = malloc(sizeof *b + n);
    OK(b != NULL);
    b->n = n;
    b->tag = (unsigned char)next(s);
    memset(b->data, b->tag, n);
    return b;
}

static void block_free(Block *b)
{
    if (b == NULL)
        return;
    for (size_t i = 0; i < b->n; i++)
        OK(b->data[i] == b->tag);
    free(b);
}

static void unit_malloc(Work *w)
{
    Block *b[BLOCKS];
    for (int i = 0; i < BLOCKS; i++)
        b[i] = block_new(&w->seed);
    for (int i = 0; i < BLOCKS; i += 3) {
        size_t n = b[i]->n / 2 + next(&w->seed) % 100, was = b[i]->n;
        b[i] = realloc(b[i], sizeof *b[i] + n);
        OK(b[i] != NULL);
        if (n > was)
            memset(b[i]->data + was, b[i]->tag, n - was);
        b[i]->n = n;
    }
    for (int i = 0; i < BLOCKS; i++)
        block_free(i % 2 ? b[i] : atomic_exchange(&exchange[next(&w->seed) % EXCHANGE], b[i]));
    char *z = calloc(1, 257);
    OK(z != NULL && z[0] == 0 && memchr(z, 1, 257) == NULL);
    free(z);
}

/* ---- text ---------------------------------------------------------------------------- */

static void unit_text(Work *w)
{
    char s[200], name[20], *end;
    for (int k = 0; k < 20; k++) {
        double d = ldexp((double)next(&w->seed) - 8e6, (int)(next(&w->seed) % 120) - 60), e = 0;
        long long n = (long long)next(&w->seed) * next(&w->seed), m = 0;
        unsigned u = next(&w->seed), v = 0;
        int len = snprintf(s, sizeof s, "%.17g %lld %x name%d", d, n, u, w->id);
        OK(len == (int)strlen(s));
        OK(sscanf(s, "%lf %lld %x %19s", &e, &m, &v, name) == 4);
        OK(d == e && n == m && u == v && atoi(name + 4) == w->id);
        OK(strtod(s, &end) == d && *end == ' ');
        OK(strtoll(end, &end, 10) == n && *end == ' ');
        OK(strtoul(end, NULL, 16) == u);
    }
    OK(snprintf(s, sizeof s, "%Lf|%5.2e|%-8s|%+d", 1.5L, 12345.678, "ab", w->id) > 20);
    OK(strncmp(s, "1.500000|1.23e+04|ab      |+", 28) == 0);
}

static void unit_words(Work *w)
{
    char s[128], out[128], *save = NULL;
    wchar_t wide[128];
    regex_t re;
    regmatch_t at[2];
    int n = 0;
    snprintf(s, sizeof s, "alpha%u Beta;gamma-%d, delta", next(&w->seed), w->id);
    for (const char *p = s; *p != '\0'; p++)
        n += isalpha((unsigned char)*p) != 0;
    OK(n == 5 + 4 + 5 + 5);
    OK(mbstowcs(wide, s, 128) == strlen(s) && wcstombs(out, wide, sizeof out) == strlen(s));
    OK(strcmp(s, out) == 0 && strcoll(s, out) == 0);
    OK(regcomp(&re, "gamma-([0-9]+)", REG_EXTENDED) == 0);
    OK(regexec(&re, s, 2, at, 0) == 0 && atoi(s + at[1].rm_so) == w->id);
    regfree(&re);
    n = 0;
    for (char *t = strtok_r(s, " ;,", &save); t != NULL; t = strtok_r(NULL, " ;,", &save))
        n++;
    OK(n == 4);
    OK(getenv("WEFT_DEBUG") != NULL);
}

/* ---- qsort --------------------------------------------------------------------------- */

static int by_key(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    return (x[0] > y[0]) - (x[0] < y[0]);
}

static void unit_sort(Work *w)
{
    enum { N = 700 };
    static _Thread_local int here; /* read only between weft calls */
    uint32_t v[N][3], key;
    int before = ++here;
    for (int i = 0; i < N; i++) {
        v[i][0] = next(&w->seed);
        v[i][1] = ~v[i][0];
        v[i][2] = v[i][0] * 3;
    }
    key = v[N / 2][0];
    qsort(v, N, sizeof v[0], by_key);
    for (int i = 0; i < N; i++) {
        OK(i == 0 || v[i - 1][0] <= v[i][0]);
        OK(v[i][1] == ~v[i][0] && v[i][2] == v[i][0] * 3);
    }
    const uint32_t *found = bsearch(&key, v, N, sizeof v[0], by_key);
    OK(found != NULL && found[0] == key);
    OK(here == before); /* nobody else has run on this thread meanwhile */
}

/* ---- dates --------------------------------------------------------------------------- */

static void unit_dates(Work *w)
{
    for (int k = 0; k < 10; k++) {
        time_t t = (time_t)next(&w->seed) * 97;
        struct tm local, utc, back = {0};
        char s[64];
        OK(localtime_r(&t, &local) == &local && gmtime_r(&t, &utc) == &utc);
        struct tm again = local;
        OK(mktime(&again) == t && timegm(&utc) == t);
        OK(strftime(s, sizeof s, "%Y-%m-%d %H:%M:%S", &utc) == 19);
        OK(strptime(s, "%Y-%m-%d %H:%M:%S", &back) != NULL && timegm(&back) == t);
    }
}

/* ---- streams --------------------------------------------------------------------------- */

static void unit_own_file(Work *w)
{
    char line[100];
    int k = 0, id, number;
    unsigned check;
    rewind(w->file);
    for (; k < 60; k++)
        OK(fprintf(w->file, "%d %d %u\n", w->id, k, (unsigned)(w->id * 1000 + k) * 2654435761u) >
           0);
    OK(fflush(w->file) == 0);
    rewind(w->file);
    for (k = 0; k < 60; k++) {
        OK(fgets(line, sizeof line, w->file) != NULL);
        OK(sscanf(line, "%d %d %u", &id, &number, &check) == 3);
        OK(id == w->id && number == k && check == (unsigned)(id * 1000 + k) * 2654435761u);
    }
    OK(!ferror(w->file));
}

static FILE *common;
static uint64_t common_lines; /* in it now; common's lock */

/* Everything in it is as it was written; then empty it. */
static void check_common(void)
{
    char line[100];
    uint64_t n = 0;
    unsigned id, r, check;
    OK(fflush(common) == 0);
    rewind(common);
    for (; fgets(line, sizeof line, common) != NULL; n++) {
        OK(sscanf(line, "%u %u %u", &id, &r, &check) == 3);
        OK(check == (id ^ (r * 2654435761u)));
    }
    OK(n == common_lines);
    rewind(common);
    OK(ftruncate(fileno(common), 0) == 0);
    common_lines = 0;
}

/* A line of three pieces; nobody else's may come between. */
static void unit_common_file(Work *w)
{
    for (int k = 0; k < 10; k++) {
        unsigned r = next(&w->seed);
        flockfile(common);
        fprintf(common, "%d ", w->id);
        fprintf(common, "%u ", r);
        fprintf(common, "%u\n", (unsigned)w->id ^ (r * 2654435761u));
        if (++common_lines > 20000)
            check_common();
        funlockfile(common);
    }
}

/* ---- errno, jumps, rounding -------------------------------------------------------------- */

static __attribute__((noinline)) void spend(int n)
{
    for (volatile int i = 0; i < n; i++)
        ;
}

static void unit_errno(Work *w)
{
    errno = 1000 + w->id;
    spend(20000);
    OK(errno == 1000 + w->id);
    OK(open("/no/such/file", O_RDONLY) == -1);
    spend(5000);
    OK(errno == ENOENT);
    OK(close(-1) == -1);
    spend(5000);
    OK(errno == EBADF);
    errno = 0;
    (void)!strtol("99999999999999999999999999", NULL, 10);
    OK(errno == ERANGE);
    errno = 1000 + w->id;
    pthread_t self = pthread_self();
    spend(20000);
    OK(pthread_equal(self, pthread_self()) && errno == 1000 + w->id);
}

static volatile bool never;

static __attribute__((noinline)) void leap(jmp_buf to, int depth, int value)
{
    volatile char pad[200];
    memset((void *)pad, depth, sizeof pad);
    if (depth > 0 && !never)
        leap(to, depth - 1, value);
    OK(pad[0] == pad[199]);
    if (!never)
        longjmp(to, value);
}

static void unit_jump(Work *w)
{
    jmp_buf here;
    for (volatile int k = 1; k < 40; k++) {
        int v = setjmp(here);
        if (v == 0)
            leap(here, k, k + w->id);
        OK(v == k + w->id);
    }
}

static const int rounding[] = {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO, FE_TONEAREST};

static void unit_rounding(Work *w)
{
    int mode = rounding[w->id % 4];
    volatile double one = 1, tiny = 1e-30, minus = -1, x = 2.3;
    OK(fesetround(mode) == 0); /* kept across the yield as well */
    for (int k = 0; k < 30; k++) {
        spend(500);
        OK(fegetround() == mode);
        OK((one + tiny > 1) == (mode == FE_UPWARD));
        OK((minus - tiny < -1) == (mode == FE_DOWNWARD));
    }
    OK(rint(x) == (mode == FE_UPWARD ? 3 : 2));
}

/* ---- arithmetic ------------------------------------------------------------------------------ */

/* Each returns the bits of its result. None calls anything, so that where it may
 * be moved it can be; the state lives in registers for most of the time. */

static uint64_t arith_integer(void)
{
    uint64_t a = 1, b = 2, c = 3, d = 4, e = 5, f = 6;
    for (int i = 0; i < 20000; i++) {
        a = a * 6364136223846793005u + b;
        b = (b << 13 | b >> 51) ^ c;
        c += d * (a | 1);
        d = d / ((e & 0xff) + 1) + f;
        e ^= a >> (i & 31);
        f = (f + e) * 3 + (a > b);
    }
    return a ^ b ^ c ^ d ^ e ^ f;
}

static uint64_t arith_double(void)
{
    double x = 0.5, y = 0.25, z = 0.125, sum = 0;
    for (int i = 1; i < 20000; i++) {
        x = x * 3.7 * (1 - x);
        y = y + 1.0 / i;
        z = __builtin_sqrt(z + y) * 0.5 + x / (y + 1);
        sum += x * z - y * 1e-3;
    }
    uint64_t bits;
    memcpy(&bits, &sum, sizeof bits);
    return bits;
}

/* x87 on x86-64: eight registers deep, 64 bits of mantissa. */
static uint64_t arith_long_double(void)
{
    long double a = 1, b = 3, c = 7, d = 11, sum = 0;
    for (int i = 1; i < 10000; i++) {
        a = a * 1.0000001L + b / (c + (long double)i);
        b = b - a * 1e-7L + 1 / (d + 1);
        c = c * 0.9999L + d * 0.0001L;
        d = d + a / (b * b + 1) - c * 1e-3L;
        sum += (a - b) * (c - d);
    }
    unsigned char bytes[sizeof sum] = {0};
    memcpy(bytes, &sum, sizeof sum > 10 ? 10 : sizeof sum);
    uint64_t lo;
    uint16_t hi;
    memcpy(&lo, bytes, 8);
    memcpy(&hi, bytes + 8, 2);
    return lo ^ hi;
}

/* The same source three times, for three widths of vectors. */
typedef double V8 __attribute__((vector_size(64)));
typedef uint64_t U8 __attribute__((vector_size(64)));
#define ARITH_VECTOR(name, attribute)                                                              \
    attribute static uint64_t name(void)                                                           \
    {                                                                                              \
        V8 x = {1, 2, 3, 4, 5, 6, 7, 8}, y = x * 0.5, z = x + y;                                   \
        U8 u = {1, 3, 5, 7, 9, 11, 13, 15}, v = u * 77;                                            \
        for (int i = 0; i < 6000; i++) {                                                           \
            x = x * 0.999 + y * 0.001;                                                             \
            y = y - z * 0.01 + 0.05;                                                               \
            z = z * 0.5 + x / (y * y + 1.0);                                                       \
            u = u * 3 + v;                                                                         \
            v = (v << 7) ^ (u >> 9);                                                               \
        }                                                                                          \
        V8 s = x + y * z;                                                                          \
        uint64_t bits[8], sum = 0;                                                                 \
        memcpy(bits, &s, sizeof bits);                                                             \
        for (int i = 0; i < 8; i++)                                                                \
            sum = (sum << 5 | sum >> 59) ^ bits[i] ^ u[i] ^ v[i];                                  \
        return sum;                                                                                \
    }
ARITH_VECTOR(arith_vector, )
#if defined(__x86_64__)
ARITH_VECTOR(arith_avx2, __attribute__((target("avx2,fma"))))
ARITH_VECTOR(arith_avx512, __attribute__((target("avx512f,avx512dq,avx512vl"))))
#endif

static void unit_arithmetic(Work *w)
{
    uint64_t got = w->arithmetic();
    if (got != w->want) {
        fprintf(stderr, "stress_preempt: %s: %llx, not %llx\n", w->name, (unsigned long long)got,
                (unsigned long long)w->want);
        abort();
    }
}

/* ---- the workers -------------------------------------------------------------------------------- */

static Work works[48];
static int nworks;
static weft_wg_t all;
static int64_t end;

static void add(const char *name, void (*unit)(Work *), int n)
{
    for (int i = 0; i < n; i++, nworks++)
        works[nworks] = (Work){.name = name, .unit = unit, .id = nworks, .seed = (uint32_t)nworks};
}

/* Once to stay and once to move. */
static void add_arithmetic(const char *name, uint64_t (*fn)(void))
{
    add(name, unit_arithmetic, 2);
    for (int i = nworks - 2; i < nworks; i++) {
        works[i].arithmetic = fn;
        works[i].want = fn();
        works[i].flags = i == nworks - 1 ? WEFT_MOVABLE : 0;
    }
}

static void worker(void *arg)
{
    Work *w = arg;
    while (weft_now() < end) {
        int tid = gettid();
        w->unit(w);
        w->units++;
        OK((w->flags & WEFT_MOVABLE) != 0 || gettid() == tid);
        switch (next(&w->seed) % 8) {
        case 0:
            weft_sleep(next(&w->seed) % 300000);
            break;
        case 1:
            weft_yield();
            break;
        }
    }
    fesetround(FE_TONEAREST);
    weft_wg_done(&all);
}

static int entry(void *arg)
{
    end = weft_now() + (int64_t)(*(double *)arg * 1e9);
    OK(weft_wg_add(&all, nworks) == 0);
    for (int i = 0; i < nworks; i++) {
        weft_attr_t attr = {.name = works[i].name, .flags = works[i].flags};
        OK(weft_go_with(&attr, worker, &works[i]) == 0);
    }
    OK(weft_wg_wait(&all) == 0);
    printf("%s: ", getenv("WEFT_DEBUG"));
    print_preemptions("stress_preempt");
    OK(storm_seen());
    return 0;
}

static void make_works(void)
{
    add("malloc", unit_malloc, 3);
    add("text", unit_text, 2);
    add("words", unit_words, 1);
    add("sort", unit_sort, 2);
    add("dates", unit_dates, 2);
    add("own file", unit_own_file, 2);
    add("common file", unit_common_file, 3);
    add("errno", unit_errno, 2);
    add("jump", unit_jump, 1);
    add("rounding", unit_rounding, 3);
    add_arithmetic("integer", arith_integer);
    add_arithmetic("double", arith_double);
    add_arithmetic("long double", arith_long_double);
    add_arithmetic("vector", arith_vector);
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        add_arithmetic("avx2", arith_avx2);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        add_arithmetic("avx512", arith_avx512);
#endif
    for (int i = 0; i < nworks; i++) {
        works[i].file = works[i].unit == unit_own_file ? tmpfile() : NULL;
        OK(works[i].unit != unit_own_file || works[i].file != NULL);
    }
}

int main(void)
{
#ifdef WEFT_TSAN
    puts("skipped: with the thread sanitizer there is no preemption");
    return 0;
#endif
    double seconds = stress_seconds();
    static const char *const storms[] = {"200", "50"};
    bool given = storm_given();
    weft_config_t cfg = {.stack = test_stack(), .procs = 2};
    int rc = 0;
    setlocale(LC_ALL, "C.UTF-8");
    make_works();
    common = tmpfile();
    OK(common != NULL);
    if (given)
        rc = weft_run_with(&cfg, entry, &seconds);
    seconds /= 2;
    for (int i = 0; i < 2 && !given && rc == 0; i++) {
        storm(storms[i]);
        rc = weft_run_with(&cfg, entry, &seconds);
    }
    check_common();
    for (int i = 0; i < nworks; i++) {
        printf("%s%s: %llu%s", works[i].name, works[i].flags ? " (movable)" : "",
               (unsigned long long)works[i].units, i % 6 == 5 || i == nworks - 1 ? "\n" : "; ");
        OK(works[i].units > 0);
    }
    return rc == 0 ? 0 : 1;
}
