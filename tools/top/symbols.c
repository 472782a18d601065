/* SPDX-License-Identifier: MIT
 *
 * symbols.c: an address in the program as the name of a function: where its file is mapped is in /proc/<pid>/maps, the
 * name in the file's symbols. Names that were found are kept: there are few.
 *
 * The file is another user's, perhaps: it is read, not mapped, and no offset in it is believed before it is seen to
 * lie within.
 */
#include "top.h"

#include <elf.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { KEEP = 256, FILE_MOST = 256 << 20 };

typedef struct {
    char path[512];
    uint64_t base; /* where the file's beginning is mapped */
} Mapping;

/* Mappings of a file come one after the other, its beginning first. */
static bool find_mapping(int pid, uint64_t address, Mapping *m)
{
    char name[64], line[1024], path[sizeof m->path];
    bool found = false;
    snprintf(name, sizeof name, "/proc/%d/maps", pid);
    FILE *f = fopen(name, "re");
    m->path[0] = '\0';
    while (f != NULL && !found && fgets(line, sizeof line, f) != NULL) {
        uint64_t from, to, offset;
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64 " %*s %*s %511[^\n]", &from, &to,
                   &offset, path) != 4)
            continue;
        if (offset == 0 && strcmp(path, m->path) != 0) {
            m->base = from;
            memcpy(m->path, path, sizeof path);
        }
        found = address >= from && address < to && strcmp(path, m->path) == 0;
    }
    if (f != NULL)
        fclose(f);
    return found;
}

typedef struct {
    unsigned char *data;
    size_t size;
} File;

static bool file_read(const char *path, File *f)
{
    struct stat st;
    size_t n = 0;
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    f->data = NULL;
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 &&
        st.st_size <= FILE_MOST)
        f->data = malloc((size_t)st.st_size);
    while (f->data != NULL && n < (size_t)st.st_size) {
        ssize_t got = read(fd, f->data + n, (size_t)st.st_size - n);
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    if (fd >= 0)
        close(fd);
    f->size = n;
    return f->data != NULL;
}

/* n records of `size` bytes lie at `at`; a copy of record i. */
static bool file_get(const File *f, uint64_t at, uint64_t i, size_t size, void *to)
{
    if (i > f->size / size || at > f->size - i * size || f->size - i * size - at < size)
        return false;
    memcpy(to, f->data + at + i * size, size);
    return true;
}

/* The name of the function that covers address, from one table of symbols. */
static bool search_table(const File *f, const Elf64_Shdr *table, const Elf64_Shdr *strings,
                         uint64_t address, char *to, size_t size)
{
    for (uint64_t i = 0; i < table->sh_size / sizeof(Elf64_Sym); i++) {
        Elf64_Sym sym;
        if (!file_get(f, table->sh_offset, i, sizeof sym, &sym))
            return false;
        if (ELF64_ST_TYPE(sym.st_info) != STT_FUNC || sym.st_shndx == SHN_UNDEF ||
            address < sym.st_value ||
            address >= sym.st_value + (sym.st_size != 0 ? sym.st_size : 1))
            continue;
        uint64_t at = strings->sh_offset + sym.st_name;
        if (at < f->size && memchr(f->data + at, 0, f->size - at) != NULL) {
            snprintf(to, size, "%s", (const char *)f->data + at);
            return true;
        }
    }
    return false;
}

/* .symtab, which has static functions, and if that was stripped .dynsym. */
static bool search_file(const File *f, uint64_t address, uint64_t base, char *to, size_t size)
{
    static const uint32_t types[] = {SHT_SYMTAB, SHT_DYNSYM};
    Elf64_Ehdr head;
    if (!file_get(f, 0, 0, sizeof head, &head) || memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 ||
        head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_shentsize != sizeof(Elf64_Shdr))
        return false;
    if (head.e_type == ET_DYN)
        address -= base;
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++)
        for (uint64_t i = 0; i < head.e_shnum; i++) {
            Elf64_Shdr table, strings;
            if (file_get(f, head.e_shoff, i, sizeof table, &table) && table.sh_type == types[t] &&
                file_get(f, head.e_shoff, table.sh_link, sizeof strings, &strings) &&
                search_table(f, &table, &strings, address, to, size))
                return true;
        }
    return false;
}

static void look_up(int pid, uint64_t address, char *to, size_t size)
{
    Mapping m;
    File f;
    snprintf(to, size, "0x%" PRIx64, address);
    if (!find_mapping(pid, address, &m))
        return;
    const char *slash = strrchr(m.path, '/');
    snprintf(to, size, "%.40s+0x%" PRIx64, slash != NULL ? slash + 1 : m.path, address - m.base);
    if (file_read(m.path, &f))
        (void)search_file(&f, address, m.base, to, size);
    free(f.data);
}

void symbol_name(int pid, uint64_t address, char *to, size_t size)
{
    static struct {
        uint64_t address;
        char name[64];
    } kept[KEEP];
    static unsigned next;
    unsigned i = 0;
    while (i < KEEP && kept[i].address != address)
        i++;
    if (i == KEEP) {
        i = next++ % KEEP;
        look_up(pid, address, kept[i].name, sizeof kept[i].name);
        for (char *p = kept[i].name; *p != '\0'; p++)
            if ((unsigned char)*p < ' ' || *p == 0x7f)
                *p = '?';
        kept[i].address = address;
    }
    snprintf(to, size, "%s", kept[i].name);
}
