/* SPDX-License-Identifier: MIT
 *
 * cgroup.c: how many CPUs' worth of time the process may use.
 *
 * A container's limit is a quota per period in the cgroup file system: with
 * version 2 "cpu.max" holds both, with version 1 cpu.cfs_quota_us and
 * cpu.cfs_period_us one each. Every group on the way up has a say, so the
 * least counts. Where the groups are mounted is in mountinfo, where ours is in
 * /proc/self/cgroup; inside a container the mount may show only a subtree,
 * whose top ("root" in mountinfo) is then the beginning of our path.
 */
#include "sys/linux/linux.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    bool v2;
    char path[PATH_MAX]; /* of our group, in the hierarchy */
    char root[PATH_MAX]; /* the part of the hierarchy that is mounted... */
    char mnt[PATH_MAX];  /* ...and where */
} Cgroup;

/* Is `word` one of the comma-separated words of list? */
static bool cgroup_has_word(const char *list, const char *word)
{
    size_t n = strlen(word);

    for (const char *p = list; (p = strstr(p, word)) != NULL; p += n)
        if ((p == list || p[-1] == ',') && (p[n] == ',' || p[n] == '\0'))
            return true;
    return false;
}

static FILE *cgroup_open(const char *root, const char *path, const char *file)
{
    char name[3 * PATH_MAX];

    snprintf(name, sizeof(name), "%s%s%s", root, path, file);
    return fopen(name, "re");
}

/* Lines are "id:controllers:path"; version 2 has no controllers. A version 1
 * hierarchy with the cpu controller goes first: then version 2 has none. */
static bool cgroup_find_path(const char *root, Cgroup *cg)
{
    char *line = NULL;
    size_t cap = 0;
    bool found = false;
    FILE *f = cgroup_open(root, "/proc/self/cgroup", "");

    if (f == NULL)
        return false;
    while (getline(&line, &cap, f) > 0) {
        line[strcspn(line, "\n")] = '\0';
        char *ctl = strchr(line, ':');
        char *path = ctl != NULL ? strchr(ctl + 1, ':') : NULL;
        if (path == NULL)
            continue;
        *path++ = '\0';
        ctl++;
        bool v1 = cgroup_has_word(ctl, "cpu");
        if (!v1 && (*ctl != '\0' || found))
            continue;
        cg->v2 = !v1;
        snprintf(cg->path, sizeof(cg->path), "%s", path);
        found = true;
        if (v1)
            break;
    }
    free(line);
    fclose(f);
    return found;
}

/* mountinfo writes blanks and backslashes as three octal digits. */
static void cgroup_unescape(char *s)
{
    char *out = s;

    for (; *s != '\0'; s++) {
        if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' &&
            s[3] >= '0' && s[3] <= '7') {
            *out++ = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
            s += 3;
        } else {
            *out++ = *s;
        }
    }
    *out = '\0';
}

/* "id parent dev ROOT MOUNTPOINT options [tags] - TYPE source SUPEROPTIONS" */
static bool cgroup_parse_mount(char *line, Cgroup *cg)
{
    char type[64], super[1024];
    char *rest = strstr(line, " - ");

    if (rest == NULL || sscanf(rest, " - %63s %*s %1023s", type, super) != 2)
        return false;
    if (strcmp(type, cg->v2 ? "cgroup2" : "cgroup") != 0 ||
        (!cg->v2 && !cgroup_has_word(super, "cpu")))
        return false;
    *rest = '\0';
    char *save, *field = strtok_r(line, " ", &save);
    for (int i = 0; field != NULL && i < 5; i++) {
        char *to = i == 3 ? cg->root : i == 4 ? cg->mnt : NULL;
        if (to != NULL) {
            snprintf(to, PATH_MAX, "%s", field);
            cgroup_unescape(to);
        }
        field = strtok_r(NULL, " ", &save);
    }
    return cg->mnt[0] != '\0';
}

static bool cgroup_find_mount(const char *root, Cgroup *cg)
{
    char *line = NULL;
    size_t cap = 0;
    bool found = false;
    FILE *f = cgroup_open(root, "/proc/self/mountinfo", "");

    if (f == NULL)
        return false;
    while (!found && getline(&line, &cap, f) > 0)
        found = cgroup_parse_mount(line, cg);
    free(line);
    fclose(f);
    return found;
}

/* The limit of one group: quota / period rounded up; 0: none. */
static int cgroup_limit_of(const char *root, const char *dir, bool v2)
{
    long long quota = -1, period = 0;
    FILE *f = cgroup_open(root, dir, v2 ? "/cpu.max" : "/cpu.cfs_quota_us");

    if (f == NULL)
        return 0;
    if (v2) { /* "max 100000" fails at the first number */
        if (fscanf(f, "%lld %lld", &quota, &period) != 2)
            quota = -1;
        fclose(f);
    } else {
        if (fscanf(f, "%lld", &quota) != 1)
            quota = -1;
        fclose(f);
        f = cgroup_open(root, dir, "/cpu.cfs_period_us");
        if (f == NULL)
            return 0;
        if (fscanf(f, "%lld", &period) != 1)
            period = 0;
        fclose(f);
    }
    if (quota <= 0 || period <= 0)
        return 0;
    long long n = quota / period + (quota % period != 0);
    return n > INT_MAX ? 0 : (int)n;
}

int cgroup_cpu_limit(const char *root)
{
    Cgroup *cg = calloc(1, sizeof(*cg)); /* too big for a small stack */
    char *dir = malloc(2 * PATH_MAX);
    int limit = 0;

    if (cg == NULL || dir == NULL || !cgroup_find_path(root, cg) || !cgroup_find_mount(root, cg))
        goto out;
    const char *below = cg->path;
    size_t n = strlen(cg->root);
    if (n > 1 && strncmp(below, cg->root, n) == 0 && (below[n] == '/' || below[n] == '\0'))
        below += n;
    snprintf(dir, 2 * PATH_MAX, "%s%s", cg->mnt, strcmp(below, "/") == 0 ? "" : below);
    for (size_t top = strlen(cg->mnt); strlen(dir) >= top;) {
        int l = cgroup_limit_of(root, dir, cg->v2);
        if (l > 0 && (limit == 0 || l < limit))
            limit = l;
        char *slash = strrchr(dir, '/');
        if (slash == NULL)
            break;
        *slash = '\0';
    }
out:
    free(dir);
    free(cg);
    return limit;
}
