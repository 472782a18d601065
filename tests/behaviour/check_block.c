/* SPDX-License-Identifier: MIT
 *
 * check_block.c: a coroutine that blocks in the kernel, in a call that weft knows nothing of, stops
 * nobody else. check_block_each.c: those that wait for each other; check_block_declared.c: calls that
 * are declared; check_block_end.c: the end of a run. */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <resolv.h>
#include <semaphore.h>
#include <sys/file.h>
#include <sys/socket.h>

#include "block_test.h"

/* ---- calls ------------------------------------------------------------------------------- */

static void nanosleep_block(void)
{
    now_blocks();
    plain_sleep(CALL_MS * MS);
}

static int lock_fds[2]; /* of one file, opened twice */

static void flock_prepare(void)
{
    char path[] = "/tmp/weft_check_block_XXXXXX";
    lock_fds[0] = mkstemp(path);
    lock_fds[1] = open(path, O_RDWR | O_CLOEXEC);
    OK(lock_fds[0] >= 0 && lock_fds[1] >= 0);
    EQ(unlink(path), 0);
    EQ(flock(lock_fds[0], LOCK_EX), 0);
}

static void flock_block(void)
{
    now_blocks();
    EQ(flock(lock_fds[1], LOCK_EX), 0);
    close(lock_fds[1]);
}

static void flock_release(void)
{
    EQ(flock(lock_fds[0], LOCK_UN), 0);
    close(lock_fds[0]);
}

/* A mutex that a plain thread has. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static sem_t kept, let;
static pthread_t keeper_thread;

static void *keeper(void *arg)
{
    pthread_mutex_lock(&mutex);
    sem_post(&kept);
    sem_wait(&let);
    pthread_mutex_unlock(&mutex);
    return arg;
}

static void mutex_prepare(void)
{
    EQ(sem_init(&kept, 0, 0), 0);
    EQ(sem_init(&let, 0, 0), 0);
    EQ(pthread_create(&keeper_thread, NULL, keeper, NULL), 0);
    EQ(sem_wait(&kept), 0);
}

static void mutex_block(void)
{
    now_blocks();
    EQ(pthread_mutex_lock(&mutex), 0);
    EQ(pthread_mutex_unlock(&mutex), 0);
}

static void mutex_release(void)
{
    EQ(sem_post(&let), 0);
    EQ(pthread_join(keeper_thread, NULL), 0);
}

static void poll_block(void)
{
    struct pollfd p = {.fd = pipe_fds[0], .events = POLLIN};
    now_blocks();
    EQ(poll(&p, 1, -1), 1);
    pipe_take();
}

/* A child that ends when the pipe does. */
static pid_t child;

static void child_prepare(void)
{
    pipe_open();
    child = fork();
    OK(child >= 0);
    if (child == 0) {
        char c;
        _exit(read(pipe_fds[0], &c, 1) == 1 ? c : 1);
    }
}

static void child_block(void)
{
    int status = 0;
    now_blocks();
    EQ(waitpid(child, &status, 0), child);
    EQ(WEXITSTATUS(status), 'x');
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

/* A name server, which is the main coroutine: it answers with 10.1.2.3. The settings of the
 * resolver are its thread's. */
static int dns_fd;
static struct sockaddr_in dns_addr;

static void dns_prepare(void)
{
    socklen_t len = sizeof dns_addr;
    dns_addr =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    dns_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    OK(dns_fd >= 0);
    EQ(bind(dns_fd, (struct sockaddr *)&dns_addr, sizeof dns_addr), 0);
    EQ(getsockname(dns_fd, (struct sockaddr *)&dns_addr, &len), 0);
}

static void dns_block(void)
{
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *list = NULL;
    EQ(res_init(), 0);
    _res.nscount = 1;
    _res.nsaddr_list[0] = dns_addr;
    _res.retrans = 20;
    now_blocks();
    EQ(getaddrinfo("blocked.weft.test.", "80", &hints, &list), 0);
    EQ(ntohl(((struct sockaddr_in *)(void *)list->ai_addr)->sin_addr.s_addr), 0x0a010203);
    freeaddrinfo(list);
}

static void dns_release(void)
{
    static const unsigned char answer[] = {0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 1, 2, 3};
    unsigned char m[600];
    struct sockaddr_in from;
    socklen_t len = sizeof from;
    ssize_t n = recvfrom(dns_fd, m, 512, 0, (struct sockaddr *)&from, &len);
    OK(n > 12 + 5);
    size_t end = 12;
    while (end < (size_t)n && m[end] != 0)
        end += m[end] + 1u;
    end += 5; /* the root, type and class */
    OK(end <= (size_t)n);
    m[2] |= 0x80;        /* a response */
    m[3] = 0x80;         /* recursion available, no error */
    m[7] = 1;            /* one answer */
    memset(m + 8, 0, 4); /* and nothing else */
    memcpy(m + end, answer, sizeof answer);
    EQ(sendto(dns_fd, m, end + sizeof answer, 0, (struct sockaddr *)&from, len),
       end + sizeof answer);
    close(dns_fd);
}

/* Are names looked up by libc itself, and in this way? */
static bool dns_used(void)
{
#ifndef __GLIBC__
    return false;
#endif
    char line[256];
    bool dns = false;
    FILE *f = fopen("/etc/nsswitch.conf", "r");
    if (f == NULL)
        return false;
    while (fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, "hosts:", 6) == 0)
            dns = strstr(line, " dns") != NULL && strstr(line, "resolve") == NULL;
    fclose(f);
    return dns && access("/var/run/nscd/socket", F_OK) != 0;
}

static const Call calls[] = {
    {"nanosleep", NULL, nanosleep_block, NULL},
    {"read", pipe_open, pipe_block, pipe_release},
    {"poll", pipe_open, poll_block, pipe_release},
    {"flock", flock_prepare, flock_block, flock_release},
    {"pthread_mutex_lock", mutex_prepare, mutex_block, mutex_release},
    {"waitpid", child_prepare, child_block, pipe_release},
    {"getaddrinfo", dns_prepare, dns_block, dns_release},
};
enum { NCALLS = sizeof calls / sizeof calls[0] };

/* ---- others go on ---------------------------------------------------------------------- */

enum { ROUNDS = 8 };
static const Call *which;

/* How soon main goes on beside a call. */
static void beside_body(void)
{
    int64_t gap[ROUNDS];
    int rounds = which->release == NULL ? 3 : ROUNDS;
    uint64_t before = retaken(false);
    for (int i = 0; i < rounds; i++) {
        call_start(which);
        while (blocked_at == 0)
            weft_yield();
        gap[i] = weft_now() - blocked_at;
        OK(!call_over);
        OK(gap[i] < LOOSE);
        call_end(which);
    }
    printf("beside %s: p50 %lld us, p90 %lld us\n", which->name,
           (long long)quantile(gap, (size_t)rounds, 500) / 1000,
           (long long)quantile(gap, (size_t)rounds, 900) / 1000);
    if (strict())
        OK(quantile(gap, (size_t)rounds, rounds == ROUNDS ? 900 : 500) <= 2 * MS);
    OK(retaken(false) >= before + (uint64_t)rounds / 2); /* chaos may have yielded elsewhere */
}

static void beside_run(int i)
{
    which = &calls[i];
    if (which->block == dns_block && !dns_used())
        return;
    run(0, beside_body);
}

START_TEST(beside)
{
    beside_run(_i);
}
END_TEST

START_TEST(beside_storm)
{
    storm("200");
    beside_run(_i);
}
END_TEST

START_TEST(beside_no_ticks)
{
    storm("off");
    beside_run(_i);
}
END_TEST

/* ---- wake-ups, while the only P's coroutine is in the kernel and all others are parked ------ */

static weft_chan_t *chan;
static int ends[2];
static weft_timer_t timer;
static _Atomic int64_t due; /* when it is to happen */

static void send_due(void *arg)
{
    (void)arg;
    EQ(weft_send(chan, NULL), 0);
}

/* A thread that weft did not make does something 20 ms after the call has begun. */
static void *do_later(void *arg)
{
    void (*what)(void) = NULL;
    memcpy(&what, arg, sizeof what);
    while (blocked_at == 0)
        usleep(1000);
    usleep(20000);
    due = weft_now();
    what();
    return NULL;
}

static void write_end(void)
{
    EQ(write(ends[1], "y", 1), 1);
}

static void send_chan(void)
{
    EQ(weft_send(chan, NULL), 0);
}

static void spawn_sender(void)
{
    EQ(weft_go(send_due, NULL), 0);
}

static void recv_after(void (*what)(void))
{
    pthread_t t;
    char c;
    EQ(pthread_create(&t, NULL, do_later, &what), 0);
    if (what == write_end)
        EQ(weft_read(ends[0], &c, 1), 1);
    else
        EQ(weft_recv(chan, NULL), 1);
    EQ(pthread_join(t, NULL), 0);
}

static void wait_for(int how)
{
    switch (how) {
    case 0:
        due = weft_now() + 20 * MS;
        EQ(weft_sleep_until(due), 0);
        break;
    case 1:
        due = weft_now() + 20 * MS;
        EQ(weft_timer_start(&timer, due, 0, send_due, NULL), 0);
        EQ(weft_recv(chan, NULL), 1);
        break;
    case 2:
        recv_after(write_end);
        break;
    case 3:
        recv_after(send_chan);
        break;
    default:
        recv_after(spawn_sender);
    }
}

static int how;

static void served_body(void)
{
    static const Call plain = {"read", pipe_open, pipe_block, pipe_release},
                      declared = {"declared", pipe_open, pipe_declared, pipe_release};
    const char *const names[] = {"sleep", "timer", "socket", "foreign send", "foreign spawn"};
    const Call *c = how >= 5 ? &declared : &plain;
    int64_t late[ROUNDS];
    chan = weft_chan_make(0, 0);
    EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    for (int i = 0; i < ROUNDS; i++) {
        call_start(c);
        wait_for(how % 5);
        late[i] = weft_now() - due;
        OK(!call_over); /* not yet begun, if the machine has stood still */
        OK(late[i] < LOOSE + SEC);
        call_end(c);
    }
    printf("%s beside %s: late by p50 %lld us, max %lld us\n", names[how % 5], c->name,
           (long long)quantile(late, ROUNDS, 500) / 1000,
           (long long)quantile(late, ROUNDS, 1000) / 1000);
    if (strict() && how % 5 < 2)
        OK(quantile(late, ROUNDS, 500) <= (how >= 5 ? 300 * US : 2500 * US));
    weft_close(ends[0]);
    close(ends[1]);
    weft_chan_unref(chan);
}

START_TEST(served)
{
    how = _i;
    run(0, served_body);
}
END_TEST

START_TEST(served_no_ticks)
{
    storm("off");
    how = _i;
    run(0, served_body);
}
END_TEST

/* ---- no deadlock is reported while somebody is in the kernel ---------------------------------- */

static void late_sender(void *arg)
{
    if (how == 1)
        weft_syscall_enter();
    plain_sleep(1500 * MS); /* longer than a deadlock is suspected for: monitor.c */
    weft_syscall_exit();
    send_due(arg);
}

static void deadlock_body(void)
{
    chan = weft_chan_make(0, 0);
    go(late_sender, NULL);
    EQ(weft_recv(chan, NULL), 1);
    go(late_sender, NULL); /* and with an M that has lost its P, and one that has not */
    weft_sleep(10 * MS);
    EQ(weft_recv(chan, NULL), 1);
    weft_chan_unref(chan);
}

START_TEST(no_deadlock)
{
    how = _i % 2;
    run(_i / 2, deadlock_body);
}
END_TEST

/* ---- bounded threads --------------------------------------------------------------------------- */

/* Go: TestThreadExhaustion, whose programs die at the bound. Here coroutines wait for a thread. */

enum { MANY = 500, BOUND = 16 };
static _Atomic int done_n;
static _Atomic bool sampling;

static void *nap(void *arg)
{
    plain_sleep(20 * MS);
    return arg;
}

static void one_of_many(void *arg)
{
    intptr_t i = (intptr_t)arg;
    void *got = NULL;
    switch ((how == 3 ? i : how) % 3) {
    case 0:
        nap(NULL);
        break;
    case 1:
        weft_syscall_enter();
        nap(NULL);
        weft_syscall_exit();
        break;
    default:
        EQ(weft_blocking(nap, arg, &got), 0);
        EQ((intptr_t)got, i);
    }
    done_n++;
    weft_wg_done(&calls_wg);
}

static void sampler(void *arg)
{
    int *most = arg;
    while (sampling) {
        weft_stats_t s;
        EQ(weft_stats(&s), 0);
        OK(s.threads <= BOUND + 1); /* the host's is not of weft's making */
        int n = count_threads();
        *most = n > *most ? n : *most;
        weft_sleep(5 * MS);
    }
    weft_wg_done(&calls_wg);
}

static void bounded_body(void)
{
    int most = 0;
    done_n = 0;
    sampling = true;
    int64_t begin = weft_now();
    EQ(weft_wg_add(&calls_wg, MANY), 0);
    for (intptr_t i = 0; i < MANY; i++)
        go(one_of_many, (void *)i);
    go(sampler, &most);
    EQ(weft_wg_wait(&calls_wg), 0);
    EQ(done_n, MANY);
    printf("bounded: %d calls of 20 ms in %lld ms on at most %d threads\n", MANY,
           (long long)((weft_now() - begin) / MS), most);
    EQ(weft_wg_add(&calls_wg, 1), 0);
    sampling = false;
    EQ(weft_wg_wait(&calls_wg), 0);
    OK(most <= BOUND + 1 + 4); /* the monitor, the maker, a sanitizer's two */
}

/* How often a run says on standard error that it has no more threads. */
START_TEST(bounded)
{
    weft_config_t cfg = {.procs = 1 + _i % 2, .threads_max = BOUND};
    void (*body)(void) = bounded_body;
    char line[256];
    int said = 0, saved = dup(2);
    FILE *f = tmpfile();
    OK(f != NULL && saved >= 0);
    how = _i / 2;
    OK(dup2(fileno(f), 2) == 2);
    EQ(weft_run_with(&cfg, run_entry, &body), 7);
    OK(dup2(saved, 2) == 2);
    rewind(f);
    while (fgets(line, sizeof line, f) != NULL)
        said += strstr(line, "WEFT_MAXTHREADS") != NULL;
    EQ(said, 1);
    fclose(f);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("block");
    TCase *tc = tcase_create("block");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, beside, 0, NCALLS);
    tcase_add_loop_test(tc, beside_storm, 0, NCALLS);
    tcase_add_loop_test(tc, beside_no_ticks, 0, NCALLS);
    tcase_add_loop_test(tc, served, 0, 10);
    tcase_add_loop_test(tc, served_no_ticks, 0, 10);
    tcase_add_loop_test(tc, no_deadlock, 0, 2);
    tcase_add_loop_test(tc, bounded, 0, 8);
    suite_add_tcase(s, tc);
    return run_suite(s);
}
