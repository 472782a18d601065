/* SPDX-License-Identifier: MIT
 *
 * check_top.c: WEFT_DEBUG=top: the page in shared memory, read as any other program would (runtime/page.h). */
#include "config.h"

#include <weft.h>

#include "runtime/page.h"
#include "tests/behaviour/behaviour.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char path[300]; /* of the page that was opened last */

static void path_in(const char *dir)
{
    snprintf(path, sizeof path, "%s/weft.%d", dir, (int)getpid());
}

/* The page, open; -1: there is none. */
static int page_open(void)
{
    static const char *const dirs[] = {"/dev/shm", "/tmp"};
    for (int i = 0; i < 2; i++) {
        struct stat st;
        path_in(dirs[i]);
        if (lstat(path, &st) == 0 && S_ISREG(st.st_mode))
            return open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    }
    return -1;
}

static bool read_at(int fd, void *to, size_t n, size_t at)
{
    return pread(fd, to, n, (off_t)at) == (ssize_t)n;
}

/* A body of one moment. */
static void page_read(int fd, PageBody *b)
{
    uint32_t before, after;
    for (;; usleep(100)) {
        OK(read_at(fd, &before, sizeof before, offsetof(Page, seq)));
        OK(read_at(fd, b, sizeof *b, offsetof(Page, body)));
        OK(read_at(fd, &after, sizeof after, offsetof(Page, seq)));
        if (before % 2 == 0 && before == after)
            return;
    }
}

static uint64_t counter(const PageBody *b, const char *name)
{
    for (uint32_t i = 0; i < b->ncounters; i++)
        if (strcmp(b->counter[i].name, name) == 0)
            return b->counter[i].value;
    ck_abort_msg("no counter %s", name);
}

static uint64_t of(const PageCount *c, uint32_t n, const char *name)
{
    for (uint32_t i = 0; i < n; i++)
        if (strcmp(c[i].name, name) == 0)
            return c[i].n;
    ck_abort_msg("no %s", name);
}

static const PageName *name_line(const PageBody *b, const char *name)
{
    for (uint32_t i = 0; i < b->nnames; i++)
        if (strcmp(b->name[i].name, name) == 0)
            return &b->name[i];
    return NULL;
}

/* One that was counted and refreshed from now on. */
static void page_fresh(int fd, PageBody *b)
{
    int64_t now = weft_now();
    do {
        weft_sleep(5 * MS);
        page_read(fd, b);
    } while (b->counted < now || b->refreshed < now);
}

/* ---- counts ------------------------------------------------------------------------ */

static weft_chan_t *gate;
static PageBody page; /* of the test's one reader */

static void waiter(void *arg)
{
    (void)arg;
    weft_recv(gate, NULL);
}

static void go_named(const char *name, void (*fn)(void *), void *arg)
{
    weft_attr_t attr = {.name = name};
    EQ(weft_go_with(&attr, fn, arg), 0);
}

static void sleeper(void *arg)
{
    (void)arg;
    weft_sleep(1000 * SEC);
}

static uint64_t names_alive(const PageBody *b)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < b->nnames; i++)
        n += b->name[i].alive;
    return n;
}

/* All there are, and all of them parked. Should it never come to that the test's time runs out. */
static void until_named(int fd, uint64_t n)
{
    do
        page_fresh(fd, &page);
    while (names_alive(&page) != n || of(page.state, page.nstates, "waiting") != n ||
           counter(&page, "coroutines") != n || counter(&page, "runnable") != 0);
}

/* More of them than one portion of a count takes, more names than there are lines. */
static void body_counts(void)
{
    enum { MANY = 5000, NAMED = 100, DOZEN = 12 };
    char name[32];
    int fd = page_open();
    OK(fd >= 0);
    gate = weft_chan_make(0, 0);
    for (int i = 0; i < DOZEN; i++)
        go_named("sleepy", sleeper, NULL);
    for (int i = 0; i < MANY; i++)
        go(waiter, NULL);
    until_named(fd, MANY + DOZEN + 1);
    const PageName *sleepy = name_line(&page, "sleepy");
    OK(sleepy != NULL && sleepy->alive == DOZEN);
    EQ(of(page.wait, page.nwaits, "chan receive"), MANY);
    EQ(of(page.wait, page.nwaits, "sleep"), DOZEN + 1);
    EQ(of(page.state, page.nstates, "waiting"), MANY + DOZEN + 1);
    EQ(of(page.state, page.nstates, "running") + of(page.state, page.nstates, "runnable"), 0);
    EQ(counter(&page, "coroutines"), MANY + DOZEN + 1);
    EQ(counter(&page, "procs"), weft_procs(0));
    OK(counter(&page, "timers") >= DOZEN);
    for (int i = 0; i < NAMED; i++) {
        snprintf(name, sizeof name, "name %d", i);
        go_named(name, waiter, NULL);
    }
    until_named(fd, MANY + DOZEN + NAMED + 1);
    EQ(page.nnames, PAGE_NAMES);
    const PageName *others = name_line(&page, "(others)");
    OK(others != NULL && others->alive >= NAMED - PAGE_NAMES);
    weft_chan_close(gate);
    until_named(fd, DOZEN + 1);
    EQ(counter(&page, "exited"), MANY + NAMED);
    weft_chan_unref(gate);
    close(fd);
}

/* ---- what runs ------------------------------------------------------------------------ */

static _Atomic bool stop;
static weft_wg_t hogs;

static void hog(void *arg)
{
    (void)arg;
    while (!stop)
        for (volatile int i = 0; i < 100000; i++)
            ;
    weft_wg_done(&hogs);
}

/* What every body says of the time it was written in. */
static void check_procs(const PageBody *b)
{
    uint64_t all = 0;
    OK(b->nprocs >= (uint32_t)weft_procs(0) && b->nprocs <= PAGE_PROCS);
    for (uint32_t i = 0; i < b->nprocs; i++) {
        const PageProc *p = &b->proc[i];
        EQ(p->id, i);
        OK(p->runs <= PAGE_BLOCKED);
        OK(p->runs == PAGE_IDLE || (p->since >= b->began && p->since <= b->refreshed));
        OK(p->runs != PAGE_RUNNING || p->coroutine != 0);
        OK(memchr(p->name, 0, sizeof p->name) != NULL);
    }
    for (uint32_t i = 0; i < b->nnames; i++)
        all += b->name[i].ns;
    EQ(all, b->sampled);
    OK(counter(b, "procs_idle") <= counter(b, "procs"));
}

static void body_hogs(void)
{
    int fd = page_open(), procs = weft_procs(0);
    uint64_t ns = 0;
    bool seen = false;
    stop = false;
    EQ(weft_wg_add(&hogs, procs + 1), 0);
    for (int i = 0; i < procs + 1; i++)
        go_named("busy one", hog, NULL);
    for (int i = 0; i < 1000 && (ns < 200 * MS || !seen); i++) {
        weft_sleep(20 * MS);
        page_read(fd, &page);
        check_procs(&page);
        const PageName *busy = name_line(&page, "busy one");
        ns = busy != NULL ? busy->ns : 0;
        for (uint32_t j = 0; j < page.nprocs; j++)
            seen |= page.proc[j].runs == PAGE_RUNNING && strcmp(page.proc[j].name, "busy one") == 0;
    }
    OK(seen && ns >= 200 * MS);
    OK(ns > page.sampled / 2); /* main does little */
    OK(page.sampled <= (uint64_t)(page.refreshed - page.began + 50 * MS) * page.nprocs);
    stop = true;
    EQ(weft_wg_wait(&hogs), 0);
    close(fd);
}

/* A declared call, and one that is none, are no time on a processor. */
static void *wait_long(void *arg)
{
    usleep(700000);
    return arg;
}

static void declared(void *arg)
{
    (void)arg;
    weft_blocking(wait_long, NULL, NULL);
    weft_wg_done(&hogs);
}

static void undeclared(void *arg)
{
    (void)arg;
    wait_long(NULL);
    weft_wg_done(&hogs);
}

static void body_blocked(void)
{
    int fd = page_open();
    EQ(weft_wg_add(&hogs, 2), 0);
    go_named("declared", declared, NULL);
    go_named("undeclared", undeclared, NULL);
    EQ(weft_wg_wait(&hogs), 0);
    page_fresh(fd, &page);
    const PageName *d = name_line(&page, "declared"), *u = name_line(&page, "undeclared");
    OK(d == NULL || d->ns < 350 * MS);
    OK(u == NULL || u->ns < 350 * MS);
    check_procs(&page);
    close(fd);
}

/* ---- readers ---------------------------------------------------------------------------- */

static void child(void *arg)
{
    weft_set_name("a child");
    weft_wg_done(arg);
}

static void churn(void *arg)
{
    (void)arg;
    weft_wg_t *wg = calloc(1, sizeof *wg);
    while (!stop) {
        EQ(weft_wg_add(wg, 20), 0);
        for (int i = 0; i < 20; i++)
            go(child, wg);
        EQ(weft_wg_wait(wg), 0);
    }
    free(wg);
    weft_wg_done(&hogs);
}

/* Gs begin and end while the monitor looks; each body is whole. */
static void *read_all(void *arg)
{
    int fd = page_open();
    int64_t before = 0;
    PageBody *b = malloc(sizeof *b);
    (void)arg;
    for (int i = 0; i < 500; i++, usleep(1000)) {
        page_read(fd, b);
        OK(b->refreshed >= before);
        before = b->refreshed;
        check_procs(b);
        OK(counter(b, "spawned") >= counter(b, "exited"));
        OK(counter(b, "coroutines") < 10000);
    }
    free(b);
    close(fd);
    return NULL;
}

static void body_readers(void)
{
    pthread_t thread;
    stop = false;
    EQ(weft_wg_add(&hogs, 8), 0);
    for (int i = 0; i < 8; i++)
        go(churn, NULL);
    EQ(pthread_create(&thread, NULL, read_all, NULL), 0);
    weft_sleep(300 * MS);
    read_all(NULL);
    EQ(pthread_join(thread, NULL), 0);
    stop = true;
    EQ(weft_wg_wait(&hogs), 0);
}

static void (*const bodies[])(void) = {body_counts, body_hogs, body_blocked, body_readers};
enum { NBODIES = sizeof bodies / sizeof bodies[0] };

/* What else the environment says stays. */
static void want_top(const char *top)
{
    char now[256];
    const char *old = getenv("WEFT_DEBUG");
    snprintf(now, sizeof now, "%s%s%s", old != NULL ? old : "", old != NULL ? "," : "", top);
    setenv("WEFT_DEBUG", now, 1);
    unsetenv("XDG_RUNTIME_DIR");
}

START_TEST(test_each)
{
#ifdef WEFT_TSAN
    if (bodies[_i / NPROCS] == body_hogs)
        return; /* nobody is interrupted there: main would not come to run */
#endif
    want_top("top=20");
    run(_i % NPROCS, bodies[_i / NPROCS]);
    EQ(page_open(), -1);
}
END_TEST

/* ---- the file ------------------------------------------------------------------------------ */

static int kept;

static void keep_open(void)
{
    Page head;
    struct stat st;
    kept = page_open();
    OK(kept >= 0);
    EQ(fstat(kept, &st), 0);
    EQ(st.st_mode, S_IFREG | 0600);
    EQ(st.st_nlink, 1);
    EQ(st.st_size, sizeof head);
    OK(read_at(kept, &head, sizeof head, 0));
    EQ(memcmp(head.magic, PAGE_MAGIC, 8), 0);
    EQ(head.version, PAGE_VERSION);
    EQ(head.size, sizeof head);
    EQ(head.pid, getpid());
    OK(head.started != 0);
    EQ(head.body.ended, 0);
    EQ(head.body.refresh, 250 * MS);
}

START_TEST(test_file)
{
    want_top("top");
    umask(0777); /* whatever that says */
    run(1, keep_open);
    umask(022);
    page_read(kept, &page);
    EQ(page.ended, 1);
    EQ(page_open(), -1);
    close(kept);
}
END_TEST

/* A process with our number has left one. */
START_TEST(test_stale)
{
    want_top("top");
    path_in("/dev/shm");
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
    OK(fd >= 0);
    EQ(ftruncate(fd, 100000), 0);
    run(1, keep_open);
    EQ(page_open(), -1);
    struct stat st;
    EQ(fstat(fd, &st), 0);
    EQ(st.st_size, 100000); /* not written to: a new one took its place */
    close(fd);
    close(kept);
}
END_TEST

static void page_elsewhere(void)
{
    keep_open();
    EQ(strncmp(path, "/tmp/", 5), 0);
}

/* Somebody has put something else there. */
START_TEST(test_trap)
{
    char victim[] = "/tmp/weft-victim.XXXXXX", trap[300];
    struct stat st;
    int fd = mkstemp(victim);
    OK(fd >= 0);
    want_top("top");
    path_in("/dev/shm");
    memcpy(trap, path, sizeof trap);
    if (_i == 0)
        EQ(symlink(victim, trap), 0);
    else
        EQ(mkdir(trap, 0700), 0);
    run(1, page_elsewhere);
    EQ(lstat(trap, &st), 0); /* still there */
    EQ(fstat(fd, &st), 0);
    EQ(st.st_size, 0);
    EQ(remove(trap), 0);
    EQ(unlink(victim), 0);
    close(fd);
    close(kept);
}
END_TEST

static void no_page(void)
{
    EQ(page_open(), -1);
}

START_TEST(test_off)
{
    run(1, no_page);
    want_top("top=0");
    run(1, no_page);
}
END_TEST

/* The file goes with the process, if that ends by exit(): but not with a forked child's exit(). */
static void exit_within(void)
{
    OK(page_open() >= 0);
    pid_t pid = fork();
    if (pid == 0)
        exit(0);
    int status;
    EQ(waitpid(pid, &status, 0), pid);
    OK(page_open() >= 0);
    exit(0);
}

START_TEST(test_exit)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        want_top("top");
        run(1, exit_within);
    }
    EQ(waitpid(pid, &status, 0), pid);
    EQ(status, 0);
    snprintf(path, sizeof path, "/dev/shm/weft.%d", (int)pid);
    EQ(access(path, F_OK), -1);
    snprintf(path, sizeof path, "/tmp/weft.%d", (int)pid);
    EQ(access(path, F_OK), -1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("top");
    TCase *tc = tcase_create("top");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, test_each, 0, NBODIES * NPROCS);
    tcase_add_test(tc, test_file);
    tcase_add_test(tc, test_off);
    tcase_add_test(tc, test_exit);
    if (access("/dev/shm", W_OK) == 0) {
        tcase_add_test(tc, test_stale);
        tcase_add_loop_test(tc, test_trap, 0, 2);
    }
    suite_add_tcase(s, tc);
    return run_suite(s);
}
