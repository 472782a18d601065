/* SPDX-License-Identifier: MIT
 *
 * stress_copied.c: coroutines on copied stacks that share very few windows.
 *
 * Each keeps a pattern in its frames, and pointers from inner frames to outer ones, across yields, channel
 * operations, sleeps, locks, preemption, blocking calls said and unsaid, births and deaths, and checks
 * it whenever it goes on: had anybody else's stack lain in the window, or its own at another place, it
 * would see that. Some have private stacks: both kinds meet in all queues. A round is a run of
 * the runtime with so many processors and windows; rounds go on for WEFT_STRESS_SECONDS (2). In every fourth
 * round main returns in the middle. */
#include "config.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

#include "tests/behaviour/preempt_test.h"
#include "tests/stress/stress.h"

static const int64_t US = 1000, MS = 1000000;
enum { WORKERS = 40, WORDS = 12 };
enum { DEEP = 60 }; /* calls; a tick looks at all of them, and there is one every 50 us */

static _Atomic bool stop;
static _Atomic uint64_t sent, received, steps, ended;
static _Atomic int64_t alive;
static weft_wg_t wg;
static weft_mutex_t mutex;
static uint64_t guarded, guarded_twice;
static weft_chan_t *plain, *buffered, *wide;

typedef struct {
    uint64_t word[WORDS]; /* longer than what a wait has room for */
} Wide;

/* ---- what lies in a frame ---------------------------------------------------------------- */

typedef struct Frame {
    struct Frame *outer;
    uint64_t id;
    volatile uint64_t word[WORDS];
} Frame;

static void fill(Frame *f, Frame *outer, uint64_t id)
{
    f->outer = outer;
    f->id = id;
    for (uint64_t i = 0; i < WORDS; i++)
        f->word[i] = id * 1000003 + i;
}

static void check(const Frame *f)
{
    for (; f != NULL; f = f->outer)
        for (uint64_t i = 0; i < WORDS; i++)
            OK(f->word[i] == f->id * 1000003 + i);
}

/* ---- one step ------------------------------------------------------------------------------- */

static void worker(void *arg);

static void spawn(uint32_t v)
{
    weft_attr_t attr = {.stack = v % 4 == 0 ? WEFT_STACK_PRIVATE : WEFT_STACK_COPIED,
                        .flags = v % 3 == 0 ? WEFT_MOVABLE : 0};
    if (alive > 2 * WORKERS)
        return;
    alive++;
    OK(weft_wg_add(&wg, 1) == 0);
    OK(weft_go_with(&attr, worker, (void *)(uintptr_t)v) == 0);
}

static void exchange(uint32_t v)
{
    uint64_t one = v, got = 0;
    Wide w, x = {{0}};
    weft_case_t cases[2] = {{.op = WEFT_RECV, .chan = wide, .elem = &x},
                            {.op = WEFT_SEND, .chan = plain, .elem = &one}};
    for (int i = 0; i < WORDS; i++)
        w.word[i] = v + (uint64_t)i;
    switch (v % 6) {
    case 0:
        if (weft_send(v % 5 == 0 ? plain : buffered, &one) == 0)
            sent += v;
        break;
    case 1:
        if (weft_recv(v % 5 == 0 ? plain : buffered, &got) == 1)
            received += got;
        break;
    case 2:
        if (weft_send(wide, &w) == 0)
            sent += v;
        break;
    case 3:
        if (weft_recv(wide, &x) == 1) {
            for (uint64_t i = 1; i < WORDS; i++)
                OK(x.word[i] == x.word[0] + i);
            received += x.word[0];
        }
        break;
    default: {
        int i = weft_select(cases, 2, weft_now() + v % 2000 * US);
        if (i == 0 && cases[0].result == 1) {
            for (uint64_t k = 1; k < WORDS; k++)
                OK(x.word[k] == x.word[0] + k);
            received += x.word[0];
        } else if (i == 1 && cases[1].result == 0) {
            sent += v;
        } else {
            OK(i == -ETIMEDOUT || cases[i].result <= 0);
        }
    }
    }
    for (int i = 0; i < WORDS; i++)
        OK(w.word[i] == v + (uint64_t)i);
    OK(one == v);
}

static void *nap(void *arg)
{
    struct timespec ts = {0, (int64_t)(uintptr_t)arg * US};
    nanosleep(&ts, NULL);
    return arg;
}

static void spin(uint32_t n)
{
    for (volatile uint32_t i = 0; i < n; i++)
        ;
}

static void step(uint32_t v)
{
    void *result = NULL;
    switch (v % 16) {
    case 0:
    case 1:
        OK(weft_sleep(v / 16 % 300 * US) == 0);
        break;
    case 2:
        OK(weft_mutex_lock(&mutex) == 0);
        guarded++;
        weft_yield();
        guarded_twice++;
        OK(guarded == guarded_twice);
        weft_mutex_unlock(&mutex);
        break;
    case 3:
    case 4:
    case 5:
    case 6:
        exchange(v / 16);
        break;
    case 7:
        spin(v / 16 % 400000);
        break;
    case 8:
        if (v / 16 % 4 == 0)
            OK(weft_blocking(nap, (void *)(uintptr_t)(v / 64 % 200), &result) == 0 &&
               result == (void *)(uintptr_t)(v / 64 % 200));
        break;
    case 9:
        if (v / 16 % 8 == 0)
            nap((void *)(uintptr_t)(v / 128 % 1500));
        break;
    case 10:
        spawn(v / 16);
        break;
    default:
        weft_yield();
    }
    steps++;
}

/* ---- a life ---------------------------------------------------------------------------------- */

static void descend(Frame *outer, uint32_t *s, uint32_t depth)
{
    Frame f;
    fill(&f, outer, (uint64_t)(uintptr_t)&f ^ depth);
    if (depth > 0)
        descend(&f, s, depth - 1);
    if (depth % 8 == 0) {
        step(next(s));
        check(&f);
    }
}

static void worker(void *arg)
{
    uint32_t s = (uint32_t)(uintptr_t)arg * 2654435761u + 1;
    Frame f;
    fill(&f, NULL, (uint64_t)weft_id());
    for (uint32_t n = next(&s) % 200; n > 0 && !stop; n--) {
        uint32_t v = next(&s);
        descend(&f, &s, v % 64 == 0 ? v / 64 % DEEP : v % 8);
        check(&f);
    }
    ended++;
    alive--;
    weft_wg_done(&wg);
}

static int round_main(void *arg)
{
    uint32_t *s = arg;
    bool abandons = next(s) % 4 == 0;
    stop = false;
    alive = 0;
    sent = received = guarded = guarded_twice = 0;
    memset(&wg, 0, sizeof wg);
    memset(&mutex, 0, sizeof mutex);
    plain = weft_chan_make(sizeof(uint64_t), 0);
    buffered = weft_chan_make(sizeof(uint64_t), 3);
    wide = weft_chan_make(sizeof(Wide), 0);
    OK(plain != NULL && buffered != NULL && wide != NULL);
    int64_t until = weft_now() + 300 * MS;
    while (weft_now() < until) {
        while (alive < WORKERS)
            spawn(next(s));
        OK(weft_sleep(MS) == 0);
    }
    if (abandons)
        return 7;
    stop = true;
    weft_chan_close(plain);
    weft_chan_close(wide);
    weft_chan_close(buffered);
    OK(weft_wg_wait(&wg) == 0);
    uint64_t left;
    while (weft_recv(buffered, &left) == 1)
        received += left;
    OK(sent == received);
    OK(alive == 0);
    return 7;
}

static void windows(uint32_t n)
{
    const char *old = getenv("WEFT_DEBUG");
    static char base[200];
    static bool have;
    char now[256];
    if (!have && old != NULL)
        snprintf(base, sizeof base, "%s,", old);
    have = true;
    snprintf(now, sizeof now, "%swindows=%u", base, n);
    setenv("WEFT_DEBUG", now, 1);
}

int main(void)
{
    static const uint32_t few[] = {3, 1, 2, 8, 64};
    double seconds = stress_seconds();
    int64_t begin = weft_now(), end = begin + (int64_t)(seconds * 1e9);
    uint32_t seed = (uint32_t)begin;
    int rounds = 0;
    for (; rounds < 3 || weft_now() < end; rounds++) {
        weft_config_t cfg = {.procs = 1 + rounds * 3 % 4, .slice = rounds % 2 == 0 ? 2 * MS : 0};
        windows(few[rounds % 5]);
        int64_t start = weft_now();
        OK(weft_run_with(&cfg, round_main, &seed) == 7);
        OK(weft_now() - start < 60000 * MS);
    }
    printf("stress_copied: %d rounds, %llu steps, %llu ended\n", rounds, (unsigned long long)steps,
           (unsigned long long)ended);
    return 0;
}
