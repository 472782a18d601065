/* SPDX-License-Identifier: MIT
 *
 * stress_select_fd.c: many selects over sockets and channels at once.
 *
 * Senders put each number into whichever of the sockets and channels takes it, by a select; takers
 * select over all of them, some with short deadlines, some by trying; foreign threads join in
 * every third round. A socket's deadline passes now and then, and is lifted. Meanwhile others open
 * sockets, wait for them in a select beside a channel that is never ready, and have them closed,
 * or their other ends; or they are woken by the channel while the socket gets ready.
 *
 * Checked: each number arrives exactly once; every wait that a close, an end or a channel is to
 * end ends (if a wake-up is lost the test does not end); only the case that won has a result.
 * Rounds go on for WEFT_STRESS_SECONDS (2).
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/stack_test.h"
#include "tests/stress/stress.h"

enum { SOCKS = 4, CHANS = 4, ALL = SOCKS + CHANS };
enum { SENDERS = 4, TAKERS = 4, FOREIGN = 2, CLOSERS = 3, ITEMS = 800, NONE = 99 };

static int sock[SOCKS][2]; /* packets: [1] to [0] */
static weft_chan_t *chans[CHANS], *quit, *done;
static atomic_uchar seen[SENDERS * ITEMS];
static atomic_uint taken, raced, cancelled, others, late;

static void take(uint32_t v)
{
    OK(v < SENDERS * ITEMS && atomic_fetch_add(&seen[v], 1) == 0);
    atomic_fetch_add(&taken, 1);
}

static void untouched(const weft_case_t *k, int n, int got)
{
    for (int i = 0; i < n; i++)
        OK(i == got || k[i].result == NONE);
}

static void sender(void *arg)
{
    uint32_t id = (uint32_t)(uintptr_t)arg, seed = id;
    for (uint32_t i = 0; i < ITEMS; i++) {
        uint32_t v = id * ITEMS + i;
        for (;;) {
            weft_case_t k[ALL];
            for (int s = 0; s < SOCKS; s++)
                k[s] = (weft_case_t){.op = WEFT_FD_OUT, .fd = sock[s][1], .result = NONE};
            for (int c = 0; c < CHANS; c++)
                k[SOCKS + c] =
                    (weft_case_t){.op = WEFT_SEND, .chan = chans[c], .elem = &v, .result = NONE};
            int got = weft_select(k, ALL, next(&seed) % 4 == 0 ? weft_now() + 20000 : 0);
            untouched(k, ALL, got);
            if (got == -ETIMEDOUT)
                continue;
            OK(got >= 0);
            if (got >= SOCKS) {
                OK(k[got].result == 0);
                break;
            }
            OK(k[got].result == WEFT_WRITE);
            ssize_t n = weft_sendto(sock[got][1], &v, sizeof v, MSG_DONTWAIT, NULL, 0);
            if (n == (ssize_t)sizeof v)
                break;
            OK(n == -EAGAIN); /* another was faster */
            atomic_fetch_add(&raced, 1);
        }
    }
    OK(weft_send(done, NULL) == 0);
}

static void take_until_quit(uint32_t seed)
{
    weft_case_t k[ALL + 1];
    uint32_t buf[CHANS];
    for (;;) {
        for (int s = 0; s < SOCKS; s++)
            k[s] = (weft_case_t){.op = WEFT_FD_IN, .fd = sock[s][0], .result = NONE};
        for (int c = 0; c < CHANS; c++)
            k[SOCKS + c] =
                (weft_case_t){.op = WEFT_RECV, .chan = chans[c], .elem = &buf[c], .result = NONE};
        k[ALL] = (weft_case_t){.op = WEFT_RECV, .chan = quit, .result = NONE};
        uint32_t dice = next(&seed) % 8, v;
        int got = dice == 0 ? weft_try_select(k, ALL + 1)
                            : weft_select(k, ALL + 1, dice < 3 ? weft_now() + 5000 : 0);
        untouched(k, ALL + 1, got);
        if (got == -EAGAIN)
            weft_yield();
        if (got == -EAGAIN || got == -ETIMEDOUT)
            continue;
        OK(got >= 0);
        if (got == ALL)
            return;
        if (got >= SOCKS) {
            OK(k[got].result == 1);
            take(buf[got - SOCKS]);
            continue;
        }
        if (k[got].result == -ETIMEDOUT) {
            atomic_fetch_add(&late, 1);
            OK(weft_set_deadline(sock[got][0], WEFT_READ, 0) == 0);
            continue;
        }
        OK(k[got].result == WEFT_READ);
        ssize_t n = weft_recvfrom(sock[got][0], &v, sizeof v, MSG_DONTWAIT, NULL, NULL);
        if (n == (ssize_t)sizeof v) {
            take(v);
        } else {
            OK(n == -EAGAIN);
            atomic_fetch_add(&raced, 1);
        }
    }
}

static void taker(void *arg)
{
    take_until_quit((uint32_t)(uintptr_t)arg);
    OK(weft_send(done, NULL) == 0);
}

static void *foreign_taker(void *arg)
{
    take_until_quit((uint32_t)(uintptr_t)arg);
    return NULL;
}

/* ---- closes meanwhile --------------------------------------------------------------- */

typedef struct {
    int fd, other, how;
    uint32_t pause;
    weft_chan_t *c;
} Doomed;

static void doom(void *arg)
{
    Doomed d = *(Doomed *)arg;
    free(arg);
    if (d.pause > 0)
        weft_sleep(d.pause * 1000);
    if (d.how == 4)
        OK(weft_write(d.other, "x", 1) == 1);
    if (d.how >= 3)
        OK(weft_send(d.c, NULL) == 0);
    OK(weft_close(d.how == 0 ? d.fd : d.other) == 0);
    if (d.how == 1)
        OK(weft_recv(d.c, NULL) == 1); /* it has seen the end; its own close must not help */
    OK(weft_close(d.how == 0 ? d.other : d.fd) == 0);
    weft_chan_unref(d.c);
}

/* A socket pair; [0] has a number of this closer's own: it is the next one's soon after it was
 * closed, but none of another's, or of the runtime's, for which a select that begins too late
 * would wait. */
static void own_pair(uint32_t id, int p[2])
{
    int s[2];
    OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
    p[0] = fcntl(s[0], F_DUPFD, 300 + 50 * (int)id);
    p[1] = s[1];
    OK(p[0] >= 0 && close(s[0]) == 0);
}

/* 0: it is closed  1: the other end is  2: first the other, then it  3: the channel wins
 * 4: both are ready */
static void closer(void *arg)
{
    uint32_t id = (uint32_t)(uintptr_t)arg, seed = id + 20;
    weft_chan_t *c = weft_chan_make(0, 0);
    while (weft_try_recv(quit, NULL) == -EAGAIN) {
        int p[2], how = (int)(next(&seed) % 5);
        Doomed *d = malloc(sizeof *d);
        own_pair(id, p);
        OK(d != NULL);
        *d = (Doomed){p[0], p[1], how, next(&seed) % 40, weft_chan_ref(c)};
        OK(weft_go(doom, d) == 0);
        weft_case_t k[3] = {{.op = WEFT_FD_IN, .fd = p[0], .result = NONE},
                            {.op = WEFT_RECV, .chan = c, .result = NONE},
                            {.op = WEFT_FD_IN, .fd = p[0], .result = NONE}};
        int got = weft_select(k, 3, 0);
        untouched(k, 3, got);
        OK(got >= 0 && got < 3);
        int rc = k[got].result;
        if (got == 1)
            OK(rc == 1 && how >= 3);
        else if (how == 1)
            OK(rc == WEFT_READ && weft_send(c, NULL) == 0);
        else if (how < 3)
            OK(rc == -ECANCELED || rc == -EBADF || (rc == WEFT_READ && how == 2));
        else
            OK(how == 4 && rc == WEFT_READ && weft_recv(c, NULL) == 1);
        atomic_fetch_add(rc == -ECANCELED ? &cancelled : &others, 1);
    }
    weft_chan_unref(c);
    OK(weft_send(done, NULL) == 0);
}

/* ---- rounds ---------------------------------------------------------------------------- */

static void await(int n)
{
    while (n-- > 0)
        OK(weft_recv(done, NULL) == 1);
}

static int round_main(void *arg)
{
    int foreign = *(int *)arg;
    pthread_t t[FOREIGN];
    quit = weft_chan_make(0, 0);
    done = weft_chan_make(0, 0);
    for (int i = 0; i < CHANS; i++)
        chans[i] = weft_chan_make(sizeof(uint32_t), i % 2 ? 2 : 0);
    for (int i = 0; i < SOCKS; i++) {
        int small = 4096;
        OK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sock[i]) == 0);
        OK(setsockopt(sock[i][1], SOL_SOCKET, SO_SNDBUF, &small, sizeof small) == 0);
    }
    for (uintptr_t i = 0; i < (uintptr_t)foreign; i++)
        OK(pthread_create(&t[i], NULL, foreign_taker, (void *)(i + 50)) == 0);
    for (uintptr_t i = 0; i < TAKERS; i++)
        OK(weft_go(taker, (void *)i) == 0);
    for (uintptr_t i = 0; i < CLOSERS; i++)
        OK(weft_go(closer, (void *)i) == 0);
    for (uintptr_t i = 0; i < SENDERS; i++)
        OK(weft_go(sender, (void *)i) == 0);
    await(SENDERS);
    for (int i = 0; atomic_load(&taken) < SENDERS * ITEMS; i++) {
        weft_sleep(100000);
        OK(weft_set_deadline(sock[i % SOCKS][0], WEFT_READ, weft_now() + 50000) == 0);
    }
    weft_chan_close(quit);
    await(TAKERS + CLOSERS);
    for (int i = 0; i < foreign; i++)
        pthread_join(t[i], NULL);
    OK(atomic_load(&taken) == SENDERS * ITEMS);
    for (int i = 0; i < SOCKS; i++)
        OK(weft_close(sock[i][0]) == 0 && weft_close(sock[i][1]) == 0);
    for (int i = 0; i < CHANS; i++)
        weft_chan_unref(chans[i]);
    weft_chan_unref(quit);
    weft_chan_unref(done);
    return 0;
}

int main(void)
{
    int64_t end = weft_now() + (int64_t)(stress_seconds() * 1e9);
    int rounds = 0;
    do {
        weft_config_t cfg = {.stack = test_stack(), .procs = 1 + rounds % 4};
        int foreign = rounds % 3 == 2 ? FOREIGN : 0;
        memset((void *)seen, 0, sizeof seen);
        atomic_store(&taken, 0);
        OK(weft_run_with(&cfg, round_main, &foreign) == 0);
        rounds++;
    } while (weft_now() < end);
    printf("stress_select_fd: %d rounds, %u cancelled, %u other waits, %u late for a packet, "
           "%u deadlines\n",
           rounds, atomic_load(&cancelled), atomic_load(&others), atomic_load(&raced),
           atomic_load(&late));
    return 0;
}
