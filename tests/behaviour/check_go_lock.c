/* SPDX-License-Identifier: MIT
 *
 * check_go_lock.c: weft_thread_lock() does what Go's own tests ask of LockOSThread; and what is a thread's stays with
 * it. The Go test is named at each; GO-TESTS lists all. More of it: check_pin.c. */
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "behaviour.h"
#include "preempt_test.h"

static weft_wg_t wg;
static weft_chan_t *chan;

static void spawn(void (*fn)(void *), void *arg)
{
    EQ(weft_wg_go(&wg, fn, arg), 0);
}

static void join(void)
{
    EQ(weft_wg_wait(&wg), 0);
}

/* ---- Go: TestBlockLocked --------------------------------------------------------------------- */

static void send_locked(void *arg)
{
    (void)arg;
    weft_thread_lock();
    int tid = gettid();
    for (int i = 0; i < 10; i++) {
        EQ(weft_send(chan, &i), 0);
        EQ(gettid(), tid);
    }
    weft_thread_unlock();
}

static void block_locked_body(void)
{
    chan = weft_chan_make(sizeof(int), 0);
    for (int round = 0; round < 20; round++) {
        spawn(send_locked, NULL);
        for (int i = 0, v; i < 10; i++) {
            EQ(weft_recv(chan, &v), 1);
            EQ(v, i);
        }
        join();
    }
    weft_chan_unref(chan);
}

/* ---- Go: TestLockOSThreadNesting ----------------------------------------------------------------- */

static _Atomic int locked_tid; /* the thread on which nobody else may be */
static _Atomic bool strangers; /* somebody has been there nevertheless */
static _Atomic bool stop;

static void visit(void *arg)
{
    (void)arg;
    if (gettid() == locked_tid)
        strangers = true;
}

static void roam(void *arg)
{
    while (!stop) {
        visit(arg);
        weft_syscall_enter();
        usleep(500); /* so that threads are needed, idle ones too */
        weft_syscall_exit();
        weft_yield();
    }
}

static bool exists(int tid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d", tid);
    return access(path, F_OK) == 0;
}

/* Alone on its thread until the last unlock, and not any more after it; unless that has idled until it ended. */
static void nest(void *arg)
{
    (void)arg;
    for (int depth = 1; depth <= 3; depth++) {
        for (int i = 0; i < depth; i++)
            weft_thread_lock();
        locked_tid = gettid();
        for (int left = depth; left > 0; left--) {
            for (int i = 0; i < 20; i++) {
                weft_yield();
                weft_sleep(20 * US);
                EQ(gettid(), locked_tid);
            }
            OK(!strangers);
            weft_thread_unlock();
        }
        int64_t late = weft_now() + 20 * SEC;
        while (!strangers && exists(locked_tid)) { /* on one P roam() may keep its thread for long */
            OK(weft_now() < late);
            spawn(visit, NULL);
            weft_sleep(100 * US);
        }
        locked_tid = 0;
        weft_sleep(MS);
        strangers = false;
    }
    stop = true;
}

static void nesting_body(void)
{
    stop = strangers = false;
    for (int i = 0; i < 8; i++)
        spawn(roam, NULL);
    spawn(nest, NULL);
    join();
}

/* ---- Go: TestLockOSThreadAvoidsStatePropagation ------------------------------------------------------ */

/* A thread that has left the process' directory does not hand that on: no thread is made by it, and nobody else runs
 * there while it is locked. */
static char before[4096];
static _Atomic int asked;

static void where(void *arg)
{
    char here[4096], name[16];
    (void)arg;
    asked++;
    weft_syscall_enter();
    usleep(20000); /* many of these: new threads have to be made */
    weft_syscall_exit();
    OK(getcwd(here, sizeof here) != NULL);
    OK(strcmp(here, before) == 0);
    OK(prctl(PR_GET_NAME, name) == 0);
    OK(strcmp(name, "estranged") != 0);
}

/* This thread gets a name of its own, and, where containers permit it, a directory. */
static bool leave(void)
{
    OK(prctl(PR_SET_NAME, "estranged") == 0);
    if (unshare(CLONE_FS) != 0)
        return false;
    OK(chdir("/") == 0);
    return true;
}

static void estrange(void *arg)
{
    char here[8], name[16];
    (void)arg;
    weft_thread_lock();
    OK(prctl(PR_GET_NAME, name) == 0);
    bool apart = leave();
    for (int i = 0; i < 20; i++)
        spawn(where, NULL);
    while (asked < 20)
        weft_yield();
    for (int i = 0; i < 20; i++) {
        weft_sleep(2 * MS);
        OK(!apart || strcmp(getcwd(here, sizeof here), "/") == 0);
    }
    OK(prctl(PR_SET_NAME, name) == 0);
    OK(!apart || chdir(before) == 0);
    weft_thread_unlock();
}

static void propagation_body(void)
{
    OK(getcwd(before, sizeof before) != NULL && strcmp(before, "/") != 0);
    asked = 0;
    spawn(estrange, NULL);
    join();
}

/* ---- Go: TestLockOSThreadExit ------------------------------------------------------------------------- */

/* Who ends without unlock takes its thread with it: what it has made of it is nobody's. */
static _Atomic int last_tid;

static void end_locked(void *arg)
{
    (void)arg;
    weft_thread_lock();
    weft_thread_lock();
    last_tid = gettid();
    (void)leave();
    weft_yield();
    weft_thread_unlock(); /* once less */
}

/* Main's thread, that of weft_run(), stays. It is the process' first here. */
static void exit_body(void)
{
    OK(getcwd(before, sizeof before) != NULL && strcmp(before, "/") != 0);
    for (int i = 0; i < 10; i++) {
        spawn(end_locked, NULL);
        join();
        int64_t late = weft_now() + 20 * SEC;
        while (last_tid != getpid() && exists(last_tid)) {
            OK(weft_now() < late);
            weft_sleep(100 * US);
        }
    }
    for (int i = 0; i < 20; i++)
        spawn(where, NULL);
    join();
}

static void lock_and_end(void *arg)
{
    (void)arg;
    weft_thread_lock();
    last_tid = gettid();
}

static void not_on_first(void *arg)
{
    (void)arg;
    OK(gettid() != getpid());
    weft_syscall_enter();
    usleep(500);
    weft_syscall_exit();
    OK(gettid() != getpid());
}

/* It stays, but runs no coroutine any more until the run is over. Others end before it is its turn. */
static void exit_first_body(void)
{
    int64_t late = weft_now() + 20 * SEC;
    do {
        spawn(lock_and_end, NULL);
        join();
        OK(weft_now() < late);
    } while (last_tid != getpid());
    for (int i = 0; i < 100; i++)
        spawn(not_on_first, NULL);
    join();
    OK(gettid() != getpid() && exists(getpid()));
    weft_thread_lock(); /* main may end so too */
}

/* ---- Go: TestSignalExitStatus --------------------------------------------------------------------------- */

/* A signal that kills says so to the parent, whatever handlers the runtime has. */
static int kill_self(void *arg)
{
    kill(getpid(), *(int *)arg);
    weft_sleep(20 * SEC);
    return 0;
}

START_TEST(exit_status)
{
    static const int SIGNALS[] = {SIGTERM, SIGINT, SIGKILL};
    for (int i = 0; i < 3; i++) {
        int signo = SIGNALS[i], status;
        pid_t child = fork();
        OK(child >= 0);
        if (child == 0) {
            weft_config_t cfg = {.procs = PROCS[_i]};
            signal(signo, SIG_DFL);
            _exit(weft_run_with(&cfg, kill_self, &signo) & 127);
        }
        EQ(waitpid(child, &status, 0), child);
        OK(WIFSIGNALED(status));
        EQ(WTERMSIG(status), signo);
    }
}
END_TEST

/* ---- all ------------------------------------------------------------------------------------------------ */

static void (*const bodies[])(void) = {block_locked_body, nesting_body, propagation_body,
                                       exit_body};
enum { BODIES = sizeof bodies / sizeof bodies[0] };

START_TEST(each)
{
    run(_i % NPROCS, bodies[_i / NPROCS]);
}
END_TEST

/* The next run begins on it like any other. */
START_TEST(first_exit)
{
    for (int i = 0; i < 3; i++) {
        run(_i, exit_first_body);
        EQ(gettid(), getpid());
    }
    run(_i, block_locked_body);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("go lock");
    TCase *tc = tcase_create("go lock");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, each, 0, BODIES * NPROCS);
    tcase_add_loop_test(tc, exit_status, 0, NPROCS);
    tcase_add_loop_test(tc, first_exit, 0, NPROCS);
    suite_add_tcase(s, tc);
    return run_suite(s);
}
