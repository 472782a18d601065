/* SPDX-License-Identifier: MIT
 *
 * check_tick.c: ticks, pokes and nudges; whose signal it is; what they must not
 * disturb; threads' states.
 */
#include "config.h"

#include "sys/sys.h"
#include "sys/linux/linux.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MS = 1000000 };

/* Counted by the handler, read by the thread itself or by others. */
typedef struct {
    SysTick tick;
    _Atomic int ticks, pokes, wrong; /* wrong: not on the alternate stack, or not the right mask */
    _Atomic int64_t first;           /* CPU time of the thread at its first tick */
    _Atomic int phase;               /* of the test; meaning is the test's */
    bool int_blocked;                /* SIGINT, outside of the handler */
    _Alignas(16) char alt[128 * 1024]; /* ASan insists */
} Ticked;

static _Thread_local Ticked *self; /* the executable's own: nothing to allocate */

static int64_t cpu_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return ts.tv_sec * (int64_t)1000000000 + ts.tv_nsec;
}

static void look(bool poked, void *uc)
{
    Ticked *t = self;
    stack_t ss;
    sigset_t mask;
    if (t == NULL)
        return;
    sigaltstack(NULL, &ss);
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    if (!(ss.ss_flags & SS_ONSTACK) || uc == NULL || !sigismember(&mask, sys_tick_signal()) ||
        sigismember(&mask, SIGINT) != t->int_blocked || sigismember(&mask, SIGSEGV))
        t->wrong++;
    if (poked)
        t->pokes++;
    else if (t->ticks++ == 0)
        t->first = cpu_now();
    errno = EBADMSG;
}

static int begin(Ticked *t, SysTickSource source, int64_t period, uint32_t phase)
{
    sigset_t mask;
    ck_assert_int_eq(sys_altstack_set(t->alt, sizeof(t->alt)), 0);
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    t->int_blocked = sigismember(&mask, SIGINT) == 1;
    self = t;
    return sys_tick_start(&t->tick, source, period, phase);
}

static void end(Ticked *t)
{
    sys_tick_stop(&t->tick);
    self = NULL;
    sys_altstack_clear();
    ck_assert_int_eq(t->wrong, 0);
}

/* Seldom in the kernel, where perf does not strike. */
static void spin(int64_t ns)
{
    for (int64_t until = cpu_now() + ns; cpu_now() < until;)
        for (volatile int i = 0; i < 20000; i++)
            ;
}

/* Until there have been n ticks more; returns how many can have been due, by the time that has passed: to
 * perf a machine that stands still runs. */
static int spin_ticks(Ticked *t, int n, int64_t period)
{
    int64_t start = sys_now();
    for (int i = 0, at_least = t->ticks + n; i < 20 * n && t->ticks < at_least; i++)
        spin(period);
    return (int)((sys_now() - start) / period);
}

static Ticked *ticked(void)
{
    Ticked *t = calloc(1, sizeof(*t));
    ck_assert_ptr_nonnull(t);
    return t;
}

static void install(void)
{
    ck_assert_int_eq(sys_tick_install(0, look), 0);
}

/* Is this source to be had here? Perf needs permission. */
static bool usable(SysTickSource source)
{
    SysTick t = {0};
    int rc = sys_tick_start(&t, source, 0, 0);
    sys_tick_stop(&t);
    if (rc == -EACCES || rc == -EPERM || rc == -ENOSYS || rc == -ENOENT) {
        printf("skipped: perf is not to be had here (%s)\n", strerror(-rc));
        return false;
    }
    ck_assert_int_eq(rc, 0);
    return true;
}

static void await(_Atomic int *word, int at_least)
{
    for (int i = 0; i < 20000 && *word < at_least; i++)
        usleep(500);
    ck_assert_int_ge(*word, at_least);
}

/* ---- ticks ------------------------------------------------------------------ */

static const int64_t periods[] = {20 * MS, MS};

START_TEST(test_rate)
{
    Ticked *t = ticked();
    install();
    if (!usable((SysTickSource)_i))
        return;
    ck_assert_int_eq(begin(t, (SysTickSource)_i, periods[_i], 0), 0);
    errno = 1234;
    int due = spin_ticks(t, 10, periods[_i]);
    ck_assert_int_eq(errno, 1234); /* the handler writes another */
    end(t);
    ck_assert_int_ge(t->ticks, 10);
    ck_assert_int_le(t->ticks, due + 2);
    ck_assert_int_eq(t->pokes, 0);
    int n = t->ticks;
    spin(5 * periods[_i]);
    ck_assert_int_eq(t->ticks, n);
    sys_tick_stop(&t->tick); /* twice: nothing */
}
END_TEST

/* Each sleeps for as long as it was told to, and no signal is seen. */
START_TEST(test_blocked)
{
    Ticked *t = ticked();
    sem_t sem;
    install();
    if (!usable((SysTickSource)_i))
        return;
    sem_init(&sem, 0, 0);
    int ep = epoll_create1(0);
    ck_assert_int_eq(begin(t, (SysTickSource)_i, MS, 0), 0);
    struct timespec ts = {0, 300 * MS};
    int64_t at[6];
    at[0] = sys_now();
    ck_assert_int_eq(nanosleep(&ts, NULL), 0);
    at[1] = sys_now();
    ck_assert_int_eq(poll(NULL, 0, 100), 0);
    at[2] = sys_now();
    clock_gettime(CLOCK_REALTIME, &ts);
    ts.tv_sec++;
    ck_assert(sem_timedwait(&sem, &ts) == -1 && errno == ETIMEDOUT);
    at[3] = sys_now();
    struct epoll_event ev;
    ck_assert_int_eq(epoll_wait(ep, &ev, 1, 100), 0);
    at[4] = sys_now();
    ck_assert_int_eq(sleep(1), 0);
    at[5] = sys_now();
    int n = t->ticks;
    end(t);
    static const int64_t least[] = {300, 100, 990, 100, 1000};
    for (int i = 0; i < 5; i++)
        ck_assert_int_ge(at[i + 1] - at[i], least[i] * MS);
    ck_assert_int_le(n, 2); /* all of this together may have used a little CPU time */
    close(ep);
}
END_TEST

/* A thread that keeps going to sleep is on its way into the kernel whenever a
 * tick is due. Its sleeps must not be cut short either. Returns the number of
 * those that were; stops after n or when t->phase is 2. */
static int nap(Ticked *t, int n)
{
    struct timespec ts = {0, 1000};
    int cut = 0;
    for (int i = 0; i < n && t->phase != 2; i++) {
        if (nanosleep(&ts, NULL) != 0)
            cut++;
        for (volatile int k = 0; k < 2000; k++)
            ;
    }
    return cut;
}

START_TEST(test_on_the_way_to_sleep)
{
    Ticked *t = ticked();
    install();
    if (!usable((SysTickSource)_i))
        return;
    ck_assert_int_eq(begin(t, (SysTickSource)_i, _i == 0 ? MS : MS / 10, 0), 0);
    int cut = nap(t, 10000);
    end(t);
    printf("%s: %d ticks beside 10000 naps, %d cut short\n", _i == 0 ? "timer" : "perf", t->ticks,
           cut);
    ck_assert_int_gt(t->ticks, 0);
    ck_assert_int_eq(cut, 0);
}
END_TEST

START_TEST(test_period)
{
    Ticked *t = ticked();
    install();
    if (!usable((SysTickSource)_i))
        return;
    ck_assert_int_eq(begin(t, (SysTickSource)_i, 0, 0), 0);
    spin(40 * MS);
    ck_assert_int_eq(t->ticks, 0);
    for (int k = 0; k < 2; k++) {
        int before = t->ticks;
        ck_assert_int_eq(sys_tick_period(&t->tick, 4 * MS), 0);
        int due = spin_ticks(t, 6, 4 * MS);
        ck_assert_int_ge(t->ticks, before + 6);
        ck_assert_int_le(t->ticks, before + due + 2);
        ck_assert_int_eq(sys_tick_period(&t->tick, 0), 0);
        before = t->ticks;
        spin(40 * MS);
        ck_assert_int_eq(t->ticks, before);
    }
    ck_assert_int_eq(sys_tick_period(&t->tick, -1), -EINVAL);
    end(t);
}
END_TEST

static int thread_source;
static void spin_until_told(void *arg)
{
    Ticked *t = arg;
    ck_assert_int_eq(begin(t, (SysTickSource)thread_source, 0, 0), 0);
    t->phase = 1;
    while (t->phase == 1)
        ;
    end(t);
}

START_TEST(test_period_of_another)
{
    Ticked *t = ticked();
    SysThread thread;
    install();
    if (!usable((SysTickSource)_i))
        return;
    thread_source = _i;
    ck_assert_int_eq(sys_thread_create(&thread, spin_until_told, t), 0);
    await(&t->phase, 1);
    usleep(30000);
    ck_assert_int_eq(t->ticks, 0);
    ck_assert_int_eq(sys_tick_period(&t->tick, 2 * MS), 0);
    await(&t->ticks, 5);
    ck_assert_int_eq(sys_tick_period(&t->tick, 0), 0);
    usleep(10000);
    int n = t->ticks;
    usleep(50000);
    ck_assert_int_eq(t->ticks, n);
    t->phase = 2;
    sys_thread_join(&thread);
}
END_TEST

enum { CROWD = 16 };
static void until_first(void *arg)
{
    Ticked *t = arg;
    int64_t start = cpu_now();
    ck_assert_int_eq(begin(t, SYS_TICK_TIMER, 40 * MS, (uint32_t)t->phase), 0);
    while (t->ticks == 0)
        ;
    t->first -= start;
    end(t);
}

START_TEST(test_stagger)
{
    Ticked *t[CROWD];
    SysThread thread[CROWD];
    int64_t least = INT64_MAX, most = 0;
    install();
    for (int i = 0; i < CROWD; i++) {
        t[i] = ticked();
        t[i]->phase = i;
        ck_assert_int_eq(sys_thread_create(&thread[i], until_first, t[i]), 0);
    }
    for (int i = 0; i < CROWD; i++) {
        sys_thread_join(&thread[i]);
        ck_assert_int_ge(t[i]->first, 20 * MS);
        least = t[i]->first < least ? t[i]->first : least;
        most = t[i]->first > most ? t[i]->first : most;
    }
    printf("first ticks of %d threads: %.1f to %.1f ms\n", CROWD, (double)least / MS,
           (double)most / MS);
    ck_assert_int_le(most, 70 * MS);
    ck_assert_int_ge(most - least, 20 * MS);
}
END_TEST

/* ---- from another thread -------------------------------------------------------- */

/* Go: TestSignalM. A signal comes to the thread it was meant for. */

START_TEST(test_poke)
{
    Ticked *t[2];
    SysThread thread[2];
    install();
    for (int i = 0; i < 2; i++) {
        t[i] = ticked();
        ck_assert_int_eq(sys_thread_create(&thread[i], spin_until_told, t[i]), 0);
        await(&t[i]->phase, 1);
    }
    errno = 1234;
    for (int n = 1; n <= 20; n++) {
        sys_tick_poke(&t[0]->tick);
        await(&t[0]->pokes, n);
    }
    ck_assert_int_eq(errno, 1234);
    t[0]->phase = t[1]->phase = 2;
    for (int i = 0; i < 2; i++)
        sys_thread_join(&thread[i]);
    ck_assert_int_eq(t[0]->pokes, 20);
    ck_assert_int_eq(t[1]->pokes + t[0]->ticks + t[1]->ticks, 0);
    sys_tick_poke(&t[0]->tick); /* gone */
    ck_assert_int_eq(sys_tick_nudge(&t[0]->tick), -ESRCH);
    ck_assert_int_eq(sys_tick_period(&t[0]->tick, MS), 0);
}
END_TEST

/* No memory for what a signal carries: it must be looked at all the same, and the
 * host's handler too, since it might be the host's. */
static volatile int host_got;
static void host_handler(int sig)
{
    host_got++;
    errno = sig;
}

START_TEST(test_poke_without_memory)
{
    Ticked *t = ticked();
    struct rlimit none = {0, 0};
    if (_i != 0)
        signal(SIGURG, host_handler);
    install();
    ck_assert_int_eq(begin(t, SYS_TICK_TIMER, 0, 0), 0);
    ck_assert_int_eq(setrlimit(RLIMIT_SIGPENDING, &none), 0);
    sys_tick_poke(&t->tick);
    ck_assert_int_eq(t->pokes, 1);
    ck_assert_int_eq(host_got, _i);
    end(t);
    ck_assert_int_eq(begin(t, SYS_TICK_TIMER, MS, 0), -EAGAIN); /* and pokes still work */
    sys_tick_poke(&t->tick);
    ck_assert_int_eq(t->pokes, 2);
    end(t);
}
END_TEST

static void naps(void *arg)
{
    Ticked *t = arg;
    ck_assert_int_eq(begin(t, SYS_TICK_TIMER, 0, 0), 0);
    t->phase = 1;
    t->wrong += nap(t, INT_MAX);
    end(t);
}

/* Beside a thread that computes every nudge arrives, once; beside one that naps
 * no nap is cut short. */
START_TEST(test_nudge)
{
    Ticked *t = ticked();
    SysThread thread;
    install();
    if (!usable(SYS_TICK_PERF))
        return;
    ck_assert_int_eq(sys_thread_create(&thread, _i == 0 ? spin_until_told : naps, t), 0);
    await(&t->phase, 1);
    for (int n = 1; n <= 300; n++) {
        ck_assert_int_eq(sys_tick_nudge(&t->tick), 0);
        await(&t->pokes, n);
    }
    t->phase = 2;
    sys_thread_join(&thread); /* end() looks at wrong */
    ck_assert_int_eq(t->pokes, 300);
    ck_assert_int_eq(t->ticks, 0);
}
END_TEST

static int nudge_pipe[2];
static void read_pipe(void *arg)
{
    Ticked *t = arg;
    struct timespec ts = {0, 200 * MS};
    ck_assert_int_eq(begin(t, SYS_TICK_TIMER, 0, 0), 0);
    t->phase = 1;
    if (nanosleep(&ts, NULL) != 0)
        t->wrong++;
    spin(2 * MS);
    end(t);
}

/* Nudges of a thread that is blocked wait for it, as one. */
START_TEST(test_nudge_blocked)
{
    Ticked *t = ticked();
    SysThread thread;
    install();
    if (!usable(SYS_TICK_PERF))
        return;
    ck_assert_int_eq(pipe(nudge_pipe), 0);
    ck_assert_int_eq(sys_thread_create(&thread, read_pipe, t), 0);
    await(&t->phase, 1);
    usleep(20000);
    for (int i = 0; i < 50; i++)
        ck_assert_int_eq(sys_tick_nudge(&t->tick), 0);
    ck_assert_int_eq(t->pokes, 0);
    sys_thread_join(&thread);
    ck_assert_int_eq(t->pokes, 1);
}
END_TEST

/* ---- a host that uses the signal too ---------------------------------------------- */

static _Atomic int info_code;
static volatile bool masked_usr2;
static void host_info(int sig, siginfo_t *info, void *uc)
{
    sigset_t mask;
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    masked_usr2 = sigismember(&mask, SIGUSR2) && sigismember(&mask, sig);
    info_code = info->si_code;
    host_got += uc != NULL;
}

static void host_timer(int sig)
{
    struct sigevent sev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = sig};
    struct itimerspec its = {{0, 0}, {0, MS}};
    timer_t timer;
    sev.sigev_value.sival_int = 5;
    ck_assert_int_eq(timer_create(CLOCK_MONOTONIC, &sev, &timer), 0);
    timer_settime(timer, 0, &its, NULL);
    for (int i = 0; i < 2000 && host_got == 0; i++)
        usleep(1000);
    timer_delete(timer);
}

static void host_queue(int sig)
{
    sigqueue(getpid(), sig, (union sigval){.sival_int = 7});
}
static void host_kill(int sig)
{
    kill(getpid(), sig);
}
static void host_raise(int sig)
{
    raise(sig);
}
/* SIGURG by a descriptor with F_SETSIG: told apart from perf's by its number. */
static void host_fd(int sig)
{
    int fd[2];
    ck_assert_int_eq(pipe(fd), 0);
    fcntl(fd[0], F_SETOWN, getpid());
    fcntl(fd[0], F_SETSIG, sig);
    fcntl(fd[0], F_SETFL, O_ASYNC);
    ck_assert_int_eq(write(fd[1], "x", 1), 1);
    close(fd[0]);
    close(fd[1]);
}

static void (*const host_sends[])(int) = {host_raise, host_kill, host_queue, host_timer, host_fd};
enum { HOST_SENDS = 5 };

START_TEST(test_host)
{
    Ticked *t = ticked();
    struct sigaction sa = {.sa_sigaction = host_info, .sa_flags = SA_SIGINFO}, now;
    static const int codes[] = {SI_TKILL, SI_USER, SI_QUEUE, SI_TIMER, POLL_IN};
    sigaddset(&sa.sa_mask, SIGUSR2);
    sigaction(SIGURG, &sa, NULL);
    install();
    ck_assert_int_eq(begin(t, SYS_TICK_TIMER, MS, 0), 0);
    for (int i = 0; i < HOST_SENDS; i++) {
        int pokes = t->pokes;
        host_got = 0;
        host_sends[i](SIGURG);
        ck_assert_int_eq(host_got, 1);
        ck_assert_int_eq(info_code, codes[i]);
        ck_assert(masked_usr2);
        ck_assert_int_eq(t->pokes, pokes);
    }
    host_got = 0;
    sys_tick_poke(&t->tick);
    spin(30 * MS);
    ck_assert_int_gt(t->ticks, 0);
    ck_assert_int_eq(t->pokes, 1);
    ck_assert_int_eq(host_got, 0); /* what is ours is not theirs */
    end(t);
    sys_tick_remove();
    sigaction(SIGURG, NULL, &now);
    ck_assert(now.sa_sigaction == host_info && sigismember(&now.sa_mask, SIGUSR2));
    raise(SIGURG);
    ck_assert_int_eq(host_got, 1);
}
END_TEST

/* SA_RESETHAND: once, then the default; and the default stays when we go. */
START_TEST(test_host_once)
{
    struct sigaction sa = {.sa_handler = host_handler, .sa_flags = (int)SA_RESETHAND}, now;
    sigaction(SIGURG, &sa, NULL);
    install();
    raise(SIGURG);
    raise(SIGURG);
    ck_assert_int_eq(host_got, 1);
    sys_tick_remove();
    sigaction(SIGURG, NULL, &now);
    ck_assert(now.sa_handler == SIG_DFL);
}
END_TEST

START_TEST(test_replaced)
{
    struct sigaction now;
    ck_assert(!sys_tick_replaced());
    install();
    install(); /* again: nothing new */
    ck_assert(!sys_tick_replaced());
    ck_assert_int_eq(sys_tick_install(SIGUSR1, look), -EBUSY);
    signal(SIGURG, host_handler);
    ck_assert(sys_tick_replaced());
    sys_tick_remove(); /* theirs stays */
    ck_assert(!sys_tick_replaced());
    sigaction(SIGURG, NULL, &now);
    ck_assert(now.sa_handler == host_handler);
    static const int no[] = {SIGKILL, SIGSTOP, SIGSEGV, SIGCHLD, SIGABRT, 32, -1, 65, 1000};
    for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++)
        ck_assert_int_eq(sys_tick_install(no[i], look), -EINVAL);
    ck_assert_int_eq(sys_tick_install(SIGUSR1, look), 0);
    ck_assert_int_eq(sys_tick_signal(), SIGUSR1);
    sys_tick_remove();
    sigaction(SIGUSR1, NULL, &now);
    ck_assert(now.sa_handler == SIG_DFL);
}
END_TEST

/* A signal that kills by default still does when it is not ours, and never when it is. */
START_TEST(test_deaths)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        Ticked *t = ticked();
        if (_i == HOST_SENDS)
            signal(SIGUSR1, SIG_IGN);
        sys_tick_install(SIGUSR1, look);
        begin(t, SYS_TICK_TIMER, MS, 0);
        sys_tick_poke(&t->tick);
        spin(20 * MS);
        if (t->ticks == 0 || t->pokes == 0)
            _exit(1);
        host_sends[_i % HOST_SENDS](SIGUSR1);
        _exit(42);
    }
    waitpid(pid, &status, 0);
    if (_i == HOST_SENDS)
        ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 42);
    else
        ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGUSR1);
}
END_TEST

START_TEST(test_realtime_signal)
{
    Ticked *t = ticked();
    ck_assert_int_eq(sys_tick_install(SIGRTMIN + 3, look), 0);
    ck_assert_int_eq(begin(t, SYS_TICK_TIMER, MS, 0), 0);
    sys_tick_poke(&t->tick);
    spin(30 * MS);
    end(t);
    ck_assert(t->ticks > 0 && t->pokes == 1);
    sys_tick_block(true);
    ck_assert_int_eq(begin(t, SYS_TICK_PERF, MS, 0), -EINVAL);
    t->ticks = 0;
    ck_assert_int_eq(sys_tick_start(&t->tick, SYS_TICK_TIMER, MS, 0), 0); /* then another source */
    spin(30 * MS);
    ck_assert_int_gt(t->ticks, 0);
    end(t);
    sigset_t mask;
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    ck_assert(sigismember(&mask, SIGRTMIN + 3)); /* the mask from before the first */
}
END_TEST

/* What was pending is delivered before the end, and the mask is what it was. */
START_TEST(test_stop)
{
    Ticked *t = ticked();
    sigset_t mask;
    install();
    for (int blocked = 0; blocked < 2; blocked++) {
        sys_tick_block(blocked != 0);
        t->pokes = t->ticks = 0;
        ck_assert_int_eq(begin(t, SYS_TICK_TIMER, MS, 0), 0);
        sys_tick_block(true);
        sys_tick_poke(&t->tick);
        spin(20 * MS);
        ck_assert_int_eq(t->pokes + t->ticks, 0);
        end(t);
        ck_assert_int_ge(t->pokes, 1);
        pthread_sigmask(SIG_BLOCK, NULL, &mask);
        ck_assert_int_eq(sigismember(&mask, SIGURG), blocked);
    }
    sigpending(&mask);
    ck_assert(!sigismember(&mask, SIGURG));
}
END_TEST

/* ---- fork ------------------------------------------------------------------------ */

static int in_child(Ticked *t, int nudge_fd)
{
    int fd = t->tick.fd, n = t->ticks;
    spin(50 * MS);
    if (t->ticks != n)
        return 1;
    if (fd >= 0 && fcntl(fd, F_GETFD) != -1)
        return 2;
    if (nudge_fd >= 0 && fcntl(nudge_fd, F_GETFD) != -1)
        return 3;
    while (open("/dev/null", O_RDONLY) < fd) /* until the number is taken again */
        ;
    sys_tick_poke(&t->tick); /* of the parent's thread */
    sys_tick_stop(&t->tick);
    return fd >= 0 && fcntl(fd, F_GETFD) == -1 ? 4 : 42;
}

START_TEST(test_fork)
{
    Ticked *t = ticked();
    int status;
    install();
    if (!usable((SysTickSource)_i))
        return;
    ck_assert_int_eq(begin(t, (SysTickSource)_i, 2 * MS, 0), 0);
    bool nudges = sys_tick_nudge(&t->tick) == 0;
    spin(20 * MS);
    ck_assert_int_gt(t->ticks, 0);
    int pokes = t->pokes;
    pid_t pid = fork();
    if (pid == 0)
        _exit(in_child(t, nudges ? t->tick.nudge_fd : -1));
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 42);
    ck_assert_int_eq(t->pokes, pokes);
    int n = t->ticks;
    spin(30 * MS);
    ck_assert_int_gt(t->ticks, n); /* ours go on */
    end(t);
}
END_TEST

/* ---- a thread's state --------------------------------------------------------------- */

static void in_state(void *arg)
{
    Ticked *t = arg;
    static _Atomic uint32_t never;
    int kind = t->phase;
    t->ticks = sys_tid();
    sys_thread_name(") R (x) S");
    if (kind == 0)
        while (t->pokes == 0)
            ;
    else if (kind == 1)
        while (t->pokes == 0)
            usleep(300000);
    else
        while (t->pokes == 0)
            sys_park(&never, 0, sys_now() + 300 * MS);
}

START_TEST(test_state)
{
    Ticked *t = ticked();
    SysThread thread;
    t->phase = _i;
    ck_assert_int_eq(sys_thread_create(&thread, in_state, t), 0);
    await(&t->ticks, 1);
    int runs = 0;
    usleep(20000);
    for (int i = 0; i < 50; i++) {
        int rc = sys_task_runs(t->ticks);
        ck_assert(rc == 0 || rc == 1);
        runs += rc;
        usleep(100);
    }
    if (_i == 0)
        ck_assert_int_eq(runs, 50);
    else
        ck_assert_int_le(runs, 2);
    t->pokes = 1;
    sys_thread_join(&thread);
    for (int i = 0; i < 1000 && sys_task_runs(t->ticks) >= 0; i++)
        usleep(1000);
    ck_assert_int_eq(sys_task_runs(t->ticks), -ENOENT);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tick");
    TCase *tc = tcase_create("tick");
    tcase_set_timeout(tc, 30);
#ifndef WEFT_TSAN /* it puts signals off, and runs their handlers at other times */
    tcase_add_loop_test(tc, test_rate, 0, 2);
    tcase_add_loop_test(tc, test_blocked, 0, 2);
    tcase_add_loop_test(tc, test_on_the_way_to_sleep, 0, 2);
    tcase_add_loop_test(tc, test_period, 0, 2);
    tcase_add_loop_test(tc, test_period_of_another, 0, 2);
    tcase_add_test(tc, test_stagger);
    tcase_add_test(tc, test_poke);
    tcase_add_loop_test(tc, test_poke_without_memory, 0, 2);
    tcase_add_loop_test(tc, test_nudge, 0, 2);
    tcase_add_test(tc, test_nudge_blocked);
    tcase_add_test(tc, test_host);
    tcase_add_test(tc, test_host_once);
    tcase_add_test(tc, test_realtime_signal);
    tcase_add_test(tc, test_stop);
    tcase_add_loop_test(tc, test_deaths, 0, HOST_SENDS + 1);
    tcase_add_loop_test(tc, test_fork, 0, 2);
#endif
    tcase_add_test(tc, test_replaced);
    tcase_add_loop_test(tc, test_state, 0, 3);
    suite_add_tcase(suite, tc);
    SRunner *sr = srunner_create(suite);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? 0 : 1;
}
