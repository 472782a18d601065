/* SPDX-License-Identifier: MIT
 *
 * task.c: what Linux alone knows of threads: ids, names, counts, timer slack,
 * barriers across threads, processors.
 */
#include "sys/sys.h"
#include "sys/linux/linux.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

void sys_timer_slack(bool precise)
{
    int saved = errno;

    prctl(PR_SET_TIMERSLACK, precise ? 1UL : 0UL, 0, 0, 0); /* 1 ns; 0: the thread's default */
    errno = saved;
}

void sys_thread_name(const char *name)
{
    char buf[16] = "";

    strncpy(buf, name, sizeof(buf) - 1);
    pthread_setname_np(pthread_self(), buf);
}

/* A short slice gives a thread an early deadline, so it need not wait for the end of
 * another's when it wakes up (EEVDF; Linux 6.12, ignored before). That is not enough
 * for one that has run a moment ago: it is owed nothing then, and may wait for the next
 * jiffy (p99 of a wake-up 2.7 ms instead of 0.6). More weight helps; it takes
 * CAP_SYS_NICE or RLIMIT_NICE. */
void sys_thread_brief(void)
{
    enum { SHORTEST = 100000, NICE = -10 };
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } attr = {.size = sizeof attr};
    int saved = errno;

    if (syscall(SYS_sched_getattr, 0, &attr, sizeof attr, 0) == 0 && attr.policy == SCHED_OTHER) {
        int32_t nice = attr.nice;
        attr.runtime = SHORTEST;
        attr.nice = nice < NICE ? nice : NICE;
        if (syscall(SYS_sched_setattr, 0, &attr, 0) != 0) {
            attr.nice = nice;
            syscall(SYS_sched_setattr, 0, &attr, 0);
        }
    }
    errno = saved;
}

/* A futex wake-up does not say that the waker is about to sleep, so the kernel looks for an idle CPU, which takes 50 us
 * to come out of its sleep in a virtual machine, or puts the thread behind another on a busy one, where it waits
 * for the next jiffy. */
bool sys_thread_here(int tid, SysCpus *was)
{
    unsigned cpu;
    SysCpus here = {{0}};
    if (syscall(SYS_getcpu, &cpu, NULL, NULL) != 0 || cpu >= 64 * 16)
        return false;
    here.cpus[cpu / 64] = (uint64_t)1 << cpu % 64;
    memset(was, 0, sizeof *was);
    return syscall(SYS_sched_getaffinity, tid, sizeof *was, was) > 0 &&
           (was->cpus[cpu / 64] & here.cpus[cpu / 64]) != 0 &&
           syscall(SYS_sched_setaffinity, tid, sizeof here, &here) == 0;
}

void sys_thread_anywhere(const SysCpus *was)
{
    syscall(SYS_sched_setaffinity, 0, sizeof *was, was);
}

int sys_tid(void)
{
    return (int)syscall(SYS_gettid);
}

/* The clock of a thread by its number: what pthread_getcpuclockid() makes of it. */
int64_t sys_task_cpu(int tid)
{
    enum { PER_THREAD = 4, SCHED = 2 };
    struct timespec ts;
    int saved = errno;
    int64_t rc = 0;

    if (clock_gettime((clockid_t)(~(unsigned)tid << 3 | PER_THREAD | SCHED), &ts) != 0)
        rc = -errno;
    errno = saved;
    return rc != 0 ? rc : (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* The 20th field of /proc/self/stat. The second is the program's name in
 * parentheses and may hold anything, so count from the last ')'. */
int sys_process_threads(void)
{
    char buf[1024];
    int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    ssize_t n = read(fd, buf, sizeof(buf) - 1);
    close(fd);
    if (n <= 0)
        return -EIO;
    buf[n] = '\0';
    const char *at = strrchr(buf, ')');
    for (int field = 2; at != NULL && field < 20; field++) {
        at = strchr(at, ' ');
        if (at != NULL)
            at++;
    }
    return at != NULL ? atoi(at) : -EIO;
}

/* CPUs this process may run on. The kernel's mask may be longer than cpu_set_t. */
static int task_affinity(void)
{
    for (unsigned max = 1024; max <= 1 << 16; max *= 4) {
        size_t size = CPU_ALLOC_SIZE(max);
        cpu_set_t *set = CPU_ALLOC(max);
        if (set == NULL)
            break;
        int rc = sched_getaffinity(0, size, set);
        int n = rc == 0 ? CPU_COUNT_S(size, set) : 0;
        CPU_FREE(set);
        if (n > 0)
            return n;
        if (errno != EINVAL)
            break;
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (int)online : 1;
}

int sys_ncpu(void)
{
    int saved = errno, n = task_affinity(), limit = cgroup_cpu_limit("");

    errno = saved;
    return limit > 0 && limit < n ? limit : n;
}

static long task_membarrier(int cmd)
{
    return syscall(SYS_membarrier, cmd, 0, 0);
}

bool sys_membarrier_init(void)
{
    int saved = errno;
    bool ok = task_membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0;

    errno = saved;
    return ok;
}

void sys_membarrier(void)
{
    int saved = errno;

    /* Before Linux 4.14: every CPU has drained its store buffer, and most likely
     * taken an interrupt, long before 10 ms are over. */
    if (task_membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) != 0)
        usleep(10000);
    errno = saved;
}

uint64_t sys_seed(void)
{
    uint64_t seed;
    int saved = errno;

    if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != (ssize_t)sizeof(seed))
        seed = (uint64_t)sys_now() * 0x9E3779B97F4A7C15u ^ (uint64_t)(uintptr_t)&seed;
    errno = saved;
    return seed | 1; /* never 0: the generators it starts would stay there */
}
