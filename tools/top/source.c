/* SPDX-License-Identifier: MIT
 *
 * source.c: the page of a program: found, trusted, read.
 *
 * It is read by pread(), never mapped: a file that gets shorter would be a SIGBUS. A page is believed if
 * its file belongs to us or to the owner of the process, and it names this process by number and
 * start: what a dead one has left is told from it.
 */
#include "top.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { DIRS = 3, TRIES = 100 };

static const char *dir_name(int i)
{
    const char *const dirs[DIRS] = {"/dev/shm", getenv("XDG_RUNTIME_DIR"), "/tmp"};
    return dirs[i] != NULL && dirs[i][0] == '/' ? dirs[i] : NULL;
}

/* Field 22 of /proc/<pid>/stat, and the name in parentheses. 0: there is no such process. */
static uint64_t process_started(int pid, char *command)
{
    char path[64], buf[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof buf - 1);
    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return 0;
    buf[n] = '\0';
    char *open_at = strchr(buf, '('), *p = strrchr(buf, ')');
    if (command != NULL && open_at != NULL && p != NULL && p > open_at)
        snprintf(command, PAGE_NAME, "%.*s", (int)(p - open_at - 1), open_at + 1);
    if (p != NULL && (p[2] == 'Z' || p[2] == 'X')) /* nobody has waited for it yet */
        return 0;
    for (int field = 2; p != NULL && field < 22; field++)
        p = strchr(p + 1, ' ');
    return p != NULL ? strtoull(p + 1, NULL, 10) : 0;
}

static bool read_at(int fd, void *to, size_t n, size_t at)
{
    return pread(fd, to, n, (off_t)at) == (ssize_t)n;
}

static void printable(char *s, size_t size)
{
    s[size - 1] = '\0';
    for (; *s != '\0'; s++)
        if ((unsigned char)*s < ' ' || *s == 0x7f)
            *s = '?';
}

enum Found { FOUND, FOUND_NONE, FOUND_STALE, FOUND_REFUSED, FOUND_VERSION };

static bool owner_is_right(int fd, int pid)
{
    char path[64];
    struct stat file, process;
    snprintf(path, sizeof path, "/proc/%d", pid);
    return fstat(fd, &file) == 0 && S_ISREG(file.st_mode) &&
           (file.st_uid == geteuid() ||
            (stat(path, &process) == 0 && process.st_uid == file.st_uid));
}

/* The page in an open file is that of the process. */
static enum Found examine(int fd, int pid, uint64_t started)
{
    Page head;
    size_t n = offsetof(Page, seq);
    if (!owner_is_right(fd, pid))
        return FOUND_REFUSED;
    if (!read_at(fd, &head, n, 0) || memcmp(head.magic, PAGE_MAGIC, sizeof head.magic) != 0)
        return FOUND_NONE;
    if (head.version != PAGE_VERSION || head.size != sizeof head)
        return FOUND_VERSION;
    return head.pid == (uint64_t)pid && head.started == started ? FOUND : FOUND_STALE;
}

static enum Found find(int pid, uint64_t started, int *fd, char *path, size_t size)
{
    enum Found worst = FOUND_NONE;
    for (int i = 0; i < DIRS; i++) {
        if (dir_name(i) == NULL)
            continue;
        snprintf(path, size, "%s/weft.%d", dir_name(i), pid);
        *fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (*fd < 0 && errno == EACCES)
            return FOUND_REFUSED;
        if (*fd < 0)
            continue;
        enum Found f = examine(*fd, pid, started);
        if (f == FOUND || f == FOUND_VERSION || f == FOUND_REFUSED)
            return f;
        close(*fd);
        worst = f == FOUND_STALE ? f : worst;
    }
    return worst;
}

bool source_open(Source *s, int pid)
{
    char path[512];
    *s = (Source){.fd = -1, .pid = pid};
    s->started = process_started(pid, s->command);
    if (s->started == 0) {
        fprintf(stderr, "weft-top: there is no process %d\n", pid);
        return false;
    }
    printable(s->command, sizeof s->command);
    switch (find(pid, s->started, &s->fd, path, sizeof path)) {
    case FOUND:
        return true;
    case FOUND_REFUSED:
        fprintf(stderr, "weft-top: %s belongs to another user\n", path);
        return false;
    case FOUND_VERSION:
        fprintf(stderr, "weft-top: %s was written by another version of libweft\n", path);
        return false;
    default:
        fprintf(stderr,
                "weft-top: process %d (%s) publishes no page: start it with WEFT_DEBUG=top\n", pid,
                s->command);
        return false;
    }
}

/* ---- which process? ---- */

static int pid_of_file(const char *name)
{
    char *end;
    if (strncmp(name, "weft.", 5) != 0 || !isdigit((unsigned char)name[5]))
        return 0;
    long pid = strtol(name + 5, &end, 10);
    return *end == '\0' && pid > 0 && pid <= INT32_MAX ? (int)pid : 0;
}

static bool is_live(int pid)
{
    char path[512];
    int fd = -1;
    uint64_t started = process_started(pid, NULL);
    if (started == 0 || find(pid, started, &fd, path, sizeof path) != FOUND)
        return false;
    close(fd);
    return true;
}

/* Those of one directory that are not in the list yet. */
static int list_dir(const char *dir, int *pids, int n, int max)
{
    DIR *d = dir != NULL ? opendir(dir) : NULL;
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL && n < max;) {
        int pid = pid_of_file(e->d_name), i = 0;
        while (i < n && pids[i] != pid)
            i++;
        if (pid != 0 && i == n && is_live(pid))
            pids[n++] = pid;
    }
    if (d != NULL)
        closedir(d);
    return n;
}

int source_only(void)
{
    enum { MOST = 64 };
    int pids[MOST], n = 0;
    for (int i = 0; i < DIRS; i++)
        n = list_dir(dir_name(i), pids, n, MOST);
    if (n == 1)
        return pids[0];
    if (n == 0) {
        fprintf(stderr, "weft-top: no program publishes a page: start one with WEFT_DEBUG=top\n");
        return 0;
    }
    fprintf(stderr, "weft-top: which one?\n");
    for (int i = 0; i < n; i++) {
        char command[PAGE_NAME] = "";
        process_started(pids[i], command);
        printable(command, sizeof command);
        fprintf(stderr, "  weft-top %d    (%s)\n", pids[i], command);
    }
    return 0;
}

/* ---- reading ---- */

static uint32_t at_most(uint32_t n, uint32_t most)
{
    return n < most ? n : most;
}

static void sanitize(PageBody *b)
{
    b->ncounters = at_most(b->ncounters, PAGE_COUNTERS);
    b->nstates = at_most(b->nstates, PAGE_STATES);
    b->nwaits = at_most(b->nwaits, PAGE_WAITS);
    b->nprocs = at_most(b->nprocs, PAGE_PROCS);
    b->nnames = at_most(b->nnames, PAGE_NAMES);
    for (uint32_t i = 0; i < b->ncounters; i++)
        printable(b->counter[i].name, PAGE_NAME);
    for (uint32_t i = 0; i < b->nstates; i++)
        printable(b->state[i].name, PAGE_NAME);
    for (uint32_t i = 0; i < b->nwaits; i++)
        printable(b->wait[i].name, PAGE_NAME);
    for (uint32_t i = 0; i < b->nprocs; i++)
        printable(b->proc[i].name, PAGE_NAME);
    for (uint32_t i = 0; i < b->nnames; i++)
        printable(b->name[i].name, PAGE_NAME);
}

/* The body between two looks at seq. */
static bool read_body(int fd, PageBody *b)
{
    uint32_t before, after;
    return read_at(fd, &before, sizeof before, offsetof(Page, seq)) && before % 2 == 0 &&
           read_at(fd, b, sizeof *b, offsetof(Page, body)) &&
           read_at(fd, &after, sizeof after, offsetof(Page, seq)) && before == after;
}

enum SourceState source_read(Source *s, PageBody *b)
{
    bool gone = process_started(s->pid, NULL) != s->started; /* asked first: it may end meanwhile */
    for (int i = 0; i < TRIES; i++) {
        if (read_body(s->fd, b)) {
            sanitize(b);
            return b->ended != 0 ? SOURCE_ENDED : gone ? SOURCE_GONE : SOURCE_OK;
        }
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    return gone ? SOURCE_GONE : SOURCE_STUCK;
}

void source_say(const Source *s, enum SourceState state)
{
    static const char *const what[] = {
        [SOURCE_OK] = "runs",
        [SOURCE_ENDED] = "has ended its run",
        [SOURCE_GONE] = "is gone",
        [SOURCE_STUCK] = "was stopped in the middle of a refresh",
    };
    fprintf(stderr, "weft-top: process %d (%s) %s\n", s->pid, s->command, what[state]);
}
