/* SPDX-License-Identifier: MIT
 *
 * after.c: weft_after(), a channel that delivers the time once it has come.
 *
 * One block: a channel with room for one element, and behind it its timer. As long as the timer is armed
 * (c->timed) it has one of the channel's references. When all others are gone nobody can receive any more:
 * who drops the last of them stops the timer and frees both (refs.h has the idea; here the channel's lock
 * makes it one step). So a timeout that was not needed costs nothing once its channel is dropped, as in
 * Go since 1.23.
 *
 * Who takes the timer out of its heap has its reference: after_stop(), the firing, or the end of the run.
 * Each of them happens once, and c->timed is lowered with the reference.
 *
 * Lock order: the channel's, then a heap's, in after_stop(). A firing holds no heap's lock (timer.c).
 */
#include "chan.h"

enum { TIMER_AT = 16 }; /* behind the one element, in buf */
_Static_assert(TIMER_AT >= sizeof(int64_t) && TIMER_AT % _Alignof(Timer) == 0, "room, aligned");

static Timer *after_timer(weft_chan_t *c)
{
    return (Timer *)(void *)(c->buf + TIMER_AT);
}

bool after_stop(M *m, weft_chan_t *c)
{
    assert_held(&c->lock);
    if (!timer_del(m, &after_timer(c)->head))
        return false;
    c->timed = false;
    c->refs--;
    return true;
}

/* The timer's reference goes, and with it perhaps the channel. Locked; unlocks. */
static void after_give_up(weft_chan_t *c)
{
    c->timed = false;
    bool last = --c->refs == 0;
    lock_release(&c->lock);
    if (last)
        rt_free(c);
}

/* The time has come. What somebody has put into the channel, or a close, stays. */
static void after_fire(M *m, Timer *copy)
{
    weft_chan_t *c = copy->arg;
    int64_t now[2] = {
        sys_now()}; /* the compiler does not know that elements have 8 bytes, not 16 */
    G *peer = NULL;
    lock_acquire(m, &c->lock, RANK_CHAN);
    (void)chan_send_now(c, now, &peer);
    after_give_up(c);
    if (peer != NULL)
        sched_ready_tail(m, peer); /* in the order of deadlines */
}

/* The run has ended before. */
static void after_end(void *arg)
{
    weft_chan_t *c = arg;
    lock_acquire(NULL, &c->lock, RANK_CHAN);
    after_give_up(c);
}

static int after_arm(M *m, weft_chan_t *c, int64_t when)
{
    Timer *t = after_timer(c);
    memset((void *)t, 0, sizeof *t);
    t->head.fire = after_fire;
    t->fn = after_end;
    t->arg = c;
    c->timed = true; /* it may fire as soon as it is in a heap */
    c->refs++;
    return timer_add(m, &t->head, when);
}

static weft_chan_t *after_make(M *m, int64_t ns)
{
    weft_chan_t *c = chan_new(sizeof(int64_t), 1, TIMER_AT + sizeof(Timer));
    int64_t when, now[2] = {sys_now()};
    if (c == NULL)
        return NULL;
    if (ns <= 0) {
        chan_buf_put(c, now);
        set(&c->count, 1);
        return c;
    }
    if (__builtin_add_overflow(now[0], ns, &when))
        when = INT64_MAX;
    if (after_arm(m, c, when) < 0) {
        rt_free(c);
        return NULL;
    }
    return c;
}

weft_chan_t *weft_after(int64_t ns)
{
    M *m = rt_enter();
    if (unlikely(m == NULL))
        return NULL;
    weft_chan_t *c = get_acq(&sched.active) ? after_make(m, ns) : NULL;
    rt_leave(m);
    return c;
}
