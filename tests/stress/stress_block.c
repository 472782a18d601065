/* SPDX-License-Identifier: MIT
 *
 * stress_block.c: coroutines that block in the kernel, said and unsaid, beside ones that compute, ones
 * that park, and ones that come and go.
 *
 * Checked: sums of what was sent and received, of what was done under a lock, and of calls; that
 * nobody else is inside a pthread mutex whose owner is blocked in the kernel; results and errno of calls. A round
 * is a run of the runtime, each with other settings (processors, threads, whether they change). In every fourth
 * round main returns in the middle, and the next round begins with what is left. Rounds go on for
 * WEFT_STRESS_SECONDS (2). */
#include "config.h"

#include <pthread.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/behaviour/preempt_test.h"
#include "tests/stress/stress.h"

static const int64_t US = 1000, MS = 1000000;

static _Atomic bool stop;
static weft_wg_t wg;
static bool abandons; /* main returns while they run */
static bool ticks;    /* nobody can keep a processor, nor blocks the end of a run */

static void plain_sleep(int64_t ns)
{
    struct timespec ts = {0, ns};
    OK(nanosleep(&ts, NULL) == 0 || abandons); /* cut short at the end */
}

/* ---- what is counted ------------------------------------------------------------------- */

static _Atomic uint64_t sent, received; /* sums of values */
static _Atomic uint64_t calls;          /* of all rounds */

/* ---- plain calls, then a channel ------------------------------------------------------------ */

static weft_chan_t *chan;

static void napper(void *arg)
{
    uint32_t s = (uint32_t)(uintptr_t)arg;
    while (!stop) {
        uint32_t v = next(&s) % 1000;
        plain_sleep(v % 8 == 0 ? 2 * MS : v % 300 * US);
        calls++;
        sent += v;
        OK(weft_send(chan, &v) == 0);
    }
    weft_wg_done(&wg);
}

static weft_wg_t receivers;

static void receiver(void *arg)
{
    uint32_t v;
    while (weft_recv(chan, &v) == 1) {
        received += v;
        if (v % 16 == (uintptr_t)arg)
            plain_sleep(50 * US);
    }
    weft_wg_done(&receivers);
}

/* ---- declared calls -------------------------------------------------------------------------- */

static void *triple(void *arg)
{
    uintptr_t v = (uintptr_t)arg;
    if (v % 4 == 0)
        plain_sleep((int64_t)(v % 50) * US);
    if (v % 32 == 1)
        weft_yield();
    calls++;
    return (void *)(v * 3);
}

static void declarer(void *arg)
{
    uint32_t s = (uint32_t)(uintptr_t)arg;
    while (!stop) {
        uintptr_t v = next(&s) % 4096;
        int e = (int)v + 1;
        void *got = NULL;
        errno = e;
        weft_syscall_enter();
        if (v % 8 == 0)
            plain_sleep((int64_t)(v % 100) * US);
        if (v % 64 == 3)
            weft_syscall_enter();
        if (v % 64 == 5)
            weft_yield();
        if (v % 64 == 7)
            OK(weft_sleep(20 * US) == 0);
        if (v % 64 != 9)
            weft_syscall_exit();
        OK(errno == e || abandons);
        OK(weft_blocking(triple, (void *)v, &got) == 0);
        OK((uintptr_t)got == 3 * v);
        if (v % 16 == 0)
            weft_yield();
    }
    weft_wg_done(&wg);
}

/* ---- pairs that play with each other through plain pipes ------------------------------------- */

enum { PAIRS = 3 };
static int pipes[PAIRS][2][2];

static void pinger(void *arg)
{
    int(*p)[2] = pipes[(intptr_t)arg];
    uint32_t v = 0, w = 0;
    for (bool last = false; !last; v++) {
        last = stop;
        uint32_t x = last ? UINT32_MAX : v;
        OK(write(p[0][1], &x, sizeof x) == sizeof x || abandons);
        OK(read(p[1][0], &w, sizeof w) == sizeof w || abandons);
        OK(w == ~x || abandons);
        calls++;
        if (v % 50 == 0)
            OK(weft_sleep(30 * US) == 0);
    }
    weft_wg_done(&wg);
}

static void ponger(void *arg)
{
    int(*p)[2] = pipes[(intptr_t)arg];
    uint32_t x = 0, w;
    while (x != UINT32_MAX) {
        OK(read(p[0][0], &x, sizeof x) == sizeof x || abandons);
        w = ~x;
        OK(write(p[1][1], &w, sizeof w) == sizeof w || abandons);
        if (x % 64 == 0)
            weft_yield();
    }
    weft_wg_done(&wg);
}

/* ---- pthread mutexes, held in the kernel ------------------------------------------------------- */

enum { MUTEXES = 2 };
static pthread_mutex_t mutexes[MUTEXES];
static uint64_t in[MUTEXES], out[MUTEXES];

static void locker(void *arg)
{
    uint32_t s = (uint32_t)(uintptr_t)arg;
    while (!stop) {
        uint32_t v = next(&s), m = v % MUTEXES;
        OK(pthread_mutex_lock(&mutexes[m]) == 0);
        OK(in[m] == out[m]);
        in[m]++;
        usleep(v / 2 % 200);
        out[m]++;
        OK(pthread_mutex_unlock(&mutexes[m]) == 0);
        calls++;
        if (v % 5 == 0)
            weft_yield();
    }
    weft_wg_done(&wg);
}

/* ---- those that come and go ----------------------------------------------------------------------- */

static weft_mutex_t mutex;
static uint64_t children, children_due; /* the mutex's */

static void child(void *arg)
{
    uintptr_t v = (uintptr_t)arg;
    if (v % 3 == 0)
        plain_sleep((int64_t)(v % 100) * US);
    if (v % 3 == 1)
        weft_syscall_enter(); /* it ends within, or in the lock */
    OK(weft_mutex_lock(&mutex) == 0);
    children++;
    OK(weft_mutex_unlock(&mutex) == 0);
    if (v % 6 == 1)
        weft_syscall_enter();
    weft_wg_done(&wg);
}

static void parent(void *arg)
{
    uint32_t s = (uint32_t)(uintptr_t)arg;
    while (!stop) {
        uint32_t n = next(&s) % 20;
        OK(weft_mutex_lock(&mutex) == 0);
        children_due += n;
        OK(weft_mutex_unlock(&mutex) == 0);
        OK(weft_wg_add(&wg, (int)n) == 0);
        for (uint32_t i = 0; i < n; i++)
            OK(weft_go(child, (void *)(uintptr_t)next(&s)) == 0);
        OK(weft_sleep(500 * US) == 0);
    }
    weft_wg_done(&wg);
}

/* ---- descriptors whose peers are closed ------------------------------------------------------------- */

typedef struct {
    int fd;
    weft_wg_t gone;
} Reader;

static void reader(void *arg)
{
    Reader *r = arg;
    char c[8];
    ssize_t n;
    while ((n = weft_read(r->fd, c, sizeof c)) > 0)
        calls += (uint64_t)n;
    OK(n == 0);
    weft_wg_done(&r->gone);
}

/* The reader's own end is closed last: the number may be the runtime's own at once. */
static void closer(void *arg)
{
    uint32_t s = (uint32_t)(uintptr_t)arg;
    while (!stop) {
        int ends[2];
        OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
        Reader r = {.fd = ends[0]};
        OK(weft_wg_add(&r.gone, 1) == 0);
        OK(weft_go(reader, &r) == 0);
        for (uint32_t i = 0, n = next(&s) % 4; i < n; i++) {
            OK(weft_write(ends[1], "abc", 3) == 3);
            plain_sleep(100 * US);
        }
        OK(weft_close(ends[1]) == 0);
        OK(weft_wg_wait(&r.gone) == 0);
        OK(weft_close(ends[0]) == 0);
    }
    weft_wg_done(&wg);
}

/* ---- timers, hogs, settings --------------------------------------------------------------------------- */

static _Atomic uint64_t fired;

static void on_timer(void *arg)
{
    (void)arg;
    fired++;
    plain_sleep(20 * US);
}

static Hog hogs[2];

/* What stops nobody: plain sleeps of the changer block too. */
static void changer(void *arg)
{
    uint32_t s = (uint32_t)(uintptr_t)arg;
    while (!stop) {
        OK(weft_procs(1 + (int)(next(&s) % 4)) > 0);
        plain_sleep(3 * MS);
    }
    weft_wg_done(&wg);
}

/* ---- a round -------------------------------------------------------------------------------------------- */

static void start(void (*fn)(void *), intptr_t arg, unsigned flags)
{
    weft_attr_t attr = {.flags = flags};
    OK(weft_wg_add(&wg, 1) == 0);
    OK(weft_go_with(&attr, fn, (void *)arg) == 0);
}

static void start_all(uint32_t *s)
{
    for (int i = 0; i < 6; i++)
        start(napper, (intptr_t)next(s), i % 2 ? WEFT_MOVABLE : 0);
    OK(weft_wg_add(&receivers, 3) == 0);
    for (intptr_t i = 0; i < 3; i++)
        OK(weft_go(receiver, (void *)i) == 0);
    for (int i = 0; i < 4; i++)
        start(declarer, (intptr_t)next(s), i % 2 ? WEFT_MOVABLE : 0);
    for (int i = 0; i < PAIRS; i++) {
        start(pinger, i, 0);
        start(ponger, i, 0);
    }
    for (int i = 0; i < 4 && !abandons; i++) /* a mutex that is left behind costs a second */
        start(locker, (intptr_t)next(s), 0);
    start(parent, (intptr_t)next(s), 0);
    if (!abandons)
        start(closer, (intptr_t)next(s), 0);
    for (int i = 0; i < 2 && ticks; i++) {
        hogs[i] = (Hog){.stop = &stop, .wg = &wg};
        start(hog, (intptr_t)&hogs[i], i == 0 ? WEFT_MOVABLE : 0);
    }
    if (next(s) % 2)
        start(changer, (intptr_t)next(s), 0);
}

static void round_reset(void)
{
    stop = false;
    memset(&wg, 0, sizeof wg);
    memset(&receivers, 0, sizeof receivers);
    memset(&mutex, 0, sizeof mutex);
    sent = received = 0;
    children = children_due = 0;
    for (int i = 0; i < MUTEXES; i++) {
        OK(pthread_mutex_init(&mutexes[i], NULL) == 0);
        in[i] = out[i] = 0;
    }
    for (int i = 0; i < PAIRS; i++)
        OK(pipe(pipes[i][0]) == 0 && pipe(pipes[i][1]) == 0);
    chan = weft_chan_make(sizeof(uint32_t), 2);
    OK(chan != NULL);
}

static void round_end(void)
{
    weft_chan_unref(chan);
    for (int i = 0; i < 4 * PAIRS; i++)
        close(pipes[i / 4][i / 2 % 2][i % 2]);
}

static int round_main(void *arg)
{
    uint32_t *s = arg;
    static weft_timer_t timer;
    uint64_t before = fired;
    memset(&timer, 0, sizeof timer); /* of a run that is over */
    start_all(s);
    OK(weft_timer_start(&timer, weft_now() + MS, 2 * MS, on_timer, NULL) == 0);
    OK(weft_sleep(abandons ? next(s) % 40 * MS : 300 * MS) == 0);
    if (abandons)
        return 7;
    while (fired <=
           before + 2) /* on a busy machine its coroutines may be far behind; 60 s are the limit */
        weft_sleep(MS);
    weft_timer_stop(&timer);
    stop = true;
    OK(weft_wg_wait(&wg) == 0);
    OK(weft_chan_close(chan) == 0);
    OK(weft_wg_wait(&receivers) == 0);
    OK(sent == received);
    OK(children == children_due);
    for (int i = 0; i < MUTEXES; i++)
        OK(in[i] == out[i] && in[i] > 0);
    return 7;
}

int main(void)
{
    private_only("closer() waits for a wait group in its frame");
    double seconds = stress_seconds();
    int64_t begin = weft_now(), end = begin + (int64_t)(seconds * 1e9);
    uint32_t seed = (uint32_t)begin;
    int rounds = 0;
    const char *debug = getenv("WEFT_DEBUG");
    ticks = debug == NULL || strstr(debug, "preempt=off") == NULL;
#ifdef WEFT_TSAN
    ticks = false;
#endif
    for (; rounds < 2 || weft_now() < end; rounds++) {
        weft_config_t cfg = {
            .stack = test_stack(), .procs = 1 + rounds % 4, .slice = rounds % 3 == 0 ? 2 * MS : 0};
        if (rounds % 5 == 4)
            cfg.threads_max = 20;
        abandons = ticks && rounds % 4 == 3;
        round_reset();
        int64_t start_at = weft_now();
        OK(weft_run_with(&cfg, round_main, &seed) == 7);
        OK(weft_now() - start_at < 60000 * MS);
        round_end();
        if (getenv("WEFT_STRESS_VERBOSE") != NULL)
            printf("round %d: %lld ms\n", rounds, (long long)((weft_now() - start_at) / MS));
    }
    printf("stress_block: %d rounds, %llu calls\n", rounds, (unsigned long long)calls);
    return 0;
}
