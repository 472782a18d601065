/* SPDX-License-Identifier: MIT
 *
 * check_child.c: waiting for child processes, and what these find when they begin. */
#include "behaviour.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* A child that lives until its parent closes the other end, or says what to return. */
static pid_t child(int *control)
{
    int p[2];
    EQ(pipe2(p, O_CLOEXEC), 0);
    pid_t pid = fork();
    OK(pid >= 0);
    if (pid == 0) {
        char c = 0;
        close(p[1]);
        while (read(p[0], &c, 1) < 0 && *weft_errno() == EINTR)
            ;
        _exit(c);
    }
    close(p[0]);
    *control = p[1];
    return pid;
}

static void end(int control, char code)
{
    EQ(write(control, &code, 1), 1);
    close(control);
}

/* Of ours that are for children. */
static int child_descriptors(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    OK(d != NULL);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        char to[64] = "";
        OK(readlinkat(dirfd(d), e->d_name, to, sizeof to - 1) >= 0 || e->d_name[0] == '.' ||
           errno == ENOENT); /* another thread has closed it */
        n += strstr(to, "pidfd") != NULL;
    }
    closedir(d);
    return n;
}

/* ---- waiting ---------------------------------------------------------------------- */

typedef struct {
    pid_t pid, got;
    int status, options;
    int control;
    _Atomic bool began;
    weft_wg_t done;
} Parent;

static void wait_for_it(void *arg)
{
    Parent *p = arg;
    p->began = true;
    p->got = weft_waitpid(p->pid, &p->status, p->options);
}

static void parent_start(Parent *p, pid_t pid, int options)
{
    p->pid = pid;
    p->options = options;
    p->began = false;
    EQ(weft_wg_go(&p->done, wait_for_it, p), 0);
    while (!p->began)
        weft_yield();
}

enum { CHILDREN = 40 };

/* Many at a time need few threads. Go: TestPipeThreads, for processes. */
static void many_body(void)
{
    static Parent p[CHILDREN];
    weft_stats_t s;
    memset(p, 0, sizeof p);
    for (int i = 0; i < CHILDREN; i++) {
        int control;
        pid_t pid = child(&control);
        p[i].control = control;
        parent_start(&p[i], pid, 0);
    }
    weft_sleep(20 * MS);
    EQ(weft_stats(&s), 0);
    OK(s.threads < 12);
    EQ(s.coroutines, CHILDREN + 1);
    EQ(child_descriptors(), CHILDREN);
    for (int i = CHILDREN; i-- > 0;)
        end(p[i].control, (char)i);
    for (int i = 0; i < CHILDREN; i++) {
        EQ(weft_wg_wait(&p[i].done), 0);
        EQ(p[i].got, p[i].pid);
        OK(WIFEXITED(p[i].status));
        EQ(WEXITSTATUS(p[i].status), i);
    }
    EQ(child_descriptors(), 0);
}

START_TEST(many)
{
    run(_i, many_body);
}
END_TEST

static void results_body(void)
{
    int control, status = 0;
    errno = 77;
    EQ(weft_waitpid(-1, NULL, 0), -ECHILD);
    EQ(weft_waitpid(getpid(), NULL, 0), -ECHILD);
    EQ(weft_waitpid(getpid(), NULL, 0x12345678), -EINVAL);
    pid_t pid = child(&control);
    EQ(weft_waitpid(pid, &status, WNOHANG), 0);
    EQ(weft_waitpid(-1, &status, WNOHANG), 0);
    end(control, 5);
    EQ(weft_waitpid(pid, NULL, 0), pid);
    EQ(weft_waitpid(pid, NULL, 0), -ECHILD);
    EQ(weft_waitpid(pid, NULL, WNOHANG), -ECHILD);
    pid = child(&control);
    EQ(kill(pid, SIGKILL), 0);
    EQ(weft_waitpid(pid, &status, 0), pid);
    OK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    close(control);
    pid = child(&control);
    end(control, 6); /* it has ended before anybody asks, most likely */
    weft_sleep(10 * MS);
    EQ(weft_waitpid(pid, &status, 0), pid);
    EQ(WEXITSTATUS(status), 6);
    EQ(errno, 77);
}

START_TEST(results)
{
    run(_i, results_body);
}
END_TEST

/* What has no descriptor: any child, and stops. */
static void blocking_body(void)
{
    Parent p = {0}, q = {0};
    int control;
    pid_t pid = child(&control);
    parent_start(&p, pid, WUNTRACED);
    EQ(kill(pid, SIGSTOP), 0);
    EQ(weft_wg_wait(&p.done), 0);
    EQ(p.got, pid);
    OK(WIFSTOPPED(p.status) && WSTOPSIG(p.status) == SIGSTOP);
    parent_start(&p, pid, WCONTINUED);
    EQ(kill(pid, SIGCONT), 0);
    EQ(weft_wg_wait(&p.done), 0);
    EQ(p.got, pid);
    OK(WIFCONTINUED(p.status));
    parent_start(&p, -1, 0);
    parent_start(&q, 0, 0);
    weft_sleep(5 * MS); /* both are in the kernel by now, also on one processor */
    end(control, 9);
    EQ(weft_wg_wait(&p.done), 0);
    EQ(weft_wg_wait(&q.done), 0);
    OK((p.got == pid && q.got == -ECHILD) || (p.got == -ECHILD && q.got == pid));
}

START_TEST(blocking)
{
    run(_i, blocking_body);
}
END_TEST

/* Two for one child: the one gets it, the other is told. */
static void rivals_body(void)
{
    Parent p = {0}, q = {0};
    int control;
    pid_t pid = child(&control);
    parent_start(&p, pid, 0);
    parent_start(&q, pid, 0);
    weft_sleep(5 * MS);
    end(control, 1);
    EQ(weft_wg_wait(&p.done), 0);
    EQ(weft_wg_wait(&q.done), 0);
    OK((p.got == pid && q.got == -ECHILD) || (p.got == -ECHILD && q.got == pid));
}

START_TEST(rivals)
{
    run(_i, rivals_body);
}
END_TEST

static void *wait_in_thread(void *arg)
{
    Parent *p = arg;
    p->began = true;
    p->got = weft_waitpid(p->pid, &p->status, 0);
    return NULL;
}

static void foreign_body(void)
{
    Parent p = {0};
    pthread_t t;
    p.pid = child(&p.control);
    EQ(pthread_create(&t, NULL, wait_in_thread, &p), 0);
    while (!p.began)
        weft_sleep(MS);
    weft_sleep(5 * MS);
    end(p.control, 4);
    pthread_join(t, NULL);
    EQ(p.got, p.pid);
    EQ(WEXITSTATUS(p.status), 4);
}

/* A run that ends does not wait for a thread that waits for a child. */
static Parent across;
static pthread_t across_thread;

static void across_body(void)
{
    across = (Parent){0};
    across.pid = child(&across.control);
    EQ(pthread_create(&across_thread, NULL, wait_in_thread, &across), 0);
    while (!across.began)
        weft_sleep(MS);
    weft_sleep(5 * MS);
}

START_TEST(foreign)
{
    run(_i, foreign_body);
    run(_i, across_body);
    end(across.control, 3);
    pthread_join(across_thread, NULL);
    EQ(across.got, across.pid);
    int control, status;
    pid_t pid = child(&control); /* no run at all */
    EQ(weft_waitpid(pid, &status, WNOHANG), 0);
    end(control, 2);
    EQ(weft_waitpid(pid, &status, 0), pid);
    EQ(WEXITSTATUS(status), 2);
}
END_TEST

/* The run ends while coroutines wait, parked and in the kernel: no descriptor is left. */
static int left_control;
static pid_t left_pid;
static Parent left[3];

static void leave_body(void)
{
    left_pid = child(&left_control);
    memset(left, 0, sizeof left);
    parent_start(&left[0], left_pid, 0);
    parent_start(&left[1], left_pid, 0);
#ifndef WEFT_TSAN /* there is no signal there that would cut the call short */
    parent_start(&left[2], -1, 0);
#endif
    while (child_descriptors() < 2)
        weft_sleep(MS);
    weft_sleep(20 * MS);
}

START_TEST(abandoned)
{
    for (int i = 0; i < 5; i++) {
        run(_i, leave_body);
        EQ(child_descriptors(), 0);
        end(left_control, 1);
        EQ(weft_waitpid(left_pid, NULL, 0), left_pid);
    }
}
END_TEST

/* ---- what a child finds ------------------------------------------------------------------- */

/* Signals 32 and 33 are the C library's: what it does with them when threads are made is not ours. */
static void forget_internal(char *text)
{
    char *at = strstr(text, "SigIgn:"), digits[32];
    OK(at != NULL);
    at += strspn(at, "SigIgn:\t");
    uint64_t set = strtoull(at, NULL, 16) & ~(UINT64_C(3) << 31);
    snprintf(digits, sizeof digits, "%016llx", (unsigned long long)set);
    memcpy(at, digits, 16);
}

/* What a program that is executed sees of its signals and descriptors. Async-signal-safe calls
 * only. */
static void look(bool signals, char *text, size_t size)
{
    int out[2];
    size_t at = 0;
    ssize_t n;
    EQ(pipe2(out, O_CLOEXEC), 0);
    pid_t pid = fork();
    OK(pid >= 0);
    if (pid == 0) {
        dup2(out[1], 1);
        if (signals) /* no shell in between: some clear the mask */
            execl("/bin/grep", "grep", "-E", "^(Sig|Shd)(Pnd|Blk|Ign|Cgt)", "/proc/self/status",
                  (char *)NULL);
        else
            execl("/bin/sh", "sh", "-c", "ls -l /proc/self/fd | sed 's/.*[0-9] //; s/[0-9]\\+//g'",
                  (char *)NULL);
        _exit(127);
    }
    close(out[1]);
    while ((n = read(out[0], text + at, size - 1 - at)) != 0)
        at += n > 0 ? (size_t)n : 0;
    text[at] = '\0';
    if (signals)
        forget_internal(text);
    close(out[0]);
    int status;
    EQ(waitpid(pid, &status, 0), pid);
    EQ(status, 0);
}

static char expected[2][4096];
static _Atomic int looked;

static void look_here(void *arg)
{
    char text[4096];
    (void)arg;
    for (int i = 0; i < 4; i++) {
        weft_sleep(MS);
        look(i & 1, text, sizeof text);
        if (strcmp(text, expected[i & 1]) != 0)
            ck_abort_msg("a child sees\n%sinstead of\n%s", text, expected[i & 1]);
        looked++;
    }
}

static void nothing(void *arg)
{
    (void)arg;
}

/* Timers, the poller, signals and several threads are in use. */
static void clean_body(void)
{
    weft_wg_t group = {0};
    weft_timer_t timer = {0};
    weft_chan_t *c = weft_chan_make(sizeof(int), 1);
    int p[2];
    looked = 0;
    EQ(pipe2(p, O_CLOEXEC), 0);
    EQ(weft_poll_fd(p[0], WEFT_READ, weft_now() + MS), -ETIMEDOUT);
    EQ(weft_timer_start(&timer, weft_now() + MS, MS, nothing, NULL), 0);
    EQ(weft_signal_notify(c, SIGUSR1), 0);
    for (int i = 0; i < 8; i++)
        EQ(weft_wg_go(&group, look_here, NULL), 0);
    EQ(weft_wg_wait(&group), 0);
    look_here(NULL);
    EQ(looked, 36);
    EQ(weft_timer_stop(&timer), 1);
    EQ(weft_signal_stop(c), 0);
    weft_chan_unref(c);
    EQ(weft_close(p[0]), 0);
    EQ(weft_close(p[1]), 0);
}

START_TEST(clean)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2); /* a mask of one's own is kept */
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    for (int i = 0; i < 2; i++)
        look(i, expected[i], sizeof expected[i]);
    OK(strstr(expected[1], "SigBlk:\t0000000000000800\n") != NULL);
    OK(strstr(expected[0], "pipe:[]") != NULL);
    run(_i, clean_body);
}
END_TEST

/* The child of a coroutine may do what POSIX allows: handle signals, have children, write. */
static _Atomic int signalled;

static void on_signal(int signo)
{
    signalled = signo;
}

static _Noreturn void busy_child(int out)
{
    struct sigaction sa = {.sa_handler = on_signal};
    int status = 0;
    if (sigaction(SIGUSR1, &sa, NULL) != 0 || kill(getpid(), SIGUSR1) != 0 || signalled != SIGUSR1)
        _exit(11);
    pid_t pid = fork(); /* not listed as safe any more, but glibc's is for us: the handlers run */
    if (pid == 0)
        _exit(42);
    if (waitpid(pid, &status, 0) != pid || status != 42 << 8)
        _exit(12);
    struct timespec ts = {0, 20000000};
    if (nanosleep(&ts, NULL) != 0)
        _exit(13);
    if (weft_waitpid(-1, &status, 0) != -ENOSYS || weft_cancel(1) != -ENOSYS)
        _exit(14);
    if (write(out, "done", 4) != 4)
        _exit(15);
    _exit(0);
}

static void fork_one(void *arg)
{
    int out[2], status = 0;
    char buf[8];
    (void)arg;
    EQ(pipe2(out, O_CLOEXEC), 0);
    pid_t pid = fork();
    OK(pid >= 0);
    if (pid == 0)
        busy_child(out[1]);
    close(out[1]);
    EQ(weft_read(out[0], buf, sizeof buf), 4);
    EQ(weft_waitpid(pid, &status, 0), pid);
    EQ(status, 0);
    EQ(weft_close(out[0]), 0);
}

static void safe_body(void)
{
    weft_wg_t group = {0};
    for (int i = 0; i < 12; i++)
        EQ(weft_wg_go(&group, fork_one, NULL), 0);
    fork_one(NULL);
    EQ(weft_wg_wait(&group), 0);
}

START_TEST(safe_calls)
{
    run(_i, safe_body);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("child");
    TCase *tc = tcase_create("child");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, many, 0, NPROCS);
    tcase_add_loop_test(tc, results, 0, NPROCS);
    tcase_add_loop_test(tc, blocking, 0, NPROCS);
    tcase_add_loop_test(tc, rivals, 0, NPROCS);
    tcase_add_loop_test(tc, foreign, 0, NPROCS);
    tcase_add_loop_test(tc, abandoned, 0, NPROCS);
    tcase_add_loop_test(tc, clean, 0, NPROCS);
    tcase_add_loop_test(tc, safe_calls, 0, NPROCS);
    suite_add_tcase(s, tc);
    return run_suite(s);
}
