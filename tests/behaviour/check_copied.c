/* SPDX-License-Identifier: MIT
 *
 * check_copied.c: copied stacks, on so few windows that every switch copies: what lies on a stack
 * survives, who shares a window waits for it, what goes to others goes past the stack, memory comes back.
 */
#include "behaviour.h"
#include "preempt_test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

/* Every test runs with 1, 2 and 4 processors, and with 1 and 2 windows. */
enum { WINDOWS = 2, WAYS = NPROCS * WINDOWS };

static void windows(int n)
{
    const char *old = getenv("WEFT_DEBUG");
    char now[256];
    snprintf(now, sizeof now, "%s%swindows=%d", old != NULL ? old : "", old != NULL ? "," : "", n);
    setenv("WEFT_DEBUG", now, 1);
}

static void run_on(int procs, int nwindows, void (*body)(void))
{
    weft_config_t cfg = {.procs = procs, .stack = WEFT_STACK_COPIED};
    windows(nwindows);
    EQ(weft_run_with(&cfg, run_entry, &body), 7);
}

static void run_way(int way, void (*body)(void))
{
    run_on(PROCS[way / WINDOWS], 1 + way % WINDOWS, body);
}

/* main's stack is private, what lies on it others may use. */
static weft_wg_t wg;

static void start(void (*fn)(void *), void *arg)
{
    EQ(weft_wg_go(&wg, fn, arg), 0);
}

static void join(void)
{
    EQ(weft_wg_wait(&wg), 0);
}

static weft_stats_t stats(void)
{
    weft_stats_t s;
    EQ(weft_stats(&s), 0);
    return s;
}

/* ---- what lies on a stack ---------------------------------------------------------------- */

typedef struct Frame {
    struct Frame *outer;
    volatile uint64_t word[20];
} Frame;

static void fill(Frame *f, Frame *outer)
{
    f->outer = outer;
    for (uint64_t i = 0; i < 20; i++)
        f->word[i] = ((uint64_t)(uintptr_t)f ^ weft_id() << 32) + i;
}

static void look(const Frame *f)
{
    for (; f != NULL; f = f->outer)
        for (uint64_t i = 0; i < 20; i++)
            OK(f->word[i] == ((uint64_t)(uintptr_t)f ^ weft_id() << 32) + i);
}

static void keeper_of_locals(void *arg)
{
    Frame f;
    int saved = (int)(intptr_t)arg;
    fill(&f, NULL);
    for (int i = 0; i < 100; i++) {
        errno = saved;
        weft_yield();
        EQ(errno, saved);
        look(&f);
    }
}

static void locals(void)
{
    for (int i = 0; i < 10; i++)
        start(keeper_of_locals, (void *)(intptr_t)(i + 1));
    join();
    if (weft_procs(0) == 1 &&
        stats().windows == 1) /* with more, one may end before the next begins */
        OK(stats().window_saves > 500);
}

START_TEST(test_locals)
{
    run_way(_i, locals);
}
END_TEST

/* Down to depth, a yield in every frame on the way in and out. */
static void descend(Frame *outer, int depth)
{
    Frame f;
    fill(&f, outer);
    weft_yield();
    look(&f);
    if (depth > 0)
        descend(&f, depth - 1);
    weft_yield();
    look(&f);
}

static void diver(void *arg)
{
    for (int i = 0; i < 3; i++)
        descend(NULL, (int)(intptr_t)arg);
}

/* Blocks of all sizes: larger as the stack gets deeper, smaller as it gets shallow again. */
static void recursion(void)
{
    for (int i = 0; i < 4; i++)
        start(diver, (void *)(intptr_t)(30 + 20 * i));
    join();
}

START_TEST(test_recursion)
{
    run_way(_i, recursion);
}
END_TEST

#if defined(WEFT_TSAN) || defined(WEFT_ASAN)
enum { DEEP = 300 << 10 }; /* a stack has a megabyte there */
#else
enum { DEEP = 5 << 20 };
#endif

static __attribute__((noinline)) int deep(const char *top)
{
    volatile char frame[4000];
    for (size_t i = 0; i < sizeof frame; i += 100)
        frame[i] = (char)(i / 100 + (uintptr_t)weft_id());
    if ((size_t)(top - (const char *)frame) < DEEP)
        (void)deep(top);
    else
        for (int i = 0; i < 3; i++)
            weft_yield();
    for (size_t i = 0; i < sizeof frame; i += 100)
        OK(frame[i] == (char)(i / 100 + (uintptr_t)weft_id()));
    return frame[0];
}

static void deep_diver(void *arg)
{
    char top = 0;
    (void)arg;
    (void)deep(&top);
}

/* Deeper than any guard is at first; three of them in turn. */
static void depth(void)
{
    for (int i = 0; i < 3; i++)
        start(deep_diver, NULL);
    join();
    EQ(stats().stack_copied_bytes, 0);
}

START_TEST(test_depth)
{
    run_way(_i, depth);
}
END_TEST

/* ---- what goes to others ---------------------------------------------------------------------- */

/* Go: TestShrinkStackDuringBlockedSend, TestNoShrinkStackWhileParking. What is sent from a stack, or received on one, while
 * that is somewhere else, and while it is on its way there. */

enum { ELEM_MOST = 65535, ROUNDS = 20 };
static const size_t ELEMS[] = {1, 8, 9, 4096, ELEM_MOST};
static size_t elem;
static weft_chan_t *chan;

static void paint(unsigned char *p, int round)
{
    for (size_t i = 0; i < elem; i++)
        p[i] = (unsigned char)(i * 7 + (size_t)round);
}

static void compare(const unsigned char *p, int round)
{
    for (size_t i = 0; i < elem; i++)
        OK(p[i] == (unsigned char)(i * 7 + (size_t)round));
}

static void sender(void *arg)
{
    unsigned char e[ELEM_MOST];
    (void)arg;
    for (int i = 0; i < ROUNDS; i++) {
        paint(e, i);
        EQ(weft_send(chan, e), 0);
        compare(e, i);
    }
}

static void receiver(void *arg)
{
    unsigned char e[ELEM_MOST];
    (void)arg;
    for (int i = 0; i < ROUNDS; i++) {
        memset(e, 0, elem);
        EQ(weft_recv(chan, e), 1);
        compare(e, i);
        if (i % 3 == 0)
            weft_yield();
    }
}

static void elements(void)
{
    for (size_t k = 0; k < sizeof ELEMS / sizeof ELEMS[0]; k++)
        for (size_t cap = 0; cap < 3; cap += 2) {
            elem = ELEMS[k];
            chan = weft_chan_make(elem, cap);
            OK(chan != NULL);
            start(k % 2 == 0 ? sender : receiver, NULL); /* each waits first in turn */
            start(k % 2 == 0 ? receiver : sender, NULL);
            join();
            weft_chan_unref(chan);
        }
}

START_TEST(test_elements)
{
    run_way(_i, elements);
}
END_TEST

typedef struct {
    uint64_t word[30];
} Wide;
static weft_chan_t *narrow, *wide, *quit;

/* Go: TestSelectStackAdjust. */
static void selector(void *arg)
{
    uint64_t n, sum = 0;
    Wide w;
    for (;;) {
        weft_case_t c[] = {{.op = WEFT_RECV, .chan = narrow, .elem = &n},
                           {.op = WEFT_RECV, .chan = wide, .elem = &w},
                           {.op = WEFT_RECV, .chan = quit}};
        n = 0;
        memset(&w, 0, sizeof w);
        int i = weft_select(c, 3, weft_now() + 10 * SEC);
        OK(i >= 0);
        if (i == 2)
            break;
        EQ(c[i].result, 1);
        if (i == 1)
            for (uint64_t k = 1; k < 30; k++)
                OK(w.word[k] == w.word[0] + k);
        sum += i == 0 ? n : w.word[0];
    }
    *(uint64_t *)arg += sum;
}

static void select_sender(void *arg)
{
    Wide w;
    (void)arg;
    for (uint64_t n = 1; n <= 50; n++) {
        for (uint64_t k = 0; k < 30; k++)
            w.word[k] = n + k;
        weft_case_t c[] = {{.op = WEFT_SEND, .chan = narrow, .elem = &n},
                           {.op = WEFT_SEND, .chan = wide, .elem = &w}};
        int i = weft_select(c, 2, 0);
        OK(i == 0 || i == 1);
        EQ(c[i].result, 0);
    }
}

static void selects(void)
{
    uint64_t sums[2] = {0, 0};
    narrow = weft_chan_make(sizeof(uint64_t), 0);
    wide = weft_chan_make(sizeof(Wide), 0);
    quit = weft_chan_make(0, 0);
    weft_wg_t senders = {0};
    start(selector, &sums[0]);
    start(selector, &sums[1]);
    for (int i = 0; i < 3; i++)
        EQ(weft_wg_go(&senders, select_sender, NULL), 0);
    EQ(weft_wg_wait(&senders), 0);
    weft_chan_close(quit);
    join();
    EQ(sums[0] + sums[1], 3 * 50 * 51 / 2);
}

START_TEST(test_select)
{
    run_way(_i, selects);
}
END_TEST

/* ---- births and deaths -------------------------------------------------------------------------- */

static void child(void *arg)
{
    volatile uint64_t x = weft_id();
    if (arg != NULL)
        weft_yield();
    OK(x == weft_id());
}

static void mother(void *arg)
{
    Frame f;
    fill(&f, NULL);
    for (int i = 0; i < 100; i++) {
        start(child, i % 2 == 0 ? arg : NULL);
        if (i % 10 == 0)
            weft_yield();
        look(&f);
    }
}

static void churn(void)
{
    for (int i = 0; i < 10; i++)
        start(mother, &wg);
    join();
    while (weft_num_coroutines() > 1)
        weft_sleep(MS);
    EQ(stats().stack_copied_bytes, 0);
}

START_TEST(test_churn)
{
    run_way(_i, churn);
}
END_TEST

/* ---- who keeps its window -------------------------------------------------------------------------- */

static int fds[2];
static _Atomic int entered, went_on, others;

static void in_the_kernel(void *arg)
{
    char c = 0;
    Frame f;
    (void)arg;
    fill(&f, NULL);
    entered++;
    OK(read(fds[0], &c, 1) == 1); /* undeclared, and to the stack */
    look(&f);
    OK(c == 'x');
    went_on++;
}

static void declared(void *arg)
{
    char c = 0;
    Frame f;
    (void)arg;
    fill(&f, NULL);
    entered++;
    weft_syscall_enter();
    OK(read(fds[0], &c, 1) == 1);
    weft_syscall_exit();
    look(&f);
    OK(c == 'x');
    went_on++;
}

static void other(void *arg)
{
    (void)arg;
    for (int i = 0; i < 10; i++) {
        weft_yield();
        others++;
    }
}

static void keeps_window(void (*fn)(void *))
{
    EQ(pipe(fds), 0);
    start(fn, NULL);
    while (entered == 0)
        weft_sleep(MS);
    weft_sleep(5 * MS);
    for (int i = 0; i < 4; i++)
        start(other, NULL);
    weft_sleep(20 * MS);
    EQ(went_on, 0);
    if (stats().windows == 1)
        EQ(others, 0);
    EQ(write(fds[1], "x", 1), 1);
    join();
    EQ(went_on, 1);
    EQ(others, 40);
}

static void kernel(void)
{
    keeps_window(in_the_kernel);
}

START_TEST(test_kernel)
{
    run_way(_i, kernel);
}
END_TEST

static void kernel_declared(void)
{
    keeps_window(declared);
}

START_TEST(test_kernel_declared)
{
    run_way(_i, kernel_declared);
}
END_TEST

static void pinned(void *arg)
{
    Frame f;
    (void)arg;
    fill(&f, NULL);
    weft_thread_lock();
    for (int i = 0; i < 5; i++) {
        weft_sleep(MS);
        weft_yield();
        look(&f);
    }
    weft_thread_unlock();
    weft_yield();
    look(&f);
    went_on++;
}

static void pins(void)
{
    for (int i = 0; i < 5; i++)
        start(pinned, NULL);
    for (int i = 0; i < 5; i++)
        start(other, NULL);
    join();
    EQ(went_on, 5);
    EQ(others, 50);
}

START_TEST(test_pinned)
{
    run_way(_i, pins);
}
END_TEST

static Hog hogs[2];
static _Atomic bool stop;

/* A hog that is stopped without its thread leaves its window to the next. */
static void turns(void)
{
    weft_attr_t attr = {.name = "hog", .stack = WEFT_STACK_COPIED, .flags = WEFT_MOVABLE};
    int64_t late = weft_now() + 20 * SEC;
    for (int i = 0; i < 2; i++) {
        hogs[i] = (Hog){.stop = &stop};
        EQ(weft_go_with(&attr, hog, &hogs[i]), 0);
    }
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < 2; i++)
            for (uint64_t seen = hogs[i].rounds; hogs[i].rounds == seen;) {
                OK(weft_now() < late);
                weft_sleep(MS);
            }
    stop = true;
    while (weft_num_coroutines() > 1)
        weft_sleep(MS);
}

START_TEST(test_turns)
{
    run_on(PROCS[_i], 1, turns);
}
END_TEST

/* ---- the monitor's line ------------------------------------------------------------------------ */

static _Atomic bool slept;

static void sleeps_in_the_kernel(void *arg)
{
    struct timespec ts = {1, 700000000};
    (void)arg;
    entered++;
    nanosleep(&ts, NULL);
    slept = true;
}

static void named(const char *name, void (*fn)(void *), void *arg)
{
    weft_attr_t attr = {.name = name};
    EQ(weft_go_with(&attr, fn, arg), 0);
}

/* Main sleeps all the time: the monitor must come by itself. */
static void told(void)
{
    named("keeper", sleeps_in_the_kernel, NULL);
    while (entered == 0)
        weft_yield();
    named("sharer", other, NULL);
    named("sharer", other, NULL);
    weft_sleep(1600 * MS);
    int n = others;
    OK(n == 0 || slept); /* we may be late */
    while (weft_num_coroutines() > 1)
        weft_sleep(MS);
    EQ(others, 20);
}

static void untold(void)
{
    named("keeper", sleeps_in_the_kernel, NULL);
    weft_sleep(1600 * MS);
}

static int lines_of(void (*body)(void), int procs, char *text, size_t size)
{
    FILE *f = tmpfile();
    int kept = dup(2), n = 0;
    OK(f != NULL && kept >= 0);
    OK(dup2(fileno(f), 2) == 2);
    run_on(procs, 1, body);
    OK(dup2(kept, 2) == 2);
    rewind(f);
    text[0] = '\0';
    char line[512];
    while (fgets(line, sizeof line, f) != NULL)
        if (strstr(line, "window") != NULL) {
            snprintf(text, size, "%s", line);
            n++;
        }
    fclose(f);
    close(kept);
    return n;
}

START_TEST(test_told)
{
    char line[512];
    EQ(lines_of(told, PROCS[_i], line, sizeof line), 1);
    OK(strstr(line, "weft: ") == line);
    OK(strstr(line, "(keeper) is in the kernel") != NULL);
    OK(strstr(line, "(sharer) has waited") != NULL);
}
END_TEST

START_TEST(test_untold)
{
    char line[512];
    EQ(lines_of(untold, 2, line, sizeof line), 0);
}
END_TEST

/* ---- what can be seen -------------------------------------------------------------------------- */

static weft_chan_t *gate;

static void parker(void *arg)
{
    Frame f;
    fill(&f, NULL);
    entered++;
    weft_recv(gate, arg);
    look(&f);
}

static void figures(void)
{
    gate = weft_chan_make(0, 0);
    weft_stats_t s = stats();
    uint64_t stacks = s.stacks_private; /* main's, and spare ones */
    EQ(s.windows, 0);
    EQ(s.window_saves + s.window_loads + s.stack_copied_bytes, 0);
    for (int i = 0; i < 100; i++)
        start(parker, NULL);
    while (entered < 100)
        weft_sleep(MS);
    s = stats();
    OK(s.windows == 1 || s.windows == 2);
    OK(s.window_saves >= 98);
    OK(s.stack_copied_bytes >= 98 * sizeof(Frame));
    OK(s.stack_copied_bytes < 98 * 4096);
    /* None has a private one. A P may have taken a few meanwhile, to give memory back: block.c has a coroutine for it. */
    OK(s.stacks_private < stacks + 100);
    weft_chan_close(gate);
    join();
    while (weft_num_coroutines() > 1)
        weft_sleep(MS);
    s = stats();
    OK(s.window_loads >= 98);
    EQ(s.stack_copied_bytes, 0);
}

START_TEST(test_stats)
{
    run_way(_i, figures);
}
END_TEST

/* One that was cancelled in a wait for a channel, and waits for its window when the run ends, is in the channel's
 * queue no more. */
static void keep_window(void *arg)
{
    struct timespec t = {0, 300000000};
    (void)arg;
    entered++;
    nanosleep(&t, NULL);
}

static void leave_cancelled(void)
{
    weft_id_t id;
    weft_attr_t attr = {.id = &id, .stack = WEFT_STACK_COPIED};
    gate = weft_chan_make(0, 0);
    entered = 0;
    EQ(weft_go_with(&attr, parker, NULL), 0);
    while (entered < 1)
        weft_sleep(MS);
    weft_sleep(5 * MS);
    start(keep_window, NULL);
    while (entered < 2)
        weft_sleep(MS);
    EQ(weft_cancel(id), 0);
    weft_sleep(20 * MS);
}

START_TEST(test_cancelled_homeless)
{
    run_on(2, 1, leave_cancelled);
    EQ(weft_try_send(gate, NULL), -EAGAIN);
    weft_chan_unref(gate);
}
END_TEST

/* With enough windows nothing is copied. */
static void unshared(void)
{
    gate = weft_chan_make(0, 0);
    for (int i = 0; i < 100; i++)
        start(parker, NULL);
    while (entered < 100)
        weft_sleep(MS);
    EQ(stats().window_saves, 0);
    OK(stats().windows >= 100);
    weft_chan_close(gate);
    join();
}

START_TEST(test_unshared)
{
    run_on(PROCS[_i], 200, unshared);
}
END_TEST

typedef struct {
    char *lo, *hi;
} Bounds;

static void bounds(void *arg)
{
    Bounds *b = arg;
    char here = 0;
    EQ(weft_stack_bounds((void **)&b->lo, (void **)&b->hi), 0);
    OK(b->lo < &here && &here < b->hi);
    weft_yield();
}

/* Two that share a window have the same addresses; main, a private stack of its own. */
static void see_bounds(void)
{
    static Bounds b[2], mine;
    char here = 0;
    start(bounds, &b[0]);
    start(bounds, &b[1]);
    join();
    OK(b[0].lo == b[1].lo && b[0].hi == b[1].hi);
#if !defined(WEFT_TSAN) && !defined(WEFT_ASAN)
    OK((size_t)(b[0].hi - b[0].lo) >= (size_t)1000 << 20);
#endif
    bounds(&mine);
    OK(mine.lo < &here && &here < mine.hi);
    OK((size_t)(mine.hi - mine.lo) <= (size_t)100 << 20);
    OK(mine.hi <= b[0].lo || b[0].hi <= mine.lo);
}

START_TEST(test_bounds)
{
    run_on(PROCS[_i], 1, see_bounds);
}
END_TEST

/* ---- who says what ------------------------------------------------------------------------------ */

static void adds(void *arg)
{
    ++*(int *)arg;
}

static void attributes(void)
{
    int n = 0; /* main's, which is private: others may write to it while it is parked */
    weft_attr_t attr = {.stack = -1};
    EQ(weft_go_with(&attr, adds, &n), -EINVAL);
    attr.stack = 3;
    EQ(weft_go_with(&attr, adds, &n), -EINVAL);
    attr = (weft_attr_t){.stack = WEFT_STACK_COPIED, .stack_max = ((size_t)1 << 30) + 1};
    EQ(weft_go_with(&attr, adds, &n), -EINVAL);
    attr = (weft_attr_t){.stack = WEFT_STACK_PRIVATE, .stack_max = ((size_t)64 << 20) + 1};
    EQ(weft_go_with(&attr, adds, &n), -EINVAL);
    attr = (weft_attr_t){.stack = WEFT_STACK_COPIED, .stack_max = 1000};
    EQ(weft_go_with(&attr, adds, &n), 0);
    attr = (weft_attr_t){.stack = WEFT_STACK_PRIVATE};
    EQ(weft_go_with(&attr, adds, &n), 0);
    EQ(weft_go_with(&attr, NULL, &n), -EINVAL);
    EQ(weft_go(adds, &n), 0);
    while (weft_num_coroutines() > 1)
        weft_sleep(MS);
    EQ(n, 3);
}

START_TEST(test_attributes)
{
    void (*body)(void) = attributes;
    static const int wrong[] = {-1, 3, INT32_MAX};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        weft_config_t cfg = {.stack = wrong[i]};
        EQ(weft_run_with(&cfg, run_entry, &body), -EINVAL);
    }
    run_on(1, 1, attributes);
}
END_TEST

/* Without a word from anybody stacks are private. */
static void untouched(void)
{
    start(child, NULL);
    join();
    EQ(stats().windows, 0);
}

START_TEST(test_default)
{
    void (*body)(void) = untouched;
    EQ(weft_run_with(NULL, run_entry, &body), 7);
    weft_config_t cfg = {.stack = WEFT_STACK_PRIVATE};
    EQ(weft_run_with(&cfg, run_entry, &body), 7);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("copied stacks");
    TCase *tc = tcase_create("copied");
    tcase_add_loop_test(tc, test_locals, 0, WAYS);
    tcase_add_loop_test(tc, test_recursion, 0, WAYS);
    tcase_add_loop_test(tc, test_depth, 0, WAYS);
    tcase_add_loop_test(tc, test_elements, 0, WAYS);
    tcase_add_loop_test(tc, test_select, 0, WAYS);
    tcase_add_loop_test(tc, test_churn, 0, WAYS);
    tcase_add_loop_test(tc, test_kernel, 0, WAYS);
    tcase_add_loop_test(tc, test_kernel_declared, 0, WAYS);
    tcase_add_loop_test(tc, test_pinned, 0, WAYS);
#if defined(__x86_64__) && !defined(WEFT_TSAN) && !defined(WEFT_ASAN) && !defined(WEFT_UBSAN)
    tcase_add_loop_test(tc, test_turns, 0, NPROCS);
#endif
    tcase_add_loop_test(tc, test_told, 0, NPROCS);
    tcase_add_test(tc, test_untold);
    tcase_add_loop_test(tc, test_stats, 0, WAYS);
    tcase_add_test(tc, test_cancelled_homeless);
    tcase_add_loop_test(tc, test_unshared, 0, NPROCS);
    tcase_add_loop_test(tc, test_bounds, 0, NPROCS);
    tcase_add_test(tc, test_attributes);
    tcase_add_test(tc, test_default);
    suite_add_tcase(s, tc);
    return run_suite(s);
}
