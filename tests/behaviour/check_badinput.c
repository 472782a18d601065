/* SPDX-License-Identifier: MIT
 *
 * check_badinput.c: NULL objects and functions, negative counts, sizes out of range, too few and too many
 * cases, deadlines that are past: each function's documented error, every time, on coroutines, on
 * foreign threads and outside of a run. (Other values out of range, and what fails without any
 * mistake: check_errors.c.) */
#include "behaviour.h"

#include <weft.h>

#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

static void nothing(void *arg)
{
    (void)arg;
}

static int none(void *arg)
{
    (void)arg;
    return 0;
}

static struct {
    weft_mutex_t mx;
    weft_rwmutex_t rw;
    weft_cond_t cond;
    weft_once_t once;
    weft_sem_t sem;
    weft_wg_t wg;
    weft_timer_t timer;
    weft_group_t group;
    weft_chan_t *full, *empty;
    int pipe[2];
} it;

static void make_things(void)
{
    memset(&it, 0, sizeof it);
    OK((it.full = weft_chan_make(1, 0)) != NULL);
    OK((it.empty = weft_chan_make(1, 3)) != NULL);
    EQ(pipe(it.pipe), 0);
}

static void drop_things(void)
{
    weft_chan_unref(it.full);
    weft_chan_unref(it.empty);
    EQ(weft_close(it.pipe[0]), 0);
    EQ(weft_close(it.pipe[1]), 0);
}

/* No call has left anything in an object that it was not to touch. */
static void untouched(void)
{
    static const struct {
        weft_mutex_t mx;
        weft_rwmutex_t rw;
        weft_cond_t cond;
        weft_once_t once;
        weft_sem_t sem;
        weft_wg_t wg;
        weft_timer_t timer;
        weft_group_t group;
    } zero;
    OK(memcmp(&it.mx, &zero.mx, sizeof it.mx) == 0);
    OK(memcmp(&it.rw, &zero.rw, sizeof it.rw) == 0);
    OK(memcmp(&it.cond, &zero.cond, sizeof it.cond) == 0);
    OK(memcmp(&it.once, &zero.once, sizeof it.once) == 0);
    OK(memcmp(&it.sem, &zero.sem, sizeof it.sem) == 0);
    OK(memcmp(&it.wg, &zero.wg, sizeof it.wg) == 0);
    OK(memcmp(&it.timer, &zero.timer, sizeof it.timer) == 0);
    OK(memcmp(&it.group, &zero.group, sizeof it.group) == 0);
}

/* ---- NULL ----------------------------------------------------------------------------------- */

static void null_locks(void)
{
    EQ(weft_mutex_lock(NULL), -EINVAL);
    EQ(weft_mutex_lock_until(NULL, 1), -EINVAL);
    EQ(weft_mutex_trylock(NULL), -EINVAL);
    EQ(weft_mutex_unlock(NULL), -EINVAL);
    EQ(weft_rwmutex_rlock(NULL), -EINVAL);
    EQ(weft_rwmutex_rlock_until(NULL, 1), -EINVAL);
    EQ(weft_rwmutex_tryrlock(NULL), -EINVAL);
    EQ(weft_rwmutex_runlock(NULL), -EINVAL);
    EQ(weft_rwmutex_lock(NULL), -EINVAL);
    EQ(weft_rwmutex_lock_until(NULL, 1), -EINVAL);
    EQ(weft_rwmutex_trylock(NULL), -EINVAL);
    EQ(weft_rwmutex_unlock(NULL), -EINVAL);
}

static void null_others(void)
{
    EQ(weft_cond_wait(NULL, &it.mx), -EINVAL);
    EQ(weft_cond_wait(&it.cond, NULL), -EINVAL);
    EQ(weft_cond_wait_until(NULL, &it.mx, 1), -EINVAL);
    EQ(weft_cond_wait_until(&it.cond, NULL, 1), -EINVAL);
    EQ(weft_cond_signal(NULL), -EINVAL);
    EQ(weft_cond_broadcast(NULL), -EINVAL);
    EQ(weft_once_do(NULL, nothing, NULL), -EINVAL);
    EQ(weft_once_do(&it.once, NULL, NULL), -EINVAL);
    EQ(weft_once_do_until(NULL, nothing, NULL, 1), -EINVAL);
    EQ(weft_once_do_until(&it.once, NULL, NULL, 1), -EINVAL);
    EQ(weft_sem_init(NULL, 1), -EINVAL);
    EQ(weft_sem_acquire(NULL, 1), -EINVAL);
    EQ(weft_sem_acquire_until(NULL, 1, 1), -EINVAL);
    EQ(weft_sem_try_acquire(NULL, 1), -EINVAL);
    EQ(weft_sem_release(NULL, 1), -EINVAL);
    EQ(weft_wg_add(NULL, 1), -EINVAL);
    EQ(weft_wg_done(NULL), -EINVAL);
    EQ(weft_wg_wait(NULL), -EINVAL);
    EQ(weft_wg_wait_until(NULL, 1), -EINVAL);
    EQ(weft_wg_go(NULL, nothing, NULL), -EINVAL);
    EQ(weft_wg_go(&it.wg, NULL, NULL), -EINVAL);
    EQ(weft_timer_start(NULL, 1, 0, nothing, NULL), -EINVAL);
    EQ(weft_timer_start(&it.timer, 1, 0, NULL, NULL), -EINVAL);
    EQ(weft_timer_stop(NULL), -EINVAL);
    EQ(weft_timer_reset(NULL, 1), -EINVAL);
    EQ(weft_signal_notify(NULL, SIGUSR1), -EINVAL);
    EQ(weft_signal_stop(NULL), -EINVAL);
    EQ(weft_go(NULL, NULL), -EINVAL);
    EQ(weft_go_with(NULL, NULL, NULL), -EINVAL);
    EQ(weft_blocking(NULL, NULL, NULL), -EINVAL);
    EQ(weft_run(NULL, NULL), -EINVAL);
    EQ(weft_run_with(NULL, NULL, NULL), -EINVAL);
    EQ(weft_stats(NULL), -EINVAL);
}

static void null_contexts(void)
{
    weft_ctx_t *root = weft_ctx_background(), *c = weft_ctx_with_cancel(root);
    OK(root != NULL && c != NULL);
    OK(weft_ctx_with_cancel(NULL) == NULL);
    OK(weft_ctx_with_deadline(NULL, 1) == NULL);
    OK(weft_ctx_with_value(NULL, &it, &it) == NULL);
    OK(weft_ctx_with_value(root, NULL, &it) == NULL);
    EQ(weft_ctx_cancel(NULL, 0), -EINVAL);
    EQ(weft_ctx_cancel(root, 0), -EINVAL);
    EQ(weft_ctx_cancel(c, 1), -EINVAL);
    EQ(weft_ctx_err(NULL), -EINVAL);
    EQ(weft_ctx_cause(NULL), -EINVAL);
    EQ(weft_ctx_err(c), 0);
    OK(weft_ctx_ref(NULL) == NULL);
    weft_ctx_unref(NULL);
    weft_ctx_unref(c);
    EQ(weft_group_go(NULL, none, NULL), -EINVAL);
    EQ(weft_group_go(&it.group, NULL, NULL), -EINVAL);
    EQ(weft_group_go_until(NULL, none, NULL, 1), -EINVAL);
    EQ(weft_group_go_until(&it.group, NULL, NULL, 1), -EINVAL);
    EQ(weft_group_limit(NULL, 1), -EINVAL);
    EQ(weft_group_wait(NULL), -EINVAL);
    EQ(weft_group_wait_until(NULL, 1), -EINVAL);
    OK(weft_group_context(NULL) == NULL);
    EQ(weft_key_create(NULL, NULL), -EINVAL);
}

/* NULL has a meaning for channels. (To close it, to wait with it: tests/crash.) */
static void null_channels(void)
{
    char byte = 'x';
    weft_case_t nil[2] = {{.op = WEFT_RECV}, {.op = WEFT_SEND}};
    EQ(weft_chan_len(NULL), 0);
    EQ(weft_chan_cap(NULL), 0);
    OK(weft_chan_ref(NULL) == NULL);
    weft_chan_unref(NULL);
    EQ(weft_try_send(NULL, &byte), -EAGAIN);
    EQ(weft_try_recv(NULL, &byte), -EAGAIN);
    EQ(weft_send_until(NULL, &byte, 1), -ETIMEDOUT);
    EQ(weft_recv_until(NULL, &byte, 1), -ETIMEDOUT);
    EQ(weft_select(nil, 2, 1), -ETIMEDOUT);
    EQ(weft_try_select(nil, 2), -EAGAIN);
    EQ(byte, 'x');
}

/* ---- numbers -------------------------------------------------------------------------------- */

static void counts(void)
{
    struct iovec piece = {NULL, 0};
    EQ(weft_sem_init(&it.sem, -1), -EINVAL);
    EQ(weft_sem_init(&it.sem, INT64_MIN), -EINVAL);
    EQ(weft_sem_acquire(&it.sem, -1), -EINVAL);
    EQ(weft_sem_acquire_until(&it.sem, -1, 1), -EINVAL);
    EQ(weft_sem_acquire_until(&it.sem, INT64_MIN, 0), -EINVAL);
    EQ(weft_sem_try_acquire(&it.sem, -1), -EINVAL);
    EQ(weft_sem_release(&it.sem, -1), -EINVAL);
    EQ(weft_sem_release(&it.sem, INT64_MIN), -EINVAL);
    EQ(weft_timer_start(&it.timer, 1, -1, nothing, NULL), -EINVAL);
    EQ(weft_readv(it.pipe[0], &piece, -1), -EINVAL);
    EQ(weft_writev(it.pipe[1], &piece, -1), -EINVAL);
    EQ(weft_readv(it.pipe[0], &piece, IOV_MAX + 1), -EINVAL);
    EQ(weft_writev(it.pipe[1], &piece, IOV_MAX + 1), -EINVAL);
    EQ(weft_signal_notify(it.empty, -1), -EINVAL);
    EQ(weft_signal_notify(it.empty, 0), -EINVAL);
    EQ(weft_signal_notify(it.empty, 10000), -EINVAL);
    EQ(weft_signal_notify(it.empty, SIGUSR1), -EINVAL); /* elements of one byte */
    EQ(weft_listen_tcp(NULL, -1, -1), -EINVAL);
    EQ(weft_dial_tcp("127.0.0.1", -1, 0), -EINVAL);
    EQ(weft_dial_tcp("127.0.0.1", 65536, 0), -EINVAL);
    EQ(weft_sleep(-1), 0);
    EQ(weft_sleep(INT64_MIN), 0);
}

static void sizes(void)
{
    OK(weft_chan_make(65536, 0) == NULL);
    OK(weft_chan_make(SIZE_MAX, 0) == NULL);
    OK(weft_chan_make(1, SIZE_MAX) == NULL);
    OK(weft_chan_make(0, SIZE_MAX) == NULL);
    OK(weft_chan_make(65535, SIZE_MAX / 65535) == NULL);
    OK(weft_chan_make(2, SIZE_MAX / 2 + 1) == NULL);
    weft_chan_t *c = weft_chan_make(65535, 1); /* the largest */
    OK(c != NULL);
    EQ(weft_try_send(c, NULL), 0);
    EQ(weft_try_recv(c, NULL), 1);
    weft_chan_unref(c);
}

/* ---- cases ---------------------------------------------------------------------------------- */

enum { MOST = 65536 };
static weft_case_t many[MOST + 1];

static void cases(void)
{
    static const int NO_OP[] = {0, -1, 3, WEFT_RECV | WEFT_SEND | 64, INT_MAX, INT_MIN};
    char byte;
    EQ(weft_select(NULL, -1, 0), -EINVAL);
    EQ(weft_select(many, -1, 1), -EINVAL);
    EQ(weft_select(many, INT_MIN, 1), -EINVAL);
    EQ(weft_select(NULL, 1, 1), -EINVAL);
    EQ(weft_select(NULL, 0, 1), -ETIMEDOUT);
    EQ(weft_select(many, 0, 1), -ETIMEDOUT);
    EQ(weft_try_select(NULL, -1), -EINVAL);
    EQ(weft_try_select(many, INT_MIN), -EINVAL);
    EQ(weft_try_select(NULL, 1), -EINVAL);
    EQ(weft_try_select(NULL, 0), -EAGAIN);
    EQ(weft_try_select(many, 0), -EAGAIN);

    for (int i = 0; i <= MOST; i++)
        many[i] = (weft_case_t){.op = i % 2 == 0 ? WEFT_RECV : WEFT_SEND,
                                .chan = i % 3 == 0 ? NULL : it.full,
                                .elem = NULL};
    EQ(weft_select(many, MOST + 1, 1), -EINVAL);
    EQ(weft_try_select(many, MOST + 1), -EINVAL);
    EQ(weft_select(many, INT_MAX, 1), -EINVAL);
    EQ(weft_select(many, MOST, 1), -ETIMEDOUT);
    EQ(weft_try_select(many, MOST), -EAGAIN);
    for (size_t i = 0; i < sizeof NO_OP / sizeof NO_OP[0]; i++) {
        weft_case_t one[2] = {{.op = WEFT_RECV, .chan = it.empty, .elem = &byte}, {.op = NO_OP[i]}};
        EQ(weft_select(one, 2, 1), -EINVAL);
        EQ(weft_try_select(one, 2), -EINVAL);
    }
    many[MOST - 1].op = 0;
    EQ(weft_try_select(many, MOST), -EINVAL);
    many[MOST - 1] = (weft_case_t){.op = WEFT_SEND, .chan = it.empty};
    EQ(weft_select(many, MOST, 1), MOST - 1);
    EQ(many[MOST - 1].result, 0);
    EQ(weft_try_recv(it.empty, NULL), 1);
}

/* ---- what the kernel judges ------------------------------------------------------------------- */

static void kernel(void)
{
    struct iovec piece = {NULL, 1};
    char byte = 0;
    int pair[2];
    EQ(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair), 0);
    EQ(weft_write(it.pipe[1], &byte, 1), 1);
    EQ(weft_read(it.pipe[0], NULL, 1), -EFAULT);
    EQ(weft_readv(it.pipe[0], &piece, 1), -EFAULT);
    EQ(weft_readv(it.pipe[0], NULL, 1), -EFAULT);
    EQ(weft_readv(it.pipe[0], NULL, 0), 0);
    EQ(weft_read(it.pipe[0], &byte, 1), 1);
    EQ(weft_write(it.pipe[1], NULL, 1), -EFAULT);
    EQ(weft_writev(it.pipe[1], &piece, 1), -EFAULT);
    EQ(weft_writev(it.pipe[1], NULL, 1), -EFAULT);
    EQ(weft_pread(it.pipe[0], &byte, 1, -1), -EINVAL);
    EQ(weft_sendto(pair[0], NULL, 1, 0, NULL, 0), -EFAULT);
    EQ(weft_write(pair[0], &byte, 1), 1);
    EQ(weft_recvfrom(pair[1], NULL, 1, MSG_PEEK, NULL, NULL), -EFAULT);
    EQ(weft_connect(pair[0], NULL, 16), -EFAULT);
    EQ(weft_poll_fd(it.pipe[0], 0, 1), -EINVAL);
    EQ(weft_poll_fd(it.pipe[0], 4, 1), -EINVAL);
    EQ(weft_poll_fd(it.pipe[0], WEFT_READ, -1), -EINVAL);
    EQ(weft_set_deadline(it.pipe[0], 0, 1), -EINVAL);
    EQ(weft_set_deadline(it.pipe[0], 4, 1), -EINVAL);
    EQ(weft_set_deadline(it.pipe[0], WEFT_READ, -1), -EINVAL);
    EQ(weft_dial_tcp("127.0.0.1", 1, -1), -EINVAL);
    EQ(weft_read(-1, &byte, 1), -EBADF);
    EQ(weft_close(-1), -EBADF);
    EQ(weft_close(INT_MAX), -EBADF);
    EQ(weft_poll_fd(-1, WEFT_READ, 1), -EBADF);
    EQ(weft_dump(-1), -EBADF);
    EQ(weft_waitpid(getpid(), NULL, 0), -ECHILD);
    EQ(weft_close(pair[0]), 0);
    EQ(weft_close(pair[1]), 0);
}

/* ---- deadlines --------------------------------------------------------------------------------- */

static atomic_int calls;

static void held_up(void *c)
{
    atomic_fetch_add(&calls, 1);
    EQ(weft_recv(c, NULL), 1);
}

static void holder(void *c)
{
    EQ(weft_once_do(&it.once, held_up, c), 0);
    EQ(weft_send(c, NULL), 0);
}

/* Whatever waits, and a deadline that is past: it does not. */
static void past(int64_t d)
{
    char byte = 'x';
    weft_case_t two[2] = {{.op = WEFT_RECV, .chan = it.empty, .elem = &byte},
                          {.op = WEFT_SEND, .chan = it.full, .elem = &byte}};
    EQ(weft_mutex_lock_until(&it.mx, d), -ETIMEDOUT);
    EQ(weft_rwmutex_lock_until(&it.rw, d), -ETIMEDOUT);
    EQ(weft_rwmutex_rlock_until(&it.rw, d), -ETIMEDOUT);
    EQ(weft_cond_wait_until(&it.cond, &it.mx, d), -ETIMEDOUT);
    EQ(weft_sem_acquire_until(&it.sem, 1, d), -ETIMEDOUT);
    EQ(weft_wg_wait_until(&it.wg, d), -ETIMEDOUT);
    EQ(weft_once_do_until(&it.once, nothing, NULL, d), -ETIMEDOUT);
    EQ(weft_send_until(it.full, &byte, d), -ETIMEDOUT);
    EQ(weft_recv_until(it.empty, &byte, d), -ETIMEDOUT);
    EQ(weft_select(two, 2, d), -ETIMEDOUT);
    EQ(weft_sleep_until(d), 0);
    EQ(byte, 'x');
    if (d < 0)
        return;
    EQ(weft_poll_fd(it.pipe[0], WEFT_READ, d), -ETIMEDOUT);
    EQ(weft_set_deadline(it.pipe[0], WEFT_READ, d), 0);
    EQ(weft_read(it.pipe[0], &byte, 1), -ETIMEDOUT);
    EQ(weft_set_deadline(it.pipe[0], WEFT_READ, 0), 0);
}

/* The same when nothing is in the way: it is done. */
static void past_but_ready(int64_t d)
{
    char byte = 'x';
    EQ(weft_mutex_lock_until(&it.mx, d), 0);
    EQ(weft_mutex_unlock(&it.mx), 0);
    EQ(weft_rwmutex_lock_until(&it.rw, d), 0);
    EQ(weft_rwmutex_unlock(&it.rw), 0);
    EQ(weft_rwmutex_rlock_until(&it.rw, d), 0);
    EQ(weft_rwmutex_runlock(&it.rw), 0);
    EQ(weft_sem_acquire_until(&it.sem, 0, d), 0);
    EQ(weft_wg_wait_until(&it.wg, d), 0);
    EQ(weft_once_do_until(&it.once, nothing, NULL, d), 0);
    EQ(weft_send_until(it.empty, &byte, d), 0);
    EQ(weft_recv_until(it.empty, &byte, d), 1);
}

static void deadline_body(void)
{
    weft_chan_t *gate = weft_chan_make(0, 0);
    const int64_t when[] = {1, weft_now(), -1, INT64_MIN};
    enum { N = sizeof when / sizeof when[0] };
    make_things();
    calls = 0;
    OK(gate != NULL);
    EQ(weft_mutex_lock(&it.mx), 0);
    EQ(weft_rwmutex_lock(&it.rw), 0);
    EQ(weft_wg_add(&it.wg, 1), 0);
    go(holder, gate);
    while (calls == 0)
        weft_yield();
    for (int i = 0; i < N; i++)
        past(when[i]);
    EQ(weft_send(gate, NULL), 0);
    EQ(weft_recv(gate, NULL), 1);
    EQ(weft_mutex_unlock(&it.mx), 0);
    EQ(weft_rwmutex_unlock(&it.rw), 0);
    EQ(weft_wg_done(&it.wg), 0);
    for (int i = 0; i < N; i++)
        past_but_ready(when[i]);
    EQ(calls, 1);
    weft_chan_unref(gate);
    drop_things();
}

/* ---- who asks ------------------------------------------------------------------------------------- */

static void ask_all(void)
{
    null_locks();
    null_others();
    null_contexts();
    null_channels();
    counts();
    sizes();
    cases();
    untouched();
}

static void coroutine_body(void)
{
    size_t before = weft_num_coroutines();
    make_things();
    ask_all();
    kernel();
    EQ(weft_stack_bounds(NULL, NULL), -EINVAL);
    EQ(weft_setspecific(UINT32_MAX, &it), -EINVAL);
    OK(weft_getspecific(UINT32_MAX) == NULL);
    EQ(weft_cancel(UINT64_MAX), -ESRCH);
    EQ(weft_join(UINT64_MAX, 1), -ESRCH);
    EQ(weft_cancel(0), -ESRCH);
    EQ(weft_join(0, 1), -ESRCH);
    EQ(weft_num_coroutines(), before);
    drop_things();
}

static void *foreign(void *arg)
{
    ask_all();
    weft_wg_done(arg);
    return NULL;
}

static void foreign_body(void)
{
    static weft_wg_t wg;
    pthread_t th;
    make_things();
    EQ(weft_wg_add(&wg, 1), 0);
    EQ(pthread_create(&th, NULL, foreign, &wg), 0);
    EQ(weft_wg_wait(&wg), 0);
    pthread_join(th, NULL);
    drop_things();
}

START_TEST(outside)
{
    make_things();
    ask_all();
    EQ(weft_run(none, NULL), 0);
    ask_all();
    drop_things();
    (void)_i;
}
END_TEST

static void (*const bodies[])(void) = {coroutine_body, foreign_body, deadline_body};
enum { BODIES = sizeof bodies / sizeof bodies[0] };

START_TEST(each)
{
    run(_i % NPROCS, bodies[_i / NPROCS]);
}
END_TEST

int main(void)
{
    return run_bodies("badinput", each, BODIES, outside);
}
