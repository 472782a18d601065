/* SPDX-License-Identifier: MIT
 *
 * memory.c: address space, and guards in it.
 *
 * Guards come in two kinds. Linux 6.13 can mark page table entries as guards
 * (MADV_GUARD_INSTALL): no mapping is split, a million are as good as one, and
 * they stay over MADV_DONTNEED. Before, a guard is a PROT_NONE mapping: it
 * splits the one it lies in, so each costs two of the vm.max_map_count (65530)
 * that a process may have. Which one is tried once, by setting one.
 *
 * Memory is mapped readable and writable with MAP_NORESERVE. With
 * vm.overcommit_memory=2 the kernel counts it all the same, and with ulimit -v
 * it always does (ulimit -d: the same): sys_address_limit() tells how much there is to go round.
 */
#include "sys/sys.h"
#include "sys/linux/linux.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>
#ifdef WEFT_ASAN
#include <sanitizer/asan_interface.h>
#endif

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

enum { MAP_ARENA = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK };

/* Found out by sys_guard_kind(); written twice with the same value at worst, so
 * relaxed. */
static _Atomic int guard_kind = -1;
static _Atomic bool guard_plain; /* written before the first guard, relaxed */

size_t sys_page(void)
{
    static _Atomic size_t page; /* constant once found; racing writers agree */
    size_t size = atomic_load_explicit(&page, memory_order_relaxed);

    if (size == 0) {
        size = (size_t)sysconf(_SC_PAGESIZE);
        atomic_store_explicit(&page, size, memory_order_relaxed);
    }
    return size;
}

static void *memory_map(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_ARENA, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

/* The first try is often aligned already, since our own blocks lie side by
 * side; asking for more than needed can fail where the exact size does not. */
void *sys_reserve(size_t size, size_t align)
{
    int saved = errno;
    char *p = memory_map(size);

    if (p != NULL && ((uintptr_t)p & (align - 1)) != 0) {
        munmap(p, size);
        p = memory_map(size + align);
        if (p != NULL) {
            size_t head = (size_t)(-(uintptr_t)p & (align - 1));
            if (head > 0)
                munmap(p, head);
            munmap(p + head + size, align - head);
            p += head;
        }
    }
    if (p != NULL)
        madvise(p, size, MADV_NOHUGEPAGE); /* a kernel without huge pages says EINVAL */
#ifdef WEFT_ASAN
    if (p != NULL && size <= 1 << 20) /* a thread's stack may have lain there; of stacks stack.c takes care */
        __asan_unpoison_memory_region(p, size);
#endif
    errno = saved;
    return p;
}

void sys_release(void *p, size_t size)
{
    int saved = errno;

#ifdef WEFT_ASAN
    __asan_unpoison_memory_region(p, size); /* frames that were left there; the next owner has others */
#endif
    munmap(p, size);
    errno = saved;
}

void sys_decommit(void *p, size_t size)
{
    int saved = errno;

    madvise(p, size, MADV_DONTNEED);
    errno = saved;
}

int sys_discard(void *p, size_t size)
{
    int saved = errno, rc = 0;

    if (mmap(p, size, PROT_READ | PROT_WRITE, MAP_ARENA | MAP_FIXED, -1, 0) == MAP_FAILED)
        rc = -errno;
    else
        madvise(p, size, MADV_NOHUGEPAGE);
    errno = saved;
    return rc;
}

/* ---- limits --------------------------------------------------------------- */

/* The number after `name` in a small text file of the kernel's; -1: not there. */
static long long memory_read_number(const char *path, const char *name)
{
    char buf[4096], *at = buf;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return -1;
    ssize_t n = read(fd, buf, sizeof(buf) - 1);
    close(fd);
    if (n <= 0)
        return -1;
    buf[n] = '\0';
    if (name != NULL) {
        at = strstr(buf, name);
        if (at == NULL)
            return -1;
        at += strlen(name);
    }
    return strtoll(at, NULL, 10);
}

size_t sys_address_limit(void)
{
    struct rlimit rl;
    size_t limit = SIZE_MAX;
    int saved = errno;

    if (getrlimit(RLIMIT_AS, &rl) == 0 && rl.rlim_cur != RLIM_INFINITY)
        limit = (size_t)rl.rlim_cur;
    if (getrlimit(RLIMIT_DATA, &rl) == 0 && rl.rlim_cur < limit)
        limit = (size_t)rl.rlim_cur;
    if (memory_read_number("/proc/sys/vm/overcommit_memory", NULL) == 2) {
        long long total = memory_read_number("/proc/meminfo", "CommitLimit:");
        long long used = memory_read_number("/proc/meminfo", "Committed_AS:");
        if (total >= 0 && used >= 0) {
            size_t left = total > used ? (size_t)(total - used) * 1024 : 0;
            if (left < limit)
                limit = left;
        }
    }
    errno = saved;
    return limit;
}

/* ---- guards ---------------------------------------------------------------- */

static SysGuard guard_probe(void)
{
    size_t size = sys_page();
    void *p = memory_map(size);

    if (p == NULL)
        return SYS_GUARD_VMA;
    bool pte = madvise(p, size, MADV_GUARD_INSTALL) == 0;
    munmap(p, size);
    return pte ? SYS_GUARD_PTE : SYS_GUARD_VMA;
}

void sys_guard_plain(bool plain)
{
    atomic_store_explicit(&guard_plain, plain, memory_order_relaxed);
}

SysGuard sys_guard_kind(void)
{
    int kind = atomic_load_explicit(&guard_kind, memory_order_relaxed);

    if (atomic_load_explicit(&guard_plain, memory_order_relaxed))
        return SYS_GUARD_VMA;
    if (kind < 0) {
        int saved = errno;
        kind = (int)guard_probe();
        errno = saved;
        atomic_store_explicit(&guard_kind, kind, memory_order_relaxed);
    }
    return (SysGuard)kind;
}

/* 45 % of the mappings allowed, two each: the program needs some for itself. */
long sys_guard_max(void)
{
    if (sys_guard_kind() == SYS_GUARD_PTE)
        return INT64_MAX;
    long long maps = memory_read_number("/proc/sys/vm/max_map_count", NULL);
    return maps > 0 ? (long)(maps / 100 * 45) : 29488;
}

int sys_guard_set(void *p, size_t size)
{
    int saved = errno, rc;

    if (sys_guard_kind() == SYS_GUARD_PTE)
        rc = madvise(p, size, MADV_GUARD_INSTALL);
    else
        rc = mprotect(p, size, PROT_NONE);
    if (rc != 0)
        rc = -errno;
    errno = saved;
    return rc;
}

int sys_protect(void *p, size_t size, bool access)
{
    int saved = errno;
    int rc = mprotect(p, size, access ? PROT_READ | PROT_WRITE : PROT_NONE) != 0 ? -errno : 0;

    errno = saved;
    return rc;
}

int sys_guard_clear(void *p, size_t size)
{
    int saved = errno, rc;

    if (sys_guard_kind() == SYS_GUARD_PTE) {
        rc = madvise(p, size, MADV_GUARD_REMOVE);
    } else {
        madvise(p, size, MADV_DONTNEED);
        rc = mprotect(p, size, PROT_READ | PROT_WRITE);
    }
    if (rc != 0)
        rc = -errno;
    errno = saved;
    return rc;
}
