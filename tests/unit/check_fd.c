/* SPDX-License-Identifier: MIT
 *
 * check_fd.c: who has taken a reference to a descriptor's record before it was
 * closed never gets at the next file with the same number (fd.c).
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "fd.h"

enum { FILES = 20000, READERS = 2 };
static const int64_t MOST_NS = 2000000000;

static FDRef refs[FILES];
static _Atomic int newest = -1;
static _Atomic bool stop;
static _Atomic long reads, cancelled;

static void must(bool ok, const char *what)
{
    if (!ok)
        ck_abort_msg("%s", what);
}

/* Reads what was published until told that it is closed, then the next. */
static void *reader(void *arg)
{
    (void)arg;
    M *m = rt_enter();
    must(m != NULL, "no M");
    while (!stop) {
        int i = newest;
        if (i < 0)
            continue;
        FDRef f = refs[i];
        while (fd_begin(&f, WEFT_READ) == 0) {
            unsigned char c;
            ssize_t n = read(f.fd, &c, 1);
            fd_end(m, &f, WEFT_READ);
            if (n == 1) {
                must(c == (unsigned char)i, "read another file's byte");
                reads++;
            }
            if (stop)
                break;
        }
        cancelled++;
    }
    rt_leave(m);
    return NULL;
}

START_TEST(reuse)
{
    pthread_t pt[READERS];
    M *m = rt_enter();
    must(m != NULL, "no M");
    for (int i = 0; i < READERS; i++)
        must(pthread_create(&pt[i], NULL, reader, NULL) == 0, "no thread");
    int64_t end = sys_now() + MOST_NS;
    int last = -1, same = 0, files;
    for (files = 0; files < FILES && sys_now() < end; files++) {
        int p[2];
        unsigned char tags[64];
        memset(tags, files & 0xff, sizeof tags);
        must(pipe2(p, O_NONBLOCK) == 0, "no pipe");
        must(write(p[1], tags, sizeof tags) == sizeof tags, "the pipe is full");
        same += p[0] == last; /* mostly: a user that was interrupted closes a little later */
        last = p[0];
        must(fd_ref(&m, p[0], &refs[files]) == 0, "no reference");
        newest = files;
        long before = reads;
        for (int spin = 0; reads == before && spin < 2000; spin++)
            arch_pause();
        must(fd_close(&m, p[0]) == 0, "close");
        must(close(p[1]) == 0, "close the other end");
    }
    stop = true;
    for (int i = 0; i < READERS; i++)
        pthread_join(pt[i], NULL);
    must(files > 100 && same > files / 2 && reads > files / 4 && cancelled > 0,
         "too little has happened");
    rt_leave(m);
}
END_TEST

/* Users hold the close back; nobody can begin meanwhile. */
static void *closer(void *arg)
{
    FDRef *f = arg;
    M *m = rt_enter();
    must(fd_close(&m, f->fd) == 0, "close");
    rt_leave(m);
    return NULL;
}

START_TEST(last_user_closes)
{
    int p[2];
    FDRef f, late;
    pthread_t pt;
    M *m = rt_enter();
    must(pipe2(p, O_NONBLOCK) == 0, "no pipe");
    must(fd_ref(&m, p[0], &f) == 0, "no reference");
    must(fd_begin(&f, 0) == 0, "begin");
    must(pthread_create(&pt, NULL, closer, &f) == 0, "no thread");
    /* Until the closer has dropped its own reference: this thread is the last user. */
    while ((atomic_load(&f.r->word) & (FD_CLOSING | FD_USERS)) != (FD_CLOSING | 1))
        arch_pause();
    must(fcntl(p[0], F_GETFD) >= 0, "it was closed under a user");
    must(fd_ref(&m, p[0], &late) == -EBADF, "a reference to what is being closed");
    must(fd_close(&m, p[0]) == -EBADF, "closed twice");
    fd_end(m, &f, 0);
    must(fcntl(p[0], F_GETFD) < 0, "the last user has not closed it");
    must(fd_begin(&f, 0) == -ECANCELED, "an old reference works");
    pthread_join(pt, NULL);
    close(p[1]);
    rt_leave(m);
}
END_TEST

/* A step of a wait for several things (select_fd.c): nothing is queued where there is something to
 * look at, and who queues in time is woken. */
START_TEST(join)
{
    int p[2];
    FDRef f;
    M *m = rt_enter();
    must(m != NULL, "no M");
    must(pipe2(p, O_NONBLOCK) == 0, "no pipe");
    must(fd_ref(&m, p[0], &f) == 0, "no reference");
    FD *r = f.r;
    uint64_t waits = FD_WAIT_IN | FD_WAIT_OUT;
    uint64_t serial = wait_begin(m->g);
    Wait w = {.g = m->g, .select = true, .dirs = WEFT_READ, .gen = f.gen};
    must(fd_begin(&f, WEFT_READ) == 0, "begin");
    fd_end(m, &f, 0); /* it was asked, and had nothing */
    must(!netpoll_join(m, r, &w), "queued, but the poller does not know it");
    atomic_fetch_or(&r->word, FD_ADDED);
    atomic_fetch_or(&r->word, FD_IN); /* an edge came after that */
    must(!netpoll_join(m, r, &w), "queued, but there is something");
    must((atomic_load(&r->word) & waits) == 0, "says that somebody waits");
    atomic_fetch_and(&r->word, ~FD_IN);
    r->side[0].expired = true;
    must(!netpoll_join(m, r, &w), "queued, but its deadline has passed");
    r->side[0].expired = false;
    w.gen++;
    must(!netpoll_join(m, r, &w), "queued for another file");
    w.gen--;
    must(atomic_load(&sched.waiters) == 0 && !w.queued, "counted");

    must(netpoll_join(m, r, &w), "not queued");
    must((atomic_load(&r->word) & waits) == FD_WAIT_IN, "does not say that somebody waits");
    must(atomic_load(&sched.waiters) == 1, "not counted");
    lock_acquire(NULL, &r->lock, RANK_FD);
    netpoll_leave(r, &w);
    netpoll_leave(r, &w);
    lock_release(&r->lock);
    must((atomic_load(&r->word) & waits) == 0 && !w.queued, "has not left");
    must(atomic_load(&sched.waiters) == 0, "still counted");

    must(netpoll_join(m, r, &w), "not queued");
    must(fd_begin(&f, WEFT_READ) == 0, "begin");
    m->g->woke = NULL;
    fd_end(m, &f, WEFT_READ); /* another call leaves something */
    must(m->g->woke == &w && !w.queued, "not woken");
    must(!wait_claim(m->g, serial), "woken without a claim");

    wait_begin(m->g);
    atomic_fetch_and(&r->word, ~FD_IN);
    must(netpoll_join(m, r, &w), "not queued");
    m->g->woke = NULL;
    must(wait_claim(m->g, serial + 1), "nobody has claimed it");
    must(fd_begin(&f, WEFT_READ) == 0, "begin");
    fd_end(m, &f, WEFT_READ);
    must(m->g->woke == NULL && !w.queued, "woken twice");
    must((atomic_load(&r->word) & (FD_IN | waits)) == FD_IN, "the edge is lost");
    must(fd_close(&m, p[0]) == 0, "close");
    must(!netpoll_join(m, r, &w), "queued, but it is closed");
    close(p[1]);
    rt_leave(m);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("fd");
    TCase *tc = tcase_create("fd");
    tcase_set_timeout(tc, 30);
    tcase_add_test(tc, reuse);
    tcase_add_test(tc, last_user_closes);
    tcase_add_test(tc, join);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed != 0;
}
