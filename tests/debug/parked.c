/* SPDX-License-Identifier: MIT
 *
 * parked.c: coroutines in every state a debugger may find them in, each in a function of its own
 * name, and one of each object. When all stand as they are to be seen, marker() is called by the one
 * that runs. With WEFT_DEBUG=windows=1 the copied stacks lie in their blocks, all but the last one's.
 * usage: parked [MORE [abort]]; MORE is the size of a crowd that waits for one channel. With abort marker()
 * does not return, and there may be a core file. */
#include <weft.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

weft_chan_t *gate, *full, *closed, *done;
weft_mutex_t mutex;
weft_rwmutex_t rwmutex;
weft_cond_t cond;
weft_sem_t sem;
weft_wg_t wg;
weft_once_t once;

static volatile int there, stop, turns_held, turns_moved;
static volatile unsigned long sink;
static int pipe_fd[2];
static int dies;

void marker(void);
__attribute__((noinline)) void marker(void)
{
    if (dies)
        abort();
    sink++;
}

/* Here, and about to wait. */
static void arrive(void)
{
    there++;
}

/* Each has a frame with a local in memory, and a caller with one, too. */
static __attribute__((noinline)) int parked_receive(void)
{
    volatile int secret = 1001;
    arrive();
    weft_recv(gate, NULL);
    return secret;
}

static __attribute__((noinline)) int parked_lock(void)
{
    volatile int secret = 1002;
    arrive();
    weft_mutex_lock(&mutex);
    weft_mutex_unlock(&mutex);
    return secret;
}

static __attribute__((noinline)) int parked_sleep(void)
{
    volatile int secret = 1003;
    arrive();
    while (!stop)
        weft_sleep(3600000000000);
    return secret;
}

static __attribute__((noinline)) int parked_wait(void)
{
    volatile int secret = 1004;
    arrive();
    weft_recv(gate, NULL);
    return secret;
}

static __attribute__((noinline)) int blocked_read(void)
{
    char c;
    volatile ssize_t n;
    arrive();
    n = read(pipe_fd[0], &c, 1);
    return (int)n;
}

static __attribute__((noinline)) int held_spin(void)
{
    while (!stop)
        turns_held++;
    return 0;
}

static __attribute__((noinline)) int moved_spin(void)
{
    while (!stop)
        turns_moved++;
    return 0;
}

static __attribute__((noinline)) int running_spin(void)
{
    int held = turns_held, moved = turns_moved;
    while (turns_held == held || turns_moved == moved)
        ;
    marker();
    stop = 1;
    weft_chan_close(done);
    return 0;
}

static void start(void *arg)
{
    int (*const *fn)(void) = arg;
    sink += (unsigned long)(*fn)();
    weft_wg_done(&wg);
}

static void crowd_member(void *arg)
{
    arrive();
    weft_recv(gate, NULL);
    weft_wg_done(arg);
}

static void spawn(int (*const *fn)(void), const char *name, int stack, unsigned flags)
{
    weft_attr_t attr = {.name = name, .stack = stack, .flags = flags};
    weft_wg_add(&wg, 1);
    if (weft_go_with(&attr, start, (void *)(size_t)fn) != 0)
        exit(3);
}

/* Until n are there, and have had time to park. */
static void settle(int n)
{
    while (there < n)
        weft_sleep(1000000);
    weft_sleep(20000000);
}

static void objects(void)
{
    int v = 0;
    gate = weft_chan_make(sizeof(int), 0);
    full = weft_chan_make(sizeof(int), 4);
    closed = weft_chan_make(1, 0);
    done = weft_chan_make(0, 0);
    for (int i = 0; i < 3; i++)
        weft_send(full, &v);
    weft_chan_close(closed);
    weft_mutex_lock(&mutex);
    weft_rwmutex_rlock(&rwmutex);
    weft_rwmutex_rlock(&rwmutex);
    weft_sem_init(&sem, 5);
}

static int (*const fns[])(void) = {parked_receive, parked_lock, parked_sleep, parked_wait,
                                   blocked_read,   held_spin,   moved_spin,   running_spin};
static const char *const names[] = {"receiver", "locker", "sleeper", "waiter",
                                    "blocked",  "held",   "moved",   "running"};

static int entry(void *arg)
{
    int more = *(int *)arg;
    weft_attr_t crowd = {.stack = WEFT_STACK_COPIED};
    objects();
    for (int i = 0; i < more; i++) {
        weft_wg_add(&wg, 1);
        if (weft_go_with(&crowd, crowd_member, &wg) != 0)
            return 1;
    }
    settle(more);
    spawn(&fns[0], names[0], WEFT_STACK_PRIVATE, 0);
    for (int i = 1; i < 4; i++) {
        spawn(&fns[i], names[i], WEFT_STACK_COPIED, 0);
        settle(more + 1 + i);
    }
    spawn(&fns[4], names[4], WEFT_STACK_PRIVATE, 0);
    settle(more + 5);
    for (int i = 5; i < 8; i++)
        spawn(&fns[i], names[i], WEFT_STACK_PRIVATE, i == 6 ? WEFT_MOVABLE : 0);
    weft_recv(done, NULL);
    weft_chan_close(gate);
    weft_mutex_unlock(&mutex);
    (void)!write(pipe_fd[1], "", 1);
    return 0; /* the sleeper does not end */
}

int main(int argc, char **argv)
{
    int more = argc > 1 ? atoi(argv[1]) : 0;
    weft_config_t cfg = {.procs = 1};
    dies = argc > 2;
    if (pipe(pipe_fd) != 0)
        return 2;
    int rc = weft_run_with(&cfg, entry, &more);
    if (rc != 0)
        fprintf(stderr, "parked: %d\n", rc);
    return rc != 0;
}
