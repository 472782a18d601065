/* SPDX-License-Identifier: MIT
 *
 * sys.h: what the runtime asks of an operating system.
 *
 * Nothing here knows a coroutine. Every function is thread-safe; those marked
 * (s) may be called from a signal handler. Failures are -errno values. Times
 * are nanoseconds on sys_now()'s clock. HACKING.md, "What a port owes", has the
 * reasons; one .c file per section in sys/<os>/ or sys/posix/.
 */
#ifndef WEFT_SYS_H
#define WEFT_SYS_H

#include "config.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* ---- clock.c ---- */
int64_t sys_now(void);               /* (s) monotonic */
void sys_sleep_until(int64_t when);  /* blocks the thread, never early */
void sys_timer_slack(bool precise);  /* calling thread: wake as close to a timeout as can be; false: the default again */

/* ---- thread.c ---- */
typedef struct {
    pthread_t pt;
} SysThread;
/* Start fn(arg) with all signals blocked except synchronous ones, on a stack of
 * a fixed modest size. -EAGAIN, -ENOMEM. */
int sys_thread_create(SysThread *t, void (*fn)(void *), void *arg);
void sys_thread_join(SysThread *t);
void sys_thread_name(const char *name); /* the calling thread; 15 bytes are kept */
/* (s) A thread that sleeps is to wake up on the CPU of the caller, who goes to sleep at once. true: it must call
 * sys_thread_anywhere() then, with what was stored in *was. */
typedef struct {
    uint64_t cpus[16];
} SysCpus;
bool sys_thread_here(int tid, SysCpus *was);
void sys_thread_anywhere(const SysCpus *was);
void sys_thread_brief(void); /* the calling thread runs for some microseconds at a time: let it do so at once */
void sys_yield(void);
int sys_tid(void);
int64_t sys_task_cpu(int tid); /* CPU time that a thread of this process has used; -errno */
int sys_process_threads(void); /* threads of this process now; -errno when it cannot be told */
int sys_ncpu(void);            /* min(affinity mask, cgroup limit rounded up), >= 1 */
bool sys_membarrier_init(void); /* true: sys_membarrier() works */
void sys_membarrier(void);      /* every running thread of the process has passed a full barrier */
uint64_t sys_seed(void);

/* ---- park.c: the park word ---- */
/* Block while *word == val, until woken or the deadline (0: none) is past; may
 * return spuriously. 0 or -ETIMEDOUT. */
int sys_park(_Atomic uint32_t *word, uint32_t val, int64_t deadline);
void sys_unpark(_Atomic uint32_t *word, int n); /* wake n waiters (INT_MAX: all) */

/* ---- memory.c ---- */
size_t sys_page(void);
/* Address space, readable and writable, committed on touch, not backed by huge
 * pages; aligned to align (a power of two). NULL: none left. */
void *sys_reserve(size_t size, size_t align);
void sys_release(void *p, size_t size);
void sys_decommit(void *p, size_t size); /* give the pages back; they read as zero, guards stay */
int sys_discard(void *p, size_t size);   /* as fresh from sys_reserve: guards and page tables go too. -errno: unchanged */
size_t sys_address_limit(void);          /* most bytes the process may reserve; SIZE_MAX: no limit but the processor's */
typedef enum { SYS_GUARD_NONE, SYS_GUARD_PTE, SYS_GUARD_VMA } SysGuard;
SysGuard sys_guard_kind(void); /* what sys_guard_set uses: marked page table entries cost no VMA, PROT_NONE costs two */
long sys_guard_max(void);      /* how many guards may be set at a time */
void sys_guard_plain(bool plain); /* before the first guard: PROT_NONE even where the kernel has better */
int sys_guard_set(void *p, size_t size);   /* (s) accesses fault from now on; contents are lost. -errno */
int sys_guard_clear(void *p, size_t size); /* (s) accesses read zeros from now on */
int sys_protect(void *p, size_t size, bool access); /* no access, or again; contents stay. -errno */

/* ---- fault.c ---- */
/* Handle SIGSEGV and SIGBUS on the alternate stack: fn returns true when it has
 * mended the fault; false passes it to the handler that was there before, or
 * lets the process die by the signal. fn runs in signal context. */
typedef bool (*SysFaultFn)(void *addr, void *ucontext);
int sys_fault_install(SysFaultFn fn);
void sys_fault_remove(void); /* put back what was there before, unless someone replaced ours */
size_t sys_altstack_size(void);
int sys_altstack_set(void *mem, size_t size);  /* calling thread */
void sys_altstack_clear(void);                 /* calling thread */

/* ---- poller.c: readiness ---- */
typedef struct {
    uint64_t cookie; /* as given to sys_poller_add; UINT64_MAX and UINT64_MAX - 1 are not to be used */
    unsigned events; /* SYS_IN | SYS_OUT; errors and hang-ups set both. SYS_HUP besides: end of stream, error
                      * or urgent data (EPOLLRDHUP, HUP, ERR, PRI): a short read no longer means
                      * that nothing is left */
} SysEvent;
enum { SYS_IN = 1, SYS_OUT = 2, SYS_HUP = 4 };
int sys_poller_open(void); /* the one poller of the process. -EMFILE, -ENFILE, -ENOMEM */
void sys_poller_close(void);
/* Report edges of both directions of fd from now on. -EPERM: cannot be polled
 * (a regular file); -EEXIST; -EBADF, -ENOMEM, -ENOSPC. */
int sys_poller_add(int fd, uint64_t cookie);
int sys_poller_del(int fd);
/* Fill up to n events. timeout: < 0 wait for ever, 0 look only, else at most so
 * many nanoseconds (not rounded to milliseconds). A wake-up ends the wait with
 * 0 events. Number of events (EINTR counts as 0). One thread at a time waits;
 * any number may look. */
int sys_poller_wait(SysEvent *ev, int n, int64_t timeout);
void sys_poller_wake(void); /* (s) end a wait that is on or the next one; coalesced */

/* ---- tick.c: the signal that interrupts a thread ---- */
/* fn runs in signal context on the thread's alternate stack, with this signal blocked besides, when the
 * thread's tick is due (poked false) or after sys_tick_poke() and sys_tick_nudge() (true). It may be
 * called when there is no reason, also on a thread that has no tick: it is to look. What is not ours
 * goes to the handler that was there before. errno is saved around it. */
typedef void (*SysTickFn)(bool poked, void *ucontext);
typedef enum {
    SYS_TICK_TIMER, /* a timer on the thread's CPU clock: rounded up to the kernel's jiffy */
    SYS_TICK_PERF,  /* perf's software task-clock: microseconds; needs permission; only in user code */
} SysTickSource;
typedef struct {
    _Atomic int tid;      /* 0: not started, or stopped: every call does nothing */
    int pid;              /* a forked child has neither thread nor tick */
    int timer;            /* kernel's id; -1 */
    int fd;               /* perf's; -1 */
    _Atomic int nudge_fd; /* perf's, opened when first needed; -1 */
    uint32_t phase;
    _Atomic int64_t period;
    _Atomic bool soon; /* the timer was asked for a nudge */
    int64_t ticked;    /* CPU time of the last tick, where timers nudge */
    bool was_blocked; /* the thread's mask had the signal before */
} SysTick;
int sys_tick_install(int signo, SysTickFn fn); /* 0: SIGURG. -EINVAL: not a signal for this; -EBUSY */
void sys_tick_remove(void);                    /* put back what was there before, unless someone replaced ours */
void sys_tick_may_use_perf(bool may);          /* for nudges; true at first */
bool sys_tick_replaced(void);                  /* somebody else's handler is there now */
int sys_tick_signal(void);                     /* the signal's number */
/* The calling thread gets a tick each time it has used period ns of CPU time, never while it is
 * blocked. A timer's first comes after 0.5 to 1.5 periods, different for different numbers `phase`;
 * perf's after one. The signal is unblocked. period 0: silent. t: zero at first, and stays where it is
 * until it is stopped. -errno: no tick (-EACCES, -EPERM: perf is not allowed; -EAGAIN, -EMFILE), but pokes
 * work, and another source may be tried. */
int sys_tick_start(SysTick *t, SysTickSource source, int64_t period, uint32_t phase);
int sys_tick_period(SysTick *t, int64_t period); /* (s) change it; any thread; 0: silent */
/* The calling thread's; all that was on the way has been delivered. The signal is blocked again if it
 * was. No period, poke or nudge of t by another thread may be under way. */
void sys_tick_stop(SysTick *t);
void sys_tick_poke(const SysTick *t); /* (s) interrupt that thread now, blocked in the kernel or not */
/* Interrupt that thread as soon as it executes code of its program: no call to the kernel is cut short.
 * Slower than a poke. Needs perf; without it (-EACCES, -EPERM, ...) or with too many threads that have
 * been nudged (-EMFILE) the thread's timer does it, some milliseconds later. */
int sys_tick_nudge(SysTick *t);
/* (s) fn is called on t's thread: whatever was on the way has arrived, or has merged with what did: signals
 * of one number do. True: take this tick for a nudge. Before fn looks: a later nudge is a new one. */
bool sys_tick_seen(SysTick *t);
bool sys_tick_no_nudge(SysTick *t); /* free what nudges of that thread need, until the next. false: nothing */
bool sys_tick_block(bool on); /* (s) calling thread: block or unblock the signal. What it was */

/* ---- taskstate.c ---- */
/* Is the thread running or ready to (1), or blocked in the kernel (0)? -errno: cannot be told. */
int sys_task_runs(int tid);
/* Where a thread that is blocked will go on, and its stack pointer (sp may be NULL); 0: it is not, or that cannot be
 * told */
uintptr_t sys_task_pc(int tid, uintptr_t *sp);

/* ---- share.c: memory that other programs of the user may read ---- */
typedef struct {
    void *mem;
    size_t size;
    char path[256];
} SysShare;
/* A new file of that size, zeros, mode 0600, its memory reserved: weft.<pid> in the first of /dev/shm,
 * $XDG_RUNTIME_DIR and /tmp that takes it. What an earlier process of the same number and
 * user has left is removed. One at a time. -errno */
int sys_share_make(SysShare *s, size_t size);
void sys_share_end(SysShare *s);
void sys_share_drop(void); /* (s) the process ends: remove the file; exit() does it by itself */
uint64_t sys_process_began(void); /* tells this process from others with its number; 0: cannot be told */

/* ---- fork.c ---- */
/* Around every fork() of the process: in the thread that calls it, and in the child */
int sys_atfork(void (*before)(void), void (*parent)(void), void (*child)(void));

/* ---- sendfile.c ---- */
/* As sendfile(2), but -errno, and never SIGPIPE */
ssize_t sys_sendfile(int out, int in, off_t *at, size_t len);

/* ---- child.c ---- */
/* A descriptor, close-on-exec, that reports SYS_IN once the process has ended; -errno: there is no such thing */
int sys_child_open(pid_t pid);

/* ---- signals.c: the program's own signals ---- */
enum { SYS_SIGNALS = 64 }; /* the highest that can be watched */
/* fn is called in signal context, on the alternate stack if the thread has one. True: that was all; false: on
 * to the handler that was there before. errno is saved around it. */
typedef bool (*SysSignalFn)(int signo);
int sys_signal_watch(int signo, SysSignalFn fn); /* -EINVAL: not that one. fn is the same at each call */
void sys_signal_unwatch(int signo); /* put back what was there before, unless someone replaced ours. (s) */
/* One bell: ringing makes its descriptor readable, hushing unreadable again; what was done before a ring is
 * seen after the hush that follows. */
int sys_bell_open(void); /* the descriptor, non-blocking; -EMFILE, -ENFILE */
void sys_bell_close(void);
void sys_bell_ring(void); /* (s) */
int sys_bell_hush(void);  /* 0: it had rung; -EAGAIN */

#endif
