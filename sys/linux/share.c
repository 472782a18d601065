/* SPDX-License-Identifier: MIT
 *
 * share.c: a file in memory that other programs of the same user may read.
 *
 * Its name can be foreseen, and the directory may be anybody's. So it is always created anew
 * (O_EXCL, O_NOFOLLOW): what is there is removed if it is a plain file of our user's, which
 * an earlier process of our number has left, and otherwise the next directory is tried. Its memory
 * is reserved before it is mapped: a write to a full file system would be a SIGBUS. A forked
 * child does not have the mapping, and leaves the file alone.
 */
#include "sys/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* What exit() is to remove; written by sys_share_make() and sys_share_end(), one at a time, pid last and
 * first: release, pairs with the acquire in sys_share_drop(). */
static struct {
    _Atomic int pid;
    char path[sizeof(((SysShare *)0)->path)];
} share_left;

/* Also when the library is unloaded. */
static __attribute__((destructor)) void share_at_exit(void)
{
    sys_share_drop();
}

void sys_share_drop(void)
{
    int pid = atomic_load_explicit(&share_left.pid, memory_order_acquire);

    if (pid != 0 && pid == getpid())
        unlink(share_left.path);
}

/* An earlier process's: true if it is gone. */
static bool share_remove_stale(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() &&
           unlink(path) == 0;
}

static int share_create(const char *path)
{
    enum { FLAGS = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC };
    int fd = open(path, FLAGS, 0600);

    if (fd < 0 && errno == EEXIST && share_remove_stale(path))
        fd = open(path, FLAGS, 0600);
    return fd < 0 ? -errno : fd;
}

static int share_map(SysShare *s, int fd)
{
    int rc = -posix_fallocate(fd, 0, (off_t)s->size);

    if (rc == 0 && fchmod(fd, 0600) != 0) /* whatever the umask left of it */
        rc = -errno;
    if (rc != 0)
        return rc;
    s->mem = mmap(NULL, s->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (s->mem == MAP_FAILED)
        return -errno;
    madvise(s->mem, s->size, MADV_DONTFORK);
    return 0;
}

static int share_make_in(SysShare *s, const char *dir)
{
    int n = snprintf(s->path, sizeof(s->path), "%s/weft.%d", dir, (int)getpid());

    if (n < 0 || (size_t)n >= sizeof(s->path) || s->path[0] != '/')
        return -ENAMETOOLONG;
    int fd = share_create(s->path);
    if (fd < 0)
        return fd;
    int rc = share_map(s, fd);
    close(fd);
    if (rc != 0)
        unlink(s->path);
    return rc;
}

int sys_share_make(SysShare *s, size_t size)
{
    const char *const dirs[] = {"/dev/shm", secure_getenv("XDG_RUNTIME_DIR"), "/tmp"};
    int saved = errno, rc = -ENOENT;

    s->size = size;
    for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]) && rc != 0; i++)
        if (dirs[i] != NULL && *dirs[i] != '\0')
            rc = share_make_in(s, dirs[i]);
    if (rc == 0) {
        memcpy(share_left.path, s->path, sizeof(s->path));
        atomic_store_explicit(&share_left.pid, (int)getpid(), memory_order_release);
    }
    errno = saved;
    return rc;
}

void sys_share_end(SysShare *s)
{
    int saved = errno;

    atomic_store_explicit(&share_left.pid, 0, memory_order_release);
    unlink(s->path);
    munmap(s->mem, s->size);
    errno = saved;
}

/* The 22nd number of /proc/self/stat: clock ticks from the machine's start to the process's. The second is a
 * name in parentheses, which may have anything in it. */
uint64_t sys_process_began(void)
{
    char buf[1024];
    int saved = errno;
    int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof(buf) - 1);

    if (fd >= 0)
        close(fd);
    errno = saved;
    buf[n < 0 ? 0 : n] = '\0';
    char *p = strrchr(buf, ')');
    for (int field = 2; p != NULL && field < 22; field++)
        p = strchr(p + 1, ' ');
    return p != NULL ? strtoull(p + 1, NULL, 10) : 0;
}
