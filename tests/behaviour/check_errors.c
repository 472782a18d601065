/* SPDX-License-Identifier: MIT
 *
 * check_errors.c: what must fail, and how: every public function without a run
 * and in a forked child, a second weft_run(), no threads, no memory for a stack,
 * no descriptors, values out of range. (EMFILE in accept: check_net.c; bad and
 * closed descriptors: check_netpoll.c; address space that runs out for good:
 * check_stack.c.) */
#include "config.h"

#include <weft.h>

#include <check.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define MS INT64_C(1000000)
#define MIB ((size_t)1 << 20)

static void check_eq(long long got, long long want, const char *what, int line)
{
    if (got != want)
        ck_abort_msg("line %d: %s: %lld, not %lld", line, what, got, want);
}
#define EQ(got, want) check_eq((long long)(got), (long long)(want), #got, __LINE__)
#define OK(x) EQ(!!(x), 1)

/* ---- every public function -------------------------------------------------------------
 *
 * Each call is made once outside of any run, once after one, once in a child
 * forked by a coroutine. Calls that would have to wait cannot; what can be done
 * at once is done, save in the child. (There too a mutex is taken and let go, and a
 * group counted, in one instruction when nobody else is concerned: these calls do not look. NULL, counts
 * out of range, deadlines that are past: check_badinput.c.) */

static struct {
    weft_chan_t *empty, *full;
    weft_mutex_t held, open;
    weft_wg_t zero, one;
    weft_timer_t timer;
    weft_ctx_t *ctx;
    weft_group_t group, with_context;
    int pipe[2], listener;
} thing;

static int seven(void *arg)
{
    (void)arg;
    return 7;
}

static void nothing(void *arg)
{
    (void)arg;
}

static int listen_plain(void)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    OK(fd >= 0);
    EQ(bind(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    EQ(listen(fd, 5), 0);
    return fd;
}

static void make_things(void)
{
    int v = 1;
    memset(&thing, 0, sizeof thing);
    OK((thing.empty = weft_chan_make(sizeof(int), 1)) != NULL);
    OK((thing.full = weft_chan_make(sizeof(int), 1)) != NULL);
    EQ(weft_try_send(thing.full, &v), 0);
    EQ(weft_mutex_lock(&thing.held), 0);
    EQ(weft_wg_add(&thing.one, 1), 0);
    OK((thing.ctx = weft_ctx_with_cancel(weft_ctx_background())) != NULL);
    EQ(pipe(thing.pipe), 0);
    thing.listener = listen_plain();
}

#define CALL(name, expression)                                                                     \
    static long long name(void)                                                                    \
    {                                                                                              \
        return (long long)(expression);                                                            \
    }

static char byte;
static int word;
static void *bound;
static struct iovec piece = {&byte, 1};
static struct addrinfo *list;
static weft_stats_t stats;
static struct sockaddr_un nowhere = {.sun_family = AF_UNIX, .sun_path = "/nonexistent/weft"};

static weft_case_t *never(void)
{
    static weft_case_t k;
    k = (weft_case_t){.op = WEFT_RECV, .chan = thing.empty};
    return &k;
}

static int connect_nowhere(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    int rc = weft_connect(fd, (struct sockaddr *)&nowhere, sizeof nowhere);
    close(fd);
    return rc;
}

static int listen_close(void)
{
    int fd = weft_listen_tcp("127.0.0.1", 0, 0);
    return fd < 0 ? fd : weft_close(fd);
}

static int close_one(void)
{
    int fd = dup(0), rc = weft_close(fd);
    if (rc != 0)
        close(fd);
    return rc;
}

static int close_chan(void)
{
    weft_chan_t *c = weft_chan_make(0, 0);
    int rc = weft_chan_close(c != NULL ? c : thing.empty);
    if (c != NULL)
        weft_chan_unref(c);
    return rc;
}

static int done_wg(void)
{
    weft_wg_t wg = {0};
    int rc = weft_wg_add(&wg, 1);
    return rc != 0 ? rc : weft_wg_done(&wg);
}

static int unlock_open(void)
{
    int rc = weft_mutex_lock(&thing.open);
    return rc != 0 ? rc : weft_mutex_unlock(&thing.open);
}

static int void_call(void (*fn)(void))
{
    fn();
    return 0;
}

static void unref_ref(void)
{
    weft_chan_unref(weft_chan_ref(thing.empty));
}

static int drop_ctx(weft_ctx_t *ctx)
{
    int there = ctx != NULL;
    weft_ctx_unref(ctx);
    return there;
}

static void unref_ctx(void)
{
    weft_ctx_unref(weft_ctx_ref(thing.ctx));
}

CALL(c_run, weft_run(seven, NULL))
CALL(c_run_with, weft_run_with(NULL, seven, NULL))
CALL(c_procs, weft_procs(0))
CALL(c_procs_set, weft_procs(2))
CALL(c_go, weft_go(nothing, NULL))
CALL(c_go_with, weft_go_with(&(weft_attr_t){.name = "n"}, nothing, NULL))
CALL(c_yield, void_call(weft_yield))
CALL(c_id, weft_id())
CALL(c_set_name, weft_set_name("n"))
CALL(c_bounds, weft_stack_bounds(&bound, &bound))
CALL(c_num, weft_num_coroutines())
CALL(c_now, weft_now() > 0)
CALL(c_errno, weft_errno() != NULL)
CALL(c_sleep, weft_sleep(1))
CALL(c_sleep_until, weft_sleep_until(weft_now() + MS))
CALL(c_timer_start, weft_timer_start(&thing.timer, 0, 0, nothing, NULL))
CALL(c_timer_stop, weft_timer_stop(&thing.timer))
CALL(c_timer_reset, weft_timer_reset(&thing.timer, 0))
CALL(c_timer_stop_wait, weft_timer_stop_wait(&thing.timer))
CALL(c_after, weft_after(0) != NULL)
CALL(c_make, weft_chan_make(0, 0) != NULL)
CALL(c_ref, void_call(unref_ref))
CALL(c_send, weft_send(thing.full, &word))
CALL(c_recv, weft_recv(thing.empty, &word))
CALL(c_send_nil, weft_send(NULL, NULL))
CALL(c_recv_nil, weft_recv(NULL, NULL))
CALL(c_try_send, weft_try_send(thing.full, &word))
CALL(c_try_recv, weft_try_recv(thing.empty, &word))
CALL(c_chan_close, close_chan())
CALL(c_len, weft_chan_len(thing.full))
CALL(c_cap, weft_chan_cap(thing.full))
CALL(c_select, weft_select(never(), 1, 0))
CALL(c_try_select, weft_try_select(never(), 1))
CALL(c_lock, weft_mutex_lock(&thing.held))
CALL(c_trylock, weft_mutex_trylock(&thing.held))
CALL(c_unlock, unlock_open())
CALL(c_wg_add, weft_wg_add(&thing.zero, 0))
CALL(c_wg_done, done_wg())
CALL(c_wg_wait, weft_wg_wait(&thing.one))
CALL(c_wg_go, weft_wg_go(&thing.zero, nothing, NULL))
CALL(c_background, weft_ctx_background() != NULL)
CALL(c_with_cancel, drop_ctx(weft_ctx_with_cancel(thing.ctx)))
CALL(c_with_deadline, drop_ctx(weft_ctx_with_deadline(thing.ctx, INT64_MAX - 1)))
CALL(c_with_past, drop_ctx(weft_ctx_with_deadline(thing.ctx, 1)))
CALL(c_with_value, drop_ctx(weft_ctx_with_value(thing.ctx, &byte, NULL)))
CALL(c_ctx_err, weft_ctx_err(thing.ctx))
CALL(c_ctx_cause, weft_ctx_cause(thing.ctx))
CALL(c_ctx_done, weft_ctx_done(thing.ctx) != NULL)
CALL(c_ctx_value, weft_ctx_value(thing.ctx, &byte) != NULL)
CALL(c_ctx_unref, void_call(unref_ctx))
CALL(c_ctx_cancel, weft_ctx_cancel(thing.ctx, 0))
CALL(c_group_limit, weft_group_limit(&thing.group, 2))
CALL(c_group_go, weft_group_go(&thing.group, seven, NULL))
CALL(c_group_go_until, weft_group_go_until(&thing.group, seven, NULL, 1))
CALL(c_group_wait, weft_group_wait(&thing.group))
CALL(c_group_wait_until, weft_group_wait_until(&thing.group, 1))
CALL(c_group_context, weft_group_context(&thing.with_context) != NULL)
CALL(c_read, weft_read(thing.pipe[0], &byte, 1))
CALL(c_write, weft_write(thing.pipe[1], &byte, 0))
CALL(c_readv, weft_readv(thing.pipe[0], &piece, 1))
CALL(c_writev, weft_writev(thing.pipe[1], &piece, 0))
CALL(c_pread, weft_pread(thing.pipe[0], &byte, 1, 0))
CALL(c_pwrite, weft_pwrite(thing.pipe[1], &byte, 1, 0))
CALL(c_recvfrom, weft_recvfrom(thing.pipe[0], &byte, 1, 0, NULL, NULL))
CALL(c_sendto, weft_sendto(thing.pipe[0], &byte, 1, 0, NULL, 0))
CALL(c_sendfile, weft_sendfile(thing.pipe[1], thing.pipe[0], NULL, 1))
CALL(c_getaddrinfo, weft_getaddrinfo("127.0.0.1", NULL, NULL, &list))
CALL(c_waitpid, weft_waitpid(getpid(), NULL, 0))
CALL(c_notify, weft_signal_notify(thing.empty, SIGUSR1))
CALL(c_signal_stop, weft_signal_stop(thing.empty))
CALL(c_accept, weft_accept(thing.listener, NULL, NULL))
CALL(c_connect, connect_nowhere())
CALL(c_listen, listen_close())
CALL(c_dial, weft_dial_tcp("127.0.0.1", 70000, 0))
CALL(c_poll, weft_poll_fd(thing.pipe[0], WEFT_READ, 0))
CALL(c_deadline, weft_set_deadline(thing.pipe[0], WEFT_READ, 1))
CALL(c_close, close_one())
CALL(c_dump, weft_dump(2))
CALL(c_stats, weft_stats(&stats))

enum { ENDS = 1000 }; /* in the child: one line, exit status 2 */

static const struct {
    const char *name;
    long long (*call)(void);
    long long outside, forked;
} calls[] = {
    {"run", c_run, 7, -ENOSYS},
    {"run_with", c_run_with, 7, -ENOSYS},
    {"procs", c_procs, -EPERM, -ENOSYS},
    {"procs(2)", c_procs_set, -EPERM, -ENOSYS},
    {"go", c_go, -EPERM, -ENOSYS},
    {"go_with", c_go_with, -EPERM, -ENOSYS},
    {"yield", c_yield, 0, 0},
    {"id", c_id, 0, 0},
    {"set_name", c_set_name, -EPERM, -ENOSYS},
    {"stack_bounds", c_bounds, -EPERM, -ENOSYS},
    {"num_coroutines", c_num, 0, 0},
    {"now", c_now, 1, 1},
    {"errno", c_errno, 1, 1},
    {"sleep", c_sleep, 0, -ENOSYS},
    {"sleep_until", c_sleep_until, 0, -ENOSYS},
    {"timer_start", c_timer_start, -EPERM, -ENOSYS},
    {"timer_stop", c_timer_stop, 0, -ENOSYS},
    {"timer_reset", c_timer_reset, -EPERM, -ENOSYS},
    {"timer_stop_wait", c_timer_stop_wait, 0, -ENOSYS},
    {"after", c_after, 0, 0},
    {"chan_make", c_make, 1, 0},
    {"chan_ref", c_ref, 0, ENDS},
    {"send", c_send, -EPERM, -ENOSYS},
    {"recv", c_recv, -EPERM, -ENOSYS},
    {"send nil", c_send_nil, -EPERM, -ENOSYS},
    {"recv nil", c_recv_nil, -EPERM, -ENOSYS},
    {"try_send", c_try_send, -EAGAIN, -ENOSYS},
    {"try_recv", c_try_recv, -EAGAIN, -ENOSYS},
    {"chan_close", c_chan_close, 0, -ENOSYS},
    {"chan_len", c_len, 1, 1},
    {"chan_cap", c_cap, 1, 1},
    {"select", c_select, -EPERM, -ENOSYS},
    {"try_select", c_try_select, -EAGAIN, -ENOSYS},
    {"mutex_lock", c_lock, -EPERM, -ENOSYS},
    {"mutex_trylock", c_trylock, -EBUSY, -EBUSY},
    {"mutex_unlock", c_unlock, 0, 0},
    {"wg_add", c_wg_add, 0, 0},
    {"wg_done", c_wg_done, 0, 0},
    {"wg_wait", c_wg_wait, -EPERM, -ENOSYS},
    {"wg_go", c_wg_go, -EPERM, -ENOSYS},
    {"ctx_background", c_background, 1, 1},
    {"ctx_with_cancel", c_with_cancel, 1, 0},
    {"ctx_with_deadline", c_with_deadline, 0, 0},
    {"ctx_with_deadline past", c_with_past, 1, 0},
    {"ctx_with_value", c_with_value, 1, 0},
    {"ctx_err", c_ctx_err, 0, 0},
    {"ctx_cause", c_ctx_cause, 0, 0},
    {"ctx_done", c_ctx_done, 1, 1},
    {"ctx_value", c_ctx_value, 0, 0},
    {"ctx_unref", c_ctx_unref, 0, ENDS},
    {"ctx_cancel", c_ctx_cancel, 0, -ENOSYS},
    {"group_limit", c_group_limit, 0, 0},
    {"group_go", c_group_go, -EPERM, -ENOSYS},
    {"group_go_until", c_group_go_until, -EPERM, -ENOSYS},
    {"group_wait", c_group_wait, 0, 0},
    {"group_wait_until", c_group_wait_until, 0, 0},
    {"group_context", c_group_context, 1, 0},
    {"read", c_read, -EPERM, -ENOSYS},
    {"write", c_write, 0, -ENOSYS},
    {"readv", c_readv, -EPERM, -ENOSYS},
    {"writev", c_writev, 0, -ENOSYS},
    {"pread", c_pread, -ESPIPE, -ENOSYS},
    {"pwrite", c_pwrite, -ESPIPE, -ENOSYS},
    {"recvfrom", c_recvfrom, -ENOTSOCK, -ENOSYS},
    {"sendto", c_sendto, -ENOTSOCK, -ENOSYS},
    {"sendfile", c_sendfile, -EINVAL, -ENOSYS},
    {"getaddrinfo", c_getaddrinfo, 0, EAI_SYSTEM},
    {"waitpid", c_waitpid, -ECHILD, -ENOSYS},
    {"signal_notify", c_notify, -EPERM, -ENOSYS},
    {"signal_stop", c_signal_stop, 0, -ENOSYS},
    {"accept", c_accept, -EPERM, -ENOSYS},
    {"connect", c_connect, -ENOENT, -ENOSYS},
    {"listen_tcp", c_listen, 0, -ENOSYS},
    {"dial_tcp", c_dial, -EINVAL, -ENOSYS},
    {"poll_fd", c_poll, -EPERM, -ENOSYS},
    {"set_deadline", c_deadline, -EPERM, -ENOSYS},
    {"close", c_close, 0, -ENOSYS},
    {"dump", c_dump, -EPERM, -ENOSYS},
    {"stats", c_stats, -EPERM, -ENOSYS},
};
enum { CALLS = sizeof calls / sizeof calls[0] };

static void call_outside(void)
{
    make_things();
    for (int i = 0; i < CALLS; i++) {
        long long got = calls[i].call();
        if (got != calls[i].outside)
            ck_abort_msg("weft_%s outside: %lld, not %lld", calls[i].name, got, calls[i].outside);
    }
    EQ(thing.zero.opaque[0] | thing.zero.opaque[1], 0); /* wg_go counted back */
}

START_TEST(outside)
{
    call_outside();
    EQ(weft_run(seven, NULL), 7);
    call_outside();
}
END_TEST

/* ---- fork ---- */

/* What call number i comes to in a child: its value, or ENDS. */
static long long in_child(int i)
{
    int out[2], status;
    long long value = ENDS;
    char line[256] = {0};
    EQ(pipe(out), 0);
    pid_t pid = fork();
    if (pid == 0) {
        alarm(10);
        dup2(out[1], calls[i].forked == ENDS ? 2 : out[1]);
        value = calls[i].call();
        (void)!write(out[1], &value, sizeof value);
        _exit(0);
    }
    OK(pid > 0);
    close(out[1]);
    EQ(waitpid(pid, &status, 0), pid);
    ssize_t n = read(out[0], line, sizeof line - 1);
    close(out[0]);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0 && n == sizeof value) {
        memcpy(&value, line, sizeof value);
        return value;
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 2)
        return -1000 - status;
    OK(strncmp(line, "weft: fatal: ", 13) == 0 && strchr(line, '\n') == line + n - 1);
    return ENDS;
}

static void fork_all(void *arg)
{
    (void)arg;
    for (int i = 0; i < CALLS; i++) {
        long long got = in_child(i);
        if (got != calls[i].forked)
            ck_abort_msg("weft_%s in a forked child: %lld, not %lld", calls[i].name, got,
                         calls[i].forked);
    }
}

static void *fork_thread(void *c)
{
    EQ(weft_id(), 0);
    fork_all(NULL);
    EQ(weft_send(c, NULL), 0);
    return NULL;
}

static int fork_main(void *arg)
{
    weft_chan_t *c = weft_chan_make(0, 0);
    pthread_t t;
    weft_wg_t wg = {0};
    (void)arg;
    make_things();
    EQ(weft_wg_go(&wg, fork_all, NULL), 0); /* a coroutine's child */
    EQ(weft_wg_wait(&wg), 0);
    EQ(pthread_create(&t, NULL, fork_thread, c), 0); /* a foreign thread's child */
    EQ(weft_recv(c, NULL), 1);
    pthread_join(t, NULL);
    EQ(weft_go(nothing, NULL), 0); /* nothing has changed here */
    EQ(weft_sleep(MS), 0);
    return 7;
}

START_TEST(forked)
{
    int status;
    weft_config_t cfg = {.procs = 1 + _i};
    EQ(weft_run_with(&cfg, fork_main, NULL), 7);
    pid_t pid = fork(); /* no run is active: the child may have one */
    if (pid == 0)
        _exit(weft_run(seven, NULL));
    EQ(waitpid(pid, &status, 0), pid);
    OK(WIFEXITED(status));
    EQ(WEXITSTATUS(status), 7);
}
END_TEST

/* A coroutine that forks and then returns in the child ends it with a line, not
 * with a second scheduler. */
static void fork_and_return(void *arg)
{
    pid_t pid = fork();
    if (pid == 0)
        return;
    *(pid_t *)arg = pid;
}

static int return_main(void *arg)
{
    weft_wg_t wg = {0};
    pid_t pid;
    int status;
    (void)arg;
    EQ(weft_wg_go(&wg, fork_and_return, &pid), 0);
    EQ(weft_wg_wait(&wg), 0);
    EQ(waitpid(pid, &status, 0), pid);
    OK(WIFEXITED(status));
    EQ(WEXITSTATUS(status), 2);
    return 7;
}

START_TEST(forked_return)
{
    EQ(weft_run(return_main, NULL), 7);
}
END_TEST

/* ---- weft_run: busy, wrong, without descriptors ---------------------------------------------- */

static void *run_beside(void *arg)
{
    for (int i = 0; i < 3; i++)
        EQ(weft_run(seven, NULL), -EBUSY);
    EQ(weft_send(arg, NULL), 0);
    return NULL;
}

static void run_within(void *arg)
{
    EQ(weft_run(seven, NULL), -EBUSY);
    EQ(weft_send(arg, NULL), 0);
}

static int busy_main(void *arg)
{
    weft_chan_t *c = weft_chan_make(0, 0);
    pthread_t t;
    (void)arg;
    EQ(weft_run(seven, NULL), -EBUSY);
    EQ(weft_run(NULL, NULL), -EINVAL);
    EQ(pthread_create(&t, NULL, run_beside, c), 0);
    EQ(weft_go(run_within, c), 0);
    EQ(weft_recv(c, NULL), 1);
    EQ(weft_recv(c, NULL), 1);
    pthread_join(t, NULL);
    weft_chan_unref(c);
    return 7;
}

START_TEST(busy)
{
    for (int i = 0; i < 3; i++)
        EQ(weft_run(busy_main, NULL), 7);
}
END_TEST

START_TEST(configuration)
{
    static const weft_config_t wrong[] = {{.procs = -1},       {.procs = 1025},
                                          {.threads_max = -1}, {.flags = 2},
                                          {.stack_max = 1},    {.stack_max = 64 * MIB + 1},
                                          {.stack_max = 100},  {.stack_max = SIZE_MAX}};
    EQ(weft_run(NULL, NULL), -EINVAL);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        int rc = weft_run_with(&wrong[i], seven, NULL);
        ck_assert_msg(rc == -EINVAL, "configuration %zu: %d", i, rc);
    }
    static const weft_config_t right[] = {{.procs = 1024},
                                          {.threads_max = 1},
                                          {.stack_max = 16384},
                                          {.stack_max = 64 * MIB},
                                          {.procs = 3, .stack_max = 100000}};
    for (size_t i = 0; i < sizeof right / sizeof right[0]; i++)
        EQ(weft_run_with(&right[i], seven, NULL), 7);
}
END_TEST

/* No descriptor for the poller, one of two, enough. Nothing is left open. */
START_TEST(no_descriptor)
{
    struct rlimit old, low;
    EQ(weft_run(seven, NULL), 7); /* whatever is opened once and kept */
    EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
    int next = dup(0);
    close(next);
    for (int more = 0; more < 2; more++) {
        low = old;
        low.rlim_cur = (rlim_t)(next + more);
        EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
        EQ(weft_run(seven, NULL), -EMFILE);
        EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
        EQ(weft_run(seven, NULL), 7);
        int again = dup(0);
        close(again);
        EQ(again, next);
    }
}
END_TEST

/* ---- values out of range ------------------------------------------------------------------------ */

static int range_main(void *arg)
{
    static const weft_attr_t wrong[] = {{.stack = 3},
                                        {.stack = -1},
                                        {.stack = WEFT_STACK_COPIED, .stack_max = SIZE_MAX},
                                        {.flags = 2},
                                        {.stack_max = 1},
                                        {.stack_max = 16383},
                                        {.stack_max = 64 * MIB + 1},
                                        {.stack_max = SIZE_MAX}};
    weft_wg_t wg = {0};
    (void)arg;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        int rc = weft_go_with(&wrong[i], nothing, NULL);
        ck_assert_msg(rc == -EINVAL, "attribute %zu: %d", i, rc);
    }
    EQ(weft_go(NULL, NULL), -EINVAL); /* Go: TestGoNil, where it is fatal */
    EQ(weft_wg_go(&wg, NULL, NULL), -EINVAL);
    EQ(weft_wg_wait(&wg), 0);
    EQ(weft_procs(1025), -EINVAL);
    EQ(weft_procs(-1), weft_procs(0));
    OK(weft_chan_make(65536, 0) == NULL);
    OK(weft_chan_make(1, SIZE_MAX) == NULL);
    EQ(weft_stack_bounds(NULL, &bound), -EINVAL);
    EQ(weft_stack_bounds(&bound, NULL), -EINVAL);
    EQ(weft_listen_tcp("127.0.0.1", -1, 0), -EINVAL);
    EQ(weft_listen_tcp("127.0.0.1", 65536, 0), -EINVAL);
    EQ(weft_listen_tcp(NULL, 65536, 0), -EINVAL);
    EQ(weft_dial_tcp("127.0.0.1", -1, 0), -EINVAL);
    EQ(weft_dial_tcp("127.0.0.1", 65536, 0), -EINVAL);
    EQ(weft_select(NULL, -1, 0), -EINVAL);
    EQ(weft_stats(NULL), -EINVAL);
    EQ(weft_num_coroutines(), 1); /* none of these has left anything behind */
    return 7;
}

START_TEST(range)
{
    EQ(weft_run(range_main, NULL), 7);
}
END_TEST

/* ---- no threads ------------------------------------------------------------------------------------- */

enum { JOBS = 200 };
static _Atomic int jobs_done;

static void job(void *arg)
{
    weft_yield();
    EQ(weft_sleep(MS), 0);
    EQ(weft_send(arg, NULL), 0);
    jobs_done++;
}

/* With or without threads, what is to be done gets done. */
static int work_main(void *arg)
{
    weft_chan_t *c = weft_chan_make(0, 0);
    weft_stats_t s;
    if (arg != NULL)
        EQ(setrlimit(RLIMIT_NPROC, arg), 0);
    jobs_done = 0;
    weft_wg_t wg = {0};
    for (int i = 0; i < JOBS; i++)
        EQ(weft_wg_go(&wg, job, c), 0);
    for (int i = 0; i < JOBS; i++)
        EQ(weft_recv(c, NULL), 1);
    EQ(weft_wg_wait(&wg), 0);
    EQ(jobs_done, JOBS);
    EQ(weft_stats(&s), 0);
    OK(s.threads <= 2); /* m0, and one more at most */
    for (int i = 0; arg != NULL && s.threads != 1;
         i++) { /* one that is being tried counts for a moment */
        OK(i < 1000);
        EQ(weft_sleep(MS), 0);
        EQ(weft_stats(&s), 0);
    }
    weft_chan_unref(c);
    return 7;
}

static void quiet(void)
{
    if (!freopen("/dev/null", "w", stderr)) /* "going on with the threads there are" */
        ck_abort();
}

START_TEST(threads_max)
{
    quiet();
    weft_config_t cfg = {.procs = 8, .threads_max = 1};
    EQ(weft_run_with(&cfg, work_main, NULL), 7);
    setenv("WEFT_MAXTHREADS", "1", 1);
    cfg.threads_max = 0;
    EQ(weft_run_with(&cfg, work_main, NULL), 7);
}
END_TEST

/* The kernel gives none: a run that has begun goes on with the thread it has,
 * one that is to begin says so. */
START_TEST(no_thread)
{
    struct rlimit old, none;
    quiet();
    if (geteuid() == 0) /* root is not limited */
        EQ(setresuid(54322, 54322, 54322), 0);
    EQ(getrlimit(RLIMIT_NPROC, &old), 0);
    none = old;
    none.rlim_cur = 1;
    weft_config_t cfg = {.procs = 8};
    EQ(weft_run_with(&cfg, work_main, &none), 7);
    EQ(weft_run_with(&cfg, seven, NULL), -EAGAIN);
    EQ(weft_run_with(&cfg, seven, NULL), -EAGAIN);
    EQ(setrlimit(RLIMIT_NPROC, &old), 0);
    EQ(weft_run_with(&cfg, seven, NULL), 7);
}
END_TEST

/* ---- no memory for a stack ---------------------------------------------------------------------------- */

#if !defined(WEFT_TSAN) && !defined(WEFT_ASAN) /* these need all addresses */

static void park(void *c)
{
    weft_recv(c, NULL);
}

static int none(void *arg)
{
    (void)arg;
    return 0;
}

/* Until there are no addresses. The failed spawn leaves no trace: no coroutine,
 * no count in the group, and all works again when some have ended. */
static int stack_main(void *arg)
{
    weft_chan_t *c = weft_chan_make(0, 0);
    weft_wg_t wg = {0};
    static weft_group_t group;
    weft_attr_t attr = {.name = "one that fails", .stack_max = 64 * MIB};
    EQ(weft_group_limit(&group, 1), 0);
    int n = 0, rc, before = 0;
    (void)arg;
    for (int round = 0; round < 4; round++) {
        for (n = 0; (rc = weft_wg_go(&wg, park, c)) == 0 && n < 1000000; n++)
            if (n % 64 == 0)
                weft_yield();
        EQ(rc, -ENOMEM);
        /* malloc may still find a piece now and then; most of these fail. */
        int failed = 0;
        for (int i = 0; i < 200; i++) {
            rc = i % 2 == 0 ? weft_wg_go(&wg, park, c) : weft_go_with(&attr, park, c);
            OK(rc == 0 || rc == -ENOMEM);
            failed += rc != 0;
            n += rc == 0;
        }
        OK(failed > 100);
        failed = 0;
        for (int i = 0; i < 200; i++) { /* its one place is free again each time */
            rc = weft_group_go_until(&group, none, NULL, 1);
            OK(rc == 0 || rc == -ENOMEM);
            failed += rc != 0;
            EQ(weft_group_wait(&group), 0);
        }
        OK(failed > 100);
        EQ(weft_num_coroutines(), n + 1);
        EQ(weft_chan_close(c), 0);
        EQ(weft_wg_wait(&wg), 0); /* comes back: the failures were not counted */
        while (weft_num_coroutines() > 1)
            weft_yield();
        weft_chan_unref(c);
        OK((c = weft_chan_make(0, 0)) != NULL);
        OK(round < 2 || n >= before - before / 10); /* nothing is lost from round to round */
        before = n;
    }
    return 7;
}

START_TEST(no_stack)
{
    struct rlimit rl = {600 * MIB, RLIM_INFINITY};
    weft_config_t cfg = {.procs = 1};
    quiet();
    EQ(setrlimit(RLIMIT_AS, &rl), 0);
    EQ(weft_run_with(&cfg, stack_main, NULL), 7);
    EQ(weft_run_with(&cfg, stack_main, NULL), 7);
}
END_TEST

#endif

int main(void)
{
    Suite *s = suite_create("errors");
    TCase *tc = tcase_create("errors");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, outside);
    tcase_add_loop_test(tc, forked, 0, 2);
    tcase_add_test(tc, forked_return);
    tcase_add_test(tc, busy);
    tcase_add_test(tc, configuration);
    tcase_add_test(tc, no_descriptor);
    tcase_add_test(tc, range);
    tcase_add_test(tc, threads_max);
    tcase_add_test(tc, no_thread);
#if !defined(WEFT_TSAN) && !defined(WEFT_ASAN)
    tcase_add_test(tc, no_stack);
#endif
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? 0 : 1;
}
