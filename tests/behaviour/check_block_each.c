/* SPDX-License-Identifier: MIT
 *
 * check_block_each.c: coroutines that wait for each other in calls that weft knows nothing of, and
 * what else they do: park, change the number of processors, keep their threads. */
#include <errno.h>
#include <sys/socket.h>

#include "block_test.h"

static weft_wg_t wg;

static void start(int n, void (*fn)(void *))
{
    EQ(weft_wg_add(&wg, n), 0);
    for (intptr_t i = 0; i < n; i++)
        go(fn, (void *)i);
}

static void wait_all(void)
{
    EQ(weft_wg_wait(&wg), 0);
}

/* ---- through pipes: a token to and fro ------------------------------------------------------ */

enum { TURNS = 150 };
static int there[2], back[2];

static void pipes_open(void)
{
    EQ(pipe(there), 0);
    EQ(pipe(back), 0);
}

static void pipes_close(void)
{
    close(there[0]);
    close(there[1]);
    close(back[0]);
    close(back[1]);
}

static void ping(void *arg)
{
    (void)arg;
    for (int i = 0, v = 0; i < TURNS; i++) {
        EQ(write(there[1], &i, sizeof i), sizeof i);
        EQ(read(back[0], &v, sizeof v), sizeof v);
        EQ(v, ~i);
    }
    weft_wg_done(&wg);
}

static void pong(void *arg)
{
    (void)arg;
    for (int i = 0, v = 0; i < TURNS; i++) {
        EQ(read(there[0], &v, sizeof v), sizeof v);
        EQ(v, i);
        v = ~v;
        EQ(write(back[1], &v, sizeof v), sizeof v);
    }
    weft_wg_done(&wg);
}

static void pipes_body(void)
{
    pipes_open();
    int64_t begin = weft_now();
    start(1, ping);
    start(1, pong);
    wait_all();
    printf("ping-pong through pipes, %d procs: %lld us a turn\n", weft_procs(0),
           (long long)((weft_now() - begin) / TURNS / US));
    pipes_close();
}

START_TEST(pipes)
{
    run(_i, pipes_body);
}
END_TEST

START_TEST(pipes_storm)
{
    storm("200");
    run(_i, pipes_body);
}
END_TEST

START_TEST(pipes_no_ticks)
{
    storm("off");
    run(_i, pipes_body);
}
END_TEST

/* More than a pipe holds: the writer blocks as well. */
enum { FLOOD = 1 << 20 };

static void flood_write(void *arg)
{
    static unsigned char buf[FLOOD];
    (void)arg;
    for (size_t i = 0; i < FLOOD; i++)
        buf[i] = (unsigned char)(i * 7 + i / 251);
    EQ(write(there[1], buf, FLOOD), FLOOD); /* blocking: all of it */
    weft_wg_done(&wg);
}

static void flood_read(void *arg)
{
    unsigned char buf[5000];
    (void)arg;
    for (size_t at = 0; at < FLOOD;) {
        ssize_t n = read(there[0], buf, sizeof buf);
        OK(n > 0);
        for (ssize_t i = 0; i < n; i++, at++)
            OK(buf[i] == (unsigned char)(at * 7 + at / 251));
    }
    weft_wg_done(&wg);
}

static void flood_body(void)
{
    pipes_open();
    start(1, flood_write);
    start(1, flood_read);
    wait_all();
    pipes_close();
}

START_TEST(flood)
{
    run(_i, flood_body);
}
END_TEST

/* Many blocked at the same time, whom the last one frees, one by one. */
enum { CROWD = 40 };
static int crowd_fds[CROWD][2];

static void crowd_reader(void *arg)
{
    intptr_t i = (intptr_t)arg;
    int v = 0, w;
    EQ(read(crowd_fds[i][0], &v, sizeof v), sizeof v);
    w = (int)i * 1000 + v;
    EQ(write(back[1], &w, sizeof w), sizeof w);
    weft_wg_done(&wg);
}

static void crowd_writer(void *arg)
{
    (void)arg;
    for (int i = CROWD; i-- > 0;)
        EQ(write(crowd_fds[i][1], &i, sizeof i), sizeof i);
    weft_wg_done(&wg);
}

static void crowd_body(void)
{
    long sum = 0;
    pipes_open();
    for (int i = 0; i < CROWD; i++)
        EQ(pipe(crowd_fds[i]), 0);
    start(CROWD, crowd_reader);
    start(1, crowd_writer);
    for (int i = 0, v = 0; i < CROWD; i++) {
        EQ(read(back[0], &v, sizeof v), sizeof v);
        EQ(v / 1000, v % 1000);
        sum += v;
    }
    EQ(sum, 1001l * CROWD * (CROWD - 1) / 2);
    wait_all();
    for (int i = 0; i < CROWD; i++) {
        close(crowd_fds[i][0]);
        close(crowd_fds[i][1]);
    }
    pipes_close();
}

START_TEST(crowd)
{
    run(_i, crowd_body);
}
END_TEST

/* ---- through pthread mutexes and conditions -------------------------------------------------- */

enum { LOCKERS = 5, LOCKS = 60 };
static pthread_mutex_t mutexes[2] = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER};
static pthread_cond_t turned = PTHREAD_COND_INITIALIZER;
static long inside[2], total[2];

/* Blocks while it has the mutex, so that all others block for it. */
static void locker(void *arg)
{
    int which = (int)(intptr_t)arg % 2;
    for (int i = 0; i < LOCKS; i++) {
        EQ(pthread_mutex_lock(&mutexes[which]), 0);
        EQ(inside[which]++, 0);
        plain_sleep(i % 4 * 100 * US);
        total[which]++;
        EQ(inside[which]--, 1);
        EQ(pthread_mutex_unlock(&mutexes[which]), 0);
        if (i % 5 == 0)
            weft_yield();
    }
    weft_wg_done(&wg);
}

static void mutexes_body(void)
{
    memset(total, 0, sizeof total);
    start(LOCKERS, locker);
    wait_all();
    EQ(total[0], LOCKS * 3);
    EQ(total[1], LOCKS * 2);
}

START_TEST(pthread_mutexes)
{
    run(_i, mutexes_body);
}
END_TEST

START_TEST(pthread_mutexes_storm)
{
    storm("200");
    run(_i, mutexes_body);
}
END_TEST

/* The owner parks with it, on a thread of its own, which it must not lose meanwhile. */
static void parking_owner(void *arg)
{
    (void)arg;
    weft_thread_lock();
    int tid = gettid();
    for (int i = 0; i < 20; i++) {
        EQ(pthread_mutex_lock(&mutexes[0]), 0);
        EQ(inside[0]++, 0);
        EQ(weft_sleep(2 * MS), 0);
        EQ(inside[0]--, 1);
        EQ(pthread_mutex_unlock(&mutexes[0]), 0);
        plain_sleep(MS);
        EQ(gettid(), tid);
    }
    weft_thread_unlock();
    weft_wg_done(&wg);
}

static void parking_body(void)
{
    memset(total, 0, sizeof total);
    start(2, parking_owner);
    start(LOCKERS, locker);
    wait_all();
    EQ(total[0], LOCKS * 3);
}

START_TEST(owner_parks)
{
    run(_i, parking_body);
}
END_TEST

static int turn;

static void turner(void *arg)
{
    int me = (int)(intptr_t)arg;
    for (int i = 0; i < TURNS; i++) {
        EQ(pthread_mutex_lock(&mutexes[0]), 0);
        while (turn % 3 != me)
            EQ(pthread_cond_wait(&turned, &mutexes[0]), 0);
        turn++;
        EQ(pthread_cond_broadcast(&turned), 0);
        EQ(pthread_mutex_unlock(&mutexes[0]), 0);
    }
    weft_wg_done(&wg);
}

static void cond_body(void)
{
    turn = 0;
    start(3, turner);
    wait_all();
    EQ(turn, 3 * TURNS);
}

START_TEST(pthread_conds)
{
    run(_i, cond_body);
}
END_TEST

/* ---- blocks, then parks ----------------------------------------------------------------------- */

enum { PRODUCERS = 4, ITEMS = 60 };
static weft_chan_t *chan;

static void producer(void *arg)
{
    int me = (int)(intptr_t)arg;
    for (int i = 0; i < ITEMS; i++) {
        int v = me * ITEMS + i;
        if (i % 3 == me % 3)
            plain_sleep((me + 1) * 200 * US);
        errno = v;
        EQ(weft_send(chan, &v), 0);
        EQ(errno, v);
    }
    weft_wg_done(&wg);
}

static void consume_body(void)
{
    int next[PRODUCERS] = {0};
    chan = weft_chan_make(sizeof(int), 1);
    start(PRODUCERS, producer);
    for (int i = 0, v = 0; i < PRODUCERS * ITEMS; i++) {
        EQ(weft_recv(chan, &v), 1);
        EQ(v % ITEMS, next[v / ITEMS]);
        next[v / ITEMS]++;
        if (i % 10 == 0)
            plain_sleep(700 * US);
    }
    wait_all();
    weft_chan_unref(chan);
}

START_TEST(blocks_then_parks)
{
    run(_i, consume_body);
}
END_TEST

START_TEST(blocks_then_parks_storm)
{
    storm("200");
    run(_i, consume_body);
}
END_TEST

/* errno of a call that failed late is there when the coroutine has a P again. */
static void errno_body(void)
{
    static const Call c = {"read", pipe_open, pipe_block, pipe_release};
    int fds[2];
    for (int i = 0; i < 20; i++) {
        call_start(&c);
        EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        struct timeval tv = {.tv_usec = 3000};
        EQ(setsockopt(fds[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv), 0);
        char b;
        EQ(recv(fds[0], &b, 1, 0), -1); /* the other one runs meanwhile, and blocks too */
        int e = errno;
        weft_yield();
        EQ(e, EAGAIN);
        EQ(errno, EAGAIN);
        close(fds[0]);
        close(fds[1]);
        call_end(&c);
    }
}

START_TEST(errno_kept)
{
    run(_i, errno_body);
}
END_TEST

/* ---- coroutines of special kinds ------------------------------------------------------------------ */

enum { PINNED = 3 };
static __thread int mine;

static void pinned(void *arg)
{
    weft_thread_lock();
    int tid = gettid(), *here = &mine;
    *here = (int)(intptr_t)arg;
    for (int i = 0; i < 40; i++) {
        plain_sleep(i % 3 * 400 * US);
        EQ(gettid(), tid);
        if (i % 4 == 0)
            EQ(weft_sleep(100 * US), 0);
        if (i % 4 == 1)
            weft_yield();
        EQ(gettid(), tid);
        EQ(*here, (intptr_t)arg);
    }
    if (arg != NULL)
        weft_thread_unlock();
    *here = 0;
    weft_wg_done(&wg);
}

static void pinned_body(void)
{
    start(PINNED, pinned);
    start(2, producer); /* beside ones that are not */
    for (int i = 0, v = 0; i < 2 * ITEMS; i++)
        EQ(weft_recv(chan, &v), 1);
    wait_all();
}

static void pinned_chan_body(void)
{
    chan = weft_chan_make(sizeof(int), 4);
    pinned_body();
    weft_chan_unref(chan);
}

START_TEST(pinned_blocks)
{
    run(_i, pinned_chan_body);
}
END_TEST

/* Ones that may be moved, beside ones that compute and may be moved too. */
static _Atomic bool stop;
static Hog hogs[3];

static void movable_body(void)
{
    weft_attr_t attr = {.flags = WEFT_MOVABLE};
    stop = false;
    chan = weft_chan_make(sizeof(int), 1);
    EQ(weft_wg_add(&wg, 3 + 2), 0);
    for (int i = 0; i < 3; i++) {
        hogs[i] = (Hog){.stop = &stop, .wg = &wg};
        EQ(weft_go_with(&attr, hog, &hogs[i]), 0);
    }
    for (intptr_t i = 0; i < 2; i++)
        EQ(weft_go_with(&attr, producer, (void *)i), 0);
    for (int i = 0, v = 0; i < 2 * ITEMS; i++)
        EQ(weft_recv(chan, &v), 1);
    stop = true;
    wait_all();
    weft_chan_unref(chan);
}

START_TEST(movable_blocks)
{
#ifdef WEFT_TSAN
    return; /* nobody would stop the hogs */
#endif
    run(_i, movable_body);
}
END_TEST

/* ---- processors come and go ------------------------------------------------------------------------ */

static void procs_body(void)
{
    chan = weft_chan_make(sizeof(int), 1);
    start(PRODUCERS, producer);
    start(LOCKERS, locker);
    for (int i = 0, v = 0; i < PRODUCERS * ITEMS; i++) {
        EQ(weft_recv(chan, &v), 1);
        if (i % 4 == 0)
            OK(weft_procs(1 + i / 4 % 4) > 0);
    }
    wait_all();
    OK(weft_procs(2) > 0);
    EQ(weft_procs(0), 2);
    weft_chan_unref(chan);
}

START_TEST(procs_change)
{
    run(_i, procs_body);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("block_each");
    TCase *tc = tcase_create("block_each");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, pipes, 0, NPROCS);
    tcase_add_loop_test(tc, pipes_storm, 0, NPROCS);
    tcase_add_loop_test(tc, pipes_no_ticks, 0, NPROCS);
    tcase_add_loop_test(tc, flood, 0, NPROCS);
    tcase_add_loop_test(tc, crowd, 0, NPROCS);
    tcase_add_loop_test(tc, pthread_mutexes, 0, NPROCS);
    tcase_add_loop_test(tc, pthread_mutexes_storm, 0, NPROCS);
    tcase_add_loop_test(tc, owner_parks, 0, NPROCS);
    tcase_add_loop_test(tc, pthread_conds, 0, NPROCS);
    tcase_add_loop_test(tc, blocks_then_parks, 0, NPROCS);
    tcase_add_loop_test(tc, blocks_then_parks_storm, 0, NPROCS);
    tcase_add_loop_test(tc, errno_kept, 0, NPROCS);
    tcase_add_loop_test(tc, pinned_blocks, 0, NPROCS);
    tcase_add_loop_test(tc, movable_blocks, 0, NPROCS);
    tcase_add_loop_test(tc, procs_change, 0, NPROCS);
    suite_add_tcase(s, tc);
    return run_suite(s);
}
